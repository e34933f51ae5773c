/* Tests of common/source.c and stream.c: every byte once, in order, or a clear error. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/source.h"
#include "tests/support/backends.h"
#include "tests/support/check.h"
#include "tests/support/tmpdir.h"

static int reset(void **state)
{
    (void)state;
    sm_backend_reset();
    sm_alloc_fail_after(-1);
    return 0;
}

/* Streams all of source and compares with want. */
static void check_stream(const sm_source *source, const sm_stream_config *config,
                         const uint8_t *want, size_t len)
{
    sm_error err = SM_ERROR_INIT;
    sm_stream *stream = NULL;
    SM_CHECK_OK(sm_stream_open(source, config, &stream, &err), &err);
    size_t at = 0;
    sm_block block;
    for (;;) {
        SM_CHECK_OK(sm_stream_next(stream, &block, &err), &err);
        assert_true(block.offset == at);
        if (block.len == 0)
            break;
        assert_true(block.len <= len - at);
        assert_memory_equal(block.bytes, want + at, block.len);
        at += block.len;
    }
    assert_int_equal(at, len);
    SM_CHECK_OK(sm_stream_next(stream, &block, &err), &err); /* the end stays the end */
    assert_int_equal(block.len, 0);
    sm_stream_close(&stream);
    assert_null(stream);
}

static void stream_gives_every_byte_in_order(void **state)
{
    (void)state;
    static const size_t LENS[] = {0, 1, 4095, 4096, 4097, 65536, 1000003};
    static const sm_stream_config CONFIGS[] = {
        {.block_bytes = 4096, .depth = 1},
        {.block_bytes = 5000, .depth = 3}, /* rounded up to pages */
        {.block_bytes = 65536, .depth = 32},
        {.block_bytes = 0, .depth = 0},
        {.block_bytes = 65536, .depth = 4, .past_cache = true},
        {.block_bytes = 1 << 20, .depth = 2, .past_cache = true},
    };
    const sm_tmpdir dir = sm_tmpdir_make();
    const sm_tmppath file = sm_tmpdir_file(&dir, "f");
    uint8_t *bytes = sm_bytes_make(1000003, 7);
    for (size_t n = 0; n < SM_COUNT(LENS); n++) {
        sm_error err = SM_ERROR_INIT;
        sm_source *source = NULL;
        sm_file_write(file.path, bytes, LENS[n]);
        SM_CHECK_OK(sm_source_open(file.path, &source, &err), &err);
        assert_true(sm_source_size(source) == LENS[n]);
        assert_string_equal(sm_source_path(source), file.path);
        for (size_t i = 0; i < SM_COUNT(SM_BACKENDS); i++)
            for (size_t k = 0; k < SM_COUNT(CONFIGS) && sm_backend_use(i); k++)
                check_stream(source, &CONFIGS[k], bytes, LENS[n]);
        SM_CHECK_OK(sm_source_check_unchanged(source, &err), &err);
        sm_source_close(&source);
        SM_CHECK_OK(sm_source_open_memory(bytes, LENS[n], "mem", &source, &err), &err);
        assert_true(sm_source_is_local(source));
        check_stream(source, &CONFIGS[1], bytes, LENS[n]);
        check_stream(source, NULL, bytes, LENS[n]);
        SM_CHECK_OK(sm_source_check_unchanged(source, &err), &err);
        sm_source_close(&source);
    }
    free(bytes);
    sm_tmpdir_remove(&dir);
}

static void stream_says_which_back_end_reads(void **state)
{
    (void)state;
    const sm_tmpdir dir = sm_tmpdir_make();
    const sm_tmppath file = sm_tmpdir_file(&dir, "f");
    sm_file_write(file.path, "x", 1);
    sm_error err = SM_ERROR_INIT;
    sm_source *source = NULL;
    sm_stream *stream = NULL;
    setenv("SLIDEMILL_IO", "threads", 1);
    SM_CHECK_OK(sm_source_open(file.path, &source, &err), &err);
    SM_CHECK_OK(sm_stream_open(source, NULL, &stream, &err), &err);
    assert_string_equal(sm_stream_backend(stream), "threads (SLIDEMILL_IO=threads)");
    sm_stream_close(&stream);
    sm_source_close(&source);
    sm_tmpdir_remove(&dir);
}

