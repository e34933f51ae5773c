/* What one thread does with one source tile: copy, move coefficients, decode; and what follows when
 * an output tile is complete. Decoding comes first, so that a bad tile has no effect yet. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/trace.h"
#include "tiler/blank_jpeg.h"
#include "tiler/jpeg_info.h"
#include "tiler/mill_internal.h"

/* One unit on its way through the steps below. */
typedef struct unit_job {
    sm_mill *mill;
    mill_worker *w;
    unsigned worker;
    uint64_t seq;
    sm_unit unit;
    const sm_level *level;
    const sm_source_use *use;
    const uint8_t *bytes;
    size_t len;
    const uint64_t *plane_lens; /* NULL unless planar */
    sm_buf copy;                /* what copy_to gets */
} unit_job;

static sm_status emit(sm_mill *m, uint64_t seq, uint32_t out_level, uint64_t tile, uint64_t share,
                      sm_buf *bytes, sm_error *err)
{
    sm_tile_out t = {.level = out_level, .tile = tile, .share = share, .bytes = *bytes};
    *bytes = (sm_buf){0};
    return sm_reorder_put(m->queue, seq, &t, err);
}

/* ---- finished output tiles ---- */

/* 1 + colour if the whole tile has one colour, else 0. */
static uint64_t one_colour(const uint8_t *rgb, size_t n_px)
{
    if (memcmp(rgb, rgb + 3, 3 * (n_px - 1)) != 0)
        return 0;
    return 1 + ((uint64_t)rgb[0] << 16 | (uint64_t)rgb[1] << 8 | rgb[2]);
}

sm_status mill_pyramid_tile(void *user, unsigned worker, uint32_t stage, uint32_t col, uint32_t row,
                            uint64_t seq, const uint8_t *rgb, sm_error *err)
{
    sm_mill *m = user;
    mill_worker *w = &m->workers[worker];
    const uint32_t i = m->plan->stage_out[stage];
    const sm_out_level *out = &m->plan->out[i];
    sm_status st = SM_OK;
    if (w->encoder == NULL)
        st = sm_encoder_open(&m->plan->encode, &w->encoder, err);
    sm_buf bytes = {0};
    const sm_span begin = sm_trace_begin();
    if (st == SM_OK)
        st = sm_encoder_tile(w->encoder, rgb, &bytes, err);
    sm_trace_end(SM_TRACE_ENCODE, begin);
    if (st == SM_OK) {
        const size_t n_px = (size_t)out->tile_w_px * out->tile_h_px;
        const uint64_t share = m->config.share_blank ? one_colour(rgb, n_px) : 0;
        st = emit(m, seq, i, (uint64_t)row * out->grid.cols + col, share, &bytes, err);
    } else {
        sm_error_prefix(err, "output level %u, column %u, row %u", i, col, row);
    }
    sm_buf_free(&bytes);
    return st;
}

sm_status mill_retile_tile(void *user, unsigned worker, uint32_t out_level, uint64_t tile,
                           uint64_t seq, sm_buf *bytes, sm_error *err)
{
    (void)worker;
    return emit(user, seq, out_level, tile, 0, bytes, err);
}

/* ---- the steps of a unit ---- */

/* Source level `level` cannot be handled as planned: remember why, so that the caller replans. */
static sm_status unfit(unit_job *j, const char *why, sm_error *err)
{
    sm_mill *m = j->mill;
    pthread_mutex_lock(&m->lock);
    if (m->result->unfit_level == SM_NO_LEVEL) {
        m->result->unfit_level = j->unit.level;
        snprintf(m->result->unfit_why, sizeof m->result->unfit_why, "%s", why);
    }
    pthread_mutex_unlock(&m->lock);
    return sm_fail(err, SM_ERR_FORMAT, "%s", why);
}

static bool same_as_level(const sm_level *l, const sm_jpeg_header *h)
{
    return h->n_components == 3 && h->precision == 8 && h->sof <= 0xC1 &&
           h->h[0] == l->jpeg.h_samp && h->v[0] == l->jpeg.v_samp && h->h[1] == 1 && h->v[1] == 1 &&
           h->h[2] == 1 && h->v[2] == 1 && sm_jpeg_colour(h, l->photometric) == l->jpeg.colour;
}

