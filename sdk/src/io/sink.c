/* sink.c - the operations of one writer and their end.
 *
 * Every operation is a trip: a task, the bytes it carries, and a reference to the sink. Its end is noted
 * in the task's hook: bytes and budget go back at once, the first failure of a part is kept for the
 * writer, an upload that was opened is remembered even if nobody waits for it any more.
 *
 * Order (contract 1 and 14): a part is resent only by io/retry.c, after its attempt before has ended.
 * Commit starts when no part is under way. Abort starts when nothing is, from the hook of the last trip
 * if need be, so it happens even when the writer is gone; its task was made together with the upload and
 * cannot fail for lack of memory. upload_free is called by who drops the last reference, never on top of
 * plugin code, when no operation can be outstanding.
 *
 * A commit whose end nobody waited for is not aborted behind its back: the hook of the commit knows how it
 * went, and only then decides. */
#include "io/sink.h"

#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/fault.h"
#include "core/stack.h"
#include "io/attr.h"
#include "io/outcome.h"
#include "io/retry.h"

struct trip {
    struct pst_sink *sink;
    struct pst_task *task;
    struct pst_cargo *cargo;
    struct trip *prev, *next; /* under way */
    int is_done, is_abandoned;
    pst_rc rc;
    pst_sum sum;
    pst_iov src[]; /* one for each cargo */
};

struct pst_sink {
    atomic_uint refs; /* the writer, each trip */
    struct pst_port *port;
    pst_str key, if_match; /* into `texts` */
    char *texts;
    pst_attr *attr;
    uint32_t put_flags;
    uint64_t size_hint;
    struct pst_task *abort_task; /* made with the upload, used once */
    struct pst_timer free_timer;
    struct pst_gate gate;
    struct {
        pst_upload *upload;
        struct trip *trips;
        uint32_t n_trips;
        int is_committed, is_aborted, wants_abort;
        pst_rc rc; /* first failure of a part */
        pst_rc abort_rc;
        pst_error error, abort_error;
    } locked; /* under gate.mutex; trips too */
};

/* ---- the sink --------------------------------------------------------------------------------- */

struct pst_sink *pst_sink_new(struct pst_port *port, pst_str key, const struct pst_write_plan *plan)
{
    pst_str if_match = plan->options.if_match;
    struct pst_sink *sink = calloc(1, sizeof(*sink));
    char *texts = malloc(key.len + if_match.len + 1);
    pst_attr *attr = pst_attr_dup(&plan->attr);
    if (!sink || !texts || !attr) {
        pst_attr_free(attr);
        free(texts);
        free(sink);
        return NULL;
    }
    if (key.len > 0)
        memcpy(texts, key.ptr, key.len);
    if (if_match.len > 0)
        memcpy(texts + key.len, if_match.ptr, if_match.len);
    atomic_init(&sink->refs, 1);
    sink->port = pst_port_ref(port);
    sink->texts = texts;
    sink->key = pst_str_of(texts, key.len);
    sink->if_match = pst_str_of(texts + key.len, if_match.len);
    sink->attr = attr;
    sink->put_flags = plan->flags;
    sink->size_hint = plan->options.size_hint ? plan->options.size_hint : PST_UNKNOWN;
    sink->locked.error.struct_size = sizeof(sink->locked.error);
    sink->locked.abort_error.struct_size = sizeof(sink->locked.abort_error);
    pst_gate_init(&sink->gate);
    return sink;
}

static void destroy_sink(void *arg)
{
    struct pst_sink *sink = arg;
    if (sink->locked.upload) {
        pst_stack_enter();
        sink->port->loaded->ops.upload_free(sink->locked.upload);
        if (PST_FAULT(FREE_UPLOAD_TWICE))
            sink->port->loaded->ops.upload_free(sink->locked.upload);
        pst_stack_leave();
    }
    pst_task_unref(sink->abort_task);
    pst_gate_fini(&sink->gate);
    pst_port_unref(sink->port);
    pst_attr_free(sink->attr);
    free(sink->texts);
    free(sink);
}

