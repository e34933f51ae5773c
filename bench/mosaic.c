/* mosaic: makes a big slide in Aperio's layout out of a real slide's tiles, or a small synthetic
 * one. Level-0 tiles are copied undecoded; reduced levels repeat with the mosaic and are encoded
 * once. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <tiffio.h>

#include "bench/sheet.h"
#include "bench/svs.h"
#include "bench/tissue.h"
#include "common/buf.h"
#include "common/error.h"
#include "common/geom.h"
#include "common/opts.h"

/* The mosaic repeats after this many tiles in both directions, so that level d repeats after
 * PERIOD / d of its own tiles: only those are computed. */
#define PERIOD 64u
#define MAX_SOURCE_TILES 1024u
#define MAX_REDUCED 8u
#define THUMBNAIL_PX 768u
#define SYNTHETIC_TILE_PX 240u
#define SYNTHETIC_QUALITY 80

typedef struct mosaic_config {
    uint32_t width_px, height_px;
    const char *levels;
    int order, bigtiff;
    bool synthetic;
} mosaic_config;

enum { BIG_AUTO, BIG_YES, BIG_NO };

/* What is written: the distinct tiles of level 0, and what the other directories are made from. */
typedef struct slide {
    sm_looks looks;
    sm_sheet level0;
    sm_image thumb;
    uint32_t reduced[MAX_REDUCED]; /* downsamples of the further levels */
    uint32_t n_reduced;
} slide;

/* Which source tile stands where: scattered, and not beside itself if that can be helped. */
static void scatter(sm_sheet *s)
{
    for (uint32_t row = 0; row < PERIOD; row++)
        for (uint32_t col = 0; col < PERIOD; col++) {
            uint32_t *at = &s->index[row * PERIOD + col];
            *at = sm_tissue_mix(col, row, 1) % s->n;
            for (unsigned tries = 0; tries < 3; tries++)
                if ((col > 0 && *at == at[-1]) || (row > 0 && *at == *(at - PERIOD)))
                    *at = (*at + 1) % s->n;
        }
}

/* Text after "KEY" up to the next separator in an Aperio description; "" if it is not there. */
static void description_value(const char *text, const char *key, char out[32])
{
    const char *at = strstr(text, key);
    size_t len = 0;
    if (at != NULL) {
        at += strlen(key);
        len = strspn(at, "0123456789.");
    }
    if (len > 31)
        len = 0;
    if (len > 0)
        memcpy(out, at, len);
    out[len] = '\0';
}

static sm_status source_looks(TIFF *tif, const char *path, sm_looks *like, sm_error *err)
{
    uint16_t compression = 0, samples = 0, planar = 0;
    char *text = NULL;
    const bool known = TIFFIsTiled(tif) && TIFFGetField(tif, TIFFTAG_COMPRESSION, &compression) &&
                       TIFFGetField(tif, TIFFTAG_PHOTOMETRIC, &like->photometric) &&
                       TIFFGetField(tif, TIFFTAG_TILEWIDTH, &like->tile_w_px) &&
                       TIFFGetField(tif, TIFFTAG_TILELENGTH, &like->tile_h_px) &&
                       TIFFGetFieldDefaulted(tif, TIFFTAG_SAMPLESPERPIXEL, &samples) &&
                       TIFFGetFieldDefaulted(tif, TIFFTAG_PLANARCONFIG, &planar);
    if (!known || compression != COMPRESSION_JPEG || samples != 3 ||
        planar != PLANARCONFIG_CONTIG || like->tile_w_px - 1 >= 8192 || like->tile_h_px - 1 >= 8192)
        return sm_fail(err, SM_ERR_FORMAT, "%s: level 0 is not tiled JPEG of 3 colours", path);
    like->h_samp = like->v_samp = 1;
    if (like->photometric == PHOTOMETRIC_YCBCR) /* libtiff looks into the stream and corrects it */
        (void)TIFFGetFieldDefaulted(tif, TIFFTAG_YCBCRSUBSAMPLING, &like->h_samp, &like->v_samp);
    if (TIFFGetField(tif, TIFFTAG_IMAGEDESCRIPTION, &text)) {
        description_value(text, "MPP = ", like->mpp);
        description_value(text, "AppMag = ", like->mag);
        description_value(text, " Q=", like->quality);
    }
    return SM_OK;
}

