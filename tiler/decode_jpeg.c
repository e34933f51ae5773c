/* JPEG tiles, whole or at half size, through libjpeg. Owns one libjpeg decompressor per decoder,
 * the tables that every tile starts from, and the padded copy of the tile that is being decoded. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "common/buf.h"
#include "tiler/decode_internal.h"
#include "tiler/jpeg_error.h"

/* A progressive stream may hold any number of scans, each of which costs a pass over the tile. */
#define MAX_SCANS 200
/* Coefficients of a progressive or multi-scan tile. */
#define MAX_MEMORY (512L << 20)
/* libjpeg's fast Huffman decoder wants 512 bytes of input for every block of an MCU (at most 10)
 * and is left for the slow one near the end. So tiles are decoded from a copy with EOIs behind it.
 */
#define PAD_BYTES 5120u
/* Beyond this the copy is not worth its memory. */
#define MAX_PADDED_BYTES (4u << 20)
/* libjpeg's own state: structs, Huffman lookahead tables, marker reader. Measured, rounded up. */
#define LIBJPEG_BYTES (48u << 10)

/* Contents of libjpeg's tables; a table that is not defined is all zero. */
typedef struct jpeg_tables {
    JQUANT_TBL quant[NUM_QUANT_TBLS];
    JHUFF_TBL dc[NUM_HUFF_TBLS], ac[NUM_HUFF_TBLS];
} jpeg_tables;

typedef struct jpeg_state {
    struct jpeg_decompress_struct cinfo;
    sm_jpeg_error error;
    struct jpeg_progress_mgr progress;
    const sm_level *level;
    jpeg_tables tables; /* those of tag 347 */
    sm_buf padded;
    JSAMPROW *rows;  /* tile_h_px pointers into the caller's pixels */
    uint8_t *planes; /* RGB 4:4:4: one row of blocks, a plane for each colour */
    size_t plane_stride;
    const sm_tile_job *job;
} jpeg_state;

/* ---- tables ---- */

/* Every slot is allocated, so libjpeg never fills in tables of its own; and every tile starts from
 * the same contents, so what an earlier tile defined cannot change what a later one looks like. */
static void allocate_tables(j_decompress_ptr cinfo)
{
    j_common_ptr common = (j_common_ptr)cinfo;
    for (int i = 0; i < NUM_QUANT_TBLS; i++) {
        cinfo->quant_tbl_ptrs[i] = jpeg_alloc_quant_table(common);
        memset(cinfo->quant_tbl_ptrs[i], 0, sizeof(JQUANT_TBL));
    }
    for (int i = 0; i < NUM_HUFF_TBLS; i++) {
        cinfo->dc_huff_tbl_ptrs[i] = jpeg_alloc_huff_table(common);
        cinfo->ac_huff_tbl_ptrs[i] = jpeg_alloc_huff_table(common);
        memset(cinfo->dc_huff_tbl_ptrs[i], 0, sizeof(JHUFF_TBL));
        memset(cinfo->ac_huff_tbl_ptrs[i], 0, sizeof(JHUFF_TBL));
    }
}

static void save_tables(const struct jpeg_decompress_struct *cinfo, jpeg_tables *tables)
{
    for (int i = 0; i < NUM_QUANT_TBLS; i++)
        tables->quant[i] = *cinfo->quant_tbl_ptrs[i];
    for (int i = 0; i < NUM_HUFF_TBLS; i++) {
        tables->dc[i] = *cinfo->dc_huff_tbl_ptrs[i];
        tables->ac[i] = *cinfo->ac_huff_tbl_ptrs[i];
    }
}

/* A 3 kB copy: cheaper than telling whether the tile before left its own behind. */
static void restore_tables(const jpeg_tables *tables, j_decompress_ptr cinfo)
{
    for (int i = 0; i < NUM_QUANT_TBLS; i++)
        *cinfo->quant_tbl_ptrs[i] = tables->quant[i];
    for (int i = 0; i < NUM_HUFF_TBLS; i++) {
        *cinfo->dc_huff_tbl_ptrs[i] = tables->dc[i];
        *cinfo->ac_huff_tbl_ptrs[i] = tables->ac[i];
    }
}

