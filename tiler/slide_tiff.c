/* What the TIFF readers share: from directories to checked levels.
 * Arrays belong to slide->tiff, or, where strips are cut into smaller ones, to the slide. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/buf.h"
#include "tiler/jpeg_info.h"
#include "tiler/slide_internal.h"

/* Uncompressed strips larger than this are cut into smaller ones, so that memory stays bounded. */
#define VIRTUAL_STRIP_BYTES (4u << 20)
/* A tile may be coded in so much more than its pixels, no more. */
#define TILE_BYTES_FACTOR 4u
#define TILE_BYTES_SLACK (1u << 20)
/* How much of a JPEG tile to read for its header, first and at most. */
#define JPEG_HEAD_BYTES 65536u
#define JPEG_HEAD_MAX_BYTES (4u << 20)
/* Tiles to look at before a level's JPEG is given up as corrupt. */
#define JPEG_TRIES 16u
#define ASPECT_TOLERANCE 0.02
/* Numbers in text are not believed beyond this power of ten. */
#define MAX_EXPONENT 1000

/* ---- formats ---- */

static bool find_codec(uint16_t compression, sm_codec *codec)
{
    static const struct {
        uint16_t compression;
        sm_codec codec;
    } table[] = {
        {1, SM_CODEC_NONE},    {5, SM_CODEC_LZW},         {7, SM_CODEC_JPEG},
        {8, SM_CODEC_DEFLATE}, {32946, SM_CODEC_DEFLATE}, {50000, SM_CODEC_ZSTD},
    };
    for (size_t i = 0; i < SM_COUNT(table); i++) {
        if (table[i].compression == compression) {
            *codec = table[i].codec;
            return true;
        }
    }
    return false;
}

static const char *compression_name(uint16_t compression)
{
    static const struct {
        uint16_t compression;
        const char *name;
    } table[] = {
        {1, "none"},         {2, "ccitt"},        {3, "ccitt"},        {4, "ccitt"},
        {5, "lzw"},          {6, "old-jpeg"},     {7, "jpeg"},         {8, "deflate"},
        {32773, "packbits"}, {32946, "deflate"},  {33003, "jpeg2000"}, {33004, "jpeg2000"},
        {33005, "jpeg2000"}, {34712, "jpeg2000"}, {22610, "jpeg-xr"},  {34925, "lzma"},
        {50000, "zstd"},     {50001, "webp"},     {50002, "jpeg-xl"},
    };
    for (size_t i = 0; i < SM_COUNT(table); i++) {
        if (table[i].compression == compression)
            return table[i].name;
    }
    return "unknown";
}

static sm_status check_samples(const sm_tiff_dir *dir, sm_codec codec, sm_error *err)
{
    /* 4 is "undefined": read as unsigned */
    if (dir->bits != 8 || (dir->sample_format > 1 && dir->sample_format != 4))
        return sm_fail(err, SM_ERR_FORMAT,
                       "samples of %u bits, sample format %u; only 8-bit unsigned are read",
                       (unsigned)dir->bits, (unsigned)dir->sample_format);
    const bool grey = dir->photometric == 1 && dir->samples == 1;
    const bool rgb = dir->photometric == 2 && (dir->samples == 3 || dir->samples == 4);
    const bool ycbcr = dir->photometric == 6 && dir->samples == 3 && codec == SM_CODEC_JPEG;
    if (!grey && !rgb && !ycbcr)
        return sm_fail(
            err, SM_ERR_FORMAT,
            "%u samples a pixel of photometric interpretation %u in codec %s; only grey, "
            "RGB, RGBA and JPEG's YCbCr are read",
            (unsigned)dir->samples, (unsigned)dir->photometric, compression_name(dir->compression));
    if (codec == SM_CODEC_JPEG && (dir->samples == 4 || (dir->planar == 2 && dir->samples > 1)))
        return sm_fail(err, SM_ERR_FORMAT, "JPEG with %s",
                       dir->samples == 4 ? "alpha" : "separate planes");
    return SM_OK;
}

