#include "fake.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "../endpoint.h"
#include "../error.h"
#include "../s3.h"
#include "../url.h"

/* An operation of one request: what every slot does, without its own part. */
struct trial {
    struct fake fake;
    struct fake_op op;
    struct s3_request *request;
    char body[512]; /* of the reply */
    uint32_t status;
};

static void on_done(struct s3_request *request, pst_rc rc, const pst_http_reply *reply)
{
    struct trial *trial = s3_call_of(request->op)->result;

    if (reply) {
        assert_true(reply->body.len < sizeof(trial->body));
        *s3_write(trial->body, reply->body) = '\0';
        trial->status = reply->status;
    }
    s3_complete(request->op, rc);
}

static void begin(struct trial *t, const char *method, const char *key)
{
    fake_op_init(&t->fake, &t->op);
    s3_call_of(&t->op.op)->result = t;
    t->request = &s3_call_of(&t->op.op)->request;
    s3_request_init(t->request, t->fake.store, &t->op.op, method, s3_str(key));
    t->request->done = on_done;
}

static struct trial *start(const char *const *options)
{
    struct trial *t = calloc(1, sizeof(*t));

    assert_non_null(t);
    fake_start(&t->fake, options);
    return t;
}

static pst_rc run(struct trial *t)
{
    return fake_run(&t->op, s3_request_send(t->request));
}

static void finish(struct trial *t)
{
    fake_op_fini(&t->op);
    fake_stop(&t->fake);
    free(t);
}

static const struct fake_sent *sent(const struct trial *t, size_t i)
{
    assert_true(i < t->fake.n_sent);
    return t->fake.sent[i];
}

#define OPTIONS(...) ((const char *const[]){__VA_ARGS__, NULL})
#define XML "<?xml version=\"1.0\"?>"
#define ERROR_XML(code, more)                                                                      \
    XML "<Error><Code>" code "</Code><Message>told so</Message>" more                              \
        "<RequestId>R-1</RequestId></Error>"

static const char *note(struct trial *t)
{
    pst_limits limits = {.struct_size = sizeof(limits)};
    pst_backend_info info = {.struct_size = sizeof(info), .limits = &limits};

    t->fake.plugin->ops->info(t->fake.store, &info);
    return info.note;
}

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

/* ---- what is put right ------------------------------------------------------------------------ */

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

/* ---- credentials that have to be asked for ---------------------------------------------------- */

#define CONTAINER "container_credentials_full_uri=http://127.0.0.1:1/creds"

struct issuer {
    int n_asked, is_silent, n_expired;
};

/* The container service hands out K1, K2, ...; the store calls the first n_expired of them expired. */
static int answer_both(struct fake *fake, struct fake_sent *s, struct fake_reply *out)
{
    static char documents[8][256];
    struct issuer *issuer = fake->answer_ctx;
    const char *body = "ok";

    memset(out, 0, sizeof(*out));
    out->status = 200;
    if (strstr(s->url, "/creds")) {
        if (issuer->is_silent)
            return 0;
        assert_true(issuer->n_asked < 8);
        char *document = documents[issuer->n_asked++];
        snprintf(document, 256,
                 "{\"AccessKeyId\": \"K%d\", \"SecretAccessKey\": \"S\", \"Token\": \"T%d\", "
                 "\"Expiration\": \"2100-01-01T00:00:00Z\"}",
                 issuer->n_asked, issuer->n_asked);
        body = document;
    } else if (strtol(fake_header(s, "x-amz-security-token") + 1, NULL, 10) <= issuer->n_expired) {
        out->status = 400;
        body = ERROR_XML("ExpiredToken", "");
    }
    out->body = body;
    out->body_len = strlen(body);
    return 1;
}

static struct trial *start_with_issuer(struct issuer *issuer)
{
    struct trial *t = start(OPTIONS("no_keys=", CONTAINER, "home=/nonexistent", "imds_disabled=1"));

    t->fake.answer = answer_both;
    t->fake.answer_ctx = issuer;
    return t;
}

static size_t n_to_store(const struct trial *t)
{
    size_t n = 0;

    for (size_t i = 0; i < t->fake.n_sent; i++)
        n += strstr(t->fake.sent[i]->url, "/bucket/") != NULL;
    return n;
}

static void test_request__waits_for_credentials(void **state)
{
    struct issuer issuer = {0};
    struct trial *t = start_with_issuer(&issuer);

    (void)state;
    begin(t, "GET", "k");
    assert_int_equal(run(t), PST_OK);
    assert_int_equal(t->fake.n_sent, 2);
    assert_string_equal(fake_header(sent(t, 1), "x-amz-security-token"), "T1");
    finish(t);
}

static void test_request__expired_token_is_renewed_once(void **state)
{
    (void)state;
    for (int n_expired = 1; n_expired <= 2; n_expired++) {
        struct issuer issuer = {.n_expired = n_expired};
        struct trial *t = start_with_issuer(&issuer);
        begin(t, "GET", "k");
        assert_int_equal(run(t), n_expired == 1 ? PST_OK : (pst_rc)PST_E_UNAUTHENTICATED);
        assert_int_equal(issuer.n_asked, 2);
        assert_int_equal(n_to_store(t), 2);
        if (n_expired == 2)
            assert_non_null(strstr(t->op.err.message, "ExpiredToken: told so (HTTP 400"));
        finish(t);
    }
}

static void test_request__source_that_fails_ends_it_by_name(void **state)
{
    struct trial *t = start(OPTIONS("no_keys=", CONTAINER, "home=/nonexistent", "imds_disabled=1"));

    (void)state;
    fake_answer(&t->fake, 404, NULL, "no such role");
    begin(t, "GET", "k");
    assert_int_equal(run(t), PST_E_UNAUTHENTICATED);
    assert_int_equal(t->fake.n_sent, 1);
    assert_non_null(strstr(t->op.err.message, "container"));
    finish(t);
}

