/* Path patterns. Owns the parsed pattern and the values of the last match. */
#include "ingest/pattern.h"

#include <stdlib.h>
#include <string.h>

#include "common/buf.h"
#include "common/path.h"

#define NAME_MAX_BYTES 32

/* literal[0] name[0] literal[1] name[1] ... literal[n] */
struct sm_pattern {
    char *literals[SM_FIELDS_MAX + 1];
    size_t literal_lens[SM_FIELDS_MAX + 1];
    char *names[SM_FIELDS_MAX];
    size_t n;
    /* of the last match: */
    char text[SM_PATH_MAX + SM_FIELDS_MAX + 1];
    const char *values[SM_FIELDS_MAX];
    /* (literal, position) pairs from which nothing can match: without them a pattern could take
     * time without end on a path that almost fits */
    uint8_t dead[(SM_FIELDS_MAX + 1) * (SM_PATH_MAX + 1) / 8 + 1];
    const char *path;
    size_t path_len;
    size_t begins[SM_FIELDS_MAX], ends[SM_FIELDS_MAX];
};

static sm_status keep(const char *text, size_t len, char **out, sm_error *err)
{
    *out = strndup(text, len);
    return *out != NULL ? SM_OK : sm_fail(err, SM_ERR_NOMEM, "out of memory for the pattern");
}

static bool is_name(const char *text, size_t len)
{
    static const char LETTERS[] = "abcdefghijklmnopqrstuvwxyz";

    if (len == 0 || len > NAME_MAX_BYTES || strchr(LETTERS, text[0]) == NULL)
        return false;
    return strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789_") >= len;
}

static sm_status add_name(sm_pattern *p, const char *text, size_t len, sm_error *err)
{
    if (!is_name(text, len))
        return sm_fail(err, SM_ERR_ARG,
                       "--pattern: {%.*s}: a name is a small letter, then small letters, digits "
                       "and _, at most %d in all",
                       (int)(len < 64 ? len : 64), text, NAME_MAX_BYTES);
    if (p->n == SM_FIELDS_MAX)
        return sm_fail(err, SM_ERR_ARG, "--pattern: more than %d names", SM_FIELDS_MAX);
    for (size_t i = 0; i < p->n; i++) {
        if (strlen(p->names[i]) == len && memcmp(p->names[i], text, len) == 0)
            return sm_fail(err, SM_ERR_ARG, "--pattern: {%.*s} is there twice", (int)len, text);
    }
    if (len == 5 && memcmp(text, "slide", 5) == 0)
        return sm_fail(err, SM_ERR_ARG, "--pattern: {slide} is taken; choose another name");
    const sm_status st = keep(text, len, &p->names[p->n], err);
    p->n += st == SM_OK;
    return st;
}

/* The literal up to the next name, its doubled braces made single; *at moves behind it. */
static sm_status take_literal(sm_pattern *p, const char **at, sm_error *err)
{
    sm_buf out = {0};
    sm_status st = SM_OK;

    while (st == SM_OK && **at != '\0') {
        const char c = **at;
        if ((c == '{' || c == '}') && (*at)[1] == c)
            ++*at;
        else if (c == '{')
            break;
        else if (c == '}')
            st = sm_fail(err, SM_ERR_ARG, "--pattern: a } without {; write }} for a brace");
        if (st == SM_OK)
            st = sm_buf_append(&out, (*at)++, 1, err);
    }
    if (st == SM_OK) {
        p->literal_lens[p->n] = out.len;
        st = keep(out.len > 0 ? (const char *)out.data : "", out.len, &p->literals[p->n], err);
    }
    sm_buf_free(&out);
    return st;
}

static sm_status parse(sm_pattern *p, const char *text, sm_error *err)
{
    const char *at = text;

    if (strlen(text) > SM_PATH_MAX)
        return sm_fail(err, SM_ERR_ARG, "--pattern: longer than any path");
    sm_status st = take_literal(p, &at, err);
    while (st == SM_OK && *at == '{') {
        const size_t len = strcspn(at + 1, "{}");
        if (at[1 + len] != '}')
            return sm_fail(err, SM_ERR_ARG, "--pattern: '%.40s': { without }", at);
        st = add_name(p, at + 1, len, err);
        at += len + 2;
        if (st == SM_OK)
            st = take_literal(p, &at, err);
    }
    if (st == SM_OK && p->n == 0)
        st = sm_fail(err, SM_ERR_ARG, "--pattern: no {name} in it");
    return st;
}

sm_status sm_pattern_new(const char *text, sm_pattern **pattern, sm_error *err)
{
    sm_pattern *p = sm_calloc(1, sizeof *p);

    *pattern = NULL;
    if (p == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "out of memory for the pattern");
    const sm_status st = parse(p, text, err);
    *pattern = p;
    if (st != SM_OK)
        sm_pattern_free(pattern);
    return st;
}

void sm_pattern_free(sm_pattern **pattern)
{
    if (*pattern == NULL)
        return;
    for (size_t i = 0; i < SM_FIELDS_MAX; i++) {
        free((*pattern)->literals[i]);
        free((*pattern)->names[i]);
    }
    free((*pattern)->literals[SM_FIELDS_MAX]);
    free(*pattern);
    *pattern = NULL;
}

const char *const *sm_pattern_names(const sm_pattern *pattern, size_t *n)
{
    *n = pattern->n;
    return (const char *const *)pattern->names;
}

/* Does literal i and all behind it match at `at`? Recursion is as deep as there are names. */
static bool match_from(sm_pattern *p, size_t i, size_t at)
{
    const size_t bit = i * (p->path_len + 1) + at;
    const size_t behind = at + p->literal_lens[i];

    if ((p->dead[bit / 8] >> bit % 8 & 1) != 0)
        return false;
    if (behind <= p->path_len && memcmp(p->path + at, p->literals[i], p->literal_lens[i]) == 0) {
        if (i == p->n && behind == p->path_len)
            return true;
        if (i < p->n)
            p->begins[i] = behind;
        for (size_t end = behind; i < p->n && end < p->path_len && p->path[end] != '/'; end++) {
            p->ends[i] = end + 1;
            if (match_from(p, i + 1, end + 1))
                return true;
        }
    }
    p->dead[bit / 8] |= (uint8_t)(1u << bit % 8);
    return false;
}

const char *const *sm_pattern_match(sm_pattern *pattern, const char *path)
{
    sm_pattern *p = pattern;
    size_t used = 0;

    p->path = path;
    p->path_len = strlen(path);
    if (p->path_len > SM_PATH_MAX)
        return NULL;
    memset(p->dead, 0, (p->n + 1) * (p->path_len + 1) / 8 + 1);
    if (!match_from(p, 0, 0))
        return NULL;
    for (size_t i = 0; i < p->n; i++) {
        const size_t len = p->ends[i] - p->begins[i];
        memcpy(p->text + used, path + p->begins[i], len);
        p->text[used + len] = '\0';
        p->values[i] = p->text + used;
        used += len + 1;
    }
    return p->values;
}

sm_status sm_pattern_fill(sm_pattern *pattern, sm_catalog *catalog, int64_t id, const char *path,
                          sm_error *err)
{
    if (pattern == NULL)
        return SM_OK;
    const char *const *values = sm_pattern_match(pattern, path);
    return values != NULL ? sm_catalog_set_fields(catalog, id, values, pattern->n, err) : SM_OK;
}