sm_status sm_slide_tiff_check(const sm_tiff_dir *dir, sm_error *err)
{
    sm_codec codec = SM_CODEC_NONE;
    if (!find_codec(dir->compression, &codec))
        return sm_fail(err, SM_ERR_FORMAT, "TIFF compression %u (%s) is not read natively",
                       (unsigned)dir->compression, compression_name(dir->compression));
    const sm_status st = check_samples(dir, codec, err);
    if (st != SM_OK)
        return st;
    if (dir->planar != 1 && dir->planar != 2)
        return sm_fail(err, SM_ERR_FORMAT, "TIFF planar configuration %u", (unsigned)dir->planar);
    const bool predicts =
        codec == SM_CODEC_LZW || codec == SM_CODEC_DEFLATE || codec == SM_CODEC_ZSTD;
    if (predicts && dir->predictor != 1 && dir->predictor != 2)
        return sm_fail(err, SM_ERR_FORMAT, "TIFF predictor %u", (unsigned)dir->predictor);
    if (dir->fill_order != 1)
        return sm_fail(err, SM_ERR_FORMAT, "TIFF fill order %u (bits reversed)",
                       (unsigned)dir->fill_order);
    if (dir->depth > 1)
        return sm_fail(err, SM_ERR_FORMAT, "TIFF image depth %" PRIu32, dir->depth);
    return SM_OK;
}

/* ---- extents ---- */

typedef struct tile_place {
    uint32_t col, row, plane;
} tile_place;

static tile_place place_of(const sm_level *level, uint64_t tile)
{
    const uint64_t per_plane = (uint64_t)level->cols * level->rows;
    const uint64_t in_plane = tile % per_plane;
    return (tile_place){(uint32_t)(in_plane % level->cols), (uint32_t)(in_plane / level->cols),
                        (uint32_t)(tile / per_plane)};
}

static sm_status fail_extent(const sm_slide *slide, const sm_level *level, uint64_t tile,
                             uint64_t offset, uint64_t len, sm_error *err)
{
    const tile_place at = place_of(level, tile);
    const uint64_t size = sm_source_size(slide->source);
    sm_status st = SM_OK;
    if (offset >= size || len > size - offset)
        st = sm_fail(err, SM_ERR_CORRUPT,
                     "level %" PRIu32 ", column %" PRIu32 ", row %" PRIu32 ": %s at byte %" PRIu64
                     ", %" PRIu64 " bytes long, lies beyond the end of the file (%" PRIu64
                     "): the file is truncated",
                     slide->info.n_levels, at.col, at.row, level->tiled ? "tile" : "strip", offset,
                     len, size);
    else
        st = sm_fail(err, SM_ERR_LIMIT,
                     "level %" PRIu32 ", column %" PRIu32 ", row %" PRIu32 ": %s at byte %" PRIu64
                     " is %" PRIu64 " bytes long, for %" PRIu32 "x%" PRIu32 " pixels",
                     slide->info.n_levels, at.col, at.row, level->tiled ? "tile" : "strip", offset,
                     len, level->tile_w_px, level->tile_h_px);
    err->offset = offset;
    return st;
}

static uint32_t strip_rows(const sm_level *level, uint32_t strip)
{
    return sm_min_u32(level->tile_h_px, level->h_px - strip * level->tile_h_px);
}

/* Bytes of pixels of one tile, or strip, of one plane. */
static uint64_t raw_len(const sm_level *level, uint64_t tile, uint64_t raw_bytes)
{
    if (level->tiled)
        return raw_bytes;
    return raw_bytes / level->tile_h_px * strip_rows(level, (uint32_t)(tile % level->rows));
}

