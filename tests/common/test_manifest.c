/* Tests of common/manifest*.c: lists from outside, and our own for others. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "common/manifest.h"
#include "tests/support/check.h"
#include "tests/support/random.h"
#include "tests/support/tmpdir.h"

#define MD5 "000102030405060708090a0b0c0d0e0f"
#define SHA MD5 "101112131415161718191a1b1c1d1e1f"

enum { MAX_ENTRIES = 8 };

typedef struct entry_copy {
    uint64_t line, size_bytes;
    char path[300], id[64], vendor[64], digest[80];
} entry_copy;

/* Everything of a list. */
typedef struct listing {
    sm_status open;
    sm_manifest_kind kind;
    entry_copy entries[MAX_ENTRIES];
    unsigned n, n_bad;
    char message[512]; /* of the first failure */
} listing;

static void copy_text(char *to, size_t cap, const char *text)
{
    snprintf(to, cap, "%s", text != NULL ? text : "-");
}

static void keep_entry(listing *l, const sm_manifest_entry *entry)
{
    char hex[SM_DIGEST_HEX_CAP];
    if (l->n < MAX_ENTRIES) {
        entry_copy *copy = &l->entries[l->n];
        copy->line = entry->line;
        copy->size_bytes = entry->size_bytes;
        copy_text(copy->path, sizeof copy->path, entry->path);
        copy_text(copy->id, sizeof copy->id, entry->external_id);
        copy_text(copy->vendor, sizeof copy->vendor, entry->vendor);
        snprintf(copy->digest, sizeof copy->digest, "%s",
                 entry->has_digest ? sm_digest_hex(&entry->digest, hex) : "-");
    }
    l->n++;
}

static listing read_source(const sm_source *source, sm_manifest_kind kind, bool folders)
{
    sm_error err = SM_ERROR_INIT;
    sm_manifest *manifest = NULL;
    sm_manifest_entry entry;
    listing l = {0};
    bool more = true;
    l.open = sm_manifest_open(source, kind, folders, &manifest, &err);
    copy_text(l.message, sizeof l.message, err.message);
    if (l.open != SM_OK) {
        assert_null(manifest);
        return l;
    }
    l.kind = sm_manifest_get_kind(manifest);
    while (more) {
        const sm_status st = sm_manifest_next(manifest, &entry, &more, &err);
        if (st == SM_OK && more)
            keep_entry(&l, &entry);
        if (st != SM_OK) {
            if (st != SM_ERR_FORMAT)
                fail_msg("%s: %s", sm_status_name(st), err.message);
            if (l.n_bad++ == 0)
                copy_text(l.message, sizeof l.message, err.message);
        }
    }
    sm_manifest_close(&manifest);
    return l;
}

static listing read_text(const void *text, size_t len, sm_manifest_kind kind, bool folders)
{
    sm_error err = SM_ERROR_INIT;
    sm_source *source = NULL;
    SM_CHECK_OK(sm_source_open_memory(text, len, "list", &source, &err), &err);
    const listing l = read_source(source, kind, folders);
    sm_source_close(&source);
    return l;
}

static listing read_auto(const char *text)
{
    return read_text(text, strlen(text), SM_MANIFEST_AUTO, false);
}

