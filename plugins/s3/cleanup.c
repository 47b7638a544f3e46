/* cleanup.c - ending the uploads that dead writers left below a prefix.
 *
 *     page of ListMultipartUploads -> for each that is old enough: its parts -> abort -> the next page
 *
 * How old an upload is the store's clock tells, both when it began (Initiated) and now (Date). How much
 * it holds is asked of its parts, since that is what it costs; one that has gone meanwhile counts for
 * nothing. An upload that cannot be ended does not stop the rest; the first such error is returned at
 * the end.
 *
 * MinIO lists the uploads of one exact key only: there nothing is found below a mere prefix. */
#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "attr.h"
#include "error.h"
#include "ops.h"
#include "page.h"
#include "text.h"
#include "xml.h"

#define PAGE_BYTES_MAX ((uint64_t)16 << 20)

struct upload {
    pst_str key, id;
    int64_t began_ns;
};

struct cleaning {
    pst_op *op;
    struct upload *uploads; /* of this page */
    size_t n, room, at;
    struct upload reading;
    pst_str next_key, next_id;
    int is_truncated, is_encoded, is_more_parts;
    uint64_t n_bytes; /* of the upload at hand */
    pst_str next_part;
    pst_rc rc; /* of the first that could not be ended */
    pst_error err;
};

static pst_rc next_upload(struct s3_request *request);
static pst_rc ask_for_page(struct s3_request *request);

static const pst_cleanup_args *args_of(const struct s3_request *request)
{
    return s3_call_of(request->op)->args;
}

static void end(pst_op *op, pst_rc rc)
{
    struct cleaning *c = s3_call_of(op)->state;
    if (rc == PST_OK && c->rc != PST_OK) {
        s3_error_copy(op->err, &c->err);
        rc = c->rc;
    }
    s3_complete(op, rc);
}

static void go_on(struct s3_request *request, pst_rc rc)
{
    pst_op *op = request->op;
    if (rc == PST_OK)
        rc = next_upload(request);
    if (rc != PST_PENDING)
        end(op, rc);
}

/* ---- one upload ------------------------------------------------------------------------------- */

static pst_rc report(struct s3_request *request)
{
    pst_op *op = request->op;
    struct cleaning *c = s3_call_of(op)->state;
    pst_cleanup_result *result = s3_call_of(op)->result;
    const struct upload *u = &c->uploads[c->at];
    const pst_entry entry = {
        .key = u->key, .size = c->n_bytes, .mtime_ns = u->began_ns, .kind = PST_KIND_OBJECT};
    result->n_removed++;
    if (PST_HAS(pst_cleanup_result, result, n_bytes))
        result->n_bytes += c->n_bytes;
    return op->host->list_emit(op->host, op, &entry, 1, sizeof(entry));
}

static void on_aborted(struct s3_request *request, pst_rc rc, const pst_http_reply *reply)
{
    struct cleaning *c = s3_call_of(request->op)->state;
    (void)reply;
    if (rc == PST_OK) {
        rc = report(request);
    } else if (rc != PST_E_NOT_FOUND && rc != PST_E_CANCELLED) {
        if (c->rc == PST_OK) {
            c->rc = rc;
            c->err = (pst_error)PST_ERROR_INIT;
            s3_error_copy(&c->err, request->err);
        }
        rc = PST_OK;
    } else if (rc == PST_E_NOT_FOUND) {
        rc = PST_OK; /* somebody was faster */
    }
    c->at++;
    go_on(request, rc);
}

static int32_t on_part_element(void *ctx, const char *path, pst_str text)
{
    struct cleaning *c = ctx;
    uint64_t size = 0;
    if (strcmp(path, "ListPartsResult/Part/Size") == 0) {
        if (s3_parse_u64(text, &size))
            c->n_bytes += size;
    } else if (strcmp(path, "ListPartsResult/IsTruncated") == 0) {
        c->is_more_parts = s3_str_is(text, "true");
    } else if (strcmp(path, "ListPartsResult/NextPartNumberMarker") == 0) {
        c->next_part = s3_keep(c->op, text);
    }
    return PST_OK;
}

static pst_rc ask_for_parts(struct s3_request *request);

