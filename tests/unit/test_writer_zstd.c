/* The writer that compresses: what is stored is zstd, what is told is true, and nothing is left behind. */
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <zstd.h>

#include "memstore.h"
#include "torture.h"

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)
#define PART (64 * KIB)
#define FRAME (64 * KIB)

struct fixture {
    pst_context *context;
    pst_store *store;
    pst_writer *writer;
};

static unsigned char text[4 * MIB]; /* the first half compresses well, the second not at all */

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
    return setup_budget(state, 300 * KIB);
}

/* Room for the parts that four frames make, but then not for a frame beside them. */
static int setup_part_budget(void **state)
{
    return setup_budget(state, 360 * KIB);
}

/* A frame that is being compressed lets go when it is done, on a thread of the pool. */
static void wait_for_budget(const struct fixture *f)
{
    pst_stats stats = {.struct_size = sizeof(stats)};
    do {
        pst_context_stats(f->context, &stats);
        sched_yield();
    } while (stats.in_flight_bytes > 0);
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    pst_writer_free(f->writer);
    memstore_wait_for(&mem.n_uploads, 0);
    assert_int_equal(mem.has_overlap, 0);
    wait_for_budget(f);
    pst_store_free(f->store);
    pst_context_free(f->context);
    free(f);
    memstore_reset();
    return 0;
}

static const pst_write_options packed = {.struct_size = sizeof(packed),
                                         .sums = 1u << PST_SUM_CRC32C,
                                         .zstd_level = 3,
                                         .zstd_workers = 2,
                                         .zstd_frame_bytes = FRAME};

static pst_writer *open_writer(void **state, const pst_write_options *options, const pst_call *call)
{
    struct fixture *f = *state;
    if (!f->store)
        f->store = memstore_open(f->context);
    pst_writer_free(f->writer);
    f->writer = NULL;
    assert_int_equal(pst_writer_open(f->store, PST_STR("k"), options, call, &f->writer, NULL),
                     PST_OK);
    return f->writer;
}

static uint32_t crc_of(pst_sum sum)
{
    assert_int_equal(sum.length, 4);
    return (uint32_t)sum.bytes[0] << 24 | (uint32_t)sum.bytes[1] << 16 |
           (uint32_t)sum.bytes[2] << 8 | sum.bytes[3];
}

/* libzstd makes `size` bytes from `from` of what is stored, and the result tells no lie. */
static void require_stored(const unsigned char *from, size_t size, const pst_write_result *result)
{
    const unsigned char *data = NULL;
    int64_t stored = memstore_find("k", &data);
    unsigned char *plain = malloc(size + 1);
    char checksum[24];
    assert_true(stored > 0);
    assert_int_equal(ZSTD_decompress(plain, size + 1, data, (size_t)stored), size);
    assert_memory_equal(plain, from, size);
    free(plain);
    assert_int_equal(result->size, stored);
    assert_int_equal(result->bytes_written, size);
    assert_true(result->ratio == (double)size / (double)stored);
    assert_int_equal(result->crc32c, pst_crc32c(0, from, size));
    snprintf(checksum, sizeof(checksum), "crc32c:%08x", pst_crc32c(0, from, size));
    assert_string_equal(result->checksum, checksum);
    assert_int_equal(crc_of(result->n_parts > 0 ? mem.commit_sum : mem.put_sum),
                     pst_crc32c(0, data, (size_t)stored)); /* of what the store holds */
}

static pst_rc write_lent(pst_writer *writer, const unsigned char *from, size_t size)
{
    pst_rc rc = PST_OK;
    while (size > 0 && rc == PST_OK) {
        void *to = NULL;
        size_t len = 0;
        rc = pst_writer_reserve(writer, size, &to, &len, NULL);
        if (rc != PST_OK)
            break;
        memcpy(to, from, len);
        rc = pst_writer_commit(writer, len, NULL);
        from += len;
        size -= len;
    }
    return rc;
}

