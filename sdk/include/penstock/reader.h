/* reader.h - read an object of any length as a stream, in memory that does not grow with it. */
#ifndef PENSTOCK_READER_H
#define PENSTOCK_READER_H

#include <penstock/object.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Ranges of one version of an object, fetched ahead of the application and delivered in order; with
 * options->decode decompressed on the way. Threads: one at a time. */
typedef struct pst_reader pst_reader;

/* Start reading `length` bytes at `offset` (0 and PST_UNKNOWN: the whole object). `call` holds for each
 * later call: its cancel token, which must outlive the reader, ends any of them, its timeout starts
 * anew with each. options->max_in_flight ranges (0: 4) of options->part_bytes (0: chosen from the
 * store's limits and the budget) are under way or waiting to be taken; fewer, if they would not fit the
 * memory budget. What has no strong etag is read by one request into memory for all of it, or by ranges
 * with PST_READ_ALLOW_UNPINNED.
 * Ownership: pst_reader_free. Blocks: no; a missing object shows with the first read.
 * Errors: INVALID; OVER_BUDGET, naming both sizes, where not even one part fits; UNIMPLEMENTED for a
 * decoded range, whose offsets would be those of the stored bytes. */
PST_API PST_NODISCARD pst_rc pst_reader_open(pst_store *store, pst_str key, uint64_t offset,
                                             uint64_t length, const pst_read_options *options,
                                             const pst_call *call, pst_reader **out,
                                             pst_error *err);

/* Copy the next bytes to `dst`. *n_read is less than `capacity` only at the end, then 0.
 * Errors: as pst_get; CHANGED when the object was replaced meanwhile; OVER_BUDGET, naming both sizes,
 * for one without a strong etag that is larger than the memory budget; DATA_LOSS for compressed data
 * that is corrupt or cut short, naming the offset, and for PST_READ_EXPECT_CRC32C, before the last
 * bytes are delivered; FORKED in a fork child. Errors stay. */
PST_API PST_NODISCARD pst_rc pst_reader_read(pst_reader *reader, void *dst, size_t capacity,
                                             size_t *n_read, pst_error *err);

/* Hand over the next bytes without a copy, as many as lie together; *out is NULL at the end.
 * Ownership: pst_buffer_unref(*out). The reader fetches ahead again once it is called the next time,
 * whether the buffer was released by then or not. Errors: as read. */
PST_API PST_NODISCARD pst_rc pst_reader_next(pst_reader *reader, pst_buffer **out, pst_error *err);

/* What has been learned so far; complete once the end was reached. */
PST_API void pst_reader_info(pst_reader *reader, pst_read_info *out);

/* Stop what is under way and release the reader. NULL is allowed. */
PST_API void pst_reader_free(pst_reader *reader);

#ifdef __cplusplus
}
#endif
#endif
