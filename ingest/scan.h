/* A folder tree against the catalog: what is new, changed, missing. */
#ifndef SM_INGEST_SCAN_H
#define SM_INGEST_SCAN_H

#include <stdbool.h>
#include <stdint.h>

#include "common/catalog.h"

typedef struct sm_scan_options {
    const char *under;          /* only this sub-folder; NULL: the whole root */
    bool probe;                 /* open each new slide for vendor, dimensions, MPP */
    bool bricks;                /* ask each file's brick */
    const char *const *exclude; /* globs of paths to pass over, NULL-terminated; may be NULL */
    uint32_t threads;           /* stats in flight; 0: 8 */
} sm_scan_options;

typedef struct sm_scan_result {
    uint64_t n_files, n_new, n_changed, n_same, n_missing, n_back, n_unreadable, n_refused;
    uint64_t bytes;
    bool complete; /* every folder could be listed and every known brick answered */
} sm_scan_result;

typedef void (*sm_scan_say)(void *arg, const char *line);

/**
 * Walk the catalog's root and update an open change. Hidden files (".NAME.XXXXXX" temporaries among
 * them), the catalog itself, and slides' parts are no slides. Symlinks are followed only beneath
 * the root; folders met twice are walked once. A slide that is not found any more is marked not
 * present, never removed; if its brick gave no file at all, or a folder could not be listed, that
 * is said (a brick that is down makes its files look absent).
 */
SM_NODISCARD sm_status sm_scan(sm_catalog *catalog, const sm_scan_options *options, sm_scan_say say,
                               void *arg, sm_scan_result *result, sm_error *err);

#endif
