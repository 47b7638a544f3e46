/* get_try.c - requests for one span of a read: one, and a second one when it is late.
 *
 * A span has at most two requests. The first writes to the span's place in the destination, the second
 * (the hedge) always to memory of its own, so that no byte ever has two writers. Whichever brings the
 * bytes first wins and the other is cancelled. What happens then depends on where the loser writes:
 *
 *   into memory of its own   it is left behind with that memory and frees itself at its end
 *   into the destination     the span waits for its end, then the winner's bytes are copied there
 *
 * The second case needs a plugin that ends soon after a cancel (PST_CAP_CANCEL_BOUNDED). For others a
 * read that may be hedged gives the first request memory of its own too, and pays a copy for it; where
 * the budget has no room for the whole then, the first request is made again, to stand in line.
 *
 * When a first request fails while its hedge still runs, the hedge decides.
 *
 * Bounds: every request of a store earns a tenth of a hedge, at most ten are saved up, and a store
 * starts with one; so hedges are at most a tenth of all requests, and one. A hedge is tried once, and
 * only while its memory fits the free budget. */
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/fault.h"
#include "io/get_state.h"
#include "io/retry.h"

#define HEDGE_COST 10
#define HEDGE_TOKENS_MAX 90 /* above the ten of a fresh store */
#define HEDGE_BATCH 16u
#define UNKNOWN_LOOK_NS 20000000u

static void on_try(struct pst_task *task, pst_rc rc);

/* ---- making ------------------------------------------------------------------------------------ */

void pst_try_free(struct pst_try *try)
{
    if (!try)
        return;
    struct pst_get *get = try->get;
    pst_task_unref(try->task);
    pst_buffer_unref(try->spare);
    if (try->reserved_bytes > 0)
        pst_budget_release(&get->spec.port->core->budget, try->reserved_bytes);
    free(try);
    pst_get_unref(get);
}

static void on_repeat(struct pst_task *task, pst_rc rc)
{
    struct pst_try *try = task->owner;
    if (rc != PST_E_THROTTLED)
        return;
    pthread_mutex_lock(&try->get->mutex);
    if (try->get->n_spans > 0) /* one request alone says nothing about how many may travel */
        pst_pace_throttle(&try->get->locked.pace);
    pthread_mutex_unlock(&try->get->mutex);
}

static struct pst_task *new_task(const struct pst_span *span)
{
    struct pst_get *get = span->get;
    struct pst_port *port = get->spec.port;
    int is_first = span == &get->first && span->from == 0;
    pst_str if_match = is_first || get->outcome.etag_strength != PST_ETAG_STRONG
                           ? get->spec.if_match
                           : get->outcome.etag;
    struct pst_task *task = pst_task_new(port, PST_SLOT_READ, NULL);
    if (!task)
        return NULL;
    task->then = on_try;
    task->repeats = on_repeat;
    task->crew = get->spec.crew;
    task->op.affinity = get->spec.affinity;
    task->args.read = (pst_read_args){
        .struct_size = sizeof(task->args.read),
        .flags = (is_first && get->spec.is_suffix ? PST_READ_SUFFIX : 0) |
                 (get->spec.flags & PST_READ_VERIFY ? PST_READ_SUMS : 0),
        .offset = get->spec.offset + span->from,
        .length = span->length,
        .key = get->spec.key, /* lives as long as the get, which outlives the task's run */
        .version = get->spec.version,
        .if_match = pst_port_has(port, PST_CAP_READ_IF_MATCH) ? if_match : (pst_str){NULL, 0},
    };
    return task;
}

static int aim_direct(struct pst_span *span, struct pst_task *task)
{
    struct pst_get *get = span->get;
    size_t n_dst = get->spec.n_dst > 0 ? get->spec.n_dst : 1;
    pst_iov *slice = pst_task_keep(task, NULL, n_dst * sizeof(*slice));
    if (!slice)
        return 0;
    task->args.read.dst = slice;
    task->args.read.n_dst = pst_get_slice(get, span->from, span->length, slice);
    return 1;
}

