/* buffer.c - reference-counted memory: of our arenas, of the application, or a part of another buffer.
 *
 * In a fork child, buffers of the parent can be read and released, but releasing only counts: the
 * arenas and their lock belong to the parent, and so does what an application's release function would
 * give back. */
#include "core/buffer.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "core/core.h"
#include "core/error.h"

struct pst_buffer {
    atomic_size_t refs;
    char *data;
    size_t size, capacity;
    uint32_t generation;    /* of fork, when it was made */
    int is_handed_out;      /* its place counts as such */
    int is_writable;        /* by the application, while nobody else has it */
    struct pst_place place; /* arena NULL: none */
    pst_buffer *parent;     /* of a slice */
    void (*release)(void *arg);
    void *release_arg;
};

static pst_buffer *new_buffer(void)
{
    pst_buffer *buffer = calloc(1, sizeof(*buffer));
    if (!buffer)
        return NULL;
    atomic_init(&buffer->refs, 1);
    buffer->generation = pst_fork_generation();
    return buffer;
}

/* ---- the engine's side ------------------------------------------------------------------------ */

pst_buffer *pst_buffer_new(struct pst_arenas *arenas, size_t capacity, size_t align)
{
    pst_buffer *buffer = new_buffer();
    if (!buffer)
        return NULL;
    buffer->capacity = capacity;
    if (capacity == 0)
        return buffer;
    if (!pst_arenas_place(arenas, capacity, align, &buffer->place)) {
        free(buffer);
        return NULL;
    }
    buffer->data = buffer->place.data;
    return buffer;
}

void *pst_buffer_bytes(pst_buffer *buffer)
{
    return buffer->data;
}

size_t pst_buffer_capacity(const pst_buffer *buffer)
{
    return buffer->capacity;
}

void pst_buffer_set_size(pst_buffer *buffer, size_t size)
{
    buffer->size = size;
}

void pst_buffer_hand_out(pst_buffer *buffer)
{
    if (!buffer->place.arena || buffer->is_handed_out)
        return; /* what a read brought, a stream hands on once more */
    pst_place_hand_out(&buffer->place);
    buffer->is_handed_out = 1;
}

/* ---- the application's side ------------------------------------------------------------------- */

const void *pst_buffer_data(const pst_buffer *buffer)
{
    return buffer->size > 0 ? buffer->data : NULL;
}

size_t pst_buffer_size(const pst_buffer *buffer)
{
    return buffer->size;
}

pst_buffer *pst_buffer_ref(pst_buffer *buffer)
{
    atomic_fetch_add_explicit(&buffer->refs, 1, memory_order_relaxed);
    return buffer;
}

void pst_buffer_unref(pst_buffer *buffer)
{
    while (buffer && atomic_fetch_sub_explicit(&buffer->refs, 1, memory_order_acq_rel) == 1) {
        pst_buffer *parent = buffer->parent;
        int is_parents = buffer->generation != pst_fork_generation();
        if (is_parents && !parent)
            return;
        if (buffer->place.arena)
            pst_place_free(&buffer->place, buffer->is_handed_out);
        if (buffer->release)
            buffer->release(buffer->release_arg);
        free(buffer);
        buffer = parent;
    }
}

pst_rc pst_buffer_alloc(pst_context *context, size_t size, size_t align, pst_buffer **out,
                        pst_error *err)
{
    struct pst_core *core = NULL;
    *out = NULL;
    if ((align & (align - 1)) != 0 || align > PST_ARENA_BYTES)
        return pst_fail(err, PST_E_INVALID, "buffer: alignment %zu is no power of two up to %zu",
                        align, PST_ARENA_BYTES);
    pst_rc rc = pst_core_of(context, &core, err);
    if (rc != PST_OK)
        return rc;
    pst_buffer *buffer = pst_buffer_new(core->arenas, size, align);
    if (!buffer)
        return pst_fail(err, PST_E_NO_MEMORY, "buffer: out of memory for %zu bytes", size);
    buffer->size = size;
    buffer->is_writable = 1;
    pst_buffer_hand_out(buffer);
    *out = buffer;
    return PST_OK;
}

pst_rc pst_buffer_wrap(void *data, size_t size, void (*release)(void *arg), void *arg,
                       pst_buffer **out, pst_error *err)
{
    pst_fork_watch();
    *out = new_buffer();
    if (!*out)
        return pst_fail(err, PST_E_NO_MEMORY, "out of memory");
    (*out)->data = data;
    (*out)->size = (*out)->capacity = size;
    (*out)->is_writable = 1;
    (*out)->release = release;
    (*out)->release_arg = arg;
    return PST_OK;
}

void *pst_buffer_writable(pst_buffer *buffer)
{
    if (!buffer->is_writable || buffer->size == 0)
        return NULL;
    return atomic_load_explicit(&buffer->refs, memory_order_acquire) == 1 ? buffer->data : NULL;
}

pst_rc pst_buffer_slice(pst_buffer *buffer, size_t offset, size_t size, pst_buffer **out,
                        pst_error *err)
{
    *out = NULL;
    if (offset > buffer->size || size > buffer->size - offset)
        return pst_fail(err, PST_E_INVALID,
                        "buffer: %zu bytes at %zu are beyond the end, it has %zu", size, offset,
                        buffer->size);
    pst_buffer *slice = new_buffer();
    if (!slice)
        return pst_fail(err, PST_E_NO_MEMORY, "out of memory");
    slice->parent = pst_buffer_ref(buffer->parent ? buffer->parent : buffer);
    slice->data = size > 0 ? buffer->data + offset : NULL;
    slice->size = slice->capacity = size;
    *out = slice;
    return PST_OK;
}
