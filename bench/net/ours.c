/* ours.c - bench_ours ENDPOINT BUCKET [NAME=VALUE...]: Penstock's side of the race, from C.
 *
 * get is pst_get, many is pst_get_many, lat the same objects through the queue, where each has its own
 * clock, put is a writer that takes the bytes where they are, puts are puts through the queue. Options of
 * the store follow the bucket. */
#include "side.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <penstock/penstock.h>

enum { EVENTS = 64, PIECE_BYTES = 8 << 20 };

static pst_context *context;
static pst_store *store;
static pst_buffer *buffer;
static pst_get_result *results;
static pst_buffer **buffers;
static size_t n_results, n_buffers;

static void check(pst_rc rc, const pst_error *err)
{
    if (rc != PST_OK)
        die("%s", err->message);
}

static pst_str str(const char *text)
{
    return pst_str_of(text, strlen(text));
}

static void run_get(const struct work *work)
{
    pst_error err = PST_ERROR_INIT;
    double began_s = now_s();

    check(pst_get(store, str(work->items[0].key), NULL, NULL, &buffer, NULL, &err), &err);
    work->latencies_s[0] = now_s() - began_s;
}

static void run_many(const struct work *work)
{
    pst_error err = PST_ERROR_INIT;
    pst_many_options options = {.struct_size = sizeof options, .max_in_flight = work->n_in_flight};
    pst_get_item *items = calloc(work->n_items, sizeof *items);

    n_results = work->n_items;
    results = calloc(n_results, sizeof *results);
    if (items == NULL || results == NULL)
        die("no memory for the list");
    for (size_t i = 0; i < work->n_items; i++) {
        const struct item *item = &work->items[i];

        items[i].key = str(item->key);
        items[i].offset = item->offset < 0 ? 0 : (uint64_t)item->offset;
        items[i].length = item->offset < 0 ? PST_UNKNOWN : item->bytes;
    }
    check(pst_get_many(store, items, work->n_items, &options, NULL, results, &err), &err);
    free(items);
}

/* The payload, for interfaces that would also take memory to write to. */
static void *lent(uint64_t bytes)
{
    union {
        const char *borrowed;
        void *lent;
    } either = {.borrowed = payload(bytes)};
    return either.lent;
}

static void fill_request(pst_request *request, const struct work *work, size_t i, pst_iov *src)
{
    const struct item *item = &work->items[i];

    memset(request, 0, sizeof *request);
    request->struct_size = sizeof *request;
    request->user_data = i;
    request->store = store;
    request->key = str(item->key);
    if (work->verb[0] == 'p') {
        request->kind = PST_REQ_PUT;
        src->ptr = lent(item->bytes);
        src->len = item->bytes;
        request->src = src;
        request->n_src = 1;
    } else {
        request->kind = PST_REQ_GET;
        request->offset = item->offset < 0 ? 0 : (uint64_t)item->offset;
        request->length = item->offset < 0 ? PST_UNKNOWN : item->bytes;
    }
}

/* A window of requests, each with its own clock. */
static void run_queue(const struct work *work)
{
    pst_error err = PST_ERROR_INIT;
    pst_queue *queue = NULL;
    pst_event events[EVENTS];
    pst_request requests[EVENTS];
    pst_iov src[EVENTS];
    size_t next = 0, n_done = 0;

    buffers = calloc(work->n_items, sizeof(pst_buffer *));
    n_buffers = work->n_items;
    check(pst_queue_new(context, &queue, &err), &err);
    while (n_done < work->n_items) {
        while (next < work->n_items && next - n_done < work->n_in_flight) {
            size_t n = 0, first = next;

            for (; n < EVENTS && next < work->n_items && next - n_done < work->n_in_flight; n++)
                fill_request(&requests[n], work, next++, &src[n]);
            double now = now_s();
            for (size_t i = 0; i < n; i++)
                work->latencies_s[first + i] = now;
            check(pst_queue_submit(queue, requests, n, NULL, &err), &err);
        }
        size_t n = 0;
        check(pst_queue_wait(queue, events, EVENTS, PST_UNKNOWN, NULL, &n, &err), &err);
        double now = now_s();
        for (size_t i = 0; i < n; i++) {
            check(events[i].status, events[i].error);
            work->latencies_s[events[i].user_data] = now - work->latencies_s[events[i].user_data];
            buffers[events[i].user_data] = events[i].buffer;
            events[i].buffer = NULL;
            pst_event_fini(&events[i]);
        }
        n_done += n;
    }
    pst_queue_free(queue);
}

/* The bytes are in memory already: they are handed over in pieces of 8 MiB, as a producer would. */
static void run_put(const struct work *work)
{
    pst_error err = PST_ERROR_INIT;
    pst_writer *writer = NULL;
    pst_buffer *whole = NULL;

    check(pst_buffer_wrap(lent(work->total_bytes), work->total_bytes, NULL, NULL, &whole, &err),
          &err);
    check(pst_writer_open(store, str(work->items[0].key), NULL, NULL, &writer, &err), &err);
    for (uint64_t at = 0; at < work->total_bytes; at += PIECE_BYTES) {
        uint64_t n = work->total_bytes - at < PIECE_BYTES ? work->total_bytes - at : PIECE_BYTES;
        pst_buffer *piece = NULL;

        check(pst_buffer_slice(whole, at, n, &piece, &err), &err);
        check(pst_writer_write_owned(writer, piece, &err), &err);
        pst_buffer_unref(piece);
    }
    check(pst_writer_finalize(writer, NULL, &err), &err);
    pst_writer_free(writer);
    pst_buffer_unref(whole);
}

static void run(const struct work *work)
{
    if (strcmp(work->verb, "get") == 0)
        run_get(work);
    else if (strcmp(work->verb, "many") == 0)
        run_many(work);
    else if (strcmp(work->verb, "put") == 0)
        run_put(work);
    else
        run_queue(work);
}

static void drop(void)
{
    pst_buffer_unref(buffer);
    buffer = NULL;
    if (results != NULL)
        pst_get_results_free(results, n_results);
    free(results);
    results = NULL;
    for (size_t i = 0; i < n_buffers; i++)
        pst_buffer_unref(buffers[i]);
    free(buffers);
    buffers = NULL;
    n_buffers = 0;
}

int main(int argc, char **argv)
{
    pst_error err = PST_ERROR_INIT;
    pst_kv options[32];
    char uri[256];
    size_t n = 0;

    if (argc < 3 || argc > 32)
        die("usage: bench_ours ENDPOINT BUCKET [NAME=VALUE...]");
    options[n].key = PST_STR("endpoint");
    options[n++].value = str(argv[1]);
    for (int i = 3; i < argc; i++) {
        char *sign = strchr(argv[i], '=');

        if (sign == NULL)
            die("%s is not NAME=VALUE", argv[i]);
        options[n].key = pst_str_of(argv[i], (size_t)(sign - argv[i]));
        options[n++].value = str(sign + 1);
    }
    snprintf(uri, sizeof uri, "s3://%s/", argv[2]);
    check(pst_context_new(NULL, &context, &err), &err);
    check(pst_store_open(context, str(uri), options, n, &store, &err), &err);
    serve(run, drop);
    pst_store_free(store);
    pst_context_free(context);
    return 0;
}
