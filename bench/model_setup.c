/* Numbers of the scale model from words: each has one row with its default and range; a calibration
 * file may replace the default, the command line both. */
#include "bench/model_setup.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/buf.h"
#include "common/catalog.h"
#include "ingest/brick_table.h"

#define MOST_CALIBRATION (1 << 20)
#define HOUR_S 3600
#define MB_S_OF_GBIT 125

static const struct {
    const char *name;
    double def, min, max;
} REALS[SM_MODEL_REALS] = {
    [REAL_STREAMS] = {"streams-per-brick", 8, 0, 65535},
    [REAL_CONVERT_MB_S] = {"convert-mb-s", 45, 1e-3, 1e6},
    [REAL_MPX_S] = {"mpx-s", 0, 0, 1e7},
    [REAL_BYTES_PER_PX] = {"bytes-per-px", 0.19, 1e-3, 100},
    [REAL_OUT_RATIO] = {"out-ratio", 1, 1e-3, 100},
    [REAL_STREAM_MB_S] = {"stream-mb-s", 300, 0, 1e6},
    [REAL_BRICK_MB_S] = {"brick-mb-s", 1500, 1e-3, 1e6},
    [REAL_BRICK_WRITE_MB_S] = {"brick-write-mb-s", 1000, 1e-3, 1e6},
    [REAL_NODE_GBIT] = {"node-gbit", 10, 1e-3, 1e5},
    [REAL_SERVER_GBIT] = {"server-gbit", 10, 1e-3, 1e5},
    [REAL_LINK_PAYLOAD] = {"link-payload", 0.94, 0.01, 1},
    [REAL_MOUNT_MB_S] = {"mount-mb-s", 0, 0, 1e6},
    [REAL_SLIDE_OVERHEAD] = {"slide-overhead", 1, 0, 1e5},
    [REAL_TASK_START] = {"task-start", 10, 0, 1e6},
    [REAL_RESTART] = {"restart", 120, 0, 1e7},
    [REAL_RETRY_FOR] = {"retry-for", 600, 0, 1e8},
    [REAL_PING_TIMEOUT] = {"ping-timeout", 42, 0, 1e5},
    [REAL_NODE_MTBF] = {"node-mtbf", 0, 0, 1e9},
    [REAL_RANK_MTBF] = {"rank-mtbf", 0, 0, 1e9},
    [REAL_BRICK_MTBF] = {"brick-mtbf", 0, 0, 1e9},
    [REAL_NODE_REPAIR] = {"node-repair", 4, 0, 1e6},
    [REAL_BRICK_OUTAGE] = {"brick-outage", 1, 0, 1e6},
};

/* ---- words ---- */

/* A number at the start of text; *end is behind it. */
static bool read_number(const char *text, const char **end, double *value)
{
    char *after = NULL;
    if (strchr("0123456789.", *text) == NULL || *text == '\0')
        return false;
    *value = strtod(text, &after);
    *end = after;
    return after != text && isfinite(*value);
}

static bool read_index(const char *text, const char **end, uint32_t *value)
{
    double number = 0;
    if (!read_number(text, end, &number) || number > 1e9 || number != floor(number))
        return false;
    *value = (uint32_t)number;
    return true;
}

static sm_status set_real(double *reals, int i, double value, const char *where, sm_error *err)
{
    if (!(value >= REALS[i].min && value <= REALS[i].max))
        return sm_fail(err, SM_ERR_ARG, "%s%s: %g is not in %g..%g", where, REALS[i].name, value,
                       REALS[i].min, REALS[i].max);
    reals[i] = value;
    return SM_OK;
}

static sm_status take_words(const sm_model_words *words, double *reals, sm_error *err)
{
    sm_status st = SM_OK;
    for (int i = 0; st == SM_OK && i < SM_MODEL_REALS; i++) {
        const char *end = NULL;
        double value = 0;
        if (words->reals[i] == NULL)
            continue;
        if (!read_number(words->reals[i], &end, &value) || *end != '\0')
            return sm_fail(err, SM_ERR_ARG, "--%s: '%s' is not a number in %g..%g", REALS[i].name,
                           words->reals[i], REALS[i].min, REALS[i].max);
        st = set_real(reals, i, value, "--", err);
    }
    return st;
}

