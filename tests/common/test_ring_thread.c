/* A ring whose requests were submitted by a thread that has ended since: the kernel cancels what
 * that thread's io_uring workers had not begun (ECANCELED), and the ring must do it anew. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/ring.h"
#include "common/ring_backend.h"
#include "tests/support/check.h"
#include "tests/support/tmpdir.h"

enum { DEPTH = 32, ROUNDS = 20, PART = 1 << 20 };

typedef struct task {
    sm_ring *ring;
    sm_ring_op ops[DEPTH];
    sm_status status;
    sm_error err;
} task;

static void *submit_and_end(void *argument)
{
    task *t = argument;
    for (size_t i = 0; i < DEPTH && t->status == SM_OK; i++)
        t->status = sm_ring_submit(t->ring, &t->ops[i], &t->err);
    return NULL;
}

static void check_round(task *t)
{
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, submit_and_end, t), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    SM_CHECK_OK(t->status, &t->err);
    for (size_t i = 0; i < DEPTH; i++) {
        sm_ring_op *op = NULL;
        SM_CHECK_OK(sm_ring_wait(t->ring, &op, &t->err), &t->err);
        if (op->sys_errno != 0)
            fail_msg("a write ended with %s", strerror(op->sys_errno));
        assert_int_equal(op->done, PART);
    }
}

static void writes_outlive_the_thread_that_submitted_them(void **state)
{
    (void)state;
    const sm_tmpdir dir = sm_tmpdir_make();
    const sm_tmppath file = sm_tmpdir_file(&dir, "out");
    const int fd = open(file.path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    uint8_t *bytes = malloc(PART);
    assert_non_null(bytes);
    memset(bytes, 0x5A, PART);
    task t = {.err = SM_ERROR_INIT};
    SM_CHECK_OK(sm_ring_open(DEPTH, &t.ring, &t.err), &t.err);
    for (size_t i = 0; i < DEPTH; i++)
        t.ops[i] = (sm_ring_op){
            .fd = fd, .write = true, .bytes = bytes, .len = PART, .offset = i * (uint64_t)PART};
    for (unsigned round = 0; round < ROUNDS; round++)
        check_round(&t);
    sm_ring_close(&t.ring);
    assert_int_equal(lseek(fd, 0, SEEK_END), (off_t)DEPTH * PART);
    assert_int_equal(close(fd), 0);
    free(bytes);
    sm_tmpdir_remove(&dir);
}

static void a_cancelled_request_is_not_the_end_of_a_transfer(void **state)
{
    (void)state;
    sm_ring_op op = {.len = 100, .write = true, .done = 40};
    assert_false(sm_ring_op_step(&op, -ECANCELED));
    assert_int_equal(op.sys_errno, 0);
    assert_int_equal(op.done, 40);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writes_outlive_the_thread_that_submitted_them),
        cmocka_unit_test(a_cancelled_request_is_not_the_end_of_a_transfer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
