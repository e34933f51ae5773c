/* One output file, from a hidden temporary name to a verified, published one (docs/design.md
 * section 4): append data after a reserved head, write the head last, fsync, close, read back and
 * compare, rename, fsync the folder. Nothing is ever visible under the final name before that. */
#ifndef SM_COMMON_SINK_H
#define SM_COMMON_SINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/digest.h"
#include "common/error.h"

typedef struct sm_sink sm_sink;

typedef enum sm_verify_mode {
    SM_VERIFY_CACHE, /* read back through the page cache, while fsync runs */
    SM_VERIFY_MEDIA, /* drop the cache, read back with O_DIRECT where the file system has it */
    SM_VERIFY_NONE,  /* do not read back */
} sm_verify_mode;

typedef struct sm_sink_config {
    uint64_t head_bytes; /* reserved at the start, written by sm_sink_write_head */
    bool force;          /* replace an existing file at commit; else its presence is SM_ERR_ARG */
    size_t block_bytes;  /* 0: 4 MiB per write */
    unsigned depth;      /* writes in flight; 0: 4 */
} sm_sink_config;

typedef struct sm_sink_result {
    uint64_t size_bytes;
    bool read_back;   /* false with SM_VERIFY_NONE: sha256 is then not set */
    sm_digest sha256; /* of the whole file, as read back */
    uint64_t fsync_ns, verify_ns, publish_ns; /* publish: rename + fsync of the folder */
} sm_sink_result;

/**
 * Create `.<final>.<6 random chars>` beside path with O_EXCL (mode 0666 & ~umask; on replacement
 * the old file's mode is kept) and lock it, so that another run can tell a live temporary from a
 * dead one. Dead temporaries of the same final name are removed first.
 * SM_ERR_ARG: the folder is missing, the target is a folder, exists without force, or is read-only
 * (EROFS, EACCES); SM_ERR_IO: the rest (ENOSPC with the free space named).
 */
SM_NODISCARD sm_status sm_sink_create(const char *path, const sm_sink_config *config,
                                      sm_sink **sink, sm_error *err);

/**
 * Append len bytes (copied) and say where they will stand. One caller at a time.
 * A failed write of any earlier bytes is reported here or by a later call; after a failure only
 * sm_sink_discard is left. Writeback is started as the file grows, so that fsync is short.
 */
SM_NODISCARD sm_status sm_sink_append(sm_sink *sink, const void *bytes, size_t len,
                                      uint64_t *offset, sm_error *err);

/** Bytes so far, the head included: where the next append will stand. */
uint64_t sm_sink_size(const sm_sink *sink);

/** XXH3-128 of all appended bytes in order (the head not included); no append may follow. */
SM_NODISCARD sm_status sm_sink_data_digest(sm_sink *sink, sm_digest *digest, sm_error *err);

/** Write the head: exactly head_bytes bytes at offset 0. Once, after the last append. */
SM_NODISCARD sm_status sm_sink_write_head(sm_sink *sink, const void *bytes, size_t len,
                                          sm_error *err);

/**
 * Make it durable and verified, but not yet visible: all writes done, fsync, close, reopen, read
 * back (mode) and compare every chunk with the digest taken in memory while writing.
 * SM_ERR_CORRUPT names the first differing chunk's offset.
 */
SM_NODISCARD sm_status sm_sink_verify(sm_sink *sink, sm_verify_mode mode, sm_sink_result *result,
                                      sm_error *err);

/** Path of the temporary, for a structure check between verify and commit. Borrowed. */
const char *sm_sink_temp_path(const sm_sink *sink);

/** Rename over the final name and fsync the folder; without force an existing target is refused
 *  (linkat, then unlink; rename where links are not supported). Needs sm_sink_verify first.
 *  Success frees the sink and leaves NULL; failure leaves it to be discarded. */
SM_NODISCARD sm_status sm_sink_commit(sm_sink **sink, sm_sink_result *result, sm_error *err);

/** Remove the temporary and release. Cannot fail; NULL inside is accepted. */
void sm_sink_discard(sm_sink **sink);

#endif
