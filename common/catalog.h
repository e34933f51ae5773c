/* The catalog: which slides, what they must hash to, what became of each (docs/catalog.md is the
 * contract). The only module that knows SQLite. A catalog is read as an immutable snapshot or
 * changed as a private copy that a commit publishes (common/generation.h). Strings in rows that a
 * cursor or a callback hands out are valid until its next step. One thread at a time. */
#ifndef SM_COMMON_CATALOG_H
#define SM_COMMON_CATALOG_H

#include <stdbool.h>
#include <stdint.h>

#include "common/digest.h"
#include "common/error.h"
#include "common/generation.h"
#include "common/spent.h"

#define SM_CATALOG_VERSION 2 /* of the schema: PRAGMA user_version */
#define SM_UUID_CAP 33       /* 32 hexadecimal digits and NUL */

typedef struct sm_catalog sm_catalog;

typedef enum sm_slide_state {
    SM_SLIDE_NEW,         /* known, in no shard yet */
    SM_SLIDE_PLANNED,     /* in a shard */
    SM_SLIDE_LEASED,      /* a journal says it was begun and not how it ended */
    SM_SLIDE_DONE,        /* its output is verified and recorded */
    SM_SLIDE_FAILED,      /* see error_class */
    SM_SLIDE_QUARANTINED, /* its bytes are not those of its digest */
    SM_SLIDE_STATES
} sm_slide_state;

/** "new", "planned", "leased", "done", "failed", "quarantined". */
const char *sm_slide_state_name(sm_slide_state state);
/** SM_SLIDE_STATES if there is none of that name. */
sm_slide_state sm_slide_state_parse(const char *name);

/* Where an expected digest is from. */
typedef enum sm_digest_origin {
    SM_DIGEST_UNKNOWN,
    SM_DIGEST_GIVEN,   /* a manifest said so */
    SM_DIGEST_LEARNED, /* taken when the slide was first read */
} sm_digest_origin;

#define SM_NO_SHARD UINT32_MAX
#define SM_NO_SIZE UINT64_MAX

/* One slide. Unknown texts are NULL when read; NULL leaves the column as it is when written. */
typedef struct sm_slide_row {
    int64_t id; /* stable for the life of the catalog */
    const char *path;
    uint64_t size_bytes; /* of the main file; SM_NO_SIZE: unknown */
    int64_t mtime_ns;    /* since the epoch; 0: unknown */
    sm_digest_origin digest_origin;
    sm_digest digest;        /* when the origin is known; the strongest one that was given */
    bool has_sha256;         /* a SHA-256 is known, also when `digest` is of another kind */
    sm_digest sha256;        /* given or learned; only read, never written by sm_catalog_put */
    const char *external_id; /* a manifest's id: text, leading zeros count */
    const char *vendor, *brick;
    uint32_t w_px, h_px; /* 0: unknown */
    double mpp, objective;
    sm_slide_state state;
    bool present;                    /* it was seen by the last scan that could see its brick */
    const char *error_class, *error; /* when failed or quarantined */
    uint64_t since_generation;       /* results of runs that read an older one do not count */
    uint32_t attempts;               /* begun so far */
    uint32_t shard;                  /* SM_NO_SHARD: none */
    uint32_t n_parts;                /* files besides the main one (MRXS, VMS) */
    uint64_t parts_bytes;
    int64_t checked_ns; /* when its bytes were last hashed and agreed; 0: never */
} sm_slide_row;

/* A further file of a slide. */
typedef struct sm_part_row {
    int64_t slide;
    const char *path;
    uint64_t size_bytes;
    int64_t mtime_ns;
    sm_digest_origin digest_origin;
    sm_digest digest;
} sm_part_row;

typedef enum sm_output_state {
    SM_OUTPUT_GOOD,
    SM_OUTPUT_DAMAGED,
    SM_OUTPUT_MISSING
} sm_output_state;

/* A published pyramid. */
typedef struct sm_output_row {
    int64_t slide;
    const char *path; /* relative to the target's folder */
    uint64_t size_bytes;
    sm_digest sha256;        /* of the file */
    sm_digest source_sha256; /* of the slide's main file as it was read */
    sm_output_state state;
    int64_t checked_ns;
} sm_output_row;

/* What all outputs of a catalog have in common: recorded by the first ingest, the same ever after.
 */
