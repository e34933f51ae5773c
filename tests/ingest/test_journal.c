/* Tests of ingest/journal*.c: what is told is durable, what is read is what was told. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/digest.h"
#include "ingest/journal.h"
#include "tests/support/check.h"
#include "tests/support/tmpdir.h"

#define CATALOG "000102030405060708090a0b0c0d0e0f"
#define RUN "f0e0d0c0b0a090807060504030201000"

enum { SLIDES = 5, LINES = 2 * SLIDES + 2 };

/* In place of the C library's, to see what is made durable and when. */
static struct {
    unsigned n;
    off_t bytes; /* of the file at the last call */
} synced;

int fsync(int fd)
{
    struct stat info;
    synced.n++;
    synced.bytes = fstat(fd, &info) == 0 ? info.st_size : -1;
    return (int)syscall(SYS_fsync, fd);
}

static sm_journal_head head_of(uint32_t plan, uint32_t shard, uint32_t rank)
{
    sm_journal_head head = {
        .catalog = CATALOG,
        .run = RUN,
        .rank = rank,
        .plan = plan,
        .shard = shard,
        .generation = UINT64_C(1) << 60,
        .kind = SM_ATTEMPT_CONVERT,
        .host = "node1",
        .command = "slidemill ingest --catalog \"x y\"",
        .version = "1.2.3",
        .target_dir = "/mnt/\xFFout\n",
        .target_options = "--quality 85",
        .began_ns = INT64_C(1764000000123456789),
    };
    return head;
}

/* A catalog's folder, as sm_catalog_create leaves it. */
static sm_tmppath catalog_in(const sm_tmpdir *dir)
{
    const sm_tmppath folder = sm_tmpdir_file(dir, "c.smc.d");
    if (mkdir(folder.path, 0777) != 0 && errno != EEXIST)
        fail_msg("%s: %s", folder.path, strerror(errno));
    return sm_tmpdir_file(dir, "c.smc");
}

static sm_outcome failed(int64_t slide)
{
    return (sm_outcome){.kind = SM_ATTEMPT_CONVERT,
                        .outcome = SM_OUTCOME_FAILED,
                        .slide = slide,
                        .error_class = SM_CLASS_FORMAT,
                        .error = "line one",
                        .began_ns = 10,
                        .ended_ns = 20 + slide};
}

static sm_status tell_slides(sm_journal *journal, sm_error *err)
{
    sm_status st = SM_OK;
    for (int64_t slide = 1; st == SM_OK && slide <= SLIDES; slide++) {
        const sm_outcome outcome = failed(slide);
        st = sm_journal_begin(journal, slide, "a/\xFF\"b\n.svs", (uint32_t)slide, err);
        if (st == SM_OK)
            st = sm_journal_end(journal, &outcome, err);
    }
    return st;
}

/* A whole journal; its path. */
static sm_tmppath write_journal(const char *catalog, const sm_journal_head *head)
{
    sm_error err = SM_ERROR_INIT;
    sm_journal *journal = NULL;
    sm_tmppath file;
    SM_CHECK_OK(sm_journal_create(catalog, head, &journal, &err), &err);
    snprintf(file.path, sizeof file.path, "%s", sm_journal_path(journal));
    SM_CHECK_OK(tell_slides(journal, &err), &err);
    SM_CHECK_OK(sm_journal_finish(&journal, &err), &err);
    assert_null(journal);
    return file;
}

/* What reading came to. */
typedef struct tally {
    unsigned events, begins, ends, heads, finishes, bad;
    uint64_t torn;
    sm_status last; /* FORMAT stops */
    char message[512];
} tally;

static void count_event(const sm_journal_event *event, tally *t)
{
    t->events++;
    t->heads += event->kind == SM_JOURNAL_HEAD;
    t->begins += event->kind == SM_JOURNAL_BEGIN;
    t->ends += event->kind == SM_JOURNAL_END;
    t->finishes += event->kind == SM_JOURNAL_FINISH;
    if (event->kind == SM_JOURNAL_END &&
        (event->outcome.ended_ns != 20 + event->slide || event->slide < 1 ||
         event->slide > SLIDES || strcmp(event->outcome.error, "line one") != 0))
        fail_msg("an event that nobody told: slide %" PRId64, event->slide);
}

