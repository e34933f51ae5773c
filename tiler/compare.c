/* Output against source: the source is decoded in full and reduced by 2x2 means, and every tile of
 * every level is compared with what the output holds there. */
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/stop.h"
#include "tiler/decode.h"
#include "tiler/jpeg_info.h"
#include "tiler/verify.h"

double sm_compare_psnr(const sm_level_compare *c)
{
    if (c->sum_squares == 0)
        return (double)INFINITY;
    return 10.0 * log10(255.0 * 255.0 * (double)c->n_samples / (double)c->sum_squares);
}

/* One thread's decoders of the output, and a tile's worth of memory. */
typedef struct compare_worker {
    sm_decoder *decoders[SM_MAX_LEVELS];
    uint8_t *rgb;
    size_t rgb_cap;
    sm_buf bytes;
} compare_worker;

typedef struct comparison {
    const sm_slide *output, *source;
    sm_plan plan;
    compare_worker *workers;
    unsigned threads;
    pthread_mutex_t lock; /* report */
    sm_verify_report *report;
} comparison;

/* ---- which reference each level has ---- */

static const sm_level *source_level_of_size(const sm_slide *source, uint32_t w, uint32_t h,
                                            uint32_t *number)
{
    for (uint32_t s = 0; s < sm_slide_get_info(source)->n_levels; s++) {
        const sm_level *l = sm_slide_level(source, s);
        if (l->w_px == w && l->h_px == h) {
            *number = s;
            return l;
        }
    }
    return NULL;
}

static uint32_t new_stage(sm_plan *plan, uint32_t w, uint32_t h)
{
    const uint32_t s = plan->n_stages++;
    plan->stages[s] = (sm_pyramid_stage){w, h, SM_NO_STAGE, false};
    plan->stage_out[s] = SM_NO_LEVEL;
    return s;
}

/* Halve from stage `from` until w x h is reached; SM_NO_STAGE if it never is. */
static uint32_t halve_down_to(sm_plan *plan, uint32_t from, uint32_t w, uint32_t h)
{
    uint32_t s = from;
    while (plan->stages[s].w_px > w || plan->stages[s].h_px > h) {
        if (plan->n_stages == SM_COUNT(plan->stages) || plan->stages[s].child != SM_NO_STAGE)
            return SM_NO_STAGE;
        const uint32_t next =
            new_stage(plan, sm_half_px(plan->stages[s].w_px), sm_half_px(plan->stages[s].h_px));
        plan->stages[s].child = next;
        s = next;
    }
    return plan->stages[s].w_px == w && plan->stages[s].h_px == h ? s : SM_NO_STAGE;
}

/* stage_of[i]: the stage whose tiles are the reference of output level i. */
static void plan_references(comparison *c, uint32_t stage_of[SM_MAX_LEVELS])
{
    sm_plan *plan = &c->plan;
    uint32_t last = SM_NO_STAGE;
    for (uint32_t i = 0; i < c->report->n_compared; i++) {
        sm_level_compare *lc = &c->report->levels[i];
        const sm_level *out = sm_slide_level(c->output, i);
        uint32_t number = 0;
        *lc = (sm_level_compare){.w_px = out->w_px, .h_px = out->h_px};
        stage_of[i] = SM_NO_STAGE;
        if (source_level_of_size(c->source, out->w_px, out->h_px, &number) != NULL &&
            !plan->use[number].used && plan->n_stages < SM_COUNT(plan->stages)) {
            lc->from_source_level = true;
            lc->source_level = number;
            stage_of[i] = last = new_stage(plan, out->w_px, out->h_px);
            plan->use[number].used = true;
            plan->use[number].full_stage = last;
        } else if (last != SM_NO_STAGE) {
            const uint32_t s = halve_down_to(plan, last, out->w_px, out->h_px);
            if (s != SM_NO_STAGE)
                stage_of[i] = last = s;
        }
        lc->compared = stage_of[i] != SM_NO_STAGE;
        if (!lc->compared)
            snprintf(lc->why_not, sizeof lc->why_not,
                     "no level of the source, halved, has this size");
        else
            plan->stages[stage_of[i]].wanted = true;
    }
}

