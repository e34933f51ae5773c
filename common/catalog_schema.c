/* The tables of a catalog, the check that a file holds them and nothing else, and the steps from
 * older versions. docs/catalog.md says what every column means. */
#include "common/catalog_db.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* New in version 2. */
#define TABLE_WORK                                                                                 \
    "CREATE TABLE work (\n"                                                                        \
    "  id INTEGER PRIMARY KEY,\n"                                                                  \
    "  brick INTEGER REFERENCES brick,\n"                                                          \
    "  kind TEXT NOT NULL,\n"                                                                      \
    "  attempts INTEGER NOT NULL,\n"                                                               \
    "  bytes_in INTEGER NOT NULL,\n"                                                               \
    "  bytes_out INTEGER NOT NULL,\n"                                                              \
    "  cpu_ns INTEGER NOT NULL\n"                                                                  \
    ") STRICT"
#define TABLE_SPENT                                                                                \
    "CREATE TABLE spent (\n"                                                                       \
    "  work INTEGER NOT NULL REFERENCES work,\n"                                                   \
    "  stage TEXT NOT NULL,\n"                                                                     \
    "  ns INTEGER NOT NULL,\n"                                                                     \
    "  PRIMARY KEY (work, stage)\n"                                                                \
    ") STRICT, WITHOUT ROWID"
#define TABLE_FLOW                                                                                 \
    "CREATE TABLE flow (\n"                                                                        \
    "  brick INTEGER PRIMARY KEY REFERENCES brick,\n"                                              \
    "  reads INTEGER NOT NULL,\n"                                                                  \
    "  read_bytes INTEGER NOT NULL,\n"                                                             \
    "  read_ns INTEGER NOT NULL,\n"                                                                \
    "  writes INTEGER NOT NULL,\n"                                                                 \
    "  write_bytes INTEGER NOT NULL,\n"                                                            \
    "  write_ns INTEGER NOT NULL\n"                                                                \
    ") STRICT"

