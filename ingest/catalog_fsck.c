/* catalog fsck: the database, the generations, the journals, what was left lying about.
 * Looks and changes nothing. Owns nothing beyond a call. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/manifest.h"
#include "common/stop.h"
#include "ingest/catalog_cli.h"
#include "ingest/catalog_json.h"
#include "ingest/journal.h"

typedef struct check {
    catalog_args *args;
    const char *path;
    char uuid[SM_UUID_CAP]; /* "" when the catalog cannot be opened */
    uint64_t n_faults, n_notes, n_generations, n_journals, n_events;
    sm_buf found; /* JSON array elements */
    sm_error *err;
    sm_status status;
} check;

/* ---- findings ---- */

static void find(check *c, bool fault, const char *fmt, ...) SM_PRINTF(3, 4);

static void find(check *c, bool fault, const char *fmt, ...)
{
    sm_error clean = SM_ERROR_INIT; /* its message is fit for a terminal */
    char text[sizeof clean.message];
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    (void)sm_fail(&clean, SM_ERR_CORRUPT, "%s", text);
    c->n_faults += fault;
    c->n_notes += !fault;
    if (!c->args->json) {
        (void)printf("%s: %s\n", fault ? "fault" : "note", clean.message);
        return;
    }
    json j = {.out = &c->found, .err = c->err, .status = c->status, .comma = c->found.len > 0};
    json_open(&j, NULL, '{');
    json_text(&j, "severity", fault ? "fault" : "note");
    json_text(&j, "message", clean.message);
    json_close(&j, '}');
    c->status = j.status;
}

/* ---- the database ---- */

static sm_status visit_fault(void *arg, const char *fault, sm_error *err)
{
    check *c = arg;

    (void)err;
    find(c, true, "%s", fault);
    return c->status;
}

static sm_status check_database(check *c)
{
    sm_error err = SM_ERROR_INIT;
    sm_catalog *catalog = NULL;
    sm_status st = sm_catalog_open(c->path, &catalog, &err);

    if (st == SM_OK)
        (void)snprintf(c->uuid, sizeof c->uuid, "%s", sm_catalog_uuid(catalog));
    if (st == SM_OK)
        st = sm_catalog_check(catalog, visit_fault, c, &err);
    sm_catalog_close(&catalog);
    if (st == SM_ERR_CORRUPT || st == SM_ERR_FORMAT || st == SM_ERR_LIMIT) {
        find(c, true, "%s", err.message);
        return SM_OK;
    }
    if (st != SM_OK)
        *c->err = err;
    return st;
}

/* ---- generations ---- */

static sm_status hash_file(const char *path, sm_digest *digest, sm_error *err)
{
    sm_source *source = NULL;
    sm_stream *stream = NULL;
    sm_hasher *hash = NULL;
    sm_block block = {.len = 1};
    sm_status st = sm_source_open(path, &source, err);

    if (st == SM_OK)
        st = sm_stream_open(source, NULL, &stream, err);
    if (st == SM_OK)
        st = sm_hasher_new(SM_DIGEST_SHA256, &hash, err);
    while (st == SM_OK && block.len > 0) {
        st = sm_stop_check(err);
        if (st == SM_OK)
            st = sm_stream_next(stream, &block, err);
        if (st == SM_OK && block.len > 0)
            st = sm_hasher_update(hash, block.bytes, block.len, err);
    }
    if (st == SM_OK)
        st = sm_hasher_final(hash, digest, err);
    sm_hasher_free(&hash);
    sm_stream_close(&stream);
    sm_source_close(&source);
    return st;
}

/* FILE.sha256 as `sha256sum` writes it. */
static sm_status read_sum(const char *path, sm_digest *digest, sm_error *err)
{
    sm_source *source = NULL;
    sm_manifest *manifest = NULL;
    sm_manifest_entry entry;
    bool more = false;
    sm_status st = sm_source_open(path, &source, err);

    if (st == SM_OK)
        st = sm_manifest_open(source, SM_MANIFEST_SHA256SUM, false, &manifest, err);
    if (st == SM_OK)
        st = sm_manifest_next(manifest, &entry, &more, err);
    if (st == SM_OK && !more)
        st = sm_fail(err, SM_ERR_FORMAT, "%s: is empty", path);
    if (st == SM_OK)
        *digest = entry.digest;
    sm_manifest_close(&manifest);
    sm_source_close(&source);
    return st;
}

