/* Counts of slides, made in one pass before a catalog is published, so that asking for its status
 * costs no more for a million slides than for one. Owns nothing that outlives a call. */
#include "common/catalog_db.h"

#include <stdlib.h>
#include <string.h>

enum { CLASS_MAX = 31 };

/* Slides alike in state, brick and error class. */
typedef struct tally_group {
    sm_slide_state state;
    int64_t brick;
    char error_class[CLASS_MAX + 1]; /* "": none */
    uint64_t n, bytes, n_missing, n_unchecked;
    int64_t example; /* smallest id */
} tally_group;

typedef struct tally {
    sm_buf groups; /* of tally_group */
    size_t last;   /* neighbours mostly are alike */
    sm_shard_row *shards;
    uint32_t n_shards;
} tally;

static bool is_of(const tally_group *group, sm_slide_state state, int64_t brick,
                  const char *error_class)
{
    return group->state == state && group->brick == brick &&
           strcmp(group->error_class, error_class) == 0;
}

static sm_status find_group(tally *t, sm_slide_state state, int64_t brick, const char *error_class,
                            tally_group **group, sm_error *err)
{
    tally_group *groups = (tally_group *)(void *)t->groups.data;
    const size_t n = t->groups.len / sizeof(*groups);
    if (t->last < n && is_of(&groups[t->last], state, brick, error_class)) {
        *group = &groups[t->last];
        return SM_OK;
    }
    size_t i = 0;
    while (i < n && !is_of(&groups[i], state, brick, error_class))
        i++;
    if (i == n) {
        tally_group made = {.state = state, .brick = brick};
        memcpy(made.error_class, error_class, strlen(error_class) + 1);
        const sm_status st = sm_buf_append(&t->groups, &made, sizeof(made), err);
        if (st != SM_OK)
            return st;
        groups = (tally_group *)(void *)t->groups.data;
    }
    t->last = i;
    *group = &groups[i];
    return SM_OK;
}

static void add(uint64_t *sum, uint64_t value)
{
    *sum = *sum > (uint64_t)INT64_MAX - value ? (uint64_t)INT64_MAX : *sum + value;
}

static sm_status count_slide(sm_query *query, tally *t, sm_error *err)
{
    const sm_catalog *catalog = query->catalog;
    const int64_t id = sm_column_int(query, 0, 1, INT64_MAX);
    const char *name = sm_column_text(query, 1);
    const sm_slide_state state = sm_slide_state_parse(name != NULL ? name : "");
    const int64_t brick = sm_column_int_or(query, 2, 1, (int64_t)catalog->n_bricks, 0);
    const char *error_class = sm_column_text(query, 3);
    const bool failed = state == SM_SLIDE_FAILED || state == SM_SLIDE_QUARANTINED;
    const int64_t shard = sm_column_int_or(query, 4, 0, (int64_t)t->n_shards - 1, -1);
    const bool missing = sm_column_int(query, 5, 0, 1) == 0;
    const bool unchecked = sm_column_is_null(query, 6);
    const uint64_t bytes = (uint64_t)sm_column_int_or(query, 7, 0, INT64_MAX, 0) +
                           (uint64_t)sm_column_int(query, 8, 0, INT64_MAX);
    if (state == SM_SLIDE_STATES)
        sm_column_is_bad(query, 1, "is no state of a slide");
    if (error_class != NULL && strlen(error_class) > CLASS_MAX)
        sm_column_is_bad(query, 3, "is too long");
    sm_status st = sm_query_row_status(query, "slide", id, err);
    tally_group *group = NULL;
    if (st == SM_OK)
        st = find_group(t, state, brick, error_class != NULL && failed ? error_class : "", &group,
                        err);
    if (st != SM_OK)
        return st;
    group->example = group->n++ == 0 ? id : group->example;
    add(&group->bytes, bytes);
    group->n_missing += missing;
    group->n_unchecked += unchecked;
    if (shard >= 0) {
        sm_shard_row *row = &t->shards[shard];
        row->n++;
        add(&row->bytes, bytes);
        row->n_open += state == SM_SLIDE_PLANNED || state == SM_SLIDE_LEASED;
        row->n_done += state == SM_SLIDE_DONE;
        row->n_failed += failed;
    }
    return SM_OK;
}

