/* memory.c - the peak memory of the process against the budget of its context.
 *
 * Streams 2 GiB out and reads them back in ranges, then reads 10,000 small files in windows, each with a
 * budget of 64 MiB. What the application holds does not count against the budget, so the bound is: what
 * the process had before, the budget, what is held at once, and a fixed allowance for code, stacks and
 * tables. */
#include "bench.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BUDGET_BYTES ((uint64_t)64 << 20)
#define ALLOWANCE_BYTES ((uint64_t)16 << 20)
#define FILE_BYTES ((size_t)2 << 30)
#define PIECE_BYTES ((size_t)1 << 20)
#define RANGE_BYTES ((uint64_t)32 << 20)

enum { N_FILES = 10000, SMALL_BYTES = 64 << 10, WINDOW = 256 };

/* Begin to count the peak anew. */
static uint64_t reset_peak(void)
{
    FILE *f = fopen("/proc/self/clear_refs", "w");

    if (f == NULL || fputs("5", f) < 0 || fclose(f) != 0)
        die("cannot reset the peak in /proc/self/clear_refs");
    return read_status("VmRSS:");
}

static void report(struct bench *b, const char *what, uint64_t before, uint64_t held)
{
    uint64_t peak = read_status("VmHWM:") - before;
    uint64_t bound = BUDGET_BYTES + held + ALLOWANCE_BYTES;

    b->failures += peak > bound;
    printf("| %s | %" PRIu64 " | %" PRIu64 " | %" PRIu64 " | %s |\n", what, BUDGET_BYTES >> 20,
           held >> 20, peak >> 20, peak > bound ? "missed" : "met");
    fflush(stdout);
}

static void stream_out(struct bench *b, const char *path)
{
    pst_context *context = open_context(b, BUDGET_BYTES, 0);
    pst_store *store = open_store(context, "file:///", NULL, 0);
    pst_writer *writer = NULL;
    pst_error err = PST_ERROR_INIT;
    char *piece = calloc(1, PIECE_BYTES);
    uint64_t before = reset_peak();

    if (piece == NULL)
        die("out of memory");
    check(pst_writer_open(store, key_of(path), NULL, NULL, &writer, &err), &err);
    for (size_t done = 0; done < FILE_BYTES; done += PIECE_BYTES)
        check(pst_writer_write(writer, piece, PIECE_BYTES, &err), &err);
    check(pst_writer_finalize(writer, NULL, &err), &err);
    pst_writer_free(writer);
    report(b, "pst_writer, 2 GiB", before, 0);
    free(piece);
    pst_store_free(store);
    pst_context_free(context);
}

static void read_in_ranges(struct bench *b, const char *path)
{
    pst_context *context = open_context(b, BUDGET_BYTES, 0);
    pst_store *store = open_store(context, "file:///", NULL, 0);
    pst_error err = PST_ERROR_INIT;
    uint64_t before = reset_peak();

    for (uint64_t at = 0; at < FILE_BYTES; at += RANGE_BYTES) {
        pst_buffer *buffer = NULL;

        check(pst_get_range(store, key_of(path), at, RANGE_BYTES, NULL, NULL, &buffer, NULL, &err),
              &err);
        pst_buffer_unref(buffer);
    }
    report(b, "pst_get_range, 64 x 32 MiB", before, RANGE_BYTES);
    pst_store_free(store);
    pst_context_free(context);
}

static void read_many(struct bench *b)
{
    static pst_get_item items[WINDOW];
    static pst_get_result results[WINDOW];
    static char paths[WINDOW][4096];
    const pst_many_options options = {.struct_size = sizeof options, .max_in_flight = 64};
    pst_context *context = open_context(b, BUDGET_BYTES, 0);
    pst_store *store = open_store(context, "file:///", NULL, 0);
    pst_error err = PST_ERROR_INIT;
    char name[32];

    for (unsigned int i = 0; i < WINDOW; i++) {
        snprintf(name, sizeof name, "memory.%05u", i);
        path_of(b, name, paths[i], sizeof paths[i]);
        write_file(paths[i], SMALL_BYTES, i);
        items[i] = (pst_get_item){.key = key_of(paths[i]), .length = PST_UNKNOWN};
    }
    uint64_t before = reset_peak();
    for (size_t done = 0; done < N_FILES; done += WINDOW) {
        check(pst_get_many(store, items, WINDOW, &options, NULL, results, &err), &err);
        pst_get_results_free(results, WINDOW);
    }
    report(b, "get_many, 10,000 x 64 KiB by 256", before, (uint64_t)WINDOW * SMALL_BYTES);
    for (unsigned int i = 0; i < WINDOW; i++)
        remove_file(paths[i]);
    pst_store_free(store);
    pst_context_free(context);
}

void bench_memory(struct bench *b)
{
    char path[4096];

    path_of(b, "memory", path, sizeof path);
    stream_out(b, path);
    read_in_ranges(b, path);
    read_many(b);
    remove_file(path);
}
