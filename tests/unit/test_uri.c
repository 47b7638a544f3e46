#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <penstock/uri.h>

static void assert_str(pst_str s, const char *expected)
{
    assert_int_equal(s.len, strlen(expected));
    assert_memory_equal(s.ptr, expected, s.len);
}

static void assert_parts(pst_str text, const char *scheme, const char *authority, const char *key)
{
    pst_error err = PST_ERROR_INIT;
    pst_uri uri;

    if (pst_uri_parse(text, &uri, &err) != PST_OK)
        fail_msg("%s", err.message);
    assert_str(uri.scheme, scheme);
    assert_str(uri.authority, authority);
    assert_str(uri.key, key);
}

static void assert_refused(pst_str text, const char *needle)
{
    pst_error err = PST_ERROR_INIT;
    pst_uri uri = {PST_STR("a"), PST_STR("b"), PST_STR("c")};

    assert_int_equal(pst_uri_parse(text, &uri, &err), PST_E_INVALID);
    assert_int_equal(err.code, PST_E_INVALID);
    if (!strstr(err.message, needle))
        fail_msg("'%s' is not in '%s'", needle, err.message);
    assert_null(strchr(err.message, '\n'));
    assert_str(uri.scheme, "a");
    assert_str(uri.authority, "b");
    assert_str(uri.key, "c");
}

static void test_uri__splits_scheme_authority_and_key(void **state)
{
    (void)state;
    assert_parts(PST_STR("s3://bucket/a/b.txt"), "s3", "bucket", "a/b.txt");
}

static void test_uri__key_keeps_percent_question_mark_and_hash(void **state)
{
    (void)state;
    assert_parts(PST_STR("s3://b/%41?x=1&y#z+ "), "s3", "b", "%41?x=1&y#z+ ");
}

static void test_uri__key_keeps_slashes_and_dots(void **state)
{
    (void)state;
    assert_parts(PST_STR("s3://b//a//../.\\/"), "s3", "b", "/a//../.\\/");
}

static void test_uri__key_keeps_newlines_and_bytes_that_are_not_utf8(void **state)
{
    (void)state;
    assert_parts(PST_STR("s3://b/a\nb\xff\x80"), "s3", "b", "a\nb\xff\x80");
}

static void test_uri__key_may_hold_another_uri(void **state)
{
    (void)state;
    assert_parts(PST_STR("s3://b/http://x/y"), "s3", "b", "http://x/y");
}

static void test_uri__authority_of_file_is_empty(void **state)
{
    (void)state;
    assert_parts(PST_STR("file:///abs/path"), "file", "", "abs/path");
}

static void test_uri__fourth_slash_of_file_belongs_to_the_key(void **state)
{
    (void)state;
    assert_parts(PST_STR("file:////abs"), "file", "", "/abs");
}

static void test_uri__authority_without_a_slash_has_an_empty_key(void **state)
{
    (void)state;
    assert_parts(PST_STR("s3://bucket"), "s3", "bucket", "");
    assert_parts(PST_STR("s3://bucket/"), "s3", "bucket", "");
    assert_parts(PST_STR("s3://"), "s3", "", "");
}

static void test_uri__authority_is_taken_as_it_is(void **state)
{
    (void)state;
    assert_parts(PST_STR("az://c@acc.example:443/k"), "az", "c@acc.example:443", "k");
    assert_parts(PST_STR("s3://b?x#y/k"), "s3", "b?x#y", "k");
}

static void test_uri__scheme_is_kept_as_written(void **state)
{
    (void)state;
    assert_parts(PST_STR("S3+x-1.y://b/k"), "S3+x-1.y", "b", "k");
}

static void test_uri__empty_text_is_refused(void **state)
{
    (void)state;
    assert_refused(PST_STR(""), "empty");
    assert_refused(pst_str_of(NULL, 0), "empty");
}

