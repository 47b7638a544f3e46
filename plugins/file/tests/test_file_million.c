/* A million names in one directory list in key order within 128 MiB; so do names whose bytes alone are
 * more than the 64 MiB that are sorted in memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "test_file_names.h"

static void list_many(uint32_t n, size_t name_len)
{
    char *dir = mini_temp_dir(), root[256];
    const char *const options[] = {root, NULL};

    snprintf(root, sizeof(root), "root=%s", dir);
    names_make(dir, "shard-", n, name_len);
    const struct names_result result = names_list(dir, options, PST_LIST_RECURSIVE);
    mini_remove_tree(dir);
    print_message("%u names of %zu bytes: peak %ld KiB\n", n, name_len, result.peak_kib);
    assert_int_equal(result.n_entries, n);
    assert_true(result.peak_kib < 128 << 10);
}

static void test_million__names_are_listed_in_order_within_128_mib(void **state)
{
    (void)state;
    list_many(1000000, 20);
}

static void test_million__long_names_go_through_runs_within_128_mib(void **state)
{
    (void)state;
    list_many(300000, 250);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_million__names_are_listed_in_order_within_128_mib),
        cmocka_unit_test(test_million__long_names_go_through_runs_within_128_mib),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
