/* catalog status: one screen for a person, or one object for a program. Owns nothing beyond a call.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/progress.h"
#include "ingest/catalog_cli.h"
#include "ingest/catalog_json.h"
#include "ingest/journal.h"

#define BAR_COLUMNS 40
#define BRICK_COLUMNS 17

typedef struct report {
    catalog_args *args;
    sm_catalog *catalog;
    sm_catalog_summary sum;
    uint64_t n_live, n_finished; /* journals that are not merged */
    uint64_t newest;             /* generation that exists by now */
    bool colours;
} report;

/* What to do about the failures of a class (ingest/job.h has the classes). */
static const struct {
    const char *name, *advice;
} ADVICE[] = {
    {"io", "storage kept saying no; when it is well again: retry --class io"},
    {"missing", "the file is not there; if its brick was down: retry --class missing"},
    {"format", "no slide that slidemill reads; leave it, or look with slidemill info"},
    {"limit", "beyond a cap (--memory, size): raise it, then retry --class limit"},
    {"corrupt", "damaged inside; fetch it again, scan, then retry --class corrupt"},
    {"digest", "not the bytes of its digest; fetch it again, scan, then retry"},
    {"changed", "it changed since the scan: slidemill catalog scan"},
    {"exists", "a file of somebody else stands where the output belongs"},
    {"arg", "options and slide do not go together; the message says why"},
    {"crash", "the worker died: a bug, please report it with the slide's name"},
    {"memory", "the worker ran out of memory: raise --memory, retry --class memory"},
    {"timeout", "slower than --slide-timeout: raise it, then retry --class timeout"},
    {"internal", "a bug of slidemill, please report it with the slide's name"},
    {"output", "its output is damaged or gone: retry --class output makes it anew"},
};

static const char *advice_for(const char *name)
{
    for (size_t i = 0; i < SM_COUNT(ADVICE); i++) {
        if (strcmp(ADVICE[i].name, name) == 0)
            return ADVICE[i].advice;
    }
    return "the message says why";
}

static sm_status count_journals(report *r, sm_error *err)
{
    sm_journal_file *files = NULL;
    size_t n = 0;
    const sm_status st = sm_journal_list(r->args->operands[0], 0, SM_NO_SHARD, &files, &n, err);

    for (size_t i = 0; st == SM_OK && i < n; i++) {
        r->n_live += !files[i].merged && files[i].live;
        r->n_finished += !files[i].merged && !files[i].live;
    }
    sm_journal_files_free(&files, n);
    return st;
}

/* What to do next, in the words of a command line; "" when nothing is left to do. */
static void next_step(const report *r, char out[256])
{
    const sm_catalog_summary *s = &r->sum;
    const char *name = catalog_clean(r->args->operands[0]);
    const uint64_t n_open =
        s->states[SM_SLIDE_NEW].n + s->states[SM_SLIDE_PLANNED].n + s->states[SM_SLIDE_LEASED].n;
    const char *what = NULL;

    out[0] = '\0';
    if (s->n == 0)
        what = "catalog scan %s";
    else if (r->n_live > 0)
        (void)snprintf(out, 256, "wait: ranks are at work; 'slidemill catalog merge' shows more");
    else if (r->n_finished > 0)
        what = "catalog merge %s";
    else if (s->states[SM_SLIDE_NEW].n > 0 && s->n > 1)
        what = "plan --catalog %s --shards N";
    else if (n_open > 0)
        what = "ingest --catalog %s --out DIR";
    else if (s->states[SM_SLIDE_QUARANTINED].n > 0)
        what = "catalog list %s --state quarantined";
    else if (s->states[SM_SLIDE_FAILED].n > 0)
        what = "catalog list %s --state failed";
    else
        what = "catalog verify %s --what outputs";
    if (what == NULL)
        return;
    const char *rest = strstr(what, "%s");
    (void)snprintf(out, 256, "slidemill %.*s%.150s%s", (int)(rest - what), what, name, rest + 2);
}

/* ---- for a person ---- */

static const char *bold(const report *r)
{
    return r->colours ? "\033[1m" : "";
}

static const char *plain(const report *r)
{
    return r->colours ? "\033[0m" : "";
}

