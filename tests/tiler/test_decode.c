/* Tests of tiler/decode.c with JPEG and rendered levels, on tiles made here. */
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

#include <jpeglib.h>

#include "tests/support/check.h"
#include "tests/support/fake_slide.h"
#include "tests/support/random.h"
#include "tiler/decode.h"

#define W 64u
#define H 48u
#define MAX_PX (256u * 256u)

/* ---- making JPEG streams ---- */

typedef struct recipe {
    uint32_t w, h;
    int quality, h_samp, v_samp;
    J_COLOR_SPACE space;                     /* of the stream: JCS_RGB, JCS_YCbCr, JCS_GRAYSCALE */
    bool abbreviated, progressive, separate; /* separate: a scan for each component */
    unsigned restart_rows;
} recipe;

static const recipe YCC_420 = {W, H, 80, 2, 2, JCS_YCbCr, true, false, false, 0};
static const recipe RGB_444 = {W, H, 80, 1, 1, JCS_RGB, true, false, false, 0};

/* A picture with edges, noise and slopes; the same for the same seed. */
static void paint(uint8_t *rgb, uint32_t w, uint32_t h, uint64_t seed)
{
    sm_random r = {seed + 1};
    for (uint32_t y = 0; y < h; y++)
        for (uint32_t x = 0; x < w; x++)
            for (uint32_t c = 0; c < 3; c++)
                rgb[3 * ((size_t)y * w + x) + c] =
                    (uint8_t)(x * 2 + y * c + 20 * ((x / 7 + y / 5) % 3) + sm_random_below(&r, 16));
}

static void set_up(struct jpeg_compress_struct *c, const recipe *r)
{
    static const jpeg_scan_info SEPARATE[3] = {
        {1, {0}, 0, 63, 0, 0}, {1, {1}, 0, 63, 0, 0}, {1, {2}, 0, 63, 0, 0}};
    c->image_width = r->w;
    c->image_height = r->h;
    c->input_components = 3;
    c->in_color_space = JCS_RGB;
    jpeg_set_defaults(c);
    jpeg_set_colorspace(c, r->space);
    jpeg_set_quality(c, r->quality, TRUE);
    c->comp_info[0].h_samp_factor = r->h_samp;
    c->comp_info[0].v_samp_factor = r->v_samp;
    c->restart_in_rows = (int)r->restart_rows;
    if (r->abbreviated)
        c->write_JFIF_header = c->write_Adobe_marker = FALSE;
    if (r->progressive)
        jpeg_simple_progression(c);
    if (r->separate) {
        c->scan_info = SEPARATE;
        c->num_scans = 3;
    }
}

/* @param[out] tables filled for an abbreviated stream */
static sm_buf make(const recipe *r, uint64_t seed, sm_buf *tables)
{
    struct jpeg_compress_struct c;
    struct jpeg_error_mgr manager;
    unsigned char *bytes = NULL, *table_bytes = NULL;
    unsigned long n = 0, table_n = 0;
    uint8_t *rgb = malloc((size_t)3 * r->w * r->h);
    assert_non_null(rgb);
    paint(rgb, r->w, r->h, seed);
    c.err = jpeg_std_error(&manager);
    jpeg_create_compress(&c);
    set_up(&c, r);
    if (r->abbreviated && tables != NULL) {
        jpeg_mem_dest(&c, &table_bytes, &table_n);
        jpeg_write_tables(&c);
        *tables = (sm_buf){table_bytes, table_n, table_n};
    }
    jpeg_mem_dest(&c, &bytes, &n);
    if (r->abbreviated)
        jpeg_suppress_tables(&c, TRUE);
    jpeg_start_compress(&c, !r->abbreviated);
    while (c.next_scanline < c.image_height) {
        JSAMPROW row = rgb + (size_t)3 * r->w * c.next_scanline;
        jpeg_write_scanlines(&c, &row, 1);
    }
    jpeg_finish_compress(&c);
    jpeg_destroy_compress(&c);
    free(rgb);
    return (sm_buf){bytes, n, n};
}

/* What plain libjpeg makes of it; returns the warnings it had. */
static long reference(const sm_buf *tile, const sm_buf *tables, J_COLOR_SPACE space, unsigned denom,
                      uint8_t *rgb)
{
    struct jpeg_decompress_struct d;
    struct jpeg_error_mgr manager;
    d.err = jpeg_std_error(&manager);
    jpeg_create_decompress(&d);
    if (tables != NULL) {
        jpeg_mem_src(&d, tables->data, (unsigned long)tables->len);
        jpeg_read_header(&d, FALSE);
    }
    jpeg_mem_src(&d, tile->data, (unsigned long)tile->len);
    jpeg_read_header(&d, TRUE);
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
    return manager.num_warnings;
}