/* True: it is the catalog's current file. */
static bool check_generation(check *c, const char *path)
{
    char sum_path[4200];
    sm_error err = SM_ERROR_INIT;
    sm_digest want, got;
    struct stat kept, current;

    c->n_generations++;
    const bool is_current = stat(path, &kept) == 0 && stat(c->path, &current) == 0 &&
                            kept.st_dev == current.st_dev && kept.st_ino == current.st_ino;
    const int len = snprintf(sum_path, sizeof sum_path, "%s.sha256", path);
    if (len < 0 || (size_t)len >= sizeof sum_path)
        return is_current;
    if (read_sum(sum_path, &want, &err) != SM_OK) {
        find(c, false, "%s: has no digest beside it (%s)", path, err.message);
        return is_current;
    }
    if (hash_file(path, &got, &err) != SM_OK)
        find(c, true, "%s", err.message);
    else if (!sm_digest_equal(&want, &got))
        find(c, true, "%s: its bytes are not those that were published", path);
    return is_current;
}

/* Kept generations, newest last; a hole in the numbers is nothing bad. */
static sm_status check_generations(check *c, sm_error *err)
{
    char path[4200];
    uint64_t newest = 0;
    uint64_t current = 0;
    sm_status st = sm_generation_newest(c->path, &newest, err);

    for (uint64_t back = 0; st == SM_OK && back < newest && back < 64; back++) {
        st = sm_generation_path(c->path, newest - back, path, sizeof path, err);
        if (st == SM_OK && access(path, F_OK) == 0 && check_generation(c, path))
            current = newest - back;
        if (st == SM_OK)
            st = sm_stop_check(err);
    }
    if (st == SM_OK && c->n_generations == 0)
        find(c, false, "%s.d has no generation: the file was copied without its folder", c->path);
    else if (st == SM_OK && current == 0)
        find(c, false, "%s is none of the kept generations: an older one was copied back", c->path);
    else if (st == SM_OK && current < newest)
        find(c, false,
             "%s: generation %" PRIu64 " was made but is not in place; the next change does that",
             c->path, newest);
    return st;
}

/* ---- journals ---- */

/* How a journal reads; the messages say which line. */
static sm_status read_journal(check *c, sm_journal_reader *reader, const char *path, sm_error *err)
{
    sm_journal_event event = {.kind = SM_JOURNAL_HEAD};
    sm_error line = SM_ERROR_INIT;
    bool more = true;
    sm_status st = SM_OK;

    while (st == SM_OK && more) {
        st = sm_journal_next(reader, &event, &more, &line);
        if (st == SM_ERR_CORRUPT) {
            find(c, true, "%s", line.message);
            st = sm_stop_check(err);
            continue;
        }
        if (st != SM_OK) {
            *err = line;
            break;
        }
        c->n_events += more;
        if (more && event.kind == SM_JOURNAL_HEAD && c->uuid[0] != '\0' &&
            strcmp(event.head.catalog, c->uuid) != 0)
            find(c, true, "%s: is a journal of another catalog", path);
        if (c->n_events % 1024 == 0)
            st = sm_stop_check(err);
    }
    sm_journal_event_clear(&event);
    return st;
}

static sm_status check_journal(check *c, const sm_journal_file *file, sm_error *err)
{
    sm_source *source = NULL;
    sm_journal_reader *reader = NULL;
    sm_status st = sm_source_open(file->path, &source, err);

    if (st == SM_OK)
        st = sm_journal_open(source, &reader, err);
    if (st == SM_OK)
        st = read_journal(c, reader, file->path, err);
    if (st == SM_OK && sm_journal_torn(reader) > 0 && !file->live)
        find(c, false, "%s: ends in half a line (%" PRIu64 " bytes), as after a crash", file->path,
             sm_journal_torn(reader));
    sm_journal_close(&reader);
    sm_source_close(&source);
    if (st != SM_OK && st != SM_ERR_INTERRUPTED && st != SM_ERR_NOMEM) {
        find(c, !file->live, "%s", err->message);
        *err = (sm_error)SM_ERROR_INIT;
        st = SM_OK;
    }
    c->n_journals++;
    return st;
}

