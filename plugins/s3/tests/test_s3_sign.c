/* The examples that AWS publishes with their results: "Signature Calculations for the Authorization
 * Header" and "Authenticating Requests: Using Query Parameters" of the S3 API reference, and cases of the
 * signing test suite (aws-sig-v4-test-suite) for the service "service". */
#include "fake.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../sign.h"
#include "../url.h"

static struct fake fake;
static const pst_crypto_1 *crypto;

static int setup(void **state)
{
    (void)state;
    fake_start(&fake, NULL);
    crypto = fake.host.service(&fake.host, "crypto/1");
    return crypto ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    fake_stop(&fake);
    return 0;
}

struct vector {
    const char *access_key, *secret_key, *date, *region, *service;
    const char *method, *path, *query, *payload;
    const char *headers[8]; /* name, value, ... */
    const char *signature;
};

static void check(const struct vector *v)
{
    struct s3_signer signer;
    struct s3_identity identity = {.generation = 1, .expires_unix_ns = PST_TIME_UNKNOWN};
    char access_key[64], secret_key[64], scratch[4096], signature[S3_SIGNATURE_SIZE + 1] = "";
    pst_kv headers[4];
    size_t n = 0;

    snprintf(access_key, sizeof(access_key), "%s", v->access_key);
    snprintf(secret_key, sizeof(secret_key), "%s", v->secret_key);
    identity.access_key = access_key;
    identity.secret_key = secret_key;
    for (; n < 4 && v->headers[2 * n]; n++)
        headers[n] = (pst_kv){s3_str(v->headers[2 * n]), s3_str(v->headers[2 * n + 1])};
    const struct s3_signing in = {.identity = &identity,
                                  .date = v->date,
                                  .region = v->region,
                                  .service = v->service,
                                  .method = s3_str(v->method),
                                  .path = s3_str(v->path),
                                  .query = s3_str(v->query),
                                  .headers = headers,
                                  .n_headers = n,
                                  .payload = s3_str(v->payload)};
    s3_signer_init(&signer, &fake.host, crypto);
    for (int i = 0; i < 2; i++) { /* with the key derived, and with the one that was kept */
        assert_true(s3_sign_room(&in) <= sizeof(scratch));
        assert_int_equal(s3_sign(&signer, &in, scratch, signature), PST_OK);
        assert_string_equal(signature, v->signature);
    }
    s3_signer_fini(&signer);
}

#define AWS_DOC                                                                                    \
    .access_key = "AKIAIOSFODNN7EXAMPLE",                                                          \
    .secret_key = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", .date = "20130524T000000Z",          \
    .region = "us-east-1", .service = "s3"
#define AWS_HOST "host", "examplebucket.s3.amazonaws.com"

static void test_sign__get_of_a_range_is_as_documented(void **state)
{
    (void)state;
    check(&(struct vector){
        AWS_DOC, .method = "GET", .path = "/test.txt", .query = "", .payload = S3_EMPTY_SHA256,
        .headers = {AWS_HOST, "range", "bytes=0-9", "x-amz-content-sha256", S3_EMPTY_SHA256,
                    "x-amz-date", "20130524T000000Z"},
        .signature = "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"});
}

