/* The columns that a pattern takes out of a slide's path: table `field`.
 * Owns the names in the handle, and the values it handed out last. */
#include "common/catalog_db.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_MAX_LEN = 32 };

static bool is_name(const char *name, size_t len)
{
    static const char REST[] = "abcdefghijklmnopqrstuvwxyz0123456789_";
    return len >= 1 && len <= NAME_MAX_LEN && name[0] >= 'a' && name[0] <= 'z' &&
           strspn(name, REST) >= len && !(len == 5 && memcmp(name, "slide", 5) == 0);
}

void sm_fields_clear(sm_catalog *catalog)
{
    for (size_t i = 0; i < catalog->n_fields; i++)
        free(catalog->field_names[i]);
    catalog->n_fields = 0;
}

static sm_status add_name(sm_catalog *catalog, const char *name, size_t len, sm_error *err)
{
    for (size_t i = 0; i < catalog->n_fields; i++) {
        if (strlen(catalog->field_names[i]) == len &&
            memcmp(catalog->field_names[i], name, len) == 0)
            return sm_fail(err, SM_ERR_ARG, "field '%.*s' stands twice in the pattern", (int)len,
                           name);
    }
    char *copy = sm_calloc(len + 1, 1);
    if (copy == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "out of memory for the fields of the catalog");
    memcpy(copy, name, len);
    catalog->field_names[catalog->n_fields++] = copy;
    return SM_OK;
}

sm_status sm_fields_load(sm_catalog *catalog, sm_error *err)
{
    const char *p = catalog->meta.pattern_names;
    sm_fields_clear(catalog);
    while (p != NULL && *p != '\0') {
        const size_t len = strcspn(p, " ");
        if (!is_name(p, len) || catalog->n_fields == SM_FIELDS_MAX)
            return sm_fail(err, SM_ERR_CORRUPT, "%s: meta pattern_names is '%.80s'", catalog->path,
                           catalog->meta.pattern_names);
        const sm_status st = add_name(catalog, p, len, err);
        if (st != SM_OK)
            return st;
        p += len;
        p += *p == ' ';
    }
    return SM_OK;
}

static sm_status join_names(const char *const *names, size_t n, sm_buf *joined, sm_error *err)
{
    sm_status st = SM_OK;
    if (n == 0 || n > SM_FIELDS_MAX)
        return sm_fail(err, SM_ERR_ARG, "a pattern needs 1 to %d fields, this one has %zu",
                       SM_FIELDS_MAX, n);
    for (size_t i = 0; st == SM_OK && i < n; i++) {
        if (!is_name(names[i], strnlen(names[i], NAME_MAX_LEN + 1)))
            return sm_fail(err, SM_ERR_ARG,
                           "'%.40s' cannot be the name of a field: a-z, 0-9 and _, a letter first, "
                           "at most %d, not 'slide'",
                           names[i], NAME_MAX_LEN);
        for (size_t k = 0; k < i; k++) {
            if (strcmp(names[k], names[i]) == 0)
                return sm_fail(err, SM_ERR_ARG, "field '%s' stands twice in the pattern", names[i]);
        }
        st = sm_buf_printf(joined, err, "%s%s", i > 0 ? " " : "", names[i]);
    }
    return st == SM_OK ? sm_buf_append(joined, "", 1, err) : st;
}

/* Whatever fails from here on leaves table and names at odds. */
static sm_status replace_table(sm_catalog *catalog, const char *pattern, const char *joined,
                               sm_error *err)
{
    sm_catalog_meta *meta = &catalog->meta;
    sm_buf sql = {0};
    sm_catalog_finalize_all(catalog); /* the cached ones too: their columns change */
    sm_buf_free(&catalog->field_insert);
    sm_status st = SM_OK;
    if (catalog->n_fields > 0)
        st = sm_catalog_exec(catalog, "DROP TABLE field", err);
    if (st == SM_OK)
        st = sm_catalog_copy_text(pattern, &meta->pattern, err);
    if (st == SM_OK)
        st = sm_catalog_copy_text(joined, &meta->pattern_names, err);
    if (st == SM_OK)
        st = sm_fields_load(catalog, err);
    if (st == SM_OK && catalog->n_fields > 0) {
        st = sm_schema_field_sql(catalog, &sql, err);
        if (st == SM_OK)
            st = sm_catalog_exec(catalog, (const char *)sql.data, err);
    }
    sm_buf_free(&sql);
    if (st != SM_OK)
        catalog->broken = true;
    return st;
}

