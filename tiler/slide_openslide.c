/* Reader of everything else: OpenSlide renders, slidemill sees levels of virtual 512x512 tiles.
 * Owns the OpenSlide handle. An error inside OpenSlide is final for a handle, so a handle that met
 * one is replaced: one bad tile must not spoil the others. */
#include <inttypes.h>
#include <math.h>
#include <openslide.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/buf.h"
#include "tiler/slide_internal.h"

/* Pixels asked for in one call of OpenSlide: 16 MiB of ARGB. */
#define REGION_PX (4u << 20)
/* An ICC profile beyond this is not one. */
#define MAX_ICC_BYTES (64u << 20)

typedef struct state {
    pthread_rwlock_t lock; /* readers share the handle; who replaces it holds it alone */
    openslide_t *osr;
    const char *path;                 /* borrowed from the source */
    double downsample[SM_MAX_LEVELS]; /* as OpenSlide has it; by our own level */
} state;

/* OpenSlide opens by path: make sure that the path is still the source's file, and not the made-up
 * name of bytes in memory. */
static bool is_same_file(const sm_source *source)
{
    struct stat st;
    return stat(sm_source_path(source), &st) == 0 && S_ISREG(st.st_mode) &&
           (uint64_t)st.st_size == sm_source_size(source);
}

const char *sm_openslide_vendor(const sm_source *source)
{
    if (!is_same_file(source))
        return NULL;
    sm_tiff_silence();
    return openslide_detect_vendor(sm_source_path(source));
}

/* ---- pixels ---- */

static void flatten(const uint32_t *argb, const uint8_t background[3], size_t n_px, uint8_t *rgb)
{
    for (size_t i = 0; i < n_px; i++) {
        const uint32_t p = argb[i], clear = 255 - (p >> 24);
        for (size_t k = 0; k < 3; k++) {
            const uint32_t colour = p >> (16 - 8 * k) & 0xFF;
            const uint32_t mixed = colour + (clear * background[k] + 127) / 255;
            rgb[3 * i + k] = (uint8_t)sm_min_u32(mixed, 255);
        }
    }
}

/* What to read, so that the same read can be tried twice. */
typedef struct region {
    int32_t level; /* OpenSlide's; -1: the associated image of that name */
    const char *name;
    int64_t x0, y0, w, h;
    uint32_t *argb;
} region;

static bool read_region(openslide_t *osr, const region *r, char *why, size_t cap)
{
    if (r->level < 0)
        openslide_read_associated_image(osr, r->name, r->argb);
    else
        openslide_read_region(osr, r->argb, r->x0, r->y0, r->level, r->w, r->h);
    const char *error = openslide_get_error(osr);
    if (error != NULL)
        (void)snprintf(why, cap, "%s", error);
    return error == NULL;
}

/* With the lock held alone: a handle that works, or none. */
static bool renew(state *s)
{
    if (s->osr != NULL && openslide_get_error(s->osr) == NULL)
        return true;
    if (s->osr != NULL)
        openslide_close(s->osr);
    s->osr = openslide_open(s->path);
    return s->osr != NULL && openslide_get_error(s->osr) == NULL;
}

/* Read through the shared handle; if that has failed, perhaps because of another thread's tile,
 * once more alone with a fresh one, whose verdict counts. */
static sm_status read_checked(state *s, const region *r, sm_error *err)
{
    char why[256] = "the slide cannot be opened again";
    (void)pthread_rwlock_rdlock(&s->lock);
    bool ok = s->osr != NULL && openslide_get_error(s->osr) == NULL &&
              read_region(s->osr, r, why, sizeof why);
    (void)pthread_rwlock_unlock(&s->lock);
    if (!ok) {
        (void)pthread_rwlock_wrlock(&s->lock);
        ok = renew(s) && read_region(s->osr, r, why, sizeof why);
        (void)pthread_rwlock_unlock(&s->lock);
    }
    return ok ? SM_OK : sm_fail(err, SM_ERR_CORRUPT, "OpenSlide: %s", why);
}

