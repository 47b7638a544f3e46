/* put and uploads: an object appears whole or not at all, and nothing else is left behind. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "mini_host.h"

static const pst_str none = {NULL, 0};

static pst_rc put_text(struct mini_fixture *f, const char *key, const char *text)
{
    return mini_put(&f->mini, mini_str(key), text, strlen(text), 0, none, NULL, NULL);
}

static void assert_file(struct mini_fixture *f, const char *name, const char *expected)
{
    char *text = mini_read_file(f->dir, name);

    assert_non_null(text);
    assert_string_equal(text, expected);
    free(text);
}

static mode_t mode_of(struct mini_fixture *f, const char *name)
{
    char *path = mini_path(f->dir, name);
    struct stat st;

    assert_int_equal(stat(path, &st), 0);
    free(path);
    return st.st_mode & 07777;
}

static void set_mode(struct mini_fixture *f, const char *name, mode_t mode)
{
    char *path = mini_path(f->dir, name);

    assert_int_equal(chmod(path, mode), 0);
    free(path);
}

static void check_put(struct mini_fixture *f)
{
    char etag[128], now[128];

    assert_int_equal(put_text(f, "o", "first"), PST_OK);
    assert_file(f, "o", "first");
    assert_int_equal(mini_put(&f->mini, PST_STR("o"), "second", 6, 0, none, NULL, etag), PST_OK);
    assert_file(f, "o", "second");
    assert_int_equal(mini_etag(&f->mini, PST_STR("o"), now), PST_OK);
    assert_string_equal(etag, now);
    assert_int_equal(put_text(f, "empty", ""), PST_OK);
    assert_file(f, "empty", "");
    assert_int_equal(put_text(f, "a/b/c", "deep"), PST_OK);
    assert_file(f, "a/b/c", "deep");
    assert_int_equal(mini_count_names(f->dir), 3);
}

static void test_put__writes_replaces_and_makes_directories(void **state)
{
    check_put(*state);
}

static int setup_data(void **state)
{
    return mini_setup_with(state, "fsync=data");
}

static int setup_full(void **state)
{
    return mini_setup_with(state, "fsync=full");
}

static void test_put__spans_are_joined_in_order(void **state)
{
    struct mini_fixture *f = *state;

    f->mini.span_bytes = 2;
    assert_int_equal(put_text(f, "o", "0123456789a"), PST_OK);
    assert_file(f, "o", "0123456789a");
}

static void test_put__new_file_follows_umask_and_replaced_file_keeps_its_mode(void **state)
{
    struct mini_fixture *f = *state;
    mode_t old = umask(027);

    assert_int_equal(put_text(f, "o", "1"), PST_OK);
    assert_int_equal(mode_of(f, "o"), 0640);
    assert_int_equal(put_text(f, "dir/o", "1"), PST_OK);
    assert_int_equal(mode_of(f, "dir"), 0750);
    umask(0);
    assert_int_equal(put_text(f, "open", "1"), PST_OK);
    assert_int_equal(mode_of(f, "open"), 0666);
    set_mode(f, "o", 0604);
    assert_int_equal(put_text(f, "o", "2"), PST_OK);
    assert_int_equal(mode_of(f, "o"), 0604);
    set_mode(f, "o", 06755); /* set-id bits do not pass to other bytes */
    assert_int_equal(put_text(f, "o", "3"), PST_OK);
    assert_int_equal(mode_of(f, "o"), 0755);
    umask(old);
}

/* The only name in the directory that is a temporary file's, or NULL. malloc'ed. */
static char *find_temp(const char *dir)
{
    DIR *d = opendir(dir);
    char *found = NULL;

    assert_non_null(d);
    for (const struct dirent *e = readdir(d); e; e = readdir(d)) {
        if (strncmp(e->d_name, ".penstock-tmp-", 14) == 0) {
            assert_null(found);
            found = strdup(e->d_name);
        }
    }
    closedir(d);
    return found;
}

