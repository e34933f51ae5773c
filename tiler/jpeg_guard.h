/* libjpeg calls run as one guarded piece of work, so that setjmp stays in one place. Internal to
 * the .c files that use libjpeg. */
#ifndef SM_TILER_JPEG_GUARD_H
#define SM_TILER_JPEG_GUARD_H

#include "tiler/jpeg_error.h"

/* One guard belongs to one thread, and to the libjpeg objects of one task. */
typedef struct sm_jpeg_guard sm_jpeg_guard;

/* Work that an error cuts short: it must own nothing that its caller cannot release. */
typedef void (*sm_jpeg_work)(void *arg);

/** @param on_error status of libjpeg's errors: SM_ERR_CORRUPT when outside bytes are read,
 *                  SM_ERR_INTERNAL when only our own are written */
SM_NODISCARD sm_status sm_jpeg_guard_new(sm_status on_error, sm_jpeg_guard **guard, sm_error *err);
void sm_jpeg_guard_free(sm_jpeg_guard **guard);

/** For cinfo->err, before jpeg_create_*; jpeg_create_* itself is called inside sm_jpeg_run. */
struct jpeg_error_mgr *sm_jpeg_guard_manager(sm_jpeg_guard *guard);

/** Run work(arg), not nested. SM_OK when it returned; else what cut it short, and the caller calls
 *  jpeg_abort_* or jpeg_destroy_*. */
SM_NODISCARD sm_status sm_jpeg_run(sm_jpeg_guard *guard, sm_jpeg_work work, void *arg,
                                   sm_error *err);

/** Cut the running work short. Does not return. */
_Noreturn void sm_jpeg_stop(sm_jpeg_guard *guard, sm_status status, const char *fmt, ...)
    SM_PRINTF(3, 4);

#endif
