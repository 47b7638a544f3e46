/* Keys are bytes and exact: what a file system cannot hold is refused before any I/O. */
#include <setjmp.h>
#include <stdarg.h>
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

static void assert_refused(struct mini_fixture *f, pst_str key)
{
    pst_upload *upload;

    assert_int_equal(mini_put(&f->mini, key, "x", 1, 0, none, NULL, NULL), PST_E_INVALID);
    assert_int_equal(mini_upload_open(&f->mini, key, 0, none, &upload), PST_E_INVALID);
    assert_int_equal(mini_read(&f->mini, key, 0, 10, 0, none, NULL, NULL, NULL), PST_E_INVALID);
    assert_int_equal(mini_etag(&f->mini, key, NULL), PST_E_INVALID);
    assert_int_equal(mini_remove(&f->mini, key, none), PST_E_INVALID);
    assert_int_equal(mini_copy(&f->mini, PST_STR("from"), key, 0, none, none, NULL), PST_E_INVALID);
    assert_int_equal(mini_rename(&f->mini, PST_STR("from"), key, 0, none), PST_E_INVALID);
}

static void test_key__what_no_file_can_be_called_is_refused(void **state)
{
    struct mini_fixture *f = *state;
    static const char *const bad[] = {"",       "/",   "/a",    "a/",       "a//b", ".",
                                      "..",     "./a", "a/.",   "a/./b",    "../a", "a/..",
                                      "a/../b", "//a", "a/b//", "a/../../b"};
    char *long_name = malloc(257), *long_key = malloc(4002);

    put_text(f, "from", "1");
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_refused(f, mini_str(bad[i]));
    assert_refused(f, pst_str_of("a\0b", 3));
    memset(long_name, 'n', 256);
    assert_refused(f, pst_str_of(long_name, 256));
    assert_non_null(
        strstr(f->mini.err.message, "at most 255 bytes")); /* our words, not the kernel's */
    for (size_t i = 0; i < 4001; i++)
        long_key[i] = i % 200 == 199 ? '/' : 'k';
    assert_refused(f, pst_str_of(long_key, 4001));
    assert_int_equal(mini_count_names(f->dir), 1); /* nothing but "from" came to be */
    free(long_name);
    free(long_key);
}

static void test_key__names_of_our_own_files_are_refused(void **state)
{
    struct mini_fixture *f = *state;

    put_text(f, "from", "1");
    assert_refused(f, PST_STR(".penstock-lock"));
    assert_refused(f, PST_STR("a/.penstock-lock/b"));
    assert_refused(f, PST_STR(".penstock-tmp-0123456789abcdef-17-fedcba9876543210"));
    put_text(f, ".penstock-tmp-mine", "a name that only looks similar is a key like any other");
    put_text(f, ".penstock-tmp-0123456789abcdef-17-fedcba987654321g", "so is this");
}

static void test_key__odd_bytes_are_kept_exactly(void **state)
{
    struct mini_fixture *f = *state;
    static const char *const keys[] = {
        "a b",      "100%",     "%2e%2e",      "a#b?c=d&e+f", "new\nline", "back\\slash",
        "\xc3\xa4", "\xff\xfe", "e\xcc\x81",   "\xc3\xa9",    "Case",      "case",
        "...",      ". .",      " lead",       "trail ",      "~",         "-rf",
        "a:b",      "*",        "tab\there/x", "\x01",        "COM1",      "a|b\"<>"};
    const size_t n = sizeof(keys) / sizeof(keys[0]);

    for (size_t i = 0; i < n; i++)
        put_text(f, keys[i], keys[i]);
    for (size_t i = 0; i < n; i++) {
        char *text;
        assert_int_equal(mini_read(&f->mini, mini_str(keys[i]), 0, 100, 0, none, &text, NULL, NULL),
                         PST_OK);
        assert_string_equal(text, keys[i]);
        free(text);
        text = mini_read_file(f->dir, keys[i]); /* and the file is called so, byte for byte */
        assert_non_null(text);
        assert_string_equal(text, keys[i]);
        free(text);
    }
    assert_int_equal(mini_count_names(f->dir), n);
}

static void test_key__longest_component_and_longest_key_work(void **state)
{
    struct mini_fixture *f = *state;
    char *key = malloc(4001), *text;
    pst_upload *upload;

    memset(key, 'n', 255);
    key[255] = '\0';
    put_text(f, key, "long name");
    assert_int_equal(mini_upload_open(&f->mini, mini_str(key), 0, none, &upload), PST_OK);
    assert_int_equal(mini_part(&f->mini, upload, 0, 0, "longer", 6), PST_OK);
    assert_int_equal(mini_commit(&f->mini, upload, 6, 1, NULL), PST_OK);
    mini_upload_free(&f->mini, upload);

    for (size_t i = 0; i < 4000; i++)
        key[i] = i % 200 == 199 ? '/' : 'k';
    key[3999] = 'k';
    assert_int_equal(mini_put(&f->mini, pst_str_of(key, 4000), "deep", 4, 0, none, NULL, NULL),
                     PST_OK);
    assert_int_equal(mini_read(&f->mini, pst_str_of(key, 4000), 0, 10, 0, none, &text, NULL, NULL),
                     PST_OK);
    assert_string_equal(text, "deep");
    free(text);

    struct mini_list list;
    assert_int_equal(mini_list(&f->mini, none, none, PST_LIST_RECURSIVE, 0, &list), PST_OK);
    assert_int_equal(list.n, 2);
    assert_int_equal(list.entries[0].key.len, 4000);
    assert_memory_equal(list.entries[0].key.ptr, key, 4000);
    mini_list_free(&list);
    assert_int_equal(mini_remove(&f->mini, pst_str_of(key, 4000), none), PST_OK);
    free(key);
}

