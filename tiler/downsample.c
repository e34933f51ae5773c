/* The 2x2 mean and the padding of edge tiles. */
#include "tiler/downsample.h"

#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

static void half_row_plain(const uint8_t *a, const uint8_t *b, uint8_t *dst, uint32_t pairs)
{
    for (uint32_t x = 0; x < pairs; x++) {
        const uint8_t *p = a + 6 * (size_t)x;
        const uint8_t *q = b + 6 * (size_t)x;
        uint8_t *d = dst + 3 * (size_t)x;
        d[0] = (uint8_t)((p[0] + p[3] + q[0] + q[3] + 2) >> 2);
        d[1] = (uint8_t)((p[1] + p[4] + q[1] + q[4] + 2) >> 2);
        d[2] = (uint8_t)((p[2] + p[5] + q[2] + q[5] + 2) >> 2);
    }
}

#if defined(__x86_64__)
/* Two results a step, the same sums: neighbours' channels are brought side by side, so that one
 * multiply-add gives the sums of pairs. Reads 16 bytes and writes 8 where 12 and 6 count, hence the
 * distance it keeps from the end of the row. */
__attribute__((target("ssse3"))) static uint32_t half_row_ssse3(const uint8_t *a, const uint8_t *b,
                                                                uint8_t *dst, uint32_t pairs)
{
    const __m128i side_by_side =
        _mm_setr_epi8(0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11, -1, -1, -1, -1);
    const __m128i ones = _mm_set1_epi8(1), two = _mm_set1_epi16(2);
    uint32_t x = 0;
    for (; x + 3 <= pairs; x += 2) {
        __m128i p = _mm_loadu_si128((const __m128i *)(const void *)(a + 6 * (size_t)x));
        __m128i q = _mm_loadu_si128((const __m128i *)(const void *)(b + 6 * (size_t)x));
        p = _mm_maddubs_epi16(_mm_shuffle_epi8(p, side_by_side), ones);
        q = _mm_maddubs_epi16(_mm_shuffle_epi8(q, side_by_side), ones);
        const __m128i sum = _mm_srli_epi16(_mm_add_epi16(_mm_add_epi16(p, q), two), 2);
        _mm_storel_epi64((__m128i *)(void *)(dst + 3 * (size_t)x), _mm_packus_epi16(sum, sum));
    }
    return x;
}
#endif

static void half_row(const uint8_t *a, const uint8_t *b, uint8_t *dst, uint32_t pairs)
{
    uint32_t x = 0;
#if defined(__x86_64__)
    if (__builtin_cpu_supports("ssse3"))
        x = half_row_ssse3(a, b, dst, pairs);
#endif
    half_row_plain(a + 6 * (size_t)x, b + 6 * (size_t)x, dst + 3 * (size_t)x, pairs - x);
}

void sm_downsample_2x2(const uint8_t *src, size_t src_stride, uint32_t src_w, uint32_t src_h,
                       uint8_t *dst, size_t dst_stride, uint32_t dst_w, uint32_t dst_h)
{
    const uint32_t pairs = dst_w * 2 <= src_w ? dst_w : src_w / 2;
    for (uint32_t y = 0; y < dst_h; y++) {
        const uint8_t *a = src + (size_t)(2 * y) * src_stride;
        const uint8_t *b = 2 * y + 1 < src_h ? a + src_stride : a;
        uint8_t *d = dst + (size_t)y * dst_stride;
        half_row(a, b, d, pairs);
        for (uint32_t x = pairs; x < dst_w; x++) { /* a source one pixel wide */
            const size_t last = 3 * (size_t)(src_w - 1);
            for (size_t c = 0; c < 3; c++)
                d[3 * (size_t)x + c] = (uint8_t)((2 * a[last + c] + 2 * b[last + c] + 2) >> 2);
        }
    }
}

void sm_pad_edges(uint8_t *rgb, size_t stride, uint32_t w, uint32_t h, uint32_t tile_w,
                  uint32_t tile_h)
{
    for (uint32_t y = 0; y < h && w < tile_w; y++) {
        uint8_t *row = rgb + (size_t)y * stride;
        const uint8_t *last = row + 3 * (size_t)(w - 1);
        for (uint32_t x = w; x < tile_w; x++)
            memcpy(row + 3 * (size_t)x, last, 3);
    }
    const uint8_t *last_row = rgb + (size_t)(h - 1) * stride;
    for (uint32_t y = h; y < tile_h; y++)
        memcpy(rgb + (size_t)y * stride, last_row, 3 * (size_t)tile_w);
}
