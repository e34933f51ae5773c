/* What one thread of a walk does: list a folder, look at its files.
 * Owns nothing beyond a call. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/path.h"
#include "common/stop.h"
#include "ingest/parts.h"
#include "ingest/walk_private.h"

/* ---- files ---- */

static int64_t mtime_of(const struct stat *info)
{
    return (int64_t)info->st_mtim.tv_sec * 1000000000 + info->st_mtim.tv_nsec;
}

/* Names with "folder/" before them; false if that is no path of ours. */
static bool join(const char *folder, const char *name, char out[SM_PATH_MAX + 1])
{
    const int len =
        snprintf(out, SM_PATH_MAX + 1, "%s%s%s", folder, *folder != '\0' ? "/" : "", name);

    return len > 0 && len <= SM_PATH_MAX;
}

static sm_status add_parts(const sm_walk *walk, sm_walk_item *item, sm_error *err)
{
    char **parts = NULL;
    size_t n = 0;
    sm_status st = sm_parts_find(walk->config.root_fd, item->path, &parts, &n, err);

    if (st == SM_OK && n > 0) {
        item->parts = sm_calloc(n, sizeof *item->parts);
        if (item->parts == NULL)
            st = sm_fail(err, SM_ERR_NOMEM, "out of memory for the files of a slide");
    }
    for (size_t i = 0; st == SM_OK && i < n; i++) {
        struct stat info;
        sm_walk_part *part = &item->parts[i];
        part->path = parts[i];
        parts[i] = NULL;
        item->n_parts = i + 1;
        part->size_bytes = UINT64_MAX;
        const sm_status stat_st =
            sm_path_stat_beneath(walk->config.root_fd, part->path, &info, err);
        if (stat_st == SM_OK) {
            part->size_bytes = (uint64_t)info.st_size;
            part->mtime_ns = mtime_of(&info);
        } else if (err->sys_errno != ENOENT) {
            st = stat_st;
        }
    }
    sm_parts_free(&parts, n);
    return st;
}

static sm_status look(sm_walk *walk, sm_walk_item *item, bool *is_file, sm_error *err)
{
    char brick[SM_BRICK_CAP];
    struct stat info;
    int fd = -1;
    /* O_PATH: no request to open the file, and no permission to read it, is needed */
    sm_status st = sm_path_open_beneath(walk->config.root_fd, item->path, O_PATH, &fd, err);

    *is_file = false;
    if (st != SM_OK)
        return st;
    if (fstat(fd, &info) != 0)
        st = sm_fail_errno(err, SM_ERR_IO, errno, "%s", item->path);
    if (st == SM_OK && S_ISREG(info.st_mode)) {
        *is_file = true;
        item->size_bytes = (uint64_t)info.st_size;
        item->mtime_ns = mtime_of(&info);
        /* a brick that is not known is better than a slide that is not listed */
        if (walk->config.bricks && sm_brick_of(fd, brick, err) == SM_OK)
            item->brick = sm_walk_brick(walk, brick);
    }
    (void)close(fd);
    return st == SM_OK && *is_file ? add_parts(walk, item, err) : st;
}

static bool not_permitted(const sm_error *err)
{
    return err->sys_errno == EACCES || err->sys_errno == EPERM;
}

static void look_at(sm_walk *walk, const char *path)
{
    sm_error err = SM_ERROR_INIT;
    bool is_file = false;
    sm_walk_item *item = sm_walk_item_new(walk, SM_WALK_SLIDE, path, NULL);

    if (item == NULL)
        return;
    const sm_status st = look(walk, item, &is_file, &err);
    if (st == SM_OK && is_file) {
        sm_walk_found(walk, item);
        return;
    }
    sm_walk_item_free(&item);
    if (st == SM_ERR_NOMEM)
        sm_walk_fail(walk, &err);
    else if (st == SM_ERR_ARG && !not_permitted(&err))
        sm_walk_tell(walk, SM_WALK_REFUSED, path, &err);
    else if (st != SM_OK && (is_file || err.sys_errno != ENOENT)) /* else it is gone again */
        sm_walk_tell(walk, SM_WALK_UNREADABLE, path, &err);
}

void sm_walk_look(sm_walk *walk, const walk_task *task)
{
    char path[SM_PATH_MAX + 1];

    for (size_t i = 0; i < task->n && !sm_stop_requested(); i++) {
        if (join(task->path, task->names[i], path))
            look_at(walk, path);
    }
}

/* ---- folders ---- */

/* A folder while it is listed. */
typedef struct listing {
    sm_walk *walk;
    const char *path;
    walk_task *batch;          /* slides that are not handed on yet; NULL: none */
    char **folders, **indexes; /* names of sub-folders, and of MRXS files without their ending */
    size_t n_folders, folders_cap, n_indexes, indexes_cap;
    uint64_t n_files;
    bool failed;
} listing;

