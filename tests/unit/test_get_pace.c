/* How long ranges are and how many travel at once: tables, and stores made of arithmetic. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "io/get_pace.h"

#define KIB ((uint64_t)1 << 10)
#define MIB ((uint64_t)1 << 20)
#define GIB ((uint64_t)1 << 30)
#define TIB ((uint64_t)1 << 40)
#define MS_NS 1000000u

static const pst_limits no_limits = {.struct_size = sizeof(no_limits)};

static struct pst_pace_start start_of(uint64_t rest)
{
    return (struct pst_pace_start){
        .limits = &no_limits, .rest = rest, .max_at_plugin = 256, .cores = 2};
}

/* ---- the beginning ----------------------------------------------------------------------------- */

static void test_pace__starts_from_rest_store_cores_and_what_was_asked(void **state)
{
    const pst_limits small = {.io_preferred = 256 * KIB}, odd = {.io_align = 4096},
                     big = {.io_preferred = 128 * MIB};
    const struct {
        const char *what;
        struct pst_pace_start start;
        uint64_t part_bytes;
        uint32_t in_flight;
    } cases[] = {
        {"one byte", {.limits = &no_limits, .rest = 1, .max_at_plugin = 256, .cores = 2}, MIB, 4},
        {"shared out", {&no_limits, 40 * MIB, 0, 0, 256, 2, 0, 0, 0, 0}, 5 * MIB, 4},
        {"a GiB", {&no_limits, GIB, 0, 0, 256, 2, 0, 0, 0, 0}, 8 * MIB, 4},
        {"5 TiB", {&no_limits, 5 * TIB, 0, 0, 256, 2, 0, 0, 0, 0}, 8 * MIB, 4},
        {"unknown", {&no_limits, PST_UNKNOWN, 0, 0, 256, 2, 0, 0, 0, 0}, 8 * MIB, 4},
        {"one core", {&no_limits, GIB, 0, 0, 256, 1, 0, 0, 0, 0}, 8 * MIB, 4},
        {"64 cores", {&no_limits, GIB, 0, 0, 256, 64, 0, 0, 0, 0}, 8 * MIB, 16},
        {"serial store", {&no_limits, GIB, 0, 0, 1, 2, 0, 0, 0, 0}, 8 * MIB, 1},
        {"store that likes it small", {&small, GIB, 0, 0, 256, 2, 0, 0, 0, 0}, 256 * KIB, 4},
        {"store that likes it big", {&big, TIB, 0, 0, 256, 2, 0, 0, 0, 0}, 128 * MIB, 4},
        {"on a grid", {&odd, 12 * MIB + 8, 0, 0, 256, 2, 0, 0, 0, 0}, 1540 * KIB, 4},
        {"asked", {&no_limits, GIB, 5000, 7, 256, 2, 0, 0, 0, 0}, 5000, 7},
        {"asked, on a grid", {&odd, GIB, 5000, 64, 256, 2, 0, 0, 0, 0}, 8192, 64},
        {"asked for more than the store takes",
         {&no_limits, GIB, 0, 64, 3, 2, 0, 0, 0, 0},
         8 * MIB,
         3},
        {"learned", {&no_limits, TIB, 0, 0, 256, 2, 12 * MIB, 40, 0, 0}, 12 * MIB, 40},
        {"learned, small rest", {&no_limits, 64 * MIB, 0, 0, 256, 2, 32 * MIB, 32, 0, 0}, MIB, 32},
        {"learned, asked", {&no_limits, TIB, 9 * MIB, 2, 256, 2, 32 * MIB, 40, 0, 0}, 9 * MIB, 2},
        {"summed", {&no_limits, GIB, 0, 0, 256, 2, 0, 0, 0, 1}, 2 * MIB, 4},
        {"a file system learned elsewhere",
         {&no_limits, TIB, 0, 0, 256, 2, 0, 64, 1, 0},
         8 * MIB,
         16},
        {"a file system, asked", {&no_limits, TIB, 0, 64, 256, 2, 0, 0, 1, 0}, 8 * MIB, 64},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct pst_pace pace;
        memset(&pace, 0, sizeof(pace));
        pst_pace_init(&pace, &cases[i].start);
        if (pace.part_bytes != cases[i].part_bytes || pace.in_flight != cases[i].in_flight)
            fail_msg("%s: %llu bytes, %u at once", cases[i].what,
                     (unsigned long long)pace.part_bytes, pace.in_flight);
    }
}

