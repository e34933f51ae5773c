/* A run of `slidemill bench peers` as a table of 80 columns and as JSON lines. */
#include <cjson/cJSON.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "bench/peers.h"
#include "common/text.h"

static void print_row(const peers_program *p)
{
    sm_buf clean = {0};
    sm_error ignored = SM_ERROR_INIT;
    (void)printf("%-27s", p->row->name);
    if (p->why[0] == '\0') {
        (void)printf(" %7.2f %3.0f%% %7.2f %6.0f %6.1f %6.0f", bench_median(&p->wall_s),
                     100 * bench_noise(&p->wall_s), bench_median(&p->cpu_s), bench_median(&p->mpx),
                     bench_median(&p->bytes) / 1e6, bench_median(&p->rss_mib));
        (void)printf(" %7" PRIu64 "\n", p->files);
        return;
    }
    if (sm_text_clean(p->why, true, &clean, &ignored) == SM_OK)
        (void)printf(" %s: %s\n", p->absent ? "not run" : "FAILED", (const char *)clean.data);
    sm_buf_free(&clean);
}

void peers_print(const peers_bench *b)
{
    (void)printf("%" PRIu32 " x %" PRIu32 " px, %.1f MB; %" PRIu32 " threads; warm; %" PRIu32
                 " run%s each\n\n",
                 b->w_px, b->h_px, (double)b->slide_bytes / 1e6, b->threads, b->options->repeats,
                 b->options->repeats == 1 ? "" : "s");
    (void)printf("medians                      wall s   +-   CPU s  Mpx/s out MB    MiB   files\n");
    for (uint32_t i = 0; i < b->n; i++)
        print_row(&b->programs[i]);
    (void)printf("\nslidemill hashes, syncs and reads back what it writes; the others do not. "
                 "sha256sum,\ncp, dcp, dsync: the bytes alone, beside 'slidemill convert "
                 "source'.\n");
}

/* ---- JSON ---- */

static cJSON *head_of(const peers_bench *b)
{
    cJSON *line = bench_json_head("peers", b->folder);
    const char *slash = strrchr(b->slide, '/');
    cJSON *versions = cJSON_AddObjectToObject(line, "versions");
    for (uint32_t i = 0; i < b->n; i++)
        if (b->programs[i].version[0] != '\0')
            (void)cJSON_AddStringToObject(versions, b->programs[i].row->name,
                                          b->programs[i].version);
    cJSON *input = cJSON_AddObjectToObject(line, "input");
    (void)cJSON_AddStringToObject(input, "from", b->options->slide != NULL ? slash + 1 : "mosaic");
    (void)cJSON_AddNumberToObject(input, "width_px", b->w_px);
    (void)cJSON_AddNumberToObject(input, "height_px", b->h_px);
    (void)cJSON_AddNumberToObject(input, "bytes", (double)b->slide_bytes);
    (void)cJSON_AddStringToObject(input, "cache", "warm");
    (void)cJSON_AddNumberToObject(line, "threads", b->threads);
    (void)cJSON_AddNumberToObject(line, "repeats", b->options->repeats);
    return line;
}

static cJSON *line_of(const peers_program *p)
{
    cJSON *line = cJSON_CreateObject();
    (void)cJSON_AddStringToObject(line, "id", p->row->name);
    (void)cJSON_AddStringToObject(line, "does", p->row->does);
    (void)cJSON_AddStringToObject(line, "words", p->row->words);
    (void)cJSON_AddStringToObject(line, "state",
                                  p->absent           ? "absent"
                                  : p->why[0] != '\0' ? "failed"
                                                      : "ok");
    if (p->why[0] != '\0') {
        (void)cJSON_AddStringToObject(line, "why", p->why);
        return line;
    }
    bench_json_series(line, "wall_s", &p->wall_s);
    bench_json_series(line, "cpu_s", &p->cpu_s);
    bench_json_series(line, "rss_mib", &p->rss_mib);
    bench_json_series(line, "bytes", &p->bytes);
    bench_json_series(line, "mpx_per_s", &p->mpx);
    bench_json_series(line, "mb_in_per_s", &p->mb_in);
    (void)cJSON_AddNumberToObject(line, "files", (double)p->files);
    return line;
}

sm_status peers_write_json(const peers_bench *b, const char *path, sm_error *err)
{
    FILE *out = NULL;
    sm_status st = bench_json_open(path, &out, err);
    if (st != SM_OK)
        return st;
    st = bench_json_line(out, head_of(b), path, err);
    for (uint32_t i = 0; st == SM_OK && i < b->n; i++)
        st = bench_json_line(out, line_of(&b->programs[i]), path, err);
    return bench_json_close(out, path, st, err);
}