/* OpenSlide places regions in level-0 pixels: x0 is the nearest whole one, so that a level whose
 * downsample is not whole is shifted by at most half a level-0 pixel. */
static sm_status openslide_render(const sm_slide *slide, uint32_t level, sm_rect rect, uint8_t *rgb,
                                  size_t stride, sm_error *err)
{
    state *s = slide->state;
    const uint32_t band = sm_min_u32(rect.h, sm_max_u32(1, REGION_PX / rect.w));
    uint32_t *argb = sm_malloc_array((size_t)band * rect.w, sizeof *argb);
    if (argb == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "out of memory for %" PRIu32 "x%" PRIu32 " pixels",
                       rect.w, band);
    sm_status st = SM_OK;
    for (uint32_t y = 0; y < rect.h && st == SM_OK; y += band) {
        const uint32_t rows = sm_min_u32(band, rect.h - y);
        const region r = {
            .level = (int32_t)slide->levels[level].dir,
            .x0 = (int64_t)rint(rect.x * s->downsample[level]),
            .y0 = (int64_t)rint((double)(rect.y + y) * s->downsample[level]),
            .w = rect.w,
            .h = rows,
            .argb = argb,
        };
        st = read_checked(s, &r, err);
        for (uint32_t i = 0; i < rows && st == SM_OK; i++)
            flatten(argb + (size_t)i * rect.w, slide->info.background, rect.w,
                    rgb + (size_t)(y + i) * stride);
    }
    free(argb);
    return st;
}

static sm_status openslide_associated(const sm_slide *slide, uint32_t i, uint8_t *rgb,
                                      sm_error *err)
{
    const sm_associated *image = &slide->info.associated[i];
    const uint64_t n_px = (uint64_t)image->w_px * image->h_px;
    if (n_px > SM_TIFF_MAX_RGB_PX)
        return sm_fail(err, SM_ERR_LIMIT, "image of %" PRIu32 "x%" PRIu32 " pixels", image->w_px,
                       image->h_px);
    uint32_t *argb = sm_malloc_array((size_t)n_px, sizeof *argb);
    if (argb == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "out of memory for %" PRIu64 " pixels", n_px);
    const region r = {.level = -1, .name = image->name, .argb = argb};
    const sm_status st = read_checked(slide->state, &r, err);
    if (st == SM_OK)
        flatten(argb, slide->info.background, (size_t)n_px, rgb);
    free(argb);
    return st;
}

/* ---- open ---- */

static double property_number(openslide_t *osr, const char *name)
{
    const char *value = openslide_get_property_value(osr, name);
    return value != NULL ? sm_slide_number(value) : 0;
}

/* "RRGGBB" */
static void read_background(openslide_t *osr, uint8_t background[3])
{
    const char *value = openslide_get_property_value(osr, OPENSLIDE_PROPERTY_NAME_BACKGROUND_COLOR);
    if (value == NULL || strlen(value) != 6 || strspn(value, "0123456789abcdefABCDEF") != 6)
        return;
    const unsigned long rgb = strtoul(value, NULL, 16);
    background[0] = (uint8_t)(rgb >> 16);
    background[1] = (uint8_t)(rgb >> 8);
    background[2] = (uint8_t)rgb;
}

