/* attempt.c - one try of a request: endpoint, URL, headers, signature.
 *
 * http/1 copies what it is given, so that URL, canonical request and headers live on the stack (or, when
 * they are long, in memory of the operation) and nothing of them is left when they are sent. Everything
 * is written once, from front to back: the URL, of which path and query are signed as they stand, then
 * the canonical request, then what is made of it.
 *
 * A new try begins from nothing: another endpoint, another region, the time of now. */
#include "attempt.h"

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
    OWN_HEADERS = 8,  /* host, date, digest, token, authorization, payer, owner, one spare */
    OWN_PARAMS = 7,   /* of a presigned URL */
    ORIGIN_MAX = 640, /* bucket, host and scheme */
};

/* For a request that tidies up; and for all such of an operation that was cancelled or is too late, which
 * must end within half a second (PST_CAP_CANCEL_BOUNDED). */
#define TIDY_NS UINT64_C(10000000000)
#define TIDY_CANCELLED_NS UINT64_C(400000000)

uint64_t s3_clock_ns(clockid_t clock)
{
    struct timespec now;

    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

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

/* The region, and this request's turn where there is a limit on requests per second. */
static uint64_t take_turn(struct s3_request *r)
{
    pst_backend *store = r->store;
    const uint32_t limit = store->config->max_requests_per_second;
    uint64_t not_before_ns = 0;

    pthread_mutex_lock(&store->mutex);
    if (!(r->own.corrected & S3_CORRECTED_REGION))
        memcpy(r->own.region, store->locked.region, sizeof(r->own.region));
    if (limit > 0 && !(r->flags & S3_PRESIGN)) {
        const uint64_t now = s3_clock_ns(CLOCK_MONOTONIC);
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

/* Signed with a session of the bucket (cred_session.c), which no other bucket knows. */
static int is_express(const struct s3_request *r)
{
    return r->store->config->is_directory && s3_str_is(r->bucket, r->store->bucket);
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
        host = pst_str_of(aws, is_express(r) ? s3_express_host(r->bucket, r->own.region, aws)
                                             : s3_aws_host(r->own.region, aws));
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

/* "name=value" by name, then by value: '=' comes behind '-' and '.', which names may hold. */
static int compare_params(const void *one, const void *other)
{
    const pst_str *texts[2] = {one, other};
    pst_str names[2];

    for (int i = 0; i < 2; i++) {
        const char *eq = memchr(texts[i]->ptr, '=', texts[i]->len);
        names[i] = pst_str_of(texts[i]->ptr, eq ? (size_t)(eq - texts[i]->ptr) : texts[i]->len);
    }
    const int order = compare_text(&names[0], &names[1]);
    return order ? order : compare_text(one, other);
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
            return s3_fail(a->r->err, PST_E_INVALID, "a redirect names more than 64 parameters");
        if (len > 0)
            parts[n++] = pst_str_of(query.ptr, len);
        query = pst_str_of(query.ptr + len + (amp != NULL), query.len - len - (amp != NULL));
    }
    qsort(parts, n, sizeof(parts[0]), compare_params);
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
    s3_url_drop_default_port(&url);
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
            return s3_fail(a->r->err, rc, "the digest of the body cannot be computed");
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
        add_header(
            a, is_express(r) ? PST_STR("x-amz-s3session-token") : PST_STR("x-amz-security-token"),
            s3_str(r->own.identity->session_token));
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
        return s3_fail(a->r->err, rc, "the request cannot be signed");
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
            params[n++] = (pst_kv){is_express(r) ? PST_STR("X-Amz-S3session-Token")
                                                 : PST_STR("X-Amz-Security-Token"),
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
            return s3_fail(r->err, rc, "the URL cannot be signed");
        a->at = s3_write(a->at, PST_STR("&X-Amz-Signature="));
        a->at = s3_write(a->at, pst_str_of(signature, sizeof(signature)));
    }
    char *copy = s3_alloc(r->op, (size_t)(a->at - begin) + 1);
    if (!copy)
        return s3_fail(r->err, PST_E_NO_MEMORY, "out of memory");
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

/* The operation's own may be why there is something to tidy up. */
static uint64_t tidy_deadline(const struct s3_request *r)
{
    struct s3_call *call = s3_call_of(r->op);
    const uint64_t now = s3_clock_ns(CLOCK_MONOTONIC);
    uint64_t none = 0;

    if (!atomic_load(&call->request.own.is_cancelled))
        return now + TIDY_NS;
    atomic_compare_exchange_strong(&call->tidy_until_ns, &none, now + TIDY_CANCELLED_NS);
    return atomic_load(&call->tidy_until_ns);
}

static pst_rc submit(struct attempt *a)
{
    struct s3_request *r = a->r;
    uint64_t id = 0;
    const pst_http_request request = {
        .struct_size = sizeof(request),
        /* A kept connection that turns out to be closed makes http/1 send again, which here would meet
         * the work of the first with 412 or 404. */
        .flags = r->flags & (S3_IS_CONDITIONAL | S3_ONCE) ? PST_HTTP_NO_REUSE : 0,
        .op = r->op,
        .ctx = r,
        .method = a->signing.method,
        .url = a->url,
        .headers = a->headers,
        .n_headers = a->n_headers,
        .body = r->body,
        .n_body = r->n_body,
        .body_max = r->body_max ? r->body_max : 64u << 10,
        .deadline_ns = atomic_load(&r->own.is_tidying) ? tidy_deadline(r) : r->op->deadline_ns,
        .not_before_ns = a->not_before_ns,
        .accept = s3_request_on_accept,
        .done = s3_request_on_done,
    };
    const pst_rc rc = r->store->http->send(r->store->client, &request, &id);
    if (rc != PST_PENDING)
        return s3_fail(r->err, rc < 0 ? rc : (pst_rc)PST_E_INTERNAL, "the request cannot be sent");
    atomic_store(&r->own.http_id, id);
    if (s3_request_is_cancelled(r))
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
    a->signing.service = is_express(r) ? "s3express" : "s3";
    a->signing.method = s3_str(r->method);
    a->signing.date = a->date;
    r->own.clock_skew_s = atomic_load_explicit(&r->store->clock_skew_s, memory_order_relaxed);
    s3_sign_date((int64_t)(s3_clock_ns(CLOCK_REALTIME) / 1000000000) + r->own.clock_skew_s,
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

/* Another server than the one that the operation's attempt before this one ended with. That is noted by
 * the first of its requests, which then tells the host the new one; some run side by side. */
static void pick_endpoint(struct s3_request *r)
{
    struct s3_call *call = s3_call_of(r->op);
    uint32_t *last = &r->op->last_endpoint, avoided = S3_AVOID_NONE;
    unsigned none = 0;

    if (r->op->attempt > 1) {
        const unsigned before = __atomic_load_n(last, __ATOMIC_RELAXED) + 1;
        avoided = atomic_compare_exchange_strong(&call->avoided, &none, before) ? before - 1
                                                                                : none - 1;
    }
    r->own.endpoint = s3_endpoints_pick(r->store->endpoints, r->op->affinity, avoided);
    __atomic_store_n(last, r->own.endpoint, __ATOMIC_RELAXED);
}

pst_rc s3_attempt(struct s3_request *r)
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
        return s3_fail(r->err, PST_E_NO_MEMORY, "out of memory");
    a.not_before_ns = take_turn(r);
    pick_endpoint(r);
    rc = make(&a, memory);
    if (rc != PST_PENDING)
        s3_endpoints_report(r->store->endpoints, r->own.endpoint, S3_UNDECIDED);
    return rc;
}
