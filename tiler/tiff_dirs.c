/* Directories of a TIFF through libtiff: reads them once, with bounded reads, into plain structs.
 * Owns the only libtiff handles of slidemill's readers; every one has its own error handler. */
#include "tiler/tiff_dirs.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tiffio.h>

#include "common/buf.h"
#include "common/geom.h"

#if !defined(TIFFLIB_MAJOR_VERSION)
#error "libtiff 4.5 or newer is needed (per-handle error handlers)"
#endif

#define CACHE_BYTES 65536u
#define MAX_ALLOC_BYTES ((tmsize_t)SM_TIFF_MAX_TILES * 8)
/* What one associated image may make libtiff read: its compressed bytes, and directories again. */
#define MAX_RGB_READ_BYTES (512ull << 20)

/* Read-only, no mmap, no chopping of strips, tile arrays only when asked for. */
#define OPEN_MODE "rmcD"

/* What libtiff reads through: position, a small read-ahead cache, and what went wrong first. */
typedef struct client {
    const sm_source *source;
    uint64_t size, pos;
    uint64_t budget; /* bytes it may still read */
    uint8_t *cache;
    uint64_t cache_at;
    size_t cache_len;
    sm_error io;       /* a failed read of ours: status is SM_OK if none */
    char message[256]; /* libtiff's own, since it was cleared */
} client;

struct sm_tiff {
    bool bigtiff, big_endian;
    uint32_t n_dirs, n_chain;
    uint64_t n_tiles; /* of all directories */
    uint64_t kept_bytes;
    sm_tiff_dir *dirs;
    void **owned; /* every array the directories point to */
    size_t n_owned, owned_cap;
};

/* ---- client procedures ---- */

static sm_status fill_cache(client *c)
{
    const uint64_t left = c->size - c->pos;
    const size_t want = left < CACHE_BYTES ? (size_t)left : CACHE_BYTES;
    c->cache_len = 0;
    const sm_status st = sm_source_pread(c->source, c->cache, want, c->pos, &c->io);
    if (st == SM_OK) {
        c->cache_at = c->pos;
        c->cache_len = want;
    }
    return st;
}

/* n bytes at pos, which the file holds. */
static sm_status read_some(client *c, uint8_t *out, size_t n)
{
    if (n >= CACHE_BYTES)
        return sm_source_pread(c->source, out, n, c->pos, &c->io);
    for (size_t done = 0; done < n;) {
        if (c->pos + done < c->cache_at || c->pos + done >= c->cache_at + c->cache_len) {
            const uint64_t start = c->pos;
            c->pos += done;
            const sm_status st = fill_cache(c);
            c->pos = start;
            if (st != SM_OK)
                return st;
        }
        const size_t at = (size_t)(c->pos + done - c->cache_at);
        size_t take = c->cache_len - at;
        if (take > n - done)
            take = n - done;
        memcpy(out + done, c->cache + at, take);
        done += take;
    }
    return SM_OK;
}

static tmsize_t client_read(thandle_t handle, void *bytes, tmsize_t len)
{
    client *c = handle;
    if (len <= 0 || c->pos >= c->size || c->io.status != SM_OK)
        return 0;
    const uint64_t left = c->size - c->pos;
    const size_t n = left < (uint64_t)len ? (size_t)left : (size_t)len;
    if (n > c->budget) {
        (void)sm_fail_at(&c->io, SM_ERR_LIMIT, c->pos, "TIFF: more metadata than slidemill reads");
        return 0;
    }
    c->budget -= n;
    if (read_some(c, bytes, n) != SM_OK)
        return 0;
    c->pos += n;
    return (tmsize_t)n;
}

static tmsize_t client_write(thandle_t handle, void *bytes, tmsize_t len)
{
    (void)handle, (void)bytes, (void)len;
    return 0;
}

static toff_t client_seek(thandle_t handle, toff_t offset, int whence)
{
    client *c = handle;
    uint64_t base = whence == SEEK_CUR ? c->pos : whence == SEEK_END ? c->size : 0;
    if (!sm_add_u64(base, offset, &base))
        return (toff_t)-1;
    return c->pos = base;
}

