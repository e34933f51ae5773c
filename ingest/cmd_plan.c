/* slidemill plan: what is still to do, cut into shards of equal bytes. */
#include <cjson/cJSON.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/buf.h"
#include "common/lock.h"
#include "common/opts.h"
#include "common/path.h"
#include "common/progress.h"
#include "common/stop.h"
#include "ingest/brick_table.h"
#include "ingest/journal.h"
#include "ingest/merge.h"
#include "ingest/schedule.h"
#include "tiler/versions.h"

#define MOST_SHARDS 1000000

typedef struct config {
    const char *catalog, *scratch;
    uint32_t shards, wait;
    bool json;
} config;

#define AT(member) offsetof(config, member)

static const sm_opt OPTIONS[] = {
    {"catalog", SM_OPT_STR, AT(catalog), 0, 0, NULL, "FILE", "The catalog of the corpus. Needed."},
    {"shards", SM_OPT_U32, AT(shards), 0, MOST_SHARDS, "0", "N",
     "How many shards: tasks of a job array. Needed. More shards than slides leave some empty."},
    {"json", SM_OPT_FLAG, AT(json), 0, 0, NULL, NULL, "Print the balance as JSON."},
    {"wait", SM_OPT_U32, AT(wait), 0, 86400, "60", "S",
     "Seconds to wait while another program changes the catalog."},
    {"scratch", SM_OPT_STR, AT(scratch), 0, 0, NULL, "DIR",
     "Node-local folder for the working copy of the catalog. Default: SLURM_TMPDIR, TMPDIR, /tmp."},
};

static const sm_command COMMAND = {
    .name = "plan",
    .summary = "cut what is still to do into shards of equal bytes",
    .synopsis = "[options] --catalog FILE --shards N",
    .description =
        "Merges the journals of earlier runs, then deals every slide that has no pyramid yet into "
        "N shards: longest first, equal bytes, each shard with a mix of all bricks. Shard K is "
        "then ingested by `slidemill ingest --shard K`, K from 0 to N-1.\n\n"
        "Slides that failed or were quarantined are in no shard until `slidemill catalog retry` "
        "makes them new again. While a run is going on the plan stays as it is (exit code 75).",
    .examples = "slidemill plan --catalog corpus.smc --shards 1000\n"
                "    for an array of 1000 tasks\n",
    .exit_status =
        "0 planned\n"
        "2 wrong command line\n"
        "65 the catalog is damaged\n"
        "70 out of memory, or an error of slidemill's own\n"
        "74 the catalog could not be read or written\n"
        "75 a run is going on, or another program changes the catalog; try again later\n",
    .opts = OPTIONS,
    .n_opts = SM_COUNT(OPTIONS),
};

/* What is to be dealt. */
typedef struct slides {
    int64_t *ids;
    sm_schedule_item *items;
    uint32_t *shards;
    uint32_t n, cap, n_missing;
    sm_brick_table bricks;
} slides;

/* How it came out. */
typedef struct balance {
    uint64_t bytes, least, median, most; /* of the shards */
    uint32_t bricks_least, bricks_most, n_empty;
    uint32_t slides_least, slides_most;
} balance;

/* ---- what is to do ---- */

static sm_status grow(slides *s, sm_error *err)
{
    if (s->cap > UINT32_MAX / 4)
        return sm_fail(err, SM_ERR_LIMIT, "more slides than one plan can hold");
    const uint32_t cap = s->cap > 0 ? 2 * s->cap : 1024;
    int64_t *ids = reallocarray(s->ids, cap, sizeof *ids);
    if (ids != NULL)
        s->ids = ids;
    sm_schedule_item *items = reallocarray(s->items, cap, sizeof *items);
    if (items != NULL)
        s->items = items;
    if (ids == NULL || items == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "no memory for %u slides", cap);
    s->cap = cap;
    return SM_OK;
}

