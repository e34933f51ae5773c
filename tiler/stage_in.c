/* Hash a source in one pass, and perhaps keep a local copy of what passes. */
#include "tiler/stage_in.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/stop.h"
#include "common/trace.h"

static sm_status write_all(int fd, const sm_block *block, const char *path, sm_error *err)
{
    const sm_span begin = sm_trace_begin();
    for (size_t done = 0; done < block->len;) {
        const ssize_t n = write(fd, block->bytes + done, block->len - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return sm_fail_errno(err, SM_ERR_IO, errno, "%s: cannot write the scratch copy", path);
        done += (size_t)n;
    }
    sm_trace_end(SM_TRACE_COPY_IN, begin);
    return SM_OK;
}

static sm_status hash_block(sm_hasher *hasher, const uint8_t *bytes, size_t len, sm_error *err)
{
    const sm_span begin = sm_trace_begin();
    const sm_status st = sm_hasher_update(hasher, bytes, len, err);
    sm_trace_end(SM_TRACE_HASH, begin);
    return st;
}

/* The other digest is taken on a thread of its own: one after the other, the two would be slower
 * than a good mount. */
typedef struct second_hash {
    sm_hasher *hasher; /* NULL: no other digest is wanted */
    pthread_t thread;
    bool runs;
    pthread_mutex_t lock; /* all below */
    pthread_cond_t changed;
    const uint8_t *bytes; /* NULL: nothing to do */
    size_t len;
    bool quit;
    sm_status st;
    sm_error err;
} second_hash;

static void *second_thread(void *arg)
{
    second_hash *h = arg;
    sm_trace_name_thread("second hash", -1);
    pthread_mutex_lock(&h->lock);
    for (;;) {
        while (h->bytes == NULL && !h->quit)
            pthread_cond_wait(&h->changed, &h->lock);
        if (h->bytes == NULL)
            break;
        pthread_mutex_unlock(&h->lock); /* the block stays until second_wait has returned */
        const sm_status st = hash_block(h->hasher, h->bytes, h->len, &h->err);
        pthread_mutex_lock(&h->lock);
        h->st = h->st != SM_OK ? h->st : st;
        h->bytes = NULL;
        pthread_cond_broadcast(&h->changed);
    }
    pthread_mutex_unlock(&h->lock);
    return NULL;
}

static sm_status second_start(second_hash *h, const sm_digest_kind *kind, sm_error *err)
{
    *h = (second_hash){.lock = PTHREAD_MUTEX_INITIALIZER,
                       .changed = PTHREAD_COND_INITIALIZER,
                       .err = SM_ERROR_INIT};
    const sm_status st = kind != NULL ? sm_hasher_new(*kind, &h->hasher, err) : SM_OK;
    if (st == SM_OK && h->hasher != NULL)
        h->runs = pthread_create(&h->thread, NULL, second_thread, h) == 0;
    return st;
}

static void second_give(second_hash *h, const sm_block *block)
{
    if (h->hasher == NULL)
        return;
    if (!h->runs) { /* no thread to be had: slower, that is all */
        const sm_status st = hash_block(h->hasher, block->bytes, block->len, &h->err);
        h->st = h->st != SM_OK ? h->st : st;
        return;
    }
    pthread_mutex_lock(&h->lock);
    h->bytes = block->bytes;
    h->len = block->len;
    pthread_cond_broadcast(&h->changed);
    pthread_mutex_unlock(&h->lock);
}

/* Until the block that was given is hashed. */
static sm_status second_wait(second_hash *h, sm_error *err)
{
    pthread_mutex_lock(&h->lock);
    while (h->bytes != NULL)
        pthread_cond_wait(&h->changed, &h->lock);
    const sm_status st = h->st;
    pthread_mutex_unlock(&h->lock);
    if (st != SM_OK)
        *err = h->err;
    return st;
}

static void second_stop(second_hash *h)
{
    if (h->runs) {
        pthread_mutex_lock(&h->lock);
        h->quit = true;
        pthread_cond_broadcast(&h->changed);
        pthread_mutex_unlock(&h->lock);
        (void)pthread_join(h->thread, NULL);
    }
    sm_hasher_free(&h->hasher);
}

static sm_status take_block(const sm_block *block, int fd, const char *path, sm_hasher *sha256,
                            second_hash *other, sm_error *err)
{
    sm_error second = SM_ERROR_INIT;
    second_give(other, block);
    sm_status st = hash_block(sha256, block->bytes, block->len, err);
    if (st == SM_OK && fd >= 0)
        st = write_all(fd, block, path, err);
    /* also after a failure: the block must not go before it is hashed */
    if (second_wait(other, &second) != SM_OK && st == SM_OK) {
        *err = second;
        st = second.status;
    }
    return st;
}

static sm_status stream_by(const sm_source *source, int fd, const char *path,
                           const sm_source_pass *p, sm_hasher *sha256, second_hash *other,
                           sm_error *err)
{
    const sm_stream_config config = {.past_cache = p->past_cache};
    sm_stream *stream = NULL;
    sm_block block = {0};
    sm_status st = sm_stream_open(source, &config, &stream, err);
    while (st == SM_OK) {
        st = sm_stop_check(err);
        if (st == SM_OK)
            st = sm_stream_next(stream, &block, err);
        if (st != SM_OK || block.len == 0)
            break;
        st = take_block(&block, fd, path, sha256, other, err);
        if (p->at != NULL)
            p->at(p->arg, block.offset + block.len);
    }
    sm_stream_close(&stream);
    return st;
}

/* One ordered pass; fd < 0: only hash. */
static sm_status run_pass(const sm_source *source, int fd, const char *path, sm_source_pass *p,
                          sm_error *err)
{
    sm_hasher *sha256 = NULL;
    second_hash other;
    sm_status st = second_start(&other, p->also, err);
    if (st == SM_OK)
        st = sm_hasher_new(SM_DIGEST_SHA256, &sha256, err);
    if (st == SM_OK)
        st = stream_by(source, fd, path, p, sha256, &other, err);
    if (st == SM_OK)
        st = sm_hasher_final(sha256, &p->sha256, err);
    if (st == SM_OK && other.hasher != NULL)
        st = sm_hasher_final(other.hasher, &p->other, err);
    second_stop(&other);
    sm_hasher_free(&sha256);
    return st;
}

sm_status sm_hash_source(const sm_source *source, sm_source_pass *pass, sm_error *err)
{
    return run_pass(source, -1, "", pass, err);
}

static char *joined(const char *dir, const char *name)
{
    const size_t n = strlen(dir) + strlen(name) + 2;
    char *path = sm_malloc_array(n, 1);
    if (path != NULL)
        snprintf(path, n, "%s/%s", dir, name);
    return path;
}

sm_status sm_stage_in(const sm_source *source, const char *dir, char **path, sm_source_pass *pass,
                      sm_error *err)
{
    const char *slash = strrchr(sm_source_path(source), '/');
    char *folder = joined(dir, "slidemill-XXXXXX");
    char *copy = NULL;
    int fd = -1;
    sm_status st = SM_OK;
    if (folder == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "out of memory");
    if (mkdtemp(folder) == NULL) {
        st =
            sm_fail_errno(err, SM_ERR_IO, errno, "%s: cannot make a folder there (--scratch)", dir);
        free(folder);
        return st;
    }
    copy = joined(folder, slash != NULL ? slash + 1 : sm_source_path(source));
    if (copy == NULL) {
        (void)rmdir(folder);
        free(folder);
        return sm_fail(err, SM_ERR_NOMEM, "out of memory");
    }
    free(folder);
    fd = open(copy, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        st = sm_fail_errno(err, SM_ERR_IO, errno, "%s: cannot create the scratch copy", copy);
    if (st == SM_OK)
        st = run_pass(source, fd, copy, pass, err);
    if (fd >= 0 && close(fd) != 0 && st == SM_OK)
        st = sm_fail_errno(err, SM_ERR_IO, errno, "%s: cannot write the scratch copy", copy);
    if (st == SM_OK)
        *path = copy;
    else
        sm_stage_remove(&copy);
    return st;
}

void sm_stage_remove(char **path)
{
    if (*path == NULL)
        return;
    (void)unlink(*path);
    *strrchr(*path, '/') = '\0';
    (void)rmdir(*path);
    free(*path);
    *path = NULL;
}

const char *sm_stage_default_dir(void)
{
    static const char *const names[] = {"SLURM_TMPDIR", "TMPDIR"};
    for (size_t i = 0; i < SM_COUNT(names); i++) {
        const char *dir = getenv(names[i]);
        if (dir != NULL && dir[0] != '\0')
            return dir;
    }
    return "/tmp";
}
