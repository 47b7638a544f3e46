/* chunk.h - small pieces of memory that are given back together, quicker than each alone. Unlike
 * those of a region (region.h) they are not zeroed. */
#ifndef PST_UTIL_CHUNK_H
#define PST_UTIL_CHUNK_H

#include <stddef.h>

struct pst_chunk;

/* `size` bytes, 16-aligned; NULL if there are none. *chunks begins as NULL. */
void *pst_chunk_alloc(struct pst_chunk **chunks, size_t size);

/* Zero what is in them: secrets, soon to be given back. */
void pst_chunks_wipe(struct pst_chunk *chunks);

void pst_chunks_free(struct pst_chunk **chunks);

#endif
