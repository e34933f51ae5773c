/* Spans of work: their sums, and a Chrome trace of them. Owns the sums of threads that have ended,
 * the file and, for every thread that has been in a span while it is traced, a buffer of fixed
 * size, which is formatted and written whenever it is full. */
#include "common/trace.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/sysinfo.h"

enum {
    SPANS = 4096,      /* of a thread, kept before they are written: 96 KiB */
    EVENT_BYTES = 160, /* the longest event as text */
    TEXT_BYTES = 64 << 10,
};

/* How every trace of ours begins, whoever wrote it. */
#define HEAD                                                                                       \
    "[\n{\"ph\":\"M\",\"pid\":1,\"name\":\"process_name\",\"args\":{\"name\":\"slidemill\"}}"

static const char *const STAGE_NAMES[SM_TRACE_STAGES] = {
    [SM_TRACE_OPEN] = "open",
    [SM_TRACE_PLAN] = "plan",
    [SM_TRACE_READ_WAIT] = "read-wait",
    [SM_TRACE_HASH] = "hash",
    [SM_TRACE_COPY_IN] = "copy-in",
    [SM_TRACE_CUT] = "cut",
    [SM_TRACE_FEED_WAIT] = "feed-wait",
    [SM_TRACE_COPY] = "copy",
    [SM_TRACE_RETILE] = "retile",
    [SM_TRACE_DECODE] = "decode",
    [SM_TRACE_MAKE] = "make",
    [SM_TRACE_DOWNSAMPLE] = "downsample",
    [SM_TRACE_ENCODE] = "encode",
    [SM_TRACE_WRITE] = "write",
    [SM_TRACE_WRITE_WAIT] = "write-wait",
    [SM_TRACE_FSYNC] = "fsync",
    [SM_TRACE_VERIFY] = "verify",
    [SM_TRACE_PUBLISH] = "publish",
    [SM_TRACE_IDLE] = "idle",
};

typedef struct span {
    uint64_t begin_ns, end_ns;
    sm_trace_stage stage;
} span;

typedef struct thread_spans {
    struct thread_spans *next;
    unsigned number; /* from 0, in the order of the first spans */
    char name[32];
    bool lane_named[SM_TRACE_STAGES];
    size_t n;
    span spans[SPANS];
} thread_spans;

/* The one trace of the process. The buffers are the threads' own until sm_trace_stop. */
static struct {
    pthread_mutex_t lock; /* all but run */
    int fd;
    char *path;
    uint64_t start_ns;
    thread_spans *threads;
    unsigned n_threads;
    size_t text_len;
    char *text; /* TEXT_BYTES */
    bool failed;
    sm_error failure;
    atomic_uint run; /* which trace of the process: buffers of an earlier one are gone */
} trace = {.lock = PTHREAD_MUTEX_INITIALIZER, .fd = -1};

static atomic_bool is_on;

static _Thread_local struct {
    unsigned run;
    thread_spans *spans; /* NULL: no memory for them */
    unsigned name_run;
    char name[32];
} own;

/* ---- sums ---- */

enum { SUMS = 2 * SM_TRACE_STAGES + 2 }; /* the numbers of an sm_trace_sums */

/* Written by its thread alone, read by whoever sums: relaxed loads and stores are enough. */
typedef struct account {
    struct account *previous, *next;
    atomic_uint_fast64_t sums[SUMS];
} account;

static struct {
    pthread_mutex_t lock; /* all but once and key */
    account *first;       /* of threads that live */
    uint64_t gone[SUMS];  /* of those that have ended */
    pthread_once_t once;
    pthread_key_t key; /* for its destructor, which runs before the thread can be joined */
    bool has_key;
} accounts = {.lock = PTHREAD_MUTEX_INITIALIZER, .once = PTHREAD_ONCE_INIT};

static _Thread_local struct {
    account account;
    uint64_t spent_ns; /* sum of the stages */
    bool known;        /* the account is in the list, or cannot be */
    bool verifying;
} mine;

