/* What the sub-commands of `slidemill catalog` share: their options, how they speak, where their
 * output goes. Only for ingest/catalog_*.c and cmd_catalog.c. */
#ifndef SM_INGEST_CATALOG_CLI_H
#define SM_INGEST_CATALOG_CLI_H

#include <stdbool.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/catalog.h"
#include "common/opts.h"
#include "common/sink.h"
#include "ingest/pattern.h"
#include "ingest/scan.h"

#define CATALOG_OPERANDS_MAX 4096 /* journals of a merge, too */

enum { FORMAT_TEXT, FORMAT_CSV, FORMAT_JSONL };      /* list */
enum { EXPORT_SHA256SUM, EXPORT_CSV, EXPORT_JSONL }; /* export */
enum { WHAT_SOURCES, WHAT_OUTPUTS };

/* Options of all sub-commands; each has the rows that it takes. */
typedef struct catalog_args {
    const char *operands[CATALOG_OPERANDS_MAX];
    unsigned n_operands;
    const char *title; /* "slidemill catalog scan" */
    uint32_t wait_s;
    const char *scratch, *output, *from, *pattern, *exclude, *under, *state, *class_name, *brick,
        *glob, *path, *mpi;
    bool json, scan, probe, gdc_folders, add, missing;
    int kind, format, what;
    uint32_t limit;
} catalog_args;

/** Each returns the exit code. (Not const only because catalog_say takes them as its `void *`.) */
int catalog_create(catalog_args *args);
int catalog_scan(catalog_args *args);
int catalog_import(catalog_args *args);
int catalog_export(catalog_args *args);
int catalog_status(catalog_args *args);
int catalog_list(catalog_args *args);
int catalog_retry(catalog_args *args);
int catalog_merge(catalog_args *args);
int catalog_verify(catalog_args *args);
int catalog_fsck(catalog_args *args);

/* ---- speaking (catalog_cli.c) ---- */

/** "slidemill catalog scan: MESSAGE" to stderr; the exit code of err. */
int catalog_fail(const catalog_args *args, const sm_error *err);
/** A line of a long operation to stderr; arg is the catalog_args. */
void catalog_say(void *arg, const char *line);
/** How far a scan is, on a terminal, a few times a second; arg is the catalog_args. */
void catalog_at(void *arg, const char *what, uint64_t n_folders, uint64_t n_slides);
/** Erase what catalog_at wrote. */
void catalog_at_end(void);
/** Flush standard output; SM_ERR_IO, without a message when its reader went away. */
SM_NODISCARD sm_status catalog_flush(sm_error *err);
/** "1,234,567" */
const char *catalog_number(uint64_t number, char out[32]);
/** "1 slide", "1,234 slides" */
const char *catalog_count(uint64_t number, const char *noun, char out[64]);
/** "2026-01-02T03:04:05Z", with 9 digits of the second if exact; "" for 0. */
const char *catalog_time(int64_t ns, bool exact, char out[40]);
/** As sm_text_clean for a terminal, valid until the next call; "?" when out of memory. */
const char *catalog_clean(const char *text);
/** Is standard output a terminal that may be coloured? */
bool catalog_colours(void);

/* ---- arguments (catalog_cli.c) ---- */

/** "failed,quarantined" into bits; NULL is 0. */
SM_NODISCARD sm_status catalog_parse_states(const char *text, unsigned *bits, sm_error *err);
/** "a,b,c" into a NULL-terminated list; catalog_free_words. NULL is an empty list. */
SM_NODISCARD sm_status catalog_split(const char *text, const char ***words, sm_error *err);
void catalog_free_words(const char ***words);
/** A glob that matches exactly this path. */
SM_NODISCARD sm_status catalog_glob_of(const char *path, sm_buf *glob, sm_error *err);
/** Lock and scratch of a changing command. */
sm_generation_config catalog_config(const catalog_args *args);

/* ---- output that appears whole (catalog_out.c) ---- */

typedef struct catalog_out {
    const char *path; /* NULL: standard output */
    sm_sink *sink;
    sm_buf text;
} catalog_out;

/** @param catalog  may not be overwritten by it; NULL: none */
SM_NODISCARD sm_status catalog_out_open(const char *path, const sm_catalog *catalog,
                                        catalog_out *out, sm_error *err);
/** What was appended to out->text, once it is enough. */
SM_NODISCARD sm_status catalog_out_flush(catalog_out *out, bool all, sm_error *err);
/** Write the rest; a file is made durable and put in place. */
SM_NODISCARD sm_status catalog_out_commit(catalog_out *out, sm_error *err);
void catalog_out_discard(catalog_out *out);

/* ---- rows for programs (catalog_rows.c) ---- */

/* What all rows of a catalog have in common. */
typedef struct catalog_columns {
    sm_catalog *catalog;
    sm_pattern *pattern; /* NULL: no fields */
    const char *const *names;
    size_t n;
} catalog_columns;

SM_NODISCARD sm_status catalog_columns_of(sm_catalog *catalog, catalog_columns *columns,
                                          sm_error *err);
void catalog_columns_free(catalog_columns *columns);
/** The header line of CSV. */
SM_NODISCARD sm_status catalog_rows_head(const catalog_columns *columns, int what, sm_buf *out,
                                         sm_error *err);
/** One slide or one output as a line of CSV or JSON. */
SM_NODISCARD sm_status catalog_row(const catalog_columns *columns, const sm_slide_row *row,
                                   bool json, sm_buf *out, sm_error *err);
SM_NODISCARD sm_status catalog_row_output(const sm_slide_row *row, const sm_output_row *output,
                                          bool json, sm_buf *out, sm_error *err);

#endif
