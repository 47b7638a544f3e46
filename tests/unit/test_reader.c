/* The streaming reader: its bytes, of one version, and how it fails. */
#include "reader_trial.h"

#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include "torture.h"

/* ---- the bytes -------------------------------------------------------------------------------- */

static void test_read__gives_the_object_in_pieces_of_any_size(void **state)
{
    static const size_t steps[] = {1, 7, 64 * KIB, 100000, 3 * 64 * KIB};
    const pst_read_options options = options_of(64 * KIB, 3);
    static unsigned char dst[SIZE + 1];
    pst_store *store = store_with(state, 16 * MIB);
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        pst_reader *reader = open_parts(store, &options);
        size_t at = 0, n = 0;
        do {
            size_t room = sizeof(dst) - at < steps[i] ? sizeof(dst) - at : steps[i];
            assert_int_equal(pst_reader_read(reader, dst + at, room, &n, NULL), PST_OK);
            at += n;
            assert_true(n == room || at == SIZE);
        } while (n > 0);
        assert_int_equal(at, SIZE);
        assert_true(read_is(dst, SIZE, 1, 0));
        assert_int_equal(pst_reader_read(reader, dst, 1, &n, NULL), PST_OK);
        assert_int_equal(n, 0);
        pst_reader_free(reader);
    }
}

static void test_next__hands_over_the_parts_and_asks_for_each_byte_once(void **state)
{
    const pst_read_options options = options_of(64 * KIB, 3);
    pst_reader *reader = open_parts(store_with(state, 16 * MIB), &options);
    assert_drains(reader, 0, SIZE);
    assert_int_equal(rd.n_reads, 11);
    assert_int_equal(rd.n_bytes, SIZE);
    assert_int_equal(rd.seen[0].has_if_match, 0);
    for (int i = 1; i < 11; i++)
        assert_int_equal(rd.seen[i].has_if_match, 1);
    pst_read_info info = info_of(reader);
    assert_int_equal(info.object_size, SIZE);
    assert_int_equal(info.n_read, SIZE);
    assert_string_equal(info.etag, "v1");
    assert_int_equal(info.n_ranges, 11);
    assert_int_equal(info.part_bytes, 64 * KIB);
    assert_in_range(info.max_in_flight, 1, 3);
    assert_true(info.elapsed_ns > 0);
    pst_reader_free(reader);
}

static void test_next__buffers_count_as_handed_out_until_they_are_released(void **state)
{
    const struct fixture *f = *state;
    const pst_read_options options = options_of(64 * KIB, 3);
    pst_stats stats = {.struct_size = sizeof(stats)};
    pst_buffer *buffer = NULL;
    pst_reader *reader = open_parts(store_with(state, 16 * MIB), &options);
    assert_int_equal(pst_reader_next(reader, &buffer, NULL), PST_OK);
    pst_context_stats(f->context, &stats);
    assert_true(stats.handed_out_bytes >= pst_buffer_size(buffer));
    assert_drains(reader, pst_buffer_size(buffer), SIZE - pst_buffer_size(buffer));
    pst_buffer_unref(buffer);
    pst_reader_free(reader);
    pst_context_stats(f->context, &stats);
    assert_int_equal(stats.handed_out_bytes, 0);
}

static void test_next__after_read_hands_over_the_rest_of_the_part(void **state)
{
    const pst_read_options options = options_of(64 * KIB, 2);
    char head[10];
    size_t n;
    pst_buffer *buffer = NULL;
    pst_reader *reader = open_parts(store_with(state, 16 * MIB), &options);
    assert_int_equal(pst_reader_read(reader, head, sizeof(head), &n, NULL), PST_OK);
    assert_true(read_is(head, sizeof(head), 1, 0));
    assert_int_equal(pst_reader_next(reader, &buffer, NULL), PST_OK);
    assert_int_equal(pst_buffer_size(buffer), 64 * KIB - 10);
    assert_true(read_is(pst_buffer_data(buffer), 64 * KIB - 10, 1, 10));
    pst_buffer_unref(buffer);
    assert_drains(reader, 64 * KIB, SIZE - 64 * KIB);
    pst_reader_free(reader);
}

