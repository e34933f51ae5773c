/* What a walk finds goes into the catalog: one thread, in whatever order it comes.
 * Owns the sets of one scan. */
#include "ingest/scan.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/path.h"
#include "common/stop.h"
#include "ingest/parts.h"
#include "ingest/scan_private.h"

#define LINES_MAX 50 /* of what a scan says; then it only counts */

void scan_say(scan *s, const char *fmt, ...)
{
    sm_error clean = SM_ERROR_INIT; /* its message is fit for a terminal */
    char text[sizeof clean.message];
    va_list args;

    if (s->say == NULL)
        return;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    (void)sm_fail(&clean, SM_ERR_INTERNAL, "%s", text);
    if (s->n_said < LINES_MAX)
        s->say(s->arg, clean.message);
    else if (s->n_said == LINES_MAX)
        s->say(s->arg, "and more of the kind; the counts tell how many");
    s->n_said++;
}

/* ---- sets ---- */

static size_t slot_of(const scan_set *set, int64_t number)
{
    const uint64_t mixed = (uint64_t)number * UINT64_C(0x9E3779B97F4A7C15);
    size_t at = (size_t)(mixed ^ mixed >> 29) & (set->cap - 1);

    while (set->slots[at] != 0 && set->slots[at] != number)
        at = (at + 1) & (set->cap - 1);
    return at;
}

sm_status scan_set_add(scan_set *set, int64_t number, sm_error *err)
{
    if (2 * (set->n + 1) > set->cap) {
        scan_set grown = {.cap = set->cap != 0 ? 2 * set->cap : 4096};
        grown.slots = sm_calloc(grown.cap, sizeof *grown.slots);
        if (grown.slots == NULL)
            return sm_fail(err, SM_ERR_NOMEM, "out of memory for the list of slides");
        for (size_t i = 0; i < set->cap; i++) {
            if (set->slots[i] != 0)
                grown.slots[slot_of(&grown, set->slots[i])] = set->slots[i];
        }
        grown.n = set->n;
        free(set->slots);
        *set = grown;
    }
    int64_t *slot = &set->slots[slot_of(set, number)];
    set->n += *slot == 0;
    *slot = number;
    return SM_OK;
}

bool scan_set_has(const scan_set *set, int64_t number)
{
    return set->cap > 0 && set->slots[slot_of(set, number)] == number;
}

sm_status scan_paths_add(scan_paths *paths, const char *path, sm_error *err)
{
    if (paths->n == paths->cap) {
        const size_t cap = paths->cap != 0 ? 2 * paths->cap : 64;
        char **items = sm_malloc_array(cap, sizeof *items);
        if (items == NULL)
            return sm_fail(err, SM_ERR_NOMEM, "out of memory for a list of paths");
        if (paths->n > 0)
            memcpy(items, paths->items, paths->n * sizeof *items);
        free(paths->items);
        paths->items = items;
        paths->cap = cap;
    }
    paths->items[paths->n] = strdup(path);
    if (paths->items[paths->n] == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "out of memory for a list of paths");
    paths->n++;
    return SM_OK;
}

static void paths_free(scan_paths *paths)
{
    for (size_t i = 0; i < paths->n; i++)
        free(paths->items[i]);
    free(paths->items);
}

bool scan_brick_is_heard(const scan *s, const char *name)
{
    const scan_brick *bricks = (const scan_brick *)(const void *)s->heard.data;
    const size_t n = s->heard.len / sizeof *bricks;

    for (size_t i = 0; i < n; i++) {
        if (strcmp(bricks[i].name, name) == 0)
            return true;
    }
    return false;
}

static sm_status hear(scan *s, const char *name, sm_error *err)
{
    scan_brick brick = {.n_unanswered = 0};

    if (name == NULL || scan_brick_is_heard(s, name))
        return SM_OK;
    (void)snprintf(brick.name, sizeof brick.name, "%s", name);
    return sm_buf_append(&s->heard, &brick, sizeof brick, err);
}

