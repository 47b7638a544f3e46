/* request.c - one signed exchange with the store.
 *
 *     s3_request_send -> credentials -> s3_attempt (attempt.c) -> http
 *                             |               ^
 *                   (PENDING: on_identity)    | put right: s3_correct (correct.c)
 *                                             |
 *                          http done ---------+--> request->done
 *
 * Cancelling meets a request in one of three places: waiting for credentials (it leaves the line and is
 * done here), at the service (which ends it), or between the two, inside a call of ours. For the last
 * one is_cancelled is set before the id is looked for, and looked at after the id is stored: one of the
 * two sides sees the other. A callback that overtakes the return of the call that started it waits for
 * is_sending, a few instructions, before it may end the operation and with it the request's memory. */
#include "request.h"

#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "attempt.h"
#include "config.h"
#include "endpoint.h"
#include "error.h"
#include "s3.h"
#include "text.h"
#include "url.h"

/* ---- filling a request ------------------------------------------------------------------------ */

void s3_request_init(struct s3_request *r, pst_backend *store, pst_op *op, const char *method,
                     pst_str key)
{
    __atomic_store_n(&r->store, store, __ATOMIC_RELAXED); /* the same again; a cancel reads it */
    r->op = op;
    r->err = op->err;
    r->method = method;
    r->bucket = s3_str(store->bucket);
    r->key = key;
    r->flags = r->n_params = r->n_headers = r->presign_s = 0;
    r->more = NULL;
    r->n_more = 0;
    r->body = NULL;
    r->n_body = 0;
    r->payload_sha256 = NULL;
    r->body_max = 0;
    r->url = pst_str_of(NULL, 0);
    r->accept = NULL;
    r->done = NULL;
    r->own.identity = NULL;
    r->own.endpoint = r->own.corrected = 0;
    r->own.failed = r->own.refused = PST_OK;
    r->own.redirect = pst_str_of(NULL, 0);
    atomic_store_explicit(&r->own.http_id, 0, memory_order_relaxed);
}

static void put_pair(struct s3_request *r, pst_kv *pairs, uint32_t *n, uint32_t max,
                     const char *name, pst_str value)
{
    if (*n == max) {
        r->own.failed = PST_E_INTERNAL;
        return;
    }
    pairs[*n].key = s3_str(name);
    pairs[(*n)++].value = value;
}

void s3_request_param(struct s3_request *r, const char *name, pst_str value)
{
    put_pair(r, r->params, &r->n_params, S3_PARAMS_MAX, name, value);
}

void s3_request_header(struct s3_request *r, const char *name, pst_str value)
{
    if (value.len > 0)
        put_pair(r, r->headers, &r->n_headers, S3_HEADERS_MAX, name, value);
}

__attribute__((format(printf, 2, 0))) static pst_str format_text(struct s3_request *r,
                                                                 const char *format, va_list args)
{
    char text[256];
    va_list again;

    va_copy(again, args);
    const int len = vsnprintf(text, sizeof(text), format, args);
    char *copy = len >= 0 ? s3_alloc(r->op, (size_t)len + 1) : NULL;
    if (!copy)
        r->own.failed = PST_E_NO_MEMORY;
    else if ((size_t)len < sizeof(text))
        memcpy(copy, text, (size_t)len + 1);
    else
        vsnprintf(copy, (size_t)len + 1, format, again);
    va_end(again);
    return pst_str_of(copy, copy ? (size_t)len : 0);
}

void s3_request_headerf(struct s3_request *r, const char *name, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    s3_request_header(r, name, format_text(r, format, args));
    va_end(args);
}

void s3_request_paramf(struct s3_request *r, const char *name, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    s3_request_param(r, name, format_text(r, format, args));
    va_end(args);
}

