/* What the parts of `slidemill bench ingest` share: the corpus, the programs that take turns over
 * it, what each run gave. Only for bench/ingest_*.c and cmd_bench.c. */
#ifndef SM_BENCH_INGEST_BENCH_H
#define SM_BENCH_INGEST_BENCH_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bench/result.h"
#include "bench/runner.h"
#include "common/brick.h"
#include "common/error.h"

enum {
    INGEST_LIST_MAX = 8,     /* numbers of ranks, or of threads */
    INGEST_BRICKS_MAX = 256, /* that are told apart */
    INGEST_STAGES_MAX = 64,
    INGEST_RANKS_MAX = 256,
};

enum { INGEST_COPY, INGEST_TRANSCODE, INGEST_RETILE, INGEST_ZSTD };
enum { INGEST_COLD, INGEST_WARM };
enum { INGEST_AGAINST_BOTH, INGEST_AGAINST_LIMIT, INGEST_AGAINST_FIO, INGEST_AGAINST_NONE };

typedef struct ingest_options {
    const char *dir, *corpus, *catalog, *slide, *ranks, *threads, *json;
    uint32_t slides, width_px, height_px, repeats, limit_slides;
    int mode, cache, against;
    bool quiet;
} ingest_options;

typedef struct ingest_list {
    uint32_t values[INGEST_LIST_MAX], n;
} ingest_list;

typedef struct ingest_slide {
    char *path; /* whole */
    uint64_t bytes;
    uint32_t w_px, h_px; /* 0: slidemill cannot open it */
    uint32_t tile_px;    /* of square JPEG tiles at level 0; 0: no such slide, no codec limit */
} ingest_slide;

typedef struct ingest_corpus {
    char folder[PATH_MAX]; /* ours, in DIR; "" before */
    int lock_fd;
    char root[PATH_MAX], catalog[PATH_MAX], out[PATH_MAX];
    ingest_slide *slides;
    size_t n, cap;
    uint64_t bytes;
    double mpx; /* of level 0 of those that open */
} ingest_corpus;

typedef enum ingest_kind { INGEST_RUN, INGEST_LIMIT, INGEST_FIO } ingest_kind;

typedef struct ingest_brick {
    char name[SM_BRICK_CAP];
    double bytes_in, bytes_out; /* of the run at hand */
    bench_series mb_in, mb_out;
} ingest_brick;

typedef struct ingest_stage {
    char group[16], name[24]; /* of the journals: "stages", "mill" */
    double s;                 /* of the run at hand, all slides */
    bench_series thread_s;
} ingest_stage;

/* What a run's journals say, added up. */
typedef struct ingest_sums {
    double bytes_in, bytes_out, pixels, peak_rss_mib;
    uint32_t done, failed;
    char why[160]; /* of the first failed slide */
} ingest_sums;

/* One of the programs that take turns. */
typedef struct ingest_program {
    ingest_kind kind;
    uint32_t ranks, threads; /* a limit has only threads, fio only ranks */
    char why[200];           /* "": it counts; else absent or failed, and why */
    bool absent;
    uint32_t failed_slides; /* the most of a run */
    bench_series wall_s, elapsed_s, cpu_s, rss_mib, slides_per_h, mb_in, mb_out, mpx;
    bench_series of_limit;   /* ingest: part of min(codec limit, fio), round by round */
    uint32_t n_limit, n_fio; /* rounds in which that one was the limit */
    ingest_brick *bricks;    /* INGEST_BRICKS_MAX */
    size_t n_bricks;
    ingest_stage stages[INGEST_STAGES_MAX];
    size_t n_stages;
} ingest_program;

typedef struct ingest_bench {
    const ingest_options *options;
    ingest_corpus corpus;
    ingest_list ranks, threads;
    uint32_t cpus;
    char mpirun[PATH_MAX], fio[PATH_MAX], ingest[PATH_MAX], limit[PATH_MAX]; /* "" not there */
    char mpirun_version[128], fio_version[128];
    ingest_program *programs;
    size_t n_programs;
    uint64_t wall_ns;
} ingest_bench;

/** Check what the option table cannot, find programs. SM_ERR_ARG. */
SM_NODISCARD sm_status ingest_prepare(const ingest_options *options, ingest_bench *b,
                                      sm_error *err);
/** Make or look through the corpus. SM_ERR_ARG: no folder, no slide; SM_ERR_LIMIT: no room. */
SM_NODISCARD sm_status ingest_corpus_make(ingest_bench *b, sm_error *err);
/** False: something stays of the folder. */
bool ingest_corpus_remove(ingest_corpus *corpus);

/** All rounds. */
SM_NODISCARD sm_status ingest_measure(ingest_bench *b, sm_error *err);
/** One run of slidemill ingest, codec-limit or fio; a failure goes into program->why. */
SM_NODISCARD sm_status ingest_run_once(ingest_bench *b, ingest_program *program, sm_error *err);
/** Options of convert, and the work of codec-limit, of a mode. */
const char *ingest_mode_words(int mode);

/** Add up what the journals of the last run say, bricks and stages into program. */
SM_NODISCARD sm_status ingest_read_journals(const ingest_bench *b, ingest_program *program,
                                            ingest_sums *sums, sm_error *err);

/** The point with the most slides an hour; NULL: none. */
const ingest_program *ingest_best(const ingest_bench *b);
/** "ingest 2 ranks 1 thread", "codec limit 2 threads", "fio 2 jobs" */
void ingest_program_id(const ingest_program *program, char id[64]);
void ingest_print(const ingest_bench *b);
SM_NODISCARD sm_status ingest_write_json(const ingest_bench *b, const char *path, sm_error *err);
void ingest_free(ingest_bench *b);

#endif
