/* The command-line parser: one table row says how a word becomes a field of the config struct.
 * Owns nothing; strings point into argv or the table. */
#include "common/opts.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/opts_internal.h"
#include "common/suggest.h"

/* The four that every command has. They stand in no table because they fill no field. */
static const struct {
    const char *name;
    sm_opts_action action;
} ACTIONS[] = {
    {"--help", SM_OPTS_HELP},
    {"-h", SM_OPTS_HELP},
    {"--version", SM_OPTS_VERSION},
    {"--man-page", SM_OPTS_MAN},
};

/* A command line on its way through the parser. */
typedef struct parse {
    const sm_command *cmd;
    int argc;
    char **argv;
    int at; /* next word */
    void *config;
    const char **operands;
    unsigned n_operands;
} parse;

static void store(void *config, const sm_opt *opt, const void *value, size_t len)
{
    memcpy((char *)config + opt->field, value, len);
}

/* Decimal digits only: no sign, space, hexadecimal or rest, which strtoull would all let pass. */
static bool digits_read(const char *text, const char **end, uint64_t *number)
{
    const char *p = text;

    *number = 0;
    for (; *p >= '0' && *p <= '9'; p++) {
        if (__builtin_mul_overflow(*number, UINT64_C(10), number) ||
            __builtin_add_overflow(*number, (uint64_t)(*p - '0'), number))
            return false;
    }
    *end = p;
    return p != text;
}

static bool bytes_read(const char *text, uint64_t *bytes)
{
    static const char LETTERS[] = "KMGT";
    const char *end = NULL;

    if (!digits_read(text, &end, bytes))
        return false;
    if (*end == '\0')
        return true;
    const char upper = (char)(*end >= 'a' && *end <= 'z' ? *end - 'a' + 'A' : *end);
    const char *letter = strchr(LETTERS, upper);
    if (letter == NULL || (end[1] != '\0' && strcmp(end + 1, "iB") != 0))
        return false;
    const unsigned shift = 10 * (unsigned)(letter - LETTERS + 1);
    if (*bytes > UINT64_MAX >> shift)
        return false;
    *bytes <<= shift;
    return true;
}

/* A row without a range (0, 0) takes every value of its type. */
static bool in_range(const sm_opt *opt, uint64_t value, uint64_t type_max)
{
    const uint64_t max = opt->max != 0 ? opt->max : type_max;

    return value >= opt->min && value <= max;
}

static sm_status set_u32(const sm_opt *opt, const char *value, void *config, sm_error *err)
{
    char range[SM_OPT_TEXT_CAP];
    const char *end = NULL;
    uint64_t wide = 0;

    if (!digits_read(value, &end, &wide) || *end != '\0' || !in_range(opt, wide, UINT32_MAX)) {
        const char *text = sm_opt_range(opt, range);
        const char *unit = opt->unit != NULL ? opt->unit : "";
        return sm_fail(err, SM_ERR_ARG, "--%s: '%s' is not a number%s%s%s%s%s", opt->name, value,
                       *text != '\0' ? " in " : "", text, *unit != '\0' ? " (" : "", unit,
                       *unit != '\0' ? ")" : "");
    }
    const uint32_t number = (uint32_t)wide;
    store(config, opt, &number, sizeof(number));
    return SM_OK;
}

static sm_status set_bytes(const sm_opt *opt, const char *value, void *config, sm_error *err)
{
    char range[SM_OPT_TEXT_CAP];
    uint64_t bytes = 0;

    if (!bytes_read(value, &bytes) || !in_range(opt, bytes, UINT64_MAX)) {
        const char *text = sm_opt_range(opt, range);
        return sm_fail(err, SM_ERR_ARG, "--%s: '%s' is not a size%s%s (such as 512M or 2G)",
                       opt->name, value, *text != '\0' ? " in " : "", text);
    }
    store(config, opt, &bytes, sizeof(bytes));
    return SM_OK;
}

/* Copy the index-th '|'-separated word; false after the last. */
static bool choice_word(const char *words, int index, char *out, size_t cap)
{
    for (; index > 0; index--) {
        words = strchr(words, '|');
        if (words == NULL)
            return false;
        words++;
    }
    const size_t len = strcspn(words, "|");
    if (len >= cap)
        return false;
    memcpy(out, words, len);
    out[len] = '\0';
    return true;
}

