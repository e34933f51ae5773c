/* Charts of what `slidemill bench bricks` and `bench ingest` measured. Keeps nothing. */
#include "bench/report_lines.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "bench/report_svg.h"

#define POINTS_MOST 16
#define BARS_MOST 40

/* ---- reading ---- */

cJSON *sm_result_of_lines(const char *text, size_t len)
{
    const char *end = text + len;
    cJSON *head = NULL, *summary = NULL;
    for (const char *at = text; at < end;) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        stop = stop != NULL ? stop : end;
        cJSON *line = cJSON_ParseWithLength(at, (size_t)(stop - at));
        const char *id = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(line, "id"));
        at = stop + 1;
        if (head == NULL && cJSON_IsObject(line) && cJSON_HasObjectItem(line, "what")) {
            head = line;
            summary = cJSON_AddObjectToObject(head, "summary");
        } else if (head == NULL || !cJSON_IsObject(line) || summary == NULL) {
            cJSON_Delete(line);
            cJSON_Delete(head);
            return NULL;
        } else if (id == NULL || strcmp(id, "result") == 0 ||
                   !cJSON_AddItemToObject(summary, id, line)) {
            cJSON_Delete(line);
        }
    }
    return head;
}

static double number_of(const cJSON *object, const char *name)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
    return cJSON_IsNumber(item) && isfinite(item->valuedouble) ? item->valuedouble : (double)NAN;
}

static double median_of(const cJSON *row, const char *name)
{
    return number_of(cJSON_GetObjectItemCaseSensitive(row, name), "median");
}

static bool text_is(const cJSON *row, const char *name, const char *text)
{
    const char *has = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(row, name));
    return has != NULL && strcmp(has, text) == 0;
}

/* ---- lines ---- */

/* y over x of several series, filled in any order. */
typedef struct curves {
    double x[POINTS_MOST], y[SM_CHART_SERIES][POINTS_MOST];
    char names[SM_CHART_SERIES][64];
    size_t n_x, n_series;
} curves;

static size_t place_of(curves *c, double x)
{
    size_t at = 0;
    while (at < c->n_x && c->x[at] < x)
        at++;
    if (at < c->n_x && !(c->x[at] > x))
        return at;
    if (c->n_x == POINTS_MOST)
        return POINTS_MOST;
    for (size_t k = c->n_x++; k > at; k--) {
        c->x[k] = c->x[k - 1];
        for (size_t s = 0; s < SM_CHART_SERIES; s++)
            c->y[s][k] = c->y[s][k - 1];
    }
    c->x[at] = x;
    for (size_t s = 0; s < SM_CHART_SERIES; s++)
        c->y[s][at] = (double)NAN;
    return at;
}

static void add_point(curves *c, const char *name, double x, double y)
{
    size_t s = 0;
    while (s < c->n_series && strcmp(c->names[s], name) != 0)
        s++;
    if (s == SM_CHART_SERIES || !isfinite(x) || !isfinite(y))
        return;
    const size_t at = place_of(c, x);
    if (at == POINTS_MOST)
        return;
    if (s == c->n_series)
        (void)snprintf(c->names[c->n_series++], sizeof c->names[0], "%s", name);
    c->y[s][at] = y;
}

static void put_curves(sm_page *page, const curves *c, sm_chart chart)
{
    sm_series series[SM_CHART_SERIES];
    char id[24];
    if (c->n_series == 0)
        return;
    for (size_t s = 0; s < c->n_series; s++)
        series[s] = (sm_series){c->names[s], c->y[s]};
    (void)snprintf(id, sizeof id, "bench-%u", ++page->n_ids);
    chart.id = id;
    chart.x_unit = SM_UNIT_COUNT;
    sm_chart_lines(page, &chart, c->x, c->n_x, series, c->n_series);
}

/* ---- bricks ---- */

