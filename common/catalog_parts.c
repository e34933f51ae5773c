/* Further files of a slide, and its output.
 * Owns nothing. */
#include "common/catalog_db.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/path.h"

/* ---- parts ---- */

typedef struct known_part {
    char *path;
    uint64_t size_bytes;
    int64_t mtime_ns;
    sm_digest_set digests;
} known_part;

static void free_known(sm_buf *list)
{
    known_part *known = (known_part *)(void *)list->data;
    for (size_t i = 0; i < list->len / sizeof(*known); i++)
        free(known[i].path);
    sm_buf_free(list);
}

#define PART_COLUMNS "path, size_bytes, mtime_ns, sha256, sha256_origin, md5, xxh128"

static sm_status read_part(sm_query *query, int64_t slide, sm_part_row *row, sm_digest_set *digests,
                           sm_error *err)
{
    sm_error why = SM_ERROR_INIT;
    *row = (sm_part_row){.slide = slide, .path = sm_column_text(query, 0)};
    if (row->path == NULL || sm_path_check(row->path, &why) != SM_OK)
        sm_column_is_bad(query, 0, "is no clean relative path");
    row->size_bytes = SM_NO_SIZE;
    if (!sm_column_is_null(query, 1))
        row->size_bytes = (uint64_t)sm_column_int(query, 1, 0, INT64_MAX);
    row->mtime_ns = sm_column_int_or(query, 2, INT64_MIN, INT64_MAX, 0);
    sm_digest_set_read(query, 3, digests);
    row->digest_origin = sm_digest_set_best(digests, &row->digest);
    return sm_query_row_status(query, "a part of slide", slide, err);
}

static sm_status visit_parts(sm_catalog *catalog, int64_t slide,
                             sm_status (*visit)(void *arg, const sm_part_row *row,
                                                const sm_digest_set *digests, sm_error *err),
                             void *arg, sm_error *err)
{
    sm_query query = {0};
    sm_status st = sm_query_new(
        catalog, "SELECT " PART_COLUMNS " FROM part WHERE slide = ? ORDER BY path", &query, err);
    if (st == SM_OK)
        sm_query_int(&query, slide);
    for (bool more = true; st == SM_OK;) {
        sm_part_row row;
        sm_digest_set digests;
        st = sm_query_next(&query, &more, err);
        if (st != SM_OK || !more)
            break;
        st = read_part(&query, slide, &row, &digests, err);
        if (st == SM_OK)
            st = visit(arg, &row, &digests, err);
    }
    sm_query_end(&query);
    return st;
}

typedef struct part_caller {
    sm_part_visit visit;
    void *arg;
} part_caller;

static sm_status tell_part(void *arg, const sm_part_row *row, const sm_digest_set *digests,
                           sm_error *err)
{
    const part_caller *caller = arg;
    (void)digests;
    return caller->visit(caller->arg, row, err);
}

sm_status sm_catalog_parts(sm_catalog *catalog, int64_t slide, sm_part_visit visit, void *arg,
                           sm_error *err)
{
    part_caller caller = {.visit = visit, .arg = arg};
    return visit_parts(catalog, slide, tell_part, &caller, err);
}

static sm_status skip_part(void *arg, const sm_part_row *row, sm_error *err)
{
    (void)arg;
    (void)row;
    (void)err;
    return SM_OK;
}

sm_status sm_parts_check(sm_catalog *catalog, int64_t slide, sm_error *err)
{
    return sm_catalog_parts(catalog, slide, skip_part, NULL, err);
}

static sm_status keep_part(void *arg, const sm_part_row *row, const sm_digest_set *digests,
                           sm_error *err)
{
    known_part known = {
        .size_bytes = row->size_bytes, .mtime_ns = row->mtime_ns, .digests = *digests};
    sm_status st = sm_catalog_copy_text(row->path, &known.path, err);
    if (st == SM_OK)
        st = sm_buf_append(arg, &known, sizeof(known), err);
    if (st != SM_OK)
        free(known.path);
    return st;
}

static int by_path(const void *path, const void *part)
{
    return strcmp(path, ((const known_part *)part)->path);
}

