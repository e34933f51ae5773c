/* Tests of common/catalog_events.c and catalog_status.c: what events of journals do to slides, in
 * any order and any number, and how they are counted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/common/test_catalog_support.h"

static sm_status take_output(void *arg, const sm_output_row *output, sm_error *err)
{
    sm_output_row *row = arg;
    (void)err;
    *row = *output;
    row->path = NULL; /* lives only until the next row */
    return SM_OK;
}

static sm_output_row output_of(fixture *f, sm_catalog *catalog, int64_t slide)
{
    sm_output_row row = {0};
    SM_CHECK_OK(sm_catalog_outputs(catalog, slide, take_output, &row, &f->err), &f->err);
    return row;
}

static void each_outcome_sets_its_state(void **state)
{
    (void)state;
    static const struct {
        sm_attempt_kind kind;
        sm_outcome_kind outcome;
        sm_slide_state before, after;
    } CASES[] = {
        {SM_ATTEMPT_CONVERT, SM_OUTCOME_OK, SM_SLIDE_PLANNED, SM_SLIDE_DONE},
        {SM_ATTEMPT_CONVERT, SM_OUTCOME_OK, SM_SLIDE_LEASED, SM_SLIDE_DONE},
        {SM_ATTEMPT_CONVERT, SM_OUTCOME_FAILED, SM_SLIDE_PLANNED, SM_SLIDE_FAILED},
        {SM_ATTEMPT_CONVERT, SM_OUTCOME_QUARANTINED, SM_SLIDE_LEASED, SM_SLIDE_QUARANTINED},
        {SM_ATTEMPT_CONVERT, SM_OUTCOME_RETRY, SM_SLIDE_LEASED, SM_SLIDE_PLANNED},
        {SM_ATTEMPT_CONVERT, SM_OUTCOME_ABANDONED, SM_SLIDE_LEASED, SM_SLIDE_PLANNED},
        {SM_ATTEMPT_CONVERT, SM_OUTCOME_LOST, SM_SLIDE_PLANNED, SM_SLIDE_PLANNED},
        {SM_ATTEMPT_CONVERT, SM_OUTCOME_LOST, SM_SLIDE_NEW, SM_SLIDE_NEW},
        {SM_ATTEMPT_HASH, SM_OUTCOME_OK, SM_SLIDE_LEASED, SM_SLIDE_PLANNED},
        {SM_ATTEMPT_HASH, SM_OUTCOME_OK, SM_SLIDE_NEW, SM_SLIDE_NEW},
        {SM_ATTEMPT_HASH, SM_OUTCOME_QUARANTINED, SM_SLIDE_PLANNED, SM_SLIDE_QUARANTINED},
        {SM_ATTEMPT_CHECK_OUTPUT, SM_OUTCOME_FAILED, SM_SLIDE_PLANNED, SM_SLIDE_PLANNED},
    };
    fixture f;
    char event[96];
    fixture_start(&f);
    sm_catalog *catalog = fixture_create(&f);
    SM_CHECK_OK(sm_catalog_begin_plan(catalog, 1, &f.err), &f.err);
    for (unsigned i = 0; i < SM_COUNT(CASES); i++) {
        char path[16];
        snprintf(path, sizeof(path), "%u", i);
        const int64_t id = add_slide(&f, catalog, path);
        if (CASES[i].before != SM_SLIDE_NEW)
            SM_CHECK_OK(sm_catalog_assign(catalog, id, 0, &f.err), &f.err);
        if (CASES[i].before == SM_SLIDE_LEASED)
            SM_CHECK_OK(sm_catalog_lease(catalog, id, &f.err), &f.err);
        assert_int_equal(state_of(&f, catalog, id), CASES[i].before);
        sm_attempt_row attempt = make_attempt(event, RUN_A, i, id, CASES[i].outcome, 1);
        attempt.kind = CASES[i].kind;
        assert_false(put_attempt(&f, catalog, &attempt));
        const sm_slide_row row = get_slide(&f, catalog, id);
        if (row.state != CASES[i].after)
            fail_msg("case %u: %s", i, sm_slide_state_name(row.state));
        assert_int_equal(row.attempts, CASES[i].kind != SM_ATTEMPT_CHECK_OUTPUT);
        assert_int_equal(row.has_sha256, CASES[i].outcome == SM_OUTCOME_OK);
        assert_int_equal(row.checked_ns != 0, CASES[i].outcome == SM_OUTCOME_OK);
        SM_CHECK_OK(sm_catalog_lease(catalog, id, &f.err), &f.err); /* of final ones: nothing */
        assert_int_equal(state_of(&f, catalog, id),
                         CASES[i].after < SM_SLIDE_DONE ? SM_SLIDE_LEASED : CASES[i].after);
    }
    sm_catalog_close(&catalog);
    fixture_end(&f);
}

