/* Progress: how it reads, and what a terminal and a log file really get. */
#include <pty.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/progress.h"
#include "common/progress_text.h"

static void sizes_have_three_digits(void **state)
{
    (void)state;
    static const struct {
        uint64_t bytes;
        const char *want;
    } cases[] = {
        {0, "0 B"},
        {812, "812 B"},
        {999, "999 B"},
        {1000, "1 kB"},
        {1500000000, "1.5 GB"},
        {291000000, "291 MB"},
        {1234567, "1.23 MB"},
        {999499, "999 kB"},
        {999999, "1 MB"},
        {UINT64_MAX, "18.4 EB"},
    };
    char out[16];
    for (size_t i = 0; i < SM_COUNT(cases); i++) {
        if (strcmp(sm_human_bytes(cases[i].bytes, out), cases[i].want) != 0)
            fail_msg("%llu: '%s'", (unsigned long long)cases[i].bytes, out);
    }
}

static void times_carry_into_the_next_unit(void **state)
{
    (void)state;
    static const struct {
        uint64_t ms;
        const char *want;
    } cases[] = {
        {0, "0.0 s"},           {40, "0.0 s"},          {50, "0.1 s"},
        {3200, "3.2 s"},        {59949, "59.9 s"},      {59950, "1:00 min"},
        {245000, "4:05 min"},   {3599499, "59:59 min"}, {3599500, "1:00:00 h"},
        {7384000, "2:03:04 h"},
    };
    char out[16];
    for (size_t i = 0; i < SM_COUNT(cases); i++) {
        if (strcmp(sm_human_ns(cases[i].ms * 1000000, out), cases[i].want) != 0)
            fail_msg("%llu ms: '%s'", (unsigned long long)cases[i].ms, out);
    }
    assert_string_equal(sm_human_ns(UINT64_MAX, out), "5124095:34:34 h");
}

static const sm_progress_view HALF = {
    .what = "CMU-1.svs",
    .bytes = 50000000,
    .px = 520000000,
    .total_bytes = 100000000,
    .total_px = 1000000000,
    .bytes_per_s = 154e6,
    .px_per_s = 160e6,
};

/* Columns of UTF-8 text whose characters are all one column wide. */
static size_t columns_of(const char *text)
{
    size_t n = 0;

    for (; *text != '\0'; text++)
        n += ((unsigned char)*text & 0xC0) != 0x80;
    return n;
}

static void bar_reads_as_documented(void **state)
{
    (void)state;
    char out[SM_PROGRESS_LINE_CAP];

    assert_string_equal(sm_progress_bar(&HALF, 62, false, out),
                        "CMU-1.svs  [======>     ]   52%  160 Mpx/s  154 MB/s  ETA 0:03");
    sm_progress_view view = HALF;
    view.phase = "verify";
    assert_string_equal(sm_progress_bar(&view, 69, false, out),
                        "CMU-1.svs verify  [======>     ]   52%  160 Mpx/s  154 MB/s  ETA 0:03");
    view = HALF;
    view.px = view.total_px;
    assert_string_equal(sm_progress_bar(&view, 62, false, out),
                        "CMU-1.svs  [============]  100%  160 Mpx/s  154 MB/s  ETA 0:00");
    view.px = 0;
    assert_string_equal(sm_progress_bar(&view, 62, false, out),
                        "CMU-1.svs  [>           ]    0%  160 Mpx/s  154 MB/s  ETA 0:06");
}

static void bar_never_exceeds_the_terminal(void **state)
{
    (void)state;
    static const char *const names[] = {
        "a.svs", "a name much longer than any terminal line has room to show it.svs",
        "\xc3\xa9t\xc3\xa9 \xc3\xbc\xc3\xb6\xc3\xa4.svs", ""};
    char out[SM_PROGRESS_LINE_CAP];

    for (size_t i = 0; i < SM_COUNT(names); i++) {
        for (unsigned columns = 0; columns < 700; columns++) {
            sm_progress_view view = HALF;
            view.what = names[i];
            view.phase = columns % 2 == 0 ? "fsync" : NULL;
            for (int utf8 = 0; utf8 < 2; utf8++) {
                if (columns_of(sm_progress_bar(&view, columns, utf8 != 0, out)) > columns)
                    fail_msg("%u columns: '%s'", columns, out);
            }
        }
    }
}

static void hostile_names_cannot_move_the_cursor(void **state)
{
    (void)state;
    char out[SM_PROGRESS_LINE_CAP];
    sm_progress_view view = {.what = "a\033[2J\rb\n\x7f\xc2\x9b\xff\xc3z"};

    assert_string_equal(sm_progress_bar(&view, 80, true, out), "a?[2J?b??????z");
    assert_string_equal(sm_progress_bar(&view, 80, false, out), "a?[2J?b??????z");
    view.what = "\xc3\xa9.svs";
    assert_string_equal(sm_progress_bar(&view, 80, true, out), "\xc3\xa9.svs");
    assert_string_equal(sm_progress_bar(&view, 80, false, out), "??.svs");
    view.what = "a\" b=\"c";
    (void)sm_progress_log_line(&view, 0, out);
    assert_non_null(strstr(out, " slide=\"a? b=?c\" "));
}

