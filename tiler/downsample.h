/* The 2x2 mean: one level to the next coarser one. Owns nothing. */
#ifndef SM_TILER_DOWNSAMPLE_H
#define SM_TILER_DOWNSAMPLE_H

#include <stddef.h>
#include <stdint.h>

/**
 * Mean of 2x2 pixels, rounded to nearest (half up), per channel.
 * @param src     src_h rows of src_w RGB pixels, src_stride bytes apart; both sides at least 1
 * @param dst     dst_h rows of dst_w pixels, dst_stride bytes apart; pixel (x, y) is the mean of
 *                source columns 2x, 2x+1 and rows 2y, 2y+1, where a column or row beyond the source
 *                is the last one. 2 * dst_w <= src_w + 1, likewise in y.
 */
void sm_downsample_2x2(const uint8_t *src, size_t src_stride, uint32_t src_w, uint32_t src_h,
                       uint8_t *dst, size_t dst_stride, uint32_t dst_w, uint32_t dst_h);

/**
 * Repeat the last column and row of the w x h pixels at rgb over the rest of a tile, so that an
 * encoder sees no edge that the image does not have.
 */
void sm_pad_edges(uint8_t *rgb, size_t stride, uint32_t w, uint32_t h, uint32_t tile_w,
                  uint32_t tile_h);

#endif