static void test_key__object_and_directory_at_once_is_refused(void **state)
{
    struct mini_fixture *f = *state;
    pst_upload *upload;

    put_text(f, "dir/object", "1");
    assert_int_equal(mini_put(&f->mini, PST_STR("dir"), "x", 1, 0, none, NULL, NULL),
                     PST_E_INVALID);
    assert_non_null(strstr(f->mini.err.message, "is a directory"));
    assert_int_equal(mini_upload_open(&f->mini, PST_STR("dir"), 0, none, &upload), PST_E_INVALID);
    assert_int_equal(mini_put(&f->mini, PST_STR("dir/object/below"), "x", 1, 0, none, NULL, NULL),
                     PST_E_INVALID);
    assert_non_null(strstr(f->mini.err.message, "cannot be a directory too"));
    assert_int_equal(
        mini_put(&f->mini, PST_STR("dir/object/far/below"), "x", 1, 0, none, NULL, NULL),
        PST_E_INVALID);
    assert_int_equal(
        mini_read(&f->mini, PST_STR("dir/object/below"), 0, 1, 0, none, NULL, NULL, NULL),
        PST_E_NOT_FOUND);
    assert_int_equal(mini_etag(&f->mini, PST_STR("dir/object/below"), NULL), PST_E_NOT_FOUND);
    char *text = mini_read_file(f->dir, "dir/object");
    assert_string_equal(text, "1");
    free(text);
}

static void test_key__error_shows_it_on_one_line(void **state)
{
    struct mini_fixture *f = *state;

    assert_int_equal(
        mini_read(&f->mini, PST_STR("a\nb\\c\x01\xff\xc3\xa4"), 0, 1, 0, none, NULL, NULL, NULL),
        PST_E_NOT_FOUND);
    assert_non_null(strstr(f->mini.err.message, "/a\\x0ab\\\\c\\x01\\xff\xc3\xa4: "));
    assert_int_equal(f->mini.err.sys_errno, 2);
    assert_int_equal(f->mini.err.flags, 0);
}

static void test_store__root_must_be_an_absolute_directory(void **state)
{
    struct mini_fixture *f = *state;
    struct mini_host other;
    static const char *const relative[] = {"root=tmp", NULL};
    static const char *const missing[] = {"root=/no/such/directory", NULL};

    (void)f;
    assert_int_equal(mini_open(&other, relative), PST_E_INVALID);
    mini_close(&other);
    assert_int_equal(mini_open(&other, missing), PST_E_NOT_FOUND);
    assert_non_null(strstr(other.err.message, "/no/such/directory"));
    mini_close(&other);
}

static void test_store__authority_is_refused_with_advice(void **state)
{
    struct mini_fixture *f = *state;
    pst_error err = PST_ERROR_INIT;
    pst_backend *store = NULL;
    const pst_open_args args = {.struct_size = sizeof(args), .authority = PST_STR("tmp")};

    assert_int_equal(f->mini.plugin->store_open(&f->mini.host, &args, &store, &err), PST_E_INVALID);
    assert_null(store);
    assert_non_null(strstr(err.message, "three slashes"));
}

static void test_store__tells_what_it_can(void **state)
{
    struct mini_fixture *f = *state;
    pst_limits limits = {.struct_size = sizeof(limits)};
    pst_backend_info info = {.struct_size = sizeof(info), .limits = &limits};

    f->mini.plugin->ops->info(f->mini.store, &info);
    assert_int_equal(info.struct_size, sizeof(info));
    assert_int_equal(limits.struct_size, sizeof(limits));
    assert_int_equal(limits.key_max, 4000);
    assert_int_equal(info.caps & ~f->mini.plugin->caps, 0);
    assert_true(info.caps & PST_CAP_CANCEL_BOUNDED);
    assert_string_equal(info.endpoint, "");
    assert_non_null(info.note);
}

static void test_entry__a_host_of_another_major_is_refused(void **state)
{
    struct mini_fixture *f = *state;
    pst_host other = f->mini.host;
    const pst_plugin *plugin = NULL;
    pst_error err = PST_ERROR_INIT;

    other.abi_major = PST_ABI_MAJOR + 1;
    assert_int_equal(pst_plugin_open_1(&other, &plugin, &err), PST_E_BAD_PLUGIN);
    assert_null(plugin);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, mini_setup, mini_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_key__what_no_file_can_be_called_is_refused),
        TEST(test_key__names_of_our_own_files_are_refused),
        TEST(test_key__odd_bytes_are_kept_exactly),
        TEST(test_key__longest_component_and_longest_key_work),
        TEST(test_key__object_and_directory_at_once_is_refused),
        TEST(test_key__error_shows_it_on_one_line),
        TEST(test_store__root_must_be_an_absolute_directory),
        TEST(test_store__authority_is_refused_with_advice),
        TEST(test_store__tells_what_it_can),
        TEST(test_entry__a_host_of_another_major_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
