/* Folding journals into a catalog: which files, which events, and what becomes of the files.
 * Owns the list of journals between the change and its publication. */
#include "ingest/merge.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "common/buf.h"
#include "common/source.h"
#include "common/stop.h"
#include "ingest/journal.h"

enum {
    SAID_A_FILE = 5,   /* bad lines that are said one by one */
    STOP_EVERY = 4096, /* lines */
    MAP_FIRST = 1 << 10,
    /* A journal that was not closed and whose writer seems to be gone is read again by each merge
     * until it was quiet for so long: a brick's restart can drop the lock of a writer that lives.
     */
    QUIET_S = 24 * 3600,
};

/* ---- a map of numbers ---- */

typedef struct map_entry {
    uint64_t key; /* 0: free */
    uint64_t a, b, c;
} map_entry;

typedef struct map {
    map_entry *entries;
    size_t n, cap; /* cap: 0 or a power of two */
} map;

static size_t map_slot(const map *m, uint64_t key)
{
    uint64_t h = key * UINT64_C(0x9E3779B97F4A7C15);
    h = (h ^ (h >> 32)) * UINT64_C(0xD6E8FEB86659FD93);
    size_t i = (size_t)(h ^ (h >> 32)) & (m->cap - 1);
    while (m->entries[i].key != 0 && m->entries[i].key != key)
        i = (i + 1) & (m->cap - 1);
    return i;
}

static sm_status map_grow(map *m, sm_error *err)
{
    map grown = {.n = m->n, .cap = m->cap > 0 ? 2 * m->cap : MAP_FIRST};
    grown.entries = sm_calloc(grown.cap, sizeof(*grown.entries));
    if (grown.entries == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "out of memory: %zu events of a journal", m->n);
    for (size_t i = 0; i < m->cap; i++)
        if (m->entries[i].key != 0)
            grown.entries[map_slot(&grown, m->entries[i].key)] = m->entries[i];
    free(m->entries);
    *m = grown;
    return SM_OK;
}

/* The entry of a key that is not 0; a new one is zero otherwise. Valid until the next call. */
static sm_status map_get(map *m, uint64_t key, map_entry **entry, sm_error *err)
{
    if (4 * (m->n + 1) > 3 * m->cap) {
        const sm_status st = map_grow(m, err);
        if (st != SM_OK)
            return st;
    }
    *entry = &m->entries[map_slot(m, key)];
    m->n += (*entry)->key == 0;
    (*entry)->key = key;
    return SM_OK;
}

static void map_clear(map *m)
{
    free(m->entries);
    *m = (map){0};
}

/* ---- what is folded ---- */

typedef struct journal_item {
    char *path;
    bool live, extra;
    bool has_head, finished, keep; /* keep: something in it was not folded in */
    int64_t began_ns, mtime_s;     /* began_ns: of the head */
    char run[SM_UUID_CAP];
    uint32_t rank;
} journal_item;

struct sm_merge_state {
    char *catalog_path;
    journal_item *items;
    size_t n;
};

/* All journals of one rank of one run: a file that was given up and its successors hold the same
 * events. */
typedef struct group {
    sm_journal_head head;
    bool has_head, skip, live, finished;
    int64_t ended_ns, last_ns;
    map seals;  /* seq + 1 -> a: seal of the line that came first */
    map slides; /* slide -> a: seq + 1 of its last begin, b: of its last end, c: time of a */
} group;

typedef struct fold {
    sm_catalog *catalog;
    sm_merge_say say;
    void *arg;
    sm_merge_result *result;
    group group;
    journal_item *item; /* being read */
    uint64_t n_said;    /* of the item */
    uint64_t n_lines;
    uint64_t n_runs;
} fold;

static void say(const fold *f, const char *line)
{
    if (f->say != NULL)
        f->say(f->arg, line);
}

