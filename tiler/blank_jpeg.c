/* A JPEG tile of one colour, coded with a level's own tables. */
#include "tiler/blank_jpeg.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h> /* jpeglib.h needs FILE */
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>

#include "common/geom.h"
#include "tiler/jpeg_guard.h"

/* Everything with a libjpeg lifetime, so that one place can release it. */
typedef struct blank {
    struct jpeg_decompress_struct dec;
    struct jpeg_compress_struct enc;
    const sm_level *level;
    sm_jpeg_guard *guard;
    double colour[3]; /* of the components */
    bool dec_open, enc_open;
    const char *why_not; /* the level's tables cannot code it */
    unsigned char *bytes;
    unsigned long n;
} blank;

static void blank_close(blank *b)
{
    if (b->enc_open)
        jpeg_destroy_compress(&b->enc);
    if (b->dec_open)
        jpeg_destroy_decompress(&b->dec);
    sm_jpeg_guard_free(&b->guard);
    free(b->bytes);
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
}

/* Tables-only streams of DQT alone exist: the Huffman tables are then in each tile. */
static bool tables_are_whole(const blank *b, const sm_level *l)
{
    return l->jpeg_tables == NULL ||
           (b->dec.quant_tbl_ptrs[0] != NULL && b->dec.dc_huff_tbl_ptrs[0] != NULL &&
            b->dec.ac_huff_tbl_ptrs[0] != NULL);
}

static bool has_code(const JHUFF_TBL *table, unsigned symbol)
{
    unsigned codes = 0;
    for (size_t n = 1; n <= 16; n++)
        codes += table->bits[n];
    for (unsigned i = 0; i < codes && i < sizeof table->huffval; i++)
        if (table->huffval[i] == symbol)
            return true;
    return false;
}

/* DC of every block of component c; the others are zero. Sets why_not if no code says so: libjpeg
 * divides by quantisers and emits codes without looking whether they are there. */
static JCOEF dc_of(blank *b, int c)
{
    const jpeg_component_info *k = &b->enc.comp_info[c];
    const UINT16 q = b->enc.quant_tbl_ptrs[k->quant_tbl_no]->quantval[0];
    if (q == 0) {
        b->why_not = "a quantiser of the level is zero";
        return 0;
    }
    const long dc = lround((b->colour[c] - 128.0) * 8.0 / q);
    unsigned bits = 0;
    for (long left = labs(dc); left > 0; left /= 2)
        bits++;
    const JHUFF_TBL *table = b->enc.dc_huff_tbl_ptrs[k->dc_tbl_no];
    if (!has_code(table, bits) || !has_code(table, 0) ||
        !has_code(b->enc.ac_huff_tbl_ptrs[k->ac_tbl_no], 0))
        b->why_not = "the level's Huffman tables have no code for the colour";
    return (JCOEF)dc;
}

static void fill(blank *b, jvirt_barray_ptr array, int c, JDIMENSION blocks_w, JDIMENSION blocks_h)
{
    const JCOEF dc = dc_of(b, c);
    const JDIMENSION step = (JDIMENSION)b->enc.comp_info[c].v_samp_factor;
    for (JDIMENSION y = 0; y < blocks_h; y += step) {
        JBLOCKARRAY rows =
            b->enc.mem->access_virt_barray((j_common_ptr)&b->enc, array, y, step, TRUE);
        for (JDIMENSION i = 0; i < step; i++)
            for (JDIMENSION x = 0; x < blocks_w; x++)
                rows[i][x][0] = dc;
    }
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
    if (!tables_are_whole(b, l)) {
        b->why_not = "the level's JPEG tables are not whole";
        return;
    }
    jvirt_barray_ptr arrays[3];
    const JDIMENSION mcus_w = sm_ceil_div_u32(l->tile_w_px, 8u * l->jpeg.h_samp);
    const JDIMENSION mcus_h = sm_ceil_div_u32(l->tile_h_px, 8u * l->jpeg.v_samp);
    for (int c = 0; c < 3; c++) {
        const jpeg_component_info *k = &b->enc.comp_info[c];
        arrays[c] = b->enc.mem->request_virt_barray(
            (j_common_ptr)&b->enc, JPOOL_IMAGE, TRUE, mcus_w * (JDIMENSION)k->h_samp_factor,
            mcus_h * (JDIMENSION)k->v_samp_factor, (JDIMENSION)k->v_samp_factor);
    }
    jpeg_mem_dest(&b->enc, &b->bytes, &b->n);
    jpeg_write_coefficients(&b->enc, arrays);
    jpeg_suppress_tables(&b->enc, l->jpeg_tables != NULL);
    for (int c = 0; c < 3; c++) {
        const jpeg_component_info *k = &b->enc.comp_info[c];
        fill(b, arrays[c], c, mcus_w * (JDIMENSION)k->h_samp_factor,
             mcus_h * (JDIMENSION)k->v_samp_factor);
    }
    if (b->why_not == NULL)
        jpeg_finish_compress(&b->enc);
}

static void set_colour(blank *b, const uint8_t rgb[3])
{
    const double red = rgb[0], green = rgb[1], blue = rgb[2];
    if (b->level->jpeg.colour == SM_COLOUR_YCBCR) { /* JFIF 1.02 */
        b->colour[0] = 0.299 * red + 0.587 * green + 0.114 * blue;
        b->colour[1] = 128.0 - 0.168736 * red - 0.331264 * green + 0.5 * blue;
        b->colour[2] = 128.0 + 0.5 * red - 0.418688 * green - 0.081312 * blue;
        return;
    }
    b->colour[0] = red;
    b->colour[1] = green;
    b->colour[2] = blue;
}

sm_status sm_blank_jpeg(const sm_level *l, const uint8_t rgb[3], sm_buf *out, sm_error *err)
{
    blank b = {.level = l};
    set_colour(&b, rgb);
    sm_status st = sm_jpeg_guard_new(SM_ERR_FORMAT, &b.guard, err);
    if (st == SM_OK) {
        b.dec.err = b.enc.err = sm_jpeg_guard_manager(b.guard);
        st = sm_jpeg_run(b.guard, encode, &b, err);
    }
    if (st == SM_OK && b.why_not != NULL)
        st = sm_fail(err, SM_ERR_FORMAT, "%s", b.why_not);
    if (st == SM_OK)
        st = sm_buf_append(out, b.bytes, b.n, err);
    blank_close(&b);
    return st;
}