static void close_account(void *arg)
{
    account *a = arg;
    pthread_mutex_lock(&accounts.lock);
    for (size_t i = 0; i < SUMS; i++)
        accounts.gone[i] += atomic_load_explicit(&a->sums[i], memory_order_relaxed);
    if (a->next != NULL)
        a->next->previous = a->previous;
    *(a->previous != NULL ? &a->previous->next : &accounts.first) = a->next;
    pthread_mutex_unlock(&accounts.lock);
}

static void make_key(void)
{
    accounts.has_key = pthread_key_create(&accounts.key, close_account) == 0;
}

/* A thread whose account could not be taken back at its end is not counted. */
static void open_account(void)
{
    account *a = &mine.account;
    mine.known = true;
    (void)pthread_once(&accounts.once, make_key);
    if (!accounts.has_key || pthread_setspecific(accounts.key, a) != 0)
        return;
    pthread_mutex_lock(&accounts.lock);
    a->next = accounts.first;
    if (a->next != NULL)
        a->next->previous = a;
    accounts.first = a;
    pthread_mutex_unlock(&accounts.lock);
}

static void add(size_t i, uint64_t n)
{
    atomic_uint_fast64_t *sum = &mine.account.sums[i];
    const uint64_t now = atomic_load_explicit(sum, memory_order_relaxed) + n;
    atomic_store_explicit(sum, now, memory_order_relaxed);
}

void sm_trace_delivered(uint64_t bytes, uint64_t ns)
{
    if (mine.verifying)
        return; /* the output, not the source */
    if (!mine.known)
        open_account();
    add((size_t)2 * SM_TRACE_STAGES, bytes);
    add((size_t)2 * SM_TRACE_STAGES + 1, ns);
}

void sm_trace_sum(sm_trace_sums *sums)
{
    uint64_t all[SUMS];
    pthread_mutex_lock(&accounts.lock);
    memcpy(all, accounts.gone, sizeof all);
    for (account *a = accounts.first; a != NULL; a = a->next)
        for (size_t i = 0; i < SUMS; i++)
            all[i] += atomic_load_explicit(&a->sums[i], memory_order_relaxed);
    pthread_mutex_unlock(&accounts.lock);
    memcpy(sums->ns, all, sizeof sums->ns);
    sums->delivered_bytes = all[(size_t)2 * SM_TRACE_STAGES];
    sums->delivered_ns = all[(size_t)2 * SM_TRACE_STAGES + 1];
}

/* ---- text ---- */

static void fail(const sm_error *err)
{
    if (!trace.failed)
        trace.failure = *err;
    trace.failed = true;
    atomic_store(&is_on, false);
}

static void write_text(void)
{
    for (size_t done = 0; done < trace.text_len && !trace.failed;) {
        const ssize_t n = write(trace.fd, trace.text + done, trace.text_len - done);
        if (n < 0 && errno != EINTR) {
            sm_error err = SM_ERROR_INIT;
            (void)sm_fail_errno(&err, SM_ERR_IO, errno, "%s: cannot write the trace", trace.path);
            fail(&err);
        }
        done += n > 0 ? (size_t)n : 0;
    }
    trace.text_len = 0;
}

static void put_text(const char *text)
{
    const size_t len = strlen(text);
    memcpy(trace.text + trace.text_len, text, len);
    trace.text_len += len;
}

static void put_number(uint64_t value)
{
    char digits[20];
    size_t n = 0;
    do {
        digits[n++] = (char)('0' + value % 10);
        value /= 10;
    } while (value > 0);
    while (n > 0)
        trace.text[trace.text_len++] = digits[--n];
}

/* Nanoseconds as microseconds with three decimals. */
static void put_us(uint64_t ns)
{
    put_number(ns / 1000);
    trace.text[trace.text_len++] = '.';
    for (uint64_t unit = 100; unit > 0; unit /= 10)
        trace.text[trace.text_len++] = (char)('0' + ns / unit % 10);
}

static uint64_t lane(const thread_spans *t, sm_trace_stage stage)
{
    return (uint64_t)t->number * 32 + (uint64_t)stage + 1;
}

