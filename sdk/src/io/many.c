/* many.c - get_many: a window of reads over a list of items.
 *
 * The caller's thread starts the first `max_in_flight` reads. Without a limit it then works like one of
 * the pool's threads, else it sleeps. Each read that ends starts the next one where it ended, so a worker
 * goes from object to object without waking anybody. The last one wakes the caller. When the caller gives up early, reads under way are stopped and what they still
 * bring is dropped: the array of results is the caller's and is not touched after the return. */
#include <stdlib.h>
#include <string.h>

#include <penstock/many.h>

#include "core/error.h"
#include "core/stack.h"
#include "io/call.h"
#include "io/get.h"
#include "io/results.h"
#include "io/verb.h"

#define IN_FLIGHT 64u

struct many;

/* One of the reads in the window. */
struct lane {
    struct many *many;
    struct pst_get *get;
    struct pst_get
        *next;       /* for the start() below on some stack, which loops instead of recursing */
    int is_starting; /* set with the item, cleared when start() has found no other */
    size_t item;
};

struct many {
    atomic_size_t refs;   /* the call, each read under way */
    struct pst_gate gate; /* its mutex guards `locked` */
    struct pst_port *port;
    const pst_get_item *items;
    size_t n;
    uint32_t flags, n_lanes;
    struct pst_get_spec each; /* what all reads have in common */
    struct {
        pst_get_result *results; /* NULL once the caller has left */
        size_t next, n_ended;
        int is_stopped;
    } locked;
    struct lane lanes[];
};

static void drop(struct many *many)
{
    if (atomic_fetch_sub(&many->refs, 1) != 1)
        return;
    pst_gate_fini(&many->gate);
    pst_port_unref(many->port);
    free(many);
}

static void on_done(struct pst_get *get, pst_rc rc);

static pst_rc check_item(const struct pst_port *port, const pst_get_item *item, pst_error *err)
{
    pst_rc rc = pst_verb_check_key(port, item->key, err);
    return rc == PST_OK ? pst_verb_check_version(port, item->version, err) : rc;
}

/* An item that was refused before it was read, or for which there is no memory. */
static void fail_item(struct many *many, const pst_get_item *item, pst_get_result *result)
{
    pst_error error = PST_ERROR_INIT;
    result->status = check_item(many->port, item, &error);
    if (result->status == PST_OK)
        result->status = pst_fail(&error, PST_E_NO_MEMORY, "out of memory");
    pst_fail_at(many->port, "GET", item->key, result->status, &error, &error);
    result->error = pst_error_dup(&error);
}

/* Give the lane its next item. NULL when there is none. */
static struct pst_get *take_item_locked(struct lane *lane)
{
    struct many *many = lane->many;
    while (many->locked.results && !many->locked.is_stopped && many->locked.next < many->n) {
        lane->item = many->locked.next++;
        const pst_get_item *item = &many->items[lane->item];
        if (many->locked.next < many->n) /* a list of many keys is not in the cache */
            __builtin_prefetch(many->items[many->locked.next].key.ptr);
        struct pst_get_spec spec = many->each;
        spec.key = item->key;
        spec.version = item->version;
        spec.offset = item->offset;
        spec.length = item->length;
        spec.owner = lane;
        pst_get_result *result = &many->locked.results[lane->item];
        result->status = check_item(many->port, item, NULL);
        lane->get = result->status == PST_OK ? pst_get_new(&spec) : NULL;
        if (lane->get) {
            atomic_fetch_add(&many->refs, 1);
            return pst_get_ref(lane->get);
        }
        fail_item(many, item, result);
        many->locked.n_ended++;
        many->locked.is_stopped |= (many->flags & PST_MANY_STOP_AT_FIRST) != 0;
    }
    return NULL;
}

