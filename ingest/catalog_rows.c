/* Slides and outputs as lines of CSV and JSON: one table of columns for both. Owns nothing. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/manifest.h"
#include "common/path.h"
#include "common/text.h"
#include "ingest/catalog_cli.h"
#include "ingest/catalog_json.h"

/* A value on its way to either form. */
typedef struct writer {
    json json; /* its status is the writer's */
    bool is_json;
    bool first;
} writer;

static void begin_csv(writer *w)
{
    if (!w->first && w->json.status == SM_OK)
        w->json.status = sm_buf_append(w->json.out, ",", 1, w->json.err);
    w->first = false;
}

static void put_text(writer *w, const char *key, const char *text)
{
    if (w->is_json) {
        json_text(&w->json, key, text);
        return;
    }
    begin_csv(w);
    if (text != NULL && w->json.status == SM_OK)
        w->json.status = sm_manifest_write_csv_field(text, w->json.out, w->json.err);
}

static void put_number_if(writer *w, const char *key, bool known, uint64_t number)
{
    if (w->is_json && known) {
        json_number(&w->json, key, number);
    } else if (w->is_json) {
        json_null(&w->json, key);
    } else {
        begin_csv(w);
        if (known && w->json.status == SM_OK)
            w->json.status = sm_buf_printf(w->json.out, w->json.err, "%" PRIu64, number);
    }
}

static void put_real(writer *w, const char *key, double number)
{
    if (w->is_json) {
        json_real(&w->json, key, number);
        return;
    }
    begin_csv(w);
    if (number > 0 && w->json.status == SM_OK)
        w->json.status = sm_buf_printf(w->json.out, w->json.err, "%.10g", number);
}

static void put_bool(writer *w, const char *key, bool value)
{
    if (w->is_json)
        json_bool(&w->json, key, value);
    else
        put_number_if(w, key, true, value);
}

static void put_time(writer *w, const char *key, int64_t ns)
{
    char text[40];

    put_text(w, key, *catalog_time(ns, true, text) != '\0' ? text : NULL);
}

static void put_digest(writer *w, const char *key, bool known, const sm_digest *digest)
{
    char hex[SM_DIGEST_HEX_CAP];

    put_text(w, key, known ? sm_digest_hex(digest, hex) : NULL);
}

/* JSON cannot hold a path that is no UTF-8: then it is there a second time, percent-encoded. */
static void put_path(writer *w, const char *key, const char *percent_key, const char *path)
{
    sm_buf text = {0};

    put_text(w, key, path);
    if (!w->is_json || w->json.status != SM_OK)
        return;
    w->json.status = sm_text_clean(path, false, &text, w->json.err);
    if (w->json.status == SM_OK && strcmp((const char *)text.data, path) != 0) {
        text.len = 0;
        w->json.status = sm_path_encode(path, &text, w->json.err);
        if (w->json.status == SM_OK)
            w->json.status = sm_buf_append(&text, "", 1, w->json.err);
        if (w->json.status == SM_OK)
            json_text(&w->json, percent_key, (const char *)text.data);
    }
    sm_buf_free(&text);
}

static writer writer_of(bool is_json, sm_buf *out, sm_error *err)
{
    writer w = {
        .json = {.out = out, .err = err, .status = SM_OK}, .is_json = is_json, .first = true};

    if (is_json)
        json_open(&w.json, NULL, '{');
    return w;
}

static sm_status end_line(writer *w)
{
    if (w->is_json)
        json_close(&w->json, '}');
    if (w->json.status == SM_OK)
        w->json.status = sm_buf_append(w->json.out, "\n", 1, w->json.err);
    return w->json.status;
}

/* ---- slides ---- */

static const char SLIDE_HEAD[] =
    "path,state,size_bytes,modified,digest_kind,digest,digest_origin,sha256,id,vendor,brick,"
    "width_px,height_px,mpp,objective,present,error_class,error,attempts,shard,parts,parts_bytes,"
    "checked,output,output_state";
static const char OUTPUT_HEAD[] = "output,path,size_bytes,sha256,source_sha256,state,checked";

static const char *origin_name(sm_digest_origin origin)
{
    switch (origin) {
    case SM_DIGEST_UNKNOWN:
        break;
    case SM_DIGEST_GIVEN:
        return "given";
    case SM_DIGEST_LEARNED:
        return "learned";
    }
    return NULL;
}

static const char *output_state_name(sm_output_state state)
{
    switch (state) {
    case SM_OUTPUT_GOOD:
        return "good";
    case SM_OUTPUT_DAMAGED:
        return "damaged";
    case SM_OUTPUT_MISSING:
        return "missing";
    }
    return NULL;
}

