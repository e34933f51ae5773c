/* Asks GlusterFS where a file lies, and reads its answer. Owns nothing. */
#include "common/brick.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "common/buf.h"

/* Every user may ask for this one; the trusted. one only root. */
static const char PATHINFO[] = "glusterfs.pathinfo";

enum { VALUE_MAX = 64 << 10 }; /* the kernel's own limit of a value */

/* ---- parse ---- */

/* Text not yet read. */
typedef struct cursor {
    const char *at, *end;
} cursor;

static bool accept_text(cursor *c, const char *text)
{
    const size_t len = strlen(text);
    if ((size_t)(c->end - c->at) < len || memcmp(c->at, text, len) != 0)
        return false;
    c->at += len;
    return true;
}

/* Characters of volume, translator and host names: no spaces, brackets or slashes. */
static size_t word_len(const cursor *c)
{
    const char *p = c->at;
    for (; p < c->end; p++) {
        const bool alnum =
            (*p >= '0' && *p <= '9') || (*p >= 'A' && *p <= 'Z') || (*p >= 'a' && *p <= 'z');
        if (!alnum && *p != '-' && *p != '_' && *p != '.')
            break;
    }
    return (size_t)(p - c->at);
}

static bool take_name(const char *text, size_t len, char name[SM_BRICK_CAP])
{
    if (len == 0 || len >= SM_BRICK_CAP)
        return false;
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7F)
            return false;
    memcpy(name, text, len);
    name[len] = '\0';
    return true;
}

/* Behind "<POSIX(": BRICK "):" HOST ":" BRICK "/file". The brick's path stands there twice, which
 * tells its end even when it holds brackets; the file's own path comes after both. */
static bool parse_posix(cursor c, char name[SM_BRICK_CAP])
{
    const char *brick = c.at;
    if (c.at >= c.end || *c.at != '/')
        return false;
    for (; c.at < c.end && c.at - brick < SM_BRICK_CAP; c.at++) {
        const size_t brick_len = (size_t)(c.at - brick);
        cursor host = c;
        if (!accept_text(&host, "):"))
            continue;
        const size_t host_len = word_len(&host);
        cursor again = {host.at + host_len, c.end};
        if (host_len == 0 || !accept_text(&again, ":") ||
            (size_t)(again.end - again.at) <= brick_len ||
            memcmp(again.at, brick, brick_len) != 0 || again.at[brick_len] != '/')
            continue;
        if (host_len + 1 + brick_len >= SM_BRICK_CAP)
            return false;
        char joined[SM_BRICK_CAP];
        memcpy(joined, host.at, host_len);
        joined[host_len] = ':';
        memcpy(joined + host_len + 1, brick, brick_len);
        return take_name(joined, host_len + 1 + brick_len, name);
    }
    return false;
}

/* A chain of "(<KIND:name> " down to the first one that is a set of copies, or to a brick. */
static bool parse_value(cursor c, char name[SM_BRICK_CAP])
{
    static const char *const SETS[] = {"REPLICATE:", "EC:", "DISPERSE:", "STRIPE:"};
    for (;;) {
        (void)accept_text(&c, "(");
        if (!accept_text(&c, "<"))
            return false;
        if (accept_text(&c, "POSIX("))
            return parse_posix(c, name);
        bool set = false;
        for (size_t i = 0; i < SM_COUNT(SETS) && !set; i++)
            set = accept_text(&c, SETS[i]);
        if (!set) { /* DISTRIBUTE and whatever else chooses among its children */
            const size_t kind_len = word_len(&c);
            c.at += kind_len;
            if (kind_len == 0 || !accept_text(&c, ":"))
                return false;
        }
        const size_t len = word_len(&c);
        const char *word = c.at;
        c.at += len;
        if (len == 0 || !accept_text(&c, "> "))
            return false;
        if (set)
            return take_name(word, len, name);
    }
}

sm_status sm_brick_parse(const char *pathinfo, size_t len, char name[SM_BRICK_CAP], sm_error *err)
{
    name[0] = '\0';
    if (!parse_value((cursor){pathinfo, pathinfo + strnlen(pathinfo, len)}, name))
        return sm_fail(err, SM_ERR_FORMAT, "'%.*s': no brick in this glusterfs.pathinfo",
                       (int)(len < 200 ? strnlen(pathinfo, len) : 200), pathinfo);
    return SM_OK;
}

/* ---- ask ---- */

/* An O_PATH descriptor answers EBADF; its name in /proc does not. */
static ssize_t get_pathinfo(int fd, char *value, size_t cap)
{
    const ssize_t n = fgetxattr(fd, PATHINFO, value, cap);
    if (n >= 0 || errno != EBADF)
        return n;
    char path[40];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    return getxattr(path, PATHINFO, value, cap);
}

static sm_status name_device(int fd, char name[SM_BRICK_CAP], sm_error *err)
{
    struct stat info;
    if (fstat(fd, &info) != 0)
        return sm_fail_errno(err, SM_ERR_IO, errno, "cannot stat a file to see its device");
    snprintf(name, SM_BRICK_CAP, "dev:%u:%u", major(info.st_dev), minor(info.st_dev));
    return SM_OK;
}

sm_status sm_brick_of(int fd, char name[SM_BRICK_CAP], sm_error *err)
{
    name[0] = '\0';
    char *value = sm_malloc_array(VALUE_MAX, 1);
    if (value == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "out of memory for a file's brick");
    const ssize_t n = get_pathinfo(fd, value, VALUE_MAX);
    const int why = n < 0 ? errno : 0;
    sm_error unused = SM_ERROR_INIT;
    sm_status st = SM_OK;
    switch (why) {
    case 0:
        if (sm_brick_parse(value, (size_t)n, name, &unused) != SM_OK)
            st = name_device(fd, name, err);
        break;
    case ENODATA:
    case EOPNOTSUPP:
    case ENOSYS:
    case ERANGE:
    case E2BIG:
    case EPERM:
    case EACCES:
    case ENOENT: /* no /proc here */
        st = name_device(fd, name, err);
        break;
    default:
        st = sm_fail_errno(err, SM_ERR_IO, why, "cannot ask for a file's brick (%s)", PATHINFO);
    }
    free(value);
    return st;
}
