/* error.c - what a reply that is no success means.
 *
 * The provider's code decides first, because stores use statuses loosely: RequestTimeout is a 400 that
 * is worth repeating, SlowDown a 503 that asks for patience, ExpiredToken a 400 about who we are. The
 * status decides where there is no code: replies to HEAD have no body, proxies send HTML.
 *
 * What a request of ours that changes the store may have done although it failed is said by
 * MAYBE_APPLIED: always when the whole request may have been sent and no reply came; of replies,
 * when they come from something before the store (502, 504, a 503 or 500 without a code of S3's) or
 * from a store that does not know itself (InternalError).
 *
 * Messages are one line: what the store says, code, status, request id, endpoint; for refused
 * credentials also where those came from. Nothing of the request's headers is in them. */
#include "error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "endpoint.h"
#include "s3.h"
#include "text.h"
#include "url.h"
#include "xml.h"

#define IS_OPEN 256u  /* of a row: its outcome is open, the store may have done it */
#define IS_LOGIN 512u /* of a row: about credentials; say which */

static const struct meaning {
    const char *code;
    int32_t rc;
    uint32_t flags;
} meanings[] = {
    {"NoSuchKey", PST_E_NOT_FOUND, 0},
    {"NoSuchBucket", PST_E_NOT_FOUND, PST_ERR_NO_CONTAINER},
    {"NoSuchVersion", PST_E_NOT_FOUND, 0},
    {"NoSuchUpload", PST_E_NOT_FOUND, 0},
    {"NoSuchTagSet", PST_E_NOT_FOUND, 0},
    {"NotFound", PST_E_NOT_FOUND, 0},

    {"AccessDenied", PST_E_DENIED, IS_LOGIN},
    {"AllAccessDisabled", PST_E_DENIED, 0},
    {"AccountProblem", PST_E_DENIED, 0},
    {"InvalidPayer", PST_E_DENIED, 0},

    {"InvalidAccessKeyId", PST_E_UNAUTHENTICATED, IS_LOGIN},
    {"SignatureDoesNotMatch", PST_E_UNAUTHENTICATED, IS_LOGIN},
    {"ExpiredToken", PST_E_UNAUTHENTICATED, IS_LOGIN},
    {"ExpiredTokenException", PST_E_UNAUTHENTICATED, IS_LOGIN},
    {"TokenRefreshRequired", PST_E_UNAUTHENTICATED, IS_LOGIN},
    {"InvalidToken", PST_E_UNAUTHENTICATED, IS_LOGIN},
    {"InvalidClientTokenId", PST_E_UNAUTHENTICATED, IS_LOGIN},
    {"InvalidSecurity", PST_E_UNAUTHENTICATED, IS_LOGIN},
    {"MissingSecurityHeader", PST_E_UNAUTHENTICATED, IS_LOGIN},
    {"NotSignedUp", PST_E_UNAUTHENTICATED, IS_LOGIN},
    {"RequestTimeTooSkewed", PST_E_UNAUTHENTICATED, 0},
    {"RequestExpired", PST_E_UNAUTHENTICATED, 0},
    {"AuthorizationHeaderMalformed", PST_E_UNAUTHENTICATED, IS_LOGIN},
    {"AuthorizationQueryParametersError", PST_E_UNAUTHENTICATED, IS_LOGIN},

    {"SlowDown", PST_E_THROTTLED, PST_ERR_RETRYABLE},
    {"SlowDownRead", PST_E_THROTTLED, PST_ERR_RETRYABLE},
    {"SlowDownWrite", PST_E_THROTTLED, PST_ERR_RETRYABLE},
    {"Throttling", PST_E_THROTTLED, PST_ERR_RETRYABLE},
    {"ThrottlingException", PST_E_THROTTLED, PST_ERR_RETRYABLE},
    {"TooManyRequests", PST_E_THROTTLED, PST_ERR_RETRYABLE},
    {"TooManyRequestsException", PST_E_THROTTLED, PST_ERR_RETRYABLE},
    {"RequestLimitExceeded", PST_E_THROTTLED, PST_ERR_RETRYABLE},
    {"BandwidthLimitExceeded", PST_E_THROTTLED, PST_ERR_RETRYABLE},

    {"InternalError", PST_E_UNAVAILABLE, PST_ERR_RETRYABLE | IS_OPEN},
    {"InternalFailure", PST_E_UNAVAILABLE, PST_ERR_RETRYABLE | IS_OPEN},
    {"ServiceUnavailable", PST_E_UNAVAILABLE, PST_ERR_RETRYABLE},
    {"RequestTimeout", PST_E_UNAVAILABLE, PST_ERR_RETRYABLE},
    {"IncompleteBody", PST_E_UNAVAILABLE, PST_ERR_RETRYABLE},
    {"OperationAborted", PST_E_UNAVAILABLE, PST_ERR_RETRYABLE},
    {"ConditionalRequestConflict", PST_E_UNAVAILABLE, PST_ERR_RETRYABLE},

    {"PreconditionFailed", PST_E_PRECONDITION, 0},
    {"NotModified", PST_E_PRECONDITION, 0},
    {"BucketNotEmpty", PST_E_PRECONDITION, 0},
    {"InvalidBucketState", PST_E_PRECONDITION, 0},
    {"InvalidObjectState", PST_E_PRECONDITION, 0},
    {"BucketAlreadyExists", PST_E_EXISTS, 0},
    {"BucketAlreadyOwnedByYou", PST_E_EXISTS, 0},
    {"InvalidRange", PST_E_RANGE, 0},

    /* What was sent is not what arrived: sending it again may help. */
    {"BadDigest", PST_E_DATA_LOSS, PST_ERR_RETRYABLE},
    {"XAmzContentSHA256Mismatch", PST_E_DATA_LOSS, PST_ERR_RETRYABLE},
    {"XAmzContentChecksumMismatch", PST_E_DATA_LOSS, PST_ERR_RETRYABLE},
    {"InvalidPart", PST_E_DATA_LOSS, 0},
    {"InvalidPartOrder", PST_E_DATA_LOSS, 0},

    {"QuotaExceeded", PST_E_NO_SPACE, 0},
    {"InsufficientCapacity", PST_E_NO_SPACE, 0},
    {"XMinioStorageFull", PST_E_NO_SPACE, 0},
    {"XMinioAdminBucketQuotaExceeded", PST_E_NO_SPACE, 0},

    {"EntityTooLarge", PST_E_INVALID, 0},
    {"EntityTooSmall", PST_E_INVALID, 0},
    {"NotImplemented", PST_E_UNIMPLEMENTED, 0},
    {"MethodNotAllowed", PST_E_UNIMPLEMENTED, 0},
};

