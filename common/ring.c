/* The choice of back end, and the io_uring one. The only file that knows liburing.
 * Owns the kernel's ring; ops and their bytes belong to the caller. */
#include "common/ring.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/buf.h"
#include "common/ring_backend.h"

#if defined(SM_HAVE_LIBURING) && SM_HAVE_LIBURING
#define RING_URING 1
#include <liburing.h>
#else
#define RING_URING 0
#endif

struct sm_ring {
    unsigned depth, inflight;
    const char *backend;      /* static */
    sm_ring_threads *threads; /* NULL with io_uring */
#if RING_URING
    struct io_uring uring;
    int broken; /* errno of a submission the kernel refused for good, else 0 */
#endif
};

bool sm_ring_op_step(sm_ring_op *op, long res)
{
    if (res == -EINTR || res == -EAGAIN)
        return false;
    if (res == -ECANCELED)
        return false; /* the kernel drops what it has not begun when the submitting thread ends */
    if (res == -EINVAL && !op->write && op->done > 0 && op->done % 512 != 0)
        return true; /* O_DIRECT met the end of the file; no read may start at such a place */
    if (res < 0) {
        op->sys_errno = (int)-res;
        return true;
    }
    op->done += (size_t)res;
    if (op->done >= op->len)
        return true;
    if (res > 0)
        return false;
    if (op->write)
        op->sys_errno = EIO; /* a write that takes nothing and says nothing would loop forever */
    return true;
}

#if RING_URING

/* A transfer that the page cache can serve ends inside the submitting call: for megabytes that is a
 * copy on the thread that should be hashing. From this size on a kernel thread copies. */
#define ASYNC_BYTES (256u << 10)

static pthread_once_t probe_once = PTHREAD_ONCE_INIT;
static const char *probe_refusal; /* NULL: io_uring works; else the back end's name without it */

static const char *refusal_of(int errnum)
{
    switch (errnum) {
    case ENOSYS:
        return "threads (io_uring: not in this kernel)";
    case EPERM:
    case EACCES:
        return "threads (io_uring: not permitted)";
    case ENOMEM:
        return "threads (io_uring: out of lockable memory)";
    case EMFILE:
    case ENFILE:
        return "threads (io_uring: too many open files)";
    default:
        return "threads (io_uring: set-up failed)";
    }
}

static void probe(void)
{
    struct io_uring ring;
    const int rc = io_uring_queue_init(2, &ring, 0);
    if (rc < 0) {
        probe_refusal = refusal_of(-rc);
        return;
    }
    struct io_uring_probe *ops = io_uring_get_probe_ring(&ring);
    if (ops == NULL || !io_uring_opcode_supported(ops, IORING_OP_READ) ||
        !io_uring_opcode_supported(ops, IORING_OP_WRITE))
        probe_refusal = "threads (io_uring: no read or write opcode)"; /* before Linux 5.6 */
    io_uring_free_probe(ops);
    io_uring_queue_exit(&ring);
}

static void uring_probe(void)
{
    pthread_once(&probe_once, probe);
}

/* NULL when the ring is open, else why not. */
static const char *uring_open(sm_ring *ring)
{
    uring_probe();
    if (probe_refusal != NULL)
        return probe_refusal;
    const int rc = io_uring_queue_init(ring->depth, &ring->uring, 0);
    return rc < 0 ? refusal_of(-rc) : NULL;
}

static void pause_ms(long ms)
{
    const struct timespec pause = {.tv_nsec = ms * 1000000};
    nanosleep(&pause, NULL);
}

/* Hand the queued entry to the kernel now. EAGAIN and EBUSY mean it lacks memory for a moment. */
static int uring_flush(sm_ring *ring)
{
    for (unsigned tries = 0; tries < 5000;) {
        const int rc = io_uring_submit(&ring->uring);
        if (rc > 0)
            return 0;
        if (rc < 0 && rc != -EINTR && rc != -EAGAIN && rc != -EBUSY)
            return -rc;
        if (rc != -EINTR) {
            pause_ms(1);
            tries++;
        }
    }
    return EAGAIN;
}

static int uring_start(sm_ring *ring, sm_ring_op *op)
{
    if (ring->broken != 0)
        return ring->broken; /* its refused entry is still in the queue and must not be sent */
    struct io_uring_sqe *sqe = io_uring_get_sqe(&ring->uring);
    if (sqe == NULL)
        return EBUSY;
    uint8_t *at = (uint8_t *)op->bytes + op->done;
    const size_t left = op->len - op->done;
    const unsigned len = (unsigned)(left < SM_RING_CHUNK_BYTES ? left : SM_RING_CHUNK_BYTES);
    if (op->write)
        io_uring_prep_write(sqe, op->fd, at, len, op->offset + op->done);
    else
        io_uring_prep_read(sqe, op->fd, at, len, op->offset + op->done);
    io_uring_sqe_set_data(sqe, op);
    if (len >= ASYNC_BYTES)
        sqe->flags |= IOSQE_ASYNC;
    ring->broken = uring_flush(ring);
    return ring->broken;
}