static sm_status count_slides(sm_catalog *catalog, tally *t, sm_error *err)
{
    static const char SELECT[] =
        "SELECT id, state, brick, error_class, shard, present, checked_ns, size_bytes, "
        "parts_bytes FROM slide ORDER BY id";
    sm_query query = {0};
    sm_status st = sm_query_new(catalog, SELECT, &query, err);
    for (bool more = true; st == SM_OK;) {
        st = sm_query_next(&query, &more, err);
        if (st != SM_OK || !more)
            break;
        st = count_slide(&query, t, err);
    }
    sm_query_end(&query);
    return st;
}

static sm_status store_group(sm_catalog *catalog, const tally_group *group, sm_error *err)
{
    static const char INSERT[] = "INSERT INTO tally (state, brick, error_class, n, bytes, "
                                 "n_missing, n_unchecked, example) VALUES (?, ?, ?, ?, ?, ?, ?, ?)";
    sm_query query = {0};
    const sm_status st = sm_query_use(catalog, INSERT, &query, err);
    if (st != SM_OK)
        return st;
    sm_query_text(&query, sm_slide_state_name(group->state));
    sm_query_int_if(&query, group->brick != 0, (uint64_t)group->brick);
    sm_query_text(&query, group->error_class[0] != '\0' ? group->error_class : NULL);
    sm_query_int_if(&query, true, group->n);
    sm_query_int_if(&query, true, group->bytes);
    sm_query_int_if(&query, true, group->n_missing);
    sm_query_int_if(&query, true, group->n_unchecked);
    sm_query_int(&query, group->example);
    return sm_query_run(&query, err);
}

static sm_status store_shard(sm_catalog *catalog, uint32_t shard, const sm_shard_row *row,
                             sm_error *err)
{
    static const char INSERT[] =
        "INSERT INTO shard (shard, n, bytes, n_open, n_done, n_failed) VALUES (?, ?, ?, ?, ?, ?)";
    sm_query query = {0};
    const sm_status st = sm_query_use(catalog, INSERT, &query, err);
    if (st != SM_OK)
        return st;
    sm_query_int(&query, shard);
    sm_query_int_if(&query, true, row->n);
    sm_query_int_if(&query, true, row->bytes);
    sm_query_int_if(&query, true, row->n_open);
    sm_query_int_if(&query, true, row->n_done);
    sm_query_int_if(&query, true, row->n_failed);
    return sm_query_run(&query, err);
}

static sm_status store(sm_catalog *catalog, const tally *t, sm_error *err)
{
    const tally_group *groups = (const tally_group *)(const void *)t->groups.data;
    sm_status st = sm_catalog_exec(catalog, "DELETE FROM tally; DELETE FROM shard", err);
    for (size_t i = 0; st == SM_OK && i < t->groups.len / sizeof(*groups); i++)
        st = store_group(catalog, &groups[i], err);
    for (uint32_t i = 0; st == SM_OK && i < t->n_shards; i++) {
        if (t->shards[i].n > 0)
            st = store_shard(catalog, i, &t->shards[i], err);
    }
    return st;
}

sm_status sm_tally_store(sm_catalog *catalog, sm_error *err)
{
    tally t = {.n_shards = catalog->meta.n_shards};
    if (catalog->tallied)
        return SM_OK;
    sm_status st = SM_OK;
    t.shards = sm_calloc(t.n_shards, sizeof(*t.shards));
    if (t.shards == NULL)
        st = sm_fail(err, SM_ERR_NOMEM, "out of memory for the counts of the catalog");
    if (st == SM_OK)
        st = count_slides(catalog, &t, err);
    if (st == SM_OK)
        st = store(catalog, &t, err);
    catalog->tallied = st == SM_OK;
    sm_buf_free(&t.groups);
    free(t.shards);
    return st;
}
