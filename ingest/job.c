/* Jobs and outcomes as JSON, and the JSON writer that journals use too (the reader stands in
 * journal_read.c). Owns nothing; a parsed tree belongs to the caller. */
#include "ingest/job.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "common/path.h"
#include "common/text.h"
#include "ingest/job_json.h"

/* ---- writing ---- */

static void put(sm_json_writer *w, const void *bytes, size_t len)
{
    if (w->st == SM_OK)
        w->st = sm_buf_append(w->out, bytes, len, w->err);
}

static void put_key(sm_json_writer *w, const char *key)
{
    if (w->out->len > 0 && strchr("{[", w->out->data[w->out->len - 1]) == NULL)
        put(w, ",", 1);
    if (key != NULL) {
        put(w, "\"", 1);
        put(w, key, strlen(key));
        put(w, "\":", 2);
    }
}

void sm_json_put_u64(sm_json_writer *w, const char *key, uint64_t value)
{
    put_key(w, key);
    if (w->st == SM_OK)
        w->st = sm_buf_printf(w->out, w->err,
                              value > SM_JSON_EXACT ? "\"%" PRIu64 "\"" : "%" PRIu64, value);
}

void sm_json_put_i64(sm_json_writer *w, const char *key, int64_t value)
{
    const bool exact = value >= -(int64_t)SM_JSON_EXACT && value <= (int64_t)SM_JSON_EXACT;
    put_key(w, key);
    if (w->st == SM_OK)
        w->st = sm_buf_printf(w->out, w->err, exact ? "%" PRId64 : "\"%" PRId64 "\"", value);
}

void sm_json_put_real(sm_json_writer *w, const char *key, double value)
{
    put_key(w, key);
    if (w->st == SM_OK)
        w->st = sm_buf_printf(w->out, w->err, "%.17g", isfinite(value) ? value : 0.0);
}

void sm_json_put_true(sm_json_writer *w, const char *key)
{
    put_key(w, key);
    put(w, "true", 4);
}

/* Text that is UTF-8, in quotes. */
static void put_escaped(sm_json_writer *w, const char *text)
{
    put(w, "\"", 1);
    for (const char *p = text; *p != '\0';) {
        size_t n = 0;
        while ((unsigned char)p[n] >= 0x20 && p[n] != '"' && p[n] != '\\')
            n++;
        put(w, p, n);
        p += n;
        if (*p == '\0')
            break;
        if (*p == '"' || *p == '\\') {
            put(w, "\\", 1);
            put(w, p, 1);
        } else if (w->st == SM_OK) {
            w->st = sm_buf_printf(w->out, w->err, "\\u%04x", (unsigned)*p);
        }
        p++;
    }
    put(w, "\"", 1);
}

void sm_json_put_text(sm_json_writer *w, const char *key, const char *text)
{
    sm_buf clean = {0};
    put_key(w, key);
    if (w->st == SM_OK)
        w->st = sm_text_clean(text, false, &clean, w->err);
    if (w->st == SM_OK)
        put_escaped(w, (const char *)clean.data);
    sm_buf_free(&clean);
}

void sm_json_put_path(sm_json_writer *w, const char *key, const char *path)
{
    put_key(w, key);
    put(w, "\"", 1);
    if (w->st == SM_OK)
        w->st = sm_path_encode(path, w->out, w->err);
    put(w, "\"", 1);
}

void sm_json_put_digest(sm_json_writer *w, const char *key, const sm_digest *digest)
{
    char hex[SM_DIGEST_HEX_CAP];
    put_key(w, key);
    if (w->st == SM_OK)
        w->st = sm_buf_printf(w->out, w->err, "\"%s:%s\"", sm_digest_kind_name(digest->kind),
                              sm_digest_hex(digest, hex));
}

void sm_json_open(sm_json_writer *w, const char *key, char bracket)
{
    if (key != NULL || w->out->len > 0)
        put_key(w, key);
    put(w, &bracket, 1);
}

void sm_json_close(sm_json_writer *w, char bracket)
{
    put(w, &bracket, 1);
}

bool sm_json_attempt_kind(const char *name, sm_attempt_kind *kind)
{
    static const sm_attempt_kind KINDS[] = {SM_ATTEMPT_CONVERT, SM_ATTEMPT_HASH,
                                            SM_ATTEMPT_CHECK_OUTPUT};
    for (size_t i = 0; i < SM_COUNT(KINDS); i++) {
        if (strcmp(sm_attempt_kind_name(KINDS[i]), name) == 0) {
            *kind = KINDS[i];
            return true;
        }
    }
    return false;
}

