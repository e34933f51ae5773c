/* slidemill model: how long a corpus takes on a cluster that may not exist yet, and what to buy. */
#include <stdio.h>
#include <stdlib.h>

#include "bench/model_report.h"
#include "bench/model_setup.h"
#include "common/buf.h"
#include "common/opts.h"
#include "common/stop.h"

#define MOST_SLIDES 100000000
#define MOST_SAMPLE 1000000   /* slides of the runs behind what to buy */
#define STREAM_NEW_BRICK 1000 /* and on, by the number of bricks */

typedef struct config {
    sm_model_words words;
    const char *catalog, *svg;
    uint64_t bytes;
    uint32_t slides, nodes, ranks_per_node, bricks, servers, shards, tasks, seed;
    bool brick_blind, json, buy;
} config;

#define AT(member) offsetof(config, member)
#define REAL(name) offsetof(config, words.reals[REAL_##name])

static const sm_opt OPTIONS[] = {
    {"slides", SM_OPT_U32, AT(slides), 1, MOST_SLIDES, "1000000", "N",
     "Slides; their sizes are drawn, log-normal, from a quarter to five times the mean."},
    {"bytes", SM_OPT_BYTES, AT(bytes), 1, UINT64_C(1) << 60, "1000000000000000", "SIZE",
     "Of all slides together."},
    {"catalog", SM_OPT_STR, AT(catalog), 0, 0, NULL, "FILE",
     "Take sizes and bricks of this corpus instead."},
    {"seed", SM_OPT_U32, AT(seed), 0, UINT32_MAX, "1", "N",
     "Of sizes, bricks and failures. The same seed gives the same answer."},
    {"calibrate", SM_OPT_STR, AT(words.calibrate), 0, 0, NULL, "FILE",
     "Measured rates, JSON: keys are the names of the options below, with _ for -, and "
     "brick_curve, slow_bricks as lists of pairs. Options on the command line win."},
    {"nodes", SM_OPT_U32, AT(nodes), 1, 4096, "8", "N", "Compute nodes."},
    {"ranks-per-node", SM_OPT_U32, AT(ranks_per_node), 1, 1024, "16", "N",
     "Ranks of each, each with one slide at a time."},
    {"tasks", SM_OPT_U32, AT(tasks), 0, 65536, "0", "N",
     "Array tasks at once; a task of several nodes dies with any of them. 0: one a node."},
    {"shards", SM_OPT_U32, AT(shards), 1, 1000000, "1000", "N", "As of `slidemill plan`."},
    {"servers", SM_OPT_U32, AT(servers), 1, 4096, "2", "N", "Gluster servers."},
    {"bricks", SM_OPT_U32, AT(bricks), 0, 4096, "0", "N",
     "Bricks, dealt to the servers in turn. 0: those of the catalog, else 8. With a catalog, "
     "slides are dealt anew to so many."},
    {"streams-per-brick", SM_OPT_STR, REAL(STREAMS), 0, 0, NULL, "N",
     "As of `slidemill ingest`, for each task. 0: no limit. Default: 8."},
    {"brick-blind", SM_OPT_FLAG, AT(brick_blind), 0, 0, NULL, NULL,
     "A scheduler that knows no bricks, for comparison."},
    {"convert-mb-s", SM_OPT_STR, REAL(CONVERT_MB_S), 0, 0, NULL, "MB/s",
     "What the CPUs of a rank convert, in bytes of slide. Default: 45."},
    {"mpx-s", SM_OPT_STR, REAL(MPX_S), 0, 0, NULL, "Mpx/s",
     "The same in pixels of level 0; needs --bytes-per-px."},
    {"bytes-per-px", SM_OPT_STR, REAL(BYTES_PER_PX), 0, 0, NULL, "BYTES",
     "Bytes of slide for a pixel. Default: 0.19."},
    {"out-ratio", SM_OPT_STR, REAL(OUT_RATIO), 0, 0, NULL, "RATIO",
     "Bytes of pyramid for a byte of slide. Default: 1."},
    {"stream-mb-s", SM_OPT_STR, REAL(STREAM_MB_S), 0, 0, NULL, "MB/s",
     "Most that one stream gets. 0: no limit. Default: 300."},
    {"brick-mb-s", SM_OPT_STR, REAL(BRICK_MB_S), 0, 0, NULL, "MB/s",
     "Reading of a brick, all streams. Default: 1500."},
    {"brick-write-mb-s", SM_OPT_STR, REAL(BRICK_WRITE_MB_S), 0, 0, NULL, "MB/s",
     "Writing of a brick; while it writes it reads that much less. Default: 1000."},
    {"brick-curve", SM_OPT_STR, AT(words.brick_curve), 0, 0, NULL, "N:MB/s,...",
     "Reading of a brick by the number of its streams; replaces --brick-mb-s but for the price of "
     "writes."},
    {"slow-brick", SM_OPT_STR, AT(words.slow_brick), 0, 0, NULL, "INDEX:FACTOR,...",
     "Bricks with this part of the rate."},
    {"node-gbit", SM_OPT_STR, REAL(NODE_GBIT), 0, 0, NULL, "Gbit/s",
     "Link of a compute node, each direction. Default: 10."},
    {"server-gbit", SM_OPT_STR, REAL(SERVER_GBIT), 0, 0, NULL, "Gbit/s",
     "Link of a server, each direction. Default: 10."},
    {"link-payload", SM_OPT_STR, REAL(LINK_PAYLOAD), 0, 0, NULL, "RATIO",
     "Part of a link that carries file data. Default: 0.94."},
    {"mount-mb-s", SM_OPT_STR, REAL(MOUNT_MB_S), 0, 0, NULL, "MB/s",
     "Most that the Gluster client of a node moves, both directions together. 0: no limit. "
     "Default: 0."},
    {"slide-overhead", SM_OPT_STR, REAL(SLIDE_OVERHEAD), 0, 0, NULL, "S",
     "Seconds a slide takes beside its bytes: open, fsync, rename, journal. Default: 1."},
    {"task-start", SM_OPT_STR, REAL(TASK_START), 0, 0, NULL, "S",
     "Seconds from a free place to the first slide of a shard. Default: 10."},
    {"rank-mtbf", SM_OPT_STR, REAL(RANK_MTBF), 0, 0, NULL, "HOURS",
     "Mean time between failures of one rank; its task dies with it. 0: never. Default: 0."},
    {"node-mtbf", SM_OPT_STR, REAL(NODE_MTBF), 0, 0, NULL, "HOURS",
     "Of one node. 0: never. Default: 0."},
    {"node-repair", SM_OPT_STR, REAL(NODE_REPAIR), 0, 0, NULL, "HOURS",
     "Until a node is back. Default: 4."},
    {"brick-mtbf", SM_OPT_STR, REAL(BRICK_MTBF), 0, 0, NULL, "HOURS",
     "Of one brick. 0: never. Default: 0."},
    {"brick-outage", SM_OPT_STR, REAL(BRICK_OUTAGE), 0, 0, NULL, "HOURS",
     "Until a brick is back. Default: 1."},
    {"fail", SM_OPT_STR, AT(words.fail), 0, 0, NULL, "LIST",
     "Failures at given seconds: node:0@7200,brick:3@9000,rank:5@60."},
    {"restart", SM_OPT_STR, REAL(RESTART), 0, 0, NULL, "S",
     "Seconds until the shard of a dead task is back in the queue. Default: 120."},
    {"retry-for", SM_OPT_STR, REAL(RETRY_FOR), 0, 0, NULL, "S",
     "As of `slidemill ingest`: slides given up are taken again at the end, when all bricks are "
     "back. Default: 600."},
    {"ping-timeout", SM_OPT_STR, REAL(PING_TIMEOUT), 0, 0, NULL, "S",
     "Seconds until a brick that went is an error for its readers. Default: 42."},
    {"buy", SM_OPT_FLAG, AT(buy), 0, 0, NULL, NULL,
     "Also run with one more of everything, without failures, and say what each would save: seven "
     "more runs."},
    {"json", SM_OPT_FLAG, AT(json), 0, 0, NULL, NULL, "Print one JSON object."},
    {"svg", SM_OPT_STR, AT(svg), 0, 0, NULL, "FILE", "Draw throughput and limits."},
};