/* Every tile inside the file and of a believable length; holes become offset 0, length 0. */
static sm_status check_extents(const sm_slide *slide, const sm_level *level, sm_tiff_dir *dir,
                               uint64_t raw_bytes, sm_error *err)
{
    const uint64_t size = sm_source_size(slide->source);
    const uint64_t most = TILE_BYTES_FACTOR * raw_bytes + TILE_BYTES_SLACK;
    for (uint64_t i = 0; i < dir->n_tiles; i++) {
        const uint64_t offset = dir->offsets[i], len = dir->lens[i];
        if (offset == 0 || len == 0) {
            dir->offsets[i] = dir->lens[i] = 0;
            continue;
        }
        if (offset >= size || len > size - offset)
            return fail_extent(slide, level, i, offset, len, err);
        if (level->codec != SM_CODEC_NONE && len > most)
            return fail_extent(slide, level, i, offset, len, err);
        const uint64_t raw = raw_len(level, i, raw_bytes);
        if (level->codec == SM_CODEC_NONE && len > raw)
            dir->lens[i] = raw; /* padding after the pixels is nobody's */
    }
    return SM_OK;
}

static uint64_t count_missing(const sm_level *level)
{
    const uint64_t n = (uint64_t)level->cols * level->rows;
    const unsigned planes = level->planar ? level->samples : 1;
    uint64_t missing = 0;
    for (uint64_t i = 0; i < n; i++) {
        bool present = true;
        for (unsigned p = 0; p < planes; p++)
            present &= level->lens[i + p * n] != 0;
        missing += !present;
    }
    return missing;
}

/* ---- large uncompressed strips ---- */

/* Are the strips one run of bytes, so that they can be cut anywhere? */
static bool strips_touch(const sm_level *level, uint64_t row_bytes)
{
    for (uint32_t i = 0; i + 1 < level->rows; i++) {
        const uint64_t len = strip_rows(level, i) * row_bytes;
        if (level->lens[i] != len || level->offsets[i + 1] != level->offsets[i] + len)
            return false;
    }
    return level->offsets[0] != 0;
}

/* Rows of the virtual strips: at most `most`, and strips that do not touch are cut evenly. */
static uint32_t virtual_rows(const sm_level *level, uint64_t row_bytes)
{
    const uint64_t most = VIRTUAL_STRIP_BYTES / row_bytes;
    uint32_t rows = most > 0 ? (uint32_t)most : 1;
    if (!strips_touch(level, row_bytes)) {
        while (rows > 1 && level->tile_h_px % rows != 0)
            rows--;
    }
    return rows;
}

/* Replace a level's strips by smaller ones over the same bytes. */
static sm_status cut_strips(sm_slide *slide, sm_level *level, sm_error *err)
{
    const uint64_t row_bytes = (uint64_t)level->w_px * level->samples;
    for (uint32_t i = 0; i < level->rows; i++) {
        const uint64_t want = strip_rows(level, i) * row_bytes;
        if (level->lens[i] != 0 && level->lens[i] < want)
            return sm_fail_at(err, SM_ERR_CORRUPT, level->offsets[i],
                              "level %" PRIu32 ", row %" PRIu32 ": uncompressed strip of %" PRIu64
                              " bytes for %" PRIu64 " bytes of pixels",
                              slide->info.n_levels, i, level->lens[i], want);
    }
    const uint32_t rows = virtual_rows(level, row_bytes);
    const uint32_t n = sm_ceil_div_u32(level->h_px, rows);
    if (n > SM_TIFF_MAX_TILES)
        return sm_fail(err, SM_ERR_LIMIT, "level %" PRIu32 ": %" PRIu32 " strips",
                       slide->info.n_levels, n);
    uint64_t *offsets = sm_malloc_array(n, sizeof *offsets);
    sm_status st = sm_slide_own(slide, offsets, err);
    if (st != SM_OK)
        return st;
    uint64_t *lens = sm_malloc_array(n, sizeof *lens);
    st = sm_slide_own(slide, lens, err);
    if (st != SM_OK)
        return st;
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t y = i * rows, strip = y / level->tile_h_px;
        const uint64_t skip = (uint64_t)(y % level->tile_h_px) * row_bytes;
        const bool hole = level->offsets[strip] == 0;
        offsets[i] = hole ? 0 : level->offsets[strip] + skip;
        lens[i] = hole ? 0 : sm_min_u32(rows, level->h_px - y) * row_bytes;
    }
    level->offsets = offsets;
    level->lens = lens;
    level->tile_h_px = rows;
    level->rows = n;
    return SM_OK;
}