/* "INDEX:NUMBER,...", e.g. of --slow-brick; take is told each pair. */
typedef bool (*take_pair)(sm_model_config *c, uint32_t index, double value);

static sm_status read_pairs(const char *option, const char *text, take_pair take,
                            sm_model_config *c, sm_error *err)
{
    const char *at = text;
    while (at != NULL) {
        const char *end = NULL;
        uint32_t index = 0;
        double value = 0;
        if (!read_index(at, &end, &index) || *end != ':' || !read_number(end + 1, &end, &value) ||
            (*end != '\0' && *end != ','))
            return sm_fail(err, SM_ERR_ARG, "%s: '%s' is not a list like 3:0.4,5:0.5", option,
                           text);
        if (!take(c, index, value))
            return sm_fail(err, SM_ERR_ARG, "%s: '%s' has too many pairs", option, text);
        at = *end == ',' ? end + 1 : NULL;
    }
    return SM_OK;
}

static bool take_point(sm_model_config *c, uint32_t index, double value)
{
    if (c->n_curve == SM_MODEL_POINTS)
        return false;
    c->curve[c->n_curve++] = (sm_model_point){index, value};
    return true;
}

static bool take_slow(sm_model_config *c, uint32_t index, double value)
{
    if (c->n_slow == SM_MODEL_SLOW)
        return false;
    c->slow[c->n_slow].brick = index;
    c->slow[c->n_slow++].factor = value;
    return true;
}

static sm_status read_faults(const char *text, sm_model_config *c, sm_error *err)
{
    static const char *const KINDS[] = {"rank:", "node:", "brick:"};
    const char *at = text;
    while (at != NULL) {
        sm_model_fault fault = {SM_MODEL_RANK_DIES, 0, 0};
        const char *end = NULL;
        uint32_t kind = 0;
        while (kind < SM_COUNT(KINDS) && strncmp(at, KINDS[kind], strlen(KINDS[kind])) != 0)
            kind++;
        if (kind == SM_COUNT(KINDS) || !read_index(at + strlen(KINDS[kind]), &end, &fault.index) ||
            *end != '@' || !read_number(end + 1, &end, &fault.at_s) ||
            (*end != '\0' && *end != ','))
            return sm_fail(err, SM_ERR_ARG,
                           "--fail: '%s' is not a list like node:0@7200,brick:3@1e5 (seconds)",
                           text);
        if (c->n_faults == SM_MODEL_FAULTS)
            return sm_fail(err, SM_ERR_ARG, "--fail: at most %d failures", SM_MODEL_FAULTS);
        fault.kind = (sm_model_fault_kind)kind;
        c->faults[c->n_faults++] = fault;
        at = *end == ',' ? end + 1 : NULL;
    }
    return SM_OK;
}

/* ---- calibration ---- */

static sm_status read_file(const char *path, char **text, sm_error *err)
{
    sm_status st = SM_OK;
    size_t n = 0;
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return sm_fail_errno(err, SM_ERR_IO, errno, "%s", path);
    *text = sm_calloc(1, MOST_CALIBRATION + 1);
    if (*text == NULL)
        st = sm_fail(err, SM_ERR_NOMEM, "%s: no memory", path);
    else
        n = fread(*text, 1, MOST_CALIBRATION, file);
    if (st == SM_OK && ferror(file))
        st = sm_fail(err, SM_ERR_IO, "%s: cannot be read", path);
    else if (st == SM_OK && n == MOST_CALIBRATION)
        st = sm_fail(err, SM_ERR_LIMIT, "%s: a calibration is less than %d bytes", path,
                     MOST_CALIBRATION);
    (void)fclose(file);
    return st;
}

