/* The streaming reader against a store whose every read the test can pause, fail or change. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <pthread.h>
#include <zstd.h>

#include "core/store.h"
#include "io/reader_state.h"
#include "readstore.h"
#include "torture.h"

#define KIB ((uint64_t)1 << 10)
#define MIB ((uint64_t)1 << 20)
#define SIZE (10 * 64 * KIB + 1000)

static const pst_str key = {"k", 1};

struct fixture {
    pst_context *context;
    pst_store *store;
};

static int setup(void **state)
{
    readstore_reset();
    rd.size = SIZE;
    *state = calloc(1, sizeof(struct fixture));
    return 0;
}

static pst_store *store_with(void **state, uint64_t budget_bytes)
{
    struct fixture *f = *state;
    f->context = readstore_context(budget_bytes);
    f->store = readstore_open(f->context);
    return f->store;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    pst_store_free(f->store);
    pst_context_free(f->context);
    free(f);
    return 0;
}

static pst_read_options options_of(uint64_t part_bytes, uint32_t n)
{
    return (pst_read_options){
        .struct_size = sizeof(pst_read_options), .part_bytes = part_bytes, .max_in_flight = n};
}

static pst_reader *open_reader(pst_store *store, uint64_t offset, uint64_t length,
                               const pst_read_options *options, const pst_call *call)
{
    pst_error err = PST_ERROR_INIT;
    pst_reader *reader = NULL;
    if (pst_reader_open(store, key, offset, length, options, call, &reader, &err) != PST_OK)
        fail_msg("%s", err.message);
    return reader;
}

static pst_reader *open_parts(pst_store *store, const pst_read_options *options)
{
    return open_reader(store, 0, PST_UNKNOWN, options, NULL);
}

static pst_read_info info_of(pst_reader *reader)
{
    pst_read_info info = {.struct_size = sizeof(info)};
    pst_reader_info(reader, &info);
    return info;
}

static void assert_says(const pst_error *err, const char *what)
{
    if (!strstr(err->message, what))
        fail_msg("\"%s\" lacks \"%s\"", err->message, what);
}

/* Take everything by next() and compare; returns how much there was, *rc how it ended. */
static uint64_t drain(pst_reader *reader, unsigned version, uint64_t offset, pst_rc *rc,
                      pst_error *err)
{
    uint64_t n = 0;
    for (;;) {
        pst_buffer *buffer = NULL;
        *rc = pst_reader_next(reader, &buffer, err);
        if (!buffer)
            return n;
        assert_true(read_is(pst_buffer_data(buffer), pst_buffer_size(buffer), version, offset + n));
        n += pst_buffer_size(buffer);
        pst_buffer_unref(buffer);
    }
}

static void assert_drains(pst_reader *reader, uint64_t offset, uint64_t length)
{
    pst_error err = PST_ERROR_INIT;
    pst_rc rc;
    uint64_t n = drain(reader, 1, offset, &rc, &err);
    if (rc != PST_OK)
        fail_msg("%s", err.message);
    assert_int_equal(n, length);
}

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

/* ---- memory ----------------------------------------------------------------------------------- */