static void test_pace__no_request_for_a_crumb_unless_the_length_was_asked_for(void **state)
{
    struct pst_pace pace = {.part_bytes = 8 * MIB};
    (void)state;
    assert_int_equal(pst_pace_length(&pace, 0), 0);
    assert_int_equal(pst_pace_length(&pace, 1), 1);
    assert_int_equal(pst_pace_length(&pace, 8 * MIB + 17), 8 * MIB + 17);
    assert_int_equal(pst_pace_length(&pace, 10 * MIB), 8 * MIB);
    assert_int_equal(pst_pace_length(&pace, PST_UNKNOWN), 8 * MIB);
    pace.is_part_fixed = 1;
    assert_int_equal(pst_pace_length(&pace, 8 * MIB + 17), 8 * MIB);
}

/* ---- length follows the clock ------------------------------------------------------------------- */

static void note_many(struct pst_pace *pace, unsigned n, uint64_t took_ns)
{
    for (unsigned i = 0; i < n; i++)
        pst_pace_note(pace, pace->part_bytes, took_ns, 0, 0);
}

static void test_pace__quick_ranges_grow_slow_ones_shrink_within_bounds(void **state)
{
    struct pst_pace pace = {.n_took = 0};
    const struct pst_pace_start start = start_of(TIB);
    (void)state;
    pst_pace_init(&pace, &start);
    note_many(&pace, 100, MS_NS); /* at the speed of memory: as the store prefers */
    assert_int_equal(pace.part_bytes, 8 * MIB);
    pace.part_bytes = MIB;
    note_many(&pace, 3, 19u * MS_NS / 10);
    assert_int_equal(pace.part_bytes, MIB); /* a few do not tell */
    note_many(&pace, 1, 19u * MS_NS / 10);
    assert_int_equal(pace.part_bytes, 2 * MIB);
    pace.part_bytes = 16 * MIB;
    note_many(&pace, 100, 500u * MS_NS);
    assert_int_equal(pace.part_bytes, 16 * MIB);
    note_many(&pace, 4, 1500u * MS_NS);
    assert_int_equal(pace.part_bytes, 8 * MIB);
    note_many(&pace, 100, 1500u * MS_NS);
    assert_int_equal(pace.part_bytes, MIB);
}

static void test_pace__a_length_that_was_asked_for_stays(void **state)
{
    struct pst_pace pace = {.n_took = 0};
    struct pst_pace_start start = start_of(TIB);
    (void)state;
    start.asked_part_bytes = 3 * MIB;
    pst_pace_init(&pace, &start);
    note_many(&pace, 100, 1000);
    note_many(&pace, 100, 5000u * MS_NS);
    assert_int_equal(pace.part_bytes, 3 * MIB);
}

static void test_pace__summed_ranges_stay_in_the_cache_while_memory_is_the_limit(void **state)
{
    struct pst_pace pace = {.n_took = 0};
    struct pst_pace_start start = start_of(TIB);
    (void)state;
    start.is_summed = 1;
    pst_pace_init(&pace, &start);
    note_many(&pace, 100, MS_NS / 2); /* 4 GB/s */
    assert_int_equal(pace.part_bytes, 2 * MIB);
    note_many(&pace, 100, 20u * MS_NS); /* 0.1 GB/s: the sum does not matter */
    assert_int_equal(pace.part_bytes, 8 * MIB);
    note_many(&pace, 100, 200u * MS_NS);
    assert_int_equal(pace.part_bytes, 8 * MIB);
}