static void on_parts(struct s3_request *request, pst_rc rc, const pst_http_reply *reply)
{
    struct cleaning *c = s3_call_of(request->op)->state;
    const struct upload *u = &c->uploads[c->at];
    int is_dry = (args_of(request)->flags & PST_CLEANUP_DRY_RUN) != 0;
    const struct s3_xml handler = {.end = on_part_element, .ctx = c};
    pst_str before = c->next_part;
    if (rc == PST_E_CANCELLED) {
        end(request->op, rc);
        return;
    }
    c->is_more_parts = 0;
    int is_gone = rc == PST_E_NOT_FOUND;
    if (rc == PST_OK)
        (void)s3_xml_parse(reply->body, &handler); /* the figure is a courtesy */
    if (c->is_more_parts && c->next_part.len > 0 && !s3_str_eq(before, c->next_part)) {
        rc = ask_for_parts(request);
        if (rc != PST_PENDING)
            end(request->op, rc);
        return;
    }
    if (is_gone || is_dry) {
        rc = is_gone ? PST_OK : report(request);
        c->at++;
        go_on(request, rc);
        return;
    }
    s3_request_init(request, request->store, request->op, "DELETE", u->key);
    s3_request_param(request, "uploadId", u->id);
    request->done = on_aborted;
    rc = s3_request_send(request);
    if (rc != PST_PENDING)
        end(request->op, rc);
}

static pst_rc ask_for_parts(struct s3_request *request)
{
    struct cleaning *c = s3_call_of(request->op)->state;
    const struct upload *u = &c->uploads[c->at];
    s3_request_init(request, request->store, request->op, "GET", u->key);
    s3_request_param(request, "uploadId", u->id);
    if (c->next_part.len > 0)
        s3_request_param(request, "part-number-marker", c->next_part);
    request->body_max = PAGE_BYTES_MAX;
    request->done = on_parts;
    return s3_request_send(request);
}

/* PENDING, or OK when there is none. */
static pst_rc next_upload(struct s3_request *request)
{
    struct cleaning *c = s3_call_of(request->op)->state;
    if (c->at < c->n) {
        c->n_bytes = 0;
        c->next_part = pst_str_of(NULL, 0);
        return ask_for_parts(request);
    }
    return c->is_truncated ? ask_for_page(request) : PST_OK;
}

/* ---- a page of uploads ------------------------------------------------------------------------ */

static int add_upload(struct cleaning *c)
{
    if (c->n == c->room) {
        size_t room = c->room ? 2 * c->room : 64;
        struct upload *uploads = s3_alloc(c->op, room * sizeof(*uploads));
        if (!uploads)
            return 0;
        if (c->n > 0)
            memcpy(uploads, c->uploads, c->n * sizeof(*uploads));
        c->uploads = uploads;
        c->room = room;
    }
    if (c->reading.key.len > 0 && c->reading.id.len > 0)
        c->uploads[c->n++] = c->reading;
    c->reading = (struct upload){.began_ns = PST_TIME_UNKNOWN};
    return 1;
}

static int32_t on_element(void *ctx, const char *path, pst_str text)
{
    static const char stem[] = "ListMultipartUploadsResult/";
    struct cleaning *c = ctx;
    if (strncmp(path, stem, sizeof(stem) - 1) != 0)
        return PST_OK;
    path += sizeof(stem) - 1;
    if (strcmp(path, "Upload/Key") == 0)
        c->reading.key = s3_keep(c->op, text);
    else if (strcmp(path, "Upload/UploadId") == 0)
        c->reading.id = s3_keep(c->op, text);
    else if (strcmp(path, "Upload/Initiated") == 0)
        c->reading.began_ns = s3_parse_iso_date(text);
    else if (strcmp(path, "Upload") == 0 && !add_upload(c))
        return PST_E_NO_MEMORY;
    else if (strcmp(path, "IsTruncated") == 0)
        c->is_truncated = s3_str_is(text, "true");
    else if (strcmp(path, "EncodingType") == 0)
        c->is_encoded = s3_str_is(text, "url");
    else if (strcmp(path, "NextKeyMarker") == 0)
        c->next_key = s3_keep(c->op, text);
    else if (strcmp(path, "NextUploadIdMarker") == 0)
        c->next_id = s3_keep(c->op, text);
    return PST_OK;
}

/* Returns 0 when it is broken. */
static int decode(const struct cleaning *c, pst_str *text)
{
    if (!c->is_encoded || text->len == 0)
        return 1;
    text->len = s3_percent_decode((char *)(uintptr_t)text->ptr, text->len); /* s3_keep made it */
    return text->len != SIZE_MAX;
}

