/* How the folder of the outputs is told from an empty mount point of the same path: by a mark, made
 * by the first run. Ranks and workers look for it, on every node, before they write.
 *
 *   OUT/.slidemill-out-<32 hex digits>/   the mark
 *   corpus.smc.d/out-mark                 its name, and the host that made it
 *
 * The mark is a folder: GlusterFS shows folders also while the brick of a file would be down. */
#ifndef SM_INGEST_OUT_MARK_H
#define SM_INGEST_OUT_MARK_H

#include <stdbool.h>

#include "common/error.h"

#define SM_OUT_MARK_CAP 64

/** Name of the mark that the catalog's runs look for; "" when no run has made one yet.
 *  SM_ERR_CORRUPT: the record is not one of ours. */
SM_NODISCARD sm_status sm_out_mark_read(const char *catalog_path, char mark[SM_OUT_MARK_CAP],
                                        sm_error *err);

/** The same, and look for it in `dir`: SM_ERR_IO if it, or `dir`, is not there. */
SM_NODISCARD sm_status sm_out_mark_find(const char *catalog_path, const char *dir,
                                        char mark[SM_OUT_MARK_CAP], sm_error *err);

/** The same, and make mark and record in `dir` when there are none. Of many that do so at once one
 *  makes the record, and all look for its mark. SM_ERR_IO: the mark is not in `dir`, which is not
 *  mounted here, or was not there. Needs the folder CATALOG.d. */
SM_NODISCARD sm_status sm_out_mark_make(const char *catalog_path, const char *dir,
                                        char mark[SM_OUT_MARK_CAP], sm_error *err);

/** SM_ERR_IO with ENOENT unless `mark` is in the folder that dir_fd stands for (O_PATH will do);
 *  dir: its path, for the message. An empty mark is always there. */
SM_NODISCARD sm_status sm_out_mark_check(int dir_fd, const char *dir, const char *mark,
                                         sm_error *err);

/** Is this a name as sm_out_mark_make makes them? */
bool sm_out_mark_is_name(const char *name);

#endif
