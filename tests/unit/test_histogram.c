/* test_histogram.c - the latency histogram of `penstock bench`. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../../cli/bench/histogram.h"

static int setup(void **state)
{
    *state = calloc(2, sizeof(struct histogram));
    return *state ? 0 : -1;
}

static int teardown(void **state)
{
    free(*state);
    return 0;
}

static void test_histogram__empty_one_answers_zero(void **state)
{
    const struct histogram *h = *state;
    assert_int_equal(histogram_percentile(h, 50000), 0);
    assert_int_equal(histogram_percentile(h, 100000), 0);
    assert_true(histogram_mean(h) == 0);
}

static void test_histogram__small_values_are_exact(void **state)
{
    struct histogram *h = *state;
    for (uint64_t i = 1; i <= 100; i++)
        histogram_add(h, i);
    assert_int_equal(histogram_percentile(h, 50000), 50);
    assert_int_equal(histogram_percentile(h, 90000), 90);
    assert_int_equal(histogram_percentile(h, 99000), 99);
    assert_int_equal(histogram_percentile(h, 99900), 100);
    assert_int_equal(histogram_percentile(h, 100000), 100);
    assert_int_equal(h->min, 1);
    assert_int_equal(h->max, 100);
    assert_true(histogram_mean(h) == 50.5);
}

static void test_histogram__percentile_is_never_below_the_truth_nor_one_percent_above(void **state)
{
    struct histogram *h = *state;
    uint64_t value = 1;

    for (uint32_t i = 0; i < 2000; i++) {
        memset(h, 0, sizeof(*h));
        value = value * 6364136223846793005u + 1442695040888963407u;
        uint64_t truth = value >> (i % 64);
        histogram_add(h, truth);
        histogram_add(h, UINT64_MAX); /* so that the maximum does not help */
        uint64_t said = histogram_percentile(h, 50000);
        assert_true(said >= truth);
        assert_true(said - truth <= truth / 100);
    }
}

static void test_histogram__edges_of_buckets_lie_where_they_should(void **state)
{
    static const uint64_t values[] = {0,         127, 128, 129, 255, 256, 257, 258, UINT64_MAX - 1,
                                      UINT64_MAX};
    struct histogram *h = *state;

    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        memset(h, 0, sizeof(*h));
        histogram_add(h, values[i]);
        assert_true(histogram_percentile(h, 50000) == values[i]);
        histogram_add(h, UINT64_MAX);
        uint64_t top = values[i] < 256 || values[i] >= UINT64_MAX - 1 ? values[i] : values[i] | 1;
        if (values[i] == UINT64_MAX - 1)
            top = UINT64_MAX;
        assert_true(histogram_percentile(h, 50000) == top);
    }
}

static void test_histogram__merge_is_as_if_all_came_to_one(void **state)
{
    struct histogram *a = *state, *b = a + 1;
    struct histogram *both = calloc(1, sizeof(*both));

    assert_non_null(both);
    for (uint64_t i = 0; i < 1000; i++) {
        histogram_add(i % 3 ? a : b, i * i);
        histogram_add(both, i * i);
    }
    histogram_merge(a, b);
    assert_memory_equal(a, both, sizeof(*both));
    memset(b, 0, sizeof(*b));
    histogram_merge(a, b); /* of nothing */
    assert_memory_equal(a, both, sizeof(*both));
    free(both);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_histogram__empty_one_answers_zero, setup, teardown),
        cmocka_unit_test_setup_teardown(test_histogram__small_values_are_exact, setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_histogram__percentile_is_never_below_the_truth_nor_one_percent_above, setup,
            teardown),
        cmocka_unit_test_setup_teardown(test_histogram__edges_of_buckets_lie_where_they_should,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_histogram__merge_is_as_if_all_came_to_one, setup,
                                        teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
