/* task.c - the life of one operation at a plugin.
 *
 * Submit: the task joins its port's line; pst_port_pump takes it from there and calls pst_task_start,
 * which makes the call into the plugin with no lock held. What comes back decides:
 *
 *   OK or an error   the attempt is over
 *   PENDING          over when complete() comes; it may have come already, from another thread
 *   BUSY             back to the front of the line, until a wake
 *
 * Three parties may hold a running attempt: the submit that has not returned, the completion that has
 * not come, and each cancel or dst_ready call on some stack. The one that lets go last finishes it, so
 * that operation, arguments and scratch stay valid for all of them (contract 4).
 *
 * A plugin that breaks the protocol (completes twice, completes after an inline OK, answers PENDING to
 * what it completed long ago) is logged and otherwise ignored: the first answer counts. */
#include "core/task.h"

#include <stdlib.h>
#include <string.h>

#include "core/cred.h"
#include "core/error.h"
#include "core/fault.h"
#include "core/port.h"
#include "core/stack.h"
#include "core/task_call.h"
#include "util/chunk.h"

#define PATIENCE_NS 500000000u /* with other stores, until the budget is exceeded */

/* ---- memory ----------------------------------------------------------------------------------- */

void *pst_task_alloc(struct pst_task *task, size_t size)
{
    return pst_chunk_alloc(&task->chunks, size);
}

void *pst_task_keep(struct pst_task *task, const void *bytes, size_t size)
{
    void *copy = pst_chunk_alloc(&task->kept, size);
    if (copy && bytes && size > 0)
        memcpy(copy, bytes, size);
    return copy;
}

int pst_task_keep_str(struct pst_task *task, pst_str from, pst_str *to)
{
    *to = (pst_str){NULL, 0};
    if (from.len == 0)
        return 1;
    char *copy = pst_task_keep(task, from.ptr, from.len);
    if (!copy)
        return 0;
    *to = pst_str_of(copy, from.len);
    return 1;
}

void pst_task_drop_results(struct pst_task *task)
{
    pst_chunks_wipe(task->secrets);
    pst_chunks_free(&task->secrets);
    pst_chunks_free(&task->chunks);
}

static void run_dst_ready(void *arg);
static void run_rested(void *arg);
static void run_cancel(void *arg);

struct pst_task *pst_task_new(struct pst_port *port, enum pst_slot slot, void *object)
{
    size_t scratch_bytes = port->loaded->plugin.op_scratch;
    size_t head_bytes = (sizeof(struct pst_task) + 15) / 16 * 16;
    struct pst_task *task = calloc(1, head_bytes + scratch_bytes);
    if (!task)
        return NULL;
    atomic_init(&task->refs, 1);
    task->port = pst_port_ref(port);
    task->slot = slot;
    task->object = object;
    task->op.struct_size = sizeof(task->op);
    task->op.host = &port->core->host;
    task->op.scratch = (char *)task + head_bytes;
    task->op.err = &task->error;
    task->op.host_private = task;
    task->op.attempt = task->op.max_attempts = 1;
    task->op.id = atomic_fetch_add_explicit(&port->core->next_op_id, 1, memory_order_relaxed) + 1;
    task->error.struct_size = sizeof(task->error);
    task->ready_timer.fn = run_dst_ready;
    task->ready_timer.arg = task;
    task->rest_timer.fn = run_rested;
    task->rest_timer.arg = task;
    task->cancel_timer.fn = run_cancel;
    task->cancel_timer.arg = task;
    return task;
}

struct pst_task *pst_task_ref(struct pst_task *task)
{
    atomic_fetch_add_explicit(&task->refs, 1, memory_order_relaxed);
    return task;
}

void pst_task_unref(struct pst_task *task)
{
    if (!task || atomic_fetch_sub_explicit(&task->refs, 1, memory_order_acq_rel) != 1)
        return;
    struct pst_port *port = task->port;
    pst_task_drop_results(task);
    pst_chunks_free(&task->kept);
    free(task);
    pst_port_unref(port);
}

