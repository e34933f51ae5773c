/* Charts of a report as SVG. Owns nothing. */
#include "bench/report_svg.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "common/progress.h"

/* With fewer points than this each is a dot: a line alone would hide how few there are. */
#define FEW_POINTS 12

enum { WIDTH = 880, HEIGHT = 280, LEFT = 92, RIGHT = 24, TOP = 26, BOTTOM = 46 };

/* A linear axis from 0 (or `from`) to `to` with ticks every `step`. */
typedef struct axis {
    double to, step;
    double first_px, last_px;
} axis;

static double place(const axis *a, double value)
{
    return a->first_px + value / a->to * (a->last_px - a->first_px);
}

/* ---- numbers ---- */

static const char *count_text(double value, char out[32])
{
    static const char *const UNITS[] = {"", " k", " M", " G"};
    size_t unit = 0;
    if (value < 99999.5 && value == floor(value)) {
        (void)snprintf(out, 32, "%.0f", value);
        return out;
    }
    for (; value >= 999.5 && unit + 1 < SM_COUNT(UNITS); unit++)
        value /= 1000;
    (void)snprintf(out, 32, "%.3g%s", value, UNITS[unit]);
    return out;
}

static const char *seconds_text(double s, char out[32])
{
    if (s == 0)
        (void)snprintf(out, 32, "0");
    else if (s < 1)
        (void)snprintf(out, 32, "%.3g ms", s * 1e3);
    else if (s < 120)
        (void)snprintf(out, 32, "%.3g s", s);
    else if (s < 7200)
        (void)snprintf(out, 32, "%.3g min", s / 60);
    else if (s < 172800)
        (void)snprintf(out, 32, "%.3g h", s / 3600);
    else
        (void)snprintf(out, 32, "%.3g d", s / 86400);
    return out;
}

const char *sm_unit_text(sm_unit unit, double value, char out[32])
{
    char bytes[16];
    switch (unit) {
    case SM_UNIT_COUNT:
        return count_text(value, out);
    case SM_UNIT_BYTES:
        (void)snprintf(out, 32, "%s", sm_human_bytes((uint64_t)value, bytes));
        return out;
    case SM_UNIT_RATE:
        (void)snprintf(out, 32, "%s/s", sm_human_bytes((uint64_t)value, bytes));
        return out;
    case SM_UNIT_SECONDS:
        return seconds_text(value, out);
    case SM_UNIT_MPX_RATE:
        (void)snprintf(out, 32, value < 1000 ? "%.3g Mpx/s" : "%.0f Mpx/s", value);
        return out;
    }
    out[0] = '\0';
    return out;
}

/* ---- axes ---- */

static double nice_step(double rough)
{
    const double power = pow(10, floor(log10(rough)));
    const double digit = rough / power;
    return power * (digit <= 1 ? 1 : digit <= 2 ? 2 : digit <= 5 ? 5 : 10);
}

static double nice_time_step(double rough)
{
    static const double STEPS[] = {1,     2,     5,     10,    15,     30,    60,
                                   120,   300,   600,   900,   1800,   3600,  7200,
                                   10800, 21600, 43200, 86400, 172800, 604800};
    for (size_t i = 0; rough > 0.5 && i < SM_COUNT(STEPS); i++) {
        if (STEPS[i] >= rough)
            return STEPS[i];
    }
    return nice_step(rough);
}

/* Up to the next tick, so that no line touches the edge. */
static axis axis_for(sm_unit unit, double most, unsigned ticks, bool exact)
{
    axis a = {.to = most > 0 && isfinite(most) ? most : 1};
    const double rough = a.to / ticks;
    a.step = unit == SM_UNIT_SECONDS ? nice_time_step(rough) : nice_step(rough);
    if (unit == SM_UNIT_COUNT && a.step < 1)
        a.step = 1;
    if (!exact)
        a.to = ceil(a.to / a.step - 1e-9) * a.step;
    return a;
}

static void put_y_axis(sm_page *page, const sm_chart *chart, const axis *y)
{
    char text[32];
    for (unsigned i = 0; i * y->step <= y->to * 1.0001; i++) {
        const double at = place(y, i * y->step);
        sm_page_put(page, "<line class=\"grid\" x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/>",
                    LEFT, WIDTH - RIGHT, at, at);
        sm_page_put(page, "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%s</text>\n", LEFT - 8,
                    at + 4, sm_unit_text(chart->y_unit, i * y->step, text));
    }
    sm_page_put(page, "<text class=\"unit\" x=\"4\" y=\"13\">");
    sm_page_text(page, chart->y_name);
    sm_page_put(page, "</text>\n");
}

