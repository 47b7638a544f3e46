/* call.c - waiting, cancel tokens, and the one line that says what failed. */
#include "io/call.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/error.h"
#include "core/fault.h"
#include "core/stack.h"
#include "io/retry.h"
#include "util/mutex.h"

#define SLICE_NS 50000000u /* how often a waiter looks at its cancel token */

struct pst_cancel {
    atomic_int is_fired;
    int (*poll)(void *arg); /* NULL, or asked by the one thread that waits */
    void *poll_arg;
    uint64_t next_poll_ns;
};

pst_rc pst_cancel_new(pst_cancel **out)
{
    return pst_cancel_new_polled(NULL, NULL, out);
}

pst_rc pst_cancel_new_polled(int (*poll)(void *arg), void *arg, pst_cancel **out)
{
    *out = calloc(1, sizeof(**out));
    if (!*out)
        return PST_E_NO_MEMORY;
    (*out)->poll = poll;
    (*out)->poll_arg = arg;
    (*out)->next_poll_ns = poll ? pst_now_ns() + SLICE_NS : 0;
    return PST_OK;
}

void pst_cancel_fire(pst_cancel *cancel)
{
    atomic_store(&cancel->is_fired, 1); /* lock-free: allowed in a signal handler */
}

int pst_cancel_fired(const pst_cancel *cancel)
{
    return atomic_load(&cancel->is_fired);
}

void pst_cancel_free(pst_cancel *cancel)
{
    free(cancel);
}

/* ---- waiting ---------------------------------------------------------------------------------- */

void pst_gate_init(struct pst_gate *gate)
{
    pthread_condattr_t attr;
    pst_mutex_init_short(&gate->mutex);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&gate->changed, &attr);
    pthread_condattr_destroy(&attr);
}

void pst_gate_fini(struct pst_gate *gate)
{
    pthread_cond_destroy(&gate->changed);
    pthread_mutex_destroy(&gate->mutex);
}

struct pst_limit pst_limit_of(const pst_call *call)
{
    struct pst_limit limit = {0, NULL};
    if (!call)
        return limit;
    if (PST_HAS(pst_call, call, timeout_ms) && call->timeout_ms > 0) {
        uint64_t now_ns = pst_now_ns();
        uint64_t room_ms = (UINT64_MAX - now_ns) / 1000000u;
        limit.deadline_ns = now_ns +
                            (call->timeout_ms < room_ms ? call->timeout_ms : room_ms) * 1000000u;
    }
    if (PST_HAS(pst_call, call, cancel))
        limit.cancel = call->cancel;
    return limit;
}

int pst_limit_is_fired(const struct pst_limit *limit)
{
    return limit->cancel && pst_cancel_fired(limit->cancel);
}

/* What is signalled between unlock and lock is not lost: the caller looks before it sleeps again. */
static void poll_cancel(pst_cancel *cancel, struct pst_gate *gate, uint64_t now_ns)
{
    cancel->next_poll_ns = now_ns + SLICE_NS;
    pthread_mutex_unlock(&gate->mutex);
    if (cancel->poll(cancel->poll_arg))
        pst_cancel_fire(cancel);
    pthread_mutex_lock(&gate->mutex);
}

pst_rc pst_gate_sleep(struct pst_gate *gate, const struct pst_limit *limit)
{
    if (pst_limit_is_fired(limit))
        return PST_E_CANCELLED;
    if (!limit->cancel && limit->deadline_ns == 0) {
        pthread_cond_wait(&gate->changed, &gate->mutex);
        return PST_OK;
    }
    uint64_t now_ns = pst_now_ns();
    if (limit->deadline_ns > 0 && now_ns >= limit->deadline_ns)
        return PST_E_DEADLINE;
    if (limit->cancel && limit->cancel->poll && now_ns >= limit->cancel->next_poll_ns) {
        poll_cancel(limit->cancel, gate, now_ns);
        return PST_OK;
    }
    uint64_t until_ns = limit->cancel ? now_ns + SLICE_NS : limit->deadline_ns;
    if (limit->deadline_ns > 0 && until_ns > limit->deadline_ns)
        until_ns = limit->deadline_ns;
    struct timespec until = {.tv_sec = (time_t)(until_ns / 1000000000u),
                             .tv_nsec = (long)(until_ns % 1000000000u)};
    pthread_cond_timedwait(&gate->changed, &gate->mutex, &until);
    return PST_OK;
}

/* A thread that has a limit must be able to leave at any time, so it is not lent to a plugin. */
void pst_helper_begin(struct pst_helper *helper, struct pst_port *port, const void *crew,
                      const struct pst_limit *limit)
{
    int can_help = limit->deadline_ns == 0 && !limit->cancel && pst_stack_is_clear();
    *helper = (struct pst_helper){can_help ? port : NULL, crew};
    if (can_help)
        pst_pool_enter(port->core->blocking);
}

int pst_helper_run(struct pst_helper *helper)
{
    struct pst_port *port = helper->port;
    return port && pst_pool_help(port->core->blocking, &port->share, helper->crew);
}

void pst_helper_end(struct pst_helper *helper)
{
    if (helper->port)
        pst_pool_leave(helper->port->core->blocking);
    helper->port = NULL;
}

/* ---- failing ---------------------------------------------------------------------------------- */

