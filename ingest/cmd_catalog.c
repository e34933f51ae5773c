/* slidemill catalog: the table of its sub-commands, and who does what. */
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "common/opts.h"
#include "common/stop.h"
#include "ingest/catalog_cli.h"

#define AT(field) offsetof(catalog_args, field)

#define WRITER_ROWS                                                                                \
    {"wait", SM_OPT_U32, AT(wait_s), 0,                                                            \
     86400,  "60",       "s",        "Wait so long if somebody else changes the catalog."},        \
    {                                                                                              \
        "scratch", SM_OPT_STR, AT(scratch), 0, 0, NULL, "DIR",                                     \
            "Folder on a local disk for the working copy; else SLURM_TMPDIR, TMPDIR or /tmp."      \
    }
#define EXCLUDE_ROW                                                                                \
    {                                                                                              \
        "exclude", SM_OPT_STR, AT(exclude), 0, 0, NULL, "GLOBS",                                   \
            "Pass over what matches one of these globs, separated by commas: with a / in it the "  \
            "whole path (* matches / too), else the name of a file or folder."                     \
    }
#define PROBE_ROW                                                                                  \
    {                                                                                              \
        "probe", SM_OPT_FLAG, AT(probe), 0, 0, NULL, NULL,                                         \
            "Also open each new slide for its vendor, size in pixels and scale, in a process of "  \
            "its own."                                                                             \
    }
#define KIND_ROW                                                                                   \
    {                                                                                              \
        "kind", SM_OPT_CHOICE, AT(kind), 0, 0, "auto", "auto|sha256sum|md5sum|gdc|csv|tsv",        \
            "What sort of list it is; auto looks at its first line."                               \
    }
#define GDC_ROW                                                                                    \
    {                                                                                              \
        "gdc-folders", SM_OPT_FLAG, AT(gdc_folders), 0, 0, NULL, NULL,                             \
            "Files of a GDC manifest lie in folders named by their ids, as gdc-client puts them."  \
    }
#define STATE_ROW(def, text)                                                                       \
    {                                                                                              \
        "state", SM_OPT_STR, AT(state), 0, 0, def, "STATES", text                                  \
    }
#define CLASS_ROW                                                                                  \
    {                                                                                              \
        "class", SM_OPT_STR, AT(class_name), 0, 0, NULL, "CLASS",                                  \
            "Only slides that failed with this class (see status)."                                \
    }
#define GLOB_ROW                                                                                   \
    {                                                                                              \
        "glob", SM_OPT_STR, AT(glob), 0, 0, NULL, "GLOB",                                          \
            "Only slides whose path matches; * matches / too."                                     \
    }
#define JSON_ROW                                                                                   \
    {                                                                                              \
        "json", SM_OPT_FLAG, AT(json), 0, 0, NULL, NULL, "Print one JSON object."                  \
    }
#define WHAT_ROW(text)                                                                             \
    {                                                                                              \
        "what", SM_OPT_CHOICE, AT(what), 0, 0, "sources", "sources|outputs", text                  \
    }

