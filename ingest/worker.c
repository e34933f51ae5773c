/* A worker process seen from its rank: spawn, listen, watch the clock, reap. What comes over the
 * pipe may have been written by hostile bytes, so nothing of it is believed unchecked. */
#include "ingest/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/progress.h"
#include "common/sysinfo.h"
#include "ingest/journal.h"

#define SECOND_NS UINT64_C(1000000000)
#define STUCK_NS (10 * SECOND_NS)
#define END_NS (10 * SECOND_NS)   /* from the answer to the exit */
#define CLEAN_NS (20 * SECOND_NS) /* a sweep that takes longer is given up */

enum {
    FIRST_OWN_FD = 10, /* away from 0..3, which the child's side is put on */
    ANSWER_FD = 3,
    READ_CHUNK = 64 * 1024,
    CHUNKS_A_POLL = 16,
    LINE_MAX_BYTES = SM_JOURNAL_LINE_MAX, /* the answer goes into the journal as well */
};

typedef enum kill_reason { NOT_KILLED, KILLED_TIMEOUT, KILLED_BY_CALLER } kill_reason;

/* A process of ours and the pipe it speaks on. */
typedef struct child {
    pid_t pid; /* 0: none, or reaped */
    int fd;    /* -1: closed */
    int wait_status;
    uint64_t peak_rss_bytes;
} child;

struct sm_worker {
    sm_worker_config config;
    sm_job job;
    char *job_line;
    child main, sweeper; /* the sweeper removes what a dead worker left */
    bool sweeping;
    uint64_t start_ns, kill_ns, sweep_ns, answer_ns;
    int64_t began_ns; /* wall clock */
    kill_reason killed;
    bool asked_to_stop;
    /* what it said */
    sm_buf line;
    bool too_long; /* the line is thrown away up to its end */
    char stage[16];
    uint64_t bytes, px, moved_ns;
    bool stall_told, read_done, read_done_told;
    bool answered, answer_bad;
    sm_error answer_error;
    sm_outcome answer;
};

static int64_t wall_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * (int64_t)SECOND_NS + now.tv_nsec;
}

/* ---- spawn ---- */

static int move_up(int fd)
{
    if (fd < 0)
        return -1;
    const int up = fcntl(fd, F_DUPFD_CLOEXEC, FIRST_OWN_FD);
    const int why = errno;
    (void)close(fd);
    errno = why;
    return up;
}

/* The job as a file in memory: unlike a pipe it takes any length without waiting. */
static int job_file(const char *line)
{
    const int fd = move_up(memfd_create("slidemill-job", MFD_CLOEXEC));
    const size_t len = strlen(line);
    for (size_t done = 0; fd >= 0 && done < len;) {
        const ssize_t n = write(fd, line + done, len - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            const int why = errno;
            (void)close(fd);
            errno = why;
            return -1;
        }
        done += (size_t)n;
    }
    return fd < 0 || lseek(fd, 0, SEEK_SET) != 0 ? -1 : fd;
}

/* 0, or an errno. */
static int spawn_with(const char *program, char **argv, int in, int answer, pid_t *pid)
{
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attributes;
    sigset_t all, none;
    sigfillset(&all);
    sigemptyset(&none);
    int why = posix_spawn_file_actions_init(&files);
    if (why != 0)
        return why;
    why = posix_spawnattr_init(&attributes);
    if (why != 0) {
        (void)posix_spawn_file_actions_destroy(&files);
        return why;
    }
    (void)posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGDEF |
                                                    POSIX_SPAWN_SETSIGMASK);
    (void)posix_spawnattr_setpgroup(&attributes, 0);
    (void)posix_spawnattr_setsigdefault(&attributes, &all);
    (void)posix_spawnattr_setsigmask(&attributes, &none);
    why = posix_spawn_file_actions_adddup2(&files, in, STDIN_FILENO);
    if (why == 0) /* what a library prints must not mix with the run's summary */
        why = posix_spawn_file_actions_adddup2(&files, STDERR_FILENO, STDOUT_FILENO);
    if (why == 0)
        why = posix_spawn_file_actions_adddup2(&files, answer, ANSWER_FD);
    if (why == 0) /* MPI's sockets are not all close-on-exec */
        why = posix_spawn_file_actions_addclosefrom_np(&files, ANSWER_FD + 1);
    if (why == 0)
        why = posix_spawn(pid, program, &files, &attributes, argv, environ);
    (void)posix_spawnattr_destroy(&attributes);
    (void)posix_spawn_file_actions_destroy(&files);
    return why;
}

