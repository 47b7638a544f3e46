/* cred_sso.c - a role of IAM Identity Center, by the login that `aws sso login` has left.
 *
 * That command keeps its token in ~/.aws/sso/cache, in a file named by the SHA-1 of the session's name
 * (of the start URL in the older form). The portal gives the role's keys for it. A token that is not
 * there or has expired needs a human at a browser: the error says which command to run. Tokens are not
 * renewed here: that would write into the cache of another tool. */
#include <stdio.h>
#include <string.h>

#include "config.h"
#include "cred_source.h"
#include "error.h"
#include "sign.h"
#include "text.h"
#include "url.h"

static pst_rc fail_login(struct s3_cred_job *job, const char *what, const char *why)
{
    return s3_fail(job->err, PST_E_UNAUTHENTICATED, "%s: %s: run `aws sso login` for this profile",
                   what, why);
}

/* The name of the file in the cache. */
static pst_rc make_path(struct s3_cred_job *job, const char *what, pst_str name, char out[96])
{
    static const char folder[] = "~/.aws/sso/cache/";
    const pst_iov span = {(void *)(uintptr_t)name.ptr, name.len};
    uint8_t hash[20];
    const pst_rc rc = job->crypto->digest(job->host, PST_DIGEST_SHA1, &span, 1, hash);

    if (rc != PST_OK)
        return s3_fail(job->err, rc, "%s: SHA-1 of the session's name cannot be computed", what);
    memcpy(out, folder, sizeof(folder) - 1);
    char *end = s3_hex(out + sizeof(folder) - 1, hash, sizeof(hash));
    memcpy(end, ".json", sizeof(".json"));
    return PST_OK;
}

/* The access token; wipe it. */
static pst_rc read_token(struct s3_cred_job *job, const char *what, const struct s3_sso *sso,
                         char **token)
{
    char name[96];
    char *path = NULL, *text = NULL, *expires = NULL;
    size_t len = 0;
    int64_t expires_ns;
    pst_rc rc = make_path(job, what, sso->session.len > 0 ? sso->session : sso->start_url, name);

    if (rc != PST_OK)
        return rc;
    rc = s3_cred_path(job, what, name, &path);
    if (rc != PST_OK)
        return rc;
    rc = s3_cred_read_file(job, what, path, &text, &len);
    if (rc == PST_E_NOT_FOUND)
        rc = fail_login(job, what, "there is no login");
    if (rc != PST_OK)
        goto out;
    rc = s3_cred_json_text(job, what, pst_str_of(text, len), "accessToken", token);
    if (rc == PST_OK)
        rc = s3_cred_json_text(job, what, pst_str_of(text, len), "expiresAt", &expires);
    if (rc != PST_OK)
        goto out;
    if (!*token || !expires || !s3_cred_read_time(s3_str(expires), &expires_ns))
        rc = fail_login(job, what, "the login in the cache cannot be read");
    else if (expires_ns <= s3_cred_now_ns())
        rc = fail_login(job, what, "the login has expired");
    else if (strpbrk(*token, "\r\n"))
        rc = fail_login(job, what, "the login's token has a line break");
out:
    s3_cred_wipe(job->host, text);
    s3_cred_wipe(job->host, expires);
    s3_cred_wipe(job->host, path);
    return rc;
}

static pst_rc make_url(struct s3_cred_job *job, const char *what, const struct s3_sso *sso,
                       char **out)
{
    const char *given = job->config->sso_endpoint;
    const size_t size = strlen(given) + 3 * (sso->role_name.len + sso->account_id.len) +
                        sso->region.len + 128;
    pst_kv params[] = {{PST_STR("role_name"), sso->role_name},
                       {PST_STR("account_id"), sso->account_id}};
    char *url = job->host->alloc(job->host, size, 16);

    if (!url)
        return s3_fail(job->err, PST_E_NO_MEMORY, "%s: out of memory", what);
    int n = given[0] ? snprintf(url, size, "%s", given)
                     : snprintf(url, size, "https://portal.sso.%.*s.amazonaws.com",
                                (int)sso->region.len, sso->region.ptr);
    while (n > 0 && url[n - 1] == '/')
        n--;
    n += snprintf(url + n, size - (size_t)n, "/federation/credentials?");
    *s3_encode_params(url + n, params, 2) = '\0';
    *out = url;
    return PST_OK;
}

static pst_rc fail_status(struct s3_cred_job *job, const char *what,
                          const struct s3_cred_exchange *x)
{
    char shown[160];
    char *message;

    if (x->status == 401)
        return fail_login(job, what, "the portal refuses the login (401)");
    if (s3_cred_json_text(job, what, pst_str_of(x->reply, x->reply_len), "message", &message) !=
        PST_OK)
        return job->err->code;
    s3_fail(job->err,
            x->status == 429   ? PST_E_THROTTLED
            : x->status >= 500 ? PST_E_UNAVAILABLE
            : x->status == 403 ? PST_E_DENIED
                               : PST_E_UNAUTHENTICATED,
            "%s: the portal answered %u%s%s", what, x->status, message ? ": " : "",
            message ? s3_cred_shown(s3_str(message), shown, sizeof(shown)) : "");
    job->err->http_status = (int32_t)x->status;
    if (x->status >= 500 || x->status == 429)
        job->err->flags |= PST_ERR_RETRYABLE;
    s3_cred_wipe(job->host, message);
    return job->err->code;
}

pst_rc s3_cred_sso(struct s3_cred_job *job, const struct s3_sso *sso, const char *what,
                   struct s3_secrets *out)
{
    static const struct s3_cred_names names = {.inner = "roleCredentials",
                                               .access_key = "accessKeyId",
                                               .secret_key = "secretAccessKey",
                                               .session_token = "sessionToken",
                                               .expiration = "expiration",
                                               .is_token_needed = 1,
                                               .is_expiration_ms = 1};
    struct s3_cred_exchange x = {.method = "GET"};
    char *token = NULL, *url = NULL;
    pst_rc rc = read_token(job, what, sso, &token);

    if (rc == PST_OK)
        rc = make_url(job, what, sso, &url);
    if (rc == PST_OK) {
        const pst_kv header = {PST_STR("x-amz-sso_bearer_token"), s3_str(token)};
        x.url = url;
        x.headers = &header;
        x.n_headers = 1;
        rc = s3_cred_exchange(job, what, &x);
        if (rc == PST_OK && x.status != 200)
            rc = fail_status(job, what, &x);
        else if (rc == PST_OK)
            rc = s3_cred_from_json(job, what, pst_str_of(x.reply, x.reply_len), &names, out);
    }
    s3_cred_exchange_fini(job, &x);
    s3_cred_wipe(job->host, token);
    s3_cred_wipe(job->host, url);
    return rc;
}
