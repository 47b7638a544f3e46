/* cred_chain.c - which source of credentials is the one.
 *
 * In this order: keys, a profile, a role in the options of the store; the application's callback
 * (cred.c asks it); keys in the environment; web identity in the environment; the profile that
 * AWS_PROFILE names, or "default"; the container's service; the instance's metadata. The first one that
 * is set up is used, and if it fails that is the answer: nothing behind it is tried, because becoming
 * somebody else by accident is worse than an error.
 *
 * What belongs together must come from one place: a secret key or a token of the environment is never
 * paired with an access key of the application. config->from tells them apart.
 *
 * A role in the options (role_arn) without a web identity is assumed with what the rest of the chain
 * finds. The bucket's own session (cred_session.c) comes last of all. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "config.h"
#include "cred_source.h"
#include "error.h"
#include "text.h"
#include "url.h"

/* From the application or from a file of Penstock's own, which is the same person's word. */
static int is_given(const char *text, uint32_t from)
{
    return text[0] && from != PST_SOURCE_ENVIRONMENT;
}

static int is_of_environment(const char *text, uint32_t from)
{
    return text[0] && from == PST_SOURCE_ENVIRONMENT;
}

static int has_given_keys(const struct s3_config *c)
{
    return is_given(c->access_key_id, c->from.access_key_id) ||
           is_given(c->secret_access_key, c->from.secret_access_key);
}

static int has_given_profile(const struct s3_config *c)
{
    return is_given(c->profile, c->from.profile);
}

/* A role to be assumed with keys or a profile, not with a token. A token of the environment (EKS puts one
 * there) does not take the place of a profile that was asked for. */
static int has_given_role(const struct s3_config *c)
{
    const int has_profile = has_given_profile(c) &&
                            !is_given(c->web_identity_token_file, c->from.web_identity_token_file);

    return is_given(c->role_arn, c->from.role_arn) &&
           (!c->web_identity_token_file[0] || has_given_keys(c) || has_profile);
}

static int has_given_token(const struct s3_config *c)
{
    return is_given(c->web_identity_token_file, c->from.web_identity_token_file) ||
           (is_given(c->role_arn, c->from.role_arn) && !has_given_role(c));
}

int s3_cred_is_callback_first(const struct s3_config *c)
{
    return !has_given_keys(c) && !has_given_profile(c) && !has_given_role(c) && !has_given_token(c);
}

/* ---- keys ------------------------------------------------------------------------------------- */

static pst_rc find_given_keys(const pst_host *host, const struct s3_config *c,
                              struct s3_secrets *out, pst_error *err)
{
    const int has_secret = is_given(c->secret_access_key, c->from.secret_access_key);

    if (!has_secret || !is_given(c->access_key_id, c->from.access_key_id))
        return s3_fail(err, PST_E_INVALID, "option %s is given without %s",
                       has_secret ? "secret_access_key" : "access_key_id",
                       has_secret ? "access_key_id" : "secret_access_key");
    return s3_secrets_set(
        host, "option access_key_id", s3_str(c->access_key_id), s3_str(c->secret_access_key),
        s3_str(is_given(c->session_token, c->from.session_token) ? c->session_token : ""), out,
        err);
}

static int has_environment_keys(const struct s3_config *c)
{
    return is_of_environment(c->access_key_id, c->from.access_key_id) ||
           is_of_environment(c->secret_access_key, c->from.secret_access_key);
}

static pst_rc find_environment_keys(const pst_host *host, const struct s3_config *c,
                                    struct s3_secrets *out, pst_error *err)
{
    const int has_secret = is_of_environment(c->secret_access_key, c->from.secret_access_key);

    if (!has_secret || !is_of_environment(c->access_key_id, c->from.access_key_id))
        return s3_fail(err, PST_E_INVALID, "environment: %s is set without %s",
                       has_secret ? "AWS_SECRET_ACCESS_KEY" : "AWS_ACCESS_KEY_ID",
                       has_secret ? "AWS_ACCESS_KEY_ID" : "AWS_SECRET_ACCESS_KEY");
    return s3_secrets_set(
        host, "environment", s3_str(c->access_key_id), s3_str(c->secret_access_key),
        s3_str(is_of_environment(c->session_token, c->from.session_token) ? c->session_token : ""),
        out, err);
}

pst_rc s3_cred_environment(struct s3_cred_job *job, struct s3_secrets *out)
{
    if (has_environment_keys(job->config))
        return find_environment_keys(job->host, job->config, out, job->err);
    snprintf(job->why, sizeof(job->why), "AWS_ACCESS_KEY_ID is not set");
    return S3_CRED_NONE;
}

pst_rc s3_cred_find_given(const pst_host *host, const struct s3_config *c, int has_callback,
                          struct s3_secrets *out, int *is_anonymous, pst_error *err)
{
    pst_rc rc = S3_CRED_NONE;