static pst_rc write_owned(pst_writer *writer, unsigned char *from, size_t size)
{
    pst_buffer *buffer = NULL;
    pst_rc rc = pst_buffer_wrap(from, size, NULL, NULL, &buffer, NULL);
    if (rc == PST_OK)
        rc = pst_writer_write_owned(writer, buffer, NULL);
    pst_buffer_unref(buffer);
    return rc;
}

static pst_rc write_by(pst_writer *writer, unsigned way, unsigned char *from, size_t size)
{
    return way == 0   ? pst_writer_write(writer, from, size, NULL)
           : way == 1 ? write_owned(writer, from, size)
                      : write_lent(writer, from, size);
}

/* ---- what is stored --------------------------------------------------------------------------- */

static void test_zstd__every_way_and_length_is_read_by_libzstd(void **state)
{
    static const size_t sizes[] = {0, 1, FRAME, FRAME + 1, MIB, 3 * MIB + 5};
    for (unsigned way = 0; way < 3; way++) {
        for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
            for (unsigned half = 0; half < 2; half++) {
                unsigned char *from = text + half * (MIB - 5);
                pst_write_result result = {.struct_size = sizeof(result)};
                mem.mode[MEM_UPLOAD_PART] = i % 2 ? MEM_POOL : MEM_INLINE;
                pst_writer *writer = open_writer(state, &packed, NULL);
                assert_int_equal(write_by(writer, way, from, sizes[i]), PST_OK);
                assert_int_equal(pst_writer_finalize(writer, &result, NULL), PST_OK);
                require_stored(from, sizes[i], &result);
            }
        }
    }
}

static void test_zstd__what_fits_one_part_compressed_is_one_put(void **state)
{
    pst_write_result result = {.struct_size = sizeof(result)};
    pst_write_options options = packed;
    options.size_hint = MIB; /* of what is given: 16 parts if it were stored so */
    pst_writer *writer = open_writer(state, &options, NULL);
    assert_int_equal(pst_writer_write(writer, text, MIB, NULL), PST_OK);
    assert_int_equal(pst_writer_finalize(writer, &result, NULL), PST_OK);
    require_stored(text, MIB, &result);
    assert_true(result.ratio > 16.0);
    assert_int_equal(result.n_parts, 0);
    assert_int_equal(mem.calls[MEM_UPLOAD_OPEN], 0);
    assert_int_equal(mem.calls[MEM_PUT], 1);
}

static void test_zstd__put_compresses_too(void **state)
{
    struct fixture *f = *state;
    pst_write_result result = {.struct_size = sizeof(result)};
    const pst_iov src[2] = {{text, 1000}, {text + 1000, 2 * MIB - 1000}};
    f->store = memstore_open(f->context);
    mem.limits.object_max = 0;
    assert_int_equal(pst_put(f->store, PST_STR("k"), src, 2, &packed, NULL, &result, NULL), PST_OK);
    require_stored(text, 2 * MIB, &result);
}

static void test_zstd__what_fits_only_compressed_is_stored(void **state)
{
    struct fixture *f = *state;
    pst_error err = PST_ERROR_INIT;
    pst_write_result result = {.struct_size = sizeof(result)};
    const pst_iov src = {text, MIB};
    const pst_iov noise = {text + 2 * MIB, MIB};
    mem.limits.object_max = MIB / 2;
    f->store = memstore_open(f->context);
    assert_int_equal(pst_put(f->store, PST_STR("k"), &src, 1, &packed, NULL, &result, NULL),
                     PST_OK);
    require_stored(text, MIB, &result);
    assert_int_equal(pst_put(f->store, PST_STR("l"), &noise, 1, &packed, NULL, NULL, &err),
                     PST_E_INVALID);
    assert_non_null(strstr(err.message, "limit of 524288"));
    assert_int_equal(memstore_find("l", NULL), -1);
}