/* Folders that hold no slides: the catalog's own, and the outputs'. */
static size_t find_own_places(const scan *s, sm_walk_place places[2])
{
    char folder[SM_PATH_MAX + 8];
    struct stat info;
    sm_target target;
    size_t n = 0;

    const int len = snprintf(folder, sizeof folder, "%s.d", sm_catalog_path(s->catalog));
    if (len > 0 && (size_t)len < sizeof folder && stat(folder, &info) == 0)
        places[n++] = (sm_walk_place){info.st_dev, info.st_ino};
    if (sm_catalog_target(s->catalog, &target) && stat(target.dir, &info) == 0)
        places[n++] = (sm_walk_place){info.st_dev, info.st_ino};
    return n;
}

/* ---- one slide ---- */

typedef struct part_match {
    const sm_walk_item *item;
    size_t n;
    bool same;
} part_match;

static int compare_part(const void *path, const void *part)
{
    return strcmp(path, ((const sm_walk_part *)part)->path);
}

static sm_status match_part(void *arg, const sm_part_row *row, sm_error *err)
{
    part_match *match = arg;
    const sm_walk_item *item = match->item;
    const sm_walk_part *part = NULL;

    (void)err;
    if (item->n_parts > 0)
        part = bsearch(row->path, item->parts, item->n_parts, sizeof *part, compare_part);
    match->n++;
    match->same = match->same && part != NULL && part->size_bytes == row->size_bytes &&
                  part->mtime_ns == row->mtime_ns;
    return SM_OK;
}

static sm_status parts_are_same(scan *s, int64_t id, const sm_walk_item *item, bool *same,
                                sm_error *err)
{
    part_match match = {.item = item, .same = true};
    const sm_status st = sm_catalog_parts(s->catalog, id, match_part, &match, err);

    *same = match.same && match.n == item->n_parts;
    return st;
}

static sm_status store_parts(scan *s, int64_t id, const sm_walk_item *item, sm_error *err)
{
    sm_part_row *rows = sm_calloc(item->n_parts + 1, sizeof *rows);

    if (rows == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "out of memory for the files of a slide");
    for (size_t i = 0; i < item->n_parts; i++) {
        rows[i].path = item->parts[i].path;
        rows[i].size_bytes = item->parts[i].size_bytes;
        rows[i].mtime_ns = item->parts[i].mtime_ns;
    }
    const sm_status st = sm_catalog_set_parts(s->catalog, id, rows, item->n_parts, err);
    free(rows);
    return st;
}

static sm_slide_row row_of(const sm_walk_item *item)
{
    return (sm_slide_row){
        .path = item->path,
        .size_bytes = item->size_bytes,
        .mtime_ns = item->mtime_ns,
        .vendor = NULL,
        .brick = item->brick,
        .present = true,
        .shard = SM_NO_SHARD,
    };
}

/* New ones are kept until all are there, and added in the order of their paths: so a tree gives the
 * same catalog every time. */
static sm_status keep_fresh(scan *s, sm_walk_item *item, sm_error *err)
{
    if (s->n_fresh == s->fresh_cap) {
        const size_t cap = s->fresh_cap != 0 ? 2 * s->fresh_cap : 1024;
        sm_walk_item **fresh = sm_malloc_array(cap, sizeof(sm_walk_item *));
        if (fresh == NULL)
            return sm_fail(err, SM_ERR_NOMEM, "out of memory for the list of slides");
        if (s->n_fresh > 0)
            memcpy(fresh, s->fresh, s->n_fresh * sizeof(sm_walk_item *));
        free(s->fresh);
        s->fresh = fresh;
        s->fresh_cap = cap;
    }
    s->fresh[s->n_fresh++] = item;
    return SM_OK;
}

static int by_path(const void *a, const void *b)
{
    const sm_walk_item *const *x = a, *const *y = b;

    return strcmp((*x)->path, (*y)->path);
}

static sm_status add_new(scan *s, const sm_walk_item *item, sm_error *err)
{
    sm_slide_row row = row_of(item);
    int64_t id = 0;
    bool added = false;

    row.vendor = sm_parts_vendor(item->path);
    sm_status st = sm_catalog_put(s->catalog, &row, &id, &added, err);
    if (st == SM_OK && item->n_parts > 0)
        st = store_parts(s, id, item, err);
    if (st == SM_OK)
        st = sm_pattern_fill(s->pattern, s->catalog, id, item->path, err);
    if (st == SM_OK)
        st = scan_set_add(&s->seen, id, err);
    if (st == SM_OK && s->options->probe)
        st = scan_paths_add(&s->to_probe, item->path, err);
    s->result->n_new++;
    return st;
}

