/* How the sub-commands of `slidemill catalog` speak, and what their arguments mean.
 * Owns the text of catalog_clean and the line of catalog_at. */
#include "ingest/catalog_cli.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/text.h"

static bool at_shown; /* a line of catalog_at stands on the terminal */

/* ---- speaking ---- */

void catalog_at_end(void)
{
    if (at_shown)
        (void)fputs("\r\033[K", stderr);
    at_shown = false;
}

int catalog_fail(const catalog_args *args, const sm_error *err)
{
    catalog_at_end();
    if (err->status != SM_ERR_IO || err->sys_errno != EPIPE) /* a reader that went away knows it */
        (void)fprintf(stderr, "%s: %s\n", args->title, err->message);
    return sm_exit_code(err->status);
}

void catalog_say(void *arg, const char *line)
{
    const catalog_args *args = arg;

    catalog_at_end();
    (void)fprintf(stderr, "%s: %s\n", args->title, line);
}

void catalog_at(void *arg, const char *what, uint64_t n_folders, uint64_t n_slides)
{
    static struct timespec before;
    struct timespec now;
    char folders[32], slides[32];

    (void)arg;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    const double passed =
        (double)(now.tv_sec - before.tv_sec) + 1e-9 * (double)(now.tv_nsec - before.tv_nsec);
    if (passed < 0.2 || isatty(STDERR_FILENO) == 0)
        return;
    before = now;
    at_shown = true;
    (void)fprintf(stderr, "\r%s %s slides in %s folders\033[K", what,
                  catalog_number(n_slides, slides), catalog_number(n_folders, folders));
}

sm_status catalog_flush(sm_error *err)
{
    errno = 0;
    if (fflush(stdout) == 0 && !ferror(stdout))
        return SM_OK;
    return sm_fail_errno(err, SM_ERR_IO, errno != 0 ? errno : EIO, "standard output");
}

const char *catalog_number(uint64_t number, char out[32])
{
    char digits[24];
    const int n = snprintf(digits, sizeof digits, "%" PRIu64, number);
    size_t at = 0;

    for (int i = 0; i < n; i++) {
        if (i > 0 && (n - i) % 3 == 0)
            out[at++] = ',';
        out[at++] = digits[i];
    }
    out[at] = '\0';
    return out;
}

const char *catalog_count(uint64_t number, const char *noun, char out[64])
{
    char digits[32];

    (void)snprintf(out, 64, "%s %.24s%s", catalog_number(number, digits), noun,
                   number == 1 ? "" : "s");
    return out;
}

const char *catalog_time(int64_t ns, bool exact, char out[40])
{
    const time_t seconds = (time_t)(ns / 1000000000) - (ns % 1000000000 < 0);
    const int64_t rest = ns - (int64_t)seconds * 1000000000;
    struct tm tm;
    char text[24];

    out[0] = '\0';
    if (ns == 0 || gmtime_r(&seconds, &tm) == NULL ||
        strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &tm) == 0)
        return out;
    if (exact)
        (void)snprintf(out, 40, "%s.%09" PRId64 "Z", text, rest);
    else
        (void)snprintf(out, 40, "%sZ", text);
    return out;
}

const char *catalog_clean(const char *text)
{
    static sm_buf clean;
    sm_error ignored = SM_ERROR_INIT;

    if (sm_text_clean(text, true, &clean, &ignored) != SM_OK)
        return "?";
    return (const char *)clean.data;
}

bool catalog_colours(void)
{
    const char *no_color = getenv("NO_COLOR");
    const char *term = getenv("TERM");

    return (no_color == NULL || *no_color == '\0') && term != NULL && strcmp(term, "dumb") != 0 &&
           isatty(STDOUT_FILENO) != 0;
}

/* ---- arguments ---- */

sm_generation_config catalog_config(const catalog_args *args)
{
    return (sm_generation_config){
        .what = args->title + strlen("slidemill "),
        .wait_s = args->wait_s,
        .scratch = args->scratch,
    };
}

sm_status catalog_parse_states(const char *text, unsigned *bits, sm_error *err)
{
    *bits = 0;
    while (text != NULL && *text != '\0') {
        char word[32];
        const size_t len = strcspn(text, ",");
        (void)snprintf(word, sizeof word, "%.*s", (int)(len < 31 ? len : 31), text);
        const sm_slide_state state = sm_slide_state_parse(word);
        if (state == SM_SLIDE_STATES)
            return sm_fail(err, SM_ERR_ARG,
                           "--state: '%s' is not one of new, planned, leased, done, failed, "
                           "quarantined",
                           word);
        *bits |= 1u << state;
        text += len + (text[len] == ',');
    }
    return SM_OK;
}

/* One allocation: the pointers, then the text. */
sm_status catalog_split(const char *text, const char ***words, sm_error *err)
{
    const size_t len = text != NULL ? strlen(text) : 0;
    size_t n = 0, commas = 0;

    for (size_t i = 0; i < len; i++)
        commas += text[i] == ',';
    const char **list = sm_calloc(1, (commas + 2) * sizeof *list + len + 1);
    *words = list;
    if (list == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "out of memory for a list");
    char *copy = (char *)(list + commas + 2);
    if (len > 0)
        memcpy(copy, text, len);
    for (size_t i = 0; i < len;) {
        const size_t word = strcspn(copy + i, ",");
        copy[i + word] = '\0';
        if (word > 0)
            list[n++] = copy + i;
        i += word + 1;
    }
    return SM_OK;
}

void catalog_free_words(const char ***words)
{
    free(*words);
    *words = NULL;
}

sm_status catalog_glob_of(const char *path, sm_buf *glob, sm_error *err)
{
    sm_status st = SM_OK;

    for (; st == SM_OK && *path != '\0'; path++) {
        const bool special = *path == '*' || *path == '?' || *path == '[';
        st = special ? sm_buf_printf(glob, err, "[%c]", *path) : sm_buf_append(glob, path, 1, err);
    }
    return st == SM_OK ? sm_buf_append(glob, "", 1, err) : st;
}
