/* What the catalog's own files share: the handle, prepared statements, checked columns.
 * Not for other modules. Nothing read from a column is trusted. */
#ifndef SM_COMMON_CATALOG_DB_H
#define SM_COMMON_CATALOG_DB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/catalog.h"

typedef struct sqlite3 sqlite3;
typedef struct sqlite3_stmt sqlite3_stmt;

#define SM_CATALOG_APPLICATION_ID 0x534D4331 /* "SMC1" */
#define SM_CATALOG_TEXT_MAX 4000             /* bytes of any text but a path */
#define SM_CATALOG_SHARDS_MAX 1000000
#define SM_CATALOG_BRICKS_MAX 10000
#define SM_BRICK_NAME_MAX 255
#define SM_CATALOG_STMTS 64

/* A brick of table `brick`; its id is its place in the list plus 1. */
typedef struct sm_brick_entry {
    char *name;
    uint64_t read_bytes, read_ns;
    bool dirty; /* the two differ from the table's */
    sm_brick_flow flow;
    bool flow_dirty;
} sm_brick_entry;

/* A row of table `work` with its rows of `spent`; its id is its place in the list plus 1. */
typedef struct sm_work_entry {
    int64_t brick; /* 0: unknown */
    sm_attempt_kind kind;
    uint64_t attempts, bytes_in, bytes_out, cpu_ns;
    uint64_t stage_ns[SM_STAGES];
    bool dirty;
} sm_work_entry;

/* Table `meta`. Texts are malloc'ed, NULL when there is none. */
typedef struct sm_catalog_meta {
    char *root, *uuid, *target_dir, *target_options, *pattern;
    char *pattern_names; /* separated by one space each */
    char *create_options;
    uint64_t generation;
    uint32_t plan, n_shards;
    uint64_t n_attempts, n_outputs, output_bytes;
    int64_t first_began_ns, last_ended_ns;
    int64_t created_ns;
} sm_catalog_meta;

struct sm_catalog {
    char *path;
    char *file; /* that a reader has open: path, or a kept generation */
    sqlite3 *db;
    sm_generation *gen; /* NULL: a reader */
    uint64_t number;    /* of the generation that is read or will be made */
    bool broken;        /* a change failed half way: it must not be published */
    bool tallied;       /* tables tally and shard say what slide says */
    struct {
        const char *sql; /* identity, not content */
        sqlite3_stmt *stmt;
    } stmts[SM_CATALOG_STMTS];
    sm_buf assigned; /* slides and their shards that the table does not have yet */
    sm_catalog_meta meta;
    sm_brick_entry *bricks;
    size_t n_bricks, bricks_cap;
    sm_work_entry *works;
    size_t n_works, works_cap;
    size_t last_brick; /* most lookups ask for the same one again */
    struct {           /* the run of the last event: the next one mostly is of the same */
        char run[SM_UUID_CAP];
        uint32_t rank;
        int64_t id; /* 0: none */
    } last_run;
    char *field_names[SM_FIELDS_MAX];
    size_t n_fields;
    sm_buf field_insert; /* SQL with a parameter for each; its bytes name the statement */
    sm_buf field_text;   /* what sm_catalog_fields handed out */
    const char *field_values[SM_FIELDS_MAX];
};

/* ---- statements (catalog_db.c) ---- */

typedef struct sm_query {
    sm_catalog *catalog;
    sqlite3_stmt *stmt;
    int next;        /* parameter that is bound next; the first is 1 */
    int rc;          /* first failure of a binding */
    int bad_column;  /* first column that was not as it should be; -1: none */
    const char *bad; /* what was wrong with it */
} sm_query;

/** A cached statement, reset and ready to bind. `sql` is a static array: its address is its name.
 *  Statements of one text must not nest. */
SM_NODISCARD sm_status sm_query_use(sm_catalog *catalog, const char *sql, sm_query *query,
                                    sm_error *err);
/** A statement of its own; sm_query_end releases it. */
SM_NODISCARD sm_status sm_query_new(sm_catalog *catalog, const char *sql, sm_query *query,
                                    sm_error *err);
void sm_query_end(sm_query *query);

