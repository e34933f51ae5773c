/* Reading lists of files that others made. Owns one record and one chunk of the file, both of
 * bounded size, whatever the file holds. */
#include "common/manifest.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/path.h"

enum {
    CHUNK_BYTES = 64 * 1024,
    MAX_FIELDS = 256,
    MAX_ID = 255,
    MAX_VENDOR = 63,
};

/* What a column can mean. */
typedef enum column {
    COLUMN_PATH,
    COLUMN_SIZE,
    COLUMN_SHA256,
    COLUMN_MD5,
    COLUMN_XXH128,
    COLUMN_ID,
    COLUMN_VENDOR,
    COLUMNS
} column;

struct sm_manifest {
    const sm_source *source; /* borrowed */
    sm_manifest_kind kind;
    bool gdc_folders;
    uint64_t offset; /* of the byte after the chunk in the file */
    uint8_t *chunk;
    size_t at, have; /* of the chunk */
    uint64_t n_lines;
    sm_buf record; /* NUL-terminated, fields are cut out of it in place */
    uint64_t record_line, record_lines;
    char *fields[MAX_FIELDS];
    size_t n_fields;
    int field_of[COLUMNS]; /* -1: no such column */
    sm_buf name, path;
};

/* ---- records ---- */

typedef enum record_kind {
    RECORD_NONE, /* the file is over */
    RECORD_WHOLE,
    RECORD_LONG,     /* skipped up to a newline */
    RECORD_UNCLOSED, /* the file ended within quotes */
} record_kind;

static bool at_end(const sm_manifest *m)
{
    return m->at == m->have && m->offset == sm_source_size(m->source);
}

static sm_status fill_chunk(sm_manifest *m, sm_error *err)
{
    const uint64_t left = sm_source_size(m->source) - m->offset;
    const size_t len = left < CHUNK_BYTES ? (size_t)left : CHUNK_BYTES;
    const sm_status st = sm_source_pread(m->source, m->chunk, len, m->offset, err);
    if (st != SM_OK)
        return st;
    m->offset += len;
    m->at = 0;
    m->have = len;
    return SM_OK;
}

/* Bytes up to and with the next newline, or what there is of them in the chunk; kept unless the
 * record is too long already. */
static sm_status take_piece(sm_manifest *m, bool *is_long, bool *ends, const uint8_t **piece,
                            size_t *len, sm_error *err)
{
    sm_status st = m->at == m->have ? fill_chunk(m, err) : SM_OK;
    if (st != SM_OK)
        return st;
    *piece = m->chunk + m->at;
    const uint8_t *newline = memchr(*piece, '\n', m->have - m->at);
    *ends = newline != NULL;
    *len = *ends ? (size_t)(newline - *piece) + 1 : m->have - m->at;
    *is_long = *is_long || m->record.len + *len > SM_MANIFEST_LINE_MAX;
    if (!*is_long)
        st = sm_buf_append(&m->record, *piece, *len, err);
    m->at += *len;
    m->n_lines += *ends || at_end(m);
    return st;
}

/* Where in a CSV record (RFC 4180) the reader is. */
typedef enum csv_state {
    CSV_START, /* of a field */
    CSV_PLAIN,
    CSV_QUOTED,
    CSV_QUOTE, /* a quote within quotes: the end, or the first of two */
} csv_state;

static csv_state csv_step(csv_state state, uint8_t byte)
{
    if (state == CSV_QUOTED)
        return byte == '"' ? CSV_QUOTE : CSV_QUOTED;
    if (state == CSV_QUOTE && byte == '"')
        return CSV_QUOTED;
    if (byte == ',')
        return CSV_START;
    return state == CSV_START && byte == '"' ? CSV_QUOTED : CSV_PLAIN;
}

/* The next record: a line, or in CSV the lines that quotes hold together. */
static sm_status read_record(sm_manifest *m, bool quotes, record_kind *kind, sm_error *err)
{
    csv_state state = CSV_START;
    bool is_long = false, ends = false;
    m->record.len = 0;
    m->record_line = m->n_lines + 1;
    *kind = RECORD_NONE;
    while (!at_end(m)) {
        const uint8_t *piece = NULL;
        size_t len = 0;
        const sm_status st = take_piece(m, &is_long, &ends, &piece, &len, err);
        if (st != SM_OK)
            return st;
        for (size_t i = 0; quotes && !is_long && i < len; i++)
            state = csv_step(state, piece[i]);
        *kind = is_long ? RECORD_LONG : RECORD_WHOLE;
        if (ends && (is_long || state != CSV_QUOTED))
            break;
    }
    if (*kind == RECORD_WHOLE && state == CSV_QUOTED)
        *kind = RECORD_UNCLOSED;
    m->record_lines = m->n_lines + 1 - m->record_line;
    return SM_OK;
}

