/* What the files of the scan share. Not for other modules. */
#ifndef SM_INGEST_SCAN_PRIVATE_H
#define SM_INGEST_SCAN_PRIVATE_H

#include "common/buf.h"
#include "ingest/pattern.h"
#include "ingest/scan.h"
#include "ingest/walk.h"

/* A set of numbers other than 0. Zeroed: empty. */
typedef struct scan_set {
    int64_t *slots;
    size_t n, cap;
} scan_set;

typedef struct scan_brick {
    char name[SM_BRICK_CAP];
    uint64_t n_unanswered;
} scan_brick;

/* A list of paths, owned. */
typedef struct scan_paths {
    char **items;
    size_t n, cap;
} scan_paths;

typedef struct scan {
    sm_catalog *catalog;
    const sm_scan_options *options;
    sm_scan_say say;
    void *arg;
    unsigned n_said;
    sm_scan_result *result;
    int root_fd;
    sm_pattern *pattern; /* NULL: none */
    scan_set seen;       /* ids of slides that were found */
    sm_buf heard;        /* scan_brick of those that gave a file */
    scan_paths unlisted; /* folders that could not be listed */
    scan_paths to_probe;
    sm_walk_item **fresh; /* slides that the catalog does not have */
    size_t n_fresh, fresh_cap;
} scan;

/* ---- scan.c ---- */

/** One line for people; after many only their number is told. */
void scan_say(scan *s, const char *fmt, ...) SM_PRINTF(2, 3);
SM_NODISCARD sm_status scan_set_add(scan_set *set, int64_t number, sm_error *err);
bool scan_set_has(const scan_set *set, int64_t number);
SM_NODISCARD sm_status scan_paths_add(scan_paths *paths, const char *path, sm_error *err);
bool scan_brick_is_heard(const scan *s, const char *name);

/* ---- scan_missing.c ---- */

/** Slides of the catalog that were not found. */
SM_NODISCARD sm_status scan_missing(scan *s, sm_error *err);

/* ---- catalog_probe.c ---- */

/** Open the slides of to_probe, each in a process of its own. */
SM_NODISCARD sm_status scan_probe(scan *s, sm_error *err);

#endif
