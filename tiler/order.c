/* Sort the source tiles, then play the conversion through without pixels. */
#include "tiler/order.h"

#include <stdlib.h>
#include <string.h>

#include "common/buf.h"
#include "tiler/coef_pack.h"

/* Beyond this, file order must not cost more than 4 times the memory of grid order. */
#define PEAK_ALWAYS_FINE ((uint64_t)128 << 20)

/* ---- geometry without pixels ---- */

/* A grid of tiles that fill up: a pyramid stage, or a retiled level. */
typedef struct sim_grid {
    uint32_t *lacking; /* pixels; set when the first arrives */
    bool *begun;
    uint32_t w, h, tile_w, tile_h; /* w, h: the pixels that will arrive */
    sm_grid grid;
    uint64_t tile_bytes;
    uint32_t child; /* index of a sim_grid or SM_NO_STAGE */
    uint32_t child_w, child_h;
    bool counted; /* its tiles are output */
} sim_grid;

typedef struct sim {
    sim_grid *grids; /* stages first, then one per output level that is retiled */
    uint32_t n_grids;
    uint32_t coef_grid[SM_MAX_LEVELS]; /* by output level */
    uint64_t live_bytes, peak_bytes, completed;
} sim;

uint64_t sm_coef_tile_bytes(const sm_level *l, const sm_out_level *out)
{
    const double px = (double)out->tile_w_px * out->tile_h_px;
    const uint64_t n = (uint64_t)l->cols * l->rows;
    double coded = 0;
    for (uint64_t t = 0; t < n; t++)
        coded += (double)l->lens[t];
    coded *= px / ((double)n * l->tile_w_px * l->tile_h_px);
    const double blocks = px / SM_BLOCK_COEFS * (1 + 2.0 / (out->h_samp * out->v_samp));
    return sm_coef_pack_bound((uint64_t)blocks, (uint64_t)coded);
}

static sm_status grid_init(sim_grid *g, sm_error *err)
{
    g->grid = sm_grid_for(g->w, g->h, g->tile_w, g->tile_h);
    const size_t n = (size_t)sm_grid_tiles(g->grid);
    g->lacking = sm_calloc(n, sizeof *g->lacking);
    g->begun = sm_calloc(n, sizeof *g->begun);
    return g->lacking != NULL && g->begun != NULL
               ? SM_OK
               : sm_fail(err, SM_ERR_NOMEM, "out of memory for a grid of %zu tiles", n);
}

static sm_status sim_new(const sm_slide *slide, const sm_plan *plan, sim *s, sm_error *err)
{
    *s = (sim){0};
    s->grids = sm_calloc((size_t)plan->n_stages + plan->n_out, sizeof *s->grids);
    if (s->grids == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "out of memory");
    sm_status st = SM_OK;
    for (uint32_t i = 0; st == SM_OK && i < plan->n_stages; i++) {
        const sm_pyramid_stage *stage = &plan->stages[i];
        sim_grid *g = &s->grids[s->n_grids++];
        *g = (sim_grid){.w = stage->w_px,
                        .h = stage->h_px,
                        .tile_w = plan->tile_px,
                        .tile_h = plan->tile_px,
                        .tile_bytes = 3 * (uint64_t)plan->tile_px * plan->tile_px,
                        .child = stage->child,
                        .counted = plan->n_out > 0 && plan->stage_out[i] != SM_NO_LEVEL};
        if (stage->child != SM_NO_STAGE) {
            g->child_w = plan->stages[stage->child].w_px;
            g->child_h = plan->stages[stage->child].h_px;
        }
        st = grid_init(g, err);
    }
    for (uint32_t i = 0; st == SM_OK && i < plan->n_out; i++) {
        const sm_out_level *out = &plan->out[i];
        if (out->how != SM_HOW_RETILED)
            continue;
        const sm_level *l = sm_slide_level(slide, out->source_level);
        s->coef_grid[i] = s->n_grids;
        sim_grid *g = &s->grids[s->n_grids++];
        *g = (sim_grid){.w = sm_min_u32(l->cols * l->tile_w_px, out->grid.cols * out->tile_w_px),
                        .h = sm_min_u32(l->rows * l->tile_h_px, out->grid.rows * out->tile_h_px),
                        .tile_w = out->tile_w_px,
                        .tile_h = out->tile_h_px,
                        .tile_bytes = sm_coef_tile_bytes(l, out),
                        .child = SM_NO_STAGE,
                        .counted = true};
        st = grid_init(g, err);
    }
    return st;
}

