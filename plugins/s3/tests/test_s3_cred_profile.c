/* Profiles: keys, roles, single sign-on, programs; and the token service behind them. */
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "cred_fixture.h"

#define STS "POST https://sts.us-east-1.amazonaws.com/"
#define CONFIG ".aws/config"
#define CREDENTIALS ".aws/credentials"
#define KEYS(name) "aws_access_key_id = " name "\naws_secret_access_key = hush-" name "\n"

enum { HOUR_S = 3600 };

static void start(struct cred_case *c, const char *const *options)
{
    if (cred_case_open(c, options) != PST_OK)
        fail_msg("%s", c->err.message);
}
#define START(c, ...) start(c, (const char *const[]){__VA_ARGS__, NULL})

static void expect_sent(struct cred_case *c, size_t i, const char *part)
{
    assert_true(i < c->n_sent);
    if (!strstr(c->sent[i].line, part) && !strstr(c->sent[i].headers, part) &&
        !strstr(c->sent[i].body, part))
        fail_msg("'%s' is not in %s\n%s%s", part, c->sent[i].line, c->sent[i].headers,
                 c->sent[i].body);
}

/* ---- files ------------------------------------------------------------------------------------ */

static void test_profile__default_is_read_from_both_files_and_credentials_win(void **state)
{
    struct cred_case *c = *state;

    cred_case_file(c, CREDENTIALS, "[default]\naws_access_key_id = A\n");
    cred_case_file(c, CONFIG,
                   "[default]\naws_access_key_id = B\naws_secret_access_key = x\n"
                   "aws_session_token = tok\n");
    START(c, NULL);
    expect_key(c, "A", "tok");
}

static void test_profile__of_the_environment_is_found_under_its_full_name(void **state)
{
    struct cred_case *c = *state;

    cred_case_file(c, CONFIG, "[dev]\n" KEYS("WRONG") "[profile dev]\n" KEYS("DEV"));
    START(c, "env:profile=dev");
    expect_key(c, "DEV", NULL);
}

static void test_profile__default_with_its_full_name_goes_before_the_short_one(void **state)
{
    struct cred_case *c = *state;

    cred_case_file(c, CONFIG, "[default]\n" KEYS("SHORT") "[profile default]\n" KEYS("FULL"));
    START(c, NULL);
    expect_key(c, "FULL", NULL);
}

static void test_profile__files_may_be_elsewhere(void **state)
{
    struct cred_case *c = *state;

    cred_case_file(c, "elsewhere/keys", "[default]\n" KEYS("ELSE"));
    START(c, "env:shared_credentials_file=~/elsewhere/keys", "env:config_file=/nonexistent");
    expect_key(c, "ELSE", NULL);
}

static void test_profile__that_was_named_must_be_there_and_have_credentials(void **state)
{
    struct cred_case *c = *state;

    cred_case_file(c, CONFIG, "[profile bare]\nregion = eu-west-1\n");
    START(c, "env:profile=bare");
    EXPECT_ERROR(c, PST_E_UNAUTHENTICATED, "profile 'bare': it has no credentials in");
    cred_case_close(c);
    START(c, "profile=other");
    EXPECT_ERROR(c, PST_E_UNAUTHENTICATED, "profile 'other': it is not in", CREDENTIALS, CONFIG);
}

static void test_profile__half_a_key_is_an_error(void **state)
{
    struct cred_case *c = *state;

    cred_case_file(c, CREDENTIALS, "[default]\naws_access_key_id = A\n");
    START(c, NULL);
    EXPECT_ERROR(c, PST_E_UNAUTHENTICATED,
                 "profile 'default': it has aws_access_key_id without aws_secret_access_key");
}

static void test_profile__a_broken_file_is_told_by_line_and_not_by_its_text(void **state)
{
    struct cred_case *c = *state;
    struct cred_asker a;

    cred_case_file(c, CREDENTIALS, "[default]\naws_access_key_id = A\nHUSHHUSH\n");
    START(c, NULL);
    assert_int_equal(cred_ask(c, &a, 0), PST_PENDING);
    assert_int_equal(cred_wait(&a), PST_E_INVALID);
    assert_non_null(strstr(a.err.message, "credentials, line 3: there is no '='"));
    assert_null(strstr(a.err.message, "HUSH"));
    cred_asker_fini(&a);
}

static void test_profile__a_file_that_cannot_be_read_is_an_error(void **state)
{
    struct cred_case *c = *state;

    cred_case_file(c, CREDENTIALS "/file", "");
    START(c, NULL);
    EXPECT_ERROR(c, PST_E_UNAUTHENTICATED, "the shared credentials file: cannot read",
                 "Is a directory");
}

