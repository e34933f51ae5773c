/* Programs that a benchmark starts one after the other: timed, with their output kept, and gone
 * when the benchmark is; and the folder in which all of it happens. */
#ifndef SM_BENCH_RUNNER_H
#define SM_BENCH_RUNNER_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/error.h"

/* ---- command lines ---- */

enum { BENCH_WORDS_MAX = 512 };

/* A command line; the words are copied. Zeroed it is empty. A failure sticks until it is run. */
typedef struct bench_argv {
    char *words[BENCH_WORDS_MAX + 1]; /* NULL-terminated */
    size_t n;
    bool failed; /* no memory, or too many words */
} bench_argv;

void bench_argv_add(bench_argv *argv, const char *fmt, ...) SM_PRINTF(2, 3);
/** Words separated by single blanks. */
void bench_argv_split(bench_argv *argv, const char *words);
void bench_argv_free(bench_argv *argv);

/* ---- one program ---- */

typedef struct bench_run {
    double wall_s, cpu_s; /* CPU: of it and of all that it waited for */
    double rss_mib;       /* of the largest single process among them */
    int code;             /* exit code; 128 + signal */
    sm_buf out;           /* standard output, NUL-terminated */
    char last[200];       /* last line of standard error, else of standard output; "" none */
} bench_run;

/** Call once, before the first program: what a killed program leaves behind is then ours to end. */
void bench_runner_start(void);
/**
 * Run it to its end, in a process group of its own. A program that fails is no error: see code.
 * SM_ERR_INTERRUPTED: a signal came; the program and all it started are gone. SM_ERR_ARG: no such
 * program. run is filled anew; bench_run_free releases it.
 */
SM_NODISCARD sm_status bench_run_program(const bench_argv *argv, bench_run *run, sm_error *err);
void bench_run_free(bench_run *run);

/** A program of ours: beside this one, or in ../libexec/slidemill. False: it is not there. */
bool bench_own_program(const char *name, char path[PATH_MAX]);
/** A program of others: in `folder` (NULL: none) or in an absolute folder of PATH. */
bool bench_other_program(const char *name, const char *folder, char path[PATH_MAX]);
/** First line that `path WORDS` prints, "" if it fails. */
SM_NODISCARD sm_status bench_version(const char *path, const char *words, char out[128],
                                     sm_error *err);

/* ---- the folder ---- */

/** Make DIR/PREFIXxxxxxx. Those that runs with this prefix left when they were killed are removed
 *  first: a lock tells them from live ones. SM_ERR_ARG: DIR is missing or cannot be written. */
SM_NODISCARD sm_status bench_folder_make(const char *dir, const char *prefix, char folder[PATH_MAX],
                                         int *lock_fd, sm_error *err);
/** Everything below path, and path itself. False: something stays. Not there at all: true. */
bool bench_remove_tree(const char *path);
/** Bytes and number of the regular files below path. */
void bench_count_tree(const char *path, uint64_t *bytes, uint64_t *n);
/** Free bytes of the file system of path; 0: it does not say. */
uint64_t bench_free_bytes(const char *path);

#endif
