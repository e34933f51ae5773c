/* Tiles as abbreviated baseline JPEG, YCbCr, and the tables they share. Owns one libjpeg compressor
 * per encoder, which writes straight into the caller's buffer. */
#include <stdlib.h>

#include "tiler/encode_internal.h"
#include "tiler/jpeg_error.h"

/* Room made for a tile at first: 1 bit a sample. Tissue at quality 85 in 4:2:0 takes about that. */
#define FIRST_ROOM(tile_bytes) ((tile_bytes) / 8 + 4096)

typedef struct jpeg_out {
    struct jpeg_destination_mgr manager; /* first: libjpeg hands this member back */
    sm_buf *buf;                         /* its len stays until the stream is whole */
    size_t first_room;
    sm_error *err;
} jpeg_out;

typedef struct jpeg_state {
    struct jpeg_compress_struct cinfo;
    sm_jpeg_error error;
    jpeg_out out;
    JSAMPROW *rows; /* tile_h_px */
} jpeg_state;

/* ---- destination: an sm_buf ---- */

/* Let libjpeg write from buf->len + used on, with at least `room` bytes there. */
static void make_room(j_compress_ptr cinfo, size_t used, size_t room)
{
    jpeg_out *out = (jpeg_out *)cinfo->dest;
    const size_t at = out->buf->len + used;
    if (out->buf->cap < at + room && sm_buf_reserve(out->buf, at + room, out->err) != SM_OK)
        sm_jpeg_error_stop((sm_jpeg_error *)cinfo->err, SM_ERR_NOMEM, "no memory for a tile");
    out->manager.next_output_byte = out->buf->data + at;
    out->manager.free_in_buffer = out->buf->cap - at;
}

static void on_init(j_compress_ptr cinfo)
{
    make_room(cinfo, 0, ((const jpeg_out *)cinfo->dest)->first_room);
}

/* libjpeg means: all of the buffer is written, whatever the two fields say by now. */
static boolean on_full(j_compress_ptr cinfo)
{
    const jpeg_out *out = (const jpeg_out *)cinfo->dest;
    const size_t used = out->buf->cap - out->buf->len;
    make_room(cinfo, used, used);
    return TRUE;
}

static void on_end(j_compress_ptr cinfo)
{
    jpeg_out *out = (jpeg_out *)cinfo->dest;
    out->buf->len = out->buf->cap - out->manager.free_in_buffer;
}

/* ---- opening ---- */

/* Inside setjmp. Standard Huffman tables: optimised ones would differ from tile to tile. */
static void create(jpeg_state *s, const sm_encode_params *p)
{
    j_compress_ptr cinfo = &s->cinfo;
    jpeg_create_compress(cinfo);
    s->out.manager.init_destination = on_init;
    s->out.manager.empty_output_buffer = on_full;
    s->out.manager.term_destination = on_end;
    cinfo->dest = &s->out.manager;
    cinfo->image_width = p->tile_w_px;
    cinfo->image_height = p->tile_h_px;
    cinfo->input_components = 3;
    cinfo->in_color_space = JCS_RGB;
    jpeg_set_defaults(cinfo); /* YCbCr */
    jpeg_set_quality(cinfo, (int)p->quality, TRUE);
    cinfo->comp_info[0].h_samp_factor = p->h_samp;
    cinfo->comp_info[0].v_samp_factor = p->v_samp;
    if (p->h_samp == 1 && p->v_samp == 1)
        /* The standard chroma table is made for halved chroma. Whoever asks for 4:4:4 wants colour:
         * with the luma table quality 95 is 1.7 dB better on tissue, for 20% more bytes. */
        cinfo->comp_info[1].quant_tbl_no = cinfo->comp_info[2].quant_tbl_no = 0;
    cinfo->dct_method = JDCT_ISLOW;
    cinfo->write_JFIF_header = FALSE;
    cinfo->write_Adobe_marker = FALSE;
}