static sm_status source_tile(TIFF *tif, const char *path, uint32_t tile, sm_sheet *s, sm_error *err)
{
    const uint64_t len = TIFFGetStrileByteCount(tif, tile);
    if (len == 0)
        return SM_OK; /* a hole: the others repeat more often */
    if (len > 64u << 20)
        return sm_fail(err, SM_ERR_LIMIT, "%s: tile %" PRIu32 " has %" PRIu64 " bytes", path, tile,
                       len);
    uint8_t *bytes = sm_malloc_array((size_t)len, 1);
    if (bytes == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "no memory for a tile");
    sm_status st;
    if (TIFFReadRawTile(tif, tile, bytes, (tmsize_t)len) == (tmsize_t)len)
        st = sm_sheet_add(s, bytes, (size_t)len, err);
    else
        st = sm_fail(err, SM_ERR_IO, "%s: cannot read tile %" PRIu32, path, tile);
    free(bytes);
    return st;
}

/* The tiles that lie wholly inside level 0 (edge tiles hold padding), at most MAX_SOURCE_TILES of
 * them, evenly taken. */
static sm_status source_tiles(TIFF *tif, const char *path, const sm_looks *like, sm_sheet *s,
                              sm_error *err)
{
    uint32_t w_px = 0, h_px = 0, tables_len = 0;
    void *tables = NULL;
    (void)TIFFGetField(tif, TIFFTAG_IMAGEWIDTH, &w_px);
    (void)TIFFGetField(tif, TIFFTAG_IMAGELENGTH, &h_px);
    const uint32_t cols = w_px / like->tile_w_px, rows = h_px / like->tile_h_px;
    const uint32_t stride = sm_ceil_div_u32(w_px, like->tile_w_px);
    const uint64_t inside = (uint64_t)cols * rows;
    const uint64_t taken = inside < MAX_SOURCE_TILES ? inside : MAX_SOURCE_TILES;
    sm_status st = sm_sheet_new(s, MAX_SOURCE_TILES, PERIOD, PERIOD, err);
    for (uint64_t i = 0; i < taken && st == SM_OK; i++) {
        const uint64_t k = i * inside / taken;
        st = source_tile(tif, path, (uint32_t)(k / cols * stride + k % cols), s, err);
    }
    if (st == SM_OK && TIFFGetField(tif, TIFFTAG_JPEGTABLES, &tables_len, &tables))
        st = sm_buf_append(&s->tables, tables, tables_len, err);
    if (st == SM_OK && s->n == 0)
        st = sm_fail(err, SM_ERR_FORMAT, "%s: no tile lies wholly inside level 0", path);
    if (st == SM_OK)
        scatter(s);
    return st;
}

static sm_status source_read(const char *path, sm_looks *like, sm_sheet *s, sm_error *err)
{
    TIFF *tif = TIFFOpen(path, "r");
    if (tif == NULL)
        return sm_fail(err, SM_ERR_FORMAT, "%s: libtiff cannot open it", path);
    sm_status st = source_looks(tif, path, like, err);
    if (st == SM_OK)
        st = source_tiles(tif, path, like, s, err);
    TIFFClose(tif);
    return st;
}

/* Mean of d x d pixels of one tile; small has tile_w / d pixels a row. */
static void shrink_tile(const uint8_t *rgb, const sm_looks *like, uint32_t d, uint8_t *small)
{
    const uint32_t w = like->tile_w_px / d, h = like->tile_h_px / d, n = d * d;
    for (uint32_t y = 0; y < h; y++)
        for (uint32_t x = 0; x < 3 * w; x++) {
            const uint32_t colour = x % 3, left = x / 3 * d;
            uint32_t sum = n / 2;
            for (uint32_t j = 0; j < d; j++)
                for (uint32_t i = 0; i < d; i++)
                    sum += rgb[3 * ((size_t)(y * d + j) * like->tile_w_px + left + i) + colour];
            *small++ = (uint8_t)(sum / n);
        }
}

