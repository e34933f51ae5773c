/* A JPEG tile of one colour, coded with a level's own tables. */
#include "tiler/blank_jpeg.h"

#include <stdbool.h>
#include <stdio.h> /* jpeglib.h needs FILE */
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>

#include "tiler/jpeg_guard.h"

/* Everything with a libjpeg lifetime, so that one place can release it. */
typedef struct blank {
    struct jpeg_decompress_struct dec;
    struct jpeg_compress_struct enc;
    const sm_level *level;
    sm_jpeg_guard *guard;
    bool dec_open, enc_open, whole;
    unsigned char *bytes;
    unsigned long n;
    JSAMPLE *row;
} blank;

static void blank_close(blank *b)
{
    if (b->enc_open)
        jpeg_destroy_compress(&b->enc);
    if (b->dec_open)
        jpeg_destroy_decompress(&b->dec);
    sm_jpeg_guard_free(&b->guard);
    free(b->bytes);
    free(b->row);
}

static void copy_quant(const struct jpeg_decompress_struct *from, j_compress_ptr to)
{
    for (int t = 0; t < NUM_QUANT_TBLS; t++) {
        const JQUANT_TBL *q = from->quant_tbl_ptrs[t];
        if (q == NULL)
            continue;
        if (to->quant_tbl_ptrs[t] == NULL)
            to->quant_tbl_ptrs[t] = jpeg_alloc_quant_table((j_common_ptr)to);
        memcpy(to->quant_tbl_ptrs[t]->quantval, q->quantval, sizeof q->quantval);
    }
}

static void copy_huffman(JHUFF_TBL *const from[], JHUFF_TBL *to[], j_compress_ptr enc)
{
    for (int t = 0; t < NUM_HUFF_TBLS; t++) {
        if (from[t] == NULL)
            continue;
        if (to[t] == NULL)
            to[t] = jpeg_alloc_huff_table((j_common_ptr)enc);
        memcpy(to[t]->bits, from[t]->bits, sizeof from[t]->bits);
        memcpy(to[t]->huffval, from[t]->huffval, sizeof from[t]->huffval);
    }
}

/* Inside sm_jpeg_run. */
static void set_up(blank *b, const sm_level *l)
{
    const bool ycbcr = l->jpeg.colour == SM_COLOUR_YCBCR;
    b->enc.image_width = l->tile_w_px;
    b->enc.image_height = l->tile_h_px;
    b->enc.input_components = 3;
    b->enc.in_color_space = JCS_RGB;
    jpeg_set_defaults(&b->enc);
    jpeg_set_colorspace(&b->enc, ycbcr ? JCS_YCbCr : JCS_RGB);
    b->enc.comp_info[0].h_samp_factor = l->jpeg.h_samp;
    b->enc.comp_info[0].v_samp_factor = l->jpeg.v_samp;
    b->enc.write_JFIF_header = FALSE;
    b->enc.write_Adobe_marker = FALSE;
    if (l->jpeg_tables == NULL)
        return;
    jpeg_mem_src(&b->dec, l->jpeg_tables, l->jpeg_tables_len);
    (void)jpeg_read_header(&b->dec, FALSE);
    copy_quant(&b->dec, &b->enc);
    copy_huffman(b->dec.dc_huff_tbl_ptrs, b->enc.dc_huff_tbl_ptrs, &b->enc);
    copy_huffman(b->dec.ac_huff_tbl_ptrs, b->enc.ac_huff_tbl_ptrs, &b->enc);
    for (int c = 1; c < 3; c++) { /* one table in the level: all components use it */
        if (b->dec.quant_tbl_ptrs[1] == NULL)
            b->enc.comp_info[c].quant_tbl_no = 0;
        if (b->dec.dc_huff_tbl_ptrs[1] == NULL)
            b->enc.comp_info[c].dc_tbl_no = 0;
        if (b->dec.ac_huff_tbl_ptrs[1] == NULL)
            b->enc.comp_info[c].ac_tbl_no = 0;
    }
    jpeg_suppress_tables(&b->enc, TRUE);
}

/* Tables-only streams of DQT alone exist: the Huffman tables are then in each tile. */
static bool tables_are_whole(const blank *b, const sm_level *l)
{
    return l->jpeg_tables == NULL ||
           (b->dec.quant_tbl_ptrs[0] != NULL && b->dec.dc_huff_tbl_ptrs[0] != NULL &&
            b->dec.ac_huff_tbl_ptrs[0] != NULL);
}

/* Work of sm_jpeg_run. */
static void encode(void *arg)
{
    blank *b = arg;
    const sm_level *l = b->level;
    jpeg_create_decompress(&b->dec);
    b->dec_open = true;
    jpeg_create_compress(&b->enc);
    b->enc_open = true;
    set_up(b, l);
    b->whole = tables_are_whole(b, l);
    if (!b->whole)
        return;
    jpeg_mem_dest(&b->enc, &b->bytes, &b->n);
    jpeg_start_compress(&b->enc, l->jpeg_tables == NULL);
    while (b->enc.next_scanline < b->enc.image_height)
        (void)jpeg_write_scanlines(&b->enc, &b->row, 1);
    jpeg_finish_compress(&b->enc);
}

sm_status sm_blank_jpeg(const sm_level *l, const uint8_t rgb[3], sm_buf *out, sm_error *err)
{
    blank b = {.level = l, .row = sm_malloc_array(l->tile_w_px, 3)};
    if (b.row == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "out of memory for a blank tile");
    for (uint32_t x = 0; x < l->tile_w_px; x++)
        memcpy(b.row + 3 * (size_t)x, rgb, 3);
    sm_status st = sm_jpeg_guard_new(SM_ERR_FORMAT, &b.guard, err);
    if (st == SM_OK) {
        b.dec.err = b.enc.err = sm_jpeg_guard_manager(b.guard);
        st = sm_jpeg_run(b.guard, encode, &b, err);
    }
    if (st == SM_OK && !b.whole)
        st = sm_fail(err, SM_ERR_FORMAT, "the level's JPEG tables are not whole");
    if (st == SM_OK)
        st = sm_buf_append(out, b.bytes, b.n, err);
    blank_close(&b);
    return st;
}
