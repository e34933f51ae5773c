/* Retiling's dealings with libjpeg: reading coefficients (and half-size pixels from the same
 * entropy decoding), and coding them again. */
#include <stdlib.h>
#include <string.h>

#include "tiler/coef_pack.h"
#include "tiler/retile_internal.h"

/* ---- what the level's tiles must look like ---- */

/* Every slot is allocated, so that libjpeg never fills in tables of its own. Inside sm_jpeg_run. */
static void allocate_tables(j_decompress_ptr dec)
{
    j_common_ptr common = (j_common_ptr)dec;
    for (int i = 0; i < NUM_QUANT_TBLS; i++)
        dec->quant_tbl_ptrs[i] = jpeg_alloc_quant_table(common);
    for (int i = 0; i < NUM_HUFF_TBLS; i++) {
        dec->dc_huff_tbl_ptrs[i] = jpeg_alloc_huff_table(common);
        dec->ac_huff_tbl_ptrs[i] = jpeg_alloc_huff_table(common);
    }
}

/* Forget the tables of the tile before: else a tile that lacks one would depend on it, and so the
 * output on which thread took which tile. */
static void clear_tables(j_decompress_ptr dec)
{
    for (int i = 0; i < NUM_QUANT_TBLS; i++)
        memset(dec->quant_tbl_ptrs[i], 0, sizeof(JQUANT_TBL));
    for (int i = 0; i < NUM_HUFF_TBLS; i++) {
        memset(dec->dc_huff_tbl_ptrs[i], 0, sizeof(JHUFF_TBL));
        memset(dec->ac_huff_tbl_ptrs[i], 0, sizeof(JHUFF_TBL));
    }
}

/* Load the level's tables and the tile's header. Inside sm_jpeg_run. */
static void read_header(j_decompress_ptr dec, const sm_level *l, const uint8_t *bytes, size_t len)
{
    clear_tables(dec);
    if (l->jpeg_tables != NULL) {
        jpeg_mem_src(dec, l->jpeg_tables, l->jpeg_tables_len);
        (void)jpeg_read_header(dec, FALSE);
    }
    jpeg_mem_src(dec, bytes, len);
    (void)jpeg_read_header(dec, TRUE);
    dec->jpeg_color_space = l->jpeg.colour == SM_COLOUR_YCBCR ? JCS_YCbCr : JCS_RGB;
    dec->out_color_space = JCS_RGB;
}

/* NULL if the tile's shape is the level's; else what differs. */
static const char *shape_difference(const sm_retile *r, const struct jpeg_decompress_struct *dec)
{
    const sm_level *l = r->level;
    if (dec->num_components != 3 || dec->data_precision != 8 || dec->progressive_mode ||
        dec->arith_code)
        return "a tile is not a baseline JPEG of three colours";
    if (dec->comp_info[0].h_samp_factor != l->jpeg.h_samp ||
        dec->comp_info[0].v_samp_factor != l->jpeg.v_samp)
        return "its tiles differ in chroma subsampling";
    for (int c = 1; c < 3; c++)
        if (dec->comp_info[c].h_samp_factor != 1 || dec->comp_info[c].v_samp_factor != 1)
            return "its tiles differ in chroma subsampling";
    return NULL;
}

static const char *table_difference(const sm_retile *r, const struct jpeg_decompress_struct *dec)
{
    for (int c = 0; c < 3; c++) {
        const int t = dec->comp_info[c].quant_tbl_no; /* a byte of the tile: libjpeg looks later */
        const JQUANT_TBL *q = t >= 0 && t < NUM_QUANT_TBLS ? dec->quant_tbl_ptrs[t] : NULL;
        if (q == NULL || memcmp(q->quantval, r->quant[r->comps[c].table], sizeof r->quant[0]) != 0)
            return "its tiles have different quantisation tables";
    }
    return NULL;
}

/* Work of sm_jpeg_run: remember the first tile's tables. */
typedef struct learn_work {
    sm_retile *r;
    j_decompress_ptr dec;
    bool open;
    const uint8_t *bytes;
    size_t len;
    const char *why_not;
} learn_work;