/* The last reference is gone. */
static void end_sink(struct pst_sink *sink)
{
    sink->free_timer.fn = destroy_sink;
    sink->free_timer.arg = sink;
    if (!sink->locked.upload || pst_stack_is_clear())
        destroy_sink(sink);
    else
        pst_reactor_arm(sink->port->core->reactor, &sink->free_timer, 0);
}

void pst_sink_free(struct pst_sink *sink)
{
    if (sink && atomic_fetch_sub(&sink->refs, 1) == 1)
        end_sink(sink);
}

struct pst_port *pst_sink_port(struct pst_sink *sink)
{
    return sink->port;
}

pst_str pst_sink_key(const struct pst_sink *sink)
{
    return sink->key;
}

/* ---- trips ------------------------------------------------------------------------------------ */

static size_t count_cargo(const struct pst_cargo *cargo)
{
    size_t n = 0;
    for (; cargo; cargo = cargo->next)
        n++;
    return n;
}

/* Make a task and its trip, which lives in the task. NULL for lack of memory. */
static struct trip *new_trip(struct pst_sink *sink, enum pst_slot slot, struct pst_cargo *cargo,
                             const pst_sum *sum)
{
    size_t n = count_cargo(cargo);
    struct pst_task *task = pst_task_new(sink->port, slot, NULL);
    struct trip *trip = task ? pst_task_keep(task, NULL, sizeof(*trip) + n * sizeof(trip->src[0]))
                             : NULL;
    if (!trip) {
        pst_task_unref(task);
        return NULL;
    }
    *trip = (struct trip){.sink = sink, .task = task, .cargo = cargo};
    if (sum)
        trip->sum = *sum;
    for (size_t i = 0; cargo; cargo = cargo->next, i++)
        trip->src[i] = (pst_iov){pst_buffer_bytes(cargo->buffer), cargo->len};
    return trip;
}

static void start_trip(struct trip *trip, uint32_t max_attempts, uint32_t affinity,
                       uint64_t deadline_ns);

static int is_abort_due_locked(const struct pst_sink *sink)
{
    return sink->locked.wants_abort && sink->locked.n_trips == 0 && sink->locked.upload &&
           !sink->locked.is_committed && !sink->locked.is_aborted && sink->abort_task;
}

/* Turn the task that was put aside into a trip. With the mutex held. */
static struct trip *take_abort_locked(struct pst_sink *sink)
{
    struct trip *trip = sink->abort_task->owner;
    sink->abort_task->object = sink->locked.upload;
    sink->abort_task = NULL;
    atomic_fetch_add(&sink->refs, 1);
    sink->locked.n_trips++; /* the caller starts it after unlocking; nothing else may start now */
    return trip;
}

static void unlink_locked(struct trip *trip)
{
    struct pst_sink *sink = trip->sink;
    if (trip->prev)
        trip->prev->next = trip->next;
    else
        sink->locked.trips = trip->next;
    if (trip->next)
        trip->next->prev = trip->prev;
    sink->locked.n_trips--;
}

static void note_end_locked(struct trip *trip, pst_rc rc)
{
    struct pst_sink *sink = trip->sink;
    switch (trip->task->slot) {
    case PST_SLOT_UPLOAD_OPEN:
        if (rc == PST_OK)
            sink->locked.upload = trip->task->result.upload.upload;
        break;
    case PST_SLOT_UPLOAD_PART:
        if (rc != PST_OK && sink->locked.rc == PST_OK)
            sink->locked.rc = pst_call_fail(trip->task, sink->key, rc, &sink->locked.error);
        break;
    case PST_SLOT_UPLOAD_COMMIT:
        if (rc == PST_OK)
            sink->locked.is_committed = 1;
        break;
    case PST_SLOT_UPLOAD_ABORT:
        sink->locked.is_aborted = rc == PST_OK;
        sink->locked.abort_rc = rc;
        if (rc != PST_OK)
            pst_call_fail(trip->task, sink->key, rc, &sink->locked.abort_error);
        break;
    default:
        break;
    }
}

