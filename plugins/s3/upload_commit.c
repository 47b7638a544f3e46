/* upload_commit.c - making the parts of an upload one object.
 *
 * What is committed is checked here first: every part from the first on is stored, they lie one behind
 * the other, and they add up to the size that was written. An upload without parts becomes an empty
 * object by one empty part.
 *
 * The store may answer 200 before it knows, keep the connection alive with blanks, and say in the body
 * that it failed: only the result document counts.
 *
 * A lost reply is resolved by a look at the key (look.c). The etag of a multipart object is the MD5 of
 * the parts' MD5s and their number, which can be computed wherever the parts' etags have that form; it
 * is ours then beyond doubt; another one proves nothing, where the store encrypts. A commit that was ever
 * in doubt stays so: the NoSuchUpload or 412 that answers the next one may be the echo of the first. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "attr.h"
#include "endpoint.h"
#include "error.h"
#include "look.h"
#include "ops.h"
#include "text.h"
#include "upload.h"
#include "xml.h"

#define PART_XML_MAX 256u /* of one part, without its etag */
#define COMPLETE_BYTES_MAX ((uint64_t)1 << 20)

struct commit {
    struct s3_look look;
    pst_upload *upload;
    pst_iov body;
    pst_str etag;      /* of the result document */
    pst_rc rc;         /* of the commit, while we look */
    uint32_t is_sized; /* the store was told the size, and compares */
    char expected[64];
};

/* ---- what is committed ------------------------------------------------------------------------ */

static pst_rc check_parts(pst_upload *upload, pst_op *op, const pst_commit_args *args)
{
    uint64_t at = 0;
    uint32_t n = args->n_parts;
    pst_rc rc = PST_OK;
    pthread_mutex_lock(&upload->mutex);
    if (upload->locked.state == S3_UPLOAD_ABORTED)
        rc = s3_fail(op->err, PST_E_PRECONDITION, "the upload was aborted");
    else if (upload->locked.n > n)
        rc = s3_fail(op->err, PST_E_DATA_LOSS,
                     "%" PRIu32 " parts were sent, %" PRIu32 " are committed", upload->locked.n, n);
    for (uint32_t i = 0; i < n && rc == PST_OK; i++) {
        const struct s3_part *part = i < upload->locked.n ? &upload->locked.parts[i] : NULL;
        if (!part || !part->etag)
            rc = s3_fail(op->err, PST_E_DATA_LOSS, "part %" PRIu32 " is missing", i);
        else if (part->offset != at)
            rc = s3_fail(op->err, PST_E_DATA_LOSS,
                         "part %" PRIu32 " begins at %" PRIu64 ", the one before ends at %" PRIu64,
                         i, part->offset, at);
        else
            at += part->length;
    }
    pthread_mutex_unlock(&upload->mutex);
    if (rc == PST_OK && at != args->size)
        rc = s3_fail(op->err, PST_E_DATA_LOSS,
                     "the parts have %" PRIu64 " bytes, the object %" PRIu64, at, args->size);
    return rc;
}

/* The etag that the object will have, "" where the parts' etags are no MD5s. Returns 0 for lack of memory. */
static int expect_etag_locked(struct commit *c, uint32_t n)
{
    const pst_backend *store = c->upload->store;
    uint8_t md5[16];
    uint8_t *all = n > 0 ? store->host->alloc(store->host, n * sizeof(md5), 16) : NULL;
    int is_known = all != NULL;
    for (uint32_t i = 0; i < n && is_known; i++) {
        const char *etag = c->upload->locked.parts[i].etag;
        is_known = s3_etag_md5(pst_str_of(etag, strlen(etag)), all + i * sizeof(md5));
    }
    const pst_iov iov = {all, n * sizeof(md5)};
    if (is_known && store->crypto->digest(store->host, PST_DIGEST_MD5, &iov, 1, md5) == PST_OK) {
        char hex[2 * sizeof(md5) + 1];
        *s3_hex(hex, md5, sizeof(md5)) = '\0';
        snprintf(c->expected, sizeof(c->expected), "\"%s-%" PRIu32 "\"", hex, n);
    }
    if (all)
        store->host->dealloc(store->host, all);
    return all != NULL || n == 0;
}

/* ---- the end ---------------------------------------------------------------------------------- */

