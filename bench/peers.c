/* `slidemill bench peers`: one slide through several programs in turns. Owns the folder of the
 * outputs and the slide that is made. */
#include "bench/peers.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/sysinfo.h"

#define FOLDER_PREFIX ".slidemill-peers."

/* Alike where programs can be told: tiles of 256 px, JPEG at quality 75 with chroma halved, a
 * pyramid. vips reads without the alpha band its loader would add ([rgb]). */
static const peers_row ROWS[] = {
    {"slidemill convert copy", NULL, "pyramid, level 0 copied", "slidemill-convert",
     "--quiet --threads=@THREADS --levels=dyadic --tiles=auto --quality=75 --subsampling=420 @IN "
     "@OUT",
     ".ome.tiff", PEERS_TIFF, true},
    {"slidemill convert transcode", NULL, "JPEG pyramid", "slidemill-convert",
     "--quiet --threads=@THREADS --levels=dyadic --tiles=transcode --tile-px=256 --quality=75 "
     "--subsampling=420 @IN @OUT",
     ".ome.tiff", PEERS_TIFF, true},
    {"slidemill convert zstd", NULL, "lossless pyramid", "slidemill-convert",
     "--quiet --threads=@THREADS --levels=dyadic --codec=zstd --tile-px=256 @IN @OUT", ".ome.tiff",
     PEERS_TIFF, true},
    {"vips tiffsave jpeg", "--version", "JPEG pyramid", "vips",
     "tiffsave @IN[rgb] @OUT --tile --pyramid --tile-width=256 --tile-height=256 --bigtiff "
     "--compression=jpeg --Q=75",
     ".tif", PEERS_TIFF, false},
    {"vips tiffsave zstd", "--version", "lossless pyramid", "vips",
     "tiffsave @IN[rgb] @OUT --tile --pyramid --tile-width=256 --tile-height=256 --bigtiff "
     "--compression=zstd --predictor=horizontal",
     ".tif", PEERS_TIFF, false},
    {"vips dzsave", "--version", "JPEG pyramid, loose tiles", "vips",
     "dzsave @IN[rgb] @OUT --tile-size=256 --overlap=0 --suffix=.jpg[Q=75]", "", PEERS_DZI, false},
    {"wsic jpeg", NULL, "JPEG tiles, one level", "wsic",
     "convert -i @IN -o @OUT -t 256 256 -w @THREADS -c jpeg -cl 75", ".tiff", PEERS_TIFF, false},
    {"wsidicomizer", NULL, "DICOM pyramid, level 0 copied", "wsidicomizer",
     "-i @IN -o @OUT -w @THREADS --add-missing-levels --quality 75", "", PEERS_DICOM, false},
    {"slidemill convert source", NULL, "verified copy of all tiles", "slidemill-convert",
     "--quiet --threads=@THREADS --levels=source --tiles=copy @IN @OUT", ".ome.tiff", PEERS_TIFF,
     true},
    {"sha256sum", "--version", "bytes read and hashed", "sha256sum", "@IN", "", PEERS_NONE, false},
    {"cp", "--version", "bytes copied", "cp", "@IN @OUT", ".svs", PEERS_COPY, false},
    {"dcp", NULL, "bytes copied, MPI", "dcp", "@MPI @IN @OUT", ".svs", PEERS_COPY, false},
    {"dsync", NULL, "bytes copied, MPI", "dsync", "@MPI @IN @OUT", ".svs", PEERS_COPY, false},
};

/* ---- which rows ---- */

/* Is one of the words of the list part of the name? */
static bool is_wanted(const char *list, const char *name)
{
    if (list == NULL)
        return true;
    while (*list != '\0') {
        const size_t len = strcspn(list, ",");
        if (len > 0 && memmem(name, strlen(name), list, len) != NULL)
            return true;
        list += len + (list[len] == ',');
    }
    return false;
}

