/* Small pictures of published pyramids, for the contact sheet of a report. */
#ifndef SM_BENCH_REPORT_THUMBS_H
#define SM_BENCH_REPORT_THUMBS_H

#include "bench/report_page.h"
#include "common/catalog_report.h"

/** A list of at most n pictures of outputs below `dir`, as JPEG in data URIs, spread over the whole
 *  catalog. An output that does not open or decode has its reason in its place. */
SM_NODISCARD sm_status sm_thumbs_put(sm_page *page, sm_catalog *catalog, const char *dir,
                                     uint32_t n, sm_error *err);

#endif