static tally read_source(const sm_source *source)
{
    sm_error err = SM_ERROR_INIT;
    sm_journal_reader *reader = NULL;
    sm_journal_event event = {0};
    tally t = {0};
    bool more = true;
    SM_CHECK_OK(sm_journal_open(source, &reader, &err), &err);
    while (more && t.last != SM_ERR_FORMAT) {
        t.last = sm_journal_next(reader, &event, &more, &err);
        if (t.last == SM_OK && more)
            count_event(&event, &t);
        else if (t.last == SM_OK)
            break;
        else if (t.last != SM_ERR_CORRUPT && t.last != SM_ERR_FORMAT)
            fail_msg("%s: %s", sm_status_name(t.last), err.message);
        t.bad += t.last != SM_OK;
        if (t.last != SM_OK)
            memcpy(t.message, err.message, sizeof t.message);
    }
    t.torn = sm_journal_torn(reader);
    sm_journal_event_clear(&event);
    sm_journal_close(&reader);
    return t;
}

static tally read_bytes(const void *bytes, size_t len)
{
    sm_error err = SM_ERROR_INIT;
    sm_source *source = NULL;
    SM_CHECK_OK(sm_source_open_memory(bytes, len, "journal", &source, &err), &err);
    const tally t = read_source(source);
    sm_source_close(&source);
    return t;
}

static tally read_path(const char *path)
{
    sm_error err = SM_ERROR_INIT;
    sm_source *source = NULL;
    SM_CHECK_OK(sm_source_open(path, &source, &err), &err);
    const tally t = read_source(source);
    sm_source_close(&source);
    return t;
}

static void what_is_told_is_read(void **state)
{
    (void)state;
    const sm_tmpdir dir = sm_tmpdir_make();
    const sm_tmppath catalog = catalog_in(&dir);
    const sm_journal_head head = head_of(3, 7, 1);
    const sm_tmppath file = write_journal(catalog.path, &head);
    sm_error err = SM_ERROR_INIT;
    sm_source *source = NULL;
    sm_journal_reader *reader = NULL;
    sm_journal_event event = {0};
    bool more = false;

    assert_non_null(strstr(file.path, "/c.smc.d/journal/p0003-s0007/" RUN "-r0001-00.jsonl"));
    SM_CHECK_OK(sm_source_open(file.path, &source, &err), &err);
    SM_CHECK_OK(sm_journal_open(source, &reader, &err), &err);
    SM_CHECK_OK(sm_journal_next(reader, &event, &more, &err), &err);
    assert_true(more && event.kind == SM_JOURNAL_HEAD && event.line == 1 && event.seq == 0);
    assert_string_equal(event.id, RUN ".1.0");
    assert_string_equal(event.head.catalog, CATALOG);
    assert_string_equal(event.head.run, RUN);
    assert_true(event.head.rank == 1 && event.head.plan == 3 && event.head.shard == 7);
    assert_true(event.head.generation == head.generation && event.head.kind == head.kind);
    assert_true(event.head.began_ns == head.began_ns);
    assert_string_equal(event.head.host, head.host);
    assert_string_equal(event.head.command, head.command);
    assert_string_equal(event.head.version, head.version);
    assert_string_equal(event.head.target_dir, head.target_dir);
    assert_string_equal(event.head.target_options, head.target_options);
    for (int i = 1; i <= SLIDES; i++) {
        SM_CHECK_OK(sm_journal_next(reader, &event, &more, &err), &err);
        assert_true(more && event.kind == SM_JOURNAL_BEGIN && event.slide == i);
        assert_int_equal(event.attempt, i);
        assert_int_equal(event.head.rank, 0); /* of the head nothing is left */
        SM_CHECK_OK(sm_journal_next(reader, &event, &more, &err), &err);
        assert_true(more && event.kind == SM_JOURNAL_END && event.slide == i);
        assert_true(event.seq == 2 * (uint64_t)i && event.time_ns > 0);
        assert_string_equal(event.outcome.error_class, SM_CLASS_FORMAT);
    }
    SM_CHECK_OK(sm_journal_next(reader, &event, &more, &err), &err);
    assert_true(more && event.kind == SM_JOURNAL_FINISH);
    SM_CHECK_OK(sm_journal_next(reader, &event, &more, &err), &err);
    assert_false(more);
    assert_int_equal(sm_journal_torn(reader), 0);
    sm_journal_event_clear(&event);
    sm_journal_close(&reader);
    sm_source_close(&source);
    sm_tmpdir_remove(&dir);
}

