/* Command-line options from one table: the row is the parser, the range, the default, the --help
 * line and the man page entry. */
#ifndef SM_COMMON_OPTS_H
#define SM_COMMON_OPTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

typedef enum sm_opt_kind {
    SM_OPT_FLAG,   /* bool; no value; --no-NAME clears */
    SM_OPT_U32,    /* uint32_t, min..max */
    SM_OPT_BYTES,  /* uint64_t; 512, 4K, 256M, 2G, 1T, also KiB MiB GiB; powers of 1024; min..max */
    SM_OPT_STR,    /* const char *; points into argv */
    SM_OPT_CHOICE, /* int: index into the '|'-separated words of `unit` */
} sm_opt_kind;

typedef struct sm_opt {
    const char *name; /* without the dashes */
    sm_opt_kind kind;
    size_t field; /* offsetof in the config struct */
    uint64_t min, max;
    const char *def;  /* default as typed; NULL: field keeps 0/NULL/false */
    const char *unit; /* "px", "SIZE", "DIR"; for CHOICE the words: "auto|copy|retile" */
    const char *help; /* one or more sentences, wrapped by the printer */
} sm_opt;

/* A command, for its help, man page and operands. The one page of a command with sub-commands has
 * theirs too. */
typedef struct sm_command {
    const char *name;        /* "convert"; NULL: the dispatcher, `slidemill` itself */
    const char *summary;     /* one line, for `slidemill help` and the man page's NAME */
    const char *synopsis;    /* "[options] IN OUT" */
    const char *description; /* paragraphs separated by blank lines */
    const char *examples;    /* lines "command\n    what it does\n", NULL for none */
    const char *exit_status; /* lines "CODE meaning\n" */
    const sm_opt *opts;
    size_t n_opts;
    unsigned min_operands, max_operands;
    const char *const *operand_names; /* max_operands names, for messages: {"IN", "OUT"} */
    const char *aliases;              /* one-letter names: "o=output l=limit"; NULL: none */
    const struct sm_command *subs;    /* sub-commands, named "catalog scan"; NULL: none */
    size_t n_subs;
} sm_command;

/* What the parser found besides values. */
typedef enum sm_opts_action {
    SM_OPTS_RUN,
    SM_OPTS_HELP,    /* --help or -h */
    SM_OPTS_VERSION, /* --version */
    SM_OPTS_MAN,     /* --man-page: print roff (used by the build) */
} sm_opts_action;

/**
 * Fill config from defaults, then from argv[1..argc). `--name value` and `--name=value`; `--` ends
 * options; a unique prefix is NOT accepted. `-o value` for a name in cmd->aliases. Operands are
 * collected in order (they may stand between options); operands has room for max_operands pointers
 * into argv. SM_ERR_ARG: "--tile-px: '12z' is not a number in 64..4096 (px)", "--tiels: no such
 * option; did you mean --tiles?", "OUT is missing", ... A repeated option: the last wins. "-"
 * begins an operand only as "-" itself.
 */
SM_NODISCARD sm_status sm_opts_parse(const sm_command *cmd, int argc, char **argv, void *config,
                                     const char **operands, unsigned *n_operands,
                                     sm_opts_action *action, sm_error *err);

/** --help to standard output: usage, description, options with defaults and ranges, examples, exit
 *  codes; wrapped at 80 columns; bold only on a terminal without NO_COLOR. */
void sm_opts_print_help(const sm_command *cmd);
/** The same as a man page (roff, man macros), date-free so that builds repeat. */
void sm_opts_print_man(const sm_command *cmd);
/** "slidemill convert 0.1.0" and the library versions line if libs is not NULL. */
void sm_opts_print_version(const sm_command *cmd, const char *libs);

/** What every main does first: parse; print and exit_code = 0 for help/version/man; on a wrong
 *  command line print "slidemill convert: <message>" and "try 'slidemill convert --help'" to
 * stderr, exit_code = 2. True: go on and run. */
bool sm_opts_start(const sm_command *cmd, int argc, char **argv, void *config,
                   const char **operands, unsigned *n_operands, const char *libs, int *exit_code);

/** For a command with sub-commands: which one argv[1] names. Then go on with sm_opts_start(sub,
 *  argc - 1, argv + 1, ...). NULL: exit_code is to be returned; `help`, `help SUB`, --help and
 *  --version were answered, or it was said that there is no such sub-command, and which one may
 * have been meant. */
const sm_command *sm_opts_choose(const sm_command *cmd, int argc, char **argv, const char *libs,
                                 int *exit_code);

#endif