/* The bytes that will be stored for a copied tile. */
static sm_status copied_bytes(unit_job *j, sm_error *err)
{
    if (j->level->codec != SM_CODEC_JPEG)
        return sm_buf_append(&j->copy, j->bytes, j->len, err);
    sm_jpeg_header h;
    const sm_status st = sm_jpeg_header_read(j->bytes, j->len, &h, err);
    if (st != SM_OK)
        return st;
    if (h.w_px != j->level->tile_w_px || h.h_px != j->level->tile_h_px)
        return sm_fail(err, SM_ERR_CORRUPT, "JPEG of %u x %u px in a tile of %u x %u px", h.w_px,
                       h.h_px, j->level->tile_w_px, j->level->tile_h_px);
    if (!same_as_level(j->level, &h))
        return unfit(j, "its JPEG tiles differ in kind", err);
    return sm_jpeg_strip(j->bytes, j->len, &j->copy, err);
}

static sm_status prepare_copy(unit_job *j, sm_error *err)
{
    const sm_span begin = sm_trace_begin();
    const sm_status st = copied_bytes(j, err);
    sm_trace_end(SM_TRACE_COPY, begin);
    return st;
}

static sm_status decoder_for(unit_job *j, sm_decoder **decoder, sm_error *err)
{
    sm_decoder **d = &j->w->decoders[j->unit.level];
    const sm_status st =
        *d != NULL ? SM_OK : sm_decoder_open(j->mill->slide, j->unit.level, d, err);
    *decoder = *d;
    return st;
}

static sm_status scratch_for(mill_worker *w, size_t bytes, sm_error *err)
{
    if (w->scratch_cap >= bytes)
        return SM_OK;
    free(w->scratch);
    w->scratch = sm_malloc_array(1, bytes);
    w->scratch_cap = w->scratch != NULL ? bytes : 0;
    return w->scratch != NULL
               ? SM_OK
               : sm_fail(err, SM_ERR_NOMEM, "out of memory for a tile of %zu bytes", bytes);
}

static sm_status retiler_for(unit_job *j, sm_retile_worker **retiler, sm_error *err)
{
    sm_retile_worker **r = &j->w->retilers[j->unit.level];
    const sm_status st =
        *r != NULL ? SM_OK
                   : sm_retile_worker_new(j->mill->retiles[j->unit.level], j->worker, r, err);
    *retiler = *r;
    return st;
}

/* Entropy-decode (and reduce) a tile that is retiled; half may be NULL. */
static sm_status decode_retile(unit_job *j, uint8_t *half, size_t stride, sm_error *err)
{
    sm_retile_worker *r = NULL;
    sm_status st = retiler_for(j, &r, err);
    if (st != SM_OK)
        return st;
    const sm_span begin = sm_trace_begin();
    st = sm_retile_decode(r, j->bytes, j->len, half, stride, err);
    sm_trace_end(SM_TRACE_RETILE, begin);
    if (st == SM_ERR_FORMAT) {
        char why[128];
        snprintf(why, sizeof why, "%.127s", err->message);
        return unfit(j, why, err);
    }
    return st;
}

static sm_status decode(unit_job *j, unsigned denom, uint8_t *rgb, size_t stride, sm_error *err)
{
    const bool retiled = j->use->retile_to != SM_NO_LEVEL;
    if (retiled && denom == 2)
        return decode_retile(j, rgb, stride, err);
    sm_decoder *d = NULL;
    sm_status st = decoder_for(j, &d, err);
    if (st == SM_OK && retiled) /* a level one pixel wide or high: coefficients and pixels apart */
        st = decode_retile(j, NULL, 0, err);
    if (st != SM_OK)
        return st;
    const sm_span begin = sm_trace_begin();
    st = sm_decoder_tile(d, j->bytes, j->len, j->plane_lens, j->unit.tile, denom, rgb, stride, err);
    sm_trace_end(denom == 1 ? SM_TRACE_DECODE : SM_TRACE_MAKE, begin);
    return st;
}

/* Decode for the sake of knowing that it can be done. */
static sm_status check(unit_job *j, sm_error *err)
{
    const size_t stride = 3 * (size_t)j->level->tile_w_px;
    const sm_status st = scratch_for(j->w, stride * j->level->tile_h_px, err);
    return st == SM_OK ? decode(j, 1, j->w->scratch, stride, err) : st;
}

