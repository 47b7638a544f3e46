/* queue.c - the completion queue: many operations, reaped in batches.
 *
 * Each request becomes an item (queue_item.c). When it ends, its event goes onto the queue's list with
 * one short lock. The descriptor becomes readable when the thread has ended all that it found ready, or
 * WAKE_AT events wait, or nothing else is under way, and a sleeping reaper is signalled only when there is
 * one: a batch of completions costs one wake-up, and one that is alone does not wait for others.
 *
 * Freeing cancels everything and waits at most a second; items that still run then keep what they need
 * alive and drop their events. In a fork child a queue of the parent answers FORKED. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "core/error.h"
#include "core/fault.h"
#include "core/stack.h"
#include "io/queue_state.h"

#define END_WAIT_NS 1000000000u
#define WAKE_AT 16u

/* ---- events ----------------------------------------------------------------------------------- */

void pst_event_fini(pst_event *event)
{
    pst_buffer_unref(event->buffer);
    pst_attr_free(event->attr);
    free(event->error);
    free(event->etag);
    memset(event, 0, sizeof(*event));
}

static void unref_shell(struct pst_queue *queue)
{
    if (atomic_fetch_sub_explicit(&queue->shells, 1, memory_order_acq_rel) != 1)
        return;
    close(queue->fd);
    pst_gate_fini(&queue->gate);
    free(queue);
}

void pst_queue_unref(struct pst_queue *queue)
{
    if (atomic_fetch_sub_explicit(&queue->refs, 1, memory_order_acq_rel) != 1)
        return;
    pst_core_unref(queue->core);
    pst_context_unref(queue->context);
    unref_shell(queue);
}

static struct pst_item *find_locked(struct pst_queue *queue, uint64_t id)
{
    struct pst_item *item = queue->locked.buckets[id % PST_QUEUE_BUCKETS];
    while (item && item->id != id)
        item = item->next_in_bucket;
    return item;
}

static void link_locked(struct pst_queue *queue, struct pst_item *item)
{
    struct pst_item **bucket = &queue->locked.buckets[item->id % PST_QUEUE_BUCKETS];
    item->next_in_bucket = *bucket;
    item->at_in_bucket = bucket;
    if (*bucket)
        (*bucket)->at_in_bucket = &item->next_in_bucket;
    *bucket = item;
    queue->locked.n_live++;
}

/* Without a search: thousands may be under way, and the oldest end first. */
static void unlink_locked(struct pst_queue *queue, struct pst_item *item)
{
    *item->at_in_bucket = item->next_in_bucket;
    if (item->next_in_bucket)
        item->next_in_bucket->at_in_bucket = item->at_in_bucket;
    queue->locked.n_live--;
}

static void make_readable_locked(struct pst_queue *queue)
{
    const uint64_t one = 1;
    if (queue->locked.is_readable)
        return;
    queue->locked.is_readable = 1;
    ssize_t written = write(queue->fd, &one, sizeof(one));
    (void)written; /* cannot fail: the counter is 0 or 1 */
}

/* At the end of what this thread does now. What was delivered may have been reaped since. */
static void wake(void *arg)
{
    struct pst_queue *queue = arg;
    pthread_mutex_lock(&queue->gate.mutex);
    if (queue->locked.n_ready > 0)
        make_readable_locked(queue);
    pthread_mutex_unlock(&queue->gate.mutex);
    unref_shell(queue);
}

static void wake_soon_locked(struct pst_queue *queue)
{
    int is_new;
    if (queue->locked.is_readable)
        return;
    if (queue->locked.n_live == 0 || queue->locked.n_ready >= WAKE_AT ||
        !pst_stack_at_end(wake, queue, &is_new))
        make_readable_locked(queue);
    else if (is_new)
        atomic_fetch_add_explicit(&queue->shells, 1, memory_order_relaxed);
}

void pst_queue_deliver(struct pst_item *item, pst_event *event)
{
    struct pst_queue *queue = item->queue;
    int must_drop = 0;
    pthread_mutex_lock(&queue->gate.mutex);
    if (item->locked.is_delivered) {
        pthread_mutex_unlock(&queue->gate.mutex);
        pst_event_fini(event);
        return;
    }
    item->locked.is_delivered = 1;
    item->event = *event;
    unlink_locked(queue, item);
    if (queue->locked.is_freed) {
        must_drop = 1;
    } else {
        item->next_ready = NULL;
        *queue->locked.last_ready = item;
        queue->locked.last_ready = &item->next_ready;
        queue->locked.n_ready++;
        wake_soon_locked(queue);
    }
    if (queue->locked.n_live == 0 && !PST_FAULT(WAKE_ONE))
        pthread_cond_broadcast(&queue->gate.changed); /* none of those who sleep gets another one */
    else if (queue->locked.n_sleeping > 0)
        pthread_cond_signal(&queue->gate.changed);
    pthread_mutex_unlock(&queue->gate.mutex);
    if (must_drop)
        pst_item_unref(item);
}

