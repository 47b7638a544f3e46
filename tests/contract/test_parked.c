/* Contract 2: what crosses on the way of a parked read. Being served, being cancelled and the end of
 * the plugin's own call come in the order that the test gives them, by means of the host's hooks. */
#include <semaphore.h>
#include <stdlib.h>

#include "core/core.h"
#include "core/task.h"
#include "io/get_state.h"

#include "contract.h"

#define KIB ((size_t)1 << 10)
#define BODY_BYTES (600 * KIB)
#define BUDGET_BYTES (1024 * KIB) /* one body, not two */

static char *body;

struct crossing {
    pst_context *context;
    pst_store *store;
    pst_queue *queue;
    uint64_t id; /* of the read that is cancelled */
    sem_t popped, go, rested;
    void (*granted)(struct pst_budget_waiter *);
    pst_rc (*dst)(struct pst_task *, const pst_dst_args *, pst_dst_grant *);
    int is_refused;    /* what the plugin is told in the end is CANCELLED, not LATER */
    int n_early;       /* dst_ready that came before dst had returned */
    pst_backend *busy; /* NULL: no store is BUSY */
    atomic_int is_busy;
    atomic_int n_asked, n_parked;
};

static struct crossing x;

/* What the plugin needs to ask again, in the operation's scratch. */
struct asked {
    const pst_read_args *args;
    pst_read_result *result;
};

static pst_rc ask(pst_op *op, const pst_read_args *a, pst_read_result *r)
{
    struct asked *asked = op->scratch;
    *asked = (struct asked){a, r};
    pst_rc rc = puppet_read(op, a, r);
    if (rc != PST_LATER)
        return rc;
    atomic_fetch_add(&x.n_parked, 1);
    return PST_PENDING;
}

/* The first read is granted its memory and holds it; the others are parked. */
static pst_rc park(pst_backend *b, pst_op *op, const pst_read_args *a, pst_read_result *r)
{
    (void)b;
    pst_rc rc = ask(op, a, r);
    return rc == PST_OK ? puppet_hold(op) : rc;
}

static void ask_again(pst_backend *b, pst_op *op)
{
    const struct asked *asked = op->scratch;
    (void)b;
    pst_rc rc = puppet_read(op, asked->args, asked->result);
    if (rc != PST_LATER) {
        atomic_fetch_sub(&puppet.n_outstanding, 1);
        op->host->complete(op->host, op, rc);
    }
}

static uint64_t submit_get(uint64_t user_data)
{
    const pst_request request = {.struct_size = sizeof(request),
                                 .kind = PST_REQ_GET,
                                 .user_data = user_data,
                                 .length = PST_UNKNOWN,
                                 .store = x.store,
                                 .key = object_key};
    uint64_t id = 0;
    assert_int_equal(pst_queue_submit(x.queue, &request, 1, &id, NULL), PST_OK);
    return id;
}

static void begin(void)
{
    const pst_context_options options = {.struct_size = sizeof(options),
                                         .memory_budget_bytes = BUDGET_BYTES};
    memset(&x, 0, sizeof(x));
    assert_int_equal(sem_init(&x.popped, 0, 0), 0);
    assert_int_equal(sem_init(&x.go, 0, 0), 0);
    assert_int_equal(sem_init(&x.rested, 0, 0), 0);
    puppet.body = body;
    puppet.body_len = BODY_BYTES;
    puppet.hooks.read = park;
    puppet.hooks.dst_ready = ask_again;
    x.context = puppet_context(&options);
    x.store = puppet_store(x.context, "puppet");
    assert_int_equal(pst_queue_new(x.context, &x.queue, NULL), PST_OK);
    submit_get(0);
    puppet_wait_held(1);
}

static pst_event next_event(void)
{
    pst_event event = {.status = PST_OK};
    size_t n = 0;
    assert_int_equal(pst_queue_wait(x.queue, &event, 1, 10000, NULL, &n, NULL), PST_OK);
    assert_int_equal(n, 1);
    return event;
}

static void expect_event(uint64_t user_data, pst_rc status)
{
    pst_event event = next_event();
    assert_int_equal(event.user_data, user_data);
    assert_int_equal(event.status, status);
    pst_event_fini(&event);
}