static void test_sign__put_is_as_documented(void **state)
{
    static const char sha[] = "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072";
    pst_kv headers[5] = {
        {PST_STR("date"), PST_STR("Fri, 24 May 2013 00:00:00 GMT")},
        {PST_STR("host"), PST_STR("examplebucket.s3.amazonaws.com")},
        {PST_STR("x-amz-content-sha256"), PST_STR(sha)},
        {PST_STR("x-amz-date"), PST_STR("20130524T000000Z")},
        {PST_STR("x-amz-storage-class"), PST_STR("REDUCED_REDUNDANCY")},
    };
    char access_key[] = "AKIAIOSFODNN7EXAMPLE", path[64], scratch[4096];
    char secret_key[] = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
    struct s3_identity identity = {
        .generation = 1, .access_key = access_key, .secret_key = secret_key};
    struct s3_signer signer;
    pst_str value;

    (void)state;
    char *end = s3_encode_path(path, PST_STR("/test$file.text"));
    const struct s3_signing in = {.identity = &identity,
                                  .date = "20130524T000000Z",
                                  .region = "us-east-1",
                                  .service = "s3",
                                  .method = PST_STR("PUT"),
                                  .path = pst_str_of(path, (size_t)(end - path)),
                                  .headers = headers,
                                  .n_headers = 5,
                                  .payload = PST_STR(sha)};
    s3_signer_init(&signer, &fake.host, crypto);
    assert_int_equal(s3_sign_authorization(&signer, &in, scratch, &value), PST_OK);
    scratch[value.len] = '\0';
    assert_string_equal(
        scratch,
        "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, "
        "SignedHeaders=date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class, Signature="
        "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd");
    s3_signer_fini(&signer);
}

static void test_sign__get_of_the_lifecycle_is_as_documented(void **state)
{
    (void)state;
    check(&(struct vector){
        AWS_DOC, .method = "GET", .path = "/", .query = "lifecycle=", .payload = S3_EMPTY_SHA256,
        .headers = {AWS_HOST, "x-amz-content-sha256", S3_EMPTY_SHA256, "x-amz-date",
                    "20130524T000000Z"},
        .signature = "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"});
}

static void test_sign__list_is_as_documented(void **state)
{
    (void)state;
    check(&(struct vector){
        AWS_DOC, .method = "GET", .path = "/", .query = "max-keys=2&prefix=J",
        .payload = S3_EMPTY_SHA256,
        .headers = {AWS_HOST, "x-amz-content-sha256", S3_EMPTY_SHA256, "x-amz-date",
                    "20130524T000000Z"},
        .signature = "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"});
}

static void test_sign__url_with_a_signature_is_as_documented(void **state)
{
    char query[512];
    pst_kv params[] = {
        {PST_STR("X-Amz-SignedHeaders"), PST_STR("host")},
        {PST_STR("X-Amz-Expires"), PST_STR("86400")},
        {PST_STR("X-Amz-Date"), PST_STR("20130524T000000Z")},
        {PST_STR("X-Amz-Credential"),
         PST_STR("AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request")},
        {PST_STR("X-Amz-Algorithm"), PST_STR("AWS4-HMAC-SHA256")},
    };

    (void)state;
    *s3_encode_params(query, params, 5) = '\0';
    check(&(struct vector){
        AWS_DOC, .method = "GET", .path = "/test.txt", .query = query,
        .payload = S3_UNSIGNED_PAYLOAD, .headers = {AWS_HOST},
        .signature = "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"});
}

#define AWS_SUITE                                                                                  \
    .access_key = "AKIDEXAMPLE", .secret_key = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",         \
    .date = "20150830T123600Z", .region = "us-east-1", .service = "service", .method = "GET",      \
    .path = "/", .payload = S3_EMPTY_SHA256
#define SUITE_HOST "host", "example.amazonaws.com"
#define SUITE_DATE "x-amz-date", "20150830T123600Z"

static void test_sign__suite_get_vanilla(void **state)
{
    (void)state;
    check(&(struct vector){
        AWS_SUITE, .query = "", .headers = {SUITE_HOST, SUITE_DATE},
        .signature = "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"});
}

static void test_sign__suite_post_vanilla(void **state)
{
    struct vector v = {
        AWS_SUITE, .query = "", .headers = {SUITE_HOST, SUITE_DATE},
        .signature = "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"};

    (void)state;
    v.method = "POST";
    check(&v);
}

static void test_sign__suite_query_is_sorted(void **state)
{
    char query[64];
    pst_kv params[] = {{PST_STR("Param2"), PST_STR("value2")},
                       {PST_STR("Param1"), PST_STR("value1")}};

    (void)state;
    *s3_encode_params(query, params, 2) = '\0';
    check(&(struct vector){
        AWS_SUITE, .query = query, .headers = {SUITE_HOST, SUITE_DATE},
        .signature = "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"});
}

