/* Tests of tiler/order.c: which unit completes which output tiles, against geometry worked out the
 * other way round, from each output tile to the source tiles under it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/buf.h"
#include "tests/support/check.h"
#include "tests/support/fake_slide.h"
#include "tests/support/random.h"
#include "tiler/order.h"

/* Where each unit stands: seq[level][tile]. */
typedef struct positions {
    uint64_t *seq[SM_MAX_LEVELS];
} positions;

static positions positions_of(const sm_slide *slide, const sm_plan *plan, const sm_order *order)
{
    positions p = {0};
    uint64_t n = 0;
    for (uint32_t s = 0; s < plan->n_sources; s++) {
        const sm_level *l = sm_slide_level(slide, s);
        const uint64_t tiles = plan->use[s].used ? (uint64_t)l->cols * l->rows : 0;
        n += tiles;
        p.seq[s] = malloc((tiles + 1) * sizeof(uint64_t));
        assert_non_null(p.seq[s]);
        memset(p.seq[s], 0xFF, (tiles + 1) * sizeof(uint64_t));
    }
    if (n != order->n)
        fail_msg("%llu units of %llu tiles", (unsigned long long)order->n, (unsigned long long)n);
    for (uint64_t i = 0; i < n; i++) {
        const sm_unit u = order->units[i];
        const sm_level *l = sm_slide_level(slide, u.level);
        if (!plan->use[u.level].used || u.tile >= (uint64_t)l->cols * l->rows ||
            p.seq[u.level][u.tile] != UINT64_MAX)
            fail_msg("unit %llu (level %u, tile %u) is there twice, or of no use",
                     (unsigned long long)i, u.level, u.tile);
        p.seq[u.level][u.tile] = i;
    }
    return p;
}

static void positions_free(positions *p)
{
    for (size_t s = 0; s < SM_MAX_LEVELS; s++)
        free(p->seq[s]);
}

/* A grid of tiles and the unit that completes each of them. */
typedef struct layer {
    uint32_t w, h, tile_w, tile_h;
    uint64_t *done; /* by tile */
} layer;

/* What is expected of each unit. */
typedef struct expectation {
    uint32_t *n_outputs;
    uint64_t *begun, *ended; /* bytes of tiles whose first or last piece is this unit */
} expectation;

/* First and last unit that complete a tile of `from` with pixels in the rectangle. */
static void contributors(const layer *from, sm_rect r, uint64_t *first, uint64_t *last)
{
    const uint32_t cols = sm_ceil_div_u32(from->w, from->tile_w);
    *first = UINT64_MAX;
    *last = 0;
    for (uint32_t y = r.y / from->tile_h; y <= (r.y + r.h - 1) / from->tile_h; y++)
        for (uint32_t x = r.x / from->tile_w; x <= (r.x + r.w - 1) / from->tile_w; x++) {
            const uint64_t at = from->done[(uint64_t)y * cols + x];
            *first = at < *first ? at : *first;
            *last = at > *last ? at : *last;
        }
}

/* The tiles of `to`, of which each pixel is `step` x `step` pixels (1 or 2) of `from`. */
static void derive(expectation *e, const layer *from, layer *to, uint32_t step, uint64_t bytes,
                   bool output)
{
    uint64_t n = 0;
    to->done =
        malloc(sm_grid_tiles(sm_grid_for(to->w, to->h, to->tile_w, to->tile_h)) * sizeof(uint64_t));
    assert_non_null(to->done);
    for (uint32_t y = 0; y < to->h; y += to->tile_h)
        for (uint32_t x = 0; x < to->w; x += to->tile_w, n++) {
            const uint32_t x1 = sm_min_u32(step * (x + sm_min_u32(to->tile_w, to->w - x)), from->w);
            const uint32_t y1 = sm_min_u32(step * (y + sm_min_u32(to->tile_h, to->h - y)), from->h);
            const sm_rect r = {step * x, step * y, x1 - step * x, y1 - step * y};
            uint64_t first = 0;
            contributors(from, r, &first, &to->done[n]);
            e->begun[first] += bytes;
            e->ended[to->done[n]] += bytes;
            e->n_outputs[to->done[n]] += output;
        }
}

