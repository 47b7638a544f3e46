/* discover.h - search for manifests. */
#ifndef PST_CORE_DISCOVER_H
#define PST_CORE_DISCOVER_H

#include <penstock/plugins.h>

#include "core/manifest.h"

/* One manifest that was looked at, or one folder that could not be. */
struct pst_discovered {
    char *manifest_path;          /* absolute; of a folder that was skipped: the folder */
    char *library_path;           /* absolute, NULL if not known */
    char *reason;                 /* why it cannot be used, with a path in it; NULL if it can */
    struct pst_manifest manifest; /* .id is NULL if it could not be read */
};

struct pst_discovery {
    struct pst_discovered *items; /* in the order of the search */
    size_t n, room;
};

/* Look through the folders and read their manifests. Opens no library.
 * Errors: NO_MEMORY. All else is recorded in the items. */
pst_rc pst_discover(uint32_t flags, const char *const *plugin_dirs, struct pst_discovery *out,
                    pst_error *err);

void pst_discovery_fini(struct pst_discovery *discovery);

/* The file that the code at `address` came in, by its real path; is it the program itself?
 * Ownership: free(*out); NULL if it is not known. Errors: NO_MEMORY. */
pst_rc pst_discover_own_file(const void *address, int *is_program, char **out);

/* Where `name` lies that came with the code at `address`: "<folder>/name" beside a shared library,
 * "<folder>/../lib/name" for the program itself. Ownership and errors as above. */
pst_rc pst_discover_beside(const void *address, const char *name, char **out);

#endif
