/* Tests of common/sink.c and sink_verify.c: nothing unverified gets the final name, nothing stays
 * behind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/sink.h"
#include "common/stop.h"
#include "tests/support/backends.h"
#include "tests/support/check.h"
#include "tests/support/tmpdir.h"

enum { HEAD = 1000, DATA = 700001, BLOCK = 65536 };

/* One test's folder, target and bytes: HEAD of head, then DATA of data. */
typedef struct fixture {
    sm_tmpdir dir;
    sm_tmppath target;
    uint8_t *bytes;
} fixture;

static int set_up(void **state)
{
    fixture *f = calloc(1, sizeof(*f));
    if (f == NULL)
        return -1;
    f->dir = sm_tmpdir_make();
    f->target = sm_tmpdir_file(&f->dir, "out.tif");
    f->bytes = sm_bytes_make(HEAD + DATA, 21);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    fixture *f = *state;
    sm_alloc_fail_after(-1);
    sm_backend_reset();
    sm_tmpdir_remove(&f->dir);
    free(f->bytes);
    free(f);
    return 0;
}

static const sm_sink_config SMALL = {.head_bytes = HEAD, .block_bytes = BLOCK, .depth = 2};
static const sm_sink_config SMALL_FORCE = {
    .head_bytes = HEAD, .block_bytes = BLOCK, .depth = 2, .force = true};

/* Append the data in pieces of 1, 2, 3 ... bytes, as tiles of growing size, then the head. */
static sm_status write_all(sm_sink *sink, const uint8_t *bytes, sm_error *err)
{
    size_t at = HEAD, piece = 1;
    while (at < HEAD + DATA) {
        const size_t len = HEAD + DATA - at < piece ? HEAD + DATA - at : piece;
        uint64_t offset = 0;
        const sm_status st = sm_sink_append(sink, bytes + at, len, &offset, err);
        if (st != SM_OK)
            return st;
        assert_true(offset == at);
        at += len;
        piece += 1 + piece / 4;
    }
    assert_true(sm_sink_size(sink) == HEAD + DATA);
    return sm_sink_write_head(sink, bytes, HEAD, err);
}

static sm_sink *create_written(const fixture *f, const sm_sink_config *config)
{
    sm_error err = SM_ERROR_INIT;
    sm_sink *sink = NULL;
    SM_CHECK_OK(sm_sink_create(f->target.path, config, &sink, &err), &err);
    SM_CHECK_OK(write_all(sink, f->bytes, &err), &err);
    return sink;
}

static void check_target(const fixture *f, const void *want, size_t want_len)
{
    size_t len = 0;
    uint8_t *got = sm_file_read(f->target.path, &len);
    assert_int_equal(len, want_len);
    assert_memory_equal(got, want, len);
    free(got);
}

static sm_digest sha256_of(const uint8_t *bytes, size_t len)
{
    sm_error err = SM_ERROR_INIT;
    sm_hasher *hasher = NULL;
    sm_digest digest;
    SM_CHECK_OK(sm_hasher_new(SM_DIGEST_SHA256, &hasher, &err), &err);
    SM_CHECK_OK(sm_hasher_update(hasher, bytes, len, &err), &err);
    SM_CHECK_OK(sm_hasher_final(hasher, &digest, &err), &err);
    sm_hasher_free(&hasher);
    return digest;
}

