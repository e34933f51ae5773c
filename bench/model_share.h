/* Bandwidth shared as a fluid: flows through resources, max-min fair. A flow takes from each of its
 * resources so many bytes for each byte of its own; all flows rise together until a resource is
 * full or a flow has its own limit. Part of the scale model. */
#ifndef SM_BENCH_MODEL_SHARE_H
#define SM_BENCH_MODEL_SHARE_H

#include <stdint.h>

#include "common/error.h"

/* What holds a flow back. */
typedef enum sm_limit {
    SM_LIMIT_CPU,    /* the rank's own conversion */
    SM_LIMIT_STREAM, /* what one stream of a mount gives */
    SM_LIMIT_BRICK,
    SM_LIMIT_SERVER, /* a server's link, either direction */
    SM_LIMIT_NODE,   /* a compute node's link, either direction */
    SM_LIMIT_MOUNT,  /* a compute node's Gluster client */
    SM_LIMITS
} sm_limit;

#define SM_SHARE_UNIT 65536 /* weight of a byte for a byte */
#define SM_SHARE_USES 7     /* resources of a flow */

typedef struct sm_share_use {
    uint32_t resource;
    uint32_t weight; /* in SM_SHARE_UNIT; integers, so that sums are exact for ever */
} sm_share_use;

typedef struct sm_share sm_share;

/** Resources have no capacity until it is set. At most n_flows flows, numbered by the caller. */
SM_NODISCARD sm_status sm_share_new(uint32_t n_resources, uint32_t n_flows, sm_share **share,
                                    sm_error *err);
void sm_share_free(sm_share **share);

/** Bytes a second. May be set at any time; holds from the next solve on. */
void sm_share_set(sm_share *s, uint32_t resource, double bytes_s, sm_limit kind);
/** Flows through a resource. */
uint32_t sm_share_flows(const sm_share *s, uint32_t resource);
/** The i-th of them. */
uint32_t sm_share_flow(const sm_share *s, uint32_t resource, uint32_t i);
/** Bytes, weighted, that went through it so far by flows that were removed. */
double sm_share_moved(const sm_share *s, uint32_t resource);

/** Begin flow number `flow` of so many bytes with a limit of its own; it must not be there. A
 *  resource may be named twice. */
void sm_share_add(sm_share *s, uint32_t flow, double bytes, double own_bytes_s, sm_limit own_kind,
                  const sm_share_use *uses, uint32_t n_uses);
/** End it; returns the bytes it has moved. 0 if it was not there. */
double sm_share_remove(sm_share *s, uint32_t flow);

/** Rates of all flows. */
void sm_share_solve(sm_share *s);
double sm_share_rate(const sm_share *s, uint32_t flow);
/** How many flows each limit holds back, as of the last solve. */
const uint32_t *sm_share_limits(const sm_share *s);
/** Seconds until the first flow ends; INFINITY if none will. */
double sm_share_next(const sm_share *s);
/** Let time pass; flows that have moved all their bytes are listed in ended (room for n_flows), and
 *  stay until removed. Returns their number. */
uint32_t sm_share_advance(sm_share *s, double seconds, uint32_t *ended);

#endif
