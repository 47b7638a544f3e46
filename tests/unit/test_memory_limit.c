/* What control groups allow: both versions, nested, unlimited, in a container. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/memory_limit.h"
#include "scratch.h"

static uint64_t limit_in(const char *dir, const char *groups)
{
    scratch_write(scratch_path(dir, "cgroup"), groups);
    return pst_cgroup_memory_limit_at(scratch_path(dir, "cgroup"), dir);
}

static void test_unified__the_tightest_on_the_way_up_counts(void **state)
{
    const char *dir = *state;
    scratch_mkdir(dir, "a");
    scratch_mkdir(dir, "a/b");
    scratch_mkdir(dir, "a/b/c");
    scratch_write(scratch_path(dir, "a/memory.max"), "max\n");
    scratch_write(scratch_path(dir, "a/b/memory.max"), "1073741824\n");
    scratch_write(scratch_path(dir, "a/b/c/memory.max"), "8589934592\n");
    assert_int_equal(limit_in(dir, "0::/a/b/c\n"), 1073741824);
    assert_int_equal(limit_in(dir, "0::/a\n"), UINT64_MAX);
    scratch_write(scratch_path(dir, "a/memory.high"), "536870912\n"); /* slows down from here on */
    assert_int_equal(limit_in(dir, "0::/a/b/c\n"), 536870912);
}

static void test_unified__max_and_nothing_at_all_are_no_limit(void **state)
{
    const char *dir = *state;
    assert_int_equal(limit_in(dir, "0::/\n"), UINT64_MAX);
    scratch_write(scratch_path(dir, "memory.max"), "max\n");
    assert_int_equal(limit_in(dir, "0::/\n"), UINT64_MAX);
    assert_int_equal(limit_in(dir, ""), UINT64_MAX);
    assert_int_equal(limit_in(dir, "nonsense\n0\n0:\n"), UINT64_MAX);
    assert_int_equal(pst_cgroup_memory_limit_at(scratch_path(dir, "absent"), dir), UINT64_MAX);
}

static void test_v1__group_of_the_memory_controller_and_those_above_it(void **state)
{
    const char *dir = *state;
    scratch_mkdir(dir, "memory");
    scratch_mkdir(dir, "memory/jobs");
    scratch_mkdir(dir, "memory/jobs/7");
    scratch_write(scratch_path(dir, "memory/memory.limit_in_bytes"), "9223372036854771712\n");
    scratch_write(scratch_path(dir, "memory/jobs/memory.limit_in_bytes"), "2147483648\n");
    scratch_write(scratch_path(dir, "memory/jobs/7/memory.limit_in_bytes"), "4294967296\n");
    assert_int_equal(limit_in(dir, "3:cpu,cpuacct:/\n2:hugetlb,memory:/jobs/7\n"), 2147483648);
    assert_int_equal(limit_in(dir, "2:memory:/other\n"), 9223372036854771712u);
    assert_int_equal(limit_in(dir, "2:memory2:/jobs/7\n"), UINT64_MAX);
}

/* /proc shows the host's path, the mount begins with the container's own group. */
static void test_container__root_of_the_mount_counts_where_the_path_is_unknown(void **state)
{
    const char *dir = *state;
    scratch_mkdir(dir, "memory");
    scratch_write(scratch_path(dir, "memory/memory.limit_in_bytes"), "268435456\n");
    assert_int_equal(limit_in(dir, "4:memory:/docker/0123456789abcdef\n0::/\n"), 268435456);
    scratch_write(scratch_path(dir, "memory.max"), "134217728\n");
    assert_int_equal(limit_in(dir, "0::/../../system.slice/x\n"), 134217728);
}

#define IN_SCRATCH(test) cmocka_unit_test_setup_teardown(test, scratch_setup, scratch_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_SCRATCH(test_unified__the_tightest_on_the_way_up_counts),
        IN_SCRATCH(test_unified__max_and_nothing_at_all_are_no_limit),
        IN_SCRATCH(test_v1__group_of_the_memory_controller_and_those_above_it),
        IN_SCRATCH(test_container__root_of_the_mount_counts_where_the_path_is_unknown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
