/* queue.c - the completion queue: many operations, reaped in batches.
 *
 * Each request becomes one `struct item`: a get, or a task with retries. When it ends, its event goes
 * onto the queue's list with one short lock. The descriptor is written only when the list was empty,
 * and a sleeping reaper is signalled only when there is one: a batch of completions costs one wake-up.
 *
 * Cancel and deadline: an operation that uses no memory of the caller (or whose caller gave a release
 * function) delivers its event at once, and what is left of it ends by itself. With plain caller memory
 * the event waits until nothing touches it (contract 3). Where the plugin does not promise a prompt
 * end, a get into caller memory goes through a buffer of ours and is copied when the event is reaped,
 * on the reaper's thread; a put is copied at submit.
 *
 * Freeing cancels everything and waits at most a second; items that still run then keep what they need
 * alive and drop their events. In a fork child a queue of the parent answers FORKED. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <penstock/queue.h>

#include "core/error.h"
#include "core/stack.h"
#include "core/store.h"
#include "io/attr.h"
#include "io/call.h"
#include "io/get.h"
#include "io/outcome.h"
#include "io/retry.h"
#include "io/verb.h"

#define BUCKETS 1024u
#define END_WAIT_NS 1000000000u

struct item {
    atomic_uint refs; /* the queue while live, the operation while it runs, the deadline timer */
    struct pst_queue *queue;
    uint64_t id, user_data;
    uint32_t kind;
    int is_loose; /* the event need not wait for the memory */
    pst_store *store;
    struct pst_port *port;
    struct pst_get *get;
    struct pst_task *task;
    pst_str key;     /* in memory of get or task */
    pst_iov *bounce; /* copy the buffer here when the event is reaped */
    size_t n_bounce;
    pst_buffer *copy; /* of the source of a put */
    void (*release)(void *arg);
    void *release_arg;
    struct pst_timer deadline;
    pst_event event;
    struct item *next_in_bucket, *next_ready;
    int is_delivered; /* under the gate's mutex, like `store` */
};

struct pst_queue {
    atomic_uint refs; /* the application, each item */
    pst_context *context;
    struct pst_core *core;
    uint32_t generation;
    int fd;
    struct pst_gate gate; /* its mutex guards `locked` */
    struct {
        struct item *buckets[BUCKETS]; /* live: no event delivered yet */
        struct item *ready, **last_ready;
        size_t n_live, n_ready, n_sleeping;
        int is_freed;
    } locked;
};

/* ---- events ----------------------------------------------------------------------------------- */

void pst_event_fini(pst_event *event)
{
    pst_buffer_unref(event->buffer);
    pst_attr_free(event->attr);
    free(event->error);
    free(event->etag);
    memset(event, 0, sizeof(*event));
}

static void unref_queue(struct pst_queue *queue)
{
    if (atomic_fetch_sub_explicit(&queue->refs, 1, memory_order_acq_rel) != 1)
        return;
    close(queue->fd);
    pst_gate_fini(&queue->gate);
    pst_core_unref(queue->core);
    pst_context_unref(queue->context);
    free(queue);
}

static void unref_item(struct item *item)
{
    if (atomic_fetch_sub_explicit(&item->refs, 1, memory_order_acq_rel) != 1)
        return;
    pst_event_fini(&item->event);
    pst_buffer_unref(item->copy);
    free(item->bounce);
    pst_get_unref(item->get);
    pst_task_unref(item->task);
    if (item->port)
        pst_port_unref(item->port);
    unref_queue(item->queue);
    free(item);
}

static struct item **find_locked(struct pst_queue *queue, uint64_t id)
{
    struct item **at = &queue->locked.buckets[id % BUCKETS];
    while (*at && (*at)->id != id)
        at = &(*at)->next_in_bucket;
    return at;
}

static char *dup_text(pst_str text)
{
    char *copy = text.len > 0 ? malloc(text.len + 1) : NULL;
    if (copy) {
        memcpy(copy, text.ptr, text.len);
        copy[text.len] = '\0';
    }
    return copy;
}

