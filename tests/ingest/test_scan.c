/* A folder tree against the catalog, and patterns of paths. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>

#include "common/catalog.h"
#include "ingest/pattern.h"
#include "ingest/scan.h"
#include "ingest/walk.h"
#include "tests/support/check.h"
#include "tests/support/tmpdir.h"

typedef struct world {
    sm_tmpdir dir;
    sm_catalog *catalog;
    sm_scan_result result;
    char said[8192];
} world;

static const sm_generation_config CONFIG = {.what = "test"};

static sm_tmppath in_root(const world *w, const char *name)
{
    sm_tmppath path;

    (void)snprintf(path.path, sizeof path.path, "%s/root/%s", w->dir.path, name);
    return path;
}

/* name may have folders, which are made. */
static void put(const world *w, const char *name, const char *text)
{
    sm_tmppath path = in_root(w, name);

    for (char *slash = path.path + strlen(w->dir.path) + 6; (slash = strchr(slash, '/')) != NULL;
         slash++) {
        *slash = '\0';
        (void)mkdir(path.path, 0777);
        *slash = '/';
    }
    sm_file_write(path.path, text, strlen(text));
}

static world world_make(void)
{
    world w = {.dir = sm_tmpdir_make()};
    sm_error err = SM_ERROR_INIT;

    assert_int_equal(mkdir(in_root(&w, "").path, 0777), 0);
    SM_CHECK_OK(sm_catalog_create(sm_tmpdir_file(&w.dir, "c.smc").path, in_root(&w, "").path,
                                  &CONFIG, &w.catalog, &err),
                &err);
    return w;
}

static void world_remove(world *w)
{
    sm_catalog_close(&w->catalog);
    sm_tmpdir_remove(&w->dir);
}

static void hear(void *arg, const char *line)
{
    world *w = arg;
    const size_t len = strlen(w->said);

    (void)snprintf(w->said + len, sizeof w->said - len, "%s\n", line);
}

static void scan_with(world *w, const sm_scan_options *options)
{
    sm_error err = SM_ERROR_INIT;

    w->said[0] = '\0';
    SM_CHECK_OK(sm_scan(w->catalog, options, hear, w, &w->result, &err), &err);
}

static void scan_all(world *w)
{
    static const sm_scan_options ALL = {.bricks = true};

    scan_with(w, &ALL);
}

/* Paths of the catalog by id, joined by blanks; a missing one has a '!' before it. */
static void expect_slides(world *w, const char *want)
{
    sm_error err = SM_ERROR_INIT;
    const sm_slide_filter all = {0};
    sm_slide_cursor *cursor = NULL;
    sm_slide_row row;
    char got[4096] = "";
    size_t len = 0;
    bool more = true;

    SM_CHECK_OK(sm_catalog_slides(w->catalog, &all, &cursor, &err), &err);
    for (;;) {
        SM_CHECK_OK(sm_slide_cursor_next(cursor, &row, &more, &err), &err);
        if (!more)
            break;
        len += (size_t)snprintf(got + len, sizeof got - len, "%s%s%s", len > 0 ? " " : "",
                                row.present ? "" : "!", row.path);
    }
    sm_slide_cursor_close(&cursor);
    if (strcmp(got, want) != 0)
        fail_msg("slides are '%s', not '%s'", got, want);
}

static sm_slide_row find(world *w, const char *path)
{
    sm_error err = SM_ERROR_INIT;
    sm_slide_row row;
    bool found = false;

    SM_CHECK_OK(sm_catalog_find(w->catalog, path, &row, &found, &err), &err);
    if (!found)
        fail_msg("no slide %s", path);
    return row;
}