static void journals_of_nobody_are_refused(void **state)
{
    (void)state;
    const sm_tmpdir dir = sm_tmpdir_make();
    const sm_tmppath catalog = catalog_in(&dir);
    sm_error err = SM_ERROR_INIT;
    sm_journal *journal = NULL;
    sm_journal_head head = head_of(1, 1, 0);
    memcpy(head.run, "../../../../../../etc/xxxxxxxxxx", SM_UUID_CAP);
    SM_CHECK_FAILS(sm_journal_create(catalog.path, &head, &journal, &err), &err, SM_ERR_ARG,
                   "no run");
    assert_null(journal);
    const sm_tmppath elsewhere = sm_tmpdir_file(&dir, "none/c.smc");
    head = head_of(1, 1, 0);
    SM_CHECK_FAILS(sm_journal_create(elsewhere.path, &head, &journal, &err), &err, SM_ERR_IO,
                   "folder");
    sm_tmpdir_remove(&dir);
}

/* Cut anywhere: what remains is a beginning of the events, the rest is a torn tail. */
static void torn_tail_is_dropped(void **state)
{
    (void)state;
    const sm_tmpdir dir = sm_tmpdir_make();
    const sm_tmppath catalog = catalog_in(&dir);
    const sm_journal_head head = head_of(0, SM_NO_SHARD, 0);
    const sm_tmppath file = write_journal(catalog.path, &head);
    size_t len = 0;
    uint8_t *bytes = sm_file_read(file.path, &len);
    unsigned lines = 0;
    size_t start = 0;
    for (size_t cut = 0; cut <= len; cut++) {
        if (cut > 0 && bytes[cut - 1] == '\n') {
            lines++;
            start = cut;
        }
        const tally t = read_bytes(bytes, cut);
        if (t.events != lines || t.bad > 0 || t.torn != cut - start)
            fail_msg("cut at %zu: %u events, %u bad, %" PRIu64 " torn: %s", cut, t.events, t.bad,
                     t.torn, t.message);
    }
    assert_int_equal(lines, LINES);
    bytes[len - 3] ^= 1; /* the last line, whole but wrong */
    const tally t = read_bytes(bytes, len);
    assert_true(t.events == LINES - 1 && t.bad == 0 && t.torn > 0);
    free(bytes);
    sm_tmpdir_remove(&dir);
}

/* A flipped bit costs the lines it touches and never makes an event. */
static void flipped_bits_are_seen(void **state)
{
    (void)state;
    const sm_tmpdir dir = sm_tmpdir_make();
    const sm_tmppath catalog = catalog_in(&dir);
    const sm_journal_head head = head_of(0, SM_NO_SHARD, 0);
    const sm_tmppath file = write_journal(catalog.path, &head);
    size_t len = 0;
    uint8_t *bytes = sm_file_read(file.path, &len);
    const size_t head_len = (size_t)((uint8_t *)memchr(bytes, '\n', len) - bytes) + 1;
    for (size_t at = 0; at < len; at++) {
        bytes[at] ^= (uint8_t)(1u << at % 8);
        const tally t = read_bytes(bytes, len);
        bytes[at] ^= (uint8_t)(1u << at % 8);
        const unsigned lost = LINES - t.events;
        if (at < head_len ? t.last != SM_ERR_FORMAT || t.events > 0
                          : lost < 1 || lost > 2 || (t.bad == 0 && t.torn == 0))
            fail_msg("byte %zu: %u events, %u bad: %s", at, t.events, t.bad, t.message);
    }
    free(bytes);
    sm_tmpdir_remove(&dir);
}

/* ---- lines from elsewhere ---- */

static void add_sealed(sm_buf *out, const char *body)
{
    sm_error err = SM_ERROR_INIT;
    char hex[SM_DIGEST_HEX_CAP];
    const sm_digest sum = sm_digest_xxh128(body, strlen(body));
    SM_CHECK_OK(sm_buf_printf(out, &err, "%s,\"x\":\"%s\"}\n", body, sm_digest_hex(&sum, hex)),
                &err);
}