static void an_ok_teaches_everything(void **state)
{
    (void)state;
    fixture f;
    char event[96];
    fixture_start(&f);
    sm_catalog *catalog = fixture_create(&f);
    const int64_t id = put_slide(&f, catalog,
                                 &(sm_slide_row){.path = "a.svs",
                                                 .size_bytes = SM_NO_SIZE,
                                                 .digest_origin = SM_DIGEST_GIVEN,
                                                 .digest = digest_of(SM_DIGEST_MD5, 4),
                                                 .present = true});
    sm_attempt_row attempt = make_attempt(event, RUN_A, 1, id, SM_OUTCOME_OK, 9);
    attempt.source_digests[1] = digest_of(SM_DIGEST_MD5, 4);
    attempt.n_source_digests = 2;
    attempt.vendor = "aperio";
    attempt.brick = "h:/1";
    attempt.w_px = 7;
    attempt.h_px = 8;
    attempt.mpp = 0.5;
    attempt.objective = 20;
    put_attempt(&f, catalog, &attempt);
    fixture_commit(&f, &catalog);
    catalog = fixture_open(&f);
    const sm_slide_row row = get_slide(&f, catalog, id);
    assert_int_equal(row.size_bytes, 1000);
    assert_int_equal(row.digest_origin, SM_DIGEST_GIVEN);
    assert_int_equal(row.digest.kind, SM_DIGEST_MD5);
    const sm_digest want = sha(9);
    assert_true(row.has_sha256 && sm_digest_equal(&row.sha256, &want));
    assert_string_equal(row.vendor, "aperio");
    assert_string_equal(row.brick, "h:/1");
    assert_true(row.w_px == 7 && row.h_px == 8 && row.mpp == 0.5 && row.objective == 20);
    assert_int_equal(row.checked_ns, 2001);
    const sm_output_row output = output_of(&f, catalog, id);
    assert_int_equal(output.size_bytes, 500);
    assert_true(sm_digest_equal(&output.source_sha256, &want));
    assert_int_equal(output.state, SM_OUTPUT_GOOD);
    assert_int_equal(output.checked_ns, 2001);
    sm_catalog_close(&catalog);
    fixture_end(&f);
}

static void an_event_counts_once(void **state)
{
    (void)state;
    fixture f;
    char event[96];
    fixture_start(&f);
    sm_catalog *catalog = fixture_create(&f);
    const int64_t id = add_slide(&f, catalog, "a.svs");
    sm_attempt_row attempt = make_attempt(event, RUN_A, 1, id, SM_OUTCOME_FAILED, 1);
    assert_false(put_attempt(&f, catalog, &attempt));
    assert_true(put_attempt(&f, catalog, &attempt));
    sm_attempt_row forged = make_attempt(event, RUN_A, 1, id, SM_OUTCOME_OK, 1);
    assert_true(put_attempt(&f, catalog, &forged)); /* the first of an id is believed */
    fixture_commit(&f, &catalog);
    catalog = fixture_change(&f);
    attempt = make_attempt(event, RUN_A, 1, id, SM_OUTCOME_FAILED, 1);
    assert_true(put_attempt(&f, catalog, &attempt));
    assert_int_equal(get_slide(&f, catalog, id).attempts, 1);
    assert_int_equal(state_of(&f, catalog, id), SM_SLIDE_FAILED);
    assert_string_equal(get_slide(&f, catalog, id).error, "a.svs: is no slide");
    sm_catalog_close(&catalog);
    fixture_end(&f);
}