static sm_status check_journals(check *c, sm_error *err)
{
    sm_journal_file *files = NULL;
    size_t n = 0;
    sm_status st = sm_journal_list(c->path, 0, SM_NO_SHARD, &files, &n, err);

    for (size_t i = 0; st == SM_OK && i < n; i++)
        st = check_journal(c, &files[i], err);
    sm_journal_files_free(&files, n);
    return st;
}

/* ---- temporaries ---- */

/* Its maker holds a lock on it for as long as it lives (common/sink.c). */
static bool is_live(const char *path)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    const int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

    if (fd < 0)
        return errno != ENOENT;
    const bool live = fcntl(fd, F_OFD_GETLK, &lock) != 0 || lock.l_type != F_UNLCK;
    (void)close(fd);
    return live;
}

static void check_temporaries(check *c, const char *folder, const char *prefix)
{
    DIR *dir = opendir(folder);
    const struct dirent *entry = NULL;
    char path[4300];

    if (dir == NULL)
        return;
    while ((entry = readdir(dir)) != NULL) {
        const int len = snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        if (strncmp(entry->d_name, prefix, strlen(prefix)) != 0 || len < 0 ||
            (size_t)len >= sizeof path || entry->d_type == DT_DIR)
            continue;
        if (!is_live(path))
            find(c, false, "%s: left by a run that died; the next change removes it", path);
    }
    (void)closedir(dir);
}

static void check_leftovers(check *c)
{
    char folder[4200], prefix[300];
    const char *slash = strrchr(c->path, '/');
    const char *name = slash != NULL ? slash + 1 : c->path;

    (void)snprintf(prefix, sizeof prefix, ".%.280s.", name);
    if (slash == NULL)
        (void)snprintf(folder, sizeof folder, ".");
    else
        (void)snprintf(folder, sizeof folder, "%.*s",
                       (int)(slash - c->path > 0 ? slash - c->path : 1), c->path);
    check_temporaries(c, folder, prefix);
    (void)snprintf(folder, sizeof folder, "%.4000s.d", c->path);
    check_temporaries(c, folder, ".gen-");
}

/* ---- all ---- */

static void print_end(const check *c)
{
    char faults[64], generations[64], journals[64], events[64];

    if (!c->args->json) {
        (void)printf("%s: %s; %s, %s with %s\n", catalog_clean(c->path),
                     catalog_count(c->n_faults, "fault", faults),
                     catalog_count(c->n_generations, "generation", generations),
                     catalog_count(c->n_journals, "journal", journals),
                     catalog_count(c->n_events, "event", events));
        return;
    }
    (void)printf("{\"ok\":%s,\"faults\":%" PRIu64 ",\"notes\":%" PRIu64 ",\"generations\":%" PRIu64
                 ",\"journals\":%" PRIu64 ",\"events\":%" PRIu64 ",\"found\":[%.*s]}\n",
                 c->n_faults == 0 ? "true" : "false", c->n_faults, c->n_notes, c->n_generations,
                 c->n_journals, c->n_events, (int)c->found.len,
                 c->found.len > 0 ? (const char *)c->found.data : "");
}

int catalog_fsck(catalog_args *args)
{
    sm_error err = SM_ERROR_INIT;
    check c = {.args = args, .path = args->operands[0], .err = &err, .status = SM_OK};
    sm_status st = check_database(&c);

    if (st == SM_OK)
        st = check_generations(&c, &err);
    if (st == SM_OK)
        st = check_journals(&c, &err);
    if (st == SM_OK)
        check_leftovers(&c);
    if (st == SM_OK)
        st = c.status;
    if (st == SM_OK) {
        print_end(&c);
        st = catalog_flush(&err);
    }
    sm_buf_free(&c.found);
    if (st != SM_OK)
        return catalog_fail(args, &err);
    return c.n_faults > 0 ? sm_exit_code(SM_ERR_CORRUPT) : 0;
}