static void sim_free(sim *s)
{
    for (uint32_t i = 0; i < s->n_grids; i++) {
        free(s->grids[i].lacking);
        free(s->grids[i].begun);
    }
    free(s->grids);
    s->grids = NULL;
}

static void sim_put(sim *s, uint32_t grid, sm_rect rect);

/* n pixels arrive in one tile. */
static void sim_arrive(sim *s, uint32_t grid, uint32_t col, uint32_t row, uint32_t n)
{
    sim_grid *g = &s->grids[grid];
    const size_t at = (size_t)row * g->grid.cols + col;
    const uint32_t x = col * g->tile_w, y = row * g->tile_h;
    const uint32_t w = sm_min_u32(g->tile_w, g->w - x), h = sm_min_u32(g->tile_h, g->h - y);
    if (!g->begun[at]) {
        g->begun[at] = true;
        g->lacking[at] = w * h;
        s->live_bytes += g->tile_bytes;
        if (s->live_bytes > s->peak_bytes)
            s->peak_bytes = s->live_bytes;
    }
    g->lacking[at] -= n;
    if (g->lacking[at] > 0)
        return;
    s->completed += g->counted;
    if (g->child != SM_NO_STAGE) {
        sm_rect to = {x / 2, y / 2, 0, 0};
        to.w = (x + w == g->w ? g->child_w : (x + w) / 2) - to.x;
        to.h = (y + h == g->h ? g->child_h : (y + h) / 2) - to.y;
        sim_put(s, g->child, to);
    }
    s->live_bytes -= g->tile_bytes;
}

static void sim_put(sim *s, uint32_t grid, sm_rect rect)
{
    const sim_grid *g = &s->grids[grid];
    for (uint32_t y = rect.y; y < rect.y + rect.h;) {
        const uint32_t row = y / g->tile_h;
        const uint32_t h = sm_min_u32(rect.y + rect.h, (row + 1) * g->tile_h) - y;
        for (uint32_t x = rect.x; x < rect.x + rect.w;) {
            const uint32_t col = x / g->tile_w;
            const uint32_t w = sm_min_u32(rect.x + rect.w, (col + 1) * g->tile_w) - x;
            sim_arrive(s, grid, col, row, w * h);
            x += w;
        }
        y += h;
    }
}

static void sim_unit(sim *s, const sm_slide *slide, const sm_plan *plan, sm_unit unit)
{
    const sm_level *l = sm_slide_level(slide, unit.level);
    const sm_source_use *use = &plan->use[unit.level];
    if (use->copy_to != SM_NO_LEVEL)
        s->completed++;
    if (use->retile_to != SM_NO_LEVEL) {
        const sim_grid *g = &s->grids[s->coef_grid[use->retile_to]];
        sm_rect r = {unit.tile % l->cols * l->tile_w_px, unit.tile / l->cols * l->tile_h_px, 0, 0};
        r.w = r.x < g->w ? sm_min_u32(l->tile_w_px, g->w - r.x) : 0;
        r.h = r.y < g->h ? sm_min_u32(l->tile_h_px, g->h - r.y) : 0;
        sim_put(s, s->coef_grid[use->retile_to], r);
    }
    if (use->full_stage != SM_NO_STAGE)
        sim_put(s, use->full_stage, sm_tile_rect(l, unit.tile));
    if (use->half_stage != SM_NO_STAGE)
        sim_put(s, use->half_stage, sm_tile_half_rect(l, unit.tile));
}

/* Fill n_outputs and peak_bytes for the order's units as they stand. */
static sm_status play(const sm_slide *slide, const sm_plan *plan, sm_order *order, sm_error *err)
{
    sim s;
    sm_status st = sim_new(slide, plan, &s, err);
    for (uint64_t i = 0; st == SM_OK && i < order->n; i++) {
        const uint64_t before = s.completed;
        sim_unit(&s, slide, plan, order->units[i]);
        order->n_outputs[i] = (uint32_t)(s.completed - before);
    }
    if (st == SM_OK && s.live_bytes != 0)
        st = sm_fail(err, SM_ERR_INTERNAL, "the plan leaves tiles unfinished");
    order->peak_bytes = s.peak_bytes;
    order->n_out_tiles = s.completed;
    sim_free(&s);
    return st;
}

/* ---- the order itself ---- */

typedef struct sort_key {
    uint64_t offset, len;
    sm_unit unit;
} sort_key;

