/* Fuzz target: a file as a slide. It is opened, planned, and some tiles of every level are decoded,
 * whole, at half size and as coefficients. */
#include <stdlib.h>

#include "tiler/decode.h"
#include "tiler/order.h"
#include "tiler/retile.h"

enum { TILES_A_LEVEL = 3, MAX_TILE_PX = 1 << 20, MAX_TILES = 1 << 16 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static sm_status drop(void *user, unsigned worker, uint32_t level, uint64_t tile, uint64_t seq,
                      sm_buf *bytes, sm_error *err)
{
    (void)user, (void)worker, (void)level, (void)tile, (void)seq, (void)bytes, (void)err;
    return SM_OK;
}

/* The tile's bytes, its planes one after another; false if it has none. */
static bool read_tile(const sm_source *source, const sm_level *l, uint64_t tile, sm_buf *bytes,
                      uint64_t plane_lens[4])
{
    sm_error err = SM_ERROR_INIT;
    const uint64_t plane = (uint64_t)l->cols * l->rows;
    bytes->len = 0;
    for (uint32_t p = 0; p < (l->planar ? l->samples : 1u); p++) {
        const size_t len = (size_t)l->lens[tile + p * plane];
        plane_lens[p] = len;
        if (len == 0 || sm_buf_reserve(bytes, bytes->len + len, &err) != SM_OK ||
            sm_source_pread(source, bytes->data + bytes->len, len, l->offsets[tile + p * plane],
                            &err) != SM_OK)
            return false;
        bytes->len += len;
    }
    return true;
}

static void decode_level(const sm_slide *slide, uint32_t level)
{
    const sm_level *l = sm_slide_level(slide, level);
    sm_error err = SM_ERROR_INIT;
    sm_decoder *decoder = NULL;
    sm_buf bytes = {0};
    uint64_t plane_lens[4] = {0};
    if ((uint64_t)l->tile_w_px * l->tile_h_px > MAX_TILE_PX)
        return;
    uint8_t *rgb = malloc(3 * (size_t)l->tile_w_px * l->tile_h_px);
    if (rgb != NULL && sm_decoder_open(slide, level, &decoder, &err) == SM_OK) {
        const uint64_t n = (uint64_t)l->cols * l->rows;
        for (uint64_t t = 0; t < n && t < TILES_A_LEVEL; t++) {
            const uint64_t tile = t + 1 == TILES_A_LEVEL ? n - 1 : t;
            if (!read_tile(sm_slide_source(slide), l, tile, &bytes, plane_lens))
                continue;
            for (unsigned denom = 1; denom <= (l->codec == SM_CODEC_JPEG ? 2u : 1u); denom++)
                if (sm_decoder_tile(decoder, bytes.data, bytes.len, l->planar ? plane_lens : NULL,
                                    tile, denom, rgb, 3 * (size_t)l->tile_w_px, &err) != SM_OK)
                    err = (sm_error)SM_ERROR_INIT;
        }
    }
    sm_decoder_close(&decoder);
    sm_buf_free(&bytes);
    free(rgb);
}

/* Plan with every path, order, and move coefficients where the plan does. */
static void plan(const sm_slide *slide, uint32_t tile_px)
{
    const sm_plan_options options = {.levels = SM_LEVELS_DYADIC, .quality = 85, .tile_px = tile_px};
    sm_error err = SM_ERROR_INIT;
    sm_plan made;
    sm_order order = {0};
    if (sm_plan_make(slide, &options, &made, &err) != SM_OK)
        return;
    for (uint32_t i = 0; i < made.n_out; i++)
        if (sm_grid_tiles(made.out[i].grid) > MAX_TILES)
            return;
    if (sm_order_make(slide, &made, &order, &err) == SM_OK && made.out[0].how == SM_HOW_RETILED) {
        const sm_level *l = sm_slide_level(slide, 0);
        sm_retile *retile = NULL;
        sm_retile_worker *worker = NULL;
        sm_buf bytes = {0};
        uint64_t unused[4];
        if (read_tile(sm_slide_source(slide), l, 0, &bytes, unused) &&
            sm_retile_new(slide, &made, 0, bytes.data, bytes.len, drop, NULL, &retile, &err) ==
                SM_OK &&
            sm_retile_worker_new(retile, 0, &worker, &err) == SM_OK &&
            sm_retile_decode(worker, bytes.data, bytes.len, NULL, 0, &err) == SM_OK &&
            sm_retile_move(worker, 0, 0, &err) != SM_OK)
            err = (sm_error)SM_ERROR_INIT;
        sm_retile_worker_free(&worker);
        sm_retile_free(&retile);
        sm_buf_free(&bytes);
    }
    sm_order_free(&order);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    sm_error err = SM_ERROR_INIT;
    sm_source *source = NULL;
    sm_slide *slide = NULL;
    if (sm_source_open_memory(data, size, "fuzz", &source, &err) != SM_OK)
        return 0;
    if (sm_slide_open(source, &slide, &err) == SM_OK) {
        const uint32_t n = sm_slide_get_info(slide)->n_levels;
        uint64_t tiles = 0;
        for (uint32_t i = 0; i < n; i++)
            tiles += (uint64_t)sm_slide_level(slide, i)->cols * sm_slide_level(slide, i)->rows;
        for (uint32_t i = 0; i < n; i++)
            decode_level(slide, i);
        if (tiles <= MAX_TILES) {
            plan(slide, 0);
            plan(slide, 512);
        }
        for (uint32_t i = 0; i < sm_slide_get_info(slide)->n_associated; i++) {
            const sm_associated *a = &sm_slide_get_info(slide)->associated[i];
            uint8_t *rgb = (uint64_t)a->w_px * a->h_px <= MAX_TILE_PX
                               ? malloc(3 * (size_t)a->w_px * a->h_px)
                               : NULL;
            if (rgb != NULL && sm_slide_associated(slide, i, rgb, &err) != SM_OK)
                err = (sm_error)SM_ERROR_INIT;
            free(rgb);
        }
    }
    sm_slide_close(&slide);
    sm_source_close(&source);
    return 0;
}
