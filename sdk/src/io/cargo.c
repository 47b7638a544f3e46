/* cargo.c - budget first, then memory, then bytes.
 *
 * A part that is being filled holds budget which only the application can set free. Were others to wait
 * for it, two writers open in one thread could wait for each other for ever: so such bytes are marked
 * idle, and the budget serves who waits when nothing else is reserved (core/budget.h). */
#include "io/cargo.h"

#include <stdlib.h>
#include <string.h>

#include "io/room.h"
#include "util/crc32c.h"

#define COPY_BYTES ((size_t)128 << 10) /* copied, then summed, before the next: stays in L2 */

/* What of the buffer a plugin may touch beyond the bytes: the rest of the last io_align unit. */
static size_t padded(const struct pst_port *port, size_t capacity)
{
    size_t align = port->limits.io_align > 1 ? port->limits.io_align : 1;
    return (capacity + align - 1) / align * align;
}

static pst_buffer *new_buffer(const struct pst_port *port, size_t capacity)
{
    size_t align = port->limits.mem_align > 1 ? port->limits.mem_align : 1;
    return pst_buffer_new(port->core->arenas, padded(port, capacity), align);
}

pst_rc pst_cargo_new(struct pst_port *port, size_t capacity, const struct pst_limit *limit,
                     struct pst_cargo **out)
{
    struct pst_cargo *cargo = calloc(1, sizeof(*cargo));
    if (!cargo)
        return PST_E_NO_MEMORY;
    pst_rc rc = pst_room_reserve(&port->core->budget, capacity, limit);
    if (rc != PST_OK) {
        free(cargo);
        return rc;
    }
    cargo->core = port->core;
    cargo->reserved_bytes = capacity;
    cargo->capacity = capacity;
    cargo->is_idle = 1;
    pst_budget_idle(&port->core->budget, capacity);
    cargo->buffer = new_buffer(port, capacity);
    if (!cargo->buffer) {
        pst_cargo_free(cargo);
        return PST_E_NO_MEMORY;
    }
    *out = cargo;
    return PST_OK;
}

pst_rc pst_cargo_grow(struct pst_cargo *cargo, struct pst_port *port, size_t capacity)
{
    uint64_t more = capacity - cargo->reserved_bytes;
    pst_buffer *larger = new_buffer(port, capacity);
    if (!larger)
        return PST_E_NO_MEMORY;
    pst_budget_force(&port->core->budget, more);
    pst_budget_idle(&port->core->budget, more);
    memcpy(pst_buffer_bytes(larger), pst_buffer_bytes(cargo->buffer), cargo->len);
    pst_buffer_unref(cargo->buffer);
    cargo->buffer = larger;
    cargo->reserved_bytes = cargo->capacity = capacity;
    return PST_OK;
}

size_t pst_cargo_fill(struct pst_cargo *cargo, const void *data, size_t len, int wants_crc32c)
{
    size_t room = cargo->capacity - cargo->len;
    char *to = (char *)pst_buffer_bytes(cargo->buffer) + cargo->len;
    const char *from = data;
    size_t done = 0;
    if (len > room)
        len = room;
    while (done < len) {
        size_t n = len - done < COPY_BYTES ? len - done : COPY_BYTES;
        memcpy(to + done, from + done, n);
        if (wants_crc32c)
            cargo->crc32c = pst_crc32c(cargo->crc32c, to + done, n);
        done += n;
    }
    cargo->len += len;
    return len;
}

void pst_cargo_seal(struct pst_cargo *cargo)
{
    if (cargo->is_idle)
        pst_budget_busy(&cargo->core->budget, cargo->reserved_bytes);
    cargo->is_idle = 0;
}

void pst_cargo_free(struct pst_cargo *cargo)
{
    while (cargo) {
        struct pst_cargo *next = cargo->next;
        pst_cargo_seal(cargo);
        pst_buffer_unref(cargo->buffer);
        pst_budget_release(&cargo->core->budget, cargo->reserved_bytes);
        free(cargo);
        cargo = next;
    }
}
