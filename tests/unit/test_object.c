/* put, stat, exists, copy, rename, containers, presign and cleanup against a store in memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <pthread.h>

#include "memstore.h"
#include "torture.h"

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

static pst_iov iov(const char *text)
{
    union {
        const char *borrowed;
        void *ptr;
    } data = {.borrowed = text};
    return (pst_iov){data.ptr, strlen(text)};
}

static void assert_says(const pst_error *err, const char *what)
{
    if (!strstr(err->message, what))
        fail_msg("\"%s\" lacks \"%s\"", err->message, what);
}

/* ---- put -------------------------------------------------------------------------------------- */

static void test_put__gathers_its_pieces_and_reports_what_is_stored(void **state)
{
    pst_store *store = store_of(state);
    const pst_iov src[] = {iov("1234"), iov(""), iov("56789")};
    const pst_attr attr = {.struct_size = sizeof(attr), .content_type = PST_STR("text/x")};
    const pst_write_options options = {
        .struct_size = sizeof(options), .attr = &attr, .sums = 1u << PST_SUM_CRC32C};
    pst_write_result result = {.struct_size = sizeof(result)};
    const unsigned char *data = NULL;
    pst_attr *seen = NULL;
    assert_int_equal(pst_put(store, str("a key\n%#?"), src, 3, &options, NULL, &result, NULL),
                     PST_OK);
    assert_int_equal(memstore_find("a key\n%#?", &data), 9);
    assert_memory_equal(data, "123456789", 9);
    assert_int_equal(result.size, 9);
    assert_int_equal(result.n_parts, 0);
    assert_int_equal(result.has_crc32c, 1);
    assert_int_equal(result.crc32c, 0xe3069283);
    assert_string_equal(result.etag, "v1");
    assert_int_equal(result.etag_strength, PST_ETAG_STRONG);
    assert_int_equal(mem.put_sum.algorithm, PST_SUM_CRC32C);
    assert_memory_equal(mem.put_sum.bytes, "\xe3\x06\x92\x83", 4);
    assert_int_equal(pst_stat(store, str("a key\n%#?"), NULL, NULL, &seen, NULL), PST_OK);
    assert_int_equal(seen->content_type.len, 6);
    pst_attr_free(seen);
}

static void test_put__sends_a_sum_only_when_somebody_wants_it(void **state)
{
    const pst_iov src = iov("x");
    pst_write_result result = {.struct_size = sizeof(result)};
    assert_int_equal(pst_put(store_of(state), str("k"), &src, 1, NULL, NULL, &result, NULL),
                     PST_OK);
    assert_int_equal(mem.put_sum.length, 0);
    assert_int_equal(result.has_crc32c, 0);
    assert_string_equal(result.checksum, "");
}

static void test_put__tells_what_was_written(void **state)
{
    const pst_iov src = iov("123456789");
    const pst_write_options options = {.struct_size = sizeof(options),
                                       .sums = 1u << PST_SUM_CRC32C};
    pst_write_result result = {.struct_size = sizeof(result)};
    assert_int_equal(pst_put(store_of(state), str("k"), &src, 1, &options, NULL, &result, NULL),
                     PST_OK);
    assert_string_equal(result.checksum, "crc32c:e3069283");
    assert_int_equal(result.bytes_written, 9);
    assert_true(result.ratio == 1.0);
}

static void test_put__the_store_may_want_the_sum(void **state)
{
    const pst_iov src = iov("123456789");
    mem.want_sums = 1u << PST_SUM_CRC32C | 1u << 31; /* and one that is not known yet */
    assert_int_equal(pst_put(store_of(state), str("k"), &src, 1, NULL, NULL, NULL, NULL), PST_OK);
    assert_memory_equal(mem.put_sum.bytes, "\xe3\x06\x92\x83", 4);
}

static void test_put__nothing_at_all_is_an_empty_object(void **state)
{
    assert_int_equal(pst_put(store_of(state), str("k"), NULL, 0, NULL, NULL, NULL, NULL), PST_OK);
    assert_int_equal(memstore_find("k", NULL), 0);
}

