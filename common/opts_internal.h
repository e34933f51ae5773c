/* What the option parser and the two printers (--help, man page) share. Not for other modules. */
#ifndef SM_COMMON_OPTS_INTERNAL_H
#define SM_COMMON_OPTS_INTERNAL_H

#include <stdbool.h>
#include <stdio.h>

#include "common/opts.h"

/* Longest option text ("--tiles auto|copy|retile|transcode", "64..4096 px; default 512"). */
#define SM_OPT_TEXT_CAP 256

/** What stands for the value in a usage line: "N", "SIZE", "DIR", "a|b"; NULL for a flag. */
const char *sm_opt_metavar(const sm_opt *opt);

/** "64..4096 px; default 512": range and default of an option, "" if it has neither. */
const char *sm_opt_facts(const sm_opt *opt, char out[SM_OPT_TEXT_CAP]);

/** "64..4096", "at least 64M": the allowed values of a U32 or BYTES option, "" if all are. */
const char *sm_opt_range(const sm_opt *opt, char out[SM_OPT_TEXT_CAP]);

/** True for a flag that is on unless --no-NAME is given. */
bool sm_opt_is_on_by_default(const sm_opt *opt);

/** The option's one-letter name; 0 if it has none. */
char sm_opt_alias(const sm_command *cmd, const sm_opt *opt);

/** Name of a sub-command as it is typed: the last word of its name. */
const char *sm_command_word(const sm_command *sub);

/** "slidemill convert", or "slidemill" for the dispatcher (no name); sep is ' ' or '-'. */
const char *sm_command_title(const sm_command *cmd, char sep, char out[SM_OPT_TEXT_CAP]);

/** The help text on a stream; bold with terminal escapes. */
void sm_opts_write_help(const sm_command *cmd, FILE *out, bool bold);
void sm_opts_write_man(const sm_command *cmd, FILE *out);

#endif
