/* How fast rank 0 gives out slides, and how well it deals them: slides are only pretended.
 *
 *   schedule-bench                  the scheduler alone, and the straggler model
 *   mpirun -n 64 schedule-bench     also the real books and messages of rank 0
 *
 * Prints one JSON object on rank 0. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/opts.h"
#include "common/stop.h"
#include "common/sysinfo.h"
#include "ingest/run_internal.h"

enum { RANKS = 64, BRICKS = 8 };

typedef struct config {
    uint32_t items, slides;
    const char *scratch;
} config;

#define AT(member) offsetof(config, member)

static const sm_opt OPTIONS[] = {
    {"items", SM_OPT_U32, AT(items), 1, 100000000, "1000000", "N",
     "Slides of the scheduler alone."},
    {"slides", SM_OPT_U32, AT(slides), 1, 10000000, "100000", "N",
     "Slides of the run with messages: a catalog of so many is made."},
    {"scratch", SM_OPT_STR, AT(scratch), 0, 0, "/tmp", "DIR", "Where that catalog is made."},
};

static const sm_command COMMAND = {
    .name = "schedule-bench",
    .summary = "assignments a second, and idle time of the last rank",
    .synopsis = "[options]",
    .description = "Measures rank 0's part of an ingest without converting anything.",
    .opts = OPTIONS,
    .n_opts = SM_COUNT(OPTIONS),
};

static uint64_t next_random(uint64_t *x)
{
    *x ^= *x >> 12;
    *x ^= *x << 25;
    *x ^= *x >> 27;
    return *x * UINT64_C(0x2545F4914F6CDD1D) >> 32;
}

/* Sizes 1:50, evenly spread. */
static sm_schedule_item any_item(uint64_t *x, uint32_t n_bricks)
{
    return (sm_schedule_item){(1 + next_random(x) % 50) * 100000000,
                              (uint32_t)(next_random(x) % n_bricks)};
}

static sm_status make_items(uint32_t n, uint32_t n_bricks, uint64_t seed, sm_schedule_item **items,
                            sm_error *err)
{
    *items = sm_malloc_array(n, sizeof **items);
    if (*items == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "no memory for %u slides", n);
    for (uint32_t i = 0; i < n; i++)
        (*items)[i] = any_item(&seed, n_bricks);
    return SM_OK;
}

/* ---- the scheduler alone ---- */

static sm_status drain(sm_schedule *s, double *per_s)
{
    uint32_t out[RANKS], n_out = 0, given = 0, item = 0;
    uint64_t until = 0, x = 7;
    const uint64_t began = sm_now_ns();
    for (;;) {
        const sm_schedule_answer a =
            n_out < RANKS ? sm_schedule_next(s, given, &item, &until) : SM_SCHEDULE_WAIT;
        if (a == SM_SCHEDULE_END || (a != SM_SCHEDULE_GIVE && n_out == 0))
            break;
        if (a == SM_SCHEDULE_GIVE) {
            out[n_out++] = item;
            given++;
            continue;
        }
        const uint32_t k = (uint32_t)(next_random(&x) % n_out);
        sm_schedule_read_done(s, out[k], given);
        sm_schedule_done(s, out[k]);
        out[k] = out[--n_out];
    }
    *per_s = given / ((double)(sm_now_ns() - began) / 1e9);
    return SM_OK;
}

static sm_status alone(const config *c, double *per_s, double *shards_s, sm_error *err)
{
    const sm_schedule_config how = {.n_bricks = BRICKS, .streams_per_brick = 8};
    sm_schedule_item *items = NULL;
    sm_schedule *s = NULL;
    uint32_t *shard = sm_malloc_array(c->items, sizeof *shard);
    sm_status st = shard == NULL ? sm_fail(err, SM_ERR_NOMEM, "no memory for the shards") : SM_OK;
    if (st == SM_OK)
        st = make_items(c->items, BRICKS, 3, &items, err);
    if (st == SM_OK)
        st = sm_schedule_new(&how, items, c->items, &s, err);
    if (st == SM_OK)
        st = drain(s, per_s);
    const uint64_t began = sm_now_ns();
    if (st == SM_OK)
        st = sm_schedule_shards(items, c->items, 1000, shard, err);
    *shards_s = (double)(sm_now_ns() - began) / 1e9;
    sm_schedule_free(&s);
    free(items);
    free(shard);
    return st;
}

