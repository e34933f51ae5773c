/* Tests of ingest/schedule.c and shards.c: which slide next, and which shard. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "common/buf.h"
#include "ingest/schedule.h"
#include "tests/support/check.h"
#include "tests/support/random.h"

#define S UINT64_C(1000000000)

static const sm_schedule_config PLAIN = {
    .n_bricks = 1, .retry_first_ns = S, .retry_most_ns = 4 * S, .retry_for_ns = 20 * S};

static sm_schedule *make(const sm_schedule_config *config, const sm_schedule_item *items,
                         uint32_t n)
{
    sm_error err = SM_ERROR_INIT;
    sm_schedule *s = NULL;
    SM_CHECK_OK(sm_schedule_new(config, items, n, &s, &err), &err);
    return s;
}

static uint32_t give(sm_schedule *s, uint64_t now)
{
    uint32_t item = UINT32_MAX;
    uint64_t until = 0;
    assert_int_equal(sm_schedule_next(s, now, &item, &until), SM_SCHEDULE_GIVE);
    return item;
}

static uint64_t waits(sm_schedule *s, uint64_t now)
{
    uint32_t item = UINT32_MAX;
    uint64_t until = 0;
    assert_int_equal(sm_schedule_next(s, now, &item, &until), SM_SCHEDULE_WAIT);
    return until;
}

static void ends(sm_schedule *s)
{
    uint32_t item = UINT32_MAX;
    uint64_t until = 0;
    assert_int_equal(sm_schedule_next(s, 0, &item, &until), SM_SCHEDULE_END);
}

static void longest_slide_is_given_first(void **state)
{
    (void)state;
    const sm_schedule_item items[] = {{10, 0}, {50, 0}, {20, 0}, {50, 0}};
    sm_schedule *s = make(&PLAIN, items, SM_COUNT(items));
    static const uint32_t WANT[] = {1, 3, 2, 0};
    for (size_t i = 0; i < SM_COUNT(WANT); i++)
        assert_int_equal(give(s, 0), WANT[i]);
    assert_int_equal(waits(s, 0), UINT64_MAX);
    for (uint32_t i = 0; i < SM_COUNT(items); i++)
        sm_schedule_done(s, i);
    ends(s);
    sm_schedule_free(&s);
    sm_schedule_free(&s);
}

static void nothing_to_do_ends_at_once(void **state)
{
    (void)state;
    sm_schedule *s = make(&PLAIN, NULL, 0);
    ends(s);
    sm_schedule_free(&s);
}

static void a_brick_has_no_more_readers_than_it_may(void **state)
{
    (void)state;
    sm_schedule_config config = PLAIN;
    config.n_bricks = 2;
    config.streams_per_brick = 1;
    const sm_schedule_item items[] = {{90, 0}, {80, 0}, {70, 0}, {10, 1}};
    sm_schedule *s = make(&config, items, SM_COUNT(items));
    assert_int_equal(give(s, 0), 0);
    assert_int_equal(give(s, 0), 3); /* brick 0 is busy */
    assert_int_equal(sm_schedule_streams(s, 0), 1);
    assert_int_equal(waits(s, 0), UINT64_MAX);
    sm_schedule_read_done(s, 0, 0); /* still out, but its brick is free */
    assert_int_equal(sm_schedule_streams(s, 0), 0);
    assert_int_equal(sm_schedule_out(s), 2);
    assert_int_equal(give(s, 0), 1);
    assert_int_equal(waits(s, 0), UINT64_MAX);
    sm_schedule_done(s, 1);
    assert_int_equal(give(s, 0), 2);
    sm_schedule_free(&s);
}