static void learn(void *arg)
{
    learn_work *w = arg;
    sm_retile *r = w->r;
    jpeg_create_decompress(w->dec);
    w->open = true;
    allocate_tables(w->dec);
    read_header(w->dec, r->level, w->bytes, w->len);
    w->why_not = shape_difference(r, w->dec);
    for (int c = 0; w->why_not == NULL && c < 3; c++) {
        const int t = w->dec->comp_info[c].quant_tbl_no;
        if (t < 0 || t >= NUM_QUANT_TBLS || w->dec->quant_tbl_ptrs[t]->quantval[0] == 0) {
            w->why_not = "a JPEG tile lacks a quantisation table";
            return;
        }
        r->comps[c].table = t;
        r->has_table[t] = true;
        memcpy(r->quant[t], w->dec->quant_tbl_ptrs[t]->quantval, sizeof r->quant[t]);
    }
}

sm_status retile_learn_tables(sm_retile *r, const uint8_t *bytes, size_t len, sm_error *err)
{
    struct jpeg_decompress_struct dec;
    learn_work w = {.r = r, .dec = &dec, .bytes = bytes, .len = len};
    sm_jpeg_guard *guard = NULL;
    sm_status st = sm_jpeg_guard_new(SM_ERR_CORRUPT, &guard, err);
    if (st != SM_OK)
        return st;
    dec.err = sm_jpeg_guard_manager(guard);
    st = sm_jpeg_run(guard, learn, &w, err);
    if (w.open)
        jpeg_destroy_decompress(&dec);
    sm_jpeg_guard_free(&guard);
    if (st == SM_OK && w.why_not != NULL)
        st = sm_fail(err, SM_ERR_FORMAT, "%s", w.why_not);
    return st;
}

/* ---- encoding ---- */

/* Parameters of every output tile. Inside sm_jpeg_run. */
static void set_encoder(const sm_retile *r, j_compress_ptr enc)
{
    const bool ycbcr = r->level->jpeg.colour == SM_COLOUR_YCBCR;
    enc->image_width = r->out->tile_w_px;
    enc->image_height = r->out->tile_h_px;
    enc->input_components = 3;
    enc->in_color_space = ycbcr ? JCS_YCbCr : JCS_RGB;
    jpeg_set_defaults(enc);
    jpeg_set_colorspace(enc, enc->in_color_space);
    enc->write_JFIF_header = FALSE;
    enc->write_Adobe_marker = FALSE;
    for (int t = 0; t < NUM_QUANT_TBLS; t++) {
        if (!r->has_table[t])
            continue;
        if (enc->quant_tbl_ptrs[t] == NULL)
            enc->quant_tbl_ptrs[t] = jpeg_alloc_quant_table((j_common_ptr)enc);
        memcpy(enc->quant_tbl_ptrs[t]->quantval, r->quant[t], sizeof r->quant[t]);
        enc->quant_tbl_ptrs[t]->sent_table = FALSE;
    }
    for (int t = 0; t < NUM_QUANT_TBLS; t++)
        if (!r->has_table[t] && enc->quant_tbl_ptrs[t] != NULL)
            enc->quant_tbl_ptrs[t]->sent_table =
                TRUE; /* jpeg_set_defaults made it; nobody uses it */
    for (int c = 0; c < 3; c++) {
        jpeg_component_info *k = &enc->comp_info[c];
        k->h_samp_factor = (int)r->comps[c].h;
        k->v_samp_factor = (int)r->comps[c].v;
        k->quant_tbl_no = r->comps[c].table;
        k->dc_tbl_no = k->ac_tbl_no = ycbcr && c > 0 ? 1 : 0;
    }
}

/* Work of sm_jpeg_run: the tables-only stream. */
static void code_tables(void *arg)
{
    sm_retile_worker *w = arg;
    jpeg_create_compress(&w->enc);
    w->enc_open = true;
    set_encoder(w->r, &w->enc);
    jpeg_mem_dest(&w->enc, &w->coded, &w->n_coded);
    jpeg_write_tables(&w->enc);
}

