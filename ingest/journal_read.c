/* Reading journals, and the JSON in them, when nothing about their bytes can be trusted.
 * Owns a line and a chunk of the file, both of bounded size. */
#include "ingest/journal.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "common/path.h"
#include "common/text.h"
#include "ingest/job_json.h"

enum {
    CHUNK_BYTES = 256 * 1024,
    SEAL_BYTES = 40, /* ,"x":"<32 digits>"} */
};

/* ---- JSON ---- */

/* "\u0000" would end a C string early: what was checked and what was meant would differ. */
static bool has_nul(const char *text, size_t len)
{
    if (memchr(text, '\0', len) != NULL)
        return true;
    const char *end = text + len;
    for (const char *p = text; (p = memchr(p, '\\', (size_t)(end - p))) != NULL; p += 2) {
        if (end - p < 2)
            return false;
        if (end - p >= 6 && memcmp(p, "\\u0000", 6) == 0)
            return true;
    }
    return false;
}

sm_status sm_json_parse(const char *text, size_t len, struct cJSON **object, sm_error *err)
{
    const char *end = NULL;
    *object = NULL;
    if (has_nul(text, len))
        return sm_fail(err, SM_ERR_FORMAT, "a NUL in it");
    cJSON *tree = cJSON_ParseWithLengthOpts(text, len, &end, 0);
    if (!cJSON_IsObject(tree) || end != text + len) {
        cJSON_Delete(tree);
        return sm_fail(err, SM_ERR_FORMAT, "not a JSON object");
    }
    *object = tree;
    return SM_OK;
}

void sm_json_free(struct cJSON **object)
{
    cJSON_Delete(*object);
    *object = NULL;
}

/* All digits, at most max; at most 20 digits, so that 000... is no number of ours. */
static bool parse_digits(const char *text, uint64_t max, uint64_t *value)
{
    uint64_t v = 0;
    size_t n = 0;
    for (; text[n] >= '0' && text[n] <= '9' && n < 20; n++)
        if (__builtin_mul_overflow(v, UINT64_C(10), &v) ||
            __builtin_add_overflow(v, (uint64_t)(text[n] - '0'), &v))
            return false;
    *value = v;
    return n > 0 && text[n] == '\0' && v <= max;
}

static bool read_u64(const cJSON *node, uint64_t max, uint64_t *value)
{
    if (cJSON_IsString(node))
        return parse_digits(node->valuestring, max, value);
    const double d = node->valuedouble;
    if (!cJSON_IsNumber(node) || !(d >= 0 && d <= (double)SM_JSON_EXACT) || d != floor(d))
        return false;
    *value = (uint64_t)d;
    return *value <= max;
}

static bool read_i64(const cJSON *node, int64_t *value)
{
    uint64_t u = 0;
    if (cJSON_IsString(node) && node->valuestring[0] == '-') {
        if (!parse_digits(node->valuestring + 1, INT64_MAX, &u))
            return false;
        *value = -(int64_t)u;
        return true;
    }
    if (cJSON_IsNumber(node) && node->valuedouble < 0) {
        const double d = node->valuedouble;
        if (!(d >= -(double)SM_JSON_EXACT) || d != ceil(d))
            return false;
        *value = (int64_t)d;
        return true;
    }
    if (!read_u64(node, INT64_MAX, &u))
        return false;
    *value = (int64_t)u;
    return true;
}

static bool read_word(const cJSON *node, char *into, size_t cap)
{
    if (!cJSON_IsString(node))
        return false;
    const char *text = node->valuestring;
    const size_t len =
        strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-");
    if (text[len] != '\0' || len >= cap)
        return false;
    memcpy(into, text, len + 1);
    return true;
}

static bool is_plain(const char *text)
{
    for (; *text != '\0'; text++)
        if ((unsigned char)*text < 0x20 || (unsigned char)*text >= 0x7F)
            return false;
    return true;
}

static sm_status read_text(const char *text, char *into, size_t cap, sm_error *err)
{
    sm_buf clean = {0};
    size_t len = strlen(text);
    if (!is_plain(text)) {
        const sm_status st = sm_text_clean(text, true, &clean, err);
        if (st != SM_OK) {
            sm_buf_free(&clean);
            return st;
        }
        text = (const char *)clean.data;
        len = clean.len - 1;
    }
    if (len >= cap) {
        len = cap - 1;
        while (len > 0 && ((unsigned char)text[len] & 0xC0) == 0x80)
            len--; /* never half a character */
    }
    memcpy(into, text, len);
    into[len] = '\0';
    sm_buf_free(&clean);
    return SM_OK;
}

