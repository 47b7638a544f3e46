/* Which source is the one; one refresh for all; renewal, refusal, failure, closing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "cred_fixture.h"

#define OPEN(c, ...) cred_case_open(c, (const char *const[]){__VA_ARGS__, NULL})
#define CONTAINER "container_credentials_full_uri=http://127.0.0.1:1/keys"
#define ENV_CONTAINER "env:container_credentials_full_uri=http://127.0.0.1:1/keys"
#define CONTAINER_GET "GET http://127.0.0.1:1/keys"

enum { HOUR_S = 3600, CROWD = 64 };

static void start(struct cred_case *c, const char *const *options)
{
    if (cred_case_open(c, options) != PST_OK)
        fail_msg("%s", c->err.message);
}
#define START(c, ...) start(c, (const char *const[]){__VA_ARGS__, NULL})

static void expect_refused_open(struct cred_case *c, const char *text)
{
    assert_int_equal(c->err.code, PST_E_INVALID);
    if (!strstr(c->err.message, text))
        fail_msg("'%s' is not in '%s'", text, c->err.message);
}

/* ---- which one -------------------------------------------------------------------------------- */

static void test_cred__given_keys_are_there_at_once_and_ask_nobody(void **state)
{
    struct cred_case *c = *state;
    struct cred_asker a;

    START(c, "access_key_id=AKID", "secret_access_key=hush", "session_token=tok",
          "env:profile=missing", ENV_CONTAINER);
    assert_int_equal(cred_ask(c, &a, 0), PST_OK);
    assert_string_equal(a.identity->access_key, "AKID");
    assert_string_equal(a.identity->secret_key, "hush");
    assert_string_equal(a.identity->session_token, "tok");
    assert_true(a.identity->expires_unix_ns == PST_TIME_UNKNOWN);
    cred_asker_fini(&a);
    assert_int_equal(c->n_jobs, 0);
    assert_int_equal(cred_case_n_sent(c), 0);
}

static void test_cred__keys_of_the_environment_are_there_at_once(void **state)
{
    struct cred_case *c = *state;
    struct cred_asker a;

    START(c, "env:access_key_id=AKID", "env:secret_access_key=hush", "env:session_token=tok");
    assert_int_equal(cred_ask(c, &a, 0), PST_OK);
    assert_string_equal(a.identity->session_token, "tok");
    assert_string_equal(a.identity->source, "environment");
    cred_asker_fini(&a);
    assert_int_equal(c->n_jobs, 0);
}

static void test_cred__a_token_of_the_environment_is_not_paired_with_given_keys(void **state)
{
    struct cred_case *c = *state;

    START(c, "access_key_id=AKID", "secret_access_key=hush", "env:session_token=foreign");
    expect_key(c, "AKID", NULL);
}

static void test_cred__half_a_key_is_an_error_that_names_the_other_half(void **state)
{
    struct cred_case *c = *state;

    OPEN(c, "access_key_id=AKID", "env:secret_access_key=foreign");
    expect_refused_open(c, "option access_key_id is given without secret_access_key");
    OPEN(c, "secret_access_key=hush");
    expect_refused_open(c, "option secret_access_key is given without access_key_id");
    OPEN(c, "env:access_key_id=AKID");
    expect_refused_open(c, "AWS_ACCESS_KEY_ID is set without AWS_SECRET_ACCESS_KEY");
    OPEN(c, "access_key_id=AK ID", "secret_access_key=hush");
    expect_refused_open(c, "access key id is not one word");
}

static void test_cred__anonymous_has_no_key_whatever_else_is_given(void **state)
{
    struct cred_case *c = *state;
    struct cred_asker a;

    START(c, "anonymous=1", "access_key_id=AKID", "secret_access_key=hush", "profile=missing");
    assert_int_equal(cred_ask(c, &a, 0), PST_OK);
    assert_null(a.identity->access_key);
    cred_asker_fini(&a);
}

static void test_cred__a_given_profile_goes_before_keys_of_the_environment(void **state)
{
    struct cred_case *c = *state;

    cred_case_file(c, ".aws/credentials",
                   "[dev]\naws_access_key_id = DEV\naws_secret_access_key = x\n");
    START(c, "profile=dev", "env:access_key_id=AKID", "env:secret_access_key=hush");
    expect_key(c, "DEV", NULL);
}