static void give(pst_op *op, pst_str etag, uint32_t strength, pst_str version, uint64_t size)
{
    pst_put_result *result = s3_call_of(op)->result;
    result->etag = etag;
    result->etag_strength = strength;
    S3_SET(pst_put_result, result, version, version);
    result->size = size;
}

/* It is committed: say so now and whenever it is asked again. */
static pst_rc settle(pst_op *op, const struct commit *c, pst_str etag, uint32_t strength,
                     pst_str version, uint64_t size)
{
    pst_upload *upload = c->upload;
    const pst_host *host = upload->store->host;
    pthread_mutex_lock(&upload->mutex);
    upload->locked.state = S3_UPLOAD_COMMITTED;
    upload->locked.etag = s3_own(host, etag);
    upload->locked.version = s3_own(host, version);
    upload->locked.etag_strength = upload->locked.etag.ptr ? strength : PST_ETAG_NONE;
    upload->locked.size = size;
    pthread_mutex_unlock(&upload->mutex);
    give(op, etag, strength, version, size);
    return PST_OK;
}

/* NoSuchUpload; or InvalidPart, which MinIO answers while it carries out the commit before, and after that
 * one was cut off in the middle. */
static int is_upload_gone(pst_rc rc)
{
    return rc == PST_E_NOT_FOUND || rc == PST_E_DATA_LOSS;
}

/* The operation ends before it is known what became of the commit, which may be repeated. */
static void end_in_doubt(pst_op *op, pst_rc rc)
{
    (void)s3_fail(op->err, rc, "it is not known what became of the commit");
    op->err->flags |= PST_ERR_MAYBE_APPLIED;
    s3_end(op, rc);
}

static void on_found(pst_op *op, const struct s3_look *look, const pst_put_result *now)
{
    const struct commit *c = s3_call_of(op)->state;
    if (look->verdict == S3_LOOK_OURS) {
        s3_end(op, settle(op, c, now->etag, now->etag_strength, now->version, now->size));
    } else if (look->rc == PST_E_CANCELLED || look->rc == PST_E_DEADLINE ||
               look->rc == PST_E_NO_MEMORY) {
        end_in_doubt(op, look->rc);
    } else { /* it was not carried out yet, or somebody has written since */
        op->err->flags |= PST_ERR_MAYBE_APPLIED;
        s3_end(op, c->rc);
    }
}

/* Is this failure, or may it be, of a commit that was carried out? */
static int is_in_doubt(struct commit *c, const pst_op *op, pst_rc rc)
{
    pst_upload *upload = c->upload;
    int is_lost = (op->err->flags & PST_ERR_MAYBE_APPLIED) || rc == PST_E_CANCELLED;
    int is_echo = is_upload_gone(rc) || rc == PST_E_PRECONDITION || rc == PST_E_EXISTS;
    pthread_mutex_lock(&upload->mutex);
    int was = upload->locked.is_in_doubt;
    upload->locked.is_in_doubt |= is_lost;
    pthread_mutex_unlock(&upload->mutex);
    return rc != PST_E_CANCELLED && (is_lost || (was && is_echo));
}

static void end_failed(struct s3_request *request, pst_rc rc)
{
    pst_op *op = request->op;
    struct commit *c = s3_call_of(op)->state;
    const pst_commit_args *args = s3_call_of(op)->args;
    if (!is_in_doubt(c, op, rc)) {
        s3_end(op, rc);
        return;
    }
    c->rc = rc;
    c->look.key = c->upload->key;
    c->look.size = args->size;
    pthread_mutex_lock(&c->upload->mutex);
    int is_expected = expect_etag_locked(c, args->n_parts > 0 ? args->n_parts : 1);
    pthread_mutex_unlock(&c->upload->mutex);
    if (!is_expected) {
        end_in_doubt(op, PST_E_NO_MEMORY);
        return;
    }
    c->look.etag = pst_str_of(c->expected, strlen(c->expected));
    c->look.sums = args->sums;
    c->look.n_sums = args->n_sums;
    c->look.sum_stride = args->sum_stride;
    c->look.found = on_found;
    s3_look(&c->look, request->store, op);
}

static int32_t on_element(void *ctx, const char *path, pst_str text)
{
    struct s3_request *request = ctx;
    struct commit *c = s3_call_of(request->op)->state;
    uint32_t strength;
    if (strcmp(path, "CompleteMultipartUploadResult/ETag") != 0 || text.len == 0)
        return PST_OK; /* without one the key is looked at */
    c->etag = s3_keep_etag(request->op, text, &strength);
    return c->etag.ptr ? PST_OK : PST_E_NO_MEMORY;
}

