/* big.c - penstock_big write|read URI GIB [--zstd LEVEL] [--plugins DIR]
 *
 * One stream of any length, in one process, whose peak of resident memory is what is to be shown:
 * `write` sends GIB GiB of seeded bytes that do not compress through a pst_writer, `read` fetches them
 * again through a pst_reader, decompressed where the key ends in ".zst". Beside what the library holds
 * there is one block of 1 MiB: the hash runs over the buffers that the reader hands out. All options are
 * the library's own, the memory budget too.
 *
 * Prints one line: bytes, bytes as stored, CRC-32C, peak of resident memory in KiB, seconds, CPU seconds.
 * bench/big runs it and compares. */
#include "bench.h"
#include "generate.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK_BYTES = 1 << 20, SEED = 4 };

struct stream {
    pst_store *store;
    pst_str key;
    uint64_t bytes, n_stored;
    int32_t zstd_level;
    uint32_t crc;
};

static void stream_out(struct stream *s)
{
    const pst_write_options options = {
        .struct_size = sizeof options, .size_hint = PST_UNKNOWN, .zstd_level = s->zstd_level};
    struct generator generator;
    pst_writer *writer = NULL;
    pst_write_result result = {.struct_size = sizeof result};
    pst_error err = PST_ERROR_INIT;
    char *block = map_pages(BLOCK_BYTES);

    gen_seed(&generator, SEED);
    check(pst_writer_open(s->store, s->key, &options, NULL, &writer, &err), &err);
    for (uint64_t done = 0; done < s->bytes; done += BLOCK_BYTES) {
        gen_fill(&generator, block, BLOCK_BYTES);
        s->crc = pst_crc32c(s->crc, block, BLOCK_BYTES);
        check(pst_writer_write(writer, block, BLOCK_BYTES, &err), &err);
    }
    check(pst_writer_finalize(writer, &result, &err), &err);
    pst_writer_free(writer);
    unmap_pages(block, BLOCK_BYTES);
    s->n_stored = result.size;
    if (result.bytes_written != s->bytes)
        die("%" PRIu64 " bytes were written, the writer counted %" PRIu64, s->bytes,
            result.bytes_written);
}

static void stream_in(struct stream *s)
{
    const pst_read_options options = {.struct_size = sizeof options, .decode = PST_DECODE_BY_NAME};
    pst_reader *reader = NULL;
    pst_read_info info = {.struct_size = sizeof info};
    pst_buffer *buffer = NULL;
    pst_error err = PST_ERROR_INIT;

    s->bytes = 0;
    check(pst_reader_open(s->store, s->key, 0, PST_UNKNOWN, &options, NULL, &reader, &err), &err);
    for (;;) {
        check(pst_reader_next(reader, &buffer, &err), &err);
        if (buffer == NULL)
            break;
        s->crc = pst_crc32c(s->crc, pst_buffer_data(buffer), pst_buffer_size(buffer));
        s->bytes += pst_buffer_size(buffer);
        pst_buffer_unref(buffer);
    }
    pst_reader_info(reader, &info);
    s->n_stored = info.object_size;
    pst_reader_free(reader);
}

int main(int argc, char **argv)
{
    struct bench b = {.n_threads = 1};
    struct stream s = {.crc = 0};
    const char *path = argc > 2 ? strstr(argv[2], ":///") : NULL;

    if (argc < 4 || path == NULL)
        die("usage: penstock_big write|read SCHEME:///PATH GIB [--zstd LEVEL] [--plugins DIR]");
    for (int i = 4; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--zstd") == 0)
            s.zstd_level = (int32_t)strtol(argv[i + 1], NULL, 10);
        else if (strcmp(argv[i], "--plugins") == 0)
            b.plugins = argv[i + 1];
        else
            die("do not understand '%s'", argv[i]);
    }
    s.bytes = strtoull(argv[3], NULL, 10) << 30;
    s.key = pst_str_of(path + 4, strlen(path + 4));

    pst_context *context = open_context(&b, 0, 0);
    s.store = open_store(context, argv[2], NULL, 0);
    double started_s = now_s();
    if (strcmp(argv[1], "write") == 0)
        stream_out(&s);
    else
        stream_in(&s);
    double took_s = now_s() - started_s;
    pst_store_free(s.store);
    pst_context_free(context);
    printf("%" PRIu64 " %" PRIu64 " %08" PRIx32 " %" PRIu64 " %.3f %.3f\n", s.bytes, s.n_stored,
           s.crc, read_status("VmHWM:") >> 10, took_s, cpu_s());
    return 0;
}
