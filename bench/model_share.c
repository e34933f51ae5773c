/* Progressive filling: find the tightest resource, fix the flows it holds back, take them out, go
 * on. Flows with a limit below that level are fixed first. Work per solve: flows x their resources,
 * and resources x the number of those that are full. */
#include "bench/model_share.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

#include "common/buf.h"

/* Less than this is rounding, not data. */
#define SLACK_BYTES 1e-3

typedef struct flow {
    double bytes, left, rate, own;
    sm_share_use uses[SM_SHARE_USES];
    uint32_t places[SM_SHARE_USES]; /* in the resources' lists of members */
    uint32_t n_uses;
    uint32_t active_at; /* in the list of active flows */
    sm_limit own_kind;
    bool active, open; /* open: not fixed yet, in solve */
} flow;

typedef struct resource {
    double bytes_s, moved;
    double left;     /* in solve */
    uint64_t open_w; /* in solve: weight of open flows */
    uint64_t weight; /* of all members */
    uint32_t *members;
    uint32_t n;
    sm_limit kind;
} resource;

struct sm_share {
    resource *resources;
    flow *flows;
    uint32_t *active;
    uint32_t *members; /* all lists in one block */
    uint32_t n_resources, n_flows, n_active;
    uint32_t limits[SM_LIMITS];
};

sm_status sm_share_new(uint32_t n_resources, uint32_t n_flows, sm_share **share, sm_error *err)
{
    *share = NULL;
    sm_share *s = sm_calloc(1, sizeof *s);
    if (s == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "no memory to share bandwidth");
    /* a flow may name a resource twice */
    const size_t most = 2 * (size_t)n_flows;
    s->resources = sm_calloc(n_resources, sizeof *s->resources);
    s->flows = sm_calloc(n_flows, sizeof *s->flows);
    s->active = sm_calloc(n_flows, sizeof *s->active);
    s->members = sm_calloc(n_resources, most * sizeof *s->members);
    if (s->resources == NULL || s->flows == NULL || s->active == NULL || s->members == NULL) {
        sm_share_free(&s);
        return sm_fail(err, SM_ERR_NOMEM, "no memory to share %u resources by %u flows",
                       n_resources, n_flows);
    }
    s->n_resources = n_resources;
    s->n_flows = n_flows;
    for (uint32_t i = 0; i < n_resources; i++)
        s->resources[i].members = s->members + i * most;
    *share = s;
    return SM_OK;
}

void sm_share_free(sm_share **share)
{
    sm_share *s = *share;
    *share = NULL;
    if (s == NULL)
        return;
    free(s->resources);
    free(s->flows);
    free(s->active);
    free(s->members);
    free(s);
}

void sm_share_set(sm_share *s, uint32_t index, double bytes_s, sm_limit kind)
{
    s->resources[index].bytes_s = bytes_s;
    s->resources[index].kind = kind;
}

uint32_t sm_share_flows(const sm_share *s, uint32_t index)
{
    return s->resources[index].n;
}

uint32_t sm_share_flow(const sm_share *s, uint32_t index, uint32_t i)
{
    return s->resources[index].members[i] / SM_SHARE_USES;
}

double sm_share_moved(const sm_share *s, uint32_t index)
{
    return s->resources[index].moved;
}

void sm_share_add(sm_share *s, uint32_t index, double bytes, double own_bytes_s, sm_limit own_kind,
                  const sm_share_use *uses, uint32_t n_uses)
{
    flow *f = &s->flows[index];
    *f = (flow){.bytes = bytes,
                .left = bytes,
                .own = own_bytes_s,
                .own_kind = own_kind,
                .n_uses = n_uses,
                .active_at = s->n_active,
                .active = true};
    s->active[s->n_active++] = index;
    for (uint32_t i = 0; i < n_uses; i++) {
        resource *r = &s->resources[uses[i].resource];
        f->uses[i] = uses[i];
        f->places[i] = r->n;
        r->members[r->n++] = index * SM_SHARE_USES + i; /* the flow and which use of it */
        r->weight += uses[i].weight;
    }
}

