/* Tests of ingest/merge.c: any journals, any number of times, one result. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <utime.h>

#include "common/digest.h"
#include "ingest/journal.h"
#include "ingest/merge.h"
#include "tests/support/check.h"
#include "tests/support/tmpdir.h"

#define RUN "f0e0d0c0b0a090807060504030201000"
#define OTHER_RUN "f0e0d0c0b0a090807060504030201001"

enum { SLIDES = 8 };

static const sm_generation_config CONFIG = {.what = "test", .wait_s = 5};

typedef struct fixture {
    sm_tmpdir dir;
    sm_tmppath catalog;
    char uuid[SM_UUID_CAP];
    char said[8192]; /* lines of the last merge */
    sm_merge_result result;
} fixture;

/* A catalog of slides 1..SLIDES, each of 100 bytes. */
static fixture fixture_make(void)
{
    fixture f = {.dir = sm_tmpdir_make()};
    sm_error err = SM_ERROR_INIT;
    sm_catalog *catalog = NULL;
    f.catalog = sm_tmpdir_file(&f.dir, "c.smc");
    SM_CHECK_OK(sm_catalog_create(f.catalog.path, f.dir.path, &CONFIG, &catalog, &err), &err);
    for (int64_t i = 1; i <= SLIDES; i++) {
        char path[32];
        int64_t id = 0;
        bool added = false;
        snprintf(path, sizeof path, "slide%" PRId64 ".svs", i);
        const sm_slide_row row = {.path = path, .size_bytes = 100, .mtime_ns = 5, .present = true};
        SM_CHECK_OK(sm_catalog_put(catalog, &row, &id, &added, &err), &err);
        assert_true(added && id == i);
    }
    memcpy(f.uuid, sm_catalog_uuid(catalog), sizeof f.uuid);
    SM_CHECK_OK(sm_catalog_commit(&catalog, &err), &err);
    return f;
}

static void fixture_free(fixture *f)
{
    sm_tmpdir_remove(&f->dir);
}

static void remember(void *arg, const char *line)
{
    fixture *f = arg;
    const size_t len = strlen(f->said);
    snprintf(f->said + len, sizeof f->said - len, "%s\n", line);
}

static void merge(fixture *f, const char *const *extra, size_t n_extra)
{
    sm_error err = SM_ERROR_INIT;
    f->said[0] = '\0';
    SM_CHECK_OK(sm_merge(f->catalog.path, &CONFIG, extra, n_extra, remember, f, &f->result, &err),
                &err);
}

static sm_slide_row slide_of(const fixture *f, int64_t id)
{
    sm_error err = SM_ERROR_INIT;
    sm_catalog *catalog = NULL;
    sm_slide_row row;
    bool found = false;
    SM_CHECK_OK(sm_catalog_open(f->catalog.path, &catalog, &err), &err);
    SM_CHECK_OK(sm_catalog_get(catalog, id, &row, &found, &err), &err);
    assert_true(found);
    sm_catalog_close(&catalog);
    row.path = row.error = row.error_class = row.vendor = row.brick = row.external_id = NULL;
    return row;
}

static sm_slide_state state_of(const fixture *f, int64_t id)
{
    return slide_of(f, id).state;
}

static sm_catalog_summary summary_of(const fixture *f)
{
    sm_error err = SM_ERROR_INIT;
    sm_catalog *catalog = NULL;
    sm_catalog_summary summary = {0};
    SM_CHECK_OK(sm_catalog_open(f->catalog.path, &catalog, &err), &err);
    SM_CHECK_OK(sm_catalog_summarize(catalog, &summary, &err), &err);
    sm_catalog_close(&catalog);
    sm_catalog_summary numbers = summary;
    sm_catalog_summary_clear(&summary);
    numbers.classes = NULL;
    numbers.bricks = NULL;
    return numbers;
}

/* ---- journals ---- */

static sm_journal_head head_of(const fixture *f, const char *run, uint32_t rank)
{
    sm_journal_head head = {
        .rank = rank,
        .shard = SM_NO_SHARD,
        .generation = 1,
        .kind = SM_ATTEMPT_CONVERT,
        .host = "node1",
        .command = "ingest",
        .version = "1",
        .target_dir = "/mnt/out",
        .target_options = "--quality 85",
        .began_ns = INT64_C(1764000000123456789),
    };
    memcpy(head.catalog, f->uuid, sizeof head.catalog);
    memcpy(head.run, run, sizeof head.run);
    return head;
}

