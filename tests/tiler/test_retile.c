/* Tests of tiler/retile.c: every coefficient of a level at its new place, and only there. */
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

#include "tests/support/check.h"
#include "tests/support/fake_slide.h"
#include "tests/support/jpegs.h"
#include "tests/support/random.h"
#include "tiler/decode.h"
#include "tiler/retile.h"

enum { MAX_THREADS = 5 };

/* The beginning of a recipe. */
#define YCC(h_samp, v_samp, q) .space = JCS_YCbCr, .h = h_samp, .v = v_samp, .quality = q

static const uint8_t BACKGROUND[3] = {243, 238, 240};

/* A level of JPEG tiles and what became of it. */
typedef struct world {
    const char *name;
    sm_recipe recipe;
    sm_fake_slide *fake;
    const sm_level *level;
    sm_buf tables; /* of the source; empty if each tile has its own */
    sm_buf *tiles; /* of the source */
    uint32_t n_tiles;
    sm_plan plan;
    sm_retile *retile;
    sm_buf out_tables;
    sm_buf *out; /* by output tile */
    uint64_t *out_seq;
    atomic_uint *handed;
    uint32_t n_out;
    uint32_t *order; /* tile that is i-th, and so has seq i */
    atomic_uint next;
    bool halves; /* decode with half-size pixels too */
    pthread_mutex_t lock;
    char mistake[640]; /* cmocka cannot fail in a thread */
} world;

static void mistake(world *w, const char *text, uint64_t tile)
{
    pthread_mutex_lock(&w->lock);
    if (w->mistake[0] == '\0')
        snprintf(w->mistake, sizeof w->mistake, "%s: tile %llu: %s", w->name,
                 (unsigned long long)tile, text);
    pthread_mutex_unlock(&w->lock);
}

static sm_status on_tile(void *user, unsigned worker, uint32_t out_level, uint64_t tile,
                         uint64_t seq, sm_buf *bytes, sm_error *err)
{
    (void)err;
    world *w = user;
    if (worker >= MAX_THREADS || out_level != 0 || tile >= w->n_out) {
        mistake(w, "handed out with a wrong number", tile);
        return SM_OK;
    }
    if (atomic_fetch_add(&w->handed[tile], 1) != 0) {
        mistake(w, "handed out twice", tile);
        return SM_OK;
    }
    w->out[tile] = *bytes;
    w->out_seq[tile] = seq;
    *bytes = (sm_buf){0};
    return SM_OK;
}

/* ---- making a level ---- */

/* Slopes, edges and noise; the padding beyond the level's edge is just as rich. */
static sm_buf make_tile(const sm_recipe *recipe, uint32_t side, uint64_t seed)
{
    sm_random r = {seed + 1};
    uint8_t *rgb = malloc(3 * (size_t)side * side);
    assert_non_null(rgb);
    for (uint32_t y = 0; y < side; y++)
        for (uint32_t x = 0; x < side; x++)
            for (uint32_t c = 0; c < 3; c++)
                rgb[3 * ((size_t)y * side + x) + c] =
                    (uint8_t)(x * (1 + c) + y * 3 + 40 * ((x / 9 + y / 13) % 3) +
                              sm_random_below(&r, 24) + seed * 17);
    sm_buf out = sm_recipe_stream(recipe, rgb, side, side);
    free(rgb);
    return out;
}

static void *zeros(size_t n, size_t size)
{
    void *p = calloc(n, size);
    assert_non_null(p);
    return p;
}

static sm_colour colour_of(J_COLOR_SPACE space)
{
    return space == JCS_YCbCr ? SM_COLOUR_YCBCR : SM_COLOUR_RGB;
}

