/* Listings by cursor and by token, honest and otherwise. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "memstore.h"
#include "torture.h"

#define MIB ((size_t)1 << 20)
#define RECURSIVE PST_LISTING_RECURSIVE

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

static int setup_tokens(void **state)
{
    int rc = setup(state);
    mem.has_cursors = 0;
    return rc;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    pst_list_free(f->list);
    memstore_wait_for(&mem.n_cursors, 0); /* closed, all of them */
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

static pst_list *open_list(void **state, const char *prefix, uint32_t flags, uint32_t page_entries,
                           const char *start_after)
{
    struct fixture *f = *state;
    const pst_list_options options = {.struct_size = sizeof(options),
                                      .flags = flags,
                                      .page_entries = page_entries,
                                      .start_after = str(start_after)};
    if (!f->store)
        f->store = memstore_open(f->context);
    pst_list_free(f->list);
    assert_int_equal(pst_list_open(f->store, str(prefix), &options, &f->list, NULL), PST_OK);
    return f->list;
}

/* All keys, separated by spaces, up to the end or a failure. */
static pst_rc read_keys(pst_list *list, char *out, size_t cap, pst_error *err)
{
    size_t used = 0;
    out[0] = '\0';
    for (;;) {
        const pst_entry *entry = NULL;
        pst_rc rc = pst_list_next(list, NULL, &entry, err);
        if (rc != PST_OK || !entry)
            return rc;
        used += (size_t)snprintf(out + used, cap - used, "%s%.*s", used ? " " : "",
                                 (int)entry->key.len, entry->key.ptr);
        assert_true(used < cap);
    }
}

static void assert_keys(pst_list *list, const char *expected)
{
    char keys[1024];
    assert_int_equal(read_keys(list, keys, sizeof(keys), NULL), PST_OK);
    assert_string_equal(keys, expected);
}

static void add_tree(void)
{
    memstore_add("a/1", 1);
    memstore_add("a/2", 2);
    memstore_add("a-b", 3);
    memstore_add("b", 4);
    memstore_add("c/d/e", 5);
}

static void add_many(unsigned n)
{
    char key[32];
    for (unsigned i = 0; i < n; i++) {
        snprintf(key, sizeof(key), "d/%05u", i);
        memstore_add(key, i);
    }
}

/* ---- what a listing gives --------------------------------------------------------------------- */

static void test_list__a_delimiter_makes_prefixes_and_recursion_none(void **state)
{
    add_tree();
    assert_keys(open_list(state, "", 0, 0, ""), "a-b a/ b c/");
    assert_keys(open_list(state, "", RECURSIVE, 0, ""), "a-b a/1 a/2 b c/d/e");
    assert_keys(open_list(state, "a/", 0, 0, ""), "a/1 a/2");
    assert_keys(open_list(state, "a", RECURSIVE, 0, ""), "a-b a/1 a/2");
    assert_keys(open_list(state, "zz", 0, 0, ""), "");
}

static void test_list__entries_are_whole_and_the_pages_as_large_as_asked(void **state)
{
    const pst_entry *entries = NULL;
    size_t n = 0;
    add_tree();
    pst_list *list = open_list(state, "", 0, 3, "");
    assert_int_equal(pst_list_page(list, NULL, &entries, &n, NULL), PST_OK);
    assert_int_equal(n, 3);
    assert_int_equal(entries[0].size, 3);
    assert_int_equal(entries[0].mtime_ns, 42);
    assert_memory_equal(entries[0].content_encoding.ptr, "gzip", 4);
    assert_int_equal(entries[1].kind, PST_KIND_PREFIX);
    assert_int_equal(pst_list_page(list, NULL, &entries, &n, NULL), PST_OK);
    assert_int_equal(n, 1);
    for (int i = 0; i < 2; i++) { /* the end stays the end */
        assert_int_equal(pst_list_page(list, NULL, &entries, &n, NULL), PST_OK);
        assert_int_equal(n, 0);
        assert_null(entries);
    }
}

