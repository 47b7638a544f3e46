/* bench.h - what the benchmarks share: time, pages, files, threads, pairs. */
#ifndef BENCH_H
#define BENCH_H

#include <stddef.h>
#include <stdint.h>

#include <penstock/penstock.h>

enum { ROUNDS = 5, MAX_THREADS = 64, HUGE_BYTES = 2 << 20 };

struct bench {
    const char *dir;     /* everything is made below it, and removed */
    const char *plugins; /* folder of file.so, NULL: as a host finds it */
    unsigned int n_threads;
    int failures; /* targets that were missed */
};

/* A failure here is the end: one line and exit 1. */
void die(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));
void check(pst_rc rc, const pst_error *err);

double now_s(void);
double cpu_s(void); /* of the process, user and system */

/* Memory as Penstock's arenas are made of: 2 MiB aligned, huge pages advised, untouched. */
void *map_pages(size_t bytes);
void unmap_pages(void *pages, size_t bytes);

/* Run fn(arg, i) on `n` threads, i from 0, and wait for all. */
void run_threads(unsigned int n, void (*fn)(void *arg, unsigned int i), void *arg);

/* "DIR/NAME", in memory of the caller. */
const char *path_of(const struct bench *b, const char *name, char *path, size_t size);
void write_file(const char *path, size_t bytes, unsigned int seed);
void remove_file(const char *path);

pst_context *open_context(const struct bench *b, uint64_t budget_bytes);
pst_store *open_store(pst_context *context);
/* The key of a path: what follows "file:///". */
pst_str key_of(const char *path);

/* One side of a comparison: does all the work once. Only what lies between start and stop counts. */
typedef void (*side_fn)(void *arg);
void start_clock(void);
void stop_clock(void);

/* Run both sides ROUNDS times by turns, after one run each that does not count; print the medians and
 * the median of the ratios of each pair, which should reach `target`. */
void compare(struct bench *b, const char *what, double bytes, side_fn plain, side_fn penstock,
             void *arg, double target);

void bench_many(struct bench *b);
void bench_range(struct bench *b);
void bench_put(struct bench *b);
void bench_memory(struct bench *b);

#endif
