/* One load: streams that start together, each a thread with its own ring, as ranks of an ingest
 * have them. The clock runs from the common start until the first stream has nothing left, so that
 * no rate is of a time when others had ended. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "bench/bricks.h"
#include "common/buf.h"
#include "common/ring.h"
#include "common/stop.h"
#include "common/sysinfo.h"

enum { DEPTH = 6, PAGE = 4096, DIRECTORY_READS = 32, FSYNCS_MAX = 256, STALE_TRIES = 60 };

typedef struct load {
    const bricks_probe *probe;
    const bricks_point *point;
    uint64_t ns; /* 0: the files to read are made */
    unsigned depth;
    pthread_mutex_t gate; /* all start together, and clean up together */
    pthread_cond_t opened;
    uint32_t n_running, n_at_gate, n_openings;
    atomic_bool over;
} load;

typedef struct worker {
    load *all;
    bricks_stream *stream;
    pthread_t thread;
    bool running;
    sm_ring *ring;
    sm_ring_op ops[DEPTH];
    sm_ring_op *idle[DEPTH];
    unsigned n_idle;
    uint8_t *memory; /* depth blocks */
    uint64_t deadline_ns;
} worker;

static const char *last_backend = "none";

const char *bricks_backend(void)
{
    return last_backend;
}

static bool makes_files(const load *all)
{
    return all->ns == 0;
}

static bool is_over(const worker *w)
{
    return sm_stop_requested() ||
           (!makes_files(w->all) && (atomic_load(&w->all->over) || sm_now_ns() >= w->deadline_ns));
}

/* ---- bytes ---- */

static void fill_random(uint8_t *bytes, size_t len, uint64_t seed)
{
    uint64_t x = seed * UINT64_C(0x9E3779B97F4A7C15) + 1;
    for (size_t i = 0; i + sizeof x <= len; i += sizeof x) {
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        memcpy(bytes + i, &x, sizeof x);
    }
}

static sm_status submit(worker *w, int fd, uint64_t offset, sm_error *err)
{
    const bool write = w->all->point->kind == BRICKS_WRITE;
    const uint64_t left = w->all->probe->file_bytes - offset;
    const size_t block = w->all->point->block_bytes;
    sm_ring_op *op = w->idle[w->n_idle - 1];

    op->fd = fd;
    op->write = write;
    op->len = left < block ? (size_t)left : block;
    op->offset = offset;
    op->done = 0;
    op->sys_errno = 0;
    if (write) /* no two blocks alike, for stores that look for equal ones */
        memcpy(op->bytes, &offset, sizeof offset);
    const sm_status st = sm_ring_submit(w->ring, op, err);
    if (st == SM_OK)
        w->n_idle--;
    return st;
}

static sm_status take_one(worker *w, const char *path, bool count, sm_error *err)
{
    sm_ring_op *op = NULL;
    const sm_status st = sm_ring_wait(w->ring, &op, err);

    if (st != SM_OK)
        return st;
    w->idle[w->n_idle++] = op;
    if (op->sys_errno != 0)
        return sm_fail_errno(err, SM_ERR_IO, op->sys_errno, "%s: cannot %s at byte %" PRIu64, path,
                             op->write ? "write" : "read", op->offset + op->done);
    if (op->done < op->len)
        return sm_fail(err, SM_ERR_IO, "%s: ends at byte %" PRIu64, path, op->offset + op->done);
    if (count)
        w->stream->bytes += op->done;
    return SM_OK;
}

/* The whole file, or as much of it as there is time for; nothing is in flight afterwards. */
static sm_status transfer(worker *w, int fd, const char *path, bool timed, sm_error *err)
{
    sm_status st = SM_OK;
    uint64_t next = 0;

    for (;;) {
        const bool stop = st != SM_OK || (timed ? is_over(w) : sm_stop_requested());
        if (!stop && next < w->all->probe->file_bytes && w->n_idle > 0) {
            st = submit(w, fd, next, err);
            next += w->all->point->block_bytes;
            continue;
        }
        if (sm_ring_inflight(w->ring) == 0)
            return st;
        sm_error unused = SM_ERROR_INIT; /* the first failure is the one to tell */
        const sm_status one = take_one(w, path, timed, st == SM_OK ? err : &unused);
        if (st == SM_OK)
            st = one;
        if (one == SM_ERR_INTERNAL)
            return st;
    }
}

