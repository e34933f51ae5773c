/* slidemill convert: the command line of sm_convert. */
#include <inttypes.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/opts.h"
#include "common/stop.h"
#include "common/sysinfo.h"
#include "common/text.h"
#include "common/trace.h"
#include "tiler/convert_opts.h"
#include "tiler/report.h"
#include "tiler/stage_in.h"
#include "tiler/versions.h"

/* What the option table fills. */
typedef struct config {
    sm_convert_flags convert;
    bool force, json, quiet;
} config;

#define AT(member) offsetof(config, member)

static const sm_opt OPTIONS[] = {
    SM_CONVERT_OPTION_ROWS(config, convert, "cache"),
    {"force", SM_OPT_FLAG, AT(force), 0, 0, NULL, NULL, "Replace OUT if it exists."},
    {"json", SM_OPT_FLAG, AT(json), 0, 0, NULL, NULL, "Print the summary as JSON."},
    {"quiet", SM_OPT_FLAG, AT(quiet), 0, 0, NULL, NULL,
     "No progress and no summary; with --json only the JSON."},
};

static const char *const OPERANDS[] = {"IN", "OUT"};

static const sm_command COMMAND = {
    .name = "convert",
    .summary = "convert one slide into a verified, tiled pyramid",
    .synopsis = "[options] IN OUT",
    .description =
        "Reads the slide IN once, checks and hashes every byte, and writes the pyramid OUT, a "
        "BigTIFF that OpenSlide, QuPath, Bio-Formats, libvips and tifffile open. OUT appears only "
        "when it is complete, on disk, and read back without a difference.\n\n"
        "JPEG tiles that fit are copied bit for bit; other JPEG tiles are moved as DCT "
        "coefficients; only what cannot be helped is decoded and encoded again. The summary says "
        "level by level what was done.\n\n"
        "Aperio SVS (JPEG), OME-TIFF and generic TIFF are read natively, everything else that "
        "OpenSlide knows through OpenSlide. Label and macro images are left out unless "
        "--associated keep asks for "
        "them.\n\n"
        "With SLIDEMILL_TRACE=FILE in the environment a trace of the conversion is written, which "
        "https://ui.perfetto.dev opens: what each thread did when.",
    .examples = "slidemill convert a.svs a.ome.tiff\n"
                "    keep the levels of the scan, add small ones\n"
                "slidemill convert --levels dyadic a.svs a.ome.tiff\n"
                "    every power of two, level 0 untouched\n"
                "slidemill convert --tile-px 512 a.svs a.ome.tiff\n"
                "    tiles of 512 px without loss of quality\n"
                "slidemill convert --codec zstd scan.tif archive.tif\n"
                "    lossless pyramid\n"
                "slidemill convert --tiles transcode --quality 80 a.svs small.tif\n"
                "    smaller, encoded again\n",
    .exit_status = "0 converted and verified\n"
                   "2 wrong command line, or OUT exists\n"
                   "65 IN is damaged, or not a slide slidemill reads\n"
                   "70 out of memory, or an error of slidemill's own\n"
                   "74 reading or writing failed\n"
                   "75 interrupted; OUT is untouched\n",
    .opts = OPTIONS,
    .n_opts = SM_COUNT(OPTIONS),
    .min_operands = 2,
    .max_operands = 2,
    .operand_names = OPERANDS,
};

/* The summary as text or JSON, whatever bytes the paths are made of. */
static sm_status summary(const config *c, const char *const *operands,
                         const sm_convert_report *report, const sm_error *failure, sm_buf *text,
                         sm_error *err)
{
    sm_buf in = {0}, out = {0}, message = {0};
    sm_error clean = *failure;
    sm_status st = sm_text_clean(operands[0], !c->json, &in, err);
    if (st == SM_OK)
        st = sm_text_clean(operands[1], !c->json, &out, err);
    if (st == SM_OK)
        st = sm_text_clean(failure->message, true, &message, err);
    if (st == SM_OK)
        (void)snprintf(clean.message, sizeof clean.message, "%s", (const char *)message.data);
    if (st == SM_OK && c->json)
        st = sm_report_json((const char *)in.data, (const char *)out.data, report, &clean, text,
                            err);
    else if (st == SM_OK)
        st = sm_report_text((const char *)in.data, (const char *)out.data, report, text, err);
    sm_buf_free(&in);
    sm_buf_free(&out);
    sm_buf_free(&message);
    return st;
}

