/* Tests of ingest/job.c: what crosses the pipe between a rank and its workers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "ingest/job.h"
#include "tests/support/check.h"
#include "tests/support/random.h"

#define HEX32 "000102030405060708090a0b0c0d0e0f"
#define SHA "sha256:" HEX32 HEX32
#define NASTY "a \"b\"\n\xFF%/\xC3\xA9\\.svs"

static sm_digest digest_of(sm_digest_kind kind, const char *hex)
{
    sm_error err = SM_ERROR_INIT;
    sm_digest digest = {0};
    SM_CHECK_OK(sm_digest_parse(kind, hex, &digest, &err), &err);
    return digest;
}

static char *as_text(sm_buf *buf)
{
    sm_error err = SM_ERROR_INIT;
    SM_CHECK_OK(sm_buf_append(buf, "", 1, &err), &err);
    return (char *)buf->data;
}

static void job_survives_the_pipe(void **state)
{
    (void)state;
    sm_error err = SM_ERROR_INIT;
    sm_buf text = {0};
    char root[] = "/mnt/a \xFE\n", path[] = NASTY, part_path[] = "x/Data0001.dat";
    char out_root[] = "/mnt/out", out_path[] = "x/a.ome.tiff";
    sm_job_part part = {.path = part_path, .size_bytes = 0, .mtime_ns = -5};
    const sm_job job = {
        .kind = SM_ATTEMPT_CONVERT,
        .slide = INT64_MAX,
        .root = root,
        .main = {.path = path,
                 .size_bytes = (UINT64_C(1) << 53) + 1,
                 .mtime_ns = INT64_C(1764000000123456789),
                 .has_digest = true,
                 .digest = digest_of(SM_DIGEST_MD5, HEX32)},
        .parts = &part,
        .n_parts = 1,
        .out_root = out_root,
        .out_path = out_path,
        .replace = true,
    };
    sm_job got;
    SM_CHECK_OK(sm_job_to_json(&job, &text, &err), &err);
    assert_null(memchr(text.data, '\n', text.len));
    SM_CHECK_OK(sm_job_from_json(as_text(&text), &got, &err), &err);
    assert_int_equal(got.kind, job.kind);
    assert_true(got.slide == job.slide);
    assert_string_equal(got.root, root);
    assert_string_equal(got.main.path, path);
    assert_true(got.main.size_bytes == job.main.size_bytes);
    assert_true(got.main.mtime_ns == job.main.mtime_ns);
    assert_true(got.main.has_digest && sm_digest_equal(&got.main.digest, &job.main.digest));
    assert_int_equal(got.n_parts, 1);
    assert_string_equal(got.parts[0].path, part_path);
    assert_int_equal(got.parts[0].size_bytes, 0);
    assert_true(got.parts[0].mtime_ns == -5);
    assert_false(got.parts[0].has_digest);
    assert_string_equal(got.out_root, out_root);
    assert_string_equal(got.out_path, out_path);
    assert_true(got.replace);
    sm_job_clear(&got);
    sm_buf_free(&text);
}

static void job_of_a_bare_slide(void **state)
{
    (void)state;
    sm_error err = SM_ERROR_INIT;
    sm_buf text = {0};
    char root[] = "/r", path[] = "a.svs";
    const sm_job job = {.kind = SM_ATTEMPT_HASH,
                        .slide = 1,
                        .root = root,
                        .main = {.path = path, .size_bytes = SM_NO_SIZE}};
    sm_job got;
    SM_CHECK_OK(sm_job_to_json(&job, &text, &err), &err);
    SM_CHECK_OK(sm_job_from_json(as_text(&text), &got, &err), &err);
    assert_true(got.main.size_bytes == SM_NO_SIZE);
    assert_true(got.main.mtime_ns == 0 && !got.main.has_digest && got.n_parts == 0);
    assert_null(got.out_path);
    sm_job_clear(&got);
    sm_buf_free(&text);
}

static void job_that_leads_astray_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *name, *text, *message;
    } cases[] = {
        {"empty", "", "not a JSON object"},
        {"a list", "[]", "not a JSON object"},
        {"two objects", "{}{}", "not a JSON object"},
        {"up and out",
         "{\"kind\":\"hash\",\"slide\":1,\"root\":\"/r\",\"main\":{\"path\":\"../x\"}}", "'..'"},
        {"absolute", "{\"kind\":\"hash\",\"slide\":1,\"root\":\"/r\",\"main\":{\"path\":\"/x\"}}",
         "absolute"},
        {"a part outside",
         "{\"kind\":\"hash\",\"slide\":1,\"root\":\"/r\",\"main\":{\"path\":\"x\"},"
         "\"parts\":[{\"path\":\"%2E%2E/x\"}]}",
         "'..'"},
        {"an encoded NUL",
         "{\"kind\":\"hash\",\"slide\":1,\"root\":\"/r\",\"main\":{\"path\":\"a%00b\"}}", "NUL"},
        {"a JSON NUL",
         "{\"kind\":\"hash\",\"slide\":1,\"root\":\"/r\",\"main\":{\"path\":\"a\\u0000b\"}}",
         "NUL"},
        {"no slide", "{\"kind\":\"hash\",\"slide\":0,\"root\":\"/r\",\"main\":{\"path\":\"x\"}}",
         "none"},
        {"no output",
         "{\"kind\":\"convert\",\"slide\":1,\"root\":\"/r\",\"main\":{\"path\":\"x\"}}",
         "out_path"},
        {"parts of no object",
         "{\"kind\":\"hash\",\"slide\":1,\"root\":\"/r\",\"main\":{\"path\":\"x\"},\"parts\":[1]}",
         "objects"},
        {"output outside",
         "{\"kind\":\"convert\",\"slide\":1,\"root\":\"/r\",\"main\":{\"path\":\"x\"},"
         "\"out_root\":\"/o\",\"out_path\":\"a/../../x\"}",
         "'..'"},
    };
    for (size_t i = 0; i < SM_COUNT(cases); i++) {
        sm_error err = SM_ERROR_INIT;
        sm_job job;
        if (sm_job_from_json(cases[i].text, &job, &err) != SM_ERR_FORMAT ||
            strstr(err.message, cases[i].message) == NULL)
            fail_msg("%s: %s", cases[i].name, err.message);
        assert_null(job.root);
    }
}

static sm_outcome full_outcome(char *out_path, sm_outcome_part *part)
{
    sm_outcome o = {
        .kind = SM_ATTEMPT_CONVERT,
        .outcome = SM_OUTCOME_OK,
        .slide = 4711,
        .brick = "host:/brick/1",
        .began_ns = INT64_C(1764000000123456789),
        .ended_ns = INT64_C(1764000001123456789),
        .bytes_in = (UINT64_C(1) << 60) + 1,
        .bytes_out = 7,
        .pixels = UINT64_C(9007199254740993),
        .has_source = true,
        .source_bytes = 123,
        .n_source_digests = 2,
        .vendor = "aperio",
        .w_px = UINT32_MAX,
        .h_px = 1,
        .mpp = 0.1,
        .objective = 40,
        .has_output = true,
        .out_path = out_path,
        .out_bytes = 99,
        .parts = part,
        .n_parts = 1,
        .how = "copied 1",
        .peak_rss_bytes = 1 << 20,
    };
    o.source_digests[0] = digest_of(SM_DIGEST_SHA256, HEX32 HEX32);
    o.source_digests[1] = digest_of(SM_DIGEST_MD5, HEX32);
    o.out_sha256 = o.source_digests[0];
    for (unsigned i = 0; i < SM_PHASES; i++)
        o.phase_ns[i] = i * UINT64_C(1000000007);
    for (unsigned i = 0; i < SM_STAGES; i++)
        o.spent.ns[i] = i * UINT64_C(1000000009);
    o.spent.cpu_ns = 77;
    o.spent.delivered_bytes = 78;
    o.spent.delivered_ns = 79;
    memcpy(o.out_brick, "h:/2", sizeof "h:/2");
    return o;
}

static void outcome_survives_the_pipe(void **state)
{
    (void)state;
    sm_error err = SM_ERROR_INIT;
    sm_buf text = {0};
    char out_path[] = NASTY, part_path[] = "p/\x01";
    sm_outcome_part part = {part_path, 5, digest_of(SM_DIGEST_SHA256, HEX32 HEX32)};
    const sm_outcome o = full_outcome(out_path, &part);
    sm_outcome got;
    SM_CHECK_OK(sm_outcome_to_json(&o, &text, &err), &err);
    assert_null(memchr(text.data, '\n', text.len));
    SM_CHECK_OK(sm_outcome_from_json((char *)text.data, text.len, &got, &err), &err);
    assert_string_equal(got.out_path, out_path);
    assert_int_equal(got.n_parts, 1);
    assert_string_equal(got.parts[0].path, part_path);
    assert_true(sm_digest_equal(&got.parts[0].sha256, &part.sha256));
    assert_true(got.parts[0].size_bytes == 5 && got.has_output && got.has_source);
    assert_true(sm_digest_equal(&got.source_digests[1], &o.source_digests[1]));
    assert_memory_equal(got.phase_ns, o.phase_ns, sizeof o.phase_ns);
    assert_memory_equal(&got.spent, &o.spent, sizeof o.spent);
    assert_string_equal(got.out_brick, "h:/2");
    assert_true(got.bytes_in == o.bytes_in && got.pixels == o.pixels && got.w_px == o.w_px);
    assert_true(got.began_ns == o.began_ns && got.ended_ns == o.ended_ns && got.mpp == o.mpp);
    assert_string_equal(got.vendor, "aperio");
    assert_string_equal(got.how, "copied 1");
    assert_string_equal(got.brick, "host:/brick/1");
    assert_true(got.peak_rss_bytes == o.peak_rss_bytes);
    /* once more the same bytes: nothing was lost on the way */
    sm_buf again = {0};
    SM_CHECK_OK(sm_outcome_to_json(&got, &again, &err), &err);
    assert_int_equal(again.len, text.len);
    assert_memory_equal(again.data, text.data, text.len);
    sm_outcome_clear(&got);
    sm_buf_free(&again);
    sm_buf_free(&text);
}