static void a_file_cut_while_streaming_is_corrupt_not_short(void **state)
{
    (void)state;
    const sm_tmpdir dir = sm_tmpdir_make();
    const sm_tmppath file = sm_tmpdir_file(&dir, "f");
    uint8_t *bytes = sm_bytes_make(1 << 20, 8);
    for (size_t i = 0; i < SM_COUNT(SM_BACKENDS); i++) {
        if (!sm_backend_use(i))
            continue;
        sm_error err = SM_ERROR_INIT;
        sm_source *source = NULL;
        sm_stream *stream = NULL;
        sm_file_write(file.path, bytes, 1 << 20);
        SM_CHECK_OK(sm_source_open(file.path, &source, &err), &err);
        const sm_stream_config config = {.block_bytes = 65536, .depth = 2};
        SM_CHECK_OK(sm_stream_open(source, &config, &stream, &err), &err);
        sm_block block;
        SM_CHECK_OK(sm_stream_next(stream, &block, &err), &err);
        assert_int_equal(truncate(file.path, 500001), 0);
        sm_status st = SM_OK;
        while (st == SM_OK && block.len > 0)
            st = sm_stream_next(stream, &block, &err);
        assert_int_equal(st, SM_ERR_CORRUPT);
        assert_true(err.offset == 500001);
        assert_non_null(strstr(err.message, "it had 1048576 bytes when opened, at byte 500001"));
        assert_non_null(strstr(err.message, file.path));
        /* said again, and nothing after it */
        SM_CHECK_FAILS(sm_stream_next(stream, &block, &err), &err, SM_ERR_CORRUPT, "500001");
        assert_int_equal(block.len, 0);
        sm_stream_close(&stream);
        SM_CHECK_FAILS(sm_source_check_unchanged(source, &err), &err, SM_ERR_CORRUPT,
                       "changed while read");
        SM_CHECK_FAILS(sm_source_pread(source, bytes, 10, 500000, &err), &err, SM_ERR_CORRUPT,
                       "file ends at byte 500001");
        sm_source_close(&source);
    }
    free(bytes);
    sm_tmpdir_remove(&dir);
}

static void a_grown_file_is_streamed_to_its_old_end(void **state)
{
    (void)state;
    const sm_tmpdir dir = sm_tmpdir_make();
    const sm_tmppath file = sm_tmpdir_file(&dir, "f");
    uint8_t *bytes = sm_bytes_make(100000, 9);
    sm_error err = SM_ERROR_INIT;
    sm_source *source = NULL;
    sm_file_write(file.path, bytes, 70000);
    SM_CHECK_OK(sm_source_open(file.path, &source, &err), &err);
    sm_file_write(file.path, bytes, 100000);
    const sm_stream_config direct = {.block_bytes = 8192, .past_cache = true};
    check_stream(source, NULL, bytes, 70000);
    check_stream(source, &direct, bytes, 70000);
    SM_CHECK_FAILS(sm_source_check_unchanged(source, &err), &err, SM_ERR_CORRUPT, "size");
    sm_source_close(&source);
    free(bytes);
    sm_tmpdir_remove(&dir);
}

static void pread_is_exact_or_fails(void **state)
{
    (void)state;
    const sm_tmpdir dir = sm_tmpdir_make();
    const sm_tmppath file = sm_tmpdir_file(&dir, "f");
    sm_file_write(file.path, "0123456789", 10);
    static const struct {
        const char *name;
        uint64_t offset;
        size_t len;
        bool ok;
    } cases[] = {
        {"all", 0, 10, true},
        {"middle", 3, 4, true},
        {"nothing at the end", 10, 0, true},
        {"one beyond", 10, 1, false},
        {"across", 5, 6, false},
        {"far", UINT64_MAX, 1, false},
        {"sum overflows", UINT64_MAX - 3, 8, false},
        {"nothing far beyond", 11, 0, false},
    };
    sm_error err = SM_ERROR_INIT;
    sm_source *sources[2] = {NULL, NULL};
    SM_CHECK_OK(sm_source_open(file.path, &sources[0], &err), &err);
    SM_CHECK_OK(sm_source_open_memory("0123456789", 10, "mem", &sources[1], &err), &err);
    for (size_t s = 0; s < 2; s++) {
        for (size_t i = 0; i < SM_COUNT(cases); i++) {
            char got[16] = "";
            const sm_status st =
                sm_source_pread(sources[s], got, cases[i].len, cases[i].offset, &err);
            if (st != (cases[i].ok ? SM_OK : SM_ERR_CORRUPT))
                fail_msg("%s: %s", cases[i].name, sm_status_name(st));
            if (cases[i].ok)
                assert_memory_equal(got, &"0123456789"[cases[i].offset], cases[i].len);
            else
                assert_non_null(strstr(err.message, "file ends at byte 10"));
        }
        sm_source_close(&sources[s]);
    }
    sm_tmpdir_remove(&dir);
}