static void test_profile__a_file_that_is_too_long_is_an_error(void **state)
{
    struct cred_case *c = *state;
    char *text = malloc(80000);

    memset(text, '#', 79999);
    text[79999] = '\0';
    cred_case_file(c, CONFIG, text);
    free(text);
    START(c, NULL);
    EXPECT_ERROR(c, PST_E_UNAUTHENTICATED, "is over 65536 bytes");
}

static const char *region_of(struct cred_case *c, const char *const *options)
{
    static char region[64];

    cred_case_close(c);
    start(c, options);
    s3_creds_find_region(&c->host, c->store.config);
    snprintf(region, sizeof(region), "%s", c->store.config->region);
    return region;
}

static void test_profile__has_a_region_for_who_names_none(void **state)
{
    struct cred_case *c = *state;
    static const char *const given[] = {"region=us-west-2", NULL};
    static const char *const named[] = {"env:profile=dev", NULL};
    static const char *const homeless[] = {"home=", NULL};

    cred_case_file(c, CONFIG,
                   "[default]\nregion = eu-west-1\n[profile dev]\nregion = eu-central-1\n");
    assert_string_equal(region_of(c, NULL), "eu-west-1");
    assert_string_equal(region_of(c, named), "eu-central-1");
    assert_string_equal(region_of(c, given), "us-west-2");
    assert_string_equal(region_of(c, homeless), "");
    cred_case_file(c, CONFIG, "[default]\nregion = evil.test/x\n");
    assert_string_equal(region_of(c, NULL), "");
    cred_case_file(c, CONFIG, "[default\nregion = eu-west-1\n");
    assert_string_equal(region_of(c, NULL), "");
}

/* ---- roles ------------------------------------------------------------------------------------ */

static void test_profile__a_role_is_assumed_with_the_keys_of_its_source(void **state)
{
    struct cred_case *c = *state;

    cred_case_file(c, CREDENTIALS, "[base]\n" KEYS("BASE"));
    cred_case_file(c, CONFIG,
                   "[profile dev]\nrole_arn = arn:aws:iam::123456789012:role/a+b\n"
                   "source_profile = base\nexternal_id = ext id\nrole_session_name = me@here\n"
                   "duration_seconds = 900\nregion = eu-central-1\n");
    cred_case_answer(c, "POST https://sts.eu-central-1.amazonaws.com/", 200,
                     sts_keys(c, "AssumeRole", "ROLE", HOUR_S));
    START(c, "profile=dev", "region=us-west-2");
    expect_key(c, "ROLE", "TOKEN-ROLE");
    expect_sent(c, 0, "authorization: AWS4-HMAC-SHA256 Credential=BASE/");
    expect_sent(c, 0, "/eu-central-1/sts/aws4_request, SignedHeaders=content-type;host;x-amz-date");
    expect_sent(c, 0, "Action=AssumeRole&");
    expect_sent(c, 0, "RoleArn=arn%3Aaws%3Aiam%3A%3A123456789012%3Arole%2Fa%2Bb");
    expect_sent(c, 0, "ExternalId=ext%20id");
    expect_sent(c, 0, "RoleSessionName=me%40here");
    expect_sent(c, 0, "DurationSeconds=900");
    expect_sent(c, 0, "Version=2011-06-15");
    assert_null(strstr(c->sent[0].body, "hush"));
    assert_null(strstr(c->sent[0].headers, "hush"));
}

static void test_profile__roles_in_a_chain_are_assumed_one_by_the_other(void **state)
{
    struct cred_case *c = *state;

    cred_case_file(c, CONFIG,
                   "[profile a]\nrole_arn = arn:aws:iam::1:role/a\nsource_profile = b\n"
                   "[profile b]\nrole_arn = arn:aws:iam::1:role/b\nsource_profile = c\n"
                   "[profile c]\n" KEYS("BASE"));
    cred_case_answer(c, STS, 200, sts_keys(c, "AssumeRole", "B", HOUR_S));
    c->rules[0].wants = "Credential=BASE/";
    c->rules[0].n_left = 1;
    cred_case_answer(c, STS, 200, sts_keys(c, "AssumeRole", "A", HOUR_S));
    c->rules[1].wants = "Credential=B/";
    START(c, "profile=a");
    expect_key(c, "A", "TOKEN-A");
    expect_sent(c, 1, "x-amz-security-token: TOKEN-B");
    expect_sent(c, 1, ";x-amz-security-token, Signature=");
    assert_int_equal(c->n_sent, 2);
}

