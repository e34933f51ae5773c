/* One ingest, seen from a rank: set up together, turn the loop until rank 0 says the end, close the
 * journal. The loop sleeps in poll(); MPI has nothing to poll for, so its messages are looked for
 * every few milliseconds. */
#include "ingest/run.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/stop.h"
#include "common/sysinfo.h"
#include "ingest/run_rank.h"

/* Longest naps, in ms. Rank 0's are what a rank that asks for work waits for. */
enum { NAP_EXIT = 1, NAP_MASTER = 4, NAP_ASKING = 10, NAP_IDLE = 50 };

/* What rank 0 tells the others at the start. */
typedef struct setup {
    sm_journal_head head;
    uint32_t n;
    char mark[SM_OUT_MARK_CAP]; /* of the folder of the outputs */
    sm_run_result result;
} setup;

static sm_status open_master(sm_ranks *ranks, const sm_run_config *config, const sm_run_log *log,
                             setup *s, sm_master **master, sm_error *err)
{
    sm_status st = SM_OK;
    if (sm_ranks_me(ranks) == 0) {
        st = sm_master_open(config, ranks, log, &s->head, master, err);
        if (st == SM_OK)
            s->n = sm_master_n(*master);
        if (st == SM_OK)
            (void)snprintf(s->mark, sizeof s->mark, "%s", sm_master_mark(*master));
        if (st == SM_OK)
            s->result = *sm_master_result(*master);
    }
    st = sm_ranks_agree(ranks, st, err);
    return st == SM_OK ? sm_ranks_bcast(ranks, s, sizeof *s, err) : st;
}

/* ---- the loop ---- */

static sm_status take_messages(sm_run_rank *r, sm_error *err)
{
    sm_run_message message;
    sm_status st = SM_OK;
    bool got = true;
    while (st == SM_OK && got) {
        size_t len = 0;
        uint32_t from = 0;
        st = sm_ranks_poll(r->ranks, &message, sizeof message, &len, &from, &got, err);
        if (st != SM_OK || !got)
            break;
        r->moved = r->moved || message.kind != SM_RUN_STATS;
        if (len != sizeof message)
            st = sm_fail(err, SM_ERR_INTERNAL, "rank %u sent a message of %zu bytes", from, len);
        else if (message.kind >= SM_RUN_ASSIGN)
            st = sm_rank_handle(r, &message, err);
        else if (r->master != NULL)
            st = sm_master_handle(r->master, from, &message, err);
    }
    return st;
}

/* A signal reaches one rank or all of them; rank 0 tells those that got none. */
static sm_status look_for_signal(sm_run_rank *r, sm_error *err)
{
    sm_error why = SM_ERROR_INIT;
    if (r->signalled || sm_stop_check(&why) == SM_OK)
        return SM_OK;
    r->signalled = true;
    sm_run_log_say(r->log, "warn", "stopping",
                   "a signal asks to stop: no new slides, those at work may finish");
    return sm_rank_tell(r, &(sm_run_message){.kind = SM_RUN_SIGNAL}, err);
}

static int longest_nap(const sm_run_rank *r)
{
    int most = NAP_IDLE;
    for (uint32_t i = 0; i < r->config->workers; i++)
        if (r->places[i].state == SM_PLACE_ASKED && sm_ranks_n(r->ranks) > 1)
            most = NAP_ASKING;
    if (r->master != NULL && sm_ranks_n(r->ranks) > 1)
        most = NAP_MASTER;
    for (uint32_t i = 0; i < r->n_places; i++) /* its pipe is closed: it is about to be gone */
        if (r->places[i].worker != NULL && sm_worker_fd(r->places[i].worker) < 0)
            most = NAP_EXIT;
    return most;
}

static int nap_ms(const sm_run_rank *r, int before)
{
    const int nap = before > 0 ? 2 * before : 1, most = longest_nap(r);
    if (r->moved)
        return 0;
    return nap < most ? nap : most;
}

static void nap(const sm_run_rank *r, struct pollfd *fds, int ms)
{
    nfds_t n = 0;
    fds[n++] = (struct pollfd){.fd = sm_clerk_fd(r->clerk), .events = POLLIN};
    for (uint32_t i = 0; i < r->n_places; i++)
        if (r->places[i].worker != NULL)
            fds[n++] = (struct pollfd){.fd = sm_worker_fd(r->places[i].worker), .events = POLLIN};
    (void)poll(fds, n, ms); /* EINTR: a signal, which is looked for */
}

static sm_status turn(sm_run_rank *r, sm_error *err)
{
    bool ended = false;
    sm_status st = take_messages(r, err);
    if (st == SM_OK)
        st = look_for_signal(r, err);
    if (st == SM_OK)
        st = sm_rank_turn(r, sm_now_ns(), err);
    if (st == SM_OK && r->master != NULL)
        st = sm_master_tick(r->master, sm_now_ns(), &ended, err);
    return st;
}

static sm_status loop(sm_run_rank *r, sm_error *err)
{
    struct pollfd *fds = sm_calloc(r->n_places + 1, sizeof *fds);
    sm_status st = fds == NULL ? sm_fail(err, SM_ERR_NOMEM, "no memory for the loop") : SM_OK;
    for (int ms = 0; st == SM_OK;) {
        r->moved = false;
        st = turn(r, err);
        if (st != SM_OK || (r->ended && sm_clerk_pending(r->clerk) == 0))
            break;
        ms = nap_ms(r, ms);
        nap(r, fds, ms);
    }
    free(fds);
    return st;
}

