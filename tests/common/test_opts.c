/* The option table as parser, and as --help and man page. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/opts.h"
#include "common/opts_internal.h"

typedef struct config {
    bool force, sync;
    uint32_t tile_px, any;
    uint64_t memory;
    const char *scratch, *name;
    int tiles;
} config;

#define AT(field) offsetof(config, field)
static const sm_opt OPTIONS[] = {
    {"force", SM_OPT_FLAG, AT(force), 0, 0, NULL, NULL, "replace OUT if it exists"},
    {"sync", SM_OPT_FLAG, AT(sync), 0, 0, "true", NULL, "sync"},
    {"tile-px", SM_OPT_U32, AT(tile_px), 64, 4096, "512", "px", "edge of an output tile"},
    {"any", SM_OPT_U32, AT(any), 0, 0, NULL, NULL, "any number"},
    {"memory", SM_OPT_BYTES, AT(memory), 64 << 20, UINT64_C(1) << 40, "256M", "SIZE",
     "stay within this much memory, which a slide that cannot fit is told at the start, "
     "before any work is done"},
    {"scratch", SM_OPT_STR, AT(scratch), 0, 0, NULL, "DIR", "folder for big temporary files"},
    {"name", SM_OPT_STR, AT(name), 0, 0, "none", NULL, "a name"},
    {"tiles", SM_OPT_CHOICE, AT(tiles), 0, 0, "auto", "auto|copy|retile|transcode",
     "how level 0 is made"},
};
static const char *const OPERANDS[] = {"IN", "OUT"};
static const sm_command COMMAND = {
    .name = "convert",
    .summary = "re-tile a slide",
    .synopsis = "[options] IN OUT",
    .description = "First paragraph, long enough that it has to be broken into two lines somewhere "
                   "near its\nmiddle part.\n\nSecond.\n    kept as  it is\n.dot 'quote \\slash",
    .examples = "slidemill convert a.svs b.tif\n    converts\n",
    .exit_status = "0 all good\n65 bad input\n",
    .opts = OPTIONS,
    .n_opts = SM_COUNT(OPTIONS),
    .min_operands = 2,
    .max_operands = 2,
    .operand_names = OPERANDS,
};

/* Everything one parse gives back. */
typedef struct result {
    config cfg;
    const char *operands[2];
    unsigned n_operands;
    sm_opts_action action;
    sm_error err;
    sm_status status;
} result;

/* line: words, one space between them; "_" stands for an empty word */
static result parse_line(const char *line)
{
    static char words[512]; /* results point into it until the next call */
    char *argv[32] = {(char[]){"slidemill-convert"}, NULL};
    int argc = 1;
    result r = {.err = SM_ERROR_INIT};

    (void)snprintf(words, sizeof(words), "%s", line);
    for (char *word = words; *word != '\0';) {
        const size_t len = strcspn(word, " ");
        const bool last = word[len] == '\0';
        word[len] = '\0';
        argv[argc++] = word;
        if (strcmp(word, "_") == 0)
            *word = '\0';
        word += len + !last;
        if (last)
            break;
    }
    r.status =
        sm_opts_parse(&COMMAND, argc, argv, &r.cfg, r.operands, &r.n_operands, &r.action, &r.err);
    return r;
}

static void defaults_come_from_the_table(void **state)
{
    (void)state;
    const result r = parse_line("a b");
    assert_int_equal(r.status, SM_OK);
    assert_int_equal(r.action, SM_OPTS_RUN);
    assert_false(r.cfg.force);
    assert_true(r.cfg.sync);
    assert_int_equal(r.cfg.tile_px, 512);
    assert_int_equal(r.cfg.any, 0);
    assert_int_equal(r.cfg.memory, 256 << 20);
    assert_null(r.cfg.scratch);
    assert_string_equal(r.cfg.name, "none");
    assert_int_equal(r.cfg.tiles, 0);
    assert_int_equal(r.n_operands, 2);
    assert_string_equal(r.operands[0], "a");
    assert_string_equal(r.operands[1], "b");
}

