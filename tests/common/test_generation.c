/* Tests of common/generation.c: numbers, readers, rivals and odd states.
 * With arguments it is a writer or reader for tests/cluster (see tool_main). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/generation.h"
#include "common/sysinfo.h"
#include "tests/support/check.h"
#include "tests/support/generations.h"

/* ---- the ordinary way ---- */

static void generations_follow_each_other_and_the_last_few_stay(void **state)
{
    const fixture *f = *state;
    for (uint64_t n = 1; n <= 2 * SM_GENERATIONS_KEPT + 1; n++) {
        assert_int_equal(next(f), n);
        check_tidy(f, n);
    }
    assert_int_equal(access(link_of(f, 4).path, F_OK), -1);
}

static void a_copy_begins_as_the_current_generation(void **state)
{
    const fixture *f = *state;
    sm_error err = SM_ERROR_INIT;
    sm_generation *gen = NULL;
    struct stat info;
    SM_CHECK_OK(sm_generation_begin(f->file.path, true, &f->config, &gen, &err), &err);
    assert_int_equal(stat(sm_generation_copy(gen), &info), 0);
    assert_int_equal(info.st_size, 0);
    assert_int_equal(info.st_mode & 077, 0); /* others cannot look into it */
    assert_int_equal(sm_generation_number(gen), 1);
    assert_int_equal(access(f->file.path, F_OK), -1);
    sm_generation_discard(&gen);
    assert_null(gen);
    sm_generation_discard(&gen);
    assert_int_equal(access(f->file.path, F_OK), -1);
    assert_int_equal(sm_tmpdir_count(f->scratch.path), 0);
    for (uint64_t n = 1; n <= 3; n++)
        next(f);
    SM_CHECK_OK(sm_generation_begin(f->file.path, false, &f->config, &gen, &err), &err);
    assert_int_equal(read_content(sm_generation_copy(gen)), 3);
    assert_int_equal(sm_generation_number(gen), 4);
    assert_int_equal(write_content(sm_generation_copy(gen), 4), 0);
    sm_generation_discard(&gen);
    check_tidy(f, 3);
}

static void the_digest_beside_it_is_right(void **state)
{
    const fixture *f = *state;
    next(f);
    char command[PATH_MAX];
    snprintf(command, sizeof(command), "cd '%s' && sha256sum --strict --quiet -c gen-*.sha256",
             f->side.path);
    assert_int_equal(system(command), 0);
}

static void the_mode_of_the_file_is_kept(void **state)
{
    const fixture *f = *state;
    struct stat info;
    next(f);
    assert_int_equal(chmod(f->file.path, 0640), 0);
    next(f);
    assert_int_equal(stat(f->file.path, &info), 0);
    assert_int_equal(info.st_mode & 07777, 0640);
}

static void a_bare_name_works_in_its_folder(void **state)
{
    const fixture *f = *state;
    char before[PATH_MAX];
    uint64_t number = 0;
    sm_error err = SM_ERROR_INIT;
    assert_non_null(getcwd(before, sizeof(before)));
    assert_int_equal(chdir(f->shared.path), 0);
    const sm_status first = make_next("c.smc", true, &f->config, &number, &err);
    const sm_status second = make_next("./c.smc", false, &f->config, &number, &err);
    assert_int_equal(chdir(before), 0);
    SM_CHECK_OK(first, &err);
    SM_CHECK_OK(second, &err);
    check_tidy(f, 2);
}