/* argv: program, options, --memory, --parent, perhaps --sweep. Strings are borrowed but for the
 * two buffers. */
static char **make_argv(const sm_worker_config *config, bool sweep, char memory[48],
                        char parent[48])
{
    size_t n = 0;
    while (config->options != NULL && config->options[n] != NULL)
        n++;
    char **argv = sm_calloc(n + 5, sizeof *argv);
    if (argv == NULL)
        return NULL;
    /* execve takes char *const[] but writes to none of the strings. */
    union {
        const char *in;
        char *out;
    } word = {.in = config->program};
    size_t at = 0;
    argv[at++] = word.out;
    for (size_t i = 0; i < n; i++) {
        word.in = config->options[i];
        argv[at++] = word.out;
    }
    (void)snprintf(memory, 48, "--memory=%" PRIu64, config->memory_bytes);
    (void)snprintf(parent, 48, "--parent=%ld", (long)getpid());
    if (config->memory_bytes > 0)
        argv[at++] = memory;
    argv[at++] = parent;
    word.in = "--sweep";
    if (sweep)
        argv[at] = word.out;
    return argv;
}

static sm_status start_child(const sm_worker *w, bool sweep, child *c, sm_error *err)
{
    char memory[48], parent[48];
    char **argv = make_argv(&w->config, sweep, memory, parent);
    int in = -1, pipe_fds[2] = {-1, -1};
    int why = argv == NULL ? ENOMEM : 0;
    if (why == 0 && pipe2(pipe_fds, O_CLOEXEC) != 0)
        why = errno;
    if (why == 0) {
        pipe_fds[0] = move_up(pipe_fds[0]);
        pipe_fds[1] = move_up(pipe_fds[1]);
        in = job_file(w->job_line);
        if (pipe_fds[0] < 0 || pipe_fds[1] < 0 || in < 0 ||
            fcntl(pipe_fds[0], F_SETFL, O_NONBLOCK) != 0)
            why = errno;
    }
    if (why == 0)
        why = spawn_with(w->config.program, argv, in, pipe_fds[1], &c->pid);
    if (in >= 0)
        (void)close(in);
    if (pipe_fds[1] >= 0)
        (void)close(pipe_fds[1]);
    free(argv);
    if (why == 0) {
        c->fd = pipe_fds[0];
        return SM_OK;
    }
    c->pid = 0;
    if (pipe_fds[0] >= 0)
        (void)close(pipe_fds[0]);
    const bool wrong = why == ENOENT || why == EACCES || why == ENOEXEC || why == ENOTDIR;
    return sm_fail_errno(err, wrong ? SM_ERR_ARG : SM_ERR_IO, why, "%s: cannot start the worker",
                         w->config.program);
}

static sm_status keep_job(sm_worker *w, const sm_job *job, sm_error *err)
{
    sm_buf line = {0};
    sm_status st = sm_job_to_json(job, &line, err);
    if (st == SM_OK)
        st = sm_buf_append(&line, "", 1, err);
    if (st == SM_OK)
        st = sm_job_from_json((const char *)line.data, &w->job, err);
    if (st == SM_OK) {
        line.data[line.len - 1] = '\n';
        st = sm_buf_append(&line, "", 1, err);
    }
    if (st == SM_OK)
        w->job_line = (char *)line.data;
    else
        sm_buf_free(&line);
    return st;
}