static void slides_are_found_in_the_order_of_their_paths(void **state)
{
    (void)state;
    world w = world_make();

    put(&w, "b/2.svs", "22");
    put(&w, "b/1.svs", "1");
    put(&w, "a.ndpi", "333");
    put(&w, "b/notes.txt", "x");
    put(&w, "b/.hidden.svs", "x");
    put(&w, ".trash/3.svs", "x");
    put(&w, "b/.2.svs.aB3dE9", "x");
    put(&w, "c/with \n newline.svs", "x");
    scan_all(&w);
    expect_slides(&w, "a.ndpi b/1.svs b/2.svs c/with \n newline.svs");
    assert_int_equal(w.result.n_new, 4);
    assert_int_equal(w.result.bytes, 7);
    assert_int_equal(w.result.n_folders, 3);
    assert_true(w.result.complete);
    const sm_slide_row row = find(&w, "b/2.svs");
    assert_int_equal(row.size_bytes, 2);
    assert_string_equal(row.vendor, "aperio");
    assert_non_null(row.brick);
    assert_true(row.mtime_ns > 0);
    scan_all(&w);
    assert_int_equal(w.result.n_same, 4);
    assert_int_equal(w.result.n_new + w.result.n_changed + w.result.n_missing, 0);
    world_remove(&w);
}

static void a_changed_slide_is_new_again(void **state)
{
    (void)state;
    world w = world_make();

    put(&w, "size.svs", "1");
    put(&w, "time.svs", "1");
    put(&w, "same.svs", "1");
    scan_all(&w);
    put(&w, "size.svs", "22");
    const struct timeval times[2] = {{1000, 0}, {1000, 0}};
    assert_int_equal(utimes(in_root(&w, "time.svs").path, times), 0);
    scan_all(&w);
    assert_int_equal(w.result.n_changed, 2);
    assert_int_equal(w.result.n_same, 1);
    assert_int_equal(find(&w, "size.svs").size_bytes, 2);
    assert_int_equal(find(&w, "time.svs").mtime_ns, 1000 * INT64_C(1000000000));
    world_remove(&w);
}

static void a_slide_that_is_gone_is_missing_and_may_come_back(void **state)
{
    (void)state;
    world w = world_make();

    put(&w, "a.svs", "1");
    put(&w, "d/b.svs", "1");
    scan_all(&w);
    assert_int_equal(unlink(in_root(&w, "d/b.svs").path), 0);
    scan_all(&w);
    expect_slides(&w, "a.svs !d/b.svs");
    assert_int_equal(w.result.n_missing, 1);
    assert_true(w.result.complete);
    put(&w, "d/b.svs", "1");
    scan_all(&w);
    expect_slides(&w, "a.svs d/b.svs");
    assert_int_equal(w.result.n_back, 1);
    world_remove(&w);
}

static void add_slide(world *w, const char *path, const char *brick)
{
    sm_error err = SM_ERROR_INIT;
    const sm_slide_row row = {.path = path,
                              .size_bytes = SM_NO_SIZE,
                              .brick = brick,
                              .present = true,
                              .shard = SM_NO_SHARD};
    int64_t id = 0;
    bool added = false;

    SM_CHECK_OK(sm_catalog_put(w->catalog, &row, &id, &added, &err), &err);
}

static void a_silent_brick_deletes_nothing(void **state)
{
    (void)state;
    world w = world_make();

    add_slide(&w, "on-dead-brick.svs", "host:/b/7");
    add_slide(&w, "on-unknown-brick.svs", NULL);
    put(&w, "a.svs", "1");
    scan_all(&w);
    expect_slides(&w, "on-dead-brick.svs !on-unknown-brick.svs a.svs");
    assert_int_equal(w.result.n_unanswered, 1);
    assert_int_equal(w.result.n_missing, 1);
    assert_false(w.result.complete);
    assert_non_null(strstr(w.said, "host:/b/7"));
    world_remove(&w);
}

static void a_list_may_name_what_a_walk_passes_over(void **state)
{
    (void)state;
    world w = world_make();

    add_slide(&w, "odd-name.bin", NULL);
    add_slide(&w, ".hidden/x.svs", NULL);
    add_slide(&w, "gone.bin", NULL);
    put(&w, "odd-name.bin", "1");
    scan_all(&w);
    expect_slides(&w, "odd-name.bin .hidden/x.svs !gone.bin");
    world_remove(&w);
}

