/* A run of `slidemill bench ingest` as tables of 80 columns and as JSON lines. */
#include <cjson/cJSON.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "bench/ingest_bench.h"
#include "common/text.h"

static const char *const MODE_NAMES[] = {"copy", "transcode", "retile", "zstd"};

static const char *s_of(uint32_t n)
{
    return n == 1 ? "" : "s";
}

void ingest_program_id(const ingest_program *p, char id[64])
{
    switch (p->kind) {
    case INGEST_RUN:
        (void)snprintf(id, 64, "ingest %" PRIu32 " rank%s %" PRIu32 " thread%s", p->ranks,
                       s_of(p->ranks), p->threads, s_of(p->threads));
        return;
    case INGEST_LIMIT:
        (void)snprintf(id, 64, "codec limit %" PRIu32 " thread%s", p->threads, s_of(p->threads));
        return;
    case INGEST_FIO:
        (void)snprintf(id, 64, "fio %" PRIu32 " reader%s", p->ranks, s_of(p->ranks));
        return;
    }
}

/* ---- tables ---- */

static void print_value(const bench_series *series, int width, int digits)
{
    if (series->n == 0)
        (void)printf(" %*s", width, "-");
    else
        (void)printf(" %*.*f", width, digits, bench_median(series));
}

static void print_program(const ingest_program *p)
{
    char id[64];
    ingest_program_id(p, id);
    (void)printf("%-25s", id);
    if (p->why[0] != '\0') {
        sm_buf clean = {0};
        sm_error ignored = SM_ERROR_INIT;
        if (sm_text_clean(p->why, true, &clean, &ignored) == SM_OK)
            (void)printf(" %s: %.*s\n", p->absent ? "not run" : "FAILED", 44,
                         (const char *)clean.data);
        sm_buf_free(&clean);
        return;
    }
    print_value(&p->wall_s, 8, 2);
    (void)printf(" %3.0f%%", 100 * bench_noise(&p->wall_s));
    print_value(&p->slides_per_h, 8, 0);
    print_value(&p->mb_in, 7, 1);
    print_value(&p->mpx, 7, 0);
    print_value(&p->rss_mib, 6, 0);
    if (p->of_limit.n > 0)
        (void)printf(" %5.0f%%", 100 * bench_median(&p->of_limit));
    (void)printf("\n");
}

static void print_bricks(const ingest_program *p)
{
    (void)printf("\nBricks, MB/s in and out\n");
    for (size_t i = 0; i < p->n_bricks; i++) {
        print_value(&p->bricks[i].mb_in, 8, 1);
        print_value(&p->bricks[i].mb_out, 8, 1);
        (void)printf("  %.60s\n", p->bricks[i].name);
    }
}

static double group_seconds(const ingest_program *p, const char *group)
{
    double s = 0;
    for (size_t i = 0; i < p->n_stages; i++)
        s += strcmp(p->stages[i].group, group) == 0 ? bench_median(&p->stages[i].thread_s) : 0;
    return s;
}

static double share_of(const ingest_program *p, const ingest_stage *stage)
{
    const double all = group_seconds(p, stage->group);
    return all > 0 ? bench_median(&stage->thread_s) / all : 0;
}

static void print_stages(const ingest_program *p)
{
    const char *group = "";
    for (size_t i = 0; i < p->n_stages; i++) {
        const ingest_stage *stage = &p->stages[i];
        if (strcmp(group, stage->group) != 0)
            (void)printf("\nTime of the journals' \"%s\", all slides\n", stage->group);
        group = stage->group;
        (void)printf("  %-14s %8.2f s %5.1f%%\n", stage->name, bench_median(&stage->thread_s),
                     100 * share_of(p, stage));
    }
}

static void print_verdict(const ingest_program *best)
{
    char id[64];
    ingest_program_id(best, id);
    (void)printf("\nFastest: %s, %.0f slides/h.\n", id, bench_median(&best->slides_per_h));
    if (best->of_limit.n > 0)
        (void)printf("That is %.0f%% of min(codec limit, fio); the limit is %s.\n",
                     100 * bench_median(&best->of_limit),
                     best->n_limit >= best->n_fio ? "the codecs" : "reading");
    if (best->failed_slides > 0)
        (void)printf("%" PRIu32 " slide%s failed and were not counted.\n", best->failed_slides,
                     s_of(best->failed_slides));
}

