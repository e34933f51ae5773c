/* A JPEG tile of one colour that fits in among a level's copied tiles. */
#ifndef SM_TILER_BLANK_JPEG_H
#define SM_TILER_BLANK_JPEG_H

#include "common/buf.h"
#include "tiler/slide.h"

/**
 * Append a tile of the level's size, sampling and colour space in one colour, coded with the
 * level's own tables (abbreviated when the level has tag 347, complete otherwise).
 * @return SM_ERR_FORMAT: the level's tables cannot code it.
 */
SM_NODISCARD sm_status sm_blank_jpeg(const sm_level *level, const uint8_t rgb[3], sm_buf *out,
                                     sm_error *err);

#endif
