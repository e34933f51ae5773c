/* A rank's places. A slide goes ASSIGN -> clerk (job, begun in the journal) -> worker -> clerk
 * (outcome in the journal, durable) -> RESULT; only a storage error first asks rank 0 whether it
 * was the last try. Nothing here waits. */
#include "ingest/run_rank.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/buf.h"
#include "common/sysinfo.h"

#define KILL_AFTER_NS (10 * SM_SECOND_NS)  /* from "please end" to SIGKILL */
#define LEAVE_AFTER_NS (25 * SM_SECOND_NS) /* and until a killed one is left to the kernel */
#define STATS_NS (2 * SM_SECOND_NS)
#define LOOK_NS (60 * SM_SECOND_NS)
enum { MOST_UNRECORDED = 16 }; /* outcomes on their way into the journal */

sm_status sm_rank_tell(sm_run_rank *r, const sm_run_message *message, sm_error *err)
{
    r->moved = true;
    return sm_ranks_send(r->ranks, 0, message, sizeof *message, err);
}

/* ---- lines of the log ---- */

static void line_of_place(sm_run_line *line, const sm_run_rank *r, const sm_place *p,
                          const char *event)
{
    const char *stage = "";
    uint64_t bytes = 0, px = 0, quiet_ns = 0;
    sm_worker_where(p->worker, sm_now_ns(), &stage, &bytes, &px, &quiet_ns);
    sm_run_line_begin(line, r->log, "warn", event);
    sm_run_line_text(line, "slide", sm_worker_job(p->worker)->main.path);
    sm_run_line_text(line, "stage", stage);
    sm_run_line_u64(line, "bytes", bytes);
    sm_run_line_real(line, "quiet_s", (double)quiet_ns / 1e9, 0);
    sm_run_line_u64(line, "pid", (uint64_t)sm_worker_pid(p->worker));
}

static double seconds_of(const sm_outcome *o)
{
    return o->ended_ns > o->began_ns ? (double)(o->ended_ns - o->began_ns) / 1e9 : 0;
}

/* For programs: a person has `catalog status`. */
static void put_work(sm_run_line *line, const sm_spent *spent)
{
    sm_stage order[SM_STAGES];
    sm_run_line_real(line, "cpu_s", (double)spent->cpu_ns / 1e9, 3);
    sm_run_line_real(line, "work_s", (double)sm_spent_sum(spent->ns, false) / 1e9, 3);
    sm_run_line_real(line, "read_wait_s", (double)spent->ns[SM_STAGE_READ] / 1e9, 3);
    sm_run_line_real(
        line, "write_wait_s",
        (double)spent->ns[SM_STAGE_WRITE_WAIT] / 1e9 + (double)spent->ns[SM_STAGE_SYNC] / 1e9, 3);
    if (sm_spent_order(spent->ns, false, order) > 0)
        sm_run_line_text(line, "most", sm_stage_name(order[0]));
}

static void log_outcome(const sm_run_rank *r, const sm_clerk_task *task)
{
    const sm_outcome *o = &task->outcome;
    const bool ok = o->outcome == SM_OUTCOME_OK;
    const double s = seconds_of(o);
    const char *path = task->job.main.path;
    sm_run_line line;
    sm_run_line_begin(&line, r->log, ok || o->outcome == SM_OUTCOME_ABANDONED ? "info" : "warn",
                      ok ? "done" : sm_outcome_kind_name(o->outcome));
    sm_run_line_text(&line, "slide", path);
    sm_run_line_text(&line, "class", o->error_class);
    sm_run_line_text(&line, "message", o->error);
    if (task->tries > 0)
        sm_run_line_u64(&line, "tries", task->tries + 1);
    if (ok) {
        sm_run_line_real(&line, "s", s, 2);
        sm_run_line_real(&line, "mb", (double)o->bytes_in / 1e6, 1);
        sm_run_line_real(&line, "mb_s", s > 0 ? (double)o->bytes_in / 1e6 / s : 0, 1);
        if (o->pixels > 0)
            sm_run_line_real(&line, "mpx_s", s > 0 ? (double)o->pixels / 1e6 / s : 0, 1);
        sm_run_line_text(&line, "how", o->how);
        if (r->log->json)
            put_work(&line, &o->spent);
    }
    sm_run_line_text(&line, "brick", o->brick);
    sm_run_line_end(&line);
}

