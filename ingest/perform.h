/* A job done in this process: what slidemill-worker is for. Everything about the slide that goes
 * wrong becomes part of the outcome; the files are opened beneath their roots. */
#ifndef SM_INGEST_PERFORM_H
#define SM_INGEST_PERFORM_H

#include "ingest/job.h"
#include "tiler/convert_opts.h"

/* Who is told how it goes; called from the caller's thread. */
typedef struct sm_perform_watch {
    void *arg;
    /** Stage as in sm_convert_hooks; bytes of all its files so far. */
    void (*at)(void *arg, const char *stage, uint64_t bytes, uint64_t px);
    /** The sources are read to their end; said once. */
    void (*read_done)(void *arg);
} sm_perform_watch;

/**
 * Do the job. outcome is filled, and freed by sm_outcome_clear.
 *  - CONVERT: the source's digest (and its parts') is compared with what is expected before
 *    anything is published. An existing output is replaced if job->replace, or if slidemill made
 *    it; else failed(exists).
 *  - HASH: digests of the slide and its parts against what is expected.
 *  - CHECK_OUTPUT: the output's digest; missing or another: failed(output).
 * options->hooks, force and quiet are not used; options->verify must not be SM_VERIFY_NONE.
 */
void sm_perform(const sm_job *job, const sm_convert_options *options, const sm_perform_watch *watch,
                sm_outcome *outcome);

/** Remove what a dead worker left beside the output of a CONVERT job. Best effort. */
void sm_perform_sweep(const sm_job *job);

#endif
