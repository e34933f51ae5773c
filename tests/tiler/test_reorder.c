/* Tests of tiler/reorder.c: whatever threads do, tiles are written by unit, level and tile. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/support/check.h"
#include "tests/support/random.h"
#include "tiler/reorder.h"

enum { MAX_THREADS = 7, N_UNITS = 400, MAX_TILES = 4 * N_UNITS };

/* A tile that some units contribute to; the one that comes last hands it in. */
typedef struct piece {
    uint32_t level;
    uint64_t tile, seq;
    atomic_uint lacking; /* units first..seq */
    uint64_t first;
} piece;

typedef struct world {
    piece pieces[MAX_TILES]; /* in the order in which they must be written */
    uint32_t n_outputs[N_UNITS];
    uint32_t n_pieces, window;
    sm_reorder *queue;
    atomic_uint next_unit, written, writing;
    atomic_bool wrong;
    const char *what;
} world;

static void wrong(world *w, const char *what)
{
    if (!atomic_exchange(&w->wrong, true))
        w->what = what;
}

static sm_buf text_of(const piece *p)
{
    sm_error err = SM_ERROR_INIT;
    sm_buf text = {0};
    if (sm_buf_printf(&text, &err, "%llu/%u/%llu", (unsigned long long)p->seq, p->level,
                      (unsigned long long)p->tile) != SM_OK)
        abort();
    return text;
}

static sm_status check_write(void *user, const sm_tile_out *t, sm_error *err)
{
    (void)err;
    world *w = user;
    if (atomic_fetch_add(&w->writing, 1) != 0)
        wrong(w, "two writes at once");
    const unsigned i = atomic_load(&w->written);
    if (i >= w->n_pieces) {
        wrong(w, "more tiles than there are");
        return SM_OK;
    }
    const piece *p = &w->pieces[i];
    sm_buf want = text_of(p);
    if (t->level != p->level || t->tile != p->tile || t->share != p->tile + 1)
        wrong(w, "out of order");
    else if (t->bytes.len != want.len || memcmp(t->bytes.data, want.data, want.len) != 0)
        wrong(w, "another tile's bytes");
    sm_buf_free(&want);
    if (i % 16 == 0)
        sched_yield();
    atomic_store(&w->written, i + 1);
    atomic_fetch_sub(&w->writing, 1);
    return SM_OK;
}

/* ---- a world of units and tiles ---- */

static int by_seq_level_tile(const void *pa, const void *pb)
{
    const piece *a = pa, *b = pb;
    if (a->seq != b->seq)
        return a->seq < b->seq ? -1 : 1;
    if (a->level != b->level)
        return a->level < b->level ? -1 : 1;
    return a->tile < b->tile ? -1 : a->tile > b->tile;
}

static world *world_new(uint32_t window, uint64_t seed)
{
    world *w = calloc(1, sizeof *w);
    assert_non_null(w);
    sm_random r = {seed};
    w->window = window;
    w->n_pieces = N_UNITS / 2 + sm_random_below(&r, MAX_TILES / 2);
    for (uint32_t i = 0; i < w->n_pieces; i++) {
        piece *p = &w->pieces[i];
        p->level = sm_random_below(&r, 4);
        p->tile = ((uint64_t)sm_random_u32(&r) << 12) + i; /* beyond 32 bits, and unique */
        p->seq = sm_random_below(&r, N_UNITS);
        const uint32_t reach = sm_random_below(&r, 40);
        p->first = p->seq > reach ? p->seq - reach : 0;
        atomic_init(&p->lacking, (unsigned)(p->seq - p->first + 1));
        w->n_outputs[p->seq]++;
    }
    qsort(w->pieces, w->n_pieces, sizeof *w->pieces, by_seq_level_tile);
    sm_error err = SM_ERROR_INIT;
    SM_CHECK_OK(sm_reorder_new(w->n_outputs, N_UNITS, window, check_write, w, &w->queue, &err),
                &err);
    return w;
}

static void world_free(world **w)
{
    sm_reorder_free(&(*w)->queue);
    free(*w);
    *w = NULL;
}

