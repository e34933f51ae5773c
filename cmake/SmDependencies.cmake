# The libraries slidemill stands on, as imported targets. Every name looked up here stands beside its
# Debian package in `bootstrap`; .ci/check-packages.sh compares the two.

set(THREADS_PREFER_PTHREAD_FLAG ON)
find_package(Threads REQUIRED)
find_package(TIFF 4.5 REQUIRED)
find_package(JPEG REQUIRED)
find_package(EXPAT REQUIRED)
find_package(OpenSSL REQUIRED COMPONENTS Crypto)
find_package(SQLite3 3.37 REQUIRED) # STRICT tables
find_package(PkgConfig REQUIRED)
pkg_check_modules(openslide REQUIRED IMPORTED_TARGET openslide)
include(CheckSymbolExists)
set(CMAKE_REQUIRED_LIBRARIES PkgConfig::openslide)
check_symbol_exists(openslide_get_icc_profile_size "openslide.h" SM_HAVE_OPENSLIDE_ICC) # 4.0
unset(CMAKE_REQUIRED_LIBRARIES)
pkg_check_modules(zstd REQUIRED IMPORTED_TARGET libzstd)
pkg_check_modules(libdeflate REQUIRED IMPORTED_TARGET libdeflate)
pkg_check_modules(xxhash REQUIRED IMPORTED_TARGET libxxhash)
pkg_check_modules(cjson REQUIRED IMPORTED_TARGET libcjson)
# Without liburing all I/O goes through the thread pool behind the same calls.
pkg_check_modules(liburing IMPORTED_TARGET liburing)

# Without MPI slidemill-ingest runs as one rank; everything else is the same.
option(SM_MPI "Let slidemill-ingest use MPI where it is found" ON)
if(SM_MPI)
  find_package(MPI COMPONENTS C)
endif()

if(BUILD_TESTING)
  pkg_check_modules(cmocka IMPORTED_TARGET cmocka)
endif()
