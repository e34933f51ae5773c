/* Tiles as TIFF's LZW, by letting libtiff write a TIFF of one tile and keeping that tile's bytes.
 * Owns nothing between tiles. */
#include <stdarg.h>
#include <stdio.h>

#include <tiffio.h>

#include "tiler/encode_internal.h"

/* What libtiff writes to: its header, then the tile; what comes after that is not wanted. */
typedef struct lzw_file {
    uint64_t pos, size;
    uint64_t header_bytes;
    sm_buf *out; /* bytes from header_bytes on */
    bool whole;  /* the tile is written: the directory that follows goes nowhere */
    sm_status status;
    sm_error *err;
} lzw_file;

static tmsize_t on_read(thandle_t handle, void *bytes, tmsize_t len)
{
    (void)handle;
    (void)bytes;
    (void)len;
    return 0;
}

static tmsize_t on_write(thandle_t handle, void *bytes, tmsize_t len)
{
    lzw_file *f = (lzw_file *)handle;
    if (f->whole)
        return len;
    if (len < 0 || f->pos != f->size) { /* appending is all it has reason to do */
        f->status = sm_fail(f->err, SM_ERR_INTERNAL, "LZW: libtiff writes out of order");
        return -1;
    }
    if (f->size >= f->header_bytes)
        f->status = sm_buf_append(f->out, bytes, (size_t)len, f->err);
    if (f->status != SM_OK)
        return -1;
    f->pos += (uint64_t)len;
    f->size = f->pos;
    return len;
}

static toff_t on_seek(thandle_t handle, toff_t offset, int whence)
{
    lzw_file *f = (lzw_file *)handle;
    f->pos = offset + (whence == SEEK_CUR ? f->pos : whence == SEEK_END ? f->size : 0);
    return f->pos;
}

static toff_t on_size(thandle_t handle)
{
    return ((const lzw_file *)handle)->size;
}

static int on_close(thandle_t handle)
{
    (void)handle;
    return 0;
}

SM_PRINTF(4, 0)
static int on_error(TIFF *tiff, void *user, const char *module, const char *fmt, va_list args)
{
    (void)tiff;
    (void)module;
    lzw_file *f = user;
    if (f->status == SM_OK && !f->whole) {
        char text[256];
        vsnprintf(text, sizeof text, fmt, args);
        f->status = sm_fail(f->err, SM_ERR_INTERNAL, "LZW: %s", text);
    }
    return 1; /* handled: nothing goes to stderr */
}

static TIFF *open_file(lzw_file *f)
{
    TIFFOpenOptions *options = TIFFOpenOptionsAlloc();
    if (options == NULL)
        return NULL;
    TIFFOpenOptionsSetErrorHandlerExtR(options, on_error, f);
    TIFFOpenOptionsSetWarningHandlerExtR(options, on_error, f);
    TIFF *tiff = TIFFClientOpenExt("LZW tile", "wl", f, on_read, on_write, on_seek, on_close,
                                   on_size, NULL, NULL, options);
    TIFFOpenOptionsFree(options);
    return tiff;
}

/* Without the predictor tag: the differences are taken already. */
static bool set_tags(TIFF *tiff, const sm_encode_params *p)
{
    return TIFFSetField(tiff, TIFFTAG_IMAGEWIDTH, p->tile_w_px) == 1 &&
           TIFFSetField(tiff, TIFFTAG_IMAGELENGTH, p->tile_h_px) == 1 &&
           TIFFSetField(tiff, TIFFTAG_TILEWIDTH, p->tile_w_px) == 1 &&
           TIFFSetField(tiff, TIFFTAG_TILELENGTH, p->tile_h_px) == 1 &&
           TIFFSetField(tiff, TIFFTAG_BITSPERSAMPLE, 8) == 1 &&
           TIFFSetField(tiff, TIFFTAG_SAMPLESPERPIXEL, 3) == 1 &&
           TIFFSetField(tiff, TIFFTAG_PLANARCONFIG, PLANARCONFIG_CONTIG) == 1 &&
           TIFFSetField(tiff, TIFFTAG_PHOTOMETRIC, PHOTOMETRIC_RGB) == 1 &&
           TIFFSetField(tiff, TIFFTAG_COMPRESSION, COMPRESSION_LZW) == 1;
}

static sm_status lzw_tile(sm_encoder *encoder, const uint8_t *pixels, sm_buf *out, sm_error *err)
{
    (void)pixels; /* they are encoder->differences, which libtiff may take as not const */
    lzw_file f = {.header_bytes = 8, .out = out, .status = SM_OK, .err = err};
    TIFF *tiff = open_file(&f);
    const bool ok =
        tiff != NULL && set_tags(tiff, &encoder->params) &&
        TIFFWriteEncodedTile(tiff, 0, encoder->differences, (tmsize_t)encoder->tile_bytes) >= 0;
    f.whole = true;
    if (tiff != NULL)
        TIFFClose(tiff);
    if (f.status != SM_OK)
        return f.status;
    if (!ok)
        return sm_fail(err, SM_ERR_INTERNAL, "LZW: libtiff cannot encode a tile");
    return SM_OK;
}

const sm_encode_codec sm_encode_lzw = {
    .codec = SM_CODEC_LZW,
    .compression = 5,
    .photometric = 2,
    .predictor = 2,
    .tile = lzw_tile,
};
