#!/usr/bin/env bash
# symbols.sh BUILD_DIR [LEDGER]: what libpenstock.so exports is what the ledger lists; what it needs
# is libc, libm and jansson; the net library and a plugin export their entry symbol and need nothing
# of ours.
set -euo pipefail
build=$1
ledger=${2:-tests/abi/symbols.txt}
library=$build/lib/libpenstock.so
failures=0
fail() {
    echo "$1"
    failures=$((failures + 1))
}

exported=$(nm -D --defined-only "$library" | awk '$2 != "A" { sub(/@.*/, "", $3); print $3 }' | sort)
if ! diff -u --label "$ledger" --label "$library" <(grep -v '^#' "$ledger" | sort) \
    <(printf '%s\n' "$exported"); then
    fail "exported symbols differ from the ledger: a new one is added to it, a lost one is a break"
fi

needed() { readelf -d "$1" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p'; }
for name in $(needed "$library"); do
    case "$name" in
    libc.so.6 | libjansson.so.4 | ld-linux*) ;;
    *) fail "libpenstock.so needs $name" ;;
    esac
done

net=$build/lib/libpenstock-net.so
if [ "$(nm -D --defined-only "$net" | awk '{ print $3 }')" != pst_net_open_1 ]; then
    fail "$net exports $(nm -D --defined-only "$net" | awk '{ printf "%s ", $3 }')"
fi
if nm -D --undefined-only "$net" | grep -w 'pst_[a-z0-9_]*'; then
    fail "$net wants symbols of ours"
fi
if needed "$net" | grep -E 'penstock|jansson'; then
    fail "$net needs these libraries"
fi

n_plugins=0
for plugin in "$build"/lib/penstock/plugins/*.so; do
    [ -e "$plugin" ] || continue
    n_plugins=$((n_plugins + 1))
    if [ "$(nm -D --defined-only "$plugin" | awk '{ print $3 }')" != pst_plugin_open_1 ]; then
        fail "$plugin exports $(nm -D --defined-only "$plugin" | awk '{ printf "%s ", $3 }')"
    fi
    if nm -D --undefined-only "$plugin" | grep -w 'pst_[a-z0-9_]*'; then
        fail "$plugin wants symbols of ours"
    fi
    if needed "$plugin" | grep -E 'penstock|curl|ssl|crypto|zstd'; then
        fail "$plugin needs these libraries"
    fi
done

echo "$(printf '%s\n' "$exported" | wc -l) exported symbols, $n_plugins plugins, $failures faults"
[ "$failures" -eq 0 ] && [ "$n_plugins" -gt 0 ]
