/* Relative paths from outside: judging them, opening beneath a root, writing them in one line.
 * Owns nothing; descriptors it returns are the caller's. */
#include "common/path.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum {
    COMPONENT_MAX = 255,
    UNCLEAN_MAX = 2 * SM_PATH_MAX,
    RETRIES = 15,
    LONGEST_PAUSE_MS = 256,
};

/* ---- text ---- */

static sm_status check_component(const char *path, const char *part, size_t len, sm_error *err)
{
    if (len == 0)
        return sm_fail(err, SM_ERR_ARG, "'%s': a path with an empty component ('//')", path);
    if (len > COMPONENT_MAX)
        return sm_fail(err, SM_ERR_ARG, "'%s': a component longer than %d bytes", path,
                       COMPONENT_MAX);
    if (part[0] == '.' && (len == 1 || (len == 2 && part[1] == '.')))
        return sm_fail(err, SM_ERR_ARG, "'%s': a path with the component '%.*s'", path, (int)len,
                       part);
    return SM_OK;
}

sm_status sm_path_check(const char *path, sm_error *err)
{
    const size_t len = strnlen(path, SM_PATH_MAX + 1);
    if (len == 0)
        return sm_fail(err, SM_ERR_ARG, "'': an empty path");
    if (len > SM_PATH_MAX)
        return sm_fail(err, SM_ERR_ARG, "'%.60s...': a path longer than %d bytes", path,
                       SM_PATH_MAX);
    if (path[0] == '/')
        return sm_fail(err, SM_ERR_ARG, "'%s': an absolute path where a relative one is wanted",
                       path);
    if (path[len - 1] == '/')
        return sm_fail(err, SM_ERR_ARG, "'%s': names a folder (trailing '/')", path);
    for (const char *part = path;;) {
        const char *end = strchrnul(part, '/');
        const sm_status st = check_component(path, part, (size_t)(end - part), err);
        if (st != SM_OK || *end == '\0')
            return st;
        part = end + 1;
    }
}

sm_status sm_path_clean(const char *path, sm_buf *out, sm_error *err)
{
    out->len = 0;
    /* What is dropped cannot make a path of any length a good one: the cost stays bounded. */
    if (strnlen(path, UNCLEAN_MAX) >= UNCLEAN_MAX)
        return sm_fail(err, SM_ERR_ARG, "'%.60s...': a path longer than %d bytes", path,
                       SM_PATH_MAX);
    if (path[0] == '/')
        return sm_fail(err, SM_ERR_ARG, "'%s': an absolute path where a relative one is wanted",
                       path);
    for (const char *part = path; *part != '\0';) {
        const char *end = strchrnul(part, '/');
        const size_t len = (size_t)(end - part);
        const bool nothing = (len == 0 || (len == 1 && part[0] == '.')) && *end == '/';
        if (!nothing) {
            const sm_status st = sm_buf_append(out, part, len + (*end == '/'), err);
            if (st != SM_OK)
                return st;
        }
        part = *end == '/' ? end + 1 : end;
    }
    const sm_status st = sm_buf_append(out, "", 1, err);
    return st == SM_OK ? sm_path_check((const char *)out->data, err) : st;
}

sm_status sm_path_join(const char *root, const char *path, sm_buf *out, sm_error *err)
{
    const size_t len = strlen(root);
    out->len = 0;
    const bool slash = len > 0 && root[len - 1] != '/';
    sm_status st = sm_buf_append(out, root, len, err);
    if (st == SM_OK)
        st = sm_buf_append(out, "/", slash, err);
    return st == SM_OK ? sm_buf_append(out, path, strlen(path) + 1, err) : st;
}

sm_status sm_path_encode(const char *path, sm_buf *out, sm_error *err)
{
    static const char HEX[] = "0123456789ABCDEF";
    for (const char *p = path; *p != '\0'; p++) {
        const unsigned char c = (unsigned char)*p;
        const bool plain = c >= 0x20 && c < 0x7F && c != '%' && c != '"' && c != '\\';
        const char escaped[3] = {'%', HEX[c >> 4], HEX[c & 15]};
        const sm_status st =
            plain ? sm_buf_append(out, p, 1, err) : sm_buf_append(out, escaped, 3, err);
        if (st != SM_OK)
            return st;
    }
    return SM_OK;
}

/* -1: not hexadecimal */
static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

sm_status sm_path_decode(const char *text, sm_buf *out, sm_error *err)
{
    out->len = 0;
    for (const char *p = text; *p != '\0'; p++) {
        char c = *p;
        if (c == '%') {
            const int high = hex_value(p[1]), low = high >= 0 ? hex_value(p[2]) : -1;
            if (low < 0)
                return sm_fail_at(err, SM_ERR_ARG, (uint64_t)(p - text),
                                  "'%.100s': '%%' without two hexadecimal digits", text);
            if (high == 0 && low == 0)
                return sm_fail_at(err, SM_ERR_ARG, (uint64_t)(p - text), "'%.100s': a NUL (%%00)",
                                  text);
            c = (char)(high * 16 + low);
            p += 2;
        }
        const sm_status st = sm_buf_append(out, &c, 1, err);
        if (st != SM_OK)
            return st;
    }
    return sm_buf_append(out, "", 1, err);
}

