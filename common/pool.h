/* A fixed set of worker threads and a bounded queue of jobs. */
#ifndef SM_COMMON_POOL_H
#define SM_COMMON_POOL_H

#include <stddef.h>

#include "common/error.h"

typedef struct sm_pool sm_pool;

/* A job: worker is 0..n_threads-1, so that a caller can keep per-thread state in an array. */
typedef void (*sm_pool_job)(void *arg, unsigned worker);

/** n_threads 1..1024; at most queue_cap jobs wait, sm_pool_put blocks beyond that. */
SM_NODISCARD sm_status sm_pool_new(unsigned n_threads, size_t queue_cap, sm_pool **pool,
                                   sm_error *err);
/** Queue job(arg); jobs start in the order they were put. Blocks while the queue is full. */
void sm_pool_put(sm_pool *pool, sm_pool_job job, void *arg);
/** Block until every job put so far has ended. */
void sm_pool_drain(sm_pool *pool);
/** Drains, stops and joins the threads. NULL inside is accepted. */
void sm_pool_free(sm_pool **pool);

#endif
