/* Tests of the native readers (tiler/slide.c, slide_tiff.c, slide_aperio.c, slide_ome.c,
 * slide_generic.c) on TIFFs that libtiff writes here. */
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
#include "tests/support/tmpdir.h"
#include "tiler/slide_internal.h"

/* One directory to write. Zeros mean: RGB, 8 bits, no compression, chunky, tiles of 16x16. */
typedef struct dir_spec {
    uint32_t w, h;
    uint32_t strip_rows; /* strips instead of tiles */
    uint16_t bits, samples, photometric, compression, planar, predictor, format, extra;
    uint32_t subfile;
    uint16_t n_subifds; /* the next so many directories are its SubIFDs */
    const char *description, *software;
    const char *icc;
    double res;
    uint16_t unit;
    bool sparse, garbled; /* only the last tile is written; the first is not a JPEG */
} dir_spec;

static sm_tmpdir folder;

static uint16_t or_u16(uint16_t value, uint16_t otherwise)
{
    return value != 0 ? value : otherwise;
}

static void set_tags(TIFF *tif, const dir_spec *d)
{
    const uint16_t photometric = or_u16(d->photometric, PHOTOMETRIC_RGB);
    const uint16_t samples = or_u16(d->samples, photometric == PHOTOMETRIC_RGB ? 3 : 1);
    TIFFSetField(tif, TIFFTAG_SUBFILETYPE, d->subfile);
    TIFFSetField(tif, TIFFTAG_IMAGEWIDTH, d->w);
    TIFFSetField(tif, TIFFTAG_IMAGELENGTH, d->h);
    TIFFSetField(tif, TIFFTAG_BITSPERSAMPLE, or_u16(d->bits, 8));
    TIFFSetField(tif, TIFFTAG_SAMPLESPERPIXEL, samples);
    TIFFSetField(tif, TIFFTAG_SAMPLEFORMAT, or_u16(d->format, SAMPLEFORMAT_UINT));
    TIFFSetField(tif, TIFFTAG_COMPRESSION, or_u16(d->compression, COMPRESSION_NONE));
    TIFFSetField(tif, TIFFTAG_PHOTOMETRIC, photometric == 99 ? 0 : photometric);
    TIFFSetField(tif, TIFFTAG_PLANARCONFIG, or_u16(d->planar, PLANARCONFIG_CONTIG));
    if (samples == 4 && photometric == PHOTOMETRIC_RGB)
        TIFFSetField(tif, TIFFTAG_EXTRASAMPLES, 1, &d->extra);
    if (d->predictor != 0)
        TIFFSetField(tif, TIFFTAG_PREDICTOR, d->predictor);
    if (d->strip_rows != 0) {
        TIFFSetField(tif, TIFFTAG_ROWSPERSTRIP, d->strip_rows);
    } else {
        TIFFSetField(tif, TIFFTAG_TILEWIDTH, 16);
        TIFFSetField(tif, TIFFTAG_TILELENGTH, 16);
    }
    if (d->description != NULL)
        TIFFSetField(tif, TIFFTAG_IMAGEDESCRIPTION, d->description);
    if (d->software != NULL)
        TIFFSetField(tif, TIFFTAG_SOFTWARE, d->software);
    if (d->icc != NULL)
        TIFFSetField(tif, TIFFTAG_ICCPROFILE, (uint32_t)strlen(d->icc), d->icc);
    if (d->res > 0) {
        TIFFSetField(tif, TIFFTAG_XRESOLUTION, d->res);
        TIFFSetField(tif, TIFFTAG_YRESOLUTION, d->res);
        TIFFSetField(tif, TIFFTAG_RESOLUTIONUNIT, d->unit);
    }
    if (d->n_subifds > 0) {
        static const uint64_t none[16];
        TIFFSetField(tif, TIFFTAG_SUBIFD, d->n_subifds, none);
    }
    if (photometric == PHOTOMETRIC_PALETTE) {
        static uint16_t map[256];
        TIFFSetField(tif, TIFFTAG_COLORMAP, map, map, map);
    }
}

/* Tile or strip i holds bytes of value i + 1. */
static void write_data(TIFF *tif, const dir_spec *d)
{
    const bool tiled = TIFFIsTiled(tif);
    const uint32_t n = tiled ? TIFFNumberOfTiles(tif) : TIFFNumberOfStrips(tif);
    const tmsize_t size = tiled ? TIFFTileSize(tif) : TIFFStripSize(tif);
    uint8_t *bytes = malloc((size_t)size);
    assert_non_null(bytes);
    for (uint32_t i = 0; i < n; i++) {
        tmsize_t len = size;
        if (d->sparse && i + 1 < n)
            continue;
        memset(bytes, (int)(i + 1), (size_t)size);
        if (!tiled && i + 1 == n && d->planar != 2)
            len = TIFFVStripSize(tif, d->h - i * d->strip_rows);
        if (d->garbled && i == 0)
            assert_int_equal(TIFFWriteRawTile(tif, i, bytes, 40), 40);
        else
            assert_true((tiled ? TIFFWriteEncodedTile(tif, i, bytes, len)
                               : TIFFWriteEncodedStrip(tif, i, bytes, len)) > 0);
    }
    free(bytes);
}

