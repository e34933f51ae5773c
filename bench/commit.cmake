# Writes HEADER with the commit of SOURCE; touches it only when that changed.
execute_process(COMMAND git -C "${SOURCE}" describe --always --dirty --abbrev=12
                OUTPUT_VARIABLE commit OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
set(text "#define BENCH_COMMIT \"${commit}\"\n")
if(EXISTS "${HEADER}")
  file(READ "${HEADER}" before)
endif()
if(NOT "${before}" STREQUAL "${text}")
  file(WRITE "${HEADER}" "${text}")
endif()
