/* Unfinished tiles of every stage, and the cascade that follows when one is finished.
 *
 * A tile counts the pixels it still lacks. Rectangles never overlap, so threads write pixels
 * without a lock; the subtraction that reaches zero decides who finishes the tile. */
#include "tiler/pyramid.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/trace.h"
#include "tiler/downsample.h"

enum { LARGE_TILE_BYTES = 512 << 10 };

typedef struct canvas {
    atomic_uint_fast64_t lacking; /* pixels */
    atomic_uint_fast64_t seq;     /* largest so far */
    struct canvas *next_free;
    uint8_t rgb[];
} canvas;

typedef struct stage_state {
    sm_pyramid_stage desc;
    sm_grid grid;
    canvas **tiles; /* grid.cols * grid.rows, NULL: not begun */
} stage_state;

struct sm_pyramid {
    stage_state *stages;
    uint32_t n_stages;
    uint32_t tile_w, tile_h;
    size_t stride;
    sm_pyramid_tile on_tile;
    void *user;
    pthread_mutex_t lock; /* tiles[], free_list, unfinished */
    canvas *free_list;
    canvas *finished; /* stands in tiles[] for all that are: none is begun again */
    uint64_t unfinished;
};

static sm_rect tile_bounds(const sm_pyramid *p, const stage_state *s, uint32_t col, uint32_t row)
{
    const uint32_t x = col * p->tile_w, y = row * p->tile_h;
    return (sm_rect){x, y, sm_min_u32(p->tile_w, s->desc.w_px - x),
                     sm_min_u32(p->tile_h, s->desc.h_px - y)};
}

sm_status sm_pyramid_new(const sm_pyramid_stage *stages, uint32_t n_stages, uint32_t tile_w_px,
                         uint32_t tile_h_px, sm_pyramid_tile on_tile, void *user,
                         sm_pyramid **pyramid, sm_error *err)
{
    if (tile_w_px == 0 || tile_h_px == 0 || tile_w_px % 16 != 0 || tile_h_px % 16 != 0)
        return sm_fail(err, SM_ERR_ARG, "tiles of %u x %u px: sides must be multiples of 16",
                       tile_w_px, tile_h_px);
    sm_pyramid *p = sm_calloc(1, sizeof *p);
    if (p == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "out of memory");
    pthread_mutex_init(&p->lock, NULL);
    p->tile_w = tile_w_px;
    p->tile_h = tile_h_px;
    p->stride = 3 * (size_t)tile_w_px;
    p->on_tile = on_tile;
    p->user = user;
    p->stages = sm_calloc(n_stages > 0 ? n_stages : 1, sizeof *p->stages);
    p->finished = sm_calloc(1, sizeof *p->finished);
    if (p->stages == NULL || p->finished == NULL)
        goto nomem;
    p->n_stages = n_stages;
    for (uint32_t i = 0; i < n_stages; i++) {
        stage_state *s = &p->stages[i];
        s->desc = stages[i];
        s->grid = sm_grid_for(s->desc.w_px, s->desc.h_px, tile_w_px, tile_h_px);
        s->tiles = sm_calloc((size_t)sm_grid_tiles(s->grid), sizeof(canvas *));
        if (s->tiles == NULL)
            goto nomem;
    }
    *pyramid = p;
    return SM_OK;
nomem:
    sm_pyramid_free(&p);
    return sm_fail(err, SM_ERR_NOMEM, "out of memory for %u pyramid stages", n_stages);
}

static sm_status put_twice(uint32_t stage, uint32_t col, uint32_t row, sm_error *err)
{
    return sm_fail(err, SM_ERR_INTERNAL, "stage %u, tile %u,%u: pixels put twice", stage, col, row);
}

/* The tile at (col, row), begun if it was not. */
static sm_status canvas_at(sm_pyramid *p, uint32_t stage, uint32_t col, uint32_t row, canvas **out,
                           sm_error *err)
{
    stage_state *s = &p->stages[stage];
    canvas **slot = &s->tiles[(size_t)row * s->grid.cols + col];
    pthread_mutex_lock(&p->lock);
    canvas *c = *slot;
    if (c == NULL) {
        c = p->free_list;
        if (c != NULL)
            p->free_list = c->next_free;
        else
            c = sm_malloc_array(1, sizeof *c + p->stride * p->tile_h);
        if (c != NULL) {
            const sm_rect b = tile_bounds(p, s, col, row);
            atomic_init(&c->lacking, (uint64_t)b.w * b.h);
            atomic_init(&c->seq, 0);
            *slot = c;
            p->unfinished++;
        }
    }
    pthread_mutex_unlock(&p->lock);
    if (c == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "out of memory for a pyramid tile");
    if (c == p->finished)
        return put_twice(stage, col, row, err);
    *out = c;
    return SM_OK;
}

