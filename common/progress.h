/* Progress of one long task: a bar on a terminal, one line a minute otherwise. */
#ifndef SM_COMMON_PROGRESS_H
#define SM_COMMON_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"

typedef struct sm_progress sm_progress;

/**
 * @param what  e.g. the slide's name; copied
 * @param total_bytes, total_px  what 100% is; either may be 0 (unknown)
 * @param quiet no output at all
 * Goes to stderr. Bar: "CMU-1.svs  [=====>    ]  52%  812 Mpx/s  154 MB/s  ETA 0:03" redrawn at
 * most 10 times a second and erased at the end; fits the terminal's width (SIGWINCH), plain ASCII
 * unless the locale is UTF-8.  No terminal, or TERM=dumb: "time=... done=52% ..." once a minute.
 */
SM_NODISCARD sm_status sm_progress_new(const char *what, uint64_t total_bytes, uint64_t total_px,
                                       bool quiet, sm_progress **progress, sm_error *err);
/** Say how far it is (absolute, not added). Cheap: looks at the clock, prints when due. One thread
 *  at a time. phase may be NULL, else a short word: "verify", "fsync". */
void sm_progress_at(sm_progress *progress, uint64_t bytes, uint64_t px, const char *phase);
/** Erase the bar, release. NULL inside is accepted. */
void sm_progress_free(sm_progress **progress);

/** "1.5 GB", "291 MB", "812 B" (decimal, 3 significant digits) into out; returns out. */
const char *sm_human_bytes(uint64_t bytes, char out[16]);
/** "3.2 s", "4:05 min", "2:03:04 h" into out; returns out. */
const char *sm_human_ns(uint64_t ns, char out[16]);

#endif