/* A line that is not folded in; the journal is kept for a person to look at. */
static void bad_line(fold *f, const char *line)
{
    f->item->keep = true;
    f->result->n_bad_lines++;
    if (f->n_said++ < SAID_A_FILE)
        say(f, line);
}

static void bad_event(fold *f, const sm_journal_event *event, const char *what)
{
    sm_error line = SM_ERROR_INIT;
    sm_fail(&line, SM_ERR_CORRUPT, "%s: line %" PRIu64 ": %s", f->item->path, event->line, what);
    bad_line(f, line.message);
}

/* ---- events ---- */

/* *is_new: no event of this id was seen in this merge. */
static sm_status check_id(fold *f, const sm_journal_event *event, bool *is_new, sm_error *err)
{
    map_entry *entry = NULL;
    const size_t n = f->group.seals.n;
    const sm_status st = map_get(&f->group.seals, event->seq + 1, &entry, err);
    if (st != SM_OK)
        return st;
    *is_new = f->group.seals.n > n;
    if (*is_new)
        entry->a = event->seal;
    else if (entry->a != event->seal)
        bad_event(f, event, "another event has its id and came first: that one counts");
    return SM_OK;
}

static sm_attempt_row attempt_of(const fold *f, const sm_journal_event *event)
{
    const sm_outcome *o = &event->outcome;
    const bool failed_check = o->kind == SM_ATTEMPT_CHECK_OUTPUT && o->outcome == SM_OUTCOME_FAILED;
    sm_attempt_row row = {
        .event = event->id,
        .slide = o->slide,
        .kind = o->kind,
        .outcome = o->outcome,
        .error_class = o->error_class[0] != '\0' ? o->error_class : NULL,
        .error = o->error[0] != '\0' ? o->error : NULL,
        .run = f->group.head.run,
        .rank = f->group.head.rank,
        .generation = f->group.head.generation,
        .brick = o->brick[0] != '\0' ? o->brick : NULL,
        .out_brick = o->out_brick[0] != '\0' ? o->out_brick : NULL,
        .cpu_ns = o->spent.cpu_ns,
        .measured_bytes = o->spent.delivered_bytes,
        .measured_ns = o->spent.delivered_ns,
        .began_ns = o->began_ns,
        .ended_ns = o->ended_ns,
        .bytes_in = o->bytes_in,
        .bytes_out = o->bytes_out,
        .pixels = o->pixels,
        .has_source = o->has_source,
        .source_bytes = o->source_bytes,
        .n_source_digests = o->n_source_digests,
        .vendor = o->vendor[0] != '\0' ? o->vendor : NULL,
        .w_px = o->w_px,
        .h_px = o->h_px,
        .mpp = o->mpp,
        .objective = o->objective,
        .has_output = o->has_output || failed_check,
        .output = {.slide = o->slide,
                   .path = o->out_path,
                   .size_bytes = o->out_bytes,
                   .sha256 = o->out_sha256,
                   .source_sha256 = o->source_digests[0],
                   .checked_ns = o->ended_ns},
    };
    if (failed_check)
        row.output.state =
            strcmp(o->error_class, SM_CLASS_MISSING) == 0 ? SM_OUTPUT_MISSING : SM_OUTPUT_DAMAGED;
    if (row.ended_ns < row.began_ns) /* the clock was set back meanwhile */
        row.began_ns = row.ended_ns;
    memcpy(row.phase_ns, o->phase_ns, sizeof row.phase_ns);
    memcpy(row.stage_ns, o->spent.ns, sizeof row.stage_ns);
    memcpy(row.source_digests, o->source_digests, sizeof row.source_digests);
    return row;
}

/* *known stays false when the catalog refused the event, which is said. */
static sm_status put_attempt(fold *f, const sm_journal_event *event, const sm_attempt_row *row,
                             bool *known, sm_error *err)
{
    *known = false;
    const sm_status st = sm_catalog_put_attempt(f->catalog, row, known, err);
    if (st == SM_ERR_CORRUPT) {
        bad_event(f, event, err->message);
        *known = true;
        return SM_OK;
    }
    f->result->changed = f->result->changed || (st == SM_OK && !*known);
    return st;
}

