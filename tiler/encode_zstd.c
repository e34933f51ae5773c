/* Tiles as zstd frames with their content size and no checksum, as libtiff reads them. Owns one
 * zstd context and the room for one compressed tile. */
#include <stdlib.h>

#include <zstd.h>

#include "tiler/encode_internal.h"

/* Level 1 on tissue is within 1 % of level 9's size (level 6 is its best, and 0.9 % smaller), at
 * six times the speed: predicted scanner pixels hold noise, and hardly a repeat to look for. */
#define DEFAULT_LEVEL 1

typedef struct zstd_state {
    ZSTD_CCtx *context;
    int level;
    size_t cap;
    uint8_t *frame; /* cap bytes; the caller's buffer then grows by what is needed only */
} zstd_state;

static void zstd_close(sm_encoder *encoder)
{
    zstd_state *s = encoder->state;
    if (s == NULL)
        return;
    ZSTD_freeCCtx(s->context);
    free(s->frame);
    free(s);
    encoder->state = NULL;
}

static sm_status zstd_open(sm_encoder *encoder, sm_error *err)
{
    const int level = encoder->params.zstd_level;
    if (level < ZSTD_minCLevel() || level > ZSTD_maxCLevel())
        return sm_fail(err, SM_ERR_ARG, "zstd level %d is not in %d..%d", level, ZSTD_minCLevel(),
                       ZSTD_maxCLevel());
    zstd_state *s = sm_calloc(1, sizeof *s);
    if (s == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "no memory for a zstd encoder");
    encoder->state = s;
    s->level = level != 0 ? level : DEFAULT_LEVEL;
    s->cap = ZSTD_compressBound(encoder->tile_bytes);
    s->frame = sm_malloc_array(s->cap, 1);
    s->context = ZSTD_createCCtx();
    if (s->frame == NULL || s->context == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "no memory for a zstd encoder");
    return SM_OK;
}

static sm_status zstd_tile(sm_encoder *encoder, const uint8_t *pixels, sm_buf *out, sm_error *err)
{
    zstd_state *s = encoder->state;
    const size_t n =
        ZSTD_compressCCtx(s->context, s->frame, s->cap, pixels, encoder->tile_bytes, s->level);
    if (ZSTD_isError(n))
        return sm_fail(err, SM_ERR_INTERNAL, "zstd: %s", ZSTD_getErrorName(n));
    return sm_buf_append(out, s->frame, n, err);
}

const sm_encode_codec sm_encode_zstd = {
    .codec = SM_CODEC_ZSTD,
    .compression = 50000,
    .photometric = 2,
    .predictor = 2,
    .open = zstd_open,
    .tile = zstd_tile,
    .close = zstd_close,
};