static int aim_spare(struct pst_try *try, struct pst_span *span)
{
    struct pst_port *port = span->get->spec.port;
    struct pst_budget *budget = &port->core->budget;
    size_t align = port->limits.mem_align > 1 ? port->limits.mem_align : 1;
    pst_iov iov = {NULL, (size_t)span->length};
    try->spare = pst_buffer_new(port->core->arenas, iov.len, align);
    if (!try->spare)
        return 0;
    iov.ptr = pst_buffer_bytes(try->spare);
    try->task->args.read.dst = pst_task_keep(try->task, &iov, sizeof(iov));
    try->task->args.read.n_dst = 1;
    /* Last: to give bytes back is to serve others, which must not happen under the get's lock. */
    if (!try->task->args.read.dst || !pst_budget_try(budget, span->length))
        return 0;
    try->reserved_bytes = span->length;
    return 1;
}

static struct pst_try *new_try(struct pst_span *span, enum pst_aim aim)
{
    struct pst_try *try = calloc(1, sizeof(*try));
    if (!try)
        return NULL;
    try->get = pst_get_ref(span->get);
    try->span = span;
    try->task = new_task(span);
    int is_made = try->task != NULL;
    if (is_made) {
        try->task->owner = try;
        if (aim == PST_AIM_LATE) {
            try->task->is_late = 1;
            try->task->dst = pst_get_on_dst;
            try->task->dst_cancelled = pst_get_on_dst_cancelled;
        } else {
            is_made = aim == PST_AIM_SPARE ? aim_spare(try, span) : aim_direct(span, try->task);
        }
    }
    if (!is_made) {
        pst_try_free(try);
        return NULL;
    }
    return try;
}

enum pst_aim pst_get_aim_of(const struct pst_get *get, int is_first)
{
    int is_quiet = pst_port_has(get->spec.port, PST_CAP_CANCEL_BOUNDED);
    if (get->spec.hedge_after_ms > 0 && !is_quiet && get->spec.n_dst == 0)
        return PST_AIM_SPARE;
    return is_first && get->spec.n_dst == 0 ? PST_AIM_LATE : PST_AIM_DIRECT;
}

/* Beside others a few too many may be saved up: the next look sees to it. */
static void earn_hedge(struct pst_port *port)
{
    if (atomic_load_explicit(&port->hedge_tokens, memory_order_relaxed) < HEDGE_TOKENS_MAX)
        atomic_fetch_add_explicit(&port->hedge_tokens, 1, memory_order_relaxed);
}

/* May one more be made? The count starts at 0, so that a fresh store has one. */
static int pay_hedge(struct pst_port *port)
{
    if (atomic_fetch_sub_explicit(&port->hedge_tokens, HEDGE_COST, memory_order_relaxed) >= 0)
        return 1;
    atomic_fetch_add_explicit(&port->hedge_tokens, HEDGE_COST, memory_order_relaxed);
    return 0;
}

struct pst_task *pst_get_aim_locked(struct pst_span *span, enum pst_aim aim)
{
    struct pst_get *get = span->get;
    int is_first = span == &get->first;
    struct pst_try *try = new_try(span, aim);
    if (!try && aim == PST_AIM_SPARE) { /* no memory of its own: do without a hedge */
        span->is_hedged = 1;
        aim = is_first && get->spec.n_dst == 0 ? PST_AIM_LATE : PST_AIM_DIRECT;
        try = new_try(span, aim);
    }
    if (!try) {
        pst_error why = PST_ERROR_INIT;
        pst_get_fail_locked(get, pst_fail(&why, PST_E_NO_MEMORY, "out of memory"), &why);
        return NULL;
    }
    span->tries[0] = try;
    span->tries[1] = span->winner = NULL;
    span->crc32c = 0;
    span->is_busy = 1;
    span->begun_ns = span->looked_ns = pst_now_ns();
    if (aim == PST_AIM_LATE)
        get->locked.late = try->task;
    get->locked.n_running++;
    if (++get->locked.n_asked > get->outcome.max_in_flight)
        get->outcome.max_in_flight = get->locked.n_asked;
    earn_hedge(get->spec.port);
    atomic_fetch_add_explicit(&get->spec.port->core->ranges, 1, memory_order_relaxed);
    pst_get_watch_locked(get);
    return pst_task_ref(try->task);
}

