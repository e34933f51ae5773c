/* catalog-bench: what a catalog of very many slides costs: made from a list, planned, asked for its
 * status, one shard of it read, as many results folded in. Through common/catalog.h, publication
 * included; parsing of lists and journals is not. Slides have paths as long as real ones. */
#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/catalog.h"
#include "common/opts.h"

typedef struct bench_config {
    uint32_t slides, shards, bricks;
    bool json, keep;
} bench_config;

#define AT(field) offsetof(bench_config, field)

static const sm_opt OPTIONS[] = {
    {"slides", SM_OPT_U32, AT(slides), 1, 100000000, "1000000", "slides", "How many."},
    {"shards", SM_OPT_U32, AT(shards), 1, 1000000, "1000", "shards", "Of the plan."},
    {"bricks", SM_OPT_U32, AT(bricks), 1, 1000, "8", "bricks", "That the slides lie on."},
    {"json", SM_OPT_FLAG, AT(json), 0, 0, NULL, NULL, "One line of JSON instead of a table."},
    {"keep", SM_OPT_FLAG, AT(keep), 0, 0, NULL, NULL, "Leave the catalog in DIR."},
};

static const char *const OPERANDS[] = {"DIR"};

static const sm_command COMMAND = {
    .name = "catalog-bench",
    .summary = "time a catalog of very many slides",
    .synopsis = "[options] DIR",
    .description = "Makes a catalog in DIR, which must be empty or missing, and prints how long "
                   "each step took, with reading and publishing the file.",
    .examples = "catalog-bench /tmp/bench\n    a million slides\n",
    .exit_status = "0 measured\n2 wrong options\n74 DIR cannot be written\n",
    .opts = OPTIONS,
    .n_opts = SM_COUNT(OPTIONS),
    .min_operands = 1,
    .max_operands = 1,
    .operand_names = OPERANDS,
};

/* ---- made-up slides ---- */

static uint64_t mix(uint64_t x)
{
    x ^= x >> 31;
    x *= UINT64_C(0x7FB5D329728EA185);
    x ^= x >> 27;
    x *= UINT64_C(0x81DADEF4BC2DD44D);
    return x ^ x >> 33;
}

typedef struct made_slide {
    char path[200], out_path[200], brick[64];
    sm_digest sha256;
    uint64_t size_bytes;
} made_slide;

static void make_digest(uint64_t seed, sm_digest *digest)
{
    *digest = (sm_digest){.kind = SM_DIGEST_SHA256, .len = 32};
    for (size_t i = 0; i < 4; i++) {
        const uint64_t word = mix(seed * 4 + i + 1);
        memcpy(digest->bytes + 8 * i, &word, 8);
    }
}

static void make_slide(const bench_config *cfg, uint32_t i, made_slide *slide)
{
    static const char *const ORGANS[] = {"breast", "gastro", "gyn", "prostate", "skin"};
    const unsigned patient = i / 8 + 123456, year = 2010 + i / 800 % 15, day = 1 + i / 8 % 28;
    char stem[160];
    snprintf(stem, sizeof(stem),
             "tudp/v1.0.0/svs/%s/%06u/%08u/20%02u_03_%02u/0s%02u_%05u/"
             "0s%02u_%05u_0a%03u_%08u_lvl0001_s%03u",
             ORGANS[i / 1000 % 5], patient / 1000, patient, year % 100, day, year % 100,
             patient % 100000, year % 100, patient % 100000, i % 8 / 4 + 1, patient, i % 4);
    snprintf(slide->path, sizeof(slide->path), "%s.svs", stem);
    snprintf(slide->out_path, sizeof(slide->out_path), "%s.ome.tiff", stem);
    snprintf(slide->brick, sizeof(slide->brick), "storage%02u:/bricks/b%u/data",
             (unsigned)(mix(i) % cfg->bricks / 2), (unsigned)(mix(i) % cfg->bricks));
    slide->size_bytes = 50000000 + mix(i + 77) % 4000000000;
    make_digest(i, &slide->sha256);
}

/* ---- steps ---- */

typedef struct step {
    const char *name;
    double begin_s, work_s, commit_s;
    double target_s;
} step;

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static double lap(double *from)
{
    const double now = now_s(), took = now - *from;
    *from = now;
    return took;
}

