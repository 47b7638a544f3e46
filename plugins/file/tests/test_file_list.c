/* Listings: key byte order, prefixes that are bytes, pages, and what is no object. */
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

static void put_key(struct mini_fixture *f, pst_str key)
{
    assert_int_equal(mini_put(&f->mini, key, "x", 1, 0, none, NULL, NULL), PST_OK);
}

static void put_all(struct mini_fixture *f, const char *const *keys)
{
    for (; *keys; keys++)
        put_key(f, mini_str(*keys));
}

static void make_dir(struct mini_fixture *f, const char *name)
{
    assert_int_equal(mini_container(&f->mini, mini_str(name), 1), PST_OK);
}

static int compare(pst_str a, pst_str b)
{
    int order = memcmp(a.ptr, b.ptr, a.len < b.len ? a.len : b.len);

    return order != 0 ? order : a.len < b.len ? -1 : a.len > b.len;
}

static void assert_ascending(const struct mini_list *list)
{
    for (size_t i = 1; i < list->n; i++)
        assert_true(compare(list->entries[i - 1].key, list->entries[i].key) < 0);
}

/* List and compare with the keys, separated by '|'; ordered listings must be ascending. */
static void assert_listed(struct mini_fixture *f, const char *prefix, const char *start_after,
                          uint32_t flags, uint32_t page, const char *expected)
{
    struct mini_list list;
    char text[4096];
    size_t n = 0;

    assert_int_equal(
        mini_list(&f->mini, mini_str(prefix), mini_str(start_after), flags, page, &list), PST_OK);
    if (!(flags & PST_LIST_UNORDERED))
        assert_ascending(&list);
    for (size_t i = 0; i < list.n; i++) {
        const pst_entry *entry = &list.entries[i];
        const int is_prefix = entry->key.ptr[entry->key.len - 1] == '/';
        assert_int_equal(entry->kind, is_prefix ? PST_KIND_PREFIX : PST_KIND_OBJECT);
        assert_true(n + entry->key.len + 2 < sizeof(text));
        memcpy(text + n, entry->key.ptr, entry->key.len);
        n += entry->key.len;
        text[n++] = '|';
    }
    text[n] = '\0';
    assert_string_equal(text, expected);
    mini_list_free(&list);
}

static const char *const tree[] = {"a-b",  "a/x", "a/y/z", "a0",   "a/y-", "b",
                                   "a/y0", "A/1", "c/d/e", "\xff", "c d",  NULL};

static void test_list__is_in_key_byte_order(void **state)
{
    struct mini_fixture *f = *state;

    put_all(f, tree);
    assert_listed(f, "", NULL, PST_LIST_RECURSIVE, 0,
                  "A/1|a-b|a/x|a/y-|a/y/z|a/y0|a0|b|c d|c/d/e|\xff|");
    assert_listed(f, "", NULL, 0, 0, "A/|a-b|a/|a0|b|c d|c/|\xff|");
}

static void test_list__every_page_size_gives_the_same(void **state)
{
    struct mini_fixture *f = *state;

    put_all(f, tree);
    for (uint32_t page = 1; page < 13; page++)
        assert_listed(f, "", NULL, PST_LIST_RECURSIVE, page,
                      "A/1|a-b|a/x|a/y-|a/y/z|a/y0|a0|b|c d|c/d/e|\xff|");
}

static void test_list__prefix_is_bytes(void **state)
{
    struct mini_fixture *f = *state;

    put_all(f, tree);
    assert_listed(f, "a", NULL, PST_LIST_RECURSIVE, 0, "a-b|a/x|a/y-|a/y/z|a/y0|a0|");
    assert_listed(f, "a/", NULL, PST_LIST_RECURSIVE, 0, "a/x|a/y-|a/y/z|a/y0|");
    assert_listed(f, "a/", NULL, 0, 0, "a/x|a/y-|a/y/|a/y0|");
    assert_listed(f, "a/y", NULL, 0, 0, "a/y-|a/y/|a/y0|");
    assert_listed(f, "a/y/", NULL, 0, 0, "a/y/z|");
    assert_listed(f, "a/y/z", NULL, 0, 0, "a/y/z|");
    assert_listed(f, "a/y/z/", NULL, 0, 0, "");
    assert_listed(f, "nothing", NULL, PST_LIST_RECURSIVE, 0, "");
    assert_listed(f, "no/such/dir/", NULL, PST_LIST_RECURSIVE, 0, "");
}

