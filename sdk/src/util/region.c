#include "util/region.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK_BYTES = 4096, ALIGN = 16 };

struct pst_region_chunk {
    struct pst_region_chunk *next;
    size_t used, size; /* of what follows the header */
};

/* The header takes as many bytes as keep what follows it aligned. */
static size_t header_bytes(void)
{
    return (sizeof(struct pst_region_chunk) + ALIGN - 1) / ALIGN * ALIGN;
}

void *pst_region_alloc(struct pst_region *region, size_t size)
{
    struct pst_region_chunk *chunk = region->chunks;

    if (size > SIZE_MAX / 2)
        return NULL;
    size = (size + ALIGN - 1) / ALIGN * ALIGN;
    if (!chunk || chunk->size - chunk->used < size) {
        const size_t room = size > CHUNK_BYTES ? size : CHUNK_BYTES;
        chunk = calloc(1, header_bytes() + room);
        if (!chunk)
            return NULL;
        chunk->size = room;
        chunk->next = region->chunks;
        region->chunks = chunk;
    }
    void *start = (char *)chunk + header_bytes() + chunk->used;
    chunk->used += size;
    return start;
}

void *pst_region_array(struct pst_region *region, size_t n, size_t size)
{
    size_t total;

    if (__builtin_mul_overflow(n, size, &total))
        return NULL;
    return pst_region_alloc(region, total);
}

char *pst_region_strndup(struct pst_region *region, const char *text, size_t len)
{
    char *copy = len < SIZE_MAX ? pst_region_alloc(region, len + 1) : NULL;

    if (copy && len > 0)
        memcpy(copy, text, len);
    return copy;
}

char *pst_region_strdup(struct pst_region *region, const char *text)
{
    return pst_region_strndup(region, text, strlen(text));
}

void pst_region_fini(struct pst_region *region)
{
    while (region->chunks) {
        struct pst_region_chunk *chunk = region->chunks;
        region->chunks = chunk->next;
        free(chunk);
    }
}
