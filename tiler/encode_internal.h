/* Between encode.c and the codecs of its registry. */
#ifndef SM_TILER_ENCODE_INTERNAL_H
#define SM_TILER_ENCODE_INTERNAL_H

#include "tiler/encode.h"

/* A codec: one row of the registry. open fills encoder->state, which close releases; close is also
 * called after a failed open. Slots may be NULL where there is nothing to do, but tile. */
typedef struct sm_encode_codec {
    sm_codec codec;
    uint16_t compression, photometric, predictor; /* TIFF tags 259, 262, 317 */
    sm_status (*open)(sm_encoder *encoder, sm_error *err);
    /** Append a tile's bytes. With predictor 2 the pixels come as differences, tile_bytes of them.
     */
    sm_status (*tile)(sm_encoder *encoder, const uint8_t *pixels, sm_buf *out, sm_error *err);
    void (*close)(sm_encoder *encoder);
    sm_status (*tables)(const sm_encode_params *params, sm_buf *out, sm_error *err);
} sm_encode_codec;

struct sm_encoder {
    sm_encode_params params;
    const sm_encode_codec *codec;
    size_t tile_bytes;    /* 3 * tile_w_px * tile_h_px */
    uint8_t *differences; /* predictor 2: tile_bytes */
    void *state;          /* the codec's */
};

extern const sm_encode_codec sm_encode_jpeg;
extern const sm_encode_codec sm_encode_zstd;
extern const sm_encode_codec sm_encode_deflate;
extern const sm_encode_codec sm_encode_lzw;
extern const sm_encode_codec sm_encode_none;

#endif
