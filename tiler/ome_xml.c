/* The OME-XML of a one-image brightfield pyramid. No names, dates or ids of the slide go in. */
#include "tiler/ome_xml.h"

#include <math.h>

#define OME_SCHEMA "http://www.openmicroscopy.org/Schemas/OME/2016-06"

static sm_status physical_size(const sm_slide_info *info, sm_buf *out, sm_error *err)
{
    if (info->mpp_x <= 0.0 || info->mpp_y <= 0.0)
        return SM_OK;
    return sm_buf_printf(out, err,
                         " PhysicalSizeX=\"%.12g\" PhysicalSizeXUnit=\"\xc2\xb5m\""
                         " PhysicalSizeY=\"%.12g\" PhysicalSizeYUnit=\"\xc2\xb5m\"",
                         info->mpp_x, info->mpp_y);
}

sm_status sm_ome_xml(const sm_slide_info *info, const sm_plan *plan,
                     const sm_provenance *provenance, sm_buf *out, sm_error *err)
{
    const bool objective = info->objective > 0.0;
    sm_status st = sm_buf_printf(out, err,
                                 "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
                                 "<OME xmlns=\"" OME_SCHEMA
                                 "\" xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\""
                                 " xsi:schemaLocation=\"" OME_SCHEMA " " OME_SCHEMA "/ome.xsd\""
                                 " Creator=\"slidemill " SM_VERSION "\">\n");
    if (st == SM_OK && objective)
        st = sm_buf_printf(out, err,
                           "<Instrument ID=\"Instrument:0\"><Objective ID=\"Objective:0\""
                           " NominalMagnification=\"%.6g\"/></Instrument>\n",
                           info->objective);
    if (st == SM_OK)
        st = sm_buf_printf(out, err, "<Image ID=\"Image:0\" Name=\"slide\">%s\n",
                           objective ? "<InstrumentRef ID=\"Instrument:0\"/>"
                                       "<ObjectiveSettings ID=\"Objective:0\"/>"
                                     : "");
    if (st == SM_OK)
        st = sm_buf_printf(out, err,
                           "<Pixels ID=\"Pixels:0\" DimensionOrder=\"XYCZT\" Type=\"uint8\""
                           " Interleaved=\"true\" SizeX=\"%u\" SizeY=\"%u\" SizeZ=\"1\""
                           " SizeC=\"3\" SizeT=\"1\"",
                           plan->out[0].w_px, plan->out[0].h_px);
    if (st == SM_OK)
        st = physical_size(info, out, err);
    if (st == SM_OK)
        st = sm_buf_printf(out, err,
                           "><Channel ID=\"Channel:0:0\" SamplesPerPixel=\"3\"/>"
                           "<TiffData IFD=\"0\" PlaneCount=\"1\"/></Pixels>"
                           "<AnnotationRef ID=\"Annotation:0\"/></Image>\n"
                           "<StructuredAnnotations><MapAnnotation ID=\"Annotation:0\""
                           " Namespace=\"slidemill\"><Value>"
                           "<M K=\"source-sha256\">%s</M><M K=\"data-xxh128\">%s</M>"
                           "<M K=\"head-xxh128\">%s</M></Value></MapAnnotation>"
                           "</StructuredAnnotations>\n</OME>",
                           provenance->source_sha256, provenance->data_xxh128,
                           provenance->head_xxh128);
    return st;
}