/* Make the event public, once. The list takes over the queue's reference to the item. */
static void deliver(struct item *item, pst_event *event)
{
    struct pst_queue *queue = item->queue;
    int must_write = 0, must_drop = 0;
    pthread_mutex_lock(&queue->gate.mutex);
    if (item->is_delivered) {
        pthread_mutex_unlock(&queue->gate.mutex);
        pst_event_fini(event);
        return;
    }
    item->is_delivered = 1;
    item->event = *event;
    *find_locked(queue, item->id) = item->next_in_bucket;
    queue->locked.n_live--;
    if (queue->locked.is_freed) {
        must_drop = 1;
    } else {
        item->next_ready = NULL;
        *queue->locked.last_ready = item;
        queue->locked.last_ready = &item->next_ready;
        must_write = queue->locked.n_ready++ == 0;
    }
    if (queue->locked.n_sleeping > 0)
        pthread_cond_signal(&queue->gate.changed);
    if (must_write) {
        const uint64_t one = 1;
        ssize_t written = write(queue->fd, &one, sizeof(one));
        (void)written; /* cannot fail: the counter is 0 or 1 */
    }
    pthread_mutex_unlock(&queue->gate.mutex);
    if (must_drop)
        unref_item(item);
}

static pst_event begin_event(const struct item *item, pst_rc rc)
{
    return (pst_event){.id = item->id,
                       .user_data = item->user_data,
                       .status = rc,
                       .kind = item->kind,
                       .object_size = PST_UNKNOWN};
}

/* The operation is over and touches no memory any more. */
static void end_item(struct item *item, pst_event *event)
{
    if (pst_reactor_disarm(item->port->core->reactor, &item->deadline))
        unref_item(item); /* the timer held one */
    deliver(item, event);
    if (item->release)
        item->release(item->release_arg);
    unref_item(item);
}

static void set_error(pst_event *event, const pst_error *error)
{
    event->error = malloc(sizeof(*event->error));
    if (event->error)
        memcpy(event->error, error, sizeof(*event->error));
}

static void on_get(struct pst_get *get, pst_rc rc)
{
    struct item *item = pst_get_owner(get);
    const struct pst_get_outcome *outcome = pst_get_outcome_of(get);
    pst_event event = begin_event(item, rc);
    if (rc == PST_OK) {
        event.size = outcome->n_read;
        event.object_size = outcome->object_size;
        event.etag = dup_text(outcome->etag);
        event.buffer = pst_get_take(get);
    } else {
        set_error(&event, outcome->error);
    }
    end_item(item, &event);
}

static void on_put_stat(struct pst_task *task, pst_rc rc);

/* The store did not say how much it holds: look, before anybody is told that all is well (R1). */
static int start_size_check(struct item *item)
{
    struct pst_task *look = NULL;
    if (pst_port_has(item->port, PST_CAP_STAT))
        look = pst_task_new(item->port, PST_SLOT_STAT, NULL);
    if (!look)
        return 0;
    look->args.stat.struct_size = sizeof(look->args.stat);
    look->args.stat.key = item->key; /* in memory of item->task, which stays */
    look->owner = item;
    look->then = on_put_stat;
    pst_retry_submit(look, 0, 0);
    return 1;
}

static void end_put(struct item *item, uint64_t size, pst_rc rc, pst_error *error)
{
    struct pst_task *task = item->task;
    const pst_put_result *reply = &task->result.put;
    pst_event event = begin_event(item, rc);
    if (rc == PST_OK && item->kind == PST_REQ_PUT && size != PST_UNKNOWN &&
        size != task->args.put.size_hint) {
        event.status = pst_fail(error, PST_E_DATA_LOSS, "wrote %llu bytes, the store holds %llu",
                                (unsigned long long)task->args.put.size_hint,
                                (unsigned long long)size);
    }
    if (event.status == PST_OK) {
        event.size = item->kind == PST_REQ_PUT ? task->args.put.size_hint : size;
        event.object_size = event.size;
        event.etag = dup_text(reply->etag);
        atomic_fetch_add_explicit(&item->port->core->bytes_written, event.size,
                                  memory_order_relaxed);
    } else {
        pst_error line = PST_ERROR_INIT;
        pst_fail_at(item->port, pst_slot_name(task->slot), item->key, event.status, error, &line);
        set_error(&event, &line);
    }
    end_item(item, &event);
}

