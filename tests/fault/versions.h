/* versions.h - contents that tell which version they are, and a watcher that sees only whole ones. */
#ifndef PST_TEST_VERSIONS_H
#define PST_TEST_VERSIONS_H

#include <stddef.h>
#include <stdint.h>

#define VERSION_BYTES_MAX ((size_t)300000)

/* Length and bytes of version `v` (above 0): mostly small, some a few parts long. */
size_t version_size(uint64_t v);
void version_fill(uint64_t v, char *out);

/* Are these `len` bytes those at `offset` of version `v`? */
int version_matches(uint64_t v, size_t offset, const void *bytes, size_t len);

/* Which version is the file? 0: it is not there, UINT64_MAX: nothing whole, or it cannot be read. */
uint64_t version_of_file(const char *path);

/* A thread that reads the files over and over, until it is stopped: how often it found one, and -1 where
 * one was neither absent nor whole. */
struct watcher;
struct watcher *watcher_start(const char *const *paths, size_t n);
long watcher_stop(struct watcher *watcher);

#endif
