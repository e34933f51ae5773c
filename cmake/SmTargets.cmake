# Helpers that make our targets alike, and what goes where when they are installed.

# Everything is of the component `slidemill` (what a login node without MPI can run) unless it says
# otherwise; see SmPackage.cmake.
set(CMAKE_INSTALL_DEFAULT_COMPONENT_NAME slidemill)

# sm_add_library(NAME SOURCES...): a static library compiled with sm_flags.
function(sm_add_library name)
  add_library(${name} STATIC ${ARGN})
  target_link_libraries(${name} PRIVATE sm_flags)
endfunction()

# sm_add_program(NAME SOURCE [LIBRARIES...]): an executable in <build>/bin.
function(sm_add_program name source)
  add_executable(${name} ${source})
  target_link_libraries(${name} PRIVATE sm_flags ${ARGN})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/bin")
endfunction()

# sm_install_program(NAME): install a program and the man page it prints of itself.
function(sm_install_program name)
  set(component slidemill)
  get_target_property(libraries ${name} LINK_LIBRARIES)
  if("sm_ranks" IN_LIST libraries AND MPI_C_FOUND)
    set(component mpi)
  endif()
  install(TARGETS ${name} RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}" COMPONENT ${component})
  set_property(GLOBAL APPEND PROPERTY SM_PROGRAMS ${name})
  set(page "${PROJECT_BINARY_DIR}/man/man1/${name}.1")
  add_custom_command(
    OUTPUT "${page}"
    COMMAND "${CMAKE_COMMAND}" "-DPROGRAM=$<TARGET_FILE:${name}>" "-DPAGE=${page}"
            -P "${PROJECT_SOURCE_DIR}/cmake/ManPage.cmake"
    DEPENDS ${name} "${PROJECT_SOURCE_DIR}/cmake/ManPage.cmake"
    COMMENT "Writing man page ${name}.1"
    VERBATIM)
  add_custom_target(${name}-man ALL DEPENDS "${page}")
  install(FILES "${page}" DESTINATION "${CMAKE_INSTALL_MANDIR}/man1" COMPONENT ${component})
endfunction()

# sm_add_command(NAME SOURCE [LIBRARIES...]): a program, installed with its man page.
function(sm_add_command name source)
  sm_add_program(${name} ${source} ${ARGN})
  sm_install_program(${name})
endfunction()

# sm_add_helper(NAME SOURCE [LIBRARIES...]): a program that only our other programs start.
function(sm_add_helper name source)
  sm_add_program(${name} ${source} ${ARGN})
  install(TARGETS ${name} RUNTIME DESTINATION "${CMAKE_INSTALL_LIBEXECDIR}/slidemill")
endfunction()