static const sm_opt CREATE_OPTIONS[] = {
    {"output", SM_OPT_STR, AT(output), 0, 0, NULL, "CATALOG",
     "Where the catalog shall be; must not exist."},
    {"from", SM_OPT_STR, AT(from), 0, 0, NULL, "LIST",
     "Add the slides of this list with their expected digests and sizes (see import)."},
    {"scan", SM_OPT_FLAG, AT(scan), 0, 0, "true", NULL,
     "Look through ROOT. Without it the slides are those of --from."},
    {"pattern", SM_OPT_STR, AT(pattern), 0, 0, NULL, "PATTERN",
     "Put parts of each path into columns, as in "
     "'{release}/svs/{patient}/{name}.svs': a name matches one or more characters other than /."},
    PROBE_ROW,
    EXCLUDE_ROW,
    KIND_ROW,
    GDC_ROW,
    WRITER_ROWS,
};
static const sm_opt SCAN_OPTIONS[] = {
    {"under", SM_OPT_STR, AT(under), 0, 0, NULL, "DIR",
     "Only this folder of the root, given relative to it."},
    PROBE_ROW,
    EXCLUDE_ROW,
    JSON_ROW,
    WRITER_ROWS,
};
static const sm_opt IMPORT_OPTIONS[] = {
    KIND_ROW,
    GDC_ROW,
    {"add", SM_OPT_FLAG, AT(add), 0, 0, NULL, NULL,
     "Add slides that the catalog does not have; without it they are counted and left out."},
    WRITER_ROWS,
};
static const sm_opt EXPORT_OPTIONS[] = {
    {"format", SM_OPT_CHOICE, AT(format), 0, 0, "sha256sum", "sha256sum|csv|jsonl",
     "sha256sum is what 'sha256sum -c' checks in the folder of the files."},
    WHAT_ROW("The slides below the root, or the pyramids below the output folder."),
    STATE_ROW(NULL, "Only slides in these states, separated by commas."),
    {"output", SM_OPT_STR, AT(output), 0, 0, NULL, "FILE",
     "Write to this file, which appears when it is whole; else to standard output."},
};
static const sm_opt STATUS_OPTIONS[] = {JSON_ROW};
static const sm_opt LIST_OPTIONS[] = {
    STATE_ROW(NULL, "Only slides in these states, separated by commas: new, planned, leased, done, "
                    "failed, quarantined."),
    CLASS_ROW,
    {"brick", SM_OPT_STR, AT(brick), 0, 0, NULL, "BRICK", "Only slides on this brick."},
    GLOB_ROW,
    {"missing", SM_OPT_FLAG, AT(missing), 0, 0, NULL, NULL,
     "Only slides that the last scan did not find."},
    {"limit", SM_OPT_U32, AT(limit), 0, 0, NULL, NULL, "At most so many slides."},
    {"format", SM_OPT_CHOICE, AT(format), 0, 0, "text", "text|csv|jsonl",
     "For a person, or all columns for a program."},
};
static const sm_opt RETRY_OPTIONS[] = {
    STATE_ROW("failed", "Slides in these states: failed, quarantined, leased, done."),
    CLASS_ROW,
    GLOB_ROW,
    {"path", SM_OPT_STR, AT(path), 0, 0, NULL, "PATH", "Only this slide."},
    WRITER_ROWS,
};
static const sm_opt MERGE_OPTIONS[] = {WRITER_ROWS};
static const sm_opt VERIFY_OPTIONS[] = {
    WHAT_ROW("The slides below the root, or the pyramids below the output folder."),
    {"mpi", SM_OPT_STR, AT(mpi), 0, 0, NULL, "LAUNCHER",
     "Put this before the program, as in \"mpirun -n 4\"; split at blanks."},
    WRITER_ROWS,
};
static const sm_opt FSCK_OPTIONS[] = {JSON_ROW};

static const char *const ROOT_OPERANDS[] = {"ROOT"};
static const char *const CATALOG_OPERANDS[] = {"CATALOG"};
static const char *const IMPORT_OPERANDS[] = {"CATALOG", "LIST"};
static const char *const PARENT_OPERANDS[] = {"COMMAND"};

#define EXIT_COMMON                                                                                \
    "2  wrong command line, or a file that is not there\n"                                         \
    "65 the catalog is damaged\n"                                                                  \
    "74 reading or writing failed\n"
#define EXIT_WRITER                                                                                \
    EXIT_COMMON "75 interrupted, or somebody else holds the catalog; nothing was changed\n"