static void on_put_stat(struct pst_task *task, pst_rc rc)
{
    struct item *item = task->owner;
    end_put(item, rc == PST_OK ? task->result.stat.size : PST_UNKNOWN, PST_OK, &task->error);
    pst_task_unref(task);
}

static void on_task(struct pst_task *task, pst_rc rc)
{
    struct item *item = task->owner;
    if (item->kind == PST_REQ_PUT || item->kind == PST_REQ_COPY) {
        uint64_t size = task->result.put.size;
        if (item->kind == PST_REQ_PUT && rc == PST_OK && size == PST_UNKNOWN &&
            start_size_check(item))
            return;
        end_put(item, size, rc, &task->error);
        return;
    }
    if (rc == PST_OK && item->kind == PST_REQ_DELETE)
        rc = task->result.remove.status[0];
    pst_event event = begin_event(item, rc);
    if (rc == PST_OK && item->kind == PST_REQ_STAT) {
        event.attr = pst_attr_dup(&task->result.stat);
        event.object_size = event.size = task->result.stat.size;
        if (!event.attr)
            event.status = pst_fail(&task->error, PST_E_NO_MEMORY, "out of memory");
    }
    if (event.status != PST_OK) {
        pst_error line = PST_ERROR_INIT;
        pst_call_fail(task, item->key, event.status, &line);
        set_error(&event, &line);
    }
    end_item(item, &event);
}

/* ---- cancel ----------------------------------------------------------------------------------- */

static void stop_item(struct item *item, pst_rc code)
{
    if (item->is_loose) {
        pst_error line = PST_ERROR_INIT;
        pst_event event = begin_event(item, code);
        const char *operation = item->get ? "GET" : pst_slot_name(item->task->slot);
        pst_fail_at(item->port, operation, item->key, code, NULL, &line);
        set_error(&event, &line);
        deliver(item, &event);
    }
    if (item->get)
        pst_get_stop(item->get, code);
    else
        pst_retry_cancel(item->task, code);
}

static void run_deadline(void *arg)
{
    stop_item(arg, PST_E_DEADLINE);
    unref_item(arg);
}

void pst_queue_cancel(pst_queue *queue, uint64_t id)
{
    if (queue->generation != pst_fork_generation())
        return;
    pthread_mutex_lock(&queue->gate.mutex);
    struct item *item = *find_locked(queue, id);
    if (item)
        atomic_fetch_add_explicit(&item->refs, 1, memory_order_relaxed);
    pthread_mutex_unlock(&queue->gate.mutex);
    if (item) {
        stop_item(item, PST_E_CANCELLED);
        unref_item(item);
    }
}

/* ---- making items ----------------------------------------------------------------------------- */

static uint64_t sum_iov(const pst_iov *iov, size_t n)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += iov[i].len;
    return sum;
}

static pst_rc make_get(struct item *item, const pst_request *request)
{
    int is_quiet = pst_port_has(item->port, PST_CAP_CANCEL_BOUNDED);
    struct pst_get_spec spec = {
        .port = item->port,
        .key = request->key,
        .if_match = request->if_match,
        .offset = request->offset,
        .length = request->length,
        .flags = request->flags,
        .max_attempts = request->max_attempts,
        .deadline_ns = item->deadline.due_ns,
        .done = on_get,
        .owner = item,
    };
    item->is_loose = request->n_dst == 0 || request->release != NULL;
    if (request->n_dst > 0 && is_quiet) {
        spec.dst = request->dst;
        spec.n_dst = request->n_dst;
    } else if (request->n_dst > 0) {
        uint64_t room = sum_iov(request->dst, request->n_dst);
        item->is_loose = 1; /* the plugin never sees the caller's memory */
        item->bounce = calloc(request->n_dst, sizeof(*item->bounce));
        if (!item->bounce)
            return PST_E_NO_MEMORY;
        memcpy(item->bounce, request->dst, request->n_dst * sizeof(*item->bounce));
        item->n_bounce = request->n_dst;
        if (spec.length > room)
            spec.length = room;
    }
    item->get = pst_get_new(&spec);
    if (!item->get)
        return PST_E_NO_MEMORY;
    item->key = pst_get_key(item->get);
    return PST_OK;
}

