/* Hash a source in one pass, and perhaps keep a local copy of what passes. */
#include "tiler/stage_in.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/stop.h"

static sm_status write_all(int fd, const sm_block *block, const char *path, sm_error *err)
{
    for (size_t done = 0; done < block->len;) {
        const ssize_t n = write(fd, block->bytes + done, block->len - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return sm_fail_errno(err, SM_ERR_IO, errno, "%s: cannot write the scratch copy", path);
        done += (size_t)n;
    }
    return SM_OK;
}

/* One ordered pass; fd < 0: only hash. */
static sm_status pass(const sm_source *source, int fd, const char *path, sm_digest *sha256,
                      sm_error *err)
{
    sm_hasher *hasher = NULL;
    sm_stream *stream = NULL;
    sm_block block = {0};
    sm_status st = sm_hasher_new(SM_DIGEST_SHA256, &hasher, err);
    if (st == SM_OK)
        st = sm_stream_open(source, NULL, &stream, err);
    while (st == SM_OK) {
        st = sm_stop_check(err);
        if (st == SM_OK)
            st = sm_stream_next(stream, &block, err);
        if (st != SM_OK || block.len == 0)
            break;
        st = sm_hasher_update(hasher, block.bytes, block.len, err);
        if (st == SM_OK && fd >= 0)
            st = write_all(fd, &block, path, err);
    }
    if (st == SM_OK)
        st = sm_hasher_final(hasher, sha256, err);
    sm_stream_close(&stream);
    sm_hasher_free(&hasher);
    return st;
}

sm_status sm_hash_source(const sm_source *source, sm_digest *sha256, sm_error *err)
{
    return pass(source, -1, "", sha256, err);
}

static char *joined(const char *dir, const char *name)
{
    const size_t n = strlen(dir) + strlen(name) + 2;
    char *path = sm_malloc_array(n, 1);
    if (path != NULL)
        snprintf(path, n, "%s/%s", dir, name);
    return path;
}

sm_status sm_stage_in(const sm_source *source, const char *dir, char **path, sm_digest *sha256,
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
        st = pass(source, fd, copy, sha256, err);
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