static const sm_command SUBS[] = {
    {.name = "catalog create",
     .summary = "a new catalog of a folder tree, a list, or both",
     .synopsis = "[options] ROOT -o CATALOG",
     .description = "Makes the catalog CATALOG of the slides below the folder ROOT. What is a "
                    "slide is told by "
                    "its name; hidden files are passed over. Beside it a folder CATALOG.d is made, "
                    "for journals "
                    "and former generations.",
     .examples = "slidemill catalog create /mnt/corpus -o corpus.smc\n"
                 "    all slides of the mount\n"
                 "slidemill catalog create /mnt/corpus -o corpus.smc --from SHA256SUMS\n"
                 "    and what they must hash to; what is listed and not there is missing\n",
     .exit_status =
         "0  done\n"
         "2  wrong command line, or CATALOG exists\n"
         "65 lines of LIST were refused; the rest is in the catalog\n"
         "74 storage failed; or a folder or brick did not answer, and the rest is in the "
         "catalog\n"
         "75 interrupted; there is no catalog\n",
     .opts = CREATE_OPTIONS,
     .n_opts = SM_COUNT(CREATE_OPTIONS),
     .min_operands = 1,
     .max_operands = 1,
     .operand_names = ROOT_OPERANDS,
     .aliases = "o=output"},
    {.name = "catalog scan",
     .summary = "look for new, changed and missing slides",
     .synopsis = "[options] CATALOG",
     .description =
         "Looks through the root again. A slide whose size or time differs is new again. One that "
         "is "
         "not found is marked missing and never removed; when its brick gave no file at all or its "
         "folder could not be listed it stays as it is, for a brick that is down makes its files "
         "look "
         "absent.",
     .exit_status =
         "0  done\n"
         "2  wrong command line, or a file that is not there\n"
         "65 the catalog is damaged\n"
         "74 storage failed; or a folder or brick did not answer, and the rest is in the "
         "catalog\n"
         "75 interrupted, or somebody else holds the catalog; nothing was changed\n",
     .opts = SCAN_OPTIONS,
     .n_opts = SM_COUNT(SCAN_OPTIONS),
     .min_operands = 1,
     .max_operands = 1,
     .operand_names = CATALOG_OPERANDS},
    {.name = "catalog import",
     .summary = "expected digests, sizes and ids out of a list",
     .synopsis = "[options] CATALOG LIST",
     .description = "Takes output of sha256sum or md5sum, a GDC manifest, or CSV or TSV with a "
                    "header (path, size, sha256, md5, xxh128, id, vendor). Paths are relative to "
                    "the root; those that could leave it are refused. A digest that contradicts an "
                    "earlier one is refused.",
     .exit_status = "0  done\n"
                    "2  wrong command line, or a file that is not there\n"
                    "65 lines were refused, the rest was taken; or the catalog is damaged\n"
                    "74 reading or writing failed\n"
                    "75 interrupted, or somebody else holds the catalog; nothing was changed\n",
     .opts = IMPORT_OPTIONS,
     .n_opts = SM_COUNT(IMPORT_OPTIONS),
     .min_operands = 2,
     .max_operands = 2,
     .operand_names = IMPORT_OPERANDS},
    {.name = "catalog export",
     .summary = "digests or all columns, for other programs",
     .synopsis = "[options] CATALOG",
     .description = "Prints what the catalog knows of its slides or their outputs.",
     .examples = "slidemill catalog export corpus.smc --what outputs | (cd OUT && sha256sum -c)\n"
                 "    check every pyramid with another program\n",
     .exit_status = "0  done\n" EXIT_COMMON,
     .opts = EXPORT_OPTIONS,
     .n_opts = SM_COUNT(EXPORT_OPTIONS),
     .min_operands = 1,
     .max_operands = 1,
     .operand_names = CATALOG_OPERANDS,
     .aliases = "o=output"},
    {.name = "catalog status",
     .summary = "how far the corpus is, what failed, what to do next",
     .synopsis = "[options] CATALOG",
     .description =
         "Prints counts and bytes by state, failures by class with an example and what to "
         "do, bricks, and journals that wait for a merge.",
     .exit_status = "0  done\n" EXIT_COMMON,
     .opts = STATUS_OPTIONS,
     .n_opts = SM_COUNT(STATUS_OPTIONS),
     .min_operands = 1,
     .max_operands = 1,
     .operand_names = CATALOG_OPERANDS},
    {.name = "catalog list",
     .summary = "slides, by state, class, brick or path",
     .synopsis = "[options] CATALOG",
     .description = "Prints one slide a line, and below it why it failed.",
     .examples = "slidemill catalog list corpus.smc --state failed,quarantined\n"
                 "    what went wrong\n",
     .exit_status = "0  done\n" EXIT_COMMON,
     .opts = LIST_OPTIONS,
     .n_opts = SM_COUNT(LIST_OPTIONS),
     .min_operands = 1,
     .max_operands = 1,
     .operand_names = CATALOG_OPERANDS},
    {.name = "catalog retry",
     .summary = "let failed slides be tried again",
     .synopsis = "[options] CATALOG",
     .description = "Merges the journals, then puts the slides that fit all options back to work: "
                    "the next ingest takes them.",
     .examples = "slidemill catalog retry corpus.smc --class io\n"
                 "    the storage is well again\n",
     .exit_status = "0  done\n" EXIT_WRITER,
     .opts = RETRY_OPTIONS,
     .n_opts = SM_COUNT(RETRY_OPTIONS),
     .min_operands = 1,
     .max_operands = 1,
     .operand_names = CATALOG_OPERANDS},
    {.name = "catalog merge",
     .summary = "fold the journals of ingest into the catalog",
     .synopsis = "[options] CATALOG [JOURNAL]...",
     .description = "Takes the journals below CATALOG.d, and those named, which may be from "
                    "elsewhere. It may be done at any time and as often as one likes.",
     .exit_status = "0  done\n"
                    "2  wrong command line, or a file that is not there\n"
                    "65 a journal is damaged or of another catalog, the rest was taken; or the "
                    "catalog is damaged\n"
                    "74 reading or writing failed\n"
                    "75 interrupted, or somebody else holds the catalog; nothing was changed\n",
     .opts = MERGE_OPTIONS,
     .n_opts = SM_COUNT(MERGE_OPTIONS),
     .min_operands = 1,
     .max_operands = CATALOG_OPERANDS_MAX,
     .operand_names = CATALOG_OPERANDS},
    {.name = "catalog verify",
     .summary = "hash slides or pyramids again and compare",
     .synopsis = "[options] CATALOG",
     .description = "Runs slidemill ingest with --hash-only or --check-outputs over the whole "
                    "catalog, then merges what it found. Slides without a known digest get one.",
     .examples = "slidemill catalog verify corpus.smc --mpi 'mpirun -n 4'\n"
                 "    all slides, four at a time\n",
     .exit_status = "0  all agree\n"
                    "1  some do not; they are quarantined or failed\n" EXIT_WRITER,
     .opts = VERIFY_OPTIONS,
     .n_opts = SM_COUNT(VERIFY_OPTIONS),
     .min_operands = 1,
     .max_operands = 1,
     .operand_names = CATALOG_OPERANDS},
    {.name = "catalog fsck",
     .summary = "check the catalog itself: database, generations, journals",
     .synopsis = "[options] CATALOG",
     .description = "Prints faults, and notes of what is odd but harmless. Changes nothing.",
     .exit_status = "0  no faults\n"
                    "2  wrong command line, or a file that is not there\n"
                    "65 there are faults\n"
                    "74 reading failed\n"
                    "75 interrupted\n",
     .opts = FSCK_OPTIONS,
     .n_opts = SM_COUNT(FSCK_OPTIONS),
     .min_operands = 1,
     .max_operands = 1,
     .operand_names = CATALOG_OPERANDS},
};

