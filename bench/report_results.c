/* Results of benchmarks: who took how long (peers), and speed over threads (scaling). Owns the JSON
 * of all files while the sections are written. */
#include "bench/report_results.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/report_lines.h"
#include "bench/report_svg.h"
#include "common/source.h"

#define FILE_MOST_BYTES ((uint64_t)64 << 20)
#define PROGRAMS_MOST 64
#define POINTS_MOST 32

/* ---- reading ---- */

static sm_status read_json(const char *path, cJSON **json, sm_error *err)
{
    sm_source *source = NULL;
    sm_buf text = {0};
    sm_status st = sm_source_open(path, &source, err);
    const uint64_t len = st == SM_OK ? sm_source_size(source) : 0;
    if (st == SM_OK && len > FILE_MOST_BYTES)
        st = sm_fail(err, SM_ERR_LIMIT, "%s: too long for a benchmark's result", path);
    if (st == SM_OK)
        st = sm_buf_reserve(&text, (size_t)len + 1, err);
    if (st == SM_OK)
        st = sm_source_pread(source, text.data, (size_t)len, 0, err);
    if (st == SM_OK) {
        *json = cJSON_ParseWithLength((const char *)text.data, (size_t)len);
        if (!cJSON_HasObjectItem(*json, "summary")) { /* perhaps one object a line */
            cJSON_Delete(*json);
            *json = sm_result_of_lines((const char *)text.data, (size_t)len);
        }
        if (!cJSON_IsObject(cJSON_GetObjectItemCaseSensitive(*json, "summary")))
            st = sm_fail(err, SM_ERR_FORMAT,
                         "%s: not a benchmark's result (a JSON object with \"summary\", or JSON "
                         "lines of slidemill bench)",
                         path);
    }
    sm_buf_free(&text);
    sm_source_close(&source);
    return st;
}

static double number_of(const cJSON *object, const char *name)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
    return cJSON_IsNumber(item) && isfinite(item->valuedouble) ? item->valuedouble : (double)NAN;
}

static const char *text_of(const cJSON *object, const char *name)
{
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, name));
    return text != NULL ? text : "";
}

/* Median, min or max of one metric of one program; also a bare number. NAN: not measured. */
static double metric(const cJSON *program, const char *name, const char *which)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(program, name);
    if (cJSON_IsNumber(item))
        return number_of(program, name);
    return number_of(item, which);
}

/* ---- one file ---- */

static void put_bars(sm_page *page, const cJSON *summary)
{
    sm_bar bars[PROGRAMS_MOST];
    char id[24];
    size_t n = 0;
    const cJSON *program;
    cJSON_ArrayForEach(program, summary)
    {
        const double wall = metric(program, "wall_s", "median");
        if (!isfinite(wall) || wall < 0 || n == PROGRAMS_MOST)
            continue;
        const bool limit = strncmp(program->string, "limit", 5) == 0 ||
                           strncmp(program->string, "codec limit", 11) == 0;
        const bool ours = strncmp(program->string, "slidemill", 9) == 0 ||
                          strncmp(program->string, "ingest", 6) == 0;
        bars[n++] = (sm_bar){.label = program->string,
                             .value = wall,
                             .least = metric(program, "wall_s", "min"),
                             .most = metric(program, "wall_s", "max"),
                             .colour = ours    ? 0
                                       : limit ? 7
                                               : 1};
    }
    if (n == 0)
        return;
    (void)snprintf(id, sizeof(id), "peers-%u", ++page->n_ids);
    sm_chart_bars(page,
                  &(sm_chart){.id = id,
                              .caption = "Wall time, less is better",
                              .description = "Median wall time of each program on the same input, "
                                             "with the smallest and largest of the runs.",
                              .x_name = "program",
                              .y_name = "median",
                              .y_unit = SM_UNIT_SECONDS},
                  bars, n);
}

static void put_number(sm_page *page, double value, const char *unit)
{
    if (isfinite(value))
        sm_page_put(page, "<td class=\"n\">%.4g%s</td>", value, unit);
    else
        sm_page_put(page, "<td></td>");
}