/* The stage that starts at a source level, and all below it. */
static void expect_stages(expectation *e, const sm_plan *plan, const layer *source, uint32_t stage,
                          uint32_t step)
{
    layer from = *source;
    for (; stage != SM_NO_STAGE; stage = plan->stages[stage].child, step = 2) {
        layer to = {plan->stages[stage].w_px, plan->stages[stage].h_px, plan->tile_px,
                    plan->tile_px, NULL};
        derive(e, &from, &to, step, 3 * (uint64_t)plan->tile_px * plan->tile_px,
               plan->stage_out[stage] != SM_NO_LEVEL);
        if (from.done != source->done)
            free(from.done);
        from = to;
    }
    if (from.done != source->done)
        free(from.done);
}

static void expect_source(expectation *e, const sm_plan *plan, const sm_level *l, uint64_t *seq,
                          const sm_source_use *use)
{
    const layer source = {l->w_px, l->h_px, l->tile_w_px, l->tile_h_px, seq};
    if (use->copy_to != SM_NO_LEVEL)
        for (uint64_t t = 0; t < (uint64_t)l->cols * l->rows; t++)
            e->n_outputs[seq[t]]++;
    if (use->retile_to != SM_NO_LEVEL) {
        /* all that the source's whole tiles cover and the output's can hold */
        const sm_out_level *o = &plan->out[use->retile_to];
        layer whole = source;
        whole.w = l->cols * l->tile_w_px;
        whole.h = l->rows * l->tile_h_px;
        layer to = {sm_min_u32(whole.w, o->grid.cols * o->tile_w_px),
                    sm_min_u32(whole.h, o->grid.rows * o->tile_h_px), o->tile_w_px, o->tile_h_px,
                    NULL};
        derive(e, &whole, &to, 1, sm_coef_tile_bytes(l, o), true);
        free(to.done);
    }
    expect_stages(e, plan, &source, use->full_stage, 1);
    expect_stages(e, plan, &source, use->half_stage, 2);
}

/* Tiles that wait between units need at least the memory that is claimed; and no more than if none
 * were released before the unit ends. */
static void check_peak(const char *name, const sm_order *order, const expectation *e)
{
    uint64_t live = 0, least = 0, most = 0;
    for (uint64_t i = 0; i < order->n; i++) {
        live += e->begun[i];
        most = live > most ? live : most;
        live -= e->ended[i];
        least = live > least ? live : least;
    }
    if (order->peak_bytes < least || order->peak_bytes > most)
        fail_msg("%s: peak %llu, not in %llu..%llu", name, (unsigned long long)order->peak_bytes,
                 (unsigned long long)least, (unsigned long long)most);
}

static void check_order(const char *name, const sm_slide *slide, const sm_plan *plan,
                        const sm_order *order)
{
    positions p = positions_of(slide, plan, order);
    expectation e = {.n_outputs = calloc(order->n, sizeof(uint32_t)),
                     .begun = calloc(order->n, sizeof(uint64_t)),
                     .ended = calloc(order->n, sizeof(uint64_t))};
    assert_true(e.n_outputs != NULL && e.begun != NULL && e.ended != NULL);
    for (uint32_t s = 0; s < plan->n_sources; s++)
        if (plan->use[s].used)
            expect_source(&e, plan, sm_slide_level(slide, s), p.seq[s], &plan->use[s]);
    uint64_t sum = 0, out = 0;
    for (uint64_t i = 0; i < order->n; i++) {
        sum += order->n_outputs[i];
        if (order->n_outputs[i] != e.n_outputs[i])
            fail_msg("%s: unit %llu completes %u tiles, not %u", name, (unsigned long long)i,
                     order->n_outputs[i], e.n_outputs[i]);
    }
    for (uint32_t i = 0; i < plan->n_out; i++)
        out += sm_grid_tiles(plan->out[i].grid);
    if (sum != out || order->n_out_tiles != out)
        fail_msg("%s: %llu of %llu output tiles", name, (unsigned long long)sum,
                 (unsigned long long)out);
    check_peak(name, order, &e);
    free(e.n_outputs);
    free(e.begun);
    free(e.ended);
    positions_free(&p);
}

/* Plan, order and check. */
static sm_order ordered(const char *name, const sm_fake_slide *fake, const sm_plan_options *o)
{
    sm_error err = SM_ERROR_INIT;
    sm_plan plan;
    sm_order order;
    SM_CHECK_OK(sm_plan_make(&fake->slide, o, &plan, &err), &err);
    SM_CHECK_OK(sm_order_make(&fake->slide, &plan, &order, &err), &err);
    check_order(name, &fake->slide, &plan, &order);
    return order;
}