static sm_status effects(unit_job *j, sm_error *err)
{
    sm_status st = SM_OK;
    if (j->use->retile_to != SM_NO_LEVEL) {
        const sm_span begin = sm_trace_begin();
        st = sm_retile_move(j->w->retilers[j->unit.level], j->unit.tile, j->seq, err);
        sm_trace_end(SM_TRACE_RETILE, begin);
    }
    if (st == SM_OK && j->use->copy_to != SM_NO_LEVEL)
        st = emit(j->mill, j->seq, j->use->copy_to, j->unit.tile, 0, &j->copy, err);
    return st;
}

/* Decode into a stage (or nowhere), then let everything else of the unit happen. */
static sm_status work(unit_job *j, sm_error *err)
{
    sm_mill *m = j->mill;
    const bool half = j->use->half_stage != SM_NO_STAGE;
    const uint32_t stage = half ? j->use->half_stage : j->use->full_stage;
    sm_status st = SM_OK;
    if (j->use->copy_to != SM_NO_LEVEL)
        st = prepare_copy(j, err);
    if (st != SM_OK)
        return st;
    if (stage == SM_NO_STAGE) {
        if (j->use->retile_to != SM_NO_LEVEL)
            st = decode_retile(j, NULL, 0, err);
        else if (j->use->check)
            st = check(j, err);
        return st == SM_OK ? effects(j, err) : st;
    }
    const unsigned denom = half ? 2 : 1;
    const sm_rect rect =
        half ? sm_tile_half_rect(j->level, j->unit.tile) : sm_tile_rect(j->level, j->unit.tile);
    const uint32_t w = sm_ceil_div_u32(j->level->tile_w_px, denom);
    const uint32_t h = sm_ceil_div_u32(j->level->tile_h_px, denom);
    uint8_t *rgb = NULL;
    size_t stride = 0;
    if (rect.w > 0 && rect.h > 0)
        st = sm_pyramid_begin(m->pyramid, stage, rect.x, rect.y, w, h, &rgb, &stride, err);
    const bool in_place = rgb != NULL;
    if (st == SM_OK && !in_place) {
        stride = 3 * (size_t)w;
        st = scratch_for(j->w, stride * h, err);
        rgb = j->w->scratch;
    }
    if (st == SM_OK)
        st = decode(j, denom, rgb, stride, err);
    if (st == SM_OK)
        st = effects(j, err);
    if (st != SM_OK || rect.w == 0 || rect.h == 0)
        return st;
    return in_place
               ? sm_pyramid_end(m->pyramid, j->worker, stage, rect, j->seq, err)
               : sm_pyramid_put(m->pyramid, j->worker, stage, rect, rgb, stride, NULL, j->seq, err);
}

/* A copied level needs a real tile where the source has none. */
static sm_status emit_blank(unit_job *j, sm_error *err)
{
    sm_mill *m = j->mill;
    const uint8_t *background = sm_slide_get_info(m->slide)->background;
    sm_buf *blank = &m->blanks[j->unit.level];
    sm_buf bytes = {0};
    sm_status st = SM_OK;
    if (j->level->codec != SM_CODEC_JPEG)
        return unfit(j, "a tile must be replaced and only JPEG levels can take one", err);
    pthread_mutex_lock(&m->lock);
    if (blank->len == 0)
        st = sm_blank_jpeg(j->level, background, blank, err);
    if (st == SM_OK)
        st = sm_buf_append(&bytes, blank->data, blank->len, err);
    pthread_mutex_unlock(&m->lock);
    if (st == SM_ERR_FORMAT)
        st = unfit(j, "its JPEG tables cannot code a blank tile", err);
    if (st == SM_OK)
        st = emit(m, j->seq, j->use->copy_to, j->unit.tile, m->config.share_blank ? 1 : 0, &bytes,
                  err);
    sm_buf_free(&bytes);
    return st;
}