#define HEAD(run, id)                                                                              \
    "{\"t\":\"head\",\"id\":\"" id "\",\"time\":1,\"v\":1,\"catalog\":\"" CATALOG                  \
    "\",\"run\":\"" run "\",\"rank\":0,\"plan\":0,\"generation\":1,\"kind\":\"hash\",\"began\":1"
#define EVENT(t, id) "{\"t\":\"" t "\",\"id\":\"" id "\",\"time\":1"

static void sealed_nonsense_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *name, *line, *message;
    } cases[] = {
        {"no JSON", "hello", "JSON"},
        {"a list", "[1", "JSON"},
        {"unknown", EVENT("teleport", RUN ".0.1"), "none of ours"},
        {"a second head", HEAD(RUN, RUN ".0.1"), "second head"},
        {"of another run", EVENT("begin", CATALOG ".0.1") ",\"slide\":1", "\"id\""},
        {"of another rank", EVENT("begin", RUN ".1.1") ",\"slide\":1", "\"id\""},
        {"no number", EVENT("begin", RUN ".0.") ",\"slide\":1", "\"id\""},
        {"two ways to write it", EVENT("begin", RUN ".0.01") ",\"slide\":1", "\"id\""},
        {"SQL", EVENT("begin", RUN ".0.1') --") ",\"slide\":1", "\"id\""},
        {"no slide", EVENT("begin", RUN ".0.1"), "\"slide\""},
        {"slide 0", EVENT("begin", RUN ".0.1") ",\"slide\":0", "\"slide\""},
        {"two slides", EVENT("begin", RUN ".0.1") ",\"slide\":1,\"slide\":2", "twice"},
        {"no outcome", EVENT("end", RUN ".0.1"), "outcome"},
        {"an empty outcome", EVENT("end", RUN ".0.1") ",\"outcome\":{}", "missing"},
        {"time before time", "{\"t\":\"finish\",\"id\":\"" RUN ".0.1\",\"time\":-1", "time"},
    };
    for (size_t i = 0; i < SM_COUNT(cases); i++) {
        sm_buf text = {0};
        add_sealed(&text, HEAD(RUN, RUN ".0.0"));
        add_sealed(&text, cases[i].line);
        add_sealed(&text, EVENT("begin", RUN ".0.2") ",\"slide\":1");
        add_sealed(&text, EVENT("finish", RUN ".0.3"));
        const tally t = read_bytes(text.data, text.len);
        if (t.bad != 1 || t.events != 3 || strstr(t.message, "journal: line 2: ") == NULL ||
            strstr(t.message, cases[i].message) == NULL)
            fail_msg("%s: %u bad, %u events: %s", cases[i].name, t.bad, t.events, t.message);
        sm_buf_free(&text);
    }
}

static void files_that_are_no_journals_are_said(void **state)
{
    (void)state;
    static const struct {
        const char *name, *line;
    } cases[] = {
        {"no head", EVENT("begin", RUN ".0.0") ",\"slide\":1"},
        {"no run", HEAD("..", "...0.0")},
        {"upper case",
         HEAD("F0E0D0C0B0A090807060504030201000", "F0E0D0C0B0A090807060504030201000.0.0")},
        {"id of another", HEAD(RUN, CATALOG ".0.0")},
        {"text", "hello"},
    };
    for (size_t i = 0; i < SM_COUNT(cases); i++) {
        sm_buf text = {0};
        add_sealed(&text, cases[i].line);
        add_sealed(&text, EVENT("begin", RUN ".0.2") ",\"slide\":1");
        const tally t = read_bytes(text.data, text.len);
        if (t.last != SM_ERR_FORMAT || t.events > 0 || strstr(t.message, "not a journal") == NULL)
            fail_msg("%s: %u events: %s", cases[i].name, t.events, t.message);
        sm_buf_free(&text);
    }
    assert_int_equal(read_bytes("", 0).last, SM_OK);
    assert_int_equal(read_bytes("\n\n\n", 3).last, SM_ERR_FORMAT);
}