static sm_status bad_record(const sm_manifest *m, const char *what, sm_error *err)
{
    char text[sizeof err->message];
    memcpy(text, what, strlen(what) + 1);
    return sm_fail(err, SM_ERR_FORMAT, "%s: line %" PRIu64 ": %s", sm_source_path(m->source),
                   m->record_line, text);
}

/* The record without its line's end and with a NUL. */
static sm_status end_record(sm_manifest *m, record_kind kind, sm_error *err)
{
    sm_error why = SM_ERROR_INIT;
    if (kind == RECORD_LONG) {
        sm_fail(&why, SM_ERR_FORMAT,
                "longer than %d bytes (or a quote is not closed): %" PRIu64
                " lines are passed over",
                SM_MANIFEST_LINE_MAX, m->record_lines);
        return bad_record(m, why.message, err);
    }
    if (kind == RECORD_UNCLOSED)
        return bad_record(m, "a quote is opened and never closed", err);
    if (m->record.len > 0 && m->record.data[m->record.len - 1] == '\n')
        m->record.len--;
    if (m->record.len > 0 && m->record.data[m->record.len - 1] == '\r')
        m->record.len--;
    if (m->record.len > 0 && memchr(m->record.data, '\0', m->record.len) != NULL)
        return bad_record(m, "a NUL in it; is this a text file?", err);
    return sm_buf_append(&m->record, "", 1, err);
}

/* The next record that says something: *more false at the end. */
static sm_status next_record(sm_manifest *m, bool *more, sm_error *err)
{
    const bool sums = m->kind == SM_MANIFEST_SHA256SUM || m->kind == SM_MANIFEST_MD5SUM ||
                      m->kind == SM_MANIFEST_AUTO;
    for (;;) {
        record_kind kind = RECORD_NONE;
        sm_status st = read_record(m, m->kind == SM_MANIFEST_CSV, &kind, err);
        *more = st == SM_OK && kind != RECORD_NONE;
        if (!*more)
            return st;
        st = end_record(m, kind, err);
        if (st != SM_OK)
            return st;
        const char *text = (const char *)m->record.data;
        if (text[0] != '\0' && !(sums && text[0] == '#')) /* a comment, as sha256sum -c has it */
            return SM_OK;
    }
}

/* ---- fields ---- */

/* Cut one CSV field off at *p: *p moves behind its comma, or becomes NULL after the last. */
static const char *cut_csv_field(char **p)
{
    char *from = *p, *to = *p;
    if (*from != '"') {
        char *comma = strchr(from, ',');
        *p = comma != NULL ? comma + 1 : NULL;
        if (comma != NULL)
            *comma = '\0';
        return NULL;
    }
    for (from++; *from != '"' || from[1] == '"'; from++) {
        if (*from == '\0')
            return "a quote is opened and never closed";
        from += *from == '"';
        *to++ = *from;
    }
    from++;
    if (*from != ',' && *from != '\0')
        return "text between a closing quote and the comma";
    *p = *from == ',' ? from + 1 : NULL;
    *to = '\0';
    return NULL;
}

static const char *cut_tab_field(char **p)
{
    char *tab = strchr(*p, '\t');
    *p = tab != NULL ? tab + 1 : NULL;
    if (tab != NULL)
        *tab = '\0';
    return NULL;
}

static sm_status cut_fields(sm_manifest *m, bool commas, sm_error *err)
{
    m->n_fields = 0;
    for (char *p = (char *)m->record.data; p != NULL;) {
        if (m->n_fields == MAX_FIELDS)
            return bad_record(m, "more than 256 columns", err);
        m->fields[m->n_fields++] = p;
        const char *wrong = commas ? cut_csv_field(&p) : cut_tab_field(&p);
        if (wrong != NULL)
            return bad_record(m, wrong, err);
    }
    return SM_OK;
}

/* "" when the record has no such field. */
static const char *field(const sm_manifest *m, column c)
{
    const int i = m->field_of[c];
    return i >= 0 && (size_t)i < m->n_fields ? m->fields[i] : "";
}

/* The names a column may have; the first one found is taken. */
static const char *const NAMES[COLUMNS][4] = {
    [COLUMN_PATH] = {"path", "filename", "file"},
    [COLUMN_SIZE] = {"size", "bytes", "size_bytes"},
    [COLUMN_SHA256] = {"sha256"},
    [COLUMN_MD5] = {"md5"},
    [COLUMN_XXH128] = {"xxh128"},
    [COLUMN_ID] = {"external_id", "id"},
    [COLUMN_VENDOR] = {"vendor"},
};

