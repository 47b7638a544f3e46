/* A request as it goes out, what its reply means, and how it is cancelled. */
#include "request_trial.h"

#include "../error.h"

/* ---- what goes out ---------------------------------------------------------------------------- */

static void test_request__goes_out_signed(void **state)
{
    struct trial *t = start(NULL);

    (void)state;
    fake_answer(&t->fake, 200, NULL, "hello");
    begin(t, "GET", "a b/c");
    s3_request_param(t->request, "versionId", PST_STR("1/2"));
    s3_request_headerf(t->request, "range", "bytes=%d-%d", 0, 4);
    assert_int_equal(run(t), PST_OK);
    assert_string_equal(t->body, "hello");
    assert_string_equal(sent(t, 0)->method, "GET");
    assert_string_equal(sent(t, 0)->url, "http://127.0.0.1:9000/bucket/a%20b/c?versionId=1%2F2");
    assert_string_equal(fake_header(sent(t, 0), "range"), "bytes=0-4");
    assert_string_equal(fake_header(sent(t, 0), "host"), "127.0.0.1:9000");
    assert_string_equal(fake_header(sent(t, 0), "x-amz-content-sha256"), S3_EMPTY_SHA256);
    assert_non_null(strstr(fake_header(sent(t, 0), "authorization"),
                           "SignedHeaders=host;x-amz-content-sha256;x-amz-date, "));
    finish(t);
}

static void test_request__over_tls_leaves_the_payload_out_of_the_signature(void **state)
{
    struct trial *t = start(OPTIONS("endpoint=https://store:9000"));
    char text[] = "bytes";
    const pst_iov body = {text, 5};

    (void)state;
    fake_answer(&t->fake, 200, NULL, NULL);
    begin(t, "PUT", "k");
    t->request->body = &body;
    t->request->n_body = 1;
    assert_int_equal(run(t), PST_OK);
    assert_string_equal(fake_header(sent(t, 0), "x-amz-content-sha256"), "UNSIGNED-PAYLOAD");
    assert_string_equal(sent(t, 0)->body, "bytes");
    finish(t);
}

static void test_request__digest_of_the_host_is_used_and_else_computed(void **state)
{
    static const char of_abc[] = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    struct trial *t = start(NULL);
    uint8_t digest[32];
    char text[] = "abc";
    const pst_iov body = {text, 3};

    (void)state;
    memset(digest, 0x5a, sizeof(digest));
    fake_answer(&t->fake, 200, NULL, NULL);
    begin(t, "PUT", "k");
    t->request->body = &body;
    t->request->n_body = 1;
    assert_int_equal(run(t), PST_OK);
    assert_string_equal(fake_header(sent(t, 0), "x-amz-content-sha256"), of_abc);
    fake_op_fini(&t->op);
    fake_answer(&t->fake, 200, NULL, NULL);
    begin(t, "PUT", "k");
    t->request->body = &body;
    t->request->n_body = 1;
    t->request->payload_sha256 = digest;
    assert_int_equal(run(t), PST_OK);
    assert_memory_equal(fake_header(sent(t, 1), "x-amz-content-sha256"), "5a5a5a5a", 8);
    finish(t);
}

static void test_request__anonymous_signs_nothing(void **state)
{
    struct trial *t = start(OPTIONS("anonymous=1"));

    (void)state;
    fake_answer(&t->fake, 200, NULL, NULL);
    begin(t, "GET", "k");
    assert_int_equal(run(t), PST_OK);
    assert_int_equal(sent(t, 0)->n_headers, 1);
    assert_string_equal(fake_header(sent(t, 0), "host"), "127.0.0.1:9000");
    finish(t);
}