static void test_cred__keys_of_the_environment_go_before_its_profile(void **state)
{
    struct cred_case *c = *state;

    START(c, "env:profile=missing", "env:access_key_id=AKID", "env:secret_access_key=hush");
    expect_key(c, "AKID", NULL);
}

static void test_cred__a_configured_source_that_fails_is_not_passed_over(void **state)
{
    struct cred_case *c = *state;

    cred_case_answer(c, "GET http://127.0.0.1:1/keys", 200, json_keys(c, "CONTAINER", HOUR_S));
    START(c, "env:profile=missing", ENV_CONTAINER);
    EXPECT_ERROR(c, PST_E_UNAUTHENTICATED, "profile 'missing'", "/.aws/credentials");
    assert_int_equal(cred_case_n_sent(c), 0);
}

static void test_cred__a_container_goes_before_the_instance(void **state)
{
    struct cred_case *c = *state;

    cred_case_answer(c, CONTAINER_GET, 200, json_keys(c, "CONTAINER", HOUR_S));
    START(c, ENV_CONTAINER);
    expect_key(c, "CONTAINER", "TOKEN-CONTAINER");
    assert_int_equal(cred_case_n_sent(c), 1);
}

static void test_cred__nothing_set_up_names_every_source_and_the_way_out(void **state)
{
    struct cred_case *c = *state;

    START(c, "env:session_token=stray");
    EXPECT_ERROR(c, PST_E_UNAUTHENTICATED,
                 "no credentials: tried options: ", "environment: AWS_ACCESS_KEY_ID is not set",
                 "web identity: AWS_WEB_IDENTITY_TOKEN_FILE is not set",
                 "profile: no 'default' in ", "container: AWS_CONTAINER_CREDENTIALS_",
                 "EC2 metadata: http://169.254.169.254 does not answer", "option anonymous");
    assert_int_equal(cred_case_n_sent(c), 2); /* two tries */
    assert_int_equal(c->sent[0].is_direct, PST_HTTP_NO_PROXY);
}

static void test_cred__without_a_home_no_file_is_looked_for(void **state)
{
    struct cred_case *c = *state;

    START(c, "home=", "imds_disabled=1");
    EXPECT_ERROR(c, PST_E_UNAUTHENTICATED, "no home directory is known",
                 "EC2 metadata: AWS_EC2_METADATA_DISABLED is set");
    assert_int_equal(cred_case_n_sent(c), 0);
}

static void test_cred__a_given_role_is_assumed_with_what_the_chain_finds(void **state)
{
    struct cred_case *c = *state;

    cred_case_rule(c, "POST https://sts.eu-west-1.amazonaws.com/")->wants = "Credential=BASE/";
    c->rules[0].status = 200;
    c->rules[0].body = sts_keys(c, "AssumeRole", "ROLE", HOUR_S);
    START(c, "role_arn=arn:aws:iam::1:role/r", "env:access_key_id=BASE",
          "env:secret_access_key=hush", "region=eu-west-1");
    expect_key(c, "ROLE", "TOKEN-ROLE");
}

/* ---- one for all ------------------------------------------------------------------------------ */

static void test_cred__a_crowd_makes_one_request(void **state)
{
    struct cred_case *c = *state;
    static struct cred_asker crowd[CROWD];

    cred_case_answer(c, CONTAINER_GET, 200, json_keys(c, "ONE", HOUR_S));
    c->rules[0].is_held = 1;
    START(c, CONTAINER);
    for (int i = 0; i < CROWD; i++)
        assert_int_equal(cred_ask(c, &crowd[i], 0), PST_PENDING);
    cred_case_release(c);
    for (int i = 0; i < CROWD; i++) {
        assert_int_equal(cred_wait(&crowd[i]), PST_OK);
        assert_string_equal(crowd[i].identity->access_key, "ONE");
        assert_ptr_equal(crowd[i].identity, crowd[0].identity);
    }
    for (int i = 0; i < CROWD; i++)
        cred_asker_fini(&crowd[i]);
    assert_int_equal(cred_case_n_sent(c), 1);
    assert_int_equal(c->n_jobs, 1);
}

