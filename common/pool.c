/* Worker threads that take jobs from one bounded queue in the order they were put.
 * Owns the threads; a job's argument belongs to the caller. */
#include "common/pool.h"

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>

#include "common/buf.h"
#include "common/trace.h"

typedef struct queued_job {
    sm_pool_job run;
    void *arg;
} queued_job;

typedef struct worker {
    sm_pool *pool;
    pthread_t thread;
    unsigned index;
} worker;

struct sm_pool {
    pthread_mutex_t lock;
    pthread_cond_t has_job, has_room, idle;
    queued_job *queue; /* a circle of cap jobs: n of them from first on */
    size_t cap, first, n;
    size_t running;
    bool stopping;
    unsigned n_workers; /* threads that were started */
    worker *workers;
};

/* Under the lock. */
static void wait_for_job(sm_pool *pool)
{
    if (pool->n > 0 || pool->stopping)
        return;
    const sm_span begin = sm_trace_begin();
    while (pool->n == 0 && !pool->stopping)
        pthread_cond_wait(&pool->has_job, &pool->lock);
    sm_trace_end(SM_TRACE_IDLE, begin);
}

static void *worker_main(void *arg)
{
    const worker *self = arg;
    sm_pool *pool = self->pool;
    sm_trace_name_thread("worker", (int)self->index);
    pthread_mutex_lock(&pool->lock);
    for (;;) {
        wait_for_job(pool);
        if (pool->n == 0)
            break;
        const queued_job job = pool->queue[pool->first];
        pool->first = (pool->first + 1) % pool->cap;
        pool->n--;
        pool->running++;
        pthread_cond_signal(&pool->has_room);
        pthread_mutex_unlock(&pool->lock);
        job.run(job.arg, self->index);
        pthread_mutex_lock(&pool->lock);
        pool->running--;
        if (pool->n == 0 && pool->running == 0)
            pthread_cond_broadcast(&pool->idle);
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

/* Signals stay with the threads of the caller: a worker's lock must not be held by a handler. */
static sm_status start_workers(sm_pool *pool, unsigned n_threads, sm_error *err)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = 0;
    for (unsigned i = 0; i < n_threads && rc == 0; i++) {
        pool->workers[i] = (worker){.pool = pool, .index = i};
        rc = pthread_create(&pool->workers[i].thread, NULL, worker_main, &pool->workers[i]);
        if (rc == 0)
            pool->n_workers++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc != 0)
        return sm_fail_errno(err, SM_ERR_NOMEM, rc, "cannot start thread %u of %u",
                             pool->n_workers + 1, n_threads);
    return SM_OK;
}

sm_status sm_pool_new(unsigned n_threads, size_t queue_cap, sm_pool **pool, sm_error *err)
{
    *pool = NULL;
    if (n_threads < 1 || n_threads > 1024)
        return sm_fail(err, SM_ERR_ARG, "%u threads: must be 1..1024", n_threads);
    if (queue_cap < 1)
        return sm_fail(err, SM_ERR_ARG, "a queue of 0 jobs");
    sm_pool *p = sm_calloc(1, sizeof(*p));
    if (p == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "out of memory for a thread pool");
    pthread_mutex_init(&p->lock, NULL); /* with default attributes these cannot fail on Linux */
    pthread_cond_init(&p->has_job, NULL);
    pthread_cond_init(&p->has_room, NULL);
    pthread_cond_init(&p->idle, NULL);
    p->cap = queue_cap;
    p->queue = sm_malloc_array(queue_cap, sizeof(*p->queue));
    p->workers = sm_calloc(n_threads, sizeof(*p->workers));
    sm_status st = SM_OK;
    if (p->queue == NULL || p->workers == NULL)
        st = sm_fail(err, SM_ERR_NOMEM, "out of memory for a queue of %zu jobs", queue_cap);
    else
        st = start_workers(p, n_threads, err);
    if (st != SM_OK) {
        sm_pool_free(&p);
        return st;
    }
    *pool = p;
    return SM_OK;
}

void sm_pool_put(sm_pool *pool, sm_pool_job job, void *arg)
{
    pthread_mutex_lock(&pool->lock);
    while (pool->n == pool->cap)
        pthread_cond_wait(&pool->has_room, &pool->lock);
    pool->queue[(pool->first + pool->n) % pool->cap] = (queued_job){job, arg};
    pool->n++;
    pthread_cond_signal(&pool->has_job);
    pthread_mutex_unlock(&pool->lock);
}

void sm_pool_drain(sm_pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    while (pool->n > 0 || pool->running > 0)
        pthread_cond_wait(&pool->idle, &pool->lock);
    pthread_mutex_unlock(&pool->lock);
}

void sm_pool_free(sm_pool **pool)
{
    sm_pool *p = *pool;
    if (p == NULL)
        return;
    pthread_mutex_lock(&p->lock);
    p->stopping = true; /* a worker leaves only once the queue is empty, so this drains too */
    pthread_cond_broadcast(&p->has_job);
    pthread_mutex_unlock(&p->lock);
    for (unsigned i = 0; i < p->n_workers; i++)
        pthread_join(p->workers[i].thread, NULL);
    pthread_cond_destroy(&p->idle);
    pthread_cond_destroy(&p->has_room);
    pthread_cond_destroy(&p->has_job);
    pthread_mutex_destroy(&p->lock);
    free(p->workers);
    free(p->queue);
    free(p);
    *pool = NULL;
}