static sm_status put_all(const bench_config *cfg, sm_catalog *catalog, sm_error *err)
{
    sm_status st = SM_OK;
    for (uint32_t i = 0; st == SM_OK && i < cfg->slides; i++) {
        made_slide slide;
        int64_t id = 0;
        bool added = false;
        make_slide(cfg, i, &slide);
        const sm_slide_row row = {.path = slide.path,
                                  .size_bytes = slide.size_bytes,
                                  .mtime_ns = INT64_C(1700000000000000000) + i,
                                  .brick = slide.brick,
                                  .vendor = "aperio",
                                  .digest_origin = SM_DIGEST_GIVEN,
                                  .digest = slide.sha256,
                                  .present = true};
        st = sm_catalog_put(catalog, &row, &id, &added, err);
    }
    return st;
}

typedef struct sized_slide {
    int64_t id;
    uint64_t bytes;
} sized_slide;

static int largest_first(const void *a, const void *b)
{
    const sized_slide *one = a, *other = b;
    if (one->bytes != other->bytes)
        return one->bytes > other->bytes ? -1 : 1;
    return one->id < other->id ? -1 : one->id > other->id;
}

/* Reads every slide and deals them out, the largest first, as a planner does. */
static sm_status assign_all(const bench_config *cfg, sm_catalog *catalog, sm_error *err)
{
    const sm_slide_filter filter = {.by_state = 1u << SM_SLIDE_NEW};
    sm_slide_cursor *cursor = NULL;
    sm_slide_row row;
    sm_buf list = {0};
    sm_status st = sm_catalog_slides(catalog, &filter, &cursor, err);
    for (bool more = true; st == SM_OK;) {
        st = sm_slide_cursor_next(cursor, &row, &more, err);
        if (st != SM_OK || !more)
            break;
        const sized_slide slide = {.id = row.id, .bytes = row.size_bytes};
        st = sm_buf_append(&list, &slide, sizeof(slide), err);
    }
    sm_slide_cursor_close(&cursor);
    if (st == SM_OK)
        st = sm_catalog_begin_plan(catalog, cfg->shards, err);
    sized_slide *slides = (sized_slide *)(void *)list.data;
    const size_t n = list.len / sizeof(*slides);
    if (n > 0)
        qsort(slides, n, sizeof(*slides), largest_first);
    for (size_t i = 0; st == SM_OK && i < n; i++)
        st = sm_catalog_assign(catalog, slides[i].id, (uint32_t)(i % cfg->shards), err);
    sm_buf_free(&list);
    return st;
}

static sm_status put_one_attempt(const bench_config *cfg, sm_catalog *catalog, uint32_t i,
                                 uint32_t seq, sm_error *err)
{
    static const char RUN[] = "0123456789abcdef0123456789abcdef";
    made_slide slide;
    char event[96];
    bool known = false;
    make_slide(cfg, i, &slide);
    const uint32_t rank = seq / 10000;
    snprintf(event, sizeof(event), "%s.%" PRIu32 ".%" PRIu32, RUN, rank, seq % 10000);
    const int64_t began = INT64_C(1760000000000000000) + (int64_t)seq * 1000000;
    sm_attempt_row attempt = {
        .event = event,
        .slide = (int64_t)i + 1,
        .kind = SM_ATTEMPT_CONVERT,
        .outcome = SM_OUTCOME_OK,
        .run = RUN,
        .rank = rank,
        .generation = 2,
        .brick = slide.brick,
        .began_ns = began,
        .ended_ns = began + INT64_C(35000000000),
        .phase_ns = {12345678, 0, 0, 22345678901, 1234567890, 4567890123, 12345678, 345678},
        .bytes_in = slide.size_bytes,
        .bytes_out = slide.size_bytes / 10 * 9,
        .pixels = slide.size_bytes * 7,
        .has_source = true,
        .source_bytes = slide.size_bytes,
        .source_digests = {slide.sha256},
        .n_source_digests = 1,
        .vendor = "aperio",
        .w_px = 100000,
        .h_px = 80000,
        .mpp = 0.2498,
        .objective = 40,
        .has_output = true,
        .output = {.path = slide.out_path, .size_bytes = slide.size_bytes / 10 * 9},
    };
    make_digest(i + UINT64_C(1000000007), &attempt.output.sha256);
    return sm_catalog_put_attempt(catalog, &attempt, &known, err);
}

