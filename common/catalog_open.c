/* Opening a catalog as an immutable snapshot or as a private copy, and publishing the copy.
 * Owns the handle: the connection, the generation it came from. */
#include "common/catalog_db.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <sqlite3.h>

#include "common/sysinfo.h"

/* Far above any row of ours, far below what could hurt. */
enum { LONGEST_VALUE = 1 << 20, LONGEST_SQL = 1 << 16, LONGEST_GLOB = 8192 };

void sm_catalog_close(sm_catalog **catalog)
{
    sm_catalog *c = *catalog;
    if (c == NULL)
        return;
    sm_catalog_finalize_all(c);
    sqlite3_close_v2(c->db);
    sm_generation_discard(&c->gen);
    sm_fields_clear(c);
    sm_meta_clear(c);
    sm_buf_free(&c->assigned);
    sm_buf_free(&c->field_text);
    sm_buf_free(&c->field_insert);
    free(c->path);
    free(c->file);
    free(c);
    *catalog = NULL;
}

static sm_status new_handle(const char *path, sm_catalog **catalog, sm_error *err)
{
    sm_catalog *c = sm_calloc(1, sizeof(*c));
    *catalog = NULL;
    if (c == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "%s: out of memory for the catalog", path);
    const sm_status st = sm_catalog_copy_text(path, &c->path, err);
    if (st != SM_OK) {
        free(c);
        return st;
    }
    *catalog = c;
    return SM_OK;
}

