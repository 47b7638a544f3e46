/* main.c - penstock_bench PLACE=/DIR... [--threads N] [--plugins DIR] [--python FILE --peers FILE] [--fio]
 *          [get|many|direct|checksum|zstd|put|memory]...
 *
 * Prints tables in Markdown; exit 0 when every target was met, 3 when one was missed. PLACE is "tmpfs" or
 * "disk". Where --fio or --python is not given, those sides are left out. */
#include "bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct part {
    const char *name;
    void (*run)(struct bench *b);
} parts[] = {
    {"get", bench_get},           {"many", bench_many}, {"direct", bench_direct},
    {"checksum", bench_checksum}, {"zstd", bench_zstd}, {"put", bench_put},
    {"memory", bench_memory},
};
enum { N_PARTS = sizeof parts / sizeof parts[0], MEMORY = N_PARTS - 1, MAX_PLACES = 4 };

struct place {
    char name[16];
    const char *dir;
};

struct choice {
    struct place places[MAX_PLACES];
    size_t n_places;
    int is_chosen[N_PARTS];
};

/* "disk=/tmp/x" */
static int parse_place(struct choice *c, const char *arg)
{
    const char *sign = strchr(arg, '=');
    struct place *place = &c->places[c->n_places];

    if (sign == NULL || sign[1] != '/' || c->n_places == MAX_PLACES ||
        (size_t)(sign - arg) >= sizeof place->name)
        return 0;
    memcpy(place->name, arg, (size_t)(sign - arg));
    place->dir = sign + 1;
    c->n_places++;
    return 1;
}

static int parse_part(struct choice *c, const char *arg)
{
    for (size_t i = 0; i < N_PARTS; i++) {
        if (strcmp(arg, parts[i].name) == 0)
            return c->is_chosen[i] = 1;
    }
    return 0;
}

static void parse(int argc, char **argv, struct bench *b, struct choice *c)
{
    int n_chosen = 0;

    for (int i = 1; i < argc; i++) {
        const char *next = i + 1 < argc ? argv[i + 1] : NULL;

        if (parse_place(c, argv[i]))
            continue;
        if (parse_part(c, argv[i])) {
            n_chosen++;
        } else if (strcmp(argv[i], "--fio") == 0) {
            b->has_fio = 1;
        } else if (next != NULL && strncmp(argv[i], "--", 2) == 0) {
            if (strcmp(argv[i], "--threads") == 0)
                b->n_threads = (unsigned int)strtoul(next, NULL, 10);
            else if (strcmp(argv[i], "--plugins") == 0)
                b->plugins = next;
            else if (strcmp(argv[i], "--python") == 0)
                b->python = next;
            else if (strcmp(argv[i], "--peers") == 0)
                b->peers = next;
            else
                die("do not understand '%s'", argv[i]);
            i++;
        } else {
            die("do not understand '%s'", argv[i]);
        }
    }
    for (size_t i = 0; i < N_PARTS && n_chosen == 0; i++)
        c->is_chosen[i] = 1;
}

int main(int argc, char **argv)
{
    struct bench b = {.n_threads = 2};
    struct choice c = {.n_places = 0};

    parse(argc, argv, &b, &c);
    if (c.n_places == 0 || b.n_threads == 0 || b.n_threads > MAX_THREADS ||
        (b.python == NULL) != (b.peers == NULL))
        die("usage: penstock_bench PLACE=/DIR... [--threads 1..%d] [--plugins DIR] "
            "[--python FILE --peers FILE] [--fio] "
            "[get|many|direct|checksum|zstd|put|memory]...",
            MAX_THREADS);
    printf("| what | on | other side: GB/s (CPU s per GiB) | Penstock | ratio [lowest..highest] | "
           "target | |\n|---|---|---|---|---|---|---|\n");
    for (size_t i = 0; i < MEMORY; i++) {
        for (size_t k = 0; k < c.n_places && c.is_chosen[i]; k++) {
            b.place = c.places[k].name;
            b.dir = c.places[k].dir;
            parts[i].run(&b);
        }
    }
    if (c.is_chosen[MEMORY]) {
        b.dir = c.places[c.n_places - 1].dir;
        printf("\n| what | budget, MiB | held, MiB | peak, MiB | |\n|---|---|---|---|---|\n");
        parts[MEMORY].run(&b);
    }
    return b.failures == 0 ? 0 : 3;
}
