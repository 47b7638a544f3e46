/* arena.c - arenas of huge-page-advised memory, and the places in them.
 *
 * An arena is one mapping, a multiple of 2 MiB and aligned to it. Objects of up to half an arena share
 * one: it is cut into units (256 bytes for objects of up to 32 KiB, 4 KiB for larger ones), a bit each,
 * and an object takes the first run of free units that is long enough. Units that come back are used
 * again at once, so one small object that lives long keeps its own units, not its arena, from the next
 * (docs/adr/0010). Larger objects have an arena of their own. An arena without objects is idle: kept for
 * reuse up to a bound in bytes, the oldest given back first, and for a few seconds (pst_arenas_trim).
 *
 * When the kernel, or the host's function, has no memory, all idle arenas are given back and it is asked
 * once more. Huge pages are advice: where they are refused or switched off everything works, slower.
 *
 * Fork: an arena of one object in flight is MADV_DONTFORK, so that a child never shares pages which a
 * device may still write to; it becomes DOFORK before it goes to the application. Shared arenas become
 * DOFORK with the first object that is handed out and stay so, which saves two calls into the kernel
 * each time round. Memory from the host's functions is not advised at all: what a child sees of it is
 * the host's decision.
 *
 * What it does not do: move objects, split large arenas, keep caches per thread. */
#include "core/arena.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "core/fault.h"
#include "util/bits.h"
#include "util/mutex.h"
#include "util/ring.h"

#define SMALL_MAX (PST_ARENA_BYTES / 2)
#define N_SIZES                                                                                    \
    44u /* classes of idle arenas: powers of two, from 2 MiB to what SIZE_MAX / 2 holds */
#define LOOK_MAX 16u

/* How an arena that is shared is cut. */
struct grain {
    size_t unit_bytes, object_max;
};
static const struct grain grains[] = {{256, 32768}, {4096, SMALL_MAX}};

enum { N_GRAINS = 2, MAX_UNITS = (2 << 20) / 256 };

struct pst_arena {
    struct pst_arenas *owner;
    struct pst_memory_source source; /* a copy: the owner may be gone when the memory goes */
    char *base;
    size_t map_bytes;
    atomic_int is_forkable;
    struct {
        struct pst_ring link;      /* idle: in `idle` by size; shared with room: in `roomy` */
        struct pst_ring age;       /* idle: in `by_age` */
        uint64_t idle_since;       /* the number of trims before it became idle */
        const struct grain *grain; /* NULL while it is idle or belongs to one object */
        uint32_t n_units, n_used;
        uint32_t run_max;              /* no run of free units is longer */
        uint32_t low;                  /* no unit below it is free */
        uint64_t used[MAX_UNITS / 64]; /* all 0 in an arena without objects */
    } locked;
};

struct pst_arenas {
    pthread_mutex_t mutex;
    struct pst_memory_source source;
    atomic_ullong handed_out_bytes;
    struct {
        size_t n_refs; /* the context, and each arena that is not idle */
        uint64_t idle_max_bytes, idle_bytes, mapped_bytes, peak_mapped_bytes, maps, reuses;
        struct pst_ring roomy[N_GRAINS]; /* shared arenas with free units */
        struct pst_ring idle[N_SIZES];   /* by size, the newest first */
        struct pst_ring by_age;          /* idle ones, the oldest first */
        uint64_t n_trims;
        int is_trim_due; /* on_idle was called, and trim() has not said yet that it was the last */
        void (*on_idle)(void *arg);
        void *on_idle_arg;
    } locked;
};

/* ---- memory ----------------------------------------------------------------------------------- */

static char *map_pages(size_t bytes)
{
    void *raw = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return raw == MAP_FAILED ? NULL : raw;
}

/* Newer kernels align what could be huge pages by themselves; else map more and cut it to size. */
static char *map_aligned(size_t bytes)
{
    char *base = map_pages(bytes);
    if (!base || (uintptr_t)base % PST_ARENA_BYTES == 0)
        return base;
    munmap(base, bytes);
    char *raw = map_pages(bytes + PST_ARENA_BYTES);
    if (!raw)
        return NULL;
    size_t head = PST_ARENA_BYTES - (uintptr_t)raw % PST_ARENA_BYTES; /* a whole one if aligned */
    base = raw + head;
    munmap(raw, head);
    if (head < PST_ARENA_BYTES)
        munmap(base + bytes, PST_ARENA_BYTES - head);
    return base;
}

