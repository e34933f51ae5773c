/* Is this file whole? Structure, digests, every tile; and how it compares with its source. */
#ifndef SM_TILER_VERIFY_H
#define SM_TILER_VERIFY_H

#include "common/digest.h"
#include "tiler/mill.h"

/* How an output level compares with the source. */
typedef struct sm_level_compare {
    uint32_t w_px, h_px;
    bool compared;
    char why_not[80];       /* when it was not compared */
    bool from_source_level; /* the source has a level of this size; else 2x2 means of a finer one */
    uint32_t source_level;
    bool same_bytes; /* every compressed tile is the source's, but for COM and APPn segments */
    uint64_t n_samples, n_different, sum_squares;
    uint32_t max_difference;
} sm_level_compare;

/** PSNR in dB of 8-bit samples; infinity if identical. */
double sm_compare_psnr(const sm_level_compare *c);

typedef struct sm_verify_report {
    char reader[32], vendor[64];
    uint64_t bytes, n_tiles;
    uint32_t n_levels;
    sm_digest sha256;
    bool has_provenance;   /* slidemill wrote it, and its description holds digests */
    bool head_ok, data_ok; /* those digests agree with the bytes */
    char source_sha256[SM_DIGEST_HEX_CAP]; /* what it was made from, if has_provenance */
    uint64_t n_bad;
    sm_bad_tile *bad;
    bool against;
    sm_digest against_sha256;
    bool against_is_source; /* against's digest is the one in the provenance */
    uint32_t n_compared;
    sm_level_compare levels[SM_MAX_LEVELS];
} sm_verify_report;

typedef struct sm_verify_options {
    unsigned threads;
    const char *against; /* path of the source, or NULL */
    bool quiet;
} sm_verify_options;

/**
 * @return SM_OK: it was read to its end; report says what was found (bad tiles, digests that differ
 *         are findings, not errors). SM_ERR_FORMAT/CORRUPT: it does not open as a pyramid.
 */
SM_NODISCARD sm_status sm_verify(const char *path, const sm_verify_options *options,
                                 sm_verify_report *report, sm_error *err);

void sm_verify_report_clear(sm_verify_report *report);

/** Compare an opened output with an opened source, level by level (compare.c). */
SM_NODISCARD sm_status sm_compare(const sm_slide *output, const sm_slide *source, unsigned threads,
                                  sm_progress *progress, sm_verify_report *report, sm_error *err);

#endif