/* A large tile that is used again holds as much memory after its first row as after its last; where
 * source rows straddle two rows of tiles that doubles the peak. Its pages go back to the system. */
static void give_pages_back(const sm_pyramid *p, canvas *c)
{
    const size_t bytes = p->stride * p->tile_h;
    if (bytes < LARGE_TILE_BYTES)
        return;
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    const size_t skip = (page - (uintptr_t)c->rgb % page) % page;
    if (bytes >= skip + page) /* a failure costs memory only */
        (void)madvise(c->rgb + skip, (bytes - skip) / page * page, MADV_DONTNEED);
}

/* The tile is complete: nobody else looks at it any more. */
static sm_status finish(sm_pyramid *p, unsigned worker, uint32_t stage, uint32_t col, uint32_t row,
                        canvas *c, sm_error *err)
{
    stage_state *s = &p->stages[stage];
    const sm_rect b = tile_bounds(p, s, col, row);
    const uint64_t seq = atomic_load(&c->seq);
    sm_status st = SM_OK;
    if (s->desc.wanted) {
        sm_pad_edges(c->rgb, p->stride, b.w, b.h, p->tile_w, p->tile_h);
        st = p->on_tile(p->user, worker, stage, col, row, seq, c->rgb, err);
    }
    if (st == SM_OK && s->desc.child != SM_NO_STAGE) {
        const stage_state *below = &p->stages[s->desc.child];
        sm_rect to = {b.x / 2, b.y / 2, 0, 0};
        /* An odd last column has no partner and is dropped, unless it is the only one. */
        to.w = (b.x + b.w == s->desc.w_px ? below->desc.w_px : (b.x + b.w) / 2) - to.x;
        to.h = (b.y + b.h == s->desc.h_px ? below->desc.h_px : (b.y + b.h) / 2) - to.y;
        if (to.w > 0 && to.h > 0) {
            uint8_t *dst = NULL;
            size_t stride = 0;
            st = sm_pyramid_begin(p, s->desc.child, to.x, to.y, to.w, to.h, &dst, &stride, err);
            if (st == SM_OK) {
                const sm_span begin = sm_trace_begin();
                sm_downsample_2x2(c->rgb, p->stride, b.w, b.h, dst, stride, to.w, to.h);
                sm_trace_end(SM_TRACE_DOWNSAMPLE, begin);
                st = sm_pyramid_end(p, worker, s->desc.child, to, seq, err);
            }
        }
    }
    give_pages_back(p, c);
    pthread_mutex_lock(&p->lock);
    s->tiles[(size_t)row * s->grid.cols + col] = p->finished;
    c->next_free = p->free_list;
    p->free_list = c;
    p->unfinished--;
    pthread_mutex_unlock(&p->lock);
    return st;
}

/* n pixels of the tile arrived with this seq. */
static sm_status arrived(sm_pyramid *p, unsigned worker, uint32_t stage, uint32_t col, uint32_t row,
                         canvas *c, uint64_t n, uint64_t seq, sm_error *err)
{
    uint_fast64_t seen = atomic_load(&c->seq);
    while (seen < seq && !atomic_compare_exchange_weak(&c->seq, &seen, seq))
        ;
    const uint64_t before = atomic_fetch_sub(&c->lacking, n);
    if (before < n)
        return put_twice(stage, col, row, err);
    return before == n ? finish(p, worker, stage, col, row, c, err) : SM_OK;
}

