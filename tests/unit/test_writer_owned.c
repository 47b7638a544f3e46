/* The writer without copies: memory that it lends, buffers that it references. The store in memory notes
 * where the spans lie that it is given: a copy would lie elsewhere. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <pthread.h>

#include "memstore.h"
#include "torture.h"

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)
#define PART (64 * KIB)

struct fixture {
    pst_context *context;
    pst_store *store;
    pst_writer *writer;
};

static _Alignas(4096) unsigned char pattern[2 * MIB];
static atomic_uint n_released;

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    memstore_reset();
    mem.limits.io_preferred = PART;
    f->context = memstore_context(64 * MIB);
    atomic_store(&n_released, 0);
    *state = f;
    return 0;
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
    memstore_wait_for(&mem.n_uploads, 0);
    assert_int_equal(mem.has_overlap, 0);
    assert_int_equal(in_flight(f), 0);
    pst_store_free(f->store);
    pst_context_free(f->context);
    free(f);
    memstore_reset();
    return 0;
}

static const pst_write_options with_sums = {.struct_size = sizeof(with_sums),
                                            .sums = 1u << PST_SUM_CRC32C};

static pst_writer *open_writer(void **state, const pst_write_options *options)
{
    struct fixture *f = *state;
    if (!f->store)
        f->store = memstore_open(f->context);
    pst_writer_free(f->writer);
    f->writer = NULL;
    mem.n_spans = 0;
    assert_int_equal(pst_writer_open(f->store, PST_STR("k"), options, NULL, &f->writer, NULL),
                     PST_OK);
    return f->writer;
}

static void assert_stored(size_t size)
{
    const unsigned char *data = NULL;
    assert_int_equal(memstore_find("k", &data), (int64_t)size);
    assert_memory_equal(data, pattern, size);
}

static void on_release(void *arg)
{
    (void)arg;
    atomic_fetch_add(&n_released, 1);
}

/* Lend the bytes of the pattern from `at`. */
static pst_buffer *wrap(size_t at, size_t size)
{
    pst_buffer *buffer = NULL;
    assert_int_equal(pst_buffer_wrap(pattern + at, size, on_release, NULL, &buffer, NULL), PST_OK);
    return buffer;
}

static pst_rc write_owned(pst_writer *writer, size_t at, size_t size)
{
    pst_buffer *buffer = wrap(at, size);
    pst_rc rc = pst_writer_write_owned(writer, buffer, NULL);
    pst_buffer_unref(buffer);
    return rc;
}

/* Fill what the writer lends, in pieces of `step`. */
static pst_rc write_lent(pst_writer *writer, size_t at, size_t size, size_t step)
{
    pst_rc rc = PST_OK;
    while (size > 0 && rc == PST_OK) {
        void *to = NULL;
        size_t len = 0, want = size < step ? size : step;
        rc = pst_writer_reserve(writer, want, &to, &len, NULL);
        if (rc != PST_OK)
            break;
        assert_in_range(len, 1, want);
        memcpy(to, pattern + at, len);
        rc = pst_writer_commit(writer, len, NULL);
        at += len;
        size -= len;
    }
    return rc;
}

/* ---- where the bytes lie ---------------------------------------------------------------------- */

static void test_owned__lent_memory_is_what_the_store_reads(void **state)
{
    static const size_t sizes[] = {1000, PART, PART + 1, 3 * PART + 17};
    for (size_t i = 0; i < 4; i++) {
        void *lent[8];
        size_t n_lent = 0, len = 0;
        pst_write_result result = {.struct_size = sizeof(result)};
        pst_writer *writer = open_writer(state, &with_sums);
        for (size_t at = 0; at < sizes[i]; at += len) {
            assert_int_equal(pst_writer_reserve(writer, sizes[i] - at, &lent[n_lent], &len, NULL),
                             PST_OK);
            memcpy(lent[n_lent++], pattern + at, len);
            assert_int_equal(pst_writer_commit(writer, len, NULL), PST_OK);
        }
        assert_int_equal(pst_writer_finalize(writer, &result, NULL), PST_OK);
        assert_stored(sizes[i]);
        assert_int_equal(result.crc32c, pst_crc32c(0, pattern, sizes[i]));
        assert_int_equal(mem.n_spans, n_lent);
        for (size_t j = 0; j < n_lent; j++)
            assert_ptr_equal(mem.spans[j].ptr, lent[j]);
    }
}