static void hand_in(world *w, const piece *p)
{
    sm_error err = SM_ERROR_INIT;
    sm_tile_out t = {.level = p->level, .tile = p->tile, .share = p->tile + 1, .bytes = text_of(p)};
    if (sm_reorder_put(w->queue, p->seq, &t, &err) != SM_OK)
        wrong(w, "put failed");
    if (t.bytes.data != NULL)
        wrong(w, "the bytes were not taken");
}

static void do_unit(world *w, uint64_t unit, sm_random *r)
{
    uint32_t order[MAX_TILES];
    sm_random_order(r, order, w->n_pieces);
    if (sm_random_below(r, 4) == 0)
        sched_yield();
    for (uint32_t i = 0; i < w->n_pieces; i++) {
        piece *p = &w->pieces[order[i]];
        if (p->first <= unit && unit <= p->seq && atomic_fetch_sub(&p->lacking, 1) == 1)
            hand_in(w, p);
    }
}

typedef struct worker {
    world *w;
    uint64_t seed;
    pthread_t thread;
} worker;

static void *work(void *arg)
{
    const worker *k = arg;
    world *w = k->w;
    sm_random r = {k->seed};
    for (uint64_t i; (i = atomic_fetch_add(&w->next_unit, 1)) < N_UNITS;) {
        sm_reorder_wait(w->queue, i);
        const unsigned at = atomic_load(&w->written);
        if (at < w->n_pieces && i >= w->pieces[at].seq + w->window)
            wrong(w, "a unit beyond the window was let through");
        do_unit(w, i, &r);
    }
    return NULL;
}

static void tiles_are_written_by_unit_level_and_tile(void **state)
{
    (void)state;
    static const uint32_t WINDOWS[] = {1, 2, 7, 64, 1000};
    for (unsigned threads = 1; threads <= MAX_THREADS; threads += 3) {
        for (size_t k = 0; k < SM_COUNT(WINDOWS); k++) {
            world *w = world_new(WINDOWS[k], 31 + threads + k);
            worker workers[MAX_THREADS];
            for (unsigned t = 0; t < threads; t++) {
                workers[t] = (worker){.w = w, .seed = 100 * threads + 10 * k + t + 1};
                assert_int_equal(pthread_create(&workers[t].thread, NULL, work, &workers[t]), 0);
            }
            for (unsigned t = 0; t < threads; t++)
                pthread_join(workers[t].thread, NULL);
            if (atomic_load(&w->wrong))
                fail_msg("%u threads, window %u: %s", threads, WINDOWS[k], w->what);
            assert_int_equal(atomic_load(&w->written), w->n_pieces);
            assert_true(sm_reorder_complete(w->queue));
            world_free(&w);
        }
    }
}

/* ---- one thing at a time ---- */

/* What was written, as text: "level/tile " each. */
typedef struct record {
    char text[256];
    unsigned fail_at; /* the write that fails, from 1; 0: none */
    unsigned n;
} record;

static sm_status record_write(void *user, const sm_tile_out *t, sm_error *err)
{
    record *r = user;
    if (++r->n == r->fail_at)
        return sm_fail(err, SM_ERR_IO, "the disk is full");
    const size_t at = strlen(r->text);
    snprintf(r->text + at, sizeof r->text - at, "%u/%llu ", t->level, (unsigned long long)t->tile);
    return SM_OK;
}

static sm_reorder *queue_new(const uint32_t *n_outputs, uint64_t n, uint32_t window, record *r)
{
    sm_error err = SM_ERROR_INIT;
    sm_reorder *q = NULL;
    SM_CHECK_OK(sm_reorder_new(n_outputs, n, window, record_write, r, &q, &err), &err);
    return q;
}

static sm_status put(sm_reorder *q, uint64_t seq, uint32_t level, uint64_t tile, sm_error *err)
{
    sm_tile_out t = {.level = level, .tile = tile};
    SM_CHECK_OK(sm_buf_append(&t.bytes, "x", 1, err), err);
    const sm_status st = sm_reorder_put(q, seq, &t, err);
    assert_null(t.bytes.data);
    return st;
}

