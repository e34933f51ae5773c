/* Feeding the mill: source bytes are streamed, hashed and cut into batches of tiles, which threads
 * work on; their output comes back in order through the queue. */
#include "tiler/mill.h"

#include <stdlib.h>
#include <string.h>

#include "common/stop.h"
#include "common/trace.h"
#include "tiler/jpeg_info.h"
#include "tiler/mill_internal.h"

enum {
    MAX_BATCH_UNITS = 8,
    MAX_BATCH_PX = 8 * 256 * 256,
    MAX_BATCH_BYTES = 1 << 20,
    QUEUED_BATCHES_PER_THREAD = 2,
    FETCH_BYTES = 16 << 20,
};

static unsigned queue_cap(unsigned threads)
{
    return QUEUED_BATCHES_PER_THREAD * threads;
}

/* Units that may be under way at once. */
static uint32_t window_units(unsigned threads)
{
    return 4 * MAX_BATCH_UNITS * (threads + queue_cap(threads));
}

/* ---- the ordered end ---- */

static struct mill_shared *find_shared(mill_share *s, uint64_t key)
{
    for (size_t i = 0; i < s->n; i++)
        if (s->items[i].key == key)
            return &s->items[i];
    return NULL;
}

static sm_status remember(mill_share *s, uint64_t key, uint64_t offset, uint32_t len, sm_error *err)
{
    enum { MAX_SHARED = 64 }; /* colours a level; a slide has one or two */
    if (s->n == MAX_SHARED)
        return SM_OK;
    if (s->items == NULL)
        s->items = sm_calloc(MAX_SHARED, sizeof *s->items);
    if (s->items == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "out of memory for shared tiles");
    s->items[s->n++] = (struct mill_shared){key, offset, len};
    return SM_OK;
}

/* sm_reorder_write: one call at a time, in order. */
static sm_status write_tile(void *user, const sm_tile_out *t, sm_error *err)
{
    sm_mill *m = user;
    sm_mill_result *r = m->result;
    mill_share *share = &m->shares[t->level];
    struct mill_shared *same = t->share != 0 ? find_shared(share, t->share) : NULL;
    r->level_tiles[t->level]++;
    if (same != NULL) {
        r->level_shared[t->level]++;
        sm_bigtiff_place(m->tiff, t->level, t->tile, same->offset, same->len);
        return SM_OK;
    }
    if (t->bytes.len > UINT32_MAX)
        return sm_fail(err, SM_ERR_LIMIT, "a tile of %zu bytes does not fit a TIFF byte count",
                       t->bytes.len);
    uint64_t offset = 0;
    sm_status st = sm_sink_append(m->sink, t->bytes.data, t->bytes.len, &offset, err);
    if (st != SM_OK)
        return st;
    const uint32_t len = (uint32_t)t->bytes.len;
    sm_bigtiff_place(m->tiff, t->level, t->tile, offset, len);
    r->level_bytes[t->level] += len;
    if (t->share != 0)
        st = remember(share, t->share, offset, len, err);
    return st;
}

/* ---- batches ---- */

static void fail_at(sm_mill *m, uint64_t unit, const sm_error *err)
{
    pthread_mutex_lock(&m->lock);
    if (!atomic_load(&m->failed) || unit < m->error_unit) {
        m->error = *err;
        m->error_unit = unit;
    }
    atomic_store(&m->failed, true);
    pthread_mutex_unlock(&m->lock);
    sm_reorder_abort(m->queue);
}

static void batch_free(mill_batch *b)
{
    sm_buf_free(&b->bytes);
    free(b->lens);
    free(b);
}

static sm_status batch_take(sm_mill *m, uint64_t first, mill_batch **out, sm_error *err)
{
    pthread_mutex_lock(&m->lock);
    mill_batch *b = m->free_batches;
    if (b != NULL)
        m->free_batches = b->next;
    pthread_mutex_unlock(&m->lock);
    if (b == NULL) {
        b = sm_calloc(1, sizeof *b);
        if (b != NULL) {
            b->cap_pieces = MAX_BATCH_UNITS * 4;
            b->lens = sm_calloc(b->cap_pieces, sizeof *b->lens);
        }
        if (b == NULL || b->lens == NULL) {
            free(b);
            return sm_fail(err, SM_ERR_NOMEM, "out of memory for a batch of tiles");
        }
        b->mill = m;
    }
    b->first = first;
    b->n_units = b->n_pieces = 0;
    b->bytes.len = 0;
    *out = b;
    return SM_OK;
}

