/* Tests of common/generation.c: whoever dies, and whatever the storage refuses, a file is one whole
 * generation. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/generation.h"
#include "common/stop.h"
#include "tests/support/check.h"
#include "tests/support/generations.h"
#include "tests/support/refuse.h"

/* ---- death ---- */

/* A child that makes the next generation and dies just before a step; its status. */
static int die_in_child(const fixture *f, bool fresh, unsigned step)
{
    const pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        sm_error err = SM_ERROR_INIT;
        uint64_t number = 0;
        sm_generation_die_at(step);
        _exit((int)make_next(f->file.path, fresh, &f->config, &number, &err));
    }
    int status = -1;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void death_at_any_step_leaves_the_old_or_the_new(void **state)
{
    const fixture *f = *state;
    uint64_t number = 0;
    for (uint64_t n = 0; n < 4; n++)
        number = next(f);
    for (unsigned step = 1; step <= SM_GENERATION_STEPS; step++) {
        assert_int_equal(die_in_child(f, false, step), 137);
        const int64_t seen = read_content(f->file.path);
        assert_int_equal(seen, step < 5 ? number : number + 1);
        const uint64_t claimed = step < 3 ? number : number + 1;
        sm_error err = SM_ERROR_INIT;
        sm_generation *gen = NULL;
        SM_CHECK_OK(sm_generation_begin(f->file.path, false, &f->config, &gen, &err), &err);
        assert_int_equal(sm_generation_number(gen), claimed + 1);
        assert_int_equal(read_content(sm_generation_copy(gen)), claimed);
        assert_int_equal(read_content(f->file.path), claimed); /* put in place by begin */
        sm_generation_discard(&gen);
        assert_int_equal(sm_tmpdir_count(f->shared.path), 2);
        assert_int_equal(sm_tmpdir_count(f->scratch.path), 0);
        number = next(f);
        assert_int_equal(number, claimed + 1);
        check_tidy(f, number);
    }
}

static void death_while_creating_can_be_made_good(void **state)
{
    const fixture *f = *state;
    for (unsigned step = 1; step <= SM_GENERATION_STEPS; step++) {
        assert_int_equal(die_in_child(f, true, step), 137);
        sm_error err = SM_ERROR_INIT;
        uint64_t number = 0;
        const sm_status st = make_next(f->file.path, true, &f->config, &number, &err);
        /* what was claimed is a file, and it stands there now */
        assert_int_equal(st, step < 3 ? SM_OK : SM_ERR_ARG);
        if (st != SM_OK)
            assert_non_null(strstr(err.message, "exists already"));
        assert_int_equal(read_content(f->file.path), 1);
        assert_int_equal(sm_tmpdir_count(f->shared.path), 2);
        assert_int_equal(next(f), 2);
        check_tidy(f, 2);
        empty_shared(f);
    }
}

static void two_deaths_in_a_row_do_no_harm(void **state)
{
    const fixture *f = *state;
    next(f);
    uint64_t number = 1;
    for (unsigned first = 1; first <= SM_GENERATION_STEPS; first++) {
        for (unsigned second = 1; second <= SM_GENERATION_STEPS; second++) {
            assert_int_equal(die_in_child(f, false, first), 137);
            assert_int_equal(die_in_child(f, false, second), 137);
            number += 1u + (first >= 3) + (second >= 3);
            assert_int_equal(next(f), number);
            check_tidy(f, number);
        }
    }
}

static void the_environment_can_ask_for_a_death(void **state)
{
    const fixture *f = *state;
    next(f);
    setenv("SLIDEMILL_TEST_DIE_AT", "4", 1);
    const int code = die_in_child(f, false, 0);
    unsetenv("SLIDEMILL_TEST_DIE_AT");
    assert_int_equal(code, 137);
    assert_int_equal(read_content(f->file.path), 1);
    assert_int_equal(next(f), 3);
}

static void kills_at_random_moments_do_no_harm(void **state)
{
    const fixture *f = *state;
    srand(20240613);
    next(f);
    int64_t last = 1;
    for (int round = 0; round < 40; round++) {
        const pid_t pid = fork();
        assert_true(pid >= 0);
        while (pid == 0) {
            sm_error err = SM_ERROR_INIT;
            uint64_t number = 0;
            if (make_next(f->file.path, false, &f->config, &number, &err) != SM_OK) {
                print_error("%s\n", err.message);
                _exit(1);
            }
        }
        usleep((useconds_t)(rand() % 60000));
        kill(pid, SIGKILL);
        int status = 0;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status)); /* it did not fail before */
        const int64_t seen = read_content(f->file.path);
        if (seen < last)
            fail_msg("round %d: %" PRId64 " after %" PRId64, round, seen, last);
        last = seen;
    }
    const uint64_t number = next(f);
    assert_true(number > (uint64_t)last);
    for (unsigned n = 0; n < SM_GENERATIONS_KEPT; n++)
        next(f);
    check_tidy(f, number + SM_GENERATIONS_KEPT);
}

/* ---- storage says no ---- */

