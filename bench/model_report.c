/* The scale model's answers for people, programs and pages. */
#include "bench/model_report.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/progress.h"

#define HOUR_S 3600.0
#define DAY_S 86400.0
#define PERCENT 100.0
/* Less than this is within what the model can tell. */
#define SMALL_GAIN 0.005

static const char *const STATE_NAMES[SM_MODEL_RANK_STATES] = {"work",  "error", "wait",
                                                              "start", "empty", "down"};

typedef struct named {
    const char *name;
    double value;
} named;

static double sum_of(const double *values, uint32_t n)
{
    double sum = 0;
    for (uint32_t i = 0; i < n; i++)
        sum += values[i];
    return sum > 0 ? sum : 1;
}

static double idle_share(const sm_model_result *r)
{
    return 1 - r->rank_s[SM_MODEL_WORK] / sum_of(r->rank_s, SM_MODEL_RANK_STATES);
}

/* ---- text ---- */

static void print_time(const sm_model_report *p)
{
    const sm_model_result *r = p->result;
    char bytes[16];
    (void)printf("%u slides, %s: %.2f days (%.1f h), %.0f MB/s, %.0f slides an hour\n", p->n_slides,
                 sm_human_bytes(p->bytes, bytes), r->seconds / DAY_S, r->seconds / HOUR_S,
                 (double)p->bytes / 1e6 / r->seconds, p->n_slides / (r->seconds / HOUR_S));
}

static void print_limits(const sm_model_result *r)
{
    const double all = sum_of(r->limit_s, SM_LIMITS);
    (void)printf("limited by    ");
    for (int i = 0; i < SM_LIMITS; i++)
        (void)printf(" %s %.1f%%%s", sm_limit_name((sm_limit)i), PERCENT * r->limit_s[i] / all,
                     i + 1 < SM_LIMITS ? "," : "\n");
}

static void print_use(const sm_model_report *p)
{
    const sm_model_result *r = p->result;
    (void)printf("in use         cpu %.1f%%, bricks %.1f%% (most %.1f%%), servers out %.1f%% in "
                 "%.1f%%, nodes in %.1f%% out %.1f%%",
                 PERCENT * r->cpu_use, PERCENT * r->brick_use, PERCENT * r->brick_use_most,
                 PERCENT * r->server_out_use, PERCENT * r->server_in_use, PERCENT * r->node_in_use,
                 PERCENT * r->node_out_use);
    if (p->config->mount_mb_s > 0)
        (void)printf(", mounts %.1f%%", PERCENT * r->mount_use);
    (void)printf("\n");
}

static void print_ranks(const sm_model_result *r)
{
    const double all = sum_of(r->rank_s, SM_MODEL_RANK_STATES);
    (void)printf(
        "ranks idle     %.2f%%: waiting for a slide %.2f%%, brick gone %.2f%%, task "
        "starting %.2f%%, no shard left %.2f%%, node down %.2f%%\n",
        PERCENT * idle_share(r), PERCENT * r->rank_s[SM_MODEL_WAIT] / all,
        PERCENT * r->rank_s[SM_MODEL_ERROR] / all, PERCENT * r->rank_s[SM_MODEL_START] / all,
        PERCENT * r->rank_s[SM_MODEL_EMPTY] / all, PERCENT * r->rank_s[SM_MODEL_DOWN] / all);
}

static void print_failures(const sm_model_result *r)
{
    if (r->rank_failures + r->node_failures + r->brick_failures == 0)
        return;
    char bytes[16];
    (void)printf("failures       %u of ranks, %u of nodes, %u of bricks; %u tasks killed, %u "
                 "storage errors, %u slides given up and retried later (%u passes)\n",
                 r->rank_failures, r->node_failures, r->brick_failures, r->tasks_killed, r->errors,
                 r->given_up, r->passes);
    (void)printf("lost work      %s read in vain (%.3f%%), %.1f rank-hours\n",
                 sm_human_bytes((uint64_t)r->lost_bytes, bytes),
                 PERCENT * r->lost_bytes / r->read_bytes, r->lost_rank_s / HOUR_S);
}

static void print_purchases(const sm_model_report *p)
{
    if (p->n_purchases == 0)
        return;
    (void)printf("what to buy next (%u slides, without failures)\n", p->sample);
    for (uint32_t i = 0; i < p->n_purchases; i++) {
        const sm_model_purchase *b = &p->purchases[i];
        (void)printf("  %-36s %+6.1f%% of the time%s\n", b->what, -PERCENT * b->saves,
                     fabs(b->saves) < SMALL_GAIN ? " (nothing)" : "");
    }
}