static void slides_of_no_known_brick_are_not_limited(void **state)
{
    (void)state;
    sm_schedule_config config = PLAIN;
    config.n_bricks = 2;
    config.streams_per_brick = 1;
    config.last_unlimited = true;
    const sm_schedule_item items[] = {{9, 0}, {8, 0}, {7, 1}, {6, 1}, {5, 1}};
    sm_schedule *s = make(&config, items, SM_COUNT(items));
    uint32_t given = 0;
    for (int i = 0; i < 4; i++)
        given |= 1u << give(s, 0);
    assert_int_equal(given, 1u | 4u | 8u | 16u);
    assert_int_equal(waits(s, 0), UINT64_MAX);
    sm_schedule_free(&s);
}

static void the_least_busy_brick_is_served(void **state)
{
    (void)state;
    sm_schedule_config config = PLAIN;
    config.n_bricks = 3;
    const sm_schedule_item items[] = {{40, 0}, {39, 0}, {38, 0}, {37, 0}, {5, 1}, {4, 1}, {3, 2}};
    sm_schedule *s = make(&config, items, SM_COUNT(items));
    assert_int_equal(give(s, 0), 0);
    assert_int_equal(give(s, 0), 4);
    assert_int_equal(give(s, 0), 6);
    assert_int_equal(give(s, 0), 1); /* all are equally busy: the longest */
    config.brick_blind = true;
    config.streams_per_brick = 1;
    sm_schedule *blind = make(&config, items, SM_COUNT(items));
    for (uint32_t i = 0; i < 4; i++)
        assert_int_equal(give(blind, 0), i);
    sm_schedule_free(&blind);
    sm_schedule_free(&s);
}

/* Gives the slide that must come next, and lets it be read for so long. */
static void read_next(sm_schedule *s, uint32_t item, uint64_t *now, uint64_t ns)
{
    assert_int_equal(give(s, *now), item);
    *now += ns;
    sm_schedule_read_done(s, item, *now);
    sm_schedule_done(s, item);
}

enum { OF_THREE = 60 };

/* Dealt to three bricks in turn: one long slide for each, then brick 0 has the shortest ones. */
static void deal(sm_schedule_item items[OF_THREE])
{
    for (uint32_t i = 0; i < OF_THREE; i++)
        items[i] = (sm_schedule_item){i % 3 == 0 ? 100 : 110, i % 3};
    items[0].bytes = items[1].bytes = items[2].bytes = 120;
}

/* Each brick has given its first slide, brick 0 in so long, the others in 100 ns. */
static sm_schedule *three_bricks(const sm_schedule_item items[OF_THREE], uint64_t *now,
                                 uint64_t brick_0_ns)
{
    sm_schedule_config config = PLAIN;
    config.n_bricks = 3;
    sm_schedule *s = make(&config, items, OF_THREE);
    read_next(s, 0, now, brick_0_ns);
    read_next(s, 1, now, 100);
    read_next(s, 2, now, 100);
    return s;
}

static void a_brick_that_all_would_wait_for_always_has_a_reader(void **state)
{
    (void)state;
    sm_schedule_item items[OF_THREE];
    deal(items);
    for (uint64_t slow = 1; slow <= 10; slow += 9) { /* times the time of the others */
        uint64_t now = 1;
        sm_schedule *s = three_bricks(items, &now, 100 * slow);
        assert_int_equal(give(s, now), 4);                /* one place waits for nobody */
        assert_int_equal(give(s, now), slow > 1 ? 3 : 5); /* slow: brick 0 goes first */
        assert_int_equal(give(s, now), slow > 1 ? 5 : 3); /* each has a reader or gets one */
        if (slow > 1) {
            now += 1000;
            sm_schedule_read_done(s, 3, now);
            sm_schedule_done(s, 3);
            assert_int_equal(give(s, now), 6);
            now += 1000;
            sm_schedule_return(s, 6); /* its rank went; the brick is idle once more */
            assert_int_equal(give(s, now), 6);
        }
        sm_schedule_free(&s);
    }
}

/* Alone it takes less than two places need for all, but more than half of that. */
static void a_brick_that_nearly_all_would_wait_for_goes_first(void **state)
{
    (void)state;
    sm_schedule_item items[OF_THREE];
    uint64_t now = 1;
    deal(items);
    sm_schedule *s = three_bricks(items, &now, 140);
    assert_int_equal(give(s, now), 4);
    assert_int_equal(give(s, now), 3); /* not 5, which is longer */
    sm_schedule_free(&s);
}

