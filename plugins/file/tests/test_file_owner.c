/* Owner, group and mode of a file that is replaced, and of the lock file. Root alone can give files to
 * others: what needs it is skipped without. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "mini_host.h"

static const pst_str none = {NULL, 0};

static pst_rc put_text(struct mini_fixture *f, const char *key, const char *text)
{
    return mini_put(&f->mini, mini_str(key), text, strlen(text), 0, none, NULL, NULL);
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

static void test_put__replaced_file_keeps_its_owner_when_that_is_possible(void **state)
{
    struct mini_fixture *f = *state;
    char *path = mini_path(f->dir, "o");
    struct stat st;

    if (geteuid() != 0)
        skip(); /* only root gives files away */
    assert_int_equal(put_text(f, "o", "1"), PST_OK);
    assert_int_equal(chown(path, 1234, 4321), 0);
    assert_int_equal(put_text(f, "o", "2"), PST_OK);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_uid, 1234);
    assert_int_equal(st.st_gid, 4321);
    free(path);
}

static int replace_as_nobody(void *arg)
{
    return put_text(arg, "o", "mine") == PST_OK && mode_of(arg, "o") == 0604 ? 0 : 1;
}

static void test_put__group_rights_are_not_given_to_another_group(void **state)
{
    struct mini_fixture *f = *state;
    char *path = mini_path(f->dir, "o");

    if (geteuid() != 0)
        skip(); /* only root gives files away */
    assert_int_equal(put_text(f, "o", "1"), PST_OK);
    assert_int_equal(chown(path, 1234, 4321), 0);
    set_mode(f, "o", 0624); /* the group may write, others may read */
    assert_int_equal(chmod(f->dir, 0777), 0);
    /* nobody cannot keep the group 4321: its own group must not inherit the right to write. */
    assert_int_equal(mini_run_child(replace_as_nobody, f, 1), 0);
    free(path);
}

static int replace_if_match(void *arg)
{
    struct mini_fixture *f = arg;
    char etag[128];

    umask(077);
    if (put_text(f, "o", "1") != PST_OK || mini_etag(&f->mini, PST_STR("o"), etag) != PST_OK)
        return 1;
    return mini_put(&f->mini, PST_STR("o"), "2", 1, 0, mini_str(etag), NULL, NULL) == PST_OK ? 0
                                                                                             : 2;
}

static int write_and_remove(void *arg)
{
    struct mini_fixture *f = arg;

    if (put_text(f, "p", "1") != PST_OK)
        return 1;
    return mini_remove(&f->mini, PST_STR("p"), none) == PST_OK ? 0 : 2;
}

static void test_lock__file_is_open_to_who_may_write_the_directory(void **state)
{
    static const mode_t modes[] = {0700, 0770, 0755, 0777};
    struct mini_fixture *f = *state;
    char *lock = mini_path(f->dir, ".penstock-lock");

    for (int i = 0; i < 4; i++) {
        assert_int_equal(chmod(f->dir, modes[i]), 0);
        assert_int_equal(mini_run_child(replace_if_match, f, 0), 0);
        assert_int_equal(mode_of(f, ".penstock-lock"), modes[i] & 0666);
        assert_int_equal(unlink(lock), 0);
    }
    free(lock);
}

static void test_lock__private_umask_of_one_user_does_not_shut_out_another(void **state)
{
    struct mini_fixture *f = *state;
    char *lock = mini_path(f->dir, ".penstock-lock");

    if (geteuid() != 0)
        skip(); /* needs two users */
    assert_int_equal(chmod(f->dir, 0777), 0);
    assert_int_equal(mini_run_child(replace_if_match, f, 0), 0);
    assert_int_equal(mini_run_child(write_and_remove, f, 1), 0);
    /* A third user's directory: its owner is one of the others, and can lock by reading. */
    assert_int_equal(unlink(lock), 0);
    assert_int_equal(chown(f->dir, 1234, 65534), 0);
    assert_int_equal(chmod(f->dir, 0770), 0);
    assert_int_equal(mini_run_child(replace_if_match, f, 1), 0);
    assert_int_equal(mode_of(f, ".penstock-lock"), 0664);
    free(lock);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, mini_setup, mini_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_put__replaced_file_keeps_its_owner_when_that_is_possible),
        TEST(test_put__group_rights_are_not_given_to_another_group),
        TEST(test_lock__file_is_open_to_who_may_write_the_directory),
        TEST(test_lock__private_umask_of_one_user_does_not_shut_out_another),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