static void keep_name(listing *l, char ***names, size_t *n, size_t *cap, const char *name,
                      size_t len)
{
    sm_error err = SM_ERROR_INIT;

    if (*n == *cap) {
        const size_t grown_cap = *cap != 0 ? 2 * *cap : 16;
        char **grown = sm_calloc(grown_cap, sizeof *grown);
        if (grown != NULL && *n > 0)
            memcpy(grown, *names, *n * sizeof *grown);
        if (grown != NULL) {
            free(*names);
            *names = grown;
            *cap = grown_cap;
        }
    }
    if (*n < *cap && ((*names)[*n] = strndup(name, len)) != NULL) {
        ++*n;
        return;
    }
    (void)sm_fail(&err, SM_ERR_NOMEM, "out of memory while listing folders");
    sm_walk_fail(l->walk, &err);
    l->failed = true;
}

static void hand_on(listing *l)
{
    walk_task *batch = l->batch;

    l->batch = NULL;
    if (batch == NULL || batch->n == 0 || sm_walk_push(l->walk, batch)) {
        if (batch != NULL && batch->n == 0)
            sm_walk_drop(batch);
        return;
    }
    sm_walk_look(l->walk, batch);
    sm_walk_drop(batch);
}

static void add_slide(listing *l, const char *name)
{
    const size_t len = strlen(name), ending = strlen(".mrxs");

    if (len > ending && strcasecmp(name + len - ending, ".mrxs") == 0)
        keep_name(l, &l->indexes, &l->n_indexes, &l->indexes_cap, name, len - ending);
    if (l->batch == NULL)
        l->batch = sm_walk_task(l->walk, l->path);
    if (l->batch == NULL || !sm_walk_task_name(l->walk, l->batch, name)) {
        l->failed = true;
        return;
    }
    l->n_files++;
    if (l->batch->n == WALK_BATCH)
        hand_on(l);
}

static bool path_of(int fd, char path[PATH_MAX])
{
    char link[64];

    (void)snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    const ssize_t len = readlink(link, path, PATH_MAX - 1);
    path[len > 0 ? len : 0] = '\0';
    if (strcmp(path, "/") == 0)
        path[0] = '\0';
    return len > 0;
}

/* A folder that stands open in the root is listed under its own name (now, or by a scan of another
 * folder); a link to it would only double its slides. */
static bool is_listed_by_name(const sm_walk *walk, int fd)
{
    char root[PATH_MAX], target[PATH_MAX];

    if (!path_of(walk->config.root_fd, root) || !path_of(fd, target))
        return false;
    const size_t len = strlen(root);
    if (strncmp(root, target, len) != 0 || (target[len] != '/' && target[len] != '\0'))
        return false;
    return target[len] == '\0' || !sm_walk_excluded(target + len + 1, walk->config.exclude);
}

/* A symbolic link: what it leads to decides, if that is beneath the root. */
static void add_link(listing *l, const char *path, const char *name)
{
    sm_error err = SM_ERROR_INIT;
    struct stat info;
    int fd = -1;
    const sm_status st = sm_path_open_beneath(l->walk->config.root_fd, path, O_PATH, &fd, &err);

    if (st != SM_OK) {
        if (st == SM_ERR_ARG && !not_permitted(&err))
            sm_walk_tell(l->walk, SM_WALK_REFUSED, path, &err);
        else if (err.sys_errno != ENOENT || sm_parts_vendor(name) != NULL)
            sm_walk_tell(l->walk, SM_WALK_UNREADABLE, path, &err);
        return;
    }
    const bool known = fstat(fd, &info) == 0;
    const bool is_folder = known && S_ISDIR(info.st_mode);
    const bool follow = is_folder && !is_listed_by_name(l->walk, fd);
    (void)close(fd);
    if (known && S_ISREG(info.st_mode) && sm_parts_vendor(name) != NULL)
        add_slide(l, name);
    walk_task *task = follow ? sm_walk_task(l->walk, path) : NULL;
    if (task != NULL)
        sm_walk_push_link(l->walk, task);
}

static unsigned char type_of(int dir_fd, const struct dirent *entry)
{
    struct stat info;

    if (entry->d_type != DT_UNKNOWN)
        return entry->d_type;
    if (fstatat(dir_fd, entry->d_name, &info, AT_SYMLINK_NOFOLLOW) != 0)
        return DT_REG; /* whoever looks at it says what is wrong */
    return (unsigned char)IFTODT(info.st_mode);
}

