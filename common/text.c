/* Text from outside (file names, metadata) made fit to print. Owns nothing. */
#include "common/text.h"

#include <stddef.h>

/* Bytes of the UTF-8 sequence at text; 0 if it is none. */
static size_t utf8_len(const unsigned char *text)
{
    const size_t len = text[0] < 0x80                      ? 1
                       : text[0] >= 0xC2 && text[0] < 0xE0 ? 2
                       : text[0] >= 0xE0 && text[0] < 0xF0 ? 3
                       : text[0] >= 0xF0 && text[0] < 0xF5 ? 4
                                                           : 0;
    for (size_t i = 1; i < len; i++) {
        if ((text[i] & 0xC0) != 0x80)
            return 0;
    }
    if ((text[0] == 0xE0 && text[1] < 0xA0) || (text[0] == 0xED && text[1] > 0x9F) ||
        (text[0] == 0xF0 && text[1] < 0x90) || (text[0] == 0xF4 && text[1] > 0x8F))
        return 0;
    return len;
}

sm_status sm_text_clean(const char *text, bool terminal, sm_buf *out, sm_error *err)
{
    const unsigned char *p = (const unsigned char *)text;
    out->len = 0;
    while (*p != '\0') {
        const size_t len = utf8_len(p);
        const bool control = *p < 0x20 || *p == 0x7F || (*p == 0xC2 && p[1] < 0xA0);
        const char *bytes = (const char *)p;
        size_t n = len;
        if (terminal && (len == 0 || control)) {
            bytes = "?";
            n = 1;
        } else if (len == 0) {
            bytes = "\xEF\xBF\xBD";
            n = 3;
        }
        const sm_status st = sm_buf_append(out, bytes, n, err);
        if (st != SM_OK)
            return st;
        p += len > 0 ? len : 1;
    }
    return sm_buf_append(out, "", 1, err);
}
