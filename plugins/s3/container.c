/* container.c - buckets: create, delete, list.
 *
 * A bucket is named by the store's authority (s3://bucket) or, in a store of the service itself
 * (s3://), by the argument. AWS wants its region in the body unless it is us-east-1; other stores have
 * one region and refuse names that they do not know, so they are told none.
 *
 * ListBuckets answers with all names at once. They are given to the host in pages, the token being the
 * last name of the page before. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "attr.h"
#include "endpoint.h"
#include "error.h"
#include "ops.h"
#include "page.h"
#include "text.h"
#include "url.h"
#include "xml.h"

#define BUCKETS_BYTES_MAX ((uint64_t)16 << 20)
#define NAME_MAX_BYTES 255u /* of old buckets; new ones have 3 to 63 */

/* Which bucket is meant. */
static pst_rc find_name(const pst_backend *store, pst_op *op, pst_str name, pst_str *out)
{
    pst_str own = s3_str(store->bucket);
    if (name.len > 0 && name.ptr[name.len - 1] == '/')
        name.len--;
    *out = name.len > 0 ? name : own;
    if (out->len == 0)
        return s3_fail(op->err, PST_E_INVALID, "the bucket has no name");
    if (name.len > 0 && own.len > 0 && !s3_str_eq(name, own))
        return s3_fail(op->err, PST_E_INVALID, "a bucket holds no buckets: open s3://%.*s instead",
                       (int)(name.len < NAME_MAX_BYTES ? name.len : NAME_MAX_BYTES), name.ptr);
    if (out->len > NAME_MAX_BYTES || memchr(out->ptr, '/', out->len))
        return s3_fail(op->err, PST_E_INVALID, "this is no name of a bucket");
    return PST_OK;
}

static void on_created(struct s3_request *request, pst_rc rc, const pst_http_reply *reply)
{
    (void)reply;
    if (rc == PST_OK && s3_str_eq(request->bucket, s3_str(request->store->bucket)))
        atomic_store(&request->store->is_bucket_seen, 1);
    s3_complete(request->op, rc);
}

static void on_deleted(struct s3_request *request, pst_rc rc, const pst_http_reply *reply)
{
    (void)reply;
    if (rc == PST_OK)
        atomic_store(&request->store->is_bucket_seen, 0);
    s3_complete(request->op, rc);
}

/* Say where the bucket shall be. */
static pst_rc put_location(struct s3_request *request)
{
    pst_backend *store = request->store;
    char region[sizeof(store->locked.region)], *text = NULL;
    pst_iov *body = NULL;
    const size_t room = 256 + sizeof(region);
    pthread_mutex_lock(&store->mutex);
    memcpy(region, store->locked.region, sizeof(region));
    pthread_mutex_unlock(&store->mutex);
    if (!s3_endpoints_are_aws(store->endpoints) || region[0] == '\0' ||
        strcmp(region, "us-east-1") == 0)
        return PST_OK;
    text = s3_alloc(request->op, room);
    body = s3_alloc(request->op, sizeof(*body));
    if (!text || !body)
        return s3_fail(request->op->err, PST_E_NO_MEMORY, "out of memory");
    int len = snprintf(
        text, room,
        "<CreateBucketConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">"
        "<LocationConstraint>%s</LocationConstraint></CreateBucketConfiguration>",
        region);
    *body = (pst_iov){text, len > 0 ? (size_t)len : 0};
    request->body = body;
    request->n_body = 1;
    return PST_OK;
}

static pst_rc begin(pst_backend *store, pst_op *op, const char *method,
                    const pst_container_args *args)
{
    struct s3_request *request = &s3_call_of(op)->request;
    pst_str name;
    pst_rc rc = find_name(store, op, args->name, &name);
    if (rc != PST_OK)
        return rc;
    s3_request_init(request, store, op, method, pst_str_of(NULL, 0));
    request->bucket = name;
    request->flags = S3_CHANGES | S3_ONCE; /* a second one fails for the work of the first */
    return PST_OK;
}

