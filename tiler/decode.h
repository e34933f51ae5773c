/* Tile bytes -> RGB pixels. One decoder belongs to one thread and one level. Codecs are rows of the
 * registry in decode.c. */
#ifndef SM_TILER_DECODE_H
#define SM_TILER_DECODE_H

#include "tiler/slide.h"

typedef struct sm_decoder sm_decoder;

/** A decoder for tiles of one level of a slide (borrowed, outlives it). */
SM_NODISCARD sm_status sm_decoder_open(const sm_slide *slide, uint32_t level, sm_decoder **decoder,
                                       sm_error *err);

/**
 * Decode one tile (or strip).
 * @param bytes,len  its compressed bytes (planar levels: the planes' bytes one after another, and
 *                   plane_lens their lengths; else plane_lens is NULL). RENDERED: NULL, 0.
 * @param tile       index in the level's grid, row * cols + col
 * @param denom      1: full size; 2: half size straight from the scaled IDCT (JPEG only, tile sides
 *                   even; SM_ERR_ARG otherwise)
 * @param[out] rgb   tile_h / denom rows of tile_w / denom pixels (strips: rounded up; the last
 * strip only as many rows as it has), 3 bytes each, `stride` bytes apart; grey becomes R = G = B;
 * alpha is blended over the slide's background
 * @return SM_ERR_CORRUPT: the bytes do not decode (every libjpeg warning but "extraneous bytes
 *         before marker" counts), or are not of the level's shape; err has no tile in it: the
 * caller knows that.
 */
SM_NODISCARD sm_status sm_decoder_tile(sm_decoder *decoder, const uint8_t *bytes, size_t len,
                                       const uint64_t *plane_lens, uint64_t tile, unsigned denom,
                                       uint8_t *rgb, size_t stride, sm_error *err);

void sm_decoder_close(sm_decoder **decoder);

/** Bytes of memory one decoder of this level holds, about: for the memory bound. */
uint64_t sm_decoder_memory(const sm_level *level);

#endif
