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

/* 9. A store that tells neither size nor etag, of an object that is another one with each request: its
 * bytes are the number of the request. */
static struct {
    size_t size;
    uint32_t etag_strength; /* of "same", which stays */
    int tells_length;       /* when it asks where the bytes go */
    atomic_int n_requests;
} silent;

static pst_rc fill_spans(pst_op *op, const pst_read_args *a, uint64_t n, int fill)
{
    pst_dst_grant grant = {.struct_size = sizeof(grant), .dst = a->dst, .n_dst = a->n_dst};
    uint64_t done = 0;
    while (done < n) {
        if (a->n_dst == 0) {
            const pst_dst_args ask = {.struct_size = sizeof(ask),
                                      .flags = done > 0 ? PST_DST_MORE : 0,
                                      .length = silent.tells_length ? n : PST_UNKNOWN,
                                      .capacity = silent.tells_length ? n : PST_UNKNOWN,
                                      .object_size = PST_UNKNOWN};
            pst_rc rc = op->host->dst(op->host, op, &ask, &grant);
            if (rc != PST_OK)
                return rc;
        }
        for (size_t i = 0; i < grant.n_dst && done < n; i++) {
            uint64_t span = grant.dst[i].len < n - done ? grant.dst[i].len : n - done;
            memset(grant.dst[i].ptr, fill, span);
            done += span;
        }
    }
    return PST_OK;
}

static pst_rc read_silently(pst_backend *b, pst_op *op, const pst_read_args *a, pst_read_result *r)
{
    (void)b;
    int number = atomic_fetch_add(&silent.n_requests, 1) + 1;
    uint64_t rest = a->offset < silent.size ? silent.size - a->offset : 0;
    r->object_size = PST_UNKNOWN;
    r->etag_strength = silent.etag_strength;
    if (silent.etag_strength != PST_ETAG_NONE)
        r->etag = PST_STR("same");
    r->n_read = rest < a->length ? rest : a->length;
    return fill_spans(op, a, r->n_read, number);
}

static void be_silent(size_t size)
{
    puppet_reset();
    puppet.hooks.read = read_silently;
    silent.size = size;
    silent.etag_strength = PST_ETAG_NONE;
    silent.tells_length = 1;
    atomic_store(&silent.n_requests, 0);
}

static void assert_all_of_request(int number, const void *data, size_t size, size_t want)
{
    const char *bytes = data;
    assert_int_equal(size, want);
    for (size_t i = 0; i < size; i++)
        assert_int_equal(bytes[i], number);
    assert_int_equal(atomic_load(&silent.n_requests), number);
}

static void assert_gets_one(const pst_read_options *options, size_t want)
{
    pst_buffer *buffer;
    assert_int_equal(get(options, &buffer), PST_OK);
    assert_all_of_request(2, pst_buffer_data(buffer), pst_buffer_size(buffer), want);
    pst_buffer_unref(buffer);
}

static void test_silent_store__two_versions_are_never_mixed(void **state)
{
    const pst_read_options hedged = {.struct_size = sizeof(hedged), .hedge_after_ms = 3600000};
    (void)state;
    for (int tells_length = 0; tells_length < 2; tells_length++) {
        be_silent(95);
        silent.tells_length = tells_length;
        assert_gets_one(NULL, 95);
        be_silent(10); /* as long as the first request: nobody knows that it was all */
        silent.tells_length = tells_length;
        assert_gets_one(NULL, 10);
        be_silent(95);
        silent.tells_length = tells_length;
        silent.etag_strength = PST_ETAG_WEAK;
        assert_gets_one(NULL, 95);
        be_silent(95);
        silent.tells_length = tells_length;
        puppet.caps &= ~PST_CAP_CANCEL_BOUNDED; /* the first request has memory of its own */
        assert_gets_one(&hedged, 95);
    }
}