static sm_tmppath write_tiff(const dir_spec *dirs, size_t n)
{
    const sm_tmppath path = sm_tmpdir_file(&folder, "slide.tif");
    TIFF *tif = TIFFOpen(path.path, "w");
    assert_non_null(tif);
    for (size_t i = 0; i < n; i++) {
        set_tags(tif, &dirs[i]);
        write_data(tif, &dirs[i]);
        assert_int_equal(TIFFWriteDirectory(tif), 1);
    }
    TIFFClose(tif);
    return path;
}

typedef struct opened {
    sm_source *source;
    sm_slide *slide;
    const sm_slide_info *info;
} opened;

static sm_status open_path(const char *path, opened *o, sm_error *err)
{
    *o = (opened){0};
    SM_CHECK_OK(sm_source_open(path, &o->source, err), err);
    const sm_status st = sm_slide_open(o->source, &o->slide, err);
    if (st == SM_OK)
        o->info = sm_slide_get_info(o->slide);
    else
        sm_source_close(&o->source);
    return st;
}

static void shut(opened *o)
{
    sm_slide_close(&o->slide);
    sm_source_close(&o->source);
}

static opened open_dirs(const dir_spec *dirs, size_t n)
{
    sm_error err = SM_ERROR_INIT;
    opened o;
    const sm_tmppath path = write_tiff(dirs, n);
    SM_CHECK_OK(open_path(path.path, &o, &err), &err);
    return o;
}

static void refuse_dirs(const dir_spec *dirs, size_t n, sm_status want, const char *text)
{
    sm_error err = SM_ERROR_INIT;
    opened o;
    const sm_tmppath path = write_tiff(dirs, n);
    SM_CHECK_FAILS(open_path(path.path, &o, &err), &err, want, text);
    assert_int_equal(strncmp(err.message, path.path, strlen(path.path)), 0);
}

static void check_number(double got, double want)
{
    if (fabs(got - want) > 1e-5 * fabs(want))
        fail_msg("%.9g instead of %.9g", got, want);
}

/* ---- generic ---- */

static void generic_levels_are_reduced_images_of_the_same_shape(void **state)
{
    (void)state;
    const dir_spec dirs[] = {
        {.w = 101, .h = 80},
        {.w = 25, .h = 20, .subfile = 1}, /* out of order */
        {.w = 50, .h = 40, .subfile = 1},
        {.w = 60, .h = 48},                                 /* another page */
        {.w = 40, .h = 10, .subfile = 1},                   /* another shape */
        {.w = 12, .h = 10, .subfile = 5},                   /* a mask */
        {.w = 12, .h = 10, .subfile = 1, .strip_rows = 10}, /* a thumbnail */
        {.w = 50, .h = 40, .subfile = 1},                   /* no smaller than the one before */
    };
    opened o = open_dirs(dirs, SM_COUNT(dirs));
    assert_string_equal(o.info->reader, "generic-tiff");
    assert_int_equal(o.info->n_levels, 3);
    static const uint32_t want_dir[] = {0, 2, 1}, want_w[] = {101, 50, 25};
    static const double want_down[] = {1, 2.01, 4.02};
    for (uint32_t i = 0; i < 3; i++) {
        const sm_level *level = sm_slide_level(o.slide, i);
        assert_int_equal(level->dir, want_dir[i]);
        assert_int_equal(level->w_px, want_w[i]);
        check_number(level->downsample, want_down[i]);
        assert_int_equal(level->n_missing, 0);
        assert_int_equal(level->codec, SM_CODEC_NONE);
    }
    const sm_level *base = sm_slide_level(o.slide, 0);
    assert_int_equal(base->cols, 7);
    assert_int_equal(base->rows, 5);
    assert_true(base->tiled);
    assert_int_equal(base->lens[34], 16 * 16 * 3);
    assert_null(sm_slide_level(o.slide, 3));
    shut(&o);
}

static void generic_levels_may_stand_in_subifds(void **state)
{
    (void)state;
    const dir_spec dirs[] = {{.w = 64, .h = 64, .n_subifds = 2},
                             {.w = 32, .h = 32, .subfile = 1},
                             {.w = 16, .h = 16, .subfile = 1}};
    opened o = open_dirs(dirs, SM_COUNT(dirs));
    assert_int_equal(o.info->n_levels, 3);
    assert_int_equal(sm_slide_level(o.slide, 2)->w_px, 16);
    assert_int_equal(sm_slide_level(o.slide, 1)->dir, UINT32_MAX);
    shut(&o);
}

