/* The writer: parts, budget, failures in every phase, and what is left behind (nothing). */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <pthread.h>

#include "memstore.h"
#include "torture.h"
#include "util/crc32c.h"

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)
#define PART (64 * KIB)

struct fixture {
    pst_context *context;
    pst_store *store;
    pst_writer *writer;
};

static unsigned char pattern[16 * MIB];

static int setup_budget(void **state, uint64_t budget_bytes)
{
    struct fixture *f = calloc(1, sizeof(*f));
    memstore_reset();
    mem.limits.io_preferred = PART;
    f->context = memstore_context(budget_bytes);
    *state = f;
    return 0;
}

static int setup(void **state)
{
    return setup_budget(state, 64 * MIB);
}

static int setup_small_budget(void **state)
{
    return setup_budget(state, 4 * PART);
}

static uint64_t in_flight(const struct fixture *f)
{
    pst_stats stats = {.struct_size = sizeof(stats)};
    pst_context_stats(f->context, &stats);
    return stats.in_flight_bytes;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    pst_writer_free(f->writer);
    memstore_wait_for(&mem.n_uploads, 0); /* each was freed, after its last operation */
    assert_int_equal(mem.has_overlap, 0);
    assert_int_equal(in_flight(f), 0);
    pst_store_free(f->store);
    pst_context_free(f->context);
    free(f);
    memstore_reset();
    return 0;
}

static pst_str str(const char *text)
{
    return pst_str_of(text, strlen(text));
}

static const pst_write_options with_sums = {.struct_size = sizeof(with_sums),
                                            .sums = 1u << PST_SUM_CRC32C};

static pst_writer *open_writer(void **state, const pst_write_options *options, const pst_call *call)
{
    struct fixture *f = *state;
    if (!f->store)
        f->store = memstore_open(f->context);
    pst_writer_free(f->writer);
    f->writer = NULL;
    assert_int_equal(pst_writer_open(f->store, str("k"), options, call, &f->writer, NULL), PST_OK);
    return f->writer;
}

static void assert_stored(const char *key, size_t size)
{
    const unsigned char *data = NULL;
    assert_int_equal(memstore_find(key, &data), (int64_t)size);
    assert_memory_equal(data, pattern, size);
}

/* In pieces of `step` bytes. */
static pst_rc write_pattern(pst_writer *writer, size_t size, size_t step, pst_error *err)
{
    pst_rc rc = PST_OK;
    for (size_t at = 0; at < size && rc == PST_OK; at += step)
        rc = pst_writer_write(writer, pattern + at, size - at < step ? size - at : step, err);
    return rc;
}

/* ---- one put or many parts -------------------------------------------------------------------- */

static void test_writer__what_fits_one_part_is_one_put(void **state)
{
    static const size_t sizes[] = {0, 1, PART - 1, PART};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        pst_write_result result = {.struct_size = sizeof(result)};
        pst_writer *writer = open_writer(state, &with_sums, NULL);
        assert_int_equal(write_pattern(writer, sizes[i], 1000, NULL), PST_OK);
        assert_int_equal(pst_writer_finalize(writer, &result, NULL), PST_OK);
        assert_stored("k", sizes[i]);
        assert_int_equal(result.size, sizes[i]);
        assert_int_equal(result.n_parts, 0);
        assert_int_equal(result.crc32c, pst_crc32c(0, pattern, sizes[i]));
        assert_int_equal(mem.put_sum.length, 4);
    }
    assert_int_equal(mem.calls[MEM_UPLOAD_OPEN], 0);
}

static void test_writer__more_becomes_parts_with_sums_that_add_up(void **state)
{
    static const size_t steps[] = {MIB, 1000, PART, PART + 1};
    const size_t size = 5 * PART + 17;
    uint32_t crc = pst_crc32c(0, pattern, size);
    uint32_t last = pst_crc32c(0, pattern + 5 * PART, 17);
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        pst_write_result result = {.struct_size = sizeof(result)};
        pst_writer *writer = open_writer(state, &with_sums, NULL);
        assert_int_equal(write_pattern(writer, size, steps[i], NULL), PST_OK);
        assert_int_equal(pst_writer_finalize(writer, &result, NULL), PST_OK);
        assert_stored("k", size);
        assert_int_equal(result.n_parts, 6);
        assert_int_equal(result.crc32c, crc);
        assert_int_equal(mem.commit_sum.bytes[0], crc >> 24);
        assert_int_equal(mem.commit_sum.bytes[3], crc & 255);
        assert_int_equal(mem.part_sum.bytes[0], last >> 24);
        for (unsigned part = 0; part < 5; part++)
            assert_int_equal(mem.part_bytes[part], PART);
        assert_int_equal(mem.part_bytes[5], 17);
    }
    assert_int_equal(mem.calls[MEM_PUT], 0);
    assert_int_equal(mem.n_aborted, 0);
}

static void test_writer__a_hint_sizes_the_parts_and_may_be_wrong(void **state)
{
    static const size_t hints[] = {1, PART / 2, PART, PART + 1, 4 * PART, 9 * PART};
    static const size_t sizes[] = {0, 10, PART, PART + 1, 4 * PART, 5 * PART - 1};
    for (size_t i = 0; i < 6; i++) {
        for (size_t j = 0; j < 6; j++) {
            pst_write_options options = {.struct_size = sizeof(options), .size_hint = hints[i]};
            pst_writer *writer = open_writer(state, &options, NULL);
            assert_int_equal(write_pattern(writer, sizes[j], 5000, NULL), PST_OK);
            assert_int_equal(pst_writer_finalize(writer, NULL, NULL), PST_OK);
            assert_stored("k", sizes[j]);
        }
    }
    assert_int_equal(in_flight(*state), 0);
}