static char *map_memory(const struct pst_memory_source *source, size_t bytes)
{
    char *base;
    if (source->map) {
        base = source->map(source->arg, bytes);
        if (!base || (uintptr_t)base % PST_ARENA_BYTES == 0)
            return base;
        source->unmap(source->arg, base, bytes); /* misaligned: of no use */
        return NULL;
    }
    base = map_aligned(bytes);
    if (base) {
        madvise(base, bytes, MADV_HUGEPAGE);
        madvise(base, bytes, MADV_DONTFORK);
    }
    return base;
}

static void unmap_arena(struct pst_arena *arena)
{
    const struct pst_memory_source *source = &arena->source;
    if (source->unmap)
        source->unmap(source->arg, arena->base, arena->map_bytes);
    else
        munmap(arena->base, arena->map_bytes);
    free(arena);
}

/* Arenas that left the books under the lock are unmapped without it. */
static void unmap_list(struct pst_ring *gone)
{
    while (!pst_ring_is_empty(gone)) {
        struct pst_ring *link = gone->next;
        pst_ring_remove(link);
        unmap_arena(PST_RING_ENTRY(link, struct pst_arena, locked.link));
    }
}

static void advise_fork(struct pst_arena *arena, int is_forkable)
{
    if (!arena->source.map)
        madvise(arena->base, arena->map_bytes, is_forkable ? MADV_DOFORK : MADV_DONTFORK);
    atomic_store_explicit(&arena->is_forkable, is_forkable, memory_order_release);
}

/* ---- idle arenas ------------------------------------------------------------------------------ */

static unsigned size_class(size_t map_bytes)
{
    return 63u - (unsigned)__builtin_clzll(map_bytes / PST_ARENA_BYTES);
}

static void leave_idle_locked(struct pst_arena *arena)
{
    pst_ring_remove(&arena->locked.link);
    pst_ring_remove(&arena->locked.age);
    arena->owner->locked.idle_bytes -= arena->map_bytes;
}

static void give_up_locked(struct pst_arena *arena, struct pst_ring *gone)
{
    arena->owner->locked.mapped_bytes -= arena->map_bytes;
    pst_ring_add_last(gone, &arena->locked.link);
}

/* Give idle arenas up, the oldest first, until at most `keep_bytes` are left. */
static void shrink_idle_locked(struct pst_arenas *arenas, uint64_t keep_bytes,
                               struct pst_ring *gone)
{
    while (arenas->locked.idle_bytes > keep_bytes) {
        struct pst_arena *oldest = PST_RING_ENTRY(arenas->locked.by_age.next, struct pst_arena,
                                                  locked.age);
        leave_idle_locked(oldest);
        give_up_locked(oldest, gone);
    }
}

/* Nothing lies in the arena any more. */
static void retire_locked(struct pst_arena *arena, struct pst_ring *gone)
{
    struct pst_arenas *arenas = arena->owner;
    arena->locked.grain = NULL;
    arenas->locked.n_refs--;
    if (arena->map_bytes > arenas->locked.idle_max_bytes) {
        give_up_locked(arena, gone);
        return;
    }
    if (arenas->locked.on_idle && !arenas->locked.is_trim_due) {
        arenas->locked.is_trim_due = 1;
        arenas->locked.on_idle(arenas->locked.on_idle_arg);
    }
    arena->locked.idle_since = arenas->locked.n_trims;
    pst_ring_add_first(&arenas->locked.idle[size_class(arena->map_bytes)], &arena->locked.link);
    pst_ring_add_last(&arenas->locked.by_age, &arena->locked.age);
    arenas->locked.idle_bytes += arena->map_bytes;
    shrink_idle_locked(arenas, arenas->locked.idle_max_bytes, gone);
}

