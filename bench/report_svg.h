/* Charts as plain SVG: lines, horizontal bars, histograms. Each is a figure with a caption, a title
 * and description for screen readers, points that the keyboard reaches, and a table of all its
 * numbers. */
#ifndef SM_BENCH_REPORT_SVG_H
#define SM_BENCH_REPORT_SVG_H

#include <stdbool.h>

#include "bench/report_page.h"

#define SM_CHART_SERIES 8 /* at most: as many as there are colours */

/* How numbers of an axis are written. */
typedef enum sm_unit {
    SM_UNIT_COUNT, /* 1,200 or 1.2 M */
    SM_UNIT_BYTES, /* decimal: kB, MB */
    SM_UNIT_RATE,  /* bytes a second */
    SM_UNIT_SECONDS,
    SM_UNIT_MPX_RATE, /* millions of pixels a second */
} sm_unit;

/** "1.5 GB/s", "2:03 h" into out; returns out. */
const char *sm_unit_text(sm_unit unit, double value, char out[32]);

typedef struct sm_chart {
    const char *id; /* fit for an attribute */
    const char *caption, *description;
    const char *x_name, *y_name;
    sm_unit x_unit, y_unit;
} sm_chart;

typedef struct sm_series {
    const char *name;
    const double *y; /* NAN: no value here */
} sm_series;

/** Lines over x[0..n), which grows. More than one series: a legend. */
void sm_chart_lines(sm_page *page, const sm_chart *chart, const double *x, size_t n,
                    const sm_series *series, size_t n_series);

typedef struct sm_bar {
    const char *label;
    double value, least, most; /* least < most: a whisker between them */
    unsigned colour;           /* 0 to 7 */
} sm_bar;

/** Horizontal bars in the given order; y_unit is that of their values. */
void sm_chart_bars(sm_page *page, const sm_chart *chart, const sm_bar *bars, size_t n);

/** Counts of values by powers of two: bucket i holds [scale * 2^i, scale * 2^(i+1)), x_unit.
 *  Series share the buckets. */
void sm_chart_histogram(sm_page *page, const sm_chart *chart, double scale,
                        const uint64_t *const *counts, const char *const *names, size_t n_series,
                        size_t n_buckets);

#endif
