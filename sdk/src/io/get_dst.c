/* get_dst.c - where a read goes: the grant to the plugin, the budget, the line for memory.
 *
 * A first read into a new buffer is "late": once the plugin knows the object's size it asks, and gets
 * memory for the whole read, its first bytes in front. What does not fit the free budget stands in line
 * (LATER). Being served, being cancelled and ending may cross: whoever takes the read out of the line
 * (on_granted, pst_get_leave_line, join_line) settles what becomes of the reservation, under the get's
 * mutex; the state PST_MEMORY_LEFT marks a read that has gone while it was being served. */
#include <string.h>

#include "core/error.h"
#include "core/fault.h"
#include "io/get_state.h"

static void on_granted(struct pst_budget_waiter *waiter)
{
    struct pst_get *get = (struct pst_get *)(void *)((char *)waiter -
                                                     offsetof(struct pst_get, waiter));
    struct pst_task *task = NULL;
    pthread_mutex_lock(&get->mutex);
    int is_wanted = get->locked.memory == PST_MEMORY_IN_LINE;
    int is_left = get->locked.memory == PST_MEMORY_LEFT;
    uint64_t bytes = waiter->bytes;
    if (is_wanted) {
        get->locked.memory = PST_MEMORY_RESERVED;
        get->locked.reserved_bytes = bytes;
    } else if (is_left) {
        get->locked.memory = PST_MEMORY_NONE; /* what has been reserved since is not ours */
    }
    if ((is_wanted || (is_left && !PST_FAULT(FORGET_LEFT))) && get->locked.late)
        task = pst_task_ref(get->locked.late); /* one that was cancelled asks, and hears of it */
    pthread_mutex_unlock(&get->mutex);
    if (!is_wanted)
        pst_budget_release(&get->spec.port->core->budget, bytes);
    if (task) {
        pst_task_dst_ready(task);
        pst_task_unref(task);
    }
    pst_get_unref(get);
}

/* The line was left before anybody served the read. */
static void note_left(struct pst_get *get)
{
    pthread_mutex_lock(&get->mutex);
    if (get->locked.memory == PST_MEMORY_LEFT)
        get->locked.memory = PST_MEMORY_NONE;
    pthread_mutex_unlock(&get->mutex);
    pst_get_unref(get); /* that of the line */
}

/* Get out of the line, if the read is in it. */
int pst_get_leave_line(struct pst_get *get)
{
    struct pst_budget *budget = &get->spec.port->core->budget;
    pthread_mutex_lock(&get->mutex);
    int was_in_line = get->locked.memory == PST_MEMORY_IN_LINE;
    if (was_in_line)
        get->locked.memory = PST_MEMORY_LEFT; /* should it be served right now: give back */
    pthread_mutex_unlock(&get->mutex);
    if (!was_in_line || !pst_budget_leave(budget, &get->waiter))
        return 0;
    note_left(get);
    return 1;
}

void pst_get_on_dst_cancelled(struct pst_task *task)
{
    const struct pst_try *try = task->owner;
    if (pst_get_leave_line(try->get))
        pst_task_dst_ready(task); /* so that the plugin asks and hears of it */
}

static void drop_buffer_locked(struct pst_get *get, uint64_t *release_bytes)
{
    pst_buffer_unref(get->outcome.buffer);
    get->outcome.buffer = NULL;
    if (get->locked.memory == PST_MEMORY_RESERVED) {
        *release_bytes = get->locked.reserved_bytes;
        get->locked.memory = PST_MEMORY_NONE;
    }
}

static size_t alignment(const struct pst_port *port)
{
    return port->limits.mem_align > 1 ? port->limits.mem_align : 1;
}

static pst_rc grant_locked(struct pst_get *get, struct pst_task *task, uint64_t from,
                           pst_dst_grant *grant)
{
    struct pst_port *port = get->spec.port;
    if (!get->outcome.buffer) {
        get->outcome.buffer = pst_buffer_new(port->core->arenas, (size_t)get->locked.reserved_bytes,
                                             alignment(port));
        if (!get->outcome.buffer)
            return pst_fail(&task->error, PST_E_NO_MEMORY, "out of memory for %llu bytes",
                            (unsigned long long)get->locked.reserved_bytes);
    }
    pst_iov *iov = pst_task_alloc(task, sizeof(*iov));
    if (!iov)
        return pst_fail(&task->error, PST_E_NO_MEMORY, "out of memory");
    iov->ptr = (char *)pst_buffer_bytes(get->outcome.buffer) + from;
    iov->len = pst_buffer_capacity(get->outcome.buffer) - (size_t)from;
    grant->capacity = iov->len;
    grant->dst = iov;
    grant->n_dst = 1;
    return PST_OK;
}

