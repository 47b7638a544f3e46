/* Contract 3, 4 and 7: a cancel reaches its operation wherever that is, and what waits is woken. */
#include <stdlib.h>

#include "contract.h"

#include "core/store.h"
#include "io/get.h"

static pst_context *context;
static pst_store *store;
static pst_queue *queue;

static void open_all(const pst_context_options *options)
{
    context = puppet_context(options);
    store = puppet_store(context, "puppet");
    assert_int_equal(pst_queue_new(context, &queue, NULL), PST_OK);
}

static void close_all(void)
{
    pst_queue_free(queue);
    pst_store_free(store);
    pst_context_free(context);
}

static pst_request get_request(uint64_t user_data)
{
    return (pst_request){.struct_size = sizeof(pst_request),
                         .kind = PST_REQ_GET,
                         .user_data = user_data,
                         .length = PST_UNKNOWN,
                         .store = store,
                         .key = object_key};
}

static uint64_t submit(const pst_request *request)
{
    uint64_t id = 0;
    assert_int_equal(pst_queue_submit(queue, request, 1, &id, NULL), PST_OK);
    return id;
}

static pst_event reap(void)
{
    pst_event event;
    size_t n = 0;
    assert_int_equal(pst_queue_wait(queue, &event, 1, 5000, NULL, &n, NULL), PST_OK);
    assert_int_equal(n, 1);
    return event;
}

static pst_rc hold_read(pst_backend *b, pst_op *op, const pst_read_args *a, pst_read_result *r)
{
    (void)b;
    (void)a;
    (void)r;
    return puppet_hold(op);
}

/* ---- before it began -------------------------------------------------------------------------- */

static atomic_int n_ended;
static pst_rc ended_with;

static void note_end(struct pst_get *get, pst_rc rc)
{
    (void)get;
    ended_with = rc;
    atomic_fetch_add(&n_ended, 1);
}

static void test_get__stopped_before_it_began_never_reaches_the_plugin(void **state)
{
    struct pst_port *port = NULL;
    (void)state;
    atomic_store(&n_ended, 0);
    open_all(NULL);
    assert_int_equal(pst_store_port(store, &port, NULL), PST_OK);
    const struct pst_get_spec spec = {
        .port = port, .key = object_key, .length = PST_UNKNOWN, .done = note_end};
    struct pst_get *get = pst_get_new(&spec);
    assert_non_null(get);
    pst_get_stop(get, PST_E_DEADLINE);
    pst_get_start(get);
    puppet_wait_count(&n_ended, 1);
    assert_int_equal(ended_with, PST_E_DEADLINE);
    assert_int_equal(atomic_load(&puppet.n_submits), 0);
    pst_get_unref(get);
    pst_port_unref(port);
    close_all();
}

/* ---- while it is submitted, and BUSY ----------------------------------------------------------- */

static pst_rc busy_when_cancelled(pst_backend *b, pst_op *op, const pst_read_args *a,
                                  pst_read_result *r)
{
    const struct timespec tick = {.tv_nsec = 1000000};
    (void)b;
    (void)a;
    (void)r;
    if (atomic_load(&puppet.n_submits) == 1)
        return puppet_hold(op);
    for (int i = 0; i < 100; i++) /* the deadline of this one strikes meanwhile */
        nanosleep(&tick, NULL);
    return PST_BUSY;
}

static void test_cancel__operation_answered_busy_ends_although_another_hangs(void **state)
{
    char dst[10];
    const pst_iov iov = {dst, sizeof(dst)};
    (void)state;
    puppet.hooks.read = busy_when_cancelled;
    open_all(NULL);
    pst_request first = get_request(1), second = get_request(2);
    second.timeout_ms = 20;
    second.dst = &iov; /* pinned: its event waits for its end */
    second.n_dst = 1;
    submit(&first);
    puppet_wait_held(1);
    submit(&second);
    pst_event event = reap();
    assert_int_equal(event.user_data, 2);
    assert_int_equal(event.status, PST_E_DEADLINE);
    pst_event_fini(&event);
    puppet_release(0, PST_E_NOT_FOUND);
    event = reap();
    pst_event_fini(&event);
    close_all();
}

/* ---- from a completion ------------------------------------------------------------------------- */

static _Thread_local int is_completing;
static atomic_int n_on_top;

static pst_rc hold_ranges(pst_backend *b, pst_op *op, const pst_read_args *a, pst_read_result *r)
{
    (void)b;
    return a->offset == 0 ? puppet_read(op, a, r) : puppet_hold(op);
}