struct member {
    struct cred_case *c;
    pthread_t thread;
    pst_rc rc;
};

static void *ask_often(void *arg)
{
    struct member *m = arg;

    for (int i = 0; i < 50 && m->rc == PST_OK; i++) {
        struct cred_asker a;
        m->rc = cred_ask(m->c, &a, 0);
        if (m->rc == PST_PENDING)
            m->rc = cred_wait(&a);
        cred_asker_fini(&a);
    }
    return NULL;
}

static void test_cred__sixty_four_threads_make_one_request(void **state)
{
    struct cred_case *c = *state;
    static struct member crowd[CROWD];

    cred_case_answer(c, CONTAINER_GET, 200, json_keys(c, "ONE", HOUR_S));
    START(c, CONTAINER);
    for (int i = 0; i < CROWD; i++) {
        crowd[i] = (struct member){.c = c};
        assert_int_equal(pthread_create(&crowd[i].thread, NULL, ask_often, &crowd[i]), 0);
    }
    for (int i = 0; i < CROWD; i++) {
        pthread_join(crowd[i].thread, NULL);
        assert_int_equal(crowd[i].rc, PST_OK);
    }
    assert_int_equal(cred_case_n_sent(c), 1);
}

static void test_cred__threads_go_on_while_keys_expire_and_are_renewed(void **state)
{
    struct cred_case *c = *state;
    static struct member crowd[8];

    /* Each answer lives for a second or less: every thread meets its end in the middle. */
    cred_case_answer(c, CONTAINER_GET, 200, json_keys(c, "BRIEF", 1));
    c->rules[0].n_left = 1;
    cred_case_answer(c, CONTAINER_GET, 200, json_keys(c, "LONG", HOUR_S));
    START(c, CONTAINER);
    struct cred_asker a;
    do {
        for (int i = 0; i < 8; i++) {
            crowd[i] = (struct member){.c = c};
            assert_int_equal(pthread_create(&crowd[i].thread, NULL, ask_often, &crowd[i]), 0);
        }
        for (int i = 0; i < 8; i++) {
            pthread_join(crowd[i].thread, NULL);
            assert_int_equal(crowd[i].rc, PST_OK);
        }
        a.rc = cred_ask(c, &a, 0);
        if (a.rc == PST_PENDING)
            cred_wait(&a);
        const int is_long = strcmp(a.identity->access_key, "LONG") == 0;
        cred_asker_fini(&a);
        if (is_long)
            break;
    } while (1);
    assert_int_equal(cred_case_n_sent(c), 2);
}

/* ---- renewal ---------------------------------------------------------------------------------- */

static void test_cred__what_is_held_is_given_while_it_is_renewed(void **state)
{
    struct cred_case *c = *state;
    struct cred_asker a;

    cred_case_answer(c, CONTAINER_GET, 200, json_keys(c, "OLD", 100));
    c->rules[0].n_left = 1;
    cred_case_answer(c, CONTAINER_GET, 200, json_keys(c, "NEW", HOUR_S));
    c->rules[1].is_held = 1;
    START(c, CONTAINER);
    expect_key(c, "OLD", "TOKEN-OLD");
    /* Half of its life is before the window: nobody asks. */
    expect_key(c, "OLD", "TOKEN-OLD");
    assert_int_equal(cred_case_n_sent(c), 1);
    /* Refused: has to wait for the new one, whatever its age. */
    assert_int_equal(cred_ask(c, &a, 1), PST_PENDING);
    cred_case_release(c);
    assert_int_equal(cred_wait(&a), PST_OK);
    assert_string_equal(a.identity->access_key, "NEW");
    assert_int_equal(a.identity->generation, 2);
    cred_asker_fini(&a);
}

/* Keys in the last half of a life of two seconds are due: the next who asks gets them at once and starts
 * the renewal behind his back. */
static void wait_until_due(struct cred_case *c)
{
    while (c->n_jobs < 2)
        expect_key(c, "OLD", "TOKEN-OLD");
}