/* Background in place of a tile that is missing or bad. */
static sm_status fill(unit_job *j, sm_error *err)
{
    sm_mill *m = j->mill;
    const uint8_t *background = sm_slide_get_info(m->slide)->background;
    sm_status st = SM_OK;
    if (j->use->retile_to != SM_NO_LEVEL) {
        sm_retile_worker *r = NULL;
        st = retiler_for(j, &r, err);
        if (st == SM_OK)
            st = sm_retile_fill(r, j->unit.tile, j->seq, err);
    }
    if (st == SM_OK && j->use->copy_to != SM_NO_LEVEL)
        st = emit_blank(j, err);
    if (st == SM_OK && j->use->full_stage != SM_NO_STAGE)
        st = sm_pyramid_put(m->pyramid, j->worker, j->use->full_stage,
                            sm_tile_rect(j->level, j->unit.tile), NULL, 0, background, j->seq, err);
    if (st == SM_OK && j->use->half_stage != SM_NO_STAGE)
        st = sm_pyramid_put(m->pyramid, j->worker, j->use->half_stage,
                            sm_tile_half_rect(j->level, j->unit.tile), NULL, 0, background, j->seq,
                            err);
    return st;
}

static void describe_bad(const unit_job *j, sm_bad_tile *bad)
{
    const sm_level *l = j->level;
    *bad = (sm_bad_tile){.level = j->unit.level,
                         .col = j->unit.tile % l->cols,
                         .row = j->unit.tile / l->cols,
                         .offset = l->offsets != NULL ? l->offsets[j->unit.tile] : SM_NO_OFFSET,
                         .len = l->lens != NULL ? l->lens[j->unit.tile] : 0};
}

static void record_bad(unit_job *j, const sm_error *err)
{
    sm_mill *m = j->mill;
    sm_mill_result *r = m->result;
    pthread_mutex_lock(&m->lock);
    if (r->bad == NULL)
        r->bad = sm_calloc(SM_MAX_BAD_TILES, sizeof *r->bad);
    if (r->bad != NULL && r->n_bad < SM_MAX_BAD_TILES) {
        sm_bad_tile *bad = &r->bad[r->n_bad];
        describe_bad(j, bad);
        snprintf(bad->message, sizeof bad->message, "%.119s", err->message);
    }
    r->n_bad++;
    pthread_mutex_unlock(&m->lock);
}

static bool is_missing(const sm_level *l, const uint64_t *lens, uint32_t n_pieces)
{
    for (uint32_t p = 0; p < n_pieces; p++)
        if (lens[p] == 0)
            return true;
    return n_pieces == 0 && l->codec != SM_CODEC_RENDERED;
}

sm_status mill_do_unit(sm_mill *m, unsigned worker, uint64_t i, const uint8_t *bytes,
                       const uint64_t *lens, uint32_t n_pieces, sm_error *err)
{
    const sm_unit unit = m->order->units[i];
    unit_job j = {.mill = m,
                  .w = &m->workers[worker],
                  .worker = worker,
                  .seq = i,
                  .unit = unit,
                  .level = sm_slide_level(m->slide, unit.level),
                  .use = &m->plan->use[unit.level],
                  .bytes = bytes};
    for (uint32_t p = 0; p < n_pieces; p++)
        j.len += (size_t)lens[p];
    j.plane_lens = j.level->planar ? lens : NULL;
    sm_status st = SM_OK;
    if (is_missing(j.level, lens, n_pieces)) {
        st = fill(&j, err);
    } else {
        st = work(&j, err);
        if (st == SM_ERR_CORRUPT && m->config.blank_bad_tiles) {
            record_bad(&j, err);
            st = fill(&j, err);
        }
    }
    sm_buf_free(&j.copy);
    if (st == SM_ERR_CORRUPT || st == SM_ERR_LIMIT) {
        sm_bad_tile bad;
        describe_bad(&j, &bad);
        if (bad.offset == SM_NO_OFFSET)
            sm_error_prefix(err, "level %u, column %u, row %u", bad.level, bad.col, bad.row);
        else
            sm_error_prefix(err, "level %u, column %u, row %u (%llu bytes at byte %llu)", bad.level,
                            bad.col, bad.row, (unsigned long long)bad.len,
                            (unsigned long long)bad.offset);
        err->offset = bad.offset;
    }
    return st;
}

void mill_worker_close(mill_worker *w)
{
    for (uint32_t s = 0; s < SM_MAX_LEVELS; s++) {
        sm_decoder_close(&w->decoders[s]);
        sm_retile_worker_free(&w->retilers[s]);
    }
    sm_encoder_close(&w->encoder);
    free(w->scratch);
    w->scratch = NULL;
    w->scratch_cap = 0;
}
