/* The part planner: a table of stores, budgets and lengths, each plan walked part by part. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "io/part.h"

#define KIB ((uint64_t)1 << 10)
#define MIB ((uint64_t)1 << 20)
#define GIB ((uint64_t)1 << 30)
#define TIB ((uint64_t)1 << 40)
#define ANY PST_PART_NO_LIMIT

static const pst_limits s3 = {
    .part_min = 5 * MIB, .part_max = 5 * GIB, .parts_max = 10000, .object_max = 5 * TIB};
static const pst_limits s3_large = {
    .part_min = 5 * MIB, .part_max = 5 * GIB, .parts_max = 10000, .object_max = 10000 * 5 * GIB};
static const pst_limits azure = {
    .part_max = 4000 * MIB, .parts_max = 50000, .object_max = 50000 * 4000 * MIB};
static const pst_limits gcs = {.part_multiple = 256 * KIB, .object_max = 5 * TIB};
static const pst_limits gcs_xml = {
    .part_min = 5 * MIB, .part_max = 5 * GIB, .parts_max = 10000, .object_max = 5 * TIB};
static const pst_limits few = {.part_min = 1, .part_max = 64 * MIB, .parts_max = 4};
static const pst_limits open_end = {.parts_max = 1000};
static const pst_limits equal = {
    .part_min = 5 * MIB, .part_max = 5 * GIB, .parts_max = 10000, .flags = PST_LIMIT_PARTS_UNIFORM};
static const pst_limits direct = {.io_align = 4096, .part_multiple = 6144, .io_preferred = 1000000};
static const pst_limits file = {.io_preferred = 2 * MIB};
static const pst_limits none = {0};

/* Lay parts one behind the other until `size` bytes are placed, each within the limits. Returns how many
 * it takes, 0 when they do not suffice. *largest: the longest of them. */
static uint32_t walk(const struct pst_part_plan *plan, const struct pst_part_ask *ask,
                     uint64_t size, uint64_t *largest)
{
    const pst_limits *limits = ask->limits;
    uint64_t offset = 0, before = 0;
    uint32_t n = 0;
    *largest = 0;
    while (offset < size) {
        uint64_t part = pst_part_size(plan, n);
        if (part == 0) {
            assert_int_equal(n, limits->parts_max);
            assert_int_equal(offset, pst_part_reach(plan)); /* it said so */
            return 0;
        }
        assert_true(part >= limits->part_min);
        assert_true(!limits->part_max || part <= limits->part_max);
        assert_true(!limits->part_multiple || part % limits->part_multiple == 0);
        assert_true(!limits->io_align || part % limits->io_align == 0);
        assert_true(part >= before);
        assert_true(before == 0 || part <= 2 * before);
        if (limits->flags & PST_LIMIT_PARTS_UNIFORM)
            assert_true(n == 0 || part == before);
        if (size > part) /* else it is the only one, and no longer than the object */
            assert_true(part <= ask->budget_bytes);
        before = *largest = part;
        offset += part;
        n++;
    }
    assert_true(size == 0 || offset - before < size); /* the last one is needed */
    assert_true(!limits->parts_max || n <= limits->parts_max);
    assert_true(size <= pst_part_reach(plan));
    return n;
}