/* Everything but the sm_retile. */
static void world_begin(world *w, uint32_t width, uint32_t height, uint32_t from, uint32_t to)
{
    sm_error err = SM_ERROR_INIT;
    pthread_mutex_init(&w->lock, NULL);
    w->fake = sm_fake_new();
    memcpy(w->fake->slide.info.background, BACKGROUND, 3);
    sm_level *l = sm_fake_add(w->fake, width, height, from, from);
    w->level = l;
    l->jpeg = (sm_jpeg_traits){
        colour_of(w->recipe.space), (uint8_t)w->recipe.h, (uint8_t)w->recipe.v, 3, true, 0};
    if (!w->recipe.tables) {
        w->tables = sm_recipe_tables(&w->recipe);
        l->jpeg_tables = w->tables.data;
        l->jpeg_tables_len = w->tables.len;
    }
    w->n_tiles = l->cols * l->rows;
    w->tiles = zeros(w->n_tiles, sizeof *w->tiles);
    for (uint32_t t = 0; t < w->n_tiles; t++)
        w->tiles[t] = make_tile(&w->recipe, from, t);
    const sm_plan_options o = {
        .quality = 75, .levels = SM_LEVELS_SOURCE, .tiles = SM_TILES_RETILE, .tile_px = to};
    SM_CHECK_OK(sm_plan_make(&w->fake->slide, &o, &w->plan, &err), &err);
    if (w->plan.out[0].how != SM_HOW_RETILED)
        fail_msg("%s: %s: %s", w->name, sm_how_name(w->plan.out[0].how), w->plan.out[0].why);
    w->n_out = (uint32_t)sm_grid_tiles(w->plan.out[0].grid);
    w->out = zeros(w->n_out, sizeof *w->out);
    w->out_seq = zeros(w->n_out, sizeof *w->out_seq);
    w->handed = zeros(w->n_out, sizeof *w->handed);
    w->order = zeros(w->n_tiles, sizeof *w->order);
    sm_random r = {width * 7 + height};
    sm_random_order(&r, w->order, w->n_tiles);
}

static sm_status retile_new(world *w, sm_error *err)
{
    return sm_retile_new(&w->fake->slide, &w->plan, 0, w->tiles[0].data, w->tiles[0].len, on_tile,
                         w, &w->retile, err);
}

static sm_retile_worker *worker_new(world *w, unsigned worker)
{
    sm_error err = SM_ERROR_INIT;
    sm_retile_worker *k = NULL;
    SM_CHECK_OK(sm_retile_worker_new(w->retile, worker, &k, &err), &err);
    return k;
}

static void world_end(world *w)
{
    sm_retile_free(&w->retile);
    for (uint32_t t = 0; t < w->n_tiles; t++)
        sm_buf_free(&w->tiles[t]);
    for (uint32_t t = 0; t < w->n_out; t++)
        sm_buf_free(&w->out[t]);
    sm_buf_free(&w->tables);
    sm_buf_free(&w->out_tables);
    free(w->tiles);
    free(w->out);
    free(w->out_seq);
    free(w->handed);
    free(w->order);
    sm_fake_free(&w->fake);
    pthread_mutex_destroy(&w->lock);
}

/* A level of four tiles of 240 px to be joined in one of 512, and a worker. */
static sm_retile_worker *small(world *w)
{
    sm_error err = SM_ERROR_INIT;
    world_begin(w, 480, 480, 240, 512);
    SM_CHECK_OK(retile_new(w, &err), &err);
    return worker_new(w, 0);
}

/* ---- retiling ---- */

typedef struct mover {
    world *w;
    sm_retile_worker *worker;
    sm_decoder *decoder;
    pthread_t thread;
} mover;

/* The scaled IDCT gives the same pixels whoever calls it. */
static sm_status check_half(const mover *m, uint32_t tile, const uint8_t *half, sm_error *err)
{
    world *w = m->w;
    const size_t stride = 3 * (size_t)w->level->tile_w_px / 2;
    uint8_t *want = malloc(stride * w->level->tile_h_px / 2);
    if (want == NULL)
        abort();
    const sm_status st = sm_decoder_tile(m->decoder, w->tiles[tile].data, w->tiles[tile].len, NULL,
                                         tile, 2, want, stride, err);
    if (st == SM_OK && memcmp(half, want, stride * w->level->tile_h_px / 2) != 0)
        mistake(w, "half-size pixels are not the decoder's", tile);
    free(want);
    return st;
}

static void move_one(const mover *m, uint32_t seq, uint8_t *half)
{
    world *w = m->w;
    sm_error err = SM_ERROR_INIT;
    const uint32_t tile = w->order[seq];
    sm_status st = sm_retile_decode(m->worker, w->tiles[tile].data, w->tiles[tile].len, half,
                                    3 * (size_t)w->level->tile_w_px / 2, &err);
    if (st == SM_OK && half != NULL)
        st = check_half(m, tile, half, &err);
    if (st == SM_OK)
        st = sm_retile_move(m->worker, tile, seq, &err);
    if (st != SM_OK)
        mistake(w, err.message, tile);
}

static void *move_tiles(void *arg)
{
    const mover *m = arg;
    world *w = m->w;
    uint8_t *half = malloc(3 * (size_t)w->level->tile_w_px * w->level->tile_h_px / 4);
    if (half == NULL)
        abort();
    for (uint32_t i; (i = atomic_fetch_add(&w->next, 1)) < w->n_tiles;)
        move_one(m, i, w->halves && i % 3 != 0 ? half : NULL);
    free(half);
    return NULL;
}