static sm_status ask_version(peers_program *p, sm_error *err)
{
    static const char ASK[] = "import importlib.metadata,sys;"
                              "print(sys.argv[1],importlib.metadata.version(sys.argv[1]))";
    char python[PATH_MAX];
    if (p->row->versions != NULL)
        return bench_version(p->path, p->row->versions, p->version, err);
    if (p->row->ours) {
        (void)snprintf(p->version, sizeof p->version, "slidemill " SM_VERSION);
        return SM_OK;
    }
    /* of a Python environment: the interpreter beside the program knows */
    const char *slash = strrchr(p->path, '/');
    (void)snprintf(python, sizeof python, "%.*s/python3", (int)(slash - p->path), p->path);
    if (strncmp(p->row->program, "wsi", 3) != 0 || access(python, X_OK) != 0)
        return SM_OK;
    bench_argv argv = {0};
    bench_run run = {0};
    bench_argv_add(&argv, "%s", python);
    bench_argv_add(&argv, "-c");
    bench_argv_add(&argv, "%s", ASK);
    bench_argv_add(&argv, "%s", p->row->program);
    const sm_status st = bench_run_program(&argv, &run, err);
    if (st == SM_OK && run.code == 0)
        (void)snprintf(p->version, sizeof p->version, "%.*s",
                       (int)strcspn((const char *)run.out.data, "\r\n"),
                       (const char *)run.out.data);
    bench_run_free(&run);
    bench_argv_free(&argv);
    return st;
}

static sm_status find_program(const peers_bench *b, peers_program *p, sm_error *err)
{
    char bin[PATH_MAX], mpirun[PATH_MAX];
    const peers_row *row = p->row;
    if (row->ours) {
        p->absent = !bench_own_program(row->program, p->path);
    } else {
        if (b->options->venv != NULL)
            (void)snprintf(bin, sizeof bin, "%.*s/bin", PATH_MAX - 8, b->options->venv);
        p->absent =
            !bench_other_program(row->program, b->options->venv != NULL ? bin : NULL, p->path);
    }
    if (p->absent)
        (void)snprintf(p->why, sizeof p->why, "%s is not on PATH%s", row->program,
                       b->options->venv != NULL ? " or in --venv" : "");
    else if (strncmp(row->words, "@MPI", 4) == 0 && !bench_other_program("mpirun", NULL, mpirun)) {
        p->absent = true;
        (void)snprintf(p->why, sizeof p->why, "mpirun is not on PATH");
    }
    return p->absent ? SM_OK : ask_version(p, err);
}

static sm_status choose_rows(peers_bench *b, sm_error *err)
{
    sm_status st = SM_OK;
    for (size_t i = 0; i < SM_COUNT(ROWS) && st == SM_OK; i++) {
        if (!is_wanted(b->options->programs, ROWS[i].name))
            continue;
        peers_program *p = &b->programs[b->n++];
        p->row = &ROWS[i];
        st = find_program(b, p, err);
    }
    if (st == SM_OK && b->n == 0)
        st = sm_fail(err, SM_ERR_ARG, "--programs: '%s' is part of no row's name",
                     b->options->programs);
    return st;
}

/* ---- the slide ---- */

static sm_status mosaic(const bench_argv *argv, sm_error *err)
{
    bench_run run = {0};
    sm_status st = bench_run_program(argv, &run, err);
    if (st == SM_OK && run.code != 0)
        st = sm_fail(err, SM_ERR_IO, "mosaic ended with %d: %s", run.code, run.last);
    bench_run_free(&run);
    return st;
}

static sm_status make_slide(peers_bench *b, sm_error *err)
{
    char tool[PATH_MAX], drawn[PATH_MAX];
    bench_argv draw = {0}, make = {0};
    if (!bench_own_program("mosaic", tool))
        return sm_fail(err, SM_ERR_IO,
                       "the program mosaic is neither beside this one nor in "
                       "../libexec/slidemill");
    (void)snprintf(drawn, sizeof drawn, "%.*s/drawn.svs", PATH_MAX - 16, b->folder);
    (void)snprintf(b->slide, sizeof b->slide, "%.*s/mosaic.svs", PATH_MAX - 16, b->folder);
    bench_argv_add(&draw, "%s", tool);
    bench_argv_add(&draw, "--synthetic");
    bench_argv_add(&draw, "%s", drawn);
    bench_argv_add(&make, "%s", tool);
    bench_argv_add(&make, "--width=%" PRIu32, b->options->width_px);
    bench_argv_add(&make, "--height=%" PRIu32, b->options->height_px);
    bench_argv_add(&make, "%s", drawn);
    bench_argv_add(&make, "%s", b->slide);
    sm_status st = mosaic(&draw, err);
    if (st == SM_OK)
        st = mosaic(&make, err);
    bench_argv_free(&draw);
    bench_argv_free(&make);
    (void)unlink(drawn);
    return st;
}

