/* A file's bytes in order, with a fixed number of large reads in flight.
 * Owns the blocks and the ring; the source is borrowed. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/geom.h"
#include "common/ring.h"
#include "common/source_private.h"
#include "common/sysinfo.h"
#include "common/trace.h"

enum { DEFAULT_BLOCK = 4 << 20, DEFAULT_DEPTH = 6, MAX_DEPTH = 256, ALIGNMENT = 4096 };

typedef struct stream_slot {
    sm_ring_op op;
    size_t want; /* bytes of the file in this block; op.len may be more with O_DIRECT */
    bool arrived;
} stream_slot;

/* Block k of the file lives in slot k % n_slots. One slot is the caller's, the rest in flight. */
struct sm_stream {
    const sm_source *source;
    sm_ring *ring; /* NULL over memory and for an empty file */
    int direct_fd; /* -1 without O_DIRECT */
    size_t block_bytes;
    uint64_t n_blocks, next, submitted; /* block numbers */
    size_t n_slots;
    stream_slot *slots;
    uint8_t *memory;    /* n_slots * block_bytes */
    uint64_t waited_ns; /* when the last wait ended; 0: the last block was there already */
    bool failed;
    sm_error failure; /* said again by every later call */
};

static sm_status fail_stream(sm_stream *stream, sm_status st, const sm_error *err)
{
    stream->failed = true;
    stream->failure = *err;
    return st;
}

static sm_status submit(sm_stream *stream, sm_error *err)
{
    const uint64_t offset = stream->submitted * stream->block_bytes;
    const uint64_t left = stream->source->size - offset;
    stream_slot *slot = &stream->slots[stream->submitted % stream->n_slots];
    slot->want = left < stream->block_bytes ? (size_t)left : stream->block_bytes;
    slot->arrived = false;
    const bool direct = stream->direct_fd >= 0;
    slot->op.fd = direct ? stream->direct_fd : stream->source->fd;
    slot->op.len = direct ? (size_t)sm_align_u64(slot->want, ALIGNMENT) : slot->want;
    slot->op.offset = offset;
    const sm_status st = sm_ring_submit(stream->ring, &slot->op, err);
    if (st == SM_OK)
        stream->submitted++;
    return st;
}

/* Start every read there is a slot for: blocks oldest_in_use .. oldest_in_use + n_slots - 1. */
static sm_status fill(sm_stream *stream, uint64_t oldest_in_use, sm_error *err)
{
    while (stream->submitted < stream->n_blocks &&
           stream->submitted < oldest_in_use + stream->n_slots && sm_ring_has_room(stream->ring)) {
        const sm_status st = submit(stream, err);
        if (st != SM_OK)
            return st;
    }
    return SM_OK;
}

/* The medium's bytes: O_DIRECT through a second descriptor of the same inode, else at least the
 * clean pages dropped first. */
static void open_direct(sm_stream *stream)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", stream->source->fd);
    stream->direct_fd = open(path, O_RDONLY | O_CLOEXEC | O_DIRECT);
    if (stream->direct_fd < 0)
        (void)posix_fadvise(stream->source->fd, 0, 0, POSIX_FADV_DONTNEED);
}

static sm_status set_up(sm_stream *stream, const sm_stream_config *config, sm_error *err)
{
    const sm_source *source = stream->source;
    size_t block = config->block_bytes > 0 ? config->block_bytes : DEFAULT_BLOCK;
    const unsigned depth = config->depth > 0 ? config->depth : DEFAULT_DEPTH;
    if (block > (size_t)1 << 30 || depth > MAX_DEPTH)
        return sm_fail(err, SM_ERR_ARG, "%s: %u blocks of %zu bytes: at most %d of 1 GiB",
                       source->path, depth, block, MAX_DEPTH);
    block = (size_t)sm_align_u64(block, ALIGNMENT);
    if (source->bytes == NULL && source->size < block) /* a small file needs no more */
        block = (size_t)sm_align_u64(source->size, ALIGNMENT);
    stream->block_bytes = block;
    if (source->size == 0)
        return SM_OK;
    stream->n_blocks = (source->size - 1) / block + 1;
    if (source->bytes != NULL)
        return SM_OK;
    stream->n_slots = stream->n_blocks <= depth ? (size_t)stream->n_blocks : (size_t)depth + 1;
    stream->slots = sm_calloc(stream->n_slots, sizeof(*stream->slots));
    size_t bytes = 0;
    if (sm_mul_size(stream->n_slots, block, &bytes))
        stream->memory = sm_malloc_aligned(ALIGNMENT, bytes);
    if (stream->slots == NULL || stream->memory == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "%s: out of memory for %zu blocks of %zu bytes",
                       source->path, stream->n_slots, block);
    for (size_t i = 0; i < stream->n_slots; i++)
        stream->slots[i].op.bytes = stream->memory + i * block;
    if (config->past_cache)
        open_direct(stream);
    const sm_status st = sm_ring_open(depth, &stream->ring, err);
    return st == SM_OK ? fill(stream, 0, err) : st;
}