void pst_get_submit(struct pst_get *get, struct pst_task *task)
{
    pst_retry_submit(task, get->spec.max_attempts, get->spec.deadline_ns);
    pst_task_unref(task);
}

/* ---- ending ------------------------------------------------------------------------------------ */

/* Check one range of the rest. PRECONDITION stems from our own pin. */
static pst_rc check_range(struct pst_get *get, struct pst_task *task, pst_rc rc)
{
    const pst_read_result *r = &task->result.read;
    if (rc == PST_E_PRECONDITION)
        return pst_fail(&task->error, PST_E_CHANGED, "the object was replaced while it was read");
    if (rc != PST_OK)
        return rc;
    if (!pst_get_is_same_version(get, r))
        return pst_fail(&task->error, PST_E_CHANGED, "the object changed while it was read");
    if (r->n_read != task->args.read.length)
        return pst_fail(&task->error, PST_E_DATA_LOSS, "range at %llu: wanted %llu bytes, got %llu",
                        (unsigned long long)task->args.read.offset,
                        (unsigned long long)task->args.read.length, (unsigned long long)r->n_read);
    return PST_OK;
}

/* A loser that writes to memory of its own: nobody waits for it. */
static void leave_behind_locked(struct pst_try *loser)
{
    struct pst_span *span = loser->span;
    span->tries[span->tries[1] == loser] = NULL;
    loser->span = NULL;
    atomic_fetch_add(&loser->get->spec.port->core->abandoned, 1);
}

/* What to do once a request has ended. */
struct verdict {
    struct pst_task *loser;  /* to be cancelled; a reference */
    struct pst_try *useless; /* to be freed */
    int is_settled;
};

static struct verdict judge_locked(struct pst_try *try, pst_rc rc)
{
    struct verdict v = {NULL, NULL, 0};
    struct pst_span *span = try->span;
    struct pst_get *get = try->get;
    struct pst_try *other = span->tries[span->tries[0] == try];
    if (rc != PST_OK) {
        span->tries[span->tries[1] == try] = NULL;
        v.useless = try;
        v.is_settled = !other || span->winner == other;
        return v;
    }
    if (!span->winner) {
        span->winner = try;
        if (span->tries[1] == try) {
            get->outcome.n_hedges_won++;
            atomic_fetch_add_explicit(&get->spec.port->core->hedges_won, 1, memory_order_relaxed);
        }
        if (other)
            v.loser = pst_task_ref(other->task);
        int is_harmless = other && (other->spare || PST_FAULT(LOSER_MAY_WRITE));
        if (is_harmless)
            leave_behind_locked(other);
        v.is_settled = !other || is_harmless;
        return v;
    }
    /* The loser made it too: its bytes are in place already. */
    v.useless = other;
    span->winner = try;
    v.is_settled = 1;
    return v;
}

static void on_try(struct pst_task *task, pst_rc rc)
{
    struct pst_try *try = task->owner;
    struct pst_get *get = try->get;
    if (task->is_late)
        pst_get_leave_line(get); /* the plugin gave up while it was parked */
    pthread_mutex_lock(&get->mutex);
    struct pst_span *span = try->span;
    if (!span) {
        pthread_mutex_unlock(&get->mutex);
        atomic_fetch_sub(&get->spec.port->core->abandoned, 1);
        pst_try_free(try);
        return;
    }
    if (task == get->locked.late)
        get->locked.late = NULL;
    if (span != &get->first)
        rc = check_range(get, task, rc);
    get->outcome.n_retries += task->op.attempt - 1;
    struct verdict v = judge_locked(try, rc);
    if (v.is_settled) {
        span->tries[0] = span->tries[1] = NULL;
        get->locked.n_asked--;
    }
    pst_rc settled_rc = span->winner ? (pst_rc)PST_OK : rc;
    pthread_mutex_unlock(&get->mutex);
    if (v.loser) {
        pst_retry_cancel(v.loser, PST_E_CANCELLED);
        pst_task_unref(v.loser);
    }
    if (v.is_settled)
        span->settled(span, settled_rc, &task->error);
    pst_try_free(v.useless);
}

/* ---- hedging ----------------------------------------------------------------------------------- */

static int may_hedge(const struct pst_span *span)
{
    return span->is_busy && !span->is_hedged && !span->winner && span->tries[0] && !span->tries[1];
}

