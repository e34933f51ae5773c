/* One job from its first open to its outcome. Expected digests decide; where none is known, size
 * and time of change must be those of the catalog. */
#include "ingest/perform.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/brick.h"
#include "common/path.h"
#include "common/source.h"
#include "common/stop.h"
#include "common/sysinfo.h"
#include "tiler/stage_in.h"

/* A mount may tell an old size for up to a second after another client wrote the file. */
enum { SIZE_TRIES = 4, SIZE_PAUSE_MS = 400 };

typedef struct task {
    const sm_job *job;
    const sm_convert_options *options;
    const sm_perform_watch *watch;
    sm_outcome *o;
    int root_fd, out_fd;
    const char *error_class; /* what the status alone does not say; NULL: sm_outcome_set_error */
    sm_outcome_kind kind;    /* goes with error_class */
    uint64_t base_bytes;     /* of the files read before the present one */
    uint64_t hash_ns;
    sm_spent before;
    struct stat main_seen;
    struct stat *parts_seen;
    bool main_compared;
    bool copying_in, read_done;
} task;

static int64_t wall_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static int64_t mtime_ns(const struct stat *info)
{
    return (int64_t)info->st_mtim.tv_sec * 1000000000 + info->st_mtim.tv_nsec;
}

/* A failure of a class that its status does not tell. */
static sm_status classed(task *t, sm_outcome_kind kind, const char *error_class, sm_status st)
{
    t->kind = kind;
    t->error_class = error_class;
    return st;
}

/* ---- telling ---- */

static void say_read_done(task *t)
{
    if (!t->read_done && t->watch->read_done != NULL)
        t->watch->read_done(t->watch->arg);
    t->read_done = true;
}

/* sm_convert_hooks.at: once it is copied in, or the head is written, nobody reads the source. */
static void task_at(void *arg, const char *stage, uint64_t bytes, uint64_t px)
{
    task *t = arg;
    const bool copying = strcmp(stage, "copy-in") == 0;
    if ((t->copying_in && !copying) || strcmp(stage, "fsync") == 0)
        say_read_done(t);
    t->copying_in = copying;
    if (t->watch->at != NULL)
        t->watch->at(t->watch->arg, stage, t->base_bytes + bytes, px);
}

static void at_hash(void *arg, uint64_t bytes)
{
    task_at(arg, "hash", bytes, 0);
}

/* ---- the files ---- */

/* The root or the folder of the outputs. Both were there when the run began, so what is not there
 * now is a mount that went away: storage, however wrong its name may look. */
static sm_status open_root(task *t, const char *root, int *fd, sm_error *err)
{
    const sm_status st = sm_path_open_root(root, fd, err);
    if (st == SM_OK || (err->sys_errno != ENOENT && err->sys_errno != ENOTDIR))
        return st;
    sm_error_prefix(err, "the mount seems to be gone");
    err->status = SM_ERR_IO;
    return classed(t, SM_OUTCOME_RETRY, SM_CLASS_IO, SM_ERR_IO);
}

/* The folder of the outputs. An empty mount point is a folder too: without its mark, outputs would
 * go to the disk beneath it. */
static sm_status open_marked(task *t, const char *root, int *fd, sm_error *err)
{
    sm_status st = open_root(t, root, fd, err);
    if (st != SM_OK)
        return st;
    st = sm_out_mark_check(*fd, root, t->job->mark, err);
    if (st == SM_OK || err->sys_errno != ENOENT)
        return st;
    sm_error_prefix(err, "the mount seems to be gone");
    return classed(t, SM_OUTCOME_RETRY, SM_CLASS_IO, SM_ERR_IO);
}

