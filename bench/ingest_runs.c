/* The programs of `slidemill bench ingest` taking turns: ingest at each point, the codec limit with
 * as many threads, fio with as many readers. Nothing here is left running or lying about between
 * two runs. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench/ingest_bench.h"
#include "common/stop.h"
#include "common/sysinfo.h"

enum { FIO_NAMES_MAX = 100000 }; /* bytes of one argument */

/* What each mode tells convert, what codec-limit counts, and the side of its tiles (0: the
 * source's). */
static const struct {
    const char *convert, *limit;
    uint32_t tile_px;
} MODES[] = {
    [INGEST_COPY] = {"--levels=dyadic --tiles=auto --quality=75 --subsampling=420",
                     "--work=copy-pyramid --quality=75 --subsampling=420", 0},
    [INGEST_TRANSCODE] = {"--levels=dyadic --tiles=transcode --tile-px=256 --quality=75 "
                          "--subsampling=420",
                          "--work=transcode --quality=75 --subsampling=420", 256},
    [INGEST_RETILE] = {"--levels=dyadic --tiles=retile --tile-px=512 --quality=75 "
                       "--subsampling=420",
                       "--work=retile --quality=75 --subsampling=420", 512},
    [INGEST_ZSTD] = {"--levels=dyadic --codec=zstd --tile-px=256", "--work=zstd", 256},
};

const char *ingest_mode_words(int mode)
{
    return MODES[mode].convert;
}

static void give_up(ingest_program *p, const char *why)
{
    (void)snprintf(p->why, sizeof p->why, "%s", why[0] != '\0' ? why : "failed without a word");
}

/* ---- before a run ---- */