static void places_that_cannot_be_are_refused(void **state)
{
    const fixture *f = *state;
    next(f);
    assert_int_equal(symlink("c.smc", sm_tmpdir_file(&f->dir, "shared/link").path), 0);
    assert_int_equal(mkdir(sm_tmpdir_file(&f->dir, "shared/folder").path, 0755), 0);
    static const struct {
        const char *name, *message;
        bool fresh;
    } cases[] = {
        {"shared/c.smc", "exists already", true},
        {"shared/none", "there is no such file", false},
        {"shared/link", "symbolic link", false},
        {"shared/link", "symbolic link", true},
        {"shared/folder", "folder", false},
        {"shared/folder/", "names a folder", true},
        {"shared/..", "names a folder", true},
        {"none/c.smc", "No such file", true},
        {"shared/c.smc/x", "Not a directory", true},
    };
    for (size_t i = 0; i < SM_COUNT(cases); i++) {
        sm_error err = SM_ERROR_INIT;
        sm_generation *gen = NULL;
        const sm_tmppath path = sm_tmpdir_file(&f->dir, cases[i].name);
        SM_CHECK_FAILS(sm_generation_begin(path.path, cases[i].fresh, &f->config, &gen, &err), &err,
                       SM_ERR_ARG, cases[i].message);
        assert_null(gen);
    }
    assert_int_equal(sm_tmpdir_count(f->shared.path), 4); /* no folder was made for any of them */
    const sm_generation_config nowhere = {.what = "x", .scratch = "/none/such"};
    sm_error err = SM_ERROR_INIT;
    sm_generation *gen = NULL;
    SM_CHECK_FAILS(sm_generation_begin(f->file.path, false, &nowhere, &gen, &err), &err, SM_ERR_ARG,
                   "/none/such");
}

static void strange_names_beside_are_no_generations(void **state)
{
    const fixture *f = *state;
    static const char *const NAMES[] = {"gen-",
                                        "gen-7",
                                        "gen-00000000009",
                                        "gen-0000000000",
                                        "gen-000000000x",
                                        "gen--000000009",
                                        "gen-0000000009.tmp",
                                        "gen-99999999999999999999999",
                                        "gen-18446744073709551615",
                                        "xgen-0000000009"};
    next(f);
    for (size_t i = 0; i < SM_COUNT(NAMES); i++)
        sm_file_write(in_side(f, NAMES[i]).path, "x", 1);
    uint64_t newest = 0;
    sm_error err = SM_ERROR_INIT;
    SM_CHECK_OK(sm_generation_newest(f->file.path, &newest, &err), &err);
    assert_int_equal(newest, 1);
    assert_int_equal(next(f), 2);
    for (size_t i = 0; i < SM_COUNT(NAMES); i++) /* nor are they removed as old ones */
        assert_int_equal(unlink(in_side(f, NAMES[i]).path), 0);
    check_tidy(f, 2);
}

static void readers_find_kept_generations(void **state)
{
    const fixture *f = *state;
    sm_error err = SM_ERROR_INIT;
    uint64_t newest = 77;
    char path[PATH_MAX];
    SM_CHECK_OK(sm_generation_newest(f->file.path, &newest, &err), &err);
    assert_int_equal(newest, 0); /* none yet, and no folder */
    for (uint64_t n = 1; n <= 5; n++)
        next(f);
    SM_CHECK_OK(sm_generation_path(f->file.path, 4, path, sizeof(path), &err), &err);
    assert_int_equal(read_content(path), 4);
    SM_CHECK_FAILS(sm_generation_path(f->file.path, 4, path, 10, &err), &err, SM_ERR_ARG, "longer");
}

static void readers_try_again_where_there_are_generations(void **state)
{
    const fixture *f = *state;
    unsigned tries = 0;
    assert_false(sm_generation_try_again(f->file.path, ENOENT, &tries)); /* never was one */
    assert_int_equal(tries, 0);
    assert_int_equal(errno, ENOENT);
    assert_true(sm_generation_try_again(f->file.path, ESTALE, &tries));
    next(f);
    assert_true(sm_generation_try_again(f->file.path, ENOENT, &tries));
    assert_int_equal(errno, ENOENT);
    assert_false(sm_generation_try_again(f->file.path, EACCES, &tries));
    assert_int_equal(tries, 2);
    tries = 15;
    assert_false(sm_generation_try_again(f->file.path, ENOENT, &tries)); /* not for ever */
}

