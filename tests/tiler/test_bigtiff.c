/* Tests of tiler/bigtiff.c: what it renders is written to a file and read back with libtiff. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tiffio.h>

#include "tests/support/check.h"
#include "tests/support/random.h"
#include "tests/support/tmpdir.h"
#include "tiler/bigtiff.h"

#define MUST(call)                                                                                 \
    do {                                                                                           \
        sm_error must_err = SM_ERROR_INIT;                                                         \
        SM_CHECK_OK(call, &must_err);                                                              \
    } while (0)
#define E (&must_err)

static sm_tmpdir folder;
static char complaint[256]; /* libtiff's first */

__attribute__((format(printf, 2, 0))) static void complain(const char *module, const char *fmt,
                                                           va_list args)
{
    if (complaint[0] != '\0')
        return;
    const int n = snprintf(complaint, sizeof complaint, "%s: ", module != NULL ? module : "");
    vsnprintf(complaint + n, sizeof complaint - (size_t)n, fmt, args);
}

static void check_no_complaint(void)
{
    if (complaint[0] != '\0')
        fail_msg("libtiff: %s", complaint);
}

static sm_bigtiff *tiff_new(void)
{
    sm_bigtiff *t = NULL;
    MUST(sm_bigtiff_new(&t, E));
    return t;
}

static void set_short(sm_bigtiff *t, uint32_t d, uint16_t tag, uint16_t value)
{
    MUST(sm_bigtiff_set_short(t, d, tag, &value, 1, E));
}

/* A directory of uncompressed RGB tiles of 16 x 16 pixels; tags are set in no order at all. */
static uint32_t add_dir(sm_bigtiff *t, uint32_t w, uint32_t h)
{
    static const uint16_t BITS[3] = {8, 8, 8};
    uint32_t d = 0;
    MUST(sm_bigtiff_add_dir(t, &d, E));
    MUST(sm_bigtiff_set_long(t, d, TIFFTAG_TILELENGTH, 16, E));
    MUST(sm_bigtiff_set_long(t, d, TIFFTAG_IMAGEWIDTH, w, E));
    MUST(sm_bigtiff_reserve(t, d, (uint64_t)((w + 15) / 16) * ((h + 15) / 16), false, E));
    set_short(t, d, TIFFTAG_PHOTOMETRIC, PHOTOMETRIC_RGB);
    set_short(t, d, TIFFTAG_SAMPLESPERPIXEL, 3);
    MUST(sm_bigtiff_set_long(t, d, TIFFTAG_IMAGELENGTH, h, E));
    MUST(sm_bigtiff_set_short(t, d, TIFFTAG_BITSPERSAMPLE, BITS, 3, E));
    MUST(sm_bigtiff_set_long(t, d, TIFFTAG_TILEWIDTH, 16, E));
    set_short(t, d, TIFFTAG_PLANARCONFIG, PLANARCONFIG_CONTIG);
    set_short(t, d, TIFFTAG_COMPRESSION, COMPRESSION_NONE);
    return d;
}

/* Render, append tail, and write all of it. */
static sm_tmppath write_file(sm_bigtiff *t, const void *tail, size_t len)
{
    sm_buf head = {0};
    const uint64_t want = sm_bigtiff_head_bytes(t);
    MUST(sm_bigtiff_render(t, &head, E));
    assert_int_equal(head.len, want);
    assert_int_equal(want % 4096, 0);
    MUST(sm_buf_append(&head, tail, len, E));
    const sm_tmppath file = sm_tmpdir_file(&folder, "made.tif");
    sm_file_write(file.path, head.data, head.len);
    sm_buf_free(&head);
    return file;
}

static TIFF *open_file(const sm_tmppath *file)
{
    complaint[0] = '\0';
    TIFF *tif = TIFFOpen(file->path, "r");
    check_no_complaint();
    assert_non_null(tif);
    assert_true(TIFFIsBigTIFF(tif));
    return tif;
}

static TIFF *reopen(sm_bigtiff **t, const void *tail, size_t len)
{
    const sm_tmppath file = write_file(*t, tail, len);
    sm_bigtiff_free(t);
    assert_null(*t);
    return open_file(&file);
}

