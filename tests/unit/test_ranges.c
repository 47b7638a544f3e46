/* pst_get_ranges against a store whose requests are counted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <pthread.h>

#include "readstore.h"
#include "torture.h"

#define KIB ((uint64_t)1 << 10)
#define MIB ((uint64_t)1 << 20)
#define SIZE (1000 * KIB + 7)
#define MANY 100

static const pst_str key = {"k", 1};

struct fixture {
    pst_context *context;
    pst_store *store;
    pst_get_result results[MANY];
    size_t n_requests;
    pst_error err;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    readstore_reset();
    rd.size = SIZE;
    f->err.struct_size = sizeof(f->err);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    pst_get_results_free(f->results, MANY);
    pst_store_free(f->store);
    pst_context_free(f->context);
    free(f);
    return 0;
}

static pst_rc get_with(struct fixture *f, const pst_range *ranges, size_t n,
                       const pst_ranges_options *options, const pst_call *call)
{
    if (!f->context) {
        f->context = readstore_context(16 * MIB);
        f->store = readstore_open(f->context);
    }
    pst_get_results_free(f->results, MANY);
    return pst_get_ranges(f->store, key, ranges, n, options, call, f->results, &f->n_requests,
                          &f->err);
}

static pst_rc get(struct fixture *f, const pst_range *ranges, size_t n)
{
    return get_with(f, ranges, n, NULL, NULL);
}

static void assert_gives(const struct fixture *f, size_t i, uint64_t offset, uint64_t length)
{
    const pst_get_result *result = &f->results[i];
    assert_int_equal(result->status, PST_OK);
    assert_null(result->error);
    assert_int_equal(pst_buffer_size(result->buffer), length);
    assert_true(read_is(pst_buffer_data(result->buffer), (size_t)length, 1, offset));
}

static void test_near_ranges__share_one_request_and_its_buffer(void **state)
{
    struct fixture *f = *state;
    const pst_range ranges[] = {{5000, 100}, {1000, 500}, {1000, 500}, {1200, 10}, {5100, 1}};
    assert_int_equal(get(f, ranges, 5), PST_OK);
    for (size_t i = 0; i < 5; i++) {
        assert_gives(f, i, ranges[i].offset, ranges[i].length);
        assert_int_equal(f->results[i].object_size, SIZE);
    }
    assert_int_equal(rd.n_reads, 1);
    assert_int_equal(f->n_requests, 1);
    assert_int_equal(rd.seen[0].offset, 1000);
    assert_int_equal(rd.seen[0].length, 4101);
    const char *first = pst_buffer_data(f->results[1].buffer);
    assert_ptr_equal(pst_buffer_data(f->results[2].buffer), first); /* views, no copies */
    assert_ptr_equal(pst_buffer_data(f->results[3].buffer), first + 200);
    assert_ptr_equal(pst_buffer_data(f->results[0].buffer), first + 4000);
}

static void test_views__outlive_each_other(void **state)
{
    struct fixture *f = *state;
    const pst_range ranges[] = {{0, 100}, {100, 100}};
    assert_int_equal(get(f, ranges, 2), PST_OK);
    pst_buffer_unref(f->results[0].buffer);
    f->results[0].buffer = NULL;
    assert_gives(f, 1, 100, 100);
}

static void test_far_ranges__have_requests_of_their_own_pinned_to_the_first(void **state)
{
    struct fixture *f = *state;
    const pst_ranges_options options = {.struct_size = sizeof(options), .max_in_flight = 1};
    pst_range ranges[8];
    for (size_t i = 0; i < 8; i++)
        ranges[i] = (pst_range){(7 - i) * 128 * KIB, 1000 + i};
    assert_int_equal(get_with(f, ranges, 8, &options, NULL), PST_OK);
    for (size_t i = 0; i < 8; i++)
        assert_gives(f, i, ranges[i].offset, ranges[i].length);
    assert_int_equal(rd.n_reads, 8);
    assert_int_equal(f->n_requests, 8);
    assert_int_equal(rd.n_max, 1);
    assert_int_equal(rd.seen[0].has_if_match, 0);
    for (size_t i = 1; i < 8; i++)
        assert_int_equal(rd.seen[i].has_if_match, 1);
}

