/* Locks of an open file description, the lines that say who holds them, and locked scratch folders.
 * Owns the descriptor that carries the lock; the kernel lets it go when that dies. */
#include "common/lock.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/path.h"
#include "common/stop.h"
#include "common/sysinfo.h"

enum {
    HOLDER_CAP = 300,
    POLL_MS = 50,
    RANDOM_CHARS = 6,
    NAME_TRIES = 100,
    REOPENS = 20, /* times the file may be replaced while we open and lock it */
};

struct sm_lock {
    char *path, *holder_dir;
    int fd; /* -1: not held */
    uint64_t first, last;
    char holder[HOLDER_CAP]; /* our line, with its newline */
};

/* ---- the line that says who ---- */

static void range_name(uint64_t first, uint64_t last, char name[64])
{
    snprintf(name, 64, "%" PRIu64 "-%" PRIu64, first, last);
}

static void describe_us(sm_lock *lock, const char *what)
{
    char host[HOST_NAME_MAX + 1] = "", when[32] = "";
    struct tm utc;
    const time_t now = time(NULL);
    if (gethostname(host, sizeof(host) - 1) != 0 || host[0] == '\0')
        snprintf(host, sizeof(host), "?");
    if (gmtime_r(&now, &utc) != NULL)
        strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", &utc);
    snprintf(lock->holder, sizeof(lock->holder), "%s pid %ld (%.100s, since %s)\n", host,
             (long)getpid(), what, when);
}

static bool same_file(const struct stat *a, const struct stat *b)
{
    return a->st_ino == b->st_ino && a->st_dev == b->st_dev;
}

static bool write_whole(int fd, const char *text)
{
    const size_t len = strlen(text);
    const ssize_t n = write(fd, text, len);
    return close(fd) == 0 && n == (ssize_t)len;
}

/* Best effort, since the lock itself is what counts: a folder that cannot be written leaves the
 * refused without a name. Not synced, for the line dies with its writer anyway. */