static sm_journal *journal_make(const fixture *f, const char *run, uint32_t rank)
{
    const sm_journal_head head = head_of(f, run, rank);
    sm_error err = SM_ERROR_INIT;
    sm_journal *journal = NULL;
    SM_CHECK_OK(sm_journal_create(f->catalog.path, &head, &journal, &err), &err);
    return journal;
}

static void tell_begin(sm_journal *journal, int64_t slide)
{
    sm_error err = SM_ERROR_INIT;
    SM_CHECK_OK(sm_journal_begin(journal, slide, "x.svs", 1, &err), &err);
}

static sm_digest sha_of(uint8_t byte)
{
    sm_digest digest = {.kind = SM_DIGEST_SHA256, .len = 32};
    memset(digest.bytes, byte, 32);
    return digest;
}

static sm_outcome outcome_of(int64_t slide, sm_outcome_kind kind, char out_path[32])
{
    sm_outcome o = {.kind = SM_ATTEMPT_CONVERT,
                    .outcome = kind,
                    .slide = slide,
                    .began_ns = INT64_C(1764000000200000000),
                    .ended_ns = INT64_C(1764000000300000000)};
    if (kind == SM_OUTCOME_OK) {
        snprintf(out_path, 32, "slide%" PRId64 ".ome.tiff", slide);
        o.has_source = o.has_output = true;
        o.source_bytes = 100;
        o.n_source_digests = 1;
        o.source_digests[0] = sha_of((uint8_t)slide);
        o.out_path = out_path;
        o.out_bytes = 50;
        o.out_sha256 = sha_of(99);
    } else if (kind != SM_OUTCOME_ABANDONED) {
        snprintf(o.error_class, sizeof o.error_class, "%s", SM_CLASS_IO);
        snprintf(o.error, sizeof o.error, "the disk said no");
    }
    return o;
}

static void tell_end(sm_journal *journal, int64_t slide, sm_outcome_kind kind)
{
    sm_error err = SM_ERROR_INIT;
    char out_path[32];
    const sm_outcome outcome = outcome_of(slide, kind, out_path);
    SM_CHECK_OK(sm_journal_end(journal, &outcome, &err), &err);
}

static sm_tmppath journal_close(sm_journal **journal)
{
    sm_error err = SM_ERROR_INIT;
    sm_tmppath file;
    snprintf(file.path, sizeof file.path, "%s", sm_journal_path(*journal));
    SM_CHECK_OK(sm_journal_finish(journal, &err), &err);
    return file;
}

/* Slides first..last done, in a finished journal. */
static sm_tmppath journal_of_done(const fixture *f, const char *run, int64_t first, int64_t last)
{
    sm_journal *journal = journal_make(f, run, 0);
    for (int64_t slide = first; slide <= last; slide++) {
        tell_begin(journal, slide);
        tell_end(journal, slide, SM_OUTCOME_OK);
    }
    return journal_close(&journal);
}

static sm_tmppath file_of(const fixture *f, const char *name)
{
    return sm_tmpdir_file(&f->dir, name);
}

static void copy_file(const char *from, const char *to)
{
    size_t len = 0;
    uint8_t *bytes = sm_file_read(from, &len);
    sm_file_write(to, bytes, len);
    free(bytes);
}

static void check_said(const fixture *f, const char *text)
{
    if (strstr(f->said, text) == NULL)
        fail_msg("'%s' was not said, but: %s", text, f->said);
}

/* ---- tests ---- */

static void events_become_states(void **state)
{
    (void)state;
    fixture f = fixture_make();
    sm_journal *journal = journal_make(&f, RUN, 0);
    static const sm_outcome_kind KINDS[] = {SM_OUTCOME_OK, SM_OUTCOME_FAILED, SM_OUTCOME_RETRY,
                                            SM_OUTCOME_QUARANTINED, SM_OUTCOME_ABANDONED};
    for (size_t i = 0; i < SM_COUNT(KINDS); i++) {
        tell_begin(journal, (int64_t)i + 1);
        tell_end(journal, (int64_t)i + 1, KINDS[i]);
    }
    const sm_tmppath file = journal_close(&journal);
    merge(&f, NULL, 0);
    assert_true(f.result.changed && f.result.generation == 2);
    assert_true(f.result.n_journals == 1 && f.result.n_live == 0);
    assert_true(f.result.n_events == 5 && f.result.n_new_events == 5 && f.result.n_lost == 0);
    assert_string_equal(f.said, "");
    assert_int_equal(state_of(&f, 1), SM_SLIDE_DONE);
    assert_int_equal(state_of(&f, 2), SM_SLIDE_FAILED);
    assert_int_equal(state_of(&f, 3), SM_SLIDE_NEW);
    assert_int_equal(state_of(&f, 4), SM_SLIDE_QUARANTINED);
    assert_int_equal(state_of(&f, 5), SM_SLIDE_NEW);
    const sm_slide_row done = slide_of(&f, 1);
    const sm_digest want = sha_of(1);
    assert_true(done.digest_origin == SM_DIGEST_LEARNED && sm_digest_equal(&done.digest, &want));
    const sm_catalog_summary summary = summary_of(&f);
    assert_true(summary.n_attempts == 5 && summary.n_runs == 1 && summary.n_outputs == 1);
    assert_int_not_equal(access(file.path, F_OK), 0); /* retired */
    assert_int_equal(sm_tmpdir_count(file_of(&f, "c.smc.d/journal/merged").path), 1);
    merge(&f, NULL, 0);
    assert_true(!f.result.changed && f.result.generation == 2 && f.result.n_journals == 0);
    fixture_free(&f);
}

