/* plugins.h - what was found, what was skipped and why, and how options got their values. */
#ifndef PENSTOCK_PLUGINS_H
#define PENSTOCK_PLUGINS_H

#include <penstock/context.h>
#include <penstock/plugin.h>

#ifdef __cplusplus
extern "C" {
#endif

#define PST_PLUGIN_FOUND 0u /* manifest read, library not loaded yet */
#define PST_PLUGIN_LOADED 1u
#define PST_PLUGIN_SHADOWED 2u /* another of the same id came first */
#define PST_PLUGIN_SKIPPED 3u  /* cannot be used: see `reason` */
#define PST_PLUGIN_STATIC 4u   /* linked in */
typedef struct pst_plugin_info {
    uint32_t struct_size, state;                 /* PST_PLUGIN_* */
    uint64_t caps;                               /* PST_CAP_* of plugin.h, upper bound */
    const char *id, *version, *vendor, *license; /* "" where unknown */
    const char *schemes;                         /* separated by spaces */
    const char *manifest_path;                   /* "" for a plugin that is linked in */
    const char *library_path;
    const char *reason; /* why it was shadowed or skipped, else "" */
} pst_plugin_info;

/* List every manifest that was looked at, in the order of the search.
 * Ownership: one block, pst_plugins_free. Step from one to the next by (*out)->struct_size, which grows
 * with later versions. */
PST_API PST_NODISCARD pst_rc pst_plugins_list(pst_context *context, pst_plugin_info **out,
                                              size_t *n, pst_error *err);
PST_API void pst_plugins_free(pst_plugin_info *infos);

/* Name one PST_CAP_* bit as manifests do: "read_suffix". NULL for a bit that this library does not know.
 * Ownership: static storage. Threads: any. */
PST_API const char *pst_cap_name(uint64_t bit);

/* Load one plugin now instead of on first use. Errors: NOT_FOUND, BAD_PLUGIN with the reason. */
PST_API PST_NODISCARD pst_rc pst_plugins_load(pst_context *context, const char *id, pst_error *err);

/* Write the manifest of the library at `path` as JSON text (its entry function runs).
 * Ownership: free(*json). Errors: BAD_PLUGIN with the reason. */
PST_API PST_NODISCARD pst_rc pst_plugins_manifest(const char *path, char **json, pst_error *err);

typedef struct pst_config_entry {
    uint32_t struct_size, source; /* PST_SOURCE_* */
    const char *plugin, *option;
    const char *value;  /* "(secret)" for one; "" if unset */
    const char *detail; /* name of the variable or file it came from */
    const char *doc, *type;
    const char *env; /* variables that set it, separated by spaces; "" for none */
} pst_config_entry;

/* Resolve every declared option of every usable plugin, or of one (`id`), and tell its source.
 * Ownership: one block, pst_config_free. Step by (*out)->struct_size, as above. */
PST_API PST_NODISCARD pst_rc pst_config_list(pst_context *context, const char *id,
                                             pst_config_entry **out, size_t *n, pst_error *err);
PST_API void pst_config_free(pst_config_entry *entries);

/* The services that need libpenstock-net, for hosts that call plugins themselves, with a pst_host table
 * of their own. A context has its own, and needs none of this. */
typedef struct pst_services pst_services;

/* Make them for the plugins of `host`, which they call `log` of. Nothing is loaded yet.
 * Ownership: pst_services_free, before `host` goes. A fork child makes new ones.
 * Errors: NO_MEMORY. */
PST_API PST_NODISCARD pst_rc pst_services_new(const pst_host *host, pst_services **out,
                                              pst_error *err);

/* Find the table of "http/1" or "crypto/1" (services.h), which lives as long as `services`: what
 * host->service answers. NULL for another name, or when the library cannot be had: the log says why,
 * once. Threads: any. Blocks: the first time, while the library is mapped. */
PST_API const void *pst_services_find(pst_services *services, const char *name);

/* End them, with all clients freed. Waits at most a second for a callback that is still running.
 * NULL is allowed. */
PST_API void pst_services_free(pst_services *services);

#ifdef __cplusplus
}
#endif
#endif