/* What is known of a part stays unless its file is another one now; given digests always stay. */
static sm_status merge_part(const sm_part_row *row, const known_part *old, known_part *merged,
                            sm_error *err)
{
    *merged = (known_part){.size_bytes = row->size_bytes, .mtime_ns = row->mtime_ns};
    if (old != NULL) {
        const bool other_size = row->size_bytes != SM_NO_SIZE && row->size_bytes != old->size_bytes;
        const bool other_time = row->mtime_ns != 0 && row->mtime_ns != old->mtime_ns;
        merged->digests = old->digests;
        if ((other_size || other_time) && old->digests.sha256_learned)
            merged->digests.has[SM_DIGEST_SHA256] = merged->digests.sha256_learned = false;
        if (row->size_bytes == SM_NO_SIZE)
            merged->size_bytes = old->size_bytes;
        if (row->mtime_ns == 0)
            merged->mtime_ns = old->mtime_ns;
    }
    if (row->digest_origin == SM_DIGEST_UNKNOWN)
        return SM_OK;
    sm_digest_set *set = &merged->digests;
    const sm_digest_kind kind = row->digest.kind;
    const bool learned = row->digest_origin == SM_DIGEST_LEARNED;
    const bool replaceable = kind == SM_DIGEST_SHA256 && set->sha256_learned;
    if (set->has[kind] && !replaceable && !sm_digest_equal(&set->digest[kind], &row->digest))
        return sm_fail(err, SM_ERR_CORRUPT, "%s: two %s digests were given", row->path,
                       sm_digest_kind_name(kind));
    if (!set->has[kind] || !learned) {
        set->sha256_learned = kind == SM_DIGEST_SHA256 ? learned : set->sha256_learned;
        set->has[kind] = true;
        set->digest[kind] = row->digest;
    }
    return SM_OK;
}

static sm_status add_size(const char *path, uint64_t size_bytes, uint64_t *sum, sm_error *err)
{
    if (size_bytes == SM_NO_SIZE)
        return SM_OK;
    if (size_bytes > (uint64_t)INT64_MAX - *sum)
        return sm_fail(err, SM_ERR_ARG, "%s: %" PRIu64 " bytes is no size", path, size_bytes);
    *sum += size_bytes;
    return SM_OK;
}

static sm_status store_part(sm_catalog *catalog, int64_t slide, const char *path,
                            const known_part *part, sm_error *err)
{
    static const char INSERT[] =
        "INSERT OR REPLACE INTO part (slide, " PART_COLUMNS ") VALUES (?, ?, ?, ?, ?, ?, ?, ?)";
    sm_query query = {0};
    const sm_status st = sm_query_use(catalog, INSERT, &query, err);
    if (st != SM_OK)
        return st;
    sm_query_int(&query, slide);
    sm_query_text(&query, path);
    sm_query_int_if(&query, part->size_bytes != SM_NO_SIZE, part->size_bytes);
    if (part->mtime_ns != 0)
        sm_query_int(&query, part->mtime_ns);
    else
        sm_query_null(&query);
    sm_digest_set_bind(&part->digests, &query);
    return sm_query_run(&query, err);
}

static sm_status store_parts(sm_catalog *catalog, int64_t id, uint64_t bytes,
                             const sm_part_row *parts, const known_part *merged, size_t n,
                             sm_error *err)
{
    static const char CLEAR[] = "DELETE FROM part WHERE slide = ?";
    static const char UPDATE[] = "UPDATE slide SET n_parts = ?, parts_bytes = ? WHERE id = ?";
    sm_query query = {0};
    sm_status st = sm_query_use(catalog, UPDATE, &query, err);
    if (st != SM_OK)
        return st;
    sm_query_int(&query, (int64_t)n);
    sm_query_int_if(&query, true, bytes);
    sm_query_int(&query, id);
    st = sm_query_run(&query, err);
    if (st == SM_OK && sm_catalog_changes(catalog) == 0)
        return sm_fail(err, SM_ERR_ARG, "%s: has no slide %" PRId64, catalog->path, id);
    catalog->tallied = false;
    if (st == SM_OK)
        st = sm_query_use(catalog, CLEAR, &query, err);
    if (st != SM_OK)
        return st;
    sm_query_int(&query, id);
    st = sm_query_run(&query, err);
    for (size_t i = 0; st == SM_OK && i < n; i++)
        st = store_part(catalog, id, parts[i].path, &merged[i], err);
    return st;
}

sm_status sm_catalog_set_parts(sm_catalog *catalog, int64_t id, const sm_part_row *parts, size_t n,
                               sm_error *err)
{
    sm_buf old = {0};
    known_part *merged = NULL;
    uint64_t bytes = 0;
    sm_status st = sm_catalog_begin_write(catalog, err);
    if (st == SM_OK)
        st = visit_parts(catalog, id, keep_part, &old, err);
    if (st == SM_OK && (merged = sm_calloc(n, sizeof(*merged))) == NULL)
        st = sm_fail(err, SM_ERR_NOMEM, "out of memory for the parts of a slide");
    const size_t n_old = old.len / sizeof(known_part);
    for (size_t i = 0; st == SM_OK && i < n; i++) {
        const known_part *known = NULL;
        st = sm_path_check(parts[i].path, err);
        if (st == SM_OK && n_old > 0)
            known = bsearch(parts[i].path, old.data, n_old, sizeof(*known), by_path);
        if (st == SM_OK)
            st = merge_part(&parts[i], known, &merged[i], err);
        if (st == SM_OK)
            st = add_size(parts[i].path, merged[i].size_bytes, &bytes, err);
    }
    if (st == SM_OK)
        st = store_parts(catalog, id, bytes, parts, merged, n, err);
    free(merged);
    free_known(&old);
    return st;
}