static void lists_are_recognised(void **state)
{
    (void)state;
    static const struct {
        const char *name, *text;
        sm_manifest_kind kind;
        const char *path, *digest, *id;
        uint64_t size_bytes;
    } cases[] = {
        {"sha256sum", SHA "  a/b.svs\n", SM_MANIFEST_SHA256SUM, "a/b.svs", SHA, "-", UINT64_MAX},
        {"binary mode", SHA " *a/b.svs\n", SM_MANIFEST_SHA256SUM, "a/b.svs", SHA, "-", UINT64_MAX},
        {"no newline", SHA "  a", SM_MANIFEST_SHA256SUM, "a", SHA, "-", UINT64_MAX},
        {"a comment first", "# by hand\n\n" SHA "  a\n", SM_MANIFEST_SHA256SUM, "a", SHA, "-",
         UINT64_MAX},
        {"escaped", "\\" SHA "  a\\\\b\\nc\\rd\n", SM_MANIFEST_SHA256SUM, "a\\b\nc\rd", SHA, "-",
         UINT64_MAX},
        {"backslash that is none", SHA "  a\\b\n", SM_MANIFEST_SHA256SUM, "a\\b", SHA, "-",
         UINT64_MAX},
        {"BSD", "SHA256 (a (1) = b) = " SHA "\n", SM_MANIFEST_SHA256SUM, "a (1) = b", SHA, "-",
         UINT64_MAX},
        {"BSD, MD5", "MD5 (x) = " MD5 "\r\n", SM_MANIFEST_MD5SUM, "x", MD5, "-", UINT64_MAX},
        {"md5sum", MD5 "  ./a//b.svs\r\n", SM_MANIFEST_MD5SUM, "a/b.svs", MD5, "-", UINT64_MAX},
        {"upper case", "000102030405060708090A0B0C0D0E0F  a\n", SM_MANIFEST_MD5SUM, "a", MD5, "-",
         UINT64_MAX},
        {"leading space in the name", MD5 "   a\n", SM_MANIFEST_MD5SUM, " a", MD5, "-", UINT64_MAX},
        {"byte order mark", "\xEF\xBB\xBF" SHA "  a\n", SM_MANIFEST_SHA256SUM, "a", SHA, "-",
         UINT64_MAX},
        {"GDC", "id\tfilename\tmd5\tsize\tstate\n007-x\tTCGA 1.svs\t" MD5 "\t12\treleased\n",
         SM_MANIFEST_GDC, "TCGA 1.svs", MD5, "007-x", 12},
        {"CSV", "path,size,sha256,id\na/b.svs,7," SHA ",0012\n", SM_MANIFEST_CSV, "a/b.svs", SHA,
         "0012", 7},
        {"CSV, other names", "ID,Vendor, FileName ,Bytes\r\n01,aperio,a.svs,0\r\n", SM_MANIFEST_CSV,
         "a.svs", "-", "01", 0},
        {"CSV, one column", "file\na\n", SM_MANIFEST_CSV, "a", "-", "-", UINT64_MAX},
        {"CSV, columns we do not know", "stain,path,note\nHE,a.svs,x\n", SM_MANIFEST_CSV, "a.svs",
         "-", "-", UINT64_MAX},
        {"CSV, a short row", "path,size,md5\na.svs\n", SM_MANIFEST_CSV, "a.svs", "-", "-",
         UINT64_MAX},
        {"CSV, path before filename", "filename,path\nx.svs,a/x.svs\n", SM_MANIFEST_CSV, "a/x.svs",
         "-", "-", UINT64_MAX},
        {"CSV, quoted", "\"path\",\"id\"\n\"a,b\"\"c\nd.svs\",\"1\"\n", SM_MANIFEST_CSV,
         "a,b\"c\nd.svs", "-", "1", UINT64_MAX},
        {"CSV, quotes within", "path\na\"b\"c\n", SM_MANIFEST_CSV, "a\"b\"c", "-", "-", UINT64_MAX},
        {"CSV, strongest digest", "md5,sha256,xxh128,path\n" MD5 "," SHA "," MD5 ",a\n",
         SM_MANIFEST_CSV, "a", SHA, "-", UINT64_MAX},
        {"TSV", "path\tsize\na,\"b\t5\n", SM_MANIFEST_TSV, "a,\"b", "-", "-", 5},
        {"SQL", "path,id\n'); DROP TABLE slide;--,' OR 1=1\n", SM_MANIFEST_CSV,
         "'); DROP TABLE slide;--", "-", "' OR 1=1", UINT64_MAX},
        {"no UTF-8", SHA "  a\xFF\xFE.svs\n", SM_MANIFEST_SHA256SUM, "a\xFF\xFE.svs", SHA, "-",
         UINT64_MAX},
    };
    for (size_t i = 0; i < SM_COUNT(cases); i++) {
        const listing l = read_auto(cases[i].text);
        const entry_copy *e = &l.entries[0];
        if (l.open != SM_OK || l.kind != cases[i].kind || l.n != 1 || l.n_bad != 0)
            fail_msg("%s: %s, %u entries, %u bad: %s", cases[i].name, sm_manifest_kind_name(l.kind),
                     l.n, l.n_bad, l.message);
        if (strcmp(e->path, cases[i].path) != 0 || strcmp(e->digest, cases[i].digest) != 0 ||
            strcmp(e->id, cases[i].id) != 0 || e->size_bytes != cases[i].size_bytes)
            fail_msg("%s: '%s' %s '%s' %" PRIu64, cases[i].name, e->path, e->digest, e->id,
                     e->size_bytes);
    }
}