sm_status sm_retile_tables(sm_retile *r, sm_buf *out, sm_error *err)
{
    sm_retile_worker w = {.r = r};
    sm_status st = sm_jpeg_guard_new(SM_ERR_INTERNAL, &w.enc_guard, err);
    if (st != SM_OK)
        return st;
    w.enc.err = sm_jpeg_guard_manager(w.enc_guard);
    st = sm_jpeg_run(w.enc_guard, code_tables, &w, err);
    if (st == SM_OK)
        st = sm_buf_append(out, w.coded, w.n_coded, err);
    free(w.coded);
    if (w.enc_open)
        jpeg_destroy_compress(&w.enc);
    sm_jpeg_guard_free(&w.enc_guard);
    return st;
}

/* Work of sm_jpeg_run: Huffman-code the tile in w->blocks into w->coded. */
static void code_tile(void *arg)
{
    sm_retile_worker *w = arg;
    sm_retile *r = w->r;
    j_compress_ptr enc = &w->enc;
    jvirt_barray_ptr arrays[3];
    if (!w->enc_open) {
        jpeg_create_compress(enc);
        w->enc_open = true;
        set_encoder(r, enc);
    }
    for (int c = 0; c < 3; c++)
        arrays[c] =
            enc->mem->request_virt_barray((j_common_ptr)enc, JPOOL_IMAGE, FALSE, r->comps[c].dst_w,
                                          r->comps[c].dst_h, r->comps[c].v);
    jpeg_mem_dest(enc, &w->coded, &w->n_coded);
    jpeg_write_coefficients(enc, arrays);
    jpeg_suppress_tables(enc, TRUE);
    for (int c = 0; c < 3; c++) {
        const retile_component *k = &r->comps[c];
        for (uint32_t y = 0; y < k->dst_h; y += k->v) {
            JBLOCKARRAY rows =
                enc->mem->access_virt_barray((j_common_ptr)enc, arrays[c], y, k->v, TRUE);
            for (uint32_t i = 0; i < k->v; i++)
                memcpy(rows[i], w->blocks[k->part + (size_t)(y + i) * k->dst_w],
                       k->dst_w * sizeof(JBLOCK));
        }
    }
    jpeg_finish_compress(enc);
}

sm_status retile_encode(sm_retile_worker *w, sm_buf *out, sm_error *err)
{
    w->coded = NULL;
    w->n_coded = 0;
    sm_status st = sm_jpeg_run(w->enc_guard, code_tile, w, err);
    if (st == SM_OK)
        st = sm_buf_append(out, w->coded, w->n_coded, err);
    else if (w->enc_open)
        jpeg_abort_compress(&w->enc);
    free(w->coded);
    w->coded = NULL;
    return st;
}

/* ---- decoding ---- */

/* Work of sm_jpeg_run. */
static void open_decoder(void *arg)
{
    sm_retile_worker *w = arg;
    jpeg_create_decompress(&w->dec);
    w->dec_open = true;
    allocate_tables(&w->dec);
}

sm_status sm_retile_worker_new(sm_retile *r, unsigned worker, sm_retile_worker **w, sm_error *err)
{
    sm_retile_worker *k = sm_calloc(1, sizeof *k);
    if (k == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "out of memory");
    k->r = r;
    k->worker = worker;
    sm_status st = sm_jpeg_guard_new(SM_ERR_CORRUPT, &k->dec_guard, err);
    if (st == SM_OK)
        st = sm_jpeg_guard_new(SM_ERR_INTERNAL, &k->enc_guard, err);
    if (st == SM_OK) {
        k->dec.err = sm_jpeg_guard_manager(k->dec_guard);
        k->enc.err = sm_jpeg_guard_manager(k->enc_guard);
        st = sm_jpeg_run(k->dec_guard, open_decoder, k, err);
    }
    k->blocks = sm_malloc_array(r->blocks, sizeof(JBLOCK));
    if (st == SM_OK && k->blocks == NULL)
        st = sm_fail(err, SM_ERR_NOMEM, "out of memory for the coefficients of a tile");
    if (st == SM_OK)
        *w = k;
    else
        sm_retile_worker_free(&k);
    return st;
}