static void put_x_name(sm_page *page, const sm_chart *chart)
{
    sm_page_put(page, "<text class=\"unit\" x=\"%d\" y=\"%d\" text-anchor=\"end\">", WIDTH - RIGHT,
                HEIGHT - 6);
    sm_page_text(page, chart->x_name);
    sm_page_put(page, "</text>\n");
}

static void put_x_axis(sm_page *page, const sm_chart *chart, const axis *x)
{
    char text[32];
    sm_page_put(page, "<line class=\"axis\" x1=\"%d\" x2=\"%d\" y1=\"%d\" y2=\"%d\"/>", LEFT,
                WIDTH - RIGHT, HEIGHT - BOTTOM, HEIGHT - BOTTOM);
    for (unsigned i = 0; i * x->step <= x->to * 1.0001; i++)
        sm_page_put(page, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%s</text>\n",
                    place(x, i * x->step), HEIGHT - BOTTOM + 17,
                    sm_unit_text(chart->x_unit, i * x->step, text));
    put_x_name(page, chart);
}

/* ---- frame ---- */

static void begin_figure(sm_page *page, const sm_chart *chart)
{
    sm_page_put(page, "<figure id=\"%s\"><figcaption>", chart->id);
    sm_page_text(page, chart->caption);
    sm_page_put(page, "</figcaption>\n");
}

static void begin_svg(sm_page *page, const sm_chart *chart, int height)
{
    sm_page_put(page,
                "<svg class=\"chart\" role=\"img\" tabindex=\"0\" viewBox=\"0 0 %d %d\" "
                "aria-labelledby=\"%s-t %s-d\"><title id=\"%s-t\">",
                WIDTH, height, chart->id, chart->id, chart->id);
    sm_page_text(page, chart->caption);
    sm_page_put(page, "</title><desc id=\"%s-d\">", chart->id);
    sm_page_text(page, chart->description);
    sm_page_put(page, "</desc>\n");
}

static void begin_table(sm_page *page, const char *first)
{
    sm_page_put(page, "</svg>\n<details><summary>Numbers</summary><div class=\"wide\"><table>"
                      "<thead><tr><th scope=\"col\">");
    sm_page_text(page, first);
    sm_page_put(page, "</th>");
}

static void end_figure(sm_page *page)
{
    sm_page_put(page, "</tbody></table></div></details></figure>\n");
}

static void put_column(sm_page *page, const char *name)
{
    sm_page_put(page, "<th scope=\"col\" class=\"n\">");
    sm_page_text(page, name);
    sm_page_put(page, "</th>");
}

static void put_legend(sm_page *page, const char *const *names, size_t n, bool lines)
{
    if (n < 2)
        return;
    sm_page_put(page, "<ul class=\"legend\">");
    for (size_t i = 0; i < n; i++) {
        if (lines)
            sm_page_put(page,
                        "<li><svg viewBox=\"0 0 28 10\" aria-hidden=\"true\"><line "
                        "class=\"line s%zu\" x1=\"0\" x2=\"28\" y1=\"5\" y2=\"5\"/></svg>",
                        i);
        else
            sm_page_put(page,
                        "<li><svg viewBox=\"0 0 28 10\" aria-hidden=\"true\"><rect "
                        "class=\"f%zu\" width=\"28\" height=\"10\"/></svg>",
                        i);
        sm_page_text(page, names[i]);
        sm_page_put(page, "</li>");
    }
    sm_page_put(page, "</ul>\n");
}

/* A point's words twice: for pointers without script, and for the script and screen readers. */
static void begin_point(sm_page *page, const char *words)
{
    sm_page_put(page, "<g class=\"pt\" tabindex=\"-1\" aria-label=\"");
    sm_page_text(page, words);
    sm_page_put(page, "\"><title>");
    sm_page_text(page, words);
    sm_page_put(page, "</title>");
}

/* ---- lines ---- */

static double largest(const sm_series *series, size_t n_series, size_t n)
{
    double most = 0;
    for (size_t s = 0; s < n_series; s++) {
        for (size_t i = 0; i < n; i++)
            most = series[s].y[i] > most ? series[s].y[i] : most;
    }
    return most;
}

static void put_line(sm_page *page, const double *x, const double *y, size_t n, const axis axes[2],
                     size_t number)
{
    bool drawing = false;
    sm_page_put(page, "<path class=\"line s%zu\" d=\"", number);
    for (size_t i = 0; i < n; i++) {
        if (isfinite(y[i]))
            sm_page_put(page, "%c%.1f %.1f", drawing ? 'L' : 'M', place(&axes[0], x[i]),
                        place(&axes[1], y[i]));
        drawing = isfinite(y[i]);
    }
    sm_page_put(page, "\"/>\n");
}

