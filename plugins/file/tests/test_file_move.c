/* copy, rename, remove, containers. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "mini_host.h"

static const pst_str none = {NULL, 0};

static void put_text(struct mini_fixture *f, const char *key, const char *text)
{
    assert_int_equal(mini_put(&f->mini, mini_str(key), text, strlen(text), 0, none, NULL, NULL),
                     PST_OK);
}

static void assert_file(struct mini_fixture *f, const char *name, const char *expected)
{
    char *text = mini_read_file(f->dir, name);

    assert_non_null(text);
    assert_string_equal(text, expected);
    free(text);
}

static pst_rc copy(struct mini_fixture *f, const char *from, const char *to)
{
    return mini_copy(&f->mini, mini_str(from), mini_str(to), 0, none, none, NULL);
}

static pst_rc move(struct mini_fixture *f, const char *from, const char *to)
{
    return mini_rename(&f->mini, mini_str(from), mini_str(to), 0, none);
}

static void assert_type(struct mini_fixture *f, const char *key, const char *type, size_t n_meta)
{
    struct mini_op op;
    pst_attr got;

    assert_int_equal(mini_stat(&f->mini, mini_str(key), &op, &got), PST_OK);
    assert_int_equal(got.content_type.len, strlen(type));
    assert_memory_equal(got.content_type.ptr, type, strlen(type));
    assert_int_equal(got.n_user_meta, n_meta);
    mini_op_fini(&op);
}

static void test_copy__keeps_or_replaces_the_attributes(void **state)
{
    struct mini_fixture *f = *state;
    const pst_kv kv[] = {{PST_STR("a"), PST_STR("1")}, {PST_STR("b"), PST_STR("2")}};
    const pst_attr old = {.struct_size = sizeof(old),
                          .content_type = PST_STR("text/old"),
                          .user_meta = kv,
                          .n_user_meta = 2};
    const pst_attr new = {.struct_size = sizeof(new),
                          .content_type = PST_STR("text/new"),
                          .user_meta = kv,
                          .n_user_meta = 1};

    assert_int_equal(mini_put(&f->mini, PST_STR("o"), "bytes", 5, 0, none, &old, NULL), PST_OK);
    assert_int_equal(copy(f, "o", "far/away/copy"), PST_OK);
    assert_file(f, "far/away/copy", "bytes");
    assert_type(f, "far/away/copy", "text/old", 2);
    assert_int_equal(mini_copy(&f->mini, PST_STR("o"), PST_STR("copy"), 0, none, none, &new),
                     PST_OK);
    assert_type(f, "copy", "text/new", 1);
    /* Onto itself: how attributes are changed. */
    assert_int_equal(mini_copy(&f->mini, PST_STR("o"), PST_STR("o"), 0, none, none, &new), PST_OK);
    assert_file(f, "o", "bytes");
    assert_type(f, "o", "text/new", 1);
    assert_int_equal(copy(f, "o", "o"), PST_OK);
    assert_type(f, "o", "text/new", 1);
}

static void test_copy__big_and_sparse_files_are_whole(void **state)
{
    struct mini_fixture *f = *state;
    char *path = mini_path(f->dir, "o");
    const size_t size = (20 << 20) + 123;
    size_t n;
    int fd = open(path, O_RDWR | O_CREAT, 0666);

    assert_int_equal(ftruncate(fd, (off_t)size), 0);
    assert_int_equal(pwrite(fd, "middle", 6, 10 << 20), 6);
    assert_int_equal(pwrite(fd, "end", 3, (off_t)size - 3), 3);
    close(fd);
    assert_int_equal(copy(f, "o", "copy"), PST_OK);
    char *a, *b;
    assert_int_equal(mini_read(&f->mini, PST_STR("o"), 0, size, 0, none, &a, NULL, NULL), PST_OK);
    assert_int_equal(mini_read(&f->mini, PST_STR("copy"), 0, size + 1, 0, none, &b, &n, NULL),
                     PST_OK);
    assert_int_equal(n, size);
    assert_memory_equal(a, b, size);
    free(a);
    free(b);
    free(path);
}

