/* file.h - read a small file whole. */
#ifndef PST_UTIL_FILE_H
#define PST_UTIL_FILE_H

#include <stddef.h>

/* Read a regular file of at most `max` bytes into memory for free(), terminated. Returns 0 or an
 * errno: EFBIG for a larger one, ENODEV for what is not a regular file. Never waits for a pipe. */
int pst_file_read(const char *path, size_t max, char **out, size_t *len);

#endif
