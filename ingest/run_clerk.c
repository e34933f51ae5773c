/* The clerk's thread and its two queues. An eventfd tells the rank's loop that something is done;
 * a condition tells the clerk that there is something to do. */
#include "ingest/run_clerk.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/sysinfo.h"
#include "ingest/run_job.h"

#define SECOND_NS UINT64_C(1000000000)
#define MOST_WAIT_NS (60 * SECOND_NS)

typedef struct tasks {
    sm_clerk_task *first, *last;
} tasks;

struct sm_clerk {
    sm_clerk_config config;
    sm_journal_head head;
    sm_journal *journal; /* NULL: no line yet, or closed */
    pthread_t thread;
    pthread_mutex_t mutex; /* guards the queues and `stopping` */
    pthread_cond_t work;
    tasks to_do, done;
    bool stopping;
    int fd;
    uint32_t pending; /* the loop's own count */
    _Atomic uint64_t hurry_ns;
    bool broken; /* the journal could not be written for too long */
    sm_error why;
};

sm_status sm_clerk_task_new(sm_clerk_work work, sm_clerk_task **task, sm_error *err)
{
    *task = sm_calloc(1, sizeof **task);
    if (*task == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "no memory for a task");
    (*task)->work = work;
    return SM_OK;
}

void sm_clerk_task_free(sm_clerk_task **task)
{
    if (*task != NULL) {
        sm_job_clear(&(*task)->job);
        sm_outcome_clear(&(*task)->outcome);
    }
    free(*task);
    *task = NULL;
}

static void tasks_put(tasks *queue, sm_clerk_task *task)
{
    task->next = NULL;
    if (queue->last != NULL)
        queue->last->next = task;
    else
        queue->first = task;
    queue->last = task;
}

static sm_clerk_task *tasks_take(tasks *queue)
{
    sm_clerk_task *task = queue->first;
    if (task != NULL) {
        queue->first = task->next;
        if (queue->first == NULL)
            queue->last = NULL;
    }
    return task;
}

/* ---- the clerk's side ---- */

/* One try of what the task has to say to the journal. An event that was once told is kept by the
 * journal, so it is told once and then only flushed. */
static sm_status tell_journal(sm_clerk *c, const sm_clerk_task *task, uint32_t attempt, bool *told,
                              sm_error *err)
{
    sm_status st = SM_OK;
    if (c->journal == NULL)
        st = sm_journal_create(c->config.catalog_path, &c->head, &c->journal, err);
    if (st != SM_OK)
        return st;
    if (*told)
        return sm_journal_flush(c->journal, err);
    *told = true;
    if (task->work == SM_CLERK_PREPARE)
        return sm_journal_begin(c->journal, task->slide, task->job.main.path, attempt, err);
    return sm_journal_end(c->journal, &task->outcome, err);
}

/* Sleeps up to `ns`, or until the clerk is stopped. */
static bool sleep_unless_stopped(sm_clerk *c, uint64_t ns)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    const uint64_t at = (uint64_t)until.tv_nsec + ns;
    until.tv_sec += (time_t)(at / SECOND_NS);
    until.tv_nsec = (long)(at % SECOND_NS);
    pthread_mutex_lock(&c->mutex);
    while (!c->stopping && pthread_cond_timedwait(&c->work, &c->mutex, &until) == 0)
        continue; /* a task was put */
    const bool go_on = !c->stopping;
    pthread_mutex_unlock(&c->mutex);
    return go_on;
}

/* Until it is durable, or for as long as storage errors are borne. */
static sm_status write_journal(sm_clerk *c, const sm_clerk_task *task, uint32_t attempt,
                               sm_error *err)
{
    const uint64_t first_ns = sm_now_ns();
    bool told = false;
    if (c->broken) {
        *err = c->why;
        return err->status;
    }
    for (uint64_t wait_ns = SECOND_NS / 4;;) {
        const sm_status st = tell_journal(c, task, attempt, &told, err);
        const uint64_t now_ns = sm_now_ns();
        if (st != SM_ERR_IO)
            return st;
        if (now_ns - first_ns >= c->config.retry_for_ns || now_ns >= atomic_load(&c->hurry_ns) ||
            !sleep_unless_stopped(c, wait_ns))
            break;
        wait_ns = 2 * wait_ns < MOST_WAIT_NS ? 2 * wait_ns : MOST_WAIT_NS;
    }
    c->broken = true;
    c->why = *err;
    return err->status;
}

static sm_status prepare(sm_clerk *c, sm_clerk_task *task, sm_error *err)
{
    const sm_run_job_config config = {.kind = c->head.kind,
                                      .out = c->config.out,
                                      .suffix = c->config.suffix,
                                      .mark = c->config.mark,
                                      .full_name = task->full_name};
    uint32_t attempts = 0;
    sm_status st = sm_run_job(c->config.catalog, &config, task->slide, &task->job, &attempts, err);
    if (st != SM_OK)
        return st;
    st = write_journal(c, task, attempts + 1 + task->tries, err);
    task->at_journal = st != SM_OK;
    return st;
}

