/* What journals say, folded in: runs, attempts, leases. The same events give the same catalog in
 * whatever order and however often they come. Owns nothing. */
#include "common/catalog_db.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/path.h"

/* ---- runs ---- */

static bool is_run(const char *run)
{
    return run != NULL && strnlen(run, SM_UUID_CAP) == SM_UUID_CAP - 1 &&
           strspn(run, "0123456789abcdef") == SM_UUID_CAP - 1;
}

static sm_status find_run(sm_catalog *catalog, const char *run, uint32_t rank, int64_t *id,
                          sm_error *err)
{
    static const char FIND[] = "SELECT id FROM run WHERE run = ? AND rank = ?";
    sm_query query = {0};
    bool found = false;
    *id = 0;
    if (catalog->last_run.id != 0 && catalog->last_run.rank == rank &&
        strcmp(catalog->last_run.run, run) == 0) {
        *id = catalog->last_run.id;
        return SM_OK;
    }
    sm_status st = sm_query_use(catalog, FIND, &query, err);
    if (st != SM_OK)
        return st;
    sm_query_text(&query, run);
    sm_query_int(&query, rank);
    st = sm_query_next(&query, &found, err);
    if (st == SM_OK && found) {
        *id = sm_column_int(&query, 0, 1, INT64_MAX);
        st = sm_query_row_status(&query, "run", *id, err);
    }
    sm_query_reset(&query);
    if (st == SM_OK && found) {
        memcpy(catalog->last_run.run, run, SM_UUID_CAP);
        catalog->last_run.rank = rank;
        catalog->last_run.id = *id;
    }
    return st;
}

sm_status sm_catalog_put_run(sm_catalog *catalog, const sm_run_row *run, sm_error *err)
{
    /* What is known stays: the first journal that tells of a run is believed. */
    static const char PUT[] =
        "INSERT INTO run (run, rank, host, command, version, plan, shard, began_ns, ended_ns) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (run, rank) DO UPDATE SET "
        "host = coalesce(host, excluded.host), command = coalesce(command, excluded.command), "
        "version = coalesce(version, excluded.version), plan = coalesce(plan, excluded.plan), "
        "shard = coalesce(shard, excluded.shard), began_ns = coalesce(began_ns, excluded.began_ns),"
        " ended_ns = coalesce(ended_ns, excluded.ended_ns)";
    sm_query query = {0};
    sm_status st = sm_catalog_begin_write(catalog, err);
    if (st == SM_OK && (!is_run(run->run) || run->began_ns < 0 || run->ended_ns < 0))
        st = sm_fail(err, SM_ERR_CORRUPT, "%s: a run '%.40s' makes no sense", catalog->path,
                     run->run != NULL ? run->run : "");
    if (st == SM_OK)
        st = sm_catalog_check_text("host", run->host, SM_CATALOG_TEXT_MAX, err);
    if (st == SM_OK)
        st = sm_catalog_check_text("command", run->command, SM_CATALOG_TEXT_MAX, err);
    if (st == SM_OK)
        st = sm_catalog_check_text("version", run->version, SM_CATALOG_TEXT_MAX, err);
    if (st == SM_OK)
        st = sm_query_use(catalog, PUT, &query, err);
    if (st != SM_OK)
        return st;
    sm_query_text(&query, run->run);
    sm_query_int(&query, run->rank);
    sm_query_text(&query, run->host);
    sm_query_text(&query, run->command);
    sm_query_text(&query, run->version);
    sm_query_int(&query, run->plan);
    sm_query_int_if(&query, run->shard != SM_NO_SHARD, run->shard);
    sm_query_int_if(&query, run->began_ns != 0, (uint64_t)run->began_ns);
    sm_query_int_if(&query, run->ended_ns != 0, (uint64_t)run->ended_ns);
    return sm_query_run(&query, err);
}

