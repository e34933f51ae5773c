/* ctest: labels=unit,ingest timeout=180
 * A rank's side of a worker: whatever the process does, one outcome of the right class. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/sysinfo.h"
#include "ingest/worker.h"
#include "tests/support/check.h"
#include "tests/support/tmpdir.h"

#define MS UINT64_C(1000000)
#define SECOND (1000 * MS)

typedef struct seen {
    unsigned read_done, stalled, stuck;
    uint64_t took_ns;
} seen;

typedef struct fixture {
    sm_tmpdir dir;
    sm_tmppath program, script;
    sm_job job;
} fixture;

static fixture fx;

static char *copy(const char *text)
{
    char *made = strdup(text);
    assert_non_null(made);
    return made;
}

static int set_up(void **state)
{
    (void)state;
    const char *bin = getenv("SLIDEMILL_BIN");
    fx = (fixture){.dir = sm_tmpdir_make()};
    snprintf(fx.program.path, sizeof fx.program.path, "%s/slidemill-worker",
             bin != NULL ? bin : "bin");
    fx.script = sm_tmpdir_file(&fx.dir, "worker.sh");
    fx.job = (sm_job){.kind = SM_ATTEMPT_HASH, .slide = 7, .root = copy(fx.dir.path)};
    fx.job.main = (sm_job_part){.path = copy("x.svs"), .size_bytes = SM_NO_SIZE};
    uint8_t *bytes = sm_bytes_make(300000, 1);
    const sm_tmppath slide = sm_tmpdir_file(&fx.dir, "x.svs");
    sm_file_write(slide.path, bytes, 300000);
    free(bytes);
    unsetenv("SLIDEMILL_TEST_WORKER");
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    unsetenv("SLIDEMILL_TEST_WORKER");
    sm_job_clear(&fx.job);
    sm_tmpdir_remove(&fx.dir);
    return 0;
}

static sm_worker_config real_worker(void)
{
    return (sm_worker_config){.program = fx.program.path, .memory_bytes = UINT64_C(1) << 30};
}

/* A worker of our own making: a shell script. */
static sm_worker_config fake_worker(const char *body)
{
    FILE *file = fopen(fx.script.path, "w");
    assert_non_null(file);
    assert_true(fprintf(file, "#!/bin/sh\n%s\n", body) > 0);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(chmod(fx.script.path, 0755), 0);
    return (sm_worker_config){.program = fx.script.path, .memory_bytes = UINT64_C(1) << 30};
}

static sm_worker *start(const sm_worker_config *config)
{
    sm_error err = SM_ERROR_INIT;
    sm_worker *w = NULL;
    SM_CHECK_OK(sm_worker_start(config, &fx.job, &w, &err), &err);
    return w;
}

static void wait_on(const sm_worker *w)
{
    struct pollfd fd = {.fd = sm_worker_fd(w), .events = POLLIN};
    (void)poll(&fd, 1, 5);
}

/* Poll to its end, at most so long; counts what is told on the way. */
static void to_the_end(sm_worker *w, uint64_t at_most_ns, seen *s, sm_outcome *outcome)
{
    const uint64_t begin = sm_now_ns();
    *s = (seen){0};
    for (;;) {
        const uint64_t now = sm_now_ns();
        switch (sm_worker_poll(w, now, outcome)) {
        case SM_WORKER_ENDED:
            return;
        case SM_WORKER_READ_DONE:
            s->read_done++;
            break;
        case SM_WORKER_STALLED:
            s->stalled++;
            break;
        case SM_WORKER_STUCK:
            s->stuck++;
            break;
        case SM_WORKER_RUNNING:
            break;
        }
        if (now - begin > at_most_ns)
            fail_msg("the worker has not ended after %u ms", (unsigned)(at_most_ns / MS));
        wait_on(w);
    }
}

static void run(const sm_worker_config *config, seen *s, sm_outcome *outcome)
{
    const uint64_t begin = sm_now_ns(); /* before the worker's own clock */
    sm_worker *w = start(config);
    to_the_end(w, 60 * SECOND, s, outcome);
    s->took_ns = sm_now_ns() - begin;
    sm_worker_free(&w);
    assert_null(w);
}

