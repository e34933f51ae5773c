/* Tags and descriptions of the output profiles. */
#include "tiler/profile.h"

#include <ctype.h>
#include <string.h>

#include "tiler/ome_xml.h"

enum { /* TIFF 6.0, TechNote 2, ICC.1 */
       TAG_SUBFILE = 254,
       TAG_WIDTH = 256,
       TAG_LENGTH = 257,
       TAG_BITS = 258,
       TAG_COMPRESSION = 259,
       TAG_PHOTOMETRIC = 262,
       TAG_DESCRIPTION = 270,
       TAG_SAMPLES = 277,
       TAG_X_RESOLUTION = 282,
       TAG_Y_RESOLUTION = 283,
       TAG_PLANAR = 284,
       TAG_RESOLUTION_UNIT = 296,
       TAG_SOFTWARE = 305,
       TAG_PREDICTOR = 317,
       TAG_TILE_WIDTH = 322,
       TAG_TILE_LENGTH = 323,
       TAG_JPEG_TABLES = 347,
       TAG_YCBCR_SUBSAMPLING = 530,
       TAG_ICC = 34675,
};

enum { UNIT_NONE = 1, UNIT_CM = 3 };

void sm_provenance_init(sm_provenance *p)
{
    memset(p->source_sha256, '0', 64);
    p->source_sha256[64] = '\0';
    memset(p->data_xxh128, '0', 32);
    p->data_xxh128[32] = '\0';
    memcpy(p->head_xxh128, p->data_xxh128, 33);
}

/* The hexadecimal that follows key and up to two characters of syntax. */
static bool find_hex(const char *text, const char *key, size_t digits, char *hex)
{
    const char *at = strstr(text, key);
    if (at == NULL)
        return false;
    at += strlen(key);
    at += strspn(at, "=\">");
    if (strspn(at, "0123456789abcdef") != digits)
        return false;
    memcpy(hex, at, digits);
    hex[digits] = '\0';
    return true;
}

bool sm_provenance_find(const char *description, sm_provenance *p)
{
    return find_hex(description, "source-sha256", 64, p->source_sha256) &&
           find_hex(description, "data-xxh128", 32, p->data_xxh128) &&
           find_hex(description, "head-xxh128", 32, p->head_xxh128);
}

/* "xml" must not occur in it: ASAP refuses such files. */
static sm_status generic_text(const sm_slide_info *info, const sm_provenance *p, sm_buf *out,
                              sm_error *err)
{
    sm_status st = sm_buf_printf(out, err, "slidemill " SM_VERSION);
    if (st == SM_OK && info->mpp_x > 0.0 && info->mpp_y > 0.0)
        st = sm_buf_printf(out, err, "|MPP=%.12g", (info->mpp_x + info->mpp_y) / 2);
    if (st == SM_OK && info->objective > 0.0)
        st = sm_buf_printf(out, err, "|AppMag=%.6g", info->objective);
    if (st == SM_OK)
        st = sm_buf_printf(out, err, "|source-sha256=%s|data-xxh128=%s|head-xxh128=%s",
                           p->source_sha256, p->data_xxh128, p->head_xxh128);
    return st;
}

static sm_status description(sm_profile profile, const sm_slide *slide, const sm_plan *plan,
                             const sm_provenance *p, sm_buf *out, sm_error *err)
{
    const sm_slide_info *info = sm_slide_get_info(slide);
    sm_status st = profile == SM_PROFILE_HYBRID ? sm_ome_xml(info, plan, p, out, err)
                                                : generic_text(info, p, out, err);
    if (st == SM_OK)
        st = sm_buf_append(out, "", 1, err);
    return st;
}

/* Pixels per cm at this level, or no unit at all when nobody knows. */
static sm_status resolution(const sm_slide_info *info, const sm_plan *plan, uint32_t i,
                            sm_bigtiff *t, sm_error *err)
{
    const bool known = info->mpp_x > 0.0 && info->mpp_y > 0.0;
    const uint16_t unit = known ? UNIT_CM : UNIT_NONE;
    sm_status st = sm_bigtiff_set_short(t, i, TAG_RESOLUTION_UNIT, &unit, 1, err);
    if (!known)
        return st;
    const double fx = (double)plan->out[i].w_px / plan->out[0].w_px;
    const double fy = (double)plan->out[i].h_px / plan->out[0].h_px;
    if (st == SM_OK)
        st = sm_bigtiff_set_rational(t, i, TAG_X_RESOLUTION, 1e4 / info->mpp_x * fx, err);
    if (st == SM_OK)
        st = sm_bigtiff_set_rational(t, i, TAG_Y_RESOLUTION, 1e4 / info->mpp_y * fy, err);
    return st;
}