static sm_status open_once(const task *t, const sm_job_part *part, const char *full,
                           sm_source **source, struct stat *seen, int *fd, sm_error *err)
{
    /* O_NONBLOCK: a FIFO must not hold us; taken off again, since io_uring obeys it. */
    const int flags = O_RDONLY | O_NONBLOCK | O_NOCTTY;
    const sm_status st = sm_path_open_beneath(t->root_fd, part->path, flags, fd, err);
    if (st != SM_OK)
        return st;
    if (fcntl(*fd, F_SETFL, 0) != 0 || fstat(*fd, seen) != 0) {
        const int why = errno;
        (void)close(*fd); /* not read yet */
        return sm_fail_errno(err, SM_ERR_IO, why, "%s: cannot stat", full);
    }
    return sm_source_from_fd(*fd, full, source, err); /* which has the descriptor now */
}

static bool size_differs(const sm_job_part *part, const struct stat *seen)
{
    return part->size_bytes != SM_NO_SIZE && part->size_bytes != (uint64_t)seen->st_size;
}

/* Without a digest, size and time are all there is to tell whether it is still the same file. */
static sm_status check_unchanged_since_scan(task *t, const sm_job_part *part,
                                            const struct stat *seen, const char *full,
                                            sm_error *err)
{
    if (part->has_digest)
        return SM_OK;
    if (size_differs(part, seen))
        return classed(t, SM_OUTCOME_FAILED, SM_CLASS_CHANGED,
                       sm_fail(err, SM_ERR_CORRUPT,
                               "%s: has %" PRIu64 " bytes, the catalog says %" PRIu64
                               "; scan again if it was replaced on purpose",
                               full, (uint64_t)seen->st_size, part->size_bytes));
    if (part->mtime_ns != 0 && part->mtime_ns != mtime_ns(seen))
        return classed(t, SM_OUTCOME_FAILED, SM_CLASS_CHANGED,
                       sm_fail(err, SM_ERR_CORRUPT,
                               "%s: was written to after the catalog last saw it; scan again if "
                               "that was on purpose",
                               full));
    return SM_OK;
}

/* brick: SM_BRICK_CAP bytes, or NULL. */
static sm_status open_part(task *t, const sm_job_part *part, char *brick, sm_source **source,
                           struct stat *seen, sm_error *err)
{
    const struct timespec pause = {.tv_nsec = SIZE_PAUSE_MS * 1000000L};
    sm_error ignored = SM_ERROR_INIT;
    sm_buf full = {0};
    int fd = -1;
    *source = NULL;
    sm_status st = sm_path_join(t->job->root, part->path, &full, err);
    const char *path = (const char *)full.data;
    for (int tries = 1; st == SM_OK; tries++) {
        st = open_once(t, part, path, source, seen, &fd, err);
        if (st != SM_OK || !size_differs(part, seen) || sm_source_is_local(*source) ||
            tries == SIZE_TRIES)
            break;
        sm_source_close(source);
        (void)nanosleep(&pause, NULL);
        st = sm_stop_check(err);
    }
    if (st == SM_OK && brick != NULL && sm_brick_of(fd, brick, &ignored) != SM_OK)
        brick[0] = '\0';
    if (st == SM_OK)
        st = check_unchanged_since_scan(t, part, seen, path, err);
    if (st != SM_OK)
        sm_source_close(source);
    sm_buf_free(&full);
    return st;
}

/* The other kind that is expected, besides SHA-256, or NULL. */
static const sm_digest_kind *other_kind(const sm_job_part *part)
{
    return part->has_digest && part->digest.kind != SM_DIGEST_SHA256 ? &part->digest.kind : NULL;
}

static sm_status compare_digest(task *t, const sm_job_part *part, const sm_digest *sha256,
                                const sm_digest *other, sm_error *err)
{
    char has[SM_DIGEST_HEX_CAP], wants[SM_DIGEST_HEX_CAP];
    const sm_digest *got = other_kind(part) != NULL ? other : sha256;
    if (!part->has_digest || sm_digest_equal(got, &part->digest))
        return SM_OK;
    return classed(t, SM_OUTCOME_QUARANTINED, SM_CLASS_DIGEST,
                   sm_fail(err, SM_ERR_CORRUPT, "%.250s: its %s is %s, %s is expected%s",
                           part->path, sm_digest_kind_name(got->kind), sm_digest_hex(got, has),
                           sm_digest_hex(&part->digest, wants),
                           t->job->kind == SM_ATTEMPT_CONVERT ? "; nothing was published" : ""));
}

