/* slidemill ingest: the command line of sm_run, on every rank. */
#include <cjson/cJSON.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/opts.h"
#include "common/progress.h"
#include "common/stop.h"
#include "common/sysinfo.h"
#include "ingest/out_path.h"
#include "ingest/run.h"
#include "tiler/convert_opts.h"
#include "tiler/versions.h"

enum { LOG_TEXT, LOG_JSON };

/* What the option table fills. */
typedef struct config {
    sm_convert_flags convert;
    const char *catalog, *out, *shard, *suffix;
    bool hash_only, check_outputs, recheck, quiet, brick_blind;
    uint32_t workers, streams_per_brick, slide_timeout, stall, grace, retry_for;
    int log;
} config;

#define AT(member) offsetof(config, member)
#define SECONDS_MAX UINT64_C(31536000) /* a year */

static const sm_opt OPTIONS[] = {
    {"catalog", SM_OPT_STR, AT(catalog), 0, 0, NULL, "FILE", "The catalog of the corpus. Needed."},
    {"out", SM_OPT_STR, AT(out), 0, 0, NULL, "DIR",
     "Folder of the pyramids; the folders of the slides are kept below it. Made if only its last "
     "component is missing."},
    {"shard", SM_OPT_STR, AT(shard), 0, 0, NULL, "K",
     "Only shard K of the plan, from 0 on. Default: every slide of the catalog."},
    {"hash-only", SM_OPT_FLAG, AT(hash_only), 0, 0, NULL, NULL,
     "Read the slides and check or learn their digests; convert nothing."},
    {"check-outputs", SM_OPT_FLAG, AT(check_outputs), 0, 0, NULL, NULL,
     "Read the pyramids and compare them with the digests of the catalog."},
    {"recheck", SM_OPT_FLAG, AT(recheck), 0, 0, NULL, NULL,
     "With --hash-only or --check-outputs: also what was checked before."},
    {"suffix", SM_OPT_STR, AT(suffix), 0, 0, ".ome.tiff", "TEXT",
     "What the names of the pyramids end in, in place of the slide's own ending."},
    {"workers", SM_OPT_U32, AT(workers), 0, 256, "0", "N",
     "Slides at once per rank. 0: 1, with --hash-only and --check-outputs 2."},
    {"streams-per-brick", SM_OPT_U32, AT(streams_per_brick), 0, 65535, "8", "N",
     "Slides read at once from one brick, over all ranks of this job. 0: no limit."},
    {"brick-blind", SM_OPT_FLAG, AT(brick_blind), 0, 0, NULL, NULL,
     "Give out the longest slide first and heed no brick, to measure what heeding them gains."},
    {"slide-timeout", SM_OPT_U32, AT(slide_timeout), 0, SECONDS_MAX, "7200", "S",
     "Seconds until the worker of a slide is killed and the slide recorded as failed. 0: never."},
    {"stall", SM_OPT_U32, AT(stall), 0, SECONDS_MAX, "120", "S",
     "Say which slide has made no progress for so long, and at what stage. 0: never."},
    {"grace", SM_OPT_U32, AT(grace), 0, SECONDS_MAX, "100", "S",
     "After a signal: time for slides at work to finish."},
    {"retry-for", SM_OPT_U32, AT(retry_for), 0, SECONDS_MAX, "600", "S",
     "How long a slide that meets storage errors, or is not there, is tried again."},
    {"log", SM_OPT_CHOICE, AT(log), 0, 0, "text", "text|json",
     "Lines on standard error, and the summary: key=value, or JSON."},
    {"quiet", SM_OPT_FLAG, AT(quiet), 0, 0, NULL, NULL, "Only warnings, errors and the summary."},
    SM_CONVERT_OPTION_ROWS(config, convert, "media"),
};