/* ---- one file ---- */

static sm_status open_to_write(const worker *w, const char *path, int *fd, sm_error *err)
{
    const int direct = w->all->point->direct ? O_DIRECT : 0;
    *fd = open(path, O_RDWR | O_TRUNC | O_CLOEXEC | direct);
    if (*fd < 0)
        return sm_fail_errno(err, SM_ERR_IO, errno, "%s: cannot be opened", path);
    return SM_OK;
}

/* Another client's view of a new file may be a second old. */
static sm_status open_to_read(const worker *w, const char *path, int *fd, sm_error *err)
{
    const struct timespec pause = {.tv_nsec = 50000000};
    const int direct = w->all->point->direct ? O_DIRECT : 0;

    for (unsigned tries = 0;; tries++) {
        struct stat info = {.st_size = 0};
        *fd = open(path, O_RDONLY | O_CLOEXEC | direct);
        const int why = *fd < 0 ? errno : 0;
        if (*fd >= 0 && fstat(*fd, &info) == 0 &&
            (uint64_t)info.st_size == w->all->probe->file_bytes)
            return SM_OK;
        if (*fd >= 0)
            (void)close(*fd);
        *fd = -1;
        if (tries >= STALE_TRIES || sm_stop_requested())
            return why != 0 ? sm_fail_errno(err, SM_ERR_IO, why, "%s: cannot be opened", path)
                            : sm_fail(err, SM_ERR_IO, "%s: has %jd bytes, not %" PRIu64, path,
                                      (intmax_t)info.st_size, w->all->probe->file_bytes);
        nanosleep(&pause, NULL);
    }
}

static sm_status timed_fsync(worker *w, int fd, const char *path, sm_error *err)
{
    const uint64_t began = sm_now_ns();
    if (fsync(fd) != 0)
        return sm_fail_errno(err, SM_ERR_IO, errno, "%s: cannot be made durable", path);
    w->stream->wait_ns += sm_now_ns() - began;
    w->stream->n_waits++;
    return SM_OK;
}

static sm_status write_file(worker *w, const char *path, sm_error *err)
{
    int fd = -1;
    sm_status st = open_to_write(w, path, &fd, err);
    if (st != SM_OK)
        return st;
    st = transfer(w, fd, path, true, err);
    if (st == SM_OK)
        st = timed_fsync(w, fd, path, err);
    if (st != SM_OK)
        (void)!ftruncate(fd, 0); /* give a full brick its space back at once */
    if (close(fd) != 0 && st == SM_OK)
        st = sm_fail_errno(err, SM_ERR_IO, errno, "%s: cannot be closed", path);
    return st;
}

/* The chain of directories of a slide: each read tells where the next one goes. */
static sm_status read_directories(worker *w, int fd, const char *path, sm_error *err)
{
    const uint64_t pages = w->all->probe->file_bytes / PAGE;
    const uint64_t began = sm_now_ns();
    uint64_t x = w->stream->first + 1;

    for (unsigned i = 0; i < DIRECTORY_READS; i++) {
        x = x * UINT64_C(6364136223846793005) + 1442695040888963407u;
        const uint64_t near = (x >> 33) % (pages < 64 ? pages : 64);
        const uint64_t page = i == 0 ? 0 : i % 2 == 0 ? near : pages - 1 - near;
        if (pread(fd, w->memory, PAGE, (off_t)(page * PAGE)) != PAGE)
            return sm_fail_errno(err, SM_ERR_IO, errno, "%s: cannot read at byte %" PRIu64, path,
                                 page * PAGE);
    }
    w->stream->wait_ns += sm_now_ns() - began;
    w->stream->n_waits++;
    return SM_OK;
}

static sm_status read_file(worker *w, const char *path, bool timed, sm_error *err)
{
    int fd = -1;
    sm_status st = open_to_read(w, path, &fd, err);
    if (st == SM_OK && timed && w->all->point->kind == BRICKS_SLIDE)
        st = read_directories(w, fd, path, err);
    if (st == SM_OK)
        st = transfer(w, fd, path, timed, err);
    if (fd >= 0)
        (void)close(fd);
    return st;
}

