/* The words and bars of progress, and sizes and times for people. Owns nothing. */
#include "common/progress_text.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/progress.h"

#define NAME_COLUMNS 32 /* of a name; longer ones are cut */
#define BAR_MIN 8       /* a shorter bar says nothing */
#define BAR_MAX 40
#define PART_CAP 96
#define NAME_CAP 192 /* of NAME_COLUMNS characters, or 48 in a log line, of 4 bytes each */

const char *sm_human_bytes(uint64_t bytes, char out[16])
{
    static const char *const UNITS[] = {"B", "kB", "MB", "GB", "TB", "PB", "EB"};
    double value = (double)bytes;
    size_t unit = 0;

    /* 999.5 and more would print as 1e+03 */
    for (; value >= 999.5 && unit + 1 < sizeof(UNITS) / sizeof(UNITS[0]); unit++)
        value /= 1000;
    (void)snprintf(out, 16, "%.3g %s", value, UNITS[unit]);
    return out;
}

const char *sm_human_ns(uint64_t ns, char out[16])
{
    const uint64_t tenths = ns / 100000000 + (ns % 100000000 >= 50000000);
    const uint64_t s = ns / 1000000000 + (ns % 1000000000 >= 500000000);

    if (tenths < 600)
        (void)snprintf(out, 16, "%u.%u s", (unsigned)(tenths / 10), (unsigned)(tenths % 10));
    else if (s < 3600)
        (void)snprintf(out, 16, "%u:%02u min", (unsigned)(s / 60), (unsigned)(s % 60));
    else
        (void)snprintf(out, 16, "%u:%02u:%02u h", (unsigned)(s / 3600), (unsigned)(s / 60 % 60),
                       (unsigned)(s % 60));
    return out;
}

static unsigned min_columns(unsigned a, unsigned b)
{
    return a < b ? a : b;
}

static double ratio(uint64_t done, uint64_t total)
{
    return done >= total ? 1 : (double)done / (double)total;
}

double sm_progress_fraction(const sm_progress_view *view)
{
    if (view->total_px > 0)
        return ratio(view->px, view->total_px);
    if (view->total_bytes > 0)
        return ratio(view->bytes, view->total_bytes);
    return -1;
}

static double seconds_left(uint64_t done, uint64_t total, double per_s)
{
    if (done >= total)
        return 0;
    return per_s > 0 ? (double)(total - done) / per_s : -1;
}

double sm_progress_eta_s(const sm_progress_view *view)
{
    if (view->total_px > 0)
        return seconds_left(view->px, view->total_px, view->px_per_s);
    if (view->total_bytes > 0)
        return seconds_left(view->bytes, view->total_bytes, view->bytes_per_s);
    return -1;
}

/* Length of the UTF-8 sequence at text and the columns it takes; 0 if it is not printable UTF-8. */
static size_t utf8_sequence(const char *text, unsigned *columns)
{
    const unsigned char *u = (const unsigned char *)text;
    const size_t len = u[0] >= 0xF0 && u[0] < 0xF5   ? 4
                       : u[0] >= 0xE0 && u[0] < 0xF0 ? 3
                       : u[0] >= 0xC2 && u[0] < 0xE0 ? 2
                                                     : 0;

    for (size_t i = 1; i < len; i++) {
        if ((u[i] & 0xC0) != 0x80)
            return 0;
    }
    if (u[0] == 0xC2 && u[1] < 0xA0) /* C1 control characters */
        return 0;
    *columns = u[0] >= 0xE1 ? 2 : 1; /* from U+1000 on, reckon with the wide ones */
    return len;
}

/* Copy a name so that no byte of it can move the cursor: whatever is not plain ASCII, or UTF-8
 * where that is spoken, becomes '?'. Returns its columns. */
static unsigned printable_name(const char *name, bool utf8, unsigned max_columns,
                               char out[NAME_CAP])
{
    unsigned columns = 0;
    size_t len = 0;

    while (*name != '\0') {
        unsigned wide = 1;
        size_t bytes = utf8 ? utf8_sequence(name, &wide) : 0;
        if (columns + wide + 2 > max_columns && strlen(name) > 2) {
            memcpy(out + len, "..", 2);
            len += 2;
            columns += 2;
            break;
        }
        if (bytes > 0) {
            memcpy(out + len, name, bytes);
        } else {
            bytes = 1;
            out[len] = (char)(*name >= ' ' && *name <= '~' ? *name : '?');
        }
        len += bytes;
        columns += wide;
        name += bytes;
    }
    out[len] = '\0';
    return columns;
}

static void format_eta(double s, char out[PART_CAP])
{
    const uint64_t whole = s < 1e9 ? (uint64_t)(s + 0.5) : 0;

    if (s < 0 || s >= 1e9)
        (void)snprintf(out, PART_CAP, "ETA -:--");
    else if (whole < 3600)
        (void)snprintf(out, PART_CAP, "ETA %" PRIu64 ":%02" PRIu64, whole / 60, whole % 60);
    else
        (void)snprintf(out, PART_CAP, "ETA %" PRIu64 ":%02" PRIu64 ":%02" PRIu64, whole / 3600,
                       whole / 60 % 60, whole % 60);
}

/* Three significant digits of millions: "812", "15.4", "1.54". */
static int format_millions(double value, const char *unit, char *out, size_t cap)
{
    const double millions = value / 1e6;

    return snprintf(out, cap, "%.*f %s  ",
                    millions >= 99.95   ? 0
                    : millions >= 9.995 ? 1
                                        : 2,
                    millions, unit);
}

