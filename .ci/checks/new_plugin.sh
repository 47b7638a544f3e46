#!/usr/bin/env bash
# new_plugin.sh BUILD_DIR: the other way a vendor begins. Installs the package, makes a plugin with
# `penstock plugins new`, builds it outside the tree with nothing but the package, as its README says,
# and runs its own test script: the conformance kit, profile full.
set -euo pipefail
build=$(realpath "$1")
temp=$(mktemp -d)
trap 'rm -rf "$temp"' EXIT
unset PENSTOCK_PLUGIN_PATH

cmake --install "$build" --prefix "$temp/prefix" >/dev/null
export PENSTOCK="$temp/prefix/bin/penstock"
cd "$temp"
"$PENSTOCK" plugins new tape
cd tape
cmake -B build -DCMAKE_PREFIX_PATH="$temp/prefix" -DCMAKE_C_FLAGS=-Werror
cmake --build build
./test

# It is found by its manifest and serves its scheme.
export TAPE_ROOT="$temp"
echo hello | "$PENSTOCK" --plugin-dir build put - tape://demo/greeting
[ "$("$PENSTOCK" --plugin-dir build ls tape://demo)" = tape://demo/greeting ]
[ "$("$PENSTOCK" --plugin-dir build cat tape://demo/greeting)" = hello ]
