/* Rank 0's books: who waits for work, what is out, what came of it. It decides and counts; it never
 * opens a slide. */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/path.h"
#include "common/progress.h"
#include "common/sysinfo.h"
#include "ingest/run_internal.h"

#define PROGRESS_NS (60 * SM_SECOND_NS)
#define RETRY_FIRST_NS SM_SECOND_NS
#define RETRY_MOST_NS (60 * SM_SECOND_NS)

/* What a rank's slides at work have done so far. */
typedef struct in_flight {
    uint64_t bytes, px;
} in_flight;

struct sm_master {
    const sm_run_config *config;
    const sm_run_log *log;
    sm_ranks *ranks;
    sm_lock *lock;
    sm_run_list list;
    sm_schedule *schedule;
    uint32_t *tries;    /* of each slide, in this run */
    uint32_t *waiting;  /* ranks with a free place, first come first served; a ring */
    in_flight *flights; /* of each rank */
    uint32_t n_waiting, waiting_at, waiting_cap;
    uint64_t began_ns, progress_ns, over_bytes;
    sm_run_result result;
    sm_progress *bar;
    char mark[SM_OUT_MARK_CAP];
    bool target_known, stopped, ended;
};

/* ---- opening ---- */

static sm_status take_lock(sm_master *m, sm_error *err)
{
    char path[PATH_MAX], folder[PATH_MAX], what[64];
    const uint32_t shard = m->config->shard;
    if (snprintf(path, sizeof path, "%s.d/shards.lock", m->config->catalog) >= (int)sizeof path)
        return sm_fail(err, SM_ERR_ARG, "%s: too long a path", m->config->catalog);
    if (shard == SM_NO_SHARD)
        (void)snprintf(what, sizeof what, "ingest");
    else
        (void)snprintf(what, sizeof what, "ingest --shard %u", shard);
    (void)snprintf(folder, sizeof folder, "%s.d",
                   m->config->catalog); /* missing where it was copied */
    const sm_status st = sm_path_make_folder(folder, err);
    if (st != SM_OK)
        return st;
    return sm_lock_take(path, shard == SM_NO_SHARD ? SM_LOCK_ALL_FIRST : shard,
                        shard == SM_NO_SHARD ? SM_LOCK_ALL_LAST : shard, what, 0, &m->lock, err);
}

static sm_status check_shard(const sm_catalog *catalog, const sm_run_config *config, sm_error *err)
{
    const uint32_t n = sm_catalog_n_shards(catalog);
    if (config->shard == SM_NO_SHARD || config->shard < n)
        return SM_OK;
    if (n == 0)
        return sm_fail(err, SM_ERR_ARG, "%s: has no plan yet; make one with 'slidemill plan'",
                       config->catalog);
    return sm_fail(err, SM_ERR_ARG, "--shard: the plan of %s has the shards 0..%u, not %u",
                   config->catalog, n - 1, config->shard);
}

static bool is_beneath(const char *path, const char *folder)
{
    const size_t len = strlen(folder);
    return strncmp(path, folder, len) == 0 && (path[len] == '/' || path[len] == '\0');
}

/* Absolute path of a folder whose last component may be missing. */
static sm_status resolve(const char *path, char full[PATH_MAX], sm_error *err)
{
    char parent[PATH_MAX], above[PATH_MAX];
    if (realpath(path, full) != NULL)
        return SM_OK;
    size_t len = strlen(path);
    while (len > 1 && path[len - 1] == '/')
        len--;
    size_t name = len;
    while (name > 0 && path[name - 1] != '/')
        name--;
    if (errno != ENOENT || name + 1 >= sizeof parent)
        return sm_fail_errno(err, SM_ERR_ARG, errno, "%s: cannot be the folder of the outputs",
                             path);
    (void)snprintf(parent, sizeof parent, "%.*s.", (int)name, path); /* "a/." or "." */
    if (realpath(parent, above) == NULL)
        return sm_fail_errno(err, SM_ERR_ARG, errno,
                             "%s: cannot be the folder of the outputs (is its mount there?)", path);
    if (snprintf(full, PATH_MAX, "%s/%.*s", strcmp(above, "/") == 0 ? "" : above, (int)(len - name),
                 path + name) >= PATH_MAX)
        return sm_fail(err, SM_ERR_ARG, "%s: too long a path", path);
    return SM_OK;
}

