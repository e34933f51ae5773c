/* A folder tree listed and looked at by several threads at once, because a mount answers slowly.
 * Finds candidates for slides by name; knows no catalog. */
#ifndef SM_INGEST_WALK_H
#define SM_INGEST_WALK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/brick.h"
#include "common/error.h"

/* A folder by what it is, whatever its path. */
typedef struct sm_walk_place {
    dev_t dev;
    ino_t ino;
} sm_walk_place;

typedef struct sm_walk_config {
    int root_fd;                /* borrowed; paths are beneath it */
    const char *under;          /* begin at this folder; NULL: the root */
    const char *const *exclude; /* globs, NULL-terminated; may be NULL */
    const sm_walk_place *skip;  /* folders that are passed over */
    size_t n_skip;
    bool bricks;      /* ask each file's brick */
    uint32_t threads; /* 0: 8 */
} sm_walk_config;

typedef enum sm_walk_kind {
    SM_WALK_SLIDE,      /* size, mtime, brick, parts are set */
    SM_WALK_UNREADABLE, /* it is listed, but the mount would not tell more: why */
    SM_WALK_REFUSED,    /* a symbolic link that leads out, a name that cannot be a path: why */
    SM_WALK_FOLDER,     /* a folder was listed to its end: n_files; brick: its device's name */
    SM_WALK_NO_FOLDER,  /* a folder could not be listed: why */
} sm_walk_kind;

typedef struct sm_walk_part {
    char *path;
    uint64_t size_bytes; /* UINT64_MAX: it is missing */
    int64_t mtime_ns;
} sm_walk_part;

typedef struct sm_walk_item {
    struct sm_walk_item *next;
    sm_walk_kind kind;
    char *path; /* relative to the root; "" is the root */
    char *why;
    uint64_t size_bytes, n_files;
    int64_t mtime_ns;
    const char *brick; /* the walk's; NULL: not asked, or it did not say */
    sm_walk_part *parts;
    size_t n_parts;
} sm_walk_item;

typedef struct sm_walk sm_walk;

/** Start the threads. Hidden names are passed over, and the folder of an MRXS slide (its parts are
 *  listed with it). A folder met twice is listed once; symbolic links to folders come last, in the
 *  order of their names, so that the order of answers changes nothing. */
SM_NODISCARD sm_status sm_walk_start(const sm_walk_config *config, sm_walk **walk, sm_error *err);

/** The next finding, in any order; *item NULL at the end. Free it before the walk.
 * SM_ERR_INTERRUPTED, SM_ERR_NOMEM: the walk is over. */
SM_NODISCARD sm_status sm_walk_next(sm_walk *walk, sm_walk_item **item, sm_error *err);
void sm_walk_item_free(sm_walk_item **item);
/** Stops and joins the threads. NULL inside is accepted. */
void sm_walk_free(sm_walk **walk);

/** Would the walk pass this path over: a hidden component, or a glob that takes it or a folder
 * above it? A glob without '/' is matched with each component, one with '/' with the whole. */
bool sm_walk_excluded(const char *path, const char *const *exclude);

#endif