static void move_all(world *w, unsigned threads)
{
    sm_error err = SM_ERROR_INIT;
    mover movers[MAX_THREADS];
    SM_CHECK_OK(retile_new(w, &err), &err);
    SM_CHECK_OK(sm_retile_tables(w->retile, &w->out_tables, &err), &err);
    for (unsigned t = 0; t < threads; t++) {
        movers[t] = (mover){.w = w, .worker = worker_new(w, t)};
        SM_CHECK_OK(sm_decoder_open(&w->fake->slide, 0, &movers[t].decoder, &err), &err);
        assert_int_equal(pthread_create(&movers[t].thread, NULL, move_tiles, &movers[t]), 0);
    }
    for (unsigned t = 0; t < threads; t++) {
        pthread_join(movers[t].thread, NULL);
        sm_retile_worker_free(&movers[t].worker);
        sm_decoder_close(&movers[t].decoder);
    }
}

/* ---- what is expected ---- */

/* One component of an output tile: block by block where it came from. */
static void check_blocks(const world *w, uint32_t out_tile, const sm_coefs *got,
                         const sm_coefs *source, size_t c, uint64_t *seq)
{
    const sm_out_level *o = &w->plan.out[0];
    const uint32_t src_w = source[0].w[c], src_h = source[0].h[c];
    const uint32_t x0 = out_tile % o->grid.cols * got->w[c],
                   y0 = out_tile / o->grid.cols * got->h[c];
    for (uint32_t y = 0; y < got->h[c]; y++) {
        for (uint32_t x = 0; x < got->w[c]; x++) {
            const uint32_t col = (x0 + x) / src_w, row = (y0 + y) / src_h;
            if (col >= w->level->cols || row >= w->level->rows)
                continue;
            const uint32_t tile = row * w->level->cols + col;
            const JCOEF *want =
                sm_coefs_block(&source[tile], c, (x0 + x) % src_w, (y0 + y) % src_h);
            if (memcmp(sm_coefs_block(got, c, x, y), want, sizeof(JBLOCK)) != 0)
                fail_msg("%s: output tile %u, component %zu, block %u,%u is not that of tile %u",
                         w->name, out_tile, c, x, y, tile);
            for (uint32_t i = 0; i < w->n_tiles; i++)
                if (w->order[i] == tile && *seq < i)
                    *seq = i;
        }
    }
}

/* Beyond the source's tiles there is the background colour. */
static void check_background(const world *w, uint32_t out_tile)
{
    const sm_out_level *o = &w->plan.out[0];
    uint32_t width = 0, height = 0;
    uint8_t *rgb =
        sm_jpeg_pixels(&w->out_tables, &w->out[out_tile], w->recipe.space, &width, &height);
    assert_int_equal(width, o->tile_w_px);
    assert_int_equal(height, o->tile_h_px);
    const uint32_t end_x = w->level->cols * w->level->tile_w_px;
    const uint32_t end_y = w->level->rows * w->level->tile_h_px;
    const uint32_t x0 = out_tile % o->grid.cols * width, y0 = out_tile / o->grid.cols * height;
    for (uint32_t y = 0; y < height; y++)
        for (uint32_t x = 0; x < width; x++) {
            /* chroma of the first pixel beyond an edge is interpolated with what is before it */
            if (x0 + x < end_x + 1 && y0 + y < end_y + 1)
                continue;
            for (size_t c = 0; c < 3; c++)
                if (abs(rgb[3 * ((size_t)y * width + x) + c] - BACKGROUND[c]) > 2)
                    fail_msg("%s: output tile %u, pixel %u,%u is %u, not the background", w->name,
                             out_tile, x, y, rgb[3 * ((size_t)y * width + x) + c]);
        }
    free(rgb);
}

