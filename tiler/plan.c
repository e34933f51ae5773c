/* The decisions of a conversion. One rule stands above all: do not decode what need not be decoded.
 */
#include "tiler/plan.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { DEFAULT_TILE_PX = 512, AUTO_SMALLEST_PX = 1024 };

const char *sm_how_name(sm_how how)
{
    switch (how) {
    case SM_HOW_COPIED:
        return "copied";
    case SM_HOW_RETILED:
        return "retiled";
    case SM_HOW_TRANSCODED:
        return "transcoded";
    case SM_HOW_MADE_IDCT:
    case SM_HOW_MADE_MEAN:
        return "made";
    }
    return "?";
}

sm_rect sm_tile_rect(const sm_level *level, uint64_t tile)
{
    const uint32_t x = (uint32_t)(tile % level->cols) * level->tile_w_px;
    const uint32_t y = (uint32_t)(tile / level->cols) * level->tile_h_px;
    return (sm_rect){x, y, sm_min_u32(level->tile_w_px, level->w_px - x),
                     sm_min_u32(level->tile_h_px, level->h_px - y)};
}

sm_rect sm_tile_half_rect(const sm_level *level, uint64_t tile)
{
    const sm_rect r = sm_tile_rect(level, tile);
    const uint32_t x = r.x / 2, y = r.y / 2;
    return (sm_rect){x, y, sm_min_u32((r.x + r.w) / 2, sm_half_px(level->w_px)) - x,
                     sm_min_u32((r.y + r.h) / 2, sm_half_px(level->h_px)) - y};
}

static sm_codec wanted_codec(const sm_plan_options *o)
{
    switch (o->codec) {
    case SM_CODEC_MODE_JPEG:
        return SM_CODEC_JPEG;
    case SM_CODEC_MODE_ZSTD:
        return SM_CODEC_ZSTD;
    case SM_CODEC_MODE_DEFLATE:
        return SM_CODEC_DEFLATE;
    case SM_CODEC_MODE_LZW:
        return SM_CODEC_LZW;
    case SM_CODEC_MODE_NONE:
        return SM_CODEC_NONE;
    }
    return SM_CODEC_JPEG;
}

static bool multiple_of_16(const sm_level *l)
{
    return l->tile_w_px % 16 == 0 && l->tile_h_px % 16 == 0;
}

/* NULL: its tiles can be copied as they are; else why not. */
static const char *no_copy_reason(const sm_level *l, const sm_plan_options *o, uint32_t level,
                                  char text[128])
{
    if (o->unfit != NULL && o->unfit[level][0] != '\0')
        return o->unfit[level];
    if (l->codec == SM_CODEC_RENDERED)
        return "its tiles are only to be had as pixels, through OpenSlide";
    if (l->codec != wanted_codec(o)) {
        snprintf(text, 128, "its tiles are %s and --codec asks for %s", sm_codec_name(l->codec),
                 sm_codec_name(wanted_codec(o)));
        return text;
    }
    if (!l->tiled)
        return "it is stored in strips";
    if (l->planar)
        return "its colours are stored in separate planes";
    if (l->samples != 3)
        return "its pixels are not 8-bit RGB";
    if (!multiple_of_16(l))
        return "its tile sides are not multiples of 16";
    if (l->codec == SM_CODEC_JPEG && !l->jpeg.plain)
        return "its JPEG tiles are not baseline";
    if (l->codec != SM_CODEC_JPEG && (l->photometric != 2 || l->predictor > 2))
        return "its photometric interpretation or predictor is unusual";
    if (l->codec == SM_CODEC_JPEG && level > 0 && l->n_missing > 0)
        return "some of its tiles are missing";
    if (l->codec != SM_CODEC_JPEG && l->n_missing > 0)
        return "some of its tiles are missing";
    if (o->tile_px != 0 && (l->tile_w_px != o->tile_px || l->tile_h_px != o->tile_px)) {
        snprintf(text, 128, "its tiles are %u x %u px and --tile-px asks for %u", l->tile_w_px,
                 l->tile_h_px, o->tile_px);
        return text;
    }
    return NULL;
}