static void resolution_becomes_mpp_when_it_is_believable(void **state)
{
    (void)state;
    static const struct {
        double res;
        uint16_t unit;
        double mpp;
    } cases[] = {
        {20000, 3, 0.5}, {50800, 2, 0.5}, {40000, 1, 0}, {96, 2, 0}, {2e6, 3, 0}, {0, 0, 0},
    };
    for (size_t i = 0; i < SM_COUNT(cases); i++) {
        opened o =
            open_dirs(&(dir_spec){.w = 16, .h = 16, .res = cases[i].res, .unit = cases[i].unit}, 1);
        check_number(o.info->mpp_x, cases[i].mpp);
        check_number(o.info->mpp_y, cases[i].mpp);
        shut(&o);
    }
}

static void native_formats_are_told_from_their_tags(void **state)
{
    (void)state;
    static const struct {
        dir_spec dir;
        sm_codec codec;
        uint16_t samples, predictor;
        bool planar, premultiplied;
    } cases[] = {
        {{.compression = COMPRESSION_NONE}, SM_CODEC_NONE, 3, 1, false, false},
        {{.compression = COMPRESSION_LZW, .predictor = 2}, SM_CODEC_LZW, 3, 2, false, false},
        {{.compression = COMPRESSION_ADOBE_DEFLATE}, SM_CODEC_DEFLATE, 3, 1, false, false},
        {{.compression = COMPRESSION_DEFLATE, .predictor = 2},
         SM_CODEC_DEFLATE,
         3,
         2,
         false,
         false},
        {{.compression = COMPRESSION_ZSTD, .predictor = 2}, SM_CODEC_ZSTD, 3, 2, false, false},
        {{.compression = COMPRESSION_JPEG}, SM_CODEC_JPEG, 3, 1, false, false},
        {{.photometric = PHOTOMETRIC_MINISBLACK}, SM_CODEC_NONE, 1, 1, false, false},
        {{.planar = 2}, SM_CODEC_NONE, 3, 1, true, false},
        {{.samples = 4, .extra = 1}, SM_CODEC_NONE, 4, 1, false, true},
        {{.samples = 4, .extra = 2}, SM_CODEC_NONE, 4, 1, false, false},
    };
    for (size_t i = 0; i < SM_COUNT(cases); i++) {
        dir_spec dir = cases[i].dir;
        dir.w = 40;
        dir.h = 20;
        opened o = open_dirs(&dir, 1);
        const sm_level *level = sm_slide_level(o.slide, 0);
        if (level->codec != cases[i].codec || level->samples != cases[i].samples ||
            level->predictor != cases[i].predictor || level->planar != cases[i].planar ||
            level->premultiplied != cases[i].premultiplied || level->n_missing != 0)
            fail_msg("case %zu: %s, %u samples, predictor %u", i, sm_codec_name(level->codec),
                     (unsigned)level->samples, (unsigned)level->predictor);
        shut(&o);
    }
}

static void other_formats_are_refused_with_their_reason(void **state)
{
    (void)state;
    static const struct {
        dir_spec dir;
        const char *text;
    } cases[] = {
        {{.bits = 16}, "not a slide slidemill reads (samples of 16 bits"},
        {{.photometric = PHOTOMETRIC_PALETTE}, "photometric interpretation 3"},
        {{.photometric = 99, .samples = 1}, "photometric interpretation 0"},
        {{.photometric = PHOTOMETRIC_SEPARATED, .samples = 4}, "photometric interpretation 5"},
        {{.bits = 32, .format = SAMPLEFORMAT_IEEEFP}, "sample format 3"},
        {{.compression = COMPRESSION_PACKBITS}, "compression 32773 (packbits)"},
        {{.compression = COMPRESSION_JPEG, .planar = 2}, "JPEG with separate planes"},
        {{.software = "Philips DP v1.0"}, "Philips TIFF"},
        {{.description = "x leica-microsystems.com/scn/2010 x"}, "Leica SCN"},
    };
    for (size_t i = 0; i < SM_COUNT(cases); i++) {
        dir_spec dir = cases[i].dir;
        dir.w = dir.h = dir.strip_rows = 16; /* OpenSlide wants tiles */
        refuse_dirs(&dir, 1, SM_ERR_FORMAT, cases[i].text);
    }
}

static void jpeg_levels_tell_what_the_codestream_holds(void **state)
{
    (void)state;
    opened o = open_dirs(&(dir_spec){.w = 40, .h = 20, .compression = COMPRESSION_JPEG}, 1);
    const sm_level *level = sm_slide_level(o.slide, 0);
    assert_int_equal(level->jpeg.colour, SM_COLOUR_RGB);
    assert_int_equal(level->jpeg.h_samp, 1);
    assert_int_equal(level->jpeg.quality, 75);
    assert_true(level->jpeg.plain && level->jpeg_tables != NULL);
    shut(&o);
}

