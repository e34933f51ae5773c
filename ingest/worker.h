/* The rank's side of a worker process: one slide each, spawned, watched, killed. Nothing here
 * blocks on the mount. The worker's side is cmd_worker.c (program slidemill-worker). */
#ifndef SM_INGEST_WORKER_H
#define SM_INGEST_WORKER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/error.h"
#include "ingest/job.h"

typedef struct sm_worker sm_worker;

typedef struct sm_worker_config {
    const char *program;        /* path of slidemill-worker */
    const char *const *options; /* convert options for its command line, NULL-terminated */
    uint64_t memory_bytes;      /* RLIMIT_AS headroom is derived from it; 0: none */
    uint64_t timeout_ns;        /* of the whole slide; 0: none */
    uint64_t stall_ns;          /* no progress for so long: say so; 0: never */
} sm_worker_config;

typedef enum sm_worker_state {
    SM_WORKER_RUNNING,
    SM_WORKER_READ_DONE, /* still running, its source is read to the end (told once) */
    SM_WORKER_STALLED,   /* still running, no progress for stall_ns (told once per stall) */
    SM_WORKER_STUCK,     /* killed, but in an uninterruptible read: will be gone some day */
    SM_WORKER_ENDED,     /* outcome is filled */
} sm_worker_state;

/** posix_spawn: new process group, stdin and the answer on pipes (non-blocking here), stderr passed
 *  through; dies with us (PR_SET_PDEATHSIG in the worker). config is borrowed. */
SM_NODISCARD sm_status sm_worker_start(const sm_worker_config *config, const sm_job *job,
                                       sm_worker **worker, sm_error *err);
/** fd to poll for reading. */
int sm_worker_fd(const sm_worker *worker);
/**
 * Take what it said so far, look whether it ended, watch the clock. Never blocks.
 * ENDED: it answered and exited, or died: crash (signal), memory (SIGKILL by the kernel or RLIMIT),
 * timeout (killed by us), internal (exited without an answer).
 * STUCK: killed more than 10 s ago and still there (/proc/PID/stat says D): the caller may leave it
 * aside and poll it again later; its slide must not be given to another worker before it ENDED.
 */
sm_worker_state sm_worker_poll(sm_worker *worker, uint64_t now_ns, sm_outcome *outcome);
/** What it is at, for the watchdog's line: stage ("read", "fsync", ...), bytes of its file so far,
 *  ns since it last moved. */
void sm_worker_where(const sm_worker *worker, uint64_t now_ns, const char **stage, uint64_t *bytes,
                     uint64_t *px, uint64_t *quiet_ns);
const sm_job *sm_worker_job(const sm_worker *worker);
pid_t sm_worker_pid(const sm_worker *worker);
/** Ask it to end (SIGTERM); it discards its temporary and answers "abandoned". */
void sm_worker_stop(sm_worker *worker);
/** SIGKILL its process group. */
void sm_worker_kill(sm_worker *worker);
/** Reaps if it ended; a running one is killed first. NULL inside is accepted. */
void sm_worker_free(sm_worker **worker);

#endif