static void test_profile__that_is_its_own_source_uses_its_keys(void **state)
{
    struct cred_case *c = *state;

    cred_case_file(
        c, CONFIG,
        "[profile a]\nrole_arn = arn:aws:iam::1:role/a\nsource_profile = a\n" KEYS("SELF"));
    cred_case_answer(c, STS, 200, sts_keys(c, "AssumeRole", "A", HOUR_S));
    c->rules[0].wants = "Credential=SELF/";
    START(c, "profile=a");
    expect_key(c, "A", "TOKEN-A");
}

static void test_profile__a_circle_of_sources_is_an_error(void **state)
{
    struct cred_case *c = *state;

    cred_case_file(c, CONFIG,
                   "[profile a]\nrole_arn = r\nsource_profile = b\n"
                   "[profile b]\nrole_arn = r\nsource_profile = c\n"
                   "[profile c]\nrole_arn = r\nsource_profile = a\n");
    START(c, "profile=a");
    EXPECT_ERROR(c, PST_E_INVALID,
                 "profile 'c': its chain of source_profile comes back to "
                 "profile 'a'");
    assert_int_equal(c->n_sent, 0);
}

static void test_profile__a_chain_without_end_is_an_error(void **state)
{
    struct cred_case *c = *state;
    char text[2048] = "";

    for (int i = 0; i < 20; i++)
        snprintf(text + strlen(text), sizeof(text) - strlen(text),
                 "[profile p%d]\nrole_arn = r\nsource_profile = p%d\n", i, i + 1);
    cred_case_file(c, CONFIG, text);
    START(c, "profile=p0");
    EXPECT_ERROR(c, PST_E_INVALID, "a chain of more than 8");
}

static void test_profile__what_a_role_lacks_is_named(void **state)
{
    struct cred_case *c = *state;
    static const struct {
        const char *lines, *text;
        pst_rc rc;
    } cases[] = {
        {"role_arn = r\n", "it has role_arn without source_profile", PST_E_UNAUTHENTICATED},
        {"web_identity_token_file = f\n", "web_identity_token_file without role_arn",
         PST_E_UNAUTHENTICATED},
        {"role_arn = r\nsource_profile = none\n", "its source_profile 'none' does not exist",
         PST_E_UNAUTHENTICATED},
        {"role_arn = r\nsource_profile = x\ncredential_source = Environment\n", "it has both",
         PST_E_INVALID},
        {"role_arn = r\ncredential_source = Elsewhere\n", "credential_source 'Elsewhere' is not",
         PST_E_INVALID},
        {"role_arn = r\ncredential_source = Environment\n",
         "credential_source Environment: AWS_ACCESS_KEY_ID is not set", PST_E_UNAUTHENTICATED},
        {"role_arn = r\ncredential_source = EcsContainer\n",
         "credential_source EcsContainer: AWS_CONTAINER", PST_E_UNAUTHENTICATED},
        {"role_arn = r\ncredential_source = Environment\nmfa_serial = m\n", "second factor",
         PST_E_UNIMPLEMENTED},
        {"role_arn = r\ncredential_source = Environment\nduration_seconds = 1h\n",
         "duration_seconds is no number", PST_E_INVALID},
        {"sso_start_url = u\n", "single sign-on without sso_region", PST_E_UNAUTHENTICATED},
        {"sso_session = s\n", "there is no section [sso-session s]", PST_E_UNAUTHENTICATED},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char text[256];
        snprintf(text, sizeof(text), "[default]\n%s", cases[i].lines);
        cred_case_file(c, CONFIG, text);
        START(c, NULL);
        EXPECT_ERROR(c, cases[i].rc, "profile 'default': ", cases[i].text);
        cred_case_close(c);
    }
    assert_int_equal(c->n_sent, 0);
}

static void test_profile__a_role_may_have_the_keys_of_the_environment(void **state)
{
    struct cred_case *c = *state;

    cred_case_file(c, CONFIG, "[profile a]\nrole_arn = r\ncredential_source = Environment\n");
    cred_case_answer(c, STS, 200, sts_keys(c, "AssumeRole", "ROLE", HOUR_S));
    c->rules[0].wants = "Credential=ENV/";
    START(c, "profile=a", "env:access_key_id=ENV", "env:secret_access_key=hush");
    expect_key(c, "ROLE", "TOKEN-ROLE");
}

/* ---- web identity ----------------------------------------------------------------------------- */