static void test_owned__a_buffer_is_read_where_it_lies_and_kept_as_long(void **state)
{
    pst_write_result result = {.struct_size = sizeof(result)};
    const size_t size = 3 * PART + PART / 2;
    pst_writer *writer = open_writer(state, &with_sums);
    mem.mode[MEM_UPLOAD_PART] = MEM_HOLD;
    assert_int_equal(write_owned(writer, 0, size), PST_OK);
    memstore_wait_held(3);
    assert_int_equal(in_flight(*state), 4 * PART); /* ours or not, it counts */
    mem.mode[MEM_UPLOAD_PART] = MEM_INLINE;
    assert_int_equal(atomic_load(&n_released), 0);
    memstore_release();
    assert_int_equal(pst_writer_finalize(writer, &result, NULL), PST_OK);
    assert_int_equal(atomic_load(&n_released), 1);
    assert_stored(size);
    assert_int_equal(mem.n_spans, 4);
    for (size_t i = 0; i < 4; i++) {
        size_t at = (size_t)((unsigned char *)mem.spans[i].ptr - pattern);
        assert_true(at < size && at % PART == 0); /* held parts ended in another order */
        assert_int_equal(mem.spans[i].len, at == 3 * PART ? PART / 2 : PART);
    }
    assert_int_equal(result.crc32c, pst_crc32c(0, pattern, size));
    assert_int_equal(mem.commit_sum.bytes[3], result.crc32c & 255);
}

static void test_owned__a_buffer_that_fits_one_part_is_one_put_without_a_copy(void **state)
{
    pst_writer *writer = open_writer(state, NULL);
    assert_int_equal(write_owned(writer, 0, PART - 1), PST_OK);
    assert_int_equal(pst_writer_finalize(writer, NULL, NULL), PST_OK);
    assert_stored(PART - 1);
    assert_int_equal(mem.calls[MEM_PUT], 1);
    assert_ptr_equal(mem.spans[0].ptr, pattern);
    pst_writer_free(writer);
    ((struct fixture *)*state)->writer = NULL;
    assert_int_equal(atomic_load(&n_released), 1);
}

static void test_owned__a_store_without_uploads_gets_buffers_of_any_number(void **state)
{
    mem.caps &= ~PST_CAP_UPLOAD;
    pst_writer *writer = open_writer(state, &with_sums);
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(write_owned(writer, i * 50000, 50000), PST_OK);
    assert_int_equal(pst_writer_finalize(writer, NULL, NULL), PST_OK);
    assert_stored(200000);
    assert_ptr_equal(mem.spans[0].ptr, pattern);
}

static void test_owned__few_bytes_are_copied(void **state)
{
    pst_writer *writer = open_writer(state, NULL);
    assert_int_equal(write_owned(writer, 0, 1000), PST_OK);
    assert_int_equal(atomic_load(&n_released), 1); /* nobody needs it any more */
    assert_int_equal(pst_writer_finalize(writer, NULL, NULL), PST_OK);
    assert_stored(1000);
    assert_ptr_not_equal(mem.spans[0].ptr, pattern);
}

