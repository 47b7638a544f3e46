/* arena.c - arenas of huge-page-advised memory, and the buffers that lie in them.
 *
 * An arena is one mapping, a multiple of 2 MiB and aligned to it. Objects of up to half an arena share
 * one (bump allocation); larger ones have their own. An arena is given back when its last buffer goes,
 * to a free list bounded in bytes, then to the kernel.
 *
 * Fork: an arena nobody has handed out yet is MADV_DONTFORK, so that a child never shares pages which
 * a device may still write to; it becomes DOFORK before its first buffer goes to the application. In a
 * child, buffers of the parent can be read and released, but releasing only counts: the free list and
 * its lock belong to the parent. */
#include "core/arena.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "core/core.h"
#include "core/fault.h"
#include "util/mutex.h"

#define ARENA_BYTES ((size_t)2 << 20)
#define SMALL_MAX (ARENA_BYTES / 2)
#define MIN_ALIGN 64u

struct arena {
    struct pst_arenas *owner;
    char *base;
    size_t map_bytes;
    struct arena *next; /* in the free list */
    struct {
        size_t used, n_refs; /* buffers, and the bump allocator while it is current */
        int is_handed_out;
    } locked;
};

struct pst_arenas {
    pthread_mutex_t mutex;
    uint64_t idle_max_bytes;
    uint32_t generation;
    struct {
        size_t n_refs; /* the context, and each arena that is not idle */
        struct arena *current, *idle;
        uint64_t idle_bytes, handed_out_bytes;
    } locked;
};

struct pst_buffer {
    atomic_size_t refs;
    struct arena *arena; /* NULL for an empty buffer */
    char *data;
    size_t size, capacity;
};

int32_t pst_arenas_new(uint64_t idle_max_bytes, uint32_t generation, struct pst_arenas **out)
{
    struct pst_arenas *arenas = calloc(1, sizeof(*arenas));
    if (!arenas)
        return PST_E_NO_MEMORY;
    pst_mutex_init_short(&arenas->mutex);
    arenas->idle_max_bytes = idle_max_bytes;
    arenas->generation = generation;
    arenas->locked.n_refs = 1;
    *out = arenas;
    return PST_OK;
}

/* ---- arenas ----------------------------------------------------------------------------------- */

