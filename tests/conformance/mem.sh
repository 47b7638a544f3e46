#!/usr/bin/env bash
# mem.sh PLUGIN PROFILE: the second subject passes the kit. It has objects to begin with for profile ro,
# and a secret to keep.
set -euo pipefail
seed=0
prefix=place/
if [ "$2" = ro ]; then
    seed=50
    prefix=seed/
fi
exec "$PST_TEST_BIN/penstock" conformance "$1" --uri "mem://box/$prefix" --profile "$2" \
    -o "seed=$seed" -o token=open-sesame
