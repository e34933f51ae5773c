/* Tests of tiler/encode.c and its codecs. libtiff and libjpeg read what they wrote. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>
#include <tiffio.h>

#include "tests/support/check.h"
#include "tests/support/random.h"
#include "tests/support/tmpdir.h"
#include "tiler/encode.h"
#include "tiler/jpeg_info.h"

static const sm_encode_params JPEG_420 = {SM_CODEC_JPEG, 64, 48, 90, 2, 2, 0};

/* ---- pixels ---- */

typedef enum content { WHITE, ONE_COLOUR, GRADIENT, CHECKER, NOISE, N_CONTENTS } content;

static uint8_t *paint(content what, uint32_t w, uint32_t h)
{
    uint8_t *rgb = malloc((size_t)3 * w * h);
    if (rgb == NULL)
        fail_msg("out of memory");
    sm_random r = {7};
    for (uint32_t y = 0; y < h; y++) {
        for (uint32_t x = 0; x < w; x++) {
            uint8_t *p = rgb + 3 * ((size_t)y * w + x);
            switch (what) {
            case GRADIENT:
                p[0] = (uint8_t)(x * 255 / w);
                p[1] = (uint8_t)(y * 255 / h);
                p[2] = (uint8_t)((x + y) * 255 / (w + h));
                break;
            case CHECKER:
                memset(p, (x + y) % 2 == 0 ? 255 : 0, 3);
                break;
            case NOISE:
                sm_random_bytes(&r, p, 3);
                break;
            case ONE_COLOUR:
                p[0] = 200;
                p[1] = 120;
                p[2] = 180;
                break;
            default:
                memset(p, 255, 3);
            }
        }
    }
    return rgb;
}

static sm_buf encode(const sm_encode_params *p, const uint8_t *rgb)
{
    sm_error err = SM_ERROR_INIT;
    sm_encoder *encoder = NULL;
    sm_buf out = {0};
    SM_CHECK_OK(sm_encoder_open(p, &encoder, &err), &err);
    SM_CHECK_OK(sm_encoder_tile(encoder, rgb, &out, &err), &err);
    sm_encoder_close(&encoder);
    assert_null(encoder);
    return out;
}

static double psnr(const uint8_t *a, const uint8_t *b, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)(a[i] - b[i]) * (a[i] - b[i]);
    return sum > 0 ? 10 * log10(255.0 * 255.0 * (double)n / sum) : 99;
}

/* ---- libtiff as the reader ---- */

static unsigned n_said;

static void count_message(const char *module, const char *fmt, va_list args)
{
    (void)fmt;
    (void)args;
    print_message("libtiff: %s\n", module != NULL ? module : "?");
    n_said++;
}

/* Put the bytes into a TIFF of one tile with the tags the encoder names, and read its pixels. */
static uint8_t *read_by_libtiff(const sm_encode_params *p, const sm_buf *tile)
{
    sm_error err = SM_ERROR_INIT;
    const sm_tmpdir dir = sm_tmpdir_make();
    const sm_tmppath path = sm_tmpdir_file(&dir, "one.tif");
    sm_buf tables = {0};
    SM_CHECK_OK(sm_encode_tables(p, &tables, &err), &err);
    n_said = 0;
    TIFFSetErrorHandler(count_message);
    TIFFSetWarningHandler(count_message);
    TIFF *tiff = TIFFOpen(path.path, "w8");
    assert_non_null(tiff);
    TIFFSetField(tiff, TIFFTAG_IMAGEWIDTH, p->tile_w_px);
    TIFFSetField(tiff, TIFFTAG_IMAGELENGTH, p->tile_h_px);
    TIFFSetField(tiff, TIFFTAG_TILEWIDTH, p->tile_w_px);
    TIFFSetField(tiff, TIFFTAG_TILELENGTH, p->tile_h_px);
    TIFFSetField(tiff, TIFFTAG_BITSPERSAMPLE, 8);
    TIFFSetField(tiff, TIFFTAG_SAMPLESPERPIXEL, 3);
    TIFFSetField(tiff, TIFFTAG_PLANARCONFIG, PLANARCONFIG_CONTIG);
    TIFFSetField(tiff, TIFFTAG_COMPRESSION, sm_encode_compression(p));
    TIFFSetField(tiff, TIFFTAG_PHOTOMETRIC, sm_encode_photometric(p));
    if (sm_encode_predictor(p) != 1)
        TIFFSetField(tiff, TIFFTAG_PREDICTOR, sm_encode_predictor(p));
    if (p->codec == SM_CODEC_JPEG) {
        TIFFSetField(tiff, TIFFTAG_YCBCRSUBSAMPLING, p->h_samp, p->v_samp);
        TIFFSetField(tiff, TIFFTAG_JPEGTABLES, (uint32_t)tables.len, tables.data);
    }
    assert_int_equal(TIFFWriteRawTile(tiff, 0, tile->data, (tmsize_t)tile->len), tile->len);
    TIFFClose(tiff);

    tiff = TIFFOpen(path.path, "r");
    assert_non_null(tiff);
    if (p->codec == SM_CODEC_JPEG)
        TIFFSetField(tiff, TIFFTAG_JPEGCOLORMODE, JPEGCOLORMODE_RGB);
    const size_t n = (size_t)3 * p->tile_w_px * p->tile_h_px;
    uint8_t *rgb = malloc(n);
    assert_non_null(rgb);
    assert_int_equal(TIFFTileSize(tiff), n);
    assert_int_equal(TIFFReadEncodedTile(tiff, 0, rgb, (tmsize_t)n), n);
    TIFFClose(tiff);
    assert_int_equal(n_said, 0);
    sm_buf_free(&tables);
    sm_tmpdir_remove(&dir);
    return rgb;
}