/* The source as the task gets it: the caller's, or a copy where the plugin may be slow to let go. */
static pst_rc take_source(struct item *item, const pst_request *request, pst_put_args *args)
{
    args->size_hint = sum_iov(request->src, request->n_src);
    item->is_loose = request->release != NULL;
    if (pst_port_has(item->port, PST_CAP_CANCEL_BOUNDED)) {
        args->n_src = request->n_src;
        args->src = pst_task_keep(item->task, request->src, request->n_src * sizeof(pst_iov));
        return args->src ? (pst_rc)PST_OK : (pst_rc)PST_E_NO_MEMORY;
    }
    item->is_loose = 1;
    item->copy = pst_buffer_new(item->port->core->arenas, (size_t)args->size_hint, 1);
    if (!item->copy)
        return PST_E_NO_MEMORY;
    char *at = pst_buffer_bytes(item->copy);
    for (size_t i = 0; i < request->n_src; i++) {
        if (request->src[i].len > 0)
            memcpy(at, request->src[i].ptr, request->src[i].len);
        at += request->src[i].len;
    }
    const pst_iov whole = {pst_buffer_bytes(item->copy), (size_t)args->size_hint};
    args->n_src = 1;
    args->src = pst_task_keep(item->task, &whole, sizeof(whole));
    return args->src ? (pst_rc)PST_OK : (pst_rc)PST_E_NO_MEMORY;
}

static pst_rc make_put(struct item *item, const pst_request *request, pst_error *err)
{
    struct pst_write_plan plan;
    pst_put_args *args = &item->task->args.put;
    const pst_write_options options = {.struct_size = sizeof(options),
                                       .flags = request->flags,
                                       .if_match = request->if_match,
                                       .attr = request->attr};
    pst_rc rc = pst_write_plan_init(item->port, &options, &plan, err);
    if (rc != PST_OK)
        return rc;
    args->struct_size = sizeof(*args);
    args->flags = plan.flags;
    args->key = item->key;
    args->attr = pst_attr_keep(item->task, &plan.attr);
    if (!args->attr || !pst_task_keep_str(item->task, request->if_match, &args->if_match))
        return PST_E_NO_MEMORY;
    rc = take_source(item, request, args);
    if (rc == PST_OK && item->port->limits.part_max > 0 &&
        args->size_hint > item->port->limits.part_max)
        rc = pst_fail(err, PST_E_INVALID,
                      "%llu bytes are more than one request may carry (%llu): use a writer",
                      (unsigned long long)args->size_hint,
                      (unsigned long long)item->port->limits.part_max);
    return rc;
}

static pst_rc make_copy(struct item *item, const pst_request *request, pst_error *err)
{
    struct pst_write_plan plan;
    pst_copy_args *args = &item->task->args.copy;
    const pst_write_options options = {.struct_size = sizeof(options),
                                       .flags = request->flags,
                                       .if_match = request->if_match,
                                       .attr = request->attr};
    pst_rc rc = pst_write_plan_init(item->port, &options, &plan, err);
    if (rc == PST_OK)
        rc = pst_verb_check_key(item->port, request->to, err);
    if (rc != PST_OK)
        return rc;
    args->struct_size = sizeof(*args);
    args->flags = plan.flags | (plan.has_attr ? PST_COPY_REPLACE_ATTR : 0);
    args->from = item->key;
    args->attr = pst_attr_keep(item->task, &plan.attr);
    if (!args->attr || !pst_task_keep_str(item->task, request->to, &args->to) ||
        !pst_task_keep_str(item->task, request->if_match, &args->if_match))
        return PST_E_NO_MEMORY;
    return PST_OK;
}

