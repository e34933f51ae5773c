/* Tests of common/error.c and common/buf.c: what a message says and what it never contains. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/buf.h"
#include "common/error.h"
#include "tests/support/check.h"

static void fail_records_status_message_and_no_place(void **state)
{
    (void)state;
    sm_error err = {.sys_errno = 5, .offset = 7};
    assert_int_equal(sm_fail(&err, SM_ERR_FORMAT, "%s: %d levels", "a.svs", 0), SM_ERR_FORMAT);
    assert_string_equal(err.message, "a.svs: 0 levels");
    assert_int_equal(err.status, SM_ERR_FORMAT);
    assert_int_equal(err.sys_errno, 0);
    assert_true(err.offset == SM_NO_OFFSET);
}

static void fail_at_and_fail_errno_append_place_and_reason(void **state)
{
    (void)state;
    sm_error err = SM_ERROR_INIT;
    sm_fail_at(&err, SM_ERR_CORRUPT, UINT64_C(12345678901), "x: torn");
    assert_string_equal(err.message, "x: torn, at byte 12345678901");
    assert_true(err.offset == UINT64_C(12345678901));
    sm_fail_errno(&err, SM_ERR_IO, ENOSPC, "x: cannot write");
    assert_string_equal(err.message, "x: cannot write: No space left on device");
    assert_int_equal(err.sys_errno, ENOSPC);
    assert_true(err.offset == SM_NO_OFFSET);
}

static void control_characters_never_reach_the_terminal(void **state)
{
    (void)state;
    static const struct {
        const char *name, *in, *out;
    } cases[] = {
        {"escape", "a\033[31mb", "a?[31mb"},
        {"newline", "a\nb\r\tc", "a?b??c"},
        {"delete", "a\177b", "a?b"},
        {"C1 control sequence introducer", "a\302\233b", "a??b"},
        {"ordinary UTF-8 stays", "M\303\274ller \302\265m", "M\303\274ller \302\265m"},
    };
    for (size_t i = 0; i < SM_COUNT(cases); i++) {
        sm_error err = SM_ERROR_INIT;
        sm_fail(&err, SM_ERR_ARG, "%s", cases[i].in);
        if (strcmp(err.message, cases[i].out) != 0)
            fail_msg("%s: got '%s'", cases[i].name, err.message);
    }
}

static void long_messages_keep_their_reason(void **state)
{
    (void)state;
    char name[2000];
    memset(name, 'n', sizeof(name));
    name[sizeof(name) - 1] = '\0';
    sm_error err = SM_ERROR_INIT;
    sm_fail_errno(&err, SM_ERR_IO, EIO, "%s", name);
    assert_int_equal(strlen(err.message), sizeof(err.message) - 1);
    assert_non_null(strstr(err.message, "n: Input/output error"));
    sm_error_prefix(&err, "%s", "level 2");
    assert_int_equal(strlen(err.message), sizeof(err.message) - 1);
    sm_fail_at(&err, SM_ERR_IO, UINT64_MAX - 1, "%s", name);
    assert_non_null(strstr(err.message, "n, at byte 18446744073709551614"));
}

static void a_cut_never_splits_a_character(void **state)
{
    (void)state;
    for (size_t shift = 0; shift < 4; shift++) {
        char name[1200] = "";
        memset(name, 'x', shift);
        for (size_t i = shift; i + 4 < sizeof(name); i += 3)
            memcpy(name + i, "\342\202\254", 4); /* the euro sign */
        sm_error err = SM_ERROR_INIT;
        sm_fail(&err, SM_ERR_ARG, "%s", name);
        if ((strlen(err.message) - shift) % 3 != 0)
            fail_msg("shift %zu: %zu bytes", shift, strlen(err.message));
        assert_true(strlen(err.message) > sizeof(err.message) - 5);
    }
}

static void prefix_puts_a_fact_in_front_and_keeps_the_rest(void **state)
{
    (void)state;
    sm_error err = SM_ERROR_INIT;
    sm_fail_at(&err, SM_ERR_CORRUPT, 9, "torn");
    sm_error_prefix(&err, "level %d", 2);
    assert_string_equal(err.message, "level 2: torn, at byte 9");
    assert_int_equal(err.status, SM_ERR_CORRUPT);
    assert_true(err.offset == 9);
}

