/* upload.c - an object in parts: open, part, abort. The commit is upload_commit.c.
 *
 * Parts may come in any order and side by side; what is kept of each is where it lies, how long it is,
 * the etag that the store gave for it and the checksum that went with it. A part that is sent again is
 * skipped when the store has it.
 *
 * Only the commit is conditional, but whether the store obeys conditions there is found out before the
 * first byte is sent.
 *
 * Abort: parts whose reply was lost, or that were cancelled, may still be on their way into the store
 * and keep an upload alive that was aborted before they arrived (AWS says so). After such a part the
 * abort is repeated until the store knows no upload. What a process that dies leaves behind is removed
 * by cleanup. */
#include "upload.h"

#include <string.h>

#include "attr.h"
#include "config.h"
#include "error.h"
#include "ops.h"
#include "probe.h"
#include "xml.h"

#define ABORTS_MAX 4u

pst_str s3_own(const pst_host *host, pst_str text)
{
    char *copy = text.len > 0 ? host->alloc(host, text.len + 1, 16) : NULL;
    if (!copy)
        return pst_str_of(NULL, 0);
    memcpy(copy, text.ptr, text.len);
    copy[text.len] = '\0';
    return pst_str_of(copy, text.len);
}

static void disown(const pst_host *host, pst_str text)
{
    if (text.ptr)
        host->dealloc(host, (char *)(uintptr_t)text.ptr);
}

void s3_upload_free(pst_upload *upload)
{
    const pst_host *host = upload->store->host;
    for (uint32_t i = 0; i < upload->locked.n; i++) {
        if (upload->locked.parts[i].etag)
            host->dealloc(host, upload->locked.parts[i].etag);
    }
    if (upload->locked.parts)
        host->dealloc(host, upload->locked.parts);
    disown(host, upload->locked.etag);
    disown(host, upload->locked.version);
    disown(host, upload->key);
    disown(host, upload->id);
    disown(host, upload->if_match);
    pthread_mutex_destroy(&upload->mutex);
    host->dealloc(host, upload);
}

/* ---- open ------------------------------------------------------------------------------------- */

static int32_t on_element(void *ctx, const char *path, pst_str text)
{
    struct s3_call *call = ctx;
    if (strcmp(path, "InitiateMultipartUploadResult/UploadId") != 0)
        return PST_OK;
    const pst_str id = s3_keep(call->request.op, text);
    if (text.len > 0 && !id.ptr)
        return PST_E_NO_MEMORY;
    *(pst_str *)call->state = id;
    return PST_OK;
}

static pst_rc new_upload(struct s3_request *request, pst_str id)
{
    struct s3_call *call = s3_call_of(request->op);
    const pst_put_args *args = call->args;
    pst_upload_result *result = call->result;
    const pst_host *host = request->store->host;
    pst_upload *upload = host->alloc(host, sizeof(*upload), 64);
    if (!upload)
        return PST_E_NO_MEMORY;
    memset(upload, 0, sizeof(*upload));
    upload->store = request->store;
    upload->key = s3_own(host, args->key);
    upload->id = s3_own(host, id);
    upload->if_match = s3_own(host, args->if_match);
    upload->is_create_only = (args->flags & PST_PUT_CREATE_ONLY) != 0;
    upload->algorithm = request->store->config->checksum;
    pthread_mutex_init(&upload->mutex, NULL);
    if (!upload->key.ptr || !upload->id.ptr || upload->if_match.len != args->if_match.len) {
        s3_upload_free(upload);
        return PST_E_NO_MEMORY;
    }
    result->upload = upload;
    return PST_OK;
}

static void on_discarded(struct s3_request *request, pst_rc rc, const pst_http_reply *reply)
{
    (void)rc;
    (void)reply;
    s3_end(request->op, s3_fail(request->err, PST_E_NO_MEMORY, "out of memory"));
}

/* There is an upload at the store and no memory to go on with it. */
static pst_rc discard(struct s3_request *request, pst_str id)
{
    const pst_put_args *args = s3_call_of(request->op)->args;
    s3_request_init(request, request->store, request->op, "DELETE", args->key);
    request->done = on_discarded;
    s3_request_param(request, "uploadId", id);
    return s3_request_send(request);
}