static void test_writer__a_hint_beyond_the_limits_fails_at_open(void **state)
{
    struct fixture *f = *state;
    pst_error err = PST_ERROR_INIT;
    pst_write_options options = {.struct_size = sizeof(options), .size_hint = 1001};
    mem.limits.object_max = 1000;
    f->store = memstore_open(f->context);
    assert_int_equal(pst_writer_open(f->store, str("k"), &options, NULL, &f->writer, &err),
                     PST_E_INVALID);
    assert_string_equal(err.message,
                        "PUT mem://box/k: 1001 bytes are more than the store's limit of 1000");
    assert_null(f->writer);
    pst_writer *writer = open_writer(state, NULL, NULL);
    assert_int_equal(write_pattern(writer, 1000, 999, NULL), PST_OK);
    assert_int_equal(pst_writer_write(writer, "x", 1, &err), PST_E_INVALID);
    assert_int_equal(memstore_count(), 0);
}

static void test_writer__parts_run_out_with_advice(void **state)
{
    pst_error err = PST_ERROR_INIT;
    mem.limits.parts_max = 4;
    mem.limits.part_max = 2 * PART;
    pst_writer *writer = open_writer(state, NULL, NULL);
    assert_int_equal(write_pattern(writer, 7 * PART, PART, &err), PST_OK);
    assert_int_equal(pst_writer_write(writer, "x", 1, &err), PST_E_INVALID);
    assert_string_equal(err.message,
                        "PUT mem://box/k: more than 458752 bytes do not fit 4 parts of 65536 to "
                        "131072 bytes: give size_hint");
    assert_int_equal(pst_writer_cancel(writer, NULL), PST_OK);
}

static void test_writer__a_store_that_cannot_put_gets_uploads_only(void **state)
{
    static const size_t sizes[] = {0, 5, PART, PART + 1};
    mem.caps &= ~PST_CAP_PUT;
    for (size_t i = 0; i < 4; i++) {
        pst_write_result result = {.struct_size = sizeof(result)};
        pst_writer *writer = open_writer(state, NULL, NULL);
        assert_int_equal(write_pattern(writer, sizes[i], 5000, NULL), PST_OK);
        assert_int_equal(pst_writer_finalize(writer, &result, NULL), PST_OK);
        assert_stored("k", sizes[i]);
        assert_int_equal(result.n_parts, (sizes[i] + PART - 1) / PART);
    }
    assert_int_equal(mem.calls[MEM_PUT], 0);
}

static void test_writer__a_store_without_uploads_gets_one_put_of_many_pieces(void **state)
{
    pst_write_result result = {.struct_size = sizeof(result)};
    mem.caps &= ~PST_CAP_UPLOAD;
    pst_writer *writer = open_writer(state, &with_sums, NULL);
    assert_int_equal(write_pattern(writer, 3 * PART + 5, 7777, NULL), PST_OK);
    assert_int_equal(pst_writer_finalize(writer, &result, NULL), PST_OK);
    assert_stored("k", 3 * PART + 5);
    assert_int_equal(mem.n_src_max, 4);
    assert_int_equal(result.crc32c, pst_crc32c(0, pattern, 3 * PART + 5));
}

static void test_writer__a_put_that_exceeds_the_budget_is_refused_with_both_sizes(void **state)
{
    struct fixture *f = *state;
    pst_error err = PST_ERROR_INIT;
    pst_write_options options = {.struct_size = sizeof(options), .size_hint = 4 * PART + 1};
    mem.caps &= ~PST_CAP_UPLOAD;
    pst_writer *writer = open_writer(state, NULL, NULL);
    assert_int_equal(write_pattern(writer, 4 * PART, PART, NULL), PST_OK);
    assert_int_equal(pst_writer_write(writer, "x", 1, &err), PST_E_OVER_BUDGET);
    assert_non_null(strstr(err.message, "262144"));
    pst_writer_free(writer);
    assert_int_equal(pst_writer_open(f->store, str("k"), &options, NULL, &f->writer, &err),
                     PST_E_OVER_BUDGET);
    assert_non_null(strstr(err.message, "262145"));
}

static void test_writer__a_part_that_exceeds_the_budget_is_refused_at_once(void **state)
{
    struct fixture *f = *state;
    pst_error err = PST_ERROR_INIT;
    pst_write_options options = {.struct_size = sizeof(options), .size_hint = 100};
    mem.limits.part_min = 4 * PART + 1;
    mem.limits.parts_max = 100;
    f->store = memstore_open(f->context);
    assert_int_equal(pst_writer_open(f->store, str("k"), NULL, NULL, &f->writer, &err),
                     PST_E_OVER_BUDGET);
    assert_string_equal(err.message,
                        "PUT mem://box/k: a part has 262145 bytes, the memory budget is "
                        "262144 bytes");
    pst_writer *writer = open_writer(state, &options, NULL); /* one put of less will do */
    assert_int_equal(pst_writer_write(writer, pattern, 100, &err), PST_OK);
    assert_int_equal(pst_writer_write(writer, pattern, 1, &err), PST_E_OVER_BUDGET);
    assert_non_null(strstr(err.message, "262145"));
}

