/* read.c - the exact bytes that were asked for, or an error.
 *
 * One GET with a Range. The head of the reply tells what is coming: Content-Range how large the object
 * is and which bytes these are, and only then is memory asked for, so a first read of unknown size
 * needs no HEAD before it. The body goes straight into that memory. When there is none yet the transfer
 * pauses, and the same question is asked again after dst_ready.
 *
 * What may come instead of a 206 with the right range:
 *
 *     416        nothing lies there: OK with no bytes, if the object's size agrees; the empty object too.
 *                One HEAD asks for the etag, which few stores put into a 416
 *     200        the whole object. Wanted when sums are (a ranged reply carries none); else the store
 *                ignores ranges, or the range was all of it. Taken when the read begins at 0: as much as
 *                was asked for, then the transfer is ended. Else an error: no bytes are guessed.
 *     no length  chunked replies are received as long as they last, memory is asked for in steps. One
 *                that lasts until the connection closes is refused: it may have been cut anywhere
 *     others     a range that is not the one asked for, or contradicts the length: DATA_LOSS
 *
 * A reply that is cut fails with what http/1 says, and the host asks again. Checksums are reported only
 * of a reply that holds the object's beginning as a whole-object reply: stores exist that send the
 * object's checksum with a range of it. */
#include <inttypes.h>
#include <string.h>

#include "attr.h"
#include "error.h"
#include "ops.h"
#include "text.h"

#define OFFSET_MAX (UINT64_C(1) << 60) /* beyond any object; some stores count in signed 64 bits */

/* After PST_LATER the operation must not end before dst_ready, whatever becomes of the transfer. */
enum { NOT_PARKED, PARKED, ENDED_WHILE_PARKED };

struct read {
    uint64_t expected;  /* bytes of the body, PST_UNKNOWN: as many as come */
    uint64_t wanted;    /* of them */
    uint64_t granted;   /* so far */
    uint32_t has_head;  /* the reply was understood, only memory is missing */
    uint32_t is_whole;  /* a 200 */
    uint32_t is_enough; /* more would come, and is not wanted */
    pst_rc rc;          /* with which it ended while parked */
    atomic_int parking; /* NOT_PARKED ... */
    struct s3_sums sums;
};

/* "bytes 0-9/100": *size PST_UNKNOWN for "*". Returns 0 when it is none. */
static int parse_range(pst_str text, uint64_t *first, uint64_t *last, uint64_t *size)
{
    static const pst_str unit = {"bytes ", 6};
    if (!s3_starts_with(text, unit))
        return 0;
    const char *at = text.ptr + unit.len, *end = text.ptr + text.len;
    const char *slash = memchr(at, '/', (size_t)(end - at));
    if (!slash)
        return 0;
    pst_str total = pst_str_of(slash + 1, (size_t)(end - slash - 1));
    *size = PST_UNKNOWN;
    if (!s3_str_is(total, "*") && !s3_parse_u64(total, size))
        return 0;
    if (slash - at == 1 && *at == '*') { /* of a 416 */
        *first = *last = PST_UNKNOWN;
        return 1;
    }
    const char *dash = memchr(at, '-', (size_t)(slash - at));
    return dash && s3_parse_u64(pst_str_of(at, (size_t)(dash - at)), first) &&
           s3_parse_u64(pst_str_of(dash + 1, (size_t)(slash - dash - 1)), last);
}

/* Did the caller bring memory? */
static int has_dst(const pst_read_args *args)
{
    return PST_HAS(pst_read_args, args, n_dst) && args->n_dst > 0;
}

static pst_rc lost(struct s3_request *request, const char *why, pst_str value)
{
    return s3_fail(request->err, PST_E_DATA_LOSS, "%s: '%.*s'", why,
                   (int)(value.len < 100 ? value.len : 100), value.ptr ? value.ptr : "");
}

