/* The queue between threads that finish tiles in any order and a file that has them in one: tiles
 * wait until everything before them is written. Bounded, because nobody starts a unit that lies
 * more than `window` beyond the oldest one still incomplete. */
#ifndef SM_TILER_REORDER_H
#define SM_TILER_REORDER_H

#include <stdbool.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/error.h"

typedef struct sm_reorder sm_reorder;

/* A finished output tile. bytes are moved into the queue. */
typedef struct sm_tile_out {
    uint32_t level; /* output level */
    uint64_t tile;  /* row * cols + col */
    uint64_t share; /* not 0: tiles of this level with the same key are the same bytes */
    sm_buf bytes;
} sm_tile_out;

/** Write one tile; called in order, one call at a time. bytes stay the queue's. After a failure no
 *  other tile is written, as after sm_reorder_abort. */
typedef sm_status (*sm_reorder_write)(void *user, const sm_tile_out *tile, sm_error *err);

/** @param n_outputs  tiles to expect for each of the n units; borrowed */
SM_NODISCARD sm_status sm_reorder_new(const uint32_t *n_outputs, uint64_t n, uint32_t window,
                                      sm_reorder_write write, void *user, sm_reorder **queue,
                                      sm_error *err);

/** Block until unit i may be started, or until sm_reorder_abort. */
void sm_reorder_wait(sm_reorder *queue, uint64_t i);

/** A tile of unit seq is finished; takes its bytes, whatever the outcome. May write this and other
 *  tiles. */
SM_NODISCARD sm_status sm_reorder_put(sm_reorder *queue, uint64_t seq, sm_tile_out *tile,
                                      sm_error *err);

/** No more writing; whoever waits is let through. */
void sm_reorder_abort(sm_reorder *queue);

/** True when every expected tile was written. */
bool sm_reorder_complete(sm_reorder *queue);

void sm_reorder_free(sm_reorder **queue);

#endif
