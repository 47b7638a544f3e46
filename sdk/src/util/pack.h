/* pack.h - make an array of rows and all their strings one block, for one free(). */
#ifndef PST_UTIL_PACK_H
#define PST_UTIL_PACK_H

#include <stddef.h>

/* Copy n rows of `row_bytes` bytes. In each row, n_strings `const char *` members follow each other
 * from byte `first_string` on; they come to point into the block, NULL as "". NULL without memory. */
void *pst_pack(const void *rows, size_t n, size_t row_bytes, size_t first_string, size_t n_strings);

#endif
