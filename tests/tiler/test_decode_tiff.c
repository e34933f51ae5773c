/* Tests of tiler/decode.c with the codecs none, LZW, deflate and zstd, on TIFFs that libtiff wrote.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <malloc.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <tiffio.h>
#include <zstd.h>

#include "tests/support/check.h"
#include "tests/support/random.h"
#include "tests/support/tmpdir.h"
#include "tiler/decode.h"
#include "tiler/slide_internal.h"

#define W 100u
#define H 70u
#define TILE_W 32u
#define TILE_H 48u
#define STRIP_ROWS 16u

typedef struct recipe {
    uint16_t compression, samples, predictor, planar, extra; /* extra: ExtraSamples, if 4 samples */
    bool tiled, big_endian;
} recipe;

/* Sample s of pixel (x, y). */
static uint8_t sample(uint32_t x, uint32_t y, uint16_t s)
{
    if (s == 3)
        return (uint8_t)(x < 40 ? 255 : x < 60 ? 0 : x * 2 + y);
    return (uint8_t)(x * (s + 1) + y * 3 + (x * y) % 11);
}

/* What a decoder must make of it, over the background 200, 100, 50. */
static uint8_t expected(const recipe *r, uint32_t x, uint32_t y, uint16_t channel)
{
    static const unsigned background[3] = {200, 100, 50};
    const unsigned value = sample(x, y, r->samples == 1 ? 0 : channel);
    if (r->samples < 4)
        return (uint8_t)value;
    const unsigned alpha = sample(x, y, 3);
    const unsigned behind = (background[channel] * (255 - alpha) + 127) / 255;
    const unsigned front = r->extra == EXTRASAMPLE_ASSOCALPHA ? value : (value * alpha + 127) / 255;
    return (uint8_t)(front + behind < 255 ? front + behind : 255);
}

/* Write a strip or tile, plane by plane. */
static void write_part(TIFF *tiff, const recipe *r, uint32_t part, uint16_t plane)
{
    const uint32_t w = r->tiled ? TILE_W : W, h = r->tiled ? TILE_H : STRIP_ROWS;
    const uint32_t cols = r->tiled ? (W + TILE_W - 1) / TILE_W : 1;
    const uint32_t rows = r->tiled ? (H + TILE_H - 1) / TILE_H : (H + STRIP_ROWS - 1) / STRIP_ROWS;
    const uint32_t x0 = part % cols * w, y0 = part / cols * h;
    const uint32_t n_rows = !r->tiled && y0 + h > H ? H - y0 : h;
    const uint16_t step = r->planar == PLANARCONFIG_SEPARATE ? 1 : r->samples;
    uint8_t bytes[4 * W * TILE_H];
    for (uint32_t y = 0; y < n_rows; y++)
        for (uint32_t x = 0; x < w; x++)
            for (uint16_t s = 0; s < step; s++)
                bytes[(y * w + x) * step + s] = sample(x0 + x, y0 + y, step == 1 ? plane : s);
    const uint32_t at = part + plane * cols * rows;
    const tmsize_t n = (tmsize_t)w * n_rows * step;
    const tmsize_t written = r->tiled ? TIFFWriteEncodedTile(tiff, at, bytes, n)
                                      : TIFFWriteEncodedStrip(tiff, at, bytes, n);
    assert_int_equal(written, n);
}

