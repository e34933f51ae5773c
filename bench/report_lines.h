/* Results of `slidemill bench` (JSON lines: a head, a row each, an end) in a report. */
#ifndef SM_BENCH_REPORT_LINES_H
#define SM_BENCH_REPORT_LINES_H

#include <cjson/cJSON.h>
#include <stdbool.h>

#include "bench/report_page.h"

/** The head, with the rows that were measured as its object "summary", by their ids. NULL: these
 * are no such lines, or there is no memory. The caller's, to cJSON_Delete. */
cJSON *sm_result_of_lines(const char *text, size_t len);

/** Bricks: MB/s by streams. Ingest: speed by ranks and threads, where the time went, how much of
 *  what is possible. Others: nothing. */
void sm_result_put_charts(sm_page *page, const cJSON *json);

#endif
