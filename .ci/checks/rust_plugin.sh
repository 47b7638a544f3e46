#!/usr/bin/env bash
# rust_plugin.sh BUILD_DIR: the plugin without a line of C, built by cargo from a copy of its folder
# without network, gets its manifest from the installed command and passes the kit.
set -euo pipefail
build=$(realpath "$1")
temp=$(mktemp -d)
trap 'rm -rf "$temp"' EXIT
unset PENSTOCK_PLUGIN_PATH

cmake --install "$build" --prefix "$temp/prefix" >/dev/null
mkdir "$temp/rustmem"
cp -r examples/rust-plugin/Cargo.* examples/rust-plugin/src "$temp/rustmem"
if find "$temp/rustmem" -name '*.[ch]' | grep .; then
    echo "there is C in it"
    exit 1
fi
cargo build --release --offline --manifest-path "$temp/rustmem/Cargo.toml"
plugin=$temp/rustmem/target/release/librustmem.so
"$temp/prefix/bin/penstock" plugins manifest "$plugin" >"${plugin%.so}.json"
grep -q '"rustmem"' "${plugin%.so}.json"
"$temp/prefix/bin/penstock" conformance "$plugin" --uri rustmem://conformance/ --profile full