static void test_put__what_is_not_allowed_is_refused_before_any_call(void **state)
{
    char long_key[65];
    const pst_kv meta = {PST_STR("name"), PST_STR("seventeen bytes !")};
    const pst_attr attr = {.struct_size = sizeof(attr), .user_meta = &meta, .n_user_meta = 1};
    const struct {
        const char *key, *says;
        pst_write_options options;
        pst_iov src;
        pst_rc rc;
    } cases[] = {
        {"", "PUT mem://box/: the key is empty", {0}, iov("x"), PST_E_INVALID},
        {long_key, "the key has 64 bytes, the store takes 63", {0}, iov("x"), PST_E_INVALID},
        {"k", "5 bytes are more than the store's limit of 4", {0}, iov("12345"), PST_E_INVALID},
        {"k", "not memory", {0}, {NULL, 1}, PST_E_INVALID},
        {"k", "unknown flags 0x80", {.struct_size = 8, .flags = 0x80}, iov("x"), PST_E_INVALID},
        {"k", "struct_size of the options", {.struct_size = 1}, iov("x"), PST_E_INVALID},
        {"k",
         "21 bytes, the store takes 20",
         {.struct_size = sizeof(pst_write_options), .attr = &attr},
         iov("x"),
         PST_E_INVALID},
        {"k",
         "exclude each other",
         {.struct_size = sizeof(pst_write_options),
          .flags = PST_WRITE_CREATE_ONLY,
          .if_match = PST_STR("v1")},
         iov("x"),
         PST_E_INVALID},
        {"k",
         "unknown sums 0x20",
         {.struct_size = sizeof(pst_write_options), .sums = 1u << (PST_SUM_MD5 + 1)},
         iov("x"),
         PST_E_UNIMPLEMENTED},
    };
    memset(long_key, 'k', 64);
    long_key[64] = '\0';
    mem.limits.key_max = 63;
    mem.limits.object_max = 4;
    mem.limits.user_meta_max = 20;
    pst_store *store = store_of(state);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        pst_error err = PST_ERROR_INIT;
        const pst_write_options *options = cases[i].options.struct_size ? &cases[i].options : NULL;
        assert_int_equal(
            pst_put(store, str(cases[i].key), &cases[i].src, 1, options, NULL, NULL, &err),
            cases[i].rc);
        assert_int_equal(err.code, cases[i].rc);
        assert_says(&err, cases[i].says);
    }
    assert_int_equal(mem.calls[MEM_PUT], 0);
}

static void test_put__options_of_a_later_version_are_taken_unless_they_are_used(void **state)
{
    struct {
        pst_write_options known;
        uint64_t later;
    } options = {.known.struct_size = sizeof(options)};
    pst_error err = PST_ERROR_INIT;
    const pst_iov src = iov("x");
    pst_store *store = store_of(state);
    assert_int_equal(pst_put(store, str("k"), &src, 1, &options.known, NULL, NULL, &err), PST_OK);
    options.later = 1;
    assert_int_equal(pst_put(store, str("k"), &src, 1, &options.known, NULL, NULL, &err),
                     PST_E_INVALID);
    assert_says(&err, "version 0.9.0 lacks");
}

static void test_put__conditions_need_the_stores_word_and_hold(void **state)
{
    pst_error err = PST_ERROR_INIT;
    pst_write_options options = {.struct_size = sizeof(options), .flags = PST_WRITE_CREATE_ONLY};
    const pst_iov src = iov("x");
    pst_store *store = store_of(state);
    assert_int_equal(pst_put(store, str("k"), &src, 1, &options, NULL, NULL, &err), PST_OK);
    assert_int_equal(pst_put(store, str("k"), &src, 1, &options, NULL, NULL, &err), PST_E_EXISTS);
    assert_string_equal(err.message, "PUT mem://box/k: already exists");
    options.flags = 0;
    options.if_match = PST_STR("v9");
    assert_int_equal(pst_put(store, str("k"), &src, 1, &options, NULL, NULL, &err),
                     PST_E_PRECONDITION);
    options.if_match = PST_STR("v1");
    assert_int_equal(pst_put(store, str("k"), &src, 1, &options, NULL, NULL, &err), PST_OK);
}

