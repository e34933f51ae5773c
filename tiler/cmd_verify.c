/* slidemill verify: is this pyramid whole, and how does it compare with its source? */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "common/opts.h"
#include "common/stop.h"
#include "common/sysinfo.h"
#include "common/text.h"
#include "tiler/report.h"
#include "tiler/verify.h"
#include "tiler/versions.h"

typedef struct config {
    const char *against, *sha256;
    uint32_t min_psnr, threads;
    bool json, quiet;
} config;

#define AT(member) offsetof(config, member)

static const sm_opt OPTIONS[] = {
    {"against", SM_OPT_STR, AT(against), 0, 0, NULL, "SOURCE",
     "Compare every level with this slide: its own level of that size, else 2x2 means of the next "
     "finer one."},
    {"min-psnr", SM_OPT_U32, AT(min_psnr), 0, 200, "15", "dB",
     "With --against: fail when a level is less like the source than this."},
    {"sha256", SM_OPT_STR, AT(sha256), 0, 0, NULL, "HEX",
     "The digest that the file must have, as the summary of convert says it."},
    {"threads", SM_OPT_U32, AT(threads), 0, 1024, "0", "N",
     "Worker threads. 0: SLURM_CPUS_PER_TASK, else CPU affinity and cgroup quota."},
    {"json", SM_OPT_FLAG, AT(json), 0, 0, NULL, NULL, "Print the result as JSON."},
    {"quiet", SM_OPT_FLAG, AT(quiet), 0, 0, NULL, NULL,
     "Print nothing when all is well; with --json only the JSON."},
};

static const char *const OPERANDS[] = {"FILE"};

static const sm_command COMMAND = {
    .name = "verify",
    .summary = "check that a pyramid is whole, and compare it with its source",
    .synopsis = "[options] FILE",
    .description =
        "Reads all of FILE: its structure, its digests, and every tile, which must decode. A file "
        "that slidemill wrote carries digests of itself and of its source; they are checked. FILE "
        "may be any slide that slidemill reads.",
    .examples = "slidemill verify a.ome.tiff\n"
                "    structure, digests, every tile\n"
                "slidemill verify a.ome.tiff --against a.svs\n"
                "    and level by level: identical, or the PSNR\n",
    .exit_status = "0 whole\n"
                   "2 wrong command line\n"
                   "65 damaged, not a pyramid, or not like SOURCE\n"
                   "70 out of memory, or an error of slidemill's own\n"
                   "74 reading failed\n"
                   "75 interrupted\n",
    .opts = OPTIONS,
    .n_opts = SM_COUNT(OPTIONS),
    .min_operands = 1,
    .max_operands = 1,
    .operand_names = OPERANDS,
};

/* The first thing that is wrong, in one line; SM_OK if nothing is. */
static sm_status judge(const config *c, const char *path, const sm_verify_report *r, sm_error *err)
{
    char hex[SM_DIGEST_HEX_CAP];
    if (c->sha256 != NULL && strcasecmp(c->sha256, sm_digest_hex(&r->sha256, hex)) != 0)
        return sm_fail(err, SM_ERR_CORRUPT, "%s: its SHA-256 is %s, not %s", path, hex, c->sha256);
    if (r->has_provenance && !r->head_ok)
        return sm_fail(err, SM_ERR_CORRUPT, "%s: its directories were changed since it was written",
                       path);
    if (r->has_provenance && !r->data_ok)
        return sm_fail(err, SM_ERR_CORRUPT, "%s: its tile data were changed since it was written",
                       path);
    if (r->n_bad > 0 && r->bad != NULL) {
        char place[SM_PLACE_CAP];
        sm_fail(err, SM_ERR_CORRUPT, "%s: %" PRIu64 " bad tile%s, the first at %s: %s", path,
                r->n_bad, r->n_bad == 1 ? "" : "s", sm_bad_tile_place(&r->bad[0], place),
                r->bad[0].message);
        err->offset = r->bad[0].offset;
        return SM_ERR_CORRUPT;
    }
    for (uint32_t i = 0; i < r->n_compared; i++) {
        const double psnr = sm_compare_psnr(&r->levels[i]);
        if (r->levels[i].compared && psnr < c->min_psnr)
            return sm_fail(err, SM_ERR_CORRUPT,
                           "%s: level %u is unlike the source (PSNR %.1f dB, --min-psnr %u)", path,
                           i, psnr, c->min_psnr);
    }
    return SM_OK;
}