static void on_open(struct s3_request *request, pst_rc rc, const pst_http_reply *reply)
{
    pst_op *op = request->op;
    struct s3_problem problem;
    pst_str id = {NULL, 0};
    if (rc == PST_OK && s3_problem_parse(reply->body, &problem)) {
        rc = s3_error_from_document(request, &problem, reply);
    } else if (rc == PST_OK) {
        const struct s3_xml handler = {.end = on_element, .ctx = s3_call_of(op)};
        s3_call_of(op)->state = &id;
        rc = s3_xml_parse(reply->body, &handler);
        if (rc == PST_OK && id.len == 0)
            rc = PST_E_DATA_LOSS;
        if (rc == PST_OK)
            rc = new_upload(request, id);
        if (rc == PST_E_NO_MEMORY && id.len > 0 && discard(request, id) == PST_PENDING)
            return;
        if (rc != PST_OK)
            (void)s3_fail(op->err, rc,
                          rc == PST_E_NO_MEMORY ? "out of memory" : "the store gave no upload id");
    }
    s3_end(op, rc);
}

static void go_on(pst_op *op, pst_rc rc)
{
    if (rc == PST_OK)
        rc = s3_request_send(&s3_call_of(op)->request);
    if (rc != PST_PENDING)
        s3_end(op, rc);
}

pst_rc s3_upload_open(pst_backend *store, pst_op *op, const pst_put_args *args,
                      pst_upload_result *result)
{
    struct s3_call *call = s3_call_of(op);
    struct s3_request *request = &call->request;
    pst_rc rc = s3_key_check(store, op, args->key);
    if (rc != PST_OK)
        return rc;
    call->args = args;
    call->result = result;
    call->go_on = go_on;
    s3_request_init(request, store, op, "POST", args->key);
    request->done = on_open;
    request->flags = S3_ONCE; /* a second one would be an upload that nobody ends */
    s3_request_param(request, "uploads", PST_STR(""));
    rc = s3_attr_send(request, args->attr);
    if (rc != PST_OK)
        return rc;
    s3_new_object_send(request, args->attr);
    const char *algorithm = s3_sum_name(store->config->checksum);
    if (algorithm) {
        s3_request_headerf(request, "x-amz-checksum-algorithm", "%s", algorithm);
        s3_request_headerf(request, "x-amz-checksum-type", "%s",
                           s3_is_full_object(store->config->checksum) ? "FULL_OBJECT"
                                                                      : "COMPOSITE");
    }
    if ((args->flags & PST_PUT_CREATE_ONLY) || args->if_match.len > 0)
        rc = s3_probe_need(store->probe, op,
                           args->if_match.len > 0 ? S3_COMPLETE_MATCH : S3_COMPLETE_CREATE,
                           args->key);
    return rc == PST_OK ? s3_request_send(request) : rc;
}

/* ---- part ------------------------------------------------------------------------------------- */

static int make_room_locked(pst_upload *upload, uint32_t number)
{
    const pst_host *host = upload->store->host;
    uint32_t room = upload->locked.room ? upload->locked.room : 16;
    while (room <= number)
        room *= 2;
    if (number >= upload->locked.room) {
        struct s3_part *parts = host->alloc(host, room * sizeof(*parts), 16);
        if (!parts)
            return 0;
        memset(parts, 0, room * sizeof(*parts));
        if (upload->locked.n > 0)
            memcpy(parts, upload->locked.parts, upload->locked.n * sizeof(*parts));
        if (upload->locked.parts)
            host->dealloc(host, upload->locked.parts);
        upload->locked.parts = parts;
        upload->locked.room = room;
    }
    if (number >= upload->locked.n)
        upload->locked.n = number + 1;
    return 1;
}

int s3_upload_keep_part(pst_upload *upload, uint32_t number, const struct s3_part *part,
                        pst_str etag)
{
    const pst_host *host = upload->store->host;
    pst_str own = s3_own(host, etag);
    if (!own.ptr)
        return 0;
    pthread_mutex_lock(&upload->mutex);
    int is_kept = make_room_locked(upload, number);
    if (is_kept) {
        struct s3_part *to = &upload->locked.parts[number];
        if (to->etag)
            host->dealloc(host, to->etag);
        *to = *part;
        to->etag = (char *)(uintptr_t)own.ptr;
    }
    pthread_mutex_unlock(&upload->mutex);
    if (!is_kept)
        disown(host, own);
    return is_kept;
}

static uint64_t length_of(const pst_part_args *args)
{
    uint64_t length = 0;
    for (size_t i = 0; i < args->n_src; i++)
        length += args->src[i].len;
    return length;
}