static void test_requests_at_once__are_no_more_than_asked_for(void **state)
{
    struct fixture *f = *state;
    const pst_ranges_options options = {
        .struct_size = sizeof(options), .max_in_flight = 3, .merge_gap_bytes = PST_UNKNOWN};
    pst_range ranges[MANY];
    for (size_t i = 0; i < MANY; i++)
        ranges[i] = (pst_range){i * 10, 10};
    assert_int_equal(get_with(f, ranges, MANY, &options, NULL), PST_OK);
    for (size_t i = 0; i < MANY; i++)
        assert_gives(f, i, i * 10, 10);
    assert_int_equal(rd.n_reads, MANY);
    assert_in_range(rd.n_max, 1, 3);
}

static void test_edges__are_as_pread_has_them(void **state)
{
    struct fixture *f = *state;
    const pst_range ranges[] = {
        {0, 0},
        {SIZE - 5, 10},
        {SIZE, 10},
        {SIZE + 9, 1},
        {SIZE - 100, PST_UNKNOWN},
        {UINT64_MAX - 1, 10},
    };
    assert_int_equal(get(f, ranges, 6), PST_OK);
    assert_gives(f, 0, 0, 0);
    assert_gives(f, 1, SIZE - 5, 5);
    assert_gives(f, 2, SIZE, 0);
    assert_gives(f, 3, SIZE, 0);
    assert_gives(f, 4, SIZE - 100, 100);
    assert_gives(f, 5, SIZE, 0);
    assert_int_equal(get(f, ranges, 0), PST_OK);
    assert_int_equal(f->n_requests, 0);
    assert_int_equal(get(f, ranges, 1), PST_OK);
    assert_int_equal(f->n_requests, 0);
}

static void test_exact__fails_the_ranges_that_are_cut_and_no_other(void **state)
{
    struct fixture *f = *state;
    const pst_read_options read = {.struct_size = sizeof(read), .flags = PST_READ_EXACT};
    const pst_ranges_options options = {.struct_size = sizeof(options), .read = &read};
    const pst_range ranges[] = {{SIZE - 10, 10}, {SIZE - 10, 11}, {SIZE - 5, PST_UNKNOWN}};
    assert_int_equal(get_with(f, ranges, 3, &options, NULL), PST_E_RANGE);
    assert_gives(f, 0, SIZE - 10, 10);
    assert_int_equal(f->results[1].status, PST_E_RANGE);
    assert_null(f->results[1].buffer);
    assert_non_null(strstr(f->results[1].error->message, "the object has 1024007 bytes"));
    assert_gives(f, 2, SIZE - 5, 5);
    assert_non_null(strstr(f->err.message, "GET rd://box/k: range of 11 bytes"));
}

static void test_missing_object__fails_every_range(void **state)
{
    struct fixture *f = *state;
    const pst_range ranges[] = {{0, 10}, {500 * KIB, 10}};
    rd.is_missing = 1;
    assert_int_equal(get(f, ranges, 2), PST_E_NOT_FOUND);
    assert_int_equal(f->results[0].status, PST_E_NOT_FOUND);
    assert_int_equal(f->results[1].status, PST_E_NOT_FOUND);
    assert_non_null(strstr(f->err.message, "2 of 2 reads failed, first: GET rd://box/k: "));
}

static void test_one_failure__is_of_its_ranges_alone(void **state)
{
    struct fixture *f = *state;
    const pst_ranges_options options = {.struct_size = sizeof(options), .max_in_flight = 1};
    const pst_range ranges[] = {{0, 10}, {300 * KIB, 10}, {300 * KIB, 20}, {600 * KIB, 10}};
    rd.fail_at = 2;
    rd.fail_times = 1;
    rd.fail_rc = PST_E_DENIED;
    assert_int_equal(get_with(f, ranges, 4, &options, NULL), PST_E_DENIED);
    assert_gives(f, 0, 0, 10);
    assert_int_equal(f->results[1].status, PST_E_DENIED);
    assert_int_equal(f->results[2].status, PST_E_DENIED);
    assert_gives(f, 3, 600 * KIB, 10);
}

static void check_replaced(struct fixture *f)
{
    const pst_ranges_options options = {.struct_size = sizeof(options), .max_in_flight = 1};
    pst_range ranges[8];
    for (size_t i = 0; i < 8; i++)
        ranges[i] = (pst_range){i * 100 * KIB, 100};
    rd.change_at = 4;
    assert_int_equal(get_with(f, ranges, 8, &options, NULL), PST_E_CHANGED);
    for (size_t i = 0; i < 8; i++) {
        if (i < 3)
            assert_gives(f, i, ranges[i].offset, 100);
        else
            assert_int_equal(f->results[i].status, PST_E_CHANGED);
    }
    assert_int_equal(rd.n_reads, 4); /* nothing was asked for after that */
}

static void test_object_replaced__what_was_not_read_yet_is_changed(void **state)
{
    check_replaced(*state);
}