/* Outside bytes are not concerned: what libjpeg refuses here is our own mistake. */
static sm_status report(jpeg_state *s, sm_error *err)
{
    const sm_status st = sm_jpeg_error_report(&s->error, err);
    if (st != SM_ERR_CORRUPT)
        return st;
    err->status = SM_ERR_INTERNAL;
    return SM_ERR_INTERNAL;
}

static sm_status create_guarded(jpeg_state *s, const sm_encode_params *p, sm_error *err)
{
    s->cinfo.err = sm_jpeg_error_init(&s->error);
    if (setjmp(s->error.jump) != 0)
        return report(s, err);
    create(s, p);
    return SM_OK;
}

static void jpeg_close(sm_encoder *encoder)
{
    jpeg_state *s = encoder->state;
    if (s == NULL)
        return;
    jpeg_destroy_compress(&s->cinfo); /* harmless if it was never created: the struct is zero */
    free(s->rows);
    free(s);
    encoder->state = NULL;
}

static sm_status jpeg_open(sm_encoder *encoder, sm_error *err)
{
    jpeg_state *s = sm_calloc(1, sizeof *s);
    if (s == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "no memory for a JPEG encoder");
    encoder->state = s;
    s->out.first_room = FIRST_ROOM(encoder->tile_bytes);
    s->rows = sm_malloc_array(encoder->params.tile_h_px, sizeof *s->rows);
    if (s->rows == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "no memory for a JPEG encoder");
    return create_guarded(s, &encoder->params, err);
}

/* ---- encoding ---- */

/* Inside setjmp. */
static void encode(jpeg_state *s)
{
    j_compress_ptr cinfo = &s->cinfo;
    jpeg_suppress_tables(cinfo, TRUE);
    jpeg_start_compress(cinfo, FALSE);
    while (cinfo->next_scanline < cinfo->image_height)
        (void)jpeg_write_scanlines(cinfo, s->rows + cinfo->next_scanline,
                                   cinfo->image_height - cinfo->next_scanline);
    jpeg_finish_compress(cinfo);
}

static sm_status jpeg_tile(sm_encoder *encoder, const uint8_t *pixels, sm_buf *out, sm_error *err)
{
    jpeg_state *s = encoder->state;
    const size_t row_bytes = (size_t)3 * encoder->params.tile_w_px;
    for (size_t y = 0; y < encoder->params.tile_h_px; y++)
        /* libjpeg only reads them. NOLINTNEXTLINE(performance-no-int-to-ptr) */
        s->rows[y] = (JSAMPROW)(uintptr_t)(pixels + y * row_bytes);
    s->out.buf = out;
    s->out.err = err;
    sm_jpeg_error_reset(&s->error);
    if (setjmp(s->error.jump) != 0) {
        jpeg_abort_compress(&s->cinfo);
        return report(s, err);
    }
    encode(s);
    return SM_OK;
}

static sm_status write_tables_guarded(jpeg_state *s, sm_error *err)
{
    sm_jpeg_error_reset(&s->error);
    if (setjmp(s->error.jump) != 0)
        return report(s, err);
    jpeg_write_tables(&s->cinfo);
    return SM_OK;
}

static sm_status jpeg_write_shared(const sm_encode_params *params, sm_buf *out, sm_error *err)
{
    jpeg_state s = {.out = {.buf = out, .first_room = 1024, .err = err}};
    sm_status st = create_guarded(&s, params, err);
    if (st == SM_OK)
        st = write_tables_guarded(&s, err);
    jpeg_destroy_compress(&s.cinfo);
    return st;
}

const sm_encode_codec sm_encode_jpeg = {
    .codec = SM_CODEC_JPEG,
    .compression = 7,
    .photometric = 6,
    .predictor = 1,
    .open = jpeg_open,
    .tile = jpeg_tile,
    .close = jpeg_close,
    .tables = jpeg_write_shared,
};