static void links_are_followed_only_beneath_the_root(void **state)
{
    (void)state;
    world w = world_make();
    const sm_tmppath outside = sm_tmpdir_file(&w.dir, "outside.svs");

    sm_file_write(outside.path, "secret", 6);
    put(&w, "real/a.svs", "1");
    put(&w, ".store/b.svs", "1");
    assert_int_equal(symlink(outside.path, in_root(&w, "absolute.svs").path), 0);
    assert_int_equal(symlink("../outside.svs", in_root(&w, "relative.svs").path), 0);
    assert_int_equal(symlink("real/a.svs", in_root(&w, "file.svs").path), 0);
    assert_int_equal(symlink("real", in_root(&w, "again").path), 0);
    assert_int_equal(symlink(".", in_root(&w, "real/loop").path), 0);
    assert_int_equal(symlink("..", in_root(&w, "real/up").path), 0);
    assert_int_equal(symlink("/", in_root(&w, "real/top").path), 0);
    assert_int_equal(symlink("../.store", in_root(&w, "real/store").path), 0);
    assert_int_equal(symlink("nowhere.svs", in_root(&w, "dangling.svs").path), 0);
    scan_all(&w);
    expect_slides(&w, "file.svs real/a.svs real/store/b.svs");
    assert_int_equal(w.result.n_refused, 3);
    assert_non_null(strstr(w.said, "relative.svs"));
    world_remove(&w);
}

static void two_links_to_one_folder_count_once(void **state)
{
    (void)state;
    for (int round = 0; round < 20; round++) { /* threads race for it */
        world w = world_make();
        put(&w, ".store/b.svs", "1");
        put(&w, "z/x.svs", "1");
        assert_int_equal(symlink(".store", in_root(&w, "link-b").path), 0);
        assert_int_equal(symlink("../.store", in_root(&w, "z/link-a").path), 0);
        assert_int_equal(symlink(".store", in_root(&w, "link-a").path), 0);
        scan_all(&w);
        expect_slides(&w, "link-a/b.svs z/x.svs");
        world_remove(&w);
    }
}

static void excluded_folders_are_left_alone(void **state)
{
    (void)state;
    static const char *const EXCLUDE[] = {"thumb*", "a/*.tif", NULL};
    const sm_scan_options options = {.bricks = true, .exclude = EXCLUDE};
    world w = world_make();

    put(&w, "a/1.svs", "1");
    put(&w, "a/1.tif", "1");
    put(&w, "b/1.tif", "1");
    put(&w, "a/thumbs/2.svs", "1");
    add_slide(&w, "a/thumbs/3.svs", NULL);
    scan_with(&w, &options);
    expect_slides(&w, "a/thumbs/3.svs a/1.svs b/1.tif");
    assert_true(sm_walk_excluded("x/.y/z.svs", NULL));
    assert_false(sm_walk_excluded("x/y/z.svs", NULL));
    world_remove(&w);
}

static void under_looks_at_one_folder_only(void **state)
{
    (void)state;
    const sm_scan_options options = {.bricks = true, .under = "b"};
    world w = world_make();

    put(&w, "a/1.svs", "1");
    put(&w, "b/2.svs", "1");
    put(&w, "ba/3.svs", "1");
    scan_all(&w);
    assert_int_equal(unlink(in_root(&w, "a/1.svs").path), 0);
    assert_int_equal(unlink(in_root(&w, "b/2.svs").path), 0);
    put(&w, "b/c/4.svs", "1");
    scan_with(&w, &options);
    expect_slides(&w, "a/1.svs !b/2.svs ba/3.svs b/c/4.svs");
    sm_error err = SM_ERROR_INIT;
    const sm_scan_options out = {.under = "../root"}, gone = {.under = "gone"};
    SM_CHECK_FAILS(sm_scan(w.catalog, &out, NULL, NULL, &w.result, &err), &err, SM_ERR_ARG, "..");
    if (sm_scan(w.catalog, &gone, NULL, NULL, &w.result, &err) == SM_OK)
        fail_msg("a folder that is not there was scanned");
    world_remove(&w);
}