static const sm_command COMMAND = {
    .name = "ingest",
    .summary = "convert the slides of a catalog, on one rank or many",
    .synopsis = "[options] --catalog FILE --out DIR",
    .description =
        "Converts what the catalog knows and has no verified pyramid of, each slide in a worker "
        "process of its own, so that a slide can fail but not stop the run. Digests that the "
        "catalog expects are compared before anything is published; unknown ones are learned.\n\n"
        "Under mpirun or srun the ranks share the work: rank 0 gives out slides, longest first, "
        "and keeps the bricks evenly busy. Without a launcher there is one rank and no MPI.\n\n"
        "Results go into journals beside the catalog; `slidemill catalog merge` folds them in. Run "
        "it again after anything: what is recorded is not done twice. SIGTERM, SIGINT and SIGUSR1 "
        "let the slides at work finish (--grace), then stop; exit code 75 says there is more to "
        "do.",
    .examples = "slidemill ingest --catalog corpus.smc --out /mnt/pyramids\n"
                "    everything, one slide at a time\n"
                "mpirun -n 16 slidemill ingest --catalog corpus.smc --out /mnt/out --shard 7\n"
                "    one shard of the plan, 16 slides at a time\n"
                "slidemill ingest --catalog corpus.smc --hash-only\n"
                "    check or learn the digests of the slides\n",
    .exit_status =
        "0 every slide is done\n"
        "1 some slides failed or were quarantined\n"
        "2 wrong command line, or the catalog belongs to another --out or other options\n"
        "65 the catalog is damaged\n"
        "70 out of memory, or an error of slidemill's own\n"
        "74 the catalog or the journal could not be read or written\n"
        "75 interrupted, more to do; or another run holds the shard\n",
    .opts = OPTIONS,
    .n_opts = SM_COUNT(OPTIONS),
};

/* ---- the command line ---- */

static sm_status parse_shard(const char *text, uint32_t *shard, sm_error *err)
{
    char *end = NULL;
    *shard = SM_NO_SHARD;
    if (text == NULL)
        return SM_OK;
    const unsigned long long n = strtoull(text, &end, 10);
    if (*text < '0' || *text > '9' || *end != '\0' || n >= SM_NO_SHARD)
        return sm_fail(err, SM_ERR_ARG, "--shard: '%s' is not a number of a shard", text);
    *shard = (uint32_t)n;
    return SM_OK;
}

static sm_status check(const config *c, sm_run_config *run, sm_error *err)
{
    if (c->catalog == NULL)
        return sm_fail(err, SM_ERR_ARG, "--catalog is missing");
    if (c->hash_only && c->check_outputs)
        return sm_fail(err, SM_ERR_ARG, "--hash-only and --check-outputs exclude each other");
    run->kind = c->hash_only       ? SM_ATTEMPT_HASH
                : c->check_outputs ? SM_ATTEMPT_CHECK_OUTPUT
                                   : SM_ATTEMPT_CONVERT;
    if (run->kind == SM_ATTEMPT_CONVERT && c->out == NULL)
        return sm_fail(err, SM_ERR_ARG, "--out is missing");
    if (run->kind == SM_ATTEMPT_CONVERT && c->recheck)
        return sm_fail(err, SM_ERR_ARG,
                       "--recheck goes with --hash-only or --check-outputs; to convert again, see "
                       "'slidemill catalog retry'");
    if (c->convert.verify == SM_VERIFY_NONE)
        return sm_fail(err, SM_ERR_ARG,
                       "--verify: none is not for a corpus: what is recorded was read back");
    sm_status st = sm_out_suffix_check(c->suffix, err);
    if (st == SM_OK)
        st = sm_convert_flags_check(&c->convert, err);
    return st == SM_OK ? parse_shard(c->shard, &run->shard, err) : st;
}

