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
#include "io/page.h"
#include "io/verb.h"

#define BOUNCE_BYTES ((uint64_t)8 << 20)

static void on_done(struct pst_get *get, pst_rc rc)
{
    pst_waiter_end(pst_get_owner(get), rc);
}

static void stop_get(void *get, pst_rc code)
{
    pst_get_stop(get, code);
}

/* Run one read and wait for it. *out is a get whose outcome may be looked at on success. */
static pst_rc run(struct pst_get_spec *spec, const pst_call *call, const struct pst_limit *limit,
                  struct pst_get **out, pst_error *err)
{
    int is_done = 0;
    struct pst_get *get = NULL;
    struct pst_waiter *waiter = pst_waiter_new(spec->port->core);
    if (waiter) {
        spec->owner = waiter;
        spec->crew = waiter;
        spec->done = on_done;
        spec->deadline_ns = limit->deadline_ns;
        if (call && PST_HAS(pst_call, call, max_attempts))
            spec->max_attempts = call->max_attempts;
        if (call && PST_HAS(pst_call, call, affinity))
            spec->affinity = call->affinity;
        get = pst_get_new(spec);
    }
    if (!get) {
        pst_waiter_free(waiter);
        return pst_fail_at(spec->port, "GET", spec->key, PST_E_NO_MEMORY, NULL, err);
    }
    if (spec->hedge_after_ms == 0) /* else it must be free to take the second answer */
        pst_waiter_help(waiter, spec->port, limit);
    pst_get_start(get);
    pst_rc rc = pst_waiter_wait(waiter, *limit, spec->n_dst > 0, stop_get, get, &is_done);
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

static pst_rc take_options(const pst_read_options *given, struct pst_get_spec *spec, pst_error *err)
{
    pst_read_options options;
    pst_rc rc = pst_options_take(&options, sizeof(options), given, err);
    if (rc == PST_OK)
        rc = pst_read_check_flags(options.flags, err);
    spec->flags = options.flags;
    spec->if_match = options.if_match;
    spec->version = options.version;
    return rc == PST_OK ? rc : pst_fail_at(spec->port, "GET", spec->key, rc, err, err);
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
    rc = take_options(options, spec, err);
    if (rc == PST_OK)
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
    pst_read_options pinned;
    pst_rc rc = pst_options_take(&pinned, sizeof(pinned), options, err);
    if (rc == PST_OK)
        rc = pst_stat(store, key, call, &attr, err);
    if (rc != PST_OK)
        return rc;
    int is_own_pin = pinned.if_match.len == 0;
    pinned.struct_size = sizeof(pinned);
    if (pinned.if_match.len == 0 && attr->etag_strength == PST_ETAG_STRONG)
        pinned.if_match = attr->etag;
    uint64_t take = length < attr->size ? length : attr->size;
    rc = pst_get_range(store, key, attr->size - take, take, &pinned, call, out, info, err);
    if (rc == PST_E_PRECONDITION && is_own_pin)
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

/* What the pieces have in common, or they are of two objects. */
struct pin {
    char etag[1104];
    size_t len;
    uint64_t object_size;
    uint32_t strength;
};

static pst_rc check_pin(struct pin *pin, int is_first, const struct pst_get_outcome *outcome,
                        const struct pst_get_spec *spec, pst_error *err)
{
    pst_error cause = PST_ERROR_INIT;
    if (is_first) {
        memcpy(pin->etag, outcome->etag.ptr ? outcome->etag.ptr : "", outcome->etag.len);
        pin->len = outcome->etag.len;
        pin->object_size = outcome->object_size;
        pin->strength = outcome->etag_strength;
        return PST_OK;
    }
    if (outcome->object_size == pin->object_size &&
        pst_key_compare(outcome->etag, pst_str_of(pin->etag, pin->len)) == 0)
        return PST_OK;
    pst_fail(&cause, PST_E_CHANGED, "the object changed while it was read");
    return pst_fail_at(spec->port, "GET", spec->key, PST_E_CHANGED, &cause, err);
}

/* Piece by piece through buffers of ours, pinned to the etag of the first piece. What cannot be pinned
 * comes in one piece, as the range engine would read it. */
static pst_rc read_bounced(struct pst_get_spec *spec, const pst_call *call,
                           const struct pst_limit *limit, struct into *into, pst_error *err)
{
    struct pin pin;
    uint64_t first = spec->offset, piece = spec->port->core->budget.limit_bytes / 4;
    int is_own_pin = spec->if_match.len == 0;
    if (piece > BOUNCE_BYTES)
        piece = BOUNCE_BYTES;
    for (;;) {
        struct pst_get *get = NULL;
        uint64_t left = into->capacity - into->n_read;
        spec->offset = first + into->n_read;
        spec->length = left < piece ? left : piece;
        pst_rc rc = run(spec, call, limit, &get, err);
        if (rc == PST_E_PRECONDITION && is_own_pin && into->n_read > 0 && err)
            err->code = PST_E_CHANGED;
        if (rc != PST_OK)
            return rc == PST_E_PRECONDITION && is_own_pin ? (pst_rc)PST_E_CHANGED : rc;
        const struct pst_get_outcome *outcome = pst_get_outcome_of(get);
        size_t n = (size_t)outcome->n_read;
        rc = check_pin(&pin, into->n_read == 0, outcome, spec, err);
        int is_over = n < spec->length || into->n_read + n == into->capacity ||
                      (pin.object_size != PST_UNKNOWN && spec->offset + n >= pin.object_size);
        int is_unpinned = pin.strength != PST_ETAG_STRONG && !is_over && piece < into->capacity &&
                          !(spec->flags & PST_READ_ALLOW_UNPINNED);
        if (rc == PST_OK && !is_unpinned) {
            if (n > 0)
                memcpy(into->dst + into->n_read, pst_buffer_data(outcome->buffer), n);
            if (into->n_read == 0)
                pst_get_fill_info(get, into->info);
            into->n_read += n;
        }
        if (is_unpinned)
            piece = into->capacity; /* from the start again */
        else if (pin.strength == PST_ETAG_STRONG && is_own_pin)
            spec->if_match = pst_str_of(pin.etag, pin.len);
        pst_get_unref(get);
        if (rc != PST_OK || is_over)
            return rc;
    }
}

static pst_rc fail_short(const struct pst_get_spec *spec, size_t n_read, size_t capacity,
                         pst_error *err)
{
    pst_error cause = PST_ERROR_INIT;
    pst_fail(&cause, PST_E_RANGE, "the object ends after %zu of %zu bytes", n_read, capacity);
    return pst_fail_at(spec->port, "GET", spec->key, PST_E_RANGE, &cause, err);
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
    rc = take_options(options, &spec, err);
    int is_exact = (spec.flags & PST_READ_EXACT) != 0;
    if (rc == PST_OK)
        rc = check_key(spec.port, key, err);
    if (rc == PST_OK && capacity > 0 && pst_port_has(spec.port, PST_CAP_CANCEL_BOUNDED)) {
        rc = read_direct(&spec, call, &limit, &into, err);
    } else if (rc == PST_OK && capacity > 0) {
        spec.flags &= ~PST_READ_EXACT; /* of the whole, not of each piece */
        rc = read_bounced(&spec, call, &limit, &into, err);
        if (rc == PST_OK && is_exact && into.n_read < capacity)
            rc = fail_short(&spec, into.n_read, capacity, err);
    }
    *n_read = rc == PST_OK ? into.n_read : 0;
    pst_port_unref(spec.port);
    return rc;
}
