/* writer.h - write an object of any length as a stream. */
#ifndef PENSTOCK_WRITER_H
#define PENSTOCK_WRITER_H

#include <penstock/object.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Bytes become parts, parts travel in parallel, pst_writer_finalize publishes. Until then readers
 * see the old object. Threads: one at a time. */
typedef struct pst_writer pst_writer;

/* Start an object. Ownership: pst_writer_free. Blocks: may wait for budget and for the store.
 * Errors: EXISTS and PRECONDITION may already come here, or at finalize. */
PST_API PST_NODISCARD pst_rc pst_writer_open(pst_store *store, pst_str key,
                                             const pst_write_options *options, const pst_call *call,
                                             pst_writer **out, pst_error *err);

/* Append `len` bytes; they are copied. Blocks while the budget is used up by parts on their way. */
PST_API PST_NODISCARD pst_rc pst_writer_write(pst_writer *writer, const void *data, size_t len,
                                              pst_error *err);

/* Wait for all parts and publish the object: the only commit. `result` may be NULL. After a
 * retryable failure it may be called again. */
PST_API PST_NODISCARD pst_rc pst_writer_finalize(pst_writer *writer, pst_write_result *result,
                                                 pst_error *err);

/* Drop everything written so far and leave nothing in the store. */
PST_API PST_NODISCARD pst_rc pst_writer_cancel(pst_writer *writer, pst_error *err);

/* Release the writer; one that was not finalized is cancelled, never committed. NULL is allowed. */
PST_API void pst_writer_free(pst_writer *writer);

#ifdef __cplusplus
}
#endif
#endif
