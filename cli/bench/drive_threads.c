/* drive_threads.c - operations on threads, one under way on each: listings, and transfers that a queue
 * cannot describe (parts of a given length, compression).
 *
 * Each thread takes the next operation, carries it out by one blocking call, or a writer from open to
 * finalize, and counts it. What is written is lent to the writer, not copied. An interruption ends the
 * calls through the run's token. Fewer threads than asked for would be another benchmark, so a thread
 * that cannot be started fails the run, after those that could are done. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../flow.h"
#include "bench.h"

/* ---- operations --------------------------------------------------------------------------------- */

static pst_rc run_get(const struct bench *bench, pst_str key, struct bench_outcome *outcome,
                      pst_error *err)
{
    const struct bench_options *options = bench->options;
    pst_read_options read = {.struct_size = sizeof(read),
                             .part_bytes = cli_read_part(options->part_bytes)};
    pst_read_info info = {.struct_size = sizeof(info)};
    pst_buffer *buffer = NULL;
    pst_rc rc;

    read.decode = options->zstd_level ? PST_DECODE_ZSTD : PST_DECODE_NEVER;
    rc = pst_get(bench->location.store, key, &read, &bench->cli->call, &buffer, &info, err);
    if (rc == PST_OK) {
        outcome->bytes = pst_buffer_size(buffer);
        outcome->stored_bytes = info.object_size;
    }
    pst_buffer_unref(buffer);
    return rc;
}

static void count_release(void *arg)
{
    atomic_fetch_sub((atomic_size_t *)arg, 1);
}

/* Append a span without a copy. */
static pst_rc write_span(const struct bench *bench, pst_writer *writer, const pst_iov *span,
                         pst_error *err)
{
    pst_buffer *buffer = NULL;
    pst_rc rc = pst_buffer_wrap(span->ptr, span->len, count_release, bench->n_lent, &buffer, err);

    if (rc != PST_OK)
        return rc;
    atomic_fetch_add(bench->n_lent, 1);
    rc = pst_writer_write_owned(writer, buffer, err);
    pst_buffer_unref(buffer);
    return rc;
}

static pst_rc run_put(const struct bench *bench, pst_str key, const pst_iov *spans, size_t n_spans,
                      struct bench_outcome *outcome, pst_error *err)
{
    const struct bench_options *options = bench->options;
    pst_write_options write = {.struct_size = sizeof(write), .size_hint = options->size};
    pst_write_result result = {.struct_size = sizeof(result)};
    pst_writer *writer = NULL;
    pst_rc rc;

    write.part_bytes = options->part_bytes;
    write.zstd_level = options->zstd_level;
    rc = pst_writer_open(bench->location.store, key, &write, &bench->cli->call, &writer, err);
    for (size_t i = 0; i < n_spans && rc == PST_OK; i++)
        rc = write_span(bench, writer, &spans[i], err);
    if (rc == PST_OK)
        rc = pst_writer_finalize(writer, &result, err);
    pst_writer_free(writer);
    outcome->bytes = options->size;
    outcome->stored_bytes = result.size;
    return rc;
}

static pst_rc run_list(const struct bench *bench, struct bench_outcome *outcome, pst_error *err)
{
    const char *prefix = bench->folder ? bench->folder : bench->below;
    pst_list_options options = {.struct_size = sizeof(options), .flags = PST_LISTING_RECURSIVE};
    const pst_entry *entries = NULL;
    pst_list *list = NULL;
    size_t n = 0;
    pst_rc rc = pst_list_open(bench->location.store, pst_str_of(prefix, strlen(prefix)), &options,
                              &list, err);

    while (rc == PST_OK) {
        rc = pst_list_page(list, &bench->cli->call, &entries, &n, err);
        if (rc != PST_OK || n == 0)
            break;
        outcome->entries += n;
    }
    pst_list_free(list);
    return rc;
}

/* ---- threads ------------------------------------------------------------------------------------ */

/* What came is not what was written: the store counts for nothing then. */
static pst_rc check_amount(const struct bench *bench, const struct bench_outcome *outcome,
                           pst_str key, pst_error *err)
{
    const struct bench_options *options = bench->options;
    bool is_list = outcome->op == BENCH_LIST;
    uint64_t wanted = is_list ? bench->n_made : options->size;
    uint64_t got = is_list ? outcome->entries : outcome->bytes;

    if (options->uses_existing || wanted == got)
        return PST_OK;
    snprintf(err->message, sizeof(err->message), "%.*s: wanted %llu %s, got %llu",
             is_list ? (int)strlen(bench->folder) : (int)key.len, is_list ? bench->folder : key.ptr,
             (unsigned long long)wanted, is_list ? "entries" : "bytes", (unsigned long long)got);
    return PST_E_DATA_LOSS;
}

static void *work(void *arg)
{
    struct bench *bench = arg;
    size_t n_spans = bench->data.n_bytes > 0 ? bench_data_spans(&bench->data, bench->options->size)
                                             : 1;
    pst_iov *spans = cli_alloc(n_spans, sizeof(*spans));
    char text[BENCH_KEY_MAX];
    struct bench_ticket ticket;

    while (bench_next(bench, &ticket)) {
        struct bench_outcome outcome = {.op = ticket.op};
        pst_error err = PST_ERROR_INIT;
        pst_str key = {0};
        uint64_t start_ns;

        if (ticket.op != BENCH_LIST)
            key = bench_key(bench, &ticket, text);
        start_ns = bench_now_ns();
        if (ticket.op == BENCH_GET)
            outcome.rc = run_get(bench, key, &outcome, &err);
        else if (ticket.op == BENCH_LIST)
            outcome.rc = run_list(bench, &outcome, &err);
        else
            outcome.rc = run_put(
                bench, key, spans,
                bench_data_cut(&bench->data, ticket.serial, bench->options->size, spans), &outcome,
                &err);
        outcome.latency_ns = bench_now_ns() - start_ns;
        if (outcome.rc == PST_OK)
            outcome.rc = check_amount(bench, &outcome, key, &err);
        outcome.err = &err;
        bench_count(bench, &outcome);
    }
    free(spans);
    return NULL;
}

int bench_drive_threads(struct bench *bench)
{
    uint32_t n = 0;
    pthread_t *threads = cli_alloc(bench->options->concurrency, sizeof(*threads));
    int failure = 0;

    while (n < bench->options->concurrency && failure == 0) {
        failure = pthread_create(&threads[n], NULL, work, bench);
        n += failure == 0;
    }
    for (uint32_t i = 0; i < n; i++)
        pthread_join(threads[i], NULL);
    free(threads);
    return failure ? cli_fail_errno(bench->cli, failure, "thread %u of %u", n + 1,
                                    bench->options->concurrency)
                   : CLI_OK;
}
