/* Aperio's layout through libtiff: raw tiles under a description. Owns the open file. */
#include "bench/svs.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include <tiffio.h>

#include "common/geom.h"

struct sm_svs {
    const char *path; /* borrowed */
    const sm_looks *like;
    TIFF *tif;
    int fd;
    uint32_t w_px, h_px;
};

/* Where in the grid the i-th written tile stands. */
static uint64_t nth_tile(sm_tile_order order, sm_grid grid, uint64_t step, uint64_t i)
{
    switch (order) {
    case SM_ORDER_ROWS:
        break;
    case SM_ORDER_COLUMNS:
        return i % grid.rows * grid.cols + i / grid.rows;
    case SM_ORDER_SHUFFLED: /* every tile once: step has no factor in common with their number */
        return i * step % sm_grid_tiles(grid);
    }
    return i;
}

static uint64_t shuffle_step(uint64_t n)
{
    for (uint64_t step = n * 618 / 1000 | 1;; step += 2) {
        uint64_t a = n, b = step;
        while (b != 0) {
            const uint64_t rest = a % b;
            a = b;
            b = rest;
        }
        if (a == 1)
            return step;
    }
}

/* The fields that a level and the thumbnail have in common. */
static bool set_fields(TIFF *tif, const sm_looks *like, uint32_t w_px, uint32_t h_px,
                       const char *description)
{
    return TIFFSetField(tif, TIFFTAG_SUBFILETYPE, 0) &&
           TIFFSetField(tif, TIFFTAG_IMAGEWIDTH, w_px) &&
           TIFFSetField(tif, TIFFTAG_IMAGELENGTH, h_px) &&
           TIFFSetField(tif, TIFFTAG_BITSPERSAMPLE, 8) &&
           TIFFSetField(tif, TIFFTAG_SAMPLESPERPIXEL, 3) &&
           TIFFSetField(tif, TIFFTAG_PLANARCONFIG, PLANARCONFIG_CONTIG) &&
           TIFFSetField(tif, TIFFTAG_COMPRESSION, COMPRESSION_JPEG) &&
           TIFFSetField(tif, TIFFTAG_PHOTOMETRIC, (int)like->photometric) &&
           TIFFSetField(tif, TIFFTAG_IMAGEDESCRIPTION, description);
}

/* Aperio's description, with its NUL: the geometry line, then key = value pairs.
 * small_w 0: the whole slide; thumbnails show no tiles. */
static sm_status describe(const sm_svs *svs, bool tiled, uint32_t small_w, uint32_t small_h,
                          sm_buf *text, sm_error *err)
{
    const sm_looks *like = svs->like;
    sm_status st =
        sm_buf_printf(text, err, "Aperio Image Library (slidemill mosaic)\r\n%" PRIu32 "x%" PRIu32,
                      svs->w_px, svs->h_px);
    if (st == SM_OK && tiled)
        st = sm_buf_printf(text, err, " [0,0 %" PRIu32 "x%" PRIu32 "] (%" PRIu32 "x%" PRIu32 ")",
                           svs->w_px, svs->h_px, like->tile_w_px, like->tile_h_px);
    if (st == SM_OK && small_w > 0)
        st = sm_buf_printf(text, err, " -> %" PRIu32 "x%" PRIu32, small_w, small_h);
    if (st == SM_OK)
        st = sm_buf_printf(text, err, " JPEG/%s",
                           like->photometric == PHOTOMETRIC_YCBCR ? "YCC" : "RGB");
    if (st == SM_OK && like->quality[0] != '\0')
        st = sm_buf_printf(text, err, " Q=%s", like->quality);
    if (st == SM_OK && like->mag[0] != '\0')
        st = sm_buf_printf(text, err, "|AppMag = %s", like->mag);
    if (st == SM_OK && like->mpp[0] != '\0')
        st = sm_buf_printf(text, err, "|MPP = %s", like->mpp);
    return st == SM_OK ? sm_buf_append(text, "", 1, err) : st;
}

sm_status sm_svs_create(const char *path, bool big, const sm_looks *like, uint32_t w_px,
                        uint32_t h_px, sm_svs **svs, sm_error *err)
{
    sm_svs *s = sm_calloc(1, sizeof *s);
    if (s == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "no memory to write %s", path);
    *s = (sm_svs){.path = path, .like = like, .w_px = w_px, .h_px = h_px};
    s->fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (s->fd < 0) {
        (void)sm_fail_errno(err, SM_ERR_IO, errno, "%s", path);
        goto failed;
    }
    s->tif = TIFFFdOpen(s->fd, path, big ? "w8" : "w4");
    if (s->tif == NULL) {
        (void)sm_fail(err, SM_ERR_IO, "%s: libtiff cannot write it", path);
        (void)close(s->fd); /* nothing was written */
        goto failed;
    }
    *svs = s;
    return SM_OK;
failed:
    free(s);
    return err->status;
}