static void test_list__prefix_that_no_key_can_have_is_empty(void **state)
{
    struct mini_fixture *f = *state;
    static const char *const bad[] = {"/", "//", "../", "a//", "./", "a/../", "a/./x", NULL};
    struct mini_list list;

    put_all(f, tree);
    for (size_t i = 0; bad[i]; i++)
        assert_listed(f, bad[i], NULL, PST_LIST_RECURSIVE, 0, "");
    assert_int_equal(mini_list(&f->mini, pst_str_of("a\0/", 3), none, 0, 0, &list), PST_OK);
    assert_int_equal(list.n, 0);
    mini_list_free(&list);
    char *big = malloc(5000);
    memset(big, 'k', 5000);
    big[4999] = '/';
    assert_int_equal(mini_list(&f->mini, pst_str_of(big, 5000), none, 0, 0, &list), PST_OK);
    assert_int_equal(list.n, 0);
    mini_list_free(&list);
    free(big);
}

static void test_list__start_after_begins_anywhere(void **state)
{
    struct mini_fixture *f = *state;
    static const char *const sorted[] = {"A/1", "a-b", "a/x", "a/y-",  "a/y/z", "a/y0",
                                         "a0",  "b",   "c d", "c/d/e", "\xff"};

    put_all(f, tree);
    for (size_t i = 0; i < 11; i++) {
        struct mini_list list;
        assert_int_equal(
            mini_list(&f->mini, none, mini_str(sorted[i]), PST_LIST_RECURSIVE, 2, &list), PST_OK);
        assert_int_equal(list.n, 10 - i);
        for (size_t j = 0; j < list.n; j++)
            assert_int_equal(compare(list.entries[j].key, mini_str(sorted[i + 1 + j])), 0);
        mini_list_free(&list);
    }
    assert_listed(f, "", "a/", PST_LIST_RECURSIVE, 0, "a/x|a/y-|a/y/z|a/y0|a0|b|c d|c/d/e|\xff|");
    assert_listed(f, "", "a/y", PST_LIST_RECURSIVE, 0, "a/y-|a/y/z|a/y0|a0|b|c d|c/d/e|\xff|");
    assert_listed(f, "", "a/y/zz", PST_LIST_RECURSIVE, 0, "a/y0|a0|b|c d|c/d/e|\xff|");
    assert_listed(f, "", "a/", 0, 0, "a0|b|c d|c/|\xff|"); /* an entry is compared by its own key */
    assert_listed(f, "", "a", 0, 0, "a-b|a/|a0|b|c d|c/|\xff|");
    assert_listed(f, "a/", "a/y", 0, 0, "a/y-|a/y/|a/y0|");
    assert_listed(f, "a/", "b", PST_LIST_RECURSIVE, 0, "");
    assert_listed(f, "b", "a", PST_LIST_RECURSIVE, 0, "b|");
}

static void test_list__unordered_gives_the_same_set(void **state)
{
    struct mini_fixture *f = *state;

    put_all(f, tree);
    for (uint32_t page = 1; page < 13; page++) {
        struct mini_list list;
        assert_int_equal(
            mini_list(&f->mini, none, none, PST_LIST_RECURSIVE | PST_LIST_UNORDERED, page, &list),
            PST_OK);
        assert_int_equal(list.n, 11);
        for (size_t i = 0; tree[i]; i++) {
            size_t n_found = 0;
            for (size_t j = 0; j < list.n; j++)
                n_found += compare(list.entries[j].key, mini_str(tree[i])) == 0;
            assert_int_equal(n_found, 1);
        }
        mini_list_free(&list);
        assert_int_equal(mini_list(&f->mini, none, none, PST_LIST_UNORDERED, page, &list), PST_OK);
        assert_int_equal(list.n, 8);
        mini_list_free(&list);
    }
}

