/* slidemill info: what a slide holds, as slidemill reads it: for a person, or as JSON Lines (one
 * object a FILE; docs/formats.md "JSON of info" has the keys). */
#include <cjson/cJSON.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/buf.h"
#include "common/opts.h"
#include "common/progress.h"
#include "common/text.h"
#include "tiler/slide.h"
#include "tiler/versions.h"

#define MAX_FILES 4096

typedef struct config {
    bool json;
} config;

static const sm_opt OPTIONS[] = {
    {"json", SM_OPT_FLAG, offsetof(config, json), 0, 0, NULL, NULL,
     "Print one JSON object a line for each file."},
};

static const char *const OPERANDS[] = {"FILE"};

static const sm_command COMMAND = {
    .name = "info",
    .summary = "show what a slide holds: levels, tiles, codec, scale",
    .synopsis = "[options] FILE...",
    .description =
        "Prints, for each slide, who wrote it and which reader takes it, its size, scale "
        "(micrometres per pixel), objective, colour profile and background; its levels with their "
        "tile grid, how many tiles miss, and the codec as the codestream says; its associated "
        "images (label, macro, thumbnail).\n"
        "\n"
        "Where tags and codestream disagree a note says so: slidemill believes the codestream. "
        "Only directories and the heads of a few tiles are read.",
    .examples = "slidemill info slide.svs\n    for a person\n"
                "slidemill info --json *.svs | jq -r '[.file, .mpp_x] | @tsv'\n    for a program\n",
    .exit_status =
        "0  every file is a slide slidemill reads\n"
        "2  wrong command line, or a file that is not there\n"
        "65 a file is not a slide, or is corrupt (of several, the first failure counts)\n"
        "74 a file cannot be read, or the output not written\n",
    .opts = OPTIONS,
    .n_opts = SM_COUNT(OPTIONS),
    .min_operands = 1,
    .max_operands = MAX_FILES,
    .operand_names = OPERANDS,
};

/* ---- words ---- */

static const char *colour_name(sm_colour colour)
{
    switch (colour) {
    case SM_COLOUR_RGB:
        return "RGB";
    case SM_COLOUR_YCBCR:
        return "YCbCr";
    case SM_COLOUR_GREY:
        return "grey";
    }
    return "unknown";
}

static const char *subsampling_name(unsigned h, unsigned v)
{
    static const struct {
        unsigned h, v;
        const char *name;
    } names[] = {
        {1, 1, "4:4:4"}, {2, 1, "4:2:2"}, {2, 2, "4:2:0"},
        {1, 2, "4:4:0"}, {4, 1, "4:1:1"}, {4, 2, "4:1:0"},
    };
    for (size_t i = 0; i < SM_COUNT(names); i++) {
        if (names[i].h == h && names[i].v == v)
            return names[i].name;
    }
    return "unusual subsampling";
}

/* "JPEG RGB 4:4:4 Q30", "deflate", "rendered" */
static void describe_codec(const sm_level *level, char out[64])
{
    if (level->codec != SM_CODEC_JPEG) {
        (void)snprintf(out, 64, "%s%s", sm_codec_name(level->codec),
                       level->samples == 1   ? " grey"
                       : level->samples == 4 ? " RGBA"
                                             : "");
        return;
    }
    char quality[16] = "";
    if (level->jpeg.quality > 0)
        (void)snprintf(quality, sizeof quality, " Q%d", level->jpeg.quality);
    (void)snprintf(out, 64, "JPEG %s%s%s%s%s", colour_name(level->jpeg.colour),
                   level->jpeg.n_components == 3 ? " " : "",
                   level->jpeg.n_components == 3
                       ? subsampling_name(level->jpeg.h_samp, level->jpeg.v_samp)
                       : "",
                   quality, level->jpeg.plain ? "" : " (not baseline)");
}

/* ---- facts ---- */

static uint64_t count_tiles(const sm_level *level)
{
    return (uint64_t)level->cols * level->rows;
}

static uint64_t sum_bytes(const sm_level *level)
{
    const uint64_t n = count_tiles(level) * (level->planar ? level->samples : 1);
    uint64_t sum = 0;
    for (uint64_t i = 0; level->lens != NULL && i < n; i++) {
        if (!sm_add_u64(sum, level->lens[i], &sum))
            return UINT64_MAX; /* tiles that share bytes can add up to anything */
    }
    return sum;
}

#define NOTE_CAP 160
#define NOTES_A_LEVEL 3

