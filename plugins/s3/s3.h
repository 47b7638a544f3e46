/* s3.h - an open S3 store, and how the pieces of the plugin fit together.
 *
 *     plugin.c      the entry, the tables          options.c, config.c   options and what they mean
 *     request.c     one signed exchange            attempt.c, correct.c  its tries
 *     sign.c        SigV4                          url.c                 URLs
 *     endpoint.c    which server next              error.c, xml.c        what a reply says
 *     cred*.c       who we are                     probe.c               are conditions obeyed?
 *     group.c       requests side by side      attr.c, text.c        headers, and their words
 *     read.c stat.c put.c upload*.c copy.c list.c remove.c container.c presign.c cleanup.c
 *
 * Every operation is a state machine in its op's scratch (struct s3_call): it fills a request, sends
 * it, and goes on in the request's done. Nothing here blocks but credentials, which have a job of
 * their own on the host's pool. */
#ifndef PST_S3_S3_H
#define PST_S3_S3_H

#include <pthread.h>
#include <stdatomic.h>

#include <penstock/services.h>

#include "request.h"
#include "sign.h"

#define S3_VERSION "1.0.0"

struct s3_config;    /* config.h: the options, parsed; never changes while the store is open */
struct s3_endpoints; /* endpoint.h */
struct s3_creds;     /* cred.h */
struct s3_probe;     /* probe.h */
struct s3_group;     /* group.h */
struct s3_note;      /* plugin.c */
struct s3_look;      /* look.h */

struct pst_backend {
    const pst_host *host;
    const pst_http_1 *http;
    const pst_crypto_1 *crypto;
    const pst_cred_1 *cred; /* NULL: the application supplies none */
    pst_http_client *client;
    struct s3_config *config;
    struct s3_endpoints *endpoints;
    struct s3_creds *creds;
    struct s3_signer signer;
    struct s3_probe *probe;
    char *bucket;              /* the URI's authority, "" for the service itself (s3://) */
    atomic_llong clock_skew_s; /* server minus us, learned from RequestTimeTooSkewed */
    char sse_c_md5[25];        /* of sse_c_key, base64 */
    atomic_int is_bucket_seen; /* a reply has shown that the bucket exists */
    pthread_mutex_t mutex;
    struct {
        char region[64];          /* as configured, or as the store corrected it */
        struct s3_note *notes;    /* of info(): what was found out since, the latest first */
        uint64_t next_request_ns; /* max_requests_per_second: the next free moment */
    } locked;
};

/* An operation under way: the host's scratch, zeroed before every submit. What an operation needs
 * beyond this it keeps in op_alloc memory (s3_alloc). */
struct s3_call {
    struct s3_request request;
    const void *args; /* as the host gave them, good until complete */
    void *result;
    void *state;                      /* of the operation's own */
    struct s3_look *look;             /* look.h */
    void (*then)(pst_op *, pst_rc);   /* where s3_end leads; NULL: the operation is complete */
    void *outer;                      /* of who set `then` */
    void (*go_on)(pst_op *, pst_rc);  /* when what it waits for (probe.h) is known */
    _Atomic(struct s3_group *) group; /* its requests that run side by side, NULL: none */
    struct pst_op *next;              /* of those that wait for the probe */
    _Atomic(uint64_t) tidy_until_ns;  /* once it is cancelled: attempt.c */
    atomic_uint avoided;              /* 1 + the server of the attempt before; attempt.c */
    atomic_flag is_allocating;        /* requests side by side share the operation's memory */
};

/* Add a line to what info() tells about the store; nothing where there is no memory. */
void s3_note(pst_backend *store, const char *text);

static inline struct s3_call *s3_call_of(pst_op *op)
{
    return (struct s3_call *)op->scratch;
}

/* Memory until the operation's result is read; NULL for none left. */
static inline void *s3_alloc(pst_op *op, size_t size)
{
    struct s3_call *call = s3_call_of(op);
    while (atomic_flag_test_and_set_explicit(&call->is_allocating, memory_order_acquire))
        ; /* op_alloc takes a few instructions, and is asked by one thread at a time */
    void *memory = op->host->op_alloc(op->host, op, size);
    atomic_flag_clear_explicit(&call->is_allocating, memory_order_release);
    return memory;
}

/* End the operation. The last thing its thread does with it. */
static inline void s3_complete(pst_op *op, pst_rc rc)
{
    op->host->complete(op->host, op, rc);
}

/* The same of what may be a step of a larger one: a copy in parts opens and commits an upload. */
static inline void s3_end(pst_op *op, pst_rc rc)
{
    struct s3_call *call = s3_call_of(op);
    void (*then)(pst_op *, pst_rc) = call->then;
    if (then)
        then(op, rc);
    else
        s3_complete(op, rc);
}

#endif
