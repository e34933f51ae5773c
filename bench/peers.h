/* What the parts of `slidemill bench peers` share: the rows, how each is run and checked. Only for
 * bench/peers*.c and cmd_bench.c. */
#ifndef SM_BENCH_PEERS_H
#define SM_BENCH_PEERS_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#include "bench/result.h"
#include "bench/runner.h"
#include "common/error.h"

enum { PEERS_MAX = 24 };

typedef struct peers_options {
    const char *slide, *dir, *venv, *programs, *json;
    uint32_t width_px, height_px, threads, repeats;
    bool quiet;
} peers_options;

/* What an output is, and so how it is looked at before its run counts. */
typedef enum peers_output {
    PEERS_TIFF,  /* opens, level 0 has the slide's size */
    PEERS_DZI,   /* OUT.dzi says the size; tiles of its last level are there */
    PEERS_DICOM, /* a folder; one instance has the size and pixel data */
    PEERS_COPY,  /* the slide's own bytes */
    PEERS_NONE,  /* nothing is written: its own summary must say that all was read */
} peers_output;

typedef struct peers_row {
    const char *name;     /* "slidemill convert copy" */
    const char *versions; /* words that make the program say its version; NULL: ours */
    const char *does;     /* for the table: "JPEG pyramid, level 0 copied" */
    const char *program;  /* slidemill-convert, vips, ... */
    const char *words;    /* @IN @OUT @THREADS @MPI are replaced */
    const char *suffix;   /* of the output's name */
    peers_output output;
    bool ours;
} peers_row;

typedef struct peers_program {
    const peers_row *row;
    char path[PATH_MAX];
    char version[128];
    bool absent;
    char why[200]; /* "": it counts */
    bench_series wall_s, cpu_s, rss_mib, bytes, mpx, mb_in;
    uint64_t files; /* of the last output */
} peers_program;

typedef struct peers_bench {
    const peers_options *options;
    char folder[PATH_MAX]; /* ours; "" before */
    int lock_fd;
    char slide[PATH_MAX], out[PATH_MAX]; /* out: a folder, empty before each run */
    uint64_t slide_bytes;
    uint32_t w_px, h_px, threads;
    peers_program programs[PEERS_MAX];
    uint32_t n;
} peers_bench;

/** Find programs, make the slide if none is given. SM_ERR_ARG; SM_ERR_FORMAT: SLIDE is none. */
SM_NODISCARD sm_status peers_prepare(const peers_options *options, peers_bench *b, sm_error *err);
/** All rounds; a program that fails is not run again. */
SM_NODISCARD sm_status peers_measure(peers_bench *b, sm_error *err);
bool peers_any_of_ours(const peers_bench *b);
/** False: something stays. */
bool peers_remove(peers_bench *b);

/** Does the output of `row` at `path` count? Else says why. */
bool peers_check(const peers_bench *b, const peers_row *row, const char *path, char why[200]);
/** Level 0 of a slide that slidemill opens. */
SM_NODISCARD sm_status peers_size_of(const char *path, uint32_t *w_px, uint32_t *h_px,
                                     uint64_t *bytes, sm_error *err);

void peers_print(const peers_bench *b);
SM_NODISCARD sm_status peers_write_json(const peers_bench *b, const char *path, sm_error *err);

#endif
