/* Tests of tiler/tiff_dirs.c on TIFFs built byte by byte, so that they can be wrong in any way. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/check.h"
#include "tiler/tiff_dirs.h"

#define CAP (512u * 1024)
#define WIDTH 6u
#define HEIGHT 5u

/* A little-endian classic TIFF under construction; pixels stand at byte 8. */
typedef struct maker {
    uint8_t *bytes;
    size_t len;
    size_t last_next; /* where the last directory keeps the offset of the next */
} maker;

typedef struct entry {
    uint16_t tag, type;
    uint32_t count, value;
} entry;

enum { T_BYTE = 1, T_ASCII = 2, T_SHORT = 3, T_LONG = 4, T_UNDEFINED = 7 };

static void put(uint8_t *at, uint64_t value, size_t n)
{
    for (size_t i = 0; i < n; i++)
        at[i] = (uint8_t)(value >> 8 * i);
}

static maker start(void)
{
    maker m = {.bytes = calloc(CAP, 1), .len = 8 + WIDTH * HEIGHT, .last_next = 4};
    assert_non_null(m.bytes);
    memcpy(m.bytes, "II*\0", 4);
    for (size_t i = 0; i < WIDTH * HEIGHT; i++)
        m.bytes[8 + i] = (uint8_t)(i * 8);
    return m;
}

static uint32_t put_bytes(maker *m, const void *bytes, size_t len)
{
    const size_t at = m->len;
    assert_true(at + len < CAP);
    memcpy(m->bytes + at, bytes, len);
    m->len += len;
    return (uint32_t)at;
}

static int by_tag(const void *a, const void *b)
{
    return (int)((const entry *)a)->tag - (int)((const entry *)b)->tag;
}

/* A directory of a grey image with more entries (which replace those of the same tag), linked or
 * not to the one before. Returns its offset. */
static uint32_t put_dir(maker *m, bool linked, const entry *more, size_t n_more)
{
    entry all[24] = {
        {256, T_LONG, 1, WIDTH}, {257, T_LONG, 1, HEIGHT}, {258, T_SHORT, 1, 8},
        {259, T_SHORT, 1, 1},    {262, T_SHORT, 1, 1},     {273, T_LONG, 1, 8},
        {277, T_SHORT, 1, 1},    {278, T_LONG, 1, HEIGHT}, {279, T_LONG, 1, WIDTH * HEIGHT},
    };
    size_t n = 9;
    for (size_t i = 0; i < n_more; i++) {
        size_t k = 0;
        while (k < n && all[k].tag != more[i].tag)
            k++;
        all[k] = more[i];
        n += k == n;
    }
    qsort(all, n, sizeof *all, by_tag);
    m->len += m->len & 1;
    const size_t at = m->len, size = 2 + 12 * n + 4;
    assert_true(at + size < CAP);
    put(m->bytes + at, n, 2);
    for (size_t i = 0; i < n; i++) {
        uint8_t *e = m->bytes + at + 2 + 12 * i;
        put(e, all[i].tag, 2);
        put(e + 2, all[i].type, 2);
        put(e + 4, all[i].count, 4);
        put(e + 8, all[i].value, 4);
    }
    m->len += size;
    if (linked) {
        put(m->bytes + m->last_next, at, 4);
        m->last_next = at + size - 4;
    }
    return (uint32_t)at;
}

static sm_status open_bytes(const void *bytes, size_t len, sm_tiff **tiff, sm_error *err)
{
    sm_source *source = NULL;
    uint8_t *exact = malloc(len > 0 ? len : 1); /* so that a sanitizer sees its end */
    assert_non_null(exact);
    memcpy(exact, bytes, len);
    *tiff = NULL;
    SM_CHECK_OK(sm_source_open_memory(exact, len, "memory", &source, err), err);
    const sm_status st = sm_tiff_open(source, tiff, err);
    sm_source_close(&source);
    free(exact);
    return st;
}

static sm_status open_maker(const maker *m, sm_tiff **tiff, sm_error *err)
{
    return open_bytes(m->bytes, m->len, tiff, err);
}