static void check_u32(TIFF *tif, uint32_t tag, uint32_t want)
{
    uint32_t got = 0;
    if (TIFFGetField(tif, tag, &got) != 1 || got != want)
        fail_msg("tag %u is %u, not %u", tag, got, want);
}

static void check_u16(TIFF *tif, uint32_t tag, uint16_t want)
{
    uint16_t got = 0;
    if (TIFFGetField(tif, tag, &got) != 1 || got != want)
        fail_msg("tag %u is %u, not %u", tag, got, want);
}

static void every_tag_comes_back(void **state)
{
    (void)state;
    static const uint16_t SAMPLING[2] = {2, 1};
    static const uint8_t TABLES[] = {0xFF, 0xD8, 0xFF, 0xD9};
    sm_bigtiff *t = tiff_new();
    uint32_t d = 0;
    MUST(sm_bigtiff_add_dir(t, &d, E));
    assert_int_equal(d, 0);
    MUST(sm_bigtiff_set_short(t, d, TIFFTAG_YCBCRSUBSAMPLING, SAMPLING, 2, E));
    MUST(sm_bigtiff_set_undefined(t, d, TIFFTAG_JPEGTABLES, TABLES, sizeof TABLES, E));
    MUST(sm_bigtiff_set_ascii(t, d, TIFFTAG_SOFTWARE, "a program of some kind", E));
    MUST(sm_bigtiff_set_ascii(t, d, TIFFTAG_IMAGEDESCRIPTION, "short", E)); /* stands inline */
    MUST(sm_bigtiff_set_rational(t, d, TIFFTAG_XRESOLUTION, 20040.08, E));
    MUST(sm_bigtiff_set_rational(t, d, TIFFTAG_YRESOLUTION, 0.25, E));
    set_short(t, d, TIFFTAG_RESOLUTIONUNIT, RESUNIT_CENTIMETER);
    set_short(t, d, TIFFTAG_PHOTOMETRIC, PHOTOMETRIC_YCBCR);
    set_short(t, d, TIFFTAG_COMPRESSION, COMPRESSION_JPEG);
    set_short(t, d, TIFFTAG_SAMPLESPERPIXEL, 3);
    set_short(t, d, TIFFTAG_PLANARCONFIG, PLANARCONFIG_CONTIG);
    MUST(sm_bigtiff_set_short(t, d, TIFFTAG_BITSPERSAMPLE, (const uint16_t[]){8, 8, 8}, 3, E));
    MUST(sm_bigtiff_set_long(t, d, TIFFTAG_IMAGEWIDTH, 100000, E));
    MUST(sm_bigtiff_set_long(t, d, TIFFTAG_IMAGELENGTH, 70000, E));
    MUST(sm_bigtiff_set_long(t, d, TIFFTAG_TILEWIDTH, 4096, E));
    MUST(sm_bigtiff_set_long(t, d, TIFFTAG_TILELENGTH, 2048, E));
    MUST(sm_bigtiff_set_long(t, d, TIFFTAG_SUBFILETYPE, 1, E));
    MUST(sm_bigtiff_reserve(t, d, 25 * 35, false, E));
    for (uint64_t i = 0; i < 25 * 35; i++)
        sm_bigtiff_place(t, d, i, 4096, 4);
    TIFF *tif = reopen(&t, TABLES, 4);
    check_u32(tif, TIFFTAG_IMAGEWIDTH, 100000);
    check_u32(tif, TIFFTAG_IMAGELENGTH, 70000);
    check_u32(tif, TIFFTAG_TILEWIDTH, 4096);
    check_u32(tif, TIFFTAG_TILELENGTH, 2048);
    check_u32(tif, TIFFTAG_SUBFILETYPE, 1);
    check_u16(tif, TIFFTAG_COMPRESSION, COMPRESSION_JPEG);
    check_u16(tif, TIFFTAG_PHOTOMETRIC, PHOTOMETRIC_YCBCR);
    check_u16(tif, TIFFTAG_BITSPERSAMPLE, 8);
    check_u16(tif, TIFFTAG_SAMPLESPERPIXEL, 3);
    check_u16(tif, TIFFTAG_PLANARCONFIG, PLANARCONFIG_CONTIG);
    check_u16(tif, TIFFTAG_RESOLUTIONUNIT, RESUNIT_CENTIMETER);
    float x = 0, y = 0;
    char *software = NULL, *text = NULL;
    uint16_t h = 0, v = 0;
    uint32_t n = 0;
    const uint8_t *tables = NULL;
    assert_int_equal(TIFFGetField(tif, TIFFTAG_XRESOLUTION, &x), 1);
    assert_int_equal(TIFFGetField(tif, TIFFTAG_YRESOLUTION, &y), 1);
    assert_true(x == 20040.08f && y == 0.25f);
    assert_int_equal(TIFFGetField(tif, TIFFTAG_SOFTWARE, &software), 1);
    assert_string_equal(software, "a program of some kind");
    assert_int_equal(TIFFGetField(tif, TIFFTAG_IMAGEDESCRIPTION, &text), 1);
    assert_string_equal(text, "short");
    assert_int_equal(TIFFGetField(tif, TIFFTAG_YCBCRSUBSAMPLING, &h, &v), 1);
    assert_true(h == 2 && v == 1);
    assert_int_equal(TIFFGetField(tif, TIFFTAG_JPEGTABLES, &n, &tables), 1);
    assert_int_equal(n, sizeof TABLES);
    assert_memory_equal(tables, TABLES, n);
    assert_int_equal(TIFFReadDirectory(tif), 0);
    check_no_complaint();
    TIFFClose(tif);
}