void ingest_print(const ingest_bench *b)
{
    const ingest_program *best = ingest_best(b);
    (void)printf("%zu slides, %.1f MB, %.0f Mpx; --mode %s; %s; %" PRIu32 " CPUs; %" PRIu32
                 " run%s each\n\n",
                 b->corpus.n, (double)b->corpus.bytes / 1e6, b->corpus.mpx,
                 MODE_NAMES[b->options->mode], b->options->cache == INGEST_WARM ? "warm" : "cold",
                 b->cpus, b->options->repeats, s_of(b->options->repeats));
    (void)printf(
        "medians                     wall s   +- slides/h    MB/s   Mpx/s RSS MiB limit\n");
    for (size_t i = 0; i < b->n_programs; i++)
        print_program(&b->programs[i]);
    if (best == NULL)
        return;
    print_bricks(best);
    print_stages(best);
    print_verdict(best);
}

/* ---- JSON ---- */

static void add_list(cJSON *object, const char *name, const ingest_list *list)
{
    cJSON *array = cJSON_AddArrayToObject(object, name);
    for (uint32_t i = 0; i < list->n; i++)
        (void)cJSON_AddItemToArray(array, cJSON_CreateNumber(list->values[i]));
}

static cJSON *head_of(const ingest_bench *b)
{
    const ingest_options *o = b->options;
    const bool made = o->corpus == NULL && o->catalog == NULL;
    cJSON *line = bench_json_head("ingest", o->dir);
    cJSON *versions = cJSON_AddObjectToObject(line, "versions");
    if (b->mpirun[0] != '\0')
        (void)cJSON_AddStringToObject(versions, "mpirun", b->mpirun_version);
    if (b->fio[0] != '\0')
        (void)cJSON_AddStringToObject(versions, "fio", b->fio_version);
    cJSON *options = cJSON_AddObjectToObject(line, "options");
    (void)cJSON_AddStringToObject(options, "mode", MODE_NAMES[o->mode]);
    (void)cJSON_AddStringToObject(options, "convert", ingest_mode_words(o->mode));
    (void)cJSON_AddStringToObject(options, "cache", o->cache == INGEST_WARM ? "warm" : "cold");
    (void)cJSON_AddNumberToObject(options, "repeats", o->repeats);
    (void)cJSON_AddNumberToObject(options, "limit_slides", o->limit_slides);
    add_list(options, "ranks", &b->ranks);
    add_list(options, "threads", &b->threads);
    cJSON *corpus = cJSON_AddObjectToObject(line, "corpus");
    (void)cJSON_AddStringToObject(corpus, "of", made ? "mosaics" : "given slides");
    (void)cJSON_AddNumberToObject(corpus, "slides", (double)b->corpus.n);
    (void)cJSON_AddNumberToObject(corpus, "bytes", (double)b->corpus.bytes);
    (void)cJSON_AddNumberToObject(corpus, "mpx", b->corpus.mpx);
    if (made) {
        (void)cJSON_AddNumberToObject(corpus, "width_px", o->width_px);
        (void)cJSON_AddNumberToObject(corpus, "height_px", o->height_px);
    }
    return line;
}

static void add_bricks(cJSON *line, const ingest_program *p, const char *id)
{
    char name[SM_BRICK_CAP + 80];
    cJSON *array = cJSON_AddArrayToObject(line, "bricks");
    for (size_t i = 0; i < p->n_bricks; i++) {
        cJSON *brick = cJSON_CreateObject();
        (void)cJSON_AddItemToArray(array, brick);
        (void)snprintf(name, sizeof name, "%s brick %s", id, p->bricks[i].name);
        (void)cJSON_AddStringToObject(brick, "id", name);
        (void)cJSON_AddStringToObject(brick, "brick", p->bricks[i].name);
        bench_json_series(brick, "mb_in_per_s", &p->bricks[i].mb_in);
        bench_json_series(brick, "mb_out_per_s", &p->bricks[i].mb_out);
    }
}

