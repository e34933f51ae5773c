/* Figures of a report: one pass over each table, sums in memory of fixed size. Streaming is faster
 * than GROUP BY here: a report needs many groupings of the same million rows, and SQLite would sort
 * them for each. Owns nothing but the lists of the figures. */
#include "common/catalog_report.h"

#include <stdlib.h>
#include <string.h>

#include "common/catalog_db.h"
#include "common/path.h"
#include "common/text.h"

/* One row of table attempt. */
typedef struct attempt {
    sm_attempt_kind kind;
    sm_outcome_kind outcome;
    int64_t slide, brick, began_ns, ended_ns;
    uint64_t phase_ns[SM_PHASES], bytes_in, bytes_out;
} attempt;

typedef struct example_list {
    sm_buf rows; /* of sm_figure_example */
    struct {
        char name[32];
        unsigned n;
    } classes[SM_FIGURE_CLASSES];
    size_t n_classes;
} example_list;

static unsigned bucket_of(uint64_t value)
{
    const unsigned bucket = value < 2 ? 0 : 63 - (unsigned)__builtin_clzll(value);
    return bucket < SM_FIGURE_BUCKETS ? bucket : SM_FIGURE_BUCKETS - 1;
}

/* A text from outside, fit to show, cut at a character. */
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

/* ---- attempts ---- */

static void read_words(sm_query *query, attempt *a)
{
    const char *kind = sm_column_text(query, 0), *outcome = sm_column_text(query, 1);
    a->kind = SM_ATTEMPT_CONVERT;
    a->outcome = SM_OUTCOME_OK;
    while (kind != NULL && a->kind <= SM_ATTEMPT_CHECK_OUTPUT &&
           strcmp(kind, sm_attempt_kind_name(a->kind)) != 0)
        a->kind++;
    while (outcome != NULL && a->outcome <= SM_OUTCOME_LOST &&
           strcmp(outcome, sm_outcome_kind_name(a->outcome)) != 0)
        a->outcome++;
    if (kind == NULL || a->kind > SM_ATTEMPT_CHECK_OUTPUT)
        sm_column_is_bad(query, 0, "is no kind of an attempt");
    if (outcome == NULL || a->outcome > SM_OUTCOME_LOST)
        sm_column_is_bad(query, 1, "is no outcome of an attempt");
}

static sm_status read_attempt(sm_query *query, attempt *a, sm_error *err)
{
    read_words(query, a);
    a->slide = sm_column_int(query, 2, 1, INT64_MAX);
    a->brick = sm_column_int_or(query, 3, 1, (int64_t)query->catalog->n_bricks, 0);
    a->began_ns = sm_column_int(query, 4, 0, INT64_MAX);
    a->ended_ns = sm_column_int(query, 5, 0, INT64_MAX);
    a->bytes_in = (uint64_t)sm_column_int(query, 6, 0, INT64_MAX);
    a->bytes_out = (uint64_t)sm_column_int(query, 7, 0, INT64_MAX);
    for (int i = 0; i < SM_PHASES; i++)
        a->phase_ns[i] = (uint64_t)sm_column_int(query, 8 + i, 0, INT64_MAX);
    if (a->ended_ns < a->began_ns)
        sm_column_is_bad(query, 5, "is before the beginning");
    return sm_query_row_status(query, "attempt of slide", a->slide, err);
}

static uint32_t bin_of(const sm_figures *f, int64_t at_ns)
{
    if (at_ns <= f->began_ns)
        return 0;
    const uint64_t bin = ((uint64_t)at_ns - (uint64_t)f->began_ns) / f->bin_ns;
    return bin < f->n_bins ? (uint32_t)bin : f->n_bins - 1;
}

