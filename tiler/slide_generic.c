/* Reader of any other 8-bit TIFF, tiled or stripped, with or without a pyramid of reduced images.
 * Owns nothing beyond what slide_tiff.c keeps. Files of scanners whose TIFFs mean more than their
 * tags say (padding, overlap, several areas) are left to OpenSlide. */
#include <string.h>

#include "tiler/slide_internal.h"

/* NewSubfileType bits (TIFF 6.0 section 8) */
#define SUBFILE_REDUCED 1u
#define SUBFILE_MASK 4u

/* Whose scanner wrote it, when reading it as a plain TIFF would be wrong; else NULL. */
static const char *foreign_vendor(const sm_slide *slide, const sm_tiff_dir *base)
{
    static const char cells[4] = {0x18, 0, 'I', 'S'}; /* volume header behind the TIFF header */
    char head[4] = {0};
    sm_error ignored = SM_ERROR_INIT;
    if (base->has_ndpi_tag)
        return "Hamamatsu NDPI";
    if (base->has_iscan_xmp)
        return "Ventana BIF";
    if (strncmp(base->software, "Philips", 7) == 0)
        return "Philips TIFF";
    if (strncmp(base->software, "MedScan", 7) == 0)
        return "Trestle TIFF";
    if (strstr(base->description, "leica-microsystems.com/scn") != NULL)
        return "Leica SCN";
    if (strncmp(base->description, "Aperio", 6) == 0)
        return "Aperio SVS";
    if (sm_ome_description(base->description))
        return "OME-TIFF";
    if (sm_source_size(slide->source) >= 12 &&
        sm_source_pread(slide->source, head, sizeof head, 8, &ignored) == SM_OK &&
        memcmp(head, cells, sizeof cells) == 0)
        return "Olympus VSI (its pixels lie in other files)";
    return NULL;
}

/* Reduced images of the chain, then those among the SubIFDs of the first directory. */
static uint32_t find_levels(const sm_tiff *tiff, uint32_t levels[SM_TIFF_MAX_DIRS])
{
    const sm_tiff_dir *base = sm_tiff_dir_at(tiff, 0);
    uint32_t n = 0;
    levels[n++] = 0;
    for (uint32_t i = 1; i < sm_tiff_chain_count(tiff); i++) {
        const sm_tiff_dir *dir = sm_tiff_dir_at(tiff, i);
        if ((dir->subfile & (SUBFILE_REDUCED | SUBFILE_MASK)) == SUBFILE_REDUCED &&
            (dir->tiled || !base->tiled)) /* a stripped one beside tiles is a thumbnail */
            levels[n++] = i;
    }
    for (uint32_t k = 0; k < base->n_subifds; k++) {
        const uint32_t i = sm_tiff_find(tiff, base->subifds[k]);
        if (i == SM_TIFF_SUBIFD || i < sm_tiff_chain_count(tiff) || n == SM_TIFF_MAX_DIRS)
            continue;
        const sm_tiff_dir *dir = sm_tiff_dir_at(tiff, i);
        if (dir->w_px == 0 || (dir->subfile & SUBFILE_REDUCED) != 0)
            levels[n++] = i;
    }
    return n;
}

static sm_status generic_open(sm_slide *slide, sm_error *err)
{
    if (slide->tiff == NULL && slide->tiff_broken)
        return sm_fail(err, SM_ERR_FORMAT, "its TIFF directories cannot be read");
    if (slide->tiff == NULL)
        return sm_fail(err, SM_ERR_FORMAT, "neither a TIFF nor of a format OpenSlide knows");
    const sm_tiff_dir *base = sm_tiff_dir_at(slide->tiff, 0);
    const char *vendor = foreign_vendor(slide, base);
    if (vendor != NULL)
        return sm_fail(err, SM_ERR_FORMAT, "%s, which OpenSlide does not take", vendor);
    slide->recognised = true;
    uint32_t levels[SM_TIFF_MAX_DIRS];
    const uint32_t n = find_levels(slide->tiff, levels);
    const sm_status st = sm_slide_tiff_levels(slide, levels, n, err);
    if (st != SM_OK)
        return st;
    memcpy(slide->info.vendor, "generic-tiff", sizeof "generic-tiff");
    sm_slide_tiff_mpp(slide, base);
    const char *power = strstr(base->description, "|AppMag="); /* as slidemill's generic profile */
    if (power != NULL && strncmp(base->description, "slidemill ", 10) == 0)
        slide->info.objective = sm_slide_number(power + strlen("|AppMag="));
    sm_slide_tiff_find_named(slide);
    return SM_OK;
}

const sm_slide_reader sm_reader_generic = {
    .name = "generic-tiff",
    .open = generic_open,
    .associated = sm_slide_tiff_associated,
};