static void check_outcome(const sm_outcome *o, sm_outcome_kind kind, const char *error_class,
                          const char *text)
{
    if (o->outcome != kind || strcmp(o->error_class, error_class) != 0 ||
        strstr(o->error, text) == NULL)
        fail_msg("outcome %d class '%s' error '%s', wanted %d '%s' '%s'", (int)o->outcome,
                 o->error_class, o->error, (int)kind, error_class, text);
    assert_int_equal(o->slide, 7);
    assert_true(o->began_ns > 0 && o->ended_ns >= o->began_ns);
}

/* ---- the real worker ---- */

static void the_answer_is_handed_out(void **state)
{
    (void)state;
    const sm_worker_config config = real_worker();
    seen s;
    sm_outcome o;
    run(&config, &s, &o);
    check_outcome(&o, SM_OUTCOME_OK, "", "");
    assert_true(o.has_source && o.source_bytes == 300000 && o.n_source_digests == 1);
    assert_int_equal(s.read_done, 1);
    assert_int_equal(s.stalled, 0);
    assert_true(o.peak_rss_bytes > 1 << 20);
    sm_outcome_clear(&o);
}

static void a_job_longer_than_a_pipe_arrives(void **state)
{
    (void)state;
    const sm_worker_config config = real_worker();
    const size_t n = 3000;
    seen s;
    sm_outcome o;
    fx.job.parts = calloc(n, sizeof *fx.job.parts);
    assert_non_null(fx.job.parts);
    for (size_t i = 0; i < n; i++) {
        char name[80];
        snprintf(name, sizeof name, "a/part/with/a/name/of/some/length/%06zu.dat", i);
        fx.job.parts[i] = (sm_job_part){.path = copy(name), .size_bytes = SM_NO_SIZE};
    }
    fx.job.n_parts = n;
    run(&config, &s, &o);
    check_outcome(&o, SM_OUTCOME_RETRY, SM_CLASS_MISSING, "000000.dat");
    sm_outcome_clear(&o);
}

static void each_death_has_its_class(void **state)
{
    (void)state;
    static const struct {
        const char *hook, *error_class, *text;
        uint64_t timeout_ns, memory_bytes;
    } cases[] = {
        {"crash", SM_CLASS_CRASH, "SIGSEGV", 0, UINT64_C(1) << 30},
        {"exit:3", SM_CLASS_INTERNAL, "exit code 3", 0, UINT64_C(1) << 30},
        {"exit:0", SM_CLASS_INTERNAL, "exit code 0", 0, UINT64_C(1) << 30},
        {"spin", SM_CLASS_TIMEOUT, "--slide-timeout", SECOND, UINT64_C(1) << 30},
        {"hang@x.svs", SM_CLASS_TIMEOUT, "stage 'hash'", SECOND, UINT64_C(1) << 30},
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
        {"eat", SM_CLASS_MEMORY, "--memory", 0, UINT64_C(64) << 20},
#endif
    };
    for (size_t i = 0; i < SM_COUNT(cases); i++) {
        sm_worker_config config = real_worker();
        seen s;
        sm_outcome o;
        config.timeout_ns = cases[i].timeout_ns;
        config.memory_bytes = cases[i].memory_bytes;
        setenv("SLIDEMILL_TEST_WORKER", cases[i].hook, 1);
        run(&config, &s, &o);
        check_outcome(&o, SM_OUTCOME_FAILED, cases[i].error_class, cases[i].text);
        assert_non_null(strstr(o.error, "x.svs"));
        if (cases[i].timeout_ns > 0 && s.took_ns < cases[i].timeout_ns)
            fail_msg("%s: killed before its time", cases[i].hook);
        sm_outcome_clear(&o);
    }
}

static void a_stall_is_told_once(void **state)
{
    (void)state;
    sm_worker_config config = real_worker();
    seen s;
    sm_outcome o;
    config.stall_ns = 300 * MS;
    config.timeout_ns = 2 * SECOND;
    setenv("SLIDEMILL_TEST_WORKER", "hang", 1);
    run(&config, &s, &o);
    assert_int_equal(s.stalled, 1);
    check_outcome(&o, SM_OUTCOME_FAILED, SM_CLASS_TIMEOUT, "");
    sm_outcome_clear(&o);
}

/* The hook "hang" does, from when it hangs on; what comes before it ends at SIGTERM. */
static bool ignores_sigterm(const sm_worker *w)
{
    char path[64], line[256];
    unsigned long long ignored = 0;
    (void)snprintf(path, sizeof path, "/proc/%d/status", (int)sm_worker_pid(w));
    FILE *file = fopen(path, "re");
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        if (strncmp(line, "SigIgn:", 7) == 0)
            ignored = strtoull(line + 7, NULL, 16);
    if (file != NULL)
        (void)fclose(file);
    return (ignored >> (SIGTERM - 1) & 1) != 0;
}

