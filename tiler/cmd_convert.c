/* slidemill convert: the command line of sm_convert. */
#include <inttypes.h>
#include <malloc.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/opts.h"
#include "common/stop.h"
#include "common/sysinfo.h"
#include "common/text.h"
#include "tiler/convert.h"
#include "tiler/report.h"
#include "tiler/stage_in.h"
#include "tiler/versions.h"

/* What the option table fills; choices are indices of their words. */
typedef struct config {
    int levels, tiles, codec, subsampling, profile, blank, bad_tile, associated, verify;
    uint32_t tile_px, quality, threads;
    uint64_t memory;
    const char *scratch;
    bool force, json, quiet;
} config;

#define AT(member) offsetof(config, member)

static const sm_opt OPTIONS[] = {
    {"levels", SM_OPT_CHOICE, AT(levels), 0, 0, "auto", "auto|source|dyadic",
     "Levels of the output. auto keeps the source's and adds what is missing, in steps of at most "
     "4x, down to 1024 px; source keeps them and adds none; dyadic has every power of two."},
    {"tiles", SM_OPT_CHOICE, AT(tiles), 0, 0, "auto", "auto|copy|retile|transcode",
     "How tiles get over. copy: compressed bytes as they are, or fail; retile: JPEG coefficients "
     "moved to another tile size without loss; transcode: decode and encode. auto takes the first "
     "that is possible."},
    {"tile-px", SM_OPT_U32, AT(tile_px), 0, 4096, "0", "px",
     "Side of the tiles that are written anew, a multiple of 16. 0: the source's if they are "
     "square, else 512."},
    {"codec", SM_OPT_CHOICE, AT(codec), 0, 0, "jpeg", "jpeg|zstd|deflate|lzw|none",
     "Compression of the output. jpeg is the one that every viewer reads; the others are "
     "lossless."},
    {"quality", SM_OPT_U32, AT(quality), 1, 100, "85", "",
     "JPEG quality (libjpeg's scale) of tiles that are encoded anew."},
    {"subsampling", SM_OPT_CHOICE, AT(subsampling), 0, 0, "auto", "auto|444|422|420",
     "Chroma sampling of JPEG tiles that are encoded anew; auto is 420 below quality 90, else "
     "444."},
    {"profile", SM_OPT_CHOICE, AT(profile), 0, 0, "hybrid", "hybrid|generic",
     "hybrid: a pyramid for TIFF and for OME-TIFF readers alike; generic: without OME-XML."},
    {"blank", SM_OPT_CHOICE, AT(blank), 0, 0, "share", "share|full",
     "share: tiles of exactly one colour are stored once a level; full: each is stored."},
    {"bad-tile", SM_OPT_CHOICE, AT(bad_tile), 0, 0, "fail", "fail|blank",
     "A tile that does not decode: fail, or put background in its place and report it."},
    {"associated", SM_OPT_CHOICE, AT(associated), 0, 0, "none", "none|keep",
     "Label, macro and thumbnail: none leaves them out, since they can show patient data; keep "
     "stores them, uncompressed, behind the levels."},
    {"threads", SM_OPT_U32, AT(threads), 0, 1024, "0", "N",
     "Worker threads. 0: SLURM_CPUS_PER_TASK, else CPU affinity and cgroup quota."},
    {"memory", SM_OPT_BYTES, AT(memory), 0, UINT64_MAX, "0", "SIZE",
     "Refuse at the start what may need more. 0: SLURM_MEM_PER_NODE or SLURM_MEM_PER_CPU, else "
     "the cgroup's limit, else the machine's memory."},
    {"scratch", SM_OPT_STR, AT(scratch), 0, 0, NULL, "DIR",
     "Folder for a local copy of a slide that lies on a network mount and cannot be read in one "
     "pass. Default: SLURM_TMPDIR, TMPDIR, /tmp."},
    {"verify", SM_OPT_CHOICE, AT(verify), 0, 0, "cache", "cache|media|none",
     "Read the output back and compare it with what was written: through the page cache, past it, "
     "or not at all (the output's digest is then not taken)."},
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
        "them.",
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

static void options_of(const config *c, sm_convert_options *o, sm_allowance *threads,
                       sm_allowance *memory)
{
    *threads = c->threads > 0 ? (sm_allowance){c->threads, "--threads"} : sm_sysinfo_threads();
    *memory = c->memory > 0 ? (sm_allowance){c->memory, "--memory"} : sm_sysinfo_memory();
    *o = (sm_convert_options){
        .plan = {.levels = (sm_levels_mode)c->levels,
                 .tiles = (sm_tiles_mode)c->tiles,
                 .codec = (sm_codec_mode)c->codec,
                 .subsampling = (sm_subsampling)c->subsampling,
                 .quality = c->quality,
                 .tile_px = c->tile_px},
        .profile = (sm_profile)c->profile,
        .share_blank = c->blank == 0,
        .blank_bad_tiles = c->bad_tile == 1,
        .keep_associated = c->associated == 1,
        .threads = (unsigned)threads->value,
        .memory_bytes = memory->value,
        .scratch = c->scratch,
        .verify = (sm_verify_mode)c->verify,
        .force = c->force,
        .quiet = c->quiet,
    };
}

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

int main(int argc, char **argv)
{
    config c;
    const char *operands[2];
    unsigned n = 0;
    int code = 0;
    if (!sm_opts_start(&COMMAND, argc, argv, &c, operands, &n, sm_library_versions(), &code))
        return code;
    sm_error err = SM_ERROR_INIT;
    if (c.tile_px % 16 != 0 || (c.tile_px > 0 && c.tile_px < 64)) {
        (void)fprintf(stderr,
                      "slidemill convert: --tile-px: '%u' is not a multiple of 16 in 64..4096\n"
                      "try 'slidemill convert --help'\n",
                      c.tile_px);
        return sm_exit_code(SM_ERR_ARG);
    }
    sm_stop_install();
    keep_memory();
    sm_convert_options options;
    sm_allowance threads, memory;
    options_of(&c, &options, &threads, &memory);
    if (!c.quiet && isatty(STDERR_FILENO) != 0)
        (void)fprintf(stderr, "slidemill convert: %" PRIu64 " threads (%s)\n", threads.value,
                      threads.where);
    sm_convert_report report;
    if (sm_convert(operands[0], operands[1], &options, &report, &err) == SM_OK)
        err = (sm_error)SM_ERROR_INIT;
    code = tell(&c, operands, &report, &err);
    sm_convert_report_clear(&report);
    return code;
}
