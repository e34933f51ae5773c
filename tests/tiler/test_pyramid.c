/* Tests of tiler/pyramid.c against whole images that are halved again and again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/buf.h"
#include "tests/support/check.h"
#include "tests/support/random.h"
#include "tiler/pyramid.h"

enum { MAX_STAGES = 8, MAX_THREADS = 7 };

/* A stage as it must come out. */
typedef struct expected {
    uint8_t *rgb; /* w * h pixels */
    sm_grid grid;
    uint64_t *seq;       /* by tile */
    atomic_uint *handed; /* by tile: times */
} expected;

/* One run: an image cut into pieces, put in some order. */
typedef struct run {
    const char *name;
    uint32_t tile_w, tile_h, piece_w, piece_h;
    sm_pyramid_stage stages[MAX_STAGES];
    expected want[MAX_STAGES];
    uint32_t n_stages, n_pieces;
    uint32_t *order; /* pieces in the order they are taken: their seq */
    sm_pyramid *pyramid;
    atomic_uint next;
    unsigned threads;
    pthread_mutex_t lock;
    char mistake[640]; /* cmocka cannot fail in a thread */
} run;

static void mistake(run *r, const char *text, uint32_t stage, uint32_t col, uint32_t row)
{
    pthread_mutex_lock(&r->lock);
    if (r->mistake[0] == '\0')
        snprintf(r->mistake, sizeof r->mistake, "%s: %s: stage %u, tile %u,%u", r->name, text,
                 stage, col, row);
    pthread_mutex_unlock(&r->lock);
}

static uint32_t clamp(uint32_t v, uint32_t n)
{
    return v < n ? v : n - 1;
}

static const uint8_t *pixel(const run *r, uint32_t stage, uint32_t x, uint32_t y)
{
    const sm_pyramid_stage *s = &r->stages[stage];
    return r->want[stage].rgb + 3 * ((size_t)clamp(y, s->h_px) * s->w_px + clamp(x, s->w_px));
}

static sm_status on_tile(void *user, unsigned worker, uint32_t stage, uint32_t col, uint32_t row,
                         uint64_t seq, const uint8_t *rgb, sm_error *err)
{
    (void)err;
    run *r = user;
    const expected *want = &r->want[stage];
    const size_t at = (size_t)row * want->grid.cols + col;
    if (worker >= r->threads)
        mistake(r, "unknown worker", stage, col, row);
    if (!r->stages[stage].wanted)
        mistake(r, "handed out, but not wanted", stage, col, row);
    if (col >= want->grid.cols || row >= want->grid.rows) {
        mistake(r, "outside the grid", stage, col, row);
        return SM_OK;
    }
    atomic_fetch_add(&want->handed[at], 1);
    if (seq != want->seq[at])
        mistake(r, "seq is not the largest that went in", stage, col, row);
    for (uint32_t y = 0; y < r->tile_h; y++)
        for (uint32_t x = 0; x < r->tile_w; x++, rgb += 3)
            if (memcmp(rgb, pixel(r, stage, col * r->tile_w + x, row * r->tile_h + y), 3) != 0) {
                mistake(r, "wrong pixels", stage, col, row);
                return SM_OK;
            }
    return SM_OK;
}

/* ---- what is expected ---- */

static sm_rect piece_rect(const run *r, uint32_t piece)
{
    const uint32_t cols = sm_ceil_div_u32(r->stages[0].w_px, r->piece_w);
    const uint32_t x = piece % cols * r->piece_w, y = piece / cols * r->piece_h;
    return (sm_rect){x, y, sm_min_u32(r->piece_w, r->stages[0].w_px - x),
                     sm_min_u32(r->piece_h, r->stages[0].h_px - y)};
}

static uint64_t *seq_at(run *r, uint32_t stage, uint32_t x, uint32_t y)
{
    const expected *want = &r->want[stage];
    return &want->seq[(size_t)(y / r->tile_h) * want->grid.cols + x / r->tile_w];
}

