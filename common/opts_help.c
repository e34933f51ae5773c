/* --help and --version, written from the command's table. Owns nothing. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/opts.h"
#include "common/opts_internal.h"

#define WIDTH 80
#define COMMAND_COLUMN 12
#define OPTION_COLUMN 26 /* where the descriptions of options begin */

const char *sm_opt_metavar(const sm_opt *opt)
{
    switch (opt->kind) {
    case SM_OPT_FLAG:
        return NULL;
    case SM_OPT_U32:
        return "N";
    case SM_OPT_BYTES:
        return opt->unit != NULL ? opt->unit : "SIZE";
    case SM_OPT_STR:
        return opt->unit != NULL ? opt->unit : "TEXT";
    case SM_OPT_CHOICE:
        return opt->unit;
    }
    return NULL;
}

bool sm_opt_is_on_by_default(const sm_opt *opt)
{
    return opt->kind == SM_OPT_FLAG && opt->def != NULL && strcmp(opt->def, "true") == 0;
}

/* 67108864 -> "64M": the largest unit that divides it. */
static void format_bound(const sm_opt *opt, uint64_t value, char out[32])
{
    static const char LETTERS[] = "KMGT";
    char suffix[2] = "";

    for (size_t i = 0; opt->kind == SM_OPT_BYTES && i < 4; i++) {
        if (value == 0 || value % 1024 != 0)
            break;
        value /= 1024;
        suffix[0] = LETTERS[i];
    }
    (void)snprintf(out, 32, "%llu%s", (unsigned long long)value, suffix);
}

const char *sm_opt_range(const sm_opt *opt, char out[SM_OPT_TEXT_CAP])
{
    char low[32];
    char high[32];
    const uint64_t type_max = opt->kind == SM_OPT_U32 ? UINT32_MAX : UINT64_MAX;
    const bool open_end = opt->max == 0 || opt->max >= type_max;

    out[0] = '\0';
    if (opt->kind != SM_OPT_U32 && opt->kind != SM_OPT_BYTES)
        return out;
    format_bound(opt, opt->min, low);
    format_bound(opt, opt->max, high);
    if (!open_end)
        (void)snprintf(out, SM_OPT_TEXT_CAP, "%s..%s", low, high);
    else if (opt->min > 0)
        (void)snprintf(out, SM_OPT_TEXT_CAP, "%s or more", low);
    return out;
}

const char *sm_opt_facts(const sm_opt *opt, char out[SM_OPT_TEXT_CAP])
{
    char range[SM_OPT_TEXT_CAP];
    const char *text = sm_opt_range(opt, range);
    const char *unit = opt->kind == SM_OPT_U32 && opt->unit != NULL ? opt->unit : "";
    const bool has_default = opt->def != NULL && opt->kind != SM_OPT_FLAG;

    if (sm_opt_is_on_by_default(opt)) {
        (void)snprintf(out, SM_OPT_TEXT_CAP, "default on; --no-%s turns it off", opt->name);
        return out;
    }
    (void)snprintf(out, SM_OPT_TEXT_CAP, "%s%s%s%s%s%s", text,
                   *text != '\0' && *unit != '\0' ? " " : "", unit,
                   (*text != '\0' || *unit != '\0') && has_default ? "; " : "",
                   has_default ? "default " : "", has_default ? opt->def : "");
    return out;
}

char sm_opt_alias(const sm_command *cmd, const sm_opt *opt)
{
    const size_t len = strlen(opt->name);

    for (const char *at = cmd->aliases; at != NULL && *at != '\0';) {
        const size_t word = strcspn(at, " ");
        if (word == len + 2 && at[1] == '=' && memcmp(at + 2, opt->name, len) == 0)
            return *at;
        at += word + strspn(at + word, " ");
    }
    return '\0';
}

const char *sm_command_word(const sm_command *sub)
{
    const char *space = strrchr(sub->name, ' ');

    return space != NULL ? space + 1 : sub->name;
}

const char *sm_command_title(const sm_command *cmd, char sep, char out[SM_OPT_TEXT_CAP])
{
    if (cmd->name == NULL)
        (void)snprintf(out, SM_OPT_TEXT_CAP, "slidemill");
    else
        (void)snprintf(out, SM_OPT_TEXT_CAP, "slidemill%c%s", sep, cmd->name);
    return out;
}

/* A line being filled with words: the next word goes on it or on the next one. */
typedef struct wrap {
    FILE *out;
    unsigned column; /* characters on this line */
    unsigned indent; /* of every further line */
    bool fresh;      /* no word on this line yet */
} wrap;

static unsigned text_columns(const char *text, size_t len)
{
    unsigned n = 0;

    for (size_t i = 0; i < len; i++)
        n += ((unsigned char)text[i] & 0xC0) != 0x80; /* UTF-8 continuation bytes take no room */
    return n;
}

static void wrap_newline(wrap *w)
{
    (void)fputc('\n', w->out);
    w->column = 0;
    w->fresh = true;
}

static void wrap_words(wrap *w, const char *text, size_t len)
{
    const char *const end = text + len;

    while (text < end) {
        while (text < end && (*text == ' ' || *text == '\n'))
            text++;
        const char *word = text;
        while (text < end && *text != ' ' && *text != '\n')
            text++;
        if (text == word)
            break;
        const unsigned columns = text_columns(word, (size_t)(text - word));
        if (!w->fresh && w->column + 1 + columns > WIDTH)
            wrap_newline(w);
        if (!w->fresh) {
            (void)fputc(' ', w->out);
            w->column++;
        }
        for (; w->column < w->indent; w->column++)
            (void)fputc(' ', w->out);
        (void)fwrite(word, 1, (size_t)(text - word), w->out);
        w->column += columns;
        w->fresh = false;
    }
}