static void test_writer__what_no_plan_can_hold_is_refused_before_it_is_sent(void **state)
{
    pst_error err = PST_ERROR_INIT;
    mem.limits.parts_max = 4;
    mem.limits.part_max = 2 * PART;
    pst_writer *writer = open_writer(state, NULL, NULL);
    assert_int_equal(pst_writer_write(writer, pattern, 7 * PART + 1, &err), PST_E_INVALID);
    assert_int_equal(mem.calls[MEM_UPLOAD_OPEN], 0);
    writer = open_writer(state, NULL, NULL);
    assert_int_equal(pst_writer_write(writer, pattern, 7 * PART, &err), PST_OK);
    assert_int_equal(pst_writer_finalize(writer, NULL, &err), PST_OK);
    assert_stored("k", 7 * PART);
}

static void test_writer__a_token_that_was_fired_before_ends_a_quick_finalize(void **state)
{
    pst_call call = {.struct_size = sizeof(call)};
    assert_int_equal(pst_cancel_new(&call.cancel), PST_OK);
    pst_writer *writer = open_writer(state, NULL, &call);
    assert_int_equal(pst_writer_write(writer, pattern, 10, NULL), PST_OK);
    pst_cancel_fire(call.cancel);
    assert_int_equal(pst_writer_finalize(writer, NULL, NULL), PST_E_CANCELLED);
    pst_writer_free(writer);
    ((struct fixture *)*state)->writer = NULL;
    pst_cancel_free(call.cancel);
    assert_int_equal(memstore_count(), 0);
}

/* ---- side by side ----------------------------------------------------------------------------- */

static void test_writer__parts_travel_side_by_side_up_to_the_number_asked_for(void **state)
{
    pst_write_options options = {.struct_size = sizeof(options), .max_in_flight = 3};
    mem.mode[MEM_UPLOAD_PART] = MEM_POOL;
    pst_writer *writer = open_writer(state, &options, NULL);
    assert_int_equal(write_pattern(writer, 40 * PART, 3 * PART, NULL), PST_OK);
    assert_int_equal(pst_writer_finalize(writer, NULL, NULL), PST_OK);
    assert_stored("k", 40 * PART);
    assert_in_range(mem.n_parts_max, 1, 3);
}

static void test_writer__parts_that_must_be_in_order_go_one_by_one(void **state)
{
    mem.caps &= ~PST_CAP_UPLOAD_UNORDERED;
    mem.mode[MEM_UPLOAD_PART] = MEM_POOL;
    pst_writer *writer = open_writer(state, NULL, NULL);
    assert_int_equal(write_pattern(writer, 20 * PART, MIB, NULL), PST_OK);
    assert_int_equal(pst_writer_finalize(writer, NULL, NULL), PST_OK);
    assert_stored("k", 20 * PART);
    assert_int_equal(mem.n_parts_max, 1);
}

static void test_writer__memory_stays_within_the_budget(void **state)
{
    struct fixture *f = *state;
    pst_stats stats = {.struct_size = sizeof(stats)};
    pst_write_options options = {.struct_size = sizeof(options), .max_in_flight = 32};
    mem.mode[MEM_UPLOAD_PART] = MEM_POOL;
    pst_writer *writer = open_writer(state, &options, NULL);
    assert_int_equal(write_pattern(writer, 16 * MIB, MIB, NULL), PST_OK);
    assert_int_equal(pst_writer_finalize(writer, NULL, NULL), PST_OK);
    assert_stored("k", 16 * MIB);
    pst_context_stats(f->context, &stats);
    assert_in_range(stats.peak_in_flight_bytes, PART, 4 * PART);
    assert_int_equal(stats.bytes_written, 16 * MIB);
}

static void test_writer__many_open_in_one_thread_do_not_wait_for_each_other(void **state)
{
    struct fixture *f = *state;
    pst_writer *writers[12];
    char key[8];
    mem.mode[MEM_UPLOAD_PART] = MEM_POOL;
    f->store = memstore_open(f->context);
    for (unsigned i = 0; i < 12; i++) {
        snprintf(key, sizeof(key), "k%u", i);
        assert_int_equal(pst_writer_open(f->store, str(key), NULL, NULL, &writers[i], NULL),
                         PST_OK);
    }
    for (unsigned round = 0; round < 10; round++) {
        for (unsigned i = 0; i < 12; i++) /* each holds a part that only we can fill */
            assert_int_equal(pst_writer_write(writers[i], pattern + round * 50000, 50000, NULL),
                             PST_OK);
    }
    for (unsigned i = 0; i < 12; i++) {
        snprintf(key, sizeof(key), "k%u", i);
        assert_int_equal(pst_writer_finalize(writers[i], NULL, NULL), PST_OK);
        pst_writer_free(writers[i]);
        assert_stored(key, 500000);
    }
}

/* ---- failures --------------------------------------------------------------------------------- */