static int client_close(thandle_t handle)
{
    (void)handle;
    return 0;
}

static toff_t client_size(thandle_t handle)
{
    return ((const client *)handle)->size;
}

static int client_map(thandle_t handle, void **base, toff_t *size)
{
    (void)handle, (void)base, (void)size;
    return 0;
}

static void client_unmap(thandle_t handle, void *base, toff_t size)
{
    (void)handle, (void)base, (void)size;
}

static int on_error(TIFF *tif, void *user, const char *module, const char *fmt, va_list args)
    __attribute__((format(printf, 4, 0)));

static int on_error(TIFF *tif, void *user, const char *module, const char *fmt, va_list args)
{
    (void)tif, (void)module;
    client *c = user;
    /* what ends a read is told last, but for a summary that only says that it ended */
    if (c->message[0] == '\0' || strncmp(fmt, "Failed to read", 14) != 0)
        (void)vsnprintf(c->message, sizeof c->message, fmt, args);
    return 1; /* handled: nothing goes to stderr */
}

static int on_warning(TIFF *tif, void *user, const char *module, const char *fmt, va_list args)
    __attribute__((format(printf, 4, 0)));

static int on_warning(TIFF *tif, void *user, const char *module, const char *fmt, va_list args)
{
    (void)tif, (void)user, (void)module, (void)fmt, (void)args;
    return 1;
}

static sm_status client_init(client *c, const sm_source *source, uint64_t budget, sm_error *err)
{
    *c = (client){.source = source, .size = sm_source_size(source), .budget = budget};
    c->io = (sm_error)SM_ERROR_INIT;
    c->cache = sm_malloc_array(CACHE_BYTES, 1);
    return c->cache != NULL ? SM_OK : sm_fail(err, SM_ERR_NOMEM, "out of memory");
}

static void client_free(client *c)
{
    free(c->cache);
    c->cache = NULL;
}

/* libtiff gave up: say why, with our own failed read before libtiff's view of it. */
static sm_status client_fail(const client *c, sm_error *err, const char *what, uint64_t offset)
{
    if (c->io.status != SM_OK && c->io.status != SM_ERR_CORRUPT) {
        *err = c->io;
        sm_error_prefix(err, "%s at byte %" PRIu64, what, offset);
        return err->status;
    }
    const sm_status st =
        sm_fail(err, SM_ERR_CORRUPT, "%s at byte %" PRIu64 " cannot be read: %s", what, offset,
                c->message[0] != '\0' ? c->message : "libtiff gives no reason");
    err->offset = offset;
    return st;
}

static TIFF *client_open(client *c)
{
    TIFFOpenOptions *options = TIFFOpenOptionsAlloc();
    if (options == NULL)
        return NULL;
    TIFFOpenOptionsSetMaxSingleMemAlloc(options, MAX_ALLOC_BYTES);
    TIFFOpenOptionsSetErrorHandlerExtR(options, on_error, c);
    TIFFOpenOptionsSetWarningHandlerExtR(options, on_warning, c);
    TIFF *tif = TIFFClientOpenExt("TIFF", OPEN_MODE, c, client_read, client_write, client_seek,
                                  client_close, client_size, client_map, client_unmap, options);
    TIFFOpenOptionsFree(options);
    return tif;
}

/* ---- one directory ---- */

static sm_status keep(sm_tiff *tiff, void *array, sm_error *err)
{
    if (tiff->n_owned == tiff->owned_cap) {
        const size_t cap = tiff->owned_cap * 2 + 64;
        void **grown = sm_malloc_array(cap, sizeof *grown);
        if (grown == NULL) {
            free(array);
            return sm_fail(err, SM_ERR_NOMEM, "out of memory");
        }
        if (tiff->n_owned > 0)
            memcpy(grown, tiff->owned, tiff->n_owned * sizeof *grown);
        free(tiff->owned);
        tiff->owned = grown;
        tiff->owned_cap = cap;
    }
    tiff->owned[tiff->n_owned++] = array;
    return SM_OK;
}

