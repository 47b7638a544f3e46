/* data.c - bytes that no store can compress, made before anything is measured. */
#include <errno.h>
#include <sys/mman.h>

#include "bench.h"

#define HUGE_BYTES ((size_t)2 << 20)
#define STEP_BYTES 4096u  /* objects start on a page: O_DIRECT takes them as they are */
#define FINE_BYTES 64u    /* ... and between pages once those are used up */
#define STARTS_MAX 16384u /* 64 MiB of starts */
#define OBJECT_BYTES_MAX ((uint64_t)256 << 20) /* what is longer repeats itself */

uint64_t bench_random(uint64_t seed)
{
    seed += 0x9e3779b97f4a7c15u;
    seed = (seed ^ (seed >> 30)) * 0xbf58476d1ce4e5b9u;
    seed = (seed ^ (seed >> 27)) * 0x94d049bb133111ebu;
    return seed ^ (seed >> 31);
}

int bench_data_make(struct cli *cli, uint64_t size, uint64_t count, uint64_t seed,
                    struct bench_data *out)
{
    uint64_t longest = size < OBJECT_BYTES_MAX ? size : OBJECT_BYTES_MAX;
    char *raw;

    out->n_starts = count < STARTS_MAX ? count : STARTS_MAX;
    out->n_bytes = (size_t)(out->n_starts * STEP_BYTES + longest);
    out->n_bytes = (out->n_bytes + HUGE_BYTES) / HUGE_BYTES * HUGE_BYTES;
    out->mapped_bytes = out->n_bytes + HUGE_BYTES;
    raw = mmap(NULL, out->mapped_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (raw == MAP_FAILED)
        return cli_fail_errno(cli, errno, "%zu bytes of data", out->n_bytes);
    out->bytes = raw + (HUGE_BYTES - (uintptr_t)raw % HUGE_BYTES) % HUGE_BYTES;
    if (out->bytes > raw)
        munmap(raw, (size_t)(out->bytes - raw));
    out->mapped_bytes -= (size_t)(out->bytes - raw);
    madvise(out->bytes, out->n_bytes, MADV_HUGEPAGE); /* advice: small pages do too */
    uint64_t *words = (uint64_t *)(void *)out->bytes;
    for (size_t i = 0; i < out->n_bytes / sizeof(*words); i++)
        words[i] = bench_random(seed + i * 0x9e3779b97f4a7c15u);
    return CLI_OK;
}

void bench_data_free(struct bench_data *data)
{
    if (data->bytes)
        munmap(data->bytes, data->mapped_bytes);
    data->bytes = NULL;
}

size_t bench_data_spans(const struct bench_data *data, uint64_t size)
{
    return (size_t)(size / data->n_bytes) + 2;
}

size_t bench_data_cut(const struct bench_data *data, uint64_t index, uint64_t size, pst_iov *out)
{
    size_t at = (size_t)(index % data->n_starts * STEP_BYTES +
                         index / data->n_starts % (STEP_BYTES / FINE_BYTES) * FINE_BYTES);
    size_t n = 0;

    do {
        uint64_t left = data->n_bytes - at;
        out[n].ptr = data->bytes + at;
        out[n].len = (size_t)(size < left ? size : left);
        size -= out[n++].len;
        at = 0;
    } while (size > 0);
    return n;
}