/* ---- the end of a try ---- */

static int64_t wall_ns(void)
{
    struct timespec now = {0};
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * (int64_t)SM_SECOND_NS + now.tv_nsec;
}

static sm_status tell_result(sm_run_rank *r, const sm_clerk_task *task, sm_outcome_kind outcome,
                             sm_error *err)
{
    const sm_outcome *o = &task->outcome;
    const bool ok = outcome == SM_OUTCOME_OK;
    return sm_rank_tell(r,
                        &(sm_run_message){.kind = SM_RUN_RESULT,
                                          .index = task->index,
                                          .outcome = outcome,
                                          .bytes_in = ok ? o->bytes_in : 0,
                                          .bytes_out = ok ? o->bytes_out : 0,
                                          .pixels = ok ? o->pixels : 0},
                        err);
}

/* Keep it until the verdict comes. */
static sm_status ask_for_verdict(sm_run_rank *r, sm_clerk_task *task, sm_error *err)
{
    sm_verdict *v = sm_calloc(1, sizeof *v);
    if (v == NULL) {
        sm_clerk_task_free(&task);
        return sm_fail(err, SM_ERR_NOMEM, "no memory for a slide");
    }
    v->record = task;
    v->next = r->verdicts;
    r->verdicts = v;
    return tell_result(r, task, SM_OUTCOME_RETRY, err);
}

/* The task has its outcome; it is the clerk's or the verdicts' from here on. */
static sm_status settle(sm_run_rank *r, sm_clerk_task *task, sm_error *err)
{
    r->moved = true;
    task->work = SM_CLERK_RECORD;
    if (task->outcome.outcome == SM_OUTCOME_RETRY)
        return ask_for_verdict(r, task, err);
    log_outcome(r, task);
    sm_clerk_put(r->clerk, task);
    return SM_OK;
}

static void take_verdict(sm_run_rank *r, const sm_run_message *message)
{
    for (sm_verdict **at = &r->verdicts; *at != NULL; at = &(*at)->next) {
        sm_verdict *v = *at;
        if (v->record->index != message->index)
            continue;
        *at = v->next;
        v->record->outcome.outcome = message->outcome;
        v->record->judged = true;
        log_outcome(r, v->record);
        sm_clerk_put(r->clerk, v->record);
        free(v);
        break;
    }
}

/* For a slide that no worker has seen, or whose worker is left to itself. */
static void fill_outcome(sm_clerk_task *task, sm_attempt_kind kind, sm_outcome_kind outcome,
                         const char *error_class, const char *error)
{
    sm_outcome *o = &task->outcome;
    sm_outcome_clear(o);
    *o = (sm_outcome){.kind = kind, .outcome = outcome, .slide = task->slide};
    o->began_ns = o->ended_ns = wall_ns();
    (void)snprintf(o->error_class, sizeof o->error_class, "%s", error_class);
    (void)snprintf(o->error, sizeof o->error, "%s", error);
}

static void free_place(sm_place *p)
{
    sm_worker_free(&p->worker);
    *p = (sm_place){.state = SM_PLACE_FREE};
}

/* ---- places ---- */

static sm_status ask_for_slides(sm_run_rank *r, sm_error *err)
{
    sm_status st = SM_OK;
    for (uint32_t i = 0; st == SM_OK && i < r->config->workers; i++) {
        if (r->places[i].state != SM_PLACE_FREE || r->stopping || r->ended ||
            sm_clerk_pending(r->clerk) >= MOST_UNRECORDED)
            continue;
        r->places[i].state = SM_PLACE_ASKED;
        st = sm_rank_tell(r, &(sm_run_message){.kind = SM_RUN_READY}, err);
    }
    return st;
}

static sm_place *place_in(const sm_run_rank *r, sm_place_state state, const uint32_t *index)
{
    for (uint32_t i = 0; i < r->config->workers; i++) {
        sm_place *p = &r->places[i];
        if (p->state == state && (index == NULL || p->index == *index))
            return p;
    }
    return NULL;
}