static void test_request__token_payer_and_owner_go_along_and_are_signed(void **state)
{
    struct trial *t = start(OPTIONS("session_token=TOKEN", "request_payer=requester",
                                    "expected_bucket_owner=123456789012"));

    (void)state;
    fake_answer(&t->fake, 200, NULL, NULL);
    begin(t, "GET", "k");
    assert_int_equal(run(t), PST_OK);
    assert_string_equal(fake_header(sent(t, 0), "x-amz-security-token"), "TOKEN");
    assert_non_null(
        strstr(fake_header(sent(t, 0), "authorization"),
               "SignedHeaders=host;x-amz-content-sha256;x-amz-date;x-amz-expected-bucket-owner;"
               "x-amz-request-payer;x-amz-security-token, "));
    finish(t);
}

static void test_request__aws_has_the_bucket_in_the_host_name(void **state)
{
    struct trial *t = start(OPTIONS("endpoint=", "region=eu-west-1"));

    (void)state;
    fake_answer(&t->fake, 200, NULL, NULL);
    begin(t, "GET", "k");
    assert_int_equal(run(t), PST_OK);
    assert_string_equal(sent(t, 0)->url, "https://bucket.s3.eu-west-1.amazonaws.com/k");
    assert_string_equal(fake_header(sent(t, 0), "host"), "bucket.s3.eu-west-1.amazonaws.com");
    finish(t);
}

static void test_request__bucket_with_dots_stays_in_the_path(void **state)
{
    struct trial *t = start(OPTIONS("endpoint="));

    (void)state;
    fake_answer(&t->fake, 200, NULL, NULL);
    begin(t, "GET", "k");
    t->request->bucket = PST_STR("a.b");
    assert_int_equal(run(t), PST_OK);
    assert_string_equal(sent(t, 0)->url, "https://s3.us-east-1.amazonaws.com/a.b/k");
    finish(t);
}

static void test_request__addressing_is_what_the_option_says(void **state)
{
    struct trial *t = start(OPTIONS("endpoint=http://store:80", "addressing=virtual"));

    (void)state;
    fake_answer(&t->fake, 200, NULL, NULL);
    begin(t, "GET", "");
    s3_request_param(t->request, "uploads", PST_STR(""));
    assert_int_equal(run(t), PST_OK);
    assert_string_equal(sent(t, 0)->url, "http://bucket.store/?uploads=");
    finish(t);
}

static void test_request__service_itself_has_no_bucket(void **state)
{
    struct trial *t = start(NULL);

    (void)state;
    fake_answer(&t->fake, 200, NULL, NULL);
    begin(t, "GET", "");
    t->request->bucket = pst_str_of(NULL, 0);
    assert_int_equal(run(t), PST_OK);
    assert_string_equal(sent(t, 0)->url, "http://127.0.0.1:9000/");
    finish(t);
}

static void test_request__long_keys_and_much_metadata_fit(void **state)
{
    struct trial *t = start(NULL);
    char *key = calloc(1, 1025), names[300][32];
    pst_kv *more = calloc(300, sizeof(*more));

    (void)state;
    assert_non_null(key);
    assert_non_null(more);
    memset(key, '\xfe', 1024);
    for (size_t i = 0; i < 300; i++) {
        snprintf(names[i], sizeof(names[i]), "x-amz-meta-%03zu", 299 - i);
        more[i] = (pst_kv){s3_str(names[i]), PST_STR(" a  b ")};
    }
    fake_answer(&t->fake, 200, NULL, NULL);
    begin(t, "PUT", key);
    t->request->more = more;
    t->request->n_more = 300;
    assert_int_equal(run(t), PST_OK);
    assert_int_equal(strlen(sent(t, 0)->url), strlen("http://127.0.0.1:9000/bucket/") + 3072);
    const char *signature = fake_header(sent(t, 0), "authorization");
    assert_non_null(strstr(signature, ";x-amz-meta-000;x-amz-meta-001;x-amz-meta-002;"));
    assert_non_null(strstr(signature, ";x-amz-meta-299, "));
    free(key);
    free(more);
    finish(t);
}

