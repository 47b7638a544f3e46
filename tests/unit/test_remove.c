/* delete, delete_many and delete_prefix against a store in memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "memstore.h"

#define MIB ((size_t)1 << 20)

struct fixture {
    pst_context *context;
    pst_store *store;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    memstore_reset();
    f->context = memstore_context(64 * MIB);
    *state = f;
    return 0;
}

/* Open only once the test has set its switches: a store reads them when it is opened. */
static pst_store *store_of(void **state)
{
    struct fixture *f = *state;
    if (!f->store)
        f->store = memstore_open(f->context);
    return f->store;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    pst_store_free(f->store);
    pst_context_free(f->context);
    free(f);
    memstore_reset();
    return 0;
}

static pst_str str(const char *text)
{
    return pst_str_of(text, strlen(text));
}

static void assert_says(const pst_error *err, const char *what)
{
    if (!strstr(err->message, what))
        fail_msg("\"%s\" lacks \"%s\"", err->message, what);
}

static void test_delete__takes_exactly_this_key(void **state)
{
    pst_store *store = store_of(state);
    const pst_delete_options other = {.struct_size = sizeof(other), .if_match = PST_STR("v9")};
    const pst_delete_options own = {.struct_size = sizeof(own), .if_match = PST_STR("v2")};
    memstore_add("foo", 1);
    memstore_add("foobar", 1);
    assert_int_equal(pst_delete(store, str("foo"), NULL, NULL, NULL), PST_OK);
    assert_int_equal(memstore_find("foo", NULL), -1);
    assert_int_equal(memstore_find("foobar", NULL), 1);
    assert_int_equal(pst_delete(store, str("foo"), NULL, NULL, NULL), PST_OK);
    assert_int_equal(pst_delete(store, str("foobar"), &other, NULL, NULL), PST_E_PRECONDITION);
    assert_int_equal(pst_delete(store, str("foobar"), &own, NULL, NULL), PST_OK);
}

static void add_many(unsigned n, pst_str *keys)
{
    static char names[3000][16];
    for (unsigned i = 0; i < n; i++) {
        snprintf(names[i], sizeof(names[i]), "d/%05u", i);
        memstore_add(names[i], 1);
        keys[i] = pst_str_of(names[i], 7);
    }
}

static void test_delete_many__sends_batches_as_large_as_the_store_takes(void **state)
{
    static pst_str keys[2500];
    static pst_rc statuses[2500];
    mem.limits.remove_batch_max = 7;
    mem.mode[MEM_REMOVE] = MEM_POOL;
    pst_store *store = store_of(state);
    add_many(100, keys);
    assert_int_equal(pst_delete_many(store, keys, NULL, 100, NULL, statuses, NULL), PST_OK);
    assert_int_equal(mem.n_batch_max, 7);
    assert_int_equal(mem.calls[MEM_REMOVE], 15);
    assert_int_equal(memstore_count(), 0);
    for (unsigned i = 0; i < 100; i++)
        assert_int_equal(statuses[i], PST_OK);
}

static void test_delete_many__without_a_limit_a_thousand_go_at_once(void **state)
{
    static pst_str keys[2500];
    static pst_rc statuses[2500];
    pst_store *store = store_of(state);
    add_many(2500, keys);
    assert_int_equal(pst_delete_many(store, keys, NULL, 2500, NULL, statuses, NULL), PST_OK);
    assert_int_equal(mem.n_batch_max, 1000);
    assert_int_equal(mem.calls[MEM_REMOVE], 3);
    assert_int_equal(memstore_count(), 0);
    assert_int_equal(pst_delete_many(store, keys, NULL, 0, NULL, NULL, NULL), PST_OK);
}

static void test_delete_many__each_key_has_its_own_status(void **state)
{
    pst_error err = PST_ERROR_INIT;
    pst_rc statuses[4];
    const pst_str keys[] = {str("a"), str(""), str("c"), str("d")};
    memstore_add("a", 1);
    memstore_add("c", 1);
    mem.failing_key = "c";
    mem.failing_times = 100;
    mem.failing_rc = PST_E_DENIED;
    assert_int_equal(pst_delete_many(store_of(state), keys, NULL, 4, NULL, statuses, &err),
                     PST_E_INVALID);
    assert_int_equal(statuses[0], PST_OK);
    assert_int_equal(statuses[1], PST_E_INVALID);
    assert_int_equal(statuses[2], PST_E_DENIED);
    assert_int_equal(statuses[3], PST_OK);
    assert_int_equal(memstore_find("c", NULL), 1);
    assert_string_equal(err.message, "2 of 4 keys failed, the first: DELETE mem://box/: the key is "
                                     "empty");
}

static void test_delete_many__a_key_that_fails_for_the_moment_is_sent_again(void **state)
{
    pst_rc statuses[3];
    const pst_str keys[] = {str("a"), str("b"), str("c")};
    memstore_add("b", 1);
    mem.failing_key = "b";
    mem.failing_times = 2;
    mem.failing_rc = PST_E_UNAVAILABLE;
    assert_int_equal(pst_delete_many(store_of(state), keys, NULL, 3, NULL, statuses, NULL), PST_OK);
    assert_int_equal(mem.calls[MEM_REMOVE], 3);
    assert_int_equal(memstore_count(), 0);
}

