/* Contract 5, 7, 13, 20 and R7: how operations get to a plugin, and how often. */
#include "contract.h"

static pst_queue *queue;

static void submit(pst_store *store, uint64_t user_data)
{
    const pst_request request = {.struct_size = sizeof(request),
                                 .kind = PST_REQ_GET,
                                 .user_data = user_data,
                                 .length = PST_UNKNOWN,
                                 .store = store,
                                 .key = object_key};
    assert_int_equal(pst_queue_submit(queue, &request, 1, NULL, NULL), PST_OK);
}

static pst_rc reap(void)
{
    pst_event event;
    size_t n = 0;
    assert_int_equal(pst_queue_wait(queue, &event, 1, 5000, NULL, &n, NULL), PST_OK);
    assert_int_equal(n, 1);
    pst_rc rc = event.status;
    pst_event_fini(&event);
    return rc;
}

static pst_rc hold(pst_backend *b, pst_op *op, const pst_read_args *a, pst_read_result *r)
{
    (void)b;
    (void)a;
    (void)r;
    return puppet_hold(op);
}

/* 7. wake comes between the submit and its BUSY, while another operation is outstanding: not lost. */
static pst_rc busy_after_wake(pst_backend *b, pst_op *op, const pst_read_args *a,
                              pst_read_result *r)
{
    int n = atomic_load(&puppet.n_submits);
    if (n == 1)
        return puppet_hold(op);
    if (n == 2) {
        op->host->wake(op->host, b);
        return PST_BUSY;
    }
    return puppet_read(op, a, r);
}

static void test_busy__wake_before_the_answer_is_not_lost(void **state)
{
    (void)state;
    puppet.hooks.read = busy_after_wake;
    pst_context *context = puppet_context(NULL);
    pst_store *store = puppet_store(context, "puppet");
    assert_int_equal(pst_queue_new(context, &queue, NULL), PST_OK);
    submit(store, 1);
    puppet_wait_held(1);
    submit(store, 2);
    assert_int_equal(reap(), PST_OK); /* the first one is still held */
    puppet_release(0, PST_E_NOT_FOUND);
    assert_int_equal(reap(), PST_E_NOT_FOUND);
    pst_queue_free(queue);
    pst_store_free(store);
    pst_context_free(context);
}

/* 7. BUSY with nothing outstanding is tried again without any wake. */
static pst_rc busy_twice(pst_backend *b, pst_op *op, const pst_read_args *a, pst_read_result *r)
{
    (void)b;
    return atomic_load(&puppet.n_submits) <= 2 ? (pst_rc)PST_BUSY : puppet_read(op, a, r);
}

static void test_busy__nothing_outstanding_is_retried_anyway(void **state)
{
    (void)state;
    puppet.hooks.read = busy_twice;
    pst_context *context = puppet_context(NULL);
    pst_store *store = puppet_store(context, "puppet");
    assert_int_equal(pst_queue_new(context, &queue, NULL), PST_OK);
    submit(store, 1);
    assert_int_equal(reap(), PST_OK);
    pst_queue_free(queue);
    pst_store_free(store);
    pst_context_free(context);
}

/* 7. Scratch is zero at every submit. */
static pst_rc dirty_then_busy(pst_backend *b, pst_op *op, const pst_read_args *a,
                              pst_read_result *r)
{
    static const char zeros[64];
    (void)b;
    assert_memory_equal(op->scratch, zeros, sizeof(zeros));
    memset(op->scratch, 0xa5, sizeof(zeros));
    return atomic_load(&puppet.n_submits) == 1 ? (pst_rc)PST_BUSY : puppet_read(op, a, r);
}

static void test_scratch__is_zero_again_after_busy(void **state)
{
    (void)state;
    puppet.hooks.read = dirty_then_busy;
    pst_context *context = puppet_context(NULL);
    pst_store *store = puppet_store(context, "puppet");
    assert_int_equal(pst_queue_new(context, &queue, NULL), PST_OK);
    submit(store, 1);
    assert_int_equal(reap(), PST_OK);
    assert_int_equal(atomic_load(&puppet.n_submits), 2);
    pst_queue_free(queue);
    pst_store_free(store);
    pst_context_free(context);
}