static void an_older_link_in_its_place_is_taken_for_a_death(void **state)
{
    const fixture *f = *state;
    for (uint64_t n = 1; n <= 4; n++)
        next(f);
    for (uint64_t n = 2; n <= 3; n++) {
        assert_int_equal(unlink(f->file.path), 0);
        assert_int_equal(link(link_of(f, n).path, f->file.path), 0);
        sm_error err = SM_ERROR_INIT;
        sm_generation *gen = NULL;
        SM_CHECK_OK(sm_generation_begin(f->file.path, false, &f->config, &gen, &err), &err);
        assert_int_equal(read_content(sm_generation_copy(gen)), 4);
        sm_generation_discard(&gen);
        check_tidy(f, 4);
    }
}

/* ---- rivals ---- */

static void a_second_writer_is_told_of_the_first(void **state)
{
    const fixture *f = *state;
    sm_error err = SM_ERROR_INIT;
    sm_generation *first = NULL, *second = NULL;
    next(f);
    SM_CHECK_OK(sm_generation_begin(f->file.path, false, &f->config, &first, &err), &err);
    SM_CHECK_FAILS(sm_generation_begin(f->file.path, false, &f->config, &second, &err), &err,
                   SM_ERR_BUSY, "(the test, since");
    assert_null(second);
    assert_int_equal(write_content(sm_generation_copy(first), 2), 0);
    SM_CHECK_OK(sm_generation_commit(&first, &err), &err);
    assert_null(first);
    check_tidy(f, 2);
}

static void of_two_that_hold_the_lock_one_wins(void **state)
{
    const fixture *f = *state;
    sm_error err = SM_ERROR_INIT;
    sm_generation *first = NULL, *second = NULL;
    next(f);
    SM_CHECK_OK(sm_generation_begin(f->file.path, false, &f->config, &first, &err), &err);
    assert_int_equal(unlink(in_side(f, "lock").path), 0); /* as a brick's restart may lose it */
    SM_CHECK_OK(sm_generation_begin(f->file.path, false, &f->config, &second, &err), &err);
    assert_int_equal(write_content(sm_generation_copy(first), 2), 0);
    assert_int_equal(write_content(sm_generation_copy(second), 2), 0);
    SM_CHECK_FAILS(sm_generation_commit(&first, &err), &err, SM_ERR_BUSY, "held by");
    assert_non_null(first);
    SM_CHECK_OK(sm_generation_commit(&second, &err), &err);
    /* and now that the lock is free again, the number is not */
    SM_CHECK_FAILS(sm_generation_commit(&first, &err), &err, SM_ERR_BUSY,
                   "generation 2 was published by another");
    sm_generation_discard(&first);
    check_tidy(f, 2);
}

static void of_many_writers_each_makes_its_own_number(void **state)
{
    const fixture *f = *state;
    enum { CHILDREN = 4, ROUNDS = 5 };
    sm_generation_config patient = f->config;
    patient.wait_s = 100;
    next(f);
    pid_t pids[CHILDREN];
    for (int i = 0; i < CHILDREN; i++) {
        pids[i] = fork();
        assert_true(pids[i] >= 0);
        for (int round = 0; pids[i] == 0; round++) {
            sm_error err = SM_ERROR_INIT;
            uint64_t number = 0;
            if (round == ROUNDS)
                _exit(0);
            if (make_next(f->file.path, false, &patient, &number, &err) != SM_OK) {
                print_error("%s\n", err.message);
                _exit(1);
            }
        }
    }
    for (int i = 0; i < CHILDREN; i++) {
        int status = -1;
        assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
        assert_int_equal(status, 0);
    }
    check_tidy(f, 1 + CHILDREN * ROUNDS);
}

