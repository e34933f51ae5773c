/* Tests of common/path.c: hostile paths stay beneath the root, with openat2 and without. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/path.h"
#include "tests/support/check.h"
#include "tests/support/refuse.h"
#include "tests/support/tmpdir.h"

/* outer/root is the root; outer/secret must not be reached from it. */
typedef struct fixture {
    sm_tmpdir dir;
    sm_tmppath root;
    int fd;
    sm_buf text;
} fixture;

static void in_root(const fixture *f, char path[PATH_MAX], const char *name)
{
    snprintf(path, PATH_MAX, "%s/%s", f->root.path, name);
}

static void put(const fixture *f, const char *name)
{
    char path[PATH_MAX];
    in_root(f, path, name);
    sm_file_write(path, "bytes", 5);
}

static void put_link(const fixture *f, const char *target, const char *name)
{
    char path[PATH_MAX];
    in_root(f, path, name);
    assert_int_equal(symlink(target, path), 0);
}

static void put_folder(const fixture *f, const char *name)
{
    char path[PATH_MAX];
    in_root(f, path, name);
    assert_int_equal(mkdir(path, 0755), 0);
}

static int set_up(void **state)
{
    fixture *f = calloc(1, sizeof(*f));
    if (f == NULL)
        return -1;
    f->dir = sm_tmpdir_make();
    f->root = sm_tmpdir_file(&f->dir, "root");
    assert_int_equal(mkdir(f->root.path, 0755), 0);
    sm_file_write(sm_tmpdir_file(&f->dir, "secret").path, "secret", 6);
    assert_int_equal(mkdir(sm_tmpdir_file(&f->dir, "outside").path, 0755), 0);
    sm_error err = SM_ERROR_INIT;
    SM_CHECK_OK(sm_path_open_root(f->root.path, &f->fd, &err), &err);
    put_folder(f, "a");
    put_folder(f, "a/b");
    put(f, "a/b/slide.svs");
    put(f, "top.svs");
    put_link(f, "b/slide.svs", "a/inside");
    put_link(f, "../a/b", "a/folder");
    put_link(f, "../secret", "out");
    put_link(f, "../../secret", "a/out");
    put_link(f, "/etc/hostname", "absolute");
    put_link(f, "../outside", "outdir");
    put_link(f, "loop", "loop");
    put_link(f, "/proc/self/root", "magic");
    put_link(f, "nowhere", "dangling");
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    fixture *f = *state;
    sm_alloc_fail_after(-1);
    close(f->fd);
    sm_buf_free(&f->text);
    sm_tmpdir_remove(&f->dir);
    free(f);
    return 0;
}

/* ---- text ---- */

/* n times c, then tail */
static char *repeat(char c, size_t n, const char *tail)
{
    char *text = malloc(n + strlen(tail) + 1);
    assert_non_null(text);
    memset(text, c, n);
    memcpy(text + n, tail, strlen(tail) + 1);
    return text;
}

