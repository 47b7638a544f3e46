#!/usr/bin/env bash
# A transfer that is interrupted leaves whole objects and nothing else, and is completed by another run.
. "$PST_TEST_SOURCE/tests/integration/transfer_lib.sh"

# Enough small files that the first are there long before the last.
make_many() {
    mkdir -p tree/many
    seq 1500 | (cd tree/many && split -l 1 -a 5 -d)
    head -c 12000000 /dev/urandom >tree/large
}

# start_and_signal SIGNAL VERB: transfer tree to copy and send the signal when that has begun. On a busy
# machine it may be done before the signal is sent: then all is put back and tried again. Job control,
# because a shell without it starts its background jobs with SIGINT ignored.
start_and_signal() {
    local pid try
    for try in 1 2 3 4 5 6 7 8; do
        set -m
        "$penstock" "$2" -r -j 2 tree copy 2>"$dir.err" &
        pid=$!
        set +m
        until [ -n "$(find copy -type f ! -name '.penstock-*' -print -quit 2>/dev/null)" ]; do
            kill -0 $pid
        done
        kill "-$1" $pid 2>/dev/null || :
        code=0
        wait $pid || code=$?
        [ "$code" = 0 ] || return 0
        echo "    try $try was done before the signal"
        [ -e tree ] || mv copy tree
        rm -rf copy
    done
    return 1
}

# What is there is whole, and something is missing.
check_partial() {
    local n
    diff -r copy tree >"$dir.diff" || :
    if grep -v '^Only in tree' "$dir.diff" | grep -v 'Only in copy.*: .penstock-tmp-'; then
        echo "    not whole"
        return 1
    fi
    n=$(find copy -type f ! -name '.penstock-*' | wc -l)
    echo "$n objects"
    [ "$n" -gt 0 ]
    [ "$n" -lt 1501 ]
}

test_cp__interrupted_then_run_again_is_complete() {
    make_many
    start_and_signal INT cp
    [ "$code" = 130 ]
    check_partial
    no_rest copy
    expect 0 "$penstock" cp -r tree copy
    same tree copy
    lacks "$dir.err" "identical 0,"
}

test_cp__killed_leaves_whole_objects() {
    make_many
    start_and_signal KILL cp
    [ "$code" = 137 ]
    check_partial
    expect 0 "$penstock" sync tree copy
    expect 0 "$penstock" cleanup --older-than 0s copy/
    same tree copy
}

test_mv__interrupted_loses_nothing() {
    make_many
    cp -r tree wanted
    start_and_signal INT mv
    [ "$code" = 130 ]
    [ "$(find tree copy -type f | wc -l)" = 1501 ]
    expect 0 "$penstock" mv -r tree copy
    same wanted copy
    absent tree
}

run_tests
