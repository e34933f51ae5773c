/* Traces of made-up work: what is recorded, what is not, and what happens to the file. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>

#include "common/trace.h"
#include "tests/support/tmpdir.h"

static unsigned count(const char *text, const char *what)
{
    unsigned n = 0;
    for (const char *at = text; (at = strstr(at, what)) != NULL; at += strlen(what))
        n++;
    return n;
}

static void spans(sm_trace_stage stage, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        sm_trace_end(stage, sm_trace_begin());
}

/* The trace's text; release with free. */
static char *stopped(const char *path)
{
    size_t len = 0;
    sm_error err = SM_ERROR_INIT;
    assert_int_equal(sm_trace_stop(&err), SM_OK);
    char *text = (char *)sm_file_read(path, &len);
    text[len] = '\0';
    return text;
}

static void nothing_is_recorded_while_no_trace_is_on(void **state)
{
    (void)state;
    sm_error err = SM_ERROR_INIT;
    spans(SM_TRACE_HASH, 3);
    assert_int_equal(sm_trace_stop(&err), SM_OK);
}

static void every_span_is_written_however_many(void **state)
{
    (void)state;
    static const unsigned counts[] = {0, 1, 4095, 4096, 4097, 20000};
    const sm_tmpdir dir = sm_tmpdir_make();
    const sm_tmppath file = sm_tmpdir_file(&dir, "t.json");
    for (size_t i = 0; i < SM_COUNT(counts); i++) {
        sm_error err = SM_ERROR_INIT;
        assert_int_equal(sm_trace_start(file.path, &err), SM_OK);
        spans(SM_TRACE_COPY, counts[i]);
        char *text = stopped(file.path);
        if (count(text, "\"ph\":\"X\"") != counts[i])
            fail_msg("%u spans: %u are written", counts[i], count(text, "\"ph\":\"X\""));
        if (count(text, "\"main: copy\"") != (counts[i] > 0))
            fail_msg("%u spans: the lane is not named once", counts[i]);
        assert_string_equal(text + strlen(text) - 3, "\n]\n");
        free(text);
    }
    sm_tmpdir_remove(&dir);
}

static void *thread_main(void *arg)
{
    sm_trace_name_thread("worker", *(const int *)arg);
    sm_trace_name_thread("somebody else", -1); /* only the first call counts */
    spans(SM_TRACE_DECODE, 5000);
    spans(SM_TRACE_ENCODE, 5000);
    return NULL;
}

static void every_thread_and_stage_has_a_lane(void **state)
{
    (void)state;
    enum { THREADS = 4 };
    static const char *const NAMES[THREADS] = {"\"worker 0: decode\"", "\"worker 1: encode\"",
                                               "\"worker 2: decode\"", "\"worker 3: encode\""};
    const sm_tmpdir dir = sm_tmpdir_make();
    const sm_tmppath file = sm_tmpdir_file(&dir, "t.json");
    sm_error err = SM_ERROR_INIT;
    pthread_t threads[THREADS];
    int numbers[THREADS];
    assert_int_equal(sm_trace_start(file.path, &err), SM_OK);
    for (int i = 0; i < THREADS; i++) {
        numbers[i] = i;
        assert_int_equal(pthread_create(&threads[i], NULL, thread_main, &numbers[i]), 0);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    char *text = stopped(file.path);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(count(text, NAMES[i]), 1);
    assert_int_equal(count(text, "\"thread_name\""), 2 * THREADS);
    assert_int_equal(count(text, "\"ph\":\"X\""), 10000 * THREADS);
    assert_int_equal(count(text, "somebody"), 0);
    free(text);
    sm_tmpdir_remove(&dir);
}

static void a_file_that_is_no_trace_is_left_alone(void **state)
{
    (void)state;
    const sm_tmpdir dir = sm_tmpdir_make();
    const sm_tmppath file = sm_tmpdir_file(&dir, "slide.svs");
    sm_error err = SM_ERROR_INIT;
    size_t len = 0;
    sm_file_write(file.path, "a slide", 7);
    assert_int_equal(sm_trace_start(file.path, &err), SM_ERR_ARG);
    assert_non_null(strstr(err.message, "slide.svs: exists and is not a trace"));
    uint8_t *bytes = sm_file_read(file.path, &len);
    assert_int_equal(len, 7);
    assert_memory_equal(bytes, "a slide", 7);
    free(bytes);
    sm_tmpdir_remove(&dir);
}

static void a_full_disk_ends_the_trace_and_is_said(void **state)
{
    (void)state;
    const sm_tmpdir dir = sm_tmpdir_make();
    const sm_tmppath file = sm_tmpdir_file(&dir, "t.json");
    struct rlimit before, small = {100000, 0};
    sm_error err = SM_ERROR_INIT;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small.rlim_max = before.rlim_max;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(sm_trace_start(file.path, &err), SM_OK);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    spans(SM_TRACE_COPY, 50000);
    assert_int_equal(sm_trace_stop(&err), SM_ERR_IO);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_non_null(strstr(err.message, "t.json: cannot write the trace"));
    assert_int_equal(sm_trace_start(file.path, &err), SM_OK); /* what is there is a trace */
    assert_int_equal(sm_trace_stop(&err), SM_OK);
    sm_tmpdir_remove(&dir);
}

static void no_memory_for_a_thread_ends_the_trace(void **state)
{
    (void)state;
    const sm_tmpdir dir = sm_tmpdir_make();
    const sm_tmppath file = sm_tmpdir_file(&dir, "t.json");
    sm_error err = SM_ERROR_INIT;
    assert_int_equal(sm_trace_start(file.path, &err), SM_OK);
    sm_alloc_fail_after(0);
    spans(SM_TRACE_COPY, 2);
    sm_alloc_fail_after(-1);
    assert_int_equal(sm_trace_stop(&err), SM_ERR_NOMEM);
    sm_tmpdir_remove(&dir);
}

static void a_slide_has_its_number_before_the_suffix(void **state)
{
    (void)state;
    static const struct {
        const char *path, *want;
    } cases[] = {
        {"trace.json", "trace.7.json"},   {"d.x/trace.json", "d.x/trace.7.json"},
        {"d.x/trace", "d.x/trace.7"},     {".trace", ".trace.7"},
        {"/t/a.b.json", "/t/a.b.7.json"}, {"trace", "trace.7"},
    };
    for (size_t i = 0; i < SM_COUNT(cases); i++) {
        sm_buf out = {0};
        sm_error err = SM_ERROR_INIT;
        assert_int_equal(sm_trace_path(cases[i].path, 7, &out, &err), SM_OK);
        assert_string_equal((const char *)out.data, cases[i].want);
        sm_buf_free(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_recorded_while_no_trace_is_on),
        cmocka_unit_test(every_span_is_written_however_many),
        cmocka_unit_test(every_thread_and_stage_has_a_lane),
        cmocka_unit_test(a_file_that_is_no_trace_is_left_alone),
        cmocka_unit_test(a_full_disk_ends_the_trace_and_is_said),
        cmocka_unit_test(no_memory_for_a_thread_ends_the_trace),
        cmocka_unit_test(a_slide_has_its_number_before_the_suffix),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
