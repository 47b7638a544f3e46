/* Everything at once: operations of every kind from several threads, cancelled at random, with deadlines
 * that strike, stores that are freed and a context that is freed under them. Nothing may crash, hang or
 * deliver an event twice; the sanitizers see the rest. The seed is fixed, the timing is not. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "file_store.h"
#include "scratch.h"

#define THREADS 4u
#define ROUNDS 5u
#define ROUND_MS 700u
#define BATCH 16u
#define BYTES ((size_t)200000)

struct worker {
    pthread_t thread;
    uint64_t random;
    pst_context *context;
    pst_store *store;
    uint64_t end_ms;
    size_t n_submitted, n_reaped;
};

static char *body;

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000u + (uint64_t)now.tv_nsec / 1000000u;
}

static uint64_t next(struct worker *worker, uint64_t below) /* xorshift64, Marsaglia 2003 */
{
    worker->random ^= worker->random << 13;
    worker->random ^= worker->random >> 7;
    worker->random ^= worker->random << 17;
    return worker->random % below;
}

struct batch {
    pst_request requests[BATCH];
    char keys[BATCH][16];
    char *dst[BATCH];
    pst_iov iov[BATCH];
    uint64_t ids[BATCH];
    int n_events[BATCH];
};

static void fill(struct worker *worker, struct batch *batch)
{
    for (size_t i = 0; i < BATCH; i++) {
        pst_request *request = &batch->requests[i];
        int len = snprintf(batch->keys[i], sizeof(batch->keys[i]), "k%u",
                           (unsigned)next(worker, 20));
        *request = (pst_request){.struct_size = sizeof(*request),
                                 .kind = (uint32_t)next(worker, 5) + 1,
                                 .user_data = i,
                                 .length = PST_UNKNOWN,
                                 .timeout_ms = next(worker, 3) ? 0 : next(worker, 5) + 1,
                                 .max_attempts = 1,
                                 .store = worker->store,
                                 .key = pst_str_of(batch->keys[i], (size_t)len),
                                 .to = PST_STR("copy")};
        size_t bytes = (size_t)next(worker, BYTES) + 1;
        if (request->kind == PST_REQ_PUT) {
            batch->iov[i] = (pst_iov){body, bytes};
            request->src = &batch->iov[i];
            request->n_src = 1;
        } else if (request->kind == PST_REQ_GET && next(worker, 2)) {
            batch->iov[i] = (pst_iov){batch->dst[i], bytes};
            request->dst = &batch->iov[i];
            request->n_dst = 1;
        }
        batch->n_events[i] = 0;
    }
}

static void check_event(const pst_event *event, struct batch *batch)
{
    assert_in_range(event->user_data, 0, BATCH - 1);
    assert_int_equal(++batch->n_events[event->user_data], 1);
    if (event->status == PST_OK && event->buffer && event->size > 0)
        assert_memory_equal(pst_buffer_data(event->buffer), body, (size_t)event->size);
    if (event->status != PST_OK)
        assert_true(event->status == PST_E_NOT_FOUND || event->status == PST_E_CANCELLED ||
                    event->status == PST_E_DEADLINE || event->status == PST_E_CHANGED ||
                    event->status == PST_E_PRECONDITION || event->status == PST_E_UNAVAILABLE);
}

/* One batch: submitted, some of it cancelled, all of it reaped; or the queue is freed in the middle. */
static void run_batch(struct worker *worker, struct batch *batch)
{
    pst_queue *queue = NULL;
    pst_event event;
    size_t n = 0;
    int is_dropped = next(worker, 4) == 0;
    if (pst_queue_new(worker->context, &queue, NULL) != PST_OK)
        return; /* the context is gone */
    fill(worker, batch);
    if (pst_queue_submit(queue, batch->requests, BATCH, batch->ids, NULL) == PST_OK) {
        worker->n_submitted += BATCH;
        for (size_t i = next(worker, BATCH); i > 0; i--)
            pst_queue_cancel(queue, batch->ids[next(worker, BATCH)]);
        while (!is_dropped && pst_queue_wait(queue, &event, 1, 20000, NULL, &n, NULL) == PST_OK &&
               n == 1) {
            check_event(&event, batch);
            pst_event_fini(&event);
            worker->n_reaped++;
        }
        if (!is_dropped)
            assert_int_equal(pst_queue_outstanding(queue), 0);
        else
            worker->n_reaped += BATCH;
    }
    pst_queue_free(queue);
}

static void *run_worker(void *arg)
{
    struct worker *worker = arg;
    struct batch *batch = calloc(1, sizeof(*batch));
    assert_non_null(batch);
    for (size_t i = 0; i < BATCH; i++)
        assert_non_null(batch->dst[i] = malloc(BYTES));
    while (now_ms() < worker->end_ms)
        run_batch(worker, batch);
    for (size_t i = 0; i < BATCH; i++)
        free(batch->dst[i]);
    free(batch);
    return NULL;
}

static void one_round(const char *dir, unsigned round)
{
    struct worker workers[THREADS];
    const struct timespec middle = {.tv_nsec = ROUND_MS * 500000};
    pst_context *context = NULL;
    uint64_t end_ms = now_ms() + ROUND_MS;
    size_t n_submitted = 0, n_reaped = 0;
    assert_int_equal(file_context(&context, NULL), PST_OK);
    for (unsigned i = 0; i < THREADS; i++) {
        workers[i] = (struct worker){.random = 0x9e3779b97f4a7c15u * (round * THREADS + i + 1),
                                     .context = context,
                                     .end_ms = end_ms};
        assert_int_equal(file_store(context, dir, &workers[i].store, NULL), PST_OK);
        assert_int_equal(pthread_create(&workers[i].thread, NULL, run_worker, &workers[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++) { /* a blocking read that is cut short, now and then */
        const pst_call call = {.struct_size = sizeof(call), .timeout_ms = 1};
        pst_buffer *buffer = NULL;
        pst_rc rc = pst_get(workers[i].store, PST_STR("k1"), NULL, &call, &buffer, NULL, NULL);
        assert_true(rc == PST_OK || !buffer);
        pst_buffer_unref(buffer);
    }
    nanosleep(&middle, NULL);
    int frees_early = round % 2 == 1;
    pst_store *early = frees_early ? workers[0].store : NULL;
    if (frees_early) { /* the workers' references keep the handles good; the context answers CANCELLED */
        pst_store_ref(early);
        pst_context_free(context);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        pthread_join(workers[i].thread, NULL);
        n_submitted += workers[i].n_submitted;
        n_reaped += workers[i].n_reaped;
        pst_store_free(workers[i].store);
    }
    pst_store_free(early);
    if (!frees_early)
        pst_context_free(context);
    assert_int_equal(n_submitted, n_reaped);
    assert_true(n_submitted > 0);
}

static void test_chaos__every_event_comes_once_and_nothing_hangs(void **state)
{
    for (unsigned round = 0; round < ROUNDS; round++)
        one_round(*state, round);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_chaos__every_event_comes_once_and_nothing_hangs,
                                        scratch_setup, scratch_teardown),
    };
    body = malloc(BYTES);
    if (!body)
        return 1;
    for (size_t i = 0; i < BYTES; i++)
        body[i] = (char)(i * 2654435761u >> 13);
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    free(body);
    return rc;
}