void s3_sse_c_headers(struct s3_request *r, int is_source)
{
    static const char *const names[2][3] = {
        {"x-amz-server-side-encryption-customer-algorithm",
         "x-amz-server-side-encryption-customer-key",
         "x-amz-server-side-encryption-customer-key-md5"},
        {"x-amz-copy-source-server-side-encryption-customer-algorithm",
         "x-amz-copy-source-server-side-encryption-customer-key",
         "x-amz-copy-source-server-side-encryption-customer-key-md5"},
    };
    const pst_str key = s3_str(r->store->config->sse_c_key);

    if (key.len == 0)
        return;
    s3_request_header(r, names[is_source != 0][0], PST_STR("AES256"));
    s3_request_header(r, names[is_source != 0][1], key);
    s3_request_header(r, names[is_source != 0][2], s3_str(r->store->sse_c_md5));
}

/* ---- credentials ------------------------------------------------------------------------------ */

static void drop_identity(struct s3_request *r)
{
    if (r->own.identity)
        s3_identity_unref(r->own.identity);
    r->own.identity = NULL;
}

static void take_identity(struct s3_request *r, struct s3_identity *identity)
{
    drop_identity(r);
    r->own.identity = identity;
    if (identity && !(identity->access_key && identity->access_key[0]))
        drop_identity(r); /* anonymous */
}

static pst_rc fail(struct s3_request *r, pst_rc rc, const char *why)
{
    return s3_fail(r->err, rc, "%s", why);
}

/* End a request that was PENDING. */
static void end(struct s3_request *r, pst_rc rc, const pst_http_reply *reply)
{
    drop_identity(r);
    r->done(r, rc, reply);
}

static void wait_sent(struct s3_request *r)
{
    while (atomic_load(&r->own.is_sending))
        sched_yield();
}

/* The next try, by whoever has no submit to return to. */
static void go_on(struct s3_request *r)
{
    atomic_store(&r->own.is_sending, 1);
    const pst_rc rc = s3_attempt(r);
    atomic_store(&r->own.is_sending, 0);
    if (rc != PST_PENDING)
        end(r, rc, NULL);
}

static void on_identity(struct s3_waiter *waiter, pst_rc rc, struct s3_identity *identity,
                        const pst_error *err)
{
    struct s3_request *r = waiter->ctx;

    wait_sent(r);
    atomic_store(&r->own.is_waiting, 0);
    if (rc != PST_OK) {
        s3_creds_explain(r->err, err);
        end(r, rc, NULL);
        return;
    }
    take_identity(r, identity);
    if (s3_request_is_cancelled(r))
        end(r, fail(r, PST_E_CANCELLED, "cancelled"), NULL);
    else
        go_on(r);
}

/* Get credentials and send. `refused`: 0, or the generation that the store calls expired. */
static pst_rc enter(struct s3_request *r, uint64_t refused)
{
    struct s3_identity *identity = NULL;
    pst_rc rc = PST_OK;

    atomic_store(&r->own.is_sending, 1);
    if (!r->store->config->is_anonymous) {
        /* Its links are cred.c's, which a cancel from before may be looking at. */
        r->own.waiter.fn = on_identity;
        r->own.waiter.ctx = r;
        atomic_store(&r->own.is_waiting, 1);
        rc = s3_creds_get(r->store->creds, r->op, refused, &r->own.waiter, &identity, r->err);
        if (rc == PST_PENDING) {
            if (s3_request_is_cancelled(r) && s3_creds_leave(r->store->creds, &r->own.waiter)) {
                atomic_store(&r->own.is_waiting, 0);
                rc = fail(r, PST_E_CANCELLED, "cancelled");
            }
            atomic_store(&r->own.is_sending, 0);
            return rc;
        }
        atomic_store(&r->own.is_waiting, 0);
        take_identity(r, identity);
    }
    if (rc == PST_OK)
        rc = s3_attempt(r);
    else if (!r->err->message[0])
        fail(r, rc, "no credentials");
    if (rc != PST_PENDING)
        drop_identity(r);
    atomic_store(&r->own.is_sending, 0);
    return rc;
}

pst_rc s3_request_send(struct s3_request *r)
{
    if (r->own.failed != PST_OK)
        return fail(r, r->own.failed,
                    r->own.failed == PST_E_NO_MEMORY ? "out of memory" : "too many headers");
    if (s3_request_is_cancelled(r))
        return fail(r, PST_E_CANCELLED, "cancelled");
    r->err->message[0] = '\0';
    return enter(r, 0);
}

