/* get.c - one object of 1 GiB from the page cache, whole.
 *
 * What the destination is made of decides: so there are three ways, each beside a plain side whose memory
 * is of the same kind.
 *   fresh    pst_get of a context that keeps no memory; the plain side maps huge pages for each read.
 *   reused   pst_get as it comes: memory that was given back is used again. The plain side's was touched
 *            before. The peers stand beside this one, as they come too.
 *   into     pst_get_into memory of the caller, the same that the plain side reads into.
 * All sides keep the result until the clock has stopped. */
#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define FILE_BYTES ((size_t)1 << 30)
#define RANGE_BYTES ((size_t)2 << 20)

struct get {
    struct bench *b;
    char path[4096];
    pst_store *fresh, *reusing;
    char *touched, *dst;
    int fd;
    atomic_size_t next;
    struct peer *s3dlio, *obstore;
};

static void read_ranges(void *arg, unsigned int thread)
{
    struct get *g = arg;
    size_t from;

    (void)thread;
    while ((from = atomic_fetch_add(&g->next, RANGE_BYTES)) < FILE_BYTES) {
        for (size_t done = 0; done < RANGE_BYTES;) {
            ssize_t n = pread(g->fd, g->dst + from + done, RANGE_BYTES - done,
                              (off_t)(from + done));

            if (n <= 0)
                die("%s: errno %d", g->path, errno);
            done += (size_t)n;
        }
    }
}

static void read_plainly(struct get *g)
{
    g->fd = open(g->path, O_RDONLY | O_CLOEXEC);
    if (g->fd < 0)
        die("%s: errno %d", g->path, errno);
    atomic_store(&g->next, 0);
    run_threads(g->b->n_threads, read_ranges, g);
    close(g->fd);
}

static void plain_fresh(void *arg)
{
    struct get *g = arg;

    start_clock();
    g->dst = map_pages(FILE_BYTES);
    read_plainly(g);
    stop_clock();
    unmap_pages(g->dst, FILE_BYTES);
}

static void plain_touched(void *arg)
{
    struct get *g = arg;

    g->dst = g->touched;
    start_clock();
    read_plainly(g);
    stop_clock();
}

static void get_from(const struct get *g, pst_store *store)
{
    pst_buffer *buffer = NULL;
    pst_error err = PST_ERROR_INIT;

    start_clock();
    check(pst_get(store, key_of(g->path), NULL, NULL, &buffer, NULL, &err), &err);
    stop_clock();
    if (pst_buffer_size(buffer) != FILE_BYTES)
        die("%s: %zu bytes", g->path, pst_buffer_size(buffer));
    pst_buffer_unref(buffer);
}

static void get_fresh(void *arg)
{
    const struct get *g = arg;

    get_from(g, g->fresh);
}

static void get_reused(void *arg)
{
    const struct get *g = arg;

    get_from(g, g->reusing);
}

static void get_into(void *arg)
{
    const struct get *g = arg;
    size_t n = 0;
    pst_error err = PST_ERROR_INIT;

    start_clock();
    check(pst_get_into(g->reusing, key_of(g->path), 0, g->touched, FILE_BYTES, NULL, NULL, &n, NULL,
                       &err),
          &err);
    stop_clock();
    if (n != FILE_BYTES)
        die("%s: %zu bytes", g->path, n);
}

static void get_by_s3dlio(void *arg)
{
    const struct get *g = arg;

    peer_do(g->s3dlio, "get", g->path, FILE_BYTES);
}

static void get_by_obstore(void *arg)
{
    const struct get *g = arg;

    peer_do(g->obstore, "get", g->path, FILE_BYTES);
}

static struct side peer_side(const char *name, struct peer *peer, void (*run)(void *arg),
                             struct get *g)
{
    return (struct side){.name = name, .run = peer ? run : NULL, .arg = g};
}

static void compare(struct get *g)
{
    struct bench *b = g->b;
    const double bytes = (double)FILE_BYTES;
    const char *fresh = "`pst_get` 1 GiB, fresh memory", *reused = "`pst_get` 1 GiB";
    struct side sides[] = {{"plain C", plain_fresh, g, {0}, {0}},
                           {"Penstock", get_fresh, g, {0}, {0}},
                           {"plain C", plain_touched, g, {0}, {0}},
                           {"Penstock", get_reused, g, {0}, {0}},
                           {"Penstock", get_into, g, {0}, {0}},
                           peer_side("s3dlio", g->s3dlio, get_by_s3dlio, g),
                           peer_side("obstore", g->obstore, get_by_obstore, g)};

    run_sides(sides, sizeof sides / sizeof sides[0]);
    report_speed(b, fresh, bytes, &sides[0], &sides[1], 0.9);
    report_speed(b, fresh, bytes, &sides[5], &sides[1], NO_TARGET);
    report_speed(b, fresh, bytes, &sides[6], &sides[1], NO_TARGET);
    report_speed(b, reused, bytes, &sides[2], &sides[3], 0.9);
    report_speed(b, reused, bytes, &sides[5], &sides[3], 3);
    report_speed(b, reused, bytes, &sides[6], &sides[3], 3);
    report_speed(b, "`pst_get_into` 1 GiB", bytes, &sides[2], &sides[4], 0.9);
}

void bench_get(struct bench *b)
{
    struct get g = {.b = b};
    pst_context *keeping = open_context(b, (uint64_t)2 << 30, 0);
    pst_context *forgetting = open_context(b, (uint64_t)2 << 30, 1);

    g.reusing = open_store(keeping, "file:///", NULL, 0);
    g.fresh = open_store(forgetting, "file:///", NULL, 0);
    g.s3dlio = peer_start(b, "s3dlio");
    g.obstore = peer_start(b, "obstore");
    g.touched = map_pages(FILE_BYTES);
    memset(g.touched, 1, FILE_BYTES);
    path_of(b, "get", g.path, sizeof g.path);
    write_file(g.path, FILE_BYTES, 1);
    compare(&g);
    remove_file(g.path);
    unmap_pages(g.touched, FILE_BYTES);
    peer_stop(g.s3dlio);
    peer_stop(g.obstore);
    pst_store_free(g.reusing);
    pst_store_free(g.fresh);
    pst_context_free(keeping);
    pst_context_free(forgetting);
}
