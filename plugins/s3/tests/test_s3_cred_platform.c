/* Credentials that a platform hands out: container services and the instance's metadata. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "cred_fixture.h"

#define IMDS "http://169.254.169.254"
#define TOKEN_PUT "PUT " IMDS "/latest/api/token"
#define ROLES_GET "GET " IMDS "/latest/meta-data/iam/security-credentials/"

enum { HOUR_S = 3600 };

static void start(struct cred_case *c, const char *const *options)
{
    if (cred_case_open(c, options) != PST_OK)
        fail_msg("%s", c->err.message);
}
#define START(c, ...) start(c, (const char *const[]){__VA_ARGS__, NULL})

/* ---- containers ------------------------------------------------------------------------------- */

static void test_container__a_path_is_asked_of_the_platform_s_address(void **state)
{
    struct cred_case *c = *state;

    cred_case_answer(c, "GET http://169.254.170.2/v2/credentials/1", 200,
                     json_keys(c, "ECS", HOUR_S));
    START(c, "env:container_credentials_relative_uri=/v2/credentials/1",
          "env:container_credentials_full_uri=http://127.0.0.1:1/other");
    expect_key(c, "ECS", "TOKEN-ECS");
    assert_int_equal(c->sent[0].is_direct, PST_HTTP_NO_PROXY);
    assert_null(strstr(c->sent[0].headers, "authorization"));
}

static void test_container__the_token_goes_along_and_its_file_first(void **state)
{
    struct cred_case *c = *state;
    struct cred_asker a;
    char option[600];

    cred_case_answer(c, "GET https://keys.example/x", 200, json_keys(c, "EKS", HOUR_S));
    START(c, "env:container_credentials_full_uri=https://keys.example/x",
          "env:container_authorization_token=Basic abc");
    expect_key(c, "EKS", "TOKEN-EKS");
    assert_non_null(strstr(c->sent[0].headers, "authorization: Basic abc\n"));
    cred_case_close(c);
    cred_case_file(c, "token", "first\n");
    snprintf(option, sizeof(option), "env:container_authorization_token_file=%s",
             cred_case_path(c, "token"));
    START(c, "env:container_credentials_full_uri=https://keys.example/x", option,
          "env:container_authorization_token=Basic abc");
    expect_key(c, "EKS", "TOKEN-EKS");
    assert_non_null(strstr(c->sent[1].headers, "authorization: first\n"));
    cred_case_file(c, "token", "second");
    assert_int_equal(cred_ask(c, &a, 1), PST_PENDING);
    assert_int_equal(cred_wait(&a), PST_OK);
    cred_asker_fini(&a);
    assert_non_null(strstr(c->sent[2].headers, "authorization: second\n"));
}

static void test_container__plain_http_leads_to_this_machine_or_the_platform(void **state)
{
    struct cred_case *c = *state;
    static const char *const good[] = {
        "http://127.0.0.1/x",    "http://127.8.9.1:80/x",      "http://localhost:51679/x",
        "http://[::1]:80/x",     "http://169.254.170.23/v1/x", "http://[fd00:ec2::23]/v1/x",
        "https://any.example/x", "http://169.254.170.2/x",
    };
    static const char *const bad[] = {
        "http://keys.example/x",
        "http://127.0.0.1.example/x",
        "http://127.1/x",
        "http://localhost.example/x",
        "http://169.254.170.2.nip/x",
        "http://127.0.0.256/x",
        "http://10.0.0.1/x",
        "ftp://127.0.0.1/x",
        "127.0.0.1/x",
        "http://127.0.0.1@evil.test/",
        "http://[::2]/x",
        "http://0x7f000001/x",
    };

    cred_case_answer(c, "GET http", 200, json_keys(c, "C", HOUR_S));
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        char option[128];
        snprintf(option, sizeof(option), "container_credentials_full_uri=%s", good[i]);
        START(c, option);
        expect_key(c, "C", "TOKEN-C");
        cred_case_close(c);
    }
    const size_t n = c->n_sent;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        char option[128];
        snprintf(option, sizeof(option), "container_credentials_full_uri=%s", bad[i]);
        START(c, option, "container_authorization_token=hush");
        EXPECT_ERROR(c, PST_E_INVALID, "AWS_CONTAINER_CREDENTIALS_FULL_URI");
        cred_case_close(c);
    }
    assert_int_equal(c->n_sent, n);
}

