/* direct.c - 1 GiB past the page cache, in and out.
 *
 * All sides use io_uring, O_DIRECT and the same block size and depth. The plain loop's memory is huge pages
 * that were touched before, as is what Penstock reads into and writes from. fio's buffers are of 4 KiB
 * pages unless it is asked for huge ones: the kernel pins and maps O_DIRECT memory page by page, which is
 * why fio reports a third of what the disk can do.
 *
 * Penstock reads once as it comes (ranges side by side, each at the depth of the store) and once with one
 * range at a time, which is the depth of the plain loop exactly. On tmpfs O_DIRECT is accepted and means
 * a copy, so fio's pages cost little there and its rows have no target. */
#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define FILE_BYTES ((size_t)1 << 30)
#define BLOCK_BYTES ((size_t)2 << 20)
#define PART_BYTES ((size_t)16 << 20)

enum { DEPTH = 4 };

struct direct {
    struct bench *b;
    char path[4096], temp[4096];
    pst_store *store;
    pst_buffer *memory;
    char *bytes; /* of `memory` */
    struct uring *uring;
    struct fio fio;
    struct peer *s3dlio;
};

static void move_plainly(struct direct *d, const char *path, int flags, int is_write)
{
    int fd = open(path, flags | O_DIRECT | O_CLOEXEC, 0666);

    if (fd < 0)
        die("%s: errno %d", path, errno);
    uring_move(d->uring, fd, d->bytes, FILE_BYTES, BLOCK_BYTES, is_write);
    if (close(fd) != 0)
        die("%s: errno %d", path, errno);
}

static void read_plain(void *arg)
{
    struct direct *d = arg;

    start_clock();
    move_plainly(d, d->path, O_RDONLY, 0);
    stop_clock();
}

static void read_with(struct direct *d, const pst_read_options *options)
{
    size_t n = 0;
    pst_error err = PST_ERROR_INIT;

    start_clock();
    check(pst_get_into(d->store, key_of(d->path), 0, d->bytes, FILE_BYTES, options, NULL, &n, NULL,
                       &err),
          &err);
    stop_clock();
    if (n != FILE_BYTES)
        die("%s: %zu bytes", d->path, n);
}

static void read_as_it_comes(void *arg)
{
    read_with(arg, NULL);
}

static void read_one_range(void *arg)
{
    const pst_read_options options = {
        .struct_size = sizeof options, .part_bytes = FILE_BYTES, .max_in_flight = 1};

    read_with(arg, &options);
}

static void run_fio(void *arg)
{
    const struct direct *d = arg;

    if (d->fio.is_write)
        remove_file(d->path);
    fio_run(&d->fio);
}

static void run_fio_huge(void *arg)
{
    struct direct *d = arg;

    d->fio.has_huge_pages = 1;
    run_fio(d);
    d->fio.has_huge_pages = 0;
}

static void read_by_s3dlio(void *arg)
{
    const struct direct *d = arg;

    peer_do(d->s3dlio, "direct", d->path, FILE_BYTES);
}

static void write_plain(void *arg)
{
    struct direct *d = arg;

    remove_file(d->path);
    start_clock();
    move_plainly(d, d->temp, O_WRONLY | O_CREAT | O_EXCL, 1);
    if (rename(d->temp, d->path) != 0)
        die("%s: errno %d", d->path, errno);
    stop_clock();
}

static void write_as_it_comes(void *arg)
{
    const struct direct *d = arg;
    pst_writer *writer = NULL;
    pst_error err = PST_ERROR_INIT;

    remove_file(d->path);
    start_clock();
    check(pst_writer_open(d->store, key_of(d->path), NULL, NULL, &writer, &err), &err);
    for (size_t at = 0; at < FILE_BYTES; at += PART_BYTES) {
        pst_buffer *part = NULL;

        check(pst_buffer_slice(d->memory, at, PART_BYTES, &part, &err), &err);
        check(pst_writer_write_owned(writer, part, &err), &err);
        pst_buffer_unref(part);
    }
    check(pst_writer_finalize(writer, NULL, &err), &err);
    pst_writer_free(writer);
    stop_clock();
}

