/* Calls whose token is fired: before they begin, while the plugin is at work, after the store has confirmed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <pthread.h>

#include "memstore.h"

struct fixture {
    pst_context *context;
    pst_store *store;
    pst_call call; /* with a token */
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    memstore_reset();
    f->context = memstore_context((uint64_t)64 << 20);
    f->call.struct_size = sizeof(f->call);
    *state = f;
    return pst_cancel_new(&f->call.cancel);
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    pst_store_free(f->store);
    pst_context_free(f->context);
    pst_cancel_free(f->call.cancel);
    free(f);
    memstore_reset();
    return 0;
}

/* Open only once the test has set its switches: a store reads them when it is opened. */
static struct fixture *open_store(void **state)
{
    struct fixture *f = *state;
    f->store = memstore_open(f->context);
    return f;
}

static pst_str str(const char *text)
{
    return pst_str_of(text, strlen(text));
}

/* ---- fired before ----------------------------------------------------------------------------- */

static unsigned count_calls(void)
{
    unsigned n = 0;
    for (int slot = 0; slot < MEM_SLOTS; slot++)
        n += mem.calls[slot];
    return n;
}

static void test_cancel__a_call_with_a_fired_token_asks_nothing_of_the_store(void **state)
{
    char bytes[] = "x";
    const pst_iov src = {bytes, 1};
    uint64_t n = 9, n_bytes = 9;
    pst_attr *attr = NULL;
    pst_buffer *buffer = NULL;
    char *url = NULL;
    size_t n_read = 9;
    struct fixture *f = open_store(state);
    pst_store *store = f->store;
    const pst_call *call = &f->call;
    memstore_add("k", 3);
    pst_cancel_fire(call->cancel);
    assert_int_equal(pst_put(store, str("l"), &src, 1, NULL, call, NULL, NULL), PST_E_CANCELLED);
    assert_int_equal(pst_stat(store, str("k"), NULL, call, &attr, NULL), PST_E_CANCELLED);
    assert_null(attr);
    assert_int_equal(pst_get(store, str("k"), NULL, call, &buffer, NULL, NULL), PST_E_CANCELLED);
    assert_null(buffer);
    assert_int_equal(pst_get_suffix(store, str("k"), 1, NULL, call, &buffer, NULL, NULL),
                     PST_E_CANCELLED);
    assert_null(buffer);
    assert_int_equal(pst_get_into(store, str("k"), 0, bytes, 1, NULL, call, &n_read, NULL, NULL),
                     PST_E_CANCELLED);
    assert_int_equal(n_read, 0);
    assert_int_equal(pst_copy(store, str("k"), store, str("l"), NULL, call, NULL, NULL),
                     PST_E_CANCELLED);
    assert_int_equal(pst_rename(store, str("k"), str("l"), NULL, call, NULL), PST_E_CANCELLED);
    assert_int_equal(pst_container_create(store, str("c"), call, NULL), PST_E_CANCELLED);
    assert_int_equal(pst_container_delete(store, str("c"), call, NULL), PST_E_CANCELLED);
    assert_int_equal(pst_presign(store, str("k"), str("GET"), 60, call, &url, NULL),
                     PST_E_CANCELLED);
    assert_null(url);
    assert_int_equal(pst_cleanup(store, str(""), 60, 0, call, &n, &n_bytes, NULL), PST_E_CANCELLED);
    assert_int_equal(n + n_bytes, 0);
    assert_int_equal(count_calls(), 0);
}

static void test_cancel__a_delete_with_a_fired_token_deletes_nothing(void **state)
{
    const pst_str keys[] = {str("k"), str("l")};
    pst_rc statuses[2] = {PST_OK, PST_OK};
    pst_error err = PST_ERROR_INIT;
    uint64_t n = 9;
    struct fixture *f = open_store(state);
    memstore_add("k", 3);
    memstore_add("l", 3);
    pst_cancel_fire(f->call.cancel);
    assert_int_equal(pst_delete(f->store, str("k"), NULL, &f->call, &err), PST_E_CANCELLED);
    assert_int_equal(err.flags, 0);
    assert_int_equal(pst_delete_many(f->store, keys, NULL, 2, &f->call, statuses, NULL),
                     PST_E_CANCELLED);
    assert_int_equal(statuses[0], PST_E_CANCELLED);
    assert_int_equal(statuses[1], PST_E_CANCELLED);
    assert_int_equal(pst_delete_prefix(f->store, str("k"), &f->call, &n, NULL), PST_E_CANCELLED);
    assert_int_equal(n, 0);
    assert_int_equal(mem.calls[MEM_REMOVE], 0);
    assert_int_equal(memstore_count(), 2);
}

