/* Which slide next: longest first, bricks kept evenly busy, at most so many readers a brick, a slow
 * one never without a reader. Knows neither MPI nor clocks: time is given to it, so tests and the
 * scale model drive it. */
#ifndef SM_INGEST_SCHEDULE_H
#define SM_INGEST_SCHEDULE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"

typedef struct sm_schedule sm_schedule;

typedef struct sm_schedule_item {
    uint64_t bytes; /* what its cost is measured by */
    uint32_t brick; /* 0..n_bricks-1 */
} sm_schedule_item;

typedef struct sm_schedule_config {
    uint32_t n_bricks;
    uint32_t streams_per_brick; /* readers at once on a brick; 0: no limit */
    uint64_t retry_first_ns;    /* back-off of a storage error: first wait, doubled each time ... */
    uint64_t retry_most_ns;     /* ... up to this */
    uint64_t retry_for_ns;      /* given up when the first failure is longer ago */
    bool last_unlimited;        /* the last brick stands for "unknown": no limit holds there */
    bool brick_blind;           /* for comparison: longest first and nothing else */
} sm_schedule_config;

typedef enum sm_schedule_answer {
    SM_SCHEDULE_GIVE, /* *item is the caller's now */
    SM_SCHEDULE_WAIT, /* nothing now; ask again when something ends or at *until_ns (UINT64_MAX:
                         only when something ends) */
    SM_SCHEDULE_END,  /* nothing is left and nothing is out */
} sm_schedule_answer;

/** items are copied. */
SM_NODISCARD sm_status sm_schedule_new(const sm_schedule_config *config,
                                       const sm_schedule_item *items, uint32_t n,
                                       sm_schedule **schedule, sm_error *err);

/** Cost O(bricks + log n). While some items are out the answer is WAIT, not END: they may come
 * back. */
sm_schedule_answer sm_schedule_next(sm_schedule *s, uint64_t now_ns, uint32_t *item,
                                    uint64_t *until_ns);

/** The item is no longer read (it is in fsync, verify, ...): its stream on the brick is free. How
 *  long it took shows which bricks are slow. */
void sm_schedule_read_done(sm_schedule *s, uint32_t item, uint64_t now_ns);
/** It is over, for good. */
void sm_schedule_done(sm_schedule *s, uint32_t item);
/** A storage error. From the second in a row on, the item's brick is asked for one slide at a time,
 *  after a pause that doubles too, until it gives one (read_done, done); once it gave none for
 * retry_for_ns its slides are not waited for any more. True: it will be given again after a
 * back-off; false: its time is used up, it is over (the caller records the failure).
 */
bool sm_schedule_retry(sm_schedule *s, uint32_t item, uint64_t now_ns);
/** Its rank handed it back, nothing is wrong with it: it can be given again at once. */
void sm_schedule_return(sm_schedule *s, uint32_t item);
/** No new slides: from now on every next is END (nothing out) or WAIT. */
void sm_schedule_stop(sm_schedule *s);

uint32_t sm_schedule_waiting(const sm_schedule *s); /* items not given */
uint32_t sm_schedule_out(const sm_schedule *s);     /* items given and not over */
/** Items of a brick that are out and still read. */
uint32_t sm_schedule_streams(const sm_schedule *s, uint32_t brick);
void sm_schedule_free(sm_schedule **schedule);

/* ---- shards (slidemill plan) ---- */

/**
 * Cut n items into n_shards of nearly equal bytes, each with a mix of all bricks: longest first,
 * each into the shard with the fewest bytes (ties: fewest of that brick). shard[i] for item i.
 * O(n log n). 1,000,000 items and 1,000 shards within 3 s.
 */
SM_NODISCARD sm_status sm_schedule_shards(const sm_schedule_item *items, uint32_t n,
                                          uint32_t n_shards, uint32_t *shard, sm_error *err);

#endif
