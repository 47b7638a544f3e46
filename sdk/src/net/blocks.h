/* blocks.h - libcurl's buffers, kept from one request to the next. */
#ifndef PST_NET_BLOCKS_H
#define PST_NET_BLOCKS_H

#include <stddef.h>

#define PST_BLOCKS_MAX 128u

/* Large blocks that a loop's thread has given back. */
struct pst_blocks {
    void *blocks[PST_BLOCKS_MAX];
    unsigned n;
};

/* This thread's allocations for libcurl go by this cache from now on; NULL: no longer. */
void pst_blocks_use(struct pst_blocks *blocks);

/* Give back all but `n`. */
void pst_blocks_trim(struct pst_blocks *blocks, unsigned n);

/* For curl_global_init_mem: malloc and free, but for large blocks on a loop's thread. */
void *pst_blocks_malloc(size_t size);
void *pst_blocks_calloc(size_t n, size_t size);
void *pst_blocks_realloc(void *block, size_t size);
char *pst_blocks_strdup(const char *text);
void pst_blocks_free(void *block);

#endif