/* An idle arena of `map_bytes` or up to a quarter more. */
static struct pst_arena *take_idle_locked(struct pst_arenas *arenas, size_t map_bytes)
{
    size_t most = map_bytes + map_bytes / 4;
    for (unsigned class = size_class(map_bytes); class <= size_class(most); class ++) {
        struct pst_ring *head = &arenas->locked.idle[class];
        for (struct pst_ring *link = head->next; link != head; link = link->next) {
            struct pst_arena *arena = PST_RING_ENTRY(link, struct pst_arena, locked.link);
            if (arena->map_bytes < map_bytes || arena->map_bytes > most)
                continue;
            leave_idle_locked(arena);
            arenas->locked.reuses++;
            return arena;
        }
    }
    return NULL;
}

static struct pst_arena *map_arena(struct pst_arenas *arenas, size_t map_bytes)
{
    struct pst_ring gone;
    struct pst_arena *arena = calloc(1, sizeof(*arena));
    if (!arena)
        return NULL;
    arena->base = map_memory(&arenas->source, map_bytes);
    if (!arena->base) {
        pst_ring_init(&gone);
        pthread_mutex_lock(&arenas->mutex);
        shrink_idle_locked(arenas, 0, &gone);
        pthread_mutex_unlock(&arenas->mutex);
        unmap_list(&gone);
        arena->base = map_memory(&arenas->source, map_bytes);
    }
    if (!arena->base) {
        free(arena);
        return NULL;
    }
    arena->owner = arenas;
    arena->source = arenas->source;
    arena->map_bytes = map_bytes;
    return arena;
}

/* Returns an arena that is nobody's yet. The mutex is dropped while the kernel maps memory. */
static struct pst_arena *get_arena_locked(struct pst_arenas *arenas, size_t map_bytes)
{
    struct pst_arena *arena = take_idle_locked(arenas, map_bytes);
    if (!arena) {
        pthread_mutex_unlock(&arenas->mutex);
        arena = map_arena(arenas, map_bytes);
        pthread_mutex_lock(&arenas->mutex);
        if (!arena)
            return NULL;
        arenas->locked.maps++;
        arenas->locked.mapped_bytes += map_bytes;
        if (arenas->locked.mapped_bytes > arenas->locked.peak_mapped_bytes)
            arenas->locked.peak_mapped_bytes = arenas->locked.mapped_bytes;
    }
    arenas->locked.n_refs++;
    return arena;
}

/* ---- units of shared arenas ------------------------------------------------------------------- */

/* Find `n` free units from a multiple of `step` on. Returns n_units of the arena if there are none. */
static uint32_t find_run_locked(struct pst_arena *arena, uint32_t n, uint32_t step)
{
    const uint32_t end = arena->locked.n_units;
    const uint64_t *used = arena->locked.used;
    uint32_t longest = 0, at = pst_bits_next(used, arena->locked.low, end, 0);
    arena->locked.low = at;
    while (at < end) {
        uint32_t start = (at + step - 1) / step * step;
        if (end - at >= start - at + n && pst_bits_next(used, at, start + n, 1) == start + n)
            return start;
        uint32_t stop = pst_bits_next(used, at, end, 1);
        longest = stop - at > longest ? stop - at : longest;
        at = pst_bits_next(used, stop, end, 0);
    }
    arena->locked.run_max = longest;
    return end;
}

static struct pst_arena *share_arena_locked(struct pst_arenas *arenas, const struct grain *grain)
{
    struct pst_arena *arena = get_arena_locked(arenas, PST_ARENA_BYTES);
    if (!arena)
        return NULL;
    arena->locked.grain = grain;
    arena->locked.n_units = (uint32_t)(PST_ARENA_BYTES / grain->unit_bytes);
    arena->locked.n_used = arena->locked.low = 0;
    arena->locked.run_max = arena->locked.n_units;
    pst_ring_add_first(&arenas->locked.roomy[grain - grains], &arena->locked.link);
    return arena;
}