static void only_clean_relative_paths_pass(void **state)
{
    fixture *f = *state;
    static const struct {
        const char *path, *cleaned; /* NULL: refused by both */
        const char *message;        /* of sm_path_check; NULL: passes as it is */
    } cases[] = {
        {"a", "a", NULL},
        {"a/b.svs", "a/b.svs", NULL},
        {"a b/\n\t/\xff\xfe", "a b/\n\t/\xff\xfe", NULL},
        {"...", "...", NULL},
        {"..a/.b/c..", "..a/.b/c..", NULL},
        {".hidden", ".hidden", NULL},
        {"a\\b", "a\\b", NULL},
        {"", NULL, "empty path"},
        {"/", NULL, "absolute"},
        {"/a", NULL, "absolute"},
        {"//a", NULL, "absolute"},
        {"..", NULL, "component '..'"},
        {"../a", NULL, "component '..'"},
        {"a/..", NULL, "component '..'"},
        {"a/../b", NULL, "component '..'"},
        {".", NULL, "component '.'"},
        {"a/.", NULL, "component '.'"},
        {"./", NULL, "trailing"},
        {"a/", NULL, "trailing"},
        {"a//", NULL, "trailing"},
        {"./a", "a", "component '.'"},
        {"././a", "a", "component '.'"},
        {"a//b", "a/b", "empty component"},
        {"a///b", "a/b", "empty component"},
        {"a/./b", "a/b", "component '.'"},
        {".//a/.//./b", "a/b", "component '.'"},
        {"./..", NULL, "component"},
        {".//../a", NULL, "component '.'"},
    };
    for (size_t i = 0; i < SM_COUNT(cases); i++) {
        sm_error err = SM_ERROR_INIT;
        const sm_status checked = sm_path_check(cases[i].path, &err);
        if (checked != (cases[i].message == NULL ? SM_OK : SM_ERR_ARG) ||
            (cases[i].message != NULL && strstr(err.message, cases[i].message) == NULL))
            fail_msg("check '%s': %s: %s", cases[i].path, sm_status_name(checked), err.message);
        const sm_status cleaned = sm_path_clean(cases[i].path, &f->text, &err);
        if (cleaned != (cases[i].cleaned != NULL ? SM_OK : SM_ERR_ARG) ||
            (cleaned == SM_OK && (strcmp((char *)f->text.data, cases[i].cleaned) != 0 ||
                                  f->text.len != strlen(cases[i].cleaned) + 1)))
            fail_msg("clean '%s': %s: %s", cases[i].path, sm_status_name(cleaned), err.message);
    }
}

static void lengths_are_bounded(void **state)
{
    fixture *f = *state;
    static const struct {
        const char *name, *tail;
        size_t n;
        sm_status want, want_clean;
    } cases[] = {
        {"component of 255", "/x", 255, SM_OK, SM_OK},
        {"component of 256", "/x", 256, SM_ERR_ARG, SM_ERR_ARG},
        {"last component of 256", "", 256, SM_ERR_ARG, SM_ERR_ARG},
        {"slashes up to the cap", "x", SM_PATH_MAX, SM_ERR_ARG, SM_ERR_ARG},
        {"a gibibyte is not read to its end", "", 1 << 30, SM_ERR_ARG, SM_ERR_ARG},
    };
    for (size_t i = 0; i < SM_COUNT(cases); i++) {
        sm_error err = SM_ERROR_INIT;
        char *path = repeat('c', cases[i].n, cases[i].tail);
        if (sm_path_check(path, &err) != cases[i].want ||
            sm_path_clean(path, &f->text, &err) != cases[i].want_clean)
            fail_msg("%s: %s", cases[i].name, err.message);
        free(path);
    }
    /* a path of exactly SM_PATH_MAX: 15 components of 249 and the rest, then one more byte */
    sm_error err = SM_ERROR_INIT;
    char path[SM_PATH_MAX + 2];
    memset(path, 'p', sizeof(path));
    for (size_t at = 249; at < SM_PATH_MAX - 1; at += 250)
        path[at] = '/';
    path[SM_PATH_MAX] = '\0';
    SM_CHECK_OK(sm_path_check(path, &err), &err);
    path[SM_PATH_MAX] = 'p';
    path[SM_PATH_MAX + 1] = '\0';
    SM_CHECK_FAILS(sm_path_check(path, &err), &err, SM_ERR_ARG, "longer than 4000 bytes");
    /* ... and one that is only so long before it is cleaned */
    f->text.len = 0;
    SM_CHECK_OK(sm_buf_append(&f->text, "./", 2, &err), &err);
    SM_CHECK_OK(sm_buf_append(&f->text, path, SM_PATH_MAX, &err), &err);
    SM_CHECK_OK(sm_buf_append(&f->text, "", 1, &err), &err);
    sm_buf cleaned = {0};
    SM_CHECK_OK(sm_path_clean((char *)f->text.data, &cleaned, &err), &err);
    assert_int_equal(cleaned.len, SM_PATH_MAX + 1);
    sm_buf_free(&cleaned);
}

static void messages_hold_no_control_characters(void **state)
{
    (void)state;
    sm_error err = SM_ERROR_INIT;
    SM_CHECK_FAILS(sm_path_check("/\x1b[31m\nevil", &err), &err, SM_ERR_ARG, "'/?[31m?evil'");
}

