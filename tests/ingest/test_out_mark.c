/* Tests of ingest/out_mark.c: an empty folder of the same path is not the folder of the outputs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ingest/out_mark.h"
#include "tests/support/check.h"
#include "tests/support/tmpdir.h"

enum { N_AT_ONCE = 16 };

typedef struct world {
    sm_tmpdir dir;
    sm_tmppath catalog, folder, record, out; /* folder: CATALOG.d */
} world;

static int set_up(void **state)
{
    static world w;
    w.dir = sm_tmpdir_make();
    w.catalog = sm_tmpdir_file(&w.dir, "c.smc");
    w.folder = sm_tmpdir_file(&w.dir, "c.smc.d");
    w.record = sm_tmpdir_file(&w.dir, "c.smc.d/out-mark");
    w.out = sm_tmpdir_file(&w.dir, "out");
    *state = &w;
    return mkdir(w.folder.path, 0777) == 0 && mkdir(w.out.path, 0777) == 0 ? 0 : -1;
}

static int tear_down(void **state)
{
    world *w = *state;
    sm_tmpdir_remove(&w->dir);
    return 0;
}

static void the_first_makes_it_and_the_others_find_it(void **state)
{
    const world *w = *state;
    char mark[SM_OUT_MARK_CAP] = "x", again[SM_OUT_MARK_CAP];
    sm_error err = SM_ERROR_INIT;
    SM_CHECK_OK(sm_out_mark_read(w->catalog.path, mark, &err), &err);
    assert_string_equal(mark, "");
    SM_CHECK_OK(sm_out_mark_find(w->catalog.path, w->out.path, mark, &err), &err);
    assert_string_equal(mark, "");
    SM_CHECK_OK(sm_out_mark_make(w->catalog.path, w->out.path, mark, &err), &err);
    assert_true(sm_out_mark_is_name(mark));
    SM_CHECK_OK(sm_out_mark_make(w->catalog.path, w->out.path, again, &err), &err);
    assert_string_equal(again, mark);
    SM_CHECK_OK(sm_out_mark_find(w->catalog.path, w->out.path, again, &err), &err);
    assert_string_equal(again, mark);
    SM_CHECK_OK(sm_out_mark_read(w->catalog.path, again, &err), &err);
    assert_string_equal(again, mark);
}

static void an_empty_folder_is_another(void **state)
{
    const world *w = *state;
    char mark[SM_OUT_MARK_CAP];
    const sm_tmppath other = sm_tmpdir_file(&w->dir, "other"), none = sm_tmpdir_file(&w->dir, "no");
    sm_error err = SM_ERROR_INIT;
    SM_CHECK_OK(sm_out_mark_make(w->catalog.path, w->out.path, mark, &err), &err);
    assert_int_equal(mkdir(other.path, 0777), 0);
    SM_CHECK_FAILS(sm_out_mark_make(w->catalog.path, other.path, mark, &err), &err, SM_ERR_IO,
                   "is it mounted here");
    assert_string_equal(mark, "");
    SM_CHECK_FAILS(sm_out_mark_find(w->catalog.path, other.path, mark, &err), &err, SM_ERR_IO,
                   "out-mark");
    assert_int_equal(rmdir(other.path), 0); /* nothing was put there */
    SM_CHECK_FAILS(sm_out_mark_find(w->catalog.path, none.path, mark, &err), &err, SM_ERR_IO,
                   none.path);
}

static void a_file_is_no_mark(void **state)
{
    const world *w = *state;
    char mark[SM_OUT_MARK_CAP], path[2 * PATH_MAX];
    sm_error err = SM_ERROR_INIT;
    SM_CHECK_OK(sm_out_mark_make(w->catalog.path, w->out.path, mark, &err), &err);
    (void)snprintf(path, sizeof path, "%s/%s", w->out.path, mark);
    assert_int_equal(rmdir(path), 0);
    sm_file_write(path, "", 0);
    SM_CHECK_FAILS(sm_out_mark_find(w->catalog.path, w->out.path, mark, &err), &err, SM_ERR_IO,
                   "is it mounted here");
}

static void a_record_that_is_not_ours_is_refused(void **state)
{
    const world *w = *state;
    static const char *const TEXTS[] = {"\n",
                                        "x\nhost\n",
                                        "../../etc\nhost\n",
                                        ".slidemill-out-0123456789abcdef\nhost\n",
                                        ".slidemill-out-0123456789abcdef0123456789abcdeg\nhost\n",
                                        ".slidemill-out-0123456789abcdef0123456789abcdef"};
    for (size_t i = 0; i < SM_COUNT(TEXTS); i++) {
        char mark[SM_OUT_MARK_CAP];
        sm_error err = SM_ERROR_INIT;
        sm_file_write(w->record.path, TEXTS[i], strlen(TEXTS[i]));
        SM_CHECK_FAILS(sm_out_mark_make(w->catalog.path, w->out.path, mark, &err), &err,
                       SM_ERR_CORRUPT, "not the name of a mark");
    }
}

static void of_many_at_once_one_makes_it(void **state)
{
    const world *w = *state;
    char mark[SM_OUT_MARK_CAP];
    sm_error err = SM_ERROR_INIT;
    pid_t pids[N_AT_ONCE];
    for (int i = 0; i < N_AT_ONCE; i++) {
        pids[i] = fork();
        assert_true(pids[i] >= 0);
        if (pids[i] == 0)
            _exit(sm_out_mark_make(w->catalog.path, w->out.path, mark, &err) != SM_OK);
    }
    for (int i = 0; i < N_AT_ONCE; i++) {
        int status = -1;
        assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
        assert_int_equal(status, 0);
    }
    SM_CHECK_OK(sm_out_mark_find(w->catalog.path, w->out.path, mark, &err), &err);
    assert_int_equal(sm_tmpdir_count(w->out.path), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_first_makes_it_and_the_others_find_it, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(an_empty_folder_is_another, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_file_is_no_mark, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_record_that_is_not_ours_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(of_many_at_once_one_makes_it, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