void s3_request_cancel(struct s3_request *r)
{
    const pst_backend *store = __atomic_load_n(&r->store, __ATOMIC_RELAXED);
    atomic_store(&r->own.is_cancelled, 1);
    /* Whether it tidies up is looked at after what would be taken away from it. */
    if (atomic_load(&r->own.is_waiting) && !atomic_load(&r->own.is_tidying) &&
        s3_creds_leave(store->creds, &r->own.waiter)) {
        wait_sent(r);
        atomic_store(&r->own.is_waiting, 0);
        end(r, fail(r, PST_E_CANCELLED, "cancelled"), NULL);
        return;
    }
    const uint64_t id = atomic_load(&r->own.http_id);
    if (id != 0 && !atomic_load(&r->own.is_tidying))
        store->http->cancel(store->client, id);
}

void s3_request_resume(struct s3_request *r)
{
    r->store->http->resume(r->store->client, atomic_load(&r->own.http_id));
}

/* ---- the reply -------------------------------------------------------------------------------- */

int32_t s3_request_on_accept(void *ctx, const pst_http_head *head, pst_http_grant *grant)
{
    struct s3_request *r = ctx;

    wait_sent(r); /* resume needs the id */
    if (s3_request_is_cancelled(r))
        return PST_E_CANCELLED;
    if (head->status < 200 || head->status > 299)
        return PST_HTTP_REJECT;
    if (!r->accept)
        return PST_HTTP_COLLECT;
    const int32_t answer = r->accept(r, head, grant);
    if (answer < 0)
        r->own.refused = answer;
    return answer;
}

static enum s3_outcome outcome_of(pst_rc rc, const pst_http_reply *reply)
{
    if (rc == PST_OK)
        return reply->status == 500 || (reply->status >= 502 && reply->status <= 504) ? S3_FAILED
                                                                                      : S3_ANSWERED;
    return rc == PST_E_UNAVAILABLE ? S3_FAILED : S3_UNDECIDED;
}

/* Has accept ended it? A cancel of its own is no error (read.c: it has enough). */
static int is_refused(const struct s3_request *r, pst_rc rc)
{
    return rc < 0 && rc == r->own.refused && rc != PST_E_CANCELLED;
}

/* accept has said why, unless that is the host's affair. */
static pst_rc explain_refusal(struct s3_request *r, const pst_http_reply *reply)
{
    pst_error *err = r->err;

    if (err->code != r->own.refused || !err->message[0])
        fail(r, r->own.refused, "the host did not take the body");
    err->http_status = (int32_t)reply->status;
    snprintf(err->endpoint, sizeof(err->endpoint), "%s",
             s3_endpoint_name(r->store->endpoints, r->own.endpoint));
    return err->code;
}

/* The store calls the identity expired. */
static void refresh(struct s3_request *r)
{
    const uint64_t refused = r->own.identity->generation;

    drop_identity(r);
    const pst_rc rc = enter(r, refused);
    if (rc != PST_PENDING)
        end(r, rc, NULL);
}

void s3_request_on_done(void *ctx, pst_rc rc, const pst_http_reply *reply)
{
    struct s3_request *r = ctx;
    enum s3_correction correction = S3_CORRECT_NOTHING;

    wait_sent(r);
    s3_endpoints_report(r->store->endpoints, r->own.endpoint, outcome_of(rc, reply));
    if (rc == PST_OK && reply->status >= 200 && reply->status <= 299) {
        end(r, PST_OK, reply);
        return;
    }
    if (rc == PST_OK && reply->status > 0 && !s3_request_is_cancelled(r))
        correction = s3_correct(r, reply);
    switch (correction) {
    case S3_CORRECT_SEND:
        go_on(r);
        break;
    case S3_CORRECT_TOKEN:
        refresh(r);
        break;
    case S3_CORRECT_REFUSED:
        r->err->http_status = (int32_t)reply->status;
        end(r, r->err->code, reply);
        break;
    default:
        rc = is_refused(r, rc) ? explain_refusal(r, reply) : s3_error_from_reply(r, rc, reply);
        end(r, rc, reply);
        break;
    }
}
