/* elf.h - is a shared library whole? */
#ifndef PST_UTIL_ELF_H
#define PST_UTIL_ELF_H

#include <stdint.h>

/* How long an ELF file has to be so that all its headers speak of is in it. Returns 0 and sets
 * *has_bytes and *needs_bytes (0 for what is not ELF of this machine), or an errno.
 *
 * The dynamic linker maps segments without a look at the file's length and dies of SIGBUS in a
 * library that an interrupted copy has left short. */
int pst_elf_extent(const char *path, uint64_t *has_bytes, uint64_t *needs_bytes);

#endif
