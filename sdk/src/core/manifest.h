/* manifest.h - what a plugin says of itself: read from JSON, taken from its table, compared. */
#ifndef PST_CORE_MANIFEST_H
#define PST_CORE_MANIFEST_H

#include <penstock/plugin.h>

#include "util/region.h"

/* The format of the file that this host writes and reads. */
#define PST_MANIFEST_FORMAT 1
#define PST_MANIFEST_MAX_BYTES (1u << 20)

/* Strings are never NULL, except an option's fallback. */
struct pst_manifest {
    struct pst_region
        region; /* of a parsed one; empty for one that borrows from a plugin's table */
    const char *id, *version, *vendor, *license;
    const char *library; /* relative to the folder of the manifest */
    uint32_t abi_major, abi_minor;
    uint32_t threads; /* PST_THREADS_* */
    uint32_t reserved0;
    uint64_t caps;              /* those this host knows */
    const char *const *schemes; /* NULL at the end */
    pst_limits limits;
    const pst_option *options;
    size_t n_options;
    const char *notes; /* members that this host does not know, one line, "" if none */
};

/* Parse `len` bytes of JSON. `path` is for messages.
 * Errors: BAD_PLUGIN naming file and member; NO_MEMORY. *out is empty on error. */
pst_rc pst_manifest_parse(const char *path, const char *text, size_t len, struct pst_manifest *out,
                          pst_error *err);

/* The same for a file: a regular one of at most PST_MANIFEST_MAX_BYTES. */
pst_rc pst_manifest_read(const char *path, struct pst_manifest *out, pst_error *err);

void pst_manifest_fini(struct pst_manifest *manifest);

/* Is this a manifest that a host may act on: names, schemes, options, library inside its folder?
 * `what` and `path` begin the message ("manifest /p/x.json: "). */
pst_rc pst_manifest_check(const struct pst_manifest *manifest, const char *what, const char *path,
                          pst_error *err);

/* The part of it that comes before all others: does this host take this ABI? */
pst_rc pst_manifest_check_abi(const struct pst_manifest *manifest, const char *what,
                              const char *path, pst_error *err);

/* BAD_PLUGIN with "manifest says X, library says Y" at the first member that differs. */
pst_rc pst_manifest_compare(const struct pst_manifest *manifest, const char *manifest_path,
                            const struct pst_manifest *library, const char *library_path,
                            pst_error *err);

/* Write as JSON: members sorted, 2 spaces, newline at the end. Ownership: free(*json). */
pst_rc pst_manifest_write(const struct pst_manifest *manifest, char **json, pst_error *err);

/* Names of the members of pst_limits, for reading, writing and comparing alike. */
struct pst_limit_field {
    const char *name;
    size_t offset;
    size_t size; /* 4 or 8 */
};
extern const struct pst_limit_field pst_limit_fields[]; /* ends with a NULL name */
uint64_t pst_limit_get(const pst_limits *limits, const struct pst_limit_field *field);

/* "string", "bool", ... of PST_OPT_*; NULL for a number that is none of them. */
const char *pst_option_type_name(uint32_t type);

#endif
