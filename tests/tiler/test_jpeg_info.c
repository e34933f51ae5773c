/* Tests of tiler/jpeg_info.c: streams made by libjpeg, and the same bent by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>

#include "tests/support/check.h"
#include "tiler/jpeg_info.h"

typedef struct stream {
    uint8_t *bytes;
    size_t len;
} stream;

typedef struct recipe {
    int quality;
    J_COLOR_SPACE space; /* of the stream */
    int h, v;            /* luma sampling */
    bool jfif, adobe, progressive, tables, private_data;
    unsigned restart;
} recipe;

static void write_pixels(struct jpeg_compress_struct *c)
{
    uint8_t row[3 * 64];
    JSAMPROW rows[1] = {row};
    unsigned x = 12345;
    while (c->next_scanline < c->image_height) {
        for (size_t i = 0; i < sizeof row; i++) {
            x = x * 1103515245u + 12345u;
            row[i] = (uint8_t)(x >> 16);
        }
        (void)jpeg_write_scanlines(c, rows, 1);
    }
}

/* 64x48 noise. */
static stream make(const recipe *r)
{
    struct jpeg_compress_struct c;
    struct jpeg_error_mgr mgr;
    unsigned char *bytes = NULL;
    unsigned long len = 0;
    c.err = jpeg_std_error(&mgr);
    jpeg_create_compress(&c);
    jpeg_mem_dest(&c, &bytes, &len);
    c.image_width = 64;
    c.image_height = 48;
    c.input_components = r->space == JCS_GRAYSCALE ? 1 : 3;
    c.in_color_space = r->space == JCS_GRAYSCALE ? JCS_GRAYSCALE : JCS_RGB;
    jpeg_set_defaults(&c);
    jpeg_set_colorspace(&c, r->space);
    jpeg_set_quality(&c, r->quality, TRUE);
    c.comp_info[0].h_samp_factor = r->h;
    c.comp_info[0].v_samp_factor = r->v;
    c.write_JFIF_header = r->jfif;
    c.write_Adobe_marker = r->adobe;
    c.restart_interval = r->restart;
    if (r->progressive)
        jpeg_simple_progression(&c);
    jpeg_start_compress(&c, TRUE);
    if (r->private_data) {
        static const uint8_t text[] = "Patient: Jane Doe";
        jpeg_write_marker(&c, JPEG_COM, text, sizeof text);
        jpeg_write_marker(&c, JPEG_APP0 + 1, text, sizeof text);
        jpeg_write_marker(&c, JPEG_APP0 + 14, text, sizeof text);
    }
    write_pixels(&c);
    jpeg_finish_compress(&c);
    jpeg_destroy_compress(&c);
    return (stream){bytes, len};
}

static size_t find(const uint8_t *bytes, size_t len, const void *what, size_t n)
{
    const uint8_t *at = memmem(bytes, len, what, n);
    return at != NULL ? (size_t)(at - bytes) : SIZE_MAX;
}

/* Decoded pixels, to compare what two streams hold. */
static uint8_t *decode(const uint8_t *bytes, size_t len, size_t *n)
{
    struct jpeg_decompress_struct d;
    struct jpeg_error_mgr mgr;
    d.err = jpeg_std_error(&mgr);
    jpeg_create_decompress(&d);
    jpeg_mem_src(&d, bytes, (unsigned long)len);
    assert_int_equal(jpeg_read_header(&d, TRUE), JPEG_HEADER_OK);
    jpeg_start_decompress(&d);
    const size_t stride = (size_t)d.output_width * (size_t)d.output_components;
    *n = stride * d.output_height;
    uint8_t *pixels = malloc(*n);
    assert_non_null(pixels);
    while (d.output_scanline < d.output_height) {
        JSAMPROW rows[1] = {pixels + stride * d.output_scanline};
        (void)jpeg_read_scanlines(&d, rows, 1);
    }
    jpeg_finish_decompress(&d);
    assert_int_equal(mgr.num_warnings, 0);
    jpeg_destroy_decompress(&d);
    return pixels;
}

