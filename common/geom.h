/* Checked arithmetic on sizes, and the grid of tiles over a level.
 * Everything is inline; owns nothing. */
#ifndef SM_COMMON_GEOM_H
#define SM_COMMON_GEOM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A level's tile grid. tiles = (uint64_t)cols * rows always fits. */
typedef struct sm_grid {
    uint32_t cols, rows;
} sm_grid;

/* A rectangle of pixels: x, y of its first pixel, its width and height. */
typedef struct sm_rect {
    uint32_t x, y, w, h;
} sm_rect;

static inline bool sm_mul_u64(uint64_t a, uint64_t b, uint64_t *product)
{
    return !__builtin_mul_overflow(a, b, product);
}

static inline bool sm_add_u64(uint64_t a, uint64_t b, uint64_t *sum)
{
    return !__builtin_add_overflow(a, b, sum);
}

static inline bool sm_mul_size(size_t a, size_t b, size_t *product)
{
    return !__builtin_mul_overflow(a, b, product);
}

static inline uint32_t sm_ceil_div_u32(uint32_t n, uint32_t d)
{
    return n / d + (n % d != 0);
}

static inline uint64_t sm_align_u64(uint64_t n, uint64_t to)
{
    return (n + to - 1) / to * to;
}

/** Tiles of tile_w x tile_h that cover w x h pixels; both tile sides at least 1. */
static inline sm_grid sm_grid_for(uint32_t w_px, uint32_t h_px, uint32_t tile_w_px,
                                  uint32_t tile_h_px)
{
    return (sm_grid){sm_ceil_div_u32(w_px, tile_w_px), sm_ceil_div_u32(h_px, tile_h_px)};
}

static inline uint64_t sm_grid_tiles(sm_grid grid)
{
    return (uint64_t)grid.cols * grid.rows;
}

/** Side of the next coarser level: floor of the exact half, at least 1. */
static inline uint32_t sm_half_px(uint32_t side_px)
{
    return side_px > 1 ? side_px / 2 : 1;
}

static inline uint32_t sm_min_u32(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static inline uint32_t sm_max_u32(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

#endif