/* The last columns of a text, with ".." before them when some are cut off. */
static const char *tail(const char *text, size_t columns, char out[256])
{
    const char *clean = catalog_clean(text);
    const size_t len = strlen(clean);
    size_t cut = len > columns ? len - columns + 2 : 0;

    while (((unsigned char)clean[cut] & 0xC0) == 0x80)
        cut++; /* not in the middle of a character */
    (void)snprintf(out, 256, "%s%s", cut > 0 ? ".." : "", clean + cut);
    return out;
}

static void print_head(const report *r)
{
    const sm_catalog_summary *s = &r->sum;
    sm_target target;

    (void)printf("%s%s%s  generation %" PRIu64, bold(r), catalog_clean(r->args->operands[0]),
                 plain(r), s->generation);
    if (s->plan > 0)
        (void)printf(", plan %" PRIu32 " of %" PRIu32 " shards", s->plan, s->n_shards);
    if (r->newest > s->generation)
        (void)printf(" (generation %" PRIu64 " is being put in place)", r->newest);
    (void)printf("\n  slides of   %s\n", catalog_clean(sm_catalog_root(r->catalog)));
    if (sm_catalog_target(r->catalog, &target)) {
        (void)printf("  outputs in  %s\n", catalog_clean(target.dir));
        if (target.options[0] != '\0')
            (void)printf("  made with   %s\n", catalog_clean(target.options));
    }
}

static void print_bar(const report *r)
{
    const sm_catalog_summary *s = &r->sum;
    const double share = s->n > 0 ? (double)s->states[SM_SLIDE_DONE].n / (double)s->n : 0;
    const int full = (int)(share * BAR_COLUMNS);
    char done[32], all[32], done_bytes[16], all_bytes[16];

    (void)printf("\n  [%s", r->colours ? "\033[32m" : "");
    for (int i = 0; i < BAR_COLUMNS; i++)
        (void)putchar(i < full ? '#' : '-');
    /* never 100 % before the last one is done */
    (void)printf("%s] %5.1f %%\n", plain(r), share < 1 && share > 0.999 ? 99.9 : 100 * share);
    (void)printf("  %s of %s slides done, %s of %s\n",
                 catalog_number(s->states[SM_SLIDE_DONE].n, done), catalog_number(s->n, all),
                 sm_human_bytes(s->states[SM_SLIDE_DONE].bytes, done_bytes),
                 sm_human_bytes(s->bytes, all_bytes));
}

static void print_states(const report *r)
{
    const sm_catalog_summary *s = &r->sum;
    char number[32], missing[64], bytes[16];

    (void)printf("\n%s  %-12s %12s %10s%s\n", bold(r), "STATE", "SLIDES", "BYTES", plain(r));
    for (int i = 0; i < SM_SLIDE_STATES; i++) {
        const bool bad = i == SM_SLIDE_FAILED || i == SM_SLIDE_QUARANTINED;
        const char *colour = r->colours && bad && s->states[i].n > 0 ? "\033[31m" : "";
        (void)printf("  %s%-12s %12s %10s%s\n", colour, sm_slide_state_name((sm_slide_state)i),
                     catalog_number(s->states[i].n, number),
                     sm_human_bytes(s->states[i].bytes, bytes), *colour != '\0' ? plain(r) : "");
    }
    if (s->n_outputs > 0)
        (void)printf("  %-12s %12s %10s\n", "outputs", catalog_number(s->n_outputs, number),
                     sm_human_bytes(s->output_bytes, bytes));
    if (s->n_missing > 0)
        (void)printf("  %s not found by the last scan (list --missing)\n",
                     catalog_count(s->n_missing, "slide", missing));
}

static void print_classes(const report *r)
{
    const sm_catalog_summary *s = &r->sum;
    char number[32], path[256];

    if (s->n_classes == 0)
        return;
    (void)printf("\n%s  %-12s %12s  %s%s\n", bold(r), "FAILURE", "SLIDES", "FOR EXAMPLE", plain(r));
    for (size_t i = 0; i < s->n_classes; i++) {
        const sm_status_class *c = &s->classes[i];
        (void)printf("  %-12s %12s  %s\n", catalog_clean(c->name), catalog_number(c->n, number),
                     tail(c->example_path, 50, path));
        if (c->example[0] != '\0')
            (void)printf("    %.*s\n", 76, catalog_clean(c->example));
        (void)printf("    -> %s\n", advice_for(c->name));
    }
}

