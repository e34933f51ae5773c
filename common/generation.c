/* Immutable snapshots: a private copy, its publication under a number, and what a dead maker left.
 * Owns the lock, the scratch folder with the copy, and the descriptors of both folders. */
#include "common/generation.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/lock.h"
#include "common/path.h"
#include "common/sink.h"
#include "common/source.h"
#include "common/stop.h"

#define DIGEST_SUFFIX ".sha256"
#define NUMBER_MAX UINT64_C(1000000000000000) /* a name with a greater one is none of ours */

enum {
    NAME_CAP = 64, /* "gen-" + 20 digits + ".sha256" and the like */
    COPY_TRIES = 3,
    SETTLE_MS =
        1200, /* another client of a network mount may see old names and sizes for a second */
};

struct sm_generation {
    char *path, *dir_path; /* as given; path.d */
    const char *name;      /* last component of path */
    int parent_fd, dir_fd;
    bool fresh;
    sm_lock *lock;
    sm_scratch *scratch;
    char *copy; /* a file in it */
    uint64_t number;
};

/* ---- for tests ---- */

static atomic_uint die_before;

void sm_generation_die_at(unsigned step)
{
    atomic_store(&die_before, step);
}

static void maybe_die(unsigned step)
{
    const char *text = getenv("SLIDEMILL_TEST_DIE_AT");
    const unsigned long from_env = text != NULL ? strtoul(text, NULL, 10) : 0;
    if (atomic_load(&die_before) == step || from_env == step)
        _exit(137);
}

/* ---- small things ---- */

/* A call on one of the folders failed: is the place wrong, or is it the storage? */
static sm_status fail_at_place(int errnum, const char *path, const char *what, sm_error *err)
{
    switch (errnum) {
    case ENOENT:
    case ENOTDIR:
    case EACCES:
    case EPERM:
    case EROFS:
    case ELOOP:
    case ENAMETOOLONG:
        return sm_fail_errno(err, SM_ERR_ARG, errnum, "%s: cannot %s", path, what);
    default:
        return sm_fail_errno(err, SM_ERR_IO, errnum, "%s: cannot %s", path, what);
    }
}

static sm_status open_folder(const char *path, int *fd, sm_error *err)
{
    unsigned tries = 0;
    do
        *fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    while (*fd < 0 && sm_path_try_again(errno, &tries));
    return *fd >= 0 ? SM_OK : fail_at_place(errno, path, "open the folder", err);
}

static sm_status sync_folder(int fd, const char *path, sm_error *err)
{
    if (fsync(fd) != 0 && errno != EINVAL) /* EINVAL: this file system has no such call */
        return sm_fail_errno(err, SM_ERR_IO, errno, "%s: cannot fsync the folder", path);
    return SM_OK;
}

/* A second descriptor, for readdir has one position per open folder. NULL and errno. */
static DIR *list_folder(int dir_fd)
{
    const int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (dir == NULL && fd >= 0)
        (void)close(fd);
    return dir;
}

static char *join_text(const char *head, const char *middle, const char *tail)
{
    const size_t cap = strlen(head) + strlen(middle) + strlen(tail) + 1;
    char *text = sm_malloc_array(cap, 1);
    if (text != NULL)
        snprintf(text, cap, "%s%s%s", head, middle, tail);
    return text;
}

static void gen_name(uint64_t number, const char *suffix, char name[NAME_CAP])
{
    snprintf(name, NAME_CAP, "gen-%010" PRIu64 "%s", number, suffix);
}

/* The number in a name that gen_name makes; 0 if it is none. */
static uint64_t number_of(const char *entry, const char *suffix)
{
    char *end = NULL, again[NAME_CAP];
    if (strncmp(entry, "gen-", 4) != 0 || entry[4] < '0' || entry[4] > '9')
        return 0;
    errno = 0;
    const uint64_t number = strtoull(entry + 4, &end, 10);
    if (errno != 0 || number > NUMBER_MAX)
        return 0;
    gen_name(number, suffix, again);
    return strcmp(entry, again) == 0 ? number : 0;
}

