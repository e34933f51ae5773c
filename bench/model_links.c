/* The scale model's cluster: bricks, servers' and nodes' links, mounts, and which of them a slide
 * uses in each phase. */
#include <math.h>

#include "bench/model_internal.h"

/* Numbers of resources: bricks, then servers out, in, then nodes in, out, mount. */
static uint32_t server_out(const model *m, uint32_t brick)
{
    return m->config->bricks + 2 * (brick % m->config->servers);
}

static uint32_t node_in(const model *m, uint32_t node)
{
    return m->config->bricks + 2 * m->config->servers + 3 * node;
}

/* MB/s of a healthy brick with so many streams. */
static double curve_at(const sm_model_config *c, uint32_t streams)
{
    const sm_model_point *p = c->curve;
    if (c->n_curve == 0)
        return c->brick_mb_s;
    if (streams <= p[0].streams)
        return p[0].mb_s * streams / p[0].streams;
    for (uint32_t i = 1; i < c->n_curve; i++)
        if (streams <= p[i].streams)
            return p[i - 1].mb_s + (p[i].mb_s - p[i - 1].mb_s) * (streams - p[i - 1].streams) /
                                       (p[i].streams - p[i - 1].streams);
    return p[c->n_curve - 1].mb_s;
}

static double best_of_curve(const sm_model_config *c)
{
    double best = c->n_curve == 0 ? c->brick_mb_s : 0;
    for (uint32_t i = 0; i < c->n_curve; i++)
        best = fmax(best, c->curve[i].mb_s);
    return best;
}

static void set_brick(const model *m, uint32_t brick)
{
    const double mb_s = curve_at(m->config, sm_share_flows(m->share, brick));
    sm_share_set(m->share, brick, mb_s * m->brick_factor[brick] * MODEL_MB, SM_LIMIT_BRICK);
}

sm_status model_links_new(model *m, sm_error *err)
{
    const sm_model_config *c = m->config;
    const double mount = c->mount_mb_s > 0 ? c->mount_mb_s * MODEL_MB : (double)INFINITY;
    const uint32_t n = c->bricks + 2 * c->servers + 3 * c->nodes;
    const sm_status st = sm_share_new(n, m->n_ranks, &m->share, err);
    if (st != SM_OK)
        return st;
    for (uint32_t i = 0; i < c->bricks; i++)
        set_brick(m, i);
    for (uint32_t i = 0; i < c->servers; i++)
        for (uint32_t k = 0; k < 2; k++)
            sm_share_set(m->share, server_out(m, i) + k, c->server_mb_s * MODEL_MB,
                         SM_LIMIT_SERVER);
    for (uint32_t i = 0; i < c->nodes; i++) {
        sm_share_set(m->share, node_in(m, i), c->node_mb_s * MODEL_MB, SM_LIMIT_NODE);
        sm_share_set(m->share, node_in(m, i) + 1, c->node_mb_s * MODEL_MB, SM_LIMIT_NODE);
        sm_share_set(m->share, node_in(m, i) + 2, mount, SM_LIMIT_MOUNT);
    }
    return SM_OK;
}

typedef struct uses {
    sm_share_use list[SM_SHARE_USES];
    uint32_t n;
} uses;

static void use(uses *u, uint32_t resource, double weight)
{
    const double units = weight * SM_SHARE_UNIT;
    if (units >= 0.5)
        u->list[u->n++] = (sm_share_use){resource, (uint32_t)llround(units)};
}

void model_links_begin(model *m, uint32_t rank)
{
    const sm_model_config *c = m->config;
    const model_rank *r = &m->ranks[rank];
    const bool convert = r->phase == PHASE_CONVERT;
    const uint32_t from = convert ? r->src : r->dst;
    const double out = convert ? c->out_ratio : 0; /* written for each byte that is read */
    const double stream = c->stream_mb_s > 0 ? c->stream_mb_s / fmax(1, out) : (double)INFINITY;
    const bool cpu = convert && c->convert_mb_s <= stream;
    const double slide = (double)m->slides[r->slide].bytes;
    uses u = {.n = 0};
    use(&u, from, 1);
    use(&u, server_out(m, from), 1);
    use(&u, node_in(m, r->node), 1);
    use(&u, r->dst, out * c->brick_mb_s / c->brick_write_mb_s);
    use(&u, server_out(m, r->dst) + 1, out);
    use(&u, node_in(m, r->node) + 1, out);
    if (c->mount_mb_s > 0)
        use(&u, node_in(m, r->node) + 2, 1 + out);
    sm_share_add(m->share, rank, convert ? slide : slide * c->out_ratio,
                 (cpu ? c->convert_mb_s : stream) * MODEL_MB, cpu ? SM_LIMIT_CPU : SM_LIMIT_STREAM,
                 u.list, u.n);
    set_brick(m, r->src);
    set_brick(m, r->dst);
    m->dirty = true;
}

double model_links_end(model *m, uint32_t rank)
{
    const double moved = sm_share_remove(m->share, rank);
    set_brick(m, m->ranks[rank].src);
    set_brick(m, m->ranks[rank].dst);
    m->dirty = true;
    return moved;
}

/* Mean of what went through every `step`-th resource from the first on. */
static double moved_mean(const model *m, uint32_t first, uint32_t n, uint32_t step)
{
    double sum = 0;
    for (uint32_t i = 0; i < n; i++)
        sum += sm_share_moved(m->share, first + i * step);
    return sum / n;
}

void model_links_use(const model *m, sm_model_result *r)
{
    const sm_model_config *c = m->config;
    const double t = r->seconds * MODEL_MB, best = best_of_curve(c);
    const uint32_t server = server_out(m, 0), node = node_in(m, 0);
    double sum = 0, most = 0;
    for (uint32_t i = 0; i < c->bricks; i++) {
        const double here = sm_share_moved(m->share, i) / (best * m->brick_factor[i] * t);
        sum += here;
        most = fmax(most, here);
    }
    r->brick_use = sum / c->bricks;
    r->brick_use_most = most;
    r->server_out_use = moved_mean(m, server, c->servers, 2) / (c->server_mb_s * t);
    r->server_in_use = moved_mean(m, server + 1, c->servers, 2) / (c->server_mb_s * t);
    r->node_in_use = moved_mean(m, node, c->nodes, 3) / (c->node_mb_s * t);
    r->node_out_use = moved_mean(m, node + 1, c->nodes, 3) / (c->node_mb_s * t);
    if (c->mount_mb_s > 0)
        r->mount_use = moved_mean(m, node + 2, c->nodes, 3) / (c->mount_mb_s * t);
    r->cpu_use = r->read_bytes / (c->convert_mb_s * m->n_ranks * t);
}