static sm_status take_assignment(sm_run_rank *r, const sm_run_message *message, sm_error *err)
{
    sm_clerk_task *task = NULL;
    sm_place *p = place_in(r, SM_PLACE_ASKED, NULL);
    if (p == NULL)
        return sm_fail(err, SM_ERR_INTERNAL, "a slide came that was not asked for");
    const sm_status st = sm_clerk_task_new(SM_CLERK_PREPARE, &task, err);
    if (st != SM_OK)
        return st;
    task->index = p->index = message->index;
    task->tries = p->tries = message->tries;
    task->slide = message->slide;
    task->full_name = message->full_name;
    p->state = SM_PLACE_PREPARING;
    sm_clerk_put(r->clerk, task);
    return SM_OK;
}

/* Nothing was begun, or the beginning is not known to be written: hand it back unrecorded. */
static sm_status hand_back(sm_run_rank *r, sm_clerk_task *task, sm_error *err)
{
    const sm_status st = tell_result(r, task, SM_OUTCOME_ABANDONED, err);
    sm_clerk_task_free(&task);
    return st;
}

static sm_status begin_work(sm_run_rank *r, sm_place *p, sm_clerk_task *task, sm_error *err)
{
    sm_error why = SM_ERROR_INIT;
    if (r->stopping) {
        fill_outcome(task, r->config->kind, SM_OUTCOME_ABANDONED, "", "the run was stopped");
    } else if (sm_worker_start(&r->worker, &task->job, &p->worker, &why) != SM_OK) {
        /* not the slide's fault: perhaps no process can be had just now */
        fill_outcome(task, r->config->kind, SM_OUTCOME_RETRY, SM_CLASS_INTERNAL, why.message);
    } else {
        p->state = SM_PLACE_RUNNING;
        sm_clerk_task_free(&task);
        return SM_OK;
    }
    free_place(p);
    return settle(r, task, err);
}

static sm_status take_prepared(sm_run_rank *r, sm_clerk_task *task, sm_error *err)
{
    sm_place *p = place_in(r, SM_PLACE_PREPARING, &task->index);
    if (p == NULL) {
        sm_clerk_task_free(&task);
        return sm_fail(err, SM_ERR_INTERNAL, "a job came that was not asked for");
    }
    if (task->st == SM_OK)
        return begin_work(r, p, task, err);
    free_place(p);
    if (task->at_journal)
        return hand_back(r, task, err);
    fill_outcome(task, r->config->kind, SM_OUTCOME_FAILED, "", "");
    sm_outcome_set_error(&task->outcome, &task->err);
    return settle(r, task, err);
}

/* ---- workers ---- */

/* A task for the end of what this place has done; the slide's path goes along for the log. */
static sm_status task_of_place(const sm_place *p, sm_clerk_task **task, sm_error *err)
{
    const sm_job *job = sm_worker_job(p->worker);
    const sm_status st = sm_clerk_task_new(SM_CLERK_RECORD, task, err);
    if (st != SM_OK)
        return st;
    (*task)->index = p->index;
    (*task)->tries = p->tries;
    (*task)->slide = job->slide;
    (*task)->job.main.path = strdup(job->main.path); /* NULL: the log lacks it */
    return SM_OK;
}

static sm_status end_work(sm_run_rank *r, sm_place *p, sm_outcome *outcome, sm_error *err)
{
    sm_clerk_task *task = NULL;
    const sm_status st = task_of_place(p, &task, err);
    if (st != SM_OK) {
        sm_outcome_clear(outcome);
        return st;
    }
    task->outcome = *outcome;
    free_place(p);
    return settle(r, task, err);
}

/* At the end of a stopped run: a worker that even SIGKILL does not end can publish nothing any
 * more; the kernel removes it when its read returns. */
static sm_status leave_to_kernel(sm_run_rank *r, sm_place *p, sm_error *err)
{
    sm_clerk_task *task = NULL;
    const sm_status st = task_of_place(p, &task, err);
    if (st != SM_OK)
        return st;
    fill_outcome(task, r->config->kind, SM_OUTCOME_ABANDONED, "",
                 "stopped; its worker hangs in a read and will end with it");
    free_place(p);
    return settle(r, task, err);
}

