/* The corpus of `slidemill bench ingest`: mosaics made in a folder of DIR, or slides that are
 * there, and the catalog of the runs. Owns the folder and the list of slides. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench/ingest_bench.h"
#include "common/catalog.h"
#include "common/path.h"
#include "common/stop.h"
#include "common/sysinfo.h"
#include "ingest/rank.h"
#include "tiler/slide.h"

#define FOLDER_PREFIX ".slidemill-ingest."

/* ---- the command line ---- */

static sm_status parse_list(const char *option, const char *text, uint32_t most, ingest_list *list,
                            sm_error *err)
{
    const char *at = text;
    list->n = 0;
    do {
        char *end = NULL;
        const unsigned long value = *at >= '1' && *at <= '9' ? strtoul(at, &end, 10) : 0;
        if (value == 0 || value > most || (*end != ',' && *end != '\0'))
            return sm_fail(err, SM_ERR_ARG,
                           "--%s: '%s' is not a list of numbers in 1..%" PRIu32 " such as 1,2,4",
                           option, text, most);
        for (uint32_t i = 0; i < list->n; i++)
            if (list->values[i] == value)
                return sm_fail(err, SM_ERR_ARG, "--%s: %lu stands there twice", option, value);
        if (list->n == INGEST_LIST_MAX)
            return sm_fail(err, SM_ERR_ARG, "--%s: more than %d numbers", option, INGEST_LIST_MAX);
        list->values[list->n++] = (uint32_t)value;
        at = *end == ',' ? end + 1 : end;
        if (*end == ',' && *at == '\0')
            return sm_fail(err, SM_ERR_ARG, "--%s: '%s' ends in a comma", option, text);
    } while (*at != '\0');
    return SM_OK;
}

static sm_status own(const char *name, char path[PATH_MAX], sm_error *err)
{
    if (bench_own_program(name, path))
        return SM_OK;
    return sm_fail(err, SM_ERR_IO,
                   "the program %s is neither beside this one nor in ../libexec/slidemill", name);
}

static sm_status find_others(ingest_bench *b, sm_error *err)
{
    sm_status st = SM_OK;
    if (strcmp(sm_ranks_library(), "none") != 0 && bench_other_program("mpirun", NULL, b->mpirun))
        st = bench_version(b->mpirun, "--version", b->mpirun_version, err);
    else
        b->mpirun[0] = '\0';
    if (st == SM_OK && bench_other_program("fio", NULL, b->fio))
        st = bench_version(b->fio, "--version", b->fio_version, err);
    else
        b->fio[0] = '\0';
    return st;
}

/* mpirun inside mpirun does not work. */
static const char *const LAUNCHED[] = {"OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_RANK"};

sm_status ingest_prepare(const ingest_options *options, ingest_bench *b, sm_error *err)
{
    b->options = options;
    b->corpus.lock_fd = -1;
    b->cpus = (uint32_t)sm_sysinfo_threads().value;
    if (options->corpus != NULL && options->catalog != NULL)
        return sm_fail(err, SM_ERR_ARG, "--corpus and --catalog exclude each other");
    if (options->slide != NULL && (options->corpus != NULL || options->catalog != NULL))
        return sm_fail(err, SM_ERR_ARG, "--slide is for a corpus that is made");
    if (options->slide != NULL && access(options->slide, R_OK) != 0)
        return sm_fail_errno(err, SM_ERR_ARG, errno, "%s", options->slide);
    for (size_t i = 0; i < SM_COUNT(LAUNCHED); i++)
        if (getenv(LAUNCHED[i]) != NULL)
            return sm_fail(err, SM_ERR_ARG, "not under mpirun: it starts the ranks itself");
    sm_status st = parse_list("ranks", options->ranks, INGEST_RANKS_MAX, &b->ranks, err);
    if (st == SM_OK)
        st = parse_list("threads", options->threads, 1024, &b->threads, err);
    if (st == SM_OK)
        st = own("slidemill-ingest", b->ingest, err);
    if (st == SM_OK)
        st = own("codec-limit", b->limit, err);
    return st == SM_OK ? find_others(b, err) : st;
}

/* ---- slides ---- */

