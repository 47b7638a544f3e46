#!/usr/bin/env bash
# conformance.sh SERVER PLUGIN [OPTION=VALUE...]: the kit's full profile on a bucket of its own, which is
# empty again afterwards. Below tests/servers/up. What the server cannot do stands in quirks/SERVER.json,
# each with its reason.
set -euo pipefail
server=$1
plugin=$2
shift 2
here=$(cd "$(dirname "$0")" && pwd)
bucket=kit-$$-$(date +%s)

bucket() {
    PYTHONDONTWRITEBYTECODE=1 python3 - "$here" "$server" "$1" "$bucket" <<'PYTHON'
import sys
sys.path.insert(0, sys.argv[1])
import support
s3, what, name = support.client(sys.argv[2]), sys.argv[3], sys.argv[4]
if what == "make":
    s3.create_bucket(Bucket=name)
left = [e["Key"] for e in s3.list_objects_v2(Bucket=name).get("Contents", ())]
# The kit frees uploads that nobody ends, as a killed writer would, and cleans up below its folder. MinIO
# lists uploads by their exact key only, so there they stay.
if not sys.argv[2].startswith("minio"):
    left += [f"{e['Key']} (an upload)" for e in support.uploads(s3, name)]
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