/* ---- what the codestream says ---- */

/* Header of one tile; *buf keeps its memory between calls. */
static sm_status read_tile_traits(const sm_slide *slide, const sm_level *level, uint64_t tile,
                                  sm_buf *buf, sm_jpeg_traits *traits, sm_error *err)
{
    const uint64_t len = level->lens[tile];
    sm_status st = SM_ERR_CORRUPT;
    for (uint64_t want = JPEG_HEAD_BYTES;; want = JPEG_HEAD_MAX_BYTES) {
        const size_t n = (size_t)(len < want ? len : want);
        st = sm_buf_reserve(buf, n, err);
        if (st == SM_OK)
            st = sm_source_pread(slide->source, buf->data, n, level->offsets[tile], err);
        if (st != SM_OK)
            return st;
        st = sm_jpeg_traits_read(buf->data, n, level->jpeg_tables, level->jpeg_tables_len,
                                 level->photometric, traits, err);
        if (st != SM_ERR_CORRUPT || n == len || want == JPEG_HEAD_MAX_BYTES)
            break;
    }
    if (st == SM_OK && traits->n_components != level->samples)
        st = sm_fail(err, SM_ERR_CORRUPT, "the codestream has %u components, the directory %u",
                     (unsigned)traits->n_components, (unsigned)level->samples);
    if (st != SM_OK) {
        const tile_place at = place_of(level, tile);
        sm_error_prefix(
            err, "level %" PRIu32 ", column %" PRIu32 ", row %" PRIu32 ": tile at byte %" PRIu64,
            slide->info.n_levels, at.col, at.row, level->offsets[tile]);
        err->offset = level->offsets[tile];
    }
    return st;
}

/* The first present tile speaks for the level; a garbled one is passed over, as it may be a bad
 * tile that the caller has a policy for. The first one's error is told when none can be read. */
static sm_status read_traits(const sm_slide *slide, sm_level *level, sm_error *err)
{
    const uint64_t n = (uint64_t)level->cols * level->rows;
    sm_status st = SM_OK;
    sm_error later = SM_ERROR_INIT;
    sm_buf buf = {0};
    unsigned tries = 0;
    for (uint64_t i = 0; i < n && tries < JPEG_TRIES; i++) {
        if (level->lens[i] == 0)
            continue;
        const sm_status got =
            read_tile_traits(slide, level, i, &buf, &level->jpeg, tries == 0 ? err : &later);
        if (tries == 0 || got == SM_OK)
            st = got;
        tries++;
        if (got != SM_ERR_CORRUPT) {
            if (got != SM_OK && tries > 1) {
                *err = later;
                st = got;
            }
            break;
        }
    }
    sm_buf_free(&buf);
    if (tries == 0) /* no tile at all: the tags are all there is */
        level->jpeg = (sm_jpeg_traits){
            .colour = level->samples == 1       ? SM_COLOUR_GREY
                      : level->photometric == 2 ? SM_COLOUR_RGB
                                                : SM_COLOUR_YCBCR,
            .h_samp = 1,
            .v_samp = 1,
            .n_components = (uint8_t)level->samples,
        };
    return st;
}

/* ---- levels ---- */

