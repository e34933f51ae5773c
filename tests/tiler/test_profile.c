/* Tests of tiler/profile.c and tiler/ome_xml.c: heads of files that are read back with libtiff. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <tiffio.h>

#include "tests/support/check.h"
#include "tests/support/fake_slide.h"
#include "tests/support/random.h"
#include "tests/support/tmpdir.h"
#include "tiler/ome_xml.h"
#include "tiler/profile.h"

static sm_tmpdir folder;
static char complaint[256]; /* libtiff's first */

__attribute__((format(printf, 2, 0))) static void complain(const char *module, const char *fmt,
                                                           va_list args)
{
    if (complaint[0] != '\0')
        return;
    const int n = snprintf(complaint, sizeof complaint, "%s: ", module != NULL ? module : "");
    vsnprintf(complaint + n, sizeof complaint - (size_t)n, fmt, args);
}

static void check_no_complaint(void)
{
    if (complaint[0] != '\0')
        fail_msg("libtiff: %s", complaint);
}

/* A slide, the plan of its conversion, and the head of the result. */
typedef struct made {
    sm_fake_slide *fake;
    sm_plan plan;
    sm_buf tables[SM_MAX_LEVELS];
    sm_bigtiff *tiff;
} made;

static const uint8_t TABLES[] = {0xFF, 0xD8, 0xFF, 0xDB, 0, 2, 0xFF, 0xD9};

/* 3000 x 2001 px in tiles of 240, halved until 240 px. */
static made make(sm_profile profile, const sm_slide_info *facts, const sm_plan_options *o)
{
    sm_error err = SM_ERROR_INIT;
    made m = {.fake = sm_fake_new()};
    sm_fake_add(m.fake, 3000, 2001, 240, 240);
    sm_slide_info *info = &m.fake->slide.info;
    info->mpp_x = facts->mpp_x;
    info->mpp_y = facts->mpp_y;
    info->objective = facts->objective;
    info->icc = facts->icc;
    info->icc_len = facts->icc_len;
    SM_CHECK_OK(sm_plan_make(&m.fake->slide, o, &m.plan, &err), &err);
    for (uint32_t i = 0; i < m.plan.n_out && m.plan.out[i].codec == SM_CODEC_JPEG; i++)
        SM_CHECK_OK(sm_buf_append(&m.tables[i], TABLES, sizeof TABLES, &err), &err);
    SM_CHECK_OK(sm_profile_build(profile, &m.fake->slide, &m.plan, m.tables, &m.tiff, &err), &err);
    return m;
}

static void made_free(made *m)
{
    sm_bigtiff_free(&m->tiff);
    for (size_t i = 0; i < SM_MAX_LEVELS; i++)
        sm_buf_free(&m->tables[i]);
    sm_fake_free(&m->fake);
}

/* Its head, and behind it one tile's worth of bytes to which all tiles point. */
static TIFF *open_made(made *m)
{
    sm_error err = SM_ERROR_INIT;
    sm_buf head = {0};
    const uint64_t tail = sm_bigtiff_head_bytes(m->tiff);
    for (uint32_t i = 0; i < m->plan.n_out; i++)
        for (uint64_t t = 0; t < sm_grid_tiles(m->plan.out[i].grid); t++)
            sm_bigtiff_place(m->tiff, i, t, tail, sizeof TABLES);
    SM_CHECK_OK(sm_bigtiff_render(m->tiff, &head, &err), &err);
    SM_CHECK_OK(sm_buf_append(&head, TABLES, sizeof TABLES, &err), &err);
    const sm_tmppath file = sm_tmpdir_file(&folder, "made.tif");
    sm_file_write(file.path, head.data, head.len);
    sm_buf_free(&head);
    complaint[0] = '\0';
    TIFF *tif = TIFFOpen(file.path, "r");
    check_no_complaint();
    assert_non_null(tif);
    return tif;
}

/* Until the next call. */
static const char *description_of(TIFF *tif)
{
    static char copy[8192];
    char *text = NULL;
    assert_int_equal(TIFFSetDirectory(tif, 0), 1);
    assert_int_equal(TIFFGetField(tif, TIFFTAG_IMAGEDESCRIPTION, &text), 1);
    const size_t n = strlen(text) + 1;
    assert_true(n <= sizeof copy);
    memcpy(copy, text, n);
    return copy;
}

static const sm_slide_info KNOWN = {.mpp_x = 0.499, .mpp_y = 0.4991, .objective = 20};
static const sm_slide_info UNKNOWN = {.mpp_x = 0};
static const sm_plan_options DYADIC = {.quality = 75, .levels = SM_LEVELS_DYADIC};

