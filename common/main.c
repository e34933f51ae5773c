/* `slidemill CMD`: finds the program slidemill-CMD and becomes it, as git does, so that signals and
 * exit codes are that program's own and only slidemill-ingest need ever link MPI. */
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/error.h"
#include "common/opts.h"
#include "common/suggest.h"

/* What each command is for. A command is listed only where its program is installed. */
static const struct {
    const char *name;
    const char *summary;
} COMMANDS[] = {
    {"convert", "convert one slide into a verified, tiled pyramid"},
    {"info", "show what a slide holds: levels, tiles, codec, scale"},
    {"verify", "check that a pyramid is whole, and compare it with its source"},
    {"catalog", "a corpus' books: which slides, their digests, what became of each"},
    {"plan", "cut what is still to do into shards of equal bytes"},
    {"ingest", "convert the slides of a catalog, on one rank or many"},
    {"submit", "a catalog as a Slurm array, and its merge job"},
    {"status", "the Slurm queue and the catalog on one screen"},
    {"bench", "how fast are bricks, the pipeline and its peers; compare results"},
    {"model", "how long a corpus takes on a cluster, and what limits it"},
    {"report", "a corpus in figures and charts, as one HTML page"},
};

static const sm_command SLIDEMILL = {
    .summary = "whole-slide images in, verified re-tiled pyramids out",
    .synopsis = "COMMAND [options] ...",
    .description =
        "slidemill takes whole-slide images of pathology scanners and writes them back as "
        "compressed, "
        "re-tiled, verified pyramids that every viewer opens.\n"
        "\n"
        "Each command is a program of its own with its own manual: slidemill-convert(1) re-tiles a "
        "slide, slidemill-info(1) shows what one holds, slidemill-verify(1) checks one. A command "
        "is "
        "looked for beside this program, in ../libexec/slidemill, and in PATH. "
        "`slidemill help COMMAND` prints a command's options.",
    .examples =
        "slidemill convert in.svs out.ome.tiff\n    one slide in, one verified pyramid out\n"
        "slidemill help convert\n    every option of convert\n",
    .exit_status = "2  no such command\n74 the list of commands could not be written\n"
                   "Otherwise the command's own.\n",
};

/* The folder of this program, without a final slash; "" if the kernel does not say. */
static void own_folder(char folder[PATH_MAX])
{
    const ssize_t len = readlink("/proc/self/exe", folder, PATH_MAX - 1);

    folder[len > 0 ? len : 0] = '\0';
    char *slash = strrchr(folder, '/');
    if (slash != NULL)
        *slash = '\0';
}

static bool is_program(const char *path)
{
    return access(path, X_OK) == 0;
}

/* The first folder of PATH that has slidemill-NAME. Relative entries are passed over: whose program
 * runs must not depend on the folder one stands in. */
static bool find_in_path(const char *name, char path[PATH_MAX])
{
    const char *entry = getenv("PATH");

    while (entry != NULL && *entry != '\0') {
        const size_t len = strcspn(entry, ":");
        const int wrote = snprintf(path, PATH_MAX, "%.*s/slidemill-%s", (int)len, entry, name);
        if (*entry == '/' && wrote > 0 && wrote < PATH_MAX && is_program(path))
            return true;
        entry += len + (entry[len] == ':');
    }
    return false;
}

static bool find_command(const char *name, char path[PATH_MAX])
{
    static const char *const BESIDE[] = {"", "/../libexec/slidemill"};
    char folder[PATH_MAX];

    if (*name == '\0' || strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-") != strlen(name))
        return false;
    own_folder(folder);
    for (size_t i = 0; i < SM_COUNT(BESIDE); i++) {
        const int wrote = snprintf(path, PATH_MAX, "%s%s/slidemill-%s", folder, BESIDE[i], name);
        if (wrote > 0 && wrote < PATH_MAX && is_program(path))
            return true;
    }
    return find_in_path(name, path);
}

static int finish_output(void)
{
    errno = 0;
    if (fflush(stdout) == 0 && !ferror(stdout))
        return 0;
    (void)fprintf(stderr, "slidemill: standard output: %s\n", strerror(errno != 0 ? errno : EIO));
    return sm_exit_code(SM_ERR_IO);
}

static int list_commands(void)
{
    char path[PATH_MAX];

    (void)printf("Usage: slidemill COMMAND [options] ...\n\n%s.\n\nCommands:\n", SLIDEMILL.summary);
    for (size_t i = 0; i < SM_COUNT(COMMANDS); i++) {
        if (find_command(COMMANDS[i].name, path))
            (void)printf("  %-10s %s\n", COMMANDS[i].name, COMMANDS[i].summary);
    }
    (void)printf("\n'slidemill help COMMAND' says what a command does and takes.\n");
    return finish_output();
}

static int fail_unknown(const char *name)
{
    sm_suggestion best = {NULL, 0};
    char path[PATH_MAX];
    sm_error err = SM_ERROR_INIT; /* makes hostile bytes of the name printable */
    const char *const what = *name == '-' ? "an option of slidemill itself" : "a command";

    for (size_t i = 0; i < SM_COUNT(COMMANDS); i++) {
        if (find_command(COMMANDS[i].name, path))
            sm_suggest_offer(&best, name, COMMANDS[i].name);
    }
    if (best.word != NULL)
        (void)sm_fail(&err, SM_ERR_ARG, "'%s' is not %s; did you mean %s?", name, what, best.word);
    else
        (void)sm_fail(&err, SM_ERR_ARG, "'%s' is not %s; try 'slidemill help'", name, what);
    (void)fprintf(stderr, "slidemill: %s\n", err.message);
    return sm_exit_code(err.status);
}

/* Does not return when the command starts. */
static int run_command(const char *name, char **argv)
{
    char path[PATH_MAX];

    if (!find_command(name, path))
        return fail_unknown(name);
    argv[0] = path;
    (void)execv(path, argv);
    (void)fprintf(stderr, "slidemill: cannot run %s: %s\n", path, strerror(errno));
    return sm_exit_code(SM_ERR_IO);
}

int main(int argc, char **argv)
{
    const char *const word = argc > 1 ? argv[1] : "help";

    if (strcmp(word, "help") == 0 && argc > 2) {
        char help[] = "--help";
        char *help_argv[] = {argv[0], help, NULL};
        return run_command(argv[2], help_argv);
    }
    if (strcmp(word, "help") == 0 || strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0)
        return list_commands();
    if (strcmp(word, "--version") == 0) {
        sm_opts_print_version(&SLIDEMILL, NULL);
        return finish_output();
    }
    if (strcmp(word, "--man-page") == 0) {
        sm_opts_print_man(&SLIDEMILL);
        return finish_output();
    }
    return run_command(word, argv + 1);
}