static void header_tells_what_libjpeg_wrote(void **state)
{
    (void)state;
    sm_error err = SM_ERROR_INIT;
    sm_jpeg_header h;
    stream s = make(
        &(recipe){.quality = 75, .space = JCS_YCbCr, .h = 2, .v = 1, .jfif = true, .restart = 3});
    SM_CHECK_OK(sm_jpeg_header_read(s.bytes, s.len, &h, &err), &err);
    assert_int_equal(h.w_px, 64);
    assert_int_equal(h.h_px, 48);
    assert_int_equal(h.precision, 8);
    assert_int_equal(h.sof, 0xC0);
    assert_int_equal(h.n_components, 3);
    assert_int_equal(h.ids[2], 3);
    assert_int_equal(h.h[0], 2);
    assert_int_equal(h.v[0], 1);
    assert_int_equal(h.h[1], 1);
    assert_int_equal(h.tq[1], 1);
    assert_true(h.jfif && !h.adobe && h.has_dqt && h.has_dht);
    assert_int_equal(h.restart_interval, 3);
    const size_t sos = find(s.bytes, s.len, "\xFF\xDA", 2);
    assert_int_equal(h.scan_offset, sos + 2 + 12);
    free(s.bytes);
}

static void every_ijg_quality_is_recognised(void **state)
{
    (void)state;
    for (int q = 1; q <= 100; q++) {
        for (int k = 0; k < 3; k++) {
            static const J_COLOR_SPACE spaces[] = {JCS_YCbCr, JCS_RGB, JCS_GRAYSCALE};
            sm_error err = SM_ERROR_INIT;
            sm_jpeg_traits t;
            stream s = make(&(recipe){.quality = q, .space = spaces[k], .h = 1, .v = 1});
            SM_CHECK_OK(sm_jpeg_traits_read(s.bytes, s.len, NULL, 0, 2, &t, &err), &err);
            /* scaled by 50 and more, the tables of RGB and grey saturate alike */
            if (t.quality != q && !(k > 0 && q < 4 && t.quality > 0 && t.quality < 4))
                fail_msg("quality %d, colour space %d: got %d", q, k, t.quality);
            free(s.bytes);
        }
    }
}

static void a_changed_table_has_no_quality(void **state)
{
    (void)state;
    sm_error err = SM_ERROR_INIT;
    sm_jpeg_traits t;
    stream s = make(&(recipe){.quality = 75, .space = JCS_YCbCr, .h = 1, .v = 1});
    s.bytes[find(s.bytes, s.len, "\xFF\xDB", 2) + 5 + 63]++;
    SM_CHECK_OK(sm_jpeg_traits_read(s.bytes, s.len, NULL, 0, 6, &t, &err), &err);
    assert_int_equal(t.quality, 0);
    free(s.bytes);
}

static void colour_follows_the_codestream(void **state)
{
    (void)state;
#define YCC_IDS                                                                                    \
    {                                                                                              \
        1, 2, 3                                                                                    \
    }
#define FLAT                                                                                       \
    {                                                                                              \
        1, 1, 1                                                                                    \
    }
    static const struct {
        const char *name;
        sm_jpeg_header h;
        uint16_t photometric;
        sm_colour want;
    } cases[] = {
        {"grey", {.n_components = 1}, 6, SM_COLOUR_GREY},
        {"Adobe transform 0 beats JFIF and the tag",
         {.n_components = 3, .adobe = true, .jfif = true, .ids = YCC_IDS, .h = FLAT, .v = FLAT},
         6,
         SM_COLOUR_RGB},
        {"Adobe transform 1 beats ids R, G, B",
         {.n_components = 3,
          .adobe = true,
          .adobe_transform = 1,
          .ids = {'R', 'G', 'B'},
          .h = FLAT,
          .v = FLAT},
         2,
         SM_COLOUR_YCBCR},
        {"JFIF beats the tag (Bio-Formats)",
         {.n_components = 3, .jfif = true, .ids = YCC_IDS, .h = FLAT, .v = FLAT},
         2,
         SM_COLOUR_YCBCR},
        {"ids R, G, B beat the tag",
         {.n_components = 3, .ids = {'R', 'G', 'B'}, .h = FLAT, .v = FLAT},
         6,
         SM_COLOUR_RGB},
        {"subsampled chroma is YCbCr",
         {.n_components = 3, .ids = {0, 1, 2}, .h = {2, 1, 1}, .v = FLAT},
         2,
         SM_COLOUR_YCBCR},
        {"the tag decides the rest: RGB (Aperio AT2)",
         {.n_components = 3, .ids = {0, 1, 2}, .h = FLAT, .v = FLAT},
         2,
         SM_COLOUR_RGB},
        {"the tag decides the rest: YCbCr (GT450)",
         {.n_components = 3, .ids = {0, 1, 2}, .h = FLAT, .v = FLAT},
         6,
         SM_COLOUR_YCBCR},
    };
    for (size_t i = 0; i < SM_COUNT(cases); i++) {
        if (sm_jpeg_colour(&cases[i].h, cases[i].photometric) != cases[i].want)
            fail_msg("%s", cases[i].name);
    }
}