static void test_list__empty_directories_show_when_asked_for(void **state)
{
    struct mini_fixture *f = *state;
    char *path = mini_path(f->dir, "full-of-fifos/fifo");
    const uint32_t both = PST_LIST_RECURSIVE | PST_LIST_EMPTY_DIRS;

    make_dir(f, "empty");
    make_dir(f, "outer/inner");
    make_dir(f, "full-of-fifos");
    assert_int_equal(mkfifo(path, 0666), 0);
    put_key(f, PST_STR("some/o"));
    assert_listed(f, "", NULL, both, 0, "empty/|full-of-fifos/|outer/inner/|some/o|");
    assert_listed(f, "", NULL, both, 1, "empty/|full-of-fifos/|outer/inner/|some/o|");
    assert_listed(f, "", NULL, PST_LIST_RECURSIVE, 0, "some/o|");
    assert_listed(f, "", "empty/", both, 0, "full-of-fifos/|outer/inner/|some/o|");
    assert_listed(f, "", "some/o", both, 0, "");
    assert_listed(f, "outer/", NULL, both, 0, "outer/inner/|");
    assert_listed(f, "outer/inner/", NULL, both, 0, "outer/inner/|");
    assert_listed(f, "outer/inner/x", NULL, both, 0, "");
    assert_listed(f, "", NULL, 0, 0, "empty/|full-of-fifos/|outer/|some/|");
    free(path);
}

static void test_list__entry_has_what_stat_says(void **state)
{
    struct mini_fixture *f = *state;
    struct mini_list list;
    struct mini_op op;
    pst_attr attr;

    assert_int_equal(mini_put(&f->mini, PST_STR("d/o"), "12345", 5, 0, none, NULL, NULL), PST_OK);
    assert_int_equal(mini_list(&f->mini, none, none, PST_LIST_RECURSIVE, 0, &list), PST_OK);
    assert_int_equal(mini_stat(&f->mini, PST_STR("d/o"), &op, &attr), PST_OK);
    assert_int_equal(list.n, 1);
    assert_int_equal(list.entries[0].size, 5);
    assert_int_equal(list.entries[0].mtime_ns, attr.mtime_ns);
    assert_int_equal(list.entries[0].etag_strength, PST_ETAG_STRONG);
    assert_int_equal(compare(list.entries[0].etag, attr.etag), 0);
    assert_int_equal(list.entries[0].version.len, 0);
    mini_op_fini(&op);
    mini_list_free(&list);
    assert_int_equal(mini_list(&f->mini, none, none, 0, 0, &list), PST_OK);
    assert_int_equal(list.entries[0].etag.len, 0);
    assert_int_equal(list.entries[0].mtime_ns, PST_TIME_UNKNOWN);
    mini_list_free(&list);
}

static void test_list__odd_names_and_what_is_no_object(void **state)
{
    struct mini_fixture *f = *state;
    static const char *const keys[] = {"a\nb", "%", "a b", " ", "...", "\x01", "\xc3\xa4", NULL};
    char *path = mini_path(f->dir, "fifo");

    assert_int_equal(mkfifo(path, 0666), 0);
    free(path);
    mini_write_file(f->dir, ".penstock-lock", "");
    mini_write_file(f->dir, ".penstock-tmp-0123456789abcdef-1-0123456789abcdef", "dead");
    mini_write_file(f->dir, ".penstock-tmp-0123456789abcdef-1-0123456789abcde", "not ours");
    put_all(f, keys);
    assert_listed(
        f, "", NULL, PST_LIST_RECURSIVE, 0,
        "\x01| |%|...|.penstock-tmp-0123456789abcdef-1-0123456789abcde|a\nb|a b|\xc3\xa4|");
}