static void gdc_folders_are_those_of_its_client(void **state)
{
    (void)state;
    static const char TEXT[] = "id\tfilename\tmd5\tsize\tstate\n"
                               "0a-1\tx.svs\t" MD5 "\t1\treleased\n"
                               "\ty.svs\t" MD5 "\t1\treleased\n"
                               "..\tz.svs\t" MD5 "\t1\treleased\n";
    const listing l = read_text(TEXT, strlen(TEXT), SM_MANIFEST_GDC, true);
    assert_int_equal(l.n, 1);
    assert_int_equal(l.n_bad, 2);
    assert_string_equal(l.entries[0].path, "0a-1/x.svs");
    assert_string_equal(l.entries[0].id, "0a-1");
}

static void other_files_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *name, *text;
        size_t len;
        sm_manifest_kind kind;
        const char *message;
    } cases[] = {
        {"empty", "", 0, SM_MANIFEST_AUTO, "empty"},
        {"blank", "\n\r\n\n", 4, SM_MANIFEST_AUTO, "empty"},
        {"prose", "Dear colleague\n", 15, SM_MANIFEST_AUTO, "line 1: neither"},
        {"a table of something else", "a,b\n1,2\n", 8, SM_MANIFEST_AUTO, "line 1: neither"},
        {"no header", "", 0, SM_MANIFEST_CSV, "no header"},
        {"UTF-16", "\xFF\xFEp\0a\0", 6, SM_MANIFEST_AUTO, "UTF-16"},
        {"binary", "II*\0\10\0\0\0", 8, SM_MANIFEST_AUTO, "NUL"},
        {"two paths", "path,path\n", 10, SM_MANIFEST_CSV, "two columns 'path'"},
        {"no path", "sha256\n", 7, SM_MANIFEST_CSV, "no column 'path'"},
        {"not of GDC", "id\tfilename\n", 12, SM_MANIFEST_GDC, "GDC"},
        {"a quote never closed", "\"path\n", 6, SM_MANIFEST_CSV, "never closed"},
    };
    for (size_t i = 0; i < SM_COUNT(cases); i++) {
        const listing l = read_text(cases[i].text, cases[i].len, cases[i].kind, false);
        if (l.open != SM_ERR_FORMAT || strstr(l.message, cases[i].message) == NULL ||
            strncmp(l.message, "list: ", 6) != 0)
            fail_msg("%s: %s", cases[i].name, l.message);
    }
}