static void traits_tell_sampling_and_plainness(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        recipe r;
        uint8_t h, v, n;
        bool plain;
    } cases[] = {
        {"4:4:4", {.quality = 75, .space = JCS_YCbCr, .h = 1, .v = 1}, 1, 1, 3, true},
        {"4:2:2", {.quality = 75, .space = JCS_YCbCr, .h = 2, .v = 1}, 2, 1, 3, true},
        {"4:2:0", {.quality = 75, .space = JCS_YCbCr, .h = 2, .v = 2}, 2, 2, 3, true},
        {"grey", {.quality = 75, .space = JCS_GRAYSCALE, .h = 2, .v = 2}, 1, 1, 1, true},
        {"progressive",
         {.quality = 75, .space = JCS_YCbCr, .h = 2, .v = 2, .progressive = true},
         2,
         2,
         3,
         false},
    };
    for (size_t i = 0; i < SM_COUNT(cases); i++) {
        sm_error err = SM_ERROR_INIT;
        sm_jpeg_traits t;
        stream s = make(&cases[i].r);
        SM_CHECK_OK(sm_jpeg_traits_read(s.bytes, s.len, NULL, 0, 6, &t, &err), &err);
        if (t.h_samp != cases[i].h || t.v_samp != cases[i].v || t.n_components != cases[i].n ||
            t.plain != cases[i].plain)
            fail_msg("%s: %ux%u, %u components, plain %d", cases[i].name, (unsigned)t.h_samp,
                     (unsigned)t.v_samp, (unsigned)t.n_components, (int)t.plain);
        free(s.bytes);
    }
}

static void tables_of_the_level_give_the_quality(void **state)
{
    (void)state;
    sm_error err = SM_ERROR_INIT;
    sm_jpeg_traits t;
    stream s = make(&(recipe){.quality = 30, .space = JCS_RGB, .h = 1, .v = 1});
    const size_t dqt = find(s.bytes, s.len, "\xFF\xDB", 2), n = 2 + 67;
    uint8_t tables[2 + 69 + 2] = {0xFF, 0xD8};
    memcpy(tables + 2, s.bytes + dqt, n);
    memcpy(tables + 2 + n, "\xFF\xD9", 2);
    memmove(s.bytes + dqt, s.bytes + dqt + n, s.len - dqt - n);
    s.len -= n;
    SM_CHECK_OK(sm_jpeg_traits_read(s.bytes, s.len, NULL, 0, 2, &t, &err), &err);
    assert_int_equal(t.quality, 0);
    SM_CHECK_OK(sm_jpeg_traits_read(s.bytes, s.len, tables, n + 4, 2, &t, &err), &err);
    assert_int_equal(t.quality, 30);
    SM_CHECK_FAILS(sm_jpeg_traits_read(s.bytes, s.len, tables, n - 2, 2, &t, &err), &err,
                   SM_ERR_CORRUPT, "JPEGTables");
    free(s.bytes);
}