#define SOURCE "\"source\":{\"bytes\":1,\"digests\":[\"" SHA "\"]}"
#define FAILED                                                                                     \
    "{\"kind\":\"hash\",\"outcome\":\"failed\",\"class\":\"io\",\"slide\":1,\"began\":1,"          \
    "\"ended\":2"

static void outcome_that_cannot_be_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *name, *text, *message;
    } cases[] = {
        {"minus a number", FAILED ",\"bytes_in\":-1}", "bytes_in"},
        {"a huge number", FAILED ",\"bytes_in\":1e999}", "bytes_in"},
        {"not a number", FAILED ",\"bytes_in\":NaN}", "JSON"},
        {"half a byte", FAILED ",\"bytes_in\":0.5}", "bytes_in"},
        {"inexact", FAILED ",\"bytes_in\":9007199254740994}", "bytes_in"},
        {"beyond 2^63", FAILED ",\"bytes_in\":\"9223372036854775808\"}", "bytes_in"},
        {"beyond 2^64", FAILED ",\"bytes_in\":\"99999999999999999999\"}", "bytes_in"},
        {"letters", FAILED ",\"bytes_in\":\"12z\"}", "bytes_in"},
        {"an empty number", FAILED ",\"bytes_in\":\"\"}", "bytes_in"},
        {"infinite mpp", FAILED ",\"mpp\":1e400}", "mpp"},
        {"mpp of a kilometre", FAILED ",\"mpp\":1e9}", "1000000"},
        {"negative width", FAILED ",\"w\":-3}", "\"w\""},
        {"width of 2^32", FAILED ",\"w\":4294967296}", "\"w\""},
        {"twice the same", FAILED ",\"slide\":2}", "twice"},
        {"another type", FAILED ",\"error\":{}}", "error"},
        {"a class with spaces",
         "{\"kind\":\"hash\",\"outcome\":\"failed\",\"class\":\"x y\",\"slide\":1,\"began\":1,"
         "\"ended\":2}",
         "class"},
        {"a class too long",
         "{\"kind\":\"hash\",\"outcome\":\"failed\",\"class\":\"abcdefghijklmnopq\",\"slide\":1,"
         "\"began\":1,\"ended\":2}",
         "class"},
        {"failed of nothing",
         "{\"kind\":\"hash\",\"outcome\":\"failed\",\"slide\":1,\"began\":1,\"ended\":2}", "class"},
        {"lost", "{\"kind\":\"hash\",\"outcome\":\"lost\",\"slide\":1,\"began\":1,\"ended\":2}",
         "outcome"},
        {"no time", "{\"kind\":\"hash\",\"outcome\":\"abandoned\",\"slide\":1,\"ended\":2}",
         "\"began\" is missing"},
        {"ok of nothing",
         "{\"kind\":\"hash\",\"outcome\":\"ok\",\"slide\":1,\"began\":1,\"ended\":2}", "source"},
        {"converted to nothing",
         "{\"kind\":\"convert\",\"outcome\":\"ok\",\"slide\":1,\"began\":1,\"ended\":2," SOURCE "}",
         "output"},
        {"a short digest", FAILED ",\"source\":{\"bytes\":1,\"digests\":[\"sha256:00\"]}}",
         "digests"},
        {"no sha256", FAILED ",\"source\":{\"bytes\":1,\"digests\":[\"md5:" HEX32 "\"]}}",
         "sha256"},
        {"three digests",
         FAILED ",\"source\":{\"bytes\":1,\"digests\":[\"" SHA "\",\"md5:" HEX32 "\",\"md5:" HEX32
                "\"]}}",
         "digests"},
        {"output outside",
         FAILED ",\"output\":{\"path\":\"a/../b\",\"bytes\":1,\"digest\":\"" SHA "\"}}", "'..'"},
        {"output of another digest",
         FAILED ",\"output\":{\"path\":\"b\",\"bytes\":1,\"digest\":\"md5:" HEX32 "\"}}", "sha256"},
        {"cut off", FAILED, "JSON"},
        {"more behind it", FAILED "} {}", "JSON"},
    };
    for (size_t i = 0; i < SM_COUNT(cases); i++) {
        sm_error err = SM_ERROR_INIT;
        sm_outcome o;
        if (sm_outcome_from_json(cases[i].text, strlen(cases[i].text), &o, &err) != SM_ERR_FORMAT ||
            strstr(err.message, cases[i].message) == NULL)
            fail_msg("%s: %s", cases[i].name, err.message);
        assert_true(o.out_path == NULL && o.parts == NULL);
    }
}

