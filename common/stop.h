/* Ctrl-C and friends: a flag that long loops look at. */
#ifndef SM_COMMON_STOP_H
#define SM_COMMON_STOP_H

#include <stdbool.h>

#include "common/error.h"

/** Catch SIGINT, SIGTERM, SIGHUP and SIGUSR1: the first sets the flag, a second SIGINT kills the
 *  process at once. SIGPIPE and SIGXFSZ are ignored (the write then fails and is reported). */
void sm_stop_install(void);
bool sm_stop_requested(void);
/** SM_ERR_INTERRUPTED with "interrupted by SIGINT; nothing was published" once requested, else
 *  SM_OK. */
SM_NODISCARD sm_status sm_stop_check(sm_error *err);

#endif
