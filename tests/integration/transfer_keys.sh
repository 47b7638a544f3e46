#!/usr/bin/env bash
# Transfers between local directories and an object store (transfer_flat.c): keys that no file system
# holds, sums, attributes, moves by copy, and listings that fail.
. "$PST_TEST_SOURCE/tests/integration/transfer_lib.sh"
export PENSTOCK_PLUGIN_PATH=$PST_TRANSFER_PLUGINS

# buckets NAME...: make them, in the folder of the test.
buckets() {
    export FLAT_DIR=$dir/flat
    mkdir -p "${@/#/flat/}"
}

# store KEY TEXT: an object in bucket b, any key.
store() {
    printf '%s' "$2" >"$dir.body"
    "$penstock" put "$dir.body" "flat://b/$1"
}

keys() {
    FLAT_ORDERED=1 "$penstock" ls -r "flat://$1/"
}

# Every kind of key that is no path. Those that end in '/' are made from an escaped name.
make_odd_keys() {
    store 'plain' 1
    store 'a//b' 2
    store '/lead' 3
    store '..' 4
    store 'x/../../y' 5
    store './z' 6
    store 'both' 7
    store 'both/below' 8
    store 'both/below/that' 9
    store "$(printf 'l%.0s' $(seq 600))/end" 10
    store '100%' 11
    store '%2F' 12
    store '.penstock-lock' 13
    store 'new
line?#+ ' 14
    mkdir -p odd/dir 'odd/dir/sub'
    printf 15 >odd/dir/%-
    printf 16 >odd/dir/sub/%-
    "$penstock" cp -q -r --unescape-keys odd/ flat://b/
}

test_download__keys_that_are_no_paths_fail_alone() {
    buckets b
    make_odd_keys
    expect 1 "$penstock" download -r flat://b/ down/here
    said "failed "
    holds down/here/plain 1
    holds down/here/100% 11
    holds down/here/%2F 12
    # One of the two, and neither on the other's file.
    if [ -f down/here/both ]; then
        holds down/here/both 7
    else
        [ -d down/here/both ]
    fi
    absent y lead down/y down/here/y down/lead down/here/lead
    [ "$(find down -type f | wc -l)" -le 7 ]
    [ "$(find . -maxdepth 1 | sort | tr '\n' ' ')" = ". ./down ./flat ./odd " ]
    no_rest down
}

test_escape__every_key_comes_back() {
    buckets b back
    make_odd_keys
    keys b | sed 's,^flat://b/,,' >wanted
    expect 0 "$penstock" download -r -j 1 --escape-keys flat://b/ down
    expect 0 "$penstock" cp -r --unescape-keys down flat://back
    keys back | sed 's,^flat://back/,,' >got
    cmp wanted got
    [ "$(grep -c . wanted)" -ge 16 ]
    holds down/both%= 7 || holds down/both 7
    # Recognised under their escaped names, in both directions.
    expect 0 "$penstock" download -r --escape-keys flat://b/ down
    said "copied 0 (0 B), identical 16, failed 0"
    expect 0 "$penstock" cp -r --unescape-keys down flat://back
    said "copied 0 (0 B), identical 16, failed 0"
    expect 0 "$penstock" sync --delete --escape-keys flat://b down
    said "copied 0 (0 B), identical 16, failed 0, deleted 0"
    expect 0 "$penstock" sync --delete --unescape-keys down flat://back
    said "copied 0 (0 B), identical 16, failed 0, deleted 0"
}

test_escape__object_and_directory_race_for_a_name() {
    buckets b back
    for i in $(seq 30); do
        store "k$i" "object $i"
        store "k$i/below" "below $i"
    done
    for round in 1 2 3; do
        expect 0 "$penstock" download -r -j 32 --escape-keys flat://b/ "down$round"
        expect 0 "$penstock" cp -r --unescape-keys "down$round" "flat://back/$round"
        expect 0 "$penstock" sync -v flat://b "flat://back/$round"
        said "copied 0 (0 B), identical 60, failed 0"
    done
}

test_escape__names_that_escaping_never_makes_are_refused() {
    buckets b
    mkdir -p tree/marked%=
    echo 1 >tree/fine
    echo 2 >tree/100%
    echo 3 >tree/%41
    echo 4 >tree/twice
    echo 5 >tree/twice%=
    echo 6 >tree/marked%=/x
    expect 1 "$penstock" cp -r --unescape-keys tree flat://b
    said "copied 3 ("
    said "tree/100%: no name that --escape-keys writes"
    said "tree/%41: no name"
    said "tree/twice%=: no name"
    keys b | grep -qx 'flat://b/marked/x'
    [ "$(keys b | wc -l)" = 3 ]
}

