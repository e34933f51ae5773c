/* The folder of a benchmark: made, known to be dead when its maker is, removed whole. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "bench/runner.h"

enum { OPEN_FOLDERS = 16 };

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *at)
{
    (void)info;
    (void)at;
    (void)(kind == FTW_DP || kind == FTW_DNR ? rmdir(path) : unlink(path));
    return 0; /* go on: what stays is seen by the folder that stays */
}

bool bench_remove_tree(const char *path)
{
    struct stat info;
    if (lstat(path, &info) != 0)
        return errno == ENOENT;
    (void)nftw(path, remove_one, OPEN_FOLDERS, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
    return lstat(path, &info) != 0 && errno == ENOENT;
}

/* nftw hands nothing through; one count at a time, on the main thread. */
static uint64_t counted_bytes, counted_files;

static int count_one(const char *path, const struct stat *info, int kind, struct FTW *at)
{
    (void)path;
    (void)at;
    if (kind == FTW_F) {
        counted_bytes += (uint64_t)info->st_size;
        counted_files++;
    }
    return 0;
}

void bench_count_tree(const char *path, uint64_t *bytes, uint64_t *n)
{
    counted_bytes = counted_files = 0;
    (void)nftw(path, count_one, OPEN_FOLDERS, FTW_PHYS);
    *bytes = counted_bytes;
    *n = counted_files;
}

uint64_t bench_free_bytes(const char *path)
{
    struct statvfs info;
    return statvfs(path, &info) == 0 ? (uint64_t)info.f_bavail * info.f_frsize : 0;
}

/* Its maker holds the lock as long as it lives. Without a lock file it was made a moment ago, or
 * stands on a mount that has no locks: then it is left alone. */
static void remove_if_dead(const char *dir, const char *name)
{
    char path[PATH_MAX], lock[PATH_MAX];
    struct stat info;
    const int n = snprintf(path, sizeof path, "%s/%s", dir, name);
    if (n < 0 || n >= PATH_MAX - 8 || lstat(path, &info) != 0 || !S_ISDIR(info.st_mode) ||
        info.st_uid != geteuid())
        return;
    (void)snprintf(lock, sizeof lock, "%.*s/lock", PATH_MAX - 8, path);
    const int fd = open(lock, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return;
    if (flock(fd, LOCK_EX | LOCK_NB) == 0)
        (void)bench_remove_tree(path);
    (void)close(fd);
}

static void remove_dead(const char *dir, const char *prefix)
{
    const size_t len = strlen(prefix);
    const struct dirent *entry;
    DIR *folder = opendir(dir);
    while (folder != NULL && (entry = readdir(folder)) != NULL)
        if (strncmp(entry->d_name, prefix, len) == 0 && strlen(entry->d_name) == len + 6)
            remove_if_dead(dir, entry->d_name);
    if (folder != NULL)
        (void)closedir(folder);
}

sm_status bench_folder_make(const char *dir, const char *prefix, char folder[PATH_MAX],
                            int *lock_fd, sm_error *err)
{
    char whole[PATH_MAX], lock[PATH_MAX];
    folder[0] = '\0';
    if (realpath(dir, whole) == NULL)
        return sm_fail_errno(err, SM_ERR_ARG, errno, "%s", dir);
    remove_dead(whole, prefix);
    const int n = snprintf(folder, PATH_MAX, "%s/%sXXXXXX", whole, prefix);
    if (n < 0 || n >= PATH_MAX - 64 || mkdtemp(folder) == NULL) {
        folder[0] = '\0';
        return sm_fail_errno(err, SM_ERR_ARG, n >= PATH_MAX - 64 ? ENAMETOOLONG : errno,
                             "%s: cannot make a folder in it", dir);
    }
    (void)snprintf(lock, sizeof lock, "%.*s/lock", PATH_MAX - 8, folder);
    *lock_fd = open(lock, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (*lock_fd < 0)
        return sm_fail_errno(err, SM_ERR_IO, errno, "%s: cannot be made", lock);
    (void)flock(*lock_fd, LOCK_EX | LOCK_NB); /* a mount without locks still has room for us */
    return SM_OK;
}
