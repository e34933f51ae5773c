/* Lists of files into an open change of a catalog. */
#ifndef SM_INGEST_CATALOG_IMPORT_H
#define SM_INGEST_CATALOG_IMPORT_H

#include "ingest/catalog_cli.h"

typedef struct import_result {
    const char *kind; /* of the list */
    uint64_t n_lines; /* entries and bad lines */
    uint64_t n_known; /* of slides that were there; also their parts */
    uint64_t n_added;
    uint64_t n_unknown;   /* of no slide of the catalog */
    uint64_t n_no_slides; /* would have been added, but are no slides by their names */
    uint64_t n_bad;       /* not understood, or a path that could leave the root */
    uint64_t n_conflicts; /* contradict what an earlier list gave */
} import_result;

/**
 * @param kind  an sm_manifest_kind
 * @param add   slides that the catalog does not have are added
 * Bad lines, unknown paths and contradictions are said, counted and left out; the rest counts.
 */
SM_NODISCARD sm_status catalog_import_list(sm_catalog *catalog, catalog_args *args,
                                           const char *path, bool add, import_result *result,
                                           sm_error *err);
/** To standard output. */
void catalog_print_import(const char *path, const import_result *result);
/** 65 if a line was bad or contradicted, or nothing at all was of use; else 0. */
int catalog_import_code(const import_result *result);

#endif