/* Every order of these four events must end alike. */
static void the_order_of_events_makes_no_difference(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        sm_outcome_kind outcomes[4]; /* by time */
        sm_slide_state after;
        bool has_output;
    } CASES[] = {
        {"ok last",
         {SM_OUTCOME_FAILED, SM_OUTCOME_LOST, SM_OUTCOME_RETRY, SM_OUTCOME_OK},
         SM_SLIDE_DONE,
         true},
        {"failed after ok",
         {SM_OUTCOME_OK, SM_OUTCOME_LOST, SM_OUTCOME_FAILED, SM_OUTCOME_ABANDONED},
         SM_SLIDE_FAILED,
         true},
        {"never finished",
         {SM_OUTCOME_LOST, SM_OUTCOME_RETRY, SM_OUTCOME_ABANDONED, SM_OUTCOME_LOST},
         SM_SLIDE_NEW,
         false},
        {"lost after ok",
         {SM_OUTCOME_RETRY, SM_OUTCOME_OK, SM_OUTCOME_OK, SM_OUTCOME_LOST},
         SM_SLIDE_DONE,
         true},
    };
    fixture f;
    char event[96];
    fixture_start(&f);
    sm_catalog *catalog = fixture_create(&f);
    unsigned seq = 0;
    for (unsigned c = 0; c < SM_COUNT(CASES); c++) {
        for (unsigned order = 0; order < 256; order++) {
            unsigned turn[4], used = 0;
            for (unsigned i = 0; i < 4; i++) {
                turn[i] = order >> 2 * i & 3;
                used |= 1u << turn[i];
            }
            if (used != 15)
                continue; /* no permutation */
            char path[32];
            snprintf(path, sizeof(path), "%u/%u", c, order);
            const int64_t id = add_slide(&f, catalog, path);
            for (unsigned i = 0; i < 4; i++) {
                const sm_outcome_kind outcome = CASES[c].outcomes[turn[i]];
                sm_attempt_row attempt = make_attempt(event, RUN_A, seq++, id, outcome, 1);
                attempt.began_ns = 1000 * turn[i] + 1;
                attempt.ended_ns = 1000 * turn[i] + 900;
                attempt.output.size_bytes = turn[i];
                put_attempt(&f, catalog, &attempt);
            }
            const sm_slide_row row = get_slide(&f, catalog, id);
            if (row.state != CASES[c].after || row.attempts != 4)
                fail_msg("%s, order %u: %s", CASES[c].name, order, sm_slide_state_name(row.state));
            unsigned last_ok = 0;
            for (unsigned i = 0; i < 4; i++)
                last_ok = CASES[c].outcomes[i] == SM_OUTCOME_OK ? i : last_ok;
            const sm_output_row output = output_of(&f, catalog, id);
            if ((output.slide != 0) != CASES[c].has_output || output.size_bytes != last_ok)
                fail_msg("%s, order %u: output of event %d", CASES[c].name, order,
                         (int)output.size_bytes);
        }
    }
    sm_catalog_close(&catalog);
    fixture_end(&f);
}

