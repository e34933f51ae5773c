/* A run as JSON lines: what it was measured on, a line a point and brick, what it comes to. */
#include <cjson/cJSON.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/bricks.h"
#include "bench/machine.h"
#include "common/buf.h"

static const char *const KINDS[] = {"write", "read", "slide", "fsync"};

/* Takes the object over. */
static sm_status put_line(FILE *out, cJSON *object, const char *path, sm_error *err)
{
    char *text = object != NULL ? cJSON_PrintUnformatted(object) : NULL;
    sm_status st = SM_OK;

    cJSON_Delete(object);
    if (text == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "%s: no memory for a line", path);
    if (fprintf(out, "%s\n", text) < 0)
        st = sm_fail_errno(err, SM_ERR_IO, errno, "%s: cannot write", path);
    cJSON_free(text);
    return st;
}

static cJSON *head_of(const bricks_result *result)
{
    const bricks_options *o = result->options;
    bench_machine m;
    cJSON *line = cJSON_CreateObject();

    bench_machine_describe(o->mount, &m);
    cJSON_AddStringToObject(line, "what", "bricks");
    cJSON_AddStringToObject(line, "date", m.date);
    cJSON_AddStringToObject(line, "commit", bench_commit());
    cJSON *machine = cJSON_AddObjectToObject(line, "machine");
    cJSON_AddStringToObject(machine, "host", m.host);
    cJSON_AddStringToObject(machine, "cpu", m.cpu);
    cJSON_AddNumberToObject(machine, "cpus", m.cpus);
    cJSON_AddNumberToObject(machine, "memory_gib", m.memory_gib);
    cJSON_AddStringToObject(machine, "kernel", m.kernel);
    cJSON_AddStringToObject(machine, "system", m.system);
    cJSON_AddStringToObject(machine, "file_system", m.file_system);
    cJSON_AddStringToObject(machine, "slidemill", SM_VERSION);
    cJSON_AddStringToObject(machine, "mpi", sm_ranks_library());
    cJSON *options = cJSON_AddObjectToObject(line, "options");
    cJSON_AddNumberToObject(options, "budget_bytes", (double)o->budget);
    cJSON_AddNumberToObject(options, "time_s", o->time_s);
    cJSON_AddNumberToObject(options, "repeats", o->repeats);
    cJSON_AddNumberToObject(options, "streams_max", o->streams_max);
    cJSON_AddNumberToObject(options, "seed", o->seed);
    cJSON_AddNumberToObject(line, "ranks", result->ranks);
    cJSON_AddNumberToObject(line, "bricks", result->probe->n_bricks);
    cJSON_AddNumberToObject(line, "file_bytes", (double)result->probe->file_bytes);
    cJSON_AddBoolToObject(line, "machine_cache_dropped", result->caches_dropped);
    return line;
}

static void add_spread(cJSON *line, const char *name, const double *values, uint32_t n)
{
    const bricks_spread s = bricks_spread_of(values, n);
    cJSON *object = cJSON_AddObjectToObject(line, name);
    cJSON_AddNumberToObject(object, "median", s.median);
    cJSON_AddNumberToObject(object, "min", s.min);
    cJSON_AddNumberToObject(object, "max", s.max);
    cJSON_AddNumberToObject(object, "n", n);
    cJSON_AddItemToObject(object, "runs", cJSON_CreateDoubleArray(values, (int)n));
}