static void join_puts_one_slash_between(void **state)
{
    fixture *f = *state;
    static const struct {
        const char *root, *path, *want;
    } cases[] = {
        {"/mnt/g", "a/b", "/mnt/g/a/b"},
        {"/mnt/g/", "a", "/mnt/g/a"},
        {"/", "a", "/a"},
        {".", "a", "./a"},
        {"", "a", "a"},
    };
    for (size_t i = 0; i < SM_COUNT(cases); i++) {
        sm_error err = SM_ERROR_INIT;
        SM_CHECK_OK(sm_path_join(cases[i].root, cases[i].path, &f->text, &err), &err);
        assert_string_equal((char *)f->text.data, cases[i].want);
    }
}

static void encoding_is_one_plain_line_and_reversible(void **state)
{
    fixture *f = *state;
    sm_error err = SM_ERROR_INIT;
    char all[256];
    for (int i = 1; i < 256; i++)
        all[i - 1] = (char)i;
    all[255] = '\0';
    sm_buf encoded = {0};
    SM_CHECK_OK(sm_path_encode(all, &encoded, &err), &err);
    for (size_t i = 0; i < encoded.len; i++)
        if (encoded.data[i] < 0x20 || encoded.data[i] > 0x7E || encoded.data[i] == '"' ||
            encoded.data[i] == '\\')
            fail_msg("byte %zu is 0x%02x", i, encoded.data[i]);
    SM_CHECK_OK(sm_buf_append(&encoded, "", 1, &err), &err);
    SM_CHECK_OK(sm_path_decode((char *)encoded.data, &f->text, &err), &err);
    assert_string_equal((char *)f->text.data, all);
    assert_int_equal(f->text.len, 256);
    encoded.len = 0;
    SM_CHECK_OK(sm_path_encode("a b%/\n\xc3\xa4", &encoded, &err), &err);
    assert_int_equal(encoded.len, strlen("a b%25/%0A%C3%A4"));
    assert_memory_equal(encoded.data, "a b%25/%0A%C3%A4", encoded.len);
    sm_buf_free(&encoded);
}

static void bad_escapes_are_refused(void **state)
{
    fixture *f = *state;
    static const struct {
        const char *text, *message;
        uint64_t offset;
    } cases[] = {
        {"%", "two hexadecimal", 0},   {"ab%", "two hexadecimal", 2},
        {"a%2", "two hexadecimal", 1}, {"%zz", "two hexadecimal", 0},
        {"%2g", "two hexadecimal", 0}, {"%25%", "two hexadecimal", 3},
        {"x%00y", "a NUL (%00)", 1},   {"% 1", "two hexadecimal", 0},
        {"%-1", "two hexadecimal", 0}, {"%0x41", "two hexadecimal", 0},
    };
    for (size_t i = 0; i < SM_COUNT(cases); i++) {
        sm_error err = SM_ERROR_INIT;
        SM_CHECK_FAILS(sm_path_decode(cases[i].text, &f->text, &err), &err, SM_ERR_ARG,
                       cases[i].message);
        assert_int_equal(err.offset, cases[i].offset);
    }
    sm_error err = SM_ERROR_INIT;
    SM_CHECK_OK(sm_path_decode("%2f%2Fx", &f->text, &err), &err);
    assert_string_equal((char *)f->text.data, "//x"); /* still to be checked */
}

/* ---- open ---- */

