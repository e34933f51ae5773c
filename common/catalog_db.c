/* SQLite statements with checked results: binding, stepping, columns, and what a failure means.
 * Owns the cache of prepared statements in the handle. */
#include "common/catalog_db.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sqlite3.h>

#include "common/path.h"

sm_status sm_catalog_fail(const sm_catalog *catalog, int rc, sm_error *err)
{
    const char *reason = catalog->db != NULL ? sqlite3_errmsg(catalog->db) : sqlite3_errstr(rc);
    const int sys_errno = catalog->db != NULL ? sqlite3_system_errno(catalog->db) : 0;
    switch (rc & 0xFF) {
    case SQLITE_NOMEM:
        return sm_fail(err, SM_ERR_NOMEM, "%s: out of memory in SQLite", catalog->path);
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return sm_fail(err, SM_ERR_CORRUPT,
                       "%s: damaged (%s); see `slidemill catalog fsck`, kept generations are in "
                       "%s.d",
                       catalog->path, reason, catalog->path);
    case SQLITE_FULL:
        return sm_fail_errno(err, SM_ERR_IO, ENOSPC, "%s: no room for the working copy",
                             catalog->path);
    case SQLITE_IOERR:
    case SQLITE_CANTOPEN:
        if (sys_errno != 0)
            return sm_fail_errno(err, SM_ERR_IO, sys_errno, "%s: %s", catalog->path, reason);
        return sm_fail(err, SM_ERR_IO, "%s: %s", catalog->path, reason);
    case SQLITE_TOOBIG:
        return sm_fail(err, SM_ERR_LIMIT, "%s: %s", catalog->path, reason);
    case SQLITE_READONLY:
        return sm_fail(err, SM_ERR_ARG, "%s: is open for reading only", catalog->path);
    default:
        return sm_fail(err, SM_ERR_INTERNAL, "%s: SQLite: %s (%d)", catalog->path, reason, rc);
    }
}

sm_status sm_catalog_begin_write(sm_catalog *catalog, sm_error *err)
{
    if (catalog->gen == NULL)
        return sm_fail(err, SM_ERR_ARG, "%s: is open for reading only", catalog->path);
    if (catalog->broken || catalog->db == NULL)
        return sm_fail(err, SM_ERR_INTERNAL, "%s: an earlier change failed half way",
                       catalog->path);
    return SM_OK;
}

/* ---- statements ---- */

static sm_status prepare(sm_catalog *catalog, const char *sql, unsigned flags, sqlite3_stmt **stmt,
                         sm_error *err)
{
    *stmt = NULL;
    if (catalog->db == NULL)
        return sm_fail(err, SM_ERR_INTERNAL, "%s: is closed", catalog->path);
    const int rc = sqlite3_prepare_v3(catalog->db, sql, -1, flags, stmt, NULL);
    return rc == SQLITE_OK ? SM_OK : sm_catalog_fail(catalog, rc, err);
}

static void start(sm_catalog *catalog, sqlite3_stmt *stmt, sm_query *query)
{
    *query = (sm_query){.catalog = catalog, .stmt = stmt, .next = 1, .bad_column = -1};
}

sm_status sm_query_use(sm_catalog *catalog, const char *sql, sm_query *query, sm_error *err)
{
    const sm_status stored = sm_assignments_store(catalog, err);
    if (stored != SM_OK)
        return stored;
    size_t i = 0;
    while (i < SM_CATALOG_STMTS && catalog->stmts[i].sql != NULL && catalog->stmts[i].sql != sql)
        i++;
    if (i == SM_CATALOG_STMTS)
        return sm_fail(err, SM_ERR_INTERNAL, "too many prepared statements");
    if (catalog->stmts[i].sql == NULL) {
        const sm_status st =
            prepare(catalog, sql, SQLITE_PREPARE_PERSISTENT, &catalog->stmts[i].stmt, err);
        if (st != SM_OK)
            return st;
        catalog->stmts[i].sql = sql;
    } else {
        sqlite3_reset(catalog->stmts[i].stmt); /* the result is the last step's, told then */
    }
    start(catalog, catalog->stmts[i].stmt, query);
    return SM_OK;
}

sm_status sm_query_new(sm_catalog *catalog, const char *sql, sm_query *query, sm_error *err)
{
    sqlite3_stmt *stmt = NULL;
    *query = (sm_query){0};
    sm_status st = sm_assignments_store(catalog, err);
    if (st == SM_OK)
        st = prepare(catalog, sql, 0, &stmt, err);
    if (st == SM_OK)
        start(catalog, stmt, query);
    return st;
}

