/* Assertions on sm_status and sm_error for tests. Header only; needs cmocka.h before it. */
#ifndef SM_TESTS_SUPPORT_CHECK_H
#define SM_TESTS_SUPPORT_CHECK_H

#include <string.h>

#include "common/error.h"

/* The call succeeded; else the test fails with what it said. */
#define SM_CHECK_OK(call, err)                                                                     \
    do {                                                                                           \
        const sm_status check_status = (call);                                                     \
        if (check_status != SM_OK)                                                                 \
            fail_msg("%s: %s: %s", #call, sm_status_name(check_status), (err)->message);           \
    } while (0)

/* The call failed with this status and its message contains `text`. */
#define SM_CHECK_FAILS(call, err, want_status, text)                                               \
    do {                                                                                           \
        const sm_status check_status = (call);                                                     \
        if (check_status != (want_status) || (err)->status != (want_status))                       \
            fail_msg("%s: %s, wanted %s: %s", #call, sm_status_name(check_status),                 \
                     sm_status_name(want_status), (err)->message);                                 \
        if (strstr((err)->message, (text)) == NULL)                                                \
            fail_msg("%s: message '%s' lacks '%s'", #call, (err)->message, (text));                \
    } while (0)

#endif
