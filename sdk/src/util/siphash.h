/* siphash.h - SipHash-2-4, a keyed hash that cannot be run backwards without the key. */
#ifndef PST_UTIL_SIPHASH_H
#define PST_UTIL_SIPHASH_H

#include <stddef.h>
#include <stdint.h>

uint64_t pst_siphash(const uint64_t key[2], const void *data, size_t len);

#endif