/* Index of the header's field of that name; -1 none, -2 two of them. */
static int find_field(const sm_manifest *m, const char *name)
{
    int found = -1;
    for (size_t i = 0; i < m->n_fields; i++) {
        const char *text = m->fields[i];
        text += strspn(text, " ");
        const size_t len = strcspn(text, " ");
        if (len == strlen(name) && strncasecmp(text, name, len) == 0)
            found = found == -1 ? (int)i : -2;
    }
    return found;
}

static sm_status read_header(sm_manifest *m, sm_error *err)
{
    for (int c = 0; c < COLUMNS; c++) {
        m->field_of[c] = -1;
        for (size_t i = 0; i < 4 && NAMES[c][i] != NULL && m->field_of[c] == -1; i++) {
            m->field_of[c] = find_field(m, NAMES[c][i]);
            if (m->field_of[c] == -2) {
                sm_error why = SM_ERROR_INIT;
                sm_fail(&why, SM_ERR_FORMAT, "two columns '%s'", NAMES[c][i]);
                return bad_record(m, why.message, err);
            }
        }
    }
    if (m->field_of[COLUMN_PATH] < 0)
        return bad_record(m, "no column 'path', 'filename' or 'file' in the header", err);
    return SM_OK;
}

static bool has_gdc_header(const sm_manifest *m)
{
    return find_field(m, "id") >= 0 && find_field(m, "filename") >= 0 && find_field(m, "md5") >= 0;
}

/* ---- sums ---- */

typedef struct sum_line {
    sm_digest digest;
    char *path;
    bool escaped;
} sum_line;

static size_t hex_len(const char *text)
{
    return strspn(text, "0123456789abcdefABCDEF");
}

static bool digest_of_len(const char *hex, size_t len, sm_digest *digest)
{
    char text[SM_DIGEST_HEX_CAP];
    sm_error err = SM_ERROR_INIT;
    if (len != 64 && len != 32)
        return false;
    memcpy(text, hex, len);
    text[len] = '\0';
    return sm_digest_parse(len == 64 ? SM_DIGEST_SHA256 : SM_DIGEST_MD5, text, digest, &err) ==
           SM_OK;
}

/* SHA256 (path) = HEX: the path may hold anything, so the last ") = " counts. */
static bool cut_bsd_line(char *text, sum_line *line)
{
    const bool sha256 = strncmp(text, "SHA256 (", 8) == 0;
    if (!sha256 && strncmp(text, "MD5 (", 5) != 0)
        return false;
    char *close = NULL;
    line->path = text + (sha256 ? 8 : 5);
    for (char *p = line->path; (p = strstr(p, ") = ")) != NULL; p++)
        close = p;
    if (close == NULL)
        return false;
    const size_t len = hex_len(close + 4);
    if (close[4 + len] != '\0' || len != (sha256 ? 64 : 32))
        return false;
    *close = '\0';
    return digest_of_len(close + 4, len, &line->digest);
}

/* A line of sha256sum or md5sum; cuts it in place. */
static bool cut_sum_line(char *text, sum_line *line)
{
    line->escaped = text[0] == '\\';
    text += line->escaped;
    const size_t len = hex_len(text);
    if (text[len] != ' ' || (text[len + 1] != ' ' && text[len + 1] != '*'))
        return cut_bsd_line(text, line);
    line->path = text + len + 2;
    return digest_of_len(text, len, &line->digest);
}

/* In place; false on an escape that sha256sum does not write. */
static bool unescape(char *text)
{
    char *to = text;
    for (const char *from = text; *from != '\0'; from++) {
        char c = *from;
        if (c == '\\') {
            from++;
            if (*from != '\\' && *from != 'n' && *from != 'r')
                return false;
            c = *from;
            if (c != '\\')
                c = (char)(c == 'n' ? '\n' : '\r');
        }
        *to++ = c;
    }
    *to = '\0';
    return true;
}

static sm_status read_sum(sm_manifest *m, sm_manifest_entry *entry, const char **path,
                          sm_error *err)
{
    sum_line line = {0};
    const bool sha256 = m->kind == SM_MANIFEST_SHA256SUM;
    if (!cut_sum_line((char *)m->record.data, &line))
        return bad_record(m, "not a digest, two spaces and a path", err);
    if ((line.digest.kind == SM_DIGEST_SHA256) != sha256)
        return bad_record(m, sha256 ? "not a sha256" : "not an md5", err);
    if (line.escaped && !unescape(line.path))
        return bad_record(m, "a backslash that escapes nothing", err);
    entry->has_digest = true;
    entry->digest = line.digest;
    *path = line.path;
    return SM_OK;
}

