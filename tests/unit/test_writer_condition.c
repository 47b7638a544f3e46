/* A write on a condition, to a store that holds conditions for one request alone: one put, or a refusal
 * before the first byte is sent, and never parts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "memstore.h"

#define KIB ((size_t)1 << 10)
#define PART (64 * KIB)

struct fixture {
    pst_context *context;
    pst_store *store;
    pst_writer *writer;
};

static unsigned char bytes[8 * PART];

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    memstore_reset();
    mem.limits.io_preferred = PART;
    mem.caps &= ~PST_CAP_UPLOAD_CONDITIONAL;
    f->context = memstore_context(6 * PART);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    pst_writer_free(f->writer);
    memstore_wait_for(&mem.n_uploads, 0);
    assert_int_equal(mem.calls[MEM_UPLOAD_OPEN], 0);
    pst_store_free(f->store);
    pst_context_free(f->context);
    free(f);
    memstore_reset();
    return 0;
}

static const pst_write_options create = {.struct_size = sizeof(create),
                                         .flags = PST_WRITE_CREATE_ONLY};

static pst_rc open_writer(void **state, const pst_write_options *options, pst_error *err)
{
    struct fixture *f = *state;
    if (!f->store)
        f->store = memstore_open(f->context);
    return pst_writer_open(f->store, PST_STR("k"), options, NULL, &f->writer, err);
}

static void test_condition__several_parts_become_one_put(void **state)
{
    struct fixture *f = *state;
    pst_write_result result = {.struct_size = sizeof(result)};
    assert_int_equal(open_writer(state, &create, NULL), PST_OK);
    assert_int_equal(pst_writer_write(f->writer, bytes, 3 * PART + 1, NULL), PST_OK);
    assert_int_equal(pst_writer_finalize(f->writer, &result, NULL), PST_OK);
    assert_int_equal(memstore_find("k", NULL), 3 * PART + 1);
    assert_int_equal(mem.calls[MEM_PUT], 1);
    assert_int_equal(result.n_parts, 0);
}

static void test_condition__holds_for_that_put(void **state)
{
    struct fixture *f = *state;
    memstore_add("k", 7);
    assert_int_equal(open_writer(state, &create, NULL), PST_OK);
    assert_int_equal(pst_writer_write(f->writer, bytes, 2 * PART, NULL), PST_OK);
    assert_int_equal(pst_writer_finalize(f->writer, NULL, NULL), PST_E_EXISTS);
    assert_int_equal(memstore_find("k", NULL), 7);
}

static void test_condition__more_than_one_request_carries_is_refused_unsent(void **state)
{
    struct fixture *f = *state;
    pst_error err = PST_ERROR_INIT;
    pst_write_options hinted = create;
    mem.limits.part_max = 2 * PART;
    hinted.size_hint = 2 * PART + 1;
    assert_int_equal(open_writer(state, &hinted, &err), PST_E_UNIMPLEMENTED);
    assert_string_equal(err.message,
                        "PUT mem://box/k: 131073 bytes and a condition: the store holds one for a "
                        "single request alone, of at most 131072 bytes");
    assert_int_equal(open_writer(state, &create, NULL), PST_OK);
    assert_int_equal(pst_writer_write(f->writer, bytes, 2 * PART, NULL), PST_OK);
    assert_int_equal(pst_writer_write(f->writer, bytes, 1, &err), PST_E_UNIMPLEMENTED);
    assert_non_null(strstr(err.message, "and a condition"));
    assert_int_equal(mem.calls[MEM_PUT], 0);
}

static void test_condition__more_than_the_budget_is_refused_unsent(void **state)
{
    struct fixture *f = *state;
    pst_error err = PST_ERROR_INIT;
    pst_write_options hinted = create;
    hinted.size_hint = 6 * PART + 1;
    assert_int_equal(open_writer(state, &hinted, &err), PST_E_OVER_BUDGET);
    assert_non_null(strstr(err.message, "kept for one put to hold its condition"));
    assert_int_equal(open_writer(state, &create, NULL), PST_OK);
    assert_int_equal(pst_writer_write(f->writer, bytes, 6 * PART, NULL), PST_OK);
    assert_int_equal(pst_writer_write(f->writer, bytes, 1, &err), PST_E_OVER_BUDGET);
    assert_non_null(strstr(err.message, "to hold its condition"));
    assert_int_equal(mem.calls[MEM_PUT], 0);
}

static void test_condition__a_put_of_memory_is_refused_unsent_too(void **state)
{
    struct fixture *f = *state;
    pst_error err = PST_ERROR_INIT;
    const pst_iov src = {bytes, 2 * PART + 1};
    mem.limits.part_max = 2 * PART;
    f->store = memstore_open(f->context);
    assert_int_equal(pst_put(f->store, PST_STR("k"), &src, 1, &create, NULL, NULL, &err),
                     PST_E_UNIMPLEMENTED);
    assert_int_equal(mem.calls[MEM_PUT], 0);
}

static void test_condition__a_store_with_uploads_alone_holds_none(void **state)
{
    pst_error err = PST_ERROR_INIT;
    mem.caps &= ~PST_CAP_PUT;
    assert_int_equal(open_writer(state, &create, &err), PST_E_UNIMPLEMENTED);
    assert_string_equal(err.message, "PUT mem://box/k: mem://box cannot write on a condition");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_condition__several_parts_become_one_put),
        TEST(test_condition__holds_for_that_put),
        TEST(test_condition__more_than_one_request_carries_is_refused_unsent),
        TEST(test_condition__more_than_the_budget_is_refused_unsent),
        TEST(test_condition__a_put_of_memory_is_refused_unsent_too),
        TEST(test_condition__a_store_with_uploads_alone_holds_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