static sm_status check_size(const sm_slide *slide, const sm_level *level, uint64_t *raw_bytes,
                            sm_error *err)
{
    uint64_t bytes = 0;
    const uint64_t samples = level->planar ? 1 : level->samples;
    if (level->w_px > SM_MAX_SIDE_PX || level->h_px > SM_MAX_SIDE_PX)
        return sm_fail(err, SM_ERR_LIMIT, "level %" PRIu32 " of %" PRIu32 "x%" PRIu32 " pixels",
                       slide->info.n_levels, level->w_px, level->h_px);
    const bool ok =
        sm_mul_u64((uint64_t)level->tile_w_px * level->tile_h_px, samples, &bytes) && bytes > 0;
    /* huge uncompressed strips are cut below */
    const bool cut = !level->tiled && level->codec == SM_CODEC_NONE && !level->planar;
    const uint64_t least = cut ? level->w_px * samples : bytes;
    if (!ok || least > SM_MAX_TILE_BYTES)
        return sm_fail(err, SM_ERR_LIMIT, "level %" PRIu32 ": %s of %" PRIu32 "x%" PRIu32 " pixels",
                       slide->info.n_levels, level->tiled ? "tiles" : "strips", level->tile_w_px,
                       level->tile_h_px);
    *raw_bytes = bytes;
    return SM_OK;
}

static void fill_level(const sm_slide *slide, const sm_tiff_dir *dir, sm_level *level)
{
    *level = (sm_level){
        .w_px = dir->w_px,
        .h_px = dir->h_px,
        .tile_w_px = dir->tile_w_px,
        .tile_h_px = dir->tile_h_px,
        .tiled = dir->tiled,
        .compression = dir->compression,
        .photometric = dir->photometric,
        .predictor = dir->predictor,
        .samples = dir->samples,
        .planar = dir->planar == 2 && dir->samples > 1,
        .jpeg_tables = dir->jpeg_tables,
        .jpeg_tables_len = dir->jpeg_tables_len,
        .offsets = dir->offsets,
        .lens = dir->lens,
        .downsample = 1,
        .dir = dir->index,
        .dir_offset = dir->offset,
        .premultiplied = dir->samples == 4 && dir->n_extra > 0 && dir->extra == 1,
        .tag_h_samp = (uint8_t)sm_min_u32(dir->tag_h_samp, UINT8_MAX),
        .tag_v_samp = (uint8_t)sm_min_u32(dir->tag_v_samp, UINT8_MAX),
    };
    const sm_grid grid = sm_grid_for(dir->w_px, dir->h_px, dir->tile_w_px, dir->tile_h_px);
    level->cols = grid.cols;
    level->rows = grid.rows;
    if (slide->info.n_levels > 0) {
        const sm_level *base = &slide->levels[0];
        level->downsample = ((double)base->w_px / dir->w_px + (double)base->h_px / dir->h_px) / 2;
    }
}

static sm_status add_level(sm_slide *slide, sm_tiff_dir *dir, sm_error *err)
{
    if (dir->status != SM_OK)
        return sm_fail(err, dir->status, "level %" PRIu32 ": %s", slide->info.n_levels,
                       dir->problem);
    sm_status st = sm_slide_tiff_check(dir, err);
    if (st != SM_OK)
        return st;
    sm_level *level = &slide->levels[slide->info.n_levels];
    if (dir->tile_w_px == 0 || dir->tile_h_px == 0)
        return sm_fail_at(err, SM_ERR_CORRUPT, dir->offset,
                          "tiles of %" PRIu32 "x%" PRIu32 " pixels", dir->tile_w_px,
                          dir->tile_h_px);
    fill_level(slide, dir, level);
    (void)find_codec(dir->compression, &level->codec);
    uint64_t raw_bytes = 0;
    st = check_size(slide, level, &raw_bytes, err);
    if (st != SM_OK)
        return st;
    const uint64_t tiles = (uint64_t)level->cols * level->rows;
    if (dir->n_tiles != tiles * (level->planar ? level->samples : 1))
        return sm_fail_at(err, SM_ERR_CORRUPT, dir->offset,
                          "directory with %" PRIu64 " tiles for a grid of %" PRIu32 "x%" PRIu32,
                          dir->n_tiles, level->cols, level->rows);
    st = check_extents(slide, level, dir, raw_bytes, err);
    if (st == SM_OK && !level->tiled && level->codec == SM_CODEC_NONE && !level->planar &&
        raw_bytes > VIRTUAL_STRIP_BYTES)
        st = cut_strips(slide, level, err);
    if (st == SM_OK && level->codec == SM_CODEC_JPEG)
        st = read_traits(slide, level, err);
    if (st != SM_OK)
        return st;
    level->n_missing = count_missing(level);
    slide->info.n_levels++;
    return SM_OK;
}

