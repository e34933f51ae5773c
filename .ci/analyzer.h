/* Told to clang-tidy only (check-tidy.sh): sm_fail returns the status it is given. Its body is in
 * another file, so the analyzer would otherwise reckon with failures that return SM_OK. */
#include "common/error.h"

#define sm_fail(err, status, ...) ((void)sm_fail(err, status, __VA_ARGS__), (status))
#define sm_fail_at(err, status, ...) ((void)sm_fail_at(err, status, __VA_ARGS__), (status))
#define sm_fail_errno(err, status, ...) ((void)sm_fail_errno(err, status, __VA_ARGS__), (status))