static sm_status get_run(sm_catalog *catalog, const sm_attempt_row *attempt, int64_t *id,
                         sm_error *err)
{
    static const char INSERT[] = "INSERT INTO run (run, rank) VALUES (?, ?)";
    sm_query query = {0};
    sm_status st = find_run(catalog, attempt->run, attempt->rank, id, err);
    if (st != SM_OK || *id != 0)
        return st;
    st = sm_query_use(catalog, INSERT, &query, err);
    if (st != SM_OK)
        return st;
    sm_query_text(&query, attempt->run);
    sm_query_int(&query, attempt->rank);
    st = sm_query_run(&query, err);
    *id = sm_catalog_last_id(catalog);
    return st;
}

/* ---- does an event make sense? ---- */

/* SEQ of "RUN.RANK.SEQ" with the row's own run and rank; -1 if it is not that. */
static int64_t event_seq(const sm_attempt_row *attempt)
{
    const char *p = attempt->event;
    char *end = NULL;
    if (p == NULL || !is_run(attempt->run) || strncmp(p, attempt->run, SM_UUID_CAP - 1) != 0)
        return -1;
    p += SM_UUID_CAP - 1;
    if (p[0] != '.' || p[1] < '0' || p[1] > '9' || strnlen(p, 40) == 40)
        return -1;
    if (strtoull(p + 1, &end, 10) != attempt->rank || end[0] != '.' || end[1] < '0' || end[1] > '9')
        return -1;
    const unsigned long long seq = strtoull(end + 1, &end, 10); /* too large: ULLONG_MAX */
    return *end == '\0' && seq <= INT64_MAX ? (int64_t)seq : -1;
}

static const char *why_output_wrong(const sm_output_row *output)
{
    sm_error why = SM_ERROR_INIT;
    if (output->path == NULL || sm_path_check(output->path, &why) != SM_OK)
        return "its output's path is not clean";
    if (output->size_bytes > INT64_MAX)
        return "its output's size is no size";
    if (output->sha256.kind != SM_DIGEST_SHA256 || output->sha256.len != 32)
        return "its output has no SHA-256";
    return NULL;
}

static const char *why_numbers_wrong(const sm_attempt_row *a)
{
    for (size_t i = 0; i < SM_PHASES; i++) {
        if (a->phase_ns[i] > INT64_MAX)
            return "a phase's time is no time";
    }
    for (size_t i = 0; i < SM_STAGES; i++) {
        if (a->stage_ns[i] > INT64_MAX)
            return "a stage's time is no time";
    }
    if (a->began_ns <= 0 || a->ended_ns < a->began_ns)
        return "it ended before it began";
    if (a->bytes_in > INT64_MAX || a->bytes_out > INT64_MAX || a->pixels > INT64_MAX ||
        a->source_bytes > INT64_MAX || a->generation > INT64_MAX || a->cpu_ns > INT64_MAX ||
        a->measured_bytes > INT64_MAX || a->measured_ns > INT64_MAX)
        return "a count is out of range";
    if (!isfinite(a->mpp) || a->mpp < 0 || !isfinite(a->objective) || a->objective < 0)
        return "its resolution is below 0";
    return NULL;
}

static const char *why_texts_wrong(const sm_attempt_row *a)
{
    sm_error why = SM_ERROR_INIT;
    if (sm_catalog_check_text("", a->error, SM_CATALOG_TEXT_MAX, &why) != SM_OK ||
        sm_catalog_check_text("", a->error_class, 31, &why) != SM_OK ||
        sm_catalog_check_text("", a->vendor, SM_CATALOG_TEXT_MAX, &why) != SM_OK ||
        sm_catalog_check_text("", a->brick, SM_BRICK_NAME_MAX, &why) != SM_OK ||
        sm_catalog_check_text("", a->out_brick, SM_BRICK_NAME_MAX, &why) != SM_OK)
        return "a text is too long";
    return NULL;
}

static const sm_digest *source_digest(const sm_attempt_row *a, sm_digest_kind kind)
{
    for (uint32_t i = 0; a->has_source && i < a->n_source_digests; i++) {
        if (a->source_digests[i].kind == kind)
            return &a->source_digests[i];
    }
    return NULL;
}