/* ---- a level to decode them with ---- */

typedef struct bench {
    sm_fake_slide *fake;
    sm_level *level;
    sm_decoder *decoder;
    sm_error err;
    uint8_t rgb[3 * MAX_PX];
} bench;

static bench *bench_new(const recipe *r, const sm_buf *tables)
{
    bench *b = calloc(1, sizeof *b);
    assert_non_null(b);
    b->err = (sm_error)SM_ERROR_INIT;
    b->fake = sm_fake_new();
    b->level = sm_fake_add(b->fake, r->w, r->h, r->w, r->h);
    b->level->samples = r->space == JCS_GRAYSCALE ? 1 : 3;
    b->level->jpeg.n_components = (uint8_t)b->level->samples;
    b->level->jpeg.colour = r->space == JCS_RGB         ? SM_COLOUR_RGB
                            : r->space == JCS_GRAYSCALE ? SM_COLOUR_GREY
                                                        : SM_COLOUR_YCBCR;
    b->level->photometric = r->space == JCS_GRAYSCALE ? 1 : 6;
    b->level->jpeg.h_samp = (uint8_t)r->h_samp;
    b->level->jpeg.v_samp = (uint8_t)r->v_samp;
    b->level->jpeg.plain = !r->progressive;
    if (tables != NULL) {
        b->level->jpeg_tables = tables->data;
        b->level->jpeg_tables_len = tables->len;
    }
    return b;
}

static sm_status bench_open(bench *b)
{
    return sm_decoder_open(&b->fake->slide, 0, &b->decoder, &b->err);
}

static sm_status bench_tile(bench *b, const uint8_t *bytes, size_t len, unsigned denom)
{
    return sm_decoder_tile(b->decoder, bytes, len, NULL, 0, denom, b->rgb,
                           (size_t)3 * ((b->level->tile_w_px + denom - 1) / denom), &b->err);
}

static void bench_free(bench **b)
{
    sm_decoder_close(&(*b)->decoder);
    sm_fake_free(&(*b)->fake);
    free(*b);
    *b = NULL;
}

/* ---- claims: what decodes ---- */

static void every_kind_of_tile_equals_libjpeg_whole_and_at_half(void **state)
{
    (void)state;
    static const recipe recipes[] = {
        {W, H, 80, 2, 2, JCS_YCbCr, true, false, false, 0},
        {W, H, 80, 2, 1, JCS_YCbCr, true, false, false, 0},
        {W, H, 80, 1, 2, JCS_YCbCr, true, false, false, 0},
        {W, H, 80, 4, 1, JCS_YCbCr, false, false, false, 0},
        {W, H, 80, 1, 1, JCS_YCbCr, false, false, false, 0},
        {W, H, 80, 1, 1, JCS_RGB, true, false, false, 0},
        {W, H, 30, 1, 1, JCS_RGB, true, false, false, 1},
        {W, H, 80, 1, 1, JCS_GRAYSCALE, true, false, false, 0},
        {W, H, 80, 2, 2, JCS_YCbCr, false, true, false, 0},
        {W, H, 80, 1, 1, JCS_RGB, false, true, false, 0},
        {W, H, 80, 2, 2, JCS_YCbCr, false, false, true, 0},
        {W, H, 80, 1, 1, JCS_RGB, true, false, true, 0},
        {W, H, 95, 2, 2, JCS_YCbCr, true, false, false, 1},
        {16, 16, 90, 1, 1, JCS_RGB, true, false, false, 0},
        {18, 34, 90, 1, 1, JCS_RGB, true, false, false, 0}, /* not whole blocks */
        {34, 18, 90, 2, 2, JCS_YCbCr, true, false, false, 0},
        {256, 256, 100, 1, 1, JCS_RGB, true, false, false, 0},
    };
    static uint8_t want[3 * MAX_PX];
    for (size_t i = 0; i < SM_COUNT(recipes); i++) {
        const recipe *r = &recipes[i];
        sm_buf tables = {0};
        sm_buf tile = make(r, i, &tables);
        bench *b = bench_new(r, r->abbreviated ? &tables : NULL);
        SM_CHECK_OK(bench_open(b), &b->err);
        for (unsigned denom = 1; denom <= 2; denom++) {
            assert_int_equal(
                reference(&tile, r->abbreviated ? &tables : NULL, r->space, denom, want), 0);
            SM_CHECK_OK(bench_tile(b, tile.data, tile.len, denom), &b->err);
            if (memcmp(b->rgb, want, (size_t)3 * (r->w / denom) * (r->h / denom)) != 0)
                fail_msg("recipe %zu at 1/%u: other pixels than libjpeg's", i, denom);
        }
        bench_free(&b);
        sm_buf_free(&tile);
        sm_buf_free(&tables);
    }
}

