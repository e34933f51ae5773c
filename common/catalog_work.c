/* Sums over attempts: what threads did by brick and stage, and how fast bricks gave and took bytes.
 * Owns the catalog's list of them, which goes into the tables work, spent and flow. */
#include <stdlib.h>
#include <string.h>

#include "common/catalog_db.h"

/* ---- the list ---- */

static sm_status append_entry(sm_catalog *catalog, int64_t brick, sm_attempt_kind kind,
                              sm_work_entry **entry, sm_error *err)
{
    if (catalog->n_works == catalog->works_cap) {
        const size_t cap = catalog->works_cap > 0 ? 2 * catalog->works_cap : 16;
        sm_work_entry *grown = sm_malloc_array(cap, sizeof(*grown));
        if (grown == NULL)
            return sm_fail(err, SM_ERR_NOMEM, "out of memory for the work in the catalog");
        if (catalog->n_works > 0)
            memcpy(grown, catalog->works, catalog->n_works * sizeof(*grown));
        free(catalog->works);
        catalog->works = grown;
        catalog->works_cap = cap;
    }
    *entry = &catalog->works[catalog->n_works++];
    **entry = (sm_work_entry){.brick = brick, .kind = kind};
    return SM_OK;
}

static sm_status get_entry(sm_catalog *catalog, int64_t brick, sm_attempt_kind kind,
                           sm_work_entry **entry, sm_error *err)
{
    for (size_t i = 0; i < catalog->n_works; i++) { /* a volume has tens of bricks */
        *entry = &catalog->works[i];
        if ((*entry)->brick == brick && (*entry)->kind == kind)
            return SM_OK;
    }
    return append_entry(catalog, brick, kind, entry, err);
}

void sm_works_clear(sm_catalog *catalog)
{
    free(catalog->works);
    catalog->works = NULL;
    catalog->n_works = catalog->works_cap = 0;
}

/* ---- the tables ---- */

static sm_status load_works(sm_catalog *catalog, sm_error *err)
{
    static const char SELECT[] =
        "SELECT id, brick, kind, attempts, bytes_in, bytes_out, cpu_ns FROM work ORDER BY id";
    sm_query query = {0};
    sm_status st = sm_query_new(catalog, SELECT, &query, err);
    for (bool more = true; st == SM_OK;) {
        st = sm_query_next(&query, &more, err);
        if (st != SM_OK || !more)
            break;
        const int64_t want = (int64_t)catalog->n_works + 1;
        const int64_t id = sm_column_int(&query, 0, want, want);
        const char *kind = sm_column_text(&query, 2);
        sm_work_entry one = {
            .brick = sm_column_int_or(&query, 1, 1, (int64_t)catalog->n_bricks, 0),
            .attempts = (uint64_t)sm_column_int(&query, 3, 0, INT64_MAX),
            .bytes_in = (uint64_t)sm_column_int(&query, 4, 0, INT64_MAX),
            .bytes_out = (uint64_t)sm_column_int(&query, 5, 0, INT64_MAX),
            .cpu_ns = (uint64_t)sm_column_int(&query, 6, 0, INT64_MAX),
        };
        while (kind != NULL && one.kind <= SM_ATTEMPT_CHECK_OUTPUT &&
               strcmp(kind, sm_attempt_kind_name(one.kind)) != 0)
            one.kind++;
        if (kind == NULL || one.kind > SM_ATTEMPT_CHECK_OUTPUT)
            sm_column_is_bad(&query, 2, "is no kind of an attempt");
        st = sm_query_row_status(&query, "work", id, err);
        sm_work_entry *entry = NULL;
        if (st == SM_OK)
            st = append_entry(catalog, one.brick, one.kind, &entry, err);
        if (st == SM_OK)
            *entry = one;
    }
    sm_query_end(&query);
    return st;
}

