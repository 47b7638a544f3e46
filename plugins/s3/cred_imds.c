/* cred_imds.c - the role of the EC2 instance, from its metadata service.
 *
 * Version 2 of the protocol: a PUT fetches a token that lives for hours, two GETs with it name the role
 * and fetch its keys. Only where the token's address answers 403, 404 or 405 (a service that knows no
 * tokens, an emulator) version 1 is tried, as AWS's own tools do; a token that does not come at all is
 * no reason for it: from inside a container on EC2 the token's reply does not reach (hop limit 1),
 * and neither may the keys.
 *
 * This is the last source and the only one that nobody sets up, so away from EC2 it must not cost time:
 * one second for a try, two tries, no proxy. No answer, or no role, is "not set up"; a role whose keys
 * cannot be had is an error. */
#include <stdio.h>
#include <string.h>

#include "config.h"
#include "cred_source.h"
#include "error.h"
#include "text.h"
#include "url.h"

#define TRY_MS 1000u
#define N_TRIES 2
#define ROLES_PATH "/latest/meta-data/iam/security-credentials/"
#define TOKEN_HEADER "x-aws-ec2-metadata-token"

static const char what[] = "EC2 instance metadata";

static const char *origin_of(const struct s3_cred_job *job)
{
    const char *given = job->config->imds_endpoint;

    return given[0] ? given : "http://169.254.169.254";
}

/* One question, asked twice where no answer comes or the service has a bad moment. */
static pst_rc ask(struct s3_cred_job *job, const char *path, struct s3_cred_exchange *x)
{
    const char *origin = origin_of(job);
    size_t n_origin = strlen(origin);
    char url[512];
    pst_rc rc = PST_OK;

    while (n_origin > 0 && origin[n_origin - 1] == '/')
        n_origin--;
    const int n = snprintf(url, sizeof(url), "%.*s%s", (int)n_origin, origin, path);
    if (n < 0 || (size_t)n >= sizeof(url))
        return s3_fail(job->err, PST_E_INVALID, "%s: the URL is too long", what);
    x->url = url;
    x->flags = S3_CRED_DIRECT;
    x->timeout_ms = TRY_MS;
    for (int i = 0; i < N_TRIES; i++) {
        s3_cred_exchange_fini(job, x);
        job->err->flags = 0;
        rc = s3_cred_exchange(job, what, x);
        if (rc == PST_OK ? x->status < 500 : !(job->err->flags & PST_ERR_RETRYABLE))
            break;
    }
    x->url = NULL;
    return rc;
}

/* *token NULL: version 1. NONE: nobody is there. */
static pst_rc fetch_token(struct s3_cred_job *job, char **token)
{
    static const pst_kv ttl = {{"x-aws-ec2-metadata-token-ttl-seconds", 36}, {"21600", 5}};
    struct s3_cred_exchange x = {.method = "PUT", .headers = &ttl, .n_headers = 1};
    pst_rc rc = ask(job, "/latest/api/token", &x);

    if (rc == PST_E_UNAVAILABLE || rc == PST_E_DEADLINE) {
        if (s3_cred_check_time(job, what) != PST_OK)
            goto out;
        snprintf(job->why, sizeof(job->why), "%.300s does not answer", origin_of(job));
        rc = S3_CRED_NONE;
    } else if (rc == PST_OK && x.status == 200 && x.reply_len > 0 && !strpbrk(x.reply, "\r\n ")) {
        *token = x.reply;
        x.reply = NULL;
    } else if (rc == PST_OK && x.status != 403 && x.status != 404 && x.status != 405) {
        snprintf(job->why, sizeof(job->why), "%.240s answered %u to the request for a token",
                 origin_of(job), x.status);
        rc = S3_CRED_NONE;
    }
out:
    s3_cred_exchange_fini(job, &x);
    return rc;
}

static pst_rc fail_status(struct s3_cred_job *job, uint32_t status, const char *role)
{
    char shown[96];

    s3_fail(job->err, status >= 500 ? PST_E_UNAVAILABLE : PST_E_UNAUTHENTICATED,
            "%s: it answered %u when asked for the keys of role '%s'", what, status,
            s3_cred_shown(s3_str(role), shown, sizeof(shown)));
    job->err->http_status = (int32_t)status;
    if (status >= 500)
        job->err->flags |= PST_ERR_RETRYABLE;
    return job->err->code;
}