static void one_garbled_tile_does_not_hide_a_level(void **state)
{
    (void)state;
    dir_spec dir = {.w = 40, .h = 20, .compression = COMPRESSION_JPEG, .garbled = true};
    opened o = open_dirs(&dir, 1);
    assert_int_equal(sm_slide_level(o.slide, 0)->jpeg.quality, 75);
    shut(&o);
    dir.w = dir.h = 16; /* the only tile */
    refuse_dirs(&dir, 1, SM_ERR_CORRUPT, "level 0, column 0, row 0: tile at byte ");
}

static void tiles_without_bytes_are_counted(void **state)
{
    (void)state;
    for (uint16_t planar = 1; planar <= 2; planar++) {
        const dir_spec dir = {.w = 40, .h = 40, .sparse = true, .planar = planar};
        opened o = open_dirs(&dir, 1);
        const sm_level *level = sm_slide_level(o.slide, 0);
        assert_int_equal(level->n_missing, planar == 1 ? 8 : 9); /* one plane is not a tile */
        assert_int_equal(level->lens[0], 0);
        assert_int_equal(level->lens[planar == 1 ? 8 : 26], planar == 1 ? 768 : 256);
        shut(&o);
    }
}

static void icc_and_byte_order_are_reported(void **state)
{
    (void)state;
    const dir_spec dirs[] = {{.w = 64, .h = 64},
                             {.w = 32, .h = 32, .subfile = 1, .icc = "profile"}};
    opened o = open_dirs(dirs, 2);
    assert_int_equal(o.info->icc_len, 7);
    assert_memory_equal(o.info->icc, "profile", 7);
    assert_false(o.info->bigtiff);
    assert_int_equal(o.info->background[0], 255);
    shut(&o);
}

/* ---- extents ---- */

/* The file cut so that its tiles from the eighth on are gone, its directory in front of them. */
static void a_truncated_slide_is_told_with_level_tile_and_offset(void **state)
{
    (void)state;
    sm_error err = SM_ERROR_INIT;
    opened o;
    const sm_tmppath path = sm_tmpdir_file(&folder, "cut.tif");
    const dir_spec dir = {.w = 64, .h = 48};
    TIFF *tif = TIFFOpen(path.path, "w");
    assert_non_null(tif);
    set_tags(tif, &dir);
    assert_int_equal(TIFFDeferStrileArrayWriting(tif), 1);
    assert_int_equal(TIFFWriteCheck(tif, 1, "test"), 1);
    assert_int_equal(TIFFWriteDirectory(tif), 1);
    assert_int_equal(TIFFSetDirectory(tif, 0), 1);
    assert_int_equal(TIFFForceStrileArrayWriting(tif), 1); /* reserves the arrays */
    TIFFClose(tif);
    tif = TIFFOpen(path.path, "r+");
    assert_non_null(tif);
    write_data(tif, &dir);
    TIFFClose(tif);

    SM_CHECK_OK(open_path(path.path, &o, &err), &err);
    const uint64_t at = sm_slide_level(o.slide, 0)->offsets[7], cut = at + 10;
    shut(&o);
    assert_int_equal(truncate(path.path, (off_t)cut), 0);
    char want[256];
    snprintf(want, sizeof want,
             "level 0, column 3, row 1: tile at byte %llu, 768 bytes long, lies beyond the end of "
             "the file (%llu): the file is truncated",
             (unsigned long long)at, (unsigned long long)cut);
    SM_CHECK_FAILS(open_path(path.path, &o, &err), &err, SM_ERR_CORRUPT, want);
    assert_int_equal(err.offset, at);
}

static void a_tile_far_larger_than_its_pixels_is_a_limit(void **state)
{
    (void)state;
    sm_error err = SM_ERROR_INIT;
    opened o;
    static uint8_t big[1200000];
    const sm_tmppath path = sm_tmpdir_file(&folder, "big.tif");
    for (int raw = 0; raw < 2; raw++) {
        const dir_spec dir = {
            .w = 16, .h = 16, .compression = raw ? COMPRESSION_NONE : COMPRESSION_ADOBE_DEFLATE};
        TIFF *tif = TIFFOpen(path.path, "w");
        assert_non_null(tif);
        set_tags(tif, &dir);
        assert_true(TIFFWriteRawTile(tif, 0, big, sizeof big) > 0);
        TIFFClose(tif);
        if (raw) { /* what stands behind the pixels is padding */
            SM_CHECK_OK(open_path(path.path, &o, &err), &err);
            assert_int_equal(sm_slide_level(o.slide, 0)->lens[0], 768);
            shut(&o);
        } else {
            SM_CHECK_FAILS(open_path(path.path, &o, &err), &err, SM_ERR_LIMIT,
                           "1200000 bytes long, for 16x16 pixels");
        }
    }
}