static sm_status learn_parts(fold *f, const sm_journal_event *event, sm_error *err)
{
    const sm_outcome *o = &event->outcome;
    for (size_t i = 0; o->outcome == SM_OUTCOME_OK && i < o->n_parts; i++) {
        const sm_status st =
            sm_catalog_learn_part(f->catalog, o->slide, o->parts[i].path, &o->parts[i].sha256, err);
        if (st == SM_ERR_CORRUPT)
            bad_event(f, event, err->message);
        else if (st != SM_OK)
            return st;
    }
    return SM_OK;
}

/* The target of the first conversion is that of the catalog for ever. */
static sm_status set_target(fold *f, sm_error *err)
{
    sm_target target;
    if (sm_catalog_target(f->catalog, &target))
        return SM_OK;
    target = (sm_target){.dir = f->group.head.target_dir, .options = f->group.head.target_options};
    f->result->changed = true;
    return sm_catalog_set_target(f->catalog, &target, err);
}

static sm_status fold_end(fold *f, const sm_journal_event *event, sm_error *err)
{
    map_entry *slide = NULL;
    sm_status st = map_get(&f->group.slides, (uint64_t)event->slide, &slide, err);
    if (st != SM_OK)
        return st;
    if (event->seq + 1 > slide->b)
        slide->b = event->seq + 1;
    if (event->outcome.kind != f->group.head.kind) {
        bad_event(f, event, "of another kind than its run");
        return SM_OK;
    }
    bool known = false;
    const sm_attempt_row row = attempt_of(f, event);
    f->result->n_events++;
    st = put_attempt(f, event, &row, &known, err);
    if (st != SM_OK || known)
        return st;
    f->result->n_new_events++;
    if (row.kind == SM_ATTEMPT_CONVERT && row.outcome == SM_OUTCOME_OK)
        st = set_target(f, err);
    return st == SM_OK ? learn_parts(f, event, err) : st;
}

static sm_status fold_begin(fold *f, const sm_journal_event *event, sm_error *err)
{
    map_entry *slide = NULL;
    const sm_status st = map_get(&f->group.slides, (uint64_t)event->slide, &slide, err);
    if (st == SM_OK && event->seq + 1 > slide->a) {
        slide->a = event->seq + 1;
        slide->c = (uint64_t)event->time_ns;
    }
    return st;
}

/* Does the run belong here? Else none of its events is folded in. */
static void judge_head(fold *f, const sm_journal_head *head)
{
    sm_target target;
    sm_error line = SM_ERROR_INIT;
    group *g = &f->group;
    g->head = *head;
    g->has_head = true;
    if (strcmp(head->catalog, sm_catalog_uuid(f->catalog)) != 0)
        sm_fail(&line, SM_ERR_ARG, "%s: of another catalog (%s): not folded in", f->item->path,
                head->catalog);
    else if (head->kind == SM_ATTEMPT_CONVERT && sm_catalog_target(f->catalog, &target) &&
             (strcmp(target.dir, head->target_dir) != 0 ||
              strcmp(target.options, head->target_options) != 0))
        sm_fail(&line, SM_ERR_ARG,
                "%s: of outputs in %s with other options or another folder than the catalog's: "
                "not folded in",
                f->item->path, head->target_dir);
    g->skip = line.status != SM_OK;
    if (g->skip)
        say(f, line.message);
}

