/* blocks.c - libcurl's buffers, kept from one request to the next.
 *
 * libcurl allocates the receive buffer of a transfer when it begins and frees it when it ends. The C
 * library gives blocks of that size back to the kernel again and again, and each comes back as fresh
 * pages: measured, five page faults for each request of 64 KiB, a tenth of all it costs. So a loop's
 * thread keeps them.
 *
 * Every block is one of malloc, also those that were kept: libcurl, which may have other users in this
 * process, can free what was allocated before or elsewhere, and the other way round. Threads that are
 * not ours get malloc and free as they are. */
#include "net/blocks.h"

#include <malloc.h>
#include <stdlib.h>
#include <string.h>

enum { KEPT_MIN_BYTES = 64 * 1024, KEPT_MAX_BYTES = 1024 * 1024 };

static _Thread_local struct pst_blocks *here;

void pst_blocks_use(struct pst_blocks *blocks)
{
    here = blocks;
}

void pst_blocks_trim(struct pst_blocks *blocks, unsigned n)
{
    while (blocks->n > n)
        free(blocks->blocks[--blocks->n]);
}

void *pst_blocks_malloc(size_t size)
{
    if (size < KEPT_MIN_BYTES || !here)
        return malloc(size);
    for (unsigned i = here->n; i-- > 0;) {
        void *block = here->blocks[i];
        const size_t has = malloc_usable_size(block);
        if (has >= size && has / 2 <= size) {
            here->blocks[i] = here->blocks[--here->n];
            return block;
        }
    }
    return malloc(size);
}

void pst_blocks_free(void *block)
{
    if (block && here && here->n < PST_BLOCKS_MAX) {
        const size_t has = malloc_usable_size(block);
        if (has >= KEPT_MIN_BYTES && has <= KEPT_MAX_BYTES) {
            here->blocks[here->n++] = block;
            return;
        }
    }
    free(block);
}

void *pst_blocks_calloc(size_t n, size_t size)
{
    return calloc(n, size);
}

void *pst_blocks_realloc(void *block, size_t size)
{
    return realloc(block, size);
}

char *pst_blocks_strdup(const char *text)
{
    return strdup(text);
}