/* ---- structure ---- */

static void check_level(TIFF *tif, const sm_out_level *o, uint32_t i)
{
    static const uint32_t TAGS[] = {TIFFTAG_IMAGEWIDTH, TIFFTAG_IMAGELENGTH, TIFFTAG_TILEWIDTH,
                                    TIFFTAG_TILELENGTH, TIFFTAG_SUBFILETYPE};
    const uint32_t want[] = {o->w_px, o->h_px, o->tile_w_px, o->tile_h_px, i > 0};
    for (size_t k = 0; k < SM_COUNT(TAGS); k++) {
        uint32_t got = UINT32_MAX;
        if (TIFFGetField(tif, TAGS[k], &got) != 1 || got != want[k])
            fail_msg("directory %u: tag %u is %u, not %u", i, TAGS[k], got, want[k]);
    }
    uint16_t compression = 0, photometric = 0, samples = 0, h = 0, v = 0;
    TIFFGetField(tif, TIFFTAG_COMPRESSION, &compression);
    TIFFGetField(tif, TIFFTAG_PHOTOMETRIC, &photometric);
    TIFFGetField(tif, TIFFTAG_SAMPLESPERPIXEL, &samples);
    assert_int_equal(compression, o->compression);
    assert_int_equal(photometric, o->photometric);
    assert_int_equal(samples, 3);
    assert_int_equal(TIFFNumberOfTiles(tif), sm_grid_tiles(o->grid));
    if (o->photometric == PHOTOMETRIC_YCBCR) {
        TIFFGetField(tif, TIFFTAG_YCBCRSUBSAMPLING, &h, &v);
        assert_int_equal(h, o->h_samp);
        assert_int_equal(v, o->v_samp);
    }
    if (o->codec == SM_CODEC_JPEG) {
        uint32_t n = 0;
        const void *tables = NULL;
        assert_int_equal(TIFFGetField(tif, TIFFTAG_JPEGTABLES, &n, &tables), 1);
        assert_int_equal(n, sizeof TABLES);
        assert_memory_equal(tables, TABLES, n);
    } else if (o->predictor > 1) {
        uint16_t predictor = 0;
        TIFFGetField(tif, TIFFTAG_PREDICTOR, &predictor);
        assert_int_equal(predictor, o->predictor);
    }
}

static void every_level_is_a_directory_of_the_chain(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        sm_plan_options o;
    } cases[] = {
        {"copied JPEG, 4:2:0", {.quality = 75, .levels = SM_LEVELS_DYADIC}},
        {"transcoded JPEG, 4:2:2",
         {.quality = 75,
          .levels = SM_LEVELS_DYADIC,
          .tiles = SM_TILES_TRANSCODE,
          .subsampling = SM_SUBSAMPLING_422}},
        {"transcoded JPEG, 4:4:4",
         {.quality = 95, .levels = SM_LEVELS_DYADIC, .tiles = SM_TILES_TRANSCODE}},
        {"zstd", {.levels = SM_LEVELS_DYADIC, .codec = SM_CODEC_MODE_ZSTD}},
        {"deflate", {.levels = SM_LEVELS_DYADIC, .codec = SM_CODEC_MODE_DEFLATE}},
        {"LZW", {.levels = SM_LEVELS_DYADIC, .codec = SM_CODEC_MODE_LZW}},
        {"none", {.levels = SM_LEVELS_DYADIC, .codec = SM_CODEC_MODE_NONE}},
        {"one level", {.quality = 75, .levels = SM_LEVELS_SOURCE}},
    };
    for (int profile = SM_PROFILE_HYBRID; profile <= SM_PROFILE_GENERIC; profile++) {
        for (size_t k = 0; k < SM_COUNT(cases); k++) {
            made m = make((sm_profile)profile, &KNOWN, &cases[k].o);
            TIFF *tif = open_made(&m);
            for (uint32_t i = 0; i < m.plan.n_out; i++) {
                if (i > 0 && TIFFReadDirectory(tif) != 1)
                    fail_msg("%s: no directory %u", cases[k].name, i);
                check_level(tif, &m.plan.out[i], i);
            }
            assert_int_equal(TIFFReadDirectory(tif), 0);
            check_no_complaint();
            TIFFClose(tif);
            made_free(&m);
        }
    }
}