/* A copy of n items of `size` bytes that lives as long as the sm_tiff. */
static sm_status keep_copy(sm_tiff *tiff, const void *items, size_t n, size_t size, void **copy,
                           sm_error *err)
{
    *copy = NULL;
    if (n > (SM_TIFF_MAX_KEPT_BYTES - tiff->kept_bytes) / size)
        return sm_fail(err, SM_ERR_LIMIT, "TIFF: more metadata than slidemill keeps");
    void *array = sm_malloc_array(n, size);
    if (array == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "out of memory for %zu bytes of metadata", n * size);
    if (n > 0)
        memcpy(array, items, n * size);
    const sm_status st = keep(tiff, array, err);
    if (st != SM_OK)
        return st;
    tiff->kept_bytes += n * size;
    *copy = array;
    return SM_OK;
}

static uint16_t get_u16(TIFF *tif, uint32_t tag, uint16_t absent)
{
    uint16_t value = 0;
    return TIFFGetFieldDefaulted(tif, tag, &value) ? value : absent;
}

static uint32_t get_u32(TIFF *tif, uint32_t tag, uint32_t absent)
{
    uint32_t value = 0;
    return TIFFGetFieldDefaulted(tif, tag, &value) ? value : absent;
}

static double get_float(TIFF *tif, uint32_t tag)
{
    float value = 0;
    return TIFFGetField(tif, tag, &value) ? (double)value : 0;
}

static sm_status get_text(sm_tiff *tiff, TIFF *tif, uint32_t tag, const char **text, sm_error *err)
{
    const char *found = NULL;
    *text = "";
    if (!TIFFGetField(tif, tag, &found) || found == NULL)
        return SM_OK;
    void *copy = NULL;
    const sm_status st = keep_copy(tiff, found, strlen(found) + 1, 1, &copy, err);
    if (st == SM_OK)
        *text = copy;
    return st;
}

static void get_numbers(TIFF *tif, sm_tiff_dir *dir)
{
    dir->w_px = get_u32(tif, TIFFTAG_IMAGEWIDTH, 0);
    dir->h_px = get_u32(tif, TIFFTAG_IMAGELENGTH, 0);
    dir->depth = get_u32(tif, TIFFTAG_IMAGEDEPTH, 1);
    dir->subfile = get_u32(tif, TIFFTAG_SUBFILETYPE, 0);
    dir->bits = get_u16(tif, TIFFTAG_BITSPERSAMPLE, 1);
    dir->sample_format = get_u16(tif, TIFFTAG_SAMPLEFORMAT, SAMPLEFORMAT_UINT);
    dir->samples = get_u16(tif, TIFFTAG_SAMPLESPERPIXEL, 1);
    dir->compression = get_u16(tif, TIFFTAG_COMPRESSION, COMPRESSION_NONE);
    dir->predictor = 1;
    if (dir->compression == COMPRESSION_LZW || dir->compression == COMPRESSION_ADOBE_DEFLATE ||
        dir->compression == COMPRESSION_DEFLATE || dir->compression == COMPRESSION_ZSTD)
        dir->predictor = get_u16(tif, TIFFTAG_PREDICTOR, 1);
    uint16_t photometric = 0;
    dir->photometric = dir->samples >= 3 ? PHOTOMETRIC_RGB : PHOTOMETRIC_MINISBLACK;
    if (TIFFGetField(tif, TIFFTAG_PHOTOMETRIC, &photometric))
        dir->photometric = photometric;
    dir->fill_order = get_u16(tif, TIFFTAG_FILLORDER, FILLORDER_MSB2LSB);
    dir->planar = get_u16(tif, TIFFTAG_PLANARCONFIG, PLANARCONFIG_CONTIG);
    dir->res_unit = get_u16(tif, TIFFTAG_RESOLUTIONUNIT, RESUNIT_INCH);
    dir->x_res = get_float(tif, TIFFTAG_XRESOLUTION);
    dir->y_res = get_float(tif, TIFFTAG_YRESOLUTION);
    uint16_t h = 0, v = 0;
    if (TIFFGetField(tif, TIFFTAG_YCBCRSUBSAMPLING, &h, &v)) {
        dir->tag_h_samp = h;
        dir->tag_v_samp = v;
    }
    const uint16_t *extra = NULL;
    uint16_t n_extra = 0;
    if (TIFFGetField(tif, TIFFTAG_EXTRASAMPLES, &n_extra, &extra) && n_extra > 0) {
        dir->n_extra = n_extra;
        dir->extra = extra[0];
    }
}