static sm_status find_newest(int dir_fd, const char *dir_path, uint64_t *newest, sm_error *err)
{
    *newest = 0;
    DIR *dir = list_folder(dir_fd);
    if (dir == NULL)
        return sm_fail_errno(err, SM_ERR_IO, errno, "%s: cannot list the folder", dir_path);
    errno = 0;
    for (const struct dirent *entry; (entry = readdir(dir)) != NULL; errno = 0) {
        const uint64_t number = number_of(entry->d_name, "");
        *newest = number > *newest ? number : *newest;
    }
    const int why = errno;
    (void)closedir(dir);
    if (why != 0)
        return sm_fail_errno(err, SM_ERR_IO, why, "%s: cannot list the folder", dir_path);
    return SM_OK;
}

/* fstatat without following links; 0 or the errno. */
static int look(int dir_fd, const char *name, struct stat *info)
{
    unsigned tries = 0;
    int rc = 0;
    do
        rc = fstatat(dir_fd, name, info, AT_SYMLINK_NOFOLLOW);
    while (rc != 0 && sm_path_try_again(errno, &tries));
    return rc == 0 ? 0 : errno;
}

static bool same_file(const struct stat *a, const struct stat *b)
{
    return a->st_ino == b->st_ino && a->st_dev == b->st_dev;
}

static void settle(void)
{
    const struct timespec pause = {.tv_sec = SETTLE_MS / 1000,
                                   .tv_nsec = SETTLE_MS % 1000 * 1000000L};
    (void)nanosleep(&pause, NULL);
}

/* ---- the digest beside a generation ---- */

