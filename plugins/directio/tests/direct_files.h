/* direct_files.h - files with a pattern that tells each byte's place, and whether the page cache has them. */
#ifndef DIRECT_FILES_H
#define DIRECT_FILES_H

#include <stddef.h>
#include <stdint.h>

void pattern_fill(char *bytes, size_t n, uint64_t offset, unsigned seed);
/* The first byte that is not as it should be; n if all are. */
size_t pattern_differs(const char *bytes, size_t n, uint64_t offset, unsigned seed);

/* Are all of them `value`? */
int bytes_are(const char *bytes, size_t n, char value);

void direct_make(const char *dir, const char *name, uint64_t size, unsigned seed);
/* Fails the test unless the file is exactly these bytes. */
void direct_check(const char *dir, const char *name, uint64_t size, unsigned seed);
/* Write it back and drop it from the page cache; how many bytes the cache holds. */
void direct_evict(const char *dir, const char *name);
uint64_t direct_cached(const char *dir, const char *name);

/* `n` bytes of memory whose end, or whose start, is next to a page that traps. */
struct guarded {
    char *map, *bytes;
    size_t map_bytes;
};
struct guarded guarded_new(size_t n, size_t shift); /* the bytes end `shift` before the trap */
void guarded_free(struct guarded *g);

#endif
