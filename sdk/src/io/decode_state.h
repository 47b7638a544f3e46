/* decode_state.h - the inside of a decompressing read: decode.c has the call and whole objects,
 * decode_range.c the ranges. */
#ifndef PST_IO_DECODE_STATE_H
#define PST_IO_DECODE_STATE_H

#include "codec/zstd_lib.h"
#include "io/decode.h"
#include "io/decode_crew.h"
#include "io/get.h"

struct decode {
    pst_store *store;
    struct pst_port *port;
    const struct pst_zstd *zstd;
    const struct pst_decode_ask *ask;
    pst_read_options options; /* of the caller; then of the reads of stored bytes */
    uint32_t flags;           /* ... and the caller's */
    pst_call call;            /* of the reads of stored bytes */
    struct pst_limit limit;
    uint64_t began_ns;
    pst_read_info info; /* of the first read, then summed up */
    pst_buffer *stored, *tail;
    uint64_t stored_at;
    struct pst_decode_piece *pieces;
    size_t n_pieces, content_len;
    pst_iov own; /* the span that is a new buffer */
    pst_buffer *buffer;
    uint32_t crc32c;
    uint64_t reserved_bytes;
    int is_told; /* a read of stored bytes failed, and has said all there is to say */
};

static inline uint32_t pst_decode_is_summed(const struct decode *d)
{
    return (d->flags & (PST_READ_CRC32C | PST_READ_EXPECT_CRC32C)) ? 1 : 0;
}

/* ---- decode.c ---------------------------------------------------------------------------------- */

/* The caller's call, with what is left of its time. */
const pst_call *pst_decode_call_now(struct decode *d);

/* Reserve from the budget until the read ends. Errors: OVER_BUDGET, naming the sizes. */
pst_rc pst_decode_reserve(struct decode *d, uint64_t stored, uint64_t content, uint64_t beside,
                          pst_error *err);

/* d->buffer and the span that it is. */
pst_rc pst_decode_make_buffer(struct decode *d, size_t bytes, pst_error *err);

pst_rc pst_decode_add_piece(struct decode *d, const struct pst_decode_piece *piece, size_t *n_room,
                            pst_error *err);

/* Decompress d->pieces, and combine their sums. */
pst_rc pst_decode_all(struct decode *d, const pst_iov *spans, size_t n_spans, pst_error *err);

/* Fetch and decompress the whole object into a buffer. */
pst_rc pst_decode_whole(struct decode *d, pst_error *err);

/* ---- decode_range.c ---------------------------------------------------------------------------- */

/* ... or what d->ask wants of it. */
pst_rc pst_decode_range(struct decode *d, pst_error *err);

#endif