static sm_status read_path(const char *text, char **into, sm_error *err)
{
    sm_buf path = {0};
    const sm_status st = sm_path_decode(text, &path, err);
    if (st != SM_OK) {
        sm_buf_free(&path);
        return st == SM_ERR_ARG ? sm_fail(err, SM_ERR_FORMAT, "%s", err->message) : st;
    }
    *into = (char *)path.data; /* the caller's from now on */
    return SM_OK;
}

bool sm_json_digest(const char *text, sm_digest *digest)
{
    static const sm_digest_kind KINDS[] = {SM_DIGEST_SHA256, SM_DIGEST_MD5, SM_DIGEST_XXH128};
    sm_error err = SM_ERROR_INIT;
    const char *colon = strchr(text, ':');
    for (size_t i = 0; colon != NULL && i < SM_COUNT(KINDS); i++) {
        const char *name = sm_digest_kind_name(KINDS[i]);
        if (strlen(name) == (size_t)(colon - text) && memcmp(name, text, strlen(name)) == 0)
            return sm_digest_parse(KINDS[i], colon + 1, digest, &err) == SM_OK;
    }
    return false;
}

static bool read_real(const cJSON *node, double *value)
{
    if (!cJSON_IsNumber(node) || !isfinite(node->valuedouble) || node->valuedouble < 0)
        return false;
    *value = node->valuedouble;
    return true;
}

static bool read_u32(const cJSON *node, uint32_t *value)
{
    uint64_t u = 0;
    if (!read_u64(node, UINT32_MAX, &u))
        return false;
    *value = (uint32_t)u;
    return true;
}

/* SM_OK, or SM_ERR_FORMAT without words when the member is not what the field wants. */
static sm_status read_field(const cJSON *node, const sm_json_field *f, sm_error *err)
{
    bool ok = false;
    switch (f->type) {
    case SM_JSON_U32:
        ok = read_u32(node, f->into);
        break;
    case SM_JSON_U64:
        ok = read_u64(node, INT64_MAX, f->into);
        break;
    case SM_JSON_I64:
        ok = read_i64(node, f->into);
        break;
    case SM_JSON_REAL:
        ok = read_real(node, f->into);
        break;
    case SM_JSON_BOOL:
        ok = cJSON_IsBool(node);
        *(bool *)f->into = cJSON_IsTrue(node);
        break;
    case SM_JSON_WORD:
        ok = read_word(node, f->into, f->cap);
        break;
    case SM_JSON_DIGEST:
        ok = cJSON_IsString(node) && sm_json_digest(node->valuestring, f->into);
        break;
    case SM_JSON_OBJECT:
    case SM_JSON_ARRAY:
        ok = f->type == SM_JSON_OBJECT ? cJSON_IsObject(node) : cJSON_IsArray(node);
        *(const cJSON **)f->into = node;
        break;
    case SM_JSON_TEXT:
    case SM_JSON_PATH:
        if (!cJSON_IsString(node))
            break;
        return f->type == SM_JSON_TEXT ? read_text(node->valuestring, f->into, f->cap, err)
                                       : read_path(node->valuestring, f->into, err);
    }
    return ok ? SM_OK : sm_fail(err, SM_ERR_FORMAT, "not a value it can have");
}

sm_status sm_json_read(const struct cJSON *object, const sm_json_field *fields, size_t n,
                       sm_error *err)
{
    uint64_t seen = 0;
    size_t at = 0; /* members mostly come in the order of the fields */
    for (const cJSON *node = object->child; node != NULL; node = node->next) {
        size_t tried = 0;
        while (tried < n && strcmp(fields[at].name, node->string) != 0) {
            at = at + 1 < n ? at + 1 : 0;
            tried++;
        }
        if (tried == n)
            continue;
        const uint64_t bit = UINT64_C(1) << at;
        if ((seen & bit) != 0)
            return sm_fail(err, SM_ERR_FORMAT, "\"%s\" comes twice", fields[at].name);
        seen |= bit;
        const sm_status st = read_field(node, &fields[at], err);
        if (st != SM_OK) {
            sm_error_prefix(err, "\"%s\"", fields[at].name);
            return st;
        }
    }
    for (size_t i = 0; i < n; i++)
        if (fields[i].required && (seen >> i & 1) == 0)
            return sm_fail(err, SM_ERR_FORMAT, "\"%s\" is missing", fields[i].name);
    return SM_OK;
}

/* ---- lines ---- */