static void target_is_that_of_the_first_conversion(void **state)
{
    (void)state;
    fixture f = fixture_make();
    sm_error err = SM_ERROR_INIT;
    sm_catalog *catalog = NULL;
    sm_target target;
    sm_journal *journal = NULL;
    sm_journal_head other = head_of(&f, OTHER_RUN, 0);
    other.began_ns++; /* later, whatever its name */
    memcpy(other.target_dir, "/elsewhere", 11);
    other.shard = 0;
    SM_CHECK_OK(sm_journal_create(f.catalog.path, &other, &journal, &err), &err);
    tell_begin(journal, 3);
    tell_end(journal, 3, SM_OUTCOME_OK);
    const sm_tmppath foreign = journal_close(&journal);
    (void)journal_of_done(&f, RUN, 1, 2);
    merge(&f, NULL, 0);
    assert_true(f.result.n_foreign == 1 && f.result.n_new_events == 2);
    check_said(&f, "/elsewhere");
    assert_int_equal(access(foreign.path, F_OK), 0); /* kept */
    assert_int_equal(state_of(&f, 3), SM_SLIDE_NEW);
    SM_CHECK_OK(sm_catalog_open(f.catalog.path, &catalog, &err), &err);
    assert_true(sm_catalog_target(catalog, &target));
    assert_string_equal(target.dir, "/mnt/out");
    assert_string_equal(target.options, "--quality 85");
    sm_catalog_close(&catalog);
    merge(&f, NULL, 0);
    assert_true(!f.result.changed && f.result.n_foreign == 1);
    fixture_free(&f);
}

static void copies_of_a_journal_change_nothing(void **state)
{
    (void)state;
    fixture f = fixture_make();
    const sm_tmppath file = journal_of_done(&f, RUN, 1, 3);
    const sm_tmppath twin = file_of(&f, "c.smc.d/journal/all/zz-copy.jsonl");
    copy_file(file.path, twin.path);
    merge(&f, NULL, 0);
    assert_true(f.result.n_events == 3 && f.result.n_new_events == 3 && f.result.n_bad_lines == 0);
    assert_int_equal(summary_of(&f).n_attempts, 3);
    /* as a merge that was killed before it could retire what it had folded in */
    copy_file(file_of(&f, "c.smc.d/journal/merged/" RUN "-r0000-00.jsonl").path, file.path);
    merge(&f, NULL, 0);
    assert_true(!f.result.changed && f.result.n_new_events == 0 && f.result.generation == 2);
    assert_int_not_equal(access(file.path, F_OK), 0);
    assert_int_equal(summary_of(&f).n_attempts, 3);
    fixture_free(&f);
}

static void begun_slides_are_leased_while_their_rank_lives(void **state)
{
    (void)state;
    fixture f = fixture_make();
    sm_journal *journal = journal_make(&f, RUN, 0);
    tell_begin(journal, 1);
    tell_end(journal, 1, SM_OUTCOME_RETRY);
    tell_begin(journal, 1);
    tell_begin(journal, 2);
    merge(&f, NULL, 0);
    assert_true(f.result.n_live == 1 && f.result.n_lost == 0 && f.result.changed);
    assert_int_equal(state_of(&f, 1), SM_SLIDE_LEASED);
    assert_int_equal(state_of(&f, 2), SM_SLIDE_LEASED);
    merge(&f, NULL, 0);
    assert_false(f.result.changed);
    tell_end(journal, 1, SM_OUTCOME_OK);
    sm_journal_abandon(&journal); /* as if it were killed */
    merge(&f, NULL, 0);
    assert_true(f.result.n_live == 0 && f.result.n_lost == 1 && f.result.n_new_events == 1);
    assert_int_equal(state_of(&f, 1), SM_SLIDE_DONE);
    assert_int_equal(state_of(&f, 2), SM_SLIDE_NEW);
    assert_int_equal(summary_of(&f).n_attempts, 3); /* retry, ok, lost */
    merge(&f, NULL, 0);
    assert_true(!f.result.changed && f.result.n_lost == 0 && f.result.n_journals == 1);
    fixture_free(&f);
}