static pst_rc make_delete(struct item *item, const pst_request *request)
{
    struct pst_task *task = item->task;
    static const pst_rc unfilled = PST_E_INTERNAL;
    task->args.remove = (pst_remove_args){.struct_size = sizeof(task->args.remove), .n_keys = 1};
    task->args.remove.keys = pst_task_keep(task, &item->key, sizeof(item->key));
    task->result.remove.status = pst_task_keep(task, &unfilled, sizeof(unfilled));
    if (!task->args.remove.keys || !task->result.remove.status ||
        !pst_task_keep_str(task, request->if_match, &task->args.remove.if_match))
        return PST_E_NO_MEMORY;
    return PST_OK;
}

static pst_rc make_task(struct item *item, const pst_request *request, pst_error *err)
{
    static const struct {
        enum pst_slot slot;
        uint64_t caps;
    } kinds[] = {
        [PST_REQ_PUT] = {PST_SLOT_PUT, PST_CAP_PUT},
        [PST_REQ_STAT] = {PST_SLOT_STAT, PST_CAP_STAT},
        [PST_REQ_DELETE] = {PST_SLOT_REMOVE, PST_CAP_REMOVE},
        [PST_REQ_COPY] = {PST_SLOT_COPY, PST_CAP_COPY},
    };
    pst_rc rc = pst_verb_need(item->port, kinds[request->kind].caps, err);
    if (rc != PST_OK)
        return rc;
    item->task = pst_task_new(item->port, kinds[request->kind].slot, NULL);
    if (!item->task || !pst_task_keep_str(item->task, request->key, &item->key))
        return PST_E_NO_MEMORY;
    item->task->owner = item;
    item->task->then = on_task;
    item->is_loose = 1;
    if (request->kind == PST_REQ_PUT)
        return make_put(item, request, err);
    if (request->kind == PST_REQ_COPY)
        return make_copy(item, request, err);
    if (request->kind == PST_REQ_DELETE)
        return make_delete(item, request);
    item->task->args.stat.struct_size = sizeof(item->task->args.stat);
    item->task->args.stat.key = item->key;
    return PST_OK;
}

static pst_rc make_item(struct pst_queue *queue, const pst_request *given, struct item **out,
                        pst_error *err)
{
    pst_request request = {0};
    pst_rc rc;
    *out = NULL;
    rc = pst_options_take(&request, sizeof(request), given, err);
    if (rc != PST_OK)
        return rc;
    if (request.kind < PST_REQ_GET || request.kind > PST_REQ_COPY || !request.store)
        return pst_fail(err, PST_E_INVALID,
                        request.store ? "unknown kind %u" : "no store (kind %u)", request.kind);
    struct item *item = calloc(1, sizeof(*item));
    if (!item)
        return pst_fail(err, PST_E_NO_MEMORY, "out of memory");
    atomic_init(&item->refs, 1);
    atomic_fetch_add(&queue->refs, 1);
    item->queue = queue;
    item->kind = request.kind;
    item->user_data = request.user_data;
    item->deadline.fn = run_deadline;
    item->deadline.arg = item;
    if (request.timeout_ms > 0)
        item->deadline.due_ns = pst_now_ns() + request.timeout_ms * 1000000u;
    rc = pst_store_port(request.store, &item->port, err);
    if (rc == PST_OK)
        rc = pst_verb_check_key(item->port, request.key, err);
    if (rc == PST_OK && request.kind == PST_REQ_GET)
        rc = make_get(item, &request);
    else if (rc == PST_OK)
        rc = make_task(item, &request, err);
    if (rc == PST_E_NO_MEMORY)
        pst_fail(err, rc, "out of memory");
    if (rc != PST_OK) {
        unref_item(item);
        return rc;
    }
    item->release = request.release;
    item->release_arg = request.release_arg;
    item->store = pst_store_ref(request.store);
    item->id = atomic_fetch_add(&item->port->core->next_op_id, 1) + 1;
    *out = item;
    return PST_OK;
}

