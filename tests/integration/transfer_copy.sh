#!/usr/bin/env bash
# cp between local directories: what arrives, under which name, and what is refused.
. "$PST_TEST_SOURCE/tests/integration/transfer_lib.sh"

# A tree whose names hold everything that somebody's code has decoded, split or trimmed before.
make_odd_tree() {
    local long
    long=$(printf 'x%.0s' $(seq 255))
    mkdir -p "$1/dir with space/a%2Fb" "$1/q?uery" "$1/empty dir" "$1/deep/er/still/empty"
    echo 1 >"$1/dir with space/file name"
    echo 2 >"$1/100%"
    echo 3 >"$1/dir with space/a%2Fb/%25"
    echo 4 >"$1/hash#tag"
    echo 5 >"$1/q?uery/a?b=c&d"
    echo 6 >"$1/a+b"
    echo 7 >"$1/new
line"
    echo 8 >"$1/grüße-日本語-🙂"
    echo 9 >"$1/$long"
    echo 10 >"$1/-rf"
    echo 11 >"$1/back\\slash"
    echo 12 >"$1/ lead and trail "
    echo 13 >"$1/...dots"
    printf '\377\376' >"$1/$(printf 'not-utf8-\377\376')"
    printf 'a-b' >"$1/a-b"
    mkdir "$1/a"
    : >"$1/a/empty"
    printf 'a0' >"$1/a0"
    : >"$1/empty"
}

test_cp__tree_with_odd_names_comes_back_identical() {
    make_odd_tree tree
    expect 0 "$penstock" cp -r "file://$dir/tree" "file://$dir/there"
    same tree there
    expect 0 "$penstock" cp -r "file://$dir/there" "file://$dir/back"
    same tree back
    no_rest "$dir"
}

test_cp__tree_of_headers_comes_back_identical() {
    cp -rL --no-preserve=all "${PST_TRANSFER_TREE:-/usr/include/linux}" tree
    expect 0 "$penstock" cp -r "file://$dir/tree" "file://$dir/there"
    same tree there
    expect 0 "$penstock" cp -r -j 1 "file://$dir/there" "file://$dir/back"
    same tree back
    expect 0 "$penstock" cp -r "file://$dir/tree" "file://$dir/back"
    said "copied 0 (0 B), identical $(find tree -type f | wc -l), failed 0"
}

test_cp__plain_paths_are_local_paths() {
    mkdir tree
    echo text >tree/file
    expect 0 "$penstock" cp -r tree copy
    same tree copy
    expect 0 "$penstock" cp ./tree/../tree/file two
    holds two text
    silent
}

test_cp__slash_of_target_puts_the_source_into_it() {
    mkdir -p tree/sub
    echo text >tree/sub/file
    echo one >file
    expect 0 "$penstock" cp -r tree into/
    holds into/tree/sub/file text
    expect 0 "$penstock" cp -r tree/ contents/
    holds contents/sub/file text
    expect 0 "$penstock" cp file into/
    holds into/file one
    expect 0 "$penstock" cp file into
    holds into/file one
    expect 0 "$penstock" cp file into/other
    holds into/other one
    expect 0 "$penstock" cp file new/dirs/other
    holds new/dirs/other one
}

test_cp__several_sources_keep_their_names() {
    mkdir -p tree target
    echo 1 >tree/file
    echo 2 >one
    expect 0 "$penstock" cp -r tree one target
    holds target/tree/file 1
    holds target/one 2
    expect 2 "$penstock" cp -r tree one nowhere
    said "several sources"
    absent nowhere
}

test_cp__two_sources_never_land_on_one_name() {
    mkdir a b target
    echo a >a/same
    echo b >b/same
    expect 1 "$penstock" cp a/same b/same target
    said "another source has an object of this name"
    holds target/same a
    expect 1 "$penstock" cp -r a/ b/ target
    holds target/same a
}

test_cp__directory_needs_recursive() {
    mkdir -p tree/sub
    echo 1 >tree/file
    echo 2 >tree/sub/file
    expect 2 "$penstock" cp tree copy
    said "is a directory"
    absent copy
    expect 0 "$penstock" cp tree/ copy
    holds copy/file 1
    absent copy/sub
}

test_cp__missing_source_changes_nothing() {
    expect 3 "$penstock" cp "file://$dir/none" "file://$dir/target/x"
    expect 3 "$penstock" cp -r none target
    [ "$(wc -l <"$dir.err")" = 1 ]
    absent target
}

test_cp__empty_directory_is_copied() {
    mkdir tree
    expect 0 "$penstock" cp -r tree copy
    said "copied 0 (0 B), identical 0, failed 0"
    same tree copy
}

