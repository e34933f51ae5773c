/* Benchmark results (bench/results, see bench/README.md) as sections of a report. */
#ifndef SM_BENCH_REPORT_RESULTS_H
#define SM_BENCH_REPORT_RESULTS_H

#include "bench/report_page.h"

/** One section for each of the files, and scaling curves where files differ in threads only.
 *  SM_ERR_ARG: a file is missing, SM_ERR_FORMAT: it is no result. */
SM_NODISCARD sm_status sm_results_put(sm_page *page, const char *const *paths, size_t n,
                                      sm_error *err);

#endif
