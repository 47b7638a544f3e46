/* list.c - listings: ListObjectsV2 and ListObjectVersions, a page by token.
 *
 * The token of a listing is the store's continuation token as it is; of a listing of versions it is the
 * pair of markers, the length of the first in front. A page that says it is not the last and names no
 * next one is an error, and so is any other document under a 200 (an error of the store, the page of a
 * proxy): the rest of a listing is never left out in silence.
 *
 * A key that S3 could not hold cannot be listed: a prefix that is not UTF-8 has no keys. */
#include <string.h>

#include "attr.h"
#include "error.h"
#include "ops.h"
#include "page.h"
#include "text.h"
#include "xml.h"

#define PAGE_BYTES_MAX ((uint64_t)32 << 20)
#define PAGE_ENTRIES_MAX 1000u

/* ---- what both listings have ------------------------------------------------------------------ */

/* Elements of the page itself. */
static void take_page_field(struct s3_page *page, const char *name, pst_str text)
{
    if (strcmp(name, "IsTruncated") == 0)
        page->is_truncated = s3_str_is(text, "true");
    else if (strcmp(name, "EncodingType") == 0)
        page->is_encoded = s3_str_is(text, "url");
    else if (strcmp(name, "NextContinuationToken") == 0)
        page->token = s3_page_keep(page, text);
    else if (strcmp(name, "NextKeyMarker") == 0)
        page->next_key = s3_page_keep(page, text);
    else if (strcmp(name, "NextVersionIdMarker") == 0)
        page->next_version = s3_page_keep(page, text);
}

static int32_t on_end(void *ctx, const char *path, pst_str text)
{
    struct s3_page *page = ctx;
    const char *name = strchr(path, '/');
    int is_kept = 1;
    if (!name)
        return PST_OK;
    name++;
    const char *leaf = strchr(name, '/');
    size_t len = leaf ? (size_t)(leaf - name) : strlen(name);
    pst_str parent = pst_str_of(name, len);
    int is_object = s3_str_is(parent, "Contents") || s3_str_is(parent, "Version");
    int is_marker = s3_str_is(parent, "DeleteMarker");
    if (is_object || is_marker) {
        if (leaf) {
            s3_page_field(page, leaf + 1, text);
        } else {
            page->entry.flags |= is_marker ? PST_ENTRY_DELETE_MARKER : 0;
            is_kept = s3_page_add(page, &page->objects, PST_KIND_OBJECT);
        }
    } else if (s3_str_is(parent, "CommonPrefixes")) {
        if (leaf && strcmp(leaf, "/Prefix") == 0) {
            page->entry.key = s3_page_keep(page, text);
            is_kept = s3_page_add(page, &page->prefixes, PST_KIND_PREFIX);
        }
    } else if (!leaf) {
        take_page_field(page, name, text);
    }
    return is_kept ? PST_OK : PST_E_NO_MEMORY;
}

/* "<two bytes: length of the key><key><version>" */
static pst_rc make_version_token(struct s3_page *page, pst_str *out)
{
    pst_op *op = page->op;
    pst_str key = page->next_key, version = page->next_version;
    char *text = s3_alloc(op, 2 + key.len + version.len);
    if (!text)
        return s3_fail(op->err, PST_E_NO_MEMORY, "out of memory");
    if (key.len > 0)
        memcpy(text + 2, key.ptr, key.len);
    if (page->is_encoded)
        key.len = s3_percent_decode(text + 2, key.len);
    if (key.len > UINT16_MAX)
        return s3_fail(op->err, PST_E_DATA_LOSS, "the listing holds a broken percent-encoding");
    text[0] = (char)(key.len >> 8);
    text[1] = (char)(key.len & 0xff);
    if (version.len > 0)
        memcpy(text + 2 + key.len, version.ptr, version.len);
    *out = pst_str_of(text, 2 + key.len + version.len);
    return PST_OK;
}

