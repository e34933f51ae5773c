/* The text of a report while it is written: HTML in memory, where the first failure sticks, so that
 * only its end has to look. Everything from outside goes through sm_page_text. */
#ifndef SM_BENCH_REPORT_PAGE_H
#define SM_BENCH_REPORT_PAGE_H

#include "common/buf.h"

typedef struct sm_page {
    sm_buf html;
    sm_status status; /* of the first failure */
    unsigned n_ids;   /* ids given out so far */
    sm_error *err;    /* borrowed */
} sm_page;

/** Markup of our own, formatted. */
void sm_page_put(sm_page *page, const char *fmt, ...) SM_PRINTF(2, 3);
/** Text of anybody: cleaned and escaped, for content and quoted attributes. NULL: nothing. */
void sm_page_text(sm_page *page, const char *text);
/** Bytes as base64. */
void sm_page_base64(sm_page *page, const uint8_t *bytes, size_t len);

/** "<h2>" with a section around what follows, to sm_page_end. */
void sm_page_section(sm_page *page, const char *id, const char *heading);
void sm_page_end(sm_page *page);

/** Everything before the first section: styles, script, heading; and after the last. */
void sm_page_head(sm_page *page, const char *title);
void sm_page_tail(sm_page *page, const char *version);

#endif
