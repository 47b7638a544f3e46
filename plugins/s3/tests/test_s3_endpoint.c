#include "fake.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "../config.h"
#include "../endpoint.h"

static struct fake fake; /* for its memory */
static pst_error err;

static int setup(void **state)
{
    (void)state;
    fake_start(&fake, NULL);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fake_stop(&fake);
    return 0;
}

static pst_rc make(const char *list, enum s3_endpoint_policy policy, struct s3_endpoints **out)
{
    char text[4096], region[] = "eu-west-1";
    struct s3_config config = {.endpoint = text, .region = region, .endpoint_policy = policy};

    snprintf(text, sizeof(text), "%s", list);
    err = (pst_error)PST_ERROR_INIT;
    return s3_endpoints_new(&fake.host, &config, out, &err);
}

static void test_endpoint__list_and_templates_stand_for_servers(void **state)
{
    static const char *const names[] = {"a:9000",  "store1:80", "store2:80", "store3:80",
                                        "n08:443", "n09:443",   "n10:443",   "[::1]:443"};
    struct s3_endpoints *e = NULL;

    (void)state;
    assert_int_equal(make("http://a:9000/, http://store{1...3} ,https://n{08...10},https://[::1]",
                          S3_ROUND_ROBIN, &e),
                     PST_OK);
    assert_int_equal(s3_endpoints_count(e), 8);
    for (uint32_t i = 0; i < 8; i++)
        assert_string_equal(s3_endpoint_name(e, i), names[i]);
    assert_string_equal(s3_endpoint_origin(e, 0), "http://a:9000");
    assert_string_equal(s3_endpoint_origin(e, 5), "https://n09");
    s3_endpoints_free(e);
}

static void test_endpoint__templates_multiply(void **state)
{
    struct s3_endpoints *e = NULL;

    (void)state;
    assert_int_equal(make("http://r{1...2}n{1...3}:9000", S3_ROUND_ROBIN, &e), PST_OK);
    assert_int_equal(s3_endpoints_count(e), 6);
    assert_string_equal(s3_endpoint_name(e, 3), "r2n1:9000");
    s3_endpoints_free(e);
}

static void test_endpoint__port_of_the_scheme_is_not_in_the_host_header(void **state)
{
    struct s3_endpoints *e = NULL;

    (void)state;
    assert_int_equal(make("https://a:443,http://b:80,http://c:443", S3_ROUND_ROBIN, &e), PST_OK);
    assert_int_equal(s3_endpoint_url(e, 0)->host.len, 1);
    assert_int_equal(s3_endpoint_url(e, 1)->host.len, 1);
    assert_int_equal(s3_endpoint_url(e, 2)->host.len, 5);
    assert_string_equal(s3_endpoint_name(e, 0), "a:443");
    s3_endpoints_free(e);
}

static void test_endpoint__none_is_aws_for_the_region(void **state)
{
    struct s3_endpoints *e = NULL;

    (void)state;
    assert_int_equal(make("", S3_ROUND_ROBIN, &e), PST_OK);
    assert_string_equal(s3_endpoint_origin(e, 0), "https://s3.eu-west-1.amazonaws.com");
    assert_true(s3_endpoints_are_aws(e) && s3_endpoints_are_implied(e));
    s3_endpoints_free(e);
    assert_int_equal(make("https://s3.us-west-2.amazonaws.com", S3_ROUND_ROBIN, &e), PST_OK);
    assert_true(s3_endpoints_are_aws(e) && !s3_endpoints_are_implied(e));
    s3_endpoints_free(e);
}

static void test_endpoint__what_is_no_server_is_refused_by_name(void **state)
{
    static const char *const bad[] = {"store:9000",
                                      "ftp://store",
                                      "http://",
                                      "http://store/path",
                                      "http://user@store",
                                      "http://a b",
                                      "http://s{1...}",
                                      "http://s{3...1}",
                                      "http://s{1..3}",
                                      "http://s{1...3",
                                      "http://s}",
                                      "http://s{a...c}",
                                      "http://s{1...99999999999999999999}",
                                      "http://a,,http://b",
                                      "http://s{1...2000}"};
    struct s3_endpoints *e = NULL;

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(make(bad[i], S3_ROUND_ROBIN, &e), PST_E_INVALID);
        assert_ptr_equal(strstr(err.message, "option endpoint: "), err.message);
    }
}

static uint32_t pick(struct s3_endpoints *e, uint32_t affinity)
{
    return s3_endpoints_pick(e, affinity, S3_AVOID_NONE);
}

static void ask(struct s3_endpoints *e, uint32_t index, enum s3_outcome outcome)
{
    uint32_t got;

    do { /* the others answer well */
        got = pick(e, index);
        s3_endpoints_report(e, got, got == index ? outcome : S3_ANSWERED);
    } while (got != index);
}

static void test_endpoint__round_robin_asks_each_in_turn(void **state)
{
    struct s3_endpoints *e = NULL;

    (void)state;
    assert_int_equal(make("http://s{1...3}", S3_ROUND_ROBIN, &e), PST_OK);
    for (uint32_t i = 0; i < 9; i++)
        assert_int_equal(pick(e, 0), i % 3);
    s3_endpoints_free(e);
}