void sm_model_print(const sm_model_report *p)
{
    print_time(p);
    print_limits(p->result);
    print_use(p);
    print_ranks(p->result);
    print_failures(p->result);
    print_purchases(p);
}

/* ---- JSON ---- */

static void add_all(cJSON *object, const named *list, size_t n)
{
    for (size_t i = 0; i < n; i++)
        (void)cJSON_AddNumberToObject(object, list[i].name, list[i].value);
}

static void add_config(cJSON *root, const sm_model_config *c)
{
    const named list[] = {{"nodes", c->nodes},
                          {"ranks_per_node", c->ranks_per_node},
                          {"servers", c->servers},
                          {"bricks", c->bricks},
                          {"tasks", c->tasks},
                          {"shards", c->shards},
                          {"streams_per_brick", c->streams_per_brick},
                          {"brick_blind", c->brick_blind},
                          {"convert_mb_s", c->convert_mb_s},
                          {"stream_mb_s", c->stream_mb_s},
                          {"brick_mb_s", c->brick_mb_s},
                          {"brick_write_mb_s", c->brick_write_mb_s},
                          {"node_mb_s", c->node_mb_s},
                          {"server_mb_s", c->server_mb_s},
                          {"mount_mb_s", c->mount_mb_s},
                          {"out_ratio", c->out_ratio},
                          {"slide_overhead_s", c->overhead_s},
                          {"node_mtbf_h", c->node_mtbf_s / HOUR_S},
                          {"rank_mtbf_h", c->rank_mtbf_s / HOUR_S},
                          {"brick_mtbf_h", c->brick_mtbf_s / HOUR_S},
                          {"brick_outage_h", c->brick_outage_s / HOUR_S},
                          {"seed", (double)c->seed}};
    add_all(cJSON_AddObjectToObject(root, "config"), list, SM_COUNT(list));
}

static void add_result(cJSON *root, const sm_model_report *p)
{
    const sm_model_result *r = p->result;
    const named list[] = {{"slides", p->n_slides},
                          {"bytes", (double)p->bytes},
                          {"seconds", r->seconds},
                          {"hours", r->seconds / HOUR_S},
                          {"days", r->seconds / DAY_S},
                          {"mb_s", (double)p->bytes / 1e6 / r->seconds},
                          {"idle_share", idle_share(r)},
                          {"read_bytes", r->read_bytes},
                          {"written_bytes", r->written_bytes},
                          {"checked_bytes", r->checked_bytes},
                          {"lost_bytes", r->lost_bytes},
                          {"lost_rank_s", r->lost_rank_s},
                          {"rank_failures", r->rank_failures},
                          {"node_failures", r->node_failures},
                          {"brick_failures", r->brick_failures},
                          {"tasks_killed", r->tasks_killed},
                          {"storage_errors", r->errors},
                          {"given_up", r->given_up},
                          {"passes", r->passes},
                          {"events", (double)r->events}};
    const named use[] = {{"cpu", r->cpu_use},
                         {"brick", r->brick_use},
                         {"brick_most", r->brick_use_most},
                         {"server_out", r->server_out_use},
                         {"server_in", r->server_in_use},
                         {"node_in", r->node_in_use},
                         {"node_out", r->node_out_use},
                         {"mount", r->mount_use}};
    add_all(root, list, SM_COUNT(list));
    add_all(cJSON_AddObjectToObject(root, "in_use"), use, SM_COUNT(use));
    cJSON *limits = cJSON_AddObjectToObject(root, "limited_by");
    cJSON *states = cJSON_AddObjectToObject(root, "rank_share");
    for (int i = 0; i < SM_LIMITS; i++)
        (void)cJSON_AddNumberToObject(limits, sm_limit_name((sm_limit)i),
                                      r->limit_s[i] / sum_of(r->limit_s, SM_LIMITS));
    for (int i = 0; i < SM_MODEL_RANK_STATES; i++)
        (void)cJSON_AddNumberToObject(states, STATE_NAMES[i],
                                      r->rank_s[i] / sum_of(r->rank_s, SM_MODEL_RANK_STATES));
}

sm_status sm_model_print_json(const sm_model_report *p, sm_error *err)
{
    cJSON *root = cJSON_CreateObject();
    add_result(root, p);
    add_config(root, p->config);
    cJSON *list = cJSON_AddArrayToObject(root, "buy_next");
    for (uint32_t i = 0; i < p->n_purchases; i++) {
        cJSON *row = cJSON_CreateObject();
        (void)cJSON_AddStringToObject(row, "what", p->purchases[i].what);
        (void)cJSON_AddNumberToObject(row, "saves", p->purchases[i].saves);
        (void)cJSON_AddItemToArray(list, row);
    }
    char *text = cJSON_PrintUnformatted(root);
    cJSON_Delete(root);
    if (text == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "no memory for the JSON");
    (void)puts(text);
    cJSON_free(text);
    return SM_OK;
}

