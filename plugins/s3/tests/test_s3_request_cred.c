/* Requests whose credentials have to be asked for first: of a source, or a session of a directory bucket. */
#include "request_trial.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_request__waits_for_credentials),
        cmocka_unit_test(test_request__expired_token_is_renewed_once),
        cmocka_unit_test(test_request__source_that_fails_ends_it_by_name),
        cmocka_unit_test(test_request__cancelled_while_it_waits_for_credentials_ends_at_once),
        cmocka_unit_test(test_request__directory_bucket_is_asked_by_a_session_of_its_own),
        cmocka_unit_test(test_request__session_that_is_refused_is_an_error_of_its_own),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
