/* Extents of a file in a given order, several reads ahead.
 * Owns the buffers and the ring; the source and the list of extents are borrowed. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/buf.h"
#include "common/ring.h"
#include "common/source_private.h"

enum {
    MAX_GROUPS = 32,
    JOINED_BYTES = 1 << 20,
    JOINED_EXTENTS = 4096,
    DEFAULT_INFLIGHT = 16 << 20
};

/* Extents first .. first + n - 1, read by one transfer. */
typedef struct fetch_group {
    sm_ring_op op;
    size_t first, n;
    sm_buf bytes;
    size_t used; /* bytes of the extents that had their turn */
    bool arrived;
    bool outside; /* one extent beyond the end of the file: not read, reported in its turn */
} fetch_group;

struct sm_fetch {
    const sm_source *source;
    const sm_extent *extents;
    size_t n, next;                 /* next to hand out */
    size_t planned;                 /* extents before this one are in some group */
    sm_ring *ring;                  /* NULL over memory */
    size_t inflight_cap, inflight;  /* bytes asked for and not yet handed out */
    fetch_group groups[MAX_GROUPS]; /* a circle: n_groups from oldest on */
    size_t oldest, n_groups;
    sm_buf
        spare[MAX_GROUPS]; /* last in, first out, so that no more stay than were needed at once */
    size_t n_spare;
    bool broken; /* the ring gives no results */
};

static bool is_outside(const sm_fetch *fetch, size_t i)
{
    const sm_extent e = fetch->extents[i];
    return e.len > 0 && (e.offset > fetch->source->size || e.len > fetch->source->size - e.offset);
}

/* The longest run of touching extents from `planned` on; empty ones join anywhere. */
static fetch_group plan_group(const sm_fetch *fetch)
{
    fetch_group group = {.first = fetch->planned, .n = 1};
    if (is_outside(fetch, group.first)) {
        group.outside = true;
        return group;
    }
    uint64_t start = fetch->extents[group.first].offset, len = fetch->extents[group.first].len;
    for (size_t i = group.first + 1; i < fetch->n && group.n < JOINED_EXTENTS; i++, group.n++) {
        const sm_extent e = fetch->extents[i];
        if (is_outside(fetch, i))
            break;
        if (e.len == 0)
            continue;
        if (len == 0)
            start = e.offset;
        /* Neither sum overflows: both lie inside the file, or are at most JOINED_BYTES. */
        if (e.offset != start + len || e.len > JOINED_BYTES || len + e.len > JOINED_BYTES)
            break;
        len += e.len;
    }
    group.op.offset = start;
    group.op.len = (size_t)len;
    return group;
}

static void give_back(sm_fetch *fetch, sm_buf *bytes)
{
    if (bytes->data == NULL || bytes->cap > JOINED_BYTES || fetch->n_spare == MAX_GROUPS) {
        sm_buf_free(bytes);
        return;
    }
    fetch->spare[fetch->n_spare++] = *bytes;
    *bytes = (sm_buf){0};
}

static sm_status take_buffer(sm_fetch *fetch, size_t len, sm_buf *bytes, sm_error *err)
{
    *bytes = (sm_buf){0};
    if (fetch->n_spare > 0)
        *bytes = fetch->spare[--fetch->n_spare];
    if (bytes->cap < len)
        sm_buf_free(bytes); /* growing would copy what nobody wants */
    const sm_status st = sm_buf_reserve(bytes, len, err);
    if (st == SM_OK)
        bytes->len = len;
    return st;
}

static sm_status start_group(sm_fetch *fetch, const fetch_group *plan, sm_error *err)
{
    fetch_group *group = &fetch->groups[(fetch->oldest + fetch->n_groups) % MAX_GROUPS];
    *group = *plan;
    group->arrived = plan->outside || plan->op.len == 0;
    if (!group->arrived) {
        sm_status st = take_buffer(fetch, plan->op.len, &group->bytes, err);
        if (st != SM_OK)
            return st;
        group->op.fd = fetch->source->fd;
        group->op.bytes = group->bytes.data;
        group->op.user = group;
        st = sm_ring_submit(fetch->ring, &group->op, err);
        if (st != SM_OK) {
            give_back(fetch, &group->bytes);
            return st;
        }
    }
    fetch->inflight += plan->op.len;
    fetch->planned += plan->n;
    fetch->n_groups++;
    return SM_OK;
}

/* Read ahead up to the cap; an extent larger than the cap is read alone. */
static sm_status read_ahead(sm_fetch *fetch, sm_error *err)
{
    while (fetch->planned < fetch->n && fetch->n_groups < MAX_GROUPS) {
        const fetch_group plan = plan_group(fetch);
        const size_t room =
            fetch->inflight < fetch->inflight_cap ? fetch->inflight_cap - fetch->inflight : 0;
        if (fetch->n_groups > 0 && plan.op.len > room)
            return SM_OK;
        const sm_status st = start_group(fetch, &plan, err);
        if (st != SM_OK)
            return st;
    }
    return SM_OK;
}