static void record_locked(struct many *many, size_t item, struct pst_get *get, pst_rc rc)
{
    if (!many->locked.results)
        return;
    pst_get_result *result = &many->locked.results[item];
    result->status = rc;
    result->object_size = pst_get_outcome_of(get)->object_size;
    result->is_verified = pst_get_outcome_of(get)->is_verified;
    if (rc == PST_OK) {
        result->buffer = pst_get_take(get);
    } else {
        result->error = pst_error_dup(pst_get_outcome_of(get)->error);
        many->locked.is_stopped |= (many->flags & PST_MANY_STOP_AT_FIRST) != 0;
    }
}

static int is_over_locked(const struct many *many)
{
    return many->locked.n_ended == many->n ||
           (many->locked.is_stopped && many->locked.n_ended == many->locked.next);
}

/* Start a read, and those that follow while this one is being started: reads that end at once (of no
 * bytes, say) would pile up on the stack otherwise. */
static void start(struct lane *lane, struct pst_get *get)
{
    struct many *many = lane->many;
    atomic_fetch_add(&many->refs, 1);
    while (get) {
        pst_get_start(get);
        pst_get_unref(get);
        pthread_mutex_lock(&many->gate.mutex);
        get = lane->next;
        lane->next = NULL;
        lane->is_starting = get != NULL;
        pthread_mutex_unlock(&many->gate.mutex);
    }
    drop(many);
}

static void on_done(struct pst_get *get, pst_rc rc)
{
    struct lane *lane = pst_get_owner(get);
    struct many *many = lane->many;
    pthread_mutex_lock(&many->gate.mutex);
    record_locked(many, lane->item, get, rc);
    many->locked.n_ended++;
    lane->get = NULL;
    struct pst_get *next = take_item_locked(lane);
    if (next && lane->is_starting) {
        lane->next = next;
        next = NULL;
    }
    lane->is_starting |= next != NULL;
    if (many->locked.is_stopped || is_over_locked(many))
        pthread_cond_signal(&many->gate.changed);
    pthread_mutex_unlock(&many->gate.mutex);
    pst_get_unref(get);
    if (next)
        start(lane, next);
    drop(many);
}

/* Stop the reads under way. Each ends by itself. */
static void stop_lanes(struct many *many, pst_rc code)
{
    for (uint32_t i = 0; i < many->n_lanes; i++) {
        pthread_mutex_lock(&many->gate.mutex);
        struct pst_get *get = many->lanes[i].get;
        if (get)
            pst_get_ref(get);
        pthread_mutex_unlock(&many->gate.mutex);
        if (get)
            pst_get_stop(get, code);
        pst_get_unref(get);
    }
}

static pst_rc wait_for_all(struct many *many, struct pst_limit limit, struct pst_helper *helper)
{
    pst_rc why = PST_OK;
    int has_stopped_lanes = 0;
    pthread_mutex_lock(&many->gate.mutex);
    while (why == PST_OK && !is_over_locked(many)) {
        if (many->locked.is_stopped && !has_stopped_lanes) { /* at the first failure */
            has_stopped_lanes = 1;
            pthread_mutex_unlock(&many->gate.mutex);
            stop_lanes(many, PST_E_CANCELLED);
            pthread_mutex_lock(&many->gate.mutex);
            continue;
        }
        if (helper->port) {
            pthread_mutex_unlock(&many->gate.mutex);
            if (!pst_helper_run(helper))
                pst_helper_end(helper);
            pthread_mutex_lock(&many->gate.mutex);
            continue;
        }
        why = pst_gate_sleep(&many->gate, &limit);
    }
    many->locked.is_stopped = 1;
    many->locked.results = NULL;
    pthread_mutex_unlock(&many->gate.mutex);
    pst_helper_end(helper);
    if (why != PST_OK)
        stop_lanes(many, why);
    return why;
}