/* ---- claims ---- */

static void lossless_codecs_give_every_pixel_back(void **state)
{
    (void)state;
    static const sm_codec codecs[] = {SM_CODEC_NONE, SM_CODEC_LZW, SM_CODEC_DEFLATE, SM_CODEC_ZSTD};
    static const uint32_t sides[][2] = {{16, 16}, {48, 16}, {16, 80}, {256, 256}, {240, 528}};
    for (size_t c = 0; c < SM_COUNT(codecs); c++) {
        for (size_t s = 0; s < SM_COUNT(sides); s++) {
            for (content what = WHITE; what < N_CONTENTS; what++) {
                const sm_encode_params p = {
                    .codec = codecs[c], .tile_w_px = sides[s][0], .tile_h_px = sides[s][1]};
                const size_t n = (size_t)3 * p.tile_w_px * p.tile_h_px;
                uint8_t *rgb = paint(what, p.tile_w_px, p.tile_h_px);
                uint8_t *untouched = paint(what, p.tile_w_px, p.tile_h_px);
                sm_buf tile = encode(&p, rgb);
                uint8_t *back = read_by_libtiff(&p, &tile);
                if (memcmp(rgb, back, n) != 0 || memcmp(rgb, untouched, n) != 0)
                    fail_msg("%s %u x %u content %d: pixels differ", sm_codec_name(p.codec),
                             p.tile_w_px, p.tile_h_px, (int)what);
                if (what == WHITE && p.codec != SM_CODEC_NONE && tile.len > n / 4)
                    fail_msg("%s: a white tile takes %zu bytes", sm_codec_name(p.codec), tile.len);
                sm_buf_free(&tile);
                free(back);
                free(untouched);
                free(rgb);
            }
        }
    }
}

static void jpeg_comes_close_in_every_sampling(void **state)
{
    (void)state;
    static const struct {
        uint8_t h, v;
        uint32_t quality;
        content what;
        double at_least;
    } cases[] = {
        {1, 1, 95, GRADIENT, 44}, {2, 1, 95, GRADIENT, 42}, {2, 2, 95, GRADIENT, 41},
        {2, 2, 75, GRADIENT, 36}, {1, 1, 100, NOISE, 38},   {2, 2, 85, ONE_COLOUR, 44},
        {2, 2, 85, WHITE, 99},    {1, 1, 30, WHITE, 99},    {1, 1, 90, CHECKER, 38},
    };
    for (size_t i = 0; i < SM_COUNT(cases); i++) {
        const sm_encode_params p = {SM_CODEC_JPEG, 240,        256, cases[i].quality,
                                    cases[i].h,    cases[i].v, 0};
        uint8_t *rgb = paint(cases[i].what, p.tile_w_px, p.tile_h_px);
        sm_buf tile = encode(&p, rgb);
        uint8_t *back = read_by_libtiff(&p, &tile);
        const double got = psnr(rgb, back, (size_t)3 * p.tile_w_px * p.tile_h_px);
        if (got < cases[i].at_least)
            fail_msg("case %zu: %.1f dB instead of %.0f", i, got, cases[i].at_least);
        sm_buf_free(&tile);
        free(back);
        free(rgb);
    }
}

