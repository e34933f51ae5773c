/* RGB pixels -> tile bytes. One encoder belongs to one thread and one output level. Codecs are rows
 * of the registry in encode.c. Same pixels, same bytes: always. */
#ifndef SM_TILER_ENCODE_H
#define SM_TILER_ENCODE_H

#include "common/buf.h"
#include "tiler/slide.h"

typedef struct sm_encoder sm_encoder;

typedef struct sm_encode_params {
    sm_codec codec;
    uint32_t tile_w_px, tile_h_px; /* multiples of 16 */
    uint32_t quality;              /* JPEG 1..100 */
    uint8_t h_samp, v_samp;        /* JPEG: 1,1 / 2,1 / 2,2 */
    int zstd_level;                /* ZSTD; 0: default of encode_zstd.c */
} sm_encode_params;

SM_NODISCARD sm_status sm_encoder_open(const sm_encode_params *params, sm_encoder **encoder,
                                       sm_error *err);
/**
 * Append one whole tile's bytes to out: JPEG: abbreviated YCbCr stream without tables and JFIF
 * (they are in sm_encode_tables); zstd, deflate, lzw: with horizontal predictor; none: raw.
 * @param rgb tile_h rows of tile_w pixels, 3 bytes each, no padding; not modified
 */
SM_NODISCARD sm_status sm_encoder_tile(sm_encoder *encoder, const uint8_t *rgb, sm_buf *out,
                                       sm_error *err);
void sm_encoder_close(sm_encoder **encoder);

/** Append the tables-only stream for tag 347 (JPEG); nothing for the others. */
SM_NODISCARD sm_status sm_encode_tables(const sm_encode_params *params, sm_buf *out, sm_error *err);

/** TIFF tags of what the encoder writes. */
uint16_t sm_encode_compression(const sm_encode_params *params); /* 7, 50000, 8, 5, 1 */
uint16_t sm_encode_photometric(const sm_encode_params *params); /* 6 for JPEG, else 2 */
uint16_t sm_encode_predictor(const sm_encode_params *params);   /* 2 for zstd/deflate/lzw, else 1 */

#endif