static const sm_command COMMAND = {
    .name = "model",
    .summary = "how long a corpus takes on a cluster, and what limits it",
    .synopsis = "[options]",
    .description =
        "Simulates `slidemill ingest` of a corpus by discrete events. Shards and scheduler are the "
        "real ones; bricks, links, ranks and failures are simulated: bandwidth is shared fairly "
        "among the slides at work, each of which reads, converts and writes at one rate, then "
        "reads its pyramid back.\n\n"
        "A model is as good as its numbers. The defaults are assumptions: measure your own with "
        "`slidemill bench` and give them with --calibrate. docs/scale.md says what is left out. "
        "A MB is 10^6 bytes.",
    .examples = "slidemill model --nodes 8 --server-gbit 25 --node-gbit 25 --buy\n"
                "    a million slides, one petabyte\n"
                "slidemill model --catalog corpus.smc --brick-mtbf 2000 --node-mtbf 4000\n"
                "    a real corpus, with failures\n",
    .exit_status = "0 printed\n"
                   "2 wrong command line\n"
                   "65 the catalog or the calibration is damaged\n"
                   "70 out of memory, or an error of slidemill's own\n"
                   "74 a file could not be read or written\n"
                   "75 interrupted\n",
    .opts = OPTIONS,
    .n_opts = SM_COUNT(OPTIONS),
};