static void put_whole(void *arg)
{
    const struct direct *d = arg;
    const pst_iov src = {d->bytes, FILE_BYTES};
    pst_error err = PST_ERROR_INIT;

    remove_file(d->path);
    start_clock();
    check(pst_put(d->store, key_of(d->path), &src, 1, NULL, NULL, NULL, &err), &err);
    stop_clock();
}

static void compare_reads(struct direct *d)
{
    struct bench *b = d->b;
    const char *what = "`direct://` read 1 GiB";
    const double fio_target = strcmp(b->place, "disk") == 0 ? 2 : NO_TARGET;

    d->s3dlio = peer_start(b, "s3dlio");
    d->fio.is_write = 0;
    struct side sides[] = {{"plain C", read_plain, d, {0}, {0}},
                           {"Penstock", read_as_it_comes, d, {0}, {0}},
                           {"Penstock", read_one_range, d, {0}, {0}},
                           {"fio", b->has_fio ? run_fio : NULL, d, {0}, {0}},
                           {"fio, huge pages", b->has_fio ? run_fio_huge : NULL, d, {0}, {0}},
                           {"s3dlio", d->s3dlio ? read_by_s3dlio : NULL, d, {0}, {0}}};
    run_sides(sides, sizeof sides / sizeof sides[0]);
    report_speed(b, what, (double)FILE_BYTES, &sides[0], &sides[1], 0.95);
    report_speed(b, "... one range at a time", (double)FILE_BYTES, &sides[0], &sides[2], 0.95);
    report_speed(b, what, (double)FILE_BYTES, &sides[3], &sides[1], fio_target);
    report_speed(b, what, (double)FILE_BYTES, &sides[4], &sides[1], NO_TARGET);
    report_speed(b, what, (double)FILE_BYTES, &sides[5], &sides[1], NO_TARGET);
    peer_stop(d->s3dlio);
}

static void compare_writes(struct direct *d)
{
    struct bench *b = d->b;
    const char *what = "`direct://` write 1 GiB";

    d->fio.is_write = 1;
    struct side sides[] = {{"plain C", write_plain, d, {0}, {0}},
                           {"Penstock", write_as_it_comes, d, {0}, {0}},
                           {"Penstock", put_whole, d, {0}, {0}},
                           {"fio", b->has_fio ? run_fio : NULL, d, {0}, {0}}};
    run_sides(sides, sizeof sides / sizeof sides[0]);
    report_speed(b, what, (double)FILE_BYTES, &sides[0], &sides[1], 0.9);
    report_speed(b, "`direct://` put 1 GiB", (double)FILE_BYTES, &sides[0], &sides[2], 0.9);
    report_speed(b, what, (double)FILE_BYTES, &sides[3], &sides[1], NO_TARGET);
}

void bench_direct(struct bench *b)
{
    struct direct d = {.b = b, .uring = uring_new(DEPTH)};
    pst_context *context = open_context(b, (uint64_t)2 << 30, 0);
    const pst_kv options[] = {{PST_STR("block_size"), PST_STR("2MiB")},
                              {PST_STR("queue_depth"), PST_STR("4")}};
    pst_error err = PST_ERROR_INIT;

    d.store = open_store(context, "direct:///", options, 2);
    path_of(b, "direct", d.path, sizeof d.path);
    path_of(b, "direct.temp", d.temp, sizeof d.temp);
    d.fio = (struct fio){
        .path = d.path, .bytes = FILE_BYTES, .block_bytes = BLOCK_BYTES, .depth = DEPTH};
    check(pst_buffer_alloc(context, FILE_BYTES, HUGE_BYTES, &d.memory, &err), &err);
    d.bytes = pst_buffer_writable(d.memory);
    memset(d.bytes, 7, FILE_BYTES);
    write_plain(&d);
    compare_reads(&d);
    compare_writes(&d);
    remove_file(d.path);
    pst_buffer_unref(d.memory);
    uring_free(d.uring);
    pst_store_free(d.store);
    pst_context_free(context);
}