static sm_status set_choice(const sm_opt *opt, const char *value, void *config, sm_error *err)
{
    char word[64];
    char near_word[64] = "";
    char list[SM_OPT_TEXT_CAP] = "";
    size_t list_len = 0;
    sm_suggestion best = {NULL, 0};

    for (int i = 0; choice_word(opt->unit, i, word, sizeof(word)); i++) {
        if (strcmp(word, value) == 0) {
            store(config, opt, &i, sizeof(i));
            return SM_OK;
        }
        const int wrote =
            snprintf(list + list_len, sizeof(list) - list_len, "%s%s", i > 0 ? ", " : "", word);
        if (wrote > 0 && (size_t)wrote < sizeof(list) - list_len)
            list_len += (size_t)wrote;
        const size_t distance_before = best.word != NULL ? best.distance : SIZE_MAX;
        sm_suggest_offer(&best, value, word);
        if (best.word != NULL && best.distance < distance_before)
            memcpy(near_word, word, sizeof(word)); /* `word` is overwritten by the next round */
    }
    return sm_fail(err, SM_ERR_ARG, "--%s: '%s' is not one of %s%s%s%s", opt->name, value, list,
                   best.word != NULL ? "; did you mean " : "", near_word,
                   best.word != NULL ? "?" : "");
}

/* Flags come here only from their default. */
static sm_status set_flag(const sm_opt *opt, const char *value, void *config, sm_error *err)
{
    const bool on = strcmp(value, "true") == 0;

    if (!on && strcmp(value, "false") != 0)
        return sm_fail(err, SM_ERR_ARG, "--%s: '%s' is not true or false", opt->name, value);
    store(config, opt, &on, sizeof(on));
    return SM_OK;
}

static sm_status set_value(const sm_opt *opt, const char *value, void *config, sm_error *err)
{
    if (*value == '\0')
        return sm_fail(err, SM_ERR_ARG, "--%s: the value is empty", opt->name);
    switch (opt->kind) {
    case SM_OPT_FLAG:
        return set_flag(opt, value, config, err);
    case SM_OPT_U32:
        return set_u32(opt, value, config, err);
    case SM_OPT_BYTES:
        return set_bytes(opt, value, config, err);
    case SM_OPT_STR:
        store(config, opt, &value, sizeof(value));
        return SM_OK;
    case SM_OPT_CHOICE:
        return set_choice(opt, value, config, err);
    }
    return sm_fail(err, SM_ERR_INTERNAL, "--%s: option kind %d", opt->name, (int)opt->kind);
}

static sm_status set_defaults(const sm_command *cmd, void *config, sm_error *err)
{
    for (size_t i = 0; i < cmd->n_opts; i++) {
        const sm_opt *opt = &cmd->opts[i];
        if (opt->def == NULL)
            continue;
        if (set_value(opt, opt->def, config, err) != SM_OK) {
            err->status = SM_ERR_INTERNAL; /* the table is wrong, not the user */
            sm_error_prefix(err, "wrong default");
            return SM_ERR_INTERNAL;
        }
    }
    return SM_OK;
}

static const sm_opt *find_option(const sm_command *cmd, const char *name, size_t len)
{
    for (size_t i = 0; i < cmd->n_opts; i++) {
        if (strlen(cmd->opts[i].name) == len && memcmp(cmd->opts[i].name, name, len) == 0)
            return &cmd->opts[i];
    }
    return NULL;
}

static sm_status fail_unknown(const sm_command *cmd, const char *word, sm_error *err)
{
    char typed[128];
    sm_suggestion best = {NULL, 0};
    const char *name = word + strspn(word, "-");

    (void)snprintf(typed, sizeof(typed), "%.*s", (int)strcspn(name, "="), name);
    for (size_t i = 0; i < cmd->n_opts; i++)
        sm_suggest_offer(&best, typed, cmd->opts[i].name);
    sm_suggest_offer(&best, typed, "help");
    sm_suggest_offer(&best, typed, "version");
    if (best.word != NULL)
        return sm_fail(err, SM_ERR_ARG, "%.*s: no such option; did you mean --%s?",
                       (int)strcspn(word, "="), word, best.word);
    return sm_fail(err, SM_ERR_ARG, "%.*s: no such option", (int)strcspn(word, "="), word);
}

