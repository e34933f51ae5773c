/* Tests of common/catalog_plan.c, catalog_parts.c, catalog_fields.c: shards, further files, columns
 * of a pattern, the target. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/common/test_catalog_support.h"

/* ---- plan ---- */

static sm_status collect_shard(void *arg, const sm_shard_row *row, sm_error *err)
{
    sm_shard_row *rows = arg;
    (void)err;
    assert_true(row->shard < 4);
    rows[row->shard] = *row;
    return SM_OK;
}

static void a_plan_replaces_the_one_before(void **state)
{
    (void)state;
    fixture f;
    char event[96];
    fixture_start(&f);
    sm_catalog *catalog = fixture_create(&f);
    for (unsigned i = 0; i < 5; i++) {
        char path[16];
        snprintf(path, sizeof(path), "%u.svs", i + 1);
        add_slide(&f, catalog, path);
    }
    SM_CHECK_FAILS(sm_catalog_begin_plan(catalog, 0, &f.err), &f.err, SM_ERR_ARG, "0 shards");
    SM_CHECK_OK(sm_catalog_begin_plan(catalog, 3, &f.err), &f.err);
    SM_CHECK_FAILS(sm_catalog_assign(catalog, 1, 3, &f.err), &f.err, SM_ERR_ARG, "shard 3 of 3");
    for (unsigned i = 0; i < 4; i++)
        SM_CHECK_OK(sm_catalog_assign(catalog, 4 - i, i % 2, &f.err), &f.err);
    SM_CHECK_OK(sm_catalog_assign(catalog, 1, 2, &f.err), &f.err); /* the later one counts */
    sm_attempt_row attempt = make_attempt(event, RUN_A, 1, 2, SM_OUTCOME_OK, 1);
    put_attempt(&f, catalog, &attempt);
    fixture_commit(&f, &catalog);

    catalog = fixture_change(&f);
    sm_shard_row shards[4] = {0};
    SM_CHECK_OK(sm_catalog_shards(catalog, collect_shard, shards, &f.err), &f.err);
    assert_true(shards[0].n == 2 && shards[0].n_done == 1 && shards[0].n_open == 1);
    assert_true(shards[1].n == 1 && shards[1].bytes == 1000 && shards[2].n == 1);
    assert_int_equal(sm_catalog_plan(catalog), 1);
    assert_int_equal(sm_catalog_n_shards(catalog), 3);
    SM_CHECK_OK(sm_catalog_begin_plan(catalog, 2, &f.err), &f.err);
    assert_int_equal(sm_catalog_plan(catalog), 2);
    assert_int_equal(state_of(&f, catalog, 1), SM_SLIDE_NEW);
    assert_int_equal(state_of(&f, catalog, 2), SM_SLIDE_DONE);
    assert_int_equal(get_slide(&f, catalog, 2).shard, SM_NO_SHARD);
    SM_CHECK_OK(sm_catalog_assign(catalog, 5, 1, &f.err), &f.err);
    assert_int_equal(get_slide(&f, catalog, 5).shard, 1);
    assert_int_equal(state_of(&f, catalog, 5), SM_SLIDE_PLANNED);
    memset(shards, 0, sizeof(shards));
    SM_CHECK_OK(sm_catalog_shards(catalog, collect_shard, shards, &f.err), &f.err);
    assert_true(shards[0].n == 0 && shards[1].n == 1 && shards[2].n == 0);
    SM_CHECK_OK(sm_catalog_assign(catalog, 99, 1, &f.err), &f.err);
    SM_CHECK_FAILS(sm_catalog_commit(&catalog, &f.err), &f.err, SM_ERR_ARG, "has no slide 99");
    SM_CHECK_FAILS(sm_catalog_commit(&catalog, &f.err), &f.err, SM_ERR_INTERNAL, "half way");
    sm_catalog_close(&catalog);
    fixture_end(&f);
}

/* Enough slides for pages of several levels, read by shard through the look-ahead. */
static void a_large_plan_is_read_shard_by_shard(void **state)
{
    (void)state;
    enum { SLIDES = 30000, SHARDS = 7 };
    fixture f;
    fixture_start(&f);
    sm_catalog *catalog = fixture_create(&f);
    for (unsigned i = 0; i < SLIDES; i++) {
        char path[64];
        snprintf(path, sizeof(path), "folder/of/some/length/%08u/slide.svs", i * 7919u % SLIDES);
        add_slide(&f, catalog, path);
    }
    SM_CHECK_OK(sm_catalog_begin_plan(catalog, SHARDS, &f.err), &f.err);
    for (unsigned i = SLIDES; i > 0; i--)
        SM_CHECK_OK(sm_catalog_assign(catalog, i, i % SHARDS, &f.err), &f.err);
    fixture_commit(&f, &catalog);
    catalog = fixture_open(&f);
    unsigned total = 0;
    for (uint32_t shard = 0; shard < SHARDS; shard++) {
        static int64_t ids[SLIDES];
        const unsigned n = ids_of(&f, catalog, &(sm_slide_filter){.shard = &shard}, ids, SLIDES);
        for (unsigned i = 0; i < n; i++)
            assert_int_equal(ids[i] % SHARDS, shard);
        total += n;
    }
    assert_int_equal(total, SLIDES);
    sm_catalog_close(&catalog);
    fixture_end(&f);
}