static void start_item(struct item *item, uint32_t max_attempts)
{
    uint64_t deadline_ns = item->deadline.due_ns;
    if (deadline_ns > 0) {
        atomic_fetch_add_explicit(&item->refs, 1, memory_order_relaxed);
        pst_reactor_arm(item->port->core->reactor, &item->deadline, deadline_ns);
    }
    if (item->get)
        pst_get_start(item->get);
    else
        pst_retry_submit(item->task, max_attempts, deadline_ns);
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
    struct item **items = calloc(n, sizeof(struct item *));
    if (!items)
        return pst_fail(err, PST_E_NO_MEMORY, "out of memory");
    for (size_t i = 0; i < n && rc == PST_OK; i++) {
        rc = make_item(queue, &requests[i], &items[i], err);
        if (rc != PST_OK)
            pst_error_prefix(err, "queue: request %zu: ", i);
    }
    if (rc != PST_OK) {
        for (size_t i = 0; i < n && items[i]; i++) {
            pst_store_free(items[i]->store);
            unref_item(items[i]);
        }
        free(items);
        return rc;
    }
    pthread_mutex_lock(&queue->gate.mutex);
    for (size_t i = 0; i < n; i++) {
        struct item *item = items[i];
        atomic_fetch_add_explicit(&item->refs, 1, memory_order_relaxed); /* the operation */
        item->next_in_bucket = queue->locked.buckets[item->id % BUCKETS];
        queue->locked.buckets[item->id % BUCKETS] = item;
        queue->locked.n_live++;
        if (ids)
            ids[i] = item->id;
    }
    pthread_mutex_unlock(&queue->gate.mutex);
    pst_stack_enter(); /* one batch: plugins get it in one go, with one flush at its end */
    for (size_t i = 0; i < n; i++)
        start_item(items[i], requests[i].max_attempts);
    pst_stack_leave();
    free(items);
    return PST_OK;
}

static void scatter(struct item *item, pst_event *event)
{
    if (!item->bounce || !event->buffer)
        return;
    const char *from = pst_buffer_data(event->buffer);
    size_t left = pst_buffer_size(event->buffer);
    for (size_t i = 0; i < item->n_bounce && left > 0; i++) {
        size_t span = item->bounce[i].len < left ? item->bounce[i].len : left;
        memcpy(item->bounce[i].ptr, from, span);
        from += span;
        left -= span;
    }
    pst_buffer_unref(event->buffer);
    event->buffer = NULL;
}

static struct item *take_ready_locked(struct pst_queue *queue, size_t max, size_t *n)
{
    struct item *first = queue->locked.ready, **end = &queue->locked.ready;
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
    if (queue->locked.n_ready == 0 && *n > 0) {
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
    struct item *item = take_ready_locked(queue, max, n);
    pthread_mutex_unlock(&queue->gate.mutex);
    for (size_t i = 0; item; i++) {
        struct item *next = item->next_ready;
        events[i] = item->event;
        memset(&item->event, 0, sizeof(item->event));
        scatter(item, &events[i]);
        pst_store_free(item->store);
        unref_item(item);
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
static struct item *next_victim_locked(struct pst_queue *queue, size_t *bucket, uint64_t *after)
{
    for (; *bucket < BUCKETS; ++*bucket, *after = 0) {
        struct item *best = NULL;
        for (struct item *item = queue->locked.buckets[*bucket]; item;
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
        struct item *item = next_victim_locked(queue, &bucket, &after);
        pthread_mutex_unlock(&queue->gate.mutex);
        if (!item)
            return;
        stop_item(item, PST_E_CANCELLED);
        unref_item(item);
    }
}

/* The stores of items whose events nobody will reap; freed here, since that may wait. */
static void drop_stores(struct pst_queue *queue)
{
    for (size_t i = 0; i < BUCKETS; i++) {
        for (;;) {
            pst_store *store = NULL;
            pthread_mutex_lock(&queue->gate.mutex);
            for (struct item *item = queue->locked.buckets[i]; item && !store;
                 item = item->next_in_bucket) {
                store = item->store;
                item->store = NULL;
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
    queue->locked.is_freed = 1;
    size_t n;
    struct item *item = take_ready_locked(queue, SIZE_MAX, &n);
    pthread_mutex_unlock(&queue->gate.mutex);
    while (item) {
        struct item *next = item->next_ready;
        pst_store_free(item->store);
        unref_item(item);
        item = next;
    }
    drop_stores(queue);
    unref_queue(queue);
}
