#!/usr/bin/env bash
# conformance.sh SERVER PLUGIN [OPTION=VALUE...]: the kit's full profile on a bucket of its own, which has no
# object afterwards (some uploads stay open on purpose, as those of a killed writer do). Below
# tests/servers/up. What the server cannot do stands in quirks/SERVER.json, each with its reason.
set -euo pipefail
server=$1
plugin=$2
shift 2
here=$(cd "$(dirname "$0")" && pwd)
bucket=kit-$$-$(date +%s)

bucket() {
    PYTHONDONTWRITEBYTECODE=1 python3 - "$here" "$server" "$1" "$bucket" <<'PYTHON'
import json
import os
import sys
sys.path.insert(0, sys.argv[1])
import support
s3, what, name = support.client(sys.argv[2]), sys.argv[3], sys.argv[4]
if what == "make":
    s3.create_bucket(Bucket=name)
left = [e["Key"] for e in s3.list_objects_v2(Bucket=name).get("Contents", ())]
# Where a server makes another key of one, the kit cannot find it again.
if os.path.exists(quirks := f"{sys.argv[1]}/quirks/{sys.argv[2]}.json"):
    with open(quirks, encoding="utf-8") as f:
        excused = [f"/{requirement}/" for requirement in json.load(f)]
    left = [key for key in left if not any(folder in key for folder in excused)]
if left:
    sys.exit("left behind: " + ", ".join(left))
PYTHON
}

bucket make
options=()
for option in "$@"; do
    options+=(-o "$option")
done
quirks=()
if [ -f "$here/quirks/$server.json" ]; then
    quirks=(--quirks "$here/quirks/$server.json")
fi
"$PST_TEST_BIN/penstock" conformance "$plugin" --uri "s3://$bucket/" --profile full --timeout 300 \
    "${quirks[@]}" "${options[@]}"
bucket check
