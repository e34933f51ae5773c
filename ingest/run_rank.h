/* One rank of a run: its workers, their slides, and what it tells rank 0. */
#ifndef SM_INGEST_RUN_RANK_H
#define SM_INGEST_RUN_RANK_H

#include "ingest/run_clerk.h"
#include "ingest/run_internal.h"
#include "ingest/worker.h"

#define SM_RUN_ASIDE 4 /* workers that cannot be killed and no longer hold a place */

typedef enum sm_place_state {
    SM_PLACE_FREE,
    SM_PLACE_ASKED,     /* rank 0 was asked for a slide */
    SM_PLACE_PREPARING, /* the clerk makes its job */
    SM_PLACE_RUNNING,   /* a worker has it */
} sm_place_state;

/* Where one worker at a time works. */
typedef struct sm_place {
    sm_place_state state;
    uint32_t index, tries;
    sm_worker *worker;
    bool stopped, killed, stuck_told;
} sm_place;

/* A slide that met a storage error, until rank 0 has decided. */
typedef struct sm_verdict {
    struct sm_verdict *next;
    sm_clerk_task *record;
} sm_verdict;

typedef struct sm_run_rank {
    const sm_run_config *config;
    const sm_run_log *log;
    sm_ranks *ranks;
    sm_clerk *clerk;
    sm_master *master; /* rank 0's; else NULL */
    sm_worker_config worker;
    sm_place *places; /* config->workers of them, then SM_RUN_ASIDE */
    uint32_t n_places;
    sm_verdict *verdicts;
    bool signalled;    /* rank 0 was told of our signal */
    bool stopping;     /* no new slides */
    uint64_t grace_ns; /* when stopping: the workers' last moment */
    bool ended;
    bool moved; /* something happened in this turn of the loop */
    uint64_t stats_ns, look_ns;
    sm_run_result result;
    sm_error trouble; /* why this rank cannot go on */
} sm_run_rank;

SM_NODISCARD sm_status sm_rank_open(sm_run_rank *rank, sm_error *err);
/** Handle one message of rank 0. */
SM_NODISCARD sm_status sm_rank_handle(sm_run_rank *rank, const sm_run_message *message,
                                      sm_error *err);
/** One turn: places, workers, what the clerk has done. Never blocks. */
SM_NODISCARD sm_status sm_rank_turn(sm_run_rank *rank, uint64_t now_ns, sm_error *err);
/** Tell rank 0, or oneself. */
SM_NODISCARD sm_status sm_rank_tell(sm_run_rank *rank, const sm_run_message *message,
                                    sm_error *err);
/** Kills what still runs. */
void sm_rank_close(sm_run_rank *rank);

#endif