static void test_zstd__a_known_length_fits_the_parts_whatever_comes_out(void **state)
{
    struct fixture *f = *state;
    pst_write_options options = packed;
    mem.limits.parts_max = 4;
    mem.limits.part_max = 8 * MIB;
    options.size_hint = 2 * MIB;
    for (unsigned half = 0; half < 2; half++) {
        pst_write_result result = {.struct_size = sizeof(result)};
        pst_writer *writer = open_writer(state, &options, NULL);
        assert_int_equal(pst_writer_write(writer, text + half * 2 * MIB, 2 * MIB, NULL), PST_OK);
        assert_int_equal(pst_writer_finalize(writer, &result, NULL), PST_OK);
        require_stored(text + half * 2 * MIB, 2 * MIB, &result);
        assert_in_range(result.n_parts, 0, 4);
    }
    (void)f;
}

static void test_zstd__a_budget_of_a_few_frames_is_enough(void **state)
{
    pst_write_result result = {.struct_size = sizeof(result)};
    mem.mode[MEM_UPLOAD_PART] = MEM_POOL;
    pst_writer *writer = open_writer(state, &packed, NULL);
    assert_int_equal(write_lent(writer, text, MIB), PST_OK);
    assert_int_equal(pst_writer_write(writer, text + MIB, 2 * MIB, NULL), PST_OK);
    assert_int_equal(pst_writer_finalize(writer, &result, NULL), PST_OK);
    require_stored(text, 3 * MIB, &result);
}

/* ---- refusals --------------------------------------------------------------------------------- */

static void test_zstd__levels_beyond_22_and_copies_are_refused(void **state)
{
    static const int32_t levels[] = {-1, 23, INT32_MIN};
    struct fixture *f = *state;
    const pst_iov src = {text, 10};
    f->store = memstore_open(f->context);
    memstore_add("from", 3);
    for (size_t i = 0; i < 3; i++) {
        pst_error err = PST_ERROR_INIT;
        pst_write_options options = {.struct_size = sizeof(options), .zstd_level = levels[i]};
        assert_int_equal(pst_writer_open(f->store, PST_STR("k"), &options, NULL, &f->writer, &err),
                         PST_E_INVALID);
        assert_null(f->writer);
        assert_non_null(strstr(err.message, "22"));
        assert_int_equal(pst_put(f->store, PST_STR("k"), &src, 1, &options, NULL, NULL, NULL),
                         PST_E_INVALID);
    }
    assert_int_equal(memstore_count(), 1);
    assert_int_equal(mem.calls[MEM_PUT], 0);
}

static void test_zstd__a_store_that_holds_less_than_was_stored_is_data_loss(void **state)
{
    pst_error err = PST_ERROR_INIT;
    pst_writer *writer = open_writer(state, &packed, NULL);
    mem.size_lie = -1;
    assert_int_equal(pst_writer_write(writer, text + 2 * MIB, MIB, NULL), PST_OK);
    assert_int_equal(pst_writer_finalize(writer, NULL, &err), PST_E_DATA_LOSS);
    assert_non_null(strstr(err.message, "the store holds"));
}

static void test_zstd__a_part_that_fails_is_named_and_stays(void **state)
{
    pst_error err = PST_ERROR_INIT, again = PST_ERROR_INIT;
    pst_rc rc = PST_OK;
    mem.fault[MEM_UPLOAD_PART] = (struct mem_fault){3, 1, PST_E_NO_SPACE, 0, 0};
    pst_writer *writer = open_writer(state, &packed, NULL);
    for (size_t at = 2 * MIB; at < 4 * MIB && rc == PST_OK; at += PART)
        rc = pst_writer_write(writer, text + at, PART, &err);
    if (rc == PST_OK)
        rc = pst_writer_finalize(writer, NULL, &err);
    assert_int_equal(rc, PST_E_NO_SPACE);
    assert_string_equal(err.message, "PUT part mem://box/k: told to fail");
    assert_int_equal(pst_writer_finalize(writer, NULL, &again), PST_E_NO_SPACE);
    assert_string_equal(again.message, err.message);
    assert_int_equal(pst_writer_cancel(writer, NULL), PST_OK);
    assert_int_equal(mem.n_aborted, 1);
    assert_int_equal(memstore_count(), 0);
}

