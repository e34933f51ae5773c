/* The distinct tiles of one mosaic level as JPEG streams, and the codec that makes and reads them.
 * For bench/mosaic only. One thread. */
#ifndef SM_BENCH_SHEET_H
#define SM_BENCH_SHEET_H

#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/error.h"

/* Tile (col, row) is number index[row % period_rows * period_cols + col % period_cols]. */
typedef struct sm_sheet {
    sm_buf bytes;   /* JPEG streams, one after another */
    size_t *starts; /* n + 1 offsets in bytes */
    uint32_t n, cap;
    uint32_t *index;
    uint32_t period_cols, period_rows;
    sm_buf tables; /* tag 347; empty: every tile is a complete stream */
} sm_sheet;

/* What all levels share, and what the description says of them. */
typedef struct sm_looks {
    uint32_t tile_w_px, tile_h_px;
    uint16_t photometric;
    uint16_t h_samp, v_samp; /* tag 530, written for YCbCr only */
    char mpp[32], mag[32], quality[32];
} sm_looks;

/* A libjpeg decompressor and compressor. */
typedef struct sm_jpeg sm_jpeg;

/** An empty sheet for cap tiles; index is period_cols * period_rows numbers, identity at first. */
SM_NODISCARD sm_status sm_sheet_new(sm_sheet *sheet, uint32_t cap, uint32_t period_cols,
                                    uint32_t period_rows, sm_error *err);
/** Append one stream; at most cap times. */
SM_NODISCARD sm_status sm_sheet_add(sm_sheet *sheet, const void *bytes, size_t len, sm_error *err);
uint32_t sm_sheet_tile(const sm_sheet *sheet, uint32_t col, uint32_t row);
void sm_sheet_free(sm_sheet *sheet);

SM_NODISCARD sm_status sm_jpeg_new(sm_jpeg **jpeg, sm_error *err);
void sm_jpeg_free(sm_jpeg **jpeg);

/** Decode tile number `tile` to tile_h rows of tile_w RGB pixels. A decode with warnings fails. */
SM_NODISCARD sm_status sm_jpeg_decode(sm_jpeg *jpeg, const sm_sheet *sheet, uint32_t tile,
                                      const sm_looks *like, uint8_t *rgb, sm_error *err);

/** Encode from now on with colour, sampling and quantisation of source's tile 0; its tables are
 *  appended to tables. */
SM_NODISCARD sm_status sm_jpeg_encode_like(sm_jpeg *jpeg, const sm_sheet *source,
                                           const sm_looks *like, sm_buf *tables, sm_error *err);
/** Encode from now on square tiles as RGB 4:4:4. */
SM_NODISCARD sm_status sm_jpeg_encode_rgb(sm_jpeg *jpeg, uint32_t tile_px, int quality,
                                          sm_buf *tables, sm_error *err);
/** Encode one tile of RGB pixels and add it to the sheet. */
SM_NODISCARD sm_status sm_jpeg_encode(sm_jpeg *jpeg, const uint8_t *rgb, sm_sheet *sheet,
                                      sm_error *err);

#endif
