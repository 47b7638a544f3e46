/* side.c - reads lines of work, measures, answers; see side.h. */
#include "side.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

void die(const char *format, ...)
{
    va_list args;

    printf("ERROR ");
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    printf("\n");
    fflush(stdout);
    exit(1);
}

double now_s(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static double cpu_s(void)
{
    struct rusage u;

    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1e-6;
}

static uint64_t status_bytes(const char *name)
{
    char line[256];
    unsigned long long kib = 0;
    FILE *file = fopen("/proc/self/status", "r");

    if (file == NULL)
        die("cannot read /proc/self/status");
    while (fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, name, strlen(name)) == 0)
            kib = strtoull(line + strlen(name), NULL, 10);
    }
    fclose(file);
    return kib * 1024;
}

/* The kernel's mark of peak memory starts over at what is held now. */
static void reset_peak(void)
{
    FILE *file = fopen("/proc/self/clear_refs", "w");

    if (file == NULL || fputs("5", file) < 0 || fclose(file) != 0)
        die("cannot reset the peak of memory");
}

const char *payload(uint64_t bytes)
{
    static char *data;
    static uint64_t size;

    if (bytes > size) {
        uint64_t x = 0x9e3779b97f4a7c15u;

        data = realloc(data, bytes + 8);
        if (data == NULL)
            die("no memory for %" PRIu64 " bytes to write", bytes);
        for (uint64_t at = 0; at < bytes; at += 8) {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            memcpy(data + at, &x, 8);
        }
        size = bytes;
    }
    return data;
}

static void add_item(struct work *work, const char *key, int64_t offset, uint64_t bytes)
{
    if ((work->n_items & (work->n_items - 1)) == 0) {
        size_t capacity = work->n_items ? work->n_items * 2 : 1;

        work->items = reallocarray(work->items, capacity, sizeof *work->items);
    }
    if (work->items == NULL)
        die("no memory for the list of objects");
    work->items[work->n_items].key = strdup(key);
    work->items[work->n_items].offset = offset;
    work->items[work->n_items++].bytes = bytes;
    work->total_bytes += bytes;
}

static void read_items(struct work *work, const char *path)
{
    char line[1400], *key, *offset, *bytes, *rest;
    FILE *file = fopen(path, "r");

    if (file == NULL)
        die("cannot read %s", path);
    while (fgets(line, sizeof line, file) != NULL) {
        key = strtok_r(line, " \n", &rest);
        offset = strtok_r(NULL, " \n", &rest);
        bytes = strtok_r(NULL, " \n", &rest);
        if (bytes == NULL)
            die("%s: a line is not KEY OFFSET BYTES", path);
        add_item(work, key, offset[0] == '-' ? -1 : strtoll(offset, NULL, 10),
                 strtoull(bytes, NULL, 10));
    }
    fclose(file);
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double percentile_us(const struct work *work, double share)
{
    return work->latencies_s[(size_t)((double)(work->n_items - 1) * share)] * 1e6;
}

static void clear(struct work *work)
{
    for (size_t i = 0; i < work->n_items; i++)
        free(work->items[i].key);
    free(work->items);
    free(work->latencies_s);
    memset(work, 0, sizeof *work);
}

void serve(void (*run)(const struct work *), void (*drop)(void))
{
    char line[1400], *verb, *what, *number, *rest;
    struct work work = {0};

    printf("ready\n");
    fflush(stdout);
    while (fgets(line, sizeof line, stdin) != NULL) {
        verb = strtok_r(line, " \n", &rest);
        what = strtok_r(NULL, " \n", &rest);
        number = strtok_r(NULL, " \n", &rest);
        if (number == NULL)
            die("do not understand the line");
        drop();
        clear(&work);
        if (strcmp(verb, "drop") == 0) {
            printf("ready\n");
            fflush(stdout);
            continue;
        }
        work.verb = verb;
        if (strcmp(verb, "get") == 0 || strcmp(verb, "put") == 0) {
            add_item(&work, what, -1, strtoull(number, NULL, 10));
            work.n_in_flight = 1;
        } else {
            read_items(&work, what);
            work.n_in_flight = (unsigned int)strtoul(number, NULL, 10);
        }
        work.latencies_s = calloc(work.n_items + 1, sizeof *work.latencies_s);
        if (work.latencies_s == NULL || work.n_items == 0 || work.n_in_flight == 0)
            die("nothing to do");
        if (verb[0] == 'p')
            payload(strcmp(verb, "put") == 0 ? work.total_bytes : work.items[0].bytes);
        reset_peak();
        uint64_t held = status_bytes("VmRSS:");
        double cpu = cpu_s(), began = now_s();
        run(&work);
        double took = now_s() - began;
        cpu = cpu_s() - cpu;
        uint64_t peak = status_bytes("VmHWM:");
        qsort(work.latencies_s, work.n_items, sizeof *work.latencies_s, compare);
        printf("OK %" PRIu64 " %.6f %.6f %" PRIu64 " %.0f %.0f %.0f\n", work.total_bytes, took, cpu,
               peak > held ? peak - held : 0, percentile_us(&work, 0.5), percentile_us(&work, 0.99),
               percentile_us(&work, 0.999));
        fflush(stdout);
    }
    drop();
    clear(&work);
}