static void note_cancel(pst_backend *b, pst_op *op)
{
    (void)b;
    (void)op;
    atomic_fetch_add(&n_on_top, is_completing);
}

static void test_cancel__is_never_called_on_top_of_a_completion(void **state)
{
    const pst_context_options options = {.struct_size = sizeof(options), .first_read_bytes = 4};
    (void)state;
    atomic_store(&n_on_top, 0);
    puppet.limits.io_preferred = 3;
    puppet.hooks.read = hold_ranges;
    puppet.hooks.cancel = note_cancel;
    open_all(&options);
    pst_request request = get_request(1);
    submit(&request);
    puppet_wait_held(2);
    is_completing = 1;
    puppet_release(0, PST_E_IO); /* the other range is of no use now */
    is_completing = 0;
    puppet_wait_count(&puppet.n_cancels, 1);
    puppet_release(1, PST_E_CANCELLED);
    pst_event event = reap();
    assert_int_equal(event.status, PST_E_IO);
    pst_event_fini(&event);
    close_all();
    assert_int_equal(atomic_load(&n_on_top), 0);
    assert_int_equal(atomic_load(&puppet.n_cancels), 1);
}

static void test_cancel__is_passed_on_once_however_often_it_is_asked_for(void **state)
{
    (void)state;
    puppet.hooks.read = hold_read;
    open_all(NULL);
    pst_request request = get_request(1);
    uint64_t id = submit(&request);
    puppet_wait_held(1);
    pst_queue_cancel(queue, id);
    pst_event event = reap();
    assert_int_equal(event.status, PST_E_CANCELLED);
    pst_event_fini(&event);
    pst_queue_cancel(queue, id); /* nobody of that name any more */
    pst_store_free(pst_store_ref(store));
    puppet_release(0, PST_E_CANCELLED);
    close_all();
    assert_int_equal(atomic_load(&puppet.n_cancels), 1);
}

/* ---- what a cut says --------------------------------------------------------------------------- */

static pst_rc hold_copy(pst_backend *b, pst_op *op, const pst_copy_args *a, pst_put_result *r)
{
    (void)b;
    (void)a;
    (void)r;
    return puppet_hold(op);
}

/* 1. A write that was cut short at the plugin may have been applied. */
static void test_cancel__write_left_at_the_plugin_may_have_been_applied(void **state)
{
    const pst_call call = {.struct_size = sizeof(call), .timeout_ms = 20};
    pst_error err = PST_ERROR_INIT;
    (void)state;
    puppet.hooks.copy = hold_copy;
    open_all(NULL);
    assert_int_equal(pst_copy(store, object_key, store, PST_STR("to"), NULL, &call, NULL, &err),
                     PST_E_DEADLINE);
    assert_true(err.flags & PST_ERR_MAYBE_APPLIED);
    pst_request request = get_request(1);
    request.kind = PST_REQ_COPY;
    request.to = PST_STR("to");
    uint64_t id = submit(&request);
    puppet_wait_held(2);
    pst_queue_cancel(queue, id);
    pst_event event = reap();
    assert_int_equal(event.status, PST_E_CANCELLED);
    assert_true(event.error->flags & PST_ERR_MAYBE_APPLIED);
    pst_event_fini(&event);
    puppet_release(0, PST_E_CANCELLED);
    puppet_release(1, PST_E_CANCELLED);
    close_all();
}

/* ---- the size of a put ------------------------------------------------------------------------- */

static pst_rc put_in_silence(pst_backend *b, pst_op *op, const pst_put_args *a, pst_put_result *r)
{
    (void)b;
    (void)op;
    (void)a;
    (void)r; /* the size stays unknown */
    return PST_OK;
}

static pst_rc hold_stat(pst_backend *b, pst_op *op, const pst_stat_args *a, pst_attr *r)
{
    (void)b;
    (void)a;
    (void)r;
    return puppet_hold(op);
}

static void test_put__check_of_its_size_can_be_cancelled(void **state)
{
    char bytes[] = "0123456789";
    const pst_iov src = {bytes, 10};
    (void)state;
    puppet.hooks.put = put_in_silence;
    puppet.hooks.stat = hold_stat;
    open_all(NULL);
    pst_request request = get_request(1);
    request.kind = PST_REQ_PUT;
    request.src = &src;
    request.n_src = 1;
    uint64_t id = submit(&request);
    puppet_wait_held(1);
    pst_queue_cancel(queue, id);
    pst_event event = reap();
    assert_int_equal(event.status, PST_E_CANCELLED);
    assert_true(event.error->flags & PST_ERR_MAYBE_APPLIED);
    pst_event_fini(&event);
    assert_int_equal(atomic_load(&puppet.n_cancels), 1);
    puppet_release(0, PST_E_CANCELLED);
    close_all();
}