static sm_status must_work(const bench_argv *argv, const char *what, sm_error *err)
{
    bench_run run = {0};
    sm_status st = bench_run_program(argv, &run, err);
    if (st == SM_OK && run.code != 0)
        st = sm_fail(err,
                     run.code == 2    ? SM_ERR_ARG
                     : run.code == 65 ? SM_ERR_FORMAT
                                      : SM_ERR_IO,
                     "%s ended with %d: %s", what, run.code, run.last);
    bench_run_free(&run);
    return st;
}

/* The mosaic needs a slide with tiles; without one it is drawn first. */
static sm_status make_first(const ingest_bench *b, const char *path, sm_error *err)
{
    const ingest_options *o = b->options;
    char tool[PATH_MAX], drawn[PATH_MAX];
    bench_argv argv = {0};
    sm_status st = own("mosaic", tool, err);
    (void)snprintf(drawn, sizeof drawn, "%.*s/drawn.svs", PATH_MAX - 16, b->corpus.folder);
    if (st == SM_OK && o->slide == NULL) {
        bench_argv_add(&argv, "%s", tool);
        bench_argv_add(&argv, "--synthetic");
        bench_argv_add(&argv, "%s", drawn);
        st = must_work(&argv, "mosaic", err);
        bench_argv_free(&argv);
    }
    if (st == SM_OK) {
        bench_argv_add(&argv, "%s", tool);
        bench_argv_add(&argv, "--width=%" PRIu32, o->width_px);
        bench_argv_add(&argv, "--height=%" PRIu32, o->height_px);
        bench_argv_add(&argv, "--");
        bench_argv_add(&argv, "%s", o->slide != NULL ? o->slide : drawn);
        bench_argv_add(&argv, "%s", path);
        st = must_work(&argv, "mosaic", err);
        bench_argv_free(&argv);
    }
    (void)unlink(drawn);
    return st;
}

static sm_status copy_bytes(int in, int out, uint64_t bytes, const char *to, sm_error *err)
{
    enum { CHUNK = 4 << 20 };
    uint8_t *chunk = sm_malloc_array(CHUNK, 1);
    sm_status st = chunk != NULL ? SM_OK : sm_fail(err, SM_ERR_NOMEM, "no memory for a copy");
    uint64_t done = 0;
    while (st == SM_OK && done < bytes) {
        const ssize_t got = pread(in, chunk, CHUNK, (off_t)done);
        if (got <= 0)
            st = sm_fail_errno(err, SM_ERR_IO, got < 0 ? errno : EIO, "%s: cannot copy", to);
        for (ssize_t at = 0; st == SM_OK && at < got;) {
            const ssize_t put = write(out, chunk + at, (size_t)(got - at));
            if (put < 0)
                st = sm_fail_errno(err, SM_ERR_IO, errno, "%s: cannot write", to);
            else
                at += put;
        }
        done += got > 0 ? (uint64_t)got : 0;
        if (st == SM_OK)
            st = sm_stop_check(err);
    }
    free(chunk);
    return st;
}

static sm_status copy_file(const char *from, const char *to, uint64_t bytes, sm_error *err)
{
    const int in = open(from, O_RDONLY | O_CLOEXEC);
    const int out = in >= 0 ? open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666) : -1;
    sm_status st = SM_OK;
    if (in < 0 || out < 0)
        st = sm_fail_errno(err, SM_ERR_IO, errno, "%s", in < 0 ? from : to);
    else
        st = copy_bytes(in, out, bytes, to, err);
    if (out >= 0 && close(out) != 0 && st == SM_OK)
        st = sm_fail_errno(err, SM_ERR_IO, errno, "%s: cannot write", to);
    if (in >= 0)
        (void)close(in);
    return st;
}

/* Slides, and one set of outputs at a time: transcoded lossless they take two bytes a pixel. */
static sm_status check_room(const ingest_bench *b, uint64_t bytes, uint64_t to_make, sm_error *err)
{
    const ingest_options *o = b->options;
    const double px = (double)o->width_px * o->height_px * o->slides;
    const double out = o->mode == INGEST_ZSTD && to_make > 0 ? 2 * px : 1.5 * (double)bytes;
    const double need = (double)to_make + out, free_bytes = (double)bench_free_bytes(o->dir);
    if (free_bytes > 0 && free_bytes < need)
        return sm_fail(err, SM_ERR_LIMIT,
                       "%s has %.1f GB free, about %.1f GB are needed: fewer --slides, or smaller",
                       o->dir, free_bytes / 1e9, need / 1e9);
    return SM_OK;
}