static const sm_plan_options DYADIC = {.quality = 75, .levels = SM_LEVELS_DYADIC};

/* Lay the tiles of a level into the file in this order. */
static void lay(sm_fake_slide *fake, uint32_t level, const uint32_t *tiles)
{
    const sm_level *l = &fake->slide.levels[level];
    const uint64_t first = fake->offsets[level][0];
    for (uint32_t i = 0; i < l->cols * l->rows; i++)
        fake->offsets[level][tiles[i]] = first + (uint64_t)i * SM_FAKE_TILE_BYTES;
}

static void lay_by_column(sm_fake_slide *fake, uint32_t level)
{
    const sm_level *l = &fake->slide.levels[level];
    uint32_t *tiles = malloc(sizeof *tiles * l->cols * l->rows), n = 0;
    assert_non_null(tiles);
    for (uint32_t x = 0; x < l->cols; x++)
        for (uint32_t y = 0; y < l->rows; y++)
            tiles[n++] = y * l->cols + x;
    lay(fake, level, tiles);
    free(tiles);
}

static void lay_shuffled(sm_fake_slide *fake, uint32_t level, sm_random *random)
{
    const sm_level *l = &fake->slide.levels[level];
    uint32_t *tiles = malloc(sizeof *tiles * l->cols * l->rows);
    assert_non_null(tiles);
    sm_random_order(random, tiles, l->cols * l->rows);
    lay(fake, level, tiles);
    free(tiles);
}

/* ---- tests ---- */

static void a_tile_is_counted_where_its_last_piece_is(void **state)
{
    (void)state;
    sm_fake_slide *fake = sm_fake_new();
    sm_fake_add(fake, 512, 512, 256, 256);
    sm_order order = ordered("two by two", fake, &DYADIC);
    static const uint32_t WANT[] = {1, 1, 1, 2};
    assert_true(order.streamed);
    assert_int_equal(order.n, 4);
    assert_int_equal(order.n_out_tiles, 5);
    assert_memory_equal(order.n_outputs, WANT, sizeof WANT);
    assert_int_equal(order.peak_bytes, 3 * 256 * 256);
    sm_order_free(&order);
    assert_null(order.units);
    sm_fake_free(&fake);
}

/* 8 columns, 4 rows: by rows, half the made level's columns are open at once; by columns, half of
 * its rows. */
static void memory_follows_the_order_in_the_file(void **state)
{
    (void)state;
    enum { TILE = 3 * 256 * 256 };
    const sm_plan_options o = {.quality = 75, .levels = SM_LEVELS_DYADIC, .tile_px = 256};
    sm_fake_slide *fake = sm_fake_new();
    sm_fake_add(fake, 8 * 256, 4 * 256, 256, 256);
    sm_order order = ordered("by rows", fake, &o);
    assert_true(order.streamed);
    /* the last row of 4 open halves, a quarter that was begun by the first two, and their child */
    assert_in_range(order.peak_bytes, 4 * TILE, 7 * TILE);
    sm_order_free(&order);
    lay_by_column(fake, 0);
    order = ordered("by columns", fake, &o);
    assert_true(order.streamed);
    assert_int_equal(order.units[1].tile, 8);
    assert_in_range(order.peak_bytes, 2 * TILE, 5 * TILE);
    sm_order_free(&order);
    sm_fake_free(&fake);
}

static bool same_as_grid(const sm_order *order)
{
    for (uint64_t i = 1; i < order->n; i++) {
        const sm_unit a = order->units[i - 1], b = order->units[i];
        if (b.level < a.level || (b.level == a.level && b.tile != a.tile + 1))
            return false;
    }
    return true;
}

static void share_extent(sm_fake_slide *fake)
{
    fake->offsets[0][5] = fake->offsets[0][2];
}

static void overlap_extents(sm_fake_slide *fake)
{
    fake->lens[0][3] += 1;
}

static void overlap_levels(sm_fake_slide *fake)
{
    fake->offsets[1][0] = fake->offsets[0][7] + 1;
}

static void make_planar(sm_fake_slide *fake)
{
    fake->slide.levels[0].planar = true;
}