static void nothing_follows_the_closing_line(void **state)
{
    (void)state;
    sm_buf text = {0};
    add_sealed(&text, HEAD(RUN, RUN ".0.0"));
    add_sealed(&text, EVENT("finish", RUN ".0.1"));
    add_sealed(&text, EVENT("begin", RUN ".0.2") ",\"slide\":1");
    const tally t = read_bytes(text.data, text.len);
    assert_true(t.events == 2 && t.bad == 1);
    assert_non_null(strstr(t.message, "closing line"));
    sm_buf_free(&text);
}

/* A line of 1 GiB, in the middle and at the end: read over, in the memory of one line. */
static void endless_lines_take_no_memory(void **state)
{
    (void)state;
    const sm_tmpdir dir = sm_tmpdir_make();
    const sm_tmppath file = sm_tmpdir_file(&dir, "long.jsonl");
    sm_buf text = {0}, tail = {0};
    struct rusage before, after;
    add_sealed(&text, HEAD(RUN, RUN ".0.0"));
    sm_file_write(file.path, text.data, text.len);
    add_sealed(&tail, EVENT("finish", RUN ".0.1"));
    for (int round = 0; round < 2; round++) {
        FILE *out = fopen(file.path, "r+b");
        assert_non_null(out);
        assert_int_equal(fseek(out, (long)text.len + (INT64_C(1) << (30 - round)), SEEK_SET), 0);
        assert_int_equal(fputc('\n', out), '\n');
        if (round == 1)
            assert_int_equal(fwrite(tail.data, 1, tail.len, out), tail.len);
        assert_int_equal(fclose(out), 0);
        getrusage(RUSAGE_SELF, &before);
        if (round == 0) /* no newline any more: torn */
            assert_int_equal(truncate(file.path, (off_t)text.len + (INT64_C(1) << 30)), 0);
        const tally t = read_path(file.path);
        getrusage(RUSAGE_SELF, &after);
        assert_int_equal(t.events, round == 0 ? 1 : 2);
        assert_int_equal(t.bad, round == 0 ? 0 : 1);
        assert_int_equal(t.torn, round == 0 ? INT64_C(1) << 30 : 0);
        assert_true(after.ru_maxrss - before.ru_maxrss < 16 * 1024);
        assert_int_equal(truncate(file.path, (off_t)text.len), 0);
    }
    sm_buf_free(&text);
    sm_buf_free(&tail);
    sm_tmpdir_remove(&dir);
}

static void events_beyond_the_line_are_refused(void **state)
{
    (void)state;
    enum { PARTS = 4000 };
    const sm_tmpdir dir = sm_tmpdir_make();
    const sm_tmppath catalog = catalog_in(&dir);
    const sm_journal_head head = head_of(1, 2, 0);
    sm_error err = SM_ERROR_INIT;
    sm_journal *journal = NULL;
    sm_outcome outcome = failed(1);
    char path[] = "some/part/of/a/slide/Data0001.dat";
    outcome.parts = sm_calloc(PARTS, sizeof(*outcome.parts));
    assert_non_null(outcome.parts);
    for (size_t i = 0; i < PARTS; i++) {
        outcome.parts[i].path = path;
        outcome.parts[i].sha256.len = 32;
    }
    outcome.n_parts = PARTS;
    SM_CHECK_OK(sm_journal_create(catalog.path, &head, &journal, &err), &err);
    SM_CHECK_FAILS(sm_journal_end(journal, &outcome, &err), &err, SM_ERR_LIMIT, "parts");
    outcome.n_parts = 500;
    SM_CHECK_OK(sm_journal_end(journal, &outcome, &err), &err);
    free(outcome.parts);
    SM_CHECK_OK(sm_journal_flush(journal, &err), &err);
    char file[4096];
    snprintf(file, sizeof file, "%s", sm_journal_path(journal));
    SM_CHECK_OK(sm_journal_finish(&journal, &err), &err);
    sm_journal_abandon(&journal); /* NULL inside */
    sm_tmpdir_remove(&dir);
}

/* ---- faults ---- */