static void test_object_replaced__is_noticed_where_the_store_ignores_if_match(void **state)
{
    rd.ignores_if_match = 1;
    check_replaced(*state);
}

static void test_if_match__of_the_caller_holds_from_the_first_request(void **state)
{
    struct fixture *f = *state;
    const pst_read_options read = {.struct_size = sizeof(read), .if_match = PST_STR("v7")};
    const pst_ranges_options options = {.struct_size = sizeof(options), .read = &read};
    const pst_range ranges[] = {{0, 10}, {500 * KIB, 10}};
    assert_int_equal(get_with(f, ranges, 2, &options, NULL), PST_E_PRECONDITION);
    assert_int_equal(f->results[1].status, PST_E_PRECONDITION);
}

static void test_weak_etag__all_ranges_come_by_one_request(void **state)
{
    struct fixture *f = *state;
    const pst_range ranges[] = {{900 * KIB, 10}, {100, 10}, {0, 0}, {500 * KIB, 10}};
    rd.etag_strength = PST_ETAG_WEAK;
    assert_int_equal(get(f, ranges, 4), PST_OK);
    for (size_t i = 0; i < 4; i++)
        assert_gives(f, i, ranges[i].offset, ranges[i].length);
    assert_int_equal(rd.seen[rd.n_reads - 1].offset, 100);
    assert_int_equal(rd.seen[rd.n_reads - 1].length, 900 * KIB + 10 - 100);
}

static void test_weak_etag__ranges_that_share_a_request_need_no_other(void **state)
{
    struct fixture *f = *state;
    const pst_range ranges[] = {{90, 10}, {100, 10}};
    rd.etag_strength = PST_ETAG_NONE;
    assert_int_equal(get(f, ranges, 2), PST_OK);
    assert_gives(f, 1, 100, 10);
    assert_int_equal(rd.n_reads, 1);
}

static void test_weak_etag__may_be_read_apart_when_the_caller_allows_it(void **state)
{
    struct fixture *f = *state;
    const pst_read_options read = {.struct_size = sizeof(read), .flags = PST_READ_ALLOW_UNPINNED};
    const pst_ranges_options options = {.struct_size = sizeof(options), .read = &read};
    const pst_range ranges[] = {{900 * KIB, 10}, {100, 10}};
    rd.etag_strength = PST_ETAG_WEAK;
    assert_int_equal(get_with(f, ranges, 2, &options, NULL), PST_OK);
    assert_gives(f, 0, 900 * KIB, 10);
    assert_int_equal(rd.n_reads, 2);
    assert_int_equal(rd.n_bytes, 20);
}

static void *fire_later(void *cancel)
{
    readstore_wait_for(&rd.n_waiting, 2);
    pst_cancel_fire(cancel);
    return NULL;
}

static void test_cancel__ends_the_call_and_leaves_the_results_alone(void **state)
{
    struct fixture *f = *state;
    pst_call call = {.struct_size = sizeof(call)};
    const pst_range ranges[] = {{0, 10}, {300 * KIB, 10}, {600 * KIB, 10}};
    pthread_t thread;
    assert_int_equal(pst_cancel_new(&call.cancel), PST_OK);
    rd.may_pass = 1;
    assert_int_equal(pthread_create(&thread, NULL, fire_later, call.cancel), 0);
    assert_int_equal(get_with(f, ranges, 3, NULL, &call), PST_E_CANCELLED);
    pthread_join(thread, NULL);
    pst_cancel_free(call.cancel);
    for (size_t i = 0; i < 3; i++)
        assert_true(f->results[i].status == PST_OK || f->results[i].status == PST_E_CANCELLED);
}

static void test_options_of_each_read__hold_for_its_parts(void **state)
{
    struct fixture *f = *state;
    const pst_read_options read = {
        .struct_size = sizeof(read), .part_bytes = 64 * KIB, .max_in_flight = 1};
    const pst_ranges_options options = {.struct_size = sizeof(options), .read = &read};
    const pst_range range = {0, 9 * MIB};
    rd.size = 9 * MIB;
    assert_int_equal(get_with(f, &range, 1, &options, NULL), PST_OK);
    assert_gives(f, 0, 0, 9 * MIB);
    assert_int_equal(f->n_requests, 1 + 16); /* a first read of 8 MiB, then as asked for */
    assert_int_equal(rd.n_max, 1);
}