static void make_rendered(sm_fake_slide *fake)
{
    for (uint32_t i = 0; i < 2; i++) {
        fake->slide.levels[i].codec = SM_CODEC_RENDERED;
        fake->slide.levels[i].offsets = fake->slide.levels[i].lens = NULL;
    }
}

static void change_nothing(sm_fake_slide *fake)
{
    (void)fake;
}

static void drop_some(sm_fake_slide *fake)
{
    static const uint32_t GONE[] = {0, 5, 6, 15};
    for (size_t i = 0; i < SM_COUNT(GONE); i++)
        fake->offsets[0][GONE[i]] = fake->lens[0][GONE[i]] = 0;
    fake->slide.levels[0].n_missing = SM_COUNT(GONE);
}

static void drop_all(sm_fake_slide *fake)
{
    for (size_t i = 0; i < 16; i++)
        fake->offsets[0][i] = fake->lens[0][i] = 0;
    fake->slide.levels[0].n_missing = 16;
}

static void levels_swapped(sm_fake_slide *fake)
{
    for (size_t i = 0; i < 16; i++)
        fake->offsets[0][i] += 100 * SM_FAKE_TILE_BYTES;
}

static void reversed(sm_fake_slide *fake)
{
    uint32_t tiles[16];
    for (uint32_t i = 0; i < 16; i++)
        tiles[i] = 15 - i;
    lay(fake, 0, tiles);
}

static void one_pass_where_the_file_allows_it(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        void (*bend)(sm_fake_slide *fake);
        bool streamed, grid;
    } cases[] = {
        {"row by row", change_nothing, true, true},
        {"last tile first", reversed, true, false},
        {"level 1 before level 0", levels_swapped, true, false},
        {"missing tiles go with the one before", drop_some, true, true},
        {"all tiles missing", drop_all, true, true},
        {"two tiles share their bytes", share_extent, false, true},
        {"two tiles overlap", overlap_extents, false, true},
        {"tiles of two levels overlap", overlap_levels, false, true},
        {"separate planes", make_planar, false, true},
        {"rendered", make_rendered, false, true},
    };
    for (size_t i = 0; i < SM_COUNT(cases); i++) {
        const sm_plan_options o = {.quality = 75, .levels = SM_LEVELS_SOURCE};
        sm_fake_slide *fake = sm_fake_new();
        sm_fake_add(fake, 1000, 1000, 256, 256);
        sm_fake_add(fake, 500, 500, 256, 256);
        cases[i].bend(fake);
        sm_order order = ordered(cases[i].name, fake, &o);
        if (order.streamed != cases[i].streamed || same_as_grid(&order) != cases[i].grid)
            fail_msg("%s: streamed %d, grid order %d", cases[i].name, order.streamed,
                     same_as_grid(&order));
        sm_order_free(&order);
        sm_fake_free(&fake);
    }
}

/* A stream must meet the extents in ascending order; missing tiles are met anywhere. */
static void streamed_units_ascend_in_the_file(void **state)
{
    (void)state;
    sm_random random = {21};
    for (unsigned k = 0; k < 20; k++) {
        sm_fake_slide *fake = sm_fake_new();
        sm_fake_add(fake, 2000, 1500, 240, 240);
        sm_fake_add(fake, 500, 375, 240, 240);
        lay_shuffled(fake, 0, &random);
        lay_shuffled(fake, 1, &random);
        for (uint32_t i = 0; i < k; i++) {
            const uint32_t t = sm_random_below(&random, 63);
            fake->slide.levels[0].n_missing += fake->lens[0][t] != 0;
            fake->offsets[0][t] = fake->lens[0][t] = 0;
        }
        sm_order order = ordered("shuffled", fake, &(sm_plan_options){.quality = 75});
        assert_true(order.streamed);
        uint64_t end = 0;
        for (uint64_t i = 0; i < order.n; i++) {
            const sm_unit u = order.units[i];
            if (fake->lens[u.level][u.tile] == 0)
                continue;
            assert_true(fake->offsets[u.level][u.tile] >= end);
            end = fake->offsets[u.level][u.tile] + SM_FAKE_TILE_BYTES;
        }
        sm_order_free(&order);
        sm_fake_free(&fake);
    }
}

