/* request.c - one signed exchange with the store.
 *
 *     s3_request_send -> credentials -> start: endpoint, URL, headers, signature -> http
 *                             |                       ^
 *                       (PENDING: on_identity)        | once each: region, clock, token, redirect
 *                                                     |
 *                            http done -> on_done ----+--> request->done
 *
 * http/1 copies what it is given, so that URL, canonical request and headers of a try live on the stack
 * (or, when they are long, in memory of the operation) and nothing of them is left when it is sent.
 *
 * What is put right here, once each, because only we can: the region the store names, the clock it
 * shows, a token it calls expired, a redirect that may be followed. Everything else that is worth
 * repeating is repeated by the host, with its pauses and budget.
 *
 * Cancelling meets a request in one of three places: waiting for credentials (it leaves the line and is
 * done here), at the service (which ends it), or between the two, inside a call of ours. For the last
 * one is_cancelled is set before the id is looked for, and looked at after the id is stored: one of the
 * two sides sees the other. A callback that overtakes the return of the call that started it waits for
 * is_sending, a few instructions, before it may end the operation and with it the request's memory. */
#include "request.h"

#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "config.h"
#include "endpoint.h"
#include "error.h"
#include "s3.h"
#include "text.h"
#include "url.h"

enum {
    TEXT_BYTES = 3072, /* of a try, on the stack: what an ordinary request takes */
    KVS = 48,
    OWN_HEADERS = 8, /* host, date, digest, token, authorization, payer, owner, one spare */
    OWN_PARAMS = 7,  /* of a presigned URL */
    REDIRECTS_MAX = 3,
    ORIGIN_MAX = 640, /* bucket, host and scheme */
};

#define CORRECTED_REGION 1u
#define CORRECTED_CLOCK 2u
#define CORRECTED_TOKEN 4u
#define REDIRECT_UNIT 256u /* above: how many redirects were followed */

/* ---- filling a request ------------------------------------------------------------------------ */

void s3_request_init(struct s3_request *r, pst_backend *store, pst_op *op, const char *method,
                     pst_str key)
{
    r->store = store;
    r->op = op;
    r->err = op->err;
    r->method = method;
    r->bucket = s3_str(store->bucket);
    r->key = key;
    r->flags = r->n_params = r->n_headers = r->presign_s = 0;
    r->more = NULL;
    r->n_more = 0;
    r->body = NULL;
    r->n_body = 0;
    r->payload_sha256 = NULL;
    r->body_max = 0;
    r->url = pst_str_of(NULL, 0);
    r->accept = NULL;
    r->done = NULL;
    r->own.identity = NULL;
    r->own.endpoint = r->own.corrected = 0;
    r->own.failed = r->own.refused = PST_OK;
    r->own.redirect = pst_str_of(NULL, 0);
    atomic_store_explicit(&r->own.http_id, 0, memory_order_relaxed);
}

static void put_pair(struct s3_request *r, pst_kv *pairs, uint32_t *n, uint32_t max,
                     const char *name, pst_str value)
{
    if (*n == max) {
        r->own.failed = PST_E_INTERNAL;
        return;
    }
    pairs[*n].key = s3_str(name);
    pairs[(*n)++].value = value;
}

void s3_request_param(struct s3_request *r, const char *name, pst_str value)
{
    put_pair(r, r->params, &r->n_params, S3_PARAMS_MAX, name, value);
}

void s3_request_header(struct s3_request *r, const char *name, pst_str value)
{
    if (value.len > 0)
        put_pair(r, r->headers, &r->n_headers, S3_HEADERS_MAX, name, value);
}

static pst_str format_text(struct s3_request *r, const char *format, va_list args)
{
    char text[256];
    va_list again;

    va_copy(again, args);
    const int len = vsnprintf(text, sizeof(text), format, args);
    char *copy = len >= 0 ? s3_alloc(r->op, (size_t)len + 1) : NULL;
    if (!copy)
        r->own.failed = PST_E_NO_MEMORY;
    else if ((size_t)len < sizeof(text))
        memcpy(copy, text, (size_t)len + 1);
    else
        vsnprintf(copy, (size_t)len + 1, format, again);
    va_end(again);
    return pst_str_of(copy, copy ? (size_t)len : 0);
}

void s3_request_headerf(struct s3_request *r, const char *name, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    s3_request_header(r, name, format_text(r, format, args));
    va_end(args);
}

void s3_request_paramf(struct s3_request *r, const char *name, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    s3_request_param(r, name, format_text(r, format, args));
    va_end(args);
}

