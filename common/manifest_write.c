/* Lists of files for others: the lines that common/manifest.c reads, written. Owns nothing. */
#include "common/manifest.h"

#include <string.h>

const char *sm_manifest_kind_name(sm_manifest_kind kind)
{
    switch (kind) {
    case SM_MANIFEST_AUTO:
        return "auto";
    case SM_MANIFEST_SHA256SUM:
        return "sha256sum";
    case SM_MANIFEST_MD5SUM:
        return "md5sum";
    case SM_MANIFEST_GDC:
        return "gdc";
    case SM_MANIFEST_CSV:
        return "csv";
    case SM_MANIFEST_TSV:
        return "tsv";
    }
    return "unknown";
}

/* GNU coreutils 9: backslash, newline and carriage return are written as \\, \n, \r. */
static sm_status append_escaped(const char *path, sm_buf *out, sm_error *err)
{
    sm_status st = SM_OK;
    while (st == SM_OK && *path != '\0') {
        const size_t n = strcspn(path, "\\\n\r");
        st = sm_buf_append(out, path, n, err);
        path += n;
        if (st != SM_OK || *path == '\0')
            break;
        const char *escape = *path == '\\' ? "\\\\" : *path == '\n' ? "\\n" : "\\r";
        st = sm_buf_append(out, escape, 2, err);
        path++;
    }
    return st;
}

sm_status sm_manifest_write_sum(const sm_digest *digest, const char *path, sm_buf *out,
                                sm_error *err)
{
    char hex[SM_DIGEST_HEX_CAP];
    const size_t start = out->len;
    const bool escape = path[strcspn(path, "\\\n\r")] != '\0';
    sm_status st =
        sm_buf_printf(out, err, "%s%s  ", escape ? "\\" : "", sm_digest_hex(digest, hex));
    if (st == SM_OK)
        st = append_escaped(path, out, err);
    if (st == SM_OK)
        st = sm_buf_append(out, "\n", 1, err);
    if (st != SM_OK)
        out->len = start; /* a whole line or none */
    return st;
}

sm_status sm_manifest_write_csv_field(const char *text, sm_buf *out, sm_error *err)
{
    const size_t start = out->len;
    if (text[strcspn(text, ",\"\r\n")] == '\0')
        return sm_buf_append(out, text, strlen(text), err);
    sm_status st = sm_buf_append(out, "\"", 1, err);
    while (st == SM_OK && *text != '\0') {
        const size_t n = strcspn(text, "\"");
        st = sm_buf_append(out, text, n, err);
        text += n;
        if (st == SM_OK && *text == '"') {
            st = sm_buf_append(out, "\"\"", 2, err);
            text++;
        }
    }
    if (st == SM_OK)
        st = sm_buf_append(out, "\"", 1, err);
    if (st != SM_OK)
        out->len = start;
    return st;
}