static void raise_seq(uint64_t *seq, uint64_t to)
{
    if (*seq < to)
        *seq = to;
}

static void expect_root(run *r, sm_random *random)
{
    const sm_pyramid_stage *s = &r->stages[0];
    sm_random_bytes(random, r->want[0].rgb, 3 * (size_t)s->w_px * s->h_px);
    for (uint32_t i = 0; i < r->n_pieces; i++) {
        const sm_rect p = piece_rect(r, r->order[i]);
        for (uint32_t y = p.y; y < p.y + p.h; y++)
            for (uint32_t x = p.x; x < p.x + p.w; x++)
                raise_seq(seq_at(r, 0, x, y), i);
    }
}

static void expect_half(run *r, uint32_t stage)
{
    const sm_pyramid_stage *s = &r->stages[stage];
    uint8_t *out = r->want[stage].rgb;
    for (uint32_t y = 0; y < s->h_px; y++)
        for (uint32_t x = 0; x < s->w_px; x++, out += 3) {
            for (size_t c = 0; c < 3; c++) {
                unsigned sum = 2;
                for (uint32_t k = 0; k < 4; k++)
                    sum += pixel(r, stage - 1, 2 * x + k % 2, 2 * y + k / 2)[c];
                out[c] = (uint8_t)(sum / 4);
            }
            raise_seq(seq_at(r, stage, x, y), *seq_at(r, stage - 1, 2 * x, 2 * y));
        }
}

static void *zeros(size_t n, size_t size)
{
    void *p = calloc(n, size);
    assert_non_null(p);
    return p;
}

/* A chain of stages down from w x h; every wanted-th is wanted. */
static void run_begin(run *r, uint32_t w, uint32_t h, uint32_t n_stages, uint32_t wanted,
                      sm_random *random)
{
    sm_error err = SM_ERROR_INIT;
    pthread_mutex_init(&r->lock, NULL);
    r->n_stages = n_stages;
    r->n_pieces = sm_ceil_div_u32(w, r->piece_w) * sm_ceil_div_u32(h, r->piece_h);
    r->order = zeros(r->n_pieces, sizeof *r->order);
    sm_random_order(random, r->order, r->n_pieces);
    for (uint32_t i = 0; i < n_stages; i++) {
        r->stages[i] =
            (sm_pyramid_stage){w, h, i + 1 < n_stages ? i + 1 : SM_NO_STAGE, i % wanted == 0};
        expected *want = &r->want[i];
        want->grid = sm_grid_for(w, h, r->tile_w, r->tile_h);
        const size_t tiles = (size_t)sm_grid_tiles(want->grid);
        want->rgb = zeros((size_t)w * h, 3);
        want->seq = zeros(tiles, sizeof *want->seq);
        want->handed = zeros(tiles, sizeof *want->handed);
        if (i == 0)
            expect_root(r, random);
        else
            expect_half(r, i);
        w = sm_half_px(w);
        h = sm_half_px(h);
    }
    SM_CHECK_OK(
        sm_pyramid_new(r->stages, n_stages, r->tile_w, r->tile_h, on_tile, r, &r->pyramid, &err),
        &err);
}

static void run_end(run *r)
{
    sm_pyramid_free(&r->pyramid);
    for (uint32_t i = 0; i < r->n_stages; i++) {
        free(r->want[i].rgb);
        free(r->want[i].seq);
        free(r->want[i].handed);
    }
    free(r->order);
    pthread_mutex_destroy(&r->lock);
}

/* ---- putting ---- */

/* Decode in place, as a tile decoder does: the whole piece, padding included, then the part that
 * counts is ended. False if the piece does not lie in one tile. */