static void check_all(const world *w)
{
    if (w->mistake[0] != '\0')
        fail_msg("%s", w->mistake);
    sm_coefs *source = zeros(w->n_tiles, sizeof *source);
    for (uint32_t t = 0; t < w->n_tiles; t++)
        source[t] = sm_coefs_read(&w->tables, &w->tiles[t]);
    for (uint32_t t = 0; t < w->n_out; t++) {
        if (w->handed[t] != 1)
            fail_msg("%s: output tile %u was handed out %u times", w->name, t, w->handed[t]);
        sm_coefs got = sm_coefs_read(&w->out_tables, &w->out[t]);
        uint64_t seq = 0;
        for (size_t c = 0; c < 3; c++) {
            assert_memory_equal(got.quant[c], source[0].quant[c], sizeof got.quant[c]);
            check_blocks(w, t, &got, source, c, &seq);
        }
        if (w->out_seq[t] != seq)
            fail_msg("%s: output tile %u has seq %llu, not %llu", w->name, t,
                     (unsigned long long)w->out_seq[t], (unsigned long long)seq);
        sm_coefs_free(&got);
        check_background(w, t);
    }
    for (uint32_t t = 0; t < w->n_tiles; t++)
        sm_coefs_free(&source[t]);
    free(source);
}

static void play(const char *name, const sm_recipe *recipe, uint32_t width, uint32_t height,
                 uint32_t from, uint32_t to, unsigned threads)
{
    char text[128];
    snprintf(text, sizeof text, "%s, %ux%u px, %u to %u, %u threads", name, width, height, from, to,
             threads);
    world w = {.name = text, .recipe = *recipe, .halves = true};
    world_begin(&w, width, height, from, to);
    move_all(&w, threads);
    check_all(&w);
    world_end(&w);
}

/* ---- tests ---- */

static const struct {
    const char *name;
    sm_recipe recipe;
} KINDS[] = {
    {"RGB 4:4:4", {.space = JCS_RGB, .h = 1, .v = 1, .quality = 90}},
    {"YCbCr 4:4:4", {YCC(1, 1, 90)}},
    {"YCbCr 4:2:2", {YCC(2, 1, 90)}},
    {"YCbCr 4:2:0", {YCC(2, 2, 90)}},
};

static const sm_recipe *const YCC_420 = &KINDS[3].recipe;

static void every_coefficient_finds_its_place(void **state)
{
    (void)state;
    static const struct {
        uint32_t w, h, from, to;
    } cases[] = {
        {719, 503, 240, 256}, {960, 481, 240, 512}, {1023, 257, 256, 512}, {1, 1, 240, 256},
        {1, 1, 256, 512},     {37, 1, 240, 512},    {1, 241, 240, 256},    {240, 240, 240, 256},
        {256, 256, 240, 256}, {512, 512, 256, 512}, {513, 512, 256, 512},  {300, 300, 512, 256},
        {100, 300, 240, 48},
    };
    for (size_t k = 0; k < SM_COUNT(KINDS); k++)
        for (size_t i = 0; i < SM_COUNT(cases); i++)
            play(KINDS[k].name, &KINDS[k].recipe, cases[i].w, cases[i].h, cases[i].from,
                 cases[i].to, 1);
}

static void threads_change_nothing(void **state)
{
    (void)state;
    for (unsigned threads = 2; threads <= MAX_THREADS; threads += 3) {
        play("4:2:0", YCC_420, 1200, 1100, 240, 256, threads);
        play("RGB", &KINDS[0].recipe, 1000, 900, 240, 512, threads);
    }
}

static void ways_to_code_a_tile_do_not_matter(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        sm_recipe recipe;
    } cases[] = {
        {"tables in each tile", {YCC(2, 2, 75), .tables = true}},
        {"optimised tables in each tile", {YCC(2, 1, 75), .tables = true, .optimise = true}},
        {"a scan for each colour", {YCC(2, 2, 75), .tables = true, .separate = true}},
        {"restart markers", {YCC(1, 1, 75), .tables = true, .restart = 5}},
        {"three quantisation tables", {YCC(1, 1, 75), .third_table = true}},
        {"4:4:0", {YCC(1, 2, 75)}},
        {"RGB of which green and blue are halved",
         {.space = JCS_RGB, .h = 2, .v = 2, .quality = 75}},
        {"quality 100", {YCC(2, 2, 100)}},
        {"quality 40", {.space = JCS_RGB, .h = 1, .v = 1, .quality = 40}},
    };
    for (size_t i = 0; i < SM_COUNT(cases); i++)
        play(cases[i].name, &cases[i].recipe, 480, 300, 240, 256, 1);
}

