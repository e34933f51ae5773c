/* Small facts of a catalog: names of states, table meta, the list of bricks.
 * Owns what of them is held in memory between open and commit. */
#include "common/catalog.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/catalog_db.h"

/* ---- names ---- */

static const char *const STATE_NAMES[SM_SLIDE_STATES] = {
    [SM_SLIDE_NEW] = "new",       [SM_SLIDE_PLANNED] = "planned",
    [SM_SLIDE_LEASED] = "leased", [SM_SLIDE_DONE] = "done",
    [SM_SLIDE_FAILED] = "failed", [SM_SLIDE_QUARANTINED] = "quarantined",
};

const char *sm_slide_state_name(sm_slide_state state)
{
    return (unsigned)state < SM_SLIDE_STATES ? STATE_NAMES[state] : "unknown";
}

sm_slide_state sm_slide_state_parse(const char *name)
{
    unsigned i = 0;
    while (i < SM_SLIDE_STATES && strcmp(name, STATE_NAMES[i]) != 0)
        i++;
    return (sm_slide_state)i;
}

const char *sm_phase_name(sm_phase phase)
{
    static const char *const NAMES[SM_PHASES] = {
        [SM_PHASE_OPEN] = "open",       [SM_PHASE_COPY_IN] = "copy-in",
        [SM_PHASE_HASH] = "hash",       [SM_PHASE_MILL] = "mill",
        [SM_PHASE_FSYNC] = "fsync",     [SM_PHASE_VERIFY] = "verify",
        [SM_PHASE_PUBLISH] = "publish", [SM_PHASE_OTHER] = "other",
    };
    return (unsigned)phase < SM_PHASES ? NAMES[phase] : "unknown";
}

const char *sm_attempt_kind_name(sm_attempt_kind kind)
{
    switch (kind) {
    case SM_ATTEMPT_CONVERT:
        return "convert";
    case SM_ATTEMPT_HASH:
        return "hash";
    case SM_ATTEMPT_CHECK_OUTPUT:
        return "check-output";
    }
    return "unknown";
}

const char *sm_outcome_kind_name(sm_outcome_kind kind)
{
    switch (kind) {
    case SM_OUTCOME_OK:
        return "ok";
    case SM_OUTCOME_FAILED:
        return "failed";
    case SM_OUTCOME_RETRY:
        return "retry";
    case SM_OUTCOME_QUARANTINED:
        return "quarantined";
    case SM_OUTCOME_ABANDONED:
        return "abandoned";
    case SM_OUTCOME_LOST:
        return "lost";
    }
    return "unknown";
}

/* ---- what the caller asks ---- */

uint64_t sm_catalog_generation(const sm_catalog *catalog)
{
    return catalog->number;
}

const char *sm_catalog_path(const sm_catalog *catalog)
{
    return catalog->path;
}

const char *sm_catalog_root(const sm_catalog *catalog)
{
    return catalog->meta.root;
}

const char *sm_catalog_uuid(const sm_catalog *catalog)
{
    return catalog->meta.uuid;
}

uint32_t sm_catalog_plan(const sm_catalog *catalog)
{
    return catalog->meta.plan;
}

uint32_t sm_catalog_n_shards(const sm_catalog *catalog)
{
    return catalog->meta.n_shards;
}

int64_t sm_catalog_created_ns(const sm_catalog *catalog)
{
    return catalog->meta.created_ns;
}

const char *sm_catalog_create_options(const sm_catalog *catalog)
{
    return catalog->meta.create_options;
}

sm_status sm_catalog_set_create_options(sm_catalog *catalog, const char *options, sm_error *err)
{
    sm_status st = sm_catalog_begin_write(catalog, err);
    if (st == SM_OK)
        st = sm_catalog_check_text("options", options, SM_CATALOG_TEXT_MAX, err);
    return st == SM_OK ? sm_catalog_copy_text(options, &catalog->meta.create_options, err) : st;
}

bool sm_catalog_target(const sm_catalog *catalog, sm_target *target)
{
    *target = (sm_target){.dir = catalog->meta.target_dir, .options = catalog->meta.target_options};
    return target->dir != NULL;
}

const char *sm_catalog_pattern(const sm_catalog *catalog)
{
    return catalog->meta.pattern;
}