static void test_writer__what_a_failed_put_keeps_is_not_waited_for(void **state)
{
    struct fixture *f = *state;
    const pst_call hasty = {.struct_size = sizeof(hasty), .timeout_ms = 1000, .max_attempts = 1};
    pst_writer *second = NULL;
    mem.caps &= ~PST_CAP_UPLOAD;
    mem.fault[MEM_PUT] = (struct mem_fault){1, 1, PST_E_UNAVAILABLE, PST_ERR_RETRYABLE, 0};
    pst_writer *writer = open_writer(state, NULL, &hasty);
    assert_int_equal(write_pattern(writer, 4 * PART, PART, NULL), PST_OK); /* the whole budget */
    assert_int_equal(pst_writer_finalize(writer, NULL, NULL), PST_E_UNAVAILABLE);
    assert_int_equal(pst_writer_open(f->store, str("l"), NULL, &hasty, &second, NULL), PST_OK);
    assert_int_equal(write_pattern(second, PART, PART, NULL), PST_OK);
    assert_int_equal(pst_writer_finalize(second, NULL, NULL), PST_OK);
    pst_writer_free(second);
    assert_int_equal(pst_writer_finalize(writer, NULL, NULL), PST_OK);
    assert_stored("k", 4 * PART);
    assert_stored("l", PART);
}

static void test_writer__a_part_is_sent_again_the_same(void **state)
{
    mem.fault[MEM_UPLOAD_PART] = (struct mem_fault){2, 2, PST_E_UNAVAILABLE,
                                                    PST_ERR_RETRYABLE | PST_ERR_MAYBE_APPLIED, 0};
    mem.fault[MEM_UPLOAD_OPEN] = (struct mem_fault){1, 1, PST_E_THROTTLED, PST_ERR_RETRYABLE, 0};
    mem.busy[MEM_UPLOAD_PART] = 3;
    mem.busy[MEM_UPLOAD_COMMIT] = 1;
    pst_writer *writer = open_writer(state, NULL, NULL);
    assert_int_equal(write_pattern(writer, 5 * PART, PART, NULL), PST_OK);
    assert_int_equal(pst_writer_finalize(writer, NULL, NULL), PST_OK);
    assert_stored("k", 5 * PART);
    assert_int_equal(mem.calls[MEM_UPLOAD_PART], 7);
    assert_int_equal(mem.calls[MEM_UPLOAD_OPEN], 2);
}

static void test_writer__after_a_failure_every_call_answers_the_same(void **state)
{
    pst_error err = PST_ERROR_INIT, again = PST_ERROR_INIT;
    mem.fault[MEM_UPLOAD_PART] = (struct mem_fault){2, 1, PST_E_NO_SPACE, 0, 0};
    pst_writer *writer = open_writer(state, NULL, NULL);
    assert_int_equal(write_pattern(writer, 16 * MIB, PART, &err), PST_E_NO_SPACE);
    assert_string_equal(err.message, "PUT part mem://box/k: told to fail");
    assert_int_equal(pst_writer_write(writer, "x", 1, &again), PST_E_NO_SPACE);
    assert_string_equal(again.message, err.message);
    assert_int_equal(pst_writer_finalize(writer, NULL, &again), PST_E_NO_SPACE);
    assert_string_equal(again.message, err.message);
    assert_int_equal(pst_writer_cancel(writer, NULL), PST_OK);
    assert_int_equal(pst_writer_write(writer, "x", 1, NULL), PST_E_CANCELLED);
    assert_int_equal(mem.n_aborted, 1);
    assert_int_equal(memstore_count(), 0);
}

static void test_writer__a_late_failure_comes_out_at_finalize(void **state)
{
    mem.fault[MEM_UPLOAD_PART] = (struct mem_fault){3, 1, PST_E_IO, 0, 0};
    pst_writer *writer = open_writer(state, NULL, NULL);
    assert_int_equal(write_pattern(writer, 2 * PART + 1, PART, NULL), PST_OK);
    assert_int_equal(pst_writer_finalize(writer, NULL, NULL), PST_E_IO);
    assert_int_equal(mem.calls[MEM_UPLOAD_COMMIT], 0);
}

static void test_writer__a_commit_whose_reply_is_lost_is_repeated_even_on_condition(void **state)
{
    pst_write_options options = {.struct_size = sizeof(options), .flags = PST_WRITE_CREATE_ONLY};
    mem.fault[MEM_UPLOAD_COMMIT] = (struct mem_fault){1, 1, PST_E_UNAVAILABLE,
                                                      PST_ERR_RETRYABLE | PST_ERR_MAYBE_APPLIED, 1};
    pst_writer *writer = open_writer(state, &options, NULL);
    assert_int_equal(write_pattern(writer, 2 * PART, PART, NULL), PST_OK);
    assert_int_equal(pst_writer_finalize(writer, NULL, NULL), PST_OK);
    assert_stored("k", 2 * PART);
    assert_int_equal(mem.calls[MEM_UPLOAD_COMMIT], 2);
}

static void test_writer__a_commit_that_failed_for_the_moment_may_be_asked_for_again(void **state)
{
    const pst_call once = {.struct_size = sizeof(once), .max_attempts = 1};
    const pst_rc transient = PST_E_UNAVAILABLE;
    for (size_t size = PART; size <= 2 * PART; size += PART) {
        enum mem_slot slot = size == PART ? MEM_PUT : MEM_UPLOAD_COMMIT;
        pst_error err = PST_ERROR_INIT;
        pst_writer *writer = open_writer(state, NULL, &once);
        mem.fault[slot] = (struct mem_fault){1, 2, transient, PST_ERR_RETRYABLE, 0};
        assert_int_equal(write_pattern(writer, size, PART, NULL), PST_OK);
        assert_int_equal(pst_writer_finalize(writer, NULL, &err), transient);
        assert_int_equal(pst_writer_finalize(writer, NULL, &err), transient);
        assert_int_equal(pst_writer_write(writer, "x", 1, NULL), PST_E_INVALID);
        assert_int_equal(pst_writer_finalize(writer, NULL, &err), PST_OK);
        assert_stored("k", size);
    }
}