static sm_status add_fresh(scan *s, sm_error *err)
{
    sm_status st = SM_OK;

    if (s->n_fresh > 1)
        qsort(s->fresh, s->n_fresh, sizeof(sm_walk_item *), by_path);
    for (size_t i = 0; st == SM_OK && i < s->n_fresh; i++) {
        st = add_new(s, s->fresh[i], err);
        if (st == SM_OK && i % 1024 == 0)
            st = sm_stop_check(err);
    }
    return st;
}

static void free_fresh(scan *s)
{
    for (size_t i = 0; i < s->n_fresh; i++)
        sm_walk_item_free(&s->fresh[i]);
    free(s->fresh);
    s->fresh = NULL;
    s->n_fresh = s->fresh_cap = 0;
}

static bool file_differs(const sm_slide_row *known, const sm_walk_item *item)
{
    return (known->size_bytes != SM_NO_SIZE && known->size_bytes != item->size_bytes) ||
           (known->mtime_ns != 0 && known->mtime_ns != item->mtime_ns);
}

static sm_status update_known(scan *s, const sm_walk_item *item, const sm_slide_row *known,
                              sm_error *err)
{
    /* the strings of `known` live until the next look into the catalog: decide first */
    const int64_t id = known->id;
    const bool was_present = known->present, had_parts = known->n_parts > 0;
    const bool put =
        known->size_bytes == SM_NO_SIZE || known->mtime_ns == 0 ||
        (item->brick != NULL && (known->brick == NULL || strcmp(known->brick, item->brick) != 0));
    const bool expected_other = known->mtime_ns == 0 && known->size_bytes != SM_NO_SIZE &&
                                known->size_bytes != item->size_bytes;
    const uint64_t expected = known->size_bytes;
    bool changed = file_differs(known, item), same_parts = true;
    const sm_slide_row row = row_of(item);
    int64_t put_id = 0;
    bool added = false;
    sm_status st = SM_OK;

    if (s->options->probe && (changed || known->w_px == 0))
        st = scan_paths_add(&s->to_probe, item->path, err);
    if (st == SM_OK && (had_parts || item->n_parts > 0))
        st = parts_are_same(s, id, item, &same_parts, err);
    changed = changed || (had_parts && !same_parts);
    if (expected_other)
        scan_say(s, "%s: has %llu bytes, its list said %llu", item->path,
                 (unsigned long long)item->size_bytes, (unsigned long long)expected);
    if (st == SM_OK && changed)
        st = sm_catalog_changed(s->catalog, id, item->size_bytes, item->mtime_ns, err);
    if (st == SM_OK && (changed || put))
        st = sm_catalog_put(s->catalog, &row, &put_id, &added, err);
    if (st == SM_OK && !same_parts)
        st = store_parts(s, id, item, err);
    if (st == SM_OK && !was_present)
        st = sm_catalog_set_present(s->catalog, id, true, err);
    if (st == SM_OK)
        st = scan_set_add(&s->seen, id, err);
    s->result->n_changed += changed;
    s->result->n_same += !changed;
    s->result->n_back += !was_present;
    return st;
}

/* *kept becomes NULL if it was kept. */
static sm_status take_slide(scan *s, sm_walk_item **kept, sm_error *err)
{
    sm_walk_item *const item = *kept;
    sm_slide_row known;
    bool found = false;

    sm_status st = hear(s, item->brick, err);
    if (st == SM_OK)
        st = sm_catalog_find(s->catalog, item->path, &known, &found, err);
    if (st != SM_OK)
        return st;
    s->result->n_files++;
    s->result->bytes += item->size_bytes;
    for (size_t i = 0; i < item->n_parts; i++)
        s->result->bytes += item->parts[i].size_bytes != SM_NO_SIZE ? item->parts[i].size_bytes : 0;
    if (found)
        return update_known(s, item, &known, err);
    st = keep_fresh(s, item, err);
    if (st == SM_OK)
        *kept = NULL;
    return st;
}

