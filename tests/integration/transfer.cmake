# cp, mv, sync, upload, download: the command run on real trees. Their object store is a plugin of the
# tests, built like a vendor's into a folder that no other test looks into.
function(pst_add_transfer_plugin)
    set(PENSTOCK_PLUGIN_OUTPUT_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR}/transfer_plugins)
    pst_add_plugin(NAME flat SOURCES transfer_flat.c NO_INSTALL)
endfunction()
pst_add_transfer_plugin()

function(pst_add_transfer_test name script)
    add_test(NAME ${name} COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/${script})
    pst_set_test_properties(${name} integration "${ARGV2}" "")
    set_property(TEST ${name} APPEND PROPERTY ENVIRONMENT
        "PST_TRANSFER_PLUGINS=${CMAKE_CURRENT_BINARY_DIR}/transfer_plugins")
endfunction()
pst_add_transfer_test(transfer_copy transfer_copy.sh)
pst_add_transfer_test(transfer_sync transfer_sync.sh)
pst_add_transfer_test(transfer_keys transfer_keys.sh)
pst_add_transfer_test(transfer_interrupt transfer_interrupt.sh 300)

# The same with a tree of some thousand files.
pst_add_transfer_test(transfer_copy_all_headers transfer_copy.sh 600)
set_property(TEST transfer_copy_all_headers APPEND PROPERTY LABELS slow)
set_property(TEST transfer_copy_all_headers APPEND PROPERTY ENVIRONMENT
    PST_TRANSFER_TREE=/usr/include)

pst_add_test(transfer_escape SOURCES ${PROJECT_SOURCE_DIR}/cli/escape.c)
target_include_directories(transfer_escape PRIVATE ${PROJECT_SOURCE_DIR}/cli)