static void test_upload__is_invisible_until_commit(void **state)
{
    struct mini_fixture *f = *state;
    pst_upload *upload;
    char etag[128], again[128];

    assert_int_equal(put_text(f, "o", "old"), PST_OK);
    assert_int_equal(mini_upload_open(&f->mini, PST_STR("o"), 0, none, &upload), PST_OK);
    assert_int_equal(mini_part(&f->mini, upload, 0, 0, "new ", 4), PST_OK);
    assert_int_equal(mini_part(&f->mini, upload, 1, 4, "bytes", 5), PST_OK);
    assert_file(f, "o", "old");
    struct mini_list list;
    assert_int_equal(mini_list(&f->mini, none, none, PST_LIST_RECURSIVE, 0, &list), PST_OK);
    assert_int_equal(list.n, 1); /* the temporary file is not listed */
    mini_list_free(&list);
    assert_int_equal(mini_commit(&f->mini, upload, 9, 2, etag), PST_OK);
    assert_file(f, "o", "new bytes");
    assert_int_equal(mini_commit(&f->mini, upload, 9, 2, again), PST_OK); /* repeated: the same */
    assert_string_equal(etag, again);
    mini_upload_free(&f->mini, upload);
    assert_file(f, "o", "new bytes");
    assert_int_equal(mini_count_names(f->dir), 1);
}

static void test_upload__bytes_that_replace_a_private_file_are_private_at_once(void **state)
{
    struct mini_fixture *f = *state;
    pst_upload *upload;

    assert_int_equal(put_text(f, "o", "secret"), PST_OK);
    set_mode(f, "o", 0600);
    assert_int_equal(mini_upload_open(&f->mini, PST_STR("o"), 0, none, &upload), PST_OK);
    char *temp = find_temp(f->dir);
    assert_non_null(temp);
    assert_int_equal(mode_of(f, temp), 0600);
    free(temp);
    mini_upload_free(&f->mini, upload);
    assert_int_equal(mini_count_names(f->dir), 1);
}

static void test_upload__parts_in_any_order_and_again(void **state)
{
    struct mini_fixture *f = *state;
    pst_upload *upload;

    assert_int_equal(mini_upload_open(&f->mini, PST_STR("o"), 0, none, &upload), PST_OK);
    assert_int_equal(mini_part(&f->mini, upload, 2, 8, "89", 2), PST_OK);
    assert_int_equal(mini_part(&f->mini, upload, 0, 0, "0123", 4), PST_OK);
    assert_int_equal(mini_part(&f->mini, upload, 1, 4, "4567", 4), PST_OK);
    assert_int_equal(mini_part(&f->mini, upload, 0, 0, "0123", 4), PST_OK); /* resent */
    assert_int_equal(mini_part(&f->mini, upload, 0, 1, "0123", 4), PST_E_INVALID);
    assert_int_equal(mini_part(&f->mini, upload, 0, 0, "01234", 5), PST_E_INVALID);
    assert_int_equal(mini_commit(&f->mini, upload, 10, 3, NULL), PST_OK);
    assert_int_equal(mini_part(&f->mini, upload, 2, 8, "89", 2), PST_OK); /* a late resend */
    assert_int_equal(mini_part(&f->mini, upload, 3, 10, "x", 1), PST_E_INVALID);
    assert_int_equal(mini_commit(&f->mini, upload, 11, 3, NULL), PST_E_INVALID);
    assert_int_equal(mini_abort(&f->mini, upload), PST_E_INVALID);
    mini_upload_free(&f->mini, upload);
    assert_file(f, "o", "0123456789");
}

static void test_upload__numbers_need_not_follow_the_offsets(void **state)
{
    struct mini_fixture *f = *state;
    pst_upload *upload;

    assert_int_equal(mini_upload_open(&f->mini, PST_STR("o"), 0, none, &upload), PST_OK);
    assert_int_equal(mini_part(&f->mini, upload, 9, 0, "ab", 2), PST_OK);
    assert_int_equal(mini_part(&f->mini, upload, 4, 2, "cd", 2), PST_OK);
    assert_int_equal(mini_part(&f->mini, upload, 7, 4, "", 0), PST_OK);
    assert_int_equal(mini_commit(&f->mini, upload, 4, 3, NULL), PST_OK);
    mini_upload_free(&f->mini, upload);
    assert_file(f, "o", "abcd");
}