static void rows_lie_a_stride_apart_and_nothing_else_is_written(void **state)
{
    (void)state;
    const recipe *recipes[] = {&YCC_420, &RGB_444};
    for (size_t i = 0; i < SM_COUNT(recipes); i++) {
        sm_buf tables = {0};
        sm_buf tile = make(recipes[i], 1, &tables);
        bench *b = bench_new(recipes[i], &tables);
        SM_CHECK_OK(bench_open(b), &b->err);
        for (unsigned denom = 1; denom <= 2; denom++) {
            const size_t row = 3 * W / denom, stride = row + 7, rows = H / denom;
            uint8_t *wide = malloc(stride * rows);
            assert_non_null(wide);
            memset(wide, 0xA5, stride * rows);
            SM_CHECK_OK(bench_tile(b, tile.data, tile.len, denom), &b->err);
            SM_CHECK_OK(sm_decoder_tile(b->decoder, tile.data, tile.len, NULL, 0, denom, wide,
                                        stride, &b->err),
                        &b->err);
            for (size_t y = 0; y < rows; y++) {
                assert_memory_equal(wide + y * stride, b->rgb + y * row, row);
                for (size_t k = row; k < stride; k++)
                    assert_int_equal(wide[y * stride + k], 0xA5);
            }
            free(wide);
        }
        bench_free(&b);
        sm_buf_free(&tile);
        sm_buf_free(&tables);
    }
}

static void the_levels_colour_counts_not_the_streams_markers(void **state)
{
    (void)state;
    recipe r = RGB_444;
    r.abbreviated = false; /* with an Adobe marker that says RGB */
    sm_buf tile = make(&r, 3, NULL);
    static uint8_t want[3 * W * H];
    reference(&tile, NULL, JCS_YCbCr, 1, want);
    r.space = JCS_YCbCr;
    bench *b = bench_new(&r, NULL);
    SM_CHECK_OK(bench_open(b), &b->err);
    SM_CHECK_OK(bench_tile(b, tile.data, tile.len, 1), &b->err);
    assert_memory_equal(b->rgb, want, sizeof want);
    bench_free(&b);
    sm_buf_free(&tile);
}

/* The level's traits are those of its first tile; buffers are made for them. */
static void a_tile_may_be_sampled_unlike_the_first(void **state)
{
    (void)state;
    static const recipe odd[] = {{W, H, 80, 2, 2, JCS_RGB, false, false, false, 0},
                                 {W, H, 80, 1, 2, JCS_RGB, false, false, false, 0},
                                 {W, H, 80, 4, 1, JCS_RGB, false, true, false, 0}};
    bench *b = bench_new(&RGB_444, NULL);
    SM_CHECK_OK(bench_open(b), &b->err);
    for (size_t i = 0; i < SM_COUNT(odd); i++) {
        static uint8_t want[3 * W * H];
        sm_buf tile = make(&odd[i], i, NULL);
        for (unsigned denom = 1; denom <= 2; denom++) {
            reference(&tile, NULL, JCS_RGB, denom, want);
            SM_CHECK_OK(bench_tile(b, tile.data, tile.len, denom), &b->err);
            assert_memory_equal(b->rgb, want, (size_t)3 * (W / denom) * (H / denom));
        }
        sm_buf_free(&tile);
    }
    bench_free(&b);
}

/* A tile that brings tables of its own must not change what the next one looks like. */
static void tiles_decode_alike_in_any_order(void **state)
{
    (void)state;
    sm_buf tables = {0};
    sm_buf short_tile = make(&YCC_420, 1, &tables);
    recipe whole = YCC_420;
    whole.abbreviated = false;
    whole.quality = 10;
    sm_buf whole_tile = make(&whole, 2, NULL);
    static uint8_t first[3 * W * H];
    bench *b = bench_new(&YCC_420, &tables);
    SM_CHECK_OK(bench_open(b), &b->err);
    SM_CHECK_OK(bench_tile(b, short_tile.data, short_tile.len, 1), &b->err);
    memcpy(first, b->rgb, sizeof first);
    SM_CHECK_OK(bench_tile(b, whole_tile.data, whole_tile.len, 1), &b->err);
    SM_CHECK_OK(bench_tile(b, short_tile.data, short_tile.len, 1), &b->err);
    assert_memory_equal(b->rgb, first, sizeof first);
    bench_free(&b);

    b = bench_new(&YCC_420, NULL); /* no tables in the level */
    SM_CHECK_OK(bench_open(b), &b->err);
    for (int i = 0; i < 2; i++) {
        SM_CHECK_FAILS(bench_tile(b, short_tile.data, short_tile.len, 1), &b->err, SM_ERR_CORRUPT,
                       "neither in the tile nor in the level");
        SM_CHECK_OK(bench_tile(b, whole_tile.data, whole_tile.len, 1), &b->err);
    }
    bench_free(&b);
    sm_buf_free(&short_tile);
    sm_buf_free(&whole_tile);
    sm_buf_free(&tables);
}