static void put_peers(sm_page *page, const cJSON *summary, double px)
{
    const cJSON *program;
    sm_page_put(page, "<div class=\"wide\"><table><thead><tr><th scope=\"col\">program</th>"
                      "<th scope=\"col\" class=\"n\">wall, median</th>"
                      "<th scope=\"col\" class=\"n\">least</th><th scope=\"col\" class=\"n\">most"
                      "</th><th scope=\"col\" class=\"n\">CPU</th><th scope=\"col\" class=\"n\">"
                      "Mpx/s</th><th scope=\"col\" class=\"n\">peak memory</th>"
                      "<th scope=\"col\" class=\"n\">output</th></tr></thead><tbody>\n");
    cJSON_ArrayForEach(program, summary)
    {
        const double wall = metric(program, "wall_s", "median");
        const char *why = text_of(program, "why");
        sm_page_put(page, "<tr><td>");
        sm_page_text(page, program->string);
        sm_page_put(page, "</td>");
        if (why[0] != '\0') { /* not installed, or failed */
            sm_page_put(page, "<td colspan=\"7\">");
            sm_page_text(page, why);
            sm_page_put(page, "</td></tr>\n");
            continue;
        }
        put_number(page, wall, " s");
        put_number(page, metric(program, "wall_s", "min"), " s");
        put_number(page, metric(program, "wall_s", "max"), " s");
        put_number(page, metric(program, "cpu_s", "median"), " s");
        put_number(page, wall > 0 ? px / wall / 1e6 : (double)NAN, "");
        put_number(page, metric(program, "rss_mib", "max"), " MiB");
        put_number(page, metric(program, "bytes", "median") / 1e6, " MB");
        sm_page_put(page, "</tr>\n");
    }
    sm_page_put(page, "</tbody></table></div>\n");
}

static double pixels_of(const cJSON *json)
{
    const cJSON *input = cJSON_GetObjectItemCaseSensitive(json, "input");
    const double mpx = number_of(cJSON_GetObjectItemCaseSensitive(json, "corpus"), "mpx");
    return isfinite(mpx) ? 1e6 * mpx : number_of(input, "width_px") * number_of(input, "height_px");
}

static void put_file(sm_page *page, const char *path, const cJSON *json)
{
    const cJSON *machine = cJSON_GetObjectItemCaseSensitive(json, "machine");
    const cJSON *summary = cJSON_GetObjectItemCaseSensitive(json, "summary");
    const char *slash = strrchr(path, '/');
    const double threads = number_of(json, "threads"), cpus = number_of(machine, "cpus");
    sm_page_put(page, "<h3>");
    sm_page_text(page, slash != NULL ? slash + 1 : path);
    sm_page_put(page, "</h3><p class=\"soft\">");
    sm_page_text(page, text_of(json, "what"));
    sm_page_put(page, ", ");
    sm_page_text(page, text_of(json, "date"));
    sm_page_put(page, ", commit ");
    sm_page_text(page, text_of(cJSON_HasObjectItem(json, "commit") ? json : machine, "commit"));
    sm_page_put(page, ", ");
    sm_page_text(page, text_of(machine, "cpu"));
    if (isfinite(cpus))
        sm_page_put(page, ", %.0f CPUs", cpus);
    if (isfinite(threads))
        sm_page_put(page, ", %.0f threads", threads);
    if (isfinite(pixels_of(json)))
        sm_page_put(page, ", input of %.0f Mpx", pixels_of(json) / 1e6);
    sm_page_put(page, "</p>\n");
    sm_result_put_charts(page, json);
    put_bars(page, summary);
    if (strcmp(text_of(json, "what"), "bricks") != 0) /* they have rates, no programs */
        put_peers(page, summary, pixels_of(json));
}

/* ---- scaling ---- */

/* The same program over the files: threads[i] is that of column i, ascending and distinct. */
typedef struct scaling {
    double threads[POINTS_MOST];
    const cJSON *files[POINTS_MOST];
    size_t n;
    double speeds[SM_CHART_SERIES][POINTS_MOST];
    sm_series series[SM_CHART_SERIES];
    size_t n_series;
} scaling;