/* ---- the corpus ---- */

/* One brick more takes its share of every other one. */
static void add_brick(const config *c, sm_model_corpus *corpus)
{
    const uint32_t n = corpus->bricks + 1;
    for (uint32_t i = 0; i < corpus->n; i++)
        if (sm_model_random(c->seed, STREAM_NEW_BRICK + n, i) % n == 0)
            corpus->slides[i].brick = n - 1;
    corpus->bricks = n;
}

static sm_status make_corpus(const config *c, sm_model_corpus *corpus, sm_error *err)
{
    if (c->catalog != NULL) {
        const sm_status st = sm_model_catalog(c->catalog, corpus, err);
        for (uint32_t i = 0; st == SM_OK && c->bricks > 0 && i < corpus->n; i++)
            corpus->slides[i].brick =
                (uint32_t)(sm_model_random(c->seed, STREAM_NEW_BRICK, i) % c->bricks);
        if (c->bricks > 0)
            corpus->bricks = c->bricks;
        return st;
    }
    corpus->n = c->slides;
    corpus->bytes = c->bytes;
    corpus->bricks = c->bricks > 0 ? c->bricks : 8;
    corpus->slides = sm_malloc_array(c->slides, sizeof *corpus->slides);
    if (corpus->slides == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "no memory for %u slides", c->slides);
    return sm_model_draw(c->slides, c->bytes, corpus->bricks, c->seed, corpus->slides, err);
}

/* Every so many-th slide, so that the runs behind what to buy stay short. */
static sm_status make_sample(const sm_model_corpus *from, sm_model_corpus *sample, sm_error *err)
{
    const uint32_t step = (from->n + MOST_SAMPLE - 1) / MOST_SAMPLE;
    sample->bricks = from->bricks;
    sample->slides = sm_malloc_array(from->n / step + 1, sizeof *sample->slides);
    if (sample->slides == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "no memory for a sample");
    for (uint32_t i = 0; i < from->n; i += step) {
        sample->slides[sample->n++] = from->slides[i];
        sample->bytes += from->slides[i].bytes;
    }
    return SM_OK;
}

/* ---- what to buy ---- */

typedef enum purchase {
    BUY_NOTHING,
    BUY_NODE,
    BUY_RANK,
    BUY_BRICK,
    BUY_SERVER,
    BUY_SERVER_LINK,
    BUY_NODE_LINK,
    PURCHASES
} purchase;

static const char *const WHAT[PURCHASES] = {
    [BUY_NODE] = "+1 node",
    [BUY_RANK] = "+1 rank a node (cores)",
    [BUY_BRICK] = "+1 brick a server",
    [BUY_SERVER] = "+1 server, the bricks spread over all",
    [BUY_SERVER_LINK] = "+1 link a server (twice the Gbit/s)",
    [BUY_NODE_LINK] = "+1 link a node (twice the Gbit/s)",
};