static void test_pace__a_sum_cuts_no_range_that_the_store_prefers(void **state)
{
    const pst_limits big = {.io_preferred = 8 * MIB};
    struct pst_pace pace = {.n_took = 0};
    struct pst_pace_start start = start_of(TIB);
    (void)state;
    start.limits = &big;
    start.is_summed = 1;
    pst_pace_init(&pace, &start);
    assert_int_equal(pace.part_bytes, 8 * MIB);
    note_many(&pace, 100, MS_NS / 2);
    assert_int_equal(pace.part_bytes, 8 * MIB);
}

/* ---- stores made of arithmetic ------------------------------------------------------------------ */

/* A range takes the latency, and its share of the bandwidth among those under way. `cores`: as if each
 * range needed one, at so many bytes per ns. */
struct model {
    uint64_t latency_ns;
    double bytes_per_ns; /* of the whole store; 0: no limit */
    double noise;        /* of each range, up to this fraction */
    uint32_t others;     /* who share the store with those under way */
    unsigned random;
    uint64_t now_ns;
    uint64_t end_ns[64];
    uint64_t length[64], begun_ns[64];
    uint64_t free_ns; /* when the store's line is free again */
    uint32_t n, most;
};

static double next_random(struct model *m)
{
    m->random = m->random * 1103515245u + 12345u;
    return (double)(m->random >> 8 & 0xffffu) / 65536.0;
}

static void ask(struct model *m, uint64_t length)
{
    uint64_t work_ns = m->bytes_per_ns > 0 ? (uint64_t)((double)length / m->bytes_per_ns) : 0;
    work_ns = (uint64_t)((double)work_ns * (1 + m->noise * next_random(m)));
    work_ns = work_ns * (m->n + 1 + m->others) / (m->n + 1);
    uint64_t from_ns = m->free_ns > m->now_ns ? m->free_ns : m->now_ns;
    m->free_ns = from_ns + work_ns;
    uint64_t latency_ns = (uint64_t)((double)m->latency_ns * (1 + m->noise * next_random(m)));
    m->end_ns[m->n] = m->free_ns + latency_ns;
    m->begun_ns[m->n] = m->now_ns;
    m->length[m->n++] = length;
    if (m->n > m->most)
        m->most = m->n;
}

/* Read `total` bytes; returns the time it took. */
static uint64_t read_all(struct model *m, struct pst_pace *pace, uint64_t total)
{
    uint64_t began_ns = m->now_ns;
    while (total > 0 || m->n > 0) {
        while (total > 0 && m->n < pace->in_flight) {
            uint64_t length = pst_pace_length(pace, total);
            ask(m, length);
            total -= length;
        }
        uint32_t first = 0;
        for (uint32_t i = 1; i < m->n; i++) {
            if (m->end_ns[i] < m->end_ns[first])
                first = i;
        }
        m->now_ns = m->end_ns[first];
        uint64_t length = m->length[first], took_ns = m->now_ns - m->begun_ns[first];
        m->n--;
        m->end_ns[first] = m->end_ns[m->n];
        m->length[first] = m->length[m->n];
        m->begun_ns[first] = m->begun_ns[m->n];
        pst_pace_note(pace, length, took_ns, m->now_ns, total > 0);
    }
    return m->now_ns - began_ns;
}

static void test_pace__latency_alone_raises_the_number_towards_its_bound(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed <= 20; seed++) {
        struct model m = {.latency_ns = 20u * MS_NS, .noise = 0.1, .random = seed, .now_ns = 1};
        struct pst_pace pace = {.n_took = 0};
        const struct pst_pace_start start = start_of(16 * GIB);
        pst_pace_init(&pace, &start);
        read_all(&m, &pace, 16 * GIB);
        assert_in_range(pace.best, 48, 64);
        assert_int_equal(m.most, 64);
    }
}

/* 20 ms and 1 GB/s: 20 MB are under way, three ranges of 8 MiB. More only wait. */
static void test_pace__bandwidth_ends_the_rise(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed <= 20; seed++) {
        struct model m = {.latency_ns = 100u * MS_NS,
                          .bytes_per_ns = 1,
                          .noise = 0.1,
                          .random = seed,
                          .now_ns = 1};
        struct pst_pace pace = {.n_took = 0};
        const struct pst_pace_start start = start_of(64 * GIB);
        pst_pace_init(&pace, &start);
        uint64_t took_ns = read_all(&m, &pace, 64 * GIB);
        assert_in_range(pace.best, 12, 40); /* 12 are under way at full speed */
        double ideal_ns = (double)(64 * GIB) * (1 + m.noise / 2);
        assert_true((double)took_ns < 1.1 * ideal_ns);
    }
}