/* Every pixel's byte, found through the level's extents, is that of its strip in the file. */
static void check_strips(const sm_slide *slide, const dir_spec *d)
{
    sm_error err = SM_ERROR_INIT;
    const sm_level *level = sm_slide_level(slide, 0);
    const size_t row_bytes = (size_t)d->w * 3;
    uint8_t *row = malloc(row_bytes);
    assert_non_null(row);
    assert_true(level->tile_h_px * row_bytes <= 4u << 20);
    assert_int_equal(level->rows, (d->h + level->tile_h_px - 1) / level->tile_h_px);
    for (uint32_t y = 0; y < d->h; y++) {
        const uint32_t strip = y / level->tile_h_px, in = y % level->tile_h_px;
        assert_true((in + 1) * row_bytes <= level->lens[strip]);
        SM_CHECK_OK(sm_source_pread(sm_slide_source(slide), row, row_bytes,
                                    level->offsets[strip] + in * row_bytes, &err),
                    &err);
        assert_int_equal(row[0], y / d->strip_rows + 1);
        assert_int_equal(row[row_bytes - 1], y / d->strip_rows + 1);
    }
    free(row);
}

static void huge_uncompressed_strips_are_cut(void **state)
{
    (void)state;
    sm_error err = SM_ERROR_INIT;
    const dir_spec one = {.w = 2000, .h = 3001, .strip_rows = 3001};
    const dir_spec some = {.w = 2000, .h = 3001, .strip_rows = 1000};
    opened o = open_dirs(&one, 1);
    check_strips(o.slide, &one);
    shut(&o);
    o = open_dirs(&some, 1);
    check_strips(o.slide, &some);
    shut(&o);
    /* strips that do not follow each other are cut at their ends too */
    const sm_tmppath path = sm_tmpdir_file(&folder, "reversed.tif");
    TIFF *tif = TIFFOpen(path.path, "w");
    assert_non_null(tif);
    set_tags(tif, &some);
    uint8_t *bytes = malloc(6000000);
    assert_non_null(bytes);
    for (uint32_t i = 4; i-- > 0;) {
        const tmsize_t len = i == 3 ? 6000 : 6000000;
        memset(bytes, (int)i + 1, 6000000);
        assert_int_equal(TIFFWriteRawStrip(tif, i, bytes, len), len);
    }
    TIFFClose(tif);
    SM_CHECK_OK(open_path(path.path, &o, &err), &err);
    assert_int_equal(1000 % sm_slide_level(o.slide, 0)->tile_h_px, 0);
    check_strips(o.slide, &some);
    shut(&o);
    /* a strip too short for its rows */
    tif = TIFFOpen(path.path, "w");
    assert_non_null(tif);
    set_tags(tif, &some);
    for (uint32_t i = 0; i < 4; i++)
        assert_int_equal(TIFFWriteRawStrip(tif, i, bytes, i == 1 ? 5999999 : 6000000) > 0, 1);
    TIFFClose(tif);
    free(bytes);
    SM_CHECK_FAILS(open_path(path.path, &o, &err), &err, SM_ERR_CORRUPT,
                   "row 1: uncompressed strip of 5999999 bytes for 6000000 bytes of pixels");
}

/* ---- Aperio ---- */

#define APERIO "Aperio Image Library v12\r\n64x64 (16x16) JPEG/RGB Q=70"

static void aperio_levels_are_the_tiled_directories(void **state)
{
    (void)state;
    const dir_spec dirs[] = {
        {.w = 64, .h = 48, .description = APERIO "|AppMag = 40|MPP = 0,2521|Filename = x"},
        {.w = 20, .h = 15, .strip_rows = 15, .description = APERIO},
        {.w = 16, .h = 12, .description = APERIO},
        {.w = 64, .h = 48, .description = APERIO}, /* another focal plane */
        {.w = 10, .h = 11, .strip_rows = 11, .description = "Aperio x\r\nlabel 10x11"},
        {.w = 30, .h = 11, .strip_rows = 11, .description = "Aperio x\nmacro 30x11", .subfile = 1},
    };
    opened o = open_dirs(dirs, SM_COUNT(dirs));
    assert_string_equal(o.info->reader, "aperio");
    assert_string_equal(o.info->vendor, "aperio");
    assert_int_equal(o.info->n_levels, 2);
    assert_int_equal(sm_slide_level(o.slide, 1)->dir, 2);
    check_number(o.info->mpp_x, 0.2521);
    check_number(o.info->objective, 40);
    assert_int_equal(o.info->n_associated, 3);
    static const char *const names[] = {"thumbnail", "label", "macro"};
    for (uint32_t i = 0; i < 3; i++)
        assert_string_equal(o.info->associated[i].name, names[i]);
    assert_int_equal(o.info->associated[1].h_px, 11);
    sm_error err = SM_ERROR_INIT;
    uint8_t rgb[10 * 11 * 3];
    SM_CHECK_OK(sm_slide_associated(o.slide, 1, rgb, &err), &err);
    assert_int_equal(rgb[0], 1);
    SM_CHECK_FAILS(sm_slide_associated(o.slide, 3, rgb, &err), &err, SM_ERR_ARG, "image 3");
    SM_CHECK_FAILS(sm_slide_render(o.slide, 0, (sm_rect){0, 0, 1, 1}, rgb, 3, &err), &err,
                   SM_ERR_ARG, "not a rendered one");
    shut(&o);
}

