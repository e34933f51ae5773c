#include "ingest/out_mark.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/path.h"
#include "common/sink.h"
#include "common/sysinfo.h"

#define PREFIX ".slidemill-out-"
#define HEX "0123456789abcdef"

enum { N_BYTES = 16, RECORD_CAP = 512 };

/* What CATALOG.d/out-mark says. */
typedef struct record {
    char path[PATH_MAX];
    char mark[SM_OUT_MARK_CAP], host[128]; /* mark: "" if there is no record */
} record;

bool sm_out_mark_is_name(const char *name)
{
    const size_t len = strlen(PREFIX);
    return strncmp(name, PREFIX, len) == 0 && strspn(name + len, HEX) == (size_t)2 * N_BYTES &&
           name[len + (size_t)2 * N_BYTES] == '\0';
}

/* ---- the record ---- */

static sm_status record_path(const char *catalog_path, record *r, sm_error *err)
{
    *r = (record){0};
    if (snprintf(r->path, sizeof r->path, "%s.d/out-mark", catalog_path) >= (int)sizeof r->path)
        return sm_fail(err, SM_ERR_ARG, "%s: too long a path", catalog_path);
    return SM_OK;
}

/* len: 0 if there is no such file. */
static sm_status read_text(const char *path, char *text, size_t cap, size_t *len, sm_error *err)
{
    unsigned tries = 0;
    ssize_t n = -1;
    *len = 0;
    do {
        const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        if (fd < 0 && errno == ENOENT)
            return SM_OK;
        n = fd < 0 ? -1 : pread(fd, text, cap - 1, 0);
        const int why = errno;
        if (fd >= 0)
            (void)close(fd); /* only read from */
        errno = why;
    } while (n < 0 && sm_path_try_again(errno, &tries));
    if (n < 0)
        return sm_fail_errno(err, SM_ERR_IO, errno, "%s: cannot read", path);
    *len = (size_t)n;
    text[n] = '\0';
    return SM_OK;
}

/* Two lines: the mark's name, the host. */
static sm_status read_record(record *r, sm_error *err)
{
    char text[RECORD_CAP];
    size_t len = 0;
    const sm_status st = read_text(r->path, text, sizeof text, &len, err);
    if (st != SM_OK || len == 0)
        return st;
    const size_t name = strcspn(text, "\n");
    if (text[name] == '\n' && name < sizeof r->mark && strlen(text) == len) {
        memcpy(r->mark, text, name);
        r->mark[name] = '\0';
        (void)snprintf(r->host, sizeof r->host, "%.*s", (int)strcspn(text + name + 1, "\n"),
                       text + name + 1);
    }
    if (sm_out_mark_is_name(r->mark))
        return SM_OK;
    return sm_fail(err, SM_ERR_CORRUPT,
                   "%s: not the name of a mark; remove the file, then the next run makes another",
                   r->path);
}

/* Exclusive: what others recorded in the meantime stays, and its mark is the one that counts. */
static sm_status write_record(const record *r, sm_error *err)
{
    char text[RECORD_CAP];
    sm_sink *sink = NULL;
    sm_sink_result result;
    uint64_t offset = 0;
    const int len = snprintf(text, sizeof text, "%s\n%s\n", r->mark, r->host);
    sm_status st = sm_sink_create(r->path, &(sm_sink_config){0}, &sink, err);
    if (st == SM_OK)
        st = sm_sink_append(sink, text, (size_t)len, &offset, err);
    if (st == SM_OK)
        st = sm_sink_verify(sink, SM_VERIFY_CACHE, &result, err);
    if (st == SM_OK)
        st = sm_sink_commit(&sink, &result, err);
    sm_sink_discard(&sink);
    return st;
}

/* ---- the mark ---- */

