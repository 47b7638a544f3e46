/* load.h - map a library without taking somebody else's functions for its own. */
#ifndef PST_UTIL_LOAD_H
#define PST_UTIL_LOAD_H

#include <stddef.h>

/* A function that the library or what it is linked with defines, and what the name of the file that
 * defines it begins with: {"SSL_new", "libssl.so"}. */
struct pst_home {
    const char *function, *file;
};

/* dlopen(path, flags). Where another file of the process shows one of these functions to everybody, the
 * library and what it is linked with look among themselves first. Returns NULL, with one line in `why`
 * of `size` bytes, where that cannot be done either. */
void *pst_load_library(const char *path, int flags, const struct pst_home *homes, size_t n,
                       char *why, size_t size);

#endif
