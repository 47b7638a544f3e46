# The command as a user runs it: Python drives it, see cli_support.py.
foreach(name IN ITEMS cli_bench cli_compress cli_fallback cli_flow cli_usage cli_read cli_write cli_remove
    cli_signals cli_plugins cli_versions)
    add_test(NAME ${name} COMMAND python3 ${CMAKE_CURRENT_SOURCE_DIR}/${name}.py)
    pst_set_test_properties(${name} integration 300 OFF)
    set_property(TEST ${name} APPEND PROPERTY ENVIRONMENT PYTHONDONTWRITEBYTECODE=1)
endforeach()
foreach(name IN ITEMS cli_compress cli_flow)
    set_property(TEST ${name} APPEND PROPERTY ENVIRONMENT
        "PST_TRANSFER_PLUGINS=${CMAKE_CURRENT_BINARY_DIR}/transfer_plugins")
endforeach()
set_property(TEST cli_versions APPEND PROPERTY ENVIRONMENT
    "PST_MEM_PLUGINS=${PROJECT_BINARY_DIR}/tests/conformance/plugins")