/* [[INDEX, NUMBER], ...] */
static bool take_array(const cJSON *array, take_pair take, sm_model_config *c)
{
    const cJSON *pair = NULL;
    if (!cJSON_IsArray(array))
        return false;
    cJSON_ArrayForEach(pair, array)
    {
        const cJSON *index = cJSON_GetArrayItem(pair, 0), *value = cJSON_GetArrayItem(pair, 1);
        if (!cJSON_IsNumber(index) || !cJSON_IsNumber(value) || index->valuedouble < 0 ||
            index->valuedouble > 1e9 || !take(c, (uint32_t)index->valuedouble, value->valuedouble))
            return false;
    }
    return true;
}

static int real_of_key(const char *key)
{
    for (int i = 0; i < SM_MODEL_REALS; i++) {
        const char *name = REALS[i].name;
        size_t k = 0;
        while (name[k] != '\0' && key[k] == (name[k] == '-' ? '_' : name[k]))
            k++;
        if (name[k] == '\0' && key[k] == '\0')
            return i;
    }
    return SM_MODEL_REALS;
}

/* False: a key that is not known, or whose value is not of its kind. Keys that begin with an
 * underscore are remarks. */
static bool take_key(const cJSON *item, double *reals, sm_model_config *c)
{
    const char *key = item->string;
    if (strcmp(key, "brick_curve") == 0)
        return take_array(item, take_point, c);
    if (strcmp(key, "slow_bricks") == 0)
        return take_array(item, take_slow, c);
    if (*key == '_')
        return true;
    if (!cJSON_IsNumber(item))
        return false;
    sm_error ignored = SM_ERROR_INIT;
    const int i = real_of_key(key);
    return i < SM_MODEL_REALS && set_real(reals, i, item->valuedouble, "", &ignored) == SM_OK;
}

static sm_status calibrate(const char *path, double *reals, sm_model_config *c, sm_error *err)
{
    char *text = NULL;
    sm_status st = read_file(path, &text, err);
    cJSON *root = st == SM_OK ? cJSON_Parse(text) : NULL;
    const cJSON *item = NULL;
    if (st == SM_OK && !cJSON_IsObject(root))
        st = sm_fail(err, SM_ERR_FORMAT, "%s: is not a JSON object", path);
    cJSON_ArrayForEach(item, root)
    {
        if (st == SM_OK && !take_key(item, reals, c))
            st = sm_fail(err, SM_ERR_FORMAT,
                         "%s: '%s': no such key of a calibration, or not a value in its range; "
                         "docs/scale.md lists them",
                         path, item->string);
    }
    cJSON_Delete(root);
    free(text);
    return st;
}

/* ---- all together ---- */

static void fill(const double *reals, sm_model_config *c)
{
    const double link = reals[REAL_LINK_PAYLOAD] * MB_S_OF_GBIT;
    c->streams_per_brick = (uint32_t)reals[REAL_STREAMS];
    c->convert_mb_s = reals[REAL_MPX_S] > 0 ? reals[REAL_MPX_S] * reals[REAL_BYTES_PER_PX]
                                            : reals[REAL_CONVERT_MB_S];
    c->out_ratio = reals[REAL_OUT_RATIO];
    c->stream_mb_s = reals[REAL_STREAM_MB_S];
    c->brick_mb_s = reals[REAL_BRICK_MB_S];
    c->brick_write_mb_s = reals[REAL_BRICK_WRITE_MB_S];
    c->node_mb_s = reals[REAL_NODE_GBIT] * link;
    c->server_mb_s = reals[REAL_SERVER_GBIT] * link;
    c->mount_mb_s = reals[REAL_MOUNT_MB_S];
    c->overhead_s = reals[REAL_SLIDE_OVERHEAD];
    c->task_start_s = reals[REAL_TASK_START];
    c->restart_s = reals[REAL_RESTART];
    c->retry_for_s = reals[REAL_RETRY_FOR];
    c->ping_timeout_s = reals[REAL_PING_TIMEOUT];
    c->node_mtbf_s = reals[REAL_NODE_MTBF] * HOUR_S;
    c->rank_mtbf_s = reals[REAL_RANK_MTBF] * HOUR_S;
    c->brick_mtbf_s = reals[REAL_BRICK_MTBF] * HOUR_S;
    c->node_repair_s = reals[REAL_NODE_REPAIR] * HOUR_S;
    c->brick_outage_s = reals[REAL_BRICK_OUTAGE] * HOUR_S;
}