sm_status sm_stream_open(const sm_source *source, const sm_stream_config *config,
                         sm_stream **stream, sm_error *err)
{
    static const sm_stream_config DEFAULTS = {0};
    *stream = NULL;
    sm_stream *s = sm_calloc(1, sizeof(*s));
    if (s == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "%s: out of memory for a stream", source->path);
    s->source = source;
    s->direct_fd = -1;
    const sm_status st = set_up(s, config != NULL ? config : &DEFAULTS, err);
    if (st != SM_OK) {
        sm_stream_close(&s);
        return st;
    }
    *stream = s;
    return SM_OK;
}

/* A file system may take O_DIRECT at open and refuse it, or our alignment, at the read. */
static sm_status read_buffered(sm_stream *stream, stream_slot *slot, sm_error *err)
{
    slot->op.sys_errno = 0;
    const uint64_t offset = slot->op.offset;
    (void)posix_fadvise(stream->source->fd, (off_t)offset, (off_t)slot->want, POSIX_FADV_DONTNEED);
    const sm_status st = sm_source_pread(stream->source, slot->op.bytes, slot->want, offset, err);
    if (st == SM_OK)
        slot->op.done = slot->want;
    return st;
}

static sm_status check_slot(sm_stream *stream, stream_slot *slot, sm_error *err)
{
    const char *path = stream->source->path;
    const uint64_t end = slot->op.offset + slot->op.done;
    if (slot->op.sys_errno == EINVAL && slot->op.fd == stream->direct_fd)
        return read_buffered(stream, slot, err);
    if (slot->op.sys_errno != 0) {
        const sm_status st = sm_fail_errno(err, SM_ERR_IO, slot->op.sys_errno,
                                           "%s: cannot read at byte %" PRIu64, path, end);
        err->offset = end;
        return st;
    }
    if (slot->op.done < slot->want)
        return sm_fail_at(err, SM_ERR_CORRUPT, end,
                          "%s: file ends early: it had %" PRIu64 " bytes when opened", path,
                          stream->source->size);
    return SM_OK;
}

static sm_status next_from_file(sm_stream *stream, sm_block *block, sm_error *err)
{
    stream_slot *slot = &stream->slots[stream->next % stream->n_slots];
    sm_status st = SM_OK;
    for (;;) {
        /* The block of the last call is free now, so reads up to next + n_slots may start. */
        st = fill(stream, stream->next, err);
        if (st != SM_OK || slot->arrived)
            break;
        sm_ring_op *op = NULL;
        st = sm_ring_wait(stream->ring, &op, err);
        if (st != SM_OK)
            break;
        stream->slots[op->offset / stream->block_bytes % stream->n_slots].arrived = true;
    }
    if (st == SM_OK)
        st = check_slot(stream, slot, err);
    if (st != SM_OK)
        return fail_stream(stream, st, err);
    *block = (sm_block){slot->op.bytes, slot->want, slot->op.offset};
    return SM_OK;
}

/* A block that is waited for was asked for long before: from the end of one wait to the end of the
 * next the storage had no rest, so that is how long it takes for a block, whatever is done with it.
 */
static void tell_delivery(sm_stream *stream, uint64_t begin_ns, size_t len)
{
    enum { WAITED_NS = 50000 }; /* less is the cost of asking */
    const uint64_t now = sm_now_ns();
    const bool waited = now - begin_ns >= WAITED_NS;
    if (waited && stream->waited_ns != 0)
        sm_trace_delivered(len, now - stream->waited_ns);
    stream->waited_ns = waited ? now : 0;
}

sm_status sm_stream_next(sm_stream *stream, sm_block *block, sm_error *err)
{
    const sm_source *source = stream->source;
    *block = (sm_block){.offset = source->size};
    if (stream->failed) {
        *err = stream->failure;
        return err->status;
    }
    if (stream->next == stream->n_blocks)
        return SM_OK;
    if (source->bytes != NULL) {
        const uint64_t offset = stream->next * stream->block_bytes, left = source->size - offset;
        const size_t len = left < stream->block_bytes ? (size_t)left : stream->block_bytes;
        *block = (sm_block){source->bytes + offset, len, offset};
    } else {
        const sm_span begin = sm_trace_begin();
        const sm_status st = next_from_file(stream, block, err);
        sm_trace_end(SM_TRACE_READ_WAIT, begin);
        tell_delivery(stream, begin.begin_ns, block->len);
        if (st != SM_OK)
            return st;
    }
    stream->next++;
    return SM_OK;
}

void sm_stream_close(sm_stream **stream)
{
    sm_stream *s = *stream;
    if (s == NULL)
        return;
    sm_ring_close(&s->ring); /* waits: the kernel may still be writing into the blocks */
    if (s->direct_fd >= 0)
        (void)close(s->direct_fd); /* only read from */
    free(s->memory);
    free(s->slots);
    free(s);
    *stream = NULL;
}

const char *sm_stream_backend(const sm_stream *stream)
{
    return stream->ring != NULL ? sm_ring_backend(stream->ring) : "memory";
}