static bool similar(double a, double b)
{
    return fabs(a - b) <= 1.5 + ASPECT_TOLERANCE * b;
}

/* Smaller than the level before, and of the shape of level 0. */
static bool belongs(const sm_tiff_dir *base, const sm_tiff_dir *prev, const sm_tiff_dir *dir)
{
    if (dir->status != SM_OK && dir->w_px == 0)
        return true; /* unreadable: add_level says so */
    const bool smaller = (dir->w_px < prev->w_px || dir->w_px == 1) &&
                         (dir->h_px < prev->h_px || dir->h_px == 1) &&
                         (dir->w_px != prev->w_px || dir->h_px != prev->h_px);
    const double w0 = base->w_px, h0 = base->h_px, w = dir->w_px, h = dir->h_px;
    return smaller && w > 0 && h > 0 && (similar(h, h0 * w / w0) || similar(w, w0 * h / h0));
}

static uint64_t area(const sm_tiff_dir *dir)
{
    return (uint64_t)dir->w_px * dir->h_px;
}

/* Insertion sort by falling size: few, nearly sorted, and equal ones keep their order. */
static void sort_by_size(const sm_tiff *tiff, uint32_t *dirs, uint32_t n)
{
    for (uint32_t i = 1; i < n; i++) {
        const uint32_t dir = dirs[i];
        uint32_t k = i;
        for (; k > 0 && area(sm_tiff_dir_at(tiff, dirs[k - 1])) < area(sm_tiff_dir_at(tiff, dir));
             k--)
            dirs[k] = dirs[k - 1];
        dirs[k] = dir;
    }
}

static void set_icc(sm_slide *slide, const sm_tiff_dir *dir)
{
    if (slide->info.icc == NULL && dir->icc != NULL) {
        slide->info.icc = dir->icc;
        slide->info.icc_len = dir->icc_len;
    }
}

sm_status sm_slide_tiff_levels(sm_slide *slide, const uint32_t *dirs, uint32_t n, sm_error *err)
{
    uint32_t order[SM_TIFF_MAX_DIRS];
    if (n == 0 || n > SM_COUNT(order))
        return sm_fail(err, SM_ERR_INTERNAL, "%" PRIu32 " directories for levels", n);
    memcpy(order, dirs, n * sizeof *order);
    sort_by_size(slide->tiff, order + 1, n - 1);
    slide->info.bigtiff = sm_tiff_is_bigtiff(slide->tiff);
    slide->info.big_endian = sm_tiff_is_big_endian(slide->tiff);
    const sm_tiff_dir *base = sm_tiff_dir_at(slide->tiff, order[0]), *prev = base;
    for (uint32_t i = 0; i < n; i++) {
        sm_tiff_dir *dir = sm_tiff_dir_mutable(slide->tiff, order[i]);
        if (i > 0 && !belongs(base, prev, dir))
            continue;
        if (slide->info.n_levels == SM_MAX_LEVELS)
            return sm_fail(err, SM_ERR_LIMIT, "more than %d levels", SM_MAX_LEVELS);
        const sm_status st = add_level(slide, dir, err);
        if (st != SM_OK)
            return st;
        set_icc(slide, dir);
        prev = dir;
    }
    return SM_OK;
}

/* ---- resolution, associated images, numbers ---- */

void sm_slide_set_mpp(sm_slide *slide, double mpp_x, double mpp_y)
{
    if (mpp_x >= 0.01 && mpp_x <= 100 && mpp_y >= 0.01 && mpp_y <= 100) {
        slide->info.mpp_x = mpp_x;
        slide->info.mpp_y = mpp_y;
    }
}