static void test_put__a_store_without_conditions_says_so(void **state)
{
    pst_error err = PST_ERROR_INIT;
    const pst_write_options options = {.struct_size = sizeof(options),
                                       .flags = PST_WRITE_CREATE_ONLY};
    const pst_iov src = iov("x");
    mem.caps &= ~PST_CAP_CREATE_ONLY;
    assert_int_equal(pst_put(store_of(state), str("k"), &src, 1, &options, NULL, NULL, &err),
                     PST_E_UNIMPLEMENTED);
    assert_says(&err, "mem://box cannot write on the condition");
    assert_int_equal(mem.calls[MEM_PUT], 0);
}

static void test_put__transient_failures_are_repeated(void **state)
{
    const pst_iov src = iov("x");
    mem.fault[MEM_PUT] = (struct mem_fault){1, 2, PST_E_UNAVAILABLE, PST_ERR_RETRYABLE, 0};
    mem.busy[MEM_PUT] = 2;
    assert_int_equal(pst_put(store_of(state), str("k"), &src, 1, NULL, NULL, NULL, NULL), PST_OK);
    assert_int_equal(mem.calls[MEM_PUT], 3);
}

static void test_put__a_conditional_one_that_may_have_been_applied_is_not(void **state)
{
    pst_error err = PST_ERROR_INIT;
    const pst_write_options options = {.struct_size = sizeof(options),
                                       .flags = PST_WRITE_CREATE_ONLY};
    const pst_iov src = iov("x");
    mem.fault[MEM_PUT] = (struct mem_fault){1, 1, PST_E_UNAVAILABLE,
                                            PST_ERR_RETRYABLE | PST_ERR_MAYBE_APPLIED, 1};
    assert_int_equal(pst_put(store_of(state), str("k"), &src, 1, &options, NULL, NULL, &err),
                     PST_E_UNAVAILABLE);
    assert_true(err.flags & PST_ERR_MAYBE_APPLIED);
    assert_int_equal(mem.calls[MEM_PUT], 1);
}

static void test_put__a_short_object_is_data_loss(void **state)
{
    pst_error err = PST_ERROR_INIT;
    const pst_iov src = iov("123");
    mem.size_lie = -1;
    assert_int_equal(pst_put(store_of(state), str("k"), &src, 1, NULL, NULL, NULL, &err),
                     PST_E_DATA_LOSS);
    assert_string_equal(err.message,
                        "PUT mem://box/k: the store holds 2 bytes of the 3 that were written");
}

static void test_put__a_size_that_is_not_reported_is_looked_up_once(void **state)
{
    const pst_iov src = iov("123");
    pst_write_result result = {.struct_size = sizeof(result)};
    mem.hides_size = 1;
    assert_int_equal(pst_put(store_of(state), str("k"), &src, 1, NULL, NULL, &result, NULL),
                     PST_OK);
    assert_int_equal(result.size, 3);
    assert_int_equal(mem.calls[MEM_STAT], 1);
}

static void test_put__an_object_that_is_gone_at_once_is_data_loss(void **state)
{
    pst_error err = PST_ERROR_INIT;
    const pst_iov src = iov("123");
    mem.hides_size = 1;
    mem.fault[MEM_STAT] = (struct mem_fault){1, 1, PST_E_NOT_FOUND, 0, 0};
    assert_int_equal(pst_put(store_of(state), str("k"), &src, 1, NULL, NULL, NULL, &err),
                     PST_E_DATA_LOSS);
    assert_says(&err, "does not have it");
}

static void test_put__a_look_that_fails_leaves_the_confirmed_write_alone(void **state)
{
    const pst_iov src = iov("123");
    mem.hides_size = 1;
    mem.fault[MEM_STAT] = (struct mem_fault){1, 1, PST_E_DENIED, 0, 0};
    assert_int_equal(pst_put(store_of(state), str("k"), &src, 1, NULL, NULL, NULL, NULL), PST_OK);
}