static const char *scratch_of(const peers_options *o)
{
    const char *tmp = getenv("TMPDIR");
    return o->dir != NULL ? o->dir : tmp != NULL && *tmp != '\0' ? tmp : "/tmp";
}

static sm_status check_room(const peers_bench *b, sm_error *err)
{
    bool lossless = false;
    for (uint32_t i = 0; i < b->n; i++)
        lossless = lossless || strstr(b->programs[i].row->name, "zstd") != NULL;
    const double need =
        fmax((double)b->slide_bytes * 2, (double)b->w_px * b->h_px * (lossless ? 3 : 1));
    const double free_bytes = (double)bench_free_bytes(b->folder);
    if (free_bytes > 0 && free_bytes < need)
        return sm_fail(err, SM_ERR_LIMIT,
                       "%.1f GB are free, about %.1f GB are needed: another "
                       "--dir, or a smaller slide",
                       free_bytes / 1e9, need / 1e9);
    return SM_OK;
}

sm_status peers_prepare(const peers_options *o, peers_bench *b, sm_error *err)
{
    char threads[16];
    struct stat info;
    *b = (peers_bench){.options = o, .lock_fd = -1};
    b->threads = o->threads > 0 ? o->threads : (uint32_t)sm_sysinfo_threads().value;
    (void)snprintf(threads, sizeof threads, "%" PRIu32, b->threads);
    (void)setenv("VIPS_CONCURRENCY", threads, 1);
    if (o->venv != NULL && (stat(o->venv, &info) != 0 || !S_ISDIR(info.st_mode)))
        return sm_fail(err, SM_ERR_ARG, "--venv: %s is no folder", o->venv);
    if (o->slide != NULL && realpath(o->slide, b->slide) == NULL)
        return sm_fail_errno(err, SM_ERR_ARG, errno, "%s", o->slide);
    sm_status st = choose_rows(b, err);
    if (st == SM_OK)
        st = bench_folder_make(scratch_of(o), FOLDER_PREFIX, b->folder, &b->lock_fd, err);
    if (st == SM_OK)
        (void)snprintf(b->out, sizeof b->out, "%.*s/out", PATH_MAX - 16, b->folder);
    if (st == SM_OK && o->slide == NULL)
        st = make_slide(b, err);
    if (st == SM_OK)
        st = peers_size_of(b->slide, &b->w_px, &b->h_px, &b->slide_bytes, err);
    return st == SM_OK ? check_room(b, err) : st;
}

/* ---- running ---- */

static void add_mpi(const peers_bench *b, bench_argv *argv)
{
    char mpirun[PATH_MAX];
    if (!bench_other_program("mpirun", NULL, mpirun))
        return;
    bench_argv_add(argv, "%s", mpirun);
    bench_argv_add(argv, "-n");
    bench_argv_add(argv, "%" PRIu32, b->threads);
}

/* The row's words with the places filled in. */
static void fill_argv(const peers_bench *b, const peers_program *p, const char *out,
                      bench_argv *argv)
{
    const char *words = p->row->words;
    if (strncmp(words, "@MPI ", 5) == 0) {
        add_mpi(b, argv);
        words += 5;
    }
    bench_argv_add(argv, "%s", p->path);
    while (*words != '\0') {
        const size_t len = strcspn(words, " ");
        if (strncmp(words, "@IN", 3) == 0)
            bench_argv_add(argv, "%s%.*s", b->slide, (int)len - 3, words + 3);
        else if (strncmp(words, "@OUT", 4) == 0)
            bench_argv_add(argv, "%s", out);
        else if (strncmp(words, "--threads=@THREADS", len) == 0 && len == 18)
            bench_argv_add(argv, "--threads=%" PRIu32, b->threads);
        else if (strncmp(words, "@THREADS", len) == 0 && len == 8)
            bench_argv_add(argv, "%" PRIu32, b->threads);
        else
            bench_argv_add(argv, "%.*s", (int)len, words);
        words += len + (words[len] == ' ');
    }
}

