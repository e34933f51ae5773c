/* Output paths. Stems and paths are compared by 64 bits of XXH3: should two differ and hash alike,
 * an output gets the longer name without need, the same one each time. */
#include "ingest/out_path.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/path.h"

sm_status sm_out_suffix_check(const char *suffix, sm_error *err)
{
    if (suffix[0] != '.' || suffix[1] == '\0' || strchr(suffix, '/') != NULL || strlen(suffix) > 32)
        return sm_fail(err, SM_ERR_ARG,
                       "--suffix: '%s' is not a dot and up to 31 characters without '/'", suffix);
    return SM_OK;
}

static bool ends_with(const char *path, size_t len, const char *end)
{
    const size_t end_len = strlen(end);
    return len > end_len && strncasecmp(path + len - end_len, end, end_len) == 0;
}

size_t sm_out_stem_len(const char *path)
{
    static const char *const DOUBLE[] = {".ome.tif", ".ome.tiff"};
    const char *slash = strrchr(path, '/'), *name = slash != NULL ? slash + 1 : path;
    const size_t len = strlen(path), before = (size_t)(name - path);
    for (size_t i = 0; i < SM_COUNT(DOUBLE); i++)
        if (ends_with(path, len, DOUBLE[i]) && len - strlen(DOUBLE[i]) > before)
            return len - strlen(DOUBLE[i]);
    const char *dot = strrchr(name, '.');
    return dot != NULL && dot != name ? (size_t)(dot - path) : len;
}

/* ---- the names of a catalog ---- */

typedef struct hashes {
    uint64_t *list;
    size_t n, cap;
} hashes;

struct sm_out_names {
    hashes stems, paths;
};

static uint64_t hash_of(const char *bytes, size_t len)
{
    const sm_digest digest = sm_digest_xxh128(bytes, len);
    uint64_t hash = 0;
    memcpy(&hash, digest.bytes, sizeof hash);
    return hash;
}

static sm_status put(hashes *h, uint64_t hash, sm_error *err)
{
    if (h->n == h->cap) {
        const size_t cap = h->cap > 0 ? 2 * h->cap : 1024;
        uint64_t *grown = reallocarray(h->list, cap, sizeof *grown);
        if (grown == NULL)
            return sm_fail(err, SM_ERR_NOMEM, "no memory for the names of %zu slides", cap);
        h->list = grown;
        h->cap = cap;
    }
    h->list[h->n++] = hash;
    return SM_OK;
}

static int by_value(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void sort(hashes *h)
{
    if (h->n > 1)
        qsort(h->list, h->n, sizeof *h->list, by_value);
}

static const uint64_t *find(const hashes *h, uint64_t hash)
{
    return h->n > 0 ? bsearch(&hash, h->list, h->n, sizeof *h->list, by_value) : NULL;
}

static sm_status collect(sm_catalog *catalog, sm_out_names *names, sm_error *err)
{
    sm_slide_cursor *cursor = NULL;
    sm_slide_row row;
    bool more = true;
    sm_status st = sm_catalog_slides(catalog, &(sm_slide_filter){0}, &cursor, err);
    while (st == SM_OK) {
        st = sm_slide_cursor_next(cursor, &row, &more, err);
        if (st != SM_OK || !more)
            break;
        st = put(&names->stems, hash_of(row.path, sm_out_stem_len(row.path)), err);
        if (st == SM_OK)
            st = put(&names->paths, hash_of(row.path, strlen(row.path)), err);
    }
    sm_slide_cursor_close(&cursor);
    return st;
}

sm_status sm_out_names_new(sm_catalog *catalog, sm_out_names **names, sm_error *err)
{
    *names = NULL;
    sm_out_names *n = sm_calloc(1, sizeof *n);
    if (n == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "no memory for the names of the outputs");
    const sm_status st = collect(catalog, n, err);
    if (st == SM_OK) {
        sort(&n->stems);
        sort(&n->paths);
        *names = n;
        n = NULL;
    }
    sm_out_names_free(&n);
    return st;
}

bool sm_out_names_full(const sm_out_names *names, const char *path)
{
    const size_t len = sm_out_stem_len(path);
    const uint64_t hash = hash_of(path, len), *at = find(&names->stems, hash);
    const uint64_t *first = names->stems.list, *end = first + names->stems.n;
    const bool shared =
        at != NULL && ((at > first && at[-1] == hash) || (at + 1 < end && at[1] == hash));
    return shared || (path[len] != '\0' && find(&names->paths, hash) != NULL);
}

void sm_out_names_free(sm_out_names **names)
{
    if (*names != NULL) {
        free((*names)->stems.list);
        free((*names)->paths.list);
    }
    free(*names);
    *names = NULL;
}

/* ---- one path ---- */

sm_status sm_out_path(const char *path, bool full, const char *suffix, sm_buf *out, sm_error *err)
{
    out->len = 0;
    sm_status st = sm_buf_append(out, path, full ? strlen(path) : sm_out_stem_len(path), err);
    if (st == SM_OK)
        st = sm_buf_append(out, suffix, strlen(suffix) + 1, err);
    if (st == SM_OK && sm_path_check((const char *)out->data, err) != SM_OK)
        st = sm_fail(err, SM_ERR_LIMIT, "%s: its output's name would be too long", path);
    return st;
}
