/* How progress reads, apart from clocks and terminals: pure functions, so that tests need neither.
 * Not for other modules; theirs is common/progress.h. */
#ifndef SM_COMMON_PROGRESS_TEXT_H
#define SM_COMMON_PROGRESS_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

/* One moment of a task. */
typedef struct sm_progress_view {
    const char *what;
    const char *phase; /* NULL: none */
    uint64_t bytes, px;
    uint64_t total_bytes, total_px; /* 0: unknown */
    double bytes_per_s, px_per_s;   /* 0: unknown yet */
} sm_progress_view;

/* Room for a bar of 512 columns of UTF-8 and its colours. */
#define SM_PROGRESS_LINE_CAP 2048

/** Fraction done, 0..1, by pixels if their total is known, else by bytes; negative: unknown. */
double sm_progress_fraction(const sm_progress_view *view);

/** Seconds left at the present rate; negative: unknown. */
double sm_progress_eta_s(const sm_progress_view *view);

/** The bar, of at most `columns` terminal columns, without control characters; returns out. What
 * does not fit is left out, the bar first, then the rates; the name is cut with "..". */
const char *sm_progress_bar(const sm_progress_view *view, unsigned columns, bool utf8,
                            char out[SM_PROGRESS_LINE_CAP]);

/** "time=2024-05-01T10:00:00Z slide="a.svs" done=52% ...\n"; returns out. */
const char *sm_progress_log_line(const sm_progress_view *view, time_t now,
                                 char out[SM_PROGRESS_LINE_CAP]);

#endif