static void on_complete(struct s3_request *request, pst_rc rc, const pst_http_reply *reply)
{
    pst_op *op = request->op;
    struct commit *c = s3_call_of(op)->state;
    const pst_commit_args *args = s3_call_of(op)->args;
    struct s3_problem problem;
    if (rc == PST_OK) {
        pst_str body = s3_skip_blanks(reply->body);
        const struct s3_xml handler = {.end = on_element, .ctx = request};
        if (s3_problem_parse(body, &problem))
            rc = s3_error_from_document(request, &problem, reply);
        else
            rc = s3_xml_parse(body, &handler);
        if (rc == PST_E_NO_MEMORY) { /* it is committed: the next attempt finds that out */
            (void)s3_fail(op->err, rc, "out of memory");
            op->err->flags |= PST_ERR_MAYBE_APPLIED;
        } else if (problem.code[0] == '\0' && (rc != PST_OK || c->etag.len == 0)) {
            rc = s3_fail(op->err, PST_E_UNAVAILABLE,
                         "the store did not say what became of the commit");
            op->err->flags |= PST_ERR_RETRYABLE | PST_ERR_MAYBE_APPLIED;
        }
    }
    if (rc != PST_OK) {
        end_failed(request, rc);
        return;
    }
    pst_str version = s3_keep(op, s3_header(reply->headers, reply->n_headers, "x-amz-version-id"));
    s3_end(op, settle(op, c, c->etag, PST_ETAG_STRONG, version,
                      c->is_sized ? args->size : PST_UNKNOWN));
}

/* ---- the request ------------------------------------------------------------------------------ */

static int put_part(char *at, size_t room, uint32_t number, const struct s3_part *part)
{
    char sum[S3_BASE64_BYTES(sizeof(part->sum.bytes))] = "";
    const char *name = s3_sum_name(part->sum.algorithm);
    char etag[256];
    size_t len = s3_xml_escape(pst_str_of(part->etag, strlen(part->etag)), etag, sizeof(etag));
    if (len >= sizeof(etag))
        return -1;
    etag[len] = '\0';
    int n = snprintf(at, room, "<Part><PartNumber>%" PRIu32 "</PartNumber><ETag>%s</ETag>",
                     number + 1, etag);
    if (name && n > 0 && (size_t)n < room) {
        s3_base64_encode(part->sum.bytes, part->sum.length, sum);
        n += snprintf(at + n, room - (size_t)n, "<Checksum%s>%s</Checksum%s>", name, sum, name);
    }
    if (n > 0 && (size_t)n < room)
        n += snprintf(at + n, room - (size_t)n, "</Part>");
    return n > 0 && (size_t)n < room ? n : -1;
}

/* Returns 0 for lack of memory, or for an etag of absurd length. */
static int make_body(pst_op *op, struct commit *c, uint32_t n)
{
    static const char head[] =
        "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">";
    static const char tail[] = "</CompleteMultipartUpload>";
    pst_upload *upload = c->upload;
    size_t room = sizeof(head) + sizeof(tail) + (size_t)n * (PART_XML_MAX + 256);
    char *text = s3_alloc(op, room), *at = text;
    int len = 0;
    if (!text)
        return 0;
    memcpy(at, head, sizeof(head) - 1);
    at += sizeof(head) - 1;
    pthread_mutex_lock(&upload->mutex);
    for (uint32_t i = 0; i < n && len >= 0; i++) {
        len = put_part(at, room - (size_t)(at - text), i, &upload->locked.parts[i]);
        at += len > 0 ? len : 0;
    }
    pthread_mutex_unlock(&upload->mutex);
    memcpy(at, tail, sizeof(tail) - 1);
    at += sizeof(tail) - 1;
    c->body = (pst_iov){text, (size_t)(at - text)};
    return len >= 0;
}

