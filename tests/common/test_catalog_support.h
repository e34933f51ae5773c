/* What the tests of common/catalog*.c share: a catalog in a scratch folder, short ways to fill it.
 * Header only; needs cmocka.h before it. */
#ifndef SM_TESTS_COMMON_TEST_CATALOG_SUPPORT_H
#define SM_TESTS_COMMON_TEST_CATALOG_SUPPORT_H

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/catalog.h"
#include "tests/support/check.h"
#include "tests/support/tmpdir.h"

#define RUN_A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define RUN_B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

/* A folder with a catalog, and an error to write into. */
typedef struct fixture {
    sm_tmpdir dir;
    sm_tmppath file; /* corpus.smc */
    sm_generation_config config;
    sm_error err;
} fixture;

static inline void fixture_start(fixture *f)
{
    *f = (fixture){.dir = sm_tmpdir_make(), .err = SM_ERROR_INIT};
    f->file = sm_tmpdir_file(&f->dir, "corpus.smc");
    f->config = (sm_generation_config){.what = "test", .scratch = f->dir.path};
}

static inline void fixture_end(fixture *f)
{
    sm_tmpdir_remove(&f->dir);
}

static inline sm_catalog *fixture_create(fixture *f)
{
    sm_catalog *catalog = NULL;
    SM_CHECK_OK(sm_catalog_create(f->file.path, "/corpus", &f->config, &catalog, &f->err), &f->err);
    return catalog;
}

static inline sm_catalog *fixture_change(fixture *f)
{
    sm_catalog *catalog = NULL;
    SM_CHECK_OK(sm_catalog_change(f->file.path, &f->config, &catalog, &f->err), &f->err);
    return catalog;
}

static inline sm_catalog *fixture_open(fixture *f)
{
    sm_catalog *catalog = NULL;
    SM_CHECK_OK(sm_catalog_open(f->file.path, &catalog, &f->err), &f->err);
    return catalog;
}

static inline void fixture_commit(fixture *f, sm_catalog **catalog)
{
    SM_CHECK_OK(sm_catalog_commit(catalog, &f->err), &f->err);
    assert_null(*catalog);
}

/* The digest whose bytes are all the same. */
static inline sm_digest digest_of(sm_digest_kind kind, int byte)
{
    sm_digest digest = {.kind = kind, .len = kind == SM_DIGEST_SHA256 ? 32 : 16};
    memset(digest.bytes, byte, digest.len);
    return digest;
}

static inline sm_digest sha(int byte)
{
    return digest_of(SM_DIGEST_SHA256, byte);
}

static inline int64_t put_slide(fixture *f, sm_catalog *catalog, const sm_slide_row *row)
{
    int64_t id = 0;
    bool added = false;
    SM_CHECK_OK(sm_catalog_put(catalog, row, &id, &added, &f->err), &f->err);
    return id;
}

/* A slide of 1000 bytes without a digest. */
static inline int64_t add_slide(fixture *f, sm_catalog *catalog, const char *path)
{
    const sm_slide_row row = {.path = path, .size_bytes = 1000, .mtime_ns = 7, .present = true};
    return put_slide(f, catalog, &row);
}

static inline sm_slide_row get_slide(fixture *f, sm_catalog *catalog, int64_t id)
{
    sm_slide_row row = {0};
    bool found = false;
    SM_CHECK_OK(sm_catalog_get(catalog, id, &row, &found, &f->err), &f->err);
    assert_true(found);
    return row;
}

static inline sm_slide_state state_of(fixture *f, sm_catalog *catalog, int64_t id)
{
    return get_slide(f, catalog, id).state;
}

/* Ids of the slides that a filter takes; how many. */
static inline unsigned ids_of(fixture *f, sm_catalog *catalog, const sm_slide_filter *filter,
                              int64_t *ids, unsigned cap)
{
    sm_slide_cursor *cursor = NULL;
    sm_slide_row row;
    unsigned n = 0;
    SM_CHECK_OK(sm_catalog_slides(catalog, filter, &cursor, &f->err), &f->err);
    for (bool more = true; more;) {
        SM_CHECK_OK(sm_slide_cursor_next(cursor, &row, &more, &f->err), &f->err);
        if (more && n < cap)
            ids[n++] = row.id;
    }
    sm_slide_cursor_close(&cursor);
    return n;
}

/* An event of a slide of 1000 bytes whose SHA-256 is all `byte`; ok ones made an output. `buf`
 * keeps the id. */
static inline sm_attempt_row make_attempt(char buf[96], const char *run, unsigned seq,
                                          int64_t slide, sm_outcome_kind outcome, int byte)
{
    snprintf(buf, 96, "%s.3.%u", run, seq);
    sm_attempt_row attempt = {.event = buf,
                              .slide = slide,
                              .kind = SM_ATTEMPT_CONVERT,
                              .outcome = outcome,
                              .run = run,
                              .rank = 3,
                              .began_ns = 1000 + seq,
                              .ended_ns = 2000 + seq,
                              .bytes_in = 1000};
    if (outcome == SM_OUTCOME_OK) {
        attempt.has_source = true;
        attempt.source_bytes = 1000;
        attempt.source_digests[0] = sha(byte);
        attempt.n_source_digests = 1;
        attempt.has_output = true;
        attempt.output = (sm_output_row){.path = "out/a.ome.tiff", .size_bytes = 500};
        attempt.output.sha256 = sha(byte + 1);
    } else if (outcome == SM_OUTCOME_FAILED || outcome == SM_OUTCOME_QUARANTINED) {
        attempt.error_class = outcome == SM_OUTCOME_FAILED ? "format" : "digest";
        attempt.error = "a.svs: is no slide";
    }
    return attempt;
}

static inline bool put_attempt(fixture *f, sm_catalog *catalog, const sm_attempt_row *attempt)
{
    bool known = false;
    SM_CHECK_OK(sm_catalog_put_attempt(catalog, attempt, &known, &f->err), &f->err);
    return known;
}

#endif