static void write_tiff(const char *path, const recipe *r)
{
    TIFF *tiff = TIFFOpen(path, r->big_endian ? "w8b" : "wl");
    assert_non_null(tiff);
    TIFFSetField(tiff, TIFFTAG_IMAGEWIDTH, W);
    TIFFSetField(tiff, TIFFTAG_IMAGELENGTH, H);
    TIFFSetField(tiff, TIFFTAG_BITSPERSAMPLE, 8);
    TIFFSetField(tiff, TIFFTAG_SAMPLESPERPIXEL, r->samples);
    TIFFSetField(tiff, TIFFTAG_PHOTOMETRIC, r->samples == 1 ? 1 : 2);
    TIFFSetField(tiff, TIFFTAG_PLANARCONFIG, r->planar);
    TIFFSetField(tiff, TIFFTAG_COMPRESSION, r->compression);
    if (r->predictor != 1)
        TIFFSetField(tiff, TIFFTAG_PREDICTOR, r->predictor);
    if (r->samples == 4)
        TIFFSetField(tiff, TIFFTAG_EXTRASAMPLES, 1, &r->extra);
    if (r->tiled) {
        TIFFSetField(tiff, TIFFTAG_TILEWIDTH, TILE_W);
        TIFFSetField(tiff, TIFFTAG_TILELENGTH, TILE_H);
    } else {
        TIFFSetField(tiff, TIFFTAG_ROWSPERSTRIP, STRIP_ROWS);
    }
    const uint32_t planes = r->planar == PLANARCONFIG_SEPARATE ? r->samples : 1;
    const uint32_t parts = (r->tiled ? TIFFNumberOfTiles(tiff) : TIFFNumberOfStrips(tiff)) / planes;
    for (uint16_t plane = 0; plane < planes; plane++)
        for (uint32_t part = 0; part < parts; part++)
            write_part(tiff, r, part, plane);
    TIFFClose(tiff);
}

/* ---- opening and reading it back ---- */

typedef struct opened {
    sm_tmpdir dir;
    sm_source *source;
    sm_slide *slide;
    const sm_level *level;
    sm_decoder *decoder;
    sm_error err;
} opened;

static opened open_recipe(const recipe *r)
{
    opened o = {.dir = sm_tmpdir_make(), .err = SM_ERROR_INIT};
    const sm_tmppath path = sm_tmpdir_file(&o.dir, "t.tif");
    write_tiff(path.path, r);
    SM_CHECK_OK(sm_source_open(path.path, &o.source, &o.err), &o.err);
    SM_CHECK_OK(sm_slide_open(o.source, &o.slide, &o.err), &o.err);
    o.slide->info.background[0] = 200;
    o.slide->info.background[1] = 100;
    o.slide->info.background[2] = 50;
    o.level = sm_slide_level(o.slide, 0);
    SM_CHECK_OK(sm_decoder_open(o.slide, 0, &o.decoder, &o.err), &o.err);
    return o;
}

static void shut(opened *o)
{
    sm_decoder_close(&o->decoder);
    sm_slide_close(&o->slide);
    sm_source_close(&o->source);
    sm_tmpdir_remove(&o->dir);
}

/* The bytes of a tile, all planes; lens has room for four. */
static sm_buf tile_bytes(opened *o, uint64_t tile, uint64_t lens[4])
{
    const uint64_t per_plane = (uint64_t)o->level->cols * o->level->rows;
    sm_buf bytes = {0};
    for (uint16_t p = 0; p < (o->level->planar ? o->level->samples : 1); p++) {
        const uint64_t at = tile + p * per_plane;
        lens[p] = o->level->lens[at];
        SM_CHECK_OK(sm_buf_reserve(&bytes, bytes.len + (size_t)lens[p], &o->err), &o->err);
        SM_CHECK_OK(sm_source_pread(o->source, bytes.data + bytes.len, (size_t)lens[p],
                                    o->level->offsets[at], &o->err),
                    &o->err);
        bytes.len += (size_t)lens[p];
    }
    return bytes;
}

static sm_status decode(opened *o, const sm_buf *bytes, const uint64_t *lens, uint64_t tile,
                        uint8_t *rgb, size_t stride)
{
    return sm_decoder_tile(o->decoder, bytes->data, bytes->len, o->level->planar ? lens : NULL,
                           tile, 1, rgb, stride, &o->err);
}