static void an_end_is_told_only_when_it_is_synced(void **state)
{
    (void)state;
    const sm_tmpdir dir = sm_tmpdir_make();
    const sm_tmppath catalog = catalog_in(&dir);
    const sm_journal_head head = head_of(1, 2, 0);
    const sm_outcome outcome = failed(1);
    sm_error err = SM_ERROR_INIT;
    sm_journal *journal = NULL;
    struct stat info;
    SM_CHECK_OK(sm_journal_create(catalog.path, &head, &journal, &err), &err);
    assert_true(synced.n >= 4); /* the folders, the head, its folder */
    const unsigned before = synced.n;
    SM_CHECK_OK(sm_journal_begin(journal, 1, "a", 1, &err), &err);
    assert_int_equal(synced.n, before);
    SM_CHECK_OK(sm_journal_end(journal, &outcome, &err), &err);
    assert_int_equal(synced.n, before + 1);
    assert_int_equal(stat(sm_journal_path(journal), &info), 0);
    assert_true(synced.bytes == info.st_size);
    SM_CHECK_OK(sm_journal_flush(journal, &err), &err); /* nothing is left */
    assert_int_equal(synced.n, before + 1);
    SM_CHECK_OK(sm_journal_finish(&journal, &err), &err);
    assert_int_equal(synced.n, before + 2);
    sm_tmpdir_remove(&dir);
}

/* Whatever single write, fsync or close fails, in the end the last file has every line. */
static void a_failed_call_costs_a_file_and_no_event(void **state)
{
    (void)state;
    unsigned n = 1;
    for (bool met = true; met; n++) {
        const sm_tmpdir dir = sm_tmpdir_make();
        const sm_tmppath catalog = catalog_in(&dir);
        const sm_journal_head head = head_of(1, 2, 0);
        sm_error err = SM_ERROR_INIT;
        sm_journal *journal = NULL;
        sm_journal_file *files = NULL;
        size_t n_files = 0;
        sm_journal_fail_at(n, 0);
        sm_status st = sm_journal_create(catalog.path, &head, &journal, &err);
        if (st != SM_OK) {
            assert_true(n <= 3 && st == SM_ERR_IO);
            assert_null(journal);
            SM_CHECK_OK(sm_journal_create(catalog.path, &head, &journal, &err), &err);
        }
        SM_CHECK_OK(tell_slides(journal, &err), &err);
        SM_CHECK_OK(sm_journal_finish(&journal, &err), &err);
        SM_CHECK_OK(sm_journal_list(catalog.path, 1, 2, &files, &n_files, &err), &err);
        assert_true(n_files >= 1);
        const tally t = read_path(files[n_files - 1].path);
        if (t.events != LINES || t.bad > 0 || t.torn > 0)
            fail_msg("call %u: %u events, %u bad, torn %" PRIu64, n, t.events, t.bad, t.torn);
        for (size_t i = 0; i + 1 < n_files; i++) /* what was given up is a beginning */
            assert_int_equal(read_path(files[i].path).bad, 0);
        met = n <= 3 || n_files == 2;
        sm_journal_files_free(&files, n_files);
        sm_tmpdir_remove(&dir);
    }
    sm_journal_fail_at(0, 0);
    /* create: write, fsync, folder; a slide: write, write, fsync; finish: write, fsync, close */
    assert_int_equal(n - 2, 3 + 3 * SLIDES + 3);
}

/* The mount is gone for long: every call says so, and what was told comes out later. */
static void events_wait_for_the_mount(void **state)
{
    (void)state;
    const sm_tmpdir dir = sm_tmpdir_make();
    const sm_tmppath catalog = catalog_in(&dir);
    const sm_journal_head head = head_of(1, 2, 0);
    const sm_outcome one = failed(1), two = failed(2), three = failed(3);
    sm_error err = SM_ERROR_INIT;
    sm_journal *journal = NULL;
    sm_journal_file *files = NULL;
    size_t n_files = 0;
    SM_CHECK_OK(sm_journal_create(catalog.path, &head, &journal, &err), &err);
    SM_CHECK_OK(sm_journal_end(journal, &one, &err), &err);
    sm_journal_fail_at(1, 1000);
    SM_CHECK_FAILS(sm_journal_end(journal, &two, &err), &err, SM_ERR_IO, "journal");
    SM_CHECK_FAILS(sm_journal_flush(journal, &err), &err, SM_ERR_IO, "journal");
    SM_CHECK_FAILS(sm_journal_end(journal, &three, &err), &err, SM_ERR_IO, "journal");
    sm_journal_fail_at(0, 0);
    SM_CHECK_OK(sm_journal_flush(journal, &err), &err);
    SM_CHECK_OK(sm_journal_list(catalog.path, 1, 2, &files, &n_files, &err), &err);
    assert_int_equal(n_files, 2); /* the first, and the one that could be written */
    assert_true(!files[0].live && files[1].live);
    assert_string_equal(files[1].path, sm_journal_path(journal));
    assert_int_equal(read_path(files[1].path).ends, 3);
    sm_journal_files_free(&files, n_files);
    sm_journal_fail_at(1, 1000);
    SM_CHECK_FAILS(sm_journal_finish(&journal, &err), &err, SM_ERR_IO, "journal");
    assert_null(journal);
    sm_journal_fail_at(0, 0);
    sm_tmpdir_remove(&dir);
}

