/* catalog list and export. Owns nothing beyond a call. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/manifest.h"
#include "common/progress.h"
#include "ingest/catalog_cli.h"

/* Who takes the slides of a filter, one by one. */
typedef struct visitor {
    catalog_args *args;
    catalog_columns columns;
    catalog_out out;
    sm_status (*visit)(struct visitor *v, const sm_slide_row *row, sm_error *err);
    uint64_t n, bytes, n_without; /* without: no digest, or no output */
    bool colours;
} visitor;

static sm_status filter_of(catalog_args *args, sm_slide_filter *filter, sm_error *err)
{
    *filter = (sm_slide_filter){
        .error_class = args->class_name,
        .brick = args->brick,
        .glob = args->glob,
        .only_missing = args->missing,
        .limit = args->limit,
    };
    return catalog_parse_states(args->state, &filter->by_state, err);
}

static sm_status visit_all(visitor *v, sm_error *err)
{
    sm_slide_cursor *cursor = NULL;
    sm_slide_filter filter;
    sm_slide_row row;
    bool more = false;
    sm_status st = filter_of(v->args, &filter, err);

    if (st == SM_OK)
        st = sm_catalog_slides(v->columns.catalog, &filter, &cursor, err);
    while (st == SM_OK) {
        st = sm_slide_cursor_next(cursor, &row, &more, err);
        if (st != SM_OK || !more)
            break;
        v->n++;
        v->bytes += row.size_bytes != SM_NO_SIZE ? row.size_bytes : 0;
        st = v->visit(v, &row, err);
        if (st == SM_OK)
            st = catalog_out_flush(&v->out, false, err);
    }
    sm_slide_cursor_close(&cursor);
    return st;
}

/* ---- list ---- */

static const char *colour_of(const visitor *v, sm_slide_state state)
{
    if (!v->colours)
        return "";
    if (state == SM_SLIDE_DONE)
        return "\033[32m";
    return state == SM_SLIDE_FAILED || state == SM_SLIDE_QUARANTINED ? "\033[31m" : "";
}

static sm_status list_text(visitor *v, const sm_slide_row *row, sm_error *err)
{
    char size[16] = "-", state[48];
    const char *colour = colour_of(v, row->state);

    if (row->size_bytes != SM_NO_SIZE)
        (void)sm_human_bytes(row->size_bytes, size);
    if (row->error_class != NULL)
        (void)snprintf(state, sizeof state, "%s %.20s", sm_slide_state_name(row->state),
                       catalog_clean(row->error_class));
    else
        (void)snprintf(state, sizeof state, "%s", sm_slide_state_name(row->state));
    sm_status st = sm_buf_printf(&v->out.text, err, "%s%-17s%s %8s  %s%s\n", colour, state,
                                 *colour != '\0' ? "\033[0m" : "", size,
                                 row->present ? "" : "(missing) ", catalog_clean(row->path));
    if (st == SM_OK && row->error != NULL)
        st = sm_buf_printf(&v->out.text, err, "%28s%s\n", "", catalog_clean(row->error));
    return st;
}

static sm_status list_row(visitor *v, const sm_slide_row *row, sm_error *err)
{
    return catalog_row(&v->columns, row, v->args->format == FORMAT_JSONL, &v->out.text, err);
}

static sm_status end_list(visitor *v, sm_error *err)
{
    char number[64], bytes[16];

    /* for eyes only: what is piped on is one slide a line, as far as no error is told */
    if (v->args->format == FORMAT_TEXT && isatty(STDOUT_FILENO) != 0)
        return sm_buf_printf(&v->out.text, err, "%s, %s\n", catalog_count(v->n, "slide", number),
                             sm_human_bytes(v->bytes, bytes));
    return SM_OK;
}