sm_status sm_catalog_set_target(sm_catalog *catalog, const sm_target *target, sm_error *err)
{
    sm_catalog_meta *meta = &catalog->meta;
    sm_status st = sm_catalog_begin_write(catalog, err);
    if (st != SM_OK)
        return st;
    if (target->dir[0] != '/')
        return sm_fail(err, SM_ERR_ARG, "%s: '%s' is no absolute path of a target's folder",
                       catalog->path, target->dir);
    if (meta->target_dir != NULL && (strcmp(meta->target_dir, target->dir) != 0 ||
                                     strcmp(meta->target_options, target->options) != 0))
        return sm_fail(err, SM_ERR_ARG,
                       "%s: its outputs go to %s with '%s', not to %s with '%s'; another target "
                       "needs another catalog",
                       catalog->path, meta->target_dir, meta->target_options, target->dir,
                       target->options);
    st = sm_catalog_check_text("target folder", target->dir, SM_CATALOG_TEXT_MAX, err);
    if (st == SM_OK)
        st = sm_catalog_check_text("options", target->options, SM_CATALOG_TEXT_MAX, err);
    if (st == SM_OK)
        st = sm_catalog_copy_text(target->options, &meta->target_options, err);
    if (st == SM_OK)
        st = sm_catalog_copy_text(target->dir, &meta->target_dir, err);
    return st;
}

/* ---- table meta ---- */

/* A row of meta: a text or a number. */
typedef struct meta_row {
    const char *name;
    char **text;
    uint64_t *u64;
    uint32_t *u32;
    int64_t *i64;
    uint64_t max;
} meta_row;

#define META_ROWS 17

static size_t meta_rows(sm_catalog_meta *meta, meta_row rows[META_ROWS])
{
    const meta_row all[META_ROWS] = {
        {.name = "root", .text = &meta->root},
        {.name = "uuid", .text = &meta->uuid},
        {.name = "target_dir", .text = &meta->target_dir},
        {.name = "target_options", .text = &meta->target_options},
        {.name = "pattern", .text = &meta->pattern},
        {.name = "pattern_names", .text = &meta->pattern_names},
        {.name = "create_options", .text = &meta->create_options},
        {.name = "generation", .u64 = &meta->generation, .max = INT64_MAX},
        {.name = "plan", .u32 = &meta->plan, .max = UINT32_MAX},
        {.name = "n_shards", .u32 = &meta->n_shards, .max = SM_CATALOG_SHARDS_MAX},
        {.name = "n_attempts", .u64 = &meta->n_attempts, .max = INT64_MAX},
        {.name = "n_outputs", .u64 = &meta->n_outputs, .max = INT64_MAX},
        {.name = "output_bytes", .u64 = &meta->output_bytes, .max = INT64_MAX},
        {.name = "first_began_ns", .i64 = &meta->first_began_ns, .max = INT64_MAX},
        {.name = "last_ended_ns", .i64 = &meta->last_ended_ns, .max = INT64_MAX},
        {.name = "created_ns", .i64 = &meta->created_ns, .max = INT64_MAX},
    };
    memcpy(rows, all, sizeof(all));
    return META_ROWS - 1;
}

static bool parse_number(const char *text, uint64_t max, uint64_t *number)
{
    uint64_t value = 0;
    if (*text == '\0' || strnlen(text, 20) == 20)
        return false;
    for (; *text != '\0'; text++) {
        if (*text < '0' || *text > '9')
            return false;
        value = 10 * value + (uint64_t)(*text - '0'); /* at most 19 digits: no overflow */
    }
    *number = value;
    return value <= max;
}

static sm_status meta_set(const sm_catalog *catalog, const meta_row *row, const char *value,
                          sm_error *err)
{
    uint64_t number = 0;
    if (row->text != NULL)
        return sm_catalog_copy_text(value, row->text, err);
    if (!parse_number(value, row->max, &number))
        return sm_fail(err, SM_ERR_CORRUPT, "%s: meta %s is '%.40s'", catalog->path, row->name,
                       value);
    if (row->u64 != NULL)
        *row->u64 = number;
    else if (row->u32 != NULL)
        *row->u32 = (uint32_t)number;
    else
        *row->i64 = (int64_t)number;
    return SM_OK;
}

static bool is_uuid(const char *text)
{
    return text != NULL && strlen(text) == SM_UUID_CAP - 1 &&
           strspn(text, "0123456789abcdef") == SM_UUID_CAP - 1;
}