/* Bind the next parameter. Texts and digests are borrowed until the statement is reset. */
void sm_query_int(sm_query *query, int64_t value);
void sm_query_null(sm_query *query);
/** NULL unless known. */
void sm_query_int_if(sm_query *query, bool known, uint64_t value);
void sm_query_real_if(sm_query *query, bool known, double value);
void sm_query_text(sm_query *query, const char *text);
/** As sm_query_text, of a copy that the statement keeps. */
void sm_query_text_copy(sm_query *query, const char *text);
void sm_query_text_len(sm_query *query, const char *text, size_t len);
void sm_query_digest(sm_query *query, const sm_digest *digest);

/** Run to the end; the statement is reset. */
SM_NODISCARD sm_status sm_query_run(sm_query *query, sm_error *err);
/** The next row; reset at the end and after a failure. */
SM_NODISCARD sm_status sm_query_next(sm_query *query, bool *more, sm_error *err);
void sm_query_reset(sm_query *query);

/* Columns of the current row. What is not of the type or range is noted in the query and read as
 * 0 or NULL; sm_query_row_status tells. */
int64_t sm_column_int(sm_query *query, int column, int64_t min, int64_t max);
/** `unknown` when NULL. */
int64_t sm_column_int_or(sm_query *query, int column, int64_t min, int64_t max, int64_t unknown);
/** 0 when NULL; finite and above 0. */
double sm_column_real(sm_query *query, int column);
/** NULL when NULL. At most SM_PATH_MAX bytes and none of them NUL. */
const char *sm_column_text(sm_query *query, int column);
/** False when NULL. */
bool sm_column_digest(sm_query *query, int column, sm_digest_kind kind, sm_digest *digest);
bool sm_column_is_null(sm_query *query, int column);
void sm_column_is_bad(sm_query *query, int column, const char *why);

/** SM_ERR_CORRUPT "...: slide 7: column size_bytes ..." if a column was bad. */
SM_NODISCARD sm_status sm_query_row_status(const sm_query *query, const char *table, int64_t id,
                                           sm_error *err);

/** Rows that the last statement inserted, changed or deleted. */
int64_t sm_catalog_changes(const sm_catalog *catalog);
int64_t sm_catalog_last_id(const sm_catalog *catalog);

/** Statements without parameters and results. */
SM_NODISCARD sm_status sm_catalog_exec(sm_catalog *catalog, const char *sql, sm_error *err);
/** No statement holds a row any more: before DDL and COMMIT. */
void sm_catalog_reset_all(sm_catalog *catalog);
void sm_catalog_finalize_all(sm_catalog *catalog);
/** Some statement, also one of a cursor, stands on a row. */
bool sm_catalog_is_busy(const sm_catalog *catalog);
/** What SQLite's result code says, with the catalog's name. */
sm_status sm_catalog_fail(const sm_catalog *catalog, int rc, sm_error *err);

/** SM_ERR_ARG unless the catalog is open for change; SM_ERR_INTERNAL if it is broken. */
SM_NODISCARD sm_status sm_catalog_begin_write(sm_catalog *catalog, sm_error *err);

/** Copy of a text; SM_ERR_NOMEM. NULL stays NULL. What *copy held is freed. */
SM_NODISCARD sm_status sm_catalog_copy_text(const char *text, char **copy, sm_error *err);
/** SM_ERR_ARG if a text that is to be stored is too long; NULL is fine. */
SM_NODISCARD sm_status sm_catalog_check_text(const char *what, const char *text, size_t max,
                                             sm_error *err);

/* ---- schema (catalog_schema.c) ---- */

#define SM_SCHEMA_SHARD_INDEX "CREATE INDEX slide_by_shard ON slide(shard) WHERE shard IS NOT NULL"

/** CREATE statements of an empty catalog. */
SM_NODISCARD sm_status sm_schema_create(sm_catalog *catalog, sm_error *err);
/** application_id, user_version and the header's own fields, before SQLite looks at the file. */
SM_NODISCARD sm_status sm_schema_check_header(const char *name, const char *file, uint32_t *version,
                                              sm_error *err);
/** Brings an older version up to date. */
SM_NODISCARD sm_status sm_schema_migrate(sm_catalog *catalog, uint32_t version, sm_error *err);
/** The schema holds exactly our tables and indexes. Needs the meta to be loaded. */
SM_NODISCARD sm_status sm_schema_check(sm_catalog *catalog, sm_error *err);
/** "CREATE TABLE field (...)" for the names of the catalog's pattern; out replaced, with NUL. */
SM_NODISCARD sm_status sm_schema_field_sql(const sm_catalog *catalog, sm_buf *out, sm_error *err);