double sm_share_remove(sm_share *s, uint32_t index)
{
    flow *f = &s->flows[index];
    if (!f->active)
        return 0;
    const double moved = f->left > SLACK_BYTES ? f->bytes - f->left : f->bytes;
    for (uint32_t i = 0; i < f->n_uses; i++) {
        resource *r = &s->resources[f->uses[i].resource];
        const uint32_t last = r->members[--r->n];
        r->members[f->places[i]] = last;
        s->flows[last / SM_SHARE_USES].places[last % SM_SHARE_USES] = f->places[i];
        r->weight -= f->uses[i].weight;
        r->moved += moved * f->uses[i].weight / SM_SHARE_UNIT;
    }
    const uint32_t moved_flow = s->active[--s->n_active];
    s->active[f->active_at] = moved_flow;
    s->flows[moved_flow].active_at = f->active_at;
    f->active = false;
    f->rate = 0;
    return moved;
}

/* ---- rates ---- */

static void fix(sm_share *s, flow *f, double rate, sm_limit kind)
{
    f->rate = rate;
    f->open = false;
    s->limits[kind]++;
    for (uint32_t i = 0; i < f->n_uses; i++) {
        resource *r = &s->resources[f->uses[i].resource];
        r->left -= rate * f->uses[i].weight / SM_SHARE_UNIT;
        r->open_w -= f->uses[i].weight;
    }
}

/* The level that the tightest resource allows its open flows; INFINITY: none has any. */
static double tightest(const sm_share *s, uint32_t *which)
{
    double level = (double)INFINITY;
    for (uint32_t i = 0; i < s->n_resources; i++) {
        const resource *r = &s->resources[i];
        if (r->open_w == 0)
            continue;
        const double here = r->left > 0 ? r->left * SM_SHARE_UNIT / (double)r->open_w : 0;
        if (here < level) {
            level = here;
            *which = i;
        }
    }
    return level;
}

/* Flows whose own limit is no higher than the level reach it before anything is full: taking them
 * out only raises the level of the others. */
static uint32_t fix_slow(sm_share *s, double level, double *least_own)
{
    uint32_t n = 0;
    double least = (double)INFINITY;
    for (uint32_t i = 0; i < s->n_active; i++) {
        flow *f = &s->flows[s->active[i]];
        if (!f->open)
            continue;
        if (f->own <= level) {
            fix(s, f, f->own, f->own_kind);
            n++;
        } else if (f->own < least) {
            least = f->own;
        }
    }
    *least_own = least;
    return n;
}

static uint32_t fix_members(sm_share *s, const resource *r, double level)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < r->n; i++) {
        flow *f = &s->flows[r->members[i] / SM_SHARE_USES];
        if (f->open) {
            fix(s, f, level, r->kind);
            n++;
        }
    }
    return n;
}

void sm_share_solve(sm_share *s)
{
    uint32_t open = s->n_active, which = 0;
    double least_own = 0;
    for (uint32_t i = 0; i < SM_LIMITS; i++)
        s->limits[i] = 0;
    for (uint32_t i = 0; i < s->n_resources; i++) {
        s->resources[i].left = s->resources[i].bytes_s;
        s->resources[i].open_w = s->resources[i].weight;
    }
    for (uint32_t i = 0; i < s->n_active; i++)
        s->flows[s->active[i]].open = true;
    while (open > 0) {
        const double level = tightest(s, &which);
        const uint32_t slow = least_own <= level ? fix_slow(s, level, &least_own) : 0;
        open -= slow > 0 ? slow : fix_members(s, &s->resources[which], level);
    }
}

double sm_share_rate(const sm_share *s, uint32_t index)
{
    return s->flows[index].rate;
}

const uint32_t *sm_share_limits(const sm_share *s)
{
    return s->limits;
}

/* ---- time ---- */

double sm_share_next(const sm_share *s)
{
    double next = (double)INFINITY;
    for (uint32_t i = 0; i < s->n_active; i++) {
        const flow *f = &s->flows[s->active[i]];
        if (f->left <= SLACK_BYTES)
            return 0;
        if (f->rate > 0 && f->left < next * f->rate)
            next = f->left / f->rate;
    }
    return next;
}

uint32_t sm_share_advance(sm_share *s, double seconds, uint32_t *ended)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->n_active; i++) {
        flow *f = &s->flows[s->active[i]];
        f->left -= f->rate * seconds;
        if (f->left <= SLACK_BYTES)
            ended[n++] = s->active[i];
    }
    return n;
}