/* 142-byte tables of some writers: DQT alone, the Huffman tables are in each tile. */
static void tables_may_be_split_between_level_and_tile(void **state)
{
    (void)state;
    sm_buf tables = {0}, level_half = {0}, tile_half = {0};
    sm_error err = SM_ERROR_INIT;
    sm_buf short_tile = make(&YCC_420, 1, &tables);
    SM_CHECK_OK(sm_buf_append(&level_half, tables.data, 2, &err), &err); /* SOI */
    SM_CHECK_OK(sm_buf_append(&tile_half, tables.data, 2, &err), &err);
    for (size_t at = 2; at + 4 < tables.len;) {
        const size_t len = 2 + ((size_t)tables.data[at + 2] << 8 | tables.data[at + 3]);
        sm_buf *to = tables.data[at + 1] == 0xDB ? &level_half : &tile_half;
        SM_CHECK_OK(sm_buf_append(to, tables.data + at, len, &err), &err);
        at += len;
    }
    SM_CHECK_OK(sm_buf_append(&level_half, "\xFF\xD9", 2, &err), &err);
    bench *b = bench_new(&YCC_420, &level_half);
    SM_CHECK_OK(bench_open(b), &b->err);
    SM_CHECK_FAILS(bench_tile(b, short_tile.data, short_tile.len, 1), &b->err, SM_ERR_CORRUPT,
                   "Huffman table 0 is neither");
    SM_CHECK_OK(sm_buf_append(&tile_half, short_tile.data + 2, short_tile.len - 2, &err), &err);
    SM_CHECK_OK(bench_tile(b, tile_half.data, tile_half.len, 1), &b->err);
    static uint8_t want[3 * W * H];
    reference(&short_tile, &tables, JCS_YCbCr, 1, want);
    assert_memory_equal(b->rgb, want, sizeof want);
    bench_free(&b);
    sm_buf_free(&short_tile);
    sm_buf_free(&tables);
    sm_buf_free(&level_half);
    sm_buf_free(&tile_half);
}

static void the_last_strip_may_be_short_or_whole(void **state)
{
    (void)state;
    recipe full = RGB_444;
    full.w = 37;
    full.h = 16;
    recipe rest = full;
    rest.h = 5;
    sm_buf tables = {0};
    sm_buf whole = make(&full, 1, &tables), part = make(&rest, 1, NULL);
    bench *b = bench_new(&full, &tables);
    b->level->tiled = false;
    b->level->h_px = 37; /* strips of 16, 16 and 5 rows */
    b->level->rows = 3;
    SM_CHECK_OK(bench_open(b), &b->err);
    static uint8_t want[3 * 37 * 16];
    const struct {
        const sm_buf *tile;
        uint64_t at;
        unsigned denom;
        size_t w, h;
    } cases[] = {{&whole, 0, 1, 37, 16}, {&part, 2, 1, 37, 5}, {&whole, 2, 1, 37, 5},
                 {&whole, 0, 2, 19, 8},  {&part, 2, 2, 19, 3}, {&whole, 2, 2, 19, 3}};
    for (size_t i = 0; i < SM_COUNT(cases); i++) {
        reference(cases[i].tile, &tables, JCS_RGB, cases[i].denom, want);
        memset(b->rgb, 0xA5, sizeof b->rgb);
        SM_CHECK_OK(sm_decoder_tile(b->decoder, cases[i].tile->data, cases[i].tile->len, NULL,
                                    cases[i].at, cases[i].denom, b->rgb, 3 * cases[i].w, &b->err),
                    &b->err);
        const size_t n = 3 * cases[i].w * cases[i].h;
        if (memcmp(b->rgb, want, n) != 0 || b->rgb[n] != 0xA5)
            fail_msg("case %zu: other pixels than libjpeg's, or too many", i);
    }
    SM_CHECK_FAILS(
        sm_decoder_tile(b->decoder, part.data, part.len, NULL, 0, 1, b->rgb, 3 * 37, &b->err),
        &b->err, SM_ERR_CORRUPT, "37 x 5 px instead of 37 x 16");
    bench_free(&b);
    sm_buf_free(&whole);
    sm_buf_free(&part);
    sm_buf_free(&tables);
}

