/* The order of measuring: point by point, and for each point brick by brick, so that a slow minute
 * of the machine meets all bricks; then all of it again. Every rank walks the same list, rank 0
 * decides and keeps the numbers. */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "bench/bricks.h"
#include "common/buf.h"
#include "common/ring.h"
#include "common/stop.h"
#include "common/sysinfo.h"

#define SECOND UINT64_C(1000000000)

enum { USUAL_BLOCK = 4 << 20, LEVELS_MAX = 7, STREAMS_A_RANK_MAX = 512 };

typedef struct run {
    sm_ranks *ranks;
    bricks_probe *probe;
    bricks_result *result;
    uint64_t began_ns, deadline_ns, point_ns;
    uint8_t *word; /* rank 0's: may we go on, then a byte a brick: is it failed? */
    bricks_stream *streams;
    uint32_t repeat, n_done;
} run;

/* What one rank has to say of one brick. */
typedef struct part {
    uint32_t brick;
    sm_status status; /* of the first stream that failed */
    uint64_t bytes, ns, wait_ns, n_waits;
    char why[200];
} part;

/* ---- this node ---- */

static void read_cpu(uint64_t *busy, uint64_t *all)
{
    char line[256] = "";
    FILE *f = fopen("/proc/stat", "re");
    *busy = *all = 0;
    if (f == NULL)
        return;
    if (fgets(line, sizeof line, f) != NULL && strncmp(line, "cpu ", 4) == 0) {
        char *at = line + 4;
        for (int i = 0; i < 8; i++) { /* user nice system idle iowait irq softirq steal */
            const uint64_t ticks = strtoull(at, &at, 10);
            *all += ticks;
            *busy += i == 3 || i == 4 ? 0 : ticks;
        }
    }
    (void)fclose(f);
}