/* "3 min; a: 12; b: 13" */
static void point_words(const sm_chart *chart, double x, size_t i, const sm_series *series,
                        size_t n_series, char out[1024])
{
    char value[32];
    size_t len = (size_t)snprintf(out, 1024, "%s", sm_unit_text(chart->x_unit, x, value));
    for (size_t s = 0; s < n_series; s++) {
        const double y = series[s].y[i];
        if (isfinite(y) && len < 900)
            len += (size_t)snprintf(out + len, 1024 - len, "; %.60s: %s", series[s].name,
                                    sm_unit_text(chart->y_unit, y, value));
    }
}

static void put_points(sm_page *page, const sm_chart *chart, const double *x, size_t n,
                       const sm_series *series, size_t n_series, const axis axes[2])
{
    char words[1024];
    const double half =
        n > 1 ? (place(&axes[0], x[n - 1]) - place(&axes[0], x[0])) / (double)n / 2 : 12;
    for (size_t i = 0; i < n; i++) {
        const double at = place(&axes[0], x[i]);
        point_words(chart, x[i], i, series, n_series, words);
        begin_point(page, words);
        sm_page_put(page, "<rect class=\"hit\" x=\"%.1f\" y=\"%d\" width=\"%.1f\" height=\"%d\"/>",
                    at - half, TOP, 2 * half, HEIGHT - TOP - BOTTOM);
        for (size_t s = 0; s < n_series; s++) {
            if (isfinite(series[s].y[i]))
                sm_page_put(page, "<circle class=\"%s f%zu\" cx=\"%.1f\" cy=\"%.1f\" r=\"4\"/>",
                            n < FEW_POINTS ? "on" : "dot", s, at, place(&axes[1], series[s].y[i]));
        }
        sm_page_put(page, "</g>\n");
    }
}

static void put_line_table(sm_page *page, const sm_chart *chart, const double *x, size_t n,
                           const sm_series *series, size_t n_series)
{
    char text[32];
    begin_table(page, chart->x_name);
    for (size_t s = 0; s < n_series; s++)
        put_column(page, series[s].name);
    sm_page_put(page, "</tr></thead><tbody>\n");
    for (size_t i = 0; i < n; i++) {
        sm_page_put(page, "<tr><td>%s</td>", sm_unit_text(chart->x_unit, x[i], text));
        for (size_t s = 0; s < n_series; s++) {
            const double y = series[s].y[i];
            sm_page_put(page, "<td class=\"n\">%s</td>",
                        isfinite(y) ? sm_unit_text(chart->y_unit, y, text) : "");
        }
        sm_page_put(page, "</tr>\n");
    }
    end_figure(page);
}

void sm_chart_lines(sm_page *page, const sm_chart *chart, const double *x, size_t n,
                    const sm_series *series, size_t n_series)
{
    const char *names[SM_CHART_SERIES];
    n_series = n_series < SM_CHART_SERIES ? n_series : SM_CHART_SERIES;
    if (n == 0)
        return;
    axis axes[2] = {axis_for(chart->x_unit, x[n - 1], 8, true),
                    axis_for(chart->y_unit, largest(series, n_series, n), 5, false)};
    axes[0].first_px = LEFT;
    axes[0].last_px = WIDTH - RIGHT - 12;
    axes[1].first_px = HEIGHT - BOTTOM;
    axes[1].last_px = TOP;
    for (size_t s = 0; s < n_series; s++)
        names[s] = series[s].name;
    begin_figure(page, chart);
    put_legend(page, names, n_series, true);
    begin_svg(page, chart, HEIGHT);
    put_y_axis(page, chart, &axes[1]);
    put_x_axis(page, chart, &axes[0]);
    for (size_t s = 0; s < n_series; s++)
        put_line(page, x, series[s].y, n, axes, s);
    put_points(page, chart, x, n, series, n_series, axes);
    put_line_table(page, chart, x, n, series, n_series);
}

/* ---- bars ---- */

enum { ROW_PX = 26, LABEL_PX = 250, VALUE_PX = 96 };

/* The end of a long label tells more than its beginning: bricks differ in their last folder. */
static void put_label(sm_page *page, const char *label, double y)
{
    enum { MOST = 36 };
    const size_t len = strlen(label);
    const char *from = label;
    if (len > MOST) {
        from = label + len - MOST + 1;
        while ((*from & 0xC0) == 0x80)
            from++;
    }
    sm_page_put(page, "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%s", LABEL_PX - 8, y,
                from != label ? "&#8230;" : "");
    sm_page_text(page, from);
    sm_page_put(page, "</text>");
}