/* The event of a cancelled read comes at once; what is left of it must end by itself. */
static void wait_until_idle(void)
{
    const struct timespec tick = {.tv_nsec = 200000};
    pst_stats stats = {.struct_size = sizeof(stats)};
    for (int i = 0;; i++) {
        pst_context_stats(x.context, &stats);
        if (atomic_load(&puppet.n_outstanding) == 0 && stats.in_flight_bytes == 0)
            break;
        assert_true(i < 25000); /* 5 s */
        nanosleep(&tick, NULL);
    }
}

static void end(void)
{
    pst_queue_free(x.queue);
    pst_store_free(x.store);
    pst_context_free(x.context);
    sem_destroy(&x.popped);
    sem_destroy(&x.go);
    sem_destroy(&x.rested);
}

/* ---- served and cancelled ----------------------------------------------------------------------- */

static pst_op *parked_op;

static pst_rc park_and_note(pst_backend *b, pst_op *op, const pst_read_args *a, pst_read_result *r)
{
    parked_op = op;
    return park(b, op, a, r);
}

static void be_served_slowly(struct pst_budget_waiter *waiter)
{
    sem_post(&x.popped);
    sem_wait(&x.go);
    x.granted(waiter);
}

static void test_parked__cancel_while_it_is_being_served_is_told(void **state)
{
    (void)state;
    begin();
    puppet.hooks.read = park_and_note;
    x.id = submit_get(1);
    puppet_wait_count(&x.n_parked, 1);
    struct pst_task *task = parked_op->host_private;
    struct pst_get *get = ((struct pst_try *)task->owner)->get;
    x.granted = get->waiter.granted;
    get->waiter.granted = be_served_slowly;
    pthread_t holder = puppet_release_elsewhere(0, PST_OK);
    sem_wait(&x.popped); /* it is in line no more, and does not know yet */
    pst_queue_cancel(x.queue, x.id);
    sem_post(&x.go);
    expect_event(1, PST_E_CANCELLED);
    pthread_join(holder, NULL);
    expect_event(0, PST_OK);
    wait_until_idle();
    assert_int_equal(atomic_load(&puppet.n_dst_ready), 1);
    end();
}

/* ---- cancelled inside dst ------------------------------------------------------------------------ */

static void rest(void *arg)
{
    (void)arg;
    sem_post(&x.rested);
}

/* What the reactor was given before has been done when this returns. */
static void wait_for_reactor(struct pst_reactor *reactor)
{
    struct pst_timer timer = {.fn = rest};
    pst_reactor_arm(reactor, &timer, 0);
    sem_wait(&x.rested);
}

/* The read is in line, and the host has not told the plugin so yet. */
static pst_rc dst_with_a_cancel_inside(struct pst_task *task, const pst_dst_args *args,
                                       pst_dst_grant *grant)
{
    pst_rc rc = x.dst(task, args, grant);
    if (atomic_fetch_add(&x.n_asked, 1) > 0)
        return rc;
    pst_queue_cancel(x.queue, x.id);
    wait_for_reactor(task->port->core->reactor);
    x.n_early = atomic_load(&puppet.n_dst_ready);
    return x.is_refused ? (pst_rc)PST_E_CANCELLED : rc;
}

static pst_rc hold_unasked(pst_backend *b, pst_op *op, const pst_read_args *a, pst_read_result *r)
{
    struct asked *asked = op->scratch;
    (void)b;
    *asked = (struct asked){a, r};
    return puppet_hold(op);
}

static void cancel_inside_dst(int is_refused)
{
    begin();
    x.is_refused = is_refused;
    puppet.hooks.read = hold_unasked;
    x.id = submit_get(1);
    puppet_wait_held(2);
    pst_op *op = puppet.held[1];
    struct pst_task *task = op->host_private;
    const struct asked *asked = op->scratch;
    x.dst = task->dst;
    task->dst = dst_with_a_cancel_inside;
    pst_rc rc = puppet_read(op, asked->args, asked->result);
    assert_int_equal(x.n_early, 0);
    assert_int_equal(rc, is_refused ? (pst_rc)PST_E_CANCELLED : (pst_rc)PST_LATER);
    if (is_refused)
        puppet_release(1, rc);
    expect_event(1, PST_E_CANCELLED);
    puppet_release(0, PST_OK);
    expect_event(0, PST_OK);
    wait_until_idle();
    assert_int_equal(atomic_load(&puppet.n_dst_ready), !is_refused);
    end();
}

