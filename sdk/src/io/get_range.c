/* get_range.c - the rest of a read, once its first reply is in: ranges side by side.
 *
 * As many are under way as the pace says (get_pace.c), each in a span. A span whose request has ended is
 * settled: the next one is asked for at once, then its own bytes are copied and summed where that is
 * needed, while they are in the cache of the core that received them, and the span is closed. On a
 * thread of the plugin that work would hold up the plugin's other completions: there it becomes a job
 * of the pool for computing.
 *
 * There are a few more spans than ranges under way, for those that are being summed. When none is free
 * the closing of one asks for the next range. */
#include <stdlib.h>

#include "core/error.h"
#include "core/stack.h"
#include "io/get_state.h"

#define BATCH 32u
#define INLINE_BYTES ((uint64_t)64 << 10) /* as long as handing it to another thread takes */

static void on_range_settled(struct pst_span *span, pst_rc rc, const pst_error *cause);

static struct pst_span *free_span(struct pst_get *get)
{
    for (uint32_t i = 0; i < get->n_spans; i++) {
        if (!get->spans[i].is_busy)
            return &get->spans[i];
    }
    return NULL;
}

/* Make tasks for the ranges that may travel now, at most BATCH. */
static uint32_t next_ranges_locked(struct pst_get *get, struct pst_task **batch)
{
    uint32_t n = 0, most = get->is_single ? 1 : get->locked.pace.in_flight;
    while (n < BATCH && get->locked.n_asked < most && get->locked.next < get->locked.total &&
           get->locked.rc == PST_OK) {
        struct pst_span *span = free_span(get);
        uint64_t left = get->locked.total - get->locked.next;
        if (!span)
            break;
        span->get = get;
        span->settled = on_range_settled;
        span->from = get->locked.next;
        span->length = get->is_single ? left : pst_pace_length(&get->locked.pace, left);
        span->is_hedged = 0;
        span->n_read = 0;
        batch[n] = pst_get_aim_locked(span, pst_get_aim_of(get, 0));
        if (!batch[n])
            break;
        n++;
        get->locked.next += span->length;
        if (span->length > get->outcome.part_bytes)
            get->outcome.part_bytes = span->length;
    }
    return n;
}

static void submit_all(struct pst_get *get, struct pst_task **batch, uint32_t n)
{
    if (n == 0)
        return;
    int is_clear = pst_stack_is_clear();
    if (is_clear)
        pst_stack_enter(); /* one batch, one flush at its end */
    for (uint32_t i = 0; i < n; i++)
        pst_get_submit(get, batch[i]);
    if (is_clear)
        pst_stack_leave();
}

/* ---- closing ----------------------------------------------------------------------------------- */

static void close_span(struct pst_span *span, int has_bytes, pst_rc rc, pst_error *why)
{
    struct pst_get *get = span->get;
    struct pst_try *winner = span->winner;
    struct pst_task *batch[BATCH];
    uint64_t behind = 0;
    pst_get_ref(get); /* the request's reference may be the last one */
    if (has_bytes && pst_read_is_summed(get->spec.flags))
        behind = get->locked.total - span->from - span->n_read; /* total is settled */
    uint32_t adds = pst_crc32c_combine(span->crc32c, 0, behind);
    pthread_mutex_lock(&get->mutex);
    if (rc == PST_OK && has_bytes)
        rc = pst_get_note_sums_locked(span, why);
    int is_first_failure = rc != PST_OK && get->locked.rc == PST_OK;
    if (rc != PST_OK)
        pst_get_fail_locked(get, rc, why);
    get->locked.crc32c ^= adds;
    span->winner = NULL;
    span->is_busy = 0;
    uint32_t n = next_ranges_locked(get, batch);
    int is_over = --get->locked.n_running == 0;
    pthread_mutex_unlock(&get->mutex);
    pst_try_free(winner);
    submit_all(get, batch, n);
    if (is_first_failure && !is_over)
        pst_get_stop_running(get, PST_E_CANCELLED);
    if (is_over)
        pst_get_end(get);
    pst_get_unref(get);
}

