/* slidemill bench: how fast is what a corpus lies on, and did it change. */
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "bench/bricks.h"
#include "bench/compare.h"
#include "common/opts.h"
#include "common/stop.h"
#include "ingest/rank.h"

typedef struct bench_args {
    const char *operands[2];
    unsigned n_operands;
    bricks_options bricks;
    bool all;
} bench_args;

#define AT(field) offsetof(bench_args, field)

static const sm_opt BRICKS_OPTIONS[] = {
    {"budget", SM_OPT_BYTES, AT(bricks.budget), 1 << 20, UINT64_C(1) << 50, "2G", "SIZE",
     "Bytes that probe files may take on the mount at a time. At most half of what is free."},
    {"time", SM_OPT_U32, AT(bricks.time_s), 2, 86400, "120", "s",
     "How long it may take; repeats that do not fit are left out."},
    {"file-size", SM_OPT_BYTES, AT(bricks.file_bytes), 1 << 20, UINT64_C(1) << 40, NULL, "SIZE",
     "Bytes of a probe file; else what the budget allows, 1G at most."},
    {"streams-max", SM_OPT_U32, AT(bricks.streams_max), 1, BRICKS_STREAMS_MAX, "8", "N",
     "Streams on one brick, at most; 1, 2, 4, ... are tried until it gets no faster."},
    {"repeats", SM_OPT_U32, AT(bricks.repeats), 1, BRICKS_REPEATS_MAX, "3", "N",
     "Times everything is measured."},
    {"drop-caches", SM_OPT_FLAG, AT(bricks.drop_caches), 0, 0, NULL, NULL,
     "Before each cold read empty the page cache of this whole machine too, where that is allowed "
     "(root). For bricks on the same machine; disturbs whoever else works there."},
    {"seed", SM_OPT_U32, AT(bricks.seed), 0, UINT32_MAX, "1", "N", "Of the bytes written."},
    {"json", SM_OPT_STR, AT(bricks.json), 0, 0, NULL, "FILE",
     "Write the result as JSON lines too; - writes them to standard output, without the tables."},
    {"quiet", SM_OPT_FLAG, AT(bricks.quiet), 0, 0, NULL, NULL, "No progress."},
};

static const sm_opt COMPARE_OPTIONS[] = {
    {"all", SM_OPT_FLAG, AT(all), 0, 0, NULL, NULL, "Also the numbers that did not change."},
};

static const char *const MOUNT_OPERAND[] = {"MOUNT"};
static const char *const TWO_OPERANDS[] = {"A", "B"};
static const char *const COMMAND_OPERAND[] = {"COMMAND"};

static const sm_command SUBS[] = {
    {.name = "bench bricks",
     .summary = "how fast is every brick behind a mount",
     .synopsis = "[options] MOUNT",
     .description =
         "Places probe files in a hidden folder of MOUNT until every brick of the GlusterFS volume "
         "has enough (elsewhere a device is one brick), then measures each brick: writing, fsync, "
         "reading cold and warm, reading as slides are read, with more and more streams, with "
         "small and large blocks, io_uring and threads, through the cache and past it; then all "
         "bricks at once. Bricks take turns, everything is repeated, medians count. Names slow "
         "bricks, and says which --streams-per-brick is enough.\n"
         "\n"
         "The files are removed at the end, also after Ctrl-C; those of a run that was killed, by "
         "the next. Under mpirun the streams of a brick are shared out among the ranks.",
     .examples = "slidemill bench bricks /mnt/corpus --budget 20G --json now.jsonl\n"
                 "    two minutes on the volume\n"
                 "mpirun -n 8 slidemill-bench bricks /mnt/corpus\n    from eight ranks at once\n",
     .exit_status = "0  done\n"
                    "2  wrong command line, or MOUNT cannot be written\n"
                    "65 --budget does not fit: the free space, the bricks or --time\n"
                    "70 out of memory, or an error of slidemill's own\n"
                    "74 storage failed; or a brick could not be measured, and the rest was\n"
                    "75 interrupted; probe files were removed\n",
     .opts = BRICKS_OPTIONS,
     .n_opts = SM_COUNT(BRICKS_OPTIONS),
     .min_operands = 1,
     .max_operands = 1,
     .operand_names = MOUNT_OPERAND},
    {.name = "bench compare",
     .summary = "is one result faster than another, beyond the noise",
     .synopsis = "[options] A B",
     .description =
         "Takes two results of a benchmark (JSON or JSON lines) and says of every number in both "
         "whether B is faster or slower than A. Spreads that touch are no difference; a number of "
         "fewer than three runs is taken to be 10% uncertain.",
     .exit_status = "0  nothing is slower\n"
                    "1  something is slower\n"
                    "2  wrong command line, or no number in common\n"
                    "65 a file is no JSON\n"
                    "74 reading failed\n",
     .opts = COMPARE_OPTIONS,
     .n_opts = SM_COUNT(COMPARE_OPTIONS),
     .min_operands = 2,
     .max_operands = 2,
     .operand_names = TWO_OPERANDS},
};

