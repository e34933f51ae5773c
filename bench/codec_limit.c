/* codec-limit: how fast could a conversion be if it were nothing but codec calls? Everything is in
 * memory before the clock starts and nothing is written; what is left is libjpeg-turbo or zstd.
 *
 * Counted: every decode of a level-0 tile, every encode of a tile of the output (as many per level
 * as a real conversion has), the 2x2 means between levels, the horizontal predictor of zstd.
 * Not counted: reading, hashing, writing, fsync, verifying, ordering, and cutting tiles to another
 * grid: the content of an encoded tile is a canvas that decoded tiles are put on as they come. So
 * no thread ever waits for another. Each canvas holds real pixels, on MCU borders wherever the
 * tiles' sides allow it, hence the encoder's work is real too. */
#include <inttypes.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include <jpeglib.h>
#include <tiffio.h>
#include <zstd.h>

#include "common/buf.h"
#include "common/error.h"
#include "common/geom.h"
#include "common/opts.h"
#include "common/sysinfo.h"

#define MAX_LEVELS 32u

typedef struct limit_config {
    int work, subsampling;
    uint32_t threads, tile_px, quality, zstd_level;
} limit_config;

enum { WORK_COPY, WORK_TRANSCODE, WORK_RETILE, WORK_ZSTD, WORK_DECODE, WORK_DECODE_HALF };
enum { SUBSAMPLING_444, SUBSAMPLING_422, SUBSAMPLING_420 };

/* The work: read-only while the threads run, but for the counters. */
typedef struct job {
    const limit_config *cfg;
    uint32_t w_px, h_px, tile_w_px, tile_h_px; /* level 0 of the slide */
    uint16_t photometric;
    sm_buf tables;    /* tag 347, may be empty */
    uint8_t *bytes;   /* all tiles of level 0 */
    uint64_t *starts; /* n_tiles + 1 */
    uint64_t n_tiles;
    unsigned denom;                 /* 2: tiles are decoded at half size */
    uint32_t first_level, n_levels; /* output levels that are encoded: first_level..n_levels-1 */
    uint64_t n_encodes[MAX_LEVELS]; /* tiles of each */
    atomic_uint_fast64_t next;      /* tile that no thread has taken yet */
    atomic_bool failed;
} job;

/* Where the pixels of one output level gather: slots of one piece each, filled in turn. Wide enough
 * for whole pieces; the encoder looks at the tile_px x tile_px in its corner. */
typedef struct canvas {
    uint8_t *rgb;
    size_t stride;
    uint32_t piece_w_px, piece_h_px, slot_cols, slot_rows, next;
} canvas;

/* One thread's own: no field is shared. */
typedef struct worker {
    struct jpeg_error_mgr errors; /* first: libjpeg hands it back as its own type */
    jmp_buf jump;
    job *job;
    struct jpeg_decompress_struct in;
    struct jpeg_compress_struct out;     /* pixels -> tile */
    struct jpeg_compress_struct recoder; /* coefficients -> tile */
    canvas canvases[MAX_LEVELS];
    unsigned char *encoded; /* of encoded_cap bytes: no tile ever needs more */
    unsigned long encoded_cap, encoded_len;
    uint8_t *differences; /* zstd: a tile after the horizontal predictor */
    ZSTD_CCtx *zstd;
    uint64_t encoded_bytes, encoded_tiles;
    pthread_t thread;
    sm_error err;
} worker;

static void worker_trap(j_common_ptr info)
{
    worker *w = (worker *)(void *)info->err;
    char message[JMSG_LENGTH_MAX];
    info->err->format_message(info, message);
    (void)sm_fail(&w->err, SM_ERR_CORRUPT, "JPEG: %s", message);
    longjmp(w->jump, 1);
}

static void worker_silence(j_common_ptr info)
{
    (void)info;
}