/* The lock of a writer that lives can be dropped: what it writes later still counts. */
static void the_dead_may_speak_again(void **state)
{
    (void)state;
    fixture f = fixture_make();
    sm_journal *journal = journal_make(&f, RUN, 0);
    tell_begin(journal, 1);
    const sm_tmppath file = file_of(&f, "c.smc.d/journal/all/" RUN "-r0000-00.jsonl");
    sm_journal_abandon(&journal);
    merge(&f, NULL, 0);
    assert_int_equal(f.result.n_lost, 1);
    assert_int_equal(access(file.path, F_OK), 0);
    /* the same journal with more lines */
    fixture elsewhere = f;
    elsewhere.dir = sm_tmpdir_make();
    elsewhere.catalog = file_of(&elsewhere, "c.smc");
    assert_int_equal(mkdir(file_of(&elsewhere, "c.smc.d").path, 0777), 0);
    journal = journal_make(&elsewhere, RUN, 0);
    tell_begin(journal, 1);
    tell_end(journal, 1, SM_OUTCOME_OK);
    const sm_tmppath longer = journal_close(&journal);
    size_t more_len = 0;
    uint8_t *more = sm_file_read(longer.path, &more_len);
    const uint8_t *tail = memchr(more, '\n', more_len);
    tail = (const uint8_t *)memchr(tail + 1, '\n', more_len - (size_t)(tail + 1 - more)) + 1;
    FILE *out = fopen(file.path, "ab");
    assert_non_null(out);
    const size_t tail_len = more_len - (size_t)(tail - more);
    assert_int_equal(fwrite(tail, 1, tail_len, out), tail_len);
    assert_int_equal(fclose(out), 0);
    merge(&f, NULL, 0);
    assert_int_equal(f.result.n_new_events, 1);
    assert_int_equal(f.result.n_bad_lines, 0);
    assert_int_equal(state_of(&f, 1), SM_SLIDE_DONE);
    assert_int_not_equal(access(file.path, F_OK), 0);
    free(more);
    fixture_free(&elsewhere);
    fixture_free(&f);
}

static void quiet_journals_are_retired_after_a_day(void **state)
{
    (void)state;
    fixture f = fixture_make();
    sm_journal *journal = journal_make(&f, RUN, 0);
    sm_tmppath file;
    snprintf(file.path, sizeof file.path, "%s", sm_journal_path(journal));
    tell_begin(journal, 1);
    sm_journal_abandon(&journal);
    const struct utimbuf yesterday = {.actime = time(NULL) - 90000, .modtime = time(NULL) - 90000};
    assert_int_equal(utime(file.path, &yesterday), 0);
    merge(&f, NULL, 0);
    assert_int_equal(f.result.n_lost, 1);
    assert_int_not_equal(access(file.path, F_OK), 0);
    fixture_free(&f);
}

/* A journal that was given up and its successor hold the same events: nothing is lost by the first.
 */
static void a_given_up_file_loses_nothing(void **state)
{
    (void)state;
    fixture f = fixture_make();
    sm_error err = SM_ERROR_INIT;
    sm_journal *journal = journal_make(&f, RUN, 0);
    tell_begin(journal, 1);
    sm_journal_fail_at(1, 0);
    tell_end(journal, 1, SM_OUTCOME_OK); /* into the second file */
    sm_journal_fail_at(0, 0);
    tell_begin(journal, 2);
    merge(&f, NULL, 0);
    assert_true(f.result.n_journals == 2 && f.result.n_live == 1 && f.result.n_lost == 0);
    assert_int_equal(state_of(&f, 1), SM_SLIDE_DONE);
    assert_int_equal(state_of(&f, 2), SM_SLIDE_LEASED);
    tell_end(journal, 2, SM_OUTCOME_OK);
    SM_CHECK_OK(sm_journal_finish(&journal, &err), &err);
    merge(&f, NULL, 0);
    assert_int_equal(summary_of(&f).n_attempts, 2);
    assert_int_equal(sm_tmpdir_count(file_of(&f, "c.smc.d/journal/merged").path), 2);
    assert_int_equal(sm_tmpdir_count(file_of(&f, "c.smc.d/journal/all").path), 0);
    fixture_free(&f);
}