/* ---- columns ---- */

static sm_status read_size(const sm_manifest *m, uint64_t *size_bytes, sm_error *err)
{
    const char *text = field(m, COLUMN_SIZE);
    uint64_t size = 0;
    if (text[0] == '\0')
        return SM_OK;
    for (const char *p = text; *p != '\0'; p++)
        if (*p < '0' || *p > '9' || __builtin_mul_overflow(size, UINT64_C(10), &size) ||
            __builtin_add_overflow(size, (uint64_t)(*p - '0'), &size) || size > INT64_MAX)
            return bad_record(m, "its size is not a number of bytes", err);
    *size_bytes = size;
    return SM_OK;
}

/* All that are given must be digests; the strongest is taken. */
static sm_status read_digests(const sm_manifest *m, sm_manifest_entry *entry, sm_error *err)
{
    static const struct {
        column column;
        sm_digest_kind kind;
    } DIGESTS[] = {{COLUMN_XXH128, SM_DIGEST_XXH128},
                   {COLUMN_MD5, SM_DIGEST_MD5},
                   {COLUMN_SHA256, SM_DIGEST_SHA256}};
    sm_error why = SM_ERROR_INIT;
    for (size_t i = 0; i < SM_COUNT(DIGESTS); i++) {
        const char *hex = field(m, DIGESTS[i].column);
        if (hex[0] == '\0')
            continue;
        if (sm_digest_parse(DIGESTS[i].kind, hex, &entry->digest, &why) != SM_OK) {
            sm_fail(&why, SM_ERR_FORMAT, "its %s is none", sm_digest_kind_name(DIGESTS[i].kind));
            return bad_record(m, why.message, err);
        }
        entry->has_digest = true;
    }
    return SM_OK;
}

static bool is_short_line(const char *text, size_t max)
{
    size_t len = 0;
    for (; text[len] != '\0'; len++)
        if ((unsigned char)text[len] < 0x20 || text[len] == 0x7F || len == max)
            return false;
    return true;
}

static sm_status read_columns(sm_manifest *m, sm_manifest_entry *entry, const char **path,
                              sm_error *err)
{
    sm_status st = cut_fields(m, m->kind == SM_MANIFEST_CSV, err);
    if (st == SM_OK)
        st = read_size(m, &entry->size_bytes, err);
    if (st == SM_OK)
        st = read_digests(m, entry, err);
    if (st != SM_OK)
        return st;
    const char *id = field(m, COLUMN_ID), *vendor = field(m, COLUMN_VENDOR);
    if (!is_short_line(id, MAX_ID) || !is_short_line(vendor, MAX_VENDOR))
        return bad_record(m, "its id or vendor is too long or has control characters", err);
    entry->external_id = id[0] != '\0' ? id : NULL;
    entry->vendor = vendor[0] != '\0' ? vendor : NULL;
    *path = field(m, COLUMN_PATH);
    if (m->kind != SM_MANIFEST_GDC || !m->gdc_folders)
        return SM_OK;
    if (id[0] == '\0')
        return bad_record(m, "no id, so no folder of that name", err);
    st = sm_path_join(id, *path, &m->name, err);
    *path = (const char *)m->name.data;
    return st;
}

/* ---- open ---- */

/* The byte order mark of UTF-8 is passed over; UTF-16 is what some spreadsheets save. */
static sm_status skip_mark(sm_manifest *m, sm_error *err)
{
    uint8_t mark[3] = {0};
    const uint64_t size = sm_source_size(m->source);
    const size_t len = size < sizeof mark ? (size_t)size : sizeof mark;
    const sm_status st = sm_source_pread(m->source, mark, len, 0, err);
    if (st != SM_OK)
        return st;
    if (len >= 2 && ((mark[0] == 0xFF && mark[1] == 0xFE) || (mark[0] == 0xFE && mark[1] == 0xFF)))
        return sm_fail(err, SM_ERR_FORMAT, "%s: is UTF-16; save it as UTF-8",
                       sm_source_path(m->source));
    if (len == 3 && memcmp(mark, "\xEF\xBB\xBF", 3) == 0)
        m->offset = 3;
    return SM_OK;
}

/* Begin again at the first line. */
static sm_status rewind_to_start(sm_manifest *m, sm_error *err)
{
    m->offset = m->n_lines = 0;
    m->at = m->have = 0;
    return skip_mark(m, err);
}

