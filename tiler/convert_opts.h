/* The options of a conversion, shared by `convert`, `ingest` and the worker: one table, one
 * meaning. */
#ifndef SM_TILER_CONVERT_OPTS_H
#define SM_TILER_CONVERT_OPTS_H

#include "common/opts.h"
#include "common/sysinfo.h"
#include "tiler/convert.h"

/* What the rows fill; choices are indices of their words. */
typedef struct sm_convert_flags {
    int levels, tiles, codec, subsampling, profile, blank, bad_tile, associated, verify;
    uint32_t tile_px, quality, threads;
    uint64_t memory;
    const char *scratch;
} sm_convert_flags;

/* Rows of an option table for a config struct T whose member m is an sm_convert_flags; to be used
 * inside the array: SM_CONVERT_OPTION_ROWS(config, convert, "cache"), verify_default is a string.
 */

/** Check what the rows cannot (tile_px a multiple of 16): SM_ERR_ARG "--tile-px: ...". */
SM_NODISCARD sm_status sm_convert_flags_check(const sm_convert_flags *flags, sm_error *err);

/** Options for sm_convert; threads and memory as decided and from where. force, quiet, hooks are 0.
 */
void sm_convert_flags_options(const sm_convert_flags *flags, sm_convert_options *options,
                              sm_allowance *threads, sm_allowance *memory);

/** The flags as a command line again ("--levels=auto", ...): strings appended, each NUL-terminated,
 *  *n of them. only_bytes: just those that decide the output's bytes (no threads, memory, scratch,
 *  verify): the same text for the same bytes. */
SM_NODISCARD sm_status sm_convert_flags_argv(const sm_convert_flags *flags, bool only_bytes,
                                             sm_buf *out, size_t *n, sm_error *err);

#endif
