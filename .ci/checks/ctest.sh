#!/usr/bin/env bash
# ctest.sh BUILD_DIR [ctest argument...]: run tests, output on failure, totals at the end. Fails when
# a test fails, when one is skipped without leave, and when none is selected.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
build=$1
shift

junit=$build/junit.xml
rm -f "$junit"
# ctest's own exit code is not asked: it calls a skipped test a success.
ctest --test-dir "$build" --output-on-failure --no-tests=error --parallel "$(nproc)" \
    --test-output-size-passed 1048576 --test-output-size-failed 1048576 \
    --output-junit "$(realpath -m "$junit")" "$@" || true
exec python3 "$here/totals.py" "$junit" "$here/../../tests/allowed-skips.txt"
