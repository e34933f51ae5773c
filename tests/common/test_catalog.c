/* Tests of common/catalog*.c: generations, slides, filters, retry. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/buf.h"
#include "tests/common/test_catalog_support.h"

/* ---- open, change, publish ---- */

static void nothing_is_visible_before_the_commit(void **state)
{
    (void)state;
    fixture f;
    fixture_start(&f);
    sm_catalog *catalog = fixture_create(&f), *reader = NULL;
    add_slide(&f, catalog, "a.svs");
    SM_CHECK_FAILS(sm_catalog_open(f.file.path, &reader, &f.err), &f.err, SM_ERR_ARG,
                   "no such catalog");
    assert_int_equal(sm_catalog_generation(catalog), 1);
    fixture_commit(&f, &catalog);
    reader = fixture_open(&f);
    assert_string_equal(sm_catalog_root(reader), "/corpus");
    assert_string_equal(sm_catalog_path(reader), f.file.path);
    assert_int_equal(strlen(sm_catalog_uuid(reader)), 32);
    assert_int_equal(sm_catalog_generation(reader), 1);
    sm_catalog_close(&reader);
    assert_null(reader);
    sm_catalog_close(&reader); /* NULL inside is accepted */
    fixture_end(&f);
}

static void create_refuses_what_exists_and_relative_roots(void **state)
{
    (void)state;
    fixture f;
    fixture_start(&f);
    sm_catalog *catalog = NULL;
    SM_CHECK_FAILS(sm_catalog_create(f.file.path, "corpus", &f.config, &catalog, &f.err), &f.err,
                   SM_ERR_ARG, "no absolute path");
    catalog = fixture_create(&f);
    fixture_commit(&f, &catalog);
    assert_int_equal(sm_catalog_create(f.file.path, "/corpus", &f.config, &catalog, &f.err),
                     SM_ERR_ARG);
    assert_null(catalog);
    fixture_end(&f);
}

static void a_closed_change_leaves_no_trace(void **state)
{
    (void)state;
    fixture f;
    fixture_start(&f);
    sm_catalog *catalog = fixture_create(&f);
    fixture_commit(&f, &catalog);
    const unsigned files = sm_tmpdir_count(f.dir.path);
    catalog = fixture_change(&f);
    add_slide(&f, catalog, "a.svs");
    sm_catalog_close(&catalog);
    assert_int_equal(sm_tmpdir_count(f.dir.path), files);
    catalog = fixture_open(&f);
    uint64_t n = 1, bytes = 0;
    SM_CHECK_OK(sm_catalog_count(catalog, &(sm_slide_filter){0}, &n, &bytes, &f.err), &f.err);
    assert_int_equal(n, 0);
    sm_catalog_close(&catalog);
    fixture_end(&f);
}

static void a_reader_keeps_its_generation(void **state)
{
    (void)state;
    fixture f;
    fixture_start(&f);
    sm_catalog *catalog = fixture_create(&f);
    const int64_t id = add_slide(&f, catalog, "a.svs");
    fixture_commit(&f, &catalog);
    sm_catalog *old = fixture_open(&f);
    for (unsigned i = 0; i < SM_GENERATIONS_KEPT + 2; i++) {
        catalog = fixture_change(&f);
        assert_int_equal(sm_catalog_generation(catalog), i + 2);
        SM_CHECK_OK(sm_catalog_set_present(catalog, id, i % 2 == 1, &f.err), &f.err);
        fixture_commit(&f, &catalog);
        assert_true(get_slide(&f, old, id).present);
    }
    sm_catalog *new = fixture_open(&f), *kept = NULL;
    const uint64_t newest = sm_catalog_generation(new);
    assert_false(get_slide(&f, new, id).present);
    SM_CHECK_OK(sm_catalog_open_generation(f.file.path, newest, &kept, &f.err), &f.err);
    sm_catalog_close(&kept);
    SM_CHECK_OK(sm_catalog_open_generation(f.file.path, newest - 1, &kept, &f.err), &f.err);
    assert_int_equal(sm_catalog_generation(kept), newest - 1);
    assert_true(get_slide(&f, kept, id).present);
    sm_catalog_close(&kept);
    SM_CHECK_FAILS(sm_catalog_open_generation(f.file.path, 1, &kept, &f.err), &f.err, SM_ERR_BUSY,
                   "generation 1 is gone");
    sm_catalog_close(&new);
    sm_catalog_close(&old);
    fixture_end(&f);
}

