/* Advisory locks that die with their holder (fcntl, open file description), between processes,
 * hosts and Gluster mounts; with a line of text that says who holds them. */
#ifndef SM_COMMON_LOCK_H
#define SM_COMMON_LOCK_H

#include <stdint.h>

#include "common/error.h"

typedef struct sm_lock sm_lock;

/* As first/last of a range: the whole. */
#define SM_LOCK_ALL_FIRST 0
#define SM_LOCK_ALL_LAST (INT64_MAX - 1)

/**
 * Lock bytes first..last of the file `path` (made if missing, in a folder that exists).
 * Who holds it is written as one line to `path`.holder/FIRST-LAST (best effort, atomically): host,
 * pid, `what`, since when.
 * @param what    e.g. "catalog merge", "ingest --shard 7"; shown to whoever is refused
 * @param wait_s  seconds to wait for it; 0: not at all. Obeys sm_stop_check while waiting.
 * SM_ERR_BUSY: "PATH: held by HOST pid 123 (catalog scan, since 2026-01-02T03:04:05Z)".
 */
SM_NODISCARD sm_status sm_lock_take(const char *path, uint64_t first, uint64_t last,
                                    const char *what, uint32_t wait_s, sm_lock **lock,
                                    sm_error *err);

/** Is it still ours? After a brick restart a lock may be gone: tries to take it again.
 *  SM_ERR_BUSY when somebody else has it now. */
SM_NODISCARD sm_status sm_lock_check(sm_lock *lock, sm_error *err);

/** NULL inside is accepted. */
void sm_lock_release(sm_lock **lock);

/* ---- a folder that is known to be dead when its maker is ---- */

typedef struct sm_scratch sm_scratch;

/**
 * Make the private folder BASE/PREFIX.XXXXXX (0700), flocked as long as this process has it.
 * Folders of dead makers (same user, same prefix; plain files in them, no folders) are removed
 * first.
 * @param base  NULL: SLURM_TMPDIR, TMPDIR, or /tmp
 * SM_ERR_ARG: base is missing or may not be written; SM_ERR_IO.
 */
SM_NODISCARD sm_status sm_scratch_make(const char *base, const char *prefix, sm_scratch **scratch,
                                       sm_error *err);
/** Borrowed. */
const char *sm_scratch_path(const sm_scratch *scratch);
/** Remove the folder and the files in it. NULL inside is accepted. */
void sm_scratch_remove(sm_scratch **scratch);

#endif
