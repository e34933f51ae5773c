/* Versions of the libraries that a binary runs with. */
#ifndef SM_TILER_VERSIONS_H
#define SM_TILER_VERSIONS_H

/** One line: "libtiff 4.5.0, libjpeg-turbo 2.1.5, OpenSlide 3.4.1, ..."; static. */
const char *sm_library_versions(void);

#endif
