/* get.c - the range engine: a read of any size, from its making to its end.
 *
 * How: the first read asks for at most `first_read_bytes`. Its reply tells the object's size and etag.
 * The plugin announces both through host->dst before it receives, so the buffer is allocated once, at
 * its final size, and the first bytes go where they stay. The rest follows as ranges, in parallel, into
 * the same memory. No stat before, no copy after. get_state.h tells which file does what.
 *
 * One version: every reply must show the etag and the size of the first one, and ranges carry
 * If-Match where the store can. An object whose etag is weak or absent cannot be pinned: unless the
 * caller allows it, it is read again as a whole by one single request.
 *
 * Memory: the destination is reserved from the budget in one step, when its size is known (get_dst.c).
 *
 * Failing: the first failure stops the other ranges; done() comes when all that write to the destination
 * have ended, so it is quiet then. A range that came short although the object goes on, or long, is
 * DATA_LOSS; an etag or a size that moved is CHANGED.
 *
 * `n_running` counts the spans that are not closed yet, and one more while the read is being set going.
 * Whoever takes it to 0 ends the read. */
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/fault.h"
#include "io/call.h"
#include "io/get_state.h"
#include "io/retry.h"

/* ---- making and releasing --------------------------------------------------------------------- */

static char *keep(char **at, pst_str *text)
{
    char *copy = *at;
    if (text->len > 0)
        memcpy(copy, text->ptr, text->len);
    text->ptr = copy;
    *at += text->len;
    return copy;
}

struct pst_get *pst_get_new(const struct pst_get_spec *spec)
{
    size_t iov_bytes = spec->n_dst * sizeof(pst_iov);
    size_t kept_bytes = iov_bytes + spec->key.len + spec->if_match.len + spec->version.len;
    struct pst_get *get = malloc(sizeof(*get) + kept_bytes);
    if (!get)
        return NULL;
    memset(get, 0, offsetof(struct pst_get, etag));
    atomic_init(&get->refs, 1);
    pthread_mutex_init(&get->mutex, NULL);
    get->spec = *spec;
    if (iov_bytes > 0)
        memcpy(get->kept, spec->dst, iov_bytes);
    get->spec.dst = get->kept;
    char *at = (char *)get->kept + iov_bytes;
    keep(&at, &get->spec.key);
    keep(&at, &get->spec.if_match);
    keep(&at, &get->spec.version);
    for (size_t i = 0; i < spec->n_dst; i++)
        get->capacity += spec->dst[i].len;
    get->error.struct_size = sizeof(get->error);
    get->outcome.object_size = PST_UNKNOWN;
    get->outcome.error = &get->error;
    get->first.get = get;
    if (spec->flags & PST_READ_VERIFY) /* without memory for it: not verified */
        get->claims = spec->claims ? pst_claims_ref(spec->claims) : pst_claims_new();
    pst_get_watch_init(get);
    pst_port_ref(spec->port);
    return get;
}

struct pst_get *pst_get_ref(struct pst_get *get)
{
    atomic_fetch_add_explicit(&get->refs, 1, memory_order_relaxed);
    return get;
}

void pst_get_unref(struct pst_get *get)
{
    if (!get || atomic_fetch_sub_explicit(&get->refs, 1, memory_order_acq_rel) != 1)
        return;
    pst_buffer_unref(get->outcome.buffer);
    pthread_mutex_destroy(&get->mutex);
    pst_claims_unref(get->claims);
    free(get->unfed);
    pst_port_unref(get->spec.port);
    free(get->spans);
    free(get);
}

void *pst_get_owner(struct pst_get *get)
{
    return get->spec.owner;
}

pst_str pst_get_key(const struct pst_get *get)
{
    return get->spec.key;
}

const struct pst_get_outcome *pst_get_outcome_of(struct pst_get *get)
{
    return &get->outcome;
}

pst_buffer *pst_get_take(struct pst_get *get)
{
    pst_buffer *buffer = get->outcome.buffer;
    get->outcome.buffer = NULL;
    return buffer;
}

void pst_get_fill_info(const struct pst_get_outcome *outcome, pst_read_info *info)
{
    if (!info)
        return;
#define FILL(member)                                                                               \
    do {                                                                                           \
        if (PST_HAS(pst_read_info, info, member))                                                  \
            info->member = outcome->member;                                                        \
    } while (0)
    FILL(etag_strength);
    FILL(object_size);
    FILL(n_read);
    FILL(elapsed_ns);
    FILL(part_bytes);
    FILL(n_ranges);
    FILL(max_in_flight);
    FILL(n_retries);
    FILL(n_hedges);
    FILL(n_hedges_won);
    FILL(has_crc32c);
    FILL(crc32c);
    FILL(is_verified);
#undef FILL
    if (PST_HAS(pst_read_info, info, etag)) {
        memcpy(info->etag, outcome->etag.ptr ? outcome->etag.ptr : "", outcome->etag.len);
        info->etag[outcome->etag.len] = '\0';
    }
}

/* ---- the end ---------------------------------------------------------------------------------- */

uint64_t pst_get_requested(const struct pst_get *get)
{
    return get->spec.n_dst > 0 && get->capacity < get->spec.length ? get->capacity
                                                                   : get->spec.length;
}

static pst_rc check_exact(struct pst_get *get)
{
    uint64_t want = pst_get_requested(get), got = get->outcome.n_read;
    if (!(get->spec.flags & PST_READ_EXACT) || want == PST_UNKNOWN || got == want)
        return PST_OK;
    return pst_fail(&get->error, PST_E_RANGE,
                    "range of %llu bytes at %llu goes beyond the end: the object has %llu bytes",
                    (unsigned long long)want, (unsigned long long)get->spec.offset,
                    (unsigned long long)get->outcome.object_size);
}