/* Slides remember numbers of generations: numbers that began anew would make new events old. */
static void a_copy_without_its_folder_counts_on(void **state)
{
    (void)state;
    fixture f;
    fixture_start(&f);
    sm_catalog *catalog = fixture_create(&f);
    fixture_commit(&f, &catalog);
    for (uint64_t n = 2; n <= 4; n++) {
        catalog = fixture_change(&f);
        fixture_commit(&f, &catalog);
    }
    const sm_tmppath copy = sm_tmpdir_file(&f.dir, "copy.smc");
    const sm_tmppath folder = sm_tmpdir_file(&f.dir, "copy.smc.d");
    size_t len = 0;
    uint8_t *bytes = sm_file_read(f.file.path, &len);
    sm_file_write(copy.path, bytes, len);
    free(bytes);
    for (uint64_t n = 5; n <= 6; n++) {
        SM_CHECK_OK(sm_catalog_change(copy.path, &f.config, &catalog, &f.err), &f.err);
        assert_int_equal(sm_catalog_generation(catalog), n);
        SM_CHECK_OK(sm_catalog_commit(&catalog, &f.err), &f.err);
    }
    uint64_t newest = 0;
    SM_CHECK_OK(sm_generation_newest(copy.path, &newest, &f.err), &f.err);
    assert_int_equal(newest, 6);
    assert_int_equal(access(folder.path, F_OK), 0);
    fixture_end(&f);
}

static void a_reader_refuses_to_change(void **state)
{
    (void)state;
    fixture f;
    fixture_start(&f);
    sm_catalog *catalog = fixture_create(&f);
    const int64_t id = add_slide(&f, catalog, "a.svs");
    fixture_commit(&f, &catalog);
    catalog = fixture_open(&f);
    uint64_t n = 0;
    const sm_target target = {.dir = "/out", .options = ""};
    static const char WHY[] = "open for reading only";
    SM_CHECK_FAILS(sm_catalog_set_present(catalog, id, false, &f.err), &f.err, SM_ERR_ARG, WHY);
    SM_CHECK_FAILS(sm_catalog_begin_plan(catalog, 1, &f.err), &f.err, SM_ERR_ARG, WHY);
    SM_CHECK_FAILS(sm_catalog_lease(catalog, id, &f.err), &f.err, SM_ERR_ARG, WHY);
    SM_CHECK_FAILS(sm_catalog_set_target(catalog, &target, &f.err), &f.err, SM_ERR_ARG, WHY);
    SM_CHECK_FAILS(sm_catalog_retry(catalog, &(sm_slide_filter){0}, &n, &f.err), &f.err, SM_ERR_ARG,
                   WHY);
    SM_CHECK_FAILS(sm_catalog_commit(&catalog, &f.err), &f.err, SM_ERR_ARG, WHY);
    sm_catalog_close(&catalog);
    fixture_end(&f);
}

static void paths_with_a_meaning_in_uris_work(void **state)
{
    (void)state;
    static const char *const NAMES[] = {"a?b#c%20d.smc", "h\xC3\xA9 \xFF.smc", "file:x&y=z.smc",
                                        "?immutable=0"};
    fixture f;
    fixture_start(&f);
    for (size_t i = 0; i < SM_COUNT(NAMES); i++) {
        f.file = sm_tmpdir_file(&f.dir, NAMES[i]);
        sm_catalog *catalog = fixture_create(&f);
        add_slide(&f, catalog, "a.svs");
        fixture_commit(&f, &catalog);
        catalog = fixture_open(&f);
        assert_string_equal(get_slide(&f, catalog, 1).path, "a.svs");
        sm_catalog_close(&catalog);
    }
    fixture_end(&f);
}

