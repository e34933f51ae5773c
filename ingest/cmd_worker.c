/* slidemill-worker: one job from standard input, its outcome on descriptor 3, then the end.
 * Decoders meet hostile bytes here, in a process that may die. Started by slidemill-ingest, not by
 * people.
 *
 * For the tests of who watches it, SLIDEMILL_TEST_WORKER=crash|spin|eat|hang|exit:N, perhaps with
 * @TEXT behind it (only slides whose path contains TEXT), makes it misbehave in mid-work. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "common/opts.h"
#include "common/stop.h"
#include "common/sysinfo.h"
#include "common/trace.h"
#include "ingest/perform.h"
#include "tiler/convert_opts.h"
#include "tiler/versions.h"

enum { ANSWER_FD = 3, OPEN_FILES = 1024 };
#define HEARTBEAT_NS UINT64_C(250000000)
#define JOB_MAX_BYTES ((size_t)64 << 20)

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SM_SANITIZED 1
#endif
#elif defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SM_SANITIZED 1
#endif

typedef struct config {
    sm_convert_flags convert;
    uint32_t parent;
    bool sweep;
} config;

static const sm_opt OPTIONS[] = {
    SM_CONVERT_OPTION_ROWS(config, convert, "media"),
    {"parent", SM_OPT_U32, offsetof(config, parent), 0, 0, "0", "PID",
     "Process to die with. 0: whichever started this one."},
    {"sweep", SM_OPT_FLAG, offsetof(config, sweep), 0, 0, NULL, NULL,
     "Only remove what a dead worker left beside the job's output."},
};

static const char *const OPERANDS[] = {"JOB"};

static const sm_command COMMAND = {
    .name = "worker",
    .summary = "do one job of an ingest (internal)",
    .synopsis = "[options] <JOB 3>ANSWER",
    .description = "Started by slidemill ingest, one process a slide: reads a job from standard "
                   "input, does it, and writes its progress and outcome to descriptor 3.",
    .exit_status = "0 the outcome was written, whatever it is\n"
                   "2 wrong command line, or no job\n"
                   "74 the outcome could not be written\n",
    .opts = OPTIONS,
    .n_opts = SM_COUNT(OPTIONS),
    .operand_names = OPERANDS,
};

/* ---- misbehaving on purpose ---- */

typedef struct test_hook {
    const char *how; /* NULL: behaves */
    size_t len;
} test_hook;

static test_hook find_hook(const char *path)
{
    test_hook hook = {getenv("SLIDEMILL_TEST_WORKER"), 0};
    if (hook.how == NULL || hook.how[0] == '\0')
        return (test_hook){NULL, 0};
    hook.len = strcspn(hook.how, "@");
    if (hook.how[hook.len] == '@' && strstr(path, hook.how + hook.len + 1) == NULL)
        hook.how = NULL;
    return hook;
}

static bool hook_is(const test_hook *hook, const char *name)
{
    return strlen(name) == hook->len && strncmp(hook->how, name, hook->len) == 0;
}

static _Noreturn void wait_for_ever(void)
{
    signal(SIGTERM, SIG_IGN);
    for (;;)
        (void)pause();
}

/* Memory that is used at first, then only asked for: the limit is met and the machine spared. */
static _Noreturn void eat_memory(void)
{
    const size_t piece = (size_t)16 << 20;
    for (unsigned n = 0;; n++) {
        char *bytes = sm_malloc_array(piece, 1);
        if (bytes == NULL)
            abort();
        memset(bytes, 1, n < 16 ? piece : 4096);
    }
}

static void misbehave(const test_hook *hook)
{
    if (hook->how == NULL)
        return;
    if (hook_is(hook, "crash")) {
        signal(SIGSEGV, SIG_DFL); /* sanitizers catch it */
        (void)raise(SIGSEGV);
    }
    for (volatile unsigned spin = 0; hook_is(hook, "spin");)
        spin = spin + 1;
    if (hook_is(hook, "eat"))
        eat_memory();
    if (hook_is(hook, "hang"))
        wait_for_ever();
    if (hook->len > 5 && strncmp(hook->how, "exit:", 5) == 0)
        _exit((int)strtol(hook->how + 5, NULL, 10));
}

/* ---- the answer ---- */

