/* What a reply teaches about region, clock and place: the request is put right and sent again. */
#include "request_trial.h"

#include <time.h>

static void test_request__region_is_corrected_once_and_kept(void **state)
{
    static const char moved[] = ERROR_XML("AuthorizationHeaderMalformed",
                                          "<Region>eu-central-1</Region>");
    struct trial *t = start(NULL);

    (void)state;
    fake_answer(&t->fake, 400, NULL, moved);
    fake_answer(&t->fake, 200, NULL, "ok");
    begin(t, "GET", "k");
    assert_int_equal(run(t), PST_OK);
    assert_non_null(strstr(fake_header(sent(t, 0), "authorization"), "/us-east-1/s3/"));
    assert_non_null(strstr(fake_header(sent(t, 1), "authorization"), "/eu-central-1/s3/"));
    assert_non_null(strstr(note(t), "region eu-central-1 as the store says"));
    fake_op_fini(&t->op);
    fake_answer(&t->fake, 200, NULL, "ok");
    begin(t, "GET", "k");
    assert_int_equal(run(t), PST_OK);
    assert_non_null(strstr(fake_header(sent(t, 2), "authorization"), "/eu-central-1/s3/"));
    finish(t);
}

static void test_request__store_that_contradicts_itself_about_the_region_is_believed_once(
    void **state)
{
    struct trial *t = start(NULL);

    (void)state;
    fake_answer(&t->fake, 400, NULL,
                ERROR_XML("AuthorizationHeaderMalformed", "<Region>a</Region>"));
    fake_answer(&t->fake, 400, NULL,
                ERROR_XML("AuthorizationHeaderMalformed", "<Region>b</Region>"));
    begin(t, "GET", "k");
    assert_int_equal(run(t), PST_E_UNAUTHENTICATED);
    assert_int_equal(t->fake.n_sent, 2);
    finish(t);
}

static void test_request__head_learns_the_region_from_a_header(void **state)
{
    struct trial *t = start(OPTIONS("endpoint="));

    (void)state;
    fake_answer(&t->fake, 301, "x-amz-bucket-region: ap-south-1", NULL);
    fake_answer(&t->fake, 200, NULL, NULL);
    begin(t, "HEAD", "k");
    assert_int_equal(run(t), PST_OK);
    assert_string_equal(sent(t, 1)->url, "https://bucket.s3.ap-south-1.amazonaws.com/k");
    finish(t);
}

static void test_request__region_with_odd_bytes_is_not_taken(void **state)
{
    struct trial *t = start(NULL);

    (void)state;
    fake_answer(&t->fake, 301, "x-amz-bucket-region: evil.example/", NULL);
    begin(t, "GET", "k");
    assert_int_equal(run(t), PST_E_INVALID);
    assert_int_equal(t->fake.n_sent, 1);
    finish(t);
}

static void test_request__clock_is_corrected_by_the_stores(void **state)
{
    struct trial *t = start(NULL);

    (void)state;
    fake_answer(&t->fake, 403, "date: Tue, 01 Jan 2030 00:00:00 GMT",
                ERROR_XML("RequestTimeTooSkewed", ""));
    fake_answer(&t->fake, 200, NULL, NULL);
    begin(t, "GET", "k");
    assert_int_equal(run(t), PST_OK);
    /* within the seconds that this test may take */
    const char *date = fake_header(sent(t, 1), "x-amz-date");
    assert_true(strncmp(date, "20300101T0000", 13) == 0 || strncmp(date, "20291231T2359", 13) == 0);
    assert_non_null(strstr(note(t), "the store's clock is "));
    finish(t);
}

static void test_request__redirect_within_the_store_is_followed(void **state)
{
    struct trial *t = start(NULL);

    (void)state;
    fake_answer(&t->fake, 307, "location: http://127.0.0.1:9000/other/k?b=%2F&a", NULL);
    fake_answer(&t->fake, 200, NULL, "there");
    begin(t, "GET", "k");
    assert_int_equal(run(t), PST_OK);
    assert_string_equal(t->body, "there");
    assert_string_equal(sent(t, 1)->url, "http://127.0.0.1:9000/other/k?b=%2F&a");
    finish(t);
}

static void test_request__redirect_to_another_host_needs_the_option(void **state)
{
    for (int is_allowed = 0; is_allowed < 2; is_allowed++) {
        struct trial *t = start(is_allowed ? OPTIONS("follow_redirects=1") : NULL);
        (void)state;
        fake_answer(&t->fake, 307, "location: http://127.0.0.2:9000/bucket/k", NULL);
        if (is_allowed)
            fake_answer(&t->fake, 200, NULL, NULL);
        begin(t, "GET", "k");
        assert_int_equal(run(t), is_allowed ? PST_OK : (pst_rc)PST_E_DENIED);
        assert_int_equal(t->fake.n_sent, 1 + is_allowed);
        if (is_allowed)
            assert_string_equal(fake_header(sent(t, 1), "host"), "127.0.0.2:9000");
        else
            assert_non_null(strstr(t->op.err.message, "follow_redirects"));
        finish(t);
    }
}

static void test_request__redirect_from_https_to_http_is_never_followed(void **state)
{
    struct trial *t = start(OPTIONS("endpoint=https://store", "follow_redirects=1"));

    (void)state;
    fake_answer(&t->fake, 308, "location: http://store/bucket/k", NULL);
    begin(t, "GET", "k");
    assert_int_equal(run(t), PST_E_DENIED);
    assert_non_null(strstr(t->op.err.message, "from https to http"));
    finish(t);
}

