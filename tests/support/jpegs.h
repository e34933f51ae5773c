/* Tiles as JPEG streams, made and taken apart with libjpeg. Header only; needs cmocka.h before it.
 */
#ifndef SM_TESTS_SUPPORT_JPEGS_H
#define SM_TESTS_SUPPORT_JPEGS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>

#include "common/buf.h"

/* How a stream is coded. Zeros: grey, 1x1. */
typedef struct sm_recipe {
    J_COLOR_SPACE space; /* of the stream: JCS_RGB, JCS_YCbCr, JCS_GRAYSCALE */
    int h, v;            /* luma sampling */
    int quality;
    bool tables;      /* the stream has its own; else they are to be made by sm_recipe_tables */
    bool optimise;    /* Huffman tables of its own */
    bool progressive; /* else baseline */
    bool separate;    /* a scan for each component */
    bool third_table; /* another quantisation table for the third component */
    unsigned restart; /* MCUs */
} sm_recipe;

static inline void sm_recipe_set(const sm_recipe *r, j_compress_ptr c, uint32_t w, uint32_t h)
{
    static const jpeg_scan_info SEPARATE[3] = {
        {1, {0}, 0, 63, 0, 0}, {1, {1}, 0, 63, 0, 0}, {1, {2}, 0, 63, 0, 0}};
    c->image_width = w;
    c->image_height = h;
    c->input_components = 3;
    c->in_color_space = JCS_RGB;
    jpeg_set_defaults(c);
    jpeg_set_colorspace(c, r->space);
    jpeg_set_quality(c, r->quality, TRUE);
    c->comp_info[0].h_samp_factor = r->h;
    c->comp_info[0].v_samp_factor = r->v;
    c->write_JFIF_header = c->write_Adobe_marker = FALSE;
    c->optimize_coding = r->optimise;
    c->restart_interval = r->restart;
    if (r->progressive)
        jpeg_simple_progression(c);
    if (r->separate) {
        c->scan_info = SEPARATE;
        c->num_scans = 3;
    }
    if (r->third_table) {
        unsigned flat[DCTSIZE2];
        for (size_t i = 0; i < DCTSIZE2; i++)
            flat[i] = 7;
        jpeg_add_quant_table(c, 2, flat, 100, TRUE);
        c->comp_info[2].quant_tbl_no = 2;
    }
}

static inline sm_buf sm_jpeg_bytes(unsigned char *bytes, unsigned long n)
{
    sm_error err = SM_ERROR_INIT;
    sm_buf out = {0};
    if (sm_buf_append(&out, bytes, n, &err) != SM_OK)
        fail_msg("%s", err.message);
    free(bytes);
    return out;
}

/* w x h RGB pixels as a stream. */
static inline sm_buf sm_recipe_stream(const sm_recipe *r, const uint8_t *rgb, uint32_t w,
                                      uint32_t h)
{
    struct jpeg_compress_struct c;
    struct jpeg_error_mgr mgr;
    unsigned char *bytes = NULL;
    unsigned long n = 0;
    c.err = jpeg_std_error(&mgr);
    jpeg_create_compress(&c);
    jpeg_mem_dest(&c, &bytes, &n);
    sm_recipe_set(r, &c, w, h);
    if (!r->tables)
        jpeg_suppress_tables(&c, TRUE);
    jpeg_start_compress(&c, r->tables);
    uint8_t *row = malloc(3 * (size_t)w);
    assert_non_null(row);
    while (c.next_scanline < h) {
        memcpy(row, rgb + 3 * (size_t)w * c.next_scanline, 3 * (size_t)w);
        (void)jpeg_write_scanlines(&c, &row, 1);
    }
    jpeg_finish_compress(&c);
    jpeg_destroy_compress(&c);
    free(row);
    return sm_jpeg_bytes(bytes, n);
}

/* The tables-only stream for the streams of a recipe without tables. */
static inline sm_buf sm_recipe_tables(const sm_recipe *r)
{
    struct jpeg_compress_struct c;
    struct jpeg_error_mgr mgr;
    unsigned char *bytes = NULL;
    unsigned long n = 0;
    c.err = jpeg_std_error(&mgr);
    jpeg_create_compress(&c);
    jpeg_mem_dest(&c, &bytes, &n);
    sm_recipe_set(r, &c, 16, 16);
    jpeg_write_tables(&c);
    jpeg_destroy_compress(&c);
    return sm_jpeg_bytes(bytes, n);
}

