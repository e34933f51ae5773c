/* Tests of tiler/blank_jpeg.c: a tile of one colour that decodes as one among a level's own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/check.h"
#include "tests/support/fake_slide.h"
#include "tests/support/jpegs.h"
#include "tests/support/random.h"
#include "tiler/blank_jpeg.h"
#include "tiler/decode.h"
#include "tiler/jpeg_info.h"

/* A level whose tiles are of this kind, and its tables. */
typedef struct world {
    sm_fake_slide *fake;
    sm_level *level;
    sm_buf tables;
} world;

static world world_new(const sm_recipe *r, uint32_t tile_w, uint32_t tile_h)
{
    world w = {.fake = sm_fake_new()};
    w.level = sm_fake_add(w.fake, 1000, 1000, tile_w, tile_h);
    w.level->jpeg = (sm_jpeg_traits){r->space == JCS_YCbCr ? SM_COLOUR_YCBCR : SM_COLOUR_RGB,
                                     (uint8_t)r->h,
                                     (uint8_t)r->v,
                                     3,
                                     true,
                                     0};
    if (!r->tables) {
        w.tables = sm_recipe_tables(r);
        w.level->jpeg_tables = w.tables.data;
        w.level->jpeg_tables_len = w.tables.len;
    }
    return w;
}

static void world_free(world *w)
{
    sm_buf_free(&w->tables);
    sm_fake_free(&w->fake);
}

/* All pixels of the tile, through libjpeg and through our decoder, are this colour or near it. */
static void check_colour(const char *name, const world *w, const sm_buf *blank,
                         const uint8_t rgb[3], int off)
{
    sm_error err = SM_ERROR_INIT;
    uint32_t width = 0, height = 0;
    const sm_level *l = w->level;
    const J_COLOR_SPACE space = l->jpeg.colour == SM_COLOUR_YCBCR ? JCS_YCbCr : JCS_RGB;
    uint8_t *got = sm_jpeg_pixels(&w->tables, blank, space, &width, &height);
    if (width != l->tile_w_px || height != l->tile_h_px)
        fail_msg("%s: %u x %u px", name, width, height);
    const size_t n = 3 * (size_t)width * height;
    for (size_t i = 0; i < n; i++)
        if (abs(got[i] - rgb[i % 3]) > off)
            fail_msg("%s: byte %zu is %u instead of %u", name, i, got[i], rgb[i % 3]);
    sm_decoder *decoder = NULL;
    uint8_t *ours = malloc(n);
    assert_non_null(ours);
    SM_CHECK_OK(sm_decoder_open(&w->fake->slide, 0, &decoder, &err), &err);
    SM_CHECK_OK(sm_decoder_tile(decoder, blank->data, blank->len, NULL, 0, 1, ours,
                                3 * (size_t)width, &err),
                &err);
    for (size_t i = 0; i < n; i++)
        if (abs(ours[i] - rgb[i % 3]) > off)
            fail_msg("%s: our decoder: byte %zu is %u instead of %u", name, i, ours[i], rgb[i % 3]);
    sm_decoder_close(&decoder);
    free(ours);
    free(got);
}

static const struct {
    const char *name;
    sm_recipe recipe;
    uint32_t tile_w, tile_h;
} KINDS[] = {
    {"Aperio RGB, quality 30", {.space = JCS_RGB, .h = 1, .v = 1, .quality = 30}, 240, 240},
    {"Aperio RGB, quality 70", {.space = JCS_RGB, .h = 1, .v = 1, .quality = 70}, 240, 240},
    {"Aperio 4:2:2, quality 70", {.space = JCS_YCbCr, .h = 2, .v = 1, .quality = 70}, 256, 256},
    {"GT450 4:4:4, quality 91", {.space = JCS_YCbCr, .h = 1, .v = 1, .quality = 91}, 256, 256},
    {"4:2:0, quality 75", {.space = JCS_YCbCr, .h = 2, .v = 2, .quality = 75}, 512, 512},
    {"4:2:0, quality 80", {.space = JCS_YCbCr, .h = 2, .v = 2, .quality = 80}, 1024, 1024},
    {"4:2:0, quality 100", {.space = JCS_YCbCr, .h = 2, .v = 2, .quality = 100}, 16, 16},
    {"oblong tiles", {.space = JCS_YCbCr, .h = 2, .v = 2, .quality = 75}, 512, 128},
    {"a third table",
     {.space = JCS_YCbCr, .h = 1, .v = 1, .quality = 75, .third_table = true},
     256,
     256},
    {"tables in each tile, 4:2:0",
     {.space = JCS_YCbCr, .h = 2, .v = 2, .quality = 30, .tables = true},
     256,
     256},
    {"tables in each tile, RGB",
     {.space = JCS_RGB, .h = 1, .v = 1, .quality = 30, .tables = true},
     240,
     240},
};

