/* Symbolic links: followed inside the root, by option anywhere or nowhere, with and without openat2. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "mini_host.h"

static const pst_str none = {NULL, 0};

static void make_link(const char *dir, const char *target, const char *name)
{
    char *path = mini_path(dir, name);

    assert_int_equal(symlink(target, path), 0);
    free(path);
}

/* Without openat2 (kernels before 5.6, valgrind) no link is followed: see the last test. */
static void need_openat2(struct mini_fixture *f)
{
    pst_limits limits = {.struct_size = sizeof(limits)};
    pst_backend_info info = {.struct_size = sizeof(info), .limits = &limits};

    f->mini.plugin->ops->info(f->mini.store, &info);
    if (info.note[0] != '\0')
        skip();
}

/* A root with an object, links that stay inside, and links that leave it. */
static void build(struct mini_fixture *f)
{
    char *path = mini_path(f->dir, "real");

    assert_int_equal(mkdir(path, 0777), 0);
    free(path);
    mini_write_file(f->dir, "real/object", "inside");
    make_link(f->dir, "real/object", "to-object");
    make_link(f->dir, "real", "to-dir");
    make_link(f->dir, "../to-object", "real/up"); /* up, but still inside */
    make_link(f->dir, "/etc/passwd", "absolute");
    make_link(f->dir, "../../../../../../../../etc/passwd", "climbing");
    make_link(f->dir, "/etc", "etc");
    make_link(f->dir, "nowhere", "dangling");
    make_link(f->dir, "loop", "loop");
    make_link(f->dir, "..", "real/parent"); /* a circle of directories */
}

static pst_rc try_read(struct mini_fixture *f, const char *key)
{
    return mini_read(&f->mini, mini_str(key), 0, 1, 0, none, NULL, NULL, NULL);
}

static void check_inside(struct mini_fixture *f)
{
    static const char *const out[] = {"absolute", "climbing", "etc/passwd"};

    assert_int_equal(try_read(f, "to-object"), PST_OK);
    assert_int_equal(try_read(f, "to-dir/object"), PST_OK);
    assert_int_equal(try_read(f, "real/up"), PST_OK);
    for (size_t i = 0; i < sizeof(out) / sizeof(out[0]); i++) {
        assert_int_equal(try_read(f, out[i]), PST_E_DENIED);
        assert_non_null(strstr(f->mini.err.message, "leads out of the root"));
        assert_int_equal(mini_etag(&f->mini, mini_str(out[i]), NULL), PST_E_DENIED);
        assert_int_equal(
            mini_copy(&f->mini, mini_str(out[i]), PST_STR("stolen"), 0, none, none, NULL),
            PST_E_DENIED);
    }
    assert_int_equal(mini_put(&f->mini, PST_STR("etc/penstock"), "x", 1, 0, none, NULL, NULL),
                     PST_E_DENIED);
    assert_int_equal(mini_put(&f->mini, PST_STR("etc/a/b"), "x", 1, 0, none, NULL, NULL),
                     PST_E_DENIED);
    assert_int_equal(mini_remove(&f->mini, PST_STR("etc/passwd"), none), PST_E_DENIED);
    assert_int_equal(mini_container(&f->mini, PST_STR("etc/penstock"), 1), PST_E_DENIED);
    assert_int_equal(try_read(f, "dangling"), PST_E_NOT_FOUND);
    assert_int_equal(try_read(f, "loop"), PST_E_DENIED);
}

static void test_links__inside_the_root_are_followed_and_out_of_it_denied(void **state)
{
    struct mini_fixture *f = *state;

    need_openat2(f);
    build(f);
    check_inside(f);
}

static void list_keys(struct mini_fixture *f, const char *prefix, uint32_t flags,
                      const char *expected)
{
    struct mini_list list;
    char text[1024];
    size_t n = 0;

    assert_int_equal(mini_list(&f->mini, mini_str(prefix), none, flags, 0, &list), PST_OK);
    for (size_t i = 0; i < list.n; i++) {
        assert_true(n + list.entries[i].key.len + 2 < sizeof(text));
        memcpy(text + n, list.entries[i].key.ptr, list.entries[i].key.len);
        n += list.entries[i].key.len;
        text[n++] = ' ';
    }
    text[n] = '\0';
    assert_string_equal(text, expected);
    mini_list_free(&list);
}