static void check_tile(opened *o, const recipe *r, uint64_t tile, size_t gap, const char *name)
{
    const sm_level *l = o->level;
    uint64_t lens[4];
    sm_buf bytes = tile_bytes(o, tile, lens);
    const size_t stride = (size_t)3 * l->tile_w_px + gap;
    uint8_t *rgb = malloc(stride * l->tile_h_px);
    assert_non_null(rgb);
    memset(rgb, 0xA5, stride * l->tile_h_px);
    SM_CHECK_OK(decode(o, &bytes, lens, tile, rgb, stride), &o->err);
    const uint32_t x0 = (uint32_t)(tile % l->cols) * l->tile_w_px;
    const uint32_t y0 = (uint32_t)(tile / l->cols) * l->tile_h_px;
    for (uint32_t y = 0; y < l->tile_h_px; y++) {
        const bool coded = l->tiled || y0 + y < H;
        for (uint32_t x = 0; x < l->tile_w_px; x++)
            for (uint16_t c = 0; c < 3; c++) {
                const uint8_t got = rgb[y * stride + 3 * (size_t)x + c];
                const uint8_t want = coded ? expected(r, x0 + x, y0 + y, c) : 0xA5;
                if (got != want)
                    fail_msg("%s: tile %u, pixel %u, %u, channel %u: %u instead of %u", name,
                             (unsigned)tile, x, y, (unsigned)c, (unsigned)got, (unsigned)want);
            }
        for (size_t k = 0; k < gap; k++)
            assert_int_equal(rgb[y * stride + 3 * (size_t)l->tile_w_px + k], 0xA5);
    }
    free(rgb);
    sm_buf_free(&bytes);
}

static const uint16_t COMPRESSIONS[] = {1, 5, 8, 32946, 50000};

/* ---- claims ---- */

static void every_layout_of_every_codec_gives_the_pixels(void **state)
{
    (void)state;
    static const struct {
        uint16_t samples, extra;
    } kinds[] = {{1, 0}, {3, 0}, {4, EXTRASAMPLE_UNASSALPHA}, {4, EXTRASAMPLE_ASSOCALPHA}};
    unsigned n = 0;
    for (unsigned i = 0; i < SM_COUNT(COMPRESSIONS) * SM_COUNT(kinds) * 16; i++) {
        const recipe r = {
            .compression = COMPRESSIONS[i / 16 / SM_COUNT(kinds)],
            .samples = kinds[i / 16 % SM_COUNT(kinds)].samples,
            .extra = kinds[i / 16 % SM_COUNT(kinds)].extra,
            .predictor = (uint16_t)(1 + i % 2),
            .planar = (uint16_t)(1 + i / 2 % 2),
            .tiled = i / 4 % 2 == 0,
            .big_endian = i / 8 % 2 == 0,
        };
        if (r.compression == 1 && r.predictor == 2)
            continue;
        char name[96];
        snprintf(name, sizeof name, "compression %u, %u samples, predictor %u, planar %u, %s",
                 (unsigned)r.compression, (unsigned)r.samples, (unsigned)r.predictor,
                 (unsigned)r.planar, r.tiled ? "tiled" : "stripped");
        opened o = open_recipe(&r);
        if (o.level->tiled != r.tiled || o.level->samples != r.samples)
            fail_msg("%s: opened as something else", name);
        for (uint64_t tile = 0; tile < (uint64_t)o.level->cols * o.level->rows; tile++)
            for (size_t gap = 0; gap < 10; gap += 9)
                check_tile(&o, &r, tile, gap, name);
        shut(&o);
        n++;
    }
    assert_int_equal(n, 5 * 4 * 16 - 4 * 8);
}

