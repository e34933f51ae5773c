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

#endif
