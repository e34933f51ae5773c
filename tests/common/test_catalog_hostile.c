/* Tests of common/catalog_schema.c and catalog_check.c: databases that are damaged, foreign or made
 * to deceive. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sqlite3.h>

#include "tests/common/test_catalog_support.h"

/* A published catalog of three slides, one of them done, with parts, fields and a plan; then a copy
 * of it outside its folder, which nothing vouches for. */
static void make_victim(fixture *f, const char *sql)
{
    static const char *const NAMES[] = {"patient"};
    static const char *const VALUES[] = {"0001"};
    char event[96];
    fixture_start(f);
    sm_catalog *catalog = fixture_create(f);
    const int64_t id = add_slide(f, catalog, "a/1.svs");
    add_slide(f, catalog, "a/2.svs");
    put_slide(f, catalog,
              &(sm_slide_row){.path = "a/3.svs", .size_bytes = 5, .brick = "h:/1", .mpp = 0.5});
    const sm_part_row part = {.path = "a/1.dat", .size_bytes = 4};
    SM_CHECK_OK(sm_catalog_set_parts(catalog, id, &part, 1, &f->err), &f->err);
    SM_CHECK_OK(sm_catalog_set_pattern(catalog, "{patient}", NAMES, 1, &f->err), &f->err);
    SM_CHECK_OK(sm_catalog_set_fields(catalog, id, VALUES, 1, &f->err), &f->err);
    SM_CHECK_OK(sm_catalog_begin_plan(catalog, 2, &f->err), &f->err);
    SM_CHECK_OK(sm_catalog_assign(catalog, 2, 1, &f->err), &f->err);
    sm_attempt_row attempt = make_attempt(event, RUN_A, 1, id, SM_OUTCOME_OK, 1);
    put_attempt(f, catalog, &attempt);
    fixture_commit(f, &catalog);

    size_t len = 0;
    uint8_t *bytes = sm_file_read(f->file.path, &len);
    f->file = sm_tmpdir_file(&f->dir, "copy.smc");
    sm_file_write(f->file.path, bytes, len);
    free(bytes);
    if (sql == NULL)
        return;
    sqlite3 *db = NULL;
    char *message = NULL;
    assert_int_equal(sqlite3_open(f->file.path, &db), SQLITE_OK);
    sqlite3_db_config(db, SQLITE_DBCONFIG_DEFENSIVE, 0, NULL);
    if (sqlite3_exec(db, sql, NULL, NULL, &message) != SQLITE_OK)
        fail_msg("%s: %s", sql, message);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

static void foreign_files_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *name, *sql;
        sm_status status;
        const char *message;
    } CASES[] = {
        {"trigger", "CREATE TRIGGER t AFTER UPDATE ON slide BEGIN DELETE FROM slide; END",
         SM_ERR_CORRUPT, "holds trigger t"},
        {"view", "CREATE VIEW v AS SELECT * FROM slide", SM_ERR_CORRUPT, "holds view v"},
        {"table", "CREATE TABLE extra (x)", SM_ERR_CORRUPT, "holds table extra"},
        {"index", "CREATE INDEX extra ON slide(path)", SM_ERR_CORRUPT, "holds index extra"},
        {"virtual table", "CREATE VIRTUAL TABLE x USING fts5(y)", SM_ERR_CORRUPT, "not trusted"},
        {"statistics", "ANALYZE", SM_ERR_CORRUPT, "sqlite_stat1"},
        {"index gone", "DROP INDEX slide_by_shard", SM_ERR_CORRUPT, "lacks tables"},
        {"table gone", "DROP TABLE attempt", SM_ERR_CORRUPT, "lacks tables"},
        {"another column", "ALTER TABLE slide ADD COLUMN x TEXT", SM_ERR_CORRUPT, "table slide"},
        {"no meta", "DROP TABLE meta", SM_ERR_CORRUPT, "not those of a catalog"},
        {"a view for meta",
         "DROP TABLE meta; CREATE VIEW meta AS SELECT 'root' AS name, '/x' AS value",
         SM_ERR_CORRUPT, "not those of a catalog"},
        {"application id", "PRAGMA application_id = 1", SM_ERR_ARG, "not a slidemill catalog"},
        {"newer", "PRAGMA user_version = 3", SM_ERR_ARG, "of a newer slidemill"},
        {"version 0", "PRAGMA user_version = 0", SM_ERR_ARG, "never in use"},
        {"WAL", "PRAGMA journal_mode = WAL", SM_ERR_CORRUPT, "WAL mode"},
        {"relative root", "UPDATE meta SET value = 'x' WHERE name = 'root'", SM_ERR_CORRUPT,
         "meta"},
        {"no uuid", "DELETE FROM meta WHERE name = 'uuid'", SM_ERR_CORRUPT, "meta"},
        {"no number", "UPDATE meta SET value = '1e9' WHERE name = 'plan'", SM_ERR_CORRUPT, "1e9"},
        {"too many shards", "UPDATE meta SET value = '4000000000' WHERE name = 'n_shards'",
         SM_ERR_CORRUPT, "n_shards"},
        {"field names", "UPDATE meta SET value = 'a\" TEXT, b' WHERE name = 'pattern_names'",
         SM_ERR_CORRUPT, "pattern_names"},
        {"brick ids", "UPDATE brick SET id = 7", SM_ERR_CORRUPT, "brick"},
    };
    for (size_t i = 0; i < SM_COUNT(CASES); i++) {
        fixture f;
        sm_catalog *catalog = NULL;
        make_victim(&f, CASES[i].sql);
        const sm_status st = sm_catalog_open(f.file.path, &catalog, &f.err);
        if (st != CASES[i].status || strstr(f.err.message, CASES[i].message) == NULL)
            fail_msg("%s: %s: %s", CASES[i].name, sm_status_name(st), f.err.message);
        assert_null(catalog);
        const sm_status change = sm_catalog_change(f.file.path, &f.config, &catalog, &f.err);
        if (change != CASES[i].status)
            fail_msg("%s: to change: %s: %s", CASES[i].name, sm_status_name(change), f.err.message);
        fixture_end(&f);
    }
}