/* ---- meta and bricks (catalog.c) ---- */

SM_NODISCARD sm_status sm_meta_load(sm_catalog *catalog, sm_error *err);
SM_NODISCARD sm_status sm_meta_store(sm_catalog *catalog, sm_error *err);
void sm_meta_clear(sm_catalog *catalog);

SM_NODISCARD sm_status sm_bricks_load(sm_catalog *catalog, sm_error *err);
SM_NODISCARD sm_status sm_bricks_store(sm_catalog *catalog, sm_error *err);
/** Id of a brick; 0 if there is none of that name (or name is NULL). */
int64_t sm_bricks_find(sm_catalog *catalog, const char *name);
/** As sm_bricks_find, added if it is new. */
SM_NODISCARD sm_status sm_bricks_get(sm_catalog *catalog, const char *name, int64_t *id,
                                     sm_error *err);
/** Takes the names out of meta.pattern_names. */
SM_NODISCARD sm_status sm_fields_load(sm_catalog *catalog, sm_error *err);
void sm_fields_clear(sm_catalog *catalog);

/* ---- plan (catalog_plan.c) ---- */

/** Bring what sm_catalog_assign took into the table. Every statement does it first. */
SM_NODISCARD sm_status sm_assignments_store(sm_catalog *catalog, sm_error *err);

/* ---- slides (catalog_slides.c) ---- */

/* What sm_slide_read takes, in its order. */
#define SM_SLIDE_COLUMNS                                                                           \
    "id,path,path_hash,state,size_bytes,mtime_ns,shard,present,brick,attempts,checked_ns,"         \
    "n_parts,parts_bytes,sha256,sha256_origin,md5,xxh128,external_id,vendor,w_px,h_px,mpp,"        \
    "objective,error_class,error,since_generation"

/** The current row as a slide; SM_ERR_CORRUPT if it is none. */
SM_NODISCARD sm_status sm_slide_read(sm_query *query, sm_slide_row *row, sm_error *err);
/** Signed, so that SQLite can hold it. */
int64_t sm_slide_path_hash(const char *path, size_t len);
/** WHERE clause (" WHERE ..." or "") of a filter, appended; then bind in the same order. */
SM_NODISCARD sm_status sm_filter_where(sm_catalog *catalog, const sm_slide_filter *filter,
                                       sm_buf *sql, sm_error *err);
void sm_filter_bind(const sm_slide_filter *filter, sm_query *query);

/** Lets the kernel fetch the slides of a shard together (catalog_prefetch.c). Only a hint. */
void sm_prefetch_shard(sm_catalog *catalog, uint32_t shard);

/* The digests that a slide or a part can have at once. */
typedef struct sm_digest_set {
    bool has[3]; /* by sm_digest_kind */
    sm_digest digest[3];
    bool sha256_learned; /* else given, like the others */
} sm_digest_set;

/** Columns sha256, sha256_origin, md5, xxh128 from `column` on. */
void sm_digest_set_read(sm_query *query, int column, sm_digest_set *set);
/** The one that decides: given before learned, SHA-256 before the others. */
sm_digest_origin sm_digest_set_best(const sm_digest_set *set, sm_digest *digest);
/** Binds the four columns. */
void sm_digest_set_bind(const sm_digest_set *set, sm_query *query);

/** Do the rows of a slide's parts read? SM_ERR_CORRUPT if not. */
SM_NODISCARD sm_status sm_parts_check(sm_catalog *catalog, int64_t slide, sm_error *err);

/* ---- work (catalog_work.c) ---- */

/** After the bricks. */
SM_NODISCARD sm_status sm_works_load(sm_catalog *catalog, sm_error *err);
SM_NODISCARD sm_status sm_works_store(sm_catalog *catalog, sm_error *err);
/** A new event counts; bricks by id, 0: unknown. */
SM_NODISCARD sm_status sm_works_add(sm_catalog *catalog, const sm_attempt_row *attempt,
                                    int64_t brick, int64_t out_brick, sm_error *err);
void sm_works_clear(sm_catalog *catalog);

/* ---- tallies (catalog_tally.c) ---- */

/** Fill tables tally and shard anew from the slides, unless they are right already. */
SM_NODISCARD sm_status sm_tally_store(sm_catalog *catalog, sm_error *err);

#endif