/* All bytes of an open file, against what is expected of them. */
static sm_status hash_part(task *t, const sm_job_part *part, const sm_source *source,
                           sm_source_pass *pass, sm_error *err)
{
    const uint64_t start = sm_now_ns();
    /* Past the cache: what is on the disk, and on a mount with less work for the CPU. A
     * conversion's parts are read again. */
    *pass = (sm_source_pass){.also = other_kind(part),
                             .at = at_hash,
                             .arg = t,
                             .past_cache = t->job->kind != SM_ATTEMPT_CONVERT};
    at_hash(t, 0);
    sm_status st = sm_hash_source(source, pass, err);
    t->hash_ns += sm_now_ns() - start;
    if (st == SM_OK && sm_source_check_unchanged(source, err) != SM_OK)
        st = err->status == SM_ERR_CORRUPT
                 ? classed(t, SM_OUTCOME_FAILED, SM_CLASS_CHANGED, SM_ERR_CORRUPT)
                 : err->status;
    return st == SM_OK ? compare_digest(t, part, &pass->sha256, &pass->other, err) : st;
}

static void record_source(task *t, uint64_t bytes, const sm_digest *sha256, const sm_digest *other)
{
    sm_outcome *o = t->o;
    o->has_source = true;
    o->source_bytes = bytes;
    o->source_digests[0] = *sha256;
    o->n_source_digests = 1;
    if (other_kind(&t->job->main) != NULL)
        o->source_digests[o->n_source_digests++] = *other;
}

static sm_status hash_main(task *t, sm_error *err)
{
    sm_source *source = NULL;
    sm_source_pass pass = {0};
    sm_status st = open_part(t, &t->job->main, t->o->brick, &source, &t->main_seen, err);
    if (st != SM_OK)
        return st;
    st = hash_part(t, &t->job->main, source, &pass, err);
    if (st == SM_OK || t->kind == SM_OUTCOME_QUARANTINED)
        record_source(t, sm_source_size(source), &pass.sha256, &pass.other);
    t->base_bytes += sm_source_size(source);
    sm_source_close(&source);
    return st;
}

static sm_status hash_one_of_parts(task *t, size_t i, sm_error *err)
{
    const sm_job_part *part = &t->job->parts[i];
    sm_outcome_part *out = &t->o->parts[i];
    sm_source *source = NULL;
    sm_source_pass pass = {0};
    sm_status st = open_part(t, part, NULL, &source, &t->parts_seen[i], err);
    if (st == SM_OK)
        st = hash_part(t, part, source, &pass, err);
    if (st == SM_OK) {
        out->path = strdup(part->path);
        out->size_bytes = sm_source_size(source);
        out->sha256 = pass.sha256;
        if (out->path == NULL)
            st = sm_fail(err, SM_ERR_NOMEM, "%s: out of memory", part->path);
    }
    if (st == SM_OK) {
        t->o->n_parts = i + 1;
        t->base_bytes += out->size_bytes;
    }
    sm_source_close(&source);
    return st;
}

static sm_status hash_parts(task *t, sm_error *err)
{
    const size_t n = t->job->n_parts;
    sm_status st = SM_OK;
    if (n == 0)
        return SM_OK;
    t->o->parts = sm_calloc(n, sizeof *t->o->parts);
    t->parts_seen = sm_calloc(n, sizeof *t->parts_seen);
    if (t->o->parts == NULL || t->parts_seen == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "%s: out of memory for %zu parts", t->job->main.path, n);
    for (size_t i = 0; st == SM_OK && i < n; i++)
        st = hash_one_of_parts(t, i, err);
    return st;
}

/* ---- HASH and CHECK_OUTPUT ---- */

