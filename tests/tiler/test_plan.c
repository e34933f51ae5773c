/* Tests of tiler/plan.c: slides that exist only as facts, and what is to be done with them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/check.h"
#include "tests/support/fake_slide.h"
#include "tests/support/random.h"
#include "tiler/plan.h"

#define LEVEL(w, h) SM_FAKE_LEVEL(w, h)
#define TILED(w, h, tile) SM_FAKE_TILED(w, h, tile)

static const sm_plan_options DEFAULTS = {.quality = 75};

/* ---- what holds for every plan ---- */

/* A level is made of pixels that come from somewhere, once. */
static void check_stages(const char *name, const sm_plan *p)
{
    unsigned sources[2 * SM_MAX_LEVELS] = {0}, outs[SM_MAX_LEVELS] = {0};
    for (uint32_t s = 0; s < p->n_stages; s++) {
        const uint32_t child = p->stages[s].child, out = p->stage_out[s];
        if (p->stages[s].wanted != (out != SM_NO_LEVEL))
            fail_msg("%s: stage %u is wanted without an output level", name, s);
        if (out != SM_NO_LEVEL) {
            outs[out]++;
            if (p->out[out].w_px != p->stages[s].w_px || p->out[out].h_px != p->stages[s].h_px)
                fail_msg("%s: output %u has not the size of its stage", name, out);
        }
        if (child == SM_NO_STAGE)
            continue;
        sources[child]++;
        if (p->stages[child].w_px != sm_half_px(p->stages[s].w_px) ||
            p->stages[child].h_px != sm_half_px(p->stages[s].h_px))
            fail_msg("%s: stage %u is not half of stage %u", name, child, s);
    }
    for (uint32_t l = 0; l < p->n_sources; l++) {
        const sm_source_use *use = &p->use[l];
        sources[use->full_stage == SM_NO_STAGE ? 2 * SM_MAX_LEVELS - 1 : use->full_stage]++;
        sources[use->half_stage == SM_NO_STAGE ? 2 * SM_MAX_LEVELS - 1 : use->half_stage]++;
        if (use->copy_to != SM_NO_LEVEL)
            outs[use->copy_to]++;
        if (use->retile_to != SM_NO_LEVEL)
            outs[use->retile_to]++;
    }
    for (uint32_t s = 0; s < p->n_stages; s++)
        if (sources[s] != 1)
            fail_msg("%s: stage %u has %u sources", name, s, sources[s]);
    for (uint32_t i = 0; i < p->n_out; i++)
        if (outs[i] != 1)
            fail_msg("%s: output %u is made %u times", name, i, outs[i]);
}

static void check_levels(const char *name, const sm_plan *p, const sm_slide *slide)
{
    const sm_level *base = sm_slide_level(slide, 0);
    if (p->out[0].w_px != base->w_px || p->out[0].h_px != base->h_px)
        fail_msg("%s: output 0 is not level 0", name);
    for (uint32_t i = 0; i < p->n_out; i++) {
        const sm_out_level *o = &p->out[i];
        const sm_grid grid = sm_grid_for(o->w_px, o->h_px, o->tile_w_px, o->tile_h_px);
        const double down = ((double)base->w_px / o->w_px + (double)base->h_px / o->h_px) / 2;
        if (o->grid.cols != grid.cols || o->grid.rows != grid.rows)
            fail_msg("%s: grid of output %u", name, i);
        if (fabs(o->downsample - down) > 1e-9 * down)
            fail_msg("%s: downsample of output %u is %g", name, i, o->downsample);
        if (o->tile_w_px % 16 != 0 || o->tile_h_px % 16 != 0 || o->compression == 0)
            fail_msg("%s: output %u is not a TIFF level", name, i);
        if (i > 0 && (o->w_px > p->out[i - 1].w_px || o->h_px > p->out[i - 1].h_px ||
                      (o->w_px == p->out[i - 1].w_px && o->h_px == p->out[i - 1].h_px)))
            fail_msg("%s: output %u is not smaller than the one before", name, i);
        const bool anew = o->how != SM_HOW_COPIED && o->how != SM_HOW_RETILED;
        if (anew && !p->encodes)
            fail_msg("%s: output %u is encoded, the plan says nothing is", name, i);
    }
}

