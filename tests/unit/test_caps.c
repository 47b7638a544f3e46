/* Names of capabilities. plugin.h itself says which there are, so that a new one cannot be forgotten. */
#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <penstock/penstock.h>

static void test_cap_name__every_bit_of_the_header_has_its_own_in_small_letters(void **state)
{
    char line[256], name[64];
    uint64_t seen = 0;
    unsigned shift;
    FILE *header = fopen(UNIT_PLUGIN_H, "r");
    (void)state;
    assert_non_null(header);
    while (fgets(line, sizeof(line), header)) {
        if (sscanf(line, "#define PST_CAP_%63s (1ull << %u)", name, &shift) != 2)
            continue;
        for (char *c = name; *c; c++)
            *c = (char)tolower((unsigned char)*c);
        assert_true(shift < 64);
        assert_non_null(pst_cap_name(1ull << shift));
        assert_string_equal(pst_cap_name(1ull << shift), name);
        seen |= 1ull << shift;
    }
    fclose(header);
    assert_true(seen & PST_CAP_TAGS); /* the lines still look as expected */
    for (shift = 0; shift < 64; shift++) {
        if (!(seen >> shift & 1))
            assert_null(pst_cap_name(1ull << shift));
    }
}

static void test_cap_name__none_and_several_have_no_name(void **state)
{
    (void)state;
    assert_null(pst_cap_name(0));
    assert_null(pst_cap_name(PST_CAP_READ | PST_CAP_STAT));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cap_name__every_bit_of_the_header_has_its_own_in_small_letters),
        cmocka_unit_test(test_cap_name__none_and_several_have_no_name),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
