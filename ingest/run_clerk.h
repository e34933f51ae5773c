/* A thread that does for a rank whatever may hang on the mount: rows of the catalog, lines of the
 * journal, the look at the lock. The rank's loop hands it tasks and takes them back done, so a hung
 * brick never stops the scheduler or the watchdog. Tasks are done in order. */
#ifndef SM_INGEST_RUN_CLERK_H
#define SM_INGEST_RUN_CLERK_H

#include "common/catalog.h"
#include "common/lock.h"
#include "ingest/job.h"
#include "ingest/journal.h"

typedef enum sm_clerk_work {
    SM_CLERK_PREPARE, /* read the slide's rows, make its job, begin it in the journal */
    SM_CLERK_RECORD,  /* the outcome into the journal, durable */
    SM_CLERK_LOOK,    /* is the lock still ours? */
    SM_CLERK_FINISH,  /* close the journal; the last task */
} sm_clerk_work;

typedef struct sm_clerk_task {
    struct sm_clerk_task *next; /* the clerk's while it has the task */
    sm_clerk_work work;
    uint32_t index;     /* of the slide in the run */
    int64_t slide;      /* its id */
    uint32_t tries;     /* earlier ones in this run */
    bool full_name;     /* of its output (ingest/out_path.h) */
    sm_job job;         /* PREPARE fills it */
    sm_outcome outcome; /* RECORD */
    bool judged;        /* RECORD: rank 0 has counted it already */
    sm_status st;       /* how it went */
    bool at_journal;    /* ... and it was the journal that could not be written */
    sm_error err;
} sm_clerk_task;

SM_NODISCARD sm_status sm_clerk_task_new(sm_clerk_work work, sm_clerk_task **task, sm_error *err);
void sm_clerk_task_free(sm_clerk_task **task);

typedef struct sm_clerk_config {
    const char *catalog_path;
    sm_catalog *catalog;         /* the clerk's own from now on, but not freed by it */
    const sm_journal_head *head; /* copied; the journal is made when the first line is due */
    sm_lock *lock;               /* NULL: this rank holds none */
    const char *mark;            /* as in sm_job; "": none */
    const char *out, *suffix; /* of CONVERT; out may replace the recorded folder of CHECK_OUTPUT */
    uint64_t retry_for_ns;    /* how long a journal that cannot be written is tried again */
} sm_clerk_config;

typedef struct sm_clerk sm_clerk;

SM_NODISCARD sm_status sm_clerk_start(const sm_clerk_config *config, sm_clerk **clerk,
                                      sm_error *err);
/** The clerk owns the task until sm_clerk_take gives it back. */
void sm_clerk_put(sm_clerk *clerk, sm_clerk_task *task);
/** A task that is done, in the order they were put; NULL: none yet. Never blocks. */
sm_clerk_task *sm_clerk_take(sm_clerk *clerk);
/** To poll for reading: a task is done. */
int sm_clerk_fd(const sm_clerk *clerk);
/** Tasks put and not yet taken. */
uint32_t sm_clerk_pending(const sm_clerk *clerk);
/** A journal that cannot be written is given up at this time (sm_now_ns) at the latest. */
void sm_clerk_hurry(sm_clerk *clerk, uint64_t until_ns);
/** Waits for the task in work; others are thrown away. NULL inside is accepted. */
void sm_clerk_stop(sm_clerk **clerk);

#endif