void s3_sse_c_headers(struct s3_request *r, int is_source)
{
    static const char *const names[2][3] = {
        {"x-amz-server-side-encryption-customer-algorithm",
         "x-amz-server-side-encryption-customer-key",
         "x-amz-server-side-encryption-customer-key-md5"},
        {"x-amz-copy-source-server-side-encryption-customer-algorithm",
         "x-amz-copy-source-server-side-encryption-customer-key",
         "x-amz-copy-source-server-side-encryption-customer-key-md5"},
    };
    const pst_str key = s3_str(r->store->config->sse_c_key);

    if (key.len == 0)
        return;
    s3_request_header(r, names[is_source != 0][0], PST_STR("AES256"));
    s3_request_header(r, names[is_source != 0][1], key);
    s3_request_header(r, names[is_source != 0][2], s3_str(r->store->sse_c_md5));
}

pst_str s3_header(const pst_kv *headers, size_t n_headers, const char *name)
{
    const size_t len = strlen(name);

    for (size_t i = 0; i < n_headers; i++) {
        if (headers[i].key.len == len && memcmp(headers[i].key.ptr, name, len) == 0)
            return headers[i].value;
    }
    return pst_str_of(NULL, 0);
}

/* ---- one try ---------------------------------------------------------------------------------- */

/* What is made for one try; s3_send_try fills it in this order. */
struct attempt {
    struct s3_request *r;
    char *at; /* where free memory of the text begins */
    pst_str origin, host, path, query, url;
    int is_tls, is_signed;
    char date[S3_DATE_SIZE];
    char payload[64];
    struct s3_signing signing;
    pst_kv *headers, *to_sign;
    size_t n_headers;
    uint64_t not_before_ns;
};

static pst_rc fail(struct s3_request *r, pst_rc rc, const char *why)
{
    return s3_fail(r->err, rc, "%s", why);
}

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec now;

    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* The region, and this request's turn where there is a limit on requests per second. */
static uint64_t take_turn(struct s3_request *r)
{
    pst_backend *store = r->store;
    const uint32_t limit = store->config->max_requests_per_second;
    uint64_t not_before_ns = 0;

    pthread_mutex_lock(&store->mutex);
    memcpy(r->own.region, store->locked.region, sizeof(r->own.region));
    if (limit > 0 && !(r->flags & S3_PRESIGN)) {
        const uint64_t now = clock_ns(CLOCK_MONOTONIC);
        if (store->locked.next_request_ns > now)
            not_before_ns = store->locked.next_request_ns;
        else
            store->locked.next_request_ns = now;
        store->locked.next_request_ns += 1000000000 / limit;
    }
    pthread_mutex_unlock(&store->mutex);
    if (!r->own.region[0])
        memcpy(r->own.region, "us-east-1", 10);
    return not_before_ns;
}

static int is_virtual(const struct s3_request *r, int is_tls)
{
    const struct s3_config *config = r->store->config;

    if (r->bucket.len == 0)
        return 0;
    if (config->addressing != S3_ADDRESSING_AUTO)
        return config->addressing == S3_ADDRESSING_VIRTUAL;
    return is_tls && s3_endpoints_are_aws(r->store->endpoints) && s3_bucket_is_label(r->bucket);
}

/* "https://bucket.s3.eu-west-1.amazonaws.com" and the path behind it. */
static void put_url(struct attempt *a)
{
    const struct s3_request *r = a->r;
    const struct s3_endpoints *endpoints = r->store->endpoints;
    const struct s3_url *server = s3_endpoint_url(endpoints, r->own.endpoint);
    const int in_host = is_virtual(r, server->is_tls);
    char aws[S3_AWS_HOST_SIZE];
    pst_str host = server->host;
    char *begin = a->at, *at = a->at;

    if (s3_endpoints_are_implied(endpoints)) /* it moves when the region is corrected */
        host = pst_str_of(aws, s3_aws_host(r->own.region, aws));
    at = s3_write(at, server->scheme);
    at = s3_write(at, PST_STR("://"));
    char *host_at = at;
    if (in_host) {
        at = s3_write(at, r->bucket);
        *at++ = '.';
    }
    at = s3_write(at, host);
    a->host = pst_str_of(host_at, (size_t)(at - host_at));
    char *path_at = at;
    *at++ = '/';
    if (!in_host && r->bucket.len > 0) {
        at = s3_encode_path(at, r->bucket);
        if (r->key.len > 0)
            *at++ = '/';
    }
    at = s3_encode_path(at, r->key);
    a->path = pst_str_of(path_at, (size_t)(at - path_at));
    a->url = pst_str_of(begin, (size_t)(at - begin));
    a->is_tls = server->is_tls;
    a->at = at;
}

static void put_query(struct attempt *a, pst_kv *params, size_t n)
{
    char *begin;

    if (n == 0)
        return;
    *a->at++ = '?';
    begin = a->at;
    a->at = s3_encode_params(begin, params, n);
    a->query = pst_str_of(begin, (size_t)(a->at - begin));
    a->url.len += 1 + a->query.len;
}