static void test_web_identity__the_token_of_the_file_goes_unsigned(void **state)
{
    struct cred_case *c = *state;
    char option[600];

    cred_case_file(c, "token", "eyJ.hush.=\n");
    snprintf(option, sizeof(option), "env:web_identity_token_file=%s", cred_case_path(c, "token"));
    cred_case_answer(c, STS, 200, sts_keys(c, "AssumeRoleWithWebIdentity", "WEB", HOUR_S));
    START(c, option, "env:role_arn=arn:aws:iam::1:role/w", "env:role_session_name=pod",
          "env:profile=missing");
    expect_key(c, "WEB", "TOKEN-WEB");
    expect_sent(c, 0, "Action=AssumeRoleWithWebIdentity&");
    expect_sent(c, 0, "WebIdentityToken=eyJ.hush.%3D");
    expect_sent(c, 0, "RoleSessionName=pod");
    assert_null(strstr(c->sent[0].headers, "authorization"));
    /* The issuer renews the file: it is read at each refresh. */
    struct cred_asker a;
    cred_case_file(c, "token", "NEXT");
    assert_int_equal(cred_ask(c, &a, 1), PST_PENDING);
    assert_int_equal(cred_wait(&a), PST_OK);
    cred_asker_fini(&a);
    expect_sent(c, 1, "WebIdentityToken=NEXT");
}

static void test_web_identity__of_the_environment_is_no_match_for_a_given_profile(void **state)
{
    struct cred_case *c = *state;

    cred_case_file(c, "token", "TOK");
    cred_case_file(c, CREDENTIALS, "[base]\n" KEYS("BASE"));
    cred_case_answer(c, STS, 200, sts_keys(c, "AssumeRole", "ROLE", HOUR_S));
    START(c, "env:web_identity_token_file=/nonexistent/token", "role_arn=arn:r", "profile=base");
    expect_key(c, "ROLE", "TOKEN-ROLE");
    expect_sent(c, 0, "authorization: AWS4-HMAC-SHA256 Credential=BASE/");
}

static void test_web_identity__of_a_profile_knows_home(void **state)
{
    struct cred_case *c = *state;

    cred_case_file(c, "token", "TOK");
    cred_case_file(c, CONFIG, "[default]\nrole_arn = r\nweb_identity_token_file = ~/token\n");
    cred_case_answer(c, "POST http://127.0.0.1:9/sts/", 200,
                     sts_keys(c, "AssumeRoleWithWebIdentity", "WEB", HOUR_S));
    START(c, "sts_endpoint=http://127.0.0.1:9/sts");
    expect_key(c, "WEB", "TOKEN-WEB");
}

static void test_web_identity__what_it_lacks_is_named(void **state)
{
    struct cred_case *c = *state;
    char option[600];

    START(c, "env:web_identity_token_file=/nonexistent/token");
    EXPECT_ERROR(c, PST_E_INVALID, "AWS_WEB_IDENTITY_TOKEN_FILE is set without AWS_ROLE_ARN");
    cred_case_close(c);
    START(c, "env:web_identity_token_file=/nonexistent/token", "env:role_arn=arn:r");
    EXPECT_ERROR(c, PST_E_UNAUTHENTICATED,
                 "role arn:r by web identity: there is no token file "
                 "/nonexistent/token");
    cred_case_close(c);
    cred_case_file(c, "token", "\n");
    snprintf(option, sizeof(option), "web_identity_token_file=%s", cred_case_path(c, "token"));
    START(c, option, "env:role_arn=arn:r");
    EXPECT_ERROR(c, PST_E_UNAUTHENTICATED, "is empty");
}

/* ---- STS -------------------------------------------------------------------------------------- */

static void use_role(struct cred_case *c)
{
    cred_case_file(c, CONFIG,
                   "[default]\nrole_arn = arn:aws:iam::1:role/r\nsource_profile = base\n"
                   "[profile base]\n" KEYS("BASE"));
}

static void test_sts__a_refusal_names_role_base_and_the_service_s_words(void **state)
{
    struct cred_case *c = *state;
    struct cred_asker a;

    use_role(c);
    cred_case_answer(c, STS, 403,
                     "<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>"
                     "may not\nassume</Message></Error></ErrorResponse>");
    START(c, NULL);
    assert_int_equal(cred_ask(c, &a, 0), PST_PENDING);
    assert_int_equal(cred_wait(&a), PST_E_DENIED);
    assert_string_equal(a.err.message, "role arn:aws:iam::1:role/r by profile 'base': STS answered "
                                       "403 AccessDenied: may not?assume");
    assert_string_equal(a.err.provider_code, "AccessDenied");
    assert_int_equal(a.err.http_status, 403);
    assert_int_equal(a.err.flags & PST_ERR_RETRYABLE, 0);
    cred_asker_fini(&a);
    assert_int_equal(c->n_sent, 1);
}

static void test_sts__a_bad_moment_is_waited_out(void **state)
{
    struct cred_case *c = *state;

    use_role(c);
    cred_case_answer(c, STS, 503, "");
    c->rules[0].n_left = 1;
    cred_case_answer(c, STS, 200, sts_keys(c, "AssumeRole", "ROLE", HOUR_S));
    START(c, NULL);
    expect_key(c, "ROLE", "TOKEN-ROLE");
    assert_int_equal(c->n_sent, 2);
}

