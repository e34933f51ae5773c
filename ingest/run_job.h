/* From a slide's rows in the catalog to the job of a worker. */
#ifndef SM_INGEST_RUN_JOB_H
#define SM_INGEST_RUN_JOB_H

#include "common/catalog.h"
#include "ingest/job.h"

typedef struct sm_run_job_config {
    sm_attempt_kind kind;
    const char *out, *suffix; /* CONVERT; CHECK_OUTPUT: out or NULL, the recorded folder */
    const char *mark;         /* as in sm_job; "": none */
    bool full_name;           /* CONVERT: as sm_out_names_full says */
} sm_run_job_config;

/** Fill `job` for slide `id`; *attempts: how often it was begun before, as the catalog knows.
 *  SM_ERR_CORRUPT: no such slide, or a row makes no sense. Free with sm_job_clear in any case. */
SM_NODISCARD sm_status sm_run_job(sm_catalog *catalog, const sm_run_job_config *config, int64_t id,
                                  sm_job *job, uint32_t *attempts, sm_error *err);

#endif