static const char *const OBJECTS[] = {
    TABLE_WORK,
    TABLE_SPENT,
    TABLE_FLOW,

    "CREATE TABLE meta (\n"
    "  name TEXT PRIMARY KEY,\n"
    "  value TEXT NOT NULL\n"
    ") STRICT, WITHOUT ROWID",

    "CREATE TABLE brick (\n"
    "  id INTEGER PRIMARY KEY,\n"
    "  name TEXT NOT NULL,\n"
    "  read_bytes INTEGER NOT NULL,\n"
    "  read_ns INTEGER NOT NULL\n"
    ") STRICT",

    "CREATE TABLE slide (\n"
    "  id INTEGER PRIMARY KEY,\n"
    "  path TEXT NOT NULL,\n"
    "  path_hash INTEGER NOT NULL,\n"
    "  state TEXT NOT NULL,\n"
    "  size_bytes INTEGER,\n"
    "  mtime_ns INTEGER,\n"
    "  shard INTEGER,\n"
    "  present INTEGER NOT NULL,\n"
    "  brick INTEGER REFERENCES brick,\n"
    "  attempts INTEGER NOT NULL,\n"
    "  checked_ns INTEGER,\n"
    "  n_parts INTEGER NOT NULL,\n"
    "  parts_bytes INTEGER NOT NULL,\n"
    "  sha256 BLOB,\n"
    "  sha256_origin TEXT,\n"
    "  md5 BLOB,\n"
    "  xxh128 BLOB,\n"
    "  external_id TEXT,\n"
    "  vendor TEXT,\n"
    "  w_px INTEGER,\n"
    "  h_px INTEGER,\n"
    "  mpp REAL,\n"
    "  objective REAL,\n"
    "  error_class TEXT,\n"
    "  error TEXT,\n"
    "  last_ended_ns INTEGER,\n"
    "  since_generation INTEGER\n"
    ") STRICT",
    /* A hash instead of the path itself: a tenth of the size, and new slides come in any order. */
    "CREATE INDEX slide_by_path_hash ON slide(path_hash)",
    SM_SCHEMA_SHARD_INDEX,

    "CREATE TABLE part (\n"
    "  slide INTEGER NOT NULL REFERENCES slide,\n"
    "  path TEXT NOT NULL,\n"
    "  size_bytes INTEGER,\n"
    "  mtime_ns INTEGER,\n"
    "  sha256 BLOB,\n"
    "  sha256_origin TEXT,\n"
    "  md5 BLOB,\n"
    "  xxh128 BLOB,\n"
    "  PRIMARY KEY (slide, path)\n"
    ") STRICT, WITHOUT ROWID",

    "CREATE TABLE output (\n"
    "  slide INTEGER PRIMARY KEY REFERENCES slide,\n"
    "  path TEXT NOT NULL,\n"
    "  size_bytes INTEGER NOT NULL,\n"
    "  sha256 BLOB NOT NULL,\n"
    "  source_sha256 BLOB NOT NULL,\n"
    "  state TEXT NOT NULL,\n"
    "  made_ns INTEGER NOT NULL,\n"
    "  checked_ns INTEGER NOT NULL\n"
    ") STRICT",

    "CREATE TABLE run (\n"
    "  id INTEGER PRIMARY KEY,\n"
    "  run TEXT NOT NULL,\n"
    "  rank INTEGER NOT NULL,\n"
    "  host TEXT,\n"
    "  command TEXT,\n"
    "  version TEXT,\n"
    "  plan INTEGER,\n"
    "  shard INTEGER,\n"
    "  began_ns INTEGER,\n"
    "  ended_ns INTEGER\n"
    ") STRICT",
    "CREATE UNIQUE INDEX run_by_rank ON run(run, rank)",

    "CREATE TABLE attempt (\n"
    "  run INTEGER NOT NULL REFERENCES run,\n"
    "  seq INTEGER NOT NULL,\n"
    "  slide INTEGER NOT NULL REFERENCES slide,\n"
    "  kind TEXT NOT NULL,\n"
    "  outcome TEXT NOT NULL,\n"
    "  error_class TEXT,\n"
    "  error TEXT,\n"
    "  brick INTEGER REFERENCES brick,\n"
    "  generation INTEGER,\n"
    "  began_ns INTEGER NOT NULL,\n"
    "  ended_ns INTEGER NOT NULL,\n"
    "  open_ns INTEGER NOT NULL,\n"
    "  copy_in_ns INTEGER NOT NULL,\n"
    "  hash_ns INTEGER NOT NULL,\n"
    "  mill_ns INTEGER NOT NULL,\n"
    "  fsync_ns INTEGER NOT NULL,\n"
    "  verify_ns INTEGER NOT NULL,\n"
    "  publish_ns INTEGER NOT NULL,\n"
    "  other_ns INTEGER NOT NULL,\n"
    "  bytes_in INTEGER NOT NULL,\n"
    "  bytes_out INTEGER NOT NULL,\n"
    "  pixels INTEGER NOT NULL,\n"
    "  source_bytes INTEGER,\n"
    "  source_sha256 BLOB,\n"
    "  PRIMARY KEY (run, seq)\n"
    ") STRICT, WITHOUT ROWID",

    "CREATE TABLE shard (\n"
    "  shard INTEGER PRIMARY KEY,\n"
    "  n INTEGER NOT NULL,\n"
    "  bytes INTEGER NOT NULL,\n"
    "  n_open INTEGER NOT NULL,\n"
    "  n_done INTEGER NOT NULL,\n"
    "  n_failed INTEGER NOT NULL\n"
    ") STRICT",

    "CREATE TABLE tally (\n"
    "  id INTEGER PRIMARY KEY,\n"
    "  state TEXT NOT NULL,\n"
    "  brick INTEGER REFERENCES brick,\n"
    "  error_class TEXT,\n"
    "  n INTEGER NOT NULL,\n"
    "  bytes INTEGER NOT NULL,\n"
    "  n_missing INTEGER NOT NULL,\n"
    "  n_unchecked INTEGER NOT NULL,\n"
    "  example INTEGER NOT NULL REFERENCES slide\n"
    ") STRICT",
};