static void on_end(struct pst_task *task, pst_rc rc)
{
    struct trip *trip = task->owner;
    struct pst_sink *sink = trip->sink;
    struct trip *abort_trip = NULL;
    int is_part = task->slot == PST_SLOT_UPLOAD_PART;
    if (is_part) { /* before anyone is told: who waits for a part finds its budget free */
        if (rc == PST_OK)
            atomic_fetch_add_explicit(&task->port->core->bytes_written, trip->cargo->len,
                                      memory_order_relaxed);
        pst_cargo_free(trip->cargo);
        trip->cargo = NULL;
    }
    pthread_mutex_lock(&sink->gate.mutex);
    note_end_locked(trip, rc);
    unlink_locked(trip);
    trip->rc = rc;
    trip->is_done = 1;
    struct pst_cargo *cargo = trip->is_abandoned ? trip->cargo : NULL;
    if (is_abort_due_locked(sink))
        abort_trip = take_abort_locked(sink);
    /* Let go before whoever waits can go on: then the writer's reference is the last one, and free
     * leaves nothing to be done later. */
    int is_last = atomic_fetch_sub(&sink->refs, 1) == 1;
    pthread_cond_broadcast(&sink->gate.changed);
    pthread_mutex_unlock(&sink->gate.mutex);
    pst_cargo_free(cargo);
    if (abort_trip)
        start_trip(abort_trip, 0, task->op.affinity, 0);
    pst_task_unref(task);
    if (is_last)
        end_sink(sink);
}

/* The reference to the task that the caller holds becomes the trip's; take another one to wait. The
 * abort was counted, and has its reference to the sink, since it was taken. */
static void start_trip(struct trip *trip, uint32_t max_attempts, uint32_t affinity,
                       uint64_t deadline_ns)
{
    struct pst_sink *sink = trip->sink;
    int is_abort = trip->task->slot == PST_SLOT_UPLOAD_ABORT;
    trip->task->owner = trip;
    trip->task->then = on_end;
    trip->task->op.affinity = affinity;
    if (!is_abort)
        atomic_fetch_add(&sink->refs, 1);
    pthread_mutex_lock(&sink->gate.mutex);
    trip->next = sink->locked.trips;
    if (trip->next)
        trip->next->prev = trip;
    sink->locked.trips = trip;
    sink->locked.n_trips += !is_abort;
    pthread_mutex_unlock(&sink->gate.mutex);
    pst_retry_submit(trip->task, max_attempts, deadline_ns);
}

/* Start a trip and wait for its end; the caller holds a reference to the task of its own. When the wait
 * is cut short the trip goes on alone, with its cargo. */
static pst_rc run_trip(struct trip *trip, const struct pst_sink_run *run, pst_error *err)
{
    struct pst_sink *sink = trip->sink;
    struct pst_task *task = pst_task_ref(trip->task);
    enum pst_slot slot = task->slot;
    pst_rc rc = PST_OK;
    start_trip(trip, run->max_attempts, run->affinity, run->limit.deadline_ns);
    pthread_mutex_lock(&sink->gate.mutex);
    while (!trip->is_done && rc == PST_OK)
        rc = pst_gate_sleep(&sink->gate, &run->limit);
    int is_done = trip->is_done;
    trip->is_abandoned = !is_done;
    if (is_done)
        rc = trip->rc;
    pthread_mutex_unlock(&sink->gate.mutex);
    if (!is_done) {
        pst_retry_cancel(task, rc);
        pst_fail_at(sink->port, pst_slot_name(slot), sink->key, rc, NULL, err);
        if (err && (slot == PST_SLOT_PUT || slot == PST_SLOT_UPLOAD_COMMIT))
            err->flags |= PST_ERR_MAYBE_APPLIED;
    } else if (rc != PST_OK) {
        pst_call_fail(task, sink->key, rc, err);
    }
    pst_task_unref(task);
    return rc;
}

static pst_rc fail_for_memory(struct pst_sink *sink, pst_error *err)
{
    return pst_fail_at(sink->port, "PUT", sink->key, PST_E_NO_MEMORY, NULL, err);
}

static void fill_put(struct trip *trip)
{
    const struct pst_sink *sink = trip->sink;
    pst_put_args *args = &trip->task->args.put;
    args->struct_size = sizeof(*args);
    args->flags = sink->put_flags;
    args->key = sink->key;
    args->if_match = sink->if_match;
    args->attr = sink->attr;
    args->size_hint = sink->size_hint;
}