static void test_sts__an_answer_without_keys_is_an_error(void **state)
{
    struct cred_case *c = *state;

    use_role(c);
    cred_case_answer(c, STS, 200, "<html>login</html>");
    START(c, NULL);
    EXPECT_ERROR(c, PST_E_UNAUTHENTICATED, "STS's answer holds no credentials");
    cred_case_close(c);
    START(c, "sts_endpoint=ftp://x");
    EXPECT_ERROR(c, PST_E_INVALID, "sts_endpoint is no http or https URL");
}

static void test_sts__china_has_a_domain_of_its_own(void **state)
{
    struct cred_case *c = *state;

    use_role(c);
    cred_case_answer(c, "POST https://sts.cn-north-1.amazonaws.com.cn/", 200,
                     sts_keys(c, "AssumeRole", "ROLE", HOUR_S));
    START(c, "region=cn-north-1");
    expect_key(c, "ROLE", "TOKEN-ROLE");
}

/* ---- single sign-on --------------------------------------------------------------------------- */

/* printf corp | sha1sum; printf https://corp.example/start | sha1sum */
#define CACHE_SESSION ".aws/sso/cache/ee0bfd2552fbd840c02cc48b6e823320543c450f.json"

static const char *write_cache(struct cred_case *c, const char *session, int64_t lives_s)
{
    static char name[128];
    char text[256];
    uint8_t hash[20];
    const pst_iov span = {(void *)(uintptr_t)session, strlen(session)};
    const pst_crypto_1 *crypto = pst_services_find(c->services, "crypto/1");

    assert_int_equal(crypto->digest(&c->host, PST_DIGEST_SHA1, &span, 1, hash), PST_OK);
    int n = snprintf(name, sizeof(name), ".aws/sso/cache/");
    for (int i = 0; i < 20; i++)
        n += snprintf(name + n, sizeof(name) - (size_t)n, "%02x", hash[i]);
    snprintf(name + n, sizeof(name) - (size_t)n, ".json");
    snprintf(text, sizeof(text), "{\"accessToken\": \"LOGIN\", \"expiresAt\": \"%s\"}",
             time_text(lives_s));
    cred_case_file(c, name, text);
    return name;
}

static void use_sso(struct cred_case *c)
{
    cred_case_file(c, CONFIG,
                   "[default]\nsso_session = corp\nsso_account_id = 1234\nsso_role_name = Ro le\n"
                   "[sso-session corp]\nsso_start_url = https://corp.example/start\n"
                   "sso_region = eu-west-1\n");
}

static const char *role_keys(int64_t lives_s)
{
    static char text[256];

    snprintf(text, sizeof(text),
             "{\"roleCredentials\": {\"accessKeyId\": \"SSO\", \"secretAccessKey\": \"hush\", "
             "\"sessionToken\": \"tok\", \"expiration\": %lld000}}",
             (long long)time(NULL) + (long long)lives_s);
    return text;
}

static void test_sso__the_login_of_a_session_gets_the_role_s_keys(void **state)
{
    struct cred_case *c = *state;
    struct cred_asker a;

    use_sso(c);
    assert_string_equal(write_cache(c, "corp", HOUR_S), CACHE_SESSION);
    cred_case_answer(c,
                     "GET https://portal.sso.eu-west-1.amazonaws.com/federation/credentials?"
                     "account_id=1234&role_name=Ro%20le",
                     200, role_keys(HOUR_S));
    c->rules[0].wants = "x-amz-sso_bearer_token: LOGIN";
    START(c, NULL);
    assert_int_equal(cred_ask(c, &a, 0), PST_PENDING);
    assert_int_equal(cred_wait(&a), PST_OK);
    assert_string_equal(a.identity->access_key, "SSO");
    assert_true(a.identity->expires_unix_ns > (int64_t)time(NULL) * 1000000000);
    cred_asker_fini(&a);
}

static void test_sso__the_older_form_is_found_by_its_start_url(void **state)
{
    struct cred_case *c = *state;

    cred_case_file(c, CONFIG,
                   "[default]\nsso_start_url = https://corp.example/start\nsso_region = eu-west-1\n"
                   "sso_account_id = 1234\nsso_role_name = R\n");
    write_cache(c, "https://corp.example/start", HOUR_S);
    cred_case_answer(c, "GET http://127.0.0.1:9/federation/credentials?", 200, role_keys(HOUR_S));
    START(c, "sso_endpoint=http://127.0.0.1:9/");
    expect_key(c, "SSO", "tok");
}