typedef struct sm_target {
    const char *dir;     /* absolute */
    const char *options; /* those of convert that decide the bytes, as text */
} sm_target;

/* ---- open, change, publish ---- */

/** A new catalog of the tree `root` (absolute path). SM_ERR_ARG if `path` exists. Change it, then
 *  commit; nothing is visible before. */
SM_NODISCARD sm_status sm_catalog_create(const char *path, const char *root,
                                         const sm_generation_config *config, sm_catalog **catalog,
                                         sm_error *err);

/** Record them, so that a repeated create can tell its own catalog from another's. */
SM_NODISCARD sm_status sm_catalog_set_create_options(sm_catalog *catalog, const char *options,
                                                     sm_error *err);

/** Read the current generation, without any lock. SM_ERR_ARG: missing or not a catalog, or of a
 *  newer slidemill; SM_ERR_CORRUPT: its pages are damaged ("slidemill catalog fsck"). ESTALE is
 *  retried. A foreign database is never trusted: no triggers, views or functions of its schema run.
 */
SM_NODISCARD sm_status sm_catalog_open(const char *path, sm_catalog **catalog, sm_error *err);

/** Read generation `number` exactly: the current one or a kept one. SM_ERR_BUSY if it is gone. */
SM_NODISCARD sm_status sm_catalog_open_generation(const char *path, uint64_t number,
                                                  sm_catalog **catalog, sm_error *err);

/** Change it: lock, copy, migrate an older schema, begin one transaction on the copy. */
SM_NODISCARD sm_status sm_catalog_change(const char *path, const sm_generation_config *config,
                                         sm_catalog **catalog, sm_error *err);

/** Publish the changes as the next generation; no cursor may be open. Only after success *catalog
 * is freed. */
SM_NODISCARD sm_status sm_catalog_commit(sm_catalog **catalog, sm_error *err);

/** Close; changes are thrown away. NULL inside is accepted. */
void sm_catalog_close(sm_catalog **catalog);

uint64_t sm_catalog_generation(const sm_catalog *catalog); /* of a change: the one it will be */
const char *sm_catalog_path(const sm_catalog *catalog);
const char *sm_catalog_root(const sm_catalog *catalog);
/** Random, 32 hexadecimal digits, made by create; journals name it. */
const char *sm_catalog_uuid(const sm_catalog *catalog);
/** Counts the plans made so far; journals name the plan their shard belongs to. 0: none yet. */
uint32_t sm_catalog_plan(const sm_catalog *catalog);
uint32_t sm_catalog_n_shards(const sm_catalog *catalog);
/** When it was made, ns since 1970, and with which options of `create` (as set; NULL: not known).
 */
int64_t sm_catalog_created_ns(const sm_catalog *catalog);
const char *sm_catalog_create_options(const sm_catalog *catalog);
/** False until the first ingest was merged. Strings are the catalog's. */
bool sm_catalog_target(const sm_catalog *catalog, sm_target *target);

/* ---- slides ---- */

#define SM_FIELDS_MAX 64

/* Which slides: all fields are "and"; a zeroed filter with by_state 0 takes every slide. */
typedef struct sm_slide_filter {
    unsigned by_state;     /* bits 1u << sm_slide_state; 0: any */
    const uint32_t *shard; /* NULL: any */
    const char *error_class, *brick;
    const char *glob;    /* of the path, as in the shell (SQLite GLOB); NULL: any */
    bool only_missing;   /* present is false */
    bool only_unchecked; /* checked_ns is 0 */
    uint64_t limit;      /* 0: none */
    bool largest_first;  /* else by id */
} sm_slide_filter;

typedef struct sm_slide_cursor sm_slide_cursor;

SM_NODISCARD sm_status sm_catalog_slides(sm_catalog *catalog, const sm_slide_filter *filter,
                                         sm_slide_cursor **cursor, sm_error *err);
/** *more false at the end. Rows are checked (sm_path_check, ranges): hostile ones are
 * SM_ERR_CORRUPT. */
SM_NODISCARD sm_status sm_slide_cursor_next(sm_slide_cursor *cursor, sm_slide_row *row, bool *more,
                                            sm_error *err);
void sm_slide_cursor_close(sm_slide_cursor **cursor);

SM_NODISCARD sm_status sm_catalog_count(sm_catalog *catalog, const sm_slide_filter *filter,
                                        uint64_t *n, uint64_t *bytes, sm_error *err);