static void unknown_totals_show_no_percent(void **state)
{
    (void)state;
    char out[SM_PROGRESS_LINE_CAP];
    sm_progress_view view = HALF;

    view.total_px = 0;
    assert_true(sm_progress_fraction(&view) > 0.49 && sm_progress_fraction(&view) < 0.51);
    view.total_bytes = 0;
    assert_true(sm_progress_fraction(&view) < 0);
    assert_string_equal(sm_progress_bar(&view, 80, false, out), "CMU-1.svs  160 Mpx/s  154 MB/s  ");
}

static void log_line_is_key_value(void **state)
{
    (void)state;
    char out[SM_PROGRESS_LINE_CAP];
    sm_progress_view view = HALF;

    view.phase = "verify";
    assert_string_equal(sm_progress_log_line(&view, 1714557600, out),
                        "time=2024-05-01T10:00:00Z slide=\"CMU-1.svs\" phase=verify done=52% "
                        "mpx=520.0 mb=50.0 mpx_s=160.0 mb_s=154.0 eta_s=3\n");
}

/* What stderr gets while a task of 0.3 s runs; stderr is `slave` meanwhile. */
static size_t run_task(int slave, int master, bool quiet, char *seen, size_t cap)
{
    sm_error err = SM_ERROR_INIT;
    sm_progress *progress = NULL;
    const struct timespec pause = {0, 10000000};
    const int saved = dup(STDERR_FILENO);

    assert_true(dup2(slave, STDERR_FILENO) >= 0);
    const sm_status st = sm_progress_new("CMU-1.svs", 1000, 1000000, quiet, &progress, &err);
    for (uint64_t i = 0; st == SM_OK && i < 30; i++) {
        sm_progress_at(progress, i * 10, i * 10000, NULL);
        (void)nanosleep(&pause, NULL);
    }
    sm_progress_free(&progress);
    sm_progress_free(&progress); /* an empty one is accepted */
    (void)write(slave, "$", 1);  /* ends what is read below */
    assert_true(dup2(saved, STDERR_FILENO) >= 0);
    (void)close(saved);
    assert_int_equal(st, SM_OK);
    size_t len = 0;
    while (len < cap - 1 && (len == 0 || seen[len - 1] != '$')) {
        const ssize_t n = read(master, seen + len, cap - 1 - len);
        assert_true(n > 0);
        len += (size_t)n;
    }
    seen[len] = '\0';
    return len;
}

static void terminal_gets_a_bar_that_is_erased(void **state)
{
    (void)state;
    char seen[16384];
    int master = -1;
    int slave = -1;
    const struct winsize narrow = {.ws_row = 24, .ws_col = 40};

    if (openpty(&master, &slave, NULL, NULL, &narrow) != 0)
        skip();
    (void)setenv("TERM", "xterm", 1);
    (void)setenv("LC_ALL", "C", 1);
    const size_t len = run_task(slave, master, false, seen, sizeof(seen));
    unsigned redraws = 0;
    for (const char *p = seen; (p = strchr(p, '\r')) != NULL; p++)
        redraws++;
    /* 0.3 s at 10 Hz, and the erasure; a slow machine may draw once more or less often */
    assert_in_range(redraws, 2, 12);
    assert_memory_equal(seen, "\rCMU-1.svs", 10);
    assert_non_null(strstr(seen, "%"));
    assert_string_equal(seen + len - 5, "\r\033[K$");
    for (const char *p = seen; *p == '\r';) {
        const size_t columns = strcspn(p + 1, "\033");
        assert_true(columns < 40);
        p += 1 + columns + 3;
    }
    assert_int_equal(run_task(slave, master, true, seen, sizeof(seen)), 1); /* quiet */
    (void)setenv("TERM", "dumb", 1);
    assert_int_equal(run_task(slave, master, false, seen, sizeof(seen)), 1); /* a minute is far */
    (void)close(slave);
    (void)close(master);
}

static void no_terminal_gets_no_bar(void **state)
{
    (void)state;
    char seen[1024];
    int ends[2];

    (void)setenv("TERM", "xterm", 1);
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(run_task(ends[1], ends[0], false, seen, sizeof(seen)), 1);
    (void)close(ends[0]);
    (void)close(ends[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_have_three_digits),
        cmocka_unit_test(times_carry_into_the_next_unit),
        cmocka_unit_test(bar_reads_as_documented),
        cmocka_unit_test(bar_never_exceeds_the_terminal),
        cmocka_unit_test(hostile_names_cannot_move_the_cursor),
        cmocka_unit_test(unknown_totals_show_no_percent),
        cmocka_unit_test(log_line_is_key_value),
        cmocka_unit_test(terminal_gets_a_bar_that_is_erased),
        cmocka_unit_test(no_terminal_gets_no_bar),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