static void directories_come_in_chain_order_with_their_tags(void **state)
{
    (void)state;
    sm_error err = SM_ERROR_INIT;
    sm_tiff *tiff = NULL;
    maker m = start();
    const uint32_t text = put_bytes(&m, "Aperio x", 9), soft = put_bytes(&m, "Philips DP", 11);
    const uint32_t res = put_bytes(&m, "\x10\x27\0\0\x02\0\0\0", 8); /* 10000/2 */
    const entry first[] = {{270, T_ASCII, 9, text},
                           {305, T_ASCII, 11, soft},
                           {282, 5, 1, res},
                           {283, 5, 1, res},
                           {296, T_SHORT, 1, 3}};
    const entry second[] = {{254, T_LONG, 1, 9}, {256, T_LONG, 1, 3}};
    const uint32_t a = put_dir(&m, true, first, 5), b = put_dir(&m, true, second, 2);
    SM_CHECK_OK(open_maker(&m, &tiff, &err), &err);
    assert_int_equal(sm_tiff_count(tiff), 2);
    assert_int_equal(sm_tiff_chain_count(tiff), 2);
    assert_false(sm_tiff_is_bigtiff(tiff) || sm_tiff_is_big_endian(tiff));
    const sm_tiff_dir *dir = sm_tiff_dir_at(tiff, 0);
    assert_int_equal(dir->offset, a);
    assert_int_equal(dir->status, SM_OK);
    assert_int_equal(dir->w_px, WIDTH);
    assert_int_equal(dir->h_px, HEIGHT);
    assert_int_equal(dir->bits, 8);
    assert_int_equal(dir->samples, 1);
    assert_int_equal(dir->predictor, 1);
    assert_int_equal(dir->fill_order, 1);
    assert_false(dir->tiled);
    assert_int_equal(dir->n_tiles, 1);
    assert_int_equal(dir->offsets[0], 8);
    assert_int_equal(dir->lens[0], WIDTH * HEIGHT);
    assert_string_equal(dir->description, "Aperio x");
    assert_string_equal(dir->software, "Philips DP");
    assert_string_equal(dir->make, "");
    assert_int_equal(dir->res_unit, 3);
    assert_true(dir->x_res > 4999.9 && dir->x_res < 5000.1);
    dir = sm_tiff_dir_at(tiff, 1);
    assert_int_equal(dir->offset, b);
    assert_int_equal(dir->index, 1);
    assert_int_equal(dir->subfile, 9);
    assert_int_equal(sm_tiff_find(tiff, b), 1);
    assert_int_equal(sm_tiff_find(tiff, b + 2), SM_TIFF_SUBIFD);
    sm_tiff_close(&tiff);
    assert_null(tiff);
    free(m.bytes);
}

static void big_endian_bigtiff_is_read(void **state)
{
    (void)state;
    static const struct {
        uint16_t tag, type;
        uint8_t value[8];
    } e[] = {
        {256, 3, {0, 6}}, {257, 3, {0, 5}}, {258, 3, {0, 8}},
        {259, 3, {0, 1}}, {262, 3, {0, 1}}, {273, 16, {0, 0, 0, 0, 0, 0, 0, 16}},
        {277, 3, {0, 1}}, {278, 3, {0, 5}}, {279, 16, {0, 0, 0, 0, 0, 0, 0, 30}},
    };
    uint8_t bytes[48 + 8 + 20 * SM_COUNT(e) + 8] = "MM\0+\0\x08";
    bytes[15] = 48;
    bytes[48 + 7] = SM_COUNT(e);
    for (size_t i = 0; i < SM_COUNT(e); i++) {
        uint8_t *at = bytes + 56 + 20 * i;
        at[0] = (uint8_t)(e[i].tag >> 8);
        at[1] = (uint8_t)e[i].tag;
        at[3] = (uint8_t)e[i].type;
        at[11] = 1;
        memcpy(at + 12, e[i].value, 8);
    }
    sm_error err = SM_ERROR_INIT;
    sm_tiff *tiff = NULL;
    SM_CHECK_OK(open_bytes(bytes, sizeof bytes, &tiff, &err), &err);
    assert_true(sm_tiff_is_bigtiff(tiff) && sm_tiff_is_big_endian(tiff));
    assert_int_equal(sm_tiff_dir_at(tiff, 0)->offset, 48);
    assert_int_equal(sm_tiff_dir_at(tiff, 0)->offsets[0], 16);
    assert_int_equal(sm_tiff_dir_at(tiff, 0)->lens[0], 30);
    sm_tiff_close(&tiff);
}