static void test_writer__conditions_hold_at_the_end(void **state)
{
    pst_write_options options = {.struct_size = sizeof(options), .flags = PST_WRITE_CREATE_ONLY};
    memstore_add("k", 3);
    pst_writer *writer = open_writer(state, &options, NULL);
    assert_int_equal(pst_writer_write(writer, "x", 1, NULL), PST_OK);
    assert_int_equal(pst_writer_finalize(writer, NULL, NULL), PST_E_EXISTS);
    writer = open_writer(state, &options, NULL);
    assert_int_equal(write_pattern(writer, 3 * PART, MIB, NULL), PST_E_EXISTS);
    assert_int_equal(memstore_find("k", NULL), 3);
}

static void test_writer__a_short_commit_is_data_loss(void **state)
{
    pst_error err = PST_ERROR_INIT;
    pst_writer *writer = open_writer(state, NULL, NULL);
    mem.size_lie = -5;
    assert_int_equal(write_pattern(writer, 2 * PART, PART, NULL), PST_OK);
    assert_int_equal(pst_writer_finalize(writer, NULL, &err), PST_E_DATA_LOSS);
    assert_string_equal(err.message, "PUT mem://box/k: the store holds 131067 bytes of the 131072 "
                                     "that were written");
    assert_int_equal(pst_writer_finalize(writer, NULL, &err), PST_E_DATA_LOSS);
    assert_int_equal(mem.calls[MEM_UPLOAD_COMMIT], 1);
}

static void test_writer__a_size_that_commit_does_not_tell_is_looked_up(void **state)
{
    pst_write_result result = {.struct_size = sizeof(result)};
    pst_writer *writer = open_writer(state, NULL, NULL);
    mem.hides_size = 1;
    assert_int_equal(write_pattern(writer, 2 * PART, PART, NULL), PST_OK);
    assert_int_equal(pst_writer_finalize(writer, &result, NULL), PST_OK);
    assert_int_equal(result.size, 2 * PART);
    assert_int_equal(mem.calls[MEM_STAT], 1);
}

static void test_writer__an_upload_must_be_there(void **state)
{
    mem.quirk = MEM_GIVES_NOTHING;
    pst_writer *writer = open_writer(state, NULL, NULL);
    assert_int_equal(write_pattern(writer, 2 * PART, MIB, NULL), PST_E_INTERNAL);
}

/* ---- the end ---------------------------------------------------------------------------------- */

static void test_writer__finalize_twice_gives_the_same_result(void **state)
{
    pst_write_result one = {.struct_size = sizeof(one)}, two = {.struct_size = sizeof(two)};
    struct {
        uint32_t struct_size, etag_strength;
        uint64_t size;
    } old = {.struct_size = sizeof(old)};
    pst_writer *writer = open_writer(state, &with_sums, NULL);
    assert_int_equal(write_pattern(writer, 3 * PART, PART, NULL), PST_OK);
    assert_int_equal(pst_writer_finalize(writer, &one, NULL), PST_OK);
    assert_int_equal(pst_writer_finalize(writer, &two, NULL), PST_OK);
    assert_memory_equal(&one, &two, sizeof(one));
    assert_int_equal(pst_writer_finalize(writer, (pst_write_result *)(void *)&old, NULL), PST_OK);
    assert_int_equal(old.size, 3 * PART);
    assert_int_equal(old.struct_size, sizeof(old));
    assert_int_equal(pst_writer_write(writer, "x", 1, NULL), PST_E_INVALID);
    assert_int_equal(pst_writer_cancel(writer, NULL), PST_E_INVALID);
    assert_int_equal(mem.calls[MEM_UPLOAD_COMMIT], 1);
}

static void test_writer__cancel_and_free_leave_nothing_behind(void **state)
{
    struct fixture *f = *state;
    static const size_t sizes[] = {0, 10, PART, PART + 1, 5 * PART};
    mem.mode[MEM_UPLOAD_PART] = MEM_POOL;
    for (size_t i = 0; i < 5; i++) {
        pst_writer *writer = open_writer(state, NULL, NULL);
        assert_int_equal(write_pattern(writer, sizes[i], 7000, NULL), PST_OK);
        assert_int_equal(pst_writer_cancel(writer, NULL), PST_OK);
        assert_int_equal(pst_writer_cancel(writer, NULL), PST_OK);
        assert_int_equal(pst_writer_finalize(writer, NULL, NULL), PST_E_CANCELLED);
        writer = open_writer(state, NULL, NULL);
        assert_int_equal(write_pattern(writer, sizes[i], 7000, NULL), PST_OK);
        pst_writer_free(writer);
        f->writer = NULL;
        assert_int_equal(mem.n_uploads, 0);
        assert_int_equal(in_flight(f), 0);
    }
    assert_int_equal(mem.n_aborted, 4);
    assert_int_equal(memstore_count(), 0);
}

