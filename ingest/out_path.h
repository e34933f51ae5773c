/* Where the output of a slide goes below the target's folder: the one rule that ingest and the
 * catalog's listings share.
 *
 * The slide's path with `suffix` in place of its extension: a.svs -> a.ome.tiff. If the catalog has
 * another slide of the same stem, or one whose whole path is this stem, the suffix follows the full
 * name instead: a.svs -> a.svs.ome.tiff. So no two slides of a catalog share an output, and the
 * catalog alone decides. */
#ifndef SM_INGEST_OUT_PATH_H
#define SM_INGEST_OUT_PATH_H

#include "common/buf.h"
#include "common/catalog.h"

/** Is `suffix` fit for the end of a file name: ".ome.tiff"? SM_ERR_ARG if not. */
SM_NODISCARD sm_status sm_out_suffix_check(const char *suffix, sm_error *err);

/** Length of `path` without its last extension ("a/b.svs": 3; ".ome.tif" and ".ome.tiff" are one
 *  extension; a name that has none, or begins with its only dot, is all stem). */
size_t sm_out_stem_len(const char *path);

/* All paths and stems of a catalog, as 64-bit hashes. */
typedef struct sm_out_names sm_out_names;

/** One pass over the catalog's paths: about a second and 16 MB for 1,000,000 slides. */
SM_NODISCARD sm_status sm_out_names_new(sm_catalog *catalog, sm_out_names **names, sm_error *err);
/** Does the output of this slide keep the slide's full name? */
bool sm_out_names_full(const sm_out_names *names, const char *path);
void sm_out_names_free(sm_out_names **names);

/** The output's path. out is replaced, NUL-terminated (counted in len). SM_ERR_LIMIT: the name
 *  would be too long. */
SM_NODISCARD sm_status sm_out_path(const char *path, bool full, const char *suffix, sm_buf *out,
                                   sm_error *err);

#endif