/* Print what the user asked for; the exit code may turn into "standard output is broken". */
static int tell(const config *c, const char *const *operands, const sm_convert_report *report,
                const sm_error *failure)
{
    sm_error err = SM_ERROR_INIT;
    sm_buf text = {0};
    sm_status st = SM_OK;
    int code = sm_exit_code(failure->status);
    if (failure->status != SM_OK)
        (void)fprintf(stderr, "slidemill convert: %s\n", failure->message);
    if (c->json || (failure->status == SM_OK && !c->quiet))
        st = summary(c, operands, report, failure, &text, &err);
    if (st == SM_OK && text.len > 0 &&
        (fputs((const char *)text.data, stdout) == EOF || (c->json && putchar('\n') == EOF) ||
         fflush(stdout) == EOF))
        st = sm_fail(&err, SM_ERR_IO, "cannot write to standard output");
    if (st != SM_OK) {
        (void)fprintf(stderr, "slidemill convert: %s\n", err.message);
        code = code != 0 ? code : sm_exit_code(st);
    }
    sm_buf_free(&text);
    return code;
}

/* Tiles of some 100 kB come and go by the ten thousand: let malloc keep the memory instead of
 * giving it back and asking again (a quarter of the system time of a retiling run). */
static void keep_memory(void)
{
    (void)mallopt(M_MMAP_THRESHOLD, 32 << 20);
    (void)mallopt(M_TRIM_THRESHOLD, 512 << 20);
    (void)mallopt(M_TOP_PAD, 4 << 20);
}

/* The slide matters, its trace does not: a failure is said, and that is all. */
static void start_trace(void)
{
    const char *path = getenv("SLIDEMILL_TRACE");
    sm_error err = SM_ERROR_INIT;
    if (path != NULL && path[0] != '\0' && sm_trace_start(path, &err) != SM_OK)
        (void)fprintf(stderr, "slidemill convert: warning: SLIDEMILL_TRACE: %s\n", err.message);
}

static void stop_trace(void)
{
    sm_error err = SM_ERROR_INIT;
    if (sm_trace_stop(&err) != SM_OK)
        (void)fprintf(stderr, "slidemill convert: warning: SLIDEMILL_TRACE: %s\n", err.message);
}

int main(int argc, char **argv)
{
    config c = {0};
    const char *operands[2];
    unsigned n = 0;
    int code = 0;
    if (!sm_opts_start(&COMMAND, argc, argv, &c, operands, &n, sm_library_versions(), &code))
        return code;
    sm_error err = SM_ERROR_INIT;
    if (sm_convert_flags_check(&c.convert, &err) != SM_OK) {
        (void)fprintf(stderr, "slidemill convert: %s\ntry 'slidemill convert --help'\n",
                      err.message);
        return sm_exit_code(err.status);
    }
    sm_stop_install();
    keep_memory();
    sm_convert_options options;
    sm_allowance threads, memory;
    sm_convert_flags_options(&c.convert, &options, &threads, &memory);
    options.force = c.force;
    options.quiet = c.quiet;
    if (!c.quiet && isatty(STDERR_FILENO) != 0)
        (void)fprintf(stderr, "slidemill convert: %" PRIu64 " threads (%s)\n", threads.value,
                      threads.where);
    sm_convert_report report;
    start_trace();
    if (sm_convert(operands[0], operands[1], &options, &report, &err) == SM_OK)
        err = (sm_error)SM_ERROR_INIT;
    stop_trace();
    code = tell(&c, operands, &report, &err);
    sm_convert_report_clear(&report);
    return code;
}