static void get_geometry(TIFF *tif, sm_tiff_dir *dir)
{
    dir->tiled = TIFFIsTiled(tif) != 0;
    if (dir->tiled) {
        dir->tile_w_px = get_u32(tif, TIFFTAG_TILEWIDTH, 0);
        dir->tile_h_px = get_u32(tif, TIFFTAG_TILELENGTH, 0);
    } else {
        dir->tile_w_px = dir->w_px;
        dir->tile_h_px = sm_min_u32(get_u32(tif, TIFFTAG_ROWSPERSTRIP, UINT32_MAX), dir->h_px);
    }
}

static sm_status get_texts(sm_tiff *tiff, TIFF *tif, sm_tiff_dir *dir, sm_error *err)
{
    sm_status st = get_text(tiff, tif, TIFFTAG_IMAGEDESCRIPTION, &dir->description, err);
    if (st == SM_OK)
        st = get_text(tiff, tif, TIFFTAG_MAKE, &dir->make, err);
    if (st == SM_OK)
        st = get_text(tiff, tif, TIFFTAG_SOFTWARE, &dir->software, err);
    return st;
}

/* The ICC profile; Aperio GT450 repeats one of 13 MB in every directory, so equal ones are shared.
 */
static sm_status get_icc(sm_tiff *tiff, TIFF *tif, sm_tiff_dir *dir, sm_error *err)
{
    uint32_t len = 0;
    const void *found = NULL;
    if (!TIFFGetField(tif, TIFFTAG_ICCPROFILE, &len, &found) || found == NULL || len == 0)
        return SM_OK;
    /* with the one before only: comparing all with all is what a hostile file would want */
    const sm_tiff_dir *prev = tiff->n_dirs > 0 ? &tiff->dirs[tiff->n_dirs - 1] : NULL;
    if (prev != NULL && prev->icc_len == len && memcmp(prev->icc, found, len) == 0) {
        dir->icc = prev->icc;
        dir->icc_len = len;
        return SM_OK;
    }
    void *copy = NULL;
    const sm_status st = keep_copy(tiff, found, len, 1, &copy, err);
    dir->icc = copy;
    dir->icc_len = copy != NULL ? len : 0;
    return st;
}

static sm_status get_blobs(sm_tiff *tiff, TIFF *tif, sm_tiff_dir *dir, sm_error *err)
{
    uint32_t len = 0;
    const void *found = NULL;
    void *copy = NULL;
    sm_status st = SM_OK;
    if (dir->compression == COMPRESSION_JPEG &&
        TIFFGetField(tif, TIFFTAG_JPEGTABLES, &len, &found) && found != NULL && len > 0) {
        st = keep_copy(tiff, found, len, 1, &copy, err);
        dir->jpeg_tables = copy;
        dir->jpeg_tables_len = copy != NULL ? len : 0;
    }
    if (st == SM_OK)
        st = get_icc(tiff, tif, dir, err);
    if (TIFFGetField(tif, TIFFTAG_XMLPACKET, &len, &found) && found != NULL)
        dir->has_iscan_xmp = memmem(found, len, "iScan", 5) != NULL;
    uint32_t n = 0;
    const TIFFField *ndpi = TIFFFindField(tif, 65420, TIFF_ANY);
    if (ndpi != NULL && TIFFFieldReadCount(ndpi) == TIFF_VARIABLE2 &&
        TIFFGetField(tif, 65420, &n, &found))
        dir->has_ndpi_tag = n > 0;
    return st;
}

