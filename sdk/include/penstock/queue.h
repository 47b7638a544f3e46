/* queue.h - submit many operations, reap their completions in batches. */
#ifndef PENSTOCK_QUEUE_H
#define PENSTOCK_QUEUE_H

#include <penstock/object.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct pst_queue pst_queue;

#define PST_REQ_GET 1u    /* key, offset, length (PST_UNKNOWN: to the end); dst or a new buffer */
#define PST_REQ_PUT 2u    /* key, src */
#define PST_REQ_STAT 3u   /* key */
#define PST_REQ_DELETE 4u /* key */
#define PST_REQ_COPY 5u   /* key -> to */
typedef struct pst_request {
    uint32_t struct_size, kind; /* PST_REQ_* */
    uint64_t user_data;         /* comes back in the event */
    uint64_t offset, length;
    uint64_t timeout_ms;       /* 0: none */
    uint32_t flags;            /* PST_READ_* or PST_WRITE_* */
    uint32_t max_attempts;     /* 0: the context's */
    pst_store *store;          /* a reference is kept until the event */
    pst_store *from;           /* COPY: the store of `key`, as pst_copy; NULL: `store` */
    pst_str key, to, if_match; /* copied at submit */
    pst_str version;           /* GET, STAT, DELETE, and of the source of COPY; copied */
    const pst_iov *dst; /* GET: array copied, its memory is the operation's until the event */
    size_t n_dst;
    const pst_iov *src; /* PUT: likewise */
    size_t n_src;
    const pst_attr *attr; /* PUT, COPY: copied; may be NULL */
    /* With these two the queue may let go of dst and src memory late: release runs once, on any
     * thread, when nothing touches it any more. Without, the event waits for that. */
    void (*release)(void *arg);
    void *release_arg;
    void *reserved1;
} pst_request;

typedef struct pst_event {
    uint64_t id;        /* as pst_queue_submit gave it */
    uint64_t user_data; /* of the request */
    pst_rc status;
    uint32_t kind; /* PST_REQ_* */
    uint64_t size; /* bytes read or written */
    uint64_t object_size;
    pst_buffer *buffer; /* GET without dst; yours */
    pst_attr *attr;     /* STAT; yours */
    pst_error *error;   /* NULL if status is PST_OK; yours */
    char *etag;         /* GET, PUT, COPY; NULL if the store gave none; yours */
} pst_event;

/* Make a queue. Ownership: pst_queue_free. Threads: submit and reap from any. */
PST_API PST_NODISCARD pst_rc pst_queue_new(pst_context *context, pst_queue **out, pst_error *err);

/* Submit `n` requests. ids[i] (or NULL) names each for cancel. All or none are taken: an error
 * means that none was. Does not block; what exceeds the in-flight cap waits inside the queue.
 * Errors: INVALID naming the request, FORKED in a child for a queue of the parent. */
PST_API PST_NODISCARD pst_rc pst_queue_submit(pst_queue *queue, const pst_request *requests,
                                              size_t n, uint64_t *ids, pst_error *err);

/* Reap up to `max` events into `events`; waits until there is at least one, the timeout (0: do not
 * wait, PST_UNKNOWN: for ever) has passed, `cancel` fires, or nothing is outstanding. *n may be 0.
 * Ownership: pst_event_fini on each. Errors: CANCELLED, FORKED. */
PST_API PST_NODISCARD pst_rc pst_queue_wait(pst_queue *queue, pst_event *events, size_t max,
                                            uint64_t timeout_ms, pst_cancel *cancel, size_t *n,
                                            pst_error *err);

/* Get a descriptor that polls readable while events wait. Owned by the queue; read nothing from it. */
PST_API int pst_queue_fd(pst_queue *queue);

/* Ask an operation to end early; its event still comes, once. Unknown ids are ignored. */
PST_API void pst_queue_cancel(pst_queue *queue, uint64_t id);

/* Count what was submitted and not reaped yet. */
PST_API size_t pst_queue_outstanding(pst_queue *queue);

/* Release what an event carries. */
PST_API void pst_event_fini(pst_event *event);

/* Cancel everything, wait at most a second for what must end, drop events not reaped. */
PST_API void pst_queue_free(pst_queue *queue);

#ifdef __cplusplus
}
#endif
#endif
