/* The files of AWS's tools, as AWS's tools read them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "../cred_ini.h"

static pst_str str(const char *text)
{
    return pst_str_of(text, strlen(text));
}

/* The value of a key in [default] or in another section; "(none)" where there is none. */
static const char *get_in(const char *text, const char *kind, const char *name, const char *key)
{
    static char out[128];
    pst_str value;

    if (!s3_ini_get(str(text), kind, str(name), key, &value))
        return "(none)";
    snprintf(out, sizeof(out), "%.*s", (int)value.len, value.ptr);
    return out;
}

static const char *get(const char *text, const char *key)
{
    return get_in(text, NULL, "default", key);
}

static uint32_t bad_line(const char *text)
{
    const char *what = NULL;
    const uint32_t line = s3_ini_check(str(text), &what);

    assert_true((line > 0) == (what != NULL));
    return line;
}

static void test_ini__a_value_is_what_stands_behind_the_equals_sign(void **state)
{
    (void)state;
    assert_string_equal(get("[default]\nkey=value\n", "key"), "value");
    assert_string_equal(get("[default]\nkey = value", "key"), "value");
    assert_string_equal(get("[default]\r\n\tother = no\r\nKEY\t=\tvalue \r\n", "key"), "value");
    assert_string_equal(get("[ default ]\nkey = a=b/c+d==\n", "key"), "a=b/c+d==");
    assert_string_equal(get("\xef\xbb\xbf[default]\nkey = value\n", "key"), "value");
    assert_string_equal(get("[default]\nkey =\n", "key"), "(none)");
    assert_string_equal(get("[default]\nkeys = value\n", "key"), "(none)");
    assert_string_equal(get("", "key"), "(none)");
}

static void test_ini__comments_begin_a_line_or_follow_a_blank(void **state)
{
    (void)state;
    assert_string_equal(get("# a\n; b\n[default] # c\nkey = value # d\n", "key"), "value");
    assert_string_equal(get("[default]\nkey = value ; d\n", "key"), "value");
    assert_string_equal(get("[default]\nkey = va#l;ue\n", "key"), "va#l;ue");
    assert_string_equal(get("[default]\n#key = value\n", "key"), "(none)");
}

static void test_ini__indented_lines_belong_to_the_setting_above(void **state)
{
    (void)state;
    assert_string_equal(get("[default]\ns3 =\n  key = nested\nkey = value\n", "key"), "value");
    assert_string_equal(get("[default]\ns3 =\n  key = nested\n", "key"), "(none)");
}

static void test_ini__sections_go_on_and_the_last_value_wins(void **state)
{
    static const char text[] = "[default]\nkey = 1\n[other]\nkey = 2\n[default]\nkey = 3\n";

    (void)state;
    assert_string_equal(get(text, "key"), "3");
    assert_string_equal(get_in(text, NULL, "other", "key"), "2");
    assert_string_equal(get_in(text, NULL, "Other", "key"), "(none)");
}

static void test_ini__a_kind_of_section_stands_before_its_name(void **state)
{
    static const char text[] = "[profile dev]\nkey = 1\n[profile \"two words\"]\nkey = 2\n"
                               "[sso-session dev]\nkey = 3\n[profile\tx]\nkey = 4\n[profiledev]\n"
                               "key = 5\n";

    (void)state;
    assert_string_equal(get_in(text, "profile", "dev", "key"), "1");
    assert_string_equal(get_in(text, "profile", "two words", "key"), "2");
    assert_string_equal(get_in(text, "sso-session", "dev", "key"), "3");
    assert_string_equal(get_in(text, "profile", "x", "key"), "4");
    assert_string_equal(get_in(text, NULL, "dev", "key"), "(none)");
    assert_int_equal(s3_ini_has(str(text), "profile", str("dev")), 1);
    assert_int_equal(s3_ini_has(str(text), "profile", str("de")), 0);
    assert_int_equal(s3_ini_has(str(text), NULL, str("profile dev")), 1);
}

static void test_ini__a_broken_line_is_told_by_its_number(void **state)
{
    (void)state;
    assert_int_equal(bad_line(""), 0);
    assert_int_equal(bad_line("[a]\nx = y\n# z\n\n  nested\n"), 0);
    assert_int_equal(bad_line("[a]\n\n[b\n"), 3);
    assert_int_equal(bad_line("[a]\nSECRET\n"), 2);
    assert_int_equal(bad_line("[a]\n= x\n"), 2);
    assert_int_equal(bad_line("x = y\n[a]\n"), 1);
    const char *what = NULL;
    assert_int_equal(s3_ini_check(pst_str_of("[a]\nx=\0y\n", 9), &what), 2);
}

#define TEST(name) cmocka_unit_test(name)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_ini__a_value_is_what_stands_behind_the_equals_sign),
        TEST(test_ini__comments_begin_a_line_or_follow_a_blank),
        TEST(test_ini__indented_lines_belong_to_the_setting_above),
        TEST(test_ini__sections_go_on_and_the_last_value_wins),
        TEST(test_ini__a_kind_of_section_stands_before_its_name),
        TEST(test_ini__a_broken_line_is_told_by_its_number),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