/* SM_OUTCOME_LOST is what a merge concludes; nobody reports it of himself. */
static bool outcome_parse(const char *name, sm_outcome_kind *outcome)
{
    static const sm_outcome_kind KINDS[] = {SM_OUTCOME_OK, SM_OUTCOME_FAILED, SM_OUTCOME_RETRY,
                                            SM_OUTCOME_QUARANTINED, SM_OUTCOME_ABANDONED};
    for (size_t i = 0; i < SM_COUNT(KINDS); i++) {
        if (strcmp(sm_outcome_kind_name(KINDS[i]), name) == 0) {
            *outcome = KINDS[i];
            return true;
        }
    }
    return false;
}

/* A path that a later step opens below some root. */
static sm_status check_path(const char *name, const char *path, sm_error *err)
{
    const sm_status st = sm_path_check(path, err);
    if (st == SM_ERR_ARG)
        return sm_fail(err, SM_ERR_FORMAT, "\"%s\": %s", name, err->message);
    return st;
}

/* ---- jobs ---- */

static void put_job_part(sm_json_writer *w, const char *key, const sm_job_part *part)
{
    sm_json_open(w, key, '{');
    sm_json_put_path(w, "path", part->path);
    if (part->size_bytes != SM_NO_SIZE)
        sm_json_put_u64(w, "size", part->size_bytes);
    if (part->mtime_ns != 0)
        sm_json_put_i64(w, "mtime", part->mtime_ns);
    if (part->has_digest)
        sm_json_put_digest(w, "digest", &part->digest);
    sm_json_close(w, '}');
}

sm_status sm_job_to_json(const sm_job *job, sm_buf *out, sm_error *err)
{
    sm_buf text = {0};
    sm_json_writer w = {.out = &text, .err = err, .st = SM_OK};
    sm_json_open(&w, NULL, '{');
    sm_json_put_text(&w, "kind", sm_attempt_kind_name(job->kind));
    sm_json_put_i64(&w, "slide", job->slide);
    sm_json_put_path(&w, "root", job->root);
    put_job_part(&w, "main", &job->main);
    if (job->n_parts > 0) {
        sm_json_open(&w, "parts", '[');
        for (size_t i = 0; i < job->n_parts; i++)
            put_job_part(&w, NULL, &job->parts[i]);
        sm_json_close(&w, ']');
    }
    if (job->out_root != NULL)
        sm_json_put_path(&w, "out_root", job->out_root);
    if (job->out_path != NULL)
        sm_json_put_path(&w, "out_path", job->out_path);
    if (job->mark[0] != '\0')
        sm_json_put_text(&w, "mark", job->mark);
    if (job->replace)
        sm_json_put_true(&w, "replace");
    sm_json_close(&w, '}');
    if (w.st == SM_OK)
        w.st = sm_buf_append(out, text.data, text.len, err);
    sm_buf_free(&text);
    return w.st;
}

static sm_status read_job_part(const cJSON *object, sm_job_part *part, sm_error *err)
{
    part->size_bytes = SM_NO_SIZE;
    const sm_json_field fields[] = {
        {"path", SM_JSON_PATH, true, &part->path, 0},
        {"size", SM_JSON_U64, false, &part->size_bytes, 0},
        {"mtime", SM_JSON_I64, false, &part->mtime_ns, 0},
        {"digest", SM_JSON_DIGEST, false, &part->digest, 0},
    };
    sm_status st = sm_json_read(object, fields, SM_COUNT(fields), err);
    part->has_digest = part->digest.len > 0;
    return st == SM_OK ? check_path("path", part->path, err) : st;
}

static sm_status read_job_parts(const cJSON *array, sm_job *job, sm_error *err)
{
    size_t n = 0;
    for (const cJSON *node = array->child; node != NULL; node = node->next)
        n++;
    if (n == 0)
        return SM_OK;
    job->parts = sm_calloc(n, sizeof(*job->parts));
    if (job->parts == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "out of memory: %zu parts of a slide", n);
    for (const cJSON *node = array->child; node != NULL; node = node->next) {
        if (!cJSON_IsObject(node))
            return sm_fail(err, SM_ERR_FORMAT, "\"parts\": not a list of objects");
        const sm_status st = read_job_part(node, &job->parts[job->n_parts++], err);
        if (st != SM_OK)
            return st;
    }
    return SM_OK;
}

