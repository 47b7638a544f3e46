# pst_add_test(test_uri [INTERNAL] [SOURCES more.c ...] [LIBRARIES ...] [TIMEOUT_S 60] [SERIAL])
#
# Builds <name>.c of the current folder as one cmocka program and one ctest, labelled with the name
# of the folder (of the plugin, for its own tests). INTERNAL links the archive and sees sdk/src; without it the test is a host like any
# other: public headers and libpenstock.so.
#
# A test finds what it needs in its environment: PST_TEST_BIN (folder of the command),
# PST_TEST_PLUGINS (folder of the plugins), PST_TEST_SOURCE (top of the repository). A cmocka test
# that skips itself turns the whole ctest into "skipped", which scripts/test counts as a failure
# unless tests/allowed-skips.txt gives a reason.

function(pst_add_test name)
    cmake_parse_arguments(PARSE_ARGV 1 arg "INTERNAL;SERIAL" "TIMEOUT_S" "SOURCES;LIBRARIES")
    if(arg_UNPARSED_ARGUMENTS)
        message(FATAL_ERROR "pst_add_test(${name}): do not understand ${arg_UNPARSED_ARGUMENTS}")
    endif()
    cmake_path(GET CMAKE_CURRENT_SOURCE_DIR FILENAME label)
    if(label STREQUAL tests) # plugins/file/tests
        cmake_path(GET CMAKE_CURRENT_SOURCE_DIR PARENT_PATH label)
        cmake_path(GET label FILENAME label)
    endif()

    add_executable(${name} ${name}.c ${arg_SOURCES})
    target_compile_definitions(${name} PRIVATE _GNU_SOURCE=)
    target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR}/tests/lib)
    if(arg_INTERNAL)
        target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR}/sdk/src)
        target_link_libraries(${name} PRIVATE penstock_static PkgConfig::JANSSON)
    else()
        target_link_libraries(${name} PRIVATE penstock)
    endif()
    target_link_libraries(${name} PRIVATE ${arg_LIBRARIES} PkgConfig::CMOCKA Threads::Threads)
    set_target_properties(${name} PROPERTIES
        RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/tests/${label})

    add_test(NAME ${name} COMMAND ${name})
    pst_set_test_properties(${name} "${label}" "${arg_TIMEOUT_S}" "${arg_SERIAL}")
endfunction()

# For tests that are programs of another kind (a script, the conformance command).
function(pst_set_test_properties name label timeout_s serial)
    if(NOT timeout_s)
        set(timeout_s 120)
    endif()
    if(NOT serial)
        set(serial OFF)
    endif()
    set(environment
        "PST_TEST_BIN=${CMAKE_RUNTIME_OUTPUT_DIRECTORY}"
        "PST_TEST_PLUGINS=${PENSTOCK_PLUGIN_OUTPUT_DIRECTORY}"
        "PST_TEST_SOURCE=${PROJECT_SOURCE_DIR}"
        "PST_TEST_BINARY=${PROJECT_BINARY_DIR}"
        "ASAN_OPTIONS=detect_stack_use_after_return=1:strict_string_checks=1"
        "UBSAN_OPTIONS=print_stacktrace=1"
        "TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1:die_after_fork=0")
    set_tests_properties(${name} PROPERTIES
        LABELS "${label}"
        TIMEOUT ${timeout_s}
        RUN_SERIAL ${serial}
        SKIP_RETURN_CODE 77
        SKIP_REGULAR_EXPRESSION "\\[  SKIPPED \\]"
        ENVIRONMENT "${environment}")
endfunction()

# For tests that load the Python extension. The interpreter is built without AddressSanitizer, whose runtime has
# to come first; its own allocator would hide mistakes with its objects; what it never frees is no leak of
# ours; and of what was freed less is kept than usual, which the tests of memory's peak would see.
function(pst_sanitize_python name)
    if(NOT PENSTOCK_SANITIZE MATCHES "address")
        return()
    endif()
    if(NOT CMAKE_C_COMPILER_ID STREQUAL "GNU")
        message(FATAL_ERROR "The Python package's tests under AddressSanitizer need gcc's runtime")
    endif()
    execute_process(COMMAND ${CMAKE_C_COMPILER} -print-file-name=libasan.so
        OUTPUT_VARIABLE runtime OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
    set_property(TEST ${name} PROPERTY TIMEOUT 360)
    set_property(TEST ${name} PROPERTY ENVIRONMENT_MODIFICATION
        "LD_PRELOAD=set:${runtime}" "PYTHONMALLOC=set:malloc"
        "ASAN_OPTIONS=string_append::detect_leaks=0:quarantine_size_mb=32")
endfunction()