static void of_two_that_create_at_once_one_wins(void **state)
{
    const fixture *f = *state;
    for (int round = 0; round < 10; round++) {
        pid_t pids[2];
        int won = 0, lost = 0;
        for (int i = 0; i < 2; i++) {
            pids[i] = fork();
            assert_true(pids[i] >= 0);
            if (pids[i] == 0) {
                sm_error err = SM_ERROR_INIT;
                uint64_t number = 0;
                _exit((int)make_next(f->file.path, true, &f->config, &number, &err));
            }
        }
        for (int i = 0; i < 2; i++) {
            int status = -1;
            assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
            assert_true(WIFEXITED(status));
            won += WEXITSTATUS(status) == SM_OK;
            lost += WEXITSTATUS(status) == SM_ERR_BUSY || WEXITSTATUS(status) == SM_ERR_ARG;
        }
        assert_int_equal(won, 1);
        assert_int_equal(lost, 1);
        check_tidy(f, 1);
        empty_shared(f);
    }
}

static void a_reader_sees_whole_generations_only(void **state)
{
    const fixture *f = *state;
    next(f);
    const pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        sm_error err = SM_ERROR_INIT;
        uint64_t number = 0;
        for (int n = 0; n < 50; n++)
            if (make_next(f->file.path, false, &f->config, &number, &err) != SM_OK)
                _exit(1);
        _exit(0);
    }
    int status = -1;
    int64_t last = 1, reads = 0;
    while (waitpid(pid, &status, WNOHANG) == 0) {
        const int64_t number = read_content(f->file.path);
        if (number < last)
            fail_msg("after %" PRId64 " reads: %" PRId64 " after %" PRId64, reads, number, last);
        last = number;
        reads++;
    }
    assert_int_equal(status, 0);
    assert_true(reads > 10);
    check_tidy(f, 51);
}

/* ---- damage and odd states ---- */

static void damage_is_found_before_it_is_built_upon(void **state)
{
    const fixture *f = *state;
    sm_error err = SM_ERROR_INIT;
    sm_generation *gen = NULL;
    for (uint64_t n = 1; n <= 3; n++)
        next(f);
    sm_file_flip(f->file.path, 100);
    SM_CHECK_FAILS(sm_generation_begin(f->file.path, false, &f->config, &gen, &err), &err,
                   SM_ERR_CORRUPT, "generation 3 is not what was published");
    assert_null(gen);
    assert_int_equal(sm_tmpdir_count(f->scratch.path), 0);
    /* as the message says */
    char command[PATH_MAX * 2];
    snprintf(command, sizeof(command), "cp --remove-destination '%s' '%s'", link_of(f, 2).path,
             f->file.path);
    assert_int_equal(system(command), 0);
    assert_int_equal(read_content(f->file.path), 2);
    SM_CHECK_OK(sm_generation_begin(f->file.path, false, &f->config, &gen, &err), &err);
    assert_int_equal(read_content(sm_generation_copy(gen)), 2);
    assert_int_equal(sm_generation_number(gen), 4);
    sm_generation_discard(&gen);
    assert_int_equal(next(f), 4);
    assert_int_equal(next(f), 5);
    assert_int_equal(next(f), 6);
    check_tidy(f, 6);
}

static void a_lost_digest_is_made_again(void **state)
{
    const fixture *f = *state;
    static const char *const DAMAGES[] = {NULL, "", "zz", "short  gen-0000000002\n"};
    next(f);
    next(f);
    const sm_tmppath digest = in_side(f, "gen-0000000002.sha256");
    size_t want_len = 0;
    uint8_t *want = sm_file_read(digest.path, &want_len);
    for (size_t i = 0; i < SM_COUNT(DAMAGES); i++) {
        sm_error err = SM_ERROR_INIT;
        sm_generation *gen = NULL;
        assert_int_equal(unlink(digest.path), 0);
        if (DAMAGES[i] != NULL)
            sm_file_write(digest.path, DAMAGES[i], strlen(DAMAGES[i]));
        SM_CHECK_OK(sm_generation_begin(f->file.path, false, &f->config, &gen, &err), &err);
        sm_generation_discard(&gen);
        size_t len = 0;
        uint8_t *got = sm_file_read(digest.path, &len);
        assert_int_equal(len, want_len);
        assert_memory_equal(got, want, len);
        free(got);
    }
    free(want);
    check_tidy(f, 2);
}