sm_status sm_meta_load(sm_catalog *catalog, sm_error *err)
{
    static const char SELECT[] = "SELECT name, value FROM meta";
    sm_query query = {0};
    meta_row rows[META_ROWS];
    const size_t n = meta_rows(&catalog->meta, rows);
    sm_status st = sm_query_new(catalog, SELECT, &query, err);
    for (bool more = true; st == SM_OK;) {
        st = sm_query_next(&query, &more, err);
        if (st != SM_OK || !more)
            break;
        const char *name = sm_column_text(&query, 0), *value = sm_column_text(&query, 1);
        if (name == NULL || value == NULL) {
            st = sm_fail(err, SM_ERR_CORRUPT, "%s: table meta holds no texts", catalog->path);
            break;
        }
        for (size_t i = 0; st == SM_OK && i < n; i++) {
            if (strcmp(name, rows[i].name) == 0)
                st = meta_set(catalog, &rows[i], value, err);
        }
    }
    sm_query_end(&query);
    const sm_catalog_meta *meta = &catalog->meta;
    if (st == SM_OK &&
        (meta->root == NULL || meta->root[0] != '/' || !is_uuid(meta->uuid) ||
         meta->generation == 0 || (meta->target_dir == NULL) != (meta->target_options == NULL) ||
         (meta->target_dir != NULL && meta->target_dir[0] != '/') ||
         (meta->pattern == NULL) != (meta->pattern_names == NULL)))
        st = sm_fail(err, SM_ERR_CORRUPT, "%s: table meta is not that of a catalog", catalog->path);
    return st;
}

sm_status sm_meta_store(sm_catalog *catalog, sm_error *err)
{
    static const char REPLACE[] = "INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)";
    static const char CLEAR[] = "DELETE FROM meta WHERE name = ?";
    meta_row rows[META_ROWS];
    const size_t n = meta_rows(&catalog->meta, rows);
    sm_status st = SM_OK;
    for (size_t i = 0; st == SM_OK && i < n; i++) {
        const meta_row *row = &rows[i];
        const bool unknown = row->text != NULL && *row->text == NULL;
        char number[24] = "";
        sm_query query = {0};
        st = sm_query_use(catalog, unknown ? CLEAR : REPLACE, &query, err);
        if (st != SM_OK)
            return st;
        if (row->u64 != NULL)
            snprintf(number, sizeof(number), "%" PRIu64, *row->u64);
        else if (row->u32 != NULL)
            snprintf(number, sizeof(number), "%" PRIu32, *row->u32);
        else if (row->i64 != NULL)
            snprintf(number, sizeof(number), "%" PRId64, *row->i64);
        sm_query_text(&query, row->name);
        if (!unknown)
            sm_query_text(&query, row->text != NULL ? *row->text : number);
        st = sm_query_run(&query, err);
    }
    return st;
}

void sm_meta_clear(sm_catalog *catalog)
{
    meta_row rows[META_ROWS];
    const size_t n = meta_rows(&catalog->meta, rows);
    for (size_t i = 0; i < n; i++) {
        if (rows[i].text != NULL)
            free(*rows[i].text);
    }
    catalog->meta = (sm_catalog_meta){0};
    for (size_t i = 0; i < catalog->n_bricks; i++)
        free(catalog->bricks[i].name);
    free(catalog->bricks);
    catalog->bricks = NULL;
    catalog->n_bricks = catalog->bricks_cap = 0;
    sm_works_clear(catalog);
}

/* ---- bricks ---- */

static sm_status append_brick(sm_catalog *catalog, const char *name, sm_error *err)
{
    if (catalog->n_bricks == catalog->bricks_cap) {
        const size_t cap = catalog->bricks_cap > 0 ? 2 * catalog->bricks_cap : 16;
        sm_brick_entry *grown = sm_malloc_array(cap, sizeof(*grown));
        if (grown == NULL)
            return sm_fail(err, SM_ERR_NOMEM, "out of memory for the bricks of the catalog");
        if (catalog->n_bricks > 0)
            memcpy(grown, catalog->bricks, catalog->n_bricks * sizeof(*grown));
        free(catalog->bricks);
        catalog->bricks = grown;
        catalog->bricks_cap = cap;
    }
    sm_brick_entry entry = {0};
    const sm_status st = sm_catalog_copy_text(name, &entry.name, err);
    if (st == SM_OK)
        catalog->bricks[catalog->n_bricks++] = entry;
    return st;
}