static void test_writer__an_abort_is_repeated_and_its_failure_told(void **state)
{
    pst_error err = PST_ERROR_INIT;
    pst_writer *writer = open_writer(state, NULL, NULL);
    assert_int_equal(write_pattern(writer, 2 * PART, PART, NULL), PST_OK);
    mem.fault[MEM_UPLOAD_ABORT] = (struct mem_fault){1, 1, PST_E_UNAVAILABLE, PST_ERR_RETRYABLE, 0};
    assert_int_equal(pst_writer_cancel(writer, NULL), PST_OK);
    assert_int_equal(mem.calls[MEM_UPLOAD_ABORT], 2);
    writer = open_writer(state, NULL, NULL);
    assert_int_equal(write_pattern(writer, 2 * PART, PART, NULL), PST_OK);
    mem.fault[MEM_UPLOAD_ABORT] = (struct mem_fault){1, 1, PST_E_DENIED, 0, 0};
    assert_int_equal(pst_writer_cancel(writer, &err), PST_E_DENIED);
    assert_string_equal(err.message, "PUT abort mem://box/k: told to fail");
    assert_int_equal(pst_writer_cancel(writer, NULL), PST_OK); /* once more */
    assert_int_equal(mem.n_aborted, 2);
}

static void test_writer__freed_while_a_part_is_stuck_it_is_aborted_when_that_ends(void **state)
{
    struct fixture *f = *state;
    mem.mode[MEM_UPLOAD_PART] = MEM_HOLD;
    mem.ignores_cancel = 1;
    pst_writer *writer = open_writer(state, NULL, NULL);
    assert_int_equal(write_pattern(writer, 2 * PART, PART, NULL), PST_OK);
    memstore_wait_held(2);
    pst_writer_free(writer); /* a second at most */
    f->writer = NULL;
    assert_int_equal(mem.n_uploads, 1);
    assert_int_equal(mem.n_aborted, 0);
    assert_int_equal(in_flight(f), 2 * PART); /* the parts', which the plugin still reads */
    memstore_release();
    memstore_wait_for(&mem.n_aborted, 1);
}

static void test_writer__an_upload_that_opens_too_late_is_aborted(void **state)
{
    struct fixture *f = *state;
    const pst_call hasty = {.struct_size = sizeof(hasty), .timeout_ms = 20};
    mem.mode[MEM_UPLOAD_OPEN] = MEM_HOLD;
    pst_writer *writer = open_writer(state, NULL, &hasty);
    assert_int_equal(write_pattern(writer, 3 * PART, MIB, NULL), PST_E_DEADLINE);
    pst_writer_free(writer); /* a second at most */
    f->writer = NULL;
    memstore_release();
    memstore_wait_for(&mem.n_aborted, 1);
}

static void test_writer__an_upload_that_is_being_opened_is_not_cut_off(void **state)
{
    struct fixture *f = *state;
    const pst_call hasty = {.struct_size = sizeof(hasty), .timeout_ms = 20};
    mem.mode[MEM_UPLOAD_OPEN] = MEM_HOLD;
    pst_writer *writer = open_writer(state, NULL, &hasty);
    assert_int_equal(write_pattern(writer, 3 * PART, MIB, NULL), PST_E_DEADLINE);
    memstore_release();
    pst_writer_free(writer);
    f->writer = NULL;
    memstore_wait_for(&mem.n_aborted, 1);
}

static void test_writer__an_upload_that_opens_when_its_store_is_gone_is_aborted(void **state)
{
    struct fixture *f = *state;
    const pst_call hasty = {.struct_size = sizeof(hasty), .timeout_ms = 20};
    mem.mode[MEM_UPLOAD_OPEN] = MEM_HOLD;
    pst_writer *writer = open_writer(state, NULL, &hasty);
    assert_int_equal(write_pattern(writer, 3 * PART, MIB, NULL), PST_E_DEADLINE);
    pst_writer_free(writer);
    f->writer = NULL;
    pst_store_free(f->store); /* a second at most */
    f->store = NULL;
    memstore_release();
    memstore_wait_for(&mem.n_aborted, 1);
}

static void test_writer__a_commit_nobody_waited_for_is_not_aborted_if_it_happened(void **state)
{
    struct fixture *f = *state;
    pst_error err = PST_ERROR_INIT;
    const pst_call hasty = {.struct_size = sizeof(hasty), .timeout_ms = 50};
    mem.mode[MEM_UPLOAD_COMMIT] = MEM_HOLD;
    mem.ignores_cancel = 1;
    pst_writer *writer = open_writer(state, NULL, &hasty);
    assert_int_equal(write_pattern(writer, 2 * PART, PART, NULL), PST_OK);
    assert_int_equal(pst_writer_finalize(writer, NULL, &err), PST_E_DEADLINE);
    assert_true(err.flags & PST_ERR_MAYBE_APPLIED);
    assert_int_equal(pst_writer_finalize(writer, NULL, &err), PST_E_DEADLINE);
    pst_writer_free(writer);
    f->writer = NULL;
    memstore_release();
    memstore_wait_for(&mem.n_uploads, 0);
    assert_int_equal(mem.n_aborted, 0);
    assert_stored("k", 2 * PART);
}

static void *run_release(void *arg)
{
    memstore_release();
    return arg;
}

