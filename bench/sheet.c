/* Sheets of JPEG tiles, and libjpeg in both directions. Owns the libjpeg objects and its set of
 * distinct tiles. */
#include "bench/sheet.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include <jpeglib.h>
#include <tiff.h>

/* libjpeg, both ways, with its exit() turned into a jump. */
struct sm_jpeg {
    struct jpeg_error_mgr errors; /* first: libjpeg hands it back as its own type */
    jmp_buf jump;
    char message[JMSG_LENGTH_MAX];
    struct jpeg_decompress_struct in;
    struct jpeg_compress_struct out;
    unsigned char *encoded; /* libjpeg's allocation */
    unsigned long encoded_len;
};

static void codec_trap(j_common_ptr info)
{
    sm_jpeg *c = (sm_jpeg *)(void *)info->err;
    info->err->format_message(info, c->message);
    longjmp(c->jump, 1);
}

static void codec_silence(j_common_ptr info)
{
    (void)info; /* warnings are counted in num_warnings, which sm_jpeg_decode looks at */
}

static sm_status codec_fail(sm_jpeg *c, sm_error *err)
{
    jpeg_abort_decompress(&c->in);
    jpeg_abort_compress(&c->out);
    free(c->encoded);
    c->encoded = NULL;
    return sm_fail(err, SM_ERR_CORRUPT, "JPEG: %s", c->message);
}

void sm_jpeg_free(sm_jpeg **jpeg)
{
    sm_jpeg *c = *jpeg;
    if (c == NULL)
        return;
    jpeg_destroy_decompress(&c->in);
    jpeg_destroy_compress(&c->out);
    free(c->encoded);
    free(c);
    *jpeg = NULL;
}

sm_status sm_jpeg_new(sm_jpeg **jpeg, sm_error *err)
{
    sm_jpeg *c = sm_calloc(1, sizeof *c);
    if (c == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "no memory for a JPEG codec");
    c->in.err = c->out.err = jpeg_std_error(&c->errors);
    c->errors.error_exit = codec_trap;
    c->errors.output_message = codec_silence;
    if (setjmp(c->jump)) {
        (void)sm_fail(err, SM_ERR_NOMEM, "JPEG: %s", c->message);
        sm_jpeg_free(&c);
        return err->status;
    }
    jpeg_create_decompress(&c->in);
    jpeg_create_compress(&c->out);
    *jpeg = c;
    return SM_OK;
}

/* Tags and libjpeg's guess both err on Aperio's RGB JPEG: without a marker that says otherwise,
 * full-size chroma is what the photometric tag says. */
static void codec_believe(struct jpeg_decompress_struct *in, uint16_t photometric)
{
    const bool subsampled = in->num_components == 3 &&
                            (in->comp_info[0].h_samp_factor != in->comp_info[1].h_samp_factor ||
                             in->comp_info[0].v_samp_factor != in->comp_info[1].v_samp_factor);
    if (in->num_components == 3 && !subsampled && !in->saw_Adobe_marker && !in->saw_JFIF_marker)
        in->jpeg_color_space = photometric == PHOTOMETRIC_YCBCR ? JCS_YCbCr : JCS_RGB;
    in->out_color_space = JCS_RGB;
}

static sm_status codec_header(sm_jpeg *c, const sm_sheet *s, uint32_t tile, const sm_looks *like,
                              sm_error *err)
{
    if (setjmp(c->jump))
        return codec_fail(c, err);
    if (s->tables.len > 0) {
        jpeg_mem_src(&c->in, s->tables.data, s->tables.len);
        (void)jpeg_read_header(&c->in, FALSE);
    }
    jpeg_mem_src(&c->in, s->bytes.data + s->starts[tile], s->starts[tile + 1] - s->starts[tile]);
    (void)jpeg_read_header(&c->in, TRUE);
    if (c->in.num_components != 3 || c->in.image_width != like->tile_w_px ||
        c->in.image_height != like->tile_h_px) {
        jpeg_abort_decompress(&c->in);
        return sm_fail(err, SM_ERR_FORMAT, "a tile is not %" PRIu32 "x%" PRIu32 " px of 3 colours",
                       like->tile_w_px, like->tile_h_px);
    }
    codec_believe(&c->in, like->photometric);
    return SM_OK;
}

/* rgb: tile_h rows of tile_w pixels, 3 bytes each. */
sm_status sm_jpeg_decode(sm_jpeg *c, const sm_sheet *s, uint32_t tile, const sm_looks *like,
                         uint8_t *rgb, sm_error *err)
{
    const sm_status st = codec_header(c, s, tile, like, err);
    if (st != SM_OK)
        return st;
    if (setjmp(c->jump))
        return codec_fail(c, err);
    (void)jpeg_start_decompress(&c->in);
    while (c->in.output_scanline < c->in.output_height) {
        JSAMPROW row = rgb + (size_t)3 * like->tile_w_px * c->in.output_scanline;
        (void)jpeg_read_scanlines(&c->in, &row, 1);
    }
    (void)jpeg_finish_decompress(&c->in);
    if (c->errors.num_warnings != 0)
        return sm_fail(err, SM_ERR_CORRUPT, "a tile of the source decodes with warnings");
    return SM_OK;
}