/* Every source tile at 1/d, one after another, in *small (malloc'd). */
static sm_status shrink_source(sm_jpeg *jpeg, const sm_sheet *source, const sm_looks *like,
                               uint32_t d, uint8_t **small, sm_error *err)
{
    const size_t tile_bytes = (size_t)3 * like->tile_w_px * like->tile_h_px;
    const size_t small_bytes = tile_bytes / d / d;
    uint8_t *rgb = sm_malloc_array(tile_bytes, 1);
    uint8_t *all = sm_malloc_array(source->n, small_bytes);
    sm_status st = SM_OK;
    if (rgb == NULL || all == NULL)
        st = sm_fail(err, SM_ERR_NOMEM, "no memory for the tiles at 1/%" PRIu32, d);
    for (uint32_t i = 0; i < source->n && st == SM_OK; i++) {
        st = sm_jpeg_decode(jpeg, source, i, like, rgb, err);
        if (st == SM_OK)
            shrink_tile(rgb, like, d, all + i * small_bytes);
    }
    free(rgb);
    if (st == SM_OK)
        *small = all;
    else
        free(all);
    return st;
}

/* Compose tile (col, row) of level d out of the d x d small tiles below it. */
static void compose_tile(const sm_sheet *source, const sm_looks *like, uint32_t d,
                         const uint8_t *small, uint32_t col, uint32_t row, uint8_t *rgb)
{
    const uint32_t w = like->tile_w_px / d, h = like->tile_h_px / d;
    for (uint32_t j = 0; j < d; j++)
        for (uint32_t i = 0; i < d; i++) {
            const uint8_t *from =
                small + (size_t)3 * w * h * sm_sheet_tile(source, col * d + i, row * d + j);
            uint8_t *to = rgb + 3 * ((size_t)j * h * like->tile_w_px + (size_t)i * w);
            for (uint32_t y = 0; y < h; y++)
                memcpy(to + (size_t)3 * like->tile_w_px * y, from + (size_t)3 * w * y,
                       (size_t)3 * w);
        }
}

static sm_status reduced_sheet(sm_jpeg *jpeg, const sm_sheet *source, const sm_looks *like,
                               uint32_t d, sm_sheet *s, sm_error *err)
{
    const uint32_t period = PERIOD / d;
    uint8_t *small = NULL;
    uint8_t *rgb = sm_malloc_array((size_t)like->tile_w_px * like->tile_h_px, 3);
    sm_status st = SM_OK;
    if (rgb == NULL)
        st = sm_fail(err, SM_ERR_NOMEM, "no memory for a tile");
    if (st == SM_OK)
        st = sm_sheet_new(s, period * period, period, period, err);
    if (st == SM_OK)
        st = shrink_source(jpeg, source, like, d, &small, err);
    if (st == SM_OK)
        st = sm_jpeg_encode_like(jpeg, source, like, &s->tables, err);
    for (uint32_t i = 0; i < period * period && st == SM_OK; i++) {
        compose_tile(source, like, d, small, i % period, i / period, rgb);
        st = sm_jpeg_encode(jpeg, rgb, s, err);
    }
    free(small);
    free(rgb);
    return st;
}

static sm_status thumbnail_new(uint32_t w_px, uint32_t h_px, sm_image *thumb, sm_error *err)
{
    const uint32_t step = sm_ceil_div_u32(sm_max_u32(w_px, h_px), THUMBNAIL_PX);
    thumb->w_px = sm_max_u32(w_px / step, 1);
    thumb->h_px = sm_max_u32(h_px / step, 1);
    thumb->rgb = sm_malloc_array((size_t)thumb->w_px * thumb->h_px, 3);
    return thumb->rgb != NULL ? SM_OK : sm_fail(err, SM_ERR_NOMEM, "no memory for a thumbnail");
}

/* One sample a pixel, out of tiles shrunk nearly as far as the thumbnail is. */
static sm_status mosaic_thumbnail(sm_jpeg *jpeg, const sm_sheet *source, const sm_looks *like,
                                  uint32_t w_px, uint32_t h_px, sm_image *thumb, sm_error *err)
{
    const uint32_t step = sm_ceil_div_u32(sm_max_u32(w_px, h_px), THUMBNAIL_PX);
    uint32_t d = 16;
    while (d > 1 && (d > step || like->tile_w_px % d != 0 || like->tile_h_px % d != 0))
        d /= 2;
    const uint32_t w = like->tile_w_px / d, h = like->tile_h_px / d;
    uint8_t *small = NULL;
    sm_status st = thumbnail_new(w_px, h_px, thumb, err);
    if (st == SM_OK)
        st = shrink_source(jpeg, source, like, d, &small, err);
    if (st != SM_OK)
        return st;
    for (uint32_t y = 0; y < thumb->h_px; y++)
        for (uint32_t x = 0; x < thumb->w_px; x++) {
            const uint32_t sx = x * step / d, sy = y * step / d;
            const size_t tile = sm_sheet_tile(source, sx / w, sy / h);
            memcpy(thumb->rgb + 3 * ((size_t)y * thumb->w_px + x),
                   small + 3 * (tile * w * h + (size_t)(sy % h) * w + sx % w), 3);
        }
    free(small);
    return SM_OK;
}

