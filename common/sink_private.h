/* The inside of a sink, shared by sink.c (writing) and sink_verify.c (verify, commit). */
#ifndef SM_COMMON_SINK_PRIVATE_H
#define SM_COMMON_SINK_PRIVATE_H

#include <sys/stat.h>

#include "common/digest.h"
#include "common/ring.h"
#include "common/sink.h"

/* What was written where, and its XXH3-128 taken from memory. */
typedef struct sink_chunk {
    uint64_t offset;
    size_t len;
    sm_digest digest;
} sink_chunk;

/* One write: being filled, in flight, or idle. */
typedef struct sink_block {
    sm_ring_op op; /* op.len: bytes filled so far */
    bool busy;
} sink_block;

typedef enum sink_state {
    SINK_APPENDING,
    SINK_DIGESTED, /* the data digest was given: only the head may follow */
    SINK_COMPLETE, /* the head is written */
    SINK_VERIFIED,
    SINK_PUBLISHED,
    SINK_FAILED, /* only discard is left */
} sink_state;

struct sm_sink {
    char *path;                   /* as given */
    char *temp_path;              /* beside it */
    const char *name, *temp_name; /* the last components of the two */
    int dir_fd;
    int fd;        /* written to, holds the lock; -1 after verify */
    int verify_fd; /* read back, holds the lock until commit or discard; -1 before */
    bool force, temp_exists;
    bool keep_mode; /* a file is being replaced: mode is its */
    mode_t mode;
    sink_state state;
    sm_error failure; /* what made it SINK_FAILED */
    uint64_t head_bytes, size;
    size_t block_bytes;
    sm_ring *ring;
    unsigned n_blocks;
    sink_block *blocks;  /* n_blocks; bytes allocated when first used */
    sink_block *filling; /* one of them, or NULL */
    uint64_t written_since_sync;
    sm_hasher *data_hasher;
    sink_chunk head;
    sm_buf chunks; /* array of sink_chunk: the data, in order */
};

/** Remember the failure in err, which every later call repeats; returns its status. */
sm_status sm_sink_break(sm_sink *sink, const sm_error *err);

/** SM_ERR_* of a failed call on the output: ENOSPC and EDQUOT with the free space named. */
sm_status sm_sink_io_failed(const sm_sink *sink, int errnum, const char *what, sm_error *err);

/** The failure so far, if there is one; SM_ERR_INTERNAL if the state is beyond `latest`. */
SM_NODISCARD sm_status sm_sink_check_state(const sm_sink *sink, sink_state latest, const char *call,
                                           sm_error *err);

/** Send the block being filled, and wait for every write. */
SM_NODISCARD sm_status sm_sink_drain(sm_sink *sink, sm_error *err);

/** After sm_sink_drain; nothing can be written any more. */
void sm_sink_free_blocks(sm_sink *sink);

/** SM_ERR_ARG if something that may not be replaced has the final name; fills keep_mode, mode. */
SM_NODISCARD sm_status sm_sink_check_target(sm_sink *sink, sm_error *err);

/** A shared OFD lock, so that other runs see the temporary is alive. 0, or the errno. */
int sm_sink_lock(int fd);

/** Close what is open and free; the temporary stays as it is. */
void sm_sink_release(sm_sink **sink);

#endif
