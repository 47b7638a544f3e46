# Language level, warnings and instrumentation of everything built in this tree. A vendor's plugin
# takes none of it: cmake/PstAddPlugin.cmake, which is installed, stands alone.
set(CMAKE_C_STANDARD 11)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_C_EXTENSIONS OFF)
set(CMAKE_CXX_STANDARD 11)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_C_VISIBILITY_PRESET hidden)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)

add_compile_options(
    -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wsign-conversion -Wcast-qual -Wformat=2 -Wvla
    -Wundef
    "$<$<COMPILE_LANGUAGE:C>:-Wstrict-prototypes;-Wmissing-prototypes>"
    "$<$<COMPILE_LANG_AND_ID:C,GNU>:-Wjump-misses-init>")
if(PENSTOCK_WERROR)
    add_compile_options(-Werror)
endif()

if(PENSTOCK_SANITIZE)
    add_compile_options(-fsanitize=${PENSTOCK_SANITIZE} -fno-omit-frame-pointer
        -fno-sanitize-recover=all)
    add_link_options(-fsanitize=${PENSTOCK_SANITIZE})
endif()
if(PENSTOCK_COVERAGE)
    add_compile_options(--coverage)
    add_link_options(--coverage)
endif()