static void add_stages(cJSON *line, const ingest_program *p, const char *id)
{
    char name[128];
    cJSON *array = cJSON_AddArrayToObject(line, "stages");
    for (size_t i = 0; i < p->n_stages; i++) {
        const ingest_stage *s = &p->stages[i];
        cJSON *stage = cJSON_CreateObject();
        (void)cJSON_AddItemToArray(array, stage);
        (void)snprintf(name, sizeof name, "%s %s %s", id, s->group, s->name);
        (void)cJSON_AddStringToObject(stage, "id", name);
        (void)cJSON_AddStringToObject(stage, "group", s->group);
        (void)cJSON_AddStringToObject(stage, "stage", s->name);
        (void)cJSON_AddNumberToObject(stage, "share", share_of(p, s));
        bench_json_series(stage, "thread_s", &s->thread_s);
    }
}

static cJSON *line_of(const ingest_program *p)
{
    static const char *const KINDS[] = {"ingest", "codec limit", "fio"};
    char id[64];
    cJSON *line = cJSON_CreateObject();
    ingest_program_id(p, id);
    (void)cJSON_AddStringToObject(line, "id", id);
    (void)cJSON_AddStringToObject(line, "program", KINDS[p->kind]);
    if (p->ranks > 0)
        (void)cJSON_AddNumberToObject(line, "ranks", p->ranks);
    if (p->threads > 0)
        (void)cJSON_AddNumberToObject(line, "threads", p->threads);
    (void)cJSON_AddStringToObject(line, "state",
                                  p->absent           ? "absent"
                                  : p->why[0] != '\0' ? "failed"
                                                      : "ok");
    if (p->why[0] != '\0') {
        (void)cJSON_AddStringToObject(line, "why", p->why);
        return line;
    }
    bench_json_series(line, "wall_s", &p->wall_s);
    bench_json_series(line, "elapsed_s", &p->elapsed_s);
    bench_json_series(line, "cpu_s", &p->cpu_s);
    bench_json_series(line, "rss_mib", &p->rss_mib);
    bench_json_series(line, "slides_per_h", &p->slides_per_h);
    bench_json_series(line, "mb_in_per_s", &p->mb_in);
    bench_json_series(line, "mb_out_per_s", &p->mb_out);
    bench_json_series(line, "mpx_per_s", &p->mpx);
    bench_json_series(line, "of_limit", &p->of_limit);
    if (p->kind == INGEST_RUN) {
        if (p->of_limit.n > 0)
            (void)cJSON_AddStringToObject(line, "limited_by",
                                          p->n_limit >= p->n_fio ? "codec limit" : "fio");
        (void)cJSON_AddNumberToObject(line, "failed_slides", p->failed_slides);
        add_bricks(line, p, id);
        add_stages(line, p, id);
    }
    return line;
}

static cJSON *tail_of(const ingest_bench *b)
{
    const ingest_program *best = ingest_best(b);
    char id[64];
    cJSON *line = cJSON_CreateObject();
    (void)cJSON_AddStringToObject(line, "id", "result");
    if (best != NULL) {
        ingest_program_id(best, id);
        (void)cJSON_AddStringToObject(line, "best", id);
    }
    (void)cJSON_AddNumberToObject(line, "wall_s", (double)b->wall_ns / 1e9);
    return line;
}

sm_status ingest_write_json(const ingest_bench *b, const char *path, sm_error *err)
{
    FILE *out = NULL;
    sm_status st = bench_json_open(path, &out, err);
    if (st != SM_OK)
        return st;
    st = bench_json_line(out, head_of(b), path, err);
    for (size_t i = 0; st == SM_OK && i < b->n_programs; i++)
        st = bench_json_line(out, line_of(&b->programs[i]), path, err);
    if (st == SM_OK)
        st = bench_json_line(out, tail_of(b), path, err);
    return bench_json_close(out, path, st, err);
}