static void what_was_appended_is_published_on_both_back_ends(void **state)
{
    const fixture *f = *state;
    static const sm_verify_mode MODES[] = {SM_VERIFY_CACHE, SM_VERIFY_MEDIA, SM_VERIFY_NONE};
    const sm_digest want = sha256_of(f->bytes, HEAD + DATA);
    const sm_digest want_data = sm_digest_xxh128(f->bytes + HEAD, DATA);
    for (size_t i = 0; i < SM_COUNT(SM_BACKENDS); i++) {
        for (size_t k = 0; k < SM_COUNT(MODES) && sm_backend_use(i); k++) {
            sm_error err = SM_ERROR_INIT;
            sm_sink *sink = NULL;
            sm_sink_result result;
            sm_digest data;
            size_t at = HEAD;
            uint64_t offset = 0;
            SM_CHECK_OK(sm_sink_create(f->target.path, &SMALL, &sink, &err), &err);
            for (; at < HEAD + DATA; at += 1 + at % 5000) {
                const size_t len = 1 + at % 5000, left = HEAD + DATA - at;
                SM_CHECK_OK(
                    sm_sink_append(sink, f->bytes + at, len < left ? len : left, &offset, &err),
                    &err);
            }
            SM_CHECK_OK(sm_sink_data_digest(sink, &data, &err), &err);
            assert_true(sm_digest_equal(&data, &want_data));
            SM_CHECK_OK(sm_sink_write_head(sink, f->bytes, HEAD, &err), &err);
            SM_CHECK_OK(sm_sink_verify(sink, MODES[k], &result, &err), &err);
            assert_int_equal(access(f->target.path, F_OK), -1); /* not visible yet */
            assert_int_equal(access(sm_sink_temp_path(sink), R_OK), 0);
            SM_CHECK_OK(sm_sink_commit(&sink, &result, &err), &err);
            assert_null(sink);
            assert_true(result.size_bytes == HEAD + DATA);
            assert_true(result.read_back == (MODES[k] != SM_VERIFY_NONE));
            assert_true(!result.read_back || sm_digest_equal(&result.sha256, &want));
            check_target(f, f->bytes, HEAD + DATA);
            assert_int_equal(sm_tmpdir_count(f->dir.path), 1);
            assert_int_equal(unlink(f->target.path), 0);
            sm_sink_discard(&sink);
        }
    }
}

static void any_size_of_head_data_and_block_works(void **state)
{
    const fixture *f = *state;
    static const struct {
        const char *name;
        size_t head, data, block;
    } cases[] = {
        {"empty file", 0, 0, 0},
        {"head only", 10, 0, 4096},
        {"data only", 0, 12345, 4096},
        {"head of exactly a block", 4096, 4096, 4096},
        {"head beyond the first block", 9000, 5000, 4096},
        {"data ends on a block", 96, 4000, 4096},
        {"blocks of one byte", 3, 50, 1},
        {"default block", 100, 700000, 0},
    };
    for (size_t i = 0; i < SM_COUNT(cases); i++) {
        sm_error err = SM_ERROR_INIT;
        sm_sink *sink = NULL;
        sm_sink_result result;
        uint64_t offset = 0;
        const sm_sink_config config = {.head_bytes = cases[i].head, .block_bytes = cases[i].block};
        SM_CHECK_OK(sm_sink_create(f->target.path, &config, &sink, &err), &err);
        SM_CHECK_OK(sm_sink_append(sink, f->bytes + cases[i].head, cases[i].data, &offset, &err),
                    &err);
        assert_true(offset == cases[i].head);
        SM_CHECK_OK(sm_sink_write_head(sink, f->bytes, cases[i].head, &err), &err);
        SM_CHECK_OK(sm_sink_verify(sink, SM_VERIFY_CACHE, &result, &err), &err);
        SM_CHECK_OK(sm_sink_commit(&sink, &result, &err), &err);
        check_target(f, f->bytes, cases[i].head + cases[i].data);
        assert_int_equal(unlink(f->target.path), 0);
    }
}

static void a_byte_flipped_on_disk_is_found_at_its_chunk(void **state)
{
    const fixture *f = *state;
    static const struct {
        const char *name;
        uint64_t flipped, chunk;
    } cases[] = {
        {"first byte of the head", 0, 0},
        {"last byte of the head", HEAD - 1, 0},
        {"first byte of the data", HEAD, HEAD},
        {"in the first block", BLOCK - 1, HEAD},
        {"in the third", 2 * BLOCK + 5, 2 * BLOCK},
        {"last byte", HEAD + DATA - 1, (HEAD + DATA - 1) / BLOCK * BLOCK},
    };
    for (size_t i = 0; i < SM_COUNT(cases); i++) {
        for (int mode = SM_VERIFY_CACHE; mode <= SM_VERIFY_MEDIA; mode++) {
            sm_error err = SM_ERROR_INIT;
            sm_sink_result result;
            sm_sink *sink = create_written(f, &SMALL);
            sm_file_flip(sm_sink_temp_path(sink), cases[i].flipped);
            if (sm_sink_verify(sink, (sm_verify_mode)mode, &result, &err) != SM_ERR_CORRUPT)
                fail_msg("%s: not noticed", cases[i].name);
            if (err.offset != cases[i].chunk)
                fail_msg("%s: %s", cases[i].name, err.message);
            assert_false(result.read_back);
            SM_CHECK_FAILS(sm_sink_commit(&sink, &result, &err), &err, SM_ERR_CORRUPT, "read back");
            assert_non_null(sink);
            sm_sink_discard(&sink);
            assert_int_equal(sm_tmpdir_count(f->dir.path), 0);
        }
    }
}

