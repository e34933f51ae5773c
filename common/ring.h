/* Asynchronous positioned reads and writes: io_uring where the kernel allows it, else a pool of
 * pread/pwrite threads behind the same calls. One thread at a time uses a ring. */
#ifndef SM_COMMON_RING_H
#define SM_COMMON_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

typedef struct sm_ring sm_ring;

/* One transfer. The caller fills the first five fields and keeps the struct and the bytes alive
 * until sm_ring_wait hands the op back. Short transfers are continued inside. */
typedef struct sm_ring_op {
    int fd;
    bool write;
    void *bytes; /* read: filled; write: source (never modified) */
    size_t len;
    uint64_t offset; /* byte position in the file */
    void *user;      /* the caller's, untouched */
    /* results */
    size_t done;   /* bytes transferred; less than len on a read that met the end of the file */
    int sys_errno; /* 0, or the positive errno that ended the transfer */
} sm_ring_op;

/**
 * Open a ring for at most `depth` (1..1024) transfers in flight. io_uring is probed once a process
 * (ENOSYS, EPERM, missing opcodes); SLIDEMILL_IO=threads in the environment forces the fallback,
 * SLIDEMILL_IO=uring makes its absence an error (SM_ERR_IO), any other value is SM_ERR_ARG.
 */
SM_NODISCARD sm_status sm_ring_open(unsigned depth, sm_ring **ring, sm_error *err);

/** "io_uring", or "threads (reason)" e.g. "threads (SLIDEMILL_IO=threads)". Static string. */
const char *sm_ring_backend(const sm_ring *ring);

/** True if another sm_ring_submit would not exceed the depth. */
bool sm_ring_has_room(const sm_ring *ring);

/** Transfers submitted and not yet handed back. */
unsigned sm_ring_inflight(const sm_ring *ring);

/** Queue a transfer and start it. SM_ERR_INTERNAL when the ring is full. */
SM_NODISCARD sm_status sm_ring_submit(sm_ring *ring, sm_ring_op *op, sm_error *err);

/** Block until some transfer ends and hand it back; a failed transfer is SM_OK with op->sys_errno
 *  set. SM_ERR_INTERNAL when nothing is in flight. EINTR is retried inside. */
SM_NODISCARD sm_status sm_ring_wait(sm_ring *ring, sm_ring_op **op, sm_error *err);

/** Waits for what is in flight, then releases. NULL inside is accepted. */
void sm_ring_close(sm_ring **ring);

#endif