/* ---- finishing -------------------------------------------------------------------------------- */

static void count_out_locked(struct pst_port *port)
{
    if (--port->locked.n_at_plugin == 0)
        port->locked.is_blocked = 0; /* BUSY with nothing outstanding: try again */
}

static void leave_plugin_locked(struct pst_task *task)
{
    if (task->is_late)
        task->port->locked.n_late--;
    count_out_locked(task->port);
}

/* A read whose memory may come at any moment has no place among those at the plugin. */
static void park_locked(struct pst_task *task)
{
    task->locked.is_parked = 1;
    task->port->locked.n_parked++;
    count_out_locked(task->port);
}

static void unpark_locked(struct pst_task *task)
{
    task->locked.is_asking = task->locked.is_ready_early = 0;
    if (!task->locked.is_parked)
        return;
    task->locked.is_parked = 0;
    task->port->locked.starved_since_ns = 0;
    task->port->locked.n_parked--;
    task->port->locked.n_at_plugin++;
}

static void enlist_locked(struct pst_task *task, enum pst_task_state state)
{
    struct pst_port *port = task->port;
    task->locked.state = state;
    task->prev_task = NULL;
    task->next_task = port->locked.tasks;
    if (task->next_task)
        task->next_task->prev_task = task;
    port->locked.tasks = task;
    port->locked.n_tasks++;
}

/* Take it off the list. It counts as outstanding until end_task. */
static void delist_locked(struct pst_task *task)
{
    struct pst_port *port = task->port;
    task->locked.state = PST_TASK_IDLE;
    if (task->prev_task)
        task->prev_task->next_task = task->next_task;
    else
        port->locked.tasks = task->next_task;
    if (task->next_task)
        task->next_task->prev_task = task->prev_task;
}

static void end_task(struct pst_task *task)
{
    struct pst_port *port = task->port;
    pthread_mutex_lock(&port->mutex);
    if (--port->locked.n_tasks == 0)
        pthread_cond_broadcast(&port->idle);
    int has_waiting = port->locked.ready.first || port->locked.late.first;
    pthread_mutex_unlock(&port->mutex);
    if (has_waiting)
        pst_stack_kick(port);
    pst_task_unref(task);
}

/* The attempt is over, off the list, and nobody else looks at it. */
static void finish(struct pst_task *task, pst_rc rc)
{
    struct pst_port *port = task->port;
    if (rc > 0)
        rc = pst_fail(&task->error, PST_E_INTERNAL, "the plugin completed with %d", (int)rc);
    if (rc < 0 && task->error.code == 0)
        task->error.code = rc;
    pst_task_name_container(task, rc);
    atomic_fetch_add_explicit(&port->core->ops_completed, 1, memory_order_relaxed);
    task->done(task, rc);
    end_task(task);
}

static void finish_cancelled(struct pst_task *task)
{
    pst_rc code = atomic_load(&task->cancel_code);
    pst_fail(&task->error, code, "%s", pst_rc_text(code));
    finish(task, code);
}

/* Let go of a running attempt. Returns 1 when nobody holds it any more: the caller finishes it. */
static int drop_hold_locked(struct pst_task *task)
{
    if (--task->locked.n_holds > 0)
        return 0;
    leave_plugin_locked(task);
    delist_locked(task);
    return 1;
}

static void drop_hold(struct pst_task *task)
{
    struct pst_port *port = task->port;
    pthread_mutex_lock(&port->mutex);
    int is_over = drop_hold_locked(task);
    pst_rc rc = task->locked.rc;
    pthread_mutex_unlock(&port->mutex);
    if (is_over)
        finish(task, rc);
}

/* Take note of the result and let go of the hold of the completion; of the submit's too when it has
 * ended with it. A second result only ends the submit. */