static void test_links__listing_shows_what_a_read_would_follow(void **state)
{
    struct mini_fixture *f = *state;

    need_openat2(f);
    build(f);
    list_keys(f, "", PST_LIST_RECURSIVE, "real/object real/up to-object ");
    list_keys(f, "", 0, "real/ to-dir/ to-object ");
    list_keys(f, "to-dir/", PST_LIST_RECURSIVE, "to-dir/object to-dir/up ");
    list_keys(f, "etc-", 0, "");
    struct mini_list list;
    assert_int_equal(mini_list(&f->mini, PST_STR("etc/"), none, 0, 0, &list), PST_E_DENIED);
    mini_list_free(&list);
}

static int setup_follow(void **state)
{
    return mini_setup_with(state, "symlinks=follow");
}

static void test_links__follow_goes_anywhere_and_circles_end(void **state)
{
    struct mini_fixture *f = *state;

    build(f);
    assert_int_equal(try_read(f, "absolute"), PST_OK);
    assert_int_equal(try_read(f, "climbing"), PST_OK);
    char *path = mini_path(f->dir, "etc");
    assert_int_equal(unlink(path), 0);
    free(path);
    list_keys(f, "", PST_LIST_RECURSIVE,
              "absolute climbing real/object real/up to-dir/object to-dir/up to-object ");
    list_keys(f, "real/", PST_LIST_RECURSIVE,
              "real/object real/parent/absolute real/parent/climbing "
              "real/parent/to-object real/up ");
}

static int setup_refuse(void **state)
{
    return mini_setup_with(state, "symlinks=refuse");
}

static void check_refuse(struct mini_fixture *f)
{
    static const char *const links[] = {"to-object", "to-dir/object", "real/up", "absolute",
                                        "loop"};

    for (size_t i = 0; i < sizeof(links) / sizeof(links[0]); i++) {
        assert_int_equal(try_read(f, links[i]), PST_E_DENIED);
        assert_non_null(strstr(f->mini.err.message, "symbolic link"));
        assert_int_equal(mini_etag(&f->mini, mini_str(links[i]), NULL), PST_E_DENIED);
        assert_int_equal(mini_put(&f->mini, mini_str(links[i]), "x", 1, 0, none, NULL, NULL),
                         PST_E_DENIED);
    }
    assert_int_equal(try_read(f, "real/object"), PST_OK);
    assert_int_equal(mini_put(&f->mini, PST_STR("real/new/object"), "x", 1, 0, none, NULL, NULL),
                     PST_OK);
    assert_int_equal(mini_remove(&f->mini, PST_STR("real/new/object"), none), PST_OK);
    list_keys(f, "", PST_LIST_RECURSIVE, "real/object ");
    list_keys(f, "", 0, "real/ ");
}

static void test_links__refuse_follows_none(void **state)
{
    struct mini_fixture *f = *state;

    build(f);
    check_refuse(f);
}

static void test_links__put_replaces_the_link_and_not_what_it_leads_to(void **state)
{
    struct mini_fixture *f = *state;
    struct stat st;
    char *text;

    need_openat2(f);
    char *path = mini_path(f->dir, "to-object");
    build(f);
    assert_int_equal(mini_put(&f->mini, PST_STR("to-object"), "new", 3, 0, none, NULL, NULL),
                     PST_OK);
    assert_int_equal(lstat(path, &st), 0);
    assert_true(S_ISREG(st.st_mode));
    text = mini_read_file(f->dir, "real/object");
    assert_string_equal(text, "inside");
    free(text);
    assert_int_equal(mini_put(&f->mini, PST_STR("to-dir/below"), "new", 3, 0, none, NULL, NULL),
                     PST_OK);
    text = mini_read_file(f->dir, "real/below");
    assert_string_equal(text, "new");
    free(text);
    free(path);
}