static void unreadable_kinds_are_refused(void **state)
{
    (void)state;
    sm_error err = SM_ERROR_INIT;
    sm_jpeg_traits t;
    stream s = make(&(recipe){.quality = 75, .space = JCS_YCbCr, .h = 1, .v = 1});
    uint8_t *sof = s.bytes + find(s.bytes, s.len, "\xFF\xC0", 2);
    sof[4] = 12;
    SM_CHECK_FAILS(sm_jpeg_traits_read(s.bytes, s.len, NULL, 0, 6, &t, &err), &err, SM_ERR_FORMAT,
                   "12 bits");
    sof[4] = 8;
    sof[1] = 0xC3;
    SM_CHECK_FAILS(sm_jpeg_traits_read(s.bytes, s.len, NULL, 0, 6, &t, &err), &err, SM_ERR_FORMAT,
                   "SOF3");
    sof[1] = 0xC0;
    sof[11] = 0x05;
    SM_CHECK_FAILS(sm_jpeg_traits_read(s.bytes, s.len, NULL, 0, 6, &t, &err), &err, SM_ERR_CORRUPT,
                   "sampling 0x5");
    free(s.bytes);
}

/* Every prefix, in a block of its own size so that a sanitizer sees a read beyond it. */
static void cut_streams_are_corrupt(void **state)
{
    (void)state;
    stream s = make(&(recipe){
        .quality = 50, .space = JCS_YCbCr, .h = 2, .v = 2, .jfif = true, .private_data = true});
    sm_jpeg_header h;
    sm_error err = SM_ERROR_INIT;
    SM_CHECK_OK(sm_jpeg_header_read(s.bytes, s.len, &h, &err), &err);
    for (size_t n = 0; n < s.len; n++) {
        uint8_t *cut = malloc(n > 0 ? n : 1);
        assert_non_null(cut);
        memcpy(cut, s.bytes, n);
        sm_buf out = {0};
        if (sm_jpeg_strip(cut, n, &out, &err) != SM_ERR_CORRUPT)
            fail_msg("strip takes %zu of %zu bytes", n, s.len);
        const sm_status want = n < h.scan_offset ? SM_ERR_CORRUPT : SM_OK;
        sm_jpeg_header again;
        if (sm_jpeg_header_read(cut, n, &again, &err) != want)
            fail_msg("header: %zu of %zu bytes", n, s.len);
        sm_buf_free(&out);
        free(cut);
    }
    free(s.bytes);
}

static void strip_drops_private_segments_only(void **state)
{
    (void)state;
    for (int progressive = 0; progressive < 2; progressive++) {
        recipe r = {.quality = 80,
                    .space = JCS_YCbCr,
                    .h = 2,
                    .v = 2,
                    .adobe = true,
                    .progressive = progressive == 1,
                    .restart = 2};
        stream clean = make(&r);
        r.private_data = r.jfif = true;
        stream dirty = make(&r);
        sm_error err = SM_ERROR_INIT;
        sm_buf out = {0};
        assert_int_not_equal(find(dirty.bytes, dirty.len, "Jane", 4), SIZE_MAX);
        /* bytes behind EOI are dropped too */
        uint8_t *longer = malloc(dirty.len + 9);
        assert_non_null(longer);
        memcpy(longer, dirty.bytes, dirty.len);
        memcpy(longer + dirty.len,
               "Jane\xFF\xD9"
               "Doe",
               9);
        SM_CHECK_OK(sm_jpeg_strip(longer, dirty.len + 9, &out, &err), &err);
        assert_int_equal(find(out.data, out.len, "Jane", 4), SIZE_MAX);
        assert_int_equal(find(out.data, out.len, "JFIF", 4), SIZE_MAX);
        assert_int_not_equal(find(out.data, out.len, "Adobe", 5), SIZE_MAX);
        assert_int_equal(out.len, clean.len);
        assert_memory_equal(out.data, clean.bytes, clean.len);
        size_t n = 0, m = 0;
        uint8_t *before = decode(dirty.bytes, dirty.len, &n),
                *after = decode(out.data, out.len, &m);
        assert_int_equal(n, m);
        assert_memory_equal(before, after, n);
        free(before);
        free(after);
        free(longer);
        sm_buf_free(&out);
        free(clean.bytes);
        free(dirty.bytes);
    }
}