static void test_list__starts_after_a_key_be_it_there_or_not(void **state)
{
    add_tree();
    assert_keys(open_list(state, "", RECURSIVE, 0, "a/1"), "a/2 b c/d/e");
    assert_keys(open_list(state, "", RECURSIVE, 2, "a/11"), "a/2 b c/d/e");
    assert_keys(open_list(state, "", RECURSIVE, 0, "z"), "");
}

static void test_list__many_pages_are_walked_to_the_end(void **state)
{
    unsigned n = 0;
    char expected[32];
    add_many(1000);
    pst_list *list = open_list(state, "d/", RECURSIVE, 7, "");
    for (;; n++) {
        const pst_entry *entry = NULL;
        assert_int_equal(pst_list_next(list, NULL, &entry, NULL), PST_OK);
        if (!entry)
            break;
        snprintf(expected, sizeof(expected), "d/%05u", n);
        assert_int_equal(entry->key.len, strlen(expected));
        assert_memory_equal(entry->key.ptr, expected, entry->key.len);
        assert_int_equal(entry->size, n);
    }
    assert_int_equal(n, 1000);
    assert_int_equal(mem.calls[mem.has_cursors ? MEM_LIST_PAGE : MEM_LIST], 143);
}

static void test_list__an_entry_may_be_shorter_or_longer_than_ours(void **state)
{
    const pst_entry *entries = NULL;
    size_t n = 0;
    add_tree();
    mem.stride = offsetof(pst_entry, etag);
    assert_int_equal(
        pst_list_page(open_list(state, "", RECURSIVE, 0, ""), NULL, &entries, &n, NULL), PST_OK);
    assert_int_equal(n, 5);
    assert_int_equal(entries[4].size, 5);
    assert_int_equal(entries[4].content_encoding.len, 0);
    mem.stride = sizeof(pst_entry) + 48;
    assert_int_equal(
        pst_list_page(open_list(state, "", RECURSIVE, 0, ""), NULL, &entries, &n, NULL), PST_OK);
    assert_int_equal(n, 5);
    assert_int_equal(entries[4].content_encoding.len, 4);
    mem.stride = 8;
    assert_int_equal(
        pst_list_page(open_list(state, "", RECURSIVE, 0, ""), NULL, &entries, &n, NULL),
        PST_E_INTERNAL);
}

static void test_list__empty_pages_are_passed_over(void **state)
{
    add_tree();
    mem.empty_pages = 3;
    assert_keys(open_list(state, "", RECURSIVE, 2, ""), "a-b a/1 a/2 b c/d/e");
    assert_int_equal(mem.calls[MEM_LIST], 12);
}

/* ---- what it refuses -------------------------------------------------------------------------- */

static void test_list__order_needs_a_store_that_has_it(void **state)
{
    struct fixture *f = *state;
    pst_error err = PST_ERROR_INIT;
    pst_list_options options = {.struct_size = sizeof(options)};
    mem.caps &= ~PST_CAP_LIST_ORDERED;
    add_tree();
    f->store = memstore_open(f->context);
    assert_int_equal(pst_list_open(f->store, str(""), &options, &f->list, &err),
                     PST_E_UNIMPLEMENTED);
    assert_string_equal(
        err.message, "LIST mem://box/: mem://box cannot list in key order: ask for it unordered");
    mem.quirk = MEM_SWAPS_KEYS;
    assert_keys(open_list(state, "", PST_LISTING_UNORDERED, 0, ""), "a/ a-b b c/");
    options = (pst_list_options){
        .struct_size = sizeof(options), .flags = PST_LISTING_UNORDERED, .start_after = str("a")};
    pst_list_free(f->list);
    assert_int_equal(pst_list_open(f->store, str(""), &options, &f->list, &err),
                     PST_E_UNIMPLEMENTED);
    assert_non_null(strstr(err.message, "start_after needs order"));
    options = (pst_list_options){.struct_size = sizeof(options), .flags = 64};
    assert_int_equal(pst_list_open(f->store, str(""), &options, &f->list, &err), PST_E_INVALID);
}

