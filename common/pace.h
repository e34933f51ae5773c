/* When a brick is called slow: one rule for the status of a catalog, its report and the benchmark.
 */
#ifndef SM_COMMON_PACE_H
#define SM_COMMON_PACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SM_SLOW_BRICK 0.75 /* of the median brick's rate: below it a brick is slow */
/* Less is noise, and named by nobody: */
#define SM_PACE_READS 5        /* slides whose rate was measured */
#define SM_PACE_NS 1000000000u /* time of one stream */

/* What is known of one brick's reading. */
typedef struct sm_pace {
    uint64_t n, bytes, ns;        /* slides whose bytes were waited for, and how fast they came */
    uint64_t wall_bytes, wall_ns; /* all slides, with the work on them: a lower bound */
    double rate;                  /* out: bytes a second; 0: unknown */
    bool measured;                /* out: enough of it was waited for */
    double of_median;             /* out: 1 unless the brick is slow */
} sm_pace;

/** The middle value; of an even number the mean of the two. Sorts; 0 if n is 0. */
double sm_median(double *values, size_t n);

/** Fill rate and of_median of each. A brick is slow if enough of it was measured and that is less
 *  than SM_SLOW_BRICK of the median of what is known of all; one that was never waited for counts
 *  there with its lower bound. `scratch` has n places. */
void sm_pace_judge(sm_pace *bricks, size_t n, double *scratch);

#endif