struct sm_journal_reader {
    const sm_source *source; /* borrowed */
    uint64_t offset;         /* of the byte after the chunk in the file */
    uint8_t *chunk;
    size_t at, have; /* of the chunk */
    sm_buf line;
    uint64_t n_lines, torn;
    char prefix[SM_UUID_CAP + 12]; /* "RUN.RANK.": every id of this journal begins so */
    bool has_head, hopeless, finished;
};

typedef enum line_kind {
    LINE_NONE, /* the file is over */
    LINE_WHOLE,
    LINE_LONG, /* skipped, not kept */
    LINE_CUT,  /* the file ended before its newline did */
} line_kind;

sm_status sm_journal_open(const sm_source *source, sm_journal_reader **reader, sm_error *err)
{
    *reader = NULL;
    sm_journal_reader *r = sm_calloc(1, sizeof(*r));
    uint8_t *chunk = sm_malloc_array(CHUNK_BYTES, 1);
    if (r == NULL || chunk == NULL) {
        free(r);
        free(chunk);
        return sm_fail(err, SM_ERR_NOMEM, "%s: out of memory", sm_source_path(source));
    }
    r->source = source;
    r->chunk = chunk;
    *reader = r;
    return SM_OK;
}

void sm_journal_close(sm_journal_reader **reader)
{
    sm_journal_reader *r = *reader;
    if (r == NULL)
        return;
    sm_buf_free(&r->line);
    free(r->chunk);
    free(r);
    *reader = NULL;
}

uint64_t sm_journal_torn(const sm_journal_reader *reader)
{
    return reader->torn;
}

static bool at_end(const sm_journal_reader *r)
{
    return r->at == r->have && r->offset == sm_source_size(r->source);
}

static sm_status fill_chunk(sm_journal_reader *r, sm_error *err)
{
    const uint64_t left = sm_source_size(r->source) - r->offset;
    const size_t len = left < CHUNK_BYTES ? (size_t)left : CHUNK_BYTES;
    const sm_status st = sm_source_pread(r->source, r->chunk, len, r->offset, err);
    if (st != SM_OK)
        return st;
    r->offset += len;
    r->at = 0;
    r->have = len;
    return SM_OK;
}

/* The next line, without its newline, in r->line; *bytes of it in the file. A line that is too long
 * is passed over piece by piece. */
static sm_status read_line(sm_journal_reader *r, line_kind *kind, uint64_t *bytes, sm_error *err)
{
    *kind = LINE_NONE;
    *bytes = 0;
    r->line.len = 0;
    bool is_long = false;
    while (!at_end(r)) {
        if (r->at == r->have) {
            const sm_status st = fill_chunk(r, err);
            if (st != SM_OK)
                return st;
        }
        const uint8_t *start = r->chunk + r->at;
        const uint8_t *newline = memchr(start, '\n', r->have - r->at);
        const size_t len = newline != NULL ? (size_t)(newline - start) : r->have - r->at;
        is_long = is_long || r->line.len + len > SM_JOURNAL_LINE_MAX;
        if (!is_long) {
            const sm_status st = sm_buf_append(&r->line, start, len, err);
            if (st != SM_OK)
                return st;
        }
        r->at += len + (newline != NULL);
        *bytes += len + (newline != NULL);
        *kind = is_long ? LINE_LONG : LINE_WHOLE;
        if (newline != NULL)
            break;
        if (at_end(r))
            *kind = LINE_CUT;
    }
    r->n_lines += *kind != LINE_NONE;
    return SM_OK;
}

/* The line ends in ,"x":"<checksum of all before>"}; *seal is part of the checksum. */
static bool is_sealed(const sm_buf *line, uint64_t *seal)
{
    if (line->len <= SEAL_BYTES)
        return false;
    const size_t len = line->len - SEAL_BYTES;
    const char *tail = (const char *)line->data + len;
    char hex[SM_DIGEST_HEX_CAP];
    const sm_digest sum = sm_digest_xxh128(line->data, len);
    memcpy(seal, sum.bytes, sizeof *seal);
    return memcmp(tail, ",\"x\":\"", 6) == 0 &&
           memcmp(tail + 6, sm_digest_hex(&sum, hex), 32) == 0 && memcmp(tail + 38, "\"}", 2) == 0;
}

/* ---- events ---- */

bool sm_journal_is_uuid(const char *text)
{
    return strlen(text) == SM_UUID_CAP - 1 && strspn(text, "0123456789abcdef") == SM_UUID_CAP - 1;
}

