/* Sums of made-up spans: nested ones, those of verify, threads that end, and what is delivered. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <string.h>
#include <time.h>

#include "common/error.h"
#include "common/spent.h"
#include "common/trace.h"

static void pause_ms(long ms)
{
    const struct timespec pause = {.tv_nsec = ms * 1000000};
    nanosleep(&pause, NULL);
}

static void stage_names_are_one_word_and_distinct(void **state)
{
    (void)state;
    for (int i = 0; i < SM_STAGES; i++) {
        assert_null(strpbrk(sm_stage_name((sm_stage)i), " _\""));
        for (int k = 0; k < i; k++)
            assert_string_not_equal(sm_stage_name((sm_stage)i), sm_stage_name((sm_stage)k));
    }
    assert_string_equal(sm_stage_name(SM_STAGES), "unknown");
}

/* retile 2 ms, in it write 4 ms, in it write-wait 8 ms: no millisecond counts twice. */
static void a_span_inside_another_is_not_counted_twice(void **state)
{
    (void)state;
    sm_spent before, spent;
    sm_spent_now(&before);
    const sm_span whole = sm_trace_begin();
    pause_ms(2);
    const sm_span write = sm_trace_begin();
    pause_ms(4);
    const sm_span wait = sm_trace_begin();
    pause_ms(8);
    sm_trace_end(SM_TRACE_WRITE_WAIT, wait);
    sm_trace_end(SM_TRACE_WRITE, write);
    sm_trace_end(SM_TRACE_RETILE, whole);
    const sm_span after = sm_trace_begin(); /* takes no time, so it ends the whole */
    sm_spent_since(&before, &spent);
    assert_true(spent.ns[SM_STAGE_RETILE] >= 2000000);
    assert_true(spent.ns[SM_STAGE_WRITE] >= 4000000);
    assert_true(spent.ns[SM_STAGE_WRITE_WAIT] >= 8000000);
    assert_int_equal(sm_spent_sum(spent.ns, true), spent.ns[SM_STAGE_WRITE_WAIT]);
    assert_int_equal(sm_spent_sum(spent.ns, false),
                     spent.ns[SM_STAGE_RETILE] + spent.ns[SM_STAGE_WRITE]);
    assert_true(sm_spent_sum(spent.ns, true) + sm_spent_sum(spent.ns, false) <=
                after.begin_ns - whole.begin_ns);
}

static void what_lies_inside_of_verify_is_of_verify(void **state)
{
    (void)state;
    sm_spent before, spent;
    sm_spent_now(&before);
    const sm_span verify = sm_trace_begin_verify();
    const sm_span hash = sm_trace_begin();
    pause_ms(2);
    sm_trace_end(SM_TRACE_HASH, hash);
    const sm_span wait = sm_trace_begin();
    pause_ms(3);
    sm_trace_end(SM_TRACE_READ_WAIT, wait);
    sm_trace_delivered(1000, 1000);
    sm_trace_end(SM_TRACE_VERIFY, verify);
    const sm_span later = sm_trace_begin();
    pause_ms(1);
    sm_trace_end(SM_TRACE_HASH, later);
    sm_trace_delivered(77, 7);
    sm_spent_since(&before, &spent);
    assert_true(spent.ns[SM_STAGE_VERIFY] >= 2000000);
    assert_true(spent.ns[SM_STAGE_VERIFY_WAIT] >= 3000000);
    assert_true(spent.ns[SM_STAGE_HASH] >= 1000000);
    assert_int_equal(spent.ns[SM_STAGE_READ], 0);
    assert_int_equal(spent.delivered_bytes, 77);
    assert_int_equal(spent.delivered_ns, 7);
}

static void *work(void *arg)
{
    (void)arg;
    for (int i = 0; i < 1000; i++)
        sm_trace_end(SM_TRACE_ENCODE, sm_trace_begin());
    const sm_span begin = sm_trace_begin();
    pause_ms(2);
    sm_trace_end(SM_TRACE_ENCODE, begin);
    return NULL;
}

static void threads_that_have_ended_count(void **state)
{
    enum { THREADS = 4, ROUNDS = 3 };
    (void)state;
    pthread_t threads[THREADS];
    sm_spent before, spent;
    sm_spent_now(&before);
    for (int round = 1; round <= ROUNDS; round++) {
        for (int i = 0; i < THREADS; i++)
            assert_int_equal(pthread_create(&threads[i], NULL, work, NULL), 0);
        for (int i = 0; i < THREADS; i++)
            pthread_join(threads[i], NULL);
        sm_spent_since(&before, &spent);
        if (spent.ns[SM_STAGE_ENCODE] < UINT64_C(2000000) * THREADS * (uint64_t)round)
            fail_msg("round %d: %llu ns", round, (unsigned long long)spent.ns[SM_STAGE_ENCODE]);
    }
    assert_true(spent.cpu_ns > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stage_names_are_one_word_and_distinct),
        cmocka_unit_test(a_span_inside_another_is_not_counted_twice),
        cmocka_unit_test(what_lies_inside_of_verify_is_of_verify),
        cmocka_unit_test(threads_that_have_ended_count),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