static void both_spellings_set_and_the_last_one_wins(void **state)
{
    (void)state;
    const result r = parse_line("--tile-px 256 in --tile-px=4096 --force --no-sync --tiles retile "
                                "--scratch=/tmp --any 4294967295 --memory 2GiB out --tile-px 64");
    assert_int_equal(r.status, SM_OK);
    assert_int_equal(r.cfg.tile_px, 64);
    assert_true(r.cfg.force);
    assert_false(r.cfg.sync);
    assert_int_equal(r.cfg.tiles, 2);
    assert_string_equal(r.cfg.scratch, "/tmp");
    assert_true(r.cfg.any == UINT32_MAX);
    assert_true(r.cfg.memory == UINT64_C(2) << 30);
    assert_string_equal(r.operands[0], "in");
    assert_string_equal(r.operands[1], "out");
    assert_false(parse_line("--force --no-force a b").cfg.force);
}

static void dashes_end_options_and_a_dash_is_an_operand(void **state)
{
    (void)state;
    result r = parse_line("- --");
    assert_int_equal(r.status, SM_ERR_ARG); /* OUT */
    r = parse_line("- -- --force");
    assert_int_equal(r.status, SM_OK);
    assert_string_equal(r.operands[0], "-");
    assert_string_equal(r.operands[1], "--force");
    assert_false(r.cfg.force);
    r = parse_line("-- --help --");
    assert_int_equal(r.action, SM_OPTS_RUN);
    assert_string_equal(r.operands[1], "--");
}

static void sizes_are_powers_of_1024(void **state)
{
    (void)state;
    static const struct {
        const char *line;
        uint64_t bytes;
    } cases[] = {
        {"--memory 67108864 a b", 64 << 20},    {"--memory 65536K a b", 64 << 20},
        {"--memory=64M a b", 64 << 20},         {"--memory=64m a b", 64 << 20},
        {"--memory=64MiB a b", 64 << 20},       {"--memory=2G a b", UINT64_C(2) << 30},
        {"--memory=1T a b", UINT64_C(1) << 40}, {"--memory=1024GiB a b", UINT64_C(1) << 40},
    };
    for (size_t i = 0; i < SM_COUNT(cases); i++) {
        const result r = parse_line(cases[i].line);
        if (r.status != SM_OK || r.cfg.memory != cases[i].bytes)
            fail_msg("%s: %s, %llu", cases[i].line, r.err.message,
                     (unsigned long long)r.cfg.memory);
    }
}

static void wrong_lines_are_refused_with_the_reason(void **state)
{
    (void)state;
    static const struct {
        const char *line, *message;
    } cases[] = {
        {"--tile-px=12z a b", "--tile-px: '12z' is not a number in 64..4096 (px)"},
        {"--tile-px=63 a b", "--tile-px: '63' is not a number in 64..4096 (px)"},
        {"--tile-px=4097 a b", "--tile-px: '4097' is not a number in 64..4096 (px)"},
        {"--tile-px=4294967808 a b", "--tile-px: '4294967808' is not a number in 64..4096 (px)"},
        {"--tile-px=+512 a b", "--tile-px: '+512' is not a number in 64..4096 (px)"},
        {"--tile-px=0x200 a b", "--tile-px: '0x200' is not a number in 64..4096 (px)"},
        {"--tile-px= a b", "--tile-px: the value is empty"},
        {"--tile-px _ a b", "--tile-px: the value is empty"},
        {"--any=-1 a b", "--any: '-1' is not a number"},
        {"--any=4294967296 a b", "--any: '4294967296' is not a number"},
        {"--any=99999999999999999999999 a b", "--any: '99999999999999999999999' is not a number"},
        {"a b --tile-px", "--tile-px: N is missing"},
        {"a b --scratch --force", "--scratch: DIR is missing before --force"},
        {"--memory=63M a b", "--memory: '63M' is not a size in 64M..1T (such as 512M or 2G)"},
        {"--memory=1MB a b", "--memory: '1MB' is not a size in 64M..1T (such as 512M or 2G)"},
        {"--memory=M a b", "--memory: 'M' is not a size in 64M..1T (such as 512M or 2G)"},
        {"--memory=99999999999999T a b",
         "--memory: '99999999999999T' is not a size in 64M..1T (such as 512M or 2G)"},
        {"--tiles=coppy a b",
         "--tiles: 'coppy' is not one of auto, copy, retile, transcode; did you mean copy?"},
        {"--tiles=Auto a b",
         "--tiles: 'Auto' is not one of auto, copy, retile, transcode; did you mean auto?"},
        {"--tiles=fast a b", "--tiles: 'fast' is not one of auto, copy, retile, transcode"},
        {"--tiles=auto|copy a b",
         "--tiles: 'auto|copy' is not one of auto, copy, retile, transcode"},
        {"--tiels=copy a b", "--tiels: no such option; did you mean --tiles?"},
        {"--tile=copy a b", "--tile: no such option; did you mean --tiles?"},
        {"--forc a b", "--forc: no such option; did you mean --force?"},
        {"--purple a b", "--purple: no such option"},
        {"-t a b", "-t: no such option"},
        {"-force a b", "-force: no such option; did you mean --force?"},
        {"--force=yes a b", "--force: takes no value"},
        {"--no-force=yes a b", "--no-force: takes no value"},
        {"--no-tiles a b", "--no-tiles: no such option"},
        {"", "IN is missing"},
        {"a", "OUT is missing"},
        {"a b c", "'c': one argument too many; the usage is [options] IN OUT"},
    };
    for (size_t i = 0; i < SM_COUNT(cases); i++) {
        const result r = parse_line(cases[i].line);
        if (r.status != SM_ERR_ARG || strcmp(r.err.message, cases[i].message) != 0)
            fail_msg("'%s': status %d, '%s'", cases[i].line, (int)r.status, r.err.message);
    }
}