static void test_parked__cancel_before_later_was_said_is_told_after_it(void **state)
{
    (void)state;
    cancel_inside_dst(0);
}

static void test_parked__cancel_that_dst_answers_is_not_told_twice(void **state)
{
    (void)state;
    cancel_inside_dst(1);
}

/* ---- all at once --------------------------------------------------------------------------------- */

#define N_PARKED 8

static void test_parked__each_of_many_ends_when_cancels_cross_the_serving(void **state)
{
    (void)state;
    for (int round = 0; round < 40; round++) {
        uint64_t ids[N_PARKED];
        puppet_reset();
        begin();
        for (uint64_t i = 0; i < N_PARKED; i++)
            ids[i] = submit_get(i + 1);
        puppet_wait_count(&x.n_parked, N_PARKED);
        pthread_t holder = puppet_release_elsewhere(0, PST_OK);
        for (int i = 0; i < N_PARKED; i++)
            pst_queue_cancel(x.queue, ids[i]);
        for (int i = 0; i <= N_PARKED; i++) {
            pst_event event = next_event();
            assert_true(event.status == PST_OK || event.status == PST_E_CANCELLED);
            pst_event_fini(&event);
        }
        pthread_join(holder, NULL);
        wait_until_idle();
        end();
    }
}

/* ---- BUSY behind others ---------------------------------------------------------------------------- */

/* The other store takes one read, and is BUSY until that is told of its memory. */
static pst_rc park_one(pst_backend *b, pst_op *op, const pst_read_args *a, pst_read_result *r)
{
    if (b != x.busy)
        return park(b, op, a, r);
    if (atomic_exchange(&x.is_busy, 1))
        return PST_BUSY;
    pst_rc rc = ask(op, a, r);
    if (rc != PST_PENDING)
        atomic_store(&x.is_busy, 0);
    return rc;
}

static void unpark_one(pst_backend *b, pst_op *op)
{
    if (b == x.busy)
        atomic_store(&x.is_busy, 0);
    ask_again(b, op);
}

static uint64_t n_busy(void)
{
    pst_stats stats = {.struct_size = sizeof(stats)};
    pst_context_stats(x.context, &stats);
    return stats.busy;
}

static void test_parked__busy_store_does_not_push_the_whole_line_over_the_budget(void **state)
{
    pst_store *busy = NULL;
    (void)state;
    begin();
    puppet.hooks.read = park_one;
    puppet.hooks.dst_ready = unpark_one;
    for (uint64_t i = 0; i < N_PARKED; i++)
        submit_get(1);
    puppet_wait_count(&x.n_parked, N_PARKED);
    assert_int_equal(pst_store_open(x.context, PST_STR("puppet://other/"), NULL, 0, &busy, NULL),
                     PST_OK);
    x.busy = puppet.backend;
    pst_store *first = x.store;
    x.store = busy;
    submit_get(1);
    puppet_wait_count(&x.n_parked, N_PARKED + 1); /* behind all the others */
    submit_get(1);                                /* BUSY */
    puppet_wait_count(&puppet.n_dst_ready, 1);    /* it is impatient now */
    uint64_t since_ms = now_ms(), seen = n_busy();
    while (n_busy() < seen + N_PARKED)
        ;
    int n_served = atomic_load(&puppet.n_dst_ready);
    assert_in_range(n_served, 1, 2 + (now_ms() - since_ms) / 500);
    puppet_release(0, PST_OK);
    for (int i = 0; i < N_PARKED + 3; i++) { /* one or two of those in line came first */
        pst_event event = next_event();
        assert_int_equal(event.status, PST_OK);
        pst_event_fini(&event);
    }
    pst_store_free(first);
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CONTRACT_TEST(test_parked__cancel_while_it_is_being_served_is_told),
        CONTRACT_TEST(test_parked__cancel_before_later_was_said_is_told_after_it),
        CONTRACT_TEST(test_parked__cancel_that_dst_answers_is_not_told_twice),
        CONTRACT_TEST(test_parked__each_of_many_ends_when_cancels_cross_the_serving),
        CONTRACT_TEST(test_parked__busy_store_does_not_push_the_whole_line_over_the_budget),
    };
    body = malloc(BODY_BYTES);
    if (!body)
        return 1;
    memset(body, 'b', BODY_BYTES);
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    free(body);
    return rc;
}