/* Slot that the next piece goes to. */
static uint8_t *canvas_slot(canvas *c)
{
    const uint32_t slot = c->next;
    c->next = (slot + 1) % (c->slot_cols * c->slot_rows);
    return c->rgb + (size_t)(slot / c->slot_cols) * c->piece_h_px * c->stride +
           (size_t)3 * (slot % c->slot_cols) * c->piece_w_px;
}

static sm_status canvas_new(canvas *c, uint32_t tile_px, uint32_t piece_w_px, uint32_t piece_h_px,
                            sm_error *err)
{
    c->piece_w_px = piece_w_px;
    c->piece_h_px = piece_h_px;
    c->slot_cols = sm_ceil_div_u32(tile_px, piece_w_px);
    c->slot_rows = sm_ceil_div_u32(tile_px, piece_h_px);
    c->stride = (size_t)3 * c->slot_cols * piece_w_px;
    const size_t rows = (size_t)c->slot_rows * piece_h_px;
    c->rgb = sm_calloc(rows + 1, c->stride); /* a row more: half_tile stores 4 bytes a pixel */
    return c->rgb != NULL ? SM_OK : sm_fail(err, SM_ERR_NOMEM, "no memory for a canvas");
}

/* 2x2 mean of the side x side pixels at from. Three colours at once: red and blue share a word. */
static void half_tile(const uint8_t *from, size_t from_stride, uint32_t side, uint8_t *to,
                      size_t to_stride)
{
    for (uint32_t y = 0; y < side / 2; y++) {
        const uint8_t *a = from + 2 * (size_t)y * from_stride, *b = a + from_stride;
        uint8_t *d = to + y * to_stride;
        for (uint32_t x = 0; x < side / 2; x++, a += 6, b += 6, d += 3) {
            uint32_t p[4];
            memcpy(&p[0], a, 4);
            memcpy(&p[1], a + 3, 4);
            memcpy(&p[2], b, 4);
            memcpy(&p[3], b + 3, 4);
            const uint32_t even = (p[0] & 0xff00ff) + (p[1] & 0xff00ff) + (p[2] & 0xff00ff) +
                                  (p[3] & 0xff00ff) + 0x20002;
            const uint32_t odd = (p[0] >> 8 & 0xff) + (p[1] >> 8 & 0xff) + (p[2] >> 8 & 0xff) +
                                 (p[3] >> 8 & 0xff) + 2;
            d[0] = (uint8_t)(even >> 2);
            d[1] = (uint8_t)(odd >> 2);
            d[2] = (uint8_t)(even >> 18);
        }
    }
}

/* The colour a stream holds: as tiler/jpeg_info.h says, for the cases this benchmark takes. */
static void believe(struct jpeg_decompress_struct *in, uint16_t photometric)
{
    const bool subsampled = in->num_components == 3 &&
                            (in->comp_info[0].h_samp_factor != in->comp_info[1].h_samp_factor ||
                             in->comp_info[0].v_samp_factor != in->comp_info[1].v_samp_factor);
    if (in->num_components == 3 && !subsampled && !in->saw_Adobe_marker && !in->saw_JFIF_marker)
        in->jpeg_color_space = photometric == PHOTOMETRIC_YCBCR ? JCS_YCbCr : JCS_RGB;
    in->out_color_space = JCS_RGB;
}

static void start_tile(worker *w, uint64_t tile)
{
    const job *j = w->job;
    jpeg_mem_src(&w->in, j->bytes + j->starts[tile],
                 (unsigned long)(j->starts[tile + 1] - j->starts[tile]));
    (void)jpeg_read_header(&w->in, TRUE);
    if (w->in.image_width != j->tile_w_px || w->in.image_height != j->tile_h_px ||
        w->in.num_components != 3) {
        (void)sm_fail(&w->err, SM_ERR_FORMAT,
                      "tile %" PRIu64 " is not %" PRIu32 "x%" PRIu32 " px of 3 colours", tile,
                      j->tile_w_px, j->tile_h_px);
        longjmp(w->jump, 1);
    }
    believe(&w->in, j->photometric);
}