static void assert_broken(void **state, enum mem_quirk quirk, uint32_t page_entries,
                          const char *first, const char *why)
{
    char keys[256];
    pst_error err = PST_ERROR_INIT;
    mem.quirk = quirk;
    pst_list *list = open_list(state, "a", RECURSIVE, page_entries, "");
    assert_int_equal(read_keys(list, keys, sizeof(keys), &err), PST_E_INTERNAL);
    assert_string_equal(keys, first);
    assert_string_equal(err.message, why);
    mem.quirk = MEM_HONEST;
    err.message[0] = '\0';
    assert_int_equal(read_keys(list, keys, sizeof(keys), &err), PST_E_INTERNAL); /* for good */
    assert_string_equal(keys, "");
    assert_string_equal(err.message, why);
}

static void test_list__a_plugin_that_breaks_its_word_is_named_not_believed(void **state)
{
    add_tree();
    assert_broken(state, MEM_SWAPS_KEYS, 0, "",
                  "LIST mem://box/a: the plugin listed \"a-b\" after \"a/1\"");
    assert_broken(state, MEM_SWAPS_PAGES, 2, "a-b a/1",
                  "LIST mem://box/a: the plugin listed \"a-b\" after \"a/1\"");
    assert_broken(
        state, MEM_LEAVES_PREFIX, 0, "",
        "LIST mem://box/a: the plugin listed \"odd\" which does not start with the prefix "
        "\"a\"");
}

static void test_list__more_entries_than_asked_for_are_a_fault(void **state)
{
    char keys[256];
    pst_error err = PST_ERROR_INIT;
    memstore_add("o", 1);
    mem.quirk = MEM_OVERFILLS;
    assert_int_equal(
        read_keys(open_list(state, "o", PST_LISTING_UNORDERED, 2, ""), keys, sizeof(keys), &err),
        PST_E_INTERNAL);
    assert_string_equal(err.message,
                        "LIST mem://box/o: the plugin listed more than the 2 entries asked for");
}

static void test_list__the_same_token_twice_does_not_go_on_for_ever(void **state)
{
    char keys[256];
    pst_error err = PST_ERROR_INIT;
    mem.quirk = MEM_REPEATS_TOKEN;
    assert_int_equal(read_keys(open_list(state, "", RECURSIVE, 0, ""), keys, sizeof(keys), &err),
                     PST_E_INTERNAL);
    assert_string_equal(err.message, "LIST mem://box/: the plugin gave the same token twice");
}

static void test_list__a_cursor_must_be_there(void **state)
{
    char keys[256];
    mem.quirk = MEM_GIVES_NOTHING;
    assert_int_equal(read_keys(open_list(state, "", RECURSIVE, 0, ""), keys, sizeof(keys), NULL),
                     PST_E_INTERNAL);
}

/* ---- failures and cuts ------------------------------------------------------------------------ */

static void test_list__entries_of_a_failed_attempt_are_forgotten(void **state)
{
    enum mem_slot slot = mem.has_cursors ? MEM_LIST_PAGE : MEM_LIST;
    add_tree();
    mem.quirk = MEM_LISTS_THEN_FAILS;
    mem.fault[slot] = (struct mem_fault){2, 2, PST_E_UNAVAILABLE, PST_ERR_RETRYABLE, 0};
    mem.busy[slot] = 1;
    assert_keys(open_list(state, "", RECURSIVE, 2, ""), "a-b a/1 a/2 b c/d/e");
    assert_int_equal(mem.attempts_max, 3);
}

static void test_list__a_failed_page_is_an_error_and_may_be_asked_for_again(void **state)
{
    enum mem_slot slot = mem.has_cursors ? MEM_LIST_PAGE : MEM_LIST;
    char keys[256];
    pst_error err = PST_ERROR_INIT;
    add_tree();
    mem.quirk = MEM_LISTS_THEN_FAILS;
    mem.fault[slot] = (struct mem_fault){2, 1, PST_E_DENIED, 0, 0};
    pst_list *list = open_list(state, "", RECURSIVE, 2, "");
    assert_int_equal(read_keys(list, keys, sizeof(keys), &err), PST_E_DENIED);
    assert_string_equal(keys, "a-b a/1");
    assert_string_equal(err.message, "LIST mem://box/: told to fail");
    assert_keys(list, "a/2 b c/d/e");
}

