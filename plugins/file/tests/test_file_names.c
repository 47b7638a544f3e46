/* A directory of a hundred thousand names: sorted in memory, and in runs when memory is scarce. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "test_file_names.h"

enum { N = 100000, NAME_BYTES = 24 };

struct big {
    char *dir, *tmpdir;
    char root[256], tmp[256];
};

static int make_big(void **state)
{
    struct big *big = calloc(1, sizeof(*big));

    if (!big)
        return -1;
    big->dir = mini_temp_dir();
    big->tmpdir = mini_temp_dir();
    snprintf(big->root, sizeof(big->root), "root=%s", big->dir);
    snprintf(big->tmp, sizeof(big->tmp), "tmpdir=%s", big->tmpdir);
    names_make(big->dir, "part-", N, NAME_BYTES);
    *state = big;
    return 0;
}

static int remove_big(void **state)
{
    struct big *big = *state;

    mini_remove_tree(big->dir);
    mini_remove_tree(big->tmpdir);
    free(big);
    return 0;
}

static void test_names__are_sorted_in_memory(void **state)
{
    const struct big *big = *state;
    const char *const options[] = {big->root, big->tmp, NULL};
    const struct names_result result = names_list(big->dir, options, 0);

    assert_int_equal(result.n_entries, N);
    assert_true(result.peak_kib < 32 << 10);
}

static void test_names__beyond_the_memory_are_merged_from_runs(void **state)
{
    const struct big *big = *state;
    const char *const options[] = {big->root, big->tmp, "list_memory=65536", NULL};
    const struct names_result result = names_list(big->dir, options, PST_LIST_RECURSIVE);

    assert_int_equal(result.n_entries, N);
    assert_true(result.peak_kib < 16 << 10);
    assert_int_equal(mini_count_names(big->tmpdir), 0); /* the file had no name */
}

static void test_names__unordered_streams_in_a_constant_space(void **state)
{
    const struct big *big = *state;
    const char *const options[] = {big->root, big->tmp, "list_memory=65536", NULL};
    const struct names_result result = names_list(big->dir, options, PST_LIST_UNORDERED);

    assert_int_equal(result.n_entries, N);
    assert_true(result.peak_kib < 16 << 10);
}

static void test_names__no_place_for_runs_is_an_error_that_names_it(void **state)
{
    const struct big *big = *state;
    const char *const options[] = {big->root, "tmpdir=/no/such/place", "list_memory=65536", NULL};
    struct mini_host mini;
    struct mini_list list;

    assert_int_equal(mini_open(&mini, options), PST_OK);
    assert_int_equal(mini_list(&mini, pst_str_of(NULL, 0), pst_str_of(NULL, 0), 0, 0, &list),
                     PST_E_IO);
    assert_non_null(strstr(mini.err.message, "/no/such/place"));
    assert_int_equal(mini.err.sys_errno, ENOENT);
    mini_list_free(&list);
    mini_close(&mini);
}

/* Names that differ late, are prefixes of each other, or repeat one byte: what quicksort dislikes. */
static void test_names__awkward_ones_are_sorted_too(void **state)
{
    struct mini_fixture *f;
    char name[256];

    (void)state;
    assert_int_equal(mini_setup_with((void **)&f, "list_memory=65536"), 0);
    memset(name, 'a', sizeof(name));
    for (size_t len = 1; len <= 255; len++) {
        name[len] = '\0';
        mini_write_file(f->dir, name, "");
        name[len] = 'a';
    }
    for (int c = 1; c < 256; c++) {
        if (c == '/' || c == '.')
            continue;
        memset(name, 'a', 200);
        name[200] = (char)c;
        name[201] = 'z';
        name[202] = '\0';
        mini_write_file(f->dir, name, "");
        snprintf(name, sizeof(name), "%c!", c);
        char *path = mini_path(f->dir, name);
        assert_int_equal(mkdir(path, 0777), 0);
        free(path);
        snprintf(name, sizeof(name), "%c!-", c); /* before "%c!/", though longer than "%c!" */
        mini_write_file(f->dir, name, "");
    }
    char root[256];
    snprintf(root, sizeof(root), "root=%s", f->dir);
    const char *const options[] = {root, "list_memory=65536", NULL};
    const struct names_result result = names_list(f->dir, options, 0);
    assert_int_equal(result.n_entries, 255 + 3 * 253);
    mini_teardown((void **)&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names__are_sorted_in_memory),
        cmocka_unit_test(test_names__beyond_the_memory_are_merged_from_runs),
        cmocka_unit_test(test_names__unordered_streams_in_a_constant_space),
        cmocka_unit_test(test_names__no_place_for_runs_is_an_error_that_names_it),
        cmocka_unit_test(test_names__awkward_ones_are_sorted_too),
    };

    return cmocka_run_group_tests(tests, make_big, remove_big);
}
