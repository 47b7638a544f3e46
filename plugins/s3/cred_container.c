/* cred_container.c - credentials that a container's platform hands out (ECS, EKS Pod Identity).
 *
 * The platform names a URL in the environment: a path at 169.254.170.2, or a whole URL with a token to
 * be sent along, in a file that the platform renews; so the file is read again each time. A whole URL
 * over plain http may only lead to this machine or to the platforms' own addresses, else an
 * environment variable could send the token to a stranger.
 *
 * Where one of the variables is set this source is configured, and whatever goes wrong is an error.
 * Redirects are not followed. */
#include <stdio.h>
#include <string.h>

#include "config.h"
#include "cred_source.h"
#include "error.h"
#include "text.h"
#include "url.h"

#define ECS_ORIGIN "http://169.254.170.2"
#define TRY_MS 2000u
#define N_TRIES 3

static const char what[] = "container credentials";

/* "host:port" or "[host]:port" without the port. */
static pst_str bare_host(pst_str host)
{
    if (host.len > 0 && host.ptr[0] == '[') {
        const char *close = memchr(host.ptr, ']', host.len);
        return close ? pst_str_of(host.ptr + 1, (size_t)(close - host.ptr) - 1) : host;
    }
    const char *colon = host.len > 0 ? memchr(host.ptr, ':', host.len) : NULL;
    return colon ? pst_str_of(host.ptr, (size_t)(colon - host.ptr)) : host;
}

/* 127.0.0.0/8 in four decimal numbers; no other form of an address, no name that begins like one. */
static int is_loopback(pst_str host)
{
    unsigned n_dots = 0, n_digits = 0, number = 0;

    if (host.len < 4 || memcmp(host.ptr, "127.", 4) != 0)
        return 0;
    for (size_t i = 0; i < host.len; i++) {
        const char c = host.ptr[i];
        if (c == '.' && n_digits > 0) {
            n_dots++;
            n_digits = number = 0;
        } else if (c >= '0' && c <= '9' && n_digits < 3) {
            n_digits++;
            number = number * 10 + (unsigned)(c - '0');
        } else {
            return 0;
        }
        if (number > 255)
            return 0;
    }
    return n_dots == 3 && n_digits > 0;
}

static int is_allowed(const struct s3_url *url)
{
    static const char *const known[] = {"localhost", "::1", "169.254.170.2", "169.254.170.23",
                                        "fd00:ec2::23"};
    const pst_str host = bare_host(url->host);

    if (url->is_tls || is_loopback(host))
        return 1;
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (s3_str_is(host, known[i]))
            return 1;
    }
    return 0;
}

/* The URL to ask; free with dealloc. */
static pst_rc make_url(struct s3_cred_job *job, char **out)
{
    const struct s3_config *config = job->config;
    const char *relative = config->container_credentials_relative_uri;
    const char *full = config->container_credentials_full_uri;
    struct s3_url url;

    if (relative[0]) {
        const size_t size = sizeof(ECS_ORIGIN) + strlen(relative);
        if (relative[0] != '/')
            return s3_fail(job->err, PST_E_INVALID,
                           "%s: AWS_CONTAINER_CREDENTIALS_RELATIVE_URI does not begin with '/'",
                           what);
        *out = job->host->alloc(job->host, size, 16);
        if (*out)
            snprintf(*out, size, "%s%s", ECS_ORIGIN, relative);
    } else {
        if (!s3_url_parse(s3_str(full), &url))
            return s3_fail(job->err, PST_E_INVALID,
                           "%s: AWS_CONTAINER_CREDENTIALS_FULL_URI is no http or https URL", what);
        if (!is_allowed(&url))
            return s3_fail(job->err, PST_E_INVALID,
                           "%s: AWS_CONTAINER_CREDENTIALS_FULL_URI leads over plain http to a host "
                           "that is neither this machine nor the container platform",
                           what);
        *out = s3_cred_dup(job->host, s3_str(full));
    }
    return *out ? (pst_rc)PST_OK : s3_fail(job->err, PST_E_NO_MEMORY, "%s: out of memory", what);
}

