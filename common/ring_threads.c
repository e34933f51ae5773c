/* The ring without io_uring: a few threads that call pread and pwrite.
 * Owns the threads and two circles of op pointers; the ops belong to the ring's caller. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/ring_backend.h"

enum { MAX_THREADS = 4 }; /* as many as keep a disk or a mount busy; they hardly compute */

/* A circle of pointers; never more than the ring's depth in it. */
typedef struct op_queue {
    sm_ring_op **ops;
    size_t cap, first, n;
} op_queue;

struct sm_ring_threads {
    pthread_mutex_t lock;
    pthread_cond_t has_work, has_result;
    op_queue waiting, ended;
    bool stopping;
    unsigned n_threads;
    pthread_t threads[MAX_THREADS];
};

static void queue_put(op_queue *queue, sm_ring_op *op)
{
    queue->ops[(queue->first + queue->n) % queue->cap] = op;
    queue->n++;
}

static sm_ring_op *queue_take(op_queue *queue)
{
    sm_ring_op *op = queue->ops[queue->first];
    queue->first = (queue->first + 1) % queue->cap;
    queue->n--;
    return op;
}

static void transfer(sm_ring_op *op)
{
    long res = 0;
    do {
        uint8_t *at = (uint8_t *)op->bytes + op->done;
        const size_t left = op->len - op->done;
        const size_t len = left < SM_RING_CHUNK_BYTES ? left : SM_RING_CHUNK_BYTES;
        const off_t offset = (off_t)(op->offset + op->done);
        res = op->write ? pwrite(op->fd, at, len, offset) : pread(op->fd, at, len, offset);
        if (res < 0)
            res = -errno;
    } while (!sm_ring_op_step(op, res));
}

static void *thread_main(void *arg)
{
    sm_ring_threads *t = arg;
    pthread_mutex_lock(&t->lock);
    for (;;) {
        while (t->waiting.n == 0 && !t->stopping)
            pthread_cond_wait(&t->has_work, &t->lock);
        if (t->waiting.n == 0)
            break;
        sm_ring_op *op = queue_take(&t->waiting);
        pthread_mutex_unlock(&t->lock);
        transfer(op);
        pthread_mutex_lock(&t->lock);
        queue_put(&t->ended, op);
        pthread_cond_signal(&t->has_result);
    }
    pthread_mutex_unlock(&t->lock);
    return NULL;
}

static sm_status start(sm_ring_threads *t, unsigned wanted, sm_error *err)
{
    sigset_t all, before; /* signals are for the caller's threads */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = 0;
    while (t->n_threads < wanted && rc == 0) {
        rc = pthread_create(&t->threads[t->n_threads], NULL, thread_main, t);
        if (rc == 0)
            t->n_threads++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (t->n_threads == 0) /* with one it works, if slower */
        return sm_fail_errno(err, SM_ERR_NOMEM, rc, "cannot start an I/O thread");
    return SM_OK;
}

sm_status sm_ring_threads_new(unsigned depth, sm_ring_threads **threads, sm_error *err)
{
    *threads = NULL;
    sm_ring_threads *t = sm_calloc(1, sizeof(*t));
    if (t == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "out of memory for I/O threads");
    pthread_mutex_init(&t->lock, NULL);
    pthread_cond_init(&t->has_work, NULL);
    pthread_cond_init(&t->has_result, NULL);
    t->waiting = (op_queue){.ops = sm_calloc(depth, sizeof(sm_ring_op *)), .cap = depth};
    t->ended = (op_queue){.ops = sm_calloc(depth, sizeof(sm_ring_op *)), .cap = depth};
    sm_status st = SM_OK;
    if (t->waiting.ops == NULL || t->ended.ops == NULL)
        st = sm_fail(err, SM_ERR_NOMEM, "out of memory for %u transfers", depth);
    else
        st = start(t, depth < MAX_THREADS ? depth : MAX_THREADS, err);
    if (st != SM_OK) {
        sm_ring_threads_free(&t);
        return st;
    }
    *threads = t;
    return SM_OK;
}

void sm_ring_threads_submit(sm_ring_threads *threads, sm_ring_op *op)
{
    pthread_mutex_lock(&threads->lock);
    queue_put(&threads->waiting, op);
    pthread_cond_signal(&threads->has_work);
    pthread_mutex_unlock(&threads->lock);
}

sm_ring_op *sm_ring_threads_wait(sm_ring_threads *threads)
{
    pthread_mutex_lock(&threads->lock);
    while (threads->ended.n == 0)
        pthread_cond_wait(&threads->has_result, &threads->lock);
    sm_ring_op *op = queue_take(&threads->ended);
    pthread_mutex_unlock(&threads->lock);
    return op;
}

void sm_ring_threads_free(sm_ring_threads **threads)
{
    sm_ring_threads *t = *threads;
    if (t == NULL)
        return;
    pthread_mutex_lock(&t->lock);
    t->stopping = true;
    pthread_cond_broadcast(&t->has_work);
    pthread_mutex_unlock(&t->lock);
    for (unsigned i = 0; i < t->n_threads; i++)
        pthread_join(t->threads[i], NULL);
    pthread_cond_destroy(&t->has_result);
    pthread_cond_destroy(&t->has_work);
    pthread_mutex_destroy(&t->lock);
    free(t->ended.ops);
    free(t->waiting.ops);
    free(t);
    *threads = NULL;
}
