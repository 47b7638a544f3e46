# pst_add_plugin(NAME acme SOURCES acme.c [LIBRARIES curl ...] [NO_INSTALL])
#
# Builds a Penstock plugin: target pst_plugin_<name>, file <name>.so, exporting its entry symbol and
# nothing else, and beside it the manifest <name>.json by which hosts find it. Works the same in
# Penstock's own tree and, after find_package(Penstock), in a vendor's.
#
# The manifest is made after the link by loading the new plugin into the `penstock` command, so a
# plugin that cannot be loaded fails its build, not its user's first run.
#
# Penstock's own tree links the plugins named in PENSTOCK_STATIC_PLUGINS into libpenstock: no module
# and no manifest, the same sources with the entry symbol renamed.

set(PST_ADD_PLUGIN_DIR ${CMAKE_CURRENT_LIST_DIR})

function(pst_add_plugin)
    cmake_parse_arguments(PARSE_ARGV 0 arg "NO_INSTALL" "NAME" "SOURCES;LIBRARIES")
    if(arg_UNPARSED_ARGUMENTS OR arg_KEYWORDS_MISSING_VALUES)
        message(FATAL_ERROR "pst_add_plugin: do not understand "
            "${arg_UNPARSED_ARGUMENTS} ${arg_KEYWORDS_MISSING_VALUES}")
    endif()
    if(NOT arg_NAME MATCHES "^[a-z][a-z0-9_]*$")
        message(FATAL_ERROR "pst_add_plugin: NAME '${arg_NAME}' must be a lower case C identifier")
    endif()
    if(NOT arg_SOURCES)
        message(FATAL_ERROR "pst_add_plugin(${arg_NAME}): SOURCES is empty")
    endif()
    set(target pst_plugin_${arg_NAME})

    if(arg_NAME IN_LIST PENSTOCK_STATIC_PLUGINS)
        add_library(${target} OBJECT ${arg_SOURCES})
        target_compile_definitions(${target} PRIVATE PST_STATIC_PLUGIN=${arg_NAME})
        target_link_libraries(${target} PRIVATE Penstock::headers ${arg_LIBRARIES})
        target_sources(penstock PRIVATE $<TARGET_OBJECTS:${target}>)
        target_sources(penstock_static PRIVATE $<TARGET_OBJECTS:${target}>)
        target_link_libraries(penstock PRIVATE ${arg_LIBRARIES})
        target_link_libraries(penstock_static PRIVATE ${arg_LIBRARIES})
        return()
    endif()

    if(NOT TARGET Penstock::cli)
        message(FATAL_ERROR "pst_add_plugin(${arg_NAME}): the penstock command is not there, "
            "and the manifest is made by it")
    endif()
    if(PENSTOCK_PLUGIN_OUTPUT_DIRECTORY)
        set(dir ${PENSTOCK_PLUGIN_OUTPUT_DIRECTORY})
    else()
        set(dir ${CMAKE_CURRENT_BINARY_DIR})
    endif()

    add_library(${target} MODULE ${arg_SOURCES})
    target_link_libraries(${target} PRIVATE Penstock::headers ${arg_LIBRARIES})
    set(map ${PST_ADD_PLUGIN_DIR}/plugin.map)
    set_target_properties(${target} PROPERTIES
        OUTPUT_NAME ${arg_NAME}
        PREFIX ""
        SUFFIX .so
        LIBRARY_OUTPUT_DIRECTORY ${dir}
        C_VISIBILITY_PRESET hidden
        CXX_VISIBILITY_PRESET hidden
        VISIBILITY_INLINES_HIDDEN ON
        LINK_DEPENDS ${map})
    target_link_options(${target} PRIVATE
        LINKER:--version-script=${map} LINKER:-z,defs LINKER:-z,relro LINKER:-z,now)

    # Renamed into place only when complete: a host that scans the folder meanwhile sees the old
    # manifest or the new one.
    set(manifest ${dir}/${arg_NAME}.json)
    add_custom_command(
        OUTPUT ${manifest}
        COMMAND Penstock::cli plugins manifest $<TARGET_FILE:${target}> > ${manifest}.tmp
        COMMAND ${CMAKE_COMMAND} -E rename ${manifest}.tmp ${manifest}
        DEPENDS ${target} Penstock::cli $<TARGET_NAME_IF_EXISTS:penstock>
        COMMENT "Writing the manifest ${arg_NAME}.json"
        VERBATIM)
    add_custom_target(${target}_manifest ALL DEPENDS ${manifest})

    if(NOT arg_NO_INSTALL)
        if(NOT PENSTOCK_INSTALL_PLUGINDIR)
            include(GNUInstallDirs)
            set(PENSTOCK_INSTALL_PLUGINDIR ${CMAKE_INSTALL_LIBDIR}/penstock/plugins)
        endif()
        install(TARGETS ${target} LIBRARY DESTINATION ${PENSTOCK_INSTALL_PLUGINDIR})
        install(FILES ${manifest} DESTINATION ${PENSTOCK_INSTALL_PLUGINDIR})
    endif()
endfunction()