static void test_sso__who_has_to_log_in_is_told_how(void **state)
{
    struct cred_case *c = *state;

    use_sso(c);
    START(c, NULL);
    EXPECT_ERROR(c, PST_E_UNAUTHENTICATED, "profile 'default': there is no login", "aws sso login");
    cred_case_close(c);
    write_cache(c, "corp", -10);
    START(c, NULL);
    EXPECT_ERROR(c, PST_E_UNAUTHENTICATED, "the login has expired", "aws sso login");
    cred_case_close(c);
    cred_case_file(c, CACHE_SESSION, "{}");
    START(c, NULL);
    EXPECT_ERROR(c, PST_E_UNAUTHENTICATED, "cannot be read", "aws sso login");
    cred_case_close(c);
    assert_int_equal(c->n_sent, 0);
    write_cache(c, "corp", HOUR_S);
    cred_case_answer(c, "GET https://portal.sso", 401, "{\"message\": \"Session token invalid\"}");
    START(c, NULL);
    EXPECT_ERROR(c, PST_E_UNAUTHENTICATED, "refuses the login (401)", "aws sso login");
}

static void test_sso__a_role_that_is_denied_is_no_question_of_the_login(void **state)
{
    struct cred_case *c = *state;

    use_sso(c);
    write_cache(c, "corp", HOUR_S);
    cred_case_answer(c, "GET https://portal.sso", 403, "{\"message\": \"No access\"}");
    START(c, NULL);
    EXPECT_ERROR(c, PST_E_DENIED, "the portal answered 403: No access");
}

/* ---- programs --------------------------------------------------------------------------------- */

/* ~/bin/<name>, a script. Returns its path. */
static const char *write_script(struct cred_case *c, const char *name, const char *text)
{
    static char path[512];

    cred_case_file(c, name, text);
    snprintf(path, sizeof(path), "%s", cred_case_path(c, name));
    assert_int_equal(chmod(path, 0700), 0);
    return path;
}

static void use_process(struct cred_case *c, const char *script, const char *arguments)
{
    char text[1024];

    snprintf(text, sizeof(text), "[default]\ncredential_process = %s %s\n",
             write_script(c, "bin/keys", script), arguments);
    cred_case_file(c, CONFIG, text);
}

#define PRINT(keys) "#!/bin/sh\ncat <<END\n" keys "\nEND\n"
#define DOCUMENT "{\"Version\": 1, \"AccessKeyId\": \"PROC\", \"SecretAccessKey\": \"hush\"}"

static void test_process__prints_keys_that_never_expire(void **state)
{
    struct cred_case *c = *state;
    struct cred_asker a;

    use_process(c, PRINT(DOCUMENT), "");
    START(c, NULL);
    assert_int_equal(cred_ask(c, &a, 0), PST_PENDING);
    assert_int_equal(cred_wait(&a), PST_OK);
    assert_string_equal(a.identity->access_key, "PROC");
    assert_null(a.identity->session_token);
    assert_true(a.identity->expires_unix_ns == PST_TIME_UNKNOWN);
    cred_asker_fini(&a);
}

static void test_process__gets_its_words_as_a_shell_would_quote_them(void **state)
{
    struct cred_case *c = *state;

    use_process(c,
                "#!/bin/sh\nprintf '{\"Version\":1,\"AccessKeyId\":\"%s|%s|%s|%s|%s\","
                "\"SecretAccessKey\":\"x\"}' \"$1\" \"$2\" \"$3\" \"$4\" $#\n",
                "plain 'single_$HOME;*' \"dou\\\"\"ble es\\'caped \"\"");
    START(c, NULL);
    EXPECT_ERROR(c, PST_E_UNAUTHENTICATED, "no JSON object"); /* the quote inside breaks it */
    cred_case_close(c);
    use_process(c,
                "#!/bin/sh\nprintf '{\"Version\":1,\"AccessKeyId\":\"%s|%s|%s|%s|%s\","
                "\"SecretAccessKey\":\"x\"}' \"$1\" \"$2\" \"$3\" \"$4\" $#\n",
                "plain 'single_$HOME;*' \"dou\"ble es\\'caped \"\"");
    START(c, NULL);
    expect_key(c, "plain|single_$HOME;*|double|es'caped|5", NULL);
}

static void test_process__that_fails_is_told_by_its_first_words(void **state)
{
    struct cred_case *c = *state;
    struct cred_asker a;

    use_process(c, "#!/bin/sh\necho please log in >&2\necho more >&2\nexit 7\n",
                "--password=hushhush");
    START(c, NULL);
    assert_int_equal(cred_ask(c, &a, 0), PST_PENDING);
    assert_int_equal(cred_wait(&a), PST_E_UNAUTHENTICATED);
    assert_non_null(strstr(a.err.message, "/bin/keys of profile 'default': it ended with 7: "
                                          "please log in"));
    assert_null(strstr(a.err.message, "more"));
    assert_null(strstr(a.err.message, "hushhush"));
    cred_asker_fini(&a);
    cred_case_close(c);
    use_process(c, "#!/bin/sh\nkill -9 $$\n", "");
    START(c, NULL);
    EXPECT_ERROR(c, PST_E_UNAUTHENTICATED, "it was ended by signal 9");
}