static void only_hybrid_has_the_levels_as_subdirectories_too(void **state)
{
    (void)state;
    for (int profile = SM_PROFILE_HYBRID; profile <= SM_PROFILE_GENERIC; profile++) {
        made m = make((sm_profile)profile, &KNOWN, &DYADIC);
        TIFF *tif = open_made(&m);
        uint16_t n = 0;
        const uint64_t *offsets = NULL;
        const int found = TIFFGetField(tif, TIFFTAG_SUBIFD, &n, &offsets);
        assert_int_equal(found, profile == SM_PROFILE_HYBRID);
        assert_int_equal(n, found ? m.plan.n_out - 1 : 0);
        uint64_t at[SM_MAX_LEVELS];
        if (found)
            memcpy(at, offsets, n * sizeof *at);
        for (uint16_t i = 0; i < n; i++) {
            assert_int_equal(TIFFSetSubDirectory(tif, at[i]), 1);
            check_level(tif, &m.plan.out[i + 1], i + 1u);
        }
        check_no_complaint();
        TIFFClose(tif);
        made_free(&m);
    }
}

static void one_level_has_no_subdirectories(void **state)
{
    (void)state;
    made m = make(SM_PROFILE_HYBRID, &KNOWN,
                  &(sm_plan_options){.quality = 75, .levels = SM_LEVELS_SOURCE});
    TIFF *tif = open_made(&m);
    uint16_t n = 0;
    const uint64_t *offsets = NULL;
    assert_int_equal(TIFFGetField(tif, TIFFTAG_SUBIFD, &n, &offsets), 0);
    TIFFClose(tif);
    made_free(&m);
}

static void the_icc_profile_is_in_every_directory(void **state)
{
    (void)state;
    uint8_t *icc = sm_bytes_make(3001, 9);
    sm_slide_info facts = KNOWN;
    facts.icc = icc;
    facts.icc_len = 3001;
    made m = make(SM_PROFILE_HYBRID, &facts, &DYADIC);
    TIFF *tif = open_made(&m);
    do {
        uint32_t n = 0;
        const void *got = NULL;
        assert_int_equal(TIFFGetField(tif, TIFFTAG_ICCPROFILE, &n, &got), 1);
        assert_int_equal(n, 3001);
        assert_memory_equal(got, icc, n);
    } while (TIFFReadDirectory(tif) == 1);
    check_no_complaint();
    TIFFClose(tif);
    made_free(&m);
    free(icc);
}

/* ---- resolution ---- */

static void resolution_is_that_of_each_level(void **state)
{
    (void)state;
    made m = make(SM_PROFILE_HYBRID, &KNOWN, &DYADIC);
    TIFF *tif = open_made(&m);
    for (uint32_t i = 0; i < m.plan.n_out; i++) {
        assert_int_equal(TIFFSetDirectory(tif, (tdir_t)i), 1);
        const sm_out_level *o = &m.plan.out[i];
        float x = 0, y = 0;
        uint16_t unit = 0;
        TIFFGetField(tif, TIFFTAG_XRESOLUTION, &x);
        TIFFGetField(tif, TIFFTAG_YRESOLUTION, &y);
        TIFFGetField(tif, TIFFTAG_RESOLUTIONUNIT, &unit);
        assert_int_equal(unit, RESUNIT_CENTIMETER);
        const double mpp_x = 1e4 / (double)x * o->w_px / 3000.0;
        const double mpp_y = 1e4 / (double)y * o->h_px / 2001.0;
        if (fabs(mpp_x - 0.499) > 1e-7 || fabs(mpp_y - 0.4991) > 1e-7) /* libtiff's are floats */
            fail_msg("level %u: %.9g x %.9g um", i, mpp_x, mpp_y);
    }
    TIFFClose(tif);
    made_free(&m);
}

static void unknown_resolution_is_not_made_up(void **state)
{
    (void)state;
    for (int profile = SM_PROFILE_HYBRID; profile <= SM_PROFILE_GENERIC; profile++) {
        made m = make((sm_profile)profile, &UNKNOWN, &DYADIC);
        TIFF *tif = open_made(&m);
        float x = 0;
        uint16_t unit = 0;
        assert_int_equal(TIFFGetField(tif, TIFFTAG_XRESOLUTION, &x), 0);
        assert_int_equal(TIFFGetField(tif, TIFFTAG_RESOLUTIONUNIT, &unit), 1);
        assert_int_equal(unit, RESUNIT_NONE);
        const char *text = description_of(tif);
        static const char *const NOT[] = {"MPP", "AppMag", "PhysicalSize", "Objective", "nan"};
        for (size_t i = 0; i < SM_COUNT(NOT); i++)
            if (strstr(text, NOT[i]) != NULL)
                fail_msg("%s in %s", NOT[i], text);
        check_no_complaint();
        TIFFClose(tif);
        made_free(&m);
    }
}

