/* DCT coefficients in little memory while they wait: most of them are zero. Owns nothing. */
#ifndef SM_TILER_COEF_PACK_H
#define SM_TILER_COEF_PACK_H

#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"

enum { SM_BLOCK_COEFS = 64 };

/**
 * Append n blocks of 64 coefficients each: per block a 64-bit map of those that are not zero, then
 * these, 16 bits each, in order. Machine byte order: it never leaves memory.
 */
SM_NODISCARD sm_status sm_coef_pack(const int16_t *blocks, size_t n, sm_buf *out, sm_error *err);

/** Unpack the next n blocks from packed into blocks; returns what follows them. */
const uint8_t *sm_coef_unpack(const uint8_t *packed, int16_t *blocks, size_t n);

/** Upper bound of the packed size of n blocks that were coded in `coded` bytes of JPEG: every
 *  coefficient that is not zero takes 3 bits there at least (T.81: a code of 2 and 1 more). */
uint64_t sm_coef_pack_bound(uint64_t n, uint64_t coded);

#endif