/* Ranges from the page cache: no latency, the line is the processor. */
static void test_pace__a_local_disk_stays_low(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed <= 20; seed++) {
        struct model m = {
            .latency_ns = 10000, .bytes_per_ns = 12, .noise = 0.3, .random = seed, .now_ns = 1};
        struct pst_pace pace = {.n_took = 0};
        const struct pst_pace_start start = start_of(64 * GIB);
        pst_pace_init(&pace, &start);
        read_all(&m, &pace, 64 * GIB);
        assert_true(pace.best <= 4);
        assert_true(m.most <= 8); /* tried, and not kept */
    }
}

/* Twenty others want the two cores: more threads would get more of them. */
static void test_pace__a_local_disk_stays_low_on_a_busy_machine(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed <= 20; seed++) {
        struct model m = {.latency_ns = 10000,
                          .bytes_per_ns = 12,
                          .noise = 0.3,
                          .others = 20,
                          .random = seed,
                          .now_ns = 1};
        struct pst_pace pace = {.n_took = 0};
        struct pst_pace_start start = start_of(64 * GIB);
        start.is_near = 1;
        pst_pace_init(&pace, &start);
        read_all(&m, &pace, 64 * GIB);
        assert_true(pace.best <= 4);
    }
}

static void test_pace__a_rate_that_falls_takes_ranges_off(void **state)
{
    struct model m = {.latency_ns = 20u * MS_NS, .random = 1, .now_ns = 1};
    struct pst_pace pace = {.n_took = 0};
    const struct pst_pace_start start = start_of(64 * GIB);
    (void)state;
    pst_pace_init(&pace, &start);
    read_all(&m, &pace, 32 * GIB);
    assert_true(pace.best >= 48);
    const uint32_t before = pace.best;
    m.bytes_per_ns = 0.2; /* somebody else came */
    read_all(&m, &pace, 4 * GIB);
    assert_true(pace.best < before);
}

/* A machine that stops for a while now and then must not end with one range at a time for good. */
static void test_pace__a_local_disk_does_not_fall_below_two_per_core(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed <= 20; seed++) {
        struct model m = {.latency_ns = 10000, .random = seed, .now_ns = 1};
        struct pst_pace pace = {.n_took = 0};
        struct pst_pace_start start = start_of(GIB);
        for (unsigned i = 0; i < 20; i++) {
            m.bytes_per_ns = i % 2 ? 12 : 1;
            start.learned_in_flight = pace.best;
            pst_pace_init(&pace, &start);
            read_all(&m, &pace, GIB);
            assert_in_range(pace.best, 4, 8);
        }
    }
}

static void test_pace__throttled_halves_once_for_all_that_are_under_way(void **state)
{
    struct pst_pace pace = {.n_took = 0};
    struct pst_pace_start start = start_of(TIB);
    (void)state;
    start.learned_in_flight = 32;
    pst_pace_init(&pace, &start);
    for (int i = 0; i < 32; i++)
        pst_pace_throttle(&pace);
    assert_int_equal(pace.in_flight, 16);
    for (unsigned i = 0; i < 33; i++) /* those under way, and one of the new level */
        pst_pace_note(&pace, pace.part_bytes, 20u * MS_NS, i * MS_NS, 1);
    pst_pace_throttle(&pace);
    assert_int_equal(pace.in_flight, 8);
}

static void test_pace__a_number_that_was_asked_for_stays(void **state)
{
    struct model m = {.latency_ns = 20u * MS_NS, .random = 1, .now_ns = 1};
    struct pst_pace pace = {.n_took = 0};
    struct pst_pace_start start = start_of(GIB);
    (void)state;
    start.asked_in_flight = 3;
    pst_pace_init(&pace, &start);
    read_all(&m, &pace, GIB);
    pst_pace_throttle(&pace);
    assert_int_equal(pace.in_flight, 3);
    assert_int_equal(m.most, 3);
}

