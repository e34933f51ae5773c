/* Label, macro and thumbnail in the output: uncompressed strips behind the levels, for whoever asks
 * for them. They can show patient data, so nobody gets them unasked. */
#ifndef SM_TILER_ASSOCIATED_H
#define SM_TILER_ASSOCIATED_H

#include "common/sink.h"
#include "tiler/bigtiff.h"
#include "tiler/slide.h"

/** Append one directory for each associated image of the slide; *first is the first one's number.
 */
SM_NODISCARD sm_status sm_associated_add_dirs(const sm_slide *slide, sm_bigtiff *tiff,
                                              uint32_t *first, sm_error *err);

/** Append their pixels to sink and place them; directories from sm_associated_add_dirs. */
SM_NODISCARD sm_status sm_associated_write(const sm_slide *slide, uint32_t first, sm_bigtiff *tiff,
                                           sm_sink *sink, sm_error *err);

#endif
