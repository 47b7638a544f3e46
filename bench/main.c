/* main.c - penstock_bench DIR [--threads N] [--plugins DIR] [many|range|put|memory]...
 *
 * Prints tables in Markdown; exit 0 when every target was met, 3 when one was missed. */
#include "bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct part {
    const char *name;
    void (*run)(struct bench *b);
    int is_pairs;
} parts[] = {
    {"many", bench_many, 1},
    {"range", bench_range, 1},
    {"put", bench_put, 1},
    {"memory", bench_memory, 0},
};
enum { N_PARTS = sizeof parts / sizeof parts[0] };

static void run_part(struct bench *b, const struct part *part)
{
    static int shown = -1; /* which heading */

    if (shown != part->is_pairs && part->is_pairs)
        printf("\n| what | threads | plain: GB/s (CPU s per GiB) | Penstock | ratio "
               "[lowest..highest] |"
               " target | |\n|---|---|---|---|---|---|---|\n");
    if (shown != part->is_pairs && !part->is_pairs)
        printf("\n| what | budget, MiB | held, MiB | peak, MiB | |\n|---|---|---|---|---|\n");
    shown = part->is_pairs;
    fflush(stdout);
    part->run(b);
}

int main(int argc, char **argv)
{
    struct bench b = {.n_threads = 4};
    int n_chosen = 0, is_chosen[N_PARTS] = {0};

    for (int i = 1; i < argc; i++) {
        int is_known = 0;

        for (size_t k = 0; k < N_PARTS; k++) {
            if (strcmp(argv[i], parts[k].name) == 0)
                is_known = is_chosen[k] = 1;
        }
        n_chosen += is_known;
        if (strcmp(argv[i], "--threads") == 0 && i + 1 < argc)
            b.n_threads = (unsigned int)strtoul(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--plugins") == 0 && i + 1 < argc)
            b.plugins = argv[++i];
        else if (!is_known && b.dir == NULL && argv[i][0] == '/')
            b.dir = argv[i];
        else if (!is_known)
            die("do not understand '%s'", argv[i]);
    }
    if (b.dir == NULL || b.n_threads == 0 || b.n_threads > MAX_THREADS)
        die("usage: penstock_bench /DIR [--threads 1..%d] [--plugins DIR] "
            "[many|range|put|memory]...",
            MAX_THREADS);
    for (size_t k = 0; k < N_PARTS; k++) {
        if (n_chosen == 0 || is_chosen[k])
            run_part(&b, &parts[k]);
    }
    return b.failures == 0 ? 0 : 3;
}