static void jpeg_tiles_hold_no_tables_and_no_application_data(void **state)
{
    (void)state;
    sm_error err = SM_ERROR_INIT;
    static const uint8_t samplings[][2] = {{1, 1}, {2, 1}, {2, 2}};
    for (size_t i = 0; i < SM_COUNT(samplings); i++) {
        sm_encode_params p = JPEG_420;
        p.h_samp = samplings[i][0];
        p.v_samp = samplings[i][1];
        uint8_t *rgb = paint(NOISE, p.tile_w_px, p.tile_h_px);
        sm_buf tile = encode(&p, rgb);
        sm_jpeg_header h;
        SM_CHECK_OK(sm_jpeg_header_read(tile.data, tile.len, &h, &err), &err);
        assert_false(h.has_dqt || h.has_dht || h.jfif || h.adobe);
        assert_int_equal(h.sof, 0xC0);
        assert_int_equal(h.n_components, 3);
        assert_int_equal(h.w_px, p.tile_w_px);
        assert_int_equal(h.h_px, p.tile_h_px);
        assert_int_equal(h.h[0], p.h_samp);
        assert_int_equal(h.v[0], p.v_samp);
        assert_int_equal(h.h[1] * h.v[1] * h.h[2] * h.v[2], 1);
        assert_int_equal(tile.data[tile.len - 2], 0xFF); /* EOI, and nothing behind it */
        assert_int_equal(tile.data[tile.len - 1], 0xD9);
        sm_buf_free(&tile);
        free(rgb);
    }
}

static void tables_are_a_stream_of_tables_only(void **state)
{
    (void)state;
    sm_error err = SM_ERROR_INIT;
    sm_buf out = {0};
    SM_CHECK_OK(sm_buf_append(&out, "abc", 3, &err), &err);
    SM_CHECK_OK(sm_encode_tables(&JPEG_420, &out, &err), &err);
    assert_memory_equal(out.data, "abc", 3); /* appended */
    struct jpeg_decompress_struct d;
    struct jpeg_error_mgr manager;
    d.err = jpeg_std_error(&manager); /* exits on an error: a failed test all the same */
    jpeg_create_decompress(&d);
    jpeg_mem_src(&d, out.data + 3, (unsigned long)out.len - 3);
    assert_int_equal(jpeg_read_header(&d, FALSE), JPEG_HEADER_TABLES_ONLY);
    assert_non_null(d.quant_tbl_ptrs[0]);
    assert_non_null(d.dc_huff_tbl_ptrs[0]);
    assert_non_null(d.ac_huff_tbl_ptrs[0]);
    assert_non_null(d.dc_huff_tbl_ptrs[1]);
    assert_non_null(d.ac_huff_tbl_ptrs[1]);
    assert_int_equal(d.quant_tbl_ptrs[0]->quantval[0], 3); /* Annex K's 16 at quality 90 */
    assert_int_equal(manager.num_warnings, 0);
    jpeg_destroy_decompress(&d);
    const size_t len = out.len;
    const sm_encode_params zstd = {.codec = SM_CODEC_ZSTD, .tile_w_px = 16, .tile_h_px = 16};
    SM_CHECK_OK(sm_encode_tables(&zstd, &out, &err), &err);
    assert_int_equal(out.len, len);
    sm_buf_free(&out);
}