static void neutral_colours_come_back_within_two(void **state)
{
    (void)state;
    static const uint8_t GREYS[] = {255, 254, 243, 240, 128, 17, 0};
    for (size_t k = 0; k < SM_COUNT(KINDS); k++) {
        world w = world_new(&KINDS[k].recipe, KINDS[k].tile_w, KINDS[k].tile_h);
        for (size_t i = 0; i < SM_COUNT(GREYS); i++) {
            sm_error err = SM_ERROR_INIT;
            sm_buf blank = {0};
            const uint8_t rgb[3] = {GREYS[i], GREYS[i], GREYS[i]};
            SM_CHECK_OK(sm_blank_jpeg(w.level, rgb, &blank, &err), &err);
            check_colour(KINDS[k].name, &w, &blank, rgb, 2);
            sm_buf_free(&blank);
        }
        world_free(&w);
    }
}

/* DC is kept to half a quantisation step (at most 28 and 16 at these qualities), of which 8 are one
 * level; chroma counts up to 1.772 times. */
static void other_colours_come_back_as_near_as_the_tables_allow(void **state)
{
    (void)state;
    static const uint8_t COLOURS[][3] = {{240, 230, 245}, {200, 100, 180}, {255, 0, 0},
                                         {0, 255, 0},     {0, 0, 255},     {12, 34, 56}};
    for (size_t k = 0; k < SM_COUNT(KINDS); k++) {
        world w = world_new(&KINDS[k].recipe, KINDS[k].tile_w, KINDS[k].tile_h);
        for (size_t i = 0; i < SM_COUNT(COLOURS); i++) {
            sm_error err = SM_ERROR_INIT;
            sm_buf blank = {0};
            SM_CHECK_OK(sm_blank_jpeg(w.level, COLOURS[i], &blank, &err), &err);
            check_colour(KINDS[k].name, &w, &blank, COLOURS[i], 5);
            sm_buf_free(&blank);
        }
        world_free(&w);
    }
}

static void the_stream_is_of_the_levels_kind(void **state)
{
    (void)state;
    static const uint8_t WHITE[3] = {255, 255, 255};
    for (size_t k = 0; k < SM_COUNT(KINDS); k++) {
        world w = world_new(&KINDS[k].recipe, KINDS[k].tile_w, KINDS[k].tile_h);
        sm_error err = SM_ERROR_INIT;
        sm_buf blank = {0}, bare = {0};
        sm_jpeg_header h;
        SM_CHECK_OK(sm_buf_append(&blank, "x", 1, &err), &err); /* it appends */
        SM_CHECK_OK(sm_blank_jpeg(w.level, WHITE, &blank, &err), &err);
        assert_int_equal(blank.data[0], 'x');
        SM_CHECK_OK(sm_jpeg_header_read(blank.data + 1, blank.len - 1, &h, &err), &err);
        if (h.n_components != 3 || h.precision != 8 || h.sof > 0xC1 ||
            h.h[0] != w.level->jpeg.h_samp || h.v[0] != w.level->jpeg.v_samp || h.h[1] != 1 ||
            h.v[2] != 1 || h.jfif || h.adobe)
            fail_msg("%s: another kind of stream", KINDS[k].name);
        const bool own_tables = w.level->jpeg_tables == NULL;
        if (h.has_dqt != own_tables || h.has_dht != own_tables)
            fail_msg("%s: tables %d, %d", KINDS[k].name, h.has_dqt, h.has_dht);
        /* the photometric tag of the output agrees with what a reader would guess */
        const uint16_t photometric = w.level->jpeg.colour == SM_COLOUR_YCBCR ? 6 : 2;
        if (sm_jpeg_colour(&h, photometric) != w.level->jpeg.colour)
            fail_msg("%s: another colour space", KINDS[k].name);
        SM_CHECK_OK(sm_jpeg_strip(blank.data + 1, blank.len - 1, &bare, &err), &err);
        assert_int_equal(bare.len, blank.len - 1);
        assert_memory_equal(bare.data, blank.data + 1, bare.len);
        sm_buf_free(&blank);
        sm_buf_free(&bare);
        world_free(&w);
    }
}