/* 7. Who got PENDING flushes before it sleeps. */
static void test_flush__follows_a_batch_of_pending_submits(void **state)
{
    (void)state;
    puppet.hooks.read = hold;
    pst_context *context = puppet_context(NULL);
    pst_store *store = puppet_store(context, "puppet");
    assert_int_equal(pst_queue_new(context, &queue, NULL), PST_OK);
    submit(store, 1);
    assert_int_equal(atomic_load(&puppet.n_held), 1);
    assert_int_equal(atomic_load(&puppet.n_flushes), 1);
    puppet_release(0, PST_E_NOT_FOUND);
    assert_int_equal(reap(), PST_E_NOT_FOUND);
    pst_queue_free(queue);
    pst_store_free(store);
    pst_context_free(context);
}

/* 13. A serial plugin has one operation outstanding, from submit to completion. */
static void test_serial__one_operation_at_a_time(void **state)
{
    (void)state;
    puppet.hooks.read = hold;
    pst_context *context = puppet_context(NULL);
    pst_store *store = puppet_store(context, "serial");
    assert_int_equal(pst_queue_new(context, &queue, NULL), PST_OK);
    for (uint64_t i = 0; i < 5; i++)
        submit(store, i);
    for (int i = 0; i < 5; i++) {
        puppet_wait_held(i + 1);
        assert_int_equal(atomic_load(&puppet.n_held), i + 1);
        pthread_t thread = puppet_release_elsewhere(i, PST_E_NOT_FOUND);
        pthread_join(thread, NULL);
        assert_int_equal(reap(), PST_E_NOT_FOUND);
    }
    assert_int_equal(atomic_load(&puppet.max_outstanding), 1);
    pst_queue_free(queue);
    pst_store_free(store);
    pst_context_free(context);
}

/* 13. Jobs of one store that hang leave threads for the others. */
static atomic_int stuck_go, n_stuck;

static void hang(void *arg)
{
    const struct timespec tick = {.tv_nsec = 1000000};
    pst_op *op = arg;
    atomic_fetch_add(&n_stuck, 1);
    while (!atomic_load(&stuck_go))
        nanosleep(&tick, NULL);
    atomic_fetch_sub(&puppet.n_outstanding, 1);
    op->host->complete(op->host, op, PST_E_NOT_FOUND);
}

static void finish_now(void *arg)
{
    pst_op *op = arg;
    atomic_fetch_sub(&puppet.n_outstanding, 1);
    op->host->complete(op->host, op, PST_E_EXISTS);
}

/* A call without a limit does the work of a blocking plugin itself; so does a window of one. */
struct pool_read {
    pst_op *op;
    const pst_read_args *args;
    pst_read_result *result;
};
static pthread_t reader;
static atomic_int n_elsewhere;

static void read_in_job(void *arg)
{
    struct pool_read *job = arg;
    if (!pthread_equal(pthread_self(), reader))
        atomic_fetch_add(&n_elsewhere, 1);
    atomic_fetch_sub(&puppet.n_outstanding, 1);
    job->op->host->complete(job->op->host, job->op, puppet_read(job->op, job->args, job->result));
}

static pst_rc read_on_pool(pst_backend *b, pst_op *op, const pst_read_args *a, pst_read_result *r)
{
    struct pool_read *job = op->host->op_alloc(op->host, op, sizeof(*job));
    (void)b;
    *job = (struct pool_read){op, a, r};
    pst_rc rc = op->host->exec(op->host, op, PST_POOL_BLOCKING, read_in_job, job);
    return rc == PST_OK ? (pst_rc)PST_PENDING : rc;
}