static void test_upload__gap_overlap_and_wrong_size_are_refused(void **state)
{
    struct mini_fixture *f = *state;
    pst_upload *upload;

    assert_int_equal(mini_upload_open(&f->mini, PST_STR("o"), 0, none, &upload), PST_OK);
    assert_int_equal(mini_part(&f->mini, upload, 0, 0, "ab", 2), PST_OK);
    assert_int_equal(mini_part(&f->mini, upload, 1, 3, "de", 2), PST_OK);
    assert_int_equal(mini_commit(&f->mini, upload, 5, 2, NULL), PST_E_INVALID);
    assert_non_null(strstr(f->mini.err.message, "no part holds the byte at 2"));
    assert_int_equal(mini_part(&f->mini, upload, 2, 2, "cd", 2), PST_OK);
    assert_int_equal(mini_commit(&f->mini, upload, 5, 3, NULL), PST_E_INVALID);
    assert_non_null(strstr(f->mini.err.message, "two parts hold the byte at 3"));
    mini_upload_free(&f->mini, upload);
    assert_int_equal(mini_upload_open(&f->mini, PST_STR("o"), 0, none, &upload), PST_OK);
    assert_int_equal(mini_part(&f->mini, upload, 0, 0, "abc", 3), PST_OK);
    assert_int_equal(mini_commit(&f->mini, upload, 4, 1, NULL), PST_E_INVALID);
    assert_int_equal(mini_commit(&f->mini, upload, 2, 1, NULL), PST_E_INVALID);
    assert_int_equal(mini_commit(&f->mini, upload, 3, 2, NULL), PST_E_INVALID);
    assert_int_equal(mini_count_names(f->dir), 1); /* still only the temporary file */
    assert_int_equal(mini_commit(&f->mini, upload, 3, 1, NULL), PST_OK);
    mini_upload_free(&f->mini, upload);
    assert_file(f, "o", "abc");
}

static void test_upload__empty_object_has_no_parts(void **state)
{
    struct mini_fixture *f = *state;
    pst_upload *upload;

    assert_int_equal(mini_upload_open(&f->mini, PST_STR("o"), 0, none, &upload), PST_OK);
    assert_int_equal(mini_commit(&f->mini, upload, 0, 0, NULL), PST_OK);
    mini_upload_free(&f->mini, upload);
    assert_file(f, "o", "");
}

static void test_upload__abort_and_free_leave_nothing(void **state)
{
    struct mini_fixture *f = *state;
    pst_upload *upload;

    assert_int_equal(mini_upload_open(&f->mini, PST_STR("a/b/o"), 0, none, &upload), PST_OK);
    assert_int_equal(mini_part(&f->mini, upload, 0, 0, "x", 1), PST_OK);
    assert_int_equal(mini_abort(&f->mini, upload), PST_OK);
    assert_int_equal(mini_count_names(f->dir), 0); /* the directories went as well */
    assert_int_equal(mini_abort(&f->mini, upload), PST_OK);
    assert_int_equal(mini_part(&f->mini, upload, 1, 1, "x", 1), PST_E_INVALID);
    assert_int_equal(mini_commit(&f->mini, upload, 1, 1, NULL), PST_E_INVALID);
    mini_upload_free(&f->mini, upload);

    assert_int_equal(mini_upload_open(&f->mini, PST_STR("a/o"), 0, none, &upload), PST_OK);
    assert_int_equal(mini_part(&f->mini, upload, 0, 0, "x", 1), PST_OK);
    mini_upload_free(&f->mini, upload); /* neither committed nor aborted: dropped */
    assert_int_equal(mini_count_names(f->dir), 0);
}