static sm_status synthetic_sheet(sm_jpeg *jpeg, uint32_t w_px, uint32_t h_px, sm_sheet *s,
                                 sm_error *err)
{
    const uint32_t px = SYNTHETIC_TILE_PX;
    const sm_grid grid = sm_grid_for(w_px, h_px, px, px);
    uint8_t *rgb = sm_malloc_array((size_t)px * px, 3);
    sm_status st = SM_OK;
    if (rgb == NULL)
        st = sm_fail(err, SM_ERR_NOMEM, "no memory for a tile");
    if (st == SM_OK)
        st = sm_sheet_new(s, grid.cols * grid.rows, grid.cols, grid.rows, err);
    if (st == SM_OK)
        st = sm_jpeg_encode_rgb(jpeg, px, SYNTHETIC_QUALITY, &s->tables, err);
    for (uint32_t i = 0; i < grid.cols * grid.rows && st == SM_OK; i++) {
        for (uint32_t k = 0; k < px * px; k++) /* past the edge the last pixel repeats */
            sm_tissue_pixel(sm_min_u32(i % grid.cols * px + k % px, w_px - 1),
                            sm_min_u32(i / grid.cols * px + k / px, h_px - 1), rgb + (size_t)3 * k);
        st = sm_jpeg_encode(jpeg, rgb, s, err);
    }
    free(rgb);
    return st;
}

static sm_status synthetic_thumbnail(uint32_t w_px, uint32_t h_px, sm_image *thumb, sm_error *err)
{
    const uint32_t step = sm_ceil_div_u32(sm_max_u32(w_px, h_px), THUMBNAIL_PX);
    const sm_status st = thumbnail_new(w_px, h_px, thumb, err);
    for (uint32_t i = 0; st == SM_OK && i < thumb->w_px * thumb->h_px; i++)
        sm_tissue_pixel(i % thumb->w_px * step, i / thumb->w_px * step, thumb->rgb + (size_t)3 * i);
    return st;
}

/* "1,4,16" -> 4, 16: powers of two that divide the period and the tile, rising. */
static sm_status parse_levels(const char *text, const sm_looks *like, uint32_t levels[MAX_REDUCED],
                              uint32_t *n, sm_error *err)
{
    uint32_t last = 0;
    *n = 0;
    for (const char *at = text;; at++) {
        char *end = NULL;
        const unsigned long d = *at >= '0' && *at <= '9' ? strtoul(at, &end, 10) : 0;
        if (d <= last || d > PERIOD || (last == 0 && d != 1) || (*end != ',' && *end != '\0'))
            return sm_fail(err, SM_ERR_ARG,
                           "--levels: '%s' is not a list like 1,4,16 (rising, from 1 to %u)", text,
                           PERIOD);
        if (PERIOD % d != 0 || like->tile_w_px % d != 0 || like->tile_h_px % d != 0)
            return sm_fail(err, SM_ERR_ARG,
                           "--levels: %lu does not divide %u and the tile's %" PRIu32 "x%" PRIu32
                           " px",
                           d, PERIOD, like->tile_w_px, like->tile_h_px);
        last = (uint32_t)d;
        if (d > 1)
            levels[(*n)++] = last; /* at most 6 powers of two fit in 2..PERIOD */
        if (*end == '\0')
            return SM_OK;
        at = end;
    }
}

static bool needs_bigtiff(const mosaic_config *cfg, const sm_looks *like, const sm_sheet *level0)
{
    const sm_grid grid =
        sm_grid_for(cfg->width_px, cfg->height_px, like->tile_w_px, like->tile_h_px);
    uint64_t bytes = 0;
    if (cfg->bigtiff != BIG_AUTO)
        return cfg->bigtiff == BIG_YES;
    for (uint32_t row = 0; row < grid.rows; row++)
        for (uint32_t col = 0; col < grid.cols; col++) {
            const uint32_t tile = sm_sheet_tile(level0, col, row);
            bytes += level0->starts[tile + 1] - level0->starts[tile] + 16;
        }
    return bytes / 2 * 3 > UINT32_MAX; /* reduced levels add a third, more if they are sharper */
}

