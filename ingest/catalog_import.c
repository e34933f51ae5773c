/* catalog import: expected digests, sizes and ids out of lists. Owns the map of parts. */
#include "ingest/catalog_import.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/manifest.h"
#include "common/stop.h"
#include "ingest/parts.h"
#include "ingest/pattern.h"

#define LINES_MAX 20 /* of each kind of complaint */

typedef struct part_place {
    uint64_t hash;
    int64_t slide;
} part_place;

typedef struct import {
    sm_catalog *catalog;
    catalog_args *args;
    const char *path;
    bool add;
    sm_pattern *pattern;
    sm_buf parts; /* part_place, sorted by hash */
    import_result *result;
} import;

/* n: complaints of this kind so far, this one included. */
static void say(const import *im, uint64_t n, const char *message)
{
    char line[600];

    if (n > LINES_MAX)
        return;
    (void)snprintf(line, sizeof line, "%s%s", message,
                   n == LINES_MAX ? " (and more of the kind)" : "");
    catalog_say(im->args, line);
}

/* ---- parts: which slide has this file ---- */

static uint64_t hash_of(const char *path)
{
    uint64_t hash = UINT64_C(14695981039346656037); /* FNV-1a; the path itself decides */

    for (; *path != '\0'; path++)
        hash = (hash ^ (uint8_t)*path) * UINT64_C(1099511628211);
    return hash;
}

static sm_status note_part(void *arg, const sm_part_row *part, sm_error *err)
{
    import *im = arg;
    const part_place place = {hash_of(part->path), part->slide};

    return sm_buf_append(&im->parts, &place, sizeof place, err);
}

static int by_hash(const void *a, const void *b)
{
    const part_place *x = a, *y = b;

    return x->hash < y->hash ? -1 : x->hash > y->hash;
}

static sm_status note_parts(import *im, sm_error *err)
{
    const sm_slide_filter all = {0};
    sm_slide_cursor *cursor = NULL;
    sm_slide_row row;
    bool more = false;
    sm_status st = sm_catalog_slides(im->catalog, &all, &cursor, err);

    while (st == SM_OK) {
        st = sm_slide_cursor_next(cursor, &row, &more, err);
        if (st != SM_OK || !more)
            break;
        if (row.n_parts > 0)
            st = sm_catalog_parts(im->catalog, row.id, note_part, im, err);
    }
    sm_slide_cursor_close(&cursor);
    if (im->parts.len > 0)
        qsort(im->parts.data, im->parts.len / sizeof(part_place), sizeof(part_place), by_hash);
    return st;
}

/* All parts of a slide, to be put back with one more digest. */
typedef struct part_list {
    const sm_manifest_entry *entry;
    sm_buf rows;  /* sm_part_row */
    sm_buf paths; /* the char * of each, malloc'ed */
    bool found;
} part_list;

static sm_status copy_part(void *arg, const sm_part_row *part, sm_error *err)
{
    part_list *list = arg;
    char *path = strdup(part->path);
    sm_part_row row = {.path = path, .size_bytes = part->size_bytes, .mtime_ns = part->mtime_ns};

    if (path == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "out of memory for the files of a slide");
    const sm_status st = sm_buf_append(&list->paths, &path, sizeof path, err);
    if (st != SM_OK) {
        free(path);
        return st;
    }
    if (strcmp(path, list->entry->path) == 0) {
        list->found = true;
        row.digest_origin = SM_DIGEST_GIVEN;
        row.digest = list->entry->digest;
    }
    return sm_buf_append(&list->rows, &row, sizeof row, err);
}

static sm_status give_part(import *im, int64_t slide, const sm_manifest_entry *entry, bool *found,
                           sm_error *err)
{
    part_list list = {.entry = entry};
    sm_status st = sm_catalog_parts(im->catalog, slide, copy_part, &list, err);
    sm_part_row *rows = (sm_part_row *)(void *)list.rows.data;
    const size_t n = list.rows.len / sizeof *rows;

    if (st == SM_OK && list.found && entry->has_digest)
        st = sm_catalog_set_parts(im->catalog, slide, rows, n, err);
    char **paths = (char **)(void *)list.paths.data;
    for (size_t i = 0; i < list.paths.len / sizeof *paths; i++)
        free(paths[i]);
    sm_buf_free(&list.paths);
    sm_buf_free(&list.rows);
    *found = list.found;
    return st;
}