static void other_files_are_not_tiffs(void **state)
{
    (void)state;
    static const char *const files[] = {
        "", "II", "II*", "\x89PNG\r\n\x1a\n 12345678", "II\x2B\x2Axxxxxxx", "MM*\0MM*\0"};
    for (size_t i = 0; i < SM_COUNT(files); i++) {
        sm_error err = SM_ERROR_INIT;
        sm_tiff *tiff = NULL;
        SM_CHECK_FAILS(open_bytes(files[i], strlen(files[i]), &tiff, &err), &err, SM_ERR_FORMAT,
                       "not a TIFF");
        assert_null(tiff);
    }
}

static void a_loop_is_corrupt(void **state)
{
    (void)state;
    for (unsigned back_to = 0; back_to < 3; back_to++) {
        sm_error err = SM_ERROR_INIT;
        sm_tiff *tiff = NULL;
        maker m = start();
        uint32_t at[3];
        for (unsigned i = 0; i < 3; i++)
            at[i] = put_dir(&m, true, NULL, 0);
        put(m.bytes + m.last_next, at[back_to], 4);
        SM_CHECK_FAILS(open_maker(&m, &tiff, &err), &err, SM_ERR_CORRUPT, "TIFF directory 3");
        assert_null(tiff);
        free(m.bytes);
    }
}

static void an_unreadable_directory_of_the_chain_is_named(void **state)
{
    (void)state;
    sm_error err = SM_ERROR_INIT;
    sm_tiff *tiff = NULL;
    maker m = start();
    (void)put_dir(&m, true, NULL, 0);
    put(m.bytes + m.last_next, 400000, 4);
    SM_CHECK_FAILS(open_maker(&m, &tiff, &err), &err, SM_ERR_CORRUPT,
                   "TIFF directory 1 at byte 400000 cannot be read: ");
    assert_int_equal(err.offset, 400000);
    put(m.bytes + 4, 999999, 4);
    SM_CHECK_FAILS(open_maker(&m, &tiff, &err), &err, SM_ERR_CORRUPT,
                   "TIFF directory 0 at byte 999999 cannot be read: ");
    free(m.bytes);
}

static void a_directory_without_its_link_is_cut_off(void **state)
{
    (void)state;
    sm_error err = SM_ERROR_INIT;
    sm_tiff *tiff = NULL;
    maker m = start();
    (void)put_dir(&m, true, NULL, 0);
    (void)put_dir(&m, true, NULL, 0);
    m.len--;
    SM_CHECK_FAILS(open_maker(&m, &tiff, &err), &err, SM_ERR_CORRUPT,
                   "TIFF directory 1 is cut off by the end of the file");
    free(m.bytes);
}

static void too_many_directories_are_a_limit(void **state)
{
    (void)state;
    sm_error err = SM_ERROR_INIT;
    sm_tiff *tiff = NULL;
    maker m = start();
    for (unsigned i = 0; i < SM_TIFF_MAX_DIRS; i++)
        (void)put_dir(&m, true, NULL, 0);
    SM_CHECK_OK(open_maker(&m, &tiff, &err), &err);
    assert_int_equal(sm_tiff_count(tiff), SM_TIFF_MAX_DIRS);
    sm_tiff_close(&tiff);
    (void)put_dir(&m, true, NULL, 0);
    SM_CHECK_FAILS(open_maker(&m, &tiff, &err), &err, SM_ERR_LIMIT, "more than 1024 directories");
    free(m.bytes);
}

static void too_many_tiles_mark_their_directory(void **state)
{
    (void)state;
    sm_error err = SM_ERROR_INIT;
    sm_tiff *tiff = NULL;
    maker m = start();
    const entry many[] = {{257, T_LONG, 1, 100000000}, {278, T_LONG, 1, 1}};
    (void)put_dir(&m, true, NULL, 0);
    (void)put_dir(&m, true, many, 2);
    SM_CHECK_OK(open_maker(&m, &tiff, &err), &err);
    assert_int_equal(sm_tiff_dir_at(tiff, 0)->status, SM_OK);
    assert_int_equal(sm_tiff_dir_at(tiff, 1)->status, SM_ERR_LIMIT);
    assert_non_null(strstr(sm_tiff_dir_at(tiff, 1)->problem, "100000000 tiles"));
    assert_null(sm_tiff_dir_at(tiff, 1)->offsets);
    sm_tiff_close(&tiff);
    free(m.bytes);
}

