/* What kind of pyramid file it is: which tags stand where, and the description. The layout, reader
 * by reader, is docs/formats.md. */
#ifndef SM_TILER_PROFILE_H
#define SM_TILER_PROFILE_H

#include "common/digest.h"
#include "tiler/bigtiff.h"
#include "tiler/plan.h"

/* The order is that of the words of --profile. */
typedef enum sm_profile {
    SM_PROFILE_HYBRID,  /* levels in the main chain and as SubIFDs; OME-XML */
    SM_PROFILE_GENERIC, /* levels in the main chain; no XML */
} sm_profile;

/* What the description says of the bytes; see docs/formats.md "Digests in the file". */
typedef struct sm_provenance {
    char source_sha256[SM_DIGEST_HEX_CAP]; /* of the whole source file */
    char data_xxh128[SM_DIGEST_HEX_CAP];   /* of everything behind the head */
    char head_xxh128[SM_DIGEST_HEX_CAP];   /* of the head, with these digits as '0' */
} sm_provenance;

/** All-'0' digits of the right lengths. */
void sm_provenance_init(sm_provenance *provenance);

/**
 * Read the provenance out of a description. False if it has none (not written by slidemill).
 */
bool sm_provenance_find(const char *description, sm_provenance *provenance);

/**
 * All directories of the output, tile arrays reserved; directory i is output level i. Digests are
 * '0' until sm_profile_describe. tables: by output level, tag 347 if len > 0.
 */
SM_NODISCARD sm_status sm_profile_build(sm_profile profile, const sm_slide *slide,
                                        const sm_plan *plan, const sm_buf *tables,
                                        sm_bigtiff **tiff, sm_error *err);

/** Write the digests into the description of directory 0; its length stays. */
SM_NODISCARD sm_status sm_profile_describe(sm_profile profile, const sm_slide *slide,
                                           const sm_plan *plan, const sm_provenance *provenance,
                                           sm_bigtiff *tiff, sm_error *err);

#endif