void sm_retile_worker_free(sm_retile_worker **w)
{
    sm_retile_worker *k = *w;
    if (k == NULL)
        return;
    if (k->dec_open)
        jpeg_destroy_decompress(&k->dec);
    if (k->enc_open)
        jpeg_destroy_compress(&k->enc);
    sm_jpeg_guard_free(&k->dec_guard);
    sm_jpeg_guard_free(&k->enc_guard);
    sm_buf_free(&k->packing);
    free(k->blocks);
    free(k);
    *w = NULL;
}

/* Half-size pixels from the coefficients that are all there already. Inside sm_jpeg_run. */
static void read_half(j_decompress_ptr dec, uint8_t *half, size_t stride)
{
    while (!jpeg_input_complete(dec))
        if (jpeg_consume_input(dec) == JPEG_SUSPENDED)
            break;
    (void)jpeg_start_output(dec, dec->input_scan_number);
    while (dec->output_scanline < dec->output_height) {
        JSAMPROW rows[16];
        for (JDIMENSION i = 0; i < 16; i++) {
            const JDIMENSION y = dec->output_scanline + i;
            rows[i] = half + (y < dec->output_height ? y : dec->output_height - 1) * stride;
        }
        const JDIMENSION left = dec->output_height - dec->output_scanline;
        (void)jpeg_read_scanlines(dec, rows, left < 16 ? left : 16);
    }
    (void)jpeg_finish_output(dec);
}

/* Work of sm_jpeg_run: entropy-decode a tile, perhaps render it at half size. */
typedef struct decode_work {
    sm_retile_worker *w;
    const uint8_t *bytes;
    size_t len;
    uint8_t *half;
    size_t stride;
    const char *why_not; /* decodes, but does not belong to the level */
} decode_work;

/* Has the first scan's Huffman tables? libjpeg's fast decoder would take an empty one for one whose
 * codes all mean 0. */
static bool has_huffman(const struct jpeg_decompress_struct *dec)
{
    for (int i = 0; i < dec->comps_in_scan; i++) {
        const JHUFF_TBL *tables[2] = {dec->dc_huff_tbl_ptrs[dec->cur_comp_info[i]->dc_tbl_no & 3],
                                      dec->ac_huff_tbl_ptrs[dec->cur_comp_info[i]->ac_tbl_no & 3]};
        for (int k = 0; k < 2; k++) {
            unsigned codes = 0;
            for (size_t n = 1; n <= 16; n++)
                codes += tables[k]->bits[n];
            if (codes == 0)
                return false;
        }
    }
    return true;
}

/* Can n blocks be coded with the standard tables, whatever stands before them? AC up to 10 bits, DC
 * differences up to 11 (T.81 F.1.2): libjpeg would write nonsense for more, without a word. */
static bool codable(const JCOEF *b, size_t n)
{
    for (size_t i = 0; i < n; i++, b += DCTSIZE2) {
        unsigned beyond = 0;
        for (size_t k = 0; k < DCTSIZE2; k++)
            beyond |= (uint16_t)(b[k] + 1023) > 2046;
        if (beyond != 0 && b[0] == -1024) { /* black without noise */
            beyond = 0;
            for (size_t k = 1; k < DCTSIZE2; k++)
                beyond |= (uint16_t)(b[k] + 1023) > 2046;
        }
        if (beyond != 0)
            return false;
    }
    return true;
}

/* Inside sm_jpeg_run. */
static bool all_codable(const sm_retile_worker *w, j_decompress_ptr dec)
{
    for (int c = 0; c < 3; c++) {
        const jpeg_component_info *k = &dec->comp_info[c];
        const JDIMENSION step = (JDIMENSION)k->v_samp_factor;
        for (JDIMENSION y = 0; y < k->height_in_blocks; y += step) {
            JBLOCKARRAY rows =
                dec->mem->access_virt_barray((j_common_ptr)dec, w->coefs[c], y, step, FALSE);
            for (JDIMENSION i = 0; i < step; i++)
                if (!codable(rows[i][0], k->width_in_blocks))
                    return false;
        }
    }
    return true;
}