static sm_status resolve_out(const sm_catalog *catalog, const char *out, char *dir, size_t cap,
                             sm_error *err)
{
    char full[PATH_MAX], root[PATH_MAX];
    const sm_status st = resolve(out, full, err);
    if (st != SM_OK)
        return st;
    if (strlen(full) >= cap)
        return sm_fail(err, SM_ERR_ARG, "%s: too long a path", out);
    if (realpath(sm_catalog_root(catalog), root) != NULL && is_beneath(full, root))
        return sm_fail(err, SM_ERR_ARG,
                       "%s: lies in the tree of the slides (%s); the next scan would take outputs "
                       "for slides",
                       out, root);
    (void)snprintf(dir, cap, "%s", full);
    return SM_OK;
}

/* The first run makes the folder. Later on it is there, or its file system is not mounted here: to
 * make it would be to write to this node's own disk. */
static sm_status make_out(sm_master *m, const char *dir, sm_error *err)
{
    const sm_status st = sm_out_mark_read(m->config->catalog, m->mark, err);
    if (st != SM_OK)
        return st;
    if ((m->target_known || m->mark[0] != '\0') && access(dir, F_OK) != 0)
        return sm_fail_errno(err, SM_ERR_IO, errno,
                             "%s: the folder of the outputs is gone; is it mounted here? If you "
                             "removed it on purpose, make it again and remove %s.d/out-mark",
                             dir, m->config->catalog);
    if (mkdir(dir, 0777) != 0 && errno != EEXIST)
        return sm_fail_errno(err, errno == EACCES || errno == EROFS ? SM_ERR_ARG : SM_ERR_IO, errno,
                             "%s: cannot make the folder of the outputs", dir);
    if (access(dir, W_OK | X_OK) != 0)
        return sm_fail_errno(err, SM_ERR_ARG, errno, "%s: cannot write there", dir);
    return sm_out_mark_make(m->config->catalog, dir, m->mark, err);
}

/* The first of the options that is not the same in both. */
static void first_difference(const char *a, const char *b, int *len_a, const char **at_a,
                             int *len_b, const char **at_b)
{
    size_t i = 0, word = 0;
    for (; a[i] != '\0' && a[i] == b[i]; i++)
        if (a[i] == ' ')
            word = i + 1;
    *at_a = a + word;
    *at_b = b + word;
    *len_a = (int)strcspn(*at_a, " ");
    *len_b = (int)strcspn(*at_b, " ");
}

sm_status sm_run_check_target(const char *where, const char *dir, const char *options,
                              const sm_journal_head *head, sm_error *err)
{
    const char *theirs = NULL, *ours = NULL;
    int len_theirs = 0, len_ours = 0;
    if (strcmp(dir, head->target_dir) != 0)
        return sm_fail(err, SM_ERR_ARG,
                       "%s: its outputs are in %s, not in %s; use the same folder, or another "
                       "catalog",
                       where, dir, head->target_dir);
    if (strcmp(options, head->target_options) == 0)
        return SM_OK;
    first_difference(options, head->target_options, &len_theirs, &theirs, &len_ours, &ours);
    return sm_fail(err, SM_ERR_ARG,
                   "%s: its outputs are made with %.*s, not %.*s; use the same options, or another "
                   "catalog",
                   where, len_theirs, theirs, len_ours, ours);
}

static sm_status check_target(const sm_catalog *catalog, const sm_run_config *config,
                              const sm_journal_head *head, sm_error *err)
{
    sm_target target;
    if (!sm_catalog_target(catalog, &target))
        return SM_OK;
    return sm_run_check_target(config->catalog, target.dir, target.options, head, err);
}