static void another_digest_quarantines(void **state)
{
    (void)state;
    fixture f;
    char event[96];
    fixture_start(&f);
    sm_catalog *catalog = fixture_create(&f);
    const int64_t given = put_slide(&f, catalog,
                                    &(sm_slide_row){.path = "a",
                                                    .size_bytes = SM_NO_SIZE,
                                                    .digest_origin = SM_DIGEST_GIVEN,
                                                    .digest = sha(1)}),
                  learned = add_slide(&f, catalog, "b");
    sm_attempt_row attempt = make_attempt(event, RUN_A, 1, given, SM_OUTCOME_OK, 2);
    put_attempt(&f, catalog, &attempt);
    sm_slide_row row = get_slide(&f, catalog, given);
    assert_int_equal(row.state, SM_SLIDE_QUARANTINED);
    assert_non_null(strstr(row.error, "0202"));
    assert_non_null(strstr(row.error, "0101"));
    assert_int_equal(output_of(&f, catalog, given).slide, 0);
    attempt = make_attempt(event, RUN_A, 2, learned, SM_OUTCOME_OK, 1);
    attempt.kind = SM_ATTEMPT_HASH;
    put_attempt(&f, catalog, &attempt);
    attempt = make_attempt(event, RUN_A, 3, learned, SM_OUTCOME_OK, 2);
    attempt.kind = SM_ATTEMPT_HASH;
    put_attempt(&f, catalog, &attempt);
    row = get_slide(&f, catalog, learned);
    assert_int_equal(row.state, SM_SLIDE_QUARANTINED);
    const sm_digest first = sha(1);
    assert_true(sm_digest_equal(&row.sha256, &first)); /* the evidence stays */
    sm_catalog_close(&catalog);
    fixture_end(&f);
}

static void results_from_before_a_change_do_not_count(void **state)
{
    (void)state;
    fixture f;
    char event[96];
    fixture_start(&f);
    sm_catalog *catalog = fixture_create(&f);
    const int64_t changed = add_slide(&f, catalog, "a"), retried = add_slide(&f, catalog, "b"),
                  resized = add_slide(&f, catalog, "c");
    sm_attempt_row attempt = make_attempt(event, RUN_A, 1, retried, SM_OUTCOME_FAILED, 1);
    put_attempt(&f, catalog, &attempt);
    fixture_commit(&f, &catalog);
    catalog = fixture_change(&f); /* makes generation 2 */
    uint64_t n = 0;
    SM_CHECK_OK(sm_catalog_changed(catalog, changed, 1000, 8, &f.err), &f.err);
    SM_CHECK_OK(sm_catalog_retry(catalog, &(sm_slide_filter){0}, &n, &f.err), &f.err);
    assert_int_equal(n, 1);
    fixture_commit(&f, &catalog);
    catalog = fixture_change(&f);
    attempt = make_attempt(event, RUN_A, 2, changed, SM_OUTCOME_OK, 1);
    attempt.generation = 1;
    put_attempt(&f, catalog, &attempt);
    assert_int_equal(state_of(&f, catalog, changed), SM_SLIDE_NEW);
    assert_int_equal(get_slide(&f, catalog, changed).digest_origin, SM_DIGEST_UNKNOWN);
    assert_int_equal(get_slide(&f, catalog, changed).attempts, 1);
    attempt = make_attempt(event, RUN_A, 3, retried, SM_OUTCOME_FAILED, 1);
    attempt.generation = 1;
    put_attempt(&f, catalog, &attempt);
    assert_int_equal(state_of(&f, catalog, retried), SM_SLIDE_NEW);
    attempt = make_attempt(event, RUN_A, 4, retried, SM_OUTCOME_FAILED, 1);
    attempt.generation = 2;
    put_attempt(&f, catalog, &attempt);
    assert_int_equal(state_of(&f, catalog, retried), SM_SLIDE_FAILED);
    attempt = make_attempt(event, RUN_A, 5, resized, SM_OUTCOME_OK, 1);
    attempt.source_bytes = 999;
    put_attempt(&f, catalog, &attempt);
    assert_int_equal(state_of(&f, catalog, resized), SM_SLIDE_NEW);
    sm_catalog_close(&catalog);
    fixture_end(&f);
}