static void test_upload__directories_of_others_stay_on_abort(void **state)
{
    struct mini_fixture *f = *state;
    pst_upload *upload, *other;

    assert_int_equal(mini_upload_open(&f->mini, PST_STR("a/b/o"), 0, none, &upload), PST_OK);
    assert_int_equal(mini_upload_open(&f->mini, PST_STR("a/b/p"), 0, none, &other), PST_OK);
    assert_int_equal(mini_abort(&f->mini, upload), PST_OK);
    assert_int_equal(mini_part(&f->mini, other, 0, 0, "x", 1), PST_OK);
    assert_int_equal(mini_commit(&f->mini, other, 1, 1, NULL), PST_OK);
    assert_file(f, "a/b/p", "x");
    mini_upload_free(&f->mini, upload);
    mini_upload_free(&f->mini, other);
    assert_int_equal(put_text(f, "kept/x", "1"), PST_OK);
    assert_int_equal(mini_remove(&f->mini, PST_STR("kept/x"), none), PST_OK);
    assert_int_equal(mini_upload_open(&f->mini, PST_STR("kept/y"), 0, none, &upload), PST_OK);
    mini_upload_free(&f->mini, upload);
    assert_int_equal(mode_of(f, "kept") & 0700, 0700); /* was there before: stays, though empty */
}

static int free_in_child(void *arg)
{
    void **both = arg;
    const struct mini_fixture *f = both[0];

    f->mini.plugin->ops->upload_free(both[1]);
    return mini_count_names(f->dir) == 1 ? 0 : 1;
}

static void test_upload__free_in_a_fork_child_spares_the_parents_file(void **state)
{
    struct mini_fixture *f = *state;
    pst_upload *upload;

    assert_int_equal(mini_upload_open(&f->mini, PST_STR("a/o"), 0, none, &upload), PST_OK);
    assert_int_equal(mini_part(&f->mini, upload, 0, 0, "x", 1), PST_OK);
    assert_int_equal(mini_run_child(free_in_child, (void *[]){f, upload}, 0), 0);
    assert_int_equal(mini_commit(&f->mini, upload, 1, 1, NULL), PST_OK);
    mini_upload_free(&f->mini, upload);
    assert_file(f, "a/o", "x");
}

struct parts {
    struct mini_fixture *f;
    pst_upload *upload;
    uint32_t first;
};

enum { N_THREADS = 4, PARTS_PER_THREAD = 50, PART_BYTES = 999 };

static void *send_parts(void *arg)
{
    const struct parts *parts = arg;
    char bytes[PART_BYTES];

    for (uint32_t i = 0; i < PARTS_PER_THREAD; i++) {
        uint32_t number = parts->first + i * N_THREADS;
        memset(bytes, 'a' + (int)(number % 26), sizeof(bytes));
        assert_int_equal(mini_part(&parts->f->mini, parts->upload, number,
                                   (uint64_t)number * PART_BYTES, bytes, sizeof(bytes)),
                         PST_OK);
    }
    return NULL;
}

