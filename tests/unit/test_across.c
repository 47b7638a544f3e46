/* More than one container: copies from another one, and lists of them. */
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
    pst_store *here, *there;
    pst_list *list;
};

static pst_store *open_store(pst_context *context, const char *uri)
{
    pst_error err = PST_ERROR_INIT;
    pst_store *store = NULL;
    assert_int_equal(pst_store_open(context, pst_str_of(uri, strlen(uri)), NULL, 0, &store, &err),
                     PST_OK);
    return store;
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    memstore_reset();
    f->context = memstore_context(64 * MIB);
    *state = f;
    return 0;
}

/* Once the test has set its switches: a store reads them when it is opened. */
static struct fixture *open_both(void **state)
{
    struct fixture *f = *state;
    f->here = open_store(f->context, "mem://box/");
    f->there = open_store(f->context, "mem://chest/");
    return f;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    pst_list_free(f->list);
    pst_store_free(f->here);
    pst_store_free(f->there);
    pst_context_free(f->context);
    free(f);
    memstore_reset();
    return 0;
}

static pst_str str(const char *text)
{
    return pst_str_of(text, strlen(text));
}

static void test_across__the_target_is_told_the_sources_container(void **state)
{
    struct fixture *f = open_both(state);
    pst_write_result result = {.struct_size = sizeof(result)};
    memstore_add("k", 5);
    assert_int_equal(pst_copy(f->there, str("k"), f->here, str("l"), NULL, NULL, &result, NULL),
                     PST_OK);
    assert_string_equal(mem.from_authority, "chest");
    assert_int_equal(result.size, 5);
    assert_int_equal(pst_copy(f->here, str("k"), f->here, str("m"), NULL, NULL, NULL, NULL),
                     PST_OK);
    assert_string_equal(mem.from_authority, "");
}

static void test_across__conditions_on_the_source_hold(void **state)
{
    struct fixture *f = open_both(state);
    pst_copy_options options = {.struct_size = sizeof(options), .from_if_match = PST_STR("v9")};
    memstore_add("k", 5);
    assert_int_equal(pst_copy(f->here, str("k"), f->here, str("l"), &options, NULL, NULL, NULL),
                     PST_E_PRECONDITION);
    options.from_if_match = PST_STR("v1");
    assert_int_equal(pst_copy(f->here, str("k"), f->here, str("l"), &options, NULL, NULL, NULL),
                     PST_OK);
}

static void test_across__a_store_that_cannot_says_so_before_any_call(void **state)
{
    pst_error err = PST_ERROR_INIT;
    mem.caps &= ~PST_CAP_COPY_ACROSS;
    struct fixture *f = open_both(state);
    memstore_add("k", 5);
    assert_int_equal(pst_copy(f->there, str("k"), f->here, str("l"), NULL, NULL, NULL, &err),
                     PST_E_UNIMPLEMENTED);
    assert_string_equal(err.message, "COPY mem://box/l: mem://box cannot copy from another "
                                     "container: read and write instead");
    assert_int_equal(mem.calls[MEM_COPY], 0);
}

static void test_across__stores_of_two_contexts_are_not_alike(void **state)
{
    struct fixture *f = open_both(state);
    pst_error err = PST_ERROR_INIT;
    pst_context *context = memstore_context(MIB);
    pst_store *other = open_store(context, "mem://chest/");
    memstore_add("k", 5);
    assert_int_equal(pst_copy(other, str("k"), f->here, str("l"), NULL, NULL, NULL, &err),
                     PST_E_UNIMPLEMENTED);
    assert_non_null(strstr(err.message, "of another kind or with other options"));
    assert_int_equal(mem.calls[MEM_COPY], 0);
    pst_store_free(other);
    pst_context_free(context);
}

static void test_across__by_queue(void **state)
{
    struct fixture *f = open_both(state);
    const pst_request request = {.struct_size = sizeof(request),
                                 .kind = PST_REQ_COPY,
                                 .store = f->here,
                                 .from = f->there,
                                 .key = PST_STR("k"),
                                 .to = PST_STR("l")};
    pst_queue *queue = NULL;
    pst_event events[2];
    size_t n = 0;
    memstore_add("k", 5);
    assert_int_equal(pst_queue_new(f->context, &queue, NULL), PST_OK);
    mem.fault[MEM_COPY] = (struct mem_fault){2, 1, PST_E_DENIED, 0, 0};
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pst_queue_submit(queue, &request, 1, NULL, NULL), PST_OK);
        assert_int_equal(pst_queue_wait(queue, &events[i], 1, PST_UNKNOWN, NULL, &n, NULL), PST_OK);
        assert_int_equal(n, 1);
    }
    assert_int_equal(events[0].status, PST_OK);
    assert_string_equal(mem.from_authority, "chest");
    assert_int_equal(events[1].status, PST_E_DENIED);
    assert_string_equal(events[1].error->message, "COPY mem://box/l: told to fail");
    pst_event_fini(&events[0]);
    pst_event_fini(&events[1]);
    pst_queue_free(queue);
}

/* ---- lists of containers ---------------------------------------------------------------------- */

static void test_container_list__walks_the_pages(void **state)
{
    struct fixture *f = open_both(state);
    const char *const names[] = {"box", "aaa"}; /* in no order */
    assert_int_equal(pst_container_list(f->here, str(""), &f->list, NULL), PST_OK);
    for (size_t i = 0; i < 2; i++) {
        const pst_entry *entry = NULL;
        assert_int_equal(pst_list_next(f->list, NULL, &entry, NULL), PST_OK);
        assert_non_null(entry);
        assert_memory_equal(entry->key.ptr, names[i], 3);
    }
    const pst_entry *entry = NULL;
    assert_int_equal(pst_list_next(f->list, NULL, &entry, NULL), PST_OK);
    assert_null(entry);
    assert_int_equal(mem.calls[MEM_CONTAINER_LIST], 2);
    assert_int_equal(mem.calls[MEM_LIST_OPEN], 0);
}

static void test_container_list__failures_name_the_call(void **state)
{
    pst_error err = PST_ERROR_INIT;
    const pst_entry *entry = NULL;
    struct fixture *f = open_both(state);
    mem.fault[MEM_CONTAINER_LIST] = (struct mem_fault){1, 1, PST_E_DENIED, 0, 0};
    assert_int_equal(pst_container_list(f->here, str(""), &f->list, NULL), PST_OK);
    assert_int_equal(pst_list_next(f->list, NULL, &entry, &err), PST_E_DENIED);
    assert_string_equal(err.message, "LIST CONTAINERS mem://box/: told to fail");
}

static void test_container_list__needs_a_store_with_containers(void **state)
{
    pst_error err = PST_ERROR_INIT;
    mem.caps &= ~PST_CAP_CONTAINER;
    struct fixture *f = open_both(state);
    assert_int_equal(pst_container_list(f->here, str(""), &f->list, &err), PST_E_UNIMPLEMENTED);
    assert_null(f->list);
    assert_int_equal(mem.calls[MEM_CONTAINER_LIST], 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_across__the_target_is_told_the_sources_container),
        TEST(test_across__conditions_on_the_source_hold),
        TEST(test_across__a_store_that_cannot_says_so_before_any_call),
        TEST(test_across__stores_of_two_contexts_are_not_alike),
        TEST(test_across__by_queue),
        TEST(test_container_list__walks_the_pages),
        TEST(test_container_list__failures_name_the_call),
        TEST(test_container_list__needs_a_store_with_containers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
