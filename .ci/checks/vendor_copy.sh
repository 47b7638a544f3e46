#!/usr/bin/env bash
# vendor_copy.sh BUILD_DIR: what a vendor does first. Installs the package, copies the folder of the
# teaching plugin, changes its name in it, builds it outside the tree with nothing but the package,
# and runs the conformance kit on the result.
set -euo pipefail
build=$(realpath "$1")
temp=$(mktemp -d)
trap 'rm -rf "$temp"' EXIT
unset PENSTOCK_PLUGIN_PATH

cmake --install "$build" --prefix "$temp/prefix" >/dev/null
mkdir "$temp/vendor" "$temp/data"
cp -r plugins/file "$temp/vendor/acme"
cd "$temp/vendor"

# Its own tests are about the original; the copy is proved by the kit.
rm -rf acme/tests
for path in acme/*file*; do
    [ -e "$path" ] && mv "$path" "${path/file/acme}"
done
# The name: in CMakeLists.txt, and as id and scheme.
sed -i -e 's/NAME file\b/NAME acme/' -e 's/\bfile\([a-z_]*\)\.\([ch]\)\b/acme\1.\2/g' acme/CMakeLists.txt
sed -i -e 's/"file"/"acme"/g' -e 's/#include "file\([a-z_]*\)\.h"/#include "acme\1.h"/' acme/*.[ch]
cat >CMakeLists.txt <<'CMAKE'
cmake_minimum_required(VERSION 3.25)
project(acme LANGUAGES C)
find_package(Penstock 0.9 REQUIRED)
add_subdirectory(acme)
CMAKE

cmake -G Ninja -S . -B build -DCMAKE_PREFIX_PATH="$temp/prefix" -DCMAKE_BUILD_TYPE=RelWithDebInfo
cmake --build build
plugin=$(find build -name acme.so)
grep -q '"acme"' "${plugin%.so}.json"
"$temp/prefix/bin/penstock" conformance "$plugin" --uri "acme://$temp/data/" --profile full
