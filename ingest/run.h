/* One ingest: all ranks of a job over one shard, or over the whole catalog. */
#ifndef SM_INGEST_RUN_H
#define SM_INGEST_RUN_H

#include <stdbool.h>
#include <stdint.h>

#include "common/catalog.h"
#include "ingest/rank.h"

typedef struct sm_run_config {
    const char *catalog;
    sm_attempt_kind kind;
    const char *out;            /* CONVERT: the target's folder, made if only it is missing;
                                   CHECK_OUTPUT: it, or NULL: the recorded one */
    const char *suffix;         /* of outputs: ".ome.tiff" */
    uint32_t shard;             /* SM_NO_SHARD: everything */
    bool recheck;               /* HASH, CHECK_OUTPUT: also what was checked before */
    uint32_t workers;           /* at once per rank */
    uint32_t streams_per_brick; /* 0: no limit */
    uint64_t slide_timeout_ns, stall_ns, grace_ns, retry_for_ns;
    uint64_t memory_bytes;      /* of one worker */
    const char *target_options; /* convert options that decide the bytes */
    const char *worker_program; /* path of slidemill-worker */
    const char *const *worker_options;
    const char *command; /* command line, for the records */
    bool json_log, quiet, brick_blind;
} sm_run_config;

typedef struct sm_run_result {
    /* n: to do at the start; n_before: of the same shard, over already in journals that are not
     * merged yet; n_failed_before: failed or quarantined earlier, by the journals or the catalog */
    uint64_t n, n_before, n_failed_before;
    uint64_t n_done, n_failed, n_quarantined, n_left, n_retries;
    uint64_t bytes_in, bytes_out, pixels, elapsed_ns;
    bool deserted; /* this rank left while others may go on: the caller must abort the job */
} sm_run_result;

/** Collective. result is the same on every rank at the end. SM_OK also when slides failed;
 *  SM_ERR_BUSY: the shard is held, or its lock was lost; SM_ERR_INTERRUPTED: stopped by a signal,
 *  more is left; SM_ERR_IO: catalog or journal cannot be read or written. */
SM_NODISCARD sm_status sm_run(sm_ranks *ranks, const sm_run_config *config, sm_run_result *result,
                              sm_error *err);

#endif
