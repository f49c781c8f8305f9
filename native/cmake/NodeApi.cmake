# Node-API headers. cmake-js passes them in CMAKE_JS_INC; a plain `cmake -S native` asks Node for the same npm packages.
add_library(NodeApi::headers INTERFACE IMPORTED)
if(NOT CMAKE_JS_INC)
  find_program(NODE_EXECUTABLE node REQUIRED)
  execute_process(
    COMMAND ${NODE_EXECUTABLE} -p "[require('node-api-headers').include_dir, require('node-addon-api').include_dir].join(';')"
    WORKING_DIRECTORY ${CMAKE_CURRENT_SOURCE_DIR}
    OUTPUT_VARIABLE CMAKE_JS_INC OUTPUT_STRIP_TRAILING_WHITESPACE
    COMMAND_ERROR_IS_FATAL ANY)
endif()
target_include_directories(NodeApi::headers SYSTEM INTERFACE ${CMAKE_JS_INC})
target_compile_definitions(NodeApi::headers INTERFACE NAPI_VERSION=9 NAPI_CPP_EXCEPTIONS BUILDING_NODE_EXTENSION
  NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS NODE_ADDON_API_DISABLE_DEPRECATED NODE_API_NO_EXTERNAL_BUFFERS_ALLOWED)