static void put_bar(sm_page *page, const sm_chart *chart, const sm_bar *bar, size_t row,
                    const axis *a)
{
    char value[32], least[32], most[32], words[400];
    const double y = 4 + (double)row * ROW_PX, end = place(a, bar->value);
    const bool whisker = bar->most > bar->least;
    double text_at = end;
    (void)sm_unit_text(chart->y_unit, bar->value, value);
    (void)snprintf(
        words, sizeof(words), "%.250s: %s%s%s%s%s", bar->label, value, whisker ? "; from " : "",
        whisker ? sm_unit_text(chart->y_unit, bar->least, least) : "", whisker ? " to " : "",
        whisker ? sm_unit_text(chart->y_unit, bar->most, most) : "");
    begin_point(page, words);
    sm_page_put(page, "<rect class=\"hit\" x=\"0\" y=\"%.1f\" width=\"%d\" height=\"%d\"/>", y,
                WIDTH, ROW_PX);
    put_label(page, bar->label, y + 17);
    sm_page_put(page,
                "<rect class=\"f%u\" x=\"%d\" y=\"%.1f\" width=\"%.1f\" height=\"%d\" rx=\"2\"/>",
                bar->colour % 8, LABEL_PX, y + 4, fmax(end - LABEL_PX, 1), ROW_PX - 8);
    if (whisker) {
        text_at = place(a, bar->most);
        sm_page_put(page,
                    "<path d=\"M%.1f %.1fH%.1fM%.1f %.1fv8M%.1f %.1fv8\" stroke=\"var(--fg)\" "
                    "stroke-width=\"1.5\"/>",
                    place(a, bar->least), y + 13, text_at, place(a, bar->least), y + 9, text_at,
                    y + 9);
    }
    sm_page_put(page, "<text x=\"%.1f\" y=\"%.1f\">%s</text></g>\n", fmax(text_at, end) + 6, y + 17,
                value);
}

static void put_bar_table(sm_page *page, const sm_chart *chart, const sm_bar *bars, size_t n)
{
    char text[32];
    begin_table(page, chart->x_name);
    put_column(page, chart->y_name);
    put_column(page, "least");
    put_column(page, "most");
    sm_page_put(page, "</tr></thead><tbody>\n");
    for (size_t i = 0; i < n; i++) {
        const bool whisker = bars[i].most > bars[i].least;
        sm_page_put(page, "<tr><td>");
        sm_page_text(page, bars[i].label);
        sm_page_put(page, "</td><td class=\"n\">%s</td>",
                    sm_unit_text(chart->y_unit, bars[i].value, text));
        sm_page_put(page, "<td class=\"n\">%s</td>",
                    whisker ? sm_unit_text(chart->y_unit, bars[i].least, text) : "");
        sm_page_put(page, "<td class=\"n\">%s</td></tr>\n",
                    whisker ? sm_unit_text(chart->y_unit, bars[i].most, text) : "");
    }
    end_figure(page);
}

void sm_chart_bars(sm_page *page, const sm_chart *chart, const sm_bar *bars, size_t n)
{
    double most = 0;
    for (size_t i = 0; i < n; i++)
        most = fmax(most, fmax(bars[i].value, bars[i].most));
    if (n == 0)
        return;
    axis a = axis_for(chart->y_unit, most, 5, true);
    a.first_px = LABEL_PX;
    a.last_px = WIDTH - VALUE_PX;
    begin_figure(page, chart);
    begin_svg(page, chart, 8 + (int)n * ROW_PX);
    for (size_t i = 0; i < n; i++)
        put_bar(page, chart, &bars[i], i, &a);
    put_bar_table(page, chart, bars, n);
}

/* ---- histograms ---- */

/* What a histogram is drawn from. */
typedef struct histogram {
    const sm_chart *chart;
    double scale;
    const uint64_t *const *counts;
    const char *const *names;
    size_t n_series, first, end; /* buckets that are shown */
    axis y;
} histogram;

static double bucket_from(const histogram *h, size_t bucket)
{
    return h->scale * ldexp(1, (int)bucket);
}

static void bucket_words(const histogram *h, size_t bucket, char out[96])
{
    char from[32], to[32];
    (void)snprintf(out, 96, "%s to %s",
                   sm_unit_text(h->chart->x_unit, bucket_from(h, bucket), from),
                   sm_unit_text(h->chart->x_unit, bucket_from(h, bucket + 1), to));
}

