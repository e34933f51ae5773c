/* Tiles of the codecs that TIFF brings along: none by copying; LZW, deflate and zstd, with their
 * predictor, through a libtiff handle on the level's directory. Owns that handle. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <tiffio.h>

#include "common/buf.h"
#include "tiler/decode_internal.h"

/* libtiff may not allocate more than this at once, whatever a directory says. */
#define MAX_TIFF_ALLOC ((tmsize_t)256 << 20)
/* What a libtiff handle with its directory and codec holds, about. */
#define TIFF_HANDLE_BYTES (256u << 10)
#define MAX_SAMPLES 4

typedef struct tiff_state {
    TIFF *tiff; /* NULL: codec none */
    const sm_source *source;
    uint64_t pos;       /* of libtiff's next read */
    sm_error io;        /* a failed read, until reported */
    char said[256];     /* libtiff's first error, until reported */
    sm_buf raw;         /* samples as decompressed, where they are not RGB yet */
    bool premultiplied; /* ExtraSamples says associated alpha */
    uint8_t background[3];
} tiff_state;

/* ---- libtiff's view of the source ---- */

static tmsize_t on_read(thandle_t handle, void *bytes, tmsize_t len)
{
    tiff_state *s = (tiff_state *)handle;
    const uint64_t size = sm_source_size(s->source);
    if (len <= 0 || s->pos >= size)
        return 0;
    const size_t n = size - s->pos < (uint64_t)len ? (size_t)(size - s->pos) : (size_t)len;
    if (sm_source_pread(s->source, bytes, n, s->pos, &s->io) != SM_OK)
        return -1;
    s->pos += n;
    return (tmsize_t)n;
}

static tmsize_t on_write(thandle_t handle, void *bytes, tmsize_t len)
{
    (void)handle;
    (void)bytes;
    (void)len;
    return -1;
}

static toff_t on_seek(thandle_t handle, toff_t offset, int whence)
{
    tiff_state *s = (tiff_state *)handle;
    const uint64_t base = whence == SEEK_CUR   ? s->pos
                          : whence == SEEK_END ? sm_source_size(s->source)
                                               : 0;
    s->pos = base + offset; /* unsigned: a negative offset wraps around, as libtiff means it */
    return s->pos;
}

static toff_t on_size(thandle_t handle)
{
    return sm_source_size(((const tiff_state *)handle)->source);
}

static int on_close(thandle_t handle)
{
    (void)handle; /* the source is borrowed */
    return 0;
}

SM_PRINTF(4, 0)
static int on_error(TIFF *tiff, void *user, const char *module, const char *fmt, va_list args)
{
    (void)tiff;
    (void)module;
    tiff_state *s = user;
    if (s->said[0] == '\0')
        vsnprintf(s->said, sizeof s->said, fmt, args);
    return 1; /* handled: nothing goes to stderr */
}

SM_PRINTF(4, 0)
static int on_warning(TIFF *tiff, void *user, const char *module, const char *fmt, va_list args)
{
    (void)tiff;
    (void)user;
    (void)module;
    (void)fmt;
    (void)args;
    return 1;
}

static sm_status libtiff_failed(tiff_state *s, sm_error *err)
{
    if (s->io.status != SM_OK) {
        *err = s->io;
        s->io = (sm_error)SM_ERROR_INIT;
        return err->status;
    }
    sm_fail(err, SM_ERR_CORRUPT, "TIFF: %s", s->said[0] != '\0' ? s->said : "cannot be decoded");
    s->said[0] = '\0';
    return err->status;
}