static void fill_run(const config *c, sm_run_config *run)
{
    const uint64_t s = UINT64_C(1000000000);
    run->catalog = c->catalog;
    run->out = run->kind == SM_ATTEMPT_HASH ? NULL : c->out;
    run->suffix = c->suffix;
    run->recheck = c->recheck;
    run->workers = c->workers;
    if (run->workers == 0)
        run->workers = run->kind == SM_ATTEMPT_CONVERT ? 1 : 2;
    run->streams_per_brick = c->streams_per_brick;
    run->brick_blind = c->brick_blind;
    run->slide_timeout_ns = c->slide_timeout * s;
    run->stall_ns = c->stall * s;
    run->grace_ns = c->grace * s;
    run->retry_for_ns = c->retry_for * s;
    run->json_log = c->log == LOG_JSON;
    run->quiet = c->quiet;
}

/* ---- what each worker may use ---- */

static uint64_t cpus_of_node(void)
{
    const char *text = getenv("SLURM_CPUS_ON_NODE");
    const unsigned long said =
        text != NULL && *text >= '1' && *text <= '9' ? strtoul(text, NULL, 10) : 0;
    const long online = sysconf(_SC_NPROCESSORS_ONLN);
    return said > 0 ? said : online > 0 ? (uint64_t)online : 1;
}

static uint64_t at_least_one(uint64_t n)
{
    return n > 0 ? n : 1;
}

/* --threads is per worker. What Slurm gives is per task; affinity may or may not be per rank, so
 * the node's CPUs are dealt out as well; a quota holds for all ranks of the container. */
static uint32_t threads_of_worker(const config *c, uint32_t on_node, uint32_t workers)
{
    if (c->convert.threads > 0)
        return c->convert.threads;
    const sm_allowance may = sm_sysinfo_threads();
    uint64_t n = may.value;
    if (strcmp(may.where, "cgroup quota") == 0)
        n = n / on_node;
    else if (strncmp(may.where, "SLURM", 5) != 0 && cpus_of_node() / on_node < n)
        n = cpus_of_node() / on_node;
    return (uint32_t)at_least_one(at_least_one(n) / workers);
}

/* A tenth stays for the ranks themselves and for the page cache of the mount's client. */
static uint64_t memory_of_worker(const config *c, uint32_t on_node, uint32_t workers)
{
    if (c->convert.memory > 0)
        return c->convert.memory;
    const sm_allowance may = sm_sysinfo_memory();
    const bool per_task =
        strcmp(may.where, "SLURM_MEM_PER_CPU") == 0 && getenv("SLURM_CPUS_PER_TASK") != NULL;
    return may.value / 10 * 9 / (per_task ? 1 : on_node) / workers;
}

/* Strings of an option list, one after the other. */
typedef struct words {
    sm_buf text;
    const char **list; /* NULL-terminated */
} words;

static sm_status split_words(words *w, size_t n, sm_error *err)
{
    w->list = sm_calloc(n + 1, sizeof *w->list);
    if (w->list == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "no memory for the options");
    const char *at = (const char *)w->text.data;
    for (size_t i = 0; i < n; i++, at += strlen(at) + 1)
        w->list[i] = at;
    return SM_OK;
}

static sm_status worker_options(const config *c, const sm_ranks *ranks, sm_run_config *run,
                                words *options, sm_error *err)
{
    sm_convert_flags flags = c->convert;
    size_t n = 0;
    flags.threads = threads_of_worker(c, sm_ranks_on_node(ranks), run->workers);
    flags.memory = memory_of_worker(c, sm_ranks_on_node(ranks), run->workers);
    run->memory_bytes = flags.memory;
    sm_status st = sm_convert_flags_argv(&flags, false, &options->text, &n, err);
    if (st == SM_OK)
        st = split_words(options, n, err);
    run->worker_options = options->list;
    return st;
}

/* "--suffix=.ome.tiff --levels=auto ...": what decides names and bytes. */
static sm_status target_options(const config *c, sm_buf *out, sm_error *err)
{
    size_t n = 0;
    sm_status st = sm_buf_printf(out, err, "--suffix=%s%c", c->suffix, '\0');
    if (st == SM_OK)
        st = sm_convert_flags_argv(&c->convert, true, out, &n, err);
    for (size_t i = 0; st == SM_OK && i + 1 < out->len; i++)
        if (out->data[i] == '\0')
            out->data[i] = ' ';
    return st;
}