/* Notes on one level into notes; returns how many. */
static unsigned find_notes(const sm_level *level, uint32_t number,
                           char notes[NOTES_A_LEVEL][NOTE_CAP])
{
    unsigned n = 0;
    const bool three = level->codec == SM_CODEC_JPEG && level->jpeg.n_components == 3;
    const bool tag_rgb = level->photometric == 2;
    if (three && (tag_rgb || level->photometric == 6) &&
        tag_rgb != (level->jpeg.colour == SM_COLOUR_RGB))
        (void)snprintf(notes[n++], NOTE_CAP,
                       "level %" PRIu32 ": the photometric tag says %s, the codestream %s", number,
                       tag_rgb ? "RGB" : "YCbCr", colour_name(level->jpeg.colour));
    if (three && level->tag_h_samp != 0 &&
        (level->tag_h_samp != level->jpeg.h_samp || level->tag_v_samp != level->jpeg.v_samp))
        (void)snprintf(notes[n++], NOTE_CAP,
                       "level %" PRIu32 ": tag 530 says %s, the codestream %s", number,
                       subsampling_name(level->tag_h_samp, level->tag_v_samp),
                       subsampling_name(level->jpeg.h_samp, level->jpeg.v_samp));
    if (level->n_missing > 0)
        (void)snprintf(notes[n++], NOTE_CAP,
                       "level %" PRIu32 ": %" PRIu64 " of %" PRIu64 " tiles have no bytes", number,
                       level->n_missing, count_tiles(level));
    return n;
}

/* ---- for a person ---- */

static void print_scale(const sm_slide_info *info)
{
    if (info->mpp_x > 0)
        printf("  scale       %.6g x %.6g um per pixel\n", info->mpp_x, info->mpp_y);
    else
        printf("  scale       unknown\n");
    if (info->objective > 0)
        printf("  objective   %.6gx\n", info->objective);
    else
        printf("  objective   unknown\n");
    if (info->icc_len > 0)
        printf("  ICC profile %zu bytes\n", info->icc_len);
    else
        printf("  ICC profile none\n");
    printf("  background  #%02x%02x%02x\n", (unsigned)info->background[0],
           (unsigned)info->background[1], (unsigned)info->background[2]);
}

static void print_levels(const sm_slide *slide)
{
    printf("  %-5s  %-15s  %10s  %-14s  %-11s  %10s  %8s  %s\n", "level", "pixels", "downsample",
           "tile", "grid", "missing", "bytes", "codec");
    for (uint32_t i = 0; i < sm_slide_get_info(slide)->n_levels; i++) {
        const sm_level *level = sm_slide_level(slide, i);
        char pixels[32], tile[32], grid[32], codec[64], bytes[16] = "-";
        (void)snprintf(pixels, sizeof pixels, "%" PRIu32 "x%" PRIu32, level->w_px, level->h_px);
        (void)snprintf(tile, sizeof tile, "%" PRIu32 "x%" PRIu32 "%s", level->tile_w_px,
                       level->tile_h_px, level->tiled ? "" : " strip");
        (void)snprintf(grid, sizeof grid, "%" PRIu32 "x%" PRIu32, level->cols, level->rows);
        describe_codec(level, codec);
        if (level->lens != NULL)
            (void)sm_human_bytes(sum_bytes(level), bytes);
        printf("  %-5" PRIu32 "  %-15s  %10.6g  %-14s  %-11s  %10" PRIu64 "  %8s  %s\n", i, pixels,
               level->downsample, tile, grid, level->n_missing, bytes, codec);
    }
}

static void print_rest(const sm_slide *slide)
{
    const sm_slide_info *info = sm_slide_get_info(slide);
    char notes[NOTES_A_LEVEL][NOTE_CAP];
    for (uint32_t i = 0; i < info->n_associated; i++) {
        const sm_associated *image = &info->associated[i];
        printf("  associated  %s, %" PRIu32 "x%" PRIu32 ", %s\n", image->name, image->w_px,
               image->h_px, image->codec);
    }
    for (uint32_t i = 0; i < info->n_levels; i++) {
        const unsigned n = find_notes(sm_slide_level(slide, i), i, notes);
        for (unsigned k = 0; k < n; k++)
            printf("  note        %s\n", notes[k]);
    }
}

/* after: something stands above already. */
static sm_status print_text(const sm_slide *slide, bool after, sm_buf *scratch, sm_error *err)
{
    const sm_slide_info *info = sm_slide_get_info(slide);
    const sm_source *source = sm_slide_source(slide);
    const sm_level *base = sm_slide_level(slide, 0);
    char size[16];
    const sm_status st = sm_text_clean(sm_source_path(source), true, scratch, err);
    if (st != SM_OK)
        return st;
    printf("%s%s\n", after ? "\n" : "", (const char *)scratch->data);
    printf("  vendor      %s\n", info->vendor);
    printf("  reader      %s\n", info->reader);
    printf("  file        %s%s%s\n", sm_human_bytes(sm_source_size(source), size),
           info->bigtiff ? ", BigTIFF" : "", info->big_endian ? ", big-endian" : "");
    printf("  size        %" PRIu32 " x %" PRIu32 " pixels\n", base->w_px, base->h_px);
    print_scale(info);
    print_levels(slide);
    print_rest(slide);
    return SM_OK;
}

