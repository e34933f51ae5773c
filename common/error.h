/* What a call that can fail returns, and what it says about the failure.
 * Owns nothing: an sm_error lives on the caller's stack. */
#ifndef SM_COMMON_ERROR_H
#define SM_COMMON_ERROR_H

#include <stdint.h>

#define SM_NODISCARD __attribute__((warn_unused_result))
#define SM_PRINTF(fmt_index, first_arg) __attribute__((format(printf, fmt_index, first_arg)))
#define SM_COUNT(array) (sizeof(array) / sizeof((array)[0]))

typedef enum sm_status {
    SM_OK = 0,
    SM_ERR_ARG,         /* the caller or the command line is wrong */
    SM_ERR_IO,          /* the mount or the disk said no */
    SM_ERR_FORMAT,      /* not a slide we read */
    SM_ERR_LIMIT,       /* beyond a cap: size, memory, count */
    SM_ERR_CORRUPT,     /* bytes, digest or decode disagree */
    SM_ERR_NOMEM,       /* out of memory */
    SM_ERR_INTERNAL,    /* our own bug */
    SM_ERR_INTERRUPTED, /* a signal asked us to stop; nothing is wrong with the slide */
    SM_ERR_BUSY,        /* another run holds what we need; try again later */
} sm_status;

/* err->offset when the failure has no place in a file */
#define SM_NO_OFFSET UINT64_MAX

typedef struct sm_error {
    sm_status status;
    int sys_errno;     /* errno of the failing call, else 0 */
    uint64_t offset;   /* byte offset in the file concerned, else SM_NO_OFFSET */
    char message[512]; /* one line, no newline: file, where, what, what to do */
} sm_error;

/* An sm_error to start from. */
#define SM_ERROR_INIT                                                                              \
    {                                                                                              \
        .status = SM_OK, .sys_errno = 0, .offset = SM_NO_OFFSET, .message = ""                     \
    }

/**
 * Record a failure and return its status, so that `return sm_fail(...)` reads well.
 * Control characters in the formatted message (hostile file names) become '?'.
 */
sm_status sm_fail(sm_error *err, sm_status status, const char *fmt, ...) SM_PRINTF(3, 4);

/** As sm_fail, for a failure at byte `offset` of a file; ", at byte N" is appended. */
sm_status sm_fail_at(sm_error *err, sm_status status, uint64_t offset, const char *fmt, ...)
    SM_PRINTF(4, 5);

/** As sm_fail, for a failed system call; ": <strerror>" is appended. errnum is positive. */
sm_status sm_fail_errno(sm_error *err, sm_status status, int errnum, const char *fmt, ...)
    SM_PRINTF(4, 5);

/** Put a fact in front of the message: "level 2: " + message. Status, errno, offset stay. */
void sm_error_prefix(sm_error *err, const char *fmt, ...) SM_PRINTF(2, 3);

/** Exit code of a command that ended with `status` (docs/exit-codes.md). */
int sm_exit_code(sm_status status);

/** Short lower-case name for logs and JSON: "ok", "arg", "io", "format", "limit", ... */
const char *sm_status_name(sm_status status);

#endif