static void test_pool__who_waits_without_a_limit_does_the_work(void **state)
{
    const pst_many_options one = {.struct_size = sizeof(one), .max_in_flight = 1};
    const pst_call limited = {.struct_size = sizeof(limited), .timeout_ms = 60000};
    pst_get_item items[50];
    pst_get_result results[50];
    pst_buffer *buffer = NULL;
    (void)state;
    reader = pthread_self();
    atomic_store(&n_elsewhere, 0);
    puppet.hooks.read = read_on_pool;
    pst_context *context = puppet_context(NULL);
    pst_store *store = puppet_store(context, "puppet");
    assert_int_equal(pst_get(store, object_key, NULL, NULL, &buffer, NULL, NULL), PST_OK);
    pst_buffer_unref(buffer);
    for (size_t i = 0; i < 50; i++)
        items[i] = (pst_get_item){.key = object_key, .length = PST_UNKNOWN};
    assert_int_equal(pst_get_many(store, items, 50, &one, NULL, results, NULL), PST_OK);
    pst_get_results_free(results, 50);
    assert_int_equal(atomic_load(&n_elsewhere), 0);
    assert_int_equal(pst_get(store, object_key, NULL, &limited, &buffer, NULL, NULL), PST_OK);
    pst_buffer_unref(buffer);
    assert_int_equal(atomic_load(&n_elsewhere), 1); /* it must be able to leave */
    pst_store_free(store);
    pst_context_free(context);
}

static pst_backend *healthy;

static pst_rc run_on_pool(pst_backend *b, pst_op *op, const pst_read_args *a, pst_read_result *r)
{
    (void)a;
    (void)r;
    pst_rc rc = op->host->exec(op->host, op, PST_POOL_BLOCKING, b == healthy ? finish_now : hang,
                               op);
    return rc == PST_OK ? (pst_rc)PST_PENDING : rc;
}

static void test_pool__a_store_that_hangs_leaves_threads_for_others(void **state)
{
    const pst_context_options options = {.struct_size = sizeof(options), .blocking_threads = 4};
    (void)state;
    atomic_store(&stuck_go, 0);
    atomic_store(&n_stuck, 0);
    puppet.hooks.read = run_on_pool;
    pst_context *context = puppet_context(&options);
    pst_store *sick = puppet_store(context, "puppet");
    pst_store *well = NULL;
    pst_error err = PST_ERROR_INIT;
    assert_int_equal(pst_store_open(context, PST_STR("puppet://other/"), NULL, 0, &well, &err),
                     PST_OK);
    healthy = puppet.backend;
    assert_int_equal(pst_queue_new(context, &queue, NULL), PST_OK);
    for (uint64_t i = 0; i < 8; i++)
        submit(sick, i);
    puppet_wait_count(&n_stuck, 3);
    submit(well, 100);
    assert_int_equal(reap(), PST_E_EXISTS);
    assert_int_equal(atomic_load(&n_stuck), 3); /* three quarters of four */
    atomic_store(&stuck_go, 1);
    for (int i = 0; i < 8; i++)
        assert_int_equal(reap(), PST_E_NOT_FOUND);
    pst_queue_free(queue);
    pst_store_free(sick);
    pst_store_free(well);
    pst_context_free(context);
}

/* 13. Reads that may wait for memory take turns with everything else. */
static pst_rc hold_stat(pst_backend *b, pst_op *op, const pst_stat_args *a, pst_attr *r)
{
    (void)b;
    (void)a;
    (void)r;
    return puppet_hold(op);
}

static atomic_int n_reads;

static pst_rc count_read(pst_backend *b, pst_op *op, const pst_read_args *a, pst_read_result *r)
{
    (void)b;
    atomic_fetch_add(&n_reads, 1);
    return puppet_read(op, a, r);
}

static void test_lines__read_is_not_starved_by_what_needs_no_memory(void **state)
{
    const pst_context_options options = {.struct_size = sizeof(options), .max_in_flight = 2};
    (void)state;
    atomic_store(&n_reads, 0);
    puppet.hooks.stat = hold_stat;
    puppet.hooks.read = count_read;
    pst_context *context = puppet_context(&options);
    pst_store *store = puppet_store(context, "puppet");
    const pst_request stat = {
        .struct_size = sizeof(stat), .kind = PST_REQ_STAT, .store = store, .key = object_key};
    assert_int_equal(pst_queue_new(context, &queue, NULL), PST_OK);
    for (int i = 0; i < 8; i++)
        assert_int_equal(pst_queue_submit(queue, &stat, 1, NULL, NULL), PST_OK);
    submit(store, 1);
    puppet_release(0, PST_E_NOT_FOUND);
    puppet_release(1, PST_E_NOT_FOUND);
    assert_int_equal(reap(), PST_E_NOT_FOUND);
    puppet_wait_count(&n_reads, 1); /* six others wait in front of it */
    for (int i = 2; i < 8; i++) {
        puppet_wait_held(i + 1);
        puppet_release(i, PST_E_NOT_FOUND);
    }
    for (int i = 0; i < 8; i++)
        reap();
    pst_queue_free(queue);
    pst_store_free(store);
    pst_context_free(context);
}

