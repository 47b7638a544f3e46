/* store.h - the handle behind pst_store. */
#ifndef PST_CORE_STORE_H
#define PST_CORE_STORE_H

#include <penstock/store.h>

#include "core/port.h"

/* Get the open port of a store in this process (reopening it after fork), with a reference.
 * Errors: CANCELLED when the context is gone, and those of opening. */
pst_rc pst_store_port(pst_store *store, struct pst_port **out, pst_error *err);

pst_context *pst_store_context(pst_store *store);

/* Do the two differ in their authority alone? Their plugin is one then, and their options are equal. */
int pst_store_is_alike(const pst_store *a, const pst_store *b);

/* As it was given; lives as long as the store. */
pst_str pst_store_authority(const pst_store *store);

#endif