/* From version `from` to the next one, in the one transaction of the change. */
typedef struct migration {
    uint32_t from;
    const char *sql;
} migration;

/* A row for each version but the newest; OBJECTS holds what the result reads like.
 * 1: how fast bricks gave their bytes is known of attempts that did nothing else meanwhile; stages
 * were not told. */
static const migration MIGRATIONS[] = {
    {1, TABLE_WORK ";" TABLE_SPENT ";" TABLE_FLOW ";"
                   "INSERT INTO flow SELECT brick, count(*), sum(bytes_in), "
                   "sum(iif(kind = 'hash', hash_ns, copy_in_ns)), 0, 0, 0 FROM attempt "
                   "WHERE brick IS NOT NULL AND bytes_in > 0 AND kind IN ('hash', 'convert') "
                   "AND iif(kind = 'hash', hash_ns, copy_in_ns) > 0 GROUP BY brick"}};

static sm_status set_version(sm_catalog *catalog, sm_error *err)
{
    char sql[64];
    snprintf(sql, sizeof(sql), "PRAGMA user_version = %d", SM_CATALOG_VERSION);
    return sm_catalog_exec(catalog, sql, err);
}

sm_status sm_schema_create(sm_catalog *catalog, sm_error *err)
{
    char sql[64];
    snprintf(sql, sizeof(sql), "PRAGMA application_id = %d", SM_CATALOG_APPLICATION_ID);
    sm_status st = sm_catalog_exec(catalog, sql, err);
    if (st == SM_OK)
        st = set_version(catalog, err);
    for (size_t i = 0; st == SM_OK && i < SM_COUNT(OBJECTS); i++)
        st = sm_catalog_exec(catalog, OBJECTS[i], err);
    return st;
}

sm_status sm_schema_migrate(sm_catalog *catalog, uint32_t version, sm_error *err)
{
    if (version == SM_CATALOG_VERSION)
        return SM_OK;
    for (; version < SM_CATALOG_VERSION; version++) {
        size_t i = 0;
        while (i < SM_COUNT(MIGRATIONS) && MIGRATIONS[i].from != version)
            i++;
        if (i == SM_COUNT(MIGRATIONS) || MIGRATIONS[i].sql == NULL)
            return sm_fail(err, SM_ERR_ARG, "%s: schema version %" PRIu32 " was never in use",
                           catalog->path, version);
        const sm_status st = sm_catalog_exec(catalog, MIGRATIONS[i].sql, err);
        if (st != SM_OK)
            return st;
    }
    return set_version(catalog, err);
}

sm_status sm_schema_field_sql(const sm_catalog *catalog, sm_buf *out, sm_error *err)
{
    out->len = 0;
    sm_status st = sm_buf_printf(
        out, err, "CREATE TABLE field (\n  slide INTEGER PRIMARY KEY REFERENCES slide");
    for (size_t i = 0; st == SM_OK && i < catalog->n_fields; i++)
        st = sm_buf_printf(out, err, ",\n  \"%s\" TEXT", catalog->field_names[i]);
    if (st == SM_OK)
        st = sm_buf_append(out, "\n) STRICT", sizeof("\n) STRICT"), err);
    return st;
}

static bool is_expected(const sm_catalog *catalog, const char *sql, const char *field_sql)
{
    if (sql == NULL)
        return false; /* an index that SQLite made by itself: none of our tables needs one */
    for (size_t i = 0; i < SM_COUNT(OBJECTS); i++) {
        if (strcmp(sql, OBJECTS[i]) == 0)
            return true;
    }
    return catalog->n_fields > 0 && strcmp(sql, field_sql) == 0;
}