static sm_status shorts(sm_bigtiff *t, uint32_t d, uint16_t tag, uint16_t value, sm_error *err)
{
    return sm_bigtiff_set_short(t, d, tag, &value, 1, err);
}

static sm_status structure(const sm_out_level *out, uint32_t i, sm_bigtiff *t, sm_error *err)
{
    static const uint16_t bits[3] = {8, 8, 8};
    const struct {
        uint16_t tag;
        uint16_t value;
    } small[] = {
        {TAG_COMPRESSION, out->compression},
        {TAG_PHOTOMETRIC, out->photometric},
        {TAG_SAMPLES, 3},
        {TAG_PLANAR, 1},
    };
    const struct {
        uint16_t tag;
        uint32_t value;
    } large[] = {
        {TAG_SUBFILE, i > 0},
        {TAG_WIDTH, out->w_px},
        {TAG_LENGTH, out->h_px},
        {TAG_TILE_WIDTH, out->tile_w_px},
        {TAG_TILE_LENGTH, out->tile_h_px},
    };
    sm_status st = sm_bigtiff_set_short(t, i, TAG_BITS, bits, 3, err);
    for (size_t k = 0; st == SM_OK && k < SM_COUNT(small); k++)
        st = shorts(t, i, small[k].tag, small[k].value, err);
    for (size_t k = 0; st == SM_OK && k < SM_COUNT(large); k++)
        st = sm_bigtiff_set_long(t, i, large[k].tag, large[k].value, err);
    if (st == SM_OK && out->predictor > 1)
        st = shorts(t, i, TAG_PREDICTOR, out->predictor, err);
    if (st == SM_OK && out->codec == SM_CODEC_JPEG && out->photometric == 6) {
        const uint16_t sampling[2] = {out->h_samp, out->v_samp};
        st = sm_bigtiff_set_short(t, i, TAG_YCBCR_SUBSAMPLING, sampling, 2, err);
    }
    if (st == SM_OK)
        st = sm_bigtiff_reserve(t, i, sm_grid_tiles(out->grid), false, err);
    return st;
}

static sm_status add_level(const sm_slide *slide, const sm_plan *plan, uint32_t i,
                           const sm_buf *tables, sm_bigtiff *t, sm_error *err)
{
    const sm_slide_info *info = sm_slide_get_info(slide);
    uint32_t d = 0;
    sm_status st = sm_bigtiff_add_dir(t, &d, err);
    if (st == SM_OK)
        st = structure(&plan->out[i], d, t, err);
    if (st == SM_OK)
        st = resolution(info, plan, d, t, err);
    if (st == SM_OK)
        st = sm_bigtiff_set_ascii(t, d, TAG_SOFTWARE, "slidemill " SM_VERSION, err);
    if (st == SM_OK && tables[i].len > 0)
        st = sm_bigtiff_set_undefined(t, d, TAG_JPEG_TABLES, tables[i].data, tables[i].len, err);
    if (st == SM_OK && info->icc != NULL && info->icc_len > 0)
        st = i == 0 ? sm_bigtiff_set_undefined(t, d, TAG_ICC, info->icc, info->icc_len, err)
                    : sm_bigtiff_share(t, d, TAG_ICC, 0, err);
    return st;
}

sm_status sm_profile_build(sm_profile profile, const sm_slide *slide, const sm_plan *plan,
                           const sm_buf *tables, sm_bigtiff **tiff, sm_error *err)
{
    sm_bigtiff *t = NULL;
    sm_buf text = {0};
    sm_provenance none;
    sm_provenance_init(&none);
    sm_status st = sm_bigtiff_new(&t, err);
    for (uint32_t i = 0; st == SM_OK && i < plan->n_out; i++)
        st = add_level(slide, plan, i, tables, t, err);
    if (st == SM_OK)
        st = description(profile, slide, plan, &none, &text, err);
    if (st == SM_OK)
        st = sm_bigtiff_set_ascii(t, 0, TAG_DESCRIPTION, (const char *)text.data, err);
    if (st == SM_OK && profile == SM_PROFILE_HYBRID && plan->n_out > 1)
        st = sm_bigtiff_set_subdirs(t, 0, 1, plan->n_out - 1, err);
    sm_buf_free(&text);
    if (st == SM_OK)
        *tiff = t;
    else
        sm_bigtiff_free(&t);
    return st;
}

sm_status sm_profile_describe(sm_profile profile, const sm_slide *slide, const sm_plan *plan,
                              const sm_provenance *p, sm_bigtiff *t, sm_error *err)
{
    sm_buf text = {0};
    sm_status st = description(profile, slide, plan, p, &text, err);
    if (st == SM_OK)
        st = sm_bigtiff_replace_ascii(t, 0, TAG_DESCRIPTION, (const char *)text.data, err);
    sm_buf_free(&text);
    return st;
}
