/* Writing one output file under a temporary name.
 * Owns the temporary, the blocks on their way to it, and the digests taken while writing. */
#include "common/sink.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/sink_private.h"
#include "common/trace.h"

enum {
    DEFAULT_BLOCK = 4 << 20,
    DEFAULT_DEPTH = 4,
    MAX_DEPTH = 256,
    PAGE = 4096,
    SYNC_EVERY = 32 << 20, /* bytes between two nudges to the kernel's writeback */
    RANDOM_CHARS = 6,
    NAME_TRIES = 100,
};

/* ---- failures ---- */

sm_status sm_sink_break(sm_sink *sink, const sm_error *err)
{
    sink->state = SINK_FAILED;
    sink->failure = *err;
    return err->status;
}

sm_status sm_sink_io_failed(const sm_sink *sink, int errnum, const char *what, sm_error *err)
{
    struct statvfs fs;
    if ((errnum == ENOSPC || errnum == EDQUOT) && fstatvfs(sink->dir_fd, &fs) == 0)
        return sm_fail_errno(err, SM_ERR_IO, errnum,
                             "%s: cannot %s (%" PRIu64 " bytes free on its file system)",
                             sink->path, what, (uint64_t)fs.f_bavail * fs.f_frsize);
    return sm_fail_errno(err, SM_ERR_IO, errnum, "%s: cannot %s", sink->path, what);
}

sm_status sm_sink_check_state(const sm_sink *sink, sink_state latest, const char *call,
                              sm_error *err)
{
    if (sink->state == SINK_FAILED) {
        *err = sink->failure;
        return err->status;
    }
    if (sink->state > latest)
        return sm_fail(err, SM_ERR_INTERNAL, "%s: %s after it was finished", sink->path, call);
    return SM_OK;
}

/* ---- the temporary ---- */

int sm_sink_lock(int fd)
{
    struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET};
    return fcntl(fd, F_OFD_SETLK, &lock) == 0 ? 0 : errno;
}

