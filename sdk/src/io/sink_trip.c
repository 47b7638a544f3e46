/* sink_trip.c - how the operations of a writer start, and what their end changes.
 *
 * The end of a trip is noted in its task's hook: bytes and budget go back at once, the first failure of a
 * part is kept for the writer, an upload that was opened is remembered even if nobody waits for it any
 * more. The hook of the last trip starts the abort that was asked for meanwhile: it happens even when the
 * writer is gone. */
#include "io/sink_state.h"

#include "core/error.h"
#include "io/retry.h"

struct pst_trip *pst_trip_new(struct pst_sink *sink, enum pst_slot slot, struct pst_cargo *cargo)
{
    size_t n = 0;
    for (const struct pst_cargo *at = cargo; at; at = at->next)
        n += at->n_spans;
    struct pst_task *task = pst_task_new(sink->port, slot, NULL);
    struct pst_trip *trip =
        task ? pst_task_keep(task, NULL, sizeof(*trip) + n * sizeof(trip->src[0])) : NULL;
    if (!trip) {
        pst_task_unref(task);
        return NULL;
    }
    *trip = (struct pst_trip){.sink = sink, .task = task, .cargo = cargo};
    for (; cargo; cargo = cargo->next) {
        for (size_t i = 0; i < cargo->n_spans; i++)
            trip->src[trip->n_src++] = (pst_iov){cargo->spans[i].data, cargo->spans[i].len};
    }
    return trip;
}

void pst_trip_add_sums(struct pst_trip *trip, const struct pst_sums *sums, uint32_t *n)
{
    *n = pst_sums_list(sums, trip->sums);
    trip->summing.which = trip->n_src > 0 ? sums->which & PST_SUMS_DIGEST : 0;
    trip->summing.list = trip->sums;
    trip->summing.n = n;
}

int pst_trip_is_abort_due(const struct pst_sink *sink)
{
    return sink->locked.wants_abort && sink->locked.n_trips == 0 && sink->locked.upload &&
           !sink->locked.is_committed && !sink->locked.is_aborted && sink->abort_task;
}

struct pst_trip *pst_trip_take_abort(struct pst_sink *sink)
{
    struct pst_trip *trip = sink->abort_task->owner;
    sink->abort_task->object = sink->locked.upload;
    sink->abort_task = NULL;
    atomic_fetch_add(&sink->refs, 1);
    sink->locked.n_trips++; /* the caller starts it after unlocking; nothing else may start now */
    return trip;
}

static void unlink_locked(struct pst_trip *trip)
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

static void note_end_locked(struct pst_trip *trip, pst_rc rc)
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
    case PST_SLOT_PUT:
    case PST_SLOT_UPLOAD_COMMIT:
        if (rc == PST_OK)
            sink->locked.is_committed = 1;
        else if (trip->task->error.flags & PST_ERR_MAYBE_APPLIED)
            sink->locked.is_in_doubt = 1;
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
    struct pst_trip *trip = task->owner;
    struct pst_sink *sink = trip->sink;
    struct pst_trip *abort_trip = NULL;
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
    if (pst_trip_is_abort_due(sink))
        abort_trip = pst_trip_take_abort(sink);
    /* Let go before whoever waits can go on: then the writer's reference is the last one, and free
     * leaves nothing to be done later. */
    int is_last = atomic_fetch_sub(&sink->refs, 1) == 1;
    pthread_cond_broadcast(&sink->gate.changed);
    pthread_mutex_unlock(&sink->gate.mutex);
    pst_cargo_free(cargo);
    if (abort_trip)
        pst_trip_start(abort_trip, 0, task->op.affinity, 0);
    pst_task_unref(task);
    if (is_last)
        pst_sink_end(sink);
}

void pst_trip_start(struct pst_trip *trip, uint32_t max_attempts, uint32_t affinity,
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
    trip->summing.task = trip->task;
    trip->summing.src = trip->src;
    trip->summing.n_src = trip->n_src;
    trip->summing.max_attempts = max_attempts;
    trip->summing.deadline_ns = deadline_ns;
    pst_summing_start(&trip->summing);
}

pst_rc pst_trip_run(struct pst_trip *trip, const struct pst_sink_run *run, pst_error *err)
{
    struct pst_sink *sink = trip->sink;
    struct pst_task *task = pst_task_ref(trip->task);
    enum pst_slot slot = task->slot;
    pst_rc rc = PST_OK;
    int is_open = slot == PST_SLOT_UPLOAD_OPEN;
    pst_trip_start(trip, run->max_attempts, run->affinity, is_open ? 0 : run->limit.deadline_ns);
    pthread_mutex_lock(&sink->gate.mutex);
    while (!trip->is_done && rc == PST_OK)
        rc = pst_gate_sleep(&sink->gate, &run->limit);
    int is_done = trip->is_done;
    trip->is_abandoned = !is_done;
    if (is_done)
        rc = trip->rc;
    int is_in_doubt = sink->locked.is_in_doubt;
    pthread_mutex_unlock(&sink->gate.mutex);
    if (!is_done) {
        if (!is_open) /* cut off, it might leave an upload whose name nobody heard */
            pst_retry_cancel(task, rc);
        pst_fail_at(sink->port, pst_slot_name(slot), sink->key, rc, NULL, err);
        if (err && (slot == PST_SLOT_PUT || slot == PST_SLOT_UPLOAD_COMMIT))
            err->flags |= PST_ERR_MAYBE_APPLIED;
    } else if (rc != PST_OK) {
        pst_call_fail(task, sink->key, rc, err);
        if (err && is_in_doubt) /* that of an earlier try, too */
            err->flags |= PST_ERR_MAYBE_APPLIED;
    }
    pst_task_unref(task);
    return rc;
}

pst_rc pst_trip_wait(struct pst_sink *sink, const struct pst_limit *limit, uint32_t n_left,
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

void pst_trip_cancel_all(struct pst_sink *sink)
{
    for (;;) {
        struct pst_task *found = NULL;
        pthread_mutex_lock(&sink->gate.mutex);
        for (struct pst_trip *trip = sink->locked.trips; trip && !found; trip = trip->next) {
            if (trip->task->slot != PST_SLOT_UPLOAD_ABORT &&
                trip->task->slot != PST_SLOT_UPLOAD_OPEN && !atomic_load(&trip->task->is_cancelled))
                found = pst_task_ref(trip->task);
        }
        pthread_mutex_unlock(&sink->gate.mutex);
        if (!found)
            return;
        pst_retry_cancel(found, PST_E_CANCELLED);
        pst_task_unref(found);
    }
}
