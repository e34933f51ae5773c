/* libjpeg's errors as statuses of ours. Internal: included only by the .c files that use libjpeg,
 * whose types and setjmp it brings along. */
#ifndef SM_TILER_JPEG_ERROR_H
#define SM_TILER_JPEG_ERROR_H

#include <setjmp.h>
#include <stdbool.h>
#include <stdio.h>

#include <jpeglib.h>

#include <jerror.h>

#include "common/error.h"

/* One to each libjpeg object. Every libjpeg call but jpeg_abort_* and jpeg_destroy_* needs a setjmp
 * on jump in a frame that still runs: an error, or any warning but "extraneous bytes before
 * marker", jumps there. Warnings mean that libjpeg made pixels up. */
typedef struct sm_jpeg_error {
    struct jpeg_error_mgr manager; /* first: libjpeg hands this member back */
    jmp_buf jump;
    bool corrupt;     /* something was met since the last reset */
    sm_status status; /* what it was */
    char text[JMSG_LENGTH_MAX];
} sm_jpeg_error;

/** Set up; jump stays as it is. The result is for cinfo->err, before jpeg_create_*. */
struct jpeg_error_mgr *sm_jpeg_error_init(sm_jpeg_error *error);

/** Forget what was met, before the next image. */
void sm_jpeg_error_reset(sm_jpeg_error *error);

/** After a jump: SM_ERR_CORRUPT with "JPEG: <libjpeg's text>"; SM_ERR_NOMEM; SM_ERR_LIMIT beyond
 *  max_memory_to_use; or what sm_jpeg_error_stop said. */
SM_NODISCARD sm_status sm_jpeg_error_report(const sm_jpeg_error *error, sm_error *err);

/** Jump with a status and text of one's own. */
_Noreturn void sm_jpeg_error_stop(sm_jpeg_error *error, sm_status status, const char *fmt, ...)
    SM_PRINTF(3, 4);

#endif