static sm_status read_job(const cJSON *object, sm_job *job, sm_error *err)
{
    char kind[16] = "";
    const cJSON *main_file = NULL, *parts = NULL;
    const sm_json_field fields[] = {
        {"kind", SM_JSON_WORD, true, kind, sizeof kind},
        {"slide", SM_JSON_I64, true, &job->slide, 0},
        {"root", SM_JSON_PATH, true, &job->root, 0},
        {"main", SM_JSON_OBJECT, true, &main_file, 0},
        {"parts", SM_JSON_ARRAY, false, &parts, 0},
        {"out_root", SM_JSON_PATH, false, &job->out_root, 0},
        {"out_path", SM_JSON_PATH, false, &job->out_path, 0},
        {"mark", SM_JSON_WORD, false, job->mark, sizeof job->mark},
        {"replace", SM_JSON_BOOL, false, &job->replace, 0},
    };
    sm_status st = sm_json_read(object, fields, SM_COUNT(fields), err);
    if (st == SM_OK)
        st = read_job_part(main_file, &job->main, err);
    if (st == SM_OK && parts != NULL)
        st = read_job_parts(parts, job, err);
    if (st != SM_OK)
        return st;
    if (!sm_json_attempt_kind(kind, &job->kind) || job->slide < 1 || job->root[0] == '\0')
        return sm_fail(err, SM_ERR_FORMAT, "kind, slide or root is none");
    if (job->kind == SM_ATTEMPT_CONVERT &&
        (job->out_root == NULL || job->out_root[0] == '\0' || job->out_path == NULL))
        return sm_fail(err, SM_ERR_FORMAT, "a conversion without \"out_root\" and \"out_path\"");
    if (job->mark[0] != '\0' && !sm_out_mark_is_name(job->mark))
        return sm_fail(err, SM_ERR_FORMAT, "\"mark\": '%s' is no mark", job->mark);
    return job->out_path != NULL ? check_path("out_path", job->out_path, err) : SM_OK;
}

sm_status sm_job_from_json(const char *text, sm_job *job, sm_error *err)
{
    cJSON *object = NULL;
    *job = (sm_job){0};
    sm_status st = sm_json_parse(text, strlen(text), &object, err);
    if (st == SM_OK)
        st = read_job(object, job, err);
    if (st != SM_OK) {
        sm_error_prefix(err, "job");
        sm_job_clear(job);
    }
    sm_json_free(&object);
    return st;
}

void sm_job_clear(sm_job *job)
{
    for (size_t i = 0; i < job->n_parts; i++)
        free(job->parts[i].path);
    free(job->parts);
    free(job->main.path);
    free(job->root);
    free(job->out_root);
    free(job->out_path);
    *job = (sm_job){0};
}

/* ---- outcomes ---- */

static void put_phases(sm_json_writer *w, const uint64_t phase_ns[SM_PHASES])
{
    sm_json_open(w, "stages", '{');
    for (int i = 0; i < SM_PHASES; i++)
        if (phase_ns[i] > 0)
            sm_json_put_u64(w, sm_phase_name((sm_phase)i), phase_ns[i]);
    sm_json_close(w, '}');
}

static void put_stages(sm_json_writer *w, const char *key, const uint64_t ns[SM_STAGES], bool waits)
{
    sm_json_open(w, key, '{');
    for (int i = 0; i < SM_STAGES; i++)
        if (ns[i] > 0 && sm_stage_waits((sm_stage)i) == waits)
            sm_json_put_u64(w, sm_stage_name((sm_stage)i), ns[i]);
    sm_json_close(w, '}');
}

static void put_spent(sm_json_writer *w, const sm_spent *spent)
{
    put_stages(w, "work", spent->ns, false);
    put_stages(w, "waits", spent->ns, true);
    if (spent->cpu_ns > 0)
        sm_json_put_u64(w, "cpu", spent->cpu_ns);
    if (spent->delivered_ns == 0)
        return;
    sm_json_open(w, "measured", '{');
    sm_json_put_u64(w, "bytes", spent->delivered_bytes);
    sm_json_put_u64(w, "ns", spent->delivered_ns);
    sm_json_close(w, '}');
}