static void test_container__what_goes_wrong_is_an_error_that_names_it(void **state)
{
    struct cred_case *c = *state;

    START(c, "env:container_credentials_full_uri=http://127.0.0.1:1/x");
    EXPECT_ERROR(c, PST_E_UNAVAILABLE, "container credentials: 127.0.0.1:1: connection refused");
    assert_int_equal(c->n_sent, 3);
    cred_case_close(c);
    START(c, "env:container_credentials_relative_uri=no-slash");
    EXPECT_ERROR(c, PST_E_INVALID, "does not begin with '/'");
    cred_case_close(c);
    START(c, "env:container_credentials_full_uri=http://127.0.0.1:1/x",
          "env:container_authorization_token_file=/nonexistent/token");
    EXPECT_ERROR(c, PST_E_UNAUTHENTICATED, "there is no file /nonexistent/token");
    cred_case_close(c);
    START(c, "env:container_credentials_full_uri=http://127.0.0.1:1/x",
          "env:container_authorization_token=a\r\nx: y");
    EXPECT_ERROR(c, PST_E_INVALID, "has a line break");
    cred_case_close(c);
    cred_case_answer(c, "GET http://127.0.0.1:1/x", 200, json_keys(c, "C", -5));
    START(c, "env:container_credentials_full_uri=http://127.0.0.1:1/x");
    EXPECT_ERROR(c, PST_E_UNAUTHENTICATED, "have expired already");
}

/* ---- the instance ----------------------------------------------------------------------------- */

static void test_imds__a_token_a_role_and_its_keys(void **state)
{
    struct cred_case *c = *state;
    struct cred_asker a;

    cred_case_answer(c, TOKEN_PUT, 200, "IMDSTOKEN");
    c->rules[0].wants = "x-aws-ec2-metadata-token-ttl-seconds: 21600";
    cred_case_answer(c, ROLES_GET "my%2Brole", 200, json_keys(c, "EC2", HOUR_S));
    c->rules[1].wants = "x-aws-ec2-metadata-token: IMDSTOKEN";
    cred_case_answer(c, ROLES_GET, 200, "my+role\nother");
    c->rules[2].wants = "x-aws-ec2-metadata-token: IMDSTOKEN";
    START(c, NULL);
    assert_int_equal(cred_ask(c, &a, 0), PST_PENDING);
    if (cred_wait(&a) != PST_OK)
        fail_msg("%s", a.err.message);
    assert_string_equal(a.identity->access_key, "EC2");
    assert_string_equal(a.identity->source, "role my+role of the EC2 instance");
    cred_asker_fini(&a);
    for (size_t i = 0; i < c->n_sent; i++)
        assert_int_equal(c->sent[i].is_direct, PST_HTTP_NO_PROXY);
}

static void test_imds__where_tokens_are_unknown_version_1_is_asked(void **state)
{
    static const uint32_t statuses[] = {403, 404, 405};
    struct cred_case *c = *state;

    cred_case_answer(c, ROLES_GET "role", 200, json_keys(c, "V1", HOUR_S));
    cred_case_answer(c, ROLES_GET, 200, "role");
    struct cred_rule *token = cred_case_rule(c, TOKEN_PUT);
    for (size_t i = 0; i < 3; i++) {
        token->status = statuses[i];
        START(c, NULL);
        expect_key(c, "V1", "TOKEN-V1");
        assert_null(strstr(c->sent[c->n_sent - 1].headers, "token"));
        cred_case_close(c);
    }
}

static void test_imds__any_other_refusal_of_a_token_is_no_way_to_version_1(void **state)
{
    struct cred_case *c = *state;

    cred_case_answer(c, TOKEN_PUT, 400, "");
    START(c, NULL);
    EXPECT_ERROR(c, PST_E_UNAUTHENTICATED, "EC2 metadata: " IMDS " answered 400 to the request");
    assert_int_equal(c->n_sent, 1);
}