/* ---- slides ---- */

static void slides_come_back_as_they_were_put(void **state)
{
    (void)state;
    fixture f;
    fixture_start(&f);
    sm_catalog *catalog = fixture_create(&f);
    const sm_slide_row row = {.path = "x/001/a.svs",
                              .size_bytes = UINT64_C(5000000000),
                              .mtime_ns = -5,
                              .digest_origin = SM_DIGEST_GIVEN,
                              .digest = digest_of(SM_DIGEST_MD5, 9),
                              .external_id = "000123",
                              .vendor = "aperio",
                              .brick = "h:/b/1",
                              .w_px = 100000,
                              .h_px = 1,
                              .mpp = 0.25,
                              .objective = 40,
                              .present = true};
    const int64_t id = put_slide(&f, catalog, &row);
    const int64_t bare =
        put_slide(&f, catalog, &(sm_slide_row){.path = "b.svs", .size_bytes = SM_NO_SIZE});
    fixture_commit(&f, &catalog);
    catalog = fixture_open(&f);
    sm_slide_row got = get_slide(&f, catalog, id);
    assert_string_equal(got.path, row.path);
    assert_int_equal(got.size_bytes, row.size_bytes);
    assert_int_equal(got.mtime_ns, -5);
    assert_int_equal(got.digest_origin, SM_DIGEST_GIVEN);
    assert_true(sm_digest_equal(&got.digest, &row.digest));
    assert_false(got.has_sha256);
    assert_string_equal(got.external_id, "000123");
    assert_string_equal(got.vendor, "aperio");
    assert_string_equal(got.brick, "h:/b/1");
    assert_int_equal(got.w_px, 100000);
    assert_true(got.mpp == 0.25 && got.objective == 40 && got.present);
    assert_int_equal(got.state, SM_SLIDE_NEW);
    assert_int_equal(got.shard, SM_NO_SHARD);
    got = get_slide(&f, catalog, bare);
    assert_true(got.size_bytes == SM_NO_SIZE && got.mtime_ns == 0 && !got.present);
    assert_true(got.digest_origin == SM_DIGEST_UNKNOWN && got.mpp == 0 && got.w_px == 0);
    assert_true(got.external_id == NULL && got.vendor == NULL && got.brick == NULL);
    bool found = true;
    SM_CHECK_OK(sm_catalog_get(catalog, 99, &got, &found, &f.err), &f.err);
    assert_false(found);
    sm_catalog_close(&catalog);
    fixture_end(&f);
}

static void any_bytes_are_a_path(void **state)
{
    (void)state;
    static const struct {
        const char *path, *glob;
    } CASES[] = {
        {"\xFF\xFE/\x80.svs", "\xFF\xFE/*"},
        {"it's; DROP TABLE slide; --.svs", "it's; DROP*"},
        {"new\nline\t\"quoted\" \\back.svs", "new\nline*"},
        {"%_?*[x].svs", "%_[?][*][[]x].svs"},
        {"h\xC3\xA9llo/\xF0\x9F\x94\xAC.svs", "h\xC3\xA9llo/?.svs"},
    };
    fixture f;
    fixture_start(&f);
    sm_catalog *catalog = fixture_create(&f);
    for (size_t i = 0; i < SM_COUNT(CASES); i++)
        add_slide(&f, catalog, CASES[i].path);
    fixture_commit(&f, &catalog);
    catalog = fixture_open(&f);
    for (size_t i = 0; i < SM_COUNT(CASES); i++) {
        const sm_slide_filter filter = {.glob = CASES[i].glob};
        sm_slide_cursor *cursor = NULL;
        sm_slide_row row;
        bool found = false, more = false;
        SM_CHECK_OK(sm_catalog_find(catalog, CASES[i].path, &row, &found, &f.err), &f.err);
        assert_true(found);
        assert_int_equal(row.id, i + 1);
        SM_CHECK_OK(sm_catalog_slides(catalog, &filter, &cursor, &f.err), &f.err);
        SM_CHECK_OK(sm_slide_cursor_next(cursor, &row, &more, &f.err), &f.err);
        if (!more || strcmp(row.path, CASES[i].path) != 0)
            fail_msg("case %zu: its glob does not find it", i);
        SM_CHECK_OK(sm_slide_cursor_next(cursor, &row, &more, &f.err), &f.err);
        assert_false(more);
        sm_slide_cursor_close(&cursor);
    }
    sm_catalog_close(&catalog);
    fixture_end(&f);
}