static void damaged_files_are_refused(void **state)
{
    (void)state;
    fixture f;
    sm_catalog *catalog = NULL;
    make_victim(&f, NULL);
    size_t len = 0;
    uint8_t *bytes = sm_file_read(f.file.path, &len);
    const size_t lengths[] = {0, 50, 100, 4096, 8192, len / 2, len - 8192};
    for (size_t i = 0; i < SM_COUNT(lengths); i++) {
        sm_file_write(f.file.path, bytes, lengths[i]);
        const sm_status st = sm_catalog_open(f.file.path, &catalog, &f.err);
        if (st != (lengths[i] < 100 ? SM_ERR_ARG : SM_ERR_CORRUPT))
            fail_msg("%zu bytes: %s: %s", lengths[i], sm_status_name(st), f.err.message);
    }
    free(bytes);
    static const char TEXT[] = "This is a text file of more than one hundred bytes, and nobody who "
                               "reads it would take it for a catalog of slides.";
    sm_file_write(f.file.path, TEXT, sizeof(TEXT));
    SM_CHECK_FAILS(sm_catalog_open(f.file.path, &catalog, &f.err), &f.err, SM_ERR_ARG,
                   "is not a slidemill catalog");
    SM_CHECK_FAILS(sm_catalog_open(f.dir.path, &catalog, &f.err), &f.err, SM_ERR_ARG,
                   "is not a slidemill catalog");
    fixture_end(&f);
}

/* Reads whatever can be read; the first failure. */
static sm_status read_all(fixture *f, sm_catalog *catalog)
{
    sm_slide_cursor *cursor = NULL;
    sm_slide_row row;
    sm_status st = sm_catalog_slides(catalog, &(sm_slide_filter){0}, &cursor, &f->err);
    for (bool more = true; st == SM_OK && more;)
        st = sm_slide_cursor_next(cursor, &row, &more, &f->err);
    sm_slide_cursor_close(&cursor);
    return st;
}

static sm_status note_fault(void *arg, const char *fault, sm_error *err)
{
    char *faults = arg;
    (void)err;
    const size_t len = strlen(faults);
    snprintf(faults + len, 8192 - len, "%s\n", fault);
    return SM_OK;
}

