/* Tests of tiler/slide.c on real slides, and on the files that are meant to be broken.
 * ctest: labels=unit,corpus timeout=300 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <limits.h>
#include <math.h>
#include <openslide.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/buf.h"
#include "tests/support/check.h"
#include "tiler/slide.h"
#include "tiler/tiff_dirs.h"

#define SECONDS_A_FILE 10
#define MAX_RSS_KIB (1024l * 1024)

static char slides[PATH_MAX / 2];

typedef struct opened {
    sm_source *source;
    sm_slide *slide;
    const sm_slide_info *info;
} opened;

static sm_status open_slide(const char *name, opened *o, sm_error *err)
{
    char path[PATH_MAX];
    *o = (opened){0};
    snprintf(path, sizeof path, "%s/%s", slides, name);
    sm_status st = sm_source_open(path, &o->source, err);
    if (st == SM_OK)
        st = sm_slide_open(o->source, &o->slide, err);
    if (st == SM_OK)
        o->info = sm_slide_get_info(o->slide);
    else
        sm_source_close(&o->source);
    return st;
}

static void shut(opened *o)
{
    sm_slide_close(&o->slide);
    sm_source_close(&o->source);
}

typedef struct fact {
    const char *name, *reader, *vendor;
    uint32_t n_levels, w, h, tile, last_w;
    sm_codec codec;
    sm_colour colour;
    int h_samp, quality;
    double mpp, objective;
    size_t icc_len;
    uint32_t n_associated;
} fact;

#define J SM_CODEC_JPEG
#define R SM_CODEC_RENDERED
#define RGB SM_COLOUR_RGB
#define YCC SM_COLOUR_YCBCR

static const fact FACTS[] = {
    {"aperio/CMU-1-Small-Region.svs", "aperio", "aperio", 1, 2220, 2967, 240, 2220, J, RGB, 1, 30,
     0.499, 20, 0, 3},
    {"aperio/tcga-cr-7395-01a-01-ts1.svs", "openslide", "aperio", 2, 4443, 3567, 512, 2221, R, 0, 0,
     0, 0, 0, 3144, 1},
    {"hamamatsu/test3-DAPI-2-387.ndpi", "openslide", "hamamatsu", 7, 3968, 4864, 512, 62, R, 0, 0,
     0, 0.228175, 40, 0, 1},
    {"generic-tiff/CropBreastSlide-v2.tiff", "generic-tiff", "generic-tiff", 6, 2033, 1525, 256, 63,
     J, RGB, 1, 90, 0, 0, 0, 0},
    {"generic-tiff/BRACS_1640_N_3_cropped.tiff", "generic-tiff", "generic-tiff", 3, 650, 743, 256,
     162, SM_CODEC_NONE, 0, 0, 0, 0, 0, 0, 0},
    {"generic-tiff/CropBreastSlide-flat.tif", "generic-tiff", "generic-tiff", 1, 2033, 1525, 2033,
     2033, J, RGB, 1, 75, 0, 0, 0, 0},
    {"ome-tiff/OS-1-detail.ome.tif", "ome-tiff", "ome-tiff", 1, 1101, 1101, 512, 1101, J, YCC, 2,
     75, 0.2270972430394695, 0, 0, 0},
    {"ome-tiff/bfconvert-JPEG.ome.tiff", "ome-tiff", "ome-tiff", 1, 512, 512, 128, 512, J, YCC, 2,
     75, 0, 0, 0, 0},
    {"ome-tiff/bfconvert-zlib.ome.tiff", "ome-tiff", "ome-tiff", 1, 512, 512, 128, 512,
     SM_CODEC_DEFLATE, 0, 0, 0, 0, 0, 0, 0},
    {"derived/CMU-1-Small-Region.jpeg.tiff", "generic-tiff", "generic-tiff", 1, 2220, 2967, 256,
     2220, J, YCC, 2, 70, 0, 0, 0, 0},
    {"derived/CMU-1-Small-Region.webp.tiff", "openslide", "generic-tiff", 1, 2220, 2967, 512, 2220,
     R, 0, 0, 0, 0, 0, 0, 0},
};

static void check_fact(const fact *f)
{
    sm_error err = SM_ERROR_INIT;
    opened o;
    if (open_slide(f->name, &o, &err) != SM_OK)
        fail_msg("%s", err.message);
    const sm_level *base = sm_slide_level(o.slide, 0);
    const sm_level *last = sm_slide_level(o.slide, o.info->n_levels - 1);
    if (strcmp(o.info->reader, f->reader) != 0 || strcmp(o.info->vendor, f->vendor) != 0)
        fail_msg("%s: reader %s, vendor %s", f->name, o.info->reader, o.info->vendor);
    if (o.info->n_levels != f->n_levels || base->w_px != f->w || base->h_px != f->h ||
        base->tile_w_px != f->tile || last->w_px != f->last_w)
        fail_msg("%s: %u levels, %ux%u, tiles of %u, last of %u", f->name, o.info->n_levels,
                 base->w_px, base->h_px, base->tile_w_px, last->w_px);
    if (base->codec != f->codec ||
        (f->codec == J && (base->jpeg.colour != f->colour || base->jpeg.h_samp != f->h_samp ||
                           base->jpeg.quality != f->quality)))
        fail_msg("%s: codec %s, colour %d, quality %d", f->name, sm_codec_name(base->codec),
                 (int)base->jpeg.colour, base->jpeg.quality);
    if (fabs(o.info->mpp_x - f->mpp) > 1e-6 || fabs(o.info->objective - f->objective) > 1e-9)
        fail_msg("%s: MPP %.9g, objective %g", f->name, o.info->mpp_x, o.info->objective);
    if (o.info->icc_len != f->icc_len || o.info->n_associated != f->n_associated)
        fail_msg("%s: ICC of %zu bytes, %u associated images", f->name, o.info->icc_len,
                 o.info->n_associated);
    shut(&o);
}

static void real_slides_are_what_they_are(void **state)
{
    (void)state;
    for (size_t i = 0; i < SM_COUNT(FACTS); i++)
        check_fact(&FACTS[i]);
}

static void foreign_files_are_refused_in_one_clear_line(void **state)
{
    (void)state;
    static const struct {
        const char *name, *text;
    } cases[] = {
        {"negative/newCZI_compressed.czi", "neither a TIFF nor of a format OpenSlide knows"},
        {"negative/vsi-ets-test-jpg2k.vsi", "Olympus VSI"},
        {"README.md", "neither a TIFF"},
    };
    for (size_t i = 0; i < SM_COUNT(cases); i++) {
        sm_error err = SM_ERROR_INIT;
        opened o;
        SM_CHECK_FAILS(open_slide(cases[i].name, &o, &err), &err, SM_ERR_FORMAT, cases[i].text);
        assert_non_null(strstr(err.message, cases[i].name));
    }
}

/* ---- against OpenSlide itself ---- */

