/* Writing the journal of one rank. Owns the file, and every line told so far: a file whose write or
 * fsync failed is never trusted again, so all of them may have to go into another one. */
#include "ingest/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/path.h"
#include "ingest/job_json.h"

enum { MAX_FILES = 10000 };

struct sm_journal {
    char run[SM_UUID_CAP];
    uint32_t rank;
    char *folder, *path; /* path: of the file being written */
    int fd, folder_fd;   /* fd -1: the last file was given up */
    unsigned n_files;    /* names used so far */
    sm_buf lines;        /* all of them */
    size_t written;      /* bytes of lines that are in the file */
    bool synced;         /* so far as they are written */
    uint64_t seq;
};

/* ---- faults for tests ---- */

static struct {
    bool asked;
    unsigned next, more;
} fault;

void sm_journal_fail_at(unsigned n, unsigned n_more)
{
    fault.asked = true;
    fault.next = n;
    fault.more = n > 0 ? n_more : 0;
}

static void ask_environment(void)
{
    if (fault.asked)
        return;
    fault.asked = true;
    const char *text = getenv("SLIDEMILL_TEST_JOURNAL_FAIL");
    if (text == NULL)
        return;
    char *end = NULL;
    const unsigned long n = strtoul(text, &end, 10);
    const unsigned long more = *end == '+' ? strtoul(end + 1, NULL, 10) : 0;
    if (n <= UINT32_MAX && more <= UINT32_MAX)
        sm_journal_fail_at((unsigned)n, (unsigned)more);
}

static bool fails_now(void)
{
    if (fault.next == 0 || --fault.next > 0)
        return false;
    if (fault.more > 0) {
        fault.more--;
        fault.next = 1;
    }
    return true;
}

/* ---- the file ---- */

/* Another open description of this file, in this process or another, sees that we live. */
static bool lock_file(int fd)
{
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    return fcntl(fd, F_OFD_SETLK, &whole) == 0;
}

static sm_status write_pending(sm_journal *j, sm_error *err)
{
    while (j->written < j->lines.len) {
        const uint8_t *bytes = j->lines.data + j->written;
        ssize_t n = -1;
        errno = EIO;
        if (!fails_now())
            n = write(j->fd, bytes, j->lines.len - j->written);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return sm_fail_errno(err, SM_ERR_IO, n < 0 ? errno : EIO,
                                 "%s: cannot write the journal", j->path);
        j->written += (size_t)n;
        j->synced = false;
    }
    return SM_OK;
}

static sm_status sync_file(sm_journal *j, sm_error *err)
{
    if (j->synced)
        return SM_OK;
    errno = EIO;
    if (fails_now() || fsync(j->fd) != 0)
        return sm_fail_errno(err, SM_ERR_IO, errno, "%s: cannot fsync the journal", j->path);
    j->synced = true;
    return SM_OK;
}

/* The kernel may have dropped what it could not write, and says so only once. */
static void give_up_file(sm_journal *j)
{
    if (j->fd >= 0)
        (void)close(j->fd); /* nothing in it is counted on any more */
    j->fd = -1;
    j->written = 0;
    j->synced = false;
}

static sm_status name_next(sm_journal *j, sm_error *err)
{
    sm_buf path = {0};
    if (j->n_files == MAX_FILES)
        return sm_fail(err, SM_ERR_IO, "%s: %d journals of one rank failed one after another",
                       j->folder, MAX_FILES);
    sm_status st = sm_buf_printf(&path, err, "%s/%s-r%04" PRIu32 "-%02u.jsonl", j->folder, j->run,
                                 j->rank, j->n_files);
    if (st == SM_OK)
        st = sm_buf_append(&path, "", 1, err);
    if (st != SM_OK) {
        sm_buf_free(&path);
        return st;
    }
    free(j->path);
    j->path = (char *)path.data;
    j->n_files++;
    return SM_OK;
}

/* The next free name; one that is taken was made by a call of ours that then failed. */
static sm_status make_file(sm_journal *j, sm_error *err)
{
    int why = EEXIST;
    while (why == EEXIST) {
        const sm_status st = name_next(j, err);
        if (st != SM_OK)
            return st;
        for (int tries = 0; tries < 5; tries++) {
            j->fd = open(j->path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOCTTY, 0666);
            why = j->fd < 0 ? errno : 0;
            if (why != ESTALE && why != EINTR)
                break;
        }
    }
    if (why != 0)
        return sm_fail_errno(err, SM_ERR_IO, why, "%s: cannot make the journal", j->path);
    if (!lock_file(j->fd))
        return sm_fail_errno(err, SM_ERR_IO, errno, "%s: cannot lock the journal", j->path);
    return SM_OK;
}

