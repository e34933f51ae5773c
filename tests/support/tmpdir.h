/* Scratch folders and small file helpers for tests. Header only; needs cmocka.h before it.
 * Every helper fails the running test itself, with the path and the reason. */
#ifndef SM_TESTS_SUPPORT_TMPDIR_H
#define SM_TESTS_SUPPORT_TMPDIR_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A folder of its own under $TMPDIR or /tmp. */
typedef struct sm_tmpdir {
    char path[PATH_MAX / 4];
} sm_tmpdir;

typedef struct sm_tmppath {
    char path[PATH_MAX / 2];
} sm_tmppath;

static inline sm_tmpdir sm_tmpdir_make(void)
{
    const char *base = getenv("TMPDIR");
    sm_tmpdir dir;
    snprintf(dir.path, sizeof(dir.path), "%s/sm-test-XXXXXX", base != NULL ? base : "/tmp");
    if (mkdtemp(dir.path) == NULL)
        fail_msg("%s: %s", dir.path, strerror(errno));
    return dir;
}

static inline int sm_tmpdir_remove_one(const char *path, const struct stat *info, int type,
                                       struct FTW *ftw)
{
    (void)info;
    (void)type;
    (void)ftw;
    return remove(path);
}

static inline void sm_tmpdir_remove(const sm_tmpdir *dir)
{
    nftw(dir->path, sm_tmpdir_remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

static inline sm_tmppath sm_tmpdir_file(const sm_tmpdir *dir, const char *name)
{
    sm_tmppath file;
    snprintf(file.path, sizeof(file.path), "%s/%s", dir->path, name);
    return file;
}

/* Names in the folder, "." and ".." not counted. */
static inline unsigned sm_tmpdir_count(const char *path)
{
    DIR *dir = opendir(path);
    if (dir == NULL) {
        fail_msg("%s: %s", path, strerror(errno));
        return 0; /* clang-tidy does not know that it is over */
    }
    unsigned n = 0;
    for (const struct dirent *entry; (entry = readdir(dir)) != NULL;)
        n += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    closedir(dir);
    return n;
}

static inline void sm_file_write(const char *path, const void *bytes, size_t len)
{
    FILE *file = fopen(path, "wb");
    if (file == NULL || fwrite(bytes, 1, len, file) != len || fclose(file) != 0)
        fail_msg("%s: %s", path, strerror(errno));
}

/* The whole file; *len is its size; release with free. */
static inline uint8_t *sm_file_read(const char *path, size_t *len)
{
    struct stat info;
    FILE *file = fopen(path, "rb");
    if (file == NULL || fstat(fileno(file), &info) != 0) {
        fail_msg("%s: %s", path, strerror(errno));
        return NULL;
    }
    *len = (size_t)info.st_size;
    uint8_t *bytes = malloc(*len + 1);
    if (bytes == NULL || fread(bytes, 1, *len, file) != *len)
        fail_msg("%s: cannot read %zu bytes", path, *len);
    fclose(file);
    return bytes;
}

static inline void sm_file_flip(const char *path, uint64_t offset)
{
    uint8_t byte = 0;
    const int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0 || pread(fd, &byte, 1, (off_t)offset) != 1)
        fail_msg("%s: %s", path, strerror(errno));
    byte ^= 0x40;
    if (pwrite(fd, &byte, 1, (off_t)offset) != 1 || close(fd) != 0)
        fail_msg("%s: %s", path, strerror(errno));
}

/* Bytes that repeat only after gigabytes and differ from every shift of themselves. */
static inline uint8_t *sm_bytes_make(size_t len, uint64_t seed)
{
    uint8_t *bytes = malloc(len + 8);
    if (bytes == NULL)
        fail_msg("out of memory: %zu bytes", len);
    uint64_t x = seed * UINT64_C(0x9E3779B97F4A7C15) + 1;
    for (size_t i = 0; i < len; i += 8) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        memcpy(bytes + i, &x, 8);
    }
    return bytes;
}

#endif