static void hostile_rows_are_not_put(void **state)
{
    (void)state;
    char long_brick[400];
    memset(long_brick, 'b', sizeof(long_brick) - 1);
    long_brick[sizeof(long_brick) - 1] = '\0';
    const sm_slide_row rows[] = {{.path = "../x.svs"},
                                 {.path = "/x.svs"},
                                 {.path = ""},
                                 {.path = "a//b"},
                                 {.path = "a", .mpp = -1},
                                 {.path = "a", .brick = long_brick},
                                 {.path = "a", .size_bytes = UINT64_MAX - 1}};
    fixture f;
    fixture_start(&f);
    sm_catalog *catalog = fixture_create(&f);
    for (size_t i = 0; i < SM_COUNT(rows); i++) {
        int64_t id = 0;
        bool added = false;
        if (sm_catalog_put(catalog, &rows[i], &id, &added, &f.err) != SM_ERR_ARG)
            fail_msg("row %zu was taken", i);
    }
    fixture_commit(&f, &catalog);
    fixture_end(&f);
}

static void put_updates_what_it_knows(void **state)
{
    (void)state;
    fixture f;
    fixture_start(&f);
    sm_catalog *catalog = fixture_create(&f);
    const int64_t id = put_slide(&f, catalog,
                                 &(sm_slide_row){.path = "a.svs",
                                                 .size_bytes = 10,
                                                 .mtime_ns = 3,
                                                 .vendor = "aperio",
                                                 .brick = "h:/1",
                                                 .present = true});
    int64_t again = 0;
    bool added = true;
    const sm_slide_row update = {
        .path = "a.svs", .size_bytes = SM_NO_SIZE, .external_id = "07", .brick = "h:/2"};
    SM_CHECK_OK(sm_catalog_put(catalog, &update, &again, &added, &f.err), &f.err);
    assert_false(added);
    assert_int_equal(again, id);
    const sm_slide_row row = get_slide(&f, catalog, id);
    assert_true(row.size_bytes == 10 && row.mtime_ns == 3 && row.present);
    assert_string_equal(row.vendor, "aperio");
    assert_string_equal(row.external_id, "07");
    assert_string_equal(row.brick, "h:/2");
    sm_catalog_close(&catalog);
    fixture_end(&f);
}

static void given_digests_must_agree(void **state)
{
    (void)state;
    fixture f;
    fixture_start(&f);
    sm_catalog *catalog = fixture_create(&f);
    sm_slide_row row = {.path = "a.svs", .size_bytes = SM_NO_SIZE};
    const int64_t id = put_slide(&f, catalog, &row);
    row.digest_origin = SM_DIGEST_GIVEN;
    row.digest = digest_of(SM_DIGEST_MD5, 1);
    put_slide(&f, catalog, &row);
    put_slide(&f, catalog, &row); /* the same again */
    assert_int_equal(get_slide(&f, catalog, id).digest.kind, SM_DIGEST_MD5);
    row.digest = sha(2);
    put_slide(&f, catalog, &row); /* another kind beside it: the stronger one decides */
    assert_int_equal(get_slide(&f, catalog, id).digest.kind, SM_DIGEST_SHA256);
    int64_t other = 0;
    bool added = false;
    row.digest = digest_of(SM_DIGEST_MD5, 7);
    row.vendor = "nobody";
    SM_CHECK_FAILS(sm_catalog_put(catalog, &row, &other, &added, &f.err), &f.err, SM_ERR_CORRUPT,
                   "one list is wrong");
    assert_null(get_slide(&f, catalog, id).vendor); /* nothing of it was taken */
    fixture_commit(&f, &catalog);
    fixture_end(&f);
}