static void test_imds__an_instance_without_a_role_is_not_set_up(void **state)
{
    struct cred_case *c = *state;

    cred_case_answer(c, TOKEN_PUT, 200, "T");
    cred_case_answer(c, ROLES_GET, 404, "");
    START(c, NULL);
    EXPECT_ERROR(c, PST_E_UNAUTHENTICATED, "EC2 metadata: the instance has no role");
}

static void test_imds__a_role_whose_keys_cannot_be_had_is_an_error(void **state)
{
    struct cred_case *c = *state;

    cred_case_answer(c, TOKEN_PUT, 200, "T");
    struct cred_rule *keys = cred_case_rule(c, ROLES_GET "role");
    cred_case_answer(c, ROLES_GET, 200, "role");
    keys->status = 200;
    keys->body = "{\"Code\": \"AssumeRoleUnauthorizedAccess\"}";
    START(c, NULL);
    EXPECT_ERROR(c, PST_E_UNAUTHENTICATED,
                 "EC2 instance metadata: no keys for role 'role': AssumeRoleUnauthorizedAccess");
    cred_case_close(c);
    keys->status = 500;
    START(c, NULL);
    EXPECT_ERROR(c, PST_E_UNAVAILABLE, "it answered 500 when asked for the keys of role 'role'");
    cred_case_close(c);
    keys->status = 404;
    START(c, NULL);
    EXPECT_ERROR(c, PST_E_UNAUTHENTICATED, "it answered 404");
    cred_case_close(c);
    keys->status = 0;
    START(c, NULL);
    EXPECT_ERROR(c, PST_E_UNAVAILABLE, "EC2 instance metadata: 127.0.0.1:1: connection refused");
}

static void test_imds__may_be_elsewhere_and_is_given_one_second_twice(void **state)
{
    struct cred_case *c = *state;
    struct timespec now;

    START(c, "env:imds_endpoint=http://127.0.0.1:1/");
    EXPECT_ERROR(c, PST_E_UNAUTHENTICATED, "http://127.0.0.1:1/ does not answer");
    clock_gettime(CLOCK_MONOTONIC, &now);
    assert_int_equal(c->n_sent, 2);
    assert_string_equal(c->sent[0].line, "PUT http://127.0.0.1:1/latest/api/token");
    for (size_t i = 0; i < 2; i++)
        assert_true(c->sent[i].deadline_ns <=
                    (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec + 1000000000u);
}

static void test_imds__that_falls_silent_later_is_a_moment_and_not_the_end(void **state)
{
    struct cred_case *c = *state;
    struct cred_asker a;

    cred_case_answer(c, TOKEN_PUT, 200, "T");
    c->rules[0].n_left = 1;
    cred_case_answer(c, ROLES_GET "role", 200, json_keys(c, "EC2", HOUR_S));
    cred_case_answer(c, ROLES_GET, 200, "role");
    START(c, NULL);
    expect_key(c, "EC2", "TOKEN-EC2");
    assert_int_equal(cred_ask(c, &a, 1), PST_PENDING);
    assert_int_equal(cred_wait(&a), PST_E_UNAVAILABLE);
    assert_true(a.err.flags & PST_ERR_RETRYABLE);
    cred_asker_fini(&a);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, cred_case_setup, cred_case_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_container__a_path_is_asked_of_the_platform_s_address),
        TEST(test_container__the_token_goes_along_and_its_file_first),
        TEST(test_container__plain_http_leads_to_this_machine_or_the_platform),
        TEST(test_container__what_goes_wrong_is_an_error_that_names_it),
        TEST(test_imds__a_token_a_role_and_its_keys),
        TEST(test_imds__where_tokens_are_unknown_version_1_is_asked),
        TEST(test_imds__any_other_refusal_of_a_token_is_no_way_to_version_1),
        TEST(test_imds__an_instance_without_a_role_is_not_set_up),
        TEST(test_imds__a_role_whose_keys_cannot_be_had_is_an_error),
        TEST(test_imds__may_be_elsewhere_and_is_given_one_second_twice),
        TEST(test_imds__that_falls_silent_later_is_a_moment_and_not_the_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