static sm_status set_bool(const sm_opt *opt, bool on, const char *equals, void *config,
                          sm_error *err)
{
    if (equals != NULL)
        return sm_fail(err, SM_ERR_ARG, "--%s%s: takes no value", on ? "" : "no-", opt->name);
    store(config, opt, &on, sizeof(on));
    return SM_OK;
}

/* The value stands behind '=', or is the next word. */
static sm_status parse_value(parse *p, const sm_opt *opt, const char *equals, sm_error *err)
{
    if (opt->kind == SM_OPT_FLAG)
        return set_bool(opt, true, equals, p->config, err);
    if (equals != NULL)
        return set_value(opt, equals + 1, p->config, err);
    if (p->at >= p->argc)
        return sm_fail(err, SM_ERR_ARG, "--%s: %s is missing", opt->name, sm_opt_metavar(opt));
    /* `--scratch --force` is a forgotten value far more often than a folder named --force */
    if (strncmp(p->argv[p->at], "--", 2) == 0)
        return sm_fail(err, SM_ERR_ARG, "--%s: %s is missing before %s", opt->name,
                       sm_opt_metavar(opt), p->argv[p->at]);
    return set_value(opt, p->argv[p->at++], p->config, err);
}

static sm_status parse_short(parse *p, const char *word, sm_error *err)
{
    for (size_t i = 0; word[2] == '\0' && i < p->cmd->n_opts; i++) {
        if (sm_opt_alias(p->cmd, &p->cmd->opts[i]) == word[1])
            return parse_value(p, &p->cmd->opts[i], NULL, err);
    }
    return fail_unknown(p->cmd, word, err);
}

static sm_status parse_long(parse *p, const char *word, sm_error *err)
{
    const char *name = word + 2;
    const char *equals = strchr(name, '=');
    const size_t len = equals != NULL ? (size_t)(equals - name) : strlen(name);
    const sm_opt *opt = find_option(p->cmd, name, len);

    if (opt == NULL && len > 3 && memcmp(name, "no-", 3) == 0) {
        opt = find_option(p->cmd, name + 3, len - 3);
        if (opt != NULL && opt->kind == SM_OPT_FLAG)
            return set_bool(opt, false, equals, p->config, err);
        opt = NULL;
    }
    if (opt == NULL)
        return fail_unknown(p->cmd, word, err);
    return parse_value(p, opt, equals, err);
}

static sm_status add_operand(parse *p, const char *word, sm_error *err)
{
    if (p->n_operands >= p->cmd->max_operands)
        return sm_fail(err, SM_ERR_ARG, "'%s': one argument too many; the usage is %s", word,
                       p->cmd->synopsis);
    p->operands[p->n_operands++] = word;
    return SM_OK;
}

static bool find_action(const char *word, sm_opts_action *action)
{
    for (size_t i = 0; i < SM_COUNT(ACTIONS); i++) {
        if (strcmp(word, ACTIONS[i].name) == 0) {
            *action = ACTIONS[i].action;
            return true;
        }
    }
    return false;
}

static sm_status parse_words(parse *p, sm_opts_action *action, sm_error *err)
{
    bool options_ended = false;

    while (p->at < p->argc) {
        const char *word = p->argv[p->at++];
        sm_status st = SM_OK;
        if (options_ended || word[0] != '-' || word[1] == '\0') {
            st = add_operand(p, word, err);
        } else if (strcmp(word, "--") == 0) {
            options_ended = true;
        } else if (find_action(word, action)) {
            return SM_OK; /* what follows does not matter any more */
        } else if (word[1] == '-') {
            st = parse_long(p, word, err);
        } else {
            st = parse_short(p, word, err);
        }
        if (st != SM_OK)
            return st;
    }
    if (p->n_operands < p->cmd->min_operands)
        return sm_fail(err, SM_ERR_ARG, "%s is missing", p->cmd->operand_names[p->n_operands]);
    return SM_OK;
}

sm_status sm_opts_parse(const sm_command *cmd, int argc, char **argv, void *config,
                        const char **operands, unsigned *n_operands, sm_opts_action *action,
                        sm_error *err)
{
    parse p = {cmd, argc, argv, 1, config, operands, 0};

    *n_operands = 0;
    *action = SM_OPTS_RUN;
    sm_status st = set_defaults(cmd, config, err);
    if (st == SM_OK)
        st = parse_words(&p, action, err);
    *n_operands = p.n_operands;
    return st;
}