static uint32_t n_sums_seen;

static pst_rc note_sums(pst_backend *b, pst_op *op, const pst_put_args *a, pst_put_result *r)
{
    (void)b;
    (void)op;
    n_sums_seen = a->n_sums;
    r->size = a->src[0].len;
    return PST_OK;
}

/* 11. What the store wants a sum of comes with one, from the queue too. */
static void test_put__store_that_wants_a_sum_gets_it_from_the_queue(void **state)
{
    char bytes[] = "123456789";
    const pst_iov src = {bytes, 9};
    (void)state;
    n_sums_seen = 0;
    puppet.want_sums = 1u << PST_SUM_CRC32C;
    puppet.hooks.put = note_sums;
    open_all(NULL);
    pst_request request = get_request(1);
    request.kind = PST_REQ_PUT;
    request.src = &src;
    request.n_src = 1;
    submit(&request);
    pst_event event = reap();
    assert_int_equal(event.status, PST_OK);
    assert_int_equal(n_sums_seen, 1);
    pst_event_fini(&event);
    close_all();
}

/* ---- memory of the caller ---------------------------------------------------------------------- */

struct lent {
    char bytes[10];
    int is_released, was_filled;
};

static void take_back(void *arg)
{
    struct lent *lent = arg;
    lent->is_released++;
    lent->was_filled = memcmp(lent->bytes, "0123456789", 10) == 0;
}

/* 3. release means that nothing touches the memory any more: the copy at the reaper's comes first. */
static void test_release__follows_the_copy_that_reaping_makes(void **state)
{
    struct lent lent = {{0}, 0, 0};
    const pst_iov iov = {lent.bytes, sizeof(lent.bytes)};
    (void)state;
    puppet.caps &= ~PST_CAP_CANCEL_BOUNDED;
    open_all(NULL);
    pst_request request = get_request(1);
    request.dst = &iov;
    request.n_dst = 1;
    request.release = take_back;
    request.release_arg = &lent;
    submit(&request);
    pst_event event = reap();
    assert_int_equal(event.status, PST_OK);
    assert_int_equal(lent.is_released, 1);
    assert_true(lent.was_filled);
    pst_event_fini(&event);
    close_all();
}

static void test_request__longest_timeout_is_no_timeout(void **state)
{
    (void)state;
    open_all(NULL);
    pst_request request = get_request(1);
    request.timeout_ms = PST_UNKNOWN;
    submit(&request);
    pst_event event = reap();
    assert_int_equal(event.status, PST_OK);
    pst_event_fini(&event);
    close_all();
}

/* ---- who sleeps -------------------------------------------------------------------------------- */

static atomic_int n_asleep, n_events;

static void *reap_for_ever(void *arg)
{
    pst_event event;
    size_t n = 0;
    (void)arg;
    atomic_fetch_add(&n_asleep, 1);
    if (pst_queue_wait(queue, &event, 1, 8000, NULL, &n, NULL) == PST_OK && n == 1) {
        atomic_fetch_add(&n_events, 1);
        pst_event_fini(&event);
    }
    return NULL;
}

/* 7. The last event wakes everybody who waits for one: no other will come. */
static void test_wait__second_reaper_leaves_when_nothing_is_outstanding(void **state)
{
    const struct timespec moment = {.tv_nsec = 100000000};
    pthread_t threads[3];
    (void)state;
    atomic_store(&n_asleep, 0);
    atomic_store(&n_events, 0);
    puppet.hooks.read = hold_read;
    open_all(NULL);
    pst_request request = get_request(1);
    submit(&request);
    for (int i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, reap_for_ever, NULL), 0);
    puppet_wait_count(&n_asleep, 3);
    nanosleep(&moment, NULL); /* all the way down; too short a time only weakens the test */
    uint64_t start_ms = now_ms();
    puppet_release(0, PST_E_NOT_FOUND);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    assert_true(now_ms() - start_ms < 5000);
    assert_int_equal(atomic_load(&n_events), 1);
    close_all();
}