static void put_slide_facts(sm_json_writer *w, const sm_outcome *o)
{
    if (o->vendor[0] != '\0')
        sm_json_put_text(w, "vendor", o->vendor);
    if (o->w_px > 0 && o->h_px > 0) {
        sm_json_put_u64(w, "w", o->w_px);
        sm_json_put_u64(w, "h", o->h_px);
    }
    if (o->mpp > 0)
        sm_json_put_real(w, "mpp", o->mpp);
    if (o->objective > 0)
        sm_json_put_real(w, "objective", o->objective);
}

static void put_files(sm_json_writer *w, const sm_outcome *o)
{
    if (o->has_source) {
        sm_json_open(w, "source", '{');
        sm_json_put_u64(w, "bytes", o->source_bytes);
        sm_json_open(w, "digests", '[');
        for (uint32_t i = 0; i < o->n_source_digests; i++)
            sm_json_put_digest(w, NULL, &o->source_digests[i]);
        sm_json_close(w, ']');
        sm_json_close(w, '}');
    }
    if (o->has_output) {
        sm_json_open(w, "output", '{');
        sm_json_put_path(w, "path", o->out_path);
        sm_json_put_u64(w, "bytes", o->out_bytes);
        sm_json_put_digest(w, "digest", &o->out_sha256);
        if (o->out_brick[0] != '\0')
            sm_json_put_text(w, "brick", o->out_brick);
        sm_json_close(w, '}');
    }
    if (o->n_parts == 0)
        return;
    sm_json_open(w, "parts", '[');
    for (size_t i = 0; i < o->n_parts; i++) {
        sm_json_open(w, NULL, '{');
        sm_json_put_path(w, "path", o->parts[i].path);
        sm_json_put_u64(w, "bytes", o->parts[i].size_bytes);
        sm_json_put_digest(w, "digest", &o->parts[i].sha256);
        sm_json_close(w, '}');
    }
    sm_json_close(w, ']');
}

void sm_json_put_outcome(sm_json_writer *w, const sm_outcome *o)
{
    sm_json_put_text(w, "kind", sm_attempt_kind_name(o->kind));
    sm_json_put_text(w, "outcome", sm_outcome_kind_name(o->outcome));
    sm_json_put_i64(w, "slide", o->slide);
    if (o->error_class[0] != '\0')
        sm_json_put_text(w, "class", o->error_class);
    if (o->error[0] != '\0')
        sm_json_put_text(w, "error", o->error);
    if (o->brick[0] != '\0')
        sm_json_put_text(w, "brick", o->brick);
    sm_json_put_i64(w, "began", o->began_ns);
    sm_json_put_i64(w, "ended", o->ended_ns);
    put_phases(w, o->phase_ns);
    put_spent(w, &o->spent);
    sm_json_put_u64(w, "bytes_in", o->bytes_in);
    sm_json_put_u64(w, "bytes_out", o->bytes_out);
    sm_json_put_u64(w, "pixels", o->pixels);
    put_slide_facts(w, o);
    put_files(w, o);
    if (o->how[0] != '\0')
        sm_json_put_text(w, "how", o->how);
    if (o->peak_rss_bytes > 0)
        sm_json_put_u64(w, "peak_rss", o->peak_rss_bytes);
}

sm_status sm_outcome_to_json(const sm_outcome *outcome, sm_buf *out, sm_error *err)
{
    sm_buf text = {0};
    sm_json_writer w = {.out = &text, .err = err, .st = SM_OK};
    sm_json_open(&w, NULL, '{');
    sm_json_put_outcome(&w, outcome);
    sm_json_close(&w, '}');
    if (w.st == SM_OK)
        w.st = sm_buf_append(out, text.data, text.len, err);
    sm_buf_free(&text);
    return w.st;
}

/* Objects of an outcome; NULL: not there. */
typedef struct outcome_times {
    const cJSON *stages, *work, *waits, *measured; /* stages: the phases, as journals call them */
} outcome_times;

static sm_status read_phases(const cJSON *object, uint64_t phase_ns[SM_PHASES], sm_error *err)
{
    sm_json_field fields[SM_PHASES];
    for (int i = 0; i < SM_PHASES; i++)
        fields[i] =
            (sm_json_field){sm_phase_name((sm_phase)i), SM_JSON_U64, false, &phase_ns[i], 0};
    return sm_json_read(object, fields, SM_PHASES, err);
}

