/* Changing slides: adding, updating, what a scan found, retry.
 * Owns nothing. */
#include "common/catalog_db.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "common/path.h"

/* What sm_catalog_put needs to know of a slide that is there already. */
typedef struct known_slide {
    int64_t id;
    sm_slide_state state;
    sm_digest_set digests;
} known_slide;

static sm_status find_known(sm_catalog *catalog, const char *path, known_slide *known, bool *found,
                            sm_error *err)
{
    static const char FIND[] = "SELECT id, state, sha256, sha256_origin, md5, xxh128 FROM slide "
                               "WHERE path_hash = ? AND path = ?";
    sm_query query = {0};
    const size_t len = strlen(path);
    *known = (known_slide){0};
    *found = false;
    sm_status st = sm_query_use(catalog, FIND, &query, err);
    if (st != SM_OK)
        return st;
    sm_query_int(&query, sm_slide_path_hash(path, len));
    sm_query_text_len(&query, path, len);
    st = sm_query_next(&query, found, err);
    if (st != SM_OK || !*found)
        return st;
    known->id = sm_column_int(&query, 0, 1, INT64_MAX);
    const char *state = sm_column_text(&query, 1);
    known->state = sm_slide_state_parse(state != NULL ? state : "");
    if (known->state == SM_SLIDE_STATES)
        sm_column_is_bad(&query, 1, "is no state of a slide");
    sm_digest_set_read(&query, 2, &known->digests);
    st = sm_query_row_status(&query, "slide", known->id, err);
    sm_query_reset(&query);
    return st;
}

static sm_status check_row(const sm_catalog *catalog, const sm_slide_row *row, sm_error *err)
{
    sm_status st = sm_path_check(row->path, err);
    if (st == SM_OK)
        st = sm_catalog_check_text("id", row->external_id, SM_CATALOG_TEXT_MAX, err);
    if (st == SM_OK)
        st = sm_catalog_check_text("vendor", row->vendor, SM_CATALOG_TEXT_MAX, err);
    if (st == SM_OK && row->size_bytes != SM_NO_SIZE && row->size_bytes > INT64_MAX)
        st = sm_fail(err, SM_ERR_ARG, "%s: %s: %" PRIu64 " bytes is no size", catalog->path,
                     row->path, row->size_bytes);
    if (st == SM_OK &&
        (row->mpp < 0 || !isfinite(row->mpp) || row->objective < 0 || !isfinite(row->objective)))
        st = sm_fail(err, SM_ERR_ARG, "%s: %s: resolution or objective is below 0", catalog->path,
                     row->path);
    return st;
}

/* ---- expected digests ---- */

/* *disagrees: the digest that was learned from the file's bytes is not the one given now. */
static sm_status take_given(const sm_catalog *catalog, const sm_slide_row *row, known_slide *known,
                            bool *is_new, bool *disagrees, sm_error *err)
{
    const sm_digest_kind kind = row->digest.kind;
    sm_digest_set *set = &known->digests;
    const bool learned = kind == SM_DIGEST_SHA256 && set->has[kind] && set->sha256_learned;
    *is_new = *disagrees = false;
    if (row->digest_origin != SM_DIGEST_GIVEN)
        return SM_OK;
    if (set->has[kind] && !sm_digest_equal(&set->digest[kind], &row->digest)) {
        char old_hex[SM_DIGEST_HEX_CAP], new_hex[SM_DIGEST_HEX_CAP];
        if (!learned)
            return sm_fail(err, SM_ERR_CORRUPT,
                           "%s: %s: its %s was given as %s before, now as %s: one list is wrong",
                           catalog->path, row->path, sm_digest_kind_name(kind),
                           sm_digest_hex(&set->digest[kind], old_hex),
                           sm_digest_hex(&row->digest, new_hex));
        *disagrees = true;
    }
    *is_new = !set->has[kind] || *disagrees;
    set->has[kind] = true;
    set->digest[kind] = row->digest;
    if (kind == SM_DIGEST_SHA256)
        set->sha256_learned = false;
    return SM_OK;
}

static sm_status store_given(sm_catalog *catalog, const known_slide *known, bool is_new,
                             bool disagrees, sm_error *err)
{
    /* What was hashed before was not compared with this digest. */
    static const char UPDATE[] = "UPDATE slide SET sha256 = ?, sha256_origin = ?, md5 = ?, "
                                 "xxh128 = ?, checked_ns = iif(?, NULL, checked_ns) WHERE id = ?";
    static const char QUARANTINE[] = "UPDATE slide SET state = 'quarantined', "
                                     "error_class = 'digest', error = ? WHERE id = ?";
    sm_query query = {0};
    sm_status st = sm_query_use(catalog, UPDATE, &query, err);
    if (st != SM_OK)
        return st;
    sm_digest_set_bind(&known->digests, &query);
    sm_query_int(&query, is_new);
    sm_query_int(&query, known->id);
    st = sm_query_run(&query, err);
    if (st != SM_OK || !disagrees || known->state != SM_SLIDE_DONE)
        return st;
    st = sm_query_use(catalog, QUARANTINE, &query, err);
    if (st != SM_OK)
        return st;
    sm_query_text(&query, "the bytes that were read are not those of the SHA-256 given since");
    sm_query_int(&query, known->id);
    return sm_query_run(&query, err);
}