static bool drop_caches(void)
{
    const int fd = open("/proc/sys/vm/drop_caches", O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    const bool done = write(fd, "1", 1) == 1;
    (void)close(fd);
    return done;
}

/* ---- one point ---- */

static bool same_point(const bricks_point *a, const bricks_point *b)
{
    return a->kind == b->kind && a->streams == b->streams && a->block_bytes == b->block_bytes &&
           a->direct == b->direct && a->warm == b->warm && a->threads == b->threads &&
           a->all == b->all;
}

const bricks_series *bricks_find(const bricks_result *result, const bricks_point *point,
                                 uint32_t brick)
{
    for (size_t i = 0; i < result->n_series; i++)
        if (result->series[i].brick == brick && same_point(&result->series[i].point, point))
            return &result->series[i];
    return NULL;
}

static sm_status add_value(run *r, const bricks_point *point, uint32_t brick,
                           const double values[3], sm_error *err)
{
    bricks_result *result = r->result;
    const bricks_series *known = bricks_find(result, point, brick);

    if (known == NULL) {
        bricks_series *grown =
            reallocarray(result->series, result->n_series + 1, sizeof *result->series);
        if (grown == NULL)
            return sm_fail(err, SM_ERR_NOMEM, "no memory for results");
        result->series = grown;
        grown[result->n_series] = (bricks_series){.point = *point, .brick = brick};
        known = &grown[result->n_series++];
    }
    bricks_series *s = &result->series[known - result->series];
    if (s->n < BRICKS_REPEATS_MAX) {
        s->mb_s[s->n] = values[0];
        s->wait_ms[s->n] = values[1];
        s->busy[s->n++] = values[2];
    }
    return SM_OK;
}

/* May the point be measured? Everybody learns which bricks have failed. */
static sm_status give_word(run *r, uint32_t brick, bool *go, sm_error *err)
{
    const uint32_t n = r->probe->n_bricks;
    if (sm_ranks_me(r->ranks) == 0) {
        const bool late = sm_now_ns() > r->deadline_ns;
        r->result->out_of_time |= late;
        r->word[0] = !late && (brick == BRICKS_ALL || !r->probe->bricks[brick].failed);
        for (uint32_t b = 0; b < n; b++)
            r->word[1 + b] = r->probe->bricks[b].failed;
    }
    sm_status st = sm_ranks_bcast(r->ranks, r->word, 1 + n, err);
    for (uint32_t b = 0; st == SM_OK && b < n; b++)
        r->probe->bricks[b].failed = r->word[1 + b] != 0;
    *go = r->word[0] != 0;
    if (st == SM_OK) /* also the common start */
        st = sm_ranks_agree(r->ranks, sm_stop_check(err), err);
    return st;
}

/* This rank's streams of the point, those of one brick together. */
static uint32_t my_streams(const run *r, const bricks_point *point, uint32_t brick)
{
    const uint32_t me = sm_ranks_me(r->ranks), of = sm_ranks_n(r->ranks);
    uint32_t n = 0;
    for (uint32_t b = 0; b < r->probe->n_bricks; b++) {
        if (r->probe->bricks[b].failed || (brick != BRICKS_ALL && b != brick))
            continue;
        for (uint32_t k = me; k < point->streams && n < STREAMS_A_RANK_MAX; k += of)
            r->streams[n++] = (bricks_stream){.brick = b, .first = k, .step = point->streams};
    }
    return n;
}

static part part_of(const run *r, uint32_t brick, uint32_t n)
{
    part p = {.brick = brick};
    for (uint32_t i = 0; i < n; i++) {
        const bricks_stream *s = &r->streams[i];
        if (s->brick != brick)
            continue;
        p.bytes += s->bytes;
        p.ns = s->ns > p.ns ? s->ns : p.ns;
        p.wait_ns += s->wait_ns;
        p.n_waits += s->n_waits;
        if (s->err.status != SM_OK && p.status == SM_OK) {
            p.status = s->err.status;
            (void)snprintf(p.why, sizeof p.why, "%.199s", s->err.message);
        }
    }
    return p;
}

typedef struct sums {
    double mb_s, wait_ns;
    uint64_t n_waits;
} sums;

static sm_status take_part(run *r, const bricks_point *point, const part *p, sums *sum,
                           sm_error *err)
{
    if (p->status != SM_OK && p->status != SM_ERR_IO)
        return sm_fail(err, p->status, "%s", p->why);
    if (p->status != SM_OK && !r->probe->bricks[p->brick].failed) {
        r->probe->bricks[p->brick].failed = true;
        memcpy(r->probe->bricks[p->brick].why, p->why, sizeof p->why);
    }
    sum->mb_s += p->ns > 0 ? (double)p->bytes * 1e3 / (double)p->ns : 0;
    sum->wait_ns += (double)p->wait_ns;
    sum->n_waits += p->n_waits;
    if (point->kind == BRICKS_WRITE || point->kind == BRICKS_FSYNC)
        r->result->bytes_written += p->bytes;
    else
        r->result->bytes_read += p->bytes;
    return SM_OK;
}

/* Rank 0: one part a rank and brick. */
static sm_status take_parts(run *r, const bricks_point *point, uint32_t n_parts, sums *by_brick,
                            sm_error *err)
{
    const struct timespec pause = {.tv_nsec = 200000};
    part p;
    sm_status st = SM_OK;

    while (st == SM_OK && n_parts > 0) {
        size_t len = 0;
        uint32_t from = 0;
        bool got = false;
        st = sm_ranks_poll(r->ranks, &p, sizeof p, &len, &from, &got, err);
        if (st != SM_OK || !got) {
            nanosleep(&pause, NULL);
            continue;
        }
        n_parts--;
        if (len != sizeof p || p.brick >= r->probe->n_bricks)
            return sm_fail(err, SM_ERR_INTERNAL, "a result of %zu bytes from rank %" PRIu32, len,
                           from);
        st = take_part(r, point, &p, &by_brick[p.brick], err);
    }
    return st;
}

static sm_status keep(run *r, const bricks_point *point, uint32_t brick, const sums *by_brick,
                      double busy, sm_error *err)
{
    double total = 0;
    sm_status st = SM_OK;
    for (uint32_t b = 0; st == SM_OK && b < r->probe->n_bricks; b++) {
        if (r->probe->bricks[b].failed || (brick != BRICKS_ALL && b != brick))
            continue;
        const sums *s = &by_brick[b];
        const double wait = s->n_waits > 0 ? s->wait_ns / (double)s->n_waits / 1e6 : 0;
        st = add_value(r, point, b, (const double[]){s->mb_s, wait, busy}, err);
        total += s->mb_s;
    }
    if (st == SM_OK && brick == BRICKS_ALL)
        st = add_value(r, point, BRICKS_ALL, (const double[]){total, 0, busy}, err);
    return st;
}

/* Send what this rank has to rank 0; there: put the parts together. */
static sm_status collect(run *r, const bricks_point *point, uint32_t brick, uint32_t n_streams,
                         double busy, sm_error *err)
{
    uint32_t n_parts = 0;
    sm_status st = SM_OK;
    _Static_assert(sizeof(part) <= SM_MESSAGE_MAX, "a part is one message");

    sums *by_brick = sm_calloc(r->probe->n_bricks, sizeof *by_brick);
    if (by_brick == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "no memory for results");
    for (uint32_t b = 0; st == SM_OK && b < r->probe->n_bricks; b++) {
        if (r->word[1 + b] != 0 || (brick != BRICKS_ALL && b != brick))
            continue;
        const part p = part_of(r, b, n_streams);
        st = sm_ranks_send(r->ranks, 0, &p, sizeof p, err);
        n_parts += sm_ranks_n(r->ranks);
    }
    if (sm_ranks_me(r->ranks) == 0) {
        if (st == SM_OK)
            st = take_parts(r, point, n_parts, by_brick, err);
        if (st == SM_OK && !sm_stop_requested())
            st = keep(r, point, brick, by_brick, busy, err);
    }
    free(by_brick);
    return st;
}

static void say_progress(const run *r, const bricks_point *point, uint32_t brick)
{
    static const char *const WHAT[] = {"write", "read", "slides", "fsync"};
    if (sm_ranks_me(r->ranks) != 0 || r->result->options->quiet || !isatty(STDERR_FILENO))
        return;
    char where[32] = "all bricks";
    if (brick != BRICKS_ALL)
        (void)snprintf(where, sizeof where, "brick %" PRIu32, brick + 1);
    (void)fprintf(stderr, "\r%3.0f s  repeat %" PRIu32 "  %s: %s, %" PRIu32 " streams          \r",
                  (double)(sm_now_ns() - r->began_ns) / 1e9, r->repeat + 1, where,
                  WHAT[point->kind], point->streams);
}

static sm_status measure(run *r, const bricks_point *point, uint32_t brick, sm_error *err)
{
    uint64_t busy[2], all[2];
    bool go = false;
    sm_status st = give_word(r, brick, &go, err);
    if (st != SM_OK || !go)
        return st;
    say_progress(r, point, brick);
    if (r->result->options->drop_caches && !point->warm && point->kind != BRICKS_FSYNC)
        r->result->caches_dropped = drop_caches();
    const uint32_t n = my_streams(r, point, brick);
    read_cpu(&busy[0], &all[0]);
    st = bricks_load(r->probe, point, r->point_ns, r->streams, n, err);
    read_cpu(&busy[1], &all[1]);
    st = sm_ranks_agree(r->ranks, st, err);
    if (st != SM_OK)
        return st;
    const double share =
        all[1] > all[0] ? (double)(busy[1] - busy[0]) / (double)(all[1] - all[0]) : 0;
    st = collect(r, point, brick, n, share, err);
    return sm_ranks_agree(r->ranks, st, err);
}

static sm_status each_brick(run *r, const bricks_point *point, sm_error *err)
{
    const uint32_t n = r->probe->n_bricks;
    sm_status st = SM_OK;
    for (uint32_t i = 0; st == SM_OK && i < n; i++)
        st = measure(r, point, (i + r->repeat) % n, err); /* nobody is always first */
    return st;
}

/* ---- the list ---- */

bricks_point bricks_usual(const bricks_result *result, bricks_kind kind, uint32_t streams)
{
    return (bricks_point){.kind = kind,
                          .streams = streams,
                          .block_bytes = USUAL_BLOCK,
                          .threads = !result->has_uring};
}

/* Does more streams still pay? Two doublings without 5% are the end. */
static bool still_grows(const run *r, uint32_t level)
{
    const bricks_result *result = r->result;
    if (level < 2)
        return true;
    for (uint32_t b = 0; b < r->probe->n_bricks; b++) {
        for (int kind = BRICKS_WRITE; kind <= BRICKS_READ; kind++) {
            double rate[3];
            for (uint32_t i = 0; i < 3; i++) {
                const bricks_point p = bricks_usual(result, (bricks_kind)kind, 1u << (level - i));
                rate[i] = bricks_rate(result, &p, b);
            }
            if (rate[0] > 1.05 * rate[2] || rate[1] > 1.05 * rate[2])
                return true;
        }
    }
    return false;
}

/* 1, 2, 4, ... streams; the first time rank 0 decides where that ends. */
static sm_status measure_levels(run *r, sm_error *err)
{
    bricks_result *result = r->result;
    bool more = true;
    sm_status st = SM_OK;

    for (uint32_t level = 0; st == SM_OK && more; level++) {
        bricks_point read = bricks_usual(result, BRICKS_READ, 1u << level);
        bricks_point write = bricks_usual(result, BRICKS_WRITE, 1u << level);
        st = each_brick(r, &write, err);
        if (st == SM_OK)
            st = each_brick(r, &read, err);
        if (r->repeat > 0) {
            more = level + 1 < result->n_levels;
            continue;
        }
        result->n_levels = level + 1;
        more = 2u << level <= r->probe->n_files && still_grows(r, level);
        if (st == SM_OK)
            st = sm_ranks_bcast(r->ranks, &more, sizeof more, err);
    }
    return st;
}

static sm_status measure_variants(run *r, sm_error *err)
{
    static const size_t BLOCKS[] = {(size_t)128 << 10, (size_t)1 << 20, USUAL_BLOCK};
    const bricks_point usual = bricks_usual(r->result, BRICKS_READ, 1);
    sm_status st = SM_OK;

    for (unsigned i = 0; st == SM_OK && i < 4 * SM_COUNT(BLOCKS); i++) {
        const bricks_point p = {.kind = BRICKS_READ,
                                .streams = 1,
                                .block_bytes = BLOCKS[i / 4],
                                .threads = i % 2 != 0,
                                .direct = i / 2 % 2 != 0};
        if (same_point(&p, &usual) || (!p.threads && !r->result->has_uring))
            continue;
        st = each_brick(r, &p, err);
    }
    return st;
}

static sm_status measure_others(run *r, sm_error *err)
{
    static const bricks_kind KINDS[] = {BRICKS_READ, BRICKS_SLIDE, BRICKS_FSYNC};
    sm_status st = SM_OK;

    for (unsigned i = 0; st == SM_OK && i < SM_COUNT(KINDS); i++) {
        bricks_point p = bricks_usual(r->result, KINDS[i], 1);
        p.warm = KINDS[i] == BRICKS_READ;
        st = each_brick(r, &p, err);
    }
    return st;
}

/* All bricks at once, and slides, with the streams that a brick can use. */
static sm_status measure_together(run *r, sm_error *err)
{
    const uint32_t n = r->result->streams_per_brick;
    static const bricks_kind KINDS[] = {BRICKS_READ, BRICKS_WRITE};
    bricks_point p = bricks_usual(r->result, BRICKS_SLIDE, n);
    sm_status st = n > 1 ? each_brick(r, &p, err) : SM_OK;

    for (unsigned i = 0; st == SM_OK && r->probe->n_bricks > 1 && i < SM_COUNT(KINDS); i++) {
        p = bricks_usual(r->result, KINDS[i], n);
        p.all = true;
        st = measure(r, &p, BRICKS_ALL, err);
    }
    return st;
}

/* ---- the run ---- */

/* The files that are read, by all ranks; a brick that is full drops out here. */
static sm_status make_files(run *r, sm_error *err)
{
    const bricks_point p = {
        .kind = BRICKS_WRITE, .block_bytes = USUAL_BLOCK, .threads = !r->result->has_uring};
    const uint32_t me = sm_ranks_me(r->ranks), of = sm_ranks_n(r->ranks);
    sm_status st = SM_OK;

    memset(r->word, 0, 1 + r->probe->n_bricks);
    for (uint32_t b0 = 0; st == SM_OK && b0 < r->probe->n_bricks; b0 += 16) {
        uint32_t n = 0;
        for (uint32_t b = b0; b < r->probe->n_bricks && b < b0 + 16; b++)
            if (!r->probe->bricks[b].failed)
                r->streams[n++] = (bricks_stream){.brick = b, .first = me, .step = of};
        st = sm_ranks_agree(r->ranks, bricks_load(r->probe, &p, 0, r->streams, n, err), err);
        for (uint32_t b = b0; st == SM_OK && b < r->probe->n_bricks && b < b0 + 16; b++) {
            if (r->probe->bricks[b].failed)
                continue;
            st = collect(r, &p, b, n, 0, err);
            st = sm_ranks_agree(r->ranks, st, err);
        }
    }
    r->result->n_series = 0; /* making files is no measurement */
    return st == SM_OK ? sm_ranks_agree(r->ranks, sm_stop_check(err), err) : st;
}

static sm_status set_up(run *r, const bricks_options *options, sm_error *err)
{
    sm_ring *ring = NULL;
    sm_status st = sm_ring_open(1, &ring, err);
    if (st == SM_OK)
        r->result->has_uring = strcmp(sm_ring_backend(ring), "io_uring") == 0;
    sm_ring_close(&ring);
    r->word = sm_calloc(1 + r->probe->n_bricks, 1);
    r->streams = sm_calloc(STREAMS_A_RANK_MAX + BRICKS_MAX, sizeof *r->streams);
    if (st == SM_OK && (r->word == NULL || r->streams == NULL))
        st = sm_fail(err, SM_ERR_NOMEM, "no memory for streams");
    st = sm_ranks_agree(r->ranks, st, err);
    if (st != SM_OK || r->word == NULL || r->streams == NULL)
        return st;
    st = sm_ranks_bcast(r->ranks, &r->result->has_uring, sizeof r->result->has_uring, err);
    r->began_ns = sm_now_ns();
    r->probe->setup_ns = options->time_s * SECOND / 2;
    return st == SM_OK ? make_files(r, err) : st;
}

/* Every point gets the same time; what is written must also be made durable in it. */
static uint64_t time_of_point(const run *r, const bricks_options *options)
{
    const uint64_t left = r->began_ns + options->time_s * SECOND - sm_now_ns();
    uint64_t levels = 1;
    while (levels < LEVELS_MAX && 1u << levels <= options->streams_max)
        levels++;
    const uint64_t points = (2 * levels + 11 + 3 + 3) * r->probe->n_bricks * options->repeats;
    const uint64_t each = left / 10 * 7 / (points + 1);
    return each < SECOND / 50 ? SECOND / 50 : each > 10 * SECOND ? 10 * SECOND : each;
}

static sm_status measure_all(run *r, const bricks_options *options, sm_error *err)
{
    sm_status st = SM_OK;
    const uint64_t end = r->began_ns + options->time_s * SECOND;

    r->point_ns = time_of_point(r, options);
    st = sm_ranks_bcast(r->ranks, &r->point_ns, sizeof r->point_ns, err);
    r->deadline_ns = end - (end - sm_now_ns()) / 5; /* the rest is for all bricks together */
    for (r->repeat = 0; st == SM_OK && r->repeat < options->repeats; r->repeat++) {
        st = measure_levels(r, err);
        if (st == SM_OK)
            st = measure_others(r, err);
        if (st == SM_OK)
            st = measure_variants(r, err);
    }
    r->deadline_ns = end;
    if (sm_ranks_me(r->ranks) == 0) {
        const uint32_t n = bricks_saturation(r->result, BRICKS_ALL, BRICKS_READ);
        r->result->streams_per_brick = n > 0 ? n : 1;
    }
    if (st == SM_OK)
        st = sm_ranks_bcast(r->ranks, &r->result->streams_per_brick, sizeof(uint32_t), err);
    for (r->repeat = 0; st == SM_OK && r->repeat < options->repeats; r->repeat++)
        st = measure_together(r, err);
    return st;
}

sm_status bricks_run(sm_ranks *ranks, const bricks_options *options, bricks_probe *probe,
                     bricks_result *result, sm_error *err)
{
    run r = {.ranks = ranks, .probe = probe, .result = result};

    *result = (bricks_result){.options = options, .probe = probe, .ranks = sm_ranks_n(ranks)};
    sm_status st = set_up(&r, options, err);
    if (st == SM_OK)
        st = measure_all(&r, options, err);
    result->wall_ns = sm_now_ns() - r.began_ns;
    if (sm_ranks_me(ranks) == 0 && !options->quiet && isatty(STDERR_FILENO))
        (void)fprintf(stderr, "\r%70s\r", "");
    free(r.word);
    free(r.streams);
    return st;
}

void bricks_result_free(bricks_result *result)
{
    free(result->series);
    result->series = NULL;
    result->n_series = 0;
}
