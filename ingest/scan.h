/* A folder tree against the catalog: what is new, changed, missing. */
#ifndef SM_INGEST_SCAN_H
#define SM_INGEST_SCAN_H

#include <stdbool.h>
#include <stdint.h>

#include "common/catalog.h"

typedef void (*sm_scan_say)(void *arg, const char *line);
/* How far it is: folders listed and slides seen, or slides probed. */
typedef void (*sm_scan_at)(void *arg, const char *what, uint64_t n_folders, uint64_t n_slides);

typedef struct sm_scan_options {
    const char *under;          /* only this sub-folder; NULL: the whole root */
    bool probe;                 /* open each slide whose dimensions are not known */
    bool bricks;                /* ask each file's brick */
    const char *const *exclude; /* globs of paths to pass over, NULL-terminated; may be NULL */
    uint32_t threads;           /* questions in flight; 0: 8 */
    sm_scan_at at;              /* may be NULL */
} sm_scan_options;

typedef struct sm_scan_result {
    uint64_t n_files; /* slides that were found: new, changed and same */
    uint64_t n_new, n_changed, n_same;
    uint64_t n_missing; /* not found although their folder and brick answered */
    uint64_t
        n_unanswered; /* not found, but their folder or brick did not answer: left as they are */
    uint64_t n_back;  /* found again; also counted as changed or same */
    uint64_t n_unreadable, n_refused;
    uint64_t n_folders, n_probed, n_unprobed; /* unprobed: not slides that slidemill reads */
    uint64_t bytes;
    bool complete; /* every folder could be listed and every known brick answered */
} sm_scan_result;

/**
 * Walk the catalog's root and update an open change. Hidden files (".NAME.XXXXXX" temporaries among
 * them), the catalog's and the outputs' folders, and slides' parts are no slides. Symlinks are
 * followed only beneath the root; folders met twice are walked once. A slide that is not found any
 * more is marked not present, never removed; if its brick gave no file at all, or its folder could
 * not be listed, it stays as it is and that is said (a brick that is down makes its files look
 * absent).
 * SM_ERR_ARG: root or under is missing; SM_ERR_INTERRUPTED; the change is then to be thrown away.
 */
SM_NODISCARD sm_status sm_scan(sm_catalog *catalog, const sm_scan_options *options, sm_scan_say say,
                               void *arg, sm_scan_result *result, sm_error *err);

#endif