/* ---- one-letter names and sub-commands ---- */

typedef struct sub_config {
    const char *output;
    bool all;
} sub_config;

static const sm_opt SUB_OPTIONS[] = {
    {"output", SM_OPT_STR, offsetof(sub_config, output), 0, 0, NULL, "FILE", "where to"},
    {"all", SM_OPT_FLAG, offsetof(sub_config, all), 0, 0, NULL, NULL, "everything"},
};
static const char *const SUB_OPERANDS[] = {"FILE"};
static const sm_command SUBS[] = {
    {.name = "books open",
     .summary = "open the books",
     .synopsis = "[options] FILE",
     .description = "Opens.",
     .opts = SUB_OPTIONS,
     .n_opts = SM_COUNT(SUB_OPTIONS),
     .min_operands = 1,
     .max_operands = 1,
     .operand_names = SUB_OPERANDS,
     .aliases = "o=output a=all"},
    {.name = "books close", .summary = "close the books", .synopsis = "", .description = "Closes."},
};
static const char *const BOOKS_OPERANDS[] = {"COMMAND"};
static const sm_command BOOKS = {
    .name = "books",
    .summary = "keep books",
    .synopsis = "COMMAND",
    .description = "Keeps books.",
    .min_operands = 1,
    .operand_names = BOOKS_OPERANDS,
    .subs = SUBS,
    .n_subs = SM_COUNT(SUBS),
};

static void one_letter_names_stand_for_options(void **state)
{
    (void)state;
    static const struct {
        const char *words[4];
        const char *output, *message; /* message NULL: it is fine */
        bool all;
    } cases[] = {
        {{"-o", "x", "in"}, "x", NULL, false},
        {{"-a", "in", "-o", "-"}, "-", NULL, true},
        {{"--output=y", "in", "-a"}, "y", NULL, true},
        {{"in", "-o"}, NULL, "--output: FILE is missing", false},
        {{"in", "-o", "--all"}, NULL, "--output: FILE is missing before --all", false},
        {{"in", "-x"}, NULL, "-x: no such option", false},
        {{"in", "-ox"}, NULL, "-ox: no such option", false},
        {{"in", "-o", ""}, NULL, "--output: the value is empty", false},
    };
    for (size_t i = 0; i < SM_COUNT(cases); i++) {
        char *argv[6] = {(char[]){"open"}};
        sub_config sub = {0};
        const char *operands[1] = {NULL};
        unsigned n_operands = 0;
        sm_opts_action action = SM_OPTS_RUN;
        sm_error err = SM_ERROR_INIT;
        int argc = 1;
        for (; argc <= 4 && cases[i].words[argc - 1] != NULL; argc++)
            argv[argc] = (char *)(uintptr_t)cases[i].words[argc - 1];
        const sm_status st =
            sm_opts_parse(&SUBS[0], argc, argv, &sub, operands, &n_operands, &action, &err);
        if ((st == SM_OK) != (cases[i].message == NULL) ||
            (st != SM_OK && strcmp(err.message, cases[i].message) != 0))
            fail_msg("case %zu: '%s'", i, err.message);
        if (st == SM_OK && (strcmp(sub.output, cases[i].output) != 0 || sub.all != cases[i].all))
            fail_msg("case %zu: output '%s'", i, sub.output);
    }
}

