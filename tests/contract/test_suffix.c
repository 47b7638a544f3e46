/* Contract 9 and 20: the end of an object, on a store that cannot read it by itself: its size, then a range,
 * of one version and of nothing but the end. */
#include "contract.h"

static const pst_str version_1 = {"version-1", 9};
static const char old_body[] = "abcdefg"; /* of version-1 */

static struct {
    const char *body; /* what stands there once stat has answered; NULL: the same */
    const char *etag;
    int hides_size; /* reads tell no size */
    uint32_t kind;
    int n_stats, n_reads;
    uint64_t stat_deadline_ns, read_deadline_ns;
} late;

static int is_version_1(pst_str version)
{
    return version.len == version_1.len && memcmp(version.ptr, version_1.ptr, version.len) == 0;
}

static pst_rc stat_then_replace(pst_backend *b, pst_op *op, const pst_stat_args *a, pst_attr *r)
{
    (void)b;
    late.n_stats++;
    late.stat_deadline_ns = op->deadline_ns;
    r->kind = late.kind;
    r->size = is_version_1(a->version) ? sizeof(old_body) - 1 : puppet.body_len;
    r->etag = pst_str_of(puppet.etag, strlen(puppet.etag));
    if (is_version_1(a->version))
        r->etag = PST_STR("old");
    r->etag_strength = puppet.etag_strength;
    if (late.body) {
        puppet.body = late.body;
        puppet.body_len = strlen(late.body);
    }
    if (late.etag)
        puppet.etag = late.etag;
    return PST_OK;
}

static pst_rc read_version(pst_backend *b, pst_op *op, const pst_read_args *a, pst_read_result *r)
{
    (void)b;
    late.n_reads++;
    late.read_deadline_ns = op->deadline_ns;
    assert_int_equal(a->flags & PST_READ_SUFFIX, 0);
    if (is_version_1(a->version)) {
        puppet.body = old_body;
        puppet.body_len = sizeof(old_body) - 1;
        puppet.etag = "old";
    }
    pst_rc rc = puppet_read(op, a, r);
    if (late.hides_size)
        r->object_size = PST_UNKNOWN;
    return rc;
}

/* The last `length` bytes of what was "0123456789" with etag "v0" when stat was asked. */
static pst_rc suffix(uint64_t length, const pst_read_options *options, const pst_call *call,
                     const char *want)
{
    pst_buffer *buffer = NULL;
    pst_read_info info = {.struct_size = sizeof(info)};
    puppet.caps &= ~PST_CAP_READ_SUFFIX;
    puppet.hooks.stat = stat_then_replace;
    puppet.hooks.read = read_version;
    late.n_stats = late.n_reads = 0;
    pst_context *context = puppet_context(NULL);
    pst_store *store = puppet_store(context, "puppet");
    pst_rc rc = pst_get_suffix(store, object_key, length, options, call, &buffer, &info, NULL);
    if (rc == PST_OK) {
        assert_int_equal(pst_buffer_size(buffer), strlen(want));
        assert_memory_equal(pst_buffer_data(buffer), want, strlen(want));
        assert_int_equal(info.n_read, strlen(want));
    } else {
        assert_null(buffer);
    }
    pst_buffer_unref(buffer);
    pst_store_free(store);
    pst_context_free(context);
    return rc;
}

static int start(void **state)
{
    (void)state;
    puppet_reset();
    memset(&late, 0, sizeof(late));
    puppet.etag = "v0";
    return 0;
}

#define SUFFIX_TEST(f) cmocka_unit_test_setup(f, start)

static void test_suffix__is_the_end_of_an_object_that_stays(void **state)
{
    (void)state;
    for (uint32_t strength = PST_ETAG_NONE; strength <= PST_ETAG_STRONG; strength++) {
        for (int hides_size = 0; hides_size < 2; hides_size++) {
            start(NULL);
            puppet.etag_strength = strength;
            late.hides_size = hides_size;
            assert_int_equal(suffix(3, NULL, NULL, "789"), PST_OK);
            assert_int_equal(suffix(10, NULL, NULL, "0123456789"), PST_OK);
            assert_int_equal(suffix(99, NULL, NULL, "0123456789"), PST_OK);
            assert_int_equal(late.n_reads, 1);
            assert_int_equal(suffix(0, NULL, NULL, ""), PST_OK);
            assert_int_equal(late.n_reads, 0);
        }
    }
}

