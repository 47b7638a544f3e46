/* Threads that wait and could work: who runs which job, and who is woken for it. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/pool.h"
#include "core/reactor.h"
#include "memstore.h"

#define MIB ((size_t)1 << 20)
#define SECOND_NS 1000000000u

/* ---- the pool --------------------------------------------------------------------------------- */

static struct {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    char order[16];
    size_t n;
    pthread_t threads[16];
} ran = {.mutex = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static void note(void *name)
{
    pthread_mutex_lock(&ran.mutex);
    ran.threads[ran.n] = pthread_self();
    ran.order[ran.n++] = *(const char *)name;
    pthread_cond_signal(&ran.changed);
    pthread_mutex_unlock(&ran.mutex);
}

static void wait_ran(size_t n)
{
    pthread_mutex_lock(&ran.mutex);
    while (ran.n < n)
        pthread_cond_wait(&ran.changed, &ran.mutex);
    pthread_mutex_unlock(&ran.mutex);
}

static struct pst_job jobs[16];
static const char names[] = "0123456789abcdef";
static const char crew[1], others[1];

static int32_t queue(struct pst_pool *pool, struct pst_share *share, size_t i, const void *whose)
{
    union {
        const char *borrowed;
        void *arg;
    } name = {.borrowed = &names[i]};
    jobs[i] = (struct pst_job){.fn = note, .arg = name.arg, .crew = whose};
    return pst_pool_run(pool, share, &jobs[i]);
}

static int reset_ran(void **state)
{
    (void)state;
    memset(ran.order, 0, sizeof(ran.order));
    ran.n = 0;
    return 0;
}

static void test_help__own_jobs_run_here_and_start_no_thread(void **state)
{
    struct pst_pool *pool;
    struct pst_share share;
    (void)state;
    assert_int_equal(pst_pool_new(4, &pool), 0);
    pst_share_init(pool, &share);
    for (size_t i = 0; i < 3; i++) {
        pst_pool_enter(pool);
        assert_int_equal(queue(pool, &share, i, crew), 0);
        assert_int_equal(pst_pool_help(pool, &share, crew), 1);
        assert_int_equal(pst_pool_help(pool, &share, crew), 0);
        pst_pool_leave(pool);
    }
    assert_string_equal(ran.order, "012");
    for (size_t i = 0; i < 3; i++)
        assert_true(pthread_equal(ran.threads[i], pthread_self()));
    assert_int_equal(pst_pool_threads(pool), 0);
    assert_int_equal(pst_pool_free(pool, pst_now_ns() + SECOND_NS), 1);
}

/* A worker could come at any moment: here there is none, so the line is seen as it is left. */
static void test_help__own_jobs_are_found_in_the_middle_and_at_the_end_of_the_line(void **state)
{
    struct pst_pool *pool;
    struct pst_share share;
    (void)state;
    assert_int_equal(pst_pool_new(0, &pool), 0);
    pst_share_init(pool, &share);
    for (int i = 0; i < 6; i++)
        pst_pool_enter(pool); /* so that each job counts on a thread */
    assert_int_equal(queue(pool, &share, 0, others), 0);
    assert_int_equal(queue(pool, &share, 1, crew), 0);
    assert_int_equal(queue(pool, &share, 2, NULL), 0);
    assert_int_equal(queue(pool, &share, 3, crew), 0);
    assert_int_equal(pst_pool_help(pool, &share, crew), 1);
    assert_int_equal(pst_pool_help(pool, &share, crew), 1);
    assert_int_equal(pst_pool_help(pool, &share, crew), 0);
    assert_string_equal(ran.order, "13");
    assert_int_equal(queue(pool, &share, 4, crew), 0);
    assert_int_equal(pst_pool_help(pool, &share, crew), 1);
    assert_int_equal(pst_pool_help(pool, &share, others), 1);
    assert_string_equal(ran.order, "1340");
    for (int i = 0; i < 6; i++)
        pst_pool_leave(pool);
    assert_string_equal(ran.order, "13402"); /* nobody else could have come for it */
    assert_int_equal(pst_pool_free(pool, pst_now_ns() + SECOND_NS), 1);
}

static void test_help__what_counted_on_a_helper_is_run_by_a_worker_when_it_leaves(void **state)
{
    struct pst_pool *pool;
    struct pst_share share;
    (void)state;
    assert_int_equal(pst_pool_new(4, &pool), 0);
    pst_share_init(pool, &share);
    pst_pool_enter(pool);
    assert_int_equal(queue(pool, &share, 0, others), 0);
    assert_int_equal(pst_pool_threads(pool), 0);
    assert_int_equal(pst_pool_help(pool, &share, crew), 0);
    pst_pool_leave(pool);
    wait_ran(1);
    assert_false(pthread_equal(ran.threads[0], pthread_self()));
    assert_int_equal(pst_pool_free(pool, pst_now_ns() + SECOND_NS), 1);
}

static void test_run__without_any_thread_the_job_is_handed_back(void **state)
{
    struct pst_pool *pool;
    struct pst_share share;
    (void)state;
    assert_int_equal(pst_pool_new(0, &pool), 0);
    pst_share_init(pool, &share);
    assert_int_equal(queue(pool, &share, 0, NULL), PST_E_NO_MEMORY);
    pst_pool_enter(pool);
    assert_int_equal(queue(pool, &share, 1, crew), 0);
    assert_int_equal(queue(pool, &share, 2, crew), PST_E_NO_MEMORY); /* one thread, one job */
    assert_int_equal(pst_pool_help(pool, &share, crew), 1);
    assert_int_equal(queue(pool, &share, 3, crew), 0);
    assert_int_equal(pst_pool_help(pool, &share, crew), 1);
    pst_pool_leave(pool);
    assert_string_equal(ran.order, "13");
    assert_int_equal(pst_pool_free(pool, pst_now_ns() + SECOND_NS), 1);
}

/* ---- calls ------------------------------------------------------------------------------------ */

static uint32_t threads_of(pst_context *context)
{
    pst_stats stats = {.struct_size = sizeof(stats)};
    pst_context_stats(context, &stats);
    return stats.threads;
}

/* What a blocking plugin does for a call without a limit is done by the thread that waits. */
static void test_call__without_a_limit_needs_no_other_thread(void **state)
{
    const pst_str key = PST_STR("object");
    pst_attr *attr = NULL;
    (void)state;
    memstore_reset();
    mem.mode[MEM_STAT] = mem.mode[MEM_PUT] = MEM_POOL;
    memstore_add("object", 1000);
    pst_context *context = memstore_context(64 * MIB);
    pst_store *store = memstore_open(context);
    assert_int_equal(pst_stat(store, key, NULL, NULL, &attr, NULL), PST_OK);
    pst_attr_free(attr);
    assert_int_equal(pst_put(store, key, NULL, 0, NULL, NULL, NULL, NULL), PST_OK);
    assert_int_equal(threads_of(context), 1); /* the reactor */

    const pst_call limited = {.struct_size = sizeof(limited), .timeout_ms = 60000};
    assert_int_equal(pst_stat(store, key, NULL, &limited, &attr, NULL), PST_OK);
    pst_attr_free(attr);
    assert_int_equal(threads_of(context), 2); /* the caller must be able to leave */
    pst_store_free(store);
    pst_context_free(context);
    memstore_reset();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_help__own_jobs_run_here_and_start_no_thread, reset_ran),
        cmocka_unit_test_setup(
            test_help__own_jobs_are_found_in_the_middle_and_at_the_end_of_the_line, reset_ran),
        cmocka_unit_test_setup(
            test_help__what_counted_on_a_helper_is_run_by_a_worker_when_it_leaves, reset_ran),
        cmocka_unit_test_setup(test_run__without_any_thread_the_job_is_handed_back, reset_ran),
        cmocka_unit_test(test_call__without_a_limit_needs_no_other_thread),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