static void publish_holder(const sm_lock *lock)
{
    if (mkdir(lock->holder_dir, 0777) != 0 && errno != EEXIST)
        return;
    const int dir = open(lock->holder_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return;
    char name[64], temp[96];
    range_name(lock->first, lock->last, name);
    /* one name per lock, not per writer: only the holder of the lock writes it, and what a dead one
     * left is written over */
    snprintf(temp, sizeof(temp), ".%s.holder", name);
    const int fd =
        openat(dir, temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0666);
    if (fd >= 0 && (!write_whole(fd, lock->holder) || renameat(dir, temp, dir, name) != 0))
        (void)unlinkat(dir, temp, 0);
    (void)close(dir); /* a folder: nothing was written through it */
}

static void withdraw_holder(const sm_lock *lock)
{
    char name[64];
    range_name(lock->first, lock->last, name);
    const int dir = open(lock->holder_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return;
    (void)unlinkat(dir, name, 0);
    (void)close(dir); /* a folder */
}

/* The first line of holder_dir/name into text; false if there is none. */
static bool read_holder(const char *holder_dir, const char *name, char text[HOLDER_CAP])
{
    const int dir = open(holder_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return false;
    const int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
    (void)close(dir);
    if (fd < 0)
        return false;
    const ssize_t n = read(fd, text, HOLDER_CAP - 1);
    (void)close(fd);
    if (n <= 0)
        return false;
    text[n] = '\0';
    text[strcspn(text, "\n")] = '\0';
    return text[0] != '\0';
}

/* ---- the lock ---- */

static struct flock range_of(const sm_lock *lock, short type)
{
    return (struct flock){
        .l_type = type,
        .l_whence = SEEK_SET,
        .l_start = (off_t)lock->first,
        .l_len = (off_t)(lock->last - lock->first + 1),
    };
}

/* Whoever holds a part of our range may hold more or less of it: the kernel says which part. */
static sm_status refused(const sm_lock *lock, sm_error *err)
{
    char name[64], holder[HOLDER_CAP];
    range_name(lock->first, lock->last, name);
    struct flock other = range_of(lock, F_WRLCK);
    if (fcntl(lock->fd, F_OFD_GETLK, &other) == 0 && other.l_type != F_UNLCK && other.l_start >= 0)
        range_name((uint64_t)other.l_start,
                   other.l_len > 0 ? (uint64_t)other.l_start + (uint64_t)other.l_len - 1
                                   : SM_LOCK_ALL_LAST,
                   name);
    if (!read_holder(lock->holder_dir, name, holder))
        snprintf(holder, sizeof(holder), "another process (it has not said which)");
    return sm_fail(err, SM_ERR_BUSY, "%s: held by %s", lock->path, holder);
}

static sm_status no_locks(const sm_lock *lock, int errnum, sm_error *err)
{
    if (errnum == ENOSYS || errnum == EOPNOTSUPP || errnum == ENOLCK || errnum == EINVAL)
        return sm_fail_errno(err, SM_ERR_IO, errnum,
                             "%s: its file system gives no locks (fcntl); use one that does",
                             lock->path);
    return sm_fail_errno(err, SM_ERR_IO, errnum, "%s: cannot lock", lock->path);
}

static sm_status open_file(const char *path, int *fd, sm_error *err)
{
    unsigned tries = 0;
    do
        *fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NOFOLLOW | O_NONBLOCK, 0666);
    while (*fd < 0 && sm_path_try_again(errno, &tries));
    if (*fd >= 0)
        return SM_OK;
    switch (errno) {
    case ENOENT:
    case ENOTDIR:
    case EACCES:
    case EPERM:
    case EROFS:
    case ELOOP:
    case EISDIR:
    case ENAMETOOLONG:
        return sm_fail_errno(err, SM_ERR_ARG, errno, "%s: cannot open the lock file", path);
    default:
        return sm_fail_errno(err, SM_ERR_IO, errno, "%s: cannot open the lock file", path);
    }
}

/* A lock on a file that was removed or replaced meanwhile locks nobody out. */
static bool is_still_named(const sm_lock *lock)
{
    struct stat ours, named;
    return fstat(lock->fd, &ours) == 0 && stat(lock->path, &named) == 0 && same_file(&ours, &named);
}

/* Open the file and try once. SM_ERR_BUSY with its holder's name. */
static sm_status open_and_try(sm_lock *lock, sm_error *err)
{
    for (unsigned n = 0; n < REOPENS; n++) {
        sm_status st = open_file(lock->path, &lock->fd, err);
        if (st != SM_OK)
            return st;
        struct flock range = range_of(lock, F_WRLCK);
        const int why = fcntl(lock->fd, F_OFD_SETLK, &range) == 0 ? 0 : errno;
        if (why == 0 && is_still_named(lock))
            return SM_OK;
        if (why == EAGAIN || why == EACCES)
            st = refused(lock, err);
        else if (why != 0)
            st = no_locks(lock, why, err);
        (void)close(lock->fd); /* not written to */
        lock->fd = -1;
        if (why != 0)
            return st;
    }
    return sm_fail(err, SM_ERR_IO, "%s: is replaced again and again while it is locked",
                   lock->path);
}

static sm_status try_until(sm_lock *lock, uint32_t wait_s, sm_error *err)
{
    const uint64_t start = sm_now_ns();
    for (;;) {
        sm_status st = open_and_try(lock, err);
        if (st != SM_ERR_BUSY || sm_now_ns() - start >= wait_s * UINT64_C(1000000000))
            return st;
        sm_error stop = SM_ERROR_INIT;
        st = sm_stop_check(&stop);
        if (st != SM_OK) {
            *err = stop;
            return st;
        }
        const struct timespec pause = {.tv_nsec = POLL_MS * 1000000L};
        (void)nanosleep(&pause, NULL);
    }
}

static void free_lock(sm_lock *lock)
{
    free(lock->path);
    free(lock->holder_dir);
    free(lock);
}

static sm_lock *new_lock(const char *path)
{
    const size_t len = strlen(path);
    sm_lock *lock = sm_calloc(1, sizeof(*lock));
    if (lock == NULL)
        return NULL;
    lock->fd = -1;
    lock->path = sm_malloc_array(len + 1, 1);
    lock->holder_dir = sm_malloc_array(len + sizeof(".holder"), 1);
    if (lock->path == NULL || lock->holder_dir == NULL) {
        free_lock(lock);
        return NULL;
    }
    memcpy(lock->path, path, len + 1);
    snprintf(lock->holder_dir, len + sizeof(".holder"), "%s.holder", path);
    return lock;
}

sm_status sm_lock_take(const char *path, uint64_t first, uint64_t last, const char *what,
                       uint32_t wait_s, sm_lock **lock, sm_error *err)
{
    *lock = NULL;
    if (first > last || last > SM_LOCK_ALL_LAST)
        return sm_fail(err, SM_ERR_INTERNAL, "%s: no range to lock: bytes %" PRIu64 " to %" PRIu64,
                       path, first, last);
    sm_lock *l = new_lock(path);
    if (l == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "%s: out of memory", path);
    l->first = first;
    l->last = last;
    const sm_status st = try_until(l, wait_s, err);
    if (st != SM_OK) {
        free_lock(l);
        return st;
    }
    describe_us(l, what);
    publish_holder(l);
    *lock = l;
    return SM_OK;
}

sm_status sm_lock_check(sm_lock *lock, sm_error *err)
{
    if (lock->fd >= 0) {
        struct flock range = range_of(lock, F_WRLCK);
        const int why = fcntl(lock->fd, F_OFD_SETLK, &range) == 0 ? 0 : errno;
        if (why == 0 && is_still_named(lock))
            return SM_OK;
        const bool lost = why == EAGAIN || why == EACCES;
        const sm_status st = lost ? refused(lock, err) : SM_OK;
        /* A descriptor that lived through its brick's death may be of no use any more (EBADFD). */
        (void)close(lock->fd); /* not written to */
        lock->fd = -1;
        if (lost)
            return st;
    }
    const sm_status st = open_and_try(lock, err);
    if (st == SM_OK)
        publish_holder(lock);
    return st;
}

void sm_lock_release(sm_lock **lock)
{
    sm_lock *l = *lock;
    if (l == NULL)
        return;
    if (l->fd >= 0) {
        withdraw_holder(l); /* before the next one may write its own */
        (void)close(l->fd); /* not written to; lets the lock go */
    }
    free_lock(l);
    *lock = NULL;
}

/* ---- scratch folders ---- */

struct sm_scratch {
    char *path;
    int fd; /* flocked; -1: there is no folder */
};

/* Everything in the open folder that is no folder. Through a second descriptor, for readdir has one
 * position per open folder. */
static void empty_folder(int folder_fd)
{
    const int fd = openat(folder_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (dir == NULL) {
        if (fd >= 0)
            (void)close(fd); /* a folder */
        return;
    }
    for (const struct dirent *entry; (entry = readdir(dir)) != NULL;)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            (void)unlinkat(folder_fd, entry->d_name, 0);
    (void)closedir(dir);
}

static void remove_if_dead(int base_fd, const char *name)
{
    struct stat info;
    const int fd = openat(base_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return;
    if (fstat(fd, &info) == 0 && info.st_uid == geteuid() && flock(fd, LOCK_EX | LOCK_NB) == 0) {
        empty_folder(fd);
        (void)unlinkat(base_fd, name, AT_REMOVEDIR);
    }
    (void)close(fd); /* a folder */
}

/* Best effort: what cannot be listed or removed harms nobody but the free space. */
static void remove_dead_scratch(const char *base, const char *prefix)
{
    const size_t len = strlen(prefix);
    DIR *dir = opendir(base);
    if (dir == NULL)
        return;
    for (const struct dirent *entry; (entry = readdir(dir)) != NULL;)
        if (strncmp(entry->d_name, prefix, len) == 0 && entry->d_name[len] == '.' &&
            strlen(entry->d_name) == len + 1 + RANDOM_CHARS)
            remove_if_dead(dirfd(dir), entry->d_name);
    (void)closedir(dir);
}

/* Between mkdtemp and flock another run may have taken the folder for dead. False: try another. */
static bool hold_folder(sm_scratch *scratch)
{
    struct stat ours, named;
    scratch->fd = open(scratch->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (scratch->fd < 0)
        return false;
    /* a file system without flock: nobody can take it for dead either */
    const bool taken = flock(scratch->fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK;
    if (!taken && fstat(scratch->fd, &ours) == 0 && lstat(scratch->path, &named) == 0 &&
        same_file(&ours, &named))
        return true;
    (void)close(scratch->fd); /* a folder */
    scratch->fd = -1;
    return false;
}

static const char *default_base(void)
{
    static const char *const VARIABLES[] = {"SLURM_TMPDIR", "TMPDIR"};
    for (size_t i = 0; i < SM_COUNT(VARIABLES); i++) {
        const char *value = getenv(VARIABLES[i]);
        if (value != NULL && value[0] != '\0')
            return value;
    }
    return "/tmp";
}

static sm_status make_folder(sm_scratch *scratch, const char *base, const char *prefix,
                             sm_error *err)
{
    const size_t cap = strlen(base) + strlen(prefix) + RANDOM_CHARS + 3;
    scratch->path = sm_malloc_array(cap, 1);
    if (scratch->path == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "%s: out of memory", base);
    for (unsigned n = 0; n < NAME_TRIES; n++) {
        snprintf(scratch->path, cap, "%s/%s.XXXXXX", base, prefix);
        if (mkdtemp(scratch->path) == NULL) {
            const int why = errno;
            const bool wrong = why == ENOENT || why == ENOTDIR || why == EACCES || why == EROFS ||
                               why == ELOOP || why == ENAMETOOLONG;
            return sm_fail_errno(err, wrong ? SM_ERR_ARG : SM_ERR_IO, why,
                                 "%s: cannot make a scratch folder there", base);
        }
        if (hold_folder(scratch))
            return SM_OK;
    }
    return sm_fail(err, SM_ERR_IO, "%s: folders made there vanish at once", base);
}

sm_status sm_scratch_make(const char *base, const char *prefix, sm_scratch **scratch, sm_error *err)
{
    *scratch = NULL;
    sm_scratch *s = sm_calloc(1, sizeof(*s));
    if (s == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "out of memory for a scratch folder");
    s->fd = -1;
    if (base == NULL)
        base = default_base();
    remove_dead_scratch(base, prefix);
    const sm_status st = make_folder(s, base, prefix, err);
    if (st != SM_OK) {
        sm_scratch_remove(&s);
        return st;
    }
    *scratch = s;
    return SM_OK;
}

const char *sm_scratch_path(const sm_scratch *scratch)
{
    return scratch->path;
}

void sm_scratch_remove(sm_scratch **scratch)
{
    sm_scratch *s = *scratch;
    if (s == NULL)
        return;
    if (s->fd >= 0) {
        empty_folder(s->fd);
        (void)rmdir(s->path);
        (void)close(s->fd); /* a folder */
    }
    free(s->path);
    free(s);
    *scratch = NULL;
}