static void a_tile_waits_for_all_before_it(void **state)
{
    (void)state;
    static const uint32_t N[] = {0, 2, 0, 1, 3, 0};
    sm_error err = SM_ERROR_INIT;
    record r = {0};
    sm_reorder *q = queue_new(N, 6, 6, &r);
    SM_CHECK_OK(put(q, 3, 0, 30, &err), &err);
    SM_CHECK_OK(put(q, 4, 2, 1, &err), &err);
    SM_CHECK_OK(put(q, 1, 0, UINT64_C(5000000000), &err), &err);
    assert_string_equal(r.text, "");
    SM_CHECK_OK(put(q, 1, 0, 7, &err), &err);
    assert_string_equal(r.text, "0/7 0/5000000000 0/30 ");
    SM_CHECK_OK(put(q, 4, 0, 9, &err), &err);
    assert_false(sm_reorder_complete(q));
    SM_CHECK_OK(put(q, 4, 1, 2, &err), &err);
    assert_string_equal(r.text, "0/7 0/5000000000 0/30 0/9 1/2 2/1 ");
    assert_true(sm_reorder_complete(q));
    sm_reorder_free(&q);
    assert_null(q);
    sm_reorder_free(&q);
}

static void nothing_to_write_is_complete(void **state)
{
    (void)state;
    static const uint32_t N[] = {0, 0, 0};
    record r = {0};
    sm_reorder *q = queue_new(N, 3, 1, &r);
    sm_reorder_wait(q, 2);
    assert_true(sm_reorder_complete(q));
    sm_reorder_free(&q);
    q = queue_new(NULL, 0, 1, &r);
    assert_true(sm_reorder_complete(q));
    sm_reorder_free(&q);
}

static void what_is_not_expected_is_our_bug(void **state)
{
    (void)state;
    static const uint32_t N[] = {1, 1, 2, 1, 1};
    sm_error err = SM_ERROR_INIT;
    record r = {0};
    sm_reorder *q = queue_new(N, 5, 3, &r);
    SM_CHECK_OK(put(q, 0, 0, 0, &err), &err);
    SM_CHECK_FAILS(put(q, 0, 0, 1, &err), &err, SM_ERR_INTERNAL, "out of order"); /* written */
    SM_CHECK_FAILS(put(q, 4, 0, 1, &err), &err, SM_ERR_INTERNAL, "out of order"); /* beyond */
    SM_CHECK_OK(put(q, 2, 0, 2, &err), &err);
    SM_CHECK_OK(put(q, 2, 0, 3, &err), &err);
    SM_CHECK_FAILS(put(q, 2, 0, 4, &err), &err, SM_ERR_INTERNAL, "tile 4 of level 0"); /* third */
    SM_CHECK_OK(put(q, 1, 0, 1, &err), &err);
    assert_string_equal(r.text, "0/0 0/1 0/2 0/3 ");
    sm_reorder_free(&q);
}

static void after_a_failed_write_nothing_is_written(void **state)
{
    (void)state;
    static const uint32_t N[] = {1, 2, 1, 1};
    for (unsigned fail_at = 1; fail_at <= 5; fail_at++) {
        sm_error err = SM_ERROR_INIT;
        record r = {.fail_at = fail_at};
        sm_reorder *q = queue_new(N, 4, 4, &r);
        static const uint64_t SEQ[] = {3, 1, 1, 2, 0};
        for (uint32_t i = 0; i < 4; i++)
            SM_CHECK_OK(put(q, SEQ[i], 0, i, &err), &err);
        SM_CHECK_FAILS(put(q, 0, 0, 9, &err), &err, SM_ERR_IO, "disk is full");
        assert_int_equal(r.n, fail_at);
        assert_false(sm_reorder_complete(q));
        sm_reorder_wait(q, 1000); /* lets through */
        sm_reorder_free(&q);
    }
}

static void a_failed_write_stops_the_units_behind_it(void **state)
{
    (void)state;
    static const uint32_t N[] = {1, 1, 1};
    sm_error err = SM_ERROR_INIT;
    record r = {.fail_at = 1};
    sm_reorder *q = queue_new(N, 3, 3, &r);
    SM_CHECK_FAILS(put(q, 0, 0, 0, &err), &err, SM_ERR_IO, "disk is full");
    SM_CHECK_OK(put(q, 1, 0, 1, &err), &err); /* a thread that has not heard of it yet */
    SM_CHECK_OK(put(q, 2, 0, 2, &err), &err);
    assert_string_equal(r.text, "");
    assert_false(sm_reorder_complete(q));
    sm_reorder_free(&q);
}