static void a_slide_of_many_files_is_one(void **state)
{
    (void)state;
    world w = world_make();

    put(&w, "m.mrxs", "1");
    put(&w, "m/Slidedat.ini", "22");
    put(&w, "m/Data0.dat", "333");
    put(&w, "m/inner.tif", "4444");
    put(&w, "v/a.vms", "ImageFile=a.jpg\nMapFile=gone.jpg\n");
    put(&w, "v/a.jpg", "55555");
    scan_all(&w);
    expect_slides(&w, "m.mrxs v/a.vms");
    assert_int_equal(find(&w, "m.mrxs").n_parts, 3);
    assert_int_equal(find(&w, "m.mrxs").parts_bytes, 9);
    assert_int_equal(find(&w, "v/a.vms").n_parts, 2);
    assert_int_equal(find(&w, "v/a.vms").parts_bytes, 5);
    scan_all(&w);
    assert_int_equal(w.result.n_same, 2);
    put(&w, "m/Data0.dat", "333333");
    scan_all(&w);
    assert_int_equal(w.result.n_changed, 1);
    assert_int_equal(find(&w, "m.mrxs").parts_bytes, 12);
    world_remove(&w);
}

static void a_big_flat_folder_is_found_whole(void **state)
{
    (void)state;
    enum { N = 3000 };
    static const sm_scan_options OPTIONS = {.bricks = true, .threads = 3};
    world w = world_make();
    char name[32];

    for (int i = 0; i < N; i++) {
        (void)snprintf(name, sizeof name, "%c/%d.svs", 'a' + i % 2, i);
        put(&w, name, "x");
    }
    scan_with(&w, &OPTIONS);
    assert_int_equal(w.result.n_new, N);
    world_remove(&w);
}

static void a_root_that_is_gone_is_no_empty_one(void **state)
{
    (void)state;
    world w = world_make();
    sm_error err = SM_ERROR_INIT;
    const sm_scan_options options = {.bricks = true};

    put(&w, "a.svs", "1");
    scan_all(&w);
    assert_int_equal(unlink(in_root(&w, "a.svs").path), 0);
    assert_int_equal(rmdir(in_root(&w, "").path), 0);
    if (sm_scan(w.catalog, &options, NULL, NULL, &w.result, &err) == SM_OK)
        fail_msg("a missing root was scanned");
    expect_slides(&w, "a.svs");
    world_remove(&w);
}

static void outputs_are_no_slides(void **state)
{
    (void)state;
    world w = world_make();
    sm_error err = SM_ERROR_INIT;
    const sm_tmppath out = in_root(&w, "out");
    const sm_target target = {.dir = out.path, .options = ""};

    put(&w, "a.svs", "1");
    put(&w, "out/a.ome.tiff", "1");
    SM_CHECK_OK(sm_catalog_set_target(w.catalog, &target, &err), &err);
    scan_all(&w);
    expect_slides(&w, "a.svs");
    world_remove(&w);
}

/* ---- patterns ---- */

static void patterns_take_paths_apart(void **state)
{
    (void)state;
    static const struct {
        const char *pattern, *path, *values; /* values joined by '|'; NULL: no match */
    } cases[] = {
        {"tudp/{release}/svs/{organ}/{group}/{patient}/{date}/{session}/{name}_lvl{level}_s{slice}."
         "svs",
         "tudp/v1.0.0/svs/gastro/000001/00123456/2015_03_05/0s15_12345/"
         "0s15_12345_0a001_00123456_lvl0001_s000.svs",
         "v1.0.0|gastro|000001|00123456|2015_03_05|0s15_12345|0s15_12345_0a001_00123456|0001|000"},
        {"{a}.svs", "007.svs", "007"},
        {"{a}.svs", "d/007.svs", NULL},
        {"{a}.svs", ".svs", NULL},
        {"{a}.svs", "x.svs.svs", "x.svs"},
        {"{a}_{b}", "x_y_z", "x|y_z"},
        {"{a}{b}", "xyz", "x|yz"},
        {"{a}x", "xx", "x"},
        {"{{{a}}}", "{v}", "v"},
        {"{a}/{b}", "x", NULL},
        {"{a}/{b}", "x/", NULL},
        {"{a}", "\xff\n", "\xff\n"},
    };
    for (size_t i = 0; i < SM_COUNT(cases); i++) {
        sm_error err = SM_ERROR_INIT;
        sm_pattern *pattern = NULL;
        char got[1024] = "";
        size_t n = 0, len = 0;
        SM_CHECK_OK(sm_pattern_new(cases[i].pattern, &pattern, &err), &err);
        (void)sm_pattern_names(pattern, &n);
        const char *const *values = sm_pattern_match(pattern, cases[i].path);
        for (size_t k = 0; values != NULL && k < n; k++)
            len +=
                (size_t)snprintf(got + len, sizeof got - len, "%s%s", k > 0 ? "|" : "", values[k]);
        if ((values == NULL) != (cases[i].values == NULL) ||
            (values != NULL && strcmp(got, cases[i].values) != 0))
            fail_msg("%s on %s: %s", cases[i].pattern, cases[i].path,
                     values != NULL ? got : "no match");
        sm_pattern_free(&pattern);
    }
}