static void hedge_locked(struct pst_span *span, struct pst_task **batch, uint32_t *n)
{
    struct pst_get *get = span->get;
    if (!pay_hedge(get->spec.port))
        return; /* perhaps later */
    struct pst_try *try = new_try(span, PST_FAULT(HEDGE_IN_PLACE) ? PST_AIM_DIRECT : PST_AIM_SPARE);
    if (!try) {
        atomic_fetch_add_explicit(&get->spec.port->hedge_tokens, HEDGE_COST, memory_order_relaxed);
        return;
    }
    span->is_hedged = 1;
    span->tries[1] = try;
    get->outcome.n_hedges++;
    atomic_fetch_add_explicit(&get->spec.port->core->hedges, 1, memory_order_relaxed);
    batch[(*n)++] = pst_task_ref(try->task);
}

static uint64_t late_ns_locked(const struct pst_get *get)
{
    return pst_pace_late_ns(
        &get->locked.pace, get->spec.hedge_after_ms,
        atomic_load_explicit(&get->spec.port->learned_median_ns, memory_order_relaxed));
}

static struct pst_span *span_at(struct pst_get *get, uint32_t i)
{
    return i == 0 ? &get->first : &get->spans[i - 1];
}

/* When to look at it (again). What late means may be learned yet. */
static uint64_t look_at_ns(const struct pst_span *span, uint64_t late_ns)
{
    return span->looked_ns + (late_ns < UINT64_MAX ? late_ns : UNKNOWN_LOOK_NS);
}

static void on_watch(void *arg)
{
    struct pst_get *get = arg;
    struct pst_task *batch[HEDGE_BATCH];
    uint32_t n = 0;
    uint64_t now_ns = pst_now_ns();
    pthread_mutex_lock(&get->mutex);
    get->locked.is_watched = 0;
    uint64_t late_ns = late_ns_locked(get);
    int goes_on = !get->locked.is_ended && get->locked.rc == PST_OK;
    for (uint32_t i = 0; goes_on && i <= get->n_spans && n < HEDGE_BATCH; i++) {
        struct pst_span *span = span_at(get, i);
        if (!may_hedge(span) || now_ns < look_at_ns(span, late_ns))
            continue;
        span->looked_ns = now_ns;
        if (late_ns < UINT64_MAX)
            hedge_locked(span, batch, &n);
    }
    if (goes_on)
        pst_get_watch_locked(get);
    pthread_mutex_unlock(&get->mutex);
    for (uint32_t i = 0; i < n; i++) {
        pst_retry_submit(batch[i], 1, get->spec.deadline_ns);
        pst_task_unref(batch[i]);
    }
    pst_get_unref(get);
}

void pst_get_watch_init(struct pst_get *get)
{
    get->hedge_timer.fn = on_watch;
    get->hedge_timer.arg = get;
}

void pst_get_watch_locked(struct pst_get *get)
{
    uint64_t due_ns = UINT64_MAX;
    if (get->spec.hedge_after_ms == 0)
        return;
    uint64_t late_ns = late_ns_locked(get);
    for (uint32_t i = 0; i <= get->n_spans; i++) {
        const struct pst_span *span = span_at(get, i);
        if (may_hedge(span) && look_at_ns(span, late_ns) < due_ns)
            due_ns = look_at_ns(span, late_ns);
    }
    if (due_ns == UINT64_MAX || (get->locked.is_watched && get->locked.watch_due_ns <= due_ns))
        return;
    struct pst_reactor *reactor = get->spec.port->core->reactor;
    if (get->locked.is_watched && !pst_reactor_disarm(reactor, &get->hedge_timer))
        return; /* it runs right now, and looks again */
    if (!get->locked.is_watched)
        pst_get_ref(get);
    get->locked.is_watched = 1;
    get->locked.watch_due_ns = due_ns;
    pst_reactor_arm(reactor, &get->hedge_timer, due_ns);
}

int pst_get_unwatch_locked(struct pst_get *get)
{
    int was_watched = get->locked.is_watched &&
                      pst_reactor_disarm(get->spec.port->core->reactor, &get->hedge_timer);
    if (was_watched)
        get->locked.is_watched = 0;
    return was_watched;
}
