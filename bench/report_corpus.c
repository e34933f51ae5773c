/* What a catalog says, section by section. Owns the summary and figures while they are told. */
#include "bench/report_corpus.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench/report_svg.h"
#include "common/pace.h"
#include "common/progress.h"

#define BRICK_ROWS 200
#define IMBALANCE 1.3 /* of the median shard's bytes: said */

typedef struct corpus {
    sm_page *page;
    sm_catalog *catalog;
    sm_catalog_summary sum;
    sm_figures fig;
    double x_s[SM_FIGURE_BINS]; /* middle of each bin, after the beginning */
} corpus;

static const char *time_text(int64_t at_ns, char out[32])
{
    const time_t at = (time_t)(at_ns / 1000000000);
    struct tm parts;
    if (gmtime_r(&at, &parts) == NULL || strftime(out, 32, "%Y-%m-%d %H:%M UTC", &parts) == 0)
        (void)snprintf(out, 32, "?");
    return out;
}

/* Digits in groups of three. */
static const char *grouped(uint64_t n, char out[32])
{
    char digits[24];
    const int len = snprintf(digits, sizeof(digits), "%" PRIu64, n);
    size_t to = 0;
    for (int i = 0; i < len; i++) {
        if (i > 0 && (len - i) % 3 == 0)
            out[to++] = ',';
        out[to++] = digits[i];
    }
    out[to] = '\0';
    return out;
}

/* ---- summary ---- */

static void put_card(sm_page *page, const char *value, const char *name)
{
    sm_page_put(page, "<li><b>");
    sm_page_text(page, value);
    sm_page_put(page, "</b><span>");
    sm_page_text(page, name);
    sm_page_put(page, "</span></li>\n");
}

static void put_cards(const corpus *c)
{
    const sm_catalog_summary *s = &c->sum;
    char text[32], bytes[16], name[64];
    sm_page_put(c->page, "<ul class=\"cards\">\n");
    (void)snprintf(name, sizeof(name), "slides, %s", sm_human_bytes(s->bytes, bytes));
    put_card(c->page, grouped(s->n, text), name);
    for (unsigned i = 0; i < SM_SLIDE_STATES; i++) {
        if (s->states[i].n == 0)
            continue;
        (void)snprintf(name, sizeof(name), "%s (%.3g%%)", sm_slide_state_name((sm_slide_state)i),
                       100.0 * (double)s->states[i].n / (double)(s->n > 0 ? s->n : 1));
        put_card(c->page, grouped(s->states[i].n, text), name);
    }
    if (s->n_missing > 0)
        put_card(c->page, grouped(s->n_missing, text), "missing at the last scan");
    (void)snprintf(name, sizeof(name), "of verified pyramids, %s files",
                   grouped(s->n_outputs, text));
    put_card(c->page, sm_human_bytes(s->output_bytes, bytes), name);
    if (c->fig.n_bins > 0) {
        const uint64_t span = (uint64_t)(s->last_ended_ns - s->first_began_ns);
        char took[16];
        put_card(c->page, sm_human_ns(span, took), "from first beginning to last end");
    }
    sm_page_put(c->page, "</ul>\n");
}

static void put_left(const corpus *c)
{
    const sm_catalog_summary *s = &c->sum;
    const uint64_t left =
        s->states[SM_SLIDE_NEW].n + s->states[SM_SLIDE_PLANNED].n + s->states[SM_SLIDE_LEASED].n;
    const uint64_t left_bytes = s->states[SM_SLIDE_NEW].bytes + s->states[SM_SLIDE_PLANNED].bytes +
                                s->states[SM_SLIDE_LEASED].bytes;
    const double span_s = (double)(s->last_ended_ns - s->first_began_ns) / 1e9;
    double bytes = 0;
    char n[32], size[16], rate[32], took[32];
    for (uint32_t i = 0; i < c->fig.n_bins; i++)
        bytes += c->fig.bins[i].bytes_in;
    if (left == 0 || bytes <= 0 || span_s <= 0)
        return;
    sm_page_put(c->page,
                "<p>Still to do: %s slides, %s. At the mean rate so far (%s) that takes %s.</p>\n",
                grouped(left, n), sm_human_bytes(left_bytes, size),
                sm_unit_text(SM_UNIT_RATE, bytes / span_s, rate),
                sm_unit_text(SM_UNIT_SECONDS, (double)left_bytes / (bytes / span_s), took));
}