static int compare_text(const void *one, const void *other)
{
    const pst_str *a = one, *b = other;
    const size_t n = a->len < b->len ? a->len : b->len;
    const int order = memcmp(a->ptr, b->ptr, n);

    return order ? order : (a->len > b->len) - (a->len < b->len);
}

/* The query of a URL that somebody else made, in the form that is signed. */
static pst_rc put_foreign_query(struct attempt *a, pst_str query)
{
    pst_str parts[64];
    size_t n = 0;

    while (query.len > 0) {
        const char *amp = memchr(query.ptr, '&', query.len);
        const size_t len = amp ? (size_t)(amp - query.ptr) : query.len;
        if (n == 64)
            return fail(a->r, PST_E_INVALID, "a redirect names more than 64 parameters");
        if (len > 0)
            parts[n++] = pst_str_of(query.ptr, len);
        query = pst_str_of(query.ptr + len + (amp != NULL), query.len - len - (amp != NULL));
    }
    qsort(parts, n, sizeof(parts[0]), compare_text);
    char *begin = a->at;
    for (size_t i = 0; i < n; i++) {
        if (i > 0)
            *a->at++ = '&';
        a->at = s3_write(a->at, parts[i]);
        if (!memchr(parts[i].ptr, '=', parts[i].len))
            *a->at++ = '=';
    }
    a->query = pst_str_of(begin, (size_t)(a->at - begin));
    return PST_OK;
}

/* The URL of a redirect, taken as it is. */
static pst_rc put_redirect(struct attempt *a)
{
    struct s3_url url;
    const pst_str redirect = a->r->own.redirect;

    s3_url_parse(redirect, &url); /* it was parsed before it was kept */
    const char *mark = url.rest.len > 0 ? memchr(url.rest.ptr, '?', url.rest.len) : NULL;
    a->url = redirect;
    a->host = url.host;
    a->is_tls = url.is_tls;
    a->path = pst_str_of(url.rest.ptr, mark ? (size_t)(mark - url.rest.ptr) : url.rest.len);
    if (a->path.len == 0)
        a->path = PST_STR("/");
    if (!mark)
        return PST_OK;
    return put_foreign_query(a, pst_str_of(mark + 1, url.rest.len - a->path.len - 1));
}

/* What the signature says about the body: its SHA-256 or that it says nothing. */
static pst_rc digest_payload(struct attempt *a)
{
    const struct s3_request *r = a->r;
    const enum s3_payload policy = r->store->config->payload_signing;
    uint8_t digest[32];

    a->signing.payload = pst_str_of(a->payload, sizeof(a->payload));
    if ((r->flags & S3_PRESIGN) || policy == S3_PAYLOAD_UNSIGNED ||
        (policy == S3_PAYLOAD_AUTO && a->is_tls)) {
        a->signing.payload = PST_STR(S3_UNSIGNED_PAYLOAD);
    } else if (r->n_body == 0) {
        a->signing.payload = PST_STR(S3_EMPTY_SHA256);
    } else if (r->payload_sha256) {
        s3_hex(a->payload, r->payload_sha256, 32);
    } else {
        const pst_rc rc = r->store->crypto->digest(r->store->host, PST_DIGEST_SHA256, r->body,
                                                   r->n_body, digest);
        if (rc != PST_OK)
            return fail(a->r, rc, "the digest of the body cannot be computed");
        s3_hex(a->payload, digest, 32);
    }
    return PST_OK;
}

static void add_header(struct attempt *a, pst_str name, pst_str value)
{
    a->headers[a->n_headers].key = name;
    a->headers[a->n_headers++].value = value;
}

/* All but the authorization. */
static void put_headers(struct attempt *a)
{
    const struct s3_request *r = a->r;
    const struct s3_config *config = r->store->config;

    add_header(a, PST_STR("host"), a->host);
    for (size_t i = 0; i < r->n_headers; i++)
        add_header(a, r->headers[i].key, r->headers[i].value);
    for (size_t i = 0; i < r->n_more; i++)
        add_header(a, r->more[i].key, r->more[i].value);
    if (r->flags & S3_PRESIGN)
        return;
    if (config->request_payer[0])
        add_header(a, PST_STR("x-amz-request-payer"), s3_str(config->request_payer));
    if (config->expected_bucket_owner[0])
        add_header(a, PST_STR("x-amz-expected-bucket-owner"),
                   s3_str(config->expected_bucket_owner));
    if (!a->is_signed)
        return;
    add_header(a, PST_STR("x-amz-content-sha256"), a->signing.payload);
    add_header(a, PST_STR("x-amz-date"), pst_str_of(a->date, S3_DATE_SIZE - 1));
    if (r->own.identity->session_token)
        add_header(a, PST_STR("x-amz-security-token"), s3_str(r->own.identity->session_token));
}