static void test_writer__cancel_tells_that_what_nobody_waited_for_was_published(void **state)
{
    for (size_t size = PART; size <= 2 * PART; size += PART) { /* a put, an upload */
        enum mem_slot slot = size == PART ? MEM_PUT : MEM_UPLOAD_COMMIT;
        pst_call hasty = {.struct_size = sizeof(hasty), .timeout_ms = 50};
        pst_error err = PST_ERROR_INIT;
        pthread_t thread;
        mem.mode[slot] = MEM_HOLD;
        mem.ignores_cancel = 1;
        pst_writer *writer = open_writer(state, NULL, &hasty);
        assert_int_equal(write_pattern(writer, size, PART, NULL), PST_OK);
        assert_int_equal(pst_writer_finalize(writer, NULL, &err), PST_E_DEADLINE);
        assert_true(err.flags & PST_ERR_MAYBE_APPLIED);
        assert_int_equal(pthread_create(&thread, NULL, run_release, NULL), 0);
        assert_int_equal(pst_writer_cancel(writer, &err), PST_E_INVALID);
        assert_non_null(strstr(err.message, "published already"));
        pthread_join(thread, NULL);
        assert_stored("k", size);
        assert_int_equal(pst_writer_cancel(writer, NULL), PST_E_INVALID);
    }
    assert_int_equal(mem.n_aborted, 0);
}

static void test_writer__cancel_does_not_deny_what_may_have_been_published(void **state)
{
    const pst_call one = {.struct_size = sizeof(one), .max_attempts = 1};
    const uint32_t flags = PST_ERR_RETRYABLE | PST_ERR_MAYBE_APPLIED;
    for (size_t size = PART; size <= 2 * PART; size += PART) { /* a put, an upload */
        enum mem_slot slot = size == PART ? MEM_PUT : MEM_UPLOAD_COMMIT;
        pst_error err = PST_ERROR_INIT;
        mem.fault[slot] = (struct mem_fault){1, 99, PST_E_UNAVAILABLE, flags, 1};
        pst_writer *writer = open_writer(state, NULL, &one);
        assert_int_equal(write_pattern(writer, size, PART, NULL), PST_OK);
        assert_int_equal(pst_writer_finalize(writer, NULL, &err), PST_E_UNAVAILABLE);
        assert_true(err.flags & PST_ERR_MAYBE_APPLIED);
        mem.fault[slot] = (struct mem_fault){1, 99, PST_E_UNAVAILABLE, PST_ERR_RETRYABLE, 0};
        assert_int_equal(pst_writer_finalize(writer, NULL, &err), PST_E_UNAVAILABLE);
        assert_true(err.flags & PST_ERR_MAYBE_APPLIED); /* of the first */
        assert_int_equal(pst_writer_cancel(writer, &err), PST_E_UNAVAILABLE);
        assert_true(err.flags & PST_ERR_MAYBE_APPLIED);
        assert_non_null(strstr(err.message, "not known"));
        assert_stored("k", size);
    }
}

struct stuck_write {
    pst_writer *writer;
    pst_rc rc;
};

static void *run_write(void *arg)
{
    struct stuck_write *stuck = arg;
    stuck->rc = write_pattern(stuck->writer, 16 * MIB, MIB, NULL);
    return NULL;
}

static void test_writer__a_fired_token_ends_a_write_that_waits(void **state)
{
    pst_call call = {.struct_size = sizeof(call)};
    struct stuck_write stuck;
    pthread_t thread;
    assert_int_equal(pst_cancel_new(&call.cancel), PST_OK);
    mem.mode[MEM_UPLOAD_PART] = MEM_HOLD;
    stuck.writer = open_writer(state, NULL, &call);
    assert_int_equal(pthread_create(&thread, NULL, run_write, &stuck), 0);
    memstore_wait_held(4);
    pst_cancel_fire(call.cancel);
    pthread_join(thread, NULL);
    assert_int_equal(stuck.rc, PST_E_CANCELLED);
    assert_int_equal(pst_writer_cancel(stuck.writer, NULL), PST_OK); /* has its own time */
    assert_int_equal(mem.n_aborted, 1);
    pst_writer_free(stuck.writer);
    ((struct fixture *)*state)->writer = NULL;
    pst_cancel_free(call.cancel);
}

static void test_writer__a_write_that_waits_for_budget_can_be_cut_short(void **state)
{
    struct fixture *f = *state;
    const pst_call hasty = {.struct_size = sizeof(hasty), .timeout_ms = 50};
    pst_writer *second = NULL;
    mem.mode[MEM_UPLOAD_PART] = MEM_HOLD;
    pst_writer *writer = open_writer(state, NULL, NULL);
    assert_int_equal(write_pattern(writer, 4 * PART, PART, NULL), PST_OK);
    memstore_wait_held(4);
    assert_int_equal(pst_writer_open(f->store, str("l"), NULL, &hasty, &second, NULL), PST_OK);
    assert_int_equal(pst_writer_write(second, "x", 1, NULL), PST_E_DEADLINE);
    pst_writer_free(second);
}

static void test_writer__outlives_its_context_and_its_store(void **state)
{
    struct fixture *f = *state;
    pst_writer *writer = open_writer(state, NULL, NULL);
    mem.mode[MEM_UPLOAD_PART] = MEM_HOLD;
    assert_int_equal(write_pattern(writer, 3 * PART, PART, NULL), PST_OK);
    pst_store_free(f->store);
    pst_context_free(f->context);
    assert_int_equal(pst_writer_finalize(writer, NULL, NULL), PST_E_CANCELLED);
    pst_writer_free(writer);
    f->writer = NULL;
    f->store = NULL;
    memstore_wait_for(&mem.n_uploads, 0);
    assert_int_equal(memstore_count(), 0);
    f->context = memstore_context(0);
}