/* ---- pixels ---- */

static sm_status read_bytes(comparison *c, const sm_level *l, uint64_t tile, compare_worker *w,
                            uint64_t plane_lens[4], sm_error *err)
{
    const size_t n = (size_t)l->cols * l->rows;
    w->bytes.len = 0;
    if (l->codec == SM_CODEC_RENDERED)
        return SM_OK;
    sm_status st = SM_OK;
    for (uint32_t p = 0; st == SM_OK && p < (l->planar ? l->samples : 1u); p++) {
        const uint64_t len = l->lens[tile + p * n];
        plane_lens[p] = len;
        st = sm_buf_reserve(&w->bytes, w->bytes.len + (size_t)len, err);
        if (st == SM_OK)
            st = sm_source_pread(sm_slide_source(c->output), w->bytes.data + w->bytes.len,
                                 (size_t)len, l->offsets[tile + p * n], err);
        w->bytes.len += (size_t)len;
    }
    return st;
}

/* Decode the output's tile into w->rgb; a missing one is background. */
static sm_status decode_output(comparison *c, uint32_t i, uint64_t tile, compare_worker *w,
                               sm_error *err)
{
    const sm_level *l = sm_slide_level(c->output, i);
    const size_t stride = 3 * (size_t)l->tile_w_px, need = stride * l->tile_h_px;
    uint64_t plane_lens[4] = {0};
    sm_status st = SM_OK;
    if (w->rgb_cap < need) {
        free(w->rgb);
        w->rgb = sm_malloc_array(1, need);
        w->rgb_cap = w->rgb != NULL ? need : 0;
    }
    if (w->rgb == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "out of memory for a tile");
    if (w->decoders[i] == NULL)
        st = sm_decoder_open(c->output, i, &w->decoders[i], err);
    if (st == SM_OK)
        st = read_bytes(c, l, tile, w, plane_lens, err);
    if (st == SM_OK && w->bytes.len == 0 && l->codec != SM_CODEC_RENDERED) {
        memset(w->rgb, 255, need);
        return SM_OK;
    }
    if (st == SM_OK)
        st = sm_decoder_tile(w->decoders[i], w->bytes.data, w->bytes.len,
                             l->planar ? plane_lens : NULL, tile, 1, w->rgb, stride, err);
    if (st != SM_OK)
        sm_error_prefix(err, "level %u, column %llu, row %llu", i,
                        (unsigned long long)(tile % l->cols), (unsigned long long)(tile / l->cols));
    return st;
}

static void compare_rows(const uint8_t *a, size_t a_stride, const uint8_t *b, size_t b_stride,
                         uint32_t w, uint32_t h, sm_level_compare *sum)
{
    for (uint32_t y = 0; y < h; y++) {
        uint64_t squares = 0;
        for (size_t x = 0; x < 3 * (size_t)w; x++) {
            const int d = a[y * a_stride + x] - b[y * b_stride + x];
            const uint32_t magnitude = (uint32_t)(d < 0 ? -d : d);
            squares += (uint64_t)magnitude * magnitude;
            sum->n_different += magnitude != 0;
            sum->max_difference = sm_max_u32(sum->max_difference, magnitude);
        }
        sum->sum_squares += squares;
    }
    sum->n_samples += 3 * (uint64_t)w * h;
}

