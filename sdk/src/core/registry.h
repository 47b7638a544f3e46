/* registry.h - finds plugins by manifest, loads them on first use, resolves their options.
 *
 * One registry per context. It knows nothing of operations: it hands out verified tables. */
#ifndef PST_CORE_REGISTRY_H
#define PST_CORE_REGISTRY_H

#include <penstock/plugin.h>
#include <penstock/plugins.h>

#include "core/log.h"

struct pst_registry;

/* A plugin that was loaded, checked against its manifest, and copied: min(struct_size) of every
 * table, the rest zero, so that the host may read every member it was compiled with. Lives as long
 * as the registry; the mapped library lives as long as the process. */
struct pst_loaded {
    const char *id;
    pst_plugin plugin; /* .ops, .limits, .options point to the copies below */
    pst_backend_ops ops;
    pst_limits limits;
    const pst_option *options; /* n_options elements of this host's own size */
    size_t n_options;
    uint64_t caps; /* masked by what this host knows; upper bound for stores */
};

struct pst_registry_config {
    uint32_t flags; /* PST_CONTEXT_* */
    const char *const *plugin_dirs;
    const char *config_file;
    const pst_host *host; /* handed to the entry function of each plugin */
    struct pst_log *log;
};

/* Search for manifests and read the config file. Loads nothing. */
pst_rc pst_registry_new(const struct pst_registry_config *config, struct pst_registry **out,
                        pst_error *err);

/* Call shutdown(host) of each loaded plugin and forget all. Never unmaps a library. */
void pst_registry_free(struct pst_registry *registry);

/* Get the plugin that serves `scheme` (compared without case), loading it on first use. Any thread;
 * concurrent callers load once. A plugin that failed to load stays failed with the same reason.
 * Errors: NO_SCHEME, naming schemes known and manifests skipped; BAD_PLUGIN. */
pst_rc pst_registry_find(struct pst_registry *registry, pst_str scheme,
                         const struct pst_loaded **out, pst_error *err);

/* In a fork child: make locks usable and call fork_child(host) of every loaded plugin once. */
void pst_registry_fork_child(struct pst_registry *registry);

/* Options resolved for one store: explicit > environment > file > default. */
struct pst_resolved {
    pst_kv *kv;        /* in declaration order; only those that have a value */
    uint32_t *sources; /* PST_SOURCE_* of each */
    size_t n;
    char *identity; /* every name=value, for the store cache; secrets as a digest */
};

/* Validate and resolve. Errors: INVALID naming the option and its range, or for an unknown option the
 * closest one known ("did you mean"). Free with pst_resolved_fini, which wipes the memory. */
pst_rc pst_registry_resolve(struct pst_registry *registry, const struct pst_loaded *loaded,
                            const pst_kv *given, size_t n_given, struct pst_resolved *out,
                            pst_error *err);
void pst_resolved_fini(struct pst_resolved *resolved);

/* The public functions of plugins.h, on a registry. */
pst_rc pst_registry_list(struct pst_registry *registry, pst_plugin_info **out, size_t *n,
                         pst_error *err);
pst_rc pst_registry_load(struct pst_registry *registry, const char *id, pst_error *err);
pst_rc pst_registry_config_list(struct pst_registry *registry, const char *id,
                                pst_config_entry **out, size_t *n, pst_error *err);

#endif