static sm_status do_hash(task *t, sm_error *err)
{
    task_at(t, "open", 0, 0);
    sm_status st = open_marked(t, t->job->root, &t->root_fd, err);
    if (st == SM_OK)
        st = hash_main(t, err);
    if (st == SM_OK)
        st = hash_parts(t, err);
    if (st == SM_OK)
        say_read_done(t);
    return st;
}

/* An output that differs is damaged, whatever a source's failure of the kind would be called. */
static sm_status do_check_output(task *t, sm_error *err)
{
    const sm_job_part *file = &t->job->main;
    sm_status st = do_hash(t, err);
    const bool missing = st == SM_ERR_IO && err->sys_errno == ENOENT && t->error_class == NULL;
    if (missing)
        sm_error_prefix(err, "output not there (if its brick is down, check again later)");
    if (missing || st == SM_ERR_CORRUPT)
        return classed(t, SM_OUTCOME_FAILED, SM_CLASS_OUTPUT, st);
    if (st != SM_OK)
        return st;
    sm_outcome *o = t->o;
    o->has_output = true;
    o->out_bytes = o->source_bytes;
    o->out_sha256 = o->source_digests[0];
    o->out_path = strdup(file->path);
    if (o->out_path == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "%s: out of memory", file->path);
    return SM_OK;
}

/* ---- CONVERT: the output's side ---- */

/* Does the file begin as slidemill's outputs do, with the digests in its description? They stand
 * at the front of the head. */
