/* slidemill bench: how fast is what a corpus lies on, and did it change. */
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "bench/bricks.h"
#include "bench/compare.h"
#include "bench/ingest_bench.h"
#include "bench/peers.h"
#include "common/opts.h"
#include "common/stop.h"
#include "ingest/rank.h"

typedef struct bench_args {
    const char *operands[2];
    unsigned n_operands;
    bricks_options bricks;
    ingest_options ingest;
    peers_options peers;
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

static const sm_opt INGEST_OPTIONS[] = {
    {"corpus", SM_OPT_STR, AT(ingest.corpus), 0, 0, NULL, "ROOT",
     "Ingest the slides below this folder instead of made ones. They are only read."},
    {"catalog", SM_OPT_STR, AT(ingest.catalog), 0, 0, NULL, "FILE",
     "Ingest the slides of this catalog. It is only read: the runs have a catalog of their own."},
    {"slide", SM_OPT_STR, AT(ingest.slide), 0, 0, NULL, "FILE",
     "Make the mosaics of this slide's tiles (a TIFF of JPEG tiles); else of a drawn one's."},
    {"slides", SM_OPT_U32, AT(ingest.slides), 1, 10000, "8", "N", "Mosaics to make."},
    {"width", SM_OPT_U32, AT(ingest.width_px), 256, 1000000, "15360", "px", "Of each mosaic."},
    {"height", SM_OPT_U32, AT(ingest.height_px), 256, 1000000, "11040", "px", "Of each mosaic."},
    {"mode", SM_OPT_CHOICE, AT(ingest.mode), 0, 0, "copy", "copy|transcode|retile|zstd",
     "What is done: level 0 copied and the others made; all tiles encoded anew; level 0 moved to "
     "another tile size without loss; everything lossless."},
    {"ranks", SM_OPT_STR, AT(ingest.ranks), 0, 0, "1,2", "LIST",
     "Numbers of ranks; each with each number of threads. More than one need mpirun."},
    {"threads", SM_OPT_STR, AT(ingest.threads), 0, 0, "1,2", "LIST", "Threads of a rank."},
    {"repeats", SM_OPT_U32, AT(ingest.repeats), 1, BENCH_REPEATS_MAX, "3", "N",
     "Times everything is measured, in turns."},
    {"cache", SM_OPT_CHOICE, AT(ingest.cache), 0, 0, "cold", "cold|warm",
     "Drop the slides from this machine's page cache before each run, or read them into it."},
    {"against", SM_OPT_CHOICE, AT(ingest.against), 0, 0, "both", "both|limit|fio|none",
     "Measure the codec limit and fio as well, with as many threads and readers as each point."},
    {"limit-slides", SM_OPT_U32, AT(ingest.limit_slides), 1, 10000, "4", "N",
     "Slides that the codec limit is measured on, spread over the corpus."},
    {"json", SM_OPT_STR, AT(ingest.json), 0, 0, NULL, "FILE",
     "Write the result as JSON lines too; - writes them to standard output, without the tables."},
    {"quiet", SM_OPT_FLAG, AT(ingest.quiet), 0, 0, NULL, NULL, "No progress."},
};

static const sm_opt PEERS_OPTIONS[] = {
    {"width", SM_OPT_U32, AT(peers.width_px), 256, 1000000, "15360", "px",
     "Of the mosaic that is made when there is no SLIDE."},
    {"height", SM_OPT_U32, AT(peers.height_px), 256, 1000000, "11040", "px", "Of that mosaic."},
    {"dir", SM_OPT_STR, AT(peers.dir), 0, 0, NULL, "DIR",
     "Where the outputs go, one at a time; chooses the disk. Default: TMPDIR, or /tmp."},
    {"venv", SM_OPT_STR, AT(peers.venv), 0, 0, NULL, "DIR",
     "Look into this Python environment first for wsic and wsidicomizer."},
    {"programs", SM_OPT_STR, AT(peers.programs), 0, 0, NULL, "LIST",
     "Only rows whose name contains one of these words, separated by commas."},
    {"threads", SM_OPT_U32, AT(peers.threads), 0, 1024, "0", "N",
     "Of each program that can be told. 0: all that this process may use."},
    {"repeats", SM_OPT_U32, AT(peers.repeats), 1, BENCH_REPEATS_MAX, "3", "N",
     "Times everything is measured, in turns."},
    {"json", SM_OPT_STR, AT(peers.json), 0, 0, NULL, "FILE",
     "Write the result as JSON lines too; - writes them to standard output, without the table."},
    {"quiet", SM_OPT_FLAG, AT(peers.quiet), 0, 0, NULL, NULL, "No progress."},
};

static const char *const DIR_OPERAND[] = {"DIR"};
static const char *const SLIDE_OPERAND[] = {"SLIDE"};
static const char *const MOUNT_OPERAND[] = {"MOUNT"};
static const char *const TWO_OPERANDS[] = {"A", "B"};
static const char *const COMMAND_OPERAND[] = {"COMMAND"};

enum { SUB_BRICKS, SUB_COMPARE, SUB_INGEST, SUB_PEERS };

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
    {.name = "bench ingest",
     .summary = "how fast is the whole pipeline, and how much of what is possible",
     .synopsis = "[options] DIR",
     .description =
         "Makes a corpus in a hidden folder of DIR (or takes one that is there), then runs "
         "`slidemill ingest` over it with each number of ranks and threads, in turns with the bare "
         "codec calls on as many threads and with fio reading the same files through the same "
         "mount with as many readers. Says slides per hour, MB/s of each brick, Mpx/s, where the "
         "time went, memory, and what part of the smaller of the two limits was reached.\n"
         "\n"
         "All that was made is removed at the end, also after Ctrl-C; what a run left that was "
         "killed, by the next in DIR. It starts mpirun itself.",
     .examples = "slidemill bench ingest /mnt/corpus --slides 32 --ranks 1,2,4,8 --json now.jsonl\n"
                 "    scaling curves through a mount\n"
                 "slidemill bench ingest /scratch --corpus /mnt/slides --mode transcode\n"
                 "    slides that are there\n",
     .exit_status = "0  done\n"
                    "2  wrong command line, or DIR cannot be written\n"
                    "65 too little room in DIR, or bad input\n"
                    "70 out of memory, or an error of slidemill's own\n"
                    "74 storage failed; or no point of ingest could be measured\n"
                    "75 interrupted; everything was removed\n",
     .opts = INGEST_OPTIONS,
     .n_opts = SM_COUNT(INGEST_OPTIONS),
     .min_operands = 1,
     .max_operands = 1,
     .operand_names = DIR_OPERAND},
    {.name = "bench peers",
     .summary = "slidemill convert beside other converters, on one slide",
     .synopsis = "[options] [SLIDE]",
     .description =
         "Converts SLIDE (or a mosaic that is made) with slidemill in several modes, vips, and, "
         "where they are installed, wsic and wsidicomizer, and copies it with cp, dcp and dsync: "
         "in turns, from a warm page cache. An output counts only if it opens and has the size of "
         "the slide. What is not installed or fails has a row that says so.",
     .examples = "slidemill bench peers slide.svs --venv ~/peers --json peers.jsonl\n"
                 "    with Python's converters\n"
                 "slidemill bench peers --programs copy,vips\n    some rows, on a mosaic\n",
     .exit_status = "0  done; rows may say that a program failed\n"
                    "2  wrong command line, or SLIDE is not there\n"
                    "65 SLIDE cannot be read, or too little room\n"
                    "70 out of memory, or an error of slidemill's own\n"
                    "74 storage failed; or not even slidemill's rows could be measured\n"
                    "75 interrupted; everything was removed\n",
     .opts = PEERS_OPTIONS,
     .n_opts = SM_COUNT(PEERS_OPTIONS),
     .max_operands = 1,
     .operand_names = SLIDE_OPERAND},
};

