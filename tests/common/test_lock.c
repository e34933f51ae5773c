/* Tests of common/lock.c with real processes: one holder at a time, named, and free when it dies.
 */
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
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/lock.h"
#include "common/stop.h"
#include "common/sysinfo.h"
#include "tests/support/check.h"
#include "tests/support/refuse.h"
#include "tests/support/tmpdir.h"

typedef struct fixture {
    sm_tmpdir dir;
    sm_tmppath file;
} fixture;

static int set_up(void **state)
{
    fixture *f = calloc(1, sizeof(*f));
    if (f == NULL)
        return -1;
    f->dir = sm_tmpdir_make();
    f->file = sm_tmpdir_file(&f->dir, "lock");
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    fixture *f = *state;
    sm_alloc_fail_after(-1);
    sm_tmpdir_remove(&f->dir);
    free(f);
    return 0;
}

static sm_status take_all(const fixture *f, const char *what, uint32_t wait_s, sm_lock **lock,
                          sm_error *err)
{
    return sm_lock_take(f->file.path, SM_LOCK_ALL_FIRST, SM_LOCK_ALL_LAST, what, wait_s, lock, err);
}

/* A child that holds first..last, says so, and stays until it is killed. */
static pid_t start_holder(const fixture *f, uint64_t first, uint64_t last)
{
    int ready[2];
    assert_int_equal(pipe(ready), 0);
    const pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        sm_error err = SM_ERROR_INIT;
        sm_lock *lock = NULL;
        if (sm_lock_take(f->file.path, first, last, "the child", 0, &lock, &err) != SM_OK ||
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

static void kill_holder(pid_t pid)
{
    int status = 0;
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
}

static void the_second_is_told_who_holds_it(void **state)
{
    const fixture *f = *state;
    sm_error err = SM_ERROR_INIT;
    sm_lock *lock = NULL;
    char host[256] = "", want[PATH_MAX];
    assert_int_equal(gethostname(host, sizeof(host) - 1), 0);
    const pid_t pid = start_holder(f, SM_LOCK_ALL_FIRST, SM_LOCK_ALL_LAST);
    snprintf(want, sizeof(want), "%s: held by %s pid %d (the child, since 20", f->file.path, host,
             (int)pid);
    SM_CHECK_FAILS(take_all(f, "second", 0, &lock, &err), &err, SM_ERR_BUSY, want);
    assert_null(lock);
    kill_holder(pid);
    SM_CHECK_OK(take_all(f, "second", 0, &lock, &err), &err); /* at once, and over its old line */
    sm_lock *third = NULL;
    SM_CHECK_FAILS(take_all(f, "third", 0, &third, &err), &err, SM_ERR_BUSY, "(second, since");
    sm_lock_release(&lock);
    assert_null(lock);
    sm_lock_release(&lock);
    SM_CHECK_OK(take_all(f, "third", 0, &third, &err), &err);
    sm_lock_release(&third);
    const sm_tmppath holders = sm_tmpdir_file(&f->dir, "lock.holder");
    assert_int_equal(sm_tmpdir_count(holders.path), 0);
}

static void a_stopped_holder_keeps_it(void **state)
{
    const fixture *f = *state;
    sm_error err = SM_ERROR_INIT;
    sm_lock *lock = NULL;
    const pid_t pid = start_holder(f, SM_LOCK_ALL_FIRST, SM_LOCK_ALL_LAST);
    int status = 0;
    assert_int_equal(kill(pid, SIGSTOP), 0);
    assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
    assert_true(WIFSTOPPED(status));
    SM_CHECK_FAILS(take_all(f, "second", 1, &lock, &err), &err, SM_ERR_BUSY, "the child");
    kill_holder(pid);
    SM_CHECK_OK(take_all(f, "second", 0, &lock, &err), &err);
    sm_lock_release(&lock);
}

static void ranges_exclude_each_other_only_where_they_overlap(void **state)
{
    const fixture *f = *state;
    static const struct {
        const char *name;
        uint64_t first, last;
        sm_status want;
    } cases[] = {
        {"the same", 7, 9, SM_ERR_BUSY},
        {"before it", 0, 6, SM_OK},
        {"behind it", 10, 10, SM_OK},
        {"far behind", SM_LOCK_ALL_LAST, SM_LOCK_ALL_LAST, SM_OK},
        {"its first byte", 0, 7, SM_ERR_BUSY},
        {"its last byte", 9, 20, SM_ERR_BUSY},
        {"in it", 8, 8, SM_ERR_BUSY},
        {"all", SM_LOCK_ALL_FIRST, SM_LOCK_ALL_LAST, SM_ERR_BUSY},
    };
    const pid_t pid = start_holder(f, 7, 9);
    for (size_t i = 0; i < SM_COUNT(cases); i++) {
        sm_error err = SM_ERROR_INIT;
        sm_lock *lock = NULL;
        const sm_status st =
            sm_lock_take(f->file.path, cases[i].first, cases[i].last, "range", 0, &lock, &err);
        /* whatever range is asked for, the refusal names the holder of 7-9 */
        if (st != cases[i].want || (st != SM_OK && strstr(err.message, "(the child, ") == NULL))
            fail_msg("%s: %s: %s", cases[i].name, sm_status_name(st), err.message);
        sm_lock_release(&lock);
    }
    kill_holder(pid);
    sm_error err = SM_ERROR_INIT;
    sm_lock *lock = NULL;
    SM_CHECK_FAILS(sm_lock_take(f->file.path, 3, 2, "x", 0, &lock, &err), &err, SM_ERR_INTERNAL,
                   "no range");
    SM_CHECK_FAILS(sm_lock_take(f->file.path, 0, UINT64_MAX, "x", 0, &lock, &err), &err,
                   SM_ERR_INTERNAL, "no range");
}

static void waiting_ends_when_the_holder_dies(void **state)
{
    const fixture *f = *state;
    sm_error err = SM_ERROR_INIT;
    sm_lock *lock = NULL;
    const pid_t pid = start_holder(f, SM_LOCK_ALL_FIRST, SM_LOCK_ALL_LAST);
    const pid_t killer = fork();
    assert_true(killer >= 0);
    if (killer == 0) {
        usleep(300000);
        kill(pid, SIGKILL);
        _exit(0);
    }
    const uint64_t start = sm_now_ns();
    SM_CHECK_OK(take_all(f, "patient", 30, &lock, &err), &err);
    const uint64_t ms = (sm_now_ns() - start) / 1000000;
    assert_true(ms >= 250 && ms < 10000);
    sm_lock_release(&lock);
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(waitpid(killer, &status, 0), killer);
}

static void waiting_ends_with_a_signal(void **state)
{
    const fixture *f = *state;
    const pid_t holder = start_holder(f, SM_LOCK_ALL_FIRST, SM_LOCK_ALL_LAST);
    const pid_t pid = fork(); /* the flag cannot be taken back */
    assert_true(pid >= 0);
    if (pid == 0) {
        sm_error err = SM_ERROR_INIT;
        sm_lock *lock = NULL;
        sm_stop_install();
        raise(SIGTERM);
        _exit(take_all(f, "x", 60, &lock, &err) == SM_ERR_INTERRUPTED && lock == NULL ? 0 : 1);
    }
    int status = -1;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    kill_holder(holder);
}

/* Each child adds one, many times, to a number in a file: lost updates show a lock that leaks. */
static void many_processes_never_hold_it_together(void **state)
{
    const fixture *f = *state;
    enum { CHILDREN = 4, ROUNDS = 40 };
    const sm_tmppath number = sm_tmpdir_file(&f->dir, "number");
    sm_file_write(number.path, "\0\0\0\0", 4);
    pid_t pids[CHILDREN];
    for (int i = 0; i < CHILDREN; i++) {
        pids[i] = fork();
        assert_true(pids[i] >= 0);
        for (int round = 0; pids[i] == 0; round++) {
            sm_error err = SM_ERROR_INIT;
            sm_lock *lock = NULL;
            uint32_t n = 0;
            if (round == ROUNDS)
                _exit(0);
            if (take_all(f, "adder", 60, &lock, &err) != SM_OK)
                _exit(1);
            const int fd = open(number.path, O_RDWR | O_CLOEXEC);
            if (pread(fd, &n, 4, 0) != 4)
                _exit(2);
            n++;
            usleep(200);
            if (sm_lock_check(lock, &err) != SM_OK || pwrite(fd, &n, 4, 0) != 4)
                _exit(3);
            close(fd);
            sm_lock_release(&lock);
        }
    }
    for (int i = 0; i < CHILDREN; i++) {
        int status = -1;
        assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
        assert_int_equal(status, 0);
    }
    size_t len = 0;
    uint8_t *bytes = sm_file_read(number.path, &len);
    uint32_t n = 0;
    memcpy(&n, bytes, 4);
    free(bytes);
    assert_int_equal(n, CHILDREN * ROUNDS);
}

static void a_lock_on_a_removed_file_is_taken_anew(void **state)
{
    const fixture *f = *state;
    sm_error err = SM_ERROR_INIT;
    sm_lock *lock = NULL, *other = NULL;
    SM_CHECK_OK(take_all(f, "first", 0, &lock, &err), &err);
    SM_CHECK_OK(sm_lock_check(lock, &err), &err);
    assert_int_equal(unlink(f->file.path), 0);
    SM_CHECK_OK(sm_lock_check(lock, &err), &err); /* now on a new file */
    SM_CHECK_FAILS(take_all(f, "other", 0, &other, &err), &err, SM_ERR_BUSY, "(first, since");
    assert_int_equal(unlink(f->file.path), 0);
    SM_CHECK_OK(take_all(f, "other", 0, &other, &err), &err);
    SM_CHECK_FAILS(sm_lock_check(lock, &err), &err, SM_ERR_BUSY, "(other, since");
    SM_CHECK_FAILS(sm_lock_check(lock, &err), &err, SM_ERR_BUSY, "(other, since");
    sm_lock_release(&lock); /* leaves the other one's line alone */
    SM_CHECK_FAILS(take_all(f, "third", 0, &lock, &err), &err, SM_ERR_BUSY, "(other, since");
    sm_lock_release(&other);
    SM_CHECK_OK(take_all(f, "third", 0, &lock, &err), &err);
    sm_lock_release(&lock);
}

/* 0 when a descriptor that has become useless is replaced; else the step that is wrong. */
static int check_after_loss(void *arg)
{
    const fixture *f = arg;
    sm_error err = SM_ERROR_INIT;
    sm_lock *lock = NULL, *other = NULL;
    if (take_all(f, "first", 0, &lock, &err) != SM_OK)
        return 1;
    if (sm_lock_check(lock, &err) != SM_OK)
        return 2;
    if (take_all(f, "other", 0, &other, &err) != SM_ERR_BUSY)
        return 3;
    sm_lock_release(&lock);
    return 0;
}

static void a_lock_lost_with_its_brick_is_taken_anew(void **state)
{
    static const int ANSWERS[] = {EBADFD, ENOTCONN, EIO};
    for (size_t i = 0; i < SM_COUNT(ANSWERS); i++) {
        const sm_refusal refusal = {.call = SYS_fcntl,
                                    .arg = 1,
                                    .value = F_OFD_SETLK,
                                    .errnum = ANSWERS[i],
                                    .skip = 1,
                                    .times = 1};
        const int rc = sm_refuse(&refusal, check_after_loss, *state);
        if (rc == 77)
            skip();
        assert_int_equal(rc, 0);
    }
}

/* 10 + status */
static int take_once(void *arg)
{
    const fixture *f = arg;
    sm_error err = SM_ERROR_INIT;
    sm_lock *lock = NULL;
    const sm_status st = take_all(f, "x", 5, &lock, &err);
    return (strstr(err.message, "gives no locks") != NULL ? 30 : 10) + (int)st;
}

static void a_file_system_without_locks_is_said(void **state)
{
    static const struct {
        int errnum, want;
    } cases[] = {{ENOSYS, 30 + SM_ERR_IO},
                 {EOPNOTSUPP, 30 + SM_ERR_IO},
                 {ENOLCK, 30 + SM_ERR_IO},
                 {EIO, 10 + SM_ERR_IO}};
    for (size_t i = 0; i < SM_COUNT(cases); i++) {
        const sm_refusal refusal = {.call = SYS_fcntl,
                                    .arg = 1,
                                    .value = F_OFD_SETLK,
                                    .errnum = cases[i].errnum,
                                    .times = SM_REFUSE_ALWAYS};
        const int rc = sm_refuse(&refusal, take_once, *state);
        if (rc == 77)
            skip();
        assert_int_equal(rc, cases[i].want);
    }
}

static void hostile_holder_lines_are_shown_clean(void **state)
{
    const fixture *f = *state;
    sm_error err = SM_ERROR_INIT;
    sm_lock *lock = NULL, *other = NULL;
    char name[128], big[5000];
    memset(big, 'A', sizeof(big));
    snprintf(name, sizeof(name), "lock.holder/0-%lld", (long long)SM_LOCK_ALL_LAST);
    const sm_tmppath holder = sm_tmpdir_file(&f->dir, name);
    SM_CHECK_OK(take_all(f, "first", 0, &lock, &err), &err);
    sm_file_write(holder.path, "evil\x1b[2J\nsecond line", 20);
    SM_CHECK_FAILS(take_all(f, "x", 0, &other, &err), &err, SM_ERR_BUSY, "held by evil?[2J");
    assert_null(strstr(err.message, "second"));
    sm_file_write(holder.path, big, sizeof(big));
    SM_CHECK_FAILS(take_all(f, "x", 0, &other, &err), &err, SM_ERR_BUSY, "held by AAAA");
    sm_file_write(holder.path, "", 0);
    SM_CHECK_FAILS(take_all(f, "x", 0, &other, &err), &err, SM_ERR_BUSY, "another process");
    assert_int_equal(unlink(holder.path), 0);
    assert_int_equal(symlink("/etc/hostname", holder.path), 0);
    SM_CHECK_FAILS(take_all(f, "x", 0, &other, &err), &err, SM_ERR_BUSY, "another process");
    assert_int_equal(unlink(holder.path), 0);
    assert_int_equal(mkfifo(holder.path, 0600), 0); /* must not wait for its writer */
    SM_CHECK_FAILS(take_all(f, "x", 0, &other, &err), &err, SM_ERR_BUSY, "another process");
    sm_lock_release(&lock);
}

static void places_that_cannot_be_are_refused(void **state)
{
    const fixture *f = *state;
    assert_int_equal(mkdir(sm_tmpdir_file(&f->dir, "folder").path, 0755), 0);
    assert_int_equal(symlink("target", sm_tmpdir_file(&f->dir, "link").path), 0);
    static const char *const NAMES[] = {"none/lock", "folder", "link"};
    for (size_t i = 0; i < SM_COUNT(NAMES); i++) {
        sm_error err = SM_ERROR_INIT;
        sm_lock *lock = NULL;
        const sm_tmppath path = sm_tmpdir_file(&f->dir, NAMES[i]);
        SM_CHECK_FAILS(sm_lock_take(path.path, 0, 0, "x", 0, &lock, &err), &err, SM_ERR_ARG,
                       NAMES[i]);
        assert_null(lock);
    }
}

static void a_holder_line_that_cannot_be_written_does_not_matter(void **state)
{
    const fixture *f = *state;
    sm_error err = SM_ERROR_INIT;
    sm_lock *lock = NULL, *other = NULL;
    sm_file_write(sm_tmpdir_file(&f->dir, "lock.holder").path, "a file", 6);
    SM_CHECK_OK(take_all(f, "first", 0, &lock, &err), &err);
    SM_CHECK_FAILS(take_all(f, "x", 0, &other, &err), &err, SM_ERR_BUSY, "another process");
    sm_lock_release(&lock);
}

static void failed_allocations_are_reported(void **state)
{
    const fixture *f = *state;
    for (long n = 0; n < 3; n++) {
        sm_error err = SM_ERROR_INIT;
        sm_lock *lock = NULL;
        sm_alloc_fail_after(n);
        assert_int_equal(take_all(f, "x", 0, &lock, &err), SM_ERR_NOMEM);
        assert_null(lock);
    }
    for (long n = 0; n < 2; n++) {
        sm_error err = SM_ERROR_INIT;
        sm_scratch *scratch = NULL;
        sm_alloc_fail_after(n);
        assert_int_equal(sm_scratch_make(f->dir.path, "s", &scratch, &err), SM_ERR_NOMEM);
        assert_null(scratch);
    }
    assert_int_equal(sm_tmpdir_count(f->dir.path), 0);
}

/* ---- scratch folders ---- */

static pid_t start_scratch(const fixture *f)
{
    int ready[2];
    assert_int_equal(pipe(ready), 0);
    const pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        sm_error err = SM_ERROR_INIT;
        sm_scratch *scratch = NULL;
        char path[PATH_MAX];
        if (sm_scratch_make(f->dir.path, "work", &scratch, &err) != SM_OK)
            _exit(1);
        snprintf(path, sizeof(path), "%s/copy", sm_scratch_path(scratch));
        const int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        if (fd < 0 || write(ready[1], "r", 1) != 1)
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

static void scratch_of_the_dead_goes_and_of_the_living_stays(void **state)
{
    const fixture *f = *state;
    sm_error err = SM_ERROR_INIT;
    sm_scratch *scratch = NULL;
    static const char *const OTHERS[] = {"work.12345", "work.1234567", "works.123456",
                                         "workx123456"};
    for (size_t i = 0; i < SM_COUNT(OTHERS); i++)
        assert_int_equal(mkdir(sm_tmpdir_file(&f->dir, OTHERS[i]).path, 0700), 0);
    sm_file_write(sm_tmpdir_file(&f->dir, "work.afile0").path, "x", 1);
    assert_int_equal(symlink("works.123456", sm_tmpdir_file(&f->dir, "work.alink0").path), 0);
    const unsigned others = SM_COUNT(OTHERS) + 2;
    const pid_t pid = start_scratch(f);
    SM_CHECK_OK(sm_scratch_make(f->dir.path, "work", &scratch, &err), &err);
    assert_int_equal(sm_tmpdir_count(f->dir.path), others + 2);
    struct stat info;
    assert_int_equal(stat(sm_scratch_path(scratch), &info), 0);
    assert_int_equal(info.st_mode & 07777, 0700);
    sm_scratch_remove(&scratch);
    assert_null(scratch);
    sm_scratch_remove(&scratch);
    assert_int_equal(sm_tmpdir_count(f->dir.path), others + 1);
    kill_holder(pid);
    SM_CHECK_OK(sm_scratch_make(f->dir.path, "work", &scratch, &err), &err);
    assert_int_equal(sm_tmpdir_count(f->dir.path), others + 1);
    sm_scratch_remove(&scratch);
    assert_int_equal(sm_tmpdir_count(f->dir.path), others);
}

static void many_makers_of_scratch_do_not_hurt_each_other(void **state)
{
    const fixture *f = *state;
    pid_t pids[4];
    for (size_t i = 0; i < SM_COUNT(pids); i++) {
        pids[i] = fork();
        assert_true(pids[i] >= 0);
        for (int round = 0; pids[i] == 0; round++) {
            sm_error err = SM_ERROR_INIT;
            sm_scratch *scratch = NULL;
            char path[PATH_MAX];
            if (round == 100)
                _exit(0);
            if (sm_scratch_make(f->dir.path, "work", &scratch, &err) != SM_OK)
                _exit(1);
            snprintf(path, sizeof(path), "%s/copy", sm_scratch_path(scratch));
            const int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
            usleep(100);
            if (fd < 0 || close(fd) != 0 || access(path, R_OK) != 0)
                _exit(2);
            sm_scratch_remove(&scratch);
        }
    }
    for (size_t i = 0; i < SM_COUNT(pids); i++) {
        int status = -1;
        assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
        assert_int_equal(status, 0);
    }
    assert_int_equal(sm_tmpdir_count(f->dir.path), 0);
}

static void scratch_needs_a_folder_that_is_there(void **state)
{
    const fixture *f = *state;
    sm_error err = SM_ERROR_INIT;
    sm_scratch *scratch = NULL;
    const sm_tmppath none = sm_tmpdir_file(&f->dir, "none");
    SM_CHECK_FAILS(sm_scratch_make(none.path, "work", &scratch, &err), &err, SM_ERR_ARG, "none: ");
    char *before = getenv("TMPDIR");
    char kept[PATH_MAX] = "";
    if (before != NULL)
        snprintf(kept, sizeof(kept), "%s", before);
    setenv("TMPDIR", f->dir.path, 1);
    unsetenv("SLURM_TMPDIR");
    SM_CHECK_OK(sm_scratch_make(NULL, "work", &scratch, &err), &err);
    assert_memory_equal(sm_scratch_path(scratch), f->dir.path, strlen(f->dir.path));
    sm_scratch_remove(&scratch);
    if (before != NULL)
        setenv("TMPDIR", kept, 1);
    else
        unsetenv("TMPDIR");
}

#define LOCK_TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        LOCK_TEST(the_second_is_told_who_holds_it),
        LOCK_TEST(a_stopped_holder_keeps_it),
        LOCK_TEST(ranges_exclude_each_other_only_where_they_overlap),
        LOCK_TEST(waiting_ends_when_the_holder_dies),
        LOCK_TEST(waiting_ends_with_a_signal),
        LOCK_TEST(many_processes_never_hold_it_together),
        LOCK_TEST(a_lock_on_a_removed_file_is_taken_anew),
        LOCK_TEST(a_lock_lost_with_its_brick_is_taken_anew),
        LOCK_TEST(a_file_system_without_locks_is_said),
        LOCK_TEST(hostile_holder_lines_are_shown_clean),
        LOCK_TEST(places_that_cannot_be_are_refused),
        LOCK_TEST(a_holder_line_that_cannot_be_written_does_not_matter),
        LOCK_TEST(failed_allocations_are_reported),
        LOCK_TEST(scratch_of_the_dead_goes_and_of_the_living_stays),
        LOCK_TEST(many_makers_of_scratch_do_not_hurt_each_other),
        LOCK_TEST(scratch_needs_a_folder_that_is_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
