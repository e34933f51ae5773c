/* What the parts of `slidemill bench bricks` share: probe files, loads on them, what was measured.
 * Only for bench/bricks*.c and cmd_bench.c. */
#ifndef SM_BENCH_BRICKS_H
#define SM_BENCH_BRICKS_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/brick.h"
#include "common/error.h"
#include "ingest/rank.h"

enum { BRICKS_MAX = 1024, BRICKS_STREAMS_MAX = 64, BRICKS_REPEATS_MAX = 30 };
#define BRICKS_ALL UINT32_MAX /* in place of a brick: all of them at once */

typedef struct bricks_options {
    const char *mount, *json;
    uint64_t budget, file_bytes; /* file_bytes 0: what fits the budget */
    uint32_t time_s, streams_max, repeats, seed;
    bool drop_caches, quiet;
} bricks_options;

/* ---- probe files (bricks_probe.c) ---- */

typedef struct bricks_brick {
    char name[SM_BRICK_CAP];
    bool failed;
    char why[200];
} bricks_brick;

/* Every brick has n_files files that are read and as many that are written; at rest the latter are
 * empty. All ranks hold the same table. */
typedef struct bricks_probe {
    char folder[PATH_MAX]; /* of rank 0's making; "" before */
    uint32_t n_bricks, n_files;
    uint32_t n_expected; /* bricks that the mount says it has; 0: it does not say */
    uint32_t n_refused;  /* names that no brick took */
    uint32_t n_names;    /* names used so far, also of files removed since */
    uint64_t file_bytes, seed;
    uint64_t setup_ns;    /* that writing them may take */
    bricks_brick *bricks; /* BRICKS_MAX */
    uint32_t *names;      /* [brick][2 * n_files], numbers of files: first those to read */
    int lock_fd;          /* rank 0's, so that another run can tell live probe files from dead */
} bricks_probe;

/** On one rank: make the folder, and empty files in it until every brick has enough. Probe files
 *  of runs that died are removed first. SM_ERR_ARG: no folder, not writable; SM_ERR_LIMIT: the
 *  budget is more than half of what is free, or too small for these bricks. */
SM_NODISCARD sm_status bricks_place(const bricks_options *options, bricks_probe *probe,
                                    sm_error *err);
/** Collective: rank 0's table to all. */
SM_NODISCARD sm_status bricks_share(sm_ranks *ranks, bricks_probe *probe, sm_error *err);
void bricks_path(const bricks_probe *probe, uint32_t brick, uint32_t file, bool to_write,
                 char path[PATH_MAX]);
/** On the rank that placed: remove every probe file. False: something stays, and was named. */
bool bricks_remove(bricks_probe *probe);
void bricks_free(bricks_probe *probe);

/* ---- load (bricks_load.c) ---- */

typedef enum bricks_kind {
    BRICKS_WRITE, /* whole files, each with its fsync */
    BRICKS_READ,
    BRICKS_SLIDE, /* as a slide is read: small reads of the directories, then all of it */
    BRICKS_FSYNC, /* 4 KiB and an fsync, again and again */
} bricks_kind;

typedef struct bricks_point {
    bricks_kind kind;
    uint32_t streams; /* on each brick, those of all ranks together */
    size_t block_bytes;
    bool direct, warm;
    bool threads; /* instead of io_uring */
    bool all;     /* on all bricks at once */
} bricks_point;

/* One stream: files first, first + step, ... of a brick, one after the other. */
typedef struct bricks_stream {
    uint32_t brick, first, step;
    uint64_t bytes, ns;
    uint64_t wait_ns, n_waits; /* fsync, or the directories of a slide */
    sm_error err;
} bricks_stream;

/**
 * Run streams at once, for at most ns or until one of them has no more to do; with ns 0 the files
 * to read are written, to their end. A stream that fails says so in its err.
 */
SM_NODISCARD sm_status bricks_load(const bricks_probe *probe, const bricks_point *point,
                                   uint64_t ns, bricks_stream *streams, uint32_t n, sm_error *err);
/** "io_uring" or "threads (reason)", as of the last load. */
const char *bricks_backend(void);

/* ---- measuring (bricks_run.c) ---- */

/* What one point gave on one brick, repeat by repeat. */
typedef struct bricks_series {
    bricks_point point;
    uint32_t brick; /* or BRICKS_ALL */
    uint32_t n;
    double mb_s[BRICKS_REPEATS_MAX];
    double wait_ms[BRICKS_REPEATS_MAX]; /* fsync or directories; 0: none */
    double busy[BRICKS_REPEATS_MAX];    /* CPUs of this node, 0..1 */
} bricks_series;

typedef struct bricks_spread {
    double median, min, max;
} bricks_spread;

typedef struct bricks_result {
    const bricks_options *options;
    const bricks_probe *probe;
    uint32_t ranks, n_levels, streams_per_brick; /* levels: 1, 2, 4, ... streams */
    uint64_t wall_ns, bytes_written, bytes_read;
    bool caches_dropped, out_of_time, has_uring;
    bricks_series *series;
    size_t n_series;
} bricks_result;

/** Collective: measure all. The result is whole on rank 0 only. */
SM_NODISCARD sm_status bricks_run(sm_ranks *ranks, const bricks_options *options,
                                  bricks_probe *probe, bricks_result *result, sm_error *err);
void bricks_result_free(bricks_result *result);

bricks_spread bricks_spread_of(const double *values, uint32_t n);
/** NULL when it was not measured. */
const bricks_series *bricks_find(const bricks_result *result, const bricks_point *point,
                                 uint32_t brick);
/** Median MB/s; 0 when it was not measured. */
double bricks_rate(const bricks_result *result, const bricks_point *point, uint32_t brick);
/** 4 MiB blocks, io_uring where there is one, through the cache. */
bricks_point bricks_usual(const bricks_result *result, bricks_kind kind, uint32_t streams);
/** Streams from which on a brick gets no faster: the fewest that give 95% of the best; 0: it was
 *  not measured. */
uint32_t bricks_saturation(const bricks_result *result, uint32_t brick, bricks_kind kind);
/** Its rate in parts of the median brick's, if it is clearly slower, else 1. */
double bricks_slowness(const bricks_result *result, uint32_t brick, bricks_kind kind);

/* ---- telling (bricks_print.c, bricks_json.c) ---- */

void bricks_print(const bricks_result *result);
SM_NODISCARD sm_status bricks_write_json(const bricks_result *result, const char *path,
                                         sm_error *err);

#endif
