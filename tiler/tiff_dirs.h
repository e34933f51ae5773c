/* Every directory of a TIFF as a plain struct: the main chain, and the SubIFDs of each of its
 * members. Read through libtiff with bounded reads; no pixel is decoded but by sm_tiff_read_rgb. */
#ifndef SM_TILER_TIFF_DIRS_H
#define SM_TILER_TIFF_DIRS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "common/source.h"

/* Caps on what a file can make us hold (docs/design.md section 2, "Bounded memory"). */
#define SM_TIFF_MAX_DIRS 1024
#define SM_TIFF_MAX_TILES 16777216u               /* of one directory, planes counted */
#define SM_TIFF_MAX_TILES_ALL 25165824u           /* of all directories together */
#define SM_TIFF_MAX_METADATA_BYTES (256ull << 20) /* read from the file in all */
#define SM_TIFF_MAX_KEPT_BYTES (512ull << 20)     /* held in memory, numbers widened */
#define SM_TIFF_MAX_RGB_PX (32u << 20)            /* of an associated image */

#define SM_TIFF_SUBIFD UINT32_MAX /* index of a directory that is not in the main chain */

typedef struct sm_tiff sm_tiff;

/* Tags carry their TIFF 6.0 defaults where absent. Pointers live as long as the sm_tiff. */
typedef struct sm_tiff_dir {
    uint64_t offset;     /* in the file */
    uint32_t index;      /* in the main chain, or SM_TIFF_SUBIFD */
    sm_status status;    /* not SM_OK: its tile arrays, or of a SubIFD anything, cannot be read */
    const char *problem; /* why, else NULL */

    uint32_t w_px, h_px, depth;      /* 256, 257, 32997 */
    uint32_t subfile;                /* 254 */
    uint16_t bits, sample_format;    /* 258, 339 */
    uint16_t samples;                /* 277 */
    uint16_t n_extra, extra;         /* 338: how many, and the first */
    uint16_t compression, predictor; /* 259, 317 */
    uint16_t photometric;            /* 262; where absent, 2 for 3 or more samples, else 1 */
    uint16_t fill_order;             /* 266 */
    uint16_t planar;                 /* 284 */
    uint16_t tag_h_samp, tag_v_samp; /* 530; 0, 0: absent */
    bool tiled;                      /* 322 and 323 */
    uint32_t tile_w_px, tile_h_px;   /* strips: w_px and rows per strip (278), at most h_px */
    uint64_t n_tiles;                /* entries of offsets and lens, planes counted */
    uint64_t *offsets, *lens;        /* 324/325 or 273/279; see sm_tiff_dir_mutable */
    uint16_t res_unit;               /* 296: 1 none, 2 inch, 3 cm */
    double x_res, y_res;             /* 282, 283; 0: absent */
    const char *description;         /* 270; "" if absent */
    const char *make, *software;     /* 271, 305; "" if absent */
    const uint8_t *jpeg_tables;      /* 347; NULL: absent */
    size_t jpeg_tables_len;
    const uint8_t *icc; /* 34675; NULL: absent; equal profiles share bytes */
    size_t icc_len;
    const uint64_t *subifds; /* 330: offsets */
    uint32_t n_subifds;
    bool has_ndpi_tag;  /* 65420: Hamamatsu NDPI */
    bool has_iscan_xmp; /* 700 holds "iScan": Ventana BIF */
} sm_tiff_dir;

/**
 * Read all directories.
 * @param source borrowed during the call only
 * @return SM_ERR_FORMAT: the file does not begin like a TIFF; SM_ERR_CORRUPT naming directory and
 *         offset: a directory of the main chain cannot be read (what follows it would be lost), or
 *         the chain loops; SM_ERR_LIMIT: beyond a cap above; SM_ERR_IO. An unreadable SubIFD or
 * tile array only marks that directory: the slide's reader knows whether it matters.
 */
SM_NODISCARD sm_status sm_tiff_open(const sm_source *source, sm_tiff **tiff, sm_error *err);
void sm_tiff_close(sm_tiff **tiff);

bool sm_tiff_is_bigtiff(const sm_tiff *tiff);
bool sm_tiff_is_big_endian(const sm_tiff *tiff);

/** Directories: first the main chain in order, then SubIFDs that are not in it. At least 1. */
uint32_t sm_tiff_count(const sm_tiff *tiff);
/** Length of the main chain. */
uint32_t sm_tiff_chain_count(const sm_tiff *tiff);
const sm_tiff_dir *sm_tiff_dir_at(const sm_tiff *tiff, uint32_t i);
/** The same for the slide's reader, which may adjust offsets and lens while it opens the slide. */
sm_tiff_dir *sm_tiff_dir_mutable(sm_tiff *tiff, uint32_t i);
/** Position of the directory at a file offset, or SM_TIFF_SUBIFD if there is none. */
uint32_t sm_tiff_find(const sm_tiff *tiff, uint64_t offset);

/**
 * Decode one whole directory through libtiff, by what its tags say. Thread-safe.
 * @param w_px,h_px  as the directory has them; at most SM_TIFF_MAX_RGB_PX pixels (else
 * SM_ERR_LIMIT)
 * @param[out] rgb   3 * w_px * h_px bytes, no padding; alpha is blended over white
 */
SM_NODISCARD sm_status sm_tiff_read_rgb(const sm_source *source, uint64_t dir_offset, uint32_t w_px,
                                        uint32_t h_px, uint8_t *rgb, sm_error *err);

/** Keep libtiff's process-wide handlers (used by other libraries, OpenSlide above all) from writing
 *  to stderr. Ours are per handle. */
void sm_tiff_silence(void);

#endif
