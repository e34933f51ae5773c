/* What a JPEG codestream says of itself, read from its markers without decoding; and the copy of a
 * tile without the segments that may carry private data. Sources: ITU-T T.81 Annex B, TIFF
 * TechNote 2. */
#ifndef SM_TILER_JPEG_INFO_H
#define SM_TILER_JPEG_INFO_H

#include "common/buf.h"
#include "tiler/slide.h"

typedef struct sm_jpeg_header {
    uint32_t w_px, h_px;
    uint8_t precision;
    uint8_t sof; /* marker code: 0xC0 baseline, 0xC1 extended, 0xC2 progressive, ... */
    uint8_t n_components;
    uint8_t ids[4], h[4], v[4], tq[4];
    bool jfif;
    bool adobe;
    uint8_t adobe_transform;
    bool has_dqt, has_dht;
    uint16_t restart_interval;
    size_t scan_offset; /* of the first entropy-coded byte (after the first SOS segment) */
} sm_jpeg_header;

/** Walk the markers up to the first scan. SM_ERR_CORRUPT with the offset inside the stream. */
SM_NODISCARD sm_status sm_jpeg_header_read(const uint8_t *bytes, size_t len, sm_jpeg_header *header,
                                           sm_error *err);

/**
 * The colour the stream really holds (docs/formats.md "Believe the codestream"): Adobe transform,
 * then JFIF, then ids 'R','G','B', then subsampled chroma (only YCbCr is), then the photometric
 * tag.
 */
sm_colour sm_jpeg_colour(const sm_jpeg_header *header, uint16_t photometric);

/** Fill traits from a tile's header, its tables (may be NULL) and the tag. */
SM_NODISCARD sm_status sm_jpeg_traits_read(const uint8_t *bytes, size_t len, const uint8_t *tables,
                                           size_t tables_len, uint16_t photometric,
                                           sm_jpeg_traits *traits, sm_error *err);

/**
 * Append the stream to out without its COM and APPn segments (APP14 stays), coding segments and
 * entropy-coded bytes untouched; bytes after EOI are dropped. Also for tables-only streams.
 * @return SM_ERR_CORRUPT: no SOI, segment beyond the end, or no EOI.
 */
SM_NODISCARD sm_status sm_jpeg_strip(const uint8_t *bytes, size_t len, sm_buf *out, sm_error *err);

#endif