static sm_status make_slides(ingest_bench *b, sm_error *err)
{
    char first[PATH_MAX], next[PATH_MAX];
    struct stat info;
    ingest_corpus *c = &b->corpus;
    (void)snprintf(c->root, sizeof c->root, "%.*s/slides", PATH_MAX - 16, c->folder);
    if (mkdir(c->root, 0777) != 0)
        return sm_fail_errno(err, SM_ERR_IO, errno, "%s", c->root);
    (void)snprintf(first, sizeof first, "%.*s/s0000.svs", PATH_MAX - 32, c->root);
    sm_status st = make_first(b, first, err);
    if (st != SM_OK)
        return st;
    if (stat(first, &info) != 0)
        return sm_fail_errno(err, SM_ERR_IO, errno, "%s", first);
    const uint64_t bytes = (uint64_t)info.st_size;
    st = check_room(b, bytes * b->options->slides, bytes * (b->options->slides - 1), err);
    for (uint32_t i = 1; st == SM_OK && i < b->options->slides; i++) {
        (void)snprintf(next, sizeof next, "%.*s/s%04" PRIu32 ".svs", PATH_MAX - 32, c->root, i);
        st = copy_file(first, next, bytes, err);
    }
    return st;
}

/* ---- the catalog ---- */

static sm_status export_list(const ingest_bench *b, const char *tool, const char *list,
                             sm_error *err)
{
    bench_argv argv = {0};
    bench_argv_add(&argv, "%s", tool);
    bench_argv_split(&argv, "export --format=csv");
    bench_argv_add(&argv, "--output=%s", list);
    bench_argv_add(&argv, "%s", b->options->catalog);
    const sm_status st = must_work(&argv, "catalog export", err);
    bench_argv_free(&argv);
    return st;
}

static sm_status create_catalog(ingest_bench *b, const char *list, const char *tool, sm_error *err)
{
    ingest_corpus *c = &b->corpus;
    bench_argv argv = {0};
    (void)snprintf(c->catalog, sizeof c->catalog, "%.*s/corpus.smc", PATH_MAX - 16, c->folder);
    (void)snprintf(c->out, sizeof c->out, "%.*s/out", PATH_MAX - 16, c->folder);
    bench_argv_add(&argv, "%s", tool);
    bench_argv_split(&argv, "create");
    bench_argv_add(&argv, "--output=%s", c->catalog);
    if (list != NULL) {
        bench_argv_split(&argv, "--no-scan --kind=csv");
        bench_argv_add(&argv, "--from=%s", list);
    }
    bench_argv_add(&argv, "--");
    bench_argv_add(&argv, "%s", c->root);
    const sm_status st = must_work(&argv, "catalog create", err);
    bench_argv_free(&argv);
    return st;
}

static sm_status root_of(const char *path, char root[PATH_MAX], sm_error *err)
{
    sm_catalog *catalog = NULL;
    const sm_status st = sm_catalog_open(path, &catalog, err);
    if (st == SM_OK)
        (void)snprintf(root, PATH_MAX, "%s", sm_catalog_root(catalog));
    sm_catalog_close(&catalog);
    return st;
}

/* A catalog of our own in any case: what is done in the given one would not be done again. */
static sm_status make_catalog(ingest_bench *b, sm_error *err)
{
    char tool[PATH_MAX], list[PATH_MAX];
    sm_status st = own("slidemill-catalog", tool, err);
    if (st != SM_OK || b->options->catalog == NULL)
        return st == SM_OK ? create_catalog(b, NULL, tool, err) : st;
    (void)snprintf(list, sizeof list, "%.*s/list.csv", PATH_MAX - 16, b->corpus.folder);
    st = root_of(b->options->catalog, b->corpus.root, err);
    if (st == SM_OK)
        st = export_list(b, tool, list, err);
    return st == SM_OK ? create_catalog(b, list, tool, err) : st;
}

/* ---- what the slides are ---- */

