/* What a conversion will do, decided before the first tile is read: which levels the output has,
 * how each one is made, and what becomes of every source tile. Pure: no I/O but the slide's own
 * facts. */
#ifndef SM_TILER_PLAN_H
#define SM_TILER_PLAN_H

#include <stdbool.h>
#include <stdint.h>

#include "tiler/encode.h"
#include "tiler/pyramid.h"
#include "tiler/slide.h"

/* The order of each list is that of the words in the option table (cmd_convert.c). */
typedef enum sm_levels_mode { SM_LEVELS_AUTO, SM_LEVELS_SOURCE, SM_LEVELS_DYADIC } sm_levels_mode;
typedef enum sm_tiles_mode {
    SM_TILES_AUTO,
    SM_TILES_COPY,
    SM_TILES_RETILE,
    SM_TILES_TRANSCODE,
} sm_tiles_mode;
typedef enum sm_codec_mode {
    SM_CODEC_MODE_JPEG,
    SM_CODEC_MODE_ZSTD,
    SM_CODEC_MODE_DEFLATE,
    SM_CODEC_MODE_LZW,
    SM_CODEC_MODE_NONE,
} sm_codec_mode;
typedef enum sm_subsampling {
    SM_SUBSAMPLING_AUTO, /* 4:2:0 below quality 90, else 4:4:4 */
    SM_SUBSAMPLING_444,
    SM_SUBSAMPLING_422,
    SM_SUBSAMPLING_420,
} sm_subsampling;

typedef struct sm_plan_options {
    sm_levels_mode levels;
    sm_tiles_mode tiles;
    sm_codec_mode codec;
    sm_subsampling subsampling;
    uint32_t quality;
    uint32_t tile_px; /* 0: chosen by the plan */
    /* Source levels that an earlier attempt found unfit for copying or retiling, with the reason;
     * they are transcoded. Empty string: fit. */
    const char (*unfit)[128]; /* SM_MAX_LEVELS rows, or NULL */
} sm_plan_options;

typedef enum sm_how {
    SM_HOW_COPIED,     /* compressed tiles of the source, bit for bit */
    SM_HOW_RETILED,    /* the source's DCT coefficients on another grid */
    SM_HOW_TRANSCODED, /* decoded and encoded again */
    SM_HOW_MADE_IDCT,  /* reduced from the level above it by the scaled IDCT, then 2x2 means */
    SM_HOW_MADE_MEAN,  /* reduced from the level above it by 2x2 means */
} sm_how;

const char *sm_how_name(sm_how how); /* "copied", "retiled", "transcoded", "made" */

typedef struct sm_out_level {
    uint32_t w_px, h_px, tile_w_px, tile_h_px;
    sm_grid grid;
    sm_how how;
    uint32_t source_level; /* whose tiles are used; for made levels the one they derive from */
    sm_codec codec;
    uint16_t compression, photometric, predictor;
    uint8_t h_samp, v_samp; /* JPEG */
    double downsample;      /* of the output's level 0 */
    char why[128];          /* why not a cheaper path; "" when there is nothing to say */
} sm_out_level;

#define SM_NO_LEVEL UINT32_MAX

/* What becomes of each tile of a source level. */
typedef struct sm_source_use {
    bool used;
    uint32_t copy_to;    /* output level, or SM_NO_LEVEL */
    uint32_t retile_to;  /* output level, or SM_NO_LEVEL */
    uint32_t full_stage; /* decoded whole into this stage, or SM_NO_STAGE */
    uint32_t half_stage; /* decoded at half size into this stage, or SM_NO_STAGE */
    bool check;          /* decoded to see that it decodes, if nothing else decodes it */
} sm_source_use;

#define SM_SOURCE_UNUSED                                                                           \
    (sm_source_use)                                                                                \
    {                                                                                              \
        false, SM_NO_LEVEL, SM_NO_LEVEL, SM_NO_STAGE, SM_NO_STAGE, false                           \
    }

typedef struct sm_plan {
    uint32_t n_out;
    sm_out_level out[SM_MAX_LEVELS];
    uint32_t n_stages;
    sm_pyramid_stage stages[2 * SM_MAX_LEVELS];
    uint32_t stage_out[2 * SM_MAX_LEVELS]; /* output level a stage's tiles go to, or SM_NO_LEVEL */
    sm_source_use use[SM_MAX_LEVELS];      /* by source level */
    uint32_t n_sources;
    uint32_t tile_px;        /* side of the tiles that are encoded anew */
    sm_encode_params encode; /* of all tiles that are encoded anew */
    bool encodes;            /* some are */
} sm_plan;

/**
 * @return SM_ERR_ARG: options contradict each other; SM_ERR_FORMAT: --tiles copy and a level that
 *         cannot be copied (the message says which and why); SM_ERR_LIMIT: too many levels.
 */
SM_NODISCARD sm_status sm_plan_make(const sm_slide *slide, const sm_plan_options *options,
                                    sm_plan *plan, sm_error *err);

/** Rectangle of source tile `tile` of a level, in that level's pixels, clipped to the level. */
sm_rect sm_tile_rect(const sm_level *level, uint64_t tile);

/** The same in the half-size stage it is decoded into; may be empty at an odd edge. */
sm_rect sm_tile_half_rect(const sm_level *level, uint64_t tile);

#endif