static void test_endpoint__rank_always_asks_the_same(void **state)
{
    struct s3_endpoints *e = NULL;

    (void)state;
    assert_int_equal(make("http://s{1...3}", S3_BY_RANK, &e), PST_OK);
    for (uint32_t i = 0; i < 9; i++)
        assert_int_equal(pick(e, 7), 1);
    s3_endpoints_free(e);
}

static void test_endpoint__least_outstanding_fills_up_the_idle(void **state)
{
    struct s3_endpoints *e = NULL;
    uint32_t n[3] = {0};

    (void)state;
    assert_int_equal(make("http://s{1...3}", S3_LEAST_OUTSTANDING, &e), PST_OK);
    for (uint32_t i = 0; i < 9; i++)
        n[pick(e, 0)]++;
    assert_true(n[0] == 3 && n[1] == 3 && n[2] == 3);
    s3_endpoints_report(e, 1, S3_ANSWERED);
    s3_endpoints_report(e, 1, S3_ANSWERED);
    assert_int_equal(pick(e, 0), 1);
    assert_int_equal(pick(e, 0), 1);
    s3_endpoints_free(e);
}

static void test_endpoint__attempt_after_a_failed_one_goes_elsewhere(void **state)
{
    struct s3_endpoints *e = NULL;

    (void)state;
    assert_int_equal(make("http://s{1...2}", S3_BY_RANK, &e), PST_OK);
    for (uint32_t last = 0; last < 2; last++)
        assert_int_equal(s3_endpoints_pick(e, last, last), 1 - last);
    s3_endpoints_free(e);
}

static void test_endpoint__three_failures_in_a_row_eject(void **state)
{
    struct s3_endpoints *e = NULL;
    struct s3_endpoint_stats stats;

    (void)state;
    assert_int_equal(make("http://s{1...2}", S3_BY_RANK, &e), PST_OK);
    ask(e, 0, S3_FAILED);
    ask(e, 0, S3_FAILED);
    ask(e, 0, S3_ANSWERED); /* not in a row */
    ask(e, 0, S3_FAILED);
    ask(e, 0, S3_FAILED);
    assert_int_equal(pick(e, 0), 0);
    s3_endpoints_report(e, 0, S3_UNDECIDED); /* tells nothing */
    ask(e, 0, S3_FAILED);
    for (uint32_t i = 0; i < 10; i++)
        assert_int_equal(pick(e, 0), 1);
    s3_endpoints_stats(e, 0, &stats);
    assert_true(stats.is_ejected && stats.ejections == 1 && stats.failures == 5);
    s3_endpoints_free(e);
}

static void test_endpoint__when_all_are_ejected_all_are_asked(void **state)
{
    struct s3_endpoints *e = NULL;
    uint32_t seen = 0;

    (void)state;
    assert_int_equal(make("http://s{1...2}", S3_ROUND_ROBIN, &e), PST_OK);
    for (int i = 0; i < 12; i++)
        s3_endpoints_report(e, pick(e, 0), S3_FAILED);
    for (int i = 0; i < 4; i++)
        seen |= 1u << pick(e, 0);
    assert_int_equal(seen, 3);
    s3_endpoints_free(e);
}

static void test_endpoint__ejected_one_is_tried_again_by_one_request(void **state)
{
    struct s3_endpoints *e = NULL;
    const struct timespec pause = {.tv_nsec = 20000000};
    int n_tries = 0;
    uint32_t index = 1;

    (void)state;
    assert_int_equal(make("http://s{1...2}", S3_BY_RANK, &e), PST_OK);
    for (int i = 0; i < 3; i++)
        ask(e, 0, S3_FAILED);
    while (index != 0) { /* for a second */
        index = pick(e, 0);
        if (index != 0)
            s3_endpoints_report(e, index, S3_ANSWERED);
        n_tries++;
        nanosleep(&pause, NULL);
    }
    assert_true(n_tries > 1);
    assert_int_equal(pick(e, 0), 1); /* while the trial is under way */
    s3_endpoints_report(e, 0, S3_ANSWERED);
    assert_int_equal(pick(e, 0), 0);
    s3_endpoints_free(e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_endpoint__list_and_templates_stand_for_servers),
        cmocka_unit_test(test_endpoint__templates_multiply),
        cmocka_unit_test(test_endpoint__port_of_the_scheme_is_not_in_the_host_header),
        cmocka_unit_test(test_endpoint__none_is_aws_for_the_region),
        cmocka_unit_test(test_endpoint__what_is_no_server_is_refused_by_name),
        cmocka_unit_test(test_endpoint__round_robin_asks_each_in_turn),
        cmocka_unit_test(test_endpoint__rank_always_asks_the_same),
        cmocka_unit_test(test_endpoint__least_outstanding_fills_up_the_idle),
        cmocka_unit_test(test_endpoint__attempt_after_a_failed_one_goes_elsewhere),
        cmocka_unit_test(test_endpoint__three_failures_in_a_row_eject),
        cmocka_unit_test(test_endpoint__when_all_are_ejected_all_are_asked),
        cmocka_unit_test(test_endpoint__ejected_one_is_tried_again_by_one_request),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