static void test_hedge__answers_for_a_range_that_is_late(void **state)
{
    struct fixture *f = *state;
    const pst_call call = {.struct_size = sizeof(call), .timeout_ms = 20000};
    const pst_read_options read = {.struct_size = sizeof(read), .hedge_after_ms = 50};
    pst_ranges_options options = {.struct_size = sizeof(options), .merge_gap_bytes = PST_UNKNOWN};
    pst_range ranges[MANY];
    for (size_t i = 0; i < MANY; i++)
        ranges[i] = (pst_range){i * 10, 10};
    assert_int_equal(get_with(f, ranges, MANY, &options, &call), PST_OK); /* earns some */
    options.read = &read;
    rd.hold_at = readstore_reads() + 4;
    assert_int_equal(get_with(f, ranges, MANY, &options, &call), PST_OK);
    for (size_t i = 0; i < MANY; i++)
        assert_gives(f, i, i * 10, 10);
}

static void test_what_makes_no_sense__is_refused_before_any_request(void **state)
{
    struct fixture *f = *state;
    const pst_range range = {0, 10};
    pst_read_options read = {.struct_size = sizeof(read), .flags = PST_READ_CRC32C};
    const pst_ranges_options options = {.struct_size = sizeof(options), .read = &read};
    assert_int_equal(get_with(f, &range, 1, &options, NULL), PST_E_INVALID);
    read.flags = 0;
    read.part_bytes = 1;
    assert_int_equal(get_with(f, &range, 1, &options, NULL), PST_E_INVALID);
    read.part_bytes = 17 * MIB;
    assert_int_equal(get_with(f, &range, 1, &options, NULL), PST_E_OVER_BUDGET);
    read.part_bytes = 0;
    read.max_in_flight = UINT32_MAX;
    assert_int_equal(get_with(f, &range, 1, &options, NULL), PST_E_INVALID);
    read.max_in_flight = 0;
    read.decode = PST_DECODE_ZSTD;
    assert_int_equal(get_with(f, &range, 1, &options, NULL), PST_E_UNIMPLEMENTED);
    assert_int_equal(pst_get_ranges(f->store, pst_str_of("", 0), &range, 1, NULL, NULL, f->results,
                                    NULL, &f->err),
                     PST_E_INVALID);
    assert_int_equal(rd.n_reads, 0);
}

static void test_torture__every_allocation_may_fail(void **state)
{
    struct fixture *f = *state;
    pst_range ranges[6];
    for (size_t i = 0; i < 6; i++)
        ranges[i] = (pst_range){i / 2 * 300 * KIB + i, 50};
    assert_int_equal(get(f, ranges, 6), PST_OK); /* threads and their stacks */
    pst_get_results_free(f->results, MANY);
    for (unsigned n = 1;; n++) {
        torture_arm(n);
        pst_rc rc = get(f, ranges, 6);
        int was_reached = torture_disarm();
        assert_true(rc == PST_OK || rc == PST_E_NO_MEMORY);
        for (size_t i = 0; i < 6; i++) {
            if (f->results[i].status == PST_OK)
                assert_gives(f, i, ranges[i].offset, 50);
        }
        if (!was_reached)
            break;
    }
}

#define RANGES_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        RANGES_TEST(test_near_ranges__share_one_request_and_its_buffer),
        RANGES_TEST(test_views__outlive_each_other),
        RANGES_TEST(test_far_ranges__have_requests_of_their_own_pinned_to_the_first),
        RANGES_TEST(test_requests_at_once__are_no_more_than_asked_for),
        RANGES_TEST(test_edges__are_as_pread_has_them),
        RANGES_TEST(test_exact__fails_the_ranges_that_are_cut_and_no_other),
        RANGES_TEST(test_missing_object__fails_every_range),
        RANGES_TEST(test_one_failure__is_of_its_ranges_alone),
        RANGES_TEST(test_object_replaced__what_was_not_read_yet_is_changed),
        RANGES_TEST(test_object_replaced__is_noticed_where_the_store_ignores_if_match),
        RANGES_TEST(test_if_match__of_the_caller_holds_from_the_first_request),
        RANGES_TEST(test_weak_etag__all_ranges_come_by_one_request),
        RANGES_TEST(test_weak_etag__ranges_that_share_a_request_need_no_other),
        RANGES_TEST(test_weak_etag__may_be_read_apart_when_the_caller_allows_it),
        RANGES_TEST(test_cancel__ends_the_call_and_leaves_the_results_alone),
        RANGES_TEST(test_options_of_each_read__hold_for_its_parts),
        RANGES_TEST(test_hedge__answers_for_a_range_that_is_late),
        RANGES_TEST(test_what_makes_no_sense__is_refused_before_any_request),
        RANGES_TEST(test_torture__every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
