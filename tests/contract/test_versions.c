/* Contract 9, 10 and 20: one version of one object; what the open store offers and nothing else. */
#include "contract.h"

static char body[100];

static const pst_context_options small_reads = {.struct_size = sizeof(small_reads),
                                                .first_read_bytes = 10};

/* The object is replaced between the first read and the rest. */
static pst_rc replaced_after_first(pst_backend *b, pst_op *op, const pst_read_args *a,
                                   pst_read_result *r)
{
    (void)b;
    pst_read_args any = *a;
    any.if_match = (pst_str){NULL, 0}; /* the plugin ignores If-Match: the host must notice */
    if (a->offset > 0)
        puppet.etag = "v2";
    return puppet_read(op, &any, r);
}

static pst_rc get(const pst_read_options *options, pst_buffer **buffer)
{
    pst_context *context = puppet_context(&small_reads);
    pst_store *store = puppet_store(context, "puppet");
    *buffer = NULL;
    pst_rc rc = pst_get(store, object_key, options, NULL, buffer, NULL, NULL);
    pst_store_free(store);
    pst_context_free(context);
    return rc;
}

static void use_body(void)
{
    puppet.body = body;
    puppet.body_len = sizeof(body);
    puppet.limits.io_preferred = 30;
}

static void test_split_read__two_versions_are_never_mixed(void **state)
{
    pst_buffer *buffer;
    (void)state;
    use_body();
    puppet.hooks.read = replaced_after_first;
    assert_int_equal(get(NULL, &buffer), PST_E_CHANGED);
    assert_null(buffer);
}

static void test_split_read__one_version_arrives_whole(void **state)
{
    pst_buffer *buffer;
    (void)state;
    use_body();
    assert_int_equal(get(NULL, &buffer), PST_OK);
    assert_int_equal(pst_buffer_size(buffer), sizeof(body));
    assert_memory_equal(pst_buffer_data(buffer), body, sizeof(body));
    assert_int_equal(atomic_load(&puppet.n_submits), 4); /* 10 and three times 30 */
    pst_buffer_unref(buffer);
}

/* A weak etag proves nothing: the rest comes by one request for the whole object. */
static uint64_t longest;

static pst_rc note_length(pst_backend *b, pst_op *op, const pst_read_args *a, pst_read_result *r)
{
    (void)b;
    assert_int_equal(a->if_match.len, 0);
    if (a->length > longest)
        longest = a->length;
    return puppet_read(op, a, r);
}

static void test_weak_etag__object_is_read_by_a_single_request(void **state)
{
    pst_buffer *buffer;
    (void)state;
    use_body();
    longest = 0;
    puppet.etag_strength = PST_ETAG_WEAK;
    puppet.hooks.read = note_length;
    assert_int_equal(get(NULL, &buffer), PST_OK);
    assert_memory_equal(pst_buffer_data(buffer), body, sizeof(body));
    assert_int_equal(longest, sizeof(body));
    pst_buffer_unref(buffer);
}

static void test_weak_etag__may_be_split_when_the_caller_allows_it(void **state)
{
    const pst_read_options allow = {.struct_size = sizeof(allow), .flags = PST_READ_ALLOW_UNPINNED};
    pst_buffer *buffer;
    (void)state;
    use_body();
    longest = 0;
    puppet.etag_strength = PST_ETAG_WEAK;
    puppet.hooks.read = note_length;
    assert_int_equal(get(&allow, &buffer), PST_OK);
    assert_int_equal(longest, 30);
    pst_buffer_unref(buffer);
}

/* A short range in the middle is no end of the object. */
static pst_rc short_in_the_middle(pst_backend *b, pst_op *op, const pst_read_args *a,
                                  pst_read_result *r)
{
    (void)b;
    pst_rc rc = puppet_read(op, a, r);
    if (a->offset > 0)
        r->n_read -= 1;
    return rc;
}

static void test_split_read__short_range_is_data_loss(void **state)
{
    pst_buffer *buffer;
    (void)state;
    use_body();
    puppet.hooks.read = short_in_the_middle;
    assert_int_equal(get(NULL, &buffer), PST_E_DATA_LOSS);
}

/* 10. A store cannot claim what its plugin does not declare. */
static void test_caps__the_open_store_is_no_more_than_its_plugin(void **state)
{
    pst_error err = PST_ERROR_INIT;
    uint64_t n_removed = 0, n_bytes = 0;
    (void)state;
    puppet.caps |= PST_CAP_CLEANUP | PST_CAP_CONTAINER;
    pst_context *context = puppet_context(NULL);
    pst_store *store = puppet_store(context, "puppet");
    pst_store_info info = {.struct_size = sizeof(info)};
    pst_store_describe(store, &info);
    assert_int_equal(info.caps & (PST_CAP_CLEANUP | PST_CAP_CONTAINER), 0);
    assert_int_equal(pst_cleanup(store, PST_STR("x"), 0, 0, NULL, &n_removed, &n_bytes, &err),
                     PST_E_UNIMPLEMENTED);
    pst_store_free(store);
    pst_context_free(context);
}