static void test_put__one_larger_than_a_request_travels_in_parts(void **state)
{
    const pst_iov src = iov("0123456789");
    pst_write_result result = {.struct_size = sizeof(result)};
    const unsigned char *data = NULL;
    mem.limits.part_max = 4;
    assert_int_equal(pst_put(store_of(state), str("k"), &src, 1, NULL, NULL, &result, NULL),
                     PST_OK);
    assert_int_equal(mem.calls[MEM_PUT], 0);
    assert_int_equal(result.n_parts, 3);
    assert_int_equal(memstore_find("k", &data), 10);
    assert_memory_equal(data, "0123456789", 10);
}

/* ---- stat, exists ----------------------------------------------------------------------------- */

static void test_stat__hands_out_every_attribute_in_one_block(void **state)
{
    pst_attr *attr = NULL;
    memstore_add("k", 5);
    assert_int_equal(pst_stat(store_of(state), str("k"), NULL, NULL, &attr, NULL), PST_OK);
    assert_int_equal(attr->struct_size, sizeof(*attr));
    assert_int_equal(attr->size, 5);
    assert_int_equal(attr->mtime_ns, PST_TIME_UNKNOWN);
    assert_memory_equal(attr->etag.ptr, "v1", 2);
    assert_int_equal(attr->n_sums, 1);
    assert_memory_equal(attr->sums[0].bytes, "\1\2\3\4", 4);
    assert_int_equal(attr->n_user_meta, 1);
    assert_memory_equal(attr->user_meta[0].value.ptr, "blue", 4);
    assert_null(attr->version.ptr);
    pst_attr_free(attr);
    pst_attr_free(NULL);
}

static void test_stat__what_is_missing_is_named(void **state)
{
    pst_error err = PST_ERROR_INIT;
    pst_attr *attr = NULL;
    assert_int_equal(pst_stat(store_of(state), str("no\nthing"), NULL, NULL, &attr, &err),
                     PST_E_NOT_FOUND);
    assert_null(attr);
    assert_string_equal(err.message, "STAT mem://box/no\\nthing: not found");
}

static void test_calls__a_container_that_is_missing_is_named(void **state)
{
    const struct mem_fault gone = {1, 1, PST_E_NOT_FOUND, PST_ERR_NO_CONTAINER, 0};
    pst_error err = PST_ERROR_INIT;
    pst_attr *attr = NULL;
    mem.fault[MEM_STAT] = gone;
    assert_int_equal(pst_stat(store_of(state), str("k"), NULL, NULL, &attr, &err), PST_E_NOT_FOUND);
    assert_string_equal(err.message,
                        "STAT mem://box/k: the container \"box\" does not exist: told to fail");
    assert_int_equal(err.flags, PST_ERR_NO_CONTAINER);
    mem.fault[MEM_COPY] = gone; /* which of two it is the plugin knows */
    assert_int_equal(
        pst_copy(store_of(state), str("k"), store_of(state), str("l"), NULL, NULL, NULL, &err),
        PST_E_NOT_FOUND);
    assert_null(strstr(err.message, "does not exist"));
}

static void test_stat__a_timeout_leaves_the_operation_behind(void **state)
{
    pst_error err = PST_ERROR_INIT;
    pst_attr *attr = NULL;
    const pst_call call = {.struct_size = sizeof(call), .timeout_ms = 20};
    mem.mode[MEM_STAT] = MEM_HOLD;
    mem.ignores_cancel = 1;
    assert_int_equal(pst_stat(store_of(state), str("k"), NULL, &call, &attr, &err), PST_E_DEADLINE);
    memstore_release();
}

