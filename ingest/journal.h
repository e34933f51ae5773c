/* The journal of one rank: JSON lines under CATALOG.d/journal/, each with its own checksum, fsynced
 * before anything is counted as done. Ranks write only these; `catalog merge` folds them in.
 * Format: docs/catalog.md "Journals".
 *
 *   corpus.smc.d/journal/p0003-s0007/<run>-r0001-00.jsonl     plan 3, shard 7
 *   corpus.smc.d/journal/all/<run>-r0001-00.jsonl             no shard
 *   corpus.smc.d/journal/merged/...                            folded in and finished
 */
#ifndef SM_INGEST_JOURNAL_H
#define SM_INGEST_JOURNAL_H

#include <stdbool.h>
#include <stdint.h>

#include "common/catalog.h"
#include "common/error.h"
#include "common/source.h"
#include "ingest/job.h"

#define SM_JOURNAL_LINE_MAX 262144

typedef struct sm_journal sm_journal;

typedef struct sm_journal_head {
    char catalog[SM_UUID_CAP]; /* the catalog's uuid */
    char run[SM_UUID_CAP];
    uint32_t rank, plan, shard; /* shard SM_NO_SHARD: none */
    uint64_t generation;        /* of the catalog that was read */
    sm_attempt_kind kind;
    char host[128], command[512], version[32];
    char target_dir[4096], target_options[1024]; /* "" unless CONVERT */
    int64_t began_ns;
} sm_journal_head;

/* ---- writing ---- */

/** Make the journal's folder and file (O_EXCL, locked while it is open), write and fsync the head.
 *  SM_ERR_ARG: catalog or run are not 32 hexadecimal digits. */
SM_NODISCARD sm_status sm_journal_create(const char *catalog_path, const sm_journal_head *head,
                                         sm_journal **journal, sm_error *err);
/** A slide is begun (a lease). Written, not fsynced; a failure is as that of sm_journal_end. path
 * is for people. */
SM_NODISCARD sm_status sm_journal_begin(sm_journal *journal, int64_t slide, const char *path,
                                        uint32_t attempt, sm_error *err);
/** How it ended; SM_OK only once it is fsynced. After a failed write, fsync or close the file is
 *  given up and all lines of this journal are written anew into the next file (-01, -02, ...),
 * since a later fsync of the old one may lie; then SM_ERR_IO if that fails too (call again later:
 * the event is kept and is part of what the next success makes durable). SM_ERR_LIMIT: the event is
 *  longer than SM_JOURNAL_LINE_MAX (thousands of parts); it is not kept. */
SM_NODISCARD sm_status sm_journal_end(sm_journal *journal, const sm_outcome *outcome,
                                      sm_error *err);
/** Retry what an earlier failure left. SM_OK when everything told is durable. */
SM_NODISCARD sm_status sm_journal_flush(sm_journal *journal, sm_error *err);
/** The closing line, fsync, close. On failure the journal is freed all the same. */
SM_NODISCARD sm_status sm_journal_finish(sm_journal **journal, sm_error *err);
/** Close without a closing line (as a crash would). */
void sm_journal_abandon(sm_journal **journal);
/** The file that is written at present. */
const char *sm_journal_path(const sm_journal *journal);
/** For tests: of the writes and fsyncs of journals from now on, number n (from 1) and the n_more
 *  after it fail with EIO; 0: none. Also set by the environment, SLIDEMILL_TEST_JOURNAL_FAIL=N or
 *  N+MORE, when the first journal is made. */
void sm_journal_fail_at(unsigned n, unsigned n_more);

/* ---- reading ---- */

typedef enum sm_journal_event_kind {
    SM_JOURNAL_HEAD,
    SM_JOURNAL_BEGIN,
    SM_JOURNAL_END,
    SM_JOURNAL_FINISH,
} sm_journal_event_kind;

typedef struct sm_journal_event {
    sm_journal_event_kind kind;
    char id[96]; /* RUN.RANK.SEQ */
    int64_t time_ns;
    uint64_t line;
    uint64_t seq;         /* the id's last part: begins at 0, grows */
    uint64_t seal;        /* of its line's checksum: two events of one id must agree in it */
    sm_journal_head head; /* HEAD */
    int64_t slide;        /* BEGIN, END */
    uint32_t attempt;     /* BEGIN */
    sm_outcome outcome;   /* END; owned by the event */
} sm_journal_event;

typedef struct sm_journal_reader sm_journal_reader;

/** Read a journal from a source (borrowed). Hostile bytes are expected. Takes a line and a chunk of
 *  memory, however long the file's lines are. */
SM_NODISCARD sm_status sm_journal_open(const sm_source *source, sm_journal_reader **reader,
                                       sm_error *err);
/**
 * The next event; fills what `event` held before is cleared. *more false at the end.
 * A last line without newline or with a wrong checksum is a torn tail: dropped, sm_journal_torn
 * says how many bytes. A wrong line before the last: SM_ERR_CORRUPT "NAME: line 7: ...", and the
 * caller may go on with the next line. First event must be a HEAD, else SM_ERR_FORMAT, now and ever
 * after. Zero the event before its first use; all ids of a journal have the run and rank of its
 * head.
 */
SM_NODISCARD sm_status sm_journal_next(sm_journal_reader *reader, sm_journal_event *event,
                                       bool *more, sm_error *err);
uint64_t sm_journal_torn(const sm_journal_reader *reader);
void sm_journal_event_clear(sm_journal_event *event);
void sm_journal_close(sm_journal_reader **reader);

/* ---- the folder ---- */

typedef struct sm_journal_file {
    char *path;
    bool live;   /* its writer holds it open (lock); true also if that cannot be told */
    bool merged; /* in journal/merged */
} sm_journal_file;

/** Journals of a catalog, sorted by path. plan and shard: only those of that shard and of "all";
 *  SM_NO_SHARD: every journal that is not merged. */
SM_NODISCARD sm_status sm_journal_list(const char *catalog_path, uint32_t plan, uint32_t shard,
                                       sm_journal_file **files, size_t *n, sm_error *err);
void sm_journal_files_free(sm_journal_file **files, size_t n);
/** Move a finished journal to journal/merged/. */
SM_NODISCARD sm_status sm_journal_retire(const char *catalog_path, const char *path, sm_error *err);
/** Copy a journal from elsewhere to journal/merged/ (made if CATALOG.d is there), named by run,
 * rank and its bytes; nothing happens if it is there, or `path` lies in the catalog's journal
 * folder. */
SM_NODISCARD sm_status sm_journal_adopt(const char *catalog_path, const char *path, const char *run,
                                        uint32_t rank, sm_error *err);

#endif
