/* guard.c - memory that traps.
 *
 * A region is a stretch of address space with nothing accessible in it. Pieces are cut from it one
 * after the other, each on pages of its own with a guard page before and behind, and placed so that
 * its last byte (or its first) touches the guard: one byte too many faults at once. Freezing takes
 * the write permission from all pieces, burying takes everything. What is buried stays mapped for
 * hundreds of operations more, so a late access faults.
 *
 * A handler for SIGSEGV and SIGBUS looks the address up and writes into the shared report what was
 * touched, then lets the signal kill the process: the runner reports both.
 *
 * It does not see what the kernel writes on behalf of a thread into memory that was still writable
 * when the request was made; call.c compares contents as well for that. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kit.h"

#define REGIONS_MAX 65536u

static _Atomic(struct k_region *) all_regions[REGIONS_MAX];
static atomic_uint next_slot; /* where a free one is likely */
static struct k_shared *handler_shared;
static size_t page_bytes; /* set before the first region, read by the handler */

/* Append to a line in a signal handler, where snprintf is not allowed. */
static void append(char *line, size_t size, const char *text)
{
    size_t used = strlen(line), len = strlen(text);
    if (used + len + 1 > size)
        len = size - used - 1;
    memcpy(line + used, text, len);
    line[used + len] = '\0';
}

static void append_number(char *line, size_t size, size_t value)
{
    char digits[24];
    size_t i = sizeof(digits) - 1;
    digits[i] = '\0';
    do {
        digits[--i] = (char)('0' + value % 10);
        value /= 10;
    } while (value > 0 && i > 0);
    append(line, size, digits + i);
}

static void describe(const struct k_region *region, uintptr_t address, char *line, size_t size)
{
    unsigned n = atomic_load(&region->n_pieces);
    int state = atomic_load(&region->state);
    for (unsigned i = 0; i < n; i++) {
        const struct k_piece *piece = &region->pieces[i];
        uintptr_t start = (uintptr_t)piece->start, end = start + piece->len;
        uintptr_t low = (uintptr_t)piece->pages - page_bytes;
        uintptr_t high = (uintptr_t)piece->pages + piece->pages_len + page_bytes;
        if (address < low || address >= high)
            continue;
        append(line, size, "the plugin touched the ");
        append(line, size, piece->name);
        append(line, size, " of ");
        append(line, size, region->owner);
        if (address >= end) {
            append(line, size, ", ");
            append_number(line, size, address - end + 1);
            append(line, size, " byte(s) beyond its end");
        } else if (address < start) {
            append(line, size, ", ");
            append_number(line, size, start - address);
            append(line, size, " byte(s) before its start");
        } else {
            append(line, size, " at offset ");
            append_number(line, size, address - start);
            append(line, size,
                   state == 0   ? ", which it may not write"
                   : state == 1 ? ", which it may not write any more"
                                : ", which was over: the operation had completed");
        }
        return;
    }
    append(line, size, "the plugin touched memory near what belongs to ");
    append(line, size, region->owner);
}

static void on_fault(int signal_number, siginfo_t *info, void *context)
{
    char line[400] = "";
    uintptr_t address = (uintptr_t)info->si_addr;
    (void)context;
    for (unsigned i = 0; i < REGIONS_MAX; i++) {
        const struct k_region *region = atomic_load(&all_regions[i]);
        if (region && address >= (uintptr_t)region->base &&
            address < (uintptr_t)region->base + region->size) {
            describe(region, address, line, sizeof(line));
            break;
        }
    }
    if (line[0])
        k_fail_raw(handler_shared, line);
    /* Back to the default action: the instruction is repeated and kills the process. */
    struct sigaction action;
    memset(&action, 0, sizeof(action));
    action.sa_handler = SIG_DFL;
    (void)sigaction(signal_number, &action, NULL);
}

void k_guard_install(struct k_shared *shared)
{
    struct sigaction action;
    handler_shared = shared;
    page_bytes = (size_t)sysconf(_SC_PAGESIZE);
    memset(&action, 0, sizeof(action));
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO;
    (void)sigaction(SIGSEGV, &action, NULL);
    (void)sigaction(SIGBUS, &action, NULL);
}