/* Paragraphs are separated by blank lines and filled anew; indented lines stay as they are. */
static void write_paragraphs(FILE *out, const char *text, unsigned indent)
{
    wrap w = {out, 0, indent, true};

    while (*text != '\0') {
        const size_t len = strcspn(text, "\n");
        const bool verbatim = len > 0 && text[0] == ' ';
        if ((len == 0 || verbatim) && !w.fresh)
            wrap_newline(&w);
        if (len == 0)
            (void)fputc('\n', out);
        else if (verbatim)
            (void)fprintf(out, "%*s%.*s\n", (int)indent, "", (int)len, text);
        else
            wrap_words(&w, text, len);
        text += len + (text[len] == '\n');
    }
    if (!w.fresh)
        wrap_newline(&w);
}

static void write_heading(FILE *out, const char *text, bool bold)
{
    (void)fprintf(out, "\n%s%s:%s\n", bold ? "\033[1m" : "", text, bold ? "\033[0m" : "");
}

/* "  LEFT    text": text begins at `column`, on a line of its own when LEFT is too long. */
static void write_row(FILE *out, const char *left, const char *value, const char *text,
                      unsigned column, bool bold)
{
    const char *space = *value != '\0' ? " " : "";
    const unsigned columns = 2 + text_columns(left, strlen(left)) + (unsigned)strlen(space) +
                             text_columns(value, strlen(value));
    wrap w = {out, columns, column, true};

    (void)fprintf(out, "  %s%s%s%s%s", bold ? "\033[1m" : "", left, bold ? "\033[0m" : "", space,
                  value);
    if (columns + 2 > column)
        wrap_newline(&w);
    wrap_words(&w, text, strlen(text));
    wrap_newline(&w);
}

static void write_option(FILE *out, const sm_command *cmd, const sm_opt *opt, bool bold)
{
    char left[SM_OPT_TEXT_CAP];
    char facts[SM_OPT_TEXT_CAP];
    char text[2048];
    const char *value = sm_opt_metavar(opt);

    const char alias = sm_opt_alias(cmd, opt);

    if (alias != '\0')
        (void)snprintf(left, sizeof(left), "-%c, --%s", alias, opt->name);
    else
        (void)snprintf(left, sizeof(left), "--%s", opt->name);
    (void)sm_opt_facts(opt, facts);
    (void)snprintf(text, sizeof(text), "%s%s%s%s", opt->help, *facts != '\0' ? " (" : "", facts,
                   *facts != '\0' ? ")" : "");
    write_row(out, left, value != NULL ? value : "", text, OPTION_COLUMN, bold);
}

static void write_exit_codes(FILE *out, const char *lines, bool bold)
{
    while (*lines != '\0') {
        char code[16];
        char meaning[512];
        const size_t len = strcspn(lines, "\n");
        const size_t code_len = strcspn(lines, " \n");
        (void)snprintf(code, sizeof(code), "%.*s", (int)code_len, lines);
        (void)snprintf(meaning, sizeof(meaning), "%.*s", (int)(len - code_len), lines + code_len);
        write_row(out, code, "", meaning, 6, bold);
        lines += len + (lines[len] == '\n');
    }
}

void sm_opts_write_help(const sm_command *cmd, FILE *out, bool bold)
{
    char title[SM_OPT_TEXT_CAP];

    (void)fprintf(out, "%sUsage:%s %s %s\n\n", bold ? "\033[1m" : "", bold ? "\033[0m" : "",
                  sm_command_title(cmd, ' ', title), cmd->synopsis);
    write_paragraphs(out, cmd->description, 0);
    if (cmd->n_subs > 0)
        write_heading(out, "Commands", bold);
    for (size_t i = 0; i < cmd->n_subs; i++)
        write_row(out, sm_command_word(&cmd->subs[i]), "", cmd->subs[i].summary, COMMAND_COLUMN,
                  bold);
    write_heading(out, "Options", bold);
    for (size_t i = 0; i < cmd->n_opts; i++)
        write_option(out, cmd, &cmd->opts[i], bold);
    write_row(out, "--help", "", "print this and exit", OPTION_COLUMN, bold);
    write_row(out, "--version", "", "print the version and exit", OPTION_COLUMN, bold);
    if (cmd->examples != NULL) {
        write_heading(out, "Examples", bold);
        for (const char *line = cmd->examples; *line != '\0';) {
            const size_t len = strcspn(line, "\n");
            (void)fprintf(out, "%s%.*s\n", len > 0 ? "  " : "", (int)len, line);
            line += len + (line[len] == '\n');
        }
    }
    if (cmd->exit_status != NULL) {
        write_heading(out, "Exit status", bold);
        write_exit_codes(out, cmd->exit_status, bold);
    }
}

void sm_opts_print_help(const sm_command *cmd)
{
    const char *no_color = getenv("NO_COLOR");
    const char *term = getenv("TERM");
    const bool plain = (no_color != NULL && *no_color != '\0') || term == NULL ||
                       strcmp(term, "dumb") == 0 || !isatty(STDOUT_FILENO);

    sm_opts_write_help(cmd, stdout, !plain);
}

void sm_opts_print_version(const sm_command *cmd, const char *libs)
{
    char title[SM_OPT_TEXT_CAP];

    (void)printf("%s %s\n", sm_command_title(cmd, ' ', title), SM_VERSION);
    if (libs != NULL)
        (void)printf("%s\n", libs);
}
