/* correct.c - what a reply says that is ours to put right, once each, because the host cannot: the region
 * that the store names, the clock it shows, a token it calls expired, a redirect that may be followed.
 * Everything else that is worth repeating is repeated by the host, with its pauses and budget.
 *
 * Replies to HEAD have no body, hence no code: region and time are taken from their headers, and a token
 * is renewed when its own time is over. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "attempt.h"
#include "config.h"
#include "endpoint.h"
#include "error.h"
#include "s3.h"
#include "text.h"
#include "url.h"

enum { REDIRECTS_MAX = 3 };

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

/* Sign for `region` from now on: this request, and the others where it is about the store's own bucket.
 * The source of a copy may be elsewhere, and says nothing about ours. */
static void move_to(struct s3_request *r, pst_str region)
{
    pst_backend *store = r->store;
    char note[160];
    int is_news = 0;

    snprintf(note, sizeof(note), "region %.*s as the store says, not %s", (int)region.len,
             region.ptr, r->own.region);
    memcpy(r->own.region, region.ptr, region.len);
    r->own.region[region.len] = '\0';
    r->own.corrected |= S3_CORRECTED_REGION;
    if (!s3_str_is(r->bucket, store->bucket))
        return;
    pthread_mutex_lock(&store->mutex);
    is_news = strcmp(store->locked.region, r->own.region) != 0;
    memcpy(store->locked.region, r->own.region, sizeof(store->locked.region));
    pthread_mutex_unlock(&store->mutex);
    if (is_news)
        s3_note(store, note);
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

    if (!is_told || (r->own.corrected & S3_CORRECTED_REGION))
        return 0;
    if (region.len == 0)
        region = s3_str(problem->region);
    if (region.len == 0)
        region = region_in(problem);
    if (!is_region(region) || s3_str_is(region, r->own.region))
        return 0;
    move_to(r, region);
    return 1;
}

/* AWS takes 15 minutes either way. What counts is the clock that this request was signed by: another one
 * may have corrected the store's meanwhile. */
static int correct_clock(struct s3_request *r, const struct s3_problem *problem,
                         const pst_http_reply *reply)
{
    const int64_t there = s3_parse_http_date(s3_header(reply->headers, reply->n_headers, "date"));
    const int64_t here = (int64_t)s3_clock_ns(CLOCK_REALTIME);
    char note[96];

    if ((r->own.corrected & S3_CORRECTED_CLOCK) || there == PST_TIME_UNKNOWN)
        return 0;
    const long long skew_s = (there - here) / 1000000000;
    const long long change_s = llabs(skew_s - r->own.clock_skew_s);
    const int is_told = strcmp(problem->code, "RequestTimeTooSkewed") == 0 ||
                        (problem->code[0] == '\0' && reply->status == 403 && change_s > 600);
    if (!is_told || change_s < 2)
        return 0;
    r->own.corrected |= S3_CORRECTED_CLOCK;
    if (llabs(skew_s - atomic_exchange(&r->store->clock_skew_s, skew_s)) < 2)
        return 1; /* it was noted */
    snprintf(note, sizeof(note), "the store's clock is %lld s %s ours", llabs(skew_s),
             skew_s < 0 ? "behind" : "before");
    s3_note(r->store, note);
    return 1;
}

static int is_expired(const struct s3_request *r, const struct s3_problem *problem,
                      const pst_http_reply *reply)
{
    static const char *const codes[] = {"ExpiredToken", "ExpiredTokenException",
                                        "TokenRefreshRequired"};
    const struct s3_identity *identity = r->own.identity;

    if (!identity || (r->own.corrected & S3_CORRECTED_TOKEN))
        return 0;
    for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
        if (strcmp(problem->code, codes[i]) == 0)
            return 1;
    }
    /* To HEAD the store says 400 or 403 and no more. */
    return problem->code[0] == '\0' && (reply->status == 400 || reply->status == 403) &&
           identity->expires_unix_ns != PST_TIME_UNKNOWN &&
           identity->expires_unix_ns <= (int64_t)s3_clock_ns(CLOCK_REALTIME);
}

/* Is it the server's, with or without the bucket before it (virtual addressing)? */
static int is_host_of(const struct s3_request *r, pst_str host, pst_str server)
{
    const size_t n = r->bucket.len;

    if (s3_str_eq(host, server))
        return 1;
    return n > 0 && host.len == n + 1 + server.len && memcmp(host.ptr, r->bucket.ptr, n) == 0 &&
           host.ptr[n] == '.' && memcmp(host.ptr + n + 1, server.ptr, server.len) == 0;
}

/* 307 and 308: the same request elsewhere. Credentials go along (they are part of what is asked), so
 * that "elsewhere" must be the same origin, AWS for AWS, or trusted by option; never http after https. */
static enum s3_correction follow_redirect(struct s3_request *r, const pst_http_reply *reply)
{
    const pst_str location = s3_header(reply->headers, reply->n_headers, "location");
    const struct s3_url *server = s3_endpoint_url(r->store->endpoints, r->own.endpoint);
    struct s3_url to, from = *server;
    char *copy;

    if ((reply->status != 307 && reply->status != 308) || location.len == 0)
        return S3_CORRECT_NOTHING;
    if (r->own.redirect.len > 0) {
        s3_url_parse(r->own.redirect, &from);
        s3_url_drop_default_port(&from);
    }
    if (r->own.corrected / S3_REDIRECT_UNIT >= REDIRECTS_MAX) {
        s3_fail(r->err, PST_E_UNAVAILABLE, "%s: more than %d redirects in a row",
                s3_endpoint_name(r->store->endpoints, r->own.endpoint), REDIRECTS_MAX);
        return S3_CORRECT_REFUSED;
    }
    if (!s3_url_parse(location, &to) || memchr(location.ptr, '#', location.len)) {
        s3_fail(r->err, PST_E_INVALID, "a redirect to something that is no URL of a store");
        return S3_CORRECT_REFUSED;
    }
    s3_url_drop_default_port(&to);
    const int is_same = to.is_tls == from.is_tls &&
                        (s3_str_eq(to.host, from.host) || is_host_of(r, to.host, server->host));
    const int is_aws = s3_endpoints_are_aws(r->store->endpoints) && s3_url_is_aws(&to);
    if ((from.is_tls && !to.is_tls) ||
        (!is_same && !is_aws && !r->store->config->follow_redirects)) {
        s3_fail(r->err, PST_E_DENIED, "a redirect to %.*s was not followed: %s", (int)to.origin.len,
                to.origin.ptr,
                from.is_tls && !to.is_tls ? "it leads from https to http"
                                          : "it leads to another host, which the option "
                                            "follow_redirects would allow");
        return S3_CORRECT_REFUSED;
    }
    copy = s3_alloc(r->op, location.len);
    if (!copy) {
        s3_fail(r->err, PST_E_NO_MEMORY, "out of memory");
        return S3_CORRECT_REFUSED;
    }
    memcpy(copy, location.ptr, location.len);
    r->own.redirect = pst_str_of(copy, location.len);
    r->own.corrected += S3_REDIRECT_UNIT;
    return S3_CORRECT_SEND;
}

enum s3_correction s3_correct(struct s3_request *r, const pst_http_reply *reply)
{
    struct s3_problem problem;

    s3_problem_read(reply, &problem);
    if (is_expired(r, &problem, reply)) {
        r->own.corrected |= S3_CORRECTED_TOKEN;
        return S3_CORRECT_TOKEN;
    }
    if (correct_region(r, &problem, reply) || correct_clock(r, &problem, reply))
        return S3_CORRECT_SEND;
    return follow_redirect(r, reply);
}
