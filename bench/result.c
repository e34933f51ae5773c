/* Medians and JSON lines, alike for all benchmarks. Owns nothing. */
#include "bench/result.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "bench/bricks.h"
#include "bench/machine.h"
#include "ingest/rank.h"

void bench_series_add(bench_series *series, double value)
{
    if (series->n < BENCH_REPEATS_MAX && isfinite(value))
        series->runs[series->n++] = value;
}

double bench_median(const bench_series *series)
{
    return series->n > 0 ? bricks_spread_of(series->runs, series->n).median : 0;
}

double bench_noise(const bench_series *series)
{
    if (series->n < 2)
        return 0;
    const bricks_spread s = bricks_spread_of(series->runs, series->n);
    return s.median > 0 ? (s.max - s.min) / 2 / s.median : 0;
}

void bench_json_series(cJSON *object, const char *name, const bench_series *series)
{
    if (series->n == 0)
        return;
    const bricks_spread s = bricks_spread_of(series->runs, series->n);
    cJSON *spread = cJSON_AddObjectToObject(object, name);
    (void)cJSON_AddNumberToObject(spread, "median", s.median);
    (void)cJSON_AddNumberToObject(spread, "min", s.min);
    (void)cJSON_AddNumberToObject(spread, "max", s.max);
    (void)cJSON_AddNumberToObject(spread, "n", series->n);
    (void)cJSON_AddItemToObject(spread, "runs",
                                cJSON_CreateDoubleArray(series->runs, (int)series->n));
}

cJSON *bench_json_head(const char *what, const char *path)
{
    bench_machine m;
    cJSON *line = cJSON_CreateObject();

    bench_machine_describe(path, &m);
    (void)cJSON_AddStringToObject(line, "what", what);
    (void)cJSON_AddStringToObject(line, "date", m.date);
    (void)cJSON_AddStringToObject(line, "commit", bench_commit());
    cJSON *machine = cJSON_AddObjectToObject(line, "machine");
    (void)cJSON_AddStringToObject(machine, "host", m.host);
    (void)cJSON_AddStringToObject(machine, "cpu", m.cpu);
    (void)cJSON_AddNumberToObject(machine, "cpus", m.cpus);
    (void)cJSON_AddNumberToObject(machine, "memory_gib", m.memory_gib);
    (void)cJSON_AddStringToObject(machine, "kernel", m.kernel);
    (void)cJSON_AddStringToObject(machine, "system", m.system);
    (void)cJSON_AddStringToObject(machine, "file_system", m.file_system);
    (void)cJSON_AddStringToObject(machine, "slidemill", SM_VERSION);
    (void)cJSON_AddStringToObject(machine, "mpi", sm_ranks_library());
    return line;
}

sm_status bench_json_line(FILE *out, cJSON *object, const char *path, sm_error *err)
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

sm_status bench_json_open(const char *path, FILE **out, sm_error *err)
{
    *out = strcmp(path, "-") == 0 ? stdout : fopen(path, "we");
    if (*out == NULL)
        return sm_fail_errno(err, SM_ERR_ARG, errno, "%s: cannot be written", path);
    return SM_OK;
}

sm_status bench_json_close(FILE *out, const char *path, sm_status st, sm_error *err)
{
    const int rc = out == stdout ? fflush(stdout) : fclose(out);
    if (rc != 0 && st == SM_OK)
        st = sm_fail_errno(err, SM_ERR_IO, errno, "%s: cannot write", path);
    return st;
}
