# `cpack -G DEB` in the build folder makes two packages: slidemill, which a login node without MPI can
# take, and slidemill-mpi with the one program that is linked to MPI. `cpack -G TGZ` makes archives
# of the same two, whose usr/ may be unpacked anywhere.

set(CPACK_PACKAGE_NAME slidemill)
set(CPACK_PACKAGE_VENDOR "slidemill")
set(SM_PACKAGE_CONTACT "slidemill developers <slidemill@example.org>" CACHE STRING
    "Maintainer named in the packages: NAME <MAIL>")
set(CPACK_PACKAGE_CONTACT "${SM_PACKAGE_CONTACT}")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "${PROJECT_DESCRIPTION}")
set(CPACK_RESOURCE_FILE_LICENSE "${PROJECT_SOURCE_DIR}/LICENSE")
set(CPACK_STRIP_FILES ON)
set(CPACK_PACKAGE_DIRECTORY "${PROJECT_BINARY_DIR}/packages")
set(CPACK_COMPONENTS_GROUPING ONE_PER_GROUP)
set(CPACK_ARCHIVE_COMPONENT_INSTALL ON)
set(CPACK_COMPONENTS_ALL slidemill)
if(MPI_C_FOUND)
  list(APPEND CPACK_COMPONENTS_ALL mpi)
endif()
set(CPACK_COMPONENT_SLIDEMILL_REQUIRED ON)

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION science)
set(CPACK_DEBIAN_PACKAGE_PRIORITY optional)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_COMPRESSION_TYPE xz)

set(CPACK_DEBIAN_SLIDEMILL_PACKAGE_NAME slidemill)
set(CPACK_DEBIAN_SLIDEMILL_DESCRIPTION
"slidemill converts whole-slide images of pathology scanners into tiled,
verified pyramids that OpenSlide, QuPath, Bio-Formats and libvips open, one
slide at a time or a whole corpus with a catalog and Slurm arrays.

This package has everything but slidemill-ingest, so that a login node
without MPI can make catalogs and plans, submit jobs and show their status.")
# bash, coreutils and util-linux, which the Slurm scripts use, are essential and need no entry.
set(CPACK_DEBIAN_SLIDEMILL_PACKAGE_SUGGESTS "slidemill-mpi, slurm-client, environment-modules | lmod")

set(CPACK_DEBIAN_MPI_PACKAGE_NAME slidemill-mpi)
set(CPACK_DEBIAN_MPI_DESCRIPTION
"slidemill converts whole-slide images of pathology scanners into tiled,
verified pyramids that OpenSlide, QuPath, Bio-Formats and libvips open.

This package has slidemill-ingest, the program of the compute nodes, which
takes a corpus through MPI ranks.")
set(CPACK_DEBIAN_MPI_PACKAGE_DEPENDS "slidemill (= ${PROJECT_VERSION})")
set(CPACK_DEBIAN_MPI_PACKAGE_RECOMMENDS openmpi-bin)
set(CPACK_DEBIAN_MPI_PACKAGE_SUGGESTS slurm-client)

# What Debian wants to be otherwise than `cmake --install` puts it.
set(CPACK_PRE_BUILD_SCRIPTS "${PROJECT_SOURCE_DIR}/cmake/DebianStage.cmake")
include(CPack)
