/* Runs a test once for each ring back end that works here. Header only; needs cmocka.h before it.
 */
#ifndef SM_TESTS_SUPPORT_BACKENDS_H
#define SM_TESTS_SUPPORT_BACKENDS_H

#include <stdbool.h>
#include <stdlib.h>

#include "common/error.h"
#include "common/ring.h"

static const char *const SM_BACKENDS[] = {"threads", "uring"};

/* Force back end i; false, and said, when this machine has no io_uring. */
static inline bool sm_backend_use(size_t i)
{
    sm_error err = SM_ERROR_INIT;
    sm_ring *ring = NULL;
    setenv("SLIDEMILL_IO", SM_BACKENDS[i], 1);
    const bool works = sm_ring_open(1, &ring, &err) == SM_OK;
    sm_ring_close(&ring);
    if (!works)
        print_message("skipped: %s\n", err.message);
    return works;
}

static inline void sm_backend_reset(void)
{
    unsetenv("SLIDEMILL_IO");
}

#endif
