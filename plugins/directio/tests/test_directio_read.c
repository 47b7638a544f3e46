/* Exact bytes for any offset and length, at any address, and nothing outside the destination. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../file/tests/mini_host.h"
#include "direct_files.h"

#define MIB ((uint64_t)1 << 20)
#define SIZE (9 * MIB + 1234) /* of the object "o" */
#define SEED 7u

static const pst_str none = {NULL, 0};

static int setup(void **state)
{
    int rc = mini_setup(state);
    struct mini_fixture *f = *state;

    if (rc == 0)
        direct_make(f->dir, "o", SIZE, SEED);
    return rc;
}

static const uint64_t offsets[] = {0,    1,    511,     512,     513,         4095,
                                   4096, 4097, MIB - 1, MIB + 1, 8 * MIB + 3, SIZE - 1};
static const uint64_t lengths[] = {1,       511, 512,     513,         4095,    4096,        4097,
                                   MIB - 1, MIB, MIB + 1, 8 * MIB - 1, 8 * MIB, 8 * MIB + 1, SIZE};

static uint64_t expected(uint64_t offset, uint64_t length)
{
    return SIZE - offset < length ? SIZE - offset : length;
}

static void check_granted(struct mini_fixture *f)
{
    for (size_t i = 0; i < sizeof(offsets) / sizeof(offsets[0]); i++) {
        for (size_t j = 0; j < sizeof(lengths) / sizeof(lengths[0]); j++) {
            char *bytes;
            size_t n;
            assert_int_equal(mini_read(&f->mini, PST_STR("o"), offsets[i], lengths[j], 0, none,
                                       &bytes, &n, NULL),
                             PST_OK);
            assert_int_equal(n, expected(offsets[i], lengths[j]));
            assert_int_equal(pattern_differs(bytes, n, offsets[i], SEED), n);
            free(bytes);
        }
    }
}

static void test_read__any_range_is_exact_in_granted_memory(void **state)
{
    check_granted(*state);
}

static void test_read__any_range_is_exact_in_many_spans(void **state)
{
    struct mini_fixture *f = *state;

    f->mini.span_bytes = 100000;
    check_granted(f);
}

static void test_read__any_range_is_exact_without_a_ring(void **state)
{
    check_granted(*state);
}

/* Into memory of the caller, which ends at a page that traps. */
static pst_rc read_into(struct mini_fixture *f, char *bytes, uint64_t offset, uint64_t length,
                        uint64_t *n_read)
{
    struct mini_op op;
    const pst_iov dst = {bytes, (size_t)length};
    pst_read_result result = {.struct_size = sizeof(result)};
    const pst_read_args args = {.struct_size = sizeof(args),
                                .offset = offset,
                                .length = length,
                                .key = PST_STR("o"),
                                .dst = &dst,
                                .n_dst = 1};

    mini_op_init(&f->mini, &op);
    pst_rc rc = mini_op_wait(&op, f->mini.plugin->ops->read(f->mini.store, &op.op, &args, &result));
    *n_read = result.n_read;
    mini_op_fini(&op);
    return rc;
}

static void test_read__a_callers_memory_is_not_written_behind_the_last_byte(void **state)
{
    static const size_t shifts[] = {0, 1, 16, 511, 512, 4096};
    struct mini_fixture *f = *state;

    for (size_t i = 0; i < sizeof(offsets) / sizeof(offsets[0]); i++) {
        for (size_t j = 0; j < sizeof(lengths) / sizeof(lengths[0]); j++) {
            size_t shift = shifts[(i + j) % 6];
            struct guarded g = guarded_new((size_t)lengths[j], shift);
            uint64_t n, want = expected(offsets[i], lengths[j]);
            assert_int_equal(read_into(f, g.bytes, offsets[i], lengths[j], &n), PST_OK);
            assert_int_equal(n, want);
            assert_int_equal(pattern_differs(g.bytes, want, offsets[i], SEED), want);
            assert_true(bytes_are(g.bytes + want, (size_t)(lengths[j] - want) + shift, 0x5a));
            guarded_free(&g);
        }
    }
}

