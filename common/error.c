/* Builds the one-line messages of sm_error.
 * Owns nothing; every function works on the caller's struct. */
#include "common/error.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

enum { MESSAGE_CAP = sizeof(((sm_error *)0)->message), SUFFIX_CAP = 128 };

/* Length of s after dropping a UTF-8 sequence that the end of a buffer cut in two. */
static size_t whole_utf8_len(const char *s, size_t len)
{
    size_t start = len;
    while (start > 0 && len - start < 3 && ((unsigned char)s[start - 1] & 0xC0) == 0x80)
        start--;
    if (start == 0)
        return len;
    const unsigned char lead = (unsigned char)s[start - 1];
    const size_t want = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : lead >= 0xC0 ? 2 : 1;
    return len - start + 1 < want ? start - 1 : len;
}

/* A file name may hold escape sequences; a terminal or a log must not obey them. The C1 controls
 * are two bytes in UTF-8: C2 80 .. C2 9F. */
static void mask_controls(char *s)
{
    for (; *s != '\0'; s++) {
        const unsigned char c = (unsigned char)s[0], next = (unsigned char)s[1];
        const bool c1 = c == 0xC2 && next >= 0x80 && next <= 0x9F;
        if (c < 0x20 || c == 0x7F || c1)
            s[0] = '?';
        if (c1)
            s[1] = '?';
    }
}

/* message = head + tail, the head cut when both do not fit: the tail is the reason and must stay.
 */
static void join(char message[MESSAGE_CAP], const char *head, const char *tail)
{
    char joined[MESSAGE_CAP];
    size_t tail_len = strlen(tail);
    if (tail_len > MESSAGE_CAP - 1)
        tail_len = whole_utf8_len(tail, MESSAGE_CAP - 1);
    size_t head_len = strlen(head);
    if (head_len > MESSAGE_CAP - 1 - tail_len)
        head_len = whole_utf8_len(head, MESSAGE_CAP - 1 - tail_len);
    memcpy(joined, head, head_len);
    memcpy(joined + head_len, tail, tail_len);
    joined[head_len + tail_len] = '\0';
    mask_controls(joined);
    memcpy(message, joined, head_len + tail_len + 1);
}

static void format(char out[MESSAGE_CAP], const char *fmt, va_list args) SM_PRINTF(2, 0);

static void format(char out[MESSAGE_CAP], const char *fmt, va_list args)
{
    const int len = vsnprintf(out, MESSAGE_CAP, fmt, args);
    if (len < 0)
        out[0] = '\0';
    else if (len >= MESSAGE_CAP)
        out[whole_utf8_len(out, MESSAGE_CAP - 1)] = '\0';
}

sm_status sm_fail(sm_error *err, sm_status status, const char *fmt, ...)
{
    char text[MESSAGE_CAP]; /* not err->message: an argument may point into it */
    va_list args;
    va_start(args, fmt);
    format(text, fmt, args);
    va_end(args);
    join(err->message, text, "");
    err->status = status;
    err->sys_errno = 0;
    err->offset = SM_NO_OFFSET;
    return status;
}

sm_status sm_fail_at(sm_error *err, sm_status status, uint64_t offset, const char *fmt, ...)
{
    char text[MESSAGE_CAP], suffix[SUFFIX_CAP];
    va_list args;
    va_start(args, fmt);
    format(text, fmt, args);
    va_end(args);
    snprintf(suffix, sizeof(suffix), ", at byte %" PRIu64, offset);
    join(err->message, text, suffix);
    err->status = status;
    err->sys_errno = 0;
    err->offset = offset;
    return status;
}

sm_status sm_fail_errno(sm_error *err, sm_status status, int errnum, const char *fmt, ...)
{
    char text[MESSAGE_CAP], suffix[SUFFIX_CAP], reason[SUFFIX_CAP - 2];
    va_list args;
    va_start(args, fmt);
    format(text, fmt, args);
    va_end(args);
    snprintf(suffix, sizeof(suffix), ": %s", strerror_r(errnum, reason, sizeof(reason)));
    join(err->message, text, suffix);
    err->status = status;
    err->sys_errno = errnum;
    err->offset = SM_NO_OFFSET;
    return status;
}

void sm_error_prefix(sm_error *err, const char *fmt, ...)
{
    char text[MESSAGE_CAP], whole[2 * MESSAGE_CAP];
    va_list args;
    va_start(args, fmt);
    format(text, fmt, args);
    va_end(args);
    /* The old message is the reason, so it is the tail that stays whole. */
    snprintf(whole, sizeof(whole), ": %s", err->message);
    join(err->message, text, whole);
}

int sm_exit_code(sm_status status)
{
    switch (status) {
    case SM_OK:
        return 0;
    case SM_ERR_ARG:
        return 2;
    case SM_ERR_FORMAT:
    case SM_ERR_LIMIT:
    case SM_ERR_CORRUPT:
        return 65;
    case SM_ERR_NOMEM:
    case SM_ERR_INTERNAL:
        return 70;
    case SM_ERR_IO:
        return 74;
    case SM_ERR_INTERRUPTED:
    case SM_ERR_BUSY:
        return 75;
    }
    return 70;
}

const char *sm_status_name(sm_status status)
{
    switch (status) {
    case SM_OK:
        return "ok";
    case SM_ERR_ARG:
        return "arg";
    case SM_ERR_IO:
        return "io";
    case SM_ERR_FORMAT:
        return "format";
    case SM_ERR_LIMIT:
        return "limit";
    case SM_ERR_CORRUPT:
        return "corrupt";
    case SM_ERR_NOMEM:
        return "nomem";
    case SM_ERR_INTERNAL:
        return "internal";
    case SM_ERR_INTERRUPTED:
        return "interrupted";
    case SM_ERR_BUSY:
        return "busy";
    }
    return "unknown";
}