/* Straight into a slot of the canvas. */
static void decode_tile(worker *w, uint64_t tile, unsigned denom, canvas *c)
{
    uint8_t *slot = canvas_slot(c);
    start_tile(w, tile);
    w->in.scale_num = 1;
    w->in.scale_denom = denom;
    (void)jpeg_start_decompress(&w->in);
    while (w->in.output_scanline < w->in.output_height) {
        JSAMPROW rows[16];
        const uint32_t n = sm_min_u32(16, w->in.output_height - w->in.output_scanline);
        for (uint32_t i = 0; i < n; i++)
            rows[i] = slot + (w->in.output_scanline + i) * c->stride;
        (void)jpeg_read_scanlines(&w->in, rows, n);
    }
    (void)jpeg_finish_decompress(&w->in);
}

static void count(worker *w, uint64_t bytes)
{
    w->encoded_bytes += bytes;
    w->encoded_tiles++;
}

static void encode_jpeg(worker *w, const canvas *c)
{
    w->encoded_len = w->encoded_cap;
    jpeg_mem_dest(&w->out, &w->encoded, &w->encoded_len);
    jpeg_start_compress(&w->out, FALSE);
    while (w->out.next_scanline < w->out.image_height) {
        JSAMPROW rows[16];
        const uint32_t n = sm_min_u32(16, w->out.image_height - w->out.next_scanline);
        for (uint32_t i = 0; i < n; i++)
            rows[i] = c->rgb + (w->out.next_scanline + i) * c->stride;
        (void)jpeg_write_scanlines(&w->out, rows, n);
    }
    jpeg_finish_compress(&w->out);
    count(w, w->encoded_len);
}

static void encode_zstd(worker *w, const canvas *c)
{
    const uint32_t side = w->job->cfg->tile_px;
    const size_t row_bytes = (size_t)3 * side;
    for (uint32_t y = 0; y < side; y++) {
        const uint8_t *from = c->rgb + y * c->stride;
        uint8_t *to = w->differences + y * row_bytes;
        memcpy(to, from, 3);
        for (size_t x = 3; x < row_bytes; x++)
            to[x] = (uint8_t)(from[x] - from[x - 3]);
    }
    const size_t len =
        ZSTD_compress2(w->zstd, w->encoded, w->encoded_cap, w->differences, row_bytes * side);
    if (ZSTD_isError(len)) {
        (void)sm_fail(&w->err, SM_ERR_INTERNAL, "zstd: %s", ZSTD_getErrorName(len));
        longjmp(w->jump, 1);
    }
    count(w, len);
}

/* Huffman out and in again: what moving coefficients to another grid needs of libjpeg. */
static void recode_tile(worker *w, uint64_t tile)
{
    start_tile(w, tile);
    jvirt_barray_ptr *coefficients = jpeg_read_coefficients(&w->in);
    jpeg_copy_critical_parameters(&w->in, &w->recoder);
    w->encoded_len = w->encoded_cap;
    jpeg_mem_dest(&w->recoder, &w->encoded, &w->encoded_len);
    jpeg_write_coefficients(&w->recoder, coefficients);
    jpeg_finish_compress(&w->recoder);
    (void)jpeg_finish_decompress(&w->in);
    count(w, w->encoded_len);
}

