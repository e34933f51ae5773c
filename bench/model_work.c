/* The scale model's work: array tasks take shards, ranks take slides from the real scheduler, and a
 * slide goes through its phases. */
#include <stdlib.h>
#include <string.h>

#include "bench/model_internal.h"
#include "common/buf.h"

#define STREAM_TARGET 3
#define MODEL_NS 1e9
/* A storage error on a brick that is known to be gone comes at once: measured with GlusterFS 10. */
#define KNOWN_ERROR_S 1.0
/* As rank 0 of an ingest waits after storage errors (ingest/run_master.c). */
#define RETRY_FIRST_NS UINT64_C(1000000000)
#define RETRY_MOST_NS UINT64_C(60000000000)

static uint64_t now_ns(const model *m)
{
    return (uint64_t)(m->now * MODEL_NS);
}

static void set_state(model *m, uint32_t rank, sm_model_rank_state state)
{
    m->in_state[m->ranks[rank].state]--;
    m->ranks[rank].state = state;
    m->in_state[state]++;
}

static void set_task_state(model *m, const model_task *t, sm_model_rank_state state)
{
    for (uint32_t i = 0; i < t->n; i++)
        set_state(m, t->first + i, state);
}

/* ---- passes and shards ---- */

void model_free_pass(model *m)
{
    for (uint32_t i = 0; i < m->n_shards; i++)
        sm_schedule_free(&m->shards[i].schedule);
    free(m->shards);
    free(m->order);
    m->shards = NULL;
    m->order = NULL;
    m->n_shards = 0;
}

/* Group the slides by shard, in the order of their numbers. */
static void sort_by_shard(model *m, const uint32_t *slides, const uint32_t *shard_of, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        m->shards[shard_of[i]].n++;
    uint32_t at = 0;
    for (uint32_t i = 0; i < m->n_shards; i++) {
        m->shards[i].first = at;
        at += m->shards[i].n;
        m->shards[i].n = 0;
    }
    for (uint32_t i = 0; i < n; i++) {
        model_shard *s = &m->shards[shard_of[i]];
        m->order[s->first + s->n++] = slides != NULL ? slides[i] : i;
    }
}

sm_status model_begin_pass(model *m, const uint32_t *slides, uint32_t n, sm_error *err)
{
    const uint32_t n_shards = n < m->config->shards ? n : m->config->shards;
    model_free_pass(m);
    m->order = sm_malloc_array(n, sizeof *m->order);
    m->shards = sm_calloc(n_shards, sizeof *m->shards);
    sm_schedule_item *items = sm_malloc_array(n, sizeof *items);
    uint32_t *shard_of = sm_malloc_array(n, sizeof *shard_of);
    sm_status st = SM_OK;
    if (m->order == NULL || m->shards == NULL || items == NULL || shard_of == NULL) {
        st = sm_fail(err, SM_ERR_NOMEM, "no memory for a plan of %u slides", n);
        goto out;
    }
    m->n_shards = n_shards;
    for (uint32_t i = 0; i < n; i++)
        items[i] = m->slides[slides != NULL ? slides[i] : i];
    st = sm_schedule_shards(items, n, n_shards, shard_of, err);
    if (st != SM_OK)
        goto out;
    sort_by_shard(m, slides, shard_of, n);
    m->next_shard = 0;
    m->n_open = n_shards;
    m->result->passes++;
    st = model_seek_all(m, err);
out:
    free(items);
    free(shard_of);
    return st;
}