static void waits_until_it_hangs(sm_worker *w)
{
    const char *stage = "";
    uint64_t bytes = 0, px = 0, quiet_ns = 0;
    sm_outcome o;
    for (unsigned i = 0; strcmp(stage, "hash") != 0 || !ignores_sigterm(w); i++) {
        if (i > 6000 || sm_worker_poll(w, sm_now_ns(), &o) == SM_WORKER_ENDED)
            fail_msg("it does not come to its work");
        sm_worker_where(w, sm_now_ns(), &stage, &bytes, &px, &quiet_ns);
        wait_on(w);
    }
}

static void what_the_caller_kills_is_abandoned(void **state)
{
    (void)state;
    const sm_worker_config config = real_worker();
    seen s;
    sm_outcome o;
    setenv("SLIDEMILL_TEST_WORKER", "hang", 1);
    sm_worker *w = start(&config);
    waits_until_it_hangs(w);
    sm_worker_stop(w); /* which it ignores */
    const struct timespec pause = {.tv_nsec = 200 * 1000 * 1000};
    nanosleep(&pause, NULL);
    assert_int_not_equal(sm_worker_poll(w, sm_now_ns(), &o), SM_WORKER_ENDED);
    sm_worker_kill(w);
    to_the_end(w, 10 * SECOND, &s, &o);
    check_outcome(&o, SM_OUTCOME_ABANDONED, "", "stopped");
    sm_worker_free(&w);
}

static void a_kill_from_outside_is_tried_again(void **state)
{
    (void)state;
    const sm_worker_config config = real_worker();
    seen s;
    sm_outcome o;
    setenv("SLIDEMILL_TEST_WORKER", "hang", 1);
    sm_worker *w = start(&config);
    waits_until_it_hangs(w);
    assert_int_equal(kill(sm_worker_pid(w), SIGKILL), 0);
    to_the_end(w, 10 * SECOND, &s, &o);
    check_outcome(&o, SM_OUTCOME_RETRY, SM_CLASS_CRASH, "SIGKILL");
    assert_int_equal(sm_worker_pid(w), 0);
    sm_worker_free(&w);
}

static void freeing_ends_a_running_one(void **state)
{
    (void)state;
    const sm_worker_config config = real_worker();
    setenv("SLIDEMILL_TEST_WORKER", "hang", 1);
    sm_worker *w = start(&config);
    const pid_t pid = sm_worker_pid(w);
    assert_int_equal(kill(pid, 0), 0);
    sm_worker_free(&w);
    assert_int_equal(kill(pid, 0), -1); /* reaped */
    sm_worker_free(&w);
}

static void what_a_dead_worker_left_is_swept(void **state)
{
    (void)state;
    const sm_worker_config config = real_worker();
    const sm_tmppath dead = sm_tmpdir_file(&fx.dir, ".x.ome.tiff.Ab12Cd");
    const sm_tmppath other = sm_tmpdir_file(&fx.dir, ".y.ome.tiff.Ab12Cd");
    seen s;
    sm_outcome o;
    sm_file_write(dead.path, "half", 4);
    sm_file_write(other.path, "half", 4);
    fx.job.kind = SM_ATTEMPT_CONVERT;
    fx.job.out_root = copy(fx.dir.path);
    fx.job.out_path = copy("x.ome.tiff");
    fx.job.main.has_digest = true; /* so that the bytes of what is no slide are looked at */
    fx.job.main.digest = sm_digest_xxh128("", 0);
    setenv("SLIDEMILL_TEST_WORKER", "crash", 1);
    run(&config, &s, &o);
    check_outcome(&o, SM_OUTCOME_FAILED, SM_CLASS_CRASH, "SIGSEGV");
    assert_int_equal(access(dead.path, F_OK), -1);
    assert_int_equal(access(other.path, F_OK), 0);
    assert_int_equal(sm_tmpdir_count(fx.dir.path), 2); /* the slide and the other */
    sm_outcome_clear(&o);
}

/* ---- workers of our own making ---- */

#define ANSWER                                                                                     \
    "{\"end\":{\"kind\":\"hash\",\"outcome\":\"ok\",\"slide\":7,\"began\":1,\"ended\":2,"          \
    "\"source\":{\"bytes\":3,\"digests\":[\"sha256:"                                               \
    "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\"]}}}"