/* Is this the range that was asked for, cut short only by the object's end? */
static pst_rc check_partial(struct s3_request *request, const pst_http_head *head, struct read *r)
{
    struct s3_call *call = s3_call_of(request->op);
    const pst_read_args *args = call->args;
    pst_read_result *result = call->result;
    pst_str text = s3_header(head->headers, head->n_headers, "content-range");
    uint64_t first = 0, last = 0, size = PST_UNKNOWN;
    if (text.len == 0)
        return lost(request, "a partial reply without Content-Range", text);
    if (!parse_range(text, &first, &last, &size) || first > last || last >= size)
        return lost(request, "a reply with a malformed Content-Range", text);
    uint64_t length = last - first + 1;
    int is_suffix = (args->flags & PST_READ_SUFFIX) != 0;
    if (is_suffix ? size != PST_UNKNOWN && last != size - 1 : first != args->offset)
        return lost(request, "the reply is another range than the one asked for", text);
    if (length > args->length)
        return lost(request, "the reply is a longer range than the one asked for", text);
    if (size == PST_UNKNOWN && (is_suffix || length < args->length))
        return lost(request, "the reply does not tell where the object ends", text);
    if (length < args->length && (is_suffix ? first > 0 : last < size - 1))
        return lost(request, "the reply is a shorter range than the one asked for", text);
    if (head->content_length != PST_UNKNOWN && head->content_length != length)
        return lost(request, "Content-Length and Content-Range disagree", text);
    result->object_size = size;
    r->expected = r->wanted = length;
    return PST_OK;
}

/* The whole object, asked for or not. */
static pst_rc check_whole(struct s3_request *request, const pst_http_head *head, struct read *r)
{
    struct s3_call *call = s3_call_of(request->op);
    const pst_read_args *args = call->args;
    pst_read_result *result = call->result;
    uint64_t size = head->content_length;
    int is_suffix = (args->flags & PST_READ_SUFFIX) != 0;
    if (size == PST_UNKNOWN &&
        s3_header(head->headers, head->n_headers, "transfer-encoding").len == 0)
        return s3_fail(request->err, PST_E_DATA_LOSS,
                       "the reply has no length: a cut could not be told from its end");
    if (is_suffix ? size > args->length : args->offset > 0 && size != 0)
        return s3_fail(request->err, PST_E_DATA_LOSS,
                       "the store ignored the range and sent the whole object");
    s3_sums_take(head->headers, head->n_headers, &r->sums);
    r->is_whole = 1;
    r->expected = size;
    r->wanted = size == PST_UNKNOWN || size < args->length ? size : args->length;
    result->object_size = size;
    return PST_OK;
}

/* Some stores compare etags loosely, without quotes or in part. */
static pst_rc check_match(struct s3_request *request)
{
    const pst_read_args *args = s3_call_of(request->op)->args;
    const pst_read_result *result = s3_call_of(request->op)->result;
    if (args->if_match.len == 0 || result->etag.len == 0 || s3_str_eq(args->if_match, result->etag))
        return PST_OK;
    return s3_fail(request->err, PST_E_PRECONDITION, "the object's etag is another one");
}

static pst_rc take_head(struct s3_request *request, const pst_http_head *head, struct read *r)
{
    const pst_read_args *args = s3_call_of(request->op)->args;
    pst_read_result *result = s3_call_of(request->op)->result;
    pst_str etag = s3_header(head->headers, head->n_headers, "etag");
    pst_str version = s3_header(head->headers, head->n_headers, "x-amz-version-id");
    if (!s3_is_version(args->version, head->headers, head->n_headers))
        return s3_fail(request->err, PST_E_UNIMPLEMENTED, "the store keeps no versions");
    pst_rc rc = head->status == 206 ? check_partial(request, head, r)
                                    : check_whole(request, head, r);
    if (rc != PST_OK)
        return rc;
    result->etag = s3_keep_etag(request->op, etag, &result->etag_strength);
    const pst_str kept = s3_keep(request->op, version);
    S3_SET(pst_read_result, result, version, kept);
    if ((etag.len > 0 && !result->etag.ptr) || (version.len > 0 && !kept.ptr))
        return s3_fail(request->err, PST_E_NO_MEMORY, "out of memory");
    r->has_head = 1;
    return check_match(request);
}

