/* Lists of files from outside: sha256sum, md5sum, GDC manifests, CSV and TSV. Read line by line in
 * bounded memory; every path is cleaned and refused if it could leave the root. */
#ifndef SM_COMMON_MANIFEST_H
#define SM_COMMON_MANIFEST_H

#include <stdint.h>

#include "common/buf.h"
#include "common/digest.h"
#include "common/error.h"
#include "common/source.h"

#define SM_MANIFEST_LINE_MAX 65536

typedef enum sm_manifest_kind {
    SM_MANIFEST_AUTO, /* recognised from the first line */
    SM_MANIFEST_SHA256SUM,
    SM_MANIFEST_MD5SUM,
    SM_MANIFEST_GDC, /* id, filename, md5, size, state: tab-separated with a header */
    SM_MANIFEST_CSV, /* header names columns: path|filename|file, size|bytes, sha256, md5, xxh128,
                        id, vendor */
    SM_MANIFEST_TSV,
} sm_manifest_kind;

/* One line. Pointers are valid until the next. */
typedef struct sm_manifest_entry {
    uint64_t line;
    const char *path;    /* cleaned */
    uint64_t size_bytes; /* UINT64_MAX: not said */
    bool has_digest;
    sm_digest digest;
    const char *external_id; /* NULL: none */
    const char *vendor;      /* NULL: none */
} sm_manifest_entry;

typedef struct sm_manifest sm_manifest;

/**
 * @param source  borrowed
 * sha256sum: "HEX  path", "HEX *path", "\HEX  path" with \\ \n \r escapes, "SHA256 (path) = HEX";
 * UTF-8 byte order mark and CRLF are taken; CSV after RFC 4180 (quoted fields may hold newlines).
 * GDC: filename is id/filename below the root as gdc-client lays it out when `gdc_folders`, else
 * filename.
 * SM_ERR_FORMAT: not such a list, with the line.
 */
SM_NODISCARD sm_status sm_manifest_open(const sm_source *source, sm_manifest_kind kind,
                                        bool gdc_folders, sm_manifest **manifest, sm_error *err);
/** *more false at the end. A bad line is SM_ERR_FORMAT "NAME: line 7: ..."; the caller may go on
 * with the next (the reader resumes after it), except after a line longer than SM_MANIFEST_LINE_MAX
 *  without end, whose rest is skipped first. */
SM_NODISCARD sm_status sm_manifest_next(sm_manifest *manifest, sm_manifest_entry *entry, bool *more,
                                        sm_error *err);
sm_manifest_kind sm_manifest_get_kind(const sm_manifest *manifest);
/** "sha256sum", "md5sum", "gdc", "csv", "tsv". */
const char *sm_manifest_kind_name(sm_manifest_kind kind);
void sm_manifest_close(sm_manifest **manifest);

/** One line for `sha256sum -c` (escaped as coreutils does), newline included, appended. */
SM_NODISCARD sm_status sm_manifest_write_sum(const sm_digest *digest, const char *path, sm_buf *out,
                                             sm_error *err);
/** One CSV field (RFC 4180 quoting when needed; a leading = + - @ is not touched), appended. */
SM_NODISCARD sm_status sm_manifest_write_csv_field(const char *text, sm_buf *out, sm_error *err);

#endif