/* Seconds with it; the corpus is left with the bricks that were bought. */
static sm_status try_purchase(const config *c, const sm_model_config *base, sm_model_corpus *sample,
                              purchase what, double *seconds, sm_error *err)
{
    sm_model_config with = *base;
    sm_model_result result;
    for (uint32_t i = 0; what == BUY_BRICK && i < base->servers; i++)
        add_brick(c, sample);
    with.bricks = sample->bricks;
    with.nodes += what == BUY_NODE;
    with.tasks += what == BUY_NODE && c->tasks == 0;
    with.ranks_per_node += what == BUY_RANK;
    with.servers += what == BUY_SERVER;
    with.server_mb_s *= what == BUY_SERVER_LINK ? 2 : 1;
    with.node_mb_s *= what == BUY_NODE_LINK ? 2 : 1;
    const sm_status st = sm_model_run(&with, sample->slides, sample->n, &result, err);
    *seconds = result.seconds;
    return st;
}

static int by_gain(const void *a, const void *b)
{
    const sm_model_purchase *x = a, *y = b;
    return (x->saves < y->saves) - (x->saves > y->saves);
}

static sm_status buy(const config *c, const sm_model_corpus *corpus, sm_model_report *report,
                     sm_error *err)
{
    static const purchase ORDER[] = {BUY_NODE,        BUY_RANK,      BUY_SERVER,
                                     BUY_SERVER_LINK, BUY_NODE_LINK, BUY_BRICK};
    sm_model_config base = *report->config;
    sm_model_corpus sample = {.n = 0};
    double without = 0;
    base.rank_mtbf_s = base.node_mtbf_s = base.brick_mtbf_s = 0;
    base.n_faults = 0;
    sm_status st = make_sample(corpus, &sample, err);
    const uint32_t shards = (uint32_t)((uint64_t)base.shards * sample.n / corpus->n);
    base.shards = shards > base.tasks ? shards : base.tasks;
    if (st == SM_OK)
        st = try_purchase(c, &base, &sample, BUY_NOTHING, &without, err);
    for (size_t i = 0; st == SM_OK && i < SM_COUNT(ORDER); i++) {
        double with = 0;
        st = try_purchase(c, &base, &sample, ORDER[i], &with, err);
        report->purchases[report->n_purchases++] =
            (sm_model_purchase){WHAT[ORDER[i]], with, 1 - with / without};
    }
    report->sample = sample.n;
    qsort(report->purchases, report->n_purchases, sizeof report->purchases[0], by_gain);
    free(sample.slides);
    return st;
}

/* ---- all of it ---- */

static sm_status print(const config *c, const sm_model_report *report, sm_error *err)
{
    sm_status st = SM_OK;
    if (c->json)
        st = sm_model_print_json(report, err);
    else
        sm_model_print(report);
    if (st == SM_OK && (fflush(stdout) != 0 || ferror(stdout)))
        st = sm_fail(err, SM_ERR_IO, "cannot write to standard output");
    if (st == SM_OK && c->svg != NULL)
        st = sm_model_svg(report, c->svg, err);
    return st;
}

static sm_status run(const config *c, sm_error *err)
{
    sm_model_config model = {.nodes = c->nodes,
                             .ranks_per_node = c->ranks_per_node,
                             .servers = c->servers,
                             .tasks = c->tasks > 0 ? c->tasks : c->nodes,
                             .shards = c->shards,
                             .brick_blind = c->brick_blind,
                             .seed = c->seed};
    sm_model_corpus corpus = {.n = 0};
    sm_model_result result;
    sm_status st = sm_model_setup(&c->words, &model, err);
    if (st == SM_OK)
        st = make_corpus(c, &corpus, err);
    model.bricks = corpus.bricks;
    if (st == SM_OK)
        st = sm_model_run(&model, corpus.slides, corpus.n, &result, err);
    sm_model_report report = {
        .config = &model, .result = &result, .n_slides = corpus.n, .bytes = corpus.bytes};
    if (st == SM_OK && c->buy)
        st = buy(c, &corpus, &report, err);
    if (st == SM_OK)
        st = print(c, &report, err);
    free(corpus.slides);
    return st;
}

int main(int argc, char **argv)
{
    config c;
    unsigned n = 0;
    int code = 0;
    if (!sm_opts_start(&COMMAND, argc, argv, &c, NULL, &n, NULL, &code))
        return code;
    sm_error err = SM_ERROR_INIT;
    sm_stop_install();
    const sm_status st = run(&c, &err);
    if (st != SM_OK)
        (void)fprintf(stderr, "slidemill model: %s\n", err.message);
    if (st == SM_ERR_ARG)
        (void)fprintf(stderr, "try 'slidemill model --help'\n");
    return sm_exit_code(st);
}