static void a_slow_brick_without_much_to_read_is_nobodys_hurry(void **state)
{
    (void)state;
    sm_schedule_item items[OF_THREE];
    uint64_t now = 1;
    for (uint32_t i = 0; i < OF_THREE; i++)
        items[i] = (sm_schedule_item){110, i > 3 && i < 14 ? 2 : 1};
    for (uint32_t i = 14; i < 26; i++)
        items[i] = (sm_schedule_item){10, 0}; /* 120 bytes, 1000 ns */
    items[0] = (sm_schedule_item){120, 0};
    items[1] = (sm_schedule_item){119, 1};
    items[2] = (sm_schedule_item){119, 2};
    sm_schedule *s = three_bricks(items, &now, 1000);
    assert_int_equal(give(s, now), 3);
    assert_int_equal(give(s, now), 4); /* brick 2, though brick 0 needs longer for what it has */
    assert_int_equal(give(s, now), 14);
    sm_schedule_free(&s);
}

static void a_slide_that_all_would_wait_for_goes_first_wherever_it_is(void **state)
{
    (void)state;
    sm_schedule_config config = PLAIN;
    config.n_bricks = 2;
    const sm_schedule_item items[] = {{900, 0}, {500, 0}, {10, 1}, {10, 1}, {10, 1}};
    sm_schedule *s = make(&config, items, SM_COUNT(items));
    assert_int_equal(give(s, 0), 0);
    assert_int_equal(give(s, 0), 1); /* though brick 1 is idle */
    sm_schedule_free(&s);
}

static void a_storage_error_is_tried_again_later_and_later(void **state)
{
    (void)state;
    const sm_schedule_item items[] = {{10, 0}};
    sm_schedule *s = make(&PLAIN, items, 1);
    uint64_t now = 100 * S;
    static const uint64_t WAITS[] = {1, 2, 4, 4, 4, 4}; /* 1 + 2 + 4 + 4 + 4 + 4 = 19 < 20 */
    for (size_t i = 0; i < SM_COUNT(WAITS); i++) {
        assert_int_equal(give(s, now), 0);
        assert_true(sm_schedule_retry(s, 0, now));
        assert_int_equal(sm_schedule_out(s), 0);
        assert_int_equal(sm_schedule_waiting(s), 1);
        assert_int_equal(waits(s, now), now + WAITS[i] * S);
        assert_int_equal(waits(s, now + WAITS[i] * S - 1), now + WAITS[i] * S);
        now += WAITS[i] * S;
    }
    assert_int_equal(give(s, now), 0);
    assert_true(sm_schedule_retry(s, 0, now));
    now += 4 * S;
    assert_int_equal(give(s, now), 0);
    assert_false(sm_schedule_retry(s, 0, now)); /* the first error is 23 s ago */
    ends(s);
    sm_schedule_free(&s);
}

static void a_brick_that_fails_twice_is_asked_for_one_slide_at_a_time(void **state)
{
    (void)state;
    sm_schedule_config config = PLAIN;
    config.n_bricks = 2;
    config.retry_most_ns = 80 * S;
    const sm_schedule_item items[] = {{10, 0}, {9, 0}, {8, 0}, {7, 0}, {6, 1}, {5, 1}};
    sm_schedule *s = make(&config, items, SM_COUNT(items));
    assert_int_equal(give(s, S), 0);
    assert_int_equal(give(s, S), 4); /* the idler brick */
    assert_int_equal(give(s, S), 1);
    assert_true(sm_schedule_retry(s, 0, S));
    assert_true(sm_schedule_retry(s, 1, S));
    assert_int_equal(give(s, S), 5); /* brick 1, though brick 0 has no reader */
    assert_int_equal(waits(s, S), 2 * S);
    assert_int_equal(give(s, 2 * S), 0); /* the longest, due again by now */
    assert_int_equal(waits(s, 2 * S), UINT64_MAX);
    sm_schedule_read_done(s, 0, 0); /* it gave the bytes: the brick is back */
    assert_int_equal(give(s, 2 * S), 1);
    assert_int_equal(give(s, 2 * S), 2);
    assert_int_equal(give(s, 2 * S), 3);
    sm_schedule_free(&s);
}