static void checks_of_outputs_are_noted(void **state)
{
    (void)state;
    fixture f;
    char event[96];
    fixture_start(&f);
    sm_catalog *catalog = fixture_create(&f);
    const int64_t id = add_slide(&f, catalog, "a");
    sm_attempt_row attempt = make_attempt(event, RUN_A, 10, id, SM_OUTCOME_OK, 1);
    put_attempt(&f, catalog, &attempt);
    attempt = make_attempt(event, RUN_A, 9, id, SM_OUTCOME_FAILED, 1); /* before it was made */
    attempt.kind = SM_ATTEMPT_CHECK_OUTPUT;
    put_attempt(&f, catalog, &attempt);
    assert_int_equal(output_of(&f, catalog, id).state, SM_OUTPUT_GOOD);
    attempt = make_attempt(event, RUN_A, 11, id, SM_OUTCOME_RETRY, 1);
    attempt.kind = SM_ATTEMPT_CHECK_OUTPUT;
    put_attempt(&f, catalog, &attempt);
    assert_int_equal(state_of(&f, catalog, id), SM_SLIDE_DONE);
    attempt = make_attempt(event, RUN_A, 12, id, SM_OUTCOME_FAILED, 1);
    attempt.kind = SM_ATTEMPT_CHECK_OUTPUT;
    put_attempt(&f, catalog, &attempt);
    assert_int_equal(output_of(&f, catalog, id).state, SM_OUTPUT_DAMAGED);
    assert_int_equal(state_of(&f, catalog, id), SM_SLIDE_FAILED);
    assert_string_equal(get_slide(&f, catalog, id).error_class, "output");
    attempt = make_attempt(event, RUN_A, 13, id, SM_OUTCOME_FAILED, 1);
    attempt.kind = SM_ATTEMPT_CHECK_OUTPUT;
    attempt.has_output = true;
    attempt.output = (sm_output_row){.state = SM_OUTPUT_MISSING};
    put_attempt(&f, catalog, &attempt);
    assert_int_equal(output_of(&f, catalog, id).state, SM_OUTPUT_MISSING);
    attempt = make_attempt(event, RUN_A, 14, id, SM_OUTCOME_OK, 1);
    attempt.kind = SM_ATTEMPT_CHECK_OUTPUT;
    put_attempt(&f, catalog, &attempt);
    assert_int_equal(output_of(&f, catalog, id).state, SM_OUTPUT_GOOD);
    assert_int_equal(output_of(&f, catalog, id).checked_ns, 2014);
    assert_int_equal(state_of(&f, catalog, id), SM_SLIDE_DONE);
    sm_catalog_close(&catalog);
    fixture_end(&f);
}

static void senseless_events_change_nothing(void **state)
{
    (void)state;
    fixture f;
    char event[96];
    fixture_start(&f);
    sm_catalog *catalog = fixture_create(&f);
    const int64_t id = add_slide(&f, catalog, "a");
    const sm_attempt_row good = make_attempt(event, RUN_A, 1, id, SM_OUTCOME_OK, 1);
    sm_attempt_row cases[20];
    size_t n = 0;
    for (size_t i = 0; i < SM_COUNT(cases); i++)
        cases[i] = good;
    cases[n++].slide = 99;
    cases[n++].event = NULL;
    cases[n++].event = RUN_B ".3.1"; /* not of its run */
    cases[n++].event = RUN_A ".4.1"; /* not of its rank */
    cases[n++].event = RUN_A ".3.";
    cases[n++].event = RUN_A ".3.-1";
    cases[n++].event = RUN_A ".3.99999999999999999999";
    cases[n++].event = RUN_A ".3.1x";
    cases[n++].run = "x";
    cases[n++].ended_ns = 1;
    cases[n++].outcome = (sm_outcome_kind)77;
    cases[n++].kind = (sm_attempt_kind)77;
    cases[n++].has_output = false;
    cases[n++].output.path = "../x";
    cases[n++].output.size_bytes = UINT64_MAX;
    cases[n++].output.sha256.kind = SM_DIGEST_MD5;
    cases[n++].n_source_digests = 0;
    cases[n++].n_source_digests = 3;
    cases[n++].phase_ns[2] = UINT64_MAX;
    cases[n++].mpp = -1;
    assert_int_equal(n, SM_COUNT(cases));
    for (size_t i = 0; i < n; i++) {
        bool known = false;
        if (sm_catalog_put_attempt(catalog, &cases[i], &known, &f.err) != SM_ERR_CORRUPT)
            fail_msg("case %zu was taken", i);
    }
    assert_int_equal(state_of(&f, catalog, id), SM_SLIDE_NEW);
    assert_int_equal(get_slide(&f, catalog, id).attempts, 0);
    assert_false(put_attempt(&f, catalog, &good)); /* and the catalog still takes good ones */
    fixture_commit(&f, &catalog);
    fixture_end(&f);
}