static sm_status add(slides *s, const sm_slide_row *row, sm_error *err)
{
    uint32_t brick = 0;
    const uint64_t main = row->size_bytes == SM_NO_SIZE ? 0 : row->size_bytes;
    sm_status st = s->n == s->cap ? grow(s, err) : SM_OK;
    if (st == SM_OK)
        st = sm_brick_table_index(&s->bricks, row->brick, &brick, err);
    if (st != SM_OK)
        return st;
    s->ids[s->n] = row->id;
    s->items[s->n++] = (sm_schedule_item){main + row->parts_bytes, brick};
    s->n_missing += !row->present;
    return SM_OK;
}

static sm_status collect(sm_catalog *catalog, slides *s, sm_error *err)
{
    const sm_slide_filter filter = {.by_state = 1u << SM_SLIDE_NEW | 1u << SM_SLIDE_PLANNED |
                                                1u << SM_SLIDE_LEASED};
    sm_slide_cursor *cursor = NULL;
    sm_slide_row row;
    bool more = true;
    sm_status st = sm_catalog_slides(catalog, &filter, &cursor, err);
    while (st == SM_OK) {
        st = sm_slide_cursor_next(cursor, &row, &more, err);
        if (st != SM_OK || !more)
            break;
        st = add(s, &row, err);
    }
    sm_slide_cursor_close(&cursor);
    for (uint32_t i = 0; i < s->n; i++)
        if (s->items[i].brick == SM_BRICK_UNKNOWN)
            s->items[i].brick = s->bricks.n;
    return st;
}

static void slides_clear(slides *s)
{
    free(s->ids);
    free(s->items);
    free(s->shards);
    sm_brick_table_clear(&s->bricks);
}

/* ---- the change ---- */

static sm_status deal(sm_catalog *catalog, const config *c, slides *s, sm_error *err)
{
    s->shards = sm_malloc_array(s->n > 0 ? s->n : 1, sizeof *s->shards);
    if (s->shards == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "no memory for %u slides", s->n);
    sm_status st = sm_schedule_shards(s->items, s->n, c->shards, s->shards, err);
    if (st == SM_OK)
        st = sm_catalog_begin_plan(catalog, c->shards, err);
    for (uint32_t i = 0; st == SM_OK && i < s->n; i++)
        st = sm_catalog_assign(catalog, s->ids[i], s->shards[i], err);
    return st;
}

static void say(void *arg, const char *line)
{
    (void)arg;
    (void)fprintf(stderr, "slidemill plan: %s\n", line);
}

static sm_status plan(const config *c, slides *s, uint32_t *number, sm_error *err)
{
    const sm_generation_config change = {.what = "plan", .wait_s = c->wait, .scratch = c->scratch};
    sm_catalog *catalog = NULL;
    sm_merge_result merged;
    sm_merge_state *state = NULL;
    sm_status st = sm_catalog_change(c->catalog, &change, &catalog, err);
    if (st == SM_OK)
        st = sm_merge_fold(catalog, NULL, 0, say, NULL, &merged, &state, err);
    if (st == SM_OK)
        st = collect(catalog, s, err);
    if (st == SM_OK)
        st = deal(catalog, c, s, err);
    if (st == SM_OK)
        st = sm_stop_check(err);
    if (st == SM_OK) {
        *number = sm_catalog_plan(catalog);
        st = sm_catalog_commit(&catalog, err);
    }
    if (st == SM_OK)
        st = sm_merge_retire(&state, err);
    sm_merge_state_free(&state);
    sm_catalog_close(&catalog);
    return st;
}

/* A run that has lost its lock to a brick's restart still writes its journal. */
static sm_status refuse_live(const char *catalog, sm_error *err)
{
    sm_journal_file *files = NULL;
    size_t n = 0;
    sm_status st = sm_journal_list(catalog, 0, SM_NO_SHARD, &files, &n, err);
    for (size_t i = 0; st == SM_OK && i < n; i++)
        if (files[i].live)
            st = sm_fail(err, SM_ERR_BUSY,
                         "%s: a run of the present plan still writes it; plan again when it has "
                         "ended",
                         files[i].path);
    sm_journal_files_free(&files, n);
    return st;
}

