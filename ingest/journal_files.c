/* The folder of journals: which there are, who still writes, and where finished ones go.
 * Owns nothing between calls. */
#include "ingest/journal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/digest.h"
#include "common/path.h"
#include "ingest/job_json.h"

enum { MAX_COPIES = 1000, COPY_BYTES = 1 << 20 };

typedef struct file_list {
    sm_journal_file *files;
    size_t n, cap;
} file_list;

/* A writer holds its file locked. When the lock cannot be asked for, the careful answer is yes. */
static bool is_live(const char *path)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return true;
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    const bool live = fcntl(fd, F_OFD_GETLK, &whole) != 0 || whole.l_type != F_UNLCK;
    (void)close(fd); /* only read from */
    return live;
}

static sm_status add_file(file_list *list, const char *folder, const char *name, sm_error *err)
{
    sm_buf path = {0};
    struct stat info;
    if (list->n == list->cap) {
        const size_t cap = list->cap > 0 ? 2 * list->cap : 64;
        sm_journal_file *grown = reallocarray(list->files, cap, sizeof(*grown));
        if (grown == NULL)
            return sm_fail(err, SM_ERR_NOMEM, "%s: out of memory for %zu journals", folder, cap);
        list->files = grown;
        list->cap = cap;
    }
    const sm_status st = sm_buf_printf(&path, err, "%s/%s%c", folder, name, '\0');
    if (st != SM_OK || lstat((char *)path.data, &info) != 0 || !S_ISREG(info.st_mode)) {
        sm_buf_free(&path); /* just retired by another merge, or none of ours */
        return st;
    }
    list->files[list->n++] =
        (sm_journal_file){.path = (char *)path.data, .live = is_live((char *)path.data)};
    return SM_OK;
}

static bool is_journal_name(const char *name)
{
    const size_t len = strlen(name);
    return name[0] != '.' && len > 6 && strcmp(name + len - 6, ".jsonl") == 0;
}

/* One visit a name: a journal's file or a shard's folder. */
typedef sm_status (*name_visit)(file_list *list, const char *folder, const char *name,
                                sm_error *err);

static sm_status walk(file_list *list, const char *folder, name_visit visit, sm_error *err)
{
    DIR *dir = opendir(folder);
    if (dir == NULL)
        return errno == ENOENT
                   ? SM_OK
                   : sm_fail_errno(err, SM_ERR_IO, errno, "%s: cannot list the journals", folder);
    sm_status st = SM_OK;
    int why = 0;
    while (st == SM_OK) {
        errno = 0;
        const struct dirent *entry = readdir(dir);
        if (entry == NULL) {
            why = errno;
            break;
        }
        if (entry->d_name[0] != '.')
            st = visit(list, folder, entry->d_name, err);
    }
    (void)closedir(dir); /* only read from */
    if (st == SM_OK && why != 0)
        st = sm_fail_errno(err, SM_ERR_IO, why, "%s: cannot list the journals", folder);
    return st;
}

static sm_status visit_journal(file_list *list, const char *folder, const char *name, sm_error *err)
{
    return is_journal_name(name) ? add_file(list, folder, name, err) : SM_OK;
}

static sm_status visit_shard(file_list *list, const char *folder, const char *name, sm_error *err)
{
    sm_buf path = {0};
    struct stat info;
    if (strcmp(name, "merged") == 0)
        return SM_OK;
    sm_status st = sm_buf_printf(&path, err, "%s/%s%c", folder, name, '\0');
    if (st == SM_OK && lstat((char *)path.data, &info) == 0 && S_ISDIR(info.st_mode))
        st = walk(list, (char *)path.data, visit_journal, err);
    sm_buf_free(&path);
    return st;
}

static int by_path(const void *a, const void *b)
{
    return strcmp(((const sm_journal_file *)a)->path, ((const sm_journal_file *)b)->path);
}

sm_status sm_journal_list(const char *catalog_path, uint32_t plan, uint32_t shard,
                          sm_journal_file **files, size_t *n, sm_error *err)
{
    file_list list = {0};
    sm_buf folder = {0};
    char name[32];
    *files = NULL;
    *n = 0;
    sm_status st = sm_buf_printf(&folder, err, "%s.d/journal%c", catalog_path, '\0');
    if (st == SM_OK && shard == SM_NO_SHARD) {
        st = walk(&list, (char *)folder.data, visit_shard, err);
    } else if (st == SM_OK) {
        snprintf(name, sizeof name, "p%04" PRIu32 "-s%04" PRIu32, plan, shard);
        st = visit_shard(&list, (char *)folder.data, name, err);
        if (st == SM_OK)
            st = visit_shard(&list, (char *)folder.data, "all", err);
    }
    sm_buf_free(&folder);
    if (st != SM_OK) {
        sm_journal_files_free(&list.files, list.n);
        return st;
    }
    if (list.n > 1)
        qsort(list.files, list.n, sizeof(*list.files), by_path);
    *files = list.files;
    *n = list.n;
    return SM_OK;
}