/* NULL if the event can be folded in. */
static const char *why_wrong(const sm_attempt_row *a)
{
    const bool ok = a->outcome == SM_OUTCOME_OK;
    if (event_seq(a) < 0)
        return "its id is not RUN.RANK.SEQ";
    if ((unsigned)a->kind > SM_ATTEMPT_CHECK_OUTPUT || (unsigned)a->outcome > SM_OUTCOME_LOST)
        return "its kind or outcome is unknown";
    const char *why = why_numbers_wrong(a);
    if (why == NULL)
        why = why_texts_wrong(a);
    if (why == NULL && a->has_source && a->n_source_digests > SM_COUNT(a->source_digests))
        why = "it has too many digests";
    if (why == NULL && a->has_output && a->kind == SM_ATTEMPT_CONVERT)
        why = why_output_wrong(&a->output);
    if (why == NULL && ok && a->kind == SM_ATTEMPT_CONVERT && !a->has_output)
        why = "it converted, but names no output";
    if (why == NULL && ok && a->kind != SM_ATTEMPT_CHECK_OUTPUT &&
        source_digest(a, SM_DIGEST_SHA256) == NULL)
        why = "it read the slide, but has no SHA-256 of it";
    return why;
}

/* ---- the slide as it stands ---- */

typedef struct slide_now {
    sm_slide_state state;
    bool in_shard, failed_output; /* failed because of its output */
    int64_t checked_ns, last_ended_ns;
    uint64_t since_generation, size_bytes;
    sm_digest_set digests;
    bool has_output;
    uint64_t output_bytes;
    int64_t made_ns, output_checked_ns;
} slide_now;

static sm_status read_now(sm_catalog *catalog, int64_t slide, slide_now *now, bool *found,
                          sm_error *err)
{
    static const char SELECT[] =
        "SELECT s.state, s.shard IS NOT NULL, s.checked_ns, s.last_ended_ns, s.since_generation, "
        "s.size_bytes, s.sha256, s.sha256_origin, s.md5, s.xxh128, o.size_bytes, o.made_ns, "
        "o.checked_ns, s.error_class FROM slide AS s LEFT JOIN output AS o ON o.slide = s.id "
        "WHERE s.id = ?";
    sm_query query = {0};
    *found = false;
    sm_status st = sm_query_use(catalog, SELECT, &query, err);
    if (st != SM_OK)
        return st;
    sm_query_int(&query, slide);
    st = sm_query_next(&query, found, err);
    if (st != SM_OK || !*found)
        return st;
    const char *state = sm_column_text(&query, 0);
    now->state = sm_slide_state_parse(state != NULL ? state : "");
    if (now->state == SM_SLIDE_STATES)
        sm_column_is_bad(&query, 0, "is no state of a slide");
    now->in_shard = sm_column_int(&query, 1, 0, 1) != 0;
    now->checked_ns = sm_column_int_or(&query, 2, 0, INT64_MAX, 0);
    now->last_ended_ns = sm_column_int_or(&query, 3, 0, INT64_MAX, 0);
    now->since_generation = (uint64_t)sm_column_int_or(&query, 4, 0, INT64_MAX, 0);
    now->size_bytes = sm_column_is_null(&query, 5)
                          ? SM_NO_SIZE
                          : (uint64_t)sm_column_int(&query, 5, 0, INT64_MAX);
    sm_digest_set_read(&query, 6, &now->digests);
    now->has_output = !sm_column_is_null(&query, 11);
    now->output_bytes = (uint64_t)sm_column_int_or(&query, 10, 0, INT64_MAX, 0);
    now->made_ns = sm_column_int_or(&query, 11, 0, INT64_MAX, 0);
    now->output_checked_ns = sm_column_int_or(&query, 12, 0, INT64_MAX, 0);
    const char *error_class = sm_column_text(&query, 13);
    now->failed_output =
        now->state == SM_SLIDE_FAILED && error_class != NULL && strcmp(error_class, "output") == 0;
    st = sm_query_row_status(&query, "slide", slide, err);
    sm_query_reset(&query);
    return st;
}