static openslide_t *open_reference(const char *name)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", slides, name);
    openslide_t *osr = openslide_open(path);
    assert_non_null(osr);
    assert_null(openslide_get_error(osr));
    return osr;
}

/* Largest difference of our RGB to OpenSlide's premultiplied ARGB over white. */
static int worst_difference(const uint8_t *rgb, const uint32_t *argb, size_t n_px)
{
    int worst = 0;
    for (size_t i = 0; i < 3 * n_px; i++) {
        const uint32_t p = argb[i / 3], want = (p >> (16 - 8 * (i % 3)) & 0xFF) + 255 - (p >> 24);
        const int d = (int)rgb[i] - (int)want;
        worst = abs(d) > worst ? abs(d) : worst;
    }
    return worst;
}

static void associated_images_have_the_colours_openslide_shows(void **state)
{
    (void)state;
    static const char *const names[] = {"aperio/CMU-1-Small-Region.svs",
                                        "aperio/tcga-cr-7395-01a-01-ts1.svs",
                                        "hamamatsu/test3-DAPI-2-387.ndpi"};
    unsigned compared = 0;
    for (size_t k = 0; k < SM_COUNT(names); k++) {
        sm_error err = SM_ERROR_INIT;
        opened o;
        SM_CHECK_OK(open_slide(names[k], &o, &err), &err);
        openslide_t *osr = open_reference(names[k]);
        for (uint32_t i = 0; i < o.info->n_associated; i++) {
            const sm_associated *image = &o.info->associated[i];
            const size_t n_px = (size_t)image->w_px * image->h_px;
            int64_t w = 0, h = 0;
            openslide_get_associated_image_dimensions(osr, image->name, &w, &h);
            assert_int_equal(w, image->w_px);
            assert_int_equal(h, image->h_px);
            uint8_t *rgb = sm_malloc_array(n_px, 3);
            uint32_t *argb = sm_malloc_array(n_px, 4);
            assert_true(rgb != NULL && argb != NULL);
            SM_CHECK_OK(sm_slide_associated(o.slide, i, rgb, &err), &err);
            openslide_read_associated_image(osr, image->name, argb);
            if (worst_difference(rgb, argb, n_px) > 2)
                fail_msg("%s, %s: differs by %d", names[k], image->name,
                         worst_difference(rgb, argb, n_px));
            free(rgb);
            free(argb);
            compared++;
        }
        openslide_close(osr);
        shut(&o);
    }
    assert_int_equal(compared, 5);
}