static void slides_of_a_brick_that_stays_away_are_not_waited_for(void **state)
{
    (void)state;
    const sm_schedule_item items[] = {{10, 0}, {9, 0}, {8, 0}};
    sm_schedule *s = make(&PLAIN, items, SM_COUNT(items));
    assert_int_equal(give(s, S), 0);
    assert_int_equal(give(s, S), 1);
    assert_true(sm_schedule_retry(s, 0, S));
    assert_true(sm_schedule_retry(s, 1, S));
    assert_int_equal(give(s, 30 * S), 0);
    assert_false(sm_schedule_retry(s, 0, 30 * S));
    assert_int_equal(give(s, 30 * S), 1); /* without a pause */
    assert_false(sm_schedule_retry(s, 1, 30 * S));
    assert_int_equal(give(s, 30 * S), 2);
    assert_false(sm_schedule_retry(s, 2, 30 * S)); /* its own first error */
    ends(s);
    sm_schedule_free(&s);
}

static void no_time_for_retries_means_none(void **state)
{
    (void)state;
    sm_schedule_config config = PLAIN;
    config.retry_for_ns = 0;
    const sm_schedule_item items[] = {{10, 0}};
    sm_schedule *s = make(&config, items, 1);
    assert_int_equal(give(s, 5), 0);
    assert_false(sm_schedule_retry(s, 0, 5));
    ends(s);
    sm_schedule_free(&s);
}

static void a_returned_slide_is_given_again_at_once(void **state)
{
    (void)state;
    const sm_schedule_item items[] = {{10, 0}, {20, 0}};
    sm_schedule *s = make(&PLAIN, items, 2);
    assert_int_equal(give(s, 0), 1);
    sm_schedule_return(s, 1);
    assert_int_equal(sm_schedule_streams(s, 0), 0);
    assert_int_equal(give(s, 0), 1);
    sm_schedule_free(&s);
}

static void after_a_stop_nothing_is_given(void **state)
{
    (void)state;
    const sm_schedule_item items[] = {{10, 0}, {20, 0}};
    sm_schedule *s = make(&PLAIN, items, 2);
    assert_int_equal(give(s, 0), 1);
    sm_schedule_stop(s);
    assert_int_equal(waits(s, 0), UINT64_MAX);
    sm_schedule_return(s, 1);
    ends(s);
    assert_int_equal(sm_schedule_waiting(s), 2);
    sm_schedule_free(&s);
}

static void what_is_told_twice_or_wrongly_changes_nothing(void **state)
{
    (void)state;
    const sm_schedule_item items[] = {{10, 0}, {20, 0}};
    sm_schedule *s = make(&PLAIN, items, 2);
    assert_int_equal(give(s, 0), 1);
    sm_schedule_read_done(s, 0, 0);
    sm_schedule_done(s, 0);
    sm_schedule_return(s, 7);
    assert_false(sm_schedule_retry(s, 0, 0));
    sm_schedule_read_done(s, 1, 0);
    sm_schedule_read_done(s, 1, 0);
    assert_int_equal(sm_schedule_streams(s, 0), 0);
    sm_schedule_done(s, 1);
    sm_schedule_done(s, 1);
    assert_int_equal(sm_schedule_out(s), 0);
    assert_int_equal(give(s, 0), 0);
    sm_schedule_free(&s);
}

static void a_slide_on_no_brick_is_refused(void **state)
{
    (void)state;
    sm_error err = SM_ERROR_INIT;
    const sm_schedule_item items[] = {{10, 1}};
    sm_schedule *s = NULL;
    SM_CHECK_FAILS(sm_schedule_new(&PLAIN, items, 1, &s, &err), &err, SM_ERR_INTERNAL, "brick 1");
    assert_null(s);
}

