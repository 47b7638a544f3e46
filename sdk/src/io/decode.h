/* decode.h - the blocking reads that deliver the content of zstd frames. */
#ifndef PST_IO_DECODE_H
#define PST_IO_DECODE_H

#include <penstock/object.h>

/* What is wanted of the content. */
struct pst_decode_ask {
    pst_str key;
    uint64_t offset, length; /* length PST_UNKNOWN: to the end */
    int is_suffix;           /* the last `length` bytes */
    const pst_iov *dst;      /* NULL: into a new buffer */
    size_t n_dst;
};

/* Do the caller's options say that this read decompresses? Errors: INVALID. */
pst_rc pst_decode_asked(const pst_read_options *given, pst_str key, int *is_asked, pst_error *err);

/* Read and decompress. *out is for a new buffer, *n_read for memory of the caller.
 * Errors: as pst_get; UNIMPLEMENTED, naming the library, without libzstd, and for a range of an object
 * without a seek table; DATA_LOSS, naming the offset; OVER_BUDGET, naming the sizes, when stored bytes
 * and content together can never fit. */
pst_rc pst_decode_read(pst_store *store, const struct pst_decode_ask *ask,
                       const pst_read_options *options, const pst_call *call, pst_buffer **out,
                       size_t *n_read, pst_read_info *info, pst_error *err);

#endif
