#!/usr/bin/env bash
# file.sh SCHEME PLUGIN PROFILE: a plugin of local files passes the kit, and leaves nothing behind.
set -euo pipefail
scheme=$1
plugin=$2
profile=$3
temp=$(mktemp -d)
trap 'rm -rf "$temp"' EXIT
place=$temp/place
mkdir "$place"

# Profile ro reads what is there.
mkdir -p "$place/some/dir"
head -c 200000 /dev/urandom >"$place/some/object"
printf x >"$place/some/dir/one byte"
: >"$place/empty"
for i in $(seq 40); do
    echo "object $i" >"$place/some/dir/number $i"
done
find "$place" -printf '%P %s %T@\n' | sort >"$temp/before"

"$PST_TEST_BIN/penstock" conformance "$plugin" --uri "$scheme://$place/" --profile "$profile"

find "$place" -printf '%P %s %T@\n' | sort >"$temp/after"
# The top directory's own time may change; nothing else may.
diff <(tail -n +2 "$temp/before") <(tail -n +2 "$temp/after")