/* Those that SigV4 demands. Others may be changed on the way by what stands between. */
static int is_signed_header(pst_str name)
{
    return (name.len > 6 && memcmp(name.ptr, "x-amz-", 6) == 0) ||
           (name.len > 8 && memcmp(name.ptr, "content-", 8) == 0 &&
            (s3_str_is(name, "content-type") || s3_str_is(name, "content-md5"))) ||
           s3_str_is(name, "host");
}

static int compare_headers(const void *one, const void *other)
{
    const pst_kv *a = one, *b = other;

    return compare_text(&a->key, &b->key);
}

static void choose_signed(struct attempt *a)
{
    size_t n = 0;

    for (size_t i = 0; i < a->n_headers; i++) {
        if (!is_signed_header(a->headers[i].key))
            continue;
        size_t at = n++;
        if (n <= 32) { /* sorted as they come; user metadata beyond that by qsort */
            for (; at > 0 && compare_headers(&a->to_sign[at - 1], &a->headers[i]) > 0; at--)
                a->to_sign[at] = a->to_sign[at - 1];
        }
        a->to_sign[at] = a->headers[i];
    }
    if (n > 32)
        qsort(a->to_sign, n, sizeof(a->to_sign[0]), compare_headers);
    a->signing.headers = a->to_sign;
    a->signing.n_headers = n;
}

static pst_rc sign(struct attempt *a)
{
    pst_str value;

    choose_signed(a);
    a->signing.path = a->path;
    a->signing.query = a->query;
    const pst_rc rc = s3_sign_authorization(&a->r->store->signer, &a->signing, a->at, &value);
    if (rc != PST_OK)
        return fail(a->r, rc, "the request cannot be signed");
    add_header(a, PST_STR("authorization"), value);
    return PST_OK;
}

/* A URL that carries its signature in the query (SigV4, "query parameters"). */
static pst_rc presign(struct attempt *a, pst_kv *params, size_t n)
{
    struct s3_request *r = a->r;
    const struct s3_config *config = r->store->config;
    char expires[16], signature[S3_SIGNATURE_SIZE];
    const int n_expires = snprintf(expires, sizeof(expires), "%u", r->presign_s);

    if (a->is_signed) {
        choose_signed(a);
        const pst_str credential = pst_str_of(a->at, 0), none = pst_str_of(NULL, 0);
        char *end = s3_sign_credential(a->at, &a->signing);
        const pst_kv own[] = {
            {PST_STR("X-Amz-Algorithm"), PST_STR("AWS4-HMAC-SHA256")},
            {PST_STR("X-Amz-Credential"),
             pst_str_of(credential.ptr, (size_t)(end - credential.ptr))},
            {PST_STR("X-Amz-Date"), pst_str_of(a->date, S3_DATE_SIZE - 1)},
            {PST_STR("X-Amz-Expires"), pst_str_of(expires, (size_t)n_expires)},
            {PST_STR("X-Amz-SignedHeaders"), none},
        };
        memcpy(params + n, own, sizeof(own));
        n += sizeof(own) / sizeof(own[0]);
        params[n - 1].value.ptr = end;
        a->at = s3_sign_names(end, &a->signing);
        params[n - 1].value.len = (size_t)(a->at - end);
        if (r->own.identity->session_token)
            params[n++] = (pst_kv){PST_STR("X-Amz-Security-Token"),
                                   s3_str(r->own.identity->session_token)};
        if (config->request_payer[0])
            params[n++] = (pst_kv){PST_STR("x-amz-request-payer"), s3_str(config->request_payer)};
    }
    /* URL and query side by side: the text in between is used up. */
    char *begin = a->at;
    a->at = s3_write(begin, a->url);
    a->url = pst_str_of(begin, a->url.len);
    put_query(a, params, n);
    if (a->is_signed) {
        a->signing.path = a->path;
        a->signing.query = a->query;
        char *scratch = a->at + sizeof(signature) + 32;
        const pst_rc rc = s3_sign(&r->store->signer, &a->signing, scratch, signature);
        if (rc != PST_OK)
            return fail(r, rc, "the URL cannot be signed");
        a->at = s3_write(a->at, PST_STR("&X-Amz-Signature="));
        a->at = s3_write(a->at, pst_str_of(signature, sizeof(signature)));
    }
    char *copy = s3_alloc(r->op, (size_t)(a->at - begin) + 1);
    if (!copy)
        return fail(r, PST_E_NO_MEMORY, "out of memory");
    *s3_write(copy, pst_str_of(begin, (size_t)(a->at - begin))) = '\0';
    r->url = pst_str_of(copy, (size_t)(a->at - begin));
    return PST_OK;
}

