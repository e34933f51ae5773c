/* The man page, written from the same table as --help: roff with the man macros. Owns nothing. */
#include <ctype.h>
#include <string.h>

#include "common/opts.h"
#include "common/opts_internal.h"

/* Text as roff sees only text: '-' stays a minus that can be copied, '\' is itself, and a line
 * never begins with a control character. */
static void write_text(FILE *out, const char *text, size_t len, bool line_start)
{
    for (size_t i = 0; i < len; i++) {
        if (line_start && (text[i] == '.' || text[i] == '\''))
            (void)fputs("\\&", out);
        line_start = text[i] == '\n';
        if (text[i] == '\\')
            (void)fputs("\\e", out);
        else if (text[i] == '-')
            (void)fputs("\\-", out);
        else
            (void)fputc(text[i], out);
    }
}

/* A quoted macro argument: a quote inside it would end it. */
static void write_argument(FILE *out, const char *text)
{
    (void)fputc('"', out);
    for (; *text != '\0'; text++) {
        if (*text == '"')
            (void)fputs("\\(dq", out);
        else
            write_text(out, text, 1, false);
    }
    (void)fputc('"', out);
}

static void write_paragraphs(FILE *out, const char *text)
{
    bool verbatim = false;

    while (*text != '\0') {
        const size_t len = strcspn(text, "\n");
        const bool indented = len > 0 && text[0] == ' ';
        if (indented && !verbatim)
            (void)fputs(".nf\n", out);
        else if (!indented && verbatim)
            (void)fputs(".fi\n", out);
        verbatim = indented;
        if (len == 0) {
            (void)fputs(".PP\n", out);
        } else {
            write_text(out, text, len, true);
            (void)fputc('\n', out);
        }
        text += len + (text[len] == '\n');
    }
    if (verbatim)
        (void)fputs(".fi\n", out);
}

static void write_option(FILE *out, const sm_command *cmd, const sm_opt *opt)
{
    char facts[SM_OPT_TEXT_CAP];
    const char *value = sm_opt_metavar(opt);
    const char alias = sm_opt_alias(cmd, opt);

    (void)fputs(".TP\n", out);
    if (alias != '\0')
        (void)fprintf(out, "\\fB\\-%c\\fR, ", alias);
    (void)fputs("\\fB\\-\\-", out);
    write_text(out, opt->name, strlen(opt->name), false);
    (void)fputs("\\fR", out);
    if (value != NULL) {
        (void)fputs(" \\fI", out);
        write_text(out, value, strlen(value), false);
        (void)fputs("\\fR", out);
    }
    (void)fputc('\n', out);
    write_text(out, opt->help, strlen(opt->help), true);
    if (*sm_opt_facts(opt, facts) != '\0') {
        (void)fputs(" (", out);
        write_text(out, facts, strlen(facts), false);
        (void)fputc(')', out);
    }
    (void)fputc('\n', out);
}

/* "command\n    what it does\n" -> one .TP each. */
static void write_examples(FILE *out, const char *lines)
{
    while (*lines != '\0') {
        const size_t len = strcspn(lines, "\n");
        const size_t blank = strspn(lines, " ");
        if (len > 0 && blank == 0) {
            (void)fputs(".TP\n\\fB", out);
            write_text(out, lines, len, false);
            (void)fputs("\\fR\n", out);
        } else if (len > blank) {
            write_text(out, lines + blank, len - blank, true);
            (void)fputc('\n', out);
        }
        lines += len + (lines[len] == '\n');
    }
}

static void write_exit_codes(FILE *out, const char *lines)
{
    while (*lines != '\0') {
        const size_t len = strcspn(lines, "\n");
        const size_t code_len = strcspn(lines, " \n");
        const size_t blank = strspn(lines + code_len, " ");
        (void)fputs(".TP\n\\fB", out);
        write_text(out, lines, code_len, false);
        (void)fputs("\\fR\n", out);
        write_text(out, lines + code_len + blank, len - code_len - blank, true);
        (void)fputc('\n', out);
        lines += len + (lines[len] == '\n');
    }
}

static void write_head(FILE *out, const sm_command *cmd)
{
    char dashed[SM_OPT_TEXT_CAP];
    char spaced[SM_OPT_TEXT_CAP];

    (void)sm_command_title(cmd, '-', dashed);
    (void)sm_command_title(cmd, ' ', spaced);
    (void)fputs(".TH \"", out);
    for (const char *c = dashed; *c != '\0'; c++) {
        const char upper = (char)toupper((unsigned char)*c);
        write_text(out, &upper, 1, false);
    }
    (void)fprintf(out, "\" 1 \"\" \"slidemill %s\" \"User Commands\"\n.SH NAME\n", SM_VERSION);
    write_text(out, dashed, strlen(dashed), true);
    (void)fputs(" \\- ", out);
    write_text(out, cmd->summary, strlen(cmd->summary), false);
    (void)fputs("\n.SH SYNOPSIS\n.B ", out);
    write_argument(out, spaced);
    (void)fputc('\n', out);
    write_text(out, cmd->synopsis, strlen(cmd->synopsis), true);
    (void)fputc('\n', out);
}

/* One sub-command: a sub-section of its own, with its options. */
static void write_sub(FILE *out, const sm_command *sub)
{
    char title[SM_OPT_TEXT_CAP];

    (void)fputs(".SS ", out);
    write_argument(out, sm_command_word(sub));
    (void)fputs("\n.B ", out);
    write_argument(out, sm_command_title(sub, ' ', title));
    (void)fputc('\n', out);
    write_text(out, sub->synopsis, strlen(sub->synopsis), true);
    (void)fputs("\n.PP\n", out);
    write_paragraphs(out, sub->description);
    for (size_t i = 0; i < sub->n_opts; i++)
        write_option(out, sub, &sub->opts[i]);
}

void sm_opts_write_man(const sm_command *cmd, FILE *out)
{
    write_head(out, cmd);
    (void)fputs(".SH DESCRIPTION\n", out);
    write_paragraphs(out, cmd->description);
    if (cmd->n_subs > 0)
        (void)fputs(".SH COMMANDS\n", out);
    for (size_t i = 0; i < cmd->n_subs; i++)
        write_sub(out, &cmd->subs[i]);
    (void)fputs(".SH OPTIONS\n", out);
    for (size_t i = 0; i < cmd->n_opts; i++)
        write_option(out, cmd, &cmd->opts[i]);
    (void)fputs(".TP\n\\fB\\-\\-help\\fR\nPrint a summary of all this and exit.\n", out);
    (void)fputs(".TP\n\\fB\\-\\-version\\fR\nPrint the version and exit.\n", out);
    if (cmd->examples != NULL) {
        (void)fputs(".SH EXAMPLES\n", out);
        write_examples(out, cmd->examples);
    }
    if (cmd->exit_status != NULL) {
        (void)fputs(".SH \"EXIT STATUS\"\n", out);
        write_exit_codes(out, cmd->exit_status);
    }
    if (cmd->name != NULL)
        (void)fputs(".SH \"SEE ALSO\"\n.BR slidemill (1)\n", out);
}

void sm_opts_print_man(const sm_command *cmd)
{
    sm_opts_write_man(cmd, stdout);
}