sm_status sm_catalog_learn_part(sm_catalog *catalog, int64_t slide, const char *path,
                                const sm_digest *sha256, sm_error *err)
{
    static const char SELECT[] = "SELECT " PART_COLUMNS " FROM part WHERE slide = ? AND path = ?";
    static const char LEARN[] = "UPDATE part SET sha256 = ?, sha256_origin = 'learned' "
                                "WHERE slide = ? AND path = ?";
    sm_query query = {0};
    sm_part_row row;
    sm_digest_set digests = {0};
    bool found = false;
    sm_status st = sm_catalog_begin_write(catalog, err);
    if (st == SM_OK)
        st = sm_query_use(catalog, SELECT, &query, err);
    if (st != SM_OK)
        return st;
    sm_query_int(&query, slide);
    sm_query_text(&query, path);
    st = sm_query_next(&query, &found, err);
    if (st == SM_OK && found)
        st = read_part(&query, slide, &row, &digests, err);
    sm_query_reset(&query);
    if (st != SM_OK)
        return st;
    if (!found || sha256->kind != SM_DIGEST_SHA256)
        return sm_fail(err, SM_ERR_CORRUPT, "%s: slide %" PRId64 " has no part %s to learn from",
                       catalog->path, slide, path);
    if (digests.has[SM_DIGEST_SHA256]) {
        if (sm_digest_equal(&digests.digest[SM_DIGEST_SHA256], sha256))
            return SM_OK;
        return sm_fail(err, SM_ERR_CORRUPT, "%s: part %s of slide %" PRId64 " has another SHA-256",
                       catalog->path, path, slide);
    }
    st = sm_query_use(catalog, LEARN, &query, err);
    if (st != SM_OK)
        return st;
    sm_query_digest(&query, sha256);
    sm_query_int(&query, slide);
    sm_query_text(&query, path);
    return sm_query_run(&query, err);
}

/* ---- outputs ---- */

static sm_status read_output(sm_query *query, sm_output_row *row, sm_error *err)
{
    sm_error why = SM_ERROR_INIT;
    *row = (sm_output_row){.slide = sm_column_int(query, 0, 1, INT64_MAX),
                           .path = sm_column_text(query, 1)};
    if (row->path == NULL || sm_path_check(row->path, &why) != SM_OK)
        sm_column_is_bad(query, 1, "is no clean relative path");
    row->size_bytes = (uint64_t)sm_column_int(query, 2, 0, INT64_MAX);
    if (!sm_column_digest(query, 3, SM_DIGEST_SHA256, &row->sha256))
        sm_column_is_bad(query, 3, "is no digest");
    if (!sm_column_digest(query, 4, SM_DIGEST_SHA256, &row->source_sha256))
        sm_column_is_bad(query, 4, "is no digest");
    const char *state = sm_column_text(query, 5);
    if (state != NULL && strcmp(state, "good") == 0)
        row->state = SM_OUTPUT_GOOD;
    else if (state != NULL && strcmp(state, "damaged") == 0)
        row->state = SM_OUTPUT_DAMAGED;
    else if (state != NULL && strcmp(state, "missing") == 0)
        row->state = SM_OUTPUT_MISSING;
    else
        sm_column_is_bad(query, 5, "is no state of an output");
    row->checked_ns = sm_column_int(query, 6, 0, INT64_MAX);
    return sm_query_row_status(query, "output of slide", row->slide, err);
}

sm_status sm_catalog_outputs(sm_catalog *catalog, int64_t slide, sm_output_visit visit, void *arg,
                             sm_error *err)
{
    static const char SELECT[] = "SELECT slide, path, size_bytes, sha256, source_sha256, state, "
                                 "checked_ns FROM output WHERE slide BETWEEN ? AND ? ORDER BY "
                                 "slide";
    sm_query query = {0};
    sm_status st = sm_query_new(catalog, SELECT, &query, err);
    if (st == SM_OK) {
        sm_query_int(&query, slide != 0 ? slide : INT64_MIN);
        sm_query_int(&query, slide != 0 ? slide : INT64_MAX);
    }
    for (bool more = true; st == SM_OK;) {
        sm_output_row row;
        st = sm_query_next(&query, &more, err);
        if (st != SM_OK || !more)
            break;
        st = read_output(&query, &row, err);
        if (st == SM_OK)
            st = visit(arg, &row, err);
    }
    sm_query_end(&query);
    return st;
}