/* NULL: its coefficients can be moved to tiles of tile_px; else why not. */
static const char *no_retile_reason(const sm_level *l, const sm_plan_options *o, uint32_t level,
                                    uint32_t tile_px)
{
    if (o->unfit != NULL && o->unfit[level][0] != '\0')
        return o->unfit[level];
    if (l->codec != SM_CODEC_JPEG || wanted_codec(o) != SM_CODEC_JPEG)
        return "only JPEG tiles can be moved as coefficients";
    if (!l->tiled || l->planar)
        return "it is not stored in tiles of interleaved colours";
    if (!l->jpeg.plain || l->jpeg.n_components != 3)
        return "its JPEG tiles are not baseline with three colours";
    const uint32_t mcu_w = 8u * l->jpeg.h_samp, mcu_h = 8u * l->jpeg.v_samp;
    if (l->tile_w_px % mcu_w != 0 || l->tile_h_px % mcu_h != 0 || tile_px % mcu_w != 0 ||
        tile_px % mcu_h != 0)
        return "a tile edge does not fall on an MCU";
    return NULL;
}

/* Sides of the tiles written anew are multiples of this. Uncompressed tiles must fill whole KiB:
 * OpenSlide reads no others (libtiff 4.5 rounds its buffer up, and then finds it too large). */
static uint32_t side_unit(const sm_plan_options *o)
{
    return o->codec == SM_CODEC_MODE_NONE ? 32 : 16;
}

/* Tile side of what is encoded anew (and of retiled levels). */
static uint32_t choose_tile_px(const sm_level *base, const sm_plan_options *o)
{
    if (o->tile_px != 0)
        return o->tile_px;
    if (o->tiles != SM_TILES_RETILE && base->tiled && base->tile_w_px == base->tile_h_px &&
        base->tile_w_px % side_unit(o) == 0 && base->tile_w_px >= 128 && base->tile_w_px <= 1024)
        return base->tile_w_px;
    return DEFAULT_TILE_PX;
}

static void encode_params(const sm_plan_options *o, uint32_t tile_px, sm_encode_params *p)
{
    *p = (sm_encode_params){.codec = wanted_codec(o),
                            .tile_w_px = tile_px,
                            .tile_h_px = tile_px,
                            .quality = o->quality,
                            .h_samp = 1,
                            .v_samp = 1};
    const bool auto_420 = o->subsampling == SM_SUBSAMPLING_AUTO && o->quality < 90;
    if (auto_420 || o->subsampling == SM_SUBSAMPLING_420)
        p->h_samp = p->v_samp = 2;
    else if (o->subsampling == SM_SUBSAMPLING_422)
        p->h_samp = 2;
}

/* Describe output level `out` as one that our encoder writes. */
static void encoded_anew(const sm_plan *plan, sm_out_level *out)
{
    out->tile_w_px = plan->encode.tile_w_px;
    out->tile_h_px = plan->encode.tile_h_px;
    out->codec = plan->encode.codec;
    out->compression = sm_encode_compression(&plan->encode);
    out->photometric = sm_encode_photometric(&plan->encode);
    out->predictor = sm_encode_predictor(&plan->encode);
    out->h_samp = plan->encode.h_samp;
    out->v_samp = plan->encode.v_samp;
}

static uint32_t add_stage(sm_plan *plan, uint32_t w, uint32_t h, uint32_t out)
{
    const uint32_t s = plan->n_stages++;
    plan->stages[s] = (sm_pyramid_stage){w, h, SM_NO_STAGE, out != SM_NO_LEVEL};
    plan->stage_out[s] = out;
    return s;
}