/* "1234x567 copied; ..." */
static void describe(const sm_plan *p, char *text, size_t cap)
{
    static const char *const HOW[] = {"copied", "retiled", "transcoded", "idct", "mean"};
    size_t at = 0;
    text[0] = '\0';
    for (uint32_t i = 0; i < p->n_out && at < cap; i++)
        at += (size_t)snprintf(text + at, cap - at, "%s%ux%u/%u %s", i > 0 ? "; " : "",
                               p->out[i].w_px, p->out[i].h_px, p->out[i].tile_w_px,
                               HOW[p->out[i].how]);
}

static void planned(const char *name, const sm_fake_level *levels, size_t n,
                    const sm_plan_options *o, sm_plan *plan)
{
    sm_error err = SM_ERROR_INIT;
    sm_fake_slide *fake = sm_fake_make(levels, n);
    if (sm_plan_make(&fake->slide, o, plan, &err) != SM_OK)
        fail_msg("%s: %s", name, err.message);
    check_levels(name, plan, &fake->slide);
    check_stages(name, plan);
    sm_fake_free(&fake);
}

typedef struct plan_case {
    const char *name;
    sm_fake_level levels[6];
    sm_plan_options options; /* quality 0: 75 */
    const char *want, *why;  /* why: of output 0 */
} plan_case;

static void check_cases(const plan_case *cases, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        sm_plan plan;
        char got[1024];
        sm_plan_options o = cases[i].options;
        o.quality = o.quality != 0 ? o.quality : 75;
        planned(cases[i].name, cases[i].levels, SM_COUNT(cases[i].levels), &o, &plan);
        describe(&plan, got, sizeof got);
        if (strcmp(got, cases[i].want) != 0)
            fail_msg("%s: %s\n    instead of %s", cases[i].name, got, cases[i].want);
        if (strcmp(plan.out[0].why, cases[i].why) != 0)
            fail_msg("%s: why '%s'", cases[i].name, plan.out[0].why);
    }
}

/* ---- which levels ---- */

static void auto_keeps_what_is_there_and_fills_the_gaps(void **state)
{
    (void)state;
    static const plan_case cases[] = {
        {"levels 1, 4, 16 are kept",
         {LEVEL(16000, 12000), LEVEL(4000, 3000), LEVEL(1000, 750)},
         {0},
         "16000x12000/256 copied; 4000x3000/256 copied; 1000x750/256 copied",
         ""},
        {"a missing 4 is made",
         {LEVEL(16000, 12000), LEVEL(1000, 750)},
         {0},
         "16000x12000/256 copied; 4000x3000/256 idct; 1000x750/256 copied",
         ""},
        {"missing 4 and 16",
         {LEVEL(64000, 12000), LEVEL(1000, 187)},
         {0},
         "64000x12000/256 copied; 16000x3000/256 idct; 4000x750/256 mean; 1000x187/256 copied",
         ""},
        {"down to 1024 when the source ends early",
         {LEVEL(16000, 12000), LEVEL(4000, 3000)},
         {0},
         "16000x12000/256 copied; 4000x3000/256 copied; 1000x750/256 idct",
         ""},
        {"by two at the end",
         {LEVEL(2000, 1500)},
         {0},
         "2000x1500/256 copied; 1000x750/256 idct",
         ""},
        {"by four at the end", {LEVEL(2500, 100)}, {0}, "2500x100/256 copied; 625x25/256 idct", ""},
        {"exactly 1024 is small enough", {LEVEL(1024, 1024)}, {0}, "1024x1024/256 copied", ""},
        {"one more is not", {LEVEL(1025, 1)}, {0}, "1025x1/256 copied; 512x1/256 mean", ""},
        {"rounded up sides are a step of 4",
         {LEVEL(4001, 4001), LEVEL(1001, 1001)},
         {0},
         "4001x4001/256 copied; 1001x1001/256 copied",
         ""},
        {"one pixel", {LEVEL(1, 1)}, {0}, "1x1/256 copied", ""},
        {"one column",
         {LEVEL(1, 5000)},
         {0},
         "1x5000/256 copied; 1x1250/256 mean; 1x625/256 mean",
         ""},
        {"a sparse level is not kept",
         {LEVEL(16000, 12000), {4000, 3000, 0, 0, sm_fake_sparse}, LEVEL(1000, 750)},
         {0},
         "16000x12000/256 copied; 4000x3000/256 idct; 1000x750/256 copied",
         ""},
    };
    check_cases(cases, SM_COUNT(cases));
}