test_cp__onto_itself_is_refused() {
    mkdir -p tree other
    echo text >tree/file
    ln tree/file hard
    ln -s tree link
    expect 2 "$penstock" cp tree/file tree/file
    said "same object"
    expect 2 "$penstock" cp tree/file tree
    expect 2 "$penstock" cp tree/file hard
    expect 2 "$penstock" cp tree/file link/file
    expect 2 "$penstock" cp -r tree tree
    expect 2 "$penstock" cp -r tree link
    expect 2 "$penstock" cp -r tree/ other/../tree/
    said "same directory"
    holds tree/file text
}

test_cp__into_itself_is_refused() {
    mkdir -p tree/sub other
    echo text >tree/file
    ln -s ../tree/sub other/link
    expect 2 "$penstock" cp -r tree tree/sub
    said "lies inside"
    expect 2 "$penstock" cp -r tree tree/new/deeper
    expect 2 "$penstock" cp -r tree/ other/link/
    absent tree/new tree/sub/file
    # Its neighbour with the same beginning is another place.
    expect 0 "$penstock" cp -r tree tree2
    same tree tree2
}

test_cp__same_size_and_old_mtime_but_another_byte_is_copied() {
    mkdir tree
    printf 'aaaa' >tree/small
    head -c 9000000 /dev/zero >tree/large
    expect 0 "$penstock" cp -r tree copy
    touch -r tree/small stamp
    printf 'abaa' >tree/small
    touch -r stamp tree/small
    touch -r tree/large stamp
    printf 'x' | dd of=tree/large bs=1 seek=8888888 conv=notrunc status=none
    touch -r stamp tree/large
    expect 0 "$penstock" cp -r tree copy
    said "copied 2 ("
    same tree copy
    # The other way round: the copy was tampered with.
    touch -r copy/small stamp
    printf 'abbb' >copy/small
    touch -r stamp copy/small
    expect 0 "$penstock" cp -r tree copy
    said "copied 1 (4 B), identical 1, failed 0"
    same tree copy
}

test_cp__metadata_of_a_rewritten_file_is_not_believed() {
    printf bbbb >source
    crc=$("$penstock" put --json source "file://$dir/sum" | sed 's/.*"crc32c":"\([0-9a-f]*\)".*/\1/')
    [ "${#crc}" = 8 ]
    printf aaaa >first
    "$penstock" put first "file://$dir/target" --meta "penstock-crc32c=$crc" || return 0 # no xattrs
    expect 0 "$penstock" stat target
    printed "$crc"
    printf aaaa >target # in place: the sum that the store keeps is void now, the metadata stays
    expect 0 "$penstock" cp source target
    holds target bbbb
}

test_cp__size_time_takes_size_and_time_for_identical() {
    mkdir tree copy
    printf 'aaaa' >tree/older
    printf 'aaaa' >tree/newer
    printf 'bbbb' >copy/older
    printf 'bbbb' >copy/newer
    touch -d 2020-01-01 tree/older copy/newer
    expect 0 "$penstock" cp -r --size-time tree copy
    said "copied 1 (4 B), identical 1"
    holds copy/older bbbb
    holds copy/newer aaaa
}

test_cp__large_object_is_whole() {
    head -c 70000001 /dev/urandom >large
    expect 0 "$penstock" cp large "file://$dir/copy"
    cmp large copy
    : >empty
    expect 0 "$penstock" cp empty copy
    cmp empty copy
}

test_cp__failed_item_does_not_stop_the_others() {
    mkdir -p tree copy/blocked
    echo 1 >tree/a
    echo 2 >tree/blocked
    echo 3 >tree/z
    echo kept >copy/blocked/file
    expect 1 "$penstock" cp -r tree copy
    said "copied 2 (4 B), identical 0, failed 1"
    said "copy/blocked"
    holds copy/a 1
    holds copy/z 3
    holds copy/blocked/file kept
    no_rest copy
}

test_cp__one_failed_object_gives_its_own_exit_code() {
    mkdir -p blocked/file
    echo 1 >file
    chmod 000 file
    chmod 755 "$scratch" "$dir"
    chmod 777 blocked
    [ "$(id -u)" != 0 ] || as_user="setpriv --reuid=65534 --regid=65534 --clear-groups"
    expect 4 ${as_user:-} "$penstock" cp file blocked/
    [ "$(wc -l <"$dir.err")" = 1 ]
    rm -r blocked/file
    expect 4 ${as_user:-} "$penstock" cp file blocked/
    [ "$(wc -l <"$dir.err")" = 1 ]
    absent blocked/file
}