/* Pool job: all units of a batch. */
static void batch_work(void *arg, unsigned worker)
{
    mill_batch *b = arg;
    sm_mill *m = b->mill;
    const uint8_t *bytes = b->bytes.data;
    const uint64_t *lens = b->lens;
    for (uint32_t k = 0; k < b->n_units && !atomic_load(&m->failed); k++) {
        const sm_unit unit = m->order->units[b->first + k];
        const sm_level *l = sm_slide_level(m->slide, unit.level);
        const uint32_t pieces = mill_pieces(l);
        sm_error err = SM_ERROR_INIT;
        if (mill_do_unit(m, worker, b->first + k, bytes, lens, pieces, &err) != SM_OK) {
            fail_at(m, b->first + k, &err);
            break;
        }
        for (uint32_t p = 0; p < pieces; p++)
            bytes += lens[p];
        lens += pieces;
        const sm_rect r = sm_tile_rect(l, unit.tile);
        atomic_fetch_add(&m->done_px, (uint64_t)r.w * r.h);
    }
    pthread_mutex_lock(&m->lock);
    b->next = m->free_batches;
    m->free_batches = b;
    pthread_mutex_unlock(&m->lock);
}

/* The feeder: the batch being filled, and where in the order it is. */
typedef struct feeder {
    sm_mill *m;
    mill_batch *batch;
    uint64_t next; /* unit to be completed next */
    uint64_t got;  /* bytes of its current piece that are already in the batch */
    uint32_t piece;
} feeder;

static sm_status dispatch(feeder *f)
{
    mill_batch *b = f->batch;
    f->batch = NULL;
    if (b == NULL)
        return SM_OK;
    if (b->n_units == 0) {
        batch_free(b);
        return SM_OK;
    }
    const sm_span begin = sm_trace_begin();
    sm_reorder_wait(f->m->queue, b->first + b->n_units - 1);
    sm_pool_put(f->m->pool, batch_work, b);
    sm_trace_end(SM_TRACE_FEED_WAIT, begin);
    return SM_OK;
}

static sm_status begin_unit(feeder *f, sm_error *err)
{
    if (f->batch != NULL)
        return SM_OK;
    return batch_take(f->m, f->next, &f->batch, err);
}

/* All pieces of unit f->next are in the batch. */
static sm_status end_unit(feeder *f)
{
    mill_batch *b = f->batch;
    const sm_level *l = sm_slide_level(f->m->slide, f->m->order->units[f->next].level);
    b->n_units++;
    f->next++;
    const uint64_t px = (uint64_t)l->tile_w_px * l->tile_h_px * b->n_units;
    if (b->n_units == MAX_BATCH_UNITS || px >= MAX_BATCH_PX || b->bytes.len >= MAX_BATCH_BYTES ||
        f->next == f->m->order->n)
        return dispatch(f);
    return SM_OK;
}

static void show_progress(feeder *f, uint64_t bytes)
{
    const sm_mill_config *config = &f->m->config;
    if (config->progress != NULL)
        sm_progress_at(config->progress, bytes, atomic_load(&f->m->done_px), NULL);
    if (config->at != NULL)
        config->at(config->at_arg, bytes, atomic_load(&f->m->done_px));
}

/* ---- one pass over the file ---- */

/* Units without bytes have no moment of their own in the stream: they follow the one before. */
static sm_status pass_missing(feeder *f, sm_error *err)
{
    sm_status st = SM_OK;
    while (st == SM_OK && f->next < f->m->order->n) {
        const sm_unit u = f->m->order->units[f->next];
        if (sm_slide_level(f->m->slide, u.level)->lens[u.tile] != 0)
            break;
        st = begin_unit(f, err);
        if (st == SM_OK) {
            f->batch->lens[f->batch->n_pieces++] = 0;
            st = end_unit(f);
        }
    }
    return st;
}