static void a_missing_tile_is_background(void **state)
{
    (void)state;
    for (size_t k = 0; k < SM_COUNT(KINDS); k++) {
        world w = {.name = KINDS[k].name, .recipe = KINDS[k].recipe};
        sm_error err = SM_ERROR_INIT;
        sm_retile_worker *worker = small(&w);
        SM_CHECK_OK(sm_retile_tables(w.retile, &w.out_tables, &err), &err);
        for (uint32_t t = 0; t < 4; t++) {
            if (t != 3) {
                SM_CHECK_OK(sm_retile_fill(worker, t, t, &err), &err);
                continue;
            }
            SM_CHECK_OK(sm_retile_decode(worker, w.tiles[t].data, w.tiles[t].len, NULL, 0, &err),
                        &err);
            SM_CHECK_OK(sm_retile_move(worker, t, t, &err), &err);
        }
        assert_int_equal(w.handed[0], 1);
        assert_int_equal(w.out_seq[0], 3);
        uint32_t width = 0, height = 0;
        uint8_t *rgb = sm_jpeg_pixels(&w.out_tables, &w.out[0], w.recipe.space, &width, &height);
        for (uint32_t y = 0; y < 512; y++)
            for (uint32_t x = 0; x < 512; x++)
                for (size_t c = 0; c < 3; c++)
                    if ((x < 239 || y < 239 || x > 480 || y > 480) &&
                        abs(rgb[3 * ((size_t)y * 512 + x) + c] - BACKGROUND[c]) > 2)
                        fail_msg("%s: pixel %u,%u", w.name, x, y);
        free(rgb);
        sm_retile_worker_free(&worker);
        assert_null(worker);
        sm_retile_worker_free(&worker);
        world_end(&w);
    }
}

/* The tile of another recipe or size in the place of one of the level's. */
typedef struct intruder {
    const char *name;
    sm_recipe recipe;
    uint32_t side;
    sm_status want;
    const char *text;
} intruder;

static void tiles_that_do_not_belong_are_refused(void **state)
{
    (void)state;
    static const intruder cases[] = {
        {"another quality", {YCC(2, 2, 91), .tables = true}, 240, SM_ERR_FORMAT, "quantisation"},
        {"another Cr",
         {YCC(2, 2, 90), .tables = true, .third_table = true},
         240,
         SM_ERR_FORMAT,
         "quantisation"},
        {"4:2:2", {YCC(2, 1, 90), .tables = true}, 240, SM_ERR_FORMAT, "chroma subsampling"},
        {"4:4:4", {YCC(1, 1, 90), .tables = true}, 240, SM_ERR_FORMAT, "chroma subsampling"},
        {"progressive",
         {YCC(2, 2, 90), .tables = true, .progressive = true},
         240,
         SM_ERR_FORMAT,
         "not a baseline"},
        {"grey",
         {.space = JCS_GRAYSCALE, .h = 1, .v = 1, .quality = 90, .tables = true},
         240,
         SM_ERR_FORMAT,
         "three colours"},
        {"a smaller image",
         {YCC(2, 2, 90), .tables = true},
         224,
         SM_ERR_CORRUPT,
         "224 x 224 px in"},
        {"a larger image", {YCC(2, 2, 90), .tables = true}, 256, SM_ERR_CORRUPT, "256 x 256 px in"},
    };
    world w = {.name = "intruders", .recipe = *YCC_420};
    sm_retile_worker *worker = small(&w);
    for (size_t i = 0; i < SM_COUNT(cases); i++) {
        sm_error err = SM_ERROR_INIT;
        uint8_t half[120 * 120 * 3];
        sm_buf tile = make_tile(&cases[i].recipe, cases[i].side, i);
        for (int k = 0; k < 2; k++) {
            const sm_status st =
                sm_retile_decode(worker, tile.data, tile.len, k == 0 ? NULL : half, 360, &err);
            if (st != cases[i].want || strstr(err.message, cases[i].text) == NULL)
                fail_msg("%s: %s: %s", cases[i].name, sm_status_name(st), err.message);
        }
        sm_buf_free(&tile);
        /* and the worker goes on as if nothing had happened */
        SM_CHECK_OK(sm_retile_decode(worker, w.tiles[0].data, w.tiles[0].len, half, 360, &err),
                    &err);
    }
    sm_retile_worker_free(&worker);
    world_end(&w);
}

/* ---- hostile bytes ---- */

static size_t find_marker(const sm_buf *b, uint8_t marker)
{
    const uint8_t what[2] = {0xFF, marker};
    const uint8_t *at = memmem(b->data, b->len, what, 2);
    assert_non_null(at);
    return (size_t)(at - b->data);
}