static void test_read__memory_behind_a_short_object_is_left_alone(void **state)
{
    struct mini_fixture *f = *state;
    const size_t capacity = (SIZE + 8192) / 4096 * 4096; /* so that its start is aligned */
    struct guarded g = guarded_new(capacity, 0);
    uint64_t n;

    assert_int_equal(read_into(f, g.bytes, 0, capacity, &n), PST_OK);
    assert_int_equal(n, SIZE);
    assert_int_equal(pattern_differs(g.bytes, SIZE, 0, SEED), SIZE);
    assert_true(bytes_are(g.bytes + SIZE, capacity - SIZE, 0x5a));
    guarded_free(&g);
}

static void test_read__the_page_cache_stays_out_of_it(void **state)
{
    struct mini_fixture *f = *state;
    struct guarded g = guarded_new(SIZE, 0);
    uint64_t n;

    direct_evict(f->dir, "o");
    if (direct_cached(f->dir, "o") > 0)
        skip(); /* a file system that lives in the page cache */
    assert_int_equal(read_into(f, g.bytes, 0, SIZE, &n), PST_OK);
    assert_int_equal(direct_cached(f->dir, "o"), 0);
    guarded_free(&g);
}

static void test_read__small_requests_use_the_page_cache_when_told_so(void **state)
{
    struct mini_fixture *f = *state;
    struct guarded g = guarded_new(SIZE, 0);
    uint64_t n;

    direct_evict(f->dir, "o");
    if (direct_cached(f->dir, "o") > 0)
        skip();
    assert_int_equal(read_into(f, g.bytes, 0, 65535, &n), PST_OK);
    assert_true(direct_cached(f->dir, "o") > 0);
    direct_evict(f->dir, "o");
    assert_int_equal(read_into(f, g.bytes, 0, 65536, &n), PST_OK);
    assert_int_equal(direct_cached(f->dir, "o"), 0);
    guarded_free(&g);
}

static int setup_min_io(void **state)
{
    int rc = mini_setup_with(state, "min_io_size=65536");
    struct mini_fixture *f = *state;

    if (rc == 0)
        direct_make(f->dir, "o", SIZE, SEED);
    return rc;
}

static int setup_no_ring(void **state)
{
    int rc = mini_setup_with(state, "io_uring=off");
    struct mini_fixture *f = *state;

    if (rc == 0)
        direct_make(f->dir, "o", SIZE, SEED);
    return rc;
}

static void truncate_object(void *arg)
{
    struct mini_fixture *f = arg;
    char *path = mini_path(f->dir, "o");

    assert_int_equal(truncate(path, 3 * MIB + 5), 0);
    free(path);
}

static void test_read__an_object_that_becomes_shorter_is_an_error(void **state)
{
    struct mini_fixture *f = *state;

    f->mini.on_dst = truncate_object;
    f->mini.on_dst_arg = f;
    assert_int_equal(mini_read(&f->mini, PST_STR("o"), 0, SIZE, 0, none, NULL, NULL, NULL),
                     PST_E_CHANGED);
}

