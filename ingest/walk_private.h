/* What the walk's two files share. Not for other modules. */
#ifndef SM_INGEST_WALK_PRIVATE_H
#define SM_INGEST_WALK_PRIVATE_H

#include <pthread.h>

#include "ingest/walk.h"

#define WALK_THREADS_MAX 64
#define WALK_BATCH 64

/* A folder to list, or files of one to look at. */
typedef struct walk_task {
    struct walk_task *next;
    char *path; /* of the folder, or "" */
    char *names[WALK_BATCH];
    size_t n; /* 0: list the folder */
} walk_task;

/* Bricks are few, slides are many. */
typedef struct walk_brick {
    struct walk_brick *next;
    char name[SM_BRICK_CAP];
} walk_brick;

struct sm_walk {
    sm_walk_config config;
    pthread_mutex_t mutex;
    pthread_cond_t changed; /* anything below */
    walk_task *tasks, *links;
    size_t n_batches, n_active, n_findings, n_running;
    sm_walk_item *findings, *last;
    sm_walk_place *places; /* hash table of folders that were listed; ino 0: free */
    size_t n_places, places_cap;
    walk_brick *bricks; /* names that findings point to */
    sm_error failure;
    bool stopping;
    uint32_t n_threads, n_started;
    pthread_t threads[WALK_THREADS_MAX];
};

/* ---- walk.c ---- */

/** NULL: out of memory, and the walk stops. */
walk_task *sm_walk_task(sm_walk *walk, const char *path);
bool sm_walk_task_name(sm_walk *walk, walk_task *task, const char *name);
void sm_walk_drop(walk_task *task);
/** False: enough batches wait; the caller does it itself. */
bool sm_walk_push(sm_walk *walk, walk_task *task);
void sm_walk_push_link(sm_walk *walk, walk_task *task);
sm_walk_item *sm_walk_item_new(sm_walk *walk, sm_walk_kind kind, const char *path,
                               const sm_error *why);
void sm_walk_found(sm_walk *walk, sm_walk_item *item);
void sm_walk_tell(sm_walk *walk, sm_walk_kind kind, const char *path, const sm_error *why);
/** The name as the walk keeps it; NULL for "", and when out of memory (the walk stops). */
const char *sm_walk_brick(sm_walk *walk, const char *name);
void sm_walk_fail(sm_walk *walk, const sm_error *err);
/** False: it was listed before, or is to be passed over. */
bool sm_walk_is_first(sm_walk *walk, sm_walk_place place);

/* ---- walk_look.c ---- */

void sm_walk_list(sm_walk *walk, const char *path);
void sm_walk_look(sm_walk *walk, const walk_task *task);

#endif
