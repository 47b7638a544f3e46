/* read.c - the blocking reads: start a get, wait, hand over.
 *
 * Into memory of the caller, a read returns only when nothing writes there any more. Where the plugin
 * cannot promise to end soon after a cancel (no PST_CAP_CANCEL_BOUNDED), it never sees that memory: the
 * bytes arrive in buffers of ours and are copied here, by the caller's own thread. */
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/fault.h"
#include "io/call.h"
#include "io/get.h"
#include "io/verb.h"

#define BOUNCE_BYTES ((uint64_t)8 << 20)

struct waiter {
    struct pst_gate gate;
    atomic_int refs; /* the call, the read's end */
    struct {
        int is_done, is_abandoned;
        pst_rc rc;
    } locked;
};

static void drop_waiter(struct waiter *waiter)
{
    if (atomic_fetch_sub(&waiter->refs, 1) != 1)
        return;
    pst_gate_fini(&waiter->gate);
    free(waiter);
}

static void on_done(struct pst_get *get, pst_rc rc)
{
    struct waiter *waiter = pst_get_owner(get);
    pthread_mutex_lock(&waiter->gate.mutex);
    waiter->locked.rc = rc;
    waiter->locked.is_done = 1;
    int is_abandoned = waiter->locked.is_abandoned;
    pthread_cond_signal(&waiter->gate.changed);
    pthread_mutex_unlock(&waiter->gate.mutex);
    if (is_abandoned)
        pst_get_forget(get);
    drop_waiter(waiter);
}

static pst_rc wait_for(struct pst_get *get, struct waiter *waiter, struct pst_limit limit,
                       int is_pinned, int *is_done)
{
    pst_rc why = PST_OK;
    pthread_mutex_lock(&waiter->gate.mutex);
    while (!waiter->locked.is_done) {
        why = pst_gate_sleep(&waiter->gate, &limit);
        if (why == PST_OK)
            continue;
        pthread_mutex_unlock(&waiter->gate.mutex);
        pst_get_stop(get, why);
        pthread_mutex_lock(&waiter->gate.mutex);
        limit = (struct pst_limit){0, NULL};
        if ((!is_pinned || PST_FAULT(RETURN_EARLY)) && !waiter->locked.is_done) {
            waiter->locked.is_abandoned = 1;
            pst_get_abandon(get);
            break;
        }
    }
    *is_done = waiter->locked.is_done;
    pst_rc rc = *is_done ? waiter->locked.rc : why;
    pthread_mutex_unlock(&waiter->gate.mutex);
    return rc;
}

/* Run one read and wait for it. *out is a get whose outcome may be looked at on success. */
static pst_rc run(struct pst_get_spec *spec, const pst_call *call, const struct pst_limit *limit,
                  struct pst_get **out, pst_error *err)
{
    int is_done = 0;
    struct pst_get *get = NULL;
    struct waiter *waiter = calloc(1, sizeof(*waiter));
    if (waiter) {
        pst_gate_init(&waiter->gate);
        atomic_init(&waiter->refs, 2);
        spec->owner = waiter;
        spec->done = on_done;
        spec->deadline_ns = limit->deadline_ns;
        if (call && PST_HAS(pst_call, call, max_attempts))
            spec->max_attempts = call->max_attempts;
        if (call && PST_HAS(pst_call, call, affinity))
            spec->affinity = call->affinity;
        get = pst_get_new(spec);
    }
    if (!get) {
        if (waiter)
            pst_gate_fini(&waiter->gate);
        free(waiter);
        return pst_fail(err, PST_E_NO_MEMORY, "out of memory");
    }
    pst_get_start(get);
    pst_rc rc = wait_for(get, waiter, *limit, spec->n_dst > 0, &is_done);
    drop_waiter(waiter);
    if (rc != PST_OK && is_done)
        pst_error_copy(err, pst_get_outcome_of(get)->error);
    else if (rc != PST_OK)
        pst_fail_at(spec->port, "GET", spec->key, rc, NULL, err);
    if (rc != PST_OK) {
        pst_get_unref(get);
        return rc;
    }
    *out = get;
    return PST_OK;
}