static void only_regular_files_are_opened(void **state)
{
    (void)state;
    sm_error err = SM_ERROR_INIT;
    sm_source *source = NULL;
    const sm_tmpdir dir = sm_tmpdir_make();
    const sm_tmppath fifo = sm_tmpdir_file(&dir, "fifo"), none = sm_tmpdir_file(&dir, "none"),
                     below = sm_tmpdir_file(&dir, "fifo/x"), loop = sm_tmpdir_file(&dir, "loop");
    assert_int_equal(mkfifo(fifo.path, 0600), 0);
    assert_int_equal(symlink("loop", loop.path), 0);
    SM_CHECK_FAILS(sm_source_open(fifo.path, &source, &err), &err, SM_ERR_ARG, "regular file");
    SM_CHECK_FAILS(sm_source_open("/dev/null", &source, &err), &err, SM_ERR_ARG, "regular file");
    SM_CHECK_FAILS(sm_source_open(dir.path, &source, &err), &err, SM_ERR_ARG, "folder");
    SM_CHECK_FAILS(sm_source_open(none.path, &source, &err), &err, SM_ERR_ARG, "No such file");
    SM_CHECK_FAILS(sm_source_open(below.path, &source, &err), &err, SM_ERR_ARG, "Not a directory");
    SM_CHECK_FAILS(sm_source_open(loop.path, &source, &err), &err, SM_ERR_ARG, "symbolic links");
    assert_null(source);
    sm_tmpdir_remove(&dir);
}

static void a_changed_file_is_noticed(void **state)
{
    (void)state;
    const sm_tmpdir dir = sm_tmpdir_make();
    const sm_tmppath file = sm_tmpdir_file(&dir, "f"), other = sm_tmpdir_file(&dir, "g");
    sm_error err = SM_ERROR_INIT;
    sm_source *source = NULL;
    sm_file_write(file.path, "old", 3);
    SM_CHECK_OK(sm_source_open(file.path, &source, &err), &err);
    SM_CHECK_OK(sm_source_check_unchanged(source, &err), &err);
    const struct timeval times[2] = {{1000, 0}, {1000, 0}};
    assert_int_equal(utimes(file.path, times), 0);
    SM_CHECK_FAILS(sm_source_check_unchanged(source, &err), &err, SM_ERR_CORRUPT, "written to");
    sm_source_close(&source);
    SM_CHECK_OK(sm_source_open(file.path, &source, &err), &err);
    sm_file_write(other.path, "new", 3);
    assert_int_equal(rename(other.path, file.path), 0);
    SM_CHECK_FAILS(sm_source_check_unchanged(source, &err), &err, SM_ERR_CORRUPT, "another file");
    assert_int_equal(unlink(file.path), 0); /* on a cluster absence never means deleted */
    SM_CHECK_FAILS(sm_source_check_unchanged(source, &err), &err, SM_ERR_IO, "No such file");
    sm_source_close(&source);
    sm_tmpdir_remove(&dir);
}

static void every_failed_allocation_is_reported(void **state)
{
    (void)state;
    const sm_tmpdir dir = sm_tmpdir_make();
    const sm_tmppath file = sm_tmpdir_file(&dir, "f");
    sm_file_write(file.path, "0123456789", 10);
    for (size_t i = 0; i < SM_COUNT(SM_BACKENDS); i++) {
        if (!sm_backend_use(i))
            continue;
        for (long n = 0;; n++) {
            sm_error err = SM_ERROR_INIT;
            sm_source *source = NULL;
            sm_stream *stream = NULL;
            sm_alloc_fail_after(n);
            sm_status st = sm_source_open(file.path, &source, &err);
            if (st == SM_OK)
                st = sm_stream_open(source, NULL, &stream, &err);
            sm_alloc_fail_after(-1);
            sm_stream_close(&stream);
            sm_source_close(&source);
            if (st == SM_OK) {
                assert_true(n >= 5);
                break;
            }
            assert_int_equal(st, SM_ERR_NOMEM);
        }
    }
    sm_tmpdir_remove(&dir);
}

static void nonsense_configurations_are_refused(void **state)
{
    (void)state;
    sm_error err = SM_ERROR_INIT;
    sm_source *source = NULL;
    sm_stream *stream = NULL;
    const sm_stream_config deep = {.depth = 257}, wide = {.block_bytes = SIZE_MAX};
    SM_CHECK_OK(sm_source_open_memory("x", 1, "mem", &source, &err), &err);
    SM_CHECK_FAILS(sm_stream_open(source, &deep, &stream, &err), &err, SM_ERR_ARG, "257");
    SM_CHECK_FAILS(sm_stream_open(source, &wide, &stream, &err), &err, SM_ERR_ARG, "1 GiB");
    sm_source_close(&source);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(stream_gives_every_byte_in_order, reset),
        cmocka_unit_test_teardown(stream_says_which_back_end_reads, reset),
        cmocka_unit_test_teardown(a_file_cut_while_streaming_is_corrupt_not_short, reset),
        cmocka_unit_test_teardown(a_grown_file_is_streamed_to_its_old_end, reset),
        cmocka_unit_test_teardown(pread_is_exact_or_fails, reset),
        cmocka_unit_test_teardown(only_regular_files_are_opened, reset),
        cmocka_unit_test_teardown(a_changed_file_is_noticed, reset),
        cmocka_unit_test_teardown(every_failed_allocation_is_reported, reset),
        cmocka_unit_test_teardown(nonsense_configurations_are_refused, reset),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