static void test_cred__renewal_goes_on_behind_those_who_ask(void **state)
{
    struct cred_case *c = *state;

    cred_case_answer(c, CONTAINER_GET, 200, json_keys(c, "OLD", 3));
    c->rules[0].n_left = 1;
    cred_case_answer(c, CONTAINER_GET, 200, json_keys(c, "NEW", HOUR_S));
    c->rules[1].is_held = 1;
    START(c, CONTAINER);
    wait_until_due(c);
    expect_key(c, "OLD", "TOKEN-OLD"); /* the renewal hangs, and nobody waits for it */
    cred_case_wait_sent(c, 2);
    cred_case_release(c);
    for (;;) {
        struct cred_asker a;
        pst_rc rc = cred_ask(c, &a, 0);
        if (rc == PST_PENDING)
            rc = cred_wait(&a);
        assert_int_equal(rc, PST_OK);
        const int is_new = strcmp(a.identity->access_key, "NEW") == 0;
        cred_asker_fini(&a);
        if (is_new)
            break;
    }
    assert_int_equal(cred_case_n_sent(c), 2);
}

static void test_cred__a_renewal_that_fails_is_a_warning_while_the_old_keys_last(void **state)
{
    struct cred_case *c = *state;

    cred_case_answer(c, CONTAINER_GET, 200, json_keys(c, "OLD", 3));
    c->rules[0].n_left = 1;
    cred_case_answer(c, CONTAINER_GET, 403, "{\"message\": \"go away\"}");
    START(c, CONTAINER);
    wait_until_due(c);
    cred_case_wait_sent(c, 2);
    expect_key(c, "OLD", "TOKEN-OLD");
    for (int is_warned = 0; !is_warned;) {
        pthread_mutex_lock(&c->mutex);
        is_warned = strstr(c->log, "could not be renewed") != NULL;
        pthread_mutex_unlock(&c->mutex);
    }
    assert_non_null(strstr(c->log, "go away"));
    assert_null(strstr(c->log, "SECRET-OLD"));
    assert_null(strstr(c->log, "TOKEN-OLD"));
    expect_key(c, "OLD", "TOKEN-OLD"); /* and not asked again for some seconds */
    assert_int_equal(cred_case_n_sent(c), 2);
}

/* ---- refusal and failure ---------------------------------------------------------------------- */

static void test_cred__a_refused_generation_asks_once(void **state)
{
    struct cred_case *c = *state;
    struct cred_asker a;

    cred_case_answer(c, CONTAINER_GET, 200, json_keys(c, "FIRST", HOUR_S));
    c->rules[0].n_left = 1;
    cred_case_answer(c, CONTAINER_GET, 200, json_keys(c, "SECOND", HOUR_S));
    START(c, CONTAINER);
    expect_key(c, "FIRST", "TOKEN-FIRST");
    for (int i = 0; i < 10; i++) {
        pst_rc rc = cred_ask(c, &a, 1);
        if (rc == PST_PENDING)
            rc = cred_wait(&a);
        assert_int_equal(rc, PST_OK);
        assert_string_equal(a.identity->access_key, "SECOND");
        assert_int_equal(a.identity->generation, 2);
        cred_asker_fini(&a);
    }
    assert_int_equal(cred_case_n_sent(c), 2);
}

static void test_cred__given_keys_that_are_refused_stay_what_they_are(void **state)
{
    struct cred_case *c = *state;
    struct cred_asker a;

    START(c, "access_key_id=AKID", "secret_access_key=hush");
    assert_int_equal(cred_ask(c, &a, 1), PST_OK);
    assert_int_equal(a.identity->generation, 1);
    cred_asker_fini(&a);
}

static void test_cred__an_error_for_good_is_not_asked_for_again_at_once(void **state)
{
    struct cred_case *c = *state;

    cred_case_answer(c, CONTAINER_GET, 404, "{\"message\": \"no such task\"}");
    START(c, CONTAINER);
    for (int i = 0; i < 20; i++)
        EXPECT_ERROR(c, PST_E_UNAUTHENTICATED, "container credentials: the platform answered 404",
                     "no such task");
    assert_int_equal(cred_case_n_sent(c), 1);
}

