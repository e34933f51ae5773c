/* Starts programs one after the other and waits for them; owns the command lines and outputs. Time
 * is taken with a descriptor of the process, so that waiting costs nothing and signals are seen. */
#include "bench/runner.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/stop.h"
#include "common/sysinfo.h"

#define OUTPUT_MOST ((size_t)16 << 20)
#define TERM_GRACE_NS UINT64_C(5000000000)

enum { POLL_MS = 100 };

/* ---- command lines ---- */

void bench_argv_add(bench_argv *argv, const char *fmt, ...)
{
    char *word = NULL;
    va_list args;
    va_start(args, fmt);
    const int len = vasprintf(&word, fmt, args);
    va_end(args);
    if (len < 0 || argv->n == BENCH_WORDS_MAX) {
        if (len >= 0)
            free(word);
        argv->failed = true;
        return;
    }
    argv->words[argv->n++] = word;
    argv->words[argv->n] = NULL;
}

void bench_argv_split(bench_argv *argv, const char *words)
{
    while (*words != '\0') {
        const size_t len = strcspn(words, " ");
        bench_argv_add(argv, "%.*s", (int)len, words);
        words += len + (words[len] == ' ');
    }
}

void bench_argv_free(bench_argv *argv)
{
    for (size_t i = 0; i < argv->n; i++)
        free(argv->words[i]);
    *argv = (bench_argv){0};
}

/* ---- ending ---- */

void bench_runner_start(void)
{
    (void)prctl(PR_SET_CHILD_SUBREAPER, 1UL, 0UL, 0UL, 0UL);
}

static void nap(long ms)
{
    const struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    (void)nanosleep(&t, NULL);
}

/* Our children, also those we took over from a program that died. Numbers of processes that were
 * not waited for cannot be used anew, so none of somebody else is hit. */
static bool kill_children(void)
{
    char text[4096];
    bool any = false;
    FILE *f = fopen("/proc/thread-self/children", "re");
    const size_t len = f != NULL ? fread(text, 1, sizeof text - 1, f) : 0;
    if (f != NULL)
        (void)fclose(f);
    text[len] = '\0';
    for (char *at = text; *at >= '0' && *at <= '9';) {
        const long pid = strtol(at, &at, 10);
        any = kill((pid_t)pid, SIGKILL) == 0 || any;
        at += strspn(at, " \n");
    }
    return any;
}

/* mpirun hands SIGTERM on to ranks in groups that we do not know. What it leaves is ours then, as
 * we are the subreaper. */
static void end_program(pid_t pid, int pidfd)
{
    const uint64_t until = sm_now_ns() + TERM_GRACE_NS;
    bool gone = false;
    (void)kill(-pid, SIGTERM);
    while (!gone && sm_now_ns() < until) {
        struct pollfd p = {.fd = pidfd, .events = POLLIN};
        if (pidfd >= 0)
            (void)poll(&p, 1, POLL_MS);
        else
            nap(POLL_MS);
        gone = waitpid(pid, NULL, WNOHANG) != 0;
    }
    (void)kill(-pid, SIGKILL);
    if (!gone)
        (void)waitpid(pid, NULL, 0);
    for (unsigned tries = 0; tries < 200 && kill_children(); tries++) {
        while (waitpid(-1, NULL, WNOHANG) > 0)
            ;
        nap(10);
    }
}

/* ---- one program ---- */

static int spawn_in_group(char *const *argv, int out, int err_fd, pid_t *pid)
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
    why = posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    if (why == 0)
        why = posix_spawn_file_actions_adddup2(&files, out, STDOUT_FILENO);
    if (why == 0)
        why = posix_spawn_file_actions_adddup2(&files, err_fd, STDERR_FILENO);
    if (why == 0)
        why = posix_spawnp(pid, argv[0], &files, &attributes, argv, environ);
    (void)posix_spawnattr_destroy(&attributes);
    (void)posix_spawn_file_actions_destroy(&files);
    return why;
}

static sm_status read_all(int fd, sm_buf *out, sm_error *err)
{
    const off_t end = lseek(fd, 0, SEEK_END);
    const size_t len = end > 0 && (uintmax_t)end < OUTPUT_MOST ? (size_t)end : 0;
    sm_status st = sm_buf_reserve(out, len + 1, err);
    if (st != SM_OK)
        return st;
    const ssize_t got = pread(fd, out->data, len, 0);
    out->len = got > 0 ? (size_t)got : 0;
    out->data[out->len] = '\0';
    return SM_OK;
}

/* The last line that is not empty. */
static void last_line(const sm_buf *text, char out[200])
{
    size_t end = text->len;
    while (end > 0 && strchr(" \t\r\n", text->data[end - 1]) != NULL)
        end--;
    size_t from = end;
    while (from > 0 && text->data[from - 1] != '\n' && text->data[from - 1] != '\r')
        from--;
    (void)snprintf(out, 200, "%.*s", (int)(end - from), (const char *)text->data + from);
}

static double seconds(struct timeval t)
{
    return (double)t.tv_sec + (double)t.tv_usec / 1e6;
}

