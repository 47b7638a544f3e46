/* The n-th allocation fails, for every n: each operation reports NO_MEMORY or does its work, leaks
 * nothing, and leaves the store as it was before or as it should be. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "mini_host.h"

static const pst_str none = {NULL, 0};

typedef pst_rc (*scenario)(struct mini_fixture *);

/* Repeat until nothing has failed. Returns how many allocations there were. */
static int torture(struct mini_fixture *f, scenario run)
{
    int n_fds = mini_count_names("/proc/self/fd");

    for (int n = 0; n < 10000; n++) {
        int64_t before = f->mini.n_blocks;
        f->mini.has_failed = 0;
        f->mini.fail_after = n;
        pst_rc rc = run(f);
        f->mini.fail_after = -1;
        assert_int_equal(f->mini.n_blocks, before);
        assert_int_equal(mini_count_names("/proc/self/fd"), n_fds);
        if (!f->mini.has_failed) {
            assert_int_equal(rc, PST_OK);
            return n;
        }
        if (rc != PST_OK)
            assert_int_equal(rc, PST_E_NO_MEMORY);
    }
    fail_msg("never ends");
    return 0;
}

static void assert_no_temps(struct mini_fixture *f)
{
    uint64_t n, n_bytes;

    assert_int_equal(mini_cleanup(&f->mini, none, 0, PST_CLEANUP_DRY_RUN, &n, &n_bytes), PST_OK);
    assert_int_equal(n, 0);
}

static pst_rc put_plain(struct mini_fixture *f)
{
    pst_rc rc = mini_put(&f->mini, PST_STR("d/o"), "bytes", 5, 0, none, NULL, NULL);
    char *text = mini_read_file(f->dir, "d/o");

    assert_true((rc == PST_OK) == (text != NULL)); /* an error means: not written */
    free(text);
    assert_int_equal(mini_count_names(f->dir), rc == PST_OK ? 1 : 0);
    if (rc == PST_OK) {
        f->mini.fail_after = -1;
        assert_int_equal(mini_remove(&f->mini, PST_STR("d/o"), none), PST_OK);
        assert_int_equal(mini_container(&f->mini, PST_STR("d"), 0), PST_OK);
    }
    return rc;
}

static void test_torture__put(void **state)
{
    assert_true(torture(*state, put_plain) > 0);
}

static pst_rc read_plain(struct mini_fixture *f)
{
    char *text;
    pst_rc rc = mini_read(&f->mini, PST_STR("o"), 0, 9, 0, none, &text, NULL, NULL);

    if (rc == PST_OK) {
        assert_string_equal(text, "bytes");
        free(text);
    }
    return rc;
}

static void put_with_everything(struct mini_fixture *f)
{
    const pst_kv kv[] = {{PST_STR("a"), PST_STR("1")}, {PST_STR("b"), PST_STR("2")}};
    const pst_attr attr = {.struct_size = sizeof(attr),
                           .content_type = PST_STR("text/plain"),
                           .cache_control = PST_STR("no-cache"),
                           .user_meta = kv,
                           .n_user_meta = 2};

    assert_int_equal(mini_put(&f->mini, PST_STR("o"), "bytes", 5, 0, none, &attr, NULL), PST_OK);
}

static void test_torture__read(void **state)
{
    struct mini_fixture *f = *state;

    put_with_everything(f);
    assert_true(torture(f, read_plain) > 0);
    f->mini.dst = MINI_DST_LATER;
    assert_true(torture(f, read_plain) > 0);
}

static pst_rc stat_all(struct mini_fixture *f)
{
    struct mini_op op;
    pst_attr attr;
    pst_rc rc = mini_stat(&f->mini, PST_STR("o"), &op, &attr);

    if (rc == PST_OK) {
        assert_int_equal(attr.n_user_meta, 2);
        assert_int_equal(attr.content_type.len, 10);
    }
    mini_op_fini(&op);
    return rc;
}

static void test_torture__stat(void **state)
{
    struct mini_fixture *f = *state;

    put_with_everything(f);
    assert_true(torture(f, stat_all) > 5);
}

static pst_rc stat_sum(struct mini_fixture *f)
{
    struct mini_op op;
    pst_attr attr;
    pst_rc rc = mini_stat(&f->mini, PST_STR("o"), &op, &attr);

    if (rc == PST_OK)
        assert_int_equal(attr.n_sums, 1); /* missing memory is no missing sum */
    mini_op_fini(&op);
    return rc;
}

