/* ranges.c - many ranges of one object, all of one version.
 *
 * How: the plan (ranges_plan.c) says which ranges share a request. The caller's thread keeps up to
 * max_in_flight requests under way, each a read of the range engine into a buffer of its own; results
 * are views of that buffer, or the buffer itself where a request serves one range.
 *
 * One version: the first reply that arrives sets etag and size. Requests launched later carry the etag,
 * and every reply must show both, or its ranges, and all that were not asked for yet, are CHANGED. What
 * was read before stays good: it is of the version that was there first. An object without a strong etag
 * cannot be pinned; unless the application allows it, or one request serves all ranges anyway, it is
 * read by a single request that spans them, as pst_get would read it.
 *
 * Memory: each request stands in line for the budget by itself (get_dst.c); what has arrived is handed
 * out and does not count any more, as in get_many.
 *
 * Failing: items fail one by one. When the caller gives up early, requests under way are stopped and what
 * they still bring is dropped: they share their state with the call by reference, and the array of results
 * is touched by the caller's thread alone. */
#include "io/ranges.h"

#include <stdlib.h>
#include <string.h>

#include "codec/name.h"
#include "core/error.h"
#include "core/stack.h"
#include "io/call.h"
#include "io/get.h"
#include "io/results.h"
#include "io/verb.h"

#define IN_FLIGHT 16u
#define GAP_BYTES ((uint64_t)64 << 10)
#define MAX_BYTES ((uint64_t)8 << 20)

struct fleet;

/* One request. */
struct ship {
    struct fleet *fleet;
    struct pst_get *get;
    struct ship *next; /* of those that have ended */
    pst_rc rc;
};

/* What requests under way share with the call. */
struct fleet {
    atomic_size_t refs; /* the call, each request under way */
    struct pst_gate gate;
    struct {
        struct ship *ended;
    } locked;
    struct ship ships[];
};

/* One call. */
struct batch {
    struct pst_port *port;
    pst_str key;
    const pst_range *ranges;
    size_t n;
    pst_get_result *results;
    pst_ranges_options options;
    pst_read_options read;
    struct pst_get_spec spec; /* what all requests have in common */
    const pst_call *call;
    struct pst_limit limit;
    size_t *order;
    struct pst_ranges_group *groups;
    size_t n_groups, n_launched, n_ended, n_requests;
    int is_changed, is_unpinned;
    int is_pin_known;
    uint64_t object_size;
    uint32_t etag_strength;
    pst_str etag; /* in `etag_text` */
    char etag_text[1104];
};

static void drop_fleet(struct fleet *fleet)
{
    if (atomic_fetch_sub(&fleet->refs, 1) != 1)
        return;
    pst_gate_fini(&fleet->gate);
    free(fleet);
}

static struct fleet *new_fleet(size_t n)
{
    struct fleet *fleet = n <= (SIZE_MAX - sizeof(*fleet)) / sizeof(struct ship)
                              ? calloc(1, sizeof(*fleet) + n * sizeof(struct ship))
                              : NULL;
    if (!fleet)
        return NULL;
    atomic_init(&fleet->refs, 1);
    pst_gate_init(&fleet->gate);
    for (size_t i = 0; i < n; i++)
        fleet->ships[i].fleet = fleet;
    return fleet;
}

static void on_done(struct pst_get *get, pst_rc rc)
{
    struct ship *ship = pst_get_owner(get);
    struct fleet *fleet = ship->fleet;
    pthread_mutex_lock(&fleet->gate.mutex);
    ship->rc = rc;
    ship->next = fleet->locked.ended;
    fleet->locked.ended = ship;
    pthread_cond_signal(&fleet->gate.changed);
    pthread_mutex_unlock(&fleet->gate.mutex);
    drop_fleet(fleet);
}

/* ---- results ----------------------------------------------------------------------------------- */

static void fail_range(struct batch *batch, size_t i, pst_rc rc, const pst_error *cause)
{
    pst_get_result *result = &batch->results[i];
    pst_buffer_unref(result->buffer);
    result->buffer = NULL;
    result->status = rc;
    result->error = pst_error_dup(cause);
}

/* `cause` is a whole line. */
static void fail_group(struct batch *batch, const struct pst_ranges_group *group, pst_rc rc,
                       const pst_error *cause)
{
    for (size_t i = 0; i < group->n; i++)
        fail_range(batch, batch->order[group->first + i], rc, cause);
}

