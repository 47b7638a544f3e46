/* generate.h - seeded bytes that do not compress, faster than anything that they are given to. */
#ifndef BENCH_GENERATE_H
#define BENCH_GENERATE_H

#include <stddef.h>
#include <stdint.h>

typedef uint64_t gen_lanes __attribute__((vector_size(32)));

/* On a 32-byte boundary; the stream goes on where the last call ended, in multiples of 64 bytes. */
struct generator {
    gen_lanes a[2], b[2];
};

void gen_seed(struct generator *g, uint64_t seed);

/* `out` on a 32-byte boundary, `len` a multiple of 64. */
void gen_fill(struct generator *g, void *out, size_t len);

#endif