static double now_s(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void test_read__a_cancelled_read_ends_soon_and_leaves_the_memory_alone(void **state)
{
    struct mini_fixture *f = *state;
    struct guarded other = guarded_new(SIZE, 0);
    uint64_t n;

    f->mini.is_threaded = 1;
    for (int i = 0; i < 20; i++) {
        struct mini_op op;
        struct guarded g = guarded_new(SIZE, 0);
        const pst_iov dst = {g.bytes, SIZE};
        pst_read_result result = {.struct_size = sizeof(result)};
        const pst_read_args args = {.struct_size = sizeof(args),
                                    .length = SIZE,
                                    .key = PST_STR("o"),
                                    .dst = &dst,
                                    .n_dst = 1};
        mini_op_init(&f->mini, &op);
        pst_rc submitted = f->mini.plugin->ops->read(f->mini.store, &op.op, &args, &result);
        double start = now_s();
        f->mini.plugin->ops->cancel(f->mini.store, &op.op);
        pst_rc rc = mini_op_wait(&op, submitted);
        assert_true(rc == PST_OK || rc == PST_E_CANCELLED);
        assert_true(now_s() - start < 0.5);
        memset(g.bytes, 0x33, SIZE);
        mini_op_fini(&op);
        /* What was still under way would be served before this one. */
        assert_int_equal(read_into(f, other.bytes, 0, SIZE, &n), PST_OK);
        assert_true(bytes_are(g.bytes, SIZE, 0x33));
        guarded_free(&g);
    }
    guarded_free(&other);
}

static void test_read__a_cancel_between_requests_stops_the_read(void **state)
{
    struct mini_fixture *f = *state;

    f->mini.cancel_at_dst = 1;
    assert_int_equal(mini_read(&f->mini, PST_STR("o"), 0, SIZE, 0, none, NULL, NULL, NULL),
                     PST_E_CANCELLED);
}

struct reader {
    struct mini_fixture *f;
    unsigned number;
};

static void *read_all(void *arg)
{
    struct reader *r = arg;

    for (unsigned i = 0; i < 6; i++) {
        uint64_t offset = r->number * 4099u + i * 77777u, n, want = SIZE - offset;
        struct guarded g = guarded_new((size_t)want, r->number % 3 * 16);
        assert_int_equal(read_into(r->f, g.bytes, offset, want, &n), PST_OK);
        assert_int_equal(n, want);
        assert_int_equal(pattern_differs(g.bytes, want, offset, SEED), want);
        guarded_free(&g);
    }
    return NULL;
}

static void test_read__many_threads_read_side_by_side(void **state)
{
    enum { N = 12 };
    struct reader readers[N];
    pthread_t threads[N];

    for (unsigned i = 0; i < N; i++) {
        readers[i] = (struct reader){*state, i};
        assert_int_equal(pthread_create(&threads[i], NULL, read_all, &readers[i]), 0);
    }
    for (unsigned i = 0; i < N; i++)
        pthread_join(threads[i], NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_read__any_range_is_exact_in_granted_memory, setup,
                                        mini_teardown),
        cmocka_unit_test_setup_teardown(test_read__any_range_is_exact_in_many_spans, setup,
                                        mini_teardown),
        cmocka_unit_test_setup_teardown(test_read__any_range_is_exact_without_a_ring, setup_no_ring,
                                        mini_teardown),
        cmocka_unit_test_setup_teardown(
            test_read__a_callers_memory_is_not_written_behind_the_last_byte, setup, mini_teardown),
        cmocka_unit_test_setup_teardown(test_read__memory_behind_a_short_object_is_left_alone,
                                        setup, mini_teardown),
        cmocka_unit_test_setup_teardown(test_read__the_page_cache_stays_out_of_it, setup,
                                        mini_teardown),
        cmocka_unit_test_setup_teardown(test_read__small_requests_use_the_page_cache_when_told_so,
                                        setup_min_io, mini_teardown),
        cmocka_unit_test_setup_teardown(test_read__an_object_that_becomes_shorter_is_an_error,
                                        setup, mini_teardown),
        cmocka_unit_test_setup_teardown(
            test_read__a_cancelled_read_ends_soon_and_leaves_the_memory_alone, setup,
            mini_teardown),
        cmocka_unit_test_setup_teardown(test_read__a_cancel_between_requests_stops_the_read, setup,
                                        mini_teardown),
        cmocka_unit_test_setup_teardown(test_read__many_threads_read_side_by_side, setup,
                                        mini_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
