/* Which files are slides, and which files belong to one. By name only; nothing is decoded. */
#ifndef SM_INGEST_PARTS_H
#define SM_INGEST_PARTS_H

#include <stdbool.h>
#include <stddef.h>

#include "common/error.h"

/** Vendor by file name: ".svs" aperio, ".ndpi" hamamatsu, ".scn" leica, ".mrxs" mirax,
 * ".vms"/".vmu" hamamatsu, ".bif" ventana, ".svslide" sakura, ".tif"/".tiff"/".btf" generic-tiff,
 * ".ome.tif*" ome-tiff, ".dcm" dicom; NULL: no slide. Any case. */
const char *sm_parts_vendor(const char *path);

/**
 * Further files of the slide root_fd/path: MRXS: every file of the folder of the same stem;
 * VMS/VMU: the files its key=value lines name, in its own folder. Relative to the root, sorted,
 * malloc'ed. A part that is named but missing is listed all the same.
 */
SM_NODISCARD sm_status sm_parts_find(int root_fd, const char *path, char ***parts, size_t *n,
                                     sm_error *err);
void sm_parts_free(char ***parts, size_t n);

#endif
