/* What a run has to do: rows of the catalog, less what journals of earlier, interrupted runs of the
 * same shard say is over. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/buf.h"
#include "common/stop.h"
#include "common/sysinfo.h"
#include "ingest/out_path.h"
#include "ingest/run_internal.h"

/* A rank whose job died is gone within seconds; whoever writes for longer is alive. */
#define LIVE_WAIT_NS (10 * SM_SECOND_NS)
enum { OTHER_JOURNALS = 8 }; /* heads that are looked at when the catalog knows no target yet */

/* ---- the catalog's part ---- */

static sm_status grow(sm_run_list *list, sm_error *err)
{
    const uint32_t cap = list->cap > 0 ? 2 * list->cap : 256;
    if (list->cap > UINT32_MAX / 4)
        return sm_fail(err, SM_ERR_LIMIT, "more slides than one run can hold");
    sm_run_entry *entries = reallocarray(list->entries, cap, sizeof *entries);
    if (entries != NULL)
        list->entries = entries;
    sm_schedule_item *items = reallocarray(list->items, cap, sizeof *items);
    if (items != NULL)
        list->items = items;
    if (entries == NULL || items == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "no memory for a list of %u slides", cap);
    list->cap = cap;
    return SM_OK;
}

static sm_status add(sm_run_list *list, sm_run_entry entry, uint64_t bytes, const char *brick,
                     sm_error *err)
{
    uint32_t index = 0;
    sm_status st = list->n == list->cap ? grow(list, err) : SM_OK;
    if (st == SM_OK)
        st = sm_brick_table_index(&list->bricks, brick, &index, err);
    if (st != SM_OK)
        return st;
    list->entries[list->n] = entry;
    list->items[list->n++] = (sm_schedule_item){bytes, index};
    return SM_OK;
}

static uint64_t bytes_of(const sm_slide_row *row)
{
    const uint64_t main = row->size_bytes == SM_NO_SIZE ? 0 : row->size_bytes;
    return main + row->parts_bytes;
}

static unsigned states_of(const sm_run_config *config)
{
    switch (config->kind) {
    case SM_ATTEMPT_CONVERT:
        return 1u << SM_SLIDE_NEW | 1u << SM_SLIDE_PLANNED | 1u << SM_SLIDE_LEASED;
    case SM_ATTEMPT_HASH: /* that a quarantined one is bad is known */
        return config->recheck ? 0 : ~(1u << SM_SLIDE_QUARANTINED) & ((1u << SM_SLIDE_STATES) - 1);
    default:
        return 0;
    }
}

/* names: NULL where no outputs are made. */
static sm_status load_slides(sm_catalog *catalog, const sm_run_config *config,
                             const sm_out_names *names, sm_run_list *list, sm_error *err)
{
    const sm_slide_filter filter = {.by_state = states_of(config),
                                    .shard = config->shard == SM_NO_SHARD ? NULL : &config->shard,
                                    .only_unchecked =
                                        config->kind == SM_ATTEMPT_HASH && !config->recheck};
    sm_slide_cursor *cursor = NULL;
    sm_slide_row row;
    bool more = true;
    sm_status st = sm_catalog_slides(catalog, &filter, &cursor, err);
    while (st == SM_OK && more) {
        st = sm_slide_cursor_next(cursor, &row, &more, err);
        if (st != SM_OK || !more)
            break;
        const sm_run_entry entry = {.slide = row.id,
                                    .since_generation = row.since_generation,
                                    .full_name =
                                        names != NULL && sm_out_names_full(names, row.path)};
        st = add(list, entry, bytes_of(&row), row.brick, err);
    }
    sm_slide_cursor_close(&cursor);
    return st;
}

typedef struct output_visit {
    sm_catalog *catalog;
    const sm_run_config *config;
    sm_run_list *list;
} output_visit;

static sm_status add_output(void *arg, const sm_output_row *row, sm_error *err)
{
    const output_visit *v = arg;
    const sm_run_config *config = v->config;
    if (row->checked_ns != 0 && !config->recheck)
        return SM_OK;
    return add(v->list, (sm_run_entry){.slide = row->slide}, row->size_bytes, NULL, err);
}

/* Outputs know no shard: their slides do. */
static sm_status keep_shard(sm_catalog *catalog, const sm_run_config *config, sm_run_list *list,
                            sm_error *err)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; config->shard != SM_NO_SHARD && i < list->n; i++) {
        sm_slide_row row;
        bool found = false;
        const sm_status st = sm_catalog_get(catalog, list->entries[i].slide, &row, &found, err);
        if (st != SM_OK)
            return st;
        if (found && row.shard == config->shard) {
            list->entries[kept] = list->entries[i];
            list->items[kept++] = list->items[i];
        }
    }
    if (config->shard != SM_NO_SHARD)
        list->n = kept;
    return SM_OK;
}

