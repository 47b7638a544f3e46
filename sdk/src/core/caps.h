/* caps.h - the capabilities this host knows, their names, and the slots each of them needs. */
#ifndef PST_CORE_CAPS_H
#define PST_CORE_CAPS_H

#include <penstock/plugin.h>

struct pst_cap {
    uint64_t bit;
    const char *name; /* in a manifest */
};

extern const struct pst_cap pst_caps[]; /* ends with {0, NULL} */

/* All bits of the table. */
uint64_t pst_caps_known(void);

/* The bit of a name, 0 if this host does not know it. */
uint64_t pst_caps_parse(const char *name);

/* Name a slot that `caps` promises and `ops` lacks; NULL if all are there. *cap gets the name of
 * the capability. */
const char *pst_caps_missing_slot(uint64_t caps, const pst_backend_ops *ops, const char **cap);

#endif
