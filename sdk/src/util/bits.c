#include "util/bits.h"

#define WORD_BITS 64u

uint32_t pst_bits_next(const uint64_t *words, uint32_t at, uint32_t end, int is_set)
{
    while (at < end) {
        uint64_t word = is_set ? words[at / WORD_BITS] : ~words[at / WORD_BITS];
        word >>= at % WORD_BITS;
        if (word != 0) {
            at += (uint32_t)__builtin_ctzll(word);
            return at < end ? at : end;
        }
        at = (at / WORD_BITS + 1) * WORD_BITS;
    }
    return end;
}

void pst_bits_mark(uint64_t *words, uint32_t first, uint32_t n, int is_set)
{
    while (n > 0) {
        uint32_t bit = first % WORD_BITS;
        uint32_t span = WORD_BITS - bit < n ? WORD_BITS - bit : n;
        uint64_t mask = (span == WORD_BITS ? UINT64_MAX : ((uint64_t)1 << span) - 1) << bit;
        if (is_set)
            words[first / WORD_BITS] |= mask;
        else
            words[first / WORD_BITS] &= ~mask;
        first += span;
        n -= span;
    }
}