static void warm(const char *path)
{
    enum { CHUNK = 1 << 20 };
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    uint8_t *chunk = fd >= 0 ? sm_malloc_array(CHUNK, 1) : NULL;
    while (chunk != NULL && read(fd, chunk, CHUNK) > 0)
        ;
    free(chunk);
    if (fd >= 0)
        (void)close(fd);
}

static sm_status empty_out(const peers_bench *b, sm_error *err)
{
    if (!bench_remove_tree(b->out) || mkdir(b->out, 0777) != 0)
        return sm_fail_errno(err, SM_ERR_IO, errno, "%s: cannot be emptied", b->out);
    const int fd = open(b->out, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        (void)syncfs(fd); /* nobody else's dirty pages on the way to the disk */
        (void)close(fd);
    }
    return SM_OK;
}

static void count(const peers_bench *b, peers_program *p, const bench_run *run)
{
    uint64_t bytes = 0;
    bench_series_add(&p->wall_s, run->wall_s);
    bench_series_add(&p->cpu_s, run->cpu_s);
    bench_series_add(&p->rss_mib, run->rss_mib);
    bench_series_add(&p->mpx, (double)b->w_px * b->h_px / 1e6 / run->wall_s);
    bench_series_add(&p->mb_in, (double)b->slide_bytes / 1e6 / run->wall_s);
    bench_count_tree(b->out, &bytes, &p->files);
    if (p->row->output != PEERS_NONE)
        bench_series_add(&p->bytes, (double)bytes);
}

static sm_status run_once(peers_bench *b, peers_program *p, sm_error *err)
{
    char out[PATH_MAX];
    bench_argv argv = {0};
    bench_run run = {0};
    sm_status st = empty_out(b, err);
    if (st != SM_OK)
        return st;
    (void)snprintf(out, sizeof out, "%.*s/out%s", PATH_MAX - 32, b->out, p->row->suffix);
    fill_argv(b, p, out, &argv);
    warm(b->slide);
    st = bench_run_program(&argv, &run, err);
    if (st == SM_OK && run.code != 0)
        (void)snprintf(p->why, sizeof p->why, "ended with %d: %.160s", run.code,
                       run.last[0] != '\0' ? run.last : "no message");
    else if (st == SM_OK && peers_check(b, p->row, out, p->why))
        count(b, p, &run);
    bench_run_free(&run);
    bench_argv_free(&argv);
    return st;
}

static void say(const peers_bench *b, uint32_t round, const peers_program *p)
{
    if (b->options->quiet)
        return;
    (void)fprintf(stderr, "run %" PRIu32 "/%" PRIu32 "  %-27s ", round + 1, b->options->repeats,
                  p->row->name);
    if (p->why[0] != '\0')
        (void)fprintf(stderr, "%s\n", p->why);
    else
        (void)fprintf(stderr, "%8.2f s\n", p->wall_s.runs[p->wall_s.n - 1]);
}

sm_status peers_measure(peers_bench *b, sm_error *err)
{
    sm_status st = SM_OK;
    for (uint32_t round = 0; st == SM_OK && round < b->options->repeats; round++) {
        for (uint32_t i = 0; st == SM_OK && i < b->n; i++) {
            peers_program *p = &b->programs[(i + round) % b->n];
            if (p->why[0] != '\0')
                continue;
            st = run_once(b, p, err);
            if (st == SM_OK)
                say(b, round, p);
        }
    }
    return st;
}

bool peers_any_of_ours(const peers_bench *b)
{
    bool wanted = false, any = false;
    for (uint32_t i = 0; i < b->n; i++) {
        wanted = wanted || b->programs[i].row->ours;
        any = any || (b->programs[i].row->ours && b->programs[i].why[0] == '\0');
    }
    return any || !wanted;
}

bool peers_remove(peers_bench *b)
{
    const bool gone = b->folder[0] == '\0' || bench_remove_tree(b->folder);
    if (b->lock_fd >= 0)
        (void)close(b->lock_fd);
    b->lock_fd = -1;
    return gone;
}