static void a_file_of_another_size_is_corrupt(void **state)
{
    const fixture *f = *state;
    static const off_t SIZES[] = {0, HEAD + DATA - 1, HEAD + DATA + 1};
    for (size_t i = 0; i < SM_COUNT(SIZES); i++) {
        sm_error err = SM_ERROR_INIT;
        sm_sink_result result;
        sm_sink *sink = create_written(f, &SMALL);
        assert_int_equal(truncate(sm_sink_temp_path(sink), SIZES[i]), 0);
        SM_CHECK_FAILS(sm_sink_verify(sink, SM_VERIFY_CACHE, &result, &err), &err, SM_ERR_CORRUPT,
                       "after 701001 were written");
        sm_sink_discard(&sink);
    }
    assert_int_equal(sm_tmpdir_count(f->dir.path), 0);
}

static void a_temporary_swapped_by_another_file_is_refused(void **state)
{
    const fixture *f = *state;
    sm_error err = SM_ERROR_INIT;
    sm_sink_result result;
    sm_sink *sink = create_written(f, &SMALL);
    assert_int_equal(unlink(sm_sink_temp_path(sink)), 0);
    sm_file_write(sm_sink_temp_path(sink), f->bytes, HEAD + DATA);
    SM_CHECK_FAILS(sm_sink_verify(sink, SM_VERIFY_CACHE, &result, &err), &err, SM_ERR_CORRUPT,
                   "another file");
    sm_sink_discard(&sink);
}

static void discard_leaves_nothing_at_any_stage(void **state)
{
    const fixture *f = *state;
    for (unsigned stage = 0; stage < 4; stage++) {
        sm_error err = SM_ERROR_INIT;
        sm_sink *sink = NULL;
        sm_sink_result result;
        uint64_t offset = 0;
        SM_CHECK_OK(sm_sink_create(f->target.path, &SMALL, &sink, &err), &err);
        assert_int_equal(sm_tmpdir_count(f->dir.path), 1);
        if (stage == 1) /* writes in flight */
            SM_CHECK_OK(sm_sink_append(sink, f->bytes, DATA, &offset, &err), &err);
        if (stage > 1)
            SM_CHECK_OK(write_all(sink, f->bytes, &err), &err);
        if (stage > 2)
            SM_CHECK_OK(sm_sink_verify(sink, SM_VERIFY_CACHE, &result, &err), &err);
        sm_sink_discard(&sink);
        assert_null(sink);
        assert_int_equal(sm_tmpdir_count(f->dir.path), 0);
    }
}

static void an_existing_target_needs_force(void **state)
{
    const fixture *f = *state;
    sm_error err = SM_ERROR_INIT;
    sm_sink *sink = NULL;
    sm_sink_result result;
    sm_file_write(f->target.path, "old", 3);
    assert_int_equal(chmod(f->target.path, 0640), 0);
    SM_CHECK_FAILS(sm_sink_create(f->target.path, &SMALL, &sink, &err), &err, SM_ERR_ARG,
                   "out.tif: exists already; --force replaces it");
    assert_null(sink);
    sink = create_written(f, &SMALL_FORCE);
    check_target(f, "old", 3); /* until the commit */
    SM_CHECK_OK(sm_sink_verify(sink, SM_VERIFY_CACHE, &result, &err), &err);
    check_target(f, "old", 3);
    SM_CHECK_OK(sm_sink_commit(&sink, &result, &err), &err);
    check_target(f, f->bytes, HEAD + DATA);
    struct stat info;
    assert_int_equal(stat(f->target.path, &info), 0);
    assert_int_equal(info.st_mode & 07777, 0640);
    assert_int_equal(sm_tmpdir_count(f->dir.path), 1);
}

