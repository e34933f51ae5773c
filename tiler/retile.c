/* JPEG coefficients from one tile grid to another. Parts of output tiles wait packed until all of
 * them have arrived, counted in MCUs; a complete tile is put together, Huffman-coded and handed
 * out. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tiler/coef_pack.h"
#include "tiler/retile_internal.h"

/* DC coefficient of a block that is all `value`. */
static JCOEF dc_of(double value, UINT16 q)
{
    return (JCOEF)lround((value - 128.0) * 8.0 / q);
}

static void fill_colour(sm_retile *r, const uint8_t rgb[3])
{
    double v[3] = {rgb[0], rgb[1], rgb[2]};
    if (r->level->jpeg.colour == SM_COLOUR_YCBCR) { /* JFIF 1.02 */
        const double red = v[0], green = v[1], blue = v[2];
        v[0] = 0.299 * red + 0.587 * green + 0.114 * blue;
        v[1] = 128.0 - 0.168736 * red - 0.331264 * green + 0.5 * blue;
        v[2] = 128.0 + 0.5 * red - 0.418688 * green - 0.081312 * blue;
    }
    for (int c = 0; c < 3; c++)
        r->comps[c].fill_dc = dc_of(v[c], r->quant[r->comps[c].table][0]);
}

static void set_geometry(sm_retile *r)
{
    const sm_level *l = r->level;
    r->mcu_w = 8u * l->jpeg.h_samp;
    r->mcu_h = 8u * l->jpeg.v_samp;
    r->src_w = l->tile_w_px / r->mcu_w;
    r->src_h = l->tile_h_px / r->mcu_h;
    r->dst_w = r->out->tile_w_px / r->mcu_w;
    r->dst_h = r->out->tile_h_px / r->mcu_h;
    r->total_w = sm_min_u32(l->cols * r->src_w, r->out->grid.cols * r->dst_w);
    r->total_h = sm_min_u32(l->rows * r->src_h, r->out->grid.rows * r->dst_h);
    r->blocks = 0;
    for (int c = 0; c < 3; c++) {
        retile_component *k = &r->comps[c];
        k->h = c == 0 ? l->jpeg.h_samp : 1;
        k->v = c == 0 ? l->jpeg.v_samp : 1;
        k->dst_w = r->dst_w * k->h;
        k->dst_h = r->dst_h * k->v;
        k->part = r->blocks;
        r->blocks += (size_t)k->dst_w * k->dst_h;
    }
}

sm_status sm_retile_new(const sm_slide *slide, const sm_plan *plan, uint32_t out_level,
                        const uint8_t *first_tile, size_t len, sm_retile_tile on_tile, void *user,
                        sm_retile **retile, sm_error *err)
{
    sm_retile *r = sm_calloc(1, sizeof *r);
    if (r == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "out of memory");
    pthread_mutex_init(&r->lock, NULL);
    r->out = &plan->out[out_level];
    r->out_level = out_level;
    r->level = sm_slide_level(slide, r->out->source_level);
    r->on_tile = on_tile;
    r->user = user;
    set_geometry(r);
    sm_status st = retile_learn_tables(r, first_tile, len, err);
    if (st == SM_OK) {
        fill_colour(r, sm_slide_get_info(slide)->background);
        r->tiles = sm_calloc((size_t)sm_grid_tiles(r->out->grid), sizeof(coef_tile *));
        if (r->tiles == NULL)
            st = sm_fail(err, SM_ERR_NOMEM, "out of memory for the tiles of a retiled level");
    }
    if (st == SM_OK)
        *retile = r;
    else
        sm_retile_free(&r);
    return st;
}

/* ---- waiting tiles ---- */

static void tile_free(coef_tile *t)
{
    if (t == NULL)
        return;
    for (coef_part *p = atomic_load(&t->parts), *next; p != NULL; p = next) {
        next = p->next;
        free(p);
    }
    free(t);
}

void sm_retile_free(sm_retile **retile)
{
    sm_retile *r = *retile;
    if (r == NULL)
        return;
    const uint64_t n = r->tiles == NULL ? 0 : sm_grid_tiles(r->out->grid);
    for (uint64_t i = 0; i < n; i++)
        tile_free(r->tiles[i]);
    free(r->tiles);
    pthread_mutex_destroy(&r->lock);
    free(r);
    *retile = NULL;
}

static coef_tile *tile_at(sm_retile *r, uint32_t col, uint32_t row)
{
    coef_tile **slot = &r->tiles[(size_t)row * r->out->grid.cols + col];
    pthread_mutex_lock(&r->lock);
    if (*slot == NULL) {
        coef_tile *t = sm_calloc(1, sizeof *t);
        if (t != NULL) {
            atomic_init(&t->lacking,
                        (uint_fast32_t)sm_min_u32(r->dst_w, r->total_w - col * r->dst_w) *
                            sm_min_u32(r->dst_h, r->total_h - row * r->dst_h));
            atomic_init(&t->seq, 0);
            atomic_init(&t->parts, NULL);
        }
        *slot = t;
    }
    coef_tile *t = *slot;
    pthread_mutex_unlock(&r->lock);
    return t;
}

/* All blocks of the background colour: what lies beyond the source's last tile stays so. */
static void fill_blocks(const sm_retile *r, JBLOCK *blocks)
{
    memset(blocks, 0, r->blocks * sizeof(JBLOCK));
    for (int c = 0; c < 3; c++) {
        const retile_component *k = &r->comps[c];
        for (size_t i = 0; i < (size_t)k->dst_w * k->dst_h; i++)
            blocks[k->part + i][0] = k->fill_dc;
    }
}

