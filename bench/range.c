/* range.c - a file of 2 GiB from the page cache, read by ranges in parallel.
 *
 * pst_get makes its buffer for each read and gives it back, so the plain side maps fresh huge pages for
 * each read too. pst_get_into reads into memory of the caller; both sides use the same, touched before. */
#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define FILE_BYTES ((size_t)2 << 30)
#define RANGE_BYTES ((size_t)8 << 20)

struct range {
    struct bench *b;
    char path[4096];
    pst_store *store;
    char *own; /* NULL: fresh pages for each read */
    char *dst;
    int fd;
    atomic_size_t next;
};

static void read_ranges(void *arg, unsigned int thread)
{
    struct range *r = arg;
    size_t from;

    (void)thread;
    while ((from = atomic_fetch_add(&r->next, RANGE_BYTES)) < FILE_BYTES) {
        for (size_t done = 0; done < RANGE_BYTES;) {
            ssize_t n = pread(r->fd, r->dst + from + done, RANGE_BYTES - done,
                              (off_t)(from + done));

            if (n <= 0)
                die("%s: errno %d", r->path, errno);
            done += (size_t)n;
        }
    }
}

static void plain(void *arg)
{
    struct range *r = arg;

    start_clock();
    r->fd = open(r->path, O_RDONLY | O_CLOEXEC);
    if (r->fd < 0)
        die("%s: errno %d", r->path, errno);
    r->dst = r->own != NULL ? r->own : map_pages(FILE_BYTES);
    atomic_store(&r->next, 0);
    run_threads(r->b->n_threads, read_ranges, r);
    if (r->own == NULL)
        unmap_pages(r->dst, FILE_BYTES);
    close(r->fd);
    stop_clock();
}

static void get(void *arg)
{
    struct range *r = arg;
    pst_buffer *buffer = NULL;
    pst_error err = PST_ERROR_INIT;

    start_clock();
    check(pst_get(r->store, key_of(r->path), NULL, NULL, &buffer, NULL, &err), &err);
    if (pst_buffer_size(buffer) != FILE_BYTES)
        die("%s: %zu bytes", r->path, pst_buffer_size(buffer));
    pst_buffer_unref(buffer);
    stop_clock();
}

static void get_into(void *arg)
{
    struct range *r = arg;
    size_t n = 0;
    pst_error err = PST_ERROR_INIT;

    start_clock();
    check(
        pst_get_into(r->store, key_of(r->path), 0, r->own, FILE_BYTES, NULL, NULL, &n, NULL, &err),
        &err);
    stop_clock();
    if (n != FILE_BYTES)
        die("%s: %zu bytes", r->path, n);
}

void bench_range(struct bench *b)
{
    struct range r = {.b = b};
    pst_context *context = open_context(b, (uint64_t)3 << 30);

    r.store = open_store(context);
    path_of(b, "range", r.path, sizeof r.path);
    write_file(r.path, FILE_BYTES, 1);
    compare(b, "pst_get, 2 GiB, fresh pages", (double)FILE_BYTES, plain, get, &r, 0.9);
    r.own = map_pages(FILE_BYTES);
    memset(r.own, 1, FILE_BYTES);
    compare(b, "pst_get_into, 2 GiB, touched pages", (double)FILE_BYTES, plain, get_into, &r, 0.9);
    unmap_pages(r.own, FILE_BYTES);
    remove_file(r.path);
    pst_store_free(r.store);
    pst_context_free(context);
}