static double number_after(const char *text, const char *key)
{
    const char *at = strstr(text, key);
    if (at == NULL)
        fail_msg("no %s in %s", key, text);
    return strtod(at + strlen(key), NULL);
}

static void check_back(const char *what, double got, double want)
{
    if (!(fabs(got - want) <= 1e-9 * want))
        fail_msg("%s: %.15g instead of %.15g", what, got, want);
}

/* The rational of directory 0, from the bytes: libtiff has it as float only. */
static double resolution_in(const sm_buf *head, uint8_t tag)
{
    const uint8_t entry[] = {tag, 1, 5, 0, 1, 0, 0, 0, 0, 0, 0, 0}; /* RATIONAL, one */
    const uint8_t *at = memmem(head->data, head->len, entry, sizeof entry);
    assert_non_null(at);
    uint32_t fraction[2];
    for (size_t i = 0; i < 2; i++, at += 4)
        fraction[i] = (uint32_t)at[12] | (uint32_t)at[13] << 8 | (uint32_t)at[14] << 16 |
                      (uint32_t)at[15] << 24;
    return (double)fraction[0] / fraction[1];
}

static void mpp_and_magnification_come_back(void **state)
{
    (void)state;
    static const double MPP[] = {0.499,          0.2520,        0.25,         1e4 / 40000,
                                 1e4 / 20040.08, 0.12345678912, 1.0 / 3,      0.0101,
                                 99.9,           0.10000000049, 1.0000000049, 0.1234567899};
    sm_random r = {51};
    for (size_t k = 0; k < SM_COUNT(MPP) + 200; k++) {
        sm_slide_info facts = {.objective = 40};
        facts.mpp_x =
            k < SM_COUNT(MPP) ? MPP[k] : 0.01 * pow(1e4, sm_random_u32(&r) / 4294967296.0);
        facts.mpp_y = facts.mpp_x * 1.001;
        for (int profile = SM_PROFILE_HYBRID; profile <= SM_PROFILE_GENERIC; profile++) {
            sm_error err = SM_ERROR_INIT;
            sm_buf head = {0};
            made m = make((sm_profile)profile, &facts, &DYADIC);
            SM_CHECK_OK(sm_bigtiff_render(m.tiff, &head, &err), &err);
            check_back("x, tag 282", 1e4 / resolution_in(&head, 282 & 0xFF), facts.mpp_x);
            check_back("y, tag 283", 1e4 / resolution_in(&head, 283 & 0xFF), facts.mpp_y);
            sm_buf_free(&head);
            TIFF *tif = open_made(&m);
            const char *text = description_of(tif);
            if (profile == SM_PROFILE_HYBRID) {
                check_back("OME x", number_after(text, "PhysicalSizeX=\""), facts.mpp_x);
                check_back("OME y", number_after(text, "PhysicalSizeY=\""), facts.mpp_y);
                check_back("OME", number_after(text, "NominalMagnification=\""), 40);
            } else {
                check_back("MPP", number_after(text, "|MPP="), (facts.mpp_x + facts.mpp_y) / 2);
                check_back("AppMag", number_after(text, "|AppMag="), 40);
            }
            TIFFClose(tif);
            made_free(&m);
        }
    }
}

/* ---- descriptions ---- */

/* ASAP takes a generic pyramid only without the word; OpenSlide would look for Philips' XML. */
static void the_generic_description_has_no_xml_in_it(void **state)
{
    (void)state;
    made m = make(SM_PROFILE_GENERIC, &KNOWN, &DYADIC);
    sm_error err = SM_ERROR_INIT;
    sm_buf head = {0};
    SM_CHECK_OK(sm_bigtiff_render(m.tiff, &head, &err), &err);
    for (size_t i = 0; i + 3 <= head.len; i++)
        if (strncasecmp((const char *)head.data + i, "xml", 3) == 0)
            fail_msg("xml at byte %zu", i);
    sm_buf_free(&head);
    TIFF *tif = open_made(&m);
    const char *text = description_of(tif);
    assert_ptr_equal(strstr(text, "slidemill "), text);
    assert_null(strchr(text, '<'));
    assert_null(strstr(text, "Aperio"));
    TIFFClose(tif);
    made_free(&m);
}