sm_status catalog_columns_of(sm_catalog *catalog, catalog_columns *columns, sm_error *err)
{
    const char *text = sm_catalog_pattern(catalog);

    *columns = (catalog_columns){.catalog = catalog};
    if (text == NULL)
        return SM_OK;
    const sm_status st = sm_pattern_new(text, &columns->pattern, err);
    if (st == SM_OK)
        columns->names = sm_pattern_names(columns->pattern, &columns->n);
    return st;
}

void catalog_columns_free(catalog_columns *columns)
{
    sm_pattern_free(&columns->pattern);
}

sm_status catalog_rows_head(const catalog_columns *columns, int what, sm_buf *out, sm_error *err)
{
    sm_status st = sm_buf_printf(out, err, "%s", what == WHAT_SOURCES ? SLIDE_HEAD : OUTPUT_HEAD);

    for (size_t i = 0; st == SM_OK && what == WHAT_SOURCES && i < columns->n; i++)
        st = sm_buf_printf(out, err, ",%s", columns->names[i]);
    return st == SM_OK ? sm_buf_append(out, "\n", 1, err) : st;
}

static sm_status put_output(void *arg, const sm_output_row *output, sm_error *err)
{
    writer *w = arg;

    (void)err;
    put_path(w, "output", "output_percent", output->path);
    put_text(w, "output_state", output_state_name(output->state));
    return w->json.status;
}

static void put_outputs(writer *w, sm_catalog *catalog, int64_t id)
{
    const size_t before = w->json.out->len;

    if (w->json.status == SM_OK)
        w->json.status = sm_catalog_outputs(catalog, id, put_output, w, w->json.err);
    if (w->json.status == SM_OK && w->json.out->len == before) {
        put_text(w, "output", NULL);
        put_text(w, "output_state", NULL);
    }
}

static void put_fields(writer *w, const catalog_columns *columns, int64_t id)
{
    const char *const *names = NULL, *const *values = NULL;
    size_t n = 0;

    if (w->json.status != SM_OK || columns->n == 0)
        return;
    w->json.status = sm_catalog_fields(columns->catalog, id, &names, &values, &n, w->json.err);
    if (w->is_json)
        json_open(&w->json, "fields", '{');
    for (size_t i = 0; i < columns->n; i++) /* n is 0 when the path is not of the pattern */
        put_text(w, columns->names[i], n == columns->n ? values[i] : NULL);
    if (w->is_json)
        json_close(&w->json, '}');
}

sm_status catalog_row(const catalog_columns *columns, const sm_slide_row *row, bool is_json,
                      sm_buf *out, sm_error *err)
{
    writer w = writer_of(is_json, out, err);
    const bool has_digest = row->digest_origin != SM_DIGEST_UNKNOWN;

    put_path(&w, "path", "path_percent", row->path);
    put_text(&w, "state", sm_slide_state_name(row->state));
    put_number_if(&w, "size_bytes", row->size_bytes != SM_NO_SIZE, row->size_bytes);
    put_time(&w, "modified", row->mtime_ns);
    put_text(&w, "digest_kind", has_digest ? sm_digest_kind_name(row->digest.kind) : NULL);
    put_digest(&w, "digest", has_digest, &row->digest);
    put_text(&w, "digest_origin", origin_name(row->digest_origin));
    put_digest(&w, "sha256", row->has_sha256, &row->sha256);
    put_text(&w, "id", row->external_id);
    put_text(&w, "vendor", row->vendor);
    put_text(&w, "brick", row->brick);
    put_number_if(&w, "width_px", row->w_px != 0, row->w_px);
    put_number_if(&w, "height_px", row->h_px != 0, row->h_px);
    put_real(&w, "mpp", row->mpp);
    put_real(&w, "objective", row->objective);
    put_bool(&w, "present", row->present);
    put_text(&w, "error_class", row->error_class);
    put_text(&w, "error", row->error);
    put_number_if(&w, "attempts", true, row->attempts);
    put_number_if(&w, "shard", row->shard != SM_NO_SHARD, row->shard);
    put_number_if(&w, "parts", true, row->n_parts);
    put_number_if(&w, "parts_bytes", true, row->parts_bytes);
    put_time(&w, "checked", row->checked_ns);
    put_outputs(&w, columns->catalog, row->id);
    put_fields(&w, columns, row->id);
    return end_line(&w);
}

sm_status catalog_row_output(const sm_slide_row *row, const sm_output_row *output, bool is_json,
                             sm_buf *out, sm_error *err)
{
    writer w = writer_of(is_json, out, err);

    put_path(&w, "output", "output_percent", output->path);
    put_path(&w, "path", "path_percent", row->path);
    put_number_if(&w, "size_bytes", true, output->size_bytes);
    put_digest(&w, "sha256", true, &output->sha256);
    put_digest(&w, "source_sha256", true, &output->source_sha256);
    put_text(&w, "state", output_state_name(output->state));
    put_time(&w, "checked", output->checked_ns);
    return end_line(&w);
}