static const sm_command COMMAND = {
    .name = "bench",
    .summary = "how fast are bricks, the pipeline and its peers; compare results",
    .synopsis = "COMMAND [options] ...",
    .description = "Measures what a corpus lies on, and what slidemill makes of it.\n"
                   "\n"
                   "`slidemill bench COMMAND --help` prints a command's options.",
    .examples = "slidemill bench bricks /mnt/corpus\n    every brick of the volume\n"
                "slidemill bench ingest /mnt/corpus\n    the whole pipeline through the mount\n"
                "slidemill bench peers slide.svs\n    beside other converters\n"
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

/* What is said at the end: also that something stays. */
static int finish(const char *what, sm_status st, bool removed, sm_error *err)
{
    if (st == SM_OK && !removed)
        st = sm_fail(err, SM_ERR_IO, "some of what was made could not be removed");
    if (st == SM_ERR_INTERRUPTED)
        (void)snprintf(err->message, sizeof err->message, "interrupted; %s",
                       removed ? "all that was made was removed" : "some of what was made stays");
    return st != SM_OK ? fail(what, err) : 0;
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

static int run_ingest(bench_args *args)
{
    static ingest_bench b;
    sm_error err = SM_ERROR_INIT;
    args->ingest.dir = args->operands[0];
    bench_runner_start();
    sm_status st = ingest_prepare(&args->ingest, &b, &err);
    if (st == SM_OK)
        st = ingest_corpus_make(&b, &err);
    if (st == SM_OK)
        st = ingest_measure(&b, &err);
    const char *json = args->ingest.json;
    if (st == SM_OK && (json == NULL || strcmp(json, "-") != 0))
        ingest_print(&b);
    if (st == SM_OK && fflush(stdout) != 0)
        st = sm_fail(&err, SM_ERR_IO, "standard output: cannot be written");
    if (st == SM_OK && json != NULL)
        st = ingest_write_json(&b, json, &err);
    if (st == SM_OK && ingest_best(&b) == NULL)
        st = sm_fail(&err, SM_ERR_IO, "no point of ingest could be measured");
    const bool removed = ingest_corpus_remove(&b.corpus);
    ingest_free(&b);
    return finish("ingest", st, removed, &err);
}

static int run_peers(bench_args *args)
{
    static peers_bench b;
    sm_error err = SM_ERROR_INIT;
    args->peers.slide = args->n_operands > 0 ? args->operands[0] : NULL;
    bench_runner_start();
    sm_status st = peers_prepare(&args->peers, &b, &err);
    if (st == SM_OK)
        st = peers_measure(&b, &err);
    const char *json = args->peers.json;
    if (st == SM_OK && (json == NULL || strcmp(json, "-") != 0))
        peers_print(&b);
    if (st == SM_OK && fflush(stdout) != 0)
        st = sm_fail(&err, SM_ERR_IO, "standard output: cannot be written");
    if (st == SM_OK && json != NULL)
        st = peers_write_json(&b, json, &err);
    if (st == SM_OK && !peers_any_of_ours(&b))
        st = sm_fail(&err, SM_ERR_IO, "slidemill's own rows could not be measured");
    return finish("peers", st, peers_remove(&b), &err);
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
    if (sub == &SUBS[SUB_COMPARE])
        return run_compare(&args);
    if (sub != &SUBS[SUB_BRICKS]) {
        sm_stop_install();
        return sub == &SUBS[SUB_INGEST] ? run_ingest(&args) : run_peers(&args);
    }
    if (sm_ranks_init(&argc, &argv, &ranks, &err) != SM_OK)
        return fail("bricks", &err);
    sm_stop_install();
    code = run_bricks(ranks, &args);
    sm_ranks_finish(&ranks);
    return code;
}