/* Every tag that is opened is closed in turn, attributes are quoted, nothing is left over. */
static void check_well_formed(const char *xml)
{
    char open[16][64];
    size_t depth = 0, elements = 0;
    for (const char *at = xml; (at = strchr(at, '<')) != NULL;) {
        const char *end = strchr(at, '>');
        assert_non_null(end);
        unsigned quotes = 0;
        for (const char *c = at; c < end; c++)
            quotes += *c == '"';
        assert_int_equal(quotes % 2, 0);
        char name[64];
        const bool closes = at[1] == '/';
        const size_t n = strcspn(at + 1 + closes, " />");
        assert_true(n > 0 && n < sizeof name);
        memcpy(name, at + 1 + closes, n);
        name[n] = '\0';
        if (closes) {
            assert_true(depth > 0);
            assert_string_equal(open[--depth], name);
        } else if (end[-1] != '/' && name[0] != '?') {
            assert_true(depth < 16);
            memcpy(open[depth++], name, sizeof name);
            elements++;
        }
        at = end;
    }
    assert_int_equal(depth, 0);
    assert_true(elements > 3);
}

static void ome_xml_describes_one_rgb_image(void **state)
{
    (void)state;
    static const char *const WANT[] = {
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>",
        "xmlns=\"http://www.openmicroscopy.org/Schemas/OME/2016-06\"",
        "SizeX=\"3000\" SizeY=\"2001\" SizeZ=\"1\" SizeC=\"3\" SizeT=\"1\"",
        "Type=\"uint8\"",
        "DimensionOrder=\"XYCZT\"",
        "SamplesPerPixel=\"3\"",
        "<TiffData IFD=\"0\" PlaneCount=\"1\"/>",
        "PhysicalSizeXUnit=\"\xC2\xB5m\"",
        "PhysicalSizeYUnit=\"\xC2\xB5m\"",
        "<ObjectiveSettings ID=\"Objective:0\"/>",
    };
    static const sm_slide_info *const FACTS[] = {&KNOWN, &UNKNOWN};
    for (size_t k = 0; k < 2; k++) {
        made m = make(SM_PROFILE_HYBRID, FACTS[k], &DYADIC);
        TIFF *tif = open_made(&m);
        const char *text = description_of(tif);
        assert_ptr_equal(strstr(text, WANT[0]), text);
        assert_string_equal(text + strlen(text) - 6, "</OME>");
        check_well_formed(text);
        for (size_t i = 0; i < SM_COUNT(WANT) - 3 * k; i++)
            if (strstr(text, WANT[i]) == NULL)
                fail_msg("no %s in\n%s", WANT[i], text);
        TIFFClose(tif);
        made_free(&m);
    }
}

/* ---- provenance ---- */

static sm_provenance some_digests(char digit)
{
    sm_provenance p;
    sm_provenance_init(&p);
    memset(p.source_sha256, digit, 64);
    memset(p.data_xxh128, digit + 1, 32);
    memset(p.head_xxh128, digit + 2, 32);
    return p;
}

static void check_provenance(TIFF *tif, const sm_provenance *want)
{
    sm_provenance got;
    assert_true(sm_provenance_find(description_of(tif), &got));
    assert_string_equal(got.source_sha256, want->source_sha256);
    assert_string_equal(got.data_xxh128, want->data_xxh128);
    assert_string_equal(got.head_xxh128, want->head_xxh128);
}

static void digests_are_filled_in_without_moving_a_byte(void **state)
{
    (void)state;
    for (int profile = SM_PROFILE_HYBRID; profile <= SM_PROFILE_GENERIC; profile++) {
        sm_error err = SM_ERROR_INIT;
        sm_buf before = {0}, after = {0};
        sm_provenance zeros;
        sm_provenance_init(&zeros);
        assert_int_equal(strlen(zeros.source_sha256), 64);
        assert_int_equal(strlen(zeros.data_xxh128), 32);
        assert_int_equal(strlen(zeros.head_xxh128), 32);
        made m = make((sm_profile)profile, &KNOWN, &DYADIC);
        TIFF *tif = open_made(&m);
        check_provenance(tif, &zeros);
        TIFFClose(tif);
        SM_CHECK_OK(sm_bigtiff_render(m.tiff, &before, &err), &err);
        const sm_provenance p = some_digests('a');
        SM_CHECK_OK(
            sm_profile_describe((sm_profile)profile, &m.fake->slide, &m.plan, &p, m.tiff, &err),
            &err);
        SM_CHECK_OK(sm_bigtiff_render(m.tiff, &after, &err), &err);
        assert_int_equal(before.len, after.len);
        size_t changed = 0;
        for (size_t i = 0; i < before.len; i++)
            changed += before.data[i] != after.data[i];
        assert_int_equal(changed, 64 + 32 + 32);
        tif = open_made(&m);
        check_provenance(tif, &p);
        check_no_complaint();
        TIFFClose(tif);
        sm_buf_free(&before);
        sm_buf_free(&after);
        made_free(&m);
    }
}

