/* Encoders: the registry of codecs, the checks and the predictor that several of them share. Owns
 * sm_encoder. */
#include "tiler/encode.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "tiler/encode_internal.h"

/* Longest side of a tile: libjpeg's limit rounded down, and nothing useful is near it. */
#define MAX_TILE_PX 65488u

static const sm_encode_codec *const CODECS[] = {
    &sm_encode_jpeg, &sm_encode_zstd, &sm_encode_deflate, &sm_encode_lzw, &sm_encode_none,
};

static const sm_encode_codec *find_codec(sm_codec codec)
{
    for (size_t i = 0; i < SM_COUNT(CODECS); i++)
        if (CODECS[i]->codec == codec)
            return CODECS[i];
    return NULL;
}

static sm_status check_params(const sm_encode_params *p, sm_error *err)
{
    if (find_codec(p->codec) == NULL)
        return sm_fail(err, SM_ERR_ARG, "tiles cannot be encoded as %s", sm_codec_name(p->codec));
    if (p->tile_w_px == 0 || p->tile_w_px % 16 != 0 || p->tile_w_px > MAX_TILE_PX ||
        p->tile_h_px == 0 || p->tile_h_px % 16 != 0 || p->tile_h_px > MAX_TILE_PX)
        return sm_fail(err, SM_ERR_ARG,
                       "tiles of %" PRIu32 " x %" PRIu32 " px: not multiples of 16 up to %u",
                       p->tile_w_px, p->tile_h_px, MAX_TILE_PX);
    if (p->codec != SM_CODEC_JPEG)
        return SM_OK;
    if (p->quality < 1 || p->quality > 100)
        return sm_fail(err, SM_ERR_ARG, "JPEG quality %" PRIu32 " is not in 1..100", p->quality);
    if (p->h_samp < 1 || p->h_samp > 2 || p->v_samp < 1 || p->v_samp > p->h_samp)
        return sm_fail(err, SM_ERR_ARG, "JPEG sampling %ux%u is none of 1x1, 2x1, 2x2",
                       (unsigned)p->h_samp, (unsigned)p->v_samp);
    return SM_OK;
}

sm_status sm_encoder_open(const sm_encode_params *params, sm_encoder **encoder, sm_error *err)
{
    sm_status st = check_params(params, err);
    if (st != SM_OK)
        return st;
    sm_encoder *made = sm_calloc(1, sizeof *made);
    if (made == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "no memory for an encoder");
    made->params = *params;
    made->codec = find_codec(params->codec);
    made->tile_bytes = (size_t)3 * params->tile_w_px * params->tile_h_px;
    if (made->codec->predictor == 2) {
        made->differences = sm_malloc_array(made->tile_bytes, 1);
        if (made->differences == NULL)
            st = sm_fail(err, SM_ERR_NOMEM, "no memory for an encoder");
    }
    if (st == SM_OK && made->codec->open != NULL)
        st = made->codec->open(made, err);
    if (st != SM_OK) {
        sm_encoder_close(&made);
        return st;
    }
    *encoder = made;
    return SM_OK;
}

/* TIFF 6.0 section 14, three samples of 8 bits: each row starts anew. */
static void predict(const uint8_t *restrict rgb, uint8_t *restrict differences, size_t row_bytes,
                    uint32_t rows)
{
    for (uint32_t y = 0; y < rows; y++) {
        const uint8_t *restrict in = rgb + y * row_bytes;
        uint8_t *restrict out = differences + y * row_bytes;
        memcpy(out, in, 3);
        for (size_t i = 3; i < row_bytes; i++)
            out[i] = (uint8_t)(in[i] - in[i - 3]);
    }
}

sm_status sm_encoder_tile(sm_encoder *encoder, const uint8_t *rgb, sm_buf *out, sm_error *err)
{
    const uint8_t *pixels = rgb;
    if (encoder->differences != NULL) {
        predict(rgb, encoder->differences, (size_t)3 * encoder->params.tile_w_px,
                encoder->params.tile_h_px);
        pixels = encoder->differences;
    }
    const size_t before = out->len;
    const sm_status st = encoder->codec->tile(encoder, pixels, out, err);
    if (st != SM_OK)
        out->len = before;
    return st;
}

void sm_encoder_close(sm_encoder **encoder)
{
    if (*encoder == NULL)
        return;
    if ((*encoder)->codec->close != NULL)
        (*encoder)->codec->close(*encoder);
    free((*encoder)->differences);
    free(*encoder);
    *encoder = NULL;
}

sm_status sm_encode_tables(const sm_encode_params *params, sm_buf *out, sm_error *err)
{
    sm_status st = check_params(params, err);
    if (st != SM_OK)
        return st;
    const sm_encode_codec *codec = find_codec(params->codec);
    if (codec->tables == NULL)
        return SM_OK;
    const size_t before = out->len;
    st = codec->tables(params, out, err);
    if (st != SM_OK)
        out->len = before;
    return st;
}

uint16_t sm_encode_compression(const sm_encode_params *params)
{
    const sm_encode_codec *codec = find_codec(params->codec);
    return codec != NULL ? codec->compression : 0;
}

uint16_t sm_encode_photometric(const sm_encode_params *params)
{
    const sm_encode_codec *codec = find_codec(params->codec);
    return codec != NULL ? codec->photometric : 0;
}

uint16_t sm_encode_predictor(const sm_encode_params *params)
{
    const sm_encode_codec *codec = find_codec(params->codec);
    return codec != NULL ? codec->predictor : 0;
}
