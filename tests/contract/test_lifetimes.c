/* Contract 1, 3, 4, 6: who may still be looked at, and by whom. */
#include "contract.h"

struct reader {
    pst_store *store;
    pst_cancel *cancel;
    char dst[10];
    atomic_int has_returned;
    pst_rc rc;
};

static void *read_into(void *arg)
{
    struct reader *r = arg;
    size_t n = 0;
    const pst_call call = {.struct_size = sizeof(call), .cancel = r->cancel};
    r->rc = pst_get_into(r->store, object_key, 0, r->dst, sizeof(r->dst), NULL, &call, &n, NULL,
                         NULL);
    atomic_store(&r->has_returned, 1);
    return NULL;
}

static pst_rc hold_read(pst_backend *b, pst_op *op, const pst_read_args *a, pst_read_result *r)
{
    (void)b;
    (void)a;
    (void)r;
    return puppet_hold(op);
}

/* 3. The call returns when nothing can write to the caller's memory any more, not before. */
static void test_get_into__cancel_returns_only_after_the_completion(void **state)
{
    struct reader r = {0};
    pthread_t thread;
    (void)state;
    puppet.hooks.read = hold_read;
    pst_context *context = puppet_context(NULL);
    r.store = puppet_store(context, "puppet");
    assert_int_equal(pst_cancel_new(&r.cancel), PST_OK);
    pthread_create(&thread, NULL, read_into, &r);
    puppet_wait_held(1);
    pst_cancel_fire(r.cancel);
    puppet_wait_count(&puppet.n_cancels, 1);
    for (int i = 0; i < 200; i++) { /* the reader had its chance to leave */
        const struct timespec tick = {.tv_nsec = 1000000};
        nanosleep(&tick, NULL);
        assert_int_equal(atomic_load(&r.has_returned), 0);
    }
    puppet_release(0, PST_E_CANCELLED);
    pthread_join(thread, NULL);
    assert_int_equal(r.rc, PST_E_CANCELLED);
    pst_cancel_free(r.cancel);
    pst_store_free(r.store);
    pst_context_free(context);
}

/* 3. Without a promise of prompt cancel the plugin never sees the caller's memory. */
static const void *seen_dst;

static pst_rc note_dst(pst_backend *b, pst_op *op, const pst_read_args *a, pst_read_result *r)
{
    (void)b;
    seen_dst = a->n_dst > 0 ? a->dst[0].ptr : NULL;
    return puppet_read(op, a, r);
}

static void test_get_into__slow_plugin_reads_into_memory_of_the_host(void **state)
{
    char dst[10];
    size_t n = 0;
    (void)state;
    puppet.hooks.read = note_dst;
    puppet.caps &= ~PST_CAP_CANCEL_BOUNDED;
    pst_context *context = puppet_context(NULL);
    pst_store *store = puppet_store(context, "puppet");
    assert_int_equal(
        pst_get_into(store, object_key, 0, dst, sizeof(dst), NULL, NULL, &n, NULL, NULL), PST_OK);
    assert_int_equal(n, 10);
    assert_memory_equal(dst, "0123456789", 10);
    assert_ptr_not_equal(seen_dst, dst);
    pst_store_free(store);
    pst_context_free(context);
}

/* 4. close comes when nothing is outstanding, and once. */
static void test_close__waits_for_an_operation_that_is_slow_to_end(void **state)
{
    pst_error err = PST_ERROR_INIT;
    pst_queue *queue;
    (void)state;
    puppet.hooks.read = hold_read;
    pst_context *context = puppet_context(NULL);
    pst_store *store = puppet_store(context, "puppet");
    assert_int_equal(pst_queue_new(context, &queue, &err), PST_OK);
    const pst_request request = {.struct_size = sizeof(request),
                                 .kind = PST_REQ_GET,
                                 .length = PST_UNKNOWN,
                                 .store = store,
                                 .key = object_key};
    assert_int_equal(pst_queue_submit(queue, &request, 1, NULL, &err), PST_OK);
    puppet_wait_held(1);
    pst_queue_free(queue); /* drops the event; the operation is still at the plugin */
    pst_store_free(store);
    assert_int_equal(atomic_load(&puppet.n_closed), 0);
    pthread_t thread = puppet_release_elsewhere(0, PST_E_CANCELLED);
    pthread_join(thread, NULL);
    puppet_wait_count(&puppet.n_closed, 1);
    assert_int_equal(atomic_load(&puppet.closed_while_outstanding), 0);
    pst_context_free(context);
    assert_int_equal(atomic_load(&puppet.n_closed), 1);
}