static void aperio_label_and_macro_without_a_description_are_told_by_subfile_type(void **state)
{
    (void)state;
    const dir_spec dirs[] = {
        {.w = 64, .h = 48, .description = APERIO},
        {.w = 10, .h = 11, .strip_rows = 11, .subfile = 1},
        {.w = 30, .h = 11, .strip_rows = 11, .subfile = 9},
    };
    opened o = open_dirs(dirs, SM_COUNT(dirs));
    assert_int_equal(o.info->n_associated, 2);
    assert_string_equal(o.info->associated[0].name, "label");
    assert_string_equal(o.info->associated[1].name, "macro");
    check_number(o.info->mpp_x, 0);
    shut(&o);
}

/* ---- OME ---- */

#define OME_HEAD                                                                                   \
    "<?xml version=\"1.0\" encoding=\"UTF-8\"?><OME xmlns=\"http://www.openmicroscopy.org/\">"
#define OME_PIXELS(more) "<Pixels SizeX=\"64\" SizeY=\"48\" " more ">"
#define RGB_PLANE                                                                                  \
    "<Channel SamplesPerPixel=\"3\"/><TiffData IFD=\"0\" PlaneCount=\"1\"/></Pixels></Image>"

static void ome_levels_are_the_subifds(void **state)
{
    (void)state;
    const dir_spec dirs[] = {
        {.w = 64,
         .h = 48,
         .n_subifds = 2,
         .description = OME_HEAD
         "<Instrument><Objective ID=\"o:0\" NominalMagnification=\"10\"/>"
         "<Objective ID=\"o:1\" NominalMagnification=\"40.0\"/></Instrument>"
         "<Image Name=\"x\"><ObjectiveSettings ID=\"o:1\"/>" OME_PIXELS(
             "SizeZ=\"1\" SizeC=\"3\" SizeT=\"1\" PhysicalSizeX=\"250\" "
             "PhysicalSizeXUnit=\"nm\" PhysicalSizeY=\"2.5e-4\" PhysicalSizeYUnit=\"mm\"") RGB_PLANE
         "<Image Name=\"label image\">"
         "<Pixels SizeX=\"9\" SizeY=\"9\" SizeC=\"3\">"
         "<Channel SamplesPerPixel=\"3\"/><TiffData IFD=\"1\"/></Pixels></Image>"
         "</OME>"},
        {.w = 32, .h = 24, .subfile = 1},
        {.w = 16, .h = 12, .subfile = 1},
        {.w = 9, .h = 9, .strip_rows = 9},
    };
    opened o = open_dirs(dirs, SM_COUNT(dirs));
    assert_string_equal(o.info->reader, "ome-tiff");
    assert_int_equal(o.info->n_levels, 3);
    assert_int_equal(sm_slide_level(o.slide, 2)->w_px, 16);
    check_number(o.info->mpp_x, 0.25);
    check_number(o.info->mpp_y, 0.25);
    check_number(o.info->objective, 40);
    assert_int_equal(o.info->n_associated, 1);
    assert_string_equal(o.info->associated[0].name, "label");
    shut(&o);
}

static void ome_levels_of_the_chain_count_without_subifds(void **state)
{
    (void)state;
    const dir_spec dirs[] = {
        {.w = 64,
         .h = 48,
         .res = 20000,
         .unit = 3,
         .description = OME_HEAD "<Image>" OME_PIXELS("SizeC=\"3\"") RGB_PLANE "</OME>"},
        {.w = 32, .h = 24, .subfile = 1},
        {.w = 60, .h = 45},
    };
    opened o = open_dirs(dirs, SM_COUNT(dirs));
    assert_int_equal(o.info->n_levels, 2);
    check_number(o.info->mpp_x, 0.5); /* no PhysicalSize: the tags */
    shut(&o);
}

