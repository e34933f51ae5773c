/* libjpeg's error manager over setjmp. Owns nothing; see jpeg_error.h. */
#include "tiler/jpeg_error.h"

#include <stdarg.h>

static _Noreturn void leave(j_common_ptr cinfo, sm_status status)
{
    sm_jpeg_error *error = (sm_jpeg_error *)cinfo->err;
    error->corrupt = true;
    error->status = status;
    cinfo->err->format_message(cinfo, error->text);
    longjmp(error->jump, 1);
}

static void on_error_exit(j_common_ptr cinfo)
{
    switch (cinfo->err->msg_code) {
    case JERR_OUT_OF_MEMORY:
        leave(cinfo, SM_ERR_NOMEM);
    case JERR_NO_BACKING_STORE: /* how libjpeg says that max_memory_to_use is not enough */
        sm_jpeg_error_stop((sm_jpeg_error *)cinfo->err, SM_ERR_LIMIT,
                           "the image needs too much memory");
    default:
        leave(cinfo, SM_ERR_CORRUPT);
    }
}

static void on_message(j_common_ptr cinfo, int level)
{
    /* Warnings are -1; from 0 up it is tracing. */
    if (level < 0 && cinfo->err->msg_code != JWRN_EXTRANEOUS_DATA)
        leave(cinfo, SM_ERR_CORRUPT);
}

/* In place of libjpeg's own, which writes to stderr. */
static void on_output(j_common_ptr cinfo)
{
    (void)cinfo;
}

struct jpeg_error_mgr *sm_jpeg_error_init(sm_jpeg_error *error)
{
    jpeg_std_error(&error->manager);
    error->manager.error_exit = on_error_exit;
    error->manager.emit_message = on_message;
    error->manager.output_message = on_output;
    sm_jpeg_error_reset(error);
    return &error->manager;
}

void sm_jpeg_error_reset(sm_jpeg_error *error)
{
    error->corrupt = false;
    error->status = SM_OK;
    error->text[0] = '\0';
}

sm_status sm_jpeg_error_report(const sm_jpeg_error *error, sm_error *err)
{
    if (error->status == SM_OK)
        return sm_fail(err, SM_ERR_INTERNAL, "JPEG: a jump without a reason");
    return sm_fail(err, error->status, "JPEG: %s", error->text);
}

void sm_jpeg_error_stop(sm_jpeg_error *error, sm_status status, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    vsnprintf(error->text, sizeof error->text, fmt, args);
    va_end(args);
    error->corrupt = true;
    error->status = status;
    longjmp(error->jump, 1);
}