/* One tile of level 0, and as many encodes of every level as its share of the whole is. */
static void work_tile(worker *w, uint64_t tile)
{
    const job *j = w->job;
    if (j->cfg->work == WORK_RETILE)
        recode_tile(w, tile);
    decode_tile(w, tile, j->denom, &w->canvases[j->first_level]);
    for (uint32_t level = j->first_level; level < j->n_levels; level++) {
        const uint64_t n = j->n_encodes[level];
        const canvas *c = &w->canvases[level];
        for (uint64_t k = tile * n / j->n_tiles; k < (tile + 1) * n / j->n_tiles; k++) {
            if (j->cfg->work == WORK_ZSTD)
                encode_zstd(w, c);
            else
                encode_jpeg(w, c);
            if (level + 1 < j->n_levels) {
                canvas *next = &w->canvases[level + 1];
                half_tile(c->rgb, c->stride, j->cfg->tile_px, canvas_slot(next), next->stride);
            }
        }
    }
}

static void work_all(worker *w)
{
    for (;;) {
        const uint64_t tile = atomic_fetch_add(&w->job->next, 1);
        if (tile >= w->job->n_tiles || atomic_load(&w->job->failed))
            return;
        work_tile(w, tile);
    }
}

static void *worker_main(void *arg)
{
    worker *w = arg;
    if (setjmp(w->jump)) {
        atomic_store(&w->job->failed, true);
        return NULL;
    }
    work_all(w);
    return NULL;
}

static void worker_codecs(worker *w)
{
    static const int H[] = {1, 2, 2}, V[] = {1, 1, 2}; /* by SUBSAMPLING_ */
    const limit_config *cfg = w->job->cfg;
    jpeg_create_decompress(&w->in);
    jpeg_create_compress(&w->out);
    jpeg_create_compress(&w->recoder);
    if (w->job->tables.len > 0) {
        jpeg_mem_src(&w->in, w->job->tables.data, w->job->tables.len);
        (void)jpeg_read_header(&w->in, FALSE);
    }
    w->out.image_width = w->out.image_height = cfg->tile_px;
    w->out.input_components = 3;
    w->out.in_color_space = JCS_RGB;
    jpeg_set_defaults(&w->out);
    jpeg_set_quality(&w->out, (int)cfg->quality, TRUE);
    w->out.comp_info[0].h_samp_factor = H[cfg->subsampling];
    w->out.comp_info[0].v_samp_factor = V[cfg->subsampling];
    w->out.write_JFIF_header = FALSE;
    jpeg_suppress_tables(&w->out, TRUE); /* they are in tag 347, once for all tiles */
}

static sm_status worker_open(worker *w, job *j, sm_error *err)
{
    const uint32_t px = j->cfg->tile_px;
    w->job = j;
    w->err = (sm_error)SM_ERROR_INIT;
    w->in.err = w->out.err = w->recoder.err = jpeg_std_error(&w->errors);
    w->errors.error_exit = worker_trap;
    w->errors.output_message = worker_silence;
    if (setjmp(w->jump)) {
        *err = w->err;
        return err->status;
    }
    worker_codecs(w);
    w->encoded_cap = 6ul * sm_max_u32(px * px, j->tile_w_px * j->tile_h_px) + (1ul << 16);
    w->encoded = sm_malloc_array(w->encoded_cap, 1);
    w->differences = sm_malloc_array((size_t)px * px, 3);
    w->zstd = ZSTD_createCCtx();
    if (w->encoded == NULL || w->differences == NULL || w->zstd == NULL ||
        ZSTD_isError(
            ZSTD_CCtx_setParameter(w->zstd, ZSTD_c_compressionLevel, (int)j->cfg->zstd_level)))
        return sm_fail(err, SM_ERR_NOMEM, "no memory for a thread's codecs");
    sm_status st = canvas_new(&w->canvases[j->first_level], px, j->tile_w_px / j->denom,
                              j->tile_h_px / j->denom, err);
    for (uint32_t level = j->first_level + 1; level < j->n_levels && st == SM_OK; level++)
        st = canvas_new(&w->canvases[level], px, px / 2, px / 2, err);
    return st;
}