static void damage_is_said_and_kept(void **state)
{
    (void)state;
    fixture f = fixture_make();
    const sm_tmppath file = journal_of_done(&f, RUN, 1, 3);
    size_t len = 0;
    uint8_t *bytes = sm_file_read(file.path, &len);
    sm_file_flip(file.path, 0);
    merge(&f, NULL, 0); /* no head: nothing can be believed */
    assert_true(!f.result.changed && f.result.n_bad_lines == 1);
    check_said(&f, "not a journal");
    sm_file_flip(file.path, 0);
    /* the end of slide 2 is in line 5 */
    const uint8_t *line = bytes;
    for (int i = 1; i < 5; i++)
        line = (const uint8_t *)memchr(line, '\n', len - (size_t)(line - bytes)) + 1;
    const uint64_t damage = (uint64_t)(line - bytes) + 20;
    sm_file_flip(file.path, damage);
    merge(&f, NULL, 0);
    assert_true(f.result.n_bad_lines == 1 && f.result.n_new_events == 2);
    check_said(&f, "line 5");
    assert_int_equal(state_of(&f, 3), SM_SLIDE_DONE);
    assert_int_not_equal(state_of(&f, 2), SM_SLIDE_DONE);
    assert_int_equal(access(file.path, F_OK), 0);
    sm_file_flip(file.path, damage); /* a good copy turns up */
    merge(&f, NULL, 0);
    assert_true(f.result.n_bad_lines == 0 && f.result.n_new_events == 1);
    assert_int_equal(state_of(&f, 2), SM_SLIDE_DONE);
    assert_int_not_equal(access(file.path, F_OK), 0);
    free(bytes);
    fixture_free(&f);
}

static void torn_tails_are_said(void **state)
{
    (void)state;
    fixture f = fixture_make();
    const sm_tmppath file = journal_of_done(&f, RUN, 1, 2);
    struct stat info;
    assert_int_equal(stat(file.path, &info), 0);
    assert_int_equal(truncate(file.path, info.st_size - 100), 0); /* within the closing line */
    merge(&f, NULL, 0);
    assert_true(f.result.n_torn == 1 && f.result.torn_bytes > 0 && f.result.n_new_events == 2);
    check_said(&f, "cut off");
    assert_int_equal(f.result.n_bad_lines, 0);
    fixture_free(&f);
}

static void one_id_means_one_event(void **state)
{
    (void)state;
    fixture f = fixture_make();
    const sm_tmppath file = journal_of_done(&f, RUN, 1, 1);
    const sm_tmppath other = file_of(&f, "c.smc.d/journal/all/zz.jsonl");
    assert_int_equal(rename(file.path, other.path), 0);
    sm_journal *journal = journal_make(&f, RUN, 0);
    tell_begin(journal, 1);
    tell_end(journal, 1, SM_OUTCOME_FAILED);
    (void)journal_close(&journal);
    merge(&f, NULL, 0);
    assert_int_equal(f.result.n_new_events, 1);
    assert_true(f.result.n_bad_lines >= 1);
    check_said(&f, "has its id");
    assert_int_equal(state_of(&f, 1), SM_SLIDE_FAILED);
    fixture_free(&f);
}

static void journals_of_other_catalogs_are_foreign(void **state)
{
    (void)state;
    fixture f = fixture_make();
    fixture other = fixture_make();
    const sm_tmppath file = journal_of_done(&other, RUN, 1, 3);
    const sm_tmppath copy = file_of(&f, "foreign.jsonl");
    copy_file(file.path, copy.path);
    const char *const extra[] = {copy.path};
    merge(&f, extra, 1);
    assert_true(!f.result.changed && f.result.n_foreign == 1 && f.result.n_new_events == 0);
    check_said(&f, "another catalog");
    assert_int_equal(state_of(&f, 1), SM_SLIDE_NEW);
    assert_int_not_equal(access(file_of(&f, "c.smc.d/journal/merged").path, F_OK), 0);
    fixture_free(&other);
    fixture_free(&f);
}

