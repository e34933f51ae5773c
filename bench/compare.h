/* Two results of a benchmark, number by number. */
#ifndef SM_BENCH_COMPARE_H
#define SM_BENCH_COMPARE_H

#include <stdbool.h>

#include "common/error.h"

/**
 * Print for every measured number that both files hold whether b is faster than a, slower, or not
 * different beyond the noise. A number is any JSON object with median, min and max; the files are
 * JSON or JSON lines. *any_slower says whether something got slower.
 * SM_ERR_ARG: a file cannot be read, or they have no number in common; SM_ERR_FORMAT: no JSON.
 */
SM_NODISCARD sm_status bench_compare(const char *a, const char *b, bool all, bool *any_slower,
                                     sm_error *err);

#endif