/* ---- put ---- */

static sm_status insert_slide(sm_catalog *catalog, const sm_slide_row *row, int64_t brick,
                              int64_t *id, sm_error *err)
{
    static const char INSERT[] =
        "INSERT INTO slide (path, path_hash, state, size_bytes, mtime_ns, present, brick, "
        "attempts, n_parts, parts_bytes, sha256, sha256_origin, md5, xxh128, external_id, vendor, "
        "w_px, h_px, mpp, objective) "
        "VALUES (?, ?, 'new', ?, ?, ?, ?, 0, 0, 0, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
    const size_t len = strlen(row->path);
    sm_digest_set digests = {0};
    sm_query query = {0};
    if (row->digest_origin != SM_DIGEST_UNKNOWN) {
        digests.has[row->digest.kind] = true;
        digests.digest[row->digest.kind] = row->digest;
        digests.sha256_learned = row->digest_origin == SM_DIGEST_LEARNED;
    }
    sm_status st = sm_query_use(catalog, INSERT, &query, err);
    if (st != SM_OK)
        return st;
    sm_query_text_len(&query, row->path, len);
    sm_query_int(&query, sm_slide_path_hash(row->path, len));
    sm_query_int_if(&query, row->size_bytes != SM_NO_SIZE, row->size_bytes);
    if (row->mtime_ns != 0)
        sm_query_int(&query, row->mtime_ns);
    else
        sm_query_null(&query);
    sm_query_int(&query, row->present);
    sm_query_int_if(&query, brick != 0, (uint64_t)brick);
    sm_digest_set_bind(&digests, &query);
    sm_query_text(&query, row->external_id);
    sm_query_text(&query, row->vendor);
    sm_query_int_if(&query, row->w_px != 0, row->w_px);
    sm_query_int_if(&query, row->h_px != 0, row->h_px);
    sm_query_real_if(&query, row->mpp > 0, row->mpp);
    sm_query_real_if(&query, row->objective > 0, row->objective);
    st = sm_query_run(&query, err);
    *id = sm_catalog_last_id(catalog);
    return st;
}

static sm_status update_slide(sm_catalog *catalog, const sm_slide_row *row, int64_t brick,
                              int64_t id, sm_error *err)
{
    static const char UPDATE[] =
        "UPDATE slide SET size_bytes = coalesce(?, size_bytes), mtime_ns = coalesce(?, mtime_ns), "
        "brick = coalesce(?, brick), external_id = coalesce(?, external_id), "
        "vendor = coalesce(?, vendor), w_px = coalesce(?, w_px), h_px = coalesce(?, h_px), "
        "mpp = coalesce(?, mpp), objective = coalesce(?, objective) WHERE id = ?";
    sm_query query = {0};
    const sm_status st = sm_query_use(catalog, UPDATE, &query, err);
    if (st != SM_OK)
        return st;
    sm_query_int_if(&query, row->size_bytes != SM_NO_SIZE, row->size_bytes);
    if (row->mtime_ns != 0)
        sm_query_int(&query, row->mtime_ns);
    else
        sm_query_null(&query);
    sm_query_int_if(&query, brick != 0, (uint64_t)brick);
    sm_query_text(&query, row->external_id);
    sm_query_text(&query, row->vendor);
    sm_query_int_if(&query, row->w_px != 0, row->w_px);
    sm_query_int_if(&query, row->h_px != 0, row->h_px);
    sm_query_real_if(&query, row->mpp > 0, row->mpp);
    sm_query_real_if(&query, row->objective > 0, row->objective);
    sm_query_int(&query, id);
    return sm_query_run(&query, err);
}

sm_status sm_catalog_put(sm_catalog *catalog, const sm_slide_row *row, int64_t *id, bool *added,
                         sm_error *err)
{
    known_slide known = {0};
    bool found = false, is_new = false, disagrees = false;
    int64_t brick = 0;
    *added = false;
    sm_status st = sm_catalog_begin_write(catalog, err);
    if (st == SM_OK)
        st = check_row(catalog, row, err);
    if (st == SM_OK)
        st = find_known(catalog, row->path, &known, &found, err);
    if (st == SM_OK && found)
        st = take_given(catalog, row, &known, &is_new, &disagrees, err);
    if (st == SM_OK)
        st = sm_bricks_get(catalog, row->brick, &brick, err);
    if (st != SM_OK)
        return st;
    catalog->tallied = false;
    *added = !found;
    if (!found)
        return insert_slide(catalog, row, brick, id, err);
    *id = known.id;
    st = update_slide(catalog, row, brick, known.id, err);
    if (st == SM_OK && row->digest_origin == SM_DIGEST_GIVEN)
        st = store_given(catalog, &known, is_new, disagrees, err);
    return st;
}