static struct meaning meaning_of_status(uint32_t status)
{
    const struct {
        uint32_t status;
        int32_t rc;
        uint32_t flags;
    } rows[] = {
        {304, PST_E_PRECONDITION, 0},
        {401, PST_E_UNAUTHENTICATED, IS_LOGIN},
        {403, PST_E_DENIED, IS_LOGIN},
        {404, PST_E_NOT_FOUND, 0},
        {405, PST_E_UNIMPLEMENTED, 0},
        {408, PST_E_UNAVAILABLE, PST_ERR_RETRYABLE},
        {409, PST_E_PRECONDITION, 0},
        {410, PST_E_NOT_FOUND, 0},
        {412, PST_E_PRECONDITION, 0},
        {416, PST_E_RANGE, 0},
        {429, PST_E_THROTTLED, PST_ERR_RETRYABLE},
        {501, PST_E_UNIMPLEMENTED, 0},
        {507, PST_E_NO_SPACE, 0},
        {509, PST_E_THROTTLED, PST_ERR_RETRYABLE},
    };
    struct meaning meaning = {"", PST_E_INVALID, 0};

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (rows[i].status == status) {
            meaning.rc = rows[i].rc;
            meaning.flags = rows[i].flags;
            return meaning;
        }
    }
    if (status >= 500) {
        meaning.rc = PST_E_UNAVAILABLE;
        meaning.flags = PST_ERR_RETRYABLE | IS_OPEN;
    }
    return meaning;
}

static struct meaning meaning_of(const char *code, uint32_t status)
{
    for (size_t i = 0; code[0] && i < sizeof(meanings) / sizeof(meanings[0]); i++) {
        if (strcmp(meanings[i].code, code) == 0)
            return meanings[i];
    }
    struct meaning meaning = meaning_of_status(status);
    if (code[0] && status == 503) /* said by the store itself: it did not begin */
        meaning.flags &= ~IS_OPEN;
    return meaning;
}

/* ---- error documents -------------------------------------------------------------------------- */

/* One line of text: of a store's message only what can be shown. */
static void keep(char *out, size_t capacity, pst_str text)
{
    size_t n = text.len < capacity - 1 ? text.len : capacity - 1;

    n = s3_utf8_len(pst_str_of(text.ptr, n));
    for (size_t i = 0; i < n; i++)
        out[i] = (unsigned char)text.ptr[i] < ' ' || text.ptr[i] == 0x7f ? ' ' : text.ptr[i];
    out[n] = '\0';
}

