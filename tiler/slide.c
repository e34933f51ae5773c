/* Recognises a slide and opens it with the first reader of the registry that takes it.
 * Owns sm_slide; what the levels point to belongs to it or to its sm_tiff. */
#include "tiler/slide.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/buf.h"
#include "tiler/slide_internal.h"

/* Asked in this order. OpenSlide takes what the others do not read. */
static const sm_slide_reader *const READERS[] = {
    &sm_reader_aperio,
    &sm_reader_ome,
    &sm_reader_generic,
    &sm_reader_openslide,
};

const char *sm_codec_name(sm_codec codec)
{
    switch (codec) {
    case SM_CODEC_NONE:
        return "none";
    case SM_CODEC_LZW:
        return "lzw";
    case SM_CODEC_DEFLATE:
        return "deflate";
    case SM_CODEC_ZSTD:
        return "zstd";
    case SM_CODEC_JPEG:
        return "jpeg";
    case SM_CODEC_RENDERED:
        return "rendered";
    }
    return "unknown";
}

sm_status sm_slide_own(sm_slide *slide, void *array, sm_error *err)
{
    if (array == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "out of memory");
    if (slide->n_owned == SM_COUNT(slide->owned)) {
        free(array);
        return sm_fail(err, SM_ERR_INTERNAL, "too many arrays of a slide");
    }
    slide->owned[slide->n_owned++] = array;
    return SM_OK;
}

/* Forget what a reader that gave up has set. */
static void reset(sm_slide *slide)
{
    if (slide->reader != NULL && slide->reader->close != NULL)
        slide->reader->close(slide);
    for (uint32_t i = 0; i < slide->n_owned; i++)
        free(slide->owned[i]);
    slide->n_owned = 0;
    slide->reader = NULL;
    slide->state = NULL;
    slide->info = (sm_slide_info){.background = {255, 255, 255}};
    memset(slide->levels, 0, sizeof slide->levels);
}

/* Of several refusals the most useful one: of the first reader that knows the kind of file, and
 * what OpenSlide says besides. */
static void note_reason(const sm_slide_reader *reader, bool recognises, bool *recognised,
                        sm_error *reason, const sm_error *err)
{
    const bool last = reader == &sm_reader_openslide;
    if (!*recognised && (recognises || !last))
        *reason = *err;
    else if (recognises && last)
        (void)sm_fail(reason, SM_ERR_FORMAT, "%s; %s", reason->message, err->message);
    *recognised |= recognises;
}

/* The registry one by one; reason is what to say when nobody takes the slide. */
static sm_status ask_readers(sm_slide *slide, sm_error *reason, sm_error *err)
{
    bool recognised = false;
    for (size_t i = 0; i < SM_COUNT(READERS); i++) {
        reset(slide);
        slide->reader = READERS[i];
        slide->info.reader = READERS[i]->name;
        slide->recognised = slide->refused = false;
        const sm_status st = READERS[i]->open(slide, err);
        if (st != SM_ERR_FORMAT)
            return st;
        note_reason(READERS[i], slide->recognised, &recognised, reason, err);
        if (slide->refused)
            break;
    }
    return SM_ERR_FORMAT;
}

/* Directories, if it is a TIFF. A TIFF that libtiff cannot walk may still be one that only
 * OpenSlide understands (NDPI beyond 4 GiB), but not one of those that slidemill reads itself. */
static sm_status read_directories(sm_slide *slide, sm_error *err)
{
    const sm_status st = sm_tiff_open(slide->source, &slide->tiff, err);
    if (st == SM_OK || st == SM_ERR_FORMAT)
        return SM_OK;
    if (st != SM_ERR_CORRUPT && st != SM_ERR_LIMIT)
        return st;
    const char *vendor = sm_openslide_vendor(slide->source);
    if (vendor == NULL || strcmp(vendor, "aperio") == 0 || strcmp(vendor, "generic-tiff") == 0)
        return st;
    slide->tiff_broken = true;
    return SM_OK;
}

/* Put the path in front of a message, unless whoever wrote it did so already. */
static void name_file(const sm_slide *slide, sm_error *err)
{
    const char *path = sm_source_path(slide->source);
    const size_t len = strlen(path);
    if (strncmp(err->message, path, len) != 0 || err->message[len] != ':')
        sm_error_prefix(err, "%s", path);
}

sm_status sm_slide_open(const sm_source *source, sm_slide **slide, sm_error *err)
{
    sm_error reason = SM_ERROR_INIT;
    *slide = NULL;
    sm_slide *s = sm_calloc(1, sizeof *s);
    if (s == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "%s: out of memory", sm_source_path(source));
    s->source = source;
    sm_status st = read_directories(s, err);
    if (st == SM_OK)
        st = ask_readers(s, &reason, err);
    if (st == SM_OK) {
        *slide = s;
        return SM_OK;
    }
    if (st == SM_ERR_FORMAT)
        (void)sm_fail(err, SM_ERR_FORMAT, "not a slide slidemill reads (%s)", reason.message);
    name_file(s, err);
    sm_slide_close(&s);
    return st;
}

void sm_slide_close(sm_slide **slide)
{
    sm_slide *s = *slide;
    *slide = NULL;
    if (s == NULL)
        return;
    reset(s);
    sm_tiff_close(&s->tiff);
    free(s);
}

const sm_slide_info *sm_slide_get_info(const sm_slide *slide)
{
    return &slide->info;
}

const sm_source *sm_slide_source(const sm_slide *slide)
{
    return slide->source;
}

const sm_level *sm_slide_level(const sm_slide *slide, uint32_t level)
{
    return level < slide->info.n_levels ? &slide->levels[level] : NULL;
}

static bool rect_inside(const sm_level *level, sm_rect rect)
{
    return (uint64_t)rect.x + rect.w <= level->w_px && (uint64_t)rect.y + rect.h <= level->h_px &&
           rect.w > 0 && rect.h > 0;
}

sm_status sm_slide_render(const sm_slide *slide, uint32_t level, sm_rect rect, uint8_t *rgb,
                          size_t stride, sm_error *err)
{
    if (level >= slide->info.n_levels || slide->reader->render == NULL)
        return sm_fail(err, SM_ERR_ARG, "level %" PRIu32 " is not a rendered one", level);
    const sm_level *l = &slide->levels[level];
    if (!rect_inside(l, rect) || stride < 3 * (size_t)rect.w)
        return sm_fail(err, SM_ERR_ARG,
                       "%" PRIu32 "x%" PRIu32 " pixels at %" PRIu32 ",%" PRIu32
                       " are not inside level %" PRIu32 " of %" PRIu32 "x%" PRIu32,
                       rect.w, rect.h, rect.x, rect.y, level, l->w_px, l->h_px);
    return slide->reader->render(slide, level, rect, rgb, stride, err);
}

sm_status sm_slide_associated(const sm_slide *slide, uint32_t i, uint8_t *rgb, sm_error *err)
{
    if (i >= slide->info.n_associated || slide->reader->associated == NULL)
        return sm_fail(err, SM_ERR_ARG, "the slide has no associated image %" PRIu32, i);
    const sm_status st = slide->reader->associated(slide, i, rgb, err);
    if (st != SM_OK) {
        sm_error_prefix(err, "associated image \"%s\"", slide->info.associated[i].name);
        name_file(slide, err);
    }
    return st;
}