/* Load tables (may be empty), then the stream's header. */
static inline void sm_jpeg_load(j_decompress_ptr d, const sm_buf *tables, const uint8_t *bytes,
                                size_t len)
{
    if (tables != NULL && tables->len > 0) {
        jpeg_mem_src(d, tables->data, tables->len);
        assert_int_equal(jpeg_read_header(d, FALSE), JPEG_HEADER_TABLES_ONLY);
    }
    jpeg_mem_src(d, bytes, len);
    assert_int_equal(jpeg_read_header(d, TRUE), JPEG_HEADER_OK);
}

/* RGB pixels of a stream, 3 * *w * *h bytes; free. */
static inline uint8_t *sm_jpeg_pixels(const sm_buf *tables, const sm_buf *stream,
                                      J_COLOR_SPACE space, uint32_t *w, uint32_t *h)
{
    struct jpeg_decompress_struct d;
    struct jpeg_error_mgr mgr;
    d.err = jpeg_std_error(&mgr);
    jpeg_create_decompress(&d);
    sm_jpeg_load(&d, tables, stream->data, stream->len);
    d.jpeg_color_space = space;
    d.out_color_space = JCS_RGB;
    jpeg_start_decompress(&d);
    *w = d.output_width;
    *h = d.output_height;
    uint8_t *rgb = malloc(3 * (size_t)*w * *h);
    assert_non_null(rgb);
    while (d.output_scanline < *h) {
        JSAMPROW row = rgb + 3 * (size_t)*w * d.output_scanline;
        (void)jpeg_read_scanlines(&d, &row, 1);
    }
    jpeg_finish_decompress(&d);
    assert_int_equal(mgr.num_warnings, 0);
    jpeg_destroy_decompress(&d);
    return rgb;
}

/* All coefficients of a stream of three components. */
typedef struct sm_coefs {
    uint32_t w[3], h[3]; /* blocks */
    UINT16 quant[3][DCTSIZE2];
    JBLOCK *blocks[3];
} sm_coefs;

static inline sm_coefs sm_coefs_read(const sm_buf *tables, const sm_buf *stream)
{
    struct jpeg_decompress_struct d;
    struct jpeg_error_mgr mgr;
    sm_coefs all = {0};
    d.err = jpeg_std_error(&mgr);
    jpeg_create_decompress(&d);
    sm_jpeg_load(&d, tables, stream->data, stream->len);
    assert_int_equal(d.num_components, 3);
    jvirt_barray_ptr *arrays = jpeg_read_coefficients(&d);
    for (size_t c = 0; c < 3; c++) {
        const jpeg_component_info *k = &d.comp_info[c];
        all.w[c] = k->width_in_blocks;
        all.h[c] = k->height_in_blocks;
        memcpy(all.quant[c], k->quant_table->quantval, sizeof all.quant[c]);
        all.blocks[c] = malloc(sizeof(JBLOCK) * all.w[c] * all.h[c]);
        assert_non_null(all.blocks[c]);
        for (uint32_t y = 0; y < all.h[c]; y++) {
            JBLOCKARRAY row = d.mem->access_virt_barray((j_common_ptr)&d, arrays[c], y, 1, FALSE);
            memcpy(all.blocks[c][(size_t)y * all.w[c]], row[0], sizeof(JBLOCK) * all.w[c]);
        }
    }
    jpeg_finish_decompress(&d);
    assert_int_equal(mgr.num_warnings, 0);
    jpeg_destroy_decompress(&d);
    return all;
}

static inline const JCOEF *sm_coefs_block(const sm_coefs *all, size_t c, uint32_t x, uint32_t y)
{
    return all->blocks[c][(size_t)y * all->w[c] + x];
}

static inline void sm_coefs_free(sm_coefs *all)
{
    for (size_t c = 0; c < 3; c++)
        free(all->blocks[c]);
    *all = (sm_coefs){0};
}

#endif
