/* The growable byte buffer, and the only place that asks the C library for memory.
 * Owns the fault-injection counter of the tests. */
#include "common/buf.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/geom.h"

/* Allocations that may still succeed before one fails; negative: none fails. */
static atomic_long alloc_countdown = -1;

void sm_alloc_fail_after(long n)
{
    atomic_store(&alloc_countdown, n);
}

static bool alloc_fails(void)
{
    if (atomic_load_explicit(&alloc_countdown, memory_order_relaxed) < 0)
        return false; /* always, outside tests */
    return atomic_fetch_sub(&alloc_countdown, 1) == 0;
}

void *sm_malloc_array(size_t n, size_t size)
{
    size_t bytes = 0;
    if (!sm_mul_size(n, size, &bytes) || alloc_fails())
        return NULL;
    return malloc(bytes > 0 ? bytes : 1); /* NULL always means failure */
}

void *sm_calloc(size_t n, size_t size)
{
    size_t bytes = 0;
    if (!sm_mul_size(n, size, &bytes) || alloc_fails())
        return NULL;
    return calloc(bytes > 0 ? bytes : 1, 1);
}

void *sm_malloc_aligned(size_t align, size_t size)
{
    void *bytes = NULL;
    if (alloc_fails() || posix_memalign(&bytes, align, size > 0 ? size : 1) != 0)
        return NULL;
    return bytes;
}

sm_status sm_buf_reserve(sm_buf *buf, size_t cap, sm_error *err)
{
    if (cap <= buf->cap)
        return SM_OK;
    uint8_t *grown = alloc_fails() ? NULL : realloc(buf->data, cap);
    if (grown == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "out of memory: %zu bytes for a buffer", cap);
    buf->data = grown;
    buf->cap = cap;
    return SM_OK;
}

/* Room for extra bytes behind len; capacity at least doubles, so that appending is linear. */
static sm_status grow(sm_buf *buf, size_t extra, sm_error *err)
{
    size_t need = 0, twice = 0;
    if (__builtin_add_overflow(buf->len, extra, &need))
        return sm_fail(err, SM_ERR_NOMEM, "out of memory: buffer of 2^64 bytes");
    if (need <= buf->cap)
        return SM_OK;
    if (!sm_mul_size(buf->cap, 2, &twice) || twice < need)
        twice = need;
    return sm_buf_reserve(buf, twice, err);
}

sm_status sm_buf_append(sm_buf *buf, const void *bytes, size_t len, sm_error *err)
{
    if (len == 0)
        return SM_OK;
    const sm_status st = grow(buf, len, err);
    if (st != SM_OK)
        return st;
    memcpy(buf->data + buf->len, bytes, len);
    buf->len += len;
    return SM_OK;
}

sm_status sm_buf_printf(sm_buf *buf, sm_error *err, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    const int len = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    if (len < 0)
        return sm_fail(err, SM_ERR_INTERNAL, "text cannot be formatted");
    const sm_status st = grow(buf, (size_t)len + 1, err); /* vsnprintf writes its NUL */
    if (st != SM_OK)
        return st;
    va_start(args, fmt);
    vsnprintf((char *)buf->data + buf->len, (size_t)len + 1, fmt, args);
    va_end(args);
    buf->len += (size_t)len;
    return SM_OK;
}

void sm_buf_free(sm_buf *buf)
{
    free(buf->data);
    *buf = (sm_buf){0};
}
