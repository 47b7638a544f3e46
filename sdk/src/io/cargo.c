/* cargo.c - budget first, then memory, then bytes.
 *
 * The budget of a part is reserved in one step for all bytes it may hold, whoever owns their memory. The
 * bytes are spans in their order: of memory of our own, taken when the first byte is copied or lent, large
 * enough for the rest of the part, and of buffers of the application, each held by a reference.
 *
 * A store may demand alignment (O_DIRECT does): of addresses (mem_align), of offsets and lengths
 * (io_align). Then a span of the application ends on a multiple of io_align and begins at one, and what
 * does not fit that is copied, so that each span but the last of a part is aligned at both ends. Our own
 * memory is padded to io_align, so that the plugin may write whole units.
 *
 * A part that is being filled holds budget which only the application can set free. Were others to wait
 * for it, two writers open in one thread could wait for each other for ever: so such bytes are marked
 * idle, and the budget serves who waits when nothing else is reserved (core/budget.h). */
#include "io/cargo.h"

#include <stdlib.h>
#include <string.h>

#include "io/room.h"

#define COPY_BYTES ((size_t)128 << 10)    /* copied, then summed, before the next: stays in L2 */
#define SPAN_MIN_BYTES ((size_t)32 << 10) /* less is copied sooner than it is looked after */
#define SPANS_MAX 512u                    /* of others in one part; then bytes are copied */

pst_rc pst_cargo_new(struct pst_port *port, size_t capacity, uint32_t which,
                     const struct pst_limit *limit, struct pst_cargo **out)
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
    cargo->sums.which = which;
    cargo->is_idle = 1;
    pst_budget_idle(&port->core->budget, capacity);
    *out = cargo;
    return PST_OK;
}

void pst_cargo_grow(struct pst_cargo *cargo, size_t capacity)
{
    uint64_t more = capacity - cargo->reserved_bytes;
    pst_budget_force(&cargo->core->budget, more);
    pst_budget_idle(&cargo->core->budget, more);
    cargo->reserved_bytes = cargo->capacity = capacity;
}

/* ---- spans ------------------------------------------------------------------------------------ */

/* Append a span, or lengthen the last one where the bytes follow it in memory. */
static pst_rc add_span(struct pst_cargo *cargo, pst_buffer *owner, char *data, size_t len)
{
    size_t n = cargo->n_spans;
    if (n > 0 && cargo->spans[n - 1].owner == owner &&
        cargo->spans[n - 1].data + cargo->spans[n - 1].len == data) {
        cargo->spans[n - 1].len += len;
    } else {
        if (cargo->n_spans == cargo->spans_max) {
            size_t max = cargo->spans_max > 0 ? cargo->spans_max * 2 : 4;
            struct pst_span *spans = reallocarray(cargo->spans, max, sizeof(*spans));
            if (!spans)
                return PST_E_NO_MEMORY;
            cargo->spans = spans;
            cargo->spans_max = max;
        }
        cargo->spans[cargo->n_spans++] = (struct pst_span){data, len, pst_buffer_ref(owner)};
    }
    cargo->len += len;
    return PST_OK;
}

static size_t align_of(uint32_t declared)
{
    return declared > 1 ? declared : 1;
}

/* What of the memory a plugin may touch beyond the bytes: the rest of the last io_align unit. */
static size_t padded(const struct pst_port *port, size_t capacity)
{
    size_t align = align_of(port->limits.io_align);
    return (capacity + align - 1) / align * align;
}

/* Have room in memory of our own. What is left of the old piece is less than the next byte needs. */
static pst_rc ensure_chunk(struct pst_cargo *cargo, const struct pst_port *port)
{
    if (cargo->chunk && cargo->chunk_used < cargo->chunk_bytes)
        return PST_OK;
    size_t bytes = padded(port, cargo->capacity - cargo->len);
    pst_buffer *chunk = pst_buffer_new(port->core->arenas, bytes, align_of(port->limits.mem_align));
    if (!chunk)
        return PST_E_NO_MEMORY;
    pst_buffer_unref(cargo->chunk); /* its spans hold it */
    cargo->chunk = chunk;
    cargo->chunk_used = 0;
    cargo->chunk_bytes = bytes;
    return PST_OK;
}