static sm_status do_task(sm_clerk *c, sm_clerk_task *task, sm_error *err)
{
    switch (task->work) {
    case SM_CLERK_PREPARE:
        return prepare(c, task, err);
    case SM_CLERK_RECORD:
        return write_journal(c, task, 0, err);
    case SM_CLERK_LOOK:
        return c->config.lock != NULL ? sm_lock_check(c->config.lock, err) : SM_OK;
    case SM_CLERK_FINISH:
        if (c->broken)
            sm_journal_abandon(&c->journal);
        return c->journal != NULL ? sm_journal_finish(&c->journal, err) : SM_OK;
    }
    return sm_fail(err, SM_ERR_INTERNAL, "task %d", (int)task->work);
}

static void *clerk_main(void *arg)
{
    sm_clerk *c = arg;
    const uint64_t one = 1;
    pthread_mutex_lock(&c->mutex);
    while (!c->stopping) {
        sm_clerk_task *task = tasks_take(&c->to_do);
        if (task == NULL) {
            pthread_cond_wait(&c->work, &c->mutex);
            continue;
        }
        pthread_mutex_unlock(&c->mutex);
        task->err = (sm_error)SM_ERROR_INIT;
        task->st = do_task(c, task, &task->err);
        pthread_mutex_lock(&c->mutex);
        tasks_put(&c->done, task);
        if (write(c->fd, &one, sizeof one) < 0)
            continue; /* the counter is full: the loop knows already */
    }
    pthread_mutex_unlock(&c->mutex);
    return NULL;
}

/* ---- the loop's side ---- */

static sm_status start_thread(sm_clerk *c, sm_error *err)
{
    pthread_condattr_t monotonic;
    (void)pthread_condattr_init(&monotonic);
    (void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&c->work, &monotonic);
    (void)pthread_condattr_destroy(&monotonic);
    (void)pthread_mutex_init(&c->mutex, NULL);
    const int why = pthread_create(&c->thread, NULL, clerk_main, c);
    if (why == 0)
        return SM_OK;
    (void)pthread_cond_destroy(&c->work);
    (void)pthread_mutex_destroy(&c->mutex);
    return sm_fail_errno(err, SM_ERR_INTERNAL, why, "cannot start a thread");
}

sm_status sm_clerk_start(const sm_clerk_config *config, sm_clerk **clerk, sm_error *err)
{
    sm_status st = SM_OK;
    sm_clerk *c = sm_calloc(1, sizeof *c);
    if (c == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "no memory for the clerk");
    c->config = *config;
    c->head = *config->head;
    atomic_store(&c->hurry_ns, UINT64_MAX);
    c->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (c->fd < 0)
        st = sm_fail_errno(err, SM_ERR_INTERNAL, errno, "cannot make an eventfd");
    if (st == SM_OK)
        st = start_thread(c, err);
    if (st == SM_OK) {
        *clerk = c;
        return SM_OK;
    }
    if (c->fd >= 0)
        (void)close(c->fd);
    free(c);
    return st;
}

void sm_clerk_put(sm_clerk *c, sm_clerk_task *task)
{
    c->pending++;
    pthread_mutex_lock(&c->mutex);
    tasks_put(&c->to_do, task);
    pthread_cond_signal(&c->work);
    pthread_mutex_unlock(&c->mutex);
}

sm_clerk_task *sm_clerk_take(sm_clerk *c)
{
    uint64_t n = 0;
    pthread_mutex_lock(&c->mutex);
    sm_clerk_task *task = tasks_take(&c->done);
    if (task == NULL && read(c->fd, &n, sizeof n) < 0)
        n = 0; /* nothing was done since */
    pthread_mutex_unlock(&c->mutex);
    c->pending -= task != NULL;
    return task;
}

int sm_clerk_fd(const sm_clerk *c)
{
    return c->fd;
}

uint32_t sm_clerk_pending(const sm_clerk *c)
{
    return c->pending;
}

void sm_clerk_hurry(sm_clerk *c, uint64_t until_ns)
{
    atomic_store(&c->hurry_ns, until_ns);
}

static void tasks_free(tasks *queue)
{
    sm_clerk_task *task;
    while ((task = tasks_take(queue)) != NULL)
        sm_clerk_task_free(&task);
}

void sm_clerk_stop(sm_clerk **clerk)
{
    sm_clerk *c = *clerk;
    *clerk = NULL;
    if (c == NULL)
        return;
    pthread_mutex_lock(&c->mutex);
    c->stopping = true;
    pthread_cond_signal(&c->work);
    pthread_mutex_unlock(&c->mutex);
    (void)pthread_join(c->thread, NULL);
    tasks_free(&c->to_do);
    tasks_free(&c->done);
    sm_journal_abandon(&c->journal);
    (void)close(c->fd);
    (void)pthread_cond_destroy(&c->work);
    (void)pthread_mutex_destroy(&c->mutex);
    free(c);
}