static void put_summary(const corpus *c)
{
    char at[32];
    sm_page_section(c->page, "summary", "Summary");
    sm_page_put(c->page, "<p class=\"soft\">Sources in ");
    sm_page_text(c->page, sm_catalog_root(c->catalog));
    sm_page_put(c->page, ". Generation %" PRIu64 " of the catalog", c->sum.generation);
    if (c->fig.n_bins > 0)
        sm_page_put(c->page, "; attempts since %s", time_text(c->sum.first_began_ns, at));
    sm_page_put(c->page, ".</p>\n");
    put_cards(c);
    put_left(c);
    sm_page_end(c->page);
}

/* ---- over time ---- */

static void put_progress(const corpus *c)
{
    /* one more than bins: sums begin at nothing */
    double converted[SM_FIGURE_BINS + 1] = {0}, hashed[SM_FIGURE_BINS + 1] = {0};
    double failed[SM_FIGURE_BINS + 1] = {0}, x_end[SM_FIGURE_BINS + 1] = {0};
    double in[SM_FIGURE_BINS], out[SM_FIGURE_BINS];
    const double bin_s = (double)c->fig.bin_ns / 1e9;
    double sums[3] = {0};
    for (uint32_t i = 0; i < c->fig.n_bins; i++) {
        const sm_figure_bin *bin = &c->fig.bins[i];
        converted[i + 1] = sums[0] += (double)bin->n_converted;
        failed[i + 1] = sums[1] += (double)bin->n_failed;
        hashed[i + 1] = sums[2] += (double)bin->n_hashed;
        in[i] = bin->bytes_in / bin_s;
        out[i] = bin->bytes_out / bin_s;
        x_end[i + 1] = (i + 1) * bin_s;
    }
    const sm_series counts[] = {{"converted", converted}, {"failed", failed}, {"hashed", hashed}};
    const sm_series rates[] = {{"read from sources", in}, {"written as pyramids", out}};
    sm_chart_lines(c->page,
                   &(sm_chart){.id = "progress",
                               .caption = "Progress: attempts that ended, in all",
                               .description = "How many conversions went well, how many attempts "
                                              "failed, and how many slides were hashed only, added "
                                              "up since the first beginning.",
                               .x_name = "time since the first beginning",
                               .y_name = "attempts",
                               .x_unit = SM_UNIT_SECONDS,
                               .y_unit = SM_UNIT_COUNT},
                   x_end, c->fig.n_bins + 1, counts, sums[2] > 0 ? 3 : 2);
    sm_chart_lines(c->page,
                   &(sm_chart){.id = "throughput",
                               .caption = "Throughput of the corpus",
                               .description =
                                   "Bytes read and written a second, all ranks together. "
                                   "The bytes of an attempt are spread evenly over it.",
                               .x_name = "time since the first beginning",
                               .y_name = "bytes a second",
                               .x_unit = SM_UNIT_SECONDS,
                               .y_unit = SM_UNIT_RATE},
                   c->x_s, c->fig.n_bins, rates, 2);
}

