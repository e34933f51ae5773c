/* A ring of slots, one per unit in the window. Whoever completes the oldest slot writes it and all
 * complete ones behind it; the others only leave their tiles and go on. */
#include "tiler/reorder.h"

#include <pthread.h>
#include <stdlib.h>

typedef struct slot {
    sm_tile_out *tiles;
    uint32_t n, cap;
} slot;

struct sm_reorder {
    const uint32_t *n_outputs;
    uint64_t n;
    uint32_t window;
    sm_reorder_write write;
    void *user;
    pthread_mutex_t lock;
    pthread_cond_t room;
    slot *slots;   /* unit i is at i % window */
    uint64_t next; /* oldest unit not yet written */
    bool draining; /* some thread is in write() */
    bool aborted;
};

sm_status sm_reorder_new(const uint32_t *n_outputs, uint64_t n, uint32_t window,
                         sm_reorder_write write, void *user, sm_reorder **queue, sm_error *err)
{
    sm_reorder *q = sm_calloc(1, sizeof *q);
    if (q != NULL)
        q->slots = sm_calloc(window, sizeof *q->slots);
    if (q == NULL || q->slots == NULL) {
        free(q);
        return sm_fail(err, SM_ERR_NOMEM, "out of memory for the output queue");
    }
    q->n_outputs = n_outputs;
    q->n = n;
    q->window = window;
    q->write = write;
    q->user = user;
    pthread_mutex_init(&q->lock, NULL);
    pthread_cond_init(&q->room, NULL);
    while (q->next < q->n && n_outputs[q->next] == 0)
        q->next++;
    *queue = q;
    return SM_OK;
}

void sm_reorder_wait(sm_reorder *q, uint64_t i)
{
    pthread_mutex_lock(&q->lock);
    while (!q->aborted && i >= q->next + q->window)
        pthread_cond_wait(&q->room, &q->lock);
    pthread_mutex_unlock(&q->lock);
}

static int by_level_and_tile(const void *pa, const void *pb)
{
    const sm_tile_out *a = pa, *b = pb;
    if (a->level != b->level)
        return a->level < b->level ? -1 : 1;
    return a->tile < b->tile ? -1 : a->tile > b->tile;
}

/* Write one unit's tiles; the lock is not held, but draining is ours. */
static sm_status write_slot(sm_reorder *q, slot *s, sm_error *err)
{
    qsort(s->tiles, s->n, sizeof *s->tiles, by_level_and_tile);
    sm_status st = SM_OK;
    for (uint32_t i = 0; st == SM_OK && i < s->n; i++)
        st = q->write(q->user, &s->tiles[i], err);
    return st;
}

static void empty_slot(slot *s)
{
    for (uint32_t i = 0; i < s->n; i++)
        sm_buf_free(&s->tiles[i].bytes);
    s->n = 0;
}

/* Write what is complete at the front. Called and left with the lock held. */
static sm_status drain(sm_reorder *q, sm_error *err)
{
    sm_status st = SM_OK;
    if (q->draining)
        return SM_OK;
    q->draining = true;
    while (st == SM_OK && !q->aborted && q->next < q->n) {
        slot *s = &q->slots[q->next % q->window];
        if (s->n < q->n_outputs[q->next])
            break;
        pthread_mutex_unlock(&q->lock);
        st = write_slot(q, s, err);
        pthread_mutex_lock(&q->lock);
        empty_slot(s);
        if (st != SM_OK) { /* the rest must not be written as if this had been */
            q->aborted = true;
            pthread_cond_broadcast(&q->room);
            break;
        }
        q->next++;
        while (q->next < q->n && q->n_outputs[q->next] == 0)
            q->next++;
        pthread_cond_broadcast(&q->room);
    }
    q->draining = false;
    return st;
}

static sm_status add(slot *s, const sm_tile_out *tile, sm_error *err)
{
    if (s->n == s->cap) {
        const uint32_t cap = s->cap > 0 ? 2 * s->cap : 4;
        sm_tile_out *grown = reallocarray(s->tiles, cap, sizeof *grown);
        if (grown == NULL)
            return sm_fail(err, SM_ERR_NOMEM, "out of memory for the output queue");
        s->tiles = grown;
        s->cap = cap;
    }
    s->tiles[s->n++] = *tile;
    return SM_OK;
}

sm_status sm_reorder_put(sm_reorder *q, uint64_t seq, sm_tile_out *tile, sm_error *err)
{
    sm_status st = SM_OK;
    pthread_mutex_lock(&q->lock);
    const bool here = seq >= q->next && seq < q->next + q->window && seq < q->n &&
                      q->slots[seq % q->window].n < q->n_outputs[seq];
    if (!here)
        st = q->aborted ? SM_OK
                        : sm_fail(err, SM_ERR_INTERNAL, "tile %llu of level %u is out of order",
                                  (unsigned long long)tile->tile, tile->level);
    else
        st = add(&q->slots[seq % q->window], tile, err);
    if (st == SM_OK && here) {
        tile->bytes = (sm_buf){0};
        st = drain(q, err);
    }
    pthread_mutex_unlock(&q->lock);
    sm_buf_free(&tile->bytes);
    return st;
}

void sm_reorder_abort(sm_reorder *q)
{
    pthread_mutex_lock(&q->lock);
    q->aborted = true;
    pthread_cond_broadcast(&q->room);
    pthread_mutex_unlock(&q->lock);
}

bool sm_reorder_complete(sm_reorder *q)
{
    pthread_mutex_lock(&q->lock);
    const bool complete = q->next >= q->n;
    pthread_mutex_unlock(&q->lock);
    return complete;
}

void sm_reorder_free(sm_reorder **queue)
{
    sm_reorder *q = *queue;
    if (q == NULL)
        return;
    for (uint32_t i = 0; i < q->window; i++) {
        empty_slot(&q->slots[i]);
        free(q->slots[i].tiles);
    }
    free(q->slots);
    pthread_cond_destroy(&q->room);
    pthread_mutex_destroy(&q->lock);
    free(q);
    *queue = NULL;
}