static sm_status get_subifds(sm_tiff *tiff, TIFF *tif, sm_tiff_dir *dir, sm_error *err)
{
    uint16_t n = 0;
    const void *found = NULL;
    if (!TIFFGetField(tif, TIFFTAG_SUBIFD, &n, &found) || found == NULL)
        return SM_OK;
    if (n > SM_TIFF_MAX_DIRS)
        return sm_fail_at(err, SM_ERR_LIMIT, dir->offset, "TIFF directory with %u SubIFDs",
                          (unsigned)n);
    void *copy = NULL;
    const sm_status st = keep_copy(tiff, found, n, sizeof(uint64_t), &copy, err);
    dir->subifds = copy;
    dir->n_subifds = copy != NULL ? n : 0;
    return st;
}

/* Mark a directory, without failing the file: its reader knows whether it matters. */
static sm_status mark(sm_tiff *tiff, sm_tiff_dir *dir, const sm_error *why, sm_error *err)
{
    void *copy = NULL;
    const sm_status st = keep_copy(tiff, why->message, strlen(why->message) + 1, 1, &copy, err);
    dir->problem = copy;
    dir->status = why->status;
    return st;
}

static sm_status read_arrays(sm_tiff *tiff, TIFF *tif, client *c, sm_tiff_dir *dir, sm_error *err)
{
    const void *offsets = NULL, *lens = NULL;
    c->message[0] = '\0';
    dir->n_tiles = dir->tiled ? TIFFNumberOfTiles(tif) : TIFFNumberOfStrips(tif);
    if (dir->n_tiles == 0 || dir->w_px == 0 || dir->h_px == 0)
        return sm_fail_at(err, SM_ERR_CORRUPT, dir->offset, "%ux%u pixels in %ux%u tiles",
                          dir->w_px, dir->h_px, dir->tile_w_px, dir->tile_h_px);
    if (dir->n_tiles > SM_TIFF_MAX_TILES || tiff->n_tiles + dir->n_tiles > SM_TIFF_MAX_TILES_ALL)
        return sm_fail_at(err, SM_ERR_LIMIT, dir->offset, "%" PRIu64 " tiles", dir->n_tiles);
    if (!TIFFGetField(tif, dir->tiled ? TIFFTAG_TILEOFFSETS : TIFFTAG_STRIPOFFSETS, &offsets) ||
        !TIFFGetField(tif, dir->tiled ? TIFFTAG_TILEBYTECOUNTS : TIFFTAG_STRIPBYTECOUNTS, &lens) ||
        offsets == NULL || lens == NULL)
        return client_fail(c, err, "the tile arrays of the directory", dir->offset);
    tiff->n_tiles += dir->n_tiles;
    void *offsets_copy = NULL, *lens_copy = NULL;
    const size_t n = (size_t)dir->n_tiles;
    sm_status st = keep_copy(tiff, offsets, n, sizeof(uint64_t), &offsets_copy, err);
    if (st == SM_OK)
        st = keep_copy(tiff, lens, n, sizeof(uint64_t), &lens_copy, err);
    dir->offsets = offsets_copy;
    dir->lens = lens_copy;
    return st;
}

/* Append libtiff's current directory. */
static sm_status add_dir(sm_tiff *tiff, TIFF *tif, client *c, uint32_t index, sm_error *err)
{
    sm_tiff_dir dir = {.offset = TIFFCurrentDirOffset(tif), .index = index};
    get_numbers(tif, &dir);
    get_geometry(tif, &dir);
    sm_status st = get_texts(tiff, tif, &dir, err);
    if (st == SM_OK)
        st = get_blobs(tiff, tif, &dir, err);
    if (st == SM_OK)
        st = get_subifds(tiff, tif, &dir, err);
    if (st != SM_OK)
        return st;
    sm_error why = SM_ERROR_INIT;
    st = read_arrays(tiff, tif, c, &dir, &why);
    if (st == SM_ERR_NOMEM || st == SM_ERR_IO) {
        *err = why;
        return st;
    }
    if (st != SM_OK) {
        st = mark(tiff, &dir, &why, err);
        if (st != SM_OK)
            return st;
    }
    tiff->dirs[tiff->n_dirs++] = dir;
    return SM_OK;
}

