/* The mill: runs a plan. Source bytes stream past once, threads copy, move, decode and encode, and
 * the output's tiles are appended in the order that geometry alone decides. */
#ifndef SM_TILER_MILL_H
#define SM_TILER_MILL_H

#include "common/digest.h"
#include "common/progress.h"
#include "common/sink.h"
#include "tiler/bigtiff.h"
#include "tiler/order.h"
#include "tiler/plan.h"

typedef struct sm_mill sm_mill;

typedef struct sm_mill_config {
    unsigned threads;
    bool share_blank;      /* tiles of one colour are stored once a level */
    bool blank_bad_tiles;  /* replace a tile that does not decode by background; else fail */
    sm_progress *progress; /* or NULL */
    sm_pyramid_tile
        on_tile; /* takes the finished tiles of stages instead of the encoder, or NULL */
    void *on_tile_user;
    const sm_digest_kind *also_digest; /* of the source besides SHA-256, or NULL; borrowed */
    void (*at)(void *arg, uint64_t bytes, uint64_t px); /* called as `progress` is, or NULL */
    void *at_arg;
} sm_mill_config;

typedef struct sm_bad_tile {
    uint32_t level, col, row; /* of the source */
    uint64_t offset, len;
    char message[120];
} sm_bad_tile;

#define SM_MAX_BAD_TILES 1000

typedef struct sm_mill_result {
    uint64_t source_bytes;
    bool hashed; /* the source's digests were taken in this pass */
    sm_digest source_sha256, source_other;
    uint64_t level_tiles[SM_MAX_LEVELS];  /* by output level: tiles */
    uint64_t level_bytes[SM_MAX_LEVELS];  /* bytes stored */
    uint64_t level_shared[SM_MAX_LEVELS]; /* tiles that share another's bytes */
    uint64_t n_bad;                       /* tiles replaced by background */
    sm_bad_tile *bad;     /* the first SM_MAX_BAD_TILES of them, in source order; freed by
                             sm_mill_free */
    uint32_t unfit_level; /* source level that must be transcoded after all, or SM_NO_LEVEL */
    char unfit_why[128];
    const char *io_backend; /* static */
} sm_mill_result;

/**
 * slide, plan, order and config are borrowed for the mill's life.
 * @param[out] unfit  after SM_ERR_FORMAT: the source level that cannot be retiled, its reason in
 * err
 */
SM_NODISCARD sm_status sm_mill_new(const sm_slide *slide, const sm_plan *plan,
                                   const sm_order *order, const sm_mill_config *config,
                                   sm_mill **mill, uint32_t *unfit, sm_error *err);

/** Append tag 347 of output level i (nothing if it has none). */
SM_NODISCARD sm_status sm_mill_tables(sm_mill *mill, uint32_t i, sm_buf *out, sm_error *err);

/**
 * Run it: all tiles appended to sink and placed in tiff (both borrowed; NULL when the plan has no
 * output levels).
 * @return SM_ERR_FORMAT with result->unfit_level set: plan again with that level transcoded.
 *         SM_ERR_CORRUPT names level, column, row and offset of the first bad tile.
 *         SM_ERR_INTERRUPTED after a signal.
 */
SM_NODISCARD sm_status sm_mill_run(sm_mill *mill, sm_sink *sink, sm_bigtiff *tiff,
                                   sm_mill_result *result, sm_error *err);

void sm_mill_free(sm_mill **mill);

/** Upper bound of the resident memory of a run, bytes (docs/design.md "Memory"). */
uint64_t sm_mill_memory(const sm_slide *slide, const sm_plan *plan, const sm_order *order,
                        unsigned threads);

#endif