static void test_part__every_length_that_a_store_takes_fits(void **state)
{
    static const struct {
        const char *name;
        struct pst_part_ask ask;
        uint64_t size, first, largest;
        uint32_t n_parts;
    } cases[] = {
        {"one byte, no hint", {&s3, PST_UNKNOWN, 0, ANY}, 1, 8 * MIB, 8 * MIB, 1},
        {"one byte, hint", {&s3, 1, 0, ANY}, 1, 8 * MIB, 8 * MIB, 1},
        {"nothing", {&s3, 0, 0, ANY}, 0, 8 * MIB, 0, 0},
        {"exactly one part", {&s3, PST_UNKNOWN, 0, ANY}, 8 * MIB, 8 * MIB, 8 * MIB, 1},
        {"one byte more", {&s3, PST_UNKNOWN, 0, ANY}, 8 * MIB + 1, 8 * MIB, 8 * MIB, 2},
        {"825 equal parts", {&s3, PST_UNKNOWN, 0, ANY}, 825 * 8 * MIB, 8 * MIB, 8 * MIB, 825},
        {"the 826th is twice as long",
         {&s3, PST_UNKNOWN, 0, ANY},
         827 * 8 * MIB,
         8 * MIB,
         16 * MIB,
         826},
        {"100 GiB, no hint", {&s3, PST_UNKNOWN, 0, ANY}, 100 * GIB, 8 * MIB, 128 * MIB, 3327},
        {"5 TiB, no hint", {&s3, PST_UNKNOWN, 0, ANY}, 5 * TIB, 8 * MIB, 1099511628, 9995},
        {"5 TiB, hint", {&s3, 5 * TIB, 0, ANY}, 5 * TIB, 549755814, 549755814, 10000},
        {"48.8 TiB, hint",
         {&s3_large, 10000 * 5 * GIB, 0, ANY},
         10000 * 5 * GIB,
         5 * GIB,
         5 * GIB,
         10000},
        {"35 TiB, no hint", {&s3_large, PST_UNKNOWN, 0, ANY}, 35 * TIB, 8 * MIB, 5 * GIB, 9790},
        {"190.7 TiB of Azure, hint",
         {&azure, 50000 * 4000 * MIB, 0, ANY},
         50000 * 4000 * MIB,
         4000 * MIB,
         4000 * MIB,
         50000},
        {"140 TiB of Azure, no hint",
         {&azure, PST_UNKNOWN, 0, ANY},
         140 * TIB,
         8 * MIB,
         4000 * MIB,
         49162},
        {"one byte of Azure", {&azure, PST_UNKNOWN, 0, ANY}, 1, 8 * MIB, 8 * MIB, 1},
        {"GCS resumable", {&gcs, PST_UNKNOWN, 0, ANY}, 5 * TIB, 8 * MIB, 8 * MIB, 655360},
        {"GCS by parts", {&gcs_xml, PST_UNKNOWN, 0, ANY}, 5 * TIB, 8 * MIB, 1099511628, 9995},
        {"a hint that was too small", {&s3, 1 * MIB, 0, ANY}, 100 * GIB, 8 * MIB, 128 * MIB, 3328},
        {"a hint that took nearly all parts",
         {&s3_large, 9000 * 8 * MIB, 0, ANY},
         TIB,
         8 * MIB,
         5 * GIB,
         9452},
        {"wanted size", {&s3, PST_UNKNOWN, 6 * MIB, ANY}, 60 * MIB, 6 * MIB, 6 * MIB, 10},
        {"wanted size off the multiple",
         {&gcs, PST_UNKNOWN, 1000000, ANY},
         2 * MIB,
         1 * MIB,
         1 * MIB,
         2},
        {"wanted size, too small for the hint",
         {&s3, 100 * GIB, 5 * MIB, ANY},
         100 * GIB,
         10737419,
         10737419,
         10000},
        {"few parts double each", {&few, PST_UNKNOWN, 0, ANY}, 56 * MIB, 8 * MIB, 32 * MIB, 3},
        {"few parts, hint", {&few, 256 * MIB, 0, ANY}, 256 * MIB, 64 * MIB, 64 * MIB, 4},
        {"parts without a size limit",
         {&open_end, PST_UNKNOWN, 0, ANY},
         9 * TIB,
         8 * MIB,
         256 * GIB,
         471},
        {"equal parts, hint", {&equal, 5 * TIB, 0, ANY}, 5 * TIB, 549755814, 549755814, 10000},
        {"equal parts, no hint", {&equal, PST_UNKNOWN, 0, ANY}, 78 * GIB, 8 * MIB, 8 * MIB, 9984},
        {"two multiples at once", {&direct, PST_UNKNOWN, 0, ANY}, 10 * MIB, 1007616, 1007616, 11},
        {"a file", {&file, PST_UNKNOWN, 0, ANY}, 1 * TIB, 2 * MIB, 2 * MIB, 524288},
        {"no limits at all", {&none, PST_UNKNOWN, 0, ANY}, 1 * TIB, 8 * MIB, 8 * MIB, 131072},
        /* The budget: a quarter of it for a part where that will do, more where it must be. */
        {"small budget", {&none, PST_UNKNOWN, 0, 16 * MIB}, 1 * GIB, 4 * MIB, 4 * MIB, 256},
        {"5 TiB in 8 GiB", {&s3, PST_UNKNOWN, 0, 8 * GIB}, 5 * TIB, 8 * MIB, 1099511628, 9995},
        {"5 TiB in 2 GiB", {&s3, PST_UNKNOWN, 0, 2 * GIB}, 5 * TIB, 8 * MIB, 1 * GIB, 9999},
        {"5 TiB in 1 GiB", {&s3, PST_UNKNOWN, 0, 1 * GIB}, 5 * TIB, 8 * MIB, 1 * GIB, 9999},
        {"5 TiB in 600 MiB, hint",
         {&s3, 5 * TIB, 0, 600 * MIB},
         5 * TIB,
         549755814,
         549755814,
         10000},
        {"2 TiB in 256 MiB", {&s3, PST_UNKNOWN, 0, 256 * MIB}, 2 * TIB, 8 * MIB, 256 * MIB, 9450},
        {"35 TiB, no hint, 8 GiB",
         {&s3_large, PST_UNKNOWN, 0, 8 * GIB},
         35 * TIB,
         8 * MIB,
         5 * GIB,
         9790},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct pst_part_plan plan;
        pst_error err = PST_ERROR_INIT;
        uint64_t largest = 0;
        if (pst_part_plan(&cases[i].ask, &plan, &err) != PST_OK)
            fail_msg("%s: %s", cases[i].name, err.message);
        uint32_t n = walk(&plan, &cases[i].ask, cases[i].size, &largest);
        if (plan.first_bytes != cases[i].first || largest != cases[i].largest ||
            n != cases[i].n_parts)
            fail_msg("%s: first %llu, largest %llu, %u parts", cases[i].name,
                     (unsigned long long)plan.first_bytes, (unsigned long long)largest, n);
    }
}