static void put_streams(sm_page *page, const cJSON *summary, const char *test, const char *cache,
                        const char *caption)
{
    curves c = {.n_x = 0};
    char name[64];
    const cJSON *row;
    cJSON_ArrayForEach(row, summary)
    {
        const double number = number_of(row, "number");
        if (!text_is(row, "test", test) || !text_is(row, "cache", cache) ||
            !text_is(row, "backend", "io_uring") || number_of(row, "block_bytes") < 4 << 20 ||
            cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(row, "direct")) ||
            cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(row, "together")) || !isfinite(number))
            continue;
        (void)snprintf(name, sizeof name, "brick %.0f", number);
        add_point(&c, name, number_of(row, "streams"), 1e6 * median_of(row, "mb_per_s"));
    }
    put_curves(page, &c,
               (sm_chart){.caption = caption,
                          .description = "Median bytes a second of each brick by the number of "
                                         "streams on it, bricks one after the other.",
                          .x_name = "streams",
                          .y_name = "rate",
                          .y_unit = SM_UNIT_RATE});
}

/* ---- ingest ---- */

static void put_ranks(sm_page *page, const cJSON *summary)
{
    curves c = {.n_x = 0};
    char name[64];
    const cJSON *row;
    cJSON_ArrayForEach(row, summary)
    {
        const double threads = number_of(row, "threads");
        if (!text_is(row, "program", "ingest") || !isfinite(threads))
            continue;
        (void)snprintf(name, sizeof name, "%.0f thread%s a rank", threads, threads > 1 ? "s" : "");
        add_point(&c, name, number_of(row, "ranks"), median_of(row, "mpx_per_s"));
    }
    put_curves(page, &c,
               (sm_chart){.caption = "Ingest, speed over ranks",
                          .description = "Median millions of pixels a second of the whole "
                                         "pipeline, by ranks and by threads of each.",
                          .x_name = "ranks",
                          .y_name = "speed",
                          .y_unit = SM_UNIT_MPX_RATE});
}

static const cJSON *best_of(const cJSON *summary)
{
    const cJSON *best = NULL, *row;
    cJSON_ArrayForEach(row, summary)
    {
        if (text_is(row, "program", "ingest") &&
            median_of(row, "mpx_per_s") > (best != NULL ? median_of(best, "mpx_per_s") : 0))
            best = row;
    }
    return best;
}

static void put_stages(sm_page *page, const cJSON *best)
{
    sm_bar bars[BARS_MOST];
    char id[24];
    size_t n = 0;
    const cJSON *item;
    cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(best, "stages"))
    {
        const cJSON *name = cJSON_GetObjectItemCaseSensitive(item, "stage");
        const cJSON *spread = cJSON_GetObjectItemCaseSensitive(item, "thread_s");
        const bool works = text_is(item, "group", "work");
        if ((!works && !text_is(item, "group", "waits")) || !cJSON_IsString(name) ||
            n == BARS_MOST || !isfinite(number_of(spread, "median")))
            continue;
        bars[n++] = (sm_bar){.label = name->valuestring,
                             .value = number_of(spread, "median"),
                             .least = number_of(spread, "min"),
                             .most = number_of(spread, "max"),
                             .colour = works ? 0 : 7};
    }
    if (n == 0)
        return;
    (void)snprintf(id, sizeof id, "bench-%u", ++page->n_ids);
    sm_chart_bars(page,
                  &(sm_chart){.id = id,
                              .caption = "Where the time of the fastest went",
                              .description = "Seconds of all threads and slides by stage: work "
                                             "first, then waiting in grey.",
                              .x_name = "stage",
                              .y_name = "median",
                              .y_unit = SM_UNIT_SECONDS},
                  bars, n);
}

static void put_ingest(sm_page *page, const cJSON *summary)
{
    const cJSON *best = best_of(summary);
    const double share = median_of(best, "of_limit");
    put_ranks(page, summary);
    if (best == NULL)
        return;
    if (isfinite(share)) {
        sm_page_put(page, "<p>Fastest: ");
        sm_page_text(page, best->string);
        sm_page_put(page,
                    ", %.0f%% of what is possible: the smaller of the bare codec calls and "
                    "of fio through the same mount.</p>\n",
                    100 * share);
    }
    put_stages(page, best);
}

void sm_result_put_charts(sm_page *page, const cJSON *json)
{
    const cJSON *summary = cJSON_GetObjectItemCaseSensitive(json, "summary");
    if (text_is(json, "what", "bricks")) {
        put_streams(page, summary, "read", "cold", "Bricks, cold reading by streams");
        put_streams(page, summary, "write", "none", "Bricks, writing by streams");
    } else if (text_is(json, "what", "ingest")) {
        put_ingest(page, summary);
    }
}