sm_status sm_fetch_open(const sm_source *source, const sm_extent *extents, size_t n,
                        size_t inflight_bytes, sm_fetch **fetch, sm_error *err)
{
    *fetch = NULL;
    sm_fetch *f = sm_calloc(1, sizeof(*f));
    if (f == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "%s: out of memory for reading ahead", source->path);
    f->source = source;
    f->extents = extents;
    f->n = n;
    f->inflight_cap = inflight_bytes > 0 ? inflight_bytes : DEFAULT_INFLIGHT;
    sm_status st = SM_OK;
    if (source->bytes == NULL)
        st = sm_ring_open(MAX_GROUPS, &f->ring, err);
    if (st == SM_OK && f->ring != NULL)
        st = read_ahead(f, err);
    if (st != SM_OK) {
        sm_fetch_close(&f);
        return st;
    }
    *fetch = f;
    return SM_OK;
}

static sm_status outside(const sm_fetch *fetch, sm_extent e, uint64_t end, sm_error *err)
{
    return sm_fail_at(err, SM_ERR_CORRUPT, e.offset,
                      "%s: file ends at byte %" PRIu64 ", %" PRIu64 " bytes wanted",
                      fetch->source->path, end, e.len);
}

static sm_status wait_for(sm_fetch *fetch, const fetch_group *group, sm_error *err)
{
    while (!group->arrived) {
        sm_ring_op *op = NULL;
        const sm_status st = sm_ring_wait(fetch->ring, &op, err);
        if (st != SM_OK)
            return st;
        ((fetch_group *)op->user)->arrived = true;
    }
    return SM_OK;
}

/* out gets len bytes of the group from at on: by swapping buffers when they are all of a large
 * group. */
static sm_status hand_out(fetch_group *group, size_t at, size_t len, sm_buf *out, sm_error *err)
{
    out->len = 0;
    if (group->n == 1 && len > JOINED_BYTES) {
        const sm_buf whole = group->bytes;
        group->bytes = *out;
        *out = whole;
        return SM_OK;
    }
    return sm_buf_append(out, group->bytes.data + at, len, err);
}

static sm_status next_from_group(sm_fetch *fetch, fetch_group *group, sm_buf *out, sm_error *err)
{
    const sm_extent e = fetch->extents[fetch->next];
    out->len = 0;
    if (group->outside)
        return outside(fetch, e, fetch->source->size, err);
    if (e.len == 0)
        return SM_OK;
    sm_status st = wait_for(fetch, group, err);
    if (st != SM_OK)
        return st;
    const size_t len = (size_t)e.len; /* a part of op.len, which is a size_t */
    const size_t at = group->used;
    group->used += len; /* also after a failure: the next extent has its own place */
    if (len <= group->op.done && at <= group->op.done - len)
        return hand_out(group, at, len, out, err);
    const uint64_t end = group->op.offset + group->op.done;
    if (group->op.sys_errno == 0)
        return outside(fetch, e, end, err); /* it shrank since it was opened */
    st = sm_fail_errno(err, SM_ERR_IO, group->op.sys_errno, "%s: cannot read at byte %" PRIu64,
                       fetch->source->path, end);
    err->offset = end;
    return st;
}

static void drop_oldest(sm_fetch *fetch)
{
    fetch_group *group = &fetch->groups[fetch->oldest];
    fetch->inflight -= group->op.len;
    give_back(fetch, &group->bytes);
    fetch->oldest = (fetch->oldest + 1) % MAX_GROUPS;
    fetch->n_groups--;
}

static sm_status next_from_memory(sm_fetch *fetch, sm_buf *out, sm_error *err)
{
    const sm_extent e = fetch->extents[fetch->next];
    out->len = 0;
    if (is_outside(fetch, fetch->next))
        return outside(fetch, e, fetch->source->size, err);
    if (e.len == 0)
        return SM_OK;
    return sm_buf_append(out, fetch->source->bytes + e.offset, (size_t)e.len, err);
}

sm_status sm_fetch_next(sm_fetch *fetch, sm_buf *out, sm_error *err)
{
    if (fetch->broken)
        return sm_fail(err, SM_ERR_INTERNAL, "%s: reading ahead has failed", fetch->source->path);
    if (fetch->next >= fetch->n)
        return sm_fail(err, SM_ERR_INTERNAL, "%s: all %zu extents were fetched",
                       fetch->source->path, fetch->n);
    sm_status st = SM_OK;
    if (fetch->ring == NULL) {
        st = next_from_memory(fetch, out, err);
        fetch->next++;
        return st;
    }
    st = read_ahead(fetch, err);
    if (st != SM_OK)
        return st;
    fetch_group *group = &fetch->groups[fetch->oldest];
    st = next_from_group(fetch, group, out, err);
    fetch->next++;
    if (fetch->next < group->first + group->n)
        return st;
    /* A group whose read never ended stays: the kernel may still write into it. */
    fetch->broken = !group->arrived;
    if (!fetch->broken)
        drop_oldest(fetch);
    return st;
}

void sm_fetch_close(sm_fetch **fetch)
{
    sm_fetch *f = *fetch;
    if (f == NULL)
        return;
    sm_ring_close(&f->ring); /* waits: the kernel may still be writing into the buffers */
    for (size_t i = 0; i < MAX_GROUPS; i++)
        sm_buf_free(&f->groups[i].bytes);
    for (size_t i = 0; i < f->n_spare; i++)
        sm_buf_free(&f->spare[i]);
    free(f);
    *fetch = NULL;
}

const char *sm_fetch_backend(const sm_fetch *fetch)
{
    return fetch->ring != NULL ? sm_ring_backend(fetch->ring) : "memory";
}
