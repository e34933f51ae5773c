/* The head of a BigTIFF file: header, directories, their values and tile arrays, all before the
 * first tile. Its size is known before any tile is, so it can be reserved and filled in last.
 * Little-endian. Source: TIFF 6.0 sections 2 and 8; the BigTIFF design (libtiff, bigtiffdesign). */
#ifndef SM_TILER_BIGTIFF_H
#define SM_TILER_BIGTIFF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/error.h"

typedef struct sm_bigtiff sm_bigtiff;

SM_NODISCARD sm_status sm_bigtiff_new(sm_bigtiff **tiff, sm_error *err);
void sm_bigtiff_free(sm_bigtiff **tiff);

/** Append a directory to the main chain; *dir is its number, from 0. */
SM_NODISCARD sm_status sm_bigtiff_add_dir(sm_bigtiff *tiff, uint32_t *dir, sm_error *err);

/* Set a tag once; any order, the file has them sorted. Values are copied. */
SM_NODISCARD sm_status sm_bigtiff_set_short(sm_bigtiff *tiff, uint32_t dir, uint16_t tag,
                                            const uint16_t *values, size_t n, sm_error *err);
SM_NODISCARD sm_status sm_bigtiff_set_long(sm_bigtiff *tiff, uint32_t dir, uint16_t tag,
                                           uint32_t value, sm_error *err);
/** Positive value as RATIONAL, exact to 1e-9 of itself (1e-9 <= value < 4e9). */
SM_NODISCARD sm_status sm_bigtiff_set_rational(sm_bigtiff *tiff, uint32_t dir, uint16_t tag,
                                               double value, sm_error *err);
/** ASCII with its NUL. */
SM_NODISCARD sm_status sm_bigtiff_set_ascii(sm_bigtiff *tiff, uint32_t dir, uint16_t tag,
                                            const char *text, sm_error *err);
SM_NODISCARD sm_status sm_bigtiff_set_undefined(sm_bigtiff *tiff, uint32_t dir, uint16_t tag,
                                                const void *bytes, size_t len, sm_error *err);
/** The value of the same tag in an earlier directory, stored once (ICC profiles reach 13 MB). */
SM_NODISCARD sm_status sm_bigtiff_share(sm_bigtiff *tiff, uint32_t dir, uint16_t tag, uint32_t from,
                                        sm_error *err);
/** SubIFDs (330): the offsets of n directories starting at `first`, which also stand in the chain.
 */
SM_NODISCARD sm_status sm_bigtiff_set_subdirs(sm_bigtiff *tiff, uint32_t dir, uint32_t first,
                                              uint32_t n, sm_error *err);
/** Reserve offset and byte-count arrays for n pieces: tiles (324, 325) or strips (273, 279). */
SM_NODISCARD sm_status sm_bigtiff_reserve(sm_bigtiff *tiff, uint32_t dir, uint64_t n, bool strips,
                                          sm_error *err);

/** Where piece i of a directory lies. */
void sm_bigtiff_place(sm_bigtiff *tiff, uint32_t dir, uint64_t i, uint64_t offset, uint32_t len);

/** Replace the text of an ASCII tag by one of the same length (digests that are known last). */
SM_NODISCARD sm_status sm_bigtiff_replace_ascii(sm_bigtiff *tiff, uint32_t dir, uint16_t tag,
                                                const char *text, sm_error *err);

/** Size of the head, a multiple of 4096; fixed once all tags are set. */
uint64_t sm_bigtiff_head_bytes(sm_bigtiff *tiff);

/** Append the head, exactly sm_bigtiff_head_bytes bytes, to out (which must be empty). */
SM_NODISCARD sm_status sm_bigtiff_render(sm_bigtiff *tiff, sm_buf *out, sm_error *err);

#endif