static void subifds_are_read_once_and_bad_ones_marked(void **state)
{
    (void)state;
    sm_error err = SM_ERROR_INIT;
    sm_tiff *tiff = NULL;
    maker m = start();
    const entry small[] = {{256, T_LONG, 1, 2}};
    const uint32_t sub = put_dir(&m, false, small, 1);
    const size_t list = put_bytes(&m, "............", 12);
    const entry parent[] = {{330, T_LONG, 3, (uint32_t)list}};
    (void)put_dir(&m, true, parent, 1);
    const uint32_t chained = put_dir(&m, true, small, 1);
    put(m.bytes + list, chained, 4);
    put(m.bytes + list + 4, 300000, 4);
    put(m.bytes + list + 8, sub, 4);
    SM_CHECK_OK(open_maker(&m, &tiff, &err), &err);
    assert_int_equal(sm_tiff_chain_count(tiff), 2);
    assert_int_equal(sm_tiff_count(tiff), 4);
    assert_int_equal(sm_tiff_dir_at(tiff, 0)->n_subifds, 3);
    assert_int_equal(sm_tiff_find(tiff, sm_tiff_dir_at(tiff, 0)->subifds[0]), 1);
    assert_int_equal(sm_tiff_dir_at(tiff, 2)->status, SM_ERR_CORRUPT);
    assert_int_equal(sm_tiff_dir_at(tiff, 2)->offset, 300000);
    assert_non_null(strstr(sm_tiff_dir_at(tiff, 2)->problem, "TIFF SubIFD at byte 300000"));
    assert_int_equal(sm_tiff_dir_at(tiff, 3)->status, SM_OK);
    assert_int_equal(sm_tiff_dir_at(tiff, 3)->index, SM_TIFF_SUBIFD);
    assert_int_equal(sm_tiff_dir_at(tiff, 3)->w_px, 2);
    sm_tiff_close(&tiff);
    free(m.bytes);
}

static void equal_profiles_are_kept_once(void **state)
{
    (void)state;
    sm_error err = SM_ERROR_INIT;
    sm_tiff *tiff = NULL;
    maker m = start();
    const uint32_t a = put_bytes(&m, "profile one", 11), b = put_bytes(&m, "profile one", 11);
    const uint32_t c = put_bytes(&m, "profile two", 11);
    const entry icc[3] = {
        {34675, T_UNDEFINED, 11, a}, {34675, T_UNDEFINED, 11, b}, {34675, T_UNDEFINED, 11, c}};
    for (int i = 0; i < 3; i++)
        (void)put_dir(&m, true, &icc[i], 1);
    SM_CHECK_OK(open_maker(&m, &tiff, &err), &err);
    assert_int_equal(sm_tiff_dir_at(tiff, 0)->icc_len, 11);
    assert_memory_equal(sm_tiff_dir_at(tiff, 0)->icc, "profile one", 11);
    assert_ptr_equal(sm_tiff_dir_at(tiff, 0)->icc, sm_tiff_dir_at(tiff, 1)->icc);
    assert_memory_equal(sm_tiff_dir_at(tiff, 2)->icc, "profile two", 11);
    sm_tiff_close(&tiff);
    free(m.bytes);
}

static void scanner_signs_are_found(void **state)
{
    (void)state;
    sm_error err = SM_ERROR_INIT;
    sm_tiff *tiff = NULL;
    maker m = start();
    const uint32_t xmp = put_bytes(&m, "<x><iScan Mag=\"40\"/></x>", 24);
    const entry ndpi[] = {{65420, T_LONG, 1, 1}}, bif[] = {{700, T_BYTE, 24, xmp}};
    (void)put_dir(&m, true, ndpi, 1);
    (void)put_dir(&m, true, bif, 1);
    SM_CHECK_OK(open_maker(&m, &tiff, &err), &err);
    assert_true(sm_tiff_dir_at(tiff, 0)->has_ndpi_tag && !sm_tiff_dir_at(tiff, 0)->has_iscan_xmp);
    assert_true(!sm_tiff_dir_at(tiff, 1)->has_ndpi_tag && sm_tiff_dir_at(tiff, 1)->has_iscan_xmp);
    sm_tiff_close(&tiff);
    free(m.bytes);
}