static pst_rc line_of(const struct batch *batch, pst_rc rc, const char *text, pst_error *line)
{
    pst_error cause = PST_ERROR_INIT;
    line->struct_size = sizeof(*line);
    pst_fail(&cause, rc, "%s", text);
    return pst_fail_at(batch->port, "GET", batch->key, rc, &cause, line);
}

static void fail_changed(struct batch *batch, const struct pst_ranges_group *group)
{
    pst_error line = PST_ERROR_INIT;
    line_of(batch, PST_E_CHANGED, "the object changed while it was read", &line);
    fail_group(batch, group, PST_E_CHANGED, &line);
    batch->is_changed = 1;
}

/* Give one range its part of a request that brought `n_read` bytes from `offset` on. */
static void give(struct batch *batch, size_t i, pst_buffer *buffer, uint64_t offset,
                 uint64_t n_read)
{
    const pst_range *range = &batch->ranges[i];
    pst_get_result *result = &batch->results[i];
    uint64_t from = range->offset - offset;
    uint64_t there = from < n_read ? n_read - from : 0;
    uint64_t take = there < range->length ? there : range->length;
    pst_error cause = PST_ERROR_INIT;
    result->object_size = batch->object_size;
    result->status = PST_OK;
    if ((batch->read.flags & PST_READ_EXACT) && range->length != PST_UNKNOWN &&
        take < range->length)
        result->status = pst_fail(
            &cause, PST_E_RANGE,
            "range of %llu bytes at %llu goes beyond the end: the object has %llu bytes",
            (unsigned long long)range->length, (unsigned long long)range->offset,
            (unsigned long long)(batch->object_size != PST_UNKNOWN ? batch->object_size
                                                                   : offset + n_read));
    else if (from == 0 && take == n_read)
        result->buffer = pst_buffer_ref(buffer);
    else if (take == 0)
        result->status = pst_buffer_slice(buffer, 0, 0, &result->buffer, &cause);
    else
        result->status = pst_buffer_slice(buffer, (size_t)from, (size_t)take, &result->buffer,
                                          &cause);
    if (result->status != PST_OK) {
        pst_fail_at(batch->port, "GET", batch->key, result->status, &cause, &cause);
        fail_range(batch, i, result->status, &cause);
    }
}

/* ---- one version ------------------------------------------------------------------------------- */

static void set_pin(struct batch *batch, const struct pst_get_outcome *outcome)
{
    size_t len = outcome->etag.len < sizeof(batch->etag_text) ? outcome->etag.len : 0;
    if (len > 0)
        memcpy(batch->etag_text, outcome->etag.ptr, len);
    batch->etag = pst_str_of(batch->etag_text, len);
    batch->etag_strength = outcome->etag_strength;
    batch->object_size = outcome->object_size;
    batch->is_pin_known = 1;
}

static int is_same_version(const struct batch *batch, const struct pst_get_outcome *outcome)
{
    return outcome->object_size == batch->object_size && outcome->etag.len == batch->etag.len &&
           (batch->etag.len == 0 ||
            memcmp(outcome->etag.ptr, batch->etag.ptr, batch->etag.len) == 0);
}

static void finish(struct batch *batch, struct ship *ship, const struct pst_ranges_group *group)
{
    const struct pst_get_outcome *outcome = pst_get_outcome_of(ship->get);
    batch->n_requests += outcome->n_ranges > 0 ? outcome->n_ranges : 1;
    if (ship->rc == PST_OK && !batch->is_pin_known)
        set_pin(batch, outcome);
    if (ship->rc == PST_OK && batch->n_groups > 1 && batch->etag_strength != PST_ETAG_STRONG &&
        !(batch->read.flags & PST_READ_ALLOW_UNPINNED)) {
        batch->is_unpinned = 1;
        return;
    }
    if ((ship->rc == PST_OK && !is_same_version(batch, outcome)) ||
        (ship->rc == PST_E_PRECONDITION && batch->is_pin_known)) {
        fail_changed(batch, group);
    } else if (ship->rc != PST_OK) {
        fail_group(batch, group, ship->rc, outcome->error);
    } else {
        for (size_t i = 0; i < group->n; i++)
            give(batch, batch->order[group->first + i], outcome->buffer, group->offset,
                 outcome->n_read);
    }
}

/* ---- the requests ------------------------------------------------------------------------------ */