static void extraneous_bytes_before_a_marker_are_forgiven(void **state)
{
    (void)state;
    recipe whole = YCC_420;
    whole.abbreviated = false;
    sm_buf tile = make(&whole, 1, NULL), odd = {0};
    sm_error err = SM_ERROR_INIT;
    SM_CHECK_OK(sm_buf_append(&odd, tile.data, 20, &err), &err); /* SOI, JFIF */
    SM_CHECK_OK(sm_buf_append(&odd, "\0\0\0", 3, &err), &err);
    SM_CHECK_OK(sm_buf_append(&odd, tile.data + 20, tile.len - 20, &err), &err);
    SM_CHECK_OK(sm_buf_append(&odd, "behind EOI", 10, &err), &err);
    static uint8_t want[3 * W * H];
    assert_int_equal(reference(&tile, NULL, JCS_YCbCr, 1, want), 0);
    bench *b = bench_new(&whole, NULL);
    SM_CHECK_OK(bench_open(b), &b->err);
    SM_CHECK_OK(bench_tile(b, odd.data, odd.len, 1), &b->err);
    assert_memory_equal(b->rgb, want, sizeof want);
    bench_free(&b);
    sm_buf_free(&tile);
    sm_buf_free(&odd);
}

/* ---- claims: what is refused ---- */

static void a_tile_of_another_shape_is_corrupt(void **state)
{
    (void)state;
    static const struct {
        uint32_t w, h;
        J_COLOR_SPACE space;
        const char *text;
    } cases[] = {
        {W + 8, H, JCS_YCbCr, "72 x 48 px instead of 64 x 48"},
        {W, H - 16, JCS_YCbCr, "64 x 32 px instead of 64 x 48"},
        {W, H + 1, JCS_YCbCr, "64 x 49 px instead of 64 x 48"},
        {H, W, JCS_YCbCr, "48 x 64 px"},
        {W, H, JCS_GRAYSCALE, "1 components instead of 3"},
    };
    sm_buf tables = {0};
    sm_buf good = make(&YCC_420, 1, &tables);
    bench *b = bench_new(&YCC_420, &tables);
    SM_CHECK_OK(bench_open(b), &b->err);
    for (size_t i = 0; i < SM_COUNT(cases); i++) {
        recipe r = YCC_420;
        r.w = cases[i].w;
        r.h = cases[i].h;
        r.space = cases[i].space;
        sm_buf tile = make(&r, 1, NULL);
        SM_CHECK_FAILS(bench_tile(b, tile.data, tile.len, 1), &b->err, SM_ERR_CORRUPT,
                       cases[i].text);
        SM_CHECK_OK(bench_tile(b, good.data, good.len, 1), &b->err); /* the decoder lives on */
        sm_buf_free(&tile);
    }
    uint8_t *sof = memmem(good.data, good.len, "\xFF\xC0", 2);
    assert_non_null(sof);
    memset(sof + 5, 0xFF, 4); /* 65535 x 65535: refused before it is allocated */
    SM_CHECK_FAILS(bench_tile(b, good.data, good.len, 1), &b->err, SM_ERR_CORRUPT, "");
    bench_free(&b);
    sm_buf_free(&good);
    sm_buf_free(&tables);
}

static void a_tile_cut_anywhere_is_corrupt(void **state)
{
    (void)state;
    recipe progressive = YCC_420;
    progressive.progressive = true;
    progressive.abbreviated = false;
    const recipe *recipes[] = {&YCC_420, &RGB_444, &progressive};
    for (size_t i = 0; i < SM_COUNT(recipes); i++) {
        sm_buf tables = {0};
        sm_buf tile = make(recipes[i], 1, &tables);
        bench *b = bench_new(recipes[i], recipes[i]->abbreviated ? &tables : NULL);
        SM_CHECK_OK(bench_open(b), &b->err);
        for (size_t len = 0; len < tile.len; len++) {
            uint8_t *exact = malloc(len + 1); /* so that a byte too far is seen */
            assert_non_null(exact);
            memcpy(exact, tile.data, len);
            exact = realloc(exact, len > 0 ? len : 1);
            const sm_status st = bench_tile(b, exact, len, 1 + len % 2);
            if (st != SM_ERR_CORRUPT)
                fail_msg("recipe %zu, %zu of %zu bytes: %s", i, len, tile.len, sm_status_name(st));
            free(exact);
        }
        SM_CHECK_OK(bench_tile(b, tile.data, tile.len, 1), &b->err);
        bench_free(&b);
        sm_buf_free(&tile);
        sm_buf_free(&tables);
    }
}

