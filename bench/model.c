/* The scale model's clock: checks the config, sets the cluster up, and lets one thing happen after
 * another. */
#include "bench/model.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench/model_internal.h"
#include "common/buf.h"
#include "common/stop.h"

#define MOST_RANKS 65536
#define MOST_YEARS 100
#define YEAR_S (365.25 * 86400)
#define FIRST_BIN_S 1.0

static const char *const LIMIT_NAMES[SM_LIMITS] = {"cpu",         "stream",    "brick",
                                                   "server link", "node link", "mount"};

const char *sm_limit_name(sm_limit limit)
{
    return LIMIT_NAMES[limit];
}

/* ---- events: a heap, earliest on top ---- */

static bool before(const model_event *a, const model_event *b)
{
    return a->at != b->at ? a->at < b->at : a->seq < b->seq;
}

sm_status model_push(model *m, double at, model_event_kind kind, uint32_t index, uint32_t epoch,
                     sm_error *err)
{
    if (m->n_events == m->cap_events) {
        const uint32_t cap = m->cap_events > 0 ? 2 * m->cap_events : 1024;
        model_event *more = reallocarray(m->events, cap, sizeof *more);
        if (more == NULL)
            return sm_fail(err, SM_ERR_NOMEM, "no memory for %u events", cap);
        m->events = more;
        m->cap_events = cap;
    }
    const model_event e = {at, m->seq++, kind, index, epoch};
    uint32_t i = m->n_events++;
    while (i > 0 && before(&e, &m->events[(i - 1) / 2])) {
        m->events[i] = m->events[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    m->events[i] = e;
    return SM_OK;
}

static model_event pop(model *m)
{
    const model_event top = m->events[0], last = m->events[--m->n_events];
    uint32_t i = 0;
    while (2 * i + 1 < m->n_events) {
        uint32_t child = 2 * i + 1;
        if (child + 1 < m->n_events && before(&m->events[child + 1], &m->events[child]))
            child++;
        if (!before(&m->events[child], &last))
            break;
        m->events[i] = m->events[child];
        i = child;
    }
    m->events[i] = last;
    return top;
}

static sm_status happen(model *m, const model_event *e, sm_error *err)
{
    switch (e->kind) {
    case MODEL_SETTLED:
        return model_settled(m, e->index, e->epoch, err);
    case MODEL_GOT_ERROR:
        return model_got_error(m, e->index, e->epoch, err);
    case MODEL_WAKE: {
        model_task *t = &m->tasks[e->index];
        return t->running && t->epoch == e->epoch ? model_feed(m, t, err) : SM_OK;
    }
    case MODEL_BEGIN:
        return model_task_begins(m, e->index, e->epoch, err);
    case MODEL_REQUEUE:
        return model_requeue(m, e->index, err);
    default:
        return model_fault(m, e, err);
    }
}

/* ---- time ---- */

static void pass_time(model *m, double to, double dt)
{
    const uint32_t *limits = sm_share_limits(m->share);
    for (uint32_t i = 0; i < SM_LIMITS; i++)
        m->result->limit_s[i] += limits[i] * dt;
    for (uint32_t i = 0; i < SM_MODEL_RANK_STATES; i++)
        m->result->rank_s[i] += m->in_state[i] * dt;
    m->now = to;
}

static sm_status step(model *m, sm_error *err)
{
    if (m->n_events > 0 && m->events[0].at <= m->now) {
        const model_event e = pop(m);
        return happen(m, &e, err);
    }
    if (m->dirty)
        sm_share_solve(m->share);
    m->dirty = false;
    /* the flow's own time, not a difference of clock readings: those round to more than a byte */
    const double flow = sm_share_next(m->share);
    const double event = m->n_events > 0 ? m->events[0].at - m->now : (double)INFINITY;
    const double dt = fmin(flow, event);
    if (!isfinite(dt))
        return sm_fail(err, SM_ERR_INTERNAL, "the model stands still after %.0f s, %u slides done",
                       m->now, m->result->done);
    pass_time(m, event <= flow ? m->events[0].at : m->now + flow, dt);
    const uint32_t n = sm_share_advance(m->share, dt, m->ended);
    sm_status st = SM_OK;
    for (uint32_t i = 0; st == SM_OK && i < n; i++)
        st = model_flow_ended(m, m->ended[i], err);
    return st;
}

static sm_status run(model *m, sm_error *err)
{
    const uint64_t most = 2000 * (uint64_t)m->n_slides + 10000000;
    sm_status st = SM_OK;
    while (st == SM_OK && m->result->done < m->n_slides) {
        const uint64_t n = ++m->result->events;
        st = step(m, err);
        if (st == SM_OK && n % 4096 == 0)
            st = sm_stop_check(err);
        if (st == SM_OK && (n > most || m->now > MOST_YEARS * YEAR_S))
            st = sm_fail(err, SM_ERR_ARG,
                         "%u of %u slides are done after %.0f days: with so many failures, or so "
                         "little bandwidth, this does not end",
                         m->result->done, m->n_slides, m->now / 86400);
    }
    return st;
}

/* ---- setting up ---- */

static sm_status check_positive(const sm_model_config *c, sm_error *err)
{
    const struct {
        const char *what;
        double value;
    } values[] = {{"CPU of a rank", c->convert_mb_s},     {"rate of a brick", c->brick_mb_s},
                  {"brick writing", c->brick_write_mb_s}, {"link of a node", c->node_mb_s},
                  {"link of a server", c->server_mb_s},   {"output ratio", c->out_ratio}};
    for (size_t i = 0; i < SM_COUNT(values); i++)
        if (!(values[i].value > 0))
            return sm_fail(err, SM_ERR_ARG, "%s: must be more than 0", values[i].what);
    /* weights are 32-bit integers */
    if (c->out_ratio > 100 || c->brick_mb_s / c->brick_write_mb_s * c->out_ratio > 10000)
        return sm_fail(err, SM_ERR_ARG,
                       "output ratio %g with writes %g times as dear as reads: out of range",
                       c->out_ratio, c->brick_mb_s / c->brick_write_mb_s);
    return SM_OK;
}

static sm_status check_curve(const sm_model_config *c, sm_error *err)
{
    for (uint32_t i = 0; i < c->n_curve; i++)
        if (!(c->curve[i].mb_s > 0) || c->curve[i].streams == 0 ||
            (i > 0 && c->curve[i].streams <= c->curve[i - 1].streams))
            return sm_fail(err, SM_ERR_ARG,
                           "brick curve, point %u: streams must rise from 1, MB/s be more than 0",
                           i + 1);
    for (uint32_t i = 0; i < c->n_slow; i++)
        if (c->slow[i].brick >= c->bricks || !(c->slow[i].factor > 0))
            return sm_fail(err, SM_ERR_ARG,
                           "slow brick %u: there are bricks 0 to %u, and a factor is more than 0",
                           c->slow[i].brick, c->bricks - 1);
    return SM_OK;
}

static sm_status check(const sm_model_config *c, const sm_schedule_item *slides, uint32_t n,
                       sm_error *err)
{
    const uint64_t ranks = (uint64_t)c->nodes * c->ranks_per_node;
    if (n == 0 || c->shards == 0 || c->bricks == 0 || c->servers == 0)
        return sm_fail(err, SM_ERR_ARG, "a model needs slides, shards, bricks and servers");
    if (ranks == 0 || ranks > MOST_RANKS || c->tasks == 0 || c->tasks > ranks)
        return sm_fail(err, SM_ERR_ARG,
                       "%u tasks of %llu ranks: at least a rank for each task, at most %d ranks",
                       c->tasks, (unsigned long long)ranks, MOST_RANKS);
    for (uint32_t i = 0; i < n; i++)
        if (slides[i].brick >= c->bricks || slides[i].bytes == 0)
            return sm_fail(err, SM_ERR_ARG, "slide %u: empty, or on brick %u of %u", i,
                           slides[i].brick, c->bricks);
    for (uint32_t i = 0; i < c->n_faults; i++) {
        const uint32_t most[] = {(uint32_t)ranks, c->nodes, c->bricks};
        if (c->faults[i].index >= most[c->faults[i].kind])
            return sm_fail(err, SM_ERR_ARG, "failure %u is of number %u: there are %u", i + 1,
                           c->faults[i].index, most[c->faults[i].kind]);
    }
    const sm_status st = check_positive(c, err);
    return st == SM_OK ? check_curve(c, err) : st;
}

static sm_status allocate(model *m, sm_error *err)
{
    const sm_model_config *c = m->config;
    m->ranks = sm_calloc(m->n_ranks, sizeof *m->ranks);
    m->ended = sm_calloc(m->n_ranks, sizeof *m->ended);
    m->idle_slots = sm_calloc(m->n_ranks, sizeof *m->idle_slots);
    m->tasks = sm_calloc(m->n_tasks, sizeof *m->tasks);
    m->bricks_down = sm_calloc(c->bricks, sizeof *m->bricks_down);
    m->brick_factor = sm_calloc(c->bricks, sizeof *m->brick_factor);
    m->nodes_down = sm_calloc(c->nodes, sizeof *m->nodes_down);
    m->failed = sm_calloc(m->n_slides, sizeof *m->failed);
    if (m->ranks == NULL || m->ended == NULL || m->idle_slots == NULL || m->tasks == NULL ||
        m->bricks_down == NULL || m->brick_factor == NULL || m->nodes_down == NULL ||
        m->failed == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "no memory for %u ranks", m->n_ranks);
    return SM_OK;
}

static sm_status set_up(model *m, sm_error *err)
{
    const sm_model_config *c = m->config;
    const sm_status st = allocate(m, err);
    if (st != SM_OK)
        return st;
    for (uint32_t i = 0; i < c->bricks; i++)
        m->brick_factor[i] = 1;
    for (uint32_t i = 0; i < c->n_slow; i++)
        m->brick_factor[c->slow[i].brick] = c->slow[i].factor;
    for (uint32_t i = 0; i < m->n_ranks; i++) {
        const uint32_t task = (uint32_t)((uint64_t)i * m->n_tasks / m->n_ranks);
        model_task *t = &m->tasks[task];
        if (t->n++ == 0)
            *t = (model_task){.first = i, .n = 1, .shard = MODEL_NONE, .idle = &m->idle_slots[i]};
        m->ranks[i] =
            (model_rank){.state = SM_MODEL_EMPTY, .task = task, .node = i / c->ranks_per_node};
    }
    m->in_state[SM_MODEL_EMPTY] = m->n_ranks;
    return model_links_new(m, err);
}

static void tear_down(model *m)
{
    model_free_pass(m);
    sm_share_free(&m->share);
    free(m->ranks);
    free(m->ended);
    free(m->idle_slots);
    free(m->tasks);
    free(m->bricks_down);
    free(m->brick_factor);
    free(m->nodes_down);
    free(m->failed);
    free(m->events);
    free(m->requeued);
}

static void finish(const model *m, sm_model_result *r)
{
    r->seconds = m->now;
    r->n_bins = (uint32_t)(m->now / r->bin_s) + 1;
    if (r->n_bins > SM_MODEL_BINS)
        r->n_bins = SM_MODEL_BINS;
    model_links_use(m, r);
}

sm_status sm_model_run(const sm_model_config *config, const sm_schedule_item *slides, uint32_t n,
                       sm_model_result *result, sm_error *err)
{
    *result = (sm_model_result){.bin_s = FIRST_BIN_S};
    sm_status st = check(config, slides, n, err);
    if (st != SM_OK)
        return st;
    model m = {.config = config,
               .slides = slides,
               .n_slides = n,
               .n_ranks = config->nodes * config->ranks_per_node,
               .n_tasks = config->tasks,
               .result = result};
    st = set_up(&m, err);
    if (st == SM_OK)
        st = model_faults_begin(&m, err);
    if (st == SM_OK)
        st = model_begin_pass(&m, NULL, n, err);
    if (st == SM_OK)
        st = run(&m, err);
    if (st == SM_OK)
        finish(&m, result);
    tear_down(&m);
    return st;
}