static sm_status fold_event(fold *f, const sm_journal_event *event, sm_error *err)
{
    bool is_new = false;
    const sm_status st = check_id(f, event, &is_new, err);
    if (st != SM_OK)
        return st;
    if (event->time_ns > f->group.last_ns)
        f->group.last_ns = event->time_ns;
    if (!is_new)
        return SM_OK;
    switch (event->kind) {
    case SM_JOURNAL_HEAD:
        judge_head(f, &event->head);
        return SM_OK;
    case SM_JOURNAL_BEGIN:
        return fold_begin(f, event, err);
    case SM_JOURNAL_END:
        return fold_end(f, event, err);
    case SM_JOURNAL_FINISH:
        f->group.finished = true;
        f->group.ended_ns = event->time_ns;
        break;
    }
    return SM_OK;
}

/* ---- files ---- */

static void end_of_file(fold *f, const sm_journal_reader *reader)
{
    sm_error line = SM_ERROR_INIT;
    const uint64_t torn = sm_journal_torn(reader);
    if (torn > 0 && !f->item->live) { /* of a live one it may be a line that is being written */
        f->result->n_torn++;
        f->result->torn_bytes += torn;
        sm_fail(&line, SM_OK, "%s: its last line was cut off: %" PRIu64 " bytes dropped",
                f->item->path, torn);
        say(f, line.message);
    }
    if (f->n_said > SAID_A_FILE) {
        sm_fail(&line, SM_OK, "%s: %" PRIu64 " more bad lines", f->item->path,
                f->n_said - SAID_A_FILE);
        say(f, line.message);
    }
}

static sm_status fold_lines(fold *f, sm_journal_reader *reader, sm_journal_event *event,
                            sm_error *err)
{
    bool more = true;
    while (more && !f->group.skip) {
        sm_status st = ++f->n_lines % STOP_EVERY == 0 ? sm_stop_check(err) : SM_OK;
        if (st == SM_OK)
            st = sm_journal_next(reader, event, &more, err);
        if (st == SM_ERR_CORRUPT && more) {
            bad_line(f, err->message);
            continue;
        }
        if (st == SM_OK && more)
            st = fold_event(f, event, err);
        if (st != SM_OK)
            return st;
    }
    return SM_OK;
}

/* False: the file is not there any more, or its brick is not: another merge will see. */
static sm_status open_item(const fold *f, const journal_item *item, sm_source **source,
                           sm_error *err)
{
    const sm_status st = sm_source_open(item->path, source, err);
    if (st != SM_ERR_ARG || item->extra || err->sys_errno != ENOENT)
        return st;
    sm_error line = SM_ERROR_INIT;
    sm_fail(&line, SM_OK, "%s: gone meanwhile, or its brick is: left to the next merge",
            item->path);
    say(f, line.message);
    return SM_OK;
}

static sm_status fold_file(fold *f, journal_item *item, sm_error *err)
{
    sm_source *source = NULL;
    sm_journal_reader *reader = NULL;
    sm_journal_event event = {0};
    f->item = item;
    f->n_said = 0;
    sm_status st = open_item(f, item, &source, err);
    if (st != SM_OK || source == NULL) {
        item->keep = true;
        return st;
    }
    st = sm_journal_open(source, &reader, err);
    if (st == SM_OK)
        st = fold_lines(f, reader, &event, err);
    if (st == SM_OK)
        end_of_file(f, reader);
    sm_journal_event_clear(&event);
    sm_journal_close(&reader);
    sm_source_close(&source);
    return st;
}

/* The id of a begin is that of the attempt which was lost. */
static sm_status put_lost(fold *f, const map_entry *slide, sm_error *err)
{
    sm_journal_event event = {.slide = (int64_t)slide->key};
    bool known = false;
    snprintf(event.id, sizeof event.id, "%s.%" PRIu32 ".%" PRIu64, f->group.head.run,
             f->group.head.rank, slide->a - 1);
    const sm_attempt_row row = {
        .event = event.id,
        .slide = event.slide,
        .kind = f->group.head.kind,
        .outcome = SM_OUTCOME_LOST,
        .error_class = SM_CLASS_CRASH,
        .error = "its rank died before it ended",
        .run = f->group.head.run,
        .rank = f->group.head.rank,
        .generation = f->group.head.generation,
        .began_ns = (int64_t)slide->c,
        .ended_ns = f->group.last_ns,
    };
    const sm_status st = put_attempt(f, &event, &row, &known, err);
    f->result->n_lost += st == SM_OK && !known;
    return st;
}