test_escape__is_for_local_directories() {
    buckets b back
    store k 1
    expect 2 "$penstock" cp -r --escape-keys flat://b/ flat://back/
    expect 2 "$penstock" cp -r --unescape-keys flat://b/ down
    absent down
}

test_cp__tree_goes_there_and_back() {
    buckets b
    cp -rL --no-preserve=all /usr/include/asm-generic tree
    head -c 20000000 /dev/urandom >tree/large
    expect 0 "$penstock" cp -r tree flat://b
    expect 0 "$penstock" cp -r flat://b/ back
    same tree back
}

test_cp__store_with_sums_recognises_objects_of_any_size() {
    buckets b
    export FLAT_SUMS=1
    mkdir tree
    echo small >tree/small
    head -c 20000000 /dev/urandom >tree/large
    expect 0 "$penstock" cp -r tree flat://b
    expect 0 "$penstock" cp -r tree flat://b
    said "copied 0 (0 B), identical 2, failed 0"
    # Nothing of it has to be read to see that.
    "$penstock" cp -r -q tree flat://b/p/
    FLAT_FAULT=read:large expect 0 "$penstock" cp -r flat://b/p/tree/ flat://b/
    said "copied 0 (0 B), identical 2, failed 0"
}

test_cp__store_without_sums_keeps_them_beside_small_objects() {
    buckets b
    mkdir tree
    echo small >tree/small
    head -c 20000000 /dev/urandom >tree/large
    expect 0 "$penstock" cp -r tree flat://b
    expect 0 "$penstock" stat flat://b/small
    printed penstock-crc32c
    expect 0 "$penstock" cp -r tree flat://b
    said "copied 1 (19.1 MiB), identical 1, failed 0"
    echo SMALL >tree/small
    touch -d 2001-01-01 tree/small
    expect 0 "$penstock" cp tree/small flat://b/small
    expect 0 "$penstock" cat flat://b/small
    printed SMALL
}

test_cp__object_without_any_sum_is_copied_again() {
    buckets b
    echo text >file
    expect 0 "$penstock" put file flat://b/file
    mkdir tree
    cp file tree/file
    expect 0 "$penstock" cp -r tree flat://b
    said "copied 1 ("
    expect 0 "$penstock" cp -r tree flat://b
    said "copied 0 ("
}

test_cp__attributes_travel_and_sums_of_others_do_not() {
    buckets b other
    echo text >file
    "$penstock" put --content-type text/x-test --meta color=red --meta penstock-crc32c=00000000 \
        file flat://b/k
    expect 0 "$penstock" cp flat://b/k flat://other/k
    expect 0 "$penstock" stat flat://other/k
    printed text/x-test
    printed red
    lacks "$dir.out" 00000000
    expect 0 "$penstock" cp --no-attributes flat://b/k flat://other/bare
    expect 0 "$penstock" stat flat://other/bare
    lacks "$dir.out" text/x-test
    lacks "$dir.out" color
}

test_cp__attributes_reach_files_and_return() {
    buckets b
    echo text >file
    setfattr -n user.probe -v 1 file 2>/dev/null || : >no-xattrs
    "$penstock" put --content-type text/x-test --meta color=red file flat://b/k
    if [ -e no-xattrs ]; then
        expect 2 "$penstock" cp flat://b/k down
        expect 0 "$penstock" cp --no-attributes flat://b/k down
        return
    fi
    expect 0 "$penstock" cp flat://b/k down
    expect 0 "$penstock" cp down flat://b/k2
    expect 0 "$penstock" stat flat://b/k2
    printed text/x-test
    printed red
}

test_cp__within_a_store_that_copies_nothing_is_read() {
    buckets b
    store k text
    export FLAT_DIRECT=1
    FLAT_FAULT=read:k expect 0 "$penstock" cp flat://b/k flat://b/k2
    unset FLAT_DIRECT
    FLAT_FAULT=read:k expect 8 "$penstock" cp flat://b/k flat://b/k3
    expect 0 "$penstock" cat flat://b/k2
    printed text
    expect 2 "$penstock" cp flat://b/k flat://b/k
    expect 2 "$penstock" cp -r flat://b/ flat://b/sub/
}