static void broken_tiles_are_corrupt_and_never_more(void **state)
{
    (void)state;
    sm_random random = {3};
    for (size_t c = 0; c < SM_COUNT(COMPRESSIONS); c++) {
        for (uint16_t planar = 1; planar <= 2; planar++) {
            const recipe r = {.compression = COMPRESSIONS[c],
                              .samples = 3,
                              .predictor = COMPRESSIONS[c] == 1 ? 1 : 2,
                              .planar = planar,
                              .tiled = true};
            opened o = open_recipe(&r);
            uint64_t lens[4], cut_lens[4];
            sm_buf bytes = tile_bytes(&o, 1, lens);
            static uint8_t rgb[3 * TILE_W * TILE_H];
            const uint64_t last = lens[planar == 2 ? 2 : 0];
            for (uint64_t cut = 1; cut <= last; cut += 1 + cut / 50) {
                const size_t len = bytes.len - (size_t)cut;
                uint8_t *exact = malloc(len > 0 ? len : 1); /* so that a byte too far is seen */
                assert_non_null(exact);
                memcpy(exact, bytes.data, len);
                memcpy(cut_lens, lens, sizeof lens);
                cut_lens[planar == 2 ? 2 : 0] -= cut;
                const sm_buf part = {exact, len, len};
                const sm_status st = decode(&o, &part, cut_lens, 1, rgb, 3 * TILE_W);
                /* the last bytes of LZW and deflate hold no pixel: an end code, a checksum */
                if (st != SM_ERR_CORRUPT && !(st == SM_OK && cut <= 8 && r.compression != 1))
                    fail_msg("compression %u without its last %u bytes: %s",
                             (unsigned)r.compression, (unsigned)cut, sm_status_name(st));
                free(exact);
            }
            for (unsigned round = 0; round < 300; round++) {
                const size_t at = sm_random_below(&random, (uint32_t)bytes.len);
                const uint8_t saved = bytes.data[at];
                bytes.data[at] ^= (uint8_t)(1 + sm_random_below(&random, 255));
                const sm_status st = decode(&o, &bytes, lens, 1, rgb, 3 * TILE_W);
                if (st != SM_OK && st != SM_ERR_CORRUPT)
                    fail_msg("compression %u, flipped: %s", (unsigned)r.compression, o.err.message);
                bytes.data[at] = saved;
            }
            for (uint32_t len = 1; len < 600; len++) { /* garbage */
                uint8_t noise[600];
                sm_random_bytes(&random, noise, len);
                const sm_buf part = {noise, len, len};
                const uint64_t third[4] = {len / 3, len / 3, len - len / 3 * 2, 0};
                const sm_status st =
                    decode(&o, &part, planar == 2 ? third : NULL, 1, rgb, 3 * TILE_W);
                if (st != SM_ERR_CORRUPT)
                    fail_msg("compression %u: %u bytes of garbage: %s", (unsigned)r.compression,
                             len, sm_status_name(st));
            }
            check_tile(&o, &r, 1, 0, "after all that"); /* the decoder lives on */
            sm_buf_free(&bytes);
            shut(&o);
        }
    }
}

/* The first strip's 16 rows in the place of the last one's 6. */
static void the_last_strip_may_be_coded_in_full(void **state)
{
    (void)state;
    for (size_t c = 0; c < SM_COUNT(COMPRESSIONS); c++) {
        for (uint16_t samples = 1; samples <= 3; samples += 2) {
            const recipe r = {
                .compression = COMPRESSIONS[c], .samples = samples, .predictor = 1, .planar = 1};
            opened o = open_recipe(&r);
            uint64_t lens[4];
            static uint8_t rgb[3 * W * STRIP_ROWS];
            const uint64_t last = (uint64_t)o.level->rows - 1;
            const uint32_t rows = H - (uint32_t)last * o.level->tile_h_px;
            sm_buf bytes = tile_bytes(&o, 0, lens);
            assert_true(rows < o.level->tile_h_px);
            memset(rgb, 0xA5, sizeof rgb);
            SM_CHECK_OK(decode(&o, &bytes, lens, last, rgb, 3 * W), &o.err);
            for (uint32_t y = 0; y < STRIP_ROWS; y++)
                for (uint32_t x = 0; x < W; x++)
                    assert_int_equal(rgb[3 * (y * W + x) + 1],
                                     y < rows ? expected(&r, x, y, 1) : 0xA5);
            sm_buf_free(&bytes);
            shut(&o);
        }
    }
}