/* Perfetto sorts lanes by number unless told otherwise, which is the order wanted. */
static void put_lane_name(thread_spans *t, sm_trace_stage stage)
{
    t->lane_named[stage] = true;
    put_text(",\n{\"ph\":\"M\",\"pid\":1,\"tid\":");
    put_number(lane(t, stage));
    put_text(",\"name\":\"thread_name\",\"args\":{\"name\":\"");
    put_text(t->name);
    put_text(": ");
    put_text(STAGE_NAMES[stage]);
    put_text("\"}}");
}

/* By hand: printf would cost a copied tile more than its span may. */
static void put_span(thread_spans *t, const span *s)
{
    if (trace.text_len + (size_t)2 * EVENT_BYTES > TEXT_BYTES)
        write_text();
    if (!t->lane_named[s->stage])
        put_lane_name(t, s->stage);
    put_text(",\n{\"ph\":\"X\",\"pid\":1,\"tid\":");
    put_number(lane(t, s->stage));
    put_text(",\"name\":\"");
    put_text(STAGE_NAMES[s->stage]);
    put_text("\",\"ts\":");
    put_us(s->begin_ns - trace.start_ns);
    put_text(",\"dur\":");
    put_us(s->end_ns - s->begin_ns);
    trace.text[trace.text_len++] = '}';
}

/* Under the lock. */
static void flush(thread_spans *t)
{
    for (size_t i = 0; i < t->n && !trace.failed; i++)
        put_span(t, &t->spans[i]);
    t->n = 0;
}

/* ---- spans ---- */

/* The calling thread's buffer in this trace, made when first asked for. */
static thread_spans *own_spans(void)
{
    const unsigned run = atomic_load_explicit(&trace.run, memory_order_acquire);
    if (own.run == run)
        return own.spans;
    thread_spans *t = sm_calloc(1, sizeof *t);
    pthread_mutex_lock(&trace.lock);
    if (t != NULL) {
        t->number = trace.n_threads++;
        if (own.name_run == run)
            memcpy(t->name, own.name, sizeof t->name);
        else
            (void)snprintf(t->name, sizeof t->name, "thread %u", t->number);
        t->next = trace.threads;
        trace.threads = t;
    } else {
        sm_error err = SM_ERROR_INIT;
        (void)sm_fail(&err, SM_ERR_NOMEM, "%s: out of memory for the trace", trace.path);
        fail(&err);
    }
    pthread_mutex_unlock(&trace.lock);
    own.run = run;
    own.spans = t;
    return t;
}

static void record(sm_trace_stage stage, uint64_t begin_ns, uint64_t end_ns)
{
    thread_spans *t = own_spans();
    if (t == NULL || begin_ns < trace.start_ns)
        return; /* it began before the trace did */
    t->spans[t->n++] = (span){begin_ns, end_ns, stage};
    if (t->n < SPANS)
        return;
    pthread_mutex_lock(&trace.lock);
    flush(t);
    pthread_mutex_unlock(&trace.lock);
}

sm_span sm_trace_begin(void)
{
    if (!mine.known)
        open_account();
    return (sm_span){sm_now_ns(), mine.spent_ns};
}

sm_span sm_trace_begin_verify(void)
{
    mine.verifying = true;
    return sm_trace_begin();
}

void sm_trace_end(sm_trace_stage stage, sm_span begun)
{
    const uint64_t end_ns = sm_now_ns();
    const uint64_t self = end_ns - begun.begin_ns - (mine.spent_ns - begun.spent_ns);
    add((mine.verifying ? SM_TRACE_STAGES : 0) + (size_t)stage, self);
    mine.spent_ns += self;
    if (stage == SM_TRACE_VERIFY)
        mine.verifying = false;
    if (atomic_load_explicit(&is_on, memory_order_relaxed))
        record(stage, begun.begin_ns, end_ns);
}

void sm_trace_name_thread(const char *name, int index)
{
    if (!atomic_load_explicit(&is_on, memory_order_relaxed))
        return;
    const unsigned run = atomic_load_explicit(&trace.run, memory_order_acquire);
    if (own.name_run == run)
        return;
    own.name_run = run;
    if (index < 0)
        (void)snprintf(own.name, sizeof own.name, "%.20s", name);
    else
        (void)snprintf(own.name, sizeof own.name, "%.20s %d", name, index);
}

/* ---- the file ---- */

