#include "util/chunk.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK_BYTES 960u /* with the header below 1032 bytes: malloc keeps such per thread */

struct pst_chunk {
    struct pst_chunk *next;
    size_t used, cap;
    _Alignas(16) char bytes[];
};

void *pst_chunk_alloc(struct pst_chunk **chunks, size_t size)
{
    struct pst_chunk *chunk = *chunks;
    if (size > SIZE_MAX / 2)
        return NULL;
    size = (size + 15) / 16 * 16;
    if (!chunk || chunk->cap - chunk->used < size) {
        size_t cap = size > CHUNK_BYTES ? size : CHUNK_BYTES;
        chunk = malloc(sizeof(*chunk) + cap);
        if (!chunk)
            return NULL;
        chunk->used = 0;
        chunk->cap = cap;
        chunk->next = *chunks;
        *chunks = chunk;
    }
    void *at = chunk->bytes + chunk->used;
    chunk->used += size;
    return at;
}

void pst_chunks_wipe(struct pst_chunk *chunks)
{
    for (; chunks; chunks = chunks->next)
        explicit_bzero(chunks->bytes, chunks->used);
}

void pst_chunks_free(struct pst_chunk **chunks)
{
    while (*chunks) {
        struct pst_chunk *next = (*chunks)->next;
        free(*chunks);
        *chunks = next;
    }
}