/* Memory for what is coming, of the host. */
static int32_t ask_for_memory(struct s3_request *request, struct read *r, pst_http_grant *grant)
{
    pst_op *op = request->op;
    const pst_read_result *result = s3_call_of(op)->result;
    pst_dst_grant granted = {.struct_size = sizeof(granted)};
    const pst_dst_args ask = {
        .struct_size = sizeof(ask),
        .flags = r->granted > 0 ? PST_DST_MORE : 0,
        .length = r->wanted,
        .capacity = r->wanted,
        .object_size = result->object_size,
        .etag_strength = result->etag_strength,
        .etag = result->etag,
    };
    atomic_store(&r->parking, PARKED); /* dst_ready may come before dst has returned */
    pst_rc rc = op->host->dst(op->host, op, &ask, &granted);
    if (rc == PST_LATER)
        return PST_HTTP_PAUSE;
    atomic_store(&r->parking, NOT_PARKED);
    if (rc != PST_OK)
        return rc < 0 ? rc : (int32_t)PST_E_INTERNAL;
    grant->dst = granted.dst;
    grant->n_dst = granted.n_dst;
    return PST_HTTP_TAKE;
}

/* The caller's memory, as much of it as was asked for. */
static int32_t use_dst(const pst_read_args *args, pst_http_grant *grant)
{
    grant->dst = args->dst;
    grant->n_dst = args->n_dst;
    return PST_HTTP_TAKE;
}

static uint64_t total(const pst_iov *iov, size_t n)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += iov[i].len;
    return sum;
}

/* No more than `limit` bytes of the grant. Returns 0 for lack of memory. */
static int trim(pst_op *op, uint64_t limit, pst_http_grant *grant)
{
    if (total(grant->dst, grant->n_dst) <= limit)
        return 1;
    pst_iov *iov = s3_alloc(op, grant->n_dst * sizeof(*iov));
    if (!iov)
        return 0;
    size_t n = 0;
    for (; limit > 0; n++) {
        iov[n] = grant->dst[n];
        if (iov[n].len > limit)
            iov[n].len = (size_t)limit;
        limit -= iov[n].len;
    }
    grant->dst = iov;
    grant->n_dst = n;
    return 1;
}

static int32_t on_accept(struct s3_request *request, const pst_http_head *head,
                         pst_http_grant *grant)
{
    struct s3_call *call = s3_call_of(request->op);
    const pst_read_args *args = call->args;
    struct read *r = call->state;
    if (!r->has_head) {
        pst_rc rc = take_head(request, head, r);
        if (rc != PST_OK)
            return rc;
        if (r->wanted == 0)
            return PST_HTTP_COLLECT; /* nothing of nothing */
    }
    if (head->n_taken > 0 && head->n_taken >= r->wanted) { /* an object larger than the read */
        if (!r->is_whole)
            return lost(request, "the reply is longer than its Content-Range", pst_str_of(NULL, 0));
        r->is_enough = 1;
        return PST_E_CANCELLED;
    }
    if (head->n_taken > 0 && head->n_taken >= args->length) {
        r->is_enough = 1; /* of unknown length */
        return PST_E_CANCELLED;
    }
    int32_t answer = has_dst(args) ? use_dst(args, grant) : ask_for_memory(request, r, grant);
    if (answer != PST_HTTP_TAKE)
        return answer;
    /* The body must not run over what was asked for into the room that the host keeps for the rest. */
    uint64_t limit = (r->wanted == PST_UNKNOWN ? args->length : r->wanted) - r->granted;
    if (!trim(request->op, limit, grant))
        return s3_fail(request->err, PST_E_NO_MEMORY, "out of memory");
    r->granted += total(grant->dst, grant->n_dst);
    return PST_HTTP_TAKE;
}