/* The tables-only stream made of these segments of a complete one. */
static sm_buf tables_of(const sm_buf *stream, uint8_t marker_a, uint8_t marker_b)
{
    sm_error err = SM_ERROR_INIT;
    sm_buf out = {0};
    SM_CHECK_OK(sm_buf_append(&out, "\xFF\xD8", 2, &err), &err);
    for (size_t at = 2; stream->data[at + 1] != 0xDA;) {
        const size_t n = 2 + ((size_t)stream->data[at + 2] << 8 | stream->data[at + 3]);
        if (stream->data[at + 1] == marker_a || stream->data[at + 1] == marker_b)
            SM_CHECK_OK(sm_buf_append(&out, stream->data + at, n, &err), &err);
        at += n;
    }
    SM_CHECK_OK(sm_buf_append(&out, "\xFF\xD9", 2, &err), &err);
    return out;
}

/* A picture whose optimised tables have codes for little more than itself. */
static sm_buf narrow_stream(const sm_recipe *r, uint8_t from, uint8_t range)
{
    uint8_t rgb[64 * 64 * 3];
    sm_random random = {range + 1u};
    for (size_t i = 0; i < sizeof rgb; i++)
        rgb[i] = (uint8_t)(from + (range > 0 ? sm_random_below(&random, range) : 0));
    return sm_recipe_stream(r, rgb, 64, 64);
}

static void tables_that_lack_a_code_are_refused_not_misused(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        J_COLOR_SPACE space;
        int sampling;
        uint8_t from, range;
    } cases[] = {
        {"mid-grey only, 4:2:0", JCS_YCbCr, 2, 128, 0},
        {"near mid-grey, 4:2:0", JCS_YCbCr, 2, 120, 16},
        {"near mid-grey, RGB", JCS_RGB, 1, 120, 16},
        {"dark noise, RGB", JCS_RGB, 1, 0, 90},
        {"all there is, 4:2:0", JCS_YCbCr, 2, 0, 255},
        {"white only, 4:2:0", JCS_YCbCr, 2, 255, 0},
    };
    static const uint8_t COLOURS[][3] = {{255, 255, 255}, {128, 128, 128}, {240, 20, 100}};
    unsigned refused = 0, made = 0;
    for (size_t k = 0; k < SM_COUNT(cases); k++) {
        const sm_recipe r = {.space = cases[k].space,
                             .h = cases[k].sampling,
                             .v = cases[k].sampling,
                             .quality = 90,
                             .tables = true,
                             .optimise = true};
        sm_buf stream = narrow_stream(&r, cases[k].from, cases[k].range);
        world w = world_new(&r, 256, 256);
        w.tables = tables_of(&stream, 0xDB, 0xC4);
        w.level->jpeg_tables = w.tables.data;
        w.level->jpeg_tables_len = w.tables.len;
        for (size_t i = 0; i < SM_COUNT(COLOURS); i++) {
            sm_error err = SM_ERROR_INIT;
            sm_buf blank = {0};
            const sm_status st = sm_blank_jpeg(w.level, COLOURS[i], &blank, &err);
            if (st == SM_OK)
                check_colour(cases[k].name, &w, &blank, COLOURS[i], 5);
            else if (st != SM_ERR_FORMAT || blank.len != 0)
                fail_msg("%s: %s %s", cases[k].name, sm_status_name(st), err.message);
            refused += st != SM_OK;
            made += st == SM_OK;
            sm_buf_free(&blank);
        }
        sm_buf_free(&stream);
        world_free(&w);
    }
    assert_true(refused > 0 && made > 0); /* white after nothing but grey; white after white */
}