/* ---- table attempt ---- */

static sm_status insert_attempt(sm_catalog *catalog, const sm_attempt_row *a, int64_t run,
                                int64_t brick, bool *known, sm_error *err)
{
    static const char INSERT[] =
        "INSERT OR IGNORE INTO attempt VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, "
        "?, ?, ?, ?, ?, ?, ?)";
    sm_query query = {0};
    /* The digest of a good attempt stands with the slide; that of another one is evidence. */
    const bool evidence = a->has_source && a->outcome != SM_OUTCOME_OK;
    sm_status st = sm_query_use(catalog, INSERT, &query, err);
    if (st != SM_OK)
        return st;
    sm_query_int(&query, run);
    sm_query_int(&query, event_seq(a));
    sm_query_int(&query, a->slide);
    sm_query_text(&query, sm_attempt_kind_name(a->kind));
    sm_query_text(&query, sm_outcome_kind_name(a->outcome));
    sm_query_text(&query, a->error_class);
    sm_query_text(&query, a->error);
    sm_query_int_if(&query, brick != 0, (uint64_t)brick);
    sm_query_int_if(&query, a->generation != 0, a->generation);
    sm_query_int(&query, a->began_ns);
    sm_query_int(&query, a->ended_ns);
    for (size_t i = 0; i < SM_PHASES; i++)
        sm_query_int(&query, (int64_t)a->phase_ns[i]);
    sm_query_int(&query, (int64_t)a->bytes_in);
    sm_query_int(&query, (int64_t)a->bytes_out);
    sm_query_int(&query, (int64_t)a->pixels);
    sm_query_int_if(&query, a->has_source, a->source_bytes);
    sm_query_digest(&query, evidence ? source_digest(a, SM_DIGEST_SHA256) : NULL);
    st = sm_query_run(&query, err);
    *known = st == SM_OK && sm_catalog_changes(catalog) == 0;
    return st;
}

/* The time a slide's bytes took to arrive: alone when they were copied in or only hashed, else with
 * the work on them, which makes the rate a lower bound. */
static uint64_t reading_ns(const sm_attempt_row *a)
{
    if (a->kind == SM_ATTEMPT_HASH)
        return a->phase_ns[SM_PHASE_HASH];
    return a->phase_ns[a->phase_ns[SM_PHASE_COPY_IN] > 0 ? SM_PHASE_COPY_IN : SM_PHASE_MILL];
}

static void count_attempt(sm_catalog *catalog, const sm_attempt_row *a, int64_t brick)
{
    sm_catalog_meta *meta = &catalog->meta;
    meta->n_attempts++;
    if (meta->first_began_ns == 0 || a->began_ns < meta->first_began_ns)
        meta->first_began_ns = a->began_ns;
    if (a->ended_ns > meta->last_ended_ns)
        meta->last_ended_ns = a->ended_ns;
    const uint64_t ns = reading_ns(a);
    if (brick == 0 || a->kind == SM_ATTEMPT_CHECK_OUTPUT || ns == 0 || a->bytes_in == 0)
        return;
    sm_brick_entry *entry = &catalog->bricks[brick - 1];
    if (entry->read_bytes > (uint64_t)INT64_MAX - a->bytes_in ||
        entry->read_ns > (uint64_t)INT64_MAX - ns)
        return; /* a journal that lies; the sums stay numbers */
    entry->read_bytes += a->bytes_in;
    entry->read_ns += ns;
    entry->dirty = true;
}

/* ---- what an attempt does to its slide ---- */

static sm_status set_result(sm_catalog *catalog, const sm_attempt_row *a, sm_slide_state state,
                            const char *error_class, const char *error, sm_error *err)
{
    static const char UPDATE[] = "UPDATE slide SET state = ?, error_class = ?, error = ?, "
                                 "last_ended_ns = ? WHERE id = ?";
    sm_query query = {0};
    const sm_status st = sm_query_use(catalog, UPDATE, &query, err);
    if (st != SM_OK)
        return st;
    sm_query_text(&query, sm_slide_state_name(state));
    sm_query_text(&query, error_class);
    sm_query_text(&query, error);
    sm_query_int(&query, a->ended_ns);
    sm_query_int(&query, a->slide);
    return sm_query_run(&query, err);
}

