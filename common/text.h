/* Text from outside (file names, metadata) made fit to print. Owns nothing. */
#ifndef SM_COMMON_TEXT_H
#define SM_COMMON_TEXT_H

#include <stdbool.h>

#include "common/buf.h"

/**
 * Replace out by `text` as valid UTF-8 with a NUL at its end (counted in len).
 * @param terminal  true: control characters and bytes that are no UTF-8 become '?', so the result
 * is one line and never longer; false (JSON): what is no UTF-8 becomes U+FFFD
 */
SM_NODISCARD sm_status sm_text_clean(const char *text, bool terminal, sm_buf *out, sm_error *err);

#endif