pst_rc pst_get_grow_locked(struct pst_get *get, uint64_t need, uint64_t wish, uint64_t used,
                           pst_error *err)
{
    struct pst_port *port = get->spec.port;
    struct pst_budget *budget = &port->core->budget;
    uint64_t had = get->locked.memory == PST_MEMORY_RESERVED ? get->locked.reserved_bytes : 0;
    uint64_t bytes = wish < budget->limit_bytes ? wish : budget->limit_bytes;
    if (bytes < need)
        return pst_fail(err, PST_E_OVER_BUDGET,
                        "object needs at least %llu bytes of memory, the budget is %llu bytes",
                        (unsigned long long)need, (unsigned long long)budget->limit_bytes);
    pst_buffer *bigger = pst_buffer_new(port->core->arenas, (size_t)bytes, alignment(port));
    if (!bigger)
        return pst_fail(err, PST_E_NO_MEMORY, "out of memory for %llu bytes",
                        (unsigned long long)bytes);
    if (used > 0)
        memcpy(pst_buffer_bytes(bigger), pst_buffer_bytes(get->outcome.buffer), (size_t)used);
    pst_buffer_unref(get->outcome.buffer);
    get->outcome.buffer = bigger;
    pst_budget_force(budget, bytes - had); /* it holds bytes already and cannot let go of them */
    get->locked.memory = PST_MEMORY_RESERVED;
    get->locked.reserved_bytes = bytes;
    return PST_OK;
}

/* A reply of unknown length has filled its grant: twice the memory, the old bytes at its start. */
static pst_rc grant_more_locked(struct pst_get *get, struct pst_task *task, pst_dst_grant *grant)
{
    if (!get->outcome.buffer)
        return PST_E_INVALID;
    size_t used = pst_buffer_capacity(get->outcome.buffer);
    pst_rc rc = pst_get_grow_locked(get, (uint64_t)used + 1, (uint64_t)used * 2, used,
                                    &task->error);
    return rc == PST_OK ? grant_locked(get, task, used, grant) : rc;
}

/* How many bytes the whole read needs, from what the first reply told. */
static uint64_t bytes_needed(const struct pst_get *get, const pst_dst_args *args)
{
    uint64_t need = args->length;
    if (args->length == PST_UNKNOWN)
        return get->spec.port->core->config.first_read_bytes;
    if (args->object_size != PST_UNKNOWN && !get->spec.is_suffix) {
        uint64_t rest = args->object_size > get->spec.offset ? args->object_size - get->spec.offset
                                                             : 0;
        need = rest < get->spec.length ? rest : get->spec.length;
    }
    if (need < args->length)
        need = args->length;
    uint64_t slack = args->capacity > args->length ? args->capacity - args->length : 0;
    return need + slack;
}

/* The read is in line. A cancel may have come before it was: then nobody else takes it out. */
static pst_rc join_line(struct pst_get *get)
{
    pthread_mutex_lock(&get->mutex);
    enum pst_get_memory memory = get->locked.memory;
    pthread_mutex_unlock(&get->mutex);
    if (memory == PST_MEMORY_IN_LINE || memory == PST_MEMORY_RESERVED)
        return PST_LATER; /* or it was served already, and dst_ready is on its way */
    if (memory == PST_MEMORY_LEFT && pst_budget_leave(&get->spec.port->core->budget, &get->waiter))
        note_left(get);
    return PST_E_CANCELLED;
}

/* May the plugin be told LATER? Not where nobody could tell it more, and not where the only slot would
 * wait for memory held by what needs the slot. */
static int can_wait(const struct pst_port *port)
{
    return (port->loaded->ops.dst_ready || PST_FAULT(LATER_ANYWAY)) && port->max_at_plugin > 1;
}

pst_rc pst_get_on_dst(struct pst_task *task, const pst_dst_args *args, pst_dst_grant *grant)
{
    const struct pst_try *try = task->owner;
    struct pst_get *get = try->get;
    struct pst_port *port = get->spec.port;
    struct pst_budget *budget = &port->core->budget;
    uint64_t release_bytes = 0;
    pst_rc rc;
    pthread_mutex_lock(&get->mutex);
    uint64_t need = bytes_needed(get, args);
    if (atomic_load(&task->is_cancelled) || get->locked.is_stopped) {
        rc = PST_E_CANCELLED;
        goto out;
    }
    if (args->flags & PST_DST_MORE) {
        rc = grant_more_locked(get, task, grant);
        goto out;
    }
    if (need > budget->limit_bytes) {
        rc = pst_fail(&task->error, PST_E_OVER_BUDGET,
                      "object needs %llu bytes of memory, the budget is %llu bytes",
                      (unsigned long long)need, (unsigned long long)budget->limit_bytes);
        goto out;
    }
    if (get->locked.memory == PST_MEMORY_IN_LINE) {
        rc = PST_LATER; /* asked again before dst_ready */
        goto out;
    }
    if (get->outcome.buffer || get->locked.reserved_bytes != need)
        drop_buffer_locked(get, &release_bytes); /* an earlier attempt saw another size */
    if (get->locked.memory != PST_MEMORY_RESERVED) {
        get->locked.memory = PST_MEMORY_IN_LINE;
        pst_get_ref(get);
        pthread_mutex_unlock(&get->mutex);
        if (release_bytes > 0)
            pst_budget_release(budget, release_bytes);
        release_bytes = 0;
        get->waiter.granted = on_granted;
        if (!can_wait(port))
            pst_budget_force(budget, need);
        else if (!pst_budget_reserve(budget, need, &get->waiter))
            return join_line(get);
        pst_get_unref(get);
        pthread_mutex_lock(&get->mutex);
        get->locked.memory = PST_MEMORY_RESERVED;
        get->locked.reserved_bytes = need;
    }
    rc = grant_locked(get, task, 0, grant);
out:
    pthread_mutex_unlock(&get->mutex);
    if (release_bytes > 0)
        pst_budget_release(budget, release_bytes);
    return rc;
}