static void garbage_of_any_length_is_corrupt(void **state)
{
    (void)state;
    sm_buf tables = {0};
    sm_buf tile = make(&YCC_420, 1, &tables);
    bench *b = bench_new(&YCC_420, &tables);
    SM_CHECK_OK(bench_open(b), &b->err);
    sm_random r = {99};
    uint8_t noise[1024];
    for (size_t len = 0; len <= sizeof noise; len++) {
        sm_random_bytes(&r, noise, len);
        SM_CHECK_FAILS(bench_tile(b, noise, len, 1), &b->err, SM_ERR_CORRUPT, "");
        if (len >= 4) {
            memcpy(noise, "\xFF\xD8\xFF\xDA", 4);
            SM_CHECK_FAILS(bench_tile(b, noise, len, 1), &b->err, SM_ERR_CORRUPT, "");
        }
    }
    SM_CHECK_OK(bench_tile(b, tile.data, tile.len, 1), &b->err);
    bench_free(&b);
    sm_buf_free(&tile);
    sm_buf_free(&tables);
}

/* Some flips still decode, to other pixels. Whatever happens must not depend on what came before.
 */
static void flipped_bytes_decode_or_are_told_the_same_way_each_time(void **state)
{
    (void)state;
    static const recipe recipes[] = {
        {W, H, 80, 2, 2, JCS_YCbCr, true, false, false, 0},
        {W, H, 80, 1, 1, JCS_RGB, false, false, false, 0},
        {W, H, 80, 2, 2, JCS_YCbCr, false, true, false, 0},
        {W, H, 80, 1, 1, JCS_RGB, false, false, true, 1},
    };
    static uint8_t first[3 * MAX_PX];
    for (size_t i = 0; i < SM_COUNT(recipes); i++) {
        const recipe *r = &recipes[i];
        sm_random random = {i + 5};
        sm_buf tables = {0};
        sm_buf tile = make(r, i, &tables);
        bench *used = bench_new(r, r->abbreviated ? &tables : NULL);
        SM_CHECK_OK(bench_open(used), &used->err);
        for (unsigned round = 0; round < 1500; round++) {
            uint8_t saved[3];
            size_t at[3];
            const size_t span = round % 2 == 0 ? tile.len : sm_min_u32((uint32_t)tile.len, 700);
            for (size_t k = 0; k < 3; k++) {
                at[k] = sm_random_below(&random, (uint32_t)span);
                saved[k] = tile.data[at[k]];
                tile.data[at[k]] ^= (uint8_t)(1 + sm_random_below(&random, 255));
            }
            const unsigned denom = 1 + round % 2;
            const sm_status st = bench_tile(used, tile.data, tile.len, denom);
            if (st != SM_OK && st != SM_ERR_CORRUPT)
                fail_msg("round %u: %s: %s", round, sm_status_name(st), used->err.message);
            const size_t n = (size_t)3 * (W / denom) * (H / denom);
            memcpy(first, used->rgb, n);
            bench *fresh = bench_new(r, r->abbreviated ? &tables : NULL);
            SM_CHECK_OK(bench_open(fresh), &fresh->err);
            assert_int_equal(bench_tile(fresh, tile.data, tile.len, denom), st);
            if (st == SM_OK && memcmp(first, fresh->rgb, n) != 0)
                fail_msg("recipe %zu, round %u: a used decoder shows other pixels", i, round);
            bench_free(&fresh);
            for (size_t k = 3; k-- > 0;)
                tile.data[at[k]] = saved[k];
        }
        bench_free(&used);
        sm_buf_free(&tile);
        sm_buf_free(&tables);
    }
}

/* A scan repeated often costs a pass over the tile each time. */
static void endless_scans_are_refused(void **state)
{
    (void)state;
    recipe r = YCC_420;
    r.separate = true;
    r.abbreviated = false;
    sm_error err = SM_ERROR_INIT;
    sm_buf tile = make(&r, 1, NULL), many = {0};
    const uint8_t *scan = memmem(tile.data, tile.len, "\xFF\xDA", 2);
    assert_non_null(scan);
    const size_t at = (size_t)(scan - tile.data);
    const uint8_t *next = memmem(scan + 2, tile.len - at - 2, "\xFF\xDA", 2);
    assert_non_null(next);
    bench *b = bench_new(&r, NULL);
    SM_CHECK_OK(bench_open(b), &b->err);
    const unsigned repeats[] = {1, 100, 300};
    for (size_t i = 0; i < SM_COUNT(repeats); i++) {
        many.len = 0;
        SM_CHECK_OK(sm_buf_append(&many, tile.data, at, &err), &err);
        for (unsigned k = 0; k < repeats[i]; k++)
            SM_CHECK_OK(sm_buf_append(&many, scan, (size_t)(next - scan), &err), &err);
        SM_CHECK_OK(sm_buf_append(&many, next, tile.len - (size_t)(next - tile.data), &err), &err);
        if (repeats[i] < 200)
            SM_CHECK_OK(bench_tile(b, many.data, many.len, 1), &b->err);
        else
            SM_CHECK_FAILS(bench_tile(b, many.data, many.len, 1), &b->err, SM_ERR_CORRUPT,
                           "more than 200 scans");
    }
    bench_free(&b);
    sm_buf_free(&tile);
    sm_buf_free(&many);
}

