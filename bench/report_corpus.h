/* Sections of a report that tell of a catalog. */
#ifndef SM_BENCH_REPORT_CORPUS_H
#define SM_BENCH_REPORT_CORPUS_H

#include "bench/report_page.h"
#include "common/catalog_report.h"

/** Summary, progress, throughput of bricks, stages, sizes and times, failures, slowest slides. */
SM_NODISCARD sm_status sm_corpus_put(sm_page *page, sm_catalog *catalog, sm_error *err);

#endif