static void test_sign__suite_values_are_trimmed(void **state)
{
    (void)state;
    check(&(struct vector){
        AWS_SUITE, .query = "",
        .headers = {SUITE_HOST, "my-header1", " value1", "my-header2", " \"a   b   c\"",
                    SUITE_DATE},
        .signature = "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736"});
}

/* ---- what is around them ---------------------------------------------------------------------- */

static void test_sign__dates_are_those_of_the_calendar(void **state)
{
    static const struct {
        int64_t unix_s;
        const char *date;
    } cases[] = {
        {0, "19700101T000000Z"},          {951782399, "20000228T235959Z"},
        {951782400, "20000229T000000Z"},  {951868800, "20000301T000000Z"},
        {1369353600, "20130524T000000Z"}, {1735689599, "20241231T235959Z"},
        {4107542400, "21000301T000000Z"},
    };
    char date[S3_DATE_SIZE];

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        s3_sign_date(cases[i].unix_s, date);
        assert_string_equal(date, cases[i].date);
    }
}

static void sign_once(struct s3_signer *signer, uint64_t generation, const char *date,
                      const char *region, char out[S3_SIGNATURE_SIZE])
{
    char access_key[] = "AKIDEXAMPLE", secret_key[] = "secret", scratch[1024];
    struct s3_identity identity = {
        .generation = generation, .access_key = access_key, .secret_key = secret_key};
    const pst_kv header = {PST_STR("host"), PST_STR("a")};

    if (generation > 1)
        secret_key[0] = 'S';
    const struct s3_signing in = {.identity = &identity,
                                  .date = date,
                                  .region = region,
                                  .service = "s3",
                                  .method = PST_STR("GET"),
                                  .path = PST_STR("/"),
                                  .headers = &header,
                                  .n_headers = 1,
                                  .payload = PST_STR(S3_EMPTY_SHA256)};
    assert_int_equal(s3_sign(signer, &in, scratch, out), PST_OK);
}

static void test_sign__kept_key_is_not_used_for_another_day_region_or_identity(void **state)
{
    static const struct {
        uint64_t generation;
        const char *date, *region;
    } cases[] = {
        {1, "20130524T000000Z", "us-east-1"}, {1, "20130525T000000Z", "us-east-1"},
        {1, "20130524T000000Z", "eu-west-1"}, {2, "20130524T000000Z", "us-east-1"},
        {1, "20130524T000000Z", "us-east-1"},
    };
    struct s3_signer shared;
    char kept[S3_SIGNATURE_SIZE], fresh[S3_SIGNATURE_SIZE];

    (void)state;
    s3_signer_init(&shared, &fake.host, crypto);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct s3_signer own;
        s3_signer_init(&own, &fake.host, crypto);
        sign_once(&shared, cases[i].generation, cases[i].date, cases[i].region, kept);
        sign_once(&own, cases[i].generation, cases[i].date, cases[i].region, fresh);
        assert_memory_equal(kept, fresh, sizeof(kept));
        s3_signer_fini(&own);
    }
    s3_signer_fini(&shared);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sign__get_of_a_range_is_as_documented),
        cmocka_unit_test(test_sign__put_is_as_documented),
        cmocka_unit_test(test_sign__get_of_the_lifecycle_is_as_documented),
        cmocka_unit_test(test_sign__list_is_as_documented),
        cmocka_unit_test(test_sign__url_with_a_signature_is_as_documented),
        cmocka_unit_test(test_sign__suite_get_vanilla),
        cmocka_unit_test(test_sign__suite_post_vanilla),
        cmocka_unit_test(test_sign__suite_query_is_sorted),
        cmocka_unit_test(test_sign__suite_values_are_trimmed),
        cmocka_unit_test(test_sign__dates_are_those_of_the_calendar),
        cmocka_unit_test(test_sign__kept_key_is_not_used_for_another_day_region_or_identity),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