static void damage_is_corrupt_and_does_no_harm(void **state)
{
    (void)state;
    world w = {.name = "damage", .recipe = *YCC_420};
    sm_retile_worker *worker = small(&w);
    sm_random r = {61};
    uint8_t half[120 * 120 * 3];
    for (unsigned i = 0; i < 600; i++) {
        sm_error err = SM_ERROR_INIT;
        const sm_buf *tile = &w.tiles[1];
        const size_t len = i % 3 == 0 ? sm_random_below(&r, (uint32_t)tile->len) : tile->len;
        uint8_t *bytes = malloc(len + 1); /* a sanitizer sees its end */
        assert_non_null(bytes);
        memcpy(bytes, tile->data, len);
        for (unsigned k = 0; k < i % 3 && len > 0; k++)
            bytes[sm_random_below(&r, k == 0 ? 700 : (uint32_t)len)] ^=
                (uint8_t)(1u << sm_random_below(&r, 8));
        const sm_status st =
            sm_retile_decode(worker, bytes, len, i % 2 == 0 ? NULL : half, 360, &err);
        if (i % 3 == 0 && st != SM_ERR_CORRUPT)
            fail_msg("%zu of %zu bytes: %s %s", len, tile->len, sm_status_name(st), err.message);
        if (st != SM_OK && st != SM_ERR_CORRUPT && st != SM_ERR_FORMAT)
            fail_msg("case %u: %s %s", i, sm_status_name(st), err.message);
        free(bytes);
    }
    sm_retile_worker_free(&worker);
    world_end(&w);
}

static void a_table_number_beyond_the_tables_is_refused(void **state)
{
    (void)state;
    world w = {.name = "table number", .recipe = *YCC_420};
    sm_retile_worker *worker = small(&w);
    static const uint8_t NUMBERS[] = {3, 4, 5, 100, 255};
    for (size_t i = 0; i < SM_COUNT(NUMBERS); i++) {
        sm_error err = SM_ERROR_INIT;
        sm_buf *tile = &w.tiles[2];
        tile->data[find_marker(tile, 0xC0) + 10 + 3 * (i % 3) + 2] = NUMBERS[i];
        sm_status st = sm_retile_decode(worker, tile->data, tile->len, NULL, 0, &err);
        if (st != SM_ERR_CORRUPT && st != SM_ERR_FORMAT)
            fail_msg("table %u: %s %s", NUMBERS[i], sm_status_name(st), err.message);
        sm_retile *other = NULL;
        st = sm_retile_new(&w.fake->slide, &w.plan, 0, tile->data, tile->len, on_tile, &w, &other,
                           &err);
        if (st != SM_ERR_CORRUPT && st != SM_ERR_FORMAT)
            fail_msg("first tile, table %u: %s %s", NUMBERS[i], sm_status_name(st), err.message);
        assert_null(other);
    }
    sm_retile_worker_free(&worker);
    world_end(&w);
}

/* Cut the segments with this marker out of a stream. */
static void drop_segments(sm_buf *b, uint8_t marker)
{
    for (;;) {
        const uint8_t what[2] = {0xFF, marker};
        uint8_t *at = memmem(b->data, b->len, what, 2);
        if (at == NULL)
            return;
        const size_t n = 2 + ((size_t)at[2] << 8 | at[3]), rest = b->len - (size_t)(at - b->data);
        memmove(at, at + n, rest - n);
        b->len -= n;
    }
}

/* Else the output would depend on which thread took which tile. */
static void what_a_tile_is_does_not_depend_on_the_one_before(void **state)
{
    (void)state;
    static const uint8_t MARKERS[] = {0xC4, 0xDB};
    for (size_t i = 0; i < SM_COUNT(MARKERS); i++) {
        world w = {.name = "no tables",
                   .recipe = {YCC(2, 2, 75), .tables = true, .optimise = true}};
        sm_error err = SM_ERROR_INIT;
        sm_retile_worker *used = small(&w), *fresh = worker_new(&w, 1);
        sm_buf *bare = &w.tiles[1];
        drop_segments(bare, MARKERS[i]);
        SM_CHECK_OK(sm_retile_decode(used, w.tiles[0].data, w.tiles[0].len, NULL, 0, &err), &err);
        const sm_status after = sm_retile_decode(used, bare->data, bare->len, NULL, 0, &err);
        const sm_status alone = sm_retile_decode(fresh, bare->data, bare->len, NULL, 0, &err);
        if (after != alone || alone == SM_OK)
            fail_msg("without marker %02X: %s at first, %s after another tile", MARKERS[i],
                     sm_status_name(alone), sm_status_name(after));
        sm_retile_worker_free(&used);
        sm_retile_worker_free(&fresh);
        world_end(&w);
    }
}