static void test_next__a_buffer_outlives_reader_and_context(void **state)
{
    struct fixture *f = *state;
    pst_buffer *buffer = NULL;
    pst_reader *reader = open_parts(store_with(state, 16 * MIB), NULL);
    assert_int_equal(pst_reader_next(reader, &buffer, NULL), PST_OK);
    pst_reader_free(reader);
    pst_store_free(f->store);
    pst_context_free(f->context);
    f->store = NULL;
    f->context = NULL;
    assert_true(read_is(pst_buffer_data(buffer), pst_buffer_size(buffer), 1, 0));
    pst_buffer_unref(buffer);
}

static void test_range__is_cut_at_the_end_as_pread_does(void **state)
{
    const struct {
        uint64_t offset, length, n;
    } cases[] = {
        {0, PST_UNKNOWN, SIZE}, {1, PST_UNKNOWN, SIZE - 1},        {64 * KIB, 1, 1},
        {64 * KIB - 1, 2, 2},   {100, 3 * 64 * KIB, 3 * 64 * KIB}, {SIZE - 1, 100, 1},
        {SIZE, 100, 0},         {SIZE + 1000, PST_UNKNOWN, 0},     {UINT64_MAX - 5, 100, 0},
    };
    const pst_read_options options = options_of(64 * KIB, 3);
    pst_store *store = store_with(state, 16 * MIB);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        pst_reader *reader = open_reader(store, cases[i].offset, cases[i].length, &options, NULL);
        assert_drains(reader, cases[i].offset, cases[i].n);
        pst_reader_free(reader);
    }
}

static void test_range__of_length_0_asks_for_nothing(void **state)
{
    pst_reader *reader = open_reader(store_with(state, 16 * MIB), 5, 0, NULL, NULL);
    assert_drains(reader, 5, 0);
    assert_int_equal(rd.n_reads, 0);
    pst_reader_free(reader);
}

static void test_empty_object__is_the_end_at_once(void **state)
{
    rd.size = 0;
    pst_reader *reader = open_parts(store_with(state, 16 * MIB), NULL);
    assert_drains(reader, 0, 0);
    assert_int_equal(info_of(reader).object_size, 0);
    pst_reader_free(reader);
}

static void test_exact__range_beyond_the_end_is_refused_before_its_first_byte(void **state)
{
    pst_read_options options = options_of(64 * KIB, 2);
    pst_error err = PST_ERROR_INIT;
    pst_rc rc;
    options.flags = PST_READ_EXACT;
    pst_reader *reader = open_reader(store_with(state, 16 * MIB), 10, SIZE, &options, NULL);
    assert_int_equal(drain(reader, 1, 10, &rc, &err), 0);
    assert_int_equal(rc, PST_E_RANGE);
    assert_says(&err, "GET rd://box/k: range of 656360 bytes at 10 goes beyond the end");
    pst_reader_free(reader);
    reader = open_reader(((struct fixture *)*state)->store, 10, SIZE - 10, &options, NULL);
    assert_drains(reader, 10, SIZE - 10);
    pst_reader_free(reader);
}

static void test_parts__after_an_odd_offset_are_aligned(void **state)
{
    const pst_read_options options = options_of(64 * KIB, 2);
    rd.limits.io_align = 4096;
    pst_reader *reader = open_reader(store_with(state, 16 * MIB), 5000, PST_UNKNOWN, &options,
                                     NULL);
    assert_drains(reader, 5000, SIZE - 5000);
    for (unsigned i = 1; i < rd.n_reads; i++)
        assert_int_equal(rd.seen[i].offset % 4096, 0);
    pst_reader_free(reader);
}

/* ---- one version ------------------------------------------------------------------------------ */

static void test_missing_object__shows_with_the_first_read_and_stays(void **state)
{
    pst_error err = PST_ERROR_INIT;
    pst_rc rc;
    rd.is_missing = 1;
    pst_reader *reader = open_parts(store_with(state, 16 * MIB), NULL);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(drain(reader, 1, 0, &rc, &err), 0);
        assert_int_equal(rc, PST_E_NOT_FOUND);
        assert_says(&err, "GET rd://box/k: ");
    }
    assert_int_equal(rd.n_reads, 1);
    pst_reader_free(reader);
}

