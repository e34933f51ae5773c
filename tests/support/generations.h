/* Generations whose contents tell whether they are whole, in folders of a test's own. Header only;
 * needs cmocka.h before it. */
#ifndef SM_TESTS_SUPPORT_GENERATIONS_H
#define SM_TESTS_SUPPORT_GENERATIONS_H

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/digest.h"
#include "common/generation.h"
#include "tests/support/check.h"
#include "tests/support/tmpdir.h"

/* ---- contents that tell whether they are whole ---- */

enum { DIGEST_BYTES = 16, HEAD_BYTES = 8 + DIGEST_BYTES };

/* Each number has a size of its own, some of them many blocks. */
static inline size_t content_size(uint64_t number)
{
    return HEAD_BYTES + (size_t)(number * 7919 % 300000) + (number % 7 == 3 ? 5000000 : 0);
}

/* 0, or -1 and errno */
static inline int write_content(const char *path, uint64_t number)
{
    const size_t len = content_size(number);
    uint8_t *bytes = malloc(len);
    const int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);
    if (bytes == NULL || fd < 0)
        return -1;
    for (size_t i = HEAD_BYTES; i < len; i++)
        bytes[i] = (uint8_t)(number * 31 + i / 509);
    const sm_digest digest = sm_digest_xxh128(bytes + HEAD_BYTES, len - HEAD_BYTES);
    memcpy(bytes, &number, 8);
    memcpy(bytes + 8, digest.bytes, DIGEST_BYTES);
    const ssize_t n = write(fd, bytes, len);
    free(bytes);
    return close(fd) == 0 && n == (ssize_t)len ? 0 : -1;
}

/* The number of a whole content; 0: it is not whole; -1 and errno: it cannot be opened or read. */
static inline int64_t read_content(const char *path)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    size_t len = 0, cap = 1 << 16;
    uint8_t *bytes = malloc(cap);
    ssize_t n = -1;
    while (bytes != NULL && (n = read(fd, bytes + len, cap - len)) > 0) {
        len += (size_t)n;
        if (len == cap)
            bytes = realloc(bytes, cap *= 2);
    }
    const int why = errno;
    close(fd);
    uint64_t number = 0;
    if (n == 0 && len >= HEAD_BYTES) {
        memcpy(&number, bytes, 8);
        const sm_digest digest = sm_digest_xxh128(bytes + HEAD_BYTES, len - HEAD_BYTES);
        if (len != content_size(number) || memcmp(bytes + 8, digest.bytes, DIGEST_BYTES) != 0)
            number = 0;
    }
    free(bytes);
    errno = why;
    return n < 0 ? -1 : (int64_t)number;
}

/* Begin, write what stands for the new number, commit. */
static inline sm_status make_next(const char *path, bool fresh, const sm_generation_config *config,
                                  uint64_t *number, sm_error *err)
{
    sm_generation *gen = NULL;
    sm_status st = sm_generation_begin(path, fresh, config, &gen, err);
    if (st != SM_OK)
        return st;
    *number = sm_generation_number(gen);
    if (write_content(sm_generation_copy(gen), *number) != 0)
        st = sm_fail_errno(err, SM_ERR_INTERNAL, errno, "%s: test cannot write",
                           sm_generation_copy(gen));
    else
        st = sm_generation_commit(&gen, err);
    sm_generation_discard(&gen);
    return st;
}

/* ---- fixture ---- */

typedef struct fixture {
    sm_tmpdir dir;
    sm_tmppath shared, scratch; /* folders */
    sm_tmppath file, side;      /* shared/c.smc, shared/c.smc.d */
    sm_generation_config config;
} fixture;

static inline int set_up(void **state)
{
    fixture *f = calloc(1, sizeof(*f));
    if (f == NULL)
        return -1;
    f->dir = sm_tmpdir_make();
    f->shared = sm_tmpdir_file(&f->dir, "shared");
    f->scratch = sm_tmpdir_file(&f->dir, "scratch");
    f->file = sm_tmpdir_file(&f->dir, "shared/c.smc");
    f->side = sm_tmpdir_file(&f->dir, "shared/c.smc.d");
    f->config = (sm_generation_config){.what = "the test", .scratch = f->scratch.path};
    *state = f;
    return mkdir(f->shared.path, 0755) != 0 || mkdir(f->scratch.path, 0755) != 0;
}

static inline int tear_down(void **state)
{
    fixture *f = *state;
    sm_alloc_fail_after(-1);
    sm_generation_die_at(0);
    sm_tmpdir_remove(&f->dir);
    free(f);
    return 0;
}

static inline void empty_shared(const fixture *f)
{
    nftw(f->shared.path, sm_tmpdir_remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
    assert_int_equal(mkdir(f->shared.path, 0755), 0);
}

static inline uint64_t next(const fixture *f)
{
    sm_error err = SM_ERROR_INIT;
    uint64_t number = 0;
    const bool fresh = access(f->file.path, F_OK) != 0;
    SM_CHECK_OK(make_next(f->file.path, fresh, &f->config, &number, &err), &err);
    return number;
}

static inline sm_tmppath in_side(const fixture *f, const char *name)
{
    char path[PATH_MAX / 4];
    snprintf(path, sizeof(path), "shared/c.smc.d/%s", name);
    return sm_tmpdir_file(&f->dir, path);
}

static inline sm_tmppath link_of(const fixture *f, uint64_t number)
{
    char name[64];
    snprintf(name, sizeof(name), "gen-%010" PRIu64, number);
    return in_side(f, name);
}

static inline bool same_file(const char *a, const char *b)
{
    struct stat first, second;
    return stat(a, &first) == 0 && stat(b, &second) == 0 && first.st_ino == second.st_ino &&
           first.st_dev == second.st_dev;
}

/* Every name is one that should be there when nobody is at work. */
static inline void check_tidy(const fixture *f, uint64_t number)
{
    sm_error err = SM_ERROR_INIT;
    uint64_t newest = 0;
    SM_CHECK_OK(sm_generation_newest(f->file.path, &newest, &err), &err);
    assert_int_equal(newest, number);
    assert_int_equal(read_content(f->file.path), number);
    assert_true(same_file(f->file.path, link_of(f, number).path));
    assert_int_equal(sm_tmpdir_count(f->shared.path), 2);
    const unsigned kept = number < SM_GENERATIONS_KEPT ? (unsigned)number : SM_GENERATIONS_KEPT;
    assert_int_equal(sm_tmpdir_count(f->side.path), 2 + 2 * kept); /* lock, lock.holder */
    for (uint64_t n = number; n > number - kept; n--)
        assert_int_equal(read_content(link_of(f, n).path), n);
    assert_int_equal(sm_tmpdir_count(in_side(f, "lock.holder").path), 0);
    assert_int_equal(sm_tmpdir_count(f->scratch.path), 0);
}

#endif