static void strange_descriptions_have_no_provenance(void **state)
{
    (void)state;
#define HEX32 "0123456789abcdef0123456789abcdef"
    static const struct {
        const char *name, *text;
        bool found;
    } cases[] = {
        {"generic",
         "slidemill|source-sha256=" HEX32 HEX32 "|data-xxh128=" HEX32 "|head-xxh128=" HEX32, true},
        {"OME",
         "<M K=\"source-sha256\">" HEX32 HEX32 "</M><M K=\"data-xxh128\">" HEX32
         "</M><M K=\"head-xxh128\">" HEX32 "</M>",
         true},
        {"empty", "", false},
        {"of another program", "Aperio Image Library v11.2.1|AppMag = 20|MPP = 0.4990", false},
        {"one is missing", "source-sha256=" HEX32 HEX32 "|data-xxh128=" HEX32, false},
        {"too short", "source-sha256=" HEX32 "|data-xxh128=" HEX32 "|head-xxh128=" HEX32, false},
        {"too long", "source-sha256=" HEX32 HEX32 "|data-xxh128=" HEX32 HEX32 "|head-xxh128=" HEX32,
         false},
        {"capitals",
         "source-sha256=" HEX32 HEX32 "|data-xxh128=" HEX32
         "|head-xxh128=0123456789ABCDEF0123456789ABCDEF",
         false},
        {"cut", "source-sha256=" HEX32 HEX32 "|data-xxh128=" HEX32 "|head-xxh128", false},
        {"cut behind the sign", "source-sha256=", false},
    };
    for (size_t i = 0; i < SM_COUNT(cases); i++) {
        sm_provenance p;
        const size_t n = strlen(cases[i].text) + 1;
        char *exact = malloc(n); /* so that a sanitizer sees its end */
        assert_non_null(exact);
        memcpy(exact, cases[i].text, n);
        if (sm_provenance_find(exact, &p) != cases[i].found)
            fail_msg("%s", cases[i].name);
        free(exact);
    }
}

static void every_failed_allocation_is_reported(void **state)
{
    (void)state;
    for (int profile = SM_PROFILE_HYBRID; profile <= SM_PROFILE_GENERIC; profile++) {
        made m = make((sm_profile)profile, &KNOWN, &DYADIC);
        long n = 0;
        for (sm_status st = SM_ERR_NOMEM; st != SM_OK; n++) {
            sm_error err = SM_ERROR_INIT;
            sm_bigtiff *t = NULL;
            sm_alloc_fail_after(n);
            st = sm_profile_build((sm_profile)profile, &m.fake->slide, &m.plan, m.tables, &t, &err);
            sm_alloc_fail_after(-1);
            if (st != SM_OK)
                assert_true(st == SM_ERR_NOMEM && t == NULL);
            sm_bigtiff_free(&t);
        }
        assert_true(n > 20);
        made_free(&m);
    }
}

static int set_up(void **state)
{
    (void)state;
    folder = sm_tmpdir_make();
    TIFFSetWarningHandler(complain);
    TIFFSetErrorHandler(complain);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    sm_tmpdir_remove(&folder);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_level_is_a_directory_of_the_chain),
        cmocka_unit_test(only_hybrid_has_the_levels_as_subdirectories_too),
        cmocka_unit_test(one_level_has_no_subdirectories),
        cmocka_unit_test(the_icc_profile_is_in_every_directory),
        cmocka_unit_test(resolution_is_that_of_each_level),
        cmocka_unit_test(unknown_resolution_is_not_made_up),
        cmocka_unit_test(mpp_and_magnification_come_back),
        cmocka_unit_test(the_generic_description_has_no_xml_in_it),
        cmocka_unit_test(ome_xml_describes_one_rgb_image),
        cmocka_unit_test(digests_are_filled_in_without_moving_a_byte),
        cmocka_unit_test(strange_descriptions_have_no_provenance),
        cmocka_unit_test(every_failed_allocation_is_reported),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
