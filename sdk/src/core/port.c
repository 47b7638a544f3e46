/* port.c - opens a backend, feeds it tasks as its limits allow, closes it when nothing is left.
 *
 * Two lines wait here: reads that may have to park for memory ("late"), and all others. Late ones may
 * take at most half of the in-flight cap, so parked reads can never lock out the operations that finish
 * what holds memory already. Where both lines wait they take turns: neither starves.
 *
 * BUSY blocks both lines until the plugin calls wake, an operation completes with nothing else
 * outstanding, or a millisecond has passed with nothing outstanding. A wake between the submit and its
 * BUSY is not lost: the epoch has moved, so the line is tried again at once. */
#include "core/port.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/cred.h"
#include "core/error.h"
#include "core/fault.h"
#include "core/net.h"
#include "core/stack.h"
#include "util/mutex.h"

#define CANCEL_BATCH 128u

static void run_pump(void *arg);
static void run_close(void *arg);

static char *make_uri(pst_str scheme, pst_str authority)
{
    size_t size = scheme.len + 3 + authority.len + 1;
    char *uri = malloc(size);
    if (uri)
        snprintf(uri, size, "%.*s://%.*s", (int)scheme.len, scheme.ptr, (int)authority.len,
                 authority.ptr);
    return uri;
}

static uint32_t at_plugin_max(const struct pst_port *port)
{
    uint32_t max = port->core->config.max_in_flight;
    if (port->limits.inflight_max > 0 && port->limits.inflight_max < max)
        max = port->limits.inflight_max;
    if (port->loaded->plugin.threads == PST_THREADS_SERIAL && !PST_FAULT(IGNORE_SERIAL))
        max = 1;
    return max;
}

static void narrow(uint32_t *limit, uint32_t bound)
{
    if (bound > 0 && (*limit == 0 || *limit > bound))
        *limit = bound;
}

static void read_info(struct pst_port *port)
{
    const struct pst_loaded *loaded = port->loaded;
    port->limits.struct_size = sizeof(port->limits);
    port->info.struct_size = sizeof(port->info);
    port->info.limits = &port->limits;
    loaded->ops.info(port->backend, &port->info);
    port->info.caps &= PST_FAULT(TRUST_CAPS)
                           ? UINT64_MAX
                           : loaded->caps; /* a store may offer less than its plugin, never more */
    narrow(&port->limits.inflight_max, loaded->limits.inflight_max);
    narrow(&port->limits.parts_max, loaded->limits.parts_max);
    narrow(&port->limits.list_page_max, loaded->limits.list_page_max);
    narrow(&port->limits.remove_batch_max, loaded->limits.remove_batch_max);
    narrow(&port->limits.key_max, loaded->limits.key_max);
    if (!port->info.endpoint)
        port->info.endpoint = "";
    if (!port->info.note)
        port->info.note = "";
}

/* A plugin that cannot do without a service names it; why it is not there only the host knows. */
static void explain_missing(struct pst_core *core, pst_error *err)
{
    const char *why = pst_services_failure(core->services);
    size_t used = strlen(err->message);
    if (why[0])
        snprintf(err->message + used, sizeof(err->message) - used, " (%s)", why);
}

pst_rc pst_port_open(struct pst_core *core, const struct pst_loaded *loaded, pst_str scheme,
                     pst_str authority, const struct pst_resolved *options, struct pst_port **out,
                     pst_error *err)
{
    pst_error own = PST_ERROR_INIT;
    pst_error *plugin_err = err ? err : &own; /* never NULL for the plugin */
    pthread_condattr_t attr;
    pst_rc rc;
    struct pst_port *port = calloc(1, sizeof(*port));
    if (!port || !(port->uri = make_uri(scheme, authority)) ||
        (core->cred && !(port->cred = pst_cred_store_new(core->cred, port->uri)))) {
        if (port)
            free(port->uri);
        free(port);
        return pst_fail(err, PST_E_NO_MEMORY, "out of memory");
    }
    const pst_open_args args = {
        .struct_size = sizeof(args),
        .fork_generation = core->generation,
        .scheme = scheme,
        .authority = authority,
        .options = options->kv,
        .n_options = options->n,
        .option_sources = options->sources,
    };
    pst_error_clear(plugin_err);
    rc = loaded->plugin.store_open(&core->host, &args, &port->backend, plugin_err);
    if (rc == PST_OK && !port->backend)
        rc = pst_fail(err, PST_E_BAD_PLUGIN, "plugin %s opened no store", loaded->id);
    if (rc != PST_OK) {
        if (rc > 0)
            rc = PST_E_INTERNAL;
        plugin_err->code = rc;
        if (plugin_err->message[0] == '\0')
            pst_fail(err, rc, "%s", pst_rc_text(rc));
        if (rc == PST_E_UNIMPLEMENTED)
            explain_missing(core, plugin_err);
        pst_error_prefix(err, "open %s: ", port->uri);
        pst_cred_store_free(port->cred);
        free(port->uri);
        free(port);
        return rc;
    }
    atomic_init(&port->refs, 1);
    atomic_init(&port->retry_tokens, PST_RETRY_TOKENS);
    port->core = pst_core_ref(core);
    port->loaded = loaded;
    pst_mutex_init_short(&port->mutex);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&port->idle, &attr);
    pthread_condattr_destroy(&attr);
    port->pump_timer.fn = run_pump;
    port->pump_timer.arg = port;
    port->close_timer.fn = run_close;
    port->close_timer.arg = port;
    pst_share_init(core->blocking, &port->share);
    read_info(port);
    port->max_at_plugin = at_plugin_max(port);
    port->max_late = port->max_at_plugin == 1 ? 1 : port->max_at_plugin / 2;

    pthread_mutex_lock(&core->mutex);
    port->next = core->locked.ports;
    if (port->next)
        port->next->prev = port;
    core->locked.ports = port;
    pthread_mutex_unlock(&core->mutex);
    *out = port;
    return PST_OK;
}

