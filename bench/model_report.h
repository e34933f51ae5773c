/* What the scale model says: as text, JSON and a figure. */
#ifndef SM_BENCH_MODEL_REPORT_H
#define SM_BENCH_MODEL_REPORT_H

#include "bench/model.h"

#define SM_MODEL_PURCHASES 8

/* One more of something, and what it saves. */
typedef struct sm_model_purchase {
    const char *what;
    double seconds; /* with it */
    double saves;   /* share of the time without it */
} sm_model_purchase;

typedef struct sm_model_report {
    const sm_model_config *config;
    const sm_model_result *result;
    uint32_t n_slides;
    uint64_t bytes;
    uint32_t sample;                                 /* slides of the runs behind the purchases */
    sm_model_purchase purchases[SM_MODEL_PURCHASES]; /* best first */
    uint32_t n_purchases;
} sm_model_report;

void sm_model_print(const sm_model_report *report);
SM_NODISCARD sm_status sm_model_print_json(const sm_model_report *report, sm_error *err);
/** Throughput over time, and what limited it. */
SM_NODISCARD sm_status sm_model_svg(const sm_model_report *report, const char *path, sm_error *err);

#endif