static void add_entry(listing *l, int dir_fd, const struct dirent *entry)
{
    char path[SM_PATH_MAX + 1];
    sm_error err = SM_ERROR_INIT;

    if (entry->d_name[0] == '.')
        return;
    if (!join(l->path, entry->d_name, path)) {
        (void)sm_fail(&err, SM_ERR_ARG, "%.200s...: a path of more than %d bytes", l->path,
                      SM_PATH_MAX);
        sm_walk_tell(l->walk, SM_WALK_REFUSED, l->path, &err);
        return;
    }
    if (sm_walk_excluded(path, l->walk->config.exclude))
        return;
    switch (type_of(dir_fd, entry)) {
    case DT_DIR:
        keep_name(l, &l->folders, &l->n_folders, &l->folders_cap, entry->d_name,
                  strlen(entry->d_name));
        break;
    case DT_LNK:
        add_link(l, path, entry->d_name);
        break;
    case DT_REG:
        if (sm_parts_vendor(entry->d_name) != NULL)
            add_slide(l, entry->d_name);
        break;
    default:
        break;
    }
}

static sm_status read_entries(listing *l, int fd, sm_error *err)
{
    const struct dirent *entry = NULL;
    DIR *dir = fdopendir(fd);

    if (dir == NULL) {
        const int why = errno;
        (void)close(fd);
        return sm_fail_errno(err, SM_ERR_IO, why, "%s: cannot be listed", l->path);
    }
    for (errno = 0; !l->failed && !sm_stop_requested() && (entry = readdir(dir)) != NULL; errno = 0)
        add_entry(l, dirfd(dir), entry);
    const int why = entry == NULL && !l->failed ? errno : 0;
    (void)closedir(dir);
    if (why != 0)
        return sm_fail_errno(err, SM_ERR_IO, why, "%s: cannot be listed to its end",
                             *l->path != '\0' ? l->path : "the root");
    return SM_OK;
}

/* Sub-folders, but not those that are the data of an MRXS slide. */
static void push_folders(listing *l)
{
    char path[SM_PATH_MAX + 1];

    for (size_t i = 0; i < l->n_folders; i++) {
        bool is_data = false;
        for (size_t k = 0; k < l->n_indexes && !is_data; k++)
            is_data = strcmp(l->folders[i], l->indexes[k]) == 0;
        walk_task *task = NULL;
        if (!is_data && join(l->path, l->folders[i], path))
            task = sm_walk_task(l->walk, path);
        if (task != NULL)
            (void)sm_walk_push(l->walk, task);
    }
}

static void tell_listed(const listing *l, const struct stat *info)
{
    sm_walk_item *item = sm_walk_item_new(l->walk, SM_WALK_FOLDER, l->path, NULL);
    char device[SM_BRICK_CAP];

    if (item == NULL)
        return;
    item->n_files = l->n_files;
    /* as common/brick.h names what is not Gluster's */
    (void)snprintf(device, sizeof device, "dev:%u:%u", major(info->st_dev), minor(info->st_dev));
    item->brick = sm_walk_brick(l->walk, device);
    sm_walk_found(l->walk, item);
}

static sm_status open_folder(const sm_walk *walk, const char *path, int *fd, sm_error *err)
{
    const int flags = O_RDONLY | O_DIRECTORY | O_NONBLOCK;

    if (*path != '\0')
        return sm_path_open_beneath(walk->config.root_fd, path, flags, fd, err);
    *fd = openat(walk->config.root_fd, ".", flags | O_CLOEXEC);
    return *fd >= 0 ? SM_OK : sm_fail_errno(err, SM_ERR_IO, errno, "the root cannot be listed");
}

void sm_walk_list(sm_walk *walk, const char *path)
{
    listing l = {.walk = walk, .path = path};
    sm_error err = SM_ERROR_INIT;
    struct stat info;
    int fd = -1;
    sm_status st = open_folder(walk, path, &fd, &err);

    if (st == SM_OK && fstat(fd, &info) != 0) {
        st = sm_fail_errno(&err, SM_ERR_IO, errno, "%s", path);
        (void)close(fd);
    } else if (st == SM_OK) {
        if (!sm_walk_is_first(walk, (sm_walk_place){info.st_dev, info.st_ino})) {
            (void)close(fd);
            return;
        }
        st = read_entries(&l, fd, &err);
    }
    hand_on(&l);
    push_folders(&l);
    if (st != SM_OK)
        sm_walk_tell(walk, SM_WALK_NO_FOLDER, path, &err);
    else
        tell_listed(&l, &info);
    for (size_t i = 0; i < l.n_folders; i++)
        free(l.folders[i]);
    for (size_t i = 0; i < l.n_indexes; i++)
        free(l.indexes[i]);
    free(l.folders);
    free(l.indexes);
}
