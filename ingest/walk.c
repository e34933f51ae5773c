/* Threads that take folders and batches of names from one stack, and hand findings to one reader.
 * The stack is last in, first out, so that it holds a few folders' names and not the whole tree. */
#include "ingest/walk.h"

#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/path.h"
#include "common/stop.h"
#include "ingest/parts.h"
#include "ingest/walk_private.h"

#define FINDINGS_MAX 4096 /* that wait for the reader */

/* ---- what is passed over ---- */

static bool matches(const char *path, size_t len, const char *const *exclude)
{
    char text[SM_PATH_MAX + 1];
    const char *name = text;

    if (len > SM_PATH_MAX)
        return false;
    memcpy(text, path, len);
    text[len] = '\0';
    const char *slash = strrchr(text, '/');
    if (slash != NULL)
        name = slash + 1;
    if (name[0] == '.')
        return true;
    for (; exclude != NULL && *exclude != NULL; exclude++) {
        if (fnmatch(*exclude, strchr(*exclude, '/') != NULL ? text : name, 0) == 0)
            return true;
    }
    return false;
}

bool sm_walk_excluded(const char *path, const char *const *exclude)
{
    for (size_t len = 0;; len++) {
        if ((path[len] == '/' || path[len] == '\0') && matches(path, len, exclude))
            return true;
        if (path[len] == '\0')
            return false;
    }
}

/* ---- tasks and findings ---- */

void sm_walk_fail(sm_walk *walk, const sm_error *err)
{
    (void)pthread_mutex_lock(&walk->mutex);
    if (walk->failure.status == SM_OK)
        walk->failure = *err;
    walk->stopping = true;
    (void)pthread_cond_broadcast(&walk->changed);
    (void)pthread_mutex_unlock(&walk->mutex);
}

static void fail_memory(sm_walk *walk)
{
    sm_error err = SM_ERROR_INIT;

    (void)sm_fail(&err, SM_ERR_NOMEM, "out of memory while listing folders");
    sm_walk_fail(walk, &err);
}

static void task_free(walk_task *task)
{
    for (size_t i = 0; i < task->n; i++)
        free(task->names[i]);
    free(task->path);
    free(task);
}

walk_task *sm_walk_task(sm_walk *walk, const char *path)
{
    walk_task *task = sm_calloc(1, sizeof *task);

    if (task != NULL)
        task->path = strdup(path);
    if (task == NULL || task->path == NULL) {
        free(task);
        fail_memory(walk);
        return NULL;
    }
    return task;
}

bool sm_walk_task_name(sm_walk *walk, walk_task *task, const char *name)
{
    task->names[task->n] = strdup(name);
    if (task->names[task->n] == NULL) {
        fail_memory(walk);
        return false;
    }
    task->n++;
    return true;
}

bool sm_walk_push(sm_walk *walk, walk_task *task)
{
    (void)pthread_mutex_lock(&walk->mutex);
    const bool room = task->n == 0 || walk->n_batches < 4 * (size_t)walk->n_threads;
    if (room) {
        walk->n_batches += task->n != 0;
        task->next = walk->tasks;
        walk->tasks = task;
        (void)pthread_cond_broadcast(&walk->changed);
    }
    (void)pthread_mutex_unlock(&walk->mutex);
    return room;
}

void sm_walk_push_link(sm_walk *walk, walk_task *task)
{
    (void)pthread_mutex_lock(&walk->mutex);
    walk_task **at = &walk->links; /* sorted by path */
    while (*at != NULL && strcmp((*at)->path, task->path) < 0)
        at = &(*at)->next;
    task->next = *at;
    *at = task;
    (void)pthread_mutex_unlock(&walk->mutex);
}

/* Blocks while the reader is far behind. */
void sm_walk_found(sm_walk *walk, sm_walk_item *item)
{
    item->next = NULL;
    (void)pthread_mutex_lock(&walk->mutex);
    while (walk->n_findings >= FINDINGS_MAX && !walk->stopping)
        (void)pthread_cond_wait(&walk->changed, &walk->mutex);
    if (walk->last == NULL)
        walk->findings = item;
    else
        walk->last->next = item;
    walk->last = item;
    if (walk->n_findings++ == 0)
        (void)pthread_cond_broadcast(&walk->changed);
    (void)pthread_mutex_unlock(&walk->mutex);
}