/* Not in the order of the slides: ranks take the largest ones first. */
static sm_status put_attempts(const bench_config *cfg, sm_catalog *catalog, sm_error *err)
{
    uint64_t stride = 611953; /* a prime: every slide once unless it divides their number */
    if (cfg->slides % stride == 0)
        stride = 1;
    sm_status st = SM_OK;
    for (uint32_t i = 0; st == SM_OK && i < cfg->slides; i++)
        st = put_one_attempt(cfg, catalog, (uint32_t)(i * stride % cfg->slides), i, err);
    return st;
}

typedef sm_status (*change_work)(const bench_config *cfg, sm_catalog *catalog, sm_error *err);

static sm_status change(const bench_config *cfg, const char *path, bool create, change_work work,
                        step *s, sm_error *err)
{
    const sm_generation_config config = {.what = "catalog-bench", .wait_s = 1};
    sm_catalog *catalog = NULL;
    double clock = now_s();
    sm_status st = create ? sm_catalog_create(path, "/corpus", &config, &catalog, err)
                          : sm_catalog_change(path, &config, &catalog, err);
    s->begin_s = lap(&clock);
    if (st == SM_OK)
        st = work(cfg, catalog, err);
    s->work_s = lap(&clock);
    if (st == SM_OK)
        st = sm_catalog_commit(&catalog, err);
    s->commit_s = lap(&clock);
    sm_catalog_close(&catalog);
    return st;
}

static sm_status ask_status(const bench_config *cfg, const char *path, step *s, sm_error *err)
{
    sm_catalog *catalog = NULL;
    sm_catalog_summary summary = {0};
    double clock = now_s();
    sm_status st = sm_catalog_open(path, &catalog, err);
    s->begin_s = lap(&clock);
    if (st == SM_OK)
        st = sm_catalog_summarize(catalog, &summary, err);
    if (st == SM_OK && summary.n != cfg->slides)
        st = sm_fail(err, SM_ERR_INTERNAL, "%" PRIu64 " slides counted", summary.n);
    s->work_s = lap(&clock);
    sm_catalog_summary_clear(&summary);
    sm_catalog_close(&catalog);
    return st;
}

static sm_status read_shard(const bench_config *cfg, const char *path, uint32_t shard, step *s,
                            sm_error *err)
{
    const sm_slide_filter filter = {.shard = &shard};
    sm_catalog *catalog = NULL;
    sm_slide_cursor *cursor = NULL;
    sm_slide_row row;
    uint64_t n = 0;
    double clock = now_s();
    sm_status st = sm_catalog_open(path, &catalog, err);
    s->begin_s = lap(&clock);
    if (st == SM_OK)
        st = sm_catalog_slides(catalog, &filter, &cursor, err);
    for (bool more = true; st == SM_OK && more; n++)
        st = sm_slide_cursor_next(cursor, &row, &more, err);
    s->work_s = lap(&clock);
    if (st == SM_OK && n - 1 != cfg->slides / cfg->shards && n - 1 != cfg->slides / cfg->shards + 1)
        st = sm_fail(err, SM_ERR_INTERNAL, "%" PRIu64 " slides in a shard", n - 1);
    sm_slide_cursor_close(&cursor);
    sm_catalog_close(&catalog);
    return st;
}

static int by_total(const void *a, const void *b)
{
    const step *one = a, *other = b;
    const double x = one->begin_s + one->work_s, y = other->begin_s + other->work_s;
    return (x > y) - (x < y);
}

enum { SHARDS_READ = 11 };

/* The median of some shards all over the plan. */
static sm_status read_shards(const bench_config *cfg, const char *path, step *s, sm_error *err)
{
    step each[SHARDS_READ];
    sm_status st = SM_OK;
    for (uint32_t i = 0; st == SM_OK && i < SHARDS_READ; i++) {
        each[i] = *s;
        const uint64_t shard = (uint64_t)cfg->shards * i / SHARDS_READ;
        st = read_shard(cfg, path, (uint32_t)shard, &each[i], err);
    }
    if (st != SM_OK)
        return st;
    qsort(each, SHARDS_READ, sizeof(each[0]), by_total);
    *s = each[SHARDS_READ / 2];
    return SM_OK;
}

/* ---- result ---- */