/* All directories in Aperio's order: level 0, thumbnail, reduced levels. */
static sm_status write_slide(const char *path, const mosaic_config *cfg, sm_jpeg *jpeg,
                             const slide *from, sm_error *err)
{
    sm_svs *svs = NULL;
    sm_error closing = SM_ERROR_INIT;
    const sm_tile_order order = (sm_tile_order)cfg->order;
    sm_status st = sm_svs_create(path, needs_bigtiff(cfg, &from->looks, &from->level0),
                                 &from->looks, cfg->width_px, cfg->height_px, &svs, err);
    if (st != SM_OK)
        return st;
    st = sm_svs_level(svs, &from->level0, 1, order, err);
    if (st == SM_OK)
        st = sm_svs_thumbnail(svs, &from->thumb, err);
    for (uint32_t i = 0; i < from->n_reduced && st == SM_OK; i++) {
        sm_sheet sheet = {0};
        st = reduced_sheet(jpeg, &from->level0, &from->looks, from->reduced[i], &sheet, err);
        if (st == SM_OK)
            st = sm_svs_level(svs, &sheet, from->reduced[i], order, err);
        sm_sheet_free(&sheet);
    }
    if (sm_svs_close(&svs, &closing) != SM_OK && st == SM_OK) {
        *err = closing;
        st = closing.status;
    }
    return st;
}

/* Through a temporary name, so that a file named out is always a whole one. */
static sm_status write_file(const char *out, const mosaic_config *cfg, sm_jpeg *jpeg,
                            const slide *from, sm_error *err)
{
    sm_buf part = {0};
    sm_status st = sm_buf_printf(&part, err, "%s.part", out);
    if (st == SM_OK)
        st = sm_buf_append(&part, "", 1, err);
    if (st != SM_OK)
        goto out;
    const char *path = (const char *)part.data;
    st = write_slide(path, cfg, jpeg, from, err);
    if (st == SM_OK && rename(path, out) != 0)
        st = sm_fail_errno(err, SM_ERR_IO, errno, "%s", out);
    if (st != SM_OK)
        (void)unlink(path);
out:
    sm_buf_free(&part);
    return st;
}

static sm_status make_synthetic(sm_jpeg *jpeg, const mosaic_config *cfg, slide *made, sm_error *err)
{
    made->looks = (sm_looks){.tile_w_px = SYNTHETIC_TILE_PX,
                             .tile_h_px = SYNTHETIC_TILE_PX,
                             .photometric = PHOTOMETRIC_RGB,
                             .mpp = "0.4990",
                             .mag = "20",
                             .quality = "80"};
    const sm_status st = synthetic_sheet(jpeg, cfg->width_px, cfg->height_px, &made->level0, err);
    if (st != SM_OK)
        return st;
    return synthetic_thumbnail(cfg->width_px, cfg->height_px, &made->thumb, err);
}

static sm_status make_mosaic(sm_jpeg *jpeg, const mosaic_config *cfg, const char *in, slide *made,
                             sm_error *err)
{
    sm_status st = source_read(in, &made->looks, &made->level0, err);
    if (st == SM_OK)
        st = parse_levels(cfg->levels, &made->looks, made->reduced, &made->n_reduced, err);
    if (st == SM_OK)
        st = mosaic_thumbnail(jpeg, &made->level0, &made->looks, cfg->width_px, cfg->height_px,
                              &made->thumb, err);
    return st;
}

/* in NULL: synthetic. */
static sm_status make_slide(const mosaic_config *cfg, const char *in, const char *out,
                            sm_error *err)
{
    sm_jpeg *jpeg = NULL;
    slide made = {0};
    sm_status st = sm_jpeg_new(&jpeg, err);
    if (st == SM_OK && in == NULL)
        st = make_synthetic(jpeg, cfg, &made, err);
    else if (st == SM_OK)
        st = make_mosaic(jpeg, cfg, in, &made, err);
    if (st == SM_OK)
        st = write_file(out, cfg, jpeg, &made, err);
    free(made.thumb.rgb);
    sm_sheet_free(&made.level0);
    sm_jpeg_free(&jpeg);
    return st;
}

#define AT(field) offsetof(mosaic_config, field)