/* Buckets with something in them, and one beside a lone one so that it is no wall. */
static bool find_range(histogram *h, size_t n_buckets, double *most)
{
    *most = 0;
    h->first = n_buckets;
    h->end = 0;
    for (size_t i = 0; i < n_buckets; i++) {
        for (size_t s = 0; s < h->n_series; s++) {
            if (h->counts[s][i] == 0)
                continue;
            h->first = i < h->first ? i : h->first;
            h->end = i + 1;
            *most = fmax(*most, (double)h->counts[s][i]);
        }
    }
    if (h->end == 0)
        return false;
    while (h->end - h->first < 6) {
        h->first -= h->first > 0;
        h->end += h->end < n_buckets;
    }
    return true;
}

static void put_bucket(sm_page *page, const histogram *h, size_t bucket, double width)
{
    char range[96], words[400];
    const double at = LEFT + (double)(bucket - h->first) * width;
    const double bar = (width - 4) / (double)h->n_series;
    bucket_words(h, bucket, range);
    size_t len = (size_t)snprintf(words, sizeof(words), "%s", range);
    for (size_t s = 0; s < h->n_series; s++)
        len += (size_t)snprintf(words + len, sizeof(words) - len, "; %.40s: %" PRIu64, h->names[s],
                                h->counts[s][bucket]);
    begin_point(page, words);
    sm_page_put(page, "<rect class=\"hit\" x=\"%.1f\" y=\"%d\" width=\"%.1f\" height=\"%d\"/>", at,
                TOP, width, HEIGHT - TOP - BOTTOM);
    for (size_t s = 0; s < h->n_series; s++) {
        const double count = (double)h->counts[s][bucket];
        const double high = h->y.first_px - place(&h->y, count);
        if (count > 0) /* a bucket with one of a million is still to be seen */
            sm_page_put(page,
                        "<rect class=\"f%zu\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" "
                        "height=\"%.1f\"/>",
                        s, at + 2 + (double)s * bar, h->y.first_px - fmax(high, 1), bar,
                        fmax(high, 1));
    }
    sm_page_put(page, "</g>\n");
}

static void put_edges(sm_page *page, const histogram *h, double width)
{
    char text[32];
    const size_t n = h->end - h->first;
    const size_t every = n / 10 + 1; /* labels that do not touch */
    sm_page_put(page, "<line class=\"axis\" x1=\"%d\" x2=\"%d\" y1=\"%d\" y2=\"%d\"/>", LEFT,
                WIDTH - RIGHT, HEIGHT - BOTTOM, HEIGHT - BOTTOM);
    for (size_t i = 0; i <= n; i += every)
        sm_page_put(page, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%s</text>\n",
                    LEFT + (double)i * width, HEIGHT - BOTTOM + 17,
                    sm_unit_text(h->chart->x_unit, bucket_from(h, h->first + i), text));
    put_x_name(page, h->chart);
}

static void put_histogram_table(sm_page *page, const histogram *h)
{
    char range[96];
    begin_table(page, h->chart->x_name);
    for (size_t s = 0; s < h->n_series; s++)
        put_column(page, h->names[s]);
    sm_page_put(page, "</tr></thead><tbody>\n");
    for (size_t i = h->first; i < h->end; i++) {
        bucket_words(h, i, range);
        sm_page_put(page, "<tr><td>%s</td>", range);
        for (size_t s = 0; s < h->n_series; s++)
            sm_page_put(page, "<td class=\"n\">%" PRIu64 "</td>", h->counts[s][i]);
        sm_page_put(page, "</tr>\n");
    }
    end_figure(page);
}

void sm_chart_histogram(sm_page *page, const sm_chart *chart, double scale,
                        const uint64_t *const *counts, const char *const *names, size_t n_series,
                        size_t n_buckets)
{
    histogram h = {
        .chart = chart, .scale = scale, .counts = counts, .names = names, .n_series = n_series};
    double most;
    if (!find_range(&h, n_buckets, &most))
        return;
    h.y = axis_for(SM_UNIT_COUNT, most, 5, false);
    h.y.first_px = HEIGHT - BOTTOM;
    h.y.last_px = TOP;
    const double width = (double)(WIDTH - RIGHT - LEFT - 12) / (double)(h.end - h.first);
    begin_figure(page, chart);
    put_legend(page, names, n_series, false);
    begin_svg(page, chart, HEIGHT);
    put_y_axis(page, chart, &h.y);
    put_edges(page, &h, width);
    for (size_t i = h.first; i < h.end; i++)
        put_bucket(page, &h, i, width);
    put_histogram_table(page, &h);
}