/* From the first line that says something. */
static sm_status recognise(sm_manifest *m, sm_error *err)
{
    bool more = false;
    sum_line line = {0};
    sm_status st = next_record(m, &more, err);
    if (st != SM_OK || !more)
        return st == SM_OK ? sm_fail(err, SM_ERR_FORMAT, "%s: is empty", sm_source_path(m->source))
                           : st;
    char *text = (char *)m->record.data;
    if (cut_sum_line(text, &line)) {
        m->kind = line.digest.kind == SM_DIGEST_SHA256 ? SM_MANIFEST_SHA256SUM : SM_MANIFEST_MD5SUM;
        return rewind_to_start(m, err);
    }
    const bool tabs = strchr(text, '\t') != NULL;
    m->kind = tabs ? SM_MANIFEST_TSV : SM_MANIFEST_CSV;
    st = cut_fields(m, !tabs, err);
    if (st == SM_OK && tabs && has_gdc_header(m))
        m->kind = SM_MANIFEST_GDC;
    if (st == SM_OK)
        st = read_header(m, err);
    if (st == SM_ERR_FORMAT) {
        m->kind = SM_MANIFEST_AUTO;
        return bad_record(m,
                          "neither a line of sha256sum or md5sum nor a header with a column 'path' "
                          "(CSV, TSV, GDC manifest)",
                          err);
    }
    return st == SM_OK ? rewind_to_start(m, err) : st;
}

/* The header of a table; a list of sums has none. */
static sm_status start(sm_manifest *m, sm_error *err)
{
    bool more = false;
    sm_status st = skip_mark(m, err);
    if (st == SM_OK && m->kind == SM_MANIFEST_AUTO)
        st = recognise(m, err);
    if (st != SM_OK || m->kind == SM_MANIFEST_SHA256SUM || m->kind == SM_MANIFEST_MD5SUM)
        return st;
    st = next_record(m, &more, err);
    if (st == SM_OK && !more)
        st = sm_fail(err, SM_ERR_FORMAT, "%s: has no header", sm_source_path(m->source));
    if (st == SM_OK)
        st = cut_fields(m, m->kind == SM_MANIFEST_CSV, err);
    if (st == SM_OK && m->kind == SM_MANIFEST_GDC && !has_gdc_header(m))
        return bad_record(m, "not a GDC manifest: no columns 'id', 'filename', 'md5'", err);
    return st == SM_OK ? read_header(m, err) : st;
}

sm_status sm_manifest_open(const sm_source *source, sm_manifest_kind kind, bool gdc_folders,
                           sm_manifest **manifest, sm_error *err)
{
    *manifest = NULL;
    sm_manifest *m = sm_calloc(1, sizeof(*m));
    if (m == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "%s: out of memory", sm_source_path(source));
    m->source = source;
    m->kind = kind;
    m->gdc_folders = gdc_folders;
    m->chunk = sm_malloc_array(CHUNK_BYTES, 1);
    sm_status st = SM_OK;
    if (m->chunk == NULL)
        st = sm_fail(err, SM_ERR_NOMEM, "%s: out of memory", sm_source_path(source));
    if (st == SM_OK)
        st = start(m, err);
    if (st != SM_OK)
        sm_manifest_close(&m);
    *manifest = m;
    return st;
}

sm_status sm_manifest_next(sm_manifest *manifest, sm_manifest_entry *entry, bool *more,
                           sm_error *err)
{
    sm_manifest *m = manifest;
    const char *path = NULL;
    *entry = (sm_manifest_entry){.size_bytes = UINT64_MAX};
    sm_status st = next_record(m, more, err);
    if (st != SM_OK || !*more)
        return st;
    entry->line = m->record_line;
    if (m->kind == SM_MANIFEST_SHA256SUM || m->kind == SM_MANIFEST_MD5SUM)
        st = read_sum(m, entry, &path, err);
    else
        st = read_columns(m, entry, &path, err);
    if (st != SM_OK)
        return st;
    st = sm_path_clean(path, &m->path, err);
    if (st == SM_ERR_ARG)
        return bad_record(m, err->message, err);
    entry->path = (const char *)m->path.data;
    return st;
}

sm_manifest_kind sm_manifest_get_kind(const sm_manifest *manifest)
{
    return manifest->kind;
}

void sm_manifest_close(sm_manifest **manifest)
{
    sm_manifest *m = *manifest;
    if (m == NULL)
        return;
    sm_buf_free(&m->record);
    sm_buf_free(&m->name);
    sm_buf_free(&m->path);
    free(m->chunk);
    free(m);
    *manifest = NULL;
}
