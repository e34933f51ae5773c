/* JPEG coefficients from one tile grid to another. Output tiles are arrays of 8x8 blocks that fill
 * up as source tiles arrive, counted in MCUs; a complete one is Huffman-coded and handed out. */
#include "tiler/retile.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h> /* jpeglib.h needs FILE */
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>

#include "tiler/jpeg_guard.h"

/* One output tile that still lacks MCUs. Blocks of component c start at part[c]. */
typedef struct coef_tile {
    atomic_uint_fast32_t lacking;
    atomic_uint_fast64_t seq;
    struct coef_tile *next_free;
    JBLOCK blocks[];
} coef_tile;

/* Geometry of one component: blocks across and down, in a source and in an output tile. */
typedef struct component {
    uint32_t h, v;                 /* blocks of an MCU */
    uint32_t src_w, src_h;         /* blocks of a source tile */
    uint32_t dst_w, dst_h;         /* blocks of an output tile */
    size_t part;                   /* first block within coef_tile.blocks */
    int table;                     /* quantisation table number */
    JCOEF fill_dc;                 /* of the background colour */
} component;

struct sm_retile {
    const sm_level *level;
    const sm_out_level *out;
    uint32_t out_level;
    sm_retile_tile on_tile;
    void *user;
    component comps[3];
    size_t blocks;                 /* of one output tile */
    bool has_table[NUM_QUANT_TBLS];
    UINT16 quant[NUM_QUANT_TBLS][DCTSIZE2];
    uint32_t mcu_w, mcu_h;         /* px */
    uint32_t total_w, total_h;     /* MCUs that arrive in all */
    pthread_mutex_t lock;          /* tiles, free_list */
    coef_tile **tiles;
    coef_tile *free_list;
};

struct sm_retile_worker {
    sm_retile *r;
    unsigned worker;
    struct jpeg_decompress_struct dec;
    struct jpeg_compress_struct enc;
    sm_jpeg_guard *dec_guard, *enc_guard;
    bool dec_open, enc_open;
    jvirt_barray_ptr *coefs;       /* of the decoded tile; libjpeg's */
    unsigned char *coded;          /* of the tile being encoded; malloc'ed by libjpeg */
    unsigned long n_coded;
};

/* ---- what the level's tiles must look like ---- */

/* Load the level's tables and the tile's header. Inside sm_jpeg_run. */
static void read_header(j_decompress_ptr dec, const sm_level *l, const uint8_t *bytes, size_t len)
{
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
        const JQUANT_TBL *q = dec->quant_tbl_ptrs[dec->comp_info[c].quant_tbl_no];
        if (q == NULL ||
            memcmp(q->quantval, r->quant[r->comps[c].table], sizeof r->quant[0]) != 0)
            return "its tiles have different quantisation tables";
    }
    return NULL;
}

/* DC coefficient of a block that is all `value`. */
static JCOEF dc_of(double value, UINT16 q)
{
    return (JCOEF)lround((value - 128.0) * 8.0 / q);
}

static void fill_colour(sm_retile *r, const uint8_t rgb[3])
{
    double v[3] = {rgb[0], rgb[1], rgb[2]};
    if (r->level->jpeg.colour == SM_COLOUR_YCBCR) { /* JFIF 1.02 */
        const double red = v[0], green = v[1], blue = v[2];
        v[0] = 0.299 * red + 0.587 * green + 0.114 * blue;
        v[1] = 128.0 - 0.168736 * red - 0.331264 * green + 0.5 * blue;
        v[2] = 128.0 + 0.5 * red - 0.418688 * green - 0.081312 * blue;
    }
    for (int c = 0; c < 3; c++)
        r->comps[c].fill_dc = dc_of(v[c], r->quant[r->comps[c].table][0]);
}

