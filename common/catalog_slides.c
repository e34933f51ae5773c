/* Reading slides: rows with every column checked, cursors over a filter, look-ups.
 * Owns nothing but the cursors. */
#include "common/catalog_db.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/path.h"

enum { COLUMN_PATH = 1, COLUMN_PATH_HASH, COLUMN_STATE, COLUMN_SHA256 = 13 };

int64_t sm_slide_path_hash(const char *path, size_t len)
{
    const sm_digest digest = sm_digest_xxh128(path, len);
    uint64_t hash = 0;
    for (size_t i = 0; i < 8; i++)
        hash = hash << 8 | digest.bytes[i];
    int64_t as_signed = 0;
    memcpy(&as_signed, &hash, sizeof(as_signed));
    return as_signed;
}

/* ---- digests ---- */

void sm_digest_set_read(sm_query *query, int column, sm_digest_set *set)
{
    static const int COLUMN_OF[] = {
        [SM_DIGEST_SHA256] = 0, [SM_DIGEST_MD5] = 2, [SM_DIGEST_XXH128] = 3};
    *set = (sm_digest_set){0};
    for (int kind = SM_DIGEST_SHA256; kind <= SM_DIGEST_XXH128; kind++)
        set->has[kind] = sm_column_digest(query, column + COLUMN_OF[kind], (sm_digest_kind)kind,
                                          &set->digest[kind]);
    const char *origin = sm_column_text(query, column + 1);
    set->sha256_learned = origin != NULL && strcmp(origin, "learned") == 0;
    const bool given = origin != NULL && strcmp(origin, "given") == 0;
    if (set->has[SM_DIGEST_SHA256] != (set->sha256_learned || given))
        sm_column_is_bad(query, column + 1, "does not say where the digest is from");
}

sm_digest_origin sm_digest_set_best(const sm_digest_set *set, sm_digest *digest)
{
    const bool sha256 = set->has[SM_DIGEST_SHA256];
    sm_digest_kind kind = SM_DIGEST_SHA256;
    if (!sha256 || set->sha256_learned) {
        if (set->has[SM_DIGEST_MD5])
            kind = SM_DIGEST_MD5;
        else if (set->has[SM_DIGEST_XXH128])
            kind = SM_DIGEST_XXH128;
    }
    if (!set->has[kind])
        return SM_DIGEST_UNKNOWN;
    *digest = set->digest[kind];
    return kind == SM_DIGEST_SHA256 && set->sha256_learned ? SM_DIGEST_LEARNED : SM_DIGEST_GIVEN;
}

void sm_digest_set_bind(const sm_digest_set *set, sm_query *query)
{
    const char *origin = set->sha256_learned ? "learned" : "given";
    const bool *has = set->has;
    sm_query_digest(query, has[SM_DIGEST_SHA256] ? &set->digest[SM_DIGEST_SHA256] : NULL);
    sm_query_text(query, has[SM_DIGEST_SHA256] ? origin : NULL);
    sm_query_digest(query, has[SM_DIGEST_MD5] ? &set->digest[SM_DIGEST_MD5] : NULL);
    sm_query_digest(query, has[SM_DIGEST_XXH128] ? &set->digest[SM_DIGEST_XXH128] : NULL);
}

/* ---- a row ---- */

static const char *read_path(sm_query *query)
{
    sm_error why = SM_ERROR_INIT;
    const char *path = sm_column_text(query, COLUMN_PATH);
    if (path == NULL || sm_path_check(path, &why) != SM_OK) {
        sm_column_is_bad(query, COLUMN_PATH, "is no clean relative path");
        return NULL;
    }
    const int64_t hash = sm_slide_path_hash(path, strlen(path));
    sm_column_int(query, COLUMN_PATH_HASH, hash, hash);
    return path;
}

static sm_slide_state read_state(sm_query *query)
{
    const char *name = sm_column_text(query, COLUMN_STATE);
    const sm_slide_state state = name != NULL ? sm_slide_state_parse(name) : SM_SLIDE_STATES;
    if (state == SM_SLIDE_STATES)
        sm_column_is_bad(query, COLUMN_STATE, "is no state of a slide");
    return state;
}