/* It is there, so it is not missing. */
static sm_status take_unreadable(scan *s, const sm_walk_item *item, sm_error *err)
{
    sm_slide_row known;
    bool found = false;

    scan_say(s, "%s: cannot be looked at: %s", item->path, item->why);
    s->result->n_unreadable++;
    s->result->complete = false;
    const sm_status st = sm_catalog_find(s->catalog, item->path, &known, &found, err);
    return st == SM_OK && found ? scan_set_add(&s->seen, known.id, err) : st;
}

static sm_status take(scan *s, sm_walk_item **kept, sm_error *err)
{
    const sm_walk_item *const item = *kept;

    switch (item->kind) {
    case SM_WALK_SLIDE:
        return take_slide(s, kept, err);
    case SM_WALK_UNREADABLE:
        return take_unreadable(s, item, err);
    case SM_WALK_REFUSED:
        s->result->n_refused++;
        scan_say(s, "refused: %s", item->why);
        return SM_OK;
    case SM_WALK_FOLDER:
        s->result->n_folders++;
        return hear(s, item->brick, err);
    case SM_WALK_NO_FOLDER:
        s->result->complete = false;
        scan_say(s, "%s; slides beneath it are left as they are", item->why);
        return scan_paths_add(&s->unlisted, item->path, err);
    }
    return SM_OK;
}

/* ---- all ---- */

static sm_status walk_all(scan *s, sm_error *err)
{
    sm_walk_place skip[2];
    sm_walk_config config = {.root_fd = s->root_fd,
                             .under = s->options->under,
                             .exclude = s->options->exclude,
                             .skip = skip,
                             .bricks = s->options->bricks,
                             .threads = s->options->threads};
    sm_walk *walk = NULL;
    sm_walk_item *item = NULL;

    config.n_skip = find_own_places(s, skip);
    sm_status st = sm_walk_start(&config, &walk, err);
    while (st == SM_OK) {
        st = sm_walk_next(walk, &item, err);
        if (st != SM_OK || item == NULL)
            break;
        st = take(s, &item, err);
        if (s->options->at != NULL)
            s->options->at(s->arg, "looked at", s->result->n_folders, s->result->n_files);
        sm_walk_item_free(&item);
    }
    sm_walk_item_free(&item);
    if (st == SM_OK)
        st = sm_stop_check(err); /* a walk that was stopped looks like a short one */
    if (st == SM_OK)
        st = add_fresh(s, err);
    free_fresh(s);
    sm_walk_free(&walk);
    return st;
}

static sm_status open_all(scan *s, sm_error *err)
{
    const char *pattern = sm_catalog_pattern(s->catalog);
    int fd = -1;
    sm_status st = sm_path_open_root(sm_catalog_root(s->catalog), &s->root_fd, err);

    if (st == SM_OK && pattern != NULL)
        st = sm_pattern_new(pattern, &s->pattern, err);
    if (st != SM_OK || s->options->under == NULL)
        return st;
    st = sm_path_open_beneath(s->root_fd, s->options->under, O_PATH | O_DIRECTORY, &fd, err);
    if (st == SM_OK) {
        (void)close(fd);
        return SM_OK;
    }
    if (err->sys_errno == ENOENT) /* folders are on every brick: this one was never there */
        err->status = SM_ERR_ARG;
    sm_error_prefix(err, "%s", sm_catalog_root(s->catalog));
    return err->status;
}

sm_status sm_scan(sm_catalog *catalog, const sm_scan_options *options, sm_scan_say say, void *arg,
                  sm_scan_result *result, sm_error *err)
{
    scan s = {.catalog = catalog,
              .options = options,
              .say = say,
              .arg = arg,
              .result = result,
              .root_fd = -1};

    *result = (sm_scan_result){.complete = true};
    sm_status st = open_all(&s, err);
    if (st == SM_OK)
        st = walk_all(&s, err);
    if (st == SM_OK)
        st = scan_missing(&s, err);
    if (st == SM_OK && options->probe)
        st = scan_probe(&s, err);
    if (s.root_fd >= 0)
        (void)close(s.root_fd);
    sm_pattern_free(&s.pattern);
    free(s.seen.slots);
    sm_buf_free(&s.heard);
    paths_free(&s.unlisted);
    paths_free(&s.to_probe);
    return st;
}
