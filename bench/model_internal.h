/* What the files of the scale model share. Not for others; theirs is bench/model.h. */
#ifndef SM_BENCH_MODEL_INTERNAL_H
#define SM_BENCH_MODEL_INTERNAL_H

#include "bench/model.h"

#define MODEL_MB 1e6
#define MODEL_NONE UINT32_MAX

typedef enum model_event_kind {
    MODEL_SETTLED,   /* of a rank: fsync and the like are over */
    MODEL_GOT_ERROR, /* of a rank */
    MODEL_WAKE,      /* of a task: a back-off may be over */
    MODEL_BEGIN,     /* of a task */
    MODEL_REQUEUE,   /* of a shard */
    MODEL_RANK_DIES, /* index NONE: drawn at random, and so is the next */
    MODEL_NODE_DIES, /* epoch 1: drawn at random, and so is the next */
    MODEL_NODE_UP,
    MODEL_BRICK_GOES, /* epoch as above */
    MODEL_BRICK_UP,
} model_event_kind;

typedef struct model_event {
    double at;
    uint64_t seq; /* equal times: in the order they were made */
    model_event_kind kind;
    uint32_t index, epoch; /* epoch: of the rank or task when it was made; if it has moved on since,
                              the event is void */
} model_event;

typedef enum model_phase {
    PHASE_NONE,
    PHASE_CONVERT, /* a flow: read, convert, write, all at once */
    PHASE_SETTLE,  /* a timer */
    PHASE_CHECK,   /* a flow: the pyramid is read back */
    PHASE_ERROR,   /* a timer */
} model_phase;

typedef struct model_rank {
    sm_model_rank_state state;
    model_phase phase;
    uint32_t task, node, epoch;
    uint32_t item, slide, src, dst; /* item: in its shard; src, dst: bricks */
    double began_s;
} model_rank;

typedef struct model_task {
    uint32_t first, n; /* its ranks */
    uint32_t shard;    /* MODEL_NONE: none */
    uint32_t nodes_down, epoch, n_idle;
    uint32_t *idle; /* ranks, a stack */
    double wake_s;  /* a MODEL_WAKE is due then */
    bool running;
} model_task;

typedef struct model_shard {
    sm_schedule *schedule; /* made when it first begins */
    uint32_t first, n;     /* its slides in model.order */
} model_shard;

typedef struct model {
    const sm_model_config *config;
    const sm_schedule_item *slides;
    uint32_t n_slides, n_ranks, n_tasks;
    sm_share *share;
    model_rank *ranks;
    model_task *tasks;
    uint32_t *idle_slots;               /* the tasks' stacks */
    uint32_t *bricks_down, *nodes_down; /* how many outages hold at once */
    double *brick_factor;
    model_event *events;
    uint32_t n_events, cap_events;
    uint64_t seq, n_node_draws, n_rank_draws, n_brick_draws;
    /* of the present pass */
    uint32_t *order; /* slides, shard by shard */
    model_shard *shards;
    uint32_t n_shards, next_shard, n_open;
    uint32_t *requeued; /* shards; a queue that never wraps: it is emptied when read to its end */
    uint32_t n_requeued, requeued_at, cap_requeued;
    uint32_t *failed;
    uint32_t n_failed;
    uint32_t *ended; /* for sm_share_advance */
    uint32_t in_state[SM_MODEL_RANK_STATES];
    double now;
    bool dirty; /* flows have changed since the last solve */
    sm_model_result *result;
} model;

/* model.c */
SM_NODISCARD sm_status model_push(model *m, double at, model_event_kind kind, uint32_t index,
                                  uint32_t epoch, sm_error *err);

/* model_work.c */
/** Deal slides (n_slides numbers, or all if NULL) into shards and let the tasks begin. */
SM_NODISCARD sm_status model_begin_pass(model *m, const uint32_t *slides, uint32_t n,
                                        sm_error *err);
/** Begin another pass with what failed, if nothing else is left and all bricks are back. */
SM_NODISCARD sm_status model_next_pass(model *m, sm_error *err);
/** Give tasks without a shard one, if they can run. */
SM_NODISCARD sm_status model_seek_all(model *m, sm_error *err);
SM_NODISCARD sm_status model_task_begins(model *m, uint32_t task, uint32_t epoch, sm_error *err);
SM_NODISCARD sm_status model_feed(model *m, model_task *t, sm_error *err);
SM_NODISCARD sm_status model_requeue(model *m, uint32_t shard, sm_error *err);
SM_NODISCARD sm_status model_flow_ended(model *m, uint32_t rank, sm_error *err);
SM_NODISCARD sm_status model_settled(model *m, uint32_t rank, uint32_t epoch, sm_error *err);
SM_NODISCARD sm_status model_got_error(model *m, uint32_t rank, uint32_t epoch, sm_error *err);
/** What the rank has done for its slide is thrown away; the slide stays out. */
void model_throw_away(model *m, uint32_t rank);
/** Its slide meets a brick that is gone: an error, some seconds from now. */
SM_NODISCARD sm_status model_meet_error(model *m, uint32_t rank, double seconds, sm_error *err);
/** Its slides go back, its shard is requeued. */
SM_NODISCARD sm_status model_kill_task(model *m, uint32_t task, sm_error *err);
void model_free_pass(model *m);

/* model_faults.c */
SM_NODISCARD sm_status model_faults_begin(model *m, sm_error *err);
SM_NODISCARD sm_status model_fault(model *m, const model_event *event, sm_error *err);

/* model_links.c: what a slide flows through */
SM_NODISCARD sm_status model_links_new(model *m, sm_error *err);
void model_links_begin(model *m, uint32_t rank); /* for its phase */
/** Bytes that its flow has moved. */
double model_links_end(model *m, uint32_t rank);
void model_links_use(const model *m, sm_model_result *r);

#endif