pst_rc pst_cargo_lend(struct pst_cargo *cargo, const struct pst_port *port, void **out, size_t *len)
{
    pst_rc rc = ensure_chunk(cargo, port);
    if (rc != PST_OK)
        return rc;
    size_t room = cargo->chunk_bytes - cargo->chunk_used;
    *out = (char *)pst_buffer_bytes(cargo->chunk) + cargo->chunk_used;
    *len = room < cargo->capacity - cargo->len ? room : cargo->capacity - cargo->len;
    return PST_OK;
}

pst_rc pst_cargo_keep(struct pst_cargo *cargo, size_t len)
{
    char *data = (char *)pst_buffer_bytes(cargo->chunk) + cargo->chunk_used;
    pst_rc rc = add_span(cargo, cargo->chunk, data, len);
    if (rc != PST_OK)
        return rc;
    cargo->chunk_used += len;
    pst_sums_add(&cargo->sums, data, len);
    return PST_OK;
}

pst_rc pst_cargo_fill(struct pst_cargo *cargo, const struct pst_port *port, const void *data,
                      size_t len, size_t *n)
{
    void *to = NULL;
    size_t room = 0, done = 0;
    *n = 0;
    pst_rc rc = pst_cargo_lend(cargo, port, &to, &room);
    if (len > room)
        len = room;
    while (rc == PST_OK && done < len) {
        size_t step = len - done < COPY_BYTES ? len - done : COPY_BYTES;
        memcpy((char *)to + done, (const char *)data + done, step);
        rc = pst_cargo_keep(cargo, step);
        done += rc == PST_OK ? step : 0;
    }
    *n = done;
    return rc;
}

/* ---- memory of others ------------------------------------------------------------------------- */

size_t pst_cargo_takes(const struct pst_cargo *cargo, const struct pst_port *port, const void *data,
                       size_t len)
{
    size_t mem_align = align_of(port->limits.mem_align), io_align = align_of(port->limits.io_align);
    size_t room = cargo->capacity - cargo->len;
    size_t n = (len < room ? len : room) / io_align * io_align;
    /* Bytes of our own that follow must begin where the store wants them to. */
    if (cargo->chunk_used % mem_align != 0 || cargo->len % io_align != 0)
        return 0;
    if ((uintptr_t)data % mem_align != 0 || n < SPAN_MIN_BYTES || cargo->n_spans >= SPANS_MAX)
        return 0;
    return n;
}

pst_rc pst_cargo_take(struct pst_cargo *cargo, pst_buffer *owner, const void *data, size_t len)
{
    ptrdiff_t at = (const char *)data - (const char *)pst_buffer_data(owner);
    pst_rc rc = add_span(cargo, owner, (char *)pst_buffer_bytes(owner) + at, len);
    if (rc == PST_OK)
        pst_sums_add(&cargo->sums, data, len);
    return rc;
}

/* ---- the end ---------------------------------------------------------------------------------- */

void pst_cargo_seal(struct pst_cargo *cargo)
{
    if (cargo->is_idle)
        pst_budget_busy(&cargo->core->budget, cargo->reserved_bytes);
    cargo->is_idle = 0;
}

void pst_cargo_unseal(struct pst_cargo *cargo)
{
    for (; cargo; cargo = cargo->next) {
        cargo->is_idle = 1;
        pst_budget_idle(&cargo->core->budget, cargo->reserved_bytes);
    }
}

void pst_cargo_free(struct pst_cargo *cargo)
{
    while (cargo) {
        struct pst_cargo *next = cargo->next;
        pst_cargo_seal(cargo);
        for (size_t i = 0; i < cargo->n_spans; i++)
            pst_buffer_unref(cargo->spans[i].owner);
        pst_buffer_unref(cargo->chunk);
        pst_budget_release(&cargo->core->budget, cargo->reserved_bytes);
        free(cargo->spans);
        free(cargo);
        cargo = next;
    }
}