static void on_part(struct s3_request *request, pst_rc rc, const pst_http_reply *reply)
{
    pst_op *op = request->op;
    struct s3_call *call = s3_call_of(op);
    const pst_part_args *args = call->args;
    pst_upload *upload = call->state;
    if (rc == PST_OK) {
        struct s3_part part = {.offset = args->offset, .length = length_of(args)};
        uint32_t strength;
        const pst_sum *sum = s3_sum_find(args->sums, args->n_sums, args->sum_stride,
                                         upload->algorithm);
        if (sum && upload->algorithm)
            part.sum = *sum;
        pst_str header = s3_header(reply->headers, reply->n_headers, "etag");
        pst_str etag = s3_keep_etag(op, header, &strength);
        if (header.len == 0)
            rc = s3_fail(op->err, PST_E_DATA_LOSS, "the store gave no etag for the part");
        else if (!etag.ptr || !s3_upload_keep_part(upload, args->number, &part, etag))
            rc = s3_fail(op->err, PST_E_NO_MEMORY, "out of memory");
    } else if (!reply || reply->status == 0 || reply->status >= 500) {
        /* It may arrive yet, a gateway that gave up says nothing else. */
        pthread_mutex_lock(&upload->mutex);
        upload->locked.has_stray = 1;
        pthread_mutex_unlock(&upload->mutex);
    }
    s3_end(op, rc);
}

/* OK: the store has it already. PENDING: it is to be sent. */
static pst_rc look_up(pst_upload *upload, pst_op *op, const pst_part_args *args)
{
    pst_rc rc = PST_PENDING;
    if (args->number >= S3_PARTS_MAX)
        return s3_fail(op->err, PST_E_INVALID, "S3 takes %u parts", S3_PARTS_MAX);
    pthread_mutex_lock(&upload->mutex);
    const struct s3_part *part = args->number < upload->locked.n
                                     ? &upload->locked.parts[args->number]
                                     : NULL;
    if (part && part->etag && part->offset == args->offset && part->length == length_of(args))
        rc = PST_OK;
    else if (upload->locked.state != S3_UPLOAD_OPEN)
        rc = s3_fail(op->err, PST_E_PRECONDITION, "the upload has ended");
    pthread_mutex_unlock(&upload->mutex);
    return rc;
}

pst_rc s3_upload_part(pst_upload *upload, pst_op *op, const pst_part_args *args, pst_result *result)
{
    struct s3_call *call = s3_call_of(op);
    struct s3_request *request = &call->request;
    pst_rc rc = look_up(upload, op, args);
    if (rc != PST_PENDING)
        return rc;
    call->args = args;
    call->result = result;
    call->state = upload;
    s3_request_init(request, upload->store, op, "PUT", upload->key);
    request->done = on_part;
    s3_request_paramf(request, "partNumber", "%u", args->number + 1);
    s3_request_param(request, "uploadId", upload->id);
    s3_part_sums_send(request, upload->algorithm, args->sums, args->n_sums, args->sum_stride);
    s3_sse_c_headers(request, 0);
    request->body = args->src;
    request->n_body = args->n_src;
    return s3_request_send(request);
}

/* ---- abort ------------------------------------------------------------------------------------ */

static void on_abort(struct s3_request *request, pst_rc rc, const pst_http_reply *reply);

static pst_rc send_abort(pst_upload *upload, pst_op *op)
{
    struct s3_request *request = &s3_call_of(op)->request;
    s3_request_init(request, upload->store, op, "DELETE", upload->key);
    request->done = on_abort;
    s3_request_param(request, "uploadId", upload->id);
    return s3_request_send(request);
}

static void on_abort(struct s3_request *request, pst_rc rc, const pst_http_reply *reply)
{
    pst_op *op = request->op;
    struct s3_call *call = s3_call_of(op);
    pst_upload *upload = call->state;
    uint32_t *n_sent = call->result;
    (void)reply;
    int is_gone = rc == PST_E_NOT_FOUND;
    pthread_mutex_lock(&upload->mutex);
    int is_again = rc == PST_OK && upload->locked.has_stray && ++*n_sent < ABORTS_MAX;
    if (is_gone || (rc == PST_OK && !is_again))
        upload->locked.state = S3_UPLOAD_ABORTED;
    pthread_mutex_unlock(&upload->mutex);
    if (is_again)
        rc = send_abort(upload, op);
    if (rc != PST_PENDING)
        s3_end(op, is_gone ? PST_OK : rc);
}

pst_rc s3_upload_abort(pst_upload *upload, pst_op *op, const pst_abort_args *args,
                       pst_result *result)
{
    struct s3_call *call = s3_call_of(op);
    (void)args;
    (void)result;
    pthread_mutex_lock(&upload->mutex);
    int is_over = upload->locked.state != S3_UPLOAD_OPEN;
    pthread_mutex_unlock(&upload->mutex);
    if (is_over)
        return PST_OK; /* what was committed stays */
    uint32_t *n_sent = s3_alloc(op, sizeof(*n_sent));
    if (!n_sent)
        return s3_fail(op->err, PST_E_NO_MEMORY, "out of memory");
    *n_sent = 0;
    call->state = upload;
    call->result = n_sent;
    return send_abort(upload, op);
}