static bool is_ours(int fd)
{
    enum { FRONT_BYTES = 1 << 20 };
    static const char KEY[] = "source-sha256";
    sm_provenance provenance;
    char *front = sm_malloc_array(FRONT_BYTES + 1, 1);
    size_t len = 0;
    if (front == NULL)
        return false;
    while (len < FRONT_BYTES) {
        const ssize_t n = pread(fd, front + len, FRONT_BYTES - len, (off_t)len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        len += (size_t)n;
    }
    front[len] = '\0';
    const char *at = memmem(front, len, KEY, sizeof KEY - 1);
    const bool ours = len > 4 && memcmp(front, "II+\0", 4) == 0 && at != NULL &&
                      sm_provenance_find(at, &provenance);
    free(front);
    return ours;
}

static sm_status stranger(task *t, const char *what, sm_error *err)
{
    return classed(t, SM_OUTCOME_FAILED, SM_CLASS_EXISTS,
                   sm_fail(err, SM_ERR_ARG,
                           "%s: %s stands at the output's place; move it away, then retry",
                           t->job->out_path, what));
}

/* *replace: a file of ours is there. */
static sm_status check_existing(task *t, bool *replace, sm_error *err)
{
    const int flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY;
    struct stat info;
    int fd = -1;
    *replace = false;
    sm_status st = sm_path_open_beneath(t->out_fd, t->job->out_path, flags, &fd, err);
    if (st != SM_OK && err->sys_errno == ENOENT) {
        *err = (sm_error)SM_ERROR_INIT;
        return SM_OK;
    }
    if (st != SM_OK && err->sys_errno == ELOOP)
        return stranger(t, "a symbolic link", err);
    if (st != SM_OK)
        return st;
    if (fstat(fd, &info) != 0)
        st = sm_fail_errno(err, SM_ERR_IO, errno, "%s: cannot stat", t->job->out_path);
    else if (!S_ISREG(info.st_mode))
        st = stranger(t, "something that is no file", err);
    else if (t->job->replace || is_ours(fd))
        *replace = true;
    else
        st = stranger(t, "a file that slidemill did not write", err);
    (void)close(fd); /* only read from */
    return st;
}

static sm_status prepare_output(task *t, bool *replace, sm_error *err)
{
    sm_status st = open_marked(t, t->job->out_root, &t->out_fd, err);
    if (st == SM_OK)
        st = sm_path_make_parents(t->out_fd, t->job->out_path, err);
    return st == SM_OK ? check_existing(t, replace, err) : st;
}

/* ---- CONVERT: the hooks ---- */

static sm_status hook_open(void *arg, const char *in, sm_source **source, sm_error *err)
{
    task *t = arg;
    const sm_job_part *part = &t->job->main;
    sm_source_pass pass = {0};
    (void)in;
    sm_status st = open_part(t, part, t->o->brick, source, &t->main_seen, err);
    if (st != SM_OK || !size_differs(part, &t->main_seen))
        return st;
    /* Hardly the bytes that are expected: the digest says so before a pyramid is made of them. */
    st = hash_part(t, part, *source, &pass, err);
    if (t->kind == SM_OUTCOME_QUARANTINED)
        record_source(t, sm_source_size(*source), &pass.sha256, &pass.other);
    if (st != SM_OK)
        sm_source_close(source);
    return st;
}

static bool same_file(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
           mtime_ns(a) == mtime_ns(b);
}

/* The readers of multi-file slides open the parts themselves, after they were hashed. */
static sm_status check_parts_unchanged(task *t, sm_error *err)
{
    for (size_t i = 0; i < t->job->n_parts; i++) {
        struct stat now;
        const char *path = t->job->parts[i].path;
        const sm_status st = sm_path_stat_beneath(t->root_fd, path, &now, err);
        if (st != SM_OK)
            return st;
        if (!same_file(&now, &t->parts_seen[i]))
            return classed(t, SM_OUTCOME_FAILED, SM_CLASS_CHANGED,
                           sm_fail(err, SM_ERR_CORRUPT, "%s: changed while read", path));
    }
    return SM_OK;
}

static sm_status hook_before_publish(void *arg, const sm_convert_report *report, sm_error *err)
{
    task *t = arg;
    record_source(t, report->source_bytes, &report->source_sha256, &report->source_other);
    t->main_compared = true;
    const sm_status st =
        compare_digest(t, &t->job->main, &report->source_sha256, &report->source_other, err);
    return st == SM_OK ? check_parts_unchanged(t, err) : st;
}

/* ---- CONVERT: what became of it ---- */

static void describe_levels(const sm_plan *plan, char *text, size_t cap)
{
    static const sm_how HOWS[] = {SM_HOW_COPIED, SM_HOW_RETILED, SM_HOW_TRANSCODED,
                                  SM_HOW_MADE_IDCT};
    size_t len = 0;
    for (size_t h = 0; h < SM_COUNT(HOWS); h++) {
        unsigned n = 0;
        for (uint32_t i = 0; i < plan->n_out; i++)
            n += strcmp(sm_how_name(plan->out[i].how), sm_how_name(HOWS[h])) == 0;
        if (n > 0 && len < cap)
            len += (size_t)snprintf(text + len, cap - len, "%s%s %u", len > 0 ? ", " : "",
                                    sm_how_name(HOWS[h]), n);
    }
}

static void take_times(task *t, const sm_convert_report *r)
{
    const sm_convert_times *times = &r->times;
    uint64_t *ns = t->o->phase_ns;
    ns[SM_PHASE_OPEN] = times->open_ns;
    ns[r->staged ? SM_PHASE_COPY_IN : SM_PHASE_HASH] = times->stage_in_ns;
    ns[SM_PHASE_MILL] = times->mill_ns;
    ns[SM_PHASE_FSYNC] = times->fsync_ns;
    ns[SM_PHASE_VERIFY] = times->verify_ns;
    ns[SM_PHASE_PUBLISH] = times->publish_ns;
}

static void take_report(task *t, const sm_convert_report *r)
{
    sm_outcome *o = t->o;
    take_times(t, r);
    (void)snprintf(o->vendor, sizeof o->vendor, "%s", r->vendor);
    if (r->plan.n_out > 0) {
        o->w_px = r->plan.out[0].w_px;
        o->h_px = r->plan.out[0].h_px;
    }
    o->mpp = r->mpp_x > 0.0 && r->mpp_x < 1e6 ? r->mpp_x : 0.0;
    o->objective = r->objective > 0.0 && r->objective < 1e6 ? r->objective : 0.0;
    t->base_bytes += r->source_bytes;
}

/* Only for the books: a brick that cannot be asked is unknown. */
static void note_out_brick(task *t)
{
    sm_error ignored = SM_ERROR_INIT;
    int fd = -1;
    if (sm_path_open_beneath(t->out_fd, t->job->out_path, O_PATH | O_NOFOLLOW, &fd, &ignored) !=
        SM_OK)
        return;
    if (sm_brick_of(fd, t->o->out_brick, &ignored) != SM_OK)
        t->o->out_brick[0] = '\0';
    (void)close(fd); /* O_PATH */
}

static sm_status take_output(task *t, const sm_convert_report *r, sm_error *err)
{
    sm_outcome *o = t->o;
    o->pixels = (uint64_t)o->w_px * o->h_px;
    o->bytes_out = o->out_bytes = r->output_bytes;
    o->out_sha256 = r->output_sha256;
    describe_levels(&r->plan, o->how, sizeof o->how);
    o->out_path = strdup(t->job->out_path);
    if (o->out_path == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "%s: out of memory", t->job->out_path);
    o->has_output = true;
    note_out_brick(t);
    return SM_OK;
}

/* Bytes that do not decode: a bad scan, or not the bytes that were scanned? Only all of them tell,
 * and whether they can be read at all. */
static sm_status judge_bytes(task *t, sm_status failed, sm_error *err)
{
    const sm_job_part *part = &t->job->main;
    const struct stat before = t->main_seen;
    sm_error second = SM_ERROR_INIT;
    const bool about_bytes =
        failed == SM_ERR_CORRUPT ||
        (part->has_digest && (failed == SM_ERR_FORMAT || failed == SM_ERR_LIMIT));
    if (t->main_compared && failed == SM_ERR_CORRUPT && t->error_class == NULL)
        return classed(t, SM_OUTCOME_RETRY, SM_CLASS_IO, failed); /* reading the output back */
    if (!about_bytes || t->error_class != NULL || t->main_compared)
        return failed;
    t->base_bytes = 0;
    sm_status st = hash_main(t, &second);
    if (st == SM_OK && before.st_ino != 0 && !same_file(&before, &t->main_seen))
        return classed(t, SM_OUTCOME_FAILED, SM_CLASS_CHANGED, failed);
    if (st == SM_OK)
        return failed; /* they are what they should be: err stands */
    *err = second;
    return st;
}

/* Names that vanish are storage, not a wrong command line: a brick that is down takes them along.
 */
static sm_status judge_names(task *t, sm_status failed, bool replace, sm_error *err)
{
    struct stat info;
    sm_error ignored = SM_ERROR_INIT;
    if (failed != SM_ERR_ARG || t->error_class != NULL)
        return failed;
    if (err->sys_errno == ENOENT || err->sys_errno == ENOTDIR) {
        err->status = SM_ERR_IO;
        return SM_ERR_IO;
    }
    if (!replace && sm_path_stat_beneath(t->out_fd, t->job->out_path, &info, &ignored) == SM_OK)
        return classed(t, SM_OUTCOME_FAILED, SM_CLASS_EXISTS, failed);
    return failed;
}

static sm_status run_convert(task *t, bool replace, sm_error *err)
{
    sm_buf in = {0}, out = {0};
    sm_convert_options options = *t->options;
    sm_convert_report report = {0};
    options.force = replace;
    options.quiet = true;
    options.hooks = (sm_convert_hooks){.arg = t,
                                       .open = hook_open,
                                       .at = task_at,
                                       .before_publish = hook_before_publish,
                                       .also_digest = other_kind(&t->job->main)};
    sm_status st = sm_path_join(t->job->root, t->job->main.path, &in, err);
    if (st == SM_OK)
        st = sm_path_join(t->job->out_root, t->job->out_path, &out, err);
    if (st == SM_OK) {
        st = sm_convert((const char *)in.data, (const char *)out.data, &options, &report, err);
        take_report(t, &report);
        if (st == SM_OK)
            st = take_output(t, &report, err);
        else
            st = judge_names(t, judge_bytes(t, st, err), replace, err);
        sm_convert_report_clear(&report);
    }
    sm_buf_free(&in);
    sm_buf_free(&out);
    return st;
}

static sm_status do_convert(task *t, sm_error *err)
{
    bool replace = false;
    task_at(t, "open", 0, 0);
    sm_status st = open_root(t, t->job->root, &t->root_fd, err);
    if (st == SM_OK)
        st = prepare_output(t, &replace, err);
    if (st == SM_OK)
        st = hash_parts(t, err);
    return st == SM_OK ? run_convert(t, replace, err) : st;
}

/* ---- any job ---- */

static sm_status do_job(task *t, sm_error *err)
{
    switch (t->job->kind) {
    case SM_ATTEMPT_CONVERT:
        return do_convert(t, err);
    case SM_ATTEMPT_HASH:
        return do_hash(t, err);
    case SM_ATTEMPT_CHECK_OUTPUT:
        return do_check_output(t, err);
    }
    return sm_fail(err, SM_ERR_INTERNAL, "job of kind %d", (int)t->job->kind);
}

static void account(task *t, uint64_t total_ns)
{
    uint64_t *ns = t->o->phase_ns, sum = 0;
    ns[SM_PHASE_HASH] += t->hash_ns;
    for (int i = 0; i < SM_PHASES; i++)
        sum += ns[i];
    ns[SM_PHASE_OTHER] += total_ns > sum ? total_ns - sum : 0;
    t->o->bytes_in = t->base_bytes;
    sm_spent_since(&t->before, &t->o->spent);
    if (t->job->kind == SM_ATTEMPT_HASH) { /* the whole of it is a measurement */
        t->o->spent.delivered_bytes = t->base_bytes;
        t->o->spent.delivered_ns = t->base_bytes > 0 ? t->hash_ns : 0;
    }
    t->o->peak_rss_bytes = sm_peak_rss_bytes();
}

void sm_perform(const sm_job *job, const sm_convert_options *options, const sm_perform_watch *watch,
                sm_outcome *o)
{
    const uint64_t start = sm_now_ns();
    sm_error err = SM_ERROR_INIT;
    task t = {.job = job, .options = options, .watch = watch, .o = o};
    *o = (sm_outcome){.kind = job->kind, .slide = job->slide, .began_ns = wall_ns()};
    t.root_fd = t.out_fd = -1;
    sm_spent_now(&t.before);
    const sm_status st = do_job(&t, &err);
    if (st != SM_OK) {
        sm_outcome_set_error(o, &err);
        if (t.error_class != NULL && st != SM_ERR_INTERRUPTED) {
            o->outcome = t.kind;
            (void)snprintf(o->error_class, sizeof o->error_class, "%s", t.error_class);
        }
    }
    account(&t, sm_now_ns() - start);
    o->ended_ns = wall_ns();
    if (t.root_fd >= 0)
        (void)close(t.root_fd); /* O_PATH */
    if (t.out_fd >= 0)
        (void)close(t.out_fd); /* O_PATH */
    free(t.parts_seen);
}

void sm_perform_sweep(const sm_job *job)
{
    sm_error err = SM_ERROR_INIT;
    sm_sink *sink = NULL;
    sm_buf out = {0};
    const sm_sink_config config = {.force = true};
    if (job->kind != SM_ATTEMPT_CONVERT)
        return;
    /* A sink removes the dead temporaries of its name before it makes its own. */
    if (sm_path_join(job->out_root, job->out_path, &out, &err) == SM_OK &&
        sm_sink_create((const char *)out.data, &config, &sink, &err) == SM_OK)
        sm_sink_discard(&sink);
    sm_buf_free(&out);
}