static int32_t on_element(void *ctx, const char *path, pst_str text)
{
    struct s3_problem *out = ctx;
    const char *leaf = strrchr(path, '/');
    /* "Error/Code"; of STS and some others "ErrorResponse/Error/Code". */
    if (!leaf || (strncmp(path, "Error/", 6) != 0 && strncmp(path, "ErrorResponse/", 14) != 0))
        return PST_OK;
    leaf++;
    if (strcmp(leaf, "Code") == 0)
        keep(out->code, sizeof(out->code), text);
    else if (strcmp(leaf, "Message") == 0)
        keep(out->message, sizeof(out->message), text);
    else if (strcmp(leaf, "RequestId") == 0)
        keep(out->request_id, sizeof(out->request_id), text);
    else if (strcmp(leaf, "Region") == 0)
        keep(out->region, sizeof(out->region), text);
    else if (strcmp(leaf, "Key") == 0)
        keep(out->key, sizeof(out->key), text);
    return PST_OK;
}

int s3_problem_parse(pst_str body, struct s3_problem *out)
{
    const struct s3_xml handler = {.end = on_element, .ctx = out};

    memset(out, 0, sizeof(*out));
    if (body.len == 0 || !memchr(body.ptr, '<', body.len))
        return 0;
    /* A document that was cut says its code before it ends. */
    (void)s3_xml_parse(body, &handler);
    return out->code[0] != '\0';
}

void s3_problem_read(const pst_http_reply *reply, struct s3_problem *out)
{
    if (s3_problem_parse(reply->body, out) || reply->body.len > 0)
        return;
    keep(out->code, sizeof(out->code),
         s3_header(reply->headers, reply->n_headers, "x-minio-error-code"));
    keep(out->message, sizeof(out->message),
         s3_header(reply->headers, reply->n_headers, "x-minio-error-desc"));
}

/* ---- errors ----------------------------------------------------------------------------------- */

pst_rc s3_fail(pst_error *err, pst_rc code, const char *format, ...)
{
    va_list args;

    err->code = code;
    err->flags = 0;
    err->retry_after_ms = 0;
    err->http_status = 0;
    err->provider_code[0] = err->request_id[0] = err->endpoint[0] = '\0';
    va_start(args, format);
    vsnprintf(err->message, sizeof(err->message), format, args);
    va_end(args);
    return code;
}

static int is_create_only(const struct s3_request *r)
{
    return s3_header(r->headers, r->n_headers, "if-none-match").len > 0;
}

/* Seconds, or a date (RFC 9110, 10.2.3). */
static uint32_t retry_after_ms(const pst_http_reply *reply)
{
    const pst_str value = s3_header(reply->headers, reply->n_headers, "retry-after");
    const pst_str date = s3_header(reply->headers, reply->n_headers, "date");
    uint64_t s = 0;

    if (!s3_parse_u64(value, &s)) {
        const int64_t then = s3_parse_http_date(value), now = s3_parse_http_date(date);
        if (then == PST_TIME_UNKNOWN || now == PST_TIME_UNKNOWN || then <= now)
            return 0;
        s = (uint64_t)(then - now) / 1000000000;
    }
    return s > UINT32_MAX / 1000 ? UINT32_MAX : (uint32_t)(s * 1000);
}

__attribute__((format(printf, 4, 5))) static void append(char *out, size_t capacity, size_t *n,
                                                         const char *format, ...)
{
    va_list args;

    va_start(args, format);
    const int len = vsnprintf(out + *n, capacity - *n, format, args);
    va_end(args);
    if (len > 0)
        *n += (size_t)len < capacity - *n ? (size_t)len : capacity - *n - 1;
}

