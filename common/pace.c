/* Rates of bricks against their median. Owns nothing. */
#include "common/pace.h"

#include <stdlib.h>

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double sm_median(double *values, size_t n)
{
    if (n == 0)
        return 0;
    qsort(values, n, sizeof(*values), by_value);
    return (values[(n - 1) / 2] + values[n / 2]) / 2;
}

static double rate_of(uint64_t bytes, uint64_t ns)
{
    return bytes > 0 && ns > 0 ? (double)bytes * 1e9 / (double)ns : 0;
}

static bool is_measured(const sm_pace *brick)
{
    return brick->n >= SM_PACE_READS && brick->ns >= SM_PACE_NS && brick->bytes > 0;
}

void sm_pace_judge(sm_pace *bricks, size_t n, double *scratch)
{
    size_t known = 0;
    for (size_t i = 0; i < n; i++) {
        sm_pace *b = &bricks[i];
        b->measured = is_measured(b);
        b->rate = b->measured ? rate_of(b->bytes, b->ns) : rate_of(b->wall_bytes, b->wall_ns);
        b->of_median = 1;
        if (b->rate > 0)
            scratch[known++] = b->rate;
    }
    const double median = sm_median(scratch, known);
    for (size_t i = 0; i < n && known > 1; i++)
        if (bricks[i].measured && bricks[i].rate < SM_SLOW_BRICK * median)
            bricks[i].of_median = bricks[i].rate / median;
}