static void source_takes_exactly_what_is_there(void **state)
{
    (void)state;
    static const plan_case cases[] = {
        {"one level",
         {LEVEL(16000, 12000)},
         {.levels = SM_LEVELS_SOURCE},
         "16000x12000/256 copied",
         ""},
        {"odd steps",
         {LEVEL(16000, 12000), LEVEL(700, 525), LEVEL(699, 524)},
         {.levels = SM_LEVELS_SOURCE},
         "16000x12000/256 copied; 700x525/256 copied; 699x524/256 copied",
         ""},
        {"a sparse level is moved or decoded, not dropped",
         {LEVEL(16000, 12000), {4000, 3000, 0, 0, sm_fake_sparse}},
         {.levels = SM_LEVELS_SOURCE},
         "16000x12000/256 copied; 4000x3000/256 retiled",
         ""},
    };
    check_cases(cases, SM_COUNT(cases));
}

static void dyadic_halves_until_one_tile_is_enough(void **state)
{
    (void)state;
    static const plan_case cases[] = {
        {"nothing but level 0",
         {LEVEL(1000, 600)},
         {.levels = SM_LEVELS_DYADIC},
         "1000x600/256 copied; 500x300/256 idct; 250x150/256 mean",
         ""},
        {"levels 1, 4, 16",
         {LEVEL(4096, 4096), LEVEL(1024, 1024), LEVEL(256, 256)},
         {.levels = SM_LEVELS_DYADIC},
         "4096x4096/256 copied; 2048x2048/256 idct; 1024x1024/256 copied; 512x512/256 idct; "
         "256x256/256 copied",
         ""},
        {"a level of another size is not taken",
         {LEVEL(1000, 600), LEVEL(501, 301)},
         {.levels = SM_LEVELS_DYADIC},
         "1000x600/256 copied; 500x300/256 idct; 250x150/256 mean",
         ""},
        {"exactly one tile",
         {LEVEL(256, 256)},
         {.levels = SM_LEVELS_DYADIC},
         "256x256/256 copied",
         ""},
        {"one pixel over",
         {LEVEL(257, 256)},
         {.levels = SM_LEVELS_DYADIC},
         "257x256/256 copied; 128x128/256 idct",
         ""},
        {"a row of one pixel",
         {LEVEL(600, 1)},
         {.levels = SM_LEVELS_DYADIC},
         "600x1/256 copied; 300x1/256 mean; 150x1/256 mean",
         ""},
        {"prime sides",
         {LEVEL(521, 1009)},
         {.levels = SM_LEVELS_DYADIC},
         "521x1009/256 copied; 260x504/256 idct; 130x252/256 mean",
         ""},
        {"one pixel", {LEVEL(1, 1)}, {.levels = SM_LEVELS_DYADIC}, "1x1/256 copied", ""},
        {"all of the largest there is, from pixels",
         {{2147483647, 3, 256, 256, sm_fake_strips}},
         {.levels = SM_LEVELS_DYADIC, .tile_px = 4096},
         "2147483647x3/4096 transcoded; 1073741823x1/4096 mean; 536870911x1/4096 mean; "
         "268435455x1/4096 mean; 134217727x1/4096 mean; 67108863x1/4096 mean; "
         "33554431x1/4096 mean; 16777215x1/4096 mean; 8388607x1/4096 mean; 4194303x1/4096 mean; "
         "2097151x1/4096 mean; 1048575x1/4096 mean; 524287x1/4096 mean; 262143x1/4096 mean; "
         "131071x1/4096 mean; 65535x1/4096 mean; 32767x1/4096 mean; 16383x1/4096 mean; "
         "8191x1/4096 mean; 4095x1/4096 mean",
         "it is stored in strips"},
    };
    check_cases(cases, SM_COUNT(cases));
}

/* ---- how each is made ---- */

