/* queue_state.h - what queue.c (the list of events) and queue_item.c (the operations) share. */
#ifndef PST_IO_QUEUE_STATE_H
#define PST_IO_QUEUE_STATE_H

#include <penstock/queue.h>

#include "io/call.h"
#include "io/get.h"
#include "io/sums.h"

#define PST_QUEUE_BUCKETS 1024u

/* One request on its way. */
struct pst_item {
    atomic_uint refs; /* the queue until the event is reaped, the operation, the deadline timer */
    struct pst_queue *queue;
    uint64_t id, user_data;
    uint32_t kind, max_attempts;
    struct pst_port *port;
    struct pst_get *get; /* a read, or */
    struct pst_task *task;
    pst_str key;     /* in memory of get or task */
    pst_iov *bounce; /* copy the buffer here when the event is reaped */
    size_t n_bounce;
    struct pst_summing summing; /* of the source of a put */
    pst_buffer *copy;           /* of the source of a put; its bytes are reserved from the budget */
    void (*release)(void *arg);
    void *release_arg;
    struct pst_timer deadline;
    pst_event event;
    struct pst_item *next_in_bucket, **at_in_bucket, *next_ready;
    struct { /* under the queue's gate */
        pst_store *store;
        struct pst_task *look; /* how much does the store hold? after a put */
        pst_rc stop_code;
        int is_loose; /* the event need not wait for the operation's end */
        int is_delivered;
    } locked;
};

struct pst_queue {
    atomic_uint refs;   /* the application, each item: they need the context */
    atomic_uint shells; /* all of them as one, each thread that will wake: what follows `core` */
    pst_context *context;
    struct pst_core *core;
    uint32_t generation;
    int fd;
    struct pst_gate gate; /* its mutex guards `locked` */
    struct {
        struct pst_item *buckets[PST_QUEUE_BUCKETS]; /* live: no event delivered yet */
        struct pst_item *ready, **last_ready;
        size_t n_live, n_ready, n_sleeping;
        int is_freed;
        int is_readable; /* the descriptor */
    } locked;
};

/* Check the request and make what it needs; nothing is started. The caller gets the reference. */
pst_rc pst_item_new(struct pst_queue *queue, const pst_request *given, struct pst_item **out,
                    pst_error *err);

/* Start the operation, which has a reference of its own by now. */
void pst_item_start(struct pst_item *item);

/* End it early. Its event comes at once where nothing of the caller's is touched any more. */
void pst_item_stop(struct pst_item *item, pst_rc code);

/* Move what the event brought to where the caller wanted it. */
void pst_item_scatter(struct pst_item *item, pst_event *event);

void pst_item_unref(struct pst_item *item);

/* Make an event public, once; a second one is dropped. The list takes over the queue's reference to the
 * item. Allowed in task hooks. */
void pst_queue_deliver(struct pst_item *item, pst_event *event);

void pst_queue_unref(struct pst_queue *queue);

#endif
