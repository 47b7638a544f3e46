#!/usr/bin/env bash
# sync and mv of local directories.
. "$PST_TEST_SOURCE/tests/integration/transfer_lib.sh"

make_tree() {
    mkdir -p tree/sub/deep tree/empty
    echo 1 >tree/a
    echo 2 >tree/a-b
    echo 3 >tree/sub/x
    echo 4 >tree/sub/deep/y
    echo 5 >tree/sub0
}

test_sync__second_run_copies_nothing() {
    make_tree
    expect 0 "$penstock" sync tree copy
    said "copied 5 (10 B), identical 0, failed 0"
    same tree copy
    find copy -type f -printf '%p %i %T@\n' | sort >before
    expect 0 "$penstock" sync tree/ copy/
    said "copied 0 (0 B), identical 5, failed 0"
    find copy -type f -printf '%p %i %T@\n' | sort >after
    cmp before after
}

test_sync__copies_what_differs_and_keeps_the_rest() {
    make_tree
    expect 0 "$penstock" sync tree copy
    echo 22 >tree/a-b
    echo 6 >tree/sub/new
    rm tree/sub0
    echo mine >copy/mine
    expect 0 "$penstock" sync tree copy
    said "copied 2 (5 B), identical 3, failed 0"
    holds copy/a-b 22
    holds copy/sub0 5
    holds copy/mine mine
}

test_sync__delete_removes_what_the_source_has_not() {
    make_tree
    expect 0 "$penstock" sync tree copy
    mkdir -p copy/old/er copy/void/er copy/sub/q
    echo x >copy/old/er/file
    echo x >copy/A
    echo x >copy/sub/deep/yy
    echo x >copy/zzz
    rm tree/sub0
    expect 0 "$penstock" sync --delete --dry-run tree copy
    printed "delete file://$dir/copy/old/er/file"
    [ "$(wc -l <"$dir.out")" = 5 ]
    [ -e copy/zzz ]
    expect 0 "$penstock" sync --delete tree copy
    said "copied 0 (0 B), identical 4, failed 0, deleted 5"
    same tree copy
    no_rest copy
}

test_sync__delete_stays_below_the_target() {
    make_tree
    mkdir -p base/copy base/copy2
    echo kept >base/copy2/file
    echo kept >base/copy-file
    expect 0 "$penstock" sync --delete tree base/copy
    holds base/copy2/file kept
    holds base/copy-file kept
}

test_sync__delete_needs_every_copy() {
    make_tree
    mkdir -p copy/a
    echo kept >copy/a/file
    echo kept >copy/extra
    expect 1 "$penstock" sync --delete tree copy
    said "nothing is deleted"
    holds copy/extra kept
    holds copy/a/file kept
}

test_sync__delete_from_an_empty_source_deletes_nothing() {
    mkdir tree copy
    echo kept >copy/file
    expect 1 "$penstock" sync --delete tree copy
    said "nothing is deleted"
    holds copy/file kept
}

test_sync__delete_with_a_missing_source_deletes_nothing() {
    mkdir copy
    echo kept >copy/file
    expect 3 "$penstock" sync --delete tree copy
    holds copy/file kept
}

test_sync__delete_with_a_listing_that_fails_deletes_nothing() {
    make_tree
    mkdir -p copy
    echo kept >copy/file
    chmod 755 "$scratch" "$dir"
    chmod 777 copy
    chmod 000 tree/sub
    [ "$(id -u)" != 0 ] || as_user="setpriv --reuid=65534 --regid=65534 --clear-groups"
    expect 4 ${as_user:-} "$penstock" sync --delete tree copy
    holds copy/file kept
}

test_sync__delete_refuses_places_inside_each_other() {
    make_tree
    expect 2 "$penstock" sync --delete tree/sub tree
    expect 2 "$penstock" sync --delete tree tree/sub
    expect 2 "$penstock" sync tree tree
    holds tree/a 1
}

test_sync__takes_directories_only() {
    make_tree
    expect 2 "$penstock" sync tree/a copy
    expect 2 "$penstock" sync tree copy more
    absent copy
    expect 2 "$penstock" sync tree tree/a
}

test_mv__renames_within_a_file_system() {
    make_tree
    inode=$(stat -c %i tree/sub/deep/y)
    cp -r tree wanted
    expect 0 "$penstock" mv -r tree moved
    same wanted moved
    absent tree
    [ "$(stat -c %i moved/sub/deep/y)" = "$inode" ]
    no_rest "$dir"
}

test_mv__contents_leave_their_directory() {
    make_tree
    cp -r tree wanted
    expect 0 "$penstock" mv -r tree/ moved/
    same wanted moved
    [ -d tree ]
    [ -z "$(ls -A tree)" ]
}

test_mv__file_into_directory_and_onto_file() {
    echo 1 >one
    echo 2 >two
    mkdir target
    expect 0 "$penstock" mv one target
    holds target/one 1
    absent one
    expect 0 "$penstock" mv two target/one
    holds target/one 2
    absent two
}

test_mv__across_file_systems_copies_then_deletes() {
    [ "$(stat -c %d /dev/shm)" != "$(stat -c %d "$dir")" ]
    other=$(mktemp -d -p /dev/shm)
    trap 'rm -rf "$other"' EXIT
    make_tree
    cp -r tree wanted
    expect 0 "$penstock" mv -r tree "$other/moved"
    same wanted "$other/moved"
    absent tree
    no_rest "$other"
}

test_mv__onto_or_into_itself_is_refused() {
    make_tree
    expect 2 "$penstock" mv tree/a tree/a
    expect 2 "$penstock" mv -r tree tree/sub
    expect 2 "$penstock" mv -r tree/sub/ tree/
    holds tree/a 1
    holds tree/sub/x 3
}

test_mv__source_of_a_failed_move_stays() {
    make_tree
    mkdir -p moved/a
    echo kept >moved/a/file
    expect 1 "$penstock" mv -r tree moved
    holds tree/a 1
    holds moved/sub/x 3
    absent tree/sub/x
}

test_mv__tree_with_links_is_not_begun() {
    make_tree
    ln -s a tree/link
    expect 2 "$penstock" mv -r tree moved
    said "tree/link: a symbolic link"
    absent moved
    holds tree/sub/x 3
    # Alone, a link moves as the object it stands for.
    expect 0 "$penstock" mv tree/link moved
    holds moved 1
    [ ! -L moved ]
    absent tree/link
    holds tree/a 1
}

test_mv__never_writes_through_a_link_out_of_the_target() {
    mkdir -p tree/sub outside moved
    echo text >tree/sub/file
    echo kept >outside/file
    ln -s "$dir/outside" moved/sub
    expect 4 "$penstock" mv -r tree moved
    holds outside/file kept
    holds tree/sub/file text
}

test_mv__dry_run_says_and_changes_nothing() {
    make_tree
    cp -r tree wanted
    expect 0 "$penstock" mv -r --dry-run tree moved
    printed "move file://$dir/tree/sub/x -> file://$dir/moved/sub/x"
    absent moved
    same wanted tree
}

run_tests