static void check_change(void **state)
{
    const pst_read_options options = options_of(64 * KIB, 3);
    pst_error err = PST_ERROR_INIT;
    pst_rc rc;
    pst_reader *reader = open_parts(store_with(state, 16 * MIB), &options);
    uint64_t n = drain(reader, 1, 0, &rc, &err);
    assert_int_equal(rc, PST_E_CHANGED);
    assert_true(n < SIZE);
    assert_says(&err, "GET rd://box/k: the object changed while it was read");
    assert_int_equal(drain(reader, 1, n, &rc, &err), 0);
    assert_int_equal(rc, PST_E_CHANGED);
    pst_reader_free(reader);
}

static void test_object_replaced__after_the_first_part_is_changed(void **state)
{
    rd.change_at = 2;
    check_change(state);
}

static void test_object_replaced__on_a_store_that_ignores_if_match_is_changed(void **state)
{
    rd.ignores_if_match = 1;
    rd.change_at = 7;
    check_change(state);
}

static void test_object_grown__is_changed(void **state)
{
    rd.change_at = 5;
    rd.size_change = 1000000;
    check_change(state);
}

static void test_object_truncated__is_changed(void **state)
{
    rd.change_at = 5;
    rd.size_change = -600000;
    rd.ignores_if_match = 1;
    check_change(state);
}

static void test_if_match__of_the_caller_fails_the_first_read(void **state)
{
    pst_read_options options = options_of(64 * KIB, 3);
    pst_rc rc;
    options.if_match = PST_STR("v2");
    pst_reader *reader = open_parts(store_with(state, 16 * MIB), &options);
    assert_int_equal(drain(reader, 1, 0, &rc, NULL), 0);
    assert_int_equal(rc, PST_E_PRECONDITION);
    pst_reader_free(reader);
}

static uint64_t longest(void)
{
    uint64_t longest = 0;
    for (unsigned i = 0; i < rd.n_reads; i++) {
        if (rd.seen[i].length > longest)
            longest = rd.seen[i].length;
    }
    return longest;
}

static void test_weak_etag__all_of_it_comes_by_one_request(void **state)
{
    static const uint32_t strengths[] = {PST_ETAG_WEAK, PST_ETAG_NONE};
    const pst_read_options options = options_of(64 * KIB, 3);
    for (int i = 0; i < 2; i++) {
        struct fixture *f = *state;
        rd.etag_strength = strengths[i];
        pst_store_free(f->store);
        pst_context_free(f->context);
        pst_reader *reader = open_parts(store_with(state, 16 * MIB), &options);
        assert_drains(reader, 0, SIZE);
        assert_true(longest() >= SIZE);
        pst_reader_free(reader);
    }
}

static void test_weak_etag__of_an_object_that_fits_a_part_costs_nothing(void **state)
{
    rd.etag_strength = PST_ETAG_WEAK;
    rd.size = 1000;
    pst_reader *reader = open_parts(store_with(state, 16 * MIB), NULL);
    assert_drains(reader, 0, 1000);
    assert_int_equal(rd.n_reads, 1);
    pst_reader_free(reader);
}

static void test_weak_etag__more_than_the_budget_is_refused_naming_both(void **state)
{
    const pst_read_options options = options_of(64 * KIB, 3);
    pst_error err = PST_ERROR_INIT;
    pst_rc rc;
    rd.etag_strength = PST_ETAG_WEAK;
    pst_reader *reader = open_parts(store_with(state, 512 * KIB), &options);
    assert_int_equal(drain(reader, 1, 0, &rc, &err), 0);
    assert_int_equal(rc, PST_E_OVER_BUDGET);
    assert_says(&err, "its 656360 bytes must come by one request, the memory budget is 524288");
    pst_reader_free(reader);
}