static sm_status count_failed(sm_catalog *catalog, const sm_run_config *config, sm_run_list *list,
                              sm_error *err)
{
    const sm_slide_filter filter = {.by_state = 1u << SM_SLIDE_FAILED | 1u << SM_SLIDE_QUARANTINED,
                                    .shard = config->shard == SM_NO_SHARD ? NULL : &config->shard};
    uint64_t bytes = 0;
    return sm_catalog_count(catalog, &filter, &list->n_failed_before, &bytes, err);
}

sm_status sm_run_list_load(sm_catalog *catalog, const sm_run_config *config, sm_run_list *list,
                           sm_error *err)
{
    sm_out_names *names = NULL;
    sm_status st = SM_OK;
    if (config->kind == SM_ATTEMPT_CHECK_OUTPUT) {
        output_visit visit = {catalog, config, list};
        st = sm_catalog_outputs(catalog, 0, add_output, &visit, err);
        if (st == SM_OK)
            st = keep_shard(catalog, config, list, err);
    } else {
        if (config->kind == SM_ATTEMPT_CONVERT)
            st = sm_out_names_new(catalog, &names, err);
        if (st == SM_OK)
            st = load_slides(catalog, config, names, list, err);
    }
    sm_out_names_free(&names);
    if (st == SM_OK && config->kind == SM_ATTEMPT_CONVERT)
        st = count_failed(catalog, config, list, err);
    return st;
}

void sm_run_list_clear(sm_run_list *list)
{
    free(list->entries);
    free(list->items);
    sm_brick_table_clear(&list->bricks);
    *list = (sm_run_list){0};
}

/* ---- the journals' part ---- */

typedef struct resume {
    const sm_run_config *config;
    const sm_journal_head *head;
    const sm_run_log *log;
    sm_run_list *list;
    uint8_t *over;       /* of each slide: 0, or 1 + sm_outcome_kind */
    bool ours;           /* the journal at hand is of this catalog */
    uint64_t generation; /* that its run read */
} resume;

static bool is_final(sm_outcome_kind outcome)
{
    return outcome == SM_OUTCOME_OK || outcome == SM_OUTCOME_FAILED ||
           outcome == SM_OUTCOME_QUARANTINED;
}

static int by_id(const void *a, const void *b)
{
    const int64_t x = ((const sm_run_entry *)a)->slide, y = ((const sm_run_entry *)b)->slide;
    return x < y ? -1 : x > y;
}

static const sm_run_entry *find(const resume *r, int64_t slide)
{
    const sm_run_entry key = {.slide = slide};
    const sm_run_list *list = r->list;
    return list->n > 0 ? bsearch(&key, list->entries, list->n, sizeof key, by_id) : NULL;
}

/* A journal that was never closed stays where it is for a while after a merge. A result that was
 * taken back since it was made (catalog retry, a changed file) does not count, as in a merge; what
 * was hashed or checked counts only for the generation it was asked of: a recheck asks anew. */
static void take_end(resume *r, const sm_outcome *outcome)
{
    const sm_run_entry *at = find(r, outcome->slide);
    if (at == NULL || outcome->kind != r->config->kind || !is_final(outcome->outcome))
        return;
    const uint64_t since =
        outcome->kind == SM_ATTEMPT_CONVERT ? at->since_generation : r->head->generation;
    if (r->generation >= since)
        r->over[at - r->list->entries] = (uint8_t)(1 + (int)outcome->outcome);
}

static sm_status check_target(const resume *r, const sm_journal_head *theirs, sm_error *err)
{
    if (r->head->kind != SM_ATTEMPT_CONVERT || theirs->kind != SM_ATTEMPT_CONVERT || !r->ours)
        return SM_OK;
    return sm_run_check_target(r->config->catalog, theirs->target_dir, theirs->target_options,
                               r->head, err);
}

static void say_bad_line(const resume *r, const char *path, const char *message)
{
    sm_run_line line;
    sm_run_line_begin(&line, r->log, "warn", "journal");
    sm_run_line_text(&line, "file", path);
    sm_run_line_text(&line, "message", message);
    sm_run_line_end(&line);
}

static sm_status take_event(resume *r, const sm_journal_event *event, sm_error *err)
{
    if (event->kind == SM_JOURNAL_HEAD) {
        r->ours = strcmp(event->head.catalog, r->head->catalog) == 0;
        r->generation = event->head.generation;
        return check_target(r, &event->head, err);
    }
    if (r->ours && event->kind == SM_JOURNAL_END)
        take_end(r, &event->outcome);
    return SM_OK;
}

