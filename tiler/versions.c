/* Versions of the libraries. */
#include "tiler/versions.h"

#include <stdio.h> /* jpeglib.h needs FILE */

#include <jpeglib.h>
#include <openslide.h>
#include <string.h>
#include <tiffio.h>
#include <zstd.h>

#define TEXT_OF(number) #number
#define QUOTED(macro) TEXT_OF(macro)

const char *sm_library_versions(void)
{
    static char text[160];
    const char *tiff = TIFFGetVersion(); /* "LIBTIFF, Version 4.5.0\nCopyright ..." */
    const char *number = strstr(tiff, "Version ");
    number = number != NULL ? number + strlen("Version ") : tiff;
    snprintf(text, sizeof text, "libtiff %.*s, libjpeg-turbo %s, OpenSlide %s, zstd %s",
             (int)strcspn(number, "\n"), number, QUOTED(LIBJPEG_TURBO_VERSION),
             openslide_get_version(), ZSTD_versionString());
    return text;
}