/* Help that was cut short by a full disk must not look like help. */
static int finish_output(const sm_command *cmd)
{
    char title[SM_OPT_TEXT_CAP];

    errno = 0;
    if (fflush(stdout) == 0 && !ferror(stdout))
        return 0;
    const int why = errno != 0 ? errno : EIO;
    if (why != EPIPE) /* a reader that went away knows it */
        (void)fprintf(stderr, "%s: standard output: %s\n", sm_command_title(cmd, ' ', title),
                      strerror(why));
    return sm_exit_code(SM_ERR_IO);
}

bool sm_opts_start(const sm_command *cmd, int argc, char **argv, void *config,
                   const char **operands, unsigned *n_operands, const char *libs, int *exit_code)
{
    sm_error err = SM_ERROR_INIT;
    sm_opts_action action = SM_OPTS_RUN;
    char title[SM_OPT_TEXT_CAP];

    if (sm_opts_parse(cmd, argc, argv, config, operands, n_operands, &action, &err) != SM_OK) {
        (void)sm_command_title(cmd, ' ', title);
        (void)fprintf(stderr, "%s: %s\ntry '%s --help'\n", title, err.message, title);
        *exit_code = sm_exit_code(err.status);
        return false;
    }
    switch (action) {
    case SM_OPTS_RUN:
        return true;
    case SM_OPTS_HELP:
        sm_opts_print_help(cmd);
        break;
    case SM_OPTS_VERSION:
        sm_opts_print_version(cmd, libs);
        break;
    case SM_OPTS_MAN:
        sm_opts_print_man(cmd);
        break;
    }
    *exit_code = finish_output(cmd);
    return false;
}

/* ---- sub-commands ---- */

static const sm_command *find_sub(const sm_command *cmd, const char *word)
{
    for (size_t i = 0; i < cmd->n_subs; i++) {
        if (strcmp(sm_command_word(&cmd->subs[i]), word) == 0)
            return &cmd->subs[i];
    }
    return NULL;
}

static int fail_no_sub(const sm_command *cmd, const char *word)
{
    sm_error err = SM_ERROR_INIT; /* makes hostile bytes of the word printable */
    sm_suggestion best = {NULL, 0};
    char title[SM_OPT_TEXT_CAP];

    (void)sm_command_title(cmd, ' ', title);
    for (size_t i = 0; i < cmd->n_subs; i++)
        sm_suggest_offer(&best, word, sm_command_word(&cmd->subs[i]));
    if (best.word != NULL)
        (void)sm_fail(&err, SM_ERR_ARG, "'%s' is not one of its commands; did you mean %s?", word,
                      best.word);
    else
        (void)sm_fail(&err, SM_ERR_ARG, "'%s' is not one of its commands", word);
    (void)fprintf(stderr, "%s: %s\ntry '%s --help'\n", title, err.message, title);
    return sm_exit_code(err.status);
}

const sm_command *sm_opts_choose(const sm_command *cmd, int argc, char **argv, const char *libs,
                                 int *exit_code)
{
    char help[] = "--help";
    char *help_argv[] = {argv[0], help, NULL};
    const bool asks_help = argc > 1 && strcmp(argv[1], "help") == 0;
    const char *const word = asks_help ? (argc > 2 ? argv[2] : help) : argc > 1 ? argv[1] : NULL;
    const char *operands[1] = {NULL};
    unsigned n_operands = 0;
    char none = '\0'; /* it has no options that fill a field */

    if (word != NULL && word[0] != '-') {
        const sm_command *sub = find_sub(cmd, word);
        if (sub == NULL)
            *exit_code = fail_no_sub(cmd, word);
        else if (asks_help)
            *exit_code = (sm_opts_print_help(sub), finish_output(sub));
        return asks_help ? NULL : sub;
    }
    /* Options of the command itself: help, version, man page; anything else is refused there. */
    if (asks_help)
        (void)sm_opts_start(cmd, 2, help_argv, &none, operands, &n_operands, libs, exit_code);
    else
        (void)sm_opts_start(cmd, argc, argv, &none, operands, &n_operands, libs, exit_code);
    return NULL;
}