static void rendered_pixels_are_openslides(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        uint32_t level;
        sm_rect rect;
        int64_t x0, y0;
    } cases[] = {
        {"hamamatsu/test3-DAPI-2-387.ndpi", 0, {1024, 512, 700, 300}, 1024, 512},
        {"hamamatsu/test3-DAPI-2-387.ndpi", 3, {10, 20, 486, 588}, 80, 160},
        {"aperio/tcga-cr-7395-01a-01-ts1.svs", 1, {1024, 1536, 512, 247}, 2049, 3073},
    };
    for (size_t i = 0; i < SM_COUNT(cases); i++) {
        sm_error err = SM_ERROR_INIT;
        opened o;
        const sm_rect rect = cases[i].rect;
        const size_t n_px = (size_t)rect.w * rect.h, stride = 3 * (size_t)rect.w + 5;
        SM_CHECK_OK(open_slide(cases[i].name, &o, &err), &err);
        openslide_t *osr = open_reference(cases[i].name);
        uint8_t *rgb = sm_malloc_array(stride, rect.h), *tight = sm_malloc_array(n_px, 3);
        uint32_t *argb = sm_malloc_array(n_px, 4);
        assert_true(rgb != NULL && tight != NULL && argb != NULL);
        SM_CHECK_OK(sm_slide_render(o.slide, cases[i].level, rect, rgb, stride, &err), &err);
        for (uint32_t y = 0; y < rect.h; y++)
            memcpy(tight + 3 * (size_t)y * rect.w, rgb + y * stride, 3 * (size_t)rect.w);
        openslide_read_region(osr, argb, cases[i].x0, cases[i].y0, (int32_t)cases[i].level, rect.w,
                              rect.h);
        if (worst_difference(tight, argb, n_px) != 0)
            fail_msg("%s, level %u: differs by %d", cases[i].name, cases[i].level,
                     worst_difference(tight, argb, n_px));
        SM_CHECK_FAILS(
            sm_slide_render(o.slide, cases[i].level, (sm_rect){3968, 0, 1, 1}, rgb, stride, &err),
            &err, SM_ERR_ARG, "not inside level");
        free(rgb);
        free(tight);
        free(argb);
        openslide_close(osr);
        shut(&o);
    }
}

/* One tile that OpenSlide cannot decode must not spoil those after it. */
static void a_failed_rendering_leaves_the_others_alone(void **state)
{
    (void)state;
    sm_error err = SM_ERROR_INIT;
    opened o;
    char path[PATH_MAX], copy[] = "/tmp/sm-test-XXXXXX.svs";
    snprintf(path, sizeof path, "%s/aperio/tcga-cr-7395-01a-01-ts1.svs", slides);
    SM_CHECK_OK(sm_source_open(path, &o.source, &err), &err);
    const size_t len = (size_t)sm_source_size(o.source);
    uint8_t *bytes = sm_malloc_array(len, 1), *rgb = sm_malloc_array(768, 256);
    assert_true(bytes != NULL && rgb != NULL);
    SM_CHECK_OK(sm_source_pread(o.source, bytes, len, 0, &err), &err);
    sm_tiff *tiff = NULL; /* the sixth tile of level 0 */
    SM_CHECK_OK(sm_tiff_open(o.source, &tiff, &err), &err);
    memset(bytes + sm_tiff_dir_at(tiff, 0)->offsets[5], 0, 64);
    sm_tiff_close(&tiff);
    sm_source_close(&o.source);
    const int fd = mkstemps(copy, 4);
    assert_true(fd >= 0 && write(fd, bytes, len) == (ssize_t)len && close(fd) == 0);

    SM_CHECK_OK(sm_source_open(copy, &o.source, &err), &err);
    SM_CHECK_OK(sm_slide_open(o.source, &o.slide, &err), &err);
    for (int i = 0; i < 3; i++) {
        SM_CHECK_FAILS(sm_slide_render(o.slide, 0, (sm_rect){1280, 0, 256, 256}, rgb, 768, &err),
                       &err, SM_ERR_CORRUPT, "OpenSlide: ");
        SM_CHECK_OK(sm_slide_render(o.slide, 0, (sm_rect){512, 512, 256, 256}, rgb, 768, &err),
                    &err);
    }
    shut(&o);
    (void)unlink(copy);
    free(bytes);
    free(rgb);
}