test_cp__prefix_without_objects_is_not_found() {
    buckets b
    store k text
    expect 3 "$penstock" cp -r flat://b/none down
    expect 3 "$penstock" cp -r flat://b/none/ down
    expect 3 "$penstock" cp flat://b/none down
    absent down
    # A prefix is no string: "k" is not below "k".
    expect 0 "$penstock" cp -r flat://b/k down
    holds down text
}

test_cp__listing_that_fails_is_an_error_and_what_was_seen_is_copied() {
    buckets b
    for k in a b c d; do store $k $k; done
    FLAT_FAULT=list:2 expect 1 "$penstock" --max-attempts 1 cp -r flat://b/ down
    holds down/a a
    holds down/b b
    absent down/c
    FLAT_FAULT=list:0 expect 5 "$penstock" --max-attempts 1 cp -r flat://b/ down2
}

test_sync__listing_that_fails_never_deletes() {
    buckets b back
    for k in a b c d; do
        store $k $k
        "$penstock" cp -q flat://b/$k flat://back/$k
    done
    "$penstock" cp -q flat://b/a flat://back/A
    for ordered in 1 0; do
        export FLAT_ORDERED=$ordered
        FLAT_FAULT=list:2 expect 1 "$penstock" --max-attempts 1 sync --delete flat://b flat://back
        [ "$(keys back | wc -l)" = 5 ]
        FLAT_FAULT=list:0 expect 5 "$penstock" --max-attempts 1 sync --delete flat://b flat://back
        [ "$(keys back | wc -l)" = 5 ]
    done
}

test_sync__delete_works_with_and_without_order() {
    for ordered in 1 0; do
        buckets b back
        export FLAT_ORDERED=$ordered
        for k in a a-b a/x a0 z; do store $k $k; done
        for k in A a a-a a/y b zz; do
            printf other >"$dir.body"
            "$penstock" put "$dir.body" "flat://back/p/$k"
        done
        printf kept >"$dir.body"
        "$penstock" put "$dir.body" flat://back/p2
        expect 0 "$penstock" sync --delete flat://b flat://back/p
        said "copied 5 ("
        said "deleted 5"
        [ "$(keys back | wc -l)" = 6 ]
        "$penstock" cat flat://back/p2 | grep -q kept
        expect 0 "$penstock" sync --delete flat://b flat://back/p
        said "copied 0 (0 B), identical 5, failed 0, deleted 0"
        rm -r flat
    done
}

test_sync__delete_that_fails_is_counted() {
    buckets b back
    store a a
    for k in a x y; do "$penstock" put "$dir.body" "flat://back/$k"; done
    FLAT_FAULT=remove:x expect 1 "$penstock" sync --delete flat://b flat://back
    said "flat://back/x: not deleted"
    said "deleted 1"
}

test_mv__copies_looks_and_deletes() {
    buckets b other
    mkdir tree
    echo small >tree/small
    head -c 20000000 /dev/urandom >tree/large
    cp -r tree wanted
    expect 0 "$penstock" mv -r tree flat://b
    absent tree
    expect 0 "$penstock" mv -r flat://b/ flat://other/p/
    [ -z "$(keys b)" ]
    export FLAT_DIRECT=1
    expect 0 "$penstock" mv -r flat://other/p flat://other/q
    unset FLAT_DIRECT
    expect 0 "$penstock" mv -r flat://other/q back
    same wanted back
    [ -z "$(keys other)" ]
    no_rest "$dir"
}

test_mv__short_copy_is_noticed_and_the_source_stays() {
    buckets b
    mkdir tree
    echo text >tree/k
    head -c 20000000 /dev/urandom >tree/large
    cp -r tree wanted
    FLAT_FAULT=corrupt:k expect 7 "$penstock" mv tree/k flat://b/k
    FLAT_FAULT=corrupt:large expect 7 "$penstock" mv tree/large flat://b/large
    same wanted tree
}

test_mv__failed_write_leaves_the_source() {
    buckets b
    mkdir tree
    for k in a b c; do echo $k >tree/$k; done
    FLAT_FAULT=put:b expect 1 "$penstock" --max-attempts 1 mv -r tree flat://b
    holds tree/b b
    absent tree/a tree/c
    [ "$(keys b | wc -l)" = 2 ]
    [ -z "$(find flat -name '*.t')" ]
}

test_mv__failed_delete_is_said() {
    buckets b
    store k text
    FLAT_FAULT=remove:k expect 4 "$penstock" mv flat://b/k down
    said "copied but not deleted"
    holds down text
    expect 0 "$penstock" cat flat://b/k
}

run_tests