/* Grids whose arrays stand in the entry, half of them, or behind the directory. */
static void tiles_are_where_they_were_placed(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        uint32_t w, h;
    } cases[] = {
        {"one tile: both arrays inline", 1, 1},
        {"two tiles: byte counts inline", 17, 1},
        {"three tiles", 16, 48},
        {"many tiles", 1000, 1000},
    };
    for (size_t k = 0; k < SM_COUNT(cases); k++) {
        const uint32_t tiles = (cases[k].w + 15) / 16 * ((cases[k].h + 15) / 16);
        sm_bigtiff *t = tiff_new();
        const uint32_t d = add_dir(t, cases[k].w, cases[k].h);
        const uint64_t head = sm_bigtiff_head_bytes(t);
        uint8_t *pixels = sm_bytes_make((size_t)tiles * 768, k + 1);
        for (uint32_t i = 0; i < tiles; i++) /* last tile first */
            sm_bigtiff_place(t, d, i, head + (uint64_t)(tiles - 1 - i) * 768, 768);
        TIFF *tif = reopen(&t, pixels, (size_t)tiles * 768);
        assert_int_equal(TIFFNumberOfTiles(tif), tiles);
        for (uint32_t i = 0; i < tiles; i++) {
            uint8_t got[768];
            if (TIFFReadEncodedTile(tif, i, got, 768) != 768 ||
                memcmp(got, pixels + (size_t)(tiles - 1 - i) * 768, 768) != 0)
                fail_msg("%s: tile %u", cases[k].name, i);
        }
        check_no_complaint();
        TIFFClose(tif);
        free(pixels);
    }
}

static void strips_have_their_own_tags(void **state)
{
    (void)state;
    static const uint8_t PIXELS[] = {1, 2, 3, 4, 5, 6};
    sm_bigtiff *t = tiff_new();
    uint32_t d = 0;
    MUST(sm_bigtiff_add_dir(t, &d, E));
    MUST(sm_bigtiff_set_long(t, d, TIFFTAG_IMAGEWIDTH, 3, E));
    MUST(sm_bigtiff_set_long(t, d, TIFFTAG_IMAGELENGTH, 2, E));
    MUST(sm_bigtiff_set_long(t, d, TIFFTAG_ROWSPERSTRIP, 1, E));
    set_short(t, d, TIFFTAG_BITSPERSAMPLE, 8);
    set_short(t, d, TIFFTAG_SAMPLESPERPIXEL, 1);
    set_short(t, d, TIFFTAG_COMPRESSION, COMPRESSION_NONE);
    set_short(t, d, TIFFTAG_PHOTOMETRIC, PHOTOMETRIC_MINISBLACK);
    MUST(sm_bigtiff_reserve(t, d, 2, true, E));
    const uint64_t head = sm_bigtiff_head_bytes(t);
    sm_bigtiff_place(t, d, 0, head + 3, 3);
    sm_bigtiff_place(t, d, 1, head, 3);
    TIFF *tif = reopen(&t, PIXELS, sizeof PIXELS);
    assert_false(TIFFIsTiled(tif));
    uint8_t row[3];
    assert_int_equal(TIFFReadScanline(tif, row, 0, 0), 1);
    assert_memory_equal(row, PIXELS + 3, 3);
    assert_int_equal(TIFFReadScanline(tif, row, 1, 0), 1);
    assert_memory_equal(row, PIXELS, 3);
    check_no_complaint();
    TIFFClose(tif);
}