static void test_cred__an_error_that_may_pass_is_asked_for_again(void **state)
{
    struct cred_case *c = *state;
    struct cred_asker a;

    cred_case_answer(c, CONTAINER_GET, 503, "busy");
    c->rules[0].n_left = 3;
    cred_case_answer(c, CONTAINER_GET, 200, json_keys(c, "THEN", HOUR_S));
    START(c, CONTAINER);
    assert_int_equal(cred_ask(c, &a, 0), PST_PENDING);
    assert_int_equal(cred_wait(&a), PST_E_UNAVAILABLE);
    assert_true(a.err.flags & PST_ERR_RETRYABLE);
    assert_int_equal(a.err.http_status, 503);
    cred_asker_fini(&a);
    expect_key(c, "THEN", "TOKEN-THEN");
}

static void test_cred__every_allocation_may_fail(void **state)
{
    struct cred_case *c = *state;
    int n_failed = 0;

    cred_case_answer(c, "POST https://sts.us-east-1.amazonaws.com/", 200,
                     sts_keys(c, "AssumeRole", "ROLE", HOUR_S));
    cred_case_file(c, ".aws/config",
                   "[profile base]\naws_access_key_id = BASE\naws_secret_access_key = x\n"
                   "[default]\nrole_arn = arn:aws:iam::1:role/r\nsource_profile = base\n");
    for (int64_t after = 0; n_failed == after; after++) {
        struct cred_asker a;
        c->fail_after = after;
        pst_rc rc = cred_case_open(c, NULL);
        if (rc == PST_OK) {
            rc = cred_ask(c, &a, 0);
            if (rc == PST_PENDING)
                rc = cred_wait(&a);
            cred_asker_fini(&a);
        }
        n_failed += rc != PST_OK;
        assert_true(rc == PST_OK || rc == PST_E_NO_MEMORY);
        c->fail_after = -1;
        if (rc == PST_OK || c->creds)
            cred_case_close(c);
        assert_int_equal(c->n_blocks, 0);
    }
    assert_true(n_failed > 10);
}

/* ---- leaving and closing ---------------------------------------------------------------------- */

static void test_cred__who_leaves_is_not_called_and_the_others_are(void **state)
{
    struct cred_case *c = *state;
    struct cred_asker a, b, d;

    cred_case_answer(c, CONTAINER_GET, 200, json_keys(c, "ONE", HOUR_S));
    c->rules[0].is_held = 1;
    START(c, CONTAINER);
    assert_int_equal(cred_ask(c, &a, 0), PST_PENDING);
    assert_int_equal(cred_ask(c, &b, 0), PST_PENDING);
    assert_int_equal(cred_ask(c, &d, 0), PST_PENDING);
    assert_int_equal(s3_creds_leave(c->creds, &b.waiter), 1);
    assert_int_equal(s3_creds_leave(c->creds, &b.waiter), 0);
    cred_case_release(c);
    assert_int_equal(cred_wait(&a), PST_OK);
    assert_int_equal(cred_wait(&d), PST_OK);
    assert_int_equal(s3_creds_leave(c->creds, &a.waiter), 0);
    cred_asker_fini(&a);
    cred_asker_fini(&d);
    cred_case_close(c);
    assert_int_equal(b.n_called, 0);
}

static void test_cred__closing_cancels_the_renewal_and_waits_for_it(void **state)
{
    struct cred_case *c = *state;
    struct cred_asker a;

    cred_case_answer(c, CONTAINER_GET, 200, "");
    c->rules[0].is_held = 1;
    START(c, CONTAINER);
    assert_int_equal(cred_ask(c, &a, 0), PST_PENDING);
    assert_int_equal(s3_creds_leave(c->creds, &a.waiter), 1);
    cred_case_wait_sent(c, 1);
    cred_case_close(c); /* would hang: nobody releases the reply */
    assert_int_equal(c->cancelled_id, 1);
}