/* ---- cancel ----------------------------------------------------------------------------------- */

void pst_queue_cancel(pst_queue *queue, uint64_t id)
{
    if (queue->generation != pst_fork_generation())
        return;
    pthread_mutex_lock(&queue->gate.mutex);
    struct pst_item *item = find_locked(queue, id);
    if (item)
        atomic_fetch_add_explicit(&item->refs, 1, memory_order_relaxed);
    pthread_mutex_unlock(&queue->gate.mutex);
    if (item) {
        pst_item_stop(item, PST_E_CANCELLED);
        pst_item_unref(item);
    }
}

/* ---- public ----------------------------------------------------------------------------------- */

pst_rc pst_queue_new(pst_context *context, pst_queue **out, pst_error *err)
{
    struct pst_core *core;
    *out = NULL;
    pst_rc rc = pst_core_of(context, &core, err);
    if (rc != PST_OK)
        return rc;
    struct pst_queue *queue = calloc(1, sizeof(*queue));
    if (!queue)
        return pst_fail(err, PST_E_NO_MEMORY, "out of memory");
    queue->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (queue->fd < 0) {
        free(queue);
        return pst_fail_errno(err, PST_E_UNAVAILABLE, errno, "queue: no descriptor");
    }
    atomic_init(&queue->refs, 1);
    atomic_init(&queue->shells, 1);
    queue->context = pst_context_ref(context);
    queue->core = pst_core_ref(core);
    queue->generation = core->generation;
    pst_gate_init(&queue->gate);
    queue->locked.last_ready = &queue->locked.ready;
    *out = queue;
    return PST_OK;
}

static pst_rc check_process(const struct pst_queue *queue, pst_error *err)
{
    if (queue->generation == pst_fork_generation())
        return PST_OK;
    return pst_fail(err, PST_E_FORKED, "queue: it belongs to the process before fork");
}

pst_rc pst_queue_submit(pst_queue *queue, const pst_request *requests, size_t n, uint64_t *ids,
                        pst_error *err)
{
    pst_rc rc = check_process(queue, err);
    if (rc != PST_OK || n == 0)
        return rc;
    struct pst_item **items = calloc(n, sizeof(struct pst_item *));
    if (!items)
        return pst_fail(err, PST_E_NO_MEMORY, "out of memory");
    for (size_t i = 0; i < n && rc == PST_OK; i++) {
        rc = pst_item_new(queue, &requests[i], &items[i], err);
        if (rc != PST_OK && n > 1)
            pst_error_prefix(err, "queue: request %zu: ", i);
    }
    if (rc != PST_OK) {
        for (size_t i = 0; i < n && items[i]; i++) {
            pst_store_free(items[i]->locked.store);
            pst_item_unref(items[i]);
        }
        free(items);
        return rc;
    }
    pthread_mutex_lock(&queue->gate.mutex);
    for (size_t i = 0; i < n; i++) {
        struct pst_item *item = items[i];
        atomic_fetch_add_explicit(&item->refs, 1, memory_order_relaxed); /* the operation */
        link_locked(queue, item);
        if (ids)
            ids[i] = item->id;
    }
    pthread_mutex_unlock(&queue->gate.mutex);
    pst_stack_enter(); /* one batch: plugins get it in one go, with one flush at its end */
    for (size_t i = 0; i < n; i++)
        pst_item_start(items[i]);
    pst_stack_leave();
    free(items);
    return PST_OK;
}

static struct pst_item *take_ready_locked(struct pst_queue *queue, size_t max, size_t *n)
{
    struct pst_item *first = queue->locked.ready, **end = &queue->locked.ready;
    *n = 0;
    while (*end && *n < max) {
        end = &(*end)->next_ready;
        ++*n;
    }
    queue->locked.ready = *end;
    *end = NULL;
    if (!queue->locked.ready)
        queue->locked.last_ready = &queue->locked.ready;
    queue->locked.n_ready -= *n;
    if (queue->locked.n_ready == 0 && queue->locked.is_readable) {
        queue->locked.is_readable = 0;
        uint64_t count;
        ssize_t got = read(queue->fd, &count, sizeof(count));
        (void)got; /* not readable any more; the list says what is there */
    }
    return *n > 0 ? first : NULL;
}