static bool put_in_place(run *r, unsigned worker, uint32_t seq, sm_rect p, sm_error *err)
{
    uint8_t *rgb = NULL;
    size_t stride = 0;
    if (sm_pyramid_begin(r->pyramid, 0, p.x, p.y, r->piece_w, r->piece_h, &rgb, &stride, err) !=
        SM_OK)
        mistake(r, err->message, 0, p.x, p.y);
    if (rgb == NULL)
        return false;
    for (uint32_t y = 0; y < r->piece_h; y++) {
        memset(rgb + y * stride, 0x5A, 3 * (size_t)r->piece_w);
        if (y < p.h)
            memcpy(rgb + y * stride, pixel(r, 0, p.x, p.y + y), 3 * (size_t)p.w);
    }
    if (sm_pyramid_end(r->pyramid, worker, 0, p, seq, err) != SM_OK)
        mistake(r, err->message, 0, p.x, p.y);
    return true;
}

static void put_piece(run *r, unsigned worker, uint32_t seq)
{
    sm_error err = SM_ERROR_INIT;
    const sm_rect p = piece_rect(r, r->order[seq]);
    if (seq % 3 != 0 && put_in_place(r, worker, seq, p, &err))
        return;
    if (sm_pyramid_put(r->pyramid, worker, 0, p, pixel(r, 0, p.x, p.y),
                       3 * (size_t)r->stages[0].w_px, NULL, seq, &err) != SM_OK)
        mistake(r, err.message, 0, p.x, p.y);
}

typedef struct putter {
    run *r;
    unsigned worker;
    pthread_t thread;
} putter;

static void *put_pieces(void *arg)
{
    const putter *p = arg;
    for (uint32_t i; (i = atomic_fetch_add(&p->r->next, 1)) < p->r->n_pieces;)
        put_piece(p->r, p->worker, i);
    return NULL;
}

static void put_all(run *r)
{
    putter putters[MAX_THREADS];
    for (unsigned t = 0; t < r->threads; t++) {
        putters[t] = (putter){.r = r, .worker = t};
        assert_int_equal(pthread_create(&putters[t].thread, NULL, put_pieces, &putters[t]), 0);
    }
    for (unsigned t = 0; t < r->threads; t++)
        pthread_join(putters[t].thread, NULL);
}

static void check_all_handed_out(const run *r)
{
    if (r->mistake[0] != '\0')
        fail_msg("%s", r->mistake);
    if (sm_pyramid_unfinished(r->pyramid) != 0)
        fail_msg("%s: %llu tiles unfinished", r->name,
                 (unsigned long long)sm_pyramid_unfinished(r->pyramid));
    for (uint32_t i = 0; i < r->n_stages; i++)
        for (size_t t = 0; t < sm_grid_tiles(r->want[i].grid); t++)
            if (r->want[i].handed[t] != r->stages[i].wanted)
                fail_msg("%s: tile %zu of stage %u was handed out %u times", r->name, t, i,
                         r->want[i].handed[t]);
}

static void play(const char *name, uint32_t w, uint32_t h, uint32_t tile, uint32_t piece_w,
                 uint32_t piece_h, unsigned threads, sm_random *random)
{
    run r = {.name = name,
             .tile_w = tile,
             .tile_h = tile == 16 ? 32 : tile,
             .piece_w = piece_w,
             .piece_h = piece_h,
             .threads = threads};
    run_begin(&r, w, h, 1 + sm_random_below(random, 6), 1 + sm_random_below(random, 2), random);
    put_all(&r);
    check_all_handed_out(&r);
    run_end(&r);
}

/* ---- tests ---- */

static const struct {
    const char *name;
    uint32_t w, h;
} SIZES[] = {
    {"one pixel", 1, 1},
    {"one column", 1, 37},
    {"one row", 37, 1},
    {"exactly a tile of 240", 240, 240},
    {"one pixel wider than 240", 241, 240},
    {"one pixel higher than 256", 256, 257},
    {"prime sides", 211, 307},
    {"prime and small", 2, 131},
    {"powers of two", 256, 128},
};