/* Runs hold bytes of this lock: while one of them does, slides must not change their shard. */
static sm_status plan_locked(const config *c, slides *s, uint32_t *number, sm_error *err)
{
    char path[PATH_MAX], folder[PATH_MAX]; /* CATALOG.d; a catalog that was copied alone lacks it */
    sm_catalog *catalog = NULL;
    sm_lock *lock = NULL;
    (void)snprintf(folder, sizeof folder, "%s.d", c->catalog);
    if (snprintf(path, sizeof path, "%s.d/shards.lock", c->catalog) >= (int)sizeof path)
        return sm_fail(err, SM_ERR_ARG, "%s: too long a path", c->catalog);
    sm_status st = sm_catalog_open(c->catalog, &catalog, err); /* says it if there is none */
    sm_catalog_close(&catalog);
    if (st == SM_OK)
        st = sm_path_make_folder(folder, err);
    if (st == SM_OK)
        st = sm_lock_take(path, SM_LOCK_ALL_FIRST, SM_LOCK_ALL_LAST, "plan", 0, &lock, err);
    if (st == SM_OK)
        st = refuse_live(c->catalog, err);
    if (st == SM_OK)
        st = plan(c, s, number, err);
    sm_lock_release(&lock);
    return st;
}

/* ---- the balance ---- */

