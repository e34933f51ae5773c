/* Slides by their names, and the further files of those that are more than one. Owns nothing. */
#include "ingest/parts.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/path.h"

/* A VMS or VMU file is a page of text; more parts than this are no slide. */
#define INDEX_BYTES_MAX ((size_t)1024 * 1024)
#define PARTS_MAX 65536

/* The first that fits counts, so longer endings come first. */
static const struct {
    const char *ending, *vendor;
} VENDORS[] = {
    {".ome.tif", "ome-tiff"}, {".ome.tiff", "ome-tiff"}, {".ome.tf2", "ome-tiff"},
    {".ome.tf8", "ome-tiff"}, {".ome.btf", "ome-tiff"},  {".svs", "aperio"},
    {".ndpi", "hamamatsu"},   {".vms", "hamamatsu"},     {".vmu", "hamamatsu"},
    {".scn", "leica"},        {".mrxs", "mirax"},        {".bif", "ventana"},
    {".svslide", "sakura"},   {".tif", "generic-tiff"},  {".tiff", "generic-tiff"},
    {".btf", "generic-tiff"}, {".dcm", "dicom"},
};

static bool ends_in(const char *path, const char *ending)
{
    const char *slash = strrchr(path, '/');
    const char *name = slash != NULL ? slash + 1 : path;
    const size_t len = strlen(name), tail = strlen(ending);

    /* ".svs" alone is a hidden file without an ending */
    return len > tail && strcasecmp(name + len - tail, ending) == 0;
}

const char *sm_parts_vendor(const char *path)
{
    for (size_t i = 0; i < SM_COUNT(VENDORS); i++) {
        if (ends_in(path, VENDORS[i].ending))
            return VENDORS[i].vendor;
    }
    return NULL;
}

void sm_parts_free(char ***parts, size_t n)
{
    for (size_t i = 0; *parts != NULL && i < n; i++)
        free((*parts)[i]);
    free(*parts);
    *parts = NULL;
}

/* A list that grows. */
typedef struct list {
    char **items;
    size_t n, cap;
} list;

/* folder/name; folder may be empty. */
static sm_status list_add(list *l, const char *folder, size_t folder_len, const char *name,
                          size_t name_len, sm_error *err)
{
    if (l->n == PARTS_MAX)
        return sm_fail(err, SM_ERR_LIMIT, "a slide of more than %d files", PARTS_MAX);
    if (l->n == l->cap) {
        const size_t cap = l->cap != 0 ? 2 * l->cap : 16;
        char **items = sm_malloc_array(cap, sizeof *items);
        if (items == NULL)
            return sm_fail(err, SM_ERR_NOMEM, "out of memory for the files of a slide");
        if (l->n > 0)
            memcpy(items, l->items, l->n * sizeof *items);
        free(l->items);
        l->items = items;
        l->cap = cap;
    }
    char *path = sm_malloc_array(folder_len + name_len + 2, 1);
    if (path == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "out of memory for the files of a slide");
    memcpy(path, folder, folder_len);
    size_t at = folder_len;
    if (folder_len > 0)
        path[at++] = '/';
    memcpy(path + at, name, name_len);
    path[at + name_len] = '\0';
    l->items[l->n++] = path;
    return SM_OK;
}