/* Ceiling of the text of a try: URL, what is hashed for it, and what becomes of that. */
static size_t text_room(const struct s3_request *r)
{
    const struct s3_config *config = r->store->config;
    size_t n_path = ORIGIN_MAX + 3 * (r->bucket.len + r->key.len) + 2 * r->own.redirect.len;
    size_t n_text = 1024 + strlen(config->request_payer) + strlen(config->expected_bucket_owner);

    for (uint32_t i = 0; i < r->n_params; i++)
        n_path += 3 * (r->params[i].key.len + r->params[i].value.len) + 2;
    if (r->own.identity) {
        const size_t n_token = r->own.identity->session_token
                                   ? strlen(r->own.identity->session_token)
                                   : 0;
        const size_t n_key = strlen(r->own.identity->access_key);
        n_text += 2 * n_key + n_token;
        if (r->flags & S3_PRESIGN)
            n_path += 512 + 3 * (n_token + n_key);
    }
    for (uint32_t i = 0; i < r->n_headers; i++)
        n_text += 2 * r->headers[i].key.len + r->headers[i].value.len + 3;
    for (size_t i = 0; i < r->n_more; i++)
        n_text += 2 * r->more[i].key.len + r->more[i].value.len + 3;
    return (r->flags & S3_PRESIGN ? 3 : 2) * n_path + n_text;
}

static int32_t on_accept(void *ctx, const pst_http_head *head, pst_http_grant *grant);
static void on_done(void *ctx, pst_rc rc, const pst_http_reply *reply);

static pst_rc submit(struct attempt *a)
{
    struct s3_request *r = a->r;
    uint64_t id = 0;
    const pst_http_request request = {
        .struct_size = sizeof(request),
        .op = r->op,
        .ctx = r,
        .method = a->signing.method,
        .url = a->url,
        .headers = a->headers,
        .n_headers = a->n_headers,
        .body = r->body,
        .n_body = r->n_body,
        .body_max = r->body_max ? r->body_max : 64u << 10,
        .deadline_ns = r->op->deadline_ns,
        .not_before_ns = a->not_before_ns,
        .accept = on_accept,
        .done = on_done,
    };
    const pst_rc rc = r->store->http->send(r->store->client, &request, &id);
    if (rc != PST_PENDING)
        return fail(r, rc < 0 ? rc : (pst_rc)PST_E_INTERNAL, "the request cannot be sent");
    atomic_store(&r->own.http_id, id);
    if (atomic_load(&r->own.is_cancelled))
        r->store->http->cancel(r->store->client, id);
    return PST_PENDING;
}

static pst_rc make(struct attempt *a, char *text)
{
    struct s3_request *r = a->r;
    pst_kv params[S3_PARAMS_MAX + OWN_PARAMS];
    pst_rc rc = PST_OK;

    a->at = text;
    a->is_signed = r->own.identity != NULL;
    a->signing.identity = r->own.identity;
    a->signing.region = r->own.region;
    a->signing.service = "s3";
    a->signing.method = s3_str(r->method);
    a->signing.date = a->date;
    s3_sign_date((int64_t)(clock_ns(CLOCK_REALTIME) / 1000000000) +
                     atomic_load_explicit(&r->store->clock_skew_s, memory_order_relaxed),
                 a->date);
    memcpy(params, r->params, r->n_params * sizeof(params[0]));
    if (r->own.redirect.len > 0)
        rc = put_redirect(a);
    else
        put_url(a);
    if (rc == PST_OK && r->own.redirect.len == 0 && !(r->flags & S3_PRESIGN))
        put_query(a, params, r->n_params);
    if (rc == PST_OK && a->is_signed)
        rc = digest_payload(a);
    if (rc != PST_OK)
        return rc;
    put_headers(a);
    if (r->flags & S3_PRESIGN)
        return presign(a, params, r->n_params);
    if (a->is_signed)
        rc = sign(a);
    return rc == PST_OK ? submit(a) : rc;
}

/* Send with the identity there is. PENDING, for S3_PRESIGN OK, or an error in *err. */
static pst_rc start(struct s3_request *r)
{
    char text[TEXT_BYTES];
    pst_kv kvs[2 * KVS];
    const size_t n_kvs = r->n_headers + r->n_more + OWN_HEADERS, n_text = text_room(r);
    struct attempt a = {.r = r, .headers = kvs, .to_sign = kvs + KVS};
    char *memory = text;
    pst_rc rc;

    if (n_kvs > KVS) {
        a.headers = s3_alloc(r->op, 2 * n_kvs * sizeof(kvs[0]));
        a.to_sign = a.headers + n_kvs;
    }
    if (n_text > sizeof(text))
        memory = s3_alloc(r->op, n_text);
    if (!a.headers || !memory)
        return fail(r, PST_E_NO_MEMORY, "out of memory");
    a.not_before_ns = take_turn(r);
    r->own.endpoint = s3_endpoints_pick(r->store->endpoints, r->op);
    r->op->last_endpoint = r->own.endpoint;
    rc = make(&a, memory);
    if (rc != PST_PENDING)
        s3_endpoints_report(r->store->endpoints, r->own.endpoint, S3_UNDECIDED);
    return rc;
}