static TIFF *open_handle(tiff_state *s)
{
    TIFFOpenOptions *options = TIFFOpenOptionsAlloc();
    if (options == NULL)
        return NULL;
    TIFFOpenOptionsSetMaxSingleMemAlloc(options, MAX_TIFF_ALLOC);
    TIFFOpenOptionsSetErrorHandlerExtR(options, on_error, s);
    TIFFOpenOptionsSetWarningHandlerExtR(options, on_warning, s);
    /* h: no directory yet; O: tile arrays only if asked for, which never happens; m: no mmap */
    TIFF *tiff = TIFFClientOpenExt(sm_source_path(s->source), "rhOm", s, on_read, on_write, on_seek,
                                   on_close, on_size, NULL, NULL, options);
    TIFFOpenOptionsFree(options);
    return tiff;
}

/* ---- opening ---- */

/* The level's grid is the directory's; one of codec none may have been cut anew. */
static bool is_of_level(TIFF *tiff, const sm_level *l)
{
    const uint64_t striles = (uint64_t)l->cols * l->rows * (l->planar ? l->samples : 1);
    uint16_t bits = 0, samples = 0, planar = 0, compression = 0;
    TIFFGetFieldDefaulted(tiff, TIFFTAG_BITSPERSAMPLE, &bits);
    TIFFGetFieldDefaulted(tiff, TIFFTAG_SAMPLESPERPIXEL, &samples);
    TIFFGetFieldDefaulted(tiff, TIFFTAG_PLANARCONFIG, &planar);
    TIFFGetFieldDefaulted(tiff, TIFFTAG_COMPRESSION, &compression);
    if (bits != 8 || samples != l->samples || compression != l->compression ||
        (planar == PLANARCONFIG_SEPARATE) != l->planar || (TIFFIsTiled(tiff) != 0) != l->tiled)
        return false;
    if (l->codec == SM_CODEC_NONE)
        return true;
    uint32_t w = l->w_px, h = 0;
    if (l->tiled) {
        TIFFGetField(tiff, TIFFTAG_TILEWIDTH, &w);
        TIFFGetField(tiff, TIFFTAG_TILELENGTH, &h);
    } else {
        TIFFGetFieldDefaulted(tiff, TIFFTAG_ROWSPERSTRIP, &h);
        h = sm_min_u32(h, l->h_px);
    }
    const uint64_t n = l->tiled ? TIFFNumberOfTiles(tiff) : TIFFNumberOfStrips(tiff);
    return w == l->tile_w_px && h == l->tile_h_px && n == striles;
}

static sm_status open_directory(tiff_state *s, const sm_level *l, sm_error *err)
{
    if (!TIFFIsCODECConfigured(l->compression))
        return sm_fail(err, SM_ERR_FORMAT, "this libtiff was built without the codec %s",
                       sm_codec_name(l->codec));
    s->tiff = open_handle(s);
    if (s->tiff == NULL || !TIFFSetSubDirectory(s->tiff, l->dir_offset))
        return libtiff_failed(s, err);
    if (!is_of_level(s->tiff, l))
        return sm_fail_at(err, SM_ERR_CORRUPT, l->dir_offset,
                          "the TIFF directory is not what it was when the slide was opened");
    uint16_t n_extra = 0;
    uint16_t *extra = NULL;
    TIFFGetFieldDefaulted(s->tiff, TIFFTAG_EXTRASAMPLES, &n_extra, &extra);
    /* Anything but "associated" is taken for unassociated alpha, as most programs do. */
    s->premultiplied = n_extra > 0 && extra[0] == EXTRASAMPLE_ASSOCALPHA;
    s->said[0] = '\0'; /* what was said while it succeeded does not matter */
    return SM_OK;
}

static void tiff_close(sm_decoder *decoder)
{
    tiff_state *s = decoder->state;
    if (s == NULL)
        return;
    if (s->tiff != NULL)
        TIFFClose(s->tiff);
    sm_buf_free(&s->raw);
    free(s);
    decoder->state = NULL;
}