static void test_delete_many__a_key_that_goes_on_failing_is_reported(void **state)
{
    pst_error err = PST_ERROR_INIT;
    pst_rc statuses[2];
    const pst_str keys[] = {str("a"), str("b")};
    const pst_call call = {.struct_size = sizeof(call), .max_attempts = 2};
    mem.failing_key = "b";
    mem.failing_times = 100;
    mem.failing_rc = PST_E_UNAVAILABLE;
    assert_int_equal(pst_delete_many(store_of(state), keys, NULL, 2, &call, statuses, &err),
                     PST_E_UNAVAILABLE);
    assert_int_equal(mem.calls[MEM_REMOVE], 2);
    assert_int_equal(statuses[0], PST_OK);
    assert_says(&err, "DELETE mem://box/b: the store said no");
}

static void test_delete_many__a_batch_that_fails_fails_its_keys(void **state)
{
    pst_rc statuses[4];
    const pst_str keys[] = {str("a"), str("b"), str("c"), str("d")};
    mem.limits.remove_batch_max = 2;
    mem.fault[MEM_REMOVE] = (struct mem_fault){2, 1, PST_E_DENIED, 0, 0};
    assert_int_equal(pst_delete_many(store_of(state), keys, NULL, 4, NULL, statuses, NULL),
                     PST_E_DENIED);
    assert_int_equal(statuses[0], PST_OK);
    assert_int_equal(statuses[1], PST_OK);
    assert_int_equal(statuses[2], PST_E_DENIED);
    assert_int_equal(statuses[3], PST_E_DENIED);
}

static void test_delete_many__cut_short_it_leaves_its_batches_behind(void **state)
{
    static pst_str keys[100];
    static pst_rc statuses[100];
    const pst_call call = {.struct_size = sizeof(call), .timeout_ms = 30};
    mem.limits.remove_batch_max = 10;
    mem.mode[MEM_REMOVE] = MEM_HOLD;
    mem.ignores_cancel = 1;
    pst_store *store = store_of(state);
    add_many(100, keys);
    assert_int_equal(pst_delete_many(store, keys, NULL, 100, &call, statuses, NULL),
                     PST_E_DEADLINE);
    for (unsigned i = 0; i < 100; i++)
        assert_int_equal(statuses[i], PST_E_DEADLINE);
    memstore_release();
    assert_int_equal(memstore_count(), 60); /* four batches were on their way */
}

static void test_delete_prefix__takes_bytes_not_directories(void **state)
{
    uint64_t n = 99;
    pst_error err = PST_ERROR_INIT;
    pst_store *store = store_of(state);
    memstore_add("a", 1);
    memstore_add("foo", 1);
    memstore_add("foo/1", 1);
    memstore_add("foobar", 1);
    memstore_add("fop", 1);
    assert_int_equal(pst_delete_prefix(store, str("foo"), NULL, &n, NULL), PST_OK);
    assert_int_equal(n, 3);
    assert_int_equal(memstore_count(), 2);
    assert_int_equal(pst_delete_prefix(store, str(""), NULL, &n, &err), PST_E_INVALID);
    assert_int_equal(n, 0);
    assert_int_equal(memstore_count(), 2);
}

static void test_delete_prefix__counts_what_went_before_a_failure(void **state)
{
    static pst_str keys[200];
    uint64_t n = 0;
    mem.failing_key = "d/00070";
    mem.failing_times = 1;
    mem.failing_rc = PST_E_DENIED;
    pst_store *store = store_of(state);
    add_many(200, keys);
    assert_int_equal(pst_delete_prefix(store, str("d/"), NULL, &n, NULL), PST_E_DENIED);
    assert_int_equal(n, 119); /* pages of 60 keys */
    assert_int_equal(memstore_count(), 81);
}

static void test_delete_prefix__never_touches_what_a_wrong_listing_names(void **state)
{
    uint64_t n = 0;
    memstore_add("foo", 1);
    memstore_add("odd", 1);
    mem.quirk = MEM_LEAVES_PREFIX;
    assert_int_equal(pst_delete_prefix(store_of(state), str("foo"), NULL, &n, NULL),
                     PST_E_INTERNAL);
    assert_int_equal(memstore_count(), 2);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_delete__takes_exactly_this_key),
        TEST(test_delete_many__sends_batches_as_large_as_the_store_takes),
        TEST(test_delete_many__without_a_limit_a_thousand_go_at_once),
        TEST(test_delete_many__each_key_has_its_own_status),
        TEST(test_delete_many__a_key_that_fails_for_the_moment_is_sent_again),
        TEST(test_delete_many__a_key_that_goes_on_failing_is_reported),
        TEST(test_delete_many__a_batch_that_fails_fails_its_keys),
        TEST(test_delete_many__cut_short_it_leaves_its_batches_behind),
        TEST(test_delete_prefix__takes_bytes_not_directories),
        TEST(test_delete_prefix__counts_what_went_before_a_failure),
        TEST(test_delete_prefix__never_touches_what_a_wrong_listing_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