/* What this read learned about the store, for the next one. Reads that end together may lose each
 * other's note: the next one makes up for it. */
static void remember_pace(struct pst_get *get)
{
    struct pst_port *port = get->spec.port;
    const struct pst_pace *pace = &get->locked.pace;
    uint64_t learned_ns = atomic_load_explicit(&port->learned_median_ns, memory_order_relaxed);
    learned_ns = pst_pace_learn_median(learned_ns, pst_pace_median_ns(pace));
    atomic_store_explicit(&port->learned_median_ns, learned_ns, memory_order_relaxed);
    if (pace->is_number_learned)
        atomic_store_explicit(&port->learned_in_flight, pace->best, memory_order_relaxed);
    if (pace->is_length_learned)
        atomic_store_explicit(&port->learned_part_bytes, pace->part_bytes, memory_order_relaxed);
}

void pst_get_end(struct pst_get *get)
{
    struct pst_core *core = get->spec.port->core;
    uint64_t release_bytes = 0;
    pthread_mutex_lock(&get->mutex);
    get->locked.is_ended = 1; /* a stop comes too late now */
    pst_rc rc = get->locked.rc;
    get->outcome.n_read = rc == PST_OK ? get->locked.total : 0;
    if (get->locked.memory == PST_MEMORY_RESERVED) {
        get->locked.memory = PST_MEMORY_NONE;
        release_bytes = get->locked.reserved_bytes;
    }
    int was_watched = pst_get_unwatch_locked(get);
    remember_pace(get);
    pthread_mutex_unlock(&get->mutex);
    get->outcome.elapsed_ns = pst_now_ns() - get->begun_ns;
    if (rc == PST_OK)
        rc = check_exact(get);
    if (rc == PST_OK)
        rc = pst_get_check_sums(get, &get->error);
    if (rc == PST_OK && get->spec.n_dst == 0 && !get->outcome.buffer &&
        !(get->outcome.buffer = pst_buffer_new(core->arenas, 0, 1)))
        rc = pst_fail(&get->error, PST_E_NO_MEMORY, "out of memory");
    if (get->outcome.buffer && rc == PST_OK) {
        pst_buffer_set_size(get->outcome.buffer, (size_t)get->outcome.n_read);
        pst_buffer_hand_out(get->outcome.buffer);
    } else if (get->outcome.buffer) {
        pst_buffer_unref(get->outcome.buffer);
        get->outcome.buffer = NULL;
    }
    if (release_bytes > 0)
        pst_budget_release(&core->budget, release_bytes);
    if (rc == PST_OK)
        atomic_fetch_add_explicit(&core->bytes_read, get->outcome.n_read, memory_order_relaxed);
    else
        pst_fail_at(get->spec.port, "GET", get->spec.key, rc, &get->error, &get->error);
    get->spec.done(get, rc);
    if (was_watched)
        pst_get_unref(get);
    pst_get_unref(get);
}

void pst_get_fail_locked(struct pst_get *get, pst_rc rc, const pst_error *cause)
{
    if (get->locked.rc != PST_OK)
        return;
    get->locked.rc = rc;
    if (cause != &get->error)
        pst_error_copy(&get->error, cause);
}

void pst_get_fail_for_memory(struct pst_get *get)
{
    pst_error why = PST_ERROR_INIT;
    pst_fail(&why, PST_E_NO_MEMORY, "out of memory");
    pthread_mutex_lock(&get->mutex);
    pst_get_fail_locked(get, PST_E_NO_MEMORY, &why);
    pthread_mutex_unlock(&get->mutex);
}

/* ---- stopping --------------------------------------------------------------------------------- */

#define STOP_BATCH 32u

static uint32_t pick(struct pst_span *span, struct pst_task **victims, uint32_t n)
{
    for (uint32_t k = 0; k < 2; k++) {
        struct pst_try *try = span->tries[k];
        if (try && n < STOP_BATCH && !atomic_load(&try->task->is_cancelled))
            victims[n++] = pst_task_ref(try->task);
    }
    return n;
}

void pst_get_stop_running(struct pst_get *get, pst_rc code)
{
    struct pst_task *victims[STOP_BATCH];
    uint32_t n;
    do { /* each round marks what it cancels */
        pthread_mutex_lock(&get->mutex);
        n = pick(&get->first, victims, 0);
        if (get->locked.look && !atomic_load(&get->locked.look->is_cancelled))
            victims[n++] = pst_task_ref(get->locked.look);
        for (uint32_t i = 0; i < get->n_spans; i++)
            n = pick(&get->spans[i], victims, n);
        pthread_mutex_unlock(&get->mutex);
        for (uint32_t i = 0; i < n; i++) {
            pst_retry_cancel(victims[i], code);
            pst_task_unref(victims[i]);
        }
    } while (n == STOP_BATCH);
}

void pst_get_stop(struct pst_get *get, pst_rc code)
{
    pthread_mutex_lock(&get->mutex);
    int is_first = !get->locked.is_stopped;
    get->locked.is_stopped = 1;
    if (is_first && get->locked.rc == PST_OK && !get->locked.is_ended) {
        get->locked.rc = code; /* also where nothing runs yet, or for the moment */
        pst_fail(&get->error, code, "%s", pst_rc_text(code));
    }
    pthread_mutex_unlock(&get->mutex);
    if (is_first)
        pst_get_stop_running(get, code);
}