/* The same lies in the chain and under directory 0. */
static void subdirectories_are_the_directories_of_the_chain(void **state)
{
    (void)state;
    static const uint32_t COUNTS[] = {1, 2, 3, 9}; /* 1: the offset stands inline */
    for (size_t k = 0; k < SM_COUNT(COUNTS); k++) {
        sm_bigtiff *t = tiff_new();
        for (uint32_t i = 0; i <= COUNTS[k]; i++)
            assert_int_equal(add_dir(t, 1000 >> i, 700 >> i), i);
        MUST(sm_bigtiff_set_subdirs(t, 0, 1, COUNTS[k], E));
        const uint64_t head = sm_bigtiff_head_bytes(t);
        for (uint32_t i = 0; i <= COUNTS[k]; i++)
            for (uint64_t n = ((1000u >> i) + 15) / 16 * (((700u >> i) + 15) / 16); n-- > 0;)
                sm_bigtiff_place(t, i, n, head, 768);
        uint8_t *pixels = sm_bytes_make(768, 5);
        TIFF *tif = reopen(&t, pixels, 768);
        uint16_t n = 0;
        const uint64_t *offsets = NULL;
        assert_int_equal(TIFFGetField(tif, TIFFTAG_SUBIFD, &n, &offsets), 1);
        assert_int_equal(n, COUNTS[k]);
        uint64_t at[16];
        memcpy(at, offsets, n * sizeof *at);
        for (uint16_t i = 0; i < n; i++) {
            assert_int_equal(TIFFReadDirectory(tif), 1);
            assert_int_equal(TIFFCurrentDirOffset(tif), at[i]);
            check_u32(tif, TIFFTAG_IMAGEWIDTH, 1000u >> (i + 1));
        }
        assert_int_equal(TIFFReadDirectory(tif), 0);
        for (uint16_t i = 0; i < n; i++) {
            assert_int_equal(TIFFSetSubDirectory(tif, at[i]), 1);
            check_u32(tif, TIFFTAG_IMAGELENGTH, 700u >> (i + 1));
        }
        check_no_complaint();
        TIFFClose(tif);
        free(pixels);
    }
}

static size_t occurrences(const sm_tmppath *file, const void *what, size_t n)
{
    size_t len = 0, count = 0;
    uint8_t *bytes = sm_file_read(file->path, &len);
    for (const uint8_t *at = bytes; (at = memmem(at, len - (size_t)(at - bytes), what, n)) != NULL;
         at++)
        count++;
    free(bytes);
    return count;
}

static void a_shared_value_is_in_the_file_once(void **state)
{
    (void)state;
    static const size_t LENS[] = {1, 8, 9, 100, 100001};
    for (size_t k = 0; k < SM_COUNT(LENS); k++) {
        uint8_t *icc = sm_bytes_make(LENS[k], 77);
        sm_bigtiff *t = tiff_new();
        for (uint32_t i = 0; i < 3; i++) {
            add_dir(t, 16, 16);
            if (i == 0)
                MUST(sm_bigtiff_set_undefined(t, 0, TIFFTAG_ICCPROFILE, icc, LENS[k], E));
            else
                MUST(sm_bigtiff_share(t, i, TIFFTAG_ICCPROFILE, 0, E));
        }
        const sm_tmppath file = write_file(t, NULL, 0);
        sm_bigtiff_free(&t);
        if (LENS[k] > 8)
            assert_int_equal(occurrences(&file, icc, LENS[k]), 1);
        TIFF *tif = open_file(&file);
        for (uint16_t i = 0; i < 3; i++) {
            uint32_t n = 0;
            const void *got = NULL;
            assert_int_equal(TIFFSetDirectory(tif, i), 1);
            assert_int_equal(TIFFGetField(tif, TIFFTAG_ICCPROFILE, &n, &got), 1);
            assert_int_equal(n, LENS[k]);
            assert_memory_equal(got, icc, n);
        }
        check_no_complaint();
        TIFFClose(tif);
        free(icc);
    }
}