void sm_query_end(sm_query *query)
{
    sqlite3_finalize(query->stmt);
    query->stmt = NULL;
}

void sm_query_reset(sm_query *query)
{
    sqlite3_reset(query->stmt);
}

void sm_catalog_reset_all(sm_catalog *catalog)
{
    for (size_t i = 0; i < SM_CATALOG_STMTS && catalog->stmts[i].sql != NULL; i++)
        sqlite3_reset(catalog->stmts[i].stmt);
}

bool sm_catalog_is_busy(const sm_catalog *catalog)
{
    sqlite3_stmt *stmt = NULL;
    while ((stmt = sqlite3_next_stmt(catalog->db, stmt)) != NULL) {
        if (sqlite3_stmt_busy(stmt))
            return true;
    }
    return false;
}

void sm_catalog_finalize_all(sm_catalog *catalog)
{
    for (size_t i = 0; i < SM_CATALOG_STMTS && catalog->stmts[i].sql != NULL; i++) {
        sqlite3_finalize(catalog->stmts[i].stmt);
        catalog->stmts[i].stmt = NULL;
        catalog->stmts[i].sql = NULL;
    }
}

sm_status sm_catalog_exec(sm_catalog *catalog, const char *sql, sm_error *err)
{
    const int rc = sqlite3_exec(catalog->db, sql, NULL, NULL, NULL);
    if (rc == SQLITE_OK)
        return SM_OK;
    catalog->broken = true;
    return sm_catalog_fail(catalog, rc, err);
}

int64_t sm_catalog_changes(const sm_catalog *catalog)
{
    return sqlite3_changes64(catalog->db);
}

int64_t sm_catalog_last_id(const sm_catalog *catalog)
{
    return sqlite3_last_insert_rowid(catalog->db);
}

/* ---- binding ---- */

static void bound(sm_query *query, int rc)
{
    if (query->rc == SQLITE_OK)
        query->rc = rc;
    query->next++;
}

void sm_query_int(sm_query *query, int64_t value)
{
    bound(query, sqlite3_bind_int64(query->stmt, query->next, value));
}

void sm_query_null(sm_query *query)
{
    bound(query, sqlite3_bind_null(query->stmt, query->next));
}

void sm_query_int_if(sm_query *query, bool known, uint64_t value)
{
    if (!known)
        sm_query_null(query);
    else /* nothing that counts bytes comes near 2^63; a caller that checked nothing gets the cap */
        sm_query_int(query, value <= INT64_MAX ? (int64_t)value : INT64_MAX);
}

void sm_query_real_if(sm_query *query, bool known, double value)
{
    if (known)
        bound(query, sqlite3_bind_double(query->stmt, query->next, value));
    else
        sm_query_null(query);
}

void sm_query_text_len(sm_query *query, const char *text, size_t len)
{
    bound(query,
          sqlite3_bind_text64(query->stmt, query->next, text, len, SQLITE_STATIC, SQLITE_UTF8));
}

void sm_query_text(sm_query *query, const char *text)
{
    if (text == NULL)
        sm_query_null(query);
    else
        sm_query_text_len(query, text, strlen(text));
}

void sm_query_text_copy(sm_query *query, const char *text)
{
    bound(query, sqlite3_bind_text(query->stmt, query->next, text, -1, SQLITE_TRANSIENT));
}

void sm_query_digest(sm_query *query, const sm_digest *digest)
{
    if (digest == NULL)
        sm_query_null(query);
    else
        bound(query, sqlite3_bind_blob64(query->stmt, query->next, digest->bytes, digest->len,
                                         SQLITE_STATIC));
}

/* ---- running ---- */

static sm_status query_fail(sm_query *query, int rc, sm_error *err)
{
    const sm_status st = sm_catalog_fail(query->catalog, rc, err);
    /* Without a journal SQLite cannot undo the half that a failed statement may have done. */
    if (!sqlite3_stmt_readonly(query->stmt))
        query->catalog->broken = true;
    sqlite3_reset(query->stmt);
    return st;
}

sm_status sm_query_run(sm_query *query, sm_error *err)
{
    const int rc = query->rc != SQLITE_OK ? query->rc : sqlite3_step(query->stmt);
    if (rc != SQLITE_DONE)
        return query_fail(query, rc, err);
    sqlite3_reset(query->stmt);
    return SM_OK;
}

