/* Numbers of repeated runs, and the lines of JSON they are written as. */
#ifndef SM_BENCH_RESULT_H
#define SM_BENCH_RESULT_H

#include <cjson/cJSON.h>
#include <stdint.h>
#include <stdio.h>

#include "common/error.h"

enum { BENCH_REPEATS_MAX = 30 };

/* One number, run by run. */
typedef struct bench_series {
    double runs[BENCH_REPEATS_MAX];
    uint32_t n;
} bench_series;

void bench_series_add(bench_series *series, double value);
/** 0 of none. */
double bench_median(const bench_series *series);
/** Half of the widest distance in parts of the median; 0 with fewer than two runs. */
double bench_noise(const bench_series *series);

/** {"median", "min", "max", "n", "runs"} as `name`; nothing if there is no run. */
void bench_json_series(cJSON *object, const char *name, const bench_series *series);
/** The first line: what, date, commit, machine. path: somewhere on the file system measured. */
cJSON *bench_json_head(const char *what, const char *path);
/** Write and delete it. SM_ERR_NOMEM, SM_ERR_IO. */
SM_NODISCARD sm_status bench_json_line(FILE *out, cJSON *object, const char *path, sm_error *err);

/** Open FILE for the lines, or standard output for "-". SM_ERR_ARG: it cannot be written. */
SM_NODISCARD sm_status bench_json_open(const char *path, FILE **out, sm_error *err);
/** Close it (flush standard output); st of before goes first. */
SM_NODISCARD sm_status bench_json_close(FILE *out, const char *path, sm_status st, sm_error *err);

#endif