/* One bad line costs one entry: the third line is read in every case. */
static void bad_lines_are_said_and_passed_over(void **state)
{
    (void)state;
    static const struct {
        const char *name, *text, *message;
    } cases[] = {
        {"up and out", SHA "  a\n" SHA "  ../x\n" SHA "  c\n", "line 2: '../x'"},
        {"up in the middle", SHA "  a\n" SHA "  b/../../x\n" SHA "  c\n", "'..'"},
        {"absolute", SHA "  a\n" SHA "  /etc/passwd\n" SHA "  c\n", "absolute"},
        {"empty path", SHA "  a\n" SHA "  \n" SHA "  c\n", "empty"},
        {"a folder", SHA "  a\n" SHA "  b/\n" SHA "  c\n", "folder"},
        {"short digest", SHA "  a\n0102  b\n" SHA "  c\n", "not a digest"},
        {"another digest", SHA "  a\n" MD5 "  b\n" SHA "  c\n", "not a sha256"},
        {"one space", SHA "  a\n" SHA " b\n" SHA "  c\n", "not a digest"},
        {"wrong escape", SHA "  a\n\\" SHA "  b\\x\n" SHA "  c\n", "escapes nothing"},
        {"escape at the end", SHA "  a\n\\" SHA "  b\\\n" SHA "  c\n", "escapes nothing"},
        {"BSD of another", SHA "  a\nMD5 (b) = " SHA "\n" SHA "  c\n", "not a digest"},
        {"size with letters", "path,size\na,1\nb,12z\nc,1\n", "line 3: its size"},
        {"negative size", "path,size\na,1\nb,-1\nc,1\n", "its size"},
        {"size of 2^63", "path,size\na,1\nb,9223372036854775808\nc,1\n", "its size"},
        {"size of 2^64", "path,size\na,1\nb,18446744073709551616\nc,1\n", "its size"},
        {"digest with letters", "path,md5\na,\nb,xyz\nc,\n", "its md5"},
        {"weaker digest is wrong", "path,md5,sha256\na,,\nb,xyz," SHA "\nc,,\n", "its md5"},
        {"no path", "path,size\na,1\n,1\nc,1\n", "empty"},
        {"text behind a quote", "path,size\na,1\n\"b\"x,1\nc,1\n", "closing quote"},
        {"id with an escape", "path,id\na,1\nb,\x1b[2J\nc,1\n", "control characters"},
    };
    for (size_t i = 0; i < SM_COUNT(cases); i++) {
        const listing l = read_auto(cases[i].text);
        if (l.n != 2 || l.n_bad != 1 || strstr(l.message, cases[i].message) == NULL)
            fail_msg("%s: %u entries, %u bad: %s", cases[i].name, l.n, l.n_bad, l.message);
        assert_string_equal(l.entries[0].path, "a");
        assert_string_equal(l.entries[1].path, "c");
    }
}

static void nul_bytes_are_refused(void **state)
{
    (void)state;
    static const char TEXT[] = "path,size\na\0b,1\nc,1\n";
    const listing l = read_text(TEXT, sizeof TEXT - 1, SM_MANIFEST_CSV, false);
    assert_true(l.n == 1 && l.n_bad == 1);
    assert_non_null(strstr(l.message, "line 2: a NUL"));
}

static void lines_are_counted_through_quotes(void **state)
{
    (void)state;
    const listing l = read_auto("path,id\n\n\"a\nb\n\nc\",1\nd,2\ne,\"\n\"\nf,3\n");
    assert_int_equal(l.n, 3);
    assert_int_equal(l.entries[0].line, 3);
    assert_int_equal(l.entries[1].line, 7);
    assert_int_equal(l.n_bad, 1); /* an id of two lines */
    assert_non_null(strstr(l.message, "line 8:"));
    assert_int_equal(l.entries[2].line, 10);
}

