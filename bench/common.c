/* common.c - the tools of the benchmarks.
 *
 * Two things make ratios that mean something on a small, shared machine. Both sides get the same kind
 * of pages, because the first touch of a 4 KiB page costs more than the copy into it. And the sides run
 * by turns, A B, B A, A B: each ratio is of two neighbours in time, and the median of five of them is
 * what counts. */
#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
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
    va_list list;

    fputs("bench: ", stderr);
    va_start(list, format);
    vfprintf(stderr, format, list);
    va_end(list);
    fputc('\n', stderr);
    exit(1);
}

void check(pst_rc rc, const pst_error *err)
{
    if (rc != PST_OK)
        die("%s", err->message);
}

double now_s(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

double cpu_s(void)
{
    struct rusage u;

    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

/* ---- pages ------------------------------------------------------------------------------------- */

void *map_pages(size_t bytes)
{
    size_t span = bytes + HUGE_BYTES;
    char *raw = mmap(NULL, span, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (raw == MAP_FAILED)
        die("no memory for %zu bytes", bytes);
    size_t head = (HUGE_BYTES - (uintptr_t)raw % HUGE_BYTES) % HUGE_BYTES;
    if (head > 0)
        munmap(raw, head);
    if (span - head > bytes)
        munmap(raw + head + bytes, span - head - bytes);
    madvise(raw + head, bytes, MADV_HUGEPAGE);
    return raw + head;
}

void unmap_pages(void *pages, size_t bytes)
{
    munmap(pages, bytes);
}

/* ---- threads ----------------------------------------------------------------------------------- */

struct start {
    void (*fn)(void *arg, unsigned int i);
    void *arg;
    unsigned int i;
};

static void *run_one(void *arg)
{
    const struct start *start = arg;

    start->fn(start->arg, start->i);
    return NULL;
}

void run_threads(unsigned int n, void (*fn)(void *arg, unsigned int i), void *arg)
{
    pthread_t threads[MAX_THREADS];
    struct start starts[MAX_THREADS];

    for (unsigned int i = 0; i < n; i++) {
        starts[i] = (struct start){.fn = fn, .arg = arg, .i = i};
        if (pthread_create(&threads[i], NULL, run_one, &starts[i]) != 0)
            die("cannot start thread %u", i);
    }
    for (unsigned int i = 0; i < n; i++)
        pthread_join(threads[i], NULL);
}

/* ---- files ------------------------------------------------------------------------------------- */

const char *path_of(const struct bench *b, const char *name, char *path, size_t size)
{
    int n = snprintf(path, size, "%s/%s", b->dir, name);

    if (n < 0 || (size_t)n >= size)
        die("%s: path is too long", b->dir);
    return path;
}

void write_file(const char *path, size_t bytes, unsigned int seed)
{
    static unsigned char block[1 << 20];
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);

    if (fd < 0)
        die("%s: errno %d", path, errno);
    for (size_t i = 0; i < sizeof block; i++)
        block[i] = (unsigned char)(i * 31 + i / 251 + seed);
    while (bytes > 0) {
        size_t n = bytes < sizeof block ? bytes : sizeof block;
        ssize_t done = write(fd, block, n);

        if (done <= 0)
            die("%s: errno %d", path, errno);
        bytes -= (size_t)done;
    }
    close(fd);
}

void remove_file(const char *path)
{
    if (unlink(path) != 0 && errno != ENOENT)
        die("%s: errno %d", path, errno);
}

/* ---- Penstock ---------------------------------------------------------------------------------- */

pst_context *open_context(const struct bench *b, uint64_t budget_bytes)
{
    const char *const dirs[] = {b->plugins, NULL};
    pst_context_options options = {
        .struct_size = sizeof options, .memory_budget_bytes = budget_bytes, .plugin_dirs = dirs};
    pst_context *context = NULL;
    pst_error err = PST_ERROR_INIT;

    check(pst_context_new(&options, &context, &err), &err);
    return context;
}

pst_store *open_store(pst_context *context)
{
    pst_store *store = NULL;
    pst_error err = PST_ERROR_INIT;

    check(pst_store_open(context, PST_STR("file:///"), NULL, 0, &store, &err), &err);
    return store;
}

pst_str key_of(const char *path)
{
    return pst_str_of(path + 1, strlen(path) - 1);
}

/* ---- pairs ------------------------------------------------------------------------------------- */

static double clock_wall_s, clock_cpu_s, started_wall_s, started_cpu_s;

void start_clock(void)
{
    started_cpu_s = cpu_s();
    started_wall_s = now_s();
}

void stop_clock(void)
{
    clock_wall_s = now_s() - started_wall_s;
    clock_cpu_s = cpu_s() - started_cpu_s;
}

static int compare_doubles(const void *a, const void *b)
{
    const double *x = a, *y = b;

    return *x < *y ? -1 : *x > *y;
}

static double median(const double *values)
{
    double sorted[ROUNDS];

    memcpy(sorted, values, sizeof sorted);
    qsort(sorted, ROUNDS, sizeof sorted[0], compare_doubles);
    return sorted[ROUNDS / 2];
}

static void run_side(side_fn side, void *arg, double *wall_s, double *cpu)
{
    side(arg);
    *wall_s = clock_wall_s;
    *cpu = clock_cpu_s;
}

void compare(struct bench *b, const char *what, double bytes, side_fn plain, side_fn penstock,
             void *arg, double target)
{
    double plain_s[ROUNDS], our_s[ROUNDS], plain_cpu[ROUNDS], our_cpu[ROUNDS], ratio[ROUNDS];

    plain(arg);
    penstock(arg);
    for (int i = 0; i < ROUNDS; i++) {
        if (i % 2 == 0)
            run_side(plain, arg, &plain_s[i], &plain_cpu[i]);
        run_side(penstock, arg, &our_s[i], &our_cpu[i]);
        if (i % 2 != 0)
            run_side(plain, arg, &plain_s[i], &plain_cpu[i]);
        ratio[i] = plain_s[i] / our_s[i];
    }
    double m = median(ratio), lowest = ratio[0], highest = ratio[0];
    for (int i = 1; i < ROUNDS; i++) {
        lowest = ratio[i] < lowest ? ratio[i] : lowest;
        highest = ratio[i] > highest ? ratio[i] : highest;
    }
    b->failures += m < target;
    printf("| %s | %u | %.2f (%.2f) | %.2f (%.2f) | **%.2f** [%.2f..%.2f] | %.2f | %s |\n", what,
           b->n_threads, bytes / 1e9 / median(plain_s), median(plain_cpu) / (bytes / (1 << 30)),
           bytes / 1e9 / median(our_s), median(our_cpu) / (bytes / (1 << 30)), m, lowest, highest,
           target, m < target ? "missed" : "met");
    fflush(stdout);
}