static sm_status read_target(const cJSON *object, sm_journal_head *head, sm_error *err)
{
    char *dir = NULL;
    const sm_json_field fields[] = {
        {"dir", SM_JSON_PATH, true, &dir, 0},
        {"options", SM_JSON_TEXT, true, head->target_options, sizeof head->target_options},
    };
    sm_status st = sm_json_read(object, fields, SM_COUNT(fields), err);
    if (st == SM_OK && (dir[0] != '/' || strlen(dir) >= sizeof head->target_dir))
        st = sm_fail(err, SM_ERR_FORMAT, "\"target\": not an absolute path");
    if (st == SM_OK)
        memcpy(head->target_dir, dir, strlen(dir) + 1);
    free(dir);
    return st;
}

static sm_status read_head(const cJSON *object, sm_journal_head *head, sm_error *err)
{
    char kind[16] = "";
    uint32_t version = 0;
    const cJSON *target = NULL;
    *head = (sm_journal_head){.shard = SM_NO_SHARD};
    const sm_json_field fields[] = {
        {"v", SM_JSON_U32, true, &version, 0},
        {"catalog", SM_JSON_WORD, true, head->catalog, sizeof head->catalog},
        {"run", SM_JSON_WORD, true, head->run, sizeof head->run},
        {"rank", SM_JSON_U32, true, &head->rank, 0},
        {"plan", SM_JSON_U32, true, &head->plan, 0},
        {"shard", SM_JSON_U32, false, &head->shard, 0},
        {"generation", SM_JSON_U64, true, &head->generation, 0},
        {"kind", SM_JSON_WORD, true, kind, sizeof kind},
        {"host", SM_JSON_TEXT, false, head->host, sizeof head->host},
        {"command", SM_JSON_TEXT, false, head->command, sizeof head->command},
        {"version", SM_JSON_TEXT, false, head->version, sizeof head->version},
        {"target", SM_JSON_OBJECT, false, &target, 0},
        {"began", SM_JSON_I64, true, &head->began_ns, 0},
    };
    const sm_status st = sm_json_read(object, fields, SM_COUNT(fields), err);
    if (st != SM_OK)
        return st;
    if (version != 1)
        return sm_fail(err, SM_ERR_FORMAT, "of version %" PRIu32 ": made by a newer slidemill",
                       version);
    if (!sm_journal_is_uuid(head->catalog) || !sm_journal_is_uuid(head->run) ||
        head->began_ns < 0 || !sm_json_attempt_kind(kind, &head->kind))
        return sm_fail(err, SM_ERR_FORMAT, "\"catalog\", \"run\", \"kind\" or \"began\" is none");
    if (target != NULL)
        return read_target(target, head, err);
    return head->kind == SM_ATTEMPT_CONVERT
               ? sm_fail(err, SM_ERR_FORMAT, "a conversion without \"target\"")
               : SM_OK;
}

static sm_status read_begin(const cJSON *object, sm_journal_event *event, sm_error *err)
{
    const sm_json_field fields[] = {
        {"slide", SM_JSON_I64, true, &event->slide, 0},
        {"attempt", SM_JSON_U32, false, &event->attempt, 0},
    };
    const sm_status st = sm_json_read(object, fields, SM_COUNT(fields), err);
    return st == SM_OK && event->slide < 1 ? sm_fail(err, SM_ERR_FORMAT, "\"slide\" is none") : st;
}

static sm_status read_end(const cJSON *object, sm_journal_event *event, sm_error *err)
{
    const cJSON *outcome = NULL;
    const sm_json_field field = {"outcome", SM_JSON_OBJECT, true, &outcome, 0};
    sm_status st = sm_json_read(object, &field, 1, err);
    if (st == SM_OK)
        st = sm_outcome_from_object(outcome, &event->outcome, err);
    event->slide = event->outcome.slide;
    return st;
}

/* "RUN.RANK.SEQ" of this journal. */
static bool read_id(const sm_journal_reader *r, sm_journal_event *event)
{
    const size_t len = strlen(r->prefix);
    const char *seq = event->id + len;
    return strncmp(event->id, r->prefix, len) == 0 && (seq[0] != '0' || seq[1] == '\0') &&
           parse_digits(seq, INT64_MAX, &event->seq);
}

static sm_status read_kind(sm_journal_reader *r, const char *t, const cJSON *object,
                           sm_journal_event *event, sm_error *err)
{
    static const char *const NAMES[] = {"head", "begin", "end", "finish"};
    size_t kind = 0;
    while (kind < SM_COUNT(NAMES) && strcmp(NAMES[kind], t) != 0)
        kind++;
    if (kind == SM_COUNT(NAMES))
        return sm_fail(err, SM_ERR_FORMAT, "\"t\" is none of ours");
    event->kind = (sm_journal_event_kind)kind;
    if ((event->kind == SM_JOURNAL_HEAD) == r->has_head)
        return sm_fail(err, SM_ERR_FORMAT, r->has_head ? "a second head" : "no head before it");
    if (r->finished)
        return sm_fail(err, SM_ERR_FORMAT, "behind the closing line");
    switch (event->kind) {
    case SM_JOURNAL_HEAD:
        return read_head(object, &event->head, err);
    case SM_JOURNAL_BEGIN:
        return read_begin(object, event, err);
    case SM_JOURNAL_END:
        return read_end(object, event, err);
    case SM_JOURNAL_FINISH:
        break;
    }
    return SM_OK;
}

