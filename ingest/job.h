/* What a worker process is asked to do with one slide, and what it answers. Both cross a pipe, the
 * answer also goes into the journal. */
#ifndef SM_INGEST_JOB_H
#define SM_INGEST_JOB_H

#include <stdbool.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/catalog.h"
#include "common/digest.h"
#include "common/error.h"
#include "ingest/out_mark.h"

typedef struct sm_job_part {
    char *path;          /* relative to root */
    uint64_t size_bytes; /* SM_NO_SIZE: unknown */
    int64_t mtime_ns;    /* 0: unknown */
    bool has_digest;
    sm_digest digest;
} sm_job_part;

/* A slide to convert, to hash, or an output to check. All paths are malloc'ed. */
typedef struct sm_job {
    sm_attempt_kind kind;
    int64_t slide;
    char *root;       /* CONVERT, HASH: of the sources; CHECK_OUTPUT: the target's folder */
    sm_job_part main; /* the slide's main file, or the output */
    sm_job_part *parts;
    size_t n_parts;
    char *out_root, *out_path;  /* CONVERT: folder, and path relative to it */
    char mark[SM_OUT_MARK_CAP]; /* "", or out_root (CHECK_OUTPUT: root) is not mounted without it */
    bool replace;               /* the output there is ours and recorded: it may be replaced */
} sm_job;

/** One line of JSON without newline, appended. Paths percent-encoded (common/path.h), 64-bit
 *  numbers as strings where a double would not hold them. */
SM_NODISCARD sm_status sm_job_to_json(const sm_job *job, sm_buf *out, sm_error *err);
SM_NODISCARD sm_status sm_job_from_json(const char *text, sm_job *job, sm_error *err);
void sm_job_clear(sm_job *job);

/* Error classes, as the catalog stores them. */
#define SM_CLASS_IO "io"             /* storage: retried */
#define SM_CLASS_MISSING "missing"   /* not there (perhaps its brick is down): retried */
#define SM_CLASS_FORMAT "format"     /* not a slide we read */
#define SM_CLASS_LIMIT "limit"       /* beyond a cap, or RLIMIT */
#define SM_CLASS_CORRUPT "corrupt"   /* damaged inside: does not decode */
#define SM_CLASS_DIGEST "digest"     /* not the bytes of its digest: quarantined */
#define SM_CLASS_CHANGED "changed"   /* size or mtime are not the catalog's; scan again */
#define SM_CLASS_EXISTS "exists"     /* a file of somebody else stands at the output's path */
#define SM_CLASS_ARG "arg"           /* options and slide do not go together; not permitted */
#define SM_CLASS_CRASH "crash"       /* the worker died of a signal */
#define SM_CLASS_MEMORY "memory"     /* the worker ran out of memory */
#define SM_CLASS_TIMEOUT "timeout"   /* --slide-timeout */
#define SM_CLASS_INTERNAL "internal" /* our bug */
#define SM_CLASS_OUTPUT "output"     /* a published output is damaged or missing */

typedef struct sm_outcome_part {
    char *path;
    uint64_t size_bytes;
    sm_digest sha256;
} sm_outcome_part;

/* The answer. Texts are arrays so that it can be copied; parts are malloc'ed. */
typedef struct sm_outcome {
    sm_attempt_kind kind;
    sm_outcome_kind outcome;
    int64_t slide;
    char error_class[16];
    char error[512];
    char brick[256]; /* as the worker's own open of the slide says; "" unknown */
    int64_t began_ns, ended_ns;
    uint64_t phase_ns[SM_PHASES];
    sm_spent spent; /* delivered_*: how fast the source came, also where nothing else was done */
    uint64_t bytes_in, bytes_out, pixels;
    bool has_source;
    uint64_t source_bytes;
    uint32_t n_source_digests;
    sm_digest source_digests[2];
    char vendor[64];
    uint32_t w_px, h_px;
    double mpp, objective;
    bool has_output;
    char *out_path; /* relative; malloc'ed */
    char out_brick[256];
    uint64_t out_bytes;
    sm_digest out_sha256;
    sm_outcome_part *parts;
    size_t n_parts;
    char how[64]; /* levels: "copied 1, decoded 3"; for people */
    uint64_t peak_rss_bytes;
} sm_outcome;

SM_NODISCARD sm_status sm_outcome_to_json(const sm_outcome *outcome, sm_buf *out, sm_error *err);
/** Bytes are not trusted: they come from a process that hostile slides have been through, or from a
 *  journal of elsewhere. Ranges and digests are checked; SM_ERR_FORMAT. */
SM_NODISCARD sm_status sm_outcome_from_json(const char *text, size_t len, sm_outcome *outcome,
                                            sm_error *err);
void sm_outcome_clear(sm_outcome *outcome);

/** Class and outcome kind of a failed call of the worker: IO -> retry(io), IO with ENOENT ->
 *  retry(missing), CORRUPT -> failed(corrupt), ... */
void sm_outcome_set_error(sm_outcome *outcome, const sm_error *err);

#endif