/* 1 GiB without a newline, and a quote that is never closed: bounded memory, the rest is read. */
static void endless_lines_take_no_memory(void **state)
{
    (void)state;
    const sm_tmpdir dir = sm_tmpdir_make();
    const sm_tmppath file = sm_tmpdir_file(&dir, "list");
    sm_error err = SM_ERROR_INIT;
    sm_source *source = NULL;
    struct rusage before, after;
    sm_file_write(file.path, SHA "  a\n", 68);
    FILE *out = fopen(file.path, "r+b");
    assert_non_null(out);
    assert_int_equal(fseek(out, INT64_C(1) << 30, SEEK_SET), 0);
    assert_true(fputs("\n" SHA "  c\n", out) > 0);
    assert_int_equal(fclose(out), 0);
    getrusage(RUSAGE_SELF, &before);
    SM_CHECK_OK(sm_source_open(file.path, &source, &err), &err);
    const listing l = read_source(source, SM_MANIFEST_AUTO, false);
    sm_source_close(&source);
    getrusage(RUSAGE_SELF, &after);
    assert_true(l.n == 2 && l.n_bad == 1);
    assert_string_equal(l.entries[1].path, "c");
    assert_int_equal(l.entries[1].line, 3);
    assert_non_null(strstr(l.message, "line 2: longer"));
    assert_true(after.ru_maxrss - before.ru_maxrss < 8 * 1024);
    sm_tmpdir_remove(&dir);
}

static void unclosed_quotes_end_at_the_limit(void **state)
{
    (void)state;
    enum { LEN = 200000 };
    char *text = malloc(LEN + 64);
    assert_non_null(text);
    memcpy(text, "path\n\"a\n", 8);
    for (size_t i = 8; i < LEN; i++)
        text[i] = i % 50 == 49 ? '\n' : 'x';
    memcpy(text + LEN, "\nlast\n", 7);
    const listing l = read_text(text, LEN + 6, SM_MANIFEST_CSV, false);
    free(text);
    assert_int_equal(l.n_bad, 1);
    assert_non_null(strstr(l.message, "line 2: longer than 65536 bytes"));
    assert_true(l.n > 2000); /* what stands behind the limit is read */
    const listing short_one = read_auto("path\na\n\"b\nc\n");
    assert_true(short_one.n == 1 && short_one.n_bad == 1);
    assert_non_null(strstr(short_one.message, "line 3: a quote is opened and never closed"));
}

static void columns_are_bounded(void **state)
{
    (void)state;
    static char text[2000] = "path\n";
    memset(text + 5, ',', 300);
    memcpy(text + 305, "\nb\n", 3);
    const listing l = read_auto(text);
    assert_true(l.n == 1 && l.n_bad == 1);
    assert_non_null(strstr(l.message, "256 columns"));
}

/* ---- writing ---- */

static const char *as_text(sm_buf *buf)
{
    sm_error err = SM_ERROR_INIT;
    SM_CHECK_OK(sm_buf_append(buf, "", 1, &err), &err);
    buf->len--;
    return (const char *)buf->data;
}

static void sums_are_written_as_coreutils_does(void **state)
{
    (void)state;
    static const struct {
        const char *path, *line;
    } cases[] = {
        {"a/b c.svs", SHA "  a/b c.svs\n"},
        {"a\\b", "\\" SHA "  a\\\\b\n"},
        {"a\nb\rc", "\\" SHA "  a\\nb\\rc\n"},
        {"\xFF\t", SHA "  \xFF\t\n"},
    };
    sm_error err = SM_ERROR_INIT;
    sm_digest digest;
    sm_buf out = {0};
    SM_CHECK_OK(sm_digest_parse(SM_DIGEST_SHA256, SHA, &digest, &err), &err);
    for (size_t i = 0; i < SM_COUNT(cases); i++) {
        out.len = 0;
        SM_CHECK_OK(sm_manifest_write_sum(&digest, cases[i].path, &out, &err), &err);
        assert_string_equal(as_text(&out), cases[i].line);
        const listing l = read_auto(as_text(&out));
        assert_int_equal(l.n, 1);
        assert_string_equal(l.entries[0].path, cases[i].path);
    }
    sm_buf_free(&out);
}