static void set_cache(const ingest_slide *slide, bool warm)
{
    enum { CHUNK = 1 << 20 };
    const int fd = open(slide->path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    uint8_t *chunk = warm ? sm_malloc_array(CHUNK, 1) : NULL;
    while (chunk != NULL && read(fd, chunk, CHUNK) > 0)
        ;
    free(chunk);
    if (!warm)
        (void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    (void)close(fd);
}

/* As if nothing had been done yet, and nobody else's dirty pages on the way to the disk. */
static sm_status start_anew(const ingest_bench *b, sm_error *err)
{
    char journals[PATH_MAX], mark[PATH_MAX];
    (void)snprintf(journals, sizeof journals, "%.*s.d/journal", PATH_MAX - 32, b->corpus.catalog);
    (void)snprintf(mark, sizeof mark, "%.*s.d/out-mark", PATH_MAX - 32, b->corpus.catalog);
    if (!bench_remove_tree(b->corpus.out) || !bench_remove_tree(journals) ||
        (unlink(mark) != 0 && errno != ENOENT))
        return sm_fail(err, SM_ERR_IO, "%s: cannot be emptied", b->corpus.out);
    if (mkdir(b->corpus.out, 0777) != 0)
        return sm_fail_errno(err, SM_ERR_IO, errno, "%s", b->corpus.out);
    const int fd = open(b->corpus.folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        (void)syncfs(fd);
        (void)close(fd);
    }
    sm_status st = SM_OK;
    for (size_t i = 0; st == SM_OK && i < b->corpus.n; i++) {
        set_cache(&b->corpus.slides[i], b->options->cache == INGEST_WARM);
        st = sm_stop_check(err);
    }
    return st;
}

/* ---- ingest ---- */

static void count_ingest(ingest_program *p, const bench_run *run, const ingest_sums *sums)
{
    /* whole program, mpirun's start included: that is what a job takes */
    const double s = run->wall_s;
    bench_series_add(&p->wall_s, s);
    bench_series_add(&p->cpu_s, run->cpu_s);
    bench_series_add(&p->rss_mib, fmax(run->rss_mib, sums->peak_rss_mib));
    bench_series_add(&p->slides_per_h, sums->done * 3600.0 / s);
    bench_series_add(&p->mb_in, sums->bytes_in / 1e6 / s);
    bench_series_add(&p->mb_out, sums->bytes_out / 1e6 / s);
    bench_series_add(&p->mpx, sums->pixels / 1e6 / s);
    for (size_t i = 0; i < p->n_bricks; i++) {
        bench_series_add(&p->bricks[i].mb_in, p->bricks[i].bytes_in / 1e6 / s);
        bench_series_add(&p->bricks[i].mb_out, p->bricks[i].bytes_out / 1e6 / s);
    }
    for (size_t i = 0; i < p->n_stages; i++)
        bench_series_add(&p->stages[i].thread_s, p->stages[i].s);
    if (sums->failed > p->failed_slides)
        p->failed_slides = sums->failed;
}

/* The clock of the run itself: without the start of the ranks. */
static double elapsed_of(const bench_run *run)
{
    const char *at =
        run->out.data != NULL ? strstr((const char *)run->out.data, "\"elapsed_s\":") : NULL;
    return at != NULL ? strtod(at + strlen("\"elapsed_s\":"), NULL) : (double)NAN;
}

static sm_status run_ingest(ingest_bench *b, ingest_program *p, sm_error *err)
{
    bench_argv argv = {0};
    bench_run run = {0};
    ingest_sums sums = {0};
    if (p->ranks > 1) {
        bench_argv_add(&argv, "%s", b->mpirun);
        bench_argv_add(&argv, "-n");
        bench_argv_add(&argv, "%" PRIu32, p->ranks);
    }
    bench_argv_add(&argv, "%s", b->ingest);
    bench_argv_add(&argv, "--catalog=%s", b->corpus.catalog);
    bench_argv_add(&argv, "--out=%s", b->corpus.out);
    bench_argv_add(&argv, "--threads=%" PRIu32, p->threads);
    bench_argv_split(&argv, "--log=json --quiet --grace=0");
    bench_argv_split(&argv, MODES[b->options->mode].convert);
    sm_status st = bench_run_program(&argv, &run, err);
    if (st == SM_OK && run.code != 0 && run.code != 1) /* 1: some slides failed, see the journals */
        give_up(p, run.last);
    if (st == SM_OK && p->why[0] == '\0')
        st = ingest_read_journals(b, p, &sums, err);
    if (st == SM_OK && p->why[0] == '\0' && sums.done == 0)
        give_up(p, sums.why[0] != '\0' ? sums.why : "no slide was done");
    if (st == SM_OK && p->why[0] == '\0') {
        count_ingest(p, &run, &sums);
        bench_series_add(&p->elapsed_s, elapsed_of(&run));
    }
    bench_run_free(&run);
    bench_argv_free(&argv);
    return st;
}

/* ---- the codec limit ---- */

static double number_after(const bench_run *run, const char *key)
{
    const char *at = run->out.data != NULL ? strstr((const char *)run->out.data, key) : NULL;
    return at != NULL ? strtod(at + strlen(key), NULL) : 0;
}

static sm_status limit_of(const ingest_bench *b, const ingest_slide *slide, ingest_program *p,
                          double sums[3], sm_error *err)
{
    const uint32_t mode_px = MODES[b->options->mode].tile_px;
    bench_argv argv = {0};
    bench_run run = {0};
    bench_argv_add(&argv, "%s", b->limit);
    bench_argv_split(&argv, MODES[b->options->mode].limit);
    bench_argv_add(&argv, "--tile-px=%" PRIu32, mode_px > 0 ? mode_px : slide->tile_px);
    bench_argv_add(&argv, "--threads=%" PRIu32, p->threads);
    bench_argv_add(&argv, "--");
    bench_argv_add(&argv, "%s", slide->path);
    const sm_status st = bench_run_program(&argv, &run, err);
    if (st == SM_OK && run.code != 0) {
        give_up(p, run.last);
    } else if (st == SM_OK) {
        sums[0] += number_after(&run, "\"wall_s\": "); /* its own clock: loading is not in it */
        sums[1] += number_after(&run, "\"cpu_s\": ");
        sums[2] += number_after(&run, "\"level0_mpx\": ");
    }
    bench_run_free(&run);
    bench_argv_free(&argv);
    return st;
}

/* A few slides evenly spread, scaled to the pixels of the corpus. */
static sm_status run_limit(ingest_bench *b, ingest_program *p, sm_error *err)
{
    const ingest_corpus *c = &b->corpus;
    double sums[3] = {0}; /* wall, CPU, Mpx */
    size_t n = 0, seen = 0;
    sm_status st = SM_OK;
    for (size_t i = 0; i < c->n; i++)
        n += c->slides[i].tile_px > 0 ? 1 : 0;
    if (n == 0) {
        give_up(p, "no slide of JPEG tiles in the corpus");
        return SM_OK;
    }
    const size_t most = b->options->limit_slides < n ? b->options->limit_slides : n;
    for (size_t i = 0; i < c->n && st == SM_OK && p->why[0] == '\0'; i++) {
        if (c->slides[i].tile_px == 0)
            continue;
        if (seen * most / n != (seen + 1) * most / n)
            st = limit_of(b, &c->slides[i], p, sums, err);
        seen++;
    }
    if (st != SM_OK || p->why[0] != '\0' || sums[0] <= 0 || sums[2] <= 0)
        return st;
    bench_series_add(&p->wall_s, sums[0] * c->mpx / sums[2]);
    bench_series_add(&p->cpu_s, sums[1] * c->mpx / sums[2]);
    bench_series_add(&p->mpx, sums[2] / sums[0]);
    return SM_OK;
}

/* ---- fio ---- */

/* Every n-th file, as ranks would share them, as many as fit into an argument. */
static sm_status fio_names(const ingest_corpus *c, size_t first, size_t step, sm_buf *names,
                           uint64_t *bytes, size_t *n_files, sm_error *err)
{
    sm_status st = SM_OK;
    for (size_t i = first; i < c->n && st == SM_OK && names->len < FIO_NAMES_MAX; i += step) {
        if (c->slides[i].bytes == 0)
            continue;
        if (names->len > 0)
            st = sm_buf_append(names, ":", 1, err);
        for (const char *at = c->slides[i].path; st == SM_OK && *at != '\0'; at++) {
            if (*at == ':' || *at == '\\')
                st = sm_buf_append(names, "\\", 1, err);
            if (st == SM_OK)
                st = sm_buf_append(names, at, 1, err);
        }
        *bytes += c->slides[i].bytes;
        ++*n_files;
    }
    return st == SM_OK ? sm_buf_append(names, "", 1, err) : st;
}

/* Blocks and depth are those of slidemill's own stream. */
static sm_status fio_argv(const ingest_bench *b, uint32_t jobs, bench_argv *argv, uint64_t *wanted,
                          size_t *n_files, sm_error *err)
{
    sm_status st = SM_OK;
    bench_argv_add(argv, "%s", b->fio);
    bench_argv_split(argv, "--output-format=json --group_reporting --rw=read --bs=4M "
                           "--ioengine=io_uring --iodepth=6 --direct=0 "
                           "--file_service_type=sequential");
    bench_argv_add(argv, "--invalidate=%d", b->options->cache == INGEST_WARM ? 0 : 1);
    for (uint32_t j = 0; j < jobs && st == SM_OK; j++) {
        sm_buf names = {0};
        st = fio_names(&b->corpus, j, jobs, &names, wanted, n_files, err);
        if (st == SM_OK) {
            bench_argv_add(argv, "--name=reader%" PRIu32, j);
            bench_argv_add(argv, "--filename=%s", (const char *)names.data);
        }
        sm_buf_free(&names);
    }
    return st;
}

/* Of the group's read: bytes, and ms by fio's own clock, without laying out and forking. */
static bool fio_numbers(const bench_run *run, double *bytes, double *ms)
{
    const char *read =
        run->out.data != NULL ? strstr((const char *)run->out.data, "\"read\"") : NULL;
    const char *io = read != NULL ? strstr(read, "\"io_bytes\"") : NULL;
    const char *time = read != NULL ? strstr(read, "\"runtime\"") : NULL;
    if (io == NULL || time == NULL)
        return false;
    *bytes = strtod(io + strcspn(io, ":") + 1, NULL);
    *ms = strtod(time + strcspn(time, ":") + 1, NULL);
    return *bytes > 0;
}

static sm_status run_fio(ingest_bench *b, ingest_program *p, sm_error *err)
{
    const uint32_t jobs = p->ranks < b->corpus.n ? p->ranks : (uint32_t)b->corpus.n;
    bench_argv argv = {0};
    bench_run run = {0};
    uint64_t wanted = 0;
    size_t n_files = 0;
    double bytes = 0, ms = 0;
    sm_status st = fio_argv(b, jobs, &argv, &wanted, &n_files, err);
    if (st == SM_OK)
        st = bench_run_program(&argv, &run, err);
    if (st == SM_OK && run.code != 0)
        give_up(p, run.last);
    else if (st == SM_OK && !fio_numbers(&run, &bytes, &ms))
        give_up(p, "fio printed no result");
    else if (st == SM_OK && bytes + (double)n_files * (4 << 20) < (double)wanted)
        give_up(p, "fio did not read all of the files"); /* whole blocks only: less than one each */
    else if (st == SM_OK) {
        const double rate = bytes / fmax(ms, 1) * 1e3;
        bench_series_add(&p->wall_s, (double)b->corpus.bytes / rate);
        bench_series_add(&p->cpu_s, run.cpu_s);
        bench_series_add(&p->mb_in, rate / 1e6);
    }
    bench_run_free(&run);
    bench_argv_free(&argv);
    return st;
}

sm_status ingest_run_once(ingest_bench *b, ingest_program *p, sm_error *err)
{
    sm_status st = start_anew(b, err);
    if (st != SM_OK)
        return st;
    switch (p->kind) {
    case INGEST_RUN:
        return run_ingest(b, p, err);
    case INGEST_LIMIT:
        return run_limit(b, p, err);
    case INGEST_FIO:
        return run_fio(b, p, err);
    }
    return sm_fail(err, SM_ERR_INTERNAL, "program %d", (int)p->kind);
}