static void memory_that_runs_out_is_said(void **state)
{
    (void)state;
    const sm_tmpdir dir = sm_tmpdir_make();
    const sm_tmppath catalog = catalog_in(&dir);
    sm_error err = SM_ERROR_INIT;
    sm_status st = SM_ERR_NOMEM;
    for (uint32_t n = 0; st != SM_OK; n++) {
        const sm_journal_head head = head_of(1, 2, n);
        sm_journal *journal = NULL;
        assert_true(n < 1000);
        sm_alloc_fail_after(n);
        st = sm_journal_create(catalog.path, &head, &journal, &err);
        if (st == SM_OK)
            st = tell_slides(journal, &err);
        if (st == SM_OK)
            st = sm_journal_finish(&journal, &err);
        assert_true(st == SM_OK || st == SM_ERR_NOMEM);
        sm_journal_abandon(&journal);
    }
    sm_alloc_fail_after(-1);
    sm_tmpdir_remove(&dir);
}

/* ---- the folder ---- */

static void writers_are_seen_while_they_live(void **state)
{
    (void)state;
    const sm_tmpdir dir = sm_tmpdir_make();
    const sm_tmppath catalog = catalog_in(&dir);
    const sm_journal_head head = head_of(1, 2, 0);
    sm_error err = SM_ERROR_INIT;
    sm_journal_file *files = NULL;
    size_t n = 0;
    int ready[2];
    char byte = 0;
    assert_int_equal(pipe(ready), 0);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        sm_journal *journal = NULL;
        if (sm_journal_create(catalog.path, &head, &journal, &err) != SM_OK ||
            sm_journal_begin(journal, 1, "a.svs", 1, &err) != SM_OK || write(ready[1], "x", 1) != 1)
            _exit(1);
        pause();
        _exit(0);
    }
    assert_int_equal(read(ready[0], &byte, 1), 1);
    SM_CHECK_OK(sm_journal_list(catalog.path, 1, SM_NO_SHARD, &files, &n, &err), &err);
    assert_true(n == 1 && files[0].live);
    sm_journal_files_free(&files, n);
    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, NULL, 0), child);
    SM_CHECK_OK(sm_journal_list(catalog.path, 1, SM_NO_SHARD, &files, &n, &err), &err);
    assert_true(n == 1 && !files[0].live);
    const tally t = read_path(files[0].path);
    assert_true(t.heads == 1 && t.begins == 1 && t.finishes == 0);
    sm_journal_files_free(&files, n);
    close(ready[0]);
    close(ready[1]);
    sm_tmpdir_remove(&dir);
}