static void settle(struct pst_task *task, pst_rc rc, int is_submit_over)
{
    struct pst_port *port = task->port;
    int is_over = 0;
    pthread_mutex_lock(&port->mutex);
    enum pst_task_state state = task->locked.state;
    int is_first = !task->locked.is_completed &&
                   (state == PST_TASK_SUBMITTING || state == PST_TASK_PENDING);
    if (is_first) {
        task->locked.is_completed = 1;
        task->locked.rc = rc;
        unpark_locked(task); /* completed without asking again */
        is_over = drop_hold_locked(task);
    }
    if (is_submit_over)
        is_over |= drop_hold_locked(task);
    rc = task->locked.rc;
    pthread_mutex_unlock(&port->mutex);
    if (!is_first)
        pst_logf(&port->core->log, PST_LEVEL_ERROR, "plugin %s completed an operation twice",
                 port->loaded->id);
    if (is_over)
        finish(task, rc);
}

void pst_task_complete(struct pst_task *task, pst_rc rc)
{
    settle(task, rc, 0);
}

/* ---- submitting ------------------------------------------------------------------------------- */

static void run_cancel(void *arg)
{
    struct pst_task *task = arg;
    struct pst_port *port = task->port;
    pst_stack_enter();
    port->loaded->ops.cancel(port->backend, &task->op);
    pst_stack_leave();
    drop_hold(task);
}

/* Take the hold for one call of the plugin's cancel. Returns 0 where there is none to make. */
static int claim_cancel_locked(struct pst_task *task)
{
    if (task->locked.is_completed || task->locked.is_cancel_sent)
        return 0;
    task->locked.is_cancel_sent = 1;
    task->locked.n_holds++;
    return 1;
}

/* Pass a cancel on, with the hold that was claimed for it. */
static void send_cancel(struct pst_task *task, int is_asking)
{
    if (is_asking && task->dst_cancelled)
        task->dst_cancelled(task);
    pst_cred_cancel(task);
    if (!task->port->loaded->ops.cancel)
        drop_hold(task);
    else if (pst_stack_is_in_host_call() && !PST_FAULT(CANCEL_ON_TOP))
        pst_reactor_arm(task->port->core->reactor, &task->cancel_timer, 0);
    else
        run_cancel(task);
}

void pst_task_submit(struct pst_task *task)
{
    struct pst_port *port = task->port;
    pst_task_ref(task); /* until end_task */
    pst_task_ref(task); /* ours: it may be over before this returns */
    pthread_mutex_lock(&port->mutex);
    task->locked.is_completed = task->locked.wants_cancel = task->locked.is_cancel_sent = 0;
    task->locked.n_holds = 0;
    task->locked.is_asking = task->locked.is_parked = task->locked.is_granted = 0;
    task->locked.is_ready_early = 0;
    enlist_locked(task, PST_TASK_WAITING);
    pst_port_push_back_locked(task);
    pthread_mutex_unlock(&port->mutex);
    atomic_fetch_add_explicit(&port->core->ops_submitted, 1, memory_order_relaxed);
    if (atomic_load(&task->is_cancelled))
        pst_task_cancel(task, atomic_load(&task->cancel_code)); /* it came before the submit */
    pst_stack_kick(port);
    pst_task_unref(task);
}

/* The store is BUSY, and what could end that waits for memory. Other stores may give some back; when they
 * have not for a while, or cannot, somebody is served beyond the budget. */
static void feed(struct pst_port *port)
{
    uint64_t now_ns = pst_now_ns();
    int others_run = pst_port_others_run(port);
    pthread_mutex_lock(&port->mutex);
    if (port->locked.starved_since_ns == 0)
        port->locked.starved_since_ns = now_ns;
    int is_patient = others_run && now_ns - port->locked.starved_since_ns < PATIENCE_NS;
    if (!is_patient)
        port->locked.starved_since_ns = now_ns; /* the first in line may be of another store */
    pthread_mutex_unlock(&port->mutex);
    if (!is_patient)
        pst_budget_force_first(&port->core->budget);
}

