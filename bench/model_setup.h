/* What a modelled cluster and corpus are: from defaults, a calibration, the command line, and a
 * catalog. */
#ifndef SM_BENCH_MODEL_SETUP_H
#define SM_BENCH_MODEL_SETUP_H

#include "bench/model.h"

/* Numbers that need not be whole. Each is an option --like-this and a calibration's key like_this.
 */
typedef enum sm_model_real {
    REAL_STREAMS,
    REAL_CONVERT_MB_S,
    REAL_MPX_S,
    REAL_BYTES_PER_PX,
    REAL_OUT_RATIO,
    REAL_STREAM_MB_S,
    REAL_BRICK_MB_S,
    REAL_BRICK_WRITE_MB_S,
    REAL_NODE_GBIT,
    REAL_SERVER_GBIT,
    REAL_LINK_PAYLOAD,
    REAL_MOUNT_MB_S,
    REAL_SLIDE_OVERHEAD,
    REAL_TASK_START,
    REAL_RESTART,
    REAL_RETRY_FOR,
    REAL_PING_TIMEOUT,
    REAL_NODE_MTBF,
    REAL_RANK_MTBF,
    REAL_BRICK_MTBF,
    REAL_NODE_REPAIR,
    REAL_BRICK_OUTAGE,
    SM_MODEL_REALS
} sm_model_real;

/* As the command line has it; NULL: not given. */
typedef struct sm_model_words {
    const char *reals[SM_MODEL_REALS];
    const char *calibrate, *brick_curve, *slow_brick, *fail;
} sm_model_words;

typedef struct sm_model_corpus {
    sm_schedule_item *slides;
    uint32_t n, bricks;
    uint64_t bytes;
} sm_model_corpus;

/** Fill config's rates, times, curve, slow bricks and failures; its other counts are the
 *  caller's. SM_ERR_ARG names the option, SM_ERR_FORMAT the calibration's key. */
SM_NODISCARD sm_status sm_model_setup(const sm_model_words *words, sm_model_config *config,
                                      sm_error *err);

/** Sizes and bricks of a catalog's slides; those of unknown size are left out. */
SM_NODISCARD sm_status sm_model_catalog(const char *path, sm_model_corpus *corpus, sm_error *err);

#endif