/* Files that measured the same as `like`, one for each number of threads (the first given). */
static void find_alike(scaling *s, cJSON *const *jsons, size_t n, const cJSON *like)
{
    s->n = 0;
    for (size_t i = 0; i < n && s->n < POINTS_MOST; i++) {
        const double threads = number_of(jsons[i], "threads");
        size_t at = 0;
        if (!(threads > 0) || pixels_of(jsons[i]) != pixels_of(like) ||
            strcmp(text_of(jsons[i], "what"), text_of(like, "what")) != 0)
            continue;
        while (at < s->n && s->threads[at] < threads)
            at++;
        if (at < s->n && s->threads[at] == threads)
            continue;
        for (size_t k = s->n; k > at; k--) {
            s->threads[k] = s->threads[k - 1];
            s->files[k] = s->files[k - 1];
        }
        s->threads[at] = threads;
        s->files[at] = jsons[i];
        s->n++;
    }
}

static void find_series(scaling *s, const cJSON *like)
{
    const cJSON *program;
    s->n_series = 0;
    cJSON_ArrayForEach(program, cJSON_GetObjectItemCaseSensitive(like, "summary"))
    {
        size_t known = 0;
        if (s->n_series == SM_CHART_SERIES)
            break;
        double *speeds = s->speeds[s->n_series];
        for (size_t i = 0; i < s->n; i++) {
            const cJSON *summary = cJSON_GetObjectItemCaseSensitive(s->files[i], "summary");
            const cJSON *same = cJSON_GetObjectItemCaseSensitive(summary, program->string);
            const double wall = metric(same, "wall_s", "median");
            speeds[i] = wall > 0 ? pixels_of(like) / wall / 1e6 : (double)NAN;
            known += isfinite(speeds[i]) ? 1 : 0;
        }
        if (known > 1)
            s->series[s->n_series++] = (sm_series){program->string, speeds};
    }
}

static void put_scaling(sm_page *page, cJSON *const *jsons, size_t n)
{
    scaling s;
    char id[24], caption[128];
    for (size_t i = 0; i < n; i++) {
        find_alike(&s, jsons, n, jsons[i]);
        if (s.n < 2 || !(pixels_of(jsons[i]) > 0))
            continue;
        bool first = true; /* each group once, at its first file */
        for (size_t k = 0; k < i; k++)
            first = first && (pixels_of(jsons[k]) != pixels_of(jsons[i]) ||
                              strcmp(text_of(jsons[k], "what"), text_of(jsons[i], "what")) != 0);
        find_series(&s, jsons[i]);
        if (!first || s.n_series == 0)
            continue;
        (void)snprintf(id, sizeof(id), "scaling-%u", ++page->n_ids);
        (void)snprintf(caption, sizeof(caption), "Speed over threads, input of %.0f Mpx",
                       pixels_of(jsons[i]) / 1e6);
        sm_chart_lines(page,
                       &(sm_chart){.id = id,
                                   .caption = caption,
                                   .description = "Millions of input pixels a second of each "
                                                  "program, by its number of threads.",
                                   .x_name = "threads",
                                   .y_name = "speed",
                                   .x_unit = SM_UNIT_COUNT,
                                   .y_unit = SM_UNIT_MPX_RATE},
                       s.threads, s.n, s.series, s.n_series);
    }
}

sm_status sm_results_put(sm_page *page, const char *const *paths, size_t n, sm_error *err)
{
    sm_status st = SM_OK;
    cJSON **jsons = sm_calloc(n + 1, sizeof(cJSON *));
    if (jsons == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "no memory for results");
    for (size_t i = 0; st == SM_OK && i < n; i++)
        st = read_json(paths[i], &jsons[i], err);
    if (st == SM_OK) {
        sm_page_section(page, "results", "Benchmarks: scaling and peers");
        put_scaling(page, jsons, n);
        for (size_t i = 0; i < n; i++)
            put_file(page, paths[i], jsons[i]);
        sm_page_end(page);
    }
    for (size_t i = 0; i < n; i++)
        cJSON_Delete(jsons[i]);
    free(jsons);
    return st;
}