static sm_status read_icc(sm_slide *slide, openslide_t *osr, sm_error *err)
{
#ifdef SM_HAVE_OPENSLIDE_ICC
    const int64_t len = openslide_get_icc_profile_size(osr);
    if (len <= 0 || len > (int64_t)MAX_ICC_BYTES)
        return SM_OK;
    uint8_t *icc = sm_malloc_array((size_t)len, 1);
    const sm_status st = sm_slide_own(slide, icc, err);
    if (st != SM_OK)
        return st;
    openslide_read_icc_profile(osr, icc);
    slide->info.icc = icc;
    slide->info.icc_len = (size_t)len;
#else
    (void)osr, (void)err; /* OpenSlide before 4.0 does not tell; the TIFF does */
    for (uint32_t i = 0; slide->tiff != NULL && i < sm_tiff_chain_count(slide->tiff); i++) {
        const sm_tiff_dir *dir = sm_tiff_dir_at(slide->tiff, i);
        if (dir->icc_len > 0 && dir->icc_len <= MAX_ICC_BYTES) {
            slide->info.icc = dir->icc;
            slide->info.icc_len = dir->icc_len;
            break;
        }
    }
#endif
    return SM_OK;
}

static void read_associated(sm_slide *slide, openslide_t *osr)
{
    sm_slide_info *info = &slide->info;
    const char *const *names = openslide_get_associated_image_names(osr);
    for (; names != NULL && *names != NULL && info->n_associated < SM_MAX_ASSOCIATED; names++) {
        sm_associated *image = &info->associated[info->n_associated];
        int64_t w = 0, h = 0;
        openslide_get_associated_image_dimensions(osr, *names, &w, &h);
        /* the name is how OpenSlide is asked for the pixels: one that does not fit is no use */
        if (w <= 0 || h <= 0 || w > SM_MAX_SIDE_PX || h > SM_MAX_SIDE_PX ||
            strlen(*names) >= sizeof image->name)
            continue;
        (void)snprintf(image->name, sizeof image->name, "%s", *names);
        (void)snprintf(image->codec, sizeof image->codec, "rendered");
        image->w_px = (uint32_t)w;
        image->h_px = (uint32_t)h;
        info->n_associated++;
    }
}

/* libtiff's TIFFRGBAImageGet, which OpenSlide uses for all but JPEG, puts the rows of an image that
 * is smaller than one of its tiles at the wrong place, and what is left is transparent. */
static bool is_misdrawn(const sm_slide *slide, openslide_t *osr, int32_t number, int64_t w,
                        int64_t h)
{
    char name[64];
    if (strcmp(slide->info.vendor, "generic-tiff") != 0)
        return false;
    (void)snprintf(name, sizeof name, "openslide.level[%" PRId32 "].tile-width", number);
    const bool narrow = property_number(osr, name) > (double)w;
    (void)snprintf(name, sizeof name, "openslide.level[%" PRId32 "].tile-height", number);
    return narrow || property_number(osr, name) > (double)h;
}

static sm_status add_level(sm_slide *slide, state *s, int32_t number, sm_error *err)
{
    int64_t w = 0, h = 0;
    openslide_get_level_dimensions(s->osr, number, &w, &h);
    if (is_misdrawn(slide, s->osr, number, w, h))
        return number > 0 ? SM_OK
                          : sm_fail(err, SM_ERR_FORMAT,
                                    "%" PRId64 "x%" PRId64 " pixels are less than one of its "
                                    "tiles, which OpenSlide does not draw right",
                                    w, h);
    const double downsample = openslide_get_level_downsample(s->osr, number);
    if (w <= 0 || h <= 0 || w > SM_MAX_SIDE_PX || h > SM_MAX_SIDE_PX || !(downsample > 0))
        return sm_fail(err, SM_ERR_LIMIT, "level %" PRId32 " of %" PRId64 "x%" PRId64 " pixels",
                       number, w, h);
    sm_slide_info *info = &slide->info;
    if (info->n_levels > 0) { /* levels of equal size do exist in Z stacks */
        const sm_level *prev = &slide->levels[info->n_levels - 1];
        if (w >= prev->w_px || h > prev->h_px)
            return SM_OK;
    }
    if (info->n_levels == SM_MAX_LEVELS)
        return sm_fail(err, SM_ERR_LIMIT, "more than %d levels", SM_MAX_LEVELS);
    const sm_grid grid =
        sm_grid_for((uint32_t)w, (uint32_t)h, SM_RENDER_TILE_PX, SM_RENDER_TILE_PX);
    if (sm_grid_tiles(grid) > SM_TIFF_MAX_TILES)
        return sm_fail(err, SM_ERR_LIMIT, "level %" PRId32 " of %" PRId64 "x%" PRId64 " pixels",
                       number, w, h);
    const sm_level *base = info->n_levels > 0 ? &slide->levels[0] : NULL;
    s->downsample[info->n_levels] = downsample;
    slide->levels[info->n_levels++] = (sm_level){
        .w_px = (uint32_t)w,
        .h_px = (uint32_t)h,
        .tile_w_px = SM_RENDER_TILE_PX,
        .tile_h_px = SM_RENDER_TILE_PX,
        .cols = grid.cols,
        .rows = grid.rows,
        .tiled = true,
        .codec = SM_CODEC_RENDERED,
        .photometric = 2,
        .predictor = 1,
        .samples = 3,
        .downsample = base == NULL
                          ? 1
                          : ((double)base->w_px / (double)w + (double)base->h_px / (double)h) / 2,
        .dir = (uint32_t)number,
    };
    return SM_OK;
}