static sm_status put_lease(fold *f, int64_t slide, sm_error *err)
{
    sm_slide_row row;
    bool found = false;
    const sm_status st = sm_catalog_get(f->catalog, slide, &row, &found, err);
    if (st != SM_OK || !found || (row.state != SM_SLIDE_NEW && row.state != SM_SLIDE_PLANNED))
        return st;
    f->result->changed = true;
    return sm_catalog_lease(f->catalog, slide, err);
}

/* Slides that were begun and not ended; the run itself. */
static sm_status end_group(fold *f, sm_error *err)
{
    const group *g = &f->group;
    if (!g->has_head || g->skip)
        return SM_OK;
    const sm_run_row run = {
        .run = g->head.run,
        .rank = g->head.rank,
        .host = g->head.host,
        .command = g->head.command,
        .version = g->head.version,
        .plan = g->head.plan,
        .shard = g->head.shard,
        .began_ns = g->head.began_ns,
        .ended_ns = g->ended_ns,
    };
    sm_status st = sm_catalog_put_run(f->catalog, &run, err);
    for (size_t i = 0; st == SM_OK && i < g->slides.cap; i++) {
        const map_entry *slide = &g->slides.entries[i];
        if (slide->key == 0 || slide->a <= slide->b)
            continue;
        st = g->live ? put_lease(f, (int64_t)slide->key, err) : put_lost(f, slide, err);
    }
    return st;
}

static bool same_group(const journal_item *a, const journal_item *b)
{
    return a->has_head && b->has_head && a->rank == b->rank && strcmp(a->run, b->run) == 0;
}

/* items[0..n) are of one rank of one run, or one file without a head. */
static sm_status fold_group(fold *f, journal_item *items, size_t n, sm_error *err)
{
    group *g = &f->group;
    sm_status st = SM_OK;
    for (size_t i = 0; i < n; i++)
        g->live = g->live || items[i].live;
    for (size_t i = 0; st == SM_OK && i < n; i++) {
        st = fold_file(f, &items[i], err);
        if (st == SM_ERR_FORMAT) { /* its head is none of ours */
            bad_line(f, err->message);
            st = SM_OK;
        }
        items[i].keep = items[i].keep || g->skip;
    }
    for (size_t i = 0; i < n; i++)
        items[i].finished = g->finished;
    f->result->n_foreign += g->skip ? n : 0;
    if (st == SM_OK)
        st = end_group(f, err);
    map_clear(&g->seals);
    map_clear(&g->slides);
    *g = (group){0};
    return st;
}

/* ---- the list ---- */

static sm_status read_head(const fold *f, journal_item *item, sm_error *err)
{
    sm_source *source = NULL;
    sm_journal_reader *reader = NULL;
    sm_journal_event event = {0};
    struct stat info;
    bool more = false;
    sm_status st = open_item(f, item, &source, err);
    if (st != SM_OK || source == NULL)
        return st;
    if (stat(item->path, &info) == 0)
        item->mtime_s = info.st_mtim.tv_sec;
    st = sm_journal_open(source, &reader, err);
    if (st == SM_OK)
        st = sm_journal_next(reader, &event, &more, err);
    if (st == SM_ERR_FORMAT || st == SM_ERR_CORRUPT)
        st = SM_OK; /* said when it is folded */
    else if (st == SM_OK && more) {
        item->has_head = true;
        item->began_ns = event.head.began_ns;
        item->rank = event.head.rank;
        memcpy(item->run, event.head.run, sizeof item->run);
    }
    sm_journal_event_clear(&event);
    sm_journal_close(&reader);
    sm_source_close(&source);
    return st;
}

