/* Pictures for the contact sheet: a small level of each pyramid, averaged down to a square with the
 * background around it, as one whole JPEG. Owns what it opens, one output at a time. */
#include "bench/report_thumbs.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/path.h"
#include "common/source.h"
#include "common/stop.h"
#include "tiler/decode.h"
#include "tiler/encode.h"

#define SIDE_PX 176 /* a multiple of 16, as the encoder wants it */
#define QUALITY 72
#define LEVEL_MOST_PX ((uint64_t)64 << 20) /* a pyramid has a smaller level than this */
#define TILE_MOST_BYTES ((uint64_t)256 << 20)

/* Sums of the pixels that fall into each pixel of the picture. */
typedef struct canvas {
    uint64_t sums[SIDE_PX * SIDE_PX][3];
    uint32_t counts[SIDE_PX * SIDE_PX];
    uint32_t w_px, h_px, x_px, y_px; /* where the slide lies in the square */
} canvas;

typedef struct sheet {
    sm_page *page;
    int dir_fd;
    canvas *canvas;
} sheet;

/* The smallest level that is not smaller than the picture. */
static sm_status choose_level(const sm_slide *slide, uint32_t *level, sm_error *err)
{
    *level = 0;
    for (uint32_t i = 0; i < sm_slide_get_info(slide)->n_levels; i++) {
        const sm_level *one = sm_slide_level(slide, i);
        if (sm_max_u32(one->w_px, one->h_px) >= SIDE_PX)
            *level = i;
    }
    const sm_level *l = sm_slide_level(slide, *level);
    if ((uint64_t)l->w_px * l->h_px > LEVEL_MOST_PX ||
        (uint64_t)l->tile_w_px * l->tile_h_px > TILE_MOST_BYTES / 3 || l->planar)
        return sm_fail(err, SM_ERR_LIMIT, "has no small level");
    return SM_OK;
}

static void lay_out(canvas *c, const sm_level *level)
{
    const double scale = (double)SIDE_PX / sm_max_u32(level->w_px, level->h_px);
    const double fit = scale < 1 ? scale : 1;
    memset(c, 0, sizeof(*c));
    c->w_px = sm_min_u32(SIDE_PX, sm_max_u32(1, (uint32_t)(level->w_px * fit + 0.5)));
    c->h_px = sm_min_u32(SIDE_PX, sm_max_u32(1, (uint32_t)(level->h_px * fit + 0.5)));
    c->x_px = (SIDE_PX - c->w_px) / 2;
    c->y_px = (SIDE_PX - c->h_px) / 2;
}

static void add_tile(canvas *c, const sm_level *level, uint32_t col, uint32_t row,
                     const uint8_t *rgb)
{
    const uint32_t x0 = col * level->tile_w_px, y0 = row * level->tile_h_px;
    const uint32_t w = sm_min_u32(level->tile_w_px, level->w_px - x0);
    const uint32_t h = sm_min_u32(level->tile_h_px, level->h_px - y0);
    for (uint32_t y = 0; y < h; y++) {
        const uint8_t *from = rgb + (size_t)y * level->tile_w_px * 3;
        const uint64_t to_y = c->y_px + (uint64_t)(y0 + y) * c->h_px / level->h_px;
        for (uint32_t x = 0; x < w; x++, from += 3) {
            const uint64_t to_x = c->x_px + (uint64_t)(x0 + x) * c->w_px / level->w_px;
            const uint64_t at = to_y * SIDE_PX + to_x;
            c->sums[at][0] += from[0];
            c->sums[at][1] += from[1];
            c->sums[at][2] += from[2];
            c->counts[at]++;
        }
    }
}

static sm_status read_tile(const sm_slide *slide, const sm_level *level, sm_decoder *decoder,
                           uint64_t tile, sm_buf *bytes, uint8_t *rgb, sm_error *err)
{
    const uint64_t len = level->lens != NULL ? level->lens[tile] : 0;
    if (len > TILE_MOST_BYTES)
        return sm_fail(err, SM_ERR_LIMIT, "a tile of its smallest level is too long");
    sm_status st = sm_buf_reserve(bytes, (size_t)len + 1, err);
    if (st == SM_OK && len > 0)
        st = sm_source_pread(sm_slide_source(slide), bytes->data, (size_t)len, level->offsets[tile],
                             err);
    if (st == SM_OK)
        st = sm_decoder_tile(decoder, level->codec == SM_CODEC_RENDERED ? NULL : bytes->data,
                             (size_t)len, NULL, tile, 1, rgb, (size_t)level->tile_w_px * 3, err);
    return st;
}

static sm_status draw_level(const sm_slide *slide, uint32_t number, canvas *c, sm_error *err)
{
    const sm_level *level = sm_slide_level(slide, number);
    sm_decoder *decoder = NULL;
    sm_buf bytes = {0};
    uint8_t *rgb = sm_malloc_array((size_t)level->tile_w_px * 3, level->tile_h_px);
    if (rgb == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "no memory for a thumbnail");
    lay_out(c, level);
    sm_status st = sm_decoder_open(slide, number, &decoder, err);
    for (uint64_t i = 0; st == SM_OK && i < (uint64_t)level->cols * level->rows; i++) {
        if (level->lens != NULL && level->lens[i] == 0)
            continue; /* background */
        st = read_tile(slide, level, decoder, i, &bytes, rgb, err);
        if (st == SM_OK)
            add_tile(c, level, (uint32_t)(i % level->cols), (uint32_t)(i / level->cols), rgb);
    }
    sm_decoder_close(&decoder);
    sm_buf_free(&bytes);
    free(rgb);
    return st;
}