/* ---- all directories ---- */

static uint64_t number(const uint8_t *bytes, size_t n, bool big_endian)
{
    uint64_t value = 0;
    for (size_t i = 0; i < n; i++)
        value = value << 8 | bytes[big_endian ? i : n - 1 - i];
    return value;
}

/* libtiff takes a directory whose link to the next one is cut off for the last. That would lose
 * levels of a truncated file without a word. */
static sm_status check_link(const sm_tiff *tiff, const client *c, const sm_tiff_dir *dir,
                            sm_error *err)
{
    uint8_t head[8] = {0};
    const size_t count_bytes = tiff->bigtiff ? 8 : 2, entry_bytes = tiff->bigtiff ? 20 : 12;
    const size_t link_bytes = tiff->bigtiff ? 8 : 4;
    const sm_status st = sm_source_pread(c->source, head, count_bytes, dir->offset, err);
    if (st != SM_OK)
        return st;
    const uint64_t n = number(head, count_bytes, tiff->big_endian);
    const uint64_t room = c->size - dir->offset - count_bytes;
    if (room < link_bytes || n > (room - link_bytes) / entry_bytes)
        return sm_fail_at(err, SM_ERR_CORRUPT, dir->offset,
                          "TIFF directory %" PRIu32 " is cut off by the end of the file",
                          dir->index);
    return SM_OK;
}

static sm_status check_room(const sm_tiff *tiff, uint64_t offset, sm_error *err)
{
    if (tiff->n_dirs == SM_TIFF_MAX_DIRS)
        return sm_fail_at(err, SM_ERR_LIMIT, offset, "TIFF with more than %d directories",
                          SM_TIFF_MAX_DIRS);
    return SM_OK;
}

/* Go to the next directory of the main chain. */
static sm_status advance(const sm_tiff *tiff, TIFF *tif, client *c, sm_error *err)
{
    const uint64_t before = TIFFCurrentDirOffset(tif);
    char what[48];
    (void)snprintf(what, sizeof what, "TIFF directory %" PRIu32, tiff->n_chain);
    c->message[0] = '\0';
    const bool ok = TIFFReadDirectory(tif) != 0;
    const uint64_t offset = TIFFCurrentDirOffset(tif);
    if (sm_tiff_find(tiff, offset) != SM_TIFF_SUBIFD && (ok || offset != before))
        return sm_fail_at(err, SM_ERR_CORRUPT, offset, "%s is an earlier one again: a loop", what);
    if (!ok && offset == before) /* libtiff's own check for loops */
        return sm_fail_at(err, SM_ERR_CORRUPT, before, "%s cannot be reached (%s) from that before",
                          what, c->message[0] != '\0' ? c->message : "the chain loops");
    return ok ? SM_OK : client_fail(c, err, what, offset);
}

static sm_status read_chain(sm_tiff *tiff, TIFF *tif, client *c, sm_error *err)
{
    for (;;) {
        sm_status st = check_room(tiff, TIFFCurrentDirOffset(tif), err);
        if (st == SM_OK)
            st = add_dir(tiff, tif, c, tiff->n_chain, err);
        if (st != SM_OK)
            return st;
        tiff->n_chain++;
        if (TIFFLastDirectory(tif))
            return check_link(tiff, c, &tiff->dirs[tiff->n_dirs - 1], err);
        st = advance(tiff, tif, c, err);
        if (st != SM_OK)
            return st;
    }
}

static sm_status read_subifd(sm_tiff *tiff, TIFF *tif, client *c, uint64_t offset, sm_error *err)
{
    sm_status st = check_room(tiff, offset, err);
    if (st != SM_OK)
        return st;
    c->message[0] = '\0';
    if (TIFFSetSubDirectory(tif, offset) != 0)
        return add_dir(tiff, tif, c, SM_TIFF_SUBIFD, err);
    sm_error why = SM_ERROR_INIT;
    st = client_fail(c, &why, "TIFF SubIFD", offset);
    if (st != SM_ERR_CORRUPT) {
        *err = why;
        return st;
    }
    sm_tiff_dir dir = {
        .offset = offset, .index = SM_TIFF_SUBIFD, .description = "", .make = "", .software = ""};
    st = mark(tiff, &dir, &why, err);
    if (st == SM_OK)
        tiff->dirs[tiff->n_dirs++] = dir;
    return st;
}