pst_rc pst_queue_wait(pst_queue *queue, pst_event *events, size_t max, uint64_t timeout_ms,
                      pst_cancel *cancel, size_t *n, pst_error *err)
{
    const pst_call call = {.struct_size = sizeof(call),
                           .timeout_ms = timeout_ms == PST_UNKNOWN ? 0 : timeout_ms,
                           .cancel = cancel};
    struct pst_limit limit = pst_limit_of(&call);
    *n = 0;
    pst_rc rc = check_process(queue, err);
    if (rc != PST_OK)
        return rc;
    pthread_mutex_lock(&queue->gate.mutex);
    while (rc == PST_OK && max > 0 && !queue->locked.ready && queue->locked.n_live > 0) {
        if (timeout_ms == 0)
            break;
        queue->locked.n_sleeping++;
        rc = pst_gate_sleep(&queue->gate, &limit);
        queue->locked.n_sleeping--;
    }
    struct pst_item *item = take_ready_locked(queue, max, n);
    pthread_mutex_unlock(&queue->gate.mutex);
    for (size_t i = 0; item; i++) {
        struct pst_item *next = item->next_ready;
        events[i] = item->event;
        memset(&item->event, 0, sizeof(item->event));
        pst_item_scatter(item, &events[i]);
        pst_store_free(item->locked.store);
        pst_item_unref(item);
        item = next;
    }
    if (*n > 0 || rc != PST_E_CANCELLED)
        return PST_OK;
    return pst_fail(err, rc, "queue: waiting was cancelled");
}

int pst_queue_fd(pst_queue *queue)
{
    return queue->fd;
}

size_t pst_queue_outstanding(pst_queue *queue)
{
    if (queue->generation != pst_fork_generation())
        return 0;
    pthread_mutex_lock(&queue->gate.mutex);
    size_t n = queue->locked.n_live + queue->locked.n_ready;
    pthread_mutex_unlock(&queue->gate.mutex);
    return n;
}

/* Some live item that was not stopped yet, with a reference. */
static struct pst_item *next_victim_locked(struct pst_queue *queue, size_t *bucket, uint64_t *after)
{
    for (; *bucket < PST_QUEUE_BUCKETS; ++*bucket, *after = 0) {
        struct pst_item *best = NULL;
        for (struct pst_item *item = queue->locked.buckets[*bucket]; item;
             item = item->next_in_bucket) {
            if (item->id > *after && (!best || item->id < best->id))
                best = item;
        }
        if (best) {
            *after = best->id;
            atomic_fetch_add_explicit(&best->refs, 1, memory_order_relaxed);
            return best;
        }
    }
    return NULL;
}

static void stop_all(struct pst_queue *queue)
{
    size_t bucket = 0;
    uint64_t after = 0;
    for (;;) {
        pthread_mutex_lock(&queue->gate.mutex);
        struct pst_item *item = next_victim_locked(queue, &bucket, &after);
        pthread_mutex_unlock(&queue->gate.mutex);
        if (!item)
            return;
        pst_item_stop(item, PST_E_CANCELLED);
        pst_item_unref(item);
    }
}

/* The stores of items whose events nobody will reap; freed here, since that may wait, and before the
 * items drop their events. */
static void drop_stores(struct pst_queue *queue)
{
    for (size_t i = 0; i < PST_QUEUE_BUCKETS; i++) {
        for (;;) {
            pst_store *store = NULL;
            pthread_mutex_lock(&queue->gate.mutex);
            for (struct pst_item *item = queue->locked.buckets[i]; item && !store;
                 item = item->next_in_bucket) {
                store = item->locked.store;
                item->locked.store = NULL;
            }
            pthread_mutex_unlock(&queue->gate.mutex);
            if (!store)
                break;
            pst_store_free(store);
        }
    }
}

void pst_queue_free(pst_queue *queue)
{
    if (!queue)
        return;
    if (queue->generation != pst_fork_generation()) {
        /* A fork child: the lock may be held for ever, the items are the parent's. */
        close(queue->fd);
        pst_context_unref(queue->context);
        return;
    }
    struct pst_limit limit = {pst_now_ns() + END_WAIT_NS, NULL};
    stop_all(queue);
    pthread_mutex_lock(&queue->gate.mutex);
    queue->locked.n_sleeping++;
    while (queue->locked.n_live > 0 && pst_gate_sleep(&queue->gate, &limit) == PST_OK)
        ;
    queue->locked.n_sleeping--;
    pthread_mutex_unlock(&queue->gate.mutex);
    drop_stores(queue);
    pthread_mutex_lock(&queue->gate.mutex);
    queue->locked.is_freed = 1;
    size_t n;
    struct pst_item *item = take_ready_locked(queue, SIZE_MAX, &n);
    pthread_mutex_unlock(&queue->gate.mutex);
    while (item) {
        struct pst_item *next = item->next_ready;
        pst_store_free(item->locked.store);
        pst_item_unref(item);
        item = next;
    }
    pst_queue_unref(queue);
}