/* The name of the instance's role, as a part of a URL. NONE: it has none. */
static pst_rc fetch_role(struct s3_cred_job *job, const pst_kv *headers, size_t n_headers,
                         char path[256], char role[129])
{
    struct s3_cred_exchange x = {.method = "GET", .headers = headers, .n_headers = n_headers};
    pst_rc rc = ask(job, ROLES_PATH, &x);
    size_t len;

    if (rc == PST_OK && x.status == 200) {
        len = strcspn(x.reply, "\r\n");
        if (len > 0 && len <= 64) { /* IAM: 64 characters at most */
            memcpy(role, x.reply, len);
            role[len] = '\0';
            memcpy(path, ROLES_PATH, sizeof(ROLES_PATH) - 1);
            char *end = s3_encode_query(path + sizeof(ROLES_PATH) - 1, pst_str_of(role, len));
            *end = '\0';
            goto out;
        }
        snprintf(job->why, sizeof(job->why), "the instance has no role");
        rc = S3_CRED_NONE;
    } else if (rc == PST_OK && x.status < 500) {
        snprintf(job->why, sizeof(job->why), "the instance has no role (%.200s answered %u)",
                 origin_of(job), x.status);
        rc = S3_CRED_NONE;
    } else if (rc == PST_OK) {
        rc = fail_status(job, x.status, "");
    }
out:
    s3_cred_exchange_fini(job, &x);
    return rc;
}

static pst_rc fetch_keys(struct s3_cred_job *job, const pst_kv *headers, size_t n_headers,
                         const char *path, const char *role, struct s3_secrets *out)
{
    static const struct s3_cred_names names = {.access_key = "AccessKeyId",
                                               .secret_key = "SecretAccessKey",
                                               .session_token = "Token",
                                               .expiration = "Expiration",
                                               .is_token_needed = 1};
    struct s3_cred_exchange x = {.method = "GET", .headers = headers, .n_headers = n_headers};
    char *code = NULL;
    char shown[96];
    pst_str reply;
    pst_rc rc = ask(job, path, &x);

    if (rc != PST_OK)
        goto out;
    if (x.status != 200) {
        rc = fail_status(job, x.status, role);
        goto out;
    }
    reply = pst_str_of(x.reply, x.reply_len);
    rc = s3_cred_json_text(job, what, reply, "Code", &code);
    if (rc != PST_OK)
        goto out;
    if (code && strcmp(code, "Success") != 0)
        rc = s3_fail(job->err, PST_E_UNAUTHENTICATED, "%s: no keys for role '%s': %s", what, role,
                     s3_cred_shown(s3_str(code), shown, sizeof(shown)));
    else
        rc = s3_cred_from_json(job, what, reply, &names, out);
    if (rc == PST_OK)
        snprintf(out->source, sizeof(out->source), "role %s of the EC2 instance",
                 s3_cred_shown(s3_str(role), shown, sizeof(shown)));
out:
    s3_cred_wipe(job->host, code);
    s3_cred_exchange_fini(job, &x);
    return rc;
}

pst_rc s3_cred_imds(struct s3_cred_job *job, struct s3_secrets *out)
{
    char path[256], role[129];
    char *token = NULL;
    pst_rc rc;

    if (job->config->is_imds_disabled) {
        snprintf(job->why, sizeof(job->why), "AWS_EC2_METADATA_DISABLED is set");
        return S3_CRED_NONE;
    }
    rc = fetch_token(job, &token);
    if (rc != PST_OK)
        return rc;
    const pst_kv header = {PST_STR(TOKEN_HEADER), s3_str(token)};
    rc = fetch_role(job, &header, token ? 1 : 0, path, role);
    if (rc == PST_OK)
        rc = fetch_keys(job, &header, token ? 1 : 0, path, role, out);
    s3_cred_wipe(job->host, token);
    return rc;
}