static const char *read_brick(sm_query *query, int column)
{
    const sm_catalog *catalog = query->catalog;
    const int64_t id = sm_column_int_or(query, column, 1, (int64_t)catalog->n_bricks, 0);
    return id > 0 ? catalog->bricks[id - 1].name : NULL;
}

sm_status sm_slide_read(sm_query *query, sm_slide_row *row, sm_error *err)
{
    sm_digest_set digests;
    *row = (sm_slide_row){0};
    row->id = sm_column_int(query, 0, 1, INT64_MAX);
    row->path = read_path(query);
    row->state = read_state(query);
    row->size_bytes = SM_NO_SIZE;
    if (!sm_column_is_null(query, 4))
        row->size_bytes = (uint64_t)sm_column_int(query, 4, 0, INT64_MAX);
    row->mtime_ns = sm_column_int_or(query, 5, INT64_MIN, INT64_MAX, 0);
    row->shard = (uint32_t)sm_column_int_or(query, 6, 0, SM_CATALOG_SHARDS_MAX - 1, SM_NO_SHARD);
    row->present = sm_column_int(query, 7, 0, 1) != 0;
    row->brick = read_brick(query, 8);
    row->attempts = (uint32_t)sm_column_int(query, 9, 0, UINT32_MAX);
    row->checked_ns = sm_column_int_or(query, 10, 1, INT64_MAX, 0);
    row->n_parts = (uint32_t)sm_column_int(query, 11, 0, UINT32_MAX);
    row->parts_bytes = (uint64_t)sm_column_int(query, 12, 0, INT64_MAX);
    sm_digest_set_read(query, COLUMN_SHA256, &digests);
    row->digest_origin = sm_digest_set_best(&digests, &row->digest);
    row->has_sha256 = digests.has[SM_DIGEST_SHA256];
    row->sha256 = digests.digest[SM_DIGEST_SHA256];
    row->external_id = sm_column_text(query, 17);
    row->vendor = sm_column_text(query, 18);
    row->w_px = (uint32_t)sm_column_int_or(query, 19, 1, UINT32_MAX, 0);
    row->h_px = (uint32_t)sm_column_int_or(query, 20, 1, UINT32_MAX, 0);
    row->mpp = sm_column_real(query, 21);
    row->objective = sm_column_real(query, 22);
    row->error_class = sm_column_text(query, 23);
    row->error = sm_column_text(query, 24);
    row->since_generation = (uint64_t)sm_column_int_or(query, 25, 0, INT64_MAX, 0);
    return sm_query_row_status(query, "slide", row->id, err);
}

/* ---- filters ---- */

static sm_status where_states(unsigned by_state, sm_buf *sql, sm_error *err)
{
    const char *before = " AND state IN (";
    sm_status st = SM_OK;
    for (unsigned i = 0; st == SM_OK && i < SM_SLIDE_STATES; i++) {
        if ((by_state & 1u << i) == 0)
            continue;
        st = sm_buf_printf(sql, err, "%s'%s'", before, sm_slide_state_name((sm_slide_state)i));
        before = ",";
    }
    return st == SM_OK ? sm_buf_printf(sql, err, ")") : st;
}

sm_status sm_filter_where(sm_catalog *catalog, const sm_slide_filter *filter, sm_buf *sql,
                          sm_error *err)
{
    const unsigned every = (1u << SM_SLIDE_STATES) - 1;
    if ((filter->by_state & ~every) != 0)
        return sm_fail(err, SM_ERR_ARG, "a filter asks for a state that does not exist");
    sm_status st = sm_buf_printf(sql, err, " WHERE 1");
    if (st == SM_OK && filter->by_state != 0)
        st = where_states(filter->by_state, sql, err);
    if (st == SM_OK && filter->shard != NULL)
        st = sm_buf_printf(sql, err, " AND shard = ?");
    if (st == SM_OK && filter->error_class != NULL)
        st = sm_buf_printf(sql, err, " AND error_class = ?");
    if (st == SM_OK && filter->brick != NULL) /* 0: no slide has it */
        st = sm_buf_printf(sql, err, " AND brick = %" PRId64,
                           sm_bricks_find(catalog, filter->brick));
    if (st == SM_OK && filter->glob != NULL)
        st = sm_buf_printf(sql, err, " AND path GLOB ?");
    if (st == SM_OK && filter->only_missing)
        st = sm_buf_printf(sql, err, " AND present = 0");
    if (st == SM_OK && filter->only_unchecked)
        st = sm_buf_printf(sql, err, " AND checked_ns IS NULL");
    return st;
}

