/* Log lines of a run: key=value, or one JSON object a line, on standard error. */
#ifndef SM_INGEST_RUN_LOG_H
#define SM_INGEST_RUN_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "common/buf.h"

typedef struct sm_run_log {
    uint32_t rank;
    bool json;
    bool quiet;    /* nothing below "warn" */
    bool terminal; /* a progress bar may stand on the line */
} sm_run_log;

/* A line in the making; when memory is short the line is lost, nothing else. */
typedef struct sm_run_line {
    const sm_run_log *log;
    sm_buf text;
    bool off; /* not to be printed */
} sm_run_line;

/** level: "info", "warn", "error"; event: one word. */
void sm_run_line_begin(sm_run_line *line, const sm_run_log *log, const char *level,
                       const char *event);
/** Any bytes; NULL or "" leaves the field out. */
void sm_run_line_text(sm_run_line *line, const char *key, const char *value);
void sm_run_line_u64(sm_run_line *line, const char *key, uint64_t value);
/** With so many digits behind the point. */
void sm_run_line_real(sm_run_line *line, const char *key, double value, int digits);
/** One write, so that lines of several ranks do not mix. */
void sm_run_line_end(sm_run_line *line);

/** A line of just one text, "message". */
void sm_run_log_say(const sm_run_log *log, const char *level, const char *event,
                    const char *message);

#endif