static void a_target_that_comes_meanwhile_is_not_overwritten(void **state)
{
    const fixture *f = *state;
    sm_error err = SM_ERROR_INIT;
    sm_sink_result result;
    sm_sink *sink = create_written(f, &SMALL);
    SM_CHECK_OK(sm_sink_verify(sink, SM_VERIFY_CACHE, &result, &err), &err);
    sm_file_write(f->target.path, "rival", 5);
    SM_CHECK_FAILS(sm_sink_commit(&sink, &result, &err), &err, SM_ERR_ARG, "exists already");
    assert_non_null(sink);
    sm_sink_discard(&sink);
    check_target(f, "rival", 5);
    assert_int_equal(sm_tmpdir_count(f->dir.path), 1);
}

static void the_mode_follows_the_umask(void **state)
{
    const fixture *f = *state;
    sm_error err = SM_ERROR_INIT;
    sm_sink_result result;
    const mode_t before = umask(027);
    sm_sink *sink = create_written(f, &SMALL_FORCE); /* force without a target is fine */
    SM_CHECK_OK(sm_sink_verify(sink, SM_VERIFY_NONE, &result, &err), &err);
    SM_CHECK_OK(sm_sink_commit(&sink, &result, &err), &err);
    umask(before);
    struct stat info;
    assert_int_equal(stat(f->target.path, &info), 0);
    assert_int_equal(info.st_mode & 07777, 0640);
}

static void targets_that_cannot_be_are_refused_at_the_start(void **state)
{
    const fixture *f = *state;
    char long_name[300] = "";
    memset(long_name, 'n', sizeof(long_name) - 1);
    assert_int_equal(mkdir(sm_tmpdir_file(&f->dir, "folder").path, 0755), 0);
    assert_int_equal(mkfifo(sm_tmpdir_file(&f->dir, "fifo").path, 0600), 0);
    assert_int_equal(symlink("folder", sm_tmpdir_file(&f->dir, "link").path), 0);
    const struct {
        const char *name, *message;
    } cases[] = {
        {"none/out.tif", "cannot open its folder"},
        {"fifo/out.tif", "cannot open its folder"},
        {"folder", "is a folder"},
        {"link", "is a folder"},
        {"folder/", "names a folder"},
        {"folder/..", "names a folder"},
        {"fifo", "is not a regular file"},
        {long_name, "File name too long"},
    };
    for (size_t i = 0; i < SM_COUNT(cases); i++) {
        sm_error err = SM_ERROR_INIT;
        sm_sink *sink = NULL;
        const sm_tmppath path = sm_tmpdir_file(&f->dir, cases[i].name);
        SM_CHECK_FAILS(sm_sink_create(path.path, &SMALL_FORCE, &sink, &err), &err, SM_ERR_ARG,
                       cases[i].message);
        assert_null(sink);
    }
    assert_int_equal(sm_tmpdir_count(f->dir.path), 3);
}

static void a_bare_name_goes_to_the_working_folder(void **state)
{
    const fixture *f = *state;
    sm_error err = SM_ERROR_INIT;
    sm_sink *sink = NULL;
    sm_sink_result result;
    char before[PATH_MAX];
    assert_non_null(getcwd(before, sizeof(before)));
    assert_int_equal(chdir(f->dir.path), 0);
    const sm_status st = sm_sink_create("out.tif", &SMALL, &sink, &err);
    assert_int_equal(chdir(before), 0); /* and stays there */
    SM_CHECK_OK(st, &err);
    SM_CHECK_OK(write_all(sink, f->bytes, &err), &err);
    SM_CHECK_OK(sm_sink_verify(sink, SM_VERIFY_CACHE, &result, &err), &err);
    SM_CHECK_OK(sm_sink_commit(&sink, &result, &err), &err);
    check_target(f, f->bytes, HEAD + DATA);
}