static sm_status read_subifds(sm_tiff *tiff, TIFF *tif, client *c, sm_error *err)
{
    for (uint32_t i = 0; i < tiff->n_chain; i++) {
        for (uint32_t k = 0; k < tiff->dirs[i].n_subifds; k++) {
            const uint64_t offset = tiff->dirs[i].subifds[k];
            if (sm_tiff_find(tiff, offset) != SM_TIFF_SUBIFD)
                continue; /* in the chain too, as our hybrid profile has it */
            const sm_status st = read_subifd(tiff, tif, c, offset, err);
            if (st != SM_OK)
                return st;
        }
    }
    return SM_OK;
}

/* Does the file begin like a TIFF, and where does its first directory stand? */
static sm_status read_header(sm_tiff *tiff, const sm_source *source, uint64_t *first, sm_error *err)
{
    uint8_t head[16] = {0};
    const uint64_t size = sm_source_size(source);
    if (size < 8)
        return sm_fail(err, SM_ERR_FORMAT, "not a TIFF: %" PRIu64 " bytes", size);
    const sm_status st = sm_source_pread(source, head, size < 16 ? 8 : 16, 0, err);
    if (st != SM_OK)
        return st;
    tiff->big_endian = head[0] == 'M' && head[1] == 'M';
    if (!tiff->big_endian && (head[0] != 'I' || head[1] != 'I'))
        return sm_fail(err, SM_ERR_FORMAT, "not a TIFF");
    const uint64_t magic = number(head + 2, 2, tiff->big_endian);
    if (magic != 42 && magic != 43)
        return sm_fail(err, SM_ERR_FORMAT, "not a TIFF");
    tiff->bigtiff = magic == 43;
    *first = tiff->bigtiff ? number(head + 8, 8, tiff->big_endian)
                           : number(head + 4, 4, tiff->big_endian);
    return SM_OK;
}

sm_status sm_tiff_open(const sm_source *source, sm_tiff **tiff, sm_error *err)
{
    sm_tiff *t = NULL;
    TIFF *tif = NULL;
    client c = {0};
    uint64_t first = 0;
    sm_status st = client_init(&c, source, SM_TIFF_MAX_METADATA_BYTES, err);
    if (st != SM_OK)
        goto out;
    t = sm_calloc(1, sizeof *t);
    if (t != NULL)
        t->dirs = sm_calloc(SM_TIFF_MAX_DIRS, sizeof *t->dirs);
    if (t == NULL || t->dirs == NULL) {
        st = sm_fail(err, SM_ERR_NOMEM, "out of memory for TIFF directories");
        goto out;
    }
    st = read_header(t, source, &first, err);
    if (st != SM_OK)
        goto out;
    tif = client_open(&c);
    if (tif == NULL) {
        st = client_fail(&c, err, "TIFF directory 0", first);
        goto out;
    }
    st = read_chain(t, tif, &c, err);
    if (st == SM_OK)
        st = read_subifds(t, tif, &c, err);
    if (st != SM_OK)
        goto out;
    *tiff = t;
    t = NULL;
out:
    if (tif != NULL)
        TIFFClose(tif);
    client_free(&c);
    sm_tiff_close(&t);
    return st;
}

void sm_tiff_close(sm_tiff **tiff)
{
    sm_tiff *t = *tiff;
    *tiff = NULL;
    if (t == NULL)
        return;
    for (size_t i = 0; i < t->n_owned; i++)
        free(t->owned[i]);
    free(t->owned);
    free(t->dirs);
    free(t);
}

bool sm_tiff_is_bigtiff(const sm_tiff *tiff)
{
    return tiff->bigtiff;
}

bool sm_tiff_is_big_endian(const sm_tiff *tiff)
{
    return tiff->big_endian;
}