    *is_anonymous = 0;
    if (c->is_anonymous) {
        *is_anonymous = 1;
        return PST_OK;
    }
    if (has_given_keys(c))
        rc = find_given_keys(host, c, out, err);
    else if (!has_callback && s3_cred_is_callback_first(c) && has_environment_keys(c))
        rc = find_environment_keys(host, c, out, err);
    if (rc == PST_OK && (has_given_role(c) || c->is_directory)) {
        s3_secrets_fini(host,
                        out); /* good, but only a job can take a role or a session with them */
        rc = S3_CRED_NONE;
    }
    return rc;
}

/* ---- the chain -------------------------------------------------------------------------------- */

static pst_rc find_option_keys(struct s3_cred_job *job, struct s3_secrets *out)
{
    if (has_given_keys(job->config))
        return find_given_keys(job->host, job->config, out, job->err);
    snprintf(job->why, sizeof(job->why), "access_key_id is not set");
    return S3_CRED_NONE;
}

static pst_rc find_option_profile(struct s3_cred_job *job, struct s3_secrets *out)
{
    if (has_given_profile(job->config))
        return s3_cred_profile(job, job->config->profile, 1, out);
    job->why[0] = '\0'; /* told with the profile of the environment */
    return S3_CRED_NONE;
}

static pst_rc find_web_identity(struct s3_cred_job *job, struct s3_secrets *out)
{
    const struct s3_config *c = job->config;

    if (!c->web_identity_token_file[0]) {
        snprintf(job->why, sizeof(job->why), "AWS_WEB_IDENTITY_TOKEN_FILE is not set");
        return S3_CRED_NONE;
    }
    if (!c->role_arn[0])
        return s3_fail(job->err, PST_E_INVALID,
                       "web identity: AWS_WEB_IDENTITY_TOKEN_FILE is set without AWS_ROLE_ARN");
    return s3_cred_web_identity(job, c->role_arn, c->web_identity_token_file, c->role_session_name,
                                s3_str(c->region), out);
}

static pst_rc find_option_token(struct s3_cred_job *job, struct s3_secrets *out)
{
    if (has_given_token(job->config))
        return find_web_identity(job, out);
    job->why[0] = '\0';
    return S3_CRED_NONE;
}

static pst_rc find_usual_profile(struct s3_cred_job *job, struct s3_secrets *out)
{
    const char *name = job->config->profile;

    return s3_cred_profile(job, name[0] ? name : "default", name[0] != '\0', out);
}

static const struct {
    const char *name;
    pst_rc (*find)(struct s3_cred_job *, struct s3_secrets *);
} sources[] = {
    {"options", find_option_keys},           {"option web_identity_token_file", find_option_token},
    {"option profile", find_option_profile}, {"environment", s3_cred_environment},
    {"web identity", find_web_identity},     {"profile", find_usual_profile},
    {"container", s3_cred_container},        {"EC2 metadata", s3_cred_imds},
};

__attribute__((format(printf, 3, 4))) static void append(char *text, size_t capacity,
                                                         const char *format, ...)
{
    const size_t n = strlen(text);
    va_list args;

    va_start(args, format);
    vsnprintf(text + n, capacity - n, format, args);
    va_end(args);
}

static pst_rc find_first(struct s3_cred_job *job, struct s3_secrets *out)
{
    char tried[640] = "";

    for (size_t i = 0; i < sizeof(sources) / sizeof(sources[0]); i++) {
        const pst_rc rc = sources[i].find(job, out);
        if (rc != S3_CRED_NONE)
            return rc;
        if (job->why[0])
            append(tried, sizeof(tried), "%s%s: %s", tried[0] ? "; " : "", sources[i].name,
                   job->why);
    }
    s3_fail(job->err, job->had_some ? PST_E_UNAVAILABLE : PST_E_UNAUTHENTICATED,
            "no credentials: tried %s. For public buckets set option anonymous", tried);
    if (job->had_some)
        job->err->flags |= PST_ERR_RETRYABLE; /* a moment ago there were some: a service is away */
    return job->err->code;
}

static pst_rc find_account(struct s3_cred_job *job, struct s3_secrets *out)
{
    const struct s3_config *c = job->config;
    struct s3_secrets base = {0};

    if (!has_given_role(c))
        return find_first(job, out);
    const struct s3_role role = {
        .arn = s3_str(c->role_arn),
        .session_name = s3_str(c->role_session_name),
        .external_id = s3_str(c->external_id),
        .region = s3_str(c->region),
        .duration_s = c->role_duration_s,
    };
    pst_rc rc = find_first(job, &base);
    if (rc == PST_OK)
        rc = s3_cred_assume_role(job, &base, &role, out);
    s3_secrets_fini(job->host, &base);
    return rc;
}

pst_rc s3_cred_find(struct s3_cred_job *job, struct s3_secrets *out)
{
    struct s3_secrets base = {0};

    if (!job->config->is_directory)
        return find_account(job, out);
    pst_rc rc = find_account(job, &base);
    if (rc == PST_OK)
        rc = s3_cred_session(job, &base, out);
    s3_secrets_fini(job->host, &base);
    return rc;
}
