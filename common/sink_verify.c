/* From written to published: fsync, close, read back, rename, fsync of the folder.
 * Owns nothing beyond the sink; any failure here leaves only sm_sink_discard. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/sink.h"
#include "common/sink_private.h"
#include "common/source_private.h"
#include "common/stop.h"
#include "common/sysinfo.h"
#include "common/trace.h"

/* ---- verify ---- */

/* Where the read-back stands in the list of chunks. */
typedef struct chunk_check {
    const sink_chunk *chunks; /* data chunks; the head comes before them */
    size_t n, next;
    const sink_chunk *current; /* NULL: all seen */
    size_t seen;               /* bytes of the current one */
    sm_hasher *hasher;
} chunk_check;

static sm_status end_chunk(chunk_check *check, const sm_sink *sink, sm_error *err)
{
    sm_digest got;
    sm_status st = sm_hasher_final(check->hasher, &got, err);
    if (st != SM_OK)
        return st;
    const sink_chunk *chunk = check->current;
    if (!sm_digest_equal(&got, &chunk->digest))
        return sm_fail_at(err, SM_ERR_CORRUPT, chunk->offset,
                          "%s: read back, %zu bytes are not what was written", sink->path,
                          chunk->len);
    check->current = check->next < check->n ? &check->chunks[check->next++] : NULL;
    check->seen = 0;
    return sm_hasher_reset(check->hasher, err);
}

static sm_status check_block(chunk_check *check, const sm_sink *sink, const sm_block *block,
                             sm_error *err)
{
    for (size_t at = 0; at < block->len;) {
        if (check->current == NULL)
            return sm_fail_at(err, SM_ERR_CORRUPT, block->offset + at,
                              "%s: read back, the file is longer than what was written",
                              sink->path);
        const size_t left = check->current->len - check->seen;
        const size_t part = block->len - at < left ? block->len - at : left;
        sm_status st = sm_hasher_update(check->hasher, block->bytes + at, part, err);
        if (st != SM_OK)
            return st;
        at += part;
        check->seen += part;
        if (check->seen == check->current->len && (st = end_chunk(check, sink, err)) != SM_OK)
            return st;
    }
    return SM_OK;
}

static sm_status read_all(const sm_sink *sink, sm_stream *stream, chunk_check *check,
                          sm_hasher *sha256, sm_error *err)
{
    for (;;) {
        sm_status st = sm_stop_check(err); /* gigabytes from a slow mount: Ctrl-C must not wait */
        sm_block block;
        if (st == SM_OK)
            st = sm_stream_next(stream, &block, err);
        if (st != SM_OK || block.len == 0)
            return st;
        const sm_span begin = sm_trace_begin();
        st = sm_hasher_update(sha256, block.bytes, block.len, err);
        if (st == SM_OK)
            st = check_block(check, sink, &block, err);
        sm_trace_end(SM_TRACE_HASH, begin);
        if (st != SM_OK)
            return st;
    }
}

/* A second descriptor of verify_fd's open file, so that closing the source keeps the lock. */
static sm_status open_source(const sm_sink *sink, sm_source **source, sm_error *err)
{
    const int fd = fcntl(sink->verify_fd, F_DUPFD_CLOEXEC, 0);
    if (fd < 0)
        return sm_sink_io_failed(sink, errno, "read it back", err);
    const sm_status st = sm_source_from_fd(fd, sink->path, source, err);
    if (st == SM_OK && sm_source_size(*source) != sink->size)
        return sm_fail(err, SM_ERR_CORRUPT,
                       "%s: has %" PRIu64 " bytes after %" PRIu64 " were written", sink->path,
                       sm_source_size(*source), sink->size);
    return st;
}

static sm_status read_back(const sm_sink *sink, bool past_cache, sm_digest *sha256, sm_error *err)
{
    sm_source *source = NULL;
    sm_stream *stream = NULL;
    sm_hasher *whole = NULL;
    /* chunks is an array of sink_chunk: the cast undoes the one sm_buf made to bytes */
    chunk_check check = {.chunks = (const void *)sink->chunks.data,
                         .n = sink->chunks.len / sizeof(sink_chunk)};
    if (sink->head_bytes > 0)
        check.current = &sink->head;
    else if (check.n > 0)
        check.current = &check.chunks[check.next++];
    const sm_stream_config config = {.past_cache = past_cache};
    const sm_span begin = sm_trace_begin_verify();
    sm_status st = open_source(sink, &source, err);
    if (st == SM_OK)
        st = sm_hasher_new(SM_DIGEST_SHA256, &whole, err);
    if (st == SM_OK)
        st = sm_hasher_new(SM_DIGEST_XXH128, &check.hasher, err);
    if (st == SM_OK)
        st = sm_stream_open(source, &config, &stream, err);
    if (st == SM_OK)
        st = read_all(sink, stream, &check, whole, err);
    if (st == SM_OK && check.current != NULL)
        st = sm_fail(err, SM_ERR_INTERNAL, "%s: read back, chunks are left over", sink->path);
    if (st == SM_OK)
        st = sm_hasher_final(whole, sha256, err);
    sm_stream_close(&stream);
    sm_hasher_free(&check.hasher);
    sm_hasher_free(&whole);
    sm_source_close(&source);
    sm_trace_end(SM_TRACE_VERIFY, begin);
    return st;
}