static void outcome_of_a_newer_worker_is_read(void **state)
{
    (void)state;
    static const char TEXT[] = FAILED ",\"stages\":{\"teleport\":5,\"hash\":6},\"new\":[{}]}";
    sm_error err = SM_ERROR_INIT;
    sm_outcome o;
    SM_CHECK_OK(sm_outcome_from_json(TEXT, strlen(TEXT), &o, &err), &err);
    assert_int_equal(o.phase_ns[SM_PHASE_HASH], 6);
    sm_outcome_clear(&o);
}

/* As 0.1.0 wrote it: no "work"; what was hashed alone tells how fast it came. */
static void outcome_of_an_older_worker_is_read(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t bytes, ns;
    } cases[] = {
        {"{\"kind\":\"hash\",\"outcome\":\"abandoned\",\"slide\":1,\"began\":1,\"ended\":2,"
         "\"stages\":{\"hash\":6,\"other\":2},\"bytes_in\":9}",
         9, 6},
        {"{\"kind\":\"convert\",\"outcome\":\"abandoned\",\"slide\":1,\"began\":1,\"ended\":2,"
         "\"stages\":{\"copy-in\":7,\"mill\":2},\"bytes_in\":9}",
         9, 7},
        {"{\"kind\":\"convert\",\"outcome\":\"abandoned\",\"slide\":1,\"began\":1,\"ended\":2,"
         "\"stages\":{\"mill\":2},\"bytes_in\":9}",
         0, 0},
    };
    for (size_t i = 0; i < SM_COUNT(cases); i++) {
        sm_error err = SM_ERROR_INIT;
        sm_outcome o;
        SM_CHECK_OK(sm_outcome_from_json(cases[i].text, strlen(cases[i].text), &o, &err), &err);
        if (o.spent.delivered_bytes != cases[i].bytes || o.spent.delivered_ns != cases[i].ns)
            fail_msg("case %zu", i);
        assert_int_equal(sm_spent_sum(o.spent.ns, false), 0);
        sm_outcome_clear(&o);
    }
}