static void test_upload__parts_side_by_side_from_four_threads(void **state)
{
    struct mini_fixture *f = *state;
    pthread_t threads[N_THREADS];
    struct parts parts[N_THREADS];
    const uint32_t n = N_THREADS * PARTS_PER_THREAD;
    pst_upload *upload;

    f->mini.is_threaded = 1;
    assert_int_equal(mini_upload_open(&f->mini, PST_STR("o"), 0, none, &upload), PST_OK);
    for (uint32_t i = 0; i < N_THREADS; i++) {
        parts[i] = (struct parts){f, upload, i};
        assert_int_equal(pthread_create(&threads[i], NULL, send_parts, &parts[i]), 0);
    }
    for (uint32_t i = 0; i < N_THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(mini_commit(&f->mini, upload, (uint64_t)n * PART_BYTES, n, NULL), PST_OK);
    mini_upload_free(&f->mini, upload);
    char *text = mini_read_file(f->dir, "o");
    for (size_t i = 0; i < (size_t)n * PART_BYTES; i++)
        assert_int_equal(text[i], 'a' + (int)(i / PART_BYTES % 26));
    free(text);
}

static void test_put__onto_something_else_is_refused(void **state)
{
    struct mini_fixture *f = *state;
    char *path = mini_path(f->dir, "fifo");
    struct stat st;

    assert_int_equal(mkfifo(path, 0666), 0);
    assert_int_equal(put_text(f, "fifo", "x"), PST_E_INVALID);
    assert_non_null(strstr(f->mini.err.message, "is a fifo"));
    assert_int_equal(stat(path, &st), 0);
    assert_true(S_ISFIFO(st.st_mode));
    free(path);
}

static int put_as_nobody(void *arg)
{
    struct mini_fixture *f = arg;

    return put_text(f, "o", "x") == PST_E_DENIED && put_text(f, "a/b", "x") == PST_E_DENIED ? 0 : 1;
}

static void test_put__into_a_forbidden_directory_is_denied(void **state)
{
    struct mini_fixture *f = *state;

    assert_int_equal(chmod(f->dir, 0555), 0);
    assert_int_equal(mini_run_child(put_as_nobody, f, 1), 0);
    assert_int_equal(mini_count_names(f->dir), 0);
}

static int write_text(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    ssize_t got = fd >= 0 ? write(fd, text, strlen(text)) : -1;

    if (fd >= 0)
        close(fd);
    return got == (ssize_t)strlen(text) ? 0 : -1;
}

/* Mounting needs root, or a user namespace in which we are. */
static int enter_mount_namespace(void)
{
    char uid_map[32], gid_map[32];

    if (unshare(CLONE_NEWNS) == 0)
        return 0;
    snprintf(uid_map, sizeof(uid_map), "0 %u 1", (unsigned)geteuid());
    snprintf(gid_map, sizeof(gid_map), "0 %u 1", (unsigned)getegid());
    return unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0 &&
                   write_text("/proc/self/uid_map", uid_map) == 0 &&
                   write_text("/proc/self/setgroups", "deny") == 0 &&
                   write_text("/proc/self/gid_map", gid_map) == 0
               ? 0
               : -1;
}

/* A file system of 1 MiB of its own, in a mount namespace of its own. */
static int put_on_full_disk(void *arg)
{
    struct mini_fixture *f = arg;
    const size_t big = 2 << 20;
    char *bytes = calloc(1, big), root[256];
    const char *const options[] = {root, NULL};
    struct mini_host mini;

    if (enter_mount_namespace() != 0)
        return 101;
    mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL);
    if (!bytes || mount("tmpfs", f->dir, "tmpfs", 0, "size=1m") != 0)
        return 102;
    snprintf(root, sizeof(root), "root=%s", f->dir);
    if (mini_open(&mini, options) != PST_OK)
        return 103;
    if (mini_put(&mini, PST_STR("small"), "kept", 4, 0, none, NULL, NULL) != PST_OK)
        return 1;
    if (mini_put(&mini, PST_STR("d/big"), bytes, big, 0, none, NULL, NULL) != PST_E_NO_SPACE)
        return 2;
    if (mini_put(&mini, PST_STR("small"), bytes, big, 0, none, NULL, NULL) != PST_E_NO_SPACE)
        return 3;
    if (mini_copy(&mini, PST_STR("small"), PST_STR("copy"), 0, none, none, NULL) != PST_OK)
        return 4;
    assert_file(f, "small", "kept");
    if (mini_count_names(f->dir) != 2)
        return 5;
    free(bytes);
    mini_close(&mini);
    return 0;
}

static void test_put__on_a_full_disk_is_no_space_and_leaves_the_old_object(void **state)
{
    assert_int_equal(mini_run_child(put_on_full_disk, *state, 0), 0);
}