static void as_source(sm_out_level *out, const sm_level *l)
{
    out->codec = l->codec;
    out->compression = l->compression;
    out->predictor = 1; /* the others have none, whatever a stray tag says */
    if (l->codec == SM_CODEC_LZW || l->codec == SM_CODEC_DEFLATE || l->codec == SM_CODEC_ZSTD)
        out->predictor = l->predictor;
    out->photometric = l->photometric;
    if (l->codec == SM_CODEC_JPEG) {
        out->photometric = l->jpeg.colour == SM_COLOUR_YCBCR ? 6 : 2;
        out->h_samp = l->jpeg.h_samp;
        out->v_samp = l->jpeg.v_samp;
    }
}

/* Output level i takes source level s: by copy, by retiling, or decoded and encoded again. */
static sm_status take_level(const sm_slide *slide, const sm_plan_options *o, uint32_t s,
                            sm_plan *plan, sm_error *err)
{
    const sm_level *l = sm_slide_level(slide, s);
    const uint32_t i = plan->n_out++;
    sm_out_level *out = &plan->out[i];
    *out = (sm_out_level){.w_px = l->w_px, .h_px = l->h_px, .source_level = s};
    plan->use[s].used = true;
    char text[128];
    sm_plan_options at = *o;
    if (o->tiles == SM_TILES_RETILE)
        at.tile_px = plan->tile_px;
    const char *no_copy = o->tiles == SM_TILES_TRANSCODE ? "" : no_copy_reason(l, &at, s, text);
    if (no_copy == NULL) {
        out->how = SM_HOW_COPIED;
        out->tile_w_px = l->tile_w_px;
        out->tile_h_px = l->tile_h_px;
        as_source(out, l);
        plan->use[s].copy_to = i;
        return SM_OK;
    }
    if (o->tiles == SM_TILES_COPY)
        return sm_fail(err, SM_ERR_FORMAT,
                       "level %u cannot be copied: %s (--tiles auto takes the next best path)", s,
                       no_copy);
    const char *no_retile =
        o->tiles == SM_TILES_TRANSCODE ? "" : no_retile_reason(l, o, s, plan->tile_px);
    if (no_retile == NULL) {
        out->how = SM_HOW_RETILED;
        out->tile_w_px = out->tile_h_px = plan->tile_px;
        as_source(out, l);
        snprintf(out->why, sizeof out->why, "%s", o->tiles == SM_TILES_RETILE ? "" : no_copy);
        plan->use[s].retile_to = i;
        return SM_OK;
    }
    out->how = SM_HOW_TRANSCODED;
    encoded_anew(plan, out);
    const char *why = o->tiles == SM_TILES_RETILE ? no_retile : no_copy;
    snprintf(out->why, sizeof out->why, "%s", why);
    plan->use[s].full_stage = add_stage(plan, l->w_px, l->h_px, i);
    plan->encodes = true;
    return SM_OK;
}

/* The stage that holds the pixels of the newest output level, or SM_NO_STAGE if it has none. */
static uint32_t newest_stage(const sm_plan *plan)
{
    for (uint32_t s = plan->n_stages; s-- > 0;)
        if (plan->stage_out[s] == plan->n_out - 1)
            return s;
    return SM_NO_STAGE;
}

/* True if source level l can be decoded straight at half size. */
static bool can_decode_half(const sm_level *l)
{
    return l->codec == SM_CODEC_JPEG && l->tile_w_px % 2 == 0 && l->tile_h_px % 2 == 0 &&
           l->w_px > 1 && l->h_px > 1;
}

/* A stage of half the newest output level's size. */
static uint32_t first_half(const sm_slide *slide, sm_plan *plan, bool *idct)
{
    const sm_out_level *prev = &plan->out[plan->n_out - 1];
    uint32_t parent = newest_stage(plan);
    const uint32_t w = sm_half_px(prev->w_px), h = sm_half_px(prev->h_px);
    *idct = false;
    if (parent == SM_NO_STAGE) { /* copied or retiled: its pixels come from the source's bytes */
        sm_source_use *use = &plan->use[prev->source_level];
        const sm_level *l = sm_slide_level(slide, prev->source_level);
        if (can_decode_half(l)) {
            *idct = true;
            return use->half_stage = add_stage(plan, w, h, SM_NO_LEVEL);
        }
        parent = use->full_stage = add_stage(plan, prev->w_px, prev->h_px, SM_NO_LEVEL);
    }
    const uint32_t s = add_stage(plan, w, h, SM_NO_LEVEL);
    plan->stages[parent].child = s;
    return s;
}

