/* catalog retry, merge and verify. Owns nothing beyond a call. */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/stop.h"
#include "ingest/catalog_cli.h"
#include "ingest/merge.h"

extern char **environ;

/* ---- retry ---- */

/* Journals first: what they still tell is older than this. */
static sm_status merge_and_retry(sm_catalog *catalog, catalog_args *args,
                                 const sm_slide_filter *filter, sm_merge_state **merged,
                                 uint64_t *n, bool *changed, sm_error *err)
{
    sm_merge_result result;
    sm_status st = sm_merge_fold(catalog, NULL, 0, catalog_say, args, &result, merged, err);

    if (st == SM_OK)
        st = sm_catalog_retry(catalog, filter, n, err);
    *changed = st == SM_OK && (result.changed || *n > 0);
    return st;
}

static sm_status retry_filter(catalog_args *args, sm_slide_filter *filter, sm_buf *glob,
                              sm_error *err)
{
    *filter = (sm_slide_filter){.error_class = args->class_name, .glob = args->glob};
    sm_status st = catalog_parse_states(args->state, &filter->by_state, err);

    if (st == SM_OK && (filter->by_state & (1u << SM_SLIDE_NEW | 1u << SM_SLIDE_PLANNED)) != 0)
        st = sm_fail(err, SM_ERR_ARG, "--state: new and planned slides are tried anyway");
    if (st != SM_OK || args->path == NULL)
        return st;
    if (args->glob != NULL)
        return sm_fail(err, SM_ERR_ARG, "--path and --glob together: choose one");
    st = catalog_glob_of(args->path, glob, err);
    filter->glob = (const char *)glob->data;
    return st;
}

int catalog_retry(catalog_args *args)
{
    const sm_generation_config config = catalog_config(args);
    sm_error err = SM_ERROR_INIT;
    sm_catalog *catalog = NULL;
    sm_merge_state *merged = NULL;
    sm_slide_filter filter;
    sm_buf glob = {0};
    uint64_t n = 0;
    bool changed = false;
    char number[64];
    sm_status st = retry_filter(args, &filter, &glob, &err);

    if (st == SM_OK)
        st = sm_catalog_change(args->operands[0], &config, &catalog, &err);
    if (st == SM_OK)
        st = merge_and_retry(catalog, args, &filter, &merged, &n, &changed, &err);
    if (st == SM_OK && changed)
        st = sm_catalog_commit(&catalog, &err);
    sm_catalog_close(&catalog);
    if (st == SM_OK)
        st = sm_merge_retire(&merged, &err);
    sm_merge_state_free(&merged);
    sm_buf_free(&glob);
    if (st == SM_OK) {
        (void)printf("%s will be tried again\n", catalog_count(n, "slide", number));
        st = catalog_flush(&err);
    }
    return st == SM_OK ? 0 : catalog_fail(args, &err);
}

/* ---- merge ---- */

static void print_count(const char *word, uint64_t n, const char *what)
{
    char number[32];

    if (n > 0)
        (void)printf("  %-12s %12s%s%s\n", word, catalog_number(n, number),
                     *what != '\0' ? "  " : "", what);
}

static void print_merge(const char *path, const sm_merge_result *r)
{
    char journals[64];

    (void)printf("%s\n", catalog_count(r->n_journals, "journal", journals));
    print_count("live", r->n_live, "are still written; merge again when their runs ended");
    print_count("events", r->n_new_events, "were new");
    print_count("known", r->n_events - r->n_new_events, "events were in the catalog already");
    print_count("lost", r->n_lost, "slides were begun by a rank that died; they are tried again");
    print_count("torn", r->n_torn, "journals end in half a line, as after a crash; it was dropped");
    print_count("bad", r->n_bad_lines, "lines are damaged; their journals are kept");
    print_count("foreign", r->n_foreign, "journals are of another catalog");
    if (r->changed)
        (void)printf("%s: generation %" PRIu64 "\n", catalog_clean(path), r->generation);
    else
        (void)printf("%s: nothing new\n", catalog_clean(path));
}

static sm_status merge(catalog_args *args, sm_merge_result *result, sm_error *err)
{
    const sm_generation_config config = catalog_config(args);

    return sm_merge(args->operands[0], &config, args->operands + 1, args->n_operands - 1,
                    catalog_say, args, result, err);
}

int catalog_merge(catalog_args *args)
{
    sm_error err = SM_ERROR_INIT;
    sm_merge_result result;
    sm_status st = merge(args, &result, &err);

    if (st == SM_OK) {
        print_merge(args->operands[0], &result);
        st = catalog_flush(&err);
    }
    if (st != SM_OK)
        return catalog_fail(args, &err);
    return result.n_bad_lines + result.n_foreign > 0 ? sm_exit_code(SM_ERR_CORRUPT) : 0;
}

/* ---- verify ---- */

#define WORDS_MAX 64

/* The launcher's words, split at blanks, then ours; all in one text, each with its NUL. */
typedef struct command {
    char program[PATH_MAX];
    sm_buf text;
    char *argv[WORDS_MAX + 1];
    size_t n;
} command;