/* Every prefix, and every byte turned around: any answer but a crash, a leak or a hang. */
static void no_damage_is_fatal(void **state)
{
    (void)state;
    maker m = start();
    const uint32_t icc = put_bytes(&m, "profile", 7), list = put_bytes(&m, "....", 4);
    const uint32_t sub = put_dir(&m, false, NULL, 0);
    put(m.bytes + list, sub, 4);
    const entry more[] = {{34675, T_UNDEFINED, 7, icc}, {330, T_LONG, 1, sub},
                          {322, T_LONG, 1, 16},         {323, T_LONG, 1, 16},
                          {324, T_LONG, 1, 8},          {325, T_LONG, 1, 30}};
    (void)put_dir(&m, true, more, 2);
    (void)put_dir(&m, true, more, 6);
    unsigned opened = 0, refused = 0;
    for (size_t i = 0; i < 5 * m.len; i++) {
        static const uint8_t masks[] = {0xFF, 0x01, 0x80, 0x10};
        const size_t at = i % m.len, kind = i / m.len;
        const uint8_t old = m.bytes[at];
        sm_error err = SM_ERROR_INIT;
        sm_tiff *tiff = NULL;
        if (kind > 0)
            m.bytes[at] ^= masks[kind - 1];
        const sm_status st = open_bytes(m.bytes, kind > 0 ? m.len : at, &tiff, &err);
        if ((st == SM_OK) != (tiff != NULL) || (st != SM_OK && err.message[0] == '\0'))
            fail_msg("byte %zu: status %s without its proof", at, sm_status_name(st));
        if (kind == 0 && st == SM_OK)
            fail_msg("a file cut at byte %zu was read", at);
        opened += st == SM_OK;
        refused += st != SM_OK;
        sm_tiff_close(&tiff);
        m.bytes[at] = old;
    }
    assert_true(opened > 0 && refused > 0);
    free(m.bytes);
}

static void pixels_of_a_directory_are_decoded(void **state)
{
    (void)state;
    sm_error err = SM_ERROR_INIT;
    sm_source *source = NULL;
    uint8_t rgb[3 * WIDTH * HEIGHT];
    maker m = start();
    const uint32_t at = put_dir(&m, true, NULL, 0);
    SM_CHECK_OK(sm_source_open_memory(m.bytes, m.len, "memory", &source, &err), &err);
    SM_CHECK_OK(sm_tiff_read_rgb(source, at, WIDTH, HEIGHT, rgb, &err), &err);
    for (size_t i = 0; i < sizeof rgb; i++)
        assert_int_equal(rgb[i], i / 3 * 8);
    SM_CHECK_FAILS(sm_tiff_read_rgb(source, at, WIDTH, HEIGHT - 1, rgb, &err), &err, SM_ERR_CORRUPT,
                   "changed its size");
    SM_CHECK_FAILS(sm_tiff_read_rgb(source, at, 100000, 100000, rgb, &err), &err, SM_ERR_LIMIT,
                   "100000x100000");
    SM_CHECK_FAILS(sm_tiff_read_rgb(source, 3, WIDTH, HEIGHT, rgb, &err), &err, SM_ERR_CORRUPT,
                   "byte 3");
    sm_source_close(&source);
    free(m.bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(directories_come_in_chain_order_with_their_tags),
        cmocka_unit_test(big_endian_bigtiff_is_read),
        cmocka_unit_test(other_files_are_not_tiffs),
        cmocka_unit_test(a_loop_is_corrupt),
        cmocka_unit_test(an_unreadable_directory_of_the_chain_is_named),
        cmocka_unit_test(a_directory_without_its_link_is_cut_off),
        cmocka_unit_test(too_many_directories_are_a_limit),
        cmocka_unit_test(too_many_tiles_mark_their_directory),
        cmocka_unit_test(subifds_are_read_once_and_bad_ones_marked),
        cmocka_unit_test(equal_profiles_are_kept_once),
        cmocka_unit_test(scanner_signs_are_found),
        cmocka_unit_test(no_damage_is_fatal),
        cmocka_unit_test(pixels_of_a_directory_are_decoded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