/* ---- for a program ---- */

/* Adding to a cJSON object returns NULL when out of memory; one flag collects that. */
typedef struct json {
    cJSON *object;
    bool failed;
} json;

static void put_text(json *j, const char *key, const char *value)
{
    j->failed |= cJSON_AddStringToObject(j->object, key, value) == NULL;
}

static void put_number(json *j, const char *key, double value)
{
    j->failed |= cJSON_AddNumberToObject(j->object, key, value) == NULL;
}

/* 0 means unknown here */
static void put_known(json *j, const char *key, double value)
{
    if (value > 0)
        put_number(j, key, value);
    else
        j->failed |= cJSON_AddNullToObject(j->object, key) == NULL;
}

static void put_bool(json *j, const char *key, bool value)
{
    j->failed |= cJSON_AddBoolToObject(j->object, key, value) == NULL;
}

static json put_object(json *j, const char *key)
{
    json child = {.object = cJSON_AddObjectToObject(j->object, key)};
    child.failed = child.object == NULL;
    return child;
}

/* A new object at the end of an array. */
static json append_object(cJSON *array)
{
    json child = {.object = cJSON_CreateObject()};
    if (child.object == NULL || !cJSON_AddItemToArray(array, child.object)) {
        cJSON_Delete(child.object);
        child.object = NULL;
        child.failed = true;
    }
    return child;
}

static void put_jpeg(json *j, const sm_level *level)
{
    if (level->codec != SM_CODEC_JPEG) {
        j->failed |= cJSON_AddNullToObject(j->object, "jpeg") == NULL;
        return;
    }
    const sm_jpeg_traits *traits = &level->jpeg;
    json jpeg = put_object(j, "jpeg");
    put_text(&jpeg, "colour",
             traits->colour == SM_COLOUR_RGB     ? "rgb"
             : traits->colour == SM_COLOUR_YCBCR ? "ycbcr"
                                                 : "grey");
    put_text(&jpeg, "subsampling", subsampling_name(traits->h_samp, traits->v_samp));
    put_known(&jpeg, "quality", traits->quality);
    put_bool(&jpeg, "plain", traits->plain);
    j->failed |= jpeg.failed;
}

static bool append_level(cJSON *array, const sm_level *level)
{
    json j = append_object(array);
    put_number(&j, "width_px", level->w_px);
    put_number(&j, "height_px", level->h_px);
    put_number(&j, "downsample", level->downsample);
    put_bool(&j, "tiled", level->tiled);
    put_number(&j, "tile_width_px", level->tile_w_px);
    put_number(&j, "tile_height_px", level->tile_h_px);
    put_number(&j, "columns", level->cols);
    put_number(&j, "rows", level->rows);
    put_text(&j, "codec", sm_codec_name(level->codec));
    put_number(&j, "compression", level->compression);
    put_number(&j, "photometric", level->photometric);
    put_number(&j, "predictor", level->predictor);
    put_number(&j, "samples", level->samples);
    put_bool(&j, "planar", level->planar);
    put_jpeg(&j, level);
    put_number(&j, "tiles", (double)count_tiles(level));
    put_number(&j, "missing", (double)level->n_missing);
    if (level->lens != NULL)
        put_number(&j, "bytes", (double)sum_bytes(level));
    else
        j.failed |= cJSON_AddNullToObject(j.object, "bytes") == NULL;
    return !j.failed;
}

static void put_info(json *j, const sm_slide *slide)
{
    const sm_slide_info *info = sm_slide_get_info(slide);
    const sm_level *base = sm_slide_level(slide, 0);
    char background[8];
    (void)snprintf(background, sizeof background, "%02x%02x%02x", (unsigned)info->background[0],
                   (unsigned)info->background[1], (unsigned)info->background[2]);
    put_number(j, "size_bytes", (double)sm_source_size(sm_slide_source(slide)));
    put_text(j, "reader", info->reader);
    put_text(j, "vendor", info->vendor);
    put_number(j, "width_px", base->w_px);
    put_number(j, "height_px", base->h_px);
    put_known(j, "mpp_x", info->mpp_x);
    put_known(j, "mpp_y", info->mpp_y);
    put_known(j, "objective", info->objective);
    put_number(j, "icc_bytes", (double)info->icc_len);
    put_text(j, "background", background);
    put_bool(j, "bigtiff", info->bigtiff);
    put_bool(j, "big_endian", info->big_endian);
}