static void test_uri__path_without_a_scheme_is_refused(void **state)
{
    (void)state;
    assert_refused(PST_STR("/tmp/x"), "no scheme");
    assert_refused(PST_STR("bucket"), "no scheme");
    assert_refused(PST_STR("s3:/bucket/key"), "no scheme");
    assert_refused(PST_STR("s3:"), "no scheme");
    assert_refused(PST_STR("s3:/"), "no scheme");
}

static void test_uri__nothing_before_the_colon_is_refused(void **state)
{
    (void)state;
    assert_refused(PST_STR("://bucket/key"), "no scheme before");
}

static void test_uri__scheme_that_starts_with_no_letter_is_refused(void **state)
{
    (void)state;
    assert_refused(PST_STR("3s://bucket/key"), "starts with a letter");
    assert_refused(PST_STR("+s://bucket/key"), "starts with a letter");
}

static void test_uri__byte_that_no_scheme_holds_is_named_with_its_place(void **state)
{
    (void)state;
    assert_refused(PST_STR("my_s3://bucket/key"), "'_' at byte 2");
    assert_refused(PST_STR("\xc3\xa4://bucket/key"), "'\\xc3' at byte 0");
    assert_refused(PST_STR(" s3://bucket/key"), "' ' at byte 0");
}

static void test_uri__nul_is_refused_with_its_place(void **state)
{
    (void)state;
    assert_refused(PST_STR("s3://b/a\0b"), "byte 8 is NUL");
    assert_refused(PST_STR("s3://b\0/a"), "byte 6 is NUL");
    assert_refused(PST_STR("s\0003://b/a"), "byte 1 is NUL");
}

static void test_uri__message_does_not_quote_the_end_of_a_long_uri(void **state)
{
    char text[600];
    pst_error err = PST_ERROR_INIT;
    pst_uri uri;

    (void)state;
    memset(text, 'a', sizeof(text));
    memcpy(text + sizeof(text) - 7, "SECRET", 7);
    assert_int_equal(pst_uri_parse(pst_str_of(text, sizeof(text) - 1), &uri, &err), PST_E_INVALID);
    assert_null(strstr(err.message, "SECRET"));
    assert_non_null(strstr(err.message, "aaa..."));
}

static void test_uri__no_error_struct_is_needed(void **state)
{
    pst_uri uri;

    (void)state;
    assert_int_equal(pst_uri_parse(PST_STR("x"), &uri, NULL), PST_E_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_uri__splits_scheme_authority_and_key),
        cmocka_unit_test(test_uri__key_keeps_percent_question_mark_and_hash),
        cmocka_unit_test(test_uri__key_keeps_slashes_and_dots),
        cmocka_unit_test(test_uri__key_keeps_newlines_and_bytes_that_are_not_utf8),
        cmocka_unit_test(test_uri__key_may_hold_another_uri),
        cmocka_unit_test(test_uri__authority_of_file_is_empty),
        cmocka_unit_test(test_uri__fourth_slash_of_file_belongs_to_the_key),
        cmocka_unit_test(test_uri__authority_without_a_slash_has_an_empty_key),
        cmocka_unit_test(test_uri__authority_is_taken_as_it_is),
        cmocka_unit_test(test_uri__scheme_is_kept_as_written),
        cmocka_unit_test(test_uri__empty_text_is_refused),
        cmocka_unit_test(test_uri__path_without_a_scheme_is_refused),
        cmocka_unit_test(test_uri__nothing_before_the_colon_is_refused),
        cmocka_unit_test(test_uri__scheme_that_starts_with_no_letter_is_refused),
        cmocka_unit_test(test_uri__byte_that_no_scheme_holds_is_named_with_its_place),
        cmocka_unit_test(test_uri__nul_is_refused_with_its_place),
        cmocka_unit_test(test_uri__message_does_not_quote_the_end_of_a_long_uri),
        cmocka_unit_test(test_uri__no_error_struct_is_needed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