static pst_rc end_page(struct s3_request *request, const pst_http_reply *reply)
{
    pst_op *op = request->op;
    struct s3_call *call = s3_call_of(op);
    const pst_list_args *args = call->args;
    pst_list_result *result = call->result;
    struct s3_page page;
    int is_versions = (args->flags & PST_LIST_VERSIONS) != 0;
    const struct s3_xml handler = {.end = on_end,
                                   .ctx = &page,
                                   .root = is_versions ? "ListVersionsResult" : "ListBucketResult"};
    pst_str next = {NULL, 0};
    if (!s3_page_init(&page, op, reply->body, args))
        return s3_fail(op->err, PST_E_NO_MEMORY, "out of memory");
    pst_rc rc = s3_document_read(request, reply, &handler);
    if (rc != PST_OK)
        return rc;
    if (page.is_truncated) {
        next = is_versions ? page.next_key : page.token;
        if (next.len == 0)
            return s3_fail(op->err, PST_E_DATA_LOSS,
                           "the listing goes on and the store does not say where");
        rc = is_versions ? make_version_token(&page, &next) : PST_OK;
    }
    if (rc == PST_OK)
        rc = s3_page_emit(&page);
    if (rc == PST_OK)
        S3_SET(pst_list_result, result, next_token, next);
    return rc;
}

static void on_done(struct s3_request *request, pst_rc rc, const pst_http_reply *reply)
{
    if (rc == PST_OK) {
        atomic_store_explicit(&request->store->is_bucket_seen, 1, memory_order_relaxed);
        rc = end_page(request, reply);
    }
    s3_complete(request->op, rc);
}

/* ---- the request ------------------------------------------------------------------------------ */

static pst_rc fill_versions(struct s3_request *request, const pst_list_args *args)
{
    pst_str token = args->page_token, start = s3_askable(args->start_after);
    s3_request_param(request, "versions", PST_STR(""));
    if (token.len > 0) {
        size_t len = token.len < 2 ? SIZE_MAX
                                   : (size_t)(uint8_t)token.ptr[0] << 8 | (uint8_t)token.ptr[1];
        if (len > token.len - 2)
            return s3_fail(request->op->err, PST_E_INVALID, "this is no token of a listing");
        s3_request_param(request, "key-marker", pst_str_of(token.ptr + 2, len));
        if (token.len - 2 > len)
            s3_request_param(request, "version-id-marker",
                             pst_str_of(token.ptr + 2 + len, token.len - 2 - len));
    } else if (start.len > 0) {
        s3_request_param(request, "key-marker", start);
    }
    return PST_OK;
}

static pst_rc fill_objects(struct s3_request *request, const pst_list_args *args)
{
    pst_str start = s3_askable(args->start_after);
    s3_request_param(request, "list-type", PST_STR("2"));
    if (args->page_token.len > 0)
        s3_request_param(request, "continuation-token", args->page_token);
    else if (start.len > 0)
        s3_request_param(request, "start-after", start);
    return PST_OK;
}

pst_rc s3_list(pst_backend *store, pst_op *op, const pst_list_args *args, pst_list_result *result)
{
    struct s3_call *call = s3_call_of(op);
    struct s3_request *request = &call->request;
    pst_rc rc = s3_bucket_check(store, op);
    if (rc != PST_OK || !s3_is_prefix_possible(args->prefix))
        return rc;
    call->args = args;
    call->result = result;
    s3_request_init(request, store, op, "GET", pst_str_of(NULL, 0));
    request->body_max = PAGE_BYTES_MAX;
    request->done = on_done;
    rc = args->flags & PST_LIST_VERSIONS ? fill_versions(request, args)
                                         : fill_objects(request, args);
    if (rc != PST_OK)
        return rc;
    pst_str prefix = s3_askable(args->prefix);
    s3_request_param(request, "encoding-type", PST_STR("url"));
    if (prefix.len > 0)
        s3_request_param(request, "prefix", prefix);
    if (!(args->flags & PST_LIST_RECURSIVE))
        s3_request_param(request, "delimiter", PST_STR("/"));
    if (args->max_entries > 0)
        s3_request_paramf(request, "max-keys", "%u",
                          args->max_entries < PAGE_ENTRIES_MAX ? args->max_entries
                                                               : PAGE_ENTRIES_MAX);
    return s3_request_send(request);
}