static sm_status find_worker(char path[PATH_MAX], sm_error *err)
{
    static const char *const BESIDE[] = {"", "/../libexec/slidemill"};
    char folder[PATH_MAX];
    const ssize_t len = readlink("/proc/self/exe", folder, sizeof folder - 1);
    folder[len > 0 ? len : 0] = '\0';
    char *slash = strrchr(folder, '/');
    if (slash != NULL)
        *slash = '\0';
    for (size_t i = 0; i < SM_COUNT(BESIDE); i++) {
        const int n = snprintf(path, PATH_MAX, "%s%s/slidemill-worker", folder, BESIDE[i]);
        if (n > 0 && n < PATH_MAX && access(path, X_OK) == 0)
            return SM_OK;
    }
    return sm_fail(err, SM_ERR_IO,
                   "the program slidemill-worker is neither in %s nor in %s/../libexec/slidemill",
                   folder, folder);
}

static sm_status command_line(int argc, char **argv, sm_buf *out, sm_error *err)
{
    sm_status st = sm_buf_printf(out, err, "slidemill ingest");
    for (int i = 1; st == SM_OK && i < argc; i++)
        st = sm_buf_printf(out, err, " %s", argv[i]);
    return st == SM_OK ? sm_buf_append(out, "", 1, err) : st;
}

/* ---- the summary ---- */

static double per_second(uint64_t n, uint64_t ns)
{
    return ns > 0 ? (double)n / 1e6 / ((double)ns / 1e9) : 0;
}

static void print_text(const config *c, const sm_run_result *r)
{
    char in[16], out[16], elapsed[16];
    (void)printf("%" PRIu64 " of %" PRIu64 " slides done in %s: %s read (%.1f MB/s)", r->n_done,
                 r->n, sm_human_ns(r->elapsed_ns, elapsed), sm_human_bytes(r->bytes_in, in),
                 per_second(r->bytes_in, r->elapsed_ns));
    if (r->bytes_out > 0)
        (void)printf(", %s written, %.1f Mpx/s", sm_human_bytes(r->bytes_out, out),
                     per_second(r->pixels, r->elapsed_ns));
    (void)printf("\n");
    if (r->n_before > 0)
        (void)printf("%" PRIu64 " slides were recorded by earlier runs\n", r->n_before);
    if (r->n_failed + r->n_quarantined > 0)
        (void)printf("%" PRIu64 " failed, %" PRIu64 " quarantined; see them with 'slidemill "
                     "catalog merge %s' and 'slidemill catalog list %s --state failed'\n",
                     r->n_failed, r->n_quarantined, c->catalog, c->catalog);
    if (r->n_failed_before > 0)
        (void)printf("%" PRIu64 " failed or were quarantined in earlier runs\n",
                     r->n_failed_before);
    if (r->n_retries > 0)
        (void)printf("%" PRIu64 " retries after storage errors\n", r->n_retries);
    if (r->n_left > 0)
        (void)printf("%" PRIu64 " slides are left; run the same command again\n", r->n_left);
}

static void print_json(const sm_run_result *r, const sm_error *failure)
{
    const struct {
        const char *key;
        uint64_t value;
    } numbers[] = {{"slides", r->n},
                   {"done", r->n_done},
                   {"failed", r->n_failed},
                   {"quarantined", r->n_quarantined},
                   {"left", r->n_left},
                   {"retries", r->n_retries},
                   {"recorded_before", r->n_before},
                   {"failed_before", r->n_failed_before},
                   {"bytes_in", r->bytes_in},
                   {"bytes_out", r->bytes_out},
                   {"pixels", r->pixels}};
    cJSON *object = cJSON_CreateObject();
    (void)cJSON_AddStringToObject(object, "status", sm_status_name(failure->status));
    if (failure->status != SM_OK)
        (void)cJSON_AddStringToObject(object, "error", failure->message);
    for (size_t i = 0; i < SM_COUNT(numbers); i++)
        (void)cJSON_AddNumberToObject(object, numbers[i].key, (double)numbers[i].value);
    (void)cJSON_AddNumberToObject(object, "elapsed_s", (double)r->elapsed_ns / 1e9);
    char *text = cJSON_PrintUnformatted(object);
    (void)puts(text != NULL ? text : "{}");
    cJSON_free(text);
    cJSON_Delete(object);
}

