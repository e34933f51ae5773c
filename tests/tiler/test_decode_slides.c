/* Tests of tiler/decode.c on real slides: every tile of every native level against libtiff, or
 * plain libjpeg where the tags lie and libtiff is wrong. ctest: labels=unit,corpus timeout=300 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <limits.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jpeglib.h>
#include <tiffio.h>

#include "tests/support/check.h"
#include "tiler/decode.h"

static char slides[PATH_MAX / 2];

typedef struct opened {
    char path[PATH_MAX];
    sm_source *source;
    sm_slide *slide;
    sm_error err;
} opened;

static opened open_slide(const char *name)
{
    opened o = {.err = SM_ERROR_INIT};
    snprintf(o.path, sizeof o.path, "%s/%s", slides, name);
    SM_CHECK_OK(sm_source_open(o.path, &o.source, &o.err), &o.err);
    SM_CHECK_OK(sm_slide_open(o.source, &o.slide, &o.err), &o.err);
    return o;
}

static void shut(opened *o)
{
    sm_slide_close(&o->slide);
    sm_source_close(&o->source);
}

static uint8_t *allocate(size_t n)
{
    uint8_t *bytes = malloc(n > 0 ? n : 1);
    assert_non_null(bytes);
    return bytes;
}

static uint8_t *tile_bytes(opened *o, const sm_level *l, uint64_t tile)
{
    uint8_t *bytes = allocate((size_t)l->lens[tile]);
    SM_CHECK_OK(sm_source_pread(o->source, bytes, (size_t)l->lens[tile], l->offsets[tile], &o->err),
                &o->err);
    return bytes;
}

/* ---- what others make of it ---- */

static void by_libtiff(TIFF *tiff, const sm_level *l, uint64_t tile, uint8_t *rgb, size_t n)
{
    const tmsize_t got = l->tiled ? TIFFReadEncodedTile(tiff, (uint32_t)tile, rgb, (tmsize_t)n)
                                  : TIFFReadEncodedStrip(tiff, (uint32_t)tile, rgb, (tmsize_t)n);
    assert_true(got > 0);
}

static TIFF *open_libtiff(const opened *o, const sm_level *l)
{
    TIFF *tiff = TIFFOpen(o->path, "r");
    assert_non_null(tiff);
    assert_int_equal(TIFFSetSubDirectory(tiff, l->dir_offset), 1);
    uint16_t photometric = 0;
    TIFFGetField(tiff, TIFFTAG_PHOTOMETRIC, &photometric);
    if (l->codec == SM_CODEC_JPEG && photometric == PHOTOMETRIC_YCBCR)
        TIFFSetField(tiff, TIFFTAG_JPEGCOLORMODE, JPEGCOLORMODE_RGB);
    return tiff;
}

/* Complete JFIF streams: what libjpeg makes of them unasked. */
static void by_libjpeg(const sm_level *l, const uint8_t *bytes, size_t len, unsigned denom,
                       J_COLOR_SPACE space, uint8_t *rgb)
{
    struct jpeg_decompress_struct d;
    struct jpeg_error_mgr manager;
    d.err = jpeg_std_error(&manager);
    jpeg_create_decompress(&d);
    if (l->jpeg_tables != NULL) {
        jpeg_mem_src(&d, l->jpeg_tables, (unsigned long)l->jpeg_tables_len);
        jpeg_read_header(&d, FALSE);
    }
    jpeg_mem_src(&d, bytes, (unsigned long)len);
    jpeg_read_header(&d, TRUE);
    if (space != JCS_UNKNOWN)
        d.jpeg_color_space = space;
    d.out_color_space = JCS_RGB;
    d.scale_denom = denom;
    jpeg_start_decompress(&d);
    while (d.output_scanline < d.output_height) {
        JSAMPROW row = rgb + (size_t)3 * d.output_width * d.output_scanline;
        jpeg_read_scanlines(&d, &row, 1);
    }
    jpeg_finish_decompress(&d);
    jpeg_destroy_decompress(&d);
}

/* ---- claims ---- */

/* Rows a tile has: the last strip is short. */
static uint32_t rows_of(const sm_level *l, uint64_t tile)
{
    const uint32_t top = (uint32_t)(tile / l->cols) * l->tile_h_px;
    return l->tiled ? l->tile_h_px : sm_min_u32(l->tile_h_px, l->h_px - top);
}