static const struct {
    const char *path;
    sm_status want, want_stepwise;
    int errnum; /* with openat2; 0: not looked at */
} OPENS[] = {
    {"top.svs", SM_OK, SM_OK, 0},
    {"a/b/slide.svs", SM_OK, SM_OK, 0},
    {"a/inside", SM_OK, SM_ERR_ARG, 0},
    {"a/folder/slide.svs", SM_OK, SM_ERR_ARG, 0},
    {"out", SM_ERR_ARG, SM_ERR_ARG, EXDEV},
    {"a/out", SM_ERR_ARG, SM_ERR_ARG, EXDEV},
    {"absolute", SM_ERR_ARG, SM_ERR_ARG, EXDEV},
    {"outdir/x", SM_ERR_ARG, SM_ERR_ARG, EXDEV},
    {"magic/etc/hostname", SM_ERR_ARG, SM_ERR_ARG, 0},
    {"loop", SM_ERR_ARG, SM_ERR_ARG, ELOOP},
    {"dangling", SM_ERR_IO, SM_ERR_ARG, ENOENT},
    {"none", SM_ERR_IO, SM_ERR_IO, ENOENT},
    {"none/none", SM_ERR_IO, SM_ERR_IO, ENOENT},
    {"top.svs/x", SM_ERR_IO, SM_ERR_IO, ENOTDIR},
    {"../secret", SM_ERR_ARG, SM_ERR_ARG, 0},
    {"a/../top.svs", SM_ERR_ARG, SM_ERR_ARG, 0},
    {"/etc/hostname", SM_ERR_ARG, SM_ERR_ARG, 0},
};

