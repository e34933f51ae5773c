/* What a conversion did, told to a person or to a program. */
#ifndef SM_TILER_REPORT_H
#define SM_TILER_REPORT_H

#include "tiler/convert.h"

/** The closing summary, some lines of text, NUL-terminated, appended to text. */
SM_NODISCARD sm_status sm_report_text(const char *in, const char *out,
                                      const sm_convert_report *report, sm_buf *text, sm_error *err);

/** The same as one JSON object (docs/formats.md "JSON of convert"), NUL-terminated. status is that
 * of the conversion; failure is its error, used when status is not SM_OK. */
SM_NODISCARD sm_status sm_report_json(const char *in, const char *out,
                                      const sm_convert_report *report, const sm_error *failure,
                                      sm_buf *text, sm_error *err);

enum { SM_PLACE_CAP = 96 };

/** "level 0, column 7, row 1 at byte 103359"; rendered tiles have no byte. Returns text. */
const char *sm_bad_tile_place(const sm_bad_tile *bad, char text[SM_PLACE_CAP]);

#endif