/* 7. A job of the plugin's own that never ends, such as its loop, holds nothing up. */
static atomic_int both_in_line, second_came, job_ended;

static void complete_and_stay(void *arg)
{
    const struct timespec tick = {.tv_nsec = 1000000};
    pst_op *op = arg;
    puppet_wait_count(&both_in_line, 1); /* so that this completion is what sets the second off */
    op->host->complete(op->host, op, PST_E_NOT_FOUND);
    for (int i = 0; i < 5000 && !atomic_load(&second_came); i++)
        nanosleep(&tick, NULL);
    atomic_store(&job_ended, 1);
}

static pst_rc first_from_a_loop(pst_backend *b, pst_op *op, const pst_read_args *a,
                                pst_read_result *r)
{
    (void)b;
    if (atomic_load(&puppet.n_submits) > 1) {
        atomic_store(&second_came, atomic_load(&job_ended) ? 2 : 1);
        return puppet_read(op, a, r);
    }
    atomic_fetch_sub(&puppet.n_outstanding, 1);
    pst_rc rc = op->host->exec(op->host, NULL, PST_POOL_BLOCKING, complete_and_stay, op);
    return rc == PST_OK ? (pst_rc)PST_PENDING : rc;
}

static void test_exec__endless_job_does_not_hold_up_the_next_submit(void **state)
{
    const pst_context_options options = {.struct_size = sizeof(options), .max_in_flight = 1};
    (void)state;
    atomic_store(&both_in_line, 0);
    atomic_store(&second_came, 0);
    atomic_store(&job_ended, 0);
    puppet.hooks.read = first_from_a_loop;
    pst_context *context = puppet_context(&options);
    pst_store *store = puppet_store(context, "puppet");
    assert_int_equal(pst_queue_new(context, &queue, NULL), PST_OK);
    submit(store, 1);
    submit(store, 2);
    atomic_store(&both_in_line, 1);
    assert_int_equal(reap(), PST_E_NOT_FOUND);
    assert_int_equal(reap(), PST_OK);
    assert_int_equal(atomic_load(&second_came), 1);
    puppet_wait_count(&job_ended, 1);
    pst_queue_free(queue);
    pst_store_free(store);
    pst_context_free(context);
}

/* 20 and R7. Attempts are counted; transient failures are repeated. */
static uint32_t attempts[8];

static pst_rc fail_twice(pst_backend *b, pst_op *op, const pst_read_args *a, pst_read_result *r)
{
    int n = atomic_load(&puppet.n_submits);
    (void)b;
    if (n <= 8)
        attempts[n - 1] = op->attempt;
    if (n > 2)
        return puppet_read(op, a, r);
    op->err->flags |= PST_ERR_RETRYABLE;
    return PST_E_UNAVAILABLE;
}

static void test_retry__attempts_are_numbered_until_one_succeeds(void **state)
{
    pst_buffer *buffer = NULL;
    (void)state;
    puppet.hooks.read = fail_twice;
    pst_context *context = puppet_context(NULL);
    pst_store *store = puppet_store(context, "puppet");
    assert_int_equal(pst_get(store, object_key, NULL, NULL, &buffer, NULL, NULL), PST_OK);
    assert_int_equal(attempts[0], 1);
    assert_int_equal(attempts[1], 2);
    assert_int_equal(attempts[2], 3);
    pst_buffer_unref(buffer);
    pst_store_free(store);
    pst_context_free(context);
}

static pst_rc fail_for_good(pst_backend *b, pst_op *op, const pst_read_args *a, pst_read_result *r)
{
    (void)b;
    (void)op;
    (void)a;
    (void)r;
    return PST_E_DENIED;
}

static void test_retry__what_is_not_transient_is_not_repeated(void **state)
{
    pst_buffer *buffer = NULL;
    (void)state;
    puppet.hooks.read = fail_for_good;
    pst_context *context = puppet_context(NULL);
    pst_store *store = puppet_store(context, "puppet");
    assert_int_equal(pst_get(store, object_key, NULL, NULL, &buffer, NULL, NULL), PST_E_DENIED);
    assert_int_equal(atomic_load(&puppet.n_submits), 1);
    pst_store_free(store);
    pst_context_free(context);
}