/* ---- references ------------------------------------------------------------------------------- */

struct pst_port *pst_port_ref(struct pst_port *port)
{
    atomic_fetch_add_explicit(&port->refs, 1, memory_order_relaxed);
    return port;
}

struct pst_port *pst_port_try_ref(struct pst_port *port)
{
    unsigned refs = atomic_load_explicit(&port->refs, memory_order_relaxed);
    while (refs > 0) {
        if (atomic_compare_exchange_weak(&port->refs, &refs, refs + 1))
            return port;
    }
    return NULL;
}

static void close_port(struct pst_port *port)
{
    struct pst_core *core = port->core;
    port->loaded->ops.close(port->backend);
    pthread_mutex_lock(&core->mutex);
    if (port->prev)
        port->prev->next = port->next;
    else
        core->locked.ports = port->next;
    if (port->next)
        port->next->prev = port->prev;
    pthread_mutex_unlock(&core->mutex);
    pst_cred_store_free(port->cred);
    pthread_cond_destroy(&port->idle);
    pthread_mutex_destroy(&port->mutex);
    free(port->uri);
    free(port);
    pst_core_unref(core);
}

static void run_close(void *arg)
{
    close_port(arg);
}

void pst_port_unref(struct pst_port *port)
{
    if (atomic_fetch_sub_explicit(&port->refs, 1, memory_order_acq_rel) != 1)
        return;
    if (port->core->generation != pst_fork_generation())
        return; /* a fork child: the parent's backend is not ours to close */
    if (pst_stack_is_clear())
        close_port(port);
    else
        pst_reactor_arm(port->core->reactor, &port->close_timer, 0);
}

/* ---- the line --------------------------------------------------------------------------------- */

static struct pst_task_line *line_of(struct pst_task *task)
{
    return task->is_late ? &task->port->locked.late : &task->port->locked.ready;
}

void pst_port_push_back_locked(struct pst_task *task)
{
    struct pst_task_line *line = line_of(task);
    task->next_waiting = NULL;
    task->prev_waiting = line->last;
    if (line->last)
        line->last->next_waiting = task;
    else
        line->first = task;
    line->last = task;
}

void pst_port_push_front_locked(struct pst_task *task)
{
    struct pst_task_line *line = line_of(task);
    task->prev_waiting = NULL;
    task->next_waiting = line->first;
    if (line->first)
        line->first->prev_waiting = task;
    else
        line->last = task;
    line->first = task;
}

void pst_port_leave_line_locked(struct pst_task *task)
{
    struct pst_task_line *line = line_of(task);
    if (task->prev_waiting)
        task->prev_waiting->next_waiting = task->next_waiting;
    else
        line->first = task->next_waiting;
    if (task->next_waiting)
        task->next_waiting->prev_waiting = task->prev_waiting;
    else
        line->last = task->prev_waiting;
}

static struct pst_task *take_locked(struct pst_port *port)
{
    struct pst_task *ready = port->locked.ready.first, *late = port->locked.late.first;
    if (port->locked.is_blocked || port->locked.n_at_plugin >= port->max_at_plugin)
        return NULL;
    if (port->locked.n_late >= port->max_late)
        late = NULL;
    int is_late_turn = port->locked.was_ready && !PST_FAULT(STARVE_LATE);
    struct pst_task *task = !ready || (late && is_late_turn) ? late : ready;
    if (!task)
        return NULL;
    port->locked.was_ready = task == ready;
    pst_port_leave_line_locked(task);
    port->locked.n_at_plugin++;
    port->locked.n_late += task->is_late ? 1 : 0;
    task->locked.state = PST_TASK_SUBMITTING;
    task->locked.n_holds = 2; /* the submit, the completion */
    return task;
}