static sm_status sync_folder(const sm_journal *j, sm_error *err)
{
    errno = EIO;
    if (fails_now() || fsync(j->folder_fd) != 0)
        return sm_fail_errno(err, SM_ERR_IO, errno, "%s: cannot fsync the folder", j->folder);
    return SM_OK;
}

/* A new file with every line, durable with its name. */
static sm_status start_file(sm_journal *j, sm_error *err)
{
    sm_status st = make_file(j, err);
    if (st == SM_OK)
        st = write_pending(j, err);
    if (st == SM_OK)
        st = sync_file(j, err);
    if (st == SM_OK)
        st = sync_folder(j, err);
    if (st != SM_OK) {
        if (j->fd >= 0)
            (void)unlink(j->path); /* a piece of what the next file will hold */
        give_up_file(j);
    }
    return st;
}

/* Everything told so far into the file; with `sync` it is durable after SM_OK. */
static sm_status bring_out(sm_journal *j, bool sync, sm_error *err)
{
    sm_status st = SM_OK;
    if (j->fd >= 0) {
        st = write_pending(j, err);
        if (st == SM_OK && sync)
            st = sync_file(j, err);
        if (st == SM_OK)
            return SM_OK;
        give_up_file(j);
    }
    return start_file(j, err);
}

/* ---- lines ---- */

static int64_t wall_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void open_line(const sm_journal *j, sm_json_writer *w, const char *t)
{
    char id[sizeof(((sm_journal_event *)0)->id)];
    snprintf(id, sizeof id, "%s.%" PRIu32 ".%" PRIu64, j->run, j->rank, j->seq);
    sm_json_open(w, NULL, '{');
    sm_json_put_text(w, "t", t);
    sm_json_put_text(w, "id", id);
    sm_json_put_i64(w, "time", wall_ns());
}

/* Seal the line and keep it. */
static sm_status close_line(sm_journal *j, sm_json_writer *w)
{
    char hex[SM_DIGEST_HEX_CAP];
    if (w->st != SM_OK)
        return w->st;
    const sm_digest sum = sm_digest_xxh128(w->out->data, w->out->len);
    w->st = sm_buf_printf(w->out, w->err, ",\"x\":\"%s\"}\n", sm_digest_hex(&sum, hex));
    if (w->st == SM_OK && w->out->len > SM_JOURNAL_LINE_MAX)
        w->st = sm_fail(w->err, SM_ERR_LIMIT, "an event of %zu bytes: more than %d, too many parts",
                        w->out->len, SM_JOURNAL_LINE_MAX);
    if (w->st == SM_OK)
        w->st = sm_buf_append(&j->lines, w->out->data, w->out->len, w->err);
    if (w->st == SM_OK)
        j->seq++;
    return w->st;
}

static void put_head(sm_json_writer *w, const sm_journal_head *head)
{
    sm_json_put_u64(w, "v", 1);
    sm_json_put_text(w, "catalog", head->catalog);
    sm_json_put_text(w, "run", head->run);
    sm_json_put_u64(w, "rank", head->rank);
    sm_json_put_u64(w, "plan", head->plan);
    if (head->shard != SM_NO_SHARD)
        sm_json_put_u64(w, "shard", head->shard);
    sm_json_put_u64(w, "generation", head->generation);
    sm_json_put_text(w, "kind", sm_attempt_kind_name(head->kind));
    sm_json_put_text(w, "host", head->host);
    sm_json_put_text(w, "command", head->command);
    sm_json_put_text(w, "version", head->version);
    if (head->kind == SM_ATTEMPT_CONVERT) {
        sm_json_open(w, "target", '{');
        sm_json_put_path(w, "dir", head->target_dir);
        sm_json_put_text(w, "options", head->target_options);
        sm_json_close(w, '}');
    }
    sm_json_put_i64(w, "began", head->began_ns);
}

static sm_status add_head(sm_journal *j, const sm_journal_head *head, sm_error *err)
{
    sm_buf line = {0};
    sm_json_writer w = {.out = &line, .err = err, .st = SM_OK};
    open_line(j, &w, "head");
    put_head(&w, head);
    const sm_status st = close_line(j, &w);
    sm_buf_free(&line);
    return st;
}

/* ---- the journal ---- */

