#!/usr/bin/env bash
# test.sh PENSTOCK PLUGIN_DIR: reads a folder through python's web server, which knows no ranges, and
# compares.
set -euo pipefail
penstock=$1
plugins=$2
temp=$(mktemp -d)
trap 'kill "$server" 2>/dev/null || true; rm -rf "$temp"' EXIT
mkdir "$temp/files"
head -c 300000 /dev/urandom >"$temp/files/a name, with %41?#.bin"
: >"$temp/files/empty"

python3 -u - "$temp/files" >"$temp/port" <<'PYTHON' &
import functools
import http.server
import sys

handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=sys.argv[1])
handler.func.log_message = lambda *_: None
handler.func.protocol_version = "HTTP/1.1"
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
print(server.server_port)
server.serve_forever()
PYTHON
server=$!
until [ -s "$temp/port" ]; do read -r -t 0.02 <><(:) || true; done
base=web://127.0.0.1:$(cat "$temp/port")

run() { "$penstock" --plugin-dir "$plugins" "$@"; }
run cat "$base/a name, with %41?#.bin" | cmp - "$temp/files/a name, with %41?#.bin"
run cat "$base/empty" | cmp - /dev/null
run stat "$base/a name, with %41?#.bin" | grep -w 300000
if run cat "$base/missing" 2>"$temp/error"; then
    echo "a missing file was read"
    exit 1
fi
grep "the server answered 404" "$temp/error"
kill "$server"
wait "$server" 2>/dev/null || true
if run --max-attempts 1 cat "$base/empty" 2>"$temp/error"; then
    echo "a server that is gone answered"
    exit 1
fi
grep -F "cannot connect" "$temp/error"
