/* Journals into the catalog, any number of times, with the same result. */
#ifndef SM_INGEST_MERGE_H
#define SM_INGEST_MERGE_H

#include "common/catalog.h"

typedef struct sm_merge_result {
    uint64_t n_journals, n_live, n_events, n_new_events, n_lost;
    uint64_t n_torn, torn_bytes, n_bad_lines, n_foreign; /* foreign: of another catalog */
    bool changed; /* false: nothing new, no generation was published */
    uint64_t generation;
} sm_merge_result;

/* A line for people about a journal (torn tail, bad line, foreign); may be NULL. */
typedef void (*sm_merge_say)(void *arg, const char *line);

/**
 * Fold all journals that are not merged (and `extra`, files from elsewhere, copied into the
 * catalog's journal/merged folder once they are folded in) into a change of the catalog, publish
 * it, then retire the finished journals. Killed anywhere: run it again. A begun slide without an
 * end in a journal whose writer is gone: an attempt "lost"; in a live one: leased. Lines that are
 * bad are said and counted, never folded; the journal is then kept. So is one that was not closed,
 * for a day (a brick's restart can drop the lock of a writer that lives): it is read again each
 * time. Of two events with one id the first counts. A conversion into another folder or with other
 * options than the catalog's target is foreign too.
 */
SM_NODISCARD sm_status sm_merge(const char *catalog_path, const sm_generation_config *config,
                                const char *const *extra, size_t n_extra, sm_merge_say say,
                                void *arg, sm_merge_result *result, sm_error *err);

/** Fold journals into an open change; the caller commits (needless if nothing changed) and then
 * calls sm_merge_retire, or sm_merge_state_free if the commit failed. result->generation is that of
 * the change. A failed retire leaves journals where they are, for the next merge; it says so. */
typedef struct sm_merge_state sm_merge_state;
SM_NODISCARD sm_status sm_merge_fold(sm_catalog *catalog, const char *const *extra, size_t n_extra,
                                     sm_merge_say say, void *arg, sm_merge_result *result,
                                     sm_merge_state **state, sm_error *err);
SM_NODISCARD sm_status sm_merge_retire(sm_merge_state **state, sm_error *err);
void sm_merge_state_free(sm_merge_state **state);

#endif