/* Make the encoder write abbreviated streams, and put its tables where tag 347 comes from. */
static sm_status encoder_tables(sm_jpeg *c, sm_buf *tables, sm_error *err)
{
    if (setjmp(c->jump))
        return codec_fail(c, err);
    c->out.input_components = 3;
    c->out.in_color_space = JCS_RGB;
    c->out.write_JFIF_header = FALSE;
    c->out.write_Adobe_marker = FALSE;        /* Aperio writes none, and readers must cope */
    if (c->out.jpeg_color_space == JCS_RGB) { /* one table serves all three colours */
        c->out.quant_tbl_ptrs[1] = NULL;
        c->out.dc_huff_tbl_ptrs[1] = NULL;
        c->out.ac_huff_tbl_ptrs[1] = NULL;
        for (int i = 0; i < 3; i++) {
            c->out.comp_info[i].component_id = i;
            c->out.comp_info[i].quant_tbl_no = 0;
        }
    }
    jpeg_suppress_tables(&c->out, FALSE); /* an earlier level's tables count as written */
    jpeg_mem_dest(&c->out, &c->encoded, &c->encoded_len);
    jpeg_write_tables(&c->out);
    const sm_status st = sm_buf_append(tables, c->encoded, c->encoded_len, err);
    free(c->encoded);
    c->encoded = NULL;
    return st;
}

/* Colour, sampling and quantisation of the source's tile 0. */
sm_status sm_jpeg_encode_like(sm_jpeg *c, const sm_sheet *source, const sm_looks *like,
                              sm_buf *tables, sm_error *err)
{
    const sm_status st = codec_header(c, source, 0, like, err);
    if (st != SM_OK)
        return st;
    if (setjmp(c->jump))
        return codec_fail(c, err);
    jpeg_copy_critical_parameters(&c->in, &c->out);
    jpeg_abort_decompress(&c->in);
    return encoder_tables(c, tables, err);
}

sm_status sm_jpeg_encode_rgb(sm_jpeg *c, uint32_t tile_px, int quality, sm_buf *tables,
                             sm_error *err)
{
    if (setjmp(c->jump))
        return codec_fail(c, err);
    c->out.image_width = c->out.image_height = tile_px;
    c->out.input_components = 3;
    c->out.in_color_space = JCS_RGB;
    jpeg_set_defaults(&c->out);
    jpeg_set_colorspace(&c->out, JCS_RGB);
    jpeg_set_quality(&c->out, quality, TRUE);
    return encoder_tables(c, tables, err);
}

/* Bytes that sm_sheet_new made room for: at most s->cap tiles. */
sm_status sm_sheet_add(sm_sheet *s, const void *bytes, size_t len, sm_error *err)
{
    const sm_status st = sm_buf_append(&s->bytes, bytes, len, err);
    if (st == SM_OK)
        s->starts[++s->n] = s->bytes.len;
    return st;
}

sm_status sm_jpeg_encode(sm_jpeg *c, const uint8_t *rgb, sm_sheet *s, sm_error *err)
{
    if (setjmp(c->jump))
        return codec_fail(c, err);
    jpeg_mem_dest(&c->out, &c->encoded, &c->encoded_len);
    jpeg_start_compress(&c->out, FALSE);
    while (c->out.next_scanline < c->out.image_height) {
        union { /* libjpeg's row type is not const; it only reads */
            const uint8_t *in;
            JSAMPROW row;
        } at = {.in = rgb + (size_t)3 * c->out.image_width * c->out.next_scanline};
        (void)jpeg_write_scanlines(&c->out, &at.row, 1);
    }
    jpeg_finish_compress(&c->out);
    const sm_status st = sm_sheet_add(s, c->encoded, c->encoded_len, err);
    free(c->encoded);
    c->encoded = NULL;
    return st;
}

void sm_sheet_free(sm_sheet *s)
{
    sm_buf_free(&s->bytes);
    sm_buf_free(&s->tables);
    free(s->starts);
    free(s->index);
    *s = (sm_sheet){0};
}

/* An empty sheet for cap tiles; index is period_cols * period_rows numbers, identity at first. */
sm_status sm_sheet_new(sm_sheet *s, uint32_t cap, uint32_t period_cols, uint32_t period_rows,
                       sm_error *err)
{
    const size_t n_index = (size_t)period_cols * period_rows;
    *s = (sm_sheet){.cap = cap, .period_cols = period_cols, .period_rows = period_rows};
    s->starts = sm_malloc_array((size_t)cap + 1, sizeof *s->starts);
    s->index = sm_malloc_array(n_index, sizeof *s->index);
    if (s->starts == NULL || s->index == NULL) {
        sm_sheet_free(s);
        return sm_fail(err, SM_ERR_NOMEM, "no memory for %" PRIu32 " tiles", cap);
    }
    s->starts[0] = 0;
    for (size_t i = 0; i < n_index; i++)
        s->index[i] = (uint32_t)i;
    return SM_OK;
}

uint32_t sm_sheet_tile(const sm_sheet *s, uint32_t col, uint32_t row)
{
    return s->index[(size_t)(row % s->period_rows) * s->period_cols + col % s->period_cols];
}