/* The token to send, NULL for none; wipe it. The file goes before the variable. */
static pst_rc find_token(struct s3_cred_job *job, char **out)
{
    const struct s3_config *config = job->config;
    const char *file = config->container_authorization_token_file;
    size_t len = 0;
    pst_rc rc = PST_OK;

    if (file[0]) {
        rc = s3_cred_read_file(job, what, file, out, &len);
        if (rc == PST_E_NOT_FOUND)
            rc = s3_fail(job->err, PST_E_UNAUTHENTICATED, "%s: there is no file %s", what, file);
        while (rc == PST_OK && len > 0 && ((*out)[len - 1] == '\n' || (*out)[len - 1] == '\r'))
            (*out)[--len] = '\0';
    } else if (config->container_authorization_token[0]) {
        *out = s3_cred_dup(job->host, s3_str(config->container_authorization_token));
        if (!*out)
            rc = s3_fail(job->err, PST_E_NO_MEMORY, "%s: out of memory", what);
    }
    if (rc == PST_OK && *out && strpbrk(*out, "\r\n"))
        rc = s3_fail(job->err, PST_E_INVALID, "%s: the authorization token has a line break", what);
    return rc;
}

static pst_rc fail_status(struct s3_cred_job *job, const struct s3_cred_exchange *x)
{
    char shown[160];
    char *message = NULL;

    if (s3_cred_json_text(job, what, pst_str_of(x->reply, x->reply_len), "message", &message) !=
        PST_OK)
        return job->err->code;
    s3_fail(job->err, x->status >= 500 ? PST_E_UNAVAILABLE : PST_E_UNAUTHENTICATED,
            "%s: the platform answered %u%s%s", what, x->status, message ? ": " : "",
            message ? s3_cred_shown(s3_str(message), shown, sizeof(shown)) : "");
    job->err->http_status = (int32_t)x->status;
    if (x->status >= 500)
        job->err->flags |= PST_ERR_RETRYABLE;
    s3_cred_wipe(job->host, message);
    return job->err->code;
}

static pst_rc ask(struct s3_cred_job *job, const char *url, const char *token,
                  struct s3_secrets *out)
{
    static const struct s3_cred_names names = {.access_key = "AccessKeyId",
                                               .secret_key = "SecretAccessKey",
                                               .session_token = "Token",
                                               .expiration = "Expiration"};
    const pst_kv headers[] = {
        {PST_STR("accept"), PST_STR("application/json")},
        {PST_STR("authorization"), s3_str(token)},
    };
    struct s3_cred_exchange x = {.method = "GET",
                                 .url = url,
                                 .headers = headers,
                                 .n_headers = token ? 2 : 1,
                                 .flags = S3_CRED_DIRECT,
                                 .timeout_ms = TRY_MS};
    pst_rc rc = s3_cred_exchange(job, what, &x);

    if (rc == PST_OK && x.status != 200)
        rc = fail_status(job, &x);
    else if (rc == PST_OK)
        rc = s3_cred_from_json(job, what, pst_str_of(x.reply, x.reply_len), &names, out);
    s3_cred_exchange_fini(job, &x);
    return rc;
}

pst_rc s3_cred_container(struct s3_cred_job *job, struct s3_secrets *out)
{
    const struct s3_config *config = job->config;
    char *url = NULL, *token = NULL;
    pst_rc rc;

    if (!config->container_credentials_relative_uri[0] &&
        !config->container_credentials_full_uri[0]) {
        snprintf(job->why, sizeof(job->why), "AWS_CONTAINER_CREDENTIALS_*_URI is not set");
        return S3_CRED_NONE;
    }
    rc = make_url(job, &url);
    if (rc == PST_OK)
        rc = find_token(job, &token);
    for (int i = 0; rc == PST_OK && i < N_TRIES; i++) {
        rc = ask(job, url, token, out);
        if (rc == PST_OK || !(job->err->flags & PST_ERR_RETRYABLE) || i + 1 == N_TRIES)
            break;
        rc = PST_OK;
    }
    s3_cred_wipe(job->host, token);
    s3_cred_wipe(job->host, url);
    return rc;
}