static bool huff_is_defined(const JHUFF_TBL *table)
{
    unsigned codes = 0;
    for (size_t i = 1; i <= 16; i++)
        codes += table->bits[i];
    return codes > 0;
}

/* The first scan's Huffman tables; without this it would be "bad Huffman code" in pixel 0. Those of
 * later scans fail just so. */
static void check_huffman(jpeg_state *s)
{
    const j_decompress_ptr cinfo = &s->cinfo;
    for (int i = 0; i < cinfo->comps_in_scan && !cinfo->arith_code; i++) {
        const int dc = cinfo->cur_comp_info[i]->dc_tbl_no;
        const int ac = cinfo->cur_comp_info[i]->ac_tbl_no;
        if (dc < 0 || dc >= NUM_HUFF_TBLS || ac < 0 || ac >= NUM_HUFF_TBLS)
            sm_jpeg_error_stop(&s->error, SM_ERR_CORRUPT, "Huffman tables %d and %d in a scan", dc,
                               ac);
        if (cinfo->Ss == 0 && cinfo->Ah == 0 && !huff_is_defined(cinfo->dc_huff_tbl_ptrs[dc]))
            sm_jpeg_error_stop(&s->error, SM_ERR_CORRUPT,
                               "DC Huffman table %d is neither in the tile nor in the level", dc);
        if (cinfo->Se > 0 && !huff_is_defined(cinfo->ac_huff_tbl_ptrs[ac]))
            sm_jpeg_error_stop(&s->error, SM_ERR_CORRUPT,
                               "AC Huffman table %d is neither in the tile nor in the level", ac);
    }
}

/* After jpeg_start_decompress, when libjpeg has noted each component's table. */
static void check_quantisation(jpeg_state *s)
{
    for (int i = 0; i < s->cinfo.num_components; i++) {
        const jpeg_component_info *comp = &s->cinfo.comp_info[i];
        if (comp->quant_table == NULL)
            sm_jpeg_error_stop(&s->error, SM_ERR_CORRUPT, "component %d is in no scan", i);
        if (comp->quant_table->quantval[0] == 0)
            sm_jpeg_error_stop(&s->error, SM_ERR_CORRUPT,
                               "quantisation table %d is neither in the tile nor in the level",
                               comp->quant_tbl_no);
    }
}

/* ---- opening ---- */

static void on_progress(j_common_ptr common)
{
    const j_decompress_ptr cinfo = (j_decompress_ptr)common;
    jpeg_state *s = cinfo->client_data;
    if (cinfo->input_scan_number > MAX_SCANS)
        sm_jpeg_error_stop(&s->error, SM_ERR_CORRUPT, "more than %d scans", MAX_SCANS);
}

/* Inside setjmp. */
static void create(jpeg_state *s)
{
    const sm_level *l = s->level;
    jpeg_create_decompress(&s->cinfo);
    s->cinfo.client_data = s;
    s->cinfo.mem->max_memory_to_use = MAX_MEMORY;
    s->progress.progress_monitor = on_progress;
    s->cinfo.progress = &s->progress;
    allocate_tables(&s->cinfo);
    if (l->jpeg_tables == NULL)
        return;
    jpeg_mem_src(&s->cinfo, l->jpeg_tables, (unsigned long)l->jpeg_tables_len);
    (void)jpeg_read_header(&s->cinfo, FALSE);
    jpeg_abort_decompress(&s->cinfo); /* should it hold an image, too: only the tables count */
    save_tables(&s->cinfo, &s->tables);
}

static sm_status create_guarded(jpeg_state *s, sm_error *err)
{
    if (setjmp(s->error.jump) != 0) {
        const sm_status st = sm_jpeg_error_report(&s->error, err);
        sm_error_prefix(err, "JPEG tables");
        return st;
    }
    create(s);
    return SM_OK;
}

/* Samples of a plane's row: whole blocks. */
static size_t plane_stride(const sm_level *l)
{
    return (size_t)sm_align_u64(l->tile_w_px, DCTSIZE);
}

