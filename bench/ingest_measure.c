/* Which programs take turns in `slidemill bench ingest`, and what a round comes to. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/ingest_bench.h"
#include "common/sysinfo.h"

static uint32_t limit_threads(const ingest_bench *b, const ingest_program *p)
{
    const uint64_t wanted = (uint64_t)p->ranks * p->threads;
    return wanted < b->cpus ? (uint32_t)wanted : b->cpus;
}

static ingest_program *find(const ingest_bench *b, ingest_kind kind, uint32_t ranks,
                            uint32_t threads)
{
    for (size_t i = 0; i < b->n_programs; i++) {
        ingest_program *p = &b->programs[i];
        if (p->kind == kind && p->ranks == ranks && p->threads == threads)
            return p;
    }
    return NULL;
}

/* Once, however often it is asked for; absent with a reason, so that no row is missing silently. */
static sm_status add(ingest_bench *b, ingest_kind kind, uint32_t ranks, uint32_t threads,
                     const char *absent, sm_error *err)
{
    if (find(b, kind, ranks, threads) != NULL)
        return SM_OK;
    ingest_program *p = &b->programs[b->n_programs++];
    *p = (ingest_program){
        .kind = kind, .ranks = ranks, .threads = threads, .absent = absent != NULL};
    (void)snprintf(p->why, sizeof p->why, "%s", absent != NULL ? absent : "");
    if (kind != INGEST_RUN)
        return SM_OK;
    p->bricks = sm_calloc(INGEST_BRICKS_MAX, sizeof *p->bricks);
    return p->bricks != NULL ? SM_OK : sm_fail(err, SM_ERR_NOMEM, "no memory for bricks");
}

static sm_status add_point(ingest_bench *b, uint32_t ranks, uint32_t threads, sm_error *err)
{
    const int against = b->options->against;
    const bool no_mpi = ranks > 1 && b->mpirun[0] == '\0';
    const char *no_fio = b->fio[0] == '\0' ? "fio is not on PATH" : NULL;
    sm_status st = SM_OK;
    if (!no_mpi && (against == INGEST_AGAINST_BOTH || against == INGEST_AGAINST_LIMIT)) {
        const ingest_program as_much = {.ranks = ranks, .threads = threads};
        st = add(b, INGEST_LIMIT, 0, limit_threads(b, &as_much), NULL, err);
    }
    if (st == SM_OK && !no_mpi && (against == INGEST_AGAINST_BOTH || against == INGEST_AGAINST_FIO))
        st = add(b, INGEST_FIO, ranks, 0, no_fio, err);
    if (st == SM_OK)
        st = add(b, INGEST_RUN, ranks, threads,
                 no_mpi ? "mpirun is not on PATH, or slidemill was built without MPI" : NULL, err);
    return st;
}

static sm_status add_programs(ingest_bench *b, sm_error *err)
{
    sm_status st = SM_OK;
    b->programs = sm_calloc((size_t)3 * INGEST_LIST_MAX * INGEST_LIST_MAX, sizeof *b->programs);
    if (b->programs == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "no memory for the programs");
    for (uint32_t r = 0; r < b->ranks.n; r++)
        for (uint32_t t = 0; t < b->threads.n && st == SM_OK; t++)
            st = add_point(b, b->ranks.values[r], b->threads.values[t], err);
    return st;
}

/* Open MPI refuses root and more ranks than cores, and binds a rank to one core, unless told. */
static void tell_mpi(void)
{
    (void)setenv("OMPI_MCA_rmaps_base_oversubscribe", "1", 0);
    (void)setenv("OMPI_MCA_hwloc_base_binding_policy", "none", 0);
    if (geteuid() == 0) {
        (void)setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 0);
        (void)setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 0);
    }
}

static bool has_run(const ingest_program *p, uint32_t round)
{
    return p != NULL && p->wall_s.n == round + 1;
}

/* min(codec limit, fio) as rates is the longer of their times for the same corpus. */
static void compare_round(ingest_bench *b, uint32_t round)
{
    for (size_t i = 0; i < b->n_programs; i++) {
        ingest_program *p = &b->programs[i];
        if (p->kind != INGEST_RUN || !has_run(p, round))
            continue;
        const ingest_program *limit = find(b, INGEST_LIMIT, 0, limit_threads(b, p));
        const ingest_program *fio = find(b, INGEST_FIO, p->ranks, 0);
        const double limit_s = has_run(limit, round) ? limit->wall_s.runs[round] : 0;
        const double fio_s = has_run(fio, round) ? fio->wall_s.runs[round] : 0;
        if (limit_s <= 0 && fio_s <= 0)
            continue;
        bench_series_add(&p->of_limit, fmax(limit_s, fio_s) / p->wall_s.runs[round]);
        p->n_limit += limit_s >= fio_s ? 1 : 0;
        p->n_fio += limit_s >= fio_s ? 0 : 1;
    }
}

static void say(const ingest_bench *b, uint32_t round, const ingest_program *p)
{
    char id[64];
    if (b->options->quiet)
        return;
    ingest_program_id(p, id);
    if (p->why[0] != '\0')
        (void)fprintf(stderr, "run %" PRIu32 "/%" PRIu32 "  %-26s %s\n", round + 1,
                      b->options->repeats, id, p->why);
    else if (p->wall_s.n > 0)
        (void)fprintf(stderr, "run %" PRIu32 "/%" PRIu32 "  %-26s %8.2f s\n", round + 1,
                      b->options->repeats, id, p->wall_s.runs[p->wall_s.n - 1]);
}

sm_status ingest_measure(ingest_bench *b, sm_error *err)
{
    const uint64_t start = sm_now_ns();
    sm_status st = add_programs(b, err);
    tell_mpi();
    for (uint32_t round = 0; st == SM_OK && round < b->options->repeats; round++) {
        for (size_t i = 0; st == SM_OK && i < b->n_programs; i++) {
            /* beginning with another one each time: a slow minute must not always hit the same */
            ingest_program *p = &b->programs[(i + round) % b->n_programs];
            if (p->why[0] != '\0')
                continue;
            st = ingest_run_once(b, p, err);
            if (st == SM_OK)
                say(b, round, p);
        }
        if (st == SM_OK)
            compare_round(b, round);
    }
    b->wall_ns = sm_now_ns() - start;
    return st;
}

const ingest_program *ingest_best(const ingest_bench *b)
{
    const ingest_program *best = NULL;
    for (size_t i = 0; i < b->n_programs; i++) {
        const ingest_program *p = &b->programs[i];
        if (p->kind == INGEST_RUN && p->why[0] == '\0' && p->wall_s.n > 0 &&
            (best == NULL || bench_median(&p->slides_per_h) > bench_median(&best->slides_per_h)))
            best = p;
    }
    return best;
}

void ingest_free(ingest_bench *b)
{
    for (size_t i = 0; i < b->n_programs; i++)
        free(b->programs[i].bricks);
    free(b->programs);
    b->programs = NULL;
    b->n_programs = 0;
}
