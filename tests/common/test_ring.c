/* Tests of common/ring.c and ring_threads.c: both back ends, the same results. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/ring.h"
#include "common/ring_backend.h"
#include "tests/support/backends.h"
#include "tests/support/check.h"
#include "tests/support/tmpdir.h"

static int reset(void **state)
{
    (void)state;
    sm_backend_reset();
    sm_alloc_fail_after(-1);
    return 0;
}

static void environment_chooses_the_back_end(void **state)
{
    (void)state;
    sm_error err = SM_ERROR_INIT;
    sm_ring *ring = NULL;
    setenv("SLIDEMILL_IO", "threads", 1);
    SM_CHECK_OK(sm_ring_open(4, &ring, &err), &err);
    assert_string_equal(sm_ring_backend(ring), "threads (SLIDEMILL_IO=threads)");
    sm_ring_close(&ring);
    assert_null(ring);
    setenv("SLIDEMILL_IO", "uring", 1);
    if (sm_ring_open(4, &ring, &err) == SM_OK)
        assert_string_equal(sm_ring_backend(ring), "io_uring");
    else
        assert_int_equal(err.status, SM_ERR_IO);
    sm_ring_close(&ring);
    setenv("SLIDEMILL_IO", "aio", 1);
    SM_CHECK_FAILS(sm_ring_open(4, &ring, &err), &err, SM_ERR_ARG, "'aio'");
    unsetenv("SLIDEMILL_IO"); /* something always works */
    SM_CHECK_OK(sm_ring_open(4, &ring, &err), &err);
    sm_ring_close(&ring);
    SM_CHECK_FAILS(sm_ring_open(0, &ring, &err), &err, SM_ERR_ARG, "1..1024");
    SM_CHECK_FAILS(sm_ring_open(1025, &ring, &err), &err, SM_ERR_ARG, "1..1024");
}

/* Write len bytes in `part`s, at most `depth` in flight, then read them back the same way. */
static void transfer_all(sm_ring *ring, int fd, bool write, uint8_t *bytes, size_t len, size_t part)
{
    sm_error err = SM_ERROR_INIT;
    sm_ring_op ops[8], *op = NULL;
    unsigned n_idle = 0;
    sm_ring_op *idle[8];
    for (size_t i = 0; i < 8; i++)
        idle[n_idle++] = &ops[i];
    size_t at = 0, done = 0;
    while (done < len) {
        while (at < len && sm_ring_has_room(ring)) {
            op = idle[--n_idle];
            const size_t n = len - at < part ? len - at : part;
            *op = (sm_ring_op){.fd = fd,
                               .write = write,
                               .bytes = bytes + at,
                               .len = n,
                               .offset = at,
                               .user = bytes + at};
            SM_CHECK_OK(sm_ring_submit(ring, op, &err), &err);
            at += n;
        }
        SM_CHECK_OK(sm_ring_wait(ring, &op, &err), &err);
        assert_int_equal(op->sys_errno, 0);
        assert_int_equal(op->done, op->len);
        assert_ptr_equal(op->user, op->bytes);
        done += op->done;
        idle[n_idle++] = op;
    }
    assert_int_equal(sm_ring_inflight(ring), 0);
}