static void test_silent_store__what_comes_short_takes_one_request(void **state)
{
    pst_buffer *buffer;
    (void)state;
    be_silent(9);
    assert_int_equal(get(NULL, &buffer), PST_OK);
    assert_all_of_request(1, pst_buffer_data(buffer), pst_buffer_size(buffer), 9);
    pst_buffer_unref(buffer);
}

static void test_silent_store__range_and_checksum_are_of_one_request(void **state)
{
    const pst_read_options summed = {.struct_size = sizeof(summed), .flags = PST_READ_CRC32C};
    static const char twos[] = {2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2};
    pst_read_info info = {.struct_size = sizeof(info)};
    pst_buffer *buffer = NULL;
    char dst[40];
    size_t n = 0;
    (void)state;
    be_silent(95);
    pst_context *context = puppet_context(&small_reads);
    pst_store *store = puppet_store(context, "puppet");
    assert_int_equal(pst_get_range(store, object_key, 5, 20, &summed, NULL, &buffer, &info, NULL),
                     PST_OK);
    assert_all_of_request(2, pst_buffer_data(buffer), pst_buffer_size(buffer), 20);
    assert_int_equal(info.crc32c, pst_crc32c(0, twos, sizeof(twos)));
    assert_int_equal(info.n_read, 20);
    pst_buffer_unref(buffer);
    for (int is_bounded = 0; is_bounded < 2; is_bounded++) {
        const pst_iov spans[] = {{dst, 7}, {dst + 7, 33}};
        pst_store_free(store);
        be_silent(95);
        if (!is_bounded)
            puppet.caps &= ~PST_CAP_CANCEL_BOUNDED;
        store = puppet_store(context, "puppet");
        assert_int_equal(
            pst_get_into_iov(store, object_key, 60, spans, 2, NULL, NULL, &n, NULL, NULL), PST_OK);
        assert_all_of_request(2, dst, n, 35);
    }
    pst_store_free(store);
    pst_context_free(context);
}

static void test_silent_store__object_beyond_the_budget_is_refused(void **state)
{
    const pst_context_options options = {
        .struct_size = sizeof(options), .first_read_bytes = 4096, .memory_budget_bytes = 65536};
    (void)state;
    for (int tells_length = 0; tells_length < 2; tells_length++) {
        pst_buffer *buffer = NULL;
        be_silent(65536);
        silent.tells_length = tells_length;
        pst_context *context = puppet_context(&options);
        pst_store *store = puppet_store(context, "puppet");
        assert_int_equal(pst_get(store, object_key, NULL, NULL, &buffer, NULL, NULL), PST_OK);
        assert_all_of_request(2, pst_buffer_data(buffer), pst_buffer_size(buffer), 65536);
        pst_buffer_unref(buffer);
        silent.size = 65537;
        assert_int_equal(pst_get(store, object_key, NULL, NULL, &buffer, NULL, NULL),
                         PST_E_OVER_BUDGET);
        assert_null(buffer);
        pst_store_free(store);
        pst_context_free(context);
    }
}

static void test_silent_store__comes_in_sequence_when_the_caller_allows_it(void **state)
{
    const pst_read_options allow = {.struct_size = sizeof(allow), .flags = PST_READ_ALLOW_UNPINNED};
    pst_buffer *buffer;
    (void)state;
    be_silent(95);
    assert_int_equal(get(&allow, &buffer), PST_OK);
    assert_int_equal(pst_buffer_size(buffer), 95);
    assert_int_equal(atomic_load(&silent.n_requests), 10);
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
        CONTRACT_TEST(test_silent_store__two_versions_are_never_mixed),
        CONTRACT_TEST(test_silent_store__what_comes_short_takes_one_request),
        CONTRACT_TEST(test_silent_store__range_and_checksum_are_of_one_request),
        CONTRACT_TEST(test_silent_store__object_beyond_the_budget_is_refused),
        CONTRACT_TEST(test_silent_store__comes_in_sequence_when_the_caller_allows_it),
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
