/* zstd.c - streaming compression to a file, against libzstd alone on the same cores.
 *
 * Level 3, text that shrinks to about a third, in pieces of 1 MiB, once with one worker and once with as
 * many as there are threads. The plain side is libzstd's own streaming interface, with its own workers
 * where there are several, writing a temporary file and renaming it. Both sides make frames with a
 * checksum of the content. */
#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <zstd.h>

#define INPUT_BYTES ((size_t)128 << 20)
#define PIECE_BYTES ((size_t)1 << 20)

enum { LEVEL = 3, N_WORDS = 4096 };

struct zstd {
    struct bench *b;
    char path[4096], temp[4096];
    pst_store *store;
    char *input, *output; /* output: of output_bytes */
    size_t output_bytes;
    unsigned int n_workers;
};

/* Words by chance, short ones more often, as in prose. */
static void make_text(char *text, size_t size)
{
    static char words[N_WORDS][16];
    uint64_t x = 88172645463325252u;

    for (size_t i = 0; i < N_WORDS; i++) {
        for (size_t k = 0; k < 3 + i % 9; k++) {
            x ^= x << 13; /* xorshift64, Marsaglia 2003 */
            x ^= x >> 7;
            x ^= x << 17;
            words[i][k] = (char)('a' + (x >> 20) % 26);
        }
    }
    for (size_t at = 0; at < size;) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        const char *word = words[((x >> 20) % N_WORDS) * ((x >> 40) % 64 + 1) / 64];
        size_t n = strlen(word) < size - at ? strlen(word) : size - at;

        memcpy(text + at, word, n);
        at += n;
        if (at < size)
            text[at++] = ' ';
    }
}

static size_t must(size_t rc)
{
    if (ZSTD_isError(rc))
        die("zstd: %s", ZSTD_getErrorName(rc));
    return rc;
}

static void write_all(int fd, const char *bytes, size_t n)
{
    for (size_t done = 0; done < n;) {
        ssize_t got = write(fd, bytes + done, n - done);

        if (got <= 0)
            die("write: errno %d", errno);
        done += (size_t)got;
    }
}

static void plain(void *arg)
{
    struct zstd *z = arg;
    ZSTD_CCtx *cctx = ZSTD_createCCtx();
    size_t left = 1;

    if (cctx == NULL)
        die("out of memory");
    remove_file(z->path);
    start_clock();
    int fd = open(z->temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0)
        die("%s: errno %d", z->temp, errno);
    must(ZSTD_CCtx_setParameter(cctx, ZSTD_c_compressionLevel, LEVEL));
    must(ZSTD_CCtx_setParameter(cctx, ZSTD_c_checksumFlag, 1));
    if (z->n_workers > 1)
        must(ZSTD_CCtx_setParameter(cctx, ZSTD_c_nbWorkers, (int)z->n_workers));
    for (size_t at = 0; at < INPUT_BYTES; at += PIECE_BYTES) {
        ZSTD_inBuffer in = {z->input + at, PIECE_BYTES, 0};
        int is_last = at + PIECE_BYTES == INPUT_BYTES;

        do {
            ZSTD_outBuffer out = {z->output, z->output_bytes, 0};

            left = must(
                ZSTD_compressStream2(cctx, &out, &in, is_last ? ZSTD_e_end : ZSTD_e_continue));
            write_all(fd, z->output, out.pos);
        } while (in.pos < in.size || (is_last && left > 0));
    }
    if (close(fd) != 0 || rename(z->temp, z->path) != 0)
        die("%s: errno %d", z->path, errno);
    stop_clock();
    ZSTD_freeCCtx(cctx);
}

static void penstock(void *arg)
{
    const struct zstd *z = arg;
    const pst_write_options options = {
        .struct_size = sizeof options, .zstd_level = LEVEL, .zstd_workers = z->n_workers};
    pst_writer *writer = NULL;
    pst_error err = PST_ERROR_INIT;

    remove_file(z->path);
    start_clock();
    check(pst_writer_open(z->store, key_of(z->path), &options, NULL, &writer, &err), &err);
    for (size_t at = 0; at < INPUT_BYTES; at += PIECE_BYTES)
        check(pst_writer_write(writer, z->input + at, PIECE_BYTES, &err), &err);
    check(pst_writer_finalize(writer, NULL, &err), &err);
    pst_writer_free(writer);
    stop_clock();
}

void bench_zstd(struct bench *b)
{
    struct zstd z = {.b = b,
                     .input = map_pages(INPUT_BYTES),
                     .output_bytes = ZSTD_CStreamOutSize(),
                     .output = malloc(ZSTD_CStreamOutSize())};
    pst_context *context = open_context(b, 0, 0);
    char what[64];

    if (z.output == NULL)
        die("out of memory");
    make_text(z.input, INPUT_BYTES);
    z.store = open_store(context, "file:///", NULL, 0);
    path_of(b, "zstd.zst", z.path, sizeof z.path);
    path_of(b, "zstd.temp", z.temp, sizeof z.temp);
    for (z.n_workers = 1; z.n_workers <= b->n_threads; z.n_workers += b->n_threads - 1) {
        struct side sides[] = {{"libzstd", plain, &z, {0}, {0}},
                               {"Penstock", penstock, &z, {0}, {0}}};

        run_sides(sides, 2);
        snprintf(what, sizeof what, "zstd level 3, %u worker%s", z.n_workers,
                 z.n_workers > 1 ? "s" : "");
        report_speed(b, what, (double)INPUT_BYTES, &sides[0], &sides[1], 0.95);
        if (b->n_threads == 1)
            break;
    }
    remove_file(z.path);
    unmap_pages(z.input, INPUT_BYTES);
    free(z.output);
    pst_store_free(z.store);
    pst_context_free(context);
}