/** *found false if no slide has that path. The row's strings live until the next find. */
SM_NODISCARD sm_status sm_catalog_find(sm_catalog *catalog, const char *path, sm_slide_row *row,
                                       bool *found, sm_error *err);

/** As sm_catalog_find, by id. */
SM_NODISCARD sm_status sm_catalog_get(sm_catalog *catalog, int64_t id, sm_slide_row *row,
                                      bool *found, sm_error *err);

/** Add a slide (state new; row->id is ignored and returned in *id) or, if the path is known, update
 *  size, mtime, brick, vendor, external id, given digest as far as row knows them. *added says
 * which. A given digest that contradicts another given one of the same kind: SM_ERR_CORRUPT,
 * nothing is changed. A learned digest is never replaced by the file's having changed: see
 * sm_catalog_changed. */
SM_NODISCARD sm_status sm_catalog_put(sm_catalog *catalog, const sm_slide_row *row, int64_t *id,
                                      bool *added, sm_error *err);

/** The file differs from what the catalog has (size or mtime, seen by a scan): takes the new size
 *  and mtime, forgets a learned digest (a given one stays), state becomes new again; outputs stay
 *  recorded until they are replaced. */
SM_NODISCARD sm_status sm_catalog_changed(sm_catalog *catalog, int64_t id, uint64_t size_bytes,
                                          int64_t mtime_ns, sm_error *err);
SM_NODISCARD sm_status sm_catalog_set_present(sm_catalog *catalog, int64_t id, bool present,
                                              sm_error *err);
/** Replace the list of parts of a slide; digests of parts that did not change are kept. */
SM_NODISCARD sm_status sm_catalog_set_parts(sm_catalog *catalog, int64_t id,
                                            const sm_part_row *parts, size_t n, sm_error *err);
/** Back to new or planned, the error forgotten, for every slide of the filter (failed, leased or
 *  quarantined ones; done ones only when the filter names that state). Results of runs that read an
 *  older generation do not count for it any more (a leased one's do). *n: how many. */
SM_NODISCARD sm_status sm_catalog_retry(sm_catalog *catalog, const sm_slide_filter *filter,
                                        uint64_t *n, sm_error *err);

/** Columns of path parts (names [a-z][a-z0-9_]{0,31}, at most SM_FIELDS_MAX, not "slide"); called
 *  by create or scan. Values are text. Stored in table `field`, one TEXT column a name. Another
 *  pattern than before throws the old values away. NULL pattern: none. */
SM_NODISCARD sm_status sm_catalog_set_pattern(sm_catalog *catalog, const char *pattern,
                                              const char *const *names, size_t n, sm_error *err);
/** NULL: none. */
const char *sm_catalog_pattern(const sm_catalog *catalog);
SM_NODISCARD sm_status sm_catalog_set_fields(sm_catalog *catalog, int64_t id,
                                             const char *const *values, size_t n, sm_error *err);
/** Names and values of a slide's fields; *n 0 if it has none. Valid until the next call. */
SM_NODISCARD sm_status sm_catalog_fields(sm_catalog *catalog, int64_t id, const char *const **names,
                                         const char *const **values, size_t *n, sm_error *err);

typedef sm_status (*sm_part_visit)(void *arg, const sm_part_row *part, sm_error *err);
SM_NODISCARD sm_status sm_catalog_parts(sm_catalog *catalog, int64_t slide, sm_part_visit visit,
                                        void *arg, sm_error *err);

typedef sm_status (*sm_output_visit)(void *arg, const sm_output_row *output, sm_error *err);
/** Outputs of one slide, or of all when slide is 0, by id. */
SM_NODISCARD sm_status sm_catalog_outputs(sm_catalog *catalog, int64_t slide, sm_output_visit visit,
                                          void *arg, sm_error *err);

/* ---- plan ---- */

/** Begin plan number plan+1 of n shards: every shard number is cleared, planned slides are new. */
SM_NODISCARD sm_status sm_catalog_begin_plan(sm_catalog *catalog, uint32_t n_shards, sm_error *err);
/** Put a slide into a shard of the new plan; new becomes planned, other states stay. That there is
 *  no such slide may be told only by a later call. */
SM_NODISCARD sm_status sm_catalog_assign(sm_catalog *catalog, int64_t id, uint32_t shard,
                                         sm_error *err);