sm_status sm_worker_start(const sm_worker_config *config, const sm_job *job, sm_worker **worker,
                          sm_error *err)
{
    *worker = NULL;
    sm_worker *w = sm_calloc(1, sizeof *w);
    if (w == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "out of memory for a worker");
    w->config = *config;
    w->main.fd = w->sweeper.fd = -1;
    w->start_ns = w->moved_ns = sm_now_ns();
    w->began_ns = wall_ns();
    (void)snprintf(w->stage, sizeof w->stage, "start");
    sm_status st = keep_job(w, job, err);
    if (st == SM_OK)
        st = start_child(w, false, &w->main, err);
    if (st == SM_OK)
        *worker = w;
    else
        sm_worker_free(&w);
    return st;
}

/* ---- what it says ---- */

static bool take_number(const char **at, uint64_t *value)
{
    const char *p = *at;
    uint64_t v = 0;
    for (; *p >= '0' && *p <= '9'; p++)
        if (__builtin_mul_overflow(v, UINT64_C(10), &v) ||
            __builtin_add_overflow(v, (uint64_t)(*p - '0'), &v))
            return false;
    if (p == *at)
        return false;
    *at = p;
    *value = v;
    return true;
}

static bool take_text(const char **at, const char *text)
{
    const size_t len = strlen(text);
    if (strncmp(*at, text, len) != 0)
        return false;
    *at += len;
    return true;
}

/* {"at":"read","bytes":1,"px":2} */
static void take_heartbeat(sm_worker *w, const char *line, uint64_t now_ns)
{
    uint64_t bytes = 0, px = 0;
    const char *at = line;
    if (!take_text(&at, "{\"at\":\""))
        return;
    const char *stage = at;
    const size_t len = strspn(at, "abcdefghijklmnopqrstuvwxyz-");
    at += len;
    if (len == 0 || len >= sizeof w->stage || !take_text(&at, "\",\"bytes\":") ||
        !take_number(&at, &bytes) || !take_text(&at, ",\"px\":") || !take_number(&at, &px) ||
        strcmp(at, "}") != 0)
        return;
    if (bytes == w->bytes && px == w->px && strncmp(w->stage, stage, len) == 0 &&
        w->stage[len] == '\0')
        return;
    (void)snprintf(w->stage, sizeof w->stage, "%.*s", (int)len, stage);
    w->bytes = bytes;
    w->px = px;
    w->moved_ns = now_ns;
    w->stall_told = false;
}

/* Is the answer one to our question? */
static bool answer_fits(sm_worker *w)
{
    const sm_outcome *o = &w->answer;
    const char *what = NULL;
    if (o->slide != w->job.slide || o->kind != w->job.kind)
        what = "it is about another job";
    else if (o->outcome == SM_OUTCOME_LOST)
        what = "only the merge can say 'lost'";
    else if (o->outcome == SM_OUTCOME_OK && o->kind == SM_ATTEMPT_CONVERT &&
             (!o->has_output || o->out_path == NULL || strcmp(o->out_path, w->job.out_path) != 0))
        what = "it tells of no output, or of another";
    else if (o->outcome == SM_OUTCOME_OK && o->kind != SM_ATTEMPT_CHECK_OUTPUT && !o->has_source)
        what = "it does not say what the source hashed to";
    if (what != NULL)
        sm_fail(&w->answer_error, SM_ERR_FORMAT, "%s", what);
    return what == NULL;
}

/* {"end":{...}}; len without the newline. Only the first counts. */
static void take_answer(sm_worker *w, const char *line, size_t len, uint64_t now_ns)
{
    static const char HEAD[] = "{\"end\":";
    const size_t head = sizeof HEAD - 1;
    if (w->answered || w->answer_bad)
        return;
    w->answer_error = (sm_error)SM_ERROR_INIT;
    sm_status st = SM_ERR_FORMAT;
    if (len > head + 1 && line[len - 1] == '}')
        st = sm_outcome_from_json(line + head, len - head - 1, &w->answer, &w->answer_error);
    else
        sm_fail(&w->answer_error, SM_ERR_FORMAT, "it is cut short");
    w->answered = st == SM_OK && answer_fits(w);
    w->answer_bad = !w->answered;
    w->answer_ns = now_ns;
    if (st == SM_OK && !w->answered)
        sm_outcome_clear(&w->answer);
}