static void tiles_take_the_cheapest_path_that_is_open(void **state)
{
    (void)state;
#define ONE                                                                                        \
    {                                                                                              \
        .levels = SM_LEVELS_SOURCE                                                                 \
    }
    static const plan_case cases[] = {
        {"240 is a multiple of 16", {TILED(960, 960, 240)}, ONE, "960x960/240 copied", ""},
        {"240 to 256",
         {TILED(960, 960, 240)},
         {.levels = SM_LEVELS_SOURCE, .tile_px = 256},
         "960x960/256 retiled",
         "its tiles are 240 x 240 px and --tile-px asks for 256"},
        {"240 to 512",
         {TILED(960, 960, 240)},
         {.levels = SM_LEVELS_SOURCE, .tile_px = 512},
         "960x960/512 retiled",
         "its tiles are 240 x 240 px and --tile-px asks for 512"},
        {"256 to 256",
         {LEVEL(960, 960)},
         {.levels = SM_LEVELS_SOURCE, .tile_px = 256},
         "960x960/256 copied",
         ""},
        {"retile asked for: 512",
         {TILED(960, 960, 240)},
         {.levels = SM_LEVELS_SOURCE, .tiles = SM_TILES_RETILE},
         "960x960/512 retiled",
         ""},
        {"retile asked for, and there already",
         {TILED(960, 960, 512)},
         {.levels = SM_LEVELS_SOURCE, .tiles = SM_TILES_RETILE},
         "960x960/512 copied",
         ""},
        {"retile asked for, but impossible",
         {{960, 960, 240, 240, sm_fake_deflate}},
         {.levels = SM_LEVELS_SOURCE, .tiles = SM_TILES_RETILE, .codec = SM_CODEC_MODE_DEFLATE},
         "960x960/512 transcoded",
         "only JPEG tiles can be moved as coefficients"},
        {"transcode asked for: nothing to explain",
         {TILED(960, 960, 240)},
         {.levels = SM_LEVELS_SOURCE, .tiles = SM_TILES_TRANSCODE},
         "960x960/240 transcoded",
         ""},
        {"tiles of 200 fall on no MCU of 4:2:0",
         {TILED(960, 960, 200)},
         ONE,
         "960x960/512 transcoded",
         "its tile sides are not multiples of 16"},
        {"tiles of 200 fall on MCUs of 4:4:4",
         {{960, 960, 200, 200, sm_fake_rgb}},
         ONE,
         "960x960/512 retiled",
         "its tile sides are not multiples of 16"},
        {"tiles of 240 x 200 of 4:2:2",
         {{960, 960, 240, 200, sm_fake_422}},
         ONE,
         "960x960/512 retiled",
         "its tile sides are not multiples of 16"},
        {"oblong tiles are copied, but not taken for what is made",
         {{2000, 960, 256, 128, NULL}},
         {0},
         "2000x960/256 copied; 1000x480/512 idct",
         ""},
        {"tiles larger than 1024 likewise",
         {TILED(3000, 960, 2048)},
         {0},
         "3000x960/2048 copied; 750x240/512 idct",
         ""},
        {"strips",
         {{960, 960, 960, 8, sm_fake_strips}},
         ONE,
         "960x960/512 transcoded",
         "it is stored in strips"},
        {"strips of 16",
         {{512, 960, 512, 16, sm_fake_strips}},
         ONE,
         "512x960/512 transcoded",
         "it is stored in strips"},
        {"planar",
         {{960, 960, 256, 256, sm_fake_planar}},
         ONE,
         "960x960/256 transcoded",
         "its colours are stored in separate planes"},
        {"grey",
         {{960, 960, 256, 256, sm_fake_grey}},
         ONE,
         "960x960/256 transcoded",
         "its pixels are not 8-bit RGB"},
        {"progressive",
         {{960, 960, 256, 256, sm_fake_progressive}},
         ONE,
         "960x960/256 transcoded",
         "its JPEG tiles are not baseline"},
        {"rendered",
         {{960, 960, 512, 512, sm_fake_rendered}},
         ONE,
         "960x960/512 transcoded",
         "its tiles are only to be had as pixels, through OpenSlide"},
        {"level 0 with missing JPEG tiles is copied",
         {{960, 960, 256, 256, sm_fake_sparse}},
         ONE,
         "960x960/256 copied",
         ""},
        {"level 0 with other missing tiles is not",
         {{960, 960, 256, 256, sm_fake_deflate_sparse}},
         {.levels = SM_LEVELS_SOURCE, .codec = SM_CODEC_MODE_DEFLATE},
         "960x960/256 transcoded",
         "some of its tiles are missing"},
        {"another codec",
         {LEVEL(960, 960)},
         {.levels = SM_LEVELS_SOURCE, .codec = SM_CODEC_MODE_ZSTD},
         "960x960/256 transcoded",
         "its tiles are jpeg and --codec asks for zstd"},
        {"deflate to JPEG",
         {{960, 960, 256, 256, sm_fake_deflate}},
         ONE,
         "960x960/256 transcoded",
         "its tiles are deflate and --codec asks for jpeg"},
        {"deflate to deflate",
         {{960, 960, 256, 256, sm_fake_deflate}},
         {.levels = SM_LEVELS_SOURCE, .codec = SM_CODEC_MODE_DEFLATE},
         "960x960/256 copied",
         ""},
        {"the floating-point predictor",
         {{960, 960, 256, 256, sm_fake_deflate_float_predictor}},
         {.levels = SM_LEVELS_SOURCE, .codec = SM_CODEC_MODE_DEFLATE},
         "960x960/256 transcoded",
         "its photometric interpretation or predictor is unusual"},
        {"alpha",
         {{960, 960, 256, 256, sm_fake_deflate_alpha}},
         {.levels = SM_LEVELS_SOURCE, .codec = SM_CODEC_MODE_DEFLATE},
         "960x960/256 transcoded",
         "its pixels are not 8-bit RGB"},
        {"one pixel, moved",
         {TILED(1, 1, 240)},
         {.levels = SM_LEVELS_SOURCE, .tile_px = 256},
         "1x1/256 retiled",
         "its tiles are 240 x 240 px and --tile-px asks for 256"},
    };
    check_cases(cases, SM_COUNT(cases));
}

