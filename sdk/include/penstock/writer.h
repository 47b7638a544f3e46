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

/* Start an object. `call` holds for each later call on the writer: its cancel token, which must outlive
 * the writer, ends any of them, its timeout starts anew with each.
 * Ownership: pst_writer_free. Blocks: no; writing may wait for budget and for the store.
 * Errors: as pst_put; EXISTS and PRECONDITION come with the first write that needs the store or at
 * finalize. OVER_BUDGET, from here or from write, where a part, or the whole object of a store that takes
 * no parts, exceeds the memory budget. INVALID, from here if size_hint is given, else from the write that
 * would go too far, for more bytes than the store holds in as many parts as it takes. */
PST_API PST_NODISCARD pst_rc pst_writer_open(pst_store *store, pst_str key,
                                             const pst_write_options *options, const pst_call *call,
                                             pst_writer **out, pst_error *err);

/* Append `len` bytes; they are copied. Blocks while the budget is used up by parts on their way.
 * Errors: also those of parts sent before. Every later call answers the same, until cancel or free. */
PST_API PST_NODISCARD pst_rc pst_writer_write(pst_writer *writer, const void *data, size_t len,
                                              pst_error *err);

/* Lend memory of the next part: *out gets at least 1 byte and at most `want`, *len says how many.
 * Fill it from its start, then say with pst_writer_commit how much of it counts: no copy is made
 * unless the writer compresses. Blocks like write. Any other call but free and cancel gives the
 * memory back unused. Errors: as write; INVALID for want 0, and where the object is as long as it can
 * be: it may be finalized all the same. */
PST_API PST_NODISCARD pst_rc pst_writer_reserve(pst_writer *writer, size_t want, void **out,
                                                size_t *len, pst_error *err);

/* Append the first `len` bytes of what reserve lent; 0 gives it back. Errors: as write; INVALID for
 * more than was lent, or nothing was. */
PST_API PST_NODISCARD pst_rc pst_writer_commit(pst_writer *writer, size_t len, pst_error *err);

/* Append the bytes of `buffer` without a copy: a reference is taken until they have travelled. Bytes
 * that cannot become a part as they are (too few, or not aligned as the store wants) are copied.
 * They count against the budget while they travel. Errors: as write. */
PST_API PST_NODISCARD pst_rc pst_writer_write_owned(pst_writer *writer, pst_buffer *buffer,
                                                    pst_error *err);

/* Wait for all parts and publish the object: the only commit. `result` may be NULL. Where the commit
 * itself failed with PST_ERR_RETRYABLE it may be called again; after success it gives the same result.
 * Errors: DATA_LOSS when the store holds another size than was written; with PST_ERR_MAYBE_APPLIED the
 * object may have been published all the same. */
PST_API PST_NODISCARD pst_rc pst_writer_finalize(pst_writer *writer, pst_write_result *result,
                                                 pst_error *err);

/* Drop everything written so far and leave nothing in the store. May be repeated.
 * Errors: those of aborting; DEADLINE when it goes on in the background; INVALID when the object was
 * published, be it behind the back of a finalize that failed with PST_ERR_MAYBE_APPLIED; UNAVAILABLE with
 * that flag when such a finalize has left it unknown, and all the rest is dropped. */
PST_API PST_NODISCARD pst_rc pst_writer_cancel(pst_writer *writer, pst_error *err);

/* Release the writer; one that was not finalized is cancelled, never committed. NULL is allowed. */
PST_API void pst_writer_free(pst_writer *writer);

#ifdef __cplusplus
}
#endif
#endif