static pst_rc ask_for_patience(pst_backend *b, pst_op *op, const pst_read_args *a,
                               pst_read_result *r)
{
    (void)b;
    if (atomic_load(&puppet.n_submits) > 1)
        return puppet_read(op, a, r);
    op->err->flags |= PST_ERR_RETRYABLE;
    op->err->retry_after_ms = 300001;
    return PST_E_THROTTLED;
}

/* A store that names an hour would keep a call without a deadline for an hour. */
static void test_retry__more_than_five_minutes_are_not_waited_for(void **state)
{
    pst_error err = PST_ERROR_INIT;
    pst_buffer *buffer = NULL;
    (void)state;
    puppet.hooks.read = ask_for_patience;
    pst_context *context = puppet_context(NULL);
    pst_store *store = puppet_store(context, "puppet");
    assert_int_equal(pst_get(store, object_key, NULL, NULL, &buffer, NULL, &err), PST_E_THROTTLED);
    assert_int_equal(err.retry_after_ms, 300001);
    assert_int_equal(atomic_load(&puppet.n_submits), 1);
    pst_store_free(store);
    pst_context_free(context);
}

/* 1 and R7. A conditional write that may have been applied is never repeated blindly. */
static pst_rc lose_the_reply(pst_backend *b, pst_op *op, const pst_put_args *a, pst_put_result *r)
{
    (void)b;
    (void)a;
    (void)r;
    op->err->flags |= PST_ERR_RETRYABLE | PST_ERR_MAYBE_APPLIED;
    return PST_E_UNAVAILABLE;
}

static void test_retry__conditional_put_with_a_lost_reply_runs_once(void **state)
{
    const pst_write_options options = {.struct_size = sizeof(options),
                                       .flags = PST_WRITE_CREATE_ONLY};
    const pst_call call = {.struct_size = sizeof(call), .max_attempts = 3};
    pst_error err = PST_ERROR_INIT;
    char bytes[] = "x";
    const pst_iov src = {bytes, 1};
    (void)state;
    puppet.hooks.put = lose_the_reply;
    pst_context *context = puppet_context(NULL);
    pst_store *store = puppet_store(context, "puppet");
    assert_int_equal(pst_put(store, object_key, &src, 1, &options, &call, NULL, &err),
                     PST_E_UNAVAILABLE);
    assert_int_equal(atomic_load(&puppet.n_submits), 1);
    assert_true(err.flags & PST_ERR_MAYBE_APPLIED);
    assert_int_equal(pst_put(store, object_key, &src, 1, NULL, &call, NULL, &err),
                     PST_E_UNAVAILABLE);
    assert_int_equal(atomic_load(&puppet.n_submits), 4); /* without a condition: three attempts */
    pst_store_free(store);
    pst_context_free(context);
}

static pst_rc lose_the_first_reply(pst_backend *b, pst_op *op, const pst_put_args *a,
                                   pst_put_result *r)
{
    (void)b;
    (void)a;
    (void)r;
    op->err->flags |= PST_ERR_RETRYABLE;
    if (op->attempt == 1)
        op->err->flags |= PST_ERR_MAYBE_APPLIED;
    return PST_E_UNAVAILABLE;
}

/* 1. Nobody listens any more when it is sent again: the first may have been applied all the same. */
static void test_retry__a_lost_reply_is_remembered_by_the_attempts_after_it(void **state)
{
    const pst_call call = {.struct_size = sizeof(call), .max_attempts = 3};
    pst_error err = PST_ERROR_INIT;
    char bytes[] = "x";
    const pst_iov src = {bytes, 1};
    (void)state;
    puppet.hooks.put = lose_the_first_reply;
    pst_context *context = puppet_context(NULL);
    pst_store *store = puppet_store(context, "puppet");
    assert_int_equal(pst_put(store, object_key, &src, 1, NULL, &call, NULL, &err),
                     PST_E_UNAVAILABLE);
    assert_int_equal(atomic_load(&puppet.n_submits), 3);
    assert_true(err.flags & PST_ERR_MAYBE_APPLIED);
    pst_store_free(store);
    pst_context_free(context);
}