static void test_list__a_page_that_came_late_is_not_lost(void **state)
{
    enum mem_slot slot = mem.has_cursors ? MEM_LIST_PAGE : MEM_LIST;
    const pst_call hasty = {.struct_size = sizeof(hasty), .timeout_ms = 20};
    const pst_entry *entries = NULL;
    size_t n = 0;
    pst_error err = PST_ERROR_INIT;
    add_tree();
    mem.mode[slot] = MEM_HOLD;
    mem.ignores_cancel = 1;
    pst_list *list = open_list(state, "", RECURSIVE, 2, "");
    assert_int_equal(pst_list_page(list, &hasty, &entries, &n, &err), PST_E_DEADLINE);
    assert_string_equal(err.message, "LIST mem://box/: deadline exceeded");
    assert_int_equal(pst_list_page(list, &hasty, &entries, &n, &err), PST_E_DEADLINE);
    memstore_release(); /* the plugin had it all the same: a cursor has moved on */
    mem.mode[slot] = MEM_POOL;
    assert_keys(list, "a-b a/1 a/2 b c/d/e");
    assert_int_equal(mem.calls[slot], 3);
}

static void test_list__a_page_that_was_cancelled_is_asked_for_again(void **state)
{
    enum mem_slot slot = mem.has_cursors ? MEM_LIST_PAGE : MEM_LIST;
    const pst_call hasty = {.struct_size = sizeof(hasty), .timeout_ms = 20};
    const pst_entry *entries = NULL;
    size_t n = 0;
    add_tree();
    mem.mode[slot] = MEM_HOLD;
    pst_list *list = open_list(state, "", RECURSIVE, 2, "");
    assert_int_equal(pst_list_page(list, &hasty, &entries, &n, NULL), PST_E_DEADLINE);
    mem.mode[slot] = MEM_INLINE;
    assert_keys(list, "a-b a/1 a/2 b c/d/e");
}

static void test_list__freed_with_a_page_on_its_way_it_closes_the_cursor_after_it(void **state)
{
    struct fixture *f = *state;
    const pst_call hasty = {.struct_size = sizeof(hasty), .timeout_ms = 20};
    const pst_entry *entries = NULL;
    size_t n = 0;
    add_tree();
    mem.mode[MEM_LIST_PAGE] = MEM_HOLD;
    mem.ignores_cancel = 1;
    pst_list *list = open_list(state, "", RECURSIVE, 2, "");
    assert_int_equal(pst_list_page(list, &hasty, &entries, &n, NULL), PST_E_DEADLINE);
    pst_list_free(list);
    f->list = NULL;
    assert_int_equal(mem.n_cursors, 1);
    memstore_release();
    memstore_wait_for(&mem.n_cursors, 0);
}

static void test_list__a_cursor_that_opens_too_late_is_closed(void **state)
{
    struct fixture *f = *state;
    const pst_call hasty = {.struct_size = sizeof(hasty), .timeout_ms = 20};
    const pst_entry *entries = NULL;
    size_t n = 0;
    mem.mode[MEM_LIST_OPEN] = MEM_HOLD;
    mem.ignores_cancel = 1;
    pst_list *list = open_list(state, "", RECURSIVE, 2, "");
    assert_int_equal(pst_list_page(list, &hasty, &entries, &n, NULL), PST_E_DEADLINE);
    pst_list_free(list);
    f->list = NULL;
    memstore_release();
    memstore_wait_for(&mem.n_cursors, 0);
    assert_int_equal(mem.calls[MEM_LIST_OPEN], 1);
}

