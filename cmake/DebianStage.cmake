# Run by CPack between staging and packing: man pages and the changelog compressed, the licence as
# Debian's `copyright`, folders with usual permissions. Archives are left as they are.
if(NOT CPACK_GENERATOR STREQUAL "DEB")
  return()
endif()

file(GLOB stages "${CPACK_TEMPORARY_DIRECTORY}/*")
foreach(stage IN LISTS stages)
  set(usr "${stage}${CPACK_PACKAGING_INSTALL_PREFIX}")
  if(NOT IS_DIRECTORY "${usr}")
    continue()
  endif()
  set(package slidemill)
  if(stage MATCHES "/mpi$")
    set(package slidemill-mpi)
  endif()
  set(doc "${usr}/share/doc/${package}")
  file(REMOVE "${usr}/share/doc/slidemill/LICENSE")
  file(WRITE "${doc}/copyright"
"Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: slidemill

Files: *
Copyright: 2026 the slidemill developers
License: Apache-2.0
 On Debian systems the text of the Apache License, Version 2.0, is in
 /usr/share/common-licenses/Apache-2.0.
")
  string(TIMESTAMP date "%a, %d %b %Y %H:%M:%S +0000" UTC)
  set(log "${doc}/changelog")
  file(WRITE "${log}"
"slidemill (${CPACK_PACKAGE_VERSION}) unstable; urgency=medium

  * Package made by CPack from the sources of this version.

 -- ${CPACK_PACKAGE_CONTACT}  ${date}
")
  file(GLOB pages "${usr}/share/man/man1/*.1")
  execute_process(COMMAND gzip -9nf ${pages} "${log}" COMMAND_ERROR_IS_FATAL ANY)
  execute_process(COMMAND chmod -R go=u-w "${usr}" COMMAND_ERROR_IS_FATAL ANY)
endforeach()