/* What an older slidemill wrote has no "work". How fast the source came it knew only where nothing
 * else was done meanwhile. */
static void take_old_times(sm_outcome *o)
{
    const sm_phase alone = o->kind == SM_ATTEMPT_HASH ? SM_PHASE_HASH : SM_PHASE_COPY_IN;
    o->spent.delivered_ns = o->kind != SM_ATTEMPT_CHECK_OUTPUT ? o->phase_ns[alone] : 0;
    o->spent.delivered_bytes = o->spent.delivered_ns > 0 ? o->bytes_in : 0;
}

/* The stages of one of the two objects; names of the other one, and new ones, are passed over. */
static sm_status read_stages(const cJSON *object, bool waits, uint64_t ns[SM_STAGES], sm_error *err)
{
    sm_json_field fields[SM_STAGES];
    size_t n = 0;
    for (int i = 0; i < SM_STAGES; i++)
        if (sm_stage_waits((sm_stage)i) == waits)
            fields[n++] =
                (sm_json_field){sm_stage_name((sm_stage)i), SM_JSON_U64, false, &ns[i], 0};
    return object != NULL ? sm_json_read(object, fields, n, err) : SM_OK;
}

static sm_status read_times(const outcome_times *times, sm_outcome *o, sm_error *err)
{
    const sm_json_field measured[] = {
        {"bytes", SM_JSON_U64, true, &o->spent.delivered_bytes, 0},
        {"ns", SM_JSON_U64, true, &o->spent.delivered_ns, 0},
    };
    sm_status st = SM_OK;
    if (times->stages != NULL)
        st = read_phases(times->stages, o->phase_ns, err);
    if (st == SM_OK)
        st = read_stages(times->work, false, o->spent.ns, err);
    if (st == SM_OK)
        st = read_stages(times->waits, true, o->spent.ns, err);
    if (st == SM_OK && times->measured != NULL)
        st = sm_json_read(times->measured, measured, SM_COUNT(measured), err);
    if (st == SM_OK && times->work == NULL)
        take_old_times(o);
    return st;
}

/* SHA-256 first, perhaps another kind behind it. */
static sm_status read_source(const cJSON *object, sm_outcome *o, sm_error *err)
{
    const cJSON *digests = NULL;
    const sm_json_field fields[] = {
        {"bytes", SM_JSON_U64, true, &o->source_bytes, 0},
        {"digests", SM_JSON_ARRAY, true, &digests, 0},
    };
    const sm_status st = sm_json_read(object, fields, SM_COUNT(fields), err);
    if (st != SM_OK)
        return st;
    for (const cJSON *node = digests->child; node != NULL; node = node->next) {
        if (o->n_source_digests == SM_COUNT(o->source_digests) || !cJSON_IsString(node) ||
            !sm_json_digest(node->valuestring, &o->source_digests[o->n_source_digests]))
            return sm_fail(err, SM_ERR_FORMAT, "\"digests\": not one or two digests");
        o->n_source_digests++;
    }
    if (o->n_source_digests == 0 || o->source_digests[0].kind != SM_DIGEST_SHA256 ||
        (o->n_source_digests == 2 && o->source_digests[1].kind == SM_DIGEST_SHA256))
        return sm_fail(err, SM_ERR_FORMAT, "\"digests\": not sha256 and perhaps another kind");
    o->has_source = true;
    return SM_OK;
}

/* A file with its SHA-256: an output or a part. */
static sm_status read_file(const cJSON *object, char **path, uint64_t *bytes, sm_digest *sha256,
                           sm_error *err)
{
    const sm_json_field fields[] = {
        {"path", SM_JSON_PATH, true, path, 0},
        {"bytes", SM_JSON_U64, true, bytes, 0},
        {"digest", SM_JSON_DIGEST, true, sha256, 0},
    };
    const sm_status st = sm_json_read(object, fields, SM_COUNT(fields), err);
    if (st == SM_OK && sha256->kind != SM_DIGEST_SHA256)
        return sm_fail(err, SM_ERR_FORMAT, "\"digest\": not a sha256");
    return st == SM_OK ? check_path("path", *path, err) : st;
}