sm_status sm_bricks_load(sm_catalog *catalog, sm_error *err)
{
    static const char SELECT[] = "SELECT id, name, read_bytes, read_ns FROM brick ORDER BY id";
    sm_query query = {0};
    sm_status st = sm_query_new(catalog, SELECT, &query, err);
    for (bool more = true; st == SM_OK;) {
        st = sm_query_next(&query, &more, err);
        if (st != SM_OK || !more)
            break;
        const int64_t want = (int64_t)catalog->n_bricks + 1;
        const int64_t id = sm_column_int(&query, 0, want, want);
        const char *name = sm_column_text(&query, 1);
        const int64_t read_bytes = sm_column_int(&query, 2, 0, INT64_MAX);
        const int64_t read_ns = sm_column_int(&query, 3, 0, INT64_MAX);
        if (name == NULL)
            sm_column_is_bad(&query, 1, "is empty");
        st = sm_query_row_status(&query, "brick", id, err);
        if (st == SM_OK)
            st = append_brick(catalog, name, err);
        if (st == SM_OK) {
            catalog->bricks[catalog->n_bricks - 1].read_bytes = (uint64_t)read_bytes;
            catalog->bricks[catalog->n_bricks - 1].read_ns = (uint64_t)read_ns;
        }
    }
    sm_query_end(&query);
    return st;
}

sm_status sm_bricks_store(sm_catalog *catalog, sm_error *err)
{
    static const char UPDATE[] = "UPDATE brick SET read_bytes = ?, read_ns = ? WHERE id = ?";
    sm_status st = SM_OK;
    for (size_t i = 0; st == SM_OK && i < catalog->n_bricks; i++) {
        sm_brick_entry *brick = &catalog->bricks[i];
        sm_query query = {0};
        if (!brick->dirty)
            continue;
        st = sm_query_use(catalog, UPDATE, &query, err);
        if (st != SM_OK)
            break;
        sm_query_int_if(&query, true, brick->read_bytes);
        sm_query_int_if(&query, true, brick->read_ns);
        sm_query_int(&query, (int64_t)i + 1);
        st = sm_query_run(&query, err);
        brick->dirty = st != SM_OK;
    }
    return st;
}

int64_t sm_bricks_find(sm_catalog *catalog, const char *name)
{
    if (name == NULL)
        return 0;
    if (catalog->last_brick < catalog->n_bricks &&
        strcmp(catalog->bricks[catalog->last_brick].name, name) == 0)
        return (int64_t)catalog->last_brick + 1;
    for (size_t i = 0; i < catalog->n_bricks; i++) { /* a volume has tens of them */
        if (strcmp(catalog->bricks[i].name, name) == 0) {
            catalog->last_brick = i;
            return (int64_t)i + 1;
        }
    }
    return 0;
}

sm_status sm_bricks_get(sm_catalog *catalog, const char *name, int64_t *id, sm_error *err)
{
    static const char INSERT[] =
        "INSERT INTO brick (id, name, read_bytes, read_ns) VALUES (?, ?, 0, 0)";
    *id = sm_bricks_find(catalog, name);
    if (*id != 0 || name == NULL || name[0] == '\0')
        return SM_OK;
    if (catalog->n_bricks >= SM_CATALOG_BRICKS_MAX)
        return sm_fail(err, SM_ERR_LIMIT, "%s: more than %d bricks", catalog->path,
                       SM_CATALOG_BRICKS_MAX);
    sm_query query = {0};
    sm_status st = sm_catalog_check_text("brick", name, SM_BRICK_NAME_MAX, err);
    if (st == SM_OK)
        st = sm_query_use(catalog, INSERT, &query, err);
    if (st == SM_OK)
        st = append_brick(catalog, name, err);
    if (st != SM_OK)
        return st;
    sm_query_int(&query, (int64_t)catalog->n_bricks);
    sm_query_text(&query, name);
    st = sm_query_run(&query, err); /* after a failure the catalog is broken, the list with it */
    if (st == SM_OK)
        *id = (int64_t)catalog->n_bricks;
    return st;
}
