/* The scale model: how long a corpus takes on a cluster, by discrete events. The scheduler and the
 * shards are the real ones (ingest/schedule.h); bricks, links, ranks and failures are simulated.
 * docs/scale.md says what is assumed. A MB is 10^6 bytes. */
#ifndef SM_BENCH_MODEL_H
#define SM_BENCH_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#include "bench/model_share.h"
#include "common/error.h"
#include "ingest/schedule.h"

#define SM_MODEL_POINTS 16 /* of a brick's curve */
#define SM_MODEL_SLOW 64   /* slow bricks */
#define SM_MODEL_BINS 256  /* of throughput over time */
#define SM_MODEL_FAULTS 64 /* failures at given times */

typedef struct sm_model_point {
    uint32_t streams;
    double mb_s; /* of the brick, with so many streams */
} sm_model_point;

typedef enum sm_model_fault_kind {
    SM_MODEL_RANK_DIES, /* and with it its MPI job: the array task */
    SM_MODEL_NODE_DIES, /* and every task that has a rank on it */
    SM_MODEL_BRICK_GOES
} sm_model_fault_kind;

/* A failure at a given time, beside those drawn at random. */
typedef struct sm_model_fault {
    sm_model_fault_kind kind;
    uint32_t index;
    double at_s;
} sm_model_fault;

typedef struct sm_model_config {
    uint32_t nodes, ranks_per_node, servers, bricks; /* brick b is of server b % servers */
    uint32_t tasks;  /* array tasks at once; rank r is of task r * tasks / ranks */
    uint32_t shards; /* at least 1 */
    uint32_t streams_per_brick;
    bool brick_blind;
    double convert_mb_s;                 /* CPU of a rank: MB of slide a second */
    double stream_mb_s;                  /* one stream, read, write or check; 0: no limit */
    double brick_mb_s, brick_write_mb_s; /* a brick, all streams; written bytes cost the quotient */
    sm_model_point curve[SM_MODEL_POINTS]; /* by rising streams; replaces brick_mb_s */
    uint32_t n_curve;                      /* 0: brick_mb_s at any number */
    struct {
        uint32_t brick;
        double factor;
    } slow[SM_MODEL_SLOW];
    uint32_t n_slow;
    double node_mb_s, server_mb_s; /* links, payload, each direction */
    double mount_mb_s;             /* a node's Gluster client, both directions; 0: no limit */
    double out_ratio;              /* bytes of the pyramid for a byte of slide */
    double overhead_s;             /* of a slide: open, fsync, rename, journal */
    double task_start_s;           /* from a free place to the first slide */
    double restart_s;              /* until a killed task is back in the queue */
    double retry_for_s;            /* as ingest's --retry-for */
    double ping_timeout_s;         /* until a lost brick is an error for those who use it */
    double node_mtbf_s, rank_mtbf_s, brick_mtbf_s; /* of one of them; 0: never */
    double node_repair_s, brick_outage_s;
    sm_model_fault faults[SM_MODEL_FAULTS];
    uint32_t n_faults;
    uint64_t seed;
} sm_model_config;

/* What a rank does. */
typedef enum sm_model_rank_state {
    SM_MODEL_WORK,  /* on a slide */
    SM_MODEL_ERROR, /* on a slide whose brick is gone */
    SM_MODEL_WAIT,  /* its task has nothing for it now: stream limits, back-off, end of shard */
    SM_MODEL_START, /* its task starts */
    SM_MODEL_EMPTY, /* no shard is left for its task */
    SM_MODEL_DOWN,  /* a node of its task is down */
    SM_MODEL_RANK_STATES
} sm_model_rank_state;

typedef struct sm_model_result {
    double seconds;                      /* until the last slide is verified */
    double limit_s[SM_LIMITS];           /* flow-seconds each limit held back */
    double rank_s[SM_MODEL_RANK_STATES]; /* rank-seconds */
    double cpu_use, brick_use, brick_use_most, server_out_use, server_in_use, node_in_use,
        node_out_use, mount_use; /* shares of what there is, 0..1; mount 0 if unlimited */
    double read_bytes, written_bytes, checked_bytes;
    double lost_bytes;     /* of slides: read and thrown away */
    double lost_rank_s;    /* spent on attempts that were thrown away */
    uint32_t done, passes; /* passes: 1, and 1 for each `catalog retry` that was needed */
    uint32_t given_up;     /* slides whose --retry-for was used up, each time counted */
    uint32_t errors;       /* attempts that ended with a storage error */
    uint32_t rank_failures, node_failures, brick_failures, tasks_killed;
    uint64_t events;
    double bin_s; /* bins[i]: bytes of slides finished from i * bin_s on */
    uint32_t n_bins;
    double bins[SM_MODEL_BINS];
} sm_model_result;

/** Simulate. Same arguments: same result, bit for bit. SM_ERR_ARG: the config makes no sense, or
 *  would not finish; SM_ERR_INTERRUPTED after a signal (common/stop.h). */
SM_NODISCARD sm_status sm_model_run(const sm_model_config *config, const sm_schedule_item *slides,
                                    uint32_t n, sm_model_result *result, sm_error *err);

/** Sizes drawn log-normal (sigma 0.7) between a quarter and five times their mean, of exactly so
 *  many bytes in all; bricks at random, as Gluster's hash deals them. */
SM_NODISCARD sm_status sm_model_draw(uint32_t n, uint64_t bytes, uint32_t bricks, uint64_t seed,
                                     sm_schedule_item *slides, sm_error *err);

/** "cpu", "stream", "brick", "server link", "node link", "mount". */
const char *sm_limit_name(sm_limit limit);

/** Uniform 64 bits of (seed, stream, n). */
uint64_t sm_model_random(uint64_t seed, uint64_t stream, uint64_t n);
/** Of the same, uniform in (0, 1). */
double sm_model_uniform(uint64_t seed, uint64_t stream, uint64_t n);

#endif