static void test_copy__from_another_file_system_goes_through_memory(void **state)
{
    struct mini_fixture *f = *state;
    char shm[] = "/dev/shm/penstock-file-XXXXXX", key[64];
    const char *const options[] = {"root=/", NULL};
    char *to = mini_path(f->dir + 1, "copy");
    struct mini_host mini;

    if (!mkdtemp(shm))
        skip();
    snprintf(key, sizeof(key), "%s/o", shm + 1);
    assert_int_equal(mini_open(&mini, options), PST_OK);
    assert_int_equal(mini_put(&mini, mini_str(key), "bytes", 5, 0, none, NULL, NULL), PST_OK);
    assert_int_equal(mini_copy(&mini, mini_str(key), mini_str(to), 0, none, none, NULL), PST_OK);
    assert_file(f, "copy", "bytes");
    assert_int_equal(mini_rename(&mini, mini_str(key), mini_str(to), 0, none), PST_E_UNIMPLEMENTED);
    assert_int_equal(mini_remove(&mini, mini_str(key), none), PST_OK);
    assert_int_equal(rmdir(shm), 0);
    mini_close(&mini);
    free(to);
}

/* Sums that are kept are dated anew for a rename: only for one that can happen. */
static void test_move__to_another_file_system_leaves_the_etag_of_the_source(void **state)
{
    const pst_sum sum = {.algorithm = PST_SUM_CRC32C,
                         .scope = PST_SCOPE_OBJECT,
                         .length = 4,
                         .bytes = {0xe3, 0x06, 0x92, 0x83}};
    struct mini_fixture *f = *state;
    char shm[] = "/dev/shm/penstock-file-XXXXXX", key[64], before[128], after[128];
    const char *const options[] = {"root=/", NULL};
    char *from = mini_path(f->dir + 1, "o");
    struct stat here, there;
    struct mini_host mini;

    if (!mkdtemp(shm))
        skip();
    assert_int_equal(stat(shm, &there), 0);
    assert_int_equal(stat(f->dir, &here), 0);
    snprintf(key, sizeof(key), "%s/o", shm + 1);
    assert_int_equal(mini_open(&mini, options), PST_OK);
    assert_int_equal(mini_put_sum(&mini, mini_str(from), "123456789", 9, &sum), PST_OK);
    assert_int_equal(mini_etag(&mini, mini_str(from), before), PST_OK);
    mini_pass_tick(f->dir, "o");
    if (here.st_dev != there.st_dev) {
        assert_int_equal(mini_rename(&mini, mini_str(from), mini_str(key), 0, none),
                         PST_E_UNIMPLEMENTED);
        assert_int_equal(mini_etag(&mini, mini_str(from), after), PST_OK);
        assert_string_equal(after, before);
    }
    assert_int_equal(rmdir(shm), 0);
    mini_close(&mini);
    free(from);
}

static void test_move__moves_replaces_and_makes_directories(void **state)
{
    struct mini_fixture *f = *state;

    put_text(f, "o", "bytes");
    assert_int_equal(move(f, "o", "a/b/c"), PST_OK);
    assert_file(f, "a/b/c", "bytes");
    assert_int_equal(mini_count_names(f->dir), 1);
    put_text(f, "p", "other");
    assert_int_equal(move(f, "a/b/c", "p"), PST_OK);
    assert_file(f, "p", "bytes");
    assert_int_equal(move(f, "p", "p"), PST_OK);
    assert_file(f, "p", "bytes");
    assert_int_equal(move(f, "none", "new/dir/q"), PST_E_NOT_FOUND);
    assert_int_equal(mini_count_names(f->dir), 2); /* "a", "p": nothing was made for the failure */
    assert_int_equal(mini_rename(&f->mini, PST_STR("p"), PST_STR("q"), PST_COPY_REPLACE_ATTR, none),
                     PST_E_UNIMPLEMENTED);
}

static void test_move__failed_rename_removes_the_directories_it_made(void **state)
{
    struct mini_fixture *f = *state;

    put_text(f, "o", "bytes");
    assert_int_equal(mini_rename(&f->mini, PST_STR("o"), PST_STR("x/y/z"), 0, PST_STR("no such")),
                     PST_E_PRECONDITION);
    assert_int_equal(mini_count_names(f->dir), 1);
    assert_file(f, "o", "bytes");
}

static void test_move__two_names_of_one_file_are_not_lost(void **state)
{
    struct mini_fixture *f = *state;
    char *one = mini_path(f->dir, "one"), *two = mini_path(f->dir, "two");

    put_text(f, "one", "bytes");
    assert_int_equal(link(one, two), 0);
    assert_int_equal(move(f, "one", "two"), PST_E_UNIMPLEMENTED);
    assert_file(f, "one", "bytes");
    assert_file(f, "two", "bytes");
    free(one);
    free(two);
}