static void test_plan__fits_the_budget(void **state)
{
    const struct {
        uint64_t budget, io_preferred, length, part;
        uint32_t io_align, n, want_n;
        uint64_t want_part;
    } cases[] = {
        {1024 * MIB, 0, PST_UNKNOWN, 0, 0, 0, 4, 8 * MIB},
        {64 * MIB, 0, PST_UNKNOWN, 0, 0, 0, 4, 8 * MIB},
        {64 * MIB, 0, PST_UNKNOWN, 0, 0, 64, 64, 1 * MIB},
        {16 * MIB, 0, PST_UNKNOWN, 0, 0, 0, 4, 4 * MIB},
        {1 * MIB, 0, PST_UNKNOWN, 0, 4096, 0, 4, 256 * KIB},
        {64 * KIB, 0, PST_UNKNOWN, 0, 0, 0, 1, 64 * KIB},
        {100 * KIB, 0, PST_UNKNOWN, 0, 4096, 0, 1, 64 * KIB},
        {64 * MIB, 1 * MIB, PST_UNKNOWN, 0, 0, 0, 4, 1 * MIB},
        {64 * MIB, 0, 1000, 0, 4096, 0, 4, 4096},
        {64 * MIB, 0, 1000, 0, 0, 0, 4, 1000},
        {64 * MIB, 0, PST_UNKNOWN, 48 * MIB, 0, 8, 1, 48 * MIB},
        {64 * MIB, 0, PST_UNKNOWN, 10000, 4096, 8, 8, 12288},
        {64 * MIB, 0, PST_UNKNOWN, 64 * MIB, 0, 0, 1, 64 * MIB},
        {64 * MIB, 0, PST_UNKNOWN, 64 * MIB + 1, 0, 0, 0, 0}, /* refused */
        {64 * KIB, 0, PST_UNKNOWN, 0, 1 << 20, 0, 0, 0},
        {64 * MIB, 0, PST_UNKNOWN, PST_UNKNOWN, 4096, 0, 0, 0},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const pst_limits limits = {.io_preferred = cases[i].io_preferred,
                                   .io_align = cases[i].io_align};
        const struct pst_reader_wish wish = {
            .length = cases[i].length, .part_bytes = cases[i].part, .max_in_flight = cases[i].n};
        pst_error err = PST_ERROR_INIT;
        char budget[32];
        uint64_t part = 0;
        uint32_t n = 0;
        pst_rc rc = pst_reader_plan(cases[i].budget, &limits, &wish, &part, &n, &err);
        assert_int_equal(rc, cases[i].want_n ? PST_OK : PST_E_OVER_BUDGET);
        assert_int_equal(part, cases[i].want_part);
        assert_int_equal(n, cases[i].want_n);
        assert_true((uint64_t)n * part <= cases[i].budget);
        snprintf(budget, sizeof(budget), "budget of %llu", (unsigned long long)cases[i].budget);
        if (rc != PST_OK)
            assert_says(&err, budget);
    }
}

static void test_plan__leaves_room_for_what_is_decoded(void **state)
{
    const pst_limits limits = {0};
    const struct pst_reader_wish wish = {
        .length = PST_UNKNOWN, .max_in_flight = 3, .is_decoded = 1};
    uint64_t part = 0;
    uint32_t n = 0;
    (void)state;
    assert_int_equal(pst_reader_plan(16 * MIB, &limits, &wish, &part, &n, NULL), PST_OK);
    assert_int_equal(part, 4 * MIB);
    assert_int_equal(n, 3);
}

static void test_open__a_budget_below_one_part_says_so_at_once(void **state)
{
    const pst_read_options options = options_of(2 * MIB, 0);
    pst_error err = PST_ERROR_INIT;
    pst_reader *reader = NULL;
    pst_store *store = store_with(state, 1 * MIB);
    assert_int_equal(pst_reader_open(store, key, 0, PST_UNKNOWN, &options, NULL, &reader, &err),
                     PST_E_OVER_BUDGET);
    assert_null(reader);
    assert_says(&err, "one part of 2097152 bytes is more than the memory budget of 1048576 bytes");
    assert_int_equal(rd.n_reads, 0);
}

static uint64_t peak_of(void **state)
{
    pst_stats stats = {.struct_size = sizeof(stats)};
    pst_context_stats(((struct fixture *)*state)->context, &stats);
    assert_int_equal(stats.in_flight_bytes, 0);
    return stats.peak_in_flight_bytes;
}

static void test_window__holds_no_more_parts_than_it_may(void **state)
{
    const pst_read_options options = options_of(64 * KIB, 3);
    pst_reader *reader = open_parts(store_with(state, 16 * MIB), &options);
    readstore_wait_for(&rd.n_reads, 3); /* fetched ahead without being asked */
    assert_drains(reader, 0, SIZE);
    assert_in_range(rd.n_max, 1, 3);
    pst_reader_free(reader);
    assert_in_range(peak_of(state), 64 * KIB, 3 * 64 * KIB);
}

static void test_buffers__that_the_application_keeps_stop_nothing(void **state)
{
    const pst_read_options options = options_of(64 * KIB, 2);
    pst_buffer *kept[32] = {NULL};
    size_t n = 0;
    uint64_t at = 0;
    pst_reader *reader = open_parts(store_with(state, 128 * KIB), &options);
    do {
        assert_int_equal(pst_reader_next(reader, &kept[n], NULL), PST_OK);
    } while (kept[n++]);
    for (size_t i = 0; i + 1 < n; i++) {
        assert_true(read_is(pst_buffer_data(kept[i]), pst_buffer_size(kept[i]), 1, at));
        at += pst_buffer_size(kept[i]);
        pst_buffer_unref(kept[i]);
    }
    assert_int_equal(at, SIZE);
    pst_reader_free(reader);
}

