# Where things lie. The build tree has the shape of the install tree, so that the library finds its
# plugins, and the command its library, by the same relative paths in both.
include(GNUInstallDirs)

set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/bin)
set(CMAKE_LIBRARY_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/lib)
set(CMAKE_ARCHIVE_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/lib)
set(PENSTOCK_PLUGIN_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/lib/penstock/plugins)
set(PENSTOCK_INSTALL_PLUGINDIR ${CMAKE_INSTALL_LIBDIR}/penstock/plugins)
set(PENSTOCK_INSTALL_CMAKEDIR ${CMAKE_INSTALL_LIBDIR}/cmake/Penstock)

# The rpath of an installed program: from bin to lib, relative, so that the tree can be moved.
cmake_path(RELATIVE_PATH CMAKE_INSTALL_FULL_LIBDIR
    BASE_DIRECTORY ${CMAKE_INSTALL_FULL_BINDIR} OUTPUT_VARIABLE PENSTOCK_BIN_TO_LIB)
