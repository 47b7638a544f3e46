/* outcome.h - what a write reports, and the check that the store holds what was written. */
#ifndef PST_IO_OUTCOME_H
#define PST_IO_OUTCOME_H

#include <penstock/object.h>

#include "core/port.h"

/* Copy what the store answered. An etag or version longer than an answer may hold counts as none. */
void pst_outcome_take(const pst_put_result *reply, pst_write_result *out);

/* Fill in what follows from size and crc32c: bytes written, ratio, checksum as text. */
void pst_outcome_describe(pst_write_result *out, uint64_t n_written);

/* Hand a full result to the application's, as far as that reaches. NULL is allowed. */
void pst_outcome_give(const pst_write_result *from, pst_write_result *to);

/* Compare the size that the store reported, or, where it reported none and can stat, the one that it
 * reports now, with what was written; out->size becomes it.
 * Errors: DATA_LOSS naming both sizes. That the look itself failed is logged and no error: the store
 * has confirmed the write. */
pst_rc pst_outcome_check(struct pst_port *port, pst_str key, uint64_t size, const pst_call *call,
                         pst_write_result *out, pst_error *err);

#endif