static void launch(struct batch *batch, struct fleet *fleet)
{
    const struct pst_ranges_group *group = &batch->groups[batch->n_launched];
    struct ship *ship = &fleet->ships[batch->n_launched++];
    struct pst_get_spec spec = batch->spec;
    spec.offset = group->offset;
    spec.length = group->length;
    spec.flags &= PST_READ_ALLOW_UNPINNED;
    spec.deadline_ns = batch->limit.deadline_ns;
    spec.done = on_done;
    spec.owner = ship;
    if (batch->call && PST_HAS(pst_call, batch->call, max_attempts))
        spec.max_attempts = batch->call->max_attempts;
    if (batch->call && PST_HAS(pst_call, batch->call, affinity))
        spec.affinity = batch->call->affinity;
    if (batch->is_pin_known && batch->etag_strength == PST_ETAG_STRONG)
        spec.if_match = batch->etag;
    ship->get = pst_get_new(&spec);
    if (!ship->get) {
        pst_error line = PST_ERROR_INIT;
        line_of(batch, PST_E_NO_MEMORY, "out of memory", &line);
        fail_group(batch, group, PST_E_NO_MEMORY, &line);
        batch->n_ended++;
        return;
    }
    atomic_fetch_add(&fleet->refs, 1);
    pst_get_start(ship->get);
}

static struct ship *wait_ended(struct fleet *fleet, const struct pst_limit *limit, pst_rc *why)
{
    pthread_mutex_lock(&fleet->gate.mutex);
    while (!fleet->locked.ended && *why == PST_OK)
        *why = pst_gate_sleep(&fleet->gate, limit);
    struct ship *ended = fleet->locked.ended;
    fleet->locked.ended = NULL;
    pthread_mutex_unlock(&fleet->gate.mutex);
    return ended;
}

static void stop_all(const struct batch *batch, struct fleet *fleet, pst_rc code)
{
    for (size_t i = 0; i < batch->n_launched; i++) {
        if (fleet->ships[i].get)
            pst_get_stop(fleet->ships[i].get, code);
    }
}

/* Run the plan. Returns why it was left early; results that are still CANCELLED were not reached. */
static pst_rc run(struct batch *batch)
{
    struct fleet *fleet = new_fleet(batch->n_groups);
    pst_rc why = PST_OK;
    if (!fleet)
        return PST_E_NO_MEMORY;
    while (why == PST_OK && !batch->is_unpinned) {
        pst_stack_enter(); /* one batch, one flush at its end */
        while (!batch->is_changed && batch->n_launched < batch->n_groups &&
               batch->n_launched - batch->n_ended < batch->options.max_in_flight)
            launch(batch, fleet);
        pst_stack_leave();
        if (batch->n_ended == batch->n_launched &&
            (batch->is_changed || batch->n_launched == batch->n_groups))
            break;
        for (struct ship *ship = wait_ended(fleet, &batch->limit, &why); ship; ship = ship->next) {
            if (!batch->is_unpinned)
                finish(batch, ship, &batch->groups[ship - fleet->ships]);
            batch->n_ended++;
        }
    }
    if (why != PST_OK || batch->is_unpinned)
        stop_all(batch, fleet, why != PST_OK ? why : PST_E_CANCELLED);
    for (size_t i = 0; i < batch->n_launched; i++)
        pst_get_unref(fleet->ships[i].get);
    drop_fleet(fleet);
    for (size_t i = batch->n_launched; why == PST_OK && batch->is_changed && i < batch->n_groups;
         i++)
        fail_changed(batch, &batch->groups[i]);
    return why;
}

/* Nothing can be pinned: everything by one request. */
static pst_rc run_as_one(struct batch *batch)
{
    struct pst_ranges_group all = {.offset = batch->groups[0].offset};
    for (size_t i = 0; i < batch->n_groups; i++) {
        const struct pst_ranges_group *group = &batch->groups[i];
        all.n += group->n;
        if (group->length == PST_UNKNOWN)
            all.length = PST_UNKNOWN;
        else if (group->offset + group->length - all.offset > all.length)
            all.length = group->offset + group->length - all.offset;
    }
    batch->groups[0] = all;
    batch->n_groups = 1;
    batch->n_launched = batch->n_ended = 0;
    batch->is_unpinned = batch->is_pin_known = batch->is_changed = 0;
    pst_get_results_free(batch->results, batch->n);
    for (size_t i = 0; i < batch->n; i++)
        batch->results[i] = (pst_get_result){.status = PST_E_CANCELLED, .object_size = PST_UNKNOWN};
    return run(batch);
}