static void test_zstd__a_put_that_failed_for_the_moment_may_be_asked_for_again(void **state)
{
    const pst_call once = {.struct_size = sizeof(once), .max_attempts = 1};
    const pst_rc transient = PST_E_UNAVAILABLE;
    for (size_t at = 0; at <= 2 * MIB; at += 2 * MIB) { /* one put; an upload */
        pst_write_result result = {.struct_size = sizeof(result)};
        enum mem_slot slot = at == 0 ? MEM_PUT : MEM_UPLOAD_COMMIT;
        pst_writer *writer = open_writer(state, &packed, &once);
        mem.fault[slot] = (struct mem_fault){1, 1, transient, PST_ERR_RETRYABLE, 0};
        assert_int_equal(pst_writer_write(writer, text + at, MIB, NULL), PST_OK);
        assert_int_equal(pst_writer_finalize(writer, NULL, NULL), transient);
        assert_int_equal(pst_writer_finalize(writer, &result, NULL), PST_OK);
        require_stored(text + at, MIB, &result);
    }
}

/* ---- the end ---------------------------------------------------------------------------------- */

static void test_zstd__dropped_in_the_middle_it_leaves_nothing(void **state)
{
    struct fixture *f = *state;
    static const size_t sizes[] = {0, 10, FRAME, 5 * FRAME + 3, MIB};
    mem.mode[MEM_UPLOAD_PART] = MEM_POOL;
    for (unsigned i = 0; i < 10; i++) {
        pst_writer *writer = open_writer(state, &packed, NULL);
        assert_int_equal(write_by(writer, i % 3, text + 2 * MIB, sizes[i % 5]), PST_OK);
        if (i < 5) {
            assert_int_equal(pst_writer_cancel(writer, NULL), PST_OK);
            assert_int_equal(pst_writer_finalize(writer, NULL, NULL), PST_E_CANCELLED);
        }
        pst_writer_free(writer);
        f->writer = NULL;
        memstore_wait_for(&mem.n_uploads, 0);
        wait_for_budget(f);
    }
    assert_int_equal(memstore_count(), 0);
}

static void test_zstd__a_timeout_ends_a_write_whose_parts_are_stuck(void **state)
{
    struct fixture *f = *state;
    const pst_call hasty = {.struct_size = sizeof(hasty), .timeout_ms = 50};
    pst_rc rc = PST_OK;
    mem.mode[MEM_UPLOAD_PART] = MEM_HOLD;
    pst_writer *writer = open_writer(state, &packed, &hasty);
    for (size_t at = 2 * MIB; at < 4 * MIB && rc == PST_OK; at += PART)
        rc = pst_writer_write(writer, text + at, PART, NULL);
    assert_int_equal(rc, PST_E_DEADLINE);
    pst_writer_free(writer);
    f->writer = NULL;
    assert_int_equal(mem.n_aborted, 1);
    assert_int_equal(memstore_count(), 0);
}

static void test_zstd__parts_that_travel_and_a_full_budget_make_it_wait(void **state)
{
    const pst_call hasty = {.struct_size = sizeof(hasty), .timeout_ms = 50};
    pst_rc rc = PST_OK;
    mem.mode[MEM_UPLOAD_PART] = MEM_HOLD;
    pst_writer *writer = open_writer(state, &packed, &hasty);
    for (size_t at = 2 * MIB; at < 4 * MIB && rc == PST_OK; at += PART)
        rc = pst_writer_write(writer, text + at, PART, NULL);
    assert_int_equal(rc, PST_E_DEADLINE);
    assert_true(mem.calls[MEM_UPLOAD_PART] > 0);
}

