/* A synthetic tissue: what H&E looks like to a codec. Integers only, so that all machines agree. */
#ifndef SM_BENCH_TISSUE_H
#define SM_BENCH_TISSUE_H

#include <stdint.h>

/** A hash of a position; the same for ever. */
uint32_t sm_tissue_mix(uint32_t x, uint32_t y, uint32_t seed);

/** White glass, pink tissue in blobs with fibres, purple nuclei, grain: 3 bytes at rgb. */
void sm_tissue_pixel(uint32_t x, uint32_t y, uint8_t *rgb);

#endif
