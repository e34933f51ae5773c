/* Tells the kernel which pages some slides stand on, before they are read one by one: the slides of
 * a shard lie all over the table, and on a mount each page would otherwise cost a round trip.
 * Only a hint. Nothing read here is used for anything else, and any surprise ends it silently. */
#include "common/catalog_db.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* File format: https://www.sqlite.org/fileformat2.html sections 1.6 (b-tree pages), 2.1 (varints)
 */
enum {
    INTERIOR_TABLE = 5,
    INTERIOR_HEADER = 12,
    N_CELLS_AT = 3,
    RIGHT_CHILD_AT = 8,
    PAGE_MAX = 65536,
    DEPTH_MAX = 8,
};

typedef struct page_walk {
    int fd;
    uint32_t page_bytes;
    unsigned depth;     /* levels of interior pages */
    const int64_t *ids; /* sorted */
    size_t n;
    uint8_t *pages; /* one for each level */
} page_walk;

static uint32_t big_endian(const uint8_t *bytes, size_t n)
{
    uint32_t value = 0;
    for (size_t i = 0; i < n; i++)
        value = value << 8 | bytes[i];
    return value;
}

/* False if the varint does not end before `end`. */
static bool read_varint(const uint8_t *p, const uint8_t *end, int64_t *value)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < 9 && p + i < end; i++) {
        if (i == 8) {
            v = v << 8 | p[i];
            memcpy(value, &v, sizeof(v));
            return true;
        }
        v = v << 7 | (p[i] & 0x7F);
        if (p[i] < 0x80) {
            memcpy(value, &v, sizeof(v));
            return true;
        }
    }
    return false;
}

/* The page into the buffer of its level; false if it is no interior page of a table. */
static bool read_interior(const page_walk *walk, uint32_t number, unsigned level)
{
    uint8_t *page = walk->pages + (size_t)level * walk->page_bytes;
    const uint64_t at = (uint64_t)(number - 1) * walk->page_bytes;
    return number > 1 && pread(walk->fd, page, walk->page_bytes, (off_t)at) == walk->page_bytes &&
           page[0] == INTERIOR_TABLE;
}

/* Child i of an interior page and the largest id below it, which is not told for the last child. */
static bool read_child(const page_walk *walk, const uint8_t *page, uint32_t i, uint32_t *child,
                       int64_t *last_id)
{
    const uint32_t n = big_endian(page + N_CELLS_AT, 2);
    if (i == n) {
        *child = big_endian(page + RIGHT_CHILD_AT, 4);
        return true;
    }
    const size_t pointer = INTERIOR_HEADER + (size_t)2 * i;
    if (pointer + 2 > walk->page_bytes)
        return false;
    const uint32_t cell = big_endian(page + pointer, 2);
    if (cell + 5 > walk->page_bytes)
        return false;
    *child = big_endian(page + cell, 4);
    return read_varint(page + cell + 4, page + walk->page_bytes, last_id);
}

static unsigned measure_depth(const page_walk *walk, uint32_t root)
{
    unsigned depth = 0;
    int64_t last_id = 0;
    while (depth < DEPTH_MAX && read_interior(walk, root, 0)) {
        depth++;
        if (!read_child(walk, walk->pages, 0, &root, &last_id))
            return DEPTH_MAX;
    }
    return depth;
}

/* Position on one level of the tree. */
typedef struct level_at {
    uint32_t next, n; /* child to look at, the last one */
    int64_t last_id;  /* largest id below the page */
} level_at;

/* Down and along the tree, only where an id may be; each step moves on or consumes ids, and no page
 * is read for nothing, so that even a circle of pages ends. */
static void walk_tree(const page_walk *walk, uint32_t root)
{
    level_at at[DEPTH_MAX] = {0};
    unsigned level = 0;
    size_t next_id = 0;
    if (!read_interior(walk, root, 0))
        return;
    at[0] = (level_at){.n = big_endian(walk->pages + N_CELLS_AT, 2), .last_id = INT64_MAX};
    while (next_id < walk->n) {
        const uint8_t *page = walk->pages + (size_t)level * walk->page_bytes;
        uint32_t child = 0;
        int64_t last_id = at[level].last_id;
        if (at[level].next > at[level].n) {
            if (level-- == 0)
                return;
            continue;
        }
        if (!read_child(walk, page, at[level].next++, &child, &last_id))
            return;
        if (walk->ids[next_id] > last_id)
            continue;
        if (level + 1 < walk->depth) {
            if (!read_interior(walk, child, ++level))
                return;
            page = walk->pages + (size_t)level * walk->page_bytes;
            at[level] = (level_at){.n = big_endian(page + N_CELLS_AT, 2), .last_id = last_id};
            continue;
        }
        (void)posix_fadvise(walk->fd,
                            (off_t)((uint64_t)child * walk->page_bytes - walk->page_bytes),
                            walk->page_bytes, POSIX_FADV_WILLNEED);
        while (next_id < walk->n && walk->ids[next_id] <= last_id)
            next_id++;
    }
}

/* The ids of a shard, from the index alone. */
static sm_status shard_ids(sm_catalog *catalog, uint32_t shard, sm_buf *ids, sm_error *err)
{
    static const char SELECT[] = "SELECT id FROM slide WHERE shard = ? ORDER BY id";
    sm_query query = {0};
    sm_status st = sm_query_use(catalog, SELECT, &query, err);
    if (st == SM_OK)
        sm_query_int(&query, shard);
    for (bool more = true; st == SM_OK;) {
        st = sm_query_next(&query, &more, err);
        if (st != SM_OK || !more)
            break;
        const int64_t id = sm_column_int(&query, 0, INT64_MIN, INT64_MAX);
        st = sm_buf_append(ids, &id, sizeof(id), err);
    }
    return st;
}

static bool read_number(sm_catalog *catalog, const char *sql, uint32_t max, uint32_t *number)
{
    sm_error err = SM_ERROR_INIT;
    sm_query query = {0};
    bool found = false;
    *number = 0;
    if (sm_query_new(catalog, sql, &query, &err) == SM_OK &&
        sm_query_next(&query, &found, &err) == SM_OK && found)
        *number = (uint32_t)sm_column_int(&query, 0, 0, max);
    sm_query_end(&query);
    return *number != 0;
}

void sm_prefetch_shard(sm_catalog *catalog, uint32_t shard)
{
    sm_error err = SM_ERROR_INIT;
    sm_buf ids = {0};
    uint32_t root = 0;
    page_walk walk = {.fd = -1};
    if (!read_number(catalog, "PRAGMA page_size", PAGE_MAX, &walk.page_bytes) ||
        !read_number(catalog, "SELECT rootpage FROM sqlite_schema WHERE name = 'slide'", UINT32_MAX,
                     &root))
        return;
    walk.pages = sm_malloc_array(DEPTH_MAX, walk.page_bytes);
    if (walk.pages != NULL && shard_ids(catalog, shard, &ids, &err) == SM_OK)
        walk.fd = open(catalog->file, O_RDONLY | O_CLOEXEC);
    if (walk.fd >= 0) {
        walk.ids = (const int64_t *)(const void *)ids.data;
        walk.n = ids.len / sizeof(*walk.ids);
        walk.depth = measure_depth(&walk, root);
        if (walk.depth > 0 && walk.depth < DEPTH_MAX)
            walk_tree(&walk, root);
        (void)close(walk.fd);
    }
    sm_buf_free(&ids);
    free(walk.pages);
}
