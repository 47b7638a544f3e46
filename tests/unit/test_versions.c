/* Old versions and tags: asked for, handed on, refused where the store has none. */
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
    pst_list *list;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    memstore_reset();
    f->context = memstore_context(64 * MIB);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    pst_list_free(f->list);
    pst_store_free(f->store);
    pst_context_free(f->context);
    free(f);
    memstore_reset();
    return 0;
}

static pst_store *store_of(void **state)
{
    struct fixture *f = *state;
    if (!f->store)
        f->store = memstore_open(f->context);
    return f->store;
}

static pst_str str(const char *text)
{
    return pst_str_of(text, strlen(text));
}

static const pst_stat_options old_stat = {.struct_size = sizeof(old_stat), .version = {"old", 3}};
static const pst_delete_options old_delete = {.struct_size = sizeof(old_delete),
                                              .version = {"old", 3}};
static const pst_copy_options old_copy = {.struct_size = sizeof(old_copy),
                                          .from_version = {"old", 3}};
static const pst_read_options old_read = {.struct_size = sizeof(old_read), .version = {"old", 3}};

/* ---- versions --------------------------------------------------------------------------------- */

static void test_version__stat_delete_and_copy_hand_it_on(void **state)
{
    pst_attr *attr = NULL;
    pst_store *store = store_of(state);
    memstore_add("k", 3);
    assert_int_equal(pst_stat(store, str("k"), &old_stat, NULL, &attr, NULL), PST_OK);
    pst_attr_free(attr);
    assert_string_equal(mem.version, "old");
    assert_int_equal(pst_stat(store, str("k"), NULL, NULL, &attr, NULL), PST_OK);
    pst_attr_free(attr);
    assert_string_equal(mem.version, "");
    assert_int_equal(pst_copy(store, str("k"), store, str("l"), &old_copy, NULL, NULL, NULL),
                     PST_OK);
    assert_string_equal(mem.version, "old");
    assert_int_equal(pst_delete(store, str("l"), NULL, NULL, NULL), PST_OK);
    assert_string_equal(mem.version, "");
    assert_int_equal(pst_delete(store, str("k"), &old_delete, NULL, NULL), PST_OK);
    assert_string_equal(mem.version, "old");
}

static void test_version__each_key_of_many_has_its_own(void **state)
{
    const pst_str keys[] = {PST_STR("a"), PST_STR("b"), PST_STR("")};
    const pst_str versions[] = {PST_STR("1"), PST_STR("2"), PST_STR("")};
    pst_rc statuses[3];
    pst_store *store = store_of(state);
    memstore_add("a", 1);
    memstore_add("b", 1);
    mem.limits.remove_batch_max = 1;
    assert_int_equal(pst_delete_many(store, keys, versions, 2, NULL, statuses, NULL), PST_OK);
    assert_string_equal(mem.version, "2");
    assert_int_equal(pst_delete_many(store, keys, versions, 3, NULL, statuses, NULL),
                     PST_E_INVALID); /* an empty key is not a version's fault */
    assert_int_equal(statuses[0], PST_OK);
    assert_int_equal(statuses[2], PST_E_INVALID);
}

static void test_version__a_queue_takes_it_too(void **state)
{
    struct fixture *f = *state;
    const pst_request requests[] = {
        {.struct_size = sizeof(pst_request), .kind = PST_REQ_STAT, .version = PST_STR("s")},
        {.struct_size = sizeof(pst_request),
         .kind = PST_REQ_COPY,
         .to = PST_STR("l"),
         .version = PST_STR("c")},
        {.struct_size = sizeof(pst_request), .kind = PST_REQ_DELETE, .version = PST_STR("d")},
    };
    pst_queue *queue = NULL;
    memstore_add("k", 3);
    assert_int_equal(pst_queue_new(f->context, &queue, NULL), PST_OK);
    for (size_t i = 0; i < 3; i++) {
        pst_request request = requests[i];
        pst_event event;
        size_t n = 0;
        request.store = store_of(state);
        request.key = str("k");
        assert_int_equal(pst_queue_submit(queue, &request, 1, NULL, NULL), PST_OK);
        assert_int_equal(pst_queue_wait(queue, &event, 1, PST_UNKNOWN, NULL, &n, NULL), PST_OK);
        assert_int_equal(n, 1);
        assert_int_equal(event.status, PST_OK);
        pst_event_fini(&event);
        assert_int_equal(mem.version[0], request.version.ptr[0]);
    }
    pst_queue_free(queue);
}