/* A line that is none of ours is noise: ignored. */
static void take_line(sm_worker *w, uint64_t now_ns)
{
    const char *line = (const char *)w->line.data;
    if (strcmp(line, "{\"read_done\":true}") == 0)
        w->read_done = true;
    else if (strncmp(line, "{\"end\":", 7) == 0)
        take_answer(w, line, w->line.len - 1, now_ns);
    else
        take_heartbeat(w, line, now_ns);
}

static void end_line(sm_worker *w, uint64_t now_ns)
{
    sm_error err = SM_ERROR_INIT;
    if (!w->too_long && memchr(w->line.data, '\0', w->line.len) == NULL &&
        sm_buf_append(&w->line, "", 1, &err) == SM_OK)
        take_line(w, now_ns);
    w->line.len = 0;
    w->too_long = false;
}

static void take_bytes(sm_worker *w, const char *bytes, size_t len, uint64_t now_ns)
{
    sm_error err = SM_ERROR_INIT;
    while (len > 0) {
        const char *newline = memchr(bytes, '\n', len);
        const size_t part = newline != NULL ? (size_t)(newline - bytes) : len;
        if (part > LINE_MAX_BYTES - w->line.len)
            w->too_long = true;
        if (!w->too_long && sm_buf_append(&w->line, bytes, part, &err) != SM_OK)
            w->too_long = true;
        if (w->too_long)
            w->line.len = 0;
        if (newline == NULL)
            return;
        end_line(w, now_ns);
        bytes += part + 1;
        len -= part + 1;
    }
}

/* At most so much a call: a flood on the pipe must not hold the rank. True: there may be more. */
static bool listen_to(sm_worker *w, uint64_t now_ns)
{
    char chunk[READ_CHUNK];
    for (int i = 0; i < CHUNKS_A_POLL && w->main.fd >= 0; i++) {
        const ssize_t n = read(w->main.fd, chunk, sizeof chunk);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return false;
        if (n <= 0) {
            (void)close(w->main.fd); /* only read from */
            w->main.fd = -1;
            return false;
        }
        take_bytes(w, chunk, (size_t)n, now_ns);
    }
    return w->main.fd >= 0;
}

/* ---- its end ---- */

/* True when it is gone. */
static bool reap(child *c)
{
    struct rusage usage;
    if (c->pid == 0)
        return true;
    const pid_t got = wait4(c->pid, &c->wait_status, WNOHANG, &usage);
    if (got == 0 || (got < 0 && errno == EINTR))
        return false;
    if (got == c->pid)
        c->peak_rss_bytes = (uint64_t)usage.ru_maxrss * 1024;
    c->pid = 0;
    return true;
}

static void kill_group(const child *c)
{
    if (c->pid > 0) {
        (void)kill(-c->pid, SIGKILL);
        (void)kill(c->pid, SIGKILL); /* should it not be the leader of its group yet */
    }
}

/* Of the signals that end a process whose allocation failed, and the kernel's own. */
static bool out_of_memory(const sm_worker *w, int signo)
{
    const uint64_t may = w->config.memory_bytes, had = w->main.peak_rss_bytes;
    if (signo == SIGKILL)
        return may == 0 || had >= may / 2;
    return (signo == SIGABRT || signo == SIGTRAP) && may > 0 && had >= may / 2;
}

static void set_failure(sm_outcome *o, sm_outcome_kind kind, const char *error_class,
                        const sm_error *err)
{
    o->outcome = kind;
    (void)snprintf(o->error_class, sizeof o->error_class, "%s", error_class);
    (void)snprintf(o->error, sizeof o->error, "%s", err->message);
}