/* A worker that cannot be killed gives up its place, not its slide. */
static void put_aside(sm_run_rank *r, sm_place *p)
{
    sm_run_line line;
    if (p->stuck_told)
        return;
    p->stuck_told = true;
    line_of_place(&line, r, p, "stuck");
    sm_run_line_text(&line, "message",
                     "killed, but it hangs in the kernel; most likely its brick does not answer");
    sm_run_line_end(&line);
    for (uint32_t i = r->config->workers; i < r->n_places && p < r->places + r->config->workers;
         i++) {
        if (r->places[i].state == SM_PLACE_FREE) {
            r->places[i] = *p;
            *p = (sm_place){.state = SM_PLACE_FREE};
            return;
        }
    }
}

static void log_stall(const sm_run_rank *r, const sm_place *p)
{
    sm_run_line line;
    line_of_place(&line, r, p, "stalled");
    sm_run_line_end(&line);
}

static sm_status hurry_worker(sm_run_rank *r, sm_place *p, uint64_t now_ns, sm_error *err)
{
    if (!r->stopping || now_ns < r->grace_ns)
        return SM_OK;
    const uint64_t late_ns = now_ns - r->grace_ns;
    if (!p->stopped) {
        p->stopped = true;
        sm_worker_stop(p->worker);
    } else if (late_ns >= KILL_AFTER_NS && !p->killed) {
        p->killed = true;
        sm_worker_kill(p->worker);
    } else if (late_ns >= LEAVE_AFTER_NS) {
        return leave_to_kernel(r, p, err);
    }
    return SM_OK;
}

static sm_status watch_worker(sm_run_rank *r, sm_place *p, uint64_t now_ns, sm_error *err)
{
    sm_outcome outcome = {0};
    switch (sm_worker_poll(p->worker, now_ns, &outcome)) {
    case SM_WORKER_ENDED:
        return end_work(r, p, &outcome, err);
    case SM_WORKER_READ_DONE:
        return sm_rank_tell(r, &(sm_run_message){.kind = SM_RUN_READ_DONE, .index = p->index}, err);
    case SM_WORKER_STALLED:
        log_stall(r, p);
        break;
    case SM_WORKER_STUCK:
        put_aside(r, p);
        break;
    case SM_WORKER_RUNNING:
        break;
    }
    return p->worker != NULL ? hurry_worker(r, p, now_ns, err) : SM_OK;
}

/* ---- the clerk's answers ---- */

static sm_status be_in_trouble(sm_run_rank *r, const sm_error *why, sm_error *err)
{
    if (r->trouble.status != SM_OK)
        return SM_OK;
    r->trouble = *why;
    sm_run_log_say(r->log, "error", "trouble", why->message);
    return sm_rank_tell(r, &(sm_run_message){.kind = SM_RUN_TROUBLE}, err);
}

static sm_status take_recorded(sm_run_rank *r, sm_clerk_task *task, sm_error *err)
{
    sm_status st = SM_OK;
    if (task->st == SM_ERR_LIMIT) {
        fill_outcome(task, r->config->kind, SM_OUTCOME_FAILED, SM_CLASS_LIMIT, task->err.message);
        return settle(r, task, err);
    }
    if (task->st != SM_OK)
        st = be_in_trouble(r, &task->err, err);
    if (st == SM_OK && !task->judged)
        st = tell_result(r, task, task->st == SM_OK ? task->outcome.outcome : SM_OUTCOME_ABANDONED,
                         err);
    sm_clerk_task_free(&task);
    return st;
}

static sm_status take_done(sm_run_rank *r, sm_clerk_task *task, sm_error *err)
{
    sm_status st = SM_OK;
    if (task->work == SM_CLERK_RECORD)
        return take_recorded(r, task, err);
    if (task->st != SM_OK && (task->work != SM_CLERK_PREPARE || task->at_journal))
        st = be_in_trouble(r, &task->err, err);
    if (st == SM_OK && task->work == SM_CLERK_PREPARE)
        return take_prepared(r, task, err);
    sm_clerk_task_free(&task);
    return st;
}

