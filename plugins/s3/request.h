/* request.h - one signed exchange with the store on behalf of an operation.
 *
 * Fill a request, send it, go on in done. In between the request waits for its turn (requests per
 * second), asks for credentials, picks an endpoint, signs with a fresh date, sends, and puts right
 * once each what the store's answer tells to be ours to put right: the region, the clock, expired
 * credentials, a redirect that may be followed. All other repeating is the host's. */
#ifndef PST_S3_REQUEST_H
#define PST_S3_REQUEST_H

#include <stdatomic.h>

#include <penstock/services.h>

#include "cred.h"
#include "text.h"

#define S3_PARAMS_MAX 10
#define S3_HEADERS_MAX 40 /* without user metadata: that goes into `more` */

#define S3_CHANGES 1u        /* changes the store: a lost reply is MAYBE_APPLIED */
#define S3_IS_CONDITIONAL 2u /* create-only or if_match: 409 and 412 mean the condition */
#define S3_ONCE 4u    /* a second one fails: never sent again unseen over another connection */
#define S3_PRESIGN 8u /* send nothing: make the URL that anybody may use for a while */

struct s3_request {
    pst_backend *store;
    pst_op *op;
    pst_error *err; /* filled when it fails: op->err, but for requests that run side by side */
    /* What to send. Strings are borrowed until done: literals, arguments of the operation, s3_alloc. */
    const char *method;
    pst_str bucket, key; /* bucket empty: the service; key empty: the bucket */
    uint32_t flags, n_params, n_headers, presign_s;
    pst_kv params[S3_PARAMS_MAX];   /* of the query, raw: send sorts and encodes them */
    pst_kv headers[S3_HEADERS_MAX]; /* names in lower case, values as they go out */
    const pst_kv *more;             /* further headers, NULL for none */
    size_t n_more;
    const pst_iov *body;
    size_t n_body;
    const uint8_t *payload_sha256; /* of the body, where the host has computed it; else NULL */
    uint64_t body_max;             /* of a collected reply */
    pst_str url;                   /* out, with S3_PRESIGN: in memory of the operation */

    /* As in pst_http_request; called for replies 200 to 299 only, others are collected as errors. NULL:
     * collect. */
    int32_t (*accept)(struct s3_request *, const pst_http_head *, pst_http_grant *);
    /* Once for each send that answered PENDING. PST_OK: a reply 200 to 299. Else *err is filled and
     * rc is its code; reply is NULL where none came. May send the request, refilled, again. */
    void (*done)(struct s3_request *, pst_rc rc, const pst_http_reply *reply);

    struct { /* request.c's own */
        struct s3_waiter waiter;
        struct s3_identity *identity;
        _Atomic(uint64_t) http_id;
        atomic_int is_cancelled, is_waiting;
        atomic_int is_tidying; /* it goes out although the operation is cancelled, or too late */
        atomic_int is_sending; /* a thread is inside send: callbacks let it get out */
        uint32_t endpoint;
        uint32_t corrected;     /* what was put right already: attempt.h */
        int32_t failed;         /* of the calls that fill the request */
        int32_t refused;        /* by accept, which has filled *err */
        pst_str redirect;       /* URL to use instead, of the operation's memory */
        char region[64];        /* signed for */
        long long clock_skew_s; /* signed by: the store's clock minus ours */
    } own;
};

/* Start over with `request` for `op`: all fields but store, op, err (the operation's), method, bucket
 * (the store's) and key are zero. A cancel that came before is not forgotten, so the memory is zero
 * before the first of them. */
void s3_request_init(struct s3_request *request, pst_backend *store, pst_op *op, const char *method,
                     pst_str key);

/* Add a query parameter; an empty value is sent as "name=". */
void s3_request_param(struct s3_request *request, const char *name, pst_str value);

/* Add a header; nothing where the value is empty. */
void s3_request_header(struct s3_request *request, const char *name, pst_str value);

/* The same with a formatted value, in memory of the operation. */
__attribute__((format(printf, 3, 4))) void s3_request_headerf(struct s3_request *request,
                                                              const char *name, const char *format,
                                                              ...);
__attribute__((format(printf, 3, 4))) void s3_request_paramf(struct s3_request *request,
                                                             const char *name, const char *format,
                                                             ...);

/* The headers of the key that the store encrypts with (option sse_c_key); of the source of a copy where
 * is_source. Nothing where there is no such key. */
void s3_sse_c_headers(struct s3_request *request, int is_source);

/* PENDING: done will be called. OK, with S3_PRESIGN alone: url is there, done will not be called. Else an
 * error, in *err too: lack of memory in the calls above, a cancelled operation, what cannot be sent. */
pst_rc s3_request_send(struct s3_request *request);

/* From now on it is about what the operation leaves behind: cancels pass it by, and it has a short
 * deadline of its own. Outlives s3_request_init. 0: no longer. */
static inline void s3_request_tidy(struct s3_request *request, int is_tidying)
{
    atomic_store(&request->own.is_tidying, is_tidying);
}

static inline int s3_request_is_cancelled(const struct s3_request *request)
{
    return atomic_load(&request->own.is_cancelled) && !atomic_load(&request->own.is_tidying);
}

/* For the slots cancel and dst_ready. Any thread. */
void s3_request_cancel(struct s3_request *request);
void s3_request_resume(struct s3_request *request);

#endif