/* ---- figure ---- */

enum { PLOT_X = 60, PLOT_Y = 40, PLOT_W = 560, PLOT_H = 180, BAR_Y = 270, BAR_H = 24 };

static const char *const LIMIT_COLOURS[SM_LIMITS] = {"#4477aa", "#66ccee", "#228833",
                                                     "#ccbb44", "#ee6677", "#aa3377"};

static double bin_mb_s(const sm_model_result *r, uint32_t i)
{
    const double from = i * r->bin_s, rest = r->seconds - from;
    const double width = i + 1 == r->n_bins && rest > 0 ? rest : r->bin_s;
    return r->bins[i] / 1e6 / width;
}

static void draw_curve(FILE *f, const sm_model_result *r)
{
    double top = 1;
    const uint32_t n = r->n_bins > 1 ? r->n_bins - 1 : 1; /* the last bin is a stump */
    for (uint32_t i = 0; i < n; i++)
        top = fmax(top, bin_mb_s(r, i));
    (void)fprintf(f, "<polyline fill=\"none\" stroke=\"#4477aa\" stroke-width=\"1.5\" points=\"");
    for (uint32_t i = 0; i < n; i++)
        (void)fprintf(f, "%.1f,%.1f ", PLOT_X + PLOT_W * fmin(1, (i + 0.5) * r->bin_s / r->seconds),
                      PLOT_Y + PLOT_H * (1 - bin_mb_s(r, i) / top));
    (void)fprintf(f,
                  "\"/>\n<path class=\"axis\" d=\"M%d %dV%dH%d\"/>\n"
                  "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">%.0f</text>\n"
                  "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">0</text>\n"
                  "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">%.2f days</text>\n",
                  PLOT_X, PLOT_Y, PLOT_Y + PLOT_H, PLOT_X + PLOT_W, PLOT_X - 6, PLOT_Y + 8, top,
                  PLOT_X - 6, PLOT_Y + PLOT_H, PLOT_X + PLOT_W, PLOT_Y + PLOT_H + 18,
                  r->seconds / DAY_S);
}

static void draw_limits(FILE *f, const sm_model_result *r)
{
    const double all = sum_of(r->limit_s, SM_LIMITS);
    double x = PLOT_X;
    (void)fprintf(f, "<text x=\"%d\" y=\"%d\">what held slides back</text>\n", PLOT_X, BAR_Y - 6);
    for (int i = 0; i < SM_LIMITS; i++) {
        const double w = PLOT_W * r->limit_s[i] / all;
        (void)fprintf(f, "<rect x=\"%.1f\" y=\"%d\" width=\"%.1f\" height=\"%d\" fill=\"%s\"/>\n",
                      x, BAR_Y, w, BAR_H, LIMIT_COLOURS[i]);
        (void)fprintf(f,
                      "<rect x=\"%d\" y=\"%d\" width=\"10\" height=\"10\" fill=\"%s\"/>"
                      "<text x=\"%d\" y=\"%d\">%s %.0f%%</text>\n",
                      PLOT_X + 190 * (i % 3), BAR_Y + 36 + 18 * (i / 3), LIMIT_COLOURS[i],
                      PLOT_X + 190 * (i % 3) + 16, BAR_Y + 46 + 18 * (i / 3),
                      sm_limit_name((sm_limit)i), PERCENT * r->limit_s[i] / all);
        x += w;
    }
}

sm_status sm_model_svg(const sm_model_report *p, const char *path, sm_error *err)
{
    FILE *f = fopen(path, "we");
    if (f == NULL)
        return sm_fail_errno(err, SM_ERR_IO, errno, "%s", path);
    (void)fprintf(f,
                  "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 640 350\" "
                  "font-family=\"sans-serif\" font-size=\"12\">\n"
                  "<style>text{fill:#222}.axis{fill:none;stroke:#888}"
                  "@media (prefers-color-scheme:dark){text{fill:#ddd}}</style>\n"
                  "<text x=\"%d\" y=\"20\">MB/s of slides finished; %u nodes x %u ranks, %u "
                  "bricks, %u servers</text>\n",
                  PLOT_X, p->config->nodes, p->config->ranks_per_node, p->config->bricks,
                  p->config->servers);
    draw_curve(f, p->result);
    draw_limits(f, p->result);
    (void)fprintf(f, "</svg>\n");
    const bool bad = ferror(f) != 0;
    if (fclose(f) != 0 || bad)
        return sm_fail_errno(err, SM_ERR_IO, errno, "%s: cannot be written", path);
    return SM_OK;
}