/* sm_pyramid_tile: a reference tile is complete. */
static sm_status on_reference(void *user, unsigned worker, uint32_t stage, uint32_t col,
                              uint32_t row, uint64_t seq, const uint8_t *rgb, sm_error *err)
{
    comparison *c = user;
    (void)seq;
    const uint32_t i = c->plan.stage_out[stage], t = c->plan.tile_px;
    const sm_level *l = sm_slide_level(c->output, i);
    const sm_rect ref = {col * t, row * t, sm_min_u32(t, l->w_px - col * t),
                         sm_min_u32(t, l->h_px - row * t)};
    sm_level_compare sum = {0};
    compare_worker *w = &c->workers[worker];
    sm_status st = SM_OK;
    for (uint32_t y = ref.y; st == SM_OK && y < ref.y + ref.h;) {
        const uint32_t tr = y / l->tile_h_px;
        const uint32_t h = sm_min_u32(ref.y + ref.h, (tr + 1) * l->tile_h_px) - y;
        for (uint32_t x = ref.x; st == SM_OK && x < ref.x + ref.w;) {
            const uint32_t tc = x / l->tile_w_px;
            const uint32_t width = sm_min_u32(ref.x + ref.w, (tc + 1) * l->tile_w_px) - x;
            st = decode_output(c, i, (uint64_t)tr * l->cols + tc, w, err);
            const size_t stride = 3 * (size_t)l->tile_w_px, ref_stride = 3 * (size_t)t;
            if (st == SM_OK)
                compare_rows(w->rgb + (y - (size_t)tr * l->tile_h_px) * stride +
                                 3 * (x - (size_t)tc * l->tile_w_px),
                             stride, rgb + (y - ref.y) * ref_stride + 3 * (size_t)(x - ref.x),
                             ref_stride, width, h, &sum);
            x += width;
        }
        y += h;
    }
    pthread_mutex_lock(&c->lock);
    sm_level_compare *total = &c->report->levels[i];
    total->n_samples += sum.n_samples;
    total->n_different += sum.n_different;
    total->sum_squares += sum.sum_squares;
    total->max_difference = sm_max_u32(total->max_difference, sum.max_difference);
    pthread_mutex_unlock(&c->lock);
    return st;
}

static sm_status compare_pixels(comparison *c, sm_progress *progress, sm_error *err)
{
    const sm_mill_config config = {.threads = c->threads,
                                   .blank_bad_tiles = true,
                                   .progress = progress,
                                   .on_tile = on_reference,
                                   .on_tile_user = c};
    sm_order order = {0};
    sm_mill *mill = NULL;
    uint32_t unfit = SM_NO_LEVEL; /* nothing is retiled here */
    sm_mill_result result = {0};
    sm_status st = sm_order_make(c->source, &c->plan, &order, err);
    if (st == SM_OK)
        st = sm_mill_new(c->source, &c->plan, &order, &config, &mill, &unfit, err);
    if (st == SM_OK)
        st = sm_mill_run(mill, NULL, NULL, &result, err);
    sm_mill_free(&mill);
    sm_order_free(&order);
    return st;
}

/* ---- compressed bytes ---- */

static bool same_grid(const sm_level *a, const sm_level *b)
{
    return a->codec == b->codec && a->offsets != NULL && b->offsets != NULL && !a->planar &&
           !b->planar && a->tiled && b->tiled && a->tile_w_px == b->tile_w_px &&
           a->tile_h_px == b->tile_h_px && a->predictor == b->predictor;
}

static sm_status read_plain(const sm_source *source, const sm_level *l, uint64_t tile, sm_buf *raw,
                            sm_buf *plain, sm_error *err)
{
    raw->len = plain->len = 0;
    const size_t len = (size_t)l->lens[tile];
    sm_status st = sm_buf_reserve(raw, len > 0 ? len : 1, err);
    if (st == SM_OK && len > 0)
        st = sm_source_pread(source, raw->data, len, l->offsets[tile], err);
    if (st != SM_OK || len == 0)
        return st;
    return l->codec == SM_CODEC_JPEG ? sm_jpeg_strip(raw->data, len, plain, err)
                                     : sm_buf_append(plain, raw->data, len, err);
}

static sm_status same_tables(const sm_level *a, const sm_level *b, bool *same, sm_error *err)
{
    sm_buf pa = {0}, pb = {0};
    sm_status st = SM_OK;
    if (a->jpeg_tables != NULL)
        st = sm_jpeg_strip(a->jpeg_tables, a->jpeg_tables_len, &pa, err);
    if (st == SM_OK && b->jpeg_tables != NULL)
        st = sm_jpeg_strip(b->jpeg_tables, b->jpeg_tables_len, &pb, err);
    *same =
        st == SM_OK && pa.len == pb.len && (pa.len == 0 || memcmp(pa.data, pb.data, pa.len) == 0);
    sm_buf_free(&pa);
    sm_buf_free(&pb);
    return st;
}