static void test_owned__all_ways_mix_in_any_order(void **state)
{
    static const size_t pieces[] = {1, 100, 4095, 40000, PART, PART + 1, 100000, 200001};
    unsigned seed = 1;
    for (unsigned round = 0; round < 60; round++) {
        pst_write_result result = {.struct_size = sizeof(result)};
        pst_write_options options = with_sums;
        size_t at = 0;
        options.size_hint = round % 3 == 0 ? 0 : round % 3 == 1 ? 70001 : MIB;
        mem.limits.io_align = mem.limits.mem_align = round % 2 ? 4096 : 0;
        mem.mode[MEM_UPLOAD_PART] = round % 4 ? MEM_POOL : MEM_INLINE;
        pst_store_free(((struct fixture *)*state)->store);
        ((struct fixture *)*state)->store = NULL;
        pst_writer *writer = open_writer(state, &options);
        for (unsigned i = 0; i < 8; i++) {
            seed = seed * 1103515245u + 12345u;
            size_t len = pieces[(seed >> 16) % 8];
            unsigned way = (seed >> 8) % 3;
            pst_rc rc = way == 0   ? pst_writer_write(writer, pattern + at, len, NULL)
                        : way == 1 ? write_owned(writer, at, len)
                                   : write_lent(writer, at, len, 10000);
            assert_int_equal(rc, PST_OK);
            at += len;
        }
        assert_int_equal(pst_writer_finalize(writer, &result, NULL), PST_OK);
        assert_stored(at);
        assert_int_equal(result.bytes_written, at);
        assert_int_equal(result.crc32c, pst_crc32c(0, pattern, at));
    }
}

/* ---- alignment -------------------------------------------------------------------------------- */

static void assert_aligned(size_t n_parts)
{
    for (size_t i = 0; i < mem.n_spans; i++) {
        assert_int_equal((uintptr_t)mem.spans[i].ptr % 4096, 0);
        if (i + 1 < mem.n_spans)
            assert_int_equal(mem.spans[i].len % 4096, 0);
    }
    assert_true(mem.n_spans >= n_parts);
}

static void test_owned__alignment_copies_only_what_must_be(void **state)
{
    const size_t size = 2 * PART + 40000;
    size_t n_copied = 0;
    mem.limits.io_align = mem.limits.mem_align = 4096;
    pst_writer *writer = open_writer(state, NULL);
    assert_int_equal(write_owned(writer, 0, size), PST_OK);
    assert_int_equal(pst_writer_finalize(writer, NULL, NULL), PST_OK);
    assert_stored(size);
    assert_aligned(3);
    for (size_t i = 0; i < mem.n_spans; i++) {
        unsigned char *ptr = mem.spans[i].ptr;
        if (ptr < pattern || ptr >= pattern + size)
            n_copied += mem.spans[i].len;
    }
    assert_int_equal(n_copied, 40000 % 4096);
}

static void test_owned__after_an_odd_piece_the_next_buffer_travels_from_its_first_boundary(
    void **state)
{
    mem.limits.io_align = 4096; /* of lengths only */
    pst_writer *writer = open_writer(state, NULL);
    assert_int_equal(pst_writer_write(writer, pattern, 1000, NULL), PST_OK);
    assert_int_equal(write_owned(writer, 1000, PART - 1000), PST_OK);
    assert_int_equal(pst_writer_finalize(writer, NULL, NULL), PST_OK);
    assert_stored(PART);
    assert_int_equal(mem.n_spans, 2);
    assert_int_equal(mem.spans[0].len, 4096);
    assert_ptr_equal(mem.spans[1].ptr, pattern + 4096);
}

static void test_owned__a_misaligned_buffer_is_copied_to_where_it_is_aligned(void **state)
{
    mem.limits.io_align = mem.limits.mem_align = 4096;
    pst_writer *writer = open_writer(state, NULL);
    assert_int_equal(pst_writer_write(writer, pattern, 1, NULL), PST_OK);
    assert_int_equal(write_owned(writer, 1, 3 * PART), PST_OK);
    assert_int_equal(pst_writer_finalize(writer, NULL, NULL), PST_OK);
    assert_stored(3 * PART + 1);
    assert_aligned(4);
}