static void noise_on_the_pipe_does_no_harm(void **state)
{
    (void)state;
    static const char *const noises[] = {
        "echo garbage >&3; echo >&3; printf '\\000\\001\\377\\n' >&3",
        "head -c 3000000 /dev/zero | tr '\\000' x >&3; echo >&3",
        "head -c 2000000 /dev/urandom >&3; echo >&3",
        "echo '{\"at\":\"../../\",\"bytes\":1,\"px\":1}' >&3",
        "echo '{\"at\":\"read\",\"bytes\":99999999999999999999999,\"px\":1}' >&3",
        "echo '{\"at\":\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\",\"bytes\":1,\"px\":1}' >&3",
        "echo '{\"at\":\"read\",\"bytes\":1,\"px\":1}x' >&3",
        "printf '{\"end\\000\":{}}\\n' >&3",
    };
    for (size_t i = 0; i < SM_COUNT(noises); i++) {
        char body[2000];
        snprintf(body, sizeof body, "%s\necho '%s' >&3", noises[i], ANSWER);
        const sm_worker_config config = fake_worker(body);
        seen s;
        sm_outcome o;
        run(&config, &s, &o);
        if (o.outcome != SM_OUTCOME_OK || o.source_bytes != 3)
            fail_msg("%s: outcome %d, %s", noises[i], (int)o.outcome, o.error);
        sm_outcome_clear(&o);
    }
}

static void a_wrong_answer_is_none(void **state)
{
    (void)state;
    static const char *const answers[] = {
        "{\"end\":}",
        "{\"end\":{}}",
        "{\"end\":{\"kind\":\"hash\",\"outcome\":\"ok\",\"slide\":8,\"began\":1,\"ended\":2,"
        "\"source\":{\"bytes\":3,\"digests\":[\"sha256:"
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\"]}}}",
        "{\"end\":{\"kind\":\"convert\",\"outcome\":\"abandoned\",\"slide\":7,\"began\":1,"
        "\"ended\":2}}",
        "{\"end\":{\"kind\":\"hash\",\"outcome\":\"lost\",\"class\":\"io\",\"slide\":7,\"began\":1,"
        "\"ended\":2}}",
        "{\"end\":{\"kind\":\"hash\",\"outcome\":\"ok\",\"slide\":7,\"began\":1,\"ended\":2}}",
        "{\"end\":[[[[[[[[[[",
    };
    for (size_t i = 0; i < SM_COUNT(answers); i++) {
        char body[1000];
        /* what comes after the first answer does not count */
        snprintf(body, sizeof body, "echo '%s' >&3\necho '%s' >&3", answers[i], ANSWER);
        const sm_worker_config config = fake_worker(body);
        seen s;
        sm_outcome o;
        run(&config, &s, &o);
        if (o.outcome != SM_OUTCOME_FAILED || strcmp(o.error_class, SM_CLASS_INTERNAL) != 0)
            fail_msg("%s: outcome %d, %s", answers[i], (int)o.outcome, o.error);
        sm_outcome_clear(&o);
    }
}

static void an_answer_counts_however_its_process_ends(void **state)
{
    (void)state;
    static const char *const ends[] = {"exit 9", "kill -SEGV $$", "kill -KILL $$"};
    for (size_t i = 0; i < SM_COUNT(ends); i++) {
        char body[1000];
        snprintf(body, sizeof body, "echo '%s' >&3\n%s", ANSWER, ends[i]);
        const sm_worker_config config = fake_worker(body);
        seen s;
        sm_outcome o;
        run(&config, &s, &o);
        check_outcome(&o, SM_OUTCOME_OK, "", "");
        sm_outcome_clear(&o);
    }
}

static void progress_is_followed(void **state)
{
    (void)state;
    sm_worker_config config =
        fake_worker("for i in 1 2 3 4 5 6 7 8 9 10\n"
                    "do echo '{\"at\":\"read\",\"bytes\":'$i',\"px\":7}' >&3; sleep 0.1; done\n"
                    "echo '{\"read_done\":true}' >&3; echo '{\"read_done\":true}' >&3\n"
                    "sleep 0.9; exit 1");
    const char *stage = "";
    uint64_t bytes = 0, px = 0, quiet_ns = 0;
    seen s;
    sm_outcome o;
    config.stall_ns = 500 * MS;
    sm_worker *w = start(&config);
    to_the_end(w, 20 * SECOND, &s, &o);
    sm_worker_where(w, sm_now_ns(), &stage, &bytes, &px, &quiet_ns);
    assert_string_equal(stage, "read");
    assert_int_equal(bytes, 10);
    assert_int_equal(px, 7);
    assert_int_equal(s.read_done, 1);
    assert_int_equal(s.stalled, 1); /* in the last 0.9 s */
    assert_string_equal(sm_worker_job(w)->main.path, "x.svs");
    check_outcome(&o, SM_OUTCOME_FAILED, SM_CLASS_INTERNAL, "exit code 1");
    sm_worker_free(&w);
}