/* ---- broken files ---- */

/* In the child: open, look at every tile's place. 0: a slide, 1: refused properly, 2: neither. */
static int open_hostile(const char *path)
{
    sm_error err = SM_ERROR_INIT;
    sm_source *source = NULL;
    sm_slide *slide = NULL;
    sm_status st = sm_source_open(path, &source, &err);
    if (st == SM_OK)
        st = sm_slide_open(source, &slide, &err);
    if (st != SM_OK) {
        const bool input = st == SM_ERR_FORMAT || st == SM_ERR_CORRUPT || st == SM_ERR_LIMIT;
        sm_source_close(&source);
        return input && slide == NULL && strncmp(err.message, path, strlen(path)) == 0 &&
                       strchr(err.message, '\n') == NULL
                   ? 1
                   : 2;
    }
    bool sane = true;
    for (uint32_t i = 0; i < sm_slide_get_info(slide)->n_levels; i++) {
        const sm_level *level = sm_slide_level(slide, i);
        const uint64_t n =
            (uint64_t)level->cols * level->rows * (level->planar ? level->samples : 1u);
        sane &= n > 0 && (level->lens != NULL) == (level->codec != SM_CODEC_RENDERED);
        for (uint64_t k = 0; level->lens != NULL && k < n; k++)
            sane &= level->offsets[k] + level->lens[k] <= sm_source_size(source);
    }
    sm_slide_close(&slide);
    sm_source_close(&source);
    return sane ? 0 : 2;
}

typedef struct tally {
    unsigned files, slides, bad;
} tally;

static void try_hostile(const char *path, tally *t)
{
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        (void)alarm(SECONDS_A_FILE);
        _exit(open_hostile(path));
    }
    int status = 0;
    struct rusage usage;
    assert_int_equal(wait4(child, &status, 0, &usage), child);
    const int code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    t->files++;
    t->slides += code == 0;
    if ((code != 0 && code != 1) || usage.ru_maxrss > MAX_RSS_KIB) {
        print_error("%s: exit code %d, signal %d, %ld KiB\n", path, code,
                    WIFSIGNALED(status) ? WTERMSIG(status) : 0, usage.ru_maxrss);
        t->bad++;
    }
}

static void try_folder(const char *folder, tally *t)
{
    DIR *dir = opendir(folder);
    if (dir == NULL)
        fail_msg("%s cannot be listed", folder);
    for (const struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        char path[PATH_MAX];
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        if (entry->d_type == DT_DIR)
            try_folder(path, t);
        else
            try_hostile(path, t);
    }
    closedir(dir);
}

static void broken_files_end_in_one_clear_line(void **state)
{
    (void)state;
    char folder[PATH_MAX];
    tally t = {0};
    snprintf(folder, sizeof folder, "%s/malformed", slides);
    try_folder(folder, &t);
    print_message("%u files, %u of them slides\n", t.files, t.slides);
    assert_true(t.files > 1000 && t.slides > 50 && t.slides < t.files / 2);
    assert_int_equal(t.bad, 0);
}

int main(void)
{
    const char *given = getenv("SLIDEMILL_SLIDES"), *source = getenv("SLIDEMILL_SOURCE_DIR");
    if (given != NULL)
        snprintf(slides, sizeof slides, "%s", given);
    else
        snprintf(slides, sizeof slides, "%s/../shared/slides", source != NULL ? source : ".");
    if (access(slides, R_OK) != 0) {
        printf("skipped: no slides\n");
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(real_slides_are_what_they_are),
        cmocka_unit_test(foreign_files_are_refused_in_one_clear_line),
        cmocka_unit_test(associated_images_have_the_colours_openslide_shows),
        cmocka_unit_test(rendered_pixels_are_openslides),
        cmocka_unit_test(a_failed_rendering_leaves_the_others_alone),
        cmocka_unit_test(broken_files_end_in_one_clear_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
