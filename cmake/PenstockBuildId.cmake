# PENSTOCK_BUILD_ID: what libpenstock and libpenstock-net both carry, and refuse each other over if it
# differs: the version, and a hash of the headers that say what passes between them.
set(hashes "")
foreach(header IN ITEMS src/util/net_abi.h include/penstock/base.h include/penstock/status.h
        include/penstock/plugin.h include/penstock/services.h)
    set(header ${PROJECT_SOURCE_DIR}/sdk/${header})
    file(SHA256 ${header} hash)
    string(APPEND hashes ${hash})
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${header})
endforeach()
string(SHA256 hash "${hashes}")
string(SUBSTRING ${hash} 0 16 hash)
set(PENSTOCK_BUILD_ID ${PROJECT_VERSION}-${hash})