static sm_status take_from_clerk(sm_run_rank *r, sm_error *err)
{
    sm_status st = SM_OK;
    sm_clerk_task *task;
    while (st == SM_OK && (task = sm_clerk_take(r->clerk)) != NULL) {
        r->moved = true;
        st = take_done(r, task, err);
    }
    return st;
}

/* ---- the turn ---- */

static sm_status tell_stats(sm_run_rank *r, uint64_t now_ns, sm_error *err)
{
    sm_run_message message = {.kind = SM_RUN_STATS};
    if (now_ns - r->stats_ns < STATS_NS)
        return SM_OK;
    r->stats_ns = now_ns;
    for (uint32_t i = 0; i < r->n_places; i++) {
        const char *stage = "";
        uint64_t bytes = 0, px = 0, quiet_ns = 0;
        if (r->places[i].worker == NULL)
            continue;
        sm_worker_where(r->places[i].worker, now_ns, &stage, &bytes, &px, &quiet_ns);
        message.bytes_in += bytes;
        message.pixels += px;
    }
    return sm_ranks_send(r->ranks, 0, &message, sizeof message, err);
}

/* Only rank 0 holds the lock. */
static sm_status look_at_lock(sm_run_rank *r, uint64_t now_ns, sm_error *err)
{
    sm_clerk_task *task = NULL;
    if (r->master == NULL || r->ended || now_ns - r->look_ns < LOOK_NS)
        return SM_OK;
    r->look_ns = now_ns;
    const sm_status st = sm_clerk_task_new(SM_CLERK_LOOK, &task, err);
    if (st == SM_OK)
        sm_clerk_put(r->clerk, task);
    return st;
}

sm_status sm_rank_turn(sm_run_rank *r, uint64_t now_ns, sm_error *err)
{
    sm_status st = take_from_clerk(r, err);
    for (uint32_t i = 0; st == SM_OK && i < r->n_places; i++)
        if (r->places[i].worker != NULL)
            st = watch_worker(r, &r->places[i], now_ns, err);
    if (st == SM_OK)
        st = ask_for_slides(r, err);
    if (st == SM_OK)
        st = tell_stats(r, now_ns, err);
    return st == SM_OK ? look_at_lock(r, now_ns, err) : st;
}

static void stop(sm_run_rank *r, uint64_t grace_ns)
{
    if (r->stopping)
        return;
    r->stopping = true;
    r->grace_ns = sm_now_ns() + grace_ns;
    sm_clerk_hurry(r->clerk, r->grace_ns + KILL_AFTER_NS);
    for (uint32_t i = 0; i < r->config->workers; i++)
        if (r->places[i].state == SM_PLACE_ASKED)
            r->places[i].state = SM_PLACE_FREE;
}

sm_status sm_rank_handle(sm_run_rank *r, const sm_run_message *message, sm_error *err)
{
    switch (message->kind) {
    case SM_RUN_ASSIGN:
        return take_assignment(r, message, err);
    case SM_RUN_VERDICT:
        take_verdict(r, message);
        return SM_OK;
    case SM_RUN_STOP:
        stop(r, message->ns);
        return SM_OK;
    case SM_RUN_END:
        r->ended = true;
        r->result = message->result;
        return SM_OK;
    default:
        return sm_fail(err, SM_ERR_INTERNAL, "rank 0 sent message %d", (int)message->kind);
    }
}

sm_status sm_rank_open(sm_run_rank *r, sm_error *err)
{
    r->n_places = r->config->workers + SM_RUN_ASIDE;
    r->places = sm_calloc(r->n_places, sizeof *r->places);
    r->stats_ns = r->look_ns = sm_now_ns();
    r->trouble = (sm_error)SM_ERROR_INIT;
    return r->places != NULL ? SM_OK : sm_fail(err, SM_ERR_NOMEM, "no memory for the workers");
}

void sm_rank_close(sm_run_rank *r)
{
    for (uint32_t i = 0; r->places != NULL && i < r->n_places; i++)
        sm_worker_free(&r->places[i].worker);
    while (r->verdicts != NULL) {
        sm_verdict *v = r->verdicts;
        r->verdicts = v->next;
        sm_clerk_task_free(&v->record);
        free(v);
    }
    free(r->places);
    r->places = NULL;
    sm_clerk_stop(&r->clerk);
}
