/* slots.h - the inside of a registry, shared by registry.c (finds and loads) and registry_list.c
 * (tells). */
#ifndef PST_CORE_SLOTS_H
#define PST_CORE_SLOTS_H

#include <pthread.h>

#include "core/discover.h"
#include "core/options.h"
#include "core/registry.h"
#include "core/settings.h"

struct pst_slot {
    struct pst_manifest about;          /* of a static plugin: taken from its table */
    const struct pst_discovered *found; /* NULL for a static one */
    char *static_name;
    char *reason;   /* why it is shadowed or skipped since the search; NULL: usable */
    uint32_t state; /* since the search: FOUND, STATIC, SHADOWED or SKIPPED */
    pthread_mutex_t mutex;
    struct {
        struct pst_loaded *loaded;
        int has_failed;
        pst_error failure;
    } locked;
};

struct pst_registry {
    uint32_t flags;
    const pst_host *host;
    struct pst_log *log;
    uint64_t digest_key[4];
    struct pst_settings settings;
    struct pst_discovery discovery;
    struct pst_slot *slots;
    size_t n_slots;
};

pst_rc pst_slots_no_memory(pst_error *err);

/* Can this plugin be found by scheme or id? It may still fail to load. */
int pst_slot_is_usable(const struct pst_slot *slot);

/* The usable plugin of an id; NULL if there is none. */
const struct pst_slot *pst_slot_find(const struct pst_registry *registry, const char *id);

struct pst_option_scope pst_slot_scope(const struct pst_registry *registry, const char *id,
                                       const pst_option *options, size_t n_options);

#endif