/* ---- refusals --------------------------------------------------------------------------------- */

static void test_owned__what_was_not_lent_cannot_be_committed(void **state)
{
    pst_error err = PST_ERROR_INIT;
    void *to = NULL;
    size_t len = 0;
    pst_writer *writer = open_writer(state, NULL);
    assert_int_equal(pst_writer_commit(writer, 1, &err), PST_E_INVALID);
    assert_int_equal(pst_writer_reserve(writer, 0, &to, &len, &err), PST_E_INVALID);
    assert_int_equal(pst_writer_reserve(writer, 100, &to, &len, &err), PST_OK);
    assert_int_equal(len, 100);
    assert_int_equal(pst_writer_commit(writer, 101, &err), PST_E_INVALID);
    assert_string_equal(err.message, "101 bytes are committed, 100 were lent");
    memcpy(to, pattern, 100);
    assert_int_equal(pst_writer_commit(writer, 60, &err), PST_OK); /* a refusal changes nothing */
    assert_int_equal(pst_writer_commit(writer, 1, &err), PST_E_INVALID);
    assert_int_equal(pst_writer_reserve(writer, 100, &to, &len, &err), PST_OK);
    assert_int_equal(pst_writer_write(writer, pattern + 60, 40, &err), PST_OK); /* takes it back */
    assert_int_equal(pst_writer_commit(writer, 1, &err), PST_E_INVALID);
    assert_int_equal(pst_writer_write_owned(writer, NULL, &err), PST_E_INVALID);
    assert_int_equal(pst_writer_reserve(writer, 100, &to, &len, &err), PST_OK);
    assert_int_equal(pst_writer_finalize(writer, NULL, &err), PST_OK);
    assert_stored(100);
    assert_int_equal(pst_writer_reserve(writer, 1, &to, &len, &err), PST_E_INVALID);
    assert_null(to);
}

static void test_owned__nothing_committed_is_nothing_written(void **state)
{
    static const size_t sizes[] = {0, PART, 2 * PART};
    for (size_t i = 0; i < 6; i++) {
        void *to = NULL;
        size_t len = 0;
        if (i == 3) {
            mem.caps &= ~PST_CAP_PUT;
            pst_store_free(((struct fixture *)*state)->store);
            ((struct fixture *)*state)->store = NULL;
        }
        pst_writer *writer = open_writer(state, NULL);
        assert_int_equal(write_owned(writer, 0, sizes[i % 3]), PST_OK);
        assert_int_equal(pst_writer_reserve(writer, 10, &to, &len, NULL), PST_OK);
        assert_int_equal(pst_writer_commit(writer, 0, NULL), PST_OK);
        assert_int_equal(pst_writer_finalize(writer, NULL, NULL), PST_OK);
        assert_stored(sizes[i % 3]);
    }
}

static void test_owned__a_full_store_lends_nothing(void **state)
{
    pst_error err = PST_ERROR_INIT;
    void *to = NULL;
    size_t len = 0;
    mem.limits.object_max = 100;
    pst_writer *writer = open_writer(state, NULL);
    assert_int_equal(write_lent(writer, 0, 100, 99), PST_OK);
    assert_int_equal(pst_writer_reserve(writer, 1, &to, &len, &err), PST_E_INVALID);
    assert_string_equal(err.message, "PUT mem://box/k: more bytes than the store's limit of 100");
    assert_int_equal(memstore_count(), 0);
    assert_int_equal(pst_writer_finalize(writer, NULL, NULL), PST_OK);
    assert_stored(100);
}

