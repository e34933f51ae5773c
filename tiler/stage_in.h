/* A slide that must be read at random, brought from a mount to a local folder first. */
#ifndef SM_TILER_STAGE_IN_H
#define SM_TILER_STAGE_IN_H

#include "common/digest.h"
#include "common/source.h"

/* One ordered pass over a source: who watches it, and what it yields. */
typedef struct sm_source_pass {
    const sm_digest_kind *also;            /* another digest besides SHA-256, or NULL */
    void (*at)(void *arg, uint64_t bytes); /* after each block, or NULL */
    void *arg;
    bool past_cache;         /* as in sm_stream_config */
    sm_digest sha256, other; /* results; other only if asked for */
} sm_source_pass;

/** Digests of the whole source. Obeys sm_stop_check. */
SM_NODISCARD sm_status sm_hash_source(const sm_source *source, sm_source_pass *pass, sm_error *err);

/**
 * Copy the source into a new folder below `dir` (its file name stays: readers look at it), hashing
 * as it passes. *path is the copy's, malloc'ed; remove with sm_stage_remove.
 */
SM_NODISCARD sm_status sm_stage_in(const sm_source *source, const char *dir, char **path,
                                   sm_source_pass *pass, sm_error *err);

/** Remove the copy and its folder, free the path. NULL inside is accepted. */
void sm_stage_remove(char **path);

/** Where copies go: SLURM_TMPDIR, TMPDIR, else /tmp. */
const char *sm_stage_default_dir(void);

#endif