static sm_status add_word(command *c, const char *word, size_t len, sm_error *err)
{
    if (c->n++ == WORDS_MAX)
        return sm_fail(err, SM_ERR_ARG, "--mpi: too many words");
    const sm_status st = sm_buf_append(&c->text, word, len, err);
    return st == SM_OK ? sm_buf_append(&c->text, "", 1, err) : st;
}

/* Once the text does not move any more. */
static void set_argv(command *c)
{
    char *at = (char *)c->text.data;

    for (size_t i = 0; i < c->n; i++) {
        c->argv[i] = at;
        at += strlen(at) + 1;
    }
}

static sm_status find_ingest(command *c, sm_error *err)
{
    const ssize_t len = readlink("/proc/self/exe", c->program, sizeof c->program - 1);
    static const char NAME[] = "/slidemill-ingest";

    c->program[len > 0 ? len : 0] = '\0';
    char *slash = strrchr(c->program, '/');
    const size_t room = slash != NULL ? sizeof c->program - (size_t)(slash - c->program) : 0;
    if (room < sizeof NAME)
        return sm_fail(err, SM_ERR_IO, "the folder of this program cannot be found");
    memcpy(slash, NAME, sizeof NAME);
    if (access(c->program, X_OK) != 0)
        return sm_fail_errno(err, SM_ERR_ARG, errno,
                             "%s: verify needs slidemill-ingest (package slidemill-mpi)",
                             c->program);
    return SM_OK;
}

static sm_status make_command(catalog_args *args, command *c, sm_error *err)
{
    const char *mpi = args->mpi != NULL ? args->mpi : "";
    const char *const ours[] = {c->program, "--catalog", args->operands[0],
                                args->what == WHAT_OUTPUTS ? "--check-outputs" : "--hash-only",
                                "--recheck"};
    sm_status st = find_ingest(c, err);

    for (const char *at = mpi + strspn(mpi, " "); st == SM_OK && *at != '\0';) {
        const size_t len = strcspn(at, " ");
        st = add_word(c, at, len, err);
        at += len + strspn(at + len, " ");
    }
    for (size_t i = 0; st == SM_OK && i < SM_COUNT(ours); i++)
        st = add_word(c, ours[i], strlen(ours[i]), err);
    if (st == SM_OK)
        set_argv(c);
    return st;
}

/* A signal that asks us to stop is passed on, once, as the one that mpirun and srun hand to their
 * ranks; the run then ends by itself with 75. */
static int wait_for(pid_t pid)
{
    const struct timespec pause = {.tv_nsec = 20000000};
    bool told = false;
    int status = 0;

    for (;;) {
        const pid_t got = waitpid(pid, &status, WNOHANG);
        if (got == pid)
            break;
        if (got < 0 && errno != EINTR)
            return sm_exit_code(SM_ERR_INTERNAL);
        if (sm_stop_requested() && !told) {
            told = true;
            (void)kill(pid, SIGUSR1);
        }
        (void)nanosleep(&pause, NULL);
    }
    if (WIFEXITED(status))
        return WEXITSTATUS(status);
    return told ? sm_exit_code(SM_ERR_INTERRUPTED) : sm_exit_code(SM_ERR_INTERNAL);
}

static sm_status start(command *c, pid_t *pid, sm_error *err)
{
    posix_spawnattr_t attributes;
    sigset_t defaults;
    int rc = posix_spawnattr_init(&attributes);

    if (rc == 0) {
        (void)sigemptyset(&defaults);
        (void)sigaddset(&defaults, SIGPIPE); /* we ignore it; a launcher may not expect that */
        (void)posix_spawnattr_setsigdefault(&attributes, &defaults);
        (void)posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF);
        rc = posix_spawnp(pid, c->argv[0], NULL, &attributes, c->argv, environ);
        (void)posix_spawnattr_destroy(&attributes);
    }
    return rc == 0 ? SM_OK : sm_fail_errno(err, SM_ERR_ARG, rc, "%s", c->argv[0]);
}

int catalog_verify(catalog_args *args)
{
    command c = {.n = 0};
    sm_error err = SM_ERROR_INIT;
    sm_merge_result result;
    pid_t pid = -1;
    sm_status st = make_command(args, &c, &err);

    if (st == SM_OK) {
        (void)fflush(stdout);
        st = start(&c, &pid, &err);
    }
    sm_buf_free(&c.text);
    if (st != SM_OK)
        return catalog_fail(args, &err);
    const int code = wait_for(pid);
    if (sm_stop_requested() || code == sm_exit_code(SM_ERR_ARG) ||
        code == sm_exit_code(SM_ERR_BUSY))
        return code; /* its journals are merged by whoever comes next */
    st = merge(args, &result, &err);
    if (st == SM_OK)
        print_merge(args->operands[0], &result);
    if (st == SM_OK)
        st = catalog_flush(&err);
    if (st != SM_OK) {
        const int merge_code = catalog_fail(args, &err);
        return code != 0 ? code : merge_code;
    }
    return code;
}