/* ".<name>.<6 of [A-Za-z0-9]>": the form that Gluster hashes as <name>. */
static bool is_temp_of(const char *entry, const char *name)
{
    const size_t len = strlen(name);
    if (strlen(entry) != len + 2 + RANDOM_CHARS || entry[0] != '.' || entry[len + 1] != '.' ||
        memcmp(entry + 1, name, len) != 0)
        return false;
    static const char ALNUM[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    return strspn(entry + len + 2, ALNUM) == RANDOM_CHARS;
}

/* Its writer holds a shared lock while it lives, so whoever gets the exclusive one may remove it.
 * No lock to be had on this file system: left alone. */
static void remove_if_dead(int dir_fd, const char *entry)
{
    const int fd = openat(dir_fd, entry, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return;
    struct stat info;
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (fstat(fd, &info) == 0 && S_ISREG(info.st_mode) && fcntl(fd, F_OFD_SETLK, &lock) == 0)
        (void)unlinkat(dir_fd, entry, 0);
    (void)close(fd); /* not written to */
}

/* Best effort: what cannot be listed or removed harms nobody but the free space. */
static void remove_dead_temps(const sm_sink *sink)
{
    const int fd = openat(sink->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return;
    DIR *dir = fdopendir(fd);
    if (dir == NULL) {
        (void)close(fd);
        return;
    }
    for (const struct dirent *entry; (entry = readdir(dir)) != NULL;)
        if (is_temp_of(entry->d_name, sink->name))
            remove_if_dead(sink->dir_fd, entry->d_name);
    (void)closedir(dir);
}

static sm_status create_failed(const sm_sink *sink, int errnum, sm_error *err)
{
    switch (errnum) {
    case EROFS:
    case EACCES:
    case ENOENT:
    case ENOTDIR:
    case ELOOP:
    case ENAMETOOLONG:
        return sm_fail_errno(err, SM_ERR_ARG, errnum, "%s: cannot create it", sink->path);
    default:
        return sm_sink_io_failed(sink, errnum, "create it", err);
    }
}

/* Between open and lock another run may have taken the file for dead: then it is gone, or that run
 * holds the lock for a moment. 0 when it is ours for sure. */
static int hold_temp(const sm_sink *sink)
{
    const int refused = sm_sink_lock(sink->fd);
    if (refused == EAGAIN || refused == EACCES)
        return EEXIST;
    struct stat by_fd, by_name;
    if (fstat(sink->fd, &by_fd) != 0 ||
        fstatat(sink->dir_fd, sink->temp_name, &by_name, AT_SYMLINK_NOFOLLOW) != 0)
        return errno == ENOENT ? EEXIST : errno;
    return by_fd.st_ino == by_name.st_ino && by_fd.st_dev == by_name.st_dev ? 0 : EEXIST;
}

/* The random characters stand at the end of temp_path. */
static sm_status create_temp(sm_sink *sink, sm_error *err)
{
    static const char ALNUM[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    char *random_part = sink->temp_path + strlen(sink->temp_path) - RANDOM_CHARS;
    int why = EEXIST;
    for (unsigned tries = 0; tries < NAME_TRIES && why == EEXIST; tries++) {
        uint8_t random[RANDOM_CHARS];
        if (getrandom(random, sizeof(random), 0) != (ssize_t)sizeof(random))
            return sm_fail_errno(err, SM_ERR_IO, errno, "%s: no random name", sink->path);
        for (size_t i = 0; i < RANDOM_CHARS; i++)
            random_part[i] = ALNUM[random[i] % (sizeof(ALNUM) - 1)];
        sink->fd = openat(sink->dir_fd, sink->temp_name,
                          O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0666);
        why = sink->fd >= 0 ? hold_temp(sink) : errno;
        if (sink->fd >= 0 && why != 0) {
            (void)close(sink->fd); /* empty, and about to be removed */
            sink->fd = -1;
            (void)unlinkat(sink->dir_fd, sink->temp_name, 0);
        }
    }
    if (why != 0)
        return create_failed(sink, why, err);
    sink->temp_exists = true;
    return SM_OK;
}

sm_status sm_sink_check_target(sm_sink *sink, sm_error *err)
{
    struct stat info;
    if (fstatat(sink->dir_fd, sink->name, &info, AT_SYMLINK_NOFOLLOW) != 0) {
        if (errno == ENOENT)
            return SM_OK;
        return create_failed(sink, errno, err);
    }
    /* A link is judged by what it leads to; one that leads nowhere is just a name that is taken. */
    struct stat target;
    if (S_ISLNK(info.st_mode) && fstatat(sink->dir_fd, sink->name, &target, 0) == 0)
        info = target;
    if (S_ISDIR(info.st_mode))
        return sm_fail(err, SM_ERR_ARG, "%s: is a folder", sink->path);
    if (!S_ISREG(info.st_mode) && !S_ISLNK(info.st_mode))
        return sm_fail(err, SM_ERR_ARG, "%s: is not a regular file", sink->path);
    if (!sink->force)
        return sm_fail(err, SM_ERR_ARG, "%s: exists already; --force replaces it", sink->path);
    sink->keep_mode = S_ISREG(info.st_mode);
    sink->mode = info.st_mode & 0777;
    return SM_OK;
}

/* ---- create ---- */

static sm_status copy_paths(sm_sink *sink, const char *path, sm_error *err)
{
    const char *slash = strrchr(path, '/');
    const size_t dir_len = slash != NULL ? (size_t)(slash - path) + 1 : 0, len = strlen(path);
    const char *name = path + dir_len;
    if (name[0] == '\0' || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return sm_fail(err, SM_ERR_ARG, "'%s': names a folder, not a file", path);
    const size_t cap = len + 2 + RANDOM_CHARS + 1;
    sink->path = sm_malloc_array(len + 1, 1);
    sink->temp_path = sm_malloc_array(cap, 1);
    if (sink->path == NULL || sink->temp_path == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "%s: out of memory", path);
    memcpy(sink->path, path, len + 1);
    snprintf(sink->temp_path, cap, "%.*s.%s.XXXXXX", (int)dir_len, path, name);
    sink->name = sink->path + dir_len;
    sink->temp_name = sink->temp_path + dir_len;
    return SM_OK;
}

/* Everything later goes through this descriptor, so a renamed folder or a chdir does not matter. */
static sm_status open_folder(sm_sink *sink, sm_error *err)
{
    const size_t dir_len = (size_t)(sink->name - sink->path);
    char *dir = sm_malloc_array(dir_len + 2, 1);
    if (dir == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "%s: out of memory", sink->path);
    snprintf(dir, dir_len + 2, "%.*s", (int)dir_len, dir_len > 0 ? sink->path : "");
    sink->dir_fd = open(dir_len > 0 ? dir : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const int why = errno;
    sm_status st = SM_OK;
    if (sink->dir_fd < 0 &&
        (why == ENOENT || why == ENOTDIR || why == EACCES || why == ELOOP || why == ENAMETOOLONG))
        st =
            sm_fail_errno(err, SM_ERR_ARG, why, "%s: cannot open its folder '%s'", sink->path, dir);
    else if (sink->dir_fd < 0)
        st = sm_fail_errno(err, SM_ERR_IO, why, "%s: cannot open its folder '%s'", sink->path, dir);
    free(dir);
    return st;
}

static sm_status open_writer(sm_sink *sink, const sm_sink_config *config, sm_error *err)
{
    const unsigned depth = config->depth > 0 ? config->depth : DEFAULT_DEPTH;
    sink->block_bytes = config->block_bytes > 0 ? config->block_bytes : DEFAULT_BLOCK;
    if (depth > MAX_DEPTH || sink->block_bytes > (size_t)1 << 30 ||
        config->head_bytes > (uint64_t)INT64_MAX / 2)
        return sm_fail(err, SM_ERR_ARG, "%s: %u blocks of %zu bytes: at most %d of 1 GiB",
                       sink->path, depth, sink->block_bytes, MAX_DEPTH);
    sink->n_blocks = depth + 1; /* one is filled while depth are in flight */
    sink->blocks = sm_calloc(sink->n_blocks, sizeof(*sink->blocks));
    if (sink->blocks == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "%s: out of memory for blocks", sink->path);
    const sm_status st = sm_hasher_new(SM_DIGEST_XXH128, &sink->data_hasher, err);
    return st == SM_OK ? sm_ring_open(depth, &sink->ring, err) : st;
}

sm_status sm_sink_create(const char *path, const sm_sink_config *config, sm_sink **sink,
                         sm_error *err)
{
    *sink = NULL;
    sm_sink *s = sm_calloc(1, sizeof(*s));
    if (s == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "%s: out of memory", path);
    s->dir_fd = s->fd = s->verify_fd = -1;
    s->force = config->force;
    s->head_bytes = s->size = config->head_bytes;
    sm_status st = copy_paths(s, path, err);
    if (st == SM_OK)
        st = open_folder(s, err);
    if (st == SM_OK)
        st = sm_sink_check_target(s, err);
    if (st == SM_OK)
        st = open_writer(s, config, err);
    if (st == SM_OK) {
        remove_dead_temps(s);
        st = create_temp(s, err);
    }
    if (st != SM_OK) {
        sm_sink_discard(&s);
        return st;
    }
    *sink = s;
    return SM_OK;
}

/* ---- write ---- */

/* Wait for one write to end. Its result counts even when an earlier one has failed. */
static sm_status reap(sm_sink *sink, sm_error *err)
{
    sm_ring_op *op = NULL;
    const sm_span begin = sm_trace_begin();
    sm_status st = sm_ring_wait(sink->ring, &op, err);
    sm_trace_end(SM_TRACE_WRITE_WAIT, begin);
    if (st != SM_OK)
        return sm_sink_break(sink, err);
    if (op->user != NULL)
        ((sink_block *)op->user)->busy = false;
    if (op->sys_errno != 0) {
        sm_sink_io_failed(sink, op->sys_errno, "write", err);
        err->offset = op->offset + op->done;
        return sm_sink_break(sink, err);
    }
    sink->written_since_sync += op->done;
    if (sink->written_since_sync >= SYNC_EVERY) {
        sink->written_since_sync = 0;
        /* Only a hint, so its result is of no interest: fsync reports what matters. */
        (void)sync_file_range(sink->fd, 0, 0, SYNC_FILE_RANGE_WRITE);
    }
    return SM_OK;
}

static sm_status make_room(sm_sink *sink, sm_error *err)
{
    while (!sm_ring_has_room(sink->ring)) {
        const sm_status st = reap(sink, err);
        if (st != SM_OK)
            return st;
    }
    return SM_OK;
}

static sm_status send_block(sm_sink *sink, sm_error *err)
{
    sink_block *block = sink->filling;
    if (block == NULL)
        return SM_OK;
    sink->filling = NULL;
    const sink_chunk chunk = {block->op.offset, block->op.len,
                              sm_digest_xxh128(block->op.bytes, block->op.len)};
    sm_status st = sm_buf_append(&sink->chunks, &chunk, sizeof(chunk), err);
    if (st != SM_OK)
        return sm_sink_break(sink, err);
    st = make_room(sink, err);
    if (st != SM_OK)
        return st;
    block->busy = true;
    st = sm_ring_submit(sink->ring, &block->op, err);
    if (st != SM_OK) {
        block->busy = false;
        return sm_sink_break(sink, err);
    }
    return SM_OK;
}

sm_status sm_sink_drain(sm_sink *sink, sm_error *err)
{
    sm_status st = send_block(sink, err);
    while (st == SM_OK && sm_ring_inflight(sink->ring) > 0)
        st = reap(sink, err);
    return st;
}

/* A block to fill from the present end of the file on. */
static sm_status take_block(sm_sink *sink, sm_error *err)
{
    sm_status st = make_room(sink, err); /* with room in the ring one block is idle */
    if (st != SM_OK)
        return st;
    sink_block *block = sink->blocks;
    while (block->busy)
        block++;
    if (block->op.bytes == NULL)
        block->op.bytes = sm_malloc_aligned(PAGE, sink->block_bytes);
    if (block->op.bytes == NULL) {
        sm_fail(err, SM_ERR_NOMEM, "%s: out of memory for a block of %zu bytes", sink->path,
                sink->block_bytes);
        return sm_sink_break(sink, err);
    }
    block->op.fd = sink->fd;
    block->op.write = true;
    block->op.len = 0;
    block->op.offset = sink->size;
    block->op.user = block;
    sink->filling = block;
    return SM_OK;
}

static sm_status append(sm_sink *sink, const void *bytes, size_t len, sm_error *err)
{
    sm_status st = sm_sink_check_state(sink, SINK_APPENDING, "append", err);
    if (st != SM_OK)
        return st;
    if (len > (uint64_t)INT64_MAX - sink->size)
        return sm_fail(err, SM_ERR_LIMIT, "%s: would exceed 2^63 bytes", sink->path);
    st = sm_hasher_update(sink->data_hasher, bytes, len, err);
    if (st != SM_OK)
        return sm_sink_break(sink, err);
    const uint8_t *from = bytes;
    while (len > 0) {
        if (sink->filling == NULL && (st = take_block(sink, err)) != SM_OK)
            return st;
        sm_ring_op *op = &sink->filling->op;
        /* Blocks end at multiples of their size in the file: only the first starts amid a page. */
        const size_t cap = sink->block_bytes - (size_t)(op->offset % sink->block_bytes);
        const size_t part = len < cap - op->len ? len : cap - op->len;
        memcpy((uint8_t *)op->bytes + op->len, from, part);
        op->len += part;
        sink->size += part;
        from += part;
        len -= part;
        if (op->len == cap && (st = send_block(sink, err)) != SM_OK)
            return st;
    }
    return SM_OK;
}

sm_status sm_sink_append(sm_sink *sink, const void *bytes, size_t len, uint64_t *offset,
                         sm_error *err)
{
    const sm_span begin = sm_trace_begin();
    *offset = sink->size;
    const sm_status st = append(sink, bytes, len, err);
    sm_trace_end(SM_TRACE_WRITE, begin);
    return st;
}

uint64_t sm_sink_size(const sm_sink *sink)
{
    return sink->size;
}

sm_status sm_sink_data_digest(sm_sink *sink, sm_digest *digest, sm_error *err)
{
    sm_status st = sm_sink_check_state(sink, SINK_APPENDING, "data digest", err);
    if (st != SM_OK)
        return st;
    st = sm_hasher_final(sink->data_hasher, digest, err);
    if (st != SM_OK)
        return sm_sink_break(sink, err);
    sink->state = SINK_DIGESTED;
    return SM_OK;
}

sm_status sm_sink_write_head(sm_sink *sink, const void *bytes, size_t len, sm_error *err)
{
    sm_status st = sm_sink_check_state(sink, SINK_DIGESTED, "head", err);
    if (st != SM_OK)
        return st;
    if (len != sink->head_bytes)
        return sm_fail(err, SM_ERR_INTERNAL, "%s: head of %zu bytes where %" PRIu64 " are reserved",
                       sink->path, len, sink->head_bytes);
    sink->state = SINK_COMPLETE;
    st = sm_sink_drain(sink, err);
    if (st != SM_OK || len == 0)
        return st;
    sink->head = (sink_chunk){0, len, sm_digest_xxh128(bytes, len)};
    /* The ring never writes to the bytes of a write; its struct serves both directions. */
    union {
        const void *in;
        void *out;
    } head = {.in = bytes};
    sm_ring_op op = {.fd = sink->fd, .write = true, .bytes = head.out, .len = len};
    st = sm_ring_submit(sink->ring, &op, err);
    if (st != SM_OK)
        return sm_sink_break(sink, err);
    return reap(sink, err); /* the only one in flight, so op and bytes are no longer used */
}

const char *sm_sink_temp_path(const sm_sink *sink)
{
    return sink->temp_path;
}

/* ---- release ---- */

void sm_sink_free_blocks(sm_sink *sink)
{
    for (unsigned i = 0; sink->blocks != NULL && i < sink->n_blocks; i++)
        free(sink->blocks[i].op.bytes);
    free(sink->blocks);
    sink->blocks = NULL;
}

void sm_sink_release(sm_sink **sink)
{
    sm_sink *s = *sink;
    sm_ring_close(&s->ring); /* waits: blocks and descriptor are in use until then */
    const int fds[] = {s->fd, s->verify_fd, s->dir_fd};
    for (size_t i = 0; i < SM_COUNT(fds); i++)
        if (fds[i] >= 0)
            (void)close(fds[i]); /* s->fd is open only when the file is being thrown away */
    sm_sink_free_blocks(s);
    sm_hasher_free(&s->data_hasher);
    sm_buf_free(&s->chunks);
    free(s->temp_path);
    free(s->path);
    free(s);
    *sink = NULL;
}

void sm_sink_discard(sm_sink **sink)
{
    sm_sink *s = *sink;
    if (s == NULL)
        return;
    if (s->temp_exists)
        (void)unlinkat(s->dir_fd, s->temp_name, 0); /* while the lock still says it is ours */
    sm_sink_release(sink);
}