pst_rc s3_container_create(pst_backend *store, pst_op *op, const pst_container_args *args,
                           pst_result *result)
{
    struct s3_request *request = &s3_call_of(op)->request;
    (void)result;
    pst_rc rc = begin(store, op, "PUT", args);
    request->done = on_created;
    if (rc == PST_OK)
        rc = put_location(request);
    return rc == PST_OK ? s3_request_send(request) : rc;
}

pst_rc s3_container_delete(pst_backend *store, pst_op *op, const pst_container_args *args,
                           pst_result *result)
{
    struct s3_request *request = &s3_call_of(op)->request;
    (void)result;
    pst_rc rc = begin(store, op, "DELETE", args);
    request->done = on_deleted;
    return rc == PST_OK ? s3_request_send(request) : rc;
}

/* ---- ListBuckets ------------------------------------------------------------------------------ */

static int32_t on_element(void *ctx, const char *path, pst_str text)
{
    struct s3_page *page = ctx;
    if (strcmp(path, "ListAllMyBucketsResult/Buckets/Bucket/Name") == 0)
        page->entry.key = s3_page_keep(page, text);
    else if (strcmp(path, "ListAllMyBucketsResult/Buckets/Bucket/CreationDate") == 0)
        page->entry.mtime_ns = s3_parse_iso_date(text);
    else if (strcmp(path, "ListAllMyBucketsResult/Buckets/Bucket") == 0 &&
             !s3_page_add(page, &page->prefixes, PST_KIND_PREFIX))
        return PST_E_NO_MEMORY;
    return PST_OK;
}

static int compare_names(const void *one, const void *other)
{
    const pst_entry *a = one, *b = other;
    size_t len = a->key.len < b->key.len ? a->key.len : b->key.len;
    int order = len > 0 ? memcmp(a->key.ptr, b->key.ptr, len) : 0;
    return order != 0 ? order : (a->key.len > b->key.len) - (a->key.len < b->key.len);
}

static pst_rc end_list(struct s3_request *request, const pst_http_reply *reply)
{
    pst_op *op = request->op;
    const pst_list_args *args = s3_call_of(op)->args;
    pst_list_result *result = s3_call_of(op)->result;
    struct s3_page page;
    const struct s3_xml handler = {
        .end = on_element, .ctx = &page, .root = "ListAllMyBucketsResult"};
    if (!s3_page_init(&page, op, reply->body, args))
        return s3_fail(op->err, PST_E_NO_MEMORY, "out of memory");
    pst_rc rc = s3_document_read(request, reply, &handler);
    if (rc != PST_OK)
        return rc;
    if (page.prefixes.n > 0) /* pages need an order */
        qsort(page.prefixes.at, page.prefixes.n, sizeof(page.prefixes.at[0]), compare_names);
    if (args->page_token.len > 0)
        page.start_after = args->page_token;
    pst_str next;
    rc = s3_page_emit_some(&page, args->max_entries, &next);
    S3_SET(pst_list_result, result, next_token, next);
    return rc;
}

static void on_list(struct s3_request *request, pst_rc rc, const pst_http_reply *reply)
{
    if (rc == PST_OK)
        rc = end_list(request, reply);
    s3_complete(request->op, rc);
}

pst_rc s3_container_list(pst_backend *store, pst_op *op, const pst_list_args *args,
                         pst_list_result *result)
{
    struct s3_call *call = s3_call_of(op);
    struct s3_request *request = &call->request;
    call->args = args;
    call->result = result;
    s3_request_init(request, store, op, "GET", pst_str_of(NULL, 0));
    request->bucket = pst_str_of(NULL, 0);
    request->body_max = BUCKETS_BYTES_MAX;
    request->done = on_list;
    return s3_request_send(request);
}
