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
    uint64_t memory_bytes; /* its --memory, from which its RLIMIT_AS follows; 0: its own view */
    uint64_t timeout_ns;   /* of the whole slide; 0: none */
    uint64_t stall_ns;     /* no progress for so long: say so; 0: never */
} sm_worker_config;

typedef enum sm_worker_state {
    SM_WORKER_RUNNING,
    SM_WORKER_READ_DONE, /* its source is read to the end (told once, before ENDED) */
    SM_WORKER_STALLED,   /* still running, no progress for stall_ns (told once per stall) */
    SM_WORKER_STUCK,     /* killed, but in an uninterruptible read: will be gone some day */
    SM_WORKER_ENDED,     /* outcome is filled */
} sm_worker_state;

/** posix_spawn: new process group, the job on stdin (a file in memory), the answer on a pipe
 *  (non-blocking here), stderr passed through; dies with us (PR_SET_PDEATHSIG in the worker, which
 *  goes by the thread: start workers from one that lives as long as they). The strings of config
 *  are borrowed, job is copied. SM_ERR_ARG: the program is not there. */
SM_NODISCARD sm_status sm_worker_start(const sm_worker_config *config, const sm_job *job,
                                       sm_worker **worker, sm_error *err);
/** fd to poll for reading; -1 when the pipe is closed (poll() passes over it) and only the end is
 *  waited for: call sm_worker_poll again within a moment. */
int sm_worker_fd(const sm_worker *worker);
/**
 * Take what it said so far, look whether it ended, watch the clock. Never blocks.
 * ENDED: it answered and exited, or died:
 *  - failed(crash) of a signal; failed(memory) of SIGKILL, or of abort() beyond memory_bytes;
 *    a SIGKILL when it used less than half of memory_bytes is somebody's, not the kernel's:
 *    retry(crash)
 *  - failed(timeout), killed by us; failed(internal), exited without a proper answer
 *  - abandoned: stopped or killed by the caller. A worker that got its SIGTERM from elsewhere
 * answers "abandoned" as well. Before ENDED, when a conversion ended without an answer, a second
 * process removes the temporary that may be left beside the output (RUNNING meanwhile, at most 20
 * s). STUCK, again and again: killed more than 10 s ago and still there, in a read that cannot be
 * interrupted: the caller may leave it aside and poll it again later; its slide must not be given
 * to another worker before it ENDED.
 */
sm_worker_state sm_worker_poll(sm_worker *worker, uint64_t now_ns, sm_outcome *outcome);
/** What it is at, for the watchdog's line: stage ("read", "fsync", ...), bytes of its file so far,
 *  ns since it last moved. */
void sm_worker_where(const sm_worker *worker, uint64_t now_ns, const char **stage, uint64_t *bytes,
                     uint64_t *px, uint64_t *quiet_ns);
const sm_job *sm_worker_job(const sm_worker *worker);
/** 0 once it is reaped. */
pid_t sm_worker_pid(const sm_worker *worker);
/** Ask it to end (SIGTERM); it discards its temporary and answers "abandoned". */
void sm_worker_stop(sm_worker *worker);
/** SIGKILL its process group. */
void sm_worker_kill(sm_worker *worker);
/** Reaps if it ended; a running one is killed first and waited for, but not longer than 2 s. NULL
 *  inside is accepted. */
void sm_worker_free(sm_worker **worker);

#endif