static void died_of_signal(const sm_worker *w, int signo, const char *where, sm_outcome *o)
{
    sm_error err = SM_ERROR_INIT;
    char rss[16];
    const char *path = w->job.main.path, *name = sigabbrev_np(signo);
    (void)sm_human_bytes(w->main.peak_rss_bytes, rss);
    name = name != NULL ? name : "?";
    if (out_of_memory(w, signo)) {
        sm_fail(&err, SM_ERR_NOMEM,
                "%s: the worker ran out of memory (SIG%s) %s; it had used %s; raise --memory or "
                "use fewer --threads",
                path, name, where, rss);
        set_failure(o, SM_OUTCOME_FAILED, SM_CLASS_MEMORY, &err);
    } else if (signo == SIGKILL) {
        /* Too small for the kernel to have picked it: somebody else's doing, not the slide's. */
        sm_fail(&err, SM_ERR_INTERNAL, "%s: the worker was killed from outside (SIGKILL) %s", path,
                where);
        set_failure(o, SM_OUTCOME_RETRY, SM_CLASS_CRASH, &err);
    } else {
        sm_fail(&err, SM_ERR_INTERNAL, "%s: the worker crashed (SIG%s) %s", path, name, where);
        set_failure(o, SM_OUTCOME_FAILED, SM_CLASS_CRASH, &err);
    }
}

static void ended_without_answer(const sm_worker *w, sm_outcome *o)
{
    const int ws = w->main.wait_status;
    sm_error err = SM_ERROR_INIT;
    sm_error detail = w->answer_error;
    if (w->answer_bad)
        sm_fail(&err, SM_ERR_INTERNAL, "%s: the worker's answer is no answer: %.200s",
                w->job.main.path, detail.message);
    else
        sm_fail(&err, SM_ERR_INTERNAL, "%s: the worker ended with exit code %d and no answer",
                w->job.main.path, WIFEXITED(ws) ? WEXITSTATUS(ws) : -1);
    set_failure(o, SM_OUTCOME_FAILED, SM_CLASS_INTERNAL, &err);
}

static void explain_death(const sm_worker *w, sm_outcome *o)
{
    char where[80], elapsed[16];
    sm_error err = SM_ERROR_INIT;
    const int ws = w->main.wait_status;
    (void)snprintf(where, sizeof where, "in stage '%s', byte %" PRIu64, w->stage, w->bytes);
    if (w->killed == KILLED_TIMEOUT) {
        sm_fail(&err, SM_ERR_LIMIT,
                "%s: not done after %s, %s; the worker was killed (--slide-timeout)",
                w->job.main.path, sm_human_ns(w->config.timeout_ns, elapsed), where);
        set_failure(o, SM_OUTCOME_FAILED, SM_CLASS_TIMEOUT, &err);
    } else if (w->killed == KILLED_BY_CALLER || w->asked_to_stop) {
        sm_fail(&err, SM_ERR_INTERRUPTED, "%s: the worker was stopped %s", w->job.main.path, where);
        set_failure(o, SM_OUTCOME_ABANDONED, "", &err);
    } else if (WIFSIGNALED(ws)) {
        died_of_signal(w, WTERMSIG(ws), where, o);
    } else {
        ended_without_answer(w, o);
    }
}

/* Hand out how it ended. */
static void conclude(sm_worker *w, sm_outcome *outcome)
{
    if (w->answered) {
        *outcome = w->answer; /* with what it owns */
        w->answer = (sm_outcome){0};
        w->answered = false;
    } else {
        *outcome = (sm_outcome){.kind = w->job.kind, .slide = w->job.slide};
        explain_death(w, outcome);
        outcome->began_ns = w->began_ns;
        outcome->ended_ns = wall_ns();
    }
    if (w->main.peak_rss_bytes > outcome->peak_rss_bytes)
        outcome->peak_rss_bytes = w->main.peak_rss_bytes;
}

/* A worker that could not clean up may have left its temporary beside the output. Looking for it
 * touches the mount, so another child does it. True: it is at work. */
static bool sweep(sm_worker *w, uint64_t now_ns)
{
    sm_error err = SM_ERROR_INIT;
    if (w->answered || w->job.kind != SM_ATTEMPT_CONVERT)
        return false;
    if (!w->sweeping) {
        w->sweeping = true;
        w->sweep_ns = now_ns;
        if (start_child(w, true, &w->sweeper, &err) != SM_OK)
            return false; /* the next worker of this slide removes it as well */
    }
    if (w->sweeper.pid != 0 && now_ns - w->sweep_ns > CLEAN_NS)
        kill_group(&w->sweeper);
    return !reap(&w->sweeper);
}

