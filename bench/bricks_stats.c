/* What the numbers of a run say: medians, where a brick saturates, which brick is slow. */
#include <stdlib.h>
#include <string.h>

#include "bench/bricks.h"
#include "common/pace.h"

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

bricks_spread bricks_spread_of(const double *values, uint32_t n)
{
    double sorted[BRICKS_MAX];

    if (n == 0 || n > BRICKS_MAX)
        return (bricks_spread){0, 0, 0};
    memcpy(sorted, values, n * sizeof *sorted);
    qsort(sorted, n, sizeof *sorted, by_value);
    return (bricks_spread){(sorted[(n - 1) / 2] + sorted[n / 2]) / 2, sorted[0], sorted[n - 1]};
}

double bricks_rate(const bricks_result *result, const bricks_point *point, uint32_t brick)
{
    const bricks_series *s = bricks_find(result, point, brick);
    return s != NULL ? bricks_spread_of(s->mb_s, s->n).median : 0;
}

static double median_brick(const bricks_result *result, const bricks_point *point)
{
    double rates[BRICKS_MAX];
    uint32_t n = 0;

    for (uint32_t b = 0; b < result->probe->n_bricks; b++) {
        rates[n] = bricks_rate(result, point, b);
        n += rates[n] > 0;
    }
    return bricks_spread_of(rates, n).median;
}

uint32_t bricks_saturation(const bricks_result *result, uint32_t brick, bricks_kind kind)
{
    double rates[32] = {0}, best = 0;

    for (uint32_t level = 0; level < result->n_levels && level < 32; level++) {
        const bricks_point p = bricks_usual(result, kind, 1u << level);
        rates[level] =
            brick == BRICKS_ALL ? median_brick(result, &p) : bricks_rate(result, &p, brick);
        best = rates[level] > best ? rates[level] : best;
    }
    for (uint32_t level = 0; best > 0 && level < result->n_levels && level < 32; level++)
        if (rates[level] >= 0.95 * best)
            return 1u << level;
    return 0;
}

double bricks_slowness(const bricks_result *result, uint32_t brick, bricks_kind kind)
{
    const bricks_point p = bricks_usual(result, kind, result->streams_per_brick);
    const bricks_series *s = bricks_find(result, &p, brick);
    const double median = median_brick(result, &p);

    if (s == NULL || median <= 0)
        return 1;
    const bricks_spread own = bricks_spread_of(s->mb_s, s->n);
    return own.median < SM_SLOW_BRICK * median && own.max < 0.9 * median ? own.median / median : 1;
}