static void test_exists__tells_yes_no_and_cannot_say_apart(void **state)
{
    pst_error err = PST_ERROR_INIT;
    pst_store *store = store_of(state);
    int exists = -1;
    memstore_add("k", 1);
    assert_int_equal(pst_exists(store, str("k"), NULL, &exists, &err), PST_OK);
    assert_int_equal(exists, 1);
    assert_int_equal(pst_exists(store, str("other"), NULL, &exists, &err), PST_OK);
    assert_int_equal(exists, 0);
    assert_int_equal(err.code, 0);
    mem.fault[MEM_STAT] = (struct mem_fault){1, 1, PST_E_DENIED, 0, 0};
    assert_int_equal(pst_exists(store, str("k"), NULL, &exists, &err), PST_E_DENIED);
    assert_int_equal(exists, 0);
}

/* ---- copy, rename, the rest ------------------------------------------------------------------- */

static void test_copy__keeps_attributes_or_replaces_them(void **state)
{
    pst_store *store = store_of(state);
    const pst_iov src = iov("12");
    const pst_attr text = {.struct_size = sizeof(text), .content_type = PST_STR("text/plain")};
    const pst_attr json = {.struct_size = sizeof(json), .content_type = PST_STR("a/json")};
    const pst_write_options written = {.struct_size = sizeof(written), .attr = &text};
    pst_copy_options options = {.struct_size = sizeof(options), .attr = &json};
    pst_write_result result = {.struct_size = sizeof(result)};
    pst_attr *seen = NULL;
    assert_int_equal(pst_put(store, str("a"), &src, 1, &written, NULL, NULL, NULL), PST_OK);
    assert_int_equal(pst_copy(store, str("a"), store, str("b"), NULL, NULL, &result, NULL), PST_OK);
    assert_int_equal(result.size, 2);
    assert_int_equal(pst_stat(store, str("b"), NULL, NULL, &seen, NULL), PST_OK);
    assert_memory_equal(seen->content_type.ptr, "text/plain", 10);
    pst_attr_free(seen);
    assert_int_equal(pst_copy(store, str("a"), store, str("b"), &options, NULL, NULL, NULL),
                     PST_OK);
    assert_int_equal(pst_stat(store, str("b"), NULL, NULL, &seen, NULL), PST_OK);
    assert_memory_equal(seen->content_type.ptr, "a/json", 6);
    pst_attr_free(seen);
    options.flags = PST_WRITE_CREATE_ONLY;
    assert_int_equal(pst_copy(store, str("a"), store, str("b"), &options, NULL, NULL, NULL),
                     PST_E_EXISTS);
    assert_int_equal(pst_copy(store, str("a"), store, str(""), NULL, NULL, NULL, NULL),
                     PST_E_INVALID);
    assert_int_equal(pst_copy(store, str("x"), store, str("y"), NULL, NULL, NULL, NULL),
                     PST_E_NOT_FOUND);
}

static void test_rename__moves_and_is_never_repeated(void **state)
{
    pst_store *store = store_of(state);
    memstore_add("a", 3);
    assert_int_equal(pst_rename(store, str("a"), str("b"), NULL, NULL, NULL), PST_OK);
    assert_int_equal(memstore_find("a", NULL), -1);
    assert_int_equal(memstore_find("b", NULL), 3);
    mem.fault[MEM_RENAME] = (struct mem_fault){1, 1, PST_E_UNAVAILABLE,
                                               PST_ERR_RETRYABLE | PST_ERR_MAYBE_APPLIED, 1};
    assert_int_equal(pst_rename(store, str("b"), str("c"), NULL, NULL, NULL), PST_E_UNAVAILABLE);
    assert_int_equal(mem.calls[MEM_RENAME], 2);
}