static bool is_rgb_444(const sm_level *l)
{
    return l->jpeg.colour == SM_COLOUR_RGB && l->jpeg.h_samp == 1 && l->jpeg.v_samp == 1;
}

static void jpeg_close(sm_decoder *decoder)
{
    jpeg_state *s = decoder->state;
    if (s == NULL)
        return;
    jpeg_destroy_decompress(&s->cinfo); /* harmless if it was never created: the struct is zero */
    sm_buf_free(&s->padded);
    free(s->rows);
    free(s->planes);
    free(s);
    decoder->state = NULL;
}

static sm_status jpeg_open(sm_decoder *decoder, sm_error *err)
{
    const sm_level *l = decoder->level;
    const bool grey = l->samples == 1 && l->jpeg.colour == SM_COLOUR_GREY;
    const bool colour = l->samples == 3 && l->jpeg.colour != SM_COLOUR_GREY;
    if (l->planar || (!grey && !colour) || l->photometric == 0)
        return sm_fail(err, SM_ERR_FORMAT,
                       "JPEG of %u samples, photometric interpretation %u%s, is not decoded",
                       (unsigned)l->samples, (unsigned)l->photometric,
                       l->planar ? ", separate planes" : "");
    jpeg_state *s = sm_calloc(1, sizeof *s);
    if (s == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "no memory for a JPEG decoder");
    decoder->state = s;
    s->level = l;
    s->plane_stride = plane_stride(l);
    s->rows = sm_malloc_array(l->tile_h_px, sizeof *s->rows);
    if (is_rgb_444(l))
        s->planes = sm_malloc_array(s->plane_stride, 3 * (size_t)DCTSIZE);
    if (s->rows == NULL || (is_rgb_444(l) && s->planes == NULL))
        return sm_fail(err, SM_ERR_NOMEM, "no memory for a JPEG decoder");
    s->cinfo.err = sm_jpeg_error_init(&s->error);
    return create_guarded(s, err);
}

/* ---- pixels ---- */

#if defined(__x86_64__)
/* Sixteen pixels at a time; returns how many of the n are done. */
__attribute__((target("ssse3"))) static size_t
interleave_ssse3(const uint8_t *r, const uint8_t *g, const uint8_t *b, uint8_t *rgb, size_t n)
{
    /* Byte k of output vector v is sample (16 v + k) % 3 of pixel (16 v + k) / 3. */
    static const int8_t FROM[3][3][16] = {
        {{0, -1, -1, 1, -1, -1, 2, -1, -1, 3, -1, -1, 4, -1, -1, 5},
         {-1, 0, -1, -1, 1, -1, -1, 2, -1, -1, 3, -1, -1, 4, -1, -1},
         {-1, -1, 0, -1, -1, 1, -1, -1, 2, -1, -1, 3, -1, -1, 4, -1}},
        {{-1, -1, 6, -1, -1, 7, -1, -1, 8, -1, -1, 9, -1, -1, 10, -1},
         {5, -1, -1, 6, -1, -1, 7, -1, -1, 8, -1, -1, 9, -1, -1, 10},
         {-1, 5, -1, -1, 6, -1, -1, 7, -1, -1, 8, -1, -1, 9, -1, -1}},
        {{-1, 11, -1, -1, 12, -1, -1, 13, -1, -1, 14, -1, -1, 15, -1, -1},
         {-1, -1, 11, -1, -1, 12, -1, -1, 13, -1, -1, 14, -1, -1, 15, -1},
         {10, -1, -1, 11, -1, -1, 12, -1, -1, 13, -1, -1, 14, -1, -1, 15}},
    };
    __m128i from[3][3];
    memcpy(from, FROM, sizeof from);
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        __m128i in[3];
        memcpy(&in[0], r + i, 16);
        memcpy(&in[1], g + i, 16);
        memcpy(&in[2], b + i, 16);
        for (size_t v = 0; v < 3; v++) {
            const __m128i out = _mm_or_si128(_mm_or_si128(_mm_shuffle_epi8(in[0], from[v][0]),
                                                          _mm_shuffle_epi8(in[1], from[v][1])),
                                             _mm_shuffle_epi8(in[2], from[v][2]));
            memcpy(rgb + 3 * i + 16 * v, &out, 16);
        }
    }
    return i;
}
#endif