static void end_cancelled(pst_backend *b, pst_op *op)
{
    (void)b;
    for (int i = 0; i < atomic_load(&puppet.n_held); i++) {
        if (puppet.held[i] == op)
            puppet_release(i, PST_E_CANCELLED);
    }
}

static void *deny_first(void *arg)
{
    (void)arg;
    puppet_wait_held(2);
    puppet_release(0, PST_E_DENIED);
    return NULL;
}

static void test_get_many__first_failure_stops_those_under_way(void **state)
{
    const pst_many_options many = {
        .struct_size = sizeof(many), .flags = PST_MANY_STOP_AT_FIRST, .max_in_flight = 2};
    const pst_get_item items[] = {{.key = object_key, .length = PST_UNKNOWN},
                                  {.key = object_key, .length = PST_UNKNOWN}};
    pst_get_result results[2];
    pst_rc rc = PST_OK;
    pthread_t thread;
    (void)state;
    puppet.hooks.read = hold_read;
    puppet.hooks.cancel = end_cancelled;
    open_all(NULL);
    assert_int_equal(pthread_create(&thread, NULL, deny_first, NULL), 0);
    rc = pst_get_many(store, items, 2, &many, NULL, results, NULL);
    pthread_join(thread, NULL);
    assert_int_equal(rc, PST_E_DENIED);
    assert_int_equal(results[1].status, PST_E_CANCELLED);
    pst_get_results_free(results, 2);
    close_all();
}

/* Reads that end where they are started do not pile up on the stack. */
static void test_get_many__hundred_thousand_empty_ranges_need_no_stack(void **state)
{
    enum { N = 100000 };
    pst_get_item *items = calloc(N, sizeof(*items));
    pst_get_result *results = calloc(N, sizeof(*results));
    (void)state;
    assert_non_null(items);
    assert_non_null(results);
    open_all(NULL);
    for (size_t i = 0; i < N; i++)
        items[i] = (pst_get_item){.key = object_key};
    assert_int_equal(pst_get_many(store, items, N, NULL, NULL, results, NULL), PST_OK);
    pst_get_results_free(results, N);
    free(items);
    free(results);
    close_all();
}

/* Twenty thousand that wait are cancelled in a time that grows with their number, not its square. */
static void test_store_free__many_waiting_operations_are_cancelled_quickly(void **state)
{
    enum { N = 20000 };
    const pst_context_options options = {.struct_size = sizeof(options), .max_in_flight = 1};
    pst_request *requests = calloc(N, sizeof(*requests));
    (void)state;
    assert_non_null(requests);
    puppet.hooks.read = hold_read;
    open_all(&options);
    for (size_t i = 0; i < N; i++)
        requests[i] = get_request(i);
    uint64_t start_ms = now_ms();
    assert_int_equal(pst_queue_submit(queue, requests, N, NULL, NULL), PST_OK);
    uint64_t submit_ms = now_ms() - start_ms;
    puppet_wait_held(1);
    start_ms = now_ms();
    pst_queue_free(queue);
    pst_store_free(store); /* waits a second for the one at the plugin */
    assert_true(now_ms() - start_ms < 2000 + 20 * submit_ms);
    puppet_release(0, PST_E_CANCELLED);
    pst_context_free(context);
    free(requests);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CONTRACT_TEST(test_get__stopped_before_it_began_never_reaches_the_plugin),
        CONTRACT_TEST(test_cancel__operation_answered_busy_ends_although_another_hangs),
        CONTRACT_TEST(test_cancel__is_never_called_on_top_of_a_completion),
        CONTRACT_TEST(test_cancel__is_passed_on_once_however_often_it_is_asked_for),
        CONTRACT_TEST(test_cancel__write_left_at_the_plugin_may_have_been_applied),
        CONTRACT_TEST(test_put__check_of_its_size_can_be_cancelled),
        CONTRACT_TEST(test_put__store_that_wants_a_sum_gets_it_from_the_queue),
        CONTRACT_TEST(test_release__follows_the_copy_that_reaping_makes),
        CONTRACT_TEST(test_request__longest_timeout_is_no_timeout),
        CONTRACT_TEST(test_wait__second_reaper_leaves_when_nothing_is_outstanding),
        CONTRACT_TEST(test_get_many__first_failure_stops_those_under_way),
        CONTRACT_TEST(test_get_many__hundred_thousand_empty_ranges_need_no_stack),
        CONTRACT_TEST(test_store_free__many_waiting_operations_are_cancelled_quickly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