static void runs_are_known_once(void **state)
{
    (void)state;
    fixture f;
    fixture_start(&f);
    sm_catalog *catalog = fixture_create(&f);
    const sm_run_row head = {.run = RUN_A,
                             .rank = 3,
                             .host = "n1",
                             .command = "ingest",
                             .version = "1",
                             .plan = 1,
                             .shard = SM_NO_SHARD,
                             .began_ns = 5};
    sm_run_row end = head, bad = head;
    end.host = "other";
    end.ended_ns = 9;
    bad.run = "no uuid";
    SM_CHECK_OK(sm_catalog_put_run(catalog, &head, &f.err), &f.err);
    SM_CHECK_OK(sm_catalog_put_run(catalog, &end, &f.err), &f.err);
    SM_CHECK_OK(sm_catalog_put_run(catalog, &head, &f.err), &f.err);
    assert_int_equal(sm_catalog_put_run(catalog, &bad, &f.err), SM_ERR_CORRUPT);
    sm_catalog_summary summary;
    SM_CHECK_OK(sm_catalog_summarize(catalog, &summary, &f.err), &f.err);
    assert_int_equal(summary.n_runs, 1);
    sm_catalog_summary_clear(&summary);
    sm_catalog_close(&catalog);
    fixture_end(&f);
}

/* ---- the summary ---- */

static void fill_for_summary(fixture *f, sm_catalog *catalog)
{
    char event[96];
    for (unsigned i = 0; i < 6; i++) {
        char path[32];
        snprintf(path, sizeof(path), "a\033[31m/%u.svs", i + 1);
        put_slide(f, catalog,
                  &(sm_slide_row){.path = path,
                                  .size_bytes = 1000,
                                  .brick = i < 3   ? "h:/1"
                                           : i < 5 ? "h:/2"
                                                   : NULL,
                                  .present = i != 3});
    }
    const sm_part_row part = {.path = "p", .size_bytes = 50};
    SM_CHECK_OK(sm_catalog_set_parts(catalog, 1, &part, 1, &f->err), &f->err);
    static const sm_outcome_kind OUTCOMES[] = {SM_OUTCOME_OK, SM_OUTCOME_FAILED, SM_OUTCOME_FAILED,
                                               SM_OUTCOME_QUARANTINED};
    for (unsigned i = 0; i < 4; i++) {
        sm_attempt_row attempt = make_attempt(event, RUN_A, i, i + 1, OUTCOMES[i], 1);
        attempt.brick = "h:/1";
        attempt.phase_ns[SM_PHASE_MILL] = 10;
        attempt.stage_ns[SM_STAGE_ENCODE] = 7;
        attempt.stage_ns[SM_STAGE_READ] = 3;
        attempt.cpu_ns = 9;
        attempt.measured_bytes = i < 2 ? 500 : 0;
        attempt.measured_ns = i < 2 ? 2 : 0;
        attempt.out_brick = "h:/2";
        attempt.bytes_out = 20;
        if (i == 3)
            attempt.brick = NULL;
        put_attempt(f, catalog, &attempt);
    }
}