static sm_status read_outcome_parts(const cJSON *array, sm_outcome *o, sm_error *err)
{
    size_t n = 0;
    for (const cJSON *node = array->child; node != NULL; node = node->next)
        n++;
    if (n == 0)
        return SM_OK;
    o->parts = sm_calloc(n, sizeof(*o->parts));
    if (o->parts == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "out of memory: %zu parts of a slide", n);
    for (const cJSON *node = array->child; node != NULL; node = node->next) {
        if (!cJSON_IsObject(node))
            return sm_fail(err, SM_ERR_FORMAT, "\"parts\": not a list of objects");
        sm_outcome_part *part = &o->parts[o->n_parts++];
        const sm_status st = read_file(node, &part->path, &part->size_bytes, &part->sha256, err);
        if (st != SM_OK)
            return st;
    }
    return SM_OK;
}

/* What no slide and no clock of ours can be. */
static sm_status check_outcome(const sm_outcome *o, sm_error *err)
{
    const bool fine = o->outcome == SM_OUTCOME_OK || o->outcome == SM_OUTCOME_ABANDONED;
    if (o->slide < 1 || o->began_ns < 0 || o->ended_ns < 0)
        return sm_fail(err, SM_ERR_FORMAT, "slide or time is negative");
    if (o->mpp > 1e6 || o->objective > 1e6)
        return sm_fail(err, SM_ERR_FORMAT, "mpp or objective is beyond 1000000");
    if (!fine && o->error_class[0] == '\0')
        return sm_fail(err, SM_ERR_FORMAT, "not ok and without \"class\"");
    if (o->outcome != SM_OUTCOME_OK)
        return SM_OK;
    if (o->error_class[0] != '\0')
        return sm_fail(err, SM_ERR_FORMAT, "ok with \"class\"");
    if (o->kind != SM_ATTEMPT_CHECK_OUTPUT && !o->has_source)
        return sm_fail(err, SM_ERR_FORMAT, "ok without \"source\"");
    if (o->kind == SM_ATTEMPT_CONVERT && !o->has_output)
        return sm_fail(err, SM_ERR_FORMAT, "converted without \"output\"");
    return SM_OK;
}

static sm_status read_outcome_files(const cJSON *source, const cJSON *output, const cJSON *parts,
                                    sm_outcome *o, sm_error *err)
{
    sm_status st = SM_OK;
    if (source != NULL)
        st = read_source(source, o, err);
    if (st == SM_OK && output != NULL) {
        const sm_json_field brick = {"brick", SM_JSON_TEXT, false, o->out_brick,
                                     sizeof o->out_brick};
        st = read_file(output, &o->out_path, &o->out_bytes, &o->out_sha256, err);
        o->has_output = true;
        if (st == SM_OK)
            st = sm_json_read(output, &brick, 1, err);
    }
    if (st == SM_OK && parts != NULL)
        st = read_outcome_parts(parts, o, err);
    return st;
}

static sm_status read_outcome(const cJSON *object, sm_outcome *o, sm_error *err)
{
    char kind[16] = "", outcome[16] = "";
    outcome_times times = {0};
    const cJSON *source = NULL, *output = NULL, *parts = NULL;
    const sm_json_field fields[] = {
        {"kind", SM_JSON_WORD, true, kind, sizeof kind},
        {"outcome", SM_JSON_WORD, true, outcome, sizeof outcome},
        {"slide", SM_JSON_I64, true, &o->slide, 0},
        {"class", SM_JSON_WORD, false, o->error_class, sizeof o->error_class},
        {"error", SM_JSON_TEXT, false, o->error, sizeof o->error},
        {"brick", SM_JSON_TEXT, false, o->brick, sizeof o->brick},
        {"began", SM_JSON_I64, true, &o->began_ns, 0},
        {"ended", SM_JSON_I64, true, &o->ended_ns, 0},
        {"stages", SM_JSON_OBJECT, false, &times.stages, 0},
        {"work", SM_JSON_OBJECT, false, &times.work, 0},
        {"waits", SM_JSON_OBJECT, false, &times.waits, 0},
        {"cpu", SM_JSON_U64, false, &o->spent.cpu_ns, 0},
        {"measured", SM_JSON_OBJECT, false, &times.measured, 0},
        {"bytes_in", SM_JSON_U64, false, &o->bytes_in, 0},
        {"bytes_out", SM_JSON_U64, false, &o->bytes_out, 0},
        {"pixels", SM_JSON_U64, false, &o->pixels, 0},
        {"vendor", SM_JSON_TEXT, false, o->vendor, sizeof o->vendor},
        {"w", SM_JSON_U32, false, &o->w_px, 0},
        {"h", SM_JSON_U32, false, &o->h_px, 0},
        {"mpp", SM_JSON_REAL, false, &o->mpp, 0},
        {"objective", SM_JSON_REAL, false, &o->objective, 0},
        {"source", SM_JSON_OBJECT, false, &source, 0},
        {"output", SM_JSON_OBJECT, false, &output, 0},
        {"parts", SM_JSON_ARRAY, false, &parts, 0},
        {"how", SM_JSON_TEXT, false, o->how, sizeof o->how},
        {"peak_rss", SM_JSON_U64, false, &o->peak_rss_bytes, 0},
    };
    sm_status st = sm_json_read(object, fields, SM_COUNT(fields), err);
    if (st == SM_OK &&
        !(sm_json_attempt_kind(kind, &o->kind) && outcome_parse(outcome, &o->outcome)))
        st = sm_fail(err, SM_ERR_FORMAT, "\"kind\" or \"outcome\" is none of ours");
    if (st == SM_OK)
        st = read_times(&times, o, err);
    if (st == SM_OK)
        st = read_outcome_files(source, output, parts, o, err);
    return st == SM_OK ? check_outcome(o, err) : st;
}

