/* region.h - many small allocations that are given back together. */
#ifndef PST_UTIL_REGION_H
#define PST_UTIL_REGION_H

#include <stddef.h>

struct pst_region {
    struct pst_region_chunk *chunks; /* all zero is an empty region */
};

/* `size` zeroed bytes, 16-aligned; NULL if there are none. */
void *pst_region_alloc(struct pst_region *region, size_t size);

/* An array of n elements; NULL if there is no memory or n * size does not fit. */
void *pst_region_array(struct pst_region *region, size_t n, size_t size);

/* A terminated copy of `len` bytes. */
char *pst_region_strndup(struct pst_region *region, const char *text, size_t len);
char *pst_region_strdup(struct pst_region *region, const char *text);

void pst_region_fini(struct pst_region *region);

#endif