/* A line that is damaged is said and passed over: what it told is done again. */
static sm_status read_events(resume *r, sm_journal_reader *reader, const char *path, bool only_head,
                             sm_error *err)
{
    sm_journal_event *event = sm_calloc(1, sizeof *event);
    bool more = true;
    sm_status st = event == NULL ? sm_fail(err, SM_ERR_NOMEM, "no memory for a journal") : SM_OK;
    r->ours = false;
    while (st == SM_OK && more) {
        st = sm_journal_next(reader, event, &more, err);
        if (st == SM_ERR_CORRUPT) {
            say_bad_line(r, path, err->message);
            st = SM_OK;
            continue;
        }
        if (st != SM_OK || !more)
            break;
        st = take_event(r, event, err);
        more = !only_head;
    }
    if (st == SM_ERR_FORMAT) { /* no journal at all: an empty file that a dead rank left */
        say_bad_line(r, path, err->message);
        st = SM_OK;
    }
    if (event != NULL)
        sm_journal_event_clear(event);
    free(event);
    return st;
}

static sm_status read_journal(resume *r, const char *path, bool only_head, sm_error *err)
{
    sm_source *source = NULL;
    sm_journal_reader *reader = NULL;
    sm_status st = sm_source_open(path, &source, err);
    if (st == SM_OK)
        st = sm_journal_open(source, &reader, err);
    if (st == SM_OK)
        st = read_events(r, reader, path, only_head, err);
    sm_journal_close(&reader);
    sm_source_close(&source);
    return st;
}

static const sm_journal_file *first_live(const sm_journal_file *files, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (files[i].live)
            return &files[i];
    return NULL;
}

/* The journals of this shard, once nobody writes them any more. */
static sm_status list_dead(const resume *r, sm_journal_file **files, size_t *n, sm_error *err)
{
    const uint64_t began_ns = sm_now_ns();
    for (;;) {
        sm_status st =
            sm_journal_list(r->config->catalog, r->head->plan, r->config->shard, files, n, err);
        const sm_journal_file *live = st == SM_OK ? first_live(*files, *n) : NULL;
        if (live == NULL)
            return st;
        if (sm_now_ns() - began_ns >= LIVE_WAIT_NS)
            return sm_fail(err, SM_ERR_BUSY, "%s: still written by another run; try again later",
                           live->path);
        st = sm_stop_check(err);
        if (st != SM_OK)
            return st;
        sm_journal_files_free(files, *n);
        *n = 0;
        (void)nanosleep(&(struct timespec){0, 200000000}, NULL);
    }
}

/* Other shards of the same first submission: their target must be ours. */
static sm_status look_at_others(resume *r, sm_error *err)
{
    sm_journal_file *files = NULL;
    size_t n = 0, looked_at = 0;
    sm_status st = sm_journal_list(r->config->catalog, 0, SM_NO_SHARD, &files, &n, err);
    for (size_t i = 0; st == SM_OK && i < n && looked_at < OTHER_JOURNALS; i++, looked_at++) {
        st = read_journal(r, files[i].path, true, err);
        if (st == SM_ERR_IO)
            st = SM_OK; /* merged and moved away meanwhile */
    }
    sm_journal_files_free(&files, n);
    return st;
}

static void take_out(resume *r)
{
    sm_run_list *list = r->list;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < list->n; i++) {
        if (r->over[i] != 0) {
            list->n_before++;
            list->n_failed_before += r->over[i] != 1 + (int)SM_OUTCOME_OK;
            continue;
        }
        list->entries[kept] = list->entries[i];
        list->items[kept++] = list->items[i];
    }
    list->n = kept;
}

/* Costs as the scheduler takes them; the slides of no known brick get a last brick of their own. */
static void finish_items(sm_run_list *list)
{
    for (uint32_t i = 0; i < list->n; i++) {
        sm_schedule_item *item = &list->items[i];
        list->bytes += item->bytes;
        item->bytes += SM_RUN_OVERHEAD_BYTES;
        if (item->brick == SM_BRICK_UNKNOWN)
            item->brick = list->bricks.n;
    }
}

sm_status sm_run_list_resume(const sm_run_config *config, const sm_journal_head *head,
                             const sm_run_log *log, sm_run_list *list, sm_error *err)
{
    resume r = {.config = config, .head = head, .log = log, .list = list};
    sm_journal_file *files = NULL;
    size_t n = 0;
    sm_status st = SM_OK;
    r.over = sm_calloc((size_t)list->n + 1, sizeof *r.over);
    if (r.over == NULL)
        st = sm_fail(err, SM_ERR_NOMEM, "no memory for a list of %u slides", list->n);
    if (st == SM_OK)
        st = list_dead(&r, &files, &n, err);
    for (size_t i = 0; st == SM_OK && i < n; i++)
        st = read_journal(&r, files[i].path, false, err);
    if (st == SM_OK && head->kind == SM_ATTEMPT_CONVERT && config->shard != SM_NO_SHARD)
        st = look_at_others(&r, err);
    if (st == SM_OK) {
        take_out(&r);
        finish_items(list);
    }
    sm_journal_files_free(&files, n);
    free(r.over);
    return st;
}