static void test_weak_etag__comes_in_parts_when_the_caller_allows_it(void **state)
{
    pst_read_options options = options_of(64 * KIB, 3);
    options.flags = PST_READ_ALLOW_UNPINNED;
    rd.etag_strength = PST_ETAG_WEAK;
    pst_reader *reader = open_parts(store_with(state, 512 * KIB), &options);
    assert_drains(reader, 0, SIZE);
    assert_int_equal(longest(), 64 * KIB);
    for (unsigned i = 0; i < rd.n_reads; i++)
        assert_int_equal(rd.seen[i].has_if_match, 0);
    pst_reader_free(reader);
}

static void test_unpinned_parts__that_differ_are_changed_all_the_same(void **state)
{
    pst_read_options options = options_of(64 * KIB, 3);
    pst_rc rc;
    options.flags = PST_READ_ALLOW_UNPINNED;
    rd.etag_strength = PST_ETAG_WEAK;
    rd.change_at = 4;
    pst_reader *reader = open_parts(store_with(state, 16 * MIB), &options);
    drain(reader, 1, 0, &rc, NULL);
    assert_int_equal(rc, PST_E_CHANGED);
    pst_reader_free(reader);
}

static void test_unknown_size__is_read_until_a_part_comes_short(void **state)
{
    const pst_read_options options = options_of(64 * KIB, 3);
    const uint64_t sizes[] = {0, 10, 64 * KIB, 5 * 64 * KIB, SIZE};
    rd.hides_size = 1;
    pst_store *store = store_with(state, 16 * MIB);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        rd.size = sizes[i];
        rd.n_max = 0;
        pst_reader *reader = open_parts(store, &options);
        assert_drains(reader, 0, sizes[i]);
        assert_int_equal(rd.n_max, 1);
        pst_reader_free(reader);
        reader = open_reader(store, 10, 64 * KIB, &options, NULL);
        uint64_t rest = sizes[i] > 10 ? sizes[i] - 10 : 0;
        assert_drains(reader, 10, rest < 64 * KIB ? rest : 64 * KIB);
        pst_reader_free(reader);
    }
}

static void test_unknown_size_and_no_etag__all_of_it_is_of_one_request(void **state)
{
    const pst_read_options options = options_of(64 * KIB, 3);
    pst_rc rc;
    rd.hides_size = 1;
    rd.etag_strength = PST_ETAG_NONE;
    rd.size = 9 * MIB; /* longer than a first read */
    rd.change_at = 3;  /* after a part, and after a first read of the whole */
    pst_reader *reader = open_parts(store_with(state, 32 * MIB), &options);
    assert_int_equal(drain(reader, 2, 0, &rc, NULL), 9 * MIB);
    assert_int_equal(rc, PST_OK);
    assert_int_equal(rd.n_reads, 3);
    pst_reader_free(reader);
}

/* ---- failing ---------------------------------------------------------------------------------- */

static void test_failure__is_retried_and_then_reported_after_what_came_before(void **state)
{
    const pst_read_options options = options_of(64 * KIB, 1);
    pst_error err = PST_ERROR_INIT;
    pst_rc rc;
    rd.fail_at = 4;
    rd.fail_times = 1;
    rd.fail_rc = PST_E_UNAVAILABLE;
    rd.fail_flags = PST_ERR_RETRYABLE;
    pst_reader *reader = open_parts(store_with(state, 16 * MIB), &options);
    assert_drains(reader, 0, SIZE);
    pst_reader_free(reader);
    rd.fail_at = rd.n_reads + 4;
    rd.fail_times = 2;
    reader = open_parts(((struct fixture *)*state)->store, &options);
    assert_int_equal(drain(reader, 1, 0, &rc, &err), 3 * 64 * KIB);
    assert_int_equal(rc, PST_E_UNAVAILABLE);
    assert_says(&err, "told to fail (attempt 2 of 2)");
    pst_reader_free(reader);
}