static sm_status check_pixels(const sm_level *l, sm_error *err)
{
    const bool grey = l->photometric == PHOTOMETRIC_MINISBLACK && l->samples == 1;
    const bool rgb = l->photometric == PHOTOMETRIC_RGB && (l->samples == 3 || l->samples == 4);
    if (!grey && !rgb)
        return sm_fail(err, SM_ERR_FORMAT,
                       "%u samples of photometric interpretation %u in codec %s are not decoded",
                       (unsigned)l->samples, (unsigned)l->photometric, sm_codec_name(l->codec));
    return SM_OK;
}

static sm_status tiff_open(sm_decoder *decoder, sm_error *err)
{
    const sm_level *l = decoder->level;
    sm_status st = check_pixels(l, err);
    if (st != SM_OK)
        return st;
    tiff_state *s = sm_calloc(1, sizeof *s);
    if (s == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "no memory for a TIFF decoder");
    decoder->state = s;
    s->source = sm_slide_source(decoder->slide);
    s->io = (sm_error)SM_ERROR_INIT;
    memcpy(s->background, sm_slide_get_info(decoder->slide)->background, sizeof s->background);
    if (l->codec == SM_CODEC_NONE && l->samples < 4)
        return SM_OK; /* nothing to ask libtiff */
    return open_directory(s, l, err);
}

/* ---- samples to RGB ---- */

static inline uint8_t scale(unsigned value, unsigned alpha)
{
    return (uint8_t)((value * alpha + 127) / 255);
}

/* One row; sample k of pixel i is planes[k][i * step]. */
static void blend_row(const tiff_state *s, const uint8_t *const planes[MAX_SAMPLES], size_t step,
                      uint8_t *rgb, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const unsigned alpha = planes[3][i * step];
        for (size_t k = 0; k < 3; k++) {
            const unsigned value = planes[k][i * step];
            const unsigned front = s->premultiplied ? value : scale(value, alpha);
            const unsigned sum = front + scale(s->background[k], 255 - alpha);
            rgb[3 * i + k] = (uint8_t)(sum < 255 ? sum : 255);
        }
    }
}

static void rgb_row(const uint8_t *const planes[MAX_SAMPLES], size_t step, uint8_t *rgb, size_t n)
{
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < 3; k++)
            rgb[3 * i + k] = planes[k][i * step];
}

/* @param planes where each sample of the first pixel is */
static void to_rgb(const tiff_state *s, const sm_level *l, const sm_tile_job *job,
                   const uint8_t *const planes[MAX_SAMPLES])
{
    const size_t step = l->planar ? 1 : l->samples;
    const size_t row_bytes = job->w_px * step;
    for (uint32_t y = 0; y < job->rows; y++) {
        const uint8_t *row[MAX_SAMPLES];
        for (size_t k = 0; k < MAX_SAMPLES; k++)
            row[k] = planes[k] + y * row_bytes;
        uint8_t *out = job->rgb + y * job->stride;
        if (step == 3)
            memcpy(out, row[0], row_bytes);
        else if (l->samples == 4)
            blend_row(s, row, step, out, job->w_px);
        else
            rgb_row(row, step, out, job->w_px);
    }
}

/* ---- decoding ---- */

/* Tell where each sample begins, planes being plane_bytes (or lens) apart. Grey is all three. */
static void find_planes(const sm_level *l, const uint8_t *bytes, const uint64_t *lens,
                        size_t plane_bytes, const uint8_t *planes[MAX_SAMPLES])
{
    size_t at = 0;
    for (size_t k = 0; k < MAX_SAMPLES; k++) {
        planes[k] = bytes + (k < l->samples ? at : 0);
        if (!l->planar)
            at += 1;
        else if (k + 1 < l->samples)
            at += lens != NULL ? (size_t)lens[k] : plane_bytes;
    }
}

