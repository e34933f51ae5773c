# sm_flags: how every target of ours is compiled. Linked PRIVATE; nothing here is global.

option(SM_WERROR "Treat warnings as errors" OFF)
option(SM_FUZZ "Build the libFuzzer targets (Clang)" OFF)
set(SM_SANITIZE "" CACHE STRING "Sanitizers, comma-separated: address,undefined or thread")

add_library(sm_flags INTERFACE)
target_compile_features(sm_flags INTERFACE c_std_17)
set(CMAKE_C_EXTENSIONS OFF)
target_include_directories(sm_flags INTERFACE "${PROJECT_SOURCE_DIR}")
target_compile_definitions(sm_flags INTERFACE _GNU_SOURCE SM_VERSION="${PROJECT_VERSION}")
target_compile_options(sm_flags INTERFACE
  -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Wvla -Wformat=2 -Wundef -Wcast-qual
  -Wpointer-arith -Wdouble-promotion -Wimplicit-fallthrough -Wstrict-prototypes
  -Wmissing-prototypes -Wold-style-definition
  $<$<BOOL:${SM_WERROR}>:-Werror>
  # The 2x2 means and the tile copies are plain loops; -O3 is what vectorises them.
  $<$<CONFIG:RelWithDebInfo>:-O3>)

if(SM_SANITIZE)
  set(sm_sanitize_flags -fsanitize=${SM_SANITIZE} -fno-omit-frame-pointer
                        -fno-sanitize-recover=all)
  target_compile_options(sm_flags INTERFACE ${sm_sanitize_flags} -O1)
  target_link_options(sm_flags INTERFACE ${sm_sanitize_flags})
endif()

if(SM_FUZZ)
  if(NOT CMAKE_C_COMPILER_ID MATCHES "Clang")
    message(FATAL_ERROR "SM_FUZZ needs Clang's libFuzzer: use the preset `fuzz`")
  endif()
  target_compile_options(sm_flags INTERFACE -fsanitize=fuzzer-no-link)
endif()