static sm_status fill_head(const sm_catalog *catalog, const sm_run_config *config,
                           sm_journal_head *head, sm_error *err)
{
    struct timespec now = {0};
    clock_gettime(CLOCK_REALTIME, &now);
    head->plan = sm_catalog_plan(catalog);
    head->shard = config->shard;
    head->generation = sm_catalog_generation(catalog);
    head->kind = config->kind;
    head->began_ns = (int64_t)now.tv_sec * (int64_t)SM_SECOND_NS + now.tv_nsec;
    (void)snprintf(head->catalog, sizeof head->catalog, "%s", sm_catalog_uuid(catalog));
    (void)snprintf(head->command, sizeof head->command, "%s", config->command);
    (void)snprintf(head->version, sizeof head->version, "%s", SM_VERSION);
    sm_status st = sm_random_hex(head->run, (sizeof head->run - 1) / 2, err);
    if (st != SM_OK || config->out == NULL)
        return st;
    st = resolve_out(catalog, config->out, head->target_dir, sizeof head->target_dir, err);
    if (st != SM_OK || config->kind != SM_ATTEMPT_CONVERT)
        return st;
    if (strlen(config->target_options) >= sizeof head->target_options)
        return sm_fail(err, SM_ERR_INTERNAL, "the options are too long for the journal");
    (void)snprintf(head->target_options, sizeof head->target_options, "%s", config->target_options);
    return check_target(catalog, config, head, err);
}

static sm_status load(sm_master *m, sm_journal_head *head, sm_error *err)
{
    sm_catalog *catalog = NULL;
    /* Read, then lock, then read again: without a catalog there is no folder to lock in, and a plan
     * may have been made before we had the lock. */
    sm_status st = sm_catalog_open(m->config->catalog, &catalog, err);
    if (st == SM_OK)
        st = check_shard(catalog, m->config, err);
    sm_catalog_close(&catalog);
    if (st == SM_OK)
        st = take_lock(m, err);
    if (st == SM_OK)
        st = sm_catalog_open(m->config->catalog, &catalog, err);
    if (st == SM_OK)
        st = check_shard(catalog, m->config, err);
    if (st == SM_OK)
        st = fill_head(catalog, m->config, head, err);
    sm_target target;
    m->target_known = st == SM_OK && sm_catalog_target(catalog, &target);
    if (m->target_known && m->config->kind == SM_ATTEMPT_CHECK_OUTPUT && m->config->out == NULL)
        st = sm_out_mark_find(m->config->catalog, target.dir, m->mark, err);
    if (st == SM_OK)
        st = sm_run_list_load(catalog, m->config, &m->list, err);
    if (st == SM_OK)
        st = sm_run_list_resume(m->config, head, m->log, &m->list, err);
    sm_catalog_close(&catalog);
    return st;
}

static sm_status make_schedule(sm_master *m, sm_error *err)
{
    const sm_run_config *config = m->config;
    const uint32_t n = m->list.n;
    const sm_schedule_config schedule = {.n_bricks = m->list.bricks.n + 1,
                                         .streams_per_brick = config->streams_per_brick,
                                         .retry_first_ns = RETRY_FIRST_NS,
                                         .retry_most_ns = RETRY_MOST_NS,
                                         .retry_for_ns = config->retry_for_ns,
                                         .last_unlimited = true,
                                         .brick_blind = config->brick_blind};
    m->tries = sm_calloc(n > 0 ? n : 1, sizeof *m->tries);
    m->flights = sm_calloc(sm_ranks_n(m->ranks), sizeof *m->flights);
    m->waiting_cap = sm_ranks_n(m->ranks) * config->workers;
    m->waiting = sm_calloc(m->waiting_cap, sizeof *m->waiting);
    if (m->tries == NULL || m->flights == NULL || m->waiting == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "no memory for a run of %u slides", n);
    return sm_schedule_new(&schedule, m->list.items, n, &m->schedule, err);
}

sm_status sm_master_open(const sm_run_config *config, sm_ranks *ranks, const sm_run_log *log,
                         sm_journal_head *head, sm_master **master, sm_error *err)
{
    *master = NULL;
    sm_master *m = sm_calloc(1, sizeof *m);
    if (m == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "no memory for a run");
    m->config = config;
    m->log = log;
    m->ranks = ranks;
    sm_status st = load(m, head, err);
    if (st == SM_OK && config->kind == SM_ATTEMPT_CONVERT)
        st = make_out(m, head->target_dir, err);
    if (st == SM_OK)
        st = make_schedule(m, err);
    m->began_ns = m->progress_ns = sm_now_ns();
    m->result = (sm_run_result){
        .n = m->list.n, .n_before = m->list.n_before, .n_failed_before = m->list.n_failed_before};
    if (st == SM_OK && log->terminal && !log->json)
        st = sm_progress_new("ingest", m->list.bytes, 0, log->quiet, &m->bar, err);
    if (st == SM_OK)
        *master = m;
    else
        sm_master_close(&m);
    return st;
}

