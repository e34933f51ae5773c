/* The struct behind sm_slide, for the readers (slide_*.c) only, and what the TIFF readers share
 * (slide_tiff.c). */
#ifndef SM_TILER_SLIDE_INTERNAL_H
#define SM_TILER_SLIDE_INTERNAL_H

#include "tiler/slide.h"
#include "tiler/tiff_dirs.h"

/* Side of the virtual tiles of rendered levels. */
#define SM_RENDER_TILE_PX 512u
/* Most bytes of pixels in one tile or strip. */
#define SM_MAX_TILE_BYTES (256ull << 20)
/* Longest side of a level. */
#define SM_MAX_SIDE_PX 2147483647u

struct sm_slide {
    const sm_source *source;
    const sm_slide_reader *reader;
    sm_slide_info info;
    sm_level levels[SM_MAX_LEVELS];
    sm_tiff *tiff;    /* NULL: not a TIFF, or one whose directories cannot be read */
    bool tiff_broken; /* tiff is NULL because of the latter: only OpenSlide is asked */
    bool recognised;  /* a reader that says SM_ERR_FORMAT sets it when the file is of its kind
                       * all the same: its reason is then the one to tell */
    bool refused;     /* ... and this, when no other reader may take the file either */
    uint64_t associated_dir[SM_MAX_ASSOCIATED]; /* TIFF readers: file offset of the directory */
    void *state;                                /* the reader's own; its close slot releases it */
    void *owned[2 * SM_MAX_LEVELS + 1];         /* arrays that levels and info point to */
    uint32_t n_owned;
};

extern const sm_slide_reader sm_reader_aperio;
extern const sm_slide_reader sm_reader_ome;
extern const sm_slide_reader sm_reader_generic;
extern const sm_slide_reader sm_reader_openslide;

/** Let slide own an array from malloc; NULL is SM_ERR_NOMEM. At most three arrays a level. */
SM_NODISCARD sm_status sm_slide_own(sm_slide *slide, void *array, sm_error *err);

/** What OpenSlide takes the file for ("hamamatsu", ...), from its first bytes; NULL: nothing it
 *  knows, or not a file of the disk. Static string. */
const char *sm_openslide_vendor(const sm_source *source);

/** Is a description (tag 270) OME-XML by its looks? */
bool sm_ome_description(const char *description);

/* ---- slide_tiff.c ---- */

/** Is a directory's pixel format one that slidemill decodes itself: 8-bit grey, RGB, RGBA (or JPEG
 *  YCbCr), codec none, LZW, deflate, zstd or JPEG? SM_ERR_FORMAT with the reason if not. */
SM_NODISCARD sm_status sm_slide_tiff_check(const sm_tiff_dir *dir, sm_error *err);

/**
 * Make levels of directories (positions in slide->tiff). dirs[0] is level 0; the others are sorted
 * by size, and those that are not smaller than the one before or have another aspect are ignored.
 * Checks formats, caps and every extent; reads what the first JPEG tile says. Also sets the ICC
 * profile (the first found) and the byte order.
 */
SM_NODISCARD sm_status sm_slide_tiff_levels(sm_slide *slide, const uint32_t *dirs, uint32_t n,
                                            sm_error *err);

/** Set MPP if plausible: between 0.01 and 100 um; else it stays unknown. */
void sm_slide_set_mpp(sm_slide *slide, double mpp_x, double mpp_y);
/** MPP from tags 282, 283, 296; nothing when it is known already. */
void sm_slide_tiff_mpp(sm_slide *slide, const sm_tiff_dir *dir);

/** Note an associated image; beyond SM_MAX_ASSOCIATED, or of a name that is there, it is ignored.
 */
void sm_slide_tiff_associate(sm_slide *slide, const char *name, const sm_tiff_dir *dir);
/** Note the stripped images of the chain that say "label", "macro" or "thumbnail" in their
 * description, as slidemill itself writes them. */
void sm_slide_tiff_find_named(sm_slide *slide);
/** Reader slot: pixels of such an image. */
sm_status sm_slide_tiff_associated(const sm_slide *slide, uint32_t i, uint8_t *rgb, sm_error *err);

/** A decimal number ("0.4990", "0,4990", "5e-1", blanks around it) whatever the locale; negative,
 * or not a number: 0. */
double sm_slide_number(const char *text);

#endif
