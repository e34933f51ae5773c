/* The bytes of one input file: random bounded reads, an ordered stream of the whole, or a list of
 * extents in any order. This is all that tiler/ knows of disks and mounts. */
#ifndef SM_COMMON_SOURCE_H
#define SM_COMMON_SOURCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/error.h"

typedef struct sm_source sm_source;

/** Open a regular file for reading (O_CLOEXEC, O_NOCTTY; a FIFO, device or folder is SM_ERR_ARG).
 *  ENOENT, EACCES, ENOTDIR, EISDIR, ELOOP, ENAMETOOLONG are SM_ERR_ARG; all else SM_ERR_IO. */
SM_NODISCARD sm_status sm_source_open(const char *path, sm_source **source, sm_error *err);

/** A source over an open descriptor of a regular file, which it takes over (also on failure); path
 *  is for messages and for sm_source_check_unchanged. */
SM_NODISCARD sm_status sm_source_from_fd(int fd, const char *path, sm_source **source,
                                         sm_error *err);

/** A source over bytes in memory, for tests and fuzzing; bytes are borrowed for its lifetime. */
SM_NODISCARD sm_status sm_source_open_memory(const void *bytes, size_t len, const char *name,
                                             sm_source **source, sm_error *err);

const char *sm_source_path(const sm_source *source);
uint64_t sm_source_size(const sm_source *source);
/** True on a disk of this machine; false on NFS, FUSE (Gluster), CIFS, Lustre, Ceph, GPFS, ... */
bool sm_source_is_local(const sm_source *source);

/** Read exactly len bytes at offset. A range beyond the end is SM_ERR_CORRUPT ("file ends at byte
 *  N"). Thread-safe. */
SM_NODISCARD sm_status sm_source_pread(const sm_source *source, void *bytes, size_t len,
                                       uint64_t offset, sm_error *err);

/** SM_ERR_CORRUPT if size, mtime or inode changed since sm_source_open ("changed while read"). */
SM_NODISCARD sm_status sm_source_check_unchanged(const sm_source *source, sm_error *err);

void sm_source_close(sm_source **source);

/* ---- the whole file in order (common/stream.c) ---- */

typedef struct sm_stream sm_stream;

typedef struct sm_stream_config {
    size_t block_bytes; /* 0: 4 MiB */
    unsigned depth;     /* blocks in flight; 0: 6 */
    bool past_cache; /* O_DIRECT where the file system has it: what is on the medium, not in RAM */
} sm_stream_config;

typedef struct sm_block {
    const uint8_t *bytes;
    size_t len;      /* 0 at the end of the file */
    uint64_t offset; /* of bytes[0] in the file */
} sm_block;

/** Start streaming; reads are in flight from now on. config may be NULL. source outlives stream. */
SM_NODISCARD sm_status sm_stream_open(const sm_source *source, const sm_stream_config *config,
                                      sm_stream **stream, sm_error *err);
/** The next block; valid until the next call. A file that ends early (it shrank) is
 *  SM_ERR_CORRUPT, a failed read SM_ERR_IO with the offset. */
SM_NODISCARD sm_status sm_stream_next(sm_stream *stream, sm_block *block, sm_error *err);
void sm_stream_close(sm_stream **stream);
/** As sm_ring_backend. */
const char *sm_stream_backend(const sm_stream *stream);

/* ---- extents in a given order (common/fetch.c) ---- */

typedef struct sm_extent {
    uint64_t offset;
    uint64_t len; /* 0: nothing is read, an empty buffer comes out */
} sm_extent;

typedef struct sm_fetch sm_fetch;

/**
 * Read extents[0..n) (borrowed) in that order, several in flight but never more than about
 * inflight_bytes (0: 16 MiB) beyond the one handed out; neighbouring extents that touch are read
 * together, up to 1 MiB.
 */
SM_NODISCARD sm_status sm_fetch_open(const sm_source *source, const sm_extent *extents, size_t n,
                                     size_t inflight_bytes, sm_fetch **fetch, sm_error *err);
/** Replace out's contents by the next extent's bytes (out keeps its memory; freed by the caller).
 *  SM_ERR_INTERNAL after the last. Beyond the end of the file: SM_ERR_CORRUPT. */
SM_NODISCARD sm_status sm_fetch_next(sm_fetch *fetch, sm_buf *out, sm_error *err);
void sm_fetch_close(sm_fetch **fetch);
/** As sm_ring_backend. */
const char *sm_fetch_backend(const sm_fetch *fetch);

#endif