/* Runs in the order they began, so that the first conversion says the target; the files of one rank
 * side by side. */
static int by_run(const void *a, const void *b)
{
    const journal_item *one = a, *other = b;
    if (one->began_ns != other->began_ns)
        return one->began_ns < other->began_ns ? -1 : 1;
    const int run = strcmp(one->run, other->run);
    if (run != 0)
        return run;
    if (one->rank != other->rank)
        return one->rank < other->rank ? -1 : 1;
    return strcmp(one->path, other->path);
}

static sm_status list_items(const fold *f, sm_merge_state *state, const char *const *extra,
                            size_t n_extra, sm_error *err)
{
    sm_journal_file *files = NULL;
    size_t n = 0;
    sm_status st = sm_journal_list(state->catalog_path, 0, SM_NO_SHARD, &files, &n, err);
    if (st != SM_OK)
        return st;
    state->items = sm_calloc(n + n_extra, sizeof(*state->items));
    if (state->items == NULL)
        st = sm_fail(err, SM_ERR_NOMEM, "out of memory: %zu journals", n + n_extra);
    for (size_t i = 0; st == SM_OK && i < n; i++) {
        state->items[state->n++] = (journal_item){.path = files[i].path, .live = files[i].live};
        files[i].path = NULL; /* the item's now */
    }
    for (size_t i = 0; st == SM_OK && i < n_extra; i++) {
        char *path = strdup(extra[i]);
        if (path == NULL)
            st = sm_fail(err, SM_ERR_NOMEM, "%s: out of memory", extra[i]);
        else
            state->items[state->n++] = (journal_item){.path = path, .extra = true};
    }
    sm_journal_files_free(&files, n);
    for (size_t i = 0; st == SM_OK && i < state->n; i++)
        st = read_head(f, &state->items[i], err);
    if (st == SM_OK && state->n > 1)
        qsort(state->items, state->n, sizeof(*state->items), by_run);
    return st;
}

/* How many runs the catalog knows: what tells whether putting them changed it. */
static sm_status count_runs(fold *f, uint64_t *n, sm_error *err)
{
    sm_catalog_summary summary = {0};
    const sm_status st = sm_catalog_summarize(f->catalog, &summary, err);
    *n = summary.n_runs;
    sm_catalog_summary_clear(&summary);
    return st;
}

static sm_status fold_all(fold *f, sm_merge_state *state, sm_error *err)
{
    uint64_t runs_before = 0, runs_after = 0;
    sm_status st = state->n > 0 ? count_runs(f, &runs_before, err) : SM_OK;
    for (size_t i = 0, n = 1; st == SM_OK && i < state->n; i += n, n = 1) {
        while (i + n < state->n && same_group(&state->items[i], &state->items[i + n]))
            n++;
        st = fold_group(f, state->items + i, n, err);
    }
    if (st == SM_OK && state->n > 0 && !f->result->changed) {
        st = count_runs(f, &runs_after, err);
        f->result->changed = runs_after != runs_before;
    }
    for (size_t i = 0; i < state->n; i++)
        f->result->n_live += state->items[i].live;
    f->result->n_journals = state->n;
    return st;
}

sm_status sm_merge_fold(sm_catalog *catalog, const char *const *extra, size_t n_extra,
                        sm_merge_say say_line, void *arg, sm_merge_result *result,
                        sm_merge_state **state, sm_error *err)
{
    fold *f = sm_calloc(1, sizeof(*f)); /* a head is large for a stack */
    sm_merge_state *s = sm_calloc(1, sizeof(*s));
    *state = NULL;
    *result = (sm_merge_result){.generation = sm_catalog_generation(catalog)};
    if (s != NULL)
        s->catalog_path = strdup(sm_catalog_path(catalog));
    sm_status st = SM_OK;
    if (f == NULL || s == NULL || s->catalog_path == NULL) {
        st = sm_fail(err, SM_ERR_NOMEM, "%s: out of memory", sm_catalog_path(catalog));
        goto out;
    }
    f->catalog = catalog;
    f->say = say_line;
    f->arg = arg;
    f->result = result;
    st = list_items(f, s, extra, n_extra, err);
    if (st == SM_OK)
        st = fold_all(f, s, err);
    if (st != SM_OK)
        goto out;
    *state = s;
    s = NULL;
out:
    sm_merge_state_free(&s);
    free(f);
    return st;
}

