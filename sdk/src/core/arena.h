/* arena.h - memory for results: huge-page-advised arenas, slabs of them for small objects, reused.
 *
 * First touch of 4 KiB pages costs more than any copy (2 GB/s against 14 to 40 for 2 MiB pages), so
 * memory comes in multiples of 2 MiB, advised, and goes back to a short free list. */
#ifndef PST_CORE_ARENA_H
#define PST_CORE_ARENA_H

#include <stddef.h>
#include <stdint.h>

#include <penstock/buffer.h>

struct pst_arenas;

int32_t pst_arenas_new(uint64_t idle_max_bytes, uint32_t generation, struct pst_arenas **out);

/* Drop the owner's reference and the idle arenas; buffers that are still out keep the rest alive. */
void pst_arenas_free(struct pst_arenas *arenas);

/* Make a buffer of `capacity` bytes, aligned to `align` (a power of two; 64 at least is given). Its
 * size is 0 until pst_buffer_set_size. NULL for lack of memory. */
pst_buffer *pst_buffer_new(struct pst_arenas *arenas, size_t capacity, size_t align);

/* The writable side, for the engine only, before the buffer is handed out. */
void *pst_buffer_bytes(pst_buffer *buffer);
size_t pst_buffer_capacity(const pst_buffer *buffer);
void pst_buffer_set_size(pst_buffer *buffer, size_t size);

/* The application gets it now: its arena leaves the in-flight count, survives fork, and is counted
 * whole as handed out until its last view goes. */
void pst_buffer_hand_out(pst_buffer *buffer);

uint64_t pst_arenas_handed_out(struct pst_arenas *arenas);

#endif