static void put_associated(json *j, const sm_slide_info *info)
{
    cJSON *array = cJSON_AddArrayToObject(j->object, "associated");
    for (uint32_t i = 0; i < info->n_associated; i++) {
        json image = append_object(array);
        put_text(&image, "name", info->associated[i].name);
        put_number(&image, "width_px", info->associated[i].w_px);
        put_number(&image, "height_px", info->associated[i].h_px);
        put_text(&image, "codec", info->associated[i].codec);
        j->failed |= image.failed;
    }
    j->failed |= array == NULL;
}

static void put_notes(json *j, const sm_slide *slide)
{
    cJSON *array = cJSON_AddArrayToObject(j->object, "notes");
    char notes[NOTES_A_LEVEL][NOTE_CAP];
    for (uint32_t i = 0; i < sm_slide_get_info(slide)->n_levels; i++) {
        const unsigned n = find_notes(sm_slide_level(slide, i), i, notes);
        for (unsigned k = 0; k < n; k++) {
            cJSON *note = cJSON_CreateString(notes[k]);
            if (note == NULL || !cJSON_AddItemToArray(array, note)) {
                cJSON_Delete(note);
                j->failed = true;
            }
        }
    }
    j->failed |= array == NULL;
}

/* slide NULL: failure says why. */
static sm_status print_json(const char *path, const sm_slide *slide, const sm_error *failure,
                            sm_buf *scratch, sm_error *err)
{
    sm_status st = sm_text_clean(path, false, scratch, err);
    if (st != SM_OK)
        return st;
    json j = {.object = cJSON_CreateObject()};
    j.failed = j.object == NULL;
    put_text(&j, "file", (const char *)scratch->data);
    put_bool(&j, "ok", slide != NULL);
    if (slide != NULL) {
        put_info(&j, slide);
        cJSON *levels = cJSON_AddArrayToObject(j.object, "levels");
        j.failed |= levels == NULL;
        for (uint32_t i = 0; i < sm_slide_get_info(slide)->n_levels; i++)
            j.failed |= !append_level(levels, sm_slide_level(slide, i));
        put_associated(&j, sm_slide_get_info(slide));
        put_notes(&j, slide);
    } else {
        st = sm_text_clean(failure->message, false, scratch, err);
        put_text(&j, "status", sm_status_name(failure->status));
        put_text(&j, "message", st == SM_OK ? (const char *)scratch->data : "");
    }
    char *text = j.failed ? NULL : cJSON_PrintUnformatted(j.object);
    cJSON_Delete(j.object);
    if (text == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "%s: out of memory for JSON", path);
    printf("%s\n", text);
    cJSON_free(text);
    return st;
}

/* ---- command ---- */

static sm_status show(const char *path, const config *cfg, bool *after, sm_buf *scratch,
                      sm_error *err)
{
    sm_source *source = NULL;
    sm_slide *slide = NULL;
    sm_error second = SM_ERROR_INIT;
    sm_status st = sm_source_open(path, &source, err);
    if (st == SM_OK)
        st = sm_slide_open(source, &slide, err);
    if (cfg->json) {
        const sm_status printed = print_json(path, slide, err, scratch, &second);
        if (st == SM_OK && printed != SM_OK) {
            *err = second;
            st = printed;
        }
    } else if (st == SM_OK) {
        st = print_text(slide, *after, scratch, err);
        *after = true;
    }
    sm_slide_close(&slide);
    sm_source_close(&source);
    return st;
}

int main(int argc, char **argv)
{
    config cfg = {0};
    const char *files[MAX_FILES];
    unsigned n = 0;
    int code = 0;
    if (!sm_opts_start(&COMMAND, argc, argv, &cfg, files, &n, sm_library_versions(), &code))
        return code;
    sm_buf scratch = {0};
    bool after = false;
    for (unsigned i = 0; i < n; i++) {
        sm_error err = SM_ERROR_INIT;
        const sm_status st = show(files[i], &cfg, &after, &scratch, &err);
        if (st == SM_OK)
            continue;
        (void)fflush(stdout);
        (void)fprintf(stderr, "slidemill info: %s\n", err.message);
        code = code == 0 ? sm_exit_code(st) : code;
    }
    sm_buf_free(&scratch);
    if (fflush(stdout) != 0 || ferror(stdout)) {
        (void)fprintf(stderr, "slidemill info: the output cannot be written\n");
        return sm_exit_code(SM_ERR_IO);
    }
    return code;
}