/* A stream of 240 x 240 px, 4:2:0, whose coefficients are set by hand. */
static sm_buf make_by_hand(const sm_recipe *recipe, void (*set)(JCOEF *block, uint32_t x, size_t c))
{
    struct jpeg_compress_struct c;
    struct jpeg_error_mgr mgr;
    unsigned char *bytes = NULL;
    unsigned long n = 0;
    jvirt_barray_ptr arrays[3];
    c.err = jpeg_std_error(&mgr);
    jpeg_create_compress(&c);
    jpeg_mem_dest(&c, &bytes, &n);
    sm_recipe_set(recipe, &c, 240, 240);
    for (size_t k = 0; k < 3; k++)
        arrays[k] = c.mem->request_virt_barray((j_common_ptr)&c, JPOOL_IMAGE, TRUE,
                                               k == 0 ? 30 : 15, k == 0 ? 30 : 15, k == 0 ? 2 : 1);
    for (size_t t = 0; t < 2; t++) /* a code for 11 bits after 14 zeros, in place of 10 */
        *(UINT8 *)memchr(c.ac_huff_tbl_ptrs[t]->huffval, 0xEA, 162) = 0xEB;
    jpeg_write_coefficients(&c, arrays);
    for (size_t k = 0; k < 3; k++)
        for (uint32_t y = 0; y < (k == 0 ? 30u : 15u); y++) {
            JBLOCKARRAY row = c.mem->access_virt_barray((j_common_ptr)&c, arrays[k], y, 1, TRUE);
            for (uint32_t x = 0; x < (k == 0 ? 30u : 15u); x++)
                set(row[0][x], x, k);
        }
    jpeg_finish_compress(&c);
    jpeg_destroy_compress(&c);
    return sm_jpeg_bytes(bytes, n);
}

/* Differences that fit a code add up to values whose difference from 0 does not. */
static void steep_dc(JCOEF *block, uint32_t x, size_t c)
{
    if (c == 0)
        block[0] = (JCOEF)(x < 15 ? 2000 * x : 2000 * (29 - x));
}

static void low_dc(JCOEF *block, uint32_t x, size_t c)
{
    block[0] = (JCOEF)(c == 2 && x == 14 ? -1025 : 0);
}

static void eleven_bits(JCOEF *block, uint32_t x, size_t c)
{
    block[63] = (JCOEF)(c == 1 && x == 3 ? 1024 : 0);
}

static void largest_legal(JCOEF *block, uint32_t x, size_t c)
{
    block[0] = x % 2 == 0 ? 1023 : -1024;
    for (size_t i = 1; i < DCTSIZE2; i++)
        block[i] = (i + c) % 2 == 0 ? 1023 : -1023;
}

/* Move four such tiles into one of 256, 240 to 256 cutting through their blocks. */
static sm_status move_by_hand(world *w, void (*set)(JCOEF *, uint32_t, size_t), sm_error *err)
{
    world_begin(w, 480, 480, 240, 256);
    for (uint32_t t = 0; t < 4; t++) {
        sm_buf_free(&w->tiles[t]);
        w->tiles[t] = make_by_hand(&w->recipe, set);
        w->order[t] = t;
    }
    SM_CHECK_OK(retile_new(w, err), err);
    SM_CHECK_OK(sm_retile_tables(w->retile, &w->out_tables, err), err);
    sm_retile_worker *worker = worker_new(w, 0);
    sm_status st = SM_OK;
    for (uint32_t t = 0; t < 4 && st == SM_OK; t++) {
        st = sm_retile_decode(worker, w->tiles[t].data, w->tiles[t].len, NULL, 0, err);
        if (st == SM_OK)
            st = sm_retile_move(worker, t, t, err);
    }
    sm_retile_worker_free(&worker);
    return st;
}

static void the_largest_coefficients_survive(void **state)
{
    (void)state;
    world w = {.name = "largest", .recipe = *YCC_420};
    sm_error err = SM_ERROR_INIT;
    SM_CHECK_OK(move_by_hand(&w, largest_legal, &err), &err);
    sm_coefs source = sm_coefs_read(&w.tables, &w.tiles[0]);
    sm_coefs got = sm_coefs_read(&w.out_tables, &w.out[0]);
    for (size_t c = 0; c < 3; c++)
        assert_memory_equal(got.blocks[c][0], source.blocks[c][0], sizeof(JBLOCK) * 8);
    sm_coefs_free(&source);
    sm_coefs_free(&got);
    world_end(&w);
}

