/* Which ranges share a request: a table. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "io/ranges.h"

#define MANY 8
#define END PST_UNKNOWN
#define KIB ((uint64_t)1 << 10)

struct plan_case {
    const char *what;
    uint64_t gap, max;
    size_t n;
    pst_range ranges[MANY];
    const char *want; /* "offset+length:index,index offset+length:..." */
};

static const struct plan_case cases[] = {
    {"nothing", 10, 100, 0, {{0, 0}}, ""},
    {"one", 10, 100, 1, {{5, 7}}, "5+7:0"},
    {"empty ranges ask for nothing", 10, 100, 3, {{5, 0}, {9, 1}, {0, 0}}, "9+1:1"},
    {"neighbours", 0, 100, 2, {{0, 10}, {10, 10}}, "0+20:0,1"},
    {"any order", 0, 100, 3, {{20, 10}, {0, 10}, {10, 10}}, "0+30:1,2,0"},
    {"as near as the gap", 10, 100, 2, {{0, 10}, {20, 10}}, "0+30:0,1"},
    {"one byte further", 9, 100, 2, {{0, 10}, {20, 10}}, "0+10:0 20+10:1"},
    {"as much as the maximum", 10, 30, 2, {{0, 10}, {20, 10}}, "0+30:0,1"},
    {"one byte more", 10, 29, 2, {{0, 10}, {20, 10}}, "0+10:0 20+10:1"},
    {"repeats", 0, 1, 3, {{5, 9}, {5, 9}, {5, 9}}, "5+9:0,1,2"},
    {"inside another, beyond the maximum", 0, 1, 3, {{7, 2}, {5, 9}, {13, 1}}, "5+9:1,0,2"},
    {"overlap", 0, 100, 2, {{0, 10}, {5, 10}}, "0+15:0,1"},
    {"overlap beyond the maximum", 0, 14, 2, {{0, 10}, {5, 10}}, "0+10:0 5+10:1"},
    {"the long one first", 0, 100, 2, {{0, 1}, {0, 50}}, "0+50:1,0"},
    {"none share", END, 100, 3, {{0, 10}, {0, 10}, {2, 2}}, "0+10:0 0+10:1 2+2:2"},
    {"to the end", 5, 100, 3, {{90, END}, {0, 10}, {200, 3}}, "0+10:1 90+END:0,2"},
    {"two to the end", 5, 100, 2, {{90, END}, {50, END}}, "50+END:1,0"},
    {"the end of a near one is unknown", 5, 100, 2, {{0, 10}, {10, END}}, "0+10:0 10+END:1"},
    {"beyond 2^64", 5, 100, 2, {{UINT64_MAX - 3, 10}, {1, 1}}, "1+1:1 18446744073709551612+END:0"},
    {"a gap larger than all offsets", END - 1, 100, 2, {{0, 1}, {60, 1}}, "0+61:0,1"},
    {"chains stay below the maximum",
     10,
     25,
     5,
     {{0, 10}, {10, 10}, {20, 10}, {30, 10}, {40, 10}},
     "0+20:0,1 20+20:2,3 40+10:4"},
};

static char *print_plan(const size_t *order, const struct pst_ranges_group *groups, size_t n)
{
    static char text[512];
    size_t at = 0;
    text[0] = '\0';
    for (size_t g = 0; g < n; g++) {
        at += (size_t)snprintf(text + at, sizeof(text) - at, "%s%llu+", g ? " " : "",
                               (unsigned long long)groups[g].offset);
        if (groups[g].length == END)
            at += (size_t)snprintf(text + at, sizeof(text) - at, "END");
        else
            at += (size_t)snprintf(text + at, sizeof(text) - at, "%llu",
                                   (unsigned long long)groups[g].length);
        for (size_t i = 0; i < groups[g].n; i++)
            at += (size_t)snprintf(text + at, sizeof(text) - at, "%c%zu", i ? ',' : ':',
                                   order[groups[g].first + i]);
    }
    return text;
}

static void test_plan__shares_what_is_near_and_small(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        size_t order[MANY];
        struct pst_ranges_group groups[MANY];
        size_t n = pst_ranges_plan(cases[i].ranges, cases[i].n, cases[i].gap, cases[i].max, order,
                                   groups);
        const char *got = print_plan(order, groups, n);
        if (strcmp(got, cases[i].want) != 0)
            fail_msg("%s: wanted \"%s\", got \"%s\"", cases[i].what, cases[i].want, got);
    }
}

/* Whatever comes in: every range that is not empty is in exactly one group that holds it, and no group
 * is longer than the maximum unless one range alone is. */
static void test_plan__holds_every_range_once(void **state)
{
    enum { N = 200 };
    uint64_t random = 88172645463325252u;
    (void)state;
    for (int round = 0; round < 200; round++) {
        pst_range ranges[N];
        size_t order[N], n_seen = 0;
        struct pst_ranges_group groups[N];
        int seen[N] = {0};
        for (size_t i = 0; i < N; i++) {
            random ^= random << 13, random ^= random >> 7, random ^= random << 17;
            ranges[i] = (pst_range){random % (1000 * KIB), random >> 32 & 0x7fff};
        }
        size_t n = pst_ranges_plan(ranges, N, 4 * KIB, 64 * KIB, order, groups);
        for (size_t g = 0; g < n; g++) {
            uint64_t longest = 0;
            assert_int_equal(groups[g].first, n_seen);
            n_seen += groups[g].n;
            for (size_t i = 0; i < groups[g].n; i++) {
                const pst_range *range = &ranges[order[groups[g].first + i]];
                assert_int_equal(seen[order[groups[g].first + i]]++, 0);
                assert_true(range->length > 0 && range->offset >= groups[g].offset);
                assert_true(range->offset + range->length <= groups[g].offset + groups[g].length);
                if (range->length > longest)
                    longest = range->length;
            }
            assert_true(groups[g].length <= 64 * KIB || groups[g].length == longest);
        }
        for (size_t i = 0; i < N; i++)
            assert_int_equal(seen[i], ranges[i].length > 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plan__shares_what_is_near_and_small),
        cmocka_unit_test(test_plan__holds_every_range_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