/* One shard of the plan, as of the last commit. */
typedef struct sm_shard_row {
    uint32_t shard;
    uint64_t n, bytes, n_open, n_done,
        n_failed; /* open: planned, leased; failed: quarantined too */
} sm_shard_row;
typedef sm_status (*sm_shard_visit)(void *arg, const sm_shard_row *shard, sm_error *err);
/** Every shard that has a slide, by number. */
SM_NODISCARD sm_status sm_catalog_shards(sm_catalog *catalog, sm_shard_visit visit, void *arg,
                                         sm_error *err);

/* ---- merge: what journals say (ingest/merge.c) ---- */

SM_NODISCARD sm_status sm_catalog_set_target(sm_catalog *catalog, const sm_target *target,
                                             sm_error *err);

/* A run of one rank. Adding it twice changes nothing. */
typedef struct sm_run_row {
    const char *run; /* SM_UUID hex of the whole run */
    uint32_t rank;
    const char *host, *command, *version;
    uint32_t plan, shard;       /* SM_NO_SHARD: the whole catalog */
    int64_t began_ns, ended_ns; /* 0: not (yet) */
} sm_run_row;
SM_NODISCARD sm_status sm_catalog_put_run(sm_catalog *catalog, const sm_run_row *run,
                                          sm_error *err);

/* What an attempt did one after the other, so that these add up to its time on the wall (but for an
 * fsync beside reading back). What threads did meanwhile: sm_stage, common/spent.h. */
typedef enum sm_phase {
    SM_PHASE_OPEN,
    SM_PHASE_COPY_IN,
    SM_PHASE_HASH, /* apart from the mill: hash-only jobs, parts, what cannot be streamed */
    SM_PHASE_MILL, /* read, hash, cut, decode, encode, write, all at once */
    SM_PHASE_FSYNC,
    SM_PHASE_VERIFY,
    SM_PHASE_PUBLISH,
    SM_PHASE_OTHER,
    SM_PHASES
} sm_phase;
/** "open", "copy-in"; "unknown". Static. */
const char *sm_phase_name(sm_phase phase);

typedef enum sm_attempt_kind {
    SM_ATTEMPT_CONVERT,
    SM_ATTEMPT_HASH,
    SM_ATTEMPT_CHECK_OUTPUT
} sm_attempt_kind;
/** "convert", "hash", "check-output". */
const char *sm_attempt_kind_name(sm_attempt_kind kind);

typedef enum sm_outcome_kind {
    SM_OUTCOME_OK,          /* converted and verified, or hashed and agreed */
    SM_OUTCOME_FAILED,      /* for good: error_class says why */
    SM_OUTCOME_RETRY,       /* this try failed (storage), another follows or may follow */
    SM_OUTCOME_QUARANTINED, /* bytes disagree with their digest */
    SM_OUTCOME_ABANDONED,   /* interrupted; nothing is wrong with the slide */
    SM_OUTCOME_LOST,        /* its rank died: merge says so */
} sm_outcome_kind;
/** "ok", "failed", "retry", "quarantined", "abandoned", "lost". */
const char *sm_outcome_kind_name(sm_outcome_kind kind);

/* One attempt's end; also what a worker reports. Texts are NULL when unknown. */
typedef struct sm_attempt_row {
    const char *event; /* id: "RUN.RANK.SEQ", unique for ever; SEQ is decimal */
    int64_t slide;
    sm_attempt_kind kind;
    sm_outcome_kind outcome;
    const char *error_class, *error; /* unless OK */
    const char *run;
    uint32_t rank;
    uint64_t generation; /* of the catalog its run read (journal head); 0: unknown */
    const char *brick;
    int64_t began_ns, ended_ns; /* wall clock */
    uint64_t phase_ns[SM_PHASES];
    uint64_t stage_ns[SM_STAGES]; /* of all threads; all 0 when the journal is an old one */
    uint64_t cpu_ns;
    uint64_t measured_bytes, measured_ns; /* how fast the source came; 0: never waited for */
    const char *out_brick;
    uint64_t bytes_in, bytes_out, pixels;
    /* what was learned: */
    bool has_source;
    uint64_t source_bytes;
    sm_digest source_digests[2]; /* sha256, and the expected kind if it is another */
    uint32_t n_source_digests;
    const char *vendor;
    uint32_t w_px, h_px;
    double mpp, objective;
    bool has_output;
    sm_output_row output; /* slide is ignored */
} sm_attempt_row;