/* Close the journal in the clerk's thread; nothing else is going on any more. */
static sm_status finish_journal(sm_run_rank *r, sm_error *err)
{
    sm_clerk_task *task = NULL;
    sm_status st = sm_clerk_task_new(SM_CLERK_FINISH, &task, err);
    if (st != SM_OK)
        return st;
    sm_clerk_put(r->clerk, task);
    struct pollfd fd = {.fd = sm_clerk_fd(r->clerk), .events = POLLIN};
    while ((task = sm_clerk_take(r->clerk)) == NULL)
        (void)poll(&fd, 1, NAP_IDLE);
    st = task->st;
    *err = st == SM_OK ? *err : task->err;
    sm_clerk_task_free(&task);
    return st;
}

/* ---- one rank ---- */

static void who_am_i(sm_journal_head *head, uint32_t rank)
{
    head->rank = rank;
    if (gethostname(head->host, sizeof head->host - 1) != 0)
        (void)snprintf(head->host, sizeof head->host, "unknown");
}

static sm_status open_rank(sm_run_rank *r, const setup *s, sm_catalog **catalog, sm_error *err)
{
    const char *dir = s->head.target_dir[0] != '\0' ? s->head.target_dir : NULL;
    r->worker = (sm_worker_config){.program = r->config->worker_program,
                                   .options = r->config->worker_options,
                                   .memory_bytes = r->config->memory_bytes,
                                   .timeout_ns = r->config->slide_timeout_ns,
                                   .stall_ns = r->config->stall_ns};
    sm_status st = sm_catalog_open_generation(r->config->catalog, s->head.generation, catalog, err);
    if (st == SM_OK)
        st = sm_rank_open(r, err);
    if (st != SM_OK)
        return st;
    const sm_clerk_config clerk = {.catalog_path = r->config->catalog,
                                   .catalog = *catalog,
                                   .head = &s->head,
                                   .lock = r->master != NULL ? sm_master_lock(r->master) : NULL,
                                   .out = dir,
                                   .mark = s->mark,
                                   .suffix = r->config->suffix,
                                   .retry_for_ns = r->config->retry_for_ns};
    return sm_clerk_start(&clerk, &r->clerk, err);
}

/* How the run ended, as far as this rank knows. */
static sm_status verdict(const sm_run_rank *r, sm_error *err)
{
    sm_error why = SM_ERROR_INIT;
    if (r->trouble.status != SM_OK) {
        *err = r->trouble;
        return err->status;
    }
    if (r->result.n_left == 0 || sm_stop_check(&why) == SM_OK)
        return SM_OK;
    return sm_fail(err, SM_ERR_INTERRUPTED, "interrupted; %llu slides are left",
                   (unsigned long long)r->result.n_left);
}

static sm_status run_rank(sm_run_rank *r, setup *s, sm_run_result *result, sm_error *err)
{
    sm_catalog *catalog = NULL;
    who_am_i(&s->head, sm_ranks_me(r->ranks));
    sm_status st = sm_ranks_agree(r->ranks, open_rank(r, s, &catalog, err), err);
    if (st == SM_OK) {
        st = loop(r, err);
        result->deserted = st != SM_OK;
        if (st == SM_OK) {
            *result = r->result;
            st = finish_journal(r, err);
            if (st == SM_OK)
                st = verdict(r, err);
            st = sm_ranks_agree(r->ranks, st, err);
        }
    }
    sm_rank_close(r);
    sm_catalog_close(&catalog);
    return st;
}

static void log_start(const sm_run_log *log, const sm_run_config *config, const sm_ranks *ranks,
                      const setup *s)
{
    sm_run_line line;
    if (log->rank != 0)
        return;
    sm_run_line_begin(&line, log, "info", "start");
    sm_run_line_text(&line, "catalog", config->catalog);
    sm_run_line_u64(&line, "generation", s->head.generation);
    if (config->shard != SM_NO_SHARD)
        sm_run_line_u64(&line, "shard", config->shard);
    sm_run_line_text(&line, "kind", sm_attempt_kind_name(config->kind));
    sm_run_line_text(&line, "run", s->head.run);
    sm_run_line_u64(&line, "slides", s->n);
    sm_run_line_u64(&line, "done_before", s->result.n_before);
    sm_run_line_u64(&line, "ranks", sm_ranks_n(ranks));
    sm_run_line_u64(&line, "workers", config->workers);
    sm_run_line_text(&line, "mpi", sm_ranks_n(ranks) > 1 ? sm_ranks_library() : "none");
    sm_run_line_end(&line);
}

sm_status sm_run(sm_ranks *ranks, const sm_run_config *config, sm_run_result *result, sm_error *err)
{
    const sm_run_log log = {.rank = sm_ranks_me(ranks),
                            .json = config->json_log,
                            .quiet = config->quiet,
                            .terminal = isatty(STDERR_FILENO) != 0};
    *result = (sm_run_result){0};
    sm_run_rank rank = {.config = config, .log = &log, .ranks = ranks};
    setup *s = sm_calloc(1, sizeof *s);
    if (s == NULL) {
        result->deserted = true;
        return sm_fail(err, SM_ERR_NOMEM, "no memory for a run");
    }
    sm_status st = open_master(ranks, config, &log, s, &rank.master, err);
    *result = s->result;
    if (st == SM_OK) {
        log_start(&log, config, ranks, s);
        if (s->n > 0)
            st = run_rank(&rank, s, result, err);
    }
    sm_master_close(&rank.master);
    free(s);
    return st;
}