static void sub_commands_are_found_by_their_last_word(void **state)
{
    (void)state;
    char *open_argv[] = {(char[]){"books"}, (char[]){"open"}, (char[]){"--nonsense"}, NULL};
    char *close_argv[] = {(char[]){"books"}, (char[]){"close"}, NULL};
    int code = -1;

    assert_ptr_equal(sm_opts_choose(&BOOKS, 3, open_argv, NULL, &code), &SUBS[0]);
    assert_ptr_equal(sm_opts_choose(&BOOKS, 2, close_argv, NULL, &code), &SUBS[1]);
    assert_int_equal(code, -1);
}

static void help_and_version_need_no_operands(void **state)
{
    (void)state;
    static const struct {
        const char *line;
        sm_opts_action action;
    } cases[] = {
        {"--help", SM_OPTS_HELP},
        {"-h", SM_OPTS_HELP},
        {"a --help --nonsense", SM_OPTS_HELP},
        {"--version", SM_OPTS_VERSION},
        {"--man-page", SM_OPTS_MAN},
        {"a b", SM_OPTS_RUN},
    };
    for (size_t i = 0; i < SM_COUNT(cases); i++) {
        const result r = parse_line(cases[i].line);
        if (r.status != SM_OK || r.action != cases[i].action)
            fail_msg("'%s': action %d, '%s'", cases[i].line, (int)r.action, r.err.message);
    }
}

static void a_wrong_default_is_our_own_bug(void **state)
{
    (void)state;
    static const sm_opt wrong[] = {
        {"tile-px", SM_OPT_U32, AT(tile_px), 64, 4096, "32", "px", "edge"}};
    const sm_command cmd = {.name = "x", .opts = wrong, .n_opts = 1, .operand_names = OPERANDS};
    result r = {.err = SM_ERROR_INIT};
    char *argv[] = {(char[]){"x"}, NULL};

    assert_int_equal(
        sm_opts_parse(&cmd, 1, argv, &r.cfg, r.operands, &r.n_operands, &r.action, &r.err),
        SM_ERR_INTERNAL);
    assert_non_null(strstr(r.err.message, "wrong default: --tile-px: '32'"));
}

/* The caller frees. */
static char *written(void (*writer)(const sm_command *, FILE *))
{
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);

    assert_non_null(out);
    writer(&COMMAND, out);
    assert_int_equal(fclose(out), 0);
    return text;
}

static void write_plain_help(const sm_command *cmd, FILE *out)
{
    sm_opts_write_help(cmd, out, false);
}

static void write_bold_help(const sm_command *cmd, FILE *out)
{
    sm_opts_write_help(cmd, out, true);
}

static void help_reads_as_expected(void **state)
{
    (void)state;
    static const char WANT[] =
        "Usage: slidemill convert [options] IN OUT\n"
        "\n"
        "First paragraph, long enough that it has to be broken into two lines somewhere\n"
        "near its middle part.\n"
        "\n"
        "Second.\n"
        "    kept as  it is\n"
        ".dot 'quote \\slash\n"
        "\n"
        "Options:\n"
        "  --force                 replace OUT if it exists\n"
        "  --sync                  sync (default on; --no-sync turns it off)\n"
        "  --tile-px N             edge of an output tile (64..4096 px; default 512)\n"
        "  --any N                 any number\n"
        "  --memory SIZE           stay within this much memory, which a slide that\n"
        "                          cannot fit is told at the start, before any work is\n"
        "                          done (64M..1T; default 256M)\n"
        "  --scratch DIR           folder for big temporary files\n"
        "  --name TEXT             a name (default none)\n"
        "  --tiles auto|copy|retile|transcode\n"
        "                          how level 0 is made (default auto)\n"
        "  --help                  print this and exit\n"
        "  --version               print the version and exit\n"
        "\n"
        "Examples:\n"
        "  slidemill convert a.svs b.tif\n"
        "      converts\n"
        "\n"
        "Exit status:\n"
        "  0   all good\n"
        "  65  bad input\n";
    char *text = written(write_plain_help);

    assert_string_equal(text, WANT);
    free(text);
}

static void bold_help_differs_only_by_escapes(void **state)
{
    (void)state;
    char *plain = written(write_plain_help);
    char *bold = written(write_bold_help);
    size_t n = 0;

    for (const char *p = bold; *p != '\0';) {
        if (strncmp(p, "\033[1m", 4) == 0 || strncmp(p, "\033[0m", 4) == 0)
            p += 4;
        else
            bold[n++] = *p++;
    }
    assert_true(bold[n] != '\0'); /* there were escapes */
    bold[n] = '\0';
    assert_string_equal(bold, plain);
    free(plain);
    free(bold);
}