/* ---- stragglers: two ranks in virtual time ---- */

/* Share of a slide's time in which it is read. */
#define READ_PART 0.3

typedef struct model_rank {
    double free_at; /* when its slide is done */
    double read_at; /* when its slide is read */
    uint32_t item;
    bool busy, reading;
} model_rank;

/* The event that comes first; NULL: nobody is busy. */
static model_rank *next_event(model_rank ranks[2])
{
    model_rank *first = NULL;
    double at = 0;
    for (int i = 0; i < 2; i++) {
        const double mine = ranks[i].reading ? ranks[i].read_at : ranks[i].free_at;
        if (ranks[i].busy && (first == NULL || mine < at)) {
            first = &ranks[i];
            at = mine;
        }
    }
    return first;
}

/* Part of the whole time that the rank that ended first had nothing to do. */
static double play(sm_schedule *s, const sm_schedule_item *items)
{
    model_rank ranks[2] = {{0}};
    double now = 0;
    uint64_t until = 0;
    for (;;) {
        for (int i = 0; i < 2; i++) {
            model_rank *r = &ranks[i];
            if (r->busy || sm_schedule_next(s, (uint64_t)now, &r->item, &until) != SM_SCHEDULE_GIVE)
                continue;
            const double cost = (double)items[r->item].bytes;
            *r = (model_rank){now + cost, now + READ_PART * cost, r->item, true, true};
        }
        model_rank *r = next_event(ranks);
        if (r == NULL)
            break;
        now = r->reading ? r->read_at : r->free_at;
        if (r->reading) {
            sm_schedule_read_done(s, r->item, (uint64_t)now);
        } else {
            sm_schedule_done(s, r->item);
            r->busy = false;
        }
        r->reading = false;
    }
    const double first = ranks[0].free_at < ranks[1].free_at ? ranks[0].free_at : ranks[1].free_at;
    return now > 0 ? (now - first) / now : 0;
}

static sm_status stragglers(uint32_t n, bool brick_blind, double *mean, double *worst,
                            sm_error *err)
{
    enum { SEEDS = 200 };
    const sm_schedule_config how = {
        .n_bricks = 4, .streams_per_brick = 2, .brick_blind = brick_blind};
    sm_status st = SM_OK;
    *mean = *worst = 0;
    for (uint64_t seed = 1; st == SM_OK && seed <= SEEDS; seed++) {
        sm_schedule_item *items = NULL;
        sm_schedule *s = NULL;
        st = make_items(n, 4, seed * 7919, &items, err);
        if (st == SM_OK)
            st = sm_schedule_new(&how, items, n, &s, err);
        const double idle = st == SM_OK ? play(s, items) : 0;
        *mean += idle / SEEDS;
        *worst = idle > *worst ? idle : *worst;
        sm_schedule_free(&s);
        free(items);
    }
    return st;
}

/* ---- rank 0's books and real messages ---- */