static void what_is_written_is_read_back_on_both_back_ends(void **state)
{
    (void)state;
    enum { LEN = 3000001 };
    const sm_tmpdir dir = sm_tmpdir_make();
    uint8_t *bytes = sm_bytes_make(LEN, 1), *back = calloc(1, LEN);
    assert_non_null(back);
    static const size_t PARTS[] = {4096, 65537, 1 << 20}; /* below and above the async limit */
    for (size_t i = 0; i < SM_COUNT(SM_BACKENDS); i++) {
        for (size_t k = 0; k < SM_COUNT(PARTS) && sm_backend_use(i); k++) {
            sm_error err = SM_ERROR_INIT;
            sm_ring *ring = NULL;
            const sm_tmppath file = sm_tmpdir_file(&dir, "f");
            const int fd = open(file.path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
            assert_true(fd >= 0);
            SM_CHECK_OK(sm_ring_open(8, &ring, &err), &err);
            transfer_all(ring, fd, true, bytes, LEN, PARTS[k]);
            memset(back, 0, LEN);
            transfer_all(ring, fd, false, back, LEN, PARTS[k]);
            assert_memory_equal(bytes, back, LEN);
            sm_ring_close(&ring);
            close(fd);
        }
    }
    free(bytes);
    free(back);
    sm_tmpdir_remove(&dir);
}

static sm_ring_op run_one(sm_ring *ring, sm_ring_op op)
{
    sm_error err = SM_ERROR_INIT;
    sm_ring_op *ended = NULL;
    SM_CHECK_OK(sm_ring_submit(ring, &op, &err), &err);
    SM_CHECK_OK(sm_ring_wait(ring, &ended, &err), &err);
    assert_ptr_equal(ended, &op);
    return op;
}

static void ends_and_errors_are_the_same_on_both_back_ends(void **state)
{
    (void)state;
    const sm_tmpdir dir = sm_tmpdir_make();
    const sm_tmppath file = sm_tmpdir_file(&dir, "f");
    sm_file_write(file.path, "0123456789", 10);
    const int fd = open(file.path, O_RDONLY | O_CLOEXEC);
    const int full = open("/dev/full", O_WRONLY | O_CLOEXEC), gone = 10000;
    char buffer[64] = "";
    const struct {
        const char *name;
        sm_ring_op op;
        size_t done;
        int sys_errno;
    } cases[] = {
        {"whole", {.fd = fd, .bytes = buffer, .len = 10}, 10, 0},
        {"across the end", {.fd = fd, .bytes = buffer, .len = 64, .offset = 4}, 6, 0},
        {"at the end", {.fd = fd, .bytes = buffer, .len = 64, .offset = 10}, 0, 0},
        {"far beyond the end", {.fd = fd, .bytes = buffer, .len = 1, .offset = 1 << 30}, 0, 0},
        {"nothing", {.fd = fd, .bytes = buffer, .len = 0}, 0, 0},
        {"bad descriptor", {.fd = gone, .bytes = buffer, .len = 1}, 0, EBADF},
        {"write to a reader", {.fd = fd, .write = true, .bytes = buffer, .len = 1}, 0, EBADF},
        {"full", {.fd = full, .write = true, .bytes = buffer, .len = 64}, 0, ENOSPC},
    };
    for (size_t i = 0; i < SM_COUNT(SM_BACKENDS); i++) {
        if (!sm_backend_use(i))
            continue;
        sm_error err = SM_ERROR_INIT;
        sm_ring *ring = NULL;
        SM_CHECK_OK(sm_ring_open(2, &ring, &err), &err);
        for (size_t k = 0; k < SM_COUNT(cases); k++) {
            const sm_ring_op got = run_one(ring, cases[k].op);
            if (got.done != cases[k].done || got.sys_errno != cases[k].sys_errno)
                fail_msg("%s, %s: %zu bytes, errno %d", SM_BACKENDS[i], cases[k].name, got.done,
                         got.sys_errno);
        }
        sm_ring_close(&ring);
    }
    close(fd);
    close(full);
    sm_tmpdir_remove(&dir);
}

static void a_file_size_limit_cuts_a_write_and_says_so(void **state)
{
    (void)state;
    signal(SIGXFSZ, SIG_IGN);
    struct rlimit before, small;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    const sm_tmpdir dir = sm_tmpdir_make();
    uint8_t *bytes = sm_bytes_make(1 << 20, 2);
    for (size_t i = 0; i < SM_COUNT(SM_BACKENDS); i++) {
        if (!sm_backend_use(i))
            continue;
        sm_error err = SM_ERROR_INIT;
        sm_ring *ring = NULL;
        const sm_tmppath file = sm_tmpdir_file(&dir, SM_BACKENDS[i]);
        const int fd = open(file.path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        small = before;
        small.rlim_cur = 100000;
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
        SM_CHECK_OK(sm_ring_open(2, &ring, &err), &err);
        const sm_ring_op got =
            run_one(ring, (sm_ring_op){.fd = fd, .write = true, .bytes = bytes, .len = 1 << 20});
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
        assert_int_equal(got.done, 100000); /* a short write was continued, and only then failed */
        assert_int_equal(got.sys_errno, EFBIG);
        sm_ring_close(&ring);
        close(fd);
    }
    free(bytes);
    sm_tmpdir_remove(&dir);
}

static void short_transfers_are_continued_until_they_end(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        bool write;
        long results[5]; /* of the calls, up to the one that must end it */
        size_t n, done;
        int sys_errno;
    } cases[] = {
        {"three parts", false, {10, 1, 89}, 3, 100, 0},
        {"interrupted twice", false, {-EINTR, 50, -EAGAIN, 50}, 4, 100, 0},
        {"end of file after a part", false, {30, 0}, 2, 30, 0},
        {"error after a part", false, {30, -EIO}, 2, 30, EIO},
        {"O_DIRECT at an unaligned end", false, {30, -EINVAL}, 2, 30, 0},
        {"EINVAL at the start is an error", false, {-EINVAL}, 1, 0, EINVAL},
        {"EINVAL of a write is an error", true, {30, -EINVAL}, 2, 30, EINVAL},
        {"write that takes nothing", true, {30, 0}, 2, 30, EIO},
    };
    for (size_t i = 0; i < SM_COUNT(cases); i++) {
        sm_ring_op op = {.write = cases[i].write, .len = 100};
        for (size_t k = 0; k < cases[i].n; k++)
            if (sm_ring_op_step(&op, cases[i].results[k]) != (k + 1 == cases[i].n))
                fail_msg("%s: call %zu", cases[i].name, k);
        if (op.done != cases[i].done || op.sys_errno != cases[i].sys_errno)
            fail_msg("%s: %zu bytes, errno %d", cases[i].name, op.done, op.sys_errno);
    }
}

static void misuse_is_refused_and_close_waits(void **state)
{
    (void)state;
    const sm_tmpdir dir = sm_tmpdir_make();
    const sm_tmppath file = sm_tmpdir_file(&dir, "f");
    uint8_t *bytes = sm_bytes_make(1 << 20, 3);
    for (size_t i = 0; i < SM_COUNT(SM_BACKENDS); i++) {
        if (!sm_backend_use(i))
            continue;
        sm_error err = SM_ERROR_INIT;
        sm_ring *ring = NULL;
        sm_ring_op *op = NULL;
        const int fd = open(file.path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        SM_CHECK_OK(sm_ring_open(2, &ring, &err), &err);
        SM_CHECK_FAILS(sm_ring_wait(ring, &op, &err), &err, SM_ERR_INTERNAL, "nothing in flight");
        sm_ring_op ops[3];
        for (size_t k = 0; k < 3; k++)
            ops[k] = (sm_ring_op){
                .fd = fd, .write = true, .bytes = bytes, .len = 1 << 20, .offset = k << 20};
        ops[2].offset = UINT64_MAX; /* io_uring would write at the file position */
        SM_CHECK_FAILS(sm_ring_submit(ring, &ops[2], &err), &err, SM_ERR_INTERNAL, "at byte");
        SM_CHECK_OK(sm_ring_submit(ring, &ops[0], &err), &err);
        SM_CHECK_OK(sm_ring_submit(ring, &ops[1], &err), &err);
        assert_false(sm_ring_has_room(ring));
        ops[2].offset = 0;
        SM_CHECK_FAILS(sm_ring_submit(ring, &ops[2], &err), &err, SM_ERR_INTERNAL, "in flight");
        sm_ring_close(&ring);
        assert_int_equal(ops[0].done + ops[1].done, 2 << 20);
        close(fd);
    }
    free(bytes);
    sm_tmpdir_remove(&dir);
}

static void every_failed_allocation_is_reported(void **state)
{
    (void)state;
    for (size_t i = 0; i < SM_COUNT(SM_BACKENDS); i++) {
        if (!sm_backend_use(i))
            continue;
        sm_error err = SM_ERROR_INIT;
        sm_ring *ring = NULL;
        long n = 0;
        for (;; n++) {
            sm_alloc_fail_after(n);
            if (sm_ring_open(4, &ring, &err) == SM_OK)
                break;
            assert_int_equal(err.status, SM_ERR_NOMEM);
            assert_null(ring);
        }
        sm_alloc_fail_after(-1);
        sm_ring_close(&ring);
        assert_int_equal(n, i == 0 ? 4 : 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(environment_chooses_the_back_end, reset),
        cmocka_unit_test_teardown(what_is_written_is_read_back_on_both_back_ends, reset),
        cmocka_unit_test_teardown(ends_and_errors_are_the_same_on_both_back_ends, reset),
        cmocka_unit_test_teardown(a_file_size_limit_cuts_a_write_and_says_so, reset),
        cmocka_unit_test_teardown(short_transfers_are_continued_until_they_end, reset),
        cmocka_unit_test_teardown(misuse_is_refused_and_close_waits, reset),
        cmocka_unit_test_teardown(every_failed_allocation_is_reported, reset),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
