/* Between decode.c and the codecs of its registry. */
#ifndef SM_TILER_DECODE_INTERNAL_H
#define SM_TILER_DECODE_INTERNAL_H

#include "tiler/decode.h"

/* One call of sm_decoder_tile, its arguments checked. */
typedef struct sm_tile_job {
    const uint8_t *bytes;
    size_t len;
    const uint64_t *plane_lens; /* planar: samples lengths whose sum is at most len; else NULL */
    uint64_t tile;
    unsigned denom;      /* 1; JPEG also 2 */
    uint32_t w_px, rows; /* of the tile or strip before the division by denom */
    uint8_t *rgb;
    size_t stride;
} sm_tile_job;

/* A codec: one row of the registry. open fills decoder->state, which close releases (NULL: nothing
 * to do); close is also called after a failed open. */
typedef struct sm_decode_codec {
    sm_status (*open)(sm_decoder *decoder, sm_error *err);
    sm_status (*tile)(sm_decoder *decoder, const sm_tile_job *job, sm_error *err);
    void (*close)(sm_decoder *decoder);
    uint64_t (*memory)(const sm_level *level);
} sm_decode_codec;

struct sm_decoder {
    const sm_slide *slide;
    const sm_level *level;
    uint32_t level_index;
    const sm_decode_codec *codec;
    void *state; /* the codec's */
};

extern const sm_decode_codec sm_decode_jpeg;
extern const sm_decode_codec sm_decode_tiff; /* none, LZW, deflate, zstd */
extern const sm_decode_codec sm_decode_rendered;

#endif