static void test_readers__that_share_a_small_budget_all_get_through(void **state)
{
    const pst_read_options options = options_of(64 * KIB, 4);
    pst_store *store = store_with(state, 4 * 64 * KIB);
    pst_reader *readers[5];
    static unsigned char dst[5][SIZE];
    size_t at[5] = {0}, n_over = 0;
    for (int i = 0; i < 5; i++)
        readers[i] = open_parts(store, &options);
    while (n_over < 5) { /* one thread: each waits while the others hold what they fetched */
        n_over = 0;
        for (int i = 0; i < 5; i++) {
            size_t n = 0, room = SIZE - at[i] < 40000 ? SIZE - at[i] : 40000;
            assert_int_equal(pst_reader_read(readers[i], dst[i] + at[i], room, &n, NULL), PST_OK);
            at[i] += n;
            n_over += at[i] == SIZE;
        }
    }
    for (int i = 0; i < 5; i++) {
        assert_true(read_is(dst[i], SIZE, 1, 0));
        pst_reader_free(readers[i]);
    }
    /* Ranges ahead keep to the budget; the one that its application asks for may be over it. */
    assert_in_range(peak_of(state), 1, (4 + 5) * 64 * KIB);
}

/* ---- checksum --------------------------------------------------------------------------------- */

static uint32_t crc_of_object(void)
{
    static unsigned char all[SIZE];
    for (size_t i = 0; i < SIZE; i++)
        all[i] = read_byte(1, i);
    return pst_crc32c(0, all, SIZE);
}

static void test_crc32c__is_told_at_the_end(void **state)
{
    pst_read_options options = options_of(64 * KIB, 3);
    options.flags = PST_READ_CRC32C;
    pst_reader *reader = open_parts(store_with(state, 16 * MIB), &options);
    assert_int_equal(info_of(reader).has_crc32c, 0);
    assert_drains(reader, 0, SIZE);
    assert_int_equal(info_of(reader).has_crc32c, 1);
    assert_int_equal(info_of(reader).crc32c, crc_of_object());
    pst_reader_free(reader);
}

static void test_expected_crc32c__is_compared_before_the_last_bytes_are_delivered(void **state)
{
    pst_read_options options = options_of(64 * KIB, 3);
    pst_error err = PST_ERROR_INIT;
    char says[80];
    pst_rc rc;
    options.flags = PST_READ_EXPECT_CRC32C;
    options.expected_crc32c = crc_of_object();
    pst_store *store = store_with(state, 16 * MIB);
    pst_reader *reader = open_parts(store, &options);
    assert_drains(reader, 0, SIZE);
    pst_reader_free(reader);
    options.expected_crc32c ^= 1;
    reader = open_parts(store, &options);
    assert_int_equal(drain(reader, 1, 0, &rc, &err), 10 * 64 * KIB);
    assert_int_equal(rc, PST_E_DATA_LOSS);
    snprintf(says, sizeof(says), "wanted crc32c:%08x, got crc32c:%08x",
             (unsigned)options.expected_crc32c, (unsigned)crc_of_object());
    assert_says(&err, says);
    pst_reader_free(reader);
}

static void test_verify__compares_with_the_checksum_that_the_store_keeps(void **state)
{
    pst_read_options options = options_of(64 * KIB, 3);
    pst_rc rc;
    options.flags = PST_READ_VERIFY;
    rd.has_sum = 1;
    rd.sum = crc_of_object();
    pst_store *store = store_with(state, 16 * MIB);
    pst_reader *reader = open_parts(store, &options);
    assert_drains(reader, 0, SIZE);
    assert_int_equal(info_of(reader).is_verified, 1);
    pst_reader_free(reader);
    reader = open_reader(store, 1, PST_UNKNOWN, &options,
                         NULL); /* nothing to compare a range with */
    assert_drains(reader, 1, SIZE - 1);
    assert_int_equal(info_of(reader).is_verified, 0);
    pst_reader_free(reader);
    rd.sum ^= 1;
    reader = open_parts(store, &options);
    assert_int_equal(drain(reader, 1, 0, &rc, NULL), 10 * 64 * KIB);
    assert_int_equal(rc, PST_E_DATA_LOSS);
    assert_int_equal(info_of(reader).is_verified, 0);
    pst_reader_free(reader);
}