static void test_part__what_cannot_fit_is_refused_by_name(void **state)
{
    static const struct {
        struct pst_part_ask ask;
        pst_rc rc;
        const char *message;
    } cases[] = {
        {{&s3_large, 10000 * 5 * GIB + 1, 0, ANY}, PST_E_INVALID, "limit of 53687091200000"},
        {{&s3, PST_UNKNOWN, 5 * MIB - 1, ANY}, PST_E_INVALID, "5242880..5368709120"},
        {{&s3, PST_UNKNOWN, 5 * GIB + 1, ANY}, PST_E_INVALID, "part size 5368709121"},
        {{&few, 256 * MIB + 1, 0, ANY}, PST_E_INVALID, "4 parts of at most 67108864"},
        {{&equal, 100 * GIB, 8 * MIB, ANY}, PST_E_INVALID, "10000 parts of at most 8388608"},
        {{&s3, PST_UNKNOWN, 0, 4 * MIB},
         PST_E_OVER_BUDGET,
         "a part has 5242880 bytes, the memory budget is 4194304 bytes"},
        {{&s3, PST_UNKNOWN, 64 * MIB, 32 * MIB},
         PST_E_OVER_BUDGET,
         "a part has 67108864 bytes, the memory budget is 33554432 bytes"},
        {{&s3, 5 * TIB, 0, 256 * MIB},
         PST_E_OVER_BUDGET,
         "5497558138880 bytes take parts of 549755814 bytes, the memory budget is 268435456 bytes"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct pst_part_plan plan;
        pst_error err = PST_ERROR_INIT;
        assert_int_equal(pst_part_plan(&cases[i].ask, &plan, &err), cases[i].rc);
        if (!strstr(err.message, cases[i].message))
            fail_msg("\"%s\" lacks \"%s\"", err.message, cases[i].message);
    }
}

static void test_part__what_is_shorter_than_the_smallest_part_needs_no_more_budget(void **state)
{
    const struct pst_part_ask ask = {&s3, 3 * MIB, 0, 4 * MIB};
    struct pst_part_plan plan;
    (void)state;
    assert_int_equal(pst_part_plan(&ask, &plan, NULL), PST_OK);
    assert_int_equal(plan.first_bytes, 5 * MIB);
}

static void test_part__a_stream_that_is_too_long_is_told_how_far_it_could_go(void **state)
{
    static const struct {
        struct pst_part_ask ask;
        uint64_t reach;
        const char *message;
    } cases[] = {
        {{&s3, PST_UNKNOWN, 0, ANY}, 5 * TIB, "more bytes than the store's limit of 5497558138880"},
        {{&s3_large, PST_UNKNOWN, 0, ANY}, 39614161092608, "to 5368709120 bytes: give size_hint"},
        {{&s3_large, PST_UNKNOWN, 0, 1 * GIB},
         8724756299776,
         "budget of 1073741824 bytes allows no larger"},
        {{&s3, PST_UNKNOWN, 0, 256 * MIB},
         2346729865216,
         "budget of 268435456 bytes allows no larger"},
        {{&azure, PST_UNKNOWN, 0, ANY},
         157447310278656,
         "50000 parts of 8388608 to 4194304000 bytes"},
        {{&equal, PST_UNKNOWN, 0, ANY}, 10000 * 8 * MIB, "10000 parts of 8388608 to 8388608 bytes"},
        {{&few, PST_UNKNOWN, 0, ANY}, 120 * MIB, "more than 125829120 bytes do not fit 4 parts"},
        {{&few, 120 * MIB, 0, ANY}, 120 * MIB, "31457280 bytes: size_hint was too small"},
        {{&s3, 5 * TIB, 0, ANY}, 5 * TIB, "limit of 5497558138880"},
        {{&gcs, PST_UNKNOWN, 0, ANY}, 5 * TIB, "limit of 5497558138880"},
        {{&none, PST_UNKNOWN, 0, ANY}, PST_PART_NO_LIMIT, "limit of"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct pst_part_plan plan;
        pst_error err = PST_ERROR_INIT;
        uint64_t largest = 0;
        assert_int_equal(pst_part_plan(&cases[i].ask, &plan, NULL), PST_OK);
        uint64_t reach = pst_part_reach(&plan);
        assert_int_equal(reach, cases[i].reach);
        assert_int_equal(pst_part_fail_reach(&plan, &err), PST_E_INVALID);
        if (!strstr(err.message, cases[i].message))
            fail_msg("\"%s\" lacks \"%s\"", err.message, cases[i].message);
        if (reach < plan.object_max) { /* the walk ends exactly there */
            assert_int_not_equal(walk(&plan, &cases[i].ask, reach, &largest), 0);
            assert_int_equal(walk(&plan, &cases[i].ask, reach + 1, &largest), 0);
        }
    }
}

static void test_part__absurd_limits_are_the_plugins_fault(void **state)
{
    static const pst_limits cases[] = {
        {.part_min = 10, .part_max = 5},
        {.part_multiple = UINT64_MAX - 1, .io_align = 4095},
        {.part_multiple = 1000, .part_max = 999},
        {.part_min = UINT64_MAX},
        {.part_max = UINT64_MAX},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const struct pst_part_ask ask = {&cases[i], PST_UNKNOWN, 0, ANY};
        struct pst_part_plan plan;
        assert_int_equal(pst_part_plan(&ask, &plan, NULL), PST_E_INTERNAL);
    }
}

static void test_part__odd_limits_stay_within_themselves(void **state)
{
    static const pst_limits cases[] = {
        {.parts_max = UINT32_MAX},
        {.parts_max = 1},
        {.parts_max = 1, .part_max = PST_PART_NO_LIMIT - 1},
        {.parts_max = UINT32_MAX, .part_max = PST_PART_NO_LIMIT - 1, .object_max = UINT64_MAX},
        {.parts_max = 31, .part_min = 3, .part_max = 1000, .part_multiple = 3, .io_preferred = 5},
        {.parts_max = 10000, .part_multiple = 7 * MIB, .object_max = 1},
    };
    static const uint64_t budgets[] = {ANY, 1 * GIB, 64 * MIB};
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]) * 3; i++) {
        const struct pst_part_ask ask = {&cases[i / 3], PST_UNKNOWN, 0, budgets[i % 3]};
        struct pst_part_plan plan;
        uint64_t largest = 0;
        assert_int_equal(pst_part_plan(&ask, &plan, NULL), PST_OK);
        assert_true(pst_part_reach(&plan) >= plan.first_bytes ||
                    pst_part_reach(&plan) == plan.object_max);
        uint64_t reach = pst_part_reach(&plan);
        walk(&plan, &ask, reach < 100 * MIB ? reach : 100 * MIB, &largest);
    }
}