/* ---- afterwards ---- */

/* Nothing of it can come any more: it was closed, or is quiet for long (see QUIET_S). */
static bool is_over(const journal_item *item, int64_t now_s)
{
    return !item->live && !item->keep && (item->finished || now_s - item->mtime_s > QUIET_S);
}

sm_status sm_merge_retire(sm_merge_state **state, sm_error *err)
{
    sm_merge_state *s = *state;
    sm_status st = SM_OK;
    const int64_t now_s = (int64_t)time(NULL);
    for (size_t i = 0; s != NULL && st == SM_OK && i < s->n; i++) {
        const journal_item *item = &s->items[i];
        if (item->extra && item->has_head && !item->keep)
            st = sm_journal_adopt(s->catalog_path, item->path, item->run, item->rank, err);
        else if (!item->extra && is_over(item, now_s))
            st = sm_journal_retire(s->catalog_path, item->path, err);
    }
    if (st != SM_OK) /* the generation is out: that nothing was done must not be believed */
        sm_error_prefix(err, "%s: the journals are folded in; mend this and merge again",
                        s->catalog_path);
    sm_merge_state_free(state);
    return st;
}

void sm_merge_state_free(sm_merge_state **state)
{
    sm_merge_state *s = *state;
    if (s == NULL)
        return;
    for (size_t i = 0; i < s->n; i++)
        free(s->items[i].path);
    free(s->items);
    free(s->catalog_path);
    free(s);
    *state = NULL;
}

/* Without a journal there is nothing to lock and copy a catalog for. */
static sm_status is_idle(const char *catalog_path, bool *idle, uint64_t *generation, sm_error *err)
{
    sm_journal_file *files = NULL;
    sm_catalog *catalog = NULL;
    size_t n = 0;
    *idle = false;
    sm_status st = sm_catalog_open(catalog_path, &catalog, err);
    if (st != SM_OK)
        return st;
    *generation = sm_catalog_generation(catalog);
    sm_catalog_close(&catalog);
    st = sm_journal_list(catalog_path, 0, SM_NO_SHARD, &files, &n, err);
    sm_journal_files_free(&files, n);
    *idle = st == SM_OK && n == 0;
    return st;
}

sm_status sm_merge(const char *catalog_path, const sm_generation_config *config,
                   const char *const *extra, size_t n_extra, sm_merge_say say_line, void *arg,
                   sm_merge_result *result, sm_error *err)
{
    sm_catalog *catalog = NULL;
    sm_merge_state *state = NULL;
    bool idle = false;
    *result = (sm_merge_result){0};
    sm_status st = n_extra == 0 ? is_idle(catalog_path, &idle, &result->generation, err) : SM_OK;
    if (st != SM_OK || idle)
        return st;
    st = sm_catalog_change(catalog_path, config, &catalog, err);
    if (st == SM_OK)
        st = sm_merge_fold(catalog, extra, n_extra, say_line, arg, result, &state, err);
    if (st == SM_OK && result->changed)
        st = sm_catalog_commit(&catalog, err);
    else
        result->generation -= st == SM_OK; /* the one that is there stays */
    sm_catalog_close(&catalog);
    if (st == SM_OK)
        st = sm_merge_retire(&state, err);
    sm_merge_state_free(&state);
    return st;
}
