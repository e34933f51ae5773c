/* Tests of common/pool.c: order, bounds, every job done, and of common/stop.c: the flag. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/pool.h"
#include "common/stop.h"
#include "tests/support/check.h"

typedef struct tally {
    atomic_uint done, per_worker[8], waiting, most_waiting;
    unsigned order[1000];
    atomic_uint n_order;
} tally;

typedef struct job {
    tally *tally;
    unsigned index;
} job;

static void nap(long us)
{
    const struct timespec pause = {.tv_nsec = us * 1000};
    nanosleep(&pause, NULL);
}

static void count_job(void *arg, unsigned worker)
{
    job *self = arg;
    tally *t = self->tally;
    t->order[atomic_fetch_add(&t->n_order, 1)] = self->index;
    atomic_fetch_add(&t->per_worker[worker], 1);
    if (self->index % 16 == 0)
        nap(200);
    atomic_fetch_add(&t->done, 1);
}

static void every_job_runs_once_and_drain_waits_for_it(void **state)
{
    (void)state;
    sm_error err = SM_ERROR_INIT;
    static const unsigned THREADS[] = {1, 2, 7};
    for (size_t k = 0; k < SM_COUNT(THREADS); k++) {
        tally t = {0};
        job jobs[1000];
        sm_pool *pool = NULL;
        SM_CHECK_OK(sm_pool_new(THREADS[k], 3, &pool, &err), &err);
        for (unsigned round = 0; round < 2; round++) {
            for (unsigned i = 0; i < 500; i++) {
                jobs[round * 500 + i] = (job){&t, round * 500 + i};
                sm_pool_put(pool, count_job, &jobs[round * 500 + i]);
            }
            sm_pool_drain(pool);
            assert_int_equal(t.done, (round + 1) * 500);
        }
        unsigned seen = 0;
        for (unsigned i = 0; i < THREADS[k]; i++)
            seen += t.per_worker[i];
        assert_int_equal(seen, 1000); /* no worker number beyond n_threads - 1 */
        if (THREADS[k] == 1)
            for (unsigned i = 0; i < 1000; i++)
                assert_int_equal(t.order[i], i);
        sm_pool_free(&pool);
        assert_null(pool);
    }
}

static void free_finishes_what_is_queued(void **state)
{
    (void)state;
    sm_error err = SM_ERROR_INIT;
    tally t = {0};
    job jobs[64];
    sm_pool *pool = NULL;
    SM_CHECK_OK(sm_pool_new(2, 64, &pool, &err), &err);
    for (unsigned i = 0; i < 64; i++) {
        jobs[i] = (job){&t, i};
        sm_pool_put(pool, count_job, &jobs[i]);
    }
    sm_pool_free(&pool);
    assert_int_equal(t.done, 64);
    sm_pool_free(&pool);
}

static void slow_job(void *arg, unsigned worker)
{
    (void)worker;
    tally *t = arg;
    nap(2000);
    atomic_fetch_sub(&t->waiting, 1);
}

static void put_blocks_while_the_queue_is_full(void **state)
{
    (void)state;
    sm_error err = SM_ERROR_INIT;
    tally t = {0};
    sm_pool *pool = NULL;
    SM_CHECK_OK(sm_pool_new(1, 2, &pool, &err), &err);
    for (unsigned i = 0; i < 20; i++) {
        const unsigned waiting = atomic_fetch_add(&t.waiting, 1) + 1;
        if (waiting > t.most_waiting)
            t.most_waiting = waiting;
        sm_pool_put(pool, slow_job, &t);
    }
    sm_pool_free(&pool);
    /* one running, two queued, one being put */
    assert_true(t.most_waiting <= 4);
}

static void nonsense_is_refused_and_allocation_failures_are_reported(void **state)
{
    (void)state;
    sm_error err = SM_ERROR_INIT;
    sm_pool *pool = NULL;
    SM_CHECK_FAILS(sm_pool_new(0, 1, &pool, &err), &err, SM_ERR_ARG, "0 threads");
    SM_CHECK_FAILS(sm_pool_new(1025, 1, &pool, &err), &err, SM_ERR_ARG, "1025 threads");
    SM_CHECK_FAILS(sm_pool_new(1, 0, &pool, &err), &err, SM_ERR_ARG, "queue");
    for (long n = 0; n < 3; n++) {
        sm_alloc_fail_after(n);
        SM_CHECK_FAILS(sm_pool_new(2, 4, &pool, &err), &err, SM_ERR_NOMEM, "out of memory");
        assert_null(pool);
    }
    sm_alloc_fail_after(-1);
}

/* In a child, so that handlers and the flag do not outlive the test. The child's exit code, or
 * 128 + the signal that killed it. */
static int in_child(int (*body)(void))
{
    const pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        _exit(body());
    int status = 0;
    assert_true(waitpid(pid, &status, 0) == pid);
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static int one_sigterm(void)
{
    sm_error err = SM_ERROR_INIT;
    sm_stop_install();
    if (sm_stop_requested() || sm_stop_check(&err) != SM_OK)
        return 1;
    raise(SIGTERM);
    raise(SIGINT); /* the first SIGINT: not deadly */
    raise(SIGPIPE);
    raise(SIGXFSZ);
    if (!sm_stop_requested() || sm_stop_check(&err) != SM_ERR_INTERRUPTED)
        return 2;
    return strcmp(err.message, "interrupted by SIGTERM; nothing was published") == 0 ? 0 : 3;
}

static int two_sigints(void)
{
    sm_stop_install();
    raise(SIGINT);
    raise(SIGINT);
    return 0;
}

static int ignored_sighup(void)
{
    signal(SIGHUP, SIG_IGN); /* as nohup does */
    sm_stop_install();
    raise(SIGHUP);
    return sm_stop_requested() ? 1 : 0;
}

static void the_first_signal_sets_the_flag_a_second_sigint_kills(void **state)
{
    (void)state;
    assert_int_equal(in_child(one_sigterm), 0);
    assert_int_equal(in_child(two_sigints), 128 + SIGINT);
    assert_int_equal(in_child(ignored_sighup), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_job_runs_once_and_drain_waits_for_it),
        cmocka_unit_test(free_finishes_what_is_queued),
        cmocka_unit_test(put_blocks_while_the_queue_is_full),
        cmocka_unit_test(nonsense_is_refused_and_allocation_failures_are_reported),
        cmocka_unit_test(the_first_signal_sets_the_flag_a_second_sigint_kills),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