void sm_slide_tiff_mpp(sm_slide *slide, const sm_tiff_dir *dir)
{
    const double um = dir->res_unit == 3 ? 10000 : dir->res_unit == 2 ? 25400 : 0;
    if (slide->info.mpp_x <= 0 && dir->x_res > 0 && dir->y_res > 0)
        sm_slide_set_mpp(slide, um / dir->x_res, um / dir->y_res);
}

void sm_slide_tiff_associate(sm_slide *slide, const char *name, const sm_tiff_dir *dir)
{
    sm_slide_info *info = &slide->info;
    if (info->n_associated == SM_MAX_ASSOCIATED || dir->w_px == 0 || dir->h_px == 0)
        return;
    for (uint32_t i = 0; i < info->n_associated; i++) {
        if (strcmp(info->associated[i].name, name) == 0)
            return;
    }
    sm_associated *image = &info->associated[info->n_associated];
    (void)snprintf(image->name, sizeof image->name, "%s", name);
    (void)snprintf(image->codec, sizeof image->codec, "%s", compression_name(dir->compression));
    image->w_px = dir->w_px;
    image->h_px = dir->h_px;
    slide->associated_dir[info->n_associated++] = dir->offset;
}

void sm_slide_tiff_find_named(sm_slide *slide)
{
    static const char *const names[] = {"label", "macro", "thumbnail"};
    for (uint32_t i = 1; i < sm_tiff_chain_count(slide->tiff); i++) {
        const sm_tiff_dir *dir = sm_tiff_dir_at(slide->tiff, i);
        for (size_t k = 0; k < SM_COUNT(names); k++)
            if (!dir->tiled && strcmp(dir->description, names[k]) == 0)
                sm_slide_tiff_associate(slide, names[k], dir);
    }
}

sm_status sm_slide_tiff_associated(const sm_slide *slide, uint32_t i, uint8_t *rgb, sm_error *err)
{
    const sm_associated *image = &slide->info.associated[i];
    return sm_tiff_read_rgb(slide->source, slide->associated_dir[i], image->w_px, image->h_px, rgb,
                            err);
}

/* Digits, with one '.' or ',' among them, as digits * 10^scale; those beyond the precision of a
 * double only count for the scale. The end, or NULL if there is no digit. */
static const char *read_digits(const char *text, uint64_t *digits, int *scale)
{
    bool fraction = false, any = false;
    for (;; text++) {
        const bool sign = *text == '.' || *text == ',';
        if (sign && !fraction) {
            fraction = true;
        } else if (*text < '0' || *text > '9') {
            return any ? text : NULL;
        } else if (*digits < UINT64_MAX / 1000) {
            *digits = *digits * 10 + (uint64_t)(*text - '0');
            *scale -= fraction;
            any = true;
        } else if (*scale < MAX_EXPONENT) {
            *scale += !fraction;
        }
    }
}

/* "e-1" and the like; 0 if there is none. */
static int read_exponent(const char *text)
{
    if (*text != 'e' && *text != 'E')
        return 0;
    const bool minus = text[1] == '-';
    int exponent = 0;
    for (text += text[1] == '-' || text[1] == '+' ? 2 : 1; *text >= '0' && *text <= '9'; text++) {
        if (exponent < MAX_EXPONENT)
            exponent = exponent * 10 + (*text - '0');
    }
    return minus ? -exponent : exponent;
}

/* strtod obeys the locale's decimal sign, a scanner's text does not. */
double sm_slide_number(const char *text)
{
    uint64_t digits = 0;
    int scale = 0;
    const char *end = read_digits(text + strspn(text, " \t\r\n"), &digits, &scale);
    if (end == NULL)
        return 0;
    scale += read_exponent(end);
    /* a division by an exact power rounds once, so "0.4990" is the double nearest to it */
    const double value =
        scale < 0 ? (double)digits / pow(10, -scale) : (double)digits * pow(10, scale);
    return isfinite(value) ? value : 0;
}
