/* The JSON writer. Owns nothing. */
#include "ingest/catalog_json.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "common/text.h"

static void put(json *j, const char *text, size_t len)
{
    if (j->status == SM_OK)
        j->status = sm_buf_append(j->out, text, len, j->err);
}

static void put_string(json *j, const char *text)
{
    put(j, "\"", 1);
    for (const char *at = text; *at != '\0'; at++) {
        const unsigned char c = (unsigned char)*at;
        if (c == '"' || c == '\\') {
            const char escape[2] = {'\\', (char)c};
            put(j, escape, 2);
        } else if (c < 0x20 || c == 0x7F) {
            if (j->status == SM_OK)
                j->status = sm_buf_printf(j->out, j->err, "\\u%04x", c);
        } else {
            const size_t plain = strcspn(at, "\"\\\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c"
                                             "\x0d\x0e\x0f\x10\x11\x12\x13\x14\x15\x16\x17\x18\x19"
                                             "\x1a\x1b\x1c\x1d\x1e\x1f\x7f");
            put(j, at, plain);
            at += plain - 1;
        }
    }
    put(j, "\"", 1);
}

static void begin(json *j, const char *key)
{
    if (j->comma)
        put(j, ",", 1);
    j->comma = true;
    if (key != NULL) {
        put_string(j, key);
        put(j, ":", 1);
    }
}

void json_open(json *j, const char *key, char bracket)
{
    begin(j, key);
    put(j, &bracket, 1);
    j->comma = false;
}

void json_close(json *j, char bracket)
{
    put(j, &bracket, 1);
    j->comma = true;
}

void json_text(json *j, const char *key, const char *text)
{
    sm_buf clean = {0};

    if (text == NULL) {
        json_null(j, key);
        return;
    }
    if (j->status == SM_OK)
        j->status = sm_text_clean(text, false, &clean, j->err);
    if (j->status == SM_OK) {
        begin(j, key);
        put_string(j, (const char *)clean.data);
    }
    sm_buf_free(&clean);
}

void json_number(json *j, const char *key, uint64_t number)
{
    begin(j, key);
    if (j->status == SM_OK)
        j->status = sm_buf_printf(j->out, j->err, "%" PRIu64, number);
}

void json_real(json *j, const char *key, double number)
{
    if (!isfinite(number) || number == 0) {
        json_null(j, key);
        return;
    }
    begin(j, key);
    if (j->status == SM_OK)
        j->status = sm_buf_printf(j->out, j->err, "%.10g", number);
}

void json_bool(json *j, const char *key, bool value)
{
    begin(j, key);
    put(j, value ? "true" : "false", value ? 4 : 5);
}

void json_null(json *j, const char *key)
{
    begin(j, key);
    put(j, "null", 4);
}
