/* queue_item.c - one request of a queue: from what the application asked for to its event.
 *
 * A request becomes a get, or a task with retries, and an item that ties it to the queue. The item goes
 * when the event was reaped and the operation has ended, whichever is later.
 *
 * Cancel and deadline: an operation that uses no memory of the caller (or whose caller gave a release
 * function) is "loose": its event comes at once, and what is left of it ends by itself. With plain caller
 * memory the event waits until nothing touches it (contract 3). Where the plugin does not promise a
 * prompt end, a get into caller memory goes through a buffer of ours and is copied when the event is
 * reaped, on the reaper's thread; a put is copied at submit. release() runs when the operation has ended,
 * or after that copy.
 *
 * A put whose store did not say how much it holds is followed by a stat, before anybody is told that all
 * is well. A write whose event was delivered before its end may have been applied, and the event says so
 * (contract 1). */
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/fault.h"
#include "io/attr.h"
#include "io/copy.h"
#include "io/outcome.h"
#include "io/queue_state.h"
#include "io/retry.h"
#include "io/verb.h"

static void drop_copy(struct pst_item *item)
{
    if (!item->copy)
        return;
    pst_budget_release(&item->port->core->budget, pst_buffer_capacity(item->copy));
    pst_buffer_unref(item->copy);
    item->copy = NULL;
}

void pst_item_unref(struct pst_item *item)
{
    if (atomic_fetch_sub_explicit(&item->refs, 1, memory_order_acq_rel) != 1)
        return;
    if (item->bounce && item->release)
        item->release(item->release_arg); /* after the copy, or there was none */
    pst_event_fini(&item->event);
    drop_copy(item);
    free(item->bounce);
    pst_get_unref(item->get);
    pst_task_unref(item->task);
    pst_task_unref(item->locked.look);
    if (item->port)
        pst_port_unref(item->port);
    pst_queue_unref(item->queue);
    free(item);
}

/* ---- the end ---------------------------------------------------------------------------------- */

static char *dup_text(pst_str text)
{
    char *copy = text.len > 0 ? malloc(text.len + 1) : NULL;
    if (copy) {
        memcpy(copy, text.ptr, text.len);
        copy[text.len] = '\0';
    }
    return copy;
}

static pst_event begin_event(const struct pst_item *item, pst_rc rc)
{
    return (pst_event){.id = item->id,
                       .user_data = item->user_data,
                       .status = rc,
                       .kind = item->kind,
                       .object_size = PST_UNKNOWN};
}

static void set_error(pst_event *event, const pst_error *error)
{
    event->error = malloc(sizeof(*event->error));
    if (event->error)
        memcpy(event->error, error, sizeof(*event->error));
}

/* Fail the event with the whole line. */
static void set_line(struct pst_item *item, pst_event *event, const pst_error *cause)
{
    pst_error line = PST_ERROR_INIT;
    const char *operation = item->get ? "GET" : pst_slot_name(item->task->slot);
    pst_fail_at(item->port, operation, item->key, event->status, cause, &line);
    set_error(event, &line);
}

/* The operation is over and touches no memory any more. */
static void end_item(struct pst_item *item, pst_event *event)
{
    if (pst_reactor_disarm(item->port->core->reactor, &item->deadline))
        pst_item_unref(item); /* the timer held one */
    drop_copy(item);
    pst_queue_deliver(item, event);
    if (item->release && (!item->bounce || PST_FAULT(RELEASE_EARLY)))
        item->release(item->release_arg);
    pst_item_unref(item);
}