static void test_process__that_hangs_is_killed_with_its_children(void **state)
{
    struct cred_case *c = *state;
    char pid[32] = "";

    use_process(c, "#!/bin/sh\nsleep 600 &\necho $! >$1\nwait\n", cred_case_path(c, "pid"));
    START(c, "credential_timeout=1000");
    EXPECT_ERROR(c, PST_E_DEADLINE, "no answer within 1000 ms");
    FILE *f = fopen(cred_case_path(c, "pid"), "r");
    assert_non_null(f);
    assert_non_null(fgets(pid, sizeof(pid), f));
    fclose(f);
    /* The kernel has it dead or gone; as a zombie it may wait for its reaper. */
    char path[64], line[256] = "";
    snprintf(path, sizeof(path), "/proc/%ld/stat", strtol(pid, NULL, 10));
    for (int is_alive = 1; is_alive;) {
        f = fopen(path, "r");
        is_alive = f && fgets(line, sizeof(line), f) && !strstr(line, ") Z");
        if (f)
            fclose(f);
    }
}

static void test_process__inherits_no_descriptor(void **state)
{
    struct cred_case *c = *state;
    int leak = dup(0); /* not CLOEXEC */

    assert_true(leak >= 3);
    use_process(c,
                "#!/bin/sh\nn=0\nfor f in 3 4 5 6 7 8 9; do [ -e /proc/$$/fd/$f ] && "
                "[ \"$(readlink /proc/$$/fd/$f)\" != \"$0\" ] && n=$f; done\n"
                "printf '{\"Version\":1,\"AccessKeyId\":\"%s\",\"SecretAccessKey\":\"x\"}' $n\n",
                "");
    START(c, NULL);
    expect_key(c, "0", NULL);
    close(leak);
}