static sm_status count_on_slide(sm_catalog *catalog, int64_t slide, sm_error *err)
{
    static const char UPDATE[] = "UPDATE slide SET attempts = attempts + 1 WHERE id = ?";
    sm_query query = {0};
    const sm_status st = sm_query_use(catalog, UPDATE, &query, err);
    if (st != SM_OK)
        return st;
    sm_query_int(&query, slide);
    return sm_query_run(&query, err);
}

/* What reading the slide taught, its new state, and the attempt counted: one update for the way
 * that nearly all events take. */
static sm_status learn(sm_catalog *catalog, const sm_attempt_row *a, const slide_now *now,
                       int64_t brick, sm_error *err)
{
    static const char UPDATE[] =
        "UPDATE slide SET state = iif(?1, 'done', iif(state = 'leased', iif(shard IS NULL, 'new', "
        "'planned'), state)), error_class = iif(?1, NULL, error_class), "
        "error = iif(?1, NULL, error), last_ended_ns = iif(?1, ?2, last_ended_ns), "
        "attempts = attempts + 1, checked_ns = max(coalesce(checked_ns, 0), ?2), "
        "size_bytes = coalesce(?3, size_bytes), sha256 = coalesce(sha256, ?4), "
        "sha256_origin = coalesce(sha256_origin, 'learned'), brick = coalesce(?5, brick), "
        "vendor = coalesce(?6, vendor), w_px = coalesce(?7, w_px), h_px = coalesce(?8, h_px), "
        "mpp = coalesce(?9, mpp), objective = coalesce(?10, objective) WHERE id = ?11";
    const bool done = a->kind == SM_ATTEMPT_CONVERT && a->ended_ns >= now->last_ended_ns;
    sm_query query = {0};
    const sm_status st = sm_query_use(catalog, UPDATE, &query, err);
    if (st != SM_OK)
        return st;
    sm_query_int(&query, done);
    sm_query_int(&query, a->ended_ns);
    sm_query_int(&query, (int64_t)a->source_bytes);
    sm_query_digest(&query, source_digest(a, SM_DIGEST_SHA256));
    sm_query_int_if(&query, brick != 0, (uint64_t)brick);
    sm_query_text(&query, a->vendor);
    sm_query_int_if(&query, a->w_px != 0, a->w_px);
    sm_query_int_if(&query, a->h_px != 0, a->h_px);
    sm_query_real_if(&query, a->mpp > 0, a->mpp);
    sm_query_real_if(&query, a->objective > 0, a->objective);
    sm_query_int(&query, a->slide);
    return sm_query_run(&query, err);
}

static sm_status put_output(sm_catalog *catalog, const sm_attempt_row *a, const slide_now *now,
                            sm_error *err)
{
    static const char REPLACE[] =
        "INSERT OR REPLACE INTO output (slide, path, size_bytes, sha256, source_sha256, state, "
        "made_ns, checked_ns) VALUES (?1, ?2, ?3, ?4, ?5, 'good', ?6, ?6)";
    sm_catalog_meta *meta = &catalog->meta;
    sm_query query = {0};
    sm_status st = sm_query_use(catalog, REPLACE, &query, err);
    if (st != SM_OK)
        return st;
    sm_query_int(&query, a->slide);
    sm_query_text(&query, a->output.path);
    sm_query_int(&query, (int64_t)a->output.size_bytes);
    sm_query_digest(&query, &a->output.sha256);
    sm_query_digest(&query, source_digest(a, SM_DIGEST_SHA256));
    sm_query_int(&query, a->ended_ns);
    st = sm_query_run(&query, err);
    if (st != SM_OK)
        return st;
    meta->n_outputs += now->has_output ? 0 : 1;
    meta->output_bytes -=
        meta->output_bytes < now->output_bytes ? meta->output_bytes : now->output_bytes;
    if (meta->output_bytes <= (uint64_t)INT64_MAX - a->output.size_bytes)
        meta->output_bytes += a->output.size_bytes;
    return SM_OK;
}