static bool set_level_fields(const sm_svs *svs, const sm_sheet *sheet)
{
    const sm_looks *like = svs->like;
    bool ok = TIFFSetField(svs->tif, TIFFTAG_TILEWIDTH, like->tile_w_px) &&
              TIFFSetField(svs->tif, TIFFTAG_TILELENGTH, like->tile_h_px);
    if (ok && like->photometric == PHOTOMETRIC_YCBCR)
        ok = TIFFSetField(svs->tif, TIFFTAG_YCBCRSUBSAMPLING, (int)like->h_samp, (int)like->v_samp);
    if (ok && sheet->tables.len > 0)
        ok = TIFFSetField(svs->tif, TIFFTAG_JPEGTABLES, (uint32_t)sheet->tables.len,
                          sheet->tables.data);
    else if (ok) /* libtiff puts 2,000 zeros there otherwise */
        ok = TIFFUnsetField(svs->tif, TIFFTAG_JPEGTABLES);
    return ok;
}

static bool write_tiles(TIFF *tif, const sm_sheet *sheet, sm_grid grid, sm_tile_order order)
{
    const uint64_t n = sm_grid_tiles(grid), step = shuffle_step(n);
    for (uint64_t i = 0; i < n; i++) {
        const uint64_t at = nth_tile(order, grid, step, i);
        const uint32_t tile =
            sm_sheet_tile(sheet, (uint32_t)(at % grid.cols), (uint32_t)(at / grid.cols));
        const size_t start = sheet->starts[tile];
        const tmsize_t len = (tmsize_t)(sheet->starts[tile + 1] - start);
        if (TIFFWriteRawTile(tif, (uint32_t)at, sheet->bytes.data + start, len) != len)
            return false;
    }
    return true;
}

sm_status sm_svs_level(sm_svs *svs, const sm_sheet *sheet, uint32_t downsample, sm_tile_order order,
                       sm_error *err)
{
    const uint32_t w_px = sm_max_u32(svs->w_px / downsample, 1);
    const uint32_t h_px = sm_max_u32(svs->h_px / downsample, 1);
    const sm_grid grid = sm_grid_for(w_px, h_px, svs->like->tile_w_px, svs->like->tile_h_px);
    sm_buf text = {0};
    sm_status st = describe(svs, true, downsample > 1 ? w_px : 0, h_px, &text, err);
    if (st == SM_OK && !(set_fields(svs->tif, svs->like, w_px, h_px, (const char *)text.data) &&
                         set_level_fields(svs, sheet) &&
                         write_tiles(svs->tif, sheet, grid, order) && TIFFWriteDirectory(svs->tif)))
        st = sm_fail(err, SM_ERR_IO, "%s: cannot write the level of %" PRIu32 "x%" PRIu32 " px",
                     svs->path, w_px, h_px);
    sm_buf_free(&text);
    return st;
}

sm_status sm_svs_thumbnail(sm_svs *svs, const sm_image *thumb, sm_error *err)
{
    const sm_looks plain = {.photometric = PHOTOMETRIC_RGB};
    const size_t row_bytes = (size_t)3 * thumb->w_px;
    sm_buf text = {0};
    sm_status st = describe(svs, false, thumb->w_px, thumb->h_px, &text, err);
    if (st != SM_OK)
        goto out;
    bool ok = set_fields(svs->tif, &plain, thumb->w_px, thumb->h_px, (const char *)text.data) &&
              TIFFSetField(svs->tif, TIFFTAG_ROWSPERSTRIP, 16u);
    for (uint32_t y = 0; y < thumb->h_px && ok; y += 16) {
        const tmsize_t len = (tmsize_t)(row_bytes * sm_min_u32(16, thumb->h_px - y));
        ok = TIFFWriteEncodedStrip(svs->tif, y / 16, thumb->rgb + row_bytes * y, len) == len;
    }
    if (!ok || !TIFFWriteDirectory(svs->tif))
        st = sm_fail(err, SM_ERR_IO, "%s: cannot write the thumbnail", svs->path);
out:
    sm_buf_free(&text);
    return st;
}

sm_status sm_svs_close(sm_svs **svs, sm_error *err)
{
    sm_svs *s = *svs;
    sm_status st = SM_OK;
    if (s == NULL)
        return SM_OK;
    TIFFCleanup(s->tif); /* unlike TIFFClose it leaves the closing, and its errors, to us */
    if (close(s->fd) != 0)
        st = sm_fail_errno(err, SM_ERR_IO, errno, "%s", s->path);
    free(s);
    *svs = NULL;
    return st;
}