/* They decode, and libjpeg would code them to nonsense without a word. */
static void coefficients_that_cannot_be_coded_again_make_a_level_unfit(void **state)
{
    (void)state;
    static void (*const SETS[])(JCOEF *, uint32_t, size_t) = {steep_dc, low_dc, eleven_bits};
    for (size_t i = 0; i < SM_COUNT(SETS); i++) {
        world w = {.name = "steep", .recipe = *YCC_420};
        sm_error err = SM_ERROR_INIT;
        SM_CHECK_FAILS(move_by_hand(&w, SETS[i], &err), &err, SM_ERR_FORMAT,
                       "standard Huffman tables");
        world_end(&w);
    }
}

static void a_first_tile_that_does_not_fit_is_refused(void **state)
{
    (void)state;
    static const intruder cases[] = {
        {"4:4:4", {YCC(1, 1, 90), .tables = true}, 240, SM_ERR_FORMAT, "chroma subsampling"},
        {"progressive",
         {YCC(2, 2, 90), .tables = true, .progressive = true},
         240,
         SM_ERR_FORMAT,
         "not a baseline"},
    };
    world w = {.name = "first tile", .recipe = *YCC_420};
    world_begin(&w, 480, 480, 240, 512);
    sm_error err = SM_ERROR_INIT;
    for (size_t i = 0; i < SM_COUNT(cases); i++) {
        sm_buf tile = make_tile(&cases[i].recipe, cases[i].side, i);
        SM_CHECK_FAILS(sm_retile_new(&w.fake->slide, &w.plan, 0, tile.data, tile.len, on_tile, &w,
                                     &w.retile, &err),
                       &err, cases[i].want, cases[i].text);
        assert_null(w.retile);
        sm_buf_free(&tile);
    }
    SM_CHECK_FAILS(sm_retile_new(&w.fake->slide, &w.plan, 0, (const uint8_t *)"GIF89a", 6, on_tile,
                                 &w, &w.retile, &err),
                   &err, SM_ERR_CORRUPT, "JPEG");
    assert_null(w.retile);
    world_end(&w);
}

static sm_status retile_all(world *w, sm_error *err)
{
    sm_retile_worker *worker = NULL;
    sm_buf tables = {0};
    uint8_t half[120 * 120 * 3];
    sm_status st = retile_new(w, err);
    if (st == SM_OK)
        st = sm_retile_tables(w->retile, &tables, err);
    if (st == SM_OK)
        st = sm_retile_worker_new(w->retile, 0, &worker, err);
    for (uint32_t t = 0; t < w->n_tiles && st == SM_OK; t++) {
        st = sm_retile_decode(worker, w->tiles[t].data, w->tiles[t].len, half, 360, err);
        if (st == SM_OK)
            st = sm_retile_move(worker, t, t, err);
    }
    sm_retile_worker_free(&worker);
    sm_retile_free(&w->retile);
    sm_buf_free(&tables);
    for (uint32_t t = 0; t < w->n_out; t++) {
        sm_buf_free(&w->out[t]);
        atomic_store(&w->handed[t], 0);
    }
    return st;
}

static void every_failed_allocation_is_reported(void **state)
{
    (void)state;
    world w = {.name = "memory", .recipe = *YCC_420};
    world_begin(&w, 480, 240, 240, 256);
    long n = 0;
    for (sm_status st = SM_ERR_NOMEM; st != SM_OK; n++) {
        sm_error err = SM_ERROR_INIT;
        sm_alloc_fail_after(n);
        st = retile_all(&w, &err);
        sm_alloc_fail_after(-1);
        if (st != SM_OK && st != SM_ERR_NOMEM)
            fail_msg("allocation %ld: %s %s", n, sm_status_name(st), err.message);
    }
    assert_true(n > 6);
    world_end(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_coefficient_finds_its_place),
        cmocka_unit_test(threads_change_nothing),
        cmocka_unit_test(ways_to_code_a_tile_do_not_matter),
        cmocka_unit_test(a_missing_tile_is_background),
        cmocka_unit_test(tiles_that_do_not_belong_are_refused),
        cmocka_unit_test(damage_is_corrupt_and_does_no_harm),
        cmocka_unit_test(a_table_number_beyond_the_tables_is_refused),
        cmocka_unit_test(what_a_tile_is_does_not_depend_on_the_one_before),
        cmocka_unit_test(the_largest_coefficients_survive),
        cmocka_unit_test(coefficients_that_cannot_be_coded_again_make_a_level_unfit),
        cmocka_unit_test(a_first_tile_that_does_not_fit_is_refused),
        cmocka_unit_test(every_failed_allocation_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
