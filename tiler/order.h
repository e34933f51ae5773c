/* The order in which source tiles are processed, and what each of them will complete: found by
 * running the geometry of the whole conversion once without pixels. It fixes the bytes of the
 * output (tiles are appended in this order, whatever threads do) and tells the memory beforehand.
 */
#ifndef SM_TILER_ORDER_H
#define SM_TILER_ORDER_H

#include "tiler/plan.h"

/* One source tile. */
typedef struct sm_unit {
    uint32_t level; /* source level */
    uint32_t tile;  /* row * cols + col */
} sm_unit;

typedef struct sm_order {
    sm_unit *units;
    uint64_t n;
    uint32_t *n_outputs;  /* output tiles whose last piece is unit i */
    bool streamed;        /* units lie in file order: one pass over the file serves them */
    uint64_t peak_bytes;  /* of unfinished pyramid and coefficient tiles, one thread */
    uint64_t n_out_tiles; /* sum of n_outputs */
} sm_order;

/**
 * File order where one ordered pass over the file suffices and its memory is bearable; grid order
 * (level by level, row by row, read as extents) for shared or overlapping extents, separate colour
 * planes, rendered levels, and files so shuffled that the pyramid would have to hold most of a
 * level.
 */
SM_NODISCARD sm_status sm_order_make(const sm_slide *slide, const sm_plan *plan, sm_order *order,
                                     sm_error *err);
void sm_order_free(sm_order *order);

/** Bytes of one unfinished tile of a retiled output level: packed coefficients of a tile of average
 *  weight (sm_coef_pack_bound). */
uint64_t sm_coef_tile_bytes(const sm_level *source, const sm_out_level *out);

#endif