static void a_shared_short_keeps_its_count(void **state)
{
    (void)state;
    static const uint16_t BITS[6] = {8, 8, 8, 8, 8, 8};
    for (uint16_t n = 1; n <= 6; n += 1) { /* up to 4 stand inline */
        sm_bigtiff *t = tiff_new();
        add_dir(t, 16, 16);
        add_dir(t, 16, 16);
        MUST(sm_bigtiff_set_short(t, 0, TIFFTAG_SAMPLEFORMAT, BITS, n, E));
        MUST(sm_bigtiff_share(t, 1, TIFFTAG_SAMPLEFORMAT, 0, E));
        sm_buf head = {0};
        MUST(sm_bigtiff_render(t, &head, E));
        /* tag 339, type SHORT, count n: both entries alike */
        const uint8_t entry[] = {0x53, 1, 3, 0, (uint8_t)n, 0, 0, 0, 0, 0, 0, 0};
        const uint8_t *first = memmem(head.data, head.len, entry, sizeof entry);
        assert_non_null(first);
        const size_t left = head.len - (size_t)(first + 12 - head.data);
        const uint8_t *second = memmem(first + 12, left, entry, sizeof entry);
        assert_non_null(second);
        assert_memory_equal(first, second, 20);
        sm_buf_free(&head);
        sm_bigtiff_free(&t);
    }
}

static uint64_t le(const uint8_t *at, unsigned bytes)
{
    uint64_t v = 0;
    for (unsigned i = bytes; i-- > 0;)
        v = v << 8 | at[i];
    return v;
}

/* The two numbers of a rational, straight from the bytes: libtiff has it as float only. */
static double rational_back(double value)
{
    sm_bigtiff *t = tiff_new();
    uint32_t d = 0;
    sm_buf head = {0};
    MUST(sm_bigtiff_add_dir(t, &d, E));
    MUST(sm_bigtiff_set_rational(t, d, TIFFTAG_XRESOLUTION, value, E));
    MUST(sm_bigtiff_render(t, &head, E));
    const uint8_t *entry = head.data + 16 + 8;
    assert_int_equal(le(entry, 2), TIFFTAG_XRESOLUTION);
    assert_int_equal(le(entry + 2, 2), TIFF_RATIONAL);
    assert_int_equal(le(entry + 4, 8), 1);
    const double got = (double)le(entry + 12, 4) / (double)le(entry + 16, 4);
    sm_buf_free(&head);
    sm_bigtiff_free(&t);
    return got;
}

static void rationals_are_exact_to_a_billionth(void **state)
{
    (void)state;
    static const double VALUES[] = {1,        0.1,     0.25,        1.0 / 3, 3.141592653589793,
                                    20040.08, 40000,   1e4 / 0.499, 1e6,     123456.789012345,
                                    4.29496,  3.99e9,  1e-3,        4.6e-8,  2.7182818e-5,
                                    4.3,      4.2,     42.949673,   1e4 / 3, 65535.999,
                                    99999.9,  1.2345e9};
    sm_random r = {41};
    for (size_t i = 0; i < SM_COUNT(VALUES) + 20000; i++) {
        /* from 4e-8, a level of one pixel at 100 um, up */
        const double value =
            i < SM_COUNT(VALUES) ? VALUES[i] : 4e-8 * pow(1e17, sm_random_u32(&r) / 4294967296.0);
        if (value >= 4e9)
            continue;
        const double got = rational_back(value);
        if (!(fabs(got - value) <= 1e-9 * value))
            fail_msg("%.17g became %.17g", value, got);
    }
}