static void test_copy_and_move__directories_are_invalid(void **state)
{
    struct mini_fixture *f = *state;

    put_text(f, "dir/o", "1");
    put_text(f, "o", "2");
    assert_int_equal(copy(f, "dir", "new"), PST_E_INVALID);
    assert_int_equal(move(f, "dir", "new"), PST_E_INVALID);
    assert_int_equal(copy(f, "o", "dir"), PST_E_INVALID);
    assert_int_equal(move(f, "o", "dir"), PST_E_INVALID);
    assert_int_equal(copy(f, "none", "x"), PST_E_NOT_FOUND);
    assert_int_equal(copy(f, "none/below", "x"), PST_E_NOT_FOUND);
    assert_file(f, "dir/o", "1");
    assert_file(f, "o", "2");
}

struct mover {
    struct mini_fixture *f;
    const char *from, *to;
};

static void *move_often(void *arg)
{
    const struct mover *mover = arg;

    for (int i = 0; i < 500; i++) {
        pst_rc rc = move(mover->f, mover->from, mover->to);
        assert_true(rc == PST_OK || rc == PST_E_NOT_FOUND);
    }
    return NULL;
}

static void test_move__opposite_directions_side_by_side_do_not_hang(void **state)
{
    struct mini_fixture *f = *state;
    pthread_t thread;
    struct mover there = {f, "a/o", "b/o"}, back = {f, "b/o", "a/o"};
    char etag[128];

    for (int i = 0; i < 2; i++) { /* a conditional write makes the lock files */
        const char *key = i ? "a/o" : "b/x";
        assert_int_equal(mini_put(&f->mini, mini_str(key), "1", 1, 0, none, NULL, etag), PST_OK);
        assert_int_equal(mini_put(&f->mini, mini_str(key), "2", 1, 0, mini_str(etag), NULL, NULL),
                         PST_OK);
    }
    f->mini.is_threaded = 1;
    assert_int_equal(pthread_create(&thread, NULL, move_often, &there), 0);
    move_often(&back);
    pthread_join(thread, NULL);
    char *a = mini_read_file(f->dir, "a/o"), *b = mini_read_file(f->dir, "b/o");
    assert_true(!a != !b);
    free(a);
    free(b);
}

static void test_remove__exactly_the_key_and_missing_is_ok(void **state)
{
    struct mini_fixture *f = *state;

    put_text(f, "foo", "1");
    put_text(f, "foobar", "2");
    put_text(f, "dir/o", "3");
    assert_int_equal(mini_remove(&f->mini, PST_STR("foo"), none), PST_OK);
    assert_file(f, "foobar", "2");
    assert_int_equal(mini_remove(&f->mini, PST_STR("foo"), none), PST_OK);
    assert_int_equal(mini_remove(&f->mini, PST_STR("no/such/dir"), none), PST_OK);
    assert_int_equal(mini_remove(&f->mini, PST_STR("foobar/below"), none), PST_OK);
    assert_int_equal(mini_remove(&f->mini, PST_STR("dir"), none), PST_E_INVALID);
    assert_non_null(strstr(f->mini.err.message, "is a directory"));
    assert_int_equal(mini_remove(&f->mini, PST_STR("dir/o"), none), PST_OK);
    assert_int_equal(mini_container(&f->mini, PST_STR("dir"), 0), PST_OK); /* it had stayed */
    char *path = mini_path(f->dir, "fifo");
    assert_int_equal(mkfifo(path, 0666), 0);
    assert_int_equal(mini_remove(&f->mini, PST_STR("fifo"), none), PST_E_INVALID);
    assert_int_equal(unlink(path), 0);
    free(path);
}

static void test_remove__many_keys_have_a_status_each(void **state)
{
    struct mini_fixture *f = *state;
    const pst_str keys[] = {PST_STR("a"), PST_STR("dir"), PST_STR("b"), PST_STR("../x"),
                            PST_STR("c")};
    const pst_rc expected[] = {PST_OK, PST_E_INVALID, PST_OK, PST_E_INVALID, PST_OK};
    pst_rc status[5];
    struct { /* a host of tomorrow: its errors are longer */
        pst_error error;
        char more[64];
    } errors[5];
    const pst_remove_args args = {.struct_size = sizeof(args), .keys = keys, .n_keys = 5};
    pst_remove_result result = {.struct_size = sizeof(result),
                                .status = status,
                                .errors = &errors[0].error,
                                .error_stride = sizeof(errors[0])};
    struct mini_op op;

    put_text(f, "a", "1");
    put_text(f, "b", "1");
    put_text(f, "dir/x", "1");
    memset(errors, 0x77, sizeof(errors));
    for (size_t i = 0; i < 5; i++) {
        status[i] = PST_E_INTERNAL;
        errors[i].error.struct_size = sizeof(errors[0]);
        errors[i].error.code = 0;
    }
    mini_op_init(&f->mini, &op);
    assert_int_equal(
        mini_op_wait(&op, f->mini.plugin->ops->remove(f->mini.store, &op.op, &args, &result)),
        PST_OK);
    mini_op_fini(&op);
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(status[i], expected[i]);
        assert_int_equal(errors[i].error.code, expected[i]);
        assert_int_equal(errors[i].error.struct_size, sizeof(errors[0]));
        assert_int_equal(errors[i].more[0], 0x77);
    }
    assert_int_equal(mini_count_names(f->dir), 1);
}