static void csv_fields_come_back(void **state)
{
    (void)state;
    static const char ALPHABET[] = "a,\"\n\r =\\;'\t\xC3\xA9";
    sm_random r = {.x = 3};
    sm_error err = SM_ERROR_INIT;
    sm_buf out = {0};
    for (int i = 0; i < 3000; i++) {
        char path[16] = "x";
        const uint32_t len = sm_random_below(&r, 12);
        for (uint32_t k = 0; k < len; k++)
            path[k] = ALPHABET[sm_random_below(&r, sizeof ALPHABET - 1)];
        memcpy(path + len, "z", 2);
        out.len = 0;
        SM_CHECK_OK(sm_buf_append(&out, "id,path,vendor\n1,", 17, &err), &err);
        SM_CHECK_OK(sm_manifest_write_csv_field(path, &out, &err), &err);
        SM_CHECK_OK(sm_buf_append(&out, ",v\n", 3, &err), &err);
        const listing l = read_auto(as_text(&out));
        if (l.n != 1 || strcmp(l.entries[0].path, path) != 0 ||
            strcmp(l.entries[0].vendor, "v") != 0)
            fail_msg("'%s' came back as '%s': %s", path, l.entries[0].path, l.message);
    }
    out.len = 0;
    SM_CHECK_OK(sm_manifest_write_csv_field("=1+1", &out, &err), &err);
    SM_CHECK_OK(sm_manifest_write_csv_field("", &out, &err), &err);
    assert_string_equal(as_text(&out), "=1+1");
    sm_buf_free(&out);
}

static void damaged_lists_never_crash(void **state)
{
    (void)state;
    static const char TEXT[] = "path,size,sha256,id,vendor\n"
                               "\"a\nb\",12," SHA ",7,x\n"
                               "c/d.svs,," SHA ",\"8\",\n";
    sm_random r = {.x = 11};
    char text[sizeof TEXT];
    for (int i = 0; i < 20000; i++) {
        memcpy(text, TEXT, sizeof TEXT);
        for (uint32_t k = sm_random_below(&r, 4); k-- > 0;)
            text[sm_random_below(&r, sizeof TEXT - 1)] = (char)sm_random_u32(&r);
        const sm_manifest_kind kind = (sm_manifest_kind)sm_random_below(&r, 6);
        (void)read_text(text, sm_random_below(&r, sizeof TEXT), kind, i % 2 == 0);
    }
}

static void memory_that_runs_out_is_said(void **state)
{
    (void)state;
    static const char TEXT[] = "id\tfilename\tmd5\n1\ta\t" MD5 "\n";
    sm_error err = SM_ERROR_INIT;
    sm_source *source = NULL;
    sm_status st = SM_ERR_NOMEM;
    SM_CHECK_OK(sm_source_open_memory(TEXT, strlen(TEXT), "list", &source, &err), &err);
    for (long n = 0; st != SM_OK; n++) {
        sm_manifest *manifest = NULL;
        sm_manifest_entry entry;
        bool more = false;
        assert_true(n < 100);
        sm_alloc_fail_after(n);
        st = sm_manifest_open(source, SM_MANIFEST_GDC, true, &manifest, &err);
        if (st == SM_OK)
            st = sm_manifest_next(manifest, &entry, &more, &err);
        assert_true(st == SM_OK || st == SM_ERR_NOMEM);
        sm_manifest_close(&manifest);
    }
    sm_alloc_fail_after(-1);
    sm_source_close(&source);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lists_are_recognised),
        cmocka_unit_test(gdc_folders_are_those_of_its_client),
        cmocka_unit_test(other_files_are_refused),
        cmocka_unit_test(bad_lines_are_said_and_passed_over),
        cmocka_unit_test(nul_bytes_are_refused),
        cmocka_unit_test(lines_are_counted_through_quotes),
        cmocka_unit_test(endless_lines_take_no_memory),
        cmocka_unit_test(unclosed_quotes_end_at_the_limit),
        cmocka_unit_test(columns_are_bounded),
        cmocka_unit_test(sums_are_written_as_coreutils_does),
        cmocka_unit_test(csv_fields_come_back),
        cmocka_unit_test(damaged_lists_never_crash),
        cmocka_unit_test(memory_that_runs_out_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