static void check_summary(const sm_catalog_summary *s)
{
    assert_int_equal(s->n, 6);
    assert_int_equal(s->bytes, 6050);
    assert_int_equal(s->n_missing, 1);
    assert_int_equal(s->n_unchecked, 5);
    assert_int_equal(s->states[SM_SLIDE_NEW].n, 2);
    assert_int_equal(s->states[SM_SLIDE_DONE].bytes, 1050);
    assert_int_equal(s->states[SM_SLIDE_FAILED].n, 2);
    assert_int_equal(s->states[SM_SLIDE_QUARANTINED].n, 1);
    assert_int_equal(s->n_outputs, 1);
    assert_int_equal(s->output_bytes, 500);
    assert_int_equal(s->n_attempts, 4);
    assert_int_equal(s->n_runs, 1);
    assert_int_equal(s->first_began_ns, 1000);
    assert_int_equal(s->last_ended_ns, 2003);
    assert_int_equal(s->n_classes, 2);
    assert_string_equal(s->classes[0].name, "format");
    assert_int_equal(s->classes[0].n, 2);
    assert_string_equal(s->classes[0].example_path, "a?[31m/2.svs");
    assert_string_equal(s->classes[0].example, "a.svs: is no slide");
    assert_string_equal(s->classes[1].name, "digest");
    assert_int_equal(s->n_bricks, 2);
    assert_string_equal(s->bricks[0].name, "h:/1");
    assert_true(s->bricks[0].n == 3 && s->bricks[0].n_done == 1 && s->bricks[0].n_failed == 2);
    assert_true(s->bricks[0].read_bytes == 3000 && s->bricks[0].read_ns == 30);
    assert_true(s->bricks[0].flow.reads == 2 && s->bricks[0].flow.read_bytes == 1000 &&
                s->bricks[0].flow.read_ns == 4 && s->bricks[0].flow.writes == 0);
    assert_true(s->bricks[1].flow.writes == 4 && s->bricks[1].flow.write_bytes == 80 &&
                s->bricks[1].flow.write_ns == 40);
    assert_true(s->bricks[0].stage_ns[SM_STAGE_ENCODE] == 21 &&
                s->bricks[1].stage_ns[SM_STAGE_ENCODE] == 0);
    const sm_status_work *work = &s->work[SM_ATTEMPT_CONVERT];
    assert_true(work->attempts == 4 && work->cpu_ns == 36 && work->bytes_out == 80);
    assert_true(work->stage_ns[SM_STAGE_ENCODE] == 28 && work->stage_ns[SM_STAGE_READ] == 12);
    assert_true(s->bricks[1].n == 2 && s->bricks[1].n_missing == 1 && s->bricks[1].n_failed == 1);
}

static void the_summary_counts_before_and_after_a_commit(void **state)
{
    (void)state;
    fixture f;
    fixture_start(&f);
    sm_catalog *catalog = fixture_create(&f);
    sm_catalog_summary summary;
    SM_CHECK_OK(sm_catalog_summarize(catalog, &summary, &f.err), &f.err);
    assert_true(summary.n == 0 && summary.n_bricks == 0 && summary.n_classes == 0);
    sm_catalog_summary_clear(&summary);
    fill_for_summary(&f, catalog);
    SM_CHECK_OK(sm_catalog_summarize(catalog, &summary, &f.err), &f.err);
    check_summary(&summary);
    sm_catalog_summary_clear(&summary);
    fixture_commit(&f, &catalog);
    catalog = fixture_open(&f);
    SM_CHECK_OK(sm_catalog_summarize(catalog, &summary, &f.err), &f.err);
    check_summary(&summary);
    assert_int_equal(summary.generation, 1);
    sm_catalog_summary_clear(&summary);
    sm_catalog_summary_clear(&summary); /* twice is fine */
    sm_catalog_close(&catalog);
    fixture_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_outcome_sets_its_state),
        cmocka_unit_test(an_ok_teaches_everything),
        cmocka_unit_test(an_event_counts_once),
        cmocka_unit_test(the_order_of_events_makes_no_difference),
        cmocka_unit_test(another_digest_quarantines),
        cmocka_unit_test(results_from_before_a_change_do_not_count),
        cmocka_unit_test(checks_of_outputs_are_noted),
        cmocka_unit_test(senseless_events_change_nothing),
        cmocka_unit_test(runs_are_known_once),
        cmocka_unit_test(the_summary_counts_before_and_after_a_commit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
