/* decode_crew.h - several pieces of zstd data decompressed side by side. */
#ifndef PST_IO_DECODE_CREW_H
#define PST_IO_DECODE_CREW_H

#include "io/call.h"

/* Whole frames that follow each other, and which part of their content goes where. */
struct pst_decode_piece {
    const char *in;
    size_t in_len;
    uint64_t stored_at; /* of `in` in the object, for messages */
    size_t content_len; /* of all of it: anything else is DATA_LOSS */
    size_t skip, take;  /* the part */
    size_t dst_at;      /* in the destination, counted through its spans */
    uint32_t crc32c;    /* comes out, where it is wanted: of the part */
};

struct pst_decode_dst {
    const pst_iov *spans;
    size_t n_spans;
    int wants_crc32c;
};

/* How many threads would work on `n_pieces`. */
uint32_t pst_decode_threads(const struct pst_port *port, size_t n_pieces);

/* Can the piece be decompressed where it belongs, without memory of its own? */
int pst_decode_is_in_place(const struct pst_decode_piece *piece, const struct pst_decode_dst *dst);

/* Must the work end now? PST_OK, CANCELLED or DEADLINE. To be asked between slices. */
pst_rc pst_decode_strike(const struct pst_limit *limit);

/* Decompress all pieces, on the context's CPU pool and on the thread that calls. When it returns nothing
 * writes to the destination any more.
 * Errors: UNIMPLEMENTED; NO_MEMORY; DATA_LOSS, naming the offset; CANCELLED; DEADLINE. */
pst_rc pst_decode_pieces(struct pst_port *port, struct pst_decode_piece *pieces, size_t n_pieces,
                         const struct pst_decode_dst *dst, const struct pst_limit *limit,
                         pst_error *err);

#endif