sm_status sm_model_setup(const sm_model_words *words, sm_model_config *config, sm_error *err)
{
    double reals[SM_MODEL_REALS];
    const bool cpu_given = words->reals[REAL_CONVERT_MB_S] != NULL;
    sm_status st = SM_OK;
    for (int i = 0; i < SM_MODEL_REALS; i++)
        reals[i] = REALS[i].def;
    if (cpu_given && words->reals[REAL_MPX_S] != NULL)
        return sm_fail(err, SM_ERR_ARG, "--convert-mb-s and --mpx-s say the same: give one");
    if (words->calibrate != NULL)
        st = calibrate(words->calibrate, reals, config, err);
    if (cpu_given)
        reals[REAL_MPX_S] = 0;
    if (st == SM_OK)
        st = take_words(words, reals, err);
    if (st == SM_OK && words->brick_curve != NULL) {
        config->n_curve = 0;
        st = read_pairs("--brick-curve", words->brick_curve, take_point, config, err);
    }
    if (st == SM_OK && words->slow_brick != NULL) {
        config->n_slow = 0;
        st = read_pairs("--slow-brick", words->slow_brick, take_slow, config, err);
    }
    if (st == SM_OK && words->fail != NULL)
        st = read_faults(words->fail, config, err);
    fill(reals, config);
    return st;
}

/* ---- a real corpus ---- */

static sm_status add_slide(sm_model_corpus *c, const sm_slide_row *row, uint32_t *cap,
                           sm_brick_table *bricks, sm_error *err)
{
    uint32_t brick = 0;
    if (row->size_bytes == SM_NO_SIZE || row->size_bytes == 0)
        return SM_OK;
    if (c->n == *cap) {
        *cap = *cap > 0 ? 2 * *cap : 1024;
        sm_schedule_item *more = reallocarray(c->slides, *cap, sizeof *more);
        if (more == NULL)
            return sm_fail(err, SM_ERR_NOMEM, "no memory for %u slides", *cap);
        c->slides = more;
    }
    const sm_status st = sm_brick_table_index(bricks, row->brick, &brick, err);
    c->slides[c->n].bytes = row->size_bytes + row->parts_bytes;
    c->slides[c->n].brick = brick;
    c->bytes += c->slides[c->n++].bytes;
    return st;
}

sm_status sm_model_catalog(const char *path, sm_model_corpus *corpus, sm_error *err)
{
    sm_catalog *catalog = NULL;
    sm_slide_cursor *cursor = NULL;
    const sm_slide_filter all = {.limit = 0};
    sm_brick_table bricks = {.n = 0};
    sm_slide_row row;
    uint32_t cap = 0;
    bool more = true;
    sm_status st = sm_catalog_open(path, &catalog, err);
    if (st == SM_OK)
        st = sm_catalog_slides(catalog, &all, &cursor, err);
    while (st == SM_OK) {
        st = sm_slide_cursor_next(cursor, &row, &more, err);
        if (st != SM_OK || !more)
            break;
        st = add_slide(corpus, &row, &cap, &bricks, err);
    }
    corpus->bricks = bricks.n > 0 ? bricks.n : 1;
    for (uint32_t i = 0; i < corpus->n; i++) /* of unknown bricks: dealt out */
        if (corpus->slides[i].brick >= corpus->bricks)
            corpus->slides[i].brick = i % corpus->bricks;
    if (st == SM_OK && corpus->n == 0)
        st = sm_fail(err, SM_ERR_ARG, "%s: has no slide of known size", path);
    sm_slide_cursor_close(&cursor);
    sm_catalog_close(&catalog);
    sm_brick_table_clear(&bricks);
    return st;
}