/* The last strip's 6 rows, whole and valid, in the place of 16: the rest would be old pixels. */
static void a_valid_but_short_tile_is_corrupt(void **state)
{
    (void)state;
    for (size_t c = 0; c < SM_COUNT(COMPRESSIONS); c++) {
        for (uint16_t samples = 1; samples <= 3; samples += 2) {
            const recipe r = {
                .compression = COMPRESSIONS[c], .samples = samples, .predictor = 1, .planar = 1};
            opened o = open_recipe(&r);
            uint64_t lens[4];
            static uint8_t rgb[3 * W * STRIP_ROWS];
            sm_buf bytes = tile_bytes(&o, (uint64_t)o.level->rows - 1, lens);
            SM_CHECK_FAILS(decode(&o, &bytes, lens, 0, rgb, 3 * W), &o.err, SM_ERR_CORRUPT, "");
            sm_buf_free(&bytes);
            shut(&o);
        }
    }
}

/* A frame may ask for any window; decoding whole frames into place needs none. */
static void zstd_memory_does_not_depend_on_the_frame(void **state)
{
    (void)state;
    const recipe r = {
        .compression = 50000, .samples = 3, .predictor = 2, .planar = 1, .tiled = true};
    opened o = open_recipe(&r);
    uint64_t lens[4];
    uint8_t pixels[3 * TILE_W * TILE_H] = {0}, back[sizeof pixels];
    sm_random random = {4};
    sm_random_bytes(&random, pixels, sizeof pixels);
    sm_buf frame = {0};
    SM_CHECK_OK(sm_buf_reserve(&frame, ZSTD_compressBound(sizeof pixels), &o.err), &o.err);
    ZSTD_CCtx *c = ZSTD_createCCtx();
    assert_non_null(c);
    ZSTD_CCtx_setParameter(c, ZSTD_c_windowLog, 27);
    ZSTD_CCtx_setParameter(c, ZSTD_c_contentSizeFlag, 0);
    ZSTD_inBuffer in = {pixels, sizeof pixels, 0};
    ZSTD_outBuffer out = {frame.data, frame.cap, 0};
    assert_int_equal(ZSTD_compressStream2(c, &out, &in, ZSTD_e_flush), 0); /* size unknown as yet */
    assert_int_equal(ZSTD_compressStream2(c, &out, &in, ZSTD_e_end), 0);
    frame.len = out.pos;
    const size_t before = mallinfo2().uordblks + mallinfo2().hblkhd;
    SM_CHECK_OK(decode(&o, &frame, lens, 0, back, 3 * TILE_W), &o.err);
    const size_t after = mallinfo2().uordblks + mallinfo2().hblkhd;
    assert_true(after < before + (1u << 20)); /* 0 under ASan, whose allocator does not say */
    for (size_t y = 0; y < TILE_H; y++)       /* the predictor is undone */
        for (size_t i = 3; i < 3 * TILE_W; i++)
            assert_int_equal((uint8_t)(back[y * 3 * TILE_W + i] - back[y * 3 * TILE_W + i - 3]),
                             pixels[y * 3 * TILE_W + i]);
    ZSTD_freeCCtx(c);
    sm_buf_free(&frame);
    shut(&o);
}

static void planes_need_their_lengths(void **state)
{
    (void)state;
    const recipe r = {.compression = 8, .samples = 3, .predictor = 1, .planar = 2, .tiled = true};
    opened o = open_recipe(&r);
    uint64_t lens[4];
    static uint8_t rgb[3 * TILE_W * TILE_H];
    sm_buf bytes = tile_bytes(&o, 0, lens);
    SM_CHECK_FAILS(decode(&o, &bytes, NULL, 0, rgb, 3 * TILE_W), &o.err, SM_ERR_ARG, "planes");
    lens[2]++;
    SM_CHECK_FAILS(decode(&o, &bytes, lens, 0, rgb, 3 * TILE_W), &o.err, SM_ERR_ARG, "planes");
    lens[2] = UINT64_MAX;
    SM_CHECK_FAILS(decode(&o, &bytes, lens, 0, rgb, 3 * TILE_W), &o.err, SM_ERR_ARG, "planes");
    lens[2] = 0;
    SM_CHECK_FAILS(decode(&o, &bytes, lens, 0, rgb, 3 * TILE_W), &o.err, SM_ERR_CORRUPT,
                   "plane 2 of the tile has no bytes");
    sm_buf_free(&bytes);
    shut(&o);
}