/* The first expected digest that the bytes do not have; NULL if they have all. */
static const sm_digest *disagreeing(const sm_attempt_row *a, const slide_now *now)
{
    for (int kind = SM_DIGEST_SHA256; kind <= SM_DIGEST_XXH128; kind++) {
        const sm_digest *read = source_digest(a, (sm_digest_kind)kind);
        if (now->digests.has[kind] && read != NULL &&
            !sm_digest_equal(read, &now->digests.digest[kind]))
            return &now->digests.digest[kind];
    }
    return NULL;
}

static sm_status apply_ok(sm_catalog *catalog, const sm_attempt_row *a, const slide_now *now,
                          int64_t brick, sm_error *err)
{
    const sm_digest *expected = disagreeing(a, now);
    sm_digest best;
    if (expected == NULL) {
        /* Of another size than the catalog knows, and no list vouches for it: not that file. */
        if (now->size_bytes != SM_NO_SIZE && now->size_bytes != a->source_bytes &&
            sm_digest_set_best(&now->digests, &best) != SM_DIGEST_GIVEN)
            return count_on_slide(catalog, a->slide, err);
        sm_status st = learn(catalog, a, now, brick, err);
        if (st == SM_OK && a->kind == SM_ATTEMPT_CONVERT && a->ended_ns >= now->made_ns)
            st = put_output(catalog, a, now, err);
        return st;
    }
    char want[SM_DIGEST_HEX_CAP], got[SM_DIGEST_HEX_CAP], error[320];
    const sm_digest *read = source_digest(a, expected->kind);
    snprintf(error, sizeof(error), "%s is %s, the catalog has %s",
             sm_digest_kind_name(expected->kind), sm_digest_hex(read, got),
             sm_digest_hex(expected, want));
    sm_status st = count_on_slide(catalog, a->slide, err);
    if (st == SM_OK && a->ended_ns >= now->last_ended_ns)
        st = set_result(catalog, a, SM_SLIDE_QUARANTINED, "digest", error, err);
    return st;
}

/* Another try follows, or may: unless something final is known. */
static sm_status apply_unfinished(sm_catalog *catalog, const sm_attempt_row *a, sm_error *err)
{
    static const char UPDATE[] = "UPDATE slide SET attempts = attempts + 1, state = iif(state IN "
                                 "('new', 'planned', 'leased'), iif(shard IS NULL, 'new', "
                                 "'planned'), state) WHERE id = ?";
    sm_query query = {0};
    const sm_status st = sm_query_use(catalog, UPDATE, &query, err);
    if (st != SM_OK)
        return st;
    sm_query_int(&query, a->slide);
    return sm_query_run(&query, err);
}

static sm_status apply_check(sm_catalog *catalog, const sm_attempt_row *a, const slide_now *now,
                             sm_error *err)
{
    static const char UPDATE[] = "UPDATE output SET state = ?, checked_ns = ? WHERE slide = ?";
    const bool ok = a->outcome == SM_OUTCOME_OK;
    const bool final =
        ok || a->outcome == SM_OUTCOME_FAILED || a->outcome == SM_OUTCOME_QUARANTINED;
    const bool missing = a->has_output && a->output.state == SM_OUTPUT_MISSING;
    sm_query query = {0};
    if (!final || !now->has_output || a->ended_ns < now->made_ns ||
        a->ended_ns < now->output_checked_ns)
        return SM_OK;
    sm_status st = sm_query_use(catalog, UPDATE, &query, err);
    if (st != SM_OK)
        return st;
    sm_query_text(&query, ok ? "good" : missing ? "missing" : "damaged");
    sm_query_int(&query, a->ended_ns);
    sm_query_int(&query, a->slide);
    st = sm_query_run(&query, err);
    if (st != SM_OK)
        return st;
    if (!ok && (now->state == SM_SLIDE_DONE || now->failed_output))
        return set_result(catalog, a, SM_SLIDE_FAILED, "output",
                          a->error != NULL ? a->error : "its output is damaged or missing", err);
    if (ok && now->failed_output) /* it was only not to be seen */
        return set_result(catalog, a, SM_SLIDE_DONE, NULL, NULL, err);
    return SM_OK;
}