static void a_file_without_its_folder_is_taken_as_it_is(void **state)
{
    const fixture *f = *state;
    sm_file_write(f->file.path, "", 0);
    assert_int_equal(write_content(f->file.path, 17), 0);
    sm_error err = SM_ERROR_INIT;
    sm_generation *gen = NULL;
    SM_CHECK_OK(sm_generation_begin(f->file.path, false, &f->config, &gen, &err), &err);
    assert_int_equal(read_content(sm_generation_copy(gen)), 17);
    assert_int_equal(sm_generation_number(gen), 1);
    sm_generation_discard(&gen);
    assert_int_equal(next(f), 1);
    check_tidy(f, 1);
}

static void a_removed_file_comes_back_from_its_folder(void **state)
{
    const fixture *f = *state;
    next(f);
    next(f);
    assert_int_equal(unlink(f->file.path), 0);
    sm_error err = SM_ERROR_INIT;
    sm_generation *gen = NULL;
    SM_CHECK_FAILS(sm_generation_begin(f->file.path, true, &f->config, &gen, &err), &err,
                   SM_ERR_ARG, "exists already (generation 2;");
    check_tidy(f, 2);
    assert_int_equal(unlink(f->file.path), 0);
    SM_CHECK_OK(sm_generation_begin(f->file.path, false, &f->config, &gen, &err), &err);
    sm_generation_discard(&gen);
    check_tidy(f, 2);
}

static void leftovers_of_a_dead_digest_are_removed(void **state)
{
    const fixture *f = *state;
    next(f);
    sm_file_write(in_side(f, ".gen-0000000002.sha256.new").path, "x", 1);
    sm_file_write(in_side(f, "gen-0000000002.sha256").path, "x", 1);
    sm_file_write(sm_tmpdir_file(&f->dir, "shared/.c.smc.abcdef").path, "x", 1);
    sm_file_write(sm_tmpdir_file(&f->dir, "shared/.c.smc.adopts").path, "x", 1);
    sm_error err = SM_ERROR_INIT;
    sm_generation *gen = NULL;
    SM_CHECK_OK(sm_generation_begin(f->file.path, false, &f->config, &gen, &err), &err);
    sm_generation_discard(&gen);
    check_tidy(f, 1);
}

/* ---- as a tool, for mounts that a unit test has not ---- */

static int tool_failed(const sm_error *err)
{
    fprintf(stderr, "%s\n", err->message);
    return sm_exit_code(err->status);
}

/* write PATH COUNT: so many generations, waiting for the lock; prints the last number */
static int tool_write(const char *path, unsigned long count)
{
    sm_error err = SM_ERROR_INIT;
    const sm_generation_config config = {.what = "tool write", .wait_s = 120};
    uint64_t number = 0;
    for (unsigned long n = 0; n < count; n++)
        if (make_next(path, false, &config, &number, &err) != SM_OK)
            return tool_failed(&err);
    printf("%" PRIu64 "\n", number);
    return 0;
}

/* begin PATH: what a writer finds; with hold, keeps the lock until it is killed */
static int tool_begin(const char *path, bool hold)
{
    sm_error err = SM_ERROR_INIT;
    sm_generation *gen = NULL;
    const sm_generation_config config = {.what = hold ? "tool hold" : "tool begin"};
    if (sm_generation_begin(path, false, &config, &gen, &err) != SM_OK)
        return tool_failed(&err);
    printf("next %" PRIu64 " copy %" PRId64 "\n", sm_generation_number(gen),
           read_content(sm_generation_copy(gen)));
    fflush(stdout);
    while (hold)
        pause();
    sm_generation_discard(&gen);
    return 0;
}

/* slow PATH: begins, says so, waits for a line (or the end) of standard input, commits */
static int tool_slow(const char *path)
{
    sm_error err = SM_ERROR_INIT;
    sm_generation *gen = NULL;
    const sm_generation_config config = {.what = "tool slow", .wait_s = 30};
    sm_status st = sm_generation_begin(path, false, &config, &gen, &err);
    if (st == SM_OK) {
        const uint64_t number = sm_generation_number(gen);
        printf("next %" PRIu64 "\n", number);
        fflush(stdout);
        (void)getchar();
        if (write_content(sm_generation_copy(gen), number) != 0)
            return 70;
        st = sm_generation_commit(&gen, &err);
    }
    sm_generation_discard(&gen);
    return st == SM_OK ? 0 : tool_failed(&err);
}