static void broken_level_tables_are_told_at_open(void **state)
{
    (void)state;
    sm_buf tables = {0};
    sm_buf tile = make(&YCC_420, 1, &tables);
    for (size_t len = 1; len < tables.len; len++) {
        const sm_buf cut = {tables.data, len, len};
        bench *b = bench_new(&YCC_420, &cut);
        SM_CHECK_FAILS(bench_open(b), &b->err, SM_ERR_CORRUPT, "level 0: JPEG tables: JPEG: ");
        assert_null(b->decoder);
        bench_free(&b);
    }
    sm_buf_free(&tile);
    sm_buf_free(&tables);
}

static void wrong_calls_are_refused(void **state)
{
    (void)state;
    sm_buf tables = {0};
    sm_buf tile = make(&YCC_420, 1, &tables);
    bench *b = bench_new(&YCC_420, &tables);
    SM_CHECK_OK(bench_open(b), &b->err);
    sm_decoder *none = NULL;
    SM_CHECK_FAILS(sm_decoder_open(&b->fake->slide, 1, &none, &b->err), &b->err, SM_ERR_ARG,
                   "level 1");
    SM_CHECK_FAILS(bench_tile(b, tile.data, 0, 1), &b->err, SM_ERR_CORRUPT, "no bytes");
    for (unsigned denom = 0; denom < 9; denom++)
        if (denom != 1 && denom != 2)
            SM_CHECK_FAILS(sm_decoder_tile(b->decoder, tile.data, tile.len, NULL, 0, denom, b->rgb,
                                           3 * W, &b->err),
                           &b->err, SM_ERR_ARG, "cannot be decoded at 1/");
    SM_CHECK_FAILS(
        sm_decoder_tile(b->decoder, tile.data, tile.len, NULL, 1, 1, b->rgb, 3 * W, &b->err),
        &b->err, SM_ERR_ARG, "outside");
    SM_CHECK_FAILS(
        sm_decoder_tile(b->decoder, tile.data, tile.len, NULL, 0, 1, b->rgb, 3 * W - 1, &b->err),
        &b->err, SM_ERR_ARG, "stride");
    const uint64_t lens[3] = {1, 1, 1};
    SM_CHECK_FAILS(
        sm_decoder_tile(b->decoder, tile.data, tile.len, lens, 0, 1, b->rgb, 3 * W, &b->err),
        &b->err, SM_ERR_ARG, "planes");
    b->level->tile_h_px = H - 1;
    SM_CHECK_FAILS(bench_tile(b, tile.data, tile.len, 2), &b->err, SM_ERR_ARG, "half size");
    bench_free(&b);
    sm_buf_free(&tile);
    sm_buf_free(&tables);
}

/* ---- memory ---- */

static void running_out_of_memory_is_told(void **state)
{
    (void)state;
    sm_buf tables = {0};
    sm_buf tile = make(&RGB_444, 1, &tables);
    bool done = false;
    for (long n = 0; !done && n < 30; n++) {
        bench *b = bench_new(&RGB_444, &tables);
        sm_alloc_fail_after(n);
        sm_status st = bench_open(b);
        if (st == SM_OK)
            st = bench_tile(b, tile.data, tile.len, 1);
        sm_alloc_fail_after(-1);
        done = st == SM_OK;
        if (!done)
            assert_int_equal(st, SM_ERR_NOMEM);
        bench_free(&b);
    }
    assert_true(done);
    sm_buf_free(&tile);
    sm_buf_free(&tables);
}

/* What the heap holds at most, seen from outside: after a tile, libjpeg has let go of that tile's
 * working memory, so the estimate must be above, and not many times what is left. */
static void the_memory_estimate_covers_what_a_decoder_keeps(void **state)
{
    (void)state;
    static const recipe recipes[] = {
        {256, 256, 90, 2, 2, JCS_YCbCr, false, false, false, 0},
        {256, 256, 90, 1, 1, JCS_RGB, false, false, false, 0},
    };
    for (size_t i = 0; i < SM_COUNT(recipes); i++) {
        sm_buf tile = make(&recipes[i], 1, NULL);
        bench *b = bench_new(&recipes[i], NULL);
        const size_t before = mallinfo2().uordblks + mallinfo2().hblkhd;
        SM_CHECK_OK(bench_open(b), &b->err);
        SM_CHECK_OK(bench_tile(b, tile.data, tile.len, 1), &b->err);
        const size_t after = mallinfo2().uordblks + mallinfo2().hblkhd;
        const uint64_t estimate = sm_decoder_memory(b->level);
        if (after > before && after - before > estimate)
            fail_msg("recipe %zu: %zu bytes instead of %llu", i, after - before,
                     (unsigned long long)estimate);
        assert_true(estimate < 1u << 20);
        bench_free(&b);
        sm_buf_free(&tile);
    }
}

