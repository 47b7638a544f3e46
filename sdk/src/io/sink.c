/* sink.c - the operations of one writer and their end.
 *
 * Every operation is a trip (io/sink_trip.c): a task, the bytes it carries, and a reference to the sink.
 *
 * Order (contract 1 and 14): a part is resent only by io/retry.c, after its attempt before has ended.
 * Commit starts when no part is under way. Abort starts when nothing is, from the hook of the last trip
 * if need be, so it happens even when the writer is gone; its task was made together with the upload and
 * cannot fail for lack of memory. upload_free is called by who drops the last reference, never on top of
 * plugin code, when no operation can be outstanding.
 *
 * An upload that is being opened is not cut off, since nobody would learn its name and it would stay in the
 * store: it is aborted when its reply comes, however late. The plugin's own timeouts end what hangs.
 *
 * A commit whose end nobody waited for is not aborted behind its back: the hook of the commit knows how it
 * went, and only then decides. */
#include "io/sink_state.h"

#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/fault.h"
#include "core/stack.h"
#include "io/attr.h"
#include "io/outcome.h"

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

void pst_sink_end(struct pst_sink *sink)
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
        pst_sink_end(sink);
}

struct pst_port *pst_sink_port(struct pst_sink *sink)
{
    return sink->port;
}

pst_str pst_sink_key(const struct pst_sink *sink)
{
    return sink->key;
}

static pst_rc fail_for_memory(struct pst_sink *sink, pst_error *err)
{
    return pst_fail_at(sink->port, "PUT", sink->key, PST_E_NO_MEMORY, NULL, err);
}

static void fill_put(struct pst_trip *trip)
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
                    uint64_t size, const struct pst_sums *sums, pst_write_result *result,
                    pst_error *err)
{
    struct pst_trip *trip = pst_trip_new(sink, PST_SLOT_PUT, *cargo);
    if (!trip)
        return fail_for_memory(sink, err);
    pst_put_args *args = &trip->task->args.put;
    fill_put(trip);
    args->size_hint = size;
    args->src = trip->src;
    args->n_src = trip->n_src;
    args->sums = trip->sums;
    args->sum_stride = sizeof(trip->sums[0]);
    pst_trip_add_sums(trip, sums, &args->n_sums);
    for (struct pst_cargo *at = *cargo; at; at = at->next)
        pst_cargo_seal(at);
    struct pst_task *task = pst_task_ref(trip->task);
    pst_rc rc = pst_trip_run(trip, run, err);
    if (rc == PST_OK) {
        atomic_fetch_add_explicit(&sink->port->core->bytes_written, size, memory_order_relaxed);
        pst_outcome_take(&task->result.put, result);
        pst_cargo_free(*cargo);
    }
    if (rc == PST_OK || trip->is_abandoned)
        *cargo = NULL;
    else
        pst_cargo_unseal(*cargo);
    pst_task_unref(task);
    return rc;
}

/* ---- upload ----------------------------------------------------------------------------------- */

/* Put aside a task that can abort the upload when there is no memory. */
static int prepare_abort(struct pst_sink *sink)
{
    if (sink->abort_task)
        return 1;
    struct pst_trip *trip = pst_trip_new(sink, PST_SLOT_UPLOAD_ABORT, NULL);
    if (!trip)
        return 0;
    trip->task->owner = trip;
    trip->task->args.abort.struct_size = sizeof(trip->task->args.abort);
    sink->abort_task = trip->task;
    return 1;
}

pst_rc pst_sink_open(struct pst_sink *sink, const struct pst_sink_run *run, pst_error *err)
{
    struct pst_trip *trip = pst_trip_new(sink, PST_SLOT_UPLOAD_OPEN, NULL);
    if (!trip || !prepare_abort(sink)) {
        if (trip)
            pst_task_unref(trip->task);
        return fail_for_memory(sink, err);
    }
    fill_put(trip);
    pst_rc rc = pst_trip_run(trip, run, err);
    if (rc == PST_OK && !sink->locked.upload) {
        pst_error cause = PST_ERROR_INIT;
        pst_fail(&cause, PST_E_INTERNAL, "the plugin opened no upload");
        rc = pst_fail_at(sink->port, "PUT", sink->key, PST_E_INTERNAL, &cause, err);
    }
    return rc;
}

pst_rc pst_sink_send_part(struct pst_sink *sink, const struct pst_sink_run *run, uint32_t max,
                          uint32_t number, uint64_t offset, struct pst_cargo *cargo, pst_error *err)
{
    pst_rc rc = pst_trip_wait(sink, &run->limit, max - 1, err);
    struct pst_trip *trip = rc == PST_OK ? pst_trip_new(sink, PST_SLOT_UPLOAD_PART, cargo) : NULL;
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
    args->n_src = trip->n_src;
    args->sums = trip->sums;
    args->sum_stride = sizeof(trip->sums[0]);
    pst_trip_add_sums(trip, &cargo->sums, &args->n_sums);
    pst_cargo_seal(cargo);
    pst_trip_start(trip, run->max_attempts, run->affinity, run->deadline_ns);
    return PST_OK;
}