static sm_status make_catalog(const config *c, const char *path, sm_error *err)
{
    const sm_generation_config change = {.what = "schedule-bench", .scratch = c->scratch};
    sm_catalog *catalog = NULL;
    uint64_t x = 11;
    sm_status st = sm_catalog_create(path, c->scratch, &change, &catalog, err);
    for (uint32_t i = 0; st == SM_OK && i < c->slides; i++) {
        const sm_schedule_item item = any_item(&x, BRICKS);
        char name[32], brick[32];
        int64_t id = 0;
        bool added = false;
        (void)snprintf(name, sizeof name, "%03u/%07u.svs", i % 1000, i);
        (void)snprintf(brick, sizeof brick, "host:/brick%u", item.brick);
        const sm_slide_row row = {.path = name,
                                  .size_bytes = item.bytes,
                                  .brick = brick,
                                  .present = true,
                                  .shard = SM_NO_SHARD};
        st = sm_catalog_put(catalog, &row, &id, &added, err);
    }
    if (st == SM_OK)
        st = sm_catalog_commit(&catalog, err);
    sm_catalog_close(&catalog);
    return st;
}

typedef struct side {
    sm_ranks *ranks;
    sm_master *master; /* of rank 0 */
    sm_run_message last;
    bool ended, moved;
} side;

static sm_status tell(side *s, sm_run_message_kind kind, uint32_t index, sm_error *err)
{
    const sm_run_message m = {
        .kind = kind, .index = index, .outcome = SM_OUTCOME_OK, .bytes_in = 1};
    return sm_ranks_send(s->ranks, 0, &m, sizeof m, err);
}

/* A slide that takes no time: read, done, the next one please. */
static sm_status work(side *s, const sm_run_message *m, sm_error *err)
{
    sm_status st = tell(s, SM_RUN_READ_DONE, m->index, err);
    if (st == SM_OK)
        st = tell(s, SM_RUN_RESULT, m->index, err);
    return st == SM_OK ? tell(s, SM_RUN_READY, 0, err) : st;
}

static sm_status take_one(side *s, bool *got, sm_error *err)
{
    sm_run_message m;
    size_t len = 0;
    uint32_t from = 0;
    sm_status st = sm_ranks_poll(s->ranks, &m, sizeof m, &len, &from, got, err);
    if (st != SM_OK || !*got)
        return st;
    s->moved = true;
    if (m.kind == SM_RUN_ASSIGN)
        return work(s, &m, err);
    if (m.kind == SM_RUN_END) {
        s->ended = true;
        s->last = m;
        return SM_OK;
    }
    return sm_master_handle(s->master, from, &m, err);
}

static sm_status side_loop(side *s, sm_error *err)
{
    struct timespec nap = {0, 100000};
    bool ended = false;
    /* rank 0 would give most slides to itself: its messages take no way at all */
    const bool works = s->master == NULL || sm_ranks_n(s->ranks) == 1;
    sm_status st = works ? tell(s, SM_RUN_READY, 0, err) : SM_OK;
    while (st == SM_OK && !s->ended) {
        bool got = true;
        s->moved = false;
        while (st == SM_OK && got)
            st = take_one(s, &got, err);
        if (st == SM_OK && s->master != NULL)
            st = sm_master_tick(s->master, sm_now_ns(), &ended, err);
        nap.tv_nsec = s->moved ? 100000 : nap.tv_nsec < 4000000 ? 2 * nap.tv_nsec : 4000000;
        if (!s->moved)
            (void)nanosleep(&nap, NULL);
    }
    return st;
}

static sm_status with_messages(const config *c, sm_ranks *ranks, const char *catalog, double *per_s,
                               sm_error *err)
{
    const sm_run_config run = {.catalog = catalog,
                               .kind = SM_ATTEMPT_HASH,
                               .suffix = ".ome.tiff",
                               .shard = SM_NO_SHARD,
                               .workers = 1,
                               .streams_per_brick = 16,
                               .command = "schedule-bench",
                               .target_options = ""};
    const sm_run_log log = {.rank = sm_ranks_me(ranks), .quiet = true};
    sm_journal_head *head = sm_calloc(1, sizeof *head);
    side s = {.ranks = ranks};
    sm_status st = head == NULL ? sm_fail(err, SM_ERR_NOMEM, "no memory") : SM_OK;
    if (st == SM_OK && sm_ranks_me(ranks) == 0) {
        st = make_catalog(c, catalog, err);
        if (st == SM_OK)
            st = sm_master_open(&run, ranks, &log, head, &s.master, err);
    }
    st = sm_ranks_agree(ranks, st, err);
    const uint64_t began = sm_now_ns();
    if (st == SM_OK)
        st = side_loop(&s, err);
    *per_s = c->slides / ((double)(sm_now_ns() - began) / 1e9);
    if (st == SM_OK && s.last.result.n_done != c->slides)
        st = sm_fail(err, SM_ERR_INTERNAL, "%" PRIu64 " of %u slides are done",
                     s.last.result.n_done, c->slides);
    sm_master_close(&s.master);
    free(head);
    return st;
}

