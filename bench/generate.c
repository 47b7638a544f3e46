/* generate.c - eight xorshift128+ generators side by side (Vigna 2014), each with a seed of its own: shifts
 * and additions only, so that a compiler makes vector instructions of it, on any machine. */
#include "generate.h"

static uint64_t mix(uint64_t x) /* splitmix64, Vigna 2015 */
{
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

void gen_seed(struct generator *g, uint64_t seed)
{
    for (unsigned int i = 0; i < 2; i++) {
        for (unsigned int lane = 0; lane < 4; lane++) {
            g->a[i][lane] = mix(seed + i * 8 + lane * 2);
            g->b[i][lane] = mix(seed + i * 8 + lane * 2 + 1);
        }
    }
}

void gen_fill(struct generator *g, void *out, size_t len)
{
    gen_lanes a0 = g->a[0], a1 = g->a[1], b0 = g->b[0], b1 = g->b[1];

    for (gen_lanes *at = out, *end = at + len / sizeof *at; at < end; at += 2) {
        gen_lanes x0 = a0 ^ (a0 << 23), x1 = a1 ^ (a1 << 23);

        a0 = b0;
        a1 = b1;
        b0 = x0 ^ a0 ^ (x0 >> 18) ^ (a0 >> 5);
        b1 = x1 ^ a1 ^ (x1 >> 18) ^ (a1 >> 5);
        at[0] = a0 + b0;
        at[1] = a1 + b1;
    }
    g->a[0] = a0;
    g->a[1] = a1;
    g->b[0] = b0;
    g->b[1] = b1;
}