static void spread_bytes(sm_figures *f, const attempt *a)
{
    const uint32_t first = bin_of(f, a->began_ns), last = bin_of(f, a->ended_ns);
    double *brick = a->brick > 0 ? f->brick_bytes + (size_t)(a->brick - 1) * SM_FIGURE_BINS : NULL;
    for (uint32_t i = first; i <= last; i++) {
        const double from = (double)i * (double)f->bin_ns, to = from + (double)f->bin_ns;
        const double began = (double)(a->began_ns - f->began_ns);
        const double ended = (double)(a->ended_ns - f->began_ns);
        const double inside = (to < ended ? to : ended) - (from > began ? from : began);
        const double share = first == last ? 1 : inside / (ended - began);
        f->bins[i].bytes_in += share * (double)a->bytes_in;
        f->bins[i].bytes_out += share * (double)a->bytes_out;
        if (brick != NULL)
            brick[i] += share * (double)a->bytes_in;
    }
}

static void keep_if_slow(sm_figures *f, const attempt *a)
{
    sm_figure_attempt one = {.slide = a->slide,
                             .took_ns = (uint64_t)(a->ended_ns - a->began_ns),
                             .bytes_in = a->bytes_in,
                             .outcome = a->outcome};
    size_t i = f->n_slowest;
    if (i == SM_FIGURE_SLOWEST && one.took_ns <= f->slowest[i - 1].took_ns)
        return;
    for (int s = 0; s < SM_PHASES; s++) {
        if (a->phase_ns[s] > one.most_ns) {
            one.most = (sm_phase)s;
            one.most_ns = a->phase_ns[s];
        }
    }
    if (i < SM_FIGURE_SLOWEST)
        f->n_slowest++;
    else
        i--;
    for (; i > 0 && f->slowest[i - 1].took_ns < one.took_ns; i--)
        f->slowest[i] = f->slowest[i - 1];
    f->slowest[i] = one;
}

static void add_attempt(sm_figures *f, const attempt *a)
{
    sm_figure_bin *bin = &f->bins[bin_of(f, a->ended_ns)];
    f->outcomes[a->outcome]++;
    bin->n_failed += a->outcome == SM_OUTCOME_FAILED || a->outcome == SM_OUTCOME_QUARANTINED;
    if (a->kind != SM_ATTEMPT_CHECK_OUTPUT)
        spread_bytes(f, a);
    if (a->kind == SM_ATTEMPT_HASH)
        bin->n_hashed += a->outcome == SM_OUTCOME_OK;
    if (a->kind != SM_ATTEMPT_CONVERT)
        return;
    for (int s = 0; s < SM_PHASES; s++)
        f->phase_ns[s] += a->phase_ns[s];
    keep_if_slow(f, a);
    if (a->outcome == SM_OUTCOME_OK) {
        bin->n_converted++;
        f->took_ms[bucket_of((uint64_t)(a->ended_ns - a->began_ns) / 1000000)]++;
    }
}

/* Bins from the first beginning to the last end; but never less than a millisecond. */
static void lay_bins(const sm_catalog *catalog, sm_figures *f)
{
    const uint64_t least = 1000000;
    const int64_t began = catalog->meta.first_began_ns, ended = catalog->meta.last_ended_ns;
    const uint64_t span = ended > began ? (uint64_t)ended - (uint64_t)began : 0;
    f->began_ns = began;
    f->bin_ns = span / SM_FIGURE_BINS + 1;
    if (f->bin_ns < least)
        f->bin_ns = least;
    f->n_bins = (uint32_t)(span / f->bin_ns) + 1;
}

static sm_status read_attempts(sm_catalog *catalog, sm_figures *f, sm_error *err)
{
    static const char SELECT[] =
        "SELECT kind, outcome, slide, brick, began_ns, ended_ns, bytes_in, bytes_out, open_ns, "
        "copy_in_ns, hash_ns, mill_ns, fsync_ns, verify_ns, publish_ns, other_ns FROM attempt";
    sm_query query = {0};
    f->n_bricks = catalog->n_bricks;
    f->brick_bytes = sm_calloc(f->n_bricks + 1, SM_FIGURE_BINS * sizeof(double));
    if (f->brick_bytes == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "out of memory for the figures of the catalog");
    if (catalog->meta.n_attempts == 0)
        return SM_OK;
    lay_bins(catalog, f);
    sm_status st = sm_query_new(catalog, SELECT, &query, err);
    for (bool more = true; st == SM_OK;) {
        attempt one;
        st = sm_query_next(&query, &more, err);
        if (st != SM_OK || !more)
            break;
        st = read_attempt(&query, &one, err);
        if (st == SM_OK)
            add_attempt(f, &one);
    }
    sm_query_end(&query);
    return st;
}