/* ---- credentials ------------------------------------------------------------------------------ */

static void drop_identity(struct s3_request *r)
{
    if (r->own.identity)
        s3_identity_unref(r->own.identity);
    r->own.identity = NULL;
}

static void take_identity(struct s3_request *r, struct s3_identity *identity)
{
    drop_identity(r);
    r->own.identity = identity;
    if (identity && !(identity->access_key && identity->access_key[0]))
        drop_identity(r); /* anonymous */
}

/* End a request that was PENDING. */
static void end(struct s3_request *r, pst_rc rc, const pst_http_reply *reply)
{
    drop_identity(r);
    r->done(r, rc, reply);
}

static void wait_sent(struct s3_request *r)
{
    while (atomic_load(&r->own.is_sending))
        sched_yield();
}

/* start(), by whoever has no submit to return to. */
static void go_on(struct s3_request *r)
{
    atomic_store(&r->own.is_sending, 1);
    const pst_rc rc = start(r);
    atomic_store(&r->own.is_sending, 0);
    if (rc != PST_PENDING)
        end(r, rc, NULL);
}

static void on_identity(struct s3_waiter *waiter, pst_rc rc, struct s3_identity *identity,
                        const pst_error *err)
{
    struct s3_request *r = waiter->ctx;

    wait_sent(r);
    atomic_store(&r->own.is_waiting, 0);
    if (rc != PST_OK) {
        r->err->code = rc;
        r->err->flags = err->flags;
        memcpy(r->err->message, err->message, sizeof(r->err->message));
        end(r, rc, NULL);
        return;
    }
    take_identity(r, identity);
    if (atomic_load(&r->own.is_cancelled))
        end(r, fail(r, PST_E_CANCELLED, "cancelled"), NULL);
    else
        go_on(r);
}

/* Get credentials and send. `refused`: 0, or the generation that the store calls expired. */
static pst_rc enter(struct s3_request *r, uint64_t refused)
{
    struct s3_identity *identity = NULL;
    pst_rc rc = PST_OK;

    atomic_store(&r->own.is_sending, 1);
    if (!r->store->config->is_anonymous) {
        memset(&r->own.waiter, 0, sizeof(r->own.waiter));
        r->own.waiter.fn = on_identity;
        r->own.waiter.ctx = r;
        atomic_store(&r->own.is_waiting, 1);
        rc = s3_creds_get(r->store->creds, r->op, refused, &r->own.waiter, &identity);
        if (rc == PST_PENDING) {
            if (atomic_load(&r->own.is_cancelled) &&
                s3_creds_leave(r->store->creds, &r->own.waiter)) {
                atomic_store(&r->own.is_waiting, 0);
                rc = fail(r, PST_E_CANCELLED, "cancelled");
            }
            atomic_store(&r->own.is_sending, 0);
            return rc;
        }
        atomic_store(&r->own.is_waiting, 0);
        take_identity(r, identity);
    }
    if (rc == PST_OK)
        rc = start(r);
    else if (!r->err->message[0])
        fail(r, rc, "no credentials");
    if (rc != PST_PENDING)
        drop_identity(r);
    atomic_store(&r->own.is_sending, 0);
    return rc;
}

pst_rc s3_request_send(struct s3_request *r)
{
    if (r->own.failed != PST_OK)
        return fail(r, r->own.failed,
                    r->own.failed == PST_E_NO_MEMORY ? "out of memory" : "too many headers");
    if (atomic_load(&r->own.is_cancelled))
        return fail(r, PST_E_CANCELLED, "cancelled");
    r->err->message[0] = '\0';
    return enter(r, 0);
}

void s3_request_cancel(struct s3_request *r)
{
    atomic_store(&r->own.is_cancelled, 1);
    if (atomic_load(&r->own.is_waiting) && s3_creds_leave(r->store->creds, &r->own.waiter)) {
        wait_sent(r);
        atomic_store(&r->own.is_waiting, 0);
        end(r, fail(r, PST_E_CANCELLED, "cancelled"), NULL);
        return;
    }
    const uint64_t id = atomic_load(&r->own.http_id);
    if (id != 0)
        r->store->http->cancel(r->store->client, id);
}

void s3_request_resume(struct s3_request *r)
{
    r->store->http->resume(r->store->client, atomic_load(&r->own.http_id));
}