static void lists_are_of_the_shard_and_of_all(void **state)
{
    (void)state;
    const sm_tmpdir dir = sm_tmpdir_make();
    const sm_tmppath catalog = catalog_in(&dir);
    sm_error err = SM_ERROR_INIT;
    sm_journal_file *files = NULL;
    size_t n = 0;
    SM_CHECK_OK(sm_journal_list(catalog.path, 1, 2, &files, &n, &err), &err);
    assert_int_equal(n, 0); /* no folder yet */
    const struct {
        uint32_t plan, shard, rank;
    } heads[] = {{1, 2, 0}, {1, 2, 1}, {1, 3, 0}, {2, 2, 0}, {0, SM_NO_SHARD, 4}};
    for (size_t i = 0; i < SM_COUNT(heads); i++) {
        const sm_journal_head head = head_of(heads[i].plan, heads[i].shard, heads[i].rank);
        (void)write_journal(catalog.path, &head);
    }
    /* what else may lie there */
    const sm_tmppath stray = sm_tmpdir_file(&dir, "c.smc.d/journal/all/notes.txt");
    const sm_tmppath hidden = sm_tmpdir_file(&dir, "c.smc.d/journal/all/.x.jsonl");
    const sm_tmppath linked = sm_tmpdir_file(&dir, "c.smc.d/journal/all/link.jsonl");
    const sm_tmppath folder = sm_tmpdir_file(&dir, "c.smc.d/journal/loop");
    sm_file_write(stray.path, "x", 1);
    sm_file_write(hidden.path, "x", 1);
    assert_int_equal(symlink("/etc/passwd", linked.path), 0);
    assert_int_equal(symlink("/", folder.path), 0);
    SM_CHECK_OK(sm_journal_list(catalog.path, 1, 2, &files, &n, &err), &err);
    assert_int_equal(n, 3);
    assert_non_null(strstr(files[0].path, "/all/" RUN "-r0004-00.jsonl"));
    assert_non_null(strstr(files[2].path, "/p0001-s0002/" RUN "-r0001-00.jsonl"));
    sm_journal_files_free(&files, n);
    SM_CHECK_OK(sm_journal_list(catalog.path, 1, SM_NO_SHARD, &files, &n, &err), &err);
    assert_int_equal(n, 5);
    sm_journal_files_free(&files, n);
    sm_tmpdir_remove(&dir);
}

static void retired_journals_keep_their_bytes(void **state)
{
    (void)state;
    const sm_tmpdir dir = sm_tmpdir_make();
    const sm_tmppath catalog = catalog_in(&dir);
    const sm_tmppath merged = sm_tmpdir_file(&dir, "c.smc.d/journal/merged");
    const sm_journal_head head = head_of(1, 2, 0);
    const sm_tmppath file = write_journal(catalog.path, &head);
    sm_error err = SM_ERROR_INIT;
    sm_journal_file *files = NULL;
    size_t n = 0;
    SM_CHECK_OK(sm_journal_retire(catalog.path, file.path, &err), &err);
    SM_CHECK_OK(sm_journal_retire(catalog.path, file.path, &err), &err); /* gone already */
    assert_int_not_equal(access(file.path, F_OK), 0);
    sm_file_write(file.path, "another of that name", 20);
    SM_CHECK_OK(sm_journal_retire(catalog.path, file.path, &err), &err);
    assert_int_equal(sm_tmpdir_count(merged.path), 2);
    const sm_tmppath first = sm_tmpdir_file(&dir, "c.smc.d/journal/merged/" RUN "-r0000-00.jsonl");
    assert_int_equal(read_path(first.path).events, LINES);
    SM_CHECK_OK(sm_journal_list(catalog.path, 1, SM_NO_SHARD, &files, &n, &err), &err);
    assert_int_equal(n, 0);
    /* killed between its two steps: the next one completes it */
    assert_int_equal(link(first.path, file.path), 0);
    SM_CHECK_OK(sm_journal_retire(catalog.path, file.path, &err), &err);
    assert_int_equal(sm_tmpdir_count(merged.path), 2);
    assert_int_not_equal(access(file.path, F_OK), 0);
    sm_tmpdir_remove(&dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_told_is_read),
        cmocka_unit_test(journals_of_nobody_are_refused),
        cmocka_unit_test(torn_tail_is_dropped),
        cmocka_unit_test(flipped_bits_are_seen),
        cmocka_unit_test(sealed_nonsense_is_refused),
        cmocka_unit_test(files_that_are_no_journals_are_said),
        cmocka_unit_test(nothing_follows_the_closing_line),
        cmocka_unit_test(endless_lines_take_no_memory),
        cmocka_unit_test(events_beyond_the_line_are_refused),
        cmocka_unit_test(an_end_is_told_only_when_it_is_synced),
        cmocka_unit_test(a_failed_call_costs_a_file_and_no_event),
        cmocka_unit_test(events_wait_for_the_mount),
        cmocka_unit_test(memory_that_runs_out_is_said),
        cmocka_unit_test(writers_are_seen_while_they_live),
        cmocka_unit_test(lists_are_of_the_shard_and_of_all),
        cmocka_unit_test(retired_journals_keep_their_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