static void run_close(void *arg)
{
    struct pst_span *span = arg;
    pst_error why = PST_ERROR_INIT;
    pst_rc rc = pst_get_work(span, &why);
    close_span(span, 1, rc, &why);
}

void pst_get_close_span(struct pst_span *span, int has_bytes)
{
    struct pst_core *core = span->get->spec.port->core;
    int needs_work = has_bytes &&
                     (pst_read_is_summed(span->get->spec.flags) || span->winner->spare);
    if (needs_work && span->n_read >= INLINE_BYTES && pst_stack_is_foreign()) {
        span->job = (struct pst_job){.fn = run_close, .arg = span};
        if (pst_pool_run(core->cpu, &core->cpu_share, &span->job) == PST_OK)
            return;
    }
    pst_error why = PST_ERROR_INIT;
    pst_rc rc = needs_work ? pst_get_work(span, &why) : (pst_rc)PST_OK;
    close_span(span, has_bytes, rc, &why);
}

static void on_range_settled(struct pst_span *span, pst_rc rc, const pst_error *cause)
{
    struct pst_get *get = span->get;
    struct pst_task *batch[BATCH];
    uint64_t now_ns = pst_now_ns();
    pthread_mutex_lock(&get->mutex);
    int is_first_failure = rc != PST_OK && get->locked.rc == PST_OK;
    if (rc != PST_OK) {
        pst_get_fail_locked(get, rc, cause);
    } else {
        span->n_read = span->length;
        get->outcome.n_ranges++;
        pst_pace_note(&get->locked.pace, span->length, now_ns - span->begun_ns, now_ns,
                      get->locked.next < get->locked.total);
    }
    int has_bytes = get->locked.rc == PST_OK;
    pst_get_watch_locked(get); /* what late means may be another time now */
    uint32_t n = next_ranges_locked(get, batch);
    pthread_mutex_unlock(&get->mutex);
    submit_all(get, batch, n);
    if (is_first_failure)
        pst_get_stop_running(get, PST_E_CANCELLED);
    pst_get_close_span(span, has_bytes);
}

/* ---- beginning --------------------------------------------------------------------------------- */

static void set_pace_locked(struct pst_get *get)
{
    struct pst_port *port = get->spec.port;
    const struct pst_pace_start start = {
        .limits = &port->limits,
        .rest = get->locked.total - get->locked.next,
        .asked_part_bytes = get->spec.part_bytes,
        .asked_in_flight = get->spec.max_in_flight,
        .max_at_plugin = port->max_at_plugin,
        .cores = port->core->config.cpu_threads,
        .learned_part_bytes = atomic_load_explicit(&port->learned_part_bytes, memory_order_relaxed),
        .learned_in_flight = atomic_load_explicit(&port->learned_in_flight, memory_order_relaxed),
        .is_near = port->info.endpoint[0] == '\0',
        .is_summed = pst_read_is_summed(get->spec.flags),
    };
    pst_pace_init(&get->locked.pace, &start);
}

void pst_get_start_rest(struct pst_get *get)
{
    struct pst_task *batch[BATCH];
    uint32_t n = 0;
    pthread_mutex_lock(&get->mutex);
    set_pace_locked(get);
    uint32_t n_spans = get->is_single ? 1
                                      : get->locked.pace.in_flight_max +
                                            get->spec.port->core->config.cpu_threads;
    get->spans = calloc(n_spans, sizeof(*get->spans));
    if (get->spans) {
        get->n_spans = n_spans;
        n = next_ranges_locked(get, batch);
    } else {
        pst_error why = PST_ERROR_INIT;
        pst_get_fail_locked(get, pst_fail(&why, PST_E_NO_MEMORY, "out of memory"), &why);
    }
    pthread_mutex_unlock(&get->mutex);
    submit_all(get, batch, n);
}