static void test_remove__condition_needs_exactly_one_key(void **state)
{
    struct mini_fixture *f = *state;
    const pst_str keys[] = {PST_STR("a"), PST_STR("b")};
    pst_rc status[2];
    const pst_remove_args args = {
        .struct_size = sizeof(args), .keys = keys, .n_keys = 2, .if_match = PST_STR("e")};
    pst_remove_result result = {.struct_size = sizeof(result), .status = status};
    struct mini_op op;

    mini_op_init(&f->mini, &op);
    assert_int_equal(
        mini_op_wait(&op, f->mini.plugin->ops->remove(f->mini.store, &op.op, &args, &result)),
        PST_E_INVALID);
    mini_op_fini(&op);
}

static void test_container__is_made_once_and_deleted_when_empty(void **state)
{
    struct mini_fixture *f = *state;

    assert_int_equal(mini_container(&f->mini, PST_STR("a/b"), 1), PST_OK); /* and "a" with it */
    assert_int_equal(mini_container(&f->mini, PST_STR("a/b"), 1), PST_E_EXISTS);
    assert_int_equal(mini_container(&f->mini, PST_STR("a/b/"), 1), PST_E_EXISTS);
    assert_int_equal(mini_container(&f->mini, PST_STR("a/c/"), 1), PST_OK);
    assert_int_equal(mini_container(&f->mini, PST_STR("a//c"), 1), PST_E_INVALID);
    assert_int_equal(mini_container(&f->mini, PST_STR("a/c//"), 1), PST_E_INVALID);
    assert_int_equal(mini_container(&f->mini, PST_STR("/"), 1), PST_E_INVALID);
    assert_int_equal(mini_container(&f->mini, PST_STR("../x"), 1), PST_E_INVALID);
    assert_int_equal(mini_container(&f->mini, none, 1), PST_E_EXISTS);
    put_text(f, "o", "1");
    assert_int_equal(mini_container(&f->mini, PST_STR("o"), 1), PST_E_EXISTS);
    assert_int_equal(mini_container(&f->mini, PST_STR("o/x"), 1), PST_E_INVALID);
    assert_int_equal(mini_container(&f->mini, PST_STR("a"), 0), PST_E_PRECONDITION);
    assert_non_null(strstr(f->mini.err.message, "is not empty"));
    assert_int_equal(mini_container(&f->mini, PST_STR("a/b/"), 0), PST_OK);
    assert_int_equal(mini_container(&f->mini, PST_STR("a/b"), 0), PST_E_NOT_FOUND);
    assert_int_equal(mini_container(&f->mini, PST_STR("o"), 0), PST_E_NOT_FOUND);
    assert_int_equal(mini_container(&f->mini, none, 0), PST_E_INVALID);
    assert_file(f, "o", "1");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, mini_setup, mini_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_copy__keeps_or_replaces_the_attributes),
        TEST(test_copy__big_and_sparse_files_are_whole),
        TEST(test_copy__from_another_file_system_goes_through_memory),
        TEST(test_move__to_another_file_system_leaves_the_etag_of_the_source),
        TEST(test_move__moves_replaces_and_makes_directories),
        TEST(test_move__failed_rename_removes_the_directories_it_made),
        TEST(test_move__two_names_of_one_file_are_not_lost),
        TEST(test_copy_and_move__directories_are_invalid),
        TEST(test_move__opposite_directions_side_by_side_do_not_hang),
        TEST(test_remove__exactly_the_key_and_missing_is_ok),
        TEST(test_remove__many_keys_have_a_status_each),
        TEST(test_remove__condition_needs_exactly_one_key),
        TEST(test_container__is_made_once_and_deleted_when_empty),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