static void test_hedge__answers_for_a_range_that_is_late(void **state)
{
    pst_read_options options = options_of(64 * KIB, 2);
    pst_store *store = store_with(state, 16 * MIB);
    for (int i = 0; i < 10; i++) { /* earn some: a machine that is busy may need others before */
        pst_reader *reader = open_parts(store, &options);
        assert_drains(reader, 0, SIZE);
        pst_reader_free(reader);
    }
    options.hedge_after_ms = 50;
    rd.hold_at = rd.n_reads + 4;
    pst_reader *reader = open_parts(store, &options);
    assert_drains(reader, 0, SIZE);
    pst_read_info info = info_of(reader);
    assert_true(info.n_hedges >= 1);
    assert_true(info.n_hedges_won >= 1);
    assert_int_equal(info.n_ranges, 11);
    pst_reader_free(reader);
}

static void *fire_later(void *cancel)
{
    readstore_wait_for(&rd.n_waiting, 1);
    pst_cancel_fire(cancel);
    return NULL;
}

static void test_cancel__ends_a_read_that_waits_and_every_later_one(void **state)
{
    pst_read_options options = options_of(64 * KIB, 2);
    pst_call call = {.struct_size = sizeof(call)};
    pthread_t thread;
    pst_rc rc;
    assert_int_equal(pst_cancel_new(&call.cancel), PST_OK);
    rd.may_pass = 2;
    pst_reader *reader = open_reader(store_with(state, 16 * MIB), 0, PST_UNKNOWN, &options, &call);
    assert_int_equal(pthread_create(&thread, NULL, fire_later, call.cancel), 0);
    drain(reader, 1, 0, &rc, NULL);
    assert_int_equal(rc, PST_E_CANCELLED);
    assert_int_equal(drain(reader, 1, 0, &rc, NULL), 0);
    assert_int_equal(rc, PST_E_CANCELLED);
    pthread_join(thread, NULL);
    pst_reader_free(reader);
    pst_cancel_free(call.cancel);
}

static void test_timeout__is_of_each_call(void **state)
{
    pst_read_options options = options_of(64 * KIB, 1);
    const pst_call call = {.struct_size = sizeof(call), .timeout_ms = 50};
    pst_buffer *buffer = NULL;
    pst_rc rc;
    rd.may_pass = 1;
    pst_reader *reader = open_reader(store_with(state, 16 * MIB), 0, PST_UNKNOWN, &options, &call);
    rc = pst_reader_next(reader, &buffer, NULL);
    pst_buffer_unref(buffer);
    assert_int_equal(rc, PST_OK);
    assert_int_equal(pst_reader_next(reader, &buffer, NULL), PST_E_DEADLINE);
    assert_null(buffer);
    pst_reader_free(reader);
}

static void test_free__in_the_middle_leaves_nothing_behind(void **state)
{
    const pst_read_options options = options_of(64 * KIB, 4);
    struct fixture *f = *state;
    pst_stats stats = {.struct_size = sizeof(stats)};
    pst_buffer *buffer = NULL;
    rd.may_pass = 3;
    pst_reader *reader = open_parts(store_with(state, 16 * MIB), &options);
    assert_int_equal(pst_reader_next(reader, &buffer, NULL), PST_OK);
    pst_buffer_unref(buffer);
    readstore_wait_for(&rd.n_waiting, 1);
    pst_reader_free(reader);
    pst_store_free(f->store);
    f->store = NULL;
    for (int i = 0; i < 10000; i++) { /* what was under way ends on its own */
        pst_context_stats(f->context, &stats);
        if (stats.in_flight_bytes == 0 && stats.ops_completed == stats.ops_submitted)
            break;
        usleep(1000);
    }
    assert_int_equal(stats.in_flight_bytes, 0);
    pst_reader_free(NULL);
}

static void test_context_freed__under_a_reader_ends_it(void **state)
{
    const pst_read_options options = options_of(64 * KIB, 2);
    struct fixture *f = *state;
    pst_rc rc;
    rd.may_pass = 2;
    pst_reader *reader = open_parts(store_with(state, 16 * MIB), &options);
    readstore_wait_for(&rd.n_reads, 2);
    pst_context_free(f->context);
    f->context = NULL;
    drain(reader, 1, 0, &rc, NULL);
    assert_int_equal(rc, PST_E_CANCELLED);
    pst_reader_free(reader);
}