static struct many *new_many(struct pst_port *port, const pst_get_item *items, size_t n,
                             const pst_many_options *options, const pst_call *call)
{
    uint32_t n_lanes = options->max_in_flight < n ? options->max_in_flight : (uint32_t)n;
    struct many *many = calloc(1, sizeof(*many) + (size_t)n_lanes * sizeof(struct lane));
    if (!many)
        return NULL;
    atomic_init(&many->refs, 1);
    pst_gate_init(&many->gate);
    many->port = pst_port_ref(port);
    many->items = items;
    many->n = n;
    many->flags = options->flags;
    many->n_lanes = n_lanes;
    many->each.port = port;
    many->each.done = on_done;
    many->each.crew = many;
    if (call && PST_HAS(pst_call, call, max_attempts))
        many->each.max_attempts = call->max_attempts;
    if (call && PST_HAS(pst_call, call, affinity))
        many->each.affinity = call->affinity;
    for (uint32_t i = 0; i < n_lanes; i++)
        many->lanes[i].many = many;
    return many;
}

static pst_rc take_options(const pst_many_options *given, pst_many_options *own, pst_error *err)
{
    pst_rc rc = pst_options_take(own, sizeof(*own), given, err);
    if (rc != PST_OK)
        return rc;
    if (!given)
        own->max_in_flight = IN_FLIGHT;
    if (own->flags & ~PST_MANY_STOP_AT_FIRST)
        return pst_fail(err, PST_E_INVALID, "unknown flags 0x%x", (unsigned)own->flags);
    if (own->max_in_flight == 0)
        return pst_fail(err, PST_E_INVALID, "max_in_flight must be above 0");
    return PST_OK;
}

/* How each of them is read. What belongs to one object only stands with the items. */
static pst_rc take_read_options(const pst_read_options *given, struct pst_get_spec *each,
                                pst_error *err)
{
    pst_rc rc = pst_read_fill_spec(given, each, err);
    if (rc == PST_OK && given && PST_HAS(pst_read_options, given, decode) && given->decode)
        rc = pst_fail(err, PST_E_INVALID, "many objects are read as they are stored");
    if (rc == PST_OK && each->version.len > 0)
        rc = pst_fail(err, PST_E_INVALID, "a version belongs to one item");
    if (rc != PST_OK)
        pst_error_prefix(err, "get_many: ");
    return rc;
}

pst_rc pst_get_many(pst_store *store, const pst_get_item *items, size_t n,
                    const pst_many_options *options, const pst_call *call, pst_get_result *results,
                    pst_error *err)
{
    pst_many_options own;
    struct pst_limit limit = pst_limit_of(call);
    struct pst_helper helper;
    struct pst_port *port;
    for (size_t i = 0; i < n; i++)
        results[i] = (pst_get_result){.status = PST_E_CANCELLED, .object_size = PST_UNKNOWN};
    pst_rc rc = take_options(options, &own, err);
    if (rc != PST_OK) {
        pst_error_prefix(err, "get_many: ");
        return rc;
    }
    if (n == 0)
        return PST_OK;
    rc = pst_store_port(store, &port, err);
    if (rc != PST_OK)
        return rc;
    struct many *many = new_many(port, items, n, &own, call);
    pst_port_unref(port);
    if (!many)
        return pst_fail(err, PST_E_NO_MEMORY, "out of memory");
    many->each.deadline_ns = limit.deadline_ns;
    rc = take_read_options(own.read, &many->each, err);
    if (rc != PST_OK) {
        drop(many);
        return rc;
    }
    many->locked.results = results;
    pst_helper_begin(&helper, many->port, many, &limit);
    pst_stack_enter(); /* one batch, one flush at its end */
    for (uint32_t i = 0; i < many->n_lanes; i++) {
        pthread_mutex_lock(&many->gate.mutex);
        struct pst_get *get = take_item_locked(&many->lanes[i]);
        many->lanes[i].is_starting = get != NULL;
        pthread_mutex_unlock(&many->gate.mutex);
        if (get)
            start(&many->lanes[i], get);
    }
    pst_stack_leave();
    rc = wait_for_all(many, limit, &helper);
    drop(many);
    if (rc != PST_OK)
        return pst_fail(err, rc, "get_many: %s", pst_rc_text(rc));
    return pst_results_first_failure(results, n, err);
}