static sm_status read_event(sm_journal_reader *r, const cJSON *object, sm_journal_event *event,
                            sm_error *err)
{
    char t[16] = "";
    const sm_json_field fields[] = {
        {"t", SM_JSON_WORD, true, t, sizeof t},
        {"id", SM_JSON_WORD, true, event->id, sizeof event->id},
        {"time", SM_JSON_I64, true, &event->time_ns, 0},
    };
    sm_status st = sm_json_read(object, fields, SM_COUNT(fields), err);
    if (st == SM_OK && event->time_ns < 0)
        st = sm_fail(err, SM_ERR_FORMAT, "\"time\" is negative");
    if (st == SM_OK)
        st = read_kind(r, t, object, event, err);
    if (st != SM_OK)
        return st;
    if (event->kind == SM_JOURNAL_HEAD)
        snprintf(r->prefix, sizeof r->prefix, "%s.%" PRIu32 ".", event->head.run, event->head.rank);
    if (!read_id(r, event))
        return sm_fail(err, SM_ERR_FORMAT, "\"id\" is not of this run and rank");
    r->has_head = true;
    r->finished = event->kind == SM_JOURNAL_FINISH;
    return SM_OK;
}

static sm_status parse_line(sm_journal_reader *r, sm_journal_event *event, sm_error *err)
{
    cJSON *object = NULL;
    r->line.data[r->line.len - SEAL_BYTES] = '}'; /* in place of the comma before "x" */
    sm_status st = sm_json_parse((char *)r->line.data, r->line.len - SEAL_BYTES + 1, &object, err);
    if (st == SM_OK)
        st = read_event(r, object, event, err);
    sm_json_free(&object);
    if (st != SM_OK)
        sm_journal_event_clear(event);
    return st;
}

/* A line that is wrong: without a head before it the whole file is none of ours. */
static sm_status bad_line(sm_journal_reader *r, const char *what, sm_error *err)
{
    const char *path = sm_source_path(r->source);
    if (r->has_head)
        return sm_fail(err, SM_ERR_CORRUPT, "%s: line %" PRIu64 ": %s", path, r->n_lines, what);
    r->hopeless = true;
    return sm_fail(err, SM_ERR_FORMAT, "%s: not a journal: line 1: %s", path, what);
}

sm_status sm_journal_next(sm_journal_reader *reader, sm_journal_event *event, bool *more,
                          sm_error *err)
{
    line_kind kind = LINE_NONE;
    uint64_t bytes = 0;
    *more = false;
    sm_journal_event_clear(event);
    if (reader->hopeless)
        return bad_line(reader, "its head is wrong", err);
    sm_status st = read_line(reader, &kind, &bytes, err);
    if (st != SM_OK || kind == LINE_NONE)
        return st;
    const bool sealed = kind == LINE_WHOLE && is_sealed(&reader->line, &event->seal);
    if (kind == LINE_CUT || (kind == LINE_WHOLE && !sealed && at_end(reader))) {
        reader->torn = bytes;
        return SM_OK;
    }
    *more = true;
    if (kind == LINE_LONG)
        return bad_line(reader, "too long for a line of ours", err);
    if (!sealed)
        return bad_line(reader, "it does not agree with its checksum", err);
    event->line = reader->n_lines;
    st = parse_line(reader, event, err);
    if (st == SM_ERR_NOMEM)
        return st;
    if (st != SM_OK) {
        char what[sizeof err->message];
        memcpy(what, err->message, sizeof what);
        return bad_line(reader, what, err);
    }
    return SM_OK;
}

void sm_journal_event_clear(sm_journal_event *event)
{
    /* The head is large and only one event has one. */
    if (event->kind == SM_JOURNAL_HEAD)
        event->head = (sm_journal_head){0};
    sm_outcome_clear(&event->outcome);
    event->kind = SM_JOURNAL_FINISH;
    event->id[0] = '\0';
    event->time_ns = event->slide = 0;
    event->line = event->seq = event->seal = 0;
    event->attempt = 0;
}