static void test_writer__in_a_fork_child_it_answers_forked_and_touches_nothing(void **state)
{
    int status = -1;
    pst_writer *writer = open_writer(state, NULL, NULL);
    assert_int_equal(write_pattern(writer, 2 * PART + 5, PART, NULL), PST_OK);
    pid_t child = fork();
    if (child == 0) {
        int is_right = pst_writer_write(writer, "x", 1, NULL) == PST_E_FORKED &&
                       pst_writer_finalize(writer, NULL, NULL) == PST_E_FORKED &&
                       pst_writer_cancel(writer, NULL) == PST_E_FORKED;
        pst_writer_free(writer);
        _exit(is_right && mem.n_aborted == 0 && mem.n_uploads == 1 ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(pst_writer_finalize(writer, NULL, NULL), PST_OK);
    assert_stored("k", 2 * PART + 5);
}

static pst_rc write_object(pst_store *store, size_t size)
{
    pst_writer *writer = NULL;
    pst_rc rc = pst_writer_open(store, str("t"), &with_sums, NULL, &writer, NULL);
    if (rc == PST_OK)
        rc = write_pattern(writer, size, PART, NULL);
    if (rc == PST_OK)
        rc = pst_writer_finalize(writer, NULL, NULL);
    pst_writer_free(writer);
    return rc;
}

static void test_writer__every_allocation_may_fail(void **state)
{
    (void)state;
    for (size_t size = PART; size <= 4 * PART; size += 3 * PART) {
        int was_reached = 1;
        for (unsigned n = 1; was_reached; n++) {
            long before = torture_live(); /* arenas that stay for the next part count as well */
            struct fixture own = {.context = memstore_context(0)};
            own.store = memstore_open(own.context);
            torture_arm(n);
            pst_rc rc = write_object(own.store, size);
            was_reached = torture_disarm();
            assert_int_equal(mem.n_uploads, 0);
            assert_int_equal(in_flight(&own), 0);
            pst_store_free(own.store);
            pst_context_free(own.context);
            assert_int_equal(torture_live(), before);
            assert_true(rc == PST_OK || (was_reached && rc == PST_E_NO_MEMORY));
            assert_true(was_reached || n > 8);
        }
        assert_stored("t", size);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
#define SMALL(name) cmocka_unit_test_setup_teardown(name, setup_small_budget, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_writer__what_fits_one_part_is_one_put),
        TEST(test_writer__more_becomes_parts_with_sums_that_add_up),
        TEST(test_writer__a_hint_sizes_the_parts_and_may_be_wrong),
        TEST(test_writer__a_hint_beyond_the_limits_fails_at_open),
        TEST(test_writer__parts_run_out_with_advice),
        TEST(test_writer__a_store_that_cannot_put_gets_uploads_only),
        TEST(test_writer__a_store_without_uploads_gets_one_put_of_many_pieces),
        SMALL(test_writer__a_put_that_exceeds_the_budget_is_refused_with_both_sizes),
        SMALL(test_writer__a_part_that_exceeds_the_budget_is_refused_at_once),
        TEST(test_writer__what_no_plan_can_hold_is_refused_before_it_is_sent),
        TEST(test_writer__a_token_that_was_fired_before_ends_a_quick_finalize),
        TEST(test_writer__parts_travel_side_by_side_up_to_the_number_asked_for),
        TEST(test_writer__parts_that_must_be_in_order_go_one_by_one),
        SMALL(test_writer__memory_stays_within_the_budget),
        SMALL(test_writer__many_open_in_one_thread_do_not_wait_for_each_other),
        SMALL(test_writer__what_a_failed_put_keeps_is_not_waited_for),
        TEST(test_writer__a_part_is_sent_again_the_same),
        TEST(test_writer__after_a_failure_every_call_answers_the_same),
        TEST(test_writer__a_late_failure_comes_out_at_finalize),
        TEST(test_writer__a_commit_whose_reply_is_lost_is_repeated_even_on_condition),
        TEST(test_writer__a_commit_that_failed_for_the_moment_may_be_asked_for_again),
        TEST(test_writer__conditions_hold_at_the_end),
        TEST(test_writer__a_short_commit_is_data_loss),
        TEST(test_writer__a_size_that_commit_does_not_tell_is_looked_up),
        TEST(test_writer__an_upload_must_be_there),
        TEST(test_writer__finalize_twice_gives_the_same_result),
        TEST(test_writer__cancel_and_free_leave_nothing_behind),
        TEST(test_writer__an_abort_is_repeated_and_its_failure_told),
        TEST(test_writer__freed_while_a_part_is_stuck_it_is_aborted_when_that_ends),
        TEST(test_writer__an_upload_that_opens_too_late_is_aborted),
        TEST(test_writer__an_upload_that_is_being_opened_is_not_cut_off),
        TEST(test_writer__an_upload_that_opens_when_its_store_is_gone_is_aborted),
        TEST(test_writer__a_commit_nobody_waited_for_is_not_aborted_if_it_happened),
        TEST(test_writer__cancel_tells_that_what_nobody_waited_for_was_published),
        TEST(test_writer__cancel_does_not_deny_what_may_have_been_published),
        TEST(test_writer__a_fired_token_ends_a_write_that_waits),
        SMALL(test_writer__a_write_that_waits_for_budget_can_be_cut_short),
        TEST(test_writer__outlives_its_context_and_its_store),
        TEST(test_writer__in_a_fork_child_it_answers_forked_and_touches_nothing),
        TEST(test_writer__every_allocation_may_fail),
    };
    for (size_t i = 0; i < sizeof(pattern); i++)
        pattern[i] = (unsigned char)(i * 2654435761u >> 13);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