static sm_status compare_bytes(comparison *c, uint32_t i, bool *same, sm_error *err)
{
    const sm_level_compare *lc = &c->report->levels[i];
    const sm_level *a = sm_slide_level(c->output, i);
    const sm_level *b = sm_slide_level(c->source, lc->source_level);
    sm_buf raw = {0}, pa = {0}, pb = {0};
    *same = false;
    if (!same_grid(a, b))
        return SM_OK;
    sm_status st = same_tables(a, b, same, err);
    for (uint64_t t = 0; st == SM_OK && *same && t < (uint64_t)a->cols * a->rows; t++) {
        st = sm_stop_check(err);
        if (st == SM_OK)
            st = read_plain(sm_slide_source(c->output), a, t, &raw, &pa, err);
        if (st == SM_OK)
            st = read_plain(sm_slide_source(c->source), b, t, &raw, &pb, err);
        *same = st == SM_OK && pa.len == pb.len &&
                (pa.len == 0 || memcmp(pa.data, pb.data, pa.len) == 0);
    }
    if (st == SM_ERR_CORRUPT) { /* not a stream that can be stripped: then it is not the same */
        *same = false;
        *err = (sm_error)SM_ERROR_INIT;
        st = SM_OK;
    }
    sm_buf_free(&raw);
    sm_buf_free(&pa);
    sm_buf_free(&pb);
    return st;
}

static void close_workers(comparison *c)
{
    for (unsigned k = 0; k < c->threads && c->workers != NULL; k++) {
        for (uint32_t i = 0; i < SM_MAX_LEVELS; i++)
            sm_decoder_close(&c->workers[k].decoders[i]);
        free(c->workers[k].rgb);
        sm_buf_free(&c->workers[k].bytes);
    }
    free(c->workers);
}

sm_status sm_compare(const sm_slide *output, const sm_slide *source, unsigned threads,
                     sm_progress *progress, sm_verify_report *report, sm_error *err)
{
    comparison c = {.output = output, .source = source, .threads = threads, .report = report};
    uint32_t stage_of[SM_MAX_LEVELS];
    const sm_level *base = sm_slide_level(output, 0);
    const bool square =
        base->tile_w_px == base->tile_h_px && base->tile_w_px % 16 == 0 && base->tile_w_px <= 1024;
    c.plan.tile_px = square ? base->tile_w_px : 512;
    c.plan.n_sources = sm_slide_get_info(source)->n_levels;
    for (uint32_t s = 0; s < SM_MAX_LEVELS; s++)
        c.plan.use[s] = SM_SOURCE_UNUSED;
    report->n_compared = sm_slide_get_info(output)->n_levels;
    plan_references(&c, stage_of);
    if (!report->levels[0].compared)
        return sm_fail(err, SM_ERR_FORMAT,
                       "%s and %s have different sizes (%u x %u and %u x %u px)",
                       sm_source_path(sm_slide_source(output)),
                       sm_source_path(sm_slide_source(source)), base->w_px, base->h_px,
                       sm_slide_level(source, 0)->w_px, sm_slide_level(source, 0)->h_px);
    c.workers = sm_calloc(threads, sizeof *c.workers);
    if (c.workers == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "out of memory");
    pthread_mutex_init(&c.lock, NULL);
    for (uint32_t i = 0; i < report->n_compared; i++)
        if (stage_of[i] != SM_NO_STAGE)
            c.plan.stage_out[stage_of[i]] = i;
    sm_status st = compare_pixels(&c, progress, err);
    for (uint32_t i = 0; st == SM_OK && i < report->n_compared; i++)
        if (report->levels[i].from_source_level)
            st = compare_bytes(&c, i, &report->levels[i].same_bytes, err);
    close_workers(&c);
    pthread_mutex_destroy(&c.lock);
    return st;
}
