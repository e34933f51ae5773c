/* What mill.c (feeding) and mill_unit.c (working) share. */
#ifndef SM_TILER_MILL_INTERNAL_H
#define SM_TILER_MILL_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "common/pool.h"
#include "tiler/decode.h"
#include "tiler/encode.h"
#include "tiler/mill.h"
#include "tiler/reorder.h"
#include "tiler/retile.h"

/* One thread's tools, opened when first needed. */
typedef struct mill_worker {
    sm_decoder *decoders[SM_MAX_LEVELS]; /* by source level */
    sm_retile_worker *retilers[SM_MAX_LEVELS];
    sm_encoder *encoder;
    uint8_t *scratch; /* pixels of a tile that does not fit into one output tile */
    size_t scratch_cap;
} mill_worker;

/* Shared tiles of one output level: key -> place. */
typedef struct mill_share {
    struct mill_shared {
        uint64_t key, offset;
        uint32_t len;
    } * items;
    size_t n, cap;
} mill_share;

struct sm_mill {
    const sm_slide *slide;
    const sm_plan *plan;
    const sm_order *order;
    sm_mill_config config;
    sm_pyramid *pyramid;
    sm_retile *retiles[SM_MAX_LEVELS]; /* by source level */
    sm_buf blanks[SM_MAX_LEVELS];      /* by source level: substitute for a missing copied tile */
    mill_worker *workers;
    sm_reorder *queue;
    sm_pool *pool;
    /* the run */
    sm_sink *sink;
    sm_bigtiff *tiff;
    sm_mill_result *result;
    mill_share shares[SM_MAX_LEVELS];
    atomic_uint_fast64_t done_px;
    atomic_bool failed;
    pthread_mutex_t lock; /* error, error_unit, bad list, blanks, batches */
    sm_error error;       /* of the earliest unit that failed */
    uint64_t error_unit;
    struct mill_batch *free_batches;
};

/* Some units in processing order, with their bytes one after another. */
typedef struct mill_batch {
    struct mill_batch *next;
    sm_mill *mill;
    uint64_t first;
    uint32_t n_units;
    uint32_t n_pieces; /* lens in use: units, times planes where colours are separate */
    uint64_t *lens;
    uint32_t cap_pieces;
    sm_buf bytes;
} mill_batch;

/** Do everything that unit i asks for. bytes: all its pieces; lens: n_pieces lengths. */
SM_NODISCARD sm_status mill_do_unit(sm_mill *mill, unsigned worker, uint64_t i,
                                    const uint8_t *bytes, const uint64_t *lens, uint32_t n_pieces,
                                    sm_error *err);

/** sm_pyramid_tile and sm_retile_tile of a mill (user is the sm_mill). */
sm_status mill_pyramid_tile(void *user, unsigned worker, uint32_t stage, uint32_t col, uint32_t row,
                            uint64_t seq, const uint8_t *rgb, sm_error *err);
sm_status mill_retile_tile(void *user, unsigned worker, uint32_t out_level, uint64_t tile,
                           uint64_t seq, sm_buf *bytes, sm_error *err);

/** Release a worker's tools. */
void mill_worker_close(mill_worker *w);

/** Pieces that one tile of the level is stored in: its planes, or 1, or 0 when rendered. */
static inline uint32_t mill_pieces(const sm_level *level)
{
    return level->codec == SM_CODEC_RENDERED ? 0 : level->planar ? level->samples : 1;
}

#endif