/* ---- the call ---------------------------------------------------------------------------------- */

static pst_rc take_options(struct batch *batch, const pst_ranges_options *given, pst_error *err)
{
    const uint32_t known = PST_READ_EXACT | PST_READ_ALLOW_UNPINNED;
    pst_ranges_options *own = &batch->options;
    int is_decoded = 0;
    pst_rc rc = pst_options_take(own, sizeof(*own), given, err);
    if (rc == PST_OK)
        rc = pst_options_take(&batch->read, sizeof(batch->read), own->read, err);
    if (rc == PST_OK && (batch->read.flags & ~known))
        rc = pst_fail(err, PST_E_INVALID, "flags 0x%x mean nothing to ranges",
                      (unsigned)(batch->read.flags & ~known));
    if (rc == PST_OK)
        rc = pst_decode_wanted(batch->read.decode, batch->key, &is_decoded, err);
    if (rc == PST_OK && is_decoded)
        rc = pst_fail(err, PST_E_UNIMPLEMENTED,
                      "ranges of a compressed object cannot be decoded: offsets would be those of "
                      "the stored bytes");
    if (own->max_in_flight == 0)
        own->max_in_flight = IN_FLIGHT;
    if (own->merge_gap_bytes == 0)
        own->merge_gap_bytes = GAP_BYTES;
    if (own->merge_max_bytes == 0)
        own->merge_max_bytes = MAX_BYTES;
    return rc;
}

/* What asks for nothing is there at once. */
static void give_empty(struct batch *batch)
{
    for (size_t i = 0; i < batch->n; i++) {
        pst_get_result *result = &batch->results[i];
        if (batch->ranges[i].length > 0)
            continue;
        result->object_size = batch->object_size;
        result->buffer = pst_buffer_new(batch->port->core->arenas, 0, 1);
        result->status = result->buffer ? PST_OK : PST_E_NO_MEMORY;
    }
}

static pst_rc run_batch(struct batch *batch, pst_error *err)
{
    batch->order = reallocarray(NULL, batch->n, sizeof(*batch->order));
    batch->groups = reallocarray(NULL, batch->n, sizeof(*batch->groups));
    if (!batch->order || !batch->groups)
        return pst_fail_at(batch->port, "GET", batch->key, PST_E_NO_MEMORY, NULL, err);
    batch->n_groups = pst_ranges_plan(batch->ranges, batch->n, batch->options.merge_gap_bytes,
                                      batch->options.merge_max_bytes, batch->order, batch->groups);
    pst_rc rc = batch->n_groups > 0 ? run(batch) : PST_OK;
    if (rc == PST_OK && batch->is_unpinned)
        rc = run_as_one(batch);
    give_empty(batch);
    if (rc != PST_OK)
        return pst_fail_at(batch->port, "GET", batch->key, rc, NULL, err);
    return pst_results_first_failure(batch->results, batch->n, err);
}

pst_rc pst_get_ranges(pst_store *store, pst_str key, const pst_range *ranges, size_t n,
                      const pst_ranges_options *options, const pst_call *call,
                      pst_get_result *results, size_t *n_requests, pst_error *err)
{
    struct batch batch = {.key = key,
                          .ranges = ranges,
                          .n = n,
                          .results = results,
                          .call = call,
                          .limit = pst_limit_of(call),
                          .object_size = PST_UNKNOWN};
    for (size_t i = 0; i < n; i++)
        results[i] = (pst_get_result){.status = PST_E_CANCELLED, .object_size = PST_UNKNOWN};
    if (n_requests)
        *n_requests = 0;
    pst_rc rc = pst_store_port(store, &batch.port, err);
    if (rc != PST_OK)
        return rc;
    batch.spec = (struct pst_get_spec){.port = batch.port, .key = key};
    rc = take_options(&batch, options, err);
    if (rc != PST_OK)
        pst_fail_at(batch.port, "GET", key, rc, err, err);
    else /* checks them, and the key */
        rc = pst_read_take_options(batch.options.read, &batch.spec, err);
    if (rc == PST_OK && n > 0)
        rc = run_batch(&batch, err);
    if (n_requests)
        *n_requests = batch.n_requests;
    free(batch.order);
    free(batch.groups);
    pst_port_unref(batch.port);
    return rc;
}