/* 4. A cancel that comes while submit is on the stack waits until it has answered PENDING. */
static atomic_int cancels_during_submit;

static pst_rc wait_in_submit(pst_backend *b, pst_op *op, const pst_read_args *a, pst_read_result *r)
{
    const struct timespec tick = {.tv_nsec = 1000000};
    (void)b;
    (void)a;
    (void)r;
    pst_rc rc = puppet_hold(op);
    for (int i = 0; i < 150 && atomic_load(&puppet.n_cancels) == 0; i++)
        nanosleep(&tick, NULL); /* the deadline of the request strikes meanwhile */
    atomic_store(&cancels_during_submit, atomic_load(&puppet.n_cancels));
    return rc;
}

static void complete_cancelled(pst_backend *b, pst_op *op)
{
    (void)b;
    (void)op;
    if (atomic_load(&puppet.n_cancels) == 1)
        puppet_release(0, PST_E_CANCELLED);
}

static void test_cancel__never_runs_before_submit_has_returned(void **state)
{
    pst_error err = PST_ERROR_INIT;
    pst_queue *queue;
    pst_event event;
    size_t n = 0;
    (void)state;
    puppet.hooks.read = wait_in_submit;
    puppet.hooks.cancel = complete_cancelled;
    pst_context *context = puppet_context(NULL);
    pst_store *store = puppet_store(context, "puppet");
    assert_int_equal(pst_queue_new(context, &queue, &err), PST_OK);
    const pst_request request = {.struct_size = sizeof(request),
                                 .kind = PST_REQ_GET,
                                 .length = PST_UNKNOWN,
                                 .timeout_ms = 20,
                                 .store = store,
                                 .key = object_key};
    assert_int_equal(pst_queue_submit(queue, &request, 1, NULL, &err), PST_OK);
    assert_int_equal(pst_queue_wait(queue, &event, 1, 10000, NULL, &n, &err), PST_OK);
    assert_int_equal(n, 1);
    assert_int_equal(event.status, PST_E_DEADLINE);
    pst_event_fini(&event);
    assert_int_equal(atomic_load(&cancels_during_submit), 0);
    pst_queue_free(queue);
    pst_store_free(store);
    pst_context_free(context);
    assert_int_equal(atomic_load(&puppet.n_cancels), 1);
}

/* 6. What lies behind struct_size does not exist. */
static void test_tables__the_tail_of_a_shorter_one_is_never_read(void **state)
{
    pst_buffer *buffer = NULL;
    (void)state;
    pst_context *context = puppet_context(NULL);
    pst_store *store = puppet_store(context, "serial");
    assert_int_equal(pst_get(store, object_key, NULL, NULL, &buffer, NULL, NULL), PST_OK);
    pst_buffer_unref(buffer);
    pst_store_free(store);
    pst_context_free(context); /* would call shutdown, if there were one */
    assert_int_equal(atomic_load(&puppet.n_beyond), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CONTRACT_TEST(test_get_into__cancel_returns_only_after_the_completion),
        CONTRACT_TEST(test_get_into__slow_plugin_reads_into_memory_of_the_host),
        CONTRACT_TEST(test_close__waits_for_an_operation_that_is_slow_to_end),
        CONTRACT_TEST(test_cancel__never_runs_before_submit_has_returned),
        CONTRACT_TEST(test_tables__the_tail_of_a_shorter_one_is_never_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
