/* One input file: opening, bounded reads, and whether it changed meanwhile.
 * Owns the descriptor. */
#include "common/source.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/source_private.h"

/* statfs(2) f_type of file systems whose data is behind a network or another process */
static const uint32_t REMOTE_MAGICS[] = {
    0x00006969, /* NFS */
    0x65735546, /* FUSE: Gluster, sshfs, ... */
    0xFF534D42, /* CIFS */
    0xFE534D42, /* SMB2 */
    0x0000517B, /* SMB */
    0x0BD00BD0, /* Lustre */
    0x00C36400, /* Ceph */
    0x47504653, /* GPFS */
    0x01021997, /* 9p */
    0x5346414F, /* OpenAFS */
    0x6B414653, /* kAFS */
    0x19830326, /* BeeGFS */
    0xAAD7AAEA, /* PanFS */
    0x20030528, /* OrangeFS */
    0x73757245, /* Coda */
    0x0000564C, /* NCP */
};

static bool fd_is_local(int fd)
{
    struct statfs fs;
    if (fstatfs(fd, &fs) != 0)
        return false; /* unknown: the careful path is the one for remote files */
    for (size_t i = 0; i < SM_COUNT(REMOTE_MAGICS); i++)
        if ((uint32_t)fs.f_type == REMOTE_MAGICS[i])
            return false;
    return true;
}

static sm_status open_failed(int errnum, const char *path, sm_error *err)
{
    switch (errnum) {
    case ENOENT:
    case EACCES:
    case ENOTDIR:
    case EISDIR:
    case ELOOP:
    case ENAMETOOLONG:
    case ENXIO: /* a socket */
        return sm_fail_errno(err, SM_ERR_ARG, errnum, "%s: cannot open", path);
    default:
        return sm_fail_errno(err, SM_ERR_IO, errnum, "%s: cannot open", path);
    }
}

/* NULL when out of memory, and err says so. */
static sm_source *new_source(const char *path, sm_error *err)
{
    const size_t len = strlen(path) + 1;
    sm_source *source = sm_calloc(1, sizeof(*source));
    char *copy = sm_malloc_array(len, 1);
    if (source == NULL || copy == NULL) {
        free(source);
        free(copy);
        sm_fail(err, SM_ERR_NOMEM, "%s: out of memory", path);
        return NULL;
    }
    memcpy(copy, path, len);
    source->path = copy;
    source->fd = -1;
    return source;
}

sm_status sm_source_from_fd(int fd, const char *path, sm_source **source, sm_error *err)
{
    *source = NULL;
    struct stat info;
    sm_status st = SM_OK;
    if (fstat(fd, &info) != 0)
        st = sm_fail_errno(err, SM_ERR_IO, errno, "%s: cannot stat", path);
    else if (S_ISDIR(info.st_mode))
        st = sm_fail(err, SM_ERR_ARG, "%s: is a folder, not a file", path);
    else if (!S_ISREG(info.st_mode))
        st = sm_fail(err, SM_ERR_ARG, "%s: is not a regular file", path);
    sm_source *s = st == SM_OK ? new_source(path, err) : NULL;
    if (s == NULL) {
        (void)close(fd); /* only read from */
        return err->status;
    }
    s->fd = fd;
    s->size = (uint64_t)info.st_size;
    s->local = fd_is_local(fd);
    s->dev = info.st_dev;
    s->inode = info.st_ino;
    s->mtime = info.st_mtim;
    *source = s;
    return SM_OK;
}

sm_status sm_source_open(const char *path, sm_source **source, sm_error *err)
{
    *source = NULL;
    /* O_NONBLOCK: opening a FIFO must not wait for its writer. Taken off again, because io_uring
     * answers EAGAIN on a descriptor that has it. */
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0)
        return open_failed(errno, path, err);
    const sm_status st = sm_source_from_fd(fd, path, source, err);
    if (st != SM_OK)
        return st;
    if (fcntl(fd, F_SETFL, 0) != 0) {
        const int why = errno;
        sm_source_close(source);
        return sm_fail_errno(err, SM_ERR_IO, why, "%s: cannot set file flags", path);
    }
    return SM_OK;
}

sm_status sm_source_open_memory(const void *bytes, size_t len, const char *name, sm_source **source,
                                sm_error *err)
{
    static const uint8_t NOTHING = 0;
    *source = NULL;
    sm_source *s = new_source(name, err);
    if (s == NULL)
        return err->status;
    s->bytes = bytes != NULL ? bytes : &NOTHING;
    s->size = bytes != NULL ? len : 0;
    s->local = true;
    *source = s;
    return SM_OK;
}

const char *sm_source_path(const sm_source *source)
{
    return source->path;
}

uint64_t sm_source_size(const sm_source *source)
{
    return source->size;
}

bool sm_source_is_local(const sm_source *source)
{
    return source->local;
}

static sm_status ends_early(const sm_source *source, uint64_t end, size_t len, uint64_t offset,
                            sm_error *err)
{
    return sm_fail_at(err, SM_ERR_CORRUPT, offset,
                      "%s: file ends at byte %" PRIu64 ", %zu bytes wanted", source->path, end,
                      len);
}

sm_status sm_source_pread(const sm_source *source, void *bytes, size_t len, uint64_t offset,
                          sm_error *err)
{
    if (offset > source->size || len > source->size - offset)
        return ends_early(source, source->size, len, offset, err);
    if (source->bytes != NULL) {
        if (len > 0)
            memcpy(bytes, source->bytes + offset, len);
        return SM_OK;
    }
    for (size_t done = 0; done < len;) {
        const ssize_t got =
            pread(source->fd, (uint8_t *)bytes + done, len - done, (off_t)(offset + done));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            const int why = errno;
            const sm_status st =
                sm_fail_errno(err, SM_ERR_IO, why, "%s: cannot read %zu bytes at byte %" PRIu64,
                              source->path, len - done, offset + done);
            err->offset = offset + done;
            return st;
        }
        if (got == 0) /* it shrank since it was opened */
            return ends_early(source, offset + done, len, offset, err);
        done += (size_t)got;
    }
    return SM_OK;
}

sm_status sm_source_check_unchanged(const sm_source *source, sm_error *err)
{
    if (source->bytes != NULL)
        return SM_OK;
    struct stat by_fd, by_path;
    if (fstat(source->fd, &by_fd) != 0 || stat(source->path, &by_path) != 0)
        return sm_fail_errno(err, SM_ERR_IO, errno, "%s: cannot stat any more", source->path);
    const char *what = NULL;
    if (by_path.st_dev != source->dev || by_path.st_ino != source->inode)
        what = "another file took its name";
    else if ((uint64_t)by_fd.st_size != source->size)
        what = "its size is another now";
    else if (by_fd.st_mtim.tv_sec != source->mtime.tv_sec ||
             by_fd.st_mtim.tv_nsec != source->mtime.tv_nsec)
        what = "it was written to";
    if (what != NULL)
        return sm_fail(err, SM_ERR_CORRUPT, "%s: changed while read: %s", source->path, what);
    return SM_OK;
}

void sm_source_close(sm_source **source)
{
    sm_source *s = *source;
    if (s == NULL)
        return;
    if (s->fd >= 0)
        (void)close(s->fd); /* only read from */
    free(s->path);
    free(s);
    *source = NULL;
}