void sm_filter_bind(const sm_slide_filter *filter, sm_query *query)
{
    if (filter->shard != NULL)
        sm_query_int(query, *filter->shard);
    if (filter->error_class != NULL)
        sm_query_text_copy(query, filter->error_class);
    if (filter->glob != NULL)
        sm_query_text_copy(query, filter->glob);
}

static int64_t limit_of(const sm_slide_filter *filter)
{
    return filter->limit > 0 && filter->limit < INT64_MAX ? (int64_t)filter->limit : -1;
}

/* `before` + WHERE + `after`, prepared and bound, the limit last. */
static sm_status filtered(sm_catalog *catalog, const sm_slide_filter *filter,
                          const char *const around[2], sm_query *query, sm_error *err)
{
    sm_buf sql = {0};
    sm_status st = sm_buf_printf(&sql, err, "%s", around[0]);
    if (st == SM_OK)
        st = sm_filter_where(catalog, filter, &sql, err);
    if (st == SM_OK)
        st = sm_buf_append(&sql, around[1], strlen(around[1]) + 1, err);
    if (st == SM_OK)
        st = sm_query_new(catalog, (const char *)sql.data, query, err);
    sm_buf_free(&sql);
    if (st != SM_OK)
        return st;
    sm_filter_bind(filter, query);
    sm_query_int(query, limit_of(filter));
    return SM_OK;
}

sm_status sm_catalog_count(sm_catalog *catalog, const sm_slide_filter *filter, uint64_t *n,
                           uint64_t *bytes, sm_error *err)
{
    static const char *const AROUND[2] = {
        "SELECT count(*), coalesce(sum(bytes), 0) FROM "
        "(SELECT coalesce(size_bytes, 0) + parts_bytes AS bytes FROM slide",
        " LIMIT ?)"};
    sm_query query = {0};
    bool more = false;
    *n = *bytes = 0;
    sm_status st = filtered(catalog, filter, AROUND, &query, err);
    if (st == SM_OK)
        st = sm_query_next(&query, &more, err);
    if (st == SM_OK && more) {
        *n = (uint64_t)sm_column_int(&query, 0, 0, INT64_MAX);
        *bytes = (uint64_t)sm_column_int(&query, 1, 0, INT64_MAX);
        st = sm_query_row_status(&query, "count of slides", 0, err);
    }
    sm_query_end(&query);
    return st;
}

/* ---- cursors ---- */

typedef struct sized_id {
    int64_t id;
    uint64_t bytes;
} sized_id;

struct sm_slide_cursor {
    sm_query query;
    bool by_id; /* the query takes one id; they stand in the list */
    sized_id *ids;
    size_t n, next;
};

static int by_size(const void *a, const void *b)
{
    const sized_id *one = a, *other = b;
    if (one->bytes != other->bytes)
        return one->bytes > other->bytes ? -1 : 1;
    return one->id < other->id ? -1 : one->id > other->id;
}

/* Sorting sixteen bytes a slide here is a tenth of the memory of SQLite's sorting whole rows. */
static sm_status collect_ids(sm_catalog *catalog, const sm_slide_filter *filter,
                             sm_slide_cursor *cursor, sm_error *err)
{
    static const char *const AROUND[2] = {
        "SELECT id, coalesce(size_bytes, 0) + parts_bytes FROM slide", " LIMIT ?"};
    sm_slide_filter all = *filter;
    sm_query query = {0};
    sm_buf ids = {0};
    all.limit = 0; /* the largest ones are not the first ones */
    sm_status st = filtered(catalog, &all, AROUND, &query, err);
    for (bool more = true; st == SM_OK;) {
        st = sm_query_next(&query, &more, err);
        if (st != SM_OK || !more)
            break;
        const sized_id entry = {.id = sm_column_int(&query, 0, 1, INT64_MAX),
                                .bytes = (uint64_t)sm_column_int(&query, 1, 0, INT64_MAX)};
        st = sm_query_row_status(&query, "slide", entry.id, err);
        if (st == SM_OK)
            st = sm_buf_append(&ids, &entry, sizeof(entry), err);
    }
    sm_query_end(&query);
    if (st != SM_OK) {
        sm_buf_free(&ids);
        return st;
    }
    cursor->ids = (sized_id *)(void *)ids.data;
    cursor->n = ids.len / sizeof(*cursor->ids);
    if (cursor->n > 0)
        qsort(cursor->ids, cursor->n, sizeof(*cursor->ids), by_size);
    if (filter->limit > 0 && cursor->n > filter->limit)
        cursor->n = (size_t)filter->limit;
    return SM_OK;
}