static sm_status take_part(import *im, const sm_manifest_entry *entry, bool *found, sm_error *err)
{
    const part_place key = {hash_of(entry->path), 0};
    const part_place *places = (const part_place *)(void *)im->parts.data;
    const size_t n = im->parts.len / sizeof *places;
    sm_status st = SM_OK;

    *found = false;
    if (n == 0)
        return SM_OK;
    const part_place *at = bsearch(&key, places, n, sizeof *places, by_hash);
    while (at != NULL && at > places && at[-1].hash == key.hash)
        at--;
    for (; at != NULL && at < places + n && at->hash == key.hash && st == SM_OK && !*found; at++)
        st = give_part(im, at->slide, entry, found, err);
    return st;
}

/* ---- entries ---- */

static sm_status put_entry(import *im, const sm_manifest_entry *entry, bool known, sm_error *err)
{
    sm_slide_row row = {
        .path = entry->path,
        .size_bytes = entry->size_bytes,
        .digest_origin = entry->has_digest ? SM_DIGEST_GIVEN : SM_DIGEST_UNKNOWN,
        .digest = entry->digest,
        .external_id = entry->external_id,
        .vendor = entry->vendor,
        .present = true,
        .shard = SM_NO_SHARD,
    };
    int64_t id = 0;
    bool added = false;

    if (!known && row.vendor == NULL)
        row.vendor = sm_parts_vendor(entry->path);
    sm_status st = sm_catalog_put(im->catalog, &row, &id, &added, err);
    if (st == SM_OK && added)
        st = sm_pattern_fill(im->pattern, im->catalog, id, entry->path, err);
    im->result->n_added += st == SM_OK && added;
    im->result->n_known += st == SM_OK && !added;
    return st;
}

static sm_status take_entry(import *im, const sm_manifest_entry *entry, sm_error *err)
{
    import_result *r = im->result;
    sm_error why = SM_ERROR_INIT;
    sm_slide_row row;
    bool known = false, part = false;
    sm_status st = SM_OK;

    const bool is_slide = sm_parts_vendor(entry->path) != NULL;
    if (!im->add || !is_slide) /* put finds out itself what is known */
        st = sm_catalog_find(im->catalog, entry->path, &row, &known, err);
    if (st == SM_OK && !known && !(im->add && is_slide))
        st = take_part(im, entry, &part, err);
    if (st == SM_OK && part) {
        r->n_known++;
        return SM_OK;
    }
    if (st == SM_OK && (known || (im->add && is_slide)))
        st = put_entry(im, entry, known, err);
    else if (st == SM_OK && im->add) {
        r->n_no_slides++;
    } else if (st == SM_OK) {
        r->n_unknown++;
        (void)sm_fail(&why, SM_ERR_ARG, "%s: line %" PRIu64 ": %.300s: not in the catalog",
                      im->path, entry->line, entry->path);
        say(im, r->n_unknown, why.message);
    }
    if (st == SM_ERR_CORRUPT || st == SM_ERR_ARG) { /* this entry is wrong, the others may count */
        uint64_t *n = st == SM_ERR_CORRUPT ? &r->n_conflicts : &r->n_bad;
        sm_error_prefix(err, "%s: line %" PRIu64, im->path, entry->line);
        say(im, ++*n, err->message);
        *err = (sm_error)SM_ERROR_INIT;
        st = SM_OK;
    }
    return st;
}