static void put_back(struct pst_task *task, uint64_t epoch)
{
    struct pst_port *port = task->port;
    int needs_poll = 0, needs_memory = 0;
    pthread_mutex_lock(&port->mutex);
    port->locked.n_at_plugin--;
    if (task->is_late)
        port->locked.n_late--;
    task->locked.n_holds = 0;
    int is_cancelled = task->locked.wants_cancel && !PST_FAULT(BUSY_FOREVER);
    if (is_cancelled) {
        delist_locked(task); /* it does not wait to be asked again */
    } else {
        task->locked.state = PST_TASK_WAITING;
        pst_port_push_front_locked(task);
    }
    port->locked.is_blocked = port->locked.epoch == epoch || PST_FAULT(LOSE_WAKE);
    if (port->locked.is_blocked && port->locked.n_at_plugin == 0) {
        /* Nothing is outstanding that could wake us, but for reads that wait for memory. */
        needs_memory = port->locked.n_parked > 0;
        needs_poll = 1;
    }
    pthread_mutex_unlock(&port->mutex);
    atomic_fetch_add_explicit(&port->core->busy, 1, memory_order_relaxed);
    if (needs_memory)
        feed(port);
    if (needs_poll)
        pst_port_pump_later(port, pst_now_ns() + 1000000u);
    if (is_cancelled)
        finish_cancelled(task);
}

pst_rc pst_task_start(struct pst_task *task, uint64_t epoch)
{
    struct pst_port *port = task->port;
    pst_task_reset(task);
    atomic_store_explicit(&task->is_job_used, 0, memory_order_relaxed);
    pst_rc rc = pst_task_call(task);
    if (rc == PST_BUSY) {
        put_back(task, epoch);
        return PST_BUSY;
    }
    if (rc != PST_PENDING) {
        settle(task, rc, 1);
        return PST_OK;
    }
    pthread_mutex_lock(&port->mutex);
    if (!task->locked.is_completed)
        task->locked.state = PST_TASK_PENDING;
    int must_cancel = task->locked.wants_cancel && claim_cancel_locked(task);
    int is_asking = task->locked.is_asking;
    int is_over = drop_hold_locked(task); /* this submit; a cancel that was claimed holds it too */
    rc = task->locked.rc;
    pthread_mutex_unlock(&port->mutex);
    if (must_cancel)
        send_cancel(task, is_asking);
    if (is_over)
        finish(task, rc);
    return PST_PENDING;
}

/* ---- resting ---------------------------------------------------------------------------------- */

void pst_task_rest(struct pst_task *task, uint64_t due_ns)
{
    struct pst_port *port = task->port;
    pst_task_ref(task);
    pthread_mutex_lock(&port->mutex);
    enlist_locked(task, PST_TASK_RESTING);
    if (atomic_load(&task->is_cancelled))
        due_ns = 0; /* it came just before */
    pst_reactor_arm(port->core->reactor, &task->rest_timer, due_ns);
    pthread_mutex_unlock(&port->mutex);
}

static void run_rested(void *arg)
{
    struct pst_task *task = arg;
    pthread_mutex_lock(&task->port->mutex);
    delist_locked(task);
    pthread_mutex_unlock(&task->port->mutex);
    task->rested(task);
    end_task(task);
}

/* ---- cancel and late destinations ------------------------------------------------------------- */

void pst_task_cancel(struct pst_task *task, pst_rc code)
{
    struct pst_port *port = task->port;
    int is_waiting = 0, must_call = 0, is_asking = 0, nobody = 0;
    atomic_compare_exchange_strong(&task->cancel_code, &nobody, code);
    atomic_store(&task->is_cancelled, 1);
    pthread_mutex_lock(&port->mutex);
    if (task->locked.state == PST_TASK_WAITING) {
        pst_port_leave_line_locked(task);
        delist_locked(task); /* nobody else takes it now */
        is_waiting = 1;
    } else if (task->locked.state == PST_TASK_RESTING) {
        if (pst_reactor_disarm(port->core->reactor, &task->rest_timer))
            pst_reactor_arm(port->core->reactor, &task->rest_timer, 0);
    } else if (task->locked.state == PST_TASK_SUBMITTING) {
        task->locked.wants_cancel = 1;
        if (PST_FAULT(CANCEL_EARLY))
            port->loaded->ops.cancel(port->backend, &task->op);
    } else if (task->locked.state == PST_TASK_PENDING) {
        must_call = claim_cancel_locked(task);
        is_asking = task->locked.is_asking;
    }
    pthread_mutex_unlock(&port->mutex);
    if (is_waiting)
        finish_cancelled(task);
    else if (must_call)
        send_cancel(task, is_asking);
}

