/* What the journals of a run say (docs/catalog.md "Journals"), by whatever names of stages stand
 * there: a benchmark must not need the journals of its own version. */
#include <cjson/cJSON.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/ingest_bench.h"
#include "common/path.h"
#include "ingest/journal.h"

/* Members of an outcome that hold times by stage: what all threads did and what they waited for,
 * and what came after what on the wall. An older journal has the last alone. */
static const char *const GROUPS[] = {"work", "waits", "stages"};

/* Beyond 2^53 a number is written as text. */
static double number_of(const cJSON *item)
{
    const double value = cJSON_IsNumber(item)   ? item->valuedouble
                         : cJSON_IsString(item) ? strtod(item->valuestring, NULL)
                                                : 0;
    return isfinite(value) ? value : 0;
}

static double member(const cJSON *object, const char *name)
{
    return number_of(cJSON_GetObjectItemCaseSensitive(object, name));
}

static const char *text(const cJSON *object, const char *name)
{
    const char *value = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, name));
    return value != NULL ? value : "";
}

/* ---- stages ---- */

static ingest_stage *stage_of(ingest_program *p, const char *group, const char *name)
{
    for (size_t i = 0; i < p->n_stages; i++)
        if (strcmp(p->stages[i].group, group) == 0 && strcmp(p->stages[i].name, name) == 0)
            return &p->stages[i];
    if (p->n_stages == INGEST_STAGES_MAX)
        return NULL;
    ingest_stage *stage = &p->stages[p->n_stages++];
    *stage = (ingest_stage){0};
    (void)snprintf(stage->group, sizeof stage->group, "%.15s", group);
    (void)snprintf(stage->name, sizeof stage->name, "%.23s", name);
    return stage;
}

static void add_times(ingest_program *p, const char *group, const cJSON *times)
{
    char name[24];
    const cJSON *item;
    cJSON_ArrayForEach(item, times)
    {
        if (item->string == NULL || (!cJSON_IsNumber(item) && !cJSON_IsString(item)))
            continue;
        (void)snprintf(name, sizeof name, "%.23s", item->string);
        ingest_stage *stage = stage_of(p, group, name);
        if (stage != NULL)
            stage->s += number_of(item) / 1e9;
    }
}

static void add_stages(ingest_program *p, const cJSON *outcome)
{
    for (size_t i = 0; i < SM_COUNT(GROUPS); i++)
        add_times(p, GROUPS[i], cJSON_GetObjectItemCaseSensitive(outcome, GROUPS[i]));
}

/* ---- bricks ---- */

static ingest_brick *brick_of(ingest_program *p, const char *name)
{
    name = name[0] != '\0' ? name : "unknown";
    for (size_t i = 0; i < p->n_bricks; i++)
        if (strcmp(p->bricks[i].name, name) == 0)
            return &p->bricks[i];
    if (p->n_bricks == INGEST_BRICKS_MAX) /* the sums still hold: the last one takes the rest */
        return &p->bricks[INGEST_BRICKS_MAX - 1];
    ingest_brick *brick = &p->bricks[p->n_bricks++];
    *brick = (ingest_brick){0};
    (void)snprintf(brick->name, sizeof brick->name, "%s", name);
    return brick;
}

/* An output's brick is asked of the file: its name, not the slide's, decides. */
static void brick_of_output(const ingest_bench *b, const cJSON *outcome, char name[SM_BRICK_CAP])
{
    const cJSON *output = cJSON_GetObjectItemCaseSensitive(outcome, "output");
    sm_error ignored = SM_ERROR_INIT;
    sm_buf relative = {0}, path = {0};
    name[0] = '\0';
    if (sm_path_decode(text(output, "path"), &relative, &ignored) == SM_OK &&
        sm_path_join(b->corpus.out, (const char *)relative.data, &path, &ignored) == SM_OK) {
        const int fd = open((const char *)path.data, O_PATH | O_CLOEXEC);
        if (fd < 0 || sm_brick_of(fd, name, &ignored) != SM_OK)
            name[0] = '\0';
        if (fd >= 0)
            (void)close(fd);
    }
    sm_buf_free(&relative);
    sm_buf_free(&path);
}

/* ---- lines ---- */

static void add_outcome(const ingest_bench *b, ingest_program *p, const cJSON *outcome,
                        ingest_sums *sums)
{
    char brick[SM_BRICK_CAP];
    if (strcmp(text(outcome, "outcome"), "ok") != 0) {
        sums->failed++;
        if (sums->why[0] == '\0')
            (void)snprintf(sums->why, sizeof sums->why, "%.150s", text(outcome, "error"));
        return;
    }
    sums->done++;
    sums->bytes_in += member(outcome, "bytes_in");
    sums->bytes_out += member(outcome, "bytes_out");
    sums->pixels += member(outcome, "pixels");
    sums->peak_rss_mib = fmax(sums->peak_rss_mib, member(outcome, "peak_rss") / (1 << 20));
    brick_of(p, text(outcome, "brick"))->bytes_in += member(outcome, "bytes_in");
    brick_of_output(b, outcome, brick);
    brick_of(p, brick)->bytes_out += member(outcome, "bytes_out");
    add_stages(p, outcome);
}

static sm_status read_journal(const ingest_bench *b, const char *path, ingest_program *p,
                              ingest_sums *sums, sm_error *err)
{
    char *line = NULL;
    size_t cap = 0;
    sm_status st = SM_OK;
    FILE *f = fopen(path, "re");
    if (f == NULL)
        return sm_fail(err, SM_ERR_IO, "%s: cannot be read", path);
    while (st == SM_OK && getline(&line, &cap, f) > 0) {
        cJSON *json = cJSON_Parse(line);
        if (json == NULL)
            st = sm_fail(err, SM_ERR_CORRUPT, "%s: a line is no JSON", path);
        else if (strcmp(text(json, "t"), "end") == 0)
            add_outcome(b, p, cJSON_GetObjectItemCaseSensitive(json, "outcome"), sums);
        cJSON_Delete(json);
    }
    free(line);
    (void)fclose(f);
    return st;
}

sm_status ingest_read_journals(const ingest_bench *b, ingest_program *p, ingest_sums *sums,
                               sm_error *err)
{
    sm_journal_file *files = NULL;
    size_t n = 0;
    *sums = (ingest_sums){0};
    for (size_t i = 0; i < p->n_bricks; i++)
        p->bricks[i].bytes_in = p->bricks[i].bytes_out = 0;
    for (size_t i = 0; i < p->n_stages; i++)
        p->stages[i].s = 0;
    sm_status st = sm_journal_list(b->corpus.catalog, SM_NO_SHARD, SM_NO_SHARD, &files, &n, err);
    for (size_t i = 0; st == SM_OK && i < n; i++)
        st = read_journal(b, files[i].path, p, sums, err);
    sm_journal_files_free(&files, n);
    return st;
}