static void a_given_digest_against_what_was_read_quarantines(void **state)
{
    (void)state;
    fixture f;
    char event[96];
    fixture_start(&f);
    sm_catalog *catalog = fixture_create(&f);
    const int64_t good = add_slide(&f, catalog, "a.svs"), bad = add_slide(&f, catalog, "b.svs");
    sm_attempt_row attempt = make_attempt(event, RUN_A, 1, good, SM_OUTCOME_OK, 5);
    put_attempt(&f, catalog, &attempt);
    attempt = make_attempt(event, RUN_A, 2, bad, SM_OUTCOME_OK, 5);
    attempt.output.path = "out/b.ome.tiff";
    put_attempt(&f, catalog, &attempt);
    sm_slide_row given = {.path = "a.svs",
                          .size_bytes = SM_NO_SIZE,
                          .digest_origin = SM_DIGEST_GIVEN,
                          .digest = sha(5)};
    put_slide(&f, catalog, &given);
    sm_slide_row row = get_slide(&f, catalog, good);
    assert_int_equal(row.state, SM_SLIDE_DONE);
    assert_int_equal(row.digest_origin, SM_DIGEST_GIVEN);
    assert_true(row.checked_ns != 0);
    given.path = "b.svs";
    given.digest = sha(6);
    put_slide(&f, catalog, &given);
    row = get_slide(&f, catalog, bad);
    assert_int_equal(row.state, SM_SLIDE_QUARANTINED);
    assert_string_equal(row.error_class, "digest");
    assert_int_equal(row.checked_ns, 0);
    assert_true(sm_digest_equal(&row.digest, &given.digest));
    sm_catalog_close(&catalog);
    fixture_end(&f);
}

static void a_changed_file_is_new_again(void **state)
{
    (void)state;
    fixture f;
    char event[96];
    fixture_start(&f);
    sm_catalog *catalog = fixture_create(&f);
    const int64_t id = add_slide(&f, catalog, "a.svs");
    sm_attempt_row attempt = make_attempt(event, RUN_A, 1, id, SM_OUTCOME_OK, 5);
    put_attempt(&f, catalog, &attempt);
    assert_int_equal(get_slide(&f, catalog, id).digest_origin, SM_DIGEST_LEARNED);
    SM_CHECK_OK(sm_catalog_changed(catalog, id, 77, 8, &f.err), &f.err);
    sm_slide_row row = get_slide(&f, catalog, id);
    assert_int_equal(row.state, SM_SLIDE_NEW);
    assert_int_equal(row.digest_origin, SM_DIGEST_UNKNOWN);
    assert_true(row.size_bytes == 77 && row.mtime_ns == 8 && row.checked_ns == 0);
    const sm_slide_row given = {.path = "a.svs",
                                .size_bytes = SM_NO_SIZE,
                                .digest_origin = SM_DIGEST_GIVEN,
                                .digest = sha(6)};
    put_slide(&f, catalog, &given);
    SM_CHECK_OK(sm_catalog_changed(catalog, id, 78, 9, &f.err), &f.err);
    assert_int_equal(get_slide(&f, catalog, id).digest_origin, SM_DIGEST_GIVEN);
    SM_CHECK_FAILS(sm_catalog_changed(catalog, 99, 1, 1, &f.err), &f.err, SM_ERR_ARG,
                   "has no slide 99");
    sm_catalog_close(&catalog);
    fixture_end(&f);
}

/* ---- filters ---- */

