/* cred_sts.c - roles: temporary keys from AWS's Security Token Service, or from a store that speaks its
 * protocol.
 *
 * AssumeRole is signed with the keys of somebody who may take the role; AssumeRoleWithWebIdentity
 * carries a signed token (of a Kubernetes service account, say) instead, in a file that its issuer
 * renews, so it is read each time. Both are one POST of a form to the endpoint of the region; the answer
 * is XML. What may help if repeated is repeated here, three times at most with a growing pause:
 * somebody's whole training job waits for it.
 *
 * An error names the role and STS's own code and words. Keys, tokens and the form never get into one. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "config.h"
#include "cred.h"
#include "cred_source.h"
#include "error.h"
#include "sign.h"
#include "text.h"
#include "url.h"
#include "xml.h"

#define N_TRIES 3
#define FORM_PARAMS 7
#define SESSION_NAME_MAX 64 /* sts:RoleSessionName */

/* ---- where, and what -------------------------------------------------------------------------- */

static const char *region_of(const struct s3_cred_job *job, pst_str wanted, char out[64])
{
    if (wanted.len == 0)
        wanted = s3_str(job->config->region);
    if (wanted.len == 0 || wanted.len > 63)
        wanted = PST_STR("us-east-1");
    memcpy(out, wanted.ptr, wanted.len);
    out[wanted.len] = '\0';
    return out;
}

/* A URL that ends in '/', and what stands in its host header. */
static pst_rc make_url(struct s3_cred_job *job, const char *what, const char *region, char *url,
                       size_t capacity, struct s3_url *parts)
{
    const char *given = job->config->sts_endpoint;
    const int is_china = strncmp(region, "cn-", 3) == 0;
    const size_t len = strlen(given);
    int n;

    if (given[0])
        n = snprintf(url, capacity, "%s%s", given, given[len - 1] == '/' ? "" : "/");
    else
        n = snprintf(url, capacity, "https://sts.%s.amazonaws.com%s/", region,
                     is_china ? ".cn" : "");
    if (n < 0 || (size_t)n >= capacity || !s3_url_parse(s3_str(url), parts) ||
        memchr(parts->rest.ptr, '?', parts->rest.len) ||
        memchr(parts->rest.ptr, '#', parts->rest.len))
        return s3_fail(job->err, PST_E_INVALID, "%s: option sts_endpoint is no http or https URL",
                       what);
    return PST_OK;
}

/* The form as it goes out; wipe it. */
static char *make_form(const pst_host *host, pst_kv *params, size_t n_params)
{
    size_t size = 1;

    for (size_t i = 0; i < n_params; i++)
        size += 3 * (params[i].key.len + params[i].value.len) + 2;
    char *form = host->alloc(host, size, 16);
    if (form)
        *s3_encode_params(form, params, n_params) = '\0';
    return form;
}

/* ---- the answer ------------------------------------------------------------------------------- */

struct answer {
    const pst_host *host;
    char *access_key, *secret_key, *session_token;
    int64_t expires_unix_ns;
    char code[64], message[256];
};

static int ends_in(const char *path, const char *tail)
{
    const size_t n = strlen(path), n_tail = strlen(tail);

    return n >= n_tail && strcmp(path + n - n_tail, tail) == 0;
}

static int32_t on_element(void *ctx, const char *path, pst_str text)
{
    struct answer *a = ctx;
    char **secret = ends_in(path, "/Credentials/AccessKeyId")       ? &a->access_key
                    : ends_in(path, "/Credentials/SecretAccessKey") ? &a->secret_key
                    : ends_in(path, "/Credentials/SessionToken")    ? &a->session_token
                                                                    : NULL;

    if (secret) {
        s3_cred_wipe(a->host, *secret);
        *secret = s3_cred_dup(a->host, text);
        return *secret ? (int32_t)PST_OK : (int32_t)PST_E_NO_MEMORY;
    }
    if (ends_in(path, "/Credentials/Expiration") && !s3_cred_read_time(text, &a->expires_unix_ns))
        return PST_E_DATA_LOSS;
    if (ends_in(path, "Error/Code")) /* S3's are at the root */
        s3_cred_shown(text, a->code, sizeof(a->code));
    else if (ends_in(path, "Error/Message"))
        s3_cred_shown(text, a->message, sizeof(a->message));
    return PST_OK;
}

static pst_rc fail_answer(struct s3_cred_job *job, const char *what, const char *who,
                          uint32_t status, const struct answer *a)
{
    const int is_throttled = strcmp(a->code, "Throttling") == 0 ||
                             strcmp(a->code, "ThrottlingException") == 0 || status == 429;
    const int is_transient = status >= 500 || is_throttled || strcmp(a->code, "SlowDown") == 0 ||
                             strcmp(a->code, "IDPCommunicationError") == 0;

    s3_fail(job->err,
            is_throttled                      ? PST_E_THROTTLED
            : is_transient                    ? PST_E_UNAVAILABLE
            : strstr(a->code, "AccessDenied") ? PST_E_DENIED
                                              : PST_E_UNAUTHENTICATED,
            "%s: %s answered %u%s%s%s%s", what, who, status, a->code[0] ? " " : "", a->code,
            a->message[0] ? ": " : "", a->message);
    job->err->http_status = (int32_t)status;
    snprintf(job->err->provider_code, sizeof(job->err->provider_code), "%s", a->code);
    if (is_transient)
        job->err->flags |= PST_ERR_RETRYABLE;
    return job->err->code;
}

