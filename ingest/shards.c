/* Cutting a corpus into shards: longest first, each into the emptiest shard. A heap holds the
 * shards by bytes; of the few emptiest ones that are all but equal, the one with the least of the
 * slide's brick takes it, so that every shard has a mix. */
#include <stdlib.h>
#include <string.h>

#include "common/buf.h"
#include "common/geom.h"
#include "ingest/schedule.h"

enum {
    CANDIDATES = 4,     /* emptiest shards that are compared */
    NEARLY_DIVISOR = 4, /* "all but equal": within this part of the slide's size, which shrinks */
};
#define MOST_CELLS (UINT64_C(1) << 25) /* shards x bricks counted apart; beyond: bytes alone */

typedef struct order_key {
    uint64_t bytes;
    uint32_t item;
} order_key;

typedef struct cutter {
    uint64_t *bytes; /* of each shard */
    uint64_t *cells; /* of each shard and brick; NULL: too many */
    uint32_t *heap;  /* shard numbers, emptiest on top */
    uint32_t n_shards, n_bricks, n_heap;
} cutter;

static int by_size(const void *a, const void *b)
{
    const order_key *x = a, *y = b;
    if (x->bytes != y->bytes)
        return x->bytes > y->bytes ? -1 : 1;
    return x->item < y->item ? -1 : x->item > y->item;
}

static bool emptier(const cutter *c, uint32_t a, uint32_t b)
{
    return c->bytes[a] != c->bytes[b] ? c->bytes[a] < c->bytes[b] : a < b;
}

static void push(cutter *c, uint32_t shard)
{
    uint32_t at = c->n_heap++;
    while (at > 0 && emptier(c, shard, c->heap[(at - 1) / 2])) {
        c->heap[at] = c->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    c->heap[at] = shard;
}

static uint32_t pop(cutter *c)
{
    const uint32_t top = c->heap[0], last = c->heap[--c->n_heap];
    uint32_t at = 0;
    while (2 * at + 1 < c->n_heap) {
        uint32_t child = 2 * at + 1;
        if (child + 1 < c->n_heap && emptier(c, c->heap[child + 1], c->heap[child]))
            child++;
        if (!emptier(c, c->heap[child], last))
            break;
        c->heap[at] = c->heap[child];
        at = child;
    }
    c->heap[at] = last;
    return top;
}

static uint64_t *cell(const cutter *c, uint32_t shard, uint32_t brick)
{
    return &c->cells[(size_t)shard * c->n_bricks + brick];
}

static uint32_t choose(cutter *c, const sm_schedule_item *item)
{
    uint32_t near[CANDIDATES], n = 0, best = 0;
    const uint64_t limit = c->bytes[c->heap[0]] + item->bytes / NEARLY_DIVISOR;
    do
        near[n++] = pop(c);
    while (c->cells != NULL && n < CANDIDATES && c->n_heap > 0 && c->bytes[c->heap[0]] <= limit);
    for (uint32_t i = 1; i < n; i++)
        if (*cell(c, near[i], item->brick) < *cell(c, near[best], item->brick))
            best = i;
    for (uint32_t i = 0; i < n; i++)
        if (i != best)
            push(c, near[i]);
    return near[best];
}

static sm_status cutter_init(cutter *c, sm_error *err)
{
    const uint64_t cells = (uint64_t)c->n_shards * c->n_bricks;
    c->bytes = sm_calloc(c->n_shards, sizeof *c->bytes);
    c->heap = sm_malloc_array(c->n_shards, sizeof *c->heap);
    if (c->n_bricks > 1 && cells <= MOST_CELLS)
        c->cells = sm_calloc((size_t)cells, sizeof *c->cells);
    if (c->bytes == NULL || c->heap == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "no memory for %u shards", c->n_shards);
    for (uint32_t i = 0; i < c->n_shards; i++)
        push(c, i);
    return SM_OK;
}

sm_status sm_schedule_shards(const sm_schedule_item *items, uint32_t n, uint32_t n_shards,
                             uint32_t *shard, sm_error *err)
{
    if (n_shards == 0)
        return sm_fail(err, SM_ERR_ARG, "a plan needs at least one shard");
    cutter c = {.n_shards = n_shards, .n_bricks = 1};
    order_key *order = sm_malloc_array(n > 0 ? n : 1, sizeof *order);
    sm_status st =
        order == NULL ? sm_fail(err, SM_ERR_NOMEM, "no memory to sort %u slides", n) : SM_OK;
    for (uint32_t i = 0; st == SM_OK && i < n; i++) {
        order[i] = (order_key){items[i].bytes, i};
        c.n_bricks = sm_max_u32(c.n_bricks, items[i].brick + 1);
    }
    if (st == SM_OK)
        st = cutter_init(&c, err);
    if (st == SM_OK) {
        qsort(order, n, sizeof *order, by_size);
        for (uint32_t i = 0; i < n; i++) {
            const sm_schedule_item *item = &items[order[i].item];
            const uint32_t to = choose(&c, item);
            c.bytes[to] += item->bytes;
            if (c.cells != NULL)
                *cell(&c, to, item->brick) += item->bytes;
            push(&c, to);
            shard[order[i].item] = to;
        }
    }
    free(order);
    free(c.bytes);
    free(c.cells);
    free(c.heap);
    return st;
}