/* Nobody looked while it ran: that its brick is free is known before its end is written down. */
static void the_end_of_reading_is_told_before_the_end(void **state)
{
    (void)state;
    char body[1000];
    snprintf(body, sizeof body, "echo '{\"read_done\":true}' >&3\necho '%s' >&3\n", ANSWER);
    const sm_worker_config config = fake_worker(body);
    seen s;
    sm_outcome o;
    sm_worker *w = start(&config);
    struct pollfd hung_up = {.fd = sm_worker_fd(w)};
    assert_int_equal(poll(&hung_up, 1, 60000), 1);
    (void)usleep(300000); /* the process itself ends a moment later */
    to_the_end(w, 60 * SECOND, &s, &o);
    assert_int_equal(s.read_done, 1);
    check_outcome(&o, SM_OUTCOME_OK, "", "");
    sm_outcome_clear(&o);
    sm_worker_free(&w);
}

static void a_flood_does_not_hold_the_caller(void **state)
{
    (void)state;
    sm_worker_config config = fake_worker("cat /dev/zero >&3");
    seen s;
    sm_outcome o;
    config.timeout_ns = SECOND;
    sm_worker *w = start(&config);
    uint64_t longest = 0;
    for (int i = 0; i < 50; i++) {
        const uint64_t begin = sm_now_ns();
        assert_int_not_equal(sm_worker_poll(w, begin, &o), SM_WORKER_ENDED);
        const uint64_t took = sm_now_ns() - begin;
        longest = took > longest ? took : longest;
    }
    assert_true(longest < 500 * MS);
    to_the_end(w, 20 * SECOND, &s, &o);
    check_outcome(&o, SM_OUTCOME_FAILED, SM_CLASS_TIMEOUT, "");
    sm_worker_free(&w);
}

static void only_its_own_descriptors_are_open(void **state)
{
    (void)state;
    /* 4..9: a shell keeps its script at 10 or above */
    const sm_worker_config config =
        fake_worker("n=41; for f in 4 5 6 7 8 9; do [ ! -e /proc/$$/fd/$f ] || n=40; done\n"
                    "exit $n");
    seen s;
    sm_outcome o;
    int open_here[6];
    for (size_t i = 0; i < SM_COUNT(open_here); i++)
        open_here[i] = dup(STDIN_FILENO); /* not close-on-exec */
    run(&config, &s, &o);
    for (size_t i = 0; i < SM_COUNT(open_here); i++)
        (void)close(open_here[i]);
    check_outcome(&o, SM_OUTCOME_FAILED, SM_CLASS_INTERNAL, "exit code 41");
}

static void a_program_that_is_not_there_is_said(void **state)
{
    (void)state;
    const sm_worker_config config = {.program = "/nowhere/slidemill-worker"};
    sm_error err = SM_ERROR_INIT;
    sm_worker *w = NULL;
    SM_CHECK_FAILS(sm_worker_start(&config, &fx.job, &w, &err), &err, SM_ERR_ARG,
                   "/nowhere/slidemill-worker");
    assert_null(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_answer_is_handed_out, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_job_longer_than_a_pipe_arrives, set_up, tear_down),
        cmocka_unit_test_setup_teardown(each_death_has_its_class, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_stall_is_told_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_the_caller_kills_is_abandoned, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_kill_from_outside_is_tried_again, set_up, tear_down),
        cmocka_unit_test_setup_teardown(freeing_ends_a_running_one, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_a_dead_worker_left_is_swept, set_up, tear_down),
        cmocka_unit_test_setup_teardown(noise_on_the_pipe_does_no_harm, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_wrong_answer_is_none, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_answer_counts_however_its_process_ends, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(progress_is_followed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_end_of_reading_is_told_before_the_end, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_flood_does_not_hold_the_caller, set_up, tear_down),
        cmocka_unit_test_setup_teardown(only_its_own_descriptors_are_open, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_program_that_is_not_there_is_said, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
