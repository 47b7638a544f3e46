/* drive_queue.c - operations through one completion queue: one thread hands them in and takes their
 * results, however many are under way.
 *
 * A slot stands for one operation; idle slots are filled in batches, and events give them back. The clock
 * is read once for a batch handed in and once for a batch of events, so an event that waited for the
 * thread counts its wait: that is what an application with one reaping thread sees.
 *
 * An operation that fails frees its slot like any other. When the run is interrupted, or a request is
 * refused, all that is under way is cancelled and its events are awaited, because the data belongs to the
 * operations until then. Objects are read into new buffers, which are released at once. */
#include <stdio.h>
#include <stdlib.h>

#include "bench.h"

#define BATCH 64u

struct slot {
    struct bench_ticket ticket;
    uint64_t start_ns, id;
    pst_iov *spans; /* of a put */
    bool is_busy;
    char key[BENCH_KEY_MAX];
};

struct driver {
    struct bench *bench;
    pst_queue *queue;
    struct slot *slots;
    pst_iov *spans;
    uint32_t *idle; /* numbers of slots */
    uint32_t n_slots, n_idle;
};

static void fill_request(const struct driver *driver, uint32_t number, pst_request *out)
{
    const struct bench *bench = driver->bench;
    struct slot *slot = &driver->slots[number];

    *out = (pst_request){.struct_size = sizeof(*out), .store = bench->location.store};
    out->user_data = number;
    out->key = bench_key(bench, &slot->ticket, slot->key);
    out->timeout_ms = bench->cli->call.timeout_ms;
    out->max_attempts = bench->cli->call.max_attempts;
    if (slot->ticket.op == BENCH_GET) {
        out->kind = PST_REQ_GET;
        out->length = PST_UNKNOWN;
    } else {
        out->kind = PST_REQ_PUT;
        out->src = slot->spans;
        out->n_src = bench_data_cut(&bench->data, slot->ticket.serial, bench->options->size,
                                    slot->spans);
    }
}

/* Hand in as many as there is room for. */
static int submit(struct driver *driver)
{
    pst_request requests[BATCH];
    uint64_t ids[BATCH];
    uint32_t numbers[BATCH];
    bool has_more = true;

    while (has_more && driver->n_idle > 0) {
        pst_error err = PST_ERROR_INIT;
        uint64_t start_ns = bench_now_ns();
        size_t n = 0;

        for (; n < BATCH && driver->n_idle > 0; n++) {
            uint32_t number = driver->idle[driver->n_idle - 1];
            struct slot *slot = &driver->slots[number];
            has_more = bench_next(driver->bench, &slot->ticket);
            if (!has_more)
                break;
            driver->n_idle--;
            slot->start_ns = start_ns;
            numbers[n] = number;
            fill_request(driver, number, &requests[n]);
        }
        if (n == 0)
            break;
        pst_rc rc = pst_queue_submit(driver->queue, requests, n, ids, &err);
        if (rc != PST_OK)
            return cli_fail_rc(driver->bench->cli, rc, &err);
        for (size_t i = 0; i < n; i++) {
            driver->slots[numbers[i]].id = ids[i];
            driver->slots[numbers[i]].is_busy = true;
        }
    }
    return CLI_OK;
}

static void take(struct driver *driver, pst_event *event, uint64_t now_ns)
{
    const struct bench *bench = driver->bench;
    struct slot *slot = &driver->slots[event->user_data];
    struct bench_outcome outcome = {.op = slot->ticket.op, .rc = event->status};
    pst_error wrong = PST_ERROR_INIT;

    outcome.err = event->error;
    outcome.latency_ns = now_ns - slot->start_ns;
    outcome.bytes = outcome.stored_bytes = event->size;
    if (event->status == PST_OK && !bench->options->uses_existing &&
        event->size != bench->options->size) {
        outcome.rc = PST_E_DATA_LOSS;
        outcome.err = &wrong;
        snprintf(wrong.message, sizeof(wrong.message), "%.600s: wanted %llu bytes, got %llu",
                 slot->key, (unsigned long long)bench->options->size,
                 (unsigned long long)event->size);
    }
    bench_count(driver->bench, &outcome);
    slot->is_busy = false;
    driver->idle[driver->n_idle++] = (uint32_t)event->user_data;
    pst_event_fini(event);
}

/* Ask all that is under way to end; their events still come. */
static void cancel(struct driver *driver)
{
    for (uint32_t i = 0; i < driver->n_slots; i++) {
        if (driver->slots[i].is_busy)
            pst_queue_cancel(driver->queue, driver->slots[i].id);
    }
}

static int drive(struct driver *driver)
{
    struct bench *bench = driver->bench;
    bool is_cancelled = false;
    int code = submit(driver);

    while (driver->n_idle < driver->n_slots) {
        pst_event events[BATCH];
        pst_error err = PST_ERROR_INIT;
        size_t n = 0;
        pst_rc rc;

        if ((code != CLI_OK || cli_interrupted(bench->cli)) && !is_cancelled) {
            cancel(driver);
            is_cancelled = true;
        }
        rc = pst_queue_wait(driver->queue, events, BATCH, PST_UNKNOWN,
                            is_cancelled ? NULL : bench->cli->cancel, &n, &err);
        if (rc != PST_OK && rc != PST_E_CANCELLED)
            return cli_fail_rc(bench->cli, rc, &err);
        if (rc == PST_OK && n == 0)
            break; /* nothing is outstanding */
        uint64_t now_ns = bench_now_ns();
        for (size_t i = 0; i < n; i++)
            take(driver, &events[i], now_ns);
        if (code == CLI_OK && !is_cancelled)
            code = submit(driver);
    }
    return code;
}

int bench_drive_queue(struct bench *bench)
{
    struct driver driver = {.bench = bench, .n_slots = bench->options->concurrency};
    size_t n_spans = bench->data.n_bytes > 0 ? bench_data_spans(&bench->data, bench->options->size)
                                             : 1;
    pst_error err = PST_ERROR_INIT;
    int code;
    pst_rc rc = pst_queue_new(bench->cli->context, &driver.queue, &err);

    if (rc != PST_OK)
        return cli_fail_rc(bench->cli, rc, &err);
    driver.slots = cli_alloc(driver.n_slots, sizeof(*driver.slots));
    driver.idle = cli_alloc(driver.n_slots, sizeof(*driver.idle));
    driver.spans = cli_alloc(driver.n_slots, n_spans * sizeof(*driver.spans));
    for (uint32_t i = 0; i < driver.n_slots; i++) {
        driver.slots[i].spans = driver.spans + i * n_spans;
        driver.idle[driver.n_idle++] = driver.n_slots - 1 - i;
    }
    code = drive(&driver);
    pst_queue_free(driver.queue);
    free(driver.spans);
    free(driver.idle);
    free(driver.slots);
    return code;
}
