/* A pattern of paths whose parts become columns: "{release}/svs/{patient}/{name}.svs". */
#ifndef SM_INGEST_PATTERN_H
#define SM_INGEST_PATTERN_H

#include <stdbool.h>

#include "common/catalog.h"

typedef struct sm_pattern sm_pattern;

/** Names in braces match one or more bytes other than '/', as few as possible; "{{" and "}}" are
 *  braces; all else matches itself. SM_ERR_ARG, saying where it is wrong. */
SM_NODISCARD sm_status sm_pattern_new(const char *text, sm_pattern **pattern, sm_error *err);
void sm_pattern_free(sm_pattern **pattern);
/** Names in their order; *n of them. */
const char *const *sm_pattern_names(const sm_pattern *pattern, size_t *n);
/** Values in the order of names, valid until the next match; NULL: the path is not of the pattern.
 */
const char *const *sm_pattern_match(sm_pattern *pattern, const char *path);
/** The fields of a slide from its path, if the pattern (may be NULL) takes it. */
SM_NODISCARD sm_status sm_pattern_fill(sm_pattern *pattern, sm_catalog *catalog, int64_t id,
                                       const char *path, sm_error *err);

#endif