static int by_number(const void *a, const void *b)
{
    const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

sm_status model_next_pass(model *m, sm_error *err)
{
    bool wait = m->n_open > 0 || m->n_failed == 0;
    for (uint32_t i = 0; i < m->config->bricks; i++)
        wait = wait || m->bricks_down[i] > 0;
    if (wait)
        return SM_OK;
    const uint32_t n = m->n_failed;
    qsort(m->failed, n, sizeof *m->failed, by_number);
    m->n_failed = 0;
    return model_begin_pass(m, m->failed, n, err);
}

static sm_status begin_shard(model *m, model_shard *shard, sm_error *err)
{
    const sm_model_config *c = m->config;
    const sm_schedule_config config = {.n_bricks = c->bricks,
                                       .streams_per_brick = c->streams_per_brick,
                                       .retry_first_ns = RETRY_FIRST_NS,
                                       .retry_most_ns = RETRY_MOST_NS,
                                       .retry_for_ns = (uint64_t)(c->retry_for_s * MODEL_NS),
                                       .brick_blind = c->brick_blind};
    if (shard->schedule != NULL) /* requeued: its books survive, as journals do */
        return SM_OK;
    sm_schedule_item *items = sm_malloc_array(shard->n > 0 ? shard->n : 1, sizeof *items);
    if (items == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "no memory for a shard of %u slides", shard->n);
    for (uint32_t i = 0; i < shard->n; i++)
        items[i] = m->slides[m->order[shard->first + i]];
    const sm_status st = sm_schedule_new(&config, items, shard->n, &shard->schedule, err);
    free(items);
    return st;
}

sm_status model_requeue(model *m, uint32_t shard, sm_error *err)
{
    if (m->requeued_at == m->n_requeued)
        m->requeued_at = m->n_requeued = 0;
    if (m->n_requeued == m->cap_requeued) {
        const uint32_t cap = m->cap_requeued > 0 ? 2 * m->cap_requeued : 64;
        uint32_t *more = reallocarray(m->requeued, cap, sizeof *more);
        if (more == NULL)
            return sm_fail(err, SM_ERR_NOMEM, "no memory for the queue");
        m->requeued = more;
        m->cap_requeued = cap;
    }
    m->requeued[m->n_requeued++] = shard;
    return model_seek_all(m, err);
}

static uint32_t take_shard(model *m)
{
    if (m->requeued_at < m->n_requeued)
        return m->requeued[m->requeued_at++];
    return m->next_shard < m->n_shards ? m->next_shard++ : MODEL_NONE;
}

/* ---- tasks ---- */

static sm_status seek(model *m, uint32_t task, sm_error *err)
{
    model_task *t = &m->tasks[task];
    if (t->shard != MODEL_NONE || t->nodes_down > 0)
        return SM_OK;
    t->shard = take_shard(m);
    set_task_state(m, t, t->shard == MODEL_NONE ? SM_MODEL_EMPTY : SM_MODEL_START);
    if (t->shard == MODEL_NONE)
        return SM_OK;
    return model_push(m, m->now + m->config->task_start_s, MODEL_BEGIN, task, t->epoch, err);
}

sm_status model_seek_all(model *m, sm_error *err)
{
    sm_status st = SM_OK;
    for (uint32_t i = 0; st == SM_OK && i < m->n_tasks; i++)
        st = seek(m, i, err);
    return st;
}

sm_status model_task_begins(model *m, uint32_t task, uint32_t epoch, sm_error *err)
{
    model_task *t = &m->tasks[task];
    if (epoch != t->epoch)
        return SM_OK;
    const sm_status st = begin_shard(m, &m->shards[t->shard], err);
    if (st != SM_OK)
        return st;
    t->running = true;
    t->wake_s = 0;
    t->n_idle = 0;
    for (uint32_t i = t->n; i-- > 0;)
        t->idle[t->n_idle++] = t->first + i;
    set_task_state(m, t, SM_MODEL_WAIT);
    return model_feed(m, t, err);
}

sm_status model_kill_task(model *m, uint32_t task, sm_error *err)
{
    model_task *t = &m->tasks[task];
    if (t->shard == MODEL_NONE)
        return SM_OK;
    for (uint32_t i = 0; t->running && i < t->n; i++) {
        model_rank *r = &m->ranks[t->first + i];
        if (r->phase == PHASE_NONE)
            continue;
        model_throw_away(m, t->first + i);
        m->result->lost_rank_s += m->now - r->began_s;
        sm_schedule_return(m->shards[t->shard].schedule, r->item);
        r->phase = PHASE_NONE;
        r->epoch++;
    }
    m->result->tasks_killed++;
    const uint32_t shard = t->shard;
    t->shard = MODEL_NONE;
    t->running = false;
    t->epoch++;
    set_task_state(m, t, SM_MODEL_EMPTY);
    return model_push(m, m->now + m->config->restart_s, MODEL_REQUEUE, shard, 0, err);
}

static sm_status end_shard(model *m, model_task *t, sm_error *err)
{
    sm_schedule_free(&m->shards[t->shard].schedule);
    t->shard = MODEL_NONE;
    t->running = false;
    t->epoch++;
    set_task_state(m, t, SM_MODEL_EMPTY);
    m->n_open--;
    const sm_status st = model_seek_all(m, err);
    return st == SM_OK ? model_next_pass(m, err) : st;
}

/* ---- slides ---- */

static bool brick_is_down(const model *m, uint32_t brick)
{
    return m->bricks_down[brick] > 0;
}

sm_status model_meet_error(model *m, uint32_t rank, double seconds, sm_error *err)
{
    model_rank *r = &m->ranks[rank];
    r->phase = PHASE_ERROR;
    r->epoch++;
    set_state(m, rank, SM_MODEL_ERROR);
    return model_push(m, m->now + seconds, MODEL_GOT_ERROR, rank, r->epoch, err);
}

static sm_status start_slide(model *m, uint32_t rank, uint32_t item, sm_error *err)
{
    model_rank *r = &m->ranks[rank];
    const model_shard *shard = &m->shards[m->tasks[r->task].shard];
    r->item = item;
    r->slide = m->order[shard->first + item];
    r->src = m->slides[r->slide].brick;
    r->dst =
        (uint32_t)(sm_model_random(m->config->seed, STREAM_TARGET, r->slide) % m->config->bricks);
    r->began_s = m->now;
    set_state(m, rank, SM_MODEL_WORK);
    if (brick_is_down(m, r->src) || brick_is_down(m, r->dst))
        return model_meet_error(m, rank, KNOWN_ERROR_S, err);
    r->phase = PHASE_CONVERT;
    model_links_begin(m, rank);
    return SM_OK;
}

sm_status model_feed(model *m, model_task *t, sm_error *err)
{
    sm_status st = SM_OK;
    while (st == SM_OK && t->n_idle > 0) {
        uint32_t item = 0;
        uint64_t until_ns = 0;
        const sm_schedule_answer answer =
            sm_schedule_next(m->shards[t->shard].schedule, now_ns(m), &item, &until_ns);
        if (answer == SM_SCHEDULE_END)
            return end_shard(m, t, err);
        if (answer == SM_SCHEDULE_GIVE) {
            st = start_slide(m, t->idle[--t->n_idle], item, err);
            continue;
        }
        /* a little later, so that rounding to nanoseconds never wakes too early */
        const double wake = (double)until_ns / MODEL_NS + 1e-6;
        if (until_ns == UINT64_MAX || (t->wake_s > m->now && t->wake_s <= wake))
            break;
        t->wake_s = wake;
        return model_push(m, wake, MODEL_WAKE, (uint32_t)(t - m->tasks), t->epoch, err);
    }
    return st;
}

static sm_status rank_is_free(model *m, uint32_t rank, sm_error *err)
{
    model_rank *r = &m->ranks[rank];
    model_task *t = &m->tasks[r->task];
    r->phase = PHASE_NONE;
    r->epoch++;
    set_state(m, rank, SM_MODEL_WAIT);
    t->idle[t->n_idle++] = rank;
    return model_feed(m, t, err);
}

void model_throw_away(model *m, uint32_t rank)
{
    const model_rank *r = &m->ranks[rank];
    sm_model_result *result = m->result;
    if (r->phase == PHASE_CONVERT) {
        const double moved = model_links_end(m, rank);
        result->read_bytes += moved;
        result->written_bytes += moved * m->config->out_ratio;
        result->lost_bytes += moved;
    } else if (r->phase == PHASE_CHECK || r->phase == PHASE_SETTLE) {
        if (r->phase == PHASE_CHECK)
            result->checked_bytes += model_links_end(m, rank);
        result->lost_bytes += (double)m->slides[r->slide].bytes;
    }
}

sm_status model_got_error(model *m, uint32_t rank, uint32_t epoch, sm_error *err)
{
    const model_rank *r = &m->ranks[rank];
    if (epoch != r->epoch)
        return SM_OK;
    m->result->errors++;
    m->result->lost_rank_s += m->now - r->began_s;
    sm_schedule *s = m->shards[m->tasks[r->task].shard].schedule;
    if (!sm_schedule_retry(s, r->item, now_ns(m))) {
        m->result->given_up++;
        m->failed[m->n_failed++] = r->slide;
    }
    return rank_is_free(m, rank, err);
}

static void count_done(model *m, double bytes)
{
    sm_model_result *r = m->result;
    r->done++;
    while (m->now >= SM_MODEL_BINS * r->bin_s) {
        for (uint32_t i = 0; i < SM_MODEL_BINS / 2; i++)
            r->bins[i] = r->bins[(size_t)2 * i] + r->bins[(size_t)2 * i + 1];
        memset(&r->bins[SM_MODEL_BINS / 2], 0, sizeof r->bins / 2);
        r->bin_s *= 2;
    }
    r->bins[(uint32_t)(m->now / r->bin_s)] += bytes;
}

sm_status model_settled(model *m, uint32_t rank, uint32_t epoch, sm_error *err)
{
    model_rank *r = &m->ranks[rank];
    if (epoch != r->epoch)
        return SM_OK;
    if (brick_is_down(m, r->dst)) {
        model_throw_away(m, rank);
        return model_meet_error(m, rank, KNOWN_ERROR_S, err);
    }
    r->phase = PHASE_CHECK;
    model_links_begin(m, rank);
    return SM_OK;
}

/* Reading is over: the brick may have another reader while fsync and the like go on. */
static sm_status converted(model *m, uint32_t rank, sm_error *err)
{
    model_rank *r = &m->ranks[rank];
    model_task *t = &m->tasks[r->task];
    r->phase = PHASE_SETTLE;
    sm_schedule_read_done(m->shards[t->shard].schedule, r->item, now_ns(m));
    const sm_status st =
        model_push(m, m->now + m->config->overhead_s, MODEL_SETTLED, rank, r->epoch, err);
    return st == SM_OK ? model_feed(m, t, err) : st;
}

sm_status model_flow_ended(model *m, uint32_t rank, sm_error *err)
{
    const model_rank *r = &m->ranks[rank];
    const double moved = model_links_end(m, rank);
    if (r->phase == PHASE_CONVERT) {
        m->result->read_bytes += moved;
        m->result->written_bytes += moved * m->config->out_ratio;
        return converted(m, rank, err);
    }
    m->result->checked_bytes += moved;
    count_done(m, (double)m->slides[r->slide].bytes);
    sm_schedule_done(m->shards[m->tasks[r->task].shard].schedule, r->item);
    return rank_is_free(m, rank, err);
}
