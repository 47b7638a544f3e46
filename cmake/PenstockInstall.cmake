# What `cmake --install` puts where: headers, the libraries, the command, and three ways to find
# them (PenstockConfig.cmake, penstock.pc, relative paths). Plugins install themselves.
include(CMakePackageConfigHelpers)

install(TARGETS penstock_headers penstock penstock_static penstock_net_static
    EXPORT PenstockTargets
    FILE_SET HEADERS
    LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
    ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
# Beside libpenstock, where it looks for it.
install(TARGETS penstock_net LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
if(PENSTOCK_BUILD_CLI)
    install(TARGETS penstock_cli EXPORT PenstockTargets
        RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
    install(FILES ${PROJECT_BINARY_DIR}/cli/penstock.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
    install(FILES ${PROJECT_BINARY_DIR}/cli/penstock.bash RENAME penstock
        DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions)
    install(FILES ${PROJECT_BINARY_DIR}/cli/_penstock
        DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/site-functions)
    install(FILES ${PROJECT_BINARY_DIR}/cli/penstock.fish
        DESTINATION ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d)
endif()
install(EXPORT PenstockTargets NAMESPACE Penstock:: DESTINATION ${PENSTOCK_INSTALL_CMAKEDIR})

configure_package_config_file(cmake/PenstockConfig.cmake.in PenstockConfig.cmake
    INSTALL_DESTINATION ${PENSTOCK_INSTALL_CMAKEDIR}
    NO_SET_AND_CHECK_MACRO)
# Minor versions below 1.0 may change the ABI, so a consumer gets the minor it asked for.
write_basic_package_version_file(PenstockConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES
    ${PROJECT_BINARY_DIR}/PenstockConfig.cmake
    ${PROJECT_BINARY_DIR}/PenstockConfigVersion.cmake
    cmake/PstAddPlugin.cmake
    cmake/plugin.map
    DESTINATION ${PENSTOCK_INSTALL_CMAKEDIR})

cmake_path(RELATIVE_PATH CMAKE_INSTALL_PREFIX
    BASE_DIRECTORY ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig OUTPUT_VARIABLE PENSTOCK_PC_TO_PREFIX)
configure_file(cmake/penstock.pc.in penstock.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/penstock.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})