static void worker_close(worker *w)
{
    if (w->job == NULL)
        return; /* never opened */
    jpeg_destroy_decompress(&w->in);
    jpeg_destroy_compress(&w->out);
    jpeg_destroy_compress(&w->recoder);
    (void)ZSTD_freeCCtx(w->zstd);
    free(w->encoded);
    free(w->differences);
    for (uint32_t level = 0; level < MAX_LEVELS; level++)
        free(w->canvases[level].rgb);
}

static sm_status load_tiles(TIFF *tif, const char *path, job *j, sm_error *err)
{
    uint64_t total = 0;
    j->n_tiles = TIFFNumberOfTiles(tif);
    j->starts = sm_malloc_array((size_t)j->n_tiles + 1, sizeof *j->starts);
    if (j->starts == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "no memory for %" PRIu64 " tiles", j->n_tiles);
    for (uint64_t i = 0; i < j->n_tiles; i++) {
        const uint64_t len = TIFFGetStrileByteCount(tif, (uint32_t)i);
        j->starts[i] = total;
        if (len == 0 || !sm_add_u64(total, len, &total) || total > (uint64_t)PTRDIFF_MAX)
            return sm_fail(err, SM_ERR_FORMAT, "%s: tile %" PRIu64 " is missing or too long", path,
                           i);
    }
    j->starts[j->n_tiles] = total;
    j->bytes = sm_malloc_array((size_t)total, 1);
    if (j->bytes == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "no memory for %" PRIu64 " bytes of tiles", total);
    for (uint64_t i = 0; i < j->n_tiles; i++) {
        const tmsize_t len = (tmsize_t)(j->starts[i + 1] - j->starts[i]);
        if (TIFFReadRawTile(tif, (uint32_t)i, j->bytes + j->starts[i], len) != len)
            return sm_fail(err, SM_ERR_IO, "%s: cannot read tile %" PRIu64, path, i);
    }
    return SM_OK;
}

static sm_status load_slide(const char *path, job *j, sm_error *err)
{
    uint16_t compression = 0, samples = 0;
    uint32_t tables_len = 0;
    void *tables = NULL;
    TIFF *tif = TIFFOpen(path, "r");
    if (tif == NULL)
        return sm_fail(err, SM_ERR_FORMAT, "%s: libtiff cannot open it", path);
    sm_status st = SM_OK;
    if (!TIFFIsTiled(tif) || !TIFFGetField(tif, TIFFTAG_COMPRESSION, &compression) ||
        compression != COMPRESSION_JPEG ||
        !TIFFGetFieldDefaulted(tif, TIFFTAG_SAMPLESPERPIXEL, &samples) || samples != 3 ||
        !TIFFGetField(tif, TIFFTAG_PHOTOMETRIC, &j->photometric) ||
        !TIFFGetField(tif, TIFFTAG_IMAGEWIDTH, &j->w_px) ||
        !TIFFGetField(tif, TIFFTAG_IMAGELENGTH, &j->h_px) ||
        !TIFFGetField(tif, TIFFTAG_TILEWIDTH, &j->tile_w_px) ||
        !TIFFGetField(tif, TIFFTAG_TILELENGTH, &j->tile_h_px) || j->tile_w_px > 4096 ||
        j->tile_h_px > 4096 || j->tile_w_px % 16 != 0 || j->tile_h_px % 16 != 0)
        st = sm_fail(err, SM_ERR_FORMAT, "%s: level 0 is not tiled JPEG of 3 colours", path);
    if (st == SM_OK && TIFFGetField(tif, TIFFTAG_JPEGTABLES, &tables_len, &tables))
        st = sm_buf_append(&j->tables, tables, tables_len, err);
    if (st == SM_OK)
        st = load_tiles(tif, path, j, err);
    TIFFClose(tif);
    return st;
}