static void end(pst_op *op, pst_rc rc)
{
    struct read *r = s3_call_of(op)->state;
    int was = PARKED;
    r->rc = rc;
    if (!atomic_compare_exchange_strong(&r->parking, &was, ENDED_WHILE_PARKED))
        s3_complete(op, rc);
}

/* Nothing is read: the object ends at or before that offset. */
static pst_rc end_empty(struct s3_request *request, const pst_http_reply *reply, uint64_t size)
{
    const pst_read_args *args = s3_call_of(request->op)->args;
    pst_read_result *result = s3_call_of(request->op)->result;
    uint64_t offset = args->flags & PST_READ_SUFFIX ? 0 : args->offset;
    if (size != PST_UNKNOWN && size > offset) {
        (void)s3_fail(request->err, PST_E_UNAVAILABLE,
                      "the store refuses a range at %" PRIu64 " of an object of %" PRIu64 " bytes",
                      offset, size);
        request->err->flags |= PST_ERR_RETRYABLE; /* it may have been replaced just now */
        return PST_E_UNAVAILABLE;
    }
    result->n_read = 0;
    result->object_size = size;
    result->etag = s3_keep_etag(request->op, s3_header(reply->headers, reply->n_headers, "etag"),
                                &result->etag_strength);
    S3_SET(pst_read_result, result, version,
           s3_keep(request->op, s3_header(reply->headers, reply->n_headers, "x-amz-version-id")));
    return check_match(request);
}

static void on_head(struct s3_request *request, pst_rc rc, const pst_http_reply *reply)
{
    uint64_t size = PST_UNKNOWN;
    if (rc == PST_OK) {
        (void)s3_parse_u64(s3_header(reply->headers, reply->n_headers, "content-length"), &size);
        rc = end_empty(request, reply, size);
    }
    end(request->op, rc);
}

/* Which content is it that is empty? A 416 often names no etag. */
static pst_rc ask_for_head(struct s3_request *request)
{
    const pst_read_args *args = s3_call_of(request->op)->args;
    s3_request_init(request, request->store, request->op, "HEAD", args->key);
    if (args->version.len > 0)
        s3_request_param(request, "versionId", args->version);
    s3_request_header(request, "if-match", args->if_match);
    s3_sse_c_headers(request, 0);
    request->done = on_head;
    return s3_request_send(request);
}

/* 416: nothing lies at that offset. What does the store say of the object? */
static pst_rc end_unsatisfiable(struct s3_request *request, const pst_http_reply *reply)
{
    static const pst_str tag = {"<ActualObjectSize>", 18};
    pst_str text = s3_header(reply->headers, reply->n_headers, "content-range");
    uint64_t first, last, size = PST_UNKNOWN;
    if (!parse_range(text, &first, &last, &size) && reply->body.len > 0) {
        const char *at = memmem(reply->body.ptr, reply->body.len, tag.ptr, tag.len);
        const char *end_of_body = reply->body.ptr + reply->body.len;
        const char *close = at ? memchr(at + 1, '<', (size_t)(end_of_body - at - 1)) : NULL;
        if (close)
            (void)s3_parse_u64(pst_str_of(at + tag.len, (size_t)(close - at) - tag.len), &size);
    }
    if (s3_header(reply->headers, reply->n_headers, "etag").len == 0)
        return ask_for_head(request);
    return end_empty(request, reply, size);
}