typedef struct teller {
    uint64_t last_ns;
    char stage[16];
    test_hook hook;
} teller;

/* All of it or, where the pipe is full, nothing: a short line is written at once. */
static void try_to_say(const char *line, size_t len)
{
    if (write(ANSWER_FD, line, len) < 0 && errno == EPIPE)
        _exit(1); /* nobody is there any more */
}

static void say_at(void *arg, const char *stage, uint64_t bytes, uint64_t px)
{
    teller *t = arg;
    char line[128];
    const uint64_t now = sm_now_ns();
    const bool same = strcmp(stage, t->stage) == 0;
    if (bytes > 0 || px > 0 || strcmp(stage, "fsync") == 0)
        misbehave(&t->hook);
    if (same && now - t->last_ns < HEARTBEAT_NS)
        return;
    t->last_ns = now;
    (void)snprintf(t->stage, sizeof t->stage, "%s", stage);
    const int len =
        snprintf(line, sizeof line, "{\"at\":\"%s\",\"bytes\":%" PRIu64 ",\"px\":%" PRIu64 "}\n",
                 t->stage, bytes, px);
    try_to_say(line, (size_t)len);
}

static void say_read_done(void *arg)
{
    static const char LINE[] = "{\"read_done\":true}\n";
    (void)arg;
    try_to_say(LINE, sizeof LINE - 1);
}

static sm_status write_answer(const uint8_t *bytes, size_t len, sm_error *err)
{
    struct pollfd room = {.fd = ANSWER_FD, .events = POLLOUT};
    while (len > 0) {
        const ssize_t n = write(ANSWER_FD, bytes, len);
        if (n < 0 && errno == EAGAIN) {
            (void)poll(&room, 1, -1);
        } else if (n < 0 && errno != EINTR) {
            return sm_fail_errno(err, SM_ERR_IO, errno, "cannot write the outcome");
        } else if (n > 0) {
            bytes += n;
            len -= (size_t)n;
        }
    }
    return SM_OK;
}

static sm_status answer(const sm_outcome *outcome, sm_error *err)
{
    sm_buf line = {0};
    sm_status st = sm_buf_printf(&line, err, "{\"end\":");
    if (st == SM_OK)
        st = sm_outcome_to_json(outcome, &line, err);
    if (st == SM_OK)
        st = sm_buf_printf(&line, err, "}\n");
    if (st == SM_OK)
        st = write_answer(line.data, line.len, err);
    sm_buf_free(&line);
    return st;
}

/* ---- the process ---- */

/* Address space is not memory: maps, arenas and stacks of threads are counted, so it is generous
 * and stops only what has run wild. */
static void limit_memory(uint64_t memory_bytes)
{
#ifndef SM_SANITIZED
    const uint64_t spare = (uint64_t)2 << 30;
    struct rlimit limit;
    if (memory_bytes > (UINT64_MAX - spare) / 4 || getrlimit(RLIMIT_AS, &limit) != 0)
        return;
    const uint64_t want = 4 * memory_bytes + spare;
    if (limit.rlim_cur != RLIM_INFINITY && limit.rlim_cur <= want)
        return;
    limit.rlim_cur = want;
    (void)setrlimit(RLIMIT_AS, &limit); /* below the hard limit, so it is allowed */
#else
    (void)memory_bytes;
#endif
}

static void set_limits(void)
{
    struct rlimit files;
    const struct rlimit none = {0, 0};
    (void)setrlimit(RLIMIT_CORE, &none); /* slides are private */
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max < OPEN_FILES ? files.rlim_max : OPEN_FILES;
        (void)setrlimit(RLIMIT_NOFILE, &files);
    }
}

/* Nobody is left to take the answer: nobody may be left to publish anything either. */
static bool tie_to_parent(uint32_t parent)
{
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0)
        return false;
    return parent == 0 || (uint32_t)getppid() == parent;
}