static size_t round_up(size_t value, size_t multiple)
{
    return (value + multiple - 1) / multiple * multiple;
}

static void end_without_memory(const char *what)
{
    if (handler_shared)
        k_fail_raw(handler_shared, what);
    _exit(70);
}

void k_region_init(struct k_region *region, const char *owner, size_t size, unsigned pieces_max)
{
    memset(region, 0, sizeof(*region));
    region->owner = owner;
    region->size = round_up(size, page_bytes);
    void *base = mmap(NULL, region->size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                      -1, 0);
    if (base == MAP_FAILED)
        end_without_memory("the kit ran out of address space");
    region->base = base;
    region->used = page_bytes;
    region->pieces_max = pieces_max;
    region->pieces = (struct k_piece *)(void *)k_alloc(pieces_max * sizeof(region->pieces[0]));
    /* No lock: a child of fork may come here whatever another thread was doing. */
    for (unsigned i = 0; i < REGIONS_MAX; i++) {
        struct k_region *none = NULL;
        region->slot = atomic_fetch_add(&next_slot, 1) % REGIONS_MAX;
        if (atomic_compare_exchange_strong(&all_regions[region->slot], &none, region))
            return;
    }
    end_without_memory("the kit ran out of regions");
}

void k_region_destroy(struct k_region *region)
{
    if (!region->base)
        return;
    atomic_store(&all_regions[region->slot], NULL);
    (void)munmap(region->base, region->size);
    k_free(region->pieces);
    memset(region, 0, sizeof(*region));
}

void *k_region_take(struct k_region *region, const char *name, size_t n, size_t align,
                    enum k_place place)
{
    unsigned index = atomic_load(&region->n_pieces);
    size_t step = align > page_bytes ? align : page_bytes;
    size_t pages_len = round_up(n > 0 ? n : 1, step);
    size_t at = round_up((size_t)(uintptr_t)region->base + region->used, step) -
                (size_t)(uintptr_t)region->base;
    if (index >= region->pieces_max || at + pages_len + page_bytes > region->size)
        return NULL;
    unsigned char *pages = region->base + at;
    if (mprotect(pages, pages_len, PROT_READ | PROT_WRITE) != 0)
        end_without_memory("the kit ran out of mappings");
    size_t slack = 0;
    if (place == K_AT_END)
        slack = (pages_len - n) / align * align;
    /* What is not the piece is filled, so that call.c sees writes that alignment hides. */
    memset(pages, K_POISON, pages_len);
    struct k_piece *piece = &region->pieces[index];
    piece->name = name;
    piece->start = pages + slack;
    piece->len = n;
    piece->pages = pages;
    piece->pages_len = pages_len;
    region->used = at + pages_len + page_bytes;
    atomic_store(&region->n_pieces, index + 1);
    return piece->start;
}

void k_region_protect(struct k_region *region, const void *piece, int prot)
{
    unsigned n = atomic_load(&region->n_pieces);
    for (unsigned i = 0; i < n; i++) {
        if (region->pieces[i].start == (const unsigned char *)piece &&
            mprotect(region->pieces[i].pages, region->pieces[i].pages_len, prot) != 0)
            end_without_memory("the kit ran out of mappings");
    }
}

bool k_region_is_intact(const struct k_region *region, const char **name)
{
    unsigned n = atomic_load(&region->n_pieces);
    for (unsigned i = 0; i < n; i++) {
        const struct k_piece *piece = &region->pieces[i];
        const unsigned char *end = piece->start + piece->len;
        *name = piece->name;
        for (const unsigned char *p = piece->pages; p < piece->start; p++)
            if (*p != K_POISON)
                return false;
        for (const unsigned char *p = end; p < piece->pages + piece->pages_len; p++)
            if (*p != K_POISON)
                return false;
    }
    return true;
}

void k_region_freeze(struct k_region *region)
{
    atomic_store(&region->state, 1);
    unsigned n = atomic_load(&region->n_pieces);
    for (unsigned i = 0; i < n; i++)
        (void)mprotect(region->pieces[i].pages, region->pieces[i].pages_len, PROT_READ);
}

void k_region_bury(struct k_region *region)
{
    atomic_store(&region->state, 2);
    if (region->base)
        (void)mmap(region->base, region->size, PROT_NONE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
}
