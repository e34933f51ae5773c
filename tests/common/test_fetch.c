/* Tests of common/fetch.c: extents come out whole, in the given order, whatever lies around. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/source.h"
#include "tests/support/backends.h"
#include "tests/support/check.h"
#include "tests/support/tmpdir.h"

enum { FILE_BYTES = 6000000 };

static int reset(void **state)
{
    (void)state;
    sm_backend_reset();
    sm_alloc_fail_after(-1);
    return 0;
}

/* Fetches all and compares each with the file's bytes. */
static void check_fetch(const sm_source *source, const sm_extent *extents, size_t n,
                        size_t inflight, const uint8_t *file)
{
    sm_error err = SM_ERROR_INIT;
    sm_fetch *fetch = NULL;
    sm_buf out = {0};
    SM_CHECK_OK(sm_fetch_open(source, extents, n, inflight, &fetch, &err), &err);
    for (size_t i = 0; i < n; i++) {
        SM_CHECK_OK(sm_fetch_next(fetch, &out, &err), &err);
        if (out.len != extents[i].len)
            fail_msg("extent %zu: %zu bytes", i, out.len);
        if (out.len > 0)
            assert_memory_equal(out.data, file + extents[i].offset, out.len);
    }
    SM_CHECK_FAILS(sm_fetch_next(fetch, &out, &err), &err, SM_ERR_INTERNAL, "extents were fetched");
    sm_fetch_close(&fetch);
    assert_null(fetch);
    sm_buf_free(&out);
}

static void check_everywhere(const sm_source *source, const sm_source *memory,
                             const sm_extent *extents, size_t n, const uint8_t *file)
{
    static const size_t INFLIGHT[] = {0, 1, 100000};
    for (size_t i = 0; i < SM_COUNT(SM_BACKENDS); i++)
        for (size_t k = 0; k < SM_COUNT(INFLIGHT) && sm_backend_use(i); k++)
            check_fetch(source, extents, n, INFLIGHT[k], file);
    check_fetch(memory, extents, n, 0, file);
}

static void extents_come_out_whole_and_in_order(void **state)
{
    (void)state;
    const sm_tmpdir dir = sm_tmpdir_make();
    const sm_tmppath path = sm_tmpdir_file(&dir, "f");
    uint8_t *file = sm_bytes_make(FILE_BYTES, 11);
    sm_file_write(path.path, file, FILE_BYTES);
    sm_error err = SM_ERROR_INIT;
    sm_source *source = NULL, *memory = NULL;
    SM_CHECK_OK(sm_source_open(path.path, &source, &err), &err);
    SM_CHECK_OK(sm_source_open_memory(file, FILE_BYTES, "mem", &memory, &err), &err);

    static const sm_extent CORNERS[] = {
        {0, 0},          {0, 10},
        {10, 20},        {30, 0},
        {UINT64_MAX, 0}, {30, 1 << 20},
        {30, 1},         {31, 3000000},
        {3000031, 5},    {4, 4},
        {4, 4},          {8, 4},
        {FILE_BYTES, 0}, {FILE_BYTES - 1, 1},
        {0, FILE_BYTES}, {7, 0},
    };
    check_everywhere(source, memory, CORNERS, SM_COUNT(CORNERS), file);
    check_everywhere(source, memory, NULL, 0, file);

    enum { N = 9000 };
    sm_extent *extents = calloc(N, sizeof(*extents));
    assert_non_null(extents);
    for (size_t i = 0; i < N; i++) /* touching, as tiles of a row-major file */
        extents[i] = (sm_extent){i * 600, 600};
    check_everywhere(source, memory, extents, N, file);
    for (size_t i = 0; i < N; i++) /* backwards, with gaps and empty ones */
        extents[i] = (sm_extent){(N - 1 - i) * 600, i % 7 == 0 ? 0 : 1 + i % 600};
    check_everywhere(source, memory, extents, N, file);
    for (size_t i = 0; i < N; i++) /* a sparse level */
        extents[i] = (sm_extent){0, i == N - 1 ? 1 : 0};
    check_everywhere(source, memory, extents, N, file);
    free(extents);
    sm_source_close(&memory);
    sm_source_close(&source);
    free(file);
    sm_tmpdir_remove(&dir);
}

