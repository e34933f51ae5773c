/* Decoders: the registry of codecs, and the checks that all of them need. Owns sm_decoder. */
#include "tiler/decode.h"

#include <inttypes.h>
#include <stdlib.h>

#include "common/buf.h"
#include "tiler/decode_internal.h"

static const sm_decode_codec *const CODECS[] = {
    [SM_CODEC_NONE] = &sm_decode_tiff,    [SM_CODEC_LZW] = &sm_decode_tiff,
    [SM_CODEC_DEFLATE] = &sm_decode_tiff, [SM_CODEC_ZSTD] = &sm_decode_tiff,
    [SM_CODEC_JPEG] = &sm_decode_jpeg,    [SM_CODEC_RENDERED] = &sm_decode_rendered,
};

sm_status sm_decoder_open(const sm_slide *slide, uint32_t level, sm_decoder **decoder,
                          sm_error *err)
{
    if (level >= sm_slide_get_info(slide)->n_levels) {
        return sm_fail(err, SM_ERR_ARG, "level %" PRIu32 ": the slide has %" PRIu32, level,
                       sm_slide_get_info(slide)->n_levels);
    }
    sm_decoder *made = sm_calloc(1, sizeof(*made));
    if (made == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "level %" PRIu32 ": no memory for a decoder", level);
    made->slide = slide;
    made->level = sm_slide_level(slide, level);
    made->level_index = level;
    if ((size_t)made->level->codec >= SM_COUNT(CODECS)) {
        free(made);
        return sm_fail(err, SM_ERR_INTERNAL, "level %" PRIu32 ": codec without a decoder", level);
    }
    made->codec = CODECS[made->level->codec];
    const sm_status st = made->codec->open(made, err);
    if (st != SM_OK) {
        sm_decoder_close(&made);
        sm_error_prefix(err, "level %" PRIu32, level);
        return st;
    }
    *decoder = made;
    return SM_OK;
}

/* Rows the tile holds: strips end with the level, tiles do not. */
static uint32_t tile_rows(const sm_level *level, uint64_t tile)
{
    if (level->tiled || level->codec == SM_CODEC_RENDERED)
        return level->tile_h_px;
    const uint64_t top = tile / level->cols * level->tile_h_px;
    return sm_min_u32(level->tile_h_px, (uint32_t)(level->h_px - top));
}

static sm_status check_denom(const sm_level *level, unsigned denom, sm_error *err)
{
    if (denom == 1)
        return SM_OK;
    if (denom != 2 || level->codec != SM_CODEC_JPEG) {
        return sm_fail(err, SM_ERR_ARG, "%s tiles cannot be decoded at 1/%u",
                       sm_codec_name(level->codec), denom);
    }
    /* A strip as wide as the level has no neighbour to its right, the last one none below. */
    const bool w_ok = level->tile_w_px % 2 == 0 || !level->tiled;
    const bool h_ok = level->tile_h_px % 2 == 0 || (!level->tiled && level->rows == 1);
    if (!w_ok || !h_ok) {
        return sm_fail(err, SM_ERR_ARG,
                       "tiles of %" PRIu32 " x %" PRIu32 " px cannot be decoded at half size",
                       level->tile_w_px, level->tile_h_px);
    }
    return SM_OK;
}

static sm_status check_planes(const sm_level *level, const uint64_t *plane_lens, size_t len,
                              sm_error *err)
{
    if ((plane_lens != NULL) != level->planar)
        return sm_fail(err, SM_ERR_ARG, "lengths of planes given for a chunky level, or not given");
    uint64_t sum = 0;
    for (uint16_t s = 0; level->planar && s < level->samples; s++) {
        if (!sm_add_u64(sum, plane_lens[s], &sum) || sum > len)
            return sm_fail(err, SM_ERR_ARG, "the planes are longer than their %zu bytes", len);
        if (plane_lens[s] == 0)
            return sm_fail(err, SM_ERR_CORRUPT, "plane %u of the tile has no bytes", (unsigned)s);
    }
    return SM_OK;
}

sm_status sm_decoder_tile(sm_decoder *decoder, const uint8_t *bytes, size_t len,
                          const uint64_t *plane_lens, uint64_t tile, unsigned denom, uint8_t *rgb,
                          size_t stride, sm_error *err)
{
    const sm_level *level = decoder->level;
    if (tile >= (uint64_t)level->cols * level->rows)
        return sm_fail(err, SM_ERR_ARG, "tile %" PRIu64 " is outside the level's grid", tile);
    sm_status st = check_denom(level, denom, err);
    if (st != SM_OK)
        return st;
    if (stride / 3 < sm_ceil_div_u32(level->tile_w_px, denom))
        return sm_fail(err, SM_ERR_ARG, "a stride of %zu bytes is too short", stride);
    if (level->codec != SM_CODEC_RENDERED) {
        if (len == 0)
            return sm_fail(err, SM_ERR_CORRUPT, "the tile has no bytes");
        st = check_planes(level, plane_lens, len, err);
        if (st != SM_OK)
            return st;
    }
    const sm_tile_job job = {
        .bytes = bytes,
        .len = len,
        .plane_lens = plane_lens,
        .tile = tile,
        .denom = denom,
        .w_px = level->tile_w_px,
        .rows = tile_rows(level, tile),
        .rgb = rgb,
        .stride = stride,
    };
    return decoder->codec->tile(decoder, &job, err);
}

void sm_decoder_close(sm_decoder **decoder)
{
    if (*decoder == NULL)
        return;
    if ((*decoder)->codec->close != NULL)
        (*decoder)->codec->close(*decoder);
    free(*decoder);
    *decoder = NULL;
}

uint64_t sm_decoder_memory(const sm_level *level)
{
    if ((size_t)level->codec >= SM_COUNT(CODECS))
        return 0;
    return sizeof(sm_decoder) + CODECS[level->codec]->memory(level);
}