pst_rc s3_cred_from_xml(struct s3_cred_job *job, const char *what, const char *who,
                        const struct s3_cred_exchange *x, struct s3_secrets *out)
{
    struct answer a = {.host = job->host, .expires_unix_ns = PST_TIME_UNKNOWN};
    const struct s3_xml handler = {.end = on_element, .ctx = &a};
    pst_rc rc = s3_xml_parse(pst_str_of(x->reply, x->reply_len), &handler);

    if (x->status != 200)
        rc = fail_answer(job, what, who, x->status, &a);
    else if (rc == PST_E_NO_MEMORY)
        rc = s3_fail(job->err, rc, "%s: out of memory", what);
    else if (rc != PST_OK || !a.access_key || !a.secret_key || !a.session_token)
        rc = s3_fail(job->err, PST_E_UNAUTHENTICATED, "%s: %s's answer holds no credentials", what,
                     who);
    else
        rc = s3_secrets_set(job->host, what, s3_str(a.access_key), s3_str(a.secret_key),
                            s3_str(a.session_token), out, job->err);
    if (rc == PST_OK)
        out->expires_unix_ns = a.expires_unix_ns;
    s3_cred_wipe(job->host, a.access_key);
    s3_cred_wipe(job->host, a.secret_key);
    s3_cred_wipe(job->host, a.session_token);
    return rc;
}

/* ---- the request ------------------------------------------------------------------------------ */

/* Sign `x` with `base`; *memory owns what the header refers to. */
static pst_rc sign(struct s3_cred_job *job, const char *what, const struct s3_secrets *base,
                   const char *region, const struct s3_url *url, pst_kv headers[5],
                   const char *date, pst_str body, char **memory)
{
    const struct s3_identity identity = {.access_key = base->access_key,
                                         .secret_key = base->secret_key,
                                         .session_token = base->session_token};
    const pst_iov whole = {(void *)(uintptr_t)body.ptr, body.len};
    struct s3_signer signer;
    uint8_t hash[32];
    char digits[64];
    size_t n = 0;

    pst_rc rc = job->crypto->digest(job->host, PST_DIGEST_SHA256, &whole, 1, hash);
    if (rc != PST_OK)
        return s3_fail(job->err, rc, "%s: the request cannot be signed", what);
    s3_hex(digits, hash, sizeof(hash));
    headers[n++] = (pst_kv){PST_STR("content-type"), PST_STR("application/x-www-form-urlencoded")};
    headers[n++] = (pst_kv){PST_STR("host"), url->host};
    headers[n++] = (pst_kv){PST_STR("x-amz-date"), s3_str(date)};
    if (base->session_token)
        headers[n++] = (pst_kv){PST_STR("x-amz-security-token"), s3_str(base->session_token)};
    const struct s3_signing signing = {
        .identity = &identity,
        .date = date,
        .region = region,
        .service = "sts",
        .method = PST_STR("POST"),
        .path = url->rest,
        .headers = headers,
        .n_headers = n,
        .payload = pst_str_of(digits, sizeof(digits)),
    };
    *memory = job->host->alloc(job->host, s3_sign_room(&signing), 16);
    if (!*memory)
        return s3_fail(job->err, PST_E_NO_MEMORY, "%s: out of memory", what);
    s3_signer_init(&signer, job->host, job->crypto);
    headers[n].key = PST_STR("authorization");
    rc = s3_sign_authorization(&signer, &signing, *memory, &headers[n].value);
    s3_signer_fini(&signer);
    if (rc != PST_OK)
        return s3_fail(job->err, rc, "%s: the request cannot be signed", what);
    return PST_OK;
}

/* `base` NULL: not signed. */
static pst_rc ask_once(struct s3_cred_job *job, const char *what, const struct s3_secrets *base,
                       pst_str wanted_region, pst_str form, struct s3_secrets *out)
{
    pst_kv headers[5] = {{PST_STR("content-type"), PST_STR("application/x-www-form-urlencoded")}};
    struct s3_cred_exchange x = {
        .method = "POST", .headers = headers, .n_headers = 1, .body = form};
    struct s3_url parts;
    char url[512], region[64], date[S3_DATE_SIZE];
    char *memory = NULL;
    pst_rc rc = make_url(job, what, region_of(job, wanted_region, region), url, sizeof(url),
                         &parts);

    if (rc != PST_OK)
        return rc;
    x.url = url;
    if (base) {
        s3_sign_date(s3_cred_now_ns() / 1000000000, date);
        rc = sign(job, what, base, region, &parts, headers, date, form, &memory);
        x.n_headers = base->session_token ? 5 : 4;
    }
    if (rc == PST_OK)
        rc = s3_cred_exchange(job, what, &x);
    if (rc == PST_OK)
        rc = s3_cred_from_xml(job, what, "STS", &x, out);
    s3_cred_exchange_fini(job, &x);
    if (memory)
        job->host->dealloc(job->host, memory);
    return rc;
}