static pst_rc lose_a_reply_and_look(pst_backend *b, pst_op *op, const pst_put_args *a,
                                    pst_put_result *r)
{
    (void)b;
    (void)a;
    (void)r;
    assert_int_equal(op->flags, op->attempt == 1 ? 0 : PST_OP_REPEATABLE);
    op->flags |= PST_OP_REPEATABLE;
    op->err->flags |= PST_ERR_RETRYABLE;
    if (op->attempt == 1)
        op->err->flags |= PST_ERR_MAYBE_APPLIED;
    return PST_E_UNAVAILABLE;
}

/* 1. The plugin knows its own work: the condition may be tried again, and the doubt stays. */
static void test_retry__plugin_that_looks_may_repeat_a_conditional_put(void **state)
{
    const pst_write_options options = {.struct_size = sizeof(options),
                                       .flags = PST_WRITE_CREATE_ONLY};
    const pst_call call = {.struct_size = sizeof(call), .max_attempts = 3};
    pst_error err = PST_ERROR_INIT;
    char bytes[] = "x";
    const pst_iov src = {bytes, 1};
    (void)state;
    puppet.hooks.put = lose_a_reply_and_look;
    pst_context *context = puppet_context(NULL);
    pst_store *store = puppet_store(context, "puppet");
    assert_int_equal(pst_put(store, object_key, &src, 1, &options, &call, NULL, &err),
                     PST_E_UNAVAILABLE);
    assert_int_equal(atomic_load(&puppet.n_submits), 3);
    assert_true(err.flags & PST_ERR_MAYBE_APPLIED);
    pst_store_free(store);
    pst_context_free(context);
}

/* 5. A key whose status the plugin forgets counts as not deleted. */
static pst_rc forget_second(pst_backend *b, pst_op *op, const pst_remove_args *a,
                            pst_remove_result *r)
{
    (void)b;
    (void)op;
    assert_int_equal(a->n_keys, 3);
    r->status[0] = PST_OK;
    r->status[2] = PST_OK;
    return PST_OK;
}

static void test_remove__forgotten_key_is_a_failure(void **state)
{
    const pst_str keys[] = {PST_STR("a"), PST_STR("b"), PST_STR("c")};
    pst_rc statuses[3] = {1, 1, 1};
    (void)state;
    puppet.hooks.remove = forget_second;
    pst_context *context = puppet_context(NULL);
    pst_store *store = puppet_store(context, "puppet");
    assert_int_equal(pst_delete_many(store, keys, NULL, 3, NULL, statuses, NULL), PST_E_INTERNAL);
    assert_int_equal(statuses[0], PST_OK);
    assert_int_equal(statuses[1], PST_E_INTERNAL);
    assert_int_equal(statuses[2], PST_OK);
    pst_store_free(store);
    pst_context_free(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CONTRACT_TEST(test_busy__wake_before_the_answer_is_not_lost),
        CONTRACT_TEST(test_busy__nothing_outstanding_is_retried_anyway),
        CONTRACT_TEST(test_scratch__is_zero_again_after_busy),
        CONTRACT_TEST(test_flush__follows_a_batch_of_pending_submits),
        CONTRACT_TEST(test_serial__one_operation_at_a_time),
        CONTRACT_TEST(test_pool__who_waits_without_a_limit_does_the_work),
        CONTRACT_TEST(test_pool__a_store_that_hangs_leaves_threads_for_others),
        CONTRACT_TEST(test_lines__read_is_not_starved_by_what_needs_no_memory),
        CONTRACT_TEST(test_exec__endless_job_does_not_hold_up_the_next_submit),
        CONTRACT_TEST(test_retry__attempts_are_numbered_until_one_succeeds),
        CONTRACT_TEST(test_retry__what_is_not_transient_is_not_repeated),
        CONTRACT_TEST(test_retry__more_than_five_minutes_are_not_waited_for),
        CONTRACT_TEST(test_retry__conditional_put_with_a_lost_reply_runs_once),
        CONTRACT_TEST(test_retry__plugin_that_looks_may_repeat_a_conditional_put),
        CONTRACT_TEST(test_retry__a_lost_reply_is_remembered_by_the_attempts_after_it),
        CONTRACT_TEST(test_remove__forgotten_key_is_a_failure),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