static void unpack_part(const sm_retile *r, const coef_part *p, JBLOCK *blocks)
{
    const uint8_t *at = p->packed;
    for (int c = 0; c < 3; c++) {
        const retile_component *k = &r->comps[c];
        for (uint32_t y = 0; y < p->at.h * k->v; y++) {
            JBLOCK *row =
                blocks + k->part + (size_t)(p->at.y * k->v + y) * k->dst_w + (size_t)p->at.x * k->h;
            at = sm_coef_unpack(at, row[0], (size_t)p->at.w * k->h);
        }
    }
}

static sm_status finish_tile(sm_retile_worker *w, uint32_t col, uint32_t row, coef_tile *t,
                             sm_error *err)
{
    sm_retile *r = w->r;
    const uint64_t tile = (uint64_t)row * r->out->grid.cols + col;
    sm_buf bytes = {0};
    uint64_t covered = 0; /* MCUs */
    for (const coef_part *p = atomic_load(&t->parts); p != NULL; p = p->next)
        covered += (uint64_t)p->at.w * p->at.h;
    if (covered < (uint64_t)r->dst_w * r->dst_h)
        fill_blocks(r, w->blocks);
    for (const coef_part *p = atomic_load(&t->parts); p != NULL; p = p->next)
        unpack_part(r, p, w->blocks);
    sm_status st = retile_encode(w, &bytes, err);
    if (st == SM_OK)
        st = r->on_tile(r->user, w->worker, r->out_level, tile, atomic_load(&t->seq), &bytes, err);
    sm_buf_free(&bytes);
    pthread_mutex_lock(&r->lock);
    r->tiles[tile] = NULL;
    pthread_mutex_unlock(&r->lock);
    tile_free(t);
    return st;
}

/* Leave the packed rectangle with its tile. */
static sm_status add_part(coef_tile *t, sm_rect at, const sm_buf *packed, sm_error *err)
{
    coef_part *p = sm_malloc_array(1, sizeof *p + packed->len);
    if (p == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "out of memory for coefficients of a tile");
    p->at = at;
    memcpy(p->packed, packed->data, packed->len);
    p->next = atomic_load(&t->parts);
    while (!atomic_compare_exchange_weak(&t->parts, &p->next, p))
        ;
    return SM_OK;
}

/* ---- moving ---- */

/* Move the MCU rectangle `part` of the level, which lies in output tile (col, row), from the
 * decoded source tile whose first MCU is (src_x, src_y); fill: leave it to the background. */
static sm_status move_part(sm_retile_worker *w, sm_rect part, uint32_t src_x, uint32_t src_y,
                           uint32_t col, uint32_t row, bool fill, uint64_t seq, sm_error *err)
{
    sm_retile *r = w->r;
    const sm_rect at = {part.x - col * r->dst_w, part.y - row * r->dst_h, part.w, part.h};
    coef_tile *t = tile_at(r, col, row);
    if (t == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "out of memory for coefficients of a tile");
    if (!fill) {
        sm_status st = retile_pack(w, part.x - src_x, part.y - src_y, part.w, part.h, err);
        if (st == SM_OK)
            st = add_part(t, at, &w->packing, err);
        if (st != SM_OK)
            return st;
    }
    uint_fast64_t seen = atomic_load(&t->seq);
    while (seen < seq && !atomic_compare_exchange_weak(&t->seq, &seen, seq))
        ;
    const uint32_t n = part.w * part.h;
    if (atomic_fetch_sub(&t->lacking, n) > n)
        return SM_OK;
    return finish_tile(w, col, row, t, err);
}

static sm_status move_tile(sm_retile_worker *w, uint64_t tile, bool fill, uint64_t seq,
                           sm_error *err)
{
    const sm_retile *r = w->r;
    const uint32_t x0 = (uint32_t)(tile % r->level->cols) * r->src_w;
    const uint32_t y0 = (uint32_t)(tile / r->level->cols) * r->src_h;
    const uint32_t x1 = sm_min_u32(x0 + r->src_w, r->total_w);
    const uint32_t y1 = sm_min_u32(y0 + r->src_h, r->total_h);
    sm_status st = SM_OK;
    for (uint32_t y = y0; st == SM_OK && y < y1;) {
        const uint32_t row = y / r->dst_h, h = sm_min_u32(y1, (row + 1) * r->dst_h) - y;
        for (uint32_t x = x0; st == SM_OK && x < x1;) {
            const uint32_t col = x / r->dst_w, width = sm_min_u32(x1, (col + 1) * r->dst_w) - x;
            st = move_part(w, (sm_rect){x, y, width, h}, x0, y0, col, row, fill, seq, err);
            x += width;
        }
        y += h;
    }
    return st;
}

sm_status sm_retile_move(sm_retile_worker *w, uint64_t tile, uint64_t seq, sm_error *err)
{
    const sm_status st = move_tile(w, tile, false, seq, err);
    jpeg_abort_decompress(&w->dec);
    w->coefs = NULL;
    return st;
}

sm_status sm_retile_fill(sm_retile_worker *w, uint64_t tile, uint64_t seq, sm_error *err)
{
    return move_tile(w, tile, true, seq, err);
}