static void test_process__whose_document_is_bad_is_an_error(void **state)
{
    struct cred_case *c = *state;
    static const struct {
        const char *script, *text;
    } cases[] = {
        {PRINT("{\"Version\": 2, \"AccessKeyId\": \"A\", \"SecretAccessKey\": \"hush\"}"),
         "not of Version 1"},
        {PRINT("{\"Version\": 1, \"AccessKeyId\": \"A\"}"), "has no SecretAccessKey"},
        {PRINT("AKID hush"), "no JSON object"},
        {"#!/bin/sh\nexit 0\n", "no JSON object"},
        {PRINT("{\"Version\": 1, \"AccessKeyId\": \"A\", \"SecretAccessKey\": \"hush\", "
               "\"Expiration\": \"2001-01-01T00:00:00Z\"}"),
         "have expired already"},
        {PRINT("{\"Version\": 1, \"AccessKeyId\": \"A\", \"SecretAccessKey\": \"hush\", "
               "\"Expiration\": \"soon\"}"),
         "Expiration is no time"},
        {"#!/bin/sh\nexec cat /dev/zero\n", "more than 65536 bytes"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct cred_asker a;
        use_process(c, cases[i].script, "");
        START(c, NULL);
        assert_int_equal(cred_ask(c, &a, 0), PST_PENDING);
        assert_int_equal(cred_wait(&a), PST_E_UNAUTHENTICATED);
        if (!strstr(a.err.message, cases[i].text))
            fail_msg("'%s' is not in '%s'", cases[i].text, a.err.message);
        assert_null(strstr(a.err.message, "hush"));
        cred_asker_fini(&a);
        cred_case_close(c);
    }
}

static void test_process__that_cannot_be_started_is_an_error(void **state)
{
    struct cred_case *c = *state;

    cred_case_file(c, CONFIG, "[default]\ncredential_process = /nonexistent/keys --now\n");
    START(c, NULL);
    EXPECT_ERROR(c, PST_E_UNAUTHENTICATED, "credential_process /nonexistent/keys of profile",
                 "it cannot be started: No such file");
    cred_case_close(c);
    cred_case_file(c, CONFIG, "[default]\ncredential_process = keys 'not closed\n");
    START(c, NULL);
    EXPECT_ERROR(c, PST_E_INVALID, "a quote is not closed");
}

static void test_process__is_stopped_when_the_store_is_closed(void **state)
{
    struct cred_case *c = *state;
    struct cred_asker a;

    use_process(c, "#!/bin/sh\n: >$1\nexec sleep 600\n", cred_case_path(c, "begun"));
    START(c, NULL);
    assert_int_equal(cred_ask(c, &a, 0), PST_PENDING);
    while (access(cred_case_path(c, "begun"), F_OK) != 0)
        sched_yield();
    assert_int_equal(s3_creds_leave(c->creds, &a.waiter), 1);
    cred_case_close(c);
}

/* ---- no memory -------------------------------------------------------------------------------- */

static void fail_each(struct cred_case *c, const char *const *options)
{
    int64_t after = 0;
    pst_rc rc = PST_E_NO_MEMORY;

    for (; rc != PST_OK; after++) {
        struct cred_asker a;
        c->fail_after = after;
        rc = cred_case_open(c, options);
        if (rc == PST_OK) {
            rc = cred_ask(c, &a, 0);
            if (rc == PST_PENDING)
                rc = cred_wait(&a);
            cred_asker_fini(&a);
        }
        if (rc != PST_OK && rc != PST_E_NO_MEMORY)
            fail_msg("allocation %d: %d %s", (int)after, rc, a.err.message);
        cred_case_close(c);
        c->fail_after = -1;
    }
    assert_true(after > 5);
}

static void test_sources__survive_every_allocation_that_fails(void **state)
{
    struct cred_case *c = *state;

    use_sso(c);
    write_cache(c, "corp", HOUR_S);
    cred_case_answer(c, "GET https://portal.sso", 200, role_keys(HOUR_S));
    fail_each(c, NULL);
    use_process(c, PRINT(DOCUMENT), "");
    fail_each(c, NULL);
    cred_case_file(c, "token", "TOK");
    cred_case_file(c, CONFIG, "[default]\nrole_arn = r\nweb_identity_token_file = ~/token\n");
    cred_case_answer(c, STS, 200, sts_keys(c, "AssumeRoleWithWebIdentity", "WEB", HOUR_S));
    fail_each(c, NULL);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, cred_case_setup, cred_case_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_profile__default_is_read_from_both_files_and_credentials_win),
        TEST(test_profile__of_the_environment_is_found_under_its_full_name),
        TEST(test_profile__default_with_its_full_name_goes_before_the_short_one),
        TEST(test_profile__files_may_be_elsewhere),
        TEST(test_profile__that_was_named_must_be_there_and_have_credentials),
        TEST(test_profile__half_a_key_is_an_error),
        TEST(test_profile__a_broken_file_is_told_by_line_and_not_by_its_text),
        TEST(test_profile__a_file_that_cannot_be_read_is_an_error),
        TEST(test_profile__a_file_that_is_too_long_is_an_error),
        TEST(test_profile__has_a_region_for_who_names_none),
        TEST(test_profile__a_role_is_assumed_with_the_keys_of_its_source),
        TEST(test_profile__roles_in_a_chain_are_assumed_one_by_the_other),
        TEST(test_profile__that_is_its_own_source_uses_its_keys),
        TEST(test_profile__a_circle_of_sources_is_an_error),
        TEST(test_profile__a_chain_without_end_is_an_error),
        TEST(test_profile__what_a_role_lacks_is_named),
        TEST(test_profile__a_role_may_have_the_keys_of_the_environment),
        TEST(test_web_identity__the_token_of_the_file_goes_unsigned),
        TEST(test_web_identity__of_the_environment_is_no_match_for_a_given_profile),
        TEST(test_web_identity__of_a_profile_knows_home),
        TEST(test_web_identity__what_it_lacks_is_named),
        TEST(test_sts__a_refusal_names_role_base_and_the_service_s_words),
        TEST(test_sts__a_bad_moment_is_waited_out),
        TEST(test_sts__an_answer_without_keys_is_an_error),
        TEST(test_sts__china_has_a_domain_of_its_own),
        TEST(test_sso__the_login_of_a_session_gets_the_role_s_keys),
        TEST(test_sso__the_older_form_is_found_by_its_start_url),
        TEST(test_sso__who_has_to_log_in_is_told_how),
        TEST(test_sso__a_role_that_is_denied_is_no_question_of_the_login),
        TEST(test_process__prints_keys_that_never_expire),
        TEST(test_process__gets_its_words_as_a_shell_would_quote_them),
        TEST(test_process__that_fails_is_told_by_its_first_words),
        TEST(test_process__that_hangs_is_killed_with_its_children),
        TEST(test_process__inherits_no_descriptor),
        TEST(test_process__whose_document_is_bad_is_an_error),
        TEST(test_process__that_cannot_be_started_is_an_error),
        TEST(test_process__is_stopped_when_the_store_is_closed),
        TEST(test_sources__survive_every_allocation_that_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