/* ---- put -------------------------------------------------------------------------------------- */

pst_rc pst_sink_put(struct pst_sink *sink, const struct pst_sink_run *run, struct pst_cargo **cargo,
                    uint64_t size, const pst_sum *sum, pst_write_result *result, pst_error *err)
{
    struct trip *trip = new_trip(sink, PST_SLOT_PUT, *cargo, sum);
    if (!trip)
        return fail_for_memory(sink, err);
    pst_put_args *args = &trip->task->args.put;
    fill_put(trip);
    args->size_hint = size;
    args->src = trip->src;
    args->n_src = count_cargo(*cargo);
    if (sum) {
        args->sums = &trip->sum;
        args->sum_stride = sizeof(trip->sum);
        args->n_sums = 1;
    }
    for (struct pst_cargo *at = *cargo; at; at = at->next)
        pst_cargo_seal(at);
    struct pst_task *task = pst_task_ref(trip->task);
    pst_rc rc = run_trip(trip, run, err);
    if (rc == PST_OK) {
        atomic_fetch_add_explicit(&sink->port->core->bytes_written, size, memory_order_relaxed);
        pst_outcome_take(&task->result.put, result);
        pst_cargo_free(*cargo);
    }
    if (rc == PST_OK || trip->is_abandoned)
        *cargo = NULL;
    pst_task_unref(task);
    return rc;
}

/* ---- upload ----------------------------------------------------------------------------------- */

/* Put aside a task that can abort the upload when there is no memory. */
static int prepare_abort(struct pst_sink *sink)
{
    if (sink->abort_task)
        return 1;
    struct trip *trip = new_trip(sink, PST_SLOT_UPLOAD_ABORT, NULL, NULL);
    if (!trip)
        return 0;
    trip->task->owner = trip;
    trip->task->args.abort.struct_size = sizeof(trip->task->args.abort);
    sink->abort_task = trip->task;
    return 1;
}

pst_rc pst_sink_open(struct pst_sink *sink, const struct pst_sink_run *run, pst_error *err)
{
    struct trip *trip = new_trip(sink, PST_SLOT_UPLOAD_OPEN, NULL, NULL);
    if (!trip || !prepare_abort(sink)) {
        if (trip)
            pst_task_unref(trip->task);
        return fail_for_memory(sink, err);
    }
    fill_put(trip);
    pst_rc rc = run_trip(trip, run, err);
    if (rc == PST_OK && !sink->locked.upload) {
        pst_error cause = PST_ERROR_INIT;
        pst_fail(&cause, PST_E_INTERNAL, "the plugin opened no upload");
        rc = pst_fail_at(sink->port, "PUT", sink->key, PST_E_INTERNAL, &cause, err);
    }
    return rc;
}

/* Wait until at most `n_left` trips are under way or a part has failed. */
static pst_rc wait_for_trips(struct pst_sink *sink, const struct pst_limit *limit, uint32_t n_left,
                             pst_error *err)
{
    pst_rc rc = PST_OK;
    pthread_mutex_lock(&sink->gate.mutex);
    while (sink->locked.n_trips > n_left && sink->locked.rc == PST_OK && rc == PST_OK)
        rc = pst_gate_sleep(&sink->gate, limit);
    if (sink->locked.rc != PST_OK) {
        rc = sink->locked.rc;
        pst_error_copy(err, &sink->locked.error);
        pthread_mutex_unlock(&sink->gate.mutex);
        return rc;
    }
    pthread_mutex_unlock(&sink->gate.mutex);
    return rc == PST_OK ? rc : pst_fail_at(sink->port, "PUT", sink->key, rc, NULL, err);
}