static void take_options(const pst_read_options *options, struct pst_get_spec *spec)
{
    if (!options)
        return;
    spec->flags = options->flags;
    if (PST_HAS(pst_read_options, options, if_match))
        spec->if_match = options->if_match;
    if (PST_HAS(pst_read_options, options, version))
        spec->version = options->version;
}

/* Refuse a key that cannot be, before any I/O. */
static pst_rc check_key(struct pst_port *port, pst_str key, pst_error *err)
{
    pst_rc rc = pst_verb_check_key(port, key, err);
    return rc == PST_OK ? rc : pst_fail_at(port, "GET", key, rc, err, err);
}

static pst_rc read_buffer(pst_store *store, struct pst_get_spec *spec,
                          const pst_read_options *options, const pst_call *call, pst_buffer **out,
                          pst_read_info *info, pst_error *err)
{
    struct pst_get *get = NULL;
    struct pst_limit limit = pst_limit_of(call);
    *out = NULL;
    pst_rc rc = pst_store_port(store, &spec->port, err);
    if (rc != PST_OK)
        return rc;
    take_options(options, spec);
    rc = check_key(spec->port, spec->key, err);
    if (rc == PST_OK)
        rc = run(spec, call, &limit, &get, err);
    if (rc == PST_OK) {
        pst_get_fill_info(get, info);
        *out = pst_get_take(get);
        pst_get_unref(get);
    }
    pst_port_unref(spec->port);
    return rc;
}

pst_rc pst_get(pst_store *store, pst_str key, const pst_read_options *options, const pst_call *call,
               pst_buffer **out, pst_read_info *info, pst_error *err)
{
    return pst_get_range(store, key, 0, PST_UNKNOWN, options, call, out, info, err);
}

pst_rc pst_get_range(pst_store *store, pst_str key, uint64_t offset, uint64_t length,
                     const pst_read_options *options, const pst_call *call, pst_buffer **out,
                     pst_read_info *info, pst_error *err)
{
    struct pst_get_spec spec = {.key = key, .offset = offset, .length = length};
    return read_buffer(store, &spec, options, call, out, info, err);
}

/* Without suffix reads, or for one too long for a single request: ask for the size, then pin it. */
static pst_rc suffix_by_stat(pst_store *store, pst_str key, uint64_t length,
                             const pst_read_options *options, const pst_call *call,
                             pst_buffer **out, pst_read_info *info, pst_error *err)
{
    pst_attr *attr = NULL;
    struct pst_get_spec own = {.key = key};
    take_options(options, &own);
    pst_rc rc = pst_stat(store, key, call, &attr, err);
    if (rc != PST_OK)
        return rc;
    pst_read_options pinned = {.struct_size = sizeof(pinned),
                               .flags = own.flags,
                               .if_match = own.if_match,
                               .version = own.version};
    if (pinned.if_match.len == 0 && attr->etag_strength == PST_ETAG_STRONG)
        pinned.if_match = attr->etag;
    uint64_t take = length < attr->size ? length : attr->size;
    rc = pst_get_range(store, key, attr->size - take, take, &pinned, call, out, info, err);
    if (rc == PST_E_PRECONDITION && own.if_match.len == 0)
        rc = pst_fail(err, PST_E_CHANGED, "GET: the object was replaced while it was read");
    pst_attr_free(attr);
    return rc;
}

pst_rc pst_get_suffix(pst_store *store, pst_str key, uint64_t length,
                      const pst_read_options *options, const pst_call *call, pst_buffer **out,
                      pst_read_info *info, pst_error *err)
{
    struct pst_port *port;
    struct pst_get_spec spec = {.key = key, .length = length, .is_suffix = 1};
    *out = NULL;
    pst_rc rc = pst_store_port(store, &port, err);
    if (rc != PST_OK)
        return rc;
    int is_single = (pst_port_has(port, PST_CAP_READ_SUFFIX) || PST_FAULT(SUFFIX_ANYWAY)) &&
                    length <= port->core->config.first_read_bytes;
    pst_port_unref(port);
    return is_single ? read_buffer(store, &spec, options, call, out, info, err)
                     : suffix_by_stat(store, key, length, options, call, out, info, err);
}