static void look_at(ingest_slide *slide)
{
    sm_error ignored = SM_ERROR_INIT;
    sm_source *source = NULL;
    sm_slide *open = NULL;
    if (sm_source_open(slide->path, &source, &ignored) == SM_OK) {
        slide->bytes = sm_source_size(source);
        if (sm_slide_open(source, &open, &ignored) == SM_OK) {
            const sm_level *level = sm_slide_level(open, 0);
            slide->w_px = level->w_px;
            slide->h_px = level->h_px;
            if (level->tiled && level->codec == SM_CODEC_JPEG && level->samples == 3 &&
                !level->planar && level->n_missing == 0 && level->tile_w_px % 16 == 0 &&
                level->tile_h_px % 16 == 0)
                slide->tile_px = level->tile_w_px == level->tile_h_px ? level->tile_w_px : 256;
        }
        sm_slide_close(&open);
    }
    sm_source_close(&source);
}

static sm_status add_slide(ingest_corpus *c, const char *relative, sm_error *err)
{
    sm_buf path = {0};
    if (c->n == c->cap) {
        const size_t cap = c->cap > 0 ? 2 * c->cap : 64;
        ingest_slide *grown = reallocarray(c->slides, cap, sizeof *grown);
        if (grown == NULL)
            return sm_fail(err, SM_ERR_NOMEM, "no memory for %zu slides", cap);
        c->slides = grown;
        c->cap = cap;
    }
    const sm_status st = sm_path_join(c->root, relative, &path, err);
    if (st != SM_OK)
        return st;
    ingest_slide *slide = &c->slides[c->n++];
    *slide = (ingest_slide){.path = (char *)path.data};
    look_at(slide);
    c->bytes += slide->bytes;
    c->mpx += (double)slide->w_px * slide->h_px / 1e6;
    return SM_OK;
}

static sm_status list_slides(ingest_corpus *c, sm_error *err)
{
    const sm_slide_filter all = {0};
    sm_catalog *catalog = NULL;
    sm_slide_cursor *cursor = NULL;
    sm_slide_row row;
    bool more = true;
    sm_status st = sm_catalog_open(c->catalog, &catalog, err);
    if (st == SM_OK)
        st = sm_catalog_slides(catalog, &all, &cursor, err);
    while (st == SM_OK && more) {
        st = sm_slide_cursor_next(cursor, &row, &more, err);
        if (st == SM_OK && more)
            st = add_slide(c, row.path, err);
        if (st == SM_OK)
            st = sm_stop_check(err);
    }
    sm_slide_cursor_close(&cursor);
    sm_catalog_close(&catalog);
    if (st == SM_OK && c->n == 0)
        st = sm_fail(err, SM_ERR_ARG, "%s: no slide in it", c->root);
    return st;
}

sm_status ingest_corpus_make(ingest_bench *b, sm_error *err)
{
    const ingest_options *o = b->options;
    ingest_corpus *c = &b->corpus;
    sm_status st = bench_folder_make(o->dir, FOLDER_PREFIX, c->folder, &c->lock_fd, err);
    if (st == SM_OK && o->corpus == NULL && o->catalog == NULL) {
        if (!o->quiet)
            (void)fprintf(stderr, "making %" PRIu32 " slides of %" PRIu32 " x %" PRIu32 " px\n",
                          o->slides, o->width_px, o->height_px);
        st = make_slides(b, err);
    } else if (st == SM_OK && o->corpus != NULL && realpath(o->corpus, c->root) == NULL) {
        st = sm_fail_errno(err, SM_ERR_ARG, errno, "%s", o->corpus);
    }
    if (st == SM_OK)
        st = make_catalog(b, err);
    if (st == SM_OK)
        st = list_slides(c, err);
    if (st == SM_OK && (o->corpus != NULL || o->catalog != NULL))
        st = check_room(b, c->bytes, 0, err);
    return st;
}

bool ingest_corpus_remove(ingest_corpus *c)
{
    const bool gone = c->folder[0] == '\0' || bench_remove_tree(c->folder);
    if (c->lock_fd >= 0)
        (void)close(c->lock_fd);
    c->lock_fd = -1;
    for (size_t i = 0; i < c->n; i++)
        free(c->slides[i].path);
    free(c->slides);
    c->slides = NULL;
    c->n = c->cap = 0;
    return gone;
}