uint32_t sm_master_n(const sm_master *m)
{
    return m->list.n;
}

const sm_run_result *sm_master_result(const sm_master *m)
{
    return &m->result;
}

const char *sm_master_mark(const sm_master *m)
{
    return m->mark;
}

sm_lock *sm_master_lock(sm_master *m)
{
    return m->lock;
}

void sm_master_close(sm_master **master)
{
    sm_master *m = *master;
    *master = NULL;
    if (m == NULL)
        return;
    sm_progress_free(&m->bar);
    sm_schedule_free(&m->schedule);
    sm_run_list_clear(&m->list);
    free(m->tries);
    free(m->flights);
    free(m->waiting);
    sm_lock_release(&m->lock);
    free(m);
}

/* ---- messages ---- */

static sm_status tell(sm_master *m, uint32_t to, const sm_run_message *message, sm_error *err)
{
    return sm_ranks_send(m->ranks, to, message, sizeof *message, err);
}

static sm_status tell_all(sm_master *m, const sm_run_message *message, sm_error *err)
{
    sm_status st = SM_OK;
    for (uint32_t i = 0; st == SM_OK && i < sm_ranks_n(m->ranks); i++)
        st = tell(m, i, message, err);
    return st;
}

static void put_waiting(sm_master *m, uint32_t rank)
{
    if (m->n_waiting < m->waiting_cap)
        m->waiting[(m->waiting_at + m->n_waiting++) % m->waiting_cap] = rank;
}

static uint32_t take_waiting(sm_master *m)
{
    const uint32_t rank = m->waiting[m->waiting_at];
    m->waiting_at = (m->waiting_at + 1) % m->waiting_cap;
    m->n_waiting--;
    return rank;
}

static void count_over(sm_master *m, const sm_run_message *message)
{
    m->over_bytes += m->list.items[message->index].bytes - SM_RUN_OVERHEAD_BYTES;
    m->result.bytes_in += message->bytes_in;
    m->result.bytes_out += message->bytes_out;
    m->result.pixels += message->pixels;
    sm_schedule_done(m->schedule, message->index);
}

/* A storage error: another try, or was this the last? The rank records what we say. */
static sm_status judge(sm_master *m, uint32_t from, const sm_run_message *message, sm_error *err)
{
    sm_run_message verdict = {
        .kind = SM_RUN_VERDICT, .index = message->index, .outcome = SM_OUTCOME_RETRY};
    if (sm_schedule_retry(m->schedule, message->index, sm_now_ns())) {
        m->tries[message->index]++;
        m->result.n_retries++;
        return tell(m, from, &verdict, err);
    }
    verdict.outcome = SM_OUTCOME_FAILED;
    m->result.n_failed++;
    count_over(m, message);
    return tell(m, from, &verdict, err);
}

static sm_status take_result(sm_master *m, uint32_t from, const sm_run_message *message,
                             sm_error *err)
{
    if (message->index >= m->list.n)
        return sm_fail(err, SM_ERR_INTERNAL, "rank %u tells of slide %u of %u", from,
                       message->index, m->list.n);
    switch (message->outcome) {
    case SM_OUTCOME_OK:
        m->result.n_done++;
        count_over(m, message);
        return SM_OK;
    case SM_OUTCOME_FAILED:
        m->result.n_failed++;
        count_over(m, message);
        return SM_OK;
    case SM_OUTCOME_QUARANTINED:
        m->result.n_quarantined++;
        count_over(m, message);
        return SM_OK;
    case SM_OUTCOME_RETRY:
        return judge(m, from, message, err);
    default:
        m->tries[message->index]++;
        sm_schedule_return(m->schedule, message->index);
        return SM_OK;
    }
}

sm_status sm_master_handle(sm_master *m, uint32_t from, const sm_run_message *message,
                           sm_error *err)
{
    switch (message->kind) {
    case SM_RUN_READY:
        put_waiting(m, from);
        return SM_OK;
    case SM_RUN_READ_DONE:
        sm_schedule_read_done(m->schedule, message->index, sm_now_ns());
        return SM_OK;
    case SM_RUN_RESULT:
        return take_result(m, from, message, err);
    case SM_RUN_STATS:
        m->flights[from] = (in_flight){message->bytes_in, message->pixels};
        return SM_OK;
    case SM_RUN_SIGNAL:
    case SM_RUN_TROUBLE:
        return sm_master_stop(m, err);
    default:
        return sm_fail(err, SM_ERR_INTERNAL, "rank %u sent message %d", from, (int)message->kind);
    }
}