/* What an encoder did before must not show in what it does next. */
static void same_pixels_give_the_same_bytes(void **state)
{
    (void)state;
    static const sm_encode_params cases[] = {
        {SM_CODEC_JPEG, 128, 128, 85, 2, 2, 0}, {SM_CODEC_JPEG, 128, 128, 75, 1, 1, 0},
        {SM_CODEC_ZSTD, 128, 128, 0, 0, 0, 0},  {SM_CODEC_ZSTD, 128, 128, 0, 0, 0, 3},
        {SM_CODEC_ZSTD, 128, 128, 0, 0, 0, 9},  {SM_CODEC_ZSTD, 128, 128, 0, 0, 0, 19},
        {SM_CODEC_ZSTD, 128, 128, 0, 0, 0, -3}, {SM_CODEC_DEFLATE, 128, 128, 0, 0, 0, 0},
        {SM_CODEC_LZW, 128, 128, 0, 0, 0, 0},   {SM_CODEC_NONE, 128, 128, 0, 0, 0, 0},
    };
    for (size_t i = 0; i < SM_COUNT(cases); i++) {
        sm_error err = SM_ERROR_INIT;
        sm_encoder *used = NULL;
        SM_CHECK_OK(sm_encoder_open(&cases[i], &used, &err), &err);
        for (int round = 0; round < 3; round++) {
            for (content what = WHITE; what < N_CONTENTS; what++) {
                uint8_t *rgb = paint(what, 128, 128);
                sm_buf fresh = encode(&cases[i], rgb), again = {0};
                SM_CHECK_OK(sm_encoder_tile(used, rgb, &again, &err), &err);
                if (fresh.len != again.len || memcmp(fresh.data, again.data, fresh.len) != 0)
                    fail_msg("case %zu, content %d: other bytes", i, (int)what);
                sm_buf_free(&fresh);
                sm_buf_free(&again);
                free(rgb);
            }
        }
        sm_encoder_close(&used);
    }
}

static void the_zstd_level_counts(void **state)
{
    (void)state;
    size_t len[3];
    static const int levels[] = {-7, 1, 19};
    uint8_t *rgb = paint(GRADIENT, 128, 128);
    for (size_t i = 0; i < SM_COUNT(levels); i++) {
        const sm_encode_params p = {SM_CODEC_ZSTD, 128, 128, 0, 0, 0, levels[i]};
        sm_buf tile = encode(&p, rgb);
        len[i] = tile.len;
        sm_buf_free(&tile);
    }
    assert_true(len[0] > len[1] && len[1] > len[2]);
    free(rgb);
}

static void tiles_are_appended(void **state)
{
    (void)state;
    static const sm_codec codecs[] = {SM_CODEC_NONE, SM_CODEC_LZW, SM_CODEC_DEFLATE, SM_CODEC_ZSTD,
                                      SM_CODEC_JPEG};
    uint8_t *rgb = paint(NOISE, JPEG_420.tile_w_px, JPEG_420.tile_h_px);
    for (size_t c = 0; c < SM_COUNT(codecs); c++) {
        sm_error err = SM_ERROR_INIT;
        sm_encode_params p = JPEG_420;
        p.codec = codecs[c];
        sm_buf alone = encode(&p, rgb), out = {0};
        sm_encoder *encoder = NULL;
        SM_CHECK_OK(sm_encoder_open(&p, &encoder, &err), &err);
        for (int i = 0; i < 3; i++)
            SM_CHECK_OK(sm_encoder_tile(encoder, rgb, &out, &err), &err);
        assert_int_equal(out.len, 3 * alone.len);
        for (size_t i = 0; i < 3; i++)
            assert_memory_equal(out.data + i * alone.len, alone.data, alone.len);
        sm_encoder_close(&encoder);
        sm_buf_free(&out);
        sm_buf_free(&alone);
    }
    free(rgb);
}

/* Noise at quality 100 is several times the room that is made for a tile at first. */
static void a_jpeg_tile_may_outgrow_its_room(void **state)
{
    (void)state;
    const sm_encode_params p = {SM_CODEC_JPEG, 512, 512, 100, 1, 1, 0};
    uint8_t *rgb = paint(NOISE, p.tile_w_px, p.tile_h_px);
    sm_buf tile = encode(&p, rgb);
    assert_true(tile.len > (size_t)p.tile_w_px * p.tile_h_px * 2);
    uint8_t *back = read_by_libtiff(&p, &tile);
    assert_true(psnr(rgb, back, (size_t)3 * p.tile_w_px * p.tile_h_px) > 38);
    sm_buf_free(&tile);
    free(back);
    free(rgb);
}