sm_status sm_outcome_from_object(const struct cJSON *object, sm_outcome *outcome, sm_error *err)
{
    *outcome = (sm_outcome){0};
    const sm_status st = read_outcome(object, outcome, err);
    if (st != SM_OK)
        sm_outcome_clear(outcome);
    return st;
}

sm_status sm_outcome_from_json(const char *text, size_t len, sm_outcome *outcome, sm_error *err)
{
    cJSON *object = NULL;
    *outcome = (sm_outcome){0};
    sm_status st = sm_json_parse(text, len, &object, err);
    if (st == SM_OK)
        st = sm_outcome_from_object(object, outcome, err);
    if (st != SM_OK)
        sm_error_prefix(err, "answer");
    sm_json_free(&object);
    return st;
}

void sm_outcome_clear(sm_outcome *outcome)
{
    for (size_t i = 0; i < outcome->n_parts; i++)
        free(outcome->parts[i].path);
    free(outcome->parts);
    free(outcome->out_path);
    *outcome = (sm_outcome){0};
}

static void set_class(sm_outcome *outcome, sm_outcome_kind kind, const char *class)
{
    const size_t len = strlen(class);
    outcome->outcome = kind;
    memcpy(outcome->error_class, class, len + 1); /* the longest is "internal" */
}

void sm_outcome_set_error(sm_outcome *outcome, const sm_error *err)
{
    const size_t len = strlen(err->message);
    memcpy(outcome->error, err->message, len + 1); /* arrays of the same size */
    switch (err->status) {
    case SM_ERR_IO:
        set_class(outcome, SM_OUTCOME_RETRY,
                  err->sys_errno == ENOENT ? SM_CLASS_MISSING : SM_CLASS_IO);
        return;
    case SM_ERR_BUSY: /* of another process of ours, or a mount that wants us to come back */
        set_class(outcome, SM_OUTCOME_RETRY, SM_CLASS_IO);
        return;
    case SM_ERR_FORMAT:
        set_class(outcome, SM_OUTCOME_FAILED, SM_CLASS_FORMAT);
        return;
    case SM_ERR_LIMIT:
        set_class(outcome, SM_OUTCOME_FAILED, SM_CLASS_LIMIT);
        return;
    case SM_ERR_CORRUPT:
        set_class(outcome, SM_OUTCOME_FAILED, SM_CLASS_CORRUPT);
        return;
    case SM_ERR_ARG:
        set_class(outcome, SM_OUTCOME_FAILED,
                  err->sys_errno == EEXIST ? SM_CLASS_EXISTS : SM_CLASS_ARG);
        return;
    case SM_ERR_NOMEM:
        set_class(outcome, SM_OUTCOME_FAILED, SM_CLASS_MEMORY);
        return;
    case SM_ERR_INTERRUPTED:
        set_class(outcome, SM_OUTCOME_ABANDONED, "");
        return;
    case SM_OK:
    case SM_ERR_INTERNAL:
        break;
    }
    set_class(outcome, SM_OUTCOME_FAILED, SM_CLASS_INTERNAL);
}