static sm_status read_job(sm_job *job, sm_error *err)
{
    char chunk[16384];
    sm_buf text = {0};
    sm_status st = SM_OK;
    ssize_t n = 0;
    do {
        n = read(STDIN_FILENO, chunk, sizeof chunk);
        if (n > 0)
            st = sm_buf_append(&text, chunk, (size_t)n, err);
        if (st == SM_OK && text.len > JOB_MAX_BYTES)
            st = sm_fail(err, SM_ERR_LIMIT, "a job of more than %zu bytes", JOB_MAX_BYTES);
    } while (st == SM_OK && (n > 0 || (n < 0 && errno == EINTR)));
    if (st == SM_OK && n < 0)
        st = sm_fail_errno(err, SM_ERR_IO, errno, "cannot read the job from standard input");
    if (st == SM_OK && text.len > 0 && text.data[text.len - 1] == '\n')
        text.len--;
    if (st == SM_OK)
        st = sm_buf_append(&text, "", 1, err);
    if (st == SM_OK)
        st = sm_job_from_json((const char *)text.data, job, err);
    sm_buf_free(&text);
    return st;
}

/* As slidemill convert does: tiles come and go by the ten thousand. */
static void keep_memory(void)
{
    (void)mallopt(M_MMAP_THRESHOLD, 32 << 20);
    (void)mallopt(M_TRIM_THRESHOLD, 512 << 20);
    (void)mallopt(M_TOP_PAD, 4 << 20);
}

/* Every slide has a trace of its own: FILE with the slide's number before its suffix. */
static void start_trace(int64_t slide)
{
    const char *path = getenv("SLIDEMILL_TRACE");
    sm_error err = SM_ERROR_INIT;
    sm_buf own = {0};
    if (path == NULL || path[0] == '\0')
        return;
    sm_status st = sm_trace_path(path, slide, &own, &err);
    if (st == SM_OK)
        st = sm_trace_start((const char *)own.data, &err);
    if (st != SM_OK)
        (void)fprintf(stderr, "slidemill worker: warning: SLIDEMILL_TRACE: %s\n", err.message);
    sm_buf_free(&own);
}

static void stop_trace(void)
{
    sm_error err = SM_ERROR_INIT;
    if (sm_trace_stop(&err) != SM_OK)
        (void)fprintf(stderr, "slidemill worker: warning: SLIDEMILL_TRACE: %s\n", err.message);
}

static sm_status work(const config *c, const sm_job *job, sm_error *err)
{
    teller tell = {.hook = find_hook(job->main.path)};
    const sm_perform_watch watch = {.arg = &tell, .at = say_at, .read_done = say_read_done};
    sm_convert_options options;
    sm_allowance threads, memory;
    sm_outcome outcome;
    if (fcntl(ANSWER_FD, F_SETFL, O_NONBLOCK) != 0)
        return sm_fail_errno(err, SM_ERR_ARG, errno,
                             "descriptor %d is not open: this program is for slidemill ingest",
                             ANSWER_FD);
    sm_convert_flags_options(&c->convert, &options, &threads, &memory);
    limit_memory(memory.value);
    keep_memory();
    start_trace(job->slide);
    sm_perform(job, &options, &watch, &outcome);
    stop_trace();
    const sm_status st = answer(&outcome, err);
    sm_outcome_clear(&outcome);
    return st;
}

int main(int argc, char **argv)
{
    config c = {0};
    const char *operands[1];
    unsigned n = 0;
    int code = 0;
    if (!sm_opts_start(&COMMAND, argc, argv, &c, operands, &n, sm_library_versions(), &code))
        return code;
    sm_error err = SM_ERROR_INIT;
    sm_job job = {0};
    if (!tie_to_parent(c.parent))
        return sm_exit_code(SM_ERR_INTERRUPTED);
    sm_stop_install();
    set_limits();
    sm_status st = sm_convert_flags_check(&c.convert, &err);
    if (st == SM_OK && c.convert.verify == (int)SM_VERIFY_NONE)
        st = sm_fail(&err, SM_ERR_ARG, "--verify: what is recorded must be read back, not 'none'");
    if (st == SM_OK)
        st = read_job(&job, &err);
    if (st == SM_OK && c.sweep)
        sm_perform_sweep(&job);
    else if (st == SM_OK)
        st = work(&c, &job, &err);
    sm_job_clear(&job);
    if (st == SM_OK)
        return 0;
    (void)fprintf(stderr, "slidemill worker: %s\n", err.message);
    return st == SM_ERR_IO ? sm_exit_code(st) : 2;
}
