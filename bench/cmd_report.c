/* slidemill report: a catalog, and results of benchmarks, as one page to look at. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "bench/report_corpus.h"
#include "bench/report_results.h"
#include "bench/report_thumbs.h"
#include "common/opts.h"
#include "common/sink.h"
#include "common/stop.h"

#define MAX_FILES 256
#define MAX_THUMBS 256 /* about 2.5 MB */

typedef struct config {
    const char *output, *title;
    uint32_t thumbnails;
} config;

#define AT(member) offsetof(config, member)

static const sm_opt OPTIONS[] = {
    {"output", SM_OPT_STR, AT(output), 0, 0, "report.html", "FILE",
     "The page; also -o. It is replaced whole."},
    {"thumbnails", SM_OPT_U32, AT(thumbnails), 0, MAX_THUMBS, "0", "N",
     "Pictures of N pyramids, spread over the corpus. They show tissue: mind who sees the page."},
    {"title", SM_OPT_STR, AT(title), 0, 0, "slidemill report", "TEXT", "Heading of the page."},
};

static const char *const OPERANDS[] = {"CATALOG"};

static const sm_command COMMAND = {
    .name = "report",
    .summary = "a corpus in figures and charts, as one HTML page",
    .synopsis = "[options] CATALOG [RESULTS.json...]",
    .description =
        "Writes one self-contained page: progress and throughput over time, each brick, where the "
        "time went, sizes and durations, failures with examples, the slowest slides, and on "
        "request a contact sheet. It needs no network and no script to be read.\n\n"
        "CATALOG is what `slidemill catalog create` made; results of journals count once "
        "`slidemill catalog merge` has folded them in. RESULTS are files of bench/results: they "
        "add a table and chart of programs, and curves over threads where files differ in their "
        "number; JSON lines of slidemill bench add their own. An operand whose name ends in .json "
        "or .jsonl is one of them; CATALOG may then be missing.",
    .examples = "slidemill report corpus.smc -o report.html --thumbnails 24\n"
                "    with a contact sheet\n"
                "slidemill report bench/results/*.json\n    benchmarks alone\n",
    .exit_status = "0 written\n"
                   "2 wrong command line, or a file that is not there\n"
                   "65 the catalog is damaged, or a file is no result of a benchmark\n"
                   "70 out of memory, or an error of slidemill's own\n"
                   "74 something could not be read or written\n"
                   "75 interrupted\n",
    .opts = OPTIONS,
    .n_opts = SM_COUNT(OPTIONS),
    .min_operands = 1,
    .max_operands = MAX_FILES,
    .operand_names = OPERANDS,
    .aliases = "o=output",
};

/* Operands by what they are. */
typedef struct inputs {
    const char *catalog; /* NULL: none */
    const char *results[MAX_FILES];
    size_t n_results;
} inputs;

static sm_status sort_operands(const char *const *operands, unsigned n, inputs *in, sm_error *err)
{
    for (unsigned i = 0; i < n; i++) {
        const size_t len = strlen(operands[i]);
        if ((len > 5 && strcmp(operands[i] + len - 5, ".json") == 0) ||
            (len > 6 && strcmp(operands[i] + len - 6, ".jsonl") == 0))
            in->results[in->n_results++] = operands[i];
        else if (in->catalog == NULL)
            in->catalog = operands[i];
        else
            return sm_fail(err, SM_ERR_ARG,
                           "'%s': one catalog at a time, and results end in .json or .jsonl",
                           operands[i]);
    }
    return SM_OK;
}

/* The page must not replace what it tells of. */
static sm_status check_output(const config *c, const inputs *in, sm_error *err)
{
    struct stat out, one;
    if (stat(c->output, &out) != 0)
        return SM_OK;
    for (size_t i = 0; i <= in->n_results; i++) {
        const char *path = i < in->n_results ? in->results[i] : in->catalog;
        if (path != NULL && stat(path, &one) == 0 && one.st_dev == out.st_dev &&
            one.st_ino == out.st_ino)
            return sm_fail(err, SM_ERR_ARG, "--output %s: is what the report is made of",
                           c->output);
    }
    return SM_OK;
}

static sm_status put_catalog(const config *c, const char *path, sm_page *page, sm_error *err)
{
    sm_catalog *catalog = NULL;
    sm_target target;
    sm_status st = sm_catalog_open(path, &catalog, err);
    if (st == SM_OK)
        st = sm_corpus_put(page, catalog, err);
    if (st == SM_OK && c->thumbnails > 0) {
        sm_page_section(page, "sheet", "Contact sheet");
        if (sm_catalog_target(catalog, &target))
            st = sm_thumbs_put(page, catalog, target.dir, c->thumbnails, err);
        else
            sm_page_put(page, "<p>There is no pyramid yet.</p>\n");
        sm_page_end(page);
    }
    sm_catalog_close(&catalog);
    return st;
}

static sm_status write_page(const char *path, const sm_page *page, sm_error *err)
{
    const sm_sink_config how = {.force = true};
    sm_sink *sink = NULL;
    sm_sink_result result;
    sm_digest digest;
    uint64_t offset;
    sm_status st = sm_sink_create(path, &how, &sink, err);
    if (st == SM_OK)
        st = sm_sink_append(sink, page->html.data, page->html.len, &offset, err);
    if (st == SM_OK)
        st = sm_sink_data_digest(sink, &digest, err);
    if (st == SM_OK)
        st = sm_sink_write_head(sink, "", 0, err);
    if (st == SM_OK)
        st = sm_sink_verify(sink, SM_VERIFY_CACHE, &result, err);
    if (st == SM_OK)
        st = sm_sink_commit(&sink, &result, err);
    sm_sink_discard(&sink);
    return st;
}

static sm_status make_report(const config *c, const inputs *in, sm_page *page, sm_error *err)
{
    sm_status st = check_output(c, in, err);
    sm_page_head(page, c->title);
    sm_page_put(page, "</header>\n<main>\n");
    if (st == SM_OK && in->catalog != NULL)
        st = put_catalog(c, in->catalog, page, err);
    if (st == SM_OK && in->n_results > 0)
        st = sm_results_put(page, in->results, in->n_results, err);
    sm_page_tail(page, "slidemill report");
    if (st == SM_OK)
        st = page->status;
    if (st == SM_OK)
        st = sm_stop_check(err);
    return st == SM_OK ? write_page(c->output, page, err) : st;
}

int main(int argc, char **argv)
{
    config c = {0};
    inputs in = {0};
    const char *operands[MAX_FILES];
    unsigned n_operands = 0;
    int exit_code = 0;
    sm_error err = SM_ERROR_INIT;
    sm_error page_err = SM_ERROR_INIT;
    sm_page page = {.err = &page_err};
    if (!sm_opts_start(&COMMAND, argc, argv, &c, operands, &n_operands, NULL, &exit_code))
        return exit_code;
    sm_stop_install();
    sm_status st = sort_operands(operands, n_operands, &in, &err);
    if (st == SM_OK)
        st = make_report(&c, &in, &page, &err);
    sm_buf_free(&page.html);
    if (st == SM_OK)
        return 0;
    (void)fprintf(stderr, "slidemill report: %s\n",
                  err.status != SM_OK ? err.message : page_err.message);
    return sm_exit_code(st);
}