static void made_levels_start_from_what_is_decoded_anyway(void **state)
{
    (void)state;
    static const plan_case cases[] = {
        {"transcoded: its own pixels",
         {LEVEL(2000, 2000)},
         {.tiles = SM_TILES_TRANSCODE},
         "2000x2000/256 transcoded; 1000x1000/256 mean",
         ""},
        {"copied JPEG: half-size decoding",
         {LEVEL(2000, 2000)},
         {0},
         "2000x2000/256 copied; 1000x1000/256 idct",
         ""},
        {"retiled: half-size decoding",
         {TILED(2000, 2000, 240)},
         {.tile_px = 512},
         "2000x2000/512 retiled; 1000x1000/512 idct",
         "its tiles are 240 x 240 px and --tile-px asks for 512"},
        {"copied, but not JPEG: whole pixels",
         {{2000, 2000, 256, 256, sm_fake_deflate}},
         {.codec = SM_CODEC_MODE_DEFLATE},
         "2000x2000/256 copied; 1000x1000/256 mean",
         ""},
    };
    check_cases(cases, SM_COUNT(cases));
}

static void the_output_says_what_the_bytes_are(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        sm_fake_level level;
        sm_plan_options o;
        uint16_t compression, photometric, predictor;
        uint8_t h, v;
    } cases[] = {
        {"copied YCbCr", LEVEL(512, 512), {.quality = 75}, 7, 6, 1, 2, 2},
        {"copied RGB whose tag says YCbCr",
         {512, 512, 0, 0, sm_fake_rgb},
         {.quality = 75},
         7,
         2,
         1,
         1,
         1},
        {"copied YCbCr whose tag says RGB",
         {512, 512, 0, 0, sm_fake_422},
         {.quality = 75},
         7,
         6,
         1,
         2,
         1},
        {"copied JPEG with a predictor tag that means nothing",
         {512, 512, 0, 0, sm_fake_stray_predictor},
         {.quality = 75},
         7,
         6,
         1,
         2,
         2},
        {"retiled RGB",
         {512, 512, 240, 240, sm_fake_rgb},
         {.quality = 75, .tile_px = 256},
         7,
         2,
         1,
         1,
         1},
        {"copied deflate",
         {512, 512, 0, 0, sm_fake_deflate},
         {.quality = 75, .codec = SM_CODEC_MODE_DEFLATE},
         8,
         2,
         2,
         0,
         0},
        {"zstd", LEVEL(512, 512), {.quality = 75, .codec = SM_CODEC_MODE_ZSTD}, 50000, 2, 2, 0, 0},
        {"lzw", LEVEL(512, 512), {.quality = 75, .codec = SM_CODEC_MODE_LZW}, 5, 2, 2, 0, 0},
        {"none", LEVEL(512, 512), {.quality = 75, .codec = SM_CODEC_MODE_NONE}, 1, 2, 1, 0, 0},
        {"4:2:0 below quality 90",
         LEVEL(512, 512),
         {.quality = 89, .tiles = SM_TILES_TRANSCODE},
         7,
         6,
         1,
         2,
         2},
        {"4:4:4 from quality 90",
         LEVEL(512, 512),
         {.quality = 90, .tiles = SM_TILES_TRANSCODE},
         7,
         6,
         1,
         1,
         1},
        {"4:4:4 on request",
         LEVEL(512, 512),
         {.quality = 50, .tiles = SM_TILES_TRANSCODE, .subsampling = SM_SUBSAMPLING_444},
         7,
         6,
         1,
         1,
         1},
        {"4:2:2 on request",
         LEVEL(512, 512),
         {.quality = 95, .tiles = SM_TILES_TRANSCODE, .subsampling = SM_SUBSAMPLING_422},
         7,
         6,
         1,
         2,
         1},
        {"4:2:0 on request",
         LEVEL(512, 512),
         {.quality = 95, .tiles = SM_TILES_TRANSCODE, .subsampling = SM_SUBSAMPLING_420},
         7,
         6,
         1,
         2,
         2},
    };
    for (size_t i = 0; i < SM_COUNT(cases); i++) {
        sm_plan plan;
        planned(cases[i].name, &cases[i].level, 1, &cases[i].o, &plan);
        const sm_out_level *o = &plan.out[0];
        const bool sampling_ok =
            cases[i].h == 0 || (o->h_samp == cases[i].h && o->v_samp == cases[i].v);
        if (o->compression != cases[i].compression || o->photometric != cases[i].photometric ||
            o->predictor != cases[i].predictor || !sampling_ok)
            fail_msg("%s: compression %u, photometric %u, predictor %u, sampling %ux%u",
                     cases[i].name, o->compression, o->photometric, o->predictor, o->h_samp,
                     o->v_samp);
    }
}