static void ome_image_with_a_pyramid_is_chosen(void **state)
{
    (void)state;
    const dir_spec dirs[] = {
        {.w = 9,
         .h = 9,
         .strip_rows = 9,
         .description = OME_HEAD
         "<Image Name=\"Macro\"><Pixels SizeX=\"9\" SizeY=\"9\" SizeC=\"3\">" RGB_PLANE
         "<Image><Pixels SizeX=\"64\" SizeY=\"48\" SizeC=\"3\">"
         "<Channel SamplesPerPixel=\"3\"/></Pixels></Image></OME>"}, /* no TiffData: IFD 1 */
        {.w = 64, .h = 48, .n_subifds = 1},
        {.w = 32, .h = 24, .subfile = 1},
    };
    opened o = open_dirs(dirs, SM_COUNT(dirs));
    assert_int_equal(o.info->n_levels, 2);
    assert_int_equal(sm_slide_level(o.slide, 0)->w_px, 64);
    assert_int_equal(sm_slide_level(o.slide, 0)->dir, 1);
    assert_string_equal(o.info->associated[0].name, "macro");
    shut(&o);
}

static void ome_units_are_understood(void **state)
{
    (void)state;
    static const struct {
        const char *unit;
        double um;
    } cases[] = {
        {"PhysicalSizeXUnit=\"\xC2\xB5m\"", 2}, {"PhysicalSizeXUnit=\"\xCE\xBCm\"", 2},
        {"PhysicalSizeXUnit=\"&#181;m\"", 2},   {"", 2},
        {"PhysicalSizeXUnit=\"pixel\"", 0},     {"PhysicalSizeXUnit=\"nm\"", 0}, /* 0.002 um */
        {"PhysicalSizeXUnit=\"m\"", 0},                                          /* 2 m */
    };
    for (size_t i = 0; i < SM_COUNT(cases); i++) {
        char text[512];
        snprintf(text, sizeof text,
                 OME_HEAD "<Image>" OME_PIXELS("SizeC=\"3\" PhysicalSizeX=\"2\" %s "
                                               "PhysicalSizeY=\"2\"") RGB_PLANE "</OME>",
                 cases[i].unit);
        opened o = open_dirs(&(dir_spec){.w = 64, .h = 48, .description = text}, 1);
        if (fabs(o.info->mpp_x - cases[i].um) > 1e-9)
            fail_msg("%s: %g um", cases[i].unit, o.info->mpp_x);
        shut(&o);
    }
}

static void ome_files_beyond_one_plane_or_wrong_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        sm_status status;
        const char *message;
    } cases[] = {
        {OME_HEAD "<Image>" OME_PIXELS("SizeZ=\"5\" SizeC=\"3\"") RGB_PLANE "</OME>", SM_ERR_FORMAT,
         "SizeZ 5, SizeC 3, SizeT 1"},
        {OME_HEAD "<Image>" OME_PIXELS("SizeC=\"3\"") "<Channel/></Pixels></Image></OME>",
         SM_ERR_FORMAT, "3, SizeT 1 and 1 samples a plane"},
        {OME_HEAD "</OME>", SM_ERR_FORMAT, "without an image"},
        {OME_HEAD "<Image><Pixels", SM_ERR_CORRUPT, "OME-XML, line 1: "},
        {"<!DOCTYPE OME [<!ENTITY a \"aaaa\">]><OME ><Image/></OME>", SM_ERR_CORRUPT,
         "document type"},
        {OME_HEAD "<Image><Pixels SizeX=\"63\" SizeY=\"48\" SizeC=\"3\">" RGB_PLANE "</OME>",
         SM_ERR_CORRUPT, "OME-XML says 63x48 pixels, the directory 64x48"},
        {OME_HEAD "<Image>" OME_PIXELS("SizeC=\"3\"") "<Channel SamplesPerPixel=\"3\"/><TiffData "
                                                      "IFD=\"7\"/></Pixels></Image></OME>",
         SM_ERR_CORRUPT, "names a directory the file does not have"},
    };
    for (size_t i = 0; i < SM_COUNT(cases); i++) {
        const dir_spec dir = {.w = 64, .h = 48, .strip_rows = 48, .description = cases[i].text};
        refuse_dirs(&dir, 1, cases[i].status, cases[i].message);
    }
}

/* ---- all ---- */

static void numbers_are_read_whatever_the_locale(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        double value;
    } cases[] = {
        {"0.4990|x", 0.499},
        {" 0,2521", 0.2521},
        {"20", 20},
        {"5e-1", 0.5},
        {"2.5E+2", 250},
        {".5", 0.5},
        {"1.2.3", 1.2},
        {"", 0},
        {"x", 0},
        {"-1", 0},
        {"e5", 0},
        {"1e999999999999", 0},
        {"1e-99999", 0},
        {".", 0},
        {"0.22817505226531533", 0.22817505226531533},
        {"123456789012345678901234567890", 1.2345678901234568e29},
    };
    for (size_t i = 0; i < SM_COUNT(cases); i++) {
        const double got = sm_slide_number(cases[i].text);
        if (fabs(got - cases[i].value) > 1e-15 * cases[i].value)
            fail_msg("'%s': %.17g", cases[i].text, got);
    }
}

