/* Tests of ingest/out_path.c: every slide of a catalog has an output of its own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "ingest/out_path.h"
#include "tests/support/check.h"
#include "tests/support/tmpdir.h"

static void the_last_extension_is_cut_off(void **state)
{
    (void)state;
    static const struct {
        const char *path;
        size_t len;
    } CASES[] = {
        {"a.svs", 1}, {"d/a.SVS", 3}, {"a.ome.tif", 1}, {"a.OME.TIFF", 1},  {"a.b.svs", 3},
        {"a", 1},     {"d.x/a", 5},   {".hidden", 7},   {"d/.ome.tiff", 6}, {"d/x.ome.tiff", 3},
        {"a.", 1},
    };
    for (size_t i = 0; i < SM_COUNT(CASES); i++)
        assert_int_equal(sm_out_stem_len(CASES[i].path), CASES[i].len);
}

static sm_catalog *catalog_of(const sm_tmpdir *dir, const char *const *paths, size_t n)
{
    const sm_generation_config config = {.what = "test", .scratch = dir->path};
    const sm_tmppath file = sm_tmpdir_file(dir, "t.smc");
    sm_error err = SM_ERROR_INIT;
    sm_catalog *catalog = NULL;
    SM_CHECK_OK(sm_catalog_create(file.path, dir->path, &config, &catalog, &err), &err);
    for (size_t i = 0; i < n; i++) {
        const sm_slide_row row = {
            .path = paths[i], .size_bytes = 1, .present = true, .shard = SM_NO_SHARD};
        int64_t id = 0;
        bool added = false;
        SM_CHECK_OK(sm_catalog_put(catalog, &row, &id, &added, &err), &err);
        assert_true(added);
    }
    return catalog;
}

static void outputs_are_short_unless_they_would_meet(void **state)
{
    (void)state;
    static const char *const PATHS[] = {
        "d/a.svs",     "d/b.svs",     "d/b.ndpi",  "e/b.svs",       "f/c.svs",
        "f/c.svs.tif", "f/c[*].ndpi", "f/cXX.svs", "g/x",           "g/x.svs",
        "h/y",         "h/z.ome.tif", "h/z.tif",   "h/z.other.tif",
    };
    static const char *const WANT[] = {
        "d/a.ome.tiff",     "d/b.svs.ome.tiff",     "d/b.ndpi.ome.tiff", "e/b.ome.tiff",
        "f/c.ome.tiff",     "f/c.svs.tif.ome.tiff", "f/c[*].ome.tiff",   "f/cXX.ome.tiff",
        "g/x.ome.tiff",     "g/x.svs.ome.tiff",     "h/y.ome.tiff",      "h/z.ome.tif.ome.tiff",
        "h/z.tif.ome.tiff", "h/z.other.ome.tiff",
    };
    sm_error err = SM_ERROR_INIT;
    sm_out_names *names = NULL;
    sm_buf out = {0};
    sm_tmpdir dir = sm_tmpdir_make();
    sm_catalog *catalog = catalog_of(&dir, PATHS, SM_COUNT(PATHS));
    SM_CHECK_OK(sm_out_names_new(catalog, &names, &err), &err);
    for (size_t i = 0; i < SM_COUNT(PATHS); i++) {
        SM_CHECK_OK(
            sm_out_path(PATHS[i], sm_out_names_full(names, PATHS[i]), ".ome.tiff", &out, &err),
            &err);
        /* "g/x" and "g/x.svs" have one stem: both keep their names, "x" having no more to keep */
        assert_string_equal((const char *)out.data, WANT[i]);
        for (size_t k = 0; k < i; k++)
            assert_string_not_equal(WANT[k], WANT[i]);
    }
    sm_buf_free(&out);
    sm_out_names_free(&names);
    sm_out_names_free(&names);
    sm_catalog_close(&catalog);
    sm_tmpdir_remove(&dir);
}

static void names_that_are_too_long_are_refused(void **state)
{
    (void)state;
    char path[260];
    sm_error err = SM_ERROR_INIT;
    sm_buf out = {0};
    memset(path, 'a', sizeof path);
    memcpy(path + 245, ".svs", 5);
    SM_CHECK_OK(sm_out_path(path, false, ".ome.tiff", &out, &err), &err);
    SM_CHECK_FAILS(sm_out_path(path, true, ".ome.tiff", &out, &err), &err, SM_ERR_LIMIT,
                   "too long");
    sm_buf_free(&out);
}

static void suffixes_are_endings_of_names(void **state)
{
    (void)state;
    static const char *const WRONG[] = {"", ".", "tiff", "./x", ".a/b"};
    sm_error err = SM_ERROR_INIT;
    SM_CHECK_OK(sm_out_suffix_check(".ome.tiff", &err), &err);
    SM_CHECK_OK(sm_out_suffix_check(".tif", &err), &err);
    for (size_t i = 0; i < SM_COUNT(WRONG); i++)
        SM_CHECK_FAILS(sm_out_suffix_check(WRONG[i], &err), &err, SM_ERR_ARG, "--suffix");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_last_extension_is_cut_off),
        cmocka_unit_test(outputs_are_short_unless_they_would_meet),
        cmocka_unit_test(names_that_are_too_long_are_refused),
        cmocka_unit_test(suffixes_are_endings_of_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
