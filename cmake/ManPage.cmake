# PROGRAM --man-page > PAGE, without leaving half a page behind.
execute_process(COMMAND "${PROGRAM}" --man-page OUTPUT_VARIABLE text RESULT_VARIABLE result)
if(NOT result EQUAL 0)
  message(FATAL_ERROR "${PROGRAM} --man-page failed: ${result}")
endif()
file(WRITE "${PAGE}" "${text}")