sm_status sm_pyramid_begin(sm_pyramid *p, uint32_t stage, uint32_t x, uint32_t y, uint32_t w,
                           uint32_t h, uint8_t **rgb, size_t *stride, sm_error *err)
{
    *rgb = NULL;
    *stride = p->stride;
    const stage_state *s = &p->stages[stage];
    if (x >= s->desc.w_px || y >= s->desc.h_px || w > p->tile_w || h > p->tile_h)
        return SM_OK;
    const uint32_t col = x / p->tile_w, row = y / p->tile_h;
    if (x % p->tile_w + w > p->tile_w || y % p->tile_h + h > p->tile_h)
        return SM_OK;
    canvas *c = NULL;
    const sm_status st = canvas_at(p, stage, col, row, &c, err);
    if (st != SM_OK)
        return st;
    *rgb = c->rgb + (size_t)(y % p->tile_h) * p->stride + 3 * (size_t)(x % p->tile_w);
    return SM_OK;
}

sm_status sm_pyramid_end(sm_pyramid *p, unsigned worker, uint32_t stage, sm_rect rect, uint64_t seq,
                         sm_error *err)
{
    const uint32_t col = rect.x / p->tile_w, row = rect.y / p->tile_h;
    stage_state *s = &p->stages[stage];
    pthread_mutex_lock(&p->lock);
    canvas *c = s->tiles[(size_t)row * s->grid.cols + col];
    pthread_mutex_unlock(&p->lock);
    if (c == NULL || c == p->finished)
        return sm_fail(err, SM_ERR_INTERNAL, "stage %u, tile %u,%u was not begun", stage, col, row);
    return arrived(p, worker, stage, col, row, c, (uint64_t)rect.w * rect.h, seq, err);
}

static void copy_in(uint8_t *dst, size_t dst_stride, const uint8_t *src, size_t src_stride,
                    const uint8_t fill[3], uint32_t w, uint32_t h)
{
    for (uint32_t y = 0; y < h; y++, dst += dst_stride) {
        if (src != NULL) {
            memcpy(dst, src + (size_t)y * src_stride, 3 * (size_t)w);
            continue;
        }
        for (uint32_t x = 0; x < w; x++)
            memcpy(dst + 3 * (size_t)x, fill, 3);
    }
}

sm_status sm_pyramid_put(sm_pyramid *p, unsigned worker, uint32_t stage, sm_rect rect,
                         const uint8_t *rgb, size_t stride, const uint8_t fill[3], uint64_t seq,
                         sm_error *err)
{
    for (uint32_t y = rect.y; y < rect.y + rect.h;) {
        const uint32_t row = y / p->tile_h;
        const uint32_t h = sm_min_u32(rect.y + rect.h, (row + 1) * p->tile_h) - y;
        for (uint32_t x = rect.x; x < rect.x + rect.w;) {
            const uint32_t col = x / p->tile_w;
            const uint32_t w = sm_min_u32(rect.x + rect.w, (col + 1) * p->tile_w) - x;
            canvas *c = NULL;
            sm_status st = canvas_at(p, stage, col, row, &c, err);
            if (st != SM_OK)
                return st;
            uint8_t *dst =
                c->rgb + (size_t)(y % p->tile_h) * p->stride + 3 * (size_t)(x % p->tile_w);
            const uint8_t *src =
                rgb == NULL ? NULL : rgb + (size_t)(y - rect.y) * stride + 3 * (size_t)(x - rect.x);
            copy_in(dst, p->stride, src, stride, fill, w, h);
            st = arrived(p, worker, stage, col, row, c, (uint64_t)w * h, seq, err);
            if (st != SM_OK)
                return st;
            x += w;
        }
        y += h;
    }
    return SM_OK;
}

uint64_t sm_pyramid_unfinished(const sm_pyramid *p)
{
    return p->unfinished;
}

void sm_pyramid_free(sm_pyramid **pyramid)
{
    sm_pyramid *p = *pyramid;
    if (p == NULL)
        return;
    for (uint32_t i = 0; i < p->n_stages && p->stages != NULL; i++) {
        stage_state *s = &p->stages[i];
        const uint64_t n = s->tiles == NULL ? 0 : sm_grid_tiles(s->grid);
        for (uint64_t t = 0; t < n; t++)
            if (s->tiles[t] != p->finished)
                free(s->tiles[t]);
        free(s->tiles);
    }
    for (canvas *c = p->free_list, *next; c != NULL; c = next) {
        next = c->next_free;
        free(c);
    }
    free(p->stages);
    free(p->finished);
    pthread_mutex_destroy(&p->lock);
    free(p);
    *pyramid = NULL;
}