static void test_suffix__of_another_size_than_stat_told_has_changed(void **state)
{
    static const char *const others[] = {"0123456789ab", "0123456789a", "01234567", "", "0"};
    (void)state;
    for (uint32_t strength = PST_ETAG_NONE; strength <= PST_ETAG_WEAK; strength++) {
        for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
            for (int hides_size = 0; hides_size < 2; hides_size++) {
                start(NULL);
                puppet.etag_strength = strength;
                late.hides_size = hides_size;
                late.body = others[i];
                assert_int_equal(suffix(3, NULL, NULL, ""), PST_E_CHANGED);
                assert_int_equal(late.n_reads, 1);
            }
        }
    }
}

static void test_suffix__of_equal_size_is_of_the_new_object(void **state)
{
    (void)state;
    puppet.etag_strength = PST_ETAG_NONE;
    late.body = "ABCDEFGHIJ";
    assert_int_equal(suffix(3, NULL, NULL, "HIJ"), PST_OK);
}

static void test_suffix__replaced_under_its_pin_has_changed(void **state)
{
    (void)state;
    late.body = "ABCDEFGHIJ";
    late.etag = "v1";
    assert_int_equal(suffix(3, NULL, NULL, ""), PST_E_CHANGED);
}

static void test_suffix__if_match_names_what_stat_must_see(void **state)
{
    const pst_read_options v0 = {.struct_size = sizeof(v0), .if_match = {"v0", 2}};
    const pst_read_options v1 = {.struct_size = sizeof(v1), .if_match = {"v1", 2}};
    (void)state;
    assert_int_equal(suffix(3, &v0, NULL, "789"), PST_OK);
    late.body = "a longer object";
    late.etag = "v1"; /* what the caller names, but not where stat found the end */
    assert_int_equal(suffix(3, &v1, NULL, ""), PST_E_PRECONDITION);
    assert_int_equal(late.n_reads, 0);
    start(NULL);
    late.body = "a longer object";
    late.etag = "v1";
    assert_int_equal(suffix(3, &v0, NULL, ""), PST_E_PRECONDITION);
    assert_int_equal(late.n_reads, 1);
    start(NULL);
    puppet.etag_strength = PST_ETAG_WEAK;
    late.body = "a longer object";
    assert_int_equal(suffix(3, &v0, NULL, ""), PST_E_CHANGED);
}

static void test_suffix__of_an_old_version_is_of_that_versions_size(void **state)
{
    const pst_read_options old = {.struct_size = sizeof(old), .version = version_1};
    (void)state;
    for (uint32_t strength = PST_ETAG_NONE; strength <= PST_ETAG_STRONG; strength++) {
        start(NULL);
        puppet.etag_strength = strength;
        assert_int_equal(suffix(3, &old, NULL, "efg"), PST_OK);
    }
}

static void test_suffix__both_requests_share_the_time(void **state)
{
    const pst_call call = {.struct_size = sizeof(call), .timeout_ms = 3600000};
    (void)state;
    assert_int_equal(suffix(3, NULL, &call, "789"), PST_OK);
    assert_true(late.stat_deadline_ns > 0);
    assert_true(late.read_deadline_ns > 0);
    assert_true(late.read_deadline_ns <= late.stat_deadline_ns);
}

static void test_suffix__exact_one_of_a_shorter_object_is_refused(void **state)
{
    const pst_read_options exact = {.struct_size = sizeof(exact), .flags = PST_READ_EXACT};
    (void)state;
    assert_int_equal(suffix(10, &exact, NULL, "0123456789"), PST_OK);
    assert_int_equal(suffix(11, &exact, NULL, ""), PST_E_RANGE);
    puppet.etag_strength = PST_ETAG_NONE;
    assert_int_equal(suffix(10, &exact, NULL, "0123456789"), PST_OK);
}

static void test_suffix__what_is_no_object_is_not_found(void **state)
{
    (void)state;
    late.kind = PST_KIND_PREFIX;
    assert_int_equal(suffix(3, NULL, NULL, ""), PST_E_NOT_FOUND);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SUFFIX_TEST(test_suffix__is_the_end_of_an_object_that_stays),
        SUFFIX_TEST(test_suffix__of_another_size_than_stat_told_has_changed),
        SUFFIX_TEST(test_suffix__of_equal_size_is_of_the_new_object),
        SUFFIX_TEST(test_suffix__replaced_under_its_pin_has_changed),
        SUFFIX_TEST(test_suffix__if_match_names_what_stat_must_see),
        SUFFIX_TEST(test_suffix__of_an_old_version_is_of_that_versions_size),
        SUFFIX_TEST(test_suffix__both_requests_share_the_time),
        SUFFIX_TEST(test_suffix__exact_one_of_a_shorter_object_is_refused),
        SUFFIX_TEST(test_suffix__what_is_no_object_is_not_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