/* 20. Without suffix reads the host asks for the size and reads a pinned range. */
static uint32_t seen_flags;
static int saw_pin;

static pst_rc note_suffix(pst_backend *b, pst_op *op, const pst_read_args *a, pst_read_result *r)
{
    (void)b;
    seen_flags |= a->flags;
    saw_pin |= a->if_match.len > 0;
    return puppet_read(op, a, r);
}

static void test_suffix__without_the_capability_is_a_pinned_range(void **state)
{
    pst_buffer *buffer = NULL;
    (void)state;
    seen_flags = 0;
    saw_pin = 0;
    puppet.caps &= ~PST_CAP_READ_SUFFIX;
    puppet.hooks.read = note_suffix;
    pst_context *context = puppet_context(NULL);
    pst_store *store = puppet_store(context, "puppet");
    assert_int_equal(pst_get_suffix(store, object_key, 3, NULL, NULL, &buffer, NULL, NULL), PST_OK);
    assert_int_equal(pst_buffer_size(buffer), 3);
    assert_memory_equal(pst_buffer_data(buffer), "789", 3);
    assert_int_equal(seen_flags & PST_READ_SUFFIX, 0);
    assert_true(saw_pin);
    pst_buffer_unref(buffer);
    pst_store_free(store);
    pst_context_free(context);
}

/* 9. The pieces that a read into memory of the caller comes in are of one object. */
#define PIECES ((size_t)40000) /* of 16 KiB: a quarter of the least budget */

static pst_rc replace_after_first(pst_backend *b, pst_op *op, const pst_read_args *a,
                                  pst_read_result *r)
{
    (void)b;
    if (a->offset > 0)
        puppet.etag = "v2";
    return puppet_read(op, a, r);
}

static pst_rc read_in_pieces(uint32_t etag_strength, char *dst)
{
    static char whole[PIECES];
    const pst_context_options options = {.struct_size = sizeof(options),
                                         .memory_budget_bytes = 65536};
    size_t n = 0;
    memset(whole, 'b', sizeof(whole));
    puppet.body = whole;
    puppet.body_len = sizeof(whole);
    puppet.etag_strength = etag_strength;
    puppet.caps &= ~PST_CAP_CANCEL_BOUNDED;
    pst_context *context = puppet_context(&options);
    pst_store *store = puppet_store(context, "puppet");
    pst_rc rc = pst_get_into(store, object_key, 0, dst, PIECES, NULL, NULL, &n, NULL, NULL);
    if (rc == PST_OK) {
        assert_int_equal(n, PIECES);
        assert_memory_equal(dst, whole, PIECES);
    }
    pst_store_free(store);
    pst_context_free(context);
    return rc;
}

static void test_get_into__object_replaced_between_pieces_has_changed(void **state)
{
    static char dst[PIECES];
    (void)state;
    puppet.hooks.read = replace_after_first;
    assert_int_equal(read_in_pieces(PST_ETAG_STRONG, dst), PST_E_CHANGED);
}

static void test_get_into__what_cannot_be_pinned_comes_in_one_piece(void **state)
{
    static char dst[PIECES];
    (void)state;
    puppet.hooks.read = replace_after_first;
    assert_int_equal(read_in_pieces(PST_ETAG_WEAK, dst), PST_OK);
    assert_int_equal(atomic_load(&puppet.n_submits), 2); /* a piece, then the whole */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CONTRACT_TEST(test_split_read__two_versions_are_never_mixed),
        CONTRACT_TEST(test_split_read__one_version_arrives_whole),
        CONTRACT_TEST(test_weak_etag__object_is_read_by_a_single_request),
        CONTRACT_TEST(test_weak_etag__may_be_split_when_the_caller_allows_it),
        CONTRACT_TEST(test_split_read__short_range_is_data_loss),
        CONTRACT_TEST(test_caps__the_open_store_is_no_more_than_its_plugin),
        CONTRACT_TEST(test_suffix__without_the_capability_is_a_pinned_range),
        CONTRACT_TEST(test_get_into__object_replaced_between_pieces_has_changed),
        CONTRACT_TEST(test_get_into__what_cannot_be_pinned_comes_in_one_piece),
    };
    for (size_t i = 0; i < sizeof(body); i++)
        body[i] = (char)('A' + i % 26);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