static void filters_choose_slides(void **state)
{
    (void)state;
    fixture f;
    char event[96];
    fixture_start(&f);
    sm_catalog *catalog = fixture_create(&f);
    static const uint64_t SIZES[] = {30, 10, 1000, 30, SM_NO_SIZE};
    for (unsigned i = 0; i < 5; i++) {
        char path[32];
        snprintf(path, sizeof(path), "%s/%u.svs", i < 3 ? "skin" : "lung", i + 1);
        put_slide(&f, catalog,
                  &(sm_slide_row){.path = path,
                                  .size_bytes = SIZES[i],
                                  .brick = i % 2 == 0 ? "h:/even" : "h:/odd",
                                  .present = i != 4});
    }
    const sm_part_row part = {.path = "skin/2.dat", .size_bytes = 25};
    SM_CHECK_OK(sm_catalog_set_parts(catalog, 2, &part, 1, &f.err), &f.err);
    SM_CHECK_OK(sm_catalog_begin_plan(catalog, 2, &f.err), &f.err);
    SM_CHECK_OK(sm_catalog_assign(catalog, 1, 1, &f.err), &f.err);
    SM_CHECK_OK(sm_catalog_assign(catalog, 4, 1, &f.err), &f.err);
    sm_attempt_row attempt = make_attempt(event, RUN_A, 1, 2, SM_OUTCOME_FAILED, 0);
    put_attempt(&f, catalog, &attempt);
    attempt = make_attempt(event, RUN_A, 2, 3, SM_OUTCOME_OK, 0);
    put_attempt(&f, catalog, &attempt);
    const uint32_t shard = 1;
    const struct {
        const char *name;
        sm_slide_filter filter;
        int64_t ids[6];
        uint64_t bytes;
    } cases[] = {
        {"all", {0}, {1, 2, 3, 4, 5}, 1095},
        {"shard", {.shard = &shard}, {1, 4}, 60},
        {"failed", {.by_state = 1u << SM_SLIDE_FAILED}, {2}, 35},
        {"failed or done", {.by_state = 1u << SM_SLIDE_FAILED | 1u << SM_SLIDE_DONE}, {2, 3}, 1035},
        {"class", {.error_class = "format"}, {2}, 35},
        {"other class", {.error_class = "io"}, {0}, 0},
        {"brick", {.brick = "h:/odd"}, {2, 4}, 65},
        {"unknown brick", {.brick = "h:/none"}, {0}, 0},
        {"glob", {.glob = "lung/*"}, {4, 5}, 30},
        {"missing", {.only_missing = true}, {5}, 0},
        {"unchecked", {.only_unchecked = true}, {1, 2, 4, 5}, 95},
        {"limit", {.limit = 2}, {1, 2}, 65},
        {"largest", {.largest_first = true}, {3, 2, 1, 4, 5}, 1095},
        {"largest two", {.largest_first = true, .limit = 2}, {3, 2}, 0},
        {"and", {.glob = "skin/*", .brick = "h:/even", .only_unchecked = true}, {1}, 30},
    };
    fixture_commit(&f, &catalog);
    catalog = fixture_open(&f);
    for (size_t i = 0; i < SM_COUNT(cases); i++) {
        int64_t ids[8] = {0};
        uint64_t n = 0, bytes = 0;
        const unsigned got = ids_of(&f, catalog, &cases[i].filter, ids, 8);
        if (memcmp(ids, cases[i].ids, sizeof(cases[i].ids)) != 0)
            fail_msg("%s: %u slides, first %d", cases[i].name, got, (int)ids[0]);
        if (cases[i].filter.largest_first)
            continue;
        SM_CHECK_OK(sm_catalog_count(catalog, &cases[i].filter, &n, &bytes, &f.err), &f.err);
        if (n != got || bytes != cases[i].bytes)
            fail_msg("%s: counts %" PRIu64 " slides, %" PRIu64 " bytes", cases[i].name, n, bytes);
    }
    sm_slide_cursor *cursor = NULL;
    SM_CHECK_FAILS(
        sm_catalog_slides(catalog, &(sm_slide_filter){.by_state = 1u << 20}, &cursor, &f.err),
        &f.err, SM_ERR_ARG, "does not exist");
    sm_catalog_close(&catalog);
    fixture_end(&f);
}

/* ---- retry ---- */