/* A child that creates a sink, says so, and waits to be killed. */
static pid_t start_writer(const fixture *f)
{
    int ready[2];
    assert_int_equal(pipe(ready), 0);
    const pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        sm_error err = SM_ERROR_INIT;
        sm_sink *sink = NULL;
        uint64_t offset = 0;
        if (sm_sink_create(f->target.path, &SMALL, &sink, &err) != SM_OK ||
            sm_sink_append(sink, f->bytes, DATA, &offset, &err) != SM_OK ||
            write(ready[1], "r", 1) != 1)
            _exit(1);
        for (;;)
            pause();
    }
    char byte = 0;
    close(ready[1]);
    assert_int_equal(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    return pid;
}

static void kill_writer(pid_t pid)
{
    int status = 0;
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
}

static void dead_temporaries_go_and_live_ones_stay(void **state)
{
    const fixture *f = *state;
    sm_backend_use(0); /* forked children: no ring shared with the parent */
    sm_error err = SM_ERROR_INIT;
    sm_sink *sink = NULL;
    const char *const OTHERS[] = {".out.tif.12345",    ".out.tif.1234567", ".out.tif.12-456",
                                  ".other.tif.123456", "out.tif.123456",   ".out.tif.123456.bak"};
    for (size_t i = 0; i < SM_COUNT(OTHERS); i++)
        sm_file_write(sm_tmpdir_file(&f->dir, OTHERS[i]).path, "mine", 4);
    sm_file_write(sm_tmpdir_file(&f->dir, ".out.tif.aZ09xy").path, "dead", 4);
    assert_int_equal(symlink("none", sm_tmpdir_file(&f->dir, ".out.tif.symlnk").path), 0);
    assert_int_equal(mkfifo(sm_tmpdir_file(&f->dir, ".out.tif.fifo00").path, 0600), 0);
    const unsigned n_others = SM_COUNT(OTHERS) + 2; /* link and pipe are not ours either */

    const pid_t pid = start_writer(f); /* removes aZ09xy, makes its own */
    assert_int_equal(sm_tmpdir_count(f->dir.path), n_others + 1);
    SM_CHECK_OK(sm_sink_create(f->target.path, &SMALL, &sink, &err), &err);
    assert_int_equal(sm_tmpdir_count(f->dir.path), n_others + 2);
    sm_sink_discard(&sink);
    assert_int_equal(sm_tmpdir_count(f->dir.path), n_others + 1);
    kill_writer(pid);
    SM_CHECK_OK(sm_sink_create(f->target.path, &SMALL, &sink, &err), &err);
    assert_int_equal(sm_tmpdir_count(f->dir.path), n_others + 1); /* its own */
    sm_sink_discard(&sink);
    assert_int_equal(sm_tmpdir_count(f->dir.path), n_others);
}

static void the_lock_is_held_until_the_commit(void **state)
{
    const fixture *f = *state;
    sm_error err = SM_ERROR_INIT;
    sm_sink *sink = create_written(f, &SMALL), *other = NULL;
    sm_sink_result result;
    SM_CHECK_OK(sm_sink_verify(sink, SM_VERIFY_CACHE, &result, &err), &err);
    SM_CHECK_OK(sm_sink_create(f->target.path, &SMALL, &other, &err), &err);
    assert_int_equal(access(sm_sink_temp_path(sink), F_OK), 0);
    sm_sink_discard(&other);
    SM_CHECK_OK(sm_sink_commit(&sink, &result, &err), &err);
    check_target(f, f->bytes, HEAD + DATA);
}

static void a_file_size_limit_is_an_io_error_that_stays(void **state)
{
    const fixture *f = *state;
    signal(SIGXFSZ, SIG_IGN);
    for (size_t i = 0; i < SM_COUNT(SM_BACKENDS); i++) {
        if (!sm_backend_use(i))
            continue;
        struct rlimit before, small;
        sm_error err = SM_ERROR_INIT;
        sm_sink *sink = NULL;
        sm_sink_result result;
        uint64_t offset = 0;
        SM_CHECK_OK(sm_sink_create(f->target.path, &SMALL, &sink, &err), &err);
        assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
        small = before;
        small.rlim_cur = 200000;
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
        const sm_status st = write_all(sink, f->bytes, &err);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
        assert_int_equal(st, SM_ERR_IO);
        assert_int_equal(err.sys_errno, EFBIG);
        assert_true(err.offset == 200000 || err.offset == 4 * BLOCK); /* either block's failure */
        SM_CHECK_FAILS(sm_sink_append(sink, "x", 1, &offset, &err), &err, SM_ERR_IO, "too large");
        SM_CHECK_FAILS(sm_sink_verify(sink, SM_VERIFY_NONE, &result, &err), &err, SM_ERR_IO,
                       "too large");
        SM_CHECK_FAILS(sm_sink_commit(&sink, &result, &err), &err, SM_ERR_IO, "too large");
        sm_sink_discard(&sink);
        assert_int_equal(sm_tmpdir_count(f->dir.path), 0);
    }
}