static void an_extent_beyond_the_end_fails_alone_and_in_its_turn(void **state)
{
    (void)state;
    const sm_tmpdir dir = sm_tmpdir_make();
    const sm_tmppath path = sm_tmpdir_file(&dir, "f");
    sm_file_write(path.path, "0123456789", 10);
    static const sm_extent EXTENTS[] = {{0, 4}, {4, 7},  {UINT64_MAX, 1},     {4, UINT64_MAX},
                                        {4, 6}, {10, 1}, {UINT64_MAX - 1, 5}, {2, 2}};
    static const char *const WANT[] = {"0123", NULL, NULL, NULL, "456789", NULL, NULL, "23"};
    sm_error err = SM_ERROR_INIT;
    sm_source *sources[2] = {NULL, NULL};
    SM_CHECK_OK(sm_source_open(path.path, &sources[0], &err), &err);
    SM_CHECK_OK(sm_source_open_memory("0123456789", 10, "mem", &sources[1], &err), &err);
    for (size_t s = 0; s < 2; s++) {
        sm_fetch *fetch = NULL;
        sm_buf out = {0};
        SM_CHECK_OK(sm_fetch_open(sources[s], EXTENTS, SM_COUNT(EXTENTS), 0, &fetch, &err), &err);
        for (size_t i = 0; i < SM_COUNT(EXTENTS); i++) {
            const sm_status st = sm_fetch_next(fetch, &out, &err);
            if (st != (WANT[i] != NULL ? SM_OK : SM_ERR_CORRUPT))
                fail_msg("extent %zu: %s", i, sm_status_name(st));
            if (WANT[i] == NULL) {
                assert_true(err.offset == EXTENTS[i].offset);
                assert_non_null(strstr(err.message, "file ends at byte 10"));
                assert_int_equal(out.len, 0);
            } else {
                assert_int_equal(out.len, strlen(WANT[i]));
                assert_memory_equal(out.data, WANT[i], out.len);
            }
        }
        sm_buf_free(&out);
        sm_fetch_close(&fetch);
        sm_source_close(&sources[s]);
    }
    sm_tmpdir_remove(&dir);
}

static void a_file_cut_while_fetching_loses_only_what_is_gone(void **state)
{
    (void)state;
    const sm_tmpdir dir = sm_tmpdir_make();
    const sm_tmppath path = sm_tmpdir_file(&dir, "f");
    uint8_t *file = sm_bytes_make(FILE_BYTES, 12);
    static const sm_extent EXTENTS[] = {{0, 1000}, {1000, 1000}, {2000, 10}, {2010, 500}, {0, 9}};
    static const bool WANT[] = {true, false, false, false, true};
    for (size_t i = 0; i < SM_COUNT(SM_BACKENDS); i++) {
        if (!sm_backend_use(i))
            continue;
        sm_error err = SM_ERROR_INIT;
        sm_source *source = NULL;
        sm_fetch *fetch = NULL;
        sm_buf out = {0};
        sm_file_write(path.path, file, FILE_BYTES);
        SM_CHECK_OK(sm_source_open(path.path, &source, &err), &err);
        assert_int_equal(truncate(path.path, 1500), 0);
        SM_CHECK_OK(sm_fetch_open(source, EXTENTS, SM_COUNT(EXTENTS), 0, &fetch, &err), &err);
        for (size_t k = 0; k < SM_COUNT(EXTENTS); k++) {
            const sm_status st = sm_fetch_next(fetch, &out, &err);
            if (st != (WANT[k] ? SM_OK : SM_ERR_CORRUPT))
                fail_msg("extent %zu: %s", k, sm_status_name(st));
            if (WANT[k])
                assert_memory_equal(out.data, file + EXTENTS[k].offset, EXTENTS[k].len);
        }
        sm_buf_free(&out);
        sm_fetch_close(&fetch);
        sm_source_close(&source);
    }
    free(file);
    sm_tmpdir_remove(&dir);
}