static void test_failed_reader__holds_no_memory(void **state)
{
    const pst_read_options options = options_of(64 * KIB, 4);
    pst_stats stats = {.struct_size = sizeof(stats)};
    pst_rc rc;
    rd.fail_at = 3;
    rd.fail_times = 1;
    rd.fail_rc = PST_E_DENIED;
    pst_reader *reader = open_parts(store_with(state, 16 * MIB), &options);
    drain(reader, 1, 0, &rc, NULL);
    assert_int_equal(rc, PST_E_DENIED);
    for (int i = 0; i < 10000; i++) { /* what was under way ends on its own */
        pst_context_stats(((struct fixture *)*state)->context, &stats);
        if (stats.in_flight_bytes == 0)
            break;
        usleep(1000);
    }
    assert_int_equal(stats.in_flight_bytes, 0);
    pst_reader_free(reader);
}

static void test_parts__longer_than_a_first_read_are_as_long_as_asked_for(void **state)
{
    const pst_read_options options = options_of(24 * MIB, 1);
    rd.size = 30 * MIB;
    pst_reader *reader = open_parts(store_with(state, 64 * MIB), &options);
    assert_drains(reader, 0, 30 * MIB);
    assert_int_equal(rd.n_reads, 3); /* of 8, 16 and 6 MiB */
    pst_reader_free(reader);
}

/* ---- decoding --------------------------------------------------------------------------------- */

#define PLAIN ((size_t)3000000)
static unsigned char *plain, *packed;
static size_t packed_size;

static int setup_zstd(void **state)
{
    int rc = setup(state);
    plain = malloc(PLAIN);
    packed = malloc(ZSTD_compressBound(PLAIN));
    for (size_t i = 0; i < PLAIN; i++)
        plain[i] = i % 3 ? 'x' : read_byte(1, i);
    packed_size = ZSTD_compress(packed, ZSTD_compressBound(PLAIN), plain, PLAIN, 3);
    rd.body = packed;
    rd.size = packed_size;
    return rc;
}

static int teardown_zstd(void **state)
{
    int rc = teardown(state);
    free(plain);
    free(packed);
    return rc;
}

static void test_decode__delivers_the_content(void **state)
{
    pst_read_options options = options_of(64 * KIB, 2);
    unsigned char *dst = malloc(PLAIN + 1);
    uint64_t at = 0;
    size_t n = 0;
    options.decode = PST_DECODE_ZSTD;
    options.flags = PST_READ_CRC32C;
    pst_store *store = store_with(state, 1 * MIB);
    pst_reader *reader = open_parts(store, &options);
    assert_int_equal(pst_reader_read(reader, dst, PLAIN + 1, &n, NULL), PST_OK);
    assert_int_equal(n, PLAIN);
    assert_memory_equal(dst, plain, PLAIN);
    pst_read_info info = info_of(reader);
    assert_int_equal(info.object_size, packed_size);
    assert_int_equal(info.n_read, PLAIN);
    assert_int_equal(info.crc32c, pst_crc32c(0, plain, PLAIN));
    pst_reader_free(reader);
    reader = open_parts(store, &options);
    for (;;) {
        pst_buffer *buffer = NULL;
        assert_int_equal(pst_reader_next(reader, &buffer, NULL), PST_OK);
        if (!buffer)
            break;
        assert_memory_equal(pst_buffer_data(buffer), plain + at, pst_buffer_size(buffer));
        at += pst_buffer_size(buffer);
        pst_buffer_unref(buffer);
    }
    assert_int_equal(at, PLAIN);
    pst_reader_free(reader);
    free(dst);
    assert_in_range(peak_of(state), 1, 1 * MIB);
}