static void test_request__redirects_in_a_circle_end(void **state)
{
    struct trial *t = start(NULL);

    (void)state;
    for (int i = 0; i < 4; i++)
        fake_answer(&t->fake, 307, "location: http://127.0.0.1:9000/bucket/k", NULL);
    begin(t, "GET", "k");
    assert_int_equal(run(t), PST_E_UNAVAILABLE);
    assert_non_null(strstr(t->op.err.message, "redirects in a row"));
    finish(t);
}

static void test_request__clock_that_another_request_has_corrected_is_signed_by_too(void **state)
{
    struct trial *t = start(NULL);
    const int64_t there = 1893456000; /* 2030-01-01 */

    (void)state;
    fake_answer(&t->fake, 403, "date: Tue, 01 Jan 2030 00:00:00 GMT",
                ERROR_XML("RequestTimeTooSkewed", ""));
    fake_answer(&t->fake, 200, NULL, NULL);
    begin(t, "GET", "k");
    const pst_rc rc = s3_request_send(t->request);
    atomic_store(&t->fake.store->clock_skew_s, there - time(NULL));
    assert_int_equal(fake_run(&t->op, rc), PST_OK);
    const char *date = fake_header(sent(t, 1), "x-amz-date");
    assert_true(strncmp(date, "20300101T0000", 13) == 0 || strncmp(date, "20291231T2359", 13) == 0);
    finish(t);
}

static void test_request__region_of_another_bucket_is_not_the_stores(void **state)
{
    struct trial *t = start(NULL);

    (void)state;
    fake_answer(&t->fake, 400, NULL,
                ERROR_XML("AuthorizationHeaderMalformed", "<Region>eu-central-1</Region>"));
    fake_answer(&t->fake, 200, NULL, NULL);
    begin(t, "HEAD", "k");
    t->request->bucket = PST_STR("other");
    assert_int_equal(run(t), PST_OK);
    assert_non_null(strstr(fake_header(sent(t, 1), "authorization"), "/eu-central-1/s3/"));
    fake_op_fini(&t->op);
    fake_answer(&t->fake, 200, NULL, NULL);
    begin(t, "GET", "k");
    assert_int_equal(run(t), PST_OK);
    assert_non_null(strstr(fake_header(sent(t, 2), "authorization"), "/us-east-1/s3/"));
    finish(t);
}

static void test_request__redirect_to_the_same_server_is_followed_whatever_its_name(void **state)
{
    struct trial *t = start(OPTIONS("endpoint=https://store", "addressing=virtual"));

    (void)state;
    fake_answer(&t->fake, 307, "location: https://bucket.store:443/k?x", NULL);
    fake_answer(&t->fake, 307, "location: https://store/bucket/k", NULL);
    fake_answer(&t->fake, 200, NULL, NULL);
    begin(t, "GET", "k");
    assert_int_equal(run(t), PST_OK);
    assert_string_equal(fake_header(sent(t, 1), "host"), "bucket.store");
    assert_string_equal(fake_header(sent(t, 2), "host"), "store");
    finish(t);
}

static void test_request__query_of_a_redirect_is_signed_in_the_order_of_names(void **state)
{
    struct trial *t = start(NULL);
    size_t n = 0;

    (void)state;
    do { /* until both were signed in one second */
        n = t->fake.n_sent;
        fake_answer(&t->fake, 200, NULL, NULL);
        begin(t, "GET", "k");
        s3_request_param(t->request, "a", PST_STR("2"));
        s3_request_param(t->request, "a-b", PST_STR("1"));
        assert_int_equal(run(t), PST_OK);
        fake_op_fini(&t->op);
        fake_answer(&t->fake, 307, "location: http://127.0.0.1:9000/bucket/k?a-b=1&a=2", NULL);
        fake_answer(&t->fake, 200, NULL, NULL);
        begin(t, "GET", "k");
        assert_int_equal(run(t), PST_OK);
        fake_op_fini(&t->op);
    } while (n < 60 &&
             strcmp(sent(t, n)->headers[2].value.ptr, sent(t, n + 2)->headers[2].value.ptr) != 0);
    assert_string_equal(sent(t, n)->headers[2].key.ptr, "x-amz-date");
    char direct[512];
    snprintf(direct, sizeof(direct), "%s", fake_header(sent(t, n), "authorization"));
    assert_string_equal(fake_header(sent(t, n + 2), "authorization"), direct);
    begin(t, "GET", "k");
    finish(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_request__region_is_corrected_once_and_kept),
        cmocka_unit_test(
            test_request__store_that_contradicts_itself_about_the_region_is_believed_once),
        cmocka_unit_test(test_request__head_learns_the_region_from_a_header),
        cmocka_unit_test(test_request__region_with_odd_bytes_is_not_taken),
        cmocka_unit_test(test_request__clock_is_corrected_by_the_stores),
        cmocka_unit_test(test_request__redirect_within_the_store_is_followed),
        cmocka_unit_test(test_request__redirect_to_another_host_needs_the_option),
        cmocka_unit_test(test_request__redirect_from_https_to_http_is_never_followed),
        cmocka_unit_test(test_request__redirects_in_a_circle_end),
        cmocka_unit_test(test_request__clock_that_another_request_has_corrected_is_signed_by_too),
        cmocka_unit_test(test_request__region_of_another_bucket_is_not_the_stores),
        cmocka_unit_test(test_request__redirect_to_the_same_server_is_followed_whatever_its_name),
        cmocka_unit_test(test_request__query_of_a_redirect_is_signed_in_the_order_of_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