int catalog_list(catalog_args *args)
{
    sm_error err = SM_ERROR_INIT;
    sm_catalog *catalog = NULL;
    visitor v = {.args = args,
                 .visit = args->format == FORMAT_TEXT ? list_text : list_row,
                 .colours = catalog_colours()};
    sm_status st = sm_catalog_open(args->operands[0], &catalog, &err);

    if (st == SM_OK)
        st = catalog_columns_of(catalog, &v.columns, &err);
    if (st == SM_OK && args->format == FORMAT_CSV)
        st = catalog_rows_head(&v.columns, WHAT_SOURCES, &v.out.text, &err);
    if (st == SM_OK)
        st = visit_all(&v, &err);
    if (st == SM_OK)
        st = end_list(&v, &err);
    if (st == SM_OK)
        st = catalog_out_commit(&v.out, &err);
    catalog_out_discard(&v.out);
    catalog_columns_free(&v.columns);
    sm_catalog_close(&catalog);
    return st == SM_OK ? 0 : catalog_fail(args, &err);
}

/* ---- export ---- */

static sm_status export_part(void *arg, const sm_part_row *part, sm_error *err)
{
    visitor *v = arg;

    if (part->digest_origin == SM_DIGEST_UNKNOWN || part->digest.kind != SM_DIGEST_SHA256) {
        v->n_without++;
        return SM_OK;
    }
    return sm_manifest_write_sum(&part->digest, part->path, &v->out.text, err);
}

static sm_status export_sum(visitor *v, const sm_slide_row *row, sm_error *err)
{
    sm_status st = SM_OK;

    if (row->has_sha256)
        st = sm_manifest_write_sum(&row->sha256, row->path, &v->out.text, err);
    else
        v->n_without++;
    if (st == SM_OK && row->n_parts > 0)
        st = sm_catalog_parts(v->columns.catalog, row->id, export_part, v, err);
    return st;
}

static sm_status export_row(visitor *v, const sm_slide_row *row, sm_error *err)
{
    return catalog_row(&v->columns, row, v->args->format == EXPORT_JSONL, &v->out.text, err);
}

typedef struct output_place {
    visitor *v;
    const sm_slide_row *row;
    uint64_t n;
} output_place;

static sm_status export_output(void *arg, const sm_output_row *output, sm_error *err)
{
    output_place *place = arg;
    visitor *v = place->v;

    place->n++;
    if (v->args->format == EXPORT_SHA256SUM)
        return sm_manifest_write_sum(&output->sha256, output->path, &v->out.text, err);
    return catalog_row_output(place->row, output, v->args->format == EXPORT_JSONL, &v->out.text,
                              err);
}

static sm_status export_outputs(visitor *v, const sm_slide_row *row, sm_error *err)
{
    output_place place = {v, row, 0};
    const sm_status st =
        sm_catalog_outputs(v->columns.catalog, row->id, export_output, &place, err);

    v->n_without += st == SM_OK && place.n == 0;
    return st;
}

static void say_without(const visitor *v)
{
    char number[64], line[200];

    if (v->n_without == 0 || (v->args->what == WHAT_SOURCES && v->args->format != EXPORT_SHA256SUM))
        return;
    if (v->args->what == WHAT_OUTPUTS)
        (void)snprintf(line, sizeof line, "left out: %s without an output",
                       catalog_count(v->n_without, "slide", number));
    else
        (void)snprintf(line, sizeof line,
                       "left out: %s without a known SHA-256 (catalog verify learns them)",
                       catalog_count(v->n_without, "file", number));
    catalog_say(v->args, line);
}

int catalog_export(catalog_args *args)
{
    sm_error err = SM_ERROR_INIT;
    sm_catalog *catalog = NULL;
    visitor v = {.args = args, .visit = export_outputs};
    sm_status st = sm_catalog_open(args->operands[0], &catalog, &err);

    if (args->what == WHAT_SOURCES)
        v.visit = args->format == EXPORT_SHA256SUM ? export_sum : export_row;
    if (st == SM_OK)
        st = catalog_columns_of(catalog, &v.columns, &err);
    if (st == SM_OK)
        st = catalog_out_open(args->output, catalog, &v.out, &err);
    if (st == SM_OK && args->format == EXPORT_CSV)
        st = catalog_rows_head(&v.columns, args->what, &v.out.text, &err);
    if (st == SM_OK)
        st = visit_all(&v, &err);
    if (st == SM_OK)
        st = catalog_out_commit(&v.out, &err);
    catalog_out_discard(&v.out);
    catalog_columns_free(&v.columns);
    sm_catalog_close(&catalog);
    if (st != SM_OK)
        return catalog_fail(args, &err);
    say_without(&v);
    return 0;
}