/* '>' before a lower bound: the work on the bytes is in it. */
static void print_rate(double bytes_s, bool measured)
{
    char text[32];
    (void)snprintf(text, sizeof(text), "%s%.0f MB/s", measured ? "" : ">", bytes_s / 1e6);
    (void)printf(" %10s", bytes_s > 0 ? text : "-");
}

static double write_rate(const sm_brick_flow *flow)
{
    return flow->write_ns > 0 ? (double)flow->write_bytes * 1e9 / (double)flow->write_ns : 0;
}

static void print_slow_bricks(const report *r)
{
    const sm_catalog_summary *s = &r->sum;

    for (size_t i = 0; i < s->n_bricks; i++) {
        if (s->bricks[i].of_median < 1)
            (void)printf("  %sbrick %zu of %zu (%s) reads at %.0f%% of the median%s\n",
                         r->colours ? "\033[33m" : "", i + 1, s->n_bricks,
                         catalog_clean(s->bricks[i].name), 100 * s->bricks[i].of_median, plain(r));
    }
}

static void print_bricks(const report *r)
{
    const sm_catalog_summary *s = &r->sum;
    char name[256], n[32], done[32], failed[32], bytes[16];

    if (s->n_bricks == 0)
        return;
    (void)printf("\n%s  %-*s %9s %8s %9s %6s %10s %10s%s\n", bold(r), BRICK_COLUMNS, "BRICK",
                 "SLIDES", "BYTES", "DONE", "FAILED", "READS AT", "WRITES AT", plain(r));
    for (size_t i = 0; i < s->n_bricks; i++) {
        const sm_status_brick *b = &s->bricks[i];
        (void)printf("  %-*s %9s %8s %9s %6s", BRICK_COLUMNS, tail(b->name, BRICK_COLUMNS, name),
                     catalog_number(b->n, n), sm_human_bytes(b->bytes, bytes),
                     catalog_number(b->n_done, done), catalog_number(b->n_failed, failed));
        print_rate(b->read_rate, b->rate_measured);
        print_rate(write_rate(&b->flow), false);
        (void)putchar('\n');
        if (b->n_missing > 0)
            (void)printf("    %s of them not found by the last scan\n",
                         catalog_number(b->n_missing, n));
    }
    print_slow_bricks(r);
}

/* Work in parts of all work; waiting in parts of all time of threads. */
static void print_stages(const sm_status_work *w, bool waits)
{
    const uint64_t work = sm_spent_sum(w->stage_ns, false), idle = sm_spent_sum(w->stage_ns, true);
    const double whole = waits ? (double)work + (double)idle : (double)work;
    sm_stage order[SM_STAGES];
    char time[16];
    const size_t n = sm_spent_order(w->stage_ns, waits, order);

    (void)printf("  %-8s %9s ", waits ? "waiting" : "work", sm_human_ns(waits ? idle : work, time));
    for (size_t i = 0; i < n && i < 5; i++)
        (void)printf("%s%s %.0f%%", i > 0 ? ", " : " ", sm_stage_name(order[i]),
                     100 * (double)w->stage_ns[order[i]] / whole);
    (void)printf("\n");
}

static void print_work(const report *r)
{
    static const char *const WHAT[] = {"conversion", "hashing", "check"};
    char attempts[64], time[16];

    for (size_t kind = 0; kind < SM_COUNT(WHAT); kind++) {
        const sm_status_work *w = &r->sum.work[kind];
        if (w->attempts == 0)
            continue;
        (void)printf("\n%s  THREADS' TIME%s of %s, %s of CPU\n", bold(r), plain(r),
                     catalog_count(w->attempts, WHAT[kind], attempts),
                     sm_human_ns(w->cpu_ns, time));
        print_stages(w, false);
        print_stages(w, true);
    }
}