static sm_status make_folders(sm_journal *j, const char *catalog_path, const sm_journal_head *head,
                              sm_error *err)
{
    sm_buf all = {0}, ours = {0};
    char name[32] = "all";
    if (head->shard != SM_NO_SHARD)
        snprintf(name, sizeof name, "p%04" PRIu32 "-s%04" PRIu32, head->plan, head->shard);
    sm_status st = sm_buf_printf(&all, err, "%s.d/journal%c", catalog_path, '\0');
    if (st == SM_OK)
        st = sm_buf_printf(&ours, err, "%s.d/journal/%s%c", catalog_path, name, '\0');
    if (st == SM_OK)
        st = sm_path_make_folder((char *)all.data, err);
    if (st == SM_OK)
        st = sm_path_make_folder((char *)ours.data, err);
    if (st == SM_OK) {
        j->folder = (char *)ours.data;
        ours = (sm_buf){0};
        j->folder_fd = open(j->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (j->folder_fd < 0)
            st = sm_fail_errno(err, SM_ERR_IO, errno, "%s: cannot open", j->folder);
    }
    sm_buf_free(&all);
    sm_buf_free(&ours);
    return st;
}

sm_status sm_journal_create(const char *catalog_path, const sm_journal_head *head,
                            sm_journal **journal, sm_error *err)
{
    *journal = NULL;
    ask_environment();
    if (!sm_journal_is_uuid(head->catalog) || !sm_journal_is_uuid(head->run))
        return sm_fail(err, SM_ERR_ARG, "%s: a journal of no catalog or no run", catalog_path);
    sm_journal *j = sm_calloc(1, sizeof(*j));
    if (j == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "%s: out of memory for a journal", catalog_path);
    j->fd = j->folder_fd = -1;
    j->rank = head->rank;
    memcpy(j->run, head->run, sizeof j->run);
    sm_status st = make_folders(j, catalog_path, head, err);
    if (st == SM_OK)
        st = add_head(j, head, err);
    if (st == SM_OK)
        st = bring_out(j, true, err);
    if (st != SM_OK)
        sm_journal_abandon(&j);
    *journal = j;
    return st;
}

sm_status sm_journal_begin(sm_journal *journal, int64_t slide, const char *path, uint32_t attempt,
                           sm_error *err)
{
    sm_buf line = {0};
    sm_json_writer w = {.out = &line, .err = err, .st = SM_OK};
    open_line(journal, &w, "begin");
    sm_json_put_i64(&w, "slide", slide);
    sm_json_put_text(&w, "path", path);
    sm_json_put_u64(&w, "attempt", attempt);
    const sm_status st = close_line(journal, &w);
    sm_buf_free(&line);
    return st == SM_OK ? bring_out(journal, false, err) : st;
}

sm_status sm_journal_end(sm_journal *journal, const sm_outcome *outcome, sm_error *err)
{
    sm_buf line = {0};
    sm_json_writer w = {.out = &line, .err = err, .st = SM_OK};
    open_line(journal, &w, "end");
    sm_json_open(&w, "outcome", '{');
    sm_json_put_outcome(&w, outcome);
    sm_json_close(&w, '}');
    const sm_status st = close_line(journal, &w);
    sm_buf_free(&line);
    return st == SM_OK ? bring_out(journal, true, err) : st;
}

sm_status sm_journal_flush(sm_journal *journal, sm_error *err)
{
    return bring_out(journal, true, err);
}

/* A close that fails casts doubt on the fsync before it. */
static sm_status close_file(sm_journal *j, sm_error *err)
{
    const int fd = j->fd;
    j->fd = -1;
    const bool closed = close(fd) == 0;
    if (closed && !fails_now())
        return SM_OK;
    give_up_file(j);
    sm_status st = start_file(j, err);
    if (st == SM_OK && close(j->fd) != 0)
        st = sm_fail_errno(err, SM_ERR_IO, errno, "%s: cannot close the journal", j->path);
    j->fd = -1;
    return st;
}

sm_status sm_journal_finish(sm_journal **journal, sm_error *err)
{
    sm_buf line = {0};
    sm_json_writer w = {.out = &line, .err = err, .st = SM_OK};
    if (*journal == NULL)
        return SM_OK;
    open_line(*journal, &w, "finish");
    sm_status st = close_line(*journal, &w);
    sm_buf_free(&line);
    if (st == SM_OK)
        st = bring_out(*journal, true, err);
    if (st == SM_OK)
        st = close_file(*journal, err);
    sm_journal_abandon(journal);
    return st;
}

void sm_journal_abandon(sm_journal **journal)
{
    sm_journal *j = *journal;
    if (j == NULL)
        return;
    give_up_file(j);
    if (j->folder_fd >= 0)
        (void)close(j->folder_fd); /* a folder */
    sm_buf_free(&j->lines);
    free(j->folder);
    free(j->path);
    free(j);
    *journal = NULL;
}

const char *sm_journal_path(const sm_journal *journal)
{
    return journal->path;
}