static void print_level(const sm_verify_report *r, uint32_t i)
{
    const sm_level_compare *l = &r->levels[i];
    char size[32], reference[64];
    snprintf(size, sizeof size, "%u x %u", l->w_px, l->h_px);
    if (l->from_source_level)
        snprintf(reference, sizeof reference, "source level %u", l->source_level);
    else
        snprintf(reference, sizeof reference, "2x2 means");
    printf("  level %-2u %-17s ", i, size);
    if (!l->compared)
        printf("not compared: %s\n", l->why_not);
    else if (l->same_bytes && l->n_different == 0)
        printf("identical to %s, compressed bytes and pixels\n", reference);
    else if (l->n_different == 0)
        printf("identical pixels to %s\n", reference);
    else
        printf("PSNR %.1f dB against %s (largest difference %u, %.2f%% of samples differ)\n",
               sm_compare_psnr(l), reference, l->max_difference,
               100.0 * (double)l->n_different / (double)l->n_samples);
}

static void print_text(const char *path, const sm_verify_report *r)
{
    char hex[SM_DIGEST_HEX_CAP];
    printf("%s  %s\n  sha256 %s\n", path, r->vendor, sm_digest_hex(&r->sha256, hex));
    printf("  structure: %u levels, %" PRIu64 " tiles, %" PRIu64 " of them do not decode\n",
           r->n_levels, r->n_tiles, r->n_bad);
    for (uint64_t k = 0; r->bad != NULL && k < r->n_bad && k < 10; k++) {
        char place[SM_PLACE_CAP];
        printf("    %s: %s\n", sm_bad_tile_place(&r->bad[k], place), r->bad[k].message);
    }
    if (r->has_provenance)
        printf("  digests in the file: directories %s, tile data %s\n  made from sha256 %s\n",
               r->head_ok ? "agree" : "DIFFER", r->data_ok ? "agree" : "DIFFER", r->source_sha256);
    else
        printf("  digests in the file: none (not written by slidemill)\n");
    if (!r->against)
        return;
    printf("against sha256 %s%s\n", sm_digest_hex(&r->against_sha256, hex),
           !r->has_provenance     ? ""
           : r->against_is_source ? ", which is the file it was made from"
                                  : ", which is NOT the file it was made from");
    for (uint32_t i = 0; i < r->n_compared; i++)
        print_level(r, i);
}

/* ---- JSON ---- */

static void json_levels(cJSON *root, const sm_verify_report *r)
{
    cJSON *list = cJSON_AddArrayToObject(root, "levels");
    for (uint32_t i = 0; i < r->n_compared; i++) {
        const sm_level_compare *l = &r->levels[i];
        cJSON *o = cJSON_CreateObject();
        (void)cJSON_AddNumberToObject(o, "width", l->w_px);
        (void)cJSON_AddNumberToObject(o, "height", l->h_px);
        (void)cJSON_AddBoolToObject(o, "compared", l->compared);
        if (l->compared) {
            (void)cJSON_AddStringToObject(o, "reference",
                                          l->from_source_level ? "source level" : "2x2 mean");
            (void)cJSON_AddBoolToObject(o, "identical_bytes", l->same_bytes);
            (void)cJSON_AddBoolToObject(o, "identical_pixels", l->n_different == 0);
            if (l->n_different > 0)
                (void)cJSON_AddNumberToObject(o, "psnr_db", sm_compare_psnr(l));
            (void)cJSON_AddNumberToObject(o, "max_difference", l->max_difference);
        }
        (void)cJSON_AddItemToArray(list, o);
    }
}

static void json_bad(cJSON *root, const sm_verify_report *r)
{
    cJSON *list = cJSON_AddArrayToObject(root, "bad_tile_list");
    for (uint64_t k = 0; r->bad != NULL && k < r->n_bad && k < SM_MAX_BAD_TILES; k++) {
        cJSON *o = cJSON_CreateObject();
        (void)cJSON_AddNumberToObject(o, "level", r->bad[k].level);
        (void)cJSON_AddNumberToObject(o, "column", r->bad[k].col);
        (void)cJSON_AddNumberToObject(o, "row", r->bad[k].row);
        if (r->bad[k].offset != SM_NO_OFFSET)
            (void)cJSON_AddNumberToObject(o, "offset", (double)r->bad[k].offset);
        (void)cJSON_AddStringToObject(o, "message", r->bad[k].message);
        (void)cJSON_AddItemToArray(list, o);
    }
}

