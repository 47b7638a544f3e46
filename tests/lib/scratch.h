/* scratch.h - a folder of a test's own, and files in it. Whatever fails, fails the test. */
#ifndef PST_TEST_SCRATCH_H
#define PST_TEST_SCRATCH_H

#include <stddef.h>

/* For cmocka: *state becomes the path (char *) of a new empty folder; teardown removes it. */
int scratch_setup(void **state);
int scratch_teardown(void **state);

/* "<dir>/<name>", in one of eight buffers that are used in turn. */
const char *scratch_path(const char *dir, const char *name);

/* Make a folder below `dir`; returns its path like scratch_path. */
const char *scratch_mkdir(const char *dir, const char *name);

void scratch_write(const char *path, const char *text);
void scratch_write_bytes(const char *path, const void *bytes, size_t len);

/* Copy a file, or its first `len` bytes. */
void scratch_copy(const char *from, const char *to);
void scratch_copy_head(const char *from, const char *to, size_t len);

/* Is a file whose path contains `text` mapped into this process? */
int scratch_is_mapped(const char *text);

#endif
