/* A slide that must be read at random, brought from a mount to a local folder first. */
#ifndef SM_TILER_STAGE_IN_H
#define SM_TILER_STAGE_IN_H

#include "common/digest.h"
#include "common/source.h"

/** SHA-256 of the whole source, in one ordered pass. Obeys sm_stop_check. */
SM_NODISCARD sm_status sm_hash_source(const sm_source *source, sm_digest *sha256, sm_error *err);

/**
 * Copy the source into a new folder below `dir` (its file name stays: readers look at it), hashing
 * as it passes. *path is the copy's, malloc'ed; remove with sm_stage_remove.
 */
SM_NODISCARD sm_status sm_stage_in(const sm_source *source, const char *dir, char **path,
                                   sm_digest *sha256, sm_error *err);

/** Remove the copy and its folder, free the path. NULL inside is accepted. */
void sm_stage_remove(char **path);

/** Where copies go: SLURM_TMPDIR, TMPDIR, else /tmp. */
const char *sm_stage_default_dir(void);

#endif