/* ---- rendered levels ---- */

static sm_rect last_rect;

/* Pixels that tell where they come from. */
static sm_status render(const sm_slide *slide, uint32_t level, sm_rect rect, uint8_t *rgb,
                        size_t stride, sm_error *err)
{
    (void)slide;
    last_rect = rect;
    if (rect.x == 0 && rect.y == 0)
        return sm_fail(err, SM_ERR_IO, "no first tile");
    for (uint32_t y = 0; y < rect.h; y++)
        for (uint32_t x = 0; x < rect.w; x++) {
            uint8_t *p = rgb + y * stride + (size_t)3 * x;
            p[0] = (uint8_t)(rect.x + x);
            p[1] = (uint8_t)(rect.y + y);
            p[2] = (uint8_t)level;
        }
    return SM_OK;
}

static void rendered_tiles_are_clipped_and_white_beyond_the_edge(void **state)
{
    (void)state;
    static const sm_slide_reader reader = {.name = "fake", .render = render};
    sm_fake_slide *fake = sm_fake_new();
    sm_level *l = sm_fake_add(fake, 50, 35, 32, 32);
    l->codec = SM_CODEC_RENDERED;
    fake->slide.reader = &reader;
    sm_error err = SM_ERROR_INIT;
    sm_decoder *d = NULL;
    SM_CHECK_OK(sm_decoder_open(&fake->slide, 0, &d, &err), &err);
    const size_t stride = 3 * 32 + 5;
    uint8_t *rgb = malloc(stride * 32);
    assert_non_null(rgb);
    SM_CHECK_FAILS(sm_decoder_tile(d, NULL, 0, NULL, 0, 1, rgb, stride, &err), &err, SM_ERR_IO,
                   "no first tile");
    for (uint64_t tile = 1; tile < 4; tile++) {
        memset(rgb, 0xA5, stride * 32);
        SM_CHECK_OK(sm_decoder_tile(d, NULL, 0, NULL, tile, 1, rgb, stride, &err), &err);
        const uint32_t x0 = (uint32_t)tile % 2 * 32, y0 = (uint32_t)tile / 2 * 32;
        for (uint32_t y = 0; y < 32; y++) {
            for (uint32_t x = 0; x < 32; x++) {
                const bool in = x0 + x < 50 && y0 + y < 35;
                const uint8_t *p = rgb + y * stride + (size_t)3 * x;
                assert_int_equal(p[0], in ? x0 + x : 255);
                assert_int_equal(p[1], in ? y0 + y : 255);
                assert_int_equal(p[2], in ? 0 : 255);
            }
            assert_int_equal(rgb[y * stride + 3 * 32], 0xA5);
        }
    }
    assert_int_equal(last_rect.w, 18);
    assert_int_equal(last_rect.h, 3);
    SM_CHECK_FAILS(sm_decoder_tile(d, NULL, 0, NULL, 1, 2, rgb, stride, &err), &err, SM_ERR_ARG,
                   "rendered");
    free(rgb);
    sm_decoder_close(&d);
    sm_decoder_close(&d); /* nothing to do */
    sm_fake_free(&fake);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_of_tile_equals_libjpeg_whole_and_at_half),
        cmocka_unit_test(rows_lie_a_stride_apart_and_nothing_else_is_written),
        cmocka_unit_test(the_levels_colour_counts_not_the_streams_markers),
        cmocka_unit_test(a_tile_may_be_sampled_unlike_the_first),
        cmocka_unit_test(tiles_decode_alike_in_any_order),
        cmocka_unit_test(tables_may_be_split_between_level_and_tile),
        cmocka_unit_test(the_last_strip_may_be_short_or_whole),
        cmocka_unit_test(extraneous_bytes_before_a_marker_are_forgiven),
        cmocka_unit_test(a_tile_of_another_shape_is_corrupt),
        cmocka_unit_test(a_tile_cut_anywhere_is_corrupt),
        cmocka_unit_test(garbage_of_any_length_is_corrupt),
        cmocka_unit_test(flipped_bytes_decode_or_are_told_the_same_way_each_time),
        cmocka_unit_test(endless_scans_are_refused),
        cmocka_unit_test(broken_level_tables_are_told_at_open),
        cmocka_unit_test(wrong_calls_are_refused),
        cmocka_unit_test(running_out_of_memory_is_told),
        cmocka_unit_test(the_memory_estimate_covers_what_a_decoder_keeps),
        cmocka_unit_test(rendered_tiles_are_clipped_and_white_beyond_the_edge),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
