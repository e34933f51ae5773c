/* catalog create and scan. Owns nothing beyond a call. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/progress.h"
#include "ingest/catalog_cli.h"
#include "ingest/catalog_import.h"
#include "ingest/catalog_json.h"
#include "ingest/pattern.h"

/* ---- what a scan found ---- */

static void print_count(const char *word, uint64_t n, const char *what)
{
    char number[32];

    if (n > 0)
        (void)printf("  %-12s %12s%s%s\n", word, catalog_number(n, number),
                     *what != '\0' ? "  " : "", what);
}

static void print_scan(const sm_scan_result *r)
{
    char slides[64], folders[64], bytes[16];

    (void)printf("%s (%s) in %s\n", catalog_count(r->n_files, "slide", slides),
                 sm_human_bytes(r->bytes, bytes), catalog_count(r->n_folders, "folder", folders));
    print_count("new", r->n_new, "");
    print_count("changed", r->n_changed, "size or time differ: they are new again");
    print_count("same", r->n_same, "");
    print_count("back", r->n_back, "were missing before");
    print_count("missing", r->n_missing, "are in the catalog and were not found");
    print_count("unanswered", r->n_unanswered, "not found, but their brick or folder is silent");
    print_count("unreadable", r->n_unreadable, "are listed but cannot be looked at");
    print_count("refused", r->n_refused, "lead out of the root or have no fit name");
    print_count("opened", r->n_probed - r->n_unprobed, "");
    print_count("not opened", r->n_unprobed, "are no slides that slidemill reads");
}

static sm_status print_scan_json(const char *path, uint64_t generation, const sm_scan_result *r,
                                 sm_error *err)
{
    sm_buf text = {0};
    json j = {.out = &text, .err = err, .status = SM_OK};

    json_open(&j, NULL, '{');
    json_text(&j, "catalog", path);
    json_number(&j, "generation", generation);
    json_number(&j, "found", r->n_files);
    json_number(&j, "bytes", r->bytes);
    json_number(&j, "folders", r->n_folders);
    json_number(&j, "new", r->n_new);
    json_number(&j, "changed", r->n_changed);
    json_number(&j, "same", r->n_same);
    json_number(&j, "back", r->n_back);
    json_number(&j, "missing", r->n_missing);
    json_number(&j, "unanswered", r->n_unanswered);
    json_number(&j, "unreadable", r->n_unreadable);
    json_number(&j, "refused", r->n_refused);
    json_number(&j, "opened", r->n_probed - r->n_unprobed);
    json_number(&j, "not_opened", r->n_unprobed);
    json_bool(&j, "complete", r->complete);
    json_close(&j, '}');
    if (j.status == SM_OK)
        (void)printf("%.*s\n", (int)text.len, (const char *)text.data);
    sm_buf_free(&text);
    return j.status;
}

static sm_status scan_into(sm_catalog *catalog, catalog_args *args, sm_scan_result *result,
                           sm_error *err)
{
    const char **exclude = NULL;
    sm_status st = catalog_split(args->exclude, &exclude, err);

    if (st == SM_OK) {
        const sm_scan_options options = {.under = args->under,
                                         .probe = args->probe,
                                         .bricks = true,
                                         .exclude = exclude,
                                         .at = catalog_at};
        st = sm_scan(catalog, &options, catalog_say, args, result, err);
    }
    catalog_at_end();
    catalog_free_words(&exclude);
    return st;
}

/* The catalog holds what answered; the rest is for the next scan. */
static int scan_code(const sm_scan_result *result)
{
    return result->complete ? 0 : sm_exit_code(SM_ERR_IO);
}

int catalog_scan(catalog_args *args)
{
    const sm_generation_config config = catalog_config(args);
    sm_error err = SM_ERROR_INIT;
    sm_catalog *catalog = NULL;
    sm_scan_result result;
    uint64_t generation = 0;
    sm_status st = sm_catalog_change(args->operands[0], &config, &catalog, &err);

    if (st == SM_OK)
        st = scan_into(catalog, args, &result, &err);
    if (st == SM_OK) {
        generation = sm_catalog_generation(catalog);
        st = sm_catalog_commit(&catalog, &err);
    }
    sm_catalog_close(&catalog);
    if (st == SM_OK && args->json) {
        st = print_scan_json(args->operands[0], generation, &result, &err);
    } else if (st == SM_OK) {
        print_scan(&result);
        (void)printf("%s: generation %" PRIu64 "\n", catalog_clean(args->operands[0]), generation);
    }
    if (st == SM_OK)
        st = catalog_flush(&err);
    return st == SM_OK ? scan_code(&result) : catalog_fail(args, &err);
}

/* ---- create ---- */

static sm_status set_pattern(sm_catalog *catalog, const char *text, sm_error *err)
{
    sm_pattern *pattern = NULL;
    size_t n = 0;
    sm_status st = sm_pattern_new(text, &pattern, err);

    if (st == SM_OK) {
        const char *const *names = sm_pattern_names(pattern, &n);
        st = sm_catalog_set_pattern(catalog, text, names, n, err);
    }
    sm_pattern_free(&pattern);
    return st;
}

/* The options that decide what a new catalog holds, as one text. */
static sm_status join_options(const catalog_args *args, sm_buf *text, sm_error *err)
{
    const struct {
        const char *name, *value;
    } rows[] = {{"from", args->from}, {"pattern", args->pattern}, {"exclude", args->exclude}};
    sm_status st = sm_buf_printf(text, err, "scan=%d probe=%d kind=%d gdc-folders=%d", args->scan,
                                 args->probe, args->kind, args->gdc_folders);
    for (size_t i = 0; st == SM_OK && i < SM_COUNT(rows); i++)
        if (rows[i].value != NULL)
            st = sm_buf_printf(text, err, " %s=%s", rows[i].name, rows[i].value);
    return st == SM_OK ? sm_buf_append(text, "", 1, err) : st;
}

