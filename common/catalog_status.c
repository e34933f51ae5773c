/* A catalog in numbers, out of the counts that stand in it.
 * Owns nothing but the lists of a summary. */
#include "common/catalog_db.h"

#include <stdlib.h>
#include <string.h>

#include "common/pace.h"
#include "common/text.h"

/* One row of table tally. */
typedef struct tally_row {
    sm_slide_state state;
    int64_t brick, example;
    const char *error_class;
    uint64_t n, bytes, n_missing, n_unchecked;
} tally_row;

/* Lists while they grow. */
typedef struct summary_lists {
    sm_buf classes;       /* of sm_status_class */
    sm_buf class_example; /* of int64_t */
} summary_lists;

static sm_status read_tally(sm_query *query, tally_row *row, sm_error *err)
{
    const char *state = sm_column_text(query, 0);
    *row = (tally_row){.state = sm_slide_state_parse(state != NULL ? state : "")};
    if (row->state == SM_SLIDE_STATES)
        sm_column_is_bad(query, 0, "is no state of a slide");
    row->brick = sm_column_int_or(query, 1, 1, (int64_t)query->catalog->n_bricks, 0);
    row->error_class = sm_column_text(query, 2);
    row->n = (uint64_t)sm_column_int(query, 3, 0, INT64_MAX);
    row->bytes = (uint64_t)sm_column_int(query, 4, 0, INT64_MAX);
    row->n_missing = (uint64_t)sm_column_int(query, 5, 0, INT64_MAX);
    row->n_unchecked = (uint64_t)sm_column_int(query, 6, 0, INT64_MAX);
    row->example = sm_column_int(query, 7, 1, INT64_MAX);
    return sm_query_row_status(query, "tally", sm_column_int(query, 8, 1, INT64_MAX), err);
}

/* A text from outside, fit to print, cut at a character. */
static sm_status cut_text(const char *text, char *out, size_t cap, sm_error *err)
{
    sm_buf clean = {0};
    const sm_status st = sm_text_clean(text != NULL ? text : "", true, &clean, err);
    if (st == SM_OK) {
        size_t len = clean.len - 1 < cap ? clean.len - 1 : cap - 1;
        while (len > 0 && len < clean.len - 1 && (clean.data[len] & 0xC0) == 0x80)
            len--;
        memcpy(out, clean.data, len);
        out[len] = '\0';
    }
    sm_buf_free(&clean);
    return st;
}

static sm_status add_class(summary_lists *lists, const tally_row *row, sm_error *err)
{
    sm_status_class *classes = (sm_status_class *)(void *)lists->classes.data;
    int64_t *examples = (int64_t *)(void *)lists->class_example.data;
    const size_t n = lists->classes.len / sizeof(*classes);
    sm_status_class made = {.n = row->n};
    const char *name = row->error_class != NULL ? row->error_class : "unknown";
    sm_status st = cut_text(name, made.name, sizeof(made.name), err);
    if (st != SM_OK)
        return st;
    for (size_t i = 0; i < n; i++) {
        if (strcmp(classes[i].name, made.name) == 0) {
            classes[i].n += row->n;
            examples[i] = row->example < examples[i] ? row->example : examples[i];
            return SM_OK;
        }
    }
    st = sm_buf_append(&lists->classes, &made, sizeof(made), err);
    if (st == SM_OK)
        st = sm_buf_append(&lists->class_example, &row->example, sizeof(row->example), err);
    return st;
}

static sm_status add_row(sm_catalog_summary *summary, summary_lists *lists, const tally_row *row,
                         sm_error *err)
{
    const bool failed = row->state == SM_SLIDE_FAILED || row->state == SM_SLIDE_QUARANTINED;
    summary->n += row->n;
    summary->bytes += row->bytes;
    summary->n_missing += row->n_missing;
    summary->n_unchecked += row->n_unchecked;
    summary->states[row->state].n += row->n;
    summary->states[row->state].bytes += row->bytes;
    if (row->brick > 0) {
        sm_status_brick *brick = &summary->bricks[row->brick - 1];
        brick->n += row->n;
        brick->bytes += row->bytes;
        brick->n_done += row->state == SM_SLIDE_DONE ? row->n : 0;
        brick->n_failed += failed ? row->n : 0;
        brick->n_missing += row->n_missing;
    }
    return failed ? add_class(lists, row, err) : SM_OK;
}