static void lack_of_memory_is_an_error(void **state)
{
    (void)state;
    const sm_schedule_item items[] = {{10, 0}};
    uint32_t shard = 0;
    for (long n = 0; n < 10; n++) {
        sm_error err = SM_ERROR_INIT;
        sm_schedule *s = NULL;
        sm_alloc_fail_after(n);
        SM_CHECK_FAILS(sm_schedule_new(&PLAIN, items, 1, &s, &err), &err, SM_ERR_NOMEM, "");
        assert_null(s);
    }
    for (long n = 0; n < 3; n++) {
        sm_error err = SM_ERROR_INIT;
        sm_alloc_fail_after(n);
        SM_CHECK_FAILS(sm_schedule_shards(items, 1, 2, &shard, &err), &err, SM_ERR_NOMEM, "");
    }
    sm_alloc_fail_after(-1);
}

/* Any order of answers: every slide is given until it is over, limits hold all the time. */
static void random_runs_lose_and_double_nothing(void **state)
{
    (void)state;
    enum { N = 3000, BRICKS = 7, LIMIT = 3 };
    static sm_schedule_item items[N];
    static uint8_t over[N], out[N];
    uint32_t held[64], n_held = 0, n_over = 0, given = 0;
    sm_random r = {1234567};
    for (uint32_t i = 0; i < N; i++)
        items[i] = (sm_schedule_item){1 + sm_random_below(&r, 1000), sm_random_below(&r, BRICKS)};
    const sm_schedule_config config = {.n_bricks = BRICKS,
                                       .streams_per_brick = LIMIT,
                                       .retry_first_ns = 1,
                                       .retry_most_ns = 64,
                                       .retry_for_ns = 5000};
    sm_schedule *s = make(&config, items, N);
    for (uint64_t now = 1;; now++) {
        uint32_t item = 0;
        uint64_t until = 0;
        sm_schedule_answer a = SM_SCHEDULE_WAIT;
        if (n_held < SM_COUNT(held))
            a = sm_schedule_next(s, now, &item, &until);
        if (a == SM_SCHEDULE_END)
            break;
        if (a == SM_SCHEDULE_GIVE) {
            assert_false(over[item] || out[item]);
            out[item] = 1;
            held[n_held++] = item;
            given++;
        }
        for (uint32_t b = 0; b < BRICKS; b++)
            assert_in_range(sm_schedule_streams(s, b), 0, LIMIT);
        if (n_held > 0 && (a == SM_SCHEDULE_WAIT || sm_random_below(&r, 3) > 0)) {
            const uint32_t k = sm_random_below(&r, n_held), i = held[k];
            const uint32_t fate = sm_random_below(&r, 8);
            if (fate == 0) {
                sm_schedule_read_done(s, i, now);
                continue;
            }
            held[k] = held[--n_held];
            out[i] = 0;
            if (fate == 1)
                sm_schedule_return(s, i);
            else if (fate == 2)
                over[i] = !sm_schedule_retry(s, i, now);
            else
                sm_schedule_done(s, i), over[i] = 1;
            n_over += over[i];
        }
        assert_int_equal(sm_schedule_out(s), n_held);
    }
    assert_int_equal(n_over, N);
    assert_true(given > N);
    sm_schedule_free(&s);
}

