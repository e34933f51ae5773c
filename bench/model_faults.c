/* The scale model's failures: each node, each brick and all ranks together have times drawn from an
 * exponential distribution, beside those that the config names. */
#include <math.h>

#include "bench/model_internal.h"

#define STREAM_RANK 10
#define STREAM_NODE 11
#define STREAM_BRICK 12

static double draw(const model *m, uint64_t stream, uint64_t n, double mean_s)
{
    return -log(sm_model_uniform(m->config->seed, stream, n)) * mean_s;
}

/* One process for all ranks: it is their sum. */
static sm_status draw_rank(model *m, sm_error *err)
{
    if (m->config->rank_mtbf_s <= 0)
        return SM_OK;
    const double after =
        draw(m, STREAM_RANK, 2 * m->n_rank_draws++, m->config->rank_mtbf_s / m->n_ranks);
    return model_push(m, m->now + after, MODEL_RANK_DIES, MODEL_NONE, 0, err);
}

static sm_status draw_node(model *m, uint32_t node, double earliest, sm_error *err)
{
    if (m->config->node_mtbf_s <= 0)
        return SM_OK;
    const double after = draw(m, STREAM_NODE, m->n_node_draws++, m->config->node_mtbf_s);
    return model_push(m, earliest + after, MODEL_NODE_DIES, node, 1, err);
}

static sm_status draw_brick(model *m, uint32_t brick, double earliest, sm_error *err)
{
    if (m->config->brick_mtbf_s <= 0)
        return SM_OK;
    const double after = draw(m, STREAM_BRICK, m->n_brick_draws++, m->config->brick_mtbf_s);
    return model_push(m, earliest + after, MODEL_BRICK_GOES, brick, 1, err);
}

sm_status model_faults_begin(model *m, sm_error *err)
{
    static const model_event_kind KINDS[] = {MODEL_RANK_DIES, MODEL_NODE_DIES, MODEL_BRICK_GOES};
    const sm_model_config *c = m->config;
    sm_status st = draw_rank(m, err);
    for (uint32_t i = 0; st == SM_OK && i < c->nodes; i++)
        st = draw_node(m, i, 0, err);
    for (uint32_t i = 0; st == SM_OK && i < c->bricks; i++)
        st = draw_brick(m, i, 0, err);
    for (uint32_t i = 0; st == SM_OK && i < c->n_faults; i++)
        st = model_push(m, c->faults[i].at_s, KINDS[c->faults[i].kind], c->faults[i].index, 0, err);
    return st;
}

static sm_status rank_dies(model *m, uint32_t rank, sm_error *err)
{
    sm_status st = SM_OK;
    if (rank == MODEL_NONE) {
        const uint64_t n = 2 * m->n_rank_draws - 1;
        rank = (uint32_t)(sm_model_random(m->config->seed, STREAM_RANK, n) % m->n_ranks);
        st = draw_rank(m, err);
    }
    if (st == SM_OK && m->tasks[m->ranks[rank].task].running) {
        m->result->rank_failures++;
        st = model_kill_task(m, m->ranks[rank].task, err);
    }
    return st == SM_OK ? model_seek_all(m, err) : st;
}

/* Whether a task has a rank on the node: its ranks follow each other, so do those of a node. */
static bool is_on(const model *m, const model_task *t, uint32_t node)
{
    return m->ranks[t->first].node <= node && node <= m->ranks[t->first + t->n - 1].node;
}

static void set_down(model *m, const model_task *t)
{
    for (uint32_t i = 0; i < t->n; i++) {
        model_rank *r = &m->ranks[t->first + i];
        m->in_state[r->state]--;
        r->state = SM_MODEL_DOWN;
        m->in_state[r->state]++;
    }
}

static sm_status node_dies(model *m, uint32_t node, bool drawn, sm_error *err)
{
    const double up = m->now + m->config->node_repair_s;
    sm_status st = model_push(m, up, MODEL_NODE_UP, node, 0, err);
    if (st == SM_OK && drawn)
        st = draw_node(m, node, up, err);
    m->result->node_failures++;
    if (m->nodes_down[node]++ > 0)
        return st;
    for (uint32_t i = 0; st == SM_OK && i < m->n_tasks; i++) {
        model_task *t = &m->tasks[i];
        if (!is_on(m, t, node))
            continue;
        t->nodes_down++;
        st = model_kill_task(m, i, err);
        set_down(m, t);
    }
    return st;
}

static sm_status node_up(model *m, uint32_t node, sm_error *err)
{
    if (--m->nodes_down[node] > 0)
        return SM_OK;
    for (uint32_t i = 0; i < m->n_tasks; i++)
        if (is_on(m, &m->tasks[i], node))
            m->tasks[i].nodes_down--;
    return model_seek_all(m, err);
}

static bool uses_brick(const model_rank *r, uint32_t brick)
{
    if (r->phase == PHASE_CONVERT)
        return r->src == brick || r->dst == brick;
    return r->phase == PHASE_CHECK && r->dst == brick;
}

static sm_status brick_goes(model *m, uint32_t brick, bool drawn, sm_error *err)
{
    const double up = m->now + m->config->brick_outage_s;
    sm_status st = model_push(m, up, MODEL_BRICK_UP, brick, 0, err);
    if (st == SM_OK && drawn)
        st = draw_brick(m, brick, up, err);
    m->result->brick_failures++;
    if (m->bricks_down[brick]++ > 0)
        return st;
    for (uint32_t i = 0; st == SM_OK && i < m->n_ranks; i++) {
        if (!uses_brick(&m->ranks[i], brick))
            continue;
        model_throw_away(m, i);
        st = model_meet_error(m, i, m->config->ping_timeout_s, err);
    }
    return st;
}

sm_status model_fault(model *m, const model_event *e, sm_error *err)
{
    switch (e->kind) {
    case MODEL_RANK_DIES:
        return rank_dies(m, e->index, err);
    case MODEL_NODE_DIES:
        return node_dies(m, e->index, e->epoch == 1, err);
    case MODEL_NODE_UP:
        return node_up(m, e->index, err);
    case MODEL_BRICK_GOES:
        return brick_goes(m, e->index, e->epoch == 1, err);
    case MODEL_BRICK_UP:
        m->bricks_down[e->index]--;
        return model_next_pass(m, err);
    default:
        return sm_fail(err, SM_ERR_INTERNAL, "event %d is no failure", (int)e->kind);
    }
}
