/* stat.c - the attributes of an object, and its checksums.
 *
 * One HEAD. Two things may follow it. A reply to HEAD has no body, so its 404 does not tell whether the
 * key is missing or the bucket: the bucket is asked, once in the life of a store, and not at all where
 * an earlier reply has shown that it exists. And where the caller compares checksums and the object has
 * one of its parts' checksums only, GetObjectAttributes tells those, part by part; a store that does
 * not know that request leaves the object without checksums. */
#include <inttypes.h>
#include <string.h>

#include "attr.h"
#include "error.h"
#include "ops.h"
#include "text.h"
#include "xml.h"

#define PARTS_PAGE_MAX 1000u
#define PARTS_MAX 10000u
#define ATTRIBUTES_BYTES_MAX ((uint64_t)4 << 20)

struct stat_state {
    pst_rc rc;        /* of the HEAD */
    int is_truncated; /* the page being parsed */
    int is_another;   /* the object was replaced since the HEAD */
    uint32_t n, room;
    uint32_t number, marker;
    uint64_t size, offset; /* of the part */
    pst_sum sum;           /* of the part; algorithm 0: none */
    pst_sum *sums;
    pst_op *op;
};

/* ---- checksums of parts ----------------------------------------------------------------------- */

static pst_rc add_part(struct stat_state *s)
{
    uint64_t end;
    if (s->sum.algorithm == 0 || s->number != s->n + 1 || s->n == PARTS_MAX ||
        __builtin_add_overflow(s->offset, s->size, &end))
        return PST_E_DATA_LOSS; /* no list of all parts in order: of no use */
    if (s->n == s->room) {
        uint32_t room = s->room ? 2 * s->room : 64;
        pst_sum *sums = s3_alloc(s->op, room * sizeof(*sums));
        if (!sums)
            return PST_E_NO_MEMORY;
        if (s->n > 0)
            memcpy(sums, s->sums, s->n * sizeof(*sums));
        s->sums = sums;
        s->room = room;
    }
    s->sum.scope = PST_SCOPE_RANGE;
    s->sum.offset = s->offset;
    s->sum.size = s->size;
    s->sums[s->n++] = s->sum;
    s->offset = end;
    return PST_OK;
}

/* The etag of the attributes has no quotes. */
static int is_same_etag(pst_str quoted, pst_str text)
{
    return quoted.len == 0 || s3_str_eq(quoted, text) ||
           (quoted.len == text.len + 2 && s3_str_eq(pst_str_of(quoted.ptr + 1, text.len), text));
}

static int32_t on_element(void *ctx, const char *path, pst_str text)
{
    static const char stem[] = "/ObjectParts/";
    struct stat_state *s = ctx;
    uint64_t value = 0;
    pst_rc rc = PST_OK;
    path = strchr(path, '/'); /* AWS's manual has two names for the root */
    if (path && strcmp(path, "/ETag") == 0) {
        const pst_attr *out = s3_call_of(s->op)->result;
        s->is_another |= !is_same_etag(out->etag, text);
    }
    if (!path || strncmp(path, stem, sizeof(stem) - 1) != 0)
        return PST_OK;
    path += sizeof(stem) - 1;
    if (strcmp(path, "IsTruncated") == 0) {
        s->is_truncated = s3_str_is(text, "true");
    } else if (strcmp(path, "NextPartNumberMarker") == 0) {
        s->marker = s3_parse_u64(text, &value) && value <= PARTS_MAX ? (uint32_t)value : 0;
    } else if (strcmp(path, "Part/PartNumber") == 0) {
        s->number = s3_parse_u64(text, &value) && value <= PARTS_MAX ? (uint32_t)value : 0;
    } else if (strcmp(path, "Part/Size") == 0) {
        s->size = s3_parse_u64(text, &value) ? value : 0;
    } else if (strcmp(path, "Part/ChecksumCRC64NVME") == 0) {
        (void)s3_sum_parse(PST_SUM_CRC64NVME, text, &s->sum);
    } else if (strcmp(path, "Part/ChecksumCRC32C") == 0) {
        (void)s3_sum_parse(PST_SUM_CRC32C, text, &s->sum);
    } else if (strcmp(path, "Part/ChecksumSHA256") == 0) {
        (void)s3_sum_parse(PST_SUM_SHA256, text, &s->sum);
    } else if (strcmp(path, "Part") == 0) {
        rc = add_part(s);
        s->sum.algorithm = s->number = 0;
        s->size = 0;
    }
    return rc;
}

static pst_rc ask_for_parts(struct s3_request *request);

/* Report what was collected, if it covers the object. */
static void give_parts(struct s3_request *request, const struct stat_state *s)
{
    pst_attr *out = s3_call_of(request->op)->result;
    if (s->n == 0 || s->is_another || s->offset != out->size)
        return;
    out->sums = s->sums;
    out->n_sums = s->n;
    out->sum_stride = sizeof(s->sums[0]);
}