void sm_journal_files_free(sm_journal_file **files, size_t n)
{
    for (size_t i = 0; *files != NULL && i < n; i++)
        free((*files)[i].path);
    free(*files);
    *files = NULL;
}

/* ---- journal/merged ---- */

static bool is_same_file(const char *a, const char *b)
{
    struct stat one, other;
    return lstat(a, &one) == 0 && lstat(b, &other) == 0 && one.st_dev == other.st_dev &&
           one.st_ino == other.st_ino;
}

/* Give the file a second name in merged: its own, or NAME-copyN where that is taken. */
static sm_status link_into(const char *merged, const char *path, sm_error *err)
{
    const char *slash = strrchr(path, '/');
    const char *name = slash != NULL ? slash + 1 : path;
    const size_t len = strlen(name) - (is_journal_name(name) ? 6 : 0);
    for (int i = 0; i < MAX_COPIES; i++) {
        sm_buf target = {0};
        char copy[24] = "";
        if (i > 0)
            snprintf(copy, sizeof copy, "-copy%d", i);
        const sm_status st =
            sm_buf_printf(&target, err, "%s/%.*s%s.jsonl%c", merged, (int)len, name, copy, '\0');
        if (st != SM_OK) {
            sm_buf_free(&target);
            return st;
        }
        const int why = link(path, (char *)target.data) == 0 ? 0 : errno;
        const bool done = why == 0 || (why == EEXIST && is_same_file(path, (char *)target.data));
        sm_buf_free(&target);
        if (done)
            return SM_OK;
        if (why != EEXIST)
            return sm_fail_errno(err, SM_ERR_IO, why, "%s: cannot move to %s", path, merged);
    }
    return sm_fail(err, SM_ERR_IO, "%s: %d copies of it are in %s", path, MAX_COPIES, merged);
}

static sm_status sync_folder(const char *path, sm_error *err)
{
    const int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const bool ok = fd >= 0 && fsync(fd) == 0;
    const int why = errno;
    if (fd >= 0)
        (void)close(fd); /* a folder */
    return ok ? SM_OK : sm_fail_errno(err, SM_ERR_IO, why, "%s: cannot fsync the folder", path);
}

/* Its path, NUL-terminated; it is made if it is not there, and so is journal/, which a catalog that
 * was copied alone lacks. */
static sm_status merged_folder(const char *catalog_path, sm_buf *path, sm_error *err)
{
    sm_buf journals = {0};
    sm_status st = sm_buf_printf(&journals, err, "%s.d/journal%c", catalog_path, '\0');
    if (st == SM_OK)
        st = sm_buf_printf(path, err, "%s.d/journal/merged%c", catalog_path, '\0');
    if (st == SM_OK)
        st = sm_path_make_folder((char *)journals.data, err);
    if (st == SM_OK)
        st = sm_path_make_folder((char *)path->data, err);
    if (st == SM_ERR_ARG) /* nothing is wrong with what was asked for, and half of it is done */
        st = err->status = SM_ERR_IO;
    sm_buf_free(&journals);
    return st;
}

sm_status sm_journal_retire(const char *catalog_path, const char *path, sm_error *err)
{
    sm_buf merged = {0};
    struct stat info;
    if (lstat(path, &info) != 0 && errno == ENOENT)
        return SM_OK; /* another merge was faster */
    sm_status st = merged_folder(catalog_path, &merged, err);
    const char *folder = (const char *)merged.data;
    /* not a rename, which would put it over one of the same name */
    if (st == SM_OK)
        st = link_into(folder, path, err);
    if (st == SM_OK)
        st = sync_folder(folder, err);
    if (st == SM_OK && unlink(path) != 0 && errno != ENOENT)
        st = sm_fail_errno(err, SM_ERR_IO, errno, "%s: cannot move to %s", path, folder);
    sm_buf_free(&merged);
    return st;
}

/* ---- journals from elsewhere ---- */