static void image_equals_reference(unsigned threads, uint64_t seed)
{
    static const struct {
        uint32_t tile, piece_w, piece_h;
    } CUTS[] = {{240, 240, 240}, {256, 240, 240}, {256, 64, 16}, {16, 7, 13},
                {16, 48, 112},   {64, 32, 32},    {16, 1000, 3}};
    sm_random random = {seed};
    for (size_t i = 0; i < SM_COUNT(SIZES); i++)
        for (size_t k = 0; k < SM_COUNT(CUTS); k++)
            play(SIZES[i].name, SIZES[i].w, SIZES[i].h, CUTS[k].tile, CUTS[k].piece_w,
                 CUTS[k].piece_h, threads, &random);
}

static void one_thread_makes_the_reference(void **state)
{
    (void)state;
    image_equals_reference(1, 3);
}

static void several_threads_make_the_reference(void **state)
{
    (void)state;
    image_equals_reference(2, 4);
    image_equals_reference(MAX_THREADS, 5);
}

static void random_sizes_make_the_reference(void **state)
{
    (void)state;
    sm_random random = {6};
    for (unsigned i = 0; i < 60; i++) {
        char name[64];
        const uint32_t w = 1 + sm_random_below(&random, 300), h = 1 + sm_random_below(&random, 300);
        const uint32_t tile = 16 * (1 + sm_random_below(&random, 6));
        const uint32_t piece_w = 2 + sm_random_below(&random, 100);
        const uint32_t piece_h = 2 + sm_random_below(&random, 100);
        snprintf(name, sizeof name, "%ux%u px, tiles %u, pieces %ux%u", w, h, tile, piece_w,
                 piece_h);
        play(name, w, h, tile, piece_w, piece_h, 1 + i % 3, &random);
    }
}

/* A pyramid of its own for tests that do wrong things; its tiles are only counted. */
static sm_status count_tile(void *user, unsigned worker, uint32_t stage, uint32_t col, uint32_t row,
                            uint64_t seq, const uint8_t *rgb, sm_error *err)
{
    (void)worker, (void)stage, (void)col, (void)row, (void)seq, (void)rgb, (void)err;
    ++*(unsigned *)user;
    return SM_OK;
}

static sm_pyramid *small(uint32_t w, uint32_t h, sm_pyramid_tile tile, void *user)
{
    sm_error err = SM_ERROR_INIT;
    sm_pyramid *p = NULL;
    const sm_pyramid_stage stages[] = {{w, h, 1, true},
                                       {sm_half_px(w), sm_half_px(h), SM_NO_STAGE, true}};
    SM_CHECK_OK(sm_pyramid_new(stages, 2, 32, 32, tile, user, &p, &err), &err);
    return p;
}

static sm_status put_fill(sm_pyramid *p, sm_rect rect, sm_error *err)
{
    static const uint8_t GREY[3] = {9, 9, 9};
    return sm_pyramid_put(p, 0, 0, rect, NULL, 0, GREY, 0, err);
}

static void pixels_put_twice_are_our_bug(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        uint32_t w, h;
        sm_rect puts[3];
    } cases[] = {
        {"a whole tile, others missing", 64, 64, {{0, 0, 32, 32}, {0, 0, 32, 32}}},
        {"the last tile of all", 32, 32, {{0, 0, 32, 32}, {0, 0, 32, 32}}},
        {"an edge tile", 33, 32, {{32, 0, 1, 32}, {32, 0, 1, 32}}},
        {"a half twice, then the other", 32, 32, {{0, 0, 16, 32}, {0, 0, 16, 32}, {16, 0, 16, 32}}},
        {"overlap", 64, 64, {{0, 0, 20, 32}, {10, 0, 22, 32}}},
    };
    for (size_t i = 0; i < SM_COUNT(cases); i++) {
        sm_error err = SM_ERROR_INIT;
        unsigned tiles = 0;
        sm_pyramid *p = small(cases[i].w, cases[i].h, count_tile, &tiles);
        sm_status st = SM_OK;
        for (size_t k = 0; k < 3 && st == SM_OK; k++)
            st = put_fill(p, cases[i].puts[k], &err);
        if (st != SM_ERR_INTERNAL || strstr(err.message, "twice") == NULL)
            fail_msg("%s: %s %s", cases[i].name, sm_status_name(st), err.message);
        if (tiles > 2)
            fail_msg("%s: %u tiles handed out", cases[i].name, tiles);
        sm_pyramid_free(&p);
    }
}

