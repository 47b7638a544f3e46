/* store.c - opens stores, finds those that are open already, reopens them after fork.
 *
 * A store remembers how it was opened (scheme, authority, the options given), so that a fork child can
 * open it again with the first call; nothing of the parent's port is touched there. */
#include "core/store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/fault.h"

#define END_WAIT_NS 1000000000u

struct pst_store {
    atomic_uint refs;
    pst_context *context;
    _Atomic(struct pst_port *) port;
    struct pst_core *cached_in; /* the core whose list it is in; compared, never followed */
    pst_store *next;            /* in that list */
    char *scheme, *authority, *identity;
    const char *resolved; /* the end of `identity`: the options, whatever their source */
    size_t authority_len;
    pst_kv *options; /* as given */
    size_t n_options;
};

static char *dup_str(pst_str s)
{
    char *copy = malloc(s.len + 1);
    if (!copy)
        return NULL;
    if (s.len > 0)
        memcpy(copy, s.ptr, s.len);
    copy[s.len] = '\0';
    return copy;
}

static void wipe_str(pst_str s)
{
    union {
        const char *borrowed;
        char *owned;
    } text = {.borrowed = s.ptr};
    if (!text.owned)
        return;
    explicit_bzero(text.owned, s.len);
    free(text.owned);
}

static void destroy_store(pst_store *store)
{
    for (size_t i = 0; i < store->n_options; i++) {
        wipe_str(store->options[i].key);
        wipe_str(store->options[i].value); /* may be a secret */
    }
    free(store->options);
    free(store->scheme);
    free(store->authority);
    free(store->identity);
    pst_context_unref(store->context);
    free(store);
}

static int copy_options(pst_store *store, const pst_kv *options, size_t n)
{
    store->options = calloc(n ? n : 1, sizeof(*store->options));
    if (!store->options)
        return 0;
    for (size_t i = 0; i < n; i++) {
        char *key = dup_str(options[i].key);
        char *value = dup_str(options[i].value);
        store->options[i].key = pst_str_of(key, options[i].key.len);
        store->options[i].value = pst_str_of(value, options[i].value.len);
        store->n_options = i + 1;
        if (!key || !value)
            return 0;
    }
    return 1;
}

static int make_identity(pst_store *store, const char *resolved)
{
    /* The authority goes last but one and is preceded by its length: no two stores read alike. */
    size_t size = strlen(store->scheme) + store->authority_len + strlen(resolved) + 32;
    char *text = malloc(size);
    if (!text)
        return 0;
    int n = snprintf(text, size, "%s:%zu:%s:%s", store->scheme, store->authority_len,
                     store->authority, resolved);
    store->identity = text;
    store->resolved = text + (size_t)n - strlen(resolved);
    return 1;
}

static pst_store *new_store(pst_context *context, const pst_uri *uri, const pst_kv *options,
                            size_t n_options)
{
    pst_store *store = calloc(1, sizeof(*store));
    if (!store)
        return NULL;
    atomic_init(&store->refs, 1);
    store->context = pst_context_ref(context);
    store->scheme = dup_str(uri->scheme);
    store->authority = dup_str(uri->authority);
    store->authority_len = uri->authority.len;
    if (!store->scheme || !store->authority || !copy_options(store, options, n_options)) {
        destroy_store(store);
        return NULL;
    }
    for (char *c = store->scheme; *c; c++)
        *c = (char)(*c >= 'A' && *c <= 'Z' ? *c + ('a' - 'A') : *c);
    return store;
}

/* ---- the cache -------------------------------------------------------------------------------- */

static int try_ref(pst_store *store)
{
    unsigned refs = atomic_load_explicit(&store->refs, memory_order_relaxed);
    while (refs > 0) {
        if (atomic_compare_exchange_weak(&store->refs, &refs, refs + 1))
            return 1;
    }
    return 0;
}

