/* Tiles of a level whose reader renders pixels instead of handing out bytes. Owns nothing. */
#include <string.h>

#include "tiler/decode_internal.h"

static sm_status rendered_open(sm_decoder *decoder, sm_error *err)
{
    (void)decoder;
    (void)err;
    return SM_OK;
}

static sm_status rendered_tile(sm_decoder *decoder, const sm_tile_job *job, sm_error *err)
{
    const sm_level *level = decoder->level;
    const uint64_t x = job->tile % level->cols * level->tile_w_px;
    const uint64_t y = job->tile / level->cols * level->tile_h_px;
    if (x >= level->w_px || y >= level->h_px)
        return sm_fail(err, SM_ERR_ARG, "the tile lies outside the level");
    const sm_rect rect = {
        .x = (uint32_t)x,
        .y = (uint32_t)y,
        .w = sm_min_u32(job->w_px, level->w_px - (uint32_t)x),
        .h = sm_min_u32(job->rows, level->h_px - (uint32_t)y),
    };
    const sm_status st =
        sm_slide_render(decoder->slide, decoder->level_index, rect, job->rgb, job->stride, err);
    if (st != SM_OK)
        return st;
    /* Beyond the level's edge: white. */
    for (uint32_t row = 0; row < job->rows; row++) {
        const uint32_t from = row < rect.h ? rect.w : 0;
        memset(job->rgb + row * job->stride + (size_t)3 * from, 255,
               (size_t)3 * (job->w_px - from));
    }
    return SM_OK;
}

static uint64_t rendered_memory(const sm_level *level)
{
    (void)level; /* the reader's own caches are its reader's to count */
    return 0;
}

const sm_decode_codec sm_decode_rendered = {
    .open = rendered_open,
    .tile = rendered_tile,
    .close = NULL,
    .memory = rendered_memory,
};