static void print_steps(const bench_config *cfg, const step *steps, size_t n, uint64_t file_bytes)
{
    if (cfg->json)
        printf("{\"slides\":%" PRIu32 ",\"shards\":%" PRIu32 ",\"file_bytes\":%" PRIu64
               ",\"library\":\"%s\",\"steps\":[",
               cfg->slides, cfg->shards, file_bytes, sm_catalog_library());
    else
        printf("%" PRIu32 " slides, %" PRIu32 " shards, %.1f MB, %s\n%-12s %9s %9s %9s %9s %9s\n",
               cfg->slides, cfg->shards, (double)file_bytes / 1e6, sm_catalog_library(), "step",
               "open s", "work s", "publish s", "all s", "target s");
    for (size_t i = 0; i < n; i++) {
        const step *s = &steps[i];
        const double all = s->begin_s + s->work_s + s->commit_s;
        if (cfg->json)
            printf("%s{\"step\":\"%s\",\"open_s\":%.4f,\"work_s\":%.4f,\"publish_s\":%.4f,"
                   "\"all_s\":%.4f,\"target_s\":%g}",
                   i > 0 ? "," : "", s->name, s->begin_s, s->work_s, s->commit_s, all, s->target_s);
        else
            printf("%-12s %9.3f %9.3f %9.3f %9.3f %9g\n", s->name, s->begin_s, s->work_s,
                   s->commit_s, all, s->target_s);
    }
    printf("%s", cfg->json ? "]}\n" : "");
}

static sm_status measure(const bench_config *cfg, const char *path, sm_error *err)
{
    step steps[] = {
        {.name = "create", .target_s = 30}, {.name = "plan", .target_s = 10},
        {.name = "status", .target_s = 1},  {.name = "open shard", .target_s = 0.05},
        {.name = "merge", .target_s = 60},  {.name = "status done", .target_s = 1},
    };
    struct stat info = {0};
    sm_status st = change(cfg, path, true, put_all, &steps[0], err);
    if (st == SM_OK)
        st = change(cfg, path, false, assign_all, &steps[1], err);
    if (st == SM_OK)
        st = ask_status(cfg, path, &steps[2], err);
    if (st == SM_OK)
        st = read_shards(cfg, path, &steps[3], err);
    if (st == SM_OK)
        st = change(cfg, path, false, put_attempts, &steps[4], err);
    if (st == SM_OK)
        st = ask_status(cfg, path, &steps[5], err);
    if (st == SM_OK && stat(path, &info) == 0)
        print_steps(cfg, steps, SM_COUNT(steps), (uint64_t)info.st_size);
    return st;
}

/* The files that a catalog consists of; a folder that holds anything else stays. */
static void remove_catalog(const char *dir, const char *path)
{
    char name[4096];
    for (unsigned i = 1; i <= 9; i++) {
        snprintf(name, sizeof(name), "%s.d/gen-%010u", path, i);
        (void)unlink(name);
        snprintf(name, sizeof(name), "%s.d/gen-%010u.sha256", path, i);
        (void)unlink(name);
    }
    snprintf(name, sizeof(name), "%s.d/lock.holder", path);
    (void)rmdir(name);
    snprintf(name, sizeof(name), "%s.d/lock", path);
    (void)unlink(name);
    snprintf(name, sizeof(name), "%s.d", path);
    (void)rmdir(name);
    (void)unlink(path);
    (void)rmdir(dir);
}

int main(int argc, char **argv)
{
    bench_config cfg = {0};
    const char *dir = NULL;
    unsigned n_operands = 0;
    int exit_code = 0;
    char path[2048];
    sm_error err = SM_ERROR_INIT;
    if (!sm_opts_start(&COMMAND, argc, argv, &cfg, &dir, &n_operands, NULL, &exit_code))
        return exit_code;
    sm_status st = SM_OK;
    (void)mkdir(dir, 0777);
    if ((size_t)snprintf(path, sizeof(path), "%s/corpus.smc", dir) >= sizeof(path))
        st = sm_fail(&err, SM_ERR_ARG, "DIR is too long");
    if (st == SM_OK)
        st = measure(&cfg, path, &err);
    if (st == SM_OK && fflush(stdout) != 0)
        st = sm_fail(&err, SM_ERR_IO, "cannot write the result");
    if (!cfg.keep)
        remove_catalog(dir, path);
    if (st != SM_OK)
        (void)fprintf(stderr, "catalog-bench: %s\n", err.message);
    return st == SM_OK ? 0 : sm_exit_code(st);
}