void pst_port_pump(struct pst_port *port)
{
    int owes_flush = 0;
    pst_stack_enter();
    for (;;) {
        pthread_mutex_lock(&port->mutex);
        uint64_t epoch = port->locked.epoch;
        struct pst_task *task = take_locked(port);
        int has_more = port->locked.ready.first || port->locked.late.first;
        pthread_mutex_unlock(&port->mutex);
        if (!task)
            break;
        pst_rc rc = pst_task_start(task, epoch);
        owes_flush |= rc == PST_PENDING;
        if (!has_more && rc != PST_BUSY)
            break; /* who has queued another since then pumps it */
    }
    if (owes_flush && port->loaded->ops.flush && !PST_FAULT(NO_FLUSH))
        port->loaded->ops.flush(port->backend);
    pst_stack_leave();
}

static void run_pump(void *arg)
{
    struct pst_port *port = arg;
    pthread_mutex_lock(&port->mutex);
    port->locked.is_blocked = 0;
    port->locked.is_pump_armed = 0;
    pthread_mutex_unlock(&port->mutex);
    pst_port_pump(port);
    pst_port_unref(port);
}

void pst_port_pump_later(struct pst_port *port, uint64_t due_ns)
{
    pthread_mutex_lock(&port->mutex);
    int is_first = !port->locked.is_pump_armed;
    int is_sooner = !is_first && due_ns < port->locked.pump_due_ns &&
                    pst_reactor_disarm(port->core->reactor, &port->pump_timer);
    if (is_first || is_sooner) { /* else one is due in time, or runs right now */
        port->locked.is_pump_armed = 1;
        port->locked.pump_due_ns = due_ns;
        pst_reactor_arm(port->core->reactor, &port->pump_timer, due_ns);
    }
    if (is_first)
        pst_port_ref(port);
    pthread_mutex_unlock(&port->mutex);
}

void pst_port_wake(struct pst_port *port)
{
    pthread_mutex_lock(&port->mutex);
    port->locked.epoch++;
    port->locked.is_blocked = 0;
    int has_waiting = port->locked.ready.first || port->locked.late.first;
    pthread_mutex_unlock(&port->mutex);
    if (has_waiting)
        pst_stack_kick(port);
}

int pst_port_others_run(struct pst_port *port)
{
    struct pst_core *core = port->core;
    int is_any = 0;
    pthread_mutex_lock(&core->mutex);
    for (struct pst_port *other = core->locked.ports; other && !is_any; other = other->next) {
        if (other == port)
            continue;
        pthread_mutex_lock(&other->mutex);
        is_any = other->locked.n_at_plugin > 0;
        pthread_mutex_unlock(&other->mutex);
    }
    pthread_mutex_unlock(&core->mutex);
    return is_any;
}

/* ---- ending ----------------------------------------------------------------------------------- */

static int is_of_upload(const struct pst_task *task)
{
    return task->slot == PST_SLOT_UPLOAD_OPEN || task->slot == PST_SLOT_UPLOAD_ABORT;
}

void pst_port_cancel_all(struct pst_port *port, int with_uploads)
{
    struct pst_task *batch[CANCEL_BATCH]; /* one walk along the list for so many */
    size_t n;
    do {
        n = 0;
        pthread_mutex_lock(&port->mutex);
        for (struct pst_task *task = port->locked.tasks; task && n < CANCEL_BATCH;
             task = task->next_task) {
            if (!atomic_load(&task->is_cancelled) && (with_uploads || !is_of_upload(task)))
                batch[n++] = pst_task_ref(task);
        }
        pthread_mutex_unlock(&port->mutex);
        for (size_t i = 0; i < n; i++) {
            pst_task_cancel(batch[i], PST_E_CANCELLED);
            pst_task_unref(batch[i]);
        }
    } while (n > 0);
}

int pst_port_wait_idle(struct pst_port *port, uint64_t deadline_ns)
{
    const struct timespec until = {.tv_sec = (time_t)(deadline_ns / 1000000000u),
                                   .tv_nsec = (long)(deadline_ns % 1000000000u)};
    pthread_mutex_lock(&port->mutex);
    while (port->locked.n_tasks > 0 &&
           pthread_cond_timedwait(&port->idle, &port->mutex, &until) != ETIMEDOUT)
        ;
    int is_idle = port->locked.n_tasks == 0;
    pthread_mutex_unlock(&port->mutex);
    return is_idle;
}