static void journals_from_elsewhere_are_adopted(void **state)
{
    (void)state;
    fixture f = fixture_make();
    sm_error err = SM_ERROR_INIT;
    const sm_tmppath file = journal_of_done(&f, RUN, 1, 3);
    const sm_tmppath away = file_of(&f, "away.jsonl");
    assert_int_equal(rename(file.path, away.path), 0);
    const char *const extra[] = {away.path};
    merge(&f, extra, 1);
    assert_true(f.result.changed && f.result.n_new_events == 3);
    assert_int_equal(access(away.path, F_OK), 0);
    const sm_tmppath merged = file_of(&f, "c.smc.d/journal/merged");
    assert_int_equal(sm_tmpdir_count(merged.path), 1);
    merge(&f, extra, 1); /* again: known, and there */
    assert_true(!f.result.changed && f.result.n_new_events == 0 && f.result.generation == 2);
    assert_int_equal(sm_tmpdir_count(merged.path), 1);
    const char *const missing[] = {"/nowhere/x.jsonl"};
    SM_CHECK_FAILS(sm_merge(f.catalog.path, &CONFIG, missing, 1, remember, &f, &f.result, &err),
                   &err, SM_ERR_ARG, "/nowhere/x.jsonl");
    sm_file_write(away.path, "hello\nworld\n", 12);
    merge(&f, extra, 1);
    assert_true(f.result.n_bad_lines == 1 && !f.result.changed);
    fixture_free(&f);
}

/* A catalog and a journal, away.jsonl, that were copied elsewhere without the folder CATALOG.d. */
static fixture fixture_copied(void)
{
    fixture original = fixture_make();
    const sm_tmppath journal = journal_of_done(&original, RUN, 1, 3);
    fixture f = {.dir = sm_tmpdir_make()};
    f.catalog = file_of(&f, "c.smc");
    copy_file(original.catalog.path, f.catalog.path);
    copy_file(journal.path, file_of(&f, "away.jsonl").path);
    fixture_free(&original);
    return f;
}

static void a_copied_catalog_takes_a_named_journal(void **state)
{
    (void)state;
    static const char *const FOLDERS[] = {"c.smc.d", "c.smc.d/journal"};
    for (size_t n_there = 0; n_there <= SM_COUNT(FOLDERS); n_there++) {
        fixture f = fixture_copied();
        const sm_tmppath away = file_of(&f, "away.jsonl");
        const sm_tmppath merged = file_of(&f, "c.smc.d/journal/merged");
        const char *const extra[] = {away.path};
        for (size_t i = 0; i < n_there; i++)
            assert_int_equal(mkdir(file_of(&f, FOLDERS[i]).path, 0777), 0);
        merge(&f, extra, 1);
        assert_true(f.result.changed && f.result.n_new_events == 3);
        assert_int_equal(state_of(&f, 3), SM_SLIDE_DONE);
        assert_int_equal(access(away.path, F_OK), 0);
        assert_int_equal(sm_tmpdir_count(merged.path), 1);
        merge(&f, extra, 1); /* again: known, and there */
        assert_true(!f.result.changed && f.result.n_events == 3);
        assert_int_equal(sm_tmpdir_count(merged.path), 1);
        fixture_free(&f);
    }
}

static void a_copied_catalog_has_nothing_to_merge_by_itself(void **state)
{
    (void)state;
    fixture f = fixture_copied();
    merge(&f, NULL, 0);
    assert_true(!f.result.changed && f.result.n_journals == 0);
    assert_string_equal(f.said, "");
    assert_int_not_equal(access(file_of(&f, "c.smc.d").path, F_OK), 0); /* not made either */
    fixture_free(&f);
}

/* The generation is out by then: whoever reads the error must know, and what is left to do. */
static void a_journal_that_cannot_be_kept_is_said_to_be_folded_in(void **state)
{
    (void)state;
    fixture f = fixture_copied();
    sm_error err = SM_ERROR_INIT;
    const sm_tmppath away = file_of(&f, "away.jsonl"), link = file_of(&f, "c.smc.d/journal");
    const char *const extra[] = {away.path};
    assert_int_equal(mkdir(file_of(&f, "c.smc.d").path, 0777), 0);
    assert_int_equal(symlink("nowhere", link.path), 0); /* as missing rights, for root too */
    SM_CHECK_FAILS(sm_merge(f.catalog.path, &CONFIG, extra, 1, remember, &f, &f.result, &err), &err,
                   SM_ERR_IO, "c.smc: the journals are folded in; mend this and merge again: ");
    assert_non_null(strstr(err.message, "c.smc.d/journal/merged: cannot make the folder: "));
    assert_int_equal(state_of(&f, 3), SM_SLIDE_DONE);
    assert_int_equal(unlink(link.path), 0);
    merge(&f, extra, 1);
    assert_true(!f.result.changed && f.result.n_events == 3);
    assert_int_equal(sm_tmpdir_count(file_of(&f, "c.smc.d/journal/merged").path), 1);
    fixture_free(&f);
}

