/* Tests of tiler/downsample.c against pixel-by-pixel arithmetic. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "common/error.h"
#include "tests/support/random.h"
#include "tiler/downsample.h"

/* Rows of w pixels, `stride` bytes apart, and not a byte more: a sanitizer sees its end. */
typedef struct image {
    uint8_t *rgb;
    size_t stride, bytes;
    uint32_t w, h;
} image;

enum { UNTOUCHED = 0xA5 };

static image image_new(uint32_t w, uint32_t h, size_t gap)
{
    image im = {.stride = 3 * (size_t)w + gap, .w = w, .h = h};
    im.bytes = im.stride * (h - 1) + 3 * (size_t)w;
    im.rgb = malloc(im.bytes);
    assert_non_null(im.rgb);
    memset(im.rgb, UNTOUCHED, im.bytes);
    return im;
}

static uint8_t *pixel(const image *im, uint32_t x, uint32_t y)
{
    return im->rgb + y * im->stride + 3 * (size_t)x;
}

static uint32_t clamp(uint32_t v, uint32_t n)
{
    return v < n ? v : n - 1;
}

static unsigned mean(const image *src, uint32_t x, uint32_t y, size_t c)
{
    unsigned sum = 0;
    for (uint32_t k = 0; k < 4; k++)
        sum += pixel(src, clamp(2 * x + k % 2, src->w), clamp(2 * y + k / 2, src->h))[c];
    return (sum + 2) / 4; /* nearest, half up */
}

static void check_gap(const image *im)
{
    for (uint32_t y = 0; y + 1 < im->h; y++)
        for (size_t i = 3 * (size_t)im->w; i < im->stride; i++)
            assert_int_equal(im->rgb[y * im->stride + i], UNTOUCHED);
}

static void check_mean(uint32_t w, uint32_t h, uint32_t half_w, uint32_t half_h, sm_random *random)
{
    image src = image_new(w, h, sm_random_below(random, 8));
    image dst = image_new(half_w, half_h, sm_random_below(random, 8));
    sm_random_bytes(random, src.rgb, src.bytes);
    sm_downsample_2x2(src.rgb, src.stride, w, h, dst.rgb, dst.stride, half_w, half_h);
    for (uint32_t y = 0; y < half_h; y++)
        for (uint32_t x = 0; x < half_w; x++)
            for (size_t c = 0; c < 3; c++)
                if (pixel(&dst, x, y)[c] != mean(&src, x, y, c))
                    fail_msg("%ux%u to %ux%u: pixel %u,%u channel %zu is %u, not %u", w, h, half_w,
                             half_h, x, y, c, pixel(&dst, x, y)[c], mean(&src, x, y, c));
    check_gap(&dst);
    free(src.rgb);
    free(dst.rgb);
}

static void every_size_is_the_mean_of_four(void **state)
{
    (void)state;
    static const uint32_t SIDES[] = {1, 2, 3, 4, 5, 7, 15, 16, 17, 31, 37, 64, 97};
    sm_random random = {1};
    for (size_t i = 0; i < SM_COUNT(SIDES); i++) {
        for (size_t k = 0; k < SM_COUNT(SIDES); k++) {
            const uint32_t w = SIDES[i], h = SIDES[k];
            const uint32_t down_w = w > 1 ? w / 2 : 1, down_h = h > 1 ? h / 2 : 1;
            check_mean(w, h, down_w, down_h, &random);           /* an odd last one is dropped */
            check_mean(w, h, (w + 1) / 2, (h + 1) / 2, &random); /* ... or is its own partner */
            check_mean(w, h, (down_w + 1) / 2, down_h, &random); /* part of it */
        }
    }
}

static void quarters_round_to_the_nearest_and_halves_up(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        uint8_t in[4], out;
    } cases[] = {
        {"a quarter goes down", {0, 0, 0, 1}, 0},
        {"a half goes up", {0, 0, 1, 1}, 1},
        {"three quarters go up", {1, 0, 1, 1}, 1},
        {"whole", {1, 1, 1, 1}, 1},
        {"a half between high values", {254, 255, 255, 254}, 255},
        {"a quarter above a high value", {254, 254, 255, 254}, 254},
        {"no overflow", {255, 255, 255, 255}, 255},
        {"far apart", {0, 255, 0, 255}, 128},
    };
    for (size_t i = 0; i < SM_COUNT(cases); i++) {
        uint8_t src[12], dst[3];
        for (size_t p = 0; p < 4; p++)
            memset(src + 3 * p, cases[i].in[p], 3);
        sm_downsample_2x2(src, 6, 2, 2, dst, 3, 1, 1);
        for (size_t c = 0; c < 3; c++)
            if (dst[c] != cases[i].out)
                fail_msg("%s: %u, not %u", cases[i].name, dst[c], cases[i].out);
    }
}

static void channels_do_not_mix(void **state)
{
    (void)state;
    static const uint8_t src[] = {0, 100, 200, 4, 104, 204, 8, 108, 208, 12, 112, 212};
    uint8_t dst[3];
    sm_downsample_2x2(src, 6, 2, 2, dst, 3, 1, 1);
    assert_int_equal(dst[0], 6);
    assert_int_equal(dst[1], 106);
    assert_int_equal(dst[2], 206);
}

static void padding_repeats_the_last_column_and_row(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        uint32_t w, h, tile_w, tile_h;
    } cases[] = {
        {"one pixel", 1, 1, 16, 16},    {"one row", 13, 1, 16, 16},
        {"one column", 1, 13, 16, 16},  {"nothing to do", 16, 16, 16, 16},
        {"full width", 16, 7, 16, 16},  {"full height", 7, 16, 16, 16},
        {"both edges", 31, 17, 32, 48}, {"one short", 15, 15, 16, 16},
    };
    sm_random random = {2};
    for (size_t i = 0; i < SM_COUNT(cases); i++) {
        image im = image_new(cases[i].tile_w, cases[i].tile_h, 5);
        image was = image_new(cases[i].w, cases[i].h, 0);
        sm_random_bytes(&random, was.rgb, was.bytes);
        for (uint32_t y = 0; y < was.h; y++)
            memcpy(pixel(&im, 0, y), pixel(&was, 0, y), 3 * (size_t)was.w);
        sm_pad_edges(im.rgb, im.stride, was.w, was.h, im.w, im.h);
        for (uint32_t y = 0; y < im.h; y++)
            for (uint32_t x = 0; x < im.w; x++)
                if (memcmp(pixel(&im, x, y), pixel(&was, clamp(x, was.w), clamp(y, was.h)), 3) != 0)
                    fail_msg("%s: pixel %u,%u", cases[i].name, x, y);
        check_gap(&im);
        free(im.rgb);
        free(was.rgb);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_size_is_the_mean_of_four),
        cmocka_unit_test(quarters_round_to_the_nearest_and_halves_up),
        cmocka_unit_test(channels_do_not_mix),
        cmocka_unit_test(padding_repeats_the_last_column_and_row),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