static void decode_tile(void *arg)
{
    decode_work *d = arg;
    sm_retile_worker *w = d->w;
    j_decompress_ptr dec = &w->dec;
    const sm_level *l = w->r->level;
    jpeg_abort_decompress(dec);
    read_header(dec, l, d->bytes, d->len);
    d->why_not = shape_difference(w->r, dec);
    if (d->why_not != NULL)
        return;
    if (dec->image_width != l->tile_w_px || dec->image_height != l->tile_h_px)
        sm_jpeg_stop(w->dec_guard, SM_ERR_CORRUPT, "an image of %u x %u px in a tile of %u x %u",
                     dec->image_width, dec->image_height, l->tile_w_px, l->tile_h_px);
    d->why_not = table_difference(w->r, dec);
    if (d->why_not != NULL)
        return;
    if (!has_huffman(dec))
        sm_jpeg_stop(w->dec_guard, SM_ERR_CORRUPT,
                     "a Huffman table is neither in the tile nor in the level");
    dec->buffered_image = d->half != NULL; /* keeps the coefficients and renders them too */
    dec->do_block_smoothing = FALSE;
    if (d->half != NULL) {
        dec->scale_num = 1;
        dec->scale_denom = 2;
        (void)jpeg_start_decompress(dec);
        read_half(dec, d->half, d->stride);
    }
    w->coefs = jpeg_read_coefficients(dec);
    if (w->coefs == NULL)
        sm_jpeg_stop(w->dec_guard, SM_ERR_CORRUPT, "no coefficients");
    if (!all_codable(w, dec))
        d->why_not = "a tile has coefficients that the standard Huffman tables cannot code";
}

sm_status sm_retile_decode(sm_retile_worker *w, const uint8_t *bytes, size_t len, uint8_t *half,
                           size_t stride, sm_error *err)
{
    decode_work d = {w, bytes, len, half, stride, NULL};
    sm_status st = sm_jpeg_run(w->dec_guard, decode_tile, &d, err);
    if (st == SM_OK && d.why_not != NULL)
        st = sm_fail(err, SM_ERR_FORMAT, "%s", d.why_not);
    if (st != SM_OK)
        jpeg_abort_decompress(&w->dec);
    return st;
}

/* Work of sm_jpeg_run: libjpeg hands out its coefficient rows. */
typedef struct pack_work {
    sm_retile_worker *w;
    uint32_t src_x, src_y, width, height;
    sm_status status; /* of packing */
    sm_error *err;
} pack_work;

static void pack(void *arg)
{
    pack_work *p = arg;
    sm_retile_worker *w = p->w;
    for (int c = 0; c < 3; c++) {
        const retile_component *k = &w->r->comps[c];
        const uint32_t x = p->src_x * k->h, y0 = p->src_y * k->v;
        for (uint32_t y = 0; y < p->height * k->v && p->status == SM_OK; y += k->v) {
            JBLOCKARRAY rows = w->dec.mem->access_virt_barray((j_common_ptr)&w->dec, w->coefs[c],
                                                              y0 + y, k->v, FALSE);
            for (uint32_t i = 0; i < k->v && p->status == SM_OK; i++)
                p->status = sm_coef_pack(rows[i][x], (size_t)p->width * k->h, &w->packing, p->err);
        }
    }
}

sm_status retile_pack(sm_retile_worker *w, uint32_t src_x, uint32_t src_y, uint32_t width,
                      uint32_t height, sm_error *err)
{
    pack_work p = {w, src_x, src_y, width, height, SM_OK, err};
    w->packing.len = 0;
    const sm_status st = sm_jpeg_run(w->dec_guard, pack, &p, err);
    return st == SM_OK ? p.status : st;
}
