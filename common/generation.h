/* A file that is never written in place: immutable snapshots with a generation number, published by
 * rename under a lock, on any mount (docs/catalog.md "Generations"). Knows nothing of what is in
 * it.
 *
 *   corpus.smc                 the current generation
 *   corpus.smc.d/lock          fcntl lock of whoever makes the next one (+ lock.holder/)
 *   corpus.smc.d/gen-0000000017  hard links to the last few generations; the link is the claim
 *   corpus.smc.d/gen-0000000017.sha256  its digest, for `sha256sum -c` and for whoever builds on it
 *
 * A file that is none of the kept ones (an older one copied back, say) is taken as it is, and the
 * next number follows the newest. Going back means a copy: `cp --remove-destination gen-N PATH`.
 */
#ifndef SM_COMMON_GENERATION_H
#define SM_COMMON_GENERATION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

#define SM_GENERATIONS_KEPT 3

typedef struct sm_generation sm_generation;

typedef struct sm_generation_config {
    const char *what; /* who we are, for the lock's holder line: "catalog merge" */
    uint32_t wait_s;  /* wait for the lock */
    const char
        *scratch; /* node-local folder for the working copy; NULL: SLURM_TMPDIR, TMPDIR, /tmp */
} sm_generation_config;

/**
 * Begin the next generation of `path`: takes the lock, adopts a generation that was claimed but not
 * renamed (its maker died in between: its link is moved over `path`), removes dead temporaries,
 * copies the current one to a private file in scratch, and compares it with its .sha256.
 * @param fresh  true: `path` must not exist (SM_ERR_ARG if it does), the copy is an empty file, and
 *               path.d is made; false: it must exist (SM_ERR_ARG)
 * SM_ERR_ARG also: `path` is no regular file, or may not be replaced. SM_ERR_BUSY: another holds
 * the lock. SM_ERR_CORRUPT: the current one is not what was published. SM_ERR_INTERRUPTED.
 */
SM_NODISCARD sm_status sm_generation_begin(const char *path, bool fresh,
                                           const sm_generation_config *config, sm_generation **gen,
                                           sm_error *err);

/** The private working copy. Borrowed. */
const char *sm_generation_copy(const sm_generation *gen);
/** Number that a commit will publish (1 for a fresh one). */
uint64_t sm_generation_number(const sm_generation *gen);
/** A file that was copied without path.d has no numbers beside it, but may know its own: the commit
 *  publishes `number` or what it would have, whichever is greater. SM_ERR_CORRUPT: beyond all
 *  numbers. */
SM_NODISCARD sm_status sm_generation_at_least(sm_generation *gen, uint64_t number, sm_error *err);

/**
 * Publish the working copy: temporary `.NAME.XXXXXX` beside path, fsync, read back past the cache
 * and compare, linkat to path.d/gen-N (EEXIST: SM_ERR_BUSY "generation N was published by
 * another"), its .sha256, fsync, rename over path, fsync, unlink generations older than the last
 * few. Nothing is visible at path before it is whole. On success gen is freed. A failure after the
 * link was made says "was claimed": whoever begins next puts that generation in place.
 */
SM_NODISCARD sm_status sm_generation_commit(sm_generation **gen, sm_error *err);

/** Give up: removes the copy, releases the lock. NULL inside is accepted. */
void sm_generation_discard(sm_generation **gen);

/**
 * For readers' loops, as sm_path_try_again: while one Gluster client renames a generation over
 * `path`, another may get ESTALE or even ENOENT for it. ENOENT is worth repeating only when path.d
 * holds a generation.
 */
bool sm_generation_try_again(const char *path, int errnum, unsigned *tries);

/** Newest generation number that path.d has a link of; 0 if none. For "a newer one exists". */
SM_NODISCARD sm_status sm_generation_newest(const char *path, uint64_t *number, sm_error *err);

/** Path of a kept generation ("path.d/gen-..."), for a rank that must read the same one as rank 0.
 */
SM_NODISCARD sm_status sm_generation_path(const char *path, uint64_t number, char *out, size_t cap,
                                          sm_error *err);

/** For tests: _exit(137) just before step n of a commit (1 = before the temporary is made ...
 *  up to SM_GENERATION_STEPS); 0: never. Also set by the environment SLIDEMILL_TEST_DIE_AT. */
void sm_generation_die_at(unsigned step);
#define SM_GENERATION_STEPS 6

#endif
