/* JPEG coefficients from the source's tile grid to the output's, without loss: blocks move, only
 * the Huffman coding is redone. Thread-safe: one sm_retile a level, one sm_retile_worker a thread.
 */
#ifndef SM_TILER_RETILE_H
#define SM_TILER_RETILE_H

#include "common/buf.h"
#include "tiler/plan.h"

typedef struct sm_retile sm_retile;
typedef struct sm_retile_worker sm_retile_worker;

/** A finished tile: an abbreviated stream for the tables of sm_retile_tables. Takes over bytes. */
typedef sm_status (*sm_retile_tile)(void *user, unsigned worker, uint32_t out_level, uint64_t tile,
                                    uint64_t seq, sm_buf *bytes, sm_error *err);

/**
 * @param first_tile,len  a tile of the level, whose quantisation tables all others must have
 * @param out    the output level; its grid and tile sides
 */
SM_NODISCARD sm_status sm_retile_new(const sm_slide *slide, const sm_plan *plan, uint32_t out_level,
                                     const uint8_t *first_tile, size_t len, sm_retile_tile on_tile,
                                     void *user, sm_retile **retile, sm_error *err);

/** Append tag 347 of the output level: the source's DQT, the standard DHT. */
SM_NODISCARD sm_status sm_retile_tables(sm_retile *retile, sm_buf *out, sm_error *err);

void sm_retile_free(sm_retile **retile);

SM_NODISCARD sm_status sm_retile_worker_new(sm_retile *retile, unsigned worker,
                                            sm_retile_worker **w, sm_error *err);
void sm_retile_worker_free(sm_retile_worker **w);

/**
 * Entropy-decode a source tile into the worker; nothing is moved yet.
 * @param half  if not NULL, tile_h / 2 rows of tile_w / 2 RGB pixels from the scaled IDCT of the
 *              same coefficients, `stride` bytes apart
 * @return SM_ERR_CORRUPT: does not decode; SM_ERR_FORMAT: decodes, but its tables or sampling are
 * not the level's: the level cannot be retiled.
 */
SM_NODISCARD sm_status sm_retile_decode(sm_retile_worker *w, const uint8_t *bytes, size_t len,
                                        uint8_t *half, size_t stride, sm_error *err);

/** Move the decoded tile's blocks to the output tiles it touches; finished ones are encoded. */
SM_NODISCARD sm_status sm_retile_move(sm_retile_worker *w, uint64_t tile, uint64_t seq,
                                      sm_error *err);

/** Put blocks of one colour where a source tile is missing or bad. */
SM_NODISCARD sm_status sm_retile_fill(sm_retile_worker *w, uint64_t tile, uint64_t seq,
                                      sm_error *err);

#endif
