/* A run as tables of 80 columns: bricks, streams, ways to read, all together, who is slow. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "bench/bricks.h"
#include "common/progress.h"

static void print_rate(double mb_s, int width)
{
    if (mb_s <= 0)
        (void)printf(" %*s", width, "-");
    else
        (void)printf(" %*.*f", width, mb_s < 10 ? 1 : 0, mb_s);
}

static double wait_of(const bricks_result *result, const bricks_point *p, uint32_t brick)
{
    const bricks_series *s = bricks_find(result, p, brick);
    return s != NULL ? bricks_spread_of(s->wait_ms, s->n).median : 0;
}

/* Half of the widest distance, in parts of the median. */
static double spread_of(const bricks_result *result, const bricks_point *p, uint32_t brick)
{
    const bricks_series *s = bricks_find(result, p, brick);
    if (s == NULL || s->n < 2)
        return 0;
    const bricks_spread v = bricks_spread_of(s->mb_s, s->n);
    return v.median > 0 ? (v.max - v.min) / 2 / v.median : 0;
}

static void print_bricks(const bricks_result *result)
{
    const uint32_t n = result->streams_per_brick;
    const bricks_point write = bricks_usual(result, BRICKS_WRITE, n);
    const bricks_point read = bricks_usual(result, BRICKS_READ, n);
    const bricks_point slide = bricks_usual(result, BRICKS_SLIDE, 1);
    const bricks_point sync = bricks_usual(result, BRICKS_FSYNC, 1);
    bricks_point warm = bricks_usual(result, BRICKS_READ, 1);

    warm.warm = true;
    (void)printf("\nEach brick alone, medians. Write and read with %" PRIu32 " stream%s, the rest "
                 "with 1.\n",
                 n, n == 1 ? "" : "s");
    (void)printf("brick   write     +-    read     +-    warm   slide  directories    fsync\n"
                 "         MB/s            MB/s            MB/s    MB/s           ms       ms\n");
    for (uint32_t b = 0; b < result->probe->n_bricks; b++) {
        (void)printf("%5" PRIu32, b + 1);
        print_rate(bricks_rate(result, &write, b), 7);
        (void)printf("  %4.0f%%", 100 * spread_of(result, &write, b));
        print_rate(bricks_rate(result, &read, b), 7);
        (void)printf("  %4.0f%%", 100 * spread_of(result, &read, b));
        print_rate(bricks_rate(result, &warm, b), 7);
        print_rate(bricks_rate(result, &slide, b), 7);
        (void)printf(" %12.2f %8.2f\n", wait_of(result, &slide, b), wait_of(result, &sync, b));
    }
}

static void print_streams(const bricks_result *result, bricks_kind kind, const char *what)
{
    (void)printf("\n%s by streams, MB/s\nbrick", what);
    for (uint32_t level = 0; level < result->n_levels; level++)
        (void)printf(" %7u", 1u << level);
    (void)printf("   full speed from\n");
    for (uint32_t b = 0; b < result->probe->n_bricks; b++) {
        (void)printf("%5" PRIu32, b + 1);
        for (uint32_t level = 0; level < result->n_levels; level++) {
            const bricks_point p = bricks_usual(result, kind, 1u << level);
            print_rate(bricks_rate(result, &p, b), 7);
        }
        const uint32_t n = bricks_saturation(result, b, kind);
        if (n > 0)
            (void)printf("   %" PRIu32 " stream%s", n, n == 1 ? "" : "s");
        (void)printf("\n");
    }
}

/* The median brick's. */
static double median_rate(const bricks_result *result, const bricks_point *p)
{
    double rates[BRICKS_MAX];
    uint32_t n = 0;
    for (uint32_t b = 0; b < result->probe->n_bricks; b++) {
        rates[n] = bricks_rate(result, p, b);
        n += rates[n] > 0;
    }
    return bricks_spread_of(rates, n).median;
}

static void print_variants(const bricks_result *result)
{
    static const size_t BLOCKS[] = {128 << 10, 1 << 20, 4 << 20};

    (void)printf("\nCold read, 1 stream, MB/s of the median brick\n"
                 "             io_uring            threads\n"
                 "block   buffered  O_DIRECT  buffered  O_DIRECT\n");
    for (size_t i = 0; i < SM_COUNT(BLOCKS); i++) {
        (void)printf("%4zu %s", BLOCKS[i] >> (BLOCKS[i] < 1 << 20 ? 10 : 20),
                     BLOCKS[i] < 1 << 20 ? "K" : "M");
        for (unsigned v = 0; v < 4; v++) {
            const bricks_point p = {.kind = BRICKS_READ,
                                    .streams = 1,
                                    .block_bytes = BLOCKS[i],
                                    .threads = v / 2 != 0,
                                    .direct = v % 2 != 0};
            print_rate(median_rate(result, &p), 9);
        }
        (void)printf("\n");
    }
}