static void test_calls__a_store_that_cannot_says_so_before_any_io(void **state)
{
    pst_error err = PST_ERROR_INIT;
    char *url = NULL;
    uint64_t n = 0, bytes = 0;
    mem.caps = PST_CAP_READ;
    pst_store *store = store_of(state);
    assert_int_equal(pst_copy(store, str("a"), store, str("b"), NULL, NULL, NULL, &err),
                     PST_E_UNIMPLEMENTED);
    assert_string_equal(err.message,
                        "COPY mem://box/a: mem://box cannot copy objects: read and write instead");
    assert_int_equal(pst_rename(store, str("a"), str("b"), NULL, NULL, &err), PST_E_UNIMPLEMENTED);
    assert_int_equal(pst_presign(store, str("a"), str("GET"), 1, NULL, &url, &err),
                     PST_E_UNIMPLEMENTED);
    assert_int_equal(pst_container_create(store, str("a"), NULL, &err), PST_E_UNIMPLEMENTED);
    assert_int_equal(pst_cleanup(store, str(""), 0, 0, NULL, &n, &bytes, &err),
                     PST_E_UNIMPLEMENTED);
    assert_int_equal(pst_delete(store, str("a"), NULL, NULL, &err), PST_E_UNIMPLEMENTED);
    assert_int_equal(pst_delete_prefix(store, str("a"), NULL, &n, &err), PST_E_UNIMPLEMENTED);
    assert_int_equal(pst_put(store, str("a"), NULL, 0, NULL, NULL, NULL, &err),
                     PST_E_UNIMPLEMENTED);
    for (unsigned slot = 0; slot < MEM_SLOTS; slot++)
        assert_int_equal(mem.calls[slot], 0);
}

static void test_container__an_empty_name_is_the_authority(void **state)
{
    pst_store *store = store_of(state);
    assert_int_equal(pst_container_create(store, str("dir"), NULL, NULL), PST_OK);
    assert_int_equal(pst_container_create(store, str(""), NULL, NULL), PST_E_EXISTS);
    assert_int_equal(pst_container_delete(store, str("dir"), NULL, NULL), PST_OK);
}

static void test_presign__gives_a_url_of_ones_own(void **state)
{
    pst_error err = PST_ERROR_INIT;
    char *url = NULL;
    pst_store *store = store_of(state);
    assert_int_equal(pst_presign(store, str("a"), str("GET"), 60, NULL, &url, NULL), PST_OK);
    assert_string_equal(url, "https://box/a?GET");
    free(url);
    assert_int_equal(pst_presign(store, str("a"), str("GET"), 0, NULL, &url, &err), PST_E_INVALID);
    assert_null(url);
}

static void test_cleanup__counts_and_can_only_look(void **state)
{
    uint64_t n = 0, bytes = 0;
    pst_store *store = store_of(state);
    assert_int_equal(pst_cleanup(store, str(""), 70, 0, NULL, &n, &bytes, NULL), PST_OK);
    assert_int_equal(n, 2);
    assert_int_equal(bytes, 70);
    assert_int_equal(pst_cleanup(store, str(""), 70, PST_CLEAN_DRY_RUN, NULL, &n, &bytes, NULL),
                     PST_OK);
    assert_int_equal(n, 1);
    assert_int_equal(pst_cleanup(store, str(""), 70, 8, NULL, &n, &bytes, NULL), PST_E_INVALID);
}

/* ---- torture ---------------------------------------------------------------------------------- */

static pst_rc run_everything(pst_store *store)
{
    const pst_iov src = iov("12345");
    const pst_kv meta = {PST_STR("a"), PST_STR("b")};
    const pst_attr attr = {.struct_size = sizeof(attr), .user_meta = &meta, .n_user_meta = 1};
    const pst_write_options options = {.struct_size = sizeof(options), .attr = &attr};
    const pst_copy_options copy = {.struct_size = sizeof(copy), .attr = &attr};
    const pst_str keys[] = {str("x"), str("y"), str("z")};
    const pst_call call = {.struct_size = sizeof(call), .timeout_ms = 60000};
    pst_rc statuses[3];
    pst_attr *seen = NULL;
    char *url = NULL;
    uint64_t n = 0;
    pst_rc rc = pst_put(store, str("x"), &src, 1, &options, NULL, NULL, NULL);
    if (rc == PST_OK)
        rc = pst_put(store, str("y"), &src, 1, &options, &call, NULL, NULL); /* by a writer */
    if (rc == PST_OK)
        rc = pst_copy(store, str("x"), store, str("z"), &copy, NULL, NULL, NULL);
    if (rc == PST_OK)
        rc = pst_stat(store, str("x"), NULL, NULL, &seen, NULL);
    pst_attr_free(seen);
    if (rc == PST_OK)
        rc = pst_presign(store, str("x"), str("PUT"), 1, NULL, &url, NULL);
    free(url);
    if (rc == PST_OK)
        rc = pst_delete_many(store, keys, NULL, 3, NULL, statuses, NULL);
    if (rc == PST_OK)
        rc = pst_put(store, str("x"), &src, 1, NULL, NULL, NULL, NULL);
    if (rc == PST_OK)
        rc = pst_delete_prefix(store, str("x"), NULL, &n, NULL);
    return rc;
}

