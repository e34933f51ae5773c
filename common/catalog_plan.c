/* The plan: which shard each slide is in.
 * Owns the assignments that are not in the table yet. */
#include "common/catalog_db.h"

#include <inttypes.h>
#include <stdlib.h>

/* From so many on it is faster to make the index anew than to change it one by one. */
enum { MANY = 20000 };

typedef struct assignment {
    int64_t slide;
    uint32_t shard;
    uint32_t turn; /* of two for one slide the later one counts */
} assignment;

sm_status sm_catalog_begin_plan(sm_catalog *catalog, uint32_t n_shards, sm_error *err)
{
    static const char CLEAR[] = "UPDATE slide SET shard = NULL, "
                                "state = iif(state = 'planned', 'new', state) "
                                "WHERE shard IS NOT NULL OR state = 'planned'";
    sm_query query = {0};
    sm_status st = sm_catalog_begin_write(catalog, err);
    if (st != SM_OK)
        return st;
    if (n_shards == 0 || n_shards > SM_CATALOG_SHARDS_MAX)
        return sm_fail(err, SM_ERR_ARG, "%" PRIu32 " shards: not in 1..%d", n_shards,
                       SM_CATALOG_SHARDS_MAX);
    if (catalog->meta.plan == UINT32_MAX)
        return sm_fail(err, SM_ERR_LIMIT, "%s: has had too many plans", catalog->path);
    catalog->tallied = false;
    st = sm_query_use(catalog, CLEAR, &query, err);
    if (st == SM_OK)
        st = sm_query_run(&query, err);
    if (st != SM_OK)
        return st;
    catalog->meta.plan++;
    catalog->meta.n_shards = n_shards;
    return SM_OK;
}

static int by_slide(const void *a, const void *b)
{
    const assignment *one = a, *other = b;
    if (one->slide != other->slide)
        return one->slide < other->slide ? -1 : 1;
    return (one->turn > other->turn) - (one->turn < other->turn);
}

static sm_status assign_each(sm_catalog *catalog, const assignment *list, size_t n, sm_error *err)
{
    static const char ASSIGN[] = "UPDATE slide SET shard = ?, "
                                 "state = iif(state = 'new', 'planned', state) WHERE id = ?";
    sm_query query = {0};
    sm_status st = SM_OK;
    for (size_t i = 0; st == SM_OK && i < n; i++) {
        st = sm_query_use(catalog, ASSIGN, &query, err);
        if (st != SM_OK)
            break;
        sm_query_int(&query, list[i].shard);
        sm_query_int(&query, list[i].slide);
        st = sm_query_run(&query, err);
        if (st == SM_OK && sm_catalog_changes(catalog) == 0)
            st =
                sm_fail(err, SM_ERR_ARG, "%s: has no slide %" PRId64, catalog->path, list[i].slide);
    }
    return st;
}

/* Shards come in no order of the slides; in that order the pages are changed one after the other,
 * which is several times faster. */
sm_status sm_assignments_store(sm_catalog *catalog, sm_error *err)
{
    sm_buf list = catalog->assigned;
    assignment *first = (assignment *)(void *)list.data;
    const size_t n = list.len / sizeof(*first);
    if (n == 0)
        return SM_OK;
    catalog->assigned = (sm_buf){0}; /* statements from here on must not come back here */
    qsort(first, n, sizeof(*first), by_slide);
    const bool anew = n >= MANY && !sm_catalog_is_busy(catalog);
    sm_status st = SM_OK;
    if (anew)
        st = sm_catalog_exec(catalog, "DROP INDEX slide_by_shard", err);
    if (st == SM_OK)
        st = assign_each(catalog, first, n, err);
    if (st == SM_OK && anew)
        st = sm_catalog_exec(catalog, SM_SCHEMA_SHARD_INDEX, err);
    catalog->broken |= st != SM_OK;
    sm_buf_free(&list);
    return st;
}

sm_status sm_catalog_assign(sm_catalog *catalog, int64_t id, uint32_t shard, sm_error *err)
{
    const size_t n = catalog->assigned.len / sizeof(assignment);
    const assignment one = {.slide = id, .shard = shard, .turn = (uint32_t)n};
    const sm_status st = sm_catalog_begin_write(catalog, err);
    if (st != SM_OK)
        return st;
    if (shard >= catalog->meta.n_shards || n == UINT32_MAX)
        return sm_fail(err, SM_ERR_ARG, "shard %" PRIu32 " of %" PRIu32, shard,
                       catalog->meta.n_shards);
    catalog->tallied = false;
    return sm_buf_append(&catalog->assigned, &one, sizeof(one), err);
}

sm_status sm_catalog_shards(sm_catalog *catalog, sm_shard_visit visit, void *arg, sm_error *err)
{
    static const char SELECT[] =
        "SELECT shard, n, bytes, n_open, n_done, n_failed FROM shard ORDER BY shard";
    sm_query query = {0};
    sm_status st = catalog->tallied ? SM_OK : sm_tally_store(catalog, err);
    if (st == SM_OK)
        st = sm_query_new(catalog, SELECT, &query, err);
    for (bool more = true; st == SM_OK;) {
        st = sm_query_next(&query, &more, err);
        if (st != SM_OK || !more)
            break;
        const sm_shard_row row = {
            .shard = (uint32_t)sm_column_int(&query, 0, 0, SM_CATALOG_SHARDS_MAX - 1),
            .n = (uint64_t)sm_column_int(&query, 1, 0, INT64_MAX),
            .bytes = (uint64_t)sm_column_int(&query, 2, 0, INT64_MAX),
            .n_open = (uint64_t)sm_column_int(&query, 3, 0, INT64_MAX),
            .n_done = (uint64_t)sm_column_int(&query, 4, 0, INT64_MAX),
            .n_failed = (uint64_t)sm_column_int(&query, 5, 0, INT64_MAX),
        };
        st = sm_query_row_status(&query, "shard", row.shard, err);
        if (st == SM_OK)
            st = visit(arg, &row, err);
    }
    sm_query_end(&query);
    return st;
}