/* read PATH SECONDS: opens it again and again; 1 if it is ever not whole or goes back */
static int tool_read(const char *path, unsigned long seconds)
{
    const uint64_t end = sm_now_ns() + seconds * UINT64_C(1000000000);
    int64_t first = 0, last = 0;
    unsigned long reads = 0, stale = 0;
    for (unsigned tries = 0; sm_now_ns() < end;) {
        const int64_t number = read_content(path);
        if (number < 0 && sm_generation_try_again(path, errno, &tries)) {
            stale++;
            continue;
        }
        if (number <= 0 || number < last) {
            fprintf(stderr, "%s: read %lu: %" PRId64 " after %" PRId64 ": %s\n", path, reads,
                    number, last, number < 0 ? strerror(errno) : "not whole, or went back");
            return 1;
        }
        tries = 0;
        first = first == 0 ? number : first;
        last = number;
        reads++;
    }
    printf("reads %lu first %" PRId64 " last %" PRId64 " stale %lu\n", reads, first, last, stale);
    return 0;
}

static int tool_main(char **argv)
{
    const unsigned long n = argv[2] != NULL && argv[3] != NULL ? strtoul(argv[3], NULL, 10) : 1;
    sm_error err = SM_ERROR_INIT;
    uint64_t number = 0;
    const sm_generation_config config = {.what = "tool create"};
    if (argv[2] == NULL)
        return 2;
    if (strcmp(argv[1], "create") == 0)
        return make_next(argv[2], true, &config, &number, &err) == SM_OK ? 0 : tool_failed(&err);
    if (strcmp(argv[1], "write") == 0)
        return tool_write(argv[2], n);
    if (strcmp(argv[1], "slow") == 0)
        return tool_slow(argv[2]);
    if (strcmp(argv[1], "read") == 0)
        return tool_read(argv[2], n);
    if (strcmp(argv[1], "begin") == 0 || strcmp(argv[1], "hold") == 0)
        return tool_begin(argv[2], argv[1][0] == 'h');
    return 2;
}

#define GENERATION_TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(int argc, char **argv)
{
    if (argc > 1)
        return tool_main(argv);
    const struct CMUnitTest tests[] = {
        GENERATION_TEST(generations_follow_each_other_and_the_last_few_stay),
        GENERATION_TEST(a_copy_begins_as_the_current_generation),
        GENERATION_TEST(the_digest_beside_it_is_right),
        GENERATION_TEST(the_mode_of_the_file_is_kept),
        GENERATION_TEST(a_bare_name_works_in_its_folder),
        GENERATION_TEST(places_that_cannot_be_are_refused),
        GENERATION_TEST(strange_names_beside_are_no_generations),
        GENERATION_TEST(readers_find_kept_generations),
        GENERATION_TEST(readers_try_again_where_there_are_generations),
        GENERATION_TEST(an_older_link_in_its_place_is_taken_for_a_death),
        GENERATION_TEST(a_second_writer_is_told_of_the_first),
        GENERATION_TEST(of_two_that_hold_the_lock_one_wins),
        GENERATION_TEST(of_many_writers_each_makes_its_own_number),
        GENERATION_TEST(of_two_that_create_at_once_one_wins),
        GENERATION_TEST(a_reader_sees_whole_generations_only),
        GENERATION_TEST(damage_is_found_before_it_is_built_upon),
        GENERATION_TEST(a_lost_digest_is_made_again),
        GENERATION_TEST(a_file_without_its_folder_is_taken_as_it_is),
        GENERATION_TEST(a_removed_file_comes_back_from_its_folder),
        GENERATION_TEST(leftovers_of_a_dead_digest_are_removed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
