/* A slide opened for reading: its levels, where each compressed tile lies, and what is known of it.
 * Vendor readers are rows of the registry in slide.c. Immutable after open, so threads share it. */
#ifndef SM_TILER_SLIDE_H
#define SM_TILER_SLIDE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "common/geom.h"
#include "common/source.h"

typedef struct sm_slide sm_slide;

/* How a level's tile bytes are coded. */
typedef enum sm_codec {
    SM_CODEC_NONE,
    SM_CODEC_LZW,
    SM_CODEC_DEFLATE,
    SM_CODEC_ZSTD,
    SM_CODEC_JPEG,
    SM_CODEC_RENDERED, /* no bytes of ours to cut: the reader (OpenSlide) renders pixels */
} sm_codec;

const char *
sm_codec_name(sm_codec codec); /* "none", "lzw", "deflate", "zstd", "jpeg", "rendered" */

/* Colour that a JPEG codestream really holds (not what the tags say). */
typedef enum sm_colour { SM_COLOUR_RGB, SM_COLOUR_YCBCR, SM_COLOUR_GREY } sm_colour;

#define SM_MAX_LEVELS 64
#define SM_MAX_ASSOCIATED 16

/* What the first present tile of a JPEG level says of itself; see tiler/jpeg_info.h for the rule.
 */
typedef struct sm_jpeg_traits {
    sm_colour colour;
    uint8_t h_samp,
        v_samp; /* luma sampling factors over chroma: 1,1 = 4:4:4; 2,1 = 4:2:2; 2,2 = 4:2:0 */
    uint8_t n_components; /* 1 or 3 */
    bool plain;  /* baseline sequential Huffman, 8 bits, chroma 1x1: can be copied or retiled */
    int quality; /* IJG quality whose tables these are, else 0 */
} sm_jpeg_traits;

typedef struct sm_level {
    uint32_t w_px, h_px;
    uint32_t tile_w_px,
        tile_h_px; /* strips: tile_w_px = w_px, tile_h_px = rows per strip (<= h_px) */
    uint32_t cols, rows;
    bool tiled; /* false: strips (the last strip may be coded short) */
    sm_codec codec;
    uint16_t compression; /* TIFF tag 259 as found; 0 when not a TIFF */
    uint16_t photometric; /* tag 262 as found */
    uint16_t predictor;   /* tag 317; 1 = none, 2 = horizontal */
    uint16_t samples;     /* per pixel: 1, 3 or 4 (alpha) */
    bool planar;          /* PlanarConfiguration 2: offsets hold samples planes one after another */
    const uint8_t *jpeg_tables; /* tag 347 as found, NULL if absent */
    size_t jpeg_tables_len;
    sm_jpeg_traits jpeg; /* codec JPEG only */
    const uint64_t
        *offsets;         /* cols * rows (* samples when planar), row-major; NULL when RENDERED */
    const uint64_t *lens; /* same shape; 0: the tile is missing */
    uint64_t n_missing;   /* tiles without bytes */
    double downsample;    /* level-0 width / this width, mean of both axes */
    uint32_t dir; /* reader's own number of the level (TIFF directory index, OpenSlide level) */
    uint64_t dir_offset; /* TIFF: file offset of the directory (SubIFDs have no index) */
    bool premultiplied;  /* samples 4: colour is multiplied by alpha already (ExtraSamples 1) */
    uint8_t tag_h_samp, tag_v_samp; /* tag 530 as found, which may lie; 0, 0: absent */
} sm_level;

typedef struct sm_associated {
    char name[32]; /* "label", "macro", "thumbnail", or the reader's own name */
    uint32_t w_px, h_px;
    char codec[16];
} sm_associated;

typedef struct sm_slide_info {
    const char *reader; /* "aperio", "ome-tiff", "generic-tiff", "openslide" */
    char vendor[64];    /* "aperio", "hamamatsu", ...: whose scanner or program wrote it */
    uint32_t n_levels;
    double mpp_x, mpp_y; /* micrometres per pixel at level 0; 0: unknown */
    double objective;    /* nominal magnification; 0: unknown */
    const uint8_t *icc;  /* NULL: none */
    size_t icc_len;
    uint8_t background[3]; /* colour behind transparent or missing pixels; default white */
    uint32_t n_associated;
    sm_associated associated[SM_MAX_ASSOCIATED];
    bool bigtiff, big_endian; /* TIFF only */
} sm_slide_info;

/* A reader: one file, one row of the registry. Slots are called with the slide's own state. */
typedef struct sm_slide_reader {
    const char *name;
    /** SM_OK and *out set: it is ours. SM_ERR_FORMAT: not ours (the next row is asked); any other
     *  status: ours, but broken. */
    sm_status (*open)(sm_slide *slide, sm_error *err);
    /** Render a rectangle of a RENDERED level, background behind transparency; NULL if none is. */
    sm_status (*render)(const sm_slide *slide, uint32_t level, sm_rect rect, uint8_t *rgb,
                        size_t stride, sm_error *err);
    /** RGB of associated image i, 3 * w * h bytes. */
    sm_status (*associated)(const sm_slide *slide, uint32_t i, uint8_t *rgb, sm_error *err);
    void (*close)(sm_slide *slide);
} sm_slide_reader;

/**
 * Recognise and open a slide.
 * @param source borrowed; outlives the slide. Readers that need a path use sm_source_path.
 * @return SM_ERR_FORMAT "PATH: not a slide slidemill reads (...)" / SM_ERR_CORRUPT / SM_ERR_LIMIT /
 *         SM_ERR_IO. Level 0 is first, then strictly smaller levels. Directories that are neither
 *         levels nor associated images are ignored. Every extent lies inside the file, or the open
 *         fails with SM_ERR_CORRUPT naming level, column, row and offset.
 */
SM_NODISCARD sm_status sm_slide_open(const sm_source *source, sm_slide **slide, sm_error *err);
void sm_slide_close(sm_slide **slide);

const sm_slide_info *sm_slide_get_info(const sm_slide *slide);
const sm_source *sm_slide_source(const sm_slide *slide);
const sm_level *sm_slide_level(const sm_slide *slide, uint32_t level);

/**
 * Render pixels of a RENDERED level.
 * @param rect  in that level's pixels, inside it
 * @param rgb   rect.h rows of rect.w pixels, 3 bytes each, `stride` bytes apart
 */
SM_NODISCARD sm_status sm_slide_render(const sm_slide *slide, uint32_t level, sm_rect rect,
                                       uint8_t *rgb, size_t stride, sm_error *err);

/** RGB pixels of an associated image, 3 * w * h bytes, no padding. */
SM_NODISCARD sm_status sm_slide_associated(const sm_slide *slide, uint32_t i, uint8_t *rgb,
                                           sm_error *err);

#endif