static pst_rc fill(struct s3_request *r, const struct s3_problem *problem,
                   const pst_http_reply *reply)
{
    pst_error *err = r->err;
    struct meaning meaning = meaning_of(problem->code, reply->status);
    const char *endpoint = s3_endpoint_name(r->store->endpoints, r->own.endpoint);
    const struct s3_identity *identity = r->own.identity;
    size_t n = 0;

    if (meaning.rc == PST_E_PRECONDITION && is_create_only(r) &&
        (reply->status == 412 || strcmp(problem->code, "PreconditionFailed") == 0))
        meaning.rc = PST_E_EXISTS;
    if (reply->status == 404 && r->key.len == 0)
        meaning.flags |= PST_ERR_NO_CONTAINER;
    if (s3_str_is(s3_header(reply->headers, reply->n_headers, "x-amz-delete-marker"), "true"))
        meaning.rc = PST_E_NOT_FOUND;
    err->code = meaning.rc;
    err->flags = meaning.flags & (PST_ERR_RETRYABLE | PST_ERR_NO_CONTAINER);
    if ((meaning.flags & IS_OPEN) && (r->flags & S3_CHANGES))
        err->flags |= PST_ERR_MAYBE_APPLIED;
    err->retry_after_ms = retry_after_ms(reply);
    err->http_status = (int32_t)reply->status;
    keep(err->provider_code, sizeof(err->provider_code), s3_str(problem->code));
    keep(err->request_id, sizeof(err->request_id), s3_str(problem->request_id));
    if (!err->request_id[0])
        keep(err->request_id, sizeof(err->request_id),
             s3_header(reply->headers, reply->n_headers, "x-amz-request-id"));
    keep(err->endpoint, sizeof(err->endpoint), s3_str(endpoint));

    const size_t size = sizeof(err->message);
    if (strcmp(problem->code, "InvalidObjectState") == 0)
        append(err->message, size, &n, "the object is archived, restore it first: ");
    if (problem->code[0])
        append(err->message, size, &n, "%s: ", problem->code);
    append(err->message, size, &n, "%s (HTTP %u",
           problem->message[0]             ? problem->message
           : meaning.rc == PST_E_NOT_FOUND ? "not found"
           : meaning.rc == PST_E_DENIED    ? "access denied"
                                           : "the store refused the request",
           reply->status);
    if (err->request_id[0])
        append(err->message, size, &n, ", request %s", err->request_id);
    append(err->message, size, &n, ", %s", endpoint);
    if ((meaning.flags & IS_LOGIN) && identity)
        append(err->message, size, &n, ", credentials from %s", identity->source);
    else if (meaning.flags & IS_LOGIN)
        append(err->message, size, &n, ", without credentials");
    append(err->message, size, &n, ")");
    return meaning.rc;
}

static pst_rc fill_transport(struct s3_request *r, pst_rc rc, const pst_http_reply *reply)
{
    pst_error *err = r->err;
    const char *endpoint = s3_endpoint_name(r->store->endpoints, r->own.endpoint);

    if (rc == PST_E_CANCELLED)
        s3_fail(err, rc, "cancelled");
    else if (reply && reply->message && reply->message[0])
        s3_fail(err, rc, "%s", reply->message); /* names host, port and what failed */
    else
        s3_fail(err, rc, "%s: no reply", endpoint);
    if (rc == PST_E_UNAVAILABLE && !(reply && (reply->flags & PST_HTTP_UNTRUSTED)))
        err->flags |= PST_ERR_RETRYABLE;
    if ((r->flags & S3_CHANGES) && reply && (reply->flags & PST_HTTP_MAY_BE_SENT))
        err->flags |= PST_ERR_MAYBE_APPLIED;
    keep(err->endpoint, sizeof(err->endpoint), s3_str(endpoint));
    return rc;
}

pst_rc s3_error_from_reply(struct s3_request *r, pst_rc transport, const pst_http_reply *reply)
{
    struct s3_problem problem;

    if (transport != PST_OK || !reply || reply->status == 0)
        return fill_transport(r, transport != PST_OK ? transport : (pst_rc)PST_E_UNAVAILABLE,
                              reply);
    s3_problem_read(reply, &problem);
    return fill(r, &problem, reply);
}

pst_rc s3_error_from_document(struct s3_request *r, const struct s3_problem *problem,
                              const pst_http_reply *reply)
{
    pst_http_reply unspoken = *reply;

    /* The status was sent before the store knew: a code that is not in the table is taken as a 500. */
    unspoken.status = 500;
    const pst_rc rc = fill(r, problem, &unspoken);
    r->err->http_status = (int32_t)reply->status;
    return rc;
}

pst_rc s3_document_read(struct s3_request *r, const pst_http_reply *reply,
                        const struct s3_xml *handler)
{
    struct s3_problem problem;
    pst_rc rc = s3_xml_parse(reply->body, handler);

    if (rc == PST_OK)
        return rc;
    if (rc != PST_E_DATA_LOSS)
        return s3_fail(r->err, rc, "%s",
                       rc == PST_E_NO_MEMORY ? "out of memory" : "the reply cannot be read");
    if (s3_problem_parse(reply->body, &problem))
        return s3_error_from_document(r, &problem, reply);
    (void)s3_fail(r->err, rc, "the reply is no well-formed %s", handler->root);
    r->err->flags |= PST_ERR_RETRYABLE;
    if (r->flags & S3_CHANGES)
        r->err->flags |= PST_ERR_MAYBE_APPLIED;
    return rc;
}