/**
 * Fold one event in. An event id that is known changes nothing (*known true).
 * convert ok: slide done, digest learned, output recorded; failed/quarantined: state and error;
 * retry/abandoned/lost: planned again (new if it is in no shard) unless it is done, failed or
 * quarantined; hash ok: digest learned or checked_ns set; check-output not ok: output damaged or
 * missing (output.state when has_output, else damaged), slide failed(output).
 * An ok whose digest is not the slide's: quarantined(digest), its output is not recorded.
 * The state is that of the latest ok/failed/quarantined event by ended_ns, in whatever order they
 * come. An event whose run read a generation from before the slide was changed or retried, or an
 * ok of a file of another size than the catalog's (when no list vouches for it), changes only
 * `attempt`. A slide that is unknown, an event that makes no sense: SM_ERR_CORRUPT, nothing is
 * changed, the caller may go on.
 */
SM_NODISCARD sm_status sm_catalog_put_attempt(sm_catalog *catalog, const sm_attempt_row *attempt,
                                              bool *known, sm_error *err);
/** Digest of a part as hashed by an attempt; the first is learned, one that differs is
 * SM_ERR_CORRUPT. */
SM_NODISCARD sm_status sm_catalog_learn_part(sm_catalog *catalog, int64_t slide, const char *path,
                                             const sm_digest *sha256, sm_error *err);
/** A start without an end: the slide is leased (live journal) if it is new or planned. */
SM_NODISCARD sm_status sm_catalog_lease(sm_catalog *catalog, int64_t slide, sm_error *err);

/* ---- status ---- */

typedef struct sm_status_state {
    uint64_t n, bytes;
} sm_status_state;

typedef struct sm_status_class {
    char name[32];
    uint64_t n;
    char example_path[256], example[256]; /* one slide of the class, cleaned for display */
} sm_status_class;

/* How fast bytes came from a brick and went to it, over the slides of which that is known. */
typedef struct sm_brick_flow {
    uint64_t reads, read_bytes, read_ns;    /* while they were waited for */
    uint64_t writes, write_bytes, write_ns; /* with the work on them: a lower bound */
} sm_brick_flow;

typedef struct sm_status_brick {
    char name[256]; /* slides of an unknown brick are in no row */
    uint64_t n, bytes, n_done, n_failed, n_missing;
    uint64_t read_bytes, read_ns; /* all of what attempts read, with the work on it */
    sm_brick_flow flow;
    double read_rate;   /* bytes a second of one stream; 0: unknown */
    bool rate_measured; /* else a lower bound */
    double of_median;   /* 1 unless it reads slowly, common/pace.h */
    uint64_t stage_ns[SM_STAGES];
} sm_status_brick;

/* What the attempts of one kind took, as far as their journals tell. */
typedef struct sm_status_work {
    uint64_t attempts, bytes_in, bytes_out, cpu_ns;
    uint64_t stage_ns[SM_STAGES];
} sm_status_work;

typedef struct sm_catalog_summary {
    uint64_t generation, n, bytes, n_missing, n_unchecked;
    sm_status_state states[SM_SLIDE_STATES];
    uint64_t n_outputs, output_bytes, n_attempts, n_runs;
    uint32_t plan, n_shards;
    sm_status_class *classes;
    size_t n_classes;
    sm_status_brick *bricks;
    size_t n_bricks;
    sm_status_work work[SM_ATTEMPT_CHECK_OUTPUT + 1];
    int64_t first_began_ns, last_ended_ns; /* of attempts */
} sm_catalog_summary;

SM_NODISCARD sm_status sm_catalog_summarize(sm_catalog *catalog, sm_catalog_summary *summary,
                                            sm_error *err);
void sm_catalog_summary_clear(sm_catalog_summary *summary);

/** Structure (integrity_check, foreign keys, schema as expected) and meaning (paths clean, states
 *  and digests well formed, done slides have an output, shards below n_shards). Each fault is one
 *  call of visit; SM_OK also when there are some. */
typedef sm_status (*sm_fault_visit)(void *arg, const char *fault, sm_error *err);
SM_NODISCARD sm_status sm_catalog_check(sm_catalog *catalog, sm_fault_visit visit, void *arg,
                                        sm_error *err);

/** "SQLite 3.40.1". Static. */
const char *sm_catalog_library(void);

#endif