static pst_rc send_complete(pst_op *op, struct commit *c)
{
    struct s3_request *request = &s3_call_of(op)->request;
    const pst_commit_args *args = s3_call_of(op)->args;
    pst_upload *upload = c->upload;
    if (!make_body(op, c, args->n_parts > 0 ? args->n_parts : 1))
        return s3_fail(op->err, PST_E_NO_MEMORY, "out of memory");
    s3_request_init(request, upload->store, op, "POST", upload->key);
    s3_request_param(request, "uploadId", upload->id);
    s3_request_header(request, "content-type", PST_STR("application/xml"));
    if (upload->is_create_only)
        s3_request_header(request, "if-none-match", PST_STR("*"));
    s3_request_header(request, "if-match", upload->if_match);
    if (s3_is_full_object(upload->algorithm)) {
        s3_request_header(request, "x-amz-checksum-type", PST_STR("FULL_OBJECT"));
        s3_sum_send(request,
                    s3_sum_find(args->sums, args->n_sums, args->sum_stride, upload->algorithm));
    }
    if (s3_endpoints_are_aws(upload->store->endpoints)) { /* others ignore it, or do not know it */
        s3_request_headerf(request, "x-amz-mp-object-size", "%" PRIu64, args->size);
        c->is_sized = 1;
    }
    s3_sse_c_headers(request, 0);
    request->body = &c->body;
    request->n_body = 1;
    request->body_max = COMPLETE_BYTES_MAX;
    request->flags = S3_CHANGES | S3_ONCE;
    if (upload->is_create_only || upload->if_match.len > 0)
        request->flags |= S3_IS_CONDITIONAL;
    request->done = on_complete;
    return s3_request_send(request);
}

static void on_empty_part(struct s3_request *request, pst_rc rc, const pst_http_reply *reply)
{
    pst_op *op = request->op;
    struct commit *c = s3_call_of(op)->state;
    const struct s3_part part = {.offset = 0, .length = 0};
    uint32_t strength;
    if (rc == PST_OK) {
        pst_str etag = s3_keep_etag(op, s3_header(reply->headers, reply->n_headers, "etag"),
                                    &strength);
        rc = etag.ptr && s3_upload_keep_part(c->upload, 0, &part, etag)
                 ? send_complete(op, c)
                 : s3_fail(op->err, PST_E_NO_MEMORY, "out of memory");
    }
    if (rc != PST_PENDING)
        s3_end(op, rc);
}

static pst_rc send_empty_part(pst_op *op, struct commit *c)
{
    struct s3_request *request = &s3_call_of(op)->request;
    pst_upload *upload = c->upload;
    s3_request_init(request, upload->store, op, "PUT", upload->key);
    s3_request_param(request, "partNumber", PST_STR("1"));
    s3_request_param(request, "uploadId", upload->id);
    s3_sse_c_headers(request, 0);
    if (upload->algorithm) { /* the CRCs of nothing are zero */
        pst_sum sum = {.algorithm = upload->algorithm, .length = s3_sum_bytes(upload->algorithm)};
        if (upload->algorithm == PST_SUM_SHA256)
            (void)upload->store->crypto->digest(upload->store->host, PST_DIGEST_SHA256, NULL, 0,
                                                sum.bytes);
        s3_sum_send(request, &sum);
    }
    request->done = on_empty_part;
    return s3_request_send(request);
}

pst_rc s3_upload_commit(pst_upload *upload, pst_op *op, const pst_commit_args *args,
                        pst_put_result *result)
{
    struct s3_call *call = s3_call_of(op);
    call->args = args;
    call->result = result;
    pthread_mutex_lock(&upload->mutex);
    int is_done = upload->locked.state == S3_UPLOAD_COMMITTED;
    int has_empty_part = args->n_parts == 0 && upload->locked.n == 1 &&
                         upload->locked.parts[0].etag && upload->locked.parts[0].length == 0;
    pthread_mutex_unlock(&upload->mutex);
    if (is_done) {
        give(op, s3_keep(op, upload->locked.etag), upload->locked.etag_strength,
             s3_keep(op, upload->locked.version), upload->locked.size);
        return PST_OK;
    }
    if (!has_empty_part) {
        pst_rc rc = check_parts(upload, op, args);
        if (rc != PST_OK)
            return rc;
    }
    struct commit *c = s3_alloc(op, sizeof(*c));
    if (!c)
        return s3_fail(op->err, PST_E_NO_MEMORY, "out of memory");
    memset(c, 0, sizeof(*c));
    c->upload = upload;
    call->state = c;
    return args->n_parts == 0 && !has_empty_part ? send_empty_part(op, c) : send_complete(op, c);
}
