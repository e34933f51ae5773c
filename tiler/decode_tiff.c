/* Tiles of the codecs that TIFF brings along: none by copying; LZW and deflate, with their
 * predictor, through a libtiff handle on the level's directory; zstd directly, since through
 * libtiff it holds the frame's window besides the pixels: 4 MB at level 9, 128 MB if a file likes.
 * Owns the handles. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <tiffio.h>
#include <zstd.h>

#include "common/buf.h"
#include "tiler/decode_internal.h"

/* libtiff may not allocate more than this at once, whatever a directory says. */
#define MAX_TIFF_ALLOC ((tmsize_t)256 << 20)
/* What a libtiff handle with its directory and codec holds, about. */
#define TIFF_HANDLE_BYTES (256u << 10)
/* A zstd context without a window. */
#define ZSTD_CONTEXT_BYTES (192u << 10)
#define MAX_SAMPLES 4

typedef struct tiff_state {
    TIFF *tiff;      /* LZW, deflate; else NULL */
    ZSTD_DCtx *zstd; /* zstd; else NULL */
    const sm_source *source;
    uint64_t pos;   /* of libtiff's next read */
    sm_error io;    /* a failed read, until reported */
    char said[256]; /* libtiff's first error, until reported */
    sm_buf raw;     /* samples as decompressed, where they are not RGB yet */
    bool premultiplied;
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

/* Are the directory's tiles the level's still? With one sample PlanarConfiguration means nothing.
 */
static bool is_of_level(TIFF *tiff, const sm_level *l)
{
    const uint64_t striles = (uint64_t)l->cols * l->rows * (l->planar ? l->samples : 1);
    uint16_t bits = 0, samples = 0, planar = 0, compression = 0;
    TIFFGetFieldDefaulted(tiff, TIFFTAG_BITSPERSAMPLE, &bits);
    TIFFGetFieldDefaulted(tiff, TIFFTAG_SAMPLESPERPIXEL, &samples);
    TIFFGetFieldDefaulted(tiff, TIFFTAG_PLANARCONFIG, &planar);
    TIFFGetFieldDefaulted(tiff, TIFFTAG_COMPRESSION, &compression);
    const bool separate = planar == PLANARCONFIG_SEPARATE && samples > 1;
    if (bits != 8 || samples != l->samples || compression != l->compression ||
        separate != l->planar || (TIFFIsTiled(tiff) != 0) != l->tiled)
        return false;
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
    ZSTD_freeDCtx(s->zstd);
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
    if (l->codec != SM_CODEC_NONE && l->predictor != 1 && l->predictor != 2)
        return sm_fail(err, SM_ERR_FORMAT, "TIFF predictor %u is not decoded",
                       (unsigned)l->predictor);
    return SM_OK;
}

static sm_status open_zstd(tiff_state *s, sm_error *err)
{
    s->zstd = ZSTD_createDCtx();
    return s->zstd != NULL ? SM_OK : sm_fail(err, SM_ERR_NOMEM, "no memory for a zstd decoder");
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
    s->premultiplied = l->premultiplied;
    if (l->codec == SM_CODEC_NONE)
        return SM_OK;
    return l->codec == SM_CODEC_ZSTD ? open_zstd(s, err) : open_directory(s, l, err);
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

/* TIFF 6.0 section 14, 8 bits. */
static void undo_predictor(uint8_t *bytes, size_t row_bytes, size_t rows, size_t step)
{
    for (size_t y = 0; y < rows; y++) {
        uint8_t *row = bytes + y * row_bytes;
        if (step == 3) { /* sums in registers: three times as fast as through memory */
            uint8_t r = 0, g = 0, b = 0;
            for (size_t i = 0; i + 3 <= row_bytes; i += 3) {
                row[i] = r = (uint8_t)(r + row[i]);
                row[i + 1] = g = (uint8_t)(g + row[i + 1]);
                row[i + 2] = b = (uint8_t)(b + row[i + 2]);
            }
            continue;
        }
        for (size_t i = step; i < row_bytes; i++)
            row[i] = (uint8_t)(row[i] + row[i - step]);
    }
}

/* One compressed tile or plane, and where its samples go. */
typedef struct part {
    uint64_t strile; /* libtiff's number of it */
    const uint8_t *bytes;
    uint64_t len;
    uint8_t *out;
    size_t out_bytes; /* wanted */
    size_t out_room;  /* a last strip may be coded in full, so as much as a whole one */
} part;

static sm_status unpack_zstd(tiff_state *s, const sm_level *l, const part *p, sm_error *err)
{
    if (p->len > SIZE_MAX)
        return sm_fail(err, SM_ERR_LIMIT, "a tile beyond all memory");
    /* Of the frame's length only: a byte may follow that makes the next offset even. */
    const size_t len = ZSTD_findFrameCompressedSize(p->bytes, (size_t)p->len);
    if (ZSTD_isError(len))
        return sm_fail(err, SM_ERR_CORRUPT, "zstd: %s", ZSTD_getErrorName(len));
    const size_t n = ZSTD_decompressDCtx(s->zstd, p->out, p->out_room, p->bytes, len);
    if (ZSTD_isError(n))
        return sm_fail(err, SM_ERR_CORRUPT, "zstd: %s", ZSTD_getErrorName(n));
    if (n < p->out_bytes)
        return sm_fail(err, SM_ERR_CORRUPT, "zstd: %zu bytes of pixels instead of %zu", n,
                       p->out_bytes);
    const size_t step = l->planar ? 1 : l->samples, row_bytes = l->tile_w_px * step;
    if (l->predictor == 2)
        undo_predictor(p->out, row_bytes, p->out_bytes / row_bytes, step);
    return SM_OK;
}

static sm_status unpack_libtiff(tiff_state *s, const part *p, sm_error *err)
{
    s->said[0] = '\0';
    s->io = (sm_error)SM_ERROR_INIT;
    if (p->strile > UINT32_MAX || p->len > INT64_MAX)
        return sm_fail(err, SM_ERR_LIMIT, "TIFF: tile %" PRIu64 " is beyond libtiff", p->strile);
    /* libtiff writes to its input only to reverse bits (FillOrder 2), which readers refuse. */
    void *in = (void *)(uintptr_t)p->bytes; /* NOLINT(performance-no-int-to-ptr) */
    if (!TIFFReadFromUserBuffer(s->tiff, (uint32_t)p->strile, in, (tmsize_t)p->len, p->out,
                                (tmsize_t)p->out_bytes))
        return libtiff_failed(s, err);
    return SM_OK;
}

static sm_status unpack(tiff_state *s, const sm_level *l, const part *p, sm_error *err)
{
    return s->zstd != NULL ? unpack_zstd(s, l, p, err) : unpack_libtiff(s, p, err);
}

static sm_status tile_packed(tiff_state *s, const sm_level *l, const sm_tile_job *job,
                             size_t plane_bytes, sm_error *err)
{
    const uint16_t n_planes = l->planar ? l->samples : 1;
    const size_t room = plane_bytes / job->rows * l->tile_h_px;
    part p = {job->tile, job->bytes, job->len, job->rgb, plane_bytes, plane_bytes};
    if (n_planes == 1 && l->samples == 3 && job->stride == (size_t)3 * job->w_px &&
        room == plane_bytes)
        return unpack(s, l, &p, err);

    size_t raw_bytes = 0;
    if (!sm_mul_size(room, n_planes, &raw_bytes))
        return sm_fail(err, SM_ERR_LIMIT, "a tile beyond all memory");
    sm_status st = sm_buf_reserve(&s->raw, raw_bytes, err);
    for (uint16_t k = 0; st == SM_OK && k < n_planes; k++) {
        p.strile = job->tile + (uint64_t)k * l->cols * l->rows;
        p.len = l->planar ? job->plane_lens[k] : job->len;
        p.out = s->raw.data + k * room;
        p.out_room = room;
        st = unpack(s, l, &p, err);
        p.bytes += p.len;
    }
    if (st != SM_OK)
        return st;
    const uint8_t *planes[MAX_SAMPLES];
    find_planes(l, s->raw.data, NULL, room, planes);
    to_rgb(s, l, job, planes);
    return SM_OK;
}

static sm_status tiff_tile(sm_decoder *decoder, const sm_tile_job *job, sm_error *err)
{
    const sm_level *l = decoder->level;
    size_t plane_bytes = 0, whole = 0;
    const size_t row_bytes = (size_t)job->w_px * (l->planar ? 1u : l->samples);
    if (!sm_mul_size(row_bytes, job->rows, &plane_bytes) ||
        !sm_mul_size(row_bytes, l->tile_h_px, &whole))
        return sm_fail(err, SM_ERR_LIMIT, "a tile beyond all memory");
    return l->codec == SM_CODEC_NONE ? tile_none(decoder->state, l, job, plane_bytes, err)
                                     : tile_packed(decoder->state, l, job, plane_bytes, err);
}

static uint64_t tiff_memory(const sm_level *l)
{
    const uint64_t samples = (uint64_t)l->tile_w_px * l->tile_h_px * l->samples;
    if (l->codec == SM_CODEC_NONE)
        return sizeof(tiff_state);
    const uint64_t handle = l->codec == SM_CODEC_ZSTD ? ZSTD_CONTEXT_BYTES : TIFF_HANDLE_BYTES;
    return sizeof(tiff_state) + handle + samples;
}

const sm_decode_codec sm_decode_tiff = {
    .open = tiff_open,
    .tile = tiff_tile,
    .close = tiff_close,
    .memory = tiff_memory,
};