static sm_status apply(sm_catalog *catalog, const sm_attempt_row *a, const slide_now *now,
                       int64_t brick, sm_error *err)
{
    const bool before_change = a->generation != 0 && a->generation < now->since_generation;
    if (a->kind == SM_ATTEMPT_CHECK_OUTPUT)
        return before_change ? SM_OK : apply_check(catalog, a, now, err);
    if (before_change)
        return count_on_slide(catalog, a->slide, err);
    sm_status st = SM_OK;
    switch (a->outcome) {
    case SM_OUTCOME_OK:
        return apply_ok(catalog, a, now, brick, err);
    case SM_OUTCOME_FAILED:
    case SM_OUTCOME_QUARANTINED:
        st = count_on_slide(catalog, a->slide, err);
        if (st == SM_OK && a->ended_ns >= now->last_ended_ns)
            st =
                set_result(catalog, a,
                           a->outcome == SM_OUTCOME_FAILED ? SM_SLIDE_FAILED : SM_SLIDE_QUARANTINED,
                           a->error_class != NULL ? a->error_class : "internal", a->error, err);
        return st;
    case SM_OUTCOME_RETRY:
    case SM_OUTCOME_ABANDONED:
    case SM_OUTCOME_LOST:
        return apply_unfinished(catalog, a, err);
    }
    return SM_OK;
}

sm_status sm_catalog_put_attempt(sm_catalog *catalog, const sm_attempt_row *attempt, bool *known,
                                 sm_error *err)
{
    slide_now now = {0};
    bool found = false;
    int64_t run = 0, brick = 0, out_brick = 0;
    *known = false;
    sm_status st = sm_catalog_begin_write(catalog, err);
    if (st != SM_OK)
        return st;
    const char *why = why_wrong(attempt);
    if (why != NULL)
        return sm_fail(err, SM_ERR_CORRUPT, "event '%.80s' makes no sense: %s",
                       attempt->event != NULL ? attempt->event : "", why);
    st = read_now(catalog, attempt->slide, &now, &found, err);
    if (st == SM_OK && !found)
        st = sm_fail(err, SM_ERR_CORRUPT, "event %.80s: slide %" PRId64 " is not in %s",
                     attempt->event, attempt->slide, catalog->path);
    if (st == SM_OK)
        st = sm_bricks_get(catalog, attempt->brick, &brick, err);
    if (st == SM_OK)
        st = sm_bricks_get(catalog, attempt->out_brick, &out_brick, err);
    if (st == SM_OK)
        st = get_run(catalog, attempt, &run, err);
    if (st == SM_OK)
        st = insert_attempt(catalog, attempt, run, brick, known, err);
    if (st != SM_OK || *known)
        return st;
    catalog->tallied = false;
    count_attempt(catalog, attempt, brick);
    st = sm_works_add(catalog, attempt, brick, out_brick, err);
    return st != SM_OK ? st : apply(catalog, attempt, &now, brick, err);
}

sm_status sm_catalog_lease(sm_catalog *catalog, int64_t slide, sm_error *err)
{
    static const char UPDATE[] =
        "UPDATE slide SET state = 'leased' WHERE id = ? AND state IN ('new', 'planned')";
    sm_query query = {0};
    sm_status st = sm_catalog_begin_write(catalog, err);
    if (st == SM_OK)
        st = sm_query_use(catalog, UPDATE, &query, err);
    if (st != SM_OK)
        return st;
    sm_query_int(&query, slide);
    catalog->tallied = false;
    return sm_query_run(&query, err);
}