/* Half a second, a second; less where the store is being closed. */
static void pause_before(struct s3_cred_job *job, int try)
{
    const struct timespec slice = {.tv_nsec = 50 * 1000000};

    for (int i = 0; i < 10 * try && s3_cred_check_time(job, "STS") == PST_OK; i++)
        nanosleep(&slice, NULL);
}

static pst_rc ask(struct s3_cred_job *job, const char *what, const struct s3_secrets *base,
                  pst_str region, pst_kv *params, size_t n_params, struct s3_secrets *out)
{
    char *form = make_form(job->host, params, n_params);
    pst_rc rc = form ? (pst_rc)PST_OK
                     : s3_fail(job->err, PST_E_NO_MEMORY, "%s: out of memory", what);

    for (int i = 1; rc == PST_OK; i++) {
        rc = ask_once(job, what, base, region, s3_str(form), out);
        if (rc == PST_OK || !(job->err->flags & PST_ERR_RETRYABLE) || i == N_TRIES)
            break;
        pause_before(job, i);
        rc = PST_OK;
    }
    s3_cred_wipe(job->host, form);
    return rc;
}

/* ---- the two of them -------------------------------------------------------------------------- */

static size_t add(pst_kv *params, size_t n, const char *name, pst_str value)
{
    if (value.len > 0)
        params[n++] = (pst_kv){s3_str(name), value};
    return n;
}

/* STS wants a name; ours tells who asked and when the session began. */
static pst_str session_name_of(pst_str given, char own[SESSION_NAME_MAX + 1])
{
    if (given.len > 0)
        return given;
    snprintf(own, SESSION_NAME_MAX + 1, "penstock-%lld",
             (long long)(s3_cred_now_ns() / 1000000000));
    return s3_str(own);
}

pst_rc s3_cred_assume_role(struct s3_cred_job *job, const struct s3_secrets *base,
                           const struct s3_role *role, struct s3_secrets *out)
{
    char what[256], shown[128], own_name[SESSION_NAME_MAX + 1], duration[24] = "";
    pst_kv params[FORM_PARAMS];
    size_t n = 0;

    snprintf(what, sizeof(what), "role %s by %.100s",
             s3_cred_shown(role->arn, shown, sizeof(shown)), base->source);
    if (role->duration_s > 0)
        snprintf(duration, sizeof(duration), "%llu", (unsigned long long)role->duration_s);
    n = add(params, n, "Action", PST_STR("AssumeRole"));
    n = add(params, n, "Version", PST_STR("2011-06-15"));
    n = add(params, n, "RoleArn", role->arn);
    n = add(params, n, "RoleSessionName", session_name_of(role->session_name, own_name));
    n = add(params, n, "ExternalId", role->external_id);
    n = add(params, n, "DurationSeconds", s3_str(duration));
    return ask(job, what, base, role->region, params, n, out);
}

pst_rc s3_cred_web_identity(struct s3_cred_job *job, const char *role_arn, const char *token_file,
                            const char *session_name, pst_str region, struct s3_secrets *out)
{
    char what[256], shown[128], own_name[SESSION_NAME_MAX + 1], duration[24] = "";
    pst_kv params[FORM_PARAMS];
    char *token = NULL;
    size_t len = 0, n = 0;

    snprintf(what, sizeof(what), "role %s by web identity",
             s3_cred_shown(s3_str(role_arn), shown, sizeof(shown)));
    pst_rc rc = s3_cred_read_file(job, what, token_file, &token, &len);
    if (rc == PST_E_NOT_FOUND)
        return s3_fail(job->err, PST_E_UNAUTHENTICATED, "%s: there is no token file %s", what,
                       s3_cred_shown(s3_str(token_file), shown, sizeof(shown)));
    if (rc != PST_OK)
        return rc;
    while (len > 0 && strchr("\r\n \t", token[len - 1]))
        token[--len] = '\0';
    if (len == 0) {
        rc = s3_fail(job->err, PST_E_UNAUTHENTICATED, "%s: the token file %s is empty", what,
                     s3_cred_shown(s3_str(token_file), shown, sizeof(shown)));
        goto out;
    }
    if (job->config->role_duration_s > 0)
        snprintf(duration, sizeof(duration), "%u", job->config->role_duration_s);
    n = add(params, n, "Action", PST_STR("AssumeRoleWithWebIdentity"));
    n = add(params, n, "Version", PST_STR("2011-06-15"));
    n = add(params, n, "RoleArn", s3_str(role_arn));
    n = add(params, n, "RoleSessionName", session_name_of(s3_str(session_name), own_name));
    n = add(params, n, "WebIdentityToken", pst_str_of(token, len));
    n = add(params, n, "DurationSeconds", s3_str(duration));
    rc = ask(job, what, NULL, region, params, n, out);
out:
    s3_cred_wipe(job->host, token);
    return rc;
}