static void shards_are_equal_in_bytes_and_mixed_in_bricks(void **state)
{
    (void)state;
    enum { N = 20000, SHARDS = 37, BRICKS = 4 };
    static sm_schedule_item items[N];
    static uint32_t shard[N];
    uint64_t bytes[SHARDS] = {0}, cells[SHARDS][BRICKS] = {{0}}, total = 0;
    sm_error err = SM_ERROR_INIT;
    sm_random r = {99};
    for (uint32_t i = 0; i < N; i++)
        items[i] = (sm_schedule_item){100 + sm_random_below(&r, 4900), i * BRICKS / N};
    SM_CHECK_OK(sm_schedule_shards(items, N, SHARDS, shard, &err), &err);
    for (uint32_t i = 0; i < N; i++) {
        assert_in_range(shard[i], 0, SHARDS - 1);
        bytes[shard[i]] += items[i].bytes;
        cells[shard[i]][items[i].brick] += items[i].bytes;
        total += items[i].bytes;
    }
    for (uint32_t k = 0; k < SHARDS; k++) {
        assert_in_range(bytes[k], total / SHARDS * 999 / 1000, total / SHARDS * 1001 / 1000);
        for (uint32_t b = 0; b < BRICKS; b++)
            assert_in_range(cells[k][b], total / SHARDS / BRICKS * 9 / 10,
                            total / SHARDS / BRICKS * 11 / 10);
    }
}

static void equal_slides_are_dealt_evenly(void **state)
{
    (void)state;
    enum { N = 1000, SHARDS = 8 };
    static sm_schedule_item items[N];
    static uint32_t shard[N];
    uint32_t n[SHARDS] = {0};
    sm_error err = SM_ERROR_INIT;
    for (uint32_t i = 0; i < N; i++)
        items[i] = (sm_schedule_item){500, i % 3};
    SM_CHECK_OK(sm_schedule_shards(items, N, SHARDS, shard, &err), &err);
    for (uint32_t i = 0; i < N; i++)
        n[shard[i]]++;
    for (uint32_t k = 0; k < SHARDS; k++)
        assert_int_equal(n[k], N / SHARDS);
}

static void more_shards_than_slides_leave_some_empty(void **state)
{
    (void)state;
    sm_error err = SM_ERROR_INIT;
    const sm_schedule_item items[] = {{10, 0}, {20, 0}, {0, 5}};
    uint32_t shard[3];
    SM_CHECK_OK(sm_schedule_shards(items, 3, 10, shard, &err), &err);
    assert_int_not_equal(shard[0], shard[1]);
    SM_CHECK_OK(sm_schedule_shards(NULL, 0, 10, shard, &err), &err);
    SM_CHECK_FAILS(sm_schedule_shards(items, 3, 0, shard, &err), &err, SM_ERR_ARG, "shard");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(longest_slide_is_given_first),
        cmocka_unit_test(nothing_to_do_ends_at_once),
        cmocka_unit_test(a_brick_has_no_more_readers_than_it_may),
        cmocka_unit_test(slides_of_no_known_brick_are_not_limited),
        cmocka_unit_test(the_least_busy_brick_is_served),
        cmocka_unit_test(a_brick_that_all_would_wait_for_always_has_a_reader),
        cmocka_unit_test(a_brick_that_nearly_all_would_wait_for_goes_first),
        cmocka_unit_test(a_slow_brick_without_much_to_read_is_nobodys_hurry),
        cmocka_unit_test(a_slide_that_all_would_wait_for_goes_first_wherever_it_is),
        cmocka_unit_test(a_storage_error_is_tried_again_later_and_later),
        cmocka_unit_test(a_brick_that_fails_twice_is_asked_for_one_slide_at_a_time),
        cmocka_unit_test(slides_of_a_brick_that_stays_away_are_not_waited_for),
        cmocka_unit_test(no_time_for_retries_means_none),
        cmocka_unit_test(a_returned_slide_is_given_again_at_once),
        cmocka_unit_test(after_a_stop_nothing_is_given),
        cmocka_unit_test(what_is_told_twice_or_wrongly_changes_nothing),
        cmocka_unit_test(a_slide_on_no_brick_is_refused),
        cmocka_unit_test(lack_of_memory_is_an_error),
        cmocka_unit_test(random_runs_lose_and_double_nothing),
        cmocka_unit_test(shards_are_equal_in_bytes_and_mixed_in_bricks),
        cmocka_unit_test(equal_slides_are_dealt_evenly),
        cmocka_unit_test(more_shards_than_slides_leave_some_empty),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