/* A stage that is not known is of another version of ours: it is left as it is. */
static sm_status load_spent(sm_catalog *catalog, sm_error *err)
{
    static const char SELECT[] = "SELECT work, stage, ns FROM spent";
    sm_query query = {0};
    sm_status st = sm_query_new(catalog, SELECT, &query, err);
    for (bool more = true; st == SM_OK;) {
        st = sm_query_next(&query, &more, err);
        if (st != SM_OK || !more)
            break;
        const int64_t work = sm_column_int(&query, 0, 1, (int64_t)catalog->n_works);
        const char *stage = sm_column_text(&query, 1);
        const int64_t ns = sm_column_int(&query, 2, 0, INT64_MAX);
        st = sm_query_row_status(&query, "spent of work", work, err);
        for (int i = 0; st == SM_OK && stage != NULL && i < SM_STAGES; i++) {
            if (strcmp(stage, sm_stage_name((sm_stage)i)) == 0)
                catalog->works[work - 1].stage_ns[i] = (uint64_t)ns;
        }
    }
    sm_query_end(&query);
    return st;
}

static sm_status load_flow(sm_catalog *catalog, sm_error *err)
{
    static const char SELECT[] = "SELECT brick, reads, read_bytes, read_ns, writes, write_bytes, "
                                 "write_ns FROM flow";
    sm_query query = {0};
    sm_status st = sm_query_new(catalog, SELECT, &query, err);
    for (bool more = true; st == SM_OK;) {
        st = sm_query_next(&query, &more, err);
        if (st != SM_OK || !more)
            break;
        const int64_t brick = sm_column_int(&query, 0, 1, (int64_t)catalog->n_bricks);
        const sm_brick_flow flow = {
            .reads = (uint64_t)sm_column_int(&query, 1, 0, INT64_MAX),
            .read_bytes = (uint64_t)sm_column_int(&query, 2, 0, INT64_MAX),
            .read_ns = (uint64_t)sm_column_int(&query, 3, 0, INT64_MAX),
            .writes = (uint64_t)sm_column_int(&query, 4, 0, INT64_MAX),
            .write_bytes = (uint64_t)sm_column_int(&query, 5, 0, INT64_MAX),
            .write_ns = (uint64_t)sm_column_int(&query, 6, 0, INT64_MAX),
        };
        st = sm_query_row_status(&query, "flow of brick", brick, err);
        if (st == SM_OK)
            catalog->bricks[brick - 1].flow = flow;
    }
    sm_query_end(&query);
    return st;
}

sm_status sm_works_load(sm_catalog *catalog, sm_error *err)
{
    sm_status st = load_works(catalog, err);
    if (st == SM_OK)
        st = load_spent(catalog, err);
    return st == SM_OK ? load_flow(catalog, err) : st;
}

static sm_status store_work(sm_catalog *catalog, const sm_work_entry *entry, int64_t id,
                            sm_error *err)
{
    static const char UPSERT[] =
        "INSERT INTO work VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (id) DO UPDATE SET "
        "attempts = ?4, bytes_in = ?5, bytes_out = ?6, cpu_ns = ?7";
    static const char REPLACE[] = "INSERT OR REPLACE INTO spent VALUES (?, ?, ?)";
    sm_query query = {0};
    sm_status st = sm_query_use(catalog, UPSERT, &query, err);
    if (st != SM_OK)
        return st;
    sm_query_int(&query, id);
    sm_query_int_if(&query, entry->brick != 0, (uint64_t)entry->brick);
    sm_query_text(&query, sm_attempt_kind_name(entry->kind));
    sm_query_int(&query, (int64_t)entry->attempts);
    sm_query_int(&query, (int64_t)entry->bytes_in);
    sm_query_int(&query, (int64_t)entry->bytes_out);
    sm_query_int(&query, (int64_t)entry->cpu_ns);
    st = sm_query_run(&query, err);
    for (int i = 0; st == SM_OK && i < SM_STAGES; i++) {
        if (entry->stage_ns[i] == 0)
            continue;
        st = sm_query_use(catalog, REPLACE, &query, err);
        if (st != SM_OK)
            break;
        sm_query_int(&query, id);
        sm_query_text(&query, sm_stage_name((sm_stage)i));
        sm_query_int(&query, (int64_t)entry->stage_ns[i]);
        st = sm_query_run(&query, err);
    }
    return st;
}