sm_status sm_catalog_set_pattern(sm_catalog *catalog, const char *pattern, const char *const *names,
                                 size_t n, sm_error *err)
{
    const sm_catalog_meta *meta = &catalog->meta;
    sm_buf joined = {0};
    sm_status st = sm_catalog_begin_write(catalog, err);
    if (st != SM_OK)
        return st;
    if (pattern == NULL)
        return replace_table(catalog, NULL, NULL, err);
    st = sm_catalog_check_text("pattern", pattern, SM_CATALOG_TEXT_MAX, err);
    if (st == SM_OK)
        st = join_names(names, n, &joined, err);
    if (st == SM_OK) {
        const char *text = (const char *)joined.data;
        if (meta->pattern == NULL || strcmp(meta->pattern, pattern) != 0 ||
            strcmp(meta->pattern_names, text) != 0)
            st = replace_table(catalog, pattern, text, err);
    }
    sm_buf_free(&joined);
    return st;
}

/* Has as many columns as the pattern has names, so it is put together when it is first wanted. */
static sm_status use_insert(sm_catalog *catalog, sm_query *query, sm_error *err)
{
    sm_status st = SM_OK;
    if (catalog->field_insert.len == 0) {
        st = sm_buf_printf(&catalog->field_insert, err, "INSERT OR REPLACE INTO field VALUES (?");
        for (size_t i = 0; st == SM_OK && i < catalog->n_fields; i++)
            st = sm_buf_printf(&catalog->field_insert, err, ", ?");
        if (st == SM_OK)
            st = sm_buf_append(&catalog->field_insert, ")", 2, err);
        if (st != SM_OK) {
            catalog->field_insert.len = 0;
            return st;
        }
    }
    return sm_query_use(catalog, (const char *)catalog->field_insert.data, query, err);
}

sm_status sm_catalog_set_fields(sm_catalog *catalog, int64_t id, const char *const *values,
                                size_t n, sm_error *err)
{
    sm_query query = {0};
    sm_status st = sm_catalog_begin_write(catalog, err);
    if (st == SM_OK && (n == 0 || n != catalog->n_fields))
        st = sm_fail(err, SM_ERR_ARG, "%s: %zu values for %zu fields", catalog->path, n,
                     catalog->n_fields);
    for (size_t i = 0; st == SM_OK && i < n; i++)
        st = sm_catalog_check_text("a field's value", values[i], SM_CATALOG_TEXT_MAX, err);
    if (st == SM_OK)
        st = use_insert(catalog, &query, err);
    if (st != SM_OK)
        return st;
    sm_query_int(&query, id);
    for (size_t i = 0; i < n; i++)
        sm_query_text(&query, values[i]);
    return sm_query_run(&query, err);
}

/* Values are copied one after the other: pointers are made once none moves any more. */
static sm_status copy_values(sm_catalog *catalog, sm_query *query, int64_t id, sm_error *err)
{
    sm_status st = SM_OK;
    size_t at[SM_FIELDS_MAX];
    catalog->field_text.len = 0;
    for (size_t i = 0; st == SM_OK && i < catalog->n_fields; i++) {
        const char *value = sm_column_text(query, (int)i + 1);
        at[i] = value != NULL ? catalog->field_text.len : SIZE_MAX;
        if (value != NULL)
            st = sm_buf_append(&catalog->field_text, value, strlen(value) + 1, err);
    }
    if (st == SM_OK)
        st = sm_query_row_status(query, "fields of slide", id, err);
    for (size_t i = 0; st == SM_OK && i < catalog->n_fields; i++)
        catalog->field_values[i] =
            at[i] == SIZE_MAX ? NULL : (const char *)catalog->field_text.data + at[i];
    return st;
}

sm_status sm_catalog_fields(sm_catalog *catalog, int64_t id, const char *const **names,
                            const char *const **values, size_t *n, sm_error *err)
{
    static const char SELECT[] = "SELECT * FROM field WHERE slide = ?";
    sm_query query = {0};
    bool found = false;
    *names = (const char *const *)catalog->field_names;
    *values = catalog->field_values;
    *n = 0;
    if (catalog->n_fields == 0)
        return SM_OK;
    sm_status st = sm_query_use(catalog, SELECT, &query, err);
    if (st != SM_OK)
        return st;
    sm_query_int(&query, id);
    st = sm_query_next(&query, &found, err);
    if (st == SM_OK && found)
        st = copy_values(catalog, &query, id, err);
    if (st == SM_OK && found)
        *n = catalog->n_fields;
    sm_query_reset(&query);
    return st;
}