static void test_calls__every_allocation_may_fail(void **state)
{
    mem.limits.remove_batch_max = 2;
    mem.caps &= ~PST_CAP_CANCEL_BOUNDED;
    pst_store *store = store_of(state);
    assert_int_equal(run_everything(store), PST_OK);
    for (unsigned n = 1;; n++) {
        long before = torture_live();
        torture_arm(n);
        pst_rc rc = run_everything(store);
        int was_reached = torture_disarm();
        assert_int_equal(torture_live(), before);
        if (!was_reached) {
            assert_int_equal(rc, PST_OK);
            assert_true(n > 30);
            break;
        }
        assert_true(rc == PST_E_NO_MEMORY || rc == PST_OK);
    }
}

static void test_calls__a_fork_child_opens_the_store_anew(void **state)
{
    pst_store *store = store_of(state);
    memstore_add("k", 4);
    int exists = 0;
    assert_int_equal(pst_exists(store, str("k"), NULL, &exists, NULL), PST_OK);
    pid_t child = fork();
    if (child == 0) {
        pst_attr *attr = NULL;
        pst_rc rc = pst_stat(store, str("k"), NULL, NULL, &attr, NULL);
        _exit(rc == PST_OK && attr->size == 4 ? 0 : 1);
    }
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_put__gathers_its_pieces_and_reports_what_is_stored),
        TEST(test_put__sends_a_sum_only_when_somebody_wants_it),
        TEST(test_put__tells_what_was_written),
        TEST(test_put__the_store_may_want_the_sum),
        TEST(test_put__nothing_at_all_is_an_empty_object),
        TEST(test_put__what_is_not_allowed_is_refused_before_any_call),
        TEST(test_put__options_of_a_later_version_are_taken_unless_they_are_used),
        TEST(test_put__conditions_need_the_stores_word_and_hold),
        TEST(test_put__a_store_without_conditions_says_so),
        TEST(test_put__transient_failures_are_repeated),
        TEST(test_put__a_conditional_one_that_may_have_been_applied_is_not),
        TEST(test_put__a_short_object_is_data_loss),
        TEST(test_put__a_size_that_is_not_reported_is_looked_up_once),
        TEST(test_put__an_object_that_is_gone_at_once_is_data_loss),
        TEST(test_put__a_look_that_fails_leaves_the_confirmed_write_alone),
        TEST(test_put__one_larger_than_a_request_travels_in_parts),
        TEST(test_stat__hands_out_every_attribute_in_one_block),
        TEST(test_stat__what_is_missing_is_named),
        TEST(test_calls__a_container_that_is_missing_is_named),
        TEST(test_stat__a_timeout_leaves_the_operation_behind),
        TEST(test_exists__tells_yes_no_and_cannot_say_apart),
        TEST(test_copy__keeps_attributes_or_replaces_them),
        TEST(test_rename__moves_and_is_never_repeated),
        TEST(test_calls__a_store_that_cannot_says_so_before_any_io),
        TEST(test_container__an_empty_name_is_the_authority),
        TEST(test_presign__gives_a_url_of_ones_own),
        TEST(test_cleanup__counts_and_can_only_look),
        TEST(test_calls__every_allocation_may_fail),
        TEST(test_calls__a_fork_child_opens_the_store_anew),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