/* Take the units out of one arena. Returns 0 when it has no such run. */
static int take_units_locked(struct pst_arena *arena, uint32_t n, uint32_t step,
                             struct pst_place *out)
{
    if (arena->locked.run_max < n)
        return 0;
    uint32_t first = find_run_locked(arena, n, step);
    if (first == arena->locked.n_units)
        return 0;
    pst_bits_mark(arena->locked.used, first, n, 1);
    arena->locked.n_used += n;
    if (arena->locked.n_used == arena->locked.n_units)
        pst_ring_remove(&arena->locked.link); /* no room: found again through its objects */
    out->arena = arena;
    out->data = arena->base + first * arena->locked.grain->unit_bytes;
    out->first = first;
    out->n_units = n;
    out->held_bytes = n * arena->locked.grain->unit_bytes;
    return 1;
}

static int place_small_locked(struct pst_arenas *arenas, size_t bytes, size_t align,
                              struct pst_place *out)
{
    const struct grain *grain = &grains[0];
    while (bytes > grain->object_max || (align > grain->unit_bytes && grain == &grains[0]))
        grain++;
    uint32_t n = (uint32_t)((bytes + grain->unit_bytes - 1) / grain->unit_bytes);
    uint32_t step = align > grain->unit_bytes ? (uint32_t)(align / grain->unit_bytes) : 1;
    struct pst_ring *head = &arenas->locked.roomy[grain - grains], *looked_first = head->next;
    for (unsigned looked = 0; looked < LOOK_MAX && !pst_ring_is_empty(head); looked++) {
        struct pst_ring *link = head->next;
        if (looked > 0 && link == looked_first)
            break;
        if (take_units_locked(PST_RING_ENTRY(link, struct pst_arena, locked.link), n, step, out))
            return 1;
        pst_ring_remove(link); /* what has no room for this one is looked at last */
        pst_ring_add_last(head, link);
    }
    struct pst_arena *fresh = share_arena_locked(arenas, grain);
    return fresh && take_units_locked(fresh, n, step, out);
}

static int place_large_locked(struct pst_arenas *arenas, size_t bytes, struct pst_place *out)
{
    size_t map_bytes = (bytes + PST_ARENA_BYTES - 1) / PST_ARENA_BYTES * PST_ARENA_BYTES;
    struct pst_arena *arena = get_arena_locked(arenas, map_bytes);
    if (!arena)
        return 0;
    arena->locked.grain = NULL;
    *out = (struct pst_place){.arena = arena, .data = arena->base, .held_bytes = arena->map_bytes};
    return 1;
}

int pst_arenas_place(struct pst_arenas *arenas, size_t bytes, size_t align, struct pst_place *out)
{
    if (bytes > SIZE_MAX / 2 || align > PST_ARENA_BYTES)
        return 0;
    pthread_mutex_lock(&arenas->mutex);
    int is_placed = bytes <= SMALL_MAX ? place_small_locked(arenas, bytes, align, out)
                                       : place_large_locked(arenas, bytes, out);
    pthread_mutex_unlock(&arenas->mutex);
    if (is_placed && out->n_units == 0 && atomic_load(&out->arena->is_forkable))
        advise_fork(out->arena, 0); /* it was shared before */
    if (is_placed && PST_FAULT(UNALIGNED))
        out->data += 8;
    return is_placed;
}

void pst_place_hand_out(const struct pst_place *place)
{
    struct pst_arena *arena = place->arena;
    if (!atomic_load_explicit(&arena->is_forkable, memory_order_acquire))
        advise_fork(arena, 1); /* two threads may: the second call changes nothing */
    atomic_fetch_add_explicit(&arena->owner->handed_out_bytes, place->held_bytes,
                              memory_order_relaxed);
}

static void destroy(struct pst_arenas *arenas)
{
    pthread_mutex_destroy(&arenas->mutex);
    free(arenas);
}

static void free_units_locked(const struct pst_place *place, struct pst_ring *gone)
{
    struct pst_arena *arena = place->arena;
    int was_full = arena->locked.n_used == arena->locked.n_units;
    pst_bits_mark(arena->locked.used, place->first, place->n_units, 0);
    arena->locked.n_used -= place->n_units;
    arena->locked.run_max = arena->locked.n_units - arena->locked.n_used;
    if (place->first < arena->locked.low)
        arena->locked.low = place->first;
    if (!was_full)
        pst_ring_remove(&arena->locked.link);
    if (arena->locked.n_used == 0)
        retire_locked(arena, gone);
    else
        pst_ring_add_first(&arena->owner->locked.roomy[arena->locked.grain - grains],
                           &arena->locked.link);
}

