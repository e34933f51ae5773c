/* What slides are, asked of `slidemill info`: each in a process of its own, since what a scan meets
 * was never opened before and may take its reader down. */
#include <cjson/cJSON.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/path.h"
#include "common/pool.h"
#include "common/stop.h"
#include "ingest/scan_private.h"

#define BATCH 64
#define PROBE_MS 60000
#define ANSWER_MAX ((size_t)4 * 1024 * 1024)

extern char **environ;

typedef struct probe {
    const char *program;
    const char *path; /* relative to the root */
    sm_buf full;      /* with the root */
    sm_buf answer;
    bool ok;
    char vendor[64], why[256];
    uint32_t w_px, h_px;
    double mpp, objective;
} probe;

static void refuse(probe *p, const char *why)
{
    (void)snprintf(p->why, sizeof p->why, "%s", why);
}

/* ---- the process ---- */

static bool start(probe *p, int *fd, pid_t *pid)
{
    posix_spawn_file_actions_t actions;
    char name[] = "slidemill-info", json[] = "--json", dashes[] = "--";
    char *argv[] = {name, json, dashes, (char *)p->full.data, NULL};
    int ends[2];

    if (pipe2(ends, O_CLOEXEC) != 0)
        return false;
    int rc = posix_spawn_file_actions_init(&actions);
    if (rc == 0) {
        rc = posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
        if (rc == 0)
            rc = posix_spawn_file_actions_adddup2(&actions, ends[1], 1);
        if (rc == 0)
            rc = posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
        if (rc == 0)
            rc = posix_spawn(pid, p->program, &actions, NULL, argv, environ);
        (void)posix_spawn_file_actions_destroy(&actions);
    }
    (void)close(ends[1]);
    *fd = ends[0];
    if (rc != 0)
        (void)close(ends[0]);
    return rc == 0;
}

static int64_t now_ms(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Everything it says; false: too much, or too late. */
static bool read_answer(probe *p, int fd)
{
    sm_error err = SM_ERROR_INIT;
    const int64_t end = now_ms() + PROBE_MS;

    for (;;) {
        struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
        const int64_t left = end - now_ms();
        if (left <= 0 || sm_stop_requested() || p->answer.len > ANSWER_MAX ||
            sm_buf_reserve(&p->answer, p->answer.len + 65536, &err) != SM_OK)
            return false;
        const int ready = poll(&poll_fd, 1, left < 500 ? (int)left : 500);
        if (ready == 0 || (ready < 0 && errno == EINTR))
            continue;
        const ssize_t got = read(fd, p->answer.data + p->answer.len, 65536 - 1);
        if (got <= 0) {
            p->answer.data[p->answer.len] = '\0';
            return got == 0;
        }
        p->answer.len += (size_t)got;
    }
}

/* ---- the answer ---- */

static double number_of(const cJSON *object, const char *key, double max)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);

    if (!cJSON_IsNumber(item) || !isfinite(item->valuedouble) || item->valuedouble <= 0 ||
        item->valuedouble > max)
        return 0;
    return item->valuedouble;
}

static void understand(probe *p)
{
    cJSON *json = cJSON_Parse((const char *)p->answer.data);
    const cJSON *vendor = cJSON_GetObjectItemCaseSensitive(json, "vendor");
    const cJSON *why = cJSON_GetObjectItemCaseSensitive(json, "message");

    p->ok = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(json, "ok"));
    if (!p->ok) {
        refuse(p, cJSON_IsString(why) ? why->valuestring : "its reader gave no answer");
    } else {
        if (cJSON_IsString(vendor))
            (void)snprintf(p->vendor, sizeof p->vendor, "%s", vendor->valuestring);
        p->w_px = (uint32_t)number_of(json, "width_px", UINT32_MAX);
        p->h_px = (uint32_t)number_of(json, "height_px", UINT32_MAX);
        p->mpp = number_of(json, "mpp_x", 1e6);
        p->objective = number_of(json, "objective", 1e6);
    }
    cJSON_Delete(json);
}