static sm_status start_bricks(const sm_catalog *catalog, sm_catalog_summary *summary, sm_error *err)
{
    sm_status st = SM_OK;
    summary->bricks = sm_calloc(catalog->n_bricks, sizeof(*summary->bricks));
    if (summary->bricks == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "out of memory for the summary of the catalog");
    summary->n_bricks = catalog->n_bricks;
    for (size_t i = 0; st == SM_OK && i < catalog->n_bricks; i++) {
        sm_status_brick *brick = &summary->bricks[i];
        st = cut_text(catalog->bricks[i].name, brick->name, sizeof(brick->name), err);
        brick->read_bytes = catalog->bricks[i].read_bytes;
        brick->read_ns = catalog->bricks[i].read_ns;
        brick->flow = catalog->bricks[i].flow;
    }
    return st;
}

static void add_works(const sm_catalog *catalog, sm_catalog_summary *summary)
{
    for (size_t i = 0; i < catalog->n_works; i++) {
        const sm_work_entry *entry = &catalog->works[i];
        sm_status_work *sum = &summary->work[entry->kind];
        sum->attempts += entry->attempts;
        sum->bytes_in += entry->bytes_in;
        sum->bytes_out += entry->bytes_out;
        sum->cpu_ns += entry->cpu_ns;
        for (int s = 0; s < SM_STAGES; s++) {
            sum->stage_ns[s] += entry->stage_ns[s];
            if (entry->brick > 0)
                summary->bricks[entry->brick - 1].stage_ns[s] += entry->stage_ns[s];
        }
    }
}

static sm_status judge_bricks(sm_catalog_summary *summary, sm_error *err)
{
    const size_t n = summary->n_bricks;
    sm_pace *paces = sm_calloc(n + 1, sizeof(*paces));
    double *scratch = sm_calloc(n + 1, sizeof(*scratch));
    const bool room = paces != NULL && scratch != NULL;
    for (size_t i = 0; room && i < n; i++) {
        const sm_status_brick *b = &summary->bricks[i];
        paces[i] = (sm_pace){.n = b->flow.reads,
                             .bytes = b->flow.read_bytes,
                             .ns = b->flow.read_ns,
                             .wall_bytes = b->read_bytes,
                             .wall_ns = b->read_ns};
    }
    if (room)
        sm_pace_judge(paces, n, scratch);
    for (size_t i = 0; room && i < n; i++) {
        summary->bricks[i].read_rate = paces[i].rate;
        summary->bricks[i].rate_measured = paces[i].measured;
        summary->bricks[i].of_median = paces[i].of_median;
    }
    free(scratch);
    free(paces);
    return room ? SM_OK : sm_fail(err, SM_ERR_NOMEM, "out of memory for the rates of bricks");
}

static sm_status read_tallies(sm_catalog *catalog, sm_catalog_summary *summary,
                              summary_lists *lists, sm_error *err)
{
    static const char SELECT[] = "SELECT state, brick, error_class, n, bytes, n_missing, "
                                 "n_unchecked, example, id FROM tally";
    sm_query query = {0};
    sm_status st = sm_query_new(catalog, SELECT, &query, err);
    for (bool more = true; st == SM_OK;) {
        tally_row row;
        st = sm_query_next(&query, &more, err);
        if (st != SM_OK || !more)
            break;
        st = read_tally(&query, &row, err);
        if (st == SM_OK)
            st = add_row(summary, lists, &row, err);
    }
    sm_query_end(&query);
    return st;
}