/* Decode the keys and forget the uploads that are too young or not below the prefix. */
static int choose(struct cleaning *c, const pst_cleanup_args *args, int64_t now_ns)
{
    int64_t before_ns = INT64_MIN;
    size_t n = 0;
    if (args->older_than_s == 0)
        before_ns = INT64_MAX; /* the clock in replies may lag: versitygw's does */
    else if (args->older_than_s < (uint64_t)(now_ns / 1000000000))
        before_ns = now_ns - (int64_t)args->older_than_s * 1000000000;
    for (size_t i = 0; i < c->n; i++) {
        struct upload *u = &c->uploads[i];
        if (!decode(c, &u->key))
            return 0;
        if (u->began_ns != PST_TIME_UNKNOWN && u->began_ns <= before_ns &&
            s3_starts_with(u->key, args->prefix))
            c->uploads[n++] = *u;
    }
    c->n = n;
    return decode(c, &c->next_key);
}

static void on_page(struct s3_request *request, pst_rc rc, const pst_http_reply *reply)
{
    pst_op *op = request->op;
    struct cleaning *c = s3_call_of(op)->state;
    const struct s3_xml handler = {
        .end = on_element, .ctx = c, .root = "ListMultipartUploadsResult"};
    pst_str before_key = c->next_key, before_id = c->next_id;
    if (rc != PST_OK) {
        end(op, rc);
        return;
    }
    int64_t now_ns = s3_parse_http_date(s3_header(reply->headers, reply->n_headers, "date"));
    if (now_ns == PST_TIME_UNKNOWN)
        now_ns = (int64_t)time(NULL) * 1000000000;
    c->n = c->at = 0;
    c->is_truncated = c->is_encoded = 0;
    c->next_key = c->next_id = pst_str_of(NULL, 0);
    c->reading = (struct upload){.began_ns = PST_TIME_UNKNOWN};
    rc = s3_document_read(request, reply, &handler);
    if (rc != PST_OK) {
        end(op, rc);
        return;
    }
    if (!choose(c, args_of(request), now_ns))
        rc = PST_E_DATA_LOSS;
    if (rc == PST_OK && c->is_truncated &&
        (c->next_key.len == 0 ||
         (s3_str_eq(before_key, c->next_key) && s3_str_eq(before_id, c->next_id))))
        rc = PST_E_DATA_LOSS; /* it goes on, and nobody says where */
    if (rc != PST_OK)
        rc = s3_fail(op->err, rc, "the list of uploads is malformed");
    go_on(request, rc);
}

static pst_rc ask_for_page(struct s3_request *request)
{
    struct cleaning *c = s3_call_of(request->op)->state;
    pst_str prefix = s3_askable(args_of(request)->prefix);
    s3_request_init(request, request->store, request->op, "GET", pst_str_of(NULL, 0));
    s3_request_param(request, "uploads", PST_STR(""));
    s3_request_param(request, "encoding-type", PST_STR("url"));
    s3_request_param(request, "max-uploads", PST_STR("1000"));
    if (prefix.len > 0)
        s3_request_param(request, "prefix", prefix);
    if (c->next_key.len > 0)
        s3_request_param(request, "key-marker", c->next_key);
    if (c->next_id.len > 0)
        s3_request_param(request, "upload-id-marker", c->next_id);
    request->body_max = PAGE_BYTES_MAX;
    request->done = on_page;
    return s3_request_send(request);
}

pst_rc s3_cleanup(pst_backend *store, pst_op *op, const pst_cleanup_args *args,
                  pst_cleanup_result *result)
{
    struct s3_call *call = s3_call_of(op);
    pst_rc rc = s3_bucket_check(store, op);
    if (rc != PST_OK || !s3_is_prefix_possible(args->prefix))
        return rc;
    struct cleaning *c = s3_alloc(op, sizeof(*c));
    if (!c)
        return s3_fail(op->err, PST_E_NO_MEMORY, "out of memory");
    memset(c, 0, sizeof(*c));
    c->op = op;
    call->args = args;
    call->result = result;
    call->state = c;
    result->n_removed = 0;
    S3_SET(pst_cleanup_result, result, n_bytes, 0);
    s3_request_init(&call->request, store, op, "GET", pst_str_of(NULL, 0));
    return ask_for_page(&call->request);
}