static void impossible_values_are_our_bug(void **state)
{
    (void)state;
    static const double NONE[] = {0, -1, 4e9, HUGE_VAL, -HUGE_VAL, (double)NAN};
    sm_error err = SM_ERROR_INIT;
    sm_bigtiff *t = tiff_new();
    const uint32_t d = add_dir(t, 16, 16);
    for (size_t i = 0; i < SM_COUNT(NONE); i++)
        SM_CHECK_FAILS(sm_bigtiff_set_rational(t, d, 282, NONE[i], &err), &err, SM_ERR_INTERNAL,
                       "RATIONAL");
    SM_CHECK_FAILS(sm_bigtiff_set_long(t, d, TIFFTAG_IMAGEWIDTH, 2, &err), &err, SM_ERR_INTERNAL,
                   "set twice");
    SM_CHECK_FAILS(sm_bigtiff_share(t, d, TIFFTAG_IMAGEWIDTH, d, &err), &err, SM_ERR_INTERNAL,
                   "no earlier value");
    const uint32_t d1 = add_dir(t, 16, 16);
    SM_CHECK_FAILS(sm_bigtiff_share(t, d1, TIFFTAG_ICCPROFILE, 0, &err), &err, SM_ERR_INTERNAL,
                   "no earlier value");
    SM_CHECK_FAILS(sm_bigtiff_replace_ascii(t, d, TIFFTAG_SOFTWARE, "x", &err), &err,
                   SM_ERR_INTERNAL, "305");
    sm_status st = SM_OK;
    for (uint16_t tag = 40000; st == SM_OK && tag < 41000; tag++)
        st = sm_bigtiff_set_long(t, d, tag, 1, &err);
    assert_int_equal(st, SM_ERR_INTERNAL);
    sm_bigtiff_free(&t);
}

static void text_is_replaced_only_at_the_same_length(void **state)
{
    (void)state;
    sm_error err = SM_ERROR_INIT;
    sm_bigtiff *t = tiff_new();
    const uint32_t d = add_dir(t, 16, 16);
    MUST(sm_bigtiff_set_ascii(t, d, TIFFTAG_IMAGEDESCRIPTION, "digest=0000 of it", E));
    const uint64_t before = sm_bigtiff_head_bytes(t);
    MUST(sm_bigtiff_replace_ascii(t, d, TIFFTAG_IMAGEDESCRIPTION, "digest=12ab of it", E));
    SM_CHECK_FAILS(sm_bigtiff_replace_ascii(t, d, TIFFTAG_IMAGEDESCRIPTION, "digest=12ab", &err),
                   &err, SM_ERR_INTERNAL, "length");
    assert_int_equal(sm_bigtiff_head_bytes(t), before);
    TIFF *tif = reopen(&t, NULL, 0);
    char *text = NULL;
    assert_int_equal(TIFFGetField(tif, TIFFTAG_IMAGEDESCRIPTION, &text), 1);
    assert_string_equal(text, "digest=12ab of it");
    check_no_complaint();
    TIFFClose(tif);
}

static void the_head_does_not_grow_when_tiles_are_placed(void **state)
{
    (void)state;
    sm_bigtiff *t = tiff_new();
    const uint32_t d = add_dir(t, 160, 160);
    const uint64_t before = sm_bigtiff_head_bytes(t);
    sm_buf a = {0}, b = {0};
    MUST(sm_bigtiff_render(t, &a, E));
    for (uint64_t i = 0; i < 100; i++)
        sm_bigtiff_place(t, d, i, UINT64_C(0x123456789A) + i, UINT32_MAX);
    assert_int_equal(sm_bigtiff_head_bytes(t), before);
    MUST(sm_bigtiff_render(t, &b, E));
    assert_int_equal(a.len, b.len);
    assert_true(memmem(b.data, b.len, "\x9A\x78\x56\x34\x12\0\0\0", 8) != NULL);
    assert_true(memmem(b.data, b.len, "\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF", 8) != NULL);
    sm_buf_free(&a);
    sm_buf_free(&b);
    sm_bigtiff_free(&t);
}

/* Directories start on 8-byte bounds, their tags ascend, and no two values overlap (but shared
 * ones): what strict readers ask for. */