static sm_status read_example(sm_catalog *catalog, int64_t id, sm_status_class *one, sm_error *err)
{
    static const char SELECT[] = "SELECT path, error FROM slide WHERE id = ?";
    sm_query query = {0};
    bool found = false;
    sm_status st = sm_query_use(catalog, SELECT, &query, err);
    if (st != SM_OK)
        return st;
    sm_query_int(&query, id);
    st = sm_query_next(&query, &found, err);
    if (st == SM_OK && found) {
        const char *path = sm_column_text(&query, 0), *error = sm_column_text(&query, 1);
        st = sm_query_row_status(&query, "slide", id, err);
        if (st == SM_OK)
            st = cut_text(path, one->example_path, sizeof(one->example_path), err);
        if (st == SM_OK)
            st = cut_text(error, one->example, sizeof(one->example), err);
    }
    sm_query_reset(&query);
    return st;
}

static int most_first(const void *a, const void *b)
{
    const sm_status_class *one = a, *other = b;
    if (one->n != other->n)
        return one->n > other->n ? -1 : 1;
    return strcmp(one->name, other->name);
}

static sm_status take_classes(sm_catalog *catalog, sm_catalog_summary *summary,
                              summary_lists *lists, sm_error *err)
{
    const int64_t *examples = (const int64_t *)(const void *)lists->class_example.data;
    summary->classes = (sm_status_class *)(void *)lists->classes.data;
    summary->n_classes = lists->classes.len / sizeof(*summary->classes);
    lists->classes = (sm_buf){0};
    sm_status st = SM_OK;
    for (size_t i = 0; st == SM_OK && i < summary->n_classes; i++)
        st = read_example(catalog, examples[i], &summary->classes[i], err);
    if (summary->n_classes > 0)
        qsort(summary->classes, summary->n_classes, sizeof(*summary->classes), most_first);
    return st;
}

static sm_status count_runs(sm_catalog *catalog, uint64_t *n, sm_error *err)
{
    static const char SELECT[] = "SELECT count(*) FROM run";
    sm_query query = {0};
    bool more = false;
    sm_status st = sm_query_use(catalog, SELECT, &query, err);
    if (st == SM_OK)
        st = sm_query_next(&query, &more, err);
    if (st == SM_OK && more)
        *n = (uint64_t)sm_column_int(&query, 0, 0, INT64_MAX);
    if (st == SM_OK)
        sm_query_reset(&query);
    return st;
}

sm_status sm_catalog_summarize(sm_catalog *catalog, sm_catalog_summary *summary, sm_error *err)
{
    const sm_catalog_meta *meta = &catalog->meta;
    summary_lists lists = {0};
    *summary = (sm_catalog_summary){
        .generation = catalog->number,
        .plan = meta->plan,
        .n_shards = meta->n_shards,
        .n_outputs = meta->n_outputs,
        .output_bytes = meta->output_bytes,
        .n_attempts = meta->n_attempts,
        .first_began_ns = meta->first_began_ns,
        .last_ended_ns = meta->last_ended_ns,
    };
    sm_status st = sm_tally_store(catalog, err); /* of a snapshot they are right */
    if (st == SM_OK)
        st = start_bricks(catalog, summary, err);
    if (st == SM_OK) {
        add_works(catalog, summary);
        st = judge_bricks(summary, err);
    }
    if (st == SM_OK)
        st = read_tallies(catalog, summary, &lists, err);
    if (st == SM_OK)
        st = take_classes(catalog, summary, &lists, err);
    if (st == SM_OK)
        st = count_runs(catalog, &summary->n_runs, err);
    sm_buf_free(&lists.classes);
    sm_buf_free(&lists.class_example);
    if (st != SM_OK)
        sm_catalog_summary_clear(summary);
    return st;
}

void sm_catalog_summary_clear(sm_catalog_summary *summary)
{
    free(summary->classes);
    free(summary->bricks);
    summary->classes = NULL;
    summary->bricks = NULL;
    summary->n_classes = summary->n_bricks = 0;
}
