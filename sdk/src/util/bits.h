/* bits.h - a row of bits in words, for what is taken in runs. */
#ifndef PST_UTIL_BITS_H
#define PST_UTIL_BITS_H

#include <stdint.h>

/* The first bit from `at` on, below `end`, that is set (or clear); `end` if there is none. */
uint32_t pst_bits_next(const uint64_t *words, uint32_t at, uint32_t end, int is_set);

/* Set or clear `n` bits from `first` on. */
void pst_bits_mark(uint64_t *words, uint32_t first, uint32_t n, int is_set);

#endif