static void slides_that_are_unknown_are_said(void **state)
{
    (void)state;
    fixture f = fixture_make();
    sm_journal *journal = journal_make(&f, RUN, 0);
    tell_begin(journal, 4711);
    tell_end(journal, 4711, SM_OUTCOME_OK);
    tell_begin(journal, 4712); /* lost */
    tell_begin(journal, 1);
    tell_end(journal, 1, SM_OUTCOME_OK);
    sm_journal_abandon(&journal);
    merge(&f, NULL, 0);
    assert_true(f.result.n_bad_lines == 2 && f.result.n_new_events == 1 && f.result.n_lost == 0);
    check_said(&f, "4711");
    assert_int_equal(state_of(&f, 1), SM_SLIDE_DONE);
    fixture_free(&f);
}

static void bytes_that_disagree_are_quarantined(void **state)
{
    (void)state;
    fixture f = fixture_make();
    sm_error err = SM_ERROR_INIT;
    char out_path[32];
    (void)journal_of_done(&f, RUN, 1, 1);
    merge(&f, NULL, 0);
    sm_journal *journal = journal_make(&f, OTHER_RUN, 0);
    sm_outcome outcome = outcome_of(1, SM_OUTCOME_OK, out_path);
    outcome.source_digests[0] = sha_of(200);
    outcome.began_ns += INT64_C(1000000000);
    outcome.ended_ns += INT64_C(1000000000);
    SM_CHECK_OK(sm_journal_end(journal, &outcome, &err), &err);
    (void)journal_close(&journal);
    merge(&f, NULL, 0);
    assert_int_equal(state_of(&f, 1), SM_SLIDE_QUARANTINED);
    fixture_free(&f);
}

static sm_status find_part(void *arg, const sm_part_row *part, sm_error *err)
{
    (void)err;
    sm_digest *digest = arg;
    if (part->digest_origin == SM_DIGEST_LEARNED)
        *digest = part->digest;
    return SM_OK;
}

static void parts_are_learned(void **state)
{
    (void)state;
    fixture f = fixture_make();
    sm_error err = SM_ERROR_INIT;
    sm_catalog *catalog = NULL;
    char out_path[32], part_path[] = "slide1/Data0.dat";
    const sm_part_row row = {.slide = 1, .path = part_path, .size_bytes = 7, .mtime_ns = 1};
    SM_CHECK_OK(sm_catalog_change(f.catalog.path, &CONFIG, &catalog, &err), &err);
    SM_CHECK_OK(sm_catalog_set_parts(catalog, 1, &row, 1, &err), &err);
    SM_CHECK_OK(sm_catalog_commit(&catalog, &err), &err);
    sm_journal_head head = head_of(&f, RUN, 0);
    head.generation = 2; /* that of the change */
    sm_journal *journal = NULL;
    SM_CHECK_OK(sm_journal_create(f.catalog.path, &head, &journal, &err), &err);
    sm_outcome outcome = outcome_of(1, SM_OUTCOME_OK, out_path);
    sm_outcome_part part = {part_path, 7, sha_of(77)};
    outcome.parts = &part;
    outcome.n_parts = 1;
    SM_CHECK_OK(sm_journal_end(journal, &outcome, &err), &err);
    (void)journal_close(&journal);
    merge(&f, NULL, 0);
    sm_digest got = {0};
    SM_CHECK_OK(sm_catalog_open(f.catalog.path, &catalog, &err), &err);
    SM_CHECK_OK(sm_catalog_parts(catalog, 1, find_part, &got, &err), &err);
    sm_catalog_close(&catalog);
    assert_true(sm_digest_equal(&got, &part.sha256));
    fixture_free(&f);
}

/* Set back between begin and end of a slide: the slide's success counts all the same. */
static void clocks_may_be_set_back(void **state)
{
    (void)state;
    fixture f = fixture_make();
    sm_error err = SM_ERROR_INIT;
    char out_path[32];
    sm_journal *journal = journal_make(&f, RUN, 0);
    sm_outcome outcome = outcome_of(1, SM_OUTCOME_OK, out_path);
    outcome.ended_ns = outcome.began_ns - 1000;
    SM_CHECK_OK(sm_journal_end(journal, &outcome, &err), &err);
    (void)journal_close(&journal);
    merge(&f, NULL, 0);
    assert_int_equal(f.result.n_bad_lines, 0);
    assert_int_equal(state_of(&f, 1), SM_SLIDE_DONE);
    fixture_free(&f);
}