static void test_version__what_is_written_has_none(void **state)
{
    struct fixture *f = *state;
    pst_error err = PST_ERROR_INIT;
    pst_queue *queue = NULL;
    const pst_request request = {.struct_size = sizeof(request),
                                 .kind = PST_REQ_PUT,
                                 .store = store_of(state),
                                 .key = PST_STR("k"),
                                 .version = PST_STR("v")};
    assert_int_equal(pst_queue_new(f->context, &queue, NULL), PST_OK);
    assert_int_equal(pst_queue_submit(queue, &request, 1, NULL, &err), PST_E_INVALID);
    pst_queue_free(queue);
}

static void test_version__a_store_without_versions_says_so_before_any_call(void **state)
{
    struct fixture *f = *state;
    const pst_list_options options = {.struct_size = sizeof(options),
                                      .flags = PST_LISTING_VERSIONS};
    const pst_str key = PST_STR("k");
    const pst_get_item item = {.key = key, .length = PST_UNKNOWN, .version = PST_STR("old")};
    const pst_many_options many = {.struct_size = sizeof(many), .max_in_flight = 1};
    pst_error err = PST_ERROR_INIT;
    pst_attr *attr = NULL;
    pst_buffer *buffer = NULL;
    pst_reader *reader = NULL;
    pst_get_result result;
    pst_rc status = PST_OK;
    mem.caps &= ~PST_CAP_VERSIONS;
    pst_store *store = store_of(state);
    memstore_add("k", 3);
    assert_int_equal(pst_stat(store, key, &old_stat, NULL, &attr, &err), PST_E_UNIMPLEMENTED);
    assert_string_equal(err.message,
                        "STAT mem://box/k: mem://box cannot read, delete or list old versions");
    assert_int_equal(pst_get(store, key, &old_read, NULL, &buffer, NULL, &err),
                     PST_E_UNIMPLEMENTED);
    assert_int_equal(pst_reader_open(store, key, 0, PST_UNKNOWN, &old_read, NULL, &reader, &err),
                     PST_E_UNIMPLEMENTED);
    assert_int_equal(pst_get_many(store, &item, 1, &many, NULL, &result, &err),
                     PST_E_UNIMPLEMENTED);
    pst_get_results_free(&result, 1);
    assert_int_equal(pst_copy(store, key, store, str("l"), &old_copy, NULL, NULL, &err),
                     PST_E_UNIMPLEMENTED);
    assert_int_equal(pst_delete(store, key, &old_delete, NULL, &err), PST_E_UNIMPLEMENTED);
    assert_int_equal(pst_delete_many(store, &key, &old_delete.version, 1, NULL, &status, &err),
                     PST_E_UNIMPLEMENTED);
    assert_int_equal(pst_list_open(store, str(""), &options, &f->list, &err), PST_E_UNIMPLEMENTED);
    for (unsigned slot = 0; slot < MEM_SLOTS; slot++)
        assert_int_equal(mem.calls[slot], 0);
    assert_int_equal(memstore_find("k", NULL), 3);
}

static void test_stat__sums_are_asked_for_only_when_they_are(void **state)
{
    pst_stat_options options = {.struct_size = sizeof(options), .flags = PST_LOOK_SUMS};
    pst_attr *attr = NULL;
    memstore_add("k", 3);
    assert_int_equal(pst_stat(store_of(state), str("k"), &options, NULL, &attr, NULL), PST_OK);
    pst_attr_free(attr);
    assert_int_equal(mem.stat_flags, PST_STAT_SUMS);
    assert_int_equal(pst_stat(store_of(state), str("k"), NULL, NULL, &attr, NULL), PST_OK);
    pst_attr_free(attr);
    assert_int_equal(mem.stat_flags, 0);
    options.flags = 64;
    assert_int_equal(pst_stat(store_of(state), str("k"), &options, NULL, &attr, NULL),
                     PST_E_INVALID);
}

/* ---- listings --------------------------------------------------------------------------------- */

/* "key=version" of all entries, a delete marker with '-', separated by spaces. */
static pst_rc read_versions(void **state, uint32_t page_entries, const char *start_after, char *out,
                            size_t cap, pst_error *err)
{
    struct fixture *f = *state;
    const pst_list_options options = {.struct_size = sizeof(options),
                                      .flags = PST_LISTING_VERSIONS | PST_LISTING_RECURSIVE,
                                      .page_entries = page_entries,
                                      .start_after = str(start_after)};
    size_t used = 0;
    out[0] = '\0';
    pst_list_free(f->list);
    assert_int_equal(pst_list_open(store_of(state), str(""), &options, &f->list, NULL), PST_OK);
    for (;;) {
        const pst_entry *entry = NULL;
        pst_rc rc = pst_list_next(f->list, NULL, &entry, err);
        if (rc != PST_OK || !entry)
            return rc;
        used += (size_t)snprintf(out + used, cap - used, "%s%.*s=%.*s%s", used ? " " : "",
                                 (int)entry->key.len, entry->key.ptr, (int)entry->version.len,
                                 entry->version.ptr,
                                 entry->flags & PST_ENTRY_DELETE_MARKER ? "-" : "");
    }
}