/* 0, or 1 + the row that is wrong (and said) */
static int open_all(const fixture *f, bool stepwise)
{
    static const int FLAGS[] = {O_RDONLY, O_PATH};
    for (size_t i = 0; i < SM_COUNT(OPENS); i++) {
        for (size_t k = 0; k < SM_COUNT(FLAGS); k++) {
            sm_error err = SM_ERROR_INIT;
            int fd = -1;
            const sm_status want = stepwise ? OPENS[i].want_stepwise : OPENS[i].want;
            const sm_status st = sm_path_open_beneath(f->fd, OPENS[i].path, FLAGS[k], &fd, &err);
            const bool errno_right =
                stepwise || st == SM_OK || OPENS[i].errnum == 0 || err.sys_errno == OPENS[i].errnum;
            const bool closes = fd >= 0 && (fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0;
            if (st != want || (fd >= 0) != (st == SM_OK) || !errno_right || (fd >= 0 && !closes)) {
                print_error("'%s' flags %x: %s, fd %d: %s\n", OPENS[i].path, (unsigned)FLAGS[k],
                            sm_status_name(st), fd, err.message);
                return 1 + (int)i;
            }
            if (fd >= 0)
                close(fd);
        }
    }
    return 0;
}

static void links_are_followed_only_beneath_the_root(void **state)
{
    const fixture *f = *state;
    sm_error err = SM_ERROR_INIT;
    int fd = -1;
    assert_int_equal(open_all(f, false), 0);
    SM_CHECK_FAILS(sm_path_open_beneath(f->fd, "out", O_RDONLY, &fd, &err), &err, SM_ERR_ARG,
                   "out: leads out of the root");
}

static int open_all_stepwise(void *arg)
{
    return open_all(arg, true);
}

static void without_openat2_no_link_is_followed(void **state)
{
    static const int ANSWERS[] = {ENOSYS, EPERM}; /* old kernels; old sandboxes */
    for (size_t i = 0; i < SM_COUNT(ANSWERS); i++) {
        const sm_refusal refusal = {.call = SYS_openat2,
                                    .arg = SM_REFUSE_ANY,
                                    .errnum = ANSWERS[i],
                                    .times = SM_REFUSE_ALWAYS};
        const int rc = sm_refuse(&refusal, open_all_stepwise, *state);
        if (rc == 77)
            skip();
        assert_int_equal(rc, 0);
    }
}

/* The status of an open of top.svs; 20: the descriptor is not right. */
static int open_top(void *arg)
{
    const fixture *f = arg;
    sm_error err = SM_ERROR_INIT;
    int fd = -1;
    char bytes[6] = "";
    const sm_status st = sm_path_open_beneath(f->fd, "top.svs", O_RDONLY, &fd, &err);
    if (st == SM_OK && (read(fd, bytes, 5) != 5 || strcmp(bytes, "bytes") != 0))
        return 20;
    return st == SM_ERR_IO && err.sys_errno != ESTALE ? 21 : (int)st;
}

static void a_stale_handle_is_tried_again_but_not_for_ever(void **state)
{
    static const struct {
        const char *name;
        int errnum;
        uint32_t times;
        sm_status want;
    } cases[] = {
        {"stale once", ESTALE, 1, SM_OK},
        {"stale eight times", ESTALE, 8, SM_OK},
        {"a rename in between", EAGAIN, 3, SM_OK},
        {"stale for ever", ESTALE, SM_REFUSE_ALWAYS, SM_ERR_IO},
        {"not permitted for once is final", EACCES, 1, SM_ERR_ARG},
    };
    for (size_t i = 0; i < SM_COUNT(cases); i++) {
        const sm_refusal refusal = {.call = SYS_openat2,
                                    .arg = SM_REFUSE_ANY,
                                    .errnum = cases[i].errnum,
                                    .times = cases[i].times};
        const int rc = sm_refuse(&refusal, open_top, *state);
        if (rc == 77)
            skip();
        if (rc != (int)cases[i].want)
            fail_msg("%s: %d", cases[i].name, rc);
    }
}

static void stat_takes_regular_files_only(void **state)
{
    const fixture *f = *state;
    char fifo[PATH_MAX];
    struct stat info;
    sm_error err = SM_ERROR_INIT;
    in_root(f, fifo, "fifo");
    assert_int_equal(mkfifo(fifo, 0600), 0);
    SM_CHECK_OK(sm_path_stat_beneath(f->fd, "a/inside", &info, &err), &err);
    assert_int_equal(info.st_size, 5);
    SM_CHECK_FAILS(sm_path_stat_beneath(f->fd, "a", &info, &err), &err, SM_ERR_ARG, "is a folder");
    SM_CHECK_FAILS(sm_path_stat_beneath(f->fd, "fifo", &info, &err), &err, SM_ERR_ARG, "pipe");
    SM_CHECK_FAILS(sm_path_stat_beneath(f->fd, "a/out", &info, &err), &err, SM_ERR_ARG, "out of");
    SM_CHECK_FAILS(sm_path_stat_beneath(f->fd, "none", &info, &err), &err, SM_ERR_IO, "No such");
    assert_int_equal(err.sys_errno, ENOENT);
}

static void a_root_must_be_a_folder(void **state)
{
    const fixture *f = *state;
    static const char *const NAMES[] = {"top.svs", "none", "loop", "top.svs/x"};
    for (size_t i = 0; i < SM_COUNT(NAMES); i++) {
        sm_error err = SM_ERROR_INIT;
        char path[PATH_MAX];
        int fd = -1;
        in_root(f, path, NAMES[i]);
        SM_CHECK_FAILS(sm_path_open_root(path, &fd, &err), &err, SM_ERR_ARG, NAMES[i]);
        assert_int_equal(fd, -1);
    }
}

static void parents_are_made_beneath_the_root_only(void **state)
{
    const fixture *f = *state;
    static const struct {
        const char *path, *made; /* made: a folder that is there afterwards, NULL: none */
        sm_status want;
    } cases[] = {
        {"file", NULL, SM_OK},
        {"a/file", "a", SM_OK},
        {"n1/n2/n3/file", "n1/n2/n3", SM_OK},
        {"n1/n2/m3/file", "n1/n2/m3", SM_OK},
        {"a/folder/deep/file", "a/b/deep", SM_OK},
        {"outdir/evil/file", NULL, SM_ERR_ARG},
        {"outdir/file", NULL, SM_ERR_ARG},
        {"../evil/file", NULL, SM_ERR_ARG},
        {"top.svs/x/file", NULL, SM_ERR_ARG},
        {"loop/x/file", NULL, SM_ERR_ARG},
        {"dangling/x/file", NULL, SM_ERR_IO},
        {"/tmp/x/file", NULL, SM_ERR_ARG},
    };
    for (size_t i = 0; i < SM_COUNT(cases); i++) {
        sm_error err = SM_ERROR_INIT;
        struct stat info;
        char path[PATH_MAX];
        const sm_status st = sm_path_make_parents(f->fd, cases[i].path, &err);
        if (st != cases[i].want)
            fail_msg("%s: %s: %s", cases[i].path, sm_status_name(st), err.message);
        if (cases[i].made != NULL) {
            in_root(f, path, cases[i].made);
            assert_int_equal(stat(path, &info), 0);
            assert_true(S_ISDIR(info.st_mode));
        }
    }
    assert_int_equal(sm_tmpdir_count(sm_tmpdir_file(&f->dir, "outside").path), 0);
    assert_int_equal(sm_tmpdir_count(f->dir.path), 3);
}

static int make_stepwise(void *arg)
{
    const fixture *f = arg;
    sm_error err = SM_ERROR_INIT;
    if (sm_path_make_parents(f->fd, "p/q/r/file", &err) != SM_OK)
        return 1;
    return sm_path_make_parents(f->fd, "a/folder/q/file", &err) == SM_ERR_ARG ? 0 : 2;
}

static void parents_are_made_without_openat2_too(void **state)
{
    const fixture *f = *state;
    const sm_refusal refusal = {
        .call = SYS_openat2, .arg = SM_REFUSE_ANY, .errnum = ENOSYS, .times = SM_REFUSE_ALWAYS};
    const int rc = sm_refuse(&refusal, make_stepwise, *state);
    if (rc == 77)
        skip();
    assert_int_equal(rc, 0);
    char path[PATH_MAX];
    in_root(f, path, "p/q/r");
    assert_int_equal(access(path, X_OK), 0);
}

static void two_makers_of_one_folder_both_succeed(void **state)
{
    const fixture *f = *state;
    pid_t pids[4];
    for (size_t i = 0; i < SM_COUNT(pids); i++) {
        pids[i] = fork();
        assert_true(pids[i] >= 0);
        if (pids[i] == 0) {
            sm_error err = SM_ERROR_INIT;
            char path[64];
            int bad = 0;
            for (unsigned n = 0; n < 200; n++) {
                snprintf(path, sizeof(path), "race/%u/x/y/file", n);
                bad |= sm_path_make_parents(f->fd, path, &err) != SM_OK;
            }
            _exit(bad);
        }
    }
    for (size_t i = 0; i < SM_COUNT(pids); i++) {
        int status = -1;
        assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
        assert_int_equal(status, 0);
    }
}

static void every_failed_allocation_is_reported(void **state)
{
    fixture *f = *state;
    sm_error err = SM_ERROR_INIT;
    sm_alloc_fail_after(0);
    SM_CHECK_FAILS(sm_path_clean("a", &f->text, &err), &err, SM_ERR_NOMEM, "memory");
    sm_alloc_fail_after(0);
    SM_CHECK_FAILS(sm_path_join("a", "b", &f->text, &err), &err, SM_ERR_NOMEM, "memory");
    sm_alloc_fail_after(0);
    SM_CHECK_FAILS(sm_path_encode("a", &f->text, &err), &err, SM_ERR_NOMEM, "memory");
    sm_alloc_fail_after(0);
    SM_CHECK_FAILS(sm_path_decode("a", &f->text, &err), &err, SM_ERR_NOMEM, "memory");
}

#define PATH_TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        PATH_TEST(only_clean_relative_paths_pass),
        PATH_TEST(lengths_are_bounded),
        PATH_TEST(messages_hold_no_control_characters),
        PATH_TEST(join_puts_one_slash_between),
        PATH_TEST(encoding_is_one_plain_line_and_reversible),
        PATH_TEST(bad_escapes_are_refused),
        PATH_TEST(links_are_followed_only_beneath_the_root),
        PATH_TEST(without_openat2_no_link_is_followed),
        PATH_TEST(a_stale_handle_is_tried_again_but_not_for_ever),
        PATH_TEST(stat_takes_regular_files_only),
        PATH_TEST(a_root_must_be_a_folder),
        PATH_TEST(parents_are_made_beneath_the_root_only),
        PATH_TEST(parents_are_made_without_openat2_too),
        PATH_TEST(two_makers_of_one_folder_both_succeed),
        PATH_TEST(every_failed_allocation_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