static void print_json(const char *path, const sm_verify_report *r, const sm_error *failure)
{
    char hex[SM_DIGEST_HEX_CAP];
    cJSON *root = cJSON_CreateObject();
    (void)cJSON_AddStringToObject(root, "slidemill", SM_VERSION);
    (void)cJSON_AddStringToObject(root, "path", path);
    (void)cJSON_AddStringToObject(root, "status", sm_status_name(failure->status));
    if (failure->status != SM_OK)
        (void)cJSON_AddStringToObject(root, "error", failure->message);
    if (r->sha256.len > 0) {
        (void)cJSON_AddStringToObject(root, "sha256", sm_digest_hex(&r->sha256, hex));
        (void)cJSON_AddNumberToObject(root, "bytes", (double)r->bytes);
        (void)cJSON_AddNumberToObject(root, "n_levels", r->n_levels);
        (void)cJSON_AddNumberToObject(root, "tiles", (double)r->n_tiles);
        (void)cJSON_AddNumberToObject(root, "bad_tiles", (double)r->n_bad);
        json_bad(root, r);
        (void)cJSON_AddBoolToObject(root, "has_digests", r->has_provenance);
    }
    if (r->has_provenance) {
        (void)cJSON_AddBoolToObject(root, "head_ok", r->head_ok);
        (void)cJSON_AddBoolToObject(root, "data_ok", r->data_ok);
        if (strlen(r->source_sha256) == 64) /* else it cannot be read */
            (void)cJSON_AddStringToObject(root, "source_sha256", r->source_sha256);
    }
    if (r->against) {
        (void)cJSON_AddStringToObject(root, "against_sha256",
                                      sm_digest_hex(&r->against_sha256, hex));
        (void)cJSON_AddBoolToObject(root, "against_is_source", r->against_is_source);
        json_levels(root, r);
    }
    char *text = cJSON_Print(root);
    if (text != NULL)
        (void)puts(text);
    cJSON_free(text);
    cJSON_Delete(root);
}

/* What was found, as the user asked for it, whatever bytes the path is made of. */
static sm_status tell(const config *c, const char *operand, const sm_verify_report *report,
                      bool read, const sm_error *failure, sm_error *err)
{
    sm_buf path = {0}, message = {0};
    sm_error clean = *failure;
    sm_status st = sm_text_clean(operand, !c->json, &path, err);
    if (st == SM_OK)
        st = sm_text_clean(failure->message, true, &message, err);
    if (st == SM_OK) {
        (void)snprintf(clean.message, sizeof clean.message, "%s", (const char *)message.data);
        if (c->json)
            print_json((const char *)path.data, report, &clean);
        else if (read && !(c->quiet && failure->status == SM_OK))
            print_text((const char *)path.data, report);
    }
    sm_buf_free(&path);
    sm_buf_free(&message);
    return st;
}

int main(int argc, char **argv)
{
    config c = {0};
    const char *operands[1];
    unsigned n = 0;
    int code = 0;
    if (!sm_opts_start(&COMMAND, argc, argv, &c, operands, &n, sm_library_versions(), &code))
        return code;
    sm_error err = SM_ERROR_INIT;
    if (c.sha256 != NULL) {
        sm_digest parsed;
        if (sm_digest_parse(SM_DIGEST_SHA256, c.sha256, &parsed, &err) != SM_OK) {
            (void)fprintf(stderr, "slidemill verify: --sha256: %s\n", err.message);
            return sm_exit_code(SM_ERR_ARG);
        }
    }
    sm_stop_install();
    const sm_verify_options options = {
        .threads = c.threads > 0 ? c.threads : (unsigned)sm_sysinfo_threads().value,
        .against = c.against,
        .quiet = c.quiet,
    };
    sm_verify_report report;
    sm_status st = sm_verify(operands[0], &options, &report, &err);
    const bool read = st == SM_OK;
    if (read)
        err = (sm_error)SM_ERROR_INIT; /* readers that were asked in vain have left their reasons */
    if (read)
        st = judge(&c, operands[0], &report, &err);
    sm_error print_err = SM_ERROR_INIT;
    const sm_status printed = tell(&c, operands[0], &report, read, &err, &print_err);
    if (st != SM_OK)
        (void)fprintf(stderr, "slidemill verify: %s\n", err.message);
    else if (printed != SM_OK)
        (void)fprintf(stderr, "slidemill verify: %s\n", print_err.message);
    code = sm_exit_code(st != SM_OK ? st : printed);
    if (fflush(stdout) != 0 && code == 0) {
        (void)fprintf(stderr, "slidemill verify: cannot write to standard output\n");
        code = sm_exit_code(SM_ERR_IO);
    }
    sm_verify_report_clear(&report);
    return code;
}