static sm_status name_slowest(sm_catalog *catalog, sm_figures *f, sm_error *err)
{
    sm_status st = SM_OK;
    for (size_t i = 0; st == SM_OK && i < f->n_slowest; i++) {
        sm_slide_row row;
        bool found = false;
        st = sm_catalog_get(catalog, f->slowest[i].slide, &row, &found, err);
        if (st == SM_OK && found)
            st = cut_text(row.path, f->slowest[i].path, sizeof(f->slowest[i].path), err);
    }
    return st;
}

/* ---- slides and outputs ---- */

/* Room for one more of this class? */
static bool wants_example(example_list *list, const char *name)
{
    size_t i = 0;
    while (i < list->n_classes && strcmp(list->classes[i].name, name) != 0)
        i++;
    if (i == SM_FIGURE_CLASSES)
        return false;
    if (i == list->n_classes) {
        memcpy(list->classes[i].name, name, sizeof(list->classes[i].name));
        list->n_classes++;
    }
    return list->classes[i].n++ < SM_FIGURE_EXAMPLES;
}

static sm_status add_example(sm_query *query, example_list *list, sm_error *err)
{
    sm_figure_example one = {{0}, {0}, {0}};
    const char *name = sm_column_text(query, 2);
    sm_status st =
        cut_text(name != NULL ? name : "unknown", one.error_class, sizeof(one.error_class), err);
    if (st != SM_OK || !wants_example(list, one.error_class))
        return st;
    st = cut_text(sm_column_text(query, 3), one.path, sizeof(one.path), err);
    if (st == SM_OK)
        st = cut_text(sm_column_text(query, 4), one.error, sizeof(one.error), err);
    return st == SM_OK ? sm_buf_append(&list->rows, &one, sizeof(one), err) : st;
}

static sm_status read_slides(sm_catalog *catalog, sm_figures *f, sm_error *err)
{
    /* state first: the texts of the many that went well are never looked at */
    static const char SELECT[] = "SELECT size_bytes, state IN ('failed', 'quarantined'), "
                                 "error_class, path, error, id FROM slide";
    sm_query query = {0};
    example_list list = {0};
    sm_status st = sm_query_new(catalog, SELECT, &query, err);
    for (bool more = true; st == SM_OK;) {
        st = sm_query_next(&query, &more, err);
        if (st != SM_OK || !more)
            break;
        const int64_t size = sm_column_int_or(&query, 0, 0, INT64_MAX, -1);
        if (size >= 0)
            f->slide_bytes[bucket_of((uint64_t)size)]++;
        if (sm_column_int(&query, 1, 0, 1) != 0)
            st = add_example(&query, &list, err);
        if (st == SM_OK)
            st = sm_query_row_status(&query, "slide", sm_column_int(&query, 5, 1, INT64_MAX), err);
    }
    sm_query_end(&query);
    f->examples = (sm_figure_example *)(void *)list.rows.data;
    f->n_examples = list.rows.len / sizeof(*f->examples);
    return st;
}

static sm_status read_outputs(sm_catalog *catalog, sm_figures *f, sm_error *err)
{
    static const char SELECT[] = "SELECT size_bytes, slide FROM output";
    sm_query query = {0};
    sm_status st = sm_query_new(catalog, SELECT, &query, err);
    for (bool more = true; st == SM_OK;) {
        st = sm_query_next(&query, &more, err);
        if (st != SM_OK || !more)
            break;
        f->output_bytes[bucket_of((uint64_t)sm_column_int(&query, 0, 0, INT64_MAX))]++;
        st = sm_query_row_status(&query, "output", sm_column_int(&query, 1, 1, INT64_MAX), err);
    }
    sm_query_end(&query);
    return st;
}