pst_rc pst_sink_send_part(struct pst_sink *sink, const struct pst_sink_run *run, uint32_t max,
                          uint32_t number, uint64_t offset, struct pst_cargo *cargo, int has_sum,
                          pst_error *err)
{
    pst_sum sum = pst_sum_crc32c(cargo->crc32c);
    pst_rc rc = wait_for_trips(sink, &run->limit, max - 1, err);
    struct trip *trip = rc == PST_OK ? new_trip(sink, PST_SLOT_UPLOAD_PART, cargo, &sum) : NULL;
    if (!trip) {
        pst_cargo_free(cargo);
        return rc == PST_OK ? fail_for_memory(sink, err) : rc;
    }
    pst_part_args *args = &trip->task->args.part;
    trip->task->object = sink->locked.upload;
    args->struct_size = sizeof(*args);
    args->offset = offset;
    args->number = number;
    args->src = trip->src;
    args->n_src = 1;
    if (has_sum) {
        args->sums = &trip->sum;
        args->sum_stride = sizeof(trip->sum);
        args->n_sums = 1;
    }
    pst_cargo_seal(cargo);
    start_trip(trip, run->max_attempts, run->affinity, run->deadline_ns);
    return PST_OK;
}

pst_rc pst_sink_settle(struct pst_sink *sink, const struct pst_sink_run *run, pst_error *err)
{
    return wait_for_trips(sink, &run->limit, 0, err);
}

pst_rc pst_sink_commit(struct pst_sink *sink, const struct pst_sink_run *run, uint64_t size,
                       uint32_t n_parts, const pst_sum *sum, pst_write_result *result,
                       pst_error *err)
{
    struct trip *trip = new_trip(sink, PST_SLOT_UPLOAD_COMMIT, NULL, sum);
    if (!trip)
        return fail_for_memory(sink, err);
    pst_commit_args *args = &trip->task->args.commit;
    trip->task->object = sink->locked.upload;
    args->struct_size = sizeof(*args);
    args->size = size;
    args->n_parts = n_parts;
    if (sum) {
        args->sums = &trip->sum;
        args->sum_stride = sizeof(trip->sum);
        args->n_sums = 1;
    }
    struct pst_task *task = pst_task_ref(trip->task);
    pst_rc rc = run_trip(trip, run, err);
    if (rc == PST_OK)
        pst_outcome_take(&task->result.put, result);
    pst_task_unref(task);
    return rc;
}

/* ---- abort ------------------------------------------------------------------------------------ */

static void cancel_trips(struct pst_sink *sink)
{
    for (;;) {
        struct pst_task *found = NULL;
        pthread_mutex_lock(&sink->gate.mutex);
        for (struct trip *trip = sink->locked.trips; trip && !found; trip = trip->next) {
            if (trip->task->slot != PST_SLOT_UPLOAD_ABORT &&
                !atomic_load(&trip->task->is_cancelled))
                found = pst_task_ref(trip->task);
        }
        pthread_mutex_unlock(&sink->gate.mutex);
        if (!found)
            return;
        pst_retry_cancel(found, PST_E_CANCELLED);
        pst_task_unref(found);
    }
}

pst_rc pst_sink_abort(struct pst_sink *sink, const struct pst_sink_run *run, pst_error *err)
{
    struct trip *abort_trip = NULL;
    pst_rc rc = PST_OK;
    cancel_trips(sink);
    pthread_mutex_lock(&sink->gate.mutex);
    sink->locked.wants_abort = 1;
    sink->locked.abort_rc = PST_OK;
    int is_again = sink->locked.upload && !sink->locked.is_committed && !sink->locked.is_aborted &&
                   sink->locked.n_trips == 0;
    if (is_again && !prepare_abort(sink))
        rc = PST_E_NO_MEMORY;
    if (is_abort_due_locked(sink))
        abort_trip = take_abort_locked(sink);
    pthread_mutex_unlock(&sink->gate.mutex);
    if (abort_trip)
        start_trip(abort_trip, run->max_attempts, run->affinity, 0);

    pthread_mutex_lock(&sink->gate.mutex);
    while (sink->locked.n_trips > 0 && rc == PST_OK)
        rc = pst_gate_sleep(&sink->gate, &run->limit);
    pst_rc abort_rc = sink->locked.abort_rc;
    if (rc == PST_OK && abort_rc != PST_OK)
        pst_error_copy(err, &sink->locked.abort_error);
    pthread_mutex_unlock(&sink->gate.mutex);
    if (rc != PST_OK)
        return pst_fail_at(sink->port, "PUT abort", sink->key, rc, NULL, err);
    return abort_rc;
}
