/* cargo.h - bytes of a writer, on their way as one part: spans of memory under the budget. */
#ifndef PST_IO_CARGO_H
#define PST_IO_CARGO_H

#include "core/port.h"
#include "io/call.h"
#include "io/sums.h"

struct pst_span {
    char *data;
    size_t len;
    pst_buffer *owner; /* referenced */
};

struct pst_cargo {
    struct pst_core *core;
    uint64_t reserved_bytes;
    size_t len, capacity;
    struct pst_sums sums; /* of the bytes so far */
    int is_idle;          /* being filled: only the application can set its budget free */
    struct pst_span *spans;
    size_t n_spans, spans_max;
    pst_buffer *chunk; /* memory of our own, for bytes that are copied or committed */
    size_t chunk_used, chunk_bytes;
    struct pst_cargo *next;
};

/* Reserve budget for `capacity` bytes in one step, waiting while bytes of others are on their way and may
 * come back. `which`: the sums that run along (io/sums.h). Errors: NO_MEMORY, CANCELLED, DEADLINE. */
pst_rc pst_cargo_new(struct pst_port *port, size_t capacity, uint32_t which,
                     const struct pst_limit *limit, struct pst_cargo **out);

/* Allow more bytes. Does not wait: who holds bytes cannot let go of them. */
void pst_cargo_grow(struct pst_cargo *cargo, size_t capacity);

/* Append a copy of at most `len` bytes, *n says how many: as many as fit one piece of memory. Sums
 * are computed while they are in cache. Errors: NO_MEMORY. */
pst_rc pst_cargo_fill(struct pst_cargo *cargo, const struct pst_port *port, const void *data,
                      size_t len, size_t *n);

/* Lend memory behind the bytes so far, aligned as the port wants it if they end on such a boundary:
 * *len bytes, at least 1. Errors: NO_MEMORY. */
pst_rc pst_cargo_lend(struct pst_cargo *cargo, const struct pst_port *port, void **out,
                      size_t *len);

/* Append the first `len` bytes of what was lent. Errors: NO_MEMORY. */
pst_rc pst_cargo_keep(struct pst_cargo *cargo, size_t len);

/* How many of `len` bytes at `data`, in memory of somebody else, can travel from where they are, as the
 * next bytes of the cargo: aligned as the port demands, and enough of them to be worth a span. */
size_t pst_cargo_takes(const struct pst_cargo *cargo, const struct pst_port *port, const void *data,
                       size_t len);

/* Append them, with a reference to `owner`, whose bytes they are. Errors: NO_MEMORY. */
pst_rc pst_cargo_take(struct pst_cargo *cargo, pst_buffer *owner, const void *data, size_t len);

/* It is complete and travels now: waiting for its budget makes sense again. */
void pst_cargo_seal(struct pst_cargo *cargo);

/* A list of them did not arrive and is the application's to send again or drop: idle as before. */
void pst_cargo_unseal(struct pst_cargo *cargo);

/* Give back a list of them. Allowed in task hooks. */
void pst_cargo_free(struct pst_cargo *cargo);

#endif