static void test_links__remove_takes_the_link_and_not_what_it_leads_to(void **state)
{
    struct mini_fixture *f = *state;

    need_openat2(f);
    build(f);
    assert_int_equal(mini_remove(&f->mini, PST_STR("to-object"), none), PST_OK);
    assert_int_equal(try_read(f, "to-object"), PST_E_NOT_FOUND);
    assert_int_equal(try_read(f, "real/object"), PST_OK);
    assert_int_equal(mini_remove(&f->mini, PST_STR("dangling"), none), PST_OK);
    assert_int_equal(mini_remove(&f->mini, PST_STR("to-dir"), none), PST_E_INVALID);
    assert_int_equal(mini_container(&f->mini, PST_STR("to-dir"), 0), PST_E_NOT_FOUND);
    assert_int_equal(try_read(f, "to-dir/object"), PST_OK);
}

static void test_links__rename_of_a_link_is_left_to_copy_and_delete(void **state)
{
    struct mini_fixture *f = *state;

    need_openat2(f);
    build(f);
    assert_int_equal(mini_rename(&f->mini, PST_STR("to-object"), PST_STR("moved"), 0, none),
                     PST_E_UNIMPLEMENTED);
    /* Onto a link that leads to the source: nothing may be lost. */
    assert_int_equal(mini_rename(&f->mini, PST_STR("real/object"), PST_STR("to-object"), 0, none),
                     PST_OK);
    char *text = mini_read_file(f->dir, "to-object");
    assert_string_equal(text, "inside");
    free(text);
    /* One directory entry by two keys: renaming it to itself leaves it, and never asks the host to
     * copy and delete it, which would lose it. A second name of the file changes nothing. */
    assert_int_equal(mini_put(&f->mini, PST_STR("real/x"), "x", 1, 0, none, NULL, NULL), PST_OK);
    assert_int_equal(mini_rename(&f->mini, PST_STR("real/x"), PST_STR("to-dir/x"), 0, none),
                     PST_OK);
    char *one = mini_path(f->dir, "real/x"), *two = mini_path(f->dir, "real/y");
    assert_int_equal(link(one, two), 0);
    assert_int_equal(mini_rename(&f->mini, PST_STR("real/x"), PST_STR("to-dir/x"), 0, none),
                     PST_OK);
    assert_int_equal(try_read(f, "real/x"), PST_OK);
    free(one);
    free(two);
}

/* ---- a kernel without openat2 ---------------------------------------------------------------------- */

static int run_without_openat2(void *arg)
{
    const struct mini_fixture *f = arg;
    struct mini_fixture other = {.dir = f->dir};
    char root[256];
    const char *const options[] = {root, NULL};
    pst_limits limits = {.struct_size = sizeof(limits)};
    pst_backend_info info = {.struct_size = sizeof(info), .limits = &limits};

    snprintf(root, sizeof(root), "root=%s", f->dir);
    if (mini_forbid(SYS_openat2, ENOSYS) != 0 || mini_open(&other.mini, options) != PST_OK)
        return 1;
    other.mini.plugin->ops->info(other.mini.store, &info);
    if (!strstr(info.note, "symbolic links are refused"))
        return 2;
    check_refuse(&other);
    assert_int_equal(mini_remove(&other.mini, PST_STR("dangling"), none), PST_E_DENIED);
    mini_close(&other.mini);
    return 0;
}

static void test_links__without_openat2_none_is_followed(void **state)
{
    struct mini_fixture *f = *state;

    build(f);
    assert_int_equal(mini_run_child(run_without_openat2, f, 0), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, mini_setup, mini_teardown)
#define TEST_WITH(name, setup) cmocka_unit_test_setup_teardown(name, setup, mini_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_links__inside_the_root_are_followed_and_out_of_it_denied),
        TEST(test_links__listing_shows_what_a_read_would_follow),
        TEST_WITH(test_links__follow_goes_anywhere_and_circles_end, setup_follow),
        TEST_WITH(test_links__refuse_follows_none, setup_refuse),
        TEST(test_links__put_replaces_the_link_and_not_what_it_leads_to),
        TEST(test_links__remove_takes_the_link_and_not_what_it_leads_to),
        TEST(test_links__rename_of_a_link_is_left_to_copy_and_delete),
        TEST(test_links__without_openat2_none_is_followed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