static void test_list__deep_trees_need_few_descriptors(void **state)
{
    struct mini_fixture *f = *state;
    char *key = malloc(4000);
    struct mini_list list;

    for (size_t i = 0; i < 3999; i++)
        key[i] = i % 2 ? '/' : 'd';
    put_key(f, pst_str_of(key, 3999)); /* 1,999 directories deep */
    key[1000] = 'x';
    key[1001] = 'o';
    put_key(f, pst_str_of(key, 1002));
    key[2001] = 'y'; /* beside a directory, on the way back up */
    key[1000] = 'd';
    key[1001] = '/';
    put_key(f, pst_str_of(key, 2002));
    int before = mini_count_names("/proc/self/fd");
    assert_int_equal(mini_list(&f->mini, none, none, PST_LIST_RECURSIVE, 1, &list), PST_OK);
    assert_int_equal(mini_count_names("/proc/self/fd"), before);
    assert_int_equal(list.n, 3);
    assert_ascending(&list);
    mini_list_free(&list);
    free(key);
}

static void test_list__cursor_holds_few_descriptors(void **state)
{
    struct mini_fixture *f = *state;
    char *key = malloc(1000);
    const pst_list_args args = {.struct_size = sizeof(args), .flags = PST_LIST_RECURSIVE};
    pst_cursor_result result = {.struct_size = sizeof(result)};
    const pst_page_args page = {.struct_size = sizeof(page), .max_entries = 1};
    pst_list_result got = {.struct_size = sizeof(got)};
    struct mini_op op;

    for (size_t i = 0; i < 999; i++)
        key[i] = i % 2 ? '/' : 'd';
    put_key(f, pst_str_of(key, 999));
    int before = mini_count_names("/proc/self/fd");
    mini_op_init(&f->mini, &op);
    assert_int_equal(
        mini_op_wait(&op, f->mini.plugin->ops->list_open(f->mini.store, &op.op, &args, &result)),
        PST_OK);
    mini_op_fini(&op);
    mini_op_init(&f->mini, &op);
    assert_int_equal(
        mini_op_wait(&op, f->mini.plugin->ops->list_page(result.cursor, &op.op, &page, &got)),
        PST_OK);
    assert_int_equal(op.n_entries, 1);
    mini_op_fini(&op);
    assert_true(mini_count_names("/proc/self/fd") - before < 20);
    f->mini.plugin->ops->list_close(result.cursor); /* in the middle */
    assert_int_equal(mini_count_names("/proc/self/fd"), before);
    free(key);
}

static int list_as_nobody(void *arg)
{
    struct mini_fixture *f = arg;
    struct mini_list list;
    pst_rc rc = mini_list(&f->mini, none, none, PST_LIST_RECURSIVE, 0, &list);

    mini_list_free(&list);
    return rc == PST_E_DENIED && strstr(f->mini.err.message, "closed") ? 0 : 1;
}

static void test_list__directory_that_may_not_be_read_is_an_error_that_names_it(void **state)
{
    struct mini_fixture *f = *state;
    char *path = mini_path(f->dir, "closed");

    put_key(f, PST_STR("closed/o"));
    put_key(f, PST_STR("open/o"));
    assert_int_equal(chmod(f->dir, 0755), 0);
    assert_int_equal(chmod(path, 0), 0);
    assert_int_equal(mini_run_child(list_as_nobody, f, 1), 0);
    assert_int_equal(chmod(path, 0700), 0);
    free(path);
}

static void test_list__page_that_failed_is_given_again_and_nothing_twice(void **state)
{
    struct mini_fixture *f = *state;
    const uint32_t orders[] = {PST_LIST_RECURSIVE, PST_LIST_RECURSIVE | PST_LIST_UNORDERED};

    put_all(f, tree);
    for (size_t i = 0; i < 2; i++) {
        for (uint32_t page = 1; page < 5; page++) {
            struct mini_list list;
            f->mini.fail_emits = 3; /* the host is out of memory three times */
            assert_int_equal(mini_list(&f->mini, none, none, orders[i], page, &list), PST_OK);
            assert_int_equal(f->mini.fail_emits, 0);
            assert_int_equal(list.n, 11);
            if (i == 0)
                assert_ascending(&list);
            mini_list_free(&list);
        }
    }
}