/* A small tmpfs on the test's folder, seen by this process only; skips where that is forbidden. */
static void mount_or_skip(const fixture *f, const char *options)
{
    if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("none", f->dir.path, "tmpfs", 0, options) != 0) {
        print_message("skipped: no mounts of our own here: %s\n", strerror(errno));
        skip();
    }
}

static void a_full_disk_is_named_with_its_free_space(void **state)
{
    const fixture *f = *state;
    mount_or_skip(f, "size=256k");
    for (size_t i = 0; i < SM_COUNT(SM_BACKENDS); i++) {
        if (!sm_backend_use(i))
            continue;
        sm_error err = SM_ERROR_INIT;
        sm_sink *sink = NULL;
        SM_CHECK_OK(sm_sink_create(f->target.path, &SMALL, &sink, &err), &err);
        SM_CHECK_FAILS(write_all(sink, f->bytes, &err), &err, SM_ERR_IO,
                       "bytes free on its file system): No space left on device");
        assert_int_equal(err.sys_errno, ENOSPC);
        sm_sink_discard(&sink);
        assert_int_equal(sm_tmpdir_count(f->dir.path), 0);
    }
    assert_int_equal(umount(f->dir.path), 0);
}

static void a_read_only_folder_is_refused_at_the_start(void **state)
{
    const fixture *f = *state;
    sm_error err = SM_ERROR_INIT;
    sm_sink *sink = NULL;
    mount_or_skip(f, "size=256k");
    assert_int_equal(mount(NULL, f->dir.path, NULL, MS_REMOUNT | MS_RDONLY, NULL), 0);
    SM_CHECK_FAILS(sm_sink_create(f->target.path, &SMALL, &sink, &err), &err, SM_ERR_ARG,
                   "Read-only file system");
    assert_null(sink);
    assert_int_equal(umount(f->dir.path), 0);
}

static void a_folder_without_permission_is_refused_at_the_start(void **state)
{
    const fixture *f = *state;
    sm_error err = SM_ERROR_INIT;
    sm_sink *sink = NULL;
    assert_int_equal(chmod(f->dir.path, 0555), 0);
    const uid_t uid = geteuid();
    if (uid == 0)
        assert_int_equal(seteuid(65534), 0); /* permissions do not stop root */
    const sm_status st = sm_sink_create(f->target.path, &SMALL, &sink, &err);
    if (uid == 0)
        assert_int_equal(seteuid(0), 0);
    assert_int_equal(chmod(f->dir.path, 0755), 0);
    assert_int_equal(st, SM_ERR_ARG);
    assert_non_null(strstr(err.message, "Permission denied"));
}

static void calls_out_of_order_are_our_own_bugs(void **state)
{
    const fixture *f = *state;
    sm_error err = SM_ERROR_INIT;
    sm_sink *sink = NULL;
    sm_sink_result result;
    sm_digest digest;
    uint64_t offset = 0;
    SM_CHECK_OK(sm_sink_create(f->target.path, &SMALL, &sink, &err), &err);
    SM_CHECK_FAILS(sm_sink_commit(&sink, &result, &err), &err, SM_ERR_INTERNAL, "before verify");
    SM_CHECK_FAILS(sm_sink_verify(sink, SM_VERIFY_NONE, &result, &err), &err, SM_ERR_INTERNAL,
                   "before its head");
    SM_CHECK_FAILS(sm_sink_write_head(sink, f->bytes, HEAD - 1, &err), &err, SM_ERR_INTERNAL,
                   "999 bytes where 1000");
    SM_CHECK_OK(sm_sink_data_digest(sink, &digest, &err), &err);
    SM_CHECK_FAILS(sm_sink_append(sink, "x", 1, &offset, &err), &err, SM_ERR_INTERNAL, "append");
    SM_CHECK_OK(sm_sink_write_head(sink, f->bytes, HEAD, &err), &err);
    SM_CHECK_FAILS(sm_sink_write_head(sink, f->bytes, HEAD, &err), &err, SM_ERR_INTERNAL, "head");
    sm_sink_discard(&sink);
}