/* ---- parts, fields, target ---- */

typedef struct seen_parts {
    unsigned n;
    char paths[4][32];
    sm_part_row rows[4];
} seen_parts;

static sm_status see_part(void *arg, const sm_part_row *part, sm_error *err)
{
    seen_parts *seen = arg;
    if (seen->n == 4)
        return sm_fail(err, SM_ERR_INTERNAL, "too many parts");
    snprintf(seen->paths[seen->n], sizeof(seen->paths[0]), "%s", part->path);
    seen->rows[seen->n++] = *part;
    return SM_OK;
}

static void parts_keep_the_digests_of_files_that_stay(void **state)
{
    (void)state;
    fixture f;
    fixture_start(&f);
    sm_catalog *catalog = fixture_create(&f);
    const int64_t id = add_slide(&f, catalog, "a.mrxs");
    const sm_digest first = sha(1), second = sha(2);
    sm_part_row parts[] = {{.path = "a/2.dat", .size_bytes = 20, .mtime_ns = 1},
                           {.path = "a/1.dat", .size_bytes = 10, .mtime_ns = 1},
                           {.path = "a/3.dat",
                            .size_bytes = SM_NO_SIZE,
                            .digest_origin = SM_DIGEST_GIVEN,
                            .digest = digest_of(SM_DIGEST_MD5, 3)}};
    SM_CHECK_OK(sm_catalog_set_parts(catalog, id, parts, 3, &f.err), &f.err);
    assert_int_equal(get_slide(&f, catalog, id).n_parts, 3);
    assert_int_equal(get_slide(&f, catalog, id).parts_bytes, 30);
    SM_CHECK_OK(sm_catalog_learn_part(catalog, id, "a/1.dat", &first, &f.err), &f.err);
    SM_CHECK_OK(sm_catalog_learn_part(catalog, id, "a/1.dat", &first, &f.err), &f.err);
    SM_CHECK_OK(sm_catalog_learn_part(catalog, id, "a/2.dat", &first, &f.err), &f.err);
    SM_CHECK_FAILS(sm_catalog_learn_part(catalog, id, "a/1.dat", &second, &f.err), &f.err,
                   SM_ERR_CORRUPT, "another SHA-256");
    SM_CHECK_FAILS(sm_catalog_learn_part(catalog, id, "b", &second, &f.err), &f.err, SM_ERR_CORRUPT,
                   "has no part b");
    parts[0].mtime_ns = 2; /* another file now */
    parts[2].digest_origin = SM_DIGEST_UNKNOWN;
    SM_CHECK_OK(sm_catalog_set_parts(catalog, id, parts, 3, &f.err), &f.err);
    fixture_commit(&f, &catalog);
    catalog = fixture_change(&f);
    seen_parts seen = {0};
    SM_CHECK_OK(sm_catalog_parts(catalog, id, see_part, &seen, &f.err), &f.err);
    assert_int_equal(seen.n, 3);
    assert_string_equal(seen.paths[0], "a/1.dat");
    assert_int_equal(seen.rows[0].digest_origin, SM_DIGEST_LEARNED);
    assert_int_equal(seen.rows[1].digest_origin, SM_DIGEST_UNKNOWN);
    assert_int_equal(seen.rows[2].digest_origin, SM_DIGEST_GIVEN);
    assert_true(seen.rows[2].size_bytes == SM_NO_SIZE);
    const sm_part_row bad = {.path = "../x", .size_bytes = 1};
    assert_int_equal(sm_catalog_set_parts(catalog, id, &bad, 1, &f.err), SM_ERR_ARG);
    assert_int_equal(get_slide(&f, catalog, id).n_parts, 3);
    SM_CHECK_FAILS(sm_catalog_set_parts(catalog, 99, parts, 1, &f.err), &f.err, SM_ERR_ARG,
                   "has no slide 99");
    SM_CHECK_OK(sm_catalog_set_parts(catalog, id, NULL, 0, &f.err), &f.err);
    assert_int_equal(get_slide(&f, catalog, id).parts_bytes, 0);
    sm_catalog_close(&catalog);
    fixture_end(&f);
}