pst_rc pst_sink_settle(struct pst_sink *sink, const struct pst_sink_run *run, pst_error *err)
{
    return pst_trip_wait(sink, &run->limit, 0, err);
}

pst_rc pst_sink_commit(struct pst_sink *sink, const struct pst_sink_run *run, uint64_t size,
                       uint32_t n_parts, const struct pst_sums *sums, pst_write_result *result,
                       pst_error *err)
{
    struct pst_trip *trip = pst_trip_new(sink, PST_SLOT_UPLOAD_COMMIT, NULL);
    if (!trip)
        return fail_for_memory(sink, err);
    pst_commit_args *args = &trip->task->args.commit;
    trip->task->object = sink->locked.upload;
    args->struct_size = sizeof(*args);
    args->size = size;
    args->n_parts = n_parts;
    args->sums = trip->sums;
    args->sum_stride = sizeof(trip->sums[0]);
    pst_trip_add_sums(trip, sums, &args->n_sums);
    struct pst_task *task = pst_task_ref(trip->task);
    pst_rc rc = pst_trip_run(trip, run, err);
    if (rc == PST_OK)
        pst_outcome_take(&task->result.put, result);
    pst_task_unref(task);
    return rc;
}

/* ---- abort ------------------------------------------------------------------------------------ */

static int is_opening_locked(const struct pst_sink *sink)
{
    return sink->locked.trips && sink->locked.trips->task->slot == PST_SLOT_UPLOAD_OPEN;
}

/* Wait until nothing is under way. The opening of the upload is not asked to hurry, so it is waited for half
 * as long. */
static pst_rc wait_for_end_locked(struct pst_sink *sink, const struct pst_limit *limit)
{
    uint64_t now_ns = pst_now_ns();
    struct pst_limit half = *limit;
    pst_rc rc = PST_OK;
    if (limit->deadline_ns > now_ns)
        half.deadline_ns = now_ns + (limit->deadline_ns - now_ns) / 2;
    while (sink->locked.n_trips > 0 && rc == PST_OK)
        rc = pst_gate_sleep(&sink->gate, is_opening_locked(sink) ? &half : limit);
    return rc;
}

/* Stores call an upload that was committed gone, as they do one that was aborted. */
static pst_rc fail_in_doubt(struct pst_sink *sink, pst_error *err)
{
    pst_error cause = PST_ERROR_INIT;
    pst_fail(&cause, PST_E_UNAVAILABLE, "it is not known whether the object was published before");
    cause.flags |= PST_ERR_MAYBE_APPLIED;
    return pst_fail_at(sink->port, "PUT abort", sink->key, PST_E_UNAVAILABLE, &cause, err);
}

pst_rc pst_sink_abort(struct pst_sink *sink, const struct pst_sink_run *run, pst_error *err)
{
    struct pst_trip *abort_trip = NULL;
    pst_rc rc = PST_OK;
    pst_trip_cancel_all(sink);
    pthread_mutex_lock(&sink->gate.mutex);
    sink->locked.wants_abort = 1;
    sink->locked.abort_rc = PST_OK;
    int is_again = sink->locked.upload && !sink->locked.is_committed && !sink->locked.is_aborted &&
                   sink->locked.n_trips == 0;
    if (is_again && !prepare_abort(sink))
        rc = PST_E_NO_MEMORY;
    if (pst_trip_is_abort_due(sink))
        abort_trip = pst_trip_take_abort(sink);
    pthread_mutex_unlock(&sink->gate.mutex);
    if (abort_trip)
        pst_trip_start(abort_trip, run->max_attempts, run->affinity, 0);

    pthread_mutex_lock(&sink->gate.mutex);
    rc = rc == PST_OK ? wait_for_end_locked(sink, &run->limit) : rc;
    pst_rc abort_rc = sink->locked.abort_rc;
    int is_committed = sink->locked.is_committed, is_in_doubt = sink->locked.is_in_doubt;
    if (rc == PST_OK && abort_rc != PST_OK)
        pst_error_copy(err, &sink->locked.abort_error);
    pthread_mutex_unlock(&sink->gate.mutex);
    if (rc != PST_OK)
        return pst_fail_at(sink->port, "PUT abort", sink->key, rc, NULL, err);
    if (is_committed)
        return pst_fail(err, PST_E_INVALID, "the object was published already");
    if (abort_rc == PST_OK && is_in_doubt)
        return fail_in_doubt(sink, err);
    return abort_rc;
}
