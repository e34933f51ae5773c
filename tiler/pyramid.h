/* The pyramid: tiles of pixels that fill up in any order from any thread. A tile that has all its
 * pixels is handed out once, then reduced by 2x2 mean into the stage below it, and forgotten. Only
 * unfinished tiles use memory. No I/O, no codecs. */
#ifndef SM_TILER_PYRAMID_H
#define SM_TILER_PYRAMID_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "common/geom.h"

typedef struct sm_pyramid sm_pyramid;

#define SM_NO_STAGE UINT32_MAX

/* One resolution that exists as pixels. Stages may be stored or only lead to the next one. */
typedef struct sm_pyramid_stage {
    uint32_t w_px, h_px;
    uint32_t child; /* the stage of half this size that is made from it, or SM_NO_STAGE */
    bool wanted;    /* hand its tiles to the callback */
} sm_pyramid_stage;

/**
 * A finished tile.
 * @param worker  the thread number given to the call that finished it
 * @param seq     the largest seq of all that went into it: what geometry alone decides
 * @param rgb     tile_h rows of tile_w pixels, no padding between rows, edges repeated beyond the
 *                stage's size; valid during the call
 */
typedef sm_status (*sm_pyramid_tile)(void *user, unsigned worker, uint32_t stage, uint32_t col,
                                     uint32_t row, uint64_t seq, const uint8_t *rgb, sm_error *err);

/**
 * @param stages  copied; a child has half the sides of its parent (sm_half_px) and one parent
 * @param tile_w_px,tile_h_px  of every stage; multiples of 16
 */
SM_NODISCARD sm_status sm_pyramid_new(const sm_pyramid_stage *stages, uint32_t n_stages,
                                      uint32_t tile_w_px, uint32_t tile_h_px,
                                      sm_pyramid_tile on_tile, void *user, sm_pyramid **pyramid,
                                      sm_error *err);

/**
 * Memory to decode into without a copy, if w x h pixels at (x, y) fall into one tile, padding
 * included; *rgb is NULL if they do not (decode elsewhere, then sm_pyramid_put).
 * What was begun must be ended by sm_pyramid_end with the pixels that count.
 */
SM_NODISCARD sm_status sm_pyramid_begin(sm_pyramid *pyramid, uint32_t stage, uint32_t x, uint32_t y,
                                        uint32_t w, uint32_t h, uint8_t **rgb, size_t *stride,
                                        sm_error *err);
SM_NODISCARD sm_status sm_pyramid_end(sm_pyramid *pyramid, unsigned worker, uint32_t stage,
                                      sm_rect rect, uint64_t seq, sm_error *err);

/**
 * Copy a rectangle of pixels in. Every pixel of a stage is put exactly once; threads may put
 * different rectangles at the same time.
 * @param rect  inside the stage; empty is allowed and does nothing
 * @param rgb   rect.h rows, `stride` bytes apart; NULL: fill with `fill` instead
 */
SM_NODISCARD sm_status sm_pyramid_put(sm_pyramid *pyramid, unsigned worker, uint32_t stage,
                                      sm_rect rect, const uint8_t *rgb, size_t stride,
                                      const uint8_t fill[3], uint64_t seq, sm_error *err);

/** Tiles unfinished now; 0 after every pixel was put. */
uint64_t sm_pyramid_unfinished(const sm_pyramid *pyramid);

void sm_pyramid_free(sm_pyramid **pyramid);

#endif
