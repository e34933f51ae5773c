/* A catalog in figures for a report: what the attempts and slides of a corpus add up to over time,
 * brick and stage. Memory is bounded whatever the number of slides. */
#ifndef SM_COMMON_CATALOG_REPORT_H
#define SM_COMMON_CATALOG_REPORT_H

#include "common/catalog.h"

#define SM_FIGURE_BINS 96 /* of time, at most */
#define SM_FIGURE_BUCKETS                                                                          \
    48 /* bucket i counts values in [2^i, 2^(i+1)); 0 and 1 are in the first */
#define SM_FIGURE_SLOWEST 20
#define SM_FIGURE_EXAMPLES 5 /* of one class */
#define SM_FIGURE_CLASSES 32

/* One bin of time. */
typedef struct sm_figure_bin {
    uint64_t n_converted, n_hashed, n_failed; /* attempts that ended in it */
    double bytes_in, bytes_out;               /* spread evenly over each attempt */
} sm_figure_bin;

typedef struct sm_figure_attempt {
    int64_t slide;
    uint64_t took_ns, bytes_in;
    sm_outcome_kind outcome;
    sm_phase most; /* the stage that took most of it */
    uint64_t most_ns;
    char path[256]; /* cleaned for display */
} sm_figure_attempt;

/* A slide that failed or was quarantined; texts cleaned for display. */
typedef struct sm_figure_example {
    char error_class[32], path[256], error[256];
} sm_figure_example;

typedef struct sm_figures {
    int64_t began_ns; /* of bin 0 */
    uint64_t bin_ns;
    uint32_t n_bins; /* 0: no attempt yet */
    sm_figure_bin bins[SM_FIGURE_BINS];
    size_t n_bricks;                              /* as in sm_catalog_summary, the same order */
    double *brick_bytes;                          /* read: n_bricks rows of SM_FIGURE_BINS */
    uint64_t phase_ns[SM_PHASES];                 /* of conversions */
    uint64_t outcomes[SM_OUTCOME_LOST + 1];       /* of all attempts */
    uint64_t slide_bytes[SM_FIGURE_BUCKETS];      /* slides by size, without parts */
    uint64_t output_bytes[SM_FIGURE_BUCKETS];     /* pyramids by size */
    uint64_t took_ms[SM_FIGURE_BUCKETS];          /* conversions that went well, by duration */
    sm_figure_attempt slowest[SM_FIGURE_SLOWEST]; /* conversions, slowest first */
    size_t n_slowest;
    sm_figure_example *examples; /* by class, at most SM_FIGURE_EXAMPLES of each */
    size_t n_examples;
} sm_figures;

/** Reads every attempt, slide and output once. SM_ERR_CORRUPT: a row is not what it should be. */
SM_NODISCARD sm_status sm_catalog_figures(sm_catalog *catalog, sm_figures *figures, sm_error *err);
void sm_figures_clear(sm_figures *figures);

/** At most n good outputs, evenly spread over the slides. */
SM_NODISCARD sm_status sm_catalog_sample_outputs(sm_catalog *catalog, uint32_t n,
                                                 sm_output_visit visit, void *arg, sm_error *err);

#endif