static int compare(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void list_sort(list *l)
{
    size_t kept = 0;

    if (l->n > 1)
        qsort(l->items, l->n, sizeof *l->items, compare);
    for (size_t i = 0; i < l->n; i++) {
        if (kept > 0 && strcmp(l->items[kept - 1], l->items[i]) == 0)
            free(l->items[i]);
        else
            l->items[kept++] = l->items[i];
    }
    l->n = kept;
}

/* ---- MRXS: the folder of the same stem ---- */

static sm_status list_folder(int fd, const char *folder, list *l, sm_error *err)
{
    DIR *dir = fdopendir(fd);
    const struct dirent *entry = NULL;
    sm_status st = SM_OK;

    if (dir == NULL) {
        (void)close(fd);
        return sm_fail_errno(err, SM_ERR_IO, errno, "%s: cannot be listed", folder);
    }
    for (errno = 0; st == SM_OK && (entry = readdir(dir)) != NULL; errno = 0) {
        if (entry->d_name[0] == '.' || entry->d_type == DT_DIR)
            continue;
        st = list_add(l, folder, strlen(folder), entry->d_name, strlen(entry->d_name), err);
    }
    if (st == SM_OK && errno != 0)
        st = sm_fail_errno(err, SM_ERR_IO, errno, "%s: cannot be listed", folder);
    (void)closedir(dir);
    return st;
}

static sm_status find_mirax(int root_fd, const char *path, list *l, sm_error *err)
{
    char folder[SM_PATH_MAX + 1];
    int fd = -1;
    const size_t len = strlen(path) - strlen(".mrxs");

    memcpy(folder, path, len);
    folder[len] = '\0';
    const sm_status st = sm_path_open_beneath(root_fd, folder, O_RDONLY | O_DIRECTORY, &fd, err);
    if (st != SM_OK && (err->sys_errno == ENOENT || err->sys_errno == ENOTDIR))
        return SM_OK; /* an index alone: whoever opens the slide says what is missing */
    return st == SM_OK ? list_folder(fd, folder, l, err) : st;
}

/* ---- VMS, VMU: an index that names its files ---- */

static sm_status read_index(int root_fd, const char *path, sm_buf *text, sm_error *err)
{
    int fd = -1;
    sm_status st = sm_path_open_beneath(root_fd, path, O_RDONLY | O_NONBLOCK | O_NOCTTY, &fd, err);

    while (st == SM_OK) {
        st = sm_buf_reserve(text, text->len + (size_t)64 * 1024, err);
        if (st != SM_OK)
            break;
        const ssize_t got = read(fd, text->data + text->len, text->cap - text->len);
        if (got < 0)
            st = sm_fail_errno(err, SM_ERR_IO, errno, "%s: cannot be read", path);
        else if (got == 0)
            break;
        else if ((text->len += (size_t)got) > INDEX_BYTES_MAX)
            st = sm_fail(err, SM_ERR_FORMAT, "%s: more than 1 MiB is no index of a slide", path);
    }
    if (fd >= 0)
        (void)close(fd);
    return st;
}

/* Keys whose values are files (OpenSlide's src/openslide-vendor-hamamatsu.c reads the same). */
static bool names_file(const char *key, size_t len)
{
    static const char *const KEYS[] = {"ImageFile", "MapFile", "MacroImage", "OptimisationFile"};

    for (size_t i = 0; i < SM_COUNT(KEYS); i++) {
        const size_t known = strlen(KEYS[i]);
        if (len >= known && memcmp(key, KEYS[i], known) == 0 && (len == known || key[known] == '('))
            return true; /* "ImageFile(1,0)" */
    }
    return false;
}

static sm_status take_line(const char *path, const char *line, size_t len, list *l, sm_error *err)
{
    const char *equals = memchr(line, '=', len);
    const char *slash = strrchr(path, '/');

    while (len > 0 && strchr(" \t\r", line[len - 1]) != NULL && line[len - 1] != '\0')
        len--;
    if (equals == NULL || !names_file(line, (size_t)(equals - line)))
        return SM_OK;
    const char *name = equals + 1;
    const char *const end = line + len;
    if (name >= end)
        return SM_OK; /* an empty value: the index has no such file */
    const size_t name_len = (size_t)(end - name);
    if (memchr(name, '/', name_len) != NULL || memchr(name, '\\', name_len) != NULL ||
        memchr(name, '\0', name_len) != NULL || name[0] == '.' || name_len > 255)
        return sm_fail(err, SM_ERR_FORMAT, "%s: names a file outside of its folder: %.*s", path,
                       (int)(name_len < 200 ? name_len : 200), name);
    return list_add(l, path, slash != NULL ? (size_t)(slash - path) : 0, name, name_len, err);
}

static sm_status find_hamamatsu(int root_fd, const char *path, list *l, sm_error *err)
{
    sm_buf text = {0};
    sm_status st = read_index(root_fd, path, &text, err);

    for (size_t at = 0; st == SM_OK && at < text.len;) {
        const char *line = (const char *)text.data + at;
        const char *newline = memchr(line, '\n', text.len - at);
        const size_t len = newline != NULL ? (size_t)(newline - line) : text.len - at;
        st = take_line(path, line, len, l, err);
        at += len + 1;
    }
    sm_buf_free(&text);
    return st;
}

sm_status sm_parts_find(int root_fd, const char *path, char ***parts, size_t *n, sm_error *err)
{
    list l = {0};

    *parts = NULL;
    *n = 0;
    sm_status st = sm_path_check(path, err);
    if (st == SM_OK && ends_in(path, ".mrxs"))
        st = find_mirax(root_fd, path, &l, err);
    else if (st == SM_OK && (ends_in(path, ".vms") || ends_in(path, ".vmu")))
        st = find_hamamatsu(root_fd, path, &l, err);
    if (st != SM_OK) {
        sm_parts_free(&l.items, l.n);
        return st;
    }
    list_sort(&l);
    *parts = l.items;
    *n = l.n;
    return SM_OK;
}