static void on_get(struct pst_get *get, pst_rc rc)
{
    struct pst_item *item = pst_get_owner(get);
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

static void on_look(struct pst_task *look, pst_rc rc);

/* Ask how much the store holds. A stop from now on is one of this question. */
static int start_look(struct pst_item *item)
{
    struct pst_task *look = NULL;
    if (pst_port_has(item->port, PST_CAP_STAT))
        look = pst_task_new(item->port, PST_SLOT_STAT, NULL);
    if (!look)
        return 0;
    look->args.stat.struct_size = sizeof(look->args.stat);
    look->args.stat.key = item->key; /* in memory of item->task, which stays */
    look->owner = item;
    look->then = on_look;
    pthread_mutex_lock(&item->queue->gate.mutex);
    item->locked.look = look;
    item->locked.is_loose = 1; /* the source has been read */
    pst_rc stop_code = item->locked.stop_code;
    pthread_mutex_unlock(&item->queue->gate.mutex);
    if (stop_code != PST_OK)
        pst_retry_cancel(look, stop_code);
    pst_retry_submit(look, item->max_attempts, item->deadline.due_ns);
    return 1;
}

static void end_write(struct pst_item *item, uint64_t stored, pst_rc rc, pst_error *error)
{
    struct pst_task *task = item->task;
    uint64_t sent = task->args.put.size_hint;
    pst_event event = begin_event(item, rc);
    if (item->kind == PST_REQ_PUT && rc == PST_OK && stored != PST_UNKNOWN && stored != sent)
        event.status = pst_fail(error, PST_E_DATA_LOSS,
                                "the store holds %llu bytes of the %llu that were written",
                                (unsigned long long)stored, (unsigned long long)sent);
    if (event.status == PST_OK && item->kind == PST_REQ_PUT) {
        event.size = event.object_size = sent;
        atomic_fetch_add_explicit(&item->port->core->bytes_written, sent, memory_order_relaxed);
    } else if (event.status == PST_OK) {
        event.size = stored == PST_UNKNOWN ? 0 : stored;
        event.object_size = stored;
    }
    if (event.status == PST_OK)
        event.etag = dup_text(task->result.put.etag);
    else
        set_line(item, &event, error);
    end_item(item, &event);
}

/* Somebody else may have replaced the object since: then its size says nothing about ours. */
static int is_ours(const pst_attr *now, const pst_put_result *written)
{
    return now->etag.len == 0 || written->etag.len == 0 ||
           (now->etag.len == written->etag.len &&
            memcmp(now->etag.ptr, written->etag.ptr, now->etag.len) == 0);
}

static void on_look(struct pst_task *look, pst_rc rc)
{
    struct pst_item *item = look->owner;
    uint64_t stored = PST_UNKNOWN;
    if (rc == PST_OK && is_ours(&look->result.stat, &item->task->result.put)) {
        stored = look->result.stat.size;
    } else if (rc == PST_E_NOT_FOUND) {
        rc = pst_fail(&look->error, PST_E_DATA_LOSS,
                      "the store confirmed the object and does not have it");
    } else if (rc == PST_E_CANCELLED || rc == PST_E_DEADLINE) {
        look->error.flags |= PST_ERR_MAYBE_APPLIED;
    } else if (rc != PST_OK) {
        pst_logf(&item->port->core->log, PST_LEVEL_WARN, "PUT %s: size not verified: %s",
                 item->port->uri, look->error.message);
        rc = PST_OK;
    }
    end_write(item, stored, rc, &look->error);
}

static void on_task(struct pst_task *task, pst_rc rc)
{
    struct pst_item *item = task->owner;
    if (item->kind == PST_REQ_PUT || item->kind == PST_REQ_COPY) {
        uint64_t stored = task->result.put.size;
        if (item->kind != PST_REQ_PUT || rc != PST_OK || stored != PST_UNKNOWN || !start_look(item))
            end_write(item, stored, rc, &task->error);
        return;
    }
    if (rc == PST_OK && item->kind == PST_REQ_DELETE)
        rc = task->result.remove.status[0];
    if (rc > 0)
        rc = pst_fail(&task->error, PST_E_INTERNAL, "the plugin gave a key the status %d", (int)rc);
    pst_event event = begin_event(item, rc);
    if (rc == PST_OK && item->kind == PST_REQ_STAT) {
        event.attr = pst_attr_dup(&task->result.stat);
        event.object_size = event.size = task->result.stat.size;
        if (!event.attr)
            event.status = pst_fail(&task->error, PST_E_NO_MEMORY, "out of memory");
    }
    if (event.status != PST_OK)
        set_line(item, &event, &task->error);
    end_item(item, &event);
}

/* ---- stopping --------------------------------------------------------------------------------- */

void pst_item_stop(struct pst_item *item, pst_rc code)
{
    pthread_mutex_lock(&item->queue->gate.mutex);
    if (item->locked.stop_code == PST_OK)
        item->locked.stop_code = code;
    int is_loose = item->locked.is_loose;
    struct pst_task *task = item->locked.look ? item->locked.look : item->task;
    pthread_mutex_unlock(&item->queue->gate.mutex);
    if (item->get)
        pst_get_stop(item->get, code);
    else
        pst_retry_cancel(task, code);
    if (!is_loose)
        return;
    /* It goes on at the plugin, unless its end has delivered the event by now. */
    pst_error cause = PST_ERROR_INIT;
    pst_event event = begin_event(item, code);
    if (!item->get && pst_slot_writes(item->task->slot) && !PST_FAULT(FORGET_MAYBE))
        cause.flags |= PST_ERR_MAYBE_APPLIED;
    set_line(item, &event, &cause);
    pst_queue_deliver(item, &event);
}

static void run_deadline(void *arg)
{
    pst_item_stop(arg, PST_E_DEADLINE);
    pst_item_unref(arg);
}

void pst_item_scatter(struct pst_item *item, pst_event *event)
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

/* ---- making ----------------------------------------------------------------------------------- */

/* Sum up the bytes. INVALID for what is not memory. */
static pst_rc sum_iov(const pst_iov *iov, size_t n, uint64_t *sum, pst_error *err)
{
    int is_memory = n == 0 || iov != NULL;
    *sum = 0;
    for (size_t i = 0; i < n && is_memory; i++) {
        is_memory = (iov[i].ptr || iov[i].len == 0) && iov[i].len <= SIZE_MAX / 2 - *sum;
        *sum += iov[i].len;
    }
    return is_memory ? (pst_rc)PST_OK
                     : pst_fail(err, PST_E_INVALID, "source or destination is not memory");
}

static pst_rc make_get(struct pst_item *item, const pst_request *request, pst_error *err)
{
    uint64_t room = 0;
    pst_rc rc = pst_read_check_flags(request->flags, PST_READ_EXACT | PST_READ_ALLOW_UNPINNED, err);
    if (rc == PST_OK)
        rc = sum_iov(request->dst, request->n_dst, &room, err);
    if (rc != PST_OK)
        return rc;
    int is_quiet = pst_port_has(item->port, PST_CAP_CANCEL_BOUNDED);
    struct pst_get_spec spec = {
        .port = item->port,
        .key = request->key,
        .if_match = request->if_match,
        .version = request->version,
        .offset = request->offset,
        .length = request->length,
        .flags = request->flags,
        .max_attempts = request->max_attempts,
        .deadline_ns = item->deadline.due_ns,
        .done = on_get,
        .owner = item,
    };
    item->locked.is_loose = request->n_dst == 0 || request->release != NULL;
    if (request->n_dst > 0 && is_quiet) {
        spec.dst = request->dst;
        spec.n_dst = request->n_dst;
    } else if (request->n_dst > 0) {
        item->locked.is_loose = 1; /* the plugin never sees the caller's memory */
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
static pst_rc take_source(struct pst_item *item, const pst_request *request, pst_put_args *args)
{
    item->locked.is_loose = request->release != NULL;
    if (pst_port_has(item->port, PST_CAP_CANCEL_BOUNDED)) {
        args->n_src = request->n_src;
        args->src = pst_task_keep(item->task, request->src, request->n_src * sizeof(pst_iov));
        return args->src ? (pst_rc)PST_OK : (pst_rc)PST_E_NO_MEMORY;
    }
    item->locked.is_loose = 1;
    item->copy = pst_buffer_new(item->port->core->arenas, (size_t)args->size_hint, 1);
    if (!item->copy)
        return PST_E_NO_MEMORY;
    pst_budget_force(&item->port->core->budget, args->size_hint); /* a submit cannot wait */
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

/* One request must do. */
static pst_rc check_size(const struct pst_port *port, uint64_t size, pst_error *err)
{
    uint64_t part_max = port->limits.part_max, object_max = port->limits.object_max;
    if (part_max > 0 && size > part_max)
        return pst_fail(err, PST_E_INVALID,
                        "%llu bytes are more than one request may carry (%llu): use a writer",
                        (unsigned long long)size, (unsigned long long)part_max);
    if (object_max > 0 && size > object_max)
        return pst_fail(err, PST_E_INVALID, "%llu bytes are more than the store's limit of %llu",
                        (unsigned long long)size, (unsigned long long)object_max);
    return PST_OK;
}

/* Sums that the store wants, over exactly what it gets: computed when the item is started. */
static pst_rc plan_sums(struct pst_item *item, uint32_t which)
{
    pst_put_args *args = &item->task->args.put;
    pst_sum *list = pst_task_keep(item->task, NULL, PST_SUMS_MAX * sizeof(*list));
    args->sums = list;
    args->sum_stride = sizeof(*list);
    item->summing = (struct pst_summing){
        .which = which, .src = args->src, .n_src = args->n_src, .list = list, .n = &args->n_sums};
    return list ? (pst_rc)PST_OK : (pst_rc)PST_E_NO_MEMORY;
}

static pst_rc make_put(struct pst_item *item, const pst_request *request, pst_error *err)
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
    rc = sum_iov(request->src, request->n_src, &args->size_hint, err);
    if (rc == PST_OK)
        rc = check_size(item->port, args->size_hint, err);
    if (rc == PST_OK)
        rc = take_source(item, request, args);
    return rc == PST_OK ? plan_sums(item, plan.sums) : rc;
}

static pst_rc make_copy(struct pst_item *item, const pst_request *request, pst_error *err)
{
    const pst_copy_options options = {.struct_size = sizeof(options),
                                      .flags = request->flags,
                                      .if_match = request->if_match,
                                      .from_version = request->version,
                                      .attr = request->attr};
    pst_store *from = request->from ? request->from : request->store;
    pst_rc rc = pst_copy_fill(item->task, from, item->key, request->store, request->to, &options,
                              err);
    if (rc == PST_OK && from != request->store)
        item->key = item->task->args.copy.to; /* what lies in the store that an error names */
    return rc;
}

static pst_rc make_stat(struct pst_item *item, const pst_request *request)
{
    pst_stat_args *args = &item->task->args.stat;
    args->struct_size = sizeof(*args);
    args->key = item->key;
    return pst_task_keep_str(item->task, request->version, &args->version)
               ? (pst_rc)PST_OK
               : (pst_rc)PST_E_NO_MEMORY;
}

static pst_rc make_delete(struct pst_item *item, const pst_request *request)
{
    pst_str version;
    struct pst_task *task = item->task;
    static const pst_rc unfilled = PST_E_INTERNAL;
    task->args.remove = (pst_remove_args){.struct_size = sizeof(task->args.remove), .n_keys = 1};
    task->args.remove.keys = pst_task_keep(task, &item->key, sizeof(item->key));
    task->result.remove.status = pst_task_keep(task, &unfilled, sizeof(unfilled));
    if (!task->args.remove.keys || !task->result.remove.status ||
        !pst_task_keep_str(task, request->if_match, &task->args.remove.if_match) ||
        !pst_task_keep_str(task, request->version, &version))
        return PST_E_NO_MEMORY;
    if (version.len > 0)
        task->args.remove.versions = pst_task_keep(task, &version, sizeof(version));
    return version.len == 0 || task->args.remove.versions ? (pst_rc)PST_OK
                                                          : (pst_rc)PST_E_NO_MEMORY;
}

static const struct {
    enum pst_slot slot;
    uint64_t caps;
} kinds[] = {
    [PST_REQ_PUT] = {PST_SLOT_PUT, PST_CAP_PUT},
    [PST_REQ_STAT] = {PST_SLOT_STAT, PST_CAP_STAT},
    [PST_REQ_DELETE] = {PST_SLOT_REMOVE, PST_CAP_REMOVE},
    [PST_REQ_COPY] = {PST_SLOT_COPY, PST_CAP_COPY},
};

static pst_rc make_task(struct pst_item *item, const pst_request *request, pst_error *err)
{
    pst_rc rc = pst_verb_need(item->port, kinds[request->kind].caps, err);
    if (rc != PST_OK)
        return rc;
    item->task = pst_task_new(item->port, kinds[request->kind].slot, NULL);
    if (!item->task || !pst_task_keep_str(item->task, request->key, &item->key))
        return PST_E_NO_MEMORY;
    item->task->owner = item;
    item->task->then = on_task;
    item->locked.is_loose = 1;
    if (request->kind == PST_REQ_PUT)
        return make_put(item, request, err);
    if (request->kind == PST_REQ_COPY)
        return make_copy(item, request, err);
    if (request->kind == PST_REQ_DELETE)
        return make_delete(item, request);
    return make_stat(item, request);
}

static void init_item(struct pst_item *item, struct pst_queue *queue, const pst_request *request)
{
    const pst_call call = {.struct_size = sizeof(call), .timeout_ms = request->timeout_ms};
    atomic_init(&item->refs, 1);
    atomic_fetch_add(&queue->refs, 1);
    item->queue = queue;
    item->id = atomic_fetch_add(&queue->core->next_op_id, 1) +
               1; /* stores may be of other contexts */
    item->kind = request->kind;
    item->max_attempts = request->max_attempts;
    item->user_data = request->user_data;
    item->deadline.fn = run_deadline;
    item->deadline.arg = item;
    item->deadline.due_ns = pst_limit_of(&call).deadline_ns;
}

pst_rc pst_item_new(struct pst_queue *queue, const pst_request *given, struct pst_item **out,
                    pst_error *err)
{
    pst_request request = {0};
    *out = NULL;
    pst_rc rc = pst_options_take(&request, sizeof(request), given, err);
    if (rc != PST_OK)
        return rc;
    if (request.kind < PST_REQ_GET || request.kind > PST_REQ_COPY || !request.store)
        return pst_fail(err, PST_E_INVALID,
                        request.store ? "unknown kind %u" : "no store (kind %u)", request.kind);
    struct pst_item *item = calloc(1, sizeof(*item));
    if (!item)
        return pst_fail(err, PST_E_NO_MEMORY, "out of memory");
    init_item(item, queue, &request);
    rc = pst_store_port(request.store, &item->port, err);
    if (rc == PST_OK)
        rc = pst_verb_check_key(item->port, request.key, err);
    if (rc == PST_OK)
        rc = pst_verb_check_version(item->port, request.version, err);
    if (rc == PST_OK && request.kind == PST_REQ_PUT && request.version.len > 0)
        rc = pst_fail(err, PST_E_INVALID, "what is written cannot choose its version");
    if (rc == PST_OK && request.kind == PST_REQ_GET)
        rc = make_get(item, &request, err);
    else if (rc == PST_OK)
        rc = make_task(item, &request, err);
    if (rc == PST_E_NO_MEMORY)
        pst_fail(err, rc, "out of memory");
    if (rc != PST_OK) {
        if (item->port)
            pst_fail_at(item->port,
                        request.kind == PST_REQ_GET ? "GET"
                                                    : pst_slot_name(kinds[request.kind].slot),
                        request.key, rc, err, err);
        pst_item_unref(item);
        return rc;
    }
    item->release = request.release;
    item->release_arg = request.release_arg;
    item->locked.store = pst_store_ref(request.store);
    *out = item;
    return PST_OK;
}

void pst_item_start(struct pst_item *item)
{
    uint64_t deadline_ns = item->deadline.due_ns;
    if (deadline_ns > 0) {
        atomic_fetch_add_explicit(&item->refs, 1, memory_order_relaxed);
        pst_reactor_arm(item->port->core->reactor, &item->deadline, deadline_ns);
    }
    if (item->get) {
        pst_get_start(item->get);
        return;
    }
    item->summing.task = item->task;
    item->summing.max_attempts = item->max_attempts;
    item->summing.deadline_ns = deadline_ns;
    pst_summing_start(&item->summing);
}
