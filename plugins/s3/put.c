/* put.c - an object in one request.
 *
 * Attributes, checksums and the condition travel as headers, the bytes straight from the caller's
 * memory. A reply of success is the store's word that it has all of Content-Length, so the size needs
 * no second look.
 *
 * Conditions (create-only, if-match) are only sent to a store that is known to obey them: probe.c finds
 * out first. And they are what makes a lost reply hard: see look.c. When the look shows that nothing of
 * ours is there the host may try again: should the lost request still arrive, the next attempt meets it
 * with 412 and looks again. */
#include <string.h>

#include "attr.h"
#include "error.h"
#include "look.h"
#include "ops.h"
#include "probe.h"

struct put {
    struct s3_look look; /* first */
    uint64_t size;
    pst_rc rc; /* of the PUT */
    int is_conditional;
};

static void on_found(pst_op *op, const struct s3_look *look, const pst_put_result *now)
{
    struct s3_call *call = s3_call_of(op);
    const struct put *put = call->state;
    const pst_put_args *args = call->args;
    pst_put_result *result = call->result;
    pst_rc rc = put->rc;
    int is_untouched = args->if_match.len > 0 && s3_str_eq(args->if_match, now->etag);
    if (look->verdict == S3_LOOK_OURS) {
        result->etag = now->etag;
        result->etag_strength = now->etag_strength;
        S3_SET(pst_put_result, result, version, now->version);
        result->size = put->size;
        rc = PST_OK;
    } else if (look->verdict != S3_LOOK_UNCLEAR || is_untouched) {
        op->flags |= PST_OP_REPEATABLE;
    }
    s3_complete(op, rc);
}

static void on_done(struct s3_request *request, pst_rc rc, const pst_http_reply *reply)
{
    pst_op *op = request->op;
    struct s3_call *call = s3_call_of(op);
    struct put *put = call->state;
    const pst_put_args *args = call->args;
    if (rc == PST_OK) {
        atomic_store_explicit(&request->store->is_bucket_seen, 1, memory_order_relaxed);
        s3_put_take(op, reply, put->size, call->result);
    } else if (put->is_conditional && s3_look_is_due(op, rc)) {
        put->rc = rc;
        put->look.key = args->key;
        put->look.size = put->size;
        put->look.src = args->src;
        put->look.n_src = args->n_src;
        put->look.sums = args->sums;
        put->look.n_sums = args->n_sums;
        put->look.sum_stride = args->sum_stride;
        put->look.found = on_found;
        s3_look(&put->look, request->store, op);
        return;
    }
    s3_complete(op, rc);
}

/* The probe has answered. */
static void go_on(pst_op *op, pst_rc rc)
{
    if (rc == PST_OK)
        rc = s3_request_send(&s3_call_of(op)->request);
    if (rc != PST_PENDING)
        s3_complete(op, rc);
}

static pst_rc fill(struct s3_request *request, const pst_put_args *args)
{
    pst_rc rc = s3_attr_send(request, args->attr);
    if (rc != PST_OK)
        return rc;
    s3_new_object_send(request, args->attr);
    s3_sums_send(request, args->sums, args->n_sums, args->sum_stride);
    if (args->flags & PST_PUT_CREATE_ONLY)
        s3_request_header(request, "if-none-match", PST_STR("*"));
    s3_request_header(request, "if-match", args->if_match);
    request->body = args->src;
    request->n_body = args->n_src;
    request->flags = S3_CHANGES;
    return PST_OK;
}

pst_rc s3_put(pst_backend *store, pst_op *op, const pst_put_args *args, pst_put_result *result)
{
    struct s3_call *call = s3_call_of(op);
    struct s3_request *request = &call->request;
    pst_rc rc = s3_key_check(store, op, args->key);
    if (rc != PST_OK)
        return rc;
    struct put *put = s3_alloc(op, sizeof(*put));
    if (!put)
        return s3_fail(op->err, PST_E_NO_MEMORY, "out of memory");
    memset(put, 0, sizeof(*put));
    for (size_t i = 0; i < args->n_src; i++)
        put->size += args->src[i].len;
    put->is_conditional = (args->flags & PST_PUT_CREATE_ONLY) != 0 || args->if_match.len > 0;
    call->args = args;
    call->result = result;
    call->state = put;
    call->go_on = go_on;
    s3_request_init(request, store, op, "PUT", args->key);
    request->done = on_done;
    rc = fill(request, args);
    if (rc != PST_OK || !put->is_conditional)
        return rc == PST_OK ? s3_request_send(request) : rc;
    request->flags |= S3_IS_CONDITIONAL;
    rc = s3_probe_need(store->probe, op, args->if_match.len > 0 ? S3_PUT_MATCH : S3_PUT_CREATE,
                       args->key);
    return rc == PST_OK ? s3_request_send(request) : rc;
}