static void closing_early_is_safe(void **state)
{
    (void)state;
    const sm_tmpdir dir = sm_tmpdir_make();
    const sm_tmppath path = sm_tmpdir_file(&dir, "f");
    uint8_t *file = sm_bytes_make(FILE_BYTES, 13);
    sm_file_write(path.path, file, FILE_BYTES);
    sm_extent extents[100];
    for (size_t i = 0; i < 100; i++)
        extents[i] = (sm_extent){(99 - i) * 60000, 60000};
    for (size_t i = 0; i < SM_COUNT(SM_BACKENDS); i++) {
        for (unsigned taken = 0; taken < 3 && sm_backend_use(i); taken++) {
            sm_error err = SM_ERROR_INIT;
            sm_source *source = NULL;
            sm_fetch *fetch = NULL;
            sm_buf out = {0};
            SM_CHECK_OK(sm_source_open(path.path, &source, &err), &err);
            SM_CHECK_OK(sm_fetch_open(source, extents, 100, 0, &fetch, &err), &err);
            for (unsigned k = 0; k < taken; k++)
                SM_CHECK_OK(sm_fetch_next(fetch, &out, &err), &err);
            sm_fetch_close(&fetch);
            sm_source_close(&source);
            sm_buf_free(&out);
        }
    }
    free(file);
    sm_tmpdir_remove(&dir);
}

static void every_failed_allocation_is_reported(void **state)
{
    (void)state;
    const sm_tmpdir dir = sm_tmpdir_make();
    const sm_tmppath path = sm_tmpdir_file(&dir, "f");
    uint8_t *file = sm_bytes_make(FILE_BYTES, 14);
    sm_file_write(path.path, file, FILE_BYTES);
    static const sm_extent EXTENTS[] = {{0, 3000000}, {5000000, 10}, {100, 2000000}, {5, 70000}};
    for (size_t i = 0; i < SM_COUNT(SM_BACKENDS); i++) {
        long n = 0;
        for (sm_status st = SM_ERR_NOMEM; st != SM_OK && sm_backend_use(i); n++) {
            sm_error err = SM_ERROR_INIT;
            sm_source *source = NULL;
            sm_fetch *fetch = NULL;
            sm_buf out = {0};
            SM_CHECK_OK(sm_source_open(path.path, &source, &err), &err);
            sm_alloc_fail_after(n);
            st = sm_fetch_open(source, EXTENTS, SM_COUNT(EXTENTS), 1, &fetch, &err);
            for (size_t k = 0; k < SM_COUNT(EXTENTS) && st == SM_OK; k++) {
                st = sm_fetch_next(fetch, &out, &err);
                if (st == SM_OK)
                    assert_memory_equal(out.data, file + EXTENTS[k].offset, EXTENTS[k].len);
            }
            sm_alloc_fail_after(-1);
            if (st != SM_OK)
                assert_int_equal(st, SM_ERR_NOMEM);
            sm_fetch_close(&fetch);
            sm_source_close(&source);
            sm_buf_free(&out);
        }
        assert_true(n == 0 || n > 5);
    }
    free(file);
    sm_tmpdir_remove(&dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(extents_come_out_whole_and_in_order, reset),
        cmocka_unit_test_teardown(an_extent_beyond_the_end_fails_alone_and_in_its_turn, reset),
        cmocka_unit_test_teardown(a_file_cut_while_fetching_loses_only_what_is_gone, reset),
        cmocka_unit_test_teardown(closing_early_is_safe, reset),
        cmocka_unit_test_teardown(every_failed_allocation_is_reported, reset),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