static void on_parts(struct s3_request *request, pst_rc rc, const pst_http_reply *reply)
{
    struct stat_state *s = s3_call_of(request->op)->state;
    uint32_t before = s->n;
    if (rc == PST_E_CANCELLED || (rc != PST_OK && (request->err->flags & PST_ERR_RETRYABLE))) {
        s3_complete(request->op, rc);
        return;
    }
    if (rc == PST_OK) {
        const struct s3_xml handler = {.end = on_element, .ctx = s};
        s->is_truncated = 0;
        rc = s3_xml_parse(reply->body, &handler);
    }
    if (rc == PST_OK && s->is_truncated && s->marker == s->n && s->n > before) {
        rc = ask_for_parts(request);
        if (rc == PST_PENDING)
            return;
        s3_complete(request->op, rc);
        return;
    }
    if (rc == PST_OK && !s->is_truncated)
        give_parts(request, s);
    s3_complete(request->op, PST_OK); /* the object is described, with checksums or without */
}

static pst_rc ask_for_parts(struct s3_request *request)
{
    struct s3_call *call = s3_call_of(request->op);
    const pst_stat_args *args = call->args;
    const pst_attr *out = call->result;
    const struct stat_state *s = call->state;
    s3_request_init(request, request->store, request->op, "GET", args->key);
    s3_request_param(request, "attributes", PST_STR(""));
    pst_str version = S3_GET(pst_stat_args, args, version);
    if (version.len == 0)
        version = out->version;
    if (version.len > 0)
        s3_request_param(request, "versionId", version);
    s3_request_header(request, "x-amz-object-attributes", PST_STR("ETag,ObjectParts"));
    s3_request_headerf(request, "x-amz-max-parts", "%u", PARTS_PAGE_MAX);
    if (s->n > 0)
        s3_request_headerf(request, "x-amz-part-number-marker", "%u", s->n);
    s3_sse_c_headers(request, 0);
    request->body_max = ATTRIBUTES_BYTES_MAX;
    request->done = on_parts;
    return s3_request_send(request);
}

/* ---- the HEAD --------------------------------------------------------------------------------- */

static void on_bucket(struct s3_request *request, pst_rc rc, const pst_http_reply *reply)
{
    const struct stat_state *s = s3_call_of(request->op)->state;
    (void)reply;
    if (rc != PST_E_NOT_FOUND) {
        atomic_store(&request->store->is_bucket_seen, rc == PST_OK || rc == PST_E_DENIED);
        (void)s3_fail(request->err, s->rc, "there is no such object");
        request->err->flags = 0;
    } else {
        (void)s3_fail(request->err, s->rc, "there is no bucket '%s'", request->store->bucket);
        request->err->flags |= PST_ERR_NO_CONTAINER;
    }
    s3_complete(request->op, s->rc);
}

/* PENDING: asked. */
static pst_rc ask_for_bucket(struct s3_request *request)
{
    s3_request_init(request, request->store, request->op, "HEAD", pst_str_of(NULL, 0));
    request->done = on_bucket;
    return s3_request_send(request);
}

static void on_head(struct s3_request *request, pst_rc rc, const pst_http_reply *reply)
{
    struct s3_call *call = s3_call_of(request->op);
    const pst_stat_args *args = call->args;
    struct stat_state *s = call->state;
    struct s3_sums sums = {.n = 0};
    s->rc = rc;
    if (rc == PST_OK) {
        atomic_store_explicit(&request->store->is_bucket_seen, 1, memory_order_relaxed);
        if (!s3_is_version(S3_GET(pst_stat_args, args, version), reply->headers, reply->n_headers))
            rc = s3_fail(request->err, PST_E_UNIMPLEMENTED, "the store keeps no versions");
        else if (!s3_attr_take(request->op, reply->headers, reply->n_headers, call->result, &sums))
            rc = s3_fail(request->err, PST_E_NO_MEMORY, "out of memory");
        else if (sums.is_composite && (args->flags & PST_STAT_SUMS))
            rc = ask_for_parts(request);
    } else if (rc == PST_E_NOT_FOUND && !(request->err->flags & PST_ERR_NO_CONTAINER) &&
               !atomic_load(&request->store->is_bucket_seen)) {
        rc = ask_for_bucket(request);
    }
    if (rc != PST_PENDING)
        s3_complete(request->op, rc);
}

pst_rc s3_stat(pst_backend *store, pst_op *op, const pst_stat_args *args, pst_attr *result)
{
    struct s3_call *call = s3_call_of(op);
    struct s3_request *request = &call->request;
    pst_rc rc = s3_key_check(store, op, args->key);
    if (rc != PST_OK)
        return rc;
    struct stat_state *s = s3_alloc(op, sizeof(*s));
    if (!s)
        return s3_fail(op->err, PST_E_NO_MEMORY, "out of memory");
    memset(s, 0, sizeof(*s));
    s->op = op;
    call->args = args;
    call->result = result;
    call->state = s;
    s3_request_init(request, store, op, "HEAD", args->key);
    const pst_str version = S3_GET(pst_stat_args, args, version);
    if (version.len > 0)
        s3_request_param(request, "versionId", version);
    if (args->flags & PST_STAT_SUMS)
        s3_request_header(request, "x-amz-checksum-mode", PST_STR("ENABLED"));
    s3_sse_c_headers(request, 0);
    request->done = on_head;
    return s3_request_send(request);
}