static void *map_aligned(size_t bytes)
{
    size_t span = bytes + ARENA_BYTES;
    char *raw = mmap(NULL, span, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (raw == MAP_FAILED)
        return NULL;
    size_t head = (ARENA_BYTES - (uintptr_t)raw % ARENA_BYTES) % ARENA_BYTES;
    if (head > 0)
        munmap(raw, head);
    if (span - head > bytes)
        munmap(raw + head + bytes, span - head - bytes);
    madvise(raw + head, bytes, MADV_HUGEPAGE); /* advice: it works without, only slower */
    madvise(raw + head, bytes, MADV_DONTFORK);
    return raw + head;
}

static void unmap(struct arena *arena)
{
    munmap(arena->base, arena->map_bytes);
    free(arena);
}

static struct arena *take_idle_locked(struct pst_arenas *arenas, size_t map_bytes)
{
    for (struct arena **at = &arenas->locked.idle; *at; at = &(*at)->next) {
        struct arena *arena = *at;
        if (arena->map_bytes < map_bytes || arena->map_bytes - map_bytes > map_bytes / 4)
            continue;
        *at = arena->next;
        arenas->locked.idle_bytes -= arena->map_bytes;
        return arena;
    }
    return NULL;
}

/* Returns an arena with one reference. The mutex is dropped while the kernel maps memory. */
static struct arena *get_arena_locked(struct pst_arenas *arenas, size_t map_bytes)
{
    struct arena *arena = take_idle_locked(arenas, map_bytes);
    if (!arena) {
        pthread_mutex_unlock(&arenas->mutex);
        arena = calloc(1, sizeof(*arena));
        char *base = arena ? map_aligned(map_bytes) : NULL;
        if (!base) {
            free(arena);
            arena = NULL;
        } else {
            arena->owner = arenas;
            arena->base = base;
            arena->map_bytes = map_bytes;
        }
        pthread_mutex_lock(&arenas->mutex);
    }
    if (arena) {
        arena->locked.used = 0;
        arena->locked.n_refs = 1;
        arena->locked.is_handed_out = 0;
        arenas->locked.n_refs++;
    }
    return arena;
}

static void destroy_arenas(struct pst_arenas *arenas)
{
    pthread_mutex_destroy(&arenas->mutex);
    free(arenas);
}

/* Drop a reference to the arena. Returns what the caller must unmap once it has unlocked, or NULL. */
static struct arena *drop_arena_locked(struct pst_arenas *arenas, struct arena *arena)
{
    if (--arena->locked.n_refs > 0)
        return NULL;
    arenas->locked.n_refs--;
    if (arena->locked.is_handed_out)
        arenas->locked.handed_out_bytes -= arena->map_bytes;
    if (arenas->locked.idle_bytes + arena->map_bytes > arenas->idle_max_bytes)
        return arena;
    if (arena->locked.is_handed_out)
        madvise(arena->base, arena->map_bytes, MADV_DONTFORK);
    arena->next = arenas->locked.idle;
    arenas->locked.idle = arena;
    arenas->locked.idle_bytes += arena->map_bytes;
    return NULL;
}

void pst_arenas_free(struct pst_arenas *arenas)
{
    struct arena *gone = NULL;
    if (!arenas)
        return;
    pthread_mutex_lock(&arenas->mutex);
    if (arenas->locked.current)
        gone = drop_arena_locked(arenas, arenas->locked.current);
    arenas->locked.current = NULL;
    arenas->idle_max_bytes = 0;
    struct arena *idle = arenas->locked.idle;
    arenas->locked.idle = NULL;
    arenas->locked.idle_bytes = 0;
    int is_last = --arenas->locked.n_refs == 0;
    pthread_mutex_unlock(&arenas->mutex);
    if (gone)
        unmap(gone);
    while (idle) {
        struct arena *next = idle->next;
        unmap(idle);
        idle = next;
    }
    if (is_last)
        destroy_arenas(arenas);
}

uint64_t pst_arenas_handed_out(struct pst_arenas *arenas)
{
    pthread_mutex_lock(&arenas->mutex);
    uint64_t bytes = arenas->locked.handed_out_bytes;
    pthread_mutex_unlock(&arenas->mutex);
    return bytes;
}

/* ---- buffers ---------------------------------------------------------------------------------- */

static size_t round_up(size_t n, size_t to)
{
    return (n + to - 1) / to * to;
}

static int place_small_locked(struct pst_arenas *arenas, struct pst_buffer *buffer, size_t align,
                              struct arena **gone)
{
    struct arena *arena = arenas->locked.current;
    size_t at = arena ? round_up(arena->locked.used, align) : 0;
    if (!arena || at + buffer->capacity > arena->map_bytes) {
        struct arena *fresh = get_arena_locked(arenas, ARENA_BYTES);
        if (!fresh)
            return 0;
        if (arenas->locked.current) /* another thread's, if the lock was dropped meanwhile */
            *gone = drop_arena_locked(arenas, arenas->locked.current);
        arenas->locked.current = arena = fresh;
        at = 0;
    }
    arena->locked.used = at + buffer->capacity;
    arena->locked.n_refs++;
    buffer->arena = arena;
    buffer->data = arena->base + at + (PST_FAULT(UNALIGNED) ? 8 : 0);
    return 1;
}

pst_buffer *pst_buffer_new(struct pst_arenas *arenas, size_t capacity, size_t align)
{
    struct arena *gone = NULL;
    int is_placed = 1;
    if (capacity > SIZE_MAX / 2 || align > ARENA_BYTES)
        return NULL;
    struct pst_buffer *buffer = calloc(1, sizeof(*buffer));
    if (!buffer)
        return NULL;
    atomic_init(&buffer->refs, 1);
    buffer->capacity = capacity;
    if (capacity == 0)
        return buffer;
    pthread_mutex_lock(&arenas->mutex);
    if (capacity <= SMALL_MAX) {
        is_placed = place_small_locked(arenas, buffer, align > MIN_ALIGN ? align : MIN_ALIGN,
                                       &gone);
    } else {
        buffer->arena = get_arena_locked(arenas, round_up(capacity, ARENA_BYTES));
        is_placed = buffer->arena != NULL;
        buffer->data = is_placed ? buffer->arena->base : NULL;
    }
    pthread_mutex_unlock(&arenas->mutex);
    if (gone)
        unmap(gone);
    if (!is_placed) {
        free(buffer);
        return NULL;
    }
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
    struct arena *arena = buffer->arena;
    if (!arena)
        return;
    pthread_mutex_lock(&arena->owner->mutex);
    if (!arena->locked.is_handed_out) {
        madvise(arena->base, arena->map_bytes, MADV_DOFORK);
        arena->locked.is_handed_out = 1;
        arena->owner->locked.handed_out_bytes += arena->map_bytes;
    }
    pthread_mutex_unlock(&arena->owner->mutex);
}

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
    if (!buffer || atomic_fetch_sub_explicit(&buffer->refs, 1, memory_order_acq_rel) != 1)
        return;
    struct arena *arena = buffer->arena;
    if (arena && arena->owner->generation != pst_fork_generation())
        return; /* a fork child: the parent's free list is not ours to touch */
    free(buffer);
    if (!arena)
        return;
    struct pst_arenas *arenas = arena->owner;
    pthread_mutex_lock(&arenas->mutex);
    struct arena *gone = drop_arena_locked(arenas, arena);
    int is_last = arenas->locked.n_refs == 0;
    pthread_mutex_unlock(&arenas->mutex);
    if (gone)
        unmap(gone);
    if (is_last)
        destroy_arenas(arenas);
}
