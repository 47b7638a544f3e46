#!/usr/bin/env bash
# headers.sh [INCLUDE_DIR]: every public header stands alone, in every language it promises, without
# a warning; the structs that cross the plugin boundary have no padding on any ABI.
set -euo pipefail
include=${1:-sdk/include}

warnings=(-Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wsign-conversion -Wcast-qual -Wformat=2
    -Wvla -Wundef -Werror)
c_warnings=(-Wstrict-prototypes -Wmissing-prototypes)
failures=0
n=0

# compile HEADER COMPILER FLAG...: in a translation unit that holds nothing else.
compile() {
    local header=$1 out
    shift
    n=$((n + 1))
    if ! out=$(printf '#include <penstock/%s>\ntypedef int not_empty;\n' "$header" |
        "$@" -I"$include" -fsyntax-only - 2>&1); then
        printf '%s: %s\n%s\n' "$header" "$*" "$out"
        failures=$((failures + 1))
    fi
}

headers=("$include"/penstock/*.h)
for path in "${headers[@]}"; do
    header=${path##*/}
    for compiler in gcc clang-14; do
        compile "$header" $compiler -x c -std=c11 "${warnings[@]}" "${c_warnings[@]}"
    done
    for compiler in g++ clang++-14; do
        for standard in c++11 c++20; do
            compile "$header" $compiler -x c++ -std=$standard "${warnings[@]}"
        done
    done
done

# The plugin ABI: no padding, 64-bit members at multiples of 8, on every ABI. i386 and armhf are
# compiled freestanding: the compiler brings stdint.h and stddef.h, and the ABI may need no more.
# services.h includes the rest of it.
probe=$(mktemp --suffix=.c)
trap 'rm -f "$probe"' EXIT
PST_INCLUDE=$include python3 tests/abi/layout.py probe services.h >"$probe"
for target in "gcc" "gcc -m32 -ffreestanding" \
    "clang-14 --target=arm-linux-gnueabihf -ffreestanding" \
    "clang-14 --target=aarch64-linux-gnu -ffreestanding"; do
    n=$((n + 1))
    # shellcheck disable=SC2086
    if ! $target -std=c11 "${warnings[@]}" -Wpadded -I"$include" -fsyntax-only "$probe"; then
        echo "the ABI: padding or a moving member under $target"
        failures=$((failures + 1))
    fi
done

echo "$n compilations of ${#headers[@]} headers, $failures failed"
[ "$failures" -eq 0 ]