static void help_and_man_page_have_sub_commands_and_letters(void **state)
{
    (void)state;
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);

    assert_non_null(out);
    sm_opts_write_help(&BOOKS, out, false);
    sm_opts_write_help(&SUBS[0], out, false);
    sm_opts_write_man(&BOOKS, out);
    assert_int_equal(fclose(out), 0);
    assert_non_null(strstr(text, "\nCommands:\n  open      open the books\n"));
    assert_non_null(strstr(text, "\n  -o, --output FILE       where to\n"));
    assert_non_null(strstr(text, "\n.SH COMMANDS\n.SS \"open\"\n"));
    assert_non_null(strstr(text, "\n.TP\n\\fB\\-a\\fR, \\fB\\-\\-all\\fR\neverything\n"));
    free(text);
}

static void man_page_escapes_what_roff_would_eat(void **state)
{
    (void)state;
    char *text = written(sm_opts_write_man);

    assert_memory_equal(text, ".TH \"SLIDEMILL\\-CONVERT\" 1 \"\" \"slidemill ", 41);
    assert_non_null(strstr(text, "\n.SH NAME\nslidemill\\-convert \\- re\\-tile a slide\n"));
    assert_non_null(strstr(text, "\n\\&.dot 'quote \\eslash\n"));
    assert_non_null(strstr(text, "\n.nf\n    kept as  it is\n.fi\n"));
    assert_non_null(strstr(text, ".TP\n\\fB\\-\\-tile\\-px\\fR \\fIN\\fR\nedge of an output tile "
                                 "(64..4096 px; default 512)\n"));
    assert_non_null(strstr(text, ".TP\n\\fB65\\fR\nbad input\n"));
    free(text);
}

/* Run sm_opts_start on one word with a standard stream sent to path. */
static int start_with(int stream, const char *path, const char *word)
{
    char name[] = "slidemill-convert";
    char arg[32];
    char *argv[] = {name, arg, NULL};
    result r = {.err = SM_ERROR_INIT};
    int code = -1;

    (void)snprintf(arg, sizeof(arg), "%s", word);
    (void)fflush(stdout);
    const int saved = dup(stream);
    assert_non_null(freopen(path, "w", stream == STDOUT_FILENO ? stdout : stderr));
    const bool go_on =
        sm_opts_start(&COMMAND, 2, argv, &r.cfg, r.operands, &r.n_operands, NULL, &code);
    (void)fflush(stream == STDOUT_FILENO ? stdout : stderr);
    clearerr(stream == STDOUT_FILENO ? stdout : stderr);
    assert_true(dup2(saved, stream) >= 0);
    (void)close(saved);
    assert_false(go_on);
    return code;
}

static void start_turns_a_wrong_line_into_exit_2(void **state)
{
    (void)state;
    assert_int_equal(start_with(STDERR_FILENO, "/dev/null", "--tiels"), 2);
    assert_int_equal(start_with(STDOUT_FILENO, "/dev/null", "--help"), 0);
}

static void help_to_a_full_disk_is_a_storage_error(void **state)
{
    (void)state;
    if (access("/dev/full", W_OK) != 0)
        skip();
    assert_int_equal(start_with(STDOUT_FILENO, "/dev/full", "--help"), 74);
    assert_int_equal(start_with(STDOUT_FILENO, "/dev/full", "--version"), 74);
    assert_int_equal(start_with(STDOUT_FILENO, "/dev/full", "--man-page"), 74);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_come_from_the_table),
        cmocka_unit_test(both_spellings_set_and_the_last_one_wins),
        cmocka_unit_test(dashes_end_options_and_a_dash_is_an_operand),
        cmocka_unit_test(sizes_are_powers_of_1024),
        cmocka_unit_test(wrong_lines_are_refused_with_the_reason),
        cmocka_unit_test(one_letter_names_stand_for_options),
        cmocka_unit_test(sub_commands_are_found_by_their_last_word),
        cmocka_unit_test(help_and_version_need_no_operands),
        cmocka_unit_test(a_wrong_default_is_our_own_bug),
        cmocka_unit_test(help_reads_as_expected),
        cmocka_unit_test(bold_help_differs_only_by_escapes),
        cmocka_unit_test(help_and_man_page_have_sub_commands_and_letters),
        cmocka_unit_test(man_page_escapes_what_roff_would_eat),
        cmocka_unit_test(start_turns_a_wrong_line_into_exit_2),
        cmocka_unit_test(help_to_a_full_disk_is_a_storage_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