static void directories_are_well_formed(void **state)
{
    (void)state;
    sm_bigtiff *t = tiff_new();
    for (uint32_t i = 0; i < 5; i++) {
        add_dir(t, 999 >> i, 500);
        MUST(sm_bigtiff_set_ascii(t, i, TIFFTAG_SOFTWARE, "odd lengths", E));
    }
    MUST(sm_bigtiff_set_subdirs(t, 0, 1, 4, E));
    sm_buf head = {0};
    MUST(sm_bigtiff_render(t, &head, E));
    assert_memory_equal(head.data, "II\x2B\0\x08\0\0\0", 8);
    uint8_t *used = calloc(head.len, 1);
    assert_non_null(used);
    unsigned n_dirs = 0;
    for (uint64_t at = le(head.data + 8, 8); at != 0; n_dirs++) {
        assert_int_equal(at % 8, 0);
        const uint64_t n = le(head.data + at, 8);
        uint64_t last_tag = 0;
        for (uint64_t i = 0; i < n; i++) {
            static const unsigned SIZE[] = {0, 1, 1, 2, 4, 8, 1, 1, 2, 4,
                                            8, 4, 8, 4, 0, 0, 8, 8, 8};
            const uint8_t *e = head.data + at + 8 + 20 * i;
            const uint64_t tag = le(e, 2), bytes = SIZE[le(e + 2, 2)] * le(e + 4, 8);
            assert_true(tag > last_tag && bytes > 0);
            last_tag = tag;
            for (uint64_t b = 0, where = le(e + 12, 8); bytes > 8 && b < bytes; b++) {
                assert_int_equal(where % 8, 0);
                assert_true(where + b < head.len);
                assert_int_equal(used[where + b]++, 0);
            }
        }
        for (uint64_t b = 0; b < 8 + 20 * n + 8; b++)
            assert_int_equal(used[at + b]++, 0);
        at = le(head.data + at + 8 + 20 * n, 8);
    }
    assert_int_equal(n_dirs, 5);
    free(used);
    sm_buf_free(&head);
    sm_bigtiff_free(&t);
}

static sm_status build(sm_error *err)
{
    sm_bigtiff *t = NULL;
    uint32_t d = 0, d1 = 0;
    sm_buf head = {0};
    sm_status st = sm_bigtiff_new(&t, err);
    if (st == SM_OK)
        st = sm_bigtiff_add_dir(t, &d, err);
    if (st == SM_OK)
        st = sm_bigtiff_set_ascii(t, d, 305, "123456789", err);
    if (st == SM_OK)
        st = sm_bigtiff_reserve(t, d, 10, false, err);
    if (st == SM_OK)
        st = sm_bigtiff_add_dir(t, &d1, err);
    if (st == SM_OK)
        st = sm_bigtiff_share(t, d1, 305, d, err);
    if (st == SM_OK)
        st = sm_bigtiff_render(t, &head, err);
    sm_buf_free(&head);
    sm_bigtiff_free(&t);
    return st;
}

static void every_failed_allocation_is_reported(void **state)
{
    (void)state;
    long n = 0;
    for (sm_status st = SM_ERR_NOMEM; st != SM_OK; n++) {
        sm_error err = SM_ERROR_INIT;
        sm_alloc_fail_after(n);
        st = build(&err);
        sm_alloc_fail_after(-1);
        if (st != SM_OK)
            assert_int_equal(st, SM_ERR_NOMEM);
    }
    assert_true(n > 6);
}

static int set_up(void **state)
{
    (void)state;
    folder = sm_tmpdir_make();
    TIFFSetWarningHandler(complain);
    TIFFSetErrorHandler(complain);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    sm_tmpdir_remove(&folder);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_tag_comes_back),
        cmocka_unit_test(tiles_are_where_they_were_placed),
        cmocka_unit_test(strips_have_their_own_tags),
        cmocka_unit_test(subdirectories_are_the_directories_of_the_chain),
        cmocka_unit_test(a_shared_value_is_in_the_file_once),
        cmocka_unit_test(a_shared_short_keeps_its_count),
        cmocka_unit_test(rationals_are_exact_to_a_billionth),
        cmocka_unit_test(impossible_values_are_our_bug),
        cmocka_unit_test(text_is_replaced_only_at_the_same_length),
        cmocka_unit_test(the_head_does_not_grow_when_tiles_are_placed),
        cmocka_unit_test(directories_are_well_formed),
        cmocka_unit_test(every_failed_allocation_is_reported),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
