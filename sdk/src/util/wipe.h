/* wipe.h - memory that held a secret, given back without it. */
#ifndef PST_UTIL_WIPE_H
#define PST_UTIL_WIPE_H

#include <stdlib.h>
#include <string.h>

/* free(), after the first `n` bytes are wiped. NULL is allowed. */
static inline void pst_wipe_free(void *memory, size_t n)
{
    if (memory)
        explicit_bzero(memory, n);
    free(memory);
}

/* realloc() to more room, which leaves nothing of the first `n` bytes where they were. NULL for lack of
 * memory: the old block is as it was. */
static inline void *pst_wipe_grow(void *memory, size_t n, size_t room)
{
    void *more = malloc(room);
    if (!more)
        return NULL;
    if (n > 0)
        memcpy(more, memory, n);
    pst_wipe_free(memory, n);
    return more;
}

#endif
