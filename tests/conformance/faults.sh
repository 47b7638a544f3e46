#!/usr/bin/env bash
# faults.sh PLUGIN DECLARATION [OPTION...]: a network plugin passes the kit on the fault server.
set -euo pipefail
plugin=$1
declaration=$2
shift 2
exec "$PST_TEST_BIN/penstock" conformance "$plugin" \
    --faults "$PST_TEST_SOURCE/tests/servers/faults/$declaration.json" "$@"