static void print_report(const report *r)
{
    const sm_catalog_summary *s = &r->sum;
    char next[256], number[32], began[40], ended[40];

    print_head(r);
    print_bar(r);
    print_states(r);
    print_classes(r);
    print_bricks(r);
    print_work(r);
    if (s->n_attempts > 0)
        (void)printf("\n  %s attempts, first begun %s, last ended %s\n",
                     catalog_number(s->n_attempts, number),
                     catalog_time(s->first_began_ns, false, began),
                     catalog_time(s->last_ended_ns, false, ended));
    if (r->n_live + r->n_finished > 0)
        (void)printf("\n  journals not merged yet: %" PRIu64 " finished, %" PRIu64
                     " still being written\n",
                     r->n_finished, r->n_live);
    next_step(r, next);
    if (next[0] != '\0')
        (void)printf("\n%snext:%s %s\n", bold(r), plain(r), next);
}

/* ---- for a program ---- */

static void put_states(json *j, const sm_catalog_summary *s)
{
    json_open(j, "states", '{');
    for (int i = 0; i < SM_SLIDE_STATES; i++) {
        json_open(j, sm_slide_state_name((sm_slide_state)i), '{');
        json_number(j, "slides", s->states[i].n);
        json_number(j, "bytes", s->states[i].bytes);
        json_close(j, '}');
    }
    json_close(j, '}');
}

static void put_classes(json *j, const sm_catalog_summary *s)
{
    json_open(j, "failures", '[');
    for (size_t i = 0; i < s->n_classes; i++) {
        json_open(j, NULL, '{');
        json_text(j, "class", s->classes[i].name);
        json_number(j, "slides", s->classes[i].n);
        json_text(j, "example_path", s->classes[i].example_path);
        json_text(j, "example", s->classes[i].example);
        json_text(j, "advice", advice_for(s->classes[i].name));
        json_close(j, '}');
    }
    json_close(j, ']');
}

static void put_stages(json *j, const char *key, const uint64_t ns[SM_STAGES], bool waits)
{
    json_open(j, key, '{');
    for (int i = 0; i < SM_STAGES; i++) {
        if (sm_stage_waits((sm_stage)i) == waits && ns[i] > 0)
            json_real(j, sm_stage_name((sm_stage)i), (double)ns[i] / 1e9);
    }
    json_close(j, '}');
}

static void put_times(json *j, const sm_catalog_summary *s)
{
    json_open(j, "times", '{');
    for (int kind = 0; kind <= SM_ATTEMPT_CHECK_OUTPUT; kind++) {
        const sm_status_work *w = &s->work[kind];
        if (w->attempts == 0)
            continue;
        json_open(j, sm_attempt_kind_name((sm_attempt_kind)kind), '{');
        json_number(j, "attempts", w->attempts);
        json_number(j, "bytes_in", w->bytes_in);
        json_number(j, "bytes_out", w->bytes_out);
        json_real(j, "cpu_seconds", (double)w->cpu_ns / 1e9);
        put_stages(j, "work", w->stage_ns, false);
        put_stages(j, "waits", w->stage_ns, true);
        json_close(j, '}');
    }
    json_close(j, '}');
}

static void put_flow(json *j, const sm_status_brick *b)
{
    json_number(j, "measured_slides", b->flow.reads);
    json_number(j, "measured_bytes", b->flow.read_bytes);
    json_real(j, "measured_seconds", (double)b->flow.read_ns / 1e9);
    json_number(j, "write_bytes", b->flow.write_bytes);
    json_real(j, "write_seconds", (double)b->flow.write_ns / 1e9);
    json_real(j, "read_mb_s", b->read_rate / 1e6);
    json_text(j, "read_mb_s_is",
              b->read_rate <= 0  ? "unknown"
              : b->rate_measured ? "measured"
                                 : "at least");
    json_real(j, "write_mb_s_at_least", write_rate(&b->flow) / 1e6);
    json_real(j, "read_of_median", b->of_median);
    put_stages(j, "work", b->stage_ns, false);
    put_stages(j, "waits", b->stage_ns, true);
}

static void put_bricks(json *j, const sm_catalog_summary *s)
{
    json_open(j, "bricks", '[');
    for (size_t i = 0; i < s->n_bricks; i++) {
        const sm_status_brick *b = &s->bricks[i];
        json_open(j, NULL, '{');
        json_text(j, "name", b->name);
        json_number(j, "slides", b->n);
        json_number(j, "bytes", b->bytes);
        json_number(j, "done", b->n_done);
        json_number(j, "failed", b->n_failed);
        json_number(j, "missing", b->n_missing);
        json_number(j, "read_bytes", b->read_bytes);
        json_real(j, "read_seconds", (double)b->read_ns / 1e9);
        put_flow(j, b);
        json_close(j, '}');
    }
    json_close(j, ']');
}