static void average(const canvas *c, const uint8_t background[3], uint8_t *rgb)
{
    for (size_t i = 0; i < (size_t)SIDE_PX * SIDE_PX; i++) {
        for (size_t k = 0; k < 3; k++)
            rgb[3 * i + k] =
                c->counts[i] > 0 ? (uint8_t)(c->sums[i][k] / c->counts[i]) : background[k];
    }
}

/* The encoder writes tables and picture apart, as TIFF wants them. One stream is both without the
 * end of the first and the start of the second. */
static sm_status encode(const uint8_t *rgb, sm_buf *jpeg, sm_error *err)
{
    const sm_encode_params params = {.codec = SM_CODEC_JPEG,
                                     .tile_w_px = SIDE_PX,
                                     .tile_h_px = SIDE_PX,
                                     .quality = QUALITY,
                                     .h_samp = 2,
                                     .v_samp = 2};
    sm_encoder *encoder = NULL;
    sm_buf picture = {0};
    sm_status st = sm_encode_tables(&params, jpeg, err);
    if (st == SM_OK)
        st = sm_encoder_open(&params, &encoder, err);
    if (st == SM_OK)
        st = sm_encoder_tile(encoder, rgb, &picture, err);
    if (st == SM_OK && (jpeg->len < 2 || picture.len < 2))
        st = sm_fail(err, SM_ERR_INTERNAL, "a JPEG without tables");
    if (st == SM_OK) {
        jpeg->len -= 2;
        st = sm_buf_append(jpeg, picture.data + 2, picture.len - 2, err);
    }
    sm_encoder_close(&encoder);
    sm_buf_free(&picture);
    return st;
}

static sm_status make_thumb(const sheet *s, const char *path, sm_buf *jpeg, sm_error *err)
{
    sm_source *source = NULL;
    sm_slide *slide = NULL;
    uint32_t level = 0;
    int fd = -1;
    uint8_t *rgb = sm_malloc_array(3, (size_t)SIDE_PX * SIDE_PX);
    if (rgb == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "no memory for a thumbnail");
    sm_status st = sm_path_open_beneath(s->dir_fd, path, O_RDONLY, &fd, err);
    if (st == SM_OK)
        st = sm_source_from_fd(fd, path, &source, err);
    if (st == SM_OK)
        st = sm_slide_open(source, &slide, err);
    if (st == SM_OK)
        st = choose_level(slide, &level, err);
    if (st == SM_OK)
        st = draw_level(slide, level, s->canvas, err);
    if (st == SM_OK) {
        average(s->canvas, sm_slide_get_info(slide)->background, rgb);
        st = encode(rgb, jpeg, err);
    }
    sm_slide_close(&slide);
    sm_source_close(&source);
    free(rgb);
    return st;
}

static sm_status put_thumb(void *arg, const sm_output_row *output, sm_error *err)
{
    sheet *s = arg;
    sm_buf jpeg = {0};
    sm_error why = SM_ERROR_INIT;
    sm_status st = sm_stop_check(err);
    if (st == SM_OK)
        st = make_thumb(s, output->path, &jpeg, &why);
    sm_page_put(s->page, "<li>");
    if (st == SM_OK) {
        sm_page_put(s->page,
                    "<img width=\"%d\" height=\"%d\" alt=\"\" src=\"data:image/jpeg;base64,",
                    SIDE_PX, SIDE_PX);
        sm_page_base64(s->page, jpeg.data, jpeg.len);
        sm_page_put(s->page, "\">");
    } else if (st != SM_ERR_INTERRUPTED && st != SM_ERR_NOMEM) {
        sm_page_put(s->page, "<span class=\"none\">");
        sm_page_text(s->page, why.message);
        sm_page_put(s->page, "</span>");
        st = SM_OK;
    } else if (why.status != SM_OK) {
        *err = why;
    }
    sm_page_text(s->page, output->path);
    sm_page_put(s->page, "</li>\n");
    sm_buf_free(&jpeg);
    return st == SM_OK ? s->page->status : st;
}

sm_status sm_thumbs_put(sm_page *page, sm_catalog *catalog, const char *dir, uint32_t n,
                        sm_error *err)
{
    sheet s = {.page = page, .dir_fd = -1, .canvas = sm_calloc(1, sizeof(canvas))};
    if (s.canvas == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "no memory for thumbnails");
    sm_status st = sm_path_open_root(dir, &s.dir_fd, err);
    sm_page_put(page, "<ul class=\"sheet\">\n");
    if (st == SM_OK)
        st = sm_catalog_sample_outputs(catalog, n, put_thumb, &s, err);
    sm_page_put(page, "</ul>\n");
    if (s.dir_fd >= 0)
        (void)close(s.dir_fd);
    free(s.canvas);
    return st;
}