sm_status sm_schema_check(sm_catalog *catalog, sm_error *err)
{
    /* Names and root pages follow from the text, and SQLite parses that. Duplicates it refuses. */
    static const char SCHEMA[] = "SELECT sql, type || ' ' || name FROM sqlite_schema";
    sm_buf field_sql = {0};
    sm_query query = {0};
    size_t n = 0;
    sm_status st = sm_schema_field_sql(catalog, &field_sql, err);
    if (st == SM_OK)
        st = sm_query_new(catalog, SCHEMA, &query, err);
    for (bool more = true; st == SM_OK && more;) {
        st = sm_query_next(&query, &more, err);
        if (st != SM_OK || !more)
            break;
        const char *sql = sm_column_text(&query, 0), *name = sm_column_text(&query, 1);
        n++;
        if (!is_expected(catalog, sql, (const char *)field_sql.data))
            st = sm_fail(err, SM_ERR_CORRUPT,
                         "%s: holds %.100s, which is not of a catalog: not trusted", catalog->path,
                         name != NULL ? name : "something");
    }
    if (st == SM_OK && n != SM_COUNT(OBJECTS) + (catalog->n_fields > 0 ? 1 : 0))
        st =
            sm_fail(err, SM_ERR_CORRUPT, "%s: lacks tables or indexes of a catalog", catalog->path);
    sm_query_end(&query);
    sm_buf_free(&field_sql);
    return st;
}

/* ---- the header (https://www.sqlite.org/fileformat2.html section 1.3) ---- */

enum { HEADER_BYTES = 100, WRITE_VERSION_AT = 18, USER_VERSION_AT = 60, APPLICATION_ID_AT = 68 };

static uint32_t big_endian(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

static sm_status read_header(const char *name, const char *file, uint8_t *header, sm_error *err)
{
    const int fd = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0 && errno == ENOENT)
        return sm_fail_errno(err, SM_ERR_ARG, ENOENT, "%s: no such catalog", name);
    if (fd < 0)
        return sm_fail_errno(err, errno == EACCES ? SM_ERR_ARG : SM_ERR_IO, errno,
                             "%s: cannot be opened", name);
    struct stat info;
    const bool regular = fstat(fd, &info) == 0 && S_ISREG(info.st_mode);
    const ssize_t got = regular ? pread(fd, header, HEADER_BYTES, 0) : 0;
    const int errnum = errno;
    (void)close(fd);
    if (got < 0)
        return sm_fail_errno(err, SM_ERR_IO, errnum, "%s: cannot be read", name);
    if (got < HEADER_BYTES || memcmp(header, "SQLite format 3", 16) != 0)
        return sm_fail(err, SM_ERR_ARG, "%s: is not a slidemill catalog", name);
    return SM_OK;
}

sm_status sm_schema_check_header(const char *name, const char *file, uint32_t *version,
                                 sm_error *err)
{
    uint8_t header[HEADER_BYTES] = {0};
    const sm_status st = read_header(name, file, header, err);
    if (st != SM_OK)
        return st;
    if (big_endian(header + APPLICATION_ID_AT) != SM_CATALOG_APPLICATION_ID)
        return sm_fail(err, SM_ERR_ARG, "%s: is an SQLite database, but not a slidemill catalog",
                       name);
    /* 1: no write-ahead log, which would be a second file that belongs to this one */
    if (header[WRITE_VERSION_AT] != 1 || header[WRITE_VERSION_AT + 1] != 1)
        return sm_fail(err, SM_ERR_CORRUPT,
                       "%s: was changed by another program (it is in WAL mode): not trusted", name);
    *version = big_endian(header + USER_VERSION_AT);
    if (*version > SM_CATALOG_VERSION)
        return sm_fail(err, SM_ERR_ARG,
                       "%s: is of a newer slidemill (schema %" PRIu32 ", this one knows %d): "
                       "use that slidemill",
                       name, *version, SM_CATALOG_VERSION);
    if (*version == 0)
        return sm_fail(err, SM_ERR_ARG, "%s: schema version 0 was never in use", name);
    return SM_OK;
}