/* Take what this block holds of the units that are due. */
static sm_status cut_block(feeder *f, const sm_block *block, sm_error *err)
{
    const uint64_t end = block->offset + block->len;
    sm_status st = pass_missing(f, err);
    while (st == SM_OK && f->next < f->m->order->n) {
        const sm_unit u = f->m->order->units[f->next];
        const sm_level *l = sm_slide_level(f->m->slide, u.level);
        const uint64_t from = l->offsets[u.tile] + f->got, len = l->lens[u.tile];
        if (from >= end)
            return SM_OK;
        st = begin_unit(f, err);
        const uint64_t left = len - f->got, here = end - from;
        const size_t n = (size_t)(left < here ? left : here);
        if (st == SM_OK)
            st = sm_buf_append(&f->batch->bytes, block->bytes + (from - block->offset), n, err);
        if (st != SM_OK)
            return st;
        f->got += n;
        if (f->got < len)
            return SM_OK;
        f->got = 0;
        f->batch->lens[f->batch->n_pieces++] = len;
        st = end_unit(f);
        if (st == SM_OK)
            st = pass_missing(f, err);
    }
    return st;
}

static sm_status hash_block(const sm_block *block, sm_hasher *sha256, sm_hasher *other,
                            sm_error *err)
{
    const sm_span begin = sm_trace_begin();
    sm_status st = sm_hasher_update(sha256, block->bytes, block->len, err);
    if (st == SM_OK && other != NULL)
        st = sm_hasher_update(other, block->bytes, block->len, err);
    sm_trace_end(SM_TRACE_HASH, begin);
    return st;
}

static sm_status feed_stream(feeder *f, sm_hasher *sha256, sm_hasher *other, sm_error *err)
{
    sm_mill *m = f->m;
    sm_stream *stream = NULL;
    sm_block block = {0};
    sm_status st = sm_stream_open(sm_slide_source(m->slide), NULL, &stream, err);
    if (st == SM_OK)
        m->result->io_backend = sm_stream_backend(stream);
    while (st == SM_OK && !atomic_load(&m->failed)) {
        st = sm_stop_check(err);
        if (st == SM_OK)
            st = sm_stream_next(stream, &block, err);
        if (st != SM_OK || block.len == 0)
            break;
        const sm_span cut = sm_trace_begin();
        st = cut_block(f, &block, err);
        sm_trace_end(SM_TRACE_CUT, cut);
        if (st == SM_OK)
            st = hash_block(&block, sha256, other, err);
        show_progress(f, block.offset + block.len);
    }
    sm_stream_close(&stream);
    if (st == SM_OK && !atomic_load(&m->failed) && f->next < m->order->n)
        st = sm_fail(err, SM_ERR_INTERNAL, "the stream ended before the last tile");
    return st;
}

/* ---- tiles one by one, in grid order ---- */

static sm_status extents_of(const sm_mill *m, sm_extent **out, size_t *n, sm_error *err)
{
    size_t cap = 0;
    for (uint64_t i = 0; i < m->order->n; i++)
        cap += mill_pieces(sm_slide_level(m->slide, m->order->units[i].level));
    sm_extent *e = sm_calloc(cap > 0 ? cap : 1, sizeof *e);
    if (e == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "out of memory for %zu extents", cap);
    size_t k = 0;
    for (uint64_t i = 0; i < m->order->n; i++) {
        const sm_unit u = m->order->units[i];
        const sm_level *l = sm_slide_level(m->slide, u.level);
        const size_t plane = (size_t)l->cols * l->rows;
        for (uint32_t p = 0; p < mill_pieces(l); p++)
            e[k++] = (sm_extent){l->offsets[u.tile + p * plane], l->lens[u.tile + p * plane]};
    }
    *out = e;
    *n = cap;
    return SM_OK;
}