uint32_t sm_tiff_count(const sm_tiff *tiff)
{
    return tiff->n_dirs;
}

uint32_t sm_tiff_chain_count(const sm_tiff *tiff)
{
    return tiff->n_chain;
}

const sm_tiff_dir *sm_tiff_dir_at(const sm_tiff *tiff, uint32_t i)
{
    return &tiff->dirs[i];
}

sm_tiff_dir *sm_tiff_dir_mutable(sm_tiff *tiff, uint32_t i)
{
    return &tiff->dirs[i];
}

uint32_t sm_tiff_find(const sm_tiff *tiff, uint64_t offset)
{
    for (uint32_t i = 0; i < tiff->n_dirs; i++) {
        if (tiff->dirs[i].offset == offset)
            return i;
    }
    return SM_TIFF_SUBIFD;
}

/* ---- pixels of an associated image ---- */

/* libtiff's ABGR words, alpha multiplied in, over white. */
static void flatten(const uint32_t *abgr, size_t n_px, uint8_t *rgb)
{
    for (size_t i = 0; i < n_px; i++) {
        const uint32_t p = abgr[i], white = 255 - TIFFGetA(p);
        const uint32_t channels[3] = {TIFFGetR(p), TIFFGetG(p), TIFFGetB(p)};
        for (size_t k = 0; k < 3; k++)
            rgb[3 * i + k] = (uint8_t)sm_min_u32(channels[k] + white, 255);
    }
}

static sm_status decode_rgba(TIFF *tif, client *c, uint64_t offset, uint32_t w_px, uint32_t h_px,
                             uint32_t *abgr, sm_error *err)
{
    char why[1024] = "";
    if (TIFFSetSubDirectory(tif, offset) == 0)
        return client_fail(c, err, "TIFF directory", offset);
    uint32_t w = 0, h = 0;
    if (!TIFFGetField(tif, TIFFTAG_IMAGEWIDTH, &w) || !TIFFGetField(tif, TIFFTAG_IMAGELENGTH, &h) ||
        w != w_px || h != h_px)
        return sm_fail_at(err, SM_ERR_CORRUPT, offset, "TIFF directory changed its size");
    if (!TIFFRGBAImageOK(tif, why))
        return sm_fail_at(err, SM_ERR_FORMAT, offset, "image is not decodable: %s", why);
    if (!TIFFReadRGBAImageOriented(tif, w, h, abgr, ORIENTATION_TOPLEFT, 1))
        return client_fail(c, err, "image of the directory", offset);
    return SM_OK;
}

sm_status sm_tiff_read_rgb(const sm_source *source, uint64_t dir_offset, uint32_t w_px,
                           uint32_t h_px, uint8_t *rgb, sm_error *err)
{
    const uint64_t n_px = (uint64_t)w_px * h_px;
    if (n_px > SM_TIFF_MAX_RGB_PX)
        return sm_fail(err, SM_ERR_LIMIT, "image of %" PRIu32 "x%" PRIu32 " pixels", w_px, h_px);
    uint32_t *abgr = NULL;
    TIFF *tif = NULL;
    client c = {0};
    sm_status st = client_init(&c, source, MAX_RGB_READ_BYTES, err);
    if (st != SM_OK)
        goto out;
    abgr = sm_malloc_array((size_t)n_px, sizeof *abgr);
    if (abgr == NULL) {
        st = sm_fail(err, SM_ERR_NOMEM, "out of memory for %" PRIu64 " pixels", n_px);
        goto out;
    }
    tif = client_open(&c);
    if (tif == NULL) {
        st = client_fail(&c, err, "TIFF directory", dir_offset);
        goto out;
    }
    st = decode_rgba(tif, &c, dir_offset, w_px, h_px, abgr, err);
    if (st == SM_OK)
        flatten(abgr, (size_t)n_px, rgb);
out:
    if (tif != NULL)
        TIFFClose(tif);
    free(abgr);
    client_free(&c);
    return st;
}

void sm_tiff_silence(void)
{
    (void)TIFFSetErrorHandler(NULL);
    (void)TIFFSetWarningHandler(NULL);
}