/* Directories come and go while they are listed. */
struct churn {
    struct mini_fixture *f;
    int is_done;
};

static void *churn(void *arg)
{
    struct churn *c = arg;

    while (!__atomic_load_n(&c->is_done, __ATOMIC_ACQUIRE)) {
        put_key(c->f, PST_STR("b/come/and/go"));
        assert_int_equal(mini_remove(&c->f->mini, PST_STR("b/come/and/go"), none), PST_OK);
        assert_int_equal(mini_container(&c->f->mini, PST_STR("b/come/and"), 0), PST_OK);
        assert_int_equal(mini_container(&c->f->mini, PST_STR("b/come"), 0), PST_OK);
    }
    return NULL;
}

static void test_list__what_stays_is_listed_once_while_others_come_and_go(void **state)
{
    struct mini_fixture *f = *state;
    struct churn c = {f, 0};
    pthread_t thread;

    put_key(f, PST_STR("a/x"));
    put_key(f, PST_STR("b/y"));
    put_key(f, PST_STR("c/z"));
    assert_int_equal(pthread_create(&thread, NULL, churn, &c), 0);
    for (int i = 0; i < 500; i++) {
        struct mini_list list;
        assert_int_equal(mini_list(&f->mini, none, none, PST_LIST_RECURSIVE, 1, &list), PST_OK);
        assert_in_range(list.n, 3, 4);
        assert_ascending(&list);
        assert_int_equal(compare(list.entries[0].key, PST_STR("a/x")), 0);
        assert_int_equal(compare(list.entries[list.n - 1].key, PST_STR("c/z")), 0);
        mini_list_free(&list);
    }
    __atomic_store_n(&c.is_done, 1, __ATOMIC_RELEASE);
    pthread_join(thread, NULL);
}

static void test_list__cancel_ends_a_page(void **state)
{
    struct mini_fixture *f = *state;
    const pst_list_args args = {.struct_size = sizeof(args), .flags = PST_LIST_RECURSIVE};
    pst_cursor_result result = {.struct_size = sizeof(result)};
    const pst_page_args page = {.struct_size = sizeof(page)};
    pst_list_result got = {.struct_size = sizeof(got)};
    struct mini_op op;

    put_all(f, tree);
    mini_op_init(&f->mini, &op);
    assert_int_equal(
        mini_op_wait(&op, f->mini.plugin->ops->list_open(f->mini.store, &op.op, &args, &result)),
        PST_OK);
    mini_op_fini(&op);
    mini_op_init(&f->mini, &op);
    f->mini.plugin->ops->cancel(f->mini.store, &op.op);
    assert_int_equal(
        mini_op_wait(&op, f->mini.plugin->ops->list_page(result.cursor, &op.op, &page, &got)),
        PST_E_CANCELLED);
    assert_int_equal(op.n_entries, 0);
    mini_op_fini(&op);
    f->mini.plugin->ops->list_close(result.cursor);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, mini_setup, mini_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_list__is_in_key_byte_order),
        TEST(test_list__every_page_size_gives_the_same),
        TEST(test_list__prefix_is_bytes),
        TEST(test_list__prefix_that_no_key_can_have_is_empty),
        TEST(test_list__start_after_begins_anywhere),
        TEST(test_list__unordered_gives_the_same_set),
        TEST(test_list__empty_directories_show_when_asked_for),
        TEST(test_list__entry_has_what_stat_says),
        TEST(test_list__odd_names_and_what_is_no_object),
        TEST(test_list__deep_trees_need_few_descriptors),
        TEST(test_list__cursor_holds_few_descriptors),
        TEST(test_list__directory_that_may_not_be_read_is_an_error_that_names_it),
        TEST(test_list__page_that_failed_is_given_again_and_nothing_twice),
        TEST(test_list__what_stays_is_listed_once_while_others_come_and_go),
        TEST(test_list__cancel_ends_a_page),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