static void nothing_is_encoded_when_all_is_copied(void **state)
{
    (void)state;
    const sm_fake_level levels[] = {LEVEL(4000, 3000), LEVEL(1000, 750)};
    sm_plan plan;
    planned("all copied", levels, 2, &DEFAULTS, &plan);
    assert_false(plan.encodes);
    assert_int_equal(plan.n_stages, 0);
    assert_int_equal(plan.use[0].copy_to, 0);
    assert_int_equal(plan.use[1].copy_to, 1);
    assert_true(plan.use[0].used && plan.use[1].used);
    planned("the second is not needed", levels, 2,
            &(sm_plan_options){.quality = 75, .levels = SM_LEVELS_DYADIC, .tile_px = 4096}, &plan);
    assert_int_equal(plan.n_out, 1);
    assert_false(plan.use[1].used);
}

/* ---- what cannot be ---- */

static void copy_says_which_level_cannot_be_copied_and_why(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        sm_fake_level levels[3];
        sm_plan_options o;
        const char *want;
    } cases[] = {
        {"level 0 in strips",
         {{960, 960, 960, 8, sm_fake_strips}},
         {0},
         "level 0 cannot be copied: it is stored in strips"},
        {"level 1 progressive",
         {LEVEL(960, 960), {480, 480, 0, 0, sm_fake_progressive}},
         {0},
         "level 1 cannot be copied: its JPEG tiles are not baseline"},
        {"level 1 sparse",
         {LEVEL(960, 960), {480, 480, 0, 0, sm_fake_sparse}},
         {.levels = SM_LEVELS_SOURCE},
         "level 1 cannot be copied: some of its tiles are missing"},
        {"another tile size",
         {LEVEL(960, 960)},
         {.tile_px = 512},
         "level 0 cannot be copied: its tiles are 256 x 256 px and --tile-px asks for 512"},
        {"another codec",
         {LEVEL(960, 960)},
         {.codec = SM_CODEC_MODE_LZW},
         "level 0 cannot be copied: its tiles are jpeg and --codec asks for lzw"},
        {"only pixels",
         {{960, 960, 512, 512, sm_fake_rendered}},
         {0},
         "level 0 cannot be copied: its tiles are only to be had as pixels"},
    };
    for (size_t i = 0; i < SM_COUNT(cases); i++) {
        sm_error err = SM_ERROR_INIT;
        sm_plan plan;
        sm_plan_options o = cases[i].o;
        o.quality = 75;
        o.tiles = SM_TILES_COPY;
        sm_fake_slide *fake = sm_fake_make(cases[i].levels, 3);
        const sm_status st = sm_plan_make(&fake->slide, &o, &plan, &err);
        if (st != SM_ERR_FORMAT || strstr(err.message, cases[i].want) == NULL)
            fail_msg("%s: %s: %s", cases[i].name, sm_status_name(st), err.message);
        sm_fake_free(&fake);
    }
}