static pst_rc end_taken(struct s3_request *request, const pst_http_reply *reply, struct read *r)
{
    pst_read_result *result = s3_call_of(request->op)->result;
    uint64_t n_taken = reply ? reply->n_taken : r->granted; /* is_enough: all that was granted */
    if (!r->is_enough && r->expected != PST_UNKNOWN && n_taken != r->expected) {
        (void)s3_fail(request->err, PST_E_UNAVAILABLE,
                      "the reply ended after %" PRIu64 " bytes of %" PRIu64, n_taken, r->expected);
        request->err->flags |= PST_ERR_RETRYABLE;
        return PST_E_UNAVAILABLE;
    }
    if (r->expected == PST_UNKNOWN && r->is_whole && !r->is_enough)
        result->object_size = n_taken;
    result->n_read = n_taken;
    if (r->sums.is_composite && r->is_whole) { /* stat tells those of the parts */
        r->sums.sums[0] = (pst_sum){.algorithm = PST_SUM_CRC32C, .scope = PST_SCOPE_RANGE};
        r->sums.n = 1;
    }
    if (r->sums.n > 0) {
        result->sums = r->sums.sums;
        result->n_sums = r->sums.n;
        result->sum_stride = sizeof(r->sums.sums[0]);
    }
    atomic_store_explicit(&request->store->is_bucket_seen, 1, memory_order_relaxed);
    return PST_OK;
}

static void on_done(struct s3_request *request, pst_rc rc, const pst_http_reply *reply)
{
    struct s3_call *call = s3_call_of(request->op);
    struct read *r = call->state;
    if (rc == PST_OK || r->is_enough)
        rc = end_taken(request, reply, r);
    else if (reply && reply->status == 416)
        rc = end_unsatisfiable(request, reply);
    if (rc != PST_PENDING)
        end(request->op, rc);
}

void s3_dst_ready(pst_backend *store, pst_op *op)
{
    struct s3_call *call = s3_call_of(op);
    struct read *r = call->state;
    uint64_t id = atomic_load(&call->request.own.http_id); /* before another thread may end it */
    if (atomic_exchange(&r->parking, NOT_PARKED) == ENDED_WHILE_PARKED)
        s3_complete(op, r->rc);
    else
        store->http->resume(store->client, id);
}

pst_rc s3_read(pst_backend *store, pst_op *op, const pst_read_args *args, pst_read_result *result)
{
    struct s3_call *call = s3_call_of(op);
    struct s3_request *request = &call->request;
    pst_rc rc = s3_key_check(store, op, args->key);
    if (rc != PST_OK)
        return rc;
    result->object_size = PST_UNKNOWN;
    result->n_read = 0;
    if (args->length == 0)
        return PST_OK;
    struct read *r = s3_alloc(op, sizeof(*r));
    if (!r)
        return s3_fail(op->err, PST_E_NO_MEMORY, "out of memory");
    memset(r, 0, sizeof(*r));
    call->args = args;
    call->result = result;
    call->state = r;
    s3_request_init(request, store, op, "GET", args->key);
    request->accept = on_accept;
    request->done = on_done;
    if (args->version.len > 0)
        s3_request_param(request, "versionId", args->version);
    s3_request_header(request, "if-match", args->if_match);
    s3_sse_c_headers(request, 0);
    int is_suffix = (args->flags & PST_READ_SUFFIX) != 0;
    if (is_suffix) {
        s3_request_headerf(request, "range", "bytes=-%" PRIu64,
                           args->length < OFFSET_MAX ? args->length : OFFSET_MAX);
    } else if ((args->flags & PST_READ_SUMS) && args->offset == 0 && !has_dst(args)) {
        s3_request_header(request, "x-amz-checksum-mode", PST_STR("ENABLED"));
    } else {
        uint64_t offset = args->offset < OFFSET_MAX ? args->offset : OFFSET_MAX;
        uint64_t most = OFFSET_MAX + (OFFSET_MAX - offset); /* at least OFFSET_MAX bytes on */
        uint64_t last = args->length - 1 < most - offset ? offset + args->length - 1 : most;
        s3_request_headerf(request, "range", "bytes=%" PRIu64 "-%" PRIu64, offset, last);
    }
    return s3_request_send(request);
}
