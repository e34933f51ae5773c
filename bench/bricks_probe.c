/* Probe files: so many on every brick of a mount, in one hidden folder that goes away again.
 * Owns the folder; its names are numbers, so that what a dead brick hides can still be named. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#include "bench/bricks.h"
#include "common/buf.h"
#include "common/stop.h"

#define FOLDER_PREFIX ".slidemill-bench."
#define NAME_FORMAT "%s/p%08" PRIu32

enum { MIB = 1 << 20, DEAD_AFTER_S = 3600, QUIET_TRIES = 64, FOLDER_TRIES = 32 };

static void name_of(const bricks_probe *probe, uint32_t number, char path[PATH_MAX])
{
    if (snprintf(path, PATH_MAX, NAME_FORMAT, probe->folder, number) >= PATH_MAX)
        path[0] = '\0'; /* make_folder left room; an empty path opens nothing */
}

void bricks_path(const bricks_probe *probe, uint32_t brick, uint32_t file, bool to_write,
                 char path[PATH_MAX])
{
    const size_t row = (size_t)brick * 2 * probe->n_files;
    name_of(probe, probe->names[row + file + (to_write ? probe->n_files : 0)], path);
}

/* ---- what dead runs left ---- */

/* A folder without a lock may be one that is being made just now. */
static bool is_dead(int folder_fd, int *lock_fd)
{
    struct stat info;

    *lock_fd = openat(folder_fd, "lock", O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (*lock_fd >= 0)
        return flock(*lock_fd, LOCK_EX | LOCK_NB) == 0;
    return errno == ENOENT && fstat(folder_fd, &info) == 0 &&
           time(NULL) - info.st_mtime > DEAD_AFTER_S;
}

static bool is_ours(const char *name)
{
    return strcmp(name, "lock") == 0 ||
           (name[0] == 'p' && strlen(name) == 9 && strspn(name + 1, "0123456789") == 8);
}

static void remove_dead(int mount_fd, const char *name)
{
    int lock_fd = -1;
    struct stat info;
    const struct dirent *entry;
    const int fd = openat(mount_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return;
    DIR *folder = NULL;
    if (fstat(fd, &info) == 0 && info.st_uid == geteuid() && is_dead(fd, &lock_fd))
        folder = fdopendir(fd);
    while (folder != NULL && (entry = readdir(folder)) != NULL)
        if (is_ours(entry->d_name))
            (void)unlinkat(fd, entry->d_name, 0);
    if (folder != NULL) {
        (void)unlinkat(mount_fd, name, AT_REMOVEDIR);
        (void)closedir(folder);
    } else {
        (void)close(fd);
    }
    if (lock_fd >= 0)
        (void)close(lock_fd);
}

static void remove_all_dead(const char *mount)
{
    const size_t prefix = strlen(FOLDER_PREFIX);
    const struct dirent *entry;
    DIR *folder = opendir(mount);

    while (folder != NULL && (entry = readdir(folder)) != NULL)
        if (strncmp(entry->d_name, FOLDER_PREFIX, prefix) == 0 &&
            strlen(entry->d_name) == prefix + 6)
            remove_dead(dirfd(folder), entry->d_name);
    if (folder != NULL)
        (void)closedir(folder);
}

/* ---- the folder ---- */

/* Bricks that are down or full refuse their share of all names; the others go on. */
static bool is_one_bricks_fault(int errnum)
{
    return errnum == ENOTCONN || errnum == ENOSPC || errnum == EIO || errnum == ESTALE ||
           errnum == EDQUOT;
}

/* A name that hashes to a brick that is down or full is refused; another name may not be. */
static int make_folder_of(const char *mount, char folder[PATH_MAX])
{
    int why = 0;
    for (unsigned tries = 0; tries < FOLDER_TRIES; tries++) {
        const int wrote = snprintf(folder, PATH_MAX - 16, "%s/" FOLDER_PREFIX "XXXXXX", mount);
        if (wrote < 0 || wrote >= PATH_MAX - 16)
            why = ENAMETOOLONG;
        else if (mkdtemp(folder) != NULL)
            return 0;
        else
            why = errno;
        if (!is_one_bricks_fault(why))
            break;
    }
    folder[0] = '\0';
    return why;
}

static sm_status make_folder(const char *mount, bricks_probe *probe, sm_error *err)
{
    char lock[PATH_MAX];
    const int why = make_folder_of(mount, probe->folder);

    if (why != 0) {
        const bool wrong =
            why == ENOENT || why == ENOTDIR || why == EACCES || why == EROFS || why == ENAMETOOLONG;
        return sm_fail_errno(err, wrong ? SM_ERR_ARG : SM_ERR_IO, why,
                             "%s: cannot make a folder for probe files", mount);
    }
    (void)snprintf(lock, sizeof lock, "%.*s/lock", PATH_MAX - 16, probe->folder);
    probe->lock_fd = open(lock, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (probe->lock_fd < 0 && !is_one_bricks_fault(errno))
        return sm_fail_errno(err, SM_ERR_IO, errno, "%s: cannot be made", lock);
    if (probe->lock_fd >= 0)
        (void)flock(probe->lock_fd, LOCK_EX | LOCK_NB); /* a mount without locks still has bricks */
    return SM_OK;
}

/* "... (dist-dht-layout (dist-client-0 0 1073741822) (dist-client-1 ...": one a brick or set. */
static uint32_t count_layout(const char *folder)
{
    static char value[64 << 10];
    const ssize_t len = getxattr(folder, "glusterfs.pathinfo", value, sizeof value - 1);
    uint32_t n = 0;

    if (len <= 0)
        return 0;
    value[len] = '\0';
    const char *at = strstr(value, "-layout ");
    while (at != NULL && (at = strchr(at, '(')) != NULL) {
        n++;
        at++;
    }
    return n;
}

/* ---- placing ---- */

static uint32_t brick_number(bricks_probe *probe, const char *name)
{
    uint32_t b = 0;
    while (b < probe->n_bricks && strcmp(probe->bricks[b].name, name) != 0)
        b++;
    if (b == probe->n_bricks && b < BRICKS_MAX) {
        (void)snprintf(probe->bricks[b].name, SM_BRICK_CAP, "%s", name);
        probe->n_bricks++;
    }
    return b;
}

/* One more file; it stays only where its brick needs it. */
static sm_status place_one(bricks_probe *probe, uint32_t *counts, bool *kept, sm_error *err)
{
    char path[PATH_MAX], name[SM_BRICK_CAP];
    const uint32_t number = probe->n_names++;

    *kept = false;
    name_of(probe, number, path);
    const int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0 && is_one_bricks_fault(errno)) {
        probe->n_refused++;
        return SM_OK;
    }
    if (fd < 0)
        return sm_fail_errno(err, SM_ERR_IO, errno, "%s: cannot be made", path);
    const sm_status st = sm_brick_of(fd, name, err);
    (void)close(fd);
    if (st != SM_OK)
        return st;
    const uint32_t b = brick_number(probe, name);
    if (b < BRICKS_MAX && counts[b] < 2 * probe->n_files) {
        probe->names[(size_t)b * 2 * probe->n_files + counts[b]++] = number;
        *kept = true;
    } else if (unlink(path) != 0 && !is_one_bricks_fault(errno)) {
        return sm_fail_errno(err, SM_ERR_IO, errno, "%s: cannot be removed", path);
    }
    return SM_OK;
}

static bool has_enough(const bricks_probe *probe, const uint32_t *counts)
{
    if (probe->n_bricks == 0 || probe->n_bricks < probe->n_expected)
        return false;
    for (uint32_t b = 0; b < probe->n_bricks; b++)
        if (counts[b] < 2 * probe->n_files)
            return false;
    return true;
}

/* DHT hashes names, so which brick comes next is chance: many more tries than files are wanted,
 * and some after the last new brick where the mount does not say how many it has. */
static sm_status place_all(bricks_probe *probe, sm_error *err)
{
    uint32_t *counts = sm_calloc(BRICKS_MAX, sizeof *counts);
    const uint32_t most = 20 * 2 * probe->n_files * (probe->n_expected + 8);
    uint32_t useless = 0, known = 0;
    sm_status st = SM_OK;

    if (counts == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "no memory for probe files");
    while (st == SM_OK && !has_enough(probe, counts) && probe->n_names < most &&
           useless < QUIET_TRIES * (probe->n_bricks + probe->n_expected + 1)) {
        bool kept = false;
        st = sm_stop_check(err);
        if (st == SM_OK)
            st = place_one(probe, counts, &kept, err);
        useless = kept ? 0 : useless + 1;
    }
    for (uint32_t b = 0; b < probe->n_bricks; b++) {
        if (counts[b] >= 2 * probe->n_files)
            known++;
        else
            probe->bricks[b].failed = true;
        if (probe->bricks[b].failed)
            (void)snprintf(probe->bricks[b].why, sizeof probe->bricks[b].why,
                           "only %" PRIu32 " of %" PRIu32 " probe files could be placed", counts[b],
                           2 * probe->n_files);
    }
    free(counts);
    if (st == SM_OK && known == 0)
        return sm_fail(err, SM_ERR_IO,
                       "%s: of %" PRIu32 " names, bricks took too few (%" PRIu32
                       " were refused: a brick is down or full)",
                       probe->folder, probe->n_names, probe->n_refused);
    return st;
}

/* The same numbers in every run, whatever chance found first. */
static sm_status sort_bricks(bricks_probe *probe, sm_error *err)
{
    const size_t row = (size_t)2 * probe->n_files;
    uint32_t *swap = sm_malloc_array(row, sizeof *swap);
    if (swap == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "no memory for probe files");
    for (uint32_t i = 0; i < probe->n_bricks; i++) {
        uint32_t least = i;
        for (uint32_t b = i + 1; b < probe->n_bricks; b++)
            if (strcmp(probe->bricks[b].name, probe->bricks[least].name) < 0)
                least = b;
        const bricks_brick brick = probe->bricks[i];
        probe->bricks[i] = probe->bricks[least];
        probe->bricks[least] = brick;
        memcpy(swap, probe->names + i * row, row * sizeof *swap);
        memmove(probe->names + i * row, probe->names + least * row, row * sizeof *swap);
        memcpy(probe->names + least * row, swap, row * sizeof *swap);
    }
    free(swap);
    return SM_OK;
}

/* Half of the budget for the files that are read, half for what is written now and then. */
static sm_status choose_size(const bricks_options *options, bricks_probe *probe, sm_error *err)
{
    struct statvfs space;
    const uint64_t n = (uint64_t)probe->n_bricks * 2 * probe->n_files;
    const uint64_t most = options->budget / n / MIB * MIB;

    probe->file_bytes = options->file_bytes / MIB * MIB;
    if (options->file_bytes == 0)
        probe->file_bytes = most < (uint64_t)1 << 30 ? most : (uint64_t)1 << 30;
    if (probe->file_bytes < MIB || probe->file_bytes > most)
        return sm_fail(err, SM_ERR_LIMIT,
                       "--budget: %" PRIu64 " MiB are %" PRIu64 " MiB for each of %" PRIu64
                       " probe files on %" PRIu32 " bricks; give more, or fewer --streams-max%s",
                       options->budget / MIB, most / MIB, n, probe->n_bricks,
                       options->file_bytes > 0 ? ", or a smaller --file-size" : "");
    if (statvfs(probe->folder, &space) != 0)
        return sm_fail_errno(err, SM_ERR_IO, errno, "%s: cannot ask for free space",
                             options->mount);
    const uint64_t free_bytes = (uint64_t)space.f_bavail * space.f_frsize;
    if (probe->file_bytes * n > free_bytes / 2)
        return sm_fail(err, SM_ERR_LIMIT,
                       "%s: probe files of %" PRIu64
                       " MiB would take more than half of the %" PRIu64
                       " MiB that are free; give a smaller --budget",
                       options->mount, probe->file_bytes * n / MIB, free_bytes / MIB);
    return SM_OK;
}

static sm_status allocate(bricks_probe *probe, sm_error *err)
{
    if (probe->bricks == NULL)
        probe->bricks = sm_calloc(BRICKS_MAX, sizeof *probe->bricks);
    if (probe->names == NULL)
        probe->names = sm_calloc((size_t)BRICKS_MAX * 2 * probe->n_files, sizeof *probe->names);
    if (probe->bricks == NULL || probe->names == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "no memory for probe files");
    return SM_OK;
}

sm_status bricks_place(const bricks_options *options, bricks_probe *probe, sm_error *err)
{
    probe->n_files = options->streams_max;
    probe->seed = options->seed;
    sm_status st = allocate(probe, err);
    if (st != SM_OK)
        return st;
    remove_all_dead(options->mount);
    st = make_folder(options->mount, probe, err);
    if (st != SM_OK)
        return st;
    probe->n_expected = count_layout(probe->folder);
    st = place_all(probe, err);
    if (st == SM_OK)
        st = sort_bricks(probe, err);
    return st == SM_OK ? choose_size(options, probe, err) : st;
}

sm_status bricks_share(sm_ranks *ranks, bricks_probe *probe, sm_error *err)
{
    bricks_probe head = *probe;
    sm_status st = sm_ranks_bcast(ranks, &head, sizeof head, err);

    if (st != SM_OK)
        return st;
    if (sm_ranks_me(ranks) != 0) {
        *probe = head;
        probe->bricks = NULL;
        probe->names = NULL;
        probe->lock_fd = -1;
    }
    st = sm_ranks_agree(ranks, allocate(probe, err), err);
    if (st == SM_OK)
        st = sm_ranks_bcast(ranks, probe->bricks, probe->n_bricks * sizeof *probe->bricks, err);
    if (st == SM_OK)
        st = sm_ranks_bcast(ranks, probe->names,
                            (size_t)probe->n_bricks * 2 * probe->n_files * sizeof *probe->names,
                            err);
    return st;
}

/* ---- the end ---- */

bool bricks_remove(bricks_probe *probe)
{
    char path[PATH_MAX];
    sm_error err = SM_ERROR_INIT;

    if (probe->folder[0] == '\0')
        return true;
    for (uint32_t i = 0; i < probe->n_names; i++) {
        name_of(probe, i, path);
        (void)unlink(path);
    }
    (void)snprintf(path, sizeof path, "%.*s/lock", PATH_MAX - 16, probe->folder);
    (void)unlink(path);
    if (probe->lock_fd >= 0)
        (void)close(probe->lock_fd);
    probe->lock_fd = -1;
    if (rmdir(probe->folder) != 0) {
        const int why = errno;
        probe->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600); /* unlocked: it is dead */
        if (probe->lock_fd >= 0)
            (void)close(probe->lock_fd);
        probe->lock_fd = -1;
        errno = why;
        (void)sm_fail_errno(&err, SM_ERR_IO, errno,
                            "%s: probe files stay here; the next run removes them", probe->folder);
        (void)fprintf(stderr, "slidemill bench: %s\n", err.message);
    }
    probe->folder[0] = '\0';
    return err.status == SM_OK;
}

void bricks_free(bricks_probe *probe)
{
    free(probe->bricks);
    free(probe->names);
    probe->bricks = NULL;
    probe->names = NULL;
}