static void test_request__limit_on_requests_spreads_them(void **state)
{
    struct trial *t = start(OPTIONS("max_requests_per_second=100"));

    (void)state;
    for (size_t i = 0; i < 4; i++) {
        fake_answer(&t->fake, 200, NULL, NULL);
        begin(t, "GET", "k");
        assert_int_equal(run(t), PST_OK);
        fake_op_fini(&t->op);
    }
    assert_int_equal(sent(t, 0)->not_before_ns, 0);
    for (size_t i = 2; i < 4; i++)
        assert_int_equal(sent(t, i)->not_before_ns - sent(t, i - 1)->not_before_ns, 10000000);
    begin(t, "GET", "k");
    finish(t);
}

static void test_request__signs_a_url_without_sending_it(void **state)
{
    struct trial *t = start(OPTIONS("session_token=T+T"));

    (void)state;
    begin(t, "GET", "a b");
    t->request->flags = S3_PRESIGN;
    t->request->presign_s = 3600;
    assert_int_equal(s3_request_send(t->request), PST_OK);
    assert_int_equal(t->fake.n_sent, 0);
    const char *url = t->request->url.ptr;
    const char *const parts[] = {"http://127.0.0.1:9000/bucket/a%20b?X-Amz-Algorithm=AWS4-HMAC-"
                                 "SHA256&X-Amz-Credential=AKIDEXAMPLE%2F",
                                 "&X-Amz-Date=",
                                 "&X-Amz-Expires=3600&X-Amz-Security-Token=T%2BT&"
                                 "X-Amz-SignedHeaders=host&X-Amz-Signature="};
    assert_ptr_equal(strstr(url, parts[0]), url);
    for (size_t i = 1; i < 3; i++)
        assert_non_null(strstr(url, parts[i]));
    assert_int_equal(strlen(strrchr(url, '=') + 1), 64);
    finish(t);
}

/* ---- what comes back -------------------------------------------------------------------------- */

static void test_request__error_names_all_there_is(void **state)
{
    struct trial *t = start(NULL);

    (void)state;
    fake_answer(&t->fake, 403, "x-amz-request-id: header", ERROR_XML("AccessDenied", ""));
    begin(t, "GET", "k");
    assert_int_equal(run(t), PST_E_DENIED);
    assert_string_equal(t->op.err.provider_code, "AccessDenied");
    assert_string_equal(t->op.err.request_id, "R-1");
    assert_string_equal(t->op.err.endpoint, "127.0.0.1:9000");
    assert_int_equal(t->op.err.http_status, 403);
    assert_ptr_equal(strstr(t->op.err.message, "AccessDenied: told so (HTTP 403, request R-1, "
                                               "127.0.0.1:9000, credentials from "),
                     t->op.err.message);
    assert_null(strstr(t->op.err.message, "wJalr"));
    finish(t);
}