static void wrong_parameters_are_refused(void **state)
{
    (void)state;
    static const struct {
        sm_encode_params p;
        const char *text;
    } cases[] = {
        {{SM_CODEC_RENDERED, 64, 64, 85, 2, 2, 0}, "rendered"},
        {{SM_CODEC_JPEG, 0, 64, 85, 2, 2, 0}, "multiples of 16"},
        {{SM_CODEC_JPEG, 64, 72, 85, 2, 2, 0}, "multiples of 16"},
        {{SM_CODEC_NONE, 65536, 64, 85, 2, 2, 0}, "multiples of 16"},
        {{SM_CODEC_JPEG, 64, 64, 0, 2, 2, 0}, "quality 0"},
        {{SM_CODEC_JPEG, 64, 64, 101, 2, 2, 0}, "quality 101"},
        {{SM_CODEC_JPEG, 64, 64, 85, 1, 2, 0}, "1x2"},
        {{SM_CODEC_JPEG, 64, 64, 85, 4, 1, 0}, "4x1"},
        {{SM_CODEC_JPEG, 64, 64, 85, 2, 0, 0}, "2x0"},
        {{SM_CODEC_ZSTD, 64, 64, 0, 0, 0, 99}, "level 99"},
    };
    for (size_t i = 0; i < SM_COUNT(cases); i++) {
        sm_error err = SM_ERROR_INIT;
        sm_encoder *encoder = NULL;
        SM_CHECK_FAILS(sm_encoder_open(&cases[i].p, &encoder, &err), &err, SM_ERR_ARG,
                       cases[i].text);
        assert_null(encoder);
    }
}

static void tags_say_what_is_written(void **state)
{
    (void)state;
    static const struct {
        sm_codec codec;
        uint16_t compression, photometric, predictor;
    } cases[] = {
        {SM_CODEC_JPEG, 7, 6, 1}, {SM_CODEC_ZSTD, 50000, 2, 2}, {SM_CODEC_DEFLATE, 8, 2, 2},
        {SM_CODEC_LZW, 5, 2, 2},  {SM_CODEC_NONE, 1, 2, 1},
    };
    for (size_t i = 0; i < SM_COUNT(cases); i++) {
        const sm_encode_params p = {.codec = cases[i].codec};
        assert_int_equal(sm_encode_compression(&p), cases[i].compression);
        assert_int_equal(sm_encode_photometric(&p), cases[i].photometric);
        assert_int_equal(sm_encode_predictor(&p), cases[i].predictor);
    }
}

static void running_out_of_memory_is_told_and_leaves_the_buffer(void **state)
{
    (void)state;
    static const sm_codec codecs[] = {SM_CODEC_NONE, SM_CODEC_LZW, SM_CODEC_DEFLATE, SM_CODEC_ZSTD,
                                      SM_CODEC_JPEG};
    uint8_t *rgb = paint(NOISE, 64, 48);
    for (size_t c = 0; c < SM_COUNT(codecs); c++) {
        sm_encode_params p = JPEG_420;
        p.codec = codecs[c];
        bool done = false;
        for (long n = 0; !done && n < 50; n++) {
            sm_error err = SM_ERROR_INIT;
            sm_encoder *encoder = NULL;
            sm_buf out = {0};
            SM_CHECK_OK(sm_buf_append(&out, "ab", 2, &err), &err);
            sm_alloc_fail_after(n);
            sm_status st = sm_encoder_open(&p, &encoder, &err);
            if (st == SM_OK)
                st = sm_encoder_tile(encoder, rgb, &out, &err);
            else
                assert_null(encoder);
            sm_alloc_fail_after(-1);
            done = st == SM_OK;
            if (!done) {
                assert_int_equal(st, SM_ERR_NOMEM);
                assert_int_equal(out.len, 2);
            }
            if (encoder != NULL && !done) { /* it is as good as new */
                sm_buf want = encode(&p, rgb);
                SM_CHECK_OK(sm_encoder_tile(encoder, rgb, &out, &err), &err);
                assert_int_equal(out.len, 2 + want.len);
                assert_memory_equal(out.data + 2, want.data, want.len);
                sm_buf_free(&want);
            }
            sm_encoder_close(&encoder);
            sm_buf_free(&out);
        }
        assert_true(done);
    }
    free(rgb);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lossless_codecs_give_every_pixel_back),
        cmocka_unit_test(jpeg_comes_close_in_every_sampling),
        cmocka_unit_test(jpeg_tiles_hold_no_tables_and_no_application_data),
        cmocka_unit_test(tables_are_a_stream_of_tables_only),
        cmocka_unit_test(same_pixels_give_the_same_bytes),
        cmocka_unit_test(the_zstd_level_counts),
        cmocka_unit_test(tiles_are_appended),
        cmocka_unit_test(a_jpeg_tile_may_outgrow_its_room),
        cmocka_unit_test(wrong_parameters_are_refused),
        cmocka_unit_test(tags_say_what_is_written),
        cmocka_unit_test(running_out_of_memory_is_told_and_leaves_the_buffer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