static void memory_is_a_slide_too_but_never_openslides(void **state)
{
    (void)state;
    sm_error err = SM_ERROR_INIT;
    sm_slide *slide = NULL;
    sm_source *source = NULL;
    size_t len = 0;
    const sm_tmppath path = write_tiff(&(dir_spec){.w = 40, .h = 40}, 1);
    uint8_t *bytes = sm_file_read(path.path, &len);
    SM_CHECK_OK(sm_source_open_memory(bytes, len, "memory", &source, &err), &err);
    SM_CHECK_OK(sm_slide_open(source, &slide, &err), &err);
    assert_ptr_equal(sm_slide_source(slide), source);
    sm_slide_close(&slide);
    sm_slide_close(&slide);
    sm_source_close(&source);
    SM_CHECK_OK(sm_source_open_memory("MIRAX", 5, path.path, &source, &err), &err);
    SM_CHECK_FAILS(sm_slide_open(source, &slide, &err), &err, SM_ERR_FORMAT,
                   "neither a TIFF nor of a format OpenSlide knows");
    assert_null(slide);
    sm_source_close(&source);
    free(bytes);
}

static void running_out_of_memory_is_reported_and_leaks_nothing(void **state)
{
    (void)state;
    const dir_spec dirs[] = {
        {.w = 2000,
         .h = 1000,
         .strip_rows = 1000,
         .icc = "profile",
         .n_subifds = 1,
         .description = OME_HEAD
         "<Image><Pixels SizeX=\"2000\" SizeY=\"1000\" SizeC=\"3\">" RGB_PLANE "</OME>"},
        {.w = 1000, .h = 500, .subfile = 1, .compression = COMPRESSION_JPEG},
    };
    const sm_tmppath path = write_tiff(dirs, 2);
    sm_error err = SM_ERROR_INIT;
    sm_source *source = NULL;
    SM_CHECK_OK(sm_source_open(path.path, &source, &err), &err);
    sm_status st = SM_ERR_NOMEM;
    long n = 0;
    for (; n < 1000 && st == SM_ERR_NOMEM; n++) {
        sm_slide *slide = NULL;
        sm_alloc_fail_after(n);
        st = sm_slide_open(source, &slide, &err);
        sm_alloc_fail_after(-1);
        if ((st == SM_OK) != (slide != NULL))
            fail_msg("allocation %ld: %s", n, sm_status_name(st));
        sm_slide_close(&slide);
    }
    assert_int_equal(st, SM_OK);
    assert_true(n > 10);
    sm_source_close(&source);
}

static int set_up(void **state)
{
    (void)state;
    folder = sm_tmpdir_make();
    (void)TIFFSetWarningHandler(NULL);
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
        cmocka_unit_test(generic_levels_are_reduced_images_of_the_same_shape),
        cmocka_unit_test(generic_levels_may_stand_in_subifds),
        cmocka_unit_test(resolution_becomes_mpp_when_it_is_believable),
        cmocka_unit_test(native_formats_are_told_from_their_tags),
        cmocka_unit_test(other_formats_are_refused_with_their_reason),
        cmocka_unit_test(jpeg_levels_tell_what_the_codestream_holds),
        cmocka_unit_test(one_garbled_tile_does_not_hide_a_level),
        cmocka_unit_test(tiles_without_bytes_are_counted),
        cmocka_unit_test(icc_and_byte_order_are_reported),
        cmocka_unit_test(a_truncated_slide_is_told_with_level_tile_and_offset),
        cmocka_unit_test(a_tile_far_larger_than_its_pixels_is_a_limit),
        cmocka_unit_test(huge_uncompressed_strips_are_cut),
        cmocka_unit_test(aperio_levels_are_the_tiled_directories),
        cmocka_unit_test(aperio_label_and_macro_without_a_description_are_told_by_subfile_type),
        cmocka_unit_test(ome_levels_are_the_subifds),
        cmocka_unit_test(ome_levels_of_the_chain_count_without_subifds),
        cmocka_unit_test(ome_image_with_a_pyramid_is_chosen),
        cmocka_unit_test(ome_units_are_understood),
        cmocka_unit_test(ome_files_beyond_one_plane_or_wrong_are_refused),
        cmocka_unit_test(numbers_are_read_whatever_the_locale),
        cmocka_unit_test(memory_is_a_slide_too_but_never_openslides),
        cmocka_unit_test(running_out_of_memory_is_reported_and_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
