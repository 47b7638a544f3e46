#include "fake.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "../config.h"
#include "../s3.h"

#define OPTIONS(...) ((const char *const[]){__VA_ARGS__, NULL})
#define KEY_C "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="

static void test_config__options_arrive_where_they_belong(void **state)
{
    struct fake fake;

    (void)state;
    fake_start(&fake, OPTIONS("endpoint=https://s:1", "region=r", "addressing=path",
                              "endpoint_policy=rank", "checksum=crc64nvme",
                              "payload_signing=signed", "conditional_writes=trust",
                              "storage_class=GLACIER", "sse=aws:kms", "sse_kms_key_id=id",
                              "max_requests_per_second=5", "profile=p", "http_engine=libcurl"));
    const struct s3_config *c = fake.store->config;
    assert_string_equal(c->endpoint, "https://s:1");
    assert_string_equal(c->region, "r");
    assert_int_equal(c->addressing, S3_ADDRESSING_PATH);
    assert_int_equal(c->endpoint_policy, S3_BY_RANK);
    assert_int_equal(c->checksum, PST_SUM_CRC64NVME);
    assert_int_equal(c->payload_signing, S3_PAYLOAD_SIGNED);
    assert_int_equal(c->conditional_writes, S3_CONDITIONS_TRUST);
    assert_string_equal(c->storage_class, "GLACIER");
    assert_string_equal(c->sse_kms_key_id, "id");
    assert_string_equal(c->acl, "");
    assert_int_equal(c->max_requests_per_second, 5);
    assert_int_equal(c->connect_timeout_ms, 10000);
    assert_int_equal(c->stall_timeout_ms, 30000);
    assert_int_equal(c->max_connections, 256);
    assert_int_equal(c->is_libcurl_only, 1);
    assert_int_equal(c->from.profile, PST_SOURCE_EXPLICIT);
    assert_int_equal(c->from.role_arn, PST_SOURCE_DEFAULT);
    fake_stop(&fake);
}

static uint32_t wanted(const char *const *options)
{
    struct fake fake;
    pst_limits limits = {.struct_size = sizeof(limits)};
    pst_backend_info info = {.struct_size = sizeof(info), .limits = &limits};

    fake_start(&fake, options);
    fake.plugin->ops->info(fake.store, &info);
    assert_true(limits.parts_max == 10000 && limits.key_max == 1024);
    assert_int_equal(info.caps & ~fake.plugin->caps, 0);
    fake_stop(&fake);
    return info.want_sums;
}

static void test_config__host_sums_what_signatures_and_headers_need(void **state)
{
    const uint32_t sha256 = 1u << PST_SUM_SHA256, crc32c = 1u << PST_SUM_CRC32C;

    (void)state;
    assert_int_equal(wanted(NULL), sha256);
    assert_int_equal(wanted(OPTIONS("endpoint=https://s")), 0);
    assert_int_equal(wanted(OPTIONS("endpoint=https://s", "payload_signing=signed")), sha256);
    assert_int_equal(wanted(OPTIONS("payload_signing=unsigned", "checksum=crc32c")), crc32c);
    assert_int_equal(wanted(OPTIONS("anonymous=1")), 0);
}

static void test_config__what_cannot_be_is_refused_by_name(void **state)
{
    static const struct {
        const char *options[3], *name;
    } cases[] = {
        {{"endpoint=store"}, "option endpoint: "},
        {{"sse_c_key=" KEY_C, "endpoint=http://s"}, "option sse_c_key: "},
        {{"sse_c_key=c2hvcnQ=", "endpoint=https://s"}, "option sse_c_key: "},
        {{"sse_kms_key_id=x"}, "option sse_kms_key_id: "},
        {{"region=0123456789012345678901234567890123456789012345678901234567890123"},
         "option region: "},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct fake fake;
        assert_int_equal(fake_open(&fake, cases[i].options), PST_E_INVALID);
        assert_ptr_equal(strstr(fake.open_err.message, cases[i].name), fake.open_err.message);
        assert_null(strstr(fake.open_err.message, "AAEC"));
        fake_stop(&fake);
    }
}

static void test_config__key_of_the_user_goes_out_with_its_md5(void **state)
{
    struct fake fake;
    struct fake_op op;

    (void)state;
    fake_start(&fake, OPTIONS("endpoint=https://s", "sse_c_key=" KEY_C));
    fake_op_init(&fake, &op);
    struct s3_request *request = &s3_call_of(&op.op)->request;
    s3_request_init(request, fake.store, &op.op, "GET", PST_STR("k"));
    s3_sse_c_headers(request, 0);
    assert_int_equal(request->n_headers, 3);
    assert_memory_equal(request->headers[1].value.ptr, KEY_C, strlen(KEY_C));
    assert_memory_equal(request->headers[2].value.ptr, "tP/LI3N87DFaSk0aoqYgzg==", 24);
    s3_sse_c_headers(request, 1);
    assert_int_equal(request->n_headers, 6);
    fake_op_fini(&op);
    fake_stop(&fake);
}

static void test_config__open_fails_cleanly_for_lack_of_memory(void **state)
{
    /* fake_open resets what it counts down: the plugin is opened by hand here. */
    struct fake fake;

    (void)state;
    fake_start(&fake, NULL);
    for (int64_t after = 0;; after++) {
        pst_backend *store = NULL;
        pst_error err = PST_ERROR_INIT;
        const pst_kv option = {PST_STR("endpoint"), PST_STR("http://s")};
        const pst_open_args args = {.struct_size = sizeof(args),
                                    .authority = PST_STR("bucket"),
                                    .options = &option,
                                    .n_options = 1};
        const int64_t n_before = fake.n_blocks;
        fake.fail_after = after;
        const pst_rc rc = fake.plugin->store_open(&fake.host, &args, &store, &err);
        fake.fail_after = -1;
        if (rc == PST_OK) {
            fake.plugin->ops->close(store);
            assert_true(after >= 3);
            break;
        }
        assert_int_equal(rc, PST_E_NO_MEMORY);
        assert_int_equal(fake.n_blocks, n_before);
    }
    fake_stop(&fake);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_config__options_arrive_where_they_belong),
        cmocka_unit_test(test_config__host_sums_what_signatures_and_headers_need),
        cmocka_unit_test(test_config__what_cannot_be_is_refused_by_name),
        cmocka_unit_test(test_config__key_of_the_user_goes_out_with_its_md5),
        cmocka_unit_test(test_config__open_fails_cleanly_for_lack_of_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
