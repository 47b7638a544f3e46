/* side.h - what the sides written in C share: lines of work in, one line of figures out.
 *
 *     get KEY BYTES            one object, whole
 *     many FILE IN_FLIGHT      the objects of FILE, lines "KEY OFFSET BYTES"; OFFSET - is the whole object
 *     put KEY BYTES            one object as a stream
 *     puts FILE IN_FLIGHT      objects of FILE, written whole
 *     lat FILE IN_FLIGHT       as many, each object with a clock of its own
 *     drop - 0                 nothing but giving back the last results; answered "ready"
 *
 * The answer is "OK BYTES SECONDS CPU_SECONDS GROWTH_BYTES P50 P99 P999", latencies in microseconds, or
 * "ERROR text". Results are kept until the next line. GROWTH is that of peak memory over what the process
 * held before. */
#ifndef BENCH_NET_SIDE_H
#define BENCH_NET_SIDE_H

#include <stddef.h>
#include <stdint.h>

struct item {
    char *key;
    int64_t offset; /* -1: the whole object */
    uint64_t bytes;
};

struct work {
    const char *verb;
    struct item *items;
    size_t n_items;
    unsigned int n_in_flight;
    uint64_t total_bytes;
    double *latencies_s; /* one for each item, for the side to fill */
};

void die(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));
double now_s(void);

/* Bytes that no compression shrinks, the same for every side. */
const char *payload(uint64_t bytes);

/* Read work from stdin until its end. run() does it and keeps the results, drop() gives them back. */
void serve(void (*run)(const struct work *), void (*drop)(void));

#endif