static const sm_opt OPTIONS[] = {
    {"width", SM_OPT_U32, AT(width_px), 0, 1000000, "0", "px",
     "Width of the slide; 0 is 46080, or 2220 with --synthetic."},
    {"height", SM_OPT_U32, AT(height_px), 0, 1000000, "0", "px",
     "Height of the slide; 0 is 33120, or 2967 with --synthetic."},
    {"levels", SM_OPT_STR, AT(levels), 0, 0, "1", "LIST",
     "Downsamples of the levels to write, for example 1,4,16: powers of two up to 64 that divide "
     "the tile's sides. Level 0 alone with --synthetic."},
    {"order", SM_OPT_CHOICE, AT(order), 0, 0, "rows", "rows|columns|shuffled",
     "Order of the tiles in the file: row by row, column by column as scanners write, or shuffled "
     "as parallel writers do."},
    {"bigtiff", SM_OPT_CHOICE, AT(bigtiff), 0, 0, "auto", "auto|yes|no",
     "64-bit offsets; auto when the slide could pass 4 GiB."},
    {"synthetic", SM_OPT_FLAG, AT(synthetic), 0, 0, NULL, NULL,
     "Draw a tissue-like slide instead of reading one; OUT is the only operand."},
};

static const char *const OPERANDS[] = {"SLIDE", "OUT"};

static const sm_command COMMAND = {
    .name = "mosaic",
    .summary = "make a big slide out of a real one's tiles",
    .synopsis = "[options] SLIDE OUT | --synthetic [options] OUT",
    .description =
        "Writes OUT in the layout of an Aperio SVS: level 0, a thumbnail, reduced levels. The "
        "tiles "
        "of level 0 are SLIDE's own, copied bit for bit and scattered by a formula; those at the "
        "right and bottom edge are left out. The mosaic repeats every 64 tiles.\n\n"
        "SLIDE is any TIFF whose first directory holds JPEG tiles. Same input and options, same "
        "bytes.",
    .examples = "mosaic --levels 1,4,16 CMU-1-Small-Region.svs big.svs\n"
                "    46,080 x 33,120 px with source levels\n"
                "mosaic --synthetic small.svs\n    a slide without any input\n",
    .exit_status = "0 the slide is complete\n2 wrong options\n65 SLIDE cannot be used\n"
                   "74 reading or writing failed\n",
    .opts = OPTIONS,
    .n_opts = SM_COUNT(OPTIONS),
    .min_operands = 1,
    .max_operands = 2,
    .operand_names = OPERANDS,
};

static sm_status check_config(mosaic_config *cfg, unsigned n_operands, sm_error *err)
{
    if (n_operands != (cfg->synthetic ? 1u : 2u))
        return sm_fail(err, SM_ERR_ARG, "%s",
                       cfg->synthetic ? "--synthetic takes OUT only" : "SLIDE and OUT are needed");
    if (cfg->synthetic && strcmp(cfg->levels, "1") != 0)
        return sm_fail(err, SM_ERR_ARG, "--synthetic writes level 0 only: leave --levels out");
    if (cfg->width_px == 0)
        cfg->width_px = cfg->synthetic ? 2220 : 46080;
    if (cfg->height_px == 0)
        cfg->height_px = cfg->synthetic ? 2967 : 33120;
    if (cfg->synthetic && (cfg->width_px > 20000 || cfg->height_px > 20000))
        return sm_fail(err, SM_ERR_ARG, "--synthetic: at most 20000 x 20000 px");
    return SM_OK;
}

int main(int argc, char **argv)
{
    mosaic_config cfg = {0};
    const char *operands[2] = {NULL, NULL};
    unsigned n_operands = 0;
    int exit_code = 0;
    sm_error err = SM_ERROR_INIT;
    if (!sm_opts_start(&COMMAND, argc, argv, &cfg, operands, &n_operands, NULL, &exit_code))
        return exit_code;
    (void)TIFFSetWarningHandler(NULL);
    sm_status st = check_config(&cfg, n_operands, &err);
    if (st == SM_OK && cfg.synthetic)
        st = make_slide(&cfg, NULL, operands[0], &err);
    else if (st == SM_OK)
        st = make_slide(&cfg, operands[0], operands[1], &err);
    if (st != SM_OK)
        (void)fprintf(stderr, "mosaic: %s\n", err.message);
    return st == SM_OK ? 0 : sm_exit_code(st);
}