static void test_fork__child_is_told_that_the_reader_is_the_parents(void **state)
{
    const pst_read_options options = options_of(64 * KIB, 2);
    pst_reader *reader = open_parts(store_with(state, 16 * MIB), &options);
    char byte;
    size_t n;
    int status = 0;
    assert_int_equal(pst_reader_read(reader, &byte, 1, &n, NULL), PST_OK);
    pid_t child = fork();
    if (child == 0) {
        pst_buffer *buffer = NULL;
        int is_told = pst_reader_read(reader, &byte, 1, &n, NULL) == PST_E_FORKED &&
                      pst_reader_next(reader, &buffer, NULL) == PST_E_FORKED;
        pst_reader_free(reader);
        _exit(is_told ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_drains(reader, 1, SIZE - 1);
    pst_reader_free(reader);
}

static void test_torture__every_allocation_may_fail(void **state)
{
    const pst_read_options options = options_of(64 * KIB, 2);
    pst_store *store = store_with(state, 16 * MIB);
    pst_reader *warm_up = open_parts(store, &options); /* threads and their stacks */
    assert_drains(warm_up, 0, SIZE);
    pst_reader_free(warm_up);
    for (unsigned n = 1;; n++) {
        pst_reader *reader = NULL;
        pst_rc rc;
        torture_arm(n);
        rc = pst_reader_open(store, key, 0, PST_UNKNOWN, &options, NULL, &reader, NULL);
        uint64_t got = rc == PST_OK ? drain(reader, 1, 0, &rc, NULL) : 0;
        int was_reached = torture_disarm();
        pst_reader_free(reader);
        assert_true(rc == PST_OK || rc == PST_E_NO_MEMORY);
        assert_true(rc != PST_OK || got == SIZE);
        if (!was_reached)
            break;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        READER_TEST(test_read__gives_the_object_in_pieces_of_any_size),
        READER_TEST(test_next__hands_over_the_parts_and_asks_for_each_byte_once),
        READER_TEST(test_next__buffers_count_as_handed_out_until_they_are_released),
        READER_TEST(test_next__after_read_hands_over_the_rest_of_the_part),
        READER_TEST(test_next__a_buffer_outlives_reader_and_context),
        READER_TEST(test_range__is_cut_at_the_end_as_pread_does),
        READER_TEST(test_range__of_length_0_asks_for_nothing),
        READER_TEST(test_empty_object__is_the_end_at_once),
        READER_TEST(test_exact__range_beyond_the_end_is_refused_before_its_first_byte),
        READER_TEST(test_parts__after_an_odd_offset_are_aligned),
        READER_TEST(test_missing_object__shows_with_the_first_read_and_stays),
        READER_TEST(test_object_replaced__after_the_first_part_is_changed),
        READER_TEST(test_object_replaced__on_a_store_that_ignores_if_match_is_changed),
        READER_TEST(test_object_grown__is_changed),
        READER_TEST(test_object_truncated__is_changed),
        READER_TEST(test_if_match__of_the_caller_fails_the_first_read),
        READER_TEST(test_weak_etag__all_of_it_comes_by_one_request),
        READER_TEST(test_weak_etag__of_an_object_that_fits_a_part_costs_nothing),
        READER_TEST(test_weak_etag__more_than_the_budget_is_refused_naming_both),
        READER_TEST(test_weak_etag__comes_in_parts_when_the_caller_allows_it),
        READER_TEST(test_unpinned_parts__that_differ_are_changed_all_the_same),
        READER_TEST(test_unknown_size__is_read_until_a_part_comes_short),
        READER_TEST(test_unknown_size_and_no_etag__all_of_it_is_of_one_request),
        READER_TEST(test_failure__is_retried_and_then_reported_after_what_came_before),
        READER_TEST(test_hedge__answers_for_a_range_that_is_late),
        READER_TEST(test_cancel__ends_a_read_that_waits_and_every_later_one),
        READER_TEST(test_timeout__is_of_each_call),
        READER_TEST(test_free__in_the_middle_leaves_nothing_behind),
        READER_TEST(test_context_freed__under_a_reader_ends_it),
        READER_TEST(test_fork__child_is_told_that_the_reader_is_the_parents),
        READER_TEST(test_torture__every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
