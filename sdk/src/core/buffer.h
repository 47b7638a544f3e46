/* buffer.h - the engine's side of buffers: memory that a plugin fills before it is handed out. */
#ifndef PST_CORE_BUFFER_H
#define PST_CORE_BUFFER_H

#include <penstock/buffer.h>

#include "core/arena.h"

/* Make a buffer of `capacity` bytes, aligned to `align` (a power of two; 64 at least is given). Its
 * size is 0 until pst_buffer_set_size. NULL for lack of memory. */
pst_buffer *pst_buffer_new(struct pst_arenas *arenas, size_t capacity, size_t align);

/* The writable side, for the engine only, before the buffer is handed out. */
void *pst_buffer_bytes(pst_buffer *buffer);
size_t pst_buffer_capacity(const pst_buffer *buffer);
void pst_buffer_set_size(pst_buffer *buffer, size_t size);

/* The application gets it now: its memory survives fork, and counts as handed out until its last
 * reference goes. Once a buffer. */
void pst_buffer_hand_out(pst_buffer *buffer);

#endif