/* ---- the reply -------------------------------------------------------------------------------- */

static int32_t on_accept(void *ctx, const pst_http_head *head, pst_http_grant *grant)
{
    struct s3_request *r = ctx;

    wait_sent(r); /* resume needs the id */
    if (atomic_load(&r->own.is_cancelled))
        return PST_E_CANCELLED;
    if (head->status < 200 || head->status > 299)
        return PST_HTTP_REJECT;
    if (!r->accept)
        return PST_HTTP_COLLECT;
    const int32_t answer = r->accept(r, head, grant);
    if (answer < 0)
        r->own.refused = answer;
    return answer;
}

static enum s3_outcome outcome_of(pst_rc rc, const pst_http_reply *reply)
{
    if (rc == PST_OK)
        return reply->status == 500 || (reply->status >= 502 && reply->status <= 504) ? S3_FAILED
                                                                                      : S3_ANSWERED;
    return rc == PST_E_UNAVAILABLE ? S3_FAILED : S3_UNDECIDED;
}

/* "...; expecting 'eu-west-1'" (AWS, MinIO), where the document has no <Region>. */
static pst_str region_in(const struct s3_problem *problem)
{
    const char *at = strstr(problem->message, "expecting ");

    at = at ? strpbrk(at, "'\"") : NULL;
    const char *end = at ? strchr(at + 1, *at) : NULL;
    return end ? pst_str_of(at + 1, (size_t)(end - at - 1)) : pst_str_of(NULL, 0);
}

static int is_region(pst_str region)
{
    for (size_t i = 0; i < region.len; i++) {
        const char c = region.ptr[i];
        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-'))
            return 0;
    }
    return region.len > 0 && region.len < 64;
}

/* The bucket is elsewhere: a redirect of AWS, or a signature for the wrong region. Replies to HEAD have
 * a header alone. */
static int correct_region(struct s3_request *r, const struct s3_problem *problem,
                          const pst_http_reply *reply)
{
    const int is_told = strcmp(problem->code, "AuthorizationHeaderMalformed") == 0 ||
                        strcmp(problem->code, "PermanentRedirect") == 0 ||
                        strcmp(problem->code, "IllegalLocationConstraintException") == 0 ||
                        reply->status == 301 ||
                        (problem->code[0] == '\0' &&
                         (reply->status == 400 || reply->status == 403));
    pst_str region = s3_header(reply->headers, reply->n_headers, "x-amz-bucket-region");
    char note[160];

    if (!is_told || (r->own.corrected & CORRECTED_REGION))
        return 0;
    if (region.len == 0)
        region = s3_str(problem->region);
    if (region.len == 0)
        region = region_in(problem);
    if (!is_region(region) || s3_str_is(region, r->own.region))
        return 0;
    snprintf(note, sizeof(note), "region %.*s as the store says, not %s", (int)region.len,
             region.ptr, r->own.region);
    pthread_mutex_lock(&r->store->mutex);
    const int is_news = !s3_str_is(region, r->store->locked.region);
    memcpy(r->store->locked.region, region.ptr, region.len);
    r->store->locked.region[region.len] = '\0';
    pthread_mutex_unlock(&r->store->mutex);
    if (is_news)
        s3_note(r->store, note);
    r->own.corrected |= CORRECTED_REGION;
    return 1;
}

/* AWS takes 15 minutes either way. */
static int correct_clock(struct s3_request *r, const struct s3_problem *problem,
                         const pst_http_reply *reply)
{
    const int64_t there = s3_parse_http_date(s3_header(reply->headers, reply->n_headers, "date"));
    const int64_t here = (int64_t)clock_ns(CLOCK_REALTIME);
    char note[96];

    if ((r->own.corrected & CORRECTED_CLOCK) || there == PST_TIME_UNKNOWN)
        return 0;
    const long long skew_s = (there - here) / 1000000000;
    const long long known_s = atomic_load(&r->store->clock_skew_s);
    const long long change_s = skew_s > known_s ? skew_s - known_s : known_s - skew_s;
    const int is_told = strcmp(problem->code, "RequestTimeTooSkewed") == 0 ||
                        (problem->code[0] == '\0' && reply->status == 403 && change_s > 600);
    if (!is_told || change_s < 2)
        return 0;
    atomic_store(&r->store->clock_skew_s, skew_s);
    snprintf(note, sizeof(note), "the store's clock is %lld s %s ours",
             skew_s < 0 ? -skew_s : skew_s, skew_s < 0 ? "behind" : "before");
    s3_note(r->store, note);
    r->own.corrected |= CORRECTED_CLOCK;
    return 1;
}