static void test_cred__a_job_that_begins_after_the_end_finds_nothing_to_do(void **state)
{
    struct cred_case *c = *state;
    struct cred_asker a;

    c->is_exec_held = 1;
    START(c, CONTAINER);
    assert_int_equal(cred_ask(c, &a, 0), PST_PENDING);
    assert_int_equal(s3_creds_leave(c->creds, &a.waiter), 1);
    c->is_blind = 1;
    cred_case_close(c);
    assert_int_equal(c->n_blocks, 1);
    c->held_fn(c->held_arg);
    assert_int_equal(c->n_blocks, 0);
    c->is_blind = 0;
    assert_int_equal(cred_case_n_sent(c), 0);
}

static void test_cred__a_host_without_a_thread_is_an_error_that_passes(void **state)
{
    struct cred_case *c = *state;
    struct cred_asker a;

    cred_case_answer(c, CONTAINER_GET, 200, json_keys(c, "ONE", HOUR_S));
    START(c, CONTAINER);
    c->exec_fails = 1;
    assert_int_equal(cred_ask(c, &a, 0), PST_E_NO_MEMORY);
    assert_non_null(strstr(a.err.message, "no thread"));
    assert_int_equal(a.n_called, 0);
    cred_asker_fini(&a);
    c->exec_fails = 0;
    expect_key(c, "ONE", "TOKEN-ONE");
}

/* ---- the application's callback --------------------------------------------------------------- */

static struct {
    pst_credentials answer;
    pst_kv kv[3];
    int n_asked, is_late;
    uint64_t refused;
    pst_rc rc;
    void (*fn)(void *, pst_rc, const pst_credentials *, const pst_error *);
    void *ctx;
} application;

static pst_rc ask_application(
    const pst_host *host, pst_op *op, uint64_t refused, pst_credentials *out,
    void (*fn)(void *, pst_rc, const pst_credentials *, const pst_error *), void *ctx)
{
    (void)host;
    assert_non_null(op);
    application.n_asked++;
    application.refused = refused;
    application.fn = fn;
    application.ctx = ctx;
    if (application.is_late)
        return PST_PENDING;
    if (application.rc == PST_OK)
        *out = application.answer;
    return application.rc;
}

static void use_application(struct cred_case *c, uint64_t generation)
{
    memset(&application, 0, sizeof(application));
    application.kv[0] = (pst_kv){PST_STR("access_key_id"), PST_STR("APP")};
    application.kv[1] = (pst_kv){PST_STR("secret_access_key"), PST_STR("hush")};
    application.kv[2] = (pst_kv){PST_STR("session_token"), PST_STR("tok")};
    application.answer = (pst_credentials){.struct_size = sizeof(pst_credentials),
                                           .kv = application.kv,
                                           .n_kv = 3,
                                           .expires_unix_ns = PST_TIME_UNKNOWN,
                                           .generation = generation};
    c->cred = (pst_cred_1){.struct_size = sizeof(pst_cred_1), .get = ask_application};
}

static void test_cred__the_callback_goes_before_the_environment(void **state)
{
    struct cred_case *c = *state;

    use_application(c, 7);
    START(c, "env:access_key_id=AKID", "env:secret_access_key=hush");
    expect_key(c, "APP", "tok");
    expect_key(c, "APP", "tok");
    assert_int_equal(application.n_asked, 1);
    assert_int_equal(c->n_jobs, 0);
}

static void test_cred__given_keys_go_before_the_callback(void **state)
{
    struct cred_case *c = *state;

    use_application(c, 7);
    START(c, "access_key_id=AKID", "secret_access_key=hush");
    expect_key(c, "AKID", NULL);
    assert_int_equal(application.n_asked, 0);
}

static void test_cred__a_refusal_reaches_the_callback_with_its_generation(void **state)
{
    struct cred_case *c = *state;
    struct cred_asker a;

    use_application(c, 7);
    START(c, NULL);
    expect_key(c, "APP", "tok");
    application.answer.generation = 8;
    assert_int_equal(cred_ask(c, &a, 7), PST_OK);
    assert_int_equal(a.identity->generation, 8);
    assert_int_equal(application.refused, 7);
    cred_asker_fini(&a);
    assert_int_equal(cred_ask(c, &a, 7), PST_OK); /* newer ones are there already */
    cred_asker_fini(&a);
    assert_int_equal(application.n_asked, 2);
}