/* ---- into memory of the caller ----------------------------------------------------------------- */

struct into {
    char *dst;
    size_t capacity, n_read;
    pst_read_info *info;
};

static pst_rc read_direct(struct pst_get_spec *spec, const pst_call *call,
                          const struct pst_limit *limit, struct into *into, pst_error *err)
{
    struct pst_get *get = NULL;
    const pst_iov iov = {into->dst, into->capacity};
    spec->length = into->capacity;
    spec->dst = &iov;
    spec->n_dst = 1;
    pst_rc rc = run(spec, call, limit, &get, err);
    if (rc != PST_OK)
        return rc;
    into->n_read = (size_t)pst_get_outcome_of(get)->n_read;
    pst_get_fill_info(get, into->info);
    pst_get_unref(get);
    return PST_OK;
}

/* Piece by piece through buffers of ours, pinned to the etag of the first piece. */
static pst_rc read_bounced(struct pst_get_spec *spec, const pst_call *call,
                           const struct pst_limit *limit, struct into *into, pst_error *err)
{
    char etag[1104];
    uint64_t first = spec->offset, piece = spec->port->core->budget.limit_bytes / 4;
    pst_rc rc = PST_OK;
    if (piece > BOUNCE_BYTES)
        piece = BOUNCE_BYTES;
    for (;;) {
        struct pst_get *get = NULL;
        uint64_t left = into->capacity - into->n_read;
        spec->offset = first + into->n_read;
        spec->length = left < piece ? left : piece;
        rc = run(spec, call, limit, &get, err);
        if (rc != PST_OK)
            return rc;
        const struct pst_get_outcome *outcome = pst_get_outcome_of(get);
        size_t n = (size_t)outcome->n_read;
        if (n > 0)
            memcpy(into->dst + into->n_read, pst_buffer_data(outcome->buffer), n);
        if (into->n_read == 0)
            pst_get_fill_info(get, into->info);
        if (outcome->etag_strength == PST_ETAG_STRONG && spec->if_match.len == 0) {
            memcpy(etag, outcome->etag.ptr, outcome->etag.len);
            spec->if_match = pst_str_of(etag, outcome->etag.len);
        }
        into->n_read += n;
        pst_get_unref(get);
        if (n < spec->length || into->n_read == into->capacity)
            return PST_OK;
    }
}

pst_rc pst_get_into(pst_store *store, pst_str key, uint64_t offset, void *dst, size_t capacity,
                    const pst_read_options *options, const pst_call *call, size_t *n_read,
                    pst_read_info *info, pst_error *err)
{
    struct pst_get_spec spec = {.key = key, .offset = offset};
    struct into into = {.dst = dst, .capacity = capacity, .info = info};
    struct pst_limit limit = pst_limit_of(call);
    *n_read = 0;
    pst_rc rc = pst_store_port(store, &spec.port, err);
    if (rc != PST_OK)
        return rc;
    take_options(options, &spec);
    int is_exact = (spec.flags & PST_READ_EXACT) != 0;
    rc = check_key(spec.port, key, err);
    if (rc == PST_OK && capacity > 0 && pst_port_has(spec.port, PST_CAP_CANCEL_BOUNDED)) {
        rc = read_direct(&spec, call, &limit, &into, err);
    } else if (rc == PST_OK && capacity > 0) {
        spec.flags &= ~PST_READ_EXACT; /* of the whole, not of each piece */
        rc = read_bounced(&spec, call, &limit, &into, err);
        if (rc == PST_OK && is_exact && into.n_read < capacity)
            rc = pst_fail(err, PST_E_RANGE, "GET %s/...: the object ends after %zu of %zu bytes",
                          spec.port->uri, into.n_read, capacity);
    }
    *n_read = rc == PST_OK ? into.n_read : 0;
    pst_port_unref(spec.port);
    return rc;
}