static void test_owned__when_all_parts_are_full_only_bytes_are_a_failure(void **state)
{
    pst_error err = PST_ERROR_INIT;
    void *to = NULL;
    size_t len = 0;
    mem.limits.parts_max = 2;
    mem.limits.part_max = PART;
    pst_writer *writer = open_writer(state, NULL);
    assert_int_equal(write_lent(writer, 0, 2 * PART, PART), PST_OK);
    assert_int_equal(pst_writer_reserve(writer, 1, &to, &len, &err), PST_E_INVALID);
    assert_non_null(strstr(err.message, "do not fit 2 parts"));
    assert_int_equal(pst_writer_finalize(writer, NULL, NULL), PST_OK);
    assert_stored(2 * PART);
    writer = open_writer(state, NULL);
    assert_int_equal(write_lent(writer, 0, 2 * PART, PART), PST_OK);
    assert_int_equal(pst_writer_write(writer, "x", 1, NULL), PST_E_INVALID);
    assert_int_equal(pst_writer_finalize(writer, NULL, NULL), PST_E_INVALID);
}

/* ---- what every way carries ------------------------------------------------------------------- */

static pst_rc write_by(pst_writer *writer, unsigned way, size_t size)
{
    return way == 0   ? pst_writer_write(writer, pattern, size, NULL)
           : way == 1 ? write_owned(writer, 0, size)
                      : write_lent(writer, 0, size, MIB);
}

static void test_owned__attributes_conditions_and_results_hold_on_every_way(void **state)
{
    const pst_attr attr = {.struct_size = sizeof(attr), .content_type = PST_STR("text/plain")};
    for (unsigned i = 0; i < 6; i++) {
        char checksum[24];
        pst_attr *found = NULL;
        pst_write_result result = {.struct_size = sizeof(result)};
        pst_write_options options = with_sums;
        const size_t size = i < 3 ? PART - 5 : 2 * PART + 5;
        options.attr = &attr;
        pst_writer *writer = open_writer(state, &options);
        assert_int_equal(write_by(writer, i % 3, size), PST_OK);
        assert_int_equal(pst_writer_finalize(writer, &result, NULL), PST_OK);
        assert_int_equal(result.size, size);
        assert_int_equal(result.bytes_written, size);
        assert_true(result.ratio == 1.0);
        snprintf(checksum, sizeof(checksum), "crc32c:%08x", pst_crc32c(0, pattern, size));
        assert_string_equal(result.checksum, checksum);
        assert_int_equal(result.n_parts, i < 3 ? 0 : 3);
        assert_int_equal(
            pst_stat(((struct fixture *)*state)->store, PST_STR("k"), NULL, NULL, &found, NULL),
            PST_OK);
        assert_memory_equal(found->content_type.ptr, "text/plain", 10);
        pst_attr_free(found);

        options.flags = PST_WRITE_CREATE_ONLY;
        writer = open_writer(state, &options);
        pst_rc rc = write_by(writer, i % 3, size);
        assert_int_equal(rc == PST_OK ? pst_writer_finalize(writer, NULL, NULL) : rc, PST_E_EXISTS);
    }
}

static void test_owned__without_a_sum_there_is_no_text_and_empty_objects_have_ratio_1(void **state)
{
    pst_write_result result = {.struct_size = sizeof(result)};
    pst_writer *writer = open_writer(state, NULL);
    assert_int_equal(pst_writer_finalize(writer, &result, NULL), PST_OK);
    assert_string_equal(result.checksum, "");
    assert_true(result.ratio == 1.0);
    writer = open_writer(state, &with_sums);
    assert_int_equal(pst_writer_finalize(writer, &result, NULL), PST_OK);
    assert_string_equal(result.checksum, "crc32c:00000000");
}

/* ---- the end ---------------------------------------------------------------------------------- */