static uint64_t next_random(uint64_t *seed, uint64_t most)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    uint64_t bits = (*seed >> 33) % 40; /* of every magnitude */
    return (*seed >> 20) % (((uint64_t)1 << bits) + 1) % (most + 1);
}

static void test_part__any_limits_give_a_plan_that_keeps_its_word(void **state)
{
    uint64_t seed = 7;
    unsigned n_planned = 0, n_hinted = 0;
    (void)state;
    for (unsigned i = 0; i < 4000; i++) {
        const pst_limits limits = {
            .part_min = next_random(&seed, 1 * GIB),
            .part_max = next_random(&seed, 100 * GIB),
            .part_multiple = next_random(&seed, 3) ? 0 : next_random(&seed, 100000),
            .io_align = (uint32_t)(next_random(&seed, 3) ? 0 : next_random(&seed, 8192)),
            .io_preferred = next_random(&seed, 64 * MIB),
            .parts_max = (uint32_t)next_random(&seed, 3000) + 1,
            .object_max = next_random(&seed, 100 * TIB),
            .flags = next_random(&seed, 9) ? 0 : PST_LIMIT_PARTS_UNIFORM,
        };
        const struct pst_part_ask ask = {
            .limits = &limits,
            .size_hint = i % 2 ? PST_UNKNOWN : next_random(&seed, TIB),
            .budget_bytes = i % 3 ? PST_PART_NO_LIMIT : next_random(&seed, 16 * GIB),
        };
        struct pst_part_plan plan;
        uint64_t largest = 0;
        if (pst_part_plan(&ask, &plan, NULL) != PST_OK)
            continue;
        if (plan.first_bytes > ask.budget_bytes) { /* only as one put, which is shorter */
            assert_true(ask.size_hint <= ask.budget_bytes);
            continue;
        }
        uint64_t reach = pst_part_reach(&plan);
        n_planned++;
        assert_int_equal(walk(&plan, &ask, reach, &largest) == 0, reach == 0);
        if (reach < plan.object_max)
            assert_int_equal(walk(&plan, &ask, reach + 1, &largest), 0);
        if (ask.size_hint != PST_UNKNOWN) {
            n_hinted++;
            assert_true(ask.size_hint <= reach); /* what was planned for fits */
        }
    }
    assert_true(n_planned > 500 && n_hinted > 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_part__every_length_that_a_store_takes_fits),
        cmocka_unit_test(test_part__what_cannot_fit_is_refused_by_name),
        cmocka_unit_test(test_part__what_is_shorter_than_the_smallest_part_needs_no_more_budget),
        cmocka_unit_test(test_part__a_stream_that_is_too_long_is_told_how_far_it_could_go),
        cmocka_unit_test(test_part__absurd_limits_are_the_plugins_fault),
        cmocka_unit_test(test_part__odd_limits_stay_within_themselves),
        cmocka_unit_test(test_part__any_limits_give_a_plan_that_keeps_its_word),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
