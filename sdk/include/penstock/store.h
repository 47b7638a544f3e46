/* store.h - an open store: one scheme, one authority, one set of options. */
#ifndef PENSTOCK_STORE_H
#define PENSTOCK_STORE_H

#include <penstock/call.h>
#include <penstock/context.h>
#include <penstock/uri.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct pst_store pst_store;

/* Open the store that `uri` lies in (its key does not matter), loading its plugin on first use.
 * `options` are the plugin's own, by name; values are text. Opening twice what is the same in
 * scheme, authority and options gives the same store.
 * Ownership: pst_store_free. Threads: a store may be used from any number of threads.
 * Errors: INVALID (URI, option value, unknown option with a suggestion), NO_SCHEME (names the
 * schemes known and the manifests skipped), BAD_PLUGIN, and what the plugin says. */
PST_API PST_NODISCARD pst_rc pst_store_open(pst_context *context, pst_str uri,
                                            const pst_kv *options, size_t n_options,
                                            pst_store **out, pst_error *err);

/* Open with settings for a purpose, which `options` may still change. direct_io: a local path without
 * the page cache, so file:///p opens direct:///p. high_performance: the same for local paths, with a
 * deeper queue and registered buffers. URIs of other schemes open as pst_store_open would. Otherwise
 * as pst_store_open. */
PST_API PST_NODISCARD pst_rc pst_store_open_direct_io(pst_context *context, pst_str uri,
                                                      const pst_kv *options, size_t n_options,
                                                      pst_store **out, pst_error *err);
PST_API PST_NODISCARD pst_rc pst_store_open_high_performance(pst_context *context, pst_str uri,
                                                             const pst_kv *options,
                                                             size_t n_options, pst_store **out,
                                                             pst_error *err);

PST_API pst_store *pst_store_ref(pst_store *store);

/* Drop one reference. The last one cancels what is in flight and waits at most a second for it. */
PST_API void pst_store_free(pst_store *store);

typedef struct pst_store_info {
    uint32_t struct_size, part_flags; /* PST_LIMIT_* of plugin.h */
    uint64_t caps;                    /* PST_CAP_* of plugin.h, of this open store */
    uint64_t object_max, part_min, part_max, part_multiple, io_preferred;
    uint32_t parts_max, inflight_max, key_max, mem_align, io_align, want_sums;
    const char *plugin, *scheme, *authority; /* these live as long as the store */
    const char *endpoint, *note; /* note: what the plugin had to do without, up to now */
} pst_store_info;
PST_API void pst_store_describe(pst_store *store, pst_store_info *out);

#ifdef __cplusplus
}
#endif
#endif