static void test_put__cancel_between_blocks_leaves_nothing(void **state)
{
    struct mini_fixture *f = *state;
    const size_t big = 20 << 20;
    char *bytes = calloc(1, big);
    const pst_attr attr = {.struct_size = sizeof(attr)};
    const pst_iov src = {bytes, big};
    const pst_put_args args = {
        .struct_size = sizeof(args), .key = PST_STR("o"), .src = &src, .n_src = 1, .attr = &attr};
    pst_put_result result = {.struct_size = sizeof(result)};
    struct mini_op op;

    assert_non_null(bytes);
    mini_op_init(&f->mini, &op);
    f->mini.is_threaded = 1;
    pst_rc submitted = f->mini.plugin->ops->put(f->mini.store, &op.op, &args, &result);
    f->mini.plugin->ops->cancel(f->mini.store, &op.op);
    pst_rc rc = mini_op_wait(&op, submitted);
    mini_op_fini(&op);
    if (rc == PST_OK) /* it may have been faster than the cancel */
        assert_int_equal(mini_remove(&f->mini, PST_STR("o"), none), PST_OK);
    else
        assert_int_equal(rc, PST_E_CANCELLED);
    assert_int_equal(mini_count_names(f->dir), 0);
    free(bytes);
}

struct race {
    struct mini_fixture *f;
    int index;
};

/* Make and drop directories under each other's feet: every put must succeed all the same. */
static void *put_and_drop(void *arg)
{
    const struct race *race = arg;
    char key[64];

    for (int i = 0; i < 300; i++) {
        pst_upload *upload;
        snprintf(key, sizeof(key), "x/y/z/o%d", race->index);
        assert_int_equal(mini_upload_open(&race->f->mini, mini_str(key), 0, none, &upload), PST_OK);
        mini_upload_free(&race->f->mini, upload);
    }
    return NULL;
}

static void test_upload__directories_made_and_dropped_side_by_side(void **state)
{
    struct mini_fixture *f = *state;
    pthread_t threads[N_THREADS];
    struct race races[N_THREADS];

    for (int i = 0; i < N_THREADS; i++) {
        races[i] = (struct race){f, i};
        assert_int_equal(pthread_create(&threads[i], NULL, put_and_drop, &races[i]), 0);
    }
    for (int i = 0; i < N_THREADS; i++)
        pthread_join(threads[i], NULL);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, mini_setup, mini_teardown)
#define TEST_WITH(name, setup)                                                                     \
    {                                                                                              \
#name " " #setup, name, setup, mini_teardown, NULL                                         \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_put__writes_replaces_and_makes_directories),
        TEST_WITH(test_put__writes_replaces_and_makes_directories, setup_data),
        TEST_WITH(test_put__writes_replaces_and_makes_directories, setup_full),
        TEST(test_put__spans_are_joined_in_order),
        TEST(test_put__new_file_follows_umask_and_replaced_file_keeps_its_mode),
        TEST(test_put__onto_something_else_is_refused),
        TEST(test_put__into_a_forbidden_directory_is_denied),
        TEST(test_put__on_a_full_disk_is_no_space_and_leaves_the_old_object),
        TEST(test_put__cancel_between_blocks_leaves_nothing),
        TEST(test_upload__is_invisible_until_commit),
        TEST_WITH(test_upload__is_invisible_until_commit, setup_full),
        TEST(test_upload__bytes_that_replace_a_private_file_are_private_at_once),
        TEST(test_upload__parts_in_any_order_and_again),
        TEST(test_upload__numbers_need_not_follow_the_offsets),
        TEST(test_upload__gap_overlap_and_wrong_size_are_refused),
        TEST(test_upload__empty_object_has_no_parts),
        TEST(test_upload__abort_and_free_leave_nothing),
        TEST(test_upload__directories_of_others_stay_on_abort),
        TEST(test_upload__free_in_a_fork_child_spares_the_parents_file),
        TEST(test_upload__parts_side_by_side_from_four_threads),
        TEST(test_upload__directories_made_and_dropped_side_by_side),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