static sm_status feed_extents(feeder *f, sm_error *err)
{
    sm_mill *m = f->m;
    sm_extent *extents = NULL;
    size_t n = 0;
    sm_fetch *fetch = NULL;
    sm_buf piece = {0};
    uint64_t bytes = 0;
    sm_status st = extents_of(m, &extents, &n, err);
    if (st == SM_OK)
        st = sm_fetch_open(sm_slide_source(m->slide), extents, n, FETCH_BYTES, &fetch, err);
    if (st == SM_OK)
        m->result->io_backend = n > 0 ? sm_fetch_backend(fetch) : "OpenSlide";
    while (st == SM_OK && f->next < m->order->n && !atomic_load(&m->failed)) {
        const sm_level *l = sm_slide_level(m->slide, m->order->units[f->next].level);
        st = sm_stop_check(err);
        if (st == SM_OK)
            st = begin_unit(f, err);
        for (uint32_t p = 0; st == SM_OK && p < mill_pieces(l); p++) {
            const sm_span begin = sm_trace_begin();
            st = sm_fetch_next(fetch, &piece, err);
            sm_trace_end(SM_TRACE_READ_WAIT, begin);
            if (st == SM_OK)
                st = sm_buf_append(&f->batch->bytes, piece.data, piece.len, err);
            if (st == SM_OK)
                f->batch->lens[f->batch->n_pieces++] = piece.len;
            bytes += piece.len;
        }
        if (st == SM_OK)
            st = end_unit(f);
        show_progress(f, bytes);
    }
    sm_fetch_close(&fetch);
    sm_buf_free(&piece);
    free(extents);
    return st;
}

/* ---- the run ---- */

static sm_status feed_hashed(feeder *f, sm_error *err)
{
    sm_mill_result *r = f->m->result;
    const sm_digest_kind *also = f->m->config.also_digest;
    sm_hasher *sha256 = NULL, *other = NULL;
    sm_status st = sm_hasher_new(SM_DIGEST_SHA256, &sha256, err);
    if (st == SM_OK && also != NULL)
        st = sm_hasher_new(*also, &other, err);
    if (st == SM_OK)
        st = feed_stream(f, sha256, other, err);
    if (st == SM_OK)
        st = sm_hasher_final(sha256, &r->source_sha256, err);
    if (st == SM_OK && other != NULL)
        st = sm_hasher_final(other, &r->source_other, err);
    r->hashed = st == SM_OK;
    sm_hasher_free(&other);
    sm_hasher_free(&sha256);
    return st;
}

static sm_status feed(sm_mill *m, sm_error *err)
{
    feeder f = {.m = m};
    sm_status st = m->order->streamed ? feed_hashed(&f, err) : feed_extents(&f, err);
    if (st == SM_OK)
        st = dispatch(&f);
    if (f.batch != NULL)
        batch_free(f.batch);
    return st;
}

static int by_place(const void *pa, const void *pb)
{
    const sm_bad_tile *a = pa, *b = pb;
    if (a->level != b->level)
        return a->level < b->level ? -1 : 1;
    if (a->row != b->row)
        return a->row < b->row ? -1 : 1;
    return a->col < b->col ? -1 : a->col > b->col;
}

/* Everything went through, or the error that says what did not. */
static sm_status conclude(sm_mill *m, sm_status st, sm_error *err)
{
    if (atomic_load(&m->failed)) {
        *err = m->error;
        st = m->error.status;
    }
    if (st == SM_OK && !sm_reorder_complete(m->queue))
        st = sm_fail(err, SM_ERR_INTERNAL, "output tiles are missing at the end");
    if (st == SM_OK && m->pyramid != NULL && sm_pyramid_unfinished(m->pyramid) != 0)
        st = sm_fail(err, SM_ERR_INTERNAL, "pyramid tiles are unfinished at the end");
    if (m->result->n_bad > 1 && m->result->bad != NULL) {
        const uint64_t n = m->result->n_bad;
        qsort(m->result->bad, n < SM_MAX_BAD_TILES ? (size_t)n : SM_MAX_BAD_TILES,
              sizeof *m->result->bad, by_place);
    }
    return st;
}