static void nesting_and_nul_are_refused(void **state)
{
    (void)state;
    static char deep[200000];
    static const char NUL[] = FAILED ",\"error\":\"a\0b\"}";
    sm_error err = SM_ERROR_INIT;
    sm_outcome o;
    memset(deep, '[', sizeof deep);
    memcpy(deep, "{\"kind\":", 8);
    SM_CHECK_FAILS(sm_outcome_from_json(deep, sizeof deep, &o, &err), &err, SM_ERR_FORMAT, "JSON");
    SM_CHECK_FAILS(sm_outcome_from_json(NUL, sizeof NUL - 1, &o, &err), &err, SM_ERR_FORMAT, "NUL");
}

static void texts_are_one_clean_line(void **state)
{
    (void)state;
    /* an escaped backslash before u0000 is text, no NUL */
    static const char TEXT[] = FAILED ",\"error\":\"a\\u001b[31m\\nb\\\\u0000\xFF\"}";
    static char big[2000];
    sm_error err = SM_ERROR_INIT;
    sm_outcome o;
    SM_CHECK_OK(sm_outcome_from_json(TEXT, strlen(TEXT), &o, &err), &err);
    assert_string_equal(o.error, "a?[31m?b\\u0000?");
    snprintf(big, sizeof big, "%s", FAILED ",\"vendor\":\"");
    for (int i = 0; i < 300; i++)
        memcpy(big + strlen(big), "\xC3\xA9", 3);
    memcpy(big + strlen(big), "\"}", 3);
    SM_CHECK_OK(sm_outcome_from_json(big, strlen(big), &o, &err), &err);
    assert_int_equal(strlen(o.vendor), 62); /* 63 would end in half a character */
}