sm_status sm_catalog_slides(sm_catalog *catalog, const sm_slide_filter *filter,
                            sm_slide_cursor **cursor, sm_error *err)
{
    static const char *const AROUND[2] = {"SELECT " SM_SLIDE_COLUMNS " FROM slide",
                                          " ORDER BY id LIMIT ?"};
    *cursor = NULL;
    sm_slide_cursor *made = sm_calloc(1, sizeof(*made));
    if (made == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "out of memory for reading the catalog");
    made->by_id = filter->largest_first;
    if (filter->shard != NULL && catalog->gen == NULL)
        sm_prefetch_shard(catalog, *filter->shard);
    sm_status st = SM_OK;
    if (made->by_id) {
        st = collect_ids(catalog, filter, made, err);
        if (st == SM_OK)
            st = sm_query_new(catalog, "SELECT " SM_SLIDE_COLUMNS " FROM slide WHERE id = ?",
                              &made->query, err);
    } else {
        st = filtered(catalog, filter, AROUND, &made->query, err);
    }
    if (st != SM_OK) {
        sm_slide_cursor_close(&made);
        return st;
    }
    *cursor = made;
    return SM_OK;
}

sm_status sm_slide_cursor_next(sm_slide_cursor *cursor, sm_slide_row *row, bool *more,
                               sm_error *err)
{
    sm_query *query = &cursor->query;
    *more = false;
    if (cursor->by_id) {
        if (cursor->next == cursor->n)
            return SM_OK;
        sm_query_reset(query);
        query->next = 1;
        sm_query_int(query, cursor->ids[cursor->next++].id);
    }
    const sm_status st = sm_query_next(query, more, err);
    if (st == SM_OK && *more)
        return sm_slide_read(query, row, err);
    if (st == SM_OK && cursor->by_id)
        return sm_fail(err, SM_ERR_CORRUPT, "%s: slide %" PRId64 " is gone", query->catalog->path,
                       cursor->ids[cursor->next - 1].id);
    return st;
}

void sm_slide_cursor_close(sm_slide_cursor **cursor)
{
    sm_slide_cursor *c = *cursor;
    if (c == NULL)
        return;
    sm_query_end(&c->query);
    free(c->ids);
    free(c);
    *cursor = NULL;
}

/* ---- look-ups ---- */

sm_status sm_catalog_find(sm_catalog *catalog, const char *path, sm_slide_row *row, bool *found,
                          sm_error *err)
{
    static const char FIND[] =
        "SELECT " SM_SLIDE_COLUMNS " FROM slide WHERE path_hash = ? AND path = ?";
    const size_t len = strlen(path);
    sm_query query = {0};
    *found = false;
    sm_status st = sm_query_use(catalog, FIND, &query, err);
    if (st != SM_OK)
        return st;
    sm_query_int(&query, sm_slide_path_hash(path, len));
    sm_query_text_len(&query, path, len);
    st = sm_query_next(&query, found, err);
    return st == SM_OK && *found ? sm_slide_read(&query, row, err) : st;
}

sm_status sm_catalog_get(sm_catalog *catalog, int64_t id, sm_slide_row *row, bool *found,
                         sm_error *err)
{
    static const char GET[] = "SELECT " SM_SLIDE_COLUMNS " FROM slide WHERE id = ?";
    sm_query query = {0};
    *found = false;
    sm_status st = sm_query_use(catalog, GET, &query, err);
    if (st != SM_OK)
        return st;
    sm_query_int(&query, id);
    st = sm_query_next(&query, found, err);
    return st == SM_OK && *found ? sm_slide_read(&query, row, err) : st;
}