/* A thread that waits for one unit. */
typedef struct waiter {
    sm_reorder *q;
    uint64_t unit;
    atomic_bool through;
    pthread_t thread;
} waiter;

static void *wait_for_unit(void *arg)
{
    waiter *w = arg;
    sm_reorder_wait(w->q, w->unit);
    atomic_store(&w->through, true);
    return NULL;
}

static void waiter_start(waiter *w, sm_reorder *q, uint64_t unit)
{
    w->q = q;
    w->unit = unit;
    atomic_init(&w->through, false);
    assert_int_equal(pthread_create(&w->thread, NULL, wait_for_unit, w), 0);
}

static void doze(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 30000000}, NULL);
}

static void the_window_blocks_and_releases(void **state)
{
    (void)state;
    static const uint32_t N[] = {1, 0, 1, 1, 1, 1};
    sm_error err = SM_ERROR_INIT;
    record r = {0};
    waiter third, fifth;
    sm_reorder *q = queue_new(N, 6, 2, &r);
    sm_reorder_wait(q, 0);
    sm_reorder_wait(q, 1);
    waiter_start(&third, q, 3);
    waiter_start(&fifth, q, 5);
    doze();
    assert_false(atomic_load(&third.through));
    SM_CHECK_OK(put(q, 0, 0, 0, &err), &err); /* unit 1 has nothing: 2 is the oldest now */
    pthread_join(third.thread, NULL);
    doze();
    assert_false(atomic_load(&fifth.through));
    SM_CHECK_OK(put(q, 3, 0, 3, &err), &err);
    doze();
    assert_false(atomic_load(&fifth.through));
    SM_CHECK_OK(put(q, 2, 0, 2, &err), &err);
    pthread_join(fifth.thread, NULL);
    sm_reorder_free(&q);
}

static void abort_releases_waiters_and_ends_writing(void **state)
{
    (void)state;
    static const uint32_t N[] = {1, 1, 1, 1};
    sm_error err = SM_ERROR_INIT;
    record r = {0};
    waiter a, b;
    sm_reorder *q = queue_new(N, 4, 2, &r);
    SM_CHECK_OK(put(q, 1, 0, 1, &err), &err);
    waiter_start(&a, q, 2);
    waiter_start(&b, q, 3);
    doze();
    assert_false(atomic_load(&a.through) || atomic_load(&b.through));
    sm_reorder_abort(q);
    pthread_join(a.thread, NULL);
    pthread_join(b.thread, NULL);
    SM_CHECK_OK(put(q, 0, 0, 0, &err), &err);
    SM_CHECK_OK(put(q, 3, 0, 3, &err), &err); /* beyond the window: dropped, not a bug */
    assert_string_equal(r.text, "");
    assert_false(sm_reorder_complete(q));
    sm_reorder_free(&q);
}

static void every_failed_allocation_is_reported(void **state)
{
    (void)state;
    static const uint32_t N[] = {1};
    for (long n = 0; n < 2; n++) {
        sm_error err = SM_ERROR_INIT;
        sm_reorder *q = NULL;
        sm_alloc_fail_after(n);
        const sm_status st = sm_reorder_new(N, 1, 1, record_write, NULL, &q, &err);
        sm_alloc_fail_after(-1);
        assert_int_equal(st, SM_ERR_NOMEM);
        assert_null(q);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tiles_are_written_by_unit_level_and_tile),
        cmocka_unit_test(a_tile_waits_for_all_before_it),
        cmocka_unit_test(nothing_to_write_is_complete),
        cmocka_unit_test(what_is_not_expected_is_our_bug),
        cmocka_unit_test(after_a_failed_write_nothing_is_written),
        cmocka_unit_test(a_failed_write_stops_the_units_behind_it),
        cmocka_unit_test(the_window_blocks_and_releases),
        cmocka_unit_test(abort_releases_waiters_and_ends_writing),
        cmocka_unit_test(every_failed_allocation_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