static void a_signal_ends_the_read_back(void **state)
{
    const fixture *f = *state;
    const pid_t pid = fork(); /* the flag cannot be taken back */
    assert_true(pid >= 0);
    if (pid == 0) {
        sm_error err = SM_ERROR_INIT;
        sm_sink_result result;
        sm_stop_install();
        sm_sink *sink = create_written(f, &SMALL);
        raise(SIGTERM);
        const sm_status st = sm_sink_verify(sink, SM_VERIFY_CACHE, &result, &err);
        sm_sink_discard(&sink);
        _exit(st == SM_ERR_INTERRUPTED ? 0 : 1);
    }
    int status = -1;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_int_equal(sm_tmpdir_count(f->dir.path), 0);
}

static void every_failed_allocation_is_reported_and_leaves_nothing(void **state)
{
    const fixture *f = *state;
    for (size_t i = 0; i < SM_COUNT(SM_BACKENDS); i++) {
        sm_status st = SM_ERR_NOMEM;
        long n = 0;
        for (; st != SM_OK && sm_backend_use(i); n++) {
            sm_error err = SM_ERROR_INIT;
            sm_sink *sink = NULL;
            sm_sink_result result;
            sm_alloc_fail_after(n);
            st = sm_sink_create(f->target.path, &SMALL, &sink, &err);
            if (st == SM_OK)
                st = write_all(sink, f->bytes, &err);
            if (st == SM_OK)
                st = sm_sink_verify(sink, SM_VERIFY_CACHE, &result, &err);
            if (st == SM_OK)
                st = sm_sink_commit(&sink, &result, &err);
            sm_alloc_fail_after(-1);
            sm_sink_discard(&sink);
            if (st != SM_OK) {
                assert_int_equal(st, SM_ERR_NOMEM);
                assert_int_equal(sm_tmpdir_count(f->dir.path), 0);
            }
        }
        if (n > 0) {
            assert_true(n > 12);
            check_target(f, f->bytes, HEAD + DATA);
            assert_int_equal(unlink(f->target.path), 0);
        }
    }
}

#define SINK_TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        SINK_TEST(what_was_appended_is_published_on_both_back_ends),
        SINK_TEST(any_size_of_head_data_and_block_works),
        SINK_TEST(a_byte_flipped_on_disk_is_found_at_its_chunk),
        SINK_TEST(a_file_of_another_size_is_corrupt),
        SINK_TEST(a_temporary_swapped_by_another_file_is_refused),
        SINK_TEST(discard_leaves_nothing_at_any_stage),
        SINK_TEST(an_existing_target_needs_force),
        SINK_TEST(a_target_that_comes_meanwhile_is_not_overwritten),
        SINK_TEST(the_mode_follows_the_umask),
        SINK_TEST(targets_that_cannot_be_are_refused_at_the_start),
        SINK_TEST(a_bare_name_goes_to_the_working_folder),
        SINK_TEST(dead_temporaries_go_and_live_ones_stay),
        SINK_TEST(the_lock_is_held_until_the_commit),
        SINK_TEST(a_file_size_limit_is_an_io_error_that_stays),
        SINK_TEST(a_full_disk_is_named_with_its_free_space),
        SINK_TEST(a_read_only_folder_is_refused_at_the_start),
        SINK_TEST(a_folder_without_permission_is_refused_at_the_start),
        SINK_TEST(calls_out_of_order_are_our_own_bugs),
        SINK_TEST(a_signal_ends_the_read_back),
        SINK_TEST(every_failed_allocation_is_reported_and_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