static void a_message_may_be_made_from_itself(void **state)
{
    (void)state;
    sm_error err = SM_ERROR_INIT;
    sm_fail(&err, SM_ERR_ARG, "inner");
    sm_fail(&err, SM_ERR_IO, "outer (%s)", err.message);
    assert_string_equal(err.message, "outer (inner)");
}

static void every_status_has_its_exit_code_and_name(void **state)
{
    (void)state;
    static const struct {
        sm_status status;
        int code;
        const char *name;
    } cases[] = {
        {SM_OK, 0, "ok"},
        {SM_ERR_ARG, 2, "arg"},
        {SM_ERR_IO, 74, "io"},
        {SM_ERR_FORMAT, 65, "format"},
        {SM_ERR_LIMIT, 65, "limit"},
        {SM_ERR_CORRUPT, 65, "corrupt"},
        {SM_ERR_NOMEM, 70, "nomem"},
        {SM_ERR_INTERNAL, 70, "internal"},
        {SM_ERR_INTERRUPTED, 75, "interrupted"},
    };
    for (size_t i = 0; i < SM_COUNT(cases); i++) {
        assert_int_equal(sm_exit_code(cases[i].status), cases[i].code);
        assert_string_equal(sm_status_name(cases[i].status), cases[i].name);
    }
}

static void buf_grows_and_keeps_its_bytes(void **state)
{
    (void)state;
    sm_error err = SM_ERROR_INIT;
    sm_buf buf = {0};
    for (unsigned i = 0; i < 10000; i++)
        SM_CHECK_OK(sm_buf_printf(&buf, &err, "%u,", i % 10), &err);
    SM_CHECK_OK(sm_buf_append(&buf, NULL, 0, &err), &err);
    assert_int_equal(buf.len, 20000);
    assert_memory_equal(buf.data, "0,1,2,3,", 8);
    assert_memory_equal(buf.data + 19998, "9,", 2);
    sm_buf_free(&buf);
    assert_null(buf.data);
    assert_int_equal(buf.cap, 0);
}

static void buf_survives_a_failed_allocation_unchanged(void **state)
{
    (void)state;
    sm_error err = SM_ERROR_INIT;
    sm_buf buf = {0};
    SM_CHECK_OK(sm_buf_append(&buf, "abc", 3, &err), &err);
    sm_alloc_fail_after(0);
    SM_CHECK_FAILS(sm_buf_reserve(&buf, 1 << 20, &err), &err, SM_ERR_NOMEM, "1048576");
    assert_int_equal(buf.len, 3);
    assert_memory_equal(buf.data, "abc", 3);
    SM_CHECK_OK(sm_buf_reserve(&buf, 1 << 20, &err), &err); /* only one allocation fails */
    SM_CHECK_FAILS(sm_buf_append(&buf, "x", SIZE_MAX, &err), &err, SM_ERR_NOMEM, "2^64");
    sm_buf_free(&buf);
}

static void allocations_check_the_product_and_never_return_null_for_nothing(void **state)
{
    (void)state;
    assert_null(sm_malloc_array(SIZE_MAX / 2, 3));
    assert_null(sm_calloc(SIZE_MAX / 2, 3));
    void *a = sm_malloc_array(0, 8), *b = sm_calloc(0, 8), *c = sm_malloc_aligned(4096, 10000);
    assert_non_null(a);
    assert_non_null(b);
    assert_int_equal((uintptr_t)c % 4096, 0);
    free(a);
    free(b);
    free(c);
    sm_alloc_fail_after(1);
    a = sm_malloc_array(1, 1);
    assert_non_null(a);
    assert_null(sm_calloc(1, 1));
    b = sm_malloc_aligned(4096, 1);
    assert_non_null(b);
    free(a);
    free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fail_records_status_message_and_no_place),
        cmocka_unit_test(fail_at_and_fail_errno_append_place_and_reason),
        cmocka_unit_test(control_characters_never_reach_the_terminal),
        cmocka_unit_test(long_messages_keep_their_reason),
        cmocka_unit_test(a_cut_never_splits_a_character),
        cmocka_unit_test(prefix_puts_a_fact_in_front_and_keeps_the_rest),
        cmocka_unit_test(a_message_may_be_made_from_itself),
        cmocka_unit_test(every_status_has_its_exit_code_and_name),
        cmocka_unit_test(buf_grows_and_keeps_its_bytes),
        cmocka_unit_test(buf_survives_a_failed_allocation_unchanged),
        cmocka_unit_test(allocations_check_the_product_and_never_return_null_for_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
