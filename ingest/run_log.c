/* Log lines: built in one buffer, printed by one write. */
#include "ingest/run_log.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/text.h"

static void put(sm_run_line *line, const char *bytes, size_t len)
{
    sm_error err = SM_ERROR_INIT;
    if (!line->off && sm_buf_append(&line->text, bytes, len, &err) != SM_OK)
        line->off = true;
}

static void put_text(sm_run_line *line, const char *text)
{
    put(line, text, strlen(text));
}

/* `text` is clean already: no control characters, and UTF-8 where it matters. */
static void put_quoted(sm_run_line *line, const char *text)
{
    put(line, "\"", 1);
    for (; *text != '\0'; text++) {
        if (*text == '"' || *text == '\\')
            put(line, "\\", 1);
        put(line, text, 1);
    }
    put(line, "\"", 1);
}

static void put_key(sm_run_line *line, const char *key)
{
    if (line->log->json) {
        put(line, ",", line->text.len > 1 ? 1 : 0);
        put_quoted(line, key);
        put(line, ":", 1);
    } else {
        put(line, " ", line->text.len > 0 ? 1 : 0);
        put_text(line, key);
        put(line, "=", 1);
    }
}

static bool is_plain(const char *text)
{
    return strpbrk(text, " \"\\=") == NULL;
}

void sm_run_line_text(sm_run_line *line, const char *key, const char *value)
{
    sm_error err = SM_ERROR_INIT;
    sm_buf clean = {0};
    if (line->off || value == NULL || *value == '\0')
        return;
    if (sm_text_clean(value, true, &clean, &err) == SM_OK) {
        const char *text = (const char *)clean.data;
        put_key(line, key);
        if (!line->log->json && is_plain(text))
            put_text(line, text);
        else
            put_quoted(line, text);
    }
    sm_buf_free(&clean);
}

void sm_run_line_u64(sm_run_line *line, const char *key, uint64_t value)
{
    char text[24];
    (void)snprintf(text, sizeof text, "%" PRIu64, value);
    put_key(line, key);
    put_text(line, text);
}

void sm_run_line_real(sm_run_line *line, const char *key, double value, int digits)
{
    char text[400];
    (void)snprintf(text, sizeof text, "%.*f", digits, isfinite(value) ? value : 0.0);
    put_key(line, key);
    put_text(line, text);
}

void sm_run_line_begin(sm_run_line *line, const sm_run_log *log, const char *level,
                       const char *event)
{
    struct timespec now = {0};
    struct tm utc;
    char when[32] = "";
    *line = (sm_run_line){.log = log, .off = log->quiet && strcmp(level, "info") == 0};
    clock_gettime(CLOCK_REALTIME, &now);
    if (gmtime_r(&now.tv_sec, &utc) != NULL)
        (void)strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", &utc);
    if (log->json)
        put(line, "{", 1);
    sm_run_line_text(line, "time", when);
    sm_run_line_text(line, "level", level);
    sm_run_line_u64(line, "rank", log->rank);
    sm_run_line_text(line, "event", event);
}

static void print(const uint8_t *bytes, size_t len)
{
    while (len > 0) {
        const ssize_t n = write(STDERR_FILENO, bytes, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return; /* a log that cannot be written is no reason to stop the work */
        bytes += n;
        len -= (size_t)n;
    }
}

void sm_run_line_end(sm_run_line *line)
{
    if (line->log->json)
        put(line, "}", 1);
    put(line, "\n", 1);
    if (!line->off) {
        if (line->log->terminal)
            print((const uint8_t *)"\r\033[K", 4);
        print(line->text.data, line->text.len);
    }
    sm_buf_free(&line->text);
}

void sm_run_log_say(const sm_run_log *log, const char *level, const char *event,
                    const char *message)
{
    sm_run_line line;
    sm_run_line_begin(&line, log, level, event);
    sm_run_line_text(&line, "message", message);
    sm_run_line_end(&line);
}
