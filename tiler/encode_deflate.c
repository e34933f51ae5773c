/* Tiles as zlib streams (TIFF compression 8). Owns one libdeflate compressor and the room for one
 * compressed tile. */
#include <stdlib.h>

#include <libdeflate.h>

#include "tiler/encode_internal.h"

/* zlib's default effort; the sizes are equal within 0.1 %, at twice zlib's speed. */
#define LEVEL 6

typedef struct deflate_state {
    struct libdeflate_compressor *compressor;
    size_t cap;
    uint8_t *stream; /* cap bytes */
} deflate_state;

static void deflate_close(sm_encoder *encoder)
{
    deflate_state *s = encoder->state;
    if (s == NULL)
        return;
    if (s->compressor != NULL)
        libdeflate_free_compressor(s->compressor);
    free(s->stream);
    free(s);
    encoder->state = NULL;
}

static sm_status deflate_open(sm_encoder *encoder, sm_error *err)
{
    deflate_state *s = sm_calloc(1, sizeof *s);
    if (s == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "no memory for a deflate encoder");
    encoder->state = s;
    s->compressor = libdeflate_alloc_compressor(LEVEL);
    if (s->compressor == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "no memory for a deflate encoder");
    s->cap = libdeflate_zlib_compress_bound(s->compressor, encoder->tile_bytes);
    s->stream = sm_malloc_array(s->cap, 1);
    if (s->stream == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "no memory for a deflate encoder");
    return SM_OK;
}

static sm_status deflate_tile(sm_encoder *encoder, const uint8_t *pixels, sm_buf *out,
                              sm_error *err)
{
    deflate_state *s = encoder->state;
    const size_t n =
        libdeflate_zlib_compress(s->compressor, pixels, encoder->tile_bytes, s->stream, s->cap);
    if (n == 0)
        return sm_fail(err, SM_ERR_INTERNAL, "deflate: %zu bytes do not fit their bound", s->cap);
    return sm_buf_append(out, s->stream, n, err);
}

const sm_encode_codec sm_encode_deflate = {
    .codec = SM_CODEC_DEFLATE,
    .compression = 8,
    .photometric = 2,
    .predictor = 2,
    .open = deflate_open,
    .tile = deflate_tile,
    .close = deflate_close,
};