static int is_expired(const struct s3_request *r, const struct s3_problem *problem,
                      const pst_http_reply *reply)
{
    static const char *const codes[] = {"ExpiredToken", "ExpiredTokenException",
                                        "TokenRefreshRequired"};
    const struct s3_identity *identity = r->own.identity;

    if (!identity || (r->own.corrected & CORRECTED_TOKEN))
        return 0;
    for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
        if (strcmp(problem->code, codes[i]) == 0)
            return 1;
    }
    /* To HEAD the store says 400 or 403 and no more. */
    return problem->code[0] == '\0' && (reply->status == 400 || reply->status == 403) &&
           identity->expires_unix_ns != PST_TIME_UNKNOWN &&
           identity->expires_unix_ns <= (int64_t)clock_ns(CLOCK_REALTIME);
}

/* 307 and 308: the same request elsewhere. Credentials go along (they are part of what is asked), so
 * that "elsewhere" must be the same origin, AWS for AWS, or trusted by option; never http after https.
 * 1: own.redirect is set. 0: no redirect, or none to follow, in *err. */
static int follow_redirect(struct s3_request *r, const pst_http_reply *reply, pst_rc *rc)
{
    const pst_str location = s3_header(reply->headers, reply->n_headers, "location");
    const struct s3_url *server = s3_endpoint_url(r->store->endpoints, r->own.endpoint);
    struct s3_url to, from = *server;
    char *copy;

    *rc = PST_OK;
    if ((reply->status != 307 && reply->status != 308) || location.len == 0)
        return 0;
    if (r->own.redirect.len > 0)
        s3_url_parse(r->own.redirect, &from);
    if (r->own.corrected / REDIRECT_UNIT >= REDIRECTS_MAX) {
        *rc = s3_fail(r->err, PST_E_UNAVAILABLE, "%s: more than %d redirects in a row",
                      s3_endpoint_name(r->store->endpoints, r->own.endpoint), REDIRECTS_MAX);
        return 0;
    }
    if (!s3_url_parse(location, &to) || memchr(location.ptr, '#', location.len)) {
        *rc = s3_fail(r->err, PST_E_INVALID, "a redirect to something that is no URL of a store");
        return 0;
    }
    const int is_same = to.is_tls == from.is_tls && s3_str_eq(to.host, from.host);
    const int is_aws = s3_endpoints_are_aws(r->store->endpoints) && s3_url_is_aws(&to);
    if ((from.is_tls && !to.is_tls) ||
        (!is_same && !is_aws && !r->store->config->follow_redirects)) {
        *rc = s3_fail(r->err, PST_E_DENIED, "a redirect to %.*s was not followed: %s",
                      (int)to.origin.len, to.origin.ptr,
                      from.is_tls && !to.is_tls ? "it leads from https to http"
                                                : "it leads to another host, which the option "
                                                  "follow_redirects would allow");
        return 0;
    }
    copy = s3_alloc(r->op, location.len);
    if (!copy) {
        *rc = fail(r, PST_E_NO_MEMORY, "out of memory");
        return 0;
    }
    memcpy(copy, location.ptr, location.len);
    r->own.redirect = pst_str_of(copy, location.len);
    r->own.corrected += REDIRECT_UNIT;
    return 1;
}

/* Is the failure one that is put right here? 1: the request is under way again or has ended. */
static int correct(struct s3_request *r, const pst_http_reply *reply)
{
    struct s3_problem problem;
    pst_rc rc = PST_OK;

    s3_problem_read(reply, &problem);
    if (is_expired(r, &problem, reply)) {
        const uint64_t refused = r->own.identity->generation;
        r->own.corrected |= CORRECTED_TOKEN;
        drop_identity(r);
        rc = enter(r, refused);
        if (rc != PST_PENDING)
            end(r, rc, NULL);
        return 1;
    }
    if (correct_region(r, &problem, reply) || correct_clock(r, &problem, reply) ||
        follow_redirect(r, reply, &rc)) {
        go_on(r);
        return 1;
    }
    if (rc != PST_OK) {
        end(r, rc, reply);
        return 1;
    }
    return 0;
}

static void on_done(void *ctx, pst_rc rc, const pst_http_reply *reply)
{
    struct s3_request *r = ctx;

    wait_sent(r);
    s3_endpoints_report(r->store->endpoints, r->own.endpoint, outcome_of(rc, reply));
    if (rc == PST_OK && reply->status >= 200 && reply->status <= 299) {
        end(r, PST_OK, reply);
        return;
    }
    if (rc == PST_OK && reply->status > 0 && !atomic_load(&r->own.is_cancelled) &&
        correct(r, reply))
        return;
    if (rc == PST_OK || rc != r->own.refused) /* what accept refused it has explained */
        rc = s3_error_from_reply(r, rc, reply);
    end(r, rc, reply);
}