static int by_value(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

typedef struct pair {
    uint32_t shard, brick;
} pair;

static int by_pair(const void *a, const void *b)
{
    const pair *x = a, *y = b;
    if (x->shard != y->shard)
        return x->shard < y->shard ? -1 : 1;
    return x->brick < y->brick ? -1 : x->brick > y->brick;
}

/* Distinct bricks of each shard that has slides: the extremes. */
static void count_bricks(const slides *s, pair *pairs, balance *b)
{
    uint32_t here = 0;
    for (uint32_t i = 0; i < s->n; i++)
        pairs[i] = (pair){s->shards[i], s->items[i].brick};
    qsort(pairs, s->n, sizeof *pairs, by_pair);
    b->bricks_least = UINT32_MAX;
    for (uint32_t i = 0; i < s->n; i++) {
        const bool new_shard = i == 0 || pairs[i].shard != pairs[i - 1].shard;
        here = new_shard ? 1 : here + (pairs[i].brick != pairs[i - 1].brick);
        if (i + 1 == s->n || pairs[i + 1].shard != pairs[i].shard) {
            b->bricks_least = here < b->bricks_least ? here : b->bricks_least;
            b->bricks_most = here > b->bricks_most ? here : b->bricks_most;
        }
    }
}

static sm_status measure(const config *c, const slides *s, balance *b, sm_error *err)
{
    uint64_t *bytes = sm_calloc(c->shards, sizeof *bytes), *n = sm_calloc(c->shards, sizeof *n);
    pair *pairs = sm_malloc_array((size_t)s->n + 1, sizeof *pairs);
    sm_status st = SM_OK;
    *b = (balance){0};
    if (bytes == NULL || n == NULL || pairs == NULL) {
        st = sm_fail(err, SM_ERR_NOMEM, "no memory for the balance");
        goto out;
    }
    for (uint32_t i = 0; i < s->n; i++) {
        b->bytes += s->items[i].bytes;
        bytes[s->shards[i]] += s->items[i].bytes;
        n[s->shards[i]]++;
    }
    for (uint32_t i = 0; i < c->shards; i++)
        b->n_empty += n[i] == 0;
    if (s->n > 0)
        count_bricks(s, pairs, b);
    qsort(bytes, c->shards, sizeof *bytes, by_value);
    qsort(n, c->shards, sizeof *n, by_value);
    b->least = bytes[0];
    b->median = bytes[c->shards / 2];
    b->most = bytes[c->shards - 1];
    b->slides_least = (uint32_t)n[0];
    b->slides_most = (uint32_t)n[c->shards - 1];
out:
    free(bytes);
    free(n);
    free(pairs);
    return st;
}

static void print_text(const config *c, const slides *s, uint32_t number, const balance *b)
{
    char total[16], least[16], median[16], most[16];
    (void)printf("plan %u: %u slides, %s, in %u shards (0 to %u)\n", number, s->n,
                 sm_human_bytes(b->bytes, total), c->shards, c->shards - 1);
    if (s->n == 0) {
        (void)printf("nothing is left to do; see 'slidemill catalog status %s'\n", c->catalog);
        return;
    }
    (void)printf("  bytes per shard   min %s, median %s, max %s\n", sm_human_bytes(b->least, least),
                 sm_human_bytes(b->median, median), sm_human_bytes(b->most, most));
    (void)printf("  slides per shard  min %u, max %u\n", b->slides_least, b->slides_most);
    if (s->bricks.n > 0)
        (void)printf("  bricks per shard  min %u, max %u, of %u\n", b->bricks_least, b->bricks_most,
                     s->bricks.n);
    if (b->n_empty > 0)
        (void)printf("  %u shards are empty\n", b->n_empty);
    if (s->n_missing > 0)
        (void)printf("  %u of the slides were missing at the last scan; they are tried all the "
                     "same\n",
                     s->n_missing);
}

static void print_json(const config *c, const slides *s, uint32_t number, const balance *b)
{
    const struct {
        const char *key;
        uint64_t value;
    } numbers[] = {{"plan", number},
                   {"shards", c->shards},
                   {"empty_shards", b->n_empty},
                   {"slides", s->n},
                   {"missing", s->n_missing},
                   {"bytes", b->bytes},
                   {"bricks", s->bricks.n},
                   {"shard_bytes_min", b->least},
                   {"shard_bytes_median", b->median},
                   {"shard_bytes_max", b->most},
                   {"shard_slides_min", b->slides_least},
                   {"shard_slides_max", b->slides_most},
                   {"shard_bricks_min", s->n > 0 ? b->bricks_least : 0},
                   {"shard_bricks_max", b->bricks_most}};
    cJSON *object = cJSON_CreateObject();
    for (size_t i = 0; i < SM_COUNT(numbers); i++)
        (void)cJSON_AddNumberToObject(object, numbers[i].key, (double)numbers[i].value);
    char *text = cJSON_PrintUnformatted(object);
    (void)puts(text != NULL ? text : "{}");
    cJSON_free(text);
    cJSON_Delete(object);
}

static sm_status run(const config *c, sm_error *err)
{
    slides s = {0};
    balance b;
    uint32_t number = 0;
    sm_status st = SM_OK;
    if (c->catalog == NULL)
        return sm_fail(err, SM_ERR_ARG, "--catalog is missing");
    if (c->shards == 0)
        return sm_fail(err, SM_ERR_ARG, "--shards is missing: how many tasks will there be?");
    st = plan_locked(c, &s, &number, err);
    if (st == SM_OK)
        st = measure(c, &s, &b, err);
    if (st == SM_OK && c->json)
        print_json(c, &s, number, &b);
    else if (st == SM_OK)
        print_text(c, &s, number, &b);
    if (st == SM_OK && (fflush(stdout) != 0 || ferror(stdout)))
        st = sm_fail(err, SM_ERR_IO, "cannot write to standard output");
    slides_clear(&s);
    return st;
}

int main(int argc, char **argv)
{
    config c = {0};
    unsigned n = 0;
    int code = 0;
    if (!sm_opts_start(&COMMAND, argc, argv, &c, NULL, &n, sm_library_versions(), &code))
        return code;
    sm_error err = SM_ERROR_INIT;
    sm_stop_install();
    const sm_status st = run(&c, &err);
    if (st != SM_OK)
        (void)fprintf(stderr, "slidemill plan: %s\n", err.message);
    if (st == SM_ERR_ARG)
        (void)fprintf(stderr, "try 'slidemill plan --help'\n");
    return sm_exit_code(st);
}