static void run_probe(void *arg, unsigned worker)
{
    probe *p = arg;
    pid_t pid = -1;
    int fd = -1, status = 0;

    (void)worker;
    if (sm_stop_requested() || !start(p, &fd, &pid)) {
        refuse(p, "slidemill-info could not be started");
        return;
    }
    const bool whole = read_answer(p, fd);
    if (!whole)
        (void)kill(pid, SIGKILL);
    (void)close(fd);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
    if (!whole)
        refuse(p, "its reader took too long or said too much");
    else if (WIFSIGNALED(status))
        (void)snprintf(p->why, sizeof p->why, "its reader died of signal %d", WTERMSIG(status));
    else
        understand(p);
}

/* ---- all of them ---- */

static sm_status store(scan *s, const probe *p, sm_error *err)
{
    const sm_slide_row row = {.path = p->path,
                              .size_bytes = SM_NO_SIZE,
                              .vendor = p->vendor[0] != '\0' ? p->vendor : NULL,
                              .w_px = p->w_px,
                              .h_px = p->h_px,
                              .mpp = p->mpp,
                              .objective = p->objective,
                              .present = true,
                              .shard = SM_NO_SHARD};
    int64_t id = 0;
    bool added = false;

    s->result->n_probed++;
    if (p->ok)
        return sm_catalog_put(s->catalog, &row, &id, &added, err);
    s->result->n_unprobed++;
    scan_say(s, "%s: not opened: %s", p->path, p->why);
    return SM_OK;
}

static sm_status find_program(char program[PATH_MAX], sm_error *err)
{
    char own[PATH_MAX];
    const ssize_t len = readlink("/proc/self/exe", own, sizeof own - 1);

    own[len > 0 ? len : 0] = '\0';
    char *slash = strrchr(own, '/');
    if (slash != NULL)
        *slash = '\0';
    const int wrote = snprintf(program, PATH_MAX, "%s/slidemill-info", own);
    if (wrote < 0 || wrote >= PATH_MAX || access(program, X_OK) != 0)
        return sm_fail(err, SM_ERR_ARG, "--probe: there is no slidemill-info beside this program");
    return SM_OK;
}

static sm_status probe_batch(scan *s, sm_pool *pool, const char *program, size_t first, size_t n,
                             sm_error *err)
{
    probe *batch = sm_calloc(n, sizeof *batch);
    sm_status st = SM_OK;

    if (batch == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "out of memory for probing slides");
    for (size_t i = 0; st == SM_OK && i < n; i++) {
        batch[i].program = program;
        batch[i].path = s->to_probe.items[first + i];
        st = sm_path_join(sm_catalog_root(s->catalog), batch[i].path, &batch[i].full, err);
        if (st == SM_OK)
            sm_pool_put(pool, run_probe, &batch[i]);
    }
    sm_pool_drain(pool);
    if (st == SM_OK)
        st = sm_stop_check(err);
    for (size_t i = 0; i < n; i++) {
        if (st == SM_OK)
            st = store(s, &batch[i], err);
        sm_buf_free(&batch[i].full);
        sm_buf_free(&batch[i].answer);
    }
    free(batch);
    return st;
}

sm_status scan_probe(scan *s, sm_error *err)
{
    char program[PATH_MAX];
    const long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    sm_pool *pool = NULL;
    sm_status st = find_program(program, err);

    if (st == SM_OK)
        st = sm_pool_new(cpus > 4 ? (unsigned)(cpus < 64 ? cpus : 64) : 4, BATCH, &pool, err);
    for (size_t first = 0; st == SM_OK && first < s->to_probe.n; first += BATCH) {
        const size_t left = s->to_probe.n - first;
        st = probe_batch(s, pool, program, first, left < BATCH ? left : BATCH, err);
        if (s->options->at != NULL)
            s->options->at(s->arg, "probed", s->result->n_folders, s->result->n_probed);
    }
    sm_pool_free(&pool);
    return st;
}
