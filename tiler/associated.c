/* Associated images as stripped, uncompressed RGB directories. Uncompressed because every reader
 * takes it, and because they are small beside a slide. */
#include "tiler/associated.h"

#include <stdlib.h>
#include <string.h>

enum { STRIP_BYTES = 64 << 10, SUBFILE_LABEL = 1, SUBFILE_MACRO = 9 };

static uint32_t rows_per_strip(const sm_associated *a)
{
    const uint32_t rows = STRIP_BYTES / (3 * a->w_px);
    return rows < 1 ? 1 : sm_min_u32(rows, a->h_px);
}

static sm_status add_dir(const sm_associated *a, sm_bigtiff *t, uint32_t *dir, sm_error *err)
{
    static const uint16_t bits[3] = {8, 8, 8}, none = 1, rgb = 2, samples = 3, chunky = 1;
    const uint32_t rows = rows_per_strip(a);
    uint32_t d = 0;
    sm_status st = sm_bigtiff_add_dir(t, &d, err);
    const struct {
        uint16_t tag;
        const uint16_t *values;
        size_t n;
    } shorts[] = {
        {258, bits, 3}, {259, &none, 1}, {262, &rgb, 1}, {277, &samples, 1}, {284, &chunky, 1}};
    const struct {
        uint16_t tag;
        uint32_t value;
    } longs[] = {{254, strcmp(a->name, "macro") == 0 ? SUBFILE_MACRO : SUBFILE_LABEL},
                 {256, a->w_px},
                 {257, a->h_px},
                 {278, rows}};
    for (size_t i = 0; st == SM_OK && i < SM_COUNT(shorts); i++)
        st = sm_bigtiff_set_short(t, d, shorts[i].tag, shorts[i].values, shorts[i].n, err);
    for (size_t i = 0; st == SM_OK && i < SM_COUNT(longs); i++)
        st = sm_bigtiff_set_long(t, d, longs[i].tag, longs[i].value, err);
    if (st == SM_OK)
        st = sm_bigtiff_set_ascii(t, d, 270, a->name, err);
    if (st == SM_OK)
        st = sm_bigtiff_reserve(t, d, sm_ceil_div_u32(a->h_px, rows), true, err);
    *dir = d;
    return st;
}

sm_status sm_associated_add_dirs(const sm_slide *slide, sm_bigtiff *t, uint32_t *first,
                                 sm_error *err)
{
    const sm_slide_info *info = sm_slide_get_info(slide);
    sm_status st = SM_OK;
    for (uint32_t i = 0; st == SM_OK && i < info->n_associated; i++) {
        uint32_t d = 0;
        st = add_dir(&info->associated[i], t, &d, err);
        if (i == 0)
            *first = d;
    }
    return st;
}

static sm_status write_one(const sm_slide *slide, uint32_t i, uint32_t dir, sm_bigtiff *t,
                           sm_sink *sink, sm_error *err)
{
    const sm_associated *a = &sm_slide_get_info(slide)->associated[i];
    const size_t stride = 3 * (size_t)a->w_px;
    const uint32_t rows = rows_per_strip(a);
    uint8_t *rgb = sm_malloc_array(a->h_px, stride);
    if (rgb == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "out of memory for the %s image", a->name);
    sm_status st = sm_slide_associated(slide, i, rgb, err);
    for (uint32_t s = 0; st == SM_OK && s * rows < a->h_px; s++) {
        const size_t len = stride * sm_min_u32(rows, a->h_px - s * rows);
        uint64_t offset = 0;
        st = sm_sink_append(sink, rgb + (size_t)s * rows * stride, len, &offset, err);
        if (st == SM_OK)
            sm_bigtiff_place(t, dir, s, offset, (uint32_t)len);
    }
    free(rgb);
    return st;
}

sm_status sm_associated_write(const sm_slide *slide, uint32_t first, sm_bigtiff *t, sm_sink *sink,
                              sm_error *err)
{
    sm_status st = SM_OK;
    for (uint32_t i = 0; st == SM_OK && i < sm_slide_get_info(slide)->n_associated; i++)
        st = write_one(slide, i, first + i, t, sink, err);
    return st;
}