sm_status sm_mill_run(sm_mill *m, sm_sink *sink, sm_bigtiff *tiff, sm_mill_result *result,
                      sm_error *err)
{
    *result = (sm_mill_result){.unfit_level = SM_NO_LEVEL, .io_backend = "none"};
    result->source_bytes = sm_source_size(sm_slide_source(m->slide));
    m->sink = sink;
    m->tiff = tiff;
    m->result = result;
    const unsigned threads = m->config.threads;
    sm_status st = sm_reorder_new(m->order->n_outputs, m->order->n, window_units(threads),
                                  write_tile, m, &m->queue, err);
    if (st == SM_OK)
        st = sm_pool_new(threads, queue_cap(threads), &m->pool, err);
    if (st == SM_OK)
        st = feed(m, err);
    if (st != SM_OK && m->queue != NULL)
        sm_reorder_abort(m->queue);
    const sm_span begin = sm_trace_begin();
    sm_pool_free(&m->pool); /* drains */
    sm_trace_end(SM_TRACE_FEED_WAIT, begin);
    return m->queue != NULL ? conclude(m, st, err) : st;
}

/* Try to take the level's tables from one tile. */
static sm_status learn_from_tile(sm_mill *m, uint32_t s, uint64_t t, sm_error *err)
{
    const sm_level *l = sm_slide_level(m->slide, s);
    const size_t len = (size_t)l->lens[t];
    sm_buf tile = {0};
    sm_status st = sm_buf_reserve(&tile, len, err);
    if (st == SM_OK)
        st = sm_source_pread(sm_slide_source(m->slide), tile.data, len, l->offsets[t], err);
    if (st == SM_OK)
        st = sm_retile_new(m->slide, m->plan, m->plan->use[s].retile_to, tile.data, len,
                           mill_retile_tile, m, &m->retiles[s], err);
    sm_buf_free(&tile);
    if (st == SM_ERR_CORRUPT)
        sm_error_prefix(err, "level %u, column %u, row %u (%zu bytes at byte %llu)", s,
                        (uint32_t)(t % l->cols), (uint32_t)(t / l->cols), len,
                        (unsigned long long)l->offsets[t]);
    return st;
}

/* The first tile that is there, and whole, fixes a level's tables. */
static sm_status open_retile(sm_mill *m, uint32_t s, sm_error *err)
{
    enum { TRIES = 16 };
    const sm_level *l = sm_slide_level(m->slide, s);
    const uint64_t n = (uint64_t)l->cols * l->rows;
    sm_error first = SM_ERROR_INIT;
    sm_status st = SM_ERR_CORRUPT;
    unsigned tries = 0;
    for (uint64_t t = 0; t < n && st == SM_ERR_CORRUPT && tries < TRIES; t++) {
        if (l->lens[t] == 0)
            continue;
        *err = (sm_error)SM_ERROR_INIT;
        st = learn_from_tile(m, s, t, err);
        if (tries++ == 0)
            first = *err;
    }
    if (tries == 0)
        return sm_fail(err, SM_ERR_CORRUPT, "level %u has no tiles at all", s);
    if (st == SM_ERR_CORRUPT)
        *err = first;
    return st;
}

sm_status sm_mill_new(const sm_slide *slide, const sm_plan *plan, const sm_order *order,
                      const sm_mill_config *config, sm_mill **mill, uint32_t *unfit, sm_error *err)
{
    *unfit = SM_NO_LEVEL;
    sm_mill *m = sm_calloc(1, sizeof *m);
    if (m != NULL)
        m->workers = sm_calloc(config->threads, sizeof *m->workers);
    if (m == NULL || m->workers == NULL) {
        free(m);
        return sm_fail(err, SM_ERR_NOMEM, "out of memory");
    }
    m->slide = slide;
    m->plan = plan;
    m->order = order;
    m->config = *config;
    pthread_mutex_init(&m->lock, NULL);
    sm_status st = SM_OK;
    if (plan->n_stages > 0)
        st = sm_pyramid_new(plan->stages, plan->n_stages, plan->tile_px, plan->tile_px,
                            config->on_tile != NULL ? config->on_tile : mill_pyramid_tile,
                            config->on_tile != NULL ? config->on_tile_user : m, &m->pyramid, err);
    for (uint32_t s = 0; st == SM_OK && s < plan->n_sources; s++)
        if (plan->use[s].retile_to != SM_NO_LEVEL) {
            st = open_retile(m, s, err);
            if (st == SM_ERR_FORMAT)
                *unfit = s;
        }
    if (st == SM_OK)
        *mill = m;
    else
        sm_mill_free(&m);
    return st;
}

