/* The part planner: a table of stores and lengths, each walked to its end. */
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

static const pst_limits s3 = {
    .part_min = 5 * MIB, .part_max = 5 * GIB, .parts_max = 10000, .object_max = 10000 * 5 * GIB};
static const pst_limits gcs = {.part_multiple = 256 * KIB, .part_min = 256 * KIB};
static const pst_limits few = {.part_min = 1, .part_max = 64 * MIB, .parts_max = 4};
static const pst_limits equal = {
    .part_min = 5 * MIB, .part_max = 5 * GIB, .parts_max = 10000, .flags = PST_LIMIT_PARTS_UNIFORM};
static const pst_limits direct = {.io_align = 4096, .part_multiple = 6144, .io_preferred = 1000000};
static const pst_limits none = {0};

/* Lay parts one behind the other until `size` bytes are placed. Returns how many it takes, 0 when they
 * do not suffice. */
static uint32_t walk(const struct pst_part_plan *plan, const pst_limits *limits, uint64_t size)
{
    uint64_t offset = 0, before = 0;
    uint32_t n = 0;
    while (offset < size) {
        uint64_t part = pst_part_size(plan, n, offset);
        if (part == 0)
            return 0;
        assert_true(part >= limits->part_min);
        assert_true(!limits->part_max || part <= limits->part_max);
        assert_true(!limits->part_multiple || part % limits->part_multiple == 0);
        assert_true(!limits->io_align || part % limits->io_align == 0);
        assert_true(part >= before);
        if (limits->flags & PST_LIMIT_PARTS_UNIFORM)
            assert_true(n == 0 || part == before);
        before = part;
        offset += part;
        n++;
    }
    assert_true(!limits->parts_max || n <= limits->parts_max);
    return n;
}

static void test_part__every_length_that_a_store_takes_fits(void **state)
{
    static const struct {
        const char *name;
        const pst_limits *limits;
        uint64_t size, hint, wanted, first;
        uint32_t n_parts;
    } cases[] = {
        {"one byte, no hint", &s3, 1, PST_UNKNOWN, 0, 8 * MIB, 1},
        {"one byte, hint", &s3, 1, 1, 0, 8 * MIB, 1},
        {"nothing", &s3, 0, 0, 0, 8 * MIB, 0},
        {"exactly one part", &s3, 8 * MIB, PST_UNKNOWN, 0, 8 * MIB, 1},
        {"one byte more", &s3, 8 * MIB + 1, PST_UNKNOWN, 0, 8 * MIB, 2},
        {"625 equal parts", &s3, 625 * 8 * MIB, PST_UNKNOWN, 0, 8 * MIB, 625},
        {"the 626th is twice as long", &s3, 627 * 8 * MIB, PST_UNKNOWN, 0, 8 * MIB, 626},
        {"5 TiB, no hint", &s3, 5 * TIB, PST_UNKNOWN, 0, 8 * MIB, 6275},
        {"5 TiB, hint", &s3, 5 * TIB, 5 * TIB, 0, 549755814, 10000},
        {"48.8 TiB, hint", &s3, 10000 * 5 * GIB, 10000 * 5 * GIB, 0, 5 * GIB, 10000},
        {"23 TiB, no hint", &s3, 23 * TIB, PST_UNKNOWN, 0, 8 * MIB, 9962},
        {"a hint that was too small", &s3, 100 * GIB, 1 * MIB, 0, 8 * MIB, 2715},
        {"no limit of parts", &gcs, 5 * TIB, PST_UNKNOWN, 0, 8 * MIB, 655360},
        {"wanted size", &s3, 60 * MIB, PST_UNKNOWN, 6 * MIB, 6 * MIB, 10},
        {"wanted size off the multiple", &gcs, 2 * MIB, PST_UNKNOWN, 1000000, 1 * MIB, 2},
        {"wanted size, too small for the hint", &s3, 100 * GIB, 100 * GIB, 5 * MIB, 10737419,
         10000},
        {"few parts double each", &few, 8 * MIB * 7, PST_UNKNOWN, 0, 8 * MIB, 3},
        {"few parts, hint", &few, 256 * MIB, 256 * MIB, 0, 64 * MIB, 4},
        {"equal parts, hint", &equal, 5 * TIB, 5 * TIB, 0, 549755814, 10000},
        {"equal parts, no hint", &equal, 78 * GIB, PST_UNKNOWN, 0, 8 * MIB, 9984},
        {"two multiples at once", &direct, 10 * MIB, PST_UNKNOWN, 0, 1007616, 11},
        {"no limits at all", &none, 1 * TIB, PST_UNKNOWN, 0, 8 * MIB, 131072},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct pst_part_plan plan;
        pst_error err = PST_ERROR_INIT;
        assert_int_equal(
            pst_part_plan(cases[i].limits, cases[i].hint, cases[i].wanted, &plan, &err), PST_OK);
        assert_int_equal(plan.first_bytes, cases[i].first);
        assert_int_equal(walk(&plan, cases[i].limits, cases[i].size), cases[i].n_parts);
    }
}

static void test_part__what_cannot_fit_is_refused_by_name(void **state)
{
    static const struct {
        const pst_limits *limits;
        uint64_t hint, wanted;
        pst_rc rc;
        const char *message;
    } cases[] = {
        {&s3, 10000 * 5 * GIB + 1, 0, PST_E_INVALID, "store's limit of 53687091200000"},
        {&s3, PST_UNKNOWN, 5 * MIB - 1, PST_E_INVALID, "5242880..5368709120"},
        {&s3, PST_UNKNOWN, 5 * GIB + 1, PST_E_INVALID, "part size 5368709121"},
        {&few, 256 * MIB + 1, 0, PST_E_INVALID, "4 parts of at most 67108864"},
        {&equal, 100 * GIB, 8 * MIB, PST_E_INVALID, "10000 parts of at most 8388608"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct pst_part_plan plan;
        pst_error err = PST_ERROR_INIT;
        assert_int_equal(
            pst_part_plan(cases[i].limits, cases[i].hint, cases[i].wanted, &plan, &err),
            cases[i].rc);
        if (!strstr(err.message, cases[i].message))
            fail_msg("\"%s\" lacks \"%s\"", err.message, cases[i].message);
    }
}

static void test_part__a_stream_beyond_the_last_part_gets_no_more(void **state)
{
    struct pst_part_plan plan;
    (void)state;
    assert_int_equal(pst_part_plan(&s3, PST_UNKNOWN, 0, &plan, NULL), PST_OK);
    assert_int_equal(walk(&plan, &s3, 24 * TIB), 0);
    assert_int_equal(pst_part_size(&plan, 10000, 0), 0);
    assert_int_equal(pst_part_plan(&equal, PST_UNKNOWN, 0, &plan, NULL), PST_OK);
    assert_int_equal(walk(&plan, &equal, 80 * GIB), 0);
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
        struct pst_part_plan plan;
        assert_int_equal(pst_part_plan(&cases[i], PST_UNKNOWN, 0, &plan, NULL), PST_E_INTERNAL);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_part__every_length_that_a_store_takes_fits),
        cmocka_unit_test(test_part__what_cannot_fit_is_refused_by_name),
        cmocka_unit_test(test_part__a_stream_beyond_the_last_part_gets_no_more),
        cmocka_unit_test(test_part__absurd_limits_are_the_plugins_fault),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