static uint64_t compare_level(opened *o, uint32_t level, bool tags_lie)
{
    const sm_level *l = sm_slide_level(o->slide, level);
    /* uncompressed strips may be cut anew, which libtiff cannot follow */
    assert_true(l->codec != SM_CODEC_NONE || l->tiled);
    const size_t n = (size_t)3 * l->tile_w_px * l->tile_h_px;
    uint8_t *got = allocate(n), *want = allocate(n);
    TIFF *tiff = open_libtiff(o, l);
    sm_decoder *d = NULL;
    SM_CHECK_OK(sm_decoder_open(o->slide, level, &d, &o->err), &o->err);
    uint64_t compared = 0;
    for (uint64_t t = 0; t < (uint64_t)l->cols * l->rows; t++) {
        if (l->lens[t] == 0)
            continue;
        uint8_t *bytes = tile_bytes(o, l, t);
        SM_CHECK_OK(sm_decoder_tile(d, bytes, (size_t)l->lens[t], NULL, t, 1, got,
                                    (size_t)3 * l->tile_w_px, &o->err),
                    &o->err);
        if (tags_lie)
            by_libjpeg(l, bytes, (size_t)l->lens[t], 1, JCS_UNKNOWN, want);
        else
            by_libtiff(tiff, l, t, want, n);
        if (memcmp(got, want, (size_t)3 * l->tile_w_px * rows_of(l, t)) != 0)
            fail_msg("%s: level %u, tile %u: other pixels", o->path, level, (unsigned)t);
        compared++;
        free(bytes);
    }
    sm_decoder_close(&d);
    TIFFClose(tiff);
    free(want);
    free(got);
    return compared;
}

static void every_tile_of_every_slide_has_the_right_pixels(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        bool tags_lie; /* Photometric says RGB, the tiles are JFIF YCbCr */
        uint64_t tiles;
    } cases[] = {
        {"aperio/CMU-1-Small-Region.svs", false, 130},
        {"generic-tiff/CropBreastSlide-v2.tiff", false, 67},
        {"generic-tiff/CropBreastSlide-flat.tif", false, 24},
        {"generic-tiff/BRACS_1640_N_3_cropped.tiff", false, 14},
        {"ome-tiff/OS-1-detail.ome.tif", true, 9},
        {"ome-tiff/bfconvert-JPEG.ome.tiff", true, 16},
        {"ome-tiff/bfconvert-zlib.ome.tiff", false, 16},
        {"derived/CMU-1-Small-Region.jpeg.tiff", false, 108},
    };
    for (size_t i = 0; i < SM_COUNT(cases); i++) {
        opened o = open_slide(cases[i].name);
        uint64_t tiles = 0;
        for (uint32_t level = 0; level < sm_slide_get_info(o.slide)->n_levels; level++)
            tiles += compare_level(&o, level, cases[i].tags_lie);
        print_message("%s: %u tiles\n", cases[i].name, (unsigned)tiles);
        if (tiles != cases[i].tiles)
            fail_msg("%s: %u tiles compared", cases[i].name, (unsigned)tiles);
        shut(&o);
    }
}

/* Independent of libjpeg's rules: the colours that a person sees. */
static void colours_are_those_of_stained_tissue(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        double mean[3];
    } cases[] = {
        /* libvips on the complete JFIF tiles; libtiff shows 139, 152, 134 in the first of them */
        {"ome-tiff/OS-1-detail.ome.tif", {144.4, 123.6, 179.7}},
        {"aperio/CMU-1-Small-Region.svs", {214.0, 194.8, 207.9}}, /* OpenSlide 3.4.1 */
    };
    for (size_t i = 0; i < SM_COUNT(cases); i++) {
        opened o = open_slide(cases[i].name);
        const sm_level *l = sm_slide_level(o.slide, 0);
        const size_t px = (size_t)l->tile_w_px * l->tile_h_px;
        uint8_t *rgb = allocate(3 * px);
        sm_decoder *d = NULL;
        SM_CHECK_OK(sm_decoder_open(o.slide, 0, &d, &o.err), &o.err);
        double sum[3] = {0}, count = 0;
        for (uint64_t t = 0; t < (uint64_t)l->cols * l->rows; t++) {
            uint8_t *bytes = tile_bytes(&o, l, t);
            SM_CHECK_OK(sm_decoder_tile(d, bytes, (size_t)l->lens[t], NULL, t, 1, rgb,
                                        (size_t)3 * l->tile_w_px, &o.err),
                        &o.err);
            const uint32_t x0 = (uint32_t)(t % l->cols) * l->tile_w_px;
            const uint32_t y0 = (uint32_t)(t / l->cols) * l->tile_h_px;
            for (uint32_t y = 0; y < l->tile_h_px && y0 + y < l->h_px; y++)
                for (uint32_t x = 0; x < l->tile_w_px && x0 + x < l->w_px; x++, count++)
                    for (uint32_t c = 0; c < 3; c++)
                        sum[c] += rgb[3 * ((size_t)y * l->tile_w_px + x) + c];
            free(bytes);
        }
        print_message("%s: mean %.1f %.1f %.1f\n", cases[i].name, sum[0] / count, sum[1] / count,
                      sum[2] / count);
        for (uint32_t c = 0; c < 3; c++)
            if (fabs(sum[c] / count - cases[i].mean[c]) > 0.2)
                fail_msg("%s: mean of channel %u is %.1f", cases[i].name, c, sum[c] / count);
        free(rgb);
        sm_decoder_close(&d);
        shut(&o);
    }
}

