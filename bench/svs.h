/* Directories in Aperio's layout, written with libtiff. For bench/mosaic only. */
#ifndef SM_BENCH_SVS_H
#define SM_BENCH_SVS_H

#include <stdbool.h>
#include <stdint.h>

#include "bench/sheet.h"
#include "common/error.h"

/* Order of a level's tiles in the file. */
typedef enum sm_tile_order {
    SM_ORDER_ROWS,
    SM_ORDER_COLUMNS,  /* as line scanners write */
    SM_ORDER_SHUFFLED, /* as parallel writers do, but always the same way */
} sm_tile_order;

/* RGB pixels, no padding. */
typedef struct sm_image {
    uint8_t *rgb;
    uint32_t w_px, h_px;
} sm_image;

typedef struct sm_svs sm_svs;

/** Create or truncate path. w_px, h_px: of level 0, for the descriptions. */
SM_NODISCARD sm_status sm_svs_create(const char *path, bool big, const sm_looks *like,
                                     uint32_t w_px, uint32_t h_px, sm_svs **svs, sm_error *err);
/** Write one level at 1/downsample, its tiles in the given order. */
SM_NODISCARD sm_status sm_svs_level(sm_svs *svs, const sm_sheet *sheet, uint32_t downsample,
                                    sm_tile_order order, sm_error *err);
SM_NODISCARD sm_status sm_svs_thumbnail(sm_svs *svs, const sm_image *thumb, sm_error *err);
/** Close; svs becomes NULL even on failure. What was written is complete if every call was SM_OK.
 */
SM_NODISCARD sm_status sm_svs_close(sm_svs **svs, sm_error *err);

#endif
