/* A growable byte buffer. Owns its bytes; a zeroed sm_buf is an empty one. */
#ifndef SM_COMMON_BUF_H
#define SM_COMMON_BUF_H

#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

typedef struct sm_buf {
    uint8_t *data;
    size_t len; /* bytes in use */
    size_t cap; /* bytes allocated */
} sm_buf;

/** Make room for at least cap bytes in all; len stays. SM_ERR_NOMEM leaves buf as it was. */
SM_NODISCARD sm_status sm_buf_reserve(sm_buf *buf, size_t cap, sm_error *err);

/** Append len bytes; bytes may be NULL when len is 0. */
SM_NODISCARD sm_status sm_buf_append(sm_buf *buf, const void *bytes, size_t len, sm_error *err);

/** Append formatted text, without its NUL. */
SM_NODISCARD sm_status sm_buf_printf(sm_buf *buf, sm_error *err, const char *fmt, ...)
    SM_PRINTF(3, 4);

/** Release the bytes; buf is an empty buffer again. */
void sm_buf_free(sm_buf *buf);

/** malloc of n * size bytes with the product checked; NULL on overflow or when out of memory. */
void *sm_malloc_array(size_t n, size_t size);

/** calloc, so that every allocation of ours goes through this file (fault injection in tests). */
void *sm_calloc(size_t n, size_t size);

/** malloc at a multiple of align (a power of two, at least sizeof(void *)); NULL when out of
 *  memory. Released by free. */
void *sm_malloc_aligned(size_t align, size_t size);

/** For tests: n more allocations succeed, the next one fails, those after it succeed again.
 *  Negative (the start value): none fails. */
void sm_alloc_fail_after(long n);

#endif
