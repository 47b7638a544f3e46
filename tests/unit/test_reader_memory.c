/* How much memory the streaming reader takes, and the checksums of what it delivers. */
#include "reader_trial.h"

#include <unistd.h>

#include "io/reader_state.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
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
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
