/* The OME-XML of a one-image brightfield pyramid. Source: OME-TIFF specification, schema 2016-06.
 */
#ifndef SM_TILER_OME_XML_H
#define SM_TILER_OME_XML_H

#include "tiler/profile.h"

/** Append the XML (UTF-8, no NUL) to out. Its length depends on nothing but slide and plan. */
SM_NODISCARD sm_status sm_ome_xml(const sm_slide_info *info, const sm_plan *plan,
                                  const sm_provenance *provenance, sm_buf *out, sm_error *err);

#endif
