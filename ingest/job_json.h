/* JSON between our own processes and in journals: a writer that remembers its first failure, and a
 * reader driven by a table that trusts nothing. Used by job.c and journal*.c only. */
#ifndef SM_INGEST_JOB_JSON_H
#define SM_INGEST_JOB_JSON_H

#include <stdbool.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/digest.h"
#include "common/error.h"
#include "ingest/job.h"

struct cJSON;

/* Up to here a double holds every integer. */
#define SM_JSON_EXACT (UINT64_C(1) << 53)

/* ---- writing ---- */

/* After a failure the calls do nothing; st and err hold the first one. */
typedef struct sm_json_writer {
    sm_buf *out;
    sm_error *err;
    sm_status st;
} sm_json_writer;

/* Each adds `"key":value`, with a comma when something stands before it; key NULL: an array's
 * element. 64-bit numbers that a double cannot hold are written as strings. */
void sm_json_put_u64(sm_json_writer *w, const char *key, uint64_t value);
void sm_json_put_i64(sm_json_writer *w, const char *key, int64_t value);
void sm_json_put_real(sm_json_writer *w, const char *key, double value);
void sm_json_put_true(sm_json_writer *w, const char *key);
/** Cleaned to UTF-8 (common/text.h). */
void sm_json_put_text(sm_json_writer *w, const char *key, const char *text);
/** Percent-encoded: any bytes come back as they were. */
void sm_json_put_path(sm_json_writer *w, const char *key, const char *path);
/** "sha256:..." */
void sm_json_put_digest(sm_json_writer *w, const char *key, const sm_digest *digest);
/** bracket: '{' or '['; closed by sm_json_close with its partner. */
void sm_json_open(sm_json_writer *w, const char *key, char bracket);
void sm_json_close(sm_json_writer *w, char bracket);
/** The members of an outcome, into an open object. */
void sm_json_put_outcome(sm_json_writer *w, const sm_outcome *outcome);

/* ---- reading ---- */

typedef enum sm_json_type {
    SM_JSON_U32,    /* uint32_t */
    SM_JSON_U64,    /* uint64_t, at most INT64_MAX: SQLite has no more */
    SM_JSON_I64,    /* int64_t */
    SM_JSON_REAL,   /* double, finite and not negative */
    SM_JSON_BOOL,   /* bool */
    SM_JSON_WORD,   /* char[cap]: letters, digits and ._- that fit */
    SM_JSON_TEXT,   /* char[cap]: one cleaned line, cut where it does not fit */
    SM_JSON_PATH,   /* char *: percent-decoded, malloc'ed; what was there must be NULL */
    SM_JSON_DIGEST, /* sm_digest */
    SM_JSON_OBJECT, /* const struct cJSON * */
    SM_JSON_ARRAY,  /* const struct cJSON * */
} sm_json_type;

typedef struct sm_json_field {
    const char *name;
    sm_json_type type;
    bool required;
    void *into;
    size_t cap; /* WORD, TEXT */
} sm_json_field;

/** A whole object from len bytes; nothing may follow it. Released with sm_json_free.
 *  SM_ERR_FORMAT: no JSON, no object, a NUL in it, nested too deep. */
SM_NODISCARD sm_status sm_json_parse(const char *text, size_t len, struct cJSON **object,
                                     sm_error *err);
void sm_json_free(struct cJSON **object);

/** Fill at most 64 fields from an object's members. Members that no field names are passed over (a
 * newer slidemill may write more); a member that comes twice, or is of another type or out of
 * range, and a required one that is missing, are SM_ERR_FORMAT. */
SM_NODISCARD sm_status sm_json_read(const struct cJSON *object, const sm_json_field *fields,
                                    size_t n, sm_error *err);

/** "sha256:HEX" and the like; false if it is none. */
bool sm_json_digest(const char *text, sm_digest *digest);

/** As sm_outcome_from_json, from an object that is parsed. */
SM_NODISCARD sm_status sm_outcome_from_object(const struct cJSON *object, sm_outcome *outcome,
                                              sm_error *err);

/** False: no kind of that name. */
bool sm_json_attempt_kind(const char *name, sm_attempt_kind *kind);
/** 32 hexadecimal digits, lower case. */
bool sm_journal_is_uuid(const char *text);

#endif