static void retry_takes_what_it_is_asked_for(void **state)
{
    (void)state;
    fixture f;
    char event[96];
    fixture_start(&f);
    sm_catalog *catalog = fixture_create(&f);
    static const sm_outcome_kind OUTCOMES[] = {SM_OUTCOME_FAILED, SM_OUTCOME_QUARANTINED,
                                               SM_OUTCOME_OK, SM_OUTCOME_FAILED};
    for (unsigned i = 0; i < 4; i++) {
        char path[16];
        snprintf(path, sizeof(path), "%u.svs", i + 1);
        const int64_t id = add_slide(&f, catalog, path);
        const sm_attempt_row attempt = make_attempt(event, RUN_A, i, id, OUTCOMES[i], 1);
        put_attempt(&f, catalog, &attempt);
    }
    SM_CHECK_OK(sm_catalog_begin_plan(catalog, 1, &f.err), &f.err);
    SM_CHECK_OK(sm_catalog_assign(catalog, 4, 0, &f.err), &f.err);
    const int64_t leased = add_slide(&f, catalog, "5.svs");
    SM_CHECK_OK(sm_catalog_lease(catalog, leased, &f.err), &f.err);
    assert_int_equal(state_of(&f, catalog, leased), SM_SLIDE_LEASED);
    uint64_t n = 9;
    SM_CHECK_OK(
        sm_catalog_retry(catalog, &(sm_slide_filter){.by_state = 1u << SM_SLIDE_NEW}, &n, &f.err),
        &f.err);
    assert_int_equal(n, 0);
    SM_CHECK_OK(
        sm_catalog_retry(catalog, &(sm_slide_filter){.glob = "[14].svs", .limit = 1}, &n, &f.err),
        &f.err);
    assert_int_equal(n, 1);
    sm_slide_row row = get_slide(&f, catalog, 1);
    assert_true(row.state == SM_SLIDE_NEW && row.error == NULL && row.error_class == NULL);
    assert_int_equal(row.attempts, 1);
    SM_CHECK_OK(sm_catalog_retry(catalog, &(sm_slide_filter){0}, &n, &f.err), &f.err);
    assert_int_equal(n, 3);
    assert_int_equal(state_of(&f, catalog, 2), SM_SLIDE_NEW);
    assert_int_equal(state_of(&f, catalog, 3), SM_SLIDE_DONE);
    assert_int_equal(state_of(&f, catalog, 4), SM_SLIDE_PLANNED);
    assert_int_equal(state_of(&f, catalog, leased), SM_SLIDE_NEW);
    SM_CHECK_OK(
        sm_catalog_retry(catalog, &(sm_slide_filter){.by_state = 1u << SM_SLIDE_DONE}, &n, &f.err),
        &f.err);
    assert_int_equal(n, 1);
    fixture_commit(&f, &catalog);
    fixture_end(&f);
}

/* ---- names, memory ---- */

static void names_and_states_agree(void **state)
{
    (void)state;
    for (unsigned i = 0; i < SM_SLIDE_STATES; i++)
        assert_int_equal(sm_slide_state_parse(sm_slide_state_name((sm_slide_state)i)), i);
    assert_int_equal(sm_slide_state_parse("nothing"), SM_SLIDE_STATES);
    assert_string_equal(sm_slide_state_name(SM_SLIDE_STATES), "unknown");
    assert_string_equal(sm_phase_name(SM_PHASE_COPY_IN), "copy-in");
    assert_string_equal(sm_attempt_kind_name(SM_ATTEMPT_CHECK_OUTPUT), "check-output");
    assert_string_equal(sm_outcome_kind_name(SM_OUTCOME_LOST), "lost");
    assert_non_null(strstr(sm_catalog_library(), "SQLite 3."));
}

