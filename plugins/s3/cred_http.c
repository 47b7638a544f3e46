/* cred_http.c - one request to a credential service, waited for.
 *
 * A refresh runs in a job that may block, so a request is sent and waited for here; its deadline is
 * the smaller of its own and the job's, so the wait ends. A store that is being closed cancels it
 * (cred.c). Replies are collected, 64 KiB at most, copied once and wiped.
 *
 * An error says where it failed in words of the service; it is RETRYABLE where another try may help.
 * What a status means is the source's to say. Nothing is repeated here. */
#include <pthread.h>
#include <string.h>

#include "cred_source.h"
#include "error.h"
#include "text.h"
#include "url.h"

struct exchange {
    const pst_host *host;
    struct s3_cred_exchange *x;
    pst_error *err;
    const char *what;
    pthread_mutex_t mutex;
    pthread_cond_t ended;
    pst_rc rc;
    int is_done;
};

static pst_rc take_reply(struct exchange *e, pst_rc rc, const pst_http_reply *reply)
{
    if (rc != PST_OK) {
        const char *why = reply && reply->message && reply->message[0] ? reply->message : NULL;
        s3_fail(e->err, rc, "%s: %s", e->what, why ? why : "the request failed");
        if (rc == PST_E_UNAVAILABLE || rc == PST_E_DEADLINE)
            e->err->flags |= PST_ERR_RETRYABLE;
        return rc;
    }
    e->x->status = reply->status;
    e->x->reply_len = reply->body.len;
    e->x->reply = s3_cred_dup(e->host, reply->body);
    return e->x->reply ? (pst_rc)PST_OK
                       : s3_fail(e->err, PST_E_NO_MEMORY, "%s: out of memory", e->what);
}

static void on_done(void *ctx, pst_rc rc, const pst_http_reply *reply)
{
    struct exchange *e = ctx;

    pthread_mutex_lock(&e->mutex);
    e->rc = take_reply(e, rc, reply);
    e->is_done = 1;
    pthread_cond_signal(&e->ended);
    pthread_mutex_unlock(&e->mutex);
}

pst_rc s3_cred_exchange(struct s3_cred_job *job, const char *what, struct s3_cred_exchange *x)
{
    struct exchange e = {.host = job->host, .x = x, .err = job->err, .what = what};
    pst_iov body = {NULL, x->body.len};
    pst_http_client *client = NULL;
    uint64_t deadline_ns = job->deadline_ns;
    pst_rc rc = s3_cred_check_time(job, what);

    x->reply = NULL;
    x->reply_len = 0;
    x->status = 0;
    if (rc == PST_OK)
        rc = s3_cred_client(job, x->flags, &client);
    if (rc != PST_OK)
        return rc;
    if (x->timeout_ms > 0) {
        const uint64_t own = s3_cred_monotonic_ns() + (uint64_t)x->timeout_ms * 1000000u;
        deadline_ns = own < deadline_ns ? own : deadline_ns;
    }
    memcpy(&body.ptr, &x->body.ptr, sizeof(body.ptr)); /* only read */
    const pst_http_request request = {
        .struct_size = sizeof(request),
        .method = s3_str(x->method),
        .url = s3_str(x->url),
        .headers = x->headers,
        .n_headers = x->n_headers,
        .body = &body,
        .n_body = x->body.len > 0,
        .body_max = S3_CRED_TEXT_MAX,
        .deadline_ns = deadline_ns,
        .done = on_done,
        .ctx = &e,
    };
    pthread_mutex_init(&e.mutex, NULL);
    pthread_cond_init(&e.ended, NULL);
    rc = s3_cred_send(job, client, &request);
    if (rc == PST_PENDING) {
        pthread_mutex_lock(&e.mutex);
        while (!e.is_done)
            pthread_cond_wait(&e.ended, &e.mutex);
        rc = e.rc;
        pthread_mutex_unlock(&e.mutex);
    } else {
        rc = s3_fail(job->err, rc < 0 ? rc : (pst_rc)PST_E_INTERNAL, "%s: %s", what,
                     rc == PST_E_CANCELLED   ? "the store is being closed"
                     : rc == PST_E_NO_MEMORY ? "out of memory"
                                             : "the request cannot be sent");
    }
    pthread_cond_destroy(&e.ended);
    pthread_mutex_destroy(&e.mutex);
    return rc;
}

void s3_cred_exchange_fini(struct s3_cred_job *job, struct s3_cred_exchange *x)
{
    if (x->reply) {
        explicit_bzero(x->reply, x->reply_len);
        job->host->dealloc(job->host, x->reply);
    }
    x->reply = NULL;
}