sm_walk_item *sm_walk_item_new(sm_walk *walk, sm_walk_kind kind, const char *path,
                               const sm_error *why)
{
    sm_walk_item *item = sm_calloc(1, sizeof *item);

    if (item != NULL) {
        item->kind = kind;
        item->size_bytes = UINT64_MAX;
        item->path = strdup(path);
        item->why = why != NULL ? strdup(why->message) : NULL;
    }
    if (item == NULL || item->path == NULL || (why != NULL && item->why == NULL)) {
        sm_walk_item_free(&item);
        fail_memory(walk);
        return NULL;
    }
    return item;
}

void sm_walk_tell(sm_walk *walk, sm_walk_kind kind, const char *path, const sm_error *why)
{
    sm_walk_item *item = sm_walk_item_new(walk, kind, path, why);

    if (item != NULL)
        sm_walk_found(walk, item);
}

void sm_walk_item_free(sm_walk_item **item)
{
    if (*item == NULL)
        return;
    for (size_t i = 0; i < (*item)->n_parts; i++)
        free((*item)->parts[i].path);
    free((*item)->parts);
    free((*item)->path);
    free((*item)->why);
    free(*item);
    *item = NULL;
}

const char *sm_walk_brick(sm_walk *walk, const char *name)
{
    walk_brick *brick = NULL;

    if (name[0] == '\0')
        return NULL;
    (void)pthread_mutex_lock(&walk->mutex);
    for (brick = walk->bricks; brick != NULL && strcmp(brick->name, name) != 0;)
        brick = brick->next;
    if (brick == NULL && (brick = sm_calloc(1, sizeof *brick)) != NULL) {
        memcpy(brick->name, name, strnlen(name, sizeof brick->name - 1));
        brick->next = walk->bricks;
        walk->bricks = brick;
    }
    (void)pthread_mutex_unlock(&walk->mutex);
    if (brick == NULL)
        fail_memory(walk);
    return brick != NULL ? brick->name : NULL;
}

/* ---- folders met before ---- */

static size_t place_slot(const sm_walk_place *places, size_t cap, sm_walk_place place)
{
    size_t at = (size_t)((uint64_t)place.ino * UINT64_C(0x9E3779B97F4A7C15) >> 20) & (cap - 1);

    while (places[at].ino != 0 && (places[at].ino != place.ino || places[at].dev != place.dev))
        at = (at + 1) & (cap - 1);
    return at;
}

static bool places_grow(sm_walk *walk)
{
    const size_t cap = walk->places_cap != 0 ? 2 * walk->places_cap : 1024;
    sm_walk_place *grown = sm_calloc(cap, sizeof *grown);

    if (grown == NULL)
        return false;
    for (size_t i = 0; i < walk->places_cap; i++) {
        if (walk->places[i].ino != 0)
            grown[place_slot(grown, cap, walk->places[i])] = walk->places[i];
    }
    free(walk->places);
    walk->places = grown;
    walk->places_cap = cap;
    return true;
}

bool sm_walk_is_first(sm_walk *walk, sm_walk_place place)
{
    bool first = false, failed = false;

    for (size_t i = 0; i < walk->config.n_skip; i++) {
        if (walk->config.skip[i].dev == place.dev && walk->config.skip[i].ino == place.ino)
            return false;
    }
    (void)pthread_mutex_lock(&walk->mutex);
    if (2 * (walk->n_places + 1) > walk->places_cap)
        failed = !places_grow(walk);
    if (!failed) {
        sm_walk_place *slot = &walk->places[place_slot(walk->places, walk->places_cap, place)];
        first = slot->ino == 0;
        *slot = place;
        walk->n_places += first;
    }
    (void)pthread_mutex_unlock(&walk->mutex);
    if (failed)
        fail_memory(walk);
    return first;
}

/* ---- threads ---- */

/* The next task; NULL when nothing is left to do, which is when no other thread can add any more.
 */
static walk_task *take(sm_walk *walk)
{
    walk_task *task = NULL;

    (void)pthread_mutex_lock(&walk->mutex);
    for (;;) {
        if (walk->tasks == NULL && walk->n_active == 0 && walk->links != NULL) {
            walk->tasks = walk->links; /* one at a time: what it holds is listed before the next */
            walk->links = walk->links->next;
            walk->tasks->next = NULL;
        }
        if (walk->stopping || walk->tasks != NULL || walk->n_active == 0)
            break;
        (void)pthread_cond_wait(&walk->changed, &walk->mutex);
    }
    if (!walk->stopping && walk->tasks != NULL) {
        task = walk->tasks;
        walk->tasks = task->next;
        walk->n_batches -= task->n != 0;
        walk->n_active++;
    }
    (void)pthread_mutex_unlock(&walk->mutex);
    return task;
}

