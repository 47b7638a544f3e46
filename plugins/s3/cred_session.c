/* cred_session.c - sessions of directory buckets (S3 Express One Zone): CreateSession.
 *
 * A directory bucket takes no signature of the account's keys but for this one request, which hands out
 * keys of its own for five minutes. So a session is the last step of a refresh: whatever the chain
 * found asks for one, and what the store signs with is the session. That it is renewed in time, by one
 * for all, and once when the store calls it expired, is cred.c's doing as with any other keys.
 *
 * The session is asked of the store itself: of the bucket's zone at AWS, of the endpoint where one is
 * set. Nothing is repeated here but by the operation that waits. */
#include <stdio.h>
#include <string.h>

#include "config.h"
#include "cred.h"
#include "cred_source.h"
#include "endpoint.h"
#include "error.h"
#include "sign.h"
#include "text.h"
#include "url.h"

struct session_url {
    char text[1024];
    size_t path_at; /* of the path, behind the host */
    char host[768];
};

/* "https://bucket.s3express-zone.region.amazonaws.com/?session=", or of the endpoint that is set. */
static pst_rc make_url(struct s3_cred_job *job, const char *region, struct session_url *out)
{
    const struct s3_config *c = job->config;
    struct s3_endpoints *endpoints = NULL;
    char zone[S3_AWS_HOST_SIZE];
    int in_host = c->addressing == S3_ADDRESSING_VIRTUAL, n;
    pst_rc rc = s3_endpoints_new(job->host, c, &endpoints, job->err);

    if (rc != PST_OK)
        return rc;
    const struct s3_url *server = s3_endpoint_url(endpoints, 0);
    pst_str host = server->host;
    if (s3_endpoints_are_implied(endpoints)) {
        host = pst_str_of(zone, s3_express_host(s3_str(c->bucket), region, zone));
        in_host = 1;
    } else if (c->addressing == S3_ADDRESSING_AUTO && server->is_tls) {
        in_host = s3_endpoints_are_aws(endpoints);
    }
    n = snprintf(out->host, sizeof(out->host), "%s%s%.*s", in_host ? c->bucket : "",
                 in_host ? "." : "", (int)host.len, host.ptr);
    n = n < 0 ? n
              : snprintf(out->text, sizeof(out->text),
                         "%.*s://%s/%s?session=", (int)server->scheme.len, server->scheme.ptr,
                         out->host, in_host ? "" : c->bucket);
    out->path_at = server->scheme.len + 3 + strlen(out->host);
    s3_endpoints_free(endpoints);
    if (n < 0 || (size_t)n >= sizeof(out->text))
        return s3_fail(job->err, PST_E_INVALID, "session: the URL of the bucket is too long");
    return PST_OK;
}

static pst_rc ask(struct s3_cred_job *job, const char *what, const struct s3_secrets *base,
                  const struct session_url *url, const char *region, struct s3_secrets *out)
{
    const struct s3_identity identity = {.access_key = base->access_key,
                                         .secret_key = base->secret_key,
                                         .session_token = base->session_token};
    char date[S3_DATE_SIZE], *scratch = NULL;
    pst_kv headers[6] = {
        {PST_STR("host"), s3_str(url->host)},
        {PST_STR("x-amz-content-sha256"), PST_STR(S3_EMPTY_SHA256)},
        {PST_STR("x-amz-create-session-mode"), PST_STR("ReadWrite")},
        {PST_STR("x-amz-date"), pst_str_of(date, S3_DATE_SIZE - 1)},
        {PST_STR("x-amz-security-token"), s3_str(base->session_token)},
    };
    size_t n = base->session_token ? 5 : 4;
    const char *path = url->text + url->path_at;
    const struct s3_signing signing = {
        .identity = &identity,
        .date = date,
        .region = region,
        .service = "s3express",
        .method = PST_STR("GET"),
        .path = pst_str_of(path, strcspn(path, "?")),
        .query = PST_STR("session="),
        .headers = headers,
        .n_headers = n,
        .payload = PST_STR(S3_EMPTY_SHA256),
    };
    struct s3_cred_exchange x = {.method = "GET", .url = url->text, .headers = headers};
    struct s3_signer signer;

    s3_sign_date(s3_cred_now_ns() / 1000000000, date);
    scratch = job->host->alloc(job->host, s3_sign_room(&signing), 16);
    if (!scratch)
        return s3_fail(job->err, PST_E_NO_MEMORY, "%s: out of memory", what);
    s3_signer_init(&signer, job->host, job->crypto);
    headers[n].key = PST_STR("authorization");
    pst_rc rc = s3_sign_authorization(&signer, &signing, scratch, &headers[n].value);
    s3_signer_fini(&signer);
    x.n_headers = n + 1;
    if (rc != PST_OK)
        rc = s3_fail(job->err, rc, "%s: the request cannot be signed", what);
    else
        rc = s3_cred_exchange(job, what, &x);
    if (rc == PST_OK)
        rc = s3_cred_from_xml(job, what, "CreateSession", &x, out);
    s3_cred_exchange_fini(job, &x);
    job->host->dealloc(job->host, scratch);
    return rc;
}

pst_rc s3_cred_session(struct s3_cred_job *job, const struct s3_secrets *base,
                       struct s3_secrets *out)
{
    const struct s3_config *c = job->config;
    const char *region = c->region[0] ? c->region : "us-east-1";
    struct session_url url;
    char what[256];
    pst_rc rc = make_url(job, region, &url);

    if (rc != PST_OK)
        return rc;
    snprintf(what, sizeof(what), "session for %.64s by %.150s", c->bucket, base->source);
    return ask(job, what, base, &url, region, out);
}