static void test_owned__dropped_writers_let_go_of_every_buffer(void **state)
{
    struct fixture *f = *state;
    for (unsigned i = 0; i < 4; i++) {
        pst_writer *writer = open_writer(state, NULL);
        mem.mode[MEM_UPLOAD_PART] = MEM_HOLD;
        mem.ignores_cancel = i % 2 == 0;
        atomic_store(&n_released, 0);
        assert_int_equal(write_owned(writer, 0, 2 * PART + PART / 2), PST_OK);
        memstore_wait_held(2);
        if (i < 2) {
            pst_writer_free(writer);
            f->writer = NULL;
        } else {
            const pst_rc rc = pst_writer_write(writer, pattern, 1, NULL);
            assert_int_equal(rc, PST_OK);
            pst_writer_free(writer);
            f->writer = NULL;
        }
        assert_int_equal(atomic_load(&n_released), mem.ignores_cancel ? 0 : 1);
        mem.mode[MEM_UPLOAD_PART] = MEM_INLINE;
        memstore_release();
        memstore_wait_for(&mem.n_uploads, 0);
        assert_int_equal(atomic_load(&n_released), 1);
        assert_int_equal(memstore_count(), 0);
    }
    assert_int_equal(mem.n_aborted, 4);
}

static pst_rc write_object(pst_store *store, size_t size)
{
    pst_writer *writer = NULL;
    pst_buffer *buffer = wrap(0, size - 1000);
    pst_rc rc = pst_writer_open(store, PST_STR("k"), &with_sums, NULL, &writer, NULL);
    if (rc == PST_OK)
        rc = pst_writer_write_owned(writer, buffer, NULL);
    pst_buffer_unref(buffer);
    if (rc == PST_OK)
        rc = write_lent(writer, size - 1000, 1000, 600);
    if (rc == PST_OK)
        rc = pst_writer_finalize(writer, NULL, NULL);
    pst_writer_free(writer);
    return rc;
}

static void test_owned__every_allocation_may_fail(void **state)
{
    (void)state;
    for (size_t size = PART; size <= 4 * PART; size += 3 * PART) {
        int was_reached = 1;
        for (unsigned n = 2; was_reached; n++) { /* the first is the buffer's own */
            long before = torture_live();
            struct fixture own = {.context = memstore_context(0)};
            own.store = memstore_open(own.context);
            atomic_store(&n_released, 0);
            torture_arm(n);
            pst_rc rc = write_object(own.store, size);
            was_reached = torture_disarm();
            assert_int_equal(mem.n_uploads, 0);
            assert_int_equal(in_flight(&own), 0);
            assert_int_equal(atomic_load(&n_released), 1);
            pst_store_free(own.store);
            pst_context_free(own.context);
            assert_int_equal(torture_live(), before);
            assert_true(rc == PST_OK || (was_reached && rc == PST_E_NO_MEMORY));
            assert_true(was_reached || n > 8);
        }
        assert_stored(size);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_owned__lent_memory_is_what_the_store_reads),
        TEST(test_owned__a_buffer_is_read_where_it_lies_and_kept_as_long),
        TEST(test_owned__a_buffer_that_fits_one_part_is_one_put_without_a_copy),
        TEST(test_owned__a_store_without_uploads_gets_buffers_of_any_number),
        TEST(test_owned__few_bytes_are_copied),
        TEST(test_owned__all_ways_mix_in_any_order),
        TEST(test_owned__alignment_copies_only_what_must_be),
        TEST(test_owned__after_an_odd_piece_the_next_buffer_travels_from_its_first_boundary),
        TEST(test_owned__a_misaligned_buffer_is_copied_to_where_it_is_aligned),
        TEST(test_owned__what_was_not_lent_cannot_be_committed),
        TEST(test_owned__nothing_committed_is_nothing_written),
        TEST(test_owned__a_full_store_lends_nothing),
        TEST(test_owned__when_all_parts_are_full_only_bytes_are_a_failure),
        TEST(test_owned__attributes_conditions_and_results_hold_on_every_way),
        TEST(test_owned__without_a_sum_there_is_no_text_and_empty_objects_have_ratio_1),
        TEST(test_owned__dropped_writers_let_go_of_every_buffer),
        TEST(test_owned__every_allocation_may_fail),
    };
    for (size_t i = 0; i < sizeof(pattern); i++)
        pattern[i] = (unsigned char)(i * 2654435761u >> 13);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