static void *thread_main(void *arg)
{
    sm_walk *walk = arg;
    sm_error err = SM_ERROR_INIT;

    for (walk_task *task; (task = take(walk)) != NULL;) {
        if (sm_stop_check(&err) != SM_OK)
            sm_walk_fail(walk, &err);
        else if (task->n > 0)
            sm_walk_look(walk, task);
        else
            sm_walk_list(walk, task->path);
        task_free(task);
        (void)pthread_mutex_lock(&walk->mutex);
        walk->n_active--;
        (void)pthread_cond_broadcast(&walk->changed);
        (void)pthread_mutex_unlock(&walk->mutex);
    }
    (void)pthread_mutex_lock(&walk->mutex);
    walk->n_running--;
    (void)pthread_cond_broadcast(&walk->changed);
    (void)pthread_mutex_unlock(&walk->mutex);
    return NULL;
}

void sm_walk_drop(walk_task *task)
{
    if (task != NULL)
        task_free(task);
}

sm_status sm_walk_start(const sm_walk_config *config, sm_walk **walk, sm_error *err)
{
    sm_walk *w = sm_calloc(1, sizeof *w);

    *walk = NULL;
    if (w == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "out of memory for listing folders");
    w->config = *config;
    w->n_threads =
        config->threads != 0 && config->threads <= WALK_THREADS_MAX ? config->threads : 8;
    w->failure = (sm_error)SM_ERROR_INIT;
    (void)pthread_mutex_init(&w->mutex, NULL);
    (void)pthread_cond_init(&w->changed, NULL);
    w->tasks = sm_walk_task(w, config->under != NULL ? config->under : "");
    sm_status st = w->tasks != NULL ? SM_OK : sm_fail(err, SM_ERR_NOMEM, "out of memory");
    while (st == SM_OK && w->n_started < w->n_threads) {
        (void)pthread_mutex_lock(&w->mutex);
        w->n_running++;
        (void)pthread_mutex_unlock(&w->mutex);
        const int rc = pthread_create(&w->threads[w->n_started], NULL, thread_main, w);
        if (rc == 0) {
            w->n_started++;
            continue;
        }
        (void)pthread_mutex_lock(&w->mutex);
        w->n_running--;
        (void)pthread_mutex_unlock(&w->mutex);
        if (w->n_started > 0)
            break; /* fewer do as well */
        st = sm_fail_errno(err, SM_ERR_NOMEM, rc, "no thread could be started");
    }
    *walk = w;
    if (st != SM_OK)
        sm_walk_free(walk);
    return st;
}

sm_status sm_walk_next(sm_walk *walk, sm_walk_item **item, sm_error *err)
{
    sm_status st = SM_OK;

    (void)pthread_mutex_lock(&walk->mutex);
    while (walk->findings == NULL && walk->n_running > 0 && !walk->stopping)
        (void)pthread_cond_wait(&walk->changed, &walk->mutex);
    *item = walk->findings;
    if (walk->failure.status != SM_OK) {
        *err = walk->failure;
        st = err->status;
        *item = NULL;
    } else if (*item != NULL) {
        walk->findings = (*item)->next;
        if (walk->findings == NULL)
            walk->last = NULL;
        if (walk->n_findings-- == FINDINGS_MAX)
            (void)pthread_cond_broadcast(&walk->changed);
    }
    (void)pthread_mutex_unlock(&walk->mutex);
    return st;
}

void sm_walk_free(sm_walk **walk)
{
    sm_walk *w = *walk;

    if (w == NULL)
        return;
    (void)pthread_mutex_lock(&w->mutex);
    w->stopping = true;
    (void)pthread_cond_broadcast(&w->changed);
    (void)pthread_mutex_unlock(&w->mutex);
    for (uint32_t i = 0; i < w->n_started; i++)
        (void)pthread_join(w->threads[i], NULL);
    for (walk_task *task; (task = w->tasks) != NULL; task_free(task))
        w->tasks = task->next;
    for (walk_task *task; (task = w->links) != NULL; task_free(task))
        w->links = task->next;
    for (sm_walk_item *item; (item = w->findings) != NULL; sm_walk_item_free(&item))
        w->findings = item->next;
    for (walk_brick *brick; (brick = w->bricks) != NULL; free(brick))
        w->bricks = brick->next;
    free(w->places);
    (void)pthread_cond_destroy(&w->changed);
    (void)pthread_mutex_destroy(&w->mutex);
    free(w);
    *walk = NULL;
}