/* ---- late ---------------------------------------------------------------------------------------- */

static void test_pace__late_is_what_was_asked_or_three_medians(void **state)
{
    struct pst_pace pace = {.n_took = 0};
    (void)state;
    assert_true(pst_pace_late_ns(&pace, 0, 10u * MS_NS) == UINT64_MAX);
    assert_int_equal(pst_pace_late_ns(&pace, 7, 0), 7u * MS_NS);
    assert_true(pst_pace_late_ns(&pace, PST_HEDGE_AUTO, 0) == UINT64_MAX); /* nothing is known */
    assert_int_equal(pst_pace_late_ns(&pace, PST_HEDGE_AUTO, 10u * MS_NS), 30u * MS_NS);
    for (unsigned i = 0; i < 4; i++)
        pst_pace_took(&pace, i == 3 ? 1000u * MS_NS : 4u * MS_NS);
    assert_int_equal(pst_pace_median_ns(&pace), 4u * MS_NS);
    assert_int_equal(pst_pace_late_ns(&pace, PST_HEDGE_AUTO, 10u * MS_NS), 12u * MS_NS);
    for (unsigned i = 0; i < 40; i++) /* the latest count */
        pst_pace_took(&pace, MS_NS / 10);
    assert_int_equal(pst_pace_late_ns(&pace, PST_HEDGE_AUTO, 10u * MS_NS), 5u * MS_NS);
}

static void test_pace__what_is_learned_moves_in_small_steps(void **state)
{
    uint64_t learned_ns = 0;
    (void)state;
    assert_int_equal(pst_pace_learn_median(0, 0), 0);
    learned_ns = pst_pace_learn_median(0, 8u * MS_NS);
    assert_int_equal(learned_ns, 8u * MS_NS);
    assert_int_equal(pst_pace_learn_median(learned_ns, 0), learned_ns);
    assert_int_equal(pst_pace_learn_median(learned_ns, 400u * MS_NS), 9u * MS_NS + 1);
    assert_int_equal(pst_pace_learn_median(learned_ns, 1), 7u * MS_NS - 1);
    assert_int_equal(pst_pace_learn_median(learned_ns, 8u * MS_NS + 5), 8u * MS_NS + 5);
    for (int i = 0; i < 100; i++)
        learned_ns = pst_pace_learn_median(learned_ns, MS_NS);
    assert_int_equal(learned_ns, MS_NS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pace__starts_from_rest_store_cores_and_what_was_asked),
        cmocka_unit_test(test_pace__no_request_for_a_crumb_unless_the_length_was_asked_for),
        cmocka_unit_test(test_pace__quick_ranges_grow_slow_ones_shrink_within_bounds),
        cmocka_unit_test(test_pace__a_length_that_was_asked_for_stays),
        cmocka_unit_test(test_pace__summed_ranges_stay_in_the_cache_while_memory_is_the_limit),
        cmocka_unit_test(test_pace__a_sum_cuts_no_range_that_the_store_prefers),
        cmocka_unit_test(test_pace__latency_alone_raises_the_number_towards_its_bound),
        cmocka_unit_test(test_pace__bandwidth_ends_the_rise),
        cmocka_unit_test(test_pace__a_local_disk_stays_low),
        cmocka_unit_test(test_pace__a_local_disk_stays_low_on_a_busy_machine),
        cmocka_unit_test(test_pace__a_rate_that_falls_takes_ranges_off),
        cmocka_unit_test(test_pace__a_local_disk_does_not_fall_below_two_per_core),
        cmocka_unit_test(test_pace__throttled_halves_once_for_all_that_are_under_way),
        cmocka_unit_test(test_pace__a_number_that_was_asked_for_stays),
        cmocka_unit_test(test_pace__late_is_what_was_asked_or_three_medians),
        cmocka_unit_test(test_pace__what_is_learned_moves_in_small_steps),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