static void a_finished_tile_cannot_be_begun_again(void **state)
{
    (void)state;
    sm_error err = SM_ERROR_INIT;
    unsigned tiles = 0;
    uint8_t *rgb = NULL;
    size_t stride = 0;
    sm_pyramid *p = small(64, 64, count_tile, &tiles);
    SM_CHECK_OK(put_fill(p, (sm_rect){0, 0, 32, 32}, &err), &err);
    SM_CHECK_FAILS(sm_pyramid_begin(p, 0, 0, 0, 32, 32, &rgb, &stride, &err), &err, SM_ERR_INTERNAL,
                   "twice");
    assert_null(rgb);
    SM_CHECK_FAILS(sm_pyramid_end(p, 0, 0, (sm_rect){0, 0, 32, 32}, 0, &err), &err, SM_ERR_INTERNAL,
                   "");
    SM_CHECK_FAILS(sm_pyramid_end(p, 0, 0, (sm_rect){32, 0, 32, 32}, 0, &err), &err,
                   SM_ERR_INTERNAL, "not begun");
    sm_pyramid_free(&p);
}

static void begin_gives_nothing_across_tiles_or_outside(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        sm_rect rect;
        bool inside;
    } cases[] = {
        {"a tile", {32, 32, 32, 32}, true},
        {"a corner", {48, 48, 16, 16}, true},
        {"padding beyond the image", {64, 0, 32, 32}, true},
        {"across columns", {16, 0, 32, 16}, false},
        {"across rows", {0, 31, 16, 2}, false},
        {"larger than a tile", {0, 0, 64, 16}, false},
        {"all padding", {80, 0, 16, 16}, false},
    };
    sm_error err = SM_ERROR_INIT;
    unsigned tiles = 0;
    sm_pyramid *p = small(70, 70, count_tile, &tiles);
    for (size_t i = 0; i < SM_COUNT(cases); i++) {
        const sm_rect r = cases[i].rect;
        uint8_t *rgb = NULL;
        size_t stride = 0;
        SM_CHECK_OK(sm_pyramid_begin(p, 0, r.x, r.y, r.w, r.h, &rgb, &stride, &err), &err);
        if ((rgb != NULL) != cases[i].inside)
            fail_msg("%s", cases[i].name);
    }
    sm_pyramid_free(&p);
}

static void empty_rectangles_do_nothing(void **state)
{
    (void)state;
    sm_error err = SM_ERROR_INIT;
    unsigned tiles = 0;
    sm_pyramid *p = small(64, 64, count_tile, &tiles);
    SM_CHECK_OK(put_fill(p, (sm_rect){0, 0, 0, 32}, &err), &err);
    SM_CHECK_OK(put_fill(p, (sm_rect){32, 32, 32, 0}, &err), &err);
    assert_int_equal(sm_pyramid_unfinished(p), 0);
    assert_int_equal(tiles, 0);
    sm_pyramid_free(&p);
}

static sm_status check_fill(void *user, unsigned worker, uint32_t stage, uint32_t col, uint32_t row,
                            uint64_t seq, const uint8_t *rgb, sm_error *err)
{
    (void)worker, (void)stage, (void)col, (void)row, (void)seq, (void)err;
    for (size_t i = 0; i < 32 * 32; i++)
        assert_memory_equal(rgb + 3 * i, "\x12\x34\x56", 3);
    ++*(unsigned *)user;
    return SM_OK;
}