/* ---- what a scan found ---- */

static sm_status change_one(sm_query *query, int64_t id, sm_error *err)
{
    sm_catalog *catalog = query->catalog;
    sm_query_int(query, id);
    catalog->tallied = false;
    const sm_status st = sm_query_run(query, err);
    if (st == SM_OK && sm_catalog_changes(catalog) == 0)
        return sm_fail(err, SM_ERR_ARG, "%s: has no slide %" PRId64, catalog->path, id);
    return st;
}

sm_status sm_catalog_changed(sm_catalog *catalog, int64_t id, uint64_t size_bytes, int64_t mtime_ns,
                             sm_error *err)
{
    static const char UPDATE[] =
        "UPDATE slide SET size_bytes = ?, mtime_ns = ?, state = 'new', shard = NULL, "
        "sha256 = iif(sha256_origin = 'learned', NULL, sha256), "
        "sha256_origin = iif(sha256_origin = 'learned', NULL, sha256_origin), "
        "checked_ns = NULL, error_class = NULL, error = NULL, last_ended_ns = NULL, "
        "since_generation = ? WHERE id = ?";
    sm_query query = {0};
    sm_status st = sm_catalog_begin_write(catalog, err);
    if (st == SM_OK)
        st = sm_query_use(catalog, UPDATE, &query, err);
    if (st != SM_OK)
        return st;
    sm_query_int_if(&query, size_bytes != SM_NO_SIZE, size_bytes);
    sm_query_int(&query, mtime_ns);
    sm_query_int(&query, (int64_t)catalog->number);
    return change_one(&query, id, err);
}

sm_status sm_catalog_set_present(sm_catalog *catalog, int64_t id, bool present, sm_error *err)
{
    static const char UPDATE[] = "UPDATE slide SET present = ? WHERE id = ?";
    sm_query query = {0};
    sm_status st = sm_catalog_begin_write(catalog, err);
    if (st == SM_OK)
        st = sm_query_use(catalog, UPDATE, &query, err);
    if (st != SM_OK)
        return st;
    sm_query_int(&query, present);
    return change_one(&query, id, err);
}

/* ---- retry ---- */

/* A lease says nothing bad of the slide, so results that its run still has to tell stay good. */
#define RETRY                                                                                      \
    "UPDATE slide SET since_generation = iif(state = 'leased', since_generation, %" PRIu64 "), "   \
    "state = iif(shard IS NULL, 'new', 'planned'), error_class = NULL, error = NULL, "             \
    "last_ended_ns = NULL WHERE id IN (SELECT id FROM slide"

sm_status sm_catalog_retry(sm_catalog *catalog, const sm_slide_filter *filter, uint64_t *n,
                           sm_error *err)
{
    const unsigned unasked =
        1u << SM_SLIDE_FAILED | 1u << SM_SLIDE_LEASED | 1u << SM_SLIDE_QUARANTINED;
    sm_slide_filter wanted = *filter;
    sm_query query = {0};
    sm_buf sql = {0};
    *n = 0;
    if (filter->by_state == 0)
        wanted.by_state = unasked;
    else
        wanted.by_state &= unasked | 1u << SM_SLIDE_DONE;
    if (wanted.by_state == 0)
        return SM_OK; /* new and planned ones are tried anyway */
    sm_status st = sm_catalog_begin_write(catalog, err);
    if (st == SM_OK)
        st = sm_buf_printf(&sql, err, RETRY, catalog->number);
    if (st == SM_OK)
        st = sm_filter_where(catalog, &wanted, &sql, err);
    if (st == SM_OK)
        st = sm_buf_printf(&sql, err, " ORDER BY %s LIMIT ?)",
                           wanted.largest_first ? "size_bytes DESC, id" : "id");
    if (st == SM_OK)
        st = sm_buf_append(&sql, "", 1, err);
    if (st == SM_OK)
        st = sm_query_new(catalog, (const char *)sql.data, &query, err);
    if (st == SM_OK) {
        sm_filter_bind(&wanted, &query);
        const bool limited = filter->limit > 0 && filter->limit < INT64_MAX;
        sm_query_int(&query, limited ? (int64_t)filter->limit : -1);
        catalog->tallied = false;
        st = sm_query_run(&query, err);
    }
    if (st == SM_OK)
        *n = (uint64_t)sm_catalog_changes(catalog);
    sm_query_end(&query);
    sm_buf_free(&sql);
    return st;
}