static pst_store *find_cached_locked(struct pst_core *core, const char *identity)
{
    for (pst_store *store = core->locked.stores; store; store = store->next) {
        if (strcmp(store->identity, identity) == 0 && try_ref(store))
            return store;
    }
    return NULL;
}

static pst_store *find_cached(struct pst_core *core, const char *identity)
{
    pthread_mutex_lock(&core->mutex);
    pst_store *found = find_cached_locked(core, identity);
    pthread_mutex_unlock(&core->mutex);
    return found;
}

/* Put `store` into the cache, unless another thread was faster: then its store is returned. */
static pst_store *enter_cache(struct pst_core *core, pst_store *store)
{
    pthread_mutex_lock(&core->mutex);
    pst_store *other = find_cached_locked(core, store->identity);
    if (!other) {
        store->cached_in = core;
        store->next = core->locked.stores;
        core->locked.stores = store;
    }
    pthread_mutex_unlock(&core->mutex);
    return other;
}

static void leave_cache(struct pst_core *core, pst_store *store)
{
    pthread_mutex_lock(&core->mutex);
    for (pst_store **at = &core->locked.stores; *at; at = &(*at)->next) {
        if (*at == store) {
            *at = store->next;
            break;
        }
    }
    pthread_mutex_unlock(&core->mutex);
}

/* ---- opening ---------------------------------------------------------------------------------- */

static pst_rc open_port(pst_store *store, struct pst_core *core, const struct pst_loaded *loaded,
                        const struct pst_resolved *resolved, pst_error *err)
{
    struct pst_port *port = NULL;
    pst_rc rc = pst_port_open(core, loaded, pst_str_of(store->scheme, strlen(store->scheme)),
                              pst_str_of(store->authority, store->authority_len), resolved, &port,
                              err);
    if (rc == PST_OK)
        atomic_store(&store->port, port);
    return rc;
}

pst_rc pst_store_open(pst_context *context, pst_str uri, const pst_kv *options, size_t n_options,
                      pst_store **out, pst_error *err)
{
    pst_uri parts;
    struct pst_core *core;
    const struct pst_loaded *loaded;
    struct pst_resolved resolved = {0};
    pst_store *store = NULL, *other = NULL;
    *out = NULL;
    pst_rc rc = pst_uri_parse(uri, &parts, err);
    if (rc == PST_OK)
        rc = pst_core_of(context, &core, err);
    if (rc == PST_OK)
        rc = pst_registry_find(core->registry, parts.scheme, &loaded, err);
    if (rc == PST_OK)
        rc = pst_registry_resolve(core->registry, loaded, options, n_options, &resolved, err);
    if (rc != PST_OK)
        return rc;

    store = new_store(context, &parts, options, n_options);
    if (!store || !make_identity(store, resolved.identity)) {
        rc = pst_fail(err, PST_E_NO_MEMORY, "out of memory");
        goto out;
    }
    other = find_cached(core, store->identity);
    if (!other) {
        rc = open_port(store, core, loaded, &resolved, err);
        if (rc != PST_OK)
            goto out;
        other = enter_cache(core, store);
    }
    if (other) {
        *out = other;
    } else {
        *out = store;
        store = NULL;
    }
out:
    if (store) {
        if (atomic_load(&store->port))
            pst_port_unref(atomic_load(&store->port));
        destroy_store(store);
    }
    pst_resolved_fini(&resolved);
    return rc;
}

