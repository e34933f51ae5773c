/* Is a catalog whole, and does it make sense? Each fault is told, none ends the check.
 * Owns nothing that outlives a call. */
#include "common/catalog_db.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* A catalog with more faults than this is not repaired by reading them. */
enum { FAULTS_TOLD = 1000 };

typedef struct checker {
    sm_catalog *catalog;
    sm_fault_visit visit;
    void *arg;
    unsigned n_told;
} checker;

static sm_status tell(checker *c, sm_error *err, const char *fmt, ...) SM_PRINTF(3, 4);

static sm_status tell(checker *c, sm_error *err, const char *fmt, ...)
{
    char fault[600];
    va_list args;
    if (c->n_told > FAULTS_TOLD)
        return SM_OK;
    va_start(args, fmt);
    vsnprintf(fault, sizeof(fault), fmt, args);
    va_end(args);
    if (c->n_told++ == FAULTS_TOLD)
        return c->visit(c->arg, "and more faults, which are not told", err);
    return c->visit(c->arg, fault, err);
}

/* What a failed call said: damaged pages and rows are faults, the rest (no memory, no mount) ends
 * the check. */
static sm_status tell_failure(checker *c, sm_error *err)
{
    if (err->status != SM_ERR_CORRUPT)
        return err->status;
    const sm_error failure = *err;
    return tell(c, err, "%s", failure.message);
}

/* Each row of a query is a fault; `fmt` has one %s for its first column. */
static sm_status each_row(checker *c, const char *sql, const char *before, const char *after,
                          sm_error *err)
{
    sm_query query = {0};
    sm_status st = sm_query_new(c->catalog, sql, &query, err);
    for (bool more = true; st == SM_OK;) {
        st = sm_query_next(&query, &more, err);
        if (st != SM_OK || !more)
            break;
        const char *text = sm_column_text(&query, 0);
        if (text == NULL)
            text = "(not readable)";
        if (strcmp(text, "ok") != 0) /* how PRAGMA integrity_check says that there is none */
            st = tell(c, err, "%s%s%s", before, text, after);
    }
    sm_query_end(&query);
    return st == SM_OK ? SM_OK : tell_failure(c, err);
}

static sm_status check_slides(checker *c, sm_error *err)
{
    sm_query query = {0};
    sm_slide_row row;
    sm_status st =
        sm_query_new(c->catalog, "SELECT " SM_SLIDE_COLUMNS " FROM slide ORDER BY id", &query, err);
    for (bool more = true; st == SM_OK;) {
        st = sm_query_next(&query, &more, err);
        if (st != SM_OK || !more)
            break;
        if (sm_slide_read(&query, &row, err) != SM_OK) {
            st = tell_failure(c, err);
            continue;
        }
        const bool failed = row.state == SM_SLIDE_FAILED || row.state == SM_SLIDE_QUARANTINED;
        if (failed != (row.error_class != NULL))
            st = tell(c, err, "slide %" PRId64 ": is %s, its error class is %s", row.id,
                      sm_slide_state_name(row.state),
                      row.error_class != NULL ? row.error_class : "missing");
        if (st == SM_OK && row.shard != SM_NO_SHARD && row.shard >= c->catalog->meta.n_shards)
            st = tell(c, err, "slide %" PRId64 ": is in shard %" PRIu32 " of %" PRIu32, row.id,
                      row.shard, c->catalog->meta.n_shards);
        if (st == SM_OK && row.state == SM_SLIDE_PLANNED && row.shard == SM_NO_SHARD)
            st = tell(c, err, "slide %" PRId64 ": is planned, but in no shard", row.id);
    }
    sm_query_end(&query);
    return st == SM_OK ? SM_OK : tell_failure(c, err);
}

static sm_status skip_output(void *arg, const sm_output_row *output, sm_error *err)
{
    (void)arg;
    (void)output;
    (void)err;
    return SM_OK;
}

/* Slides with outputs and parts whose rows do not read; one fault for the first of each. */
static sm_status check_others(checker *c, sm_error *err)
{
    static const struct {
        const char *sql, *before, *after;
    } CLAIMS[] = {
        {"SELECT path FROM slide GROUP BY path_hash, path HAVING count(*) > 1", "",
         ": stands twice in table slide"},
        {"SELECT id || '' FROM slide WHERE state = 'done' AND "
         "NOT EXISTS (SELECT 1 FROM output WHERE output.slide = slide.id)",
         "slide ", ": is done, but has no output"},
        {"SELECT path FROM output GROUP BY path HAVING count(*) > 1", "",
         ": is the output of two slides"},
        {"SELECT s.id || '' FROM slide AS s LEFT JOIN (SELECT slide, count(*) AS n FROM part "
         "GROUP BY slide) AS p ON p.slide = s.id WHERE s.n_parts <> coalesce(p.n, 0)",
         "slide ", ": its number of parts is wrong"},
        {"SELECT 'tally' WHERE (SELECT count(*) FROM slide) <> "
         "(SELECT coalesce(sum(n), 0) FROM tally)",
         "table ", ": does not count all slides"},
        {"SELECT 'n_outputs' WHERE (SELECT count(*) FROM output) <> "
         "(SELECT CAST(value AS INTEGER) FROM meta WHERE name = 'n_outputs')",
         "meta ", ": is not the number of outputs"},
        {"SELECT 'n_attempts' WHERE (SELECT count(*) FROM attempt) <> "
         "(SELECT CAST(value AS INTEGER) FROM meta WHERE name = 'n_attempts')",
         "meta ", ": is not the number of attempts"},
    };
    sm_status st = sm_catalog_outputs(c->catalog, 0, skip_output, NULL, err);
    if (st != SM_OK)
        st = tell_failure(c, err);
    for (size_t i = 0; st == SM_OK && i < SM_COUNT(CLAIMS); i++)
        st = each_row(c, CLAIMS[i].sql, CLAIMS[i].before, CLAIMS[i].after, err);
    return st;
}

static sm_status check_parts(checker *c, sm_error *err)
{
    static const char SELECT[] = "SELECT DISTINCT slide FROM part";
    sm_query query = {0};
    sm_status st = sm_query_new(c->catalog, SELECT, &query, err);
    for (bool more = true; st == SM_OK;) {
        st = sm_query_next(&query, &more, err);
        if (st != SM_OK || !more)
            break;
        const int64_t slide = sm_column_int(&query, 0, 1, INT64_MAX);
        if (sm_query_row_status(&query, "a part of slide", slide, err) != SM_OK ||
            sm_parts_check(c->catalog, slide, err) != SM_OK)
            st = tell_failure(c, err);
    }
    sm_query_end(&query);
    return st == SM_OK ? SM_OK : tell_failure(c, err);
}

sm_status sm_catalog_check(sm_catalog *catalog, sm_fault_visit visit, void *arg, sm_error *err)
{
    checker c = {.catalog = catalog, .visit = visit, .arg = arg};
    sm_status st = sm_tally_store(catalog, err);
    if (st == SM_OK)
        st = each_row(&c, "PRAGMA integrity_check(100)", "", "", err);
    if (st == SM_OK)
        st = each_row(&c,
                      "SELECT \"table\" || ' row ' || coalesce(rowid, '') || ': names a ' || "
                      "parent || ' that is not there' FROM pragma_foreign_key_check LIMIT 100",
                      "table ", "", err);
    if (st == SM_OK)
        st = check_slides(&c, err);
    if (st == SM_OK)
        st = check_parts(&c, err);
    if (st == SM_OK)
        st = check_others(&c, err);
    return st;
}
