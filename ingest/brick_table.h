/* Names of bricks as numbers, for the scheduler. */
#ifndef SM_INGEST_BRICK_TABLE_H
#define SM_INGEST_BRICK_TABLE_H

#include <stdint.h>

#include "common/error.h"

/* Zeroed: empty. */
typedef struct sm_brick_table {
    char **names;
    uint32_t n, cap, last; /* last: the one asked for last, mostly asked for again */
} sm_brick_table;

#define SM_BRICK_UNKNOWN UINT32_MAX

/** Number of a name, a new one if need be; NULL or "": SM_BRICK_UNKNOWN. */
SM_NODISCARD sm_status sm_brick_table_index(sm_brick_table *table, const char *name,
                                            uint32_t *index, sm_error *err);
void sm_brick_table_clear(sm_brick_table *table);

#endif
