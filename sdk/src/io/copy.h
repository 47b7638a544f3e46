/* copy.h - the arguments of a copy, for the call and for the queue. */
#ifndef PST_IO_COPY_H
#define PST_IO_COPY_H

#include <penstock/object.h>

#include "core/store.h"

/* Fill the arguments of `task`, which copies from `from` in `from_store` into `store`, the one that its
 * port belongs to; or renames, with from_store == store.
 * Errors: INVALID; UNIMPLEMENTED for what the store cannot do, promise or keep. */
pst_rc pst_copy_fill(struct pst_task *task, pst_store *from_store, pst_str from, pst_store *store,
                     pst_str to, const pst_copy_options *options, pst_error *err);

#endif