/* Levels down to one tile, as --levels dyadic makes them, and which of them are encoded. */
static void plan_levels(job *j)
{
    const uint32_t px = j->cfg->tile_px;
    const int work = j->cfg->work;
    const bool level0 = work == WORK_TRANSCODE || work == WORK_ZSTD;
    uint32_t w_px = j->w_px, h_px = j->h_px;
    j->denom = level0 || work == WORK_DECODE ? 1 : 2;
    j->first_level = level0 ? 0 : 1;
    for (j->n_levels = 0; j->n_levels < MAX_LEVELS;) {
        j->n_encodes[j->n_levels++] = sm_grid_tiles(sm_grid_for(w_px, h_px, px, px));
        if (sm_max_u32(w_px, h_px) <= px)
            break;
        w_px = sm_half_px(w_px);
        h_px = sm_half_px(h_px);
    }
    if (work == WORK_DECODE || work == WORK_DECODE_HALF)
        j->n_levels = j->first_level = 0;
}

static double seconds(struct timeval t)
{
    return (double)t.tv_sec + (double)t.tv_usec / 1e6;
}

static double cpu_seconds(void)
{
    struct rusage use;
    (void)getrusage(RUSAGE_SELF, &use);
    return seconds(use.ru_utime) + seconds(use.ru_stime);
}

/* The threads that started always end before this returns. */
static sm_status run_threads(worker *workers, uint32_t n, sm_error *err)
{
    uint32_t started = 0;
    sm_status st = SM_OK;
    for (; started < n && st == SM_OK; started++) {
        const int failure =
            pthread_create(&workers[started].thread, NULL, worker_main, &workers[started]);
        if (failure != 0) {
            st = sm_fail_errno(err, SM_ERR_INTERNAL, failure, "cannot start a thread");
            atomic_store(&workers[0].job->failed, true);
            break;
        }
    }
    for (uint32_t i = 0; i < started; i++) {
        (void)pthread_join(workers[i].thread, NULL);
        if (st == SM_OK && workers[i].err.status != SM_OK) {
            *err = workers[i].err;
            st = err->status;
        }
    }
    return st;
}

static void report(const job *j, const worker *workers, uint32_t threads, double wall_s,
                   double cpu_s)
{
    static const char *const NAMES[] = {"copy-pyramid", "transcode", "retile",
                                        "zstd",         "decode",    "decode-half"};
    const double mpx = (double)j->w_px * j->h_px / 1e6;
    uint64_t bytes = 0, tiles = 0;
    for (uint32_t i = 0; i < threads; i++) {
        bytes += workers[i].encoded_bytes;
        tiles += workers[i].encoded_tiles;
    }
    (void)printf("{\"work\": \"%s\", \"threads\": %" PRIu32 ", \"tile_px\": %" PRIu32
                 ", \"wall_s\": %.4f, \"cpu_s\": %.4f, \"level0_mpx\": %.3f, \"mpx_per_s\": %.1f, "
                 "\"tiles_decoded\": %" PRIu64 ", \"tiles_encoded\": %" PRIu64
                 ", \"bytes_in\": %" PRIu64 ", \"bytes_encoded\": %" PRIu64 "}\n",
                 NAMES[j->cfg->work], threads, j->cfg->tile_px, wall_s, cpu_s, mpx, mpx / wall_s,
                 j->n_tiles, tiles, j->starts[j->n_tiles], bytes);
}

static sm_status measure(const limit_config *cfg, const char *path, sm_error *err)
{
    job j = {.cfg = cfg};
    worker *workers = sm_calloc(cfg->threads, sizeof *workers);
    sm_status st = SM_OK;
    if (workers == NULL)
        st = sm_fail(err, SM_ERR_NOMEM, "no memory for %" PRIu32 " threads", cfg->threads);
    if (st == SM_OK)
        st = load_slide(path, &j, err);
    if (st == SM_OK)
        plan_levels(&j);
    for (uint32_t i = 0; i < cfg->threads && st == SM_OK; i++)
        st = worker_open(&workers[i], &j, err);
    if (st == SM_OK) {
        const double cpu_s = cpu_seconds();
        const uint64_t start_ns = sm_now_ns();
        st = run_threads(workers, cfg->threads, err);
        const double wall_s = (double)(sm_now_ns() - start_ns) / 1e9;
        if (st == SM_OK)
            report(&j, workers, cfg->threads, wall_s, cpu_seconds() - cpu_s);
    }
    for (uint32_t i = 0; workers != NULL && i < cfg->threads; i++)
        worker_close(&workers[i]);
    free(workers);
    free(j.bytes);
    free(j.starts);
    sm_buf_free(&j.tables);
    return st;
}

