/* put.c - a streamed put of 1 GiB in pieces of 1 MiB against write and rename.
 *
 * Neither side syncs. Each file replaces the one before it and is removed between the runs, outside the
 * clock, so that both write new pages of the page cache. */
#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define FILE_BYTES ((size_t)1 << 30)
#define PIECE_BYTES ((size_t)1 << 20)

struct put {
    struct bench *b;
    char path[4096], temp[4096];
    pst_store *store;
    char *piece;
};

static void plain(void *arg)
{
    struct put *p = arg;

    remove_file(p->path);
    start_clock();
    int fd = open(p->temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0)
        die("%s: errno %d", p->temp, errno);
    for (size_t done = 0; done < FILE_BYTES;) {
        ssize_t n = write(fd, p->piece, PIECE_BYTES);

        if (n <= 0)
            die("%s: errno %d", p->temp, errno);
        done += (size_t)n;
    }
    if (close(fd) != 0 || rename(p->temp, p->path) != 0)
        die("%s: errno %d", p->path, errno);
    stop_clock();
}

static void penstock(void *arg)
{
    struct put *p = arg;
    pst_writer *writer = NULL;
    pst_error err = PST_ERROR_INIT;

    remove_file(p->path);
    start_clock();
    check(pst_writer_open(p->store, key_of(p->path), NULL, NULL, &writer, &err), &err);
    for (size_t done = 0; done < FILE_BYTES; done += PIECE_BYTES)
        check(pst_writer_write(writer, p->piece, PIECE_BYTES, &err), &err);
    check(pst_writer_finalize(writer, NULL, &err), &err);
    pst_writer_free(writer);
    stop_clock();
}

void bench_put(struct bench *b)
{
    struct put p = {.b = b, .piece = map_pages(PIECE_BYTES)};
    pst_context *context = open_context(b, 0, 0);

    memset(p.piece, 7, PIECE_BYTES);
    p.store = open_store(context, "file:///", NULL, 0);
    path_of(b, "put", p.path, sizeof p.path);
    path_of(b, "put.temp", p.temp, sizeof p.temp);
    struct side sides[] = {{"plain C", plain, &p, {0}, {0}}, {"Penstock", penstock, &p, {0}, {0}}};
    run_sides(sides, 2);
    report_speed(b, "`pst_writer` 1 GiB in pieces of 1 MiB", (double)FILE_BYTES, &sides[0],
                 &sides[1], 0.85);
    remove_file(p.path);
    unmap_pages(p.piece, PIECE_BYTES);
    pst_store_free(p.store);
    pst_context_free(context);
}
