/* Blocks of coefficients as a map and the values it points out. */
#include "tiler/coef_pack.h"

#include <string.h>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

enum { WORST_BYTES = 8 + 2 * SM_BLOCK_COEFS };

#if defined(__SSE2__)
static uint64_t map_of(const int16_t *block)
{
    uint64_t zero = 0;
    for (size_t i = 0; i < 4; i++) {
        const __m128i a = _mm_loadu_si128((const __m128i *)(const void *)(block + 16 * i));
        const __m128i b = _mm_loadu_si128((const __m128i *)(const void *)(block + 16 * i + 8));
        const __m128i is_zero = _mm_cmpeq_epi8(_mm_packs_epi16(a, b), _mm_setzero_si128());
        zero |= (uint64_t)(uint32_t)_mm_movemask_epi8(is_zero) << (16 * i);
    }
    return ~zero;
}
#else
static uint64_t map_of(const int16_t *block)
{
    uint64_t map = 0;
    for (unsigned i = 0; i < SM_BLOCK_COEFS; i++)
        map |= (uint64_t)(block[i] != 0) << i;
    return map;
}
#endif

sm_status sm_coef_pack(const int16_t *blocks, size_t n, sm_buf *out, sm_error *err)
{
    const sm_status st = sm_buf_reserve(out, out->len + n * WORST_BYTES, err);
    if (st != SM_OK)
        return st;
    uint8_t *at = out->data + out->len;
    for (size_t k = 0; k < n; k++) {
        const int16_t *block = blocks + k * SM_BLOCK_COEFS;
        const uint64_t map = map_of(block);
        memcpy(at, &map, sizeof map);
        at += sizeof map;
        for (uint64_t left = map; left != 0; left &= left - 1, at += 2)
            memcpy(at, block + __builtin_ctzll(left), 2);
    }
    out->len = (size_t)(at - out->data);
    return SM_OK;
}

const uint8_t *sm_coef_unpack(const uint8_t *packed, int16_t *blocks, size_t n)
{
    memset(blocks, 0, n * SM_BLOCK_COEFS * sizeof *blocks);
    for (size_t k = 0; k < n; k++, blocks += SM_BLOCK_COEFS) {
        uint64_t left;
        memcpy(&left, packed, sizeof left);
        packed += sizeof left;
        for (; left != 0; left &= left - 1, packed += 2)
            memcpy(blocks + __builtin_ctzll(left), packed, 2);
    }
    return packed;
}

uint64_t sm_coef_pack_bound(uint64_t n, uint64_t coded)
{
    const uint64_t worst = n * WORST_BYTES, likely = 8 * n + 2 * (coded * 8 / 3);
    return likely < worst ? likely : worst;
}