static void damaged_answers_never_crash(void **state)
{
    (void)state;
    sm_error err = SM_ERROR_INIT;
    sm_buf text = {0};
    char out_path[] = "o.ome.tiff", part_path[] = "p";
    sm_outcome_part part = {part_path, 5, digest_of(SM_DIGEST_SHA256, HEX32 HEX32)};
    const sm_outcome good = full_outcome(out_path, &part);
    sm_random r = {.x = 5};
    SM_CHECK_OK(sm_outcome_to_json(&good, &text, &err), &err);
    for (int i = 0; i < 20000; i++) {
        sm_outcome o;
        const uint32_t at = sm_random_below(&r, (uint32_t)text.len);
        const uint8_t was = text.data[at];
        text.data[at] = (uint8_t)sm_random_u32(&r);
        if (sm_outcome_from_json((char *)text.data, text.len - sm_random_below(&r, 2), &o, &err) ==
            SM_OK)
            sm_outcome_clear(&o);
        text.data[at] = was;
    }
    sm_buf_free(&text);
}

static void failures_of_calls_have_classes(void **state)
{
    (void)state;
    static const struct {
        sm_status status;
        int sys_errno;
        sm_outcome_kind outcome;
        const char *class;
    } cases[] = {
        {SM_ERR_IO, EIO, SM_OUTCOME_RETRY, SM_CLASS_IO},
        {SM_ERR_IO, ENOTCONN, SM_OUTCOME_RETRY, SM_CLASS_IO},
        {SM_ERR_IO, ENOENT, SM_OUTCOME_RETRY, SM_CLASS_MISSING},
        {SM_ERR_BUSY, 0, SM_OUTCOME_RETRY, SM_CLASS_IO},
        {SM_ERR_FORMAT, 0, SM_OUTCOME_FAILED, SM_CLASS_FORMAT},
        {SM_ERR_LIMIT, 0, SM_OUTCOME_FAILED, SM_CLASS_LIMIT},
        {SM_ERR_CORRUPT, 0, SM_OUTCOME_FAILED, SM_CLASS_CORRUPT},
        {SM_ERR_ARG, 0, SM_OUTCOME_FAILED, SM_CLASS_ARG},
        {SM_ERR_ARG, EEXIST, SM_OUTCOME_FAILED, SM_CLASS_EXISTS},
        {SM_ERR_NOMEM, 0, SM_OUTCOME_FAILED, SM_CLASS_MEMORY},
        {SM_ERR_INTERNAL, 0, SM_OUTCOME_FAILED, SM_CLASS_INTERNAL},
        {SM_ERR_INTERRUPTED, 0, SM_OUTCOME_ABANDONED, ""},
    };
    for (size_t i = 0; i < SM_COUNT(cases); i++) {
        const sm_error err = {
            .status = cases[i].status, .sys_errno = cases[i].sys_errno, .message = "why"};
        sm_outcome o = {0};
        sm_outcome_set_error(&o, &err);
        if (o.outcome != cases[i].outcome || strcmp(o.error_class, cases[i].class) != 0 ||
            strcmp(o.error, "why") != 0)
            fail_msg("%s: %s", sm_status_name(cases[i].status), o.error_class);
    }
}

