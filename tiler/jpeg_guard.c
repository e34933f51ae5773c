/* Guarded libjpeg work. */
#include "tiler/jpeg_guard.h"

#include <stdarg.h>
#include <stdlib.h>

#include "common/buf.h"

struct sm_jpeg_guard {
    sm_jpeg_error error;
    sm_status on_error;
};

sm_status sm_jpeg_guard_new(sm_status on_error, sm_jpeg_guard **guard, sm_error *err)
{
    sm_jpeg_guard *g = sm_calloc(1, sizeof *g);
    if (g == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "out of memory");
    g->on_error = on_error;
    *guard = g;
    return SM_OK;
}

void sm_jpeg_guard_free(sm_jpeg_guard **guard)
{
    free(*guard);
    *guard = NULL;
}

struct jpeg_error_mgr *sm_jpeg_guard_manager(sm_jpeg_guard *guard)
{
    return sm_jpeg_error_init(&guard->error);
}

sm_status sm_jpeg_run(sm_jpeg_guard *guard, sm_jpeg_work work, void *arg, sm_error *err)
{
    sm_jpeg_error_reset(&guard->error);
    if (setjmp(guard->error.jump) != 0) {
        const sm_status st = sm_jpeg_error_report(&guard->error, err);
        if (st == SM_ERR_CORRUPT)
            err->status = guard->on_error;
        return err->status;
    }
    work(arg);
    return SM_OK;
}

void sm_jpeg_stop(sm_jpeg_guard *guard, sm_status status, const char *fmt, ...)
{
    char text[JMSG_LENGTH_MAX];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    sm_jpeg_error_stop(&guard->error, status, "%s", text);
}
