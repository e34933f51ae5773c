/* Finds the numbers of two results by their path of names, and compares their spreads. */
#include "bench/compare.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/buf.h"
#include "common/source.h"
#include "common/text.h"

enum { FILE_MAX = 64 << 20, NAME_CAP = 512, DEPTH_MAX = 16 };

typedef struct number {
    char name[NAME_CAP];
    double median, min, max, n;
} number;

typedef struct numbers {
    number *all;
    size_t n, cap;
} numbers;

static bool value_of(const cJSON *object, const char *name, double *value)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
    if (!cJSON_IsNumber(item))
        return false;
    *value = item->valuedouble;
    return true;
}

static sm_status add_number(numbers *list, const char *name, const cJSON *object, sm_error *err)
{
    number one = {.n = 3};
    if (!value_of(object, "median", &one.median) || !value_of(object, "min", &one.min) ||
        !value_of(object, "max", &one.max))
        return SM_OK;
    (void)value_of(object, "n", &one.n);
    (void)snprintf(one.name, sizeof one.name, "%s", name);
    if (list->n == list->cap) {
        const size_t cap = list->cap > 0 ? 2 * list->cap : 64;
        number *grown = reallocarray(list->all, cap, sizeof *grown);
        if (grown == NULL)
            return sm_fail(err, SM_ERR_NOMEM, "no memory for %zu numbers", cap);
        list->all = grown;
        list->cap = cap;
    }
    list->all[list->n++] = one;
    return SM_OK;
}

// NOLINTNEXTLINE(misc-no-recursion): as deep as cJSON let the file be, at most DEPTH_MAX
static sm_status collect(numbers *list, const cJSON *item, const char *name, int depth,
                         sm_error *err)
{
    char path[NAME_CAP];
    const cJSON *id = cJSON_GetObjectItemCaseSensitive(item, "id"), *child = NULL;
    const char *base = name;
    sm_status st = SM_OK;

    if (depth > DEPTH_MAX)
        return SM_OK;
    if (cJSON_IsString(id))
        base = id->valuestring;
    if (cJSON_IsObject(item))
        st = add_number(list, base, item, err);
    cJSON_ArrayForEach(child, item)
    {
        if (st != SM_OK || (!cJSON_IsObject(child) && !cJSON_IsArray(child)))
            continue;
        (void)snprintf(path, sizeof path, "%.400s%s%.100s", base, base[0] != '\0' ? " " : "",
                       child->string != NULL ? child->string : "");
        st = collect(list, child, path, depth + 1, err);
    }
    return st;
}

static sm_status parse_all(const char *path, const char *text, size_t len, numbers *list,
                           sm_error *err)
{
    const char *at = text, *end = text + len;
    sm_status st = SM_OK;

    while (st == SM_OK) {
        const char *after = NULL;
        while (at < end && strchr(" \t\r\n", *at) != NULL)
            at++;
        if (at >= end || *at == '\0')
            return SM_OK;
        cJSON *item = cJSON_ParseWithLengthOpts(at, (size_t)(end - at), &after, 0);
        if (item == NULL)
            return sm_fail_at(err, SM_ERR_FORMAT, (uint64_t)(at - text),
                              "%s: is no result of a benchmark (JSON)", path);
        st = collect(list, item, "", 0, err);
        cJSON_Delete(item);
        at = after;
    }
    return st;
}

static sm_status load(const char *path, numbers *list, sm_error *err)
{
    sm_source *source = NULL;
    char *text = NULL;
    sm_status st = sm_source_open(path, &source, err);
    if (st != SM_OK)
        return st;
    const uint64_t size = sm_source_size(source);
    if (size > FILE_MAX) {
        st = sm_fail(err, SM_ERR_LIMIT, "%s: too big for a result of a benchmark", path);
        goto out;
    }
    text = sm_calloc((size_t)size + 1, 1);
    if (text == NULL) {
        st = sm_fail(err, SM_ERR_NOMEM, "%s: no memory for it", path);
        goto out;
    }
    st = sm_source_pread(source, text, (size_t)size, 0, err);
    if (st == SM_OK)
        st = parse_all(path, text, (size_t)size, list, err);
out:
    free(text);
    sm_source_close(&source);
    return st;
}

static bool ends_in(const char *name, const char *end)
{
    const size_t len = strlen(name), n = strlen(end);
    return len >= n && strcmp(name + len - n, end) == 0;
}

/* Rates grow when things get better; times and sizes shrink. */
static bool less_is_better(const char *name)
{
    static const char *const ENDS[] = {"_ms", "_ns", "_mib", "_mb", "_bytes"};
    if (ends_in(name, "per_s"))
        return false;
    for (size_t i = 0; i < SM_COUNT(ENDS); i++)
        if (ends_in(name, ENDS[i]))
            return true;
    return ends_in(name, "_s");
}

/* Fewer than three runs do not show their noise: allow for 10%. */
static void widen(number *a)
{
    if (a->n >= 3)
        return;
    a->min *= 0.9;
    a->max *= 1.1;
}

static const number *find(const numbers *list, const char *name)
{
    for (size_t i = 0; i < list->n; i++)
        if (strcmp(list->all[i].name, name) == 0)
            return &list->all[i];
    return NULL;
}

/* 1 faster, -1 slower, 0 inside the noise */
static int verdict(number a, number b)
{
    widen(&a);
    widen(&b);
    const int more = b.min > a.max ? 1 : b.max < a.min ? -1 : 0;
    return less_is_better(a.name) ? -more : more;
}

static sm_status print_one(const number *a, const number *b, int said, sm_error *err)
{
    static const char *const WORDS[] = {"slower", "no difference", "faster"};
    sm_buf clean = {0};
    const sm_status st = sm_text_clean(a->name, true, &clean, err);
    if (st == SM_OK)
        (void)printf("%-13s  %+6.1f%%  %.4g -> %.4g  %s\n", WORDS[said + 1],
                     a->median != 0 ? 100 * (b->median / a->median - 1) : 0, a->median, b->median,
                     (const char *)clean.data);
    sm_buf_free(&clean);
    return st;
}

sm_status bench_compare(const char *a, const char *b, bool all, bool *any_slower, sm_error *err)
{
    numbers first = {0}, second = {0};
    size_t counts[3] = {0}, n = 0;
    sm_status st = load(a, &first, err);

    if (st == SM_OK)
        st = load(b, &second, err);
    for (size_t i = 0; st == SM_OK && i < first.n; i++) {
        const number *other = find(&second, first.all[i].name);
        if (other == NULL)
            continue;
        const int said = verdict(first.all[i], *other);
        counts[said + 1]++;
        n++;
        if (all || said != 0)
            st = print_one(&first.all[i], other, said, err);
    }
    if (st == SM_OK && n == 0)
        st = sm_fail(err, SM_ERR_ARG, "%s and %s have no measured number in common", a, b);
    if (st == SM_OK)
        (void)printf("%zu faster, %zu slower, %zu no difference beyond the noise\n", counts[2],
                     counts[0], counts[1]);
    *any_slower = counts[0] > 0;
    free(first.all);
    free(second.all);
    return st;
}
