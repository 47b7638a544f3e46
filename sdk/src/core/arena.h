/* arena.h - memory for buffers: huge-page-advised arenas, slots of them for small objects, reused.
 *
 * First touch of 4 KiB pages costs more than any copy (2 GB/s against 14 to 40 for 2 MiB pages), so
 * memory comes in multiples of 2 MiB, advised, and is kept for the next one that needs it. */
#ifndef PST_CORE_ARENA_H
#define PST_CORE_ARENA_H

#include <stddef.h>
#include <stdint.h>

#include <penstock/status.h>

struct pst_arena;
struct pst_arenas;

#define PST_ARENA_BYTES ((size_t)2 << 20)

/* Where arenas come from; all NULL for anonymous mappings. As in pst_context_options. */
struct pst_memory_source {
    void *(*map)(void *arg, size_t bytes);
    void (*unmap)(void *arg, void *memory, size_t bytes);
    void *arg;
};

/* A piece of an arena, or all of one. */
struct pst_place {
    struct pst_arena *arena;
    char *data;
    size_t held_bytes;       /* with what its end was rounded up to */
    uint32_t first, n_units; /* n_units 0: all of it */
};

struct pst_arena_stats {
    uint64_t mapped_bytes, peak_mapped_bytes, idle_bytes, handed_out_bytes, maps, reuses;
};

int32_t pst_arenas_new(const struct pst_memory_source *source, uint64_t idle_max_bytes,
                       struct pst_arenas **out);

/* Drop the owner's reference and the idle arenas; places that are still out keep the rest alive. */
void pst_arenas_free(struct pst_arenas *arenas);

/* Find room for `bytes` (more than 0), aligned to `align` (a power of two up to PST_ARENA_BYTES; 64 at
 * least is given). Returns 0 for lack of memory. */
int pst_arenas_place(struct pst_arenas *arenas, size_t bytes, size_t align, struct pst_place *out);

/* The application gets it: fork children will see it, and it counts as handed out. Once a place. */
void pst_place_hand_out(const struct pst_place *place);

/* Give it back; `is_handed_out` when pst_place_hand_out was called for it. */
void pst_place_free(const struct pst_place *place, int is_handed_out);

/* Have `on_idle(arg)` called when an arena becomes idle: somebody must call pst_arenas_trim now and then,
 * until it returns 0; only then is the next call due. It runs with a lock held and must only arm a timer.
 * NULL: no more calls from now on. */
void pst_arenas_watch(struct pst_arenas *arenas, void (*on_idle)(void *arg), void *arg);

/* Give back what was idle during the whole time between the last two calls. Returns 1 while idle arenas
 * are left. */
int pst_arenas_trim(struct pst_arenas *arenas);

void pst_arenas_stats(struct pst_arenas *arenas, struct pst_arena_stats *out);

#endif