static void test_list__versions_of_a_key_follow_each_other_across_pages(void **state)
{
    char found[256];
    memstore_add("a", 1);
    memstore_add("b", 1);
    for (uint32_t page = 1; page <= 5; page++) {
        assert_int_equal(read_versions(state, page, "", found, sizeof(found), NULL), PST_OK);
        assert_string_equal(found, "a=2 a=1- b=2 b=1-");
    }
    assert_int_equal(read_versions(state, 3, "a", found, sizeof(found), NULL), PST_OK);
    assert_string_equal(found, "b=2 b=1-");
}

static void test_list__the_same_version_twice_is_a_fault(void **state)
{
    char found[256];
    pst_error err = PST_ERROR_INIT;
    memstore_add("a", 1);
    mem.quirk = MEM_REPEATS_VERSIONS;
    assert_int_equal(read_versions(state, 10, "", found, sizeof(found), &err), PST_E_INTERNAL);
    assert_non_null(strstr(err.message, "the plugin listed \"a\" after \"a\""));
}

/* ---- tags ------------------------------------------------------------------------------------- */

static const pst_kv two_tags[] = {{{"team", 4}, {"blue", 4}}, {{"stage", 5}, {"", 0}}};

static void test_tags__travel_with_put_and_upload_and_come_with_stat(void **state)
{
    const pst_attr attr = {.struct_size = sizeof(attr), .tags = two_tags, .n_tags = 2};
    const pst_write_options options = {.struct_size = sizeof(options), .attr = &attr};
    pst_attr *seen = NULL;
    pst_writer *writer = NULL;
    pst_store *store = store_of(state);
    assert_int_equal(pst_put(store, str("k"), NULL, 0, &options, NULL, NULL, NULL), PST_OK);
    assert_int_equal(mem.n_tags, 2);
    mem.n_tags = 0;
    assert_int_equal(pst_writer_open(store, str("l"), &options, NULL, &writer, NULL), PST_OK);
    assert_int_equal(pst_writer_finalize(writer, NULL, NULL), PST_OK);
    pst_writer_free(writer);
    assert_int_equal(mem.n_tags, 2);
    assert_int_equal(pst_stat(store, str("k"), NULL, NULL, &seen, NULL), PST_OK);
    assert_int_equal(seen->n_tags, 1);
    assert_memory_equal(seen->tags[0].key.ptr, "stage", 5);
    assert_memory_equal(seen->tags[0].value.ptr, "raw", 3);
    assert_memory_equal(seen->user_meta[0].key.ptr, "colour", 6);
    pst_attr_free(seen);
}

static void test_tags__a_store_that_would_drop_them_says_so(void **state)
{
    pst_attr attr = {.struct_size = sizeof(attr), .tags = two_tags, .n_tags = 2};
    const pst_kv nameless = {{"", 0}, {"x", 1}};
    const pst_write_options options = {.struct_size = sizeof(options), .attr = &attr};
    pst_error err = PST_ERROR_INIT;
    mem.caps &= ~PST_CAP_TAGS;
    pst_store *store = store_of(state);
    assert_int_equal(pst_put(store, str("k"), NULL, 0, &options, NULL, NULL, &err),
                     PST_E_UNIMPLEMENTED);
    assert_string_equal(err.message, "PUT mem://box/k: mem://box cannot keep tags");
    attr.tags = &nameless;
    attr.n_tags = 1;
    assert_int_equal(pst_put(store, str("k"), NULL, 0, &options, NULL, NULL, &err), PST_E_INVALID);
    assert_int_equal(mem.calls[MEM_PUT], 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_version__stat_delete_and_copy_hand_it_on),
        TEST(test_version__each_key_of_many_has_its_own),
        TEST(test_version__a_queue_takes_it_too),
        TEST(test_version__what_is_written_has_none),
        TEST(test_version__a_store_without_versions_says_so_before_any_call),
        TEST(test_stat__sums_are_asked_for_only_when_they_are),
        TEST(test_list__versions_of_a_key_follow_each_other_across_pages),
        TEST(test_list__the_same_version_twice_is_a_fault),
        TEST(test_tags__travel_with_put_and_upload_and_come_with_stat),
        TEST(test_tags__a_store_that_would_drop_them_says_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