static sm_status wait_for(pid_t pid, bench_run *run, sm_error *err)
{
    const int pidfd = pidfd_open(pid, 0);
    struct rusage use = {0};
    int status = 0;
    pid_t got = 0;
    while (got == 0 || (got < 0 && errno == EINTR)) {
        struct pollfd p = {.fd = pidfd, .events = POLLIN};
        if (pidfd >= 0)
            (void)poll(&p, 1, POLL_MS);
        else
            nap(2);
        got = wait4(pid, &status, WNOHANG, &use);
        if (got != pid && sm_stop_requested()) {
            end_program(pid, pidfd);
            break;
        }
    }
    if (pidfd >= 0)
        (void)close(pidfd);
    if (got != pid)
        return sm_stop_requested() ? sm_stop_check(err)
                                   : sm_fail_errno(err, SM_ERR_INTERNAL, errno, "wait4");
    run->cpu_s = seconds(use.ru_utime) + seconds(use.ru_stime);
    run->rss_mib = (double)use.ru_maxrss / 1024;
    run->code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    return SM_OK;
}

static sm_status run_into(const bench_argv *argv, bench_run *run, int out, int err_fd,
                          sm_error *err)
{
    sm_buf said = {0};
    pid_t pid = 0;
    const uint64_t start = sm_now_ns();
    const int why = spawn_in_group(argv->words, out, err_fd, &pid);
    if (why != 0)
        return sm_fail_errno(err, SM_ERR_ARG, why, "%s: cannot be started", argv->words[0]);
    sm_status st = wait_for(pid, run, err);
    run->wall_s = (double)(sm_now_ns() - start) / 1e9;
    if (st == SM_OK)
        st = read_all(out, &run->out, err);
    if (st == SM_OK)
        st = read_all(err_fd, &said, err);
    if (st == SM_OK)
        last_line(&said, run->last);
    if (st == SM_OK && run->last[0] == '\0')
        last_line(&run->out, run->last);
    sm_buf_free(&said);
    return st;
}

sm_status bench_run_program(const bench_argv *argv, bench_run *run, sm_error *err)
{
    bench_run_free(run);
    if (argv->failed || argv->n == 0)
        return sm_fail(err, SM_ERR_NOMEM, "no memory for a command line");
    sm_status st = sm_stop_check(err);
    if (st != SM_OK)
        return st;
    /* in memory, unlike pipes they take any length without a reader */
    const int out = memfd_create("slidemill-bench-out", MFD_CLOEXEC);
    const int err_fd = memfd_create("slidemill-bench-err", MFD_CLOEXEC);
    if (out < 0 || err_fd < 0)
        st = sm_fail_errno(err, SM_ERR_INTERNAL, errno, "memfd_create");
    else
        st = run_into(argv, run, out, err_fd, err);
    if (out >= 0)
        (void)close(out);
    if (err_fd >= 0)
        (void)close(err_fd);
    return st;
}

void bench_run_free(bench_run *run)
{
    sm_buf_free(&run->out);
    *run = (bench_run){0};
}

/* ---- finding programs ---- */

bool bench_own_program(const char *name, char path[PATH_MAX])
{
    static const char *const BESIDE[] = {"", "/../libexec/slidemill"};
    char folder[PATH_MAX];
    const ssize_t len = readlink("/proc/self/exe", folder, sizeof folder - 1);
    folder[len > 0 ? len : 0] = '\0';
    char *slash = strrchr(folder, '/');
    if (slash != NULL)
        *slash = '\0';
    for (size_t i = 0; i < SM_COUNT(BESIDE); i++) {
        const int n = snprintf(path, PATH_MAX, "%s%s/%s", folder, BESIDE[i], name);
        if (n > 0 && n < PATH_MAX && access(path, X_OK) == 0)
            return true;
    }
    return false;
}

bool bench_other_program(const char *name, const char *folder, char path[PATH_MAX])
{
    const char *entry = getenv("PATH");
    int n = folder != NULL ? snprintf(path, PATH_MAX, "%s/%s", folder, name) : 0;
    if (n > 0 && n < PATH_MAX && access(path, X_OK) == 0)
        return true;
    while (entry != NULL && *entry != '\0') {
        const size_t len = strcspn(entry, ":");
        n = snprintf(path, PATH_MAX, "%.*s/%s", (int)len, entry, name);
        if (*entry == '/' && n > 0 && n < PATH_MAX && access(path, X_OK) == 0)
            return true;
        entry += len + (entry[len] == ':');
    }
    return false;
}

sm_status bench_version(const char *path, const char *words, char out[128], sm_error *err)
{
    bench_argv argv = {0};
    bench_run run = {0};
    out[0] = '\0';
    bench_argv_add(&argv, "%s", path);
    bench_argv_split(&argv, words);
    const sm_status st = bench_run_program(&argv, &run, err);
    if (st == SM_OK && run.code == 0)
        (void)snprintf(out, 128, "%.*s", (int)strcspn((const char *)run.out.data, "\r\n"),
                       (const char *)run.out.data);
    bench_run_free(&run);
    bench_argv_free(&argv);
    return st == SM_ERR_ARG ? SM_OK : st;
}