static sm_status fsync_often(worker *w, const char *path, sm_error *err)
{
    int fd = -1;
    sm_status st = open_to_write(w, path, &fd, err);
    for (unsigned i = 0; st == SM_OK && i < FSYNCS_MAX && !is_over(w); i++) {
        if (pwrite(fd, w->memory, PAGE, (off_t)i * PAGE) != PAGE)
            st = sm_fail_errno(err, SM_ERR_IO, errno, "%s: cannot write", path);
        else
            st = timed_fsync(w, fd, path, err);
        w->stream->bytes += PAGE;
    }
    if (fd >= 0 && close(fd) != 0 && st == SM_OK)
        st = sm_fail_errno(err, SM_ERR_IO, errno, "%s: cannot be closed", path);
    return st;
}

static sm_status do_file(worker *w, const char *path, sm_error *err)
{
    switch (w->all->point->kind) {
    case BRICKS_WRITE:
        return write_file(w, path, err);
    case BRICKS_FSYNC:
        return fsync_often(w, path, err);
    case BRICKS_READ:
    case BRICKS_SLIDE:
        return read_file(w, path, true, err);
    }
    return sm_fail(err, SM_ERR_INTERNAL, "load of kind %d", (int)w->all->point->kind);
}

/* ---- one stream ---- */

static bool writes(const load *all)
{
    return all->point->kind == BRICKS_WRITE || all->point->kind == BRICKS_FSYNC;
}

static void path_of(const worker *w, uint32_t file, char path[PATH_MAX])
{
    bricks_path(w->all->probe, w->stream->brick, file, writes(w->all) && !makes_files(w->all),
                path);
}