/* Add a level of 1/2^halvings of the newest one. */
static void make_level(const sm_slide *slide, unsigned halvings, sm_plan *plan)
{
    bool idct = false;
    uint32_t s = first_half(slide, plan, &idct);
    for (unsigned k = 1; k < halvings; k++) {
        const uint32_t next = add_stage(plan, sm_half_px(plan->stages[s].w_px),
                                        sm_half_px(plan->stages[s].h_px), SM_NO_LEVEL);
        plan->stages[s].child = next;
        s = next;
    }
    const uint32_t i = plan->n_out++;
    sm_out_level *out = &plan->out[i];
    *out = (sm_out_level){.w_px = plan->stages[s].w_px,
                          .h_px = plan->stages[s].h_px,
                          .how = idct ? SM_HOW_MADE_IDCT : SM_HOW_MADE_MEAN,
                          .source_level = plan->out[i - 1].source_level};
    encoded_anew(plan, out);
    plan->stages[s].wanted = true;
    plan->stage_out[s] = i;
    plan->encodes = true;
}

static bool full_up(const sm_plan *plan)
{
    return plan->n_out + 1 >= SM_MAX_LEVELS || plan->n_stages + 3 >= SM_COUNT(plan->stages);
}

static uint32_t long_side(const sm_out_level *l)
{
    return sm_max_u32(l->w_px, l->h_px);
}

static const sm_out_level *newest(const sm_plan *plan)
{
    return &plan->out[plan->n_out - 1];
}

/* OpenSlide resamples a level whose downsample is not whole when it is read in pieces, and mixes in
 * background at its edges (36 dB on a 2.0005 level): such a level is better made anew. */
static bool resampled(const sm_level *l)
{
    return l->codec == SM_CODEC_RENDERED && l->downsample != floor(l->downsample);
}

/* A reduced source level is kept only whole: readers disagree on what a missing tile means. */
static bool keepable(const sm_level *l)
{
    return l->n_missing == 0 && !resampled(l);
}

/* Halvings from the newest output level to w x h; 0 if they do not lead there. */
static unsigned halvings_to(const sm_plan *plan, uint32_t w, uint32_t h)
{
    uint32_t from_w = newest(plan)->w_px, from_h = newest(plan)->h_px;
    for (unsigned k = 1; k <= 8 && (from_w > w || from_h > h); k++) {
        from_w = sm_half_px(from_w);
        from_h = sm_half_px(from_h);
        if (from_w == w && from_h == h)
            return k;
    }
    return 0;
}

/* Source level s is of use but cannot be taken as it is: make one of its size, if halving can. */
static bool remake(const sm_slide *slide, const sm_level *l, sm_plan *plan)
{
    const unsigned halvings = halvings_to(plan, l->w_px, l->h_px);
    if (halvings == 0)
        return false;
    make_level(slide, halvings, plan);
    snprintf(plan->out[plan->n_out - 1].why, sizeof plan->out[0].why, "%s",
             resampled(l) ? "OpenSlide would resample it" : "some of its tiles are missing");
    return true;
}

static sm_status plan_source(const sm_slide *slide, const sm_plan_options *o, sm_plan *plan,
                             sm_error *err)
{
    for (uint32_t s = 0; s < sm_slide_get_info(slide)->n_levels && !full_up(plan); s++) {
        const sm_level *l = sm_slide_level(slide, s);
        if (s > 0 && resampled(l) && remake(slide, l, plan))
            continue;
        const sm_status st = take_level(slide, o, s, plan, err);
        if (st != SM_OK)
            return st;
    }
    return SM_OK;
}