pst_rc pst_fail_at(struct pst_port *port, const char *operation, pst_str key, pst_rc rc,
                   const pst_error *cause, pst_error *err)
{
    char place[512];
    pst_error line = PST_ERROR_INIT;
    if (!err)
        return rc;
    if (cause)
        pst_error_copy(&line, cause);
    line.code = rc;
    if (line.message[0] == '\0')
        snprintf(line.message, sizeof(line.message), "%s", pst_rc_text(rc));
    pst_error_prefix(&line, "%s %s/%s: ", operation, port->uri,
                     pst_printable(key, place, sizeof(place)));
    size_t used = strlen(line.message);
    if (line.attempt > 1)
        snprintf(line.message + used, sizeof(line.message) - used, " (attempt %u of %u)",
                 line.attempt, line.max_attempts);
    pst_error_copy(err, &line);
    return rc;
}

pst_rc pst_call_fail(struct pst_task *task, pst_str key, pst_rc rc, pst_error *err)
{
    return pst_fail_at(task->port, pst_slot_name(task->slot), key, rc, &task->error, err);
}

/* ---- run and wait ----------------------------------------------------------------------------- */

struct pst_waiter {
    struct pst_gate gate;
    struct pst_core *core; /* lives as long as the operation */
    atomic_int refs;       /* the call, the operation's end */
    struct pst_helper helper;
    struct {
        int is_done, is_abandoned;
        pst_rc rc;
    } locked;
};

struct pst_waiter *pst_waiter_new(struct pst_core *core)
{
    struct pst_waiter *waiter = calloc(1, sizeof(*waiter));
    if (!waiter)
        return NULL;
    pst_gate_init(&waiter->gate);
    waiter->core = core;
    atomic_init(&waiter->refs, 2);
    return waiter;
}

void pst_waiter_free(struct pst_waiter *waiter)
{
    if (!waiter)
        return;
    pst_gate_fini(&waiter->gate);
    free(waiter);
}

static void drop_waiter(struct pst_waiter *waiter)
{
    if (atomic_fetch_sub(&waiter->refs, 1) == 1)
        pst_waiter_free(waiter);
}

void pst_waiter_end(struct pst_waiter *waiter, pst_rc rc)
{
    pthread_mutex_lock(&waiter->gate.mutex);
    waiter->locked.rc = rc;
    waiter->locked.is_done = 1;
    if (waiter->locked.is_abandoned)
        atomic_fetch_sub(&waiter->core->abandoned, 1);
    pthread_cond_signal(&waiter->gate.changed);
    pthread_mutex_unlock(&waiter->gate.mutex);
    drop_waiter(waiter);
}

void pst_waiter_help(struct pst_waiter *waiter, struct pst_port *port,
                     const struct pst_limit *limit)
{
    pst_helper_begin(&waiter->helper, port, waiter, limit);
}

pst_rc pst_waiter_wait(struct pst_waiter *waiter, struct pst_limit limit, int is_pinned,
                       void (*stop)(void *arg, pst_rc code), void *arg, int *is_done)
{
    pst_rc why = PST_OK;
    while (pst_helper_run(&waiter->helper))
        ;
    pst_helper_end(&waiter->helper);
    pthread_mutex_lock(&waiter->gate.mutex);
    while (!waiter->locked.is_done) {
        why = pst_gate_sleep(&waiter->gate, &limit);
        if (why == PST_OK)
            continue;
        pthread_mutex_unlock(&waiter->gate.mutex);
        stop(arg, why);
        pthread_mutex_lock(&waiter->gate.mutex);
        limit = (struct pst_limit){0, NULL};
        if ((!is_pinned || PST_FAULT(RETURN_EARLY)) && !waiter->locked.is_done) {
            waiter->locked.is_abandoned = 1;
            atomic_fetch_add(&waiter->core->abandoned, 1);
            break;
        }
    }
    *is_done = waiter->locked.is_done;
    pst_rc rc = *is_done ? waiter->locked.rc : why;
    pthread_mutex_unlock(&waiter->gate.mutex);
    drop_waiter(waiter);
    return rc;
}

static void on_end(struct pst_task *task, pst_rc rc)
{
    pst_waiter_end(task->waiter, rc);
}

static void stop_task(void *task, pst_rc code)
{
    pst_retry_cancel(task, code);
}

pst_rc pst_call_run(struct pst_task *task, pst_str key, const pst_call *call, int is_pinned,
                    pst_error *err)
{
    struct pst_limit limit = pst_limit_of(call);
    uint32_t attempts = call && PST_HAS(pst_call, call, max_attempts) ? call->max_attempts : 0;
    int is_done = 0;
    if (pst_limit_is_fired(&limit))
        return pst_fail_at(task->port, pst_slot_name(task->slot), key, PST_E_CANCELLED, NULL, err);
    task->waiter = pst_waiter_new(task->port->core);
    if (!task->waiter)
        return pst_fail_at(task->port, pst_slot_name(task->slot), key, PST_E_NO_MEMORY, NULL, err);
    task->then = on_end;
    if (call && PST_HAS(pst_call, call, affinity))
        task->op.affinity = call->affinity;
    task->crew = task->waiter;
    pst_waiter_help(task->waiter, task->port, &limit);
    pst_retry_submit(task, attempts, limit.deadline_ns);
    pst_rc rc = pst_waiter_wait(task->waiter, limit, is_pinned, stop_task, task, &is_done);
    if (rc == PST_OK)
        return rc;
    if (is_done)
        return pst_call_fail(task, key, rc, err);
    pst_fail_at(task->port, pst_slot_name(task->slot), key, rc, NULL, err);
    if (err && pst_slot_writes(task->slot) && !PST_FAULT(FORGET_MAYBE))
        err->flags |= PST_ERR_MAYBE_APPLIED; /* it is at the plugin still */
    return rc;
}