/* In the order of SUBS. */
static int (*const DO[])(catalog_args *) = {
    catalog_create, catalog_scan,  catalog_import, catalog_export, catalog_status,
    catalog_list,   catalog_retry, catalog_merge,  catalog_verify, catalog_fsck,
};
_Static_assert(SM_COUNT(DO) == SM_COUNT(SUBS), "a function for each sub-command");

static const sm_command COMMAND = {
    .name = "catalog",
    .summary = "a corpus' books: which slides, their digests, what became of each",
    .synopsis = "COMMAND [options] CATALOG",
    .description =
        "A catalog is one file that says which slides a corpus has, what they must hash to, and "
        "what "
        "became of each. It is never changed in place: a change is made on a copy, which then "
        "takes "
        "its place, so whoever reads it sees one whole generation. Ranks of slidemill ingest write "
        "journals beside it; merge folds them in.\n"
        "\n"
        "`slidemill catalog COMMAND --help` prints a command's options.",
    .examples = "slidemill catalog create /mnt/corpus -o corpus.smc\n    begin\n"
                "slidemill catalog status corpus.smc\n    how far it is\n"
                "slidemill catalog list corpus.smc --state failed\n    what went wrong\n",
    .exit_status = "0  done\n"
                   "1  verify: some slides or pyramids do not agree with the catalog\n"
                   "2  wrong command line, or a file that is not there\n"
                   "65 damaged or refused input; fsck: there are faults\n"
                   "70 out of memory, or an error of slidemill's own\n"
                   "74 reading or writing failed; scan: something did not answer\n"
                   "75 interrupted, or somebody else holds the catalog\n",
    .min_operands = 1,
    .operand_names = PARENT_OPERANDS,
    .subs = SUBS,
    .n_subs = SM_COUNT(SUBS),
};

int main(int argc, char **argv)
{
    static catalog_args args; /* operands alone are 32 KiB */
    char title[64];
    int code = 0;
    const sm_command *sub = sm_opts_choose(&COMMAND, argc, argv, sm_catalog_library(), &code);

    if (sub == NULL || !sm_opts_start(sub, argc - 1, argv + 1, &args, args.operands,
                                      &args.n_operands, sm_catalog_library(), &code))
        return code;
    (void)snprintf(title, sizeof title, "slidemill %s", sub->name);
    args.title = title;
    sm_stop_install();
    return DO[sub - SUBS](&args);
}