static void a_missing_tile_follows_its_neighbour(void **state)
{
    (void)state;
    sm_fake_slide *fake = sm_fake_new();
    sm_fake_add(fake, 1024, 1024, 256, 256);
    reversed(fake);
    fake->offsets[0][6] = fake->lens[0][6] = 0;
    fake->slide.levels[0].n_missing = 1;
    sm_order order = ordered("reversed, one missing", fake, &DYADIC);
    uint64_t at = 0;
    while (order.units[at].tile != 6)
        at++;
    assert_true(at > 0);
    assert_int_equal(order.units[at - 1].tile, 5);
    sm_order_free(&order);
    sm_fake_free(&fake);
}

/* 128 x 128 tiles of 512 px: shuffled, all 64 x 64 tiles of the made level would be open, 3.2 GB.
 */
static void a_shuffled_file_is_read_in_grid_order_if_memory_says_so(void **state)
{
    (void)state;
    sm_random random = {22};
    sm_fake_slide *fake = sm_fake_new();
    sm_fake_add(fake, 65536, 65536, 512, 512);
    lay_shuffled(fake, 0, &random);
    sm_order order = ordered("large and shuffled", fake, &DYADIC);
    assert_false(order.streamed);
    assert_true(same_as_grid(&order));
    assert_true(order.peak_bytes < (uint64_t)256 << 20);
    sm_order_free(&order);
    sm_fake_free(&fake);

    fake = sm_fake_new();
    sm_fake_add(fake, 8192, 8192, 512, 512);
    lay_shuffled(fake, 0, &random);
    order = ordered("small and shuffled", fake, &DYADIC);
    assert_true(order.streamed);
    sm_order_free(&order);
    sm_fake_free(&fake);
}

static void every_geometry_adds_up(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        uint32_t w, h, tile;
        sm_plan_options o;
    } cases[] = {
        {"one pixel", 1, 1, 240, {.levels = SM_LEVELS_DYADIC}},
        {"one row", 3001, 1, 240, {.levels = SM_LEVELS_DYADIC}},
        {"one column", 1, 3001, 240, {.levels = SM_LEVELS_DYADIC, .tile_px = 256}},
        {"two columns", 2, 3001, 240, {.levels = SM_LEVELS_DYADIC}},
        {"one pixel over", 241, 240, 240, {.levels = SM_LEVELS_DYADIC}},
        {"240 copied, 240 made", 2999, 2003, 240, {.levels = SM_LEVELS_DYADIC}},
        {"240 to 256", 2999, 2003, 240, {.levels = SM_LEVELS_DYADIC, .tile_px = 256}},
        {"240 to 512", 2999, 2003, 240, {.levels = SM_LEVELS_DYADIC, .tile_px = 512}},
        {"240 to 512, one pixel", 1, 1, 240, {.levels = SM_LEVELS_DYADIC, .tile_px = 512}},
        {"240 to 16", 481, 479, 240, {.levels = SM_LEVELS_DYADIC, .tile_px = 16}},
        {"source tiles end before the output's",
         241,
         513,
         240,
         {.levels = SM_LEVELS_DYADIC, .tile_px = 512}},
        {"decoded", 2999, 2003, 240, {.levels = SM_LEVELS_DYADIC, .tiles = SM_TILES_TRANSCODE}},
        {"decoded to other tiles",
         2999,
         2003,
         240,
         {.levels = SM_LEVELS_DYADIC, .tiles = SM_TILES_TRANSCODE, .tile_px = 1024}},
        {"auto", 9001, 7001, 240, {.tile_px = 512}},
    };
    sm_random random = {23};
    for (size_t i = 0; i < SM_COUNT(cases); i++) {
        for (unsigned k = 0; k < 3; k++) {
            sm_plan_options o = cases[i].o;
            o.quality = 75;
            sm_fake_slide *fake = sm_fake_new();
            sm_fake_add(fake, cases[i].w, cases[i].h, cases[i].tile, cases[i].tile);
            if (k == 1)
                lay_by_column(fake, 0);
            if (k == 2)
                lay_shuffled(fake, 0, &random);
            sm_order order = ordered(cases[i].name, fake, &o);
            sm_order_free(&order);
            sm_fake_free(&fake);
        }
    }
}