/* ---- open ---- */

bool sm_path_try_again(int errnum, unsigned *tries)
{
    if ((errnum != ESTALE && errnum != EAGAIN && errnum != EINTR) || *tries >= RETRIES)
        return false;
    const long ms = *tries < 8 ? 1L << *tries : LONGEST_PAUSE_MS;
    const struct timespec pause = {.tv_nsec = ms * 1000000};
    (void)nanosleep(&pause, NULL);
    (*tries)++;
    errno = errnum;
    return true;
}

sm_status sm_path_open_root(const char *root, int *fd, sm_error *err)
{
    unsigned tries = 0;
    do
        *fd = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    while (*fd < 0 && sm_path_try_again(errno, &tries));
    if (*fd >= 0)
        return SM_OK;
    const int why = errno;
    const bool wrong =
        why == ENOENT || why == ENOTDIR || why == EACCES || why == ELOOP || why == ENAMETOOLONG;
    return sm_fail_errno(err, wrong ? SM_ERR_ARG : SM_ERR_IO, why, "%s: cannot open the folder",
                         root);
}

/* openat2(2) as the kernel defines it; the C library has no header for it. */
struct open_how {
    uint64_t flags, mode, resolve;
};
static const uint64_t NO_MAGICLINKS = 0x02, BENEATH = 0x08;

static int call_openat2(int root_fd, const char *path, int flags)
{
    struct open_how how = {
        .flags = (uint64_t)(unsigned)flags | O_CLOEXEC,
        .mode = (flags & O_CREAT) != 0 ? 0666 : 0,
        .resolve = BENEATH | NO_MAGICLINKS,
    };
    return (int)syscall(SYS_openat2, root_fd, path, &how, sizeof(how));
}

/* Old sandboxes answer EPERM to calls they do not know: then it is refused for any path. */
static bool openat2_missing(int errnum)
{
    if (errnum != EPERM)
        return errnum == ENOSYS;
    const int fd = call_openat2(AT_FDCWD, ".", O_PATH);
    if (fd >= 0)
        (void)close(fd);
    return fd < 0 && errno == EPERM;
}