static void test_torture__stat_with_a_sum(void **state)
{
    struct mini_fixture *f = *state;
    const pst_sum sum = {.algorithm = PST_SUM_CRC32C, .length = 4};

    assert_int_equal(mini_put_sum(&f->mini, PST_STR("o"), "x", 1, &sum), PST_OK);
    assert_true(torture(f, stat_sum) > 2);
}

static pst_rc copy_once(struct mini_fixture *f)
{
    pst_rc rc = mini_copy(&f->mini, PST_STR("o"), PST_STR("d/copy"), 0, none, none, NULL);
    char *text = mini_read_file(f->dir, "d/copy");

    if (f->mini.has_failed && rc != PST_OK)
        assert_true(text == NULL || strcmp(text, "bytes") == 0);
    free(text);
    f->mini.fail_after = -1;
    assert_int_equal(mini_remove(&f->mini, PST_STR("d/copy"), none), PST_OK);
    assert_no_temps(f);
    return rc;
}

static void test_torture__copy(void **state)
{
    struct mini_fixture *f = *state;

    put_with_everything(f);
    assert_true(torture(f, copy_once) > 5);
}

static pst_rc rename_there_and_back(struct mini_fixture *f)
{
    pst_rc rc = mini_rename(&f->mini, PST_STR("o"), PST_STR("d/o"), 0, none);

    f->mini.fail_after = -1;
    char *text = mini_read_file(f->dir, "d/o");
    if (text)
        assert_int_equal(mini_rename(&f->mini, PST_STR("d/o"), PST_STR("o"), 0, none), PST_OK);
    free(text);
    return rc;
}

static void test_torture__rename(void **state)
{
    struct mini_fixture *f = *state;

    put_with_everything(f);
    assert_true(torture(f, rename_there_and_back) > 0);
}

/* As a host: what failed for lack of memory is tried again. */
static pst_rc upload_with_retries(struct mini_fixture *f)
{
    pst_upload *upload;
    pst_rc rc = mini_upload_open(&f->mini, PST_STR("d/o"), 0, none, &upload);

    if (rc != PST_OK) {
        assert_int_equal(mini_count_names(f->dir), 0);
        return rc;
    }
    for (uint32_t i = 20; i-- > 0;) { /* backwards: the commit has to sort */
        rc = mini_part(&f->mini, upload, 19 - i, (uint64_t)i * 3, "abc", 3);
        if (rc != PST_OK)
            rc = mini_part(&f->mini, upload, 19 - i, (uint64_t)i * 3, "abc", 3);
        assert_int_equal(rc, PST_OK);
    }
    rc = mini_commit(&f->mini, upload, 60, 20, NULL);
    if (rc != PST_OK)
        rc = mini_commit(&f->mini, upload, 60, 20, NULL);
    mini_upload_free(&f->mini, upload);
    f->mini.fail_after = -1;
    assert_int_equal(rc, PST_OK);
    char *text = mini_read_file(f->dir, "d/o");
    assert_int_equal(strlen(text), 60);
    free(text);
    assert_int_equal(mini_remove(&f->mini, PST_STR("d/o"), none), PST_OK);
    assert_int_equal(mini_container(&f->mini, PST_STR("d"), 0), PST_OK);
    return rc;
}

static void test_torture__upload_with_retries(void **state)
{
    assert_true(torture(*state, upload_with_retries) > 3);
}

static pst_rc upload_that_gives_up(struct mini_fixture *f)
{
    pst_upload *upload;
    pst_rc rc = mini_upload_open(&f->mini, PST_STR("d/o"), 0, none, &upload);

    if (rc == PST_OK) {
        rc = mini_part(&f->mini, upload, 0, 0, "abc", 3);
        if (rc == PST_OK)
            rc = mini_commit(&f->mini, upload, 3, 1, NULL);
        mini_upload_free(&f->mini, upload);
    }
    f->mini.fail_after = -1;
    assert_int_equal(mini_count_names(f->dir), rc == PST_OK ? 1 : 0);
    if (rc == PST_OK) {
        assert_int_equal(mini_remove(&f->mini, PST_STR("d/o"), none), PST_OK);
        assert_int_equal(mini_container(&f->mini, PST_STR("d"), 0), PST_OK);
    }
    return rc;
}

