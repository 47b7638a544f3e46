/* copy.c - copying within the store, or from another bucket of it, by one CopyObject.
 *
 * The store does the work. It may answer 200 first and say in the document that it failed, as with the
 * commit of an upload. Attributes and tags come along unless others are given.
 *
 * Two kinds of copy go another way, copy_parts.c: objects of more than 5 GiB, which the store's refusal
 * tells (no look before), and copies with a condition on the destination: most stores do not look at
 * one in CopyObject, and there they are obeyed where those of uploads are. */
#include <inttypes.h>
#include <string.h>

#include "attr.h"
#include "copy.h"
#include "endpoint.h"
#include "error.h"
#include "ops.h"
#include "text.h"
#include "url.h"
#include "xml.h"

#define REPLY_BYTES_MAX ((uint64_t)1 << 20)

pst_str s3_copy_source(pst_op *op, const pst_backend *store, const pst_copy_args *args)
{
    static const char version[] = "?versionId=";
    pst_str bucket = S3_GET(pst_copy_args, args, from_authority);
    if (bucket.len == 0)
        bucket = s3_str(store->bucket);
    char *text = s3_alloc(op, 3 * (bucket.len + args->from.len + args->from_version.len) +
                                  sizeof(version) + 2);
    if (!text)
        return pst_str_of(NULL, 0);
    char *at = text;
    *at++ = '/';
    at = s3_encode_path(at, bucket);
    *at++ = '/';
    at = s3_encode_path(at, args->from);
    if (args->from_version.len > 0) {
        at = s3_write(at, PST_STR("?versionId="));
        at = s3_encode_query(at, args->from_version);
    }
    return pst_str_of(text, (size_t)(at - text));
}

void s3_copy_aim(struct s3_request *request, const pst_copy_args *args, const char *method)
{
    s3_request_init(request, request->store, request->op, method, args->from);
    pst_str bucket = S3_GET(pst_copy_args, args, from_authority);
    if (bucket.len > 0)
        request->bucket = bucket;
    if (args->from_version.len > 0)
        s3_request_param(request, "versionId", args->from_version);
    s3_sse_c_headers(request, 0);
}

static int32_t on_element(void *ctx, const char *path, pst_str text)
{
    struct s3_request *request = ctx;
    pst_put_result *result = s3_call_of(request->op)->result;
    if (strcmp(path, "CopyObjectResult/ETag") != 0)
        return PST_OK;
    result->etag = s3_keep_etag(request->op, text, &result->etag_strength);
    return result->etag.ptr ? PST_OK : PST_E_NO_MEMORY;
}

/* "The specified copy source is larger than the maximum allowable size" comes with either code, the first
 * of which says many other things too. */
static int may_be_too_large(const pst_error *err)
{
    return err->http_status == 400 && strcmp(err->provider_code, "InvalidRequest") == 0;
}

static int is_too_large(const pst_error *err)
{
    return err->http_status == 400 && strcmp(err->provider_code, "EntityTooLarge") == 0;
}

static pst_rc end_copy(struct s3_request *request, const pst_http_reply *reply)
{
    pst_op *op = request->op;
    pst_put_result *result = s3_call_of(op)->result;
    pst_str body = s3_skip_blanks(reply->body);
    const struct s3_xml handler = {.end = on_element, .ctx = request};
    struct s3_problem problem;
    if (s3_problem_parse(body, &problem))
        return s3_error_from_document(request, &problem, reply);
    pst_rc rc = s3_xml_parse(body, &handler);
    if (rc == PST_E_NO_MEMORY)
        return s3_fail(op->err, rc, "out of memory");
    if (rc != PST_OK || result->etag.len == 0) {
        (void)s3_fail(op->err, PST_E_UNAVAILABLE, "the store did not say what became of the copy");
        op->err->flags |= PST_ERR_RETRYABLE | PST_ERR_MAYBE_APPLIED;
        return PST_E_UNAVAILABLE;
    }
    S3_SET(pst_put_result, result, version,
           s3_keep(op, s3_header(reply->headers, reply->n_headers, "x-amz-version-id")));
    result->size = PST_UNKNOWN;
    return PST_OK;
}