/* One component, no symbolic link. ELOOP if it is one, whatever the flags. */
static int open_component(int dir_fd, const char *name, int flags)
{
    struct stat info;
    const int fd = openat(dir_fd, name, flags | O_NOFOLLOW | O_CLOEXEC, 0666);
    if (fd >= 0 && (flags & O_PATH) != 0 && fstat(fd, &info) == 0 && S_ISLNK(info.st_mode)) {
        (void)close(fd);
        errno = ELOOP;
        return -1;
    }
    if (fd < 0 && errno == ENOTDIR) { /* O_DIRECTORY on a link says so */
        const bool link =
            fstatat(dir_fd, name, &info, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(info.st_mode);
        errno = link ? ELOOP : ENOTDIR;
    }
    return fd;
}

/* Without openat2: each folder in turn. path has passed sm_path_check. */
static int open_stepwise(int root_fd, const char *path, int flags)
{
    int dir_fd = root_fd;
    for (;;) {
        char name[COMPONENT_MAX + 1];
        const char *end = strchrnul(path, '/');
        memcpy(name, path, (size_t)(end - path));
        name[end - path] = '\0';
        const bool last = *end == '\0';
        const int fd = open_component(dir_fd, name, last ? flags : O_PATH | O_DIRECTORY);
        const int why = errno;
        if (dir_fd != root_fd)
            (void)close(dir_fd);
        errno = why;
        if (last || fd < 0)
            return fd;
        dir_fd = fd;
        path = end + 1;
    }
}

/* The descriptor, or -1 and errno. */
static int open_beneath(int root_fd, const char *path, int flags)
{
    unsigned tries = 0;
    int fd = -1;
    do {
        fd = call_openat2(root_fd, path, flags);
        if (fd < 0) {
            const int why = errno;
            const bool missing = openat2_missing(why);
            errno = why;
            if (missing)
                fd = open_stepwise(root_fd, path, flags);
        }
    } while (fd < 0 && sm_path_try_again(errno, &tries));
    return fd;
}

static sm_status open_failed(int errnum, const char *path, sm_error *err)
{
    switch (errnum) {
    case EXDEV:
        sm_fail(err, SM_ERR_ARG, "%s: leads out of the root (a symbolic link)", path);
        err->sys_errno = errnum;
        return SM_ERR_ARG;
    case ELOOP:
        return sm_fail_errno(err, SM_ERR_ARG, errnum, "%s: a symbolic link that is not followed",
                             path);
    case EACCES:
    case EPERM:
    case EROFS:
        return sm_fail_errno(err, SM_ERR_ARG, errnum, "%s: cannot open", path);
    default:
        return sm_fail_errno(err, SM_ERR_IO, errnum, "%s: cannot open", path);
    }
}

sm_status sm_path_open_beneath(int root_fd, const char *path, int flags, int *fd, sm_error *err)
{
    *fd = -1;
    const sm_status st = sm_path_check(path, err);
    if (st != SM_OK)
        return st;
    *fd = open_beneath(root_fd, path, flags);
    return *fd >= 0 ? SM_OK : open_failed(errno, path, err);
}

sm_status sm_path_stat_beneath(int root_fd, const char *path, struct stat *st, sm_error *err)
{
    int fd = -1;
    const sm_status opened = sm_path_open_beneath(root_fd, path, O_PATH, &fd, err);
    if (opened != SM_OK)
        return opened;
    const int why = fstat(fd, st) == 0 ? 0 : errno;
    (void)close(fd);
    if (why != 0)
        return sm_fail_errno(err, SM_ERR_IO, why, "%s: cannot stat", path);
    if (!S_ISREG(st->st_mode))
        return sm_fail(err, SM_ERR_ARG, "%s: is %s, not a regular file", path,
                       S_ISDIR(st->st_mode) ? "a folder" : "a device, pipe or socket");
    return SM_OK;
}

/* ---- folders ---- */

/* prefix, the last component of which is name, is missing in the open folder parent_fd. */
static sm_status make_one(int parent_fd, const char *prefix, const char *name, sm_error *err)
{
    if (mkdirat(parent_fd, name, 0777) != 0 && errno != EEXIST) {
        const int why = errno;
        const bool wrong = why == EACCES || why == EPERM || why == EROFS || why == ENAMETOOLONG;
        return sm_fail_errno(err, wrong ? SM_ERR_ARG : SM_ERR_IO, why, "%s: cannot make the folder",
                             prefix);
    }
    if (fsync(parent_fd) != 0 && errno != EINVAL) /* EINVAL: no such call on this file system */
        return sm_fail_errno(err, SM_ERR_IO, errno, "%s: cannot fsync the folder it was made in",
                             prefix);
    return SM_OK;
}

static sm_status sync_above(const char *path, sm_error *err)
{
    sm_buf above = {0};
    const char *slash = strrchr(path, '/');
    const int len = slash != NULL ? (int)(slash - path) + 1 : 0; /* with the slash: it may be "/" */
    sm_status st = sm_buf_printf(&above, err, "%.*s.%c", len, path, '\0');
    if (st != SM_OK)
        return st;
    const int fd = open((const char *)above.data, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || (fsync(fd) != 0 && errno != EINVAL))
        st = sm_fail_errno(err, SM_ERR_IO, errno, "%s: cannot fsync the folder it was made in",
                           path);
    if (fd >= 0)
        (void)close(fd); /* a folder */
    sm_buf_free(&above);
    return st;
}

sm_status sm_path_make_folder(const char *path, sm_error *err)
{
    if (mkdir(path, 0777) == 0)
        return sync_above(path, err);
    const int why = errno;
    const bool refused = why == EACCES || why == EPERM || why == EROFS;
    return why == EEXIST ? SM_OK
                         : sm_fail_errno(err, refused ? SM_ERR_ARG : SM_ERR_IO, why,
                                         "%s: cannot make the folder", path);
}

/* Replace *dir_fd (open for reading, so that it can be fsynced) by root_fd/prefix, made if it is
 * missing. */
static sm_status enter(int root_fd, const char *prefix, int *dir_fd, sm_error *err)
{
    const int flags = O_RDONLY | O_DIRECTORY;
    int fd = open_beneath(root_fd, prefix, flags);
    if (fd < 0 && errno == ENOENT) {
        const char *slash = strrchr(prefix, '/');
        const sm_status st = make_one(*dir_fd, prefix, slash != NULL ? slash + 1 : prefix, err);
        if (st != SM_OK)
            return st;
        fd = open_beneath(root_fd, prefix, flags);
    }
    if (fd < 0 && errno == ENOTDIR)
        return sm_fail_errno(err, SM_ERR_ARG, ENOTDIR, "%s: a file stands where a folder is wanted",
                             prefix);
    if (fd < 0)
        return open_failed(errno, prefix, err);
    (void)close(*dir_fd); /* a folder: nothing was written through it */
    *dir_fd = fd;
    return SM_OK;
}

sm_status sm_path_make_parents(int root_fd, const char *path, sm_error *err)
{
    sm_status st = sm_path_check(path, err);
    const char *last = st == SM_OK ? strrchr(path, '/') : NULL;
    if (last == NULL)
        return st;
    char prefix[SM_PATH_MAX + 1];
    memcpy(prefix, path, (size_t)(last - path));
    prefix[last - path] = '\0';
    int fd = open_beneath(root_fd, prefix, O_PATH | O_DIRECTORY); /* the usual case */
    if (fd >= 0) {
        (void)close(fd);
        return SM_OK;
    }
    fd = openat(root_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return sm_fail_errno(err, SM_ERR_IO, errno, "%s: cannot open the root to make its folder",
                             path);
    for (char *slash = prefix; st == SM_OK && slash != NULL;) {
        slash = strchr(slash, '/');
        if (slash != NULL)
            *slash = '\0';
        st = enter(root_fd, prefix, &fd, err);
        if (slash != NULL)
            *slash++ = '/';
    }
    (void)close(fd);
    return st;
}