/* ---- fired meanwhile -------------------------------------------------------------------------- */

struct put {
    struct fixture *f;
    pthread_t thread;
    char bytes[3];
    pst_rc rc;
    pst_error err;
};

static void *run_put(void *arg)
{
    struct put *put = arg;
    const pst_iov src = {put->bytes, 3};
    put->rc = pst_put(put->f->store, str("k"), &src, 1, NULL, &put->f->call, NULL, &put->err);
    return NULL;
}

/* Start a put, and fire its token when the plugin holds it, or the look after it. */
static void start_put(void **state, struct put *put)
{
    *put = (struct put){.f = open_store(state), .bytes = "abc", .err = PST_ERROR_INIT};
    assert_int_equal(pthread_create(&put->thread, NULL, run_put, put), 0);
    memstore_wait_held(1);
    pst_cancel_fire(put->f->call.cancel);
}

static pst_rc end_put(struct put *put)
{
    assert_int_equal(pthread_join(put->thread, NULL), 0);
    return put->rc;
}

static void test_cancel__a_put_returns_when_the_plugin_let_go_of_the_memory(void **state)
{
    struct put put;
    mem.mode[MEM_PUT] = MEM_HOLD;
    start_put(state, &put);
    assert_int_equal(end_put(&put), PST_E_CANCELLED);
    memstore_wait_held(0);
    assert_int_equal(memstore_count(), 0);
}

static void test_cancel__a_plugin_that_is_not_prompt_gets_a_copy_of_what_is_put(void **state)
{
    struct put put;
    const unsigned char *data = NULL;
    mem.caps &= ~PST_CAP_CANCEL_BOUNDED;
    mem.mode[MEM_PUT] = MEM_HOLD;
    mem.ignores_cancel = 1;
    start_put(state, &put);
    assert_int_equal(end_put(&put), PST_E_CANCELLED); /* although the plugin still reads */
    assert_true(put.err.flags & PST_ERR_MAYBE_APPLIED);
    memset(put.bytes, 'x', 3);
    memstore_release();
    assert_int_equal(memstore_find("k", &data), 3);
    assert_memory_equal(data, "abc", 3);
}

/* ---- the look at what the store has confirmed -------------------------------------------------- */

static void test_cancel__a_put_that_is_confirmed_all_the_same_is_looked_at(void **state)
{
    struct put put;
    mem.hides_size = 1;
    mem.mode[MEM_PUT] = MEM_HOLD;
    mem.ignores_cancel = 1;
    mem.fault[MEM_STAT] = (struct mem_fault){1, 1, PST_E_NOT_FOUND, 0, 0};
    start_put(state, &put);
    memstore_release();
    assert_int_equal(end_put(&put), PST_E_DATA_LOSS);
}

static void test_cancel__a_look_that_is_cut_off_is_taken_once_more(void **state)
{
    struct put put;
    mem.hides_size = 1;
    mem.mode[MEM_STAT] = MEM_HOLD;
    mem.fault[MEM_STAT] = (struct mem_fault){1, 1, PST_E_NOT_FOUND, 0, 0};
    start_put(state, &put);
    memstore_wait_for(&mem.calls[MEM_STAT], 2);
    memstore_wait_held(1);
    memstore_release();
    assert_int_equal(end_put(&put), PST_E_DATA_LOSS);
}

static void test_cancel__a_look_that_takes_long_does_not_keep_the_caller(void **state)
{
    struct put put;
    mem.hides_size = 1;
    mem.mode[MEM_STAT] = MEM_HOLD;
    start_put(state, &put);
    assert_int_equal(end_put(&put), PST_OK); /* the store has said so */
    assert_int_equal(mem.calls[MEM_STAT], 2);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_cancel__a_call_with_a_fired_token_asks_nothing_of_the_store),
        TEST(test_cancel__a_delete_with_a_fired_token_deletes_nothing),
        TEST(test_cancel__a_put_returns_when_the_plugin_let_go_of_the_memory),
        TEST(test_cancel__a_plugin_that_is_not_prompt_gets_a_copy_of_what_is_put),
        TEST(test_cancel__a_put_that_is_confirmed_all_the_same_is_looked_at),
        TEST(test_cancel__a_look_that_is_cut_off_is_taken_once_more),
        TEST(test_cancel__a_look_that_takes_long_does_not_keep_the_caller),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