/* One of everything that allocates; the first failure ends it. */
static sm_status use_all(fixture *f, sm_catalog **catalog)
{
    static const char *const NAMES[] = {"patient"};
    static const char *const VALUES[] = {"0001"};
    sm_slide_cursor *cursor = NULL;
    sm_slide_row row = {.path = "a.svs", .size_bytes = 3, .brick = "h:/1", .present = true};
    sm_catalog_summary summary = {0};
    const sm_part_row part = {.path = "p", .size_bytes = 1};
    const sm_target target = {.dir = "/out", .options = "x"};
    int64_t id = 0;
    bool added = false, more = false;
    sm_status st = sm_catalog_change(f->file.path, &f->config, catalog, &f->err);
    if (st == SM_OK)
        st = sm_catalog_put(*catalog, &row, &id, &added, &f->err);
    if (st == SM_OK)
        st = sm_catalog_set_parts(*catalog, id, &part, 1, &f->err);
    if (st == SM_OK)
        st = sm_catalog_set_parts(*catalog, id, &part, 1, &f->err);
    if (st == SM_OK)
        st = sm_catalog_set_pattern(*catalog, "{patient}", NAMES, 1, &f->err);
    if (st == SM_OK)
        st = sm_catalog_set_fields(*catalog, id, VALUES, 1, &f->err);
    if (st == SM_OK)
        st = sm_catalog_set_target(*catalog, &target, &f->err);
    if (st == SM_OK)
        st = sm_catalog_begin_plan(*catalog, 1, &f->err);
    if (st == SM_OK)
        st = sm_catalog_assign(*catalog, id, 0, &f->err);
    if (st == SM_OK)
        st = sm_catalog_summarize(*catalog, &summary, &f->err);
    sm_catalog_summary_clear(&summary);
    if (st == SM_OK)
        st = sm_catalog_slides(*catalog, &(sm_slide_filter){.largest_first = true}, &cursor,
                               &f->err);
    if (st == SM_OK)
        st = sm_slide_cursor_next(cursor, &row, &more, &f->err);
    sm_slide_cursor_close(&cursor);
    return st == SM_OK ? sm_catalog_commit(catalog, &f->err) : st;
}

static void every_failed_allocation_is_told(void **state)
{
    (void)state;
    fixture f;
    fixture_start(&f);
    sm_catalog *catalog = fixture_create(&f);
    fixture_commit(&f, &catalog);
    bool done = false;
    for (long i = 0; !done; i++) {
        assert_true(i < 2000);
        sm_alloc_fail_after(i);
        const sm_status st = use_all(&f, &catalog);
        sm_alloc_fail_after(-1);
        done = st == SM_OK;
        if (st != SM_OK && st != SM_ERR_NOMEM)
            fail_msg("allocation %ld: %s: %s", i, sm_status_name(st), f.err.message);
        sm_catalog_close(&catalog);
        if (!done) {
            catalog = fixture_open(&f); /* nothing of it was published */
            assert_int_equal(sm_catalog_generation(catalog), 1);
            sm_catalog_close(&catalog);
        }
    }
    for (long i = 0;; i++) { /* reading */
        sm_alloc_fail_after(i);
        const sm_status st = sm_catalog_open(f.file.path, &catalog, &f.err);
        sm_alloc_fail_after(-1);
        if (st == SM_OK)
            break;
        assert_int_equal(st, SM_ERR_NOMEM);
    }
    sm_catalog_close(&catalog);
    fixture_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_visible_before_the_commit),
        cmocka_unit_test(create_refuses_what_exists_and_relative_roots),
        cmocka_unit_test(a_closed_change_leaves_no_trace),
        cmocka_unit_test(a_reader_keeps_its_generation),
        cmocka_unit_test(a_copy_without_its_folder_counts_on),
        cmocka_unit_test(a_reader_refuses_to_change),
        cmocka_unit_test(paths_with_a_meaning_in_uris_work),
        cmocka_unit_test(slides_come_back_as_they_were_put),
        cmocka_unit_test(any_bytes_are_a_path),
        cmocka_unit_test(hostile_rows_are_not_put),
        cmocka_unit_test(put_updates_what_it_knows),
        cmocka_unit_test(given_digests_must_agree),
        cmocka_unit_test(a_given_digest_against_what_was_read_quarantines),
        cmocka_unit_test(a_changed_file_is_new_again),
        cmocka_unit_test(filters_choose_slides),
        cmocka_unit_test(retry_takes_what_it_is_asked_for),
        cmocka_unit_test(names_and_states_agree),
        cmocka_unit_test(every_failed_allocation_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
