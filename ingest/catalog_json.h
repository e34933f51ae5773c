/* JSON written to a buffer: 64-bit numbers stay exact, and no tree is built for a million lines.
 * Owns nothing. */
#ifndef SM_INGEST_CATALOG_JSON_H
#define SM_INGEST_CATALOG_JSON_H

#include <stdbool.h>
#include <stdint.h>

#include "common/buf.h"

typedef struct json {
    sm_buf *out;
    sm_error *err;
    sm_status status; /* the first failure; what follows does nothing */
    bool comma;       /* something stands before */
} json;

/* key NULL: an element of an array, or the document. */
void json_open(json *j, const char *key, char bracket);
void json_close(json *j, char bracket);
/** Any bytes: what is no UTF-8 becomes U+FFFD. NULL: null. */
void json_text(json *j, const char *key, const char *text);
void json_number(json *j, const char *key, uint64_t number);
/** 0 is null. */
void json_real(json *j, const char *key, double number);
void json_bool(json *j, const char *key, bool value);
void json_null(json *j, const char *key);

#endif
