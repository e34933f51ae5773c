/* What ring.c needs from the thread back end. Private to ring.c and ring_threads.c. */
#ifndef SM_COMMON_RING_BACKEND_H
#define SM_COMMON_RING_BACKEND_H

#include "common/error.h"
#include "common/ring.h"

/* One system call never moves more: a multiple of every alignment, and below Linux's 2 GiB. */
#define SM_RING_CHUNK_BYTES ((size_t)1 << 30)

/**
 * Take in the result of one read or write call for op: res >= 0 bytes moved, or -errno.
 * True when the transfer has ended (op->done and op->sys_errno are final), false when the rest is
 * still to be submitted.
 */
bool sm_ring_op_step(sm_ring_op *op, long res);

typedef struct sm_ring_threads sm_ring_threads;

SM_NODISCARD sm_status sm_ring_threads_new(unsigned depth, sm_ring_threads **threads,
                                           sm_error *err);
/** Never blocks: the caller keeps to depth. */
void sm_ring_threads_submit(sm_ring_threads *threads, sm_ring_op *op);
/** Blocks until some op has ended; at least one must be in flight. */
sm_ring_op *sm_ring_threads_wait(sm_ring_threads *threads);
/** Nothing may be in flight. NULL inside is accepted. */
void sm_ring_threads_free(sm_ring_threads **threads);

#endif