static void set_geometry(sm_retile *r)
{
    const sm_level *l = r->level;
    r->mcu_w = 8u * l->jpeg.h_samp;
    r->mcu_h = 8u * l->jpeg.v_samp;
    const uint32_t T_w = r->out->tile_w_px / r->mcu_w, T_h = r->out->tile_h_px / r->mcu_h;
    const uint32_t S_w = l->tile_w_px / r->mcu_w, S_h = l->tile_h_px / r->mcu_h;
    r->total_w = sm_min_u32(l->cols * S_w, r->out->grid.cols * T_w);
    r->total_h = sm_min_u32(l->rows * S_h, r->out->grid.rows * T_h);
    r->blocks = 0;
    for (int c = 0; c < 3; c++) {
        component *k = &r->comps[c];
        k->h = c == 0 ? l->jpeg.h_samp : 1;
        k->v = c == 0 ? l->jpeg.v_samp : 1;
        k->src_w = S_w * k->h;
        k->src_h = S_h * k->v;
        k->dst_w = T_w * k->h;
        k->dst_h = T_h * k->v;
        k->part = r->blocks;
        r->blocks += (size_t)k->dst_w * k->dst_h;
    }
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
    read_header(w->dec, r->level, w->bytes, w->len);
    w->why_not = shape_difference(r, w->dec);
    for (int c = 0; w->why_not == NULL && c < 3; c++) {
        const int t = w->dec->comp_info[c].quant_tbl_no;
        if (t < 0 || t >= NUM_QUANT_TBLS || w->dec->quant_tbl_ptrs[t] == NULL) {
            w->why_not = "a JPEG tile lacks a quantisation table";
            return;
        }
        r->comps[c].table = t;
        r->has_table[t] = true;
        memcpy(r->quant[t], w->dec->quant_tbl_ptrs[t]->quantval, sizeof r->quant[t]);
    }
}

static sm_status learn_tables(sm_retile *r, const uint8_t *bytes, size_t len, sm_error *err)
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

sm_status sm_retile_new(const sm_slide *slide, const sm_plan *plan, uint32_t out_level,
                        const uint8_t *first_tile, size_t len, sm_retile_tile on_tile, void *user,
                        sm_retile **retile, sm_error *err)
{
    sm_retile *r = sm_calloc(1, sizeof *r);
    if (r == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "out of memory");
    pthread_mutex_init(&r->lock, NULL);
    r->out = &plan->out[out_level];
    r->out_level = out_level;
    r->level = sm_slide_level(slide, r->out->source_level);
    r->on_tile = on_tile;
    r->user = user;
    set_geometry(r);
    sm_status st = learn_tables(r, first_tile, len, err);
    if (st == SM_OK) {
        fill_colour(r, sm_slide_get_info(slide)->background);
        r->tiles = sm_calloc((size_t)sm_grid_tiles(r->out->grid), sizeof(coef_tile *));
        if (r->tiles == NULL)
            st = sm_fail(err, SM_ERR_NOMEM, "out of memory for the tiles of a retiled level");
    }
    if (st == SM_OK)
        *retile = r;
    else
        sm_retile_free(&r);
    return st;
}