static void half_size_is_for_jpeg_only(void **state)
{
    (void)state;
    const recipe r = {
        .compression = 50000, .samples = 3, .predictor = 2, .planar = 1, .tiled = true};
    opened o = open_recipe(&r);
    uint64_t lens[4];
    static uint8_t rgb[3 * TILE_W * TILE_H];
    sm_buf bytes = tile_bytes(&o, 0, lens);
    SM_CHECK_FAILS(
        sm_decoder_tile(o.decoder, bytes.data, bytes.len, NULL, 0, 2, rgb, 3 * TILE_W, &o.err),
        &o.err, SM_ERR_ARG, "zstd tiles cannot be decoded at 1/2");
    sm_buf_free(&bytes);
    shut(&o);
}

/* The directory is read again at open: by then the file may be another one. */
static void a_directory_that_changed_is_corrupt(void **state)
{
    (void)state;
    const recipe r = {.compression = 8, .samples = 3, .predictor = 1, .planar = 1, .tiled = true};
    opened o = open_recipe(&r);
    const recipe other = {.compression = 8, .samples = 3, .predictor = 1, .planar = 1};
    const sm_tmppath path = sm_tmpdir_file(&o.dir, "t.tif");
    sm_decoder *decoder = NULL;
    sm_level *level = &o.slide->levels[0];
    level->cols++;
    SM_CHECK_FAILS(sm_decoder_open(o.slide, 0, &decoder, &o.err), &o.err, SM_ERR_CORRUPT,
                   "level 0: the TIFF directory is not what it was");
    level->cols--;
    level->dir_offset = 3;
    SM_CHECK_FAILS(sm_decoder_open(o.slide, 0, &decoder, &o.err), &o.err, SM_ERR_CORRUPT,
                   "level 0: ");
    assert_null(decoder);
    write_tiff(path.path, &other);
    const sm_status st = sm_decoder_open(o.slide, 0, &decoder, &o.err);
    assert_true(st == SM_ERR_CORRUPT || st == SM_ERR_IO);
    shut(&o);
}

static void running_out_of_memory_is_told(void **state)
{
    (void)state;
    const recipe r = {.compression = 5, .samples = 4, .predictor = 2, .planar = 2, .tiled = true};
    opened o = open_recipe(&r);
    uint64_t lens[4];
    static uint8_t rgb[3 * TILE_W * TILE_H];
    sm_buf bytes = tile_bytes(&o, 0, lens);
    bool done = false;
    for (long n = 0; !done && n < 30; n++) {
        sm_decoder_close(&o.decoder);
        sm_alloc_fail_after(n);
        sm_status st = sm_decoder_open(o.slide, 0, &o.decoder, &o.err);
        if (st == SM_OK)
            st = decode(&o, &bytes, lens, 0, rgb, 3 * TILE_W);
        sm_alloc_fail_after(-1);
        done = st == SM_OK;
        if (!done)
            assert_int_equal(st, SM_ERR_NOMEM);
    }
    assert_true(done);
    sm_buf_free(&bytes);
    shut(&o);
}

int main(void)
{
    TIFFSetErrorHandler(NULL);
    TIFFSetWarningHandler(NULL);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_layout_of_every_codec_gives_the_pixels),
        cmocka_unit_test(broken_tiles_are_corrupt_and_never_more),
        cmocka_unit_test(the_last_strip_may_be_coded_in_full),
        cmocka_unit_test(a_valid_but_short_tile_is_corrupt),
        cmocka_unit_test(zstd_memory_does_not_depend_on_the_frame),
        cmocka_unit_test(planes_need_their_lengths),
        cmocka_unit_test(half_size_is_for_jpeg_only),
        cmocka_unit_test(a_directory_that_changed_is_corrupt),
        cmocka_unit_test(running_out_of_memory_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