static void no_pixels_means_the_fill_colour(void **state)
{
    (void)state;
    static const uint8_t COLOUR[3] = {0x12, 0x34, 0x56};
    sm_error err = SM_ERROR_INIT;
    unsigned tiles = 0;
    sm_pyramid *p = small(45, 33, check_fill, &tiles);
    SM_CHECK_OK(sm_pyramid_put(p, 0, 0, (sm_rect){0, 0, 45, 33}, NULL, 0, COLOUR, 0, &err), &err);
    assert_int_equal(tiles, 5);
    sm_pyramid_free(&p);
}

static sm_status refuse(void *user, unsigned worker, uint32_t stage, uint32_t col, uint32_t row,
                        uint64_t seq, const uint8_t *rgb, sm_error *err)
{
    (void)worker, (void)col, (void)row, (void)seq, (void)rgb;
    if (stage != *(const uint32_t *)user)
        return SM_OK;
    return sm_fail(err, SM_ERR_IO, "the disk said no");
}

static void what_the_callback_says_is_returned(void **state)
{
    (void)state;
    for (uint32_t stage = 0; stage < 2; stage++) {
        sm_error err = SM_ERROR_INIT;
        sm_pyramid *p = small(32, 32, refuse, &stage);
        SM_CHECK_FAILS(put_fill(p, (sm_rect){0, 0, 32, 32}, &err), &err, SM_ERR_IO, "said no");
        sm_pyramid_free(&p);
        assert_null(p);
        sm_pyramid_free(&p);
    }
}

static void tile_sides_must_be_multiples_of_16(void **state)
{
    (void)state;
    static const uint32_t SIDES[][2] = {{0, 16}, {16, 0}, {24, 16}, {16, 250}};
    const sm_pyramid_stage stage = {100, 100, SM_NO_STAGE, true};
    for (size_t i = 0; i < SM_COUNT(SIDES); i++) {
        sm_error err = SM_ERROR_INIT;
        sm_pyramid *p = NULL;
        SM_CHECK_FAILS(
            sm_pyramid_new(&stage, 1, SIDES[i][0], SIDES[i][1], count_tile, NULL, &p, &err), &err,
            SM_ERR_ARG, "multiples of 16");
        assert_null(p);
    }
}

static sm_status build_and_fill(sm_error *err)
{
    const sm_pyramid_stage stages[] = {{70, 70, 1, true}, {35, 35, SM_NO_STAGE, true}};
    unsigned tiles = 0;
    sm_pyramid *p = NULL;
    sm_status st = sm_pyramid_new(stages, 2, 32, 32, count_tile, &tiles, &p, err);
    if (st == SM_OK)
        st = put_fill(p, (sm_rect){0, 0, 70, 70}, err);
    sm_pyramid_free(&p);
    return st;
}

static void every_failed_allocation_is_reported(void **state)
{
    (void)state;
    long n = 0;
    for (sm_status st = SM_ERR_NOMEM; st != SM_OK; n++) {
        sm_error err = SM_ERROR_INIT;
        sm_alloc_fail_after(n);
        st = build_and_fill(&err);
        sm_alloc_fail_after(-1);
        if (st != SM_OK)
            assert_int_equal(st, SM_ERR_NOMEM);
    }
    assert_true(n > 5); /* the struct, the stages, two grids, a tile of each stage */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_thread_makes_the_reference),
        cmocka_unit_test(several_threads_make_the_reference),
        cmocka_unit_test(random_sizes_make_the_reference),
        cmocka_unit_test(pixels_put_twice_are_our_bug),
        cmocka_unit_test(a_finished_tile_cannot_be_begun_again),
        cmocka_unit_test(begin_gives_nothing_across_tiles_or_outside),
        cmocka_unit_test(empty_rectangles_do_nothing),
        cmocka_unit_test(no_pixels_means_the_fill_colour),
        cmocka_unit_test(what_the_callback_says_is_returned),
        cmocka_unit_test(tile_sides_must_be_multiples_of_16),
        cmocka_unit_test(every_failed_allocation_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