static void test_cred__a_late_callback_wakes_the_operation(void **state)
{
    struct cred_case *c = *state;
    struct cred_asker a;
    pst_error err = PST_ERROR_INIT;

    use_application(c, 7);
    application.is_late = 1;
    START(c, NULL);
    assert_int_equal(cred_ask(c, &a, 0), PST_PENDING);
    assert_int_equal(s3_creds_leave(c->creds, &a.waiter), 0); /* it will be called */
    application.fn(application.ctx, PST_OK, &application.answer, NULL);
    assert_int_equal(cred_wait(&a), PST_OK);
    assert_string_equal(a.identity->access_key, "APP");
    cred_asker_fini(&a);

    assert_int_equal(cred_ask(c, &a, 7), PST_PENDING);
    err.code = PST_E_DEADLINE;
    snprintf(err.message, sizeof(err.message), "the application did not answer");
    application.fn(application.ctx, PST_E_DEADLINE, NULL, &err);
    assert_int_equal(cred_wait(&a), PST_E_DEADLINE);
    assert_string_equal(a.err.message, "the application did not answer");
    cred_asker_fini(&a);
}

static void test_cred__a_callback_without_keys_is_an_error_that_names_it(void **state)
{
    struct cred_case *c = *state;

    use_application(c, 7);
    application.answer.n_kv = 1;
    START(c, NULL);
    EXPECT_ERROR(c, PST_E_INVALID, "credentials of the application's callback",
                 "secret access key");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, cred_case_setup, cred_case_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_cred__given_keys_are_there_at_once_and_ask_nobody),
        TEST(test_cred__keys_of_the_environment_are_there_at_once),
        TEST(test_cred__a_token_of_the_environment_is_not_paired_with_given_keys),
        TEST(test_cred__half_a_key_is_an_error_that_names_the_other_half),
        TEST(test_cred__anonymous_has_no_key_whatever_else_is_given),
        TEST(test_cred__a_given_profile_goes_before_keys_of_the_environment),
        TEST(test_cred__keys_of_the_environment_go_before_its_profile),
        TEST(test_cred__a_configured_source_that_fails_is_not_passed_over),
        TEST(test_cred__a_container_goes_before_the_instance),
        TEST(test_cred__nothing_set_up_names_every_source_and_the_way_out),
        TEST(test_cred__without_a_home_no_file_is_looked_for),
        TEST(test_cred__a_given_role_is_assumed_with_what_the_chain_finds),
        TEST(test_cred__a_crowd_makes_one_request),
        TEST(test_cred__sixty_four_threads_make_one_request),
        TEST(test_cred__threads_go_on_while_keys_expire_and_are_renewed),
        TEST(test_cred__what_is_held_is_given_while_it_is_renewed),
        TEST(test_cred__renewal_goes_on_behind_those_who_ask),
        TEST(test_cred__a_renewal_that_fails_is_a_warning_while_the_old_keys_last),
        TEST(test_cred__a_refused_generation_asks_once),
        TEST(test_cred__given_keys_that_are_refused_stay_what_they_are),
        TEST(test_cred__an_error_for_good_is_not_asked_for_again_at_once),
        TEST(test_cred__an_error_that_may_pass_is_asked_for_again),
        TEST(test_cred__every_allocation_may_fail),
        TEST(test_cred__who_leaves_is_not_called_and_the_others_are),
        TEST(test_cred__closing_cancels_the_renewal_and_waits_for_it),
        TEST(test_cred__a_job_that_begins_after_the_end_finds_nothing_to_do),
        TEST(test_cred__a_host_without_a_thread_is_an_error_that_passes),
        TEST(test_cred__the_callback_goes_before_the_environment),
        TEST(test_cred__given_keys_go_before_the_callback),
        TEST(test_cred__a_refusal_reaches_the_callback_with_its_generation),
        TEST(test_cred__a_late_callback_wakes_the_operation),
        TEST(test_cred__a_callback_without_keys_is_an_error_that_names_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