/* SM_OK: fd's file is empty or a trace, so it may be replaced. */
static sm_status check_replaceable(int fd, const char *path, sm_error *err)
{
    static const char BEGINS[] = HEAD;
    char has[sizeof BEGINS - 1];
    struct stat info;
    if (fstat(fd, &info) != 0)
        return sm_fail_errno(err, SM_ERR_IO, errno, "%s: cannot write the trace", path);
    if (!S_ISREG(info.st_mode))
        return sm_fail(err, SM_ERR_ARG, "%s: is not a regular file, so no trace is written", path);
    if (info.st_size > 0 && (pread(fd, has, sizeof has, 0) != (ssize_t)sizeof has ||
                             memcmp(has, BEGINS, sizeof has) != 0))
        return sm_fail(err, SM_ERR_ARG,
                       "%s: exists and is not a trace, so it is left alone; name another file",
                       path);
    return SM_OK;
}

static sm_status open_file(const char *path, int *out, sm_error *err)
{
    const int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0666);
    if (fd < 0)
        return sm_fail_errno(err, SM_ERR_IO, errno, "%s: cannot write the trace", path);
    sm_status st = check_replaceable(fd, path, err);
    if (st == SM_OK && ftruncate(fd, 0) != 0)
        st = sm_fail_errno(err, SM_ERR_IO, errno, "%s: cannot write the trace", path);
    if (st == SM_OK)
        *out = fd;
    else
        (void)close(fd); /* not written to */
    return st;
}

sm_status sm_trace_start(const char *path, sm_error *err)
{
    if (trace.fd >= 0)
        return sm_fail(err, SM_ERR_INTERNAL, "%s: a trace is on already", path);
    char *copy = sm_malloc_array(strlen(path) + 1, 1), *text = sm_malloc_array(TEXT_BYTES, 1);
    int fd = -1;
    const bool room = copy != NULL && text != NULL;
    const sm_status st = room ? open_file(path, &fd, err)
                              : sm_fail(err, SM_ERR_NOMEM, "%s: out of memory for the trace", path);
    if (!room || st != SM_OK) {
        free(copy);
        free(text);
        return st;
    }
    trace.fd = fd;
    trace.path = memcpy(copy, path, strlen(path) + 1);
    trace.text = text;
    trace.text_len = 0;
    trace.n_threads = 0;
    trace.failed = false;
    put_text(HEAD);
    trace.start_ns = sm_now_ns();
    atomic_fetch_add_explicit(&trace.run, 1, memory_order_release);
    atomic_store(&is_on, true);
    sm_trace_name_thread("main", -1);
    return SM_OK;
}

sm_status sm_trace_stop(sm_error *err)
{
    if (trace.fd < 0)
        return SM_OK;
    atomic_store(&is_on, false);
    pthread_mutex_lock(&trace.lock);
    for (thread_spans *t = trace.threads, *next; t != NULL; t = next) {
        next = t->next;
        flush(t);
        free(t);
    }
    trace.threads = NULL;
    if (trace.text_len + EVENT_BYTES > TEXT_BYTES)
        write_text();
    put_text("\n]\n");
    write_text();
    sm_status st = SM_OK;
    if (close(trace.fd) != 0 && errno != EINTR && !trace.failed)
        st = sm_fail_errno(err, SM_ERR_IO, errno, "%s: cannot write the trace", trace.path);
    if (trace.failed) {
        *err = trace.failure;
        st = err->status;
    }
    trace.fd = -1;
    free(trace.text);
    free(trace.path);
    trace.text = trace.path = NULL;
    pthread_mutex_unlock(&trace.lock);
    return st;
}

sm_status sm_trace_path(const char *path, int64_t id, sm_buf *out, sm_error *err)
{
    const char *slash = strrchr(path, '/');
    const char *name = slash != NULL ? slash + 1 : path;
    const char *dot = strrchr(name, '.');
    if (dot == NULL || dot == name)
        dot = name + strlen(name);
    const sm_status st =
        sm_buf_printf(out, err, "%.*s.%" PRId64 "%s", (int)(dot - path), path, id, dot);
    return st == SM_OK ? sm_buf_append(out, "", 1, err) : st;
}