/* ---- main ---- */

static sm_status print_alone(const config *c, sm_error *err)
{
    static const uint32_t SIZES[] = {40, 60, 200, 1000};
    double per_s = 0, shards_s = 0;
    sm_status st = alone(c, &per_s, &shards_s, err);
    if (st == SM_OK)
        (void)printf("\"items\":%u,\"assignments_per_s\":%.0f,\"shards_1000_s\":%.3f,"
                     "\"stragglers\":[",
                     c->items, per_s, shards_s);
    for (size_t i = 0; st == SM_OK && i < 2 * SM_COUNT(SIZES); i++) {
        const bool blind = i % 2 == 1;
        double mean = 0, worst = 0;
        st = stragglers(SIZES[i / 2], blind, &mean, &worst, err);
        (void)printf("%s{\"slides\":%u,\"brick_blind\":%s,\"idle_mean\":%.4f,\"idle_worst\":%.4f}",
                     i > 0 ? "," : "", SIZES[i / 2], blind ? "true" : "false", mean, worst);
    }
    (void)printf("]");
    return st;
}

static sm_status bench(const config *c, sm_ranks *ranks, sm_error *err)
{
    char folder[256], catalog[300], command[600];
    double per_s = 0;
    sm_status st = SM_OK;
    (void)snprintf(folder, sizeof folder, "%s/schedule-bench.XXXXXX", c->scratch);
    if (sm_ranks_me(ranks) == 0) {
        (void)printf("{\"ranks\":%u,", sm_ranks_n(ranks));
        st = print_alone(c, err);
        if (st == SM_OK && mkdtemp(folder) == NULL)
            st = sm_fail(err, SM_ERR_IO, "%s: cannot make a folder", folder);
    }
    st = sm_ranks_agree(ranks, st, err);
    if (st != SM_OK)
        return st;
    (void)snprintf(catalog, sizeof catalog, "%s/bench.smc", folder);
    st = with_messages(c, ranks, catalog, &per_s, err);
    if (sm_ranks_me(ranks) == 0) {
        (void)printf(",\"slides\":%u,\"message_assignments_per_s\":%.0f}\n", c->slides, per_s);
        (void)snprintf(command, sizeof command, "rm -rf -- '%s'", folder);
        if (system(command) != 0) // NOLINT(bugprone-command-processor,cert-env33-c): our own folder
            (void)fprintf(stderr, "schedule-bench: %s: cannot remove\n", folder);
    }
    return st;
}

int main(int argc, char **argv)
{
    config c = {0};
    unsigned n = 0;
    int code = 0;
    sm_ranks *ranks = NULL;
    sm_error err = SM_ERROR_INIT;
    if (!sm_opts_start(&COMMAND, argc, argv, &c, NULL, &n, NULL, &code))
        return code;
    sm_status st = sm_ranks_init(&argc, &argv, &ranks, &err);
    if (st == SM_OK)
        st = bench(&c, ranks, &err);
    if (st != SM_OK) {
        (void)fprintf(stderr, "schedule-bench: %s\n", err.message);
        if (ranks != NULL)
            sm_ranks_abort(ranks, sm_exit_code(st));
    }
    sm_ranks_finish(&ranks);
    return sm_exit_code(st);
}
