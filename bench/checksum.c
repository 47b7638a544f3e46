/* checksum.c - what it costs to know the CRC-32C of what was read.
 *
 * Past the page cache the processor waits for the disk, so it should cost next to nothing: wall time with
 * against without. From the page cache it competes with the copy, for the plain side as well, which reads
 * the same ranges and sums each with ISA-L as soon as it is there: the surplus, in percent, of the one
 * side against that of the other. */
#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include <isa-l/crc.h>

#define FILE_BYTES ((size_t)1 << 30)
#define RANGE_BYTES ((size_t)2 << 20) /* as both stores prefer; it fits the cache */

/* A few percent are to be told apart: the file is read so many times in one run of a side. */
enum { CACHED_TIMES = 4, DIRECT_TIMES = 2, N_SUMS = FILE_BYTES / RANGE_BYTES };

struct checksum {
    struct bench *b;
    char path[4096];
    pst_store *cached, *direct;
    char *memory;
    int fd, has_sum;
    atomic_size_t next;
    unsigned int sums[N_SUMS];
};

/* As far as the sums of the ranges: to combine them takes microseconds. */
static void read_ranges(void *arg, unsigned int thread)
{
    struct checksum *c = arg;
    size_t from;

    (void)thread;
    while ((from = atomic_fetch_add(&c->next, RANGE_BYTES)) < FILE_BYTES) {
        unsigned int sum = 0;

        for (size_t done = 0; done < RANGE_BYTES;) {
            unsigned char *at = (unsigned char *)c->memory + from + done;
            ssize_t n = pread(c->fd, at, RANGE_BYTES - done, (off_t)(from + done));

            if (n <= 0)
                die("%s: errno %d", c->path, errno);
            if (c->has_sum)
                sum = crc32_iscsi(at, (int)n, sum);
            done += (size_t)n;
        }
        c->sums[from / RANGE_BYTES] = sum;
    }
}

static void read_plainly(struct checksum *c, int has_sum)
{
    c->fd = open(c->path, O_RDONLY | O_CLOEXEC);
    if (c->fd < 0)
        die("%s: errno %d", c->path, errno);
    c->has_sum = has_sum;
    atomic_store(&c->next, 0);
    run_threads(c->b->n_threads, read_ranges, c);
    close(c->fd);
}

static void plain(void *arg)
{
    start_clock();
    for (int i = 0; i < CACHED_TIMES; i++)
        read_plainly(arg, 0);
    stop_clock();
}

static void plain_summed(void *arg)
{
    start_clock();
    for (int i = 0; i < CACHED_TIMES; i++)
        read_plainly(arg, 1);
    stop_clock();
}

static void read_from(const struct checksum *c, pst_store *store, uint32_t flags, int times)
{
    const pst_read_options options = {.struct_size = sizeof options, .flags = flags};
    pst_read_info info = {.struct_size = sizeof info};
    size_t n = 0;
    pst_error err = PST_ERROR_INIT;

    start_clock();
    for (int i = 0; i < times; i++) {
        check(pst_get_into(store, key_of(c->path), 0, c->memory, FILE_BYTES, &options, NULL, &n,
                           &info, &err),
              &err);
        if (n != FILE_BYTES || info.has_crc32c != (flags != 0))
            die("%s: %zu bytes, %u checksums", c->path, n, info.has_crc32c);
    }
    stop_clock();
}

static void cached(void *arg)
{
    const struct checksum *c = arg;

    read_from(c, c->cached, 0, CACHED_TIMES);
}

static void cached_summed(void *arg)
{
    const struct checksum *c = arg;

    read_from(c, c->cached, PST_READ_CRC32C, CACHED_TIMES);
}

static void direct(void *arg)
{
    const struct checksum *c = arg;

    read_from(c, c->direct, 0, DIRECT_TIMES);
}

static void direct_summed(void *arg)
{
    const struct checksum *c = arg;

    read_from(c, c->direct, PST_READ_CRC32C, DIRECT_TIMES);
}

static void compare_direct(struct checksum *c)
{
    const double bytes = (double)FILE_BYTES * DIRECT_TIMES;
    double surplus[ROUNDS];
    struct side sides[] = {{"without", direct, c, {0}, {0}}, {"with", direct_summed, c, {0}, {0}}};

    run_sides(sides, 2);
    for (int i = 0; i < ROUNDS; i++)
        surplus[i] = sides[1].wall_s[i] / sides[0].wall_s[i];
    report_most(c->b, "CRC-32C of a `direct://` read, wall time", bytes, &sides[0], &sides[1],
                surplus, strcmp(c->b->place, "disk") == 0 ? 1.05 : NO_TARGET);
}

static void compare_cached(struct checksum *c)
{
    const double bytes = (double)FILE_BYTES * CACHED_TIMES;
    double plain_surplus[ROUNDS], our_surplus[ROUNDS], difference[ROUNDS];
    struct side sides[] = {{"plain C", plain, c, {0}, {0}},
                           {"plain C and ISA-L", plain_summed, c, {0}, {0}},
                           {"without", cached, c, {0}, {0}},
                           {"with", cached_summed, c, {0}, {0}}};

    run_sides(sides, 4);
    for (int i = 0; i < ROUNDS; i++) {
        plain_surplus[i] = (sides[1].wall_s[i] / sides[0].wall_s[i] - 1) * 100;
        our_surplus[i] = (sides[3].wall_s[i] / sides[2].wall_s[i] - 1) * 100;
        difference[i] = our_surplus[i] - plain_surplus[i];
    }
    report_most(c->b, "CRC-32C from the page cache, plain C, surplus in %", bytes, &sides[0],
                &sides[1], plain_surplus, NO_TARGET);
    report_most(c->b, "... Penstock, surplus in %", bytes, &sides[2], &sides[3], our_surplus,
                NO_TARGET);
    report_most(c->b, "... points above plain C", bytes, &sides[1], &sides[3], difference, 5);
}

void bench_checksum(struct bench *b)
{
    struct checksum c = {.b = b, .memory = map_pages(FILE_BYTES)};
    pst_context *context = open_context(b, (uint64_t)2 << 30, 0);

    memset(c.memory, 1, FILE_BYTES);
    c.cached = open_store(context, "file:///", NULL, 0);
    c.direct = open_store(context, "direct:///", NULL, 0);
    path_of(b, "checksum", c.path, sizeof c.path);
    write_file(c.path, FILE_BYTES, 3);
    compare_cached(&c);
    compare_direct(&c);
    remove_file(c.path);
    unmap_pages(c.memory, FILE_BYTES);
    pst_store_free(c.cached);
    pst_store_free(c.direct);
    pst_context_free(context);
}