test_cp__links_that_leave_the_tree_are_named_and_counted() {
    mkdir -p tree/sub outside
    echo in >tree/in
    echo out >outside/file
    ln -s in tree/good
    ln -s ../outside/file tree/leaves
    ln -s "$dir/outside/file" tree/sub/absolute
    ln -s nowhere tree/dangles
    ln -s sub tree/dirlink
    ln -s loop tree/loop
    mkfifo tree/fifo
    expect 1 "$penstock" cp -r tree copy
    said "failed 6, links left out 6"
    said "tree/leaves: "
    said "tree/sub/absolute: "
    said "tree/dangles: "
    said "tree/dirlink: "
    said "tree/loop: "
    said "tree/fifo: "
    holds copy/in in
    holds copy/good in
    absent copy/leaves copy/sub/absolute copy/dangles copy/dirlink copy/loop copy/fifo
    expect 0 "$penstock" cp -r --links=skip tree copy
    said "failed 0, links left out 6"
    expect 0 "$penstock" cp -r -o symlinks=follow --links=skip tree followed
    holds followed/leaves out
    holds followed/sub/absolute out
    expect 2 "$penstock" cp -r --links=maybe tree copy
}

test_cp__never_writes_through_a_link_out_of_the_target() {
    mkdir -p tree/sub/deep outside copy
    echo text >tree/sub/file
    echo text >tree/sub/deep/file
    echo text >tree/fine
    echo kept >outside/file
    ln -s "$dir/outside" copy/sub
    expect 1 "$penstock" cp -r tree copy
    said "copied 1 (5 B), identical 0, failed 2"
    holds outside/file kept
    absent outside/deep
    holds copy/fine text
}

test_cp__link_named_as_target_stands_for_its_file() {
    mkdir outside
    echo new >file
    echo old >outside/file
    ln -s outside/file link
    expect 0 "$penstock" cp file link
    holds outside/file new
    [ -L link ]
    expect 2 "$penstock" cp outside/file link
    expect 2 "$penstock" cp file /dev/null
}

test_cp__dry_run_says_and_changes_nothing() {
    mkdir -p tree/empty
    echo 1 >tree/a
    expect 0 "$penstock" cp -r --dry-run tree copy
    printed "copy file://$dir/tree/a -> file://$dir/copy/a"
    printed "make file://$dir/copy/empty/"
    absent copy
    expect 0 "$penstock" cp -r tree copy
    echo 2 >tree/b
    expect 0 "$penstock" cp -r --dry-run tree copy
    [ "$(grep -c '^copy' "$dir.out")" = 1 ]
    absent copy/b
}

test_cp__regex_chooses_by_relative_name() {
    mkdir -p tree/sub
    echo 1 >tree/a.h
    echo 2 >tree/a.c
    echo 3 >tree/sub/b.h
    expect 0 "$penstock" cp -r --regex '\.h$' tree copy
    holds copy/a.h 1
    holds copy/sub/b.h 3
    absent copy/a.c
    expect 2 "$penstock" cp -r --regex '(' tree copy
}

test_cp__many_jobs_and_one_give_the_same() {
    mkdir tree
    for i in $(seq 700); do echo "$i" >"tree/$i"; done
    expect 0 "$penstock" cp -r -j 64 tree many
    expect 0 "$penstock" cp -r -j 1 tree one
    same tree many
    same tree one
    expect 2 "$penstock" cp -r -j 0 tree none
}

test_cp__stdin_and_stdout_are_for_put_and_cat() {
    echo text >file
    expect 2 "$penstock" cp - "file://$dir/copy"
    expect 2 "$penstock" cp file -
    absent copy
}

test_upload__target_is_a_directory_with_or_without_slash() {
    mkdir tree
    echo 1 >tree/file
    echo 2 >one
    expect 0 "$penstock" upload -r tree one "file://$dir/target"
    holds target/tree/file 1
    holds target/one 2
}

test_download__target_is_a_local_directory() {
    mkdir tree
    echo 1 >tree/file
    expect 0 "$penstock" download -r "file://$dir/tree" "file://$dir/tree/" down/here
    holds down/here/tree/file 1
    holds down/here/file 1
    expect 0 "$penstock" download "file://$dir/tree/file" down
    holds down/file 1
}

test_cp__root_option_of_the_store_is_kept_to() {
    mkdir -p base/tree
    echo 1 >base/tree/file
    expect 0 "$penstock" -o "root=$dir/base" cp -r file:///tree file:///copy
    holds base/copy/file 1
}

run_tests