static sm_status store_flow(sm_catalog *catalog, const sm_brick_flow *flow, int64_t brick,
                            sm_error *err)
{
    static const char REPLACE[] = "INSERT OR REPLACE INTO flow VALUES (?, ?, ?, ?, ?, ?, ?)";
    sm_query query = {0};
    const sm_status st = sm_query_use(catalog, REPLACE, &query, err);
    if (st != SM_OK)
        return st;
    sm_query_int(&query, brick);
    sm_query_int(&query, (int64_t)flow->reads);
    sm_query_int(&query, (int64_t)flow->read_bytes);
    sm_query_int(&query, (int64_t)flow->read_ns);
    sm_query_int(&query, (int64_t)flow->writes);
    sm_query_int(&query, (int64_t)flow->write_bytes);
    sm_query_int(&query, (int64_t)flow->write_ns);
    return sm_query_run(&query, err);
}

sm_status sm_works_store(sm_catalog *catalog, sm_error *err)
{
    sm_status st = SM_OK;
    for (size_t i = 0; st == SM_OK && i < catalog->n_works; i++) {
        if (!catalog->works[i].dirty)
            continue;
        st = store_work(catalog, &catalog->works[i], (int64_t)i + 1, err);
        catalog->works[i].dirty = st != SM_OK;
    }
    for (size_t i = 0; st == SM_OK && i < catalog->n_bricks; i++) {
        sm_brick_entry *brick = &catalog->bricks[i];
        if (!brick->flow_dirty)
            continue;
        st = store_flow(catalog, &brick->flow, (int64_t)i + 1, err);
        brick->flow_dirty = st != SM_OK;
    }
    return st;
}

/* ---- events ---- */

/* Of a journal that lies; the sums stay numbers. */
static bool fits(uint64_t sum, uint64_t n)
{
    return n <= (uint64_t)INT64_MAX && sum <= (uint64_t)INT64_MAX - n;
}

static bool work_fits(const sm_work_entry *entry, const sm_attempt_row *a)
{
    bool fit = fits(entry->bytes_in, a->bytes_in) && fits(entry->bytes_out, a->bytes_out) &&
               fits(entry->cpu_ns, a->cpu_ns);
    for (int i = 0; i < SM_STAGES; i++)
        fit = fit && fits(entry->stage_ns[i], a->stage_ns[i]);
    return fit;
}

static void add_flow(sm_catalog *catalog, const sm_attempt_row *a, int64_t brick, int64_t out_brick)
{
    if (brick != 0 && a->kind != SM_ATTEMPT_CHECK_OUTPUT && a->measured_bytes > 0 &&
        a->measured_ns > 0) {
        sm_brick_flow *flow = &catalog->bricks[brick - 1].flow;
        if (fits(flow->read_bytes, a->measured_bytes) && fits(flow->read_ns, a->measured_ns)) {
            flow->reads++;
            flow->read_bytes += a->measured_bytes;
            flow->read_ns += a->measured_ns;
            catalog->bricks[brick - 1].flow_dirty = true;
        }
    }
    const uint64_t wrote_ns = a->phase_ns[SM_PHASE_MILL] + a->phase_ns[SM_PHASE_FSYNC];
    if (out_brick != 0 && a->bytes_out > 0 && wrote_ns > 0) {
        sm_brick_flow *flow = &catalog->bricks[out_brick - 1].flow;
        if (fits(flow->write_bytes, a->bytes_out) && fits(flow->write_ns, wrote_ns)) {
            flow->writes++;
            flow->write_bytes += a->bytes_out;
            flow->write_ns += wrote_ns;
            catalog->bricks[out_brick - 1].flow_dirty = true;
        }
    }
}

sm_status sm_works_add(sm_catalog *catalog, const sm_attempt_row *a, int64_t brick,
                       int64_t out_brick, sm_error *err)
{
    sm_work_entry *entry = NULL;
    add_flow(catalog, a, brick, out_brick);
    if (a->cpu_ns == 0 && sm_spent_sum(a->stage_ns, false) == 0)
        return SM_OK; /* of a journal that did not tell yet, or nothing was done */
    const sm_status st = get_entry(catalog, brick, a->kind, &entry, err);
    if (st != SM_OK || !work_fits(entry, a))
        return st;
    entry->attempts++;
    entry->bytes_in += a->bytes_in;
    entry->bytes_out += a->bytes_out;
    entry->cpu_ns += a->cpu_ns;
    for (int i = 0; i < SM_STAGES; i++)
        entry->stage_ns[i] += a->stage_ns[i];
    entry->dirty = true;
    return SM_OK;
}