static void a_failed_write_leaves_the_old_one(void **state)
{
    const fixture *f = *state;
    next(f);
    sm_error err = SM_ERROR_INIT;
    sm_generation *gen = NULL;
    struct rlimit before, small;
    signal(SIGXFSZ, SIG_IGN);
    SM_CHECK_OK(sm_generation_begin(f->file.path, false, &f->config, &gen, &err), &err);
    assert_int_equal(write_content(sm_generation_copy(gen), 3), 0); /* five megabytes */
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = before;
    small.rlim_cur = 100000;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    const sm_status st = sm_generation_commit(&gen, &err);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_int_equal(st, SM_ERR_IO);
    assert_non_null(gen);
    assert_int_equal(read_content(f->file.path), 1);
    SM_CHECK_OK(sm_generation_commit(&gen, &err), &err); /* with room it can be tried again */
    assert_int_equal(read_content(f->file.path), 3);
    /* the copy itself does not fit */
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    const sm_status begun = sm_generation_begin(f->file.path, false, &f->config, &gen, &err);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_int_equal(begun, SM_ERR_IO);
    assert_non_null(strstr(err.message, "TMPDIR"));
    assert_null(gen);
    assert_int_equal(sm_tmpdir_count(f->scratch.path), 0);
}

static void a_signal_ends_it_with_nothing_published(void **state)
{
    const fixture *f = *state;
    next(f);
    for (int when = 0; when < 2; when++) {
        const pid_t pid = fork(); /* the flag cannot be taken back */
        assert_true(pid >= 0);
        if (pid == 0) {
            sm_error err = SM_ERROR_INIT;
            sm_generation *gen = NULL;
            sm_stop_install();
            if (when == 0)
                raise(SIGTERM);
            sm_status st = sm_generation_begin(f->file.path, false, &f->config, &gen, &err);
            if (when == 1 && st == SM_OK) {
                raise(SIGTERM);
                st = sm_generation_commit(&gen, &err);
            }
            sm_generation_discard(&gen);
            _exit(st == SM_ERR_INTERRUPTED ? 0 : 1);
        }
        int status = -1;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
        check_tidy(f, 1);
    }
}

static void every_failed_allocation_leaves_a_whole_file(void **state)
{
    const fixture *f = *state;
    setenv("SLIDEMILL_IO", "threads", 1);
    next(f);
    sm_status st = SM_ERR_NOMEM;
    long n = 0;
    uint64_t number = 0;
    for (; st != SM_OK; n++) {
        sm_error err = SM_ERROR_INIT;
        sm_alloc_fail_after(n);
        st = make_next(f->file.path, false, &f->config, &number, &err);
        sm_alloc_fail_after(-1);
        assert_true(st == SM_OK || st == SM_ERR_NOMEM);
        assert_true(read_content(f->file.path) >= 1);
        assert_int_equal(sm_tmpdir_count(f->shared.path), 2);
        assert_int_equal(sm_tmpdir_count(f->scratch.path), 0);
    }
    unsetenv("SLIDEMILL_IO");
    assert_true(n > 20);
    assert_int_equal(read_content(f->file.path), number);
}

/* 100 + status, or its status when the message is the wanted one */
static const char *wanted_message = "";

static int make_one(void *arg)
{
    const fixture *f = arg;
    sm_error err = SM_ERROR_INIT;
    uint64_t number = 0;
    setenv("SLIDEMILL_IO", "threads", 1);
    const sm_status st = make_next(f->file.path, false, &f->config, &number, &err);
    if (st != SM_OK && strstr(err.message, wanted_message) == NULL) {
        print_error("%s\n", err.message);
        return 70;
    }
    return (int)st;
}

static void refused_calls_are_named_or_tried_again(void **state)
{
    const fixture *f = *state;
    static const struct {
        const char *name, *message;
        sm_refusal refusal;
        sm_status want;
    } cases[] = {
        {"stale names",
         "",
         {.call = SYS_newfstatat, .arg = SM_REFUSE_ANY, .errnum = ESTALE, .times = 3},
         SM_OK},
        {"no hard links",
         "gives no hard links",
         {.call = SYS_linkat,
          .arg = SM_REFUSE_ANY,
          .errnum = EOPNOTSUPP,
          .times = SM_REFUSE_ALWAYS},
         SM_ERR_IO},
        {"a claim that fails",
         "cannot link it",
         {.call = SYS_linkat, .arg = SM_REFUSE_ANY, .errnum = ENOTCONN, .times = 1},
         SM_ERR_IO},
        {"a rename that fails",
         "was claimed, but",
         {.call = SYS_renameat,
          .arg = SM_REFUSE_ANY,
          .errnum = ENOTCONN,
          .skip = 2,
          .times = SM_REFUSE_ALWAYS},
         SM_ERR_IO},
    };
    next(f);
    for (size_t i = 0; i < SM_COUNT(cases); i++) {
        wanted_message = cases[i].message;
        const int64_t before = read_content(f->file.path);
        const int rc = sm_refuse(&cases[i].refusal, make_one, *state);
        if (rc == 77)
            skip();
        if (rc != (int)cases[i].want)
            fail_msg("%s: %d", cases[i].name, rc);
        assert_int_equal(read_content(f->file.path), before + (rc == 0));
        check_tidy(f, next(f));
    }
}

#define GENERATION_TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        GENERATION_TEST(death_at_any_step_leaves_the_old_or_the_new),
        GENERATION_TEST(death_while_creating_can_be_made_good),
        GENERATION_TEST(two_deaths_in_a_row_do_no_harm),
        GENERATION_TEST(the_environment_can_ask_for_a_death),
        GENERATION_TEST(kills_at_random_moments_do_no_harm),
        GENERATION_TEST(a_failed_write_leaves_the_old_one),
        GENERATION_TEST(a_signal_ends_it_with_nothing_published),
        GENERATION_TEST(every_failed_allocation_leaves_a_whole_file),
        GENERATION_TEST(refused_calls_are_named_or_tried_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
