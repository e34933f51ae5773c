/* Slides of the catalog that a walk did not find. On Gluster absence proves nothing: a brick that
 * is down makes its files look deleted, without any error. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/path.h"
#include "ingest/parts.h"
#include "ingest/scan_private.h"

/* What was not found, while the catalog is read; it is changed after that. */
typedef struct missing {
    scan_set gone; /* ids to be marked as not present */
    scan_set back; /* of names that a walk passes over, but that are there */
    sm_buf silent; /* scan_brick of those that gave no file */
} missing;

static bool is_beneath(const char *path, const char *folder)
{
    const size_t len = strlen(folder);

    return len == 0 || (strncmp(path, folder, len) == 0 && path[len] == '/');
}

static bool is_in_scope(const scan *s, const char *path)
{
    return (s->options->under == NULL || is_beneath(path, s->options->under)) &&
           !sm_walk_excluded(path, s->options->exclude);
}

static bool is_unlisted(const scan *s, const char *path)
{
    for (size_t i = 0; i < s->unlisted.n; i++) {
        if (is_beneath(path, s->unlisted.items[i]))
            return true;
    }
    return false;
}

static sm_status count_silent(missing *m, const char *name, sm_error *err)
{
    scan_brick *bricks = (scan_brick *)(void *)m->silent.data;
    const size_t n = m->silent.len / sizeof *bricks;
    scan_brick brick = {.n_unanswered = 1};

    for (size_t i = 0; i < n; i++) {
        if (strcmp(bricks[i].name, name) == 0) {
            bricks[i].n_unanswered++;
            return SM_OK;
        }
    }
    (void)snprintf(brick.name, sizeof brick.name, "%s", name);
    return sm_buf_append(&m->silent, &brick, sizeof brick, err);
}

/* A slide whose name a walk does not take for one: it came from a list. */
static bool is_there(const scan *s, const char *path)
{
    sm_error ignored = SM_ERROR_INIT;
    struct stat info;

    return sm_parts_vendor(path) == NULL &&
           sm_path_stat_beneath(s->root_fd, path, &info, &ignored) == SM_OK;
}

static sm_status judge(scan *s, missing *m, const sm_slide_row *row, sm_error *err)
{
    if (scan_set_has(&s->seen, row->id) || !is_in_scope(s, row->path))
        return SM_OK;
    if (is_there(s, row->path))
        return row->present ? SM_OK : scan_set_add(&m->back, row->id, err);
    if (is_unlisted(s, row->path)) {
        s->result->n_unanswered++;
        return SM_OK;
    }
    if (s->options->bricks && row->brick != NULL && !scan_brick_is_heard(s, row->brick)) {
        s->result->n_unanswered++;
        return count_silent(m, row->brick, err);
    }
    if (row->brick == NULL && !s->result->complete) {
        s->result->n_unanswered++;
        return SM_OK;
    }
    s->result->n_missing++;
    return row->present ? scan_set_add(&m->gone, row->id, err) : SM_OK;
}

static sm_status look_for_missing(scan *s, missing *m, sm_error *err)
{
    const sm_slide_filter all = {0};
    sm_slide_cursor *cursor = NULL;
    sm_slide_row row;
    bool more = false;
    sm_status st = sm_catalog_slides(s->catalog, &all, &cursor, err);

    while (st == SM_OK) {
        st = sm_slide_cursor_next(cursor, &row, &more, err);
        if (st != SM_OK || !more)
            break;
        st = judge(s, m, &row, err);
    }
    sm_slide_cursor_close(&cursor);
    return st;
}

static sm_status set_present(scan *s, const scan_set *ids, bool present, sm_error *err)
{
    sm_status st = SM_OK;

    for (size_t i = 0; st == SM_OK && i < ids->cap; i++) {
        if (ids->slots[i] != 0)
            st = sm_catalog_set_present(s->catalog, ids->slots[i], present, err);
    }
    return st;
}

sm_status scan_missing(scan *s, sm_error *err)
{
    missing m = {.silent = {0}};
    sm_status st = look_for_missing(s, &m, err);

    if (st == SM_OK)
        st = set_present(s, &m.gone, false, err);
    if (st == SM_OK)
        st = set_present(s, &m.back, true, err);
    const scan_brick *silent = (const scan_brick *)(const void *)m.silent.data;
    for (size_t i = 0; i < m.silent.len / sizeof *silent; i++) {
        s->result->complete = false;
        s->n_said = 0; /* these lines matter more than those before */
        scan_say(s,
                 "brick %s gave no file although the catalog has %llu slides on it that were not "
                 "found: is it down? They are left as they are",
                 silent[i].name, (unsigned long long)silent[i].n_unanswered);
    }
    s->result->n_back += m.back.n;
    free(m.gone.slots);
    free(m.back.slots);
    sm_buf_free(&m.silent);
    return st;
}