/* Keep what the source has; fill steps of more than 4x; go down to at most 1024 px. */
static sm_status plan_auto(const sm_slide *slide, const sm_plan_options *o, sm_plan *plan,
                           sm_error *err)
{
    const uint32_t n = sm_slide_get_info(slide)->n_levels;
    for (uint32_t s = 0; s < n && !full_up(plan); s++) {
        const sm_level *l = sm_slide_level(slide, s);
        if (s > 0 && !keepable(l)) {
            (void)remake(slide, l, plan);
            continue;
        }
        while (s > 0 && !full_up(plan) && newest(plan)->w_px / 4.5 > l->w_px &&
               long_side(newest(plan)) > 4)
            make_level(slide, 2, plan);
        if (s > 0 && (l->w_px >= newest(plan)->w_px || l->h_px > newest(plan)->h_px))
            continue;
        const sm_status st = take_level(slide, o, s, plan, err);
        if (st != SM_OK)
            return st;
    }
    while (!full_up(plan) && long_side(newest(plan)) > AUTO_SMALLEST_PX)
        make_level(slide, long_side(newest(plan)) / 2 > AUTO_SMALLEST_PX ? 2 : 1, plan);
    return SM_OK;
}

/* Every power of two until one tile holds the level; source levels that are one are kept. */
static sm_status plan_dyadic(const sm_slide *slide, const sm_plan_options *o, sm_plan *plan,
                             sm_error *err)
{
    sm_status st = take_level(slide, o, 0, plan, err);
    uint32_t s = 1;
    const uint32_t n = sm_slide_get_info(slide)->n_levels;
    while (st == SM_OK && !full_up(plan) && long_side(newest(plan)) > plan->tile_px) {
        const uint32_t w = sm_half_px(newest(plan)->w_px), h = sm_half_px(newest(plan)->h_px);
        while (s < n && (sm_slide_level(slide, s)->w_px > w))
            s++;
        const sm_level *l = s < n ? sm_slide_level(slide, s) : NULL;
        if (l != NULL && l->w_px == w && l->h_px == h && keepable(l))
            st = take_level(slide, o, s++, plan, err);
        else
            make_level(slide, 1, plan);
    }
    return st;
}

sm_status sm_plan_make(const sm_slide *slide, const sm_plan_options *o, sm_plan *plan,
                       sm_error *err)
{
    memset(plan, 0, sizeof *plan);
    plan->n_sources = sm_slide_get_info(slide)->n_levels;
    for (uint32_t s = 0; s < SM_MAX_LEVELS; s++)
        plan->use[s] = SM_SOURCE_UNUSED;
    if (o->tile_px % side_unit(o) != 0)
        return sm_fail(err, SM_ERR_ARG, "--tile-px %u is not a multiple of %u%s", o->tile_px,
                       side_unit(o), side_unit(o) > 16 ? ", as --codec none needs" : "");
    plan->tile_px = choose_tile_px(sm_slide_level(slide, 0), o);
    encode_params(o, plan->tile_px, &plan->encode);
    sm_status st = SM_OK;
    switch (o->levels) {
    case SM_LEVELS_AUTO:
        st = plan_auto(slide, o, plan, err);
        break;
    case SM_LEVELS_SOURCE:
        st = plan_source(slide, o, plan, err);
        break;
    case SM_LEVELS_DYADIC:
        st = plan_dyadic(slide, o, plan, err);
        break;
    }
    for (uint32_t i = 0; st == SM_OK && i < plan->n_out; i++) {
        sm_out_level *out = &plan->out[i];
        out->grid = sm_grid_for(out->w_px, out->h_px, out->tile_w_px, out->tile_h_px);
        out->downsample =
            ((double)plan->out[0].w_px / out->w_px + (double)plan->out[0].h_px / out->h_px) / 2.0;
    }
    return st;
}