static double psnr(double error, double n)
{
    return error > 0 ? 10 * log10(255.0 * 255.0 * n / error) : 99;
}

/* Squared error of half against the 2x2 mean of full. */
static double half_error(const uint8_t *full, const uint8_t *half, uint32_t w, uint32_t h)
{
    double error = 0;
    const size_t row = (size_t)3 * w;
    for (uint32_t y = 0; y < h / 2; y++)
        for (uint32_t x = 0; x < w / 2; x++)
            for (uint32_t c = 0; c < 3; c++) {
                const uint8_t *p = full + 2 * y * row + (size_t)6 * x + c;
                const int mean = (p[0] + p[3] + p[row] + p[row + 3] + 2) / 4;
                const double e = mean - half[y * (row / 2) + (size_t)3 * x + c];
                error += e * e;
            }
    return error;
}

static void half_size_is_libjpegs_and_close_to_the_mean(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        J_COLOR_SPACE space;
        double worst, all; /* dB: at least, of any tile and of the level */
    } cases[] = {
        {"aperio/CMU-1-Small-Region.svs", JCS_RGB, 48.9, 54.7}, /* libjpeg alone: 48.98, 54.80 */
        {"derived/CMU-1-Small-Region.jpeg.tiff", JCS_YCbCr, 40.3, 46.8}};
    for (size_t i = 0; i < SM_COUNT(cases); i++) {
        opened o = open_slide(cases[i].name);
        const sm_level *l = sm_slide_level(o.slide, 0);
        const size_t n = (size_t)3 * l->tile_w_px * l->tile_h_px;
        uint8_t *full = allocate(n), *half = allocate(n / 4), *want = allocate(n / 4);
        sm_decoder *d = NULL;
        SM_CHECK_OK(sm_decoder_open(o.slide, 0, &d, &o.err), &o.err);
        double worst = 99, sum = 0;
        for (uint64_t t = 0; t < (uint64_t)l->cols * l->rows; t++) {
            uint8_t *bytes = tile_bytes(&o, l, t);
            const size_t len = (size_t)l->lens[t], stride = (size_t)3 * l->tile_w_px;
            SM_CHECK_OK(sm_decoder_tile(d, bytes, len, NULL, t, 1, full, stride, &o.err), &o.err);
            SM_CHECK_OK(sm_decoder_tile(d, bytes, len, NULL, t, 2, half, stride / 2, &o.err),
                        &o.err);
            by_libjpeg(l, bytes, len, 2, cases[i].space, want);
            assert_memory_equal(half, want, n / 4);
            const double error = half_error(full, half, l->tile_w_px, l->tile_h_px);
            worst = fmin(worst, psnr(error, (double)n / 4));
            sum += error;
            free(bytes);
        }
        const double all = psnr(sum, (double)n / 4 * l->cols * l->rows);
        print_message("%s: worst tile %.2f dB, level %.2f dB\n", cases[i].name, worst, all);
        if (worst < cases[i].worst || all < cases[i].all)
            fail_msg("%s: %.2f and %.2f dB from the 2x2 mean", cases[i].name, worst, all);
        free(full);
        free(half);
        free(want);
        sm_decoder_close(&d);
        shut(&o);
    }
}

int main(void)
{
    const char *given = getenv("SLIDEMILL_SLIDES"), *source = getenv("SLIDEMILL_SOURCE_DIR");
    if (given != NULL)
        snprintf(slides, sizeof slides, "%s", given);
    else
        snprintf(slides, sizeof slides, "%s/../shared/slides", source != NULL ? source : ".");
    if (access(slides, R_OK) != 0) {
        printf("skipped: no slides\n");
        return 77;
    }
    TIFFSetErrorHandler(NULL);
    TIFFSetWarningHandler(NULL);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_tile_of_every_slide_has_the_right_pixels),
        cmocka_unit_test(colours_are_those_of_stained_tissue),
        cmocka_unit_test(half_size_is_libjpegs_and_close_to_the_mean),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