static void random_geometries_add_up(void **state)
{
    (void)state;
    static const uint32_t TILES[] = {16, 48, 240, 256, 512};
    sm_random r = {24};
    for (unsigned i = 0; i < 300; i++) {
        char name[96];
        const uint32_t w = 1 + sm_random_below(&r, 1500), h = 1 + sm_random_below(&r, 1500);
        const uint32_t tile = TILES[sm_random_below(&r, SM_COUNT(TILES))];
        sm_plan_options o = {.quality = 75,
                             .levels = i % 2 != 0 ? SM_LEVELS_DYADIC : SM_LEVELS_AUTO,
                             .tiles = i % 3 != 0 ? SM_TILES_AUTO : SM_TILES_TRANSCODE,
                             .tile_px = i % 5 != 0 ? TILES[sm_random_below(&r, 5)] : 0};
        sm_fake_slide *fake = sm_fake_new();
        sm_fake_add(fake, w, h, tile, tile);
        if (w > 8 && h > 8)
            sm_fake_add(fake, w / 4, h / 4, tile, tile);
        lay_shuffled(fake, 0, &r);
        snprintf(name, sizeof name, "%u: %ux%u px, tiles %u to %u", i, w, h, tile, o.tile_px);
        sm_order order = ordered(name, fake, &o);
        sm_order_free(&order);
        sm_fake_free(&fake);
    }
}

static void coefficient_tiles_take_what_their_compressed_bytes_allow(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        uint64_t tile_len; /* bytes of each of the four source tiles of 256 x 256 px */
        uint8_t h_samp, v_samp;
        uint64_t bytes; /* of one output tile of 512 x 512 px */
    } cases[] = {
        /* 8 bytes a block, 2 for each 3 bits of JPEG */
        {"light 4:4:4", 3000, 1, 1, 8 * 12288 + 2 * (12000 * 8 / 3)},
        {"light 4:2:2", 3000, 2, 1, 8 * 8192 + 2 * (12000 * 8 / 3)},
        {"light 4:2:0", 3000, 2, 2, 8 * 6144 + 2 * (12000 * 8 / 3)},
        {"never more than all coefficients and the maps", 1000000, 1, 1, 136 * 12288},
    };
    for (size_t i = 0; i < SM_COUNT(cases); i++) {
        const uint64_t len = cases[i].tile_len;
        const uint64_t lens[4] = {len, len, len, len};
        const sm_level l = {.tile_w_px = 256, .tile_h_px = 256, .cols = 2, .rows = 2, .lens = lens};
        const sm_out_level o = {.tile_w_px = 512,
                                .tile_h_px = 512,
                                .h_samp = cases[i].h_samp,
                                .v_samp = cases[i].v_samp};
        const uint64_t got = sm_coef_tile_bytes(&l, &o);
        if (got != cases[i].bytes)
            fail_msg("%s: got %llu, not %llu", cases[i].name, (unsigned long long)got,
                     (unsigned long long)cases[i].bytes);
    }
}

static void every_failed_allocation_is_reported(void **state)
{
    (void)state;
    sm_error err = SM_ERROR_INIT;
    sm_plan plan;
    sm_fake_slide *fake = sm_fake_new();
    sm_fake_add(fake, 1000, 1000, 240, 240);
    const sm_plan_options o = {.quality = 75, .levels = SM_LEVELS_DYADIC, .tile_px = 256};
    SM_CHECK_OK(sm_plan_make(&fake->slide, &o, &plan, &err), &err);
    long n = 0;
    for (sm_status st = SM_ERR_NOMEM; st != SM_OK; n++) {
        sm_order order;
        sm_alloc_fail_after(n);
        st = sm_order_make(&fake->slide, &plan, &order, &err);
        sm_alloc_fail_after(-1);
        if (st != SM_OK)
            assert_int_equal(st, SM_ERR_NOMEM);
        sm_order_free(&order);
    }
    assert_true(n > 8);
    sm_fake_free(&fake);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_tile_is_counted_where_its_last_piece_is),
        cmocka_unit_test(memory_follows_the_order_in_the_file),
        cmocka_unit_test(one_pass_where_the_file_allows_it),
        cmocka_unit_test(streamed_units_ascend_in_the_file),
        cmocka_unit_test(a_missing_tile_follows_its_neighbour),
        cmocka_unit_test(a_shuffled_file_is_read_in_grid_order_if_memory_says_so),
        cmocka_unit_test(every_geometry_adds_up),
        cmocka_unit_test(random_geometries_add_up),
        cmocka_unit_test(coefficient_tiles_take_what_their_compressed_bytes_allow),
        cmocka_unit_test(every_failed_allocation_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
