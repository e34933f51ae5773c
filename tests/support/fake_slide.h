/* A slide that exists only as facts: for tests of what is decided from geometry and traits alone.
 * Header only; needs cmocka.h before it. */
#ifndef SM_TESTS_SUPPORT_FAKE_SLIDE_H
#define SM_TESTS_SUPPORT_FAKE_SLIDE_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "tiler/slide_internal.h"

#define SM_FAKE_TILE_BYTES 1000u

typedef struct sm_fake_slide {
    sm_slide slide;
    uint64_t *offsets[SM_MAX_LEVELS], *lens[SM_MAX_LEVELS];
    uint64_t end; /* of the pretended file so far */
} sm_fake_slide;

/* Without levels, MPP and objective; white. */
static inline sm_fake_slide *sm_fake_new(void)
{
    sm_fake_slide *fake = calloc(1, sizeof *fake);
    if (fake == NULL)
        fail_msg("out of memory");
    fake->end = 16;
    memset(fake->slide.info.background, 255, 3);
    fake->slide.info.reader = "fake";
    return fake;
}

/* Append a level of baseline YCbCr 4:2:0 JPEG tiles that lie row by row, end to end, behind the
 * level before. The caller may bend it; its extents are fake->offsets[level], fake->lens[level]. */
static inline sm_level *sm_fake_add(sm_fake_slide *fake, uint32_t w, uint32_t h, uint32_t tile_w,
                                    uint32_t tile_h)
{
    const uint32_t i = fake->slide.info.n_levels++;
    sm_level *l = &fake->slide.levels[i];
    const sm_grid grid = sm_grid_for(w, h, tile_w, tile_h);
    const size_t n = (size_t)sm_grid_tiles(grid);
    fake->offsets[i] = calloc(n, sizeof(uint64_t));
    fake->lens[i] = calloc(n, sizeof(uint64_t));
    if (fake->offsets[i] == NULL || fake->lens[i] == NULL)
        fail_msg("out of memory");
    for (size_t t = 0; t < n; t++, fake->end += SM_FAKE_TILE_BYTES) {
        fake->offsets[i][t] = fake->end;
        fake->lens[i][t] = SM_FAKE_TILE_BYTES;
    }
    *l = (sm_level){.w_px = w,
                    .h_px = h,
                    .tile_w_px = tile_w,
                    .tile_h_px = tile_h,
                    .cols = grid.cols,
                    .rows = grid.rows,
                    .tiled = true,
                    .codec = SM_CODEC_JPEG,
                    .compression = 7,
                    .photometric = 6,
                    .predictor = 1,
                    .samples = 3,
                    .jpeg = {SM_COLOUR_YCBCR, 2, 2, 3, true, 75},
                    .offsets = fake->offsets[i],
                    .lens = fake->lens[i],
                    .downsample = (double)fake->slide.levels[0].w_px / w,
                    .dir = i};
    return l;
}

static inline void sm_fake_free(sm_fake_slide **fake)
{
    for (uint32_t i = 0; i < SM_MAX_LEVELS; i++) {
        free((*fake)->offsets[i]);
        free((*fake)->lens[i]);
    }
    free(*fake);
    *fake = NULL;
}

/* ---- slides from tables ---- */

/* A level of a fake slide. Zero tile sides: 256. */
typedef struct sm_fake_level {
    uint32_t w, h, tile_w, tile_h;
    void (*bend)(sm_level *l); /* NULL: baseline YCbCr 4:2:0 JPEG */
} sm_fake_level;

#define SM_FAKE_LEVEL(w, h) SM_FAKE_TILED(w, h, 256)
#define SM_FAKE_TILED(w, h, tile)                                                                  \
    {                                                                                              \
        w, h, tile, tile, NULL                                                                     \
    }

static inline void sm_fake_strips(sm_level *l)
{
    l->tiled = false;
}

static inline void sm_fake_planar(sm_level *l)
{
    l->planar = true;
}

static inline void sm_fake_grey(sm_level *l)
{
    l->samples = 1;
    l->photometric = 1;
    l->jpeg = (sm_jpeg_traits){SM_COLOUR_GREY, 1, 1, 1, true, 75};
}

static inline void sm_fake_progressive(sm_level *l)
{
    l->jpeg.plain = false;
}

static inline void sm_fake_sparse(sm_level *l)
{
    l->n_missing = 1;
}

static inline void sm_fake_rgb(sm_level *l)
{
    l->photometric = 6; /* the tag lies */
    l->jpeg.colour = SM_COLOUR_RGB;
    l->jpeg.h_samp = l->jpeg.v_samp = 1;
}

static inline void sm_fake_422(sm_level *l)
{
    l->photometric = 2; /* the tag lies */
    l->jpeg.v_samp = 1;
}

static inline void sm_fake_stray_predictor(sm_level *l)
{
    l->predictor = 2;
}

static inline void sm_fake_rendered(sm_level *l)
{
    l->codec = SM_CODEC_RENDERED;
    l->compression = 0;
    l->offsets = l->lens = NULL;
}

static inline void sm_fake_deflate(sm_level *l)
{
    l->codec = SM_CODEC_DEFLATE;
    l->compression = 8;
    l->photometric = 2;
    l->predictor = 2;
    l->jpeg = (sm_jpeg_traits){0};
}

static inline void sm_fake_deflate_sparse(sm_level *l)
{
    sm_fake_deflate(l);
    l->n_missing = 1;
}

static inline void sm_fake_deflate_float_predictor(sm_level *l)
{
    sm_fake_deflate(l);
    l->predictor = 3;
}

static inline void sm_fake_deflate_alpha(sm_level *l)
{
    sm_fake_deflate(l);
    l->samples = 4;
}

static inline sm_fake_slide *sm_fake_make(const sm_fake_level *levels, size_t n)
{
    sm_fake_slide *fake = sm_fake_new();
    for (size_t i = 0; i < n && levels[i].w != 0; i++) {
        const sm_fake_level *v = &levels[i];
        const uint32_t tw = v->tile_w != 0 ? v->tile_w : 256;
        sm_level *l = sm_fake_add(fake, v->w, v->h, tw, v->tile_h != 0 ? v->tile_h : tw);
        if (v->bend != NULL)
            v->bend(l);
    }
    return fake;
}

#endif