static void tile_px_must_be_a_multiple_of_16(void **state)
{
    (void)state;
    const sm_fake_level level = LEVEL(960, 960);
    sm_error err = SM_ERROR_INIT;
    sm_plan plan;
    sm_fake_slide *fake = sm_fake_make(&level, 1);
    SM_CHECK_FAILS(
        sm_plan_make(&fake->slide, &(sm_plan_options){.quality = 75, .tile_px = 250}, &plan, &err),
        &err, SM_ERR_ARG, "--tile-px 250");
    sm_fake_free(&fake);
}

static void an_unfit_level_is_transcoded_for_the_reason_given(void **state)
{
    (void)state;
    static const char UNFIT[SM_MAX_LEVELS][128] = {"", "its tiles have different tables"};
    const sm_fake_level levels[] = {LEVEL(4000, 3000), LEVEL(1000, 750)};
    sm_plan_options o = {.quality = 75, .unfit = UNFIT};
    sm_plan plan;
    char got[256];
    planned("unfit", levels, 2, &o, &plan);
    describe(&plan, got, sizeof got);
    assert_string_equal(got, "4000x3000/256 copied; 1000x750/256 transcoded");
    assert_string_equal(plan.out[1].why, "its tiles have different tables");
    o.tiles = SM_TILES_RETILE;
    planned("unfit for retiling", levels, 2, &o, &plan);
    assert_int_equal(plan.out[0].how, SM_HOW_RETILED);
    assert_int_equal(plan.out[1].how, SM_HOW_TRANSCODED);
    assert_string_equal(plan.out[1].why, "its tiles have different tables");
    o.tiles = SM_TILES_COPY;
    sm_error err = SM_ERROR_INIT;
    sm_fake_slide *fake = sm_fake_make(levels, 2);
    SM_CHECK_FAILS(sm_plan_make(&fake->slide, &o, &plan, &err), &err, SM_ERR_FORMAT,
                   "level 1 cannot be copied: its tiles have different tables");
    sm_fake_free(&fake);
}

/* ---- random slides ---- */

