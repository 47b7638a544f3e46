#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../url.h"

static const char *path_of(pst_str key)
{
    static char out[2048];

    *s3_encode_path(out, key) = '\0';
    return out;
}

static void test_url__key_keeps_slashes_and_dots(void **state)
{
    (void)state;
    assert_string_equal(path_of(PST_STR("/a//b/../c/./d")), "/a//b/../c/./d");
}

static void test_url__every_byte_but_unreserved_is_encoded(void **state)
{
    (void)state;
    for (int c = 0; c < 256; c++) {
        const char byte = (char)c;
        const int is_kept = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                            (c >= '0' && c <= '9') || (c && strchr("-._~/", c));
        const char *out = path_of(pst_str_of(&byte, 1));
        if (is_kept) {
            assert_int_equal(strlen(out), 1);
            assert_int_equal(out[0], byte);
        } else {
            assert_int_equal(strlen(out), 3);
            assert_int_equal(out[0], '%');
            assert_int_equal(strtol(out + 1, NULL, 16), c);
            assert_null(strpbrk(out, "abcdef")); /* SigV4 compares bytes */
        }
    }
}

static void test_url__parameters_are_sorted_and_slashes_in_them_encoded(void **state)
{
    char out[256];
    pst_kv params[] = {{PST_STR("prefix"), PST_STR("a/b c+")},
                       {PST_STR("list-type"), PST_STR("2")},
                       {PST_STR("uploads"), PST_STR("")},
                       {PST_STR("delimiter"), PST_STR("/")}};

    (void)state;
    *s3_encode_params(out, params, 4) = '\0';
    assert_string_equal(out, "delimiter=%2F&list-type=2&prefix=a%2Fb%20c%2B&uploads=");
}

static void test_url__parts_of_a_url(void **state)
{
    struct s3_url url;

    (void)state;
    assert_true(s3_url_parse(PST_STR("https://[::1]:9000/a?b=c"), &url));
    assert_true(url.is_tls);
    assert_int_equal(url.origin.len, strlen("https://[::1]:9000"));
    assert_memory_equal(url.host.ptr, "[::1]:9000", url.host.len);
    assert_memory_equal(url.rest.ptr, "/a?b=c", 6);
    assert_true(s3_url_parse(PST_STR("http://a"), &url));
    assert_false(url.is_tls);
    assert_int_equal(url.rest.len, 0);
    assert_false(s3_url_parse(PST_STR("ftp://a"), &url));
    assert_false(s3_url_parse(PST_STR("http://"), &url));
    assert_false(s3_url_parse(PST_STR("//a/b"), &url));
    assert_false(s3_url_parse(PST_STR("https://user:secret@a/b"), &url));
}

static void test_url__bucket_that_is_no_label_stays_out_of_host_names(void **state)
{
    static const char *const bad[] = {"ab", "a.b.c", "Upper", "under_score", "-abc", "abc-", ""};
    char longest[64];

    (void)state;
    memset(longest, 'a', sizeof(longest));
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(s3_bucket_is_label(s3_str(bad[i])));
    assert_true(s3_bucket_is_label(PST_STR("my-bucket-1")));
    assert_true(s3_bucket_is_label(pst_str_of(longest, 63)));
    assert_false(s3_bucket_is_label(pst_str_of(longest, 64)));
}

static void test_url__directory_buckets_are_told_by_their_name(void **state)
{
    static const char *const bad[] = {"bucket", "bucket--x-s3", "--use1-az4--x-s3", "--x-s3",
                                      "bucket--use1-az4--x-s3x"};

    (void)state;
    assert_true(s3_bucket_is_directory(PST_STR("bucket--use1-az4--x-s3")));
    assert_true(s3_bucket_is_directory(PST_STR("a--b--use1-az4--x-s3")));
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(s3_bucket_is_directory(s3_str(bad[i])));
}

static void test_url__only_names_below_amazonaws_are_aws(void **state)
{
    static const struct {
        const char *url;
        int is_aws;
    } more[] = {
        {"https://s3.amazonaws.com", 1},
        {"https://s3-us-west-2.amazonaws.com:443", 1},
        {"https://bucket.s3.dualstack.eu-west-1.amazonaws.com", 1},
        {"https://bucket.s3-accelerate.dualstack.amazonaws.com", 1},
        {"https://bucket.s3express-use1-az4.us-east-1.amazonaws.com", 1},
        {"https://bucket.vpce-1-2.s3.us-east-1.vpce.amazonaws.com", 1},
        {"https://ec2-1-2-3-4.eu-west-1.compute.amazonaws.com", 0},
        {"https://s3-mine-1234.us-east-1.elb.amazonaws.com", 0},
        {"https://abc.execute-api.eu-west-1.amazonaws.com", 0},
    };
    struct s3_url url;

    (void)state;
    assert_true(s3_url_parse(PST_STR("https://s3.eu-west-1.amazonaws.com/"), &url));
    assert_true(s3_url_is_aws(&url));
    assert_true(s3_url_parse(PST_STR("https://s3.cn-north-1.amazonaws.com.cn"), &url));
    assert_true(s3_url_is_aws(&url));
    for (size_t i = 0; i < sizeof(more) / sizeof(more[0]); i++) {
        assert_true(s3_url_parse(s3_str(more[i].url), &url));
        assert_int_equal(s3_url_is_aws(&url), more[i].is_aws);
    }
    assert_true(s3_url_parse(PST_STR("https://evilamazonaws.com"), &url));
    assert_false(s3_url_is_aws(&url));
    assert_true(s3_url_parse(PST_STR("https://s3.amazonaws.com.evil.org"), &url));
    assert_false(s3_url_is_aws(&url));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_url__key_keeps_slashes_and_dots),
        cmocka_unit_test(test_url__every_byte_but_unreserved_is_encoded),
        cmocka_unit_test(test_url__parameters_are_sorted_and_slashes_in_them_encoded),
        cmocka_unit_test(test_url__parts_of_a_url),
        cmocka_unit_test(test_url__bucket_that_is_no_label_stays_out_of_host_names),
        cmocka_unit_test(test_url__directory_buckets_are_told_by_their_name),
        cmocka_unit_test(test_url__only_names_below_amazonaws_are_aws),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