/* Opened before the writing descriptor is closed, so that the lock is never let go. */
static sm_status open_for_reading(sm_sink *sink, sm_error *err)
{
    sink->verify_fd =
        openat(sink->dir_fd, sink->temp_name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    struct stat ours, named;
    if (sink->verify_fd < 0 || fcntl(sink->verify_fd, F_SETFL, 0) != 0 ||
        fstat(sink->fd, &ours) != 0 || fstat(sink->verify_fd, &named) != 0)
        return sm_sink_io_failed(sink, errno, "open its temporary again", err);
    if (ours.st_ino != named.st_ino || ours.st_dev != named.st_dev)
        return sm_fail(err, SM_ERR_CORRUPT, "%s: another file took its temporary's name",
                       sink->path);
    (void)sm_sink_lock(sink->verify_fd); /* where there are no locks there were none before */
    return SM_OK;
}

/* fsync is never tried twice: a second one can succeed although blocks were lost. */
static sm_status sync_and_close(sm_sink *sink, sm_sink_result *result, sm_error *err)
{
    struct stat info;
    const bool differs =
        sink->keep_mode && (fstat(sink->fd, &info) != 0 || (info.st_mode & 0777) != sink->mode);
    if (differs && fchmod(sink->fd, sink->mode) != 0)
        return sm_sink_io_failed(sink, errno, "keep the mode of the file it replaces", err);
    const uint64_t start = sm_now_ns();
    if (fsync(sink->fd) != 0)
        return sm_sink_io_failed(sink, errno, "fsync", err);
    const int fd = sink->fd;
    sink->fd = -1;
    if (close(fd) != 0 && errno != EINTR) /* EINTR: closed all the same */
        return sm_sink_io_failed(sink, errno, "close", err);
    result->fsync_ns = sm_now_ns() - start;
    return SM_OK;
}

static sm_status make_durable(sm_sink *sink, sm_sink_result *result, sm_error *err)
{
    const sm_span begin = sm_trace_begin();
    const sm_status st = sync_and_close(sink, result, err);
    sm_trace_end(SM_TRACE_FSYNC, begin);
    return st;
}

/* make_durable on a thread of its own. */
typedef struct durable_work {
    sm_sink *sink;
    sm_sink_result *result;
    sm_status st;
    sm_error err;
} durable_work;

static void *durable_thread(void *arg)
{
    durable_work *work = arg;
    sm_trace_name_thread("sync", -1);
    work->st = make_durable(work->sink, work->result, &work->err);
    return NULL;
}

/* The cache can be read while it is being written to the disk: what counts is that both succeed. */
static sm_status durable_and_read_back(sm_sink *sink, sm_sink_result *result, sm_error *err)
{
    durable_work work = {.sink = sink, .result = result, .err = SM_ERROR_INIT};
    pthread_t thread;
    const bool apart = pthread_create(&thread, NULL, durable_thread, &work) == 0;
    if (!apart)
        (void)durable_thread(&work);
    const uint64_t start = sm_now_ns();
    const sm_status st = read_back(sink, false, &result->sha256, err);
    result->verify_ns = sm_now_ns() - start;
    if (apart)
        (void)pthread_join(thread, NULL);
    if (work.st != SM_OK) /* the disk's own word comes first */
        *err = work.err;
    return work.st != SM_OK ? work.st : st;
}

static sm_status verify(sm_sink *sink, sm_verify_mode mode, sm_sink_result *result, sm_error *err)
{
    sm_status st = sm_sink_drain(sink, err);
    if (st == SM_OK) {
        sm_sink_free_blocks(sink); /* reading back takes as much memory again */
        st = open_for_reading(sink, err);
    }
    if (st == SM_OK && mode == SM_VERIFY_CACHE) {
        st = durable_and_read_back(sink, result, err);
    } else if (st == SM_OK) {
        st = make_durable(sink, result, err);
        const uint64_t start = sm_now_ns();
        if (st != SM_OK || mode == SM_VERIFY_NONE)
            return st;
        /* a refusal only means that O_DIRECT has to do it alone */
        (void)posix_fadvise(sink->verify_fd, 0, 0, POSIX_FADV_DONTNEED);
        st = read_back(sink, true, &result->sha256, err);
        result->verify_ns = sm_now_ns() - start;
    }
    result->read_back = st == SM_OK;
    return st;
}

sm_status sm_sink_verify(sm_sink *sink, sm_verify_mode mode, sm_sink_result *result, sm_error *err)
{
    *result = (sm_sink_result){.size_bytes = sink->size};
    sm_status st = sm_sink_check_state(sink, SINK_COMPLETE, "verify", err);
    if (st != SM_OK)
        return st;
    if (sink->head_bytes > 0 && sink->state != SINK_COMPLETE)
        return sm_fail(err, SM_ERR_INTERNAL, "%s: verify before its head was written", sink->path);
    st = verify(sink, mode, result, err);
    if (st != SM_OK)
        return sm_sink_break(sink, err);
    sink->state = SINK_VERIFIED;
    return SM_OK;
}

/* ---- commit ---- */

static sm_status rename_over(sm_sink *sink, sm_error *err)
{
    if (renameat(sink->dir_fd, sink->temp_name, sink->dir_fd, sink->name) != 0)
        return sm_sink_io_failed(sink, errno, "rename its temporary", err);
    sink->temp_exists = false;
    return SM_OK;
}

/* NFS repeats a request whose answer was lost: "exists" may be our own first success. */
static bool is_ours(const sm_sink *sink)
{
    struct stat ours, named;
    return fstat(sink->verify_fd, &ours) == 0 &&
           fstatat(sink->dir_fd, sink->name, &named, AT_SYMLINK_NOFOLLOW) == 0 &&
           ours.st_ino == named.st_ino && ours.st_dev == named.st_dev;
}

/* linkat refuses an existing name in one step, which rename does not. */
static sm_status link_new(sm_sink *sink, sm_error *err)
{
    const int rc = linkat(sink->dir_fd, sink->temp_name, sink->dir_fd, sink->name, 0);
    const int why = rc == 0 ? 0 : errno;
    if (why == EPERM || why == EOPNOTSUPP || why == EXDEV || why == ENOSYS || why == EMLINK) {
        const sm_status st = sm_sink_check_target(sink, err);
        return st == SM_OK ? rename_over(sink, err) : st;
    }
    if (why == EEXIST && !is_ours(sink))
        return sm_fail(err, SM_ERR_ARG, "%s: exists already; --force replaces it", sink->path);
    if (why != 0 && why != EEXIST)
        return sm_sink_io_failed(sink, why, "link its temporary to the final name", err);
    /* One that cannot be unlinked is a second name of a good file; the next run removes it. */
    (void)unlinkat(sink->dir_fd, sink->temp_name, 0);
    sink->temp_exists = false;
    return SM_OK;
}

static sm_status publish(sm_sink *sink, sm_error *err)
{
    sm_status st = SM_OK;
    if (sink->force) {
        st = sm_sink_check_target(sink, err); /* a folder may have come meanwhile */
        if (st == SM_OK)
            st = rename_over(sink, err);
    } else {
        st = link_new(sink, err);
    }
    if (st != SM_OK)
        return st;
    sink->state = SINK_PUBLISHED;
    if (fsync(sink->dir_fd) != 0 && errno != EINVAL) /* EINVAL: this file system has no such call */
        return sm_sink_io_failed(
            sink, errno, "fsync its folder (the file is there, but a crash may lose it)", err);
    return SM_OK;
}

sm_status sm_sink_commit(sm_sink **sink, sm_sink_result *result, sm_error *err)
{
    sm_sink *s = *sink;
    sm_status st = sm_sink_check_state(s, SINK_VERIFIED, "commit", err);
    if (st != SM_OK)
        return st;
    if (s->state != SINK_VERIFIED)
        return sm_fail(err, SM_ERR_INTERNAL, "%s: commit before verify", s->path);
    const uint64_t start = sm_now_ns();
    const sm_span begin = sm_trace_begin();
    st = publish(s, err);
    sm_trace_end(SM_TRACE_PUBLISH, begin);
    result->publish_ns = sm_now_ns() - start;
    if (st != SM_OK)
        return sm_sink_break(s, err);
    sm_sink_release(sink);
    return SM_OK;
}