/* Note that the plugin asks: before the memory is looked for, since that may come at any moment. */
static pst_rc begin_dst(struct pst_task *task, const pst_dst_args *args)
{
    struct pst_port *port = task->port;
    pst_rc rc = PST_OK;
    pthread_mutex_lock(&port->mutex);
    if (task->locked.n_holds == 0 || task->locked.is_completed ||
        (task->locked.is_granted && !(args->flags & PST_DST_MORE)))
        rc = PST_E_INVALID; /* over, or granted already: that memory may be written to right now */
    else
        task->locked.is_asking = 1;
    pthread_mutex_unlock(&port->mutex);
    return rc;
}

static void arm_dst_ready_locked(struct pst_task *task)
{
    struct pst_reactor *reactor = task->port->core->reactor;
    if (!pst_reactor_disarm(reactor, &task->ready_timer))
        pst_task_ref(task); /* else the one that was armed has it */
    pst_reactor_arm(reactor, &task->ready_timer, 0);
}

pst_rc pst_task_dst(struct pst_task *task, const pst_dst_args *args, pst_dst_grant *grant)
{
    struct pst_port *port = task->port;
    if (!task->dst)
        return PST_E_INVALID; /* the destination was given with the arguments */
    pst_rc rc = begin_dst(task, args);
    if (rc != PST_OK)
        return rc;
    pst_task_ref(task); /* after LATER the plugin may be told, and complete, before we return */
    rc = task->dst(task, args, grant);
    pthread_mutex_lock(&port->mutex);
    if (rc != PST_LATER)
        unpark_locked(task);
    else if (task->locked.is_asking && !task->locked.is_parked)
        park_locked(task);
    if (task->locked.is_parked && task->locked.is_ready_early)
        arm_dst_ready_locked(task);
    task->locked.is_ready_early = 0;
    task->locked.is_granted |= rc == PST_OK;
    pthread_mutex_unlock(&port->mutex);
    if (rc == PST_LATER)
        pst_stack_kick(port); /* a parked read does not count against the cap */
    pst_task_unref(task);
    return rc;
}

static void run_dst_ready(void *arg)
{
    struct pst_task *task = arg;
    struct pst_port *port = task->port;
    pthread_mutex_lock(&port->mutex);
    int is_parked = task->locked.is_parked || (task->locked.is_asking && PST_FAULT(READY_EARLY));
    int must_call = is_parked && !task->locked.is_completed;
    if (task->locked.is_asking && !must_call)
        task->locked.is_ready_early = 1; /* the plugin is inside dst still, and may hear it there */
    if (must_call) {
        unpark_locked(task);
        task->locked.n_holds++;
    }
    pthread_mutex_unlock(&port->mutex);
    if (must_call) {
        pst_stack_enter();
        port->loaded->ops.dst_ready(port->backend, &task->op);
        if (PST_FAULT(DST_READY_TWICE))
            port->loaded->ops.dst_ready(port->backend, &task->op);
        pst_stack_leave();
        drop_hold(task);
    }
    pst_task_unref(task);
}

void pst_task_dst_ready(struct pst_task *task)
{
    struct pst_port *port = task->port;
    pthread_mutex_lock(&port->mutex);
    arm_dst_ready_locked(task);
    pthread_mutex_unlock(&port->mutex);
}