static const sm_command COMMAND = {
    .name = "bench",
    .summary = "how fast is every brick behind a mount; compare two results",
    .synopsis = "COMMAND [options] ...",
    .description = "Measures what a corpus lies on.\n"
                   "\n"
                   "`slidemill bench COMMAND --help` prints a command's options.",
    .examples = "slidemill bench bricks /mnt/corpus\n    every brick of the volume\n"
                "slidemill bench compare before.jsonl after.jsonl\n    what changed\n",
    .exit_status = "0  done\n"
                   "1  compare: something is slower\n"
                   "2  wrong command line, or a file that is not there\n"
                   "65 bad input\n"
                   "70 out of memory, or an error of slidemill's own\n"
                   "74 storage failed\n"
                   "75 interrupted\n",
    .min_operands = 1,
    .operand_names = COMMAND_OPERAND,
    .subs = SUBS,
    .n_subs = SM_COUNT(SUBS),
};

static int fail(const char *what, const sm_error *err)
{
    (void)fprintf(stderr, "slidemill bench %s: %s\n", what, err->message);
    return sm_exit_code(err->status);
}

static bool all_well(const bricks_probe *probe)
{
    bool well = probe->n_refused == 0 && probe->n_bricks >= probe->n_expected;
    for (uint32_t b = 0; b < probe->n_bricks; b++)
        well = well && !probe->bricks[b].failed;
    return well;
}

static sm_status tell(const bricks_options *options, const bricks_result *result, sm_error *err)
{
    const bool only_json = options->json != NULL && strcmp(options->json, "-") == 0;
    if (!only_json)
        bricks_print(result);
    if (fflush(stdout) != 0)
        return sm_fail(err, SM_ERR_IO, "standard output: cannot be written");
    return options->json != NULL ? bricks_write_json(result, options->json, err) : SM_OK;
}

/* Rank 0 makes and removes the files and speaks; the others only load. */
static int run_bricks(sm_ranks *ranks, bench_args *args)
{
    static bricks_probe probe = {.lock_fd = -1};
    bricks_result result = {0};
    sm_error err = SM_ERROR_INIT;
    const bool first = sm_ranks_me(ranks) == 0;
    sm_status st = SM_OK;

    args->bricks.mount = args->operands[0];
    if (first)
        st = bricks_place(&args->bricks, &probe, &err);
    st = sm_ranks_agree(ranks, st, &err);
    if (st == SM_OK)
        st = bricks_share(ranks, &probe, &err);
    if (st == SM_OK)
        st = bricks_run(ranks, &args->bricks, &probe, &result, &err);
    bool removed = true;
    if (first)
        removed = bricks_remove(&probe);
    if (first && st == SM_OK)
        st = tell(&args->bricks, &result, &err);
    int code = sm_exit_code(st);
    if (st == SM_ERR_INTERRUPTED)
        (void)snprintf(err.message, sizeof err.message, "interrupted; %s",
                       removed ? "the probe files were removed" : "some probe files stay");
    if (first && st != SM_OK)
        (void)fail("bricks", &err);
    else if (first && (!removed || !all_well(&probe)))
        code = sm_exit_code(SM_ERR_IO);
    bricks_result_free(&result);
    bricks_free(&probe);
    return code;
}

static int run_compare(const bench_args *args)
{
    sm_error err = SM_ERROR_INIT;
    bool any_slower = false;
    const sm_status st =
        bench_compare(args->operands[0], args->operands[1], args->all, &any_slower, &err);
    return st != SM_OK ? fail("compare", &err) : any_slower ? 1 : 0;
}

int main(int argc, char **argv)
{
    bench_args args = {0};
    sm_ranks *ranks = NULL;
    sm_error err = SM_ERROR_INIT;
    int code = 0;
    const sm_command *sub = sm_opts_choose(&COMMAND, argc, argv, NULL, &code);

    if (sub == NULL || !sm_opts_start(sub, argc - 1, argv + 1, &args, args.operands,
                                      &args.n_operands, NULL, &code))
        return code;
    if (sub != &SUBS[0])
        return run_compare(&args);
    if (sm_ranks_init(&argc, &argv, &ranks, &err) != SM_OK)
        return fail("bricks", &err);
    sm_stop_install();
    code = run_bricks(ranks, &args);
    sm_ranks_finish(&ranks);
    return code;
}