static sm_status tile_none(const tiff_state *s, const sm_level *l, const sm_tile_job *job,
                           size_t plane_bytes, sm_error *err)
{
    const uint16_t n_planes = l->planar ? l->samples : 1;
    for (uint16_t k = 0; k < n_planes; k++) {
        const uint64_t have = l->planar ? job->plane_lens[k] : job->len;
        if (have < plane_bytes)
            return sm_fail(err, SM_ERR_CORRUPT,
                           "an uncompressed tile of %" PRIu64 " bytes instead of %zu", have,
                           plane_bytes);
    }
    const uint8_t *planes[MAX_SAMPLES];
    find_planes(l, job->bytes, job->plane_lens, plane_bytes, planes);
    to_rgb(s, l, job, planes);
    return SM_OK;
}

/* Decompress one tile or plane of it. */
static sm_status decompress(tiff_state *s, uint64_t strile, const uint8_t *bytes, uint64_t len,
                            uint8_t *out, size_t out_bytes, sm_error *err)
{
    s->said[0] = '\0';
    s->io = (sm_error)SM_ERROR_INIT;
    if (strile > UINT32_MAX || len > INT64_MAX)
        return sm_fail(err, SM_ERR_LIMIT, "TIFF: tile %" PRIu64 " is beyond libtiff", strile);
    /* libtiff writes to its input only to reverse bits (FillOrder 2), which readers refuse. */
    void *in = (void *)(uintptr_t)bytes;
    if (!TIFFReadFromUserBuffer(s->tiff, (uint32_t)strile, in, (tmsize_t)len, out,
                                (tmsize_t)out_bytes))
        return libtiff_failed(s, err);
    return SM_OK;
}

static sm_status tile_packed(tiff_state *s, const sm_level *l, const sm_tile_job *job,
                             size_t plane_bytes, sm_error *err)
{
    if (!l->planar && l->samples == 3 && job->stride == (size_t)3 * job->w_px)
        return decompress(s, job->tile, job->bytes, job->len, job->rgb, plane_bytes, err);

    const uint16_t n_planes = l->planar ? l->samples : 1;
    size_t raw_bytes = 0;
    if (!sm_mul_size(plane_bytes, n_planes, &raw_bytes))
        return sm_fail(err, SM_ERR_LIMIT, "a tile beyond all memory");
    sm_status st = sm_buf_reserve(&s->raw, raw_bytes, err);
    const uint8_t *bytes = job->bytes;
    for (uint16_t k = 0; st == SM_OK && k < n_planes; k++) {
        const uint64_t strile = job->tile + (uint64_t)k * l->cols * l->rows;
        const uint64_t len = l->planar ? job->plane_lens[k] : job->len;
        st = decompress(s, strile, bytes, len, s->raw.data + k * plane_bytes, plane_bytes, err);
        bytes += len;
    }
    if (st != SM_OK)
        return st;
    const uint8_t *planes[MAX_SAMPLES];
    find_planes(l, s->raw.data, NULL, plane_bytes, planes);
    to_rgb(s, l, job, planes);
    return SM_OK;
}

static sm_status tiff_tile(sm_decoder *decoder, const sm_tile_job *job, sm_error *err)
{
    const sm_level *l = decoder->level;
    size_t plane_bytes = 0;
    if (!sm_mul_size((size_t)job->w_px * (l->planar ? 1u : l->samples), job->rows, &plane_bytes))
        return sm_fail(err, SM_ERR_LIMIT, "a tile beyond all memory");
    return l->codec == SM_CODEC_NONE ? tile_none(decoder->state, l, job, plane_bytes, err)
                                     : tile_packed(decoder->state, l, job, plane_bytes, err);
}

static uint64_t tiff_memory(const sm_level *l)
{
    const uint64_t samples = (uint64_t)l->tile_w_px * l->tile_h_px * l->samples;
    const uint64_t handle = l->codec == SM_CODEC_NONE && l->samples < 4 ? 0 : TIFF_HANDLE_BYTES;
    return sizeof(tiff_state) + handle + (l->codec == SM_CODEC_NONE ? 0 : samples);
}

const sm_decode_codec sm_decode_tiff = {
    .open = tiff_open,
    .tile = tiff_tile,
    .close = tiff_close,
    .memory = tiff_memory,
};