typedef struct created {
    import_result import;
    sm_scan_result scan;
} created;

static sm_status fill(sm_catalog *catalog, catalog_args *args, created *c, sm_error *err)
{
    sm_buf options = {0};
    sm_status st = join_options(args, &options, err);

    if (st == SM_OK)
        st = sm_catalog_set_create_options(catalog, (const char *)options.data, err);
    sm_buf_free(&options);
    if (st == SM_OK && args->pattern != NULL)
        st = set_pattern(catalog, args->pattern, err);
    /* the list first: what it names and the tree lacks is then missing, not unknown */
    if (st == SM_OK && args->from != NULL)
        st = catalog_import_list(catalog, args, args->from, true, &c->import, err);
    if (st == SM_OK && args->scan)
        st = scan_into(catalog, args, &c->scan, err);
    /* files of MRXS and VMS slides have a place only once the tree was seen */
    if (st == SM_OK && args->scan && c->import.n_no_slides > 0) {
        const uint64_t n_added = c->import.n_added;
        st = catalog_import_list(catalog, args, args->from, false, &c->import, err);
        c->import.n_added = n_added;
        c->import.n_known -= c->import.n_known < n_added ? c->import.n_known : n_added;
    }
    return st;
}

static sm_status find_root(const char *path, char **root, sm_error *err)
{
    *root = realpath(path, NULL);
    if (*root == NULL)
        return sm_fail_errno(err, errno == EIO || errno == ENOTCONN ? SM_ERR_IO : SM_ERR_ARG, errno,
                             "%s", path);
    return SM_OK;
}

/* Is it what this very command would have made, and nothing was done with it since? */
static bool is_ours(const sm_catalog *catalog, const catalog_args *args, const char *root)
{
    sm_error unused = SM_ERROR_INIT;
    sm_buf options = {0};
    const char *theirs = sm_catalog_create_options(catalog);
    const bool ours = sm_catalog_generation(catalog) == 1 && theirs != NULL &&
                      strcmp(sm_catalog_root(catalog), root) == 0 &&
                      join_options(args, &options, &unused) == SM_OK &&
                      strcmp(theirs, (const char *)options.data) == 0;
    sm_buf_free(&options);
    return ours;
}

/* There is a catalog already. A create that was killed after its catalog was published, and is
 * then repeated, has done what was asked; any other is said as it is. False: none that can be read.
 */
static bool tell_existing(catalog_args *args, const char *root, int *code, sm_error *err)
{
    sm_catalog *catalog = NULL;
    sm_error unused = SM_ERROR_INIT;
    uint64_t n = 0, bytes = 0;
    char slides[64], made[40];

    if (sm_catalog_open(args->output, &catalog, &unused) != SM_OK)
        return false;
    const sm_slide_filter all = {0};
    if (sm_catalog_count(catalog, &all, &n, &bytes, &unused) != SM_OK) {
        sm_catalog_close(&catalog);
        return false;
    }
    (void)catalog_count(n, "slide", slides);
    (void)catalog_time(sm_catalog_created_ns(catalog), false, made);
    if (is_ours(catalog, args, root)) {
        (void)printf("%s: generation 1, made at %s by the same command, is there and whole: %s; "
                     "'slidemill catalog scan' tells what has changed since\n",
                     catalog_clean(args->output), made, slides);
        *code = catalog_flush(err) == SM_OK ? 0 : catalog_fail(args, err);
    } else {
        sm_fail(err, SM_ERR_ARG,
                "%s: exists already: generation %" PRIu64 " of %s, %s, made at %s; 'slidemill "
                "catalog scan' brings it up to date, a new one needs another name",
                args->output, sm_catalog_generation(catalog), sm_catalog_root(catalog), slides,
                made);
        *code = catalog_fail(args, err);
    }
    sm_catalog_close(&catalog);
    return true;
}

int catalog_create(catalog_args *args)
{
    const sm_generation_config config = catalog_config(args);
    sm_error err = SM_ERROR_INIT;
    sm_catalog *catalog = NULL;
    created c = {.scan = {.complete = true}};
    char *root = NULL;
    sm_status st = SM_OK;

    if (args->output == NULL)
        st = sm_fail(&err, SM_ERR_ARG, "--output: say where the catalog shall be: -o corpus.smc");
    if (st == SM_OK && !args->scan && (args->probe || args->exclude != NULL))
        st = sm_fail(&err, SM_ERR_ARG, "--no-scan leaves nothing to --probe or --exclude");
    if (st == SM_OK)
        st = find_root(args->operands[0], &root, &err);
    if (st == SM_OK) {
        int code = 0;
        st = sm_catalog_create(args->output, root, &config, &catalog, &err);
        if (st == SM_ERR_ARG && tell_existing(args, root, &code, &err)) {
            free(root);
            return code;
        }
    }
    if (st == SM_OK)
        st = fill(catalog, args, &c, &err);
    if (st == SM_OK)
        st = sm_catalog_commit(&catalog, &err);
    sm_catalog_close(&catalog);
    free(root);
    if (st != SM_OK)
        return catalog_fail(args, &err);
    if (args->from != NULL)
        catalog_print_import(args->from, &c.import);
    if (args->scan)
        print_scan(&c.scan);
    (void)printf("%s: generation 1\n", catalog_clean(args->output));
    st = catalog_flush(&err);
    if (st != SM_OK)
        return catalog_fail(args, &err);
    return args->from != NULL && catalog_import_code(&c.import) != 0
               ? catalog_import_code(&c.import)
               : scan_code(&c.scan);
}
