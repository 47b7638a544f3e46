#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <penstock/object.h>

#include "codec/name.h"

static void test_name__zst_after_a_name_is_zstd(void **state)
{
    const struct {
        pst_str key;
        int is_zstd;
    } keys[] = {
        {PST_STR("a.zst"), 1},   {PST_STR("dir/a.bin.zst"), 1}, {PST_STR("..zst"), 1},
        {PST_STR(".zst"), 0},    {PST_STR("dir/.zst"), 0},      {PST_STR("a.ZST"), 0},
        {PST_STR("a.zst/b"), 0}, {PST_STR("azst"), 0},          {PST_STR("a.zstd"), 0},
        {PST_STR(""), 0},        {PST_STR("zst"), 0},           {PST_STR("a.zst "), 0},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
        assert_int_equal(pst_key_is_zstd(keys[i].key), keys[i].is_zstd);
}

static void test_name__only_by_name_looks_at_the_key(void **state)
{
    int is_wanted = -1;
    (void)state;
    assert_int_equal(pst_decode_wanted(PST_DECODE_NEVER, PST_STR("a.zst"), &is_wanted, NULL),
                     PST_OK);
    assert_int_equal(is_wanted, 0);
    assert_int_equal(pst_decode_wanted(PST_DECODE_BY_NAME, PST_STR("a.zst"), &is_wanted, NULL),
                     PST_OK);
    assert_int_equal(is_wanted, 1);
    assert_int_equal(pst_decode_wanted(PST_DECODE_BY_NAME, PST_STR("a"), &is_wanted, NULL), PST_OK);
    assert_int_equal(is_wanted, 0);
    assert_int_equal(pst_decode_wanted(PST_DECODE_ZSTD, PST_STR("a"), &is_wanted, NULL), PST_OK);
    assert_int_equal(is_wanted, 1);
}

static void test_name__another_number_is_refused(void **state)
{
    pst_error err = PST_ERROR_INIT;
    int is_wanted = 0;
    (void)state;
    assert_int_equal(pst_decode_wanted(3, PST_STR("a"), &is_wanted, &err), PST_E_INVALID);
    assert_string_equal(err.message, "decode is 3: no PST_DECODE_* has that number");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_name__zst_after_a_name_is_zstd),
        cmocka_unit_test(test_name__only_by_name_looks_at_the_key),
        cmocka_unit_test(test_name__another_number_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