static void test_request__code_decides_before_the_status(void **state)
{
    static const struct {
        uint32_t status;
        const char *headers, *body;
        pst_rc rc;
        uint32_t flags, retry_after_ms;
    } cases[] = {
        {400, NULL, ERROR_XML("RequestTimeout", ""), PST_E_UNAVAILABLE, PST_ERR_RETRYABLE, 0},
        {409, NULL, ERROR_XML("ConditionalRequestConflict", ""), PST_E_UNAVAILABLE,
         PST_ERR_RETRYABLE, 0},
        {409, NULL, ERROR_XML("OperationAborted", ""), PST_E_UNAVAILABLE, PST_ERR_RETRYABLE, 0},
        {503, "retry-after: 7", ERROR_XML("SlowDown", ""), PST_E_THROTTLED, PST_ERR_RETRYABLE,
         7000},
        {503, "date: Mon, 12 Oct 2009 17:50:30 GMT\nretry-after: Mon, 12 Oct 2009 17:50:35 GMT",
         ERROR_XML("ServiceUnavailable", ""), PST_E_UNAVAILABLE, PST_ERR_RETRYABLE, 5000},
        {429, "retry-after: soon", "<html>", PST_E_THROTTLED, PST_ERR_RETRYABLE, 0},
        {500, NULL, ERROR_XML("InternalError", ""), PST_E_UNAVAILABLE,
         PST_ERR_RETRYABLE | PST_ERR_MAYBE_APPLIED, 0},
        {502, NULL, "<html><body>bad gateway", PST_E_UNAVAILABLE,
         PST_ERR_RETRYABLE | PST_ERR_MAYBE_APPLIED, 0},
        {503, NULL, NULL, PST_E_UNAVAILABLE, PST_ERR_RETRYABLE | PST_ERR_MAYBE_APPLIED, 0},
        {404, NULL, ERROR_XML("NoSuchBucket", ""), PST_E_NOT_FOUND, PST_ERR_NO_CONTAINER, 0},
        {404, NULL, ERROR_XML("NoSuchKey", ""), PST_E_NOT_FOUND, 0, 0},
        {404, NULL, NULL, PST_E_NOT_FOUND, 0, 0},
        {405, "x-amz-delete-marker: true", ERROR_XML("MethodNotAllowed", ""), PST_E_NOT_FOUND, 0,
         0},
        {403, NULL, ERROR_XML("SignatureDoesNotMatch", ""), PST_E_UNAUTHENTICATED, 0, 0},
        {412, NULL, ERROR_XML("PreconditionFailed", ""), PST_E_PRECONDITION, 0, 0},
        {416, NULL, ERROR_XML("InvalidRange", ""), PST_E_RANGE, 0, 0},
        {400, NULL, ERROR_XML("BadDigest", ""), PST_E_DATA_LOSS, PST_ERR_RETRYABLE, 0},
        {507, NULL, NULL, PST_E_NO_SPACE, 0, 0},
        {418, NULL, NULL, PST_E_INVALID, 0, 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct trial *t = start(NULL);
        fake_answer(&t->fake, cases[i].status, cases[i].headers, cases[i].body);
        begin(t, "PUT", "k");
        t->request->flags = S3_CHANGES;
        assert_int_equal(run(t), cases[i].rc);
        assert_int_equal(t->op.err.code, cases[i].rc);
        assert_int_equal(t->op.err.flags, cases[i].flags);
        assert_int_equal(t->op.err.retry_after_ms, cases[i].retry_after_ms);
        assert_int_equal(t->fake.n_sent, 1);
        finish(t);
    }
}

static void test_request__archived_object_is_named_so(void **state)
{
    struct trial *t = start(NULL);

    (void)state;
    fake_answer(&t->fake, 403, NULL, ERROR_XML("InvalidObjectState", ""));
    begin(t, "GET", "k");
    assert_int_equal(run(t), PST_E_PRECONDITION);
    assert_non_null(strstr(t->op.err.message, "the object is archived, restore it first"));
    finish(t);
}

static void test_request__create_only_that_meets_an_object_is_exists(void **state)
{
    struct trial *t = start(NULL);

    (void)state;
    fake_answer(&t->fake, 412, NULL, ERROR_XML("PreconditionFailed", ""));
    begin(t, "PUT", "k");
    s3_request_header(t->request, "if-none-match", PST_STR("*"));
    assert_int_equal(run(t), PST_E_EXISTS);
    finish(t);
}

static void test_request__lost_reply_of_a_change_may_be_applied(void **state)
{
    const struct fake_reply cut = {
        .rc = PST_E_UNAVAILABLE, .failed_at = PST_HTTP_AT_HEAD, .flags = PST_HTTP_MAY_BE_SENT};
    const struct fake_reply refused = {.rc = PST_E_UNAVAILABLE, .failed_at = PST_HTTP_AT_CONNECT};

    (void)state;
    for (int is_change = 0; is_change < 2; is_change++) {
        for (int is_sent = 0; is_sent < 2; is_sent++) {
            struct trial *t = start(NULL);
            fake_answer_with(&t->fake, is_sent ? &cut : &refused);
            begin(t, is_change ? "PUT" : "GET", "k");
            t->request->flags = is_change ? S3_CHANGES : 0;
            assert_int_equal(run(t), PST_E_UNAVAILABLE);
            assert_true(t->op.err.flags & PST_ERR_RETRYABLE);
            assert_int_equal(!!(t->op.err.flags & PST_ERR_MAYBE_APPLIED), is_change && is_sent);
            finish(t);
        }
    }
}

static void test_request__untrusted_certificate_is_not_worth_a_repeat(void **state)
{
    const struct fake_reply untrusted = {
        .rc = PST_E_UNAVAILABLE, .failed_at = PST_HTTP_AT_TLS, .flags = PST_HTTP_UNTRUSTED};
    struct trial *t = start(OPTIONS("endpoint=https://s"));

    (void)state;
    fake_answer_with(&t->fake, &untrusted);
    begin(t, "GET", "k");
    assert_int_equal(run(t), PST_E_UNAVAILABLE);
    assert_int_equal(t->op.err.flags, 0);
    finish(t);
}

static int32_t refuse_body(struct s3_request *request, const pst_http_head *head,
                           pst_http_grant *grant)
{
    (void)head;
    (void)grant;
    return s3_fail(request->err, PST_E_DATA_LOSS, "another range than asked for");
}

static void test_request__what_accept_said_is_what_is_told(void **state)
{
    struct trial *t = start(NULL);

    (void)state;
    fake_answer(&t->fake, 206, NULL, "body");
    begin(t, "GET", "k");
    t->request->accept = refuse_body;
    assert_int_equal(run(t), PST_E_DATA_LOSS);
    assert_int_equal(t->op.err.code, PST_E_DATA_LOSS);
    assert_string_equal(t->op.err.message, "another range than asked for");
    assert_int_equal(t->op.err.http_status, 206);
    assert_string_equal(t->op.err.endpoint, "127.0.0.1:9000");
    finish(t);
}

/* ---- cancelling ------------------------------------------------------------------------------- */

static void test_request__cancelled_before_it_is_sent_is_not_sent(void **state)
{
    struct trial *t = start(NULL);

    (void)state;
    begin(t, "GET", "k");
    s3_request_cancel(t->request);
    s3_request_init(t->request, t->fake.store, &t->op.op, "GET", PST_STR("k"));
    assert_int_equal(s3_request_send(t->request), PST_E_CANCELLED);
    assert_int_equal(t->fake.n_sent, 0);
    finish(t);
}

static void test_request__cancelled_under_way_ends_cancelled(void **state)
{
    struct trial *t = start(NULL);

    (void)state;
    begin(t, "PUT", "k");
    t->request->flags = S3_CHANGES;
    assert_int_equal(s3_request_send(t->request), PST_PENDING);
    s3_request_cancel(t->request);
    assert_int_equal(fake_run(&t->op, PST_PENDING), PST_E_CANCELLED);
    assert_true(t->op.err.flags & PST_ERR_MAYBE_APPLIED);
    finish(t);
}

static void test_request__cancelled_is_not_corrected(void **state)
{
    struct trial *t = start(NULL);

    (void)state;
    fake_answer(&t->fake, 307, "location: http://127.0.0.1:9000/bucket/k", NULL);
    begin(t, "GET", "k");
    assert_int_equal(s3_request_send(t->request), PST_PENDING);
    atomic_store(&t->request->own.is_cancelled, 1); /* as by another thread while the reply comes */
    assert_int_equal(fake_run(&t->op, PST_PENDING), PST_E_CANCELLED);
    assert_int_equal(t->fake.n_sent, 1);
    finish(t);
}

static void test_request__attempts_go_on_with_another_server(void **state)
{
    struct trial *t = start(OPTIONS("endpoint=http://s{1...2}", "endpoint_policy=rank"));

    (void)state;
    fake_answer(&t->fake, 503, NULL, NULL);
    begin(t, "GET", "k");
    assert_int_equal(run(t), PST_E_UNAVAILABLE);
    assert_int_equal(t->op.op.last_endpoint, 0);
    fake_op_fini(&t->op);
    begin(t, "GET", "k");
    t->op.op.attempt = 2;
    t->op.op.last_endpoint = 0;
    fake_answer(&t->fake, 307, "location: http://s2/bucket/k", NULL);
    fake_answer(&t->fake, 200, NULL, NULL);
    assert_int_equal(run(t), PST_OK); /* two requests of one attempt: neither to the first */
    assert_int_equal(t->op.op.last_endpoint, 1);
    assert_string_equal(fake_header(sent(t, 1), "host"), "s2");
    finish(t);
}

static void test_request__that_tidies_up_survives_cancel_and_deadline(void **state)
{
    struct trial *t = start(NULL);

    (void)state;
    fake_answer(&t->fake, 204, NULL, NULL);
    begin(t, "DELETE", "k");
    t->op.op.deadline_ns = 1; /* long ago */
    s3_request_cancel(t->request);
    s3_request_tidy(t->request, 1);
    const pst_rc rc = s3_request_send(t->request);
    assert_int_equal(rc, PST_PENDING);
    s3_request_cancel(t->request);
    assert_false(sent(t, 0)->is_cancelled);
    assert_true(sent(t, 0)->deadline_ns > 1);
    assert_int_equal(fake_run(&t->op, rc), PST_OK);
    finish(t);
}

/* ---- lack of memory --------------------------------------------------------------------------- */

static void test_request__lack_of_memory_is_an_error(void **state)
{
    (void)state;
    for (int64_t after = 0;; after++) {
        struct trial *t = start(NULL);
        char key[1025] = "";
        memset(key, ' ', sizeof(key) - 1);
        begin(t, "GET", key);
        t->fake.fail_after = after;
        s3_request_headerf(t->request, "range", "bytes=%d-", 0);
        const pst_rc rc = s3_request_send(t->request);
        t->fake.fail_after = -1;
        if (rc == PST_PENDING) {
            fake_answer(&t->fake, 200, NULL, NULL);
            assert_int_equal(fake_run(&t->op, rc), PST_OK);
            finish(t);
            assert_true(after > 0);
            return;
        }
        assert_int_equal(rc, PST_E_NO_MEMORY);
        assert_int_equal(t->fake.n_sent, 0);
        finish(t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_request__goes_out_signed),
        cmocka_unit_test(test_request__over_tls_leaves_the_payload_out_of_the_signature),
        cmocka_unit_test(test_request__digest_of_the_host_is_used_and_else_computed),
        cmocka_unit_test(test_request__anonymous_signs_nothing),
        cmocka_unit_test(test_request__token_payer_and_owner_go_along_and_are_signed),
        cmocka_unit_test(test_request__aws_has_the_bucket_in_the_host_name),
        cmocka_unit_test(test_request__bucket_with_dots_stays_in_the_path),
        cmocka_unit_test(test_request__addressing_is_what_the_option_says),
        cmocka_unit_test(test_request__service_itself_has_no_bucket),
        cmocka_unit_test(test_request__long_keys_and_much_metadata_fit),
        cmocka_unit_test(test_request__limit_on_requests_spreads_them),
        cmocka_unit_test(test_request__signs_a_url_without_sending_it),
        cmocka_unit_test(test_request__error_names_all_there_is),
        cmocka_unit_test(test_request__code_decides_before_the_status),
        cmocka_unit_test(test_request__archived_object_is_named_so),
        cmocka_unit_test(test_request__create_only_that_meets_an_object_is_exists),
        cmocka_unit_test(test_request__lost_reply_of_a_change_may_be_applied),
        cmocka_unit_test(test_request__untrusted_certificate_is_not_worth_a_repeat),
        cmocka_unit_test(test_request__what_accept_said_is_what_is_told),
        cmocka_unit_test(test_request__cancelled_before_it_is_sent_is_not_sent),
        cmocka_unit_test(test_request__cancelled_under_way_ends_cancelled),
        cmocka_unit_test(test_request__cancelled_is_not_corrected),
        cmocka_unit_test(test_request__attempts_go_on_with_another_server),
        cmocka_unit_test(test_request__that_tidies_up_survives_cancel_and_deadline),
        cmocka_unit_test(test_request__lack_of_memory_is_an_error),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