/* ---- poll ---- */

static void watch_clock(sm_worker *w, uint64_t now_ns)
{
    const bool late = w->config.timeout_ns > 0 && !w->answered &&
                      now_ns - w->start_ns > w->config.timeout_ns && now_ns > w->start_ns;
    const bool lingers =
        (w->answered || w->answer_bad) && now_ns > w->answer_ns && now_ns - w->answer_ns > END_NS;
    if (w->kill_ns != 0 || (!late && !lingers))
        return;
    if (late && !lingers)
        w->killed = KILLED_TIMEOUT;
    w->kill_ns = now_ns;
    kill_group(&w->main);
}

static sm_worker_state still_running(sm_worker *w, uint64_t now_ns)
{
    if (w->kill_ns != 0 && now_ns > w->kill_ns && now_ns - w->kill_ns > STUCK_NS)
        return SM_WORKER_STUCK;
    if (w->config.stall_ns > 0 && !w->stall_told && now_ns > w->moved_ns &&
        now_ns - w->moved_ns > w->config.stall_ns) {
        w->stall_told = true;
        return SM_WORKER_STALLED;
    }
    return SM_WORKER_RUNNING;
}

sm_worker_state sm_worker_poll(sm_worker *w, uint64_t now_ns, sm_outcome *outcome)
{
    (void)listen_to(w, now_ns);
    watch_clock(w, now_ns);
    const bool ended = reap(&w->main);
    /* What it wrote before it ended is still in the pipe, and no more than a pipe's worth. */
    for (int i = 0; ended && i < 2 && listen_to(w, now_ns); i++) {
    }
    /* Before its end: the brick is free at once, the end is known only when the journal has it. */
    if (w->read_done && !w->read_done_told) {
        w->read_done_told = true;
        return SM_WORKER_READ_DONE;
    }
    if (!ended)
        return still_running(w, now_ns);
    if (w->main.fd >= 0) {
        (void)close(w->main.fd); /* a grandchild may hold the other end */
        w->main.fd = -1;
    }
    if (sweep(w, now_ns))
        return SM_WORKER_RUNNING;
    conclude(w, outcome);
    return SM_WORKER_ENDED;
}

int sm_worker_fd(const sm_worker *w)
{
    return w->main.fd;
}

void sm_worker_where(const sm_worker *w, uint64_t now_ns, const char **stage, uint64_t *bytes,
                     uint64_t *px, uint64_t *quiet_ns)
{
    *stage = w->stage;
    *bytes = w->bytes;
    *px = w->px;
    *quiet_ns = now_ns > w->moved_ns ? now_ns - w->moved_ns : 0;
}

const sm_job *sm_worker_job(const sm_worker *w)
{
    return &w->job;
}

pid_t sm_worker_pid(const sm_worker *w)
{
    return w->main.pid;
}

void sm_worker_stop(sm_worker *w)
{
    w->asked_to_stop = true;
    if (w->main.pid > 0)
        (void)kill(w->main.pid, SIGTERM);
}

void sm_worker_kill(sm_worker *w)
{
    if (w->main.pid <= 0)
        return;
    if (w->killed == NOT_KILLED)
        w->killed = KILLED_BY_CALLER;
    if (w->kill_ns == 0)
        w->kill_ns = sm_now_ns();
    kill_group(&w->main);
}

/* Killed, and given a moment: one that sits in a read that cannot be interrupted is left to init.
 */
static void put_away(child *c)
{
    const struct timespec pause = {.tv_nsec = 2000000};
    kill_group(c);
    for (int i = 0; i < 500 && !reap(c); i++)
        (void)nanosleep(&pause, NULL);
    if (c->fd >= 0)
        (void)close(c->fd); /* only read from */
}

void sm_worker_free(sm_worker **worker)
{
    sm_worker *w = *worker;
    if (w == NULL)
        return;
    put_away(&w->main);
    put_away(&w->sweeper);
    if (w->answered)
        sm_outcome_clear(&w->answer);
    sm_buf_free(&w->line);
    sm_job_clear(&w->job);
    free(w->job_line);
    free(w);
    *worker = NULL;
}