sm_status sm_master_stop(sm_master *m, sm_error *err)
{
    if (m->stopped)
        return SM_OK;
    m->stopped = true;
    m->n_waiting = 0;
    sm_schedule_stop(m->schedule);
    return tell_all(m, &(sm_run_message){.kind = SM_RUN_STOP, .ns = m->config->grace_ns}, err);
}

/* ---- the clock ---- */

static double rate(uint64_t sum, uint64_t ns)
{
    return ns > 0 ? (double)sum / 1e6 / ((double)ns / 1e9) : 0;
}

static void tell_progress(sm_master *m, uint64_t now_ns)
{
    in_flight sum = {0};
    char text[16];
    for (uint32_t i = 0; i < sm_ranks_n(m->ranks); i++) {
        sum.bytes += m->flights[i].bytes;
        sum.px += m->flights[i].px;
    }
    const uint64_t bytes = m->over_bytes + sum.bytes, elapsed_ns = now_ns - m->began_ns;
    if (m->bar != NULL)
        sm_progress_at(m->bar, bytes < m->list.bytes ? bytes : m->list.bytes, 0, NULL);
    if (now_ns - m->progress_ns < PROGRESS_NS || m->bar != NULL)
        return;
    m->progress_ns = now_ns;
    const sm_run_result *r = &m->result;
    sm_run_line line;
    sm_run_line_begin(&line, m->log, "info", "progress");
    sm_run_line_u64(&line, "done", r->n_done);
    sm_run_line_u64(&line, "of", r->n);
    sm_run_line_u64(&line, "failed", r->n_failed + r->n_quarantined);
    sm_run_line_u64(&line, "retries", r->n_retries);
    sm_run_line_u64(&line, "at_work", sm_schedule_out(m->schedule));
    sm_run_line_real(&line, "gb", (double)bytes / 1e9, 2);
    sm_run_line_real(&line, "mb_s", rate(bytes, elapsed_ns), 1);
    sm_run_line_real(&line, "mpx_s", rate(r->pixels + sum.px, elapsed_ns), 1);
    if (bytes > 0 && bytes < m->list.bytes) {
        const double eta_ns = (double)elapsed_ns / (double)bytes * (double)(m->list.bytes - bytes);
        sm_run_line_text(&line, "eta", sm_human_ns((uint64_t)eta_ns, text));
    }
    sm_run_line_end(&line);
}

static sm_status assign(sm_master *m, uint32_t index, sm_error *err)
{
    const sm_run_message message = {.kind = SM_RUN_ASSIGN,
                                    .index = index,
                                    .slide = m->list.entries[index].slide,
                                    .full_name = m->list.entries[index].full_name,
                                    .tries = m->tries[index]};
    return tell(m, take_waiting(m), &message, err);
}

sm_status sm_master_tick(sm_master *m, uint64_t now_ns, bool *ended, sm_error *err)
{
    uint32_t index = 0;
    uint64_t until_ns = 0;
    sm_status st = SM_OK;
    tell_progress(m, now_ns);
    sm_schedule_answer answer = SM_SCHEDULE_GIVE;
    while (st == SM_OK && m->n_waiting > 0 && answer == SM_SCHEDULE_GIVE) {
        answer = sm_schedule_next(m->schedule, now_ns, &index, &until_ns);
        if (answer == SM_SCHEDULE_GIVE)
            st = assign(m, index, err);
    }
    const bool nothing_left = m->stopped || sm_schedule_waiting(m->schedule) == 0;
    if (st == SM_OK && !m->ended && nothing_left && sm_schedule_out(m->schedule) == 0) {
        sm_run_result *r = &m->result;
        m->ended = true;
        r->elapsed_ns = now_ns - m->began_ns;
        r->n_left = r->n - r->n_done - r->n_failed - r->n_quarantined;
        sm_progress_free(&m->bar);
        st = tell_all(m, &(sm_run_message){.kind = SM_RUN_END, .result = *r}, err);
    }
    *ended = m->ended;
    return st;
}
