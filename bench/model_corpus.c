/* Corpora for the scale model, and its random numbers: each is a function of its place, so one
 * draw more or less elsewhere changes no other. */
#include <math.h>
#include <stdlib.h>

#include "bench/model.h"
#include "common/buf.h"

#define SIGMA 0.7
#define LEAST_PART 0.25
#define MOST_PART 5.0
#define STREAM_SIZE 1
#define STREAM_BRICK 2

/* SplitMix64's finalizer. */
static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94D049BB133111EB);
    return x ^ (x >> 31);
}

uint64_t sm_model_random(uint64_t seed, uint64_t stream, uint64_t n)
{
    const uint64_t gold = UINT64_C(0x9E3779B97F4A7C15);
    return mix(mix(mix(seed + gold) + stream * gold) + (n + 1) * gold);
}

double sm_model_uniform(uint64_t seed, uint64_t stream, uint64_t n)
{
    return ((double)(sm_model_random(seed, stream, n) >> 12) + 0.5) / 4503599627370496.0;
}

static double normal(uint64_t seed, uint64_t n)
{
    const double u = sm_model_uniform(seed, STREAM_SIZE, 2 * n);
    const double v = sm_model_uniform(seed, STREAM_SIZE, 2 * n + 1);
    return sqrt(-2 * log(u)) * cos(6.283185307179586 * v);
}

static double clamped(double x)
{
    return x < LEAST_PART ? LEAST_PART : x > MOST_PART ? MOST_PART : x;
}

/* What all must be multiplied by before they are clamped, so that their mean is 1. */
static double find_scale(const double *parts, uint32_t n)
{
    double low = 0, high = 64;
    for (int i = 0; i < 50; i++) {
        const double scale = (low + high) / 2;
        double sum = 0;
        for (uint32_t k = 0; k < n; k++)
            sum += clamped(parts[k] * scale);
        if (sum < n)
            low = scale;
        else
            high = scale;
    }
    return (low + high) / 2;
}

/* Rounding and too few slides leave a rest: it is dealt out evenly. */
static void spread_rest(sm_schedule_item *slides, uint32_t n, uint64_t bytes)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < n; i++)
        sum += slides[i].bytes;
    const bool less = sum > bytes;
    const uint64_t rest = less ? sum - bytes : bytes - sum;
    for (uint32_t i = 0; i < n; i++) {
        const uint64_t part = rest / n + (i < rest % n);
        slides[i].bytes = less ? slides[i].bytes - part : slides[i].bytes + part;
    }
}

sm_status sm_model_draw(uint32_t n, uint64_t bytes, uint32_t bricks, uint64_t seed,
                        sm_schedule_item *slides, sm_error *err)
{
    if (n == 0 || bricks == 0 || bytes / n < 1024)
        return sm_fail(err, SM_ERR_ARG,
                       "%u slides of %llu bytes in all: a slide needs at least 1024, and a brick",
                       n, (unsigned long long)bytes);
    double *parts = sm_malloc_array(n, sizeof *parts);
    if (parts == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "no memory for %u slides", n);
    for (uint32_t i = 0; i < n; i++)
        parts[i] = exp(SIGMA * normal(seed, i));
    const double scale = find_scale(parts, n), mean = (double)bytes / n;
    for (uint32_t i = 0; i < n; i++) {
        slides[i].bytes = (uint64_t)(clamped(parts[i] * scale) * mean);
        slides[i].brick = (uint32_t)(sm_model_random(seed, STREAM_BRICK, i) % bricks);
    }
    spread_rest(slides, n, bytes);
    free(parts);
    return SM_OK;
}