static void interleave(const uint8_t *r, const uint8_t *g, const uint8_t *b, uint8_t *rgb, size_t n)
{
    size_t i = 0;
#if defined(__x86_64__)
    if (__builtin_cpu_supports("ssse3"))
        i = interleave_ssse3(r, g, b, rgb, n);
#endif
    for (; i < n; i++) {
        rgb[3 * i] = r[i];
        rgb[3 * i + 1] = g[i];
        rgb[3 * i + 2] = b[i];
    }
}

/* RGB 4:4:4: libjpeg would put the colours of a pixel side by side one byte at a time, a fifth of
 * all decoding. It hands out the planes instead, a row of blocks at a time. */
static void read_planes(jpeg_state *s, uint32_t w, uint32_t h)
{
    const sm_tile_job *job = s->job;
    JSAMPROW rows[3][DCTSIZE];
    JSAMPARRAY planes[3] = {rows[0], rows[1], rows[2]};
    for (size_t c = 0; c < 3; c++)
        for (size_t y = 0; y < DCTSIZE; y++)
            rows[c][y] = s->planes + (c * DCTSIZE + y) * s->plane_stride;
    for (uint32_t at = 0; at < h;) {
        /* 8 rows of blocks, or 4 at half size; less only if libjpeg were to suspend, and it cannot
         */
        const uint32_t n = jpeg_read_raw_data(&s->cinfo, planes, DCTSIZE);
        if (n == 0)
            sm_jpeg_error_stop(&s->error, SM_ERR_CORRUPT, "it ends early");
        for (uint32_t y = 0; y < n && at < h; y++, at++)
            interleave(rows[0][y], rows[1][y], rows[2][y], job->rgb + at * job->stride, w);
    }
}

static void read_rows(jpeg_state *s, uint32_t h)
{
    const sm_tile_job *job = s->job;
    for (uint32_t y = 0; y < h; y++)
        s->rows[y] = job->rgb + y * job->stride;
    while (s->cinfo.output_scanline < h) {
        const JDIMENSION at = s->cinfo.output_scanline;
        if (jpeg_read_scanlines(&s->cinfo, s->rows + at, h - at) == 0)
            sm_jpeg_error_stop(&s->error, SM_ERR_CORRUPT, "it ends early");
    }
}

/* ---- decoding ---- */

/* Before libjpeg allocates anything for it. */
static void check_shape(jpeg_state *s)
{
    const struct jpeg_decompress_struct *cinfo = &s->cinfo;
    const sm_level *l = s->level;
    const sm_tile_job *job = s->job;
    if (cinfo->num_components != l->samples)
        sm_jpeg_error_stop(&s->error, SM_ERR_CORRUPT, "%d components instead of %u",
                           cinfo->num_components, (unsigned)l->samples);
    /* Tiles are always whole; the last strip may be coded short or in full. */
    const bool h_ok = l->tiled ? cinfo->image_height == job->rows
                               : cinfo->image_height >= job->rows &&
                                     cinfo->image_height <= sm_align_u64(l->tile_h_px, 16);
    if (cinfo->image_width != job->w_px || !h_ok)
        sm_jpeg_error_stop(&s->error, SM_ERR_CORRUPT,
                           "%u x %u px instead of %" PRIu32 " x %" PRIu32, cinfo->image_width,
                           cinfo->image_height, job->w_px, job->rows);
}

static J_COLOR_SPACE colour_space(sm_colour colour)
{
    switch (colour) {
    case SM_COLOUR_RGB:
        return JCS_RGB;
    case SM_COLOUR_YCBCR:
        return JCS_YCbCr;
    case SM_COLOUR_GREY:
        return JCS_GRAYSCALE;
    }
    return JCS_UNKNOWN;
}

/* Is every component sampled like the first? Traits are those of the level's first tile only. */
static bool is_444(const struct jpeg_decompress_struct *cinfo)
{
    for (int i = 0; i < cinfo->num_components; i++)
        if (cinfo->comp_info[i].h_samp_factor != 1 || cinfo->comp_info[i].v_samp_factor != 1)
            return false;
    return true;
}