static sm_status put_shard(void *arg, const sm_shard_row *shard, sm_error *err)
{
    json *j = arg;

    (void)err;
    json_open(j, NULL, '{');
    json_number(j, "shard", shard->shard);
    json_number(j, "slides", shard->n);
    json_number(j, "bytes", shard->bytes);
    json_number(j, "open", shard->n_open);
    json_number(j, "done", shard->n_done);
    json_number(j, "failed", shard->n_failed);
    json_close(j, '}');
    return j->status;
}

static void put_plan(json *j, const report *r)
{
    json_number(j, "plan", r->sum.plan);
    json_number(j, "n_shards", r->sum.n_shards);
    json_open(j, "shards", '[');
    if (j->status == SM_OK && r->sum.plan > 0)
        j->status = sm_catalog_shards(r->catalog, put_shard, j, j->err);
    json_close(j, ']');
}

static void put_target(json *j, const report *r)
{
    sm_target target;

    if (!sm_catalog_target(r->catalog, &target)) {
        json_null(j, "target");
        return;
    }
    json_open(j, "target", '{');
    json_text(j, "dir", target.dir);
    json_text(j, "options", target.options);
    json_close(j, '}');
}

static sm_status print_json(const report *r, sm_error *err)
{
    const sm_catalog_summary *s = &r->sum;
    char next[256], began[40], ended[40];
    sm_buf text = {0};
    json j = {.out = &text, .err = err, .status = SM_OK};

    next_step(r, next);
    json_open(&j, NULL, '{');
    json_text(&j, "catalog", r->args->operands[0]);
    json_text(&j, "uuid", sm_catalog_uuid(r->catalog));
    json_number(&j, "generation", s->generation);
    json_text(&j, "root", sm_catalog_root(r->catalog));
    put_target(&j, r);
    json_text(&j, "pattern", sm_catalog_pattern(r->catalog));
    json_number(&j, "slides", s->n);
    json_number(&j, "bytes", s->bytes);
    json_number(&j, "missing", s->n_missing);
    json_number(&j, "unchecked", s->n_unchecked);
    put_states(&j, s);
    json_number(&j, "outputs", s->n_outputs);
    json_number(&j, "output_bytes", s->output_bytes);
    json_number(&j, "attempts", s->n_attempts);
    json_number(&j, "runs", s->n_runs);
    json_text(&j, "first_began",
              s->first_began_ns != 0 ? catalog_time(s->first_began_ns, true, began) : NULL);
    json_text(&j, "last_ended",
              s->last_ended_ns != 0 ? catalog_time(s->last_ended_ns, true, ended) : NULL);
    put_plan(&j, r);
    put_classes(&j, s);
    put_bricks(&j, s);
    put_times(&j, s);
    json_open(&j, "journals", '{');
    json_number(&j, "finished", r->n_finished);
    json_number(&j, "live", r->n_live);
    json_close(&j, '}');
    json_text(&j, "next", next);
    json_close(&j, '}');
    if (j.status == SM_OK)
        (void)printf("%.*s\n", (int)text.len, (const char *)text.data);
    sm_buf_free(&text);
    return j.status;
}

int catalog_status(catalog_args *args)
{
    sm_error err = SM_ERROR_INIT;
    report r = {.args = args, .colours = catalog_colours()};
    sm_status st = sm_catalog_open(args->operands[0], &r.catalog, &err);

    if (st == SM_OK)
        st = sm_catalog_summarize(r.catalog, &r.sum, &err);
    if (st == SM_OK)
        st = sm_generation_newest(args->operands[0], &r.newest, &err);
    if (st == SM_OK)
        st = count_journals(&r, &err);
    if (st == SM_OK && args->json)
        st = print_json(&r, &err);
    else if (st == SM_OK)
        print_report(&r);
    if (st == SM_OK)
        st = catalog_flush(&err);
    sm_catalog_summary_clear(&r.sum);
    sm_catalog_close(&r.catalog);
    return st == SM_OK ? 0 : catalog_fail(args, &err);
}