/* "file:...?QUERY" with everything escaped that means something in a URI. */
static sm_status make_uri(const char *file, const char *query, sm_buf *uri, sm_error *err)
{
    static const char PLAIN[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                "/._-";
    uri->len = 0;
    /* An absolute path follows an empty authority, or its own "//" would begin one. */
    sm_status st = sm_buf_printf(uri, err, file[0] == '/' ? "file://" : "file:");
    for (; st == SM_OK && *file != '\0'; file++) {
        if (strchr(PLAIN, *file) != NULL)
            st = sm_buf_append(uri, file, 1, err);
        else
            st = sm_buf_printf(uri, err, "%%%02X", (unsigned)(unsigned char)*file);
    }
    if (st == SM_OK)
        st = sm_buf_append(uri, query, strlen(query) + 1, err);
    return st;
}

/* No part of a foreign schema may run, no value may be absurd. */
static sm_status guard(sm_catalog *catalog, sm_error *err)
{
    static const struct {
        int what, value;
    } SWITCHES[] = {
        {SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0}, {SQLITE_DBCONFIG_ENABLE_TRIGGER, 0},
        {SQLITE_DBCONFIG_ENABLE_VIEW, 0},    {SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 0},
        {SQLITE_DBCONFIG_DQS_DML, 0},        {SQLITE_DBCONFIG_DQS_DDL, 0},
    };
    static const struct {
        int what, value;
    } LIMITS[] = {
        {SQLITE_LIMIT_LENGTH, LONGEST_VALUE}, {SQLITE_LIMIT_SQL_LENGTH, LONGEST_SQL},
        {SQLITE_LIMIT_ATTACHED, 0},           {SQLITE_LIMIT_LIKE_PATTERN_LENGTH, LONGEST_GLOB},
        {SQLITE_LIMIT_TRIGGER_DEPTH, 1},      {SQLITE_LIMIT_WORKER_THREADS, 0},
    };
    for (size_t i = 0; i < SM_COUNT(SWITCHES); i++) {
        const int rc = sqlite3_db_config(catalog->db, SWITCHES[i].what, SWITCHES[i].value, NULL);
        if (rc != SQLITE_OK)
            return sm_catalog_fail(catalog, rc, err);
    }
    for (size_t i = 0; i < SM_COUNT(LIMITS); i++)
        sqlite3_limit(catalog->db, LIMITS[i].what, LIMITS[i].value);
    sqlite3_extended_result_codes(catalog->db, 1);
    return sm_catalog_exec(catalog, "PRAGMA cell_size_check = ON; PRAGMA temp_store = MEMORY", err);
}

/* Only when all settings were made: some of them are refused afterwards. */
static sm_status defend(sm_catalog *catalog, sm_error *err)
{
    const int rc = sqlite3_db_config(catalog->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    return rc == SQLITE_OK ? SM_OK : sm_catalog_fail(catalog, rc, err);
}

static sm_status open_database(sm_catalog *catalog, const char *file, bool change, sm_error *err)
{
    sm_buf uri = {0};
    sm_status st = make_uri(file, change ? "" : "?immutable=1", &uri, err);
    if (st == SM_OK) {
        const int access = change ? SQLITE_OPEN_READWRITE : SQLITE_OPEN_READONLY;
        const int rc = sqlite3_open_v2((const char *)uri.data, &catalog->db,
                                       access | SQLITE_OPEN_URI | SQLITE_OPEN_NOMUTEX, NULL);
        if (rc != SQLITE_OK)
            st = sm_catalog_fail(catalog, rc, err);
    }
    sm_buf_free(&uri);
    return st == SM_OK ? guard(catalog, err) : st;
}

static sm_status load(sm_catalog *catalog, sm_error *err)
{
    sm_status st = sm_meta_load(catalog, err);
    if (st == SM_ERR_INTERNAL) /* SQLite finds no such table, or a view in its place */
        st = sm_fail(err, SM_ERR_CORRUPT, "%s: its tables are not those of a catalog: not trusted",
                     catalog->path);
    if (st == SM_OK)
        st = sm_fields_load(catalog, err);
    if (st == SM_OK)
        st = sm_schema_check(catalog, err);
    if (st == SM_OK)
        st = sm_bricks_load(catalog, err);
    if (st == SM_OK)
        st = sm_works_load(catalog, err);
    return st;
}

/* ---- reading ---- */

static sm_status open_once(const char *path, const char *file, sm_catalog **catalog, sm_error *err)
{
    sm_catalog *c = NULL;
    uint32_t version = 0;
    sm_status st = sm_schema_check_header(path, file, &version, err);
    if (st == SM_OK && version != SM_CATALOG_VERSION)
        return sm_fail(err, SM_ERR_ARG,
                       "%s: is of an older slidemill (schema %" PRIu32 "): `slidemill catalog "
                       "merge %s` brings it up to date",
                       path, version, path);
    if (st == SM_OK)
        st = new_handle(path, &c, err);
    if (st == SM_OK)
        st = sm_catalog_copy_text(file, &c->file, err);
    if (st == SM_OK)
        st = open_database(c, file, false, err);
    if (st == SM_OK)
        st = defend(c, err);
    if (st == SM_OK)
        st = sm_catalog_exec(c, "PRAGMA cache_size = -65536; PRAGMA query_only = ON", err);
    if (st == SM_OK)
        st = load(c, err);
    if (st == SM_OK) {
        c->number = c->meta.generation;
        c->tallied = true;
        *catalog = c;
        return SM_OK;
    }
    sm_catalog_close(&c);
    return st;
}

static sm_status open_file(const char *path, const char *file, sm_catalog **catalog, sm_error *err)
{
    unsigned tries = 0;
    *catalog = NULL;
    for (;;) {
        const sm_status st = open_once(path, file, catalog, err);
        if (st == SM_OK || !sm_generation_try_again(path, err->sys_errno, &tries))
            return st;
        *err = (sm_error)SM_ERROR_INIT;
    }
}

sm_status sm_catalog_open(const char *path, sm_catalog **catalog, sm_error *err)
{
    return open_file(path, path, catalog, err);
}

sm_status sm_catalog_open_generation(const char *path, uint64_t number, sm_catalog **catalog,
                                     sm_error *err)
{
    char kept[PATH_MAX];
    sm_status st = sm_catalog_open(path, catalog, err);
    if (st != SM_OK || (*catalog)->number == number)
        return st;
    const uint64_t current = (*catalog)->number;
    sm_catalog_close(catalog);
    st = sm_generation_path(path, number, kept, sizeof(kept), err);
    if (st != SM_OK)
        return st;
    st = open_file(path, kept, catalog, err);
    if (st != SM_OK && err->sys_errno == ENOENT)
        return sm_fail(err, SM_ERR_BUSY,
                       "%s: generation %" PRIu64 " is gone, the current one is %" PRIu64, path,
                       number, current);
    if (st == SM_OK && (*catalog)->number != number) {
        st =
            sm_fail(err, SM_ERR_CORRUPT, "%s: holds generation %" PRIu64, kept, (*catalog)->number);
        sm_catalog_close(catalog);
    }
    return st;
}

/* ---- changing ---- */

/* The copy is private and thrown away after any failure, so nothing need be undone or synced:
 * publishing it is what makes it durable. */
static sm_status begin_change(sm_catalog *catalog, sm_error *err)
{
    static const char SETTINGS[] = "PRAGMA locking_mode = EXCLUSIVE;"
                                   "PRAGMA journal_mode = OFF;"
                                   "PRAGMA synchronous = OFF;"
                                   "PRAGMA foreign_keys = OFF;"
                                   "PRAGMA page_size = 8192;"
                                   "PRAGMA cache_size = -524288";
    sm_status st = open_database(catalog, sm_generation_copy(catalog->gen), true, err);
    if (st == SM_OK)
        st = sm_catalog_exec(catalog, SETTINGS, err);
    if (st == SM_OK)
        st = defend(catalog, err);
    if (st == SM_OK)
        st = sm_catalog_exec(catalog, "BEGIN IMMEDIATE", err);
    return st;
}

sm_status sm_catalog_change(const char *path, const sm_generation_config *config,
                            sm_catalog **catalog, sm_error *err)
{
    sm_catalog *c = NULL;
    uint32_t version = 0;
    *catalog = NULL;
    sm_status st = new_handle(path, &c, err);
    if (st == SM_OK)
        st = sm_generation_begin(path, false, config, &c->gen, err);
    if (st == SM_OK)
        st = sm_schema_check_header(path, sm_generation_copy(c->gen), &version, err);
    if (st == SM_OK)
        st = begin_change(c, err);
    if (st == SM_OK && version != SM_CATALOG_VERSION)
        st = sm_schema_migrate(c, version, err);
    if (st == SM_OK)
        st = load(c, err);
    if (st == SM_OK) /* slides remember numbers: none may come again */
        st = sm_generation_at_least(c->gen, c->meta.generation + 1, err);
    if (st != SM_OK) {
        sm_catalog_close(&c);
        return st;
    }
    c->number = sm_generation_number(c->gen);
    c->tallied = version == SM_CATALOG_VERSION;
    *catalog = c;
    return SM_OK;
}

static sm_status first_meta(sm_catalog *catalog, const char *root, sm_error *err)
{
    char uuid[SM_UUID_CAP];
    struct timespec now;
    sm_status st = sm_random_hex(uuid, (sizeof uuid - 1) / 2, err);
    if (st == SM_OK)
        st = sm_catalog_copy_text(uuid, &catalog->meta.uuid, err);
    if (st == SM_OK)
        st = sm_catalog_copy_text(root, &catalog->meta.root, err);
    clock_gettime(CLOCK_REALTIME, &now);
    catalog->meta.created_ns = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
    return st;
}

sm_status sm_catalog_create(const char *path, const char *root, const sm_generation_config *config,
                            sm_catalog **catalog, sm_error *err)
{
    sm_catalog *c = NULL;
    *catalog = NULL;
    if (root[0] != '/')
        return sm_fail(err, SM_ERR_ARG, "'%s' is no absolute path of a folder of slides", root);
    sm_status st = sm_catalog_check_text("root", root, SM_CATALOG_TEXT_MAX, err);
    if (st == SM_OK)
        st = new_handle(path, &c, err);
    if (st == SM_OK)
        st = sm_generation_begin(path, true, config, &c->gen, err);
    if (st == SM_OK)
        st = begin_change(c, err);
    if (st == SM_OK)
        st = sm_schema_create(c, err);
    if (st == SM_OK)
        st = first_meta(c, root, err);
    if (st != SM_OK) {
        sm_catalog_close(&c);
        return st;
    }
    c->number = sm_generation_number(c->gen);
    *catalog = c;
    return SM_OK;
}

/* Everything that is held in memory goes into the tables; the copy is whole afterwards. */
static sm_status finish_change(sm_catalog *catalog, sm_error *err)
{
    catalog->meta.generation = catalog->number;
    sm_catalog_reset_all(catalog);
    sm_status st = sm_tally_store(catalog, err);
    if (st == SM_OK)
        st = sm_bricks_store(catalog, err);
    if (st == SM_OK)
        st = sm_works_store(catalog, err);
    if (st == SM_OK)
        st = sm_meta_store(catalog, err);
    if (st == SM_OK)
        st = sm_schema_check(catalog, err);
    if (st == SM_OK)
        st = sm_catalog_exec(catalog, "COMMIT", err);
    if (st != SM_OK)
        return st;
    sm_catalog_finalize_all(catalog);
    const int rc = sqlite3_close(catalog->db);
    if (rc != SQLITE_OK)
        return sm_catalog_fail(catalog, rc, err); /* a cursor is open: our bug */
    catalog->db = NULL;
    return SM_OK;
}

sm_status sm_catalog_commit(sm_catalog **catalog, sm_error *err)
{
    sm_catalog *c = *catalog;
    sm_status st = SM_OK;
    if (c->gen == NULL || c->db != NULL) { /* else publishing failed before and is tried again */
        st = sm_catalog_begin_write(c, err);
        if (st == SM_OK)
            st = finish_change(c, err);
    }
    if (st == SM_OK)
        st = sm_generation_commit(&c->gen, err);
    if (st == SM_OK)
        sm_catalog_close(catalog);
    return st;
}