sm_status sm_query_next(sm_query *query, bool *more, sm_error *err)
{
    *more = false;
    const int rc = query->rc != SQLITE_OK ? query->rc : sqlite3_step(query->stmt);
    if (rc != SQLITE_ROW && rc != SQLITE_DONE)
        return query_fail(query, rc, err);
    query->bad_column = -1;
    *more = rc == SQLITE_ROW;
    if (rc == SQLITE_DONE)
        sqlite3_reset(query->stmt);
    return SM_OK;
}

/* ---- columns ---- */

void sm_column_is_bad(sm_query *query, int column, const char *why)
{
    if (query->bad_column >= 0)
        return;
    query->bad_column = column;
    query->bad = why;
}

bool sm_column_is_null(sm_query *query, int column)
{
    return sqlite3_column_type(query->stmt, column) == SQLITE_NULL;
}

int64_t sm_column_int(sm_query *query, int column, int64_t min, int64_t max)
{
    const bool is_int = sqlite3_column_type(query->stmt, column) == SQLITE_INTEGER;
    const int64_t value = sqlite3_column_int64(query->stmt, column);
    if (is_int && value >= min && value <= max)
        return value;
    sm_column_is_bad(query, column, "is no number in its range");
    return 0;
}

int64_t sm_column_int_or(sm_query *query, int column, int64_t min, int64_t max, int64_t unknown)
{
    return sm_column_is_null(query, column) ? unknown : sm_column_int(query, column, min, max);
}

double sm_column_real(sm_query *query, int column)
{
    if (sm_column_is_null(query, column))
        return 0;
    const bool is_real = sqlite3_column_type(query->stmt, column) == SQLITE_FLOAT;
    const double value = sqlite3_column_double(query->stmt, column);
    if (is_real && isfinite(value) && value > 0)
        return value;
    sm_column_is_bad(query, column, "is no number above 0");
    return 0;
}

const char *sm_column_text(sm_query *query, int column)
{
    if (sm_column_is_null(query, column))
        return NULL;
    const bool is_text = sqlite3_column_type(query->stmt, column) == SQLITE_TEXT;
    const char *text = (const char *)sqlite3_column_text(query->stmt, column);
    const size_t len = (size_t)sqlite3_column_bytes(query->stmt, column);
    if (is_text && text != NULL && len <= SM_PATH_MAX && strnlen(text, len) == len)
        return text;
    sm_column_is_bad(query, column, "is no text, too long, or has a NUL inside");
    return NULL;
}

bool sm_column_digest(sm_query *query, int column, sm_digest_kind kind, sm_digest *digest)
{
    if (sm_column_is_null(query, column))
        return false;
    const size_t want = kind == SM_DIGEST_SHA256 ? 32 : 16;
    const bool is_blob = sqlite3_column_type(query->stmt, column) == SQLITE_BLOB;
    const void *bytes = sqlite3_column_blob(query->stmt, column);
    if (!is_blob || bytes == NULL || (size_t)sqlite3_column_bytes(query->stmt, column) != want) {
        sm_column_is_bad(query, column, "is no digest of its kind");
        return false;
    }
    *digest = (sm_digest){.kind = kind, .len = (uint8_t)want};
    memcpy(digest->bytes, bytes, want);
    return true;
}

sm_status sm_query_row_status(const sm_query *query, const char *table, int64_t id, sm_error *err)
{
    if (query->bad_column < 0)
        return SM_OK;
    return sm_fail(err, SM_ERR_CORRUPT, "%s: %s %" PRId64 ": column %s %s", query->catalog->path,
                   table, id, sqlite3_column_name(query->stmt, query->bad_column), query->bad);
}

/* ---- texts ---- */

sm_status sm_catalog_copy_text(const char *text, char **copy, sm_error *err)
{
    char *made = NULL;
    if (text != NULL) {
        const size_t len = strlen(text) + 1;
        made = sm_malloc_array(len, 1);
        if (made == NULL)
            return sm_fail(err, SM_ERR_NOMEM, "out of memory for the catalog");
        memcpy(made, text, len);
    }
    free(*copy);
    *copy = made;
    return SM_OK;
}

sm_status sm_catalog_check_text(const char *what, const char *text, size_t max, sm_error *err)
{
    if (text != NULL && strnlen(text, max + 1) > max)
        return sm_fail(err, SM_ERR_ARG, "%s '%.60s...' is longer than %zu bytes", what, text, max);
    return SM_OK;
}

const char *sm_catalog_library(void)
{
    static char library[32]; /* every call writes the same bytes */
    snprintf(library, sizeof(library), "SQLite %s", sqlite3_libversion());
    return library;
}
