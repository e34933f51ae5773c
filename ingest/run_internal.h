/* Between the parts of a run: what ranks tell each other, and rank 0's books. Not for others. */
#ifndef SM_INGEST_RUN_INTERNAL_H
#define SM_INGEST_RUN_INTERNAL_H

#include "common/lock.h"
#include "ingest/brick_table.h"
#include "ingest/journal.h"
#include "ingest/out_mark.h"
#include "ingest/rank.h"
#include "ingest/run.h"
#include "ingest/run_log.h"
#include "ingest/schedule.h"

#define SM_SECOND_NS UINT64_C(1000000000)

typedef enum sm_run_message_kind {
    /* to rank 0 */
    SM_RUN_READY,     /* a worker's place is free */
    SM_RUN_READ_DONE, /* index: its source is read */
    SM_RUN_RESULT,    /* index, outcome, sums: it is recorded (RETRY: it is not; see VERDICT) */
    SM_RUN_STATS,     /* bytes_in, pixels: of the slides at work */
    SM_RUN_SIGNAL,    /* this rank was asked to stop */
    SM_RUN_TROUBLE,   /* this rank cannot go on: stop everything */
    /* from rank 0 */
    SM_RUN_ASSIGN,  /* index, slide, tries, full_name */
    SM_RUN_VERDICT, /* index, outcome: record the storage error as RETRY or as FAILED */
    SM_RUN_STOP,    /* no new slides; ns: grace for those at work */
    SM_RUN_END,     /* all is over; result */
} sm_run_message_kind;

typedef struct sm_run_message {
    sm_run_message_kind kind;
    uint32_t index, tries;
    bool full_name;
    sm_outcome_kind outcome;
    int64_t slide;
    uint64_t bytes_in, bytes_out, pixels, ns;
    sm_run_result result;
} sm_run_message;

/* ---- what there is to do (run_list.c) ---- */

typedef struct sm_run_entry {
    int64_t slide; /* its id */
    uint64_t since_generation;
    bool full_name; /* of its output (ingest/out_path.h) */
} sm_run_entry;

typedef struct sm_run_list {
    sm_run_entry *entries; /* in order of id */
    sm_schedule_item *items;
    uint32_t n, cap;
    uint64_t bytes; /* of all items, as people count them */
    sm_brick_table bricks;
    uint64_t n_before, n_failed_before;
} sm_run_list;

/* Added to each slide's bytes when costs are compared: opening, publishing. */
#define SM_RUN_OVERHEAD_BYTES (UINT64_C(4) << 20)

/** The slides of the run out of the catalog, in order of id. */
SM_NODISCARD sm_status sm_run_list_load(sm_catalog *catalog, const sm_run_config *config,
                                        sm_run_list *list, sm_error *err);
/** Takes out what journals that are not merged yet say is over. SM_ERR_BUSY: somebody still writes
 *  one of them. SM_ERR_ARG: one is of another target than `head`'s. */
SM_NODISCARD sm_status sm_run_list_resume(const sm_run_config *config, const sm_journal_head *head,
                                          const sm_run_log *log, sm_run_list *list, sm_error *err);
/** SM_ERR_ARG unless folder and options are those of `head`; where: what has the others. */
SM_NODISCARD sm_status sm_run_check_target(const char *where, const char *dir, const char *options,
                                           const sm_journal_head *head, sm_error *err);
void sm_run_list_clear(sm_run_list *list);

/* ---- rank 0 (run_master.c) ---- */

typedef struct sm_master sm_master;

/** Lock, open, check, list. head: what all ranks' journals have in common is filled. */
SM_NODISCARD sm_status sm_master_open(const sm_run_config *config, sm_ranks *ranks,
                                      const sm_run_log *log, sm_journal_head *head,
                                      sm_master **master, sm_error *err);
uint32_t sm_master_n(const sm_master *master);
/** The sums so far. */
const sm_run_result *sm_master_result(const sm_master *master);
/** Mark of the folder of the outputs (ingest/out_mark.h); "": none is looked for. */
const char *sm_master_mark(const sm_master *master);
sm_lock *sm_master_lock(sm_master *master);
SM_NODISCARD sm_status sm_master_handle(sm_master *master, uint32_t from,
                                        const sm_run_message *message, sm_error *err);
/** Give what can be given, tell progress; *ended once END was sent. */
SM_NODISCARD sm_status sm_master_tick(sm_master *master, uint64_t now_ns, bool *ended,
                                      sm_error *err);
/** No new slides from now on. Harmless when told again. */
SM_NODISCARD sm_status sm_master_stop(sm_master *master, sm_error *err);
void sm_master_close(sm_master **master);

#endif