static void ranks_that_did_nothing_are_known(void **state)
{
    (void)state;
    fixture f = fixture_make();
    sm_journal *journal = journal_make(&f, RUN, 0);
    (void)journal_close(&journal);
    merge(&f, NULL, 0);
    assert_true(f.result.changed && f.result.n_events == 0);
    assert_int_equal(summary_of(&f).n_runs, 1);
    fixture_free(&f);
}

/* Killed before any step of the publication: the next merge has the same result. */
static void a_killed_merge_is_made_good(void **state)
{
    (void)state;
    for (unsigned step = 1; step <= SM_GENERATION_STEPS; step++) {
        fixture f = fixture_make();
        (void)journal_of_done(&f, RUN, 1, 3);
        const pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            sm_error err = SM_ERROR_INIT;
            sm_generation_die_at(step);
            _exit(sm_merge(f.catalog.path, &CONFIG, NULL, 0, NULL, NULL, &f.result, &err) == SM_OK);
        }
        int status = 0;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 137);
        merge(&f, NULL, 0);
        const sm_catalog_summary summary = summary_of(&f);
        if (summary.n_attempts != 3 || summary.states[SM_SLIDE_DONE].n != 3)
            fail_msg("step %u: %" PRIu64 " attempts, %" PRIu64 " done", step, summary.n_attempts,
                     summary.states[SM_SLIDE_DONE].n);
        merge(&f, NULL, 0);
        assert_true(!f.result.changed && f.result.n_journals == 0);
        fixture_free(&f);
    }
}

static void memory_that_runs_out_is_said(void **state)
{
    (void)state;
    fixture f = fixture_make();
    sm_error err = SM_ERROR_INIT;
    sm_status st = SM_ERR_NOMEM;
    (void)journal_of_done(&f, RUN, 1, 3);
    for (long n = 0; st != SM_OK; n++) {
        sm_catalog *catalog = NULL;
        sm_merge_state *left = NULL;
        assert_true(n < 2000);
        SM_CHECK_OK(sm_catalog_change(f.catalog.path, &CONFIG, &catalog, &err), &err);
        sm_alloc_fail_after(n);
        st = sm_merge_fold(catalog, NULL, 0, NULL, NULL, &f.result, &left, &err);
        sm_alloc_fail_after(-1);
        if (st != SM_OK && st != SM_ERR_NOMEM)
            fail_msg("allocation %ld: %s", n, err.message);
        assert_true((left != NULL) == (st == SM_OK));
        sm_merge_state_free(&left);
        sm_catalog_close(&catalog);
    }
    merge(&f, NULL, 0);
    assert_int_equal(f.result.n_new_events, 3);
    fixture_free(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(events_become_states),
        cmocka_unit_test(target_is_that_of_the_first_conversion),
        cmocka_unit_test(copies_of_a_journal_change_nothing),
        cmocka_unit_test(begun_slides_are_leased_while_their_rank_lives),
        cmocka_unit_test(the_dead_may_speak_again),
        cmocka_unit_test(quiet_journals_are_retired_after_a_day),
        cmocka_unit_test(a_given_up_file_loses_nothing),
        cmocka_unit_test(damage_is_said_and_kept),
        cmocka_unit_test(torn_tails_are_said),
        cmocka_unit_test(one_id_means_one_event),
        cmocka_unit_test(journals_of_other_catalogs_are_foreign),
        cmocka_unit_test(journals_from_elsewhere_are_adopted),
        cmocka_unit_test(a_copied_catalog_takes_a_named_journal),
        cmocka_unit_test(a_copied_catalog_has_nothing_to_merge_by_itself),
        cmocka_unit_test(a_journal_that_cannot_be_kept_is_said_to_be_folded_in),
        cmocka_unit_test(slides_that_are_unknown_are_said),
        cmocka_unit_test(bytes_that_disagree_are_quarantined),
        cmocka_unit_test(parts_are_learned),
        cmocka_unit_test(clocks_may_be_set_back),
        cmocka_unit_test(ranks_that_did_nothing_are_known),
        cmocka_unit_test(a_killed_merge_is_made_good),
        cmocka_unit_test(memory_that_runs_out_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
