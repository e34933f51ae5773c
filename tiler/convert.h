/* One slide in, one verified pyramid out. */
#ifndef SM_TILER_CONVERT_H
#define SM_TILER_CONVERT_H

#include "common/digest.h"
#include "common/sink.h"
#include "common/spent.h"
#include "tiler/mill.h"
#include "tiler/plan.h"
#include "tiler/profile.h"

struct sm_convert_report;

/* For a caller that watches the conversion or has a say in it; zeroed: nobody. Called from the
 * thread that called sm_convert. */
typedef struct sm_convert_hooks {
    void *arg;
    /** Open the source, instead of sm_source_open. Readers that need a path still go by its own. */
    sm_status (*open)(void *arg, const char *in, sm_source **source, sm_error *err);
    /** How far it is: "open", "copy-in" (to the scratch folder), "hash", "read", "fsync" (the head
     *  is written), "verify" (fsync, then read back), "publish". Called whenever progress is, and
     *  at each change. */
    void (*at)(void *arg, const char *stage, uint64_t bytes, uint64_t px);
    /** All of the source is read and its digests are in the report; the output is written, not
     *  finished and not visible. Anything but SM_OK discards it. */
    sm_status (*before_publish)(void *arg, const struct sm_convert_report *report, sm_error *err);
    const sm_digest_kind *also_digest; /* of the source, taken in the same pass */
} sm_convert_hooks;

typedef struct sm_convert_options {
    sm_plan_options plan;
    sm_profile profile;
    bool share_blank;
    bool blank_bad_tiles;
    bool keep_associated;  /* label, macro, thumbnail go into the output */
    unsigned threads;      /* >= 1 */
    uint64_t memory_bytes; /* refuse at the start what cannot stay within; 0: no check */
    const char *scratch;   /* folder for a local copy of what cannot be streamed from a mount */
    sm_verify_mode verify;
    bool force;
    bool quiet; /* no progress */
    sm_convert_hooks hooks;
} sm_convert_options;

typedef struct sm_convert_times {
    uint64_t open_ns, stage_in_ns, mill_ns, fsync_ns, verify_ns, publish_ns, total_ns;
} sm_convert_times;

/* What happened; see report.h for how it is told. */
typedef struct sm_convert_report {
    sm_plan plan;
    char reader[32], vendor[64];
    double mpp_x, mpp_y, objective;
    size_t icc_len;
    uint32_t n_associated; /* associated images of the source */
    bool kept_associated;  /* they are in the output */
    uint64_t source_bytes, output_bytes;
    sm_digest source_sha256, output_sha256;
    sm_digest source_other; /* with hooks.also_digest */
    bool source_hashed;     /* source_sha256 is set */
    bool output_hashed;     /* false with --verify none */
    uint64_t level_tiles[SM_MAX_LEVELS], level_bytes[SM_MAX_LEVELS], level_shared[SM_MAX_LEVELS];
    uint64_t n_missing; /* tiles of level 0 that the source lacks */
    uint64_t n_bad;
    sm_bad_tile *bad;     /* min(n_bad, SM_MAX_BAD_TILES) */
    uint32_t n_fallbacks; /* source levels that turned out unfit for the planned path */
    bool streamed;        /* one pass over the source */
    bool staged;          /* through a copy in --scratch */
    const char *io_backend;
    uint64_t memory_bound_bytes;
    unsigned threads;
    sm_convert_times times;
    sm_spent spent; /* by all threads */
} sm_convert_report;

/**
 * Convert the slide at `in` into `out`; nothing is visible at `out` unless all of it is verified.
 * @return SM_OK; else err is one line that begins with the file's path. report is filled as far as
 *         things went; free it with sm_convert_report_clear in any case.
 */
SM_NODISCARD sm_status sm_convert(const char *in, const char *out,
                                  const sm_convert_options *options, sm_convert_report *report,
                                  sm_error *err);

void sm_convert_report_clear(sm_convert_report *report);

#endif