static int by_double(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* More bricks than colours: the slowest, the median and the fastest of each moment. */
static sm_status put_band(const corpus *c, const sm_chart *chart, sm_error *err)
{
    double low[SM_FIGURE_BINS], middle[SM_FIGURE_BINS], high[SM_FIGURE_BINS];
    double *rates = sm_calloc(c->fig.n_bricks, sizeof(*rates));
    if (rates == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "no memory for the rates of bricks");
    for (uint32_t i = 0; i < c->fig.n_bins; i++) {
        for (size_t b = 0; b < c->fig.n_bricks; b++)
            rates[b] = c->fig.brick_bytes[b * SM_FIGURE_BINS + i] / ((double)c->fig.bin_ns / 1e9);
        qsort(rates, c->fig.n_bricks, sizeof(*rates), by_double);
        low[i] = rates[0];
        middle[i] = rates[c->fig.n_bricks / 2];
        high[i] = rates[c->fig.n_bricks - 1];
    }
    const sm_series series[] = {
        {"fastest brick", high}, {"median brick", middle}, {"slowest brick", low}};
    sm_chart_lines(c->page, chart, c->x_s, c->fig.n_bins, series, SM_COUNT(series));
    free(rates);
    return SM_OK;
}

static sm_status put_brick_lines(const corpus *c, sm_error *err)
{
    const sm_chart chart = {.id = "bricks-time",
                            .caption = "Throughput of each brick",
                            .description =
                                "Bytes read a second from each brick by all ranks together.",
                            .x_name = "time since the first beginning",
                            .y_name = "bytes a second",
                            .x_unit = SM_UNIT_SECONDS,
                            .y_unit = SM_UNIT_RATE};
    static double rates[SM_CHART_SERIES][SM_FIGURE_BINS];
    sm_series series[SM_CHART_SERIES];
    if (c->fig.n_bricks > SM_CHART_SERIES)
        return put_band(c, &chart, err);
    for (size_t b = 0; b < c->fig.n_bricks; b++) {
        for (uint32_t i = 0; i < c->fig.n_bins; i++)
            rates[b][i] =
                c->fig.brick_bytes[b * SM_FIGURE_BINS + i] / ((double)c->fig.bin_ns / 1e9);
        series[b] = (sm_series){c->sum.bricks[b].name, rates[b]};
    }
    if (c->fig.n_bricks > 0)
        sm_chart_lines(c->page, &chart, c->x_s, c->fig.n_bins, series, c->fig.n_bricks);
    return SM_OK;
}

/* ---- bricks ---- */

static void put_slow_bricks(const corpus *c)
{
    unsigned named = 0, known = 0;
    for (size_t b = 0; b < c->sum.n_bricks && named < 8; b++) {
        const sm_status_brick *brick = &c->sum.bricks[b];
        char text[32];
        known += brick->rate_measured;
        if (brick->of_median >= 1)
            continue;
        sm_page_put(c->page, "<p class=\"warn\">Slow: brick %zu of %zu, ", b + 1, c->sum.n_bricks);
        sm_page_text(c->page, brick->name);
        sm_page_put(c->page, ", reads at %.0f%% of the median (%s a stream).</p>\n",
                    100 * brick->of_median, sm_unit_text(SM_UNIT_RATE, brick->read_rate, text));
        named++;
    }
    if (named == 0 && known > 0 && c->sum.n_bricks > 1)
        sm_page_put(c->page, "<p>No brick reads at less than %.0f%% of the median.</p>\n",
                    100 * SM_SLOW_BRICK);
}

static void put_brick_row(sm_page *page, const sm_status_brick *brick)
{
    const sm_brick_flow *flow = &brick->flow;
    char text[32], bytes[16];
    sm_page_put(page, "<tr><td class=\"path\">");
    sm_page_text(page, brick->name);
    sm_page_put(page, "</td><td class=\"n\">%s</td>", grouped(brick->n, text));
    sm_page_put(page, "<td class=\"n\">%s</td>", sm_human_bytes(brick->bytes, bytes));
    sm_page_put(page, "<td class=\"n\">%s</td>", grouped(brick->n_done, text));
    sm_page_put(page, "<td class=\"n\">%s</td>", grouped(brick->n_failed, text));
    sm_page_put(page, "<td class=\"n\">%s</td>", sm_human_bytes(brick->read_bytes, bytes));
    sm_page_put(page, "<td class=\"n\">%s%s</td>",
                brick->read_rate > 0 && !brick->rate_measured ? "at least " : "",
                brick->read_rate > 0 ? sm_unit_text(SM_UNIT_RATE, brick->read_rate, text) : "");
    const double wrote =
        flow->write_ns > 0 ? (double)flow->write_bytes * 1e9 / (double)flow->write_ns : 0;
    sm_page_put(page, "<td class=\"n\">%s%s</td></tr>\n", wrote > 0 ? "at least " : "",
                wrote > 0 ? sm_unit_text(SM_UNIT_RATE, wrote, text) : "");
}

static void put_brick_table(const corpus *c)
{
    const size_t n = c->sum.n_bricks < BRICK_ROWS ? c->sum.n_bricks : BRICK_ROWS;
    sm_page_put(c->page,
                "<div class=\"wide\"><table><thead><tr><th scope=\"col\">brick</th>"
                "<th scope=\"col\" class=\"n\">slides</th><th scope=\"col\" class=\"n\">bytes</th>"
                "<th scope=\"col\" class=\"n\">done</th><th scope=\"col\" class=\"n\">failed</th>"
                "<th scope=\"col\" class=\"n\">read</th><th scope=\"col\" class=\"n\">one stream "
                "reads</th><th scope=\"col\" class=\"n\">writes</th></tr></thead><tbody>\n");
    for (size_t b = 0; b < n; b++)
        put_brick_row(c->page, &c->sum.bricks[b]);
    sm_page_put(c->page, "</tbody></table></div>\n");
    if (n < c->sum.n_bricks)
        sm_page_put(c->page, "<p class=\"soft\">and %zu more bricks</p>\n", c->sum.n_bricks - n);
}

static sm_status put_bricks(const corpus *c, sm_error *err)
{
    const size_t n = c->sum.n_bricks;
    sm_status st = SM_OK;
    sm_page_section(c->page, "bricks", "Bricks");
    put_slow_bricks(c);
    if (c->fig.n_bins > 0)
        st = put_brick_lines(c, err);
    if (n > 0)
        put_brick_table(c);
    else
        sm_page_put(c->page, "<p>The catalog knows no bricks.</p>\n");
    sm_page_end(c->page);
    return st;
}

/* ---- shards ---- */

typedef struct shard_bytes {
    sm_buf bytes; /* of double */
} shard_bytes;

static sm_status add_shard(void *arg, const sm_shard_row *shard, sm_error *err)
{
    shard_bytes *s = arg;
    const double bytes = (double)shard->bytes;
    return sm_buf_append(&s->bytes, &bytes, sizeof(bytes), err);
}

static sm_status put_balance(const corpus *c, sm_error *err)
{
    shard_bytes shards = {{0}};
    sm_status st = sm_catalog_shards(c->catalog, add_shard, &shards, err);
    const size_t n = shards.bytes.len / sizeof(double);
    double *bytes = (double *)(void *)shards.bytes.data;
    if (st == SM_OK && n > 1) {
        char least[16], median[16], most[16];
        qsort(bytes, n, sizeof(*bytes), by_double);
        const bool uneven = bytes[n - 1] > IMBALANCE * bytes[n / 2];
        sm_page_put(c->page,
                    "<p%s>The %zu shards of plan %" PRIu32 " are %s: the smallest holds %s, the "
                    "median %s, the largest %s.</p>\n",
                    uneven ? " class=\"warn\"" : "", n, c->sum.plan,
                    uneven ? "out of balance" : "in balance",
                    sm_human_bytes((uint64_t)bytes[0], least),
                    sm_human_bytes((uint64_t)bytes[n / 2], median),
                    sm_human_bytes((uint64_t)bytes[n - 1], most));
    }
    sm_buf_free(&shards.bytes);
    return st;
}

/* ---- stages, sizes and times ---- */

/* What threads did, or what they waited for. */
static void put_stage_bars(const corpus *c, bool waits)
{
    const uint64_t *ns = c->sum.work[SM_ATTEMPT_CONVERT].stage_ns;
    sm_bar bars[SM_STAGES];
    size_t n = 0;
    for (int i = 0; i < SM_STAGES; i++)
        if (sm_stage_waits((sm_stage)i) == waits && ns[i] > 0)
            bars[n++] = (sm_bar){.label = sm_stage_name((sm_stage)i), .value = (double)ns[i] / 1e9};
    const sm_chart work = {.id = "stage-work",
                           .caption = "Work of all threads by stage",
                           .description = "Time that threads worked on conversions, by stage; no "
                                          "second of a thread is in two stages.",
                           .x_name = "stage",
                           .y_name = "time of threads",
                           .y_unit = SM_UNIT_SECONDS};
    const sm_chart waiting = {.id = "stage-waits",
                              .caption = "Waiting of all threads",
                              .description = "Time that threads stood still during conversions, by "
                                             "what they waited for.",
                              .x_name = "stage",
                              .y_name = "time of threads",
                              .y_unit = SM_UNIT_SECONDS};
    if (n > 0)
        sm_chart_bars(c->page, waits ? &waiting : &work, bars, n);
}

static void put_phase_bars(const corpus *c)
{
    sm_bar bars[SM_PHASES];
    for (int i = 0; i < SM_PHASES; i++)
        bars[i] = (sm_bar){.label = sm_phase_name((sm_phase)i),
                           .value = (double)c->fig.phase_ns[i] / 1e9};
    sm_chart_bars(c->page,
                  &(sm_chart){.id = "phase-time",
                              .caption = "Time on the wall by phase",
                              .description = "Time of all conversions, one thing after the other. "
                                             "Mill is reading, cutting, decoding, encoding and "
                                             "writing together.",
                              .x_name = "phase",
                              .y_name = "time",
                              .y_unit = SM_UNIT_SECONDS},
                  bars, SM_PHASES);
}

static void put_times(const corpus *c)
{
    const sm_status_work *w = &c->sum.work[SM_ATTEMPT_CONVERT];
    const uint64_t work = sm_spent_sum(w->stage_ns, false);
    sm_stage order[SM_STAGES];
    double all = 0;
    char text[32], cpu[32];
    for (int i = 0; i < SM_PHASES; i++)
        all += (double)c->fig.phase_ns[i] / 1e9;
    if (all <= 0)
        return;
    sm_page_section(c->page, "stages", "Where the time of conversions went");
    sm_page_put(c->page, "<p>In all %s of workers' time.",
                sm_unit_text(SM_UNIT_SECONDS, all, text));
    if (sm_spent_order(w->stage_ns, false, order) > 0)
        sm_page_put(c->page,
                    " Their threads worked for %s (the kernel counted %s of CPU), the most of it "
                    "in %s (%.0f%%).",
                    sm_unit_text(SM_UNIT_SECONDS, (double)work / 1e9, text),
                    sm_unit_text(SM_UNIT_SECONDS, (double)w->cpu_ns / 1e9, cpu),
                    sm_stage_name(order[0]), 100 * (double)w->stage_ns[order[0]] / (double)work);
    sm_page_put(c->page, "</p>\n");
    put_stage_bars(c, false);
    put_stage_bars(c, true);
    put_phase_bars(c);
    sm_page_end(c->page);
}

static void put_distributions(const corpus *c)
{
    const uint64_t *const sizes[] = {c->fig.slide_bytes, c->fig.output_bytes};
    const uint64_t *const times[] = {c->fig.took_ms};
    static const char *const SIZE_NAMES[] = {"slides", "pyramids"};
    static const char *const TIME_NAMES[] = {"conversions"};
    sm_page_section(c->page, "distributions", "Sizes and times");
    sm_chart_histogram(c->page,
                       &(sm_chart){.id = "sizes",
                                   .caption = "Sizes of slides and pyramids",
                                   .description = "Number of slides and of pyramids by their size; "
                                                  "each bucket is twice the one before.",
                                   .x_name = "size",
                                   .y_name = "files",
                                   .x_unit = SM_UNIT_BYTES},
                       1, sizes, SIZE_NAMES, c->sum.n_outputs > 0 ? 2 : 1, SM_FIGURE_BUCKETS);
    sm_chart_histogram(c->page,
                       &(sm_chart){.id = "times",
                                   .caption = "Duration of conversions that went well",
                                   .description = "Number of conversions by the time they took; "
                                                  "each bucket is twice the one before.",
                                   .x_name = "duration",
                                   .y_name = "conversions",
                                   .x_unit = SM_UNIT_SECONDS},
                       1e-3, times, TIME_NAMES, 1, SM_FIGURE_BUCKETS);
    sm_page_end(c->page);
}

/* ---- failures and the slowest ---- */

static void put_class(const corpus *c, const sm_status_class *one)
{
    char text[32];
    sm_page_put(c->page, "<h3>");
    sm_page_text(c->page, one->name);
    sm_page_put(c->page,
                ": %s</h3>\n<div class=\"wide\"><table><thead><tr><th scope=\"col\">slide"
                "</th><th scope=\"col\">error</th></tr></thead><tbody>\n",
                grouped(one->n, text));
    for (size_t i = 0; i < c->fig.n_examples; i++) {
        if (strcmp(c->fig.examples[i].error_class, one->name) != 0)
            continue;
        sm_page_put(c->page, "<tr><td class=\"path\">");
        sm_page_text(c->page, c->fig.examples[i].path);
        sm_page_put(c->page, "</td><td class=\"path\">");
        sm_page_text(c->page, c->fig.examples[i].error);
        sm_page_put(c->page, "</td></tr>\n");
    }
    sm_page_put(c->page, "</tbody></table></div>\n");
}

static void put_failures(const corpus *c)
{
    sm_bar bars[SM_FIGURE_CLASSES];
    const size_t n = c->sum.n_classes < SM_COUNT(bars) ? c->sum.n_classes : SM_COUNT(bars);
    sm_page_section(c->page, "failures", "Failures");
    for (size_t i = 0; i < n; i++)
        bars[i] = (sm_bar){
            .label = c->sum.classes[i].name, .value = (double)c->sum.classes[i].n, .colour = 1};
    sm_chart_bars(c->page,
                  &(sm_chart){.id = "failure-classes",
                              .caption = "Slides that failed or were quarantined, by class",
                              .description = "Number of slides of each error class.",
                              .x_name = "class",
                              .y_name = "slides",
                              .y_unit = SM_UNIT_COUNT},
                  bars, n);
    for (size_t i = 0; i < n; i++)
        put_class(c, &c->sum.classes[i]);
    if (n == 0)
        sm_page_put(c->page, "<p>No slide failed, none was quarantined.</p>\n");
    sm_page_end(c->page);
}

static void put_slowest(const corpus *c)
{
    if (c->fig.n_slowest == 0)
        return;
    sm_page_section(c->page, "slowest", "Slowest conversions");
    sm_page_put(c->page,
                "<div class=\"wide\"><table><thead><tr><th scope=\"col\">slide</th>"
                "<th scope=\"col\" class=\"n\">took</th><th scope=\"col\" class=\"n\">read</th>"
                "<th scope=\"col\">most of it in</th><th scope=\"col\">outcome</th></tr></thead>"
                "<tbody>\n");
    for (size_t i = 0; i < c->fig.n_slowest; i++) {
        const sm_figure_attempt *a = &c->fig.slowest[i];
        char took[32], bytes[16];
        sm_page_put(c->page, "<tr><td class=\"path\">");
        sm_page_text(c->page, a->path);
        sm_page_put(c->page, "</td><td class=\"n\">%s</td><td class=\"n\">%s</td>",
                    sm_unit_text(SM_UNIT_SECONDS, (double)a->took_ns / 1e9, took),
                    sm_human_bytes(a->bytes_in, bytes));
        if (a->most_ns > 0 && a->took_ns > 0)
            sm_page_put(c->page, "<td>%s (%.0f%%)</td>", sm_phase_name(a->most),
                        fmin(100, 100 * (double)a->most_ns / (double)a->took_ns));
        else
            sm_page_put(c->page, "<td></td>");
        sm_page_put(c->page, "<td>%s</td></tr>\n", sm_outcome_kind_name(a->outcome));
    }
    sm_page_put(c->page, "</tbody></table></div>\n");
    sm_page_end(c->page);
}

static sm_status put_all(corpus *c, sm_error *err)
{
    sm_status st = SM_OK;
    for (uint32_t i = 0; i < c->fig.n_bins; i++)
        c->x_s[i] = (i + 0.5) * (double)c->fig.bin_ns / 1e9;
    put_summary(c);
    sm_page_section(c->page, "time", "Over time");
    st = put_balance(c, err);
    if (c->fig.n_bins > 0)
        put_progress(c);
    else
        sm_page_put(c->page, "<p>Nothing was attempted yet.</p>\n");
    sm_page_end(c->page);
    if (st == SM_OK)
        st = put_bricks(c, err);
    put_times(c);
    put_distributions(c);
    put_failures(c);
    put_slowest(c);
    return st;
}

sm_status sm_corpus_put(sm_page *page, sm_catalog *catalog, sm_error *err)
{
    corpus *c = sm_calloc(1, sizeof(*c));
    if (c == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "no memory for a report");
    c->page = page;
    c->catalog = catalog;
    sm_status st = sm_catalog_summarize(catalog, &c->sum, err);
    if (st == SM_OK)
        st = sm_catalog_figures(catalog, &c->fig, err);
    if (st == SM_OK)
        st = put_all(c, err);
    sm_figures_clear(&c->fig);
    sm_catalog_summary_clear(&c->sum);
    free(c);
    return st;
}