static int tell(const config *c, const sm_run_result *r, const sm_error *failure)
{
    const bool began = failure->status == SM_OK || r->elapsed_ns > 0;
    if (failure->status != SM_OK)
        (void)fprintf(stderr, "slidemill ingest: %s\n", failure->message);
    if (c->log == LOG_JSON)
        print_json(r, failure);
    else if (began)
        print_text(c, r);
    if (fflush(stdout) != 0 || ferror(stdout)) {
        (void)fprintf(stderr, "slidemill ingest: cannot write to standard output\n");
        return failure->status == SM_OK ? sm_exit_code(SM_ERR_IO) : 0;
    }
    return 0;
}

static int exit_code(const sm_run_result *r, sm_status st)
{
    if (st != SM_OK)
        return sm_exit_code(st);
    return r->n_failed + r->n_quarantined + r->n_failed_before > 0 ? 1 : 0;
}

/* ---- main ---- */

static sm_status run_all(const config *c, int argc, char **argv, sm_run_config *run,
                         sm_ranks *ranks, sm_run_result *result, sm_error *err)
{
    char worker[PATH_MAX];
    words options = {0};
    sm_buf target = {0}, command = {0};
    fill_run(c, run);
    run->worker_program = worker;
    sm_status st = find_worker(worker, err);
    if (st == SM_OK)
        st = worker_options(c, ranks, run, &options, err);
    if (st == SM_OK)
        st = target_options(c, &target, err);
    if (st == SM_OK)
        st = command_line(argc, argv, &command, err);
    st = sm_ranks_agree(ranks, st, err);
    if (st == SM_OK) {
        run->target_options = (const char *)target.data;
        run->command = (const char *)command.data;
        st = sm_run(ranks, run, result, err);
    }
    *run = (sm_run_config){0}; /* it points to what goes away here */
    sm_buf_free(&options.text);
    free(options.list);
    sm_buf_free(&target);
    sm_buf_free(&command);
    return st;
}

int main(int argc, char **argv)
{
    config c = {0};
    unsigned n = 0;
    int code = 0;
    if (!sm_opts_start(&COMMAND, argc, argv, &c, NULL, &n, sm_library_versions(), &code))
        return code;
    sm_error err = SM_ERROR_INIT;
    sm_run_config run = {0};
    sm_run_result result = {0};
    sm_ranks *ranks = NULL;
    sm_status st = check(&c, &run, &err);
    if (st != SM_OK) {
        (void)fprintf(stderr, "slidemill ingest: %s\ntry 'slidemill ingest --help'\n", err.message);
        return sm_exit_code(st);
    }
    st = sm_ranks_init(&argc, &argv, &ranks, &err);
    if (st != SM_OK) {
        (void)fprintf(stderr, "slidemill ingest: %s\n", err.message);
        return sm_exit_code(st);
    }
    sm_stop_install();
    st = run_all(&c, argc, argv, &run, ranks, &result, &err);
    if (st == SM_OK)
        err = (sm_error)SM_ERROR_INIT;
    code = exit_code(&result, st);
    if (sm_ranks_me(ranks) == 0 || result.deserted) {
        const int wrong = tell(&c, &result, &err);
        code = code == 0 ? wrong : code;
    }
    if (result.deserted && sm_ranks_n(ranks) > 1)
        sm_ranks_abort(ranks, code);
    sm_ranks_finish(&ranks);
    return code;
}