static void every_plan_is_consistent(void **state)
{
    (void)state;
    static void (*const BENDS[])(sm_level *) = {
        NULL,           NULL,        sm_fake_strips, sm_fake_planar,   sm_fake_grey,
        sm_fake_sparse, sm_fake_rgb, sm_fake_422,    sm_fake_rendered, sm_fake_deflate};
    static const uint32_t TILES[] = {16, 200, 240, 256, 512, 1024, 2048};
    sm_random r = {11};
    for (unsigned i = 0; i < 3000; i++) {
        sm_fake_level levels[8] = {0};
        const size_t n = 1 + sm_random_below(&r, 8);
        uint32_t w = 1 + sm_random_below(&r, 1u << (1 + sm_random_below(&r, 17)));
        uint32_t h = 1 + sm_random_below(&r, 1u << (1 + sm_random_below(&r, 17)));
        for (size_t k = 0; k < n && w > 0; k++) {
            const uint32_t tile = TILES[sm_random_below(&r, SM_COUNT(TILES))];
            levels[k] =
                (sm_fake_level){w, h, tile, tile, BENDS[sm_random_below(&r, SM_COUNT(BENDS))]};
            w /= 1 + sm_random_below(&r, 16);
            h = sm_max_u32(1, h / (1 + sm_random_below(&r, 16)));
            w -= w > 0 && w == levels[k].w; /* smaller, as every slide's next level is */
        }
        const sm_plan_options o = {
            .levels = (sm_levels_mode)(i % 3),
            .tiles = i % 2 != 0 ? SM_TILES_AUTO : SM_TILES_TRANSCODE,
            .codec = (sm_codec_mode)sm_random_below(&r, 5),
            .quality = 1 + sm_random_below(&r, 100),
            .tile_px = 256 * sm_random_below(&r, 3),
        };
        char name[32];
        snprintf(name, sizeof name, "random slide %u", i);
        sm_plan plan;
        planned(name, levels, n, &o, &plan);
        const sm_out_level *last = &plan.out[plan.n_out - 1];
        if (o.levels == SM_LEVELS_AUTO && sm_max_u32(last->w_px, last->h_px) > 1024)
            fail_msg("%s: ends at %u x %u", name, last->w_px, last->h_px);
        if (o.levels == SM_LEVELS_DYADIC && sm_max_u32(last->w_px, last->h_px) > plan.tile_px)
            fail_msg("%s: ends at %u x %u", name, last->w_px, last->h_px);
    }
}

/* ---- rectangles of tiles ---- */

static void tile_rectangles_cover_the_level_once(void **state)
{
    (void)state;
    static const uint32_t SIDES[] = {1, 2, 37, 239, 240, 241, 480, 481, 719};
    for (size_t i = 0; i < SM_COUNT(SIDES); i++) {
        for (size_t k = 0; k < SM_COUNT(SIDES); k++) {
            sm_fake_slide *fake = sm_fake_new();
            const sm_level *l = sm_fake_add(fake, SIDES[i], SIDES[k], 240, 240);
            uint64_t whole = 0, half = 0;
            for (uint64_t t = 0; t < (uint64_t)l->cols * l->rows; t++) {
                const sm_rect r = sm_tile_rect(l, t), q = sm_tile_half_rect(l, t);
                assert_int_equal(r.x, t % l->cols * 240);
                assert_int_equal(r.y, t / l->cols * 240);
                assert_true(r.x + r.w <= l->w_px && r.y + r.h <= l->h_px);
                whole += (uint64_t)r.w * r.h;
                assert_int_equal(q.x, r.x / 2);
                assert_int_equal(q.y, r.y / 2);
                assert_true(q.w <= 120 && q.h <= 120);
                assert_true(q.x + q.w <= sm_half_px(l->w_px) && q.y + q.h <= sm_half_px(l->h_px));
                half += (uint64_t)q.w * q.h;
            }
            assert_int_equal(whole, (uint64_t)l->w_px * l->h_px);
            if (l->w_px > 1 && l->h_px > 1) /* narrower ones are not decoded at half size */
                assert_int_equal(half, (uint64_t)sm_half_px(l->w_px) * sm_half_px(l->h_px));
            sm_fake_free(&fake);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(auto_keeps_what_is_there_and_fills_the_gaps),
        cmocka_unit_test(source_takes_exactly_what_is_there),
        cmocka_unit_test(dyadic_halves_until_one_tile_is_enough),
        cmocka_unit_test(tiles_take_the_cheapest_path_that_is_open),
        cmocka_unit_test(made_levels_start_from_what_is_decoded_anyway),
        cmocka_unit_test(the_output_says_what_the_bytes_are),
        cmocka_unit_test(nothing_is_encoded_when_all_is_copied),
        cmocka_unit_test(copy_says_which_level_cannot_be_copied_and_why),
        cmocka_unit_test(tile_px_must_be_a_multiple_of_16),
        cmocka_unit_test(an_unfit_level_is_transcoded_for_the_reason_given),
        cmocka_unit_test(every_plan_is_consistent),
        cmocka_unit_test(tile_rectangles_cover_the_level_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