/* What this client holds of the files goes; the point's other ends are not in our hands. */
static sm_status prepare_cache(worker *w, sm_error *err)
{
    char path[PATH_MAX];
    sm_status st = SM_OK;

    if (writes(w->all))
        return SM_OK;
    if (w->all->point->warm) {
        path_of(w, w->stream->first, path);
        return read_file(w, path, false, err);
    }
    for (uint32_t f = w->stream->first; st == SM_OK && f < w->all->probe->n_files;
         f += w->stream->step) {
        path_of(w, f, path);
        const int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            continue; /* told when it is read */
        (void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
        (void)close(fd);
    }
    return st;
}

static sm_status prepare(worker *w, sm_error *err)
{
    const size_t block = w->all->point->block_bytes;
    sm_status st = sm_ring_open(w->all->depth, &w->ring, err);
    if (st != SM_OK)
        return st;
    w->memory = sm_malloc_aligned(PAGE, w->all->depth * block);
    if (w->memory == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "no memory for %u blocks of %zu bytes", w->all->depth,
                       block);
    fill_random(w->memory, w->all->depth * block,
                w->all->probe->seed + (uint64_t)w->stream->brick * 1000 + w->stream->first);
    for (unsigned i = 0; i < w->all->depth; i++) {
        w->ops[i].bytes = w->memory + i * block;
        w->idle[w->n_idle++] = &w->ops[i];
    }
    return prepare_cache(w, err);
}

static sm_status do_files(worker *w, sm_error *err)
{
    char path[PATH_MAX];
    uint32_t f = w->stream->first;
    sm_status st = SM_OK;

    while (st == SM_OK && f < w->all->probe->n_files && !is_over(w)) {
        path_of(w, f, path);
        st = do_file(w, path, err);
        if (st == SM_OK && makes_files(w->all) && sm_now_ns() > w->deadline_ns)
            st = sm_fail(err, SM_ERR_LIMIT,
                         "%s: writing the probe files takes too long; give a smaller --budget or "
                         "more --time",
                         path);
        if (w->all->point->warm)
            continue; /* the same again */
        f += w->all->point->kind == BRICKS_FSYNC ? w->all->probe->n_files : w->stream->step;
    }
    return st;
}

/* What was written is not kept, outside the clock. */
static void empty_files(const worker *w)
{
    char path[PATH_MAX];
    if (!writes(w->all) || makes_files(w->all))
        return;
    for (uint32_t f = w->stream->first; f < w->all->probe->n_files; f += w->stream->step) {
        path_of(w, f, path);
        (void)!truncate(path, 0);
    }
}

/* A barrier whose number of threads is known only once they have started. */
static void pass_gate(load *all)
{
    (void)pthread_mutex_lock(&all->gate);
    const uint32_t now = all->n_openings;
    if (++all->n_at_gate >= all->n_running) {
        all->n_at_gate = 0;
        all->n_openings++;
        (void)pthread_cond_broadcast(&all->opened);
    }
    while (all->n_openings == now)
        (void)pthread_cond_wait(&all->opened, &all->gate);
    (void)pthread_mutex_unlock(&all->gate);
}

static void *stream_main(void *arg)
{
    worker *w = arg;
    bricks_stream *s = w->stream;
    sm_status st = prepare(w, &s->err);

    pass_gate(w->all);
    const uint64_t began = sm_now_ns();
    w->deadline_ns = began + (makes_files(w->all) ? w->all->probe->setup_ns : w->all->ns);
    if (st == SM_OK)
        st = do_files(w, &s->err);
    s->ns = sm_now_ns() - began;
    if (st == SM_OK) /* one that fails says nothing about the others */
        atomic_store(&w->all->over, true);
    pass_gate(w->all);
    empty_files(w);
    return NULL;
}

/* ---- all of them ---- */

/* So that a load on many bricks does not take the node's memory. */
static unsigned depth_for(const bricks_point *point, uint32_t n)
{
    const uint64_t share = sm_sysinfo_memory().value / 8 / n / point->block_bytes;
    return share < 1 ? 1 : share < DEPTH ? (unsigned)share : DEPTH;
}

/* The usual setting of SLIDEMILL_IO comes back afterwards; no other thread runs now. */
static sm_status choose_backend(const bricks_point *point, char **before, sm_error *err)
{
    const char *now = getenv("SLIDEMILL_IO");
    *before = now != NULL ? strdup(now) : NULL;
    if ((now != NULL && *before == NULL) ||
        (point->threads && setenv("SLIDEMILL_IO", "threads", 1) != 0))
        return sm_fail(err, SM_ERR_NOMEM, "no memory for the environment");
    return SM_OK;
}

static void restore_backend(char *before)
{
    if (before != NULL)
        (void)setenv("SLIDEMILL_IO", before, 1);
    else
        (void)unsetenv("SLIDEMILL_IO");
    free(before);
}

/* Nobody passes the gate before it is known how many there are. */
static sm_status start_all(load *all, worker *workers, bricks_stream *streams, uint32_t n,
                           sm_error *err)
{
    sm_status st = SM_OK;
    uint32_t started = 0;

    if (pthread_mutex_lock(&all->gate) != 0)
        return sm_fail(err, SM_ERR_INTERNAL, "cannot lock the gate of a load");
    for (; started < n && st == SM_OK; started++) {
        worker *w = &workers[started];
        w->all = all;
        w->stream = &streams[started];
        const int rc = pthread_create(&w->thread, NULL, stream_main, w);
        w->running = rc == 0;
        if (rc != 0)
            st = sm_fail_errno(err, SM_ERR_NOMEM, rc, "cannot start %" PRIu32 " streams", n);
    }
    all->n_running = st == SM_OK ? n : started - 1;
    (void)pthread_mutex_unlock(&all->gate);
    return st;
}

static void end_all(worker *workers, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        if (workers[i].running)
            (void)pthread_join(workers[i].thread, NULL);
        if (workers[i].ring != NULL)
            last_backend = sm_ring_backend(workers[i].ring);
        sm_ring_close(&workers[i].ring);
        free(workers[i].memory);
    }
}

sm_status bricks_load(const bricks_probe *probe, const bricks_point *point, uint64_t ns,
                      bricks_stream *streams, uint32_t n, sm_error *err)
{
    char *before = NULL;
    load all = {.probe = probe, .point = point, .ns = ns, .n_running = n};
    if (n == 0)
        return SM_OK;
    worker *workers = sm_calloc(n, sizeof *workers);
    if (workers == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "no memory for %" PRIu32 " streams", n);
    for (uint32_t i = 0; i < n; i++)
        streams[i].err = (sm_error)SM_ERROR_INIT;
    all.depth = depth_for(point, n);
    (void)pthread_mutex_init(&all.gate, NULL);
    (void)pthread_cond_init(&all.opened, NULL);
    sm_status st = choose_backend(point, &before, err);
    if (st == SM_OK)
        st = start_all(&all, workers, streams, n, err);
    if (st != SM_OK)
        atomic_store(&all.over, true);
    end_all(workers, n);
    restore_backend(before);
    (void)pthread_cond_destroy(&all.opened);
    (void)pthread_mutex_destroy(&all.gate);
    free(workers);
    return st;
}