static void test_decode__by_name_looks_at_the_end_of_the_key(void **state)
{
    pst_read_options options = options_of(64 * KIB, 2);
    const struct {
        pst_str name;
        size_t first;
    } cases[] = {{PST_STR("a.zst"), PLAIN}, {PST_STR("a.zstd"), 0}, {PST_STR("a"), 0}};
    unsigned char *dst = malloc(PLAIN);
    options.decode = PST_DECODE_BY_NAME;
    pst_store *store = store_with(state, 16 * MIB);
    for (size_t i = 0; i < 3; i++) {
        pst_reader *reader = NULL;
        size_t n = 0;
        assert_int_equal(
            pst_reader_open(store, cases[i].name, 0, PST_UNKNOWN, &options, NULL, &reader, NULL),
            PST_OK);
        assert_int_equal(pst_reader_read(reader, dst, PLAIN, &n, NULL), PST_OK);
        assert_int_equal(n, cases[i].first ? cases[i].first : packed_size);
        pst_reader_free(reader);
    }
    free(dst);
}

static void test_decode__of_what_is_cut_or_no_zstd_is_data_loss(void **state)
{
    pst_read_options options = options_of(64 * KIB, 2);
    pst_error err = PST_ERROR_INIT;
    unsigned char *dst = malloc(PLAIN);
    size_t n = 0;
    options.decode = PST_DECODE_ZSTD;
    pst_store *store = store_with(state, 16 * MIB);
    rd.size = packed_size - 5;
    pst_reader *reader = open_parts(store, &options);
    pst_rc rc = pst_reader_read(reader, dst, PLAIN, &n, &err);
    if (rc == PST_OK)
        rc = pst_reader_read(reader, dst, PLAIN, &n, &err);
    assert_int_equal(rc, PST_E_DATA_LOSS);
    assert_says(&err, "GET rd://box/k: ");
    pst_reader_free(reader);
    rd.body = plain;
    rd.size = 100;
    reader = open_parts(store, &options);
    assert_int_equal(pst_reader_read(reader, dst, PLAIN, &n, &err), PST_E_DATA_LOSS);
    assert_int_equal(pst_reader_read(reader, dst, PLAIN, &n, &err), PST_E_DATA_LOSS);
    pst_reader_free(reader);
    free(dst);
}

static void test_decode__of_a_range_is_refused(void **state)
{
    pst_read_options options = options_of(64 * KIB, 2);
    pst_error err = PST_ERROR_INIT;
    pst_reader *reader = NULL;
    options.decode = PST_DECODE_ZSTD;
    pst_store *store = store_with(state, 16 * MIB);
    assert_int_equal(pst_reader_open(store, key, 0, 10, &options, NULL, &reader, &err),
                     PST_E_UNIMPLEMENTED);
    assert_says(&err, "a range of a compressed object cannot be decoded");
    assert_int_equal(pst_reader_open(store, key, 1, PST_UNKNOWN, &options, NULL, &reader, &err),
                     PST_E_UNIMPLEMENTED);
    options.decode = 7;
    assert_int_equal(pst_reader_open(store, key, 0, PST_UNKNOWN, &options, NULL, &reader, &err),
                     PST_E_INVALID);
}

#define READER_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
#define ZSTD_TEST(name) cmocka_unit_test_setup_teardown(name, setup_zstd, teardown_zstd)

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
        READER_TEST(test_plan__fits_the_budget),
        READER_TEST(test_plan__leaves_room_for_what_is_decoded),
        READER_TEST(test_open__a_budget_below_one_part_says_so_at_once),
        READER_TEST(test_window__holds_no_more_parts_than_it_may),
        READER_TEST(test_buffers__that_the_application_keeps_stop_nothing),
        READER_TEST(test_readers__that_share_a_small_budget_all_get_through),
        READER_TEST(test_crc32c__is_told_at_the_end),
        READER_TEST(test_expected_crc32c__is_compared_before_the_last_bytes_are_delivered),
        READER_TEST(test_verify__compares_with_the_checksum_that_the_store_keeps),
        READER_TEST(test_failed_reader__holds_no_memory),
        READER_TEST(test_parts__longer_than_a_first_read_are_as_long_as_asked_for),
        ZSTD_TEST(test_decode__delivers_the_content),
        ZSTD_TEST(test_decode__by_name_looks_at_the_end_of_the_key),
        ZSTD_TEST(test_decode__of_what_is_cut_or_no_zstd_is_data_loss),
        ZSTD_TEST(test_decode__of_a_range_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