sm_status sm_mill_tables(sm_mill *m, uint32_t i, sm_buf *out, sm_error *err)
{
    const sm_out_level *l = &m->plan->out[i];
    switch (l->how) {
    case SM_HOW_COPIED: {
        const sm_level *src = sm_slide_level(m->slide, l->source_level);
        if (src->codec != SM_CODEC_JPEG || src->jpeg_tables == NULL)
            return SM_OK;
        return sm_jpeg_strip(src->jpeg_tables, src->jpeg_tables_len, out, err);
    }
    case SM_HOW_RETILED:
        return sm_retile_tables(m->retiles[l->source_level], out, err);
    case SM_HOW_TRANSCODED:
    case SM_HOW_MADE_IDCT:
    case SM_HOW_MADE_MEAN:
        return sm_encode_tables(&m->plan->encode, out, err);
    }
    return SM_OK;
}

void sm_mill_free(sm_mill **mill)
{
    sm_mill *m = *mill;
    if (m == NULL)
        return;
    for (unsigned w = 0; w < m->config.threads; w++)
        mill_worker_close(&m->workers[w]);
    for (uint32_t s = 0; s < SM_MAX_LEVELS; s++) {
        sm_retile_free(&m->retiles[s]);
        sm_buf_free(&m->blanks[s]);
        free(m->shares[s].items);
    }
    for (mill_batch *b = m->free_batches, *next; b != NULL; b = next) {
        next = b->next;
        batch_free(b);
    }
    sm_reorder_free(&m->queue);
    sm_pyramid_free(&m->pyramid);
    if (m->result != NULL) {
        free(m->result->bad);
        m->result->bad = NULL;
    }
    pthread_mutex_destroy(&m->lock);
    free(m->workers);
    free(m);
    *mill = NULL;
}

uint64_t sm_mill_memory(const sm_slide *slide, const sm_plan *plan, const sm_order *order,
                        unsigned threads)
{
    const sm_slide_info *info = sm_slide_get_info(slide);
    const uint64_t fixed = (uint64_t)96 << 20; /* program, libraries, stream and sink, malloc */
    /* units and their outputs, the keys they were sorted by, the play without pixels */
    uint64_t lists = order->n * (sizeof(sm_unit) + sizeof(uint32_t) + 24);
    uint64_t largest = 0, decoders = 0;
    for (uint32_t i = 0; i < info->n_associated; i++) {
        const uint64_t px = 3 * (uint64_t)info->associated[i].w_px * info->associated[i].h_px;
        largest = px > largest ? px : largest;
    }
    for (uint32_t s = 0; s < plan->n_sources; s++) {
        const sm_level *l = sm_slide_level(slide, s);
        lists += (uint64_t)l->cols * l->rows * 2 * sizeof(uint64_t);
        if (!plan->use[s].used)
            continue;
        const uint64_t px = 3 * (uint64_t)l->tile_w_px * l->tile_h_px;
        largest = px > largest ? px : largest;
        decoders += sm_decoder_memory(l);
    }
    for (uint32_t i = 0; i < plan->n_out; i++)
        lists += (12 + 8 + 5) * sm_grid_tiles(plan->out[i].grid);
    const uint64_t tile = 3 * (uint64_t)plan->tile_px * plan->tile_px;
    const uint64_t under_way = MAX_BATCH_UNITS * (uint64_t)(threads + queue_cap(threads)) * tile;
    return fixed + lists + order->peak_bytes + under_way +
           threads * (largest + decoders + 4 * tile);
}