static int uring_wait(sm_ring *ring, sm_ring_op **op)
{
    for (;;) {
        struct io_uring_cqe *cqe = NULL;
        const int rc = io_uring_wait_cqe(&ring->uring, &cqe);
        if (rc == -EINTR || rc == -EAGAIN)
            continue;
        if (rc < 0)
            return -rc;
        sm_ring_op *ended = io_uring_cqe_get_data(cqe);
        const int res = cqe->res;
        io_uring_cqe_seen(&ring->uring, cqe);
        if (!sm_ring_op_step(ended, res)) {
            if (res == -EAGAIN)
                pause_ms(1);
            const int refused = uring_start(ring, ended);
            if (refused == 0)
                continue;
            ended->sys_errno = refused;
        }
        *op = ended;
        return 0;
    }
}

#endif /* RING_URING */

/* SLIDEMILL_IO: what the user forces; any word but these is a mistake worth a message. */
static sm_status wanted_backend(bool *uring, bool *threads, sm_error *err)
{
    const char *env = getenv("SLIDEMILL_IO");
    *uring = env != NULL && strcmp(env, "uring") == 0;
    *threads = env != NULL && strcmp(env, "threads") == 0;
    if (env != NULL && env[0] != '\0' && !*uring && !*threads)
        return sm_fail(err, SM_ERR_ARG, "SLIDEMILL_IO: '%.40s' is neither uring nor threads", env);
    return SM_OK;
}

static sm_status open_backend(sm_ring *ring, sm_error *err)
{
    bool force_uring = false, force_threads = false;
    const sm_status st = wanted_backend(&force_uring, &force_threads, err);
    if (st != SM_OK)
        return st;
    const char *refusal = "threads (SLIDEMILL_IO=threads)";
    if (!force_threads) {
#if RING_URING
        refusal = uring_open(ring);
#else
        refusal = "threads (built without liburing)";
#endif
    }
    if (refusal == NULL) {
        ring->backend = "io_uring";
        return SM_OK;
    }
    if (force_uring)
        return sm_fail(err, SM_ERR_IO, "SLIDEMILL_IO=uring, but only this works: %s", refusal);
    ring->backend = refusal;
    return sm_ring_threads_new(ring->depth, &ring->threads, err);
}

sm_status sm_ring_open(unsigned depth, sm_ring **ring, sm_error *err)
{
    *ring = NULL;
    if (depth < 1 || depth > 1024)
        return sm_fail(err, SM_ERR_ARG, "%u transfers in flight: must be 1..1024", depth);
    sm_ring *r = sm_calloc(1, sizeof(*r));
    if (r == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "out of memory for an I/O ring");
    r->depth = depth;
    const sm_status st = open_backend(r, err);
    if (st != SM_OK) {
        free(r); /* without a back end there is nothing for sm_ring_close to close */
        return st;
    }
    *ring = r;
    return SM_OK;
}

const char *sm_ring_backend(const sm_ring *ring)
{
    return ring->backend;
}

bool sm_ring_has_room(const sm_ring *ring)
{
    return ring->inflight < ring->depth;
}

unsigned sm_ring_inflight(const sm_ring *ring)
{
    return ring->inflight;
}

sm_status sm_ring_submit(sm_ring *ring, sm_ring_op *op, sm_error *err)
{
    if (!sm_ring_has_room(ring))
        return sm_fail(err, SM_ERR_INTERNAL, "more than %u transfers in flight", ring->depth);
    /* io_uring takes offset -1 for "the current position", so no offset may come near it. */
    if (op->offset > INT64_MAX || op->len > (uint64_t)INT64_MAX - op->offset)
        return sm_fail(err, SM_ERR_INTERNAL, "a transfer of %zu bytes at byte %" PRIu64, op->len,
                       op->offset);
    op->done = 0;
    op->sys_errno = 0;
    if (ring->threads != NULL) {
        sm_ring_threads_submit(ring->threads, op);
    } else {
#if RING_URING
        const int refused = uring_start(ring, op);
        if (refused != 0)
            return sm_fail_errno(err, SM_ERR_IO, refused, "io_uring takes no more requests");
#endif
    }
    ring->inflight++;
    return SM_OK;
}

sm_status sm_ring_wait(sm_ring *ring, sm_ring_op **op, sm_error *err)
{
    *op = NULL;
    if (ring->inflight == 0)
        return sm_fail(err, SM_ERR_INTERNAL, "waiting with nothing in flight");
    if (ring->threads != NULL) {
        *op = sm_ring_threads_wait(ring->threads);
    } else {
#if RING_URING
        const int rc = uring_wait(ring, op);
        if (rc != 0)
            return sm_fail_errno(err, SM_ERR_IO, rc, "io_uring gives no results");
#endif
    }
    ring->inflight--;
    return SM_OK;
}

void sm_ring_close(sm_ring **ring)
{
    sm_ring *r = *ring;
    if (r == NULL)
        return;
    sm_error ignored = SM_ERROR_INIT;
    sm_ring_op *op = NULL;
    while (r->inflight > 0 && sm_ring_wait(r, &op, &ignored) == SM_OK)
        continue;
#if RING_URING
    if (r->threads == NULL)
        io_uring_queue_exit(&r->uring);
#endif
    sm_ring_threads_free(&r->threads);
    free(r);
    *ring = NULL;
}