static void tables_that_are_not_whole_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        uint8_t marker_a, marker_b; /* what is there */
    } cases[] = {{"DQT only", 0xDB, 0xDB}, {"DHT only", 0xC4, 0xC4}, {"nothing", 0, 0}};
    static const uint8_t WHITE[3] = {255, 255, 255};
    const sm_recipe r = {.space = JCS_YCbCr, .h = 2, .v = 2, .quality = 75, .tables = true};
    sm_buf stream = narrow_stream(&r, 0, 255);
    for (size_t i = 0; i < SM_COUNT(cases); i++) {
        sm_error err = SM_ERROR_INIT;
        sm_buf blank = {0};
        world w = world_new(&r, 256, 256);
        w.tables = tables_of(&stream, cases[i].marker_a, cases[i].marker_b);
        w.level->jpeg_tables = w.tables.data;
        w.level->jpeg_tables_len = w.tables.len;
        const sm_status st = sm_blank_jpeg(w.level, WHITE, &blank, &err);
        if (st != SM_ERR_FORMAT || blank.len != 0)
            fail_msg("%s: %s %s", cases[i].name, sm_status_name(st), err.message);
        world_free(&w);
    }
    sm_buf_free(&stream);
}

static void damaged_tables_do_no_harm(void **state)
{
    (void)state;
    static const uint8_t WHITE[3] = {255, 255, 255};
    sm_random random = {71};
    for (unsigned i = 0; i < 1500; i++) {
        sm_error err = SM_ERROR_INIT;
        sm_buf blank = {0};
        world w = world_new(&KINDS[2].recipe, 32, 32);
        const size_t len =
            i % 3 == 0 ? sm_random_below(&random, (uint32_t)w.tables.len) : w.tables.len;
        uint8_t *exact = malloc(len + 1); /* a sanitizer sees its end */
        assert_non_null(exact);
        memcpy(exact, w.tables.data, len);
        for (unsigned k = 0; k < i % 3; k++)
            exact[sm_random_below(&random, (uint32_t)len)] ^=
                (uint8_t)(1u << sm_random_below(&random, 8));
        w.level->jpeg_tables = exact;
        w.level->jpeg_tables_len = len;
        const sm_status st = sm_blank_jpeg(w.level, WHITE, &blank, &err);
        if (st != SM_OK && st != SM_ERR_FORMAT)
            fail_msg("case %u: %s %s", i, sm_status_name(st), err.message);
        if (i % 3 == 0 && st == SM_OK)
            fail_msg("%zu of %zu bytes were enough", len, w.tables.len);
        sm_buf_free(&blank);
        free(exact);
        world_free(&w);
    }
}

static void every_failed_allocation_is_reported(void **state)
{
    (void)state;
    static const uint8_t WHITE[3] = {255, 255, 255};
    world w = world_new(&KINDS[0].recipe, 240, 240);
    long n = 0;
    for (sm_status st = SM_ERR_NOMEM; st != SM_OK; n++) {
        sm_error err = SM_ERROR_INIT;
        sm_buf blank = {0};
        sm_alloc_fail_after(n);
        st = sm_blank_jpeg(w.level, WHITE, &blank, &err);
        sm_alloc_fail_after(-1);
        if (st != SM_OK)
            assert_int_equal(st, SM_ERR_NOMEM);
        sm_buf_free(&blank);
    }
    assert_true(n > 2);
    world_free(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(neutral_colours_come_back_within_two),
        cmocka_unit_test(other_colours_come_back_as_near_as_the_tables_allow),
        cmocka_unit_test(the_stream_is_of_the_levels_kind),
        cmocka_unit_test(tables_that_lack_a_code_are_refused_not_misused),
        cmocka_unit_test(tables_that_are_not_whole_are_refused),
        cmocka_unit_test(damaged_tables_do_no_harm),
        cmocka_unit_test(every_failed_allocation_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
