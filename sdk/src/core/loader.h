/* loader.h - map a plugin, call its entry, verify and copy what it returns. */
#ifndef PST_CORE_LOADER_H
#define PST_CORE_LOADER_H

#include <penstock/plugin.h>

#include "core/manifest.h"
#include "core/registry.h"

/* Load the library at an absolute path. Its entry runs with `host`; after that the library stays
 * mapped, whatever the outcome.
 * Ownership: pst_loader_free. Errors: BAD_PLUGIN, one line naming path and cause; NO_MEMORY. */
pst_rc pst_loader_open(const char *path, const pst_host *host, struct pst_loaded **out,
                       pst_error *err);

/* The same for an entry that is linked in. `name` is for messages. */
pst_rc pst_loader_open_static(const char *name, pst_plugin_open_1_fn entry, const pst_host *host,
                              struct pst_loaded **out, pst_error *err);

/* Give back the copies. Does not call shutdown, and unmaps nothing. */
void pst_loader_free(struct pst_loaded *loaded);

/* What the loaded plugin says of itself. Borrows from `loaded`; `library` is put into it as it is. */
void pst_loader_describe(const struct pst_loaded *loaded, const char *library,
                         struct pst_manifest *out);

#endif
