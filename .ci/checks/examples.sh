#!/usr/bin/env bash
# examples.sh BUILD_DIR: builds a copy of examples/ against the installed package, warnings as
# errors, and runs every test that examples/CMakeLists.txt declares.
set -euo pipefail
build=$(realpath "$1")
temp=$(mktemp -d)
trap 'rm -rf "$temp"' EXIT
unset PENSTOCK_PLUGIN_PATH

cmake --install "$build" --prefix "$temp/prefix" >/dev/null
cp -r examples "$temp/examples"
cmake -G Ninja -S "$temp/examples" -B "$temp/build" -DCMAKE_PREFIX_PATH="$temp/prefix" \
    -DCMAKE_BUILD_TYPE=RelWithDebInfo -DCMAKE_COMPILE_WARNING_AS_ERROR=ON \
    -DCMAKE_C_FLAGS="-Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wstrict-prototypes" \
    -DCMAKE_CXX_FLAGS="-Wall -Wextra -Wpedantic -Wshadow -Wconversion"
cmake --build "$temp/build"
ctest --test-dir "$temp/build" --output-on-failure --no-tests=error