static void a_pattern_makes_columns(void **state)
{
    (void)state;
    static const char *const NAMES[] = {"group", "patient"};
    static const char *const VALUES[] = {"000001", NULL};
    static const char *const BAD[][2] = {{"a", "a"}, {"slide", "b"}, {"A", "b"},
                                         {"", "b"},  {"a\"b", "c"},  {"1a", "b"}};
    fixture f;
    fixture_start(&f);
    sm_catalog *catalog = fixture_create(&f);
    const int64_t id = add_slide(&f, catalog, "a.svs");
    const char *const *names = NULL, *const *values = NULL;
    size_t n = 9;
    assert_null(sm_catalog_pattern(catalog));
    SM_CHECK_OK(sm_catalog_fields(catalog, id, &names, &values, &n, &f.err), &f.err);
    assert_int_equal(n, 0);
    for (size_t i = 0; i < SM_COUNT(BAD); i++)
        assert_int_equal(sm_catalog_set_pattern(catalog, "p", BAD[i], 2, &f.err), SM_ERR_ARG);
    SM_CHECK_OK(sm_catalog_set_pattern(catalog, "{group}/{patient}", NAMES, 2, &f.err), &f.err);
    SM_CHECK_FAILS(sm_catalog_set_fields(catalog, id, VALUES, 1, &f.err), &f.err, SM_ERR_ARG,
                   "1 values for 2 fields");
    SM_CHECK_OK(sm_catalog_set_fields(catalog, id, VALUES, 2, &f.err), &f.err);
    SM_CHECK_OK(sm_catalog_set_pattern(catalog, "{group}/{patient}", NAMES, 2, &f.err), &f.err);
    fixture_commit(&f, &catalog);
    catalog = fixture_change(&f);
    assert_string_equal(sm_catalog_pattern(catalog), "{group}/{patient}");
    SM_CHECK_OK(sm_catalog_fields(catalog, id, &names, &values, &n, &f.err), &f.err);
    assert_int_equal(n, 2);
    assert_string_equal(names[0], "group");
    assert_string_equal(values[0], "000001");
    assert_null(values[1]);
    SM_CHECK_OK(sm_catalog_set_pattern(catalog, "{patient}", NAMES + 1, 1, &f.err), &f.err);
    SM_CHECK_OK(sm_catalog_fields(catalog, id, &names, &values, &n, &f.err), &f.err);
    assert_int_equal(n, 0); /* the values of the old one went with it */
    SM_CHECK_OK(sm_catalog_set_fields(catalog, id, VALUES, 1, &f.err), &f.err);
    SM_CHECK_OK(sm_catalog_fields(catalog, id, &names, &values, &n, &f.err), &f.err);
    assert_true(n == 1 && strcmp(values[0], "000001") == 0);
    SM_CHECK_OK(sm_catalog_set_pattern(catalog, NULL, NULL, 0, &f.err), &f.err);
    fixture_commit(&f, &catalog);
    catalog = fixture_open(&f);
    assert_null(sm_catalog_pattern(catalog));
    sm_catalog_close(&catalog);
    fixture_end(&f);
}

static void the_target_is_set_once(void **state)
{
    (void)state;
    fixture f;
    fixture_start(&f);
    sm_catalog *catalog = fixture_create(&f);
    sm_target target = {.dir = "/out", .options = "--codec jpeg"};
    assert_false(sm_catalog_target(catalog, &target));
    target = (sm_target){.dir = "/out", .options = "--codec jpeg"};
    SM_CHECK_OK(sm_catalog_set_target(catalog, &target, &f.err), &f.err);
    SM_CHECK_OK(sm_catalog_set_target(catalog, &target, &f.err), &f.err);
    const sm_target other = {.dir = "/out", .options = "--codec zstd"};
    SM_CHECK_FAILS(sm_catalog_set_target(catalog, &other, &f.err), &f.err, SM_ERR_ARG,
                   "another target needs another catalog");
    fixture_commit(&f, &catalog);
    catalog = fixture_open(&f);
    assert_true(sm_catalog_target(catalog, &target));
    assert_string_equal(target.dir, "/out");
    assert_string_equal(target.options, "--codec jpeg");
    sm_catalog_close(&catalog);
    fixture_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_plan_replaces_the_one_before),
        cmocka_unit_test(a_large_plan_is_read_shard_by_shard),
        cmocka_unit_test(parts_keep_the_digests_of_files_that_stay),
        cmocka_unit_test(a_pattern_makes_columns),
        cmocka_unit_test(the_target_is_set_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