void sm_retile_free(sm_retile **retile)
{
    sm_retile *r = *retile;
    if (r == NULL)
        return;
    const uint64_t n = r->tiles == NULL ? 0 : sm_grid_tiles(r->out->grid);
    for (uint64_t i = 0; i < n; i++)
        free(r->tiles[i]);
    for (coef_tile *t = r->free_list, *next; t != NULL; t = next) {
        next = t->next_free;
        free(t);
    }
    free(r->tiles);
    pthread_mutex_destroy(&r->lock);
    free(r);
    *retile = NULL;
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
            enc->quant_tbl_ptrs[t]->sent_table = TRUE; /* jpeg_set_defaults made it; nobody uses it */
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

/* Work of sm_jpeg_run: Huffman-code one output tile into w->coded. */
typedef struct code_work {
    sm_retile_worker *w;
    const coef_tile *tile;
} code_work;

static void code_tile(void *arg)
{
    const code_work *work = arg;
    sm_retile_worker *w = work->w;
    sm_retile *r = w->r;
    j_compress_ptr enc = &w->enc;
    jvirt_barray_ptr arrays[3];
    if (!w->enc_open) {
        jpeg_create_compress(enc);
        w->enc_open = true;
        set_encoder(r, enc);
    }
    for (int c = 0; c < 3; c++)
        arrays[c] = enc->mem->request_virt_barray((j_common_ptr)enc, JPOOL_IMAGE, FALSE,
                                                  r->comps[c].dst_w, r->comps[c].dst_h,
                                                  r->comps[c].v);
    jpeg_mem_dest(enc, &w->coded, &w->n_coded);
    jpeg_write_coefficients(enc, arrays);
    jpeg_suppress_tables(enc, TRUE);
    for (int c = 0; c < 3; c++) {
        const component *k = &r->comps[c];
        for (uint32_t y = 0; y < k->dst_h; y += k->v) {
            JBLOCKARRAY rows = enc->mem->access_virt_barray((j_common_ptr)enc, arrays[c], y, k->v,
                                                            TRUE);
            for (uint32_t i = 0; i < k->v; i++)
                memcpy(rows[i], work->tile->blocks[k->part + (size_t)(y + i) * k->dst_w],
                       k->dst_w * sizeof(JBLOCK));
        }
    }
    jpeg_finish_compress(enc);
}

static sm_status encode_tile(sm_retile_worker *w, const coef_tile *t, sm_buf *out, sm_error *err)
{
    code_work work = {w, t};
    w->coded = NULL;
    w->n_coded = 0;
    sm_status st = sm_jpeg_run(w->enc_guard, code_tile, &work, err);
    if (st == SM_OK)
        st = sm_buf_append(out, w->coded, w->n_coded, err);
    else if (w->enc_open)
        jpeg_abort_compress(&w->enc);
    free(w->coded);
    w->coded = NULL;
    return st;
}

/* ---- moving ---- */

/* MCUs of output tile (col, row) that will arrive. */
static uint32_t expected_mcus(const sm_retile *r, uint32_t col, uint32_t row)
{
    const uint32_t tw = r->out->tile_w_px / r->mcu_w, th = r->out->tile_h_px / r->mcu_h;
    const uint32_t w = sm_min_u32(tw, r->total_w - col * tw);
    const uint32_t h = sm_min_u32(th, r->total_h - row * th);
    return w * h;
}

static void fill_blocks(const component *k, JBLOCK *blocks, uint32_t x, uint32_t y, uint32_t w,
                        uint32_t h)
{
    for (uint32_t j = 0; j < h; j++) {
        JBLOCK *row = blocks + k->part + (size_t)(y + j) * k->dst_w + x;
        memset(row, 0, w * sizeof(JBLOCK));
        for (uint32_t i = 0; i < w; i++)
            row[i][0] = k->fill_dc;
    }
}

static coef_tile *tile_at(sm_retile *r, uint32_t col, uint32_t row)
{
    coef_tile **slot = &r->tiles[(size_t)row * r->out->grid.cols + col];
    pthread_mutex_lock(&r->lock);
    coef_tile *t = *slot;
    if (t == NULL) {
        t = r->free_list;
        if (t != NULL)
            r->free_list = t->next_free;
        else
            t = sm_malloc_array(1, sizeof *t + r->blocks * sizeof(JBLOCK));
        if (t != NULL) {
            const uint32_t n = expected_mcus(r, col, row);
            atomic_init(&t->lacking, n);
            atomic_init(&t->seq, 0);
            if (n * r->mcu_w * r->mcu_h < r->out->tile_w_px * r->out->tile_h_px)
                for (int c = 0; c < 3; c++) /* beyond the source's last tile */
                    fill_blocks(&r->comps[c], t->blocks, 0, 0, r->comps[c].dst_w,
                                r->comps[c].dst_h);
            *slot = t;
        }
    }
    pthread_mutex_unlock(&r->lock);
    return t;
}

static sm_status finish_tile(sm_retile_worker *w, uint32_t col, uint32_t row, coef_tile *t,
                             sm_error *err)
{
    sm_retile *r = w->r;
    const uint64_t tile = (uint64_t)row * r->out->grid.cols + col;
    sm_buf bytes = {0};
    sm_status st = encode_tile(w, t, &bytes, err);
    if (st == SM_OK)
        st = r->on_tile(r->user, w->worker, r->out_level, tile, atomic_load(&t->seq), &bytes, err);
    sm_buf_free(&bytes);
    pthread_mutex_lock(&r->lock);
    r->tiles[tile] = NULL;
    t->next_free = r->free_list;
    r->free_list = t;
    pthread_mutex_unlock(&r->lock);
    return st;
}

/* A rectangle of MCUs: where it is in the source tile and in the output tile. */
typedef struct copy_work {
    sm_retile_worker *w;
    coef_tile *t;
    uint32_t src_x, src_y, dst_x, dst_y, width, height;
} copy_work;

/* Copy blocks of one component: a w x h rectangle at (sx, sy) of the source tile to (dx, dy). */
static void copy_blocks(sm_retile_worker *w, int c, uint32_t sx, uint32_t sy, uint32_t dx,
                        uint32_t dy, uint32_t width, uint32_t height, coef_tile *t)
{
    const component *k = &w->r->comps[c];
    for (uint32_t y = 0; y < height; y += k->v) {
        JBLOCKARRAY rows = w->dec.mem->access_virt_barray((j_common_ptr)&w->dec, w->coefs[c],
                                                          sy + y, k->v, FALSE);
        for (uint32_t i = 0; i < k->v; i++)
            memcpy(t->blocks[k->part + (size_t)(dy + y + i) * k->dst_w + dx], rows[i] + sx,
                   width * sizeof(JBLOCK));
    }
}

/* Work of sm_jpeg_run: libjpeg hands out its coefficient rows. */
static void copy_mcus(void *arg)
{
    const copy_work *m = arg;
    for (int c = 0; c < 3; c++) {
        const component *k = &m->w->r->comps[c];
        copy_blocks(m->w, c, m->src_x * k->h, m->src_y * k->v, m->dst_x * k->h, m->dst_y * k->v,
                    m->width * k->h, m->height * k->v, m->t);
    }
}

/* Move (or fill) the MCU rectangle at (x, y) of the level that lies in output tile (col, row). */
static sm_status move_part(sm_retile_worker *w, sm_rect part, uint32_t src_x, uint32_t src_y,
                           uint32_t col, uint32_t row, bool fill, uint64_t seq, sm_error *err)
{
    sm_retile *r = w->r;
    const uint32_t dst_x = part.x - col * (r->out->tile_w_px / r->mcu_w);
    const uint32_t dst_y = part.y - row * (r->out->tile_h_px / r->mcu_h);
    coef_tile *t = tile_at(r, col, row);
    if (t == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "out of memory for coefficients of a tile");
    for (int c = 0; fill && c < 3; c++) {
        const component *k = &r->comps[c];
        fill_blocks(k, t->blocks, dst_x * k->h, dst_y * k->v, part.w * k->h, part.h * k->v);
    }
    if (!fill) {
        copy_work work = {w, t, part.x - src_x, part.y - src_y, dst_x, dst_y, part.w, part.h};
        const sm_status st = sm_jpeg_run(w->dec_guard, copy_mcus, &work, err);
        if (st != SM_OK)
            return st;
    }
    uint_fast64_t seen = atomic_load(&t->seq);
    while (seen < seq && !atomic_compare_exchange_weak(&t->seq, &seen, seq))
        ;
    const uint32_t n = part.w * part.h;
    if (atomic_fetch_sub(&t->lacking, n) > n)
        return SM_OK;
    return finish_tile(w, col, row, t, err);
}

static sm_status move_tile(sm_retile_worker *w, uint64_t tile, bool fill, uint64_t seq,
                           sm_error *err)
{
    const sm_retile *r = w->r;
    const sm_level *l = r->level;
    const uint32_t sw = l->tile_w_px / r->mcu_w, sh = l->tile_h_px / r->mcu_h;
    const uint32_t tw = r->out->tile_w_px / r->mcu_w, th = r->out->tile_h_px / r->mcu_h;
    const uint32_t x0 = (uint32_t)(tile % l->cols) * sw, y0 = (uint32_t)(tile / l->cols) * sh;
    const uint32_t x1 = sm_min_u32(x0 + sw, r->total_w), y1 = sm_min_u32(y0 + sh, r->total_h);
    sm_status st = SM_OK;
    for (uint32_t y = y0; st == SM_OK && y < y1;) {
        const uint32_t row = y / th, h = sm_min_u32(y1, (row + 1) * th) - y;
        for (uint32_t x = x0; st == SM_OK && x < x1;) {
            const uint32_t col = x / tw, width = sm_min_u32(x1, (col + 1) * tw) - x;
            st = move_part(w, (sm_rect){x, y, width, h}, x0, y0, col, row, fill, seq, err);
            x += width;
        }
        y += h;
    }
    return st;
}

/* ---- decoding ---- */

/* Work of sm_jpeg_run. */
static void open_decoder(void *arg)
{
    sm_retile_worker *w = arg;
    jpeg_create_decompress(&w->dec);
    w->dec_open = true;
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

sm_status sm_retile_move(sm_retile_worker *w, uint64_t tile, uint64_t seq, sm_error *err)
{
    const sm_status st = move_tile(w, tile, false, seq, err);
    jpeg_abort_decompress(&w->dec);
    w->coefs = NULL;
    return st;
}

sm_status sm_retile_fill(sm_retile_worker *w, uint64_t tile, uint64_t seq, sm_error *err)
{
    return move_tile(w, tile, true, seq, err);
}