static sm_status write_all(int fd, const uint8_t *bytes, size_t len, const char *path,
                           sm_error *err)
{
    while (len > 0) {
        const ssize_t n = write(fd, bytes, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return sm_fail_errno(err, SM_ERR_IO, n < 0 ? errno : EIO, "%s: cannot write", path);
        bytes += n;
        len -= (size_t)n;
    }
    return SM_OK;
}

/* Source into an open file, durable; *digest of its bytes. */
static sm_status copy_source(const sm_source *source, int fd, const char *path, sm_digest *digest,
                             sm_error *err)
{
    sm_hasher *hasher = NULL;
    uint8_t *chunk = sm_malloc_array(COPY_BYTES, 1);
    sm_status st = sm_hasher_new(SM_DIGEST_XXH128, &hasher, err);
    if (st == SM_OK && chunk == NULL)
        st = sm_fail(err, SM_ERR_NOMEM, "%s: out of memory", path);
    const uint64_t size = sm_source_size(source);
    for (uint64_t at = 0; st == SM_OK && at < size;) {
        const size_t len = size - at < COPY_BYTES ? (size_t)(size - at) : COPY_BYTES;
        st = sm_source_pread(source, chunk, len, at, err);
        if (st == SM_OK)
            st = sm_hasher_update(hasher, chunk, len, err);
        if (st == SM_OK)
            st = write_all(fd, chunk, len, path, err);
        at += len;
    }
    if (st == SM_OK)
        st = sm_hasher_final(hasher, digest, err);
    if (st == SM_OK && (fchmod(fd, 0644) != 0 || fsync(fd) != 0))
        st = sm_fail_errno(err, SM_ERR_IO, errno, "%s: cannot fsync", path);
    sm_hasher_free(&hasher);
    free(chunk);
    return st;
}

/* Beneath the catalog's own journal folder already? */
static bool is_ours(const char *merged, const char *path)
{
    char *folder = realpath(merged, NULL), *file = realpath(path, NULL);
    bool ours = false;
    if (folder != NULL && file != NULL) {
        const size_t len = strlen(folder) - strlen("merged");
        ours = strncmp(folder, file, len) == 0;
    }
    free(folder);
    free(file);
    return ours;
}

/* temp becomes FOLDER/RUN-rRANK-DIGEST.jsonl, unless that is there. */
static sm_status name_copy(const char *folder, const char *temp, const char *run, uint32_t rank,
                           const sm_digest *digest, sm_error *err)
{
    char hex[SM_DIGEST_HEX_CAP];
    sm_buf path = {0};
    sm_status st = sm_buf_printf(&path, err, "%s/%s-r%04" PRIu32 "-%s.jsonl%c", folder, run, rank,
                                 sm_digest_hex(digest, hex), '\0');
    if (st == SM_OK && link(temp, (char *)path.data) != 0 && errno != EEXIST)
        st = sm_fail_errno(err, SM_ERR_IO, errno, "%s: cannot give it its name", (char *)path.data);
    sm_buf_free(&path);
    return st == SM_OK ? sync_folder(folder, err) : st;
}

static sm_status copy_into(const char *folder, const sm_source *source, const char *run,
                           uint32_t rank, sm_error *err)
{
    sm_buf temp = {0};
    sm_digest digest;
    sm_status st =
        sm_buf_printf(&temp, err, "%s/.%s-r%04" PRIu32 ".jsonl.XXXXXX%c", folder, run, rank, '\0');
    char *path = (char *)temp.data;
    const int fd = st == SM_OK ? mkostemp(path, O_CLOEXEC) : -1;
    if (st == SM_OK && fd < 0)
        st = sm_fail_errno(err, SM_ERR_IO, errno, "%s: cannot make a file", folder);
    if (fd >= 0) {
        st = copy_source(source, fd, path, &digest, err);
        if (close(fd) != 0 && st == SM_OK)
            st = sm_fail_errno(err, SM_ERR_IO, errno, "%s: cannot close", path);
        if (st == SM_OK)
            st = name_copy(folder, path, run, rank, &digest, err);
        (void)unlink(path);
    }
    sm_buf_free(&temp);
    return st;
}

sm_status sm_journal_adopt(const char *catalog_path, const char *path, const char *run,
                           uint32_t rank, sm_error *err)
{
    sm_buf merged = {0};
    sm_source *source = NULL;
    if (!sm_journal_is_uuid(run))
        return sm_fail(err, SM_ERR_ARG, "%s: a journal of no run", path);
    sm_status st = merged_folder(catalog_path, &merged, err);
    if (st == SM_OK && !is_ours((char *)merged.data, path)) {
        st = sm_source_open(path, &source, err);
        if (st == SM_OK)
            st = copy_into((char *)merged.data, source, run, rank, err);
    }
    sm_source_close(&source);
    sm_buf_free(&merged);
    return st;
}