/* "  52%  812 Mpx/s  154 MB/s  ETA 0:03", shorter when there is less room for it. */
static unsigned format_figures(const sm_progress_view *view, unsigned room, char out[NAME_CAP])
{
    char rates[PART_CAP] = "";
    char percent[PART_CAP] = "";
    char eta[PART_CAP];
    const double fraction = sm_progress_fraction(view);
    size_t len = 0;

    if (fraction >= 0)
        (void)snprintf(percent, sizeof(percent), "%3d%%  ", (int)(fraction * 100));
    if (view->px_per_s > 0)
        len = (size_t)format_millions(view->px_per_s, "Mpx/s", rates, sizeof(rates) / 2);
    if (view->bytes_per_s > 0)
        (void)format_millions(view->bytes_per_s, "MB/s", rates + len, sizeof(rates) - len);
    format_eta(sm_progress_eta_s(view), eta);
    const char *const last = fraction >= 0 ? eta : "";
    int columns = snprintf(out, NAME_CAP, "%s%s%s", percent, rates, last);
    if (columns > (int)room)
        columns = snprintf(out, NAME_CAP, "%s%s", percent, last);
    if (columns > (int)room)
        columns = snprintf(out, NAME_CAP, "%.4s", percent);
    if (columns > (int)room) {
        out[0] = '\0';
        columns = 0;
    }
    return (unsigned)columns;
}

static size_t put(char *out, size_t at, const char *text)
{
    const size_t len = strlen(text);

    if (at + len >= SM_PROGRESS_LINE_CAP)
        return at;
    memcpy(out + at, text, len + 1);
    return at + len;
}

/* "[=====>    ]" or, in eighths of a column, "|█████▌    |"; `columns` includes the ends. */
static size_t put_bar(char *out, size_t at, double fraction, unsigned columns, bool utf8)
{
    static const char *const EIGHTHS[] = {" ",      "\u258f", "\u258e", "\u258d", "\u258c",
                                          "\u258b", "\u258a", "\u2589", "\u2588"};
    const unsigned cells = columns - 2;
    const unsigned eighths = (unsigned)(fraction * cells * 8);

    at = put(out, at, utf8 ? "\u2595" : "[");
    for (unsigned i = 0; i < cells; i++) {
        const unsigned filled = eighths > i * 8 ? eighths - i * 8 : 0;
        if (utf8)
            at = put(out, at, EIGHTHS[filled < 8 ? filled : 8]);
        else
            at = put(out, at, filled >= 8 ? "=" : filled > 0 || eighths == i * 8 ? ">" : " ");
    }
    return put(out, at, utf8 ? "\u258f" : "]");
}

const char *sm_progress_bar(const sm_progress_view *view, unsigned columns, bool utf8,
                            char out[SM_PROGRESS_LINE_CAP])
{
    char name[NAME_CAP];
    char phase[NAME_CAP] = "";
    char figures[NAME_CAP];
    const double fraction = sm_progress_fraction(view);
    const unsigned room = columns < 512 ? columns : 512;
    unsigned used = printable_name(view->what, utf8, min_columns(room, NAME_COLUMNS), name);
    size_t at = 0;

    out[0] = '\0';
    if (used > room)
        return out;
    at = put(out, at, name);
    if (view->phase != NULL) {
        const unsigned wide = printable_name(view->phase, utf8, NAME_COLUMNS, phase);
        if (used + 1 + wide <= room) {
            at = put(out, at, " ");
            at = put(out, at, phase);
            used += 1 + wide;
        }
    }
    const unsigned wide = room > used + 2 ? format_figures(view, room - used - 2, figures) : 0;
    if (wide == 0)
        return out;
    at = put(out, at, "  ");
    used += 2 + wide;
    if (fraction >= 0 && room >= used + 2 + BAR_MIN) {
        at = put_bar(out, at, fraction, min_columns(room - used - 2, BAR_MAX), utf8);
        at = put(out, at, "  ");
    }
    (void)put(out, at, figures);
    return out;
}

const char *sm_progress_log_line(const sm_progress_view *view, time_t now,
                                 char out[SM_PROGRESS_LINE_CAP])
{
    char name[NAME_CAP];
    char stamp[32] = "";
    char done[16] = "?";
    char eta[32] = "?";
    struct tm utc;
    const double fraction = sm_progress_fraction(view);
    const double eta_s = sm_progress_eta_s(view);

    if (gmtime_r(&now, &utc) != NULL)
        (void)strftime(stamp, sizeof(stamp), "%Y-%m-%dT%H:%M:%SZ", &utc);
    (void)printable_name(view->what, true, NAME_CAP / 4, name);
    for (char *quote = strchr(name, '"'); quote != NULL; quote = strchr(quote, '"'))
        *quote = '?'; /* it would end the value */
    if (fraction >= 0)
        (void)snprintf(done, sizeof(done), "%d%%", (int)(fraction * 100));
    if (eta_s >= 0 && eta_s < 1e9)
        (void)snprintf(eta, sizeof(eta), "%.0f", eta_s);
    (void)snprintf(out, SM_PROGRESS_LINE_CAP,
                   "time=%s slide=\"%s\"%s%s done=%s mpx=%.1f mb=%.1f mpx_s=%.1f mb_s=%.1f "
                   "eta_s=%s\n",
                   stamp, name, view->phase != NULL ? " phase=" : "",
                   view->phase != NULL ? view->phase : "", done, (double)view->px / 1e6,
                   (double)view->bytes / 1e6, view->px_per_s / 1e6, view->bytes_per_s / 1e6, eta);
    return out;
}