static void memory_that_runs_out_is_said(void **state)
{
    (void)state;
    sm_error err = SM_ERROR_INIT;
    sm_buf text = {0};
    char out_path[] = "o.ome.tiff", part_path[] = "p\n";
    sm_outcome_part part = {part_path, 5, digest_of(SM_DIGEST_SHA256, HEX32 HEX32)};
    const sm_outcome good = full_outcome(out_path, &part);
    sm_outcome o;
    sm_status st = SM_ERR_NOMEM;
    for (long n = 0; st != SM_OK; n++) {
        assert_true(n < 1000);
        sm_buf_free(&text);
        sm_alloc_fail_after(n);
        st = sm_outcome_to_json(&good, &text, &err);
        assert_true(st == SM_OK || st == SM_ERR_NOMEM);
    }
    st = SM_ERR_NOMEM;
    for (long n = 0; st != SM_OK; n++) {
        assert_true(n < 1000);
        sm_alloc_fail_after(n);
        st = sm_outcome_from_json((char *)text.data, text.len, &o, &err);
        assert_true(st == SM_OK || st == SM_ERR_NOMEM);
    }
    sm_alloc_fail_after(-1);
    sm_outcome_clear(&o);
    sm_buf_free(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(job_survives_the_pipe),
        cmocka_unit_test(job_of_a_bare_slide),
        cmocka_unit_test(job_that_leads_astray_is_refused),
        cmocka_unit_test(outcome_survives_the_pipe),
        cmocka_unit_test(outcome_that_cannot_be_is_refused),
        cmocka_unit_test(outcome_of_a_newer_worker_is_read),
        cmocka_unit_test(outcome_of_an_older_worker_is_read),
        cmocka_unit_test(nesting_and_nul_are_refused),
        cmocka_unit_test(texts_are_one_clean_line),
        cmocka_unit_test(damaged_answers_never_crash),
        cmocka_unit_test(failures_of_calls_have_classes),
        cmocka_unit_test(memory_that_runs_out_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