static void test_torture__upload_that_gives_up(void **state)
{
    assert_true(torture(*state, upload_that_gives_up) > 2);
}

/* mini_list asks for a failed page again: the entries must be complete and each there once. */
static pst_rc list_with_retries(struct mini_fixture *f, uint32_t flags, uint32_t page)
{
    struct mini_list list;
    pst_rc rc = mini_list(&f->mini, none, none, flags, page, &list);

    if (rc == PST_OK) {
        assert_int_equal(list.n, 303);
        for (size_t i = 1; i < list.n && !(flags & PST_LIST_UNORDERED); i++) {
            pst_str a = list.entries[i - 1].key, b = list.entries[i].key;
            int order = memcmp(a.ptr, b.ptr, a.len < b.len ? a.len : b.len);
            assert_true(order < 0 || (order == 0 && a.len < b.len));
        }
    }
    mini_list_free(&list);
    return rc;
}

static pst_rc list_ordered(struct mini_fixture *f)
{
    return list_with_retries(f, PST_LIST_RECURSIVE | PST_LIST_EMPTY_DIRS, 100);
}

static pst_rc list_unordered(struct mini_fixture *f)
{
    return list_with_retries(f, PST_LIST_RECURSIVE | PST_LIST_UNORDERED | PST_LIST_EMPTY_DIRS, 7);
}

static void fill_tree(struct mini_fixture *f)
{
    char key[300];

    for (int i = 0; i < 300; i++) {
        snprintf(key, sizeof(key), "d%d/%03d%0200d", i % 3, i, 0);
        assert_int_equal(mini_put(&f->mini, mini_str(key), "x", 1, 0, none, NULL, NULL), PST_OK);
    }
    assert_int_equal(mini_container(&f->mini, PST_STR("empty/a"), 1), PST_OK);
    assert_int_equal(mini_container(&f->mini, PST_STR("empty/b"), 1), PST_OK);
    assert_int_equal(mini_container(&f->mini, PST_STR("last"), 1), PST_OK);
}

static void test_torture__list(void **state)
{
    struct mini_fixture *f = *state;

    fill_tree(f);
    assert_true(torture(f, list_ordered) > 10);
    assert_true(torture(f, list_unordered) > 10);
}

/* Little memory for names, so that runs are written and merged while allocations fail. */
static int setup_small(void **state)
{
    return mini_setup_with(state, "list_memory=8192");
}

static void test_torture__list_through_runs(void **state)
{
    struct mini_fixture *f = *state;

    fill_tree(f);
    assert_true(torture(f, list_ordered) > 20);
}

static pst_rc clean(struct mini_fixture *f)
{
    uint64_t n, n_bytes;

    mini_write_file(f->dir, ".penstock-tmp-0123456789abcdef-1-0000000000000001", "12345");
    pst_rc rc = mini_cleanup(&f->mini, none, 0, 0, &n, &n_bytes);
    if (rc == PST_OK)
        assert_int_equal(n, 1);
    return rc;
}

static void test_torture__cleanup(void **state)
{
    assert_true(torture(*state, clean) > 3);
}

static pst_rc open_store(struct mini_fixture *f)
{
    const pst_open_args args = {.struct_size = sizeof(args)};
    pst_backend *store = NULL;
    pst_error err = PST_ERROR_INIT;
    pst_rc rc = f->mini.plugin->store_open(&f->mini.host, &args, &store, &err);

    assert_true((rc == PST_OK) == (store != NULL));
    if (store)
        f->mini.plugin->ops->close(store);
    return rc;
}

static void test_torture__store_open(void **state)
{
    assert_true(torture(*state, open_store) > 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, mini_setup, mini_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_torture__put),
        TEST(test_torture__read),
        TEST(test_torture__stat),
        TEST(test_torture__stat_with_a_sum),
        TEST(test_torture__copy),
        TEST(test_torture__rename),
        TEST(test_torture__upload_with_retries),
        TEST(test_torture__upload_that_gives_up),
        TEST(test_torture__list),
        cmocka_unit_test_setup_teardown(test_torture__list_through_runs, setup_small,
                                        mini_teardown),
        TEST(test_torture__cleanup),
        TEST(test_torture__store_open),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