void pst_place_free(const struct pst_place *place, int is_handed_out)
{
    struct pst_arenas *arenas = place->arena->owner;
    struct pst_ring gone;
    if (is_handed_out)
        atomic_fetch_sub_explicit(&arenas->handed_out_bytes, place->held_bytes,
                                  memory_order_relaxed);
    pst_ring_init(&gone);
    pthread_mutex_lock(&arenas->mutex);
    if (place->n_units == 0)
        retire_locked(place->arena, &gone);
    else
        free_units_locked(place, &gone);
    int is_last = arenas->locked.n_refs == 0;
    pthread_mutex_unlock(&arenas->mutex);
    unmap_list(&gone);
    if (is_last)
        destroy(arenas);
}

/* ---- all of them ------------------------------------------------------------------------------ */

int32_t pst_arenas_new(const struct pst_memory_source *source, uint64_t idle_max_bytes,
                       struct pst_arenas **out)
{
    struct pst_arenas *arenas = calloc(1, sizeof(*arenas));
    if (!arenas)
        return PST_E_NO_MEMORY;
    pst_mutex_init_short(&arenas->mutex);
    arenas->source = *source;
    arenas->locked.idle_max_bytes = idle_max_bytes;
    arenas->locked.n_refs = 1;
    for (unsigned i = 0; i < N_GRAINS; i++)
        pst_ring_init(&arenas->locked.roomy[i]);
    for (unsigned i = 0; i < N_SIZES; i++)
        pst_ring_init(&arenas->locked.idle[i]);
    pst_ring_init(&arenas->locked.by_age);
    *out = arenas;
    return PST_OK;
}

void pst_arenas_free(struct pst_arenas *arenas)
{
    struct pst_ring gone;
    if (!arenas)
        return;
    pst_ring_init(&gone);
    pthread_mutex_lock(&arenas->mutex);
    arenas->locked.idle_max_bytes = 0;
    shrink_idle_locked(arenas, 0, &gone);
    int is_last = --arenas->locked.n_refs == 0;
    pthread_mutex_unlock(&arenas->mutex);
    unmap_list(&gone);
    if (is_last)
        destroy(arenas);
}

void pst_arenas_watch(struct pst_arenas *arenas, void (*on_idle)(void *arg), void *arg)
{
    pthread_mutex_lock(&arenas->mutex);
    arenas->locked.on_idle = on_idle;
    arenas->locked.on_idle_arg = arg;
    pthread_mutex_unlock(&arenas->mutex);
}

int pst_arenas_trim(struct pst_arenas *arenas)
{
    struct pst_ring gone, *by_age = &arenas->locked.by_age;
    pst_ring_init(&gone);
    pthread_mutex_lock(&arenas->mutex);
    while (!pst_ring_is_empty(by_age)) {
        struct pst_arena *oldest = PST_RING_ENTRY(by_age->next, struct pst_arena, locked.age);
        if (oldest->locked.idle_since == arenas->locked.n_trims)
            break;
        leave_idle_locked(oldest);
        give_up_locked(oldest, &gone);
    }
    arenas->locked.n_trims++;
    int has_idle = !pst_ring_is_empty(by_age);
    arenas->locked.is_trim_due = has_idle;
    pthread_mutex_unlock(&arenas->mutex);
    unmap_list(&gone);
    return has_idle;
}

void pst_arenas_stats(struct pst_arenas *arenas, struct pst_arena_stats *out)
{
    pthread_mutex_lock(&arenas->mutex);
    *out = (struct pst_arena_stats){
        .mapped_bytes = arenas->locked.mapped_bytes,
        .peak_mapped_bytes = arenas->locked.peak_mapped_bytes,
        .idle_bytes = arenas->locked.idle_bytes,
        .maps = arenas->locked.maps,
        .reuses = arenas->locked.reuses,
    };
    pthread_mutex_unlock(&arenas->mutex);
    out->handed_out_bytes = atomic_load(&arenas->handed_out_bytes);
}
