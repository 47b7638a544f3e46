/* cargo.h - bytes of a writer: one buffer under the budget, filled, then on its way. */
#ifndef PST_IO_CARGO_H
#define PST_IO_CARGO_H

#include "core/port.h"
#include "io/call.h"

struct pst_cargo {
    struct pst_core *core;
    pst_buffer *buffer;
    uint64_t reserved_bytes;
    size_t len, capacity;
    uint32_t crc32c; /* of the bytes so far, where the writer wants it */
    int is_idle;     /* being filled: only the application can set its budget free */
    struct pst_cargo *next;
};

/* Reserve budget in one step, waiting while bytes of others are on their way and may come back, then
 * take memory, aligned as the port wants it. Errors: NO_MEMORY, CANCELLED, DEADLINE. */
pst_rc pst_cargo_new(struct pst_port *port, size_t capacity, const struct pst_limit *limit,
                     struct pst_cargo **out);

/* Move the bytes to a larger buffer. Does not wait: who holds bytes cannot let go of them. */
pst_rc pst_cargo_grow(struct pst_cargo *cargo, struct pst_port *port, size_t capacity);

/* Append at most `len` bytes; returns how many fitted. The sum is computed while they are in cache. */
size_t pst_cargo_fill(struct pst_cargo *cargo, const void *data, size_t len, int wants_crc32c);

/* It is complete and travels now: waiting for its budget makes sense again. */
void pst_cargo_seal(struct pst_cargo *cargo);

/* Give back a list of them. Allowed in task hooks. */
void pst_cargo_free(struct pst_cargo *cargo);

#endif