/* Inside setjmp. @param bytes,len with a pad of `pad` bytes at the end */
static void decode(jpeg_state *s, const uint8_t *bytes, size_t len, size_t pad)
{
    const j_decompress_ptr cinfo = &s->cinfo;
    const sm_tile_job *job = s->job;
    restore_tables(&s->tables, cinfo);
    jpeg_mem_src(cinfo, bytes, (unsigned long)len);
    (void)jpeg_read_header(cinfo, TRUE);
    check_shape(s);
    check_huffman(s);
    cinfo->jpeg_color_space = colour_space(s->level->jpeg.colour);
    cinfo->out_color_space = JCS_RGB;
    cinfo->dct_method = JDCT_ISLOW;
    cinfo->scale_num = 1;
    cinfo->scale_denom = job->denom;
    cinfo->raw_data_out = s->planes != NULL && is_444(cinfo);
    (void)jpeg_start_decompress(cinfo);
    check_quantisation(s);
    const uint32_t h = sm_ceil_div_u32(job->rows, job->denom);
    if (cinfo->raw_data_out)
        read_planes(s, cinfo->output_width, h);
    else
        read_rows(s, h);
    if (cinfo->output_scanline < cinfo->output_height) {
        jpeg_abort_decompress(cinfo); /* the rest of a last strip that is coded in full */
        return;
    }
    (void)jpeg_finish_decompress(cinfo);
    if (cinfo->src->bytes_in_buffer < pad)
        sm_jpeg_error_stop(&s->error, SM_ERR_CORRUPT, "it ends without an EOI marker");
}

static sm_status decode_guarded(jpeg_state *s, const uint8_t *bytes, size_t len, size_t pad,
                                sm_error *err)
{
    sm_jpeg_error_reset(&s->error);
    if (setjmp(s->error.jump) != 0) {
        jpeg_abort_decompress(&s->cinfo);
        return sm_jpeg_error_report(&s->error, err);
    }
    decode(s, bytes, len, pad);
    return SM_OK;
}

static sm_status jpeg_tile(sm_decoder *decoder, const sm_tile_job *job, sm_error *err)
{
    jpeg_state *s = decoder->state;
    s->job = job;
    if (job->len > MAX_PADDED_BYTES)
        return decode_guarded(s, job->bytes, job->len, 0, err);
    static const uint8_t EOI[2] = {0xFF, 0xD9};
    s->padded.len = 0;
    sm_status st = sm_buf_reserve(&s->padded, job->len + PAD_BYTES, err);
    if (st != SM_OK)
        return st;
    memcpy(s->padded.data, job->bytes, job->len);
    for (size_t i = 0; i < PAD_BYTES; i += sizeof EOI)
        memcpy(s->padded.data + job->len + i, EOI, sizeof EOI);
    return decode_guarded(s, s->padded.data, job->len + PAD_BYTES, PAD_BYTES, err);
}

static uint64_t jpeg_memory(const sm_level *l)
{
    const uint64_t w = plane_stride(l), px = w * sm_align_u64(l->tile_h_px, DCTSIZE);
    /* A row of MCUs in libjpeg's main and upsampling buffers, 3 components, 2 x 8 lines and their
     * context; or the planes. Then the row pointers, and a padded copy at 2 bytes a pixel. */
    uint64_t bytes = sizeof(jpeg_state) + LIBJPEG_BYTES + w * 3 * 8 * 4;
    bytes += l->tile_h_px * sizeof(JSAMPROW);
    const uint64_t copy = px * 2 < MAX_PADDED_BYTES ? px * 2 : MAX_PADDED_BYTES;
    bytes += copy + PAD_BYTES;
    if (!l->jpeg.plain) /* all coefficients at once */
        bytes += px * l->samples * sizeof(JCOEF);
    return bytes;
}

const sm_decode_codec sm_decode_jpeg = {
    .open = jpeg_open,
    .tile = jpeg_tile,
    .close = jpeg_close,
    .memory = jpeg_memory,
};