/* Rows that STRICT tables take, and rows that only a forger makes. */
static void hostile_rows_are_found(void **state)
{
    (void)state;
    static const struct {
        const char *name, *sql;
        bool cursor_fails;
        const char *fault;
    } CASES[] = {
        {"nothing", "SELECT 1", false, ""},
        {"out of the root", "UPDATE slide SET path = '../x' WHERE id = 2", true,
         "slide 2: column path"},
        {"absolute", "UPDATE slide SET path = '/etc/passwd' WHERE id = 2", true,
         "slide 2: column path"},
        {"NUL in a path", "UPDATE slide SET path = CAST(x'610062' AS TEXT) WHERE id = 2", true,
         "slide 2: column path"},
        {"wrong hash", "UPDATE slide SET path_hash = 5 WHERE id = 2", true, "column path_hash"},
        {"a state", "UPDATE slide SET state = 'DONE' WHERE id = 2", true, "column state"},
        {"negative size", "UPDATE slide SET size_bytes = -1 WHERE id = 2", true, "size_bytes"},
        {"a brick", "UPDATE slide SET brick = 77 WHERE id = 2", true, "column brick"},
        {"a shard", "UPDATE slide SET shard = 9 WHERE id = 2", false, "in shard 9 of 2"},
        {"a huge shard", "UPDATE slide SET shard = 1 << 40 WHERE id = 2", true, "column shard"},
        {"short digest", "UPDATE slide SET sha256 = x'00', sha256_origin = 'given' WHERE id = 2",
         true, "column sha256 is no digest"},
        {"digest of nowhere", "UPDATE slide SET sha256_origin = 'me' WHERE id = 1", true,
         "sha256_origin"},
        {"infinite", "UPDATE slide SET mpp = 9e999 WHERE id = 3", true, "column mpp"},
        {"wide", "UPDATE slide SET w_px = 1 << 33 WHERE id = 3", true, "column w_px"},
        {"long text", "UPDATE slide SET vendor = printf('%.*c', 5000, 'x') WHERE id = 2", true,
         "column vendor"},
        {"failed for no reason", "UPDATE slide SET state = 'failed' WHERE id = 2", false,
         "error class is missing"},
        {"planned for no shard", "UPDATE slide SET shard = NULL WHERE id = 2", false,
         "planned, but in no shard"},
        {"done without output", "DELETE FROM output", false, "slide 1: is done, but has no output"},
        {"a slide twice",
         "INSERT INTO slide SELECT 4, path, path_hash, state, size_bytes, mtime_ns, shard, present,"
         " brick, attempts, checked_ns, n_parts, parts_bytes, sha256, sha256_origin, md5, xxh128, "
         "external_id, vendor, w_px, h_px, mpp, objective, error_class, error, last_ended_ns, "
         "since_generation FROM slide WHERE id = 3",
         false, "a/3.svs: stands twice"},
        {"output out of the target", "UPDATE output SET path = '../x'", false,
         "output of slide 1: column path"},
        {"output state", "UPDATE output SET state = 'fine'", false, "column state"},
        {"output of nobody", "UPDATE output SET slide = 77", false, "names a slide"},
        {"part out of the root", "UPDATE part SET path = 'a/../../x'", false,
         "a part of slide 1: column path"},
        {"part gone", "DELETE FROM part", false, "slide 1: its number of parts"},
        {"attempt gone", "DELETE FROM attempt", false, "n_attempts"},
        {"tally", "UPDATE tally SET n = n + 1", false, "does not count all"},
        {"field of nobody", "UPDATE field SET slide = 55", false, "table field"},
    };
    for (size_t i = 0; i < SM_COUNT(CASES); i++) {
        fixture f;
        char faults[8192] = "";
        make_victim(&f, CASES[i].sql);
        sm_catalog *catalog = fixture_open(&f);
        const sm_status st = read_all(&f, catalog);
        if (st != (CASES[i].cursor_fails ? SM_ERR_CORRUPT : SM_OK))
            fail_msg("%s: %s: %s", CASES[i].name, sm_status_name(st), f.err.message);
        SM_CHECK_OK(sm_catalog_check(catalog, note_fault, faults, &f.err), &f.err);
        if (strstr(faults, CASES[i].fault) == NULL || (CASES[i].fault[0] == '\0' && faults[0]))
            fail_msg("%s: found '%s'", CASES[i].name, faults);
        sm_catalog_close(&catalog);
        fixture_end(&f);
    }
}

static void run_sql(sqlite3 *db, const char *sql)
{
    if (sqlite3_exec(db, sql, NULL, NULL, NULL) != SQLITE_OK)
        fail_msg("%s: %s", sql, sqlite3_errmsg(db));
}

/* Puts values of another type than the column's into the slides: the schema is loosened, the rows
 * forged, and the schema's text put back. SQLite does not look when it reads. */
