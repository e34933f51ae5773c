/* Reader of Aperio SVS (and its look-alikes) whose levels slidemill decodes itself; JPEG 2000 ones
 * are left to OpenSlide. Owns nothing beyond what slide_tiff.c keeps.
 * Source: OpenSlide's description of the format (docs/formats.md, "Aperio SVS"). */
#include <string.h>

#include "common/buf.h"
#include "tiler/slide_internal.h"

/* Value of "Key = value" in a description whose fields are parted by '|'; the last one counts, as
 * in OpenSlide (a re-exported slide carries the older header too). NULL if absent. */
static const char *find_key(const char *description, const char *key)
{
    const char *found = NULL;
    const size_t len = strlen(key);
    for (const char *bar = strchr(description, '|'); bar != NULL; bar = strchr(bar + 1, '|')) {
        const char *p = bar + 1;
        p += strspn(p, " \t\r\n");
        if (strncmp(p, key, len) != 0)
            continue;
        p += len;
        p += strspn(p, " \t");
        if (*p == '=')
            found = p + 1;
    }
    return found;
}

/* The second line of an associated image's description begins with its name, up to v12; newer
 * scanners write none and only NewSubfileType (1 label, 9 macro) tells. */
static const char *associated_name(const sm_tiff_dir *dir)
{
    const char *line = strchr(dir->description, '\n');
    if (line != NULL) {
        line++;
        if (strncmp(line, "label", 5) == 0)
            return "label";
        if (strncmp(line, "macro", 5) == 0)
            return "macro";
    }
    if (dir->subfile == 1)
        return "label";
    if (dir->subfile == 9)
        return "macro";
    return dir->index == 1 ? "thumbnail" : NULL;
}

static void find_properties(sm_slide *slide, const sm_tiff_dir *base)
{
    const char *mpp = find_key(base->description, "MPP");
    const char *power = find_key(base->description, "AppMag");
    if (mpp != NULL)
        sm_slide_set_mpp(slide, sm_slide_number(mpp), sm_slide_number(mpp));
    if (power != NULL)
        slide->info.objective = sm_slide_number(power);
}

static sm_status aperio_open(sm_slide *slide, sm_error *err)
{
    if (slide->tiff == NULL)
        return sm_fail(err, SM_ERR_FORMAT, "not a TIFF");
    const sm_tiff_dir *base = sm_tiff_dir_at(slide->tiff, 0);
    if (strncmp(base->description, "Aperio", 6) != 0)
        return sm_fail(err, SM_ERR_FORMAT, "no Aperio description");
    slide->recognised = true;
    if (!base->tiled)
        return sm_fail(err, SM_ERR_FORMAT, "Aperio file without tiles");

    uint32_t levels[SM_TIFF_MAX_DIRS], n = 0;
    for (uint32_t i = 0; i < sm_tiff_chain_count(slide->tiff); i++) {
        const sm_tiff_dir *dir = sm_tiff_dir_at(slide->tiff, i);
        if (dir->tiled)
            levels[n++] = i;
    }
    const sm_status st = sm_slide_tiff_levels(slide, levels, n, err);
    if (st != SM_OK)
        return st;
    for (uint32_t i = 1; i < sm_tiff_chain_count(slide->tiff); i++) {
        const sm_tiff_dir *dir = sm_tiff_dir_at(slide->tiff, i);
        const char *name = dir->tiled ? NULL : associated_name(dir);
        if (name != NULL)
            sm_slide_tiff_associate(slide, name, dir);
    }
    memcpy(slide->info.vendor, "aperio", sizeof "aperio");
    find_properties(slide, base);
    return SM_OK;
}

const sm_slide_reader sm_reader_aperio = {
    .name = "aperio",
    .open = aperio_open,
    .associated = sm_slide_tiff_associated,
};