static sm_status read_slide(sm_slide *slide, state *s, sm_error *err)
{
    const int32_t n = openslide_get_level_count(s->osr);
    if (n <= 0)
        return sm_fail(err, SM_ERR_FORMAT, "OpenSlide finds no level");
    for (int32_t i = 0; i < n; i++) {
        const sm_status st = add_level(slide, s, i, err);
        if (st != SM_OK)
            return st;
    }
    sm_slide_set_mpp(slide, property_number(s->osr, OPENSLIDE_PROPERTY_NAME_MPP_X),
                     property_number(s->osr, OPENSLIDE_PROPERTY_NAME_MPP_Y));
    slide->info.objective = property_number(s->osr, OPENSLIDE_PROPERTY_NAME_OBJECTIVE_POWER);
    read_background(s->osr, slide->info.background);
    read_associated(slide, s->osr);
    if (slide->tiff != NULL) {
        slide->info.bigtiff = sm_tiff_is_bigtiff(slide->tiff);
        slide->info.big_endian = sm_tiff_is_big_endian(slide->tiff);
    }
    return read_icc(slide, s->osr, err);
}

static sm_status openslide_reader_open(sm_slide *slide, sm_error *err)
{
    const char *vendor = sm_openslide_vendor(slide->source);
    if (vendor == NULL)
        return sm_fail(err, SM_ERR_FORMAT, "OpenSlide does not know it");
    slide->recognised = true;
    state *s = sm_calloc(1, sizeof *s);
    if (s == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "out of memory");
    if (pthread_rwlock_init(&s->lock, NULL) != 0) {
        free(s);
        return sm_fail(err, SM_ERR_NOMEM, "out of locks");
    }
    slide->state = s; /* the close slot releases it from here on */
    s->path = sm_source_path(slide->source);
    s->osr = openslide_open(s->path);
    const char *error = s->osr != NULL ? openslide_get_error(s->osr) : "unsupported";
    if (error != NULL)
        return sm_fail(err, SM_ERR_FORMAT, "OpenSlide, %s: %s", vendor, error);
    (void)snprintf(slide->info.vendor, sizeof slide->info.vendor, "%s", vendor);
    return read_slide(slide, s, err);
}

static void openslide_reader_close(sm_slide *slide)
{
    state *s = slide->state;
    slide->state = NULL;
    if (s == NULL)
        return;
    if (s->osr != NULL)
        openslide_close(s->osr);
    (void)pthread_rwlock_destroy(&s->lock);
    free(s);
}

const sm_slide_reader sm_reader_openslide = {
    .name = "openslide",
    .open = openslide_reader_open,
    .render = openslide_render,
    .associated = openslide_associated,
    .close = openslide_reader_close,
};