/* After fork: open again what the parent had open. */
static pst_rc reopen(pst_store *store, struct pst_core *core, struct pst_port *old, pst_error *err)
{
    const struct pst_loaded *loaded;
    struct pst_resolved resolved = {0};
    struct pst_port *fresh = NULL;
    pst_rc rc = pst_registry_find(core->registry, pst_str_of(store->scheme, strlen(store->scheme)),
                                  &loaded, err);
    if (rc == PST_OK)
        rc = pst_registry_resolve(core->registry, loaded, store->options, store->n_options,
                                  &resolved, err);
    if (rc != PST_OK)
        return rc;
    rc = pst_port_open(core, loaded, pst_str_of(store->scheme, strlen(store->scheme)),
                       pst_str_of(store->authority, store->authority_len), &resolved, &fresh, err);
    pst_resolved_fini(&resolved);
    if (rc != PST_OK)
        return rc;
    if (!atomic_compare_exchange_strong(&store->port, &old, fresh))
        pst_port_unref(fresh); /* another thread of the child was faster */
    return PST_OK;
}

pst_rc pst_store_port(pst_store *store, struct pst_port **out, pst_error *err)
{
    struct pst_core *core;
    pst_rc rc = pst_core_of(store->context, &core, err);
    if (rc != PST_OK)
        return rc;
    struct pst_port *port = atomic_load(&store->port);
    if (port->core->generation != core->generation) {
        rc = reopen(store, core, port, err);
        if (rc != PST_OK)
            return rc;
        port = atomic_load(&store->port);
    }
    *out = pst_port_ref(port);
    return PST_OK;
}

pst_context *pst_store_context(pst_store *store)
{
    return store->context;
}

int pst_store_is_alike(const pst_store *a, const pst_store *b)
{
    return a->context == b->context && strcmp(a->scheme, b->scheme) == 0 &&
           strcmp(a->resolved, b->resolved) == 0;
}

pst_str pst_store_authority(const pst_store *store)
{
    return pst_str_of(store->authority, store->authority_len);
}

pst_store *pst_store_ref(pst_store *store)
{
    atomic_fetch_add_explicit(&store->refs, 1, memory_order_relaxed);
    return store;
}

void pst_store_free(pst_store *store)
{
    if (!store || atomic_fetch_sub_explicit(&store->refs, 1, memory_order_acq_rel) != 1)
        return;
    struct pst_port *port = atomic_load(&store->port);
    struct pst_core *core = port->core;
    if (core->generation == pst_fork_generation()) {
        if (store->cached_in == core)
            leave_cache(core, store);
        pst_port_cancel_all(port, 0);
        if (PST_FAULT(CLOSE_EARLY))
            port->loaded->ops.close(port->backend);
        pst_port_wait_idle(port, pst_now_ns() + END_WAIT_NS);
        pst_port_unref(port);
    }
    destroy_store(store);
}

/* The plugin is asked anew: it may have met a file system or a limit since it was opened. */
static const char *current_note(struct pst_port *port)
{
    pst_limits limits = {.struct_size = sizeof(limits)};
    pst_backend_info info = {.struct_size = sizeof(info), .limits = &limits};
    if (port->core->generation != pst_fork_generation())
        return port->info.note; /* the parent's backend is not ours to call */
    port->loaded->ops.info(port->backend, &info);
    return info.note ? info.note : "";
}

void pst_store_describe(pst_store *store, pst_store_info *out)
{
    struct pst_port *port = atomic_load(&store->port);
    uint32_t size = out->struct_size;
    const pst_store_info info = {
        .struct_size = size,
        .part_flags = port->limits.flags,
        .caps = port->info.caps,
        .object_max = port->limits.object_max,
        .part_min = port->limits.part_min,
        .part_max = port->limits.part_max,
        .part_multiple = port->limits.part_multiple,
        .io_preferred = port->limits.io_preferred,
        .parts_max = port->limits.parts_max,
        .inflight_max = port->limits.inflight_max,
        .key_max = port->limits.key_max,
        .mem_align = port->limits.mem_align,
        .io_align = port->limits.io_align,
        .want_sums = port->info.want_sums,
        .plugin = port->loaded->id,
        .scheme = store->scheme,
        .authority = store->authority,
        .endpoint = port->info.endpoint,
        .note = current_note(port),
    };
    memcpy(out, &info, size < sizeof(info) ? size : sizeof(info));
}