/* The bricks' own speed added up, against what they give at once. */
static void print_together(const bricks_result *result, bricks_kind kind, const char *what)
{
    const bricks_point alone = bricks_usual(result, kind, result->streams_per_brick);
    bricks_point all = alone;
    all.all = true;
    const bricks_series *s = bricks_find(result, &all, BRICKS_ALL);
    double sum = 0;

    for (uint32_t b = 0; b < result->probe->n_bricks; b++)
        sum += bricks_rate(result, &alone, b);
    if (s == NULL || sum <= 0)
        return;
    const double rate = bricks_rate(result, &all, BRICKS_ALL);
    const double busy = bricks_spread_of(s->busy, s->n).median;
    const char *limit = rate >= 0.85 * sum ? "the bricks are the limit"
                        : busy > 0.9       ? "the CPUs of this node are the limit"
                        : result->ranks > 1
                            ? "the mounts, their network or a disk that bricks share are the limit"
                            : "the mount, its network or a disk that bricks share is the limit";
    (void)printf("%s %.0f MB/s, %.0f%% of the bricks' sum (%.0f), CPUs %.0f%% busy:\n  %s\n", what,
                 rate, 100 * rate / sum, sum, 100 * busy, limit);
}

static void print_slow(const bricks_result *result, bricks_kind kind, const char *verb)
{
    for (uint32_t b = 0; b < result->probe->n_bricks; b++) {
        const double share = bricks_slowness(result, b, kind);
        if (share < 1)
            (void)printf("brick %" PRIu32 " of %" PRIu32 " (%s) %s at %.0f%% of the median\n",
                         b + 1, result->probe->n_bricks, result->probe->bricks[b].name, verb,
                         100 * share);
    }
}

static void print_head(const bricks_result *result)
{
    const bricks_probe *probe = result->probe;
    char read[16], written[16], file[16];

    (void)printf("%s: %" PRIu32 " brick%s, %" PRIu32 " rank%s, %" PRIu32 " repeats\n",
                 result->options->mount, probe->n_bricks, probe->n_bricks == 1 ? "" : "s",
                 result->ranks, result->ranks == 1 ? "" : "s", result->options->repeats);
    for (uint32_t b = 0; b < probe->n_bricks; b++)
        (void)printf("%5" PRIu32 "  %s\n", b + 1, probe->bricks[b].name);
    (void)printf("%.0f s, %s read, %s written, probe files of %s\n", (double)result->wall_ns / 1e9,
                 sm_human_bytes(result->bytes_read, read),
                 sm_human_bytes(result->bytes_written, written),
                 sm_human_bytes(probe->file_bytes, file));
    (void)printf("cold: past the cache of this client%s; servers may still have it in memory\n",
                 result->caches_dropped ? ", and the machine's cache dropped" : "");
    if (!result->has_uring)
        (void)printf("no io_uring here: threads do the I/O\n");
}

static void print_faults(const bricks_result *result)
{
    const bricks_probe *probe = result->probe;

    for (uint32_t b = 0; b < probe->n_bricks; b++)
        if (probe->bricks[b].failed)
            (void)printf("brick %" PRIu32 " of %" PRIu32 " was not measured to the end: %s\n",
                         b + 1, probe->n_bricks, probe->bricks[b].why);
    if (probe->n_bricks < probe->n_expected)
        (void)printf("only %" PRIu32 " of %" PRIu32
                     " bricks took a file: the others are down, or nearly "
                     "full\n",
                     probe->n_bricks, probe->n_expected);
    if (probe->n_refused > 0)
        (void)printf("%" PRIu32 " of %" PRIu32 " new files were refused: a brick is down or full\n",
                     probe->n_refused, probe->n_names);
    if (result->out_of_time)
        (void)printf("--time ran out before every repeat was done; give more for less noise\n");
}

void bricks_print(const bricks_result *result)
{
    print_head(result);
    print_bricks(result);
    print_streams(result, BRICKS_READ, "Cold read");
    print_streams(result, BRICKS_WRITE, "Write and fsync");
    print_variants(result);
    if (result->probe->n_bricks > 1) {
        (void)printf("\nAll bricks at once\n");
        print_together(result, BRICKS_READ, "read ");
        print_together(result, BRICKS_WRITE, "write");
    }
    (void)printf("\n");
    print_slow(result, BRICKS_READ, "reads");
    print_slow(result, BRICKS_WRITE, "writes");
    print_faults(result);
    (void)printf("--streams-per-brick %" PRIu32 "\n", result->streams_per_brick);
}
