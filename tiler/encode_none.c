/* Tiles as they are. Owns nothing. */
#include "tiler/encode_internal.h"

static sm_status none_tile(sm_encoder *encoder, const uint8_t *pixels, sm_buf *out, sm_error *err)
{
    return sm_buf_append(out, pixels, encoder->tile_bytes, err);
}

const sm_encode_codec sm_encode_none = {
    .codec = SM_CODEC_NONE,
    .compression = 1,
    .photometric = 2,
    .predictor = 1,
    .tile = none_tile,
};