static void on_copy(struct s3_request *request, pst_rc rc, const pst_http_reply *reply)
{
    pst_op *op = request->op;
    struct s3_call *call = s3_call_of(op);
    if (rc == PST_OK)
        rc = end_copy(request, reply);
    else if (is_too_large(op->err) || may_be_too_large(op->err))
        rc = s3_copy_in_parts(request->store, op, call->args, call->result,
                              is_too_large(op->err) ? (pst_rc)PST_OK : rc);
    if (rc != PST_PENDING)
        s3_complete(op, rc);
}

static pst_rc send_copy(pst_op *op)
{
    struct s3_call *call = s3_call_of(op);
    struct s3_request *request = &call->request;
    const pst_copy_args *args = call->args;
    pst_backend *store = request->store;
    pst_str source = s3_copy_source(op, store, args);
    if (source.len == 0)
        return s3_fail(op->err, PST_E_NO_MEMORY, "out of memory");
    s3_request_init(request, store, op, "PUT", args->to);
    request->done = on_copy;
    s3_request_header(request, "x-amz-copy-source", source);
    s3_request_header(request, "x-amz-copy-source-if-match", args->from_if_match);
    if (args->flags & PST_COPY_REPLACE_ATTR) {
        s3_request_header(request, "x-amz-metadata-directive", PST_STR("REPLACE"));
        s3_request_header(request, "x-amz-tagging-directive", PST_STR("REPLACE"));
        pst_rc rc = s3_attr_send(request, args->attr);
        if (rc != PST_OK)
            return rc;
    }
    s3_new_object_send(request, args->flags & PST_COPY_REPLACE_ATTR ? args->attr : NULL);
    s3_sse_c_headers(request, 1);
    request->body_max = REPLY_BYTES_MAX;
    request->flags = S3_CHANGES;
    return s3_request_send(request);
}

static void on_checked(struct s3_request *request, pst_rc rc, const pst_http_reply *reply)
{
    pst_op *op = request->op;
    const pst_copy_args *args = s3_call_of(op)->args;
    uint32_t strength;
    if (rc == PST_OK) {
        pst_str etag = s3_keep_etag(op, s3_header(reply->headers, reply->n_headers, "etag"),
                                    &strength);
        rc = s3_str_eq(etag, args->from_if_match)
                 ? send_copy(op)
                 : s3_fail(op->err, PST_E_PRECONDITION, "the source's etag is another one");
    }
    if (rc != PST_PENDING)
        s3_complete(op, rc);
}

/* Ceph takes x-amz-copy-source-if-match and does not look at it. */
static pst_rc check_source(pst_op *op)
{
    struct s3_request *request = &s3_call_of(op)->request;
    const pst_copy_args *args = s3_call_of(op)->args;
    s3_copy_aim(request, args, "HEAD");
    request->done = on_checked;
    return s3_request_send(request);
}

pst_rc s3_copy(pst_backend *store, pst_op *op, const pst_copy_args *args, pst_put_result *result)
{
    struct s3_call *call = s3_call_of(op);
    struct s3_request *request = &call->request;
    pst_rc rc = s3_key_check(store, op, args->to);
    if (rc == PST_OK)
        rc = s3_key_check(store, op, args->from);
    if (rc != PST_OK)
        return rc;
    call->args = args;
    call->result = result;
    s3_request_init(request, store, op, "PUT", args->to);
    if ((args->flags & PST_PUT_CREATE_ONLY) || args->if_match.len > 0)
        return s3_copy_in_parts(store, op, args, result, PST_OK);
    if (args->from_if_match.len > 0 && !s3_endpoints_are_aws(store->endpoints))
        return check_source(op);
    return send_copy(op);
}