static void forge(const fixture *f, const char *sql)
{
    sqlite3 *db = NULL;
    sqlite3_stmt *restore = NULL;
    assert_int_equal(sqlite3_open(f->file.path, &db), SQLITE_OK);
    run_sql(db, "PRAGMA writable_schema = ON;"
                "CREATE TEMP TABLE kept AS SELECT sql FROM sqlite_schema WHERE name = 'slide';"
                "UPDATE sqlite_schema SET sql = 'CREATE TABLE slide (id INTEGER PRIMARY KEY, path, "
                "path_hash, state, size_bytes, mtime_ns, shard, present, brick, attempts, "
                "checked_ns, n_parts, parts_bytes, sha256, sha256_origin, md5, xxh128, "
                "external_id, vendor, w_px, h_px, mpp, objective, error_class, error, "
                "last_ended_ns, since_generation)' WHERE name = 'slide';"
                "PRAGMA writable_schema = RESET;");
    run_sql(db, sql);
    run_sql(db, "PRAGMA writable_schema = ON");
    assert_int_equal(sqlite3_prepare_v2(db,
                                        "UPDATE sqlite_schema SET sql = (SELECT sql FROM kept) "
                                        "WHERE name = 'slide'",
                                        -1, &restore, NULL),
                     SQLITE_OK);
    assert_int_equal(sqlite3_step(restore), SQLITE_DONE);
    sqlite3_finalize(restore);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

static void wrong_types_are_found(void **state)
{
    (void)state;
    static const struct {
        const char *sql, *fault;
    } CASES[] = {
        {"UPDATE slide SET path = NULL WHERE id = 2", "column path"},
        {"UPDATE slide SET path = x'6162' WHERE id = 2", "column path"},
        {"UPDATE slide SET path = 12 WHERE id = 2", "column path"},
        {"UPDATE slide SET state = NULL WHERE id = 2", "column state"},
        {"UPDATE slide SET size_bytes = 'big' WHERE id = 2", "column size_bytes"},
        {"UPDATE slide SET size_bytes = 0.5 WHERE id = 2", "column size_bytes"},
        {"UPDATE slide SET present = NULL WHERE id = 2", "column present"},
        {"UPDATE slide SET sha256 = printf('%.*c', 32, 'x') WHERE id = 1", "column sha256"},
        {"UPDATE slide SET mpp = 'x' WHERE id = 3", "column mpp"},
        {"UPDATE slide SET brick = 0.5 WHERE id = 2", "column brick"},
    };
    for (size_t i = 0; i < SM_COUNT(CASES); i++) {
        fixture f;
        char faults[8192] = "";
        make_victim(&f, NULL);
        forge(&f, CASES[i].sql);
        sm_catalog *catalog = fixture_open(&f);
        SM_CHECK_FAILS(read_all(&f, catalog), &f.err, SM_ERR_CORRUPT, CASES[i].fault);
        SM_CHECK_OK(sm_catalog_check(catalog, note_fault, faults, &f.err), &f.err);
        if (strstr(faults, CASES[i].fault) == NULL)
            fail_msg("%s: found '%s'", CASES[i].sql, faults);
        sm_catalog_close(&catalog);
        fixture_end(&f);
    }
}

/* Flipping bytes never does worse than an error. */
static void flipped_bytes_are_survived(void **state)
{
    (void)state;
    fixture f;
    make_victim(&f, NULL);
    size_t len = 0;
    uint8_t *bytes = sm_file_read(f.file.path, &len);
    unsigned refused = 0;
    for (size_t at = 16; at < len; at += at < 8192 ? 61 : 509) {
        sm_catalog *catalog = NULL;
        char faults[8192] = "";
        bytes[at] ^= 0x55;
        sm_file_write(f.file.path, bytes, len);
        bytes[at] ^= 0x55;
        sm_status st = sm_catalog_open(f.file.path, &catalog, &f.err);
        if (st == SM_OK)
            st = read_all(&f, catalog);
        if (catalog != NULL)
            (void)!sm_catalog_check(catalog, note_fault, faults, &f.err);
        refused += st != SM_OK || faults[0] != '\0';
        sm_catalog_close(&catalog);
    }
    assert_true(refused > 0);
    free(bytes);
    fixture_end(&f);
}

/* A change of a copy that nothing vouches for still works when its schema is ours. */
static void a_copy_can_be_changed(void **state)
{
    (void)state;
    fixture f;
    make_victim(&f, NULL);
    sm_catalog *catalog = fixture_change(&f);
    add_slide(&f, catalog, "b.svs");
    fixture_commit(&f, &catalog);
    catalog = fixture_open(&f);
    uint64_t n = 0, n_bytes = 0;
    SM_CHECK_OK(sm_catalog_count(catalog, &(sm_slide_filter){0}, &n, &n_bytes, &f.err), &f.err);
    assert_int_equal(n, 4);
    sm_catalog_close(&catalog);
    fixture_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(foreign_files_are_refused),  cmocka_unit_test(damaged_files_are_refused),
        cmocka_unit_test(hostile_rows_are_found),     cmocka_unit_test(wrong_types_are_found),
        cmocka_unit_test(flipped_bytes_are_survived), cmocka_unit_test(a_copy_can_be_changed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