static void wrong_patterns_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *pattern, *message;
    } cases[] = {
        {"plain", "no {name}"},       {"{a", "without }"},
        {"a}", "without {"},          {"{}", "small letter"},
        {"{A}", "small letter"},      {"{1}", "small letter"},
        {"{a b}", "small letter"},    {"{a}/{a}", "twice"},
        {"{slide}", "taken"},         {"{a{b}}", "without }"},
        {"{a;drop}", "small letter"}, {"{abcdefghijklmnopqrstuvwxyz0123456}", "at most 32"},
    };
    for (size_t i = 0; i < SM_COUNT(cases); i++) {
        sm_error err = SM_ERROR_INIT;
        sm_pattern *pattern = NULL;
        SM_CHECK_FAILS(sm_pattern_new(cases[i].pattern, &pattern, &err), &err, SM_ERR_ARG,
                       cases[i].message);
        assert_null(pattern);
    }
}

static void a_pattern_takes_no_time_without_end(void **state)
{
    (void)state;
    sm_error err = SM_ERROR_INIT;
    sm_pattern *pattern = NULL;
    char text[400] = "", path[2001];
    const clock_t begin = clock();

    for (int i = 0; i < 60; i++)
        (void)snprintf(text + strlen(text), sizeof text - strlen(text), "{n%d}", i);
    (void)snprintf(text + strlen(text), sizeof text - strlen(text), "b");
    memset(path, 'a', sizeof path - 1);
    path[sizeof path - 1] = '\0';
    SM_CHECK_OK(sm_pattern_new(text, &pattern, &err), &err);
    assert_null(sm_pattern_match(pattern, path));
    sm_pattern_free(&pattern);
    if (clock() - begin > 20 * CLOCKS_PER_SEC)
        fail_msg("%ld s", (long)((clock() - begin) / CLOCKS_PER_SEC));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slides_are_found_in_the_order_of_their_paths),
        cmocka_unit_test(a_changed_slide_is_new_again),
        cmocka_unit_test(a_slide_that_is_gone_is_missing_and_may_come_back),
        cmocka_unit_test(a_silent_brick_deletes_nothing),
        cmocka_unit_test(a_list_may_name_what_a_walk_passes_over),
        cmocka_unit_test(links_are_followed_only_beneath_the_root),
        cmocka_unit_test(two_links_to_one_folder_count_once),
        cmocka_unit_test(excluded_folders_are_left_alone),
        cmocka_unit_test(under_looks_at_one_folder_only),
        cmocka_unit_test(a_slide_of_many_files_is_one),
        cmocka_unit_test(a_big_flat_folder_is_found_whole),
        cmocka_unit_test(a_root_that_is_gone_is_no_empty_one),
        cmocka_unit_test(outputs_are_no_slides),
        cmocka_unit_test(patterns_take_paths_apart),
        cmocka_unit_test(wrong_patterns_are_refused),
        cmocka_unit_test(a_pattern_takes_no_time_without_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