static int by_offset(const void *pa, const void *pb)
{
    const sort_key *a = pa, *b = pb;
    if (a->offset != b->offset)
        return a->offset < b->offset ? -1 : 1;
    if (a->unit.level != b->unit.level)
        return a->unit.level < b->unit.level ? -1 : 1;
    return a->unit.tile < b->unit.tile ? -1 : a->unit.tile > b->unit.tile;
}

static void grid_order(const sm_slide *slide, const sm_plan *plan, sm_order *order)
{
    uint64_t n = 0;
    for (uint32_t s = 0; s < plan->n_sources; s++) {
        const sm_level *l = sm_slide_level(slide, s);
        const uint64_t tiles = plan->use[s].used ? (uint64_t)l->cols * l->rows : 0;
        for (uint64_t t = 0; t < tiles; t++)
            order->units[n++] = (sm_unit){s, (uint32_t)t};
    }
    order->streamed = false;
}

static bool can_stream(const sm_slide *slide, const sm_plan *plan)
{
    for (uint32_t s = 0; s < plan->n_sources; s++) {
        const sm_level *l = sm_slide_level(slide, s);
        if (plan->use[s].used && (l->offsets == NULL || l->planar))
            return false;
    }
    return true;
}

/* Keys in grid order, sorted by offset. A missing tile has no place of its own: it goes with the
 * present one before it, so that its neighbours are at hand. *apart: no two extents overlap. */
static void sorted_keys(const sm_slide *slide, const sm_order *order, sort_key *keys, bool *apart)
{
    uint64_t last = 0;
    bool sorted = true;
    for (uint64_t i = 0; i < order->n; i++) {
        const sm_unit u = order->units[i];
        const sm_level *l = sm_slide_level(slide, u.level);
        const bool missing = l->lens[u.tile] == 0;
        keys[i] = (sort_key){missing ? last : l->offsets[u.tile], l->lens[u.tile], u};
        sorted = sorted && keys[i].offset >= last;
        last = keys[i].offset;
    }
    if (!sorted)
        qsort(keys, (size_t)order->n, sizeof *keys, by_offset);
    *apart = true;
    uint64_t end = 0;
    for (uint64_t i = 0; i < order->n; i++) {
        if (keys[i].len == 0)
            continue;
        if (keys[i].offset < end)
            *apart = false;
        end = keys[i].offset + keys[i].len;
    }
}

static sm_status choose(const sm_slide *slide, const sm_plan *plan, sm_order *order, sm_error *err)
{
    grid_order(slide, plan, order);
    sm_status st = play(slide, plan, order, err);
    if (st != SM_OK || !can_stream(slide, plan))
        return st;
    const uint64_t grid_peak = order->peak_bytes;
    sort_key *keys = sm_malloc_array((size_t)order->n, sizeof *keys);
    if (keys == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "out of memory to sort the source's tiles");
    bool apart = false;
    sorted_keys(slide, order, keys, &apart);
    if (apart) {
        for (uint64_t i = 0; i < order->n; i++)
            order->units[i] = keys[i].unit;
        order->streamed = true;
        st = play(slide, plan, order, err);
        if (st == SM_OK && order->peak_bytes > PEAK_ALWAYS_FINE &&
            order->peak_bytes / 4 > grid_peak) {
            grid_order(slide, plan, order);
            st = play(slide, plan, order, err);
        }
    }
    free(keys);
    return st;
}

sm_status sm_order_make(const sm_slide *slide, const sm_plan *plan, sm_order *order, sm_error *err)
{
    *order = (sm_order){0};
    for (uint32_t s = 0; s < plan->n_sources; s++) {
        const sm_level *l = sm_slide_level(slide, s);
        if (plan->use[s].used)
            order->n += (uint64_t)l->cols * l->rows;
    }
    order->units = sm_calloc((size_t)order->n, sizeof *order->units);
    order->n_outputs = sm_calloc((size_t)order->n, sizeof *order->n_outputs);
    if (order->units == NULL || order->n_outputs == NULL) {
        sm_order_free(order);
        return sm_fail(err, SM_ERR_NOMEM, "out of memory for %llu source tiles",
                       (unsigned long long)order->n);
    }
    const sm_status st = choose(slide, plan, order, err);
    if (st != SM_OK)
        sm_order_free(order);
    return st;
}

void sm_order_free(sm_order *order)
{
    free(order->units);
    free(order->n_outputs);
    *order = (sm_order){0};
}