static void test_request__cancelled_while_it_waits_for_credentials_ends_at_once(void **state)
{
    struct issuer issuer = {.is_silent = 1};
    struct trial *t = start_with_issuer(&issuer);

    (void)state;
    begin(t, "GET", "k");
    assert_int_equal(s3_request_send(t->request), PST_PENDING);
    s3_request_cancel(t->request);
    assert_int_equal(fake_run(&t->op, PST_PENDING), PST_E_CANCELLED);
    issuer.is_silent = 0; /* the others who wait get their answer */
    fake_op_fini(&t->op);
    begin(t, "GET", "k");
    assert_int_equal(run(t), PST_OK);
    assert_int_equal(issuer.n_asked, 1);
    finish(t);
}

/* ---- directory buckets ------------------------------------------------------------------------ */

#define DIRECTORY "b--use1-az4--x-s3"
#define SESSION_XML                                                                                \
    XML "<CreateSessionResult><Credentials><SessionToken>ST</SessionToken>"                        \
        "<SecretAccessKey>SK</SecretAccessKey><AccessKeyId>SAK</AccessKeyId>"                      \
        "<Expiration>2100-01-01T00:00:00Z</Expiration></Credentials></CreateSessionResult>"

static void test_request__directory_bucket_is_asked_by_a_session_of_its_own(void **state)
{
    struct trial *t = calloc(1, sizeof(*t));

    (void)state;
    assert_non_null(t);
    assert_int_equal(
        fake_open_bucket(&t->fake, DIRECTORY, OPTIONS("endpoint=", "session_token=LONG")), PST_OK);
    fake_answer(&t->fake, 200, NULL, SESSION_XML);
    fake_answer(&t->fake, 200, NULL, "ok");
    begin(t, "GET", "k");
    assert_int_equal(run(t), PST_OK);
    const char *host = DIRECTORY ".s3express-use1-az4.us-east-1.amazonaws.com";
    char url[256];
    snprintf(url, sizeof(url), "https://%s/?session=", host);
    assert_string_equal(sent(t, 0)->url, url);
    assert_string_equal(fake_header(sent(t, 0), "host"), host);
    assert_string_equal(fake_header(sent(t, 0), "x-amz-security-token"), "LONG");
    assert_non_null(strstr(fake_header(sent(t, 0), "authorization"), "Credential=AKIDEXAMPLE/"));
    snprintf(url, sizeof(url), "https://%s/k", host);
    assert_string_equal(sent(t, 1)->url, url);
    assert_string_equal(fake_header(sent(t, 1), "x-amz-s3session-token"), "ST");
    assert_string_equal(fake_header(sent(t, 1), "x-amz-security-token"), "");
    const char *signature = fake_header(sent(t, 1), "authorization");
    assert_non_null(strstr(signature, "Credential=SAK/"));
    assert_non_null(strstr(signature, "/us-east-1/s3express/aws4_request"));
    pst_limits limits = {.struct_size = sizeof(limits)};
    pst_backend_info info = {.struct_size = sizeof(info), .limits = &limits};
    t->fake.plugin->ops->info(t->fake.store, &info);
    assert_false(info.caps & (PST_CAP_LIST_ORDERED | PST_CAP_VERSIONS));
    finish(t);
}

static void test_request__session_that_is_refused_is_an_error_of_its_own(void **state)
{
    struct trial *t = calloc(1, sizeof(*t));

    (void)state;
    assert_non_null(t);
    assert_int_equal(fake_open_bucket(&t->fake, DIRECTORY, NULL), PST_OK);
    fake_answer(&t->fake, 403, NULL, ERROR_XML("AccessDenied", ""));
    begin(t, "GET", "k");
    assert_int_equal(run(t), PST_E_DENIED);
    assert_string_equal(sent(t, 0)->url, "http://127.0.0.1:9000/" DIRECTORY "?session=");
    assert_non_null(strstr(t->op.err.message, "session for " DIRECTORY " by "));
    assert_non_null(strstr(t->op.err.message, "CreateSession answered 403 AccessDenied: told so"));
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
        cmocka_unit_test(test_request__cancelled_before_it_is_sent_is_not_sent),
        cmocka_unit_test(test_request__cancelled_under_way_ends_cancelled),
        cmocka_unit_test(test_request__cancelled_is_not_corrected),
        cmocka_unit_test(test_request__attempts_go_on_with_another_server),
        cmocka_unit_test(test_request__waits_for_credentials),
        cmocka_unit_test(test_request__expired_token_is_renewed_once),
        cmocka_unit_test(test_request__source_that_fails_ends_it_by_name),
        cmocka_unit_test(test_request__cancelled_while_it_waits_for_credentials_ends_at_once),
        cmocka_unit_test(test_request__directory_bucket_is_asked_by_a_session_of_its_own),
        cmocka_unit_test(test_request__session_that_is_refused_is_an_error_of_its_own),
        cmocka_unit_test(test_request__lack_of_memory_is_an_error),
        cmocka_unit_test(test_request__clock_that_another_request_has_corrected_is_signed_by_too),
        cmocka_unit_test(test_request__region_of_another_bucket_is_not_the_stores),
        cmocka_unit_test(test_request__what_accept_said_is_what_is_told),
        cmocka_unit_test(test_request__that_tidies_up_survives_cancel_and_deadline),
        cmocka_unit_test(test_request__redirect_to_the_same_server_is_followed_whatever_its_name),
        cmocka_unit_test(test_request__query_of_a_redirect_is_signed_in_the_order_of_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