static sm_status take_all(import *im, sm_manifest *manifest, sm_error *err)
{
    sm_manifest_entry entry;
    bool more = true;
    sm_status st = SM_OK;

    while (st == SM_OK) {
        st = sm_manifest_next(manifest, &entry, &more, err);
        if (st == SM_ERR_FORMAT) {
            im->result->n_lines++;
            say(im, ++im->result->n_bad, err->message);
            *err = (sm_error)SM_ERROR_INIT;
            st = sm_stop_check(err);
            continue;
        }
        if (st != SM_OK || !more)
            break;
        im->result->n_lines++;
        st = take_entry(im, &entry, err);
        if (st == SM_OK && im->result->n_lines % 1024 == 0)
            st = sm_stop_check(err);
    }
    return st;
}

sm_status catalog_import_list(sm_catalog *catalog, catalog_args *args, const char *path, bool add,
                              import_result *result, sm_error *err)
{
import im = {.catalog = catalog, .args = args, .path = path, .add = add, .result = result };
    const char *pattern = sm_catalog_pattern(catalog);
    sm_source *source = NULL;
    sm_manifest *manifest = NULL;

    *result = (import_result){.kind = ""};
    sm_status st = sm_source_open(path, &source, err);
    if (st == SM_OK)
        st = sm_manifest_open(source, (sm_manifest_kind)args->kind, args->gdc_folders, &manifest,
                              err);
    if (st == SM_OK) {
        result->kind = sm_manifest_kind_name(sm_manifest_get_kind(manifest));
        st = note_parts(&im, err);
    }
    if (st == SM_OK && pattern != NULL)
        st = sm_pattern_new(pattern, &im.pattern, err);
    if (st == SM_OK)
        st = take_all(&im, manifest, err);
    if (st == SM_OK)
        st = sm_stop_check(err);
    sm_pattern_free(&im.pattern);
    sm_buf_free(&im.parts);
    sm_manifest_close(&manifest);
    sm_source_close(&source);
    return st;
}

static void print_count(const char *word, uint64_t n, const char *what)
{
    char number[32];

    if (n > 0)
        (void)printf("  %-12s %12s%s%s\n", word, catalog_number(n, number),
                     *what != '\0' ? "  " : "", what);
}

void catalog_print_import(const char *path, const import_result *r)
{
    char number[64];

    (void)printf("%s (%s): %s\n", catalog_clean(path), r->kind,
                 catalog_count(r->n_lines, "line", number));
    print_count("matched", r->n_known, "are of slides that the catalog has");
    print_count("added", r->n_added, "");
    print_count("unknown", r->n_unknown, "are of no slide of the catalog (--add adds slides)");
    print_count("no slides", r->n_no_slides, "are not slides by their names");
    print_count("bad", r->n_bad, "could not be taken");
    print_count("contradict", r->n_conflicts, "disagree with an earlier list; nothing was changed");
}

int catalog_import_code(const import_result *r)
{
    const bool useless = r->n_lines > 0 && r->n_known + r->n_added == 0;

    return r->n_bad > 0 || r->n_conflicts > 0 || useless ? sm_exit_code(SM_ERR_FORMAT) : 0;
}

int catalog_import(catalog_args *args)
{
    const sm_generation_config config = catalog_config(args);
    sm_error err = SM_ERROR_INIT;
    sm_catalog *catalog = NULL;
    import_result result = {.kind = ""};
    uint64_t generation = 0;
    sm_status st = sm_catalog_change(args->operands[0], &config, &catalog, &err);

    if (st == SM_OK)
        st = catalog_import_list(catalog, args, args->operands[1], args->add, &result, &err);
    if (st == SM_OK && result.n_known + result.n_added > 0) {
        generation = sm_catalog_generation(catalog);
        st = sm_catalog_commit(&catalog, &err);
    }
    sm_catalog_close(&catalog);
    if (st != SM_OK)
        return catalog_fail(args, &err);
    catalog_print_import(args->operands[1], &result);
    if (generation > 0)
        (void)printf("%s: generation %" PRIu64 "\n", catalog_clean(args->operands[0]), generation);
    else
        (void)printf("%s: nothing was changed\n", catalog_clean(args->operands[0]));
    st = catalog_flush(&err);
    return st == SM_OK ? catalog_import_code(&result) : catalog_fail(args, &err);
}