static int by_class(const void *a, const void *b)
{
    const sm_figure_example *one = a, *other = b;
    const int order = strcmp(one->error_class, other->error_class);
    return order != 0 ? order : strcmp(one->path, other->path);
}

sm_status sm_catalog_figures(sm_catalog *catalog, sm_figures *figures, sm_error *err)
{
    *figures = (sm_figures){0};
    sm_status st = read_attempts(catalog, figures, err);
    if (st == SM_OK)
        st = name_slowest(catalog, figures, err);
    if (st == SM_OK)
        st = read_slides(catalog, figures, err);
    if (st == SM_OK)
        st = read_outputs(catalog, figures, err);
    if (st == SM_OK && figures->n_examples > 0)
        qsort(figures->examples, figures->n_examples, sizeof(*figures->examples), by_class);
    if (st != SM_OK)
        sm_figures_clear(figures);
    return st;
}

void sm_figures_clear(sm_figures *figures)
{
    free(figures->brick_bytes);
    free(figures->examples);
    figures->brick_bytes = NULL;
    figures->examples = NULL;
    figures->n_bricks = figures->n_examples = 0;
}

/* ---- samples ---- */

static sm_status last_output(sm_catalog *catalog, int64_t *last, sm_error *err)
{
    static const char SELECT[] = "SELECT max(slide) FROM output";
    sm_query query = {0};
    bool more = false;
    sm_status st = sm_query_use(catalog, SELECT, &query, err);
    if (st == SM_OK)
        st = sm_query_next(&query, &more, err);
    *last = st == SM_OK && more ? sm_column_int_or(&query, 0, 1, INT64_MAX, 0) : 0;
    if (st == SM_OK)
        sm_query_reset(&query);
    return st;
}

/* The first good output of a slide from `from` on; its path is copied. */
static sm_status next_output(sm_catalog *catalog, int64_t from, sm_buf *path, int64_t *slide,
                             sm_error *err)
{
    static const char SELECT[] = "SELECT slide, path FROM output WHERE slide >= ? AND "
                                 "state = 'good' ORDER BY slide LIMIT 1";
    sm_query query = {0};
    bool found = false;
    sm_error why = SM_ERROR_INIT;
    *slide = 0;
    sm_status st = sm_query_use(catalog, SELECT, &query, err);
    if (st != SM_OK)
        return st;
    sm_query_int(&query, from);
    st = sm_query_next(&query, &found, err);
    if (st != SM_OK || !found)
        return st;
    *slide = sm_column_int(&query, 0, 1, INT64_MAX);
    const char *text = sm_column_text(&query, 1);
    if (text == NULL || sm_path_check(text, &why) != SM_OK)
        sm_column_is_bad(&query, 1, "is no clean path");
    st = sm_query_row_status(&query, "output", *slide, err);
    path->len = 0;
    if (st == SM_OK && text != NULL)
        st = sm_buf_append(path, text, strlen(text) + 1, err);
    sm_query_reset(&query);
    return st;
}

sm_status sm_catalog_sample_outputs(sm_catalog *catalog, uint32_t n, sm_output_visit visit,
                                    void *arg, sm_error *err)
{
    int64_t last = 0, after = 0;
    sm_buf path = {0};
    sm_status st = last_output(catalog, &last, err);
    for (uint32_t i = 0; st == SM_OK && i < n && after < last; i++) {
        const int64_t even = (int64_t)((double)last / n * i) + 1;
        sm_output_row row = {.state = SM_OUTPUT_GOOD};
        st = next_output(catalog, even > after ? even : after + 1, &path, &row.slide, err);
        if (st != SM_OK || row.slide == 0)
            break;
        after = row.slide;
        row.path = (const char *)path.data;
        st = visit(arg, &row, err);
    }
    sm_buf_free(&path);
    return st;
}