static void strip_appends_and_takes_tables_only_streams(void **state)
{
    (void)state;
    /* COM, DRI, and a reserved marker (JPG3) */
    static const uint8_t tables[] = {0xFF, 0xD8, 0xFF, 0xFE, 0,    4, 'h', 'i', 0xFF, 0xDD, 0,
                                     4,    0,    7,    0xFF, 0xF3, 0, 4,   'h', 'i',  0xFF, 0xD9};
    static const uint8_t want[] = {'x', 0xFF, 0xD8, 0xFF, 0xDD, 0, 4, 0, 7, 0xFF, 0xD9};
    sm_error err = SM_ERROR_INIT;
    sm_buf out = {0};
    SM_CHECK_OK(sm_buf_append(&out, "x", 1, &err), &err);
    SM_CHECK_OK(sm_jpeg_strip(tables, sizeof tables, &out, &err), &err);
    assert_int_equal(out.len, sizeof want);
    assert_memory_equal(out.data, want, sizeof want);
    sm_buf_free(&out);
}

static void strip_cuts_an_adobe_segment_to_its_size(void **state)
{
    (void)state;
    static const uint8_t in[] = {0xFF, 0xD8, 0xFF, 0xEE, 0, 18, 'A', 'd', 'o', 'b', 'e',  0,
                                 100,  0,    0,    0,    0, 1,  'J', 'a', 'n', 'e', 0xFF, 0xD9};
    sm_error err = SM_ERROR_INIT;
    sm_buf out = {0};
    SM_CHECK_OK(sm_jpeg_strip(in, sizeof in, &out, &err), &err);
    assert_int_equal(out.len, sizeof in - 4);
    assert_int_equal(out.data[5], 14);
    assert_int_equal(out.data[17], 1);
    sm_buf_free(&out);
}

static void strip_refuses_what_is_no_stream(void **state)
{
    (void)state;
    sm_error err = SM_ERROR_INIT;
    sm_buf out = {0};
    static const uint8_t beyond[] = {0xFF, 0xD8, 0xFF, 0xDB, 0, 200, 1, 0xFF, 0xD9};
    static const uint8_t twice[] = {0xFF, 0xD8, 0xFF, 0xD8, 0xFF, 0xD9};
    SM_CHECK_FAILS(sm_jpeg_strip((const uint8_t *)"GIF89a", 6, &out, &err), &err, SM_ERR_CORRUPT,
                   "no SOI");
    SM_CHECK_FAILS(sm_jpeg_strip(beyond, sizeof beyond, &out, &err), &err, SM_ERR_CORRUPT,
                   "beyond the stream");
    assert_int_equal(err.offset, 2);
    SM_CHECK_FAILS(sm_jpeg_strip(twice, sizeof twice, &out, &err), &err, SM_ERR_CORRUPT, "twice");
    sm_buf_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(header_tells_what_libjpeg_wrote),
        cmocka_unit_test(every_ijg_quality_is_recognised),
        cmocka_unit_test(a_changed_table_has_no_quality),
        cmocka_unit_test(colour_follows_the_codestream),
        cmocka_unit_test(traits_tell_sampling_and_plainness),
        cmocka_unit_test(tables_of_the_level_give_the_quality),
        cmocka_unit_test(unreadable_kinds_are_refused),
        cmocka_unit_test(cut_streams_are_corrupt),
        cmocka_unit_test(strip_drops_private_segments_only),
        cmocka_unit_test(strip_appends_and_takes_tables_only_streams),
        cmocka_unit_test(strip_cuts_an_adobe_segment_to_its_size),
        cmocka_unit_test(strip_refuses_what_is_no_stream),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
