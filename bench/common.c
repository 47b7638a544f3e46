/* common.c - the tools of the benchmarks: time, pages, threads, files, stores. */
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

uint64_t read_status(const char *name)
{
    char line[256];
    uint64_t kib = 0;
    FILE *f = fopen("/proc/self/status", "r");

    while (f != NULL && fgets(line, sizeof line, f) != NULL) {
        if (strncmp(line, name, strlen(name)) == 0)
            kib = strtoull(line + strlen(name) + 1, NULL, 10);
    }
    if (f != NULL)
        fclose(f);
    return kib * 1024;
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

pst_context *open_context(const struct bench *b, uint64_t budget_bytes, uint64_t idle_bytes)
{
    const char *const dirs[] = {b->plugins, NULL};
    pst_context_options options = {.struct_size = sizeof options,
                                   .memory_budget_bytes = budget_bytes,
                                   .idle_memory_bytes = idle_bytes,
                                   .plugin_dirs = dirs};
    pst_context *context = NULL;
    pst_error err = PST_ERROR_INIT;

    check(pst_context_new(&options, &context, &err), &err);
    return context;
}

pst_store *open_store(pst_context *context, const char *uri, const pst_kv *options, size_t n)
{
    pst_store *store = NULL;
    pst_error err = PST_ERROR_INIT;

    check(pst_store_open(context, pst_str_of(uri, strlen(uri)), options, n, &store, &err), &err);
    return store;
}

pst_str key_of(const char *path)
{
    return pst_str_of(path + 1, strlen(path) - 1);
}