static void test_zstd__in_a_fork_child_it_answers_forked(void **state)
{
    int status = -1;
    pst_write_result result = {.struct_size = sizeof(result)};
    pst_writer *writer = open_writer(state, &packed, NULL);
    assert_int_equal(pst_writer_write(writer, text, MIB + 5, NULL), PST_OK);
    pid_t child = fork();
    if (child == 0) {
        void *to = NULL;
        size_t len = 0;
        int is_right = pst_writer_write(writer, "x", 1, NULL) == PST_E_FORKED &&
                       pst_writer_reserve(writer, 1, &to, &len, NULL) == PST_E_FORKED &&
                       pst_writer_finalize(writer, NULL, NULL) == PST_E_FORKED;
        pst_writer_free(writer);
        _exit(is_right ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(pst_writer_finalize(writer, &result, NULL), PST_OK);
    require_stored(text, MIB + 5, &result);
}

static pst_rc write_object(pst_store *store)
{
    pst_writer *writer = NULL;
    pst_rc rc = pst_writer_open(store, PST_STR("k"), &packed, NULL, &writer, NULL);
    if (rc == PST_OK)
        rc = pst_writer_write(writer, text + 2 * MIB, 3 * FRAME, NULL);
    if (rc == PST_OK)
        rc = write_lent(writer, text, 1000);
    if (rc == PST_OK)
        rc = pst_writer_finalize(writer, NULL, NULL);
    pst_writer_free(writer);
    return rc;
}

static void test_zstd__every_allocation_may_fail(void **state)
{
    int was_reached = 1;
    (void)state;
    for (unsigned n = 1; was_reached; n++) {
        struct fixture own = {.context = memstore_context(0)};
        own.store = memstore_open(own.context);
        torture_arm(n);
        pst_rc rc = write_object(own.store);
        was_reached = torture_disarm();
        assert_int_equal(mem.n_uploads, 0);
        wait_for_budget(&own);
        pst_store_free(own.store);
        pst_context_free(own.context);
        assert_true(rc == PST_OK || (was_reached && rc == PST_E_NO_MEMORY));
        assert_true(was_reached || n > 12);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
#define SMALL(name) cmocka_unit_test_setup_teardown(name, setup_small_budget, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_zstd__every_way_and_length_is_read_by_libzstd),
        TEST(test_zstd__what_fits_one_part_compressed_is_one_put),
        TEST(test_zstd__put_compresses_too),
        TEST(test_zstd__what_fits_only_compressed_is_stored),
        TEST(test_zstd__a_known_length_fits_the_parts_whatever_comes_out),
        SMALL(test_zstd__a_budget_of_a_few_frames_is_enough),
        TEST(test_zstd__levels_beyond_22_and_copies_are_refused),
        TEST(test_zstd__a_store_that_holds_less_than_was_stored_is_data_loss),
        TEST(test_zstd__a_part_that_fails_is_named_and_stays),
        TEST(test_zstd__a_put_that_failed_for_the_moment_may_be_asked_for_again),
        TEST(test_zstd__dropped_in_the_middle_it_leaves_nothing),
        TEST(test_zstd__a_timeout_ends_a_write_whose_parts_are_stuck),
        cmocka_unit_test_setup_teardown(test_zstd__parts_that_travel_and_a_full_budget_make_it_wait,
                                        setup_part_budget, teardown),
        TEST(test_zstd__in_a_fork_child_it_answers_forked),
        TEST(test_zstd__every_allocation_may_fail),
    };
    unsigned seed = 1;
    for (size_t i = 0; i < sizeof(text); i++) {
        seed = seed * 1103515245u + 12345u;
        text[i] = i < sizeof(text) / 2 ? (unsigned char)("penstock\n"[i % 9])
                                       : (unsigned char)(seed >> 16);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