#define AT(field) offsetof(limit_config, field)

static const sm_opt OPTIONS[] = {
    {"work", SM_OPT_CHOICE, AT(work), 0, 0, "copy-pyramid",
     "copy-pyramid|transcode|retile|zstd|decode|decode-half",
     "copy-pyramid: level 0 is copied, so every tile is decoded at half size and levels 1 and up "
     "are encoded. transcode: full decode, all levels encoded. retile: copy-pyramid, and "
     "coefficients of every tile read and written. zstd: as transcode, lossless. decode and "
     "decode-half: nothing is encoded."},
    {"threads", SM_OPT_U32, AT(threads), 0, 1024, "0", "threads", "0: all this process may use."},
    {"tile-px", SM_OPT_U32, AT(tile_px), 16, 4096, "256", "px",
     "Side of the encoded tiles; a multiple of 16."},
    {"quality", SM_OPT_U32, AT(quality), 1, 100, "75", "1..100", "JPEG quality."},
    {"subsampling", SM_OPT_CHOICE, AT(subsampling), 0, 0, "420", "444|422|420",
     "Chroma of the encoded JPEG tiles."},
    {"zstd-level", SM_OPT_U32, AT(zstd_level), 1, 22, "1", "1..22", "Level of --work zstd."},
};

static const char *const OPERANDS[] = {"SLIDE"};

static const sm_command COMMAND = {
    .name = "codec-limit",
    .summary = "time the bare codec calls that a conversion needs",
    .synopsis = "[options] SLIDE",
    .description =
        "Loads level 0 of SLIDE (a TIFF of JPEG tiles), then decodes and encodes on all threads "
        "what a conversion with a dyadic pyramid would, from memory to memory, and prints the "
        "times as one line of JSON. Reading, hashing, writing and verifying are not in it: no "
        "converter built on the same codecs can be faster.",
    .examples = "codec-limit --work transcode --threads 2 big.svs\n    the floor on two cores\n",
    .exit_status = "0 measured\n2 wrong options\n65 SLIDE cannot be used\n74 reading failed\n",
    .opts = OPTIONS,
    .n_opts = SM_COUNT(OPTIONS),
    .min_operands = 1,
    .max_operands = 1,
    .operand_names = OPERANDS,
};

int main(int argc, char **argv)
{
    limit_config cfg = {0};
    const char *path = NULL;
    unsigned n_operands = 0;
    int exit_code = 0;
    sm_error err = SM_ERROR_INIT;
    if (!sm_opts_start(&COMMAND, argc, argv, &cfg, &path, &n_operands, NULL, &exit_code))
        return exit_code;
    (void)TIFFSetWarningHandler(NULL);
    if (cfg.threads == 0)
        cfg.threads = (uint32_t)sm_sysinfo_threads().value;
    sm_status st = SM_OK;
    if (cfg.tile_px % 16 != 0)
        st = sm_fail(&err, SM_ERR_ARG, "--tile-px: not a multiple of 16");
    if (st == SM_OK)
        st = measure(&cfg, path, &err);
    if (st == SM_OK && fflush(stdout) != 0)
        st = sm_fail(&err, SM_ERR_IO, "cannot write the result");
    if (st != SM_OK)
        (void)fprintf(stderr, "codec-limit: %s\n", err.message);
    return st == SM_OK ? 0 : sm_exit_code(st);
}
