/* Tests of common/digest.c against published test vectors. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "common/buf.h"
#include "common/digest.h"
#include "tests/support/check.h"

typedef struct vector {
    sm_digest_kind kind;
    const char *text, *hex;
} vector;

/* FIPS 180-4, RFC 1321, and `xxh128sum` of the text. */
static const vector VECTORS[] = {
    {SM_DIGEST_SHA256, "", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
    {SM_DIGEST_SHA256, "abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
    {SM_DIGEST_MD5, "", "d41d8cd98f00b204e9800998ecf8427e"},
    {SM_DIGEST_MD5, "message digest", "f96b697d7cb7938d525a2f31aaf161d0"},
    {SM_DIGEST_XXH128, "", "99aa06d3014798d86001c324468d497f"},
    {SM_DIGEST_XXH128, "abc", "06b05ab6733a618578af5f94892f3950"},
};

static void digests_match_published_vectors(void **state)
{
    (void)state;
    for (size_t i = 0; i < SM_COUNT(VECTORS); i++) {
        const vector *v = &VECTORS[i];
        sm_error err = SM_ERROR_INIT;
        sm_hasher *hasher = NULL;
        sm_digest digest;
        char hex[SM_DIGEST_HEX_CAP];
        SM_CHECK_OK(sm_hasher_new(v->kind, &hasher, &err), &err);
        for (const char *c = v->text; *c != '\0'; c++) /* a byte at a time */
            SM_CHECK_OK(sm_hasher_update(hasher, c, 1, &err), &err);
        SM_CHECK_OK(sm_hasher_final(hasher, &digest, &err), &err);
        if (strcmp(sm_digest_hex(&digest, hex), v->hex) != 0)
            fail_msg("%s of '%s': %s", sm_digest_kind_name(v->kind), v->text, hex);
        SM_CHECK_FAILS(sm_hasher_update(hasher, "x", 1, &err), &err, SM_ERR_INTERNAL, "final");
        SM_CHECK_OK(sm_hasher_reset(hasher, &err), &err);
        SM_CHECK_OK(sm_hasher_update(hasher, v->text, strlen(v->text), &err), &err);
        sm_digest again;
        SM_CHECK_OK(sm_hasher_final(hasher, &again, &err), &err);
        assert_true(sm_digest_equal(&digest, &again));
        if (v->kind == SM_DIGEST_XXH128) {
            again = sm_digest_xxh128(v->text, strlen(v->text));
            assert_true(sm_digest_equal(&digest, &again));
        }
        sm_hasher_free(&hasher);
        assert_null(hasher);
        sm_hasher_free(&hasher);
    }
}

static void parse_reads_what_hex_wrote_in_any_case(void **state)
{
    (void)state;
    sm_error err = SM_ERROR_INIT;
    sm_digest digest, upper;
    char hex[SM_DIGEST_HEX_CAP];
    SM_CHECK_OK(sm_digest_parse(SM_DIGEST_MD5, VECTORS[2].hex, &digest, &err), &err);
    SM_CHECK_OK(sm_digest_parse(SM_DIGEST_MD5, "D41D8CD98F00B204E9800998ECF8427E", &upper, &err),
                &err);
    assert_true(sm_digest_equal(&digest, &upper));
    assert_string_equal(sm_digest_hex(&digest, hex), VECTORS[2].hex);
    upper.kind = SM_DIGEST_XXH128; /* the same bytes of another kind are another digest */
    assert_false(sm_digest_equal(&digest, &upper));
}

static void parse_refuses_what_is_no_digest(void **state)
{
    (void)state;
    static const struct {
        const char *name, *hex;
    } cases[] = {
        {"empty", ""},
        {"one digit short", "d41d8cd98f00b204e9800998ecf8427"},
        {"one digit more", "d41d8cd98f00b204e9800998ecf8427e0"},
        {"not hexadecimal", "d41d8cd98f00b204e9800998ecf8427g"},
        {"sign", "-41d8cd98f00b204e9800998ecf8427e"},
        {"space", " 41d8cd98f00b204e9800998ecf8427e"},
    };
    for (size_t i = 0; i < SM_COUNT(cases); i++) {
        sm_error err = SM_ERROR_INIT;
        sm_digest digest = {.len = 1};
        if (sm_digest_parse(SM_DIGEST_MD5, cases[i].hex, &digest, &err) != SM_ERR_ARG)
            fail_msg("%s: accepted", cases[i].name);
        assert_int_equal(digest.len, 1); /* untouched */
        assert_non_null(strstr(err.message, "md5"));
    }
}

static void hasher_reports_a_failed_allocation(void **state)
{
    (void)state;
    sm_error err = SM_ERROR_INIT;
    sm_hasher *hasher = NULL;
    sm_alloc_fail_after(0);
    SM_CHECK_FAILS(sm_hasher_new(SM_DIGEST_SHA256, &hasher, &err), &err, SM_ERR_NOMEM, "sha256");
    assert_null(hasher);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(digests_match_published_vectors),
        cmocka_unit_test(parse_reads_what_hex_wrote_in_any_case),
        cmocka_unit_test(parse_refuses_what_is_no_digest),
        cmocka_unit_test(hasher_reports_a_failed_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