static cJSON *line_of(const bricks_result *result, const bricks_series *s)
{
    const bricks_point *p = &s->point;
    const char *brick = s->brick == BRICKS_ALL ? "all" : result->probe->bricks[s->brick].name;
    const char *cache = p->kind == BRICKS_WRITE || p->kind == BRICKS_FSYNC ? "none"
                        : p->warm                                          ? "warm"
                                                                           : "cold";
    char id[SM_BRICK_CAP + 128];
    cJSON *line = cJSON_CreateObject();

    (void)snprintf(id, sizeof id, "%s%s %s %" PRIu32 " streams %zu KiB %s %s %s", brick,
                   p->all && s->brick != BRICKS_ALL ? " (of all)" : "", KINDS[p->kind], p->streams,
                   p->block_bytes / 1024, cache, p->threads ? "threads" : "io_uring",
                   p->direct ? "direct" : "buffered");
    cJSON_AddStringToObject(line, "id", id);
    cJSON_AddStringToObject(line, "brick", brick);
    if (s->brick != BRICKS_ALL)
        cJSON_AddNumberToObject(line, "number", s->brick + 1);
    cJSON_AddStringToObject(line, "test", KINDS[p->kind]);
    cJSON_AddNumberToObject(line, "streams", p->streams);
    cJSON_AddNumberToObject(line, "block_bytes", (double)p->block_bytes);
    cJSON_AddStringToObject(line, "cache", cache);
    cJSON_AddStringToObject(line, "backend", p->threads ? "threads" : "io_uring");
    cJSON_AddBoolToObject(line, "direct", p->direct);
    cJSON_AddBoolToObject(line, "together", p->all);
    if (p->kind != BRICKS_FSYNC)
        add_spread(line, "mb_per_s", s->mb_s, s->n);
    if (p->kind == BRICKS_SLIDE)
        add_spread(line, "directories_ms", s->wait_ms, s->n);
    else if (p->kind != BRICKS_READ && s->brick != BRICKS_ALL)
        add_spread(line, "fsync_ms", s->wait_ms, s->n);
    cJSON_AddNumberToObject(line, "cpu_busy", bricks_spread_of(s->busy, s->n).median);
    return line;
}

static cJSON *tail_of(const bricks_result *result)
{
    cJSON *line = cJSON_CreateObject();
    cJSON *bricks = cJSON_AddArrayToObject(line, "per_brick");

    cJSON_AddStringToObject(line, "id", "result");
    for (uint32_t b = 0; b < result->probe->n_bricks; b++) {
        const bricks_brick *brick = &result->probe->bricks[b];
        cJSON *object = cJSON_CreateObject();
        cJSON_AddItemToArray(bricks, object);
        cJSON_AddStringToObject(object, "brick", brick->name);
        cJSON_AddNumberToObject(object, "saturates_at_streams",
                                bricks_saturation(result, b, BRICKS_READ));
        cJSON_AddNumberToObject(object, "read_of_median", bricks_slowness(result, b, BRICKS_READ));
        cJSON_AddNumberToObject(object, "write_of_median",
                                bricks_slowness(result, b, BRICKS_WRITE));
        if (brick->failed)
            cJSON_AddStringToObject(object, "failed", brick->why);
    }
    cJSON_AddNumberToObject(line, "streams_per_brick", result->streams_per_brick);
    cJSON_AddBoolToObject(line, "out_of_time", result->out_of_time);
    cJSON_AddNumberToObject(line, "wall_s", (double)result->wall_ns / 1e9);
    cJSON_AddNumberToObject(line, "bytes_read", (double)result->bytes_read);
    cJSON_AddNumberToObject(line, "bytes_written", (double)result->bytes_written);
    return line;
}

sm_status bricks_write_json(const bricks_result *result, const char *path, sm_error *err)
{
    const bool to_stdout = strcmp(path, "-") == 0;
    FILE *out = to_stdout ? stdout : fopen(path, "we");
    if (out == NULL)
        return sm_fail_errno(err, SM_ERR_ARG, errno, "%s: cannot be written", path);
    sm_status st = put_line(out, head_of(result), path, err);
    for (size_t i = 0; st == SM_OK && i < result->n_series; i++)
        st = put_line(out, line_of(result, &result->series[i]), path, err);
    if (st == SM_OK)
        st = put_line(out, tail_of(result), path, err);
    const int rc = to_stdout ? fflush(stdout) : fclose(out);
    if (rc != 0 && st == SM_OK)
        st = sm_fail_errno(err, SM_ERR_IO, errno, "%s: cannot write", path);
    return st;
}