static void test_list__outlives_its_context_and_its_store(void **state)
{
    struct fixture *f = *state;
    const pst_entry *entry = NULL;
    add_tree();
    pst_list *list = open_list(state, "", RECURSIVE, 2, "");
    assert_int_equal(pst_list_next(list, NULL, &entry, NULL), PST_OK);
    pst_store_free(f->store);
    pst_context_free(f->context);
    pst_list_free(list);
    f->list = NULL;
    f->store = NULL;
    memstore_wait_for(&mem.n_cursors, 0);
    f->context = memstore_context(0);
}

static void test_list__in_a_fork_child_it_answers_forked(void **state)
{
    const pst_entry *entry = NULL;
    int status = -1;
    add_tree();
    pst_list *list = open_list(state, "", RECURSIVE, 2, "");
    assert_int_equal(pst_list_next(list, NULL, &entry, NULL), PST_OK);
    pid_t child = fork();
    if (child == 0) {
        pst_rc rc = pst_list_next(list, NULL, &entry, NULL);
        pst_list_free(list);
        _exit(rc == PST_E_FORKED && mem.n_cursors == (unsigned)mem.has_cursors ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_keys(list, "a/1 a/2 b c/d/e");
}

static void test_list__every_allocation_may_fail(void **state)
{
    struct fixture *f = *state;
    const pst_list_options options = {
        .struct_size = sizeof(options), .flags = RECURSIVE, .page_entries = 2};
    char keys[256];
    add_tree();
    assert_keys(open_list(state, "", RECURSIVE, 2, ""), "a-b a/1 a/2 b c/d/e");
    for (unsigned n = 1;; n++) {
        pst_list *list = NULL;
        long before = torture_live();
        torture_arm(n);
        pst_rc rc = pst_list_open(f->store, str(""), &options, &list, NULL);
        if (rc == PST_OK)
            rc = read_keys(list, keys, sizeof(keys), NULL);
        int was_reached = torture_disarm();
        pst_list_free(list);
        assert_int_equal(torture_live(), before);
        if (rc == PST_OK)
            assert_string_equal(keys, "a-b a/1 a/2 b c/d/e");
        else
            assert_int_equal(rc, PST_E_NO_MEMORY);
        if (!was_reached) {
            assert_int_equal(rc, PST_OK);
            assert_true(n > 10);
            break;
        }
    }
}

#define CURSOR(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
#define TOKEN(name)                                                                                \
    {                                                                                              \
#name " (token)", name, setup_tokens, teardown, NULL                                       \
    }
#define BOTH(name) CURSOR(name), TOKEN(name)

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(test_list__a_delimiter_makes_prefixes_and_recursion_none),
        BOTH(test_list__entries_are_whole_and_the_pages_as_large_as_asked),
        BOTH(test_list__starts_after_a_key_be_it_there_or_not),
        BOTH(test_list__many_pages_are_walked_to_the_end),
        BOTH(test_list__an_entry_may_be_shorter_or_longer_than_ours),
        TOKEN(test_list__empty_pages_are_passed_over),
        BOTH(test_list__order_needs_a_store_that_has_it),
        BOTH(test_list__a_plugin_that_breaks_its_word_is_named_not_believed),
        BOTH(test_list__more_entries_than_asked_for_are_a_fault),
        TOKEN(test_list__the_same_token_twice_does_not_go_on_for_ever),
        CURSOR(test_list__a_cursor_must_be_there),
        BOTH(test_list__entries_of_a_failed_attempt_are_forgotten),
        BOTH(test_list__a_failed_page_is_an_error_and_may_be_asked_for_again),
        BOTH(test_list__a_page_that_came_late_is_not_lost),
        BOTH(test_list__a_page_that_was_cancelled_is_asked_for_again),
        CURSOR(test_list__freed_with_a_page_on_its_way_it_closes_the_cursor_after_it),
        CURSOR(test_list__a_cursor_that_opens_too_late_is_closed),
        BOTH(test_list__outlives_its_context_and_its_store),
        BOTH(test_list__in_a_fork_child_it_answers_forked),
        BOTH(test_list__every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