sm_status sm_out_mark_check(int dir_fd, const char *dir, const char *mark, sm_error *err)
{
    struct stat info;
    unsigned tries = 0;
    int rc = 0;
    if (mark[0] == '\0')
        return SM_OK;
    do
        rc = fstatat(dir_fd, mark, &info, AT_SYMLINK_NOFOLLOW);
    while (rc != 0 && sm_path_try_again(errno, &tries));
    if (rc == 0 && S_ISDIR(info.st_mode))
        return SM_OK;
    return sm_fail_errno(err, SM_ERR_IO, rc == 0 ? ENOENT : errno, "%s: its mark %s is not there",
                         dir, mark);
}

static sm_status new_mark(record *r, sm_error *err)
{
    memcpy(r->mark, PREFIX, sizeof PREFIX);
    const sm_status st = sm_random_hex(r->mark + strlen(PREFIX), N_BYTES, err);
    if (st != SM_OK)
        return st;
    if (gethostname(r->host, sizeof r->host - 1) != 0)
        (void)snprintf(r->host, sizeof r->host, "unknown");
    return SM_OK;
}

static sm_status make(record *r, int dir_fd, const char *dir, sm_error *err)
{
    sm_error lost = SM_ERROR_INIT;
    record theirs = *r;
    sm_status st = new_mark(r, err);
    if (st != SM_OK)
        return st;
    if (mkdirat(dir_fd, r->mark, 0777) != 0)
        return sm_fail_errno(err, SM_ERR_IO, errno, "%s: cannot make the mark %s", dir, r->mark);
    if (write_record(r, &lost) == SM_OK)
        return SM_OK;
    (void)unlinkat(dir_fd, r->mark, AT_REMOVEDIR);
    st = read_record(&theirs, err);
    if (st == SM_OK && theirs.mark[0] == '\0') {
        *err = lost;
        return lost.status;
    }
    *r = theirs;
    return st;
}

/* Ours is found at once; that of another node perhaps not on this one. */
static sm_status look_for(const record *r, int dir_fd, const char *dir, sm_error *err)
{
    const sm_status st = sm_out_mark_check(dir_fd, dir, r->mark, err);
    if (st != SM_OK && err->sys_errno == ENOENT)
        return sm_fail(err, SM_ERR_IO,
                       "%s: is not the folder that the first run, on %s, wrote to (no %s in it); "
                       "is it mounted here? If you emptied it on purpose, remove %s",
                       dir, r->host, r->mark, r->path);
    return st;
}

sm_status sm_out_mark_read(const char *catalog_path, char mark[SM_OUT_MARK_CAP], sm_error *err)
{
    record r;
    sm_status st = record_path(catalog_path, &r, err);
    if (st == SM_OK)
        st = read_record(&r, err);
    (void)snprintf(mark, SM_OUT_MARK_CAP, "%s", st == SM_OK ? r.mark : "");
    return st;
}

static sm_status with_folder(const char *catalog_path, const char *dir, bool may_make,
                             char mark[SM_OUT_MARK_CAP], sm_error *err)
{
    record r;
    int dir_fd = -1;
    mark[0] = '\0';
    sm_status st = record_path(catalog_path, &r, err);
    if (st == SM_OK)
        st = read_record(&r, err);
    if (st != SM_OK || (r.mark[0] == '\0' && !may_make))
        return st;
    st = sm_path_open_root(dir, &dir_fd, err);
    if (st != SM_OK) {
        err->status = SM_ERR_IO;
        return SM_ERR_IO;
    }
    if (r.mark[0] == '\0')
        st = make(&r, dir_fd, dir, err);
    if (st == SM_OK)
        st = look_for(&r, dir_fd, dir, err);
    if (st == SM_OK)
        (void)snprintf(mark, SM_OUT_MARK_CAP, "%s", r.mark);
    (void)close(dir_fd); /* O_PATH */
    return st;
}

sm_status sm_out_mark_find(const char *catalog_path, const char *dir, char mark[SM_OUT_MARK_CAP],
                           sm_error *err)
{
    return with_folder(catalog_path, dir, false, mark, err);
}

sm_status sm_out_mark_make(const char *catalog_path, const char *dir, char mark[SM_OUT_MARK_CAP],
                           sm_error *err)
{
    return with_folder(catalog_path, dir, true, mark, err);
}
