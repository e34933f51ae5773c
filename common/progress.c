/* Progress on stderr: decides when to draw and measures the rates; common/progress_text.c says how
 * it reads. Owns its copy of the name. */
#include "common/progress.h"

#include <errno.h>
#include <langinfo.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/progress_text.h"
#include "common/sysinfo.h"

#define SECOND_NS UINT64_C(1000000000)
#define REDRAW_NS (SECOND_NS / 10)
#define LOG_NS (60 * SECOND_NS)
#define RATE_MEMORY_S                                                                              \
    4.0 /* rates are means over about this long: steady to read, quick to follow */

typedef enum output { OUTPUT_NONE, OUTPUT_BAR, OUTPUT_LOG } output;

struct sm_progress {
    sm_progress_view view;
    output output;
    bool utf8;
    bool drawn; /* a bar stands on the terminal */
    char *what;
    char phase[32];
    uint64_t due_ns;    /* nothing is printed before */
    uint64_t sample_ns; /* when the rates were last measured */
    uint64_t sample_bytes, sample_px;
};

/* The user's character set without changing the program's locale. */
static bool locale_is_utf8(void)
{
    const locale_t locale = newlocale(LC_CTYPE_MASK, "", (locale_t)0);

    if (locale == (locale_t)0)
        return false;
    const bool utf8 = strcmp(nl_langinfo_l(CODESET, locale), "UTF-8") == 0;
    freelocale(locale);
    return utf8;
}

static output choose_output(bool quiet)
{
    const char *term = getenv("TERM");

    if (quiet)
        return OUTPUT_NONE;
    if (!isatty(STDERR_FILENO) || term == NULL || strcmp(term, "dumb") == 0)
        return OUTPUT_LOG;
    return OUTPUT_BAR;
}

/* Asked for at every redraw, so that a resized window needs no signal handler. */
static unsigned terminal_columns(void)
{
    struct winsize size;

    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0)
        return 80;
    return size.ws_col;
}

/* One write, so that lines of other processes do not come between. Progress that cannot be printed
 * is no reason to stop the work. */
static void print(const char *text, size_t len)
{
    while (len > 0) {
        const ssize_t n = write(STDERR_FILENO, text, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return;
        text += n;
        len -= (size_t)n;
    }
}

static void draw_bar(sm_progress *progress)
{
    char bar[SM_PROGRESS_LINE_CAP];
    char line[SM_PROGRESS_LINE_CAP + 16];

    /* A line that filled the last column would wrap on some terminals. */
    (void)sm_progress_bar(&progress->view, terminal_columns() - 1, progress->utf8, bar);
    const int len = snprintf(line, sizeof(line), "\r%s\033[K", bar);
    print(line, (size_t)len);
    progress->drawn = true;
}

static void log_line(const sm_progress *progress)
{
    char line[SM_PROGRESS_LINE_CAP];

    (void)sm_progress_log_line(&progress->view, time(NULL), line);
    print(line, strlen(line));
}

static double follow(double rate, uint64_t before, uint64_t now, double elapsed_s)
{
    const double latest = now > before ? (double)(now - before) / elapsed_s : 0;
    const double weight = elapsed_s / (elapsed_s + RATE_MEMORY_S);

    return rate > 0 ? rate + weight * (latest - rate) : latest;
}

/* A phase that counts from zero again starts new rates. */
static void measure(sm_progress *progress, uint64_t now_ns)
{
    sm_progress_view *view = &progress->view;

    if (view->bytes < progress->sample_bytes || view->px < progress->sample_px) {
        view->bytes_per_s = view->px_per_s = 0;
    } else if (now_ns > progress->sample_ns) {
        const double elapsed_s = (double)(now_ns - progress->sample_ns) / 1e9;
        view->bytes_per_s =
            follow(view->bytes_per_s, progress->sample_bytes, view->bytes, elapsed_s);
        view->px_per_s = follow(view->px_per_s, progress->sample_px, view->px, elapsed_s);
    }
    progress->sample_ns = now_ns;
    progress->sample_bytes = view->bytes;
    progress->sample_px = view->px;
}

sm_status sm_progress_new(const char *what, uint64_t total_bytes, uint64_t total_px, bool quiet,
                          sm_progress **progress, sm_error *err)
{
    sm_progress *p = sm_calloc(1, sizeof(*p));
    const size_t len = strlen(what) + 1;
    char *name = sm_malloc_array(len, 1);

    *progress = NULL;
    if (p == NULL || name == NULL) {
        free(name);
        free(p);
        return sm_fail(err, SM_ERR_NOMEM, "out of memory for the progress bar");
    }
    memcpy(name, what, len);
    p->what = name;
    p->view = (sm_progress_view){.what = p->what, .total_bytes = total_bytes, .total_px = total_px};
    p->output = choose_output(quiet);
    p->utf8 = p->output == OUTPUT_BAR && locale_is_utf8();
    p->sample_ns = sm_now_ns();
    p->due_ns = p->sample_ns + (p->output == OUTPUT_BAR ? REDRAW_NS : LOG_NS);
    *progress = p;
    return SM_OK;
}

void sm_progress_at(sm_progress *progress, uint64_t bytes, uint64_t px, const char *phase)
{
    if (progress->output == OUTPUT_NONE)
        return;
    const uint64_t now_ns = sm_now_ns();
    if (now_ns < progress->due_ns)
        return;
    progress->view.bytes = bytes;
    progress->view.px = px;
    if (phase != NULL)
        (void)snprintf(progress->phase, sizeof(progress->phase), "%s", phase);
    progress->view.phase = phase != NULL ? progress->phase : NULL;
    measure(progress, now_ns);
    if (progress->output == OUTPUT_BAR)
        draw_bar(progress);
    else
        log_line(progress);
    progress->due_ns = now_ns + (progress->output == OUTPUT_BAR ? REDRAW_NS : LOG_NS);
}

void sm_progress_free(sm_progress **progress)
{
    static const char ERASE[] = "\r\033[K";
    sm_progress *p = *progress;

    if (p == NULL)
        return;
    if (p->drawn)
        print(ERASE, sizeof(ERASE) - 1);
    free(p->what);
    free(p);
    *progress = NULL;
}