/* False: there is none, or none that can be read as one. */
static bool read_digest(const sm_generation *gen, uint64_t number, sm_digest *digest)
{
    char name[NAME_CAP], hex[SM_DIGEST_HEX_CAP] = "";
    sm_error unused = SM_ERROR_INIT;
    gen_name(number, DIGEST_SUFFIX, name);
    unsigned tries = 0;
    int fd = -1;
    do
        fd = openat(gen->dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
    while (fd < 0 && sm_path_try_again(errno, &tries));
    if (fd < 0)
        return false;
    const ssize_t n = read(fd, hex, sizeof(hex) - 1);
    (void)close(fd);
    return n == (ssize_t)sizeof(hex) - 1 &&
           sm_digest_parse(SM_DIGEST_SHA256, hex, digest, &unused) == SM_OK;
}

static bool write_and_sync(int fd, const char *text)
{
    const size_t len = strlen(text);
    const bool written = write(fd, text, len) == (ssize_t)len && fsync(fd) == 0;
    const int why = errno;
    const bool closed = close(fd) == 0;
    if (!written)
        errno = why;
    return written && closed;
}

static sm_status write_digest(const sm_generation *gen, uint64_t number, const sm_digest *digest,
                              sm_error *err)
{
    char name[NAME_CAP], temp[NAME_CAP + 8], line[SM_DIGEST_HEX_CAP + NAME_CAP + 4],
        hex[SM_DIGEST_HEX_CAP];
    gen_name(number, "", name);
    snprintf(line, sizeof(line), "%s  %s\n", sm_digest_hex(digest, hex), name);
    gen_name(number, DIGEST_SUFFIX, name);
    snprintf(temp, sizeof(temp), ".%s.new", name); /* no random part: only a claimant writes it */
    (void)unlinkat(gen->dir_fd, temp, 0);
    const int fd = openat(gen->dir_fd, temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0 || !write_and_sync(fd, line) ||
        renameat(gen->dir_fd, temp, gen->dir_fd, name) != 0) {
        const int why = errno;
        (void)unlinkat(gen->dir_fd, temp, 0);
        return sm_fail_errno(err, SM_ERR_IO, why, "%s/%s: cannot write it", gen->dir_path, name);
    }
    return SM_OK;
}

/* ---- begin: what a dead maker left ---- */

static sm_status stat_current(const sm_generation *gen, bool *exists, struct stat *info,
                              sm_error *err)
{
    const int why = look(gen->parent_fd, gen->name, info);
    *exists = why == 0;
    if (why != 0 && why != ENOENT)
        return sm_fail_errno(err, SM_ERR_IO, why, "%s: cannot stat", gen->path);
    if (why == 0 && !S_ISREG(info->st_mode))
        return sm_fail(err, SM_ERR_ARG, "%s: is %s, not a regular file; give the file itself",
                       gen->path,
                       S_ISLNK(info->st_mode) ? "a symbolic link" : "a folder or device");
    return SM_OK;
}

/* How path stands to the numbered links. */
typedef enum place {
    IN_PLACE, /* path is the newest one */
    CLAIMED,  /* the newest one has its number, but path is an older one, or missing */
    FOREIGN,  /* path is none of them: somebody put it there */
    MISSING,  /* and no numbers either */
} place;

static sm_status find_place(const sm_generation *gen, uint64_t newest, place *found, sm_error *err)
{
    struct stat current, link;
    bool exists = false;
    const sm_status st = stat_current(gen, &exists, &current, err);
    if (exists)
        *found = FOREIGN;
    else
        *found = newest > 0 ? CLAIMED : MISSING;
    if (st != SM_OK || !exists)
        return st;
    for (uint64_t n = newest; n > 0 && newest - n <= SM_GENERATIONS_KEPT; n--) {
        char name[NAME_CAP];
        gen_name(n, "", name);
        const int why = look(gen->dir_fd, name, &link);
        if (why != 0 && why != ENOENT)
            return sm_fail_errno(err, SM_ERR_IO, why, "%s/%s: cannot stat", gen->dir_path, name);
        if (why == 0 && same_file(&current, &link)) {
            *found = n == newest ? IN_PLACE : CLAIMED;
            return SM_OK;
        }
    }
    return SM_OK;
}

/* Its link stays, for the number is taken; a second one goes over path. */
static sm_status put_in_place(const sm_generation *gen, uint64_t number, sm_error *err)
{
    char name[NAME_CAP];
    gen_name(number, "", name);
    char *hidden =
        join_text(".", gen->name, ".adopts"); /* a sink's temporary, to whoever cleans up */
    if (hidden == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "%s: out of memory", gen->path);
    (void)unlinkat(gen->parent_fd, hidden, 0);
    const bool placed = linkat(gen->dir_fd, name, gen->parent_fd, hidden, 0) == 0 &&
                        renameat(gen->parent_fd, hidden, gen->parent_fd, gen->name) == 0;
    const int why = errno;
    (void)unlinkat(gen->parent_fd, hidden, 0); /* a rename between names of one file does nothing */
    free(hidden);
    if (!placed)
        return sm_fail_errno(err, SM_ERR_IO, why,
                             "%s: cannot put generation %" PRIu64 " in place, which was claimed",
                             gen->path, number);
    return sync_folder(gen->parent_fd, gen->path, err);
}

static bool is_remote(const sm_generation *gen, uint64_t number)
{
    char name[NAME_CAP];
    gen_name(number, "", name);
    sm_error unused = SM_ERROR_INIT;
    sm_source *source = NULL;
    char *path = join_text(gen->dir_path, "/", name);
    const bool opened = path != NULL && sm_source_open(path, &source, &unused) == SM_OK;
    const bool remote = !opened || !sm_source_is_local(source);
    sm_source_close(&source);
    free(path);
    return remote;
}

/* Fills gen->number; *current is the generation that path is (0: one without a number). */
static sm_status adopt(sm_generation *gen, uint64_t *current, place *found, sm_error *err)
{
    uint64_t newest = 0;
    sm_status st = find_newest(gen->dir_fd, gen->dir_path, &newest, err);
    if (st == SM_OK)
        st = find_place(gen, newest, found, err);
    if (st == SM_OK && newest > 0 && *found != IN_PLACE && is_remote(gen, newest)) {
        settle(); /* this client may only not have heard of the rename */
        st = find_place(gen, newest, found, err);
    }
    if (st == SM_OK && *found == CLAIMED) {
        st = put_in_place(gen, newest, err);
        *found = IN_PLACE;
    }
    *current = *found == IN_PLACE ? newest : 0;
    gen->number = newest + 1;
    return st;
}

/* Names in path.d that belong to nothing. The next number's digest would be taken for the file's
 * if we died right after the claim. Best effort. */
static void remove_leftovers(const sm_generation *gen)
{
    char next[NAME_CAP];
    gen_name(gen->number, DIGEST_SUFFIX, next);
    (void)unlinkat(gen->dir_fd, next, 0);
    DIR *dir = list_folder(gen->dir_fd);
    if (dir == NULL)
        return;
    for (const struct dirent *entry; (entry = readdir(dir)) != NULL;)
        if (strncmp(entry->d_name, ".gen-", 5) == 0)
            (void)unlinkat(gen->dir_fd, entry->d_name, 0);
    (void)closedir(dir);
}

/* A sink removes what dead ones left, and tells now, not after an hour's work, whether the folder
 * can be written. */
static sm_status try_sink(const sm_generation *gen, sm_error *err)
{
    sm_sink *sink = NULL;
    const sm_sink_config config = {.force = true, .depth = 1};
    const sm_status st = sm_sink_create(gen->path, &config, &sink, err);
    sm_sink_discard(&sink);
    return st;
}

/* ---- begin: the working copy ---- */

static sm_status write_block(const sm_generation *gen, int fd, const sm_block *block, sm_error *err)
{
    for (size_t at = 0; at < block->len;) {
        const ssize_t n = write(fd, block->bytes + at, block->len - at);
        if (n < 0 && errno != EINTR)
            return sm_fail_errno(err, SM_ERR_IO, errno,
                                 "%s: cannot write the working copy; TMPDIR may name a folder with "
                                 "more room",
                                 gen->copy);
        at += n > 0 ? (size_t)n : 0;
    }
    return SM_OK;
}

static sm_status copy_blocks(const sm_generation *gen, sm_stream *stream, int fd, sm_hasher *hasher,
                             sm_error *err)
{
    for (;;) {
        sm_block block;
        sm_status st = sm_stop_check(err);
        if (st == SM_OK)
            st = sm_stream_next(stream, &block, err);
        if (st != SM_OK || block.len == 0)
            return st;
        st = sm_hasher_update(hasher, block.bytes, block.len, err);
        if (st == SM_OK)
            st = write_block(gen, fd, &block, err);
        if (st != SM_OK)
            return st;
    }
}

static sm_status copy_once(const sm_generation *gen, const char *from, bool *remote,
                           sm_digest *digest, sm_error *err)
{
    sm_source *source = NULL;
    sm_stream *stream = NULL;
    sm_hasher *hasher = NULL;
    const int fd = open(gen->copy, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return fail_at_place(errno, gen->copy, "make the working copy", err);
    unsigned tries = 0;
    sm_status st = SM_OK;
    do
        st = sm_source_open(from, &source, err);
    while (st != SM_OK && sm_path_try_again(err->sys_errno, &tries));
    if (st == SM_OK) {
        *remote = !sm_source_is_local(source);
        st = sm_stream_open(source, NULL, &stream, err);
    }
    if (st == SM_OK)
        st = sm_hasher_new(SM_DIGEST_SHA256, &hasher, err);
    if (st == SM_OK)
        st = copy_blocks(gen, stream, fd, hasher, err);
    if (st == SM_OK)
        st = sm_hasher_final(hasher, digest, err);
    sm_hasher_free(&hasher);
    sm_stream_close(&stream);
    sm_source_close(&source);
    if (close(fd) != 0 && st == SM_OK)
        st = sm_fail_errno(err, SM_ERR_IO, errno, "%s: cannot close the working copy", gen->copy);
    return st;
}

/* On a network mount a size may be a second old, and then the copy is short: it is made again.
 * A generation that was never given its digest gets it now. */
static sm_status copy_numbered(const sm_generation *gen, uint64_t number, sm_error *err)
{
    char name[NAME_CAP];
    sm_digest want, got;
    gen_name(number, "", name);
    char *from = join_text(gen->dir_path, "/", name);
    if (from == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "%s: out of memory", gen->path);
    const bool known = read_digest(gen, number, &want);
    bool remote = false, right = false;
    sm_status st = SM_OK;
    for (unsigned n = 0; n < COPY_TRIES && !right; n++) {
        if (n > 0)
            settle();
        st = copy_once(gen, from, &remote, &got, err);
        right = st == SM_OK && (!known || sm_digest_equal(&want, &got));
        if ((st != SM_OK && err->sys_errno != ESTALE && st != SM_ERR_CORRUPT) || !remote)
            break;
    }
    free(from);
    if (st == SM_OK && !right)
        st = sm_fail(err, SM_ERR_CORRUPT,
                     "%s: generation %" PRIu64 " is not what was published (%s/%s" DIGEST_SUFFIX
                     "); put an older one of that folder back with cp --remove-destination",
                     gen->path, number, gen->dir_path, name);
    if (st == SM_OK && !known)
        st = write_digest(gen, number, &got, err);
    return st;
}

static sm_status make_copy(sm_generation *gen, const char *base, uint64_t current, sm_error *err)
{
    const sm_status st = sm_scratch_make(base, "slidemill-gen", &gen->scratch, err);
    if (st != SM_OK)
        return st;
    gen->copy = join_text(sm_scratch_path(gen->scratch), "/", gen->name);
    if (gen->copy == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "%s: out of memory", gen->path);
    if (gen->fresh) {
        const int fd = open(gen->copy, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (fd < 0 || close(fd) != 0)
            return sm_fail_errno(err, SM_ERR_IO, errno, "%s: cannot make the working copy",
                                 gen->copy);
        return SM_OK;
    }
    if (current > 0)
        return copy_numbered(gen, current, err);
    sm_digest unused;
    bool remote = false;
    return copy_once(gen, gen->path, &remote, &unused, err);
}

/* ---- begin ---- */

static sm_status set_paths(sm_generation *gen, const char *path, sm_error *err)
{
    const char *slash = strrchr(path, '/');
    const char *name = slash != NULL ? slash + 1 : path;
    if (name[0] == '\0' || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return sm_fail(err, SM_ERR_ARG, "'%s': names a folder, not a file", path);
    gen->path = join_text(path, "", "");
    gen->dir_path = join_text(path, ".d", "");
    if (gen->path == NULL || gen->dir_path == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "%s: out of memory", path);
    gen->name = gen->path + (name - path);
    return SM_OK;
}

static sm_status open_parent(sm_generation *gen, sm_error *err)
{
    const size_t len = (size_t)(gen->name - gen->path);
    char *parent = len > 0 ? join_text(gen->path, "", "") : join_text(".", "", "");
    if (parent == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "%s: out of memory", gen->path);
    if (len > 0)
        parent[len] = '\0';
    const sm_status st = open_folder(parent, &gen->parent_fd, err);
    free(parent);
    return st;
}

/* A file that came without its folder (a copy) gets one; a missing file gets none by mistake. */
static sm_status open_dir(sm_generation *gen, sm_error *err)
{
    struct stat info;
    bool exists = false;
    sm_status st = stat_current(gen, &exists, &info, err);
    if (st == SM_OK && gen->fresh && exists)
        st = sm_fail(err, SM_ERR_ARG, "%s: exists already", gen->path);
    if (st != SM_OK)
        return st;
    if (gen->fresh || exists) {
        if (mkdir(gen->dir_path, 0777) == 0)
            st = sync_folder(gen->parent_fd, gen->path, err);
        else if (errno != EEXIST)
            st = fail_at_place(errno, gen->dir_path, "make the folder", err);
    } else if (look(gen->parent_fd, gen->dir_path + (gen->name - gen->path), &info) == ENOENT) {
        st = sm_fail(err, SM_ERR_ARG, "%s: there is no such file", gen->path);
    }
    return st == SM_OK ? open_folder(gen->dir_path, &gen->dir_fd, err) : st;
}

static sm_status take_lock(sm_generation *gen, const sm_generation_config *config, sm_error *err)
{
    char *path = join_text(gen->dir_path, "/lock", "");
    if (path == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "%s: out of memory", gen->path);
    const char *what = config->what != NULL ? config->what : "slidemill";
    const sm_status st = sm_lock_take(path, SM_LOCK_ALL_FIRST, SM_LOCK_ALL_LAST, what,
                                      config->wait_s, &gen->lock, err);
    free(path);
    return st;
}

/* Now, under the lock, it is settled whether the file exists. */
static sm_status check_presence(const sm_generation *gen, place found, sm_error *err)
{
    if (gen->fresh && found != MISSING)
        return sm_fail(err, SM_ERR_ARG, "%s: exists already (generation %" PRIu64 "; %s keeps it)",
                       gen->path, gen->number - 1, gen->dir_path);
    if (!gen->fresh && found == MISSING)
        return sm_fail(err, SM_ERR_ARG, "%s: there is no such file", gen->path);
    return SM_OK;
}

sm_status sm_generation_begin(const char *path, bool fresh, const sm_generation_config *config,
                              sm_generation **gen, sm_error *err)
{
    *gen = NULL;
    sm_generation *g = sm_calloc(1, sizeof(*g));
    if (g == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "%s: out of memory", path);
    g->parent_fd = g->dir_fd = -1;
    g->fresh = fresh;
    uint64_t current = 0;
    place found = MISSING;
    sm_status st = set_paths(g, path, err);
    if (st == SM_OK)
        st = open_parent(g, err);
    if (st == SM_OK)
        st = open_dir(g, err);
    if (st == SM_OK)
        st = take_lock(g, config, err);
    if (st == SM_OK)
        st = adopt(g, &current, &found, err);
    if (st == SM_OK) {
        remove_leftovers(g);
        st = try_sink(g, err);
    }
    if (st == SM_OK)
        st = check_presence(g, found, err);
    if (st == SM_OK)
        st = make_copy(g, config->scratch, current, err);
    if (st != SM_OK) {
        sm_generation_discard(&g);
        return st;
    }
    *gen = g;
    return SM_OK;
}

const char *sm_generation_copy(const sm_generation *gen)
{
    return gen->copy;
}

uint64_t sm_generation_number(const sm_generation *gen)
{
    return gen->number;
}

sm_status sm_generation_at_least(sm_generation *gen, uint64_t number, sm_error *err)
{
    if (number <= gen->number)
        return SM_OK;
    if (number > NUMBER_MAX)
        return sm_fail(err, SM_ERR_CORRUPT, "%s: says that it is generation %" PRIu64, gen->path,
                       number - 1);
    gen->number = number;
    remove_leftovers(gen);
    return SM_OK;
}

/* ---- commit ---- */

static sm_status append_copy(const sm_generation *gen, sm_sink *sink, sm_error *err)
{
    sm_source *source = NULL;
    sm_stream *stream = NULL;
    sm_status st = sm_source_open(gen->copy, &source, err);
    if (st == SM_OK)
        st = sm_stream_open(source, NULL, &stream, err);
    while (st == SM_OK) {
        sm_block block;
        uint64_t offset = 0;
        st = sm_stop_check(err);
        if (st == SM_OK)
            st = sm_stream_next(stream, &block, err);
        if (st != SM_OK || block.len == 0)
            break;
        st = sm_sink_append(sink, block.bytes, block.len, &offset, err);
    }
    if (st == SM_OK)
        st = sm_source_check_unchanged(source, err);
    sm_stream_close(&stream);
    sm_source_close(&source);
    return st;
}

static bool is_ours(const sm_generation *gen, const sm_sink *sink, const char *name)
{
    struct stat ours, named;
    return look(AT_FDCWD, sm_sink_temp_path(sink), &ours) == 0 &&
           look(gen->dir_fd, name, &named) == 0 && same_file(&ours, &named);
}

/* linkat refuses an existing name in one step, on every mount; the lock alone may have been lost
 * with a brick. */
static sm_status claim(const sm_generation *gen, const sm_sink *sink, sm_error *err)
{
    char name[NAME_CAP];
    gen_name(gen->number, "", name);
    if (linkat(AT_FDCWD, sm_sink_temp_path(sink), gen->dir_fd, name, 0) == 0)
        return SM_OK;
    const int why = errno;
    if (why == EEXIST && is_ours(gen, sink, name)) /* a repeated request of the mount */
        return SM_OK;
    if (why == EEXIST)
        return sm_fail(err, SM_ERR_BUSY, "%s: generation %" PRIu64 " was published by another",
                       gen->path, gen->number);
    if (why == EPERM || why == EOPNOTSUPP || why == ENOSYS || why == EXDEV)
        return sm_fail_errno(err, SM_ERR_IO, why,
                             "%s/%s: its file system gives no hard links; use one that does",
                             gen->dir_path, name);
    return sm_fail_errno(err, SM_ERR_IO, why, "%s/%s: cannot link it", gen->dir_path, name);
}

/* Best effort: what cannot be removed harms nobody but the free space. */
static void remove_old(const sm_generation *gen)
{
    DIR *dir = list_folder(gen->dir_fd);
    if (dir == NULL)
        return;
    for (const struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        const uint64_t link = number_of(entry->d_name, "");
        const uint64_t number = link > 0 ? link : number_of(entry->d_name, DIGEST_SUFFIX);
        if (number > 0 && number < gen->number && gen->number - number >= SM_GENERATIONS_KEPT)
            (void)unlinkat(gen->dir_fd, entry->d_name, 0);
    }
    (void)closedir(dir);
}

/* The sink is whole and verified. */
static sm_status publish(const sm_generation *gen, sm_sink **sink, sm_sink_result *result,
                         sm_error *err)
{
    sm_status st = claim(gen, *sink, err);
    if (st != SM_OK)
        return st;
    maybe_die(3);
    st = write_digest(gen, gen->number, &result->sha256, err);
    if (st == SM_OK)
        st = sync_folder(gen->dir_fd, gen->dir_path, err);
    maybe_die(4);
    if (st == SM_OK)
        st = sm_lock_check(gen->lock, err); /* a new holder has put it in place, and maybe more */
    if (st == SM_OK)
        st = sm_sink_commit(sink, result, err);
    if (st != SM_OK)
        sm_error_prefix(err, "generation %" PRIu64 " was claimed, but", gen->number);
    return st;
}

sm_status sm_generation_commit(sm_generation **gen, sm_error *err)
{
    sm_generation *g = *gen;
    sm_sink *sink = NULL;
    sm_sink_result result;
    sm_status st = sm_lock_check(g->lock, err);
    maybe_die(1);
    const sm_sink_config config = {.force = !g->fresh};
    if (st == SM_OK)
        st = sm_sink_create(g->path, &config, &sink, err);
    if (st == SM_OK)
        st = append_copy(g, sink, err);
    if (st == SM_OK)
        st = sm_sink_verify(sink, SM_VERIFY_MEDIA, &result, err);
    if (st == SM_OK)
        st = sm_lock_check(g->lock, err);
    maybe_die(2);
    if (st == SM_OK)
        st = publish(g, &sink, &result, err);
    sm_sink_discard(&sink);
    if (st != SM_OK)
        return st;
    maybe_die(5);
    remove_old(g);
    maybe_die(6);
    sm_generation_discard(gen);
    return SM_OK;
}

void sm_generation_discard(sm_generation **gen)
{
    sm_generation *g = *gen;
    if (g == NULL)
        return;
    sm_scratch_remove(&g->scratch);
    sm_lock_release(&g->lock);
    if (g->dir_fd >= 0)
        (void)close(g->dir_fd); /* a folder */
    if (g->parent_fd >= 0)
        (void)close(g->parent_fd); /* a folder */
    free(g->copy);
    free(g->dir_path);
    free(g->path);
    free(g);
    *gen = NULL;
}

/* ---- for readers ---- */

sm_status sm_generation_newest(const char *path, uint64_t *number, sm_error *err)
{
    *number = 0;
    char *dir_path = join_text(path, ".d", "");
    if (dir_path == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "%s: out of memory", path);
    int fd = -1;
    sm_status st = open_folder(dir_path, &fd, err);
    if (st == SM_OK)
        st = find_newest(fd, dir_path, number, err);
    else if (err->sys_errno == ENOENT)
        st = SM_OK;
    if (fd >= 0)
        (void)close(fd); /* a folder */
    free(dir_path);
    return st;
}

bool sm_generation_try_again(const char *path, int errnum, unsigned *tries)
{
    uint64_t newest = 0;
    sm_error unused = SM_ERROR_INIT;
    const bool replaced =
        errnum == ENOENT && sm_generation_newest(path, &newest, &unused) == SM_OK && newest > 0;
    const bool again = sm_path_try_again(replaced ? ESTALE : errnum, tries);
    errno = errnum;
    return again;
}

sm_status sm_generation_path(const char *path, uint64_t number, char *out, size_t cap,
                             sm_error *err)
{
    char name[NAME_CAP];
    gen_name(number, "", name);
    const int len = snprintf(out, cap, "%s.d/%s", path, name);
    if (len < 0 || (size_t)len >= cap)
        return sm_fail(err, SM_ERR_ARG, "'%s': a path longer than %zu bytes", path, cap);
    return SM_OK;
}
